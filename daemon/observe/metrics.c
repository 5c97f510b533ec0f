/*
 * OpenMetrics 1.0 text.  All samples of a family stand together, so the tables
 * of families are the outer loop and the queues and pools the inner one.
 */
#include "observe/watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "guard/guard.h"
#include "guard/screen.h"
#include "guard/security.h"
#include "observe/alert_impl.h"

#define P	"bot_operator_"

static void
family(struct buffer *b, const char *name, const char *type, const char *unit,
    const char *help)
{
	buffer_printf(b, "# TYPE " P "%s %s\n", name, type);
	if (unit != NULL)
		buffer_printf(b, "# UNIT " P "%s %s\n", name, unit);
	buffer_printf(b, "# HELP " P "%s %s\n", name, help);
}

/*
 * Backslash, quote and newline are escaped (OpenMetrics, "escaped-string");
 * a byte that no UTF-8 text has becomes a question mark.
 */
static void
add_value(struct buffer *b, const char *s)
{
	json_t *valid = json_string(s);

	for (; *s != '\0'; s++) {
		if (*s == '\\' || *s == '"') {
			buffer_add_char(b, '\\');
			buffer_add_char(b, *s);
		} else if (*s == '\n') {
			buffer_add_str(b, "\\n");
		} else {
			buffer_add_char(b, valid == NULL &&
			    (unsigned char)*s >= 0x80 ? '?' : *s);
		}
	}
	json_decref(valid);
}

static void
add_label(struct buffer *b, const char *before, const char *name,
    const char *value)
{
	buffer_printf(b, "%s%s=\"", before, name);
	add_value(b, value);
	buffer_add_char(b, '"');
}

/* "bot_operator_NAME{LABEL="VALUE"" - open, for more labels. */
static void
open_sample(struct buffer *b, const char *name, const char *suffix,
    const char *label, const char *value)
{
	buffer_printf(b, P "%s%s", name, suffix);
	if (label != NULL)
		add_label(b, "{", label, value);
}

static void
u64_sample(struct buffer *b, const char *name, const char *suffix,
    const char *label, const char *value, uint64_t n)
{
	open_sample(b, name, suffix, label, value);
	buffer_printf(b, "%s %" PRIu64 "\n", label != NULL ? "}" : "", n);
}

static void
us_sample(struct buffer *b, const char *name, const char *suffix,
    const char *label, const char *value, uint64_t us)
{
	open_sample(b, name, suffix, label, value);
	buffer_printf(b, "%s %" PRIu64 ".%06" PRIu64 "\n",
	    label != NULL ? "}" : "", us / USEC_PER_SEC, us % USEC_PER_SEC);
}

/* ---- queues ---- */

struct counter_row {
	const char *name;
	size_t offset;		/* of a uint64_t in the stats */
	bool us;		/* microseconds, shown in seconds */
	const char *unit;
	const char *help;
};

#define Q(field)	offsetof(struct queue_stats, field)

static const struct counter_row queue_counters[] = {
	{ "queue_received", Q(received), false, NULL,
	    "Messages taken from the broker." },
	{ "queue_redelivered", Q(redelivered), false, NULL,
	    "Of these, messages that had been delivered before." },
	{ "queue_done", Q(done), false, NULL,
	    "Messages that a handler finished." },
	{ "queue_retried", Q(retried), false, NULL,
	    "Messages that were sent back for another attempt." },
	{ "queue_dead", Q(dead), false, NULL,
	    "Messages that went to the dead letters." },
	{ "queue_deferred", Q(deferred), false, NULL,
	    "Of the retried ones, messages put off before they ran." },
	{ "queue_dropped", Q(dropped), false, NULL,
	    "Messages acknowledged without being run, on demand." },
	{ "queue_released", Q(released), false, NULL,
	    "Messages given back to the broker untouched." },
	{ "queue_failed", Q(failed), false, NULL,
	    "Attempts that did not end in done." },
	{ "queue_settle_errors", Q(settle_errors), false, NULL,
	    "Settlements that the broker did not take." },
	{ "queue_leases_extended", Q(leases_extended), false, NULL,
	    "Leases renewed at the broker." },
	{ "queue_leases_lost", Q(leases_lost), false, NULL,
	    "Leases that ended before their message did." },
	{ "queue_received_bytes", Q(bytes_received), false, "bytes",
	    "Size of the messages taken from the broker." },
	{ "queue_connects", Q(connects), false, NULL,
	    "Times that the queue came up." },
};

