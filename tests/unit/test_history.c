/*
 * The history's three resolutions, its gaps and its bounds, on a clock that
 * the test moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "observe/history.h"

/* 2026-11-23T16:00:00Z */
#define WALL_US		(UINT64_C(1795449600) * USEC_PER_SEC)
#define START_US	(1000 * USEC_PER_SEC)
#define SEC		USEC_PER_SEC
#define HOUR		(3600 * SEC)

struct world {
	struct loop *loop;
	struct engine engine;
	struct queue q[2];
	struct pool p;
	struct history *h;
};

static void
put_queue(struct world *w, unsigned i, const char *name)
{
	struct queue *q = &w->q[i];

	q->name = xstrdup(name);
	q->engine = &w->engine;
	q->connected = true;
	list_init(&q->engine_link);
	list_push_back(&w->engine.queues, &q->engine_link);
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
	put_queue(w, 0, "orders");
	w->p.name = xstrdup("mail");
	w->p.workers = 4;
	list_init(&w->p.engine_link);
	list_push_back(&w->engine.pools, &w->p.engine_link);
	w->h = history_new(w->loop, &w->engine);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	history_free(w->h);
	loop_free(w->loop);
	free(w->q[0].name);
	free(w->q[1].name);
	free(w->p.name);
	free(w);
	clock_set_real();
	return 0;
}

static void
set_backlog(struct queue *q, uint64_t n)
{
	q->backlog = (struct backlog){ .waiting = n, .waiting_known = true,
		.oldest_us = n * SEC / 10, .sampled_us = clock_monotonic_us() };
}

/* Ten seconds, with so many received and done in them. */
static void
step(struct world *w, unsigned received, unsigned done, unsigned failed)
{
	struct queue *q = &w->q[0];

	clock_advance(10 * SEC);
	q->stats.received += received;
	q->stats.done += done;
	q->stats.failed += failed;
	if (q->backlog.sampled_us != 0)
		q->backlog.sampled_us = clock_monotonic_us();
	(void)loop_turn(w->loop, 0);
}

static json_t *
history_of(struct world *w, const char *queue, uint64_t span_us)
{
	json_t *j = history_json(w->h, HISTORY_QUEUE, queue, span_us);

	assert_non_null(j);
	return j;
}

static json_t *
point(json_t *j, const char *series, size_t i)
{
	json_t *a = json_object_get(json_object_get(j, "series"), series);

	assert_non_null(a);
	assert_int_equal(json_array_size(a),
	    json_integer_value(json_object_get(j, "points")));
	return json_array_get(a, i);
}

static void
assert_point(json_t *j, const char *series, size_t i, double want)
{
	json_t *p = point(j, series, i);

	if (!json_is_number(p) || fabs(json_number_value(p) - want) >
	    0.001 + fabs(want) / 1000)
		fail_msg("%s[%zu] is %g%s, not %g", series, i,
		    json_number_value(p), json_is_null(p) ? " (null)" : "",
		    want);
}

static void
assert_gap(json_t *j, const char *series, size_t i)
{
	if (!json_is_null(point(j, series, i)))
		fail_msg("%s[%zu] is %g", series, i,
		    json_number_value(point(j, series, i)));
}

