/*
 * Rates, health and metrics from engine objects filled in by hand, on a clock
 * that the test moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "observe/notify.h"
#include "observe/observer.h"

/* 2026-11-23T16:00:00Z */
#define WALL_US		(UINT64_C(1795449600) * USEC_PER_SEC)
#define START_US	(1000 * USEC_PER_SEC)
#define SEC		USEC_PER_SEC

struct world {
	struct loop *loop;
	struct engine engine;
	struct queue q[2];
	struct pool p[2];
	struct observer *o;
	unsigned slots;
};

static struct world *the_world;

static void
queue_own_status(struct queue *q, json_t *object)
{
	(void)q;
	json_object_set_new(object, "stream", json_string("orders"));
	json_object_set_new(object, "done", json_string("not the kind's"));
}

static unsigned
pool_slots(struct pool *p)
{
	(void)p;
	return the_world->slots;
}

static const struct queue_ops queue_ops = { .status = queue_own_status };
static const struct queue_type queue_type = { .name = "fake",
	.ops = &queue_ops };
static const struct handler_ops handler_ops = { .slots = pool_slots };
static const struct handler_type handler_type = { .name = "fake",
	.ops = &handler_ops };

static void
add_pool(struct world *w, size_t i, const char *name)
{
	struct pool *p = &w->p[i];

	p->name = xstrdup(name);
	p->type = &handler_type;
	p->engine = &w->engine;
	p->timeout_us = 30 * SEC;
	p->min = 2;
	p->max = 4;
	p->workers = 4;
	p->up = true;
	list_init(&p->engine_link);
	list_init(&p->queues);
	list_push_back(&w->engine.pools, &p->engine_link);
}

static void
add_queue(struct world *w, size_t i, const char *name, struct pool *p)
{
	struct queue *q = &w->q[i];

	q->name = xstrdup(name);
	q->type = &queue_type;
	q->engine = &w->engine;
	q->pool = p;
	q->connected = true;
	list_init(&q->engine_link);
	list_init(&q->pool_link);
	list_push_back(&w->engine.queues, &q->engine_link);
	list_push_back(&p->queues, &q->pool_link);
}

static int
setup(void **state)
{
	struct world *w = new0(struct world);

	clock_set_virtual(START_US, WALL_US);
	assert_int_equal(loop_new(&w->loop), 0);
	w->engine.loop = w->loop;
	w->engine.phase = ENGINE_RUNNING;
	list_init(&w->engine.queues);
	list_init(&w->engine.pools);
	add_pool(w, 0, "mail");
	add_queue(w, 0, "orders", &w->p[0]);
	w->slots = 4;
	the_world = w;
	w->o = observer_new(w->loop, &w->engine);
	observer_set_instance(w->o, "client-sample");
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	observer_free(w->o);
	loop_free(w->loop);
	for (size_t i = 0; i < 2; i++) {
		free(w->q[i].name);
		free(w->p[i].name);
	}
	free(w);
	clock_set_real();
	return 0;
}

/* Second by second, as the loop would. */
static void
run_seconds(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		clock_advance(SEC);
		(void)loop_turn(w->loop, 0);
	}
}

static json_t *
check_of(json_t *doc, const char *name)
{
	json_t *check;
	size_t i;

	json_array_foreach(json_object_get(doc, "checks"), i, check)
		if (strcmp(json_string_value(json_object_get(check, "name")),
		    name) == 0)
			return check;
	fail_msg("no check %s", name);
	return NULL;
}

/* Status of a check and a piece of its detail. */
static void
assert_check(struct world *w, const char *name, const char *status,
    const char *detail)
{
	json_t *doc = observer_status(w->o), *c = check_of(doc, name);
	const char *said = json_string_value(json_object_get(c, "detail"));

	assert_string_equal(json_string_value(json_object_get(c, "status")),
	    status);
	if (detail == NULL)
		assert_string_equal(said, "");
	else if (strstr(said, detail) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", said, detail);
	json_decref(doc);
}

static json_t *
queue_doc(json_t *doc, const char *name)
{
	return json_object_get(json_object_get(doc, "queues"), name);
}

static double
num(json_t *j, const char *key)
{
	json_t *v = json_object_get(j, key);

	if (!json_is_number(v))
		fail_msg("%s is no number", key);
	return json_number_value(v);
}

#define assert_near(a, b) \
	assert_true((a) - (b) < 1e-6 && (b) - (a) < 1e-6)

/* ---- numbers ---- */

static void
test_rates_are_of_the_last_minute(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];
	json_t *doc, *j;

	/* A minute of 10 a second, of which one fails. */
	for (int i = 0; i < 60; i++) {
		q->stats.received += 10;
		q->stats.done += 9;
		q->stats.failed += 1;
		run_seconds(w, 1);
	}
	doc = observer_status(w->o);
	j = queue_doc(doc, "orders");
	assert_near(num(j, "rate_per_second"), 10);
	assert_near(num(j, "error_rate_percent"), 10);
	assert_near(num(j, "received"), 600);
	json_decref(doc);

	/* Half a minute of nothing halves it; a whole one forgets it. */
	run_seconds(w, 30);
	doc = observer_status(w->o);
	assert_near(num(queue_doc(doc, "orders"), "rate_per_second"), 5);
	json_decref(doc);
	run_seconds(w, 31);
	doc = observer_status(w->o);
	j = queue_doc(doc, "orders");
	assert_near(num(j, "rate_per_second"), 0);
	assert_near(num(j, "error_rate_percent"), 0);
	json_decref(doc);
}

