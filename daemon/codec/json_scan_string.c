#include "codec/json_scan_string.h"

#include <endian.h>

#include "base/json.h"

/* Moves plain bytes down to *to, if it is elsewhere, until an odd one. */
static inline char *
plain(char *p, const char *end, char **to, bool move)
{
	while (end - p >= 8) {
		uint64_t x, odd;
		size_t n;

		memcpy(&x, p, 8);
		odd = json_odd_bytes(le64toh(x));
		if (odd == 0) {
			/* to < p: what it writes over was read. */
			if (move)
				memcpy(*to, &x, 8);
			*to += 8;
			p += 8;
			continue;
		}
		n = (size_t)__builtin_ctzll(odd) / 8;
		if (move)
			memmove(*to, p, n);
		*to += n;
		return p + n;
	}
	for (; p != end && (unsigned char)*p >= 0x20 &&
	    (unsigned char)*p < 0x80 && *p != '"' && *p != '\\'; p++) {
		if (move)
			**to = *p;
		++*to;
	}
	return p;
}

static int
hex4(const char *p, const char *end)
{
	int n = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			n = n << 4 | (c - 'A' + 10);
		else
			return -1;
	}
	return n;
}

static size_t
put_utf8(char *to, unsigned c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | c >> 18);
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Of "\u" at p; what it stands for is at out. The bytes of it, or 0. */
static size_t
unescape_unicode(const char *p, const char *end, char out[4], size_t *ret_n)
{
	int high = hex4(p + 2, end), low;

	if (high < 0 || (high >= 0xdc00 && high <= 0xdfff))
		return 0;
	if (high < 0xd800 || high > 0xdbff) {
		*ret_n = put_utf8(out, (unsigned)high);
		return 6;
	}
	if (end - p < 12 || p[6] != '\\' || p[7] != 'u')
		return 0;
	low = hex4(p + 8, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*ret_n = put_utf8(out, 0x10000u + ((unsigned)(high - 0xd800) << 10) +
	    (unsigned)(low - 0xdc00));
	return 12;
}

/* Of the backslash at p. */
static size_t
unescape(const char *p, const char *end, char out[4], size_t *ret_n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (end - p < 2 || p[1] == '\0')
		return 0;
	if (p[1] == 'u')
		return unescape_unicode(p, end, out, ret_n);
	found = strchr(from, p[1]);
	if (found == NULL)
		return 0;
	out[0] = to[found - from];
	*ret_n = 1;
	return 2;
}

const char *
json_scan_unquote(char *p, char *end, bool keep, struct slice *ret,
    char **ret_at)
{
	char *start = p, *to = p;

	for (;;) {
		char out[4];
		size_t n, len;

		*ret_at = p = plain(p, end, &to, keep && to != p);
		if (p == end)
			return "a string without an end";
		if (*p == '"')
			break;
		if (*p == '\\') {
			n = unescape(p, end, out, &len);
			if (n == 0)
				return "an escape that is none";
			if (keep)
				memcpy(to, out, len);
		} else if ((unsigned char)*p < 0x20) {
			return "a control character in a string";
		} else {
			n = len = json_utf8_len((const unsigned char *)p,
			    (size_t)(end - p));
			if (n == 0)
				return "a string that is no UTF-8";
			if (keep && to != p)
				memmove(to, p, n);
		}
		p += n;
		to += len;
	}
	*ret_at = p + 1;
	if (keep) {
		*to = '\0';	/* the quote's place, or before it */
		*ret = (struct slice){ start, (size_t)(to - start) };
	}
	return NULL;
}
