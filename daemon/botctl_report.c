/*
 * botctl report: what a person reads once a day, week or month.
 *
 * A document is made of the status, of the history and of the dead letters;
 * botctl_report_text.c makes text of it.  The operator keeps 24 hours of
 * history, and counts since its start: with a longer period the report says so
 * and gives those.
 */
#include "botctl.h"

#include "all.h"
#include "base/alloc.h"
#include "base/clock.h"

#define DAY_SECONDS		86400
#define DEAD_LOOK_MAX		100	/* letters that are looked at */
#define ERROR_RATE_BAD		5.0	/* per cent, in a step of the history */
#define TREND_FACTOR		1.5
#define TEXT_MAX		2900	/* of ALERT_NOTICE_MAX */

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

/* What may well fail: NULL then, and nothing is said. */
static json_t *
ask_quietly(struct options *o, json_t *request, item_fn *fn, void *arg)
{
	struct options quiet = *o;
	json_t *last;
	int r;

	quiet.json = false;
	quiet.slow = true;
	complain_mute(true);
	r = ask(&quiet, request, fn, arg, &last);
	complain_mute(false);
	if (r == 0)
		return last;
	json_decref(last);
	return NULL;
}

/* ---- anomalies ---- */

static void anomaly(json_t *report, const char *what, const char *fmt, ...)
    _printf_(3, 4);

static void
anomaly(json_t *report, const char *what, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	(void)json_array_append_new(json_object_get(report, "anomalies"),
	    json_pack("{s:s,s:s}", "what", what, "text", buffer_cstr(&b)));
}

static void
add_checks(json_t *report, const json_t *status)
{
	json_t *check;
	size_t i;

	json_array_foreach(json_object_get(status, "checks"), i, check) {
		const char *word = text_of(check, "status");

		if (strcmp(word, "ok") != 0)
			anomaly(report, text_of(check, "name"),
			    "%s since %s: %s", word, text_of(check, "since"),
			    text_of(check, "detail"));
	}
}

static void
add_alerts(json_t *report, const json_t *status)
{
	json_t *alert;
	size_t i;

	json_array_foreach(json_object_get(status, "alerts"), i, alert)
		anomaly(report, text_of(alert, "subject"),
		    "alert %s (%s) is %s since %s: %s",
		    text_of(alert, "name"), text_of(alert, "severity"),
		    text_of(alert, "state"), text_of(alert, "since"),
		    text_of(alert, "when"));
}

static void
add_sinks(json_t *report, const json_t *status)
{
	const char *name;
	json_t *sink;

	json_object_foreach(json_object_get(status, "sinks"), name, sink)
		if (number_of(sink, "dropped") > 0)
			anomaly(report, name, "%.0f notifications were dropped",
			    number_of(sink, "dropped"));
}

static void
add_loop(json_t *report, const json_t *status)
{
	const json_t *loop = json_object_get(status, "loop");

	if (number_of(loop, "slow_turns") > 0)
		anomaly(report, "loop", "%.0f of %.0f turns took over 10 ms; "
		    "the longest %.0f ms", number_of(loop, "slow_turns"),
		    number_of(loop, "turns"),
		    number_of(loop, "longest_turn_ms"));
}

static void
add_queue_anomalies(json_t *report, const char *name, const json_t *q)
{
	_cleanup_free_ char *what = xasprintf("queue:%s", name);

	if (json_is_true(json_object_get(q, "paused")))
		anomaly(report, what, "paused (by %s)",
		    json_string_value(json_array_get(json_object_get(q,
		    "paused_by"), 0)));
	if (number_of(q, "leases_lost") > 0)
		anomaly(report, what, "%.0f leases were lost: their messages "
		    "may have been done twice", number_of(q, "leases_lost"));
	if (number_of(q, "settle_errors") > 0)
		anomaly(report, what, "%.0f settlements were not taken by the "
		    "broker", number_of(q, "settle_errors"));
	if (number_of(q, "connects") > 1)
		anomaly(report, what, "connected %.0f times",
		    number_of(q, "connects"));
}

