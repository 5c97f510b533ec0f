/*
 * Health is progress: what each queue and pool achieved lately, not that it is
 * there.  A broker that cannot be reached is degraded and never down, since
 * restarting us would not bring it back.
 */
#include "observe/watch.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

#define LOOP_LATE_DEGRADED_US	(2 * USEC_PER_SEC)
#define LOOP_LATE_DOWN_US	(10 * USEC_PER_SEC)
/* One outage breaks many settlements at one moment; three are a habit. */
#define SETTLE_ERROR_SECONDS	3

const char *
health_name(enum health h)
{
	static const char *const names[] = {
		[HEALTH_STARTING] = "starting",
		[HEALTH_OK] = "ok",
		[HEALTH_DEGRADED] = "degraded",
		[HEALTH_DOWN] = "down",
		[HEALTH_DRAINING] = "draining",
		[HEALTH_STANDBY] = "standby",
		[HEALTH_WARNING] = "warning",
	};

	return (size_t)h < ARRAY_SIZE(names) && names[h] != NULL ? names[h] :
	    "unknown";
}

static void
check_set(struct check *, enum health, const char *fmt, ...) _printf_(3, 4);

static void
check_set(struct check *c, enum health state, const char *fmt, ...)
{
	va_list ap;

	if (c->state != state)
		c->since_us = clock_monotonic_us();
	c->state = state;
	va_start(ap, fmt);
	vsnprintf(c->detail, sizeof(c->detail), fmt, ap);
	va_end(ap);
}

/* ---- checks ---- */

enum health
health_of_dependency(const struct dependency *d)
{
	if (dependency_ok(d))
		return HEALTH_OK;
	if (d->state == DEPENDENCY_PENDING)
		return HEALTH_STARTING;
	return dependency_matters(d) ? HEALTH_DEGRADED : HEALTH_WARNING;
}

/* The first check that keeps it, or NULL when nobody told us of it. */
static const struct dependency *
missing_dependency(const struct observer *o, const struct queue *q)
{
	const char *name = queue_closed_gate(q);

	return name != NULL && o->checks != NULL ?
	    checks_find(o->checks, name) : NULL;
}

static void
judge_gated(struct observer *o, struct check *c, const struct queue *q)
{
	const struct dependency *d = missing_dependency(o, q);
	char why[256];

	if (d == NULL) {
		check_set(c, HEALTH_DEGRADED, "paused: a required check fails");
		return;
	}
	dependency_detail(d, why, sizeof(why));
	if (d->state == DEPENDENCY_PENDING)
		check_set(c, HEALTH_STARTING, "waiting for the first result of "
		    "check %s", d->name);
	else
		check_set(c, HEALTH_DEGRADED, "paused while check %s is down: "
		    "%s", d->name, why);
}

/* ---- queues ---- */

static bool
pool_has_room(const struct pool *p)
{
	if (p == NULL || !p->up)
		return false;
	if (p->type != NULL && p->type->ops->slots != NULL)
		return p->type->ops->slots((struct pool *)p) != 0;
	return p->busy < p->max;
}

/* Something could be done for it right now, by us. */
static bool
queue_has_work(const struct queue *q, uint64_t now)
{
	if (!q->connected || q->paused != 0)
		return false;
	if (q->nwaiting != 0 && pool_has_room(q->pool))
		return true;
	return q->credit != 0 && q->backlog.waiting_known &&
	    q->backlog.waiting != 0 && q->backlog.sampled_us != 0 &&
	    now - MIN(now, q->backlog.sampled_us) < STALL_US;
}

static uint64_t
queue_stall_limit_us(const struct queue *q)
{
	double two;

	if (q->rate_limit <= 0)
		return STALL_US;
	/* RateLimit=1/h may well be silent for longer. */
	two = 2e6 / q->rate_limit;
	return two > (double)STALL_US ? (uint64_t)two : STALL_US;
}

static void
watch_stall(struct watch_queue *w, const struct queue *q, uint64_t now)
{
	const struct queue_stats *s = &q->stats;
	uint64_t progress = s->received + s->done + s->retried + s->dead +
	    s->released + s->failed + s->processing.count;

	if (!queue_has_work(q, now))
		w->stalled_us = 0;
	else if (progress != w->progress || w->stalled_us == 0)
		w->stalled_us = now;
	w->progress = progress;
}

