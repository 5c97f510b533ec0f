/*
 * When to try again: what the peer says, and chance.
 */
#include "base/clock.h"
#include "base/random.h"
#include "client/http_impl.h"
#include "codec/http_date.h"

void
http_read_times(const struct http1_head *h, uint64_t *ret_retry_after_us,
    uint64_t *ret_date_us)
{
	struct slice after = http1_header(h, "Retry-After");
	uint64_t n, now;

	*ret_retry_after_us = 0;
	if (http_date_parse(http1_header(h, "Date"), ret_date_us) < 0)
		*ret_date_us = 0;
	if (after.p == NULL)
		return;
	if (slice_to_u64(after, &n) == 0) {
		*ret_retry_after_us = MIN(n, UINT64_MAX / 2 / USEC_PER_SEC) *
		    USEC_PER_SEC;
	} else if (http_date_parse(after, &n) == 0) {
		/* By the peer's own clock, if it says what time it is there. */
		now = *ret_date_us != 0 ? *ret_date_us : clock_realtime_us();
		*ret_retry_after_us = n > now ? n - now : 0;
	}
}

uint64_t
http_retry_delay_us(unsigned n, uint64_t base_us, uint64_t max_us,
    uint64_t retry_after_us)
{
	uint64_t top = base_us, delay;

	for (; n > 1 && top < max_us; n--)
		top = top > max_us / 2 ? max_us : top * 2;
	top = MIN(top, max_us);
	delay = top == UINT64_MAX ? random_u64() : random_below(top + 1);
	return MAX(delay, retry_after_us);
}

bool
http_may_retry(const struct http_response *r, const struct error *err)
{
	if (err != NULL)
		return err->class == ERROR_TRANSIENT;
	switch (r->status) {
	case 408:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		return true;
	default:
		return false;
	}
}
