/*
 * Requires=: queues that wait for what their handlers need.
 */
#include "sim/rig.h"

#include <stdio.h>

#define CHECK	"[Check db]\nTCP=db.example:1\n"
#define POOL	"[Pool work]\nFake=1\nWorkers=2\n"

static void
second_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->run_us = USEC_PER_SEC;
}

/* None of them has lost an attempt to the pause. */
static void
assert_first_attempts(const struct sim_broker *b)
{
	for (size_t i = 0; i < b->nall; i++) {
		assert_int_equal(b->all[i]->attempt, 1);
		assert_int_equal(b->all[i]->starts, 1);
		assert_int_equal(b->all[i]->retries, 0);
	}
}

static void
test_nothing_is_taken_before_the_first_result(void **state)
{
	struct rig *r = rig_new(CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\n[Queue free]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_broker *other = rig_broker(r, "free");

	(void)state;
	sim_put_many(b, 20);
	sim_put_many(other, 20);
	rig_start(r);
	assert_int_equal(rig_queue(r, "jobs")->paused, PAUSED_BY_CHECK);
	rig_advance_ms(r, 600000);
	assert_int_equal(b->count[SIM_READY], 20);
	assert_int_equal(b->max_requested, 0);
	assert_int_equal(other->count[SIM_ACKED], 20);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 20);
	assert_first_attempts(b);
	rig_free(r);
}

static void
test_a_closed_gate_keeps_messages_and_attempts(void **state)
{
	struct rig *r = rig_new(CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\nPrefetch=6\nLease=10s\nMaxLease=1min\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 40);
	rig_start(r);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 5500);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nrunning, 2);
	assert_int_equal(q->nwaiting, 4);
	engine_gate(r->engine, "db", false);
	rig_run_idle(r);
	/* What waited is back at once; what runs goes on. */
	assert_int_equal(q->nwaiting, 0);
	assert_int_equal(q->nrunning, 2);
	assert_int_equal(b->releases, 4);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_LEASED], 0);
	/* Far longer than any lease. */
	rig_advance_ms(r, 3600 * 1000);
	assert_int_equal(q->stats.leases_lost, 0);
	assert_int_equal(b->count[SIM_READY] + b->count[SIM_ACKED], 40);
	assert_true(b->count[SIM_READY] > 20);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 60000);
	assert_int_equal(b->count[SIM_ACKED], 40);
	assert_first_attempts(b);
	rig_free(r);
}

static void
test_all_of_several_checks_are_needed(void **state)
{
	struct rig *r = rig_new(CHECK "[Check api]\nTCP=api.example:1\n" POOL
	    "[Queue jobs]\nType=fake\nRequires=db api\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_put_many(b, 5);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_string_equal(queue_closed_gate(q), "db");
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 1000);
	assert_string_equal(queue_closed_gate(q), "api");
	assert_int_equal(b->count[SIM_READY], 5);
	engine_gate(r->engine, "api", true);
	engine_gate(r->engine, "db", false);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_READY], 5);
	engine_gate(r->engine, "db", true);
	assert_null(queue_closed_gate(q));
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_ACKED], 5);
	rig_free(r);
}

/* ---- the slow start ---- */

#define WAVES	"[Pool work]\nFake=1\nWorkers=64\n[Queue jobs]\nType=fake\n" \
	"Requires=db\nBackoff=1h\nMaxAttempts=9\n"

static unsigned
starts_in_second(uint64_t from_us, unsigned second)
{
	const struct sim_workers *w = sim_workers("work");
	unsigned n = 0;

	for (size_t i = 0; i < w->nstarts; i++)
		n += w->starts[i].at_us >= from_us + second * USEC_PER_SEC &&
		    w->starts[i].at_us < from_us + (second + 1) * USEC_PER_SEC;
	return n;
}

