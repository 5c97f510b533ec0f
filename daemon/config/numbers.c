#include <ctype.h>
#include <inttypes.h>

#include "config/internal.h"

struct unit {
	const char *name;
	uint64_t factor;
};

#define MINUTE	(60 * USEC_PER_SEC)
#define HOUR	(60 * MINUTE)
#define DAY	(24 * HOUR)

/*
 * As in systemd.time(7), but for months and years: "M" beside "m" would be a
 * trap, and nothing here waits that long.
 */
static const struct unit spans[] = {
	{ "us", 1 }, { "usec", 1 }, { "\xc2\xb5s", 1 }, { "\xce\xbcs", 1 },
	{ "ms", USEC_PER_MSEC }, { "msec", USEC_PER_MSEC },
	{ "s", USEC_PER_SEC }, { "sec", USEC_PER_SEC },
	{ "second", USEC_PER_SEC }, { "seconds", USEC_PER_SEC },
	{ "m", MINUTE }, { "min", MINUTE }, { "minute", MINUTE },
	{ "minutes", MINUTE },
	{ "h", HOUR }, { "hr", HOUR }, { "hour", HOUR }, { "hours", HOUR },
	{ "d", DAY }, { "day", DAY }, { "days", DAY },
	{ "w", 7 * DAY }, { "week", 7 * DAY }, { "weeks", 7 * DAY },
};

static const struct unit sizes[] = {
	{ "B", 1 },
	{ "K", (uint64_t)1 << 10 }, { "KB", (uint64_t)1 << 10 },
	{ "KiB", (uint64_t)1 << 10 },
	{ "M", (uint64_t)1 << 20 }, { "MB", (uint64_t)1 << 20 },
	{ "MiB", (uint64_t)1 << 20 },
	{ "G", (uint64_t)1 << 30 }, { "GB", (uint64_t)1 << 30 },
	{ "GiB", (uint64_t)1 << 30 },
	{ "T", (uint64_t)1 << 40 }, { "TB", (uint64_t)1 << 40 },
	{ "TiB", (uint64_t)1 << 40 },
};

/* 12, 1.5; a fraction counts to six digits. */
struct number {
	uint64_t whole, fraction;	/* fraction of a million */
};

static int
number_parse(const char **at, struct number *ret, struct buffer *why)
{
	const char *p = *at;
	uint64_t scale = 100000;

	*ret = (struct number){ 0, 0 };
	if (*p < '0' || *p > '9') {
		buffer_printf(why, "expected a number at \"%.40s\"", p);
		return -EINVAL;
	}
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(ret->whole, (uint64_t)10,
		    &ret->whole) ||
		    __builtin_add_overflow(ret->whole, (uint64_t)(*p - '0'),
		    &ret->whole)) {
			buffer_add_str(why, "the number is too large");
			return -EINVAL;
		}
	}
	if (*p == '.') {
		if (*++p < '0' || *p > '9') {
			buffer_add_str(why, "no digit after the point");
			return -EINVAL;
		}
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
			ret->fraction += (uint64_t)(*p - '0') * scale;
	}
	*at = p;
	return 0;
}

/* Adds number x factor to *sum. */
static int
number_add(const struct number *n, uint64_t factor, uint64_t *sum,
    struct buffer *why)
{
	uint64_t product;

	/* The largest factor is below 2^41, a million below 2^20. */
	if (__builtin_mul_overflow(n->whole, factor, &product) ||
	    __builtin_add_overflow(product, n->fraction * factor / 1000000,
	    &product) ||
	    __builtin_add_overflow(*sum, product, sum)) {
		buffer_add_str(why, "the number is too large");
		return -EINVAL;
	}
	return 0;
}

static const char *
skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* The letters at p; what is not ASCII counts as letters too. */
static size_t
unit_length(const char *p)
{
	size_t n = 0;

	while (isalpha((unsigned char)p[n]) || (unsigned char)p[n] >= 0x80)
		n++;
	return n;
}

static const struct unit *
unit_find(const struct unit *units, size_t n, const char *name, size_t len,
    const char *known, struct buffer *why)
{
	const char *names[ARRAY_SIZE(spans)];
	char written[32];

	for (size_t i = 0; i < n; i++) {
		if (strlen(units[i].name) == len &&
		    memcmp(units[i].name, name, len) == 0)
			return &units[i];
		names[i] = units[i].name;
	}
	if (len >= sizeof(written)) {
		buffer_printf(why, "unknown unit; known: %s", known);
		return NULL;
	}
	memcpy(written, name, len);
	written[len] = '\0';
	buffer_printf(why, "unknown unit \"%s\"", written);
	suggestion_add(why, written, names, n);
	buffer_printf(why, "; known: %s", known);
	return NULL;
}

#define SPAN_UNITS	"us ms s min h d w"

