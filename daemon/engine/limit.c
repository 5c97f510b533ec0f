/*
 * What holds a queue back: its token bucket, and pauses.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/internal.h"

/* A tenth of a second's worth may go at once; never less than one. */
static double
burst(const struct queue *q)
{
	return MAX(1.0, q->rate_limit / 10);
}

void
rate_refill(struct queue *q)
{
	uint64_t now = clock_monotonic_us();

	if (q->rate_limit <= 0)
		return;
	q->tokens += (double)(now - q->tokens_us) / (double)USEC_PER_SEC *
	    q->rate_limit;
	q->tokens = MIN(q->tokens, burst(q));
	q->tokens_us = now;
}

unsigned
rate_allows(struct queue *q)
{
	double wait_s;

	if (q->rate_limit <= 0)
		return UINT32_MAX;
	rate_refill(q);
	if (q->tokens >= 1)
		return (unsigned)q->tokens;
	wait_s = (1 - q->tokens) / q->rate_limit;
	timer_arm_sooner(q->loop, &q->rate_timer,
	    (uint64_t)(wait_s * (double)USEC_PER_SEC) + 1);
	return 0;
}

void
rate_take(struct queue *q)
{
	if (q->rate_limit > 0)
		q->tokens -= 1;
}

void
rate_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;

	engine_wake(q->engine);
}

/* ---- pauses ---- */

/* Longer than this and what waits is of more use to others. */
#define KEEP_WAITING_US	(30 * USEC_PER_SEC)

static void
give_back_waiting(struct queue *q)
{
	messages_release(&q->waiting);
	messages_release(&q->held);
}

void
engine_pause(struct engine *e, struct queue *q, unsigned reason)
{
	if ((q->paused & reason) == reason)
		return;
	q->paused |= reason;
	if ((q->paused & ~PAUSED_BY_RATE_LIMITED) != 0)
		give_back_waiting(q);
	engine_wake(e);
}

void
engine_resume(struct engine *e, struct queue *q, unsigned reason)
{
	if ((q->paused & reason) == 0)
		return;
	q->paused &= ~reason;
	if ((reason & PAUSED_BY_RATE_LIMITED) != 0) {
		timer_cancel(q->loop, &q->pause_timer);
		q->rate_limited_until_us = 0;
	}
	engine_wake(e);
}

void
pause_for(struct queue *q, uint64_t us)
{
	uint64_t until = sat_add(clock_monotonic_us(), us);
	char span[CLOCK_SPAN_BYTES];

	if ((q->paused & PAUSED_BY_RATE_LIMITED) == 0)
		log_notice(LOG_QUEUE_EVENT(q->name, EVENT_QUEUE_SLOWED),
		    "the handler reports "
		    "rate_limited: nothing is started for %s",
		    clock_span(span, us));
	else if (until <= q->rate_limited_until_us)
		return;
	q->rate_limited_until_us = until;
	q->paused |= PAUSED_BY_RATE_LIMITED;
	timer_arm_at(q->loop, &q->pause_timer, until);
	if (us > KEEP_WAITING_US)
		give_back_waiting(q);
	engine_wake(q->engine);
}

void
pause_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;

	log_info(LOG_QUEUE_EVENT(q->name, EVENT_QUEUE_RESUMED),
	    "the rate_limited pause is over");
	engine_resume(q->engine, q, PAUSED_BY_RATE_LIMITED);
}