static void
add_pool_anomalies(json_t *report, const char *name, const json_t *p)
{
	_cleanup_free_ char *what = xasprintf("pool:%s", name);

	if (number_of(p, "crashes") > 0 || number_of(p, "timeouts") > 0)
		anomaly(report, what, "%.0f crashes and %.0f time-outs of "
		    "workers", number_of(p, "crashes"),
		    number_of(p, "timeouts"));
}

/* ---- the history ---- */

struct series {
	double max, sum, early, late;	/* means of the first and last quarter */
	size_t n, max_at;
};

static struct series
series_of(const json_t *history, const char *name)
{
	const json_t *a = json_object_get(json_object_get(history, "series"),
	    name);
	size_t all = json_array_size(a), nearly = 0, nlate = 0, first = all;
	struct series s = { .max = -1 };

	for (size_t i = 0; i < all; i++) {
		const json_t *x = json_array_get(a, i);
		double v = json_number_value(x);

		if (!json_is_number(x))
			continue;
		first = MIN(first, i);
		s.n++;
		s.sum += v;
		if (v > s.max) {
			s.max = v;
			s.max_at = i;
		}
		/* Quarters of the time that there is. */
		if (i - first < (all - first) / 4 + 1) {
			s.early += v;
			nearly++;
		} else if (all - i <= (all - first) / 4 + 1) {
			s.late += v;
			nlate++;
		}
	}
	s.early = nearly != 0 ? s.early / (double)nearly : 0;
	s.late = nlate != 0 ? s.late / (double)nlate : s.early;
	return s;
}

static const char *
trend_of(const struct series *s)
{
	if (s->n < 4)
		return "too short to tell";
	if (s->late > s->early * TREND_FACTOR + 1)
		return "rising";
	if (s->early > s->late * TREND_FACTOR + 1)
		return "falling";
	return "steady";
}

static char *
time_of_step(const json_t *history, size_t step)
{
	char iso[CLOCK_ISO_BYTES];
	size_t points = (size_t)number_of(history, "points");
	uint64_t ago = (uint64_t)((double)(points - step) *
	    number_of(history, "step_seconds")) * USEC_PER_SEC;
	uint64_t now = clock_realtime_us();

	return xstrdup(clock_iso(iso, now - MIN(now, ago), false));
}

static json_t *
ask_history(struct options *o, const json_t *report, const char *kind,
    const char *name)
{
	double up = number_of(report, "history_seconds");
	json_t *request = request_new("history"), *last, *history;

	put_text(request, kind, name);
	/* The younger it is, the finer steps there are. */
	set(request, "seconds", json_integer((json_int_t)MAX(up, 60.0)));
	last = ask_quietly(o, request, NULL, NULL);
	history = json_incref(json_object_get(last, "history"));
	json_decref(last);
	return history;
}

/* ---- backlog ---- */

static void
add_backlog(json_t *report, struct options *o, const char *name,
    const json_t *q)
{
	json_t *history = ask_history(o, report, "queue", name);
	json_t *j = json_object();
	struct series backlog = series_of(history, "backlog");
	struct series errors = series_of(history, "error_rate_percent");
	struct series done = series_of(history, "done_per_second");
	double step = number_of(history, "step_seconds");
	_cleanup_free_ char *at = NULL, *what = xasprintf("queue:%s", name);

	set(j, "queue", json_string(name));
	set(j, "now", json_incref(json_object_get(q, "backlog")));
	set(j, "oldest_seconds", json_incref(json_object_get(q,
	    "backlog_age_seconds")));
	set(j, "delayed", json_incref(json_object_get(q, "delayed_backlog")));
	set(j, "peak", backlog.n != 0 ? json_real(backlog.max) : json_null());
	if (backlog.n != 0)
		at = time_of_step(history, backlog.max_at);
	set(j, "peak_at", at != NULL && backlog.max > 0 ? json_string(at) :
	    json_null());
	set(j, "trend", json_string(trend_of(&backlog)));
	set(j, "done_in_history", done.n != 0 ? json_real(done.sum * step) :
	    json_null());
	set(j, "done", json_incref(json_object_get(q, "done")));
	set(j, "retried", json_incref(json_object_get(q, "retried")));
	set(j, "dead", json_incref(json_object_get(q, "dead")));
	(void)json_array_append_new(json_object_get(report, "backlog"), j);
	if (errors.n != 0 && errors.max >= ERROR_RATE_BAD) {
		_cleanup_free_ char *when = time_of_step(history,
		    errors.max_at);

		anomaly(report, what, "error rate up to %.1f %% at %s",
		    errors.max, when);
	}
	if (strcmp(trend_of(&backlog), "rising") == 0)
		anomaly(report, what, "the backlog is rising: %.0f on average "
		    "at first, %.0f of late", backlog.early, backlog.late);
	json_decref(history);
}

