/*
 * The text of botctl report.
 */
#include "botctl.h"

#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"

static const char *
span_of(char out[CLOCK_SPAN_BYTES], double seconds)
{
	return clock_span(out, (uint64_t)(seconds < 0 ? 0 : seconds) *
	    USEC_PER_SEC);
}

/* A number that is whole mostly; "-" when it is not known. */
static void
cell(struct table *t, const json_t *j, const char *key)
{
	const json_t *x = json_object_get(j, key);

	if (json_is_number(x))
		table_cell(t, "%.0f", round(json_number_value(x)));
	else
		table_cell(t, "-");
}

static void
text_cell(struct table *t, const json_t *j, const char *key)
{
	const char *s = text_of(j, key);

	table_cell(t, "%s", *s != '\0' ? s : "-");
}

static void
clean(struct buffer *b, const char *text)
{
	add_clean(b, text, strlen(text), false);
}

/* ---- the parts ---- */

static void
add_head(struct buffer *b, const json_t *r)
{
	char up[CLOCK_SPAN_BYTES], kept[CLOCK_SPAN_BYTES];
	const char *period = text_of(r, "period");

	buffer_printf(b, "Report (%s) of bot-operator ", period);
	clean(b, text_of(r, "instance"));
	buffer_printf(b, ", %s\n", text_of(r, "at"));
	buffer_printf(b, "Status: %s since %s; version %s, up %s\n",
	    text_of(r, "status"), text_of(r, "since"), text_of(r, "version"),
	    span_of(up, number_of(r, "uptime_seconds")));
	buffer_printf(b, "Peaks and trends are of the last %s%s; counts are "
	    "since the start at %s.\n",
	    span_of(kept, number_of(r, "history_seconds")),
	    strcmp(period, "daily") != 0 ?
	    " (a day is all that the operator keeps)" : "",
	    text_of(r, "started"));
}

static void
add_anomalies(struct buffer *b, const json_t *r)
{
	json_t *a = json_object_get(r, "anomalies"), *x;
	size_t i;

	if (json_array_size(a) == 0) {
		buffer_add_str(b, "\nAnomalies: none\n");
		return;
	}
	buffer_printf(b, "\nAnomalies: %zu\n", json_array_size(a));
	json_array_foreach(a, i, x) {
		buffer_add_str(b, "  ");
		clean(b, text_of(x, "what"));
		buffer_add_str(b, ": ");
		clean(b, text_of(x, "text"));
		buffer_add_char(b, '\n');
	}
}

static void
add_backlog(struct buffer *b, const json_t *r, const struct style *style)
{
	char span[CLOCK_SPAN_BYTES];
	struct table t;
	json_t *x;
	size_t i;

	buffer_add_str(b, "\nBacklog\n");
	table_init(&t, "QUEUE >NOW >PEAK PEAK_AT TREND >OLDEST >DELAYED "
	    ">DONE >RETRIED >DEAD");
	json_array_foreach(json_object_get(r, "backlog"), i, x) {
		text_cell(&t, x, "queue");
		cell(&t, x, "now");
		cell(&t, x, "peak");
		text_cell(&t, x, "peak_at");
		text_cell(&t, x, "trend");
		if (number_of(x, "oldest_seconds") > 0)
			table_cell(&t, "%s", span_of(span, number_of(x,
			    "oldest_seconds")));
		else
			table_cell(&t, "-");
		cell(&t, x, "delayed");
		cell(&t, x, "done");
		cell(&t, x, "retried");
		cell(&t, x, "dead");
	}
	table_print(&t, b, "  ", style);
	table_done(&t);
}

static char *
types_text(const json_t *types)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *x;
	size_t i;

	json_array_foreach(types, i, x)
		buffer_printf(&b, "%s%s %.0f", i != 0 ? ", " : "",
		    text_of(x, "type"), number_of(x, "count"));
	return buffer_len(&b) != 0 ? buffer_dup(&b) : xstrdup("-");
}

static void
add_dead(struct buffer *b, const json_t *r, const struct style *style)
{
	struct table t;
	json_t *x;
	size_t i;

	if (json_array_size(json_object_get(r, "dead")) == 0)
		return;
	buffer_add_str(b, "\nDead letters (types of the oldest 100; failures "
	    "since the start)\n");
	table_init(&t, "QUEUE >LETTERS OLDEST TYPES FAILURES");
	json_array_foreach(json_object_get(r, "dead"), i, x) {
		text_cell(&t, x, "queue");
		cell(&t, x, "letters");
		text_cell(&t, x, "oldest");
		table_cell_take(&t, types_text(json_object_get(x, "types")));
		table_cell_take(&t, types_text(json_object_get(x, "errors")));
	}
	table_print(&t, b, "  ", style);
	table_done(&t);
}

static void
add_resources(struct buffer *b, const json_t *r, const struct style *style)
{
	const json_t *p = json_object_get(r, "process");
	double up = number_of(r, "uptime_seconds");
	struct table t;
	json_t *x;
	size_t i;

	buffer_printf(b, "\nResources: the operator has %.1f MiB of memory, "
	    "used %.2f %% of a processor, watches %.0f of at most %.0f "
	    "descriptors\n", number_of(p, "rss_bytes") / 1048576,
	    100 * number_of(p, "cpu_seconds") / (up > 1 ? up : 1),
	    number_of(p, "descriptors"), number_of(p, "descriptors_max"));
	table_init(&t, "POOL >WORKERS >MAX >USED% >RESTARTS >IN_HISTORY "
	    ">CRASHES >TIMEOUTS");
	json_array_foreach(json_object_get(r, "pools"), i, x) {
		text_cell(&t, x, "pool");
		cell(&t, x, "workers");
		cell(&t, x, "max");
		cell(&t, x, "utilization_percent");
		cell(&t, x, "restarts");
		cell(&t, x, "restarts_in_history");
		cell(&t, x, "crashes");
		cell(&t, x, "timeouts");
	}
	table_print(&t, b, "  ", style);
	table_done(&t);
}

/* One line for each queue: a message has no columns. */
static void
add_lines(struct buffer *b, const json_t *r)
{
	json_t *x;
	size_t i;

	buffer_add_char(b, '\n');
	json_array_foreach(json_object_get(r, "backlog"), i, x) {
		const json_t *dead = json_array_get(json_object_get(r,
		    "dead"), i);

		clean(b, text_of(x, "queue"));
		if (json_is_number(json_object_get(x, "now")))
			buffer_printf(b, ": backlog %.0f", number_of(x,
			    "now"));
		else
			buffer_add_str(b, ": backlog not known");
		if (json_is_number(json_object_get(x, "peak")))
			buffer_printf(b, " (peak %.0f, %s)", number_of(x,
			    "peak"), text_of(x, "trend"));
		buffer_printf(b, ", done %.0f, retried %.0f, dead %.0f",
		    number_of(x, "done"), number_of(x, "retried"),
		    number_of(x, "dead"));
		if (json_is_number(json_object_get(dead, "letters")))
			buffer_printf(b, ", dead letters %.0f",
			    number_of(dead, "letters"));
		buffer_add_char(b, '\n');
	}
}

void
report_text(struct buffer *b, const json_t *report, bool brief)
{
	const struct style plain = { .width = 0 };

	add_head(b, report);
	if (brief) {
		add_lines(b, report);
		add_anomalies(b, report);
		return;
	}
	add_anomalies(b, report);
	add_backlog(b, report, &plain);
	add_dead(b, report, &plain);
	add_resources(b, report, &plain);
}
