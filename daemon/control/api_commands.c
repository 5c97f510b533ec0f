#include "control/api_private.h"

#include "base/alloc.h"

#define SCALE_MAX	1024

typedef void command_fn(struct api_conn *, json_t *request);

/* Changes made by hand belong in the journal, with who made them. */
void
api_audit(const struct api_conn *c, const struct log_fields *fields,
    const char *what)
{
	struct log_fields f = fields != NULL ? *fields :
	    (struct log_fields){ .queue = NULL };

	f.event = EVENT_CONTROL_COMMAND;
	log_notice(&f, "%s, asked for by uid %u (pid %d)", what,
	    (unsigned)c->peer.uid, (int)c->peer.pid);
}

static const char *
string_of(json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

struct queue *
api_find_queue(struct api_conn *c, json_t *request)
{
	const char *name = string_of(request, "queue");
	const char *names[64], *near;
	struct queue *q;
	struct list *l;
	size_t n = 0;

	if (name == NULL) {
		api_fail(c, "which queue? (\"queue\" is missing)");
		return NULL;
	}
	q = engine_queue(c->api->p.engine, name);
	if (q != NULL)
		return q;
	engine_foreach_queue(q, c->api->p.engine, l)
		if (n < ARRAY_SIZE(names))
			names[n++] = q->name;
	near = config_suggest(name, names, n);
	api_fail(c, "there is no queue \"%s\"%s%s%s", name,
	    near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
	    near != NULL ? "\"?" : "");
	return NULL;
}

bool
api_refuse_standby(struct api_conn *c)
{
	if (c->api->p.engine->phase != ENGINE_STANDBY)
		return false;
	api_fail(c, "it is in standby and has no queue open; \"botctl promote\" "
	    "changes that");
	return true;
}

/* ---- looking ---- */

static void
cmd_status(struct api_conn *c, json_t *request _unused_)
{
	json_t *line = json_object();

	(void)json_object_set_new(line, "status",
	    observer_status(c->api->p.observer));
	api_ok(c, line);
}

static void
cmd_history(struct api_conn *c, json_t *request)
{
	const char *queue = string_of(request, "queue");
	const char *pool = string_of(request, "pool");
	json_int_t seconds = json_integer_value(json_object_get(request,
	    "seconds"));
	json_t *line, *history;

	if ((queue == NULL) == (pool == NULL) || seconds < 1 ||
	    (uint64_t)seconds > HISTORY_SPAN_MAX_US / USEC_PER_SEC) {
		api_fail(c, "history wants queue or pool, and seconds up to "
		    "a day");
		return;
	}
	history = observer_history(c->api->p.observer, queue != NULL ?
	    HISTORY_QUEUE : HISTORY_POOL, queue != NULL ? queue : pool,
	    (uint64_t)seconds * USEC_PER_SEC);
	if (history == NULL) {
		api_fail(c, "there is no history of that name");
		return;
	}
	line = json_object();
	(void)json_object_set_new(line, "history", history);
	api_ok(c, line);
}

static void
cmd_show_config(struct api_conn *c, json_t *request _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *line = json_object();

	config_show(c->api->p.engine->config, &b, true);
	(void)json_object_set_new(line, "text", api_text(buffer_slice(&b)));
	api_ok(c, line);
}

/* ---- acting ---- */

static void
pause_or_resume(struct api_conn *c, json_t *request, bool pause)
{
	struct engine *e = c->api->p.engine;
	bool all = json_is_true(json_object_get(request, "all"));
	struct queue *one = NULL, *q;
	json_t *line, *names;
	struct list *l;

	if (all && json_object_get(request, "queue") != NULL) {
		api_fail(c, "either one queue or all");
		return;
	}
	if (!all && (one = api_find_queue(c, request)) == NULL)
		return;
	if (e->phase >= ENGINE_DRAINING) {
		api_fail(c, "the operator is draining");
		return;
	}
	names = json_array();
	engine_foreach_queue(q, e, l) {
		if (!all && q != one)
			continue;
		if (pause)
			engine_pause(e, q, PAUSED_BY_OPERATOR);
		else
			engine_resume(e, q, PAUSED_BY_OPERATOR);
		api_audit(c, LOG_QUEUE(q->name), pause ? "paused" : "resumed");
		(void)json_array_append_new(names,
		    api_text(slice_of(q->name)));
	}
	line = json_object();
	(void)json_object_set_new(line, "queues", names);
	api_ok(c, line);
}

static void
cmd_pause(struct api_conn *c, json_t *request)
{
	pause_or_resume(c, request, true);
}

static void
cmd_resume(struct api_conn *c, json_t *request)
{
	pause_or_resume(c, request, false);
}

static void
cmd_scale(struct api_conn *c, json_t *request)
{
	_cleanup_free_ char *what = NULL;
	const char *name = string_of(request, "pool");
	json_int_t min = -1, max = -1;
	struct pool *p;

	if (name == NULL) {
		api_fail(c, "which pool? (\"pool\" is missing)");
		return;
	}
	p = engine_pool(c->api->p.engine, name);
	if (p == NULL) {
		api_fail(c, "there is no pool \"%s\"", name);
		return;
	}
	if (json_unpack(request, "{s:I,s:I}", "min", &min, "max", &max) < 0 ||
	    min < 0 || max < 1 || min > max || max > SCALE_MAX) {
		api_fail(c, "min and max are numbers with 0 <= min <= max, "
		    "1 <= max <= %d", SCALE_MAX);
		return;
	}
	if (p->draining || c->api->p.engine->phase >= ENGINE_DRAINING) {
		api_fail(c, "the pool is draining");
		return;
	}
	if (p->type->ops->scale == NULL) {
		api_fail(c, "pools of type %s have no workers to scale",
		    p->type->name);
		return;
	}
	p->type->ops->scale(p, (unsigned)min, (unsigned)max);
	what = xasprintf("scaled to %u-%u workers", (unsigned)min,
	    (unsigned)max);
	api_audit(c, LOG_POOL(p->name), what);
	api_ok(c, json_pack("{s:s,s:I,s:I}", "pool", name, "min", min, "max",
	    max));
}

static void
cmd_drain(struct api_conn *c, json_t *request _unused_)
{
	const struct api_params *p = &c->api->p;

	api_audit(c, NULL, "draining");
	api_ok(c, json_pack("{s:i}", "drain_timeout_seconds",
	    (int)MIN(p->engine->drain_timeout_us / USEC_PER_SEC,
	    (uint64_t)INT32_MAX)));
	p->on_drain(p->owner);
}

/* ---- standby ---- */

static void
change_role(struct api_conn *c, const char *what,
    int (*change)(void *owner, struct buffer *ret_why))
{
	const struct api_params *p = &c->api->p;
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	int r;

	api_audit(c, NULL, what);
	r = change(p->owner, &why);
	if (r < 0)
		api_fail(c, "%s", buffer_cstr(&why));
	else
		api_ok(c, json_pack("{s:b,s:s}", "changed", r > 0, "status",
		    health_name(observer_health(p->observer))));
}

static void
cmd_promote(struct api_conn *c, json_t *request _unused_)
{
	change_role(c, "promotion", c->api->p.on_promote);
}

static void
cmd_demote(struct api_conn *c, json_t *request _unused_)
{
	change_role(c, "demotion", c->api->p.on_demote);
}

static void
cmd_reload(struct api_conn *c, json_t *request _unused_)
{
	const struct api_params *p = &c->api->p;
	_cleanup_buffer_ struct buffer problems = BUFFER_INIT;
	unsigned changed = 0;
	json_t *line;

	api_audit(c, NULL, "reloading the configuration");
	if (p->on_reload(p->owner, &changed, &problems) == 0) {
		api_ok(c, json_pack("{s:i}", "changed", (int)changed));
		return;
	}
	line = json_pack("{s:b,s:s}", "ok", 0, "error", "the configuration on "
	    "disk has errors; the one in force stays");
	(void)json_object_set_new(line, "problems",
	    api_text(buffer_slice(&problems)));
	api_line(c, line);
}

/* ---- the table ---- */

static const struct command {
	const char *name;
	const char *members;		/* besides "command", between blanks */
	command_fn *fn;
} commands[] = {
	{ "status", " ", cmd_status },
	{ "top", " ", cmd_status },
	{ "enqueue", " queue body body_base64 attributes ", api_enqueue },
	{ "pause", " queue all ", cmd_pause },
	{ "resume", " queue all ", cmd_resume },
	{ "scale", " pool min max ", cmd_scale },
	{ "drain", " ", cmd_drain },
	{ "promote", " ", cmd_promote },
	{ "demote", " ", cmd_demote },
	{ "reload", " ", cmd_reload },
	{ "show-config", " ", cmd_show_config },
	{ "history", " queue pool seconds ", cmd_history },
	{ "dead-list", " queue limit after ", api_dead },
	{ "dead-show", " queue id ", api_dead },
	{ "dead-redrive", " queue ids all rate dry_run limit ", api_dead },
	{ "dead-purge", " queue ids all rate dry_run limit ", api_dead },
	{ "debug", " what ", api_debug },
	{ "alerts", " ", api_alerts },
	{ "alert-test", " name ", api_alerts },
	{ "notify", " severity sink text ", api_alerts },
	{ "silence", " pattern duration reason ", api_alerts },
	{ "silences", " ", api_alerts },
	{ "silence-end", " silence ", api_alerts },
};

/* The first member that the command does not have, or NULL. */
static const char *
foreign_member(const struct command *cmd, json_t *request)
{
	const char *key;
	json_t *value;

	json_object_foreach(request, key, value) {
		_cleanup_free_ char *word = xasprintf(" %s ", key);

		(void)value;
		if (strcmp(key, "command") != 0 &&
		    (strchr(key, ' ') != NULL ||
		    strstr(cmd->members, word) == NULL))
			return key;
	}
	return NULL;
}

void
api_command(struct api_conn *c, json_t *request)
{
	const char *name = string_of(request, "command");
	const char *foreign;

	if (name == NULL) {
		api_fail(c, "\"command\" is missing");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		foreign = foreign_member(&commands[i], request);
		if (foreign != NULL)
			api_fail(c, "%s does not know \"%s\"", name, foreign);
		else
			commands[i].fn(c, request);
		return;
	}
	api_fail(c, "there is no command \"%s\"", name);
}
