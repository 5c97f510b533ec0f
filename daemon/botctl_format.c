#include "botctl.h"

#include <math.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"

/* Attributes of the terminal (ECMA-48, SGR). */
#define RED	"\033[1;31m"
#define YELLOW	"\033[1;33m"
#define GREEN	"\033[1;32m"
#define DIM	"\033[2m"
#define PLAIN	"\033[0m"

void
add_clean(struct buffer *b, const char *text, size_t n, bool lines)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		/* C1 controls are c2 80 to c2 9f in UTF-8. */
		if (c == 0xc2 && i + 1 < n &&
		    (unsigned char)text[i + 1] < 0xa0) {
			buffer_add_char(b, '?');
			i++;
		} else if (c >= 0x20 && c != 0x7f) {
			buffer_add_char(b, (char)c);
		} else if (lines && (c == '\n' || c == '\t')) {
			buffer_add_char(b, (char)c);
		} else {
			buffer_add_char(b, c == '\n' || c == '\t' ? ' ' : '?');
		}
	}
}

static void
add_clean_str(struct buffer *b, const char *text)
{
	add_clean(b, text, strlen(text), false);
}

static void
add_colour(struct buffer *b, const struct style *style, const char *colour)
{
	if (style->colour)
		buffer_add_str(b, colour);
}

/* ---- reading the document ---- */

static const char *
str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

