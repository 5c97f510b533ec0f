#include "codec/http_date.h"

#include <stdio.h>
#include <time.h>

/* strftime's and strptime's names follow the locale; these must not. */
static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri",
	"Sat" };
static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
	"Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

const char *
http_date(char out[HTTP_DATE_BYTES], uint64_t realtime_us)
{
	time_t t = (time_t)(realtime_us / USEC_PER_SEC);
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL)
		tm = (struct tm){ .tm_mday = 1, .tm_year = 70, .tm_wday = 4 };
	snprintf(out, HTTP_DATE_BYTES, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
	    days[(unsigned)tm.tm_wday % 7], (unsigned)tm.tm_mday % 32,
	    months[(unsigned)tm.tm_mon % 12],
	    (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 24,
	    (unsigned)tm.tm_min % 60, (unsigned)tm.tm_sec % 61);
	return out;
}

/* n digits at p, within the bounds. */
static bool
number(const char *p, size_t n, int min, int max, int *ret)
{
	int v = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (p[i] - '0');
	}
	*ret = v;
	return v >= min && v <= max;
}

static bool
month(const char *p, int *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(months); i++) {
		if (memcmp(p, months[i], 3) == 0) {
			*ret = (int)i;
			return true;
		}
	}
	return false;
}

static bool
is_day(const char *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(days); i++)
		if (memcmp(p, days[i], 3) == 0)
			return true;
	return false;
}

int
http_date_parse(struct slice s, uint64_t *ret_realtime_us)
{
	/* Where something must stand literally. */
	static const char shape[] = "___, __ ___ ____ __:__:__ GMT";
	struct tm tm = { 0 };
	time_t t;

	if (s.n != sizeof(shape) - 1)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++)
		if (shape[i] != '_' && s.p[i] != shape[i])
			return -EINVAL;
	if (!is_day(s.p) || !number(s.p + 5, 2, 1, 31, &tm.tm_mday) ||
	    !month(s.p + 8, &tm.tm_mon) ||
	    !number(s.p + 12, 4, 1970, 9999, &tm.tm_year) ||
	    !number(s.p + 17, 2, 0, 23, &tm.tm_hour) ||
	    !number(s.p + 20, 2, 0, 59, &tm.tm_min) ||
	    !number(s.p + 23, 2, 0, 60, &tm.tm_sec))
		return -EINVAL;
	tm.tm_year -= 1900;
	t = timegm(&tm);	/* "30 Feb" becomes a day of March */
	if (t < 0)
		return -EINVAL;
	*ret_realtime_us = (uint64_t)t * USEC_PER_SEC;
	return 0;
}
