/*
 * The status document.  What is not known is null, never zero.
 */
#include "observe/watch.h"

#include <stdio.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json.h"
#include "guard/guard.h"
#include "guard/screen.h"
#include "guard/security.h"
#include "observe/alert.h"

/* Small ones keep their digits: 0.4 ms is not 0 ms. */
static json_t *
ms(double us)
{
	return json_number(us / 1000.0, us < 10000 ? 3 : 1);
}

static json_t *
seconds(uint64_t us)
{
	return json_number((double)us / 1e6, 1);
}

static json_t *
seconds_since(uint64_t then_us)
{
	uint64_t now = clock_monotonic_us();

	return then_us == 0 ? json_null() : seconds(now - MIN(now, then_us));
}

static json_t *
time_at(uint64_t monotonic_us)
{
	char iso[CLOCK_ISO_BYTES];

	return json_string(clock_iso(iso, watch_realtime_us(monotonic_us),
	    false));
}

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new_nocheck(object, key, value);
}

/* Names come from the configuration: not even they need be UTF-8. */
static void
set_named(json_t *object, const char *name, json_t *value)
{
	json_t *key = json_text(name);

	set(object, json_string_value(key), value);
	json_decref(key);
}

static json_t *
error_object(const struct error *e, uint64_t since_us)
{
	json_t *j = json_object();

	set(j, "class", json_string(error_class_name(e->class)));
	set(j, "code", json_text(e->code));
	set(j, "text", json_text(e->text));
	set(j, "since", time_at(since_us));
	return j;
}

/* The kind's own figures come behind and never replace ours. */
static void
add_own(json_t *object, json_t *own)
{
	(void)json_object_update_missing(object, own);
	json_decref(own);
}

/* ---- queues ---- */

static json_t *
paused_by(unsigned paused)
{
	static const struct {
		unsigned bit;
		const char *name;
	} reasons[] = {
		{ PAUSED_BY_OPERATOR, "operator" },
		{ PAUSED_BY_RATE_LIMITED, "rate_limited" },
		{ PAUSED_BY_CHECK, "check" },
		{ PAUSED_BY_DRAIN, "drain" },
		{ PAUSED_BY_POOL, "pool" },
	};
	json_t *a = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (paused & reasons[i].bit)
			(void)json_array_append_new(a,
			    json_string(reasons[i].name));
	return a;
}

static void
add_backlog(json_t *j, const struct backlog *b)
{
	bool sampled = b->sampled_us != 0;

	set(j, "backlog", sampled && b->waiting_known ? json_count(b->waiting) :
	    json_null());
	if (sampled && b->oldest_us != 0)
		set(j, "backlog_age_seconds", seconds(b->oldest_us));
	else if (sampled && b->waiting_known && b->waiting == 0)
		set(j, "backlog_age_seconds", json_integer(0));
	else
		set(j, "backlog_age_seconds", json_null());
	set(j, "backlog_sampled_seconds", seconds_since(b->sampled_us));
	set(j, "delayed_backlog", sampled && b->delayed_known ?
	    json_count(b->delayed) : json_null());
	set(j, "dead_backlog", sampled && b->dead_known ? json_count(b->dead) :
	    json_null());
}

static void
add_recent(json_t *j, const struct queue *q, const struct recent *r)
{
	const struct histogram *h = &r->processing;
	json_t *p = json_object(), *e = json_object();
	bool any = h->count != 0;

	set(j, "error_rate_percent", json_number(r->error_percent, 2));
	set(j, "rate_per_second", json_number(r->rate, r->rate < 10 ? 2 : 1));
	set(j, "received_per_second",
	    json_number(r->received_rate, r->received_rate < 10 ? 2 : 1));
	set(p, "mean", any ? ms(histogram_mean_us(h)) : json_null());
	set(p, "p50", any ? ms((double)histogram_percentile(h, 50)) :
	    json_null());
	set(p, "p95", any ? ms((double)histogram_percentile(h, 95)) :
	    json_null());
	set(p, "p99", any ? ms((double)histogram_percentile(h, 99)) :
	    json_null());
	set(j, "processing_ms", p);
	for (unsigned i = 0; i < q->stats.nerrors; i++)
		set_named(e, q->stats.errors[i].type,
		    json_count(q->stats.errors[i].count));
	set(j, "errors", e);
}

