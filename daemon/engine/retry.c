/*
 * The way out: from a verdict to a settlement.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/internal.h"

#define LOG_EVERY_US	(10 * USEC_PER_SEC)

/*
 * Exponential, with full jitter between the bounds: uniform in
 * [min, min * 2^attempt], never past max.  The lower bound is kept, since
 * "Backoff=2s-5min" reads as a promise.
 */
uint64_t
retry_delay_us(const struct queue *q, unsigned attempt)
{
	uint64_t min = q->backoff_min_us, top = min;

	for (unsigned i = 0; i < attempt && top < q->backoff_max_us; i++)
		top = top > q->backoff_max_us / 2 ? q->backoff_max_us : top * 2;
	top = MIN(top, q->backoff_max_us);
	return min + random_below(top - min + 1);
}

void
count_error(struct queue *q, struct slice type)
{
	struct queue_stats *s = &q->stats;
	struct error_count *c;

	if (type.n == 0)
		type = SLICE(ERROR_TYPE_INTERNAL);
	type.n = MIN(type.n, (size_t)ERROR_TYPE_MAX - 1);
	for (unsigned i = 0; i < s->nerrors; i++) {
		if (slice_is(type, s->errors[i].type)) {
			s->errors[i].count++;
			return;
		}
	}
	/* The last place is for all that are too many. */
	if (s->nerrors == ERROR_TYPES_MAX) {
		s->errors[ERROR_TYPES_MAX - 1].count++;
		return;
	}
	c = &s->errors[s->nerrors++];
	if (s->nerrors == ERROR_TYPES_MAX)
		type = SLICE("other");
	memcpy(c->type, type.p, type.n);
	c->type[type.n] = '\0';
	c->count = 1;
}

/* ---- settling ---- */

void
message_settle(struct message *m, const struct settlement *s)
{
	struct queue *q = m->queue;

	BUG_ON(m->state == MESSAGE_SETTLING);
	lease_forget(m);
	m->settling_as = s->kind;
	message_enter(m, MESSAGE_SETTLING);
	q->type->ops->settle(q, m, s);
}

void
message_release(struct message *m)
{
	struct settlement s = {
		.kind = SETTLE_RELEASE,
		.attempt = m->attempt,
		.crashes = m->crashes,
	};

	order_abandon(m);
	message_settle(m, &s);
}

void
messages_release(struct list *list)
{
	struct list *l;

	/* Releasing the owner of a key releases the later ones with it. */
	while ((l = list_first(list)) != NULL)
		message_release(list_entry(l, struct message, link));
}

void
message_bury(struct message *m, struct slice error_type, struct slice detail)
{
	struct settlement s = {
		.kind = SETTLE_BURY,
		.attempt = m->attempt,
		.crashes = m->crashes,
		.error_type = error_type,
		.detail = detail,
	};

	message_settle(m, &s);
}

static void
settle_retry(struct message *m, unsigned attempt, uint64_t delay_us,
    const struct verdict *v)
{
	struct settlement s = {
		.kind = SETTLE_RETRY,
		.delay_us = delay_us,
		.attempt = attempt,
		.crashes = m->crashes,
		.error_type = v->error_type,
		.detail = v->detail,
	};
	struct queue *q = m->queue;

	/* A key's order outweighs giving the message back for the wait, but
	   for one that leaves. */
	if ((q->type->capabilities & QUEUE_CAN_DELAY) != 0 &&
	    (m->order == NULL || q->stopping)) {
		order_abandon(m);
		message_settle(m, &s);
		return;
	}
	m->attempt = attempt;
	if (q->stopping) {
		message_release(m);
		return;
	}
	m->due_us = sat_add(clock_monotonic_us(), delay_us);
	message_enter(m, MESSAGE_DELAYED);
	q->stats.retried++;
	timer_arm_sooner(q->loop, &q->delay_timer, delay_us);
}

void
message_defer(struct message *m, const struct guard_verdict *v)
{
	struct verdict as = {
		.kind = VERDICT_RETRY,
		.error_type = slice_of(v->error_type),
		.detail = slice_of(v->detail),
	};

	m->deferred = true;
	m->queue->stats.deferred++;
	settle_retry(m, m->attempt, v->delay_us, &as);
}

void
message_drop(struct message *m)
{
	struct settlement s = {
		.kind = SETTLE_ACK,
		.attempt = m->attempt,
		.crashes = m->crashes,
	};

	m->dropped = true;
	message_settle(m, &s);
}

void
delay_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;
	uint64_t now = clock_monotonic_us(), next = USEC_INFINITY;
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &q->delayed) {
		struct message *m = list_entry(l, struct message, link);

		if (m->due_us > now)
			next = MIN(next, m->due_us);
		else if ((q->paused & ~PAUSED_BY_RATE_LIMITED) != 0)
			/* As all that waits when a pause begins. */
			message_release(m);
		else if (m->deferred)
			deliver_again(m);
		else
			message_enter_front(m);
	}
	/* One that was deferred anew may have armed it already. */
	if (next != USEC_INFINITY)
		timer_arm_sooner(q->loop, t, next - now);
	engine_wake(q->engine);
}

/* ---- verdicts ---- */

static void
log_failure(const struct message *m, const struct verdict *v,
    enum log_level level, const char *then)
{
	char type[ERROR_TYPE_MAX];