static uint64_t
counter_at(const void *stats, const struct counter_row *row)
{
	uint64_t n;

	memcpy(&n, (const char *)stats + row->offset, sizeof(n));
	return n;
}

enum queue_gauge {
	G_CONNECTED, G_PAUSED, G_BACKLOG, G_DELAYED, G_DEAD, G_AGE,
	G_SAMPLE_AGE, G_CREDIT, G_HELD_BYTES, G_RECEIVED_AT, G_DONE_AT,
};

static const struct {
	enum queue_gauge what;
	const char *name, *unit, *help;
} queue_gauges[] = {
	{ G_CONNECTED, "queue_connected", NULL,
	    "Whether the broker can be used (1) or not (0)." },
	{ G_PAUSED, "queue_paused", NULL,
	    "Whether nothing is taken from the queue on purpose." },
	{ G_BACKLOG, "queue_backlog", NULL,
	    "Messages that wait at the broker; absent when not known." },
	{ G_DELAYED, "queue_delayed_backlog", NULL,
	    "Messages that wait for their retry at the broker." },
	{ G_DEAD, "queue_dead_backlog", NULL,
	    "Messages in the dead letters." },
	{ G_AGE, "queue_backlog_age_seconds", "seconds",
	    "Age of the oldest message that waits." },
	{ G_SAMPLE_AGE, "queue_backlog_sample_age_seconds", "seconds",
	    "How long ago the broker was asked for its backlog." },
	{ G_CREDIT, "queue_credit", NULL,
	    "Messages that may still be taken now." },
	{ G_HELD_BYTES, "queue_held_bytes", "bytes",
	    "Memory held by the messages in flight." },
	{ G_RECEIVED_AT, "queue_last_received_timestamp_seconds", "seconds",
	    "When a message last came." },
	{ G_DONE_AT, "queue_last_done_timestamp_seconds", "seconds",
	    "When a message was last done." },
};

static void
queue_gauge_sample(struct buffer *b, const char *name, enum queue_gauge what,
    const struct queue *q)
{
	const struct backlog *g = &q->backlog;
	bool sampled = g->sampled_us != 0;
	uint64_t now = clock_monotonic_us(), n = 0;
	bool known = true, us = false;

	switch (what) {
	case G_CONNECTED:
		n = q->connected;
		break;
	case G_PAUSED:
		n = q->paused != 0;
		break;
	case G_BACKLOG:
		n = g->waiting;
		known = sampled && g->waiting_known;
		break;
	case G_DELAYED:
		n = g->delayed;
		known = sampled && g->delayed_known;
		break;
	case G_DEAD:
		n = g->dead;
		known = sampled && g->dead_known;
		break;
	case G_AGE:
		n = g->oldest_us;
		us = true;
		known = sampled && (n != 0 ||
		    (g->waiting_known && g->waiting == 0));
		break;
	case G_SAMPLE_AGE:
		n = now - MIN(now, g->sampled_us);
		us = true;
		known = sampled;
		break;
	case G_CREDIT:
		n = q->credit;
		break;
	case G_HELD_BYTES:
		n = q->bytes_held;
		break;
	case G_RECEIVED_AT:
		n = watch_realtime_us(q->stats.last_received_us);
		us = true;
		known = q->stats.last_received_us != 0;
		break;
	case G_DONE_AT:
		n = watch_realtime_us(q->stats.last_done_us);
		us = true;
		known = q->stats.last_done_us != 0;
		break;
	}
	if (!known)
		return;
	if (us)
		us_sample(b, name, "", "queue", q->name, n);
	else
		u64_sample(b, name, "", "queue", q->name, n);
}