static double
num(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static bool
yes(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

/* "3min 5s", or "?" for what is no time. */
static char *
age_of(const char *iso)
{
	char span[CLOCK_SPAN_BYTES];
	struct tm tm = { .tm_sec = 0 };
	uint64_t now = clock_realtime_us() / USEC_PER_SEC;
	time_t then;

	if (strptime(iso, "%Y-%m-%dT%H:%M:%SZ", &tm) == NULL)
		return xstrdup("?");
	then = timegm(&tm);
	if (then < 0 || (uint64_t)then > now)
		return xstrdup("0s");
	return xstrdup(clock_span(span, (now - (uint64_t)then) * USEC_PER_SEC));
}

static char *
span_text(const json_t *seconds, const char *none, const char *suffix)
{
	char span[CLOCK_SPAN_BYTES];
	double s = json_number_value(seconds);

	if (!json_is_number(seconds))
		return xstrdup(none);
	if (s < 1)
		return xasprintf("%.1fs%s", s, suffix);
	return xasprintf("%s%s", clock_span(span,
	    (uint64_t)s * USEC_PER_SEC), suffix);
}

static char *
number_text(const json_t *j)
{
	double x = json_number_value(j);

	if (!json_is_number(j))
		return xstrdup("-");
	if (x == trunc(x) || fabs(x) >= 100)
		return xasprintf("%.0f", x);
	return xasprintf(fabs(x) < 1 ? "%.2f" : "%.1f", x);
}

/* ---- the top: how it goes and why ---- */

static const char *
colour_of(const char *status)
{
	if (strcmp(status, "ok") == 0)
		return GREEN;
	if (strcmp(status, "down") == 0)
		return RED;
	return YELLOW;
}

static void
add_overall(struct buffer *b, const json_t *s, const struct style *style)
{
	_cleanup_free_ char *since = age_of(str(s, "since"));
	_cleanup_free_ char *up =
	    span_text(json_object_get(s, "uptime_seconds"), "?", "");
	const json_t *left = json_object_get(s, "drain_seconds_left");

	add_clean_str(b, str(s, "instance"));
	buffer_add_str(b, ": ");
	add_colour(b, style, colour_of(str(s, "status")));
	buffer_add_str(b, str(s, "status"));
	add_colour(b, style, PLAIN);
	buffer_printf(b, " for %s (bot-operator %s, up %s", since,
	    str(s, "version"), up);
	if (json_is_number(left))
		buffer_printf(b, ", at most %.0f s of draining left",
		    json_number_value(left));
	buffer_add_str(b, ")\n");
}

/* The bad ones, and those that have something to say. */
static void
add_reasons(struct buffer *b, const json_t *s, const struct style *style)
{
	json_t *check;
	size_t i;

	json_array_foreach(json_object_get(s, "checks"), i, check) {
		_cleanup_free_ char *age = age_of(str(check, "since"));
		const char *status = str(check, "status");
		bool ok = strcmp(status, "ok") == 0;

		if (ok && *str(check, "detail") == '\0')
			continue;
		buffer_add_str(b, "  ");
		add_colour(b, style, ok ? DIM : colour_of(status));
		buffer_printf(b, "%s ", status);
		add_colour(b, style, PLAIN);
		add_clean_str(b, str(check, "name"));
		if (*str(check, "detail") != '\0') {
			buffer_add_str(b, ": ");
			add_clean_str(b, str(check, "detail"));
		}
		if (!ok)
			buffer_printf(b, " (for %s)", age);
		buffer_add_char(b, '\n');
	}
}

/* ---- the tables ---- */

static const char *
queue_state(const json_t *q, bool standby)
{
	const char *why = json_string_value(
	    json_array_get(json_object_get(q, "paused_by"), 0));

	if (standby)
		return "standby";
	if (!yes(q, "connected"))
		return json_is_null(json_object_get(q, "error")) ?
		    "connecting" : "DOWN";
	if (!yes(q, "paused"))
		return "up";
	if (why != NULL && strcmp(why, "operator") == 0)
		return "paused";
	if (why != NULL && strcmp(why, "drain") == 0)
		return "draining";
	return "PAUSED";
}

static double
verdicts(const json_t *q)
{
	return num(q, "done") + num(q, "retried") + num(q, "dead");
}

static void
add_queues(struct buffer *b, const json_t *s, const json_t *before,
    double seconds, const struct style *style)
{
	bool standby = strcmp(str(s, "status"), "standby") == 0;
	struct table t;
	const char *name;
	json_t *q;

	table_init(&t, "QUEUE TYPE STATE >BACKLOG >OLDEST >DELAYED >IN_FLIGHT "
	    ">RATE/s >ERR% >P95_ms >DONE >RETRIED >DEAD >LETTERS >LAST_DONE");
	json_object_foreach(json_object_get(s, "queues"), name, q) {
		const json_t *was = json_object_get(json_object_get(before,
		    "queues"), name);
		double rate = num(q, "rate_per_second");

		if (was != NULL && seconds > 0 && verdicts(q) >= verdicts(was))
			rate = (verdicts(q) - verdicts(was)) / seconds;
		table_cell(&t, "%s", name);
		table_cell(&t, "%s", str(q, "type"));
		table_cell(&t, "%s", queue_state(q, standby));
		table_cell_take(&t, number_text(json_object_get(q, "backlog")));
		table_cell_take(&t, span_text(num(q, "backlog_age_seconds") > 0
		    ? json_object_get(q, "backlog_age_seconds") : NULL, "-",
		    ""));
		table_cell(&t, "%.0f", num(q, "delayed") +
		    num(q, "delayed_backlog"));
		table_cell_take(&t,
		    number_text(json_object_get(q, "in_flight")));
		table_cell(&t, "%.*f", rate > 0 && rate < 100 ? 1 : 0, rate);
		table_cell_take(&t,
		    number_text(json_object_get(q, "error_rate_percent")));
		table_cell_take(&t, number_text(json_object_get(
		    json_object_get(q, "processing_ms"), "p95")));
		table_cell_take(&t, number_text(json_object_get(q, "done")));
		table_cell_take(&t, number_text(json_object_get(q, "retried")));
		table_cell_take(&t, number_text(json_object_get(q, "dead")));
		table_cell_take(&t,
		    number_text(json_object_get(q, "dead_backlog")));
		table_cell_take(&t, span_text(json_object_get(q,
		    "last_done_seconds"), "never", " ago"));
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

static void
add_pools(struct buffer *b, const json_t *s, const struct style *style)
{
	struct table t;
	const char *name;
	json_t *p;

	table_init(&t, "POOL STATE >BUSY >MIN-MAX >USE% >VERDICTS >RESTARTS "
	    ">CRASHES >TIMEOUTS >LAST_VERDICT");
	json_object_foreach(json_object_get(s, "pools"), name, p) {
		table_cell(&t, "%s", name);
		table_cell(&t, "%s", yes(p, "up") ? "up" :
		    json_is_null(json_object_get(p, "error")) ? "starting" :
		    "DOWN");
		table_cell(&t, "%.0f/%.0f", num(p, "busy"), num(p, "workers"));
		table_cell(&t, "%.0f-%.0f", num(p, "min"), num(p, "max"));
		table_cell_take(&t, number_text(json_object_get(p,
		    "utilization_percent")));
		table_cell_take(&t, number_text(json_object_get(p,
		    "verdicts")));
		table_cell_take(&t, number_text(json_object_get(p,
		    "restarts")));
		table_cell_take(&t, number_text(json_object_get(p, "crashes")));
		table_cell_take(&t, number_text(json_object_get(p,
		    "timeouts")));
		table_cell_take(&t, span_text(json_object_get(p,
		    "last_verdict_seconds"), "never", " ago"));
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

static void
add_checks(struct buffer *b, const json_t *s, const struct style *style)
{
	json_t *all = json_object_get(s, "dependencies"), *d, *queue;
	const char *name;
	struct table t;
	size_t i;

	if (json_object_size(all) == 0)
		return;
	buffer_add_char(b, '\n');
	table_init(&t, "CHECK KIND STATE >LATENCY_ms >DAYS_LEFT >LOOKS >FAILED "
	    "LAST QUEUES TARGET");
	json_object_foreach(all, name, d) {
		_cleanup_buffer_ struct buffer queues = BUFFER_INIT;

		json_array_foreach(json_object_get(d, "queues"), i, queue)
			buffer_printf(&queues, "%s%s", i == 0 ? "" : ",",
			    json_string_value(queue));
		table_cell(&t, "%s", name);
		table_cell(&t, "%s", str(d, "kind"));
		table_cell(&t, "%s", strcmp(str(d, "status"), "down") == 0 ?
		    "DOWN" : str(d, "status"));
		table_cell_take(&t,
		    number_text(json_object_get(d, "latency_ms")));
		table_cell_take(&t,
		    number_text(json_object_get(d, "days_left")));
		table_cell_take(&t, number_text(json_object_get(d, "looks")));
		table_cell_take(&t, number_text(json_object_get(d, "failed")));
		table_cell_take(&t, span_text(json_object_get(d,
		    "last_looked_seconds"), "never", " ago"));
		table_cell(&t, "%s", buffer_len(&queues) != 0 ?
		    buffer_cstr(&queues) : "-");
		table_cell(&t, "%s", str(d, "target"));
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

/* ---- below: what went wrong lately ---- */

static void
add_error(struct buffer *b, const char *kind, const char *name,
    const json_t *error, const char *when)
{
	_cleanup_free_ char *age = NULL;

	if (!json_is_object(error))
		return;
	age = age_of(str(error, "since"));
	buffer_printf(b, "  %s ", kind);
	add_clean_str(b, name);
	buffer_add_str(b, ": ");
	add_clean_str(b, str(error, "text"));
	buffer_printf(b, " [%s", str(error, "class"));
	if (*str(error, "code") != '\0') {
		buffer_add_char(b, ' ');
		add_clean_str(b, str(error, "code"));
	}
	buffer_printf(b, "] (%s %s)\n", when, age);
}

static void
add_error_types(struct buffer *b, const char *name, const json_t *q)
{
	json_t *errors = json_object_get(q, "errors"), *n;
	const char *type, *comma = "";

	if (json_object_size(errors) == 0)
		return;
	buffer_add_str(b, "  queue ");
	add_clean_str(b, name);
	buffer_add_str(b, " failed attempts: ");
	json_object_foreach(errors, type, n) {
		buffer_add_str(b, comma);
		add_clean_str(b, type);
		buffer_printf(b, " %.0f", json_number_value(n));
		comma = ", ";
	}
	buffer_add_char(b, '\n');
}

static void
add_errors(struct buffer *b, const json_t *s)
{
	_cleanup_buffer_ struct buffer e = BUFFER_INIT;
	const char *name;
	json_t *o;

	json_object_foreach(json_object_get(s, "queues"), name, o) {
		add_error(&e, "queue", name, json_object_get(o, "error"),
		    "for");
		add_error(&e, "queue", name, json_object_get(o, "last_error"),
		    "over; connected for");
		add_error_types(&e, name, o);
	}
	json_object_foreach(json_object_get(s, "pools"), name, o)
		add_error(&e, "pool", name, json_object_get(o, "error"), "for");
	if (buffer_len(&e) == 0)
		return;
	buffer_add_str(b, "\nErrors\n");
	buffer_add_slice(b, buffer_slice(&e));
}

static void
add_hints(struct buffer *b, const json_t *s)
{
	const json_t *loop = json_object_get(s, "loop");
	const char *name;
	json_t *q;

	json_object_foreach(json_object_get(s, "queues"), name, q) {
		double n = num(q, "dead_backlog");

		if (n < 1)
			continue;
		buffer_printf(b, "%.0f dead letter%s: botctl dead list ", n,
		    n > 1 ? "s" : "");
		add_clean_str(b, name);
		buffer_add_char(b, '\n');
	}
	if (num(loop, "slow_turns") > 0) {
		buffer_printf(b, "%.0f slow turns of the loop; the longest "
		    "callback, \"", num(loop, "slow_turns"));
		add_clean_str(b, str(loop, "longest_callback"));
		buffer_printf(b, "\", took %.1f ms\n",
		    num(loop, "longest_callback_ms"));
	}
}

/* What fires and nobody has silenced. */
static void
add_firing(struct buffer *b, const json_t *s, const struct style *style)
{
	char span[CLOCK_SPAN_BYTES];
	json_t *alert;
	size_t i;

	json_array_foreach(json_object_get(s, "alerts"), i, alert) {
		if (strcmp(str(alert, "state"), "firing") != 0 ||
		    json_is_true(json_object_get(alert, "silenced")))
			continue;
		if (style->colour)
			buffer_add_str(b, "\033[31m");
		buffer_add_str(b, "  alert ");
		add_clean_str(b, str(alert, "name"));
		buffer_printf(b, " (%s): ", str(alert, "severity"));
		add_clean_str(b, str(alert, "subject"));
		buffer_add_str(b, ", ");
		add_clean_str(b, str(alert, "when"));
		buffer_printf(b, " for %s", clock_span(span,
		    (uint64_t)(num(alert, "duration_seconds") * 1e6)));
		if (style->colour)
			buffer_add_str(b, "\033[0m");
		buffer_add_char(b, '\n');
	}
}

/* Through which nobody can be told at the moment. */
static void
add_failing_sinks(struct buffer *b, const json_t *s)
{
	json_t *sinks = json_object_get(s, "sinks"), *sink;
	const char *name;

	json_object_foreach(sinks, name, sink) {
		const json_t *e = json_object_get(sink, "last_error");

		if (!json_is_true(json_object_get(sink, "failing")))
			continue;
		buffer_add_str(b, "  sink ");
		add_clean_str(b, name);
		buffer_printf(b, ": %.0f waiting, %.0f dropped: ",
		    num(sink, "queued"), num(sink, "dropped"));
		add_clean_str(b, str(e, "text"));
		buffer_add_char(b, '\n');
	}
}

/* ---- what the guards had to do ---- */

static void
add_count(struct buffer *b, const char *name, const json_t *n)
{
	if (!json_is_number(n) || json_number_value(n) <= 0)
		return;
	buffer_add_str(b, buffer_len(b) == 0 ? "" : ", ");
	add_clean_str(b, name);
	buffer_printf(b, " %.0f", json_number_value(n));
}

static void
add_counts(struct buffer *b, const char *before, const char *name,
    struct buffer *counts)
{
	if (buffer_len(counts) == 0)
		return;
	buffer_add_str(b, before);
	add_clean_str(b, name);
	buffer_add_str(b, ": ");
	buffer_add_slice(b, buffer_slice(counts));
	buffer_add_char(b, '\n');
	buffer_clear(counts);
}

static void
add_security(struct buffer *b, const json_t *s)
{
	_cleanup_buffer_ struct buffer all = BUFFER_INIT, n = BUFFER_INIT;
	json_t *security = json_object_get(s, "security"), *o;
	const char *name;

	json_object_foreach(security, name, o)
		add_count(&n, name, o);
	add_counts(&all, "  ", "events", &n);
	json_object_foreach(json_object_get(security, "screens"), name, o) {
		add_count(&n, "suspicious", json_object_get(o, "suspicious"));
		add_counts(&all, "  screen ", name, &n);
	}
	json_object_foreach(json_object_get(s, "queues"), name, o) {
		add_count(&n, "put off", json_object_get(o, "deferred"));
		add_count(&n, "dropped", json_object_get(o, "dropped"));
		add_counts(&all, "  queue ", name, &n);
	}
	if (buffer_len(&all) == 0)
		return;
	buffer_add_str(b, "\nSecurity\n");
	buffer_add_slice(b, buffer_slice(&all));
}

void
format_status(struct buffer *b, const json_t *s, const json_t *before,
    double seconds, const struct style *style)
{
	add_overall(b, s, style);
	add_reasons(b, s, style);
	add_firing(b, s, style);
	add_failing_sinks(b, s);
	buffer_add_char(b, '\n');
	add_queues(b, s, before, seconds, style);
	buffer_add_char(b, '\n');
	add_pools(b, s, style);
	add_checks(b, s, style);
	add_errors(b, s);
	add_security(b, s);
	if (before == NULL) {
		_cleanup_buffer_ struct buffer hints = BUFFER_INIT;

		add_hints(&hints, s);
		if (buffer_len(&hints) != 0)
			buffer_add_char(b, '\n');
		buffer_add_slice(b, buffer_slice(&hints));
	}
}

/* ---- other lists ---- */

void
format_objects(struct buffer *b, json_t *array, const struct style *style)
{
	_cleanup_buffer_ struct buffer heads = BUFFER_INIT;
	json_t *first = json_array_get(array, 0), *row, *value;
	const char *key;
	struct table t;
	size_t i;

	if (first == NULL)
		return;
	json_object_foreach(first, key, value) {
		char *head = buffer_reserve(&heads, strlen(key) + 2);
		size_t n = 0;

		if (json_is_number(value))
			head[n++] = '>';
		for (const char *p = key; *p != '\0'; p++)
			head[n++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 :
			    *p);
		buffer_commit(&heads, n);
		buffer_add_char(&heads, ' ');
	}
	table_init(&t, buffer_cstr(&heads));
	json_array_foreach(array, i, row) {
		unsigned n = 0;

		json_object_foreach(first, key, value) {
			json_t *v = json_object_get(row, key);

			if (n++ == t.ncolumns)
				break;
			if (json_is_string(v))
				table_cell(&t, "%s", json_string_value(v));
			else if (json_is_number(v))
				table_cell_take(&t, number_text(v));
			else if (json_is_boolean(v))
				table_cell(&t, "%s", json_is_true(v) ? "yes" :
				    "no");
			else if (v == NULL || json_is_null(v))
				table_cell(&t, "-");
			else
				table_cell_take(&t, json_dumps(v,
				    JSON_COMPACT | JSON_REAL_PRECISION(12)));
		}
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

void
format_dead_list(struct buffer *b, json_t *items, const struct style *style)
{
	struct table t;
	json_t *item;
	size_t i;

	table_init(&t, "ID DIED >ATTEMPTS >CRASHES ERROR >BYTES DETAIL");
	json_array_foreach(items, i, item) {
		table_cell(&t, "%s", str(item, "id"));
		table_cell(&t, "%s", *str(item, "died") != '\0' ?
		    str(item, "died") : "-");
		table_cell(&t, "%.0f", num(item, "attempts"));
		table_cell(&t, "%.0f", num(item, "crashes"));
		table_cell(&t, "%s", str(item, "error_type"));
		table_cell(&t, "%.0f", num(item, "bytes"));
		table_cell(&t, "%s", str(item, "detail"));
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

void
format_dead_item(struct buffer *b, json_t *item, bool terminal)
{
	json_t *body = json_object_get(item, "body"), *value;
	const char *key;

	json_object_foreach(item, key, value) {
		_cleanup_free_ char *dump = NULL;
		const char *s = json_string_value(value);

		if (strncmp(key, "body", 4) == 0 ||
		    strcmp(key, "attributes") == 0)
			continue;
		if (s == NULL)
			s = dump = json_dumps(value, JSON_ENCODE_ANY |
			    JSON_REAL_PRECISION(12));
		buffer_printf(b, "%-12s", key);
		add_clean(b, s, strlen(s), true);
		buffer_add_char(b, '\n');
	}
	json_object_foreach(json_object_get(item, "attributes"), key, value) {
		_cleanup_free_ char *dump = NULL;
		const char *s = json_string_value(value);

		if (s == NULL)
			s = dump = json_dumps(value, JSON_ENCODE_ANY |
			    JSON_COMPACT);
		buffer_add_str(b, "attribute   ");
		add_clean_str(b, key);
		buffer_add_char(b, '=');
		add_clean_str(b, s);
		buffer_add_char(b, '\n');
	}
	if (body == NULL) {
		buffer_printf(b, "\nnot text; in base64:\n%s\n",
		    str(item, "body_base64"));
		return;
	}
	buffer_add_char(b, '\n');
	if (terminal)
		add_clean(b, json_string_value(body), json_string_length(body),
		    true);
	else
		buffer_add(b, json_string_value(body),
		    json_string_length(body));
	buffer_add_char(b, '\n');
}
