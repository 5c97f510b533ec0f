#include <time.h>

#include "codec/aws_answer.h"

struct reader {
	struct slice s;
	bool bad;
};

static unsigned
digits(struct reader *r, size_t n)
{
	uint64_t value = 0;

	if (r->s.n < n || slice_to_u64((struct slice){ r->s.p, n }, &value) < 0) {
		r->bad = true;
		return 0;
	}
	r->s = (struct slice){ r->s.p + n, r->s.n - n };
	return (unsigned)value;
}

static bool
skip(struct reader *r, const char *any)
{
	if (r->s.n == 0 || r->s.p[0] == '\0' || strchr(any, r->s.p[0]) == NULL)
		return false;
	r->s = (struct slice){ r->s.p + 1, r->s.n - 1 };
	return true;
}

static void
expect(struct reader *r, const char *any)
{
	if (!skip(r, any))
		r->bad = true;
}

/* Seconds east of Greenwich. */
static int
zone(struct reader *r)
{
	unsigned hours, minutes = 0;
	bool west;

	if (r->s.n == 0 || skip(r, "Zz"))
		return 0;
	west = r->s.p[0] == '-';
	expect(r, "+-");
	hours = digits(r, 2);
	(void)skip(r, ":");
	if (r->s.n != 0)
		minutes = digits(r, 2);
	if (hours > 23 || minutes > 59)
		r->bad = true;
	return (int)(hours * 3600 + minutes * 60) * (west ? -1 : 1);
}

static bool
is_leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static bool
is_date(const struct tm *tm, unsigned year)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };

	return year >= 1970 && tm->tm_mon >= 0 && tm->tm_mon < 12 &&
	    tm->tm_mday >= 1 && tm->tm_mday <= days[tm->tm_mon] +
	    (tm->tm_mon == 1 && is_leap(year)) && tm->tm_hour < 24 &&
	    tm->tm_min < 60 && tm->tm_sec <= 60;
}

int
aws_time_parse(struct slice s, uint64_t *ret_us)
{
	struct reader r = { .s = s };
	struct tm tm = { 0 };
	unsigned year;
	uint64_t n;
	int64_t t;

	if (slice_to_u64(s, &n) == 0) {
		if (n > UINT32_MAX)
			return -EINVAL;
		*ret_us = n * USEC_PER_SEC;
		return 0;
	}
	year = digits(&r, 4);
	expect(&r, "-");
	tm.tm_year = (int)year - 1900;
	tm.tm_mon = (int)digits(&r, 2) - 1;
	expect(&r, "-");
	tm.tm_mday = (int)digits(&r, 2);
	expect(&r, "Tt ");
	tm.tm_hour = (int)digits(&r, 2);
	expect(&r, ":");
	tm.tm_min = (int)digits(&r, 2);
	expect(&r, ":");
	tm.tm_sec = (int)digits(&r, 2);
	if (skip(&r, ".,"))
		do
			(void)digits(&r, 1);
		while (!r.bad && r.s.n != 0 && r.s.p[0] >= '0' &&
		    r.s.p[0] <= '9');
	t = -zone(&r);
	if (r.bad || r.s.n != 0 || !is_date(&tm, year))
		return -EINVAL;
	t += timegm(&tm);
	if (t < 0)
		return -EINVAL;
	*ret_us = (uint64_t)t * USEC_PER_SEC;
	return 0;
}
