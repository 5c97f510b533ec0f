/*
 * flood.h - how much each sender may send: a token bucket for each.
 *
 * Bounded: the FLOOD_SENDERS_MAX that were seen last are remembered; one that
 * comes back after it was forgotten starts with a full bucket.
 */
#ifndef BOT_GUARD_FLOOD_H
#define BOT_GUARD_FLOOD_H

#include "base/slice.h"

#define FLOOD_SENDERS_MAX	4096u
/* What is put off is put off no longer than this at once. */
#define FLOOD_DELAY_MAX_US	(600 * UINT64_C(1000000))

struct flood;

struct flood *flood_new(void);
void	flood_free(struct flood *);		/* accepts NULL */

/*
 * Takes a token of the sender's (an empty name is one of its own) at that
 * monotonic time.  rate: tokens a second, over 0; burst: the bucket's size, at
 * least 1.  False when there is none: *ret_delay_us is when to come again.
 * Several that are turned away get times that are 1/rate apart, so that they
 * do not all come back at once; that is no promise of a token.
 */
bool	flood_take(struct flood *, struct slice sender, double rate,
	    double burst, uint64_t now_us, uint64_t *ret_delay_us);
size_t	flood_senders(const struct flood *);

#endif