static void
add_queue_states(struct buffer *b, struct engine *e)
{
	struct list *l;
	struct queue *q;

	family(b, "queue_messages", "gauge", NULL,
	    "Messages in flight, by what they wait for.");
	engine_foreach_queue(q, e, l) {
		const struct {
			const char *state;
			unsigned n;
		} states[] = {
			{ "waiting", q->nwaiting }, { "held", q->nheld },
			{ "delayed", q->ndelayed }, { "running", q->nrunning },
			{ "settling", q->nsettling },
		};

		for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
			open_sample(b, "queue_messages", "", "queue", q->name);
			add_label(b, ",", "state", states[i].state);
			buffer_printf(b, "} %u\n", states[i].n);
		}
	}
}

static void
add_queue_errors(struct buffer *b, struct engine *e)
{
	struct list *l;
	struct queue *q;

	family(b, "queue_errors", "counter", NULL,
	    "Attempts that failed, by error type.");
	engine_foreach_queue(q, e, l) {
		for (unsigned i = 0; i < q->stats.nerrors; i++) {
			open_sample(b, "queue_errors", "_total", "queue",
			    q->name);
			add_label(b, ",", "error_type",
			    q->stats.errors[i].type);
			buffer_printf(b, "} %" PRIu64 "\n",
			    q->stats.errors[i].count);
		}
	}
}

static void
add_processing(struct buffer *b, struct observer *o)
{
	static const struct {
		const char *quantile;
		double percent;
	} quantiles[] = { { "0.5", 50 }, { "0.95", 95 }, { "0.99", 99 } };
	static const char name[] = "queue_processing_seconds";
	struct list *l;
	struct queue *q;

	family(b, name, "summary", "seconds",
	    "Time from the start of a message to its verdict; the quantiles "
	    "are of the last minute.");
	engine_foreach_queue(q, o->engine, l) {
		const struct histogram *h = &q->stats.processing;
		struct recent r;

		watch_recent(watch_find_queue(o, q), q, &r);
		for (size_t i = 0; i < ARRAY_SIZE(quantiles) &&
		    r.processing.count != 0; i++) {
			uint64_t us = histogram_percentile(&r.processing,
			    quantiles[i].percent);

			open_sample(b, name, "", "queue", q->name);
			add_label(b, ",", "quantile", quantiles[i].quantile);
			buffer_printf(b, "} %" PRIu64 ".%06" PRIu64 "\n",
			    us / USEC_PER_SEC, us % USEC_PER_SEC);
		}
		us_sample(b, name, "_sum", "queue", q->name, h->sum_us);
		u64_sample(b, name, "_count", "queue", q->name, h->count);
	}
}

static void
add_queues(struct buffer *b, struct observer *o)
{
	struct engine *e = o->engine;
	struct list *l;
	struct queue *q;

	for (size_t i = 0; i < ARRAY_SIZE(queue_counters); i++) {
		const struct counter_row *row = &queue_counters[i];

		family(b, row->name, "counter", row->unit, row->help);
		engine_foreach_queue(q, e, l)
			u64_sample(b, row->name, "_total", "queue", q->name,
			    counter_at(&q->stats, row));
	}
	for (size_t i = 0; i < ARRAY_SIZE(queue_gauges); i++) {
		family(b, queue_gauges[i].name, "gauge", queue_gauges[i].unit,
		    queue_gauges[i].help);
		engine_foreach_queue(q, e, l)
			queue_gauge_sample(b, queue_gauges[i].name,
			    queue_gauges[i].what, q);
	}
	add_queue_states(b, e);
	add_queue_errors(b, e);
	add_processing(b, o);
}

/* ---- security ---- */

static void
add_security(struct buffer *b, const struct observer *o)
{
	const struct screen *s;

	family(b, "security_events", "counter", NULL,
	    "Events that concern safety, logged or not.");
	for (enum security_kind i = 1; i < SECURITY_NKINDS; i++)
		u64_sample(b, "security_events", "_total", "event",
		    security_kind_name(i), security_count(i));
	if (o->guards == NULL || guards_screen(o->guards, 0) == NULL)
		return;
	family(b, "screen_looked", "counter", NULL,
	    "Messages that a screen has looked at.");
	for (size_t i = 0; (s = guards_screen(o->guards, i)) != NULL; i++)
		u64_sample(b, "screen_looked", "_total", "screen",
		    screen_name(s), screen_stats(s)->looked);
	family(b, "screen_suspicious", "counter", NULL,
	    "Of these, messages that met a rule.");
	for (size_t i = 0; (s = guards_screen(o->guards, i)) != NULL; i++)
		u64_sample(b, "screen_suspicious", "_total", "screen",
		    screen_name(s), screen_stats(s)->suspicious);
}

