/*
 * Once a turn: what waits goes to the pools that have room, weighted between
 * the queues that share one; then every queue is told its credit.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "engine/internal.h"

/* Prefetch without a number: enough for this long at the present rate. */
#define AUTO_PREFETCH_US	(200 * USEC_PER_MSEC)
#define AUTO_PREFETCH_MIN	2u
#define AUTO_PREFETCH_MAX	4000u
#define BYTES_GUESS_PART	16
#define RATE_INTERVAL_US	(20 * USEC_PER_MSEC)

static bool
may_start(const struct queue *q)
{
	return q->paused == 0 && q->nwaiting != 0;
}

static unsigned
may_start_now(struct queue *q)
{
	return MIN(rate_allows(q), ramp_allows(q));
}

static struct list *
next_of(struct pool *p, struct list *at)
{
	return at->next != &p->queues ? at->next : p->queues.next;
}

/*
 * Deficit round robin (Shreedhar, Varghese 1995) with a cost of one a
 * message: a queue's turn lasts for weight messages.
 */
static struct queue *
pick(struct pool *p)
{
	struct list *first, *at;

	if (list_empty(&p->queues))
		return NULL;
	first = p->next_queue != NULL ? &p->next_queue->pool_link :
	    p->queues.next;
	at = first;
	do {
		struct queue *q = list_entry(at, struct queue, pool_link);

		if (may_start(q) && may_start_now(q) != 0) {
			if (q->deficit <= 0)
				q->deficit = (int)q->weight;
			p->next_queue = q;
			return q;
		}
		q->deficit = 0;
		at = next_of(p, at);
	} while (at != first);
	return NULL;
}

static void
start(struct pool *p, struct queue *q)
{
	struct message *m = list_entry(q->waiting.next, struct message, link);

	rate_take(q);
	message_enter(m, MESSAGE_RUNNING);
	p->running++;
	m->pool = p;
	p->type->ops->submit(p, m);
	if (--q->deficit <= 0)
		p->next_queue = list_entry(next_of(p, &q->pool_link),
		    struct queue, pool_link);
}

static void
dispatch(struct pool *p)
{
	unsigned slots, waiting = 0;
	struct queue *q;
	struct list *l;

	if (p->draining)
		return;
	slots = p->type->ops->slots(p);
	while (slots != 0 && (q = pick(p)) != NULL) {
		unsigned n = MIN(MIN(slots, q->nwaiting), may_start_now(q));

		/* Alone in its pool a queue needs no turns. */
		if (p->queues.next != p->queues.prev)
			n = MIN(n, (unsigned)q->deficit);
		for (; n != 0; n--, slots--)
			start(p, q);
		if (slots == 0)
			slots = p->type->ops->slots(p);
	}
	list_foreach(l, &p->queues) {
		q = list_entry(l, struct queue, pool_link);
		if (q->paused == 0)
			waiting += q->rate_limit > 0 || q->ramp != 0 ?
			    MIN(q->nwaiting, may_start_now(q)) : q->nwaiting;
	}
	p->type->ops->demand(p, waiting);
}

/* ---- credit ---- */

static void
measure_rate(struct queue *q)
{
	uint64_t now = loop_now_us(q->loop), span = now - q->rate_us;
	uint64_t count = q->stats.processing.count;

	if (span < RATE_INTERVAL_US)
		return;
	q->rate_ewma = 0.6 * q->rate_ewma + 0.4 *
	    (double)(count - q->rate_counted) * (double)USEC_PER_SEC /
	    (double)span;
	q->rate_counted = count;
	q->rate_us = now;
}

static unsigned
target(struct queue *q, unsigned slots)
{
	double by_rate;
	unsigned base;

	if (q->prefetch != 0)
		return q->prefetch;
	measure_rate(q);
	base = MAX(2 * (q->pool->running + slots), AUTO_PREFETCH_MIN);
	by_rate = q->rate_ewma * (double)AUTO_PREFETCH_US / (double)USEC_PER_SEC;
	base = (unsigned)MIN(MAX((double)base, by_rate),
	    (double)AUTO_PREFETCH_MAX);
	if (q->rate_limit > 0)
		base = MIN(base, (unsigned)MIN(MAX(q->rate_limit, 2.0), 1e6));
	return base;
}

/*
 * How many more bodies fit.  Their size is a guess until they are here: by the
 * largest of late, and never less than a part of MaxBytes=, so that small ones
 * followed by large ones pass the cap once and by a bounded factor.
 */
static unsigned
fit_bytes(const struct queue *q)
{
	const struct engine *e = q->engine;
	size_t each = sizeof(struct message) + MAX(q->body_peak_bytes,
	    q->max_bytes / BYTES_GUESS_PART);

	if (e->bytes_held >= e->max_bytes)
		return 0;
	return (unsigned)MIN((e->max_bytes - e->bytes_held) / each + 1,
	    (size_t)UINT32_MAX);
}

static unsigned
credit_of(struct queue *q, unsigned slots)
{
	const struct engine *e = q->engine;
	unsigned active = q->nwaiting + q->nrunning + q->ndelayed;
	unsigned want, n;

	if (!q->connected || q->stopping || q->paused != 0 || !q->pool->up)
		return 0;
	want = target(q, slots);
	if (q->ramp >= want)
		ramp_end(q);
	else if (q->ramp != 0)
		want = q->ramp;
	n = want > active ? want - active : 0;
	/* What is held behind a key must not starve other keys, yet end. */
	n = MIN(n, 4 * want > q->nheld ? 4 * want - q->nheld : 0);
	/* Settlements that the broker is slow to take are held as well. */
	n = MIN(n, 4 * want > q->nsettling ? 4 * want - q->nsettling : 0);
	n = MIN(n, e->max_messages > e->messages_held ?
	    e->max_messages - e->messages_held : 0);
	return MIN(n, fit_bytes(q));
}

static void
give_credit(struct engine *e)
{
	struct list *l, *ql;
	struct pool *p;

	engine_foreach_pool(p, e, l) {
		unsigned slots = p->draining ? 0 : p->type->ops->slots(p);

		list_foreach(ql, &p->queues) {
			struct queue *q = list_entry(ql, struct queue, pool_link);
			unsigned n;

			if (!q->started || q->told_to_stop)
				continue;
			n = credit_of(q, slots);
			if (n == q->credit)
				continue;
			q->credit = n;
			q->type->ops->credit(q, n);
		}
	}
}

void
dispatch_task_run(struct task *t)
{
	struct engine *e = t->owner;
	struct list *l;
	struct pool *p;

	engine_foreach_pool(p, e, l)
		dispatch(p);
	give_credit(e);
	drain_check(e);
}

/* ---- the pools' upcalls ---- */

void
pool_slots_changed(struct pool *p)
{
	engine_wake(p->engine);
}

void
pool_touched(struct pool *p, struct message *m, uint64_t until_us)
{
	/* The lease is renewed by itself up to MaxLease=; nothing to do but to
	   keep the two clocks apart. */
	(void)p;
	(void)m;
	(void)until_us;
}

void
probe_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;

	if (!q->connected || q->stopping)
		return;
	q->type->ops->probe(q);
	timer_arm(q->loop, t,
	    config_span_us(q->section, "BacklogInterval"));
}