static json_t *
queue_object(struct observer *o, const struct queue *q)
{
	const struct queue_stats *s = &q->stats;
	uint64_t now = clock_monotonic_us();
	json_t *j = json_object();
	struct recent recent;

	watch_recent(watch_find_queue(o, q), q, &recent);
	set(j, "type", json_string(q->type->name));
	set(j, "pool", q->pool != NULL ? json_text(q->pool->name) :
	    json_null());
	set(j, "connected", json_boolean(q->connected));
	set(j, "paused", json_boolean(q->paused != 0));
	set(j, "paused_by", paused_by(q->paused));
	set(j, "paused_until", (q->paused & PAUSED_BY_RATE_LIMITED) &&
	    q->rate_limited_until_us > now ? time_at(q->rate_limited_until_us) :
	    json_null());
	/* While connected it tells why it was not, and since when it is. */
	set(j, "error", !q->connected && error_is_set(&q->error) ?
	    error_object(&q->error, q->changed_us) : json_null());
	set(j, "last_error", q->connected && error_is_set(&q->error) ?
	    error_object(&q->error, q->changed_us) : json_null());
	add_backlog(j, &q->backlog);
	set(j, "in_flight", json_count((uint64_t)q->nwaiting + q->nheld +
	    q->ndelayed + q->nrunning + q->nsettling));
	set(j, "waiting", json_count(q->nwaiting));
	set(j, "held", json_count(q->nheld));
	set(j, "delayed", json_count(q->ndelayed));
	set(j, "running", json_count(q->nrunning));
	set(j, "settling", json_count(q->nsettling));
	set(j, "held_bytes", json_count(q->bytes_held));
	set(j, "prefetch", q->prefetch != 0 ? json_count(q->prefetch) :
	    json_null());
	set(j, "credit", json_count(q->credit));
	set(j, "ramp", q->ramp != 0 ? json_count(q->ramp) : json_null());
	set(j, "received", json_count(s->received));
	set(j, "redelivered", json_count(s->redelivered));
	set(j, "done", json_count(s->done));
	set(j, "retried", json_count(s->retried));
	set(j, "dead", json_count(s->dead));
	set(j, "deferred", json_count(s->deferred));
	set(j, "dropped", json_count(s->dropped));
	set(j, "released", json_count(s->released));
	add_recent(j, q, &recent);
	set(j, "leases_extended", json_count(s->leases_extended));
	set(j, "leases_lost", json_count(s->leases_lost));
	set(j, "settle_errors", json_count(s->settle_errors));
	set(j, "connects", json_count(s->connects));
	set(j, "last_received_seconds", seconds_since(s->last_received_us));
	set(j, "last_done_seconds", seconds_since(s->last_done_us));
	if (q->type->ops->status != NULL && !q->stopped) {
		json_t *own = json_object();

		q->type->ops->status((struct queue *)q, own);
		add_own(j, own);
	}
	return j;
}

/* ---- pools ---- */

static json_t *
pool_object(const struct pool *p)
{
	const struct pool_stats *s = &p->stats;
	json_t *j = json_object(), *queues = json_array();
	unsigned busy = MIN(p->busy, p->workers);
	struct list *l;

	set(j, "workers", json_count(p->workers));
	set(j, "busy", json_count(p->busy));
	set(j, "min", json_count(p->min));
	set(j, "max", json_count(p->max));
	set(j, "utilization_percent", p->workers == 0 ? json_integer(0) :
	    json_number(100.0 * busy / p->workers, 0));
	set(j, "restarts", json_count(s->restarts));
	set(j, "up", json_boolean(p->up));
	set(j, "error", !p->up && error_is_set(&p->error) ?
	    error_object(&p->error, p->changed_us) : json_null());
	set(j, "running", json_count(p->running));
	set(j, "started", json_count(s->started));
	set(j, "crashes", json_count(s->crashes));
	set(j, "timeouts", json_count(s->timeouts));
	set(j, "verdicts", json_count(s->verdicts));
	set(j, "busy_seconds", seconds(s->busy_us));
	set(j, "last_verdict_seconds", seconds_since(s->last_verdict_us));
	list_foreach(l, &p->queues)
		(void)json_array_append_new(queues,
		    json_text(list_entry(l, struct queue, pool_link)->name));
	set(j, "queues", queues);
	if (p->type->ops->status != NULL) {
		json_t *own = json_object();

		p->type->ops->status((struct pool *)p, own);
		add_own(j, own);
	}
	return j;
}

