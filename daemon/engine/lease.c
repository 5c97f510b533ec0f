/*
 * Leases (invariant 5): every message that we hold, waiting or running, is in
 * its queue's list, soonest deadline first.  Halfway to the deadline the lease
 * is renewed, until MaxLease= after delivery.  A deadline that passes means
 * that the broker may have given the message to another: one that waits is
 * dropped, one that runs is marked and its verdict will not be settled.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/internal.h"

/* One timer serves what falls due within this time. */
#define SLACK_US	(50 * USEC_PER_MSEC)
#define LOG_EVERY_US	(10 * USEC_PER_SEC)

static uint64_t
renew_at(const struct queue *q, const struct message *m)
{
	uint64_t half = q->lease_us / 2;

	return m->lease_until_us > half ? m->lease_until_us - half : 0;
}

static uint64_t
cap_of(const struct queue *q, const struct message *m)
{
	return sat_add(m->received_us, q->max_lease_us);
}

/*
 * A broker that grants whole seconds may stay just under the cap; asking for
 * that rest would go on with every answer.
 */
static bool
renewable(const struct queue *q, const struct message *m)
{
	uint64_t rest = MIN(USEC_PER_SEC, q->lease_us / 10);

	return q->connected && !m->extending &&
	    (q->type->capabilities & QUEUE_CAN_EXTEND) != 0 &&
	    sat_add(m->lease_until_us, rest) < cap_of(q, m);
}

/* When something must be done about m next. */
static uint64_t
due_of(const struct queue *q, const struct message *m)
{
	return renewable(q, m) ? renew_at(q, m) : m->lease_until_us;
}

void
lease_watch(struct message *m)
{
	struct queue *q = m->queue;
	struct list *at;

	list_remove(&m->lease_link);
	if (m->lease_until_us == USEC_INFINITY)
		return;
	/* Deadlines come nearly sorted: from the back it is one step. */
	for (at = q->leases.prev; at != &q->leases; at = at->prev)
		if (list_entry(at, struct message, lease_link)->lease_until_us <=
		    m->lease_until_us)
			break;
	list_push_front(at, &m->lease_link);
	if (!timer_armed(&q->lease_timer) ||
	    due_of(q, m) < timer_due_us(&q->lease_timer))
		timer_arm_at(q->loop, &q->lease_timer, due_of(q, m));
}

void
lease_forget(struct message *m)
{
	list_remove(&m->lease_link);
}

/* One that waits is dropped; one that runs is marked, and its worker told. */
static void
let_go(struct message *m)
{
	lease_forget(m);
	m->extending = false;
	m->lease_lost = true;
	m->queue->stats.leases_lost++;
	switch (m->state) {
	case MESSAGE_WAITING:
	case MESSAGE_HELD:
	case MESSAGE_DELAYED:
		order_abandon(m);
		message_retire(m);
		break;
	case MESSAGE_RUNNING:
		m->pool->type->ops->cancel(m->pool, m);
		break;
	case MESSAGE_SETTLING:
	case MESSAGE_NEW:
	case MESSAGE_NSTATES:
		break;
	}
}

static void
lease_lost(struct message *m)
{
	struct queue *q = m->queue;
	uint64_t now = clock_monotonic_us();

	if (now - q->lease_log_us > LOG_EVERY_US || q->lease_log_us == 0) {
		q->lease_log_us = now;
		log_warning(&((struct log_fields){ .event = EVENT_LEASE_LOST,
		    .queue = q->name,
		    .message = m->name, .attempt = m->attempt }),
		    "its lease has ended while it was %s: the broker may "
		    "deliver it again (Lease=, MaxLease=)",
		    message_state_name(m->state));
	}
	let_go(m);
}

static void
renew(struct queue *q, struct message *m, uint64_t now)
{
	uint64_t cap = cap_of(q, m);

	m->extending = true;
	q->type->ops->extend(q, m, MIN(q->lease_us, cap - now));
}

void
lease_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;
	uint64_t now = clock_monotonic_us(), next = USEC_INFINITY;
	uint64_t horizon = sat_add(now, q->lease_us / 2 + SLACK_US);
	struct list *l, *tmp;

	/*
	 * In deadline order; what lies beyond the horizon is not due.  Losing
	 * one may release others (order_abandon), so the walk starts again.
	 */
again:
	list_foreach_safe(l, tmp, &q->leases) {
		struct message *m = list_entry(l, struct message, lease_link);

		if (m->lease_until_us > horizon)
			break;
		if (m->lease_until_us <= now) {
			lease_lost(m);
			goto again;
		}
		if (renewable(q, m) && renew_at(q, m) <= now + SLACK_US)
			renew(q, m, now);
	}
	list_foreach(l, &q->leases) {
		struct message *m = list_entry(l, struct message, lease_link);

		next = MIN(next, due_of(q, m));
		if (renew_at(q, m) > next)
			break;
	}
	if (next != USEC_INFINITY)
		timer_arm_at(q->loop, &q->lease_timer, MAX(next, now + 1));
	engine_wake(q->engine);
}

void
leases_connected(struct queue *q)
{
	if (!list_empty(&q->leases))
		timer_arm(q->loop, &q->lease_timer, 0);
}

void
leases_disconnected(struct queue *q)
{
	struct list *l;

	/* No answer comes any more to what was asked. */
	list_foreach(l, &q->leases)
		list_entry(l, struct message, lease_link)->extending = false;
}

void
queue_extended(struct queue *q, struct message *m, uint64_t until_us)
{
	BUG_ON(m->state == MESSAGE_SETTLING);
	if (m->lease_lost)
		return;
	m->extending = false;
	if (until_us == 0) {
		lease_lost(m);
		return;
	}
	q->stats.leases_extended++;
	m->lease_until_us = until_us;
	lease_watch(m);
}

void
queue_drop_receipts(struct queue *q,
    bool (*matches)(const struct message *, void *arg), void *arg)
{
	struct list *lists[] = { &q->waiting, &q->held, &q->delayed };
	unsigned waited = 0, running = 0;
	struct list *l;

	/* Losing one may take others of its key along: start again. */
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (l = lists[i]->next; l != lists[i];) {
			struct message *m = list_entry(l, struct message, link);

			l = l->next;
			if (matches(m, arg)) {
				let_go(m);
				waited++;
				l = lists[i]->next;
			}
		}
	}
	list_foreach(l, &q->running) {
		struct message *m = list_entry(l, struct message, link);

		if (!m->lease_lost && matches(m, arg)) {
			let_go(m);
			running++;
		}
	}
	if (waited + running != 0)
		log_notice(LOG_QUEUE_EVENT(q->name, EVENT_LEASE_LOST),
		    "%u messages that waited go back "
		    "with the connection; %u were running, and will be run "
		    "again", waited, running);
}
