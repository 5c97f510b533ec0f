#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"

static bool virtual;
static uint64_t virtual_mono, virtual_real;

static uint64_t
now(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t
clock_monotonic_us(void)
{
	return unlikely(virtual) ? virtual_mono : now(CLOCK_MONOTONIC);
}

uint64_t
clock_realtime_us(void)
{
	return unlikely(virtual) ? virtual_real : now(CLOCK_REALTIME);
}

void
clock_set_virtual(uint64_t monotonic_us, uint64_t realtime_us)
{
	virtual = true;
	virtual_mono = monotonic_us;
	virtual_real = realtime_us;
}

void
clock_advance(uint64_t us)
{
	BUG_ON(!virtual);
	virtual_mono += us;
	virtual_real += us;
}

bool
clock_is_virtual(void)
{
	return virtual;
}

void
clock_set_real(void)
{
	virtual = false;
}

const char *
clock_iso(char out[CLOCK_ISO_BYTES], uint64_t realtime_us, bool ms)
{
	time_t t = (time_t)(realtime_us / USEC_PER_SEC);
	char frac[8] = "";
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(out, CLOCK_ISO_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	if (ms)
		snprintf(frac, sizeof(frac), ".%03u",
		    (unsigned)(realtime_us / USEC_PER_MSEC % 1000) % 1000u);
	snprintf(out + n, CLOCK_ISO_BYTES - n, "%sZ", frac);
	return out;
}

const char *
clock_span(char out[CLOCK_SPAN_BYTES], uint64_t us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
		{ "d", 86400 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC },
		{ "min", 60 * USEC_PER_SEC }, { "s", USEC_PER_SEC },
		{ "ms", USEC_PER_MSEC }, { "us", 1 },
	};

	if (us == USEC_INFINITY) {
		snprintf(out, CLOCK_SPAN_BYTES, "infinity");
		return out;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		uint64_t n = us / units[i].us, rest = us % units[i].us;

		if (n == 0)
			continue;
		/* A second unit where it says something: "1min 30s". */
		if (i + 1 < ARRAY_SIZE(units) && i < 3 &&
		    rest / units[i + 1].us != 0)
			snprintf(out, CLOCK_SPAN_BYTES,
			    "%" PRIu64 "%s %" PRIu64 "%s", n, units[i].name,
			    rest / units[i + 1].us, units[i + 1].name);
		else
			snprintf(out, CLOCK_SPAN_BYTES, "%" PRIu64 "%s", n,
			    units[i].name);
		return out;
	}
	snprintf(out, CLOCK_SPAN_BYTES, "0s");
	return out;
}