static const char *
member(json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static void
test_a_step_has_the_rates_of_its_time(void **state)
{
	struct world *w = *state;
	json_t *j;

	set_backlog(&w->q[0], 30);
	w->q[0].nrunning = 3;
	histogram_record_n(&w->q[0].stats.processing, 1000000, 5);
	step(w, 0, 0, 0);
	histogram_record_n(&w->q[0].stats.processing, 8000, 90);
	histogram_record_n(&w->q[0].stats.processing, 64000, 10);
	w->q[0].stats.retried += 7;
	w->q[0].stats.dead += 3;
	step(w, 100, 90, 10);
	j = history_of(w, "orders", HOUR);
	assert_string_equal(member(j, "queue"), "orders");
	assert_int_equal(json_integer_value(json_object_get(j,
	    "step_seconds")), 10);
	assert_int_equal(json_integer_value(json_object_get(j, "points")),
	    360);
	assert_string_equal(member(j, "until"), "2026-11-23T16:00:20Z");
	assert_string_equal(member(j, "from"), "2026-11-23T15:00:20Z");
	assert_point(j, "received_per_second", 359, 10);
	assert_point(j, "done_per_second", 359, 9);
	assert_point(j, "retried_per_second", 359, 0.7);
	assert_point(j, "dead_per_second", 359, 0.3);
	assert_point(j, "error_rate_percent", 359, 10);
	assert_point(j, "backlog", 359, 30);
	assert_point(j, "backlog_age_seconds", 359, 3);
	assert_point(j, "in_flight", 359, 3);
	/* Of these ten seconds alone, to the histogram's precision. */
	assert_true(fabs(json_number_value(point(j, "processing_ms_p50", 359)) -
	    8) < 0.3);
	assert_true(fabs(json_number_value(point(j, "processing_ms_p95", 359)) -
	    64) < 2.1);
	/* Nobody did anything in the step before: no rate of errors. */
	assert_gap(j, "error_rate_percent", 358);
	assert_point(j, "done_per_second", 358, 0);
	/* Before the start there is nothing. */
	assert_gap(j, "done_per_second", 357);
	assert_gap(j, "in_flight", 0);
	json_decref(j);
	assert_null(history_json(w->h, HISTORY_QUEUE, "mail", HOUR));
	assert_null(history_json(w->h, HISTORY_POOL, "orders", HOUR));
}

static void
test_coarse_steps_are_right_by_themselves(void **state)
{
	struct world *w = *state;
	json_t *j;

	/* Twelve hours, with one busy minute at the end of each hour. */
	for (unsigned i = 1; i <= 12 * 360; i++) {
		bool busy = i % 360 == 0 || i % 360 > 354;

		set_backlog(&w->q[0], busy ? 600 : 6);
		step(w, busy ? 600 : 0, busy ? 300 : 0, busy ? 300 : 0);
	}
	j = history_of(w, "orders", 6 * HOUR);
	assert_int_equal(json_integer_value(json_object_get(j,
	    "step_seconds")), 60);
	assert_int_equal(json_integer_value(json_object_get(j, "points")),
	    360);
	for (unsigned hour = 0; hour < 6; hour++) {
		assert_point(j, "received_per_second", hour * 60 + 59, 60);
		assert_point(j, "error_rate_percent", hour * 60 + 59, 50);
		assert_point(j, "backlog", hour * 60 + 59, 600);
		assert_point(j, "received_per_second", hour * 60 + 58, 0);
		assert_point(j, "backlog", hour * 60 + 58, 6);
	}
	json_decref(j);
	j = history_of(w, "orders", 24 * HOUR);
	assert_int_equal(json_integer_value(json_object_get(j,
	    "step_seconds")), 600);
	assert_int_equal(json_integer_value(json_object_get(j, "points")),
	    144);
	assert_point(j, "received_per_second", 143, 6);
	assert_point(j, "backlog", 143, 600);	/* the highest */
	assert_point(j, "received_per_second", 142, 0);
	assert_gap(j, "received_per_second", 71);
	assert_point(j, "received_per_second", 72, 0);
	json_decref(j);
	/* The fine ones reach back one hour and no further. */
	j = history_of(w, "orders", HOUR + SEC);
	assert_int_equal(json_integer_value(json_object_get(j,
	    "step_seconds")), 60);
	assert_int_equal(json_integer_value(json_object_get(j, "points")), 61);
	json_decref(j);
	j = history_of(w, "orders", 95 * SEC);
	assert_int_equal(json_integer_value(json_object_get(j, "points")), 10);
	json_decref(j);
}

static void
test_what_is_not_known_is_a_gap(void **state)
{
	struct world *w = *state;
	json_t *j;

	set_backlog(&w->q[0], 30);
	step(w, 1, 1, 0);
	w->q[0].connected = false;
	step(w, 0, 0, 0);
	w->q[0].connected = true;
	step(w, 1, 1, 0);
	/* The loop stood still for 40 s. */
	clock_advance(40 * SEC);
	step(w, 50, 50, 0);
	j = history_of(w, "orders", 80 * SEC);
	assert_point(j, "backlog", 0, 30);
	assert_gap(j, "backlog", 1);
	assert_point(j, "done_per_second", 1, 0);
	assert_point(j, "backlog", 2, 30);
	for (size_t i = 3; i < 7; i++) {
		assert_gap(j, "done_per_second", i);
		assert_gap(j, "in_flight", i);
	}
	/* It is not known when in the 50 s they were done. */
	assert_point(j, "done_per_second", 7, 1);
	json_decref(j);
	/* After a day and more without a turn all is gaps, at once. */
	clock_advance(40 * HOUR);
	step(w, 0, 0, 0);
	j = history_of(w, "orders", 24 * HOUR);
	assert_gap(j, "done_per_second", 0);
	assert_gap(j, "done_per_second", 142);
	json_decref(j);
}

static void
test_errors_by_type(void **state)
{
	struct world *w = *state;
	struct queue_stats *s = &w->q[0].stats;
	json_t *j, *errors;

	step(w, 0, 0, 0);
	s->nerrors = 12;
	for (unsigned i = 0; i < 12; i++) {
		snprintf(s->errors[i].type, sizeof(s->errors[i].type), "t%u",
		    i);
		s->errors[i].count = i < 8 ? (i + 1) * 10 : 1;
	}
	step(w, 0, 0, 300);
	step(w, 0, 0, 0);
	s->errors[0].count += 20;
	step(w, 0, 0, 20);
	j = history_of(w, "orders", 40 * SEC);
	errors = json_object_get(j, "errors");
	/* The three most frequent of each step. */
	assert_int_equal(json_object_size(errors), 4);
	assert_true(fabs(json_number_value(json_array_get(json_object_get(
	    errors, "t7"), 1)) - 8) < 0.001);
	assert_true(fabs(json_number_value(json_array_get(json_object_get(
	    errors, "t5"), 1)) - 6) < 0.001);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(
	    errors, "t0"), 3)), 2);
	/* No error at all: 0; not among the most frequent: not known. */
	assert_true(json_is_integer(json_array_get(json_object_get(errors,
	    "t0"), 2)));
	assert_true(json_is_null(json_array_get(json_object_get(errors,
	    "t0"), 1)));
	json_decref(j);
	/* Beyond the named types all are one. */
	for (unsigned i = 8; i < 12; i++)
		s->errors[i].count += 10;
	step(w, 0, 0, 40);
	j = history_of(w, "orders", 10 * SEC);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(
	    json_object_get(j, "errors"), "other"), 0)), 4);
	json_decref(j);
}