static void
test_first_messages_are_no_absurd_rate(void **state)
{
	struct world *w = *state;
	json_t *doc;

	clock_advance(1000);
	w->q[0].stats.done = 3;
	doc = observer_status(w->o);
	assert_near(num(queue_doc(doc, "orders"), "rate_per_second"), 3);
	json_decref(doc);
}

static void
test_percentiles_are_of_the_last_minute(void **state)
{
	struct world *w = *state;
	struct histogram *h = &w->q[0].stats.processing;
	json_t *doc, *p;

	doc = observer_status(w->o);
	p = json_object_get(queue_doc(doc, "orders"), "processing_ms");
	assert_true(json_is_null(json_object_get(p, "p95")));
	json_decref(doc);

	histogram_record_n(h, 10 * USEC_PER_MSEC, 90);
	histogram_record_n(h, 100 * USEC_PER_MSEC, 10);
	doc = observer_status(w->o);
	p = json_object_get(queue_doc(doc, "orders"), "processing_ms");
	assert_near(num(p, "mean"), 19);
	assert_true(num(p, "p50") > 9.6 && num(p, "p50") < 10.4);
	assert_true(num(p, "p95") > 96 && num(p, "p95") < 104);
	json_decref(doc);

	/* Slower now: the old ones leave the window. */
	run_seconds(w, 75);
	histogram_record_n(h, 1000 * USEC_PER_MSEC, 5);
	doc = observer_status(w->o);
	p = json_object_get(queue_doc(doc, "orders"), "processing_ms");
	assert_near(num(p, "mean"), 1000);
	assert_true(num(p, "p50") > 960 && num(p, "p50") < 1040);
	json_decref(doc);
}

static void
test_a_replaced_queue_starts_over(void **state)
{
	struct world *w = *state;
	json_t *doc;

	w->q[0].stats.received = w->q[0].stats.done = 500;
	run_seconds(w, 5);
	/* A reload made a new object under the old name. */
	memset(&w->q[0].stats, 0, sizeof(w->q[0].stats));
	observer_refresh(w->o);
	run_seconds(w, 1);
	w->q[0].stats.done = 2;
	doc = observer_status(w->o);
	assert_near(num(queue_doc(doc, "orders"), "rate_per_second"), 2);
	json_decref(doc);
}

static void
test_removed_queues_and_pools_are_forgotten(void **state)
{
	struct world *w = *state;
	json_t *doc;

	add_pool(w, 1, "web");
	add_queue(w, 1, "hooks", &w->p[1]);
	doc = observer_status(w->o);
	(void)check_of(doc, "queue:hooks");
	(void)check_of(doc, "pool:web");
	json_decref(doc);
	list_remove(&w->q[1].engine_link);
	list_remove(&w->q[1].pool_link);
	list_remove(&w->p[1].engine_link);
	observer_refresh(w->o);
	doc = observer_status(w->o);
	assert_int_equal(json_array_size(json_object_get(doc, "checks")), 3);
	assert_null(queue_doc(doc, "hooks"));
	json_decref(doc);
}

