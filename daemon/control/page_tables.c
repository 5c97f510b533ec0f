/*
 * The page without script: the status document as plain tables.
 */
#include "control/page_private.h"

#define NO_COLUMNS	NULL, 0
#define WORDS(...)	((const char *const[]){ __VA_ARGS__, NULL })

/* ---- what is wrong ---- */

struct problems {
	struct buffer *out;
	unsigned n;
};

static void
add_problem(struct problems *p, const char *state, const char *name,
    const char *text, const char *since)
{
	if (p->n++ == 0)
		buffer_add_str(p->out, "<ul class=problems>\n");
	buffer_add_str(p->out, "<li>");
	page_state(p->out, state);
	buffer_add_str(p->out, " <b>");
	page_text(p->out, name);
	buffer_add_str(p->out, "</b> ");
	page_text(p->out, text);
	buffer_add_str(p->out, " <span class=faint>since ");
	page_text(p->out, since);
	buffer_add_str(p->out, "</span>\n");
}

static void
add_bad_checks(struct problems *p, const json_t *checks, const char *state)
{
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *c = json_array_get(checks, i);

		if (strcmp(page_get_text(c, "status"), state) == 0)
			add_problem(p, state, page_get_text(c, "name"),
			    page_get_text(c, "detail"),
			    page_get_text(c, "since"));
	}
}

static void
add_firing(struct problems *p, const json_t *alerts, bool critical)
{
	_cleanup_buffer_ struct buffer name = BUFFER_INIT;

	for (size_t i = 0; i < json_array_size(alerts); i++) {
		const json_t *a = json_array_get(alerts, i);

		if (strcmp(page_get_text(a, "state"), "firing") != 0 ||
		    json_is_true(page_get(a, "silenced")) || critical !=
		    (strcmp(page_get_text(a, "severity"), "critical") == 0))
			continue;
		buffer_clear(&name);
		buffer_printf(&name, "%s / %s", page_get_text(a, "name"),
		    page_get_text(a, "subject"));
		add_problem(p, critical ? "critical" : "firing",
		    buffer_cstr(&name),
		    page_get_text(a, "when"), page_get_text(a, "since"));
	}
}

static void
add_failing_sinks(struct problems *p, const json_t *sinks)
{
	const char *name;
	json_t *s;

	json_object_foreach((json_t *)sinks, name, s) {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;
		_cleanup_buffer_ struct buffer text = BUFFER_INIT;

		if (!json_is_true(page_get(s, "failing")))
			continue;
		buffer_printf(&b, "sink:%s", name);
		buffer_printf(&text, "%s: %s",
		    page_get_text(s, "failing_means"),
		    page_get_text(s, "last_error.text"));
		add_problem(p, "warning", buffer_cstr(&b), buffer_cstr(&text),
		    page_get_text(s, "last_error.at"));
	}
}

static void
add_problems(struct buffer *b, const json_t *status)
{
	const json_t *checks = page_get(status, "checks");
	struct problems p = { .out = b };

	add_bad_checks(&p, checks, "down");
	add_firing(&p, page_get(status, "alerts"), true);
	add_bad_checks(&p, checks, "degraded");
	add_firing(&p, page_get(status, "alerts"), false);
	add_bad_checks(&p, checks, "warning");
	add_failing_sinks(&p, page_get(status, "sinks"));
	if (p.n != 0)
		buffer_add_str(b, "</ul>\n");
	else
		buffer_add_str(b, "<p>Nothing is wrong.</p>\n");
}

static void
add_top(struct buffer *b, const json_t *status)
{
	static const struct page_column figures[] = {
		{ "backlog", "backlog" }, { "done", "totals.done" },
		{ "retried", "totals.retried" }, { "dead", "totals.dead" },
		{ "up (s)", "uptime_seconds" },
		{ "longest loop turn (ms)", "loop.longest_turn_ms" },
	};
	const char *between = "";

	buffer_add_str(b, "<h1>");
	page_text(b, page_get_text(status, "instance"));
	buffer_add_char(b, ' ');
	page_state(b, page_get_text(status, "status"));
	buffer_add_str(b, "</h1>\n<p class=faint>since ");
	page_text(b, page_get_text(status, "since"));
	buffer_add_str(b, "; bot-operator ");
	page_text(b, page_get_text(status, "version"));
	buffer_add_str(b, "</p>\n");
	add_problems(b, status);
	buffer_add_str(b, "<p>");
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		const json_t *j = page_get(status, figures[i].path);

		if (j == NULL)
			continue;
		buffer_printf(b, "%s%s <b>", between, figures[i].title);
		page_value(b, j);
		buffer_add_str(b, "</b>");
		between = " &middot; ";
	}
	buffer_add_str(b, "</p>\n");
}