/* ---- pools ---- */

#define S(field)	offsetof(struct pool_stats, field)

static const struct counter_row pool_counters[] = {
	{ "pool_workers_started", S(started), false, NULL,
	    "Workers started." },
	{ "pool_restarts", S(restarts), false, NULL,
	    "Workers started in place of one that ended." },
	{ "pool_crashes", S(crashes), false, NULL,
	    "Workers that died at work." },
	{ "pool_timeouts", S(timeouts), false, NULL,
	    "Messages that ran into Timeout=." },
	{ "pool_verdicts", S(verdicts), false, NULL,
	    "Verdicts given." },
	{ "pool_busy_seconds", S(busy_us), true, "seconds",
	    "Worker time spent on messages." },
};

static void
add_pools(struct buffer *b, struct engine *e)
{
	static const struct {
		const char *name, *help;
	} gauges[] = {
		{ "pool_up", "Whether the pool can run something." },
		{ "pool_workers", "Workers that there are." },
		{ "pool_workers_busy", "Workers that have a message." },
		{ "pool_workers_min", "Workers that are always kept." },
		{ "pool_workers_max", "Workers that there may be." },
		{ "pool_messages_running", "Messages that workers have." },
	};
	struct list *l;
	struct pool *p;

	for (size_t i = 0; i < ARRAY_SIZE(pool_counters); i++) {
		const struct counter_row *row = &pool_counters[i];

		family(b, row->name, "counter", row->unit, row->help);
		engine_foreach_pool(p, e, l) {
			uint64_t n = counter_at(&p->stats, row);

			(row->us ? us_sample : u64_sample)(b, row->name,
			    "_total", "pool", p->name, n);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(gauges); i++) {
		family(b, gauges[i].name, "gauge", NULL, gauges[i].help);
		engine_foreach_pool(p, e, l) {
			const unsigned values[] = { p->up, p->workers, p->busy,
				p->min, p->max, p->running };

			u64_sample(b, gauges[i].name, "", "pool", p->name,
			    values[i]);
		}
	}
}

/* ---- the process ---- */

static void
add_process(struct buffer *b, struct observer *o)
{
	struct watch_process p;
	struct loop_stats s;

	watch_process(o->loop, &p);
	loop_get_stats(o->loop, &s);
	family(b, "loop_turns", "counter", NULL, "Turns of the loop.");
	u64_sample(b, "loop_turns", "_total", NULL, NULL, s.turns);
	family(b, "loop_slow_turns", "counter", NULL,
	    "Turns with a callback of more than 10 ms.");
	u64_sample(b, "loop_slow_turns", "_total", NULL, NULL, s.slow_turns);
	family(b, "loop_callbacks", "counter", NULL, "Callbacks run.");
	u64_sample(b, "loop_callbacks", "_total", NULL, NULL, s.callbacks);
	family(b, "loop_longest_turn_seconds", "gauge", "seconds",
	    "The longest turn so far, without its wait.");
	us_sample(b, "loop_longest_turn_seconds", "", NULL, NULL,
	    s.longest_turn_us);
	family(b, "loop_descriptors", "gauge", NULL, "Descriptors watched.");
	u64_sample(b, "loop_descriptors", "", NULL, NULL, s.ios);
	family(b, "loop_timers", "gauge", NULL, "Timers armed.");
	u64_sample(b, "loop_timers", "", NULL, NULL, s.timers);

	if (!isnan(p.cpu_seconds)) {
		family(b, "process_cpu_seconds", "counter", "seconds",
		    "CPU time of the operator itself, without its workers.");
		us_sample(b, "process_cpu_seconds", "_total", NULL, NULL,
		    (uint64_t)(p.cpu_seconds * 1e6));
	}
	if (!isnan(p.rss_bytes)) {
		family(b, "process_resident_memory_bytes", "gauge", "bytes",
		    "Resident memory of the operator itself.");
		u64_sample(b, "process_resident_memory_bytes", "", NULL, NULL,
		    (uint64_t)p.rss_bytes);
	}
	family(b, "start_time_seconds", "gauge", "seconds",
	    "When the operator started, as Unix time.");
	us_sample(b, "start_time_seconds", "", NULL, NULL,
	    o->started_realtime_us);
	family(b, "uptime_seconds", "gauge", "seconds",
	    "How long the operator has been running.");
	us_sample(b, "uptime_seconds", "", NULL, NULL,
	    clock_monotonic_us() - o->started_us);
}

static void
add_checks(struct buffer *b, const struct checks *checks)
{
	struct dependency *d;
	struct list *l;

	family(b, "check_looks", "counter", NULL, "Times a [Check] looked.");
	checks_foreach(d, checks, l)
		u64_sample(b, "check_looks", "_total", "name", d->name,
		    d->looks);
	family(b, "check_failures", "counter", NULL,
	    "Times a [Check] had a bad result.");
	checks_foreach(d, checks, l)
		u64_sample(b, "check_failures", "_total", "name", d->name,
		    d->failed);
	family(b, "check_latency_seconds", "gauge", "seconds",
	    "How long the last look of a [Check] took.");
	checks_foreach(d, checks, l)
		if (d->latency_us != 0)
			us_sample(b, "check_latency_seconds", "", "name",
			    d->name, d->latency_us);
	family(b, "check_certificate_days", "gauge", NULL,
	    "Days until the certificate that a [Check] saw ends.");
	checks_foreach(d, checks, l)
		if (d->days_known) {
			open_sample(b, "check_certificate_days", "", "name",
			    d->name);
			buffer_printf(b, "} %" PRId64 "\n", d->days_left);
		}
}

static void
add_health(struct buffer *b, struct observer *o, enum health health)
{
	struct dependency *d;
	struct list *l;

	family(b, "build", "info", NULL, "What runs here.");
	open_sample(b, "build", "_info", "version", PACKAGE_VERSION);
	add_label(b, ",", "instance", observer_instance(o));
	buffer_add_str(b, "} 1\n");

	family(b, "status", "stateset", NULL, "How it goes, overall.");
	for (enum health h = HEALTH_STARTING; h <= HEALTH_STANDBY; h++)
		u64_sample(b, "status", "", P "status", health_name(h),
		    h == health);

	family(b, "check_ok", "gauge", NULL,
	    "Whether a check is ok (1) or not (0).");
	list_foreach(l, &o->queues) {
		struct watch_queue *w = list_entry(l, struct watch_queue, link);

		open_sample(b, "check_ok", "", "kind", "queue");
		add_label(b, ",", "name", w->name);
		buffer_printf(b, "} %d\n", w->check.state == HEALTH_OK);
	}
	list_foreach(l, &o->pools) {
		struct watch_pool *w = list_entry(l, struct watch_pool, link);

		open_sample(b, "check_ok", "", "kind", "pool");
		add_label(b, ",", "name", w->name);
		buffer_printf(b, "} %d\n", w->check.state == HEALTH_OK);
	}
	if (o->checks != NULL)
		checks_foreach(d, o->checks, l) {
			open_sample(b, "check_ok", "", "kind", "check");
			add_label(b, ",", "name", d->name);
			buffer_printf(b, "} %d\n", dependency_ok(d));
		}
	open_sample(b, "check_ok", "", "kind", "loop");
	add_label(b, ",", "name", "loop");
	buffer_printf(b, "} %d\n", o->loop_check.state == HEALTH_OK);
	if (o->checks != NULL)
		add_checks(b, o->checks);
}

/* ---- alerts ---- */

static void
add_alert_sample(struct buffer *b, const struct alert *x)
{
	_cleanup_buffer_ struct buffer title = BUFFER_INIT;

	alert_title(&title, x->rule, x->subject);
	open_sample(b, "alert_firing", "", "alert", x->rule->name);
	add_label(b, ",", "severity", alert_severity_name(x->rule->severity));
	add_label(b, ",", "subject", buffer_cstr(&title));
	buffer_printf(b, "} %d\n", x->state == ALERT_FIRING);
}

static void
add_alert_counts(struct buffer *b, const struct alerts *a)
{
	static const enum alert_state states[] = { ALERT_PENDING,
		ALERT_FIRING };
	struct alert_rule *r;
	struct list *l, *k;

	family(b, "alerts", "gauge", NULL,
	    "Alerts by state and severity, whatever their subject.");
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		for (enum alert_severity s = ALERT_INFO; s <= ALERT_CRITICAL;
		    s++) {
			unsigned n = 0;

			alerts_foreach_rule(r, a, l)
				list_foreach(k, &r->alerts)
					n += r->severity == s &&
					    list_entry(k, struct alert,
					    link)->state == states[i];
			open_sample(b, "alerts", "", "state",
			    alert_state_name(states[i]));
			add_label(b, ",", "severity", alert_severity_name(s));
			buffer_printf(b, "} %u\n", n);
		}
}

static void
add_alerts(struct buffer *b, const struct alerts *a)
{
	struct alert_rule *r;
	struct list *l, *k;

	add_alert_counts(b, a);
	family(b, "alert_firing", "gauge", NULL,
	    "Whether an alert fires (1); 0 while it is pending or was just "
	    "resolved, absent when all is well.");
	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts)
			add_alert_sample(b, list_entry(k, struct alert, link));
	family(b, "alert_silences", "gauge", NULL,
	    "Silences that are in force.");
	u64_sample(b, "alert_silences", "", NULL, NULL, a->nsilences);
	family(b, "alert_events", "counter", NULL,
	    "Notifications given to a sink.");
	list_foreach(l, &a->sinks) {
		const struct alert_sink *s =
		    list_entry(l, struct alert_sink, link);

		u64_sample(b, "alert_events", "_total", "sink", s->name,
		    s->events);
	}
}