static void
test_document_says_what_it_knows(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];
	json_t *doc, *j;

	doc = observer_status(w->o);
	j = queue_doc(doc, "orders");
	assert_true(json_is_null(json_object_get(j, "backlog")));
	assert_true(json_is_null(json_object_get(j, "backlog_age_seconds")));
	assert_true(json_is_null(json_object_get(j, "dead_backlog")));
	assert_true(json_is_null(json_object_get(j, "last_done_seconds")));
	assert_true(json_is_null(json_object_get(doc, "backlog")));
	assert_true(json_is_false(json_object_get(doc, "backlog_complete")));
	json_decref(doc);

	q->backlog = (struct backlog){ .waiting = 12, .waiting_known = true,
		.oldest_us = 3100 * USEC_PER_MSEC, .sampled_us = START_US };
	q->nwaiting = 1;
	q->nrunning = 3;
	q->stats.last_done_us = START_US;
	q->stats.nerrors = 1;
	strcpy(q->stats.errors[0].type, "timeout");
	q->stats.errors[0].count = 4;
	w->p[0].busy = 3;
	run_seconds(w, 5);
	doc = observer_status(w->o);
	j = queue_doc(doc, "orders");
	assert_near(num(j, "backlog"), 12);
	assert_near(num(doc, "backlog"), 12);
	assert_near(num(j, "backlog_age_seconds"), 3.1);
	assert_near(num(j, "backlog_sampled_seconds"), 5);
	assert_near(num(j, "in_flight"), 4);
	assert_near(num(j, "last_done_seconds"), 5);
	assert_near(num(json_object_get(j, "errors"), "timeout"), 4);
	/* The kind's own figures come along and replace none of ours. */
	assert_string_equal(json_string_value(json_object_get(j, "stream")),
	    "orders");
	assert_near(num(j, "done"), 0);
	j = json_object_get(json_object_get(doc, "pools"), "mail");
	assert_near(num(j, "utilization_percent"), 75);
	assert_near(num(doc, "uptime_seconds"), 5);
	assert_string_equal(json_string_value(json_object_get(doc, "instance")),
	    "client-sample");
	assert_string_equal(json_string_value(json_object_get(doc, "since")),
	    "2026-11-23T16:00:00Z");
	assert_int_equal(json_array_size(json_object_get(doc, "alerts")), 0);
	json_decref(doc);
}

static void
test_foreign_bytes_leave_valid_json(void **state)
{
	struct world *w = *state;
	char *text;
	json_t *doc, *again;

	w->q[0].connected = false;
	error_set(&w->q[0].error, ERROR_PROTOCOL, "bad", "it said \xff\xfe");
	doc = observer_status(w->o);
	text = json_dumps(doc, STATUS_DUMP_FLAGS);
	assert_non_null(text);
	assert_non_null(strstr(text, "it said "));
	again = json_loads(text, 0, NULL);
	assert_non_null(again);
	json_decref(again);
	free(text);
	json_decref(doc);
}

static void
test_document_prints_short_numbers(void **state)
{
	struct world *w = *state;
	json_t *doc;
	char *text;

	run_seconds(w, 10);
	w->q[0].stats.done = 812;
	doc = observer_status(w->o);
	text = json_dumps(doc, STATUS_DUMP_FLAGS);
	assert_non_null(strstr(text, "\"rate_per_second\":81.2,"));
	free(text);
	json_decref(doc);
}

/* ---- health ---- */

static void
test_starting_until_all_were_up_or_time_is_over(void **state)
{
	struct world *w = *state;

	w->q[0].connected = false;
	observer_free(w->o);
	w->o = observer_new(w->loop, &w->engine);
	observer_set_instance(w->o, "client-sample");
	assert_int_equal(observer_health(w->o), HEALTH_STARTING);
	assert_check(w, "queue:orders", "starting", "connecting");
	run_seconds(w, 29);
	assert_int_equal(observer_health(w->o), HEALTH_STARTING);
	run_seconds(w, 1);
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
	assert_check(w, "queue:orders", "degraded", "not connected");
	assert_false(observer_ready(w->o));
	w->q[0].connected = true;
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	assert_true(observer_ready(w->o));
	/* Once up, an outage is no start. */
	w->q[0].connected = false;
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
}

static void
test_pool_still_starting(void **state)
{
	struct world *w = *state;

	observer_free(w->o);
	w->p[0].up = false;
	w->q[0].paused = PAUSED_BY_POOL;
	w->o = observer_new(w->loop, &w->engine);
	observer_set_instance(w->o, "client-sample");
	assert_int_equal(observer_health(w->o), HEALTH_STARTING);
	assert_check(w, "pool:mail", "starting", "starting workers");
	assert_check(w, "queue:orders", "starting", "pool mail");
	/* A handler that fails is not starting any more. */
	error_set(&w->p[0].error, ERROR_INTERNAL, "exec", "no such file");
	assert_int_equal(observer_health(w->o), HEALTH_DOWN);
	assert_check(w, "pool:mail", "degraded", "no such file");
}

static void
test_unreachable_broker_is_degraded(void **state)
{
	struct world *w = *state;
	json_t *doc, *e;

	run_seconds(w, 40);
	w->q[0].connected = false;
	w->q[0].changed_us = clock_monotonic_us();
	error_set(&w->q[0].error, ERROR_TRANSIENT, "ECONNREFUSED",
	    "connecting to redis: Connection refused");
	run_seconds(w, 10);
	assert_check(w, "queue:orders", "degraded",
	    "since 2026-11-23T16:00:40Z: connecting to redis: Connection "
	    "refused");
	doc = observer_status(w->o);
	e = json_object_get(queue_doc(doc, "orders"), "error");
	assert_string_equal(json_string_value(json_object_get(e, "class")),
	    "transient");
	assert_string_equal(json_string_value(json_object_get(e, "since")),
	    "2026-11-23T16:00:40Z");
	json_decref(doc);
	/* An hour of it is still no reason to be killed. */
	run_seconds(w, 3600);
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
	w->q[0].connected = true;
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	doc = observer_status(w->o);
	assert_true(json_is_null(json_object_get(queue_doc(doc, "orders"),
	    "error")));
	assert_true(json_is_object(json_object_get(queue_doc(doc, "orders"),
	    "last_error")));
	json_decref(doc);
}

