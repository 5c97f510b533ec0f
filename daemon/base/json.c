#include "base/json.h"

#include <endian.h>
#include <math.h>

size_t
json_utf8_len(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (n < len)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

size_t
json_utf8_cut(struct slice s, size_t max)
{
	size_t n = MIN(s.n, max);

	if (n == s.n)
		return n;
	/* Of what is no UTF-8 at most a sequence's worth goes. */
	while (((unsigned char)s.p[n] & 0xc0) == 0x80) {
		if (n == 0 || max - n == 3)
			return max;
		n--;
	}
	return n;
}

/* Past the plain bytes at p. */
static const unsigned char *
plain(const unsigned char *p, const unsigned char *end)
{
	for (; end - p >= 8; p += 8) {
		uint64_t x, odd;

		memcpy(&x, p, 8);
		odd = json_odd_bytes(le64toh(x));
		if (odd != 0)
			return p + __builtin_ctzll(odd) / 8;
	}
	while (p != end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return p;
}

void
json_add_string(struct buffer *b, struct slice s)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	const unsigned char *run = p;

	buffer_add_char(b, '"');
	while ((p = plain(p, end)) != end) {
		size_t len;

		if (*p >= 0x80 && (len = json_utf8_len(p,
		    (size_t)(end - p))) != 0) {
			p += len;
			continue;
		}
		buffer_add(b, run, (size_t)(p - run));
		if (*p >= 0x80) {
			buffer_add_str(b, "\xef\xbf\xbd");
		} else if (*p == '"' || *p == '\\') {
			buffer_add_char(b, '\\');
			buffer_add_char(b, (char)*p);
		} else if (*p == '\n') {
			buffer_add_str(b, "\\n");
		} else {
			char u[6] = { '\\', 'u', '0', '0', hex[*p >> 4],
				hex[*p & 15] };

			buffer_add(b, u, sizeof(u));
		}
		run = ++p;
	}
	buffer_add(b, run, (size_t)(p - run));
	buffer_add_char(b, '"');
}

json_t *
json_text(const char *s)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *j = json_string(s);

	if (j != NULL)
		return j;
	json_add_string(&b, slice_of(s));
	j = json_loadb(buffer_head(&b), buffer_len(&b), JSON_DECODE_ANY, NULL);
	return j != NULL ? j : json_string("?");
}

json_t *
json_count(uint64_t n)
{
	return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

json_t *
json_number(double x, int decimals)
{
	double scale = pow(10, decimals), y = round(x * scale) / scale;

	if (!isfinite(y))
		return json_null();
	if (y == trunc(y) && fabs(y) < 1e15)
		return json_integer((json_int_t)y);
	return json_real(y);
}
