/*
 * The way in: what queues tell us.
 */
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/cloudevent.h"
#include "engine/internal.h"

void
queue_up(struct queue *q)
{
	if (q->connected)
		return;
	log_notice(LOG_QUEUE_EVENT(q->name, EVENT_QUEUE_UP),
	    q->stats.connects == 0 ? "connected" :
	    "connected again");
	q->connected = true;
	q->stats.connects++;
	q->changed_us = clock_monotonic_us();
	error_clear(&q->error);
	timer_arm(q->loop, &q->probe_timer, 0);
	leases_connected(q);
	engine_wake(q->engine);
}

void
queue_down(struct queue *q, const struct error *err)
{
	bool news = q->connected || strcmp(q->error.code, err->code) != 0;

	if (news) {
		log_error(LOG_QUEUE_EVENT(q->name, EVENT_QUEUE_DOWN),
		    "%s: %s (%s); trying again until "
		    "it works", q->connected ? "connection lost" :
		    "not connected", err->text, err->code);
		q->changed_us = clock_monotonic_us();
	}
	q->connected = false;
	q->error = *err;
	timer_cancel(q->loop, &q->probe_timer);
	leases_disconnected(q);
	engine_wake(q->engine);
}

static size_t
charge_of(const struct message *m)
{
	size_t n = sizeof(*m) + m->body.n + m->name.n;

	for (size_t i = 0; i < m->nattributes; i++)
		n += sizeof(struct attribute) + m->attributes[i].name.n +
		    m->attributes[i].value.n;
	return n;
}

/* From here on the engine owns m; state NEW still. */
static void
admit(struct queue *q, struct message *m)
{
	struct engine *e = q->engine;

	BUG_ON(m->state != MESSAGE_NEW || m->queue != q);
	m->received_us = loop_now_us(q->loop);
	m->charged_bytes = charge_of(m);
	q->bytes_held += m->charged_bytes;
	e->bytes_held += m->charged_bytes;
	e->messages_held++;
	if (q->credit != 0)
		q->credit--;
	q->stats.received++;
	q->stats.bytes_received += m->body.n;
	q->body_peak_bytes = MAX(m->body.n,
	    q->body_peak_bytes - q->body_peak_bytes / 64);
	q->stats.last_received_us = m->received_us;
	if (m->attempt > 1)
		q->stats.redelivered++;
}

static void
bury_malformed(struct queue *q, struct message *m, const char *why)
{
	log_warning(&((struct log_fields){ .event = EVENT_DEAD_LETTER,
	    .queue = q->name,
	    .message = m->name, .attempt = m->attempt,
	    .error_type = ERROR_TYPE_INVALID_FORMAT }),
	    "not a valid message, it goes to the dead letters: %s", why);
	q->stats.failed++;
	count_error(q, SLICE(ERROR_TYPE_INVALID_FORMAT));
	message_bury(m, SLICE(ERROR_TYPE_INVALID_FORMAT), slice_of(why));
}

void
queue_deliver_malformed(struct queue *q, struct message *m, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	admit(q, m);
	bury_malformed(q, m, why);
}

static bool
content_type(const struct message *m, struct cloudevent_value *ret)
{
	for (size_t i = 0; i < m->nattributes; i++) {
		const struct attribute *a = &m->attributes[i];

		if (a->name.n != 12 ||
		    strncasecmp(a->name.p, "content-type", 12) != 0)
			continue;
		*ret = (struct cloudevent_value){ a->value, a->json };
		return true;
	}
	return false;
}

static bool
event_attribute(const void *arg, struct slice name,
    struct cloudevent_value *ret)
{
	const struct message *m = arg;

	if (slice_is(name, "datacontenttype"))
		return content_type(m, ret);
	for (size_t i = 0; i < m->nattributes; i++) {
		const struct attribute *a = &m->attributes[i];

		if (a->name.n != name.n + 3 ||
		    memcmp(a->name.p, "ce-", 3) != 0 ||
		    memcmp(a->name.p + 3, name.p, name.n) != 0)
			continue;
		*ret = (struct cloudevent_value){ a->value, a->json };
		return true;
	}
	return false;
}

static int
check_event(const struct queue *q, const struct message *m, struct error *err)
{
	struct cloudevent_value type = { .text = { "", 0 } };

	(void)content_type(m, &type);
	if (cloudevent_is_structured(type.text) ||
	    message_attribute(m, "ce-specversion") == NULL)
		return cloudevent_check(m->body, q->require, err);
	return cloudevent_check_binary(m->body, event_attribute, m,
	    q->require, err);
}