/* A fresh sample of the backlog every second. */
static void
run_with_backlog(struct world *w, unsigned seconds, uint64_t waiting)
{
	for (unsigned i = 0; i < seconds; i++) {
		w->q[0].backlog = (struct backlog){ .waiting = waiting,
			.waiting_known = true,
			.sampled_us = clock_monotonic_us() };
		run_seconds(w, 1);
	}
}

static void
test_invariant_8_health_is_progress(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];

	/* Alive, connected and idle is fine, for as long as it lasts. */
	q->credit = 10;
	run_with_backlog(w, 600, 0);
	assert_int_equal(observer_health(w->o), HEALTH_OK);

	/* The first message after that does not count as 10 minutes late. */
	run_with_backlog(w, 1, 1);
	assert_int_equal(observer_health(w->o), HEALTH_OK);

	/* Work, credit, and nothing for a minute: just as alive, not well. */
	run_with_backlog(w, 58, 12);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	run_with_backlog(w, 3, 12);
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
	assert_check(w, "queue:orders", "degraded",
	    "backlog 12, but nothing was received or done for 1min");

	/* One message is progress. */
	q->stats.received++;
	run_with_backlog(w, 1, 11);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	assert_check(w, "queue:orders", "ok", NULL);

	/* No credit is our own doing (all workers at work): no stall. */
	q->credit = 0;
	run_with_backlog(w, 120, 11);
	assert_int_equal(observer_health(w->o), HEALTH_OK);

	/* Messages here, workers free, nothing moves. */
	q->nwaiting = 3;
	run_with_backlog(w, 62, 0);
	assert_check(w, "queue:orders", "degraded", "3 messages wait here");
	/* They wait for a busy worker: the pool's check is to judge that. */
	w->slots = 0;
	run_with_backlog(w, 62, 0);
	assert_check(w, "queue:orders", "ok", NULL);

	/* The pool cannot run anything: then nothing can be done at all. */
	w->p[0].up = false;
	error_set(&w->p[0].error, ERROR_INTERNAL, "exec", "no such handler");
	assert_int_equal(observer_health(w->o), HEALTH_DOWN);
	assert_false(observer_ready(w->o));
	/* The broker gone as well changes nothing about that... */
	w->p[0].up = true;
	/* ...and alone it is degraded, never down. */
	q->connected = false;
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
}

static void
test_a_slow_rate_limit_is_no_stall(void **state)
{
	struct world *w = *state;

	w->q[0].credit = 1;
	w->q[0].rate_limit = 1.0 / 600;
	run_with_backlog(w, 1190, 5);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	run_with_backlog(w, 20, 5);
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
}

static void
test_an_old_sample_is_no_evidence(void **state)
{
	struct world *w = *state;

	w->q[0].credit = 1;
	run_with_backlog(w, 10, 5);
	/* The probe stopped answering; what it said then proves nothing. */
	run_seconds(w, 300);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
}

static void
test_pauses_name_their_reason(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];

	q->paused = PAUSED_BY_OPERATOR;
	assert_check(w, "queue:orders", "ok", "paused by operator");
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	q->paused = PAUSED_BY_RATE_LIMITED;
	q->rate_limited_until_us = clock_monotonic_us() + 20 * SEC;
	assert_check(w, "queue:orders", "degraded",
	    "rate_limited until 2026-11-23T16:00:20Z (20s more)");
	q->paused = PAUSED_BY_OPERATOR | PAUSED_BY_POOL;
	error_set(&w->p[0].error, ERROR_INTERNAL, "exec", "exit code 3");
	assert_check(w, "queue:orders", "degraded",
	    "pool mail cannot run anything: exit code 3");
	q->paused = PAUSED_BY_CHECK;
	assert_check(w, "queue:orders", "degraded", "check");
}

static void
test_settle_errors_that_keep_coming(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];

	/* One outage: many at one moment. */
	q->stats.settle_errors = 200;
	run_seconds(w, 5);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	for (int i = 0; i < 2; i++) {
		q->stats.settle_errors++;
		run_seconds(w, 5);
	}
	assert_check(w, "queue:orders", "degraded", "202 settlements");
	run_seconds(w, 60);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
}

