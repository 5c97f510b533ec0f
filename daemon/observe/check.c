/*
 * One look after the other at each dependency, and what the results mean.
 */
#include "observe/check_impl.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define DAY_S	86400

const char *
dependency_state_name(enum dependency_state s)
{
	switch (s) {
	case DEPENDENCY_PENDING:
		return "pending";
	case DEPENDENCY_UP:
		return "up";
	case DEPENDENCY_DOWN:
		return "down";
	}
	return "?";
}

bool
dependency_ok(const struct dependency *d)
{
	return d->state == DEPENDENCY_UP && !d->expiring;
}

bool
dependency_matters(const struct dependency *d)
{
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, d->set->engine, l)
		if (queue_requires(q, d->name))
			return true;
	return d->critical;
}

static void
expiry_text(const struct dependency *d, char *out, size_t size)
{
	if (d->days_left < 0)
		snprintf(out, size, "the certificate has ended");
	else
		snprintf(out, size, "the certificate ends in %" PRId64
		    " day%s (DaysLeft=%u)", d->days_left,
		    d->days_left == 1 ? "" : "s", d->days_min);
}

void
dependency_detail(const struct dependency *d, char *out, size_t size)
{
	switch (d->state) {
	case DEPENDENCY_PENDING:
		snprintf(out, size, "no result yet");
		break;
	case DEPENDENCY_UP:
		if (d->bad != 0)
			snprintf(out, size, "failed %u of %u times: %s", d->bad,
			    d->failures, d->error.text);
		else if (d->expiring)
			expiry_text(d, out, size);
		else
			snprintf(out, size, "%s", "");
		break;
	case DEPENDENCY_DOWN:
		if (d->good != 0)
			snprintf(out, size, "works again %u of %u times; it "
			    "was: %s", d->good, d->successes, d->error.text);
		else
			snprintf(out, size, "%s", d->error.text);
		break;
	}
}

/* ---- what a result means ---- */

/* "; queues a, b pause", and those that another check still keeps. */
static void
add_queues(struct dependency *d, struct buffer *b, const char *does,
    const char *one_does, bool waiting)
{
	unsigned n = 0, i = 0;
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, d->set->engine, l)
		n += queue_requires(q, d->name) && !q->removed &&
		    (queue_closed_gate(q) != NULL) == waiting;
	if (n == 0)
		return;
	buffer_printf(b, "; queue%s ", n == 1 ? "" : "s");
	engine_foreach_queue(q, d->set->engine, l)
		if (queue_requires(q, d->name) && !q->removed &&
		    (queue_closed_gate(q) != NULL) == waiting)
			buffer_printf(b, "%s%s", i++ == 0 ? "" : ", ", q->name);
	buffer_printf(b, " %s", n == 1 ? one_does : does);
}

static void
log_down(struct dependency *d)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char span[CLOCK_SPAN_BYTES];

	add_queues(d, &b, "pause", "pauses", true);
	log_warning(&((struct log_fields){ .event = EVENT_CHECK_DOWN,
	    .check = d->name,
	    .error_type = d->error.code }), "down: %s (%s)%s; looking again "
	    "every %s", d->error.text, d->error.code, buffer_cstr(&b),
	    clock_span(span, d->interval_us));
}

static void
log_up(struct dependency *d, bool first, uint64_t was_us)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char span[CLOCK_SPAN_BYTES];

	add_queues(d, &b, first ? "start" : "resume slowly",
	    first ? "starts" : "resumes slowly", false);
	add_queues(d, &b, "still wait for another check",
	    "still waits for another check", true);
	if (first)
		log_info(&((struct log_fields){ .event = EVENT_CHECK_UP,
		    .check = d->name }), "up%s",
		    buffer_cstr(&b));
	else
		log_notice(&((struct log_fields){ .event = EVENT_CHECK_UP,
		    .check = d->name }),
		    "up again after %s%s", clock_span(span, was_us),
		    buffer_cstr(&b));
}

static void
enter(struct dependency *d, enum dependency_state state)
{
	enum dependency_state old = d->state;
	uint64_t now = clock_monotonic_us(), was_us = now - d->since_us;

	if (state == old)
		return;
	d->state = state;
	d->since_us = now;
	engine_gate(d->set->engine, d->name, state == DEPENDENCY_UP);
	if (state == DEPENDENCY_DOWN)
		log_down(d);
	else
		log_up(d, old == DEPENDENCY_PENDING, was_us);
}

void
check_judge_expiry(struct dependency *d)
{
	bool expiring = d->days_known && d->days_left < (int64_t)d->days_min;
	char text[128];

	if (expiring && !d->expiring) {
		expiry_text(d, text, sizeof(text));
		log_warning(&((struct log_fields){
		    .event = EVENT_CERTIFICATE_ENDS,
		    .check = d->name }),
		    "%s: renew it", text);
	}
	d->expiring = expiring;
}

/* ---- one look ---- */

/* Over, with whatever result: the next one is due Interval= after this one
   began. */
static void
over(struct dependency *d)
{
	uint64_t now = clock_monotonic_us();
	uint64_t next = sat_add(d->started_us, d->interval_us);

	d->busy = false;
	timer_cancel(d->loop, &d->limit);
	d->kind->cancel(d);
	d->latency_us = MAX(now - d->started_us, (uint64_t)1);
	d->looked_us = now;
	d->looks++;
	if (d->set->running)
		timer_arm_at(d->loop, &d->due, MAX(next, now));
}

void
check_passed(struct dependency *d)
{
	if (!d->busy)
		return;
	over(d);
	d->bad = 0;
	d->good = MIN(d->good + 1, d->successes);
	check_judge_expiry(d);
	if (d->state == DEPENDENCY_PENDING || d->good >= d->successes)
		enter(d, DEPENDENCY_UP);
}

void
check_failed(struct dependency *d, const struct error *err)
{
	if (!d->busy)
		return;
	d->error = *err;
	d->days_known = false;
	over(d);
	d->failed++;
	d->good = 0;
	d->bad = MIN(d->bad + 1, d->failures);
	if (d->state == DEPENDENCY_PENDING || d->bad >= d->failures)
		enter(d, DEPENDENCY_DOWN);
}

void
check_saw_certificate(struct dependency *d, int64_t until_s)
{
	int64_t left = until_s - (int64_t)(clock_realtime_us() / USEC_PER_SEC);

	d->days_known = true;
	d->days_left = left >= 0 ? left / DAY_S : -1 - (-left / DAY_S);
}

static void
on_limit(struct timer *t)
{
	struct dependency *d = t->owner;
	char span[CLOCK_SPAN_BYTES];
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "timeout", "%s within %s (Timeout=)",
	    d->kind->stage(d), clock_span(span, d->timeout_us));
	check_failed(d, &err);
}

static void
on_due(struct timer *t)
{
	struct dependency *d = t->owner;
	struct error err = ERROR_INIT;

	d->busy = true;
	d->started_us = clock_monotonic_us();
	timer_arm(d->loop, &d->limit, d->timeout_us);
	if (d->kind->start(d, &err) < 0)
		check_failed(d, &err);
}

void
check_look_now(struct dependency *d)
{
	if (d->set->running && !d->busy)
		timer_arm(d->loop, &d->due, 0);
}

void
check_look_init(struct dependency *d)
{
	timer_init(&d->due, "check", on_due, d);
	timer_init(&d->limit, "check.limit", on_limit, d);
}

void
check_look_stop(struct dependency *d)
{
	timer_cancel(d->loop, &d->due);
	timer_cancel(d->loop, &d->limit);
	d->kind->cancel(d);
	d->busy = false;
}
