/*
 * The page for people: one self-contained document without script.
 */
#include <math.h>

#include "control/routes.h"

const char page_policy[] = "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{font:15px/1.45 system-ui,sans-serif;max-width:75rem;"
    "margin:1.5rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .7rem .25rem 0;"
    "border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent);"
    "vertical-align:top}"
    "th{font-weight:600}.n{text-align:right;"
    "font-variant-numeric:tabular-nums}.wide{overflow-x:auto}"
    ".s{font-weight:600;padding:.1rem .5rem;border-radius:.4rem;"
    "border:1px solid currentColor}"
    ".ok{color:light-dark(#17692f,#6fd08c)}"
    ".degraded,.starting,.draining{color:light-dark(#8a5300,#f0b95a)}"
    ".down{color:light-dark(#b3261e,#ff8a80)}p{margin:.5rem 0}";

static void
add_text(struct buffer *b, const char *s)
{
	for (; *s != '\0'; s++) {
		switch (*s) {
		case '&':
			buffer_add_str(b, "&amp;");
			break;
		case '<':
			buffer_add_str(b, "&lt;");
			break;
		case '>':
			buffer_add_str(b, "&gt;");
			break;
		case '"':
			buffer_add_str(b, "&quot;");
			break;
		case '\'':
			buffer_add_str(b, "&#39;");
			break;
		default:
			buffer_add_char(b, *s);
			break;
		}
	}
}

/* "a.b" of the object; NULL when it is not there, or null. */
static const json_t *
get(const json_t *j, const char *path)
{
	char name[64];
	size_t n;

	for (;; path += n + 1) {
		n = strcspn(path, ".");
		if (n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		j = json_object_get(j, name);
		if (path[n] == '\0')
			return json_is_null(j) ? NULL : j;
	}
}

static const char *
get_text(const json_t *j, const char *path)
{
	const char *s = json_string_value(get(j, path));

	return s != NULL ? s : "";
}

/* What is not known is a dash, not a zero. */
static void
add_value(struct buffer *b, const json_t *j)
{
	if (json_is_string(j))
		add_text(b, json_string_value(j));
	else if (json_is_integer(j))
		buffer_printf(b, "%lld", (long long)json_integer_value(j));
	else if (json_is_real(j) && isfinite(json_real_value(j)))
		buffer_printf(b, "%.*f", fabs(json_real_value(j)) < 10 ? 2 : 1,
		    json_real_value(j));
	else if (json_is_boolean(j))
		buffer_add_str(b, json_is_true(j) ? "yes" : "no");
	else
		buffer_add_str(b, "&ndash;");
}

static void
add_number_cell(struct buffer *b, const json_t *j, const char *path)
{
	buffer_add_str(b, "<td class=n>");
	add_value(b, get(j, path));
}

/* Classes are a fixed set: a state from elsewhere gets none. */
static void
add_state(struct buffer *b, const char *state)
{
	static const char *const known[] = { "ok", "degraded", "starting",
		"draining", "down" };
	const char *class = "";

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(state, known[i]) == 0)
			class = known[i];
	buffer_printf(b, "<span class=\"s %s\">", class);
	add_text(b, state);
	buffer_add_str(b, "</span>");
}

struct column {
	const char *title;
	const char *path;
};

static const struct column queue_columns[] = {
	{ "backlog", "backlog" }, { "oldest (s)", "backlog_age_seconds" },
	{ "in flight", "in_flight" }, { "per second", "rate_per_second" },
	{ "done", "done" }, { "retried", "retried" }, { "dead", "dead" },
	{ "errors (%)", "error_rate_percent" },
	{ "p50 (ms)", "processing_ms.p50" }, { "p95 (ms)", "processing_ms.p95" },
	{ "p99 (ms)", "processing_ms.p99" },
};

static const struct column pool_columns[] = {
	{ "workers", "workers" }, { "busy", "busy" }, { "min", "min" },
	{ "max", "max" }, { "in use (%)", "utilization_percent" },
	{ "restarts", "restarts" }, { "crashes", "crashes" },
	{ "time-outs", "timeouts" },
};

static void
add_titles(struct buffer *b, const char *first, const char *second,
    const struct column *columns, size_t n)
{
	buffer_printf(b, "<div class=wide><table><tr><th scope=col>%s"
	    "<th scope=col>%s", first, second);
	for (size_t i = 0; i < n; i++)
		buffer_printf(b, "<th scope=col class=n>%s", columns[i].title);
	buffer_add_char(b, '\n');
}

static void
add_row_head(struct buffer *b, const char *name)
{
	buffer_add_str(b, "<tr><th scope=row>");
	add_text(b, name);
	buffer_add_str(b, "<td>");
}

static void
add_cells(struct buffer *b, const json_t *row, const struct column *columns,
    size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_number_cell(b, row, columns[i].path);
	buffer_add_char(b, '\n');
}