/* False and a reason when the message is not what Format= promises. */
static bool
valid(const struct queue *q, const struct message *m, struct error *err)
{
	if (m->body.n > q->max_bytes) {
		error_set(err, ERROR_REJECTED, "too_large",
		    "the body has %zu bytes, MaxBytes=%zu", m->body.n,
		    q->max_bytes);
		return false;
	}
	switch (q->format) {
	case FORMAT_RAW:
		return true;
	case FORMAT_JSON:
		return json_check(m->body, q->require, err) == 0;
	case FORMAT_CLOUDEVENTS:
		return check_event(q, m, err) == 0;
	}
	return true;
}

/* Until the guard is asked again.  One that is behind another of its order key
   waits for its turn first. */
static void
defer(struct message *m, const struct guard_verdict *v)
{
	struct queue *q = m->queue;
	bool fresh = m->state == MESSAGE_NEW;

	if (fresh && order_enter(m) == MESSAGE_HELD) {
		m->deferred = true;
		q->stats.deferred++;
		message_enter(m, MESSAGE_HELD);
	} else {
		message_defer(m, v);
	}
	if (fresh && m->state != MESSAGE_SETTLING)
		lease_watch(m);
	engine_wake(q->engine);
}

/* True when it may go on; otherwise it has been dealt with. */
static bool
passes(struct message *m, guard_fn *ask)
{
	struct queue *q = m->queue;
	struct guard_verdict v = { .error_type = ERROR_TYPE_INTERNAL };

	switch (ask(q, m, &v)) {
	case GUARD_PASS:
		return true;
	case GUARD_BURY:
		q->stats.failed++;
		count_error(q, slice_of(v.error_type));
		message_bury(m, slice_of(v.error_type), slice_of(v.detail));
		return false;
	case GUARD_DELAY:
		defer(m, &v);
		return false;
	case GUARD_DROP:
		message_drop(m);
		return false;
	}
	BUG("a guard without an answer for message %" PRIu64, m->id);
}

/* What the guard and the queue ask of a message; false: it has been dealt
   with. */
static bool
may_run(struct queue *q, struct message *m)
{
	struct error err = ERROR_INIT;
	char detail[96];

	if (q->guard != NULL && !passes(m, q->engine->guard->meet))
		return false;
	if (unlikely(!valid(q, m, &err))) {
		bury_malformed(q, m, err.text);
		return false;
	}
	if (unlikely(m->attempt > q->max_attempts)) {
		snprintf(detail, sizeof(detail), "delivered for the %u. time, "
		    "MaxAttempts=%u are used up", m->attempt, q->max_attempts);
		q->stats.failed++;
		count_error(q, SLICE(ERROR_TYPE_INTERNAL));
		message_bury(m, SLICE(ERROR_TYPE_INTERNAL), slice_of(detail));
		return false;
	}
	return q->guard == NULL || passes(m, q->engine->guard->inspect);
}

/* From the beginning: it may not have come further than the first question. */
void
deliver_again(struct message *m)
{
	struct queue *q = m->queue;

	m->deferred = false;
	if (q->stopping)
		message_release(m);
	else if (may_run(q, m))
		message_enter(m, MESSAGE_WAITING);
	engine_wake(q->engine);
}

void
queue_deliver(struct queue *q, struct message *m)
{
	admit(q, m);
	if (q->stopping || (q->paused & ~PAUSED_BY_RATE_LIMITED) != 0) {
		/* Requested before the pause: back, as if never taken. */
		message_release(m);
		return;
	}
	if (!may_run(q, m))
		return;
	message_enter(m, order_enter(m));
	lease_watch(m);
	engine_wake(q->engine);
}

void
queue_backlog(struct queue *q, const struct backlog *b)
{
	q->backlog = *b;
	if (b->sampled_us == 0)
		q->backlog.sampled_us = clock_monotonic_us();
}

void
queue_stopped(struct queue *q)
{
	q->stopped = true;
	q->connected = false;
	engine_wake(q->engine);
}

uint64_t
queue_reconnect_delay_us(unsigned failures)
{
	struct queue bounds = {
		.backoff_min_us = 100 * USEC_PER_MSEC,
		.backoff_max_us = 10 * USEC_PER_SEC,
	};

	return failures == 0 ? 0 : retry_delay_us(&bounds, failures);
}