/* ---- the rest ---- */

static void
add_check(json_t *checks, const char *kind, const char *name,
    const struct check *c)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *j = json_object();

	buffer_printf(&b, "%s%s%s", kind, name != NULL ? ":" : "",
	    name != NULL ? name : "");
	set(j, "name", json_text(buffer_cstr(&b)));
	set(j, "status", json_string(health_name(c->state)));
	set(j, "detail", json_text(c->detail));
	set(j, "since", time_at(c->since_us));
	(void)json_array_append_new(checks, j);
}

/* ---- what handlers need ---- */

static json_t *
names_of_queues(const struct engine *e, const struct dependency *d)
{
	json_t *a = json_array();
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, e, l)
		if (!q->removed && queue_requires(q, d->name))
			(void)json_array_append_new(a, json_text(q->name));
	return a;
}

static json_t *
dependency_object(const struct engine *e, const struct dependency *d)
{
	json_t *j = json_object();
	char why[384];

	dependency_detail(d, why, sizeof(why));
	set(j, "kind", json_string(d->kind->key));
	set(j, "target", json_text(d->target));
	set(j, "status", json_string(dependency_state_name(d->state)));
	set(j, "ok", d->state == DEPENDENCY_PENDING ? json_null() :
	    json_boolean(dependency_ok(d)));
	set(j, "detail", json_text(why));
	set(j, "since", time_at(d->since_us));
	set(j, "latency_ms", d->latency_us != 0 ? ms((double)d->latency_us) :
	    json_null());
	set(j, "days_left", d->days_known ? json_integer(d->days_left) :
	    json_null());
	set(j, "last_looked_seconds", seconds_since(d->looked_us));
	set(j, "looks", json_count(d->looks));
	set(j, "failed", json_count(d->failed));
	set(j, "queues", names_of_queues(e, d));
	return j;
}

static json_t *
dependencies_object(const struct observer *o)
{
	json_t *j = json_object();
	struct dependency *d;
	struct list *l;

	if (o->checks != NULL)
		checks_foreach(d, o->checks, l)
			set_named(j, d->name, dependency_object(o->engine, d));
	return j;
}

static void
add_dependency(json_t *checks, const struct dependency *d)
{
	struct check c = { .state = health_of_dependency(d),
		.since_us = d->since_us };
	json_t *j;

	dependency_detail(d, c.detail, sizeof(c.detail));
	add_check(checks, "check", d->name, &c);
	j = json_array_get(checks, json_array_size(checks) - 1);
	if (d->state == DEPENDENCY_PENDING)
		set(j, "status", json_string("pending"));
	set(j, "latency_ms", d->latency_us != 0 ? ms((double)d->latency_us) :
	    json_null());
	set(j, "days_left", d->days_known ? json_integer(d->days_left) :
	    json_null());
}

static json_t *
checks_array(struct observer *o)
{
	json_t *checks = json_array();
	struct dependency *d;
	struct list *l;

	list_foreach(l, &o->queues) {
		struct watch_queue *w = list_entry(l, struct watch_queue, link);

		add_check(checks, "queue", w->name, &w->check);
	}
	list_foreach(l, &o->pools) {
		struct watch_pool *w = list_entry(l, struct watch_pool, link);

		add_check(checks, "pool", w->name, &w->check);
	}
	if (o->checks != NULL)
		checks_foreach(d, o->checks, l)
			add_dependency(checks, d);
	add_check(checks, "loop", NULL, &o->loop_check);
	return checks;
}

static json_t *
security_object(const struct observer *o)
{
	json_t *j = json_object(), *screens = json_object();
	const struct screen *s;

	for (enum security_kind i = 1; i < SECURITY_NKINDS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_per_minute",
		    security_kind_name(i));
		set(j, security_kind_name(i), json_count(security_count(i)));
		set(j, name, json_count(security_per_minute(i)));
	}
	for (size_t i = 0; o->guards != NULL &&
	    (s = guards_screen(o->guards, i)) != NULL; i++)
		set_named(screens, screen_name(s), json_pack("{s:s,s:o,s:o}",
		    "action", screen_action_name(s),
		    "looked", json_count(screen_stats(s)->looked),
		    "suspicious", json_count(screen_stats(s)->suspicious)));
	set(j, "screens", screens);
	return j;
}