static void
test_pool_without_verdicts(void **state)
{
	struct world *w = *state;
	struct pool *p = &w->p[0];

	p->busy = 4;
	p->stats.verdicts = 7;
	run_seconds(w, 60);
	assert_check(w, "pool:mail", "ok", NULL);
	run_seconds(w, 2);
	assert_check(w, "pool:mail", "degraded",
	    "all 4 workers are busy and none gave a verdict for 1min");
	p->stats.verdicts++;
	assert_check(w, "pool:mail", "ok", NULL);
	/* One of them free: slow, but not stuck. */
	p->busy = 3;
	run_seconds(w, 300);
	assert_check(w, "pool:mail", "ok", NULL);
	/* Timeout=infinity has no end to be late for. */
	p->busy = 4;
	p->timeout_us = USEC_INFINITY;
	run_seconds(w, 300);
	assert_check(w, "pool:mail", "ok", NULL);
}

static void
test_one_dead_pool_of_two_is_degraded(void **state)
{
	struct world *w = *state;

	add_pool(w, 1, "web");
	add_queue(w, 1, "hooks", &w->p[1]);
	run_seconds(w, 1);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	w->p[1].up = false;
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
	assert_true(observer_ready(w->o));
	w->p[0].up = false;
	assert_int_equal(observer_health(w->o), HEALTH_DOWN);
	assert_false(observer_ready(w->o));
}

static void
test_draining_goes_before_all(void **state)
{
	struct world *w = *state;

	w->p[0].up = false;
	w->engine.phase = ENGINE_DRAINING;
	w->engine.drain_until_us = clock_monotonic_us() + 30 * SEC;
	assert_int_equal(observer_health(w->o), HEALTH_DRAINING);
	assert_false(observer_ready(w->o));
}

static void
test_a_late_loop_is_the_problem(void **state)
{
	struct world *w = *state;

	run_seconds(w, 3);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
	/* Something held it for 12 s; the document is asked for before the
	   timer runs. */
	clock_advance(12 * SEC);
	assert_int_equal(observer_health(w->o), HEALTH_DOWN);
	assert_check(w, "loop", "down", "the loop is 11s late");
	/* It turns again: no longer down, but not forgotten for a minute. */
	(void)loop_turn(w->loop, 0);
	run_seconds(w, 1);
	assert_int_equal(observer_health(w->o), HEALTH_DEGRADED);
	assert_check(w, "loop", "degraded", "held up for 11s");
	run_seconds(w, 60);
	assert_int_equal(observer_health(w->o), HEALTH_OK);
}

static void
test_since_is_when_the_state_changed(void **state)
{
	struct world *w = *state;
	json_t *doc, *c;

	run_seconds(w, 10);
	w->q[0].connected = false;
	run_seconds(w, 5);
	error_set(&w->q[0].error, ERROR_AUTH, "NOAUTH", "now it says why");
	run_seconds(w, 5);
	doc = observer_status(w->o);
	c = check_of(doc, "queue:orders");
	/* A new text is the same trouble. */
	assert_string_equal(json_string_value(json_object_get(c, "since")),
	    "2026-11-23T16:00:11Z");
	assert_string_equal(json_string_value(json_object_get(doc, "since")),
	    "2026-11-23T16:00:11Z");
	json_decref(doc);
}

static void
test_the_line(void **state)
{
	struct world *w = *state;
	struct buffer b = BUFFER_INIT;

	run_seconds(w, 10);
	w->q[0].stats.done = 810;
	w->q[0].backlog = (struct backlog){ .waiting = 12,
		.waiting_known = true, .sampled_us = START_US };
	observer_line(w->o, &b);
	assert_string_equal(buffer_cstr(&b), "ok: 1 queue, 81/s, backlog 12");
	buffer_clear(&b);
	w->q[0].connected = false;
	error_set(&w->q[0].error, ERROR_AUTH, "NOAUTH", "wrong password");
	w->q[0].changed_us = clock_monotonic_us();
	observer_line(w->o, &b);
	assert_string_equal(buffer_cstr(&b), "degraded: 1 queue, 81/s, backlog "
	    "12; queue orders: not connected since 2026-11-23T16:00:10Z: "
	    "wrong password");
	buffer_done(&b);
}

/* ---- metrics ---- */

/* Walks the lines as a scraper would; fails on any that it would refuse. */
struct scrape {
	char family[128], type[128];
	char seen[200][128];
	size_t nseen, samples;
};

static void
begin_family(struct scrape *s, const char *name, const char *type)
{
	for (size_t i = 0; i < s->nseen; i++)
		if (strcmp(s->seen[i], name) == 0)
			fail_msg("family %s comes twice", name);
	assert_true(s->nseen < ARRAY_SIZE(s->seen));
	snprintf(s->seen[s->nseen++], sizeof(s->seen[0]), "%s", name);
	snprintf(s->family, sizeof(s->family), "%s", name);
	snprintf(s->type, sizeof(s->type), "%s", type);
}

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* name="value",... up to the brace; returns what is behind it. */
static const char *
check_labels(const char *p)
{
	for (;;) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz_");

		assert_true(n != 0);
		p += n;
		assert_true(p[0] == '=' && p[1] == '"');
		for (p += 2; *p != '"'; p++) {
			assert_true(*p != '\0');
			if (*p == '\\') {
				p++;
				assert_true(*p == '\\' || *p == '"' || *p == 'n');
			}
		}
		p++;
		if (*p == '}')
			return p + 1;
		assert_int_equal(*p++, ',');
	}
}

