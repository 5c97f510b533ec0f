#include "codec/go_duration.h"

#include <errno.h>

#define MOST_NS	((uint64_t)INT64_MAX)

static const struct {
	const char *name;
	uint64_t ns;
} units[] = {
	{ "ns", 1 }, { "us", 1000 }, { "\xc2\xb5s", 1000 },
	{ "\xce\xbcs", 1000 }, { "ms", 1000000 }, { "s", 1000000000 },
	{ "m", 60000000000 }, { "h", 3600000000000 },
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static uint64_t
sat_mul(uint64_t a, uint64_t b)
{
	return a != 0 && b > MOST_NS / a ? MOST_NS : a * b;
}

/* The unit at p; 0: none. */
static uint64_t
take_unit(const char **p, const char *end)
{
	const char *from = *p;

	while (*p != end && !is_digit(**p) && **p != '.')
		(*p)++;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (slice_is((struct slice){ from, (size_t)(*p - from) },
		    units[i].name))
			return units[i].ns;
	return 0;
}

/* One number and its unit. */
static bool
take_part(const char **p, const char *end, uint64_t *ret_ns)
{
	uint64_t whole = 0, part = 0, scale = 1, unit;
	bool any = false;

	for (; *p != end && is_digit(**p); (*p)++, any = true)
		whole = MIN(sat_mul(whole, 10) + (uint64_t)(**p - '0'),
		    MOST_NS);
	if (*p != end && **p == '.')
		for ((*p)++; *p != end && is_digit(**p); (*p)++, any = true)
			/* More digits than a part of an hour can show. */
			if (scale < 1000000) {
				scale *= 10;
				part = part * 10 + (uint64_t)(**p - '0');
			}
	if (!any)
		return false;
	unit = take_unit(p, end);
	*ret_ns = MIN(sat_mul(whole, unit) + part * unit / scale, MOST_NS);
	return unit != 0;
}

int
go_duration_parse(struct slice s, uint64_t *ret_us)
{
	const char *p = s.p, *end = s.n != 0 ? s.p + s.n : s.p;
	uint64_t sum = 0, ns;
	bool negative;

	negative = p != end && *p == '-';
	if (p != end && (*p == '-' || *p == '+'))
		p++;
	if (p == end)
		return -EPROTO;
	if (slice_is((struct slice){ p, (size_t)(end - p) }, "0")) {
		*ret_us = 0;
		return 0;
	}
	while (p != end) {
		if (!take_part(&p, end, &ns))
			return -EPROTO;
		sum = MIN(sum + ns, MOST_NS);
	}
	*ret_us = negative ? 0 : sum / 1000;
	return 0;
}