/* ---- sinks ---- */

static void
add_sinks(struct buffer *b, struct observer *o)
{
	static const struct {
		const char *member, *name, *type, *help;
	} rows[] = {
		{ "sent", "sink_sent", "counter",
		    "What a sink has sent: messages, beats, events." },
		{ "failed", "sink_failed", "counter",
		    "What a sink's peer did not take." },
		{ "dropped", "sink_dropped", "counter",
		    "What was never sent, since too much waited." },
		{ "coalesced", "sink_coalesced", "counter",
		    "What became one with another that waited." },
		{ "retries", "sink_retries", "counter",
		    "Requests of a sink that are made again." },
		{ "queued", "sink_queued", "gauge",
		    "What waits for being sent." },
		{ "failing", "sink_failing", "gauge",
		    "Whether nothing can be sent at the moment (1)." },
	};
	json_t *sinks = observer_sinks(o), *sink;
	const char *name;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool counter = strcmp(rows[i].type, "counter") == 0;

		family(b, rows[i].name, rows[i].type, NULL, rows[i].help);
		json_object_foreach(sinks, name, sink) {
			const json_t *v = json_object_get(sink,
			    rows[i].member);

			if (v != NULL)
				u64_sample(b, rows[i].name, counter ? "_total" :
				    "", "sink", name, json_is_true(v) ? 1 :
				    (uint64_t)MAX(json_integer_value(v), 0));
		}
	}
	json_decref(sinks);
}

void
observer_metrics(struct observer *o, struct buffer *b)
{
	add_health(b, o, observer_health(o));
	add_queues(b, o);
	add_pools(b, o->engine);
	add_security(b, o);
	if (o->alerts != NULL)
		add_alerts(b, o->alerts);
	add_sinks(b, o);
	if (o->sinks_metrics != NULL)
		o->sinks_metrics(o->sinks_metrics_owner, b);
	add_process(b, o);
	buffer_add_str(b, "# EOF\n");
}