static void
judge_paused(struct observer *o, struct check *c, const struct queue *q,
    uint64_t now)
{
	char span[CLOCK_SPAN_BYTES], iso[CLOCK_ISO_BYTES];

	if (q->paused & PAUSED_BY_POOL) {
		const struct pool *p = q->pool;

		/* Its pool is still starting: judge_pool() says how long. */
		if (p != NULL && !p->up && !error_is_set(&p->error) &&
		    !watch_find_pool(o, p)->was_up &&
		    now - o->begun_us < STARTING_GRACE_US) {
			check_set(c, HEALTH_STARTING, "waiting for pool %s",
			    p->name);
			return;
		}
		check_set(c, HEALTH_DEGRADED,
		    "paused: pool %s cannot run anything%s%s",
		    p != NULL ? p->name : "?",
		    p != NULL && error_is_set(&p->error) ? ": " : "",
		    p != NULL && error_is_set(&p->error) ? p->error.text : "");
	} else if (q->paused & PAUSED_BY_RATE_LIMITED) {
		uint64_t until = MAX(q->rate_limited_until_us, now);

		check_set(c, HEALTH_DEGRADED,
		    "paused by rate_limited until %s (%s more)",
		    clock_iso(iso, watch_realtime_us(until), false),
		    clock_span(span, (until - now + USEC_PER_SEC - 1) /
		    USEC_PER_SEC * USEC_PER_SEC));
	} else if (q->paused & PAUSED_BY_CHECK) {
		judge_gated(o, c, q);
	} else if (q->paused & PAUSED_BY_OPERATOR) {
		check_set(c, HEALTH_OK, "paused by operator");
	} else {
		check_set(c, HEALTH_OK, "draining");
	}
}

static void
judge_queue(struct observer *o, struct watch_queue *w, const struct queue *q,
    uint64_t now)
{
	char span[CLOCK_SPAN_BYTES], iso[CLOCK_ISO_BYTES];
	struct check *c = &w->check;

	watch_stall(w, q, now);
	if (o->engine->phase >= ENGINE_DRAINING || q->stopping) {
		check_set(c, HEALTH_OK, "draining");
		return;
	}
	if (o->engine->phase == ENGINE_STANDBY) {
		check_set(c, HEALTH_OK, "standby");
		return;
	}
	if (!q->connected) {
		if (error_is_set(&q->error))
			check_set(c, HEALTH_DEGRADED,
			    "not connected since %s: %s",
			    clock_iso(iso, watch_realtime_us(q->changed_us),
			    false), q->error.text);
		else if (!w->was_up && now - o->begun_us < STARTING_GRACE_US)
			check_set(c, HEALTH_STARTING, "connecting");
		else
			check_set(c, HEALTH_DEGRADED, "not connected");
		return;
	}
	if (q->paused != 0) {
		judge_paused(o, c, q, now);
		return;
	}
	if (watch_settle_error_seconds(w, q) >= SETTLE_ERROR_SECONDS) {
		check_set(c, HEALTH_DEGRADED,
		    "the broker refused %" PRIu64
		    " settlements in the last minute; their messages come "
		    "again", q->stats.settle_errors -
		    w->samples[w->first].settle_errors);
		return;
	}
	if (w->stalled_us != 0 &&
	    now - w->stalled_us >= queue_stall_limit_us(q)) {
		clock_span(span, now - w->stalled_us);
		if (q->nwaiting != 0)
			check_set(c, HEALTH_DEGRADED, "%u messages wait here "
			    "and workers are free, but nothing moved for %s",
			    q->nwaiting, span);
		else
			check_set(c, HEALTH_DEGRADED, "backlog %" PRIu64
			    ", but nothing was received or done for %s",
			    q->backlog.waiting, span);
		return;
	}
	check_set(c, HEALTH_OK, "%s", "");
}

/* ---- pools ---- */

