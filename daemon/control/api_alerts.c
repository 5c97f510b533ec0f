/*
 * Alerts for a client: what there are, silences, and tests of the sinks.
 */
#include "control/api_private.h"

#include "base/alloc.h"
#include "observe/alert.h"

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

/* "uid 1000": who asked, for the list of silences. */
static char *
who(const struct api_conn *c)
{
	return xasprintf("uid %u", (unsigned)c->peer.uid);
}

/* ---- looking ---- */

static void
list_alerts(struct api_conn *c, struct alerts *a)
{
	json_t *line = json_object();

	set(line, "alerts", alerts_json(a));
	set(line, "rules", alerts_rules_json(a));
	set(line, "firing", json_boolean(alerts_any_firing(a)));
	api_ok(c, line);
}

/* ---- silences ---- */

static void
silence(struct api_conn *c, json_t *request, struct alerts *a)
{
	const char *pattern = json_string_value(json_object_get(request,
	    "pattern"));
	const char *duration = json_string_value(json_object_get(request,
	    "duration"));
	const char *reason = json_string_value(json_object_get(request,
	    "reason"));
	_cleanup_free_ char *by = who(c), *what = NULL;
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	uint64_t span_us, id;
	json_t *line;

	if (pattern == NULL || duration == NULL) {
		api_fail(c, "\"%s\" is missing", pattern == NULL ? "pattern" :
		    "duration");
		return;
	}
	if (config_parse_span(duration, &span_us, &why) < 0) {
		api_fail(c, "duration \"%.40s\": %s; such as 30min or 2h",
		    duration, buffer_cstr(&why));
		return;
	}
	if (alerts_silence(a, pattern, span_us, reason != NULL ? reason : "",
	    by, &id, &why) < 0) {
		api_fail(c, "%s", buffer_cstr(&why));
		return;
	}
	what = xasprintf("silence %llu of %s", (unsigned long long)id, pattern);
	api_audit(c, NULL, what);
	line = json_pack("{s:I}", "id", (json_int_t)id);
	set(line, "silences", alerts_silences_json(a));
	api_ok(c, line);
}

static void
silence_end(struct api_conn *c, json_t *request, struct alerts *a)
{
	const char *which = json_string_value(json_object_get(request,
	    "silence"));
	_cleanup_free_ char *what = NULL;
	unsigned n;

	if (which == NULL) {
		api_fail(c, "which? (\"silence\" is missing)");
		return;
	}
	n = alerts_silence_end(a, which);
	if (n == 0) {
		api_fail(c, "there is no silence with the id or pattern "
		    "\"%.80s\"", which);
		return;
	}
	what = xasprintf("silence %.80s ended", which);
	api_audit(c, NULL, what);
	api_ok(c, json_pack("{s:i}", "ended", (int)n));
}

static void
silences(struct api_conn *c, struct alerts *a)
{
	json_t *line = json_object();

	set(line, "silences", alerts_silences_json(a));
	api_ok(c, line);
}

/* ---- tests ---- */

struct try_op {
	struct api_op op;
	struct alert_trial *trial;	/* NULL once it has ended */
	unsigned answers, failed;
};

static void
try_free(struct try_op *t)
{
	if (t->trial != NULL)
		alert_trial_abandon(t->trial);
	api_op_end(&t->op);
	free(t);
}

static void
on_gone(struct api_op *op)
{
	try_free(container_of(op, struct try_op, op));
}

static void
on_answer(void *owner, const char *sink, bool ok, const char *text)
{
	struct try_op *t = owner;
	json_t *item = json_pack("{s:b}", "ok", ok), *line = json_object();

	set(item, "sink", api_text(slice_of(sink)));
	set(item, "text", api_text(slice_of(text)));
	set(line, "item", item);
	api_line(t->op.conn, line);
	t->answers++;
	t->failed += !ok;
}

static void
on_end(void *owner)
{
	struct try_op *t = owner;

	t->trial = NULL;
	if (t->failed != 0)
		api_fail(t->op.conn, "%u of %u sinks did not take it",
		    t->failed, t->answers);
	else
		api_ok(t->op.conn, json_pack("{s:i}", "answers",
		    (int)t->answers));
	try_free(t);
}

static const struct alert_trial_ops try_ops = { on_answer, on_end };

/* NULL, and the client has been told. */
static struct try_op *
try_begin(struct api_conn *c)
{
	struct try_op *t = new0(struct try_op);

	t->op.abandoned = on_gone;
	t->op.destroy = on_gone;
	if (api_op_begin(&t->op, c) < 0) {
		free(t);
		api_fail(c, "too much is going on; try again");
		return NULL;
	}
	return t;
}

static void
notify(struct api_conn *c, json_t *request, struct alerts *a)
{
	const char *word = json_string_value(json_object_get(request,
	    "severity"));
	const char *sink = json_string_value(json_object_get(request, "sink"));
	const char *text = json_string_value(json_object_get(request, "text"));
	enum alert_severity severity = ALERT_INFO;
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	_cleanup_free_ char *what = NULL;
	struct try_op *t;

	if (text == NULL || word == NULL) {
		api_fail(c, "\"%s\" is missing", text == NULL ? "text" :
		    "severity");
		return;
	}
	while (severity <= ALERT_CRITICAL &&
	    strcmp(alert_severity_name(severity), word) != 0)
		severity++;
	if (severity > ALERT_CRITICAL) {
		api_fail(c, "severity is info, warning or critical, not "
		    "\"%.40s\"", word);
		return;
	}
	t = try_begin(c);
	if (t == NULL)
		return;
	t->trial = alerts_notify(a, severity, sink, text, &try_ops, t, &why);
	if (t->trial == NULL) {
		api_fail(c, "%s", buffer_cstr(&why));
		try_free(t);
		return;
	}
	what = xasprintf("a message of severity %s to %s", word,
	    sink != NULL ? sink : "all sinks");
	api_audit(c, NULL, what);
}

static void
try_rule(struct api_conn *c, json_t *request, struct alerts *a)
{
	const char *name = json_string_value(json_object_get(request, "name"));
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	_cleanup_free_ char *what = NULL;
	struct try_op *t;

	if (name == NULL) {
		api_fail(c, "which rule? (\"name\" is missing)");
		return;
	}
	t = try_begin(c);
	if (t == NULL)
		return;
	t->trial = alerts_try(a, name, &try_ops, t, &why);
	if (t->trial == NULL) {
		api_fail(c, "%s", buffer_cstr(&why));
		try_free(t);
		return;
	}
	what = xasprintf("test of alert %s", name);
	api_audit(c, NULL, what);
}

/* ---- which ---- */

void
api_alerts(struct api_conn *c, json_t *request)
{
	const char *command = json_string_value(json_object_get(request,
	    "command"));
	struct alerts *a = c->api->p.alerts;

	if (a == NULL)
		api_fail(c, "this operator has no alerts");
	else if (strcmp(command, "alerts") == 0)
		list_alerts(c, a);
	else if (strcmp(command, "notify") == 0)
		notify(c, request, a);
	else if (strcmp(command, "silence") == 0)
		silence(c, request, a);
	else if (strcmp(command, "silence-end") == 0)
		silence_end(c, request, a);
	else if (strcmp(command, "silences") == 0)
		silences(c, a);
	else
		try_rule(c, request, a);
}