int
span_parse(const char *text, uint64_t *ret_us, struct buffer *why)
{
	const char *p = skip_blanks(text);
	uint64_t sum = 0;
	bool first = true;

	if (strcmp(p, "infinity") == 0) {
		*ret_us = USEC_INFINITY;
		return 0;
	}
	do {
		const struct unit *unit;
		struct number n;
		uint64_t factor = USEC_PER_SEC;
		size_t len;

		if (number_parse(&p, &n, why) < 0)
			return -EINVAL;
		p = skip_blanks(p);
		len = unit_length(p);
		if (len != 0) {
			unit = unit_find(spans, ARRAY_SIZE(spans), p, len,
			    SPAN_UNITS, why);
			if (unit == NULL)
				return -EINVAL;
			factor = unit->factor;
		} else if (!first || *p != '\0') {
			/* "1min 30" would leave one guessing. */
			buffer_printf(why, "expected a unit (%s) at \"%.40s\"",
			    SPAN_UNITS, p);
			return -EINVAL;
		}
		if (number_add(&n, factor, &sum, why) < 0)
			return -EINVAL;
		p = skip_blanks(p + len);
		first = false;
	} while (*p != '\0');
	*ret_us = sum;
	return 0;
}

int
bytes_parse(const char *text, uint64_t *ret_bytes, struct buffer *why)
{
	const char *p = text;
	uint64_t factor = 1, sum = 0;
	const struct unit *unit;
	struct number n;
	size_t len;

	if (strcmp(text, "infinity") == 0) {
		*ret_bytes = UINT64_MAX;
		return 0;
	}
	if (number_parse(&p, &n, why) < 0)
		return -EINVAL;
	p = skip_blanks(p);
	len = unit_length(p);
	if (len != 0) {
		unit = unit_find(sizes, ARRAY_SIZE(sizes), p, len, "K M G T",
		    why);
		if (unit == NULL)
			return -EINVAL;
		factor = unit->factor;
	}
	if (p[len] != '\0') {
		buffer_printf(why, "unexpected \"%.40s\"", p + len);
		return -EINVAL;
	}
	if (number_add(&n, factor, &sum, why) < 0)
		return -EINVAL;
	*ret_bytes = sum;
	return 0;
}

/* "50/s", "100/min", "5/10s" */
int
rate_parse(const char *text, double *ret_per_second, struct buffer *why)
{
	_cleanup_buffer_ struct buffer span = BUFFER_INIT;
	const char *p = text;
	struct number n;
	uint64_t us;
	double count;

	if (number_parse(&p, &n, why) < 0)
		return -EINVAL;
	p = skip_blanks(p);
	if (*p != '/') {
		buffer_add_str(why, "expected a rate such as 50/s or 100/min");
		return -EINVAL;
	}
	p = skip_blanks(p + 1);
	if (*p < '0' || *p > '9')
		buffer_add_char(&span, '1');
	buffer_add_str(&span, p);
	if (*p == '\0') {
		buffer_printf(why, "expected a unit (%s) behind the /",
		    SPAN_UNITS);
		return -EINVAL;
	}
	if (span_parse(buffer_cstr(&span), &us, why) < 0)
		return -EINVAL;
	count = (double)n.whole + (double)n.fraction / 1e6;
	if (us == 0 || us == USEC_INFINITY || !(count > 0)) {
		buffer_add_str(why, "a rate must be above zero; leave the "
		    "value empty for no limit");
		return -EINVAL;
	}
	*ret_per_second = count * 1e6 / (double)us;
	return 0;
}

void
span_format(struct buffer *b, uint64_t us)
{
	static const struct unit shown[] = {
		{ "d", DAY }, { "h", HOUR }, { "min", MINUTE },
		{ "s", USEC_PER_SEC }, { "ms", USEC_PER_MSEC }, { "us", 1 },
	};
	const char *space = "";

	if (us == USEC_INFINITY) {
		buffer_add_str(b, "infinity");
		return;
	}
	if (us == 0)
		buffer_add_str(b, "0s");
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		if (us < shown[i].factor)
			continue;
		buffer_printf(b, "%s%" PRIu64 "%s", space,
		    us / shown[i].factor, shown[i].name);
		us %= shown[i].factor;
		space = " ";
	}
}

void
bytes_format(struct buffer *b, uint64_t bytes)
{
	static const char letters[] = { 'K', 'M', 'G', 'T' };
	size_t i = 0;

	if (bytes == UINT64_MAX) {
		buffer_add_str(b, "infinity");
		return;
	}
	while (bytes != 0 && bytes % 1024 == 0 && i < ARRAY_SIZE(letters)) {
		bytes /= 1024;
		i++;
	}
	buffer_add_u64(b, bytes);
	if (i != 0)
		buffer_add_char(b, letters[i - 1]);
}