static void
judge_pool(struct observer *o, struct watch_pool *w, const struct pool *p,
    uint64_t now)
{
	bool all_busy = p->workers != 0 && p->busy >= p->workers &&
	    p->workers >= p->max;
	char span[CLOCK_SPAN_BYTES], limit[CLOCK_SPAN_BYTES];
	struct check *c = &w->check;

	if (!all_busy)
		w->stuck_us = 0;
	else if (w->verdicts != p->stats.verdicts || w->stuck_us == 0)
		w->stuck_us = now;
	w->verdicts = p->stats.verdicts;

	if (o->engine->phase >= ENGINE_DRAINING || p->draining) {
		check_set(c, HEALTH_OK, "draining");
	} else if (o->engine->phase == ENGINE_STANDBY) {
		check_set(c, HEALTH_OK, "standby");
	} else if (!p->up) {
		if (error_is_set(&p->error))
			check_set(c, HEALTH_DEGRADED, "%s", p->error.text);
		else if (!w->was_up && now - o->begun_us < STARTING_GRACE_US)
			check_set(c, HEALTH_STARTING, "starting workers");
		else
			check_set(c, HEALTH_DEGRADED, "no worker can run");
	} else if (w->stuck_us != 0 && p->timeout_us != 0 &&
	    p->timeout_us < USEC_INFINITY / 2 &&
	    now - w->stuck_us > 2 * p->timeout_us) {
		check_set(c, HEALTH_DEGRADED,
		    "all %u workers are busy and none gave a verdict for %s "
		    "(Timeout=%s)", p->workers,
		    clock_span(span, now - w->stuck_us),
		    clock_span(limit, p->timeout_us));
	} else {
		check_set(c, HEALTH_OK, "%s", "");
	}
}

/* ---- the loop ---- */

static void
judge_loop(struct observer *o, uint64_t now)
{
	/* The last sample was late, or the next one is already. */
	uint64_t late = MAX(o->late_us,
	    now - MIN(now, o->tick_us + SAMPLE_EVERY_US));
	char held[CLOCK_SPAN_BYTES], ago[CLOCK_SPAN_BYTES];
	struct check *c = &o->loop_check;

	if (late >= LOOP_LATE_DOWN_US)
		check_set(c, HEALTH_DOWN, "the loop is %s late",
		    clock_span(held, late));
	else if (o->held_up_us >= LOOP_LATE_DEGRADED_US &&
	    now - o->held_up_at_us < WINDOW_US)
		check_set(c, HEALTH_DEGRADED,
		    "the loop was held up for %s, %s ago",
		    clock_span(held, o->held_up_us),
		    clock_span(ago, now - o->held_up_at_us));
	else
		check_set(c, HEALTH_OK, "%s", "");
}

/* ---- all of it ---- */

static enum health
judge_overall(struct observer *o, uint64_t now)
{
	bool pending = false, degraded, workable = false, has_queue = false;
	struct dependency *d;
	struct list *l;
	struct queue *q;

	if (o->engine->phase >= ENGINE_DRAINING)
		return HEALTH_DRAINING;
	degraded = o->loop_check.state == HEALTH_DEGRADED;
	list_foreach(l, &o->queues) {
		const struct watch_queue *w =
		    list_entry(l, struct watch_queue, link);

		/* With an error it is not starting any more: it failed. */
		pending |= w->check.state == HEALTH_STARTING;
		degraded |= w->check.state != HEALTH_OK;
	}
	list_foreach(l, &o->pools) {
		const struct watch_pool *w =
		    list_entry(l, struct watch_pool, link);

		pending |= w->check.state == HEALTH_STARTING;
		degraded |= w->check.state != HEALTH_OK;
	}
	if (o->checks != NULL)
		checks_foreach(d, o->checks, l)
			degraded |= health_of_dependency(d) == HEALTH_DEGRADED;
	if (o->loop_check.state == HEALTH_DOWN)
		return HEALTH_DOWN;
	if (o->engine->phase == ENGINE_STANDBY)
		return HEALTH_STANDBY;
	if (pending && now - o->begun_us < STARTING_GRACE_US)
		return HEALTH_STARTING;
	engine_foreach_queue(q, o->engine, l) {
		has_queue = true;
		workable |= q->pool != NULL && q->pool->up;
	}
	if (has_queue && !workable)
		return HEALTH_DOWN;
	return degraded ? HEALTH_DEGRADED : HEALTH_OK;
}