/* ---- dead letters ---- */

struct letters {
	json_t *types;		/* error type: how many */
	json_t *first;
	size_t n;
};

static int
see_letter(struct options *o _unused_, json_t *item, void *arg)
{
	struct letters *l = arg;
	const char *type = text_of(item, "error_type");
	json_t *n;

	if (*type == '\0')
		type = "unknown";
	n = json_object_get(l->types, type);
	set(l->types, type, json_integer(json_integer_value(n) + 1));
	if (l->n++ == 0)
		l->first = json_incref(item);
	return 0;
}

/* The three most frequent, as [{"type","count"}]. */
static json_t *
top_types(json_t *counts)
{
	json_t *top = json_array(), *n;
	const char *type;

	for (int i = 0; i < 3; i++) {
		const char *best = NULL;

		json_object_foreach(counts, type, n)
			if (json_integer_value(n) > 0 && (best == NULL ||
			    json_integer_value(n) > json_integer_value(
			    json_object_get(counts, best))))
				best = type;
		if (best == NULL)
			break;
		(void)json_array_append_new(top, json_pack("{s:s,s:O}",
		    "type", best, "count", json_object_get(counts, best)));
		set(counts, best, json_integer(0));
	}
	return top;
}

static void
add_dead(json_t *report, struct options *o, const char *name, const json_t *q)
{
	struct letters l = { .types = json_object() };
	json_t *request = request_new("dead-list"), *last, *errors;
	json_t *j = json_object(), *letters = json_object_get(q,
	    "dead_backlog");

	put_text(request, "queue", name);
	set(request, "limit", json_integer(DEAD_LOOK_MAX));
	last = ask_quietly(o, request, see_letter, &l);
	set(j, "queue", json_string(name));
	set(j, "letters", json_is_number(letters) ? json_incref(letters) :
	    last != NULL && !json_is_true(json_object_get(last, "more")) ?
	    json_integer((json_int_t)l.n) : json_null());
	set(j, "looked_at", last != NULL ? json_integer((json_int_t)l.n) :
	    json_null());
	set(j, "oldest", l.first != NULL ? json_incref(json_object_get(l.first,
	    "died")) : json_null());
	set(j, "types", top_types(l.types));
	errors = json_deep_copy(json_object_get(q, "errors"));
	set(j, "errors", top_types(errors));
	(void)json_array_append_new(json_object_get(report, "dead"), j);
	json_decref(errors);
	json_decref(l.types);
	json_decref(l.first);
	json_decref(last);
}

/* ---- resources ---- */

static void
add_pool(json_t *report, struct options *o, const char *name, const json_t *p)
{
	json_t *history = ask_history(o, report, "pool", name);
	json_t *j = json_object();
	struct series restarts = series_of(history, "restarts");
	struct series used = series_of(history, "utilization_percent");

	set(j, "pool", json_string(name));
	set(j, "workers", json_incref(json_object_get(p, "workers")));
	set(j, "max", json_incref(json_object_get(p, "max")));
	set(j, "restarts", json_incref(json_object_get(p, "restarts")));
	set(j, "restarts_in_history", restarts.n != 0 ?
	    json_real(restarts.sum) : json_null());
	set(j, "crashes", json_incref(json_object_get(p, "crashes")));
	set(j, "timeouts", json_incref(json_object_get(p, "timeouts")));
	set(j, "utilization_percent", used.n != 0 ? json_real(used.sum /
	    (double)used.n) : json_null());
	(void)json_array_append_new(json_object_get(report, "pools"), j);
	json_decref(history);
}