/* ---- queues and pools ---- */

static const struct page_column queue_columns[] = {
	{ "backlog", "backlog" }, { "oldest (s)", "backlog_age_seconds" },
	{ "in flight", "in_flight" }, { "per second", "rate_per_second" },
	{ "errors (%)", "error_rate_percent" }, { "done", "done" },
	{ "retried", "retried" }, { "dead", "dead" },
	{ "dead letters", "dead_backlog" },
	{ "p50 (ms)", "processing_ms.p50" },
	{ "p95 (ms)", "processing_ms.p95" },
	{ "p99 (ms)", "processing_ms.p99" },
};

static const struct page_column pool_columns[] = {
	{ "workers", "workers" }, { "busy", "busy" }, { "min", "min" },
	{ "max", "max" }, { "in use (%)", "utilization_percent" },
	{ "restarts", "restarts" }, { "crashes", "crashes" },
	{ "time-outs", "timeouts" },
};

static void
add_error(struct buffer *b, const json_t *j)
{
	const char *error = page_get_text(j, "error.text");

	if (*error == '\0')
		return;
	buffer_add_str(b, ": ");
	page_text(b, error);
	buffer_add_str(b, " <span class=faint>since ");
	page_text(b, page_get_text(j, "error.since"));
	buffer_add_str(b, "</span>");
}

static void
add_queue_state(struct buffer *b, const json_t *q)
{
	buffer_add_str(b, "<td>");
	page_text(b, page_get_text(q, "type"));
	if (json_is_false(page_get(q, "connected")))
		buffer_add_str(b, ", not connected");
	if (json_is_true(page_get(q, "paused"))) {
		buffer_add_str(b, ", paused by ");
		page_value(b, page_get(q, "paused_by"));
	}
	add_error(b, q);
}

static void
add_queues(struct buffer *b, const json_t *queues)
{
	const char *name;
	json_t *q;

	page_table(b, "Queues", WORDS("queue", "state"), queue_columns,
	    ARRAY_SIZE(queue_columns));
	json_object_foreach((json_t *)queues, name, q) {
		page_row(b, name);
		add_queue_state(b, q);
		page_numbers(b, q, queue_columns, ARRAY_SIZE(queue_columns));
	}
	page_table_end(b);
}

static void
add_pools(struct buffer *b, const json_t *pools)
{
	const char *name;
	json_t *p;

	page_table(b, "Pools", WORDS("pool", "state"), pool_columns,
	    ARRAY_SIZE(pool_columns));
	json_object_foreach((json_t *)pools, name, p) {
		page_row(b, name);
		buffer_add_str(b, json_is_false(page_get(p, "up")) ?
		    "<td>down" : "<td>up");
		add_error(b, p);
		page_numbers(b, p, pool_columns, ARRAY_SIZE(pool_columns));
	}
	page_table_end(b);
}

static void
add_errors(struct buffer *b, const json_t *queues)
{
	const char *name, *type;
	json_t *q, *count;
	bool any = false;

	json_object_foreach((json_t *)queues, name, q)
		any |= json_object_size(page_get(q, "errors")) != 0;
	if (!any)
		return;
	page_table(b, "Errors by type", WORDS("queue", "type", "since the "
	    "start"), NO_COLUMNS);
	json_object_foreach((json_t *)queues, name, q)
		json_object_foreach((json_t *)page_get(q, "errors"), type,
		    count) {
			page_row(b, name);
			buffer_add_str(b, "<td>");
			page_text(b, type);
			buffer_add_str(b, "<td>");
			page_value(b, count);
			buffer_add_char(b, '\n');
		}
	page_table_end(b);
}

/* ---- the rest ---- */