static void
check_sample(struct scrape *s, const char *line)
{
	size_t n = strcspn(line, "{ "), f = strlen(s->family);
	char suffix[64], *end;
	const char *p = line + n;

	assert_true(n >= f && strncmp(line, s->family, f) == 0);
	snprintf(suffix, sizeof(suffix), "%.*s", (int)(n - f), line + f);
	if (strcmp(s->type, "counter") == 0)
		assert_string_equal(suffix, "_total");
	else if (strcmp(s->type, "info") == 0)
		assert_string_equal(suffix, "_info");
	else if (strcmp(s->type, "summary") == 0)
		assert_true(*suffix == '\0' || strcmp(suffix, "_sum") == 0 ||
		    strcmp(suffix, "_count") == 0);
	else
		assert_string_equal(suffix, "");
	if (*p == '{')
		p = check_labels(p + 1);
	assert_int_equal(*p, ' ');
	(void)strtod(p + 1, &end);
	assert_true(end != p + 1 && *end == '\0');
	s->samples++;
}

static void
check_line(struct scrape *s, char *line)
{
	char word[3][128];

	if (strncmp(line, "# TYPE ", 7) == 0) {
		assert_int_equal(sscanf(line, "# TYPE %127s %127s", word[0],
		    word[1]), 2);
		begin_family(s, word[0], word[1]);
	} else if (strncmp(line, "# UNIT ", 7) == 0) {
		assert_int_equal(sscanf(line, "# UNIT %127s %127s", word[0],
		    word[1]), 2);
		assert_string_equal(word[0], s->family);
		/* The unit is the end of the name. */
		assert_true(ends_with(word[0], word[1]));
	} else if (strncmp(line, "# HELP ", 7) == 0) {
		assert_int_equal(sscanf(line, "# HELP %127s", word[0]), 1);
		assert_string_equal(word[0], s->family);
	} else {
		assert_int_not_equal(line[0], '#');
		check_sample(s, line);
	}
}

static bool
has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *p = text; (p = strstr(p, line)) != NULL; p += n)
		if ((p == text || p[-1] == '\n') && p[n] == '\n')
			return true;
	return false;
}