void
health_judge(struct observer *o)
{
	uint64_t now = clock_monotonic_us();
	enum health h;
	struct list *l;
	struct queue *q;
	struct pool *p;

	engine_foreach_queue(q, o->engine, l)
		judge_queue(o, watch_find_queue(o, q), q, now);
	engine_foreach_pool(p, o->engine, l)
		judge_pool(o, watch_find_pool(o, p), p, now);
	judge_loop(o, now);
	h = judge_overall(o, now);
	if (h != o->overall) {
		o->overall = h;
		o->overall_since_us = now;
	}
}

enum health
observer_health(struct observer *o)
{
	watch_sync(o);
	health_judge(o);
	return o->overall;
}

bool
observer_ready(struct observer *o)
{
	struct list *l;
	struct queue *q;

	if (o->engine->phase != ENGINE_RUNNING)
		return false;
	engine_foreach_queue(q, o->engine, l)
		if (q->connected && q->pool != NULL && q->pool->up)
			return true;
	return false;
}

/* The first bad check, worst first: what the line shall name. */
static const struct check *
worst_check(struct observer *o, const char **ret_kind, const char **ret_name)
{
	const struct check *worst = NULL;
	struct list *l;

	if (o->loop_check.state != HEALTH_OK) {
		*ret_kind = "loop";
		*ret_name = NULL;
		return &o->loop_check;
	}
	list_foreach(l, &o->pools) {
		struct watch_pool *w = list_entry(l, struct watch_pool, link);

		if (w->check.state != HEALTH_OK && worst == NULL) {
			worst = &w->check;
			*ret_kind = "pool";
			*ret_name = w->name;
		}
	}
	list_foreach(l, &o->queues) {
		struct watch_queue *w = list_entry(l, struct watch_queue, link);

		if (w->check.state != HEALTH_OK && worst == NULL) {
			worst = &w->check;
			*ret_kind = "queue";
			*ret_name = w->name;
		}
	}
	return worst;
}

/* "; check db: ...", of one that makes the whole degraded by itself. */
static void
add_bad_check(const struct observer *o, struct buffer *b)
{
	struct dependency *d;
	struct list *l;
	char why[256];

	if (o->checks == NULL)
		return;
	checks_foreach(d, o->checks, l) {
		if (health_of_dependency(d) != HEALTH_DEGRADED)
			continue;
		dependency_detail(d, why, sizeof(why));
		buffer_printf(b, "; check %s: %s", d->name, why);
		return;
	}
}

void
observer_line(struct observer *o, struct buffer *b)
{
	const char *kind = "", *name = NULL;
	const struct check *c;
	enum health h = observer_health(o);
	unsigned nqueues = 0, in_flight = 0;
	uint64_t backlog = 0;
	bool known = false;
	double rate = 0;
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, o->engine, l) {
		struct recent recent;

		watch_recent(watch_find_queue(o, q), q, &recent);
		nqueues++;
		rate += recent.rate;
		in_flight += q->nwaiting + q->nheld + q->ndelayed +
		    q->nrunning + q->nsettling;
		if (q->backlog.sampled_us != 0 && q->backlog.waiting_known) {
			backlog += q->backlog.waiting;
			known = true;
		}
	}
	buffer_add_str(b, health_name(h));
	buffer_printf(b, ": %u queue%s, %.*f/s", nqueues,
	    nqueues == 1 ? "" : "s", rate > 0 && rate < 9.95 ? 1 : 0, rate);
	if (known)
		buffer_printf(b, ", backlog %" PRIu64, backlog);
	if (h == HEALTH_DRAINING)
		buffer_printf(b, ", %u in flight", in_flight);
	else if (h != HEALTH_OK && h != HEALTH_STANDBY &&
	    (c = worst_check(o, &kind, &name)) != NULL)
		buffer_printf(b, "; %s%s%s: %s", kind, name != NULL ? " " : "",
		    name != NULL ? name : "", c->detail);
	else if (h != HEALTH_OK)
		add_bad_check(o, b);
}
