#include "base/histogram.h"

/* Sixteen linear buckets, then sixteen for each power of two. */
static size_t
index_of(uint64_t us)
{
	unsigned exp;
	size_t i;

	if (us < 16)
		return (size_t)us;
	exp = 63u - (unsigned)__builtin_clzll(us);	/* >= 4 */
	i = 16 + (size_t)(exp - 4) * 16 + (size_t)((us >> (exp - 4)) & 15);
	return MIN(i, (size_t)HISTOGRAM_BUCKETS - 1);
}

/* The middle of a bucket. */
static uint64_t
value_of(size_t i)
{
	unsigned exp;

	if (i < 16)
		return i;
	exp = (unsigned)((i - 16) / 16);
	return ((16 + (uint64_t)((i - 16) % 16)) << exp) +
	    (((uint64_t)1 << exp) / 2);
}

void
histogram_record_n(struct histogram *h, uint64_t us, uint32_t n)
{
	h->count += n;
	h->sum_us += us * n;
	h->bucket[index_of(us)] += n;
}

void
histogram_record(struct histogram *h, uint64_t us)
{
	histogram_record_n(h, us, 1);
}

uint64_t
histogram_percentile(const struct histogram *h, double percent)
{
	uint64_t want, seen = 0;

	if (h->count == 0)
		return 0;
	want = (uint64_t)((double)h->count * percent / 100.0 + 0.5);
	want = MAX(want, (uint64_t)1);
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return value_of(i);
	}
	return value_of(HISTOGRAM_BUCKETS - 1);
}

double
histogram_mean_us(const struct histogram *h)
{
	return h->count != 0 ? (double)h->sum_us / (double)h->count : 0;
}

void
histogram_add(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum_us += from->sum_us;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

void
histogram_sub(struct histogram *into, const struct histogram *from)
{
	into->count -= from->count;
	into->sum_us -= from->sum_us;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->bucket[i] -= from->bucket[i];
}

void
histogram_clear(struct histogram *h)
{
	memset(h, 0, sizeof(*h));
}
