/*
 * alert_rig.h - engine objects filled in by hand, alerts over them, a sink
 * that remembers, and a clock that the test moves.
 */
#ifndef BOT_TESTS_UNIT_ALERT_RIG_H
#define BOT_TESTS_UNIT_ALERT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "observe/alert.h"

/* 2026-11-23T16:00:00Z */
#define WALL_US		(UINT64_C(1795449600) * USEC_PER_SEC)
#define START_US	(1000 * USEC_PER_SEC)
#define SEC		USEC_PER_SEC

#define EVENTS_MAX	64
#define QUEUES_MAX	2
#define LOG_MAX		16384

struct seen_event {
	enum alert_event_kind kind;
	char rule[64], subject[64], summary[512], note[128];
	char last_line[RECENT_LINE_BYTES];
	double value;
	uint64_t since_us, duration_us, ticket;
	unsigned nlines;
};

struct world {
	struct loop *loop;
	struct engine engine;
	struct queue q[QUEUES_MAX];
	struct pool p;
	struct observer *o;
	struct alerts *a;
	struct config *config;
	struct alert_sink sink;
	struct seen_event events[EVENTS_MAX];
	unsigned nevents;
	char dir[64], path[96];
	char log[LOG_MAX];		/* warnings and errors, a line each */
	size_t log_bytes;
};

static const struct queue_ops rig_queue_ops = { .status = NULL };
static const struct queue_type rig_queue_type = { .name = "fake",
	.ops = &rig_queue_ops };
static _unused_ void
rig_pool_status(struct pool *p, json_t *object)
{
	(void)p;
	(void)json_object_update_new(object, json_pack("{s:i,s:i,s:s}",
	    "starting", 1001, "connections", 1002, "program", "/bin/cat"));
}

static const struct handler_ops rig_handler_ops = { .status =
	rig_pool_status };
static const struct handler_type rig_handler_type = { .name = "fake",
	.ops = &rig_handler_ops };
static const struct config_kind *const rig_schema[] = { &alert_kind, NULL };

static _unused_ void
rig_on_event(struct alert_sink *s, const struct alert_event *e)
{
	struct world *w = s->owner;
	struct seen_event *seen;

	assert_true(w->nevents < EVENTS_MAX);
	seen = &w->events[w->nevents++];
	seen->kind = e->kind;
	seen->value = e->value;
	seen->since_us = e->since_us;
	seen->duration_us = e->duration_us;
	seen->ticket = e->ticket;
	seen->nlines = e->nlines;
	assert_string_equal(e->instance, "client-sample");
	snprintf(seen->rule, sizeof(seen->rule), "%s", e->rule);
	snprintf(seen->subject, sizeof(seen->subject), "%s", e->subject_title);
	snprintf(seen->summary, sizeof(seen->summary), "%s", e->summary);
	snprintf(seen->note, sizeof(seen->note), "%s",
	    e->note != NULL ? e->note : "");
	snprintf(seen->last_line, sizeof(seen->last_line), "%s",
	    e->nlines != 0 ? e->lines[e->nlines - 1]->text : "");
}

static _unused_ void
rig_on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	struct world *w = owner;

	(void)f;
	if (level > LOG_LEVEL_NOTICE)
		return;
	w->log_bytes += (size_t)snprintf(w->log + w->log_bytes,
	    sizeof(w->log) - w->log_bytes, "%s: %s\n", log_level_name(level),
	    text);
	assert_true(w->log_bytes < sizeof(w->log));
}

static _unused_ bool
rig_logged(const struct world *w, const char *part)
{
	return strstr(w->log, part) != NULL;
}

static _unused_ void
rig_add_queue(struct world *w, unsigned i, const char *name)
{
	struct queue *q = &w->q[i];

	q->name = xstrdup(name);
	q->type = &rig_queue_type;
	q->engine = &w->engine;
	q->pool = &w->p;
	q->connected = true;
	list_init(&q->engine_link);
	list_init(&q->pool_link);
	list_push_back(&w->engine.queues, &q->engine_link);
	list_push_back(&w->p.queues, &q->pool_link);
}

static _unused_ void
rig_remove_queue(struct world *w, unsigned i)
{
	list_remove(&w->q[i].engine_link);
	list_remove(&w->q[i].pool_link);
}

static _unused_ struct config *
rig_config(const char *text)
{
	struct config *c = config_load_text("test.conf", text, rig_schema);
	static const char *const sinks[] = { "pager", "mail", NULL };

	if (config_problems(c) == 0)
		alerts_check(c, NULL, sinks);
	if (config_problems(c) != 0)
		fail_msg("%s", config_problem_text(c, 0));
	return c;
}

