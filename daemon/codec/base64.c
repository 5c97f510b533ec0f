#include "codec/base64.h"

static const char standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char urlsafe[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void
encode(struct buffer *b, struct slice s, const char *letters, bool pad)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t n = s.n;

	while (n != 0) {
		size_t take = MIN(n, (size_t)3), used = take + 1;
		uint32_t v = (uint32_t)p[0] << 16;
		char out[4];

		if (take > 1)
			v |= (uint32_t)p[1] << 8;
		if (take > 2)
			v |= p[2];
		for (size_t i = 0; i < 4; i++)
			out[i] = i < used ? letters[v >> (18 - 6 * i) & 63] :
			    '=';
		buffer_add(b, out, pad ? 4 : used);
		p += take;
		n -= take;
	}
}

void
base64_add(struct buffer *b, struct slice s)
{
	encode(b, s, standard, true);
}

void
base64url_add(struct buffer *b, struct slice s)
{
	encode(b, s, urlsafe, false);
}

static int
letter_value(char c, const char *letters)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == letters[62])
		return 62;
	return c == letters[63] ? 63 : -1;
}

/* s without its padding. */
static int
decode(struct slice s, const char *letters, struct buffer *out)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;
	char *to = NULL;

	if (s.n % 4 == 1)
		return -EINVAL;
	if (out != NULL)
		to = buffer_reserve(out, s.n / 4 * 3 + 3);
	for (size_t i = 0; i < s.n; i++) {
		int v = letter_value(s.p[i], letters);

		if (v < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		if (to != NULL)
			to[n++] = (char)(bits >> have & 0xff);
		bits &= (1u << have) - 1;
	}
	if (bits != 0)
		return -EINVAL;
	if (out != NULL)
		buffer_commit(out, n);
	return 0;
}

int
base64_decode(struct slice s, struct buffer *out)
{
	if (s.n % 4 != 0)
		return -EINVAL;
	for (int i = 0; i < 2 && s.n != 0 && s.p[s.n - 1] == '='; i++)
		s.n--;
	return decode(s, standard, out);
}

int
base64url_decode(struct slice s, struct buffer *out)
{
	return decode(s, urlsafe, out);
}