static void
assert_line(const char *text, const char *line)
{
	if (!has_line(text, line))
		fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void
test_metrics_line_by_line(void **state)
{
	struct world *w = *state;
	struct queue *q = &w->q[0];
	struct buffer b = BUFFER_INIT;
	struct scrape s = { .nseen = 0 };
	char *copy, *line, *save;

	add_queue(w, 1, "a\"b\\c\nd\xff", &w->p[0]);
	run_seconds(w, 1);
	q->stats.received = 1000;
	q->stats.done = 990;
	q->stats.bytes_received = 5;
	q->stats.nerrors = 1;
	strcpy(q->stats.errors[0].type, "timeout");
	q->stats.errors[0].count = 4;
	q->backlog = (struct backlog){ .waiting = 12, .waiting_known = true,
		.sampled_us = START_US, .oldest_us = 1500000 };
	q->nrunning = 3;
	q->stats.last_done_us = START_US;
	histogram_record_n(&q->stats.processing, 8, 10);
	w->p[0].busy = 3;
	w->p[0].stats.busy_us = 1500000;
	observer_metrics(w->o, &b);
	copy = xstrdup(buffer_cstr(&b));

	assert_line(copy, "# TYPE bot_operator_queue_received counter");
	assert_line(copy, "bot_operator_queue_received_total"
	    "{queue=\"orders\"} 1000");
	assert_line(copy, "bot_operator_queue_done_total{queue=\"orders\"} 990");
	assert_line(copy, "bot_operator_queue_received_total"
	    "{queue=\"a\\\"b\\\\c\\nd?\"} 0");
	assert_line(copy, "# UNIT bot_operator_queue_received_bytes bytes");
	assert_line(copy, "bot_operator_queue_received_bytes_total"
	    "{queue=\"orders\"} 5");
	assert_line(copy, "bot_operator_queue_errors_total"
	    "{queue=\"orders\",error_type=\"timeout\"} 4");
	assert_line(copy, "bot_operator_queue_backlog{queue=\"orders\"} 12");
	assert_line(copy, "bot_operator_queue_backlog_age_seconds"
	    "{queue=\"orders\"} 1.500000");
	/* Not known: absent, not zero. */
	assert_null(strstr(copy, "bot_operator_queue_dead_backlog{"));
	assert_null(strstr(copy, "bot_operator_queue_backlog{queue=\"a"));
	assert_line(copy, "bot_operator_queue_messages"
	    "{queue=\"orders\",state=\"running\"} 3");
	assert_line(copy, "bot_operator_queue_last_done_timestamp_seconds"
	    "{queue=\"orders\"} 1795449600.000000");
	assert_line(copy, "bot_operator_queue_processing_seconds"
	    "{queue=\"orders\",quantile=\"0.95\"} 0.000008");
	assert_line(copy, "bot_operator_queue_processing_seconds_sum"
	    "{queue=\"orders\"} 0.000080");
	assert_line(copy, "bot_operator_queue_processing_seconds_count"
	    "{queue=\"orders\"} 10");
	assert_line(copy, "bot_operator_pool_workers_busy{pool=\"mail\"} 3");
	assert_line(copy, "bot_operator_pool_busy_seconds_total"
	    "{pool=\"mail\"} 1.500000");
	assert_line(copy, "bot_operator_status"
	    "{bot_operator_status=\"ok\"} 1");
	assert_line(copy, "bot_operator_status"
	    "{bot_operator_status=\"down\"} 0");
	assert_line(copy, "bot_operator_check_ok"
	    "{kind=\"queue\",name=\"orders\"} 1");
	assert_line(copy, "bot_operator_start_time_seconds 1795449600.000000");

	assert_true(ends_with(copy, "\n# EOF\n"));
	copy[strlen(copy) - strlen("# EOF\n")] = '\0';
	for (line = strtok_r(copy, "\n", &save); line != NULL;
	    line = strtok_r(NULL, "\n", &save))
		check_line(&s, line);
	assert_true(s.samples > 60);
	free(copy);
	buffer_done(&b);
}

/* ---- what systemd is told ---- */

struct systemd {
	int fd;
	struct sockaddr_un sun;
};

static void
systemd_start(struct systemd *s)
{
	socklen_t len = sizeof(s->sun);
	char name[128];

	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(s->fd >= 0);
	/* An abstract address that the kernel picks. */
	s->sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	assert_int_equal(bind(s->fd, (struct sockaddr *)&s->sun,
	    sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&s->sun, &len),
	    0);
	snprintf(name, sizeof(name), "@%.*s",
	    (int)(len - offsetof(struct sockaddr_un, sun_path) - 1),
	    s->sun.sun_path + 1);
	setenv("NOTIFY_SOCKET", name, 1);
}

static void
systemd_stop(struct systemd *s)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	(void)close(s->fd);
}

