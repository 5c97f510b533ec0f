/*
 * botctl alerts, alert test and silence: what people are told of, and not.
 */
#include "botctl.h"

#include "base/alloc.h"
#include "base/clock.h"

/* "10min", from a member in seconds; null: never. */
static void
span_cell(struct table *t, const json_t *j, const char *key)
{
	const json_t *n = json_object_get(j, key);
	char span[CLOCK_SPAN_BYTES];

	if (!json_is_number(n)) {
		table_cell(t, "-");
		return;
	}
	table_cell(t, "%s", clock_span(span,
	    (uint64_t)(json_number_value(n) * 1e6)));
}

static void
value_cell(struct table *t, const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	if (json_is_string(v))
		table_cell(t, "%s", json_string_value(v));
	else if (json_is_boolean(v))
		table_cell(t, "%s", json_is_true(v) ? "yes" : "no");
	else if (json_is_number(v))
		table_cell(t, "%.12g", json_number_value(v));
	else
		table_cell(t, "not known");
}

/* ---- alerts ---- */

static void
add_alerts(struct buffer *b, const json_t *alerts, const struct style *style)
{
	struct table t;
	size_t i;
	json_t *j;

	if (json_array_size(alerts) == 0) {
		buffer_add_str(b, "nothing fires, and nothing is about to\n");
		return;
	}
	table_init(&t, "STATE SEVERITY ALERT SUBJECT >VALUE WHEN >FOR SINCE "
	    "SILENCE");
	json_array_foreach(alerts, i, j) {
		const char *silence = text_of(j, "silence");

		table_cell(&t, "%s", text_of(j, "state"));
		table_cell(&t, "%s", text_of(j, "severity"));
		table_cell(&t, "%s", text_of(j, "name"));
		table_cell(&t, "%s", text_of(j, "subject"));
		value_cell(&t, j, "value");
		table_cell(&t, "%s", text_of(j, "when"));
		span_cell(&t, j, "duration_seconds");
		table_cell(&t, "%s", text_of(j, "since"));
		table_cell(&t, "%s", *silence != '\0' ? silence : "-");
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

static void
add_rules(struct buffer *b, const json_t *rules, const struct style *style)
{
	struct table t;
	size_t i;
	json_t *j;

	table_init(&t, "RULE SEVERITY WHEN >FOR >REPEAT >PENDING >FIRING");
	json_array_foreach(rules, i, j) {
		table_cell(&t, "%s", text_of(j, "name"));
		table_cell(&t, "%s", text_of(j, "severity"));
		table_cell(&t, "%s", text_of(j, "when"));
		span_cell(&t, j, "for_seconds");
		span_cell(&t, j, "repeat_seconds");
		value_cell(&t, j, "pending");
		value_cell(&t, j, "firing");
	}
	table_print(&t, b, "", style);
	table_done(&t);
}

int
cmd_alerts(const struct command *cmd _unused_, struct options *o)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct style style = style_of_stdout();
	json_t *last;
	int r = ask(o, request_new("alerts"), NULL, NULL, &last);

	if (r == 0 && !o->json) {
		add_alerts(&b, json_object_get(last, "alerts"), &style);
		if (o->given & OPT_ALL) {
			buffer_add_char(&b, '\n');
			add_rules(&b, json_object_get(last, "rules"), &style);
		}
		r = print(&b);
	}
	if (r == 0 && json_is_true(json_object_get(last, "firing")))
		r = BOTCTL_FIRING;
	json_decref(last);
	return r;
}

/* ---- alert test ---- */

static int
say_answer(struct options *o _unused_, json_t *item, void *arg _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *sink = text_of(item, "sink"), *text = text_of(item, "text");

	add_clean(&b, sink, strlen(sink), false);
	buffer_add_str(&b, json_is_true(json_object_get(item, "ok")) ?
	    ": " : ": failed: ");
	add_clean(&b, text, strlen(text), false);
	buffer_add_char(&b, '\n');
	return print(&b);
}

int
cmd_alert_test(const struct command *cmd _unused_, struct options *o)
{
	json_t *request = request_new("alert-test"), *last;
	int r;

	put_text(request, "name", o->operands[0]);
	o->slow = true;
	r = ask(o, request, say_answer, NULL, &last);
	json_decref(last);
	return r;
}

int
cmd_notify(const struct command *cmd, struct options *o)
{
	json_t *request, *last;
	int r;

	if ((o->given & OPT_SEVERITY) == 0) {
		complain("how bad is it? (--severity is missing)\n"
		    "Usage: botctl notify %s", cmd->usage);
		return BOTCTL_BAD_USE;
	}
	request = request_new("notify");
	put_text(request, "severity", o->severity);
	put_text(request, "text", o->operands[0]);
	if (o->given & OPT_SINK)
		put_text(request, "sink", o->sink);
	o->slow = true;
	r = ask(o, request, say_answer, NULL, &last);
	json_decref(last);
	return r;
}

/* ---- silence ---- */

static int
list_silences(struct options *o)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct style style = style_of_stdout();
	json_t *last, *array, *j;
	struct table t;
	size_t i;
	int r = ask(o, request_new("silences"), NULL, NULL, &last);

	array = json_object_get(last, "silences");
	if (r == 0 && !o->json) {
		table_init(&t, ">ID PATTERN >LEFT UNTIL >MATCHES BY REASON");
		json_array_foreach(array, i, j) {
			value_cell(&t, j, "id");
			table_cell(&t, "%s", text_of(j, "pattern"));
			span_cell(&t, j, "seconds_left");
			table_cell(&t, "%s", text_of(j, "until"));
			value_cell(&t, j, "matches");
			table_cell(&t, "%s", text_of(j, "by"));
			table_cell(&t, "%s", text_of(j, "reason"));
		}
		if (json_array_size(array) == 0)
			buffer_add_str(&b, "no silences\n");
		else
			table_print(&t, &b, "", &style);
		table_done(&t);
		r = print(&b);
	}
	json_decref(last);
	return r;
}

