/*
 * histogram.h - durations counted in buckets that grow by a sixteenth.
 *
 * Recording is O(1), without allocation; a percentile is off by at most 3.2 %.
 * Values are microseconds, from 0 to about 19 hours; larger ones count in the
 * last bucket.
 */
#ifndef BOT_BASE_HISTOGRAM_H
#define BOT_BASE_HISTOGRAM_H

#include "base/macros.h"

#define HISTOGRAM_BUCKETS	(16 + 32 * 16)

struct histogram {
	uint64_t count;
	uint64_t sum_us;
	uint32_t bucket[HISTOGRAM_BUCKETS];
};

void	histogram_record(struct histogram *, uint64_t us);
void	histogram_record_n(struct histogram *, uint64_t us, uint32_t n);
/* The value below which percent (0..100) of the records lie; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *, double percent);
double	histogram_mean_us(const struct histogram *);
/* into += from; into -= from (from must have been part of into). */
void	histogram_add(struct histogram *into, const struct histogram *from);
void	histogram_sub(struct histogram *into, const struct histogram *from);
void	histogram_clear(struct histogram *);

#endif