/* The next datagram, or "". */
static const char *
heard(struct systemd *s)
{
	static char text[2048];
	ssize_t n = recv(s->fd, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = '\0';
	return text;
}

static void
test_notify_tells_systemd(void **state)
{
	struct world *w = *state;
	struct systemd s;
	struct notify *n;
	char want[128];

	systemd_start(&s);
	n = notify_new(w->loop, w->o);
	notify_ready(n);
	assert_string_equal(heard(&s), "READY=1\nSTATUS=ok: 1 queue, 0/s");
	/* The same again is no news. */
	run_seconds(w, 10);
	assert_string_equal(heard(&s), "");
	w->q[0].connected = false;
	run_seconds(w, 5);
	assert_string_equal(heard(&s),
	    "STATUS=degraded: 1 queue, 0/s; queue orders: not connected");
	w->q[0].connected = true;
	run_seconds(w, 5);
	assert_string_equal(heard(&s), "STATUS=ok: 1 queue, 0/s");

	notify_reloading(n);
	snprintf(want, sizeof(want), "RELOADING=1\nMONOTONIC_USEC=%llu",
	    (unsigned long long)clock_monotonic_us());
	assert_string_equal(heard(&s), want);
	notify_ready(n);
	assert_string_equal(heard(&s), "READY=1\nSTATUS=ok: 1 queue, 0/s");

	w->engine.phase = ENGINE_DRAINING;
	notify_stopping(n, clock_monotonic_us() + 2 * SEC);
	assert_string_equal(heard(&s), "STOPPING=1\nSTATUS=draining: 1 queue, "
	    "0/s, 0 in flight\nEXTEND_TIMEOUT_USEC=10000000");
	run_seconds(w, 3);
	assert_string_equal(heard(&s), "EXTEND_TIMEOUT_USEC=10000000");
	/* Not for ever: a drain that hangs is systemd's to end. */
	run_seconds(w, 60);
	while (*heard(&s) != '\0')
		;
	run_seconds(w, 60);
	assert_string_equal(heard(&s), "");
	notify_free(n);
	systemd_stop(&s);
}

static void
test_watchdog_is_fed_by_the_loop(void **state)
{
	struct world *w = *state;
	struct systemd s;
	struct notify *n;

	systemd_start(&s);
	setenv("WATCHDOG_USEC", "4000000", 1);
	n = notify_new(w->loop, w->o);
	(void)loop_turn(w->loop, 0);
	assert_string_equal(heard(&s), "WATCHDOG=1");
	run_seconds(w, 1);
	assert_string_equal(heard(&s), "");
	run_seconds(w, 1);
	assert_string_equal(heard(&s), "WATCHDOG=1");
	/* A broker that is gone does not stop it... */
	w->q[0].connected = false;
	run_seconds(w, 2);
	assert_string_equal(heard(&s), "WATCHDOG=1");
	/* ...a loop that does not turn does. */
	clock_advance(60 * SEC);
	assert_string_equal(heard(&s), "");
	notify_free(n);
	systemd_stop(&s);
}

static void
test_notify_without_systemd(void **state)
{
	struct world *w = *state;
	struct loop_stats before, after;
	struct notify *n;

	unsetenv("NOTIFY_SOCKET");
	loop_get_stats(w->loop, &before);
	n = notify_new(w->loop, w->o);
	notify_ready(n);
	notify_reloading(n);
	notify_stopping(n, clock_monotonic_us());
	loop_get_stats(w->loop, &after);
	assert_int_equal(after.timers, before.timers);
	notify_free(n);
	notify_free(NULL);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

static void
quiet(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	(void)level;
	(void)f;
	(void)text;
}

static void
on_log_told(void *owner)
{
	(*(unsigned *)owner)++;
}

static void
test_log_keeps_the_last_lines(void **state)
{
	struct world *w = *state;
	unsigned told = 0;
	uint64_t last = 7;
	json_t *a = observer_log(w->o, 0, &last), *line;

	assert_int_equal(json_array_size(a), 0);
	assert_int_equal(last, 0);
	json_decref(a);
	observer_on_log(w->o, on_log_told, &told);
	log_tap_exclusive(true);
	log_tap(quiet, NULL);
	log_warning(LOG_QUEUE("orders"), "first \xff");
	log_notice(NULL, "not bad enough");
	log_error(&(struct log_fields){ .unwatched = true }, "not ours");
	for (unsigned i = 2; i <= 60; i++)
		log_error(LOG_POOL("mail"), "line %u", i);
	assert_int_equal(told, 60);
	a = observer_log(w->o, 0, &last);
	assert_int_equal(last, 60);
	assert_int_equal(json_array_size(a), 50);
	line = json_array_get(a, 0);
	assert_int_equal(json_integer_value(json_object_get(line, "seq")), 11);
	assert_string_equal(json_string_value(json_object_get(line, "pool")),
	    "mail");
	assert_string_equal(json_string_value(json_object_get(line, "level")),
	    "error");
	assert_null(json_object_get(line, "queue"));
	json_decref(a);
	a = observer_log(w->o, 58, &last);
	assert_int_equal(json_array_size(a), 2);
	assert_string_equal(json_string_value(json_object_get(
	    json_array_get(a, 1), "text")), "line 60");
	json_decref(a);

	/* Nobody is told any more, and bytes that are no text do no harm. */
	observer_on_log(w->o, NULL, NULL);
	log_warning(LOG_QUEUE("or\xff" "ders"), "bad \xff byte");
	assert_int_equal(told, 60);
	a = observer_log(w->o, 60, &last);
	assert_string_equal(json_string_value(json_object_get(
	    json_array_get(a, 0), "text")), "bad \xef\xbf\xbd byte");
	json_decref(a);
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rates_are_of_the_last_minute),
		TEST(test_log_keeps_the_last_lines),
		TEST(test_first_messages_are_no_absurd_rate),
		TEST(test_percentiles_are_of_the_last_minute),
		TEST(test_a_replaced_queue_starts_over),
		TEST(test_removed_queues_and_pools_are_forgotten),
		TEST(test_document_says_what_it_knows),
		TEST(test_foreign_bytes_leave_valid_json),
		TEST(test_document_prints_short_numbers),
		TEST(test_starting_until_all_were_up_or_time_is_over),
		TEST(test_pool_still_starting),
		TEST(test_unreachable_broker_is_degraded),
		TEST(test_invariant_8_health_is_progress),
		TEST(test_a_slow_rate_limit_is_no_stall),
		TEST(test_an_old_sample_is_no_evidence),
		TEST(test_pauses_name_their_reason),
		TEST(test_settle_errors_that_keep_coming),
		TEST(test_pool_without_verdicts),
		TEST(test_one_dead_pool_of_two_is_degraded),
		TEST(test_draining_goes_before_all),
		TEST(test_a_late_loop_is_the_problem),
		TEST(test_since_is_when_the_state_changed),
		TEST(test_the_line),
		TEST(test_metrics_line_by_line),
		TEST(test_notify_tells_systemd),
		TEST(test_watchdog_is_fed_by_the_loop),
		TEST(test_notify_without_systemd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