/* What was just made is most likely a typo. */
static bool
covers_nothing(const json_t *answer)
{
	const json_t *id = json_object_get(answer, "id");
	const json_t *all = json_object_get(answer, "silences");

	for (size_t i = 0; i < json_array_size(all); i++) {
		const json_t *s = json_array_get(all, i);

		if (json_equal(json_object_get(s, "id"), id))
			return json_integer_value(json_object_get(s,
			    "covers")) == 0;
	}
	return false;
}

static int
end_silence(struct options *o)
{
	json_t *request = request_new("silence-end"), *last;
	int r;

	put_text(request, "silence", o->end);
	r = ask(o, request, NULL, NULL, &last);
	if (r == 0 && !o->json)
		printf("ended: %.0f\n",
		    json_number_value(json_object_get(last, "ended")));
	json_decref(last);
	return r;
}

int
cmd_silence(const struct command *cmd, struct options *o)
{
	bool list = o->given & OPT_LIST, end = o->given & OPT_END;
	json_t *request, *last;
	int r;

	if ((list || end) ? o->noperands != 0 || (list && end) ||
	    (o->given & OPT_REASON) : o->noperands != 2) {
		complain("silence wants a pattern and a duration, or --list, "
		    "or --end\nUsage: botctl silence %s", cmd->usage);
		return BOTCTL_BAD_USE;
	}
	if (list)
		return list_silences(o);
	if (end)
		return end_silence(o);
	request = request_new("silence");
	put_text(request, "pattern", o->operands[0]);
	put_text(request, "duration", o->operands[1]);
	if (o->given & OPT_REASON)
		put_text(request, "reason", o->reason);
	r = ask(o, request, NULL, NULL, &last);
	if (r == 0 && !o->json)
		printf("silence %.0f: %s for %s%s\n",
		    json_number_value(json_object_get(last, "id")),
		    o->operands[0], o->operands[1], covers_nothing(last) ?
		    "; there is no rule or subject like that now" : "");
	json_decref(last);
	return r;
}