static void
test_it_resumes_gently(void **state)
{
	static const unsigned wave[] = { 1, 2, 4, 8, 16, 32, 64, 64 };
	struct rig *r = rig_new(CHECK WAVES);
	struct sim_broker *b = rig_broker(r, "jobs");
	uint64_t from;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 500);
	rig_start(r);
	from = clock_monotonic_us();
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 500);
	/* No more is taken from the broker either. */
	assert_int_equal(b->count[SIM_LEASED], 1);
	rig_advance_ms(r, 60000);
	for (unsigned i = 0; i < ARRAY_SIZE(wave); i++)
		assert_int_equal(starts_in_second(from, i), wave[i]);
	assert_int_equal(rig_queue(r, "jobs")->ramp, 0);
	assert_int_equal(b->count[SIM_ACKED], 500);
	rig_free(r);
}

static void
failing_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->run_us = USEC_PER_SEC;
	plan->kind = VERDICT_RETRY;
	plan->error_type = ERROR_TYPE_DATABASE;
}

/* What came back is not well yet: one at a time, but never stuck for ever. */
static void
test_failures_do_not_speed_it_up(void **state)
{
	struct rig *r = rig_new(CHECK WAVES);
	struct sim_broker *b = rig_broker(r, "jobs");
	uint64_t from;

	(void)state;
	sim_workers("work")->script = failing_script;
	sim_put_many(b, 5000);
	rig_start(r);
	from = clock_monotonic_us();
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 30000);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(starts_in_second(from, i), 1);
	for (unsigned i = 11; i < 20; i++)
		assert_int_equal(starts_in_second(from, i), 2);
	for (unsigned i = 21; i < 30; i++)
		assert_int_equal(starts_in_second(from, i), 4);
	rig_free(r);
}

static void
test_a_second_outage_starts_the_ramp_anew(void **state)
{
	struct rig *r = rig_new(CHECK WAVES);
	struct sim_broker *b = rig_broker(r, "jobs");
	uint64_t from;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 500);
	rig_start(r);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 4500);
	assert_int_equal(rig_queue(r, "jobs")->ramp, 16);
	engine_gate(r->engine, "db", false);
	rig_advance_ms(r, 5000);
	assert_int_equal(rig_queue(r, "jobs")->nrunning, 0);
	from = clock_monotonic_us();
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 3000);
	assert_int_equal(starts_in_second(from, 0), 1);
	assert_int_equal(starts_in_second(from, 1), 2);
	assert_int_equal(starts_in_second(from, 2), 4);
	rig_free(r);
}

/* ---- flapping ---- */

static void
flap(const char *type, uint64_t seed)
{
	char text[512];
	struct sim_broker *b;
	struct queue *q;
	struct rig *r;

	snprintf(text, sizeof(text), CHECK "[Pool work]\nFake=1\nWorkers=8\n"
	    "[Queue jobs]\nType=%s\nRequires=db\nLease=10s\nMaxLease=40s\n",
	    type);
	r = rig_new_seeded(text, seed);
	sim_workers("work")->script = second_script;
	b = rig_broker(r, "jobs");
	b->fetch_us = 20000;
	b->settle_us = 20000;
	b->jitter_us = 30000;
	sim_put_many(b, 300);
	rig_start(r);
	q = rig_queue(r, "jobs");
	for (unsigned i = 0; i < 400; i++) {
		engine_gate(r->engine, "db", random_below(2) == 0);
		rig_advance_ms(r, random_below(i % 10 == 0 ? 60000 : 1500));
	}
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 600000);
	assert_int_equal(b->count[SIM_ACKED], 300);
	assert_int_equal(q->stats.leases_lost, 0);
	assert_int_equal(q->stats.settle_errors, 0);
	assert_first_attempts(b);
	rig_free(r);
}

static void
test_invariant_1_a_flapping_check_loses_nothing(void **state)
{
	static const char *const types[] = { "fake", "fake-fixed", "fake-plain",
		"fake-keep" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		for (uint64_t seed = 1; seed <= 5; seed++)
			flap(types[i], seed);
}

/* ---- those that wait here for their retry ---- */

static void
first_fails_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	plan->kind = m->attempt == 1 ? VERDICT_RETRY : VERDICT_DONE;
	plan->error_type = ERROR_TYPE_DATABASE;
}