	snprintf(type, sizeof(type), "%.*s", (int)v->error_type.n,
	    v->error_type.n != 0 ? v->error_type.p : "");
	log_at(level, &((struct log_fields){ .event = level < LOG_LEVEL_INFO ?
	    EVENT_DEAD_LETTER : EVENT_ATTEMPT_FAILED, .queue = m->queue->name,
	    .message = m->name, .attempt = m->attempt, .error_type = type }),
	    "attempt %u failed (%s%s%.*s); %s", m->attempt, type,
	    v->detail.n != 0 ? ": " : "", (int)MIN(v->detail.n, (size_t)300),
	    v->detail.n != 0 ? v->detail.p : "", then);
}

static void
on_dead(struct message *m, const struct verdict *v, const char *why)
{
	char then[96];

	snprintf(then, sizeof(then), "it goes to the dead letters (%s)", why);
	log_failure(m, v, LOG_LEVEL_WARNING, then);
	message_bury(m, v->error_type, v->detail);
}

static void
on_retry(struct message *m, const struct verdict *v)
{
	struct queue *q = m->queue;
	bool given = v->delay_us != VERDICT_DELAY_DEFAULT;
	bool limited = slice_is(v->error_type, ERROR_TYPE_RATE_LIMITED);
	char then[96], span[CLOCK_SPAN_BYTES], poison[64];
	uint64_t delay;
	unsigned next = m->attempt + 1;

	if (v->killed_worker && ++m->crashes >= q->max_crashes) {
		snprintf(poison, sizeof(poison), "poison: it ended its worker "
		    "%u times", m->crashes);
		on_dead(m, v, poison);
		return;
	}
	/* A peer that asks for less is no fault of the message: with a delay
	   the queue pauses and the attempt does not count. */
	if (limited && given) {
		pause_for(q, v->delay_us);
		next = m->attempt;
	}
	if (next > q->max_attempts) {
		snprintf(then, sizeof(then), "MaxAttempts=%u", q->max_attempts);
		on_dead(m, v, then);
		return;
	}
	delay = given ? v->delay_us : retry_delay_us(q, m->attempt);
	snprintf(then, sizeof(then), "next attempt in %s",
	    clock_span(span, delay));
	log_failure(m, v, LOG_LEVEL_INFO, then);
	settle_retry(m, next, delay, v);
}

void
pool_verdict(struct pool *p, struct message *m, const struct verdict *v)
{
	struct queue *q = m->queue;
	uint64_t now = loop_now_us(p->loop);

	BUG_ON(m->state != MESSAGE_RUNNING || p->running == 0);
	p->running--;
	p->stats.verdicts++;
	p->stats.last_verdict_us = now;
	if (m->started_us != 0)
		histogram_record(&q->stats.processing,
		    now > m->started_us ? now - m->started_us : 0);
	if (v->kind != VERDICT_DONE) {
		q->stats.failed++;
		count_error(q, v->error_type);
	}
	ramp_verdict(q, v->kind);
	engine_wake(q->engine);
	if (m->lease_lost) {
		/* Somebody else may have it by now: the receipt is dropped. */
		order_abandon(m);
		message_retire(m);
		return;
	}
	switch (v->kind) {
	case VERDICT_DONE: {
		struct settlement s = { .kind = SETTLE_ACK,
			.attempt = m->attempt, .crashes = m->crashes };

		message_settle(m, &s);
		break;
	}
	case VERDICT_RETRY:
		on_retry(m, v);
		break;
	case VERDICT_DEAD:
		on_dead(m, v, "the handler says so");
		break;
	case VERDICT_NONE:
		BUG("a verdict without a kind for message %" PRIu64, m->id);
	}
}

void
pool_returned(struct pool *p, struct message *m)
{
	struct queue *q = m->queue;

	BUG_ON(m->state != MESSAGE_RUNNING || p->running == 0);
	p->running--;
	m->started_us = 0;
	engine_wake(q->engine);
	if (m->lease_lost) {
		order_abandon(m);
		message_retire(m);
	} else if (q->stopping || (q->paused & ~PAUSED_BY_RATE_LIMITED) != 0) {
		message_release(m);
	} else {
		message_enter_front(m);
	}
}

/* ---- the queue's answer ---- */

static void
count_settled(struct queue *q, const struct message *m)
{
	struct engine *e = q->engine;

	switch (m->settling_as) {
	case SETTLE_ACK:
		if (m->dropped) {
			q->stats.dropped++;
			e->dropped++;
			break;
		}
		q->stats.done++;
		q->stats.last_done_us = loop_now_us(q->loop);
		e->done++;
		break;
	case SETTLE_RETRY:
		q->stats.retried++;
		e->retried++;
		break;
	case SETTLE_BURY:
		q->stats.dead++;
		e->dead++;
		break;
	case SETTLE_RELEASE:
		q->stats.released++;
		break;
	case SETTLE_NONE:
		break;
	}
}

void
queue_settled(struct queue *q, struct message *m, const struct error *err)
{
	uint64_t now = loop_now_us(q->loop);

	BUG_ON(m->state != MESSAGE_SETTLING || m->queue != q);
	if (err == NULL) {
		count_settled(q, m);
		order_advance(m);
	} else {
		q->stats.settle_errors++;
		if (q->settle_log_us == 0 ||
		    now - q->settle_log_us > LOG_EVERY_US) {
			q->settle_log_us = now;
			log_warning(&((struct log_fields){
			    .event = EVENT_SETTLE_FAILED, .queue = q->name,
			    .message = m->name, .attempt = m->attempt }),
			    "could not be settled: %s (%s); the broker will "
			    "deliver it again", err->text, err->code);
		}
		order_abandon(m);
	}
	message_retire(m);
	engine_wake(q->engine);
}