static void
add_alerts(struct buffer *b, const json_t *alerts)
{
	if (json_array_size(alerts) == 0)
		return;
	page_table(b, "Alerts", WORDS("alert", "state", "severity", "about",
	    "when", "value", "since", "silenced by"), NO_COLUMNS);
	for (size_t i = 0; i < json_array_size(alerts); i++) {
		const json_t *a = json_array_get(alerts, i);

		page_row(b, page_get_text(a, "name"));
		buffer_add_str(b, "<td>");
		page_state(b, page_get_text(a, "state"));
		page_cell(b, a, "severity");
		page_cell(b, a, "subject");
		page_cell(b, a, "when");
		page_cell(b, a, "value");
		page_cell(b, a, "since");
		page_cell(b, a, "silence");
		buffer_add_char(b, '\n');
	}
	page_table_end(b);
}

static void
add_dependencies(struct buffer *b, const json_t *all)
{
	const char *name;
	json_t *d;

	if (json_object_size(all) == 0)
		return;
	page_table(b, "Dependencies", WORDS("check", "state", "target",
	    "detail", "since", "took (ms)", "days left", "queues"),
	    NO_COLUMNS);
	json_object_foreach((json_t *)all, name, d) {
		page_row(b, name);
		buffer_add_str(b, "<td>");
		page_state(b, page_get_text(d, "status"));
		page_cell(b, d, "target");
		page_cell(b, d, "detail");
		page_cell(b, d, "since");
		page_cell(b, d, "latency_ms");
		page_cell(b, d, "days_left");
		page_cell(b, d, "queues");
		buffer_add_char(b, '\n');
	}
	page_table_end(b);
}

static void
add_sinks(struct buffer *b, const json_t *sinks)
{
	static const struct page_column columns[] = {
		{ "waiting", "queued" }, { "sent", "sent" },
		{ "failed", "failed" }, { "dropped", "dropped" },
	};
	const char *name;
	json_t *s;

	if (json_object_size(sinks) == 0)
		return;
	page_table(b, "Sinks", WORDS("sink", "last error"), columns,
	    ARRAY_SIZE(columns));
	json_object_foreach((json_t *)sinks, name, s) {
		page_row(b, name);
		page_cell(b, s, "last_error.text");
		page_numbers(b, s, columns, ARRAY_SIZE(columns));
	}
	page_table_end(b);
}

static void
add_checks(struct buffer *b, const json_t *checks)
{
	page_table(b, "Health", WORDS("of", "state", "since", "detail"),
	    NO_COLUMNS);
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *c = json_array_get(checks, i);

		page_row(b, page_get_text(c, "name"));
		buffer_add_str(b, "<td>");
		page_state(b, page_get_text(c, "status"));
		page_cell(b, c, "since");
		page_cell(b, c, "detail");
		buffer_add_char(b, '\n');
	}
	page_table_end(b);
}

/* What a line was about, in one cell. */
static void
add_about(struct buffer *b, const json_t *line)
{
	static const char *const keys[] = { "queue", "pool", "check" };
	const char *between = "";

	buffer_add_str(b, "<td>");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *name = page_get_text(line, keys[i]);

		if (*name == '\0')
			continue;
		buffer_printf(b, "%s%s ", between, keys[i]);
		page_text(b, name);
		between = ", ";
	}
}

static void
add_log(struct buffer *b, const json_t *log)
{
	if (json_array_size(log) == 0)
		return;
	page_table(b, "Last warnings and errors", WORDS("at", "level", "about",
	    "text"), NO_COLUMNS);
	for (size_t i = json_array_size(log); i-- > 0;) {
		const json_t *line = json_array_get(log, i);

		page_row(b, page_get_text(line, "at"));
		buffer_add_str(b, "<td>");
		page_state(b, page_get_text(line, "level"));
		add_about(b, line);
		page_cell(b, line, "text");
		buffer_add_char(b, '\n');
	}
	page_table_end(b);
}

void
page_tables(struct buffer *b, const json_t *status, const json_t *log)
{
	add_top(b, status);
	add_alerts(b, page_get(status, "alerts"));
	add_queues(b, page_get(status, "queues"));
	add_pools(b, page_get(status, "pools"));
	add_dependencies(b, page_get(status, "dependencies"));
	add_errors(b, page_get(status, "queues"));
	add_sinks(b, page_get(status, "sinks"));
	add_log(b, log);
	add_checks(b, page_get(status, "checks"));
}