/* ---- all of it ---- */

static json_t *
report_new(struct options *o, const json_t *status, const char *period)
{
	json_t *report = json_object(), *x;
	bool standby = strcmp(text_of(status, "status"), "standby") == 0;
	char iso[CLOCK_ISO_BYTES];
	const char *name;

	set(report, "period", json_string(period));
	set(report, "at", json_string(clock_iso(iso, clock_realtime_us(),
	    false)));
	for (size_t i = 0; i < 6; i++) {
		static const char *const keys[] = { "instance", "version",
			"status", "since", "started", "uptime_seconds" };

		set(report, keys[i], json_incref(json_object_get(status,
		    keys[i])));
	}
	set(report, "history_seconds", json_real(MIN(number_of(status,
	    "uptime_seconds"), (double)DAY_SECONDS)));
	set(report, "anomalies", json_array());
	set(report, "backlog", json_array());
	set(report, "dead", json_array());
	set(report, "pools", json_array());
	set(report, "process", json_incref(json_object_get(status,
	    "process")));
	add_checks(report, status);
	add_alerts(report, status);
	json_object_foreach(json_object_get(status, "queues"), name, x) {
		add_backlog(report, o, name, x);
		if (standby)
			continue;
		add_queue_anomalies(report, name, x);
		add_dead(report, o, name, x);
	}
	json_object_foreach(json_object_get(status, "pools"), name, x) {
		add_pool(report, o, name, x);
		add_pool_anomalies(report, name, x);
	}
	add_sinks(report, status);
	add_loop(report, status);
	return report;
}

static const char *
severity_of(const json_t *report)
{
	if (strcmp(text_of(report, "status"), "down") == 0)
		return "critical";
	return json_array_size(json_object_get(report, "anomalies")) != 0 ?
	    "warning" : "info";
}

static int
send_report(struct options *o, const json_t *report)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *request = request_new("notify"), *last;
	struct options quiet = *o;
	char *text;
	size_t n;
	int r;

	report_text(&b, report, true);
	text = buffer_dup(&b);
	n = strlen(text);
	if (n > TEXT_MAX) {
		n = TEXT_MAX;
		/* Whole lines, and so whole characters. */
		while (n > 0 && text[n - 1] != '\n')
			n--;
		text[n] = '\0';
		buffer_clear(&b);
		buffer_printf(&b, "%s... all of it: botctl report\n", text);
	}
	free(text);
	put_text(request, "severity", severity_of(report));
	put_text(request, "text", buffer_cstr(&b));
	quiet.json = false;
	quiet.slow = true;
	r = ask(&quiet, request, NULL, NULL, &last);
	json_decref(last);
	return r;
}

int
cmd_report(const struct command *cmd, struct options *o)
{
	static const char *const periods[] = { "daily", "weekly", "monthly" };
	const char *period = o->given & OPT_PERIOD ? o->period : "daily";
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct options plain = *o;
	json_t *last, *report;
	bool known = false;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(periods); i++)
		known |= strcmp(period, periods[i]) == 0;
	if (!known) {
		complain("--period is daily, weekly or monthly, not \"%s\"\n"
		    "Usage: botctl report %s", period, cmd->usage);
		return BOTCTL_BAD_USE;
	}
	plain.json = false;
	r = ask(&plain, request_new("status"), NULL, NULL, &last);
	if (r != 0) {
		json_decref(last);
		return r;
	}
	report = report_new(o, json_object_get(last, "status"), period);
	if (o->json) {
		char *dump = json_dumps(report, JSON_COMPACT |
		    JSON_REAL_PRECISION(6));

		buffer_printf(&b, "%s\n", dump);
		free(dump);
	} else {
		report_text(&b, report, false);
	}
	r = print(&b);
	if (r == 0 && (o->given & OPT_NOTIFY)) {
		/* The timers ask for it without knowing. */
		if (json_object_get(json_object_get(json_object_get(last,
		    "status"), "sinks"), "slack") == NULL)
			complain("not sent: there is no [Slack]");
		else
			r = send_report(o, report);
	}
	json_decref(report);
	json_decref(last);
	return r;
}