static void
test_pools(void **state)
{
	struct world *w = *state;
	json_t *j;

	w->p.busy = 1;
	for (unsigned i = 0; i < 3; i++)
		step(w, 0, 0, 0);
	w->p.busy = 3;
	w->p.stats.restarts = 5;
	for (unsigned i = 0; i < 3; i++)
		step(w, 0, 0, 0);
	j = history_json(w->h, HISTORY_POOL, "mail", 2 * HOUR);
	assert_non_null(j);
	assert_string_equal(member(j, "pool"), "mail");
	assert_point(j, "workers", 119, 4);
	assert_point(j, "busy", 119, 2);
	assert_point(j, "utilization_percent", 119, 50);
	assert_point(j, "restarts", 119, 5);
	assert_null(json_object_get(j, "errors"));
	json_decref(j);
}

static void
test_a_reload_keeps_adds_and_removes(void **state)
{
	struct world *w = *state;
	json_t *j;

	step(w, 10, 10, 0);
	put_queue(w, 1, "new");
	history_refresh(w->h);
	/* The same name in a new object, which counts from zero. */
	memset(&w->q[0].stats, 0, sizeof(w->q[0].stats));
	w->q[0].serial++;
	step(w, 20, 20, 0);
	j = history_of(w, "orders", 20 * SEC);
	assert_point(j, "done_per_second", 0, 1);
	assert_point(j, "done_per_second", 1, 2);
	json_decref(j);
	j = history_of(w, "new", 20 * SEC);
	assert_gap(j, "done_per_second", 0);
	assert_point(j, "done_per_second", 1, 0);
	json_decref(j);
	list_remove(&w->q[1].engine_link);
	history_refresh(w->h);
	assert_null(history_json(w->h, HISTORY_QUEUE, "new", HOUR));
}

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)level;
	(void)f;
	*(unsigned *)owner += strstr(text, "more than 256 queues") != NULL;
}

static void
test_invariant_6_the_history_is_bounded(void **state)
{
	struct world *w = *state;
	unsigned n = HISTORY_MAX + 44, told = 0;
	struct queue *many = xcalloc(n, sizeof(*many));
	size_t one = history_bytes(w->h), full;
	json_t *j;

	assert_true(one < 80 * KIB);
	log_tap(on_log, &told);
	log_tap_exclusive(true);
	for (unsigned i = 0; i < n; i++) {
		many[i].name = xasprintf("q%u", i);
		many[i].engine = &w->engine;
		list_init(&many[i].engine_link);
		list_push_back(&w->engine.queues, &many[i].engine_link);
	}
	step(w, 0, 0, 0);
	full = history_bytes(w->h);
	assert_true(full < 16 * MIB);
	for (unsigned i = 0; i < 3; i++)
		step(w, 0, 0, 0);
	assert_int_equal(history_bytes(w->h), full);
	assert_int_equal(told, 1);
	j = history_of(w, "q254", HOUR);
	json_decref(j);
	assert_null(history_json(w->h, HISTORY_QUEUE, "q255", HOUR));
	for (unsigned i = 0; i < n; i++)
		list_remove(&many[i].engine_link);
	history_refresh(w->h);
	assert_int_equal(history_bytes(w->h), one);
	for (unsigned i = 0; i < n; i++)
		free(many[i].name);
	free(many);
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_step_has_the_rates_of_its_time),
		TEST(test_coarse_steps_are_right_by_themselves),
		TEST(test_what_is_not_known_is_a_gap),
		TEST(test_errors_by_type),
		TEST(test_pools),
		TEST(test_a_reload_keeps_adds_and_removes),
		TEST(test_invariant_6_the_history_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
