/*
 * Leaving in order: one queue (reload) or all of them (drain).
 *
 * What waits goes back at once; what runs may finish; when all of a queue's
 * messages are settled or on their way to be, the queue is told to stop.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/internal.h"

void
queue_retire(struct queue *q)
{
	if (q->stopping)
		return;
	q->stopping = true;
	messages_release(&q->delayed);
	engine_pause(q->engine, q, PAUSED_BY_DRAIN);
	timer_cancel(q->loop, &q->probe_timer);
	timer_cancel(q->loop, &q->delay_timer);
	if (!q->started)
		q->stopped = true;
	engine_wake(q->engine);
}

/* Nothing of it is with us any more but open settlements. */
static bool
emptied(const struct queue *q)
{
	return q->nwaiting + q->nheld + q->ndelayed + q->nrunning == 0;
}

static void
retire_pool(struct pool *p)
{
	if (p->draining)
		return;
	p->draining = true;
	p->type->ops->drain(p);
}

void
pool_drained(struct pool *p)
{
	p->drained = true;
	engine_wake(p->engine);
}

static void
finish_queue(struct engine *e, struct queue *q)
{
	_cleanup_free_ char *name = xstrdup(q->name);

	if (q->nsettling != 0)
		BUG("queue %s stopped with %u settlements unanswered", q->name,
		    q->nsettling);
	queue_destroy(q);
	reload_queue_gone(e, name);
}

/* One step for whatever is ready for one. */
static void
step(struct engine *e)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &e->queues) {
		struct queue *q = list_entry(l, struct queue, engine_link);

		if (!q->stopping || !emptied(q))
			continue;
		if (!q->stopped && !q->told_to_stop) {
			q->told_to_stop = true;
			q->type->ops->stop(q);
		} else if (q->stopped && q->removed) {
			finish_queue(e, q);
		}
	}
	list_foreach_safe(l, tmp, &e->pools) {
		struct pool *p = list_entry(l, struct pool, engine_link);

		/* A removed pool leaves after its last queue has moved away. */
		if (p->removed && list_empty(&p->queues))
			retire_pool(p);
		if (p->removed && p->drained)
			pool_destroy(p);
	}
}

static bool
all_stopped(const struct engine *e)
{
	struct list *l;
	struct queue *q;
	struct pool *p;

	engine_foreach_queue(q, e, l)
		if (!q->stopped)
			return false;
	engine_foreach_pool(p, e, l)
		if (!p->drained)
			return false;
	return true;
}

void
drain_check(struct engine *e)
{
	step(e);
	if (e->phase != ENGINE_DRAINING || !all_stopped(e))
		return;
	e->phase = ENGINE_STOPPED;
	timer_cancel(e->loop, &e->drain_timer);
	if (e->on_stopped != NULL)
		e->on_stopped(e->owner);
}

void
engine_drain(struct engine *e, void (*on_stopped)(void *owner), void *owner)
{
	struct list *l;
	struct queue *q;
	struct pool *p;
	unsigned running = 0;
	char span[CLOCK_SPAN_BYTES];

	if (e->phase == ENGINE_DRAINING || e->phase == ENGINE_STOPPED)
		return;
	e->phase = ENGINE_DRAINING;
	e->on_stopped = on_stopped;
	e->owner = owner;
	engine_foreach_queue(q, e, l) {
		running += q->nrunning;
		queue_retire(q);
	}
	engine_foreach_pool(p, e, l)
		retire_pool(p);
	log_notice(LOG_EVENT(EVENT_DRAIN),
	    "draining: %u running messages may finish within %s, "
	    "the others go back to their brokers", running,
	    clock_span(span, e->drain_timeout_us));
	e->drain_until_us = sat_add(clock_monotonic_us(), e->drain_timeout_us);
	timer_arm_at(e->loop, &e->drain_timer, e->drain_until_us);
	engine_wake(e);
}

void
drain_timer_fired(struct timer *t)
{
	struct engine *e = t->owner;
	struct list *l;
	struct pool *p;

	engine_foreach_pool(p, e, l) {
		if (p->drained)
			continue;
		if (p->running != 0)
			log_warning(LOG_POOL_EVENT(p->name,
			    EVENT_DRAIN_TIMEOUT),
			    "DrainTimeout= is over: "
			    "%u running messages are stopped and go back to "
			    "their brokers", p->running);
		p->type->ops->kill(p);
	}
	engine_wake(e);
}

void
engine_hurry(struct engine *e)
{
	if (e->phase != ENGINE_DRAINING)
		return;
	timer_arm(e->loop, &e->drain_timer, 0);
}