/* An ordered message waits for its retry in the operator; when that falls due
   behind a closed gate it goes back, and no lease runs out. */
static void
test_invariant_5_a_gate_keeps_no_delayed_message(void **state)
{
	struct rig *r = rig_new(CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\nBackoff=5s\nLease=10s\nMaxLease=1min\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = first_fails_script;
	for (unsigned i = 0; i < 4; i++)
		(void)sim_put(b, "{}", "one");
	rig_start(r);
	q = rig_queue(r, "jobs");
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 1000);
	assert_int_equal(q->ndelayed, 1);
	engine_gate(r->engine, "db", false);
	rig_advance_ms(r, 1000);
	assert_int_equal(q->ndelayed, 1);
	rig_advance_ms(r, 6000);
	assert_int_equal(r->engine->messages_held, 0);
	rig_advance_ms(r, 3600 * 1000);
	assert_int_equal(q->stats.leases_lost, 0);
	assert_int_equal(b->count[SIM_READY], 4);
	/* The attempt that failed counts, no other. */
	assert_int_equal(b->all[0]->attempt, 2);
	assert_int_equal(b->all[0]->starts, 1);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 60000);
	assert_int_equal(b->count[SIM_ACKED], 4);
	for (size_t i = 0; i < b->nall; i++)
		assert_int_equal(b->all[i]->starts, 2);
	rig_free(r);
}

/* ---- configuration ---- */

static void
test_invariant_9_an_unknown_check_is_an_error(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(rig_problems(CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=dbb\n", text, sizeof(text)), 1);
	assert_non_null(strstr(text, "there is no [Check dbb]; did you mean "
	    "\"db\"?"));
	assert_non_null(strstr(text, ":8:"));
	assert_int_equal(rig_problems(POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\n", text, sizeof(text)), 1);
}

static void
test_reload_adds_and_removes_a_gate(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(rig_reload(r, CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\n"), 1);
	/* In place, and closed until somebody has looked. */
	assert_ptr_equal(rig_queue(r, "jobs"), q);
	sim_put_many(b, 3);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_READY], 3);
	assert_int_equal(rig_reload(r, POOL "[Queue jobs]\nType=fake\n"), 1);
	assert_int_equal(q->paused, 0);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 3);
	/* A gate of that name was open once: that says nothing now. */
	engine_gate(r->engine, "db", true);
	(void)rig_reload(r, POOL "[Queue jobs]\nType=fake\nWeight=2\n");
	(void)rig_reload(r, CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\n");
	assert_int_equal(rig_queue(r, "jobs")->paused, PAUSED_BY_CHECK);
	rig_free(r);
}

static void
test_drain_behind_a_closed_gate(void **state)
{
	struct rig *r = rig_new(CHECK POOL "[Queue jobs]\nType=fake\n"
	    "Requires=db\nPrefetch=6\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 10);
	rig_start(r);
	engine_gate(r->engine, "db", true);
	rig_advance_ms(r, 3500);
	engine_gate(r->engine, "db", false);
	assert_true(rig_drain(r) <= 2 * USEC_PER_SEC);
	assert_int_equal(b->count[SIM_LEASED], 0);
	assert_int_equal(b->count[SIM_READY] + b->count[SIM_ACKED], 10);
	rig_free(r);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_taken_before_the_first_result),
		cmocka_unit_test(
		    test_a_closed_gate_keeps_messages_and_attempts),
		cmocka_unit_test(test_all_of_several_checks_are_needed),
		cmocka_unit_test(test_it_resumes_gently),
		cmocka_unit_test(test_failures_do_not_speed_it_up),
		cmocka_unit_test(test_a_second_outage_starts_the_ramp_anew),
		cmocka_unit_test(
		    test_invariant_1_a_flapping_check_loses_nothing),
		cmocka_unit_test(
		    test_invariant_5_a_gate_keeps_no_delayed_message),
		cmocka_unit_test(test_invariant_9_an_unknown_check_is_an_error),
		cmocka_unit_test(test_reload_adds_and_removes_a_gate),
		cmocka_unit_test(test_drain_behind_a_closed_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