/* The operator starts: observer, alerts with the rules of that text, sink. */
static _unused_ void
rig_begin(struct world *w, const char *rules)
{
	w->o = observer_new(w->loop, &w->engine);
	observer_set_instance(w->o, "client-sample");
	w->config = rig_config(rules);
	w->a = alerts_new(w->loop, w->o, w->config, w->path);
	w->sink.name = "pager";
	w->sink.notify = rig_on_event;
	w->sink.owner = w;
	alerts_add_sink(w->a, &w->sink);
}

static _unused_ void
rig_end(struct world *w)
{
	if (w->a != NULL)
		alerts_remove_sink(w->a, &w->sink);
	alerts_free(w->a);
	observer_free(w->o);
	config_unref(w->config);
	w->a = NULL;
	w->o = NULL;
	w->config = NULL;
}

static _unused_ void
rig_reload(struct world *w, const char *rules)
{
	struct config *c = rig_config(rules);

	observer_refresh(w->o);
	alerts_reload(w->a, c);
	config_unref(w->config);
	w->config = c;
}

static _unused_ int
rig_setup(void **state)
{
	struct world *w = new0(struct world);

	clock_set_virtual(START_US, WALL_US);
	log_tap(rig_on_log, w);
	log_tap_exclusive(true);
	assert_int_equal(loop_new(&w->loop), 0);
	w->engine.loop = w->loop;
	w->engine.phase = ENGINE_RUNNING;
	list_init(&w->engine.queues);
	list_init(&w->engine.pools);
	w->p.name = xstrdup("mail");
	w->p.type = &rig_handler_type;
	w->p.engine = &w->engine;
	w->p.timeout_us = 30 * SEC;
	w->p.min = 1;
	w->p.max = w->p.workers = 4;
	w->p.up = true;
	list_init(&w->p.queues);
	list_init(&w->p.engine_link);
	list_push_back(&w->engine.pools, &w->p.engine_link);
	rig_add_queue(w, 0, "orders");
	snprintf(w->dir, sizeof(w->dir), "/tmp/bot-alerts-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/test.alerts.json", w->dir);
	*state = w;
	return 0;
}

static _unused_ int
rig_teardown(void **state)
{
	struct world *w = *state;
	char command[256];

	rig_end(w);
	loop_free(w->loop);
	for (unsigned i = 0; i < QUEUES_MAX; i++)
		free(w->q[i].name);
	free(w->p.name);
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
	clock_set_real();
	snprintf(command, sizeof(command), "chmod -R u+w %s && rm -r %s",
	    w->dir, w->dir);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

static _unused_ void
rig_set_backlog(struct world *w, unsigned i, uint64_t n)
{
	w->q[i].backlog = (struct backlog){ .waiting = n, .oldest_us = SEC,
		.sampled_us = clock_monotonic_us(), .waiting_known = true };
}

/* Second by second, as the loop would; the backlogs are sampled anew. */
static _unused_ void
rig_run(struct world *w, unsigned seconds)
{
	for (unsigned i = 0; i < seconds; i++) {
		clock_advance(SEC);
		for (unsigned k = 0; k < QUEUES_MAX; k++)
			if (w->q[k].backlog.sampled_us != 0)
				w->q[k].backlog.sampled_us =
				    clock_monotonic_us();
		(void)loop_turn(w->loop, 0);
	}
}

/* The state of a rule and subject in the document; "inactive": not there. */
static _unused_ const char *
rig_state(struct world *w, const char *rule, const char *subject)
{
	static char out[16];
	json_t *all = alerts_json(w->a), *j;
	size_t i;

	snprintf(out, sizeof(out), "inactive");
	json_array_foreach(all, i, j)
		if (strcmp(json_string_value(json_object_get(j, "name")),
		    rule) == 0 && strcmp(json_string_value(json_object_get(j,
		    "subject")), subject) == 0)
			snprintf(out, sizeof(out), "%s", json_string_value(
			    json_object_get(j, "state")));
	json_decref(all);
	return out;
}

/* A member of the only alert. Borrowed until the next call. */
static _unused_ json_t *
rig_member(struct world *w, const char *key)
{
	static json_t *kept;
	json_t *all = alerts_json(w->a);

	json_decref(kept);
	kept = all;
	assert_int_equal(json_array_size(all), 1);
	return json_object_get(json_array_get(all, 0), key);
}

static _unused_ size_t
rig_count_silences(struct world *w)
{
	json_t *silences = alerts_silences_json(w->a);
	size_t n = json_array_size(silences);

	json_decref(silences);
	return n;
}

#endif