static json_t *
loop_object(const struct loop *loop)
{
	json_t *j = json_object();
	struct loop_stats s;

	loop_get_stats(loop, &s);
	set(j, "turns", json_count(s.turns));
	set(j, "slow_turns", json_count(s.slow_turns));
	set(j, "longest_turn_ms", ms((double)s.longest_turn_us));
	set(j, "longest_callback_ms", ms((double)s.longest_callback_us));
	set(j, "longest_callback", s.longest_name != NULL ?
	    json_text(s.longest_name) : json_null());
	set(j, "callbacks", json_count(s.callbacks));
	return j;
}

static json_t *
process_object(const struct loop *loop)
{
	struct watch_process p;
	json_t *j = json_object();

	watch_process(loop, &p);
	set(j, "rss_bytes", json_number(p.rss_bytes, 0));
	set(j, "cpu_seconds", json_number(p.cpu_seconds, 2));
	set(j, "descriptors", json_number(p.descriptors, 0));
	set(j, "descriptors_max", json_number(p.descriptors_max, 0));
	return j;
}

/* The sum of what is known; null when nothing is. */
static json_t *
backlog_sum(struct engine *e, bool *ret_complete)
{
	bool any = false, all = true;
	uint64_t sum = 0;
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, e, l) {
		bool known = q->backlog.sampled_us != 0 &&
		    q->backlog.waiting_known;

		any |= known;
		all &= known;
		if (known)
			sum = sat_add(sum, q->backlog.waiting);
	}
	*ret_complete = all;
	return any || all ? json_count(sum) : json_null();
}

json_t *
observer_status(struct observer *o)
{
	struct engine *e = o->engine;
	json_t *j = json_object(), *queues = json_object();
	json_t *pools = json_object();
	uint64_t now = clock_monotonic_us();
	enum health h = observer_health(o);
	char iso[CLOCK_ISO_BYTES];
	struct list *l;
	struct queue *q;
	struct pool *p;
	bool complete;

	set(j, "engine", json_string("bot-operator"));
	set(j, "version", json_string(PACKAGE_VERSION));
	set(j, "instance", json_text(observer_instance(o)));
	set(j, "status", json_string(health_name(h)));
	set(j, "since", time_at(o->overall_since_us));
	set(j, "started", json_string(clock_iso(iso, o->started_realtime_us,
	    false)));
	set(j, "uptime_seconds", json_count((now - o->started_us) /
	    USEC_PER_SEC));
	set(j, "ready", json_boolean(observer_ready(o)));
	if (e->phase == ENGINE_DRAINING)
		set(j, "drain_seconds_left", seconds(e->drain_until_us -
		    MIN(e->drain_until_us, now)));
	set(j, "checks", checks_array(o));
	set(j, "backlog", backlog_sum(e, &complete));
	set(j, "backlog_complete", json_boolean(complete));
	engine_foreach_queue(q, e, l)
		set_named(queues, q->name, queue_object(o, q));
	set(j, "queues", queues);
	engine_foreach_pool(p, e, l)
		set_named(pools, p->name, pool_object(p));
	set(j, "pools", pools);
	set(j, "dependencies", dependencies_object(o));
	set(j, "totals", json_pack("{s:I,s:I,s:I,s:I}",
	    "done", (json_int_t)e->done, "retried", (json_int_t)e->retried,
	    "dead", (json_int_t)e->dead, "dropped", (json_int_t)e->dropped));
	set(j, "messages", json_pack("{s:I,s:I,s:I,s:I}",
	    "held", (json_int_t)e->messages_held,
	    "max", (json_int_t)e->max_messages,
	    "held_bytes", (json_int_t)e->bytes_held,
	    "max_bytes", (json_int_t)e->max_bytes));
	set(j, "alerts", o->alerts != NULL ? alerts_json(o->alerts) :
	    json_array());
	set(j, "sinks", observer_sinks(o));
	set(j, "security", security_object(o));
	set(j, "loop", loop_object(o->loop));
	set(j, "process", process_object(o->loop));
	return j;
}