static void
add_queue_state(struct buffer *b, const json_t *q)
{
	const char *error = get_text(q, "error.text");

	add_text(b, get_text(q, "type"));
	if (json_is_false(get(q, "connected")))
		buffer_add_str(b, ", not connected");
	if (json_is_true(get(q, "paused")))
		buffer_add_str(b, ", paused");
	if (*error != '\0') {
		buffer_add_str(b, ": ");
		add_text(b, error);
	}
}

static void
add_queues(struct buffer *b, const json_t *queues)
{
	const char *name;
	json_t *q;

	buffer_add_str(b, "<h2>Queues</h2>\n");
	if (json_object_size(queues) == 0) {
		buffer_add_str(b, "<p>None.</p>\n");
		return;
	}
	add_titles(b, "queue", "state", queue_columns,
	    ARRAY_SIZE(queue_columns));
	json_object_foreach((json_t *)queues, name, q) {
		add_row_head(b, name);
		add_queue_state(b, q);
		add_cells(b, q, queue_columns, ARRAY_SIZE(queue_columns));
	}
	buffer_add_str(b, "</table></div>\n");
}

static void
add_pools(struct buffer *b, const json_t *pools)
{
	const char *name, *error;
	json_t *p;

	buffer_add_str(b, "<h2>Pools</h2>\n");
	if (json_object_size(pools) == 0) {
		buffer_add_str(b, "<p>None.</p>\n");
		return;
	}
	add_titles(b, "pool", "state", pool_columns, ARRAY_SIZE(pool_columns));
	json_object_foreach((json_t *)pools, name, p) {
		add_row_head(b, name);
		error = get_text(p, "error.text");
		buffer_add_str(b, json_is_false(get(p, "up")) ? "down" : "up");
		if (*error != '\0') {
			buffer_add_str(b, ": ");
			add_text(b, error);
		}
		add_cells(b, p, pool_columns, ARRAY_SIZE(pool_columns));
	}
	buffer_add_str(b, "</table></div>\n");
}

static void
add_checks(struct buffer *b, const json_t *checks)
{
	buffer_add_str(b, "<h2>Checks</h2>\n<div class=wide><table>"
	    "<tr><th scope=col>check<th scope=col>state<th scope=col>since"
	    "<th scope=col>detail\n");
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *c = json_array_get(checks, i);

		add_row_head(b, get_text(c, "name"));
		add_state(b, get_text(c, "status"));
		buffer_add_str(b, "<td>");
		add_text(b, get_text(c, "since"));
		buffer_add_str(b, "<td>");
		add_text(b, get_text(c, "detail"));
		buffer_add_char(b, '\n');
	}
	buffer_add_str(b, "</table></div>\n");
}

static void
add_top(struct buffer *b, const json_t *status)
{
	static const struct column figures[] = {
		{ "Backlog", "backlog" }, { "done", "totals.done" },
		{ "retried", "totals.retried" }, { "dead", "totals.dead" },
		{ "up (s)", "uptime_seconds" },
		{ "longest loop turn (ms)", "loop.longest_turn_ms" },
	};

	buffer_add_str(b, "<h1>");
	add_text(b, get_text(status, "instance"));
	buffer_add_char(b, ' ');
	add_state(b, get_text(status, "status"));
	buffer_add_str(b, "</h1>\n<p>bot-operator ");
	add_text(b, get_text(status, "version"));
	buffer_add_str(b, ", in this state since ");
	add_text(b, get_text(status, "since"));
	buffer_add_str(b, ".</p>\n<p>");
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		const json_t *j = get(status, figures[i].path);

		if (j == NULL)
			continue;
		buffer_printf(b, "%s%s <b>", i != 0 ? " &middot; " : "",
		    figures[i].title);
		add_value(b, j);
		buffer_add_str(b, "</b>");
	}
	buffer_add_str(b, "</p>\n");
}

void
page_add(struct buffer *b, const json_t *status)
{
	buffer_add_str(b, "<!DOCTYPE html>\n<html lang=en><head>"
	    "<meta charset=utf-8>\n"
	    "<meta name=viewport content=\"width=device-width\">\n"
	    "<meta name=color-scheme content=\"light dark\">\n"
	    "<meta http-equiv=refresh content=5>\n<title>");
	add_text(b, get_text(status, "status"));
	buffer_add_str(b, ": ");
	add_text(b, get_text(status, "instance"));
	buffer_printf(b, "</title>\n<style>%s</style></head>\n<body><main>\n",
	    style);
	add_top(b, status);
	add_queues(b, get(status, "queues"));
	add_pools(b, get(status, "pools"));
	add_checks(b, get(status, "checks"));
	buffer_add_str(b, "<p>The same for programs: "
	    "<a href=\"/.well-known/engine-status\">status</a>, "
	    "<a href=\"/metrics\">metrics</a>, "
	    "<a href=\"/readyz\">ready</a>, "
	    "<a href=\"/healthz\">health</a>. This page loads anew every "
	    "5 seconds.</p>\n</main></body></html>\n");
}
