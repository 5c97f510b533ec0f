#include "guard/flood.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "guard/recent.h"

struct bucket {
	double tokens;
	uint64_t at_us;			/* when tokens were counted */
	uint64_t last_us;		/* when the last one that was turned
					   away comes again */
	bool known;
};

struct flood {
	struct recent *senders;
};

struct flood *
flood_new(void)
{
	struct flood *f = new0(struct flood);

	f->senders = recent_new(sizeof(struct bucket), FLOOD_SENDERS_MAX);
	return f;
}

void
flood_free(struct flood *f)
{
	if (f == NULL)
		return;
	recent_free(f->senders);
	free(f);
}

size_t
flood_senders(const struct flood *f)
{
	return recent_count(f->senders);
}

bool
flood_take(struct flood *f, struct slice sender, double rate, double burst,
    uint64_t now_us, uint64_t *ret_delay_us)
{
	struct bucket *b = recent_get(f->senders, hash_of(sender));
	double apart_us = (double)USEC_PER_SEC / rate, wait_us;
	uint64_t apart, next;

	if (!b->known)
		*b = (struct bucket){ .known = true, .tokens = burst,
		    .at_us = now_us };
	b->tokens = MIN(burst, b->tokens + (double)(now_us - b->at_us) /
	    apart_us);
	b->at_us = now_us;
	if (b->tokens >= 1) {
		b->tokens -= 1;
		return true;
	}
	wait_us = MIN((1 - b->tokens) * apart_us, (double)FLOOD_DELAY_MAX_US);
	apart = (uint64_t)MIN(apart_us, (double)FLOOD_DELAY_MAX_US);
	/* The whole microsecond behind, or it would come too early by less. */
	next = now_us + (uint64_t)wait_us + 1;
	next = MAX(next, b->last_us + apart);
	next = MIN(next, now_us + FLOOD_DELAY_MAX_US);
	b->last_us = next;
	*ret_delay_us = next - now_us;
	return false;
}
