/*
 * The rules that need no state.
 */
#include "guard/screen.h"

#include "base/alloc.h"

#define REPEATS_MAX	1000000u

/* Behind the string that begins at p. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p != end && *p != '"'; p++)
		if (*p == '\\' && p + 1 != end)
			p++;
	return p != end ? p + 1 : p;
}

static struct slice
without_front(struct slice s)
{
	/* Some readers of JSON pass over a byte order mark (RFC 8259, 8.1). */
	if (s.n >= 3 && memcmp(s.p, "\xef\xbb\xbf", 3) == 0) {
		s.p += 3;
		s.n -= 3;
	}
	while (s.n != 0 && memchr(" \t\r\n", s.p[0], 4) != NULL)
		s.p++, s.n--;
	return s;
}

bool
screen_is_deeper(struct slice text, size_t max)
{
	const char *p, *end;
	size_t depth = 0;

	text = without_front(text);
	if (text.n == 0 || (text.p[0] != '{' && text.p[0] != '['))
		return false;
	end = text.p + text.n;
	for (p = text.p; p != end;) {
		if (*p == '"') {
			p = skip_string(p, end);
			continue;
		}
		if ((*p == '{' || *p == '[') && ++depth > max)
			return true;
		if ((*p == '}' || *p == ']') && depth != 0)
			depth--;
		p++;
	}
	return false;
}

int
screen_parse_repeats(const char *text, unsigned *ret_n, uint64_t *ret_span_us,
    struct buffer *why)
{
	const char *slash = strchr(text, '/');
	uint64_t n;

	if (slash == NULL || slice_to_u64((struct slice){ text,
	    (size_t)(slash - text) }, &n) < 0) {
		buffer_add_str(why, "it is written as 5/10min: so many with "
		    "the same body within that time");
		return -EINVAL;
	}
	if (n == 0 || n > REPEATS_MAX) {
		buffer_printf(why, "the number must be between 1 and %u",
		    REPEATS_MAX);
		return -EINVAL;
	}
	if (config_parse_span(slash + 1, ret_span_us, why) < 0)
		return -EINVAL;
	if (*ret_span_us == 0 || *ret_span_us == USEC_INFINITY) {
		buffer_add_str(why, "the time must be over 0 and not infinity");
		return -EINVAL;
	}
	*ret_n = (unsigned)n;
	return 0;
}
