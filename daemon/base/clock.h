/*
 * clock.h - what time it is, in microseconds.
 *
 * Durations and deadlines use the monotonic clock only; the wall clock is for
 * showing to people and for peers that want a date.  Tests replace both
 * (clock_set_virtual) and then move time by hand.
 */
#ifndef BOT_BASE_CLOCK_H
#define BOT_BASE_CLOCK_H

#include "base/macros.h"

uint64_t clock_monotonic_us(void);
uint64_t clock_realtime_us(void);	/* since 1970-01-01T00:00:00Z */

/* From now on time stands at monotonic_us until clock_advance() moves it. */
void	clock_set_virtual(uint64_t monotonic_us, uint64_t realtime_us);
void	clock_advance(uint64_t us);	/* virtual time only */
bool	clock_is_virtual(void);
void	clock_set_real(void);

/* "2026-11-23T16:00:00Z" or, with milliseconds, "...00.123Z". */
#define CLOCK_ISO_BYTES	32
const char *clock_iso(char out[CLOCK_ISO_BYTES], uint64_t realtime_us, bool ms);

/* "250ms", "3s", "1min 30s", "2h 5min": for people. */
#define CLOCK_SPAN_BYTES 48
const char *clock_span(char out[CLOCK_SPAN_BYTES], uint64_t us);

#endif
