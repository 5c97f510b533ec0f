#include "codec/url.h"

static bool
is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	    c == '~';
}

void
url_add_component(struct buffer *b, struct slice s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (is_unreserved(s.p[i])) {
			buffer_add_char(b, s.p[i]);
			continue;
		}
		buffer_add_char(b, '%');
		buffer_add_char(b, hex[c >> 4]);
		buffer_add_char(b, hex[c & 15]);
	}
}

int
url_decode(struct buffer *out, struct slice s, bool plus)
{
	char *to = buffer_reserve(out, s.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '%') {
			int hi, lo;

			if (s.n - i < 3 || (hi = hex_digit(s.p[i + 1])) < 0 ||
			    (lo = hex_digit(s.p[i + 2])) < 0)
				return -EINVAL;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		to[n++] = c;
	}
	buffer_commit(out, n);
	return 0;
}

/* What stands before the first c; *rest becomes what stands behind it, or
   {NULL, 0}. */
static struct slice
cut(struct slice s, char c, struct slice *rest)
{
	const char *at = s.n != 0 ? memchr(s.p, c, s.n) : NULL;

	if (at == NULL) {
		*rest = (struct slice){ NULL, 0 };
		return s;
	}
	*rest = (struct slice){ at + 1, s.n - (size_t)(at - s.p) - 1 };
	return (struct slice){ s.p, (size_t)(at - s.p) };
}

void
url_split(struct slice target, struct slice *ret_path, struct slice *ret_query)
{
	struct slice fragment;

	*ret_path = cut(cut(target, '#', &fragment), '?', ret_query);
}

bool
url_query_next(struct slice *query, struct slice *ret_name,
    struct slice *ret_value)
{
	while (query->n != 0) {
		struct slice pair = cut(*query, '&', query);

		if (pair.n == 0)
			continue;
		*ret_name = cut(pair, '=', ret_value);
		return true;
	}
	return false;
}
