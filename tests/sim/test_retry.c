/*
 * What follows a verdict: retries, burials, limits and pauses.
 */
#include "sim/rig.h"

#include <stdio.h>

#define POOL	"[Pool work]\nFake=1\n"

static void
expect_place(const struct sim_message *s, enum sim_place place)
{
	if (s->place != place)
		fail_msg("%s is in place %d, not %d", s->name, (int)s->place,
		    (int)place);
}

/* ---- retries ---- */

static void
retry_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	plan->kind = VERDICT_RETRY;
	plan->error_type = m->attempt == 1 ? "timeout" : "database";
	plan->detail = "it did not work";
}

#define ATTEMPTS	11u

/* The delays before attempt n + 1, as the broker was told them. */
static struct {
	uint64_t least, most, sum;
	unsigned n;
} delays[ATTEMPTS];

static void
measure_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	unsigned n = m->attempt - 1;

	plan->kind = VERDICT_RETRY;
	assert_in_range(m->attempt, 1, ATTEMPTS);
	assert_int_equal(s->retries, n);
	if (n == 0)
		return;
	if (delays[n].n++ == 0)
		delays[n].least = s->last_delay_us;
	delays[n].least = MIN(delays[n].least, s->last_delay_us);
	delays[n].most = MAX(delays[n].most, s->last_delay_us);
	delays[n].sum += s->last_delay_us;
}

/* After attempt n: within [min, min(max, min * 2^n)], and all over it. */
static void
test_backoff_is_exponential_with_jitter(void **state)
{
	enum { N = 300 };
	const uint64_t min = 2 * USEC_PER_SEC, max = 300 * USEC_PER_SEC;
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=400\n"
	    "[Queue jobs]\nType=fake\nBackoff=2s-5min\nMaxAttempts=11\n"
	    "Prefetch=1000\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	uint64_t top = min;

	(void)state;
	rig_expect(r, "dead letters (MaxAttempts=11)");
	memset(delays, 0, sizeof(delays));
	sim_workers("work")->script = measure_script;
	sim_put_many(b, N);
	rig_start(r);
	while (b->count[SIM_DEAD] != N) {
		(void)rig_step(r, max);
		assert_true(clock_monotonic_us() < 6000 * USEC_PER_SEC);
	}
	for (unsigned n = 1; n < ATTEMPTS; n++) {
		uint64_t half;

		top = MIN(top * 2, max);
		half = (top - min) / 2;
		assert_int_equal(delays[n].n, N);
		assert_true(delays[n].least >= min);
		assert_true(delays[n].most <= top);
		assert_true(delays[n].least < min + half / 4);
		assert_true(delays[n].most > top - half / 4);
		assert_in_range(delays[n].sum / N, min + half * 85 / 100,
		    min + half * 115 / 100);
	}
	rig_free(r);
}

static void
test_max_attempts_buries_with_the_last_error(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nMaxAttempts=3\n"
	    "Backoff=1s\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);
	const struct queue_stats *st;

	(void)state;
	rig_expect(r, "dead letters (MaxAttempts=3)");
	sim_workers("work")->script = retry_script;
	rig_start(r);
	rig_advance_ms(r, 10);
	expect_place(s, SIM_DELAYED);
	assert_string_equal(s->error_type, "timeout");
	assert_int_equal(s->last_delay_us, USEC_PER_SEC);
	rig_advance_ms(r, 5000);
	expect_place(s, SIM_DEAD);
	assert_int_equal(s->starts, 3);
	assert_int_equal(s->attempt, 3);
	assert_string_equal(s->error_type, "database");
	assert_string_equal(s->detail, "it did not work");
	st = &rig_queue(r, "jobs")->stats;
	assert_int_equal(st->retried, 2);
	assert_int_equal(st->dead, 1);
	assert_int_equal(st->failed, 3);
	assert_int_equal(st->nerrors, 2);
	assert_string_equal(st->errors[1].type, "database");
	assert_int_equal(st->errors[1].count, 2);
	rig_free(r);
}

/* The same when the engine itself has to wait for the retries. */
static void
test_retries_without_a_broker_that_delays(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake-plain\n"
	    "MaxAttempts=3\nBackoff=1s-1min\n");
	struct sim_workers *w = sim_workers("work");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);
	struct queue *q;

	(void)state;
	rig_expect(r, "dead letters (MaxAttempts=3)");
	w->script = retry_script;
	rig_start(r);
	q = rig_queue(r, "jobs");
	rig_advance_ms(r, 10);
	assert_int_equal(q->ndelayed, 1);
	rig_advance_ms(r, 20000);
	expect_place(s, SIM_DEAD);
	assert_int_equal(s->receipt, 1);
	assert_int_equal(w->nstarts, 3);
	assert_in_range(w->starts[1].at_us - w->starts[0].at_us,
	    1010000, 2010000);
	assert_in_range(w->starts[2].at_us - w->starts[1].at_us,
	    1010000, 4010000);
	assert_int_equal(w->starts[2].attempt, 3);
	rig_free(r);
}

static void
own_delay_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	if (m->attempt != 1)
		return;
	plan->kind = VERDICT_RETRY;
	plan->delay_us = 77 * USEC_PER_SEC;
	plan->error_type = "my_own";
}

static void
test_the_handlers_own_delay_is_kept(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);

	(void)state;
	sim_workers("work")->script = own_delay_script;
	rig_start(r);
	rig_advance_ms(r, 10);
	expect_place(s, SIM_DELAYED);
	assert_int_equal(s->last_delay_us, 77 * USEC_PER_SEC);
	assert_string_equal(s->error_type, "my_own");
	rig_advance_ms(r, 76999);
	expect_place(s, SIM_DELAYED);
	rig_advance_ms(r, 11);
	expect_place(s, SIM_ACKED);
	rig_free(r);
}

static void
dead_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->kind = VERDICT_DEAD;
	plan->error_type = "no_such_customer";
}

static void
test_dead_verdict_buries_at_once(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);

	(void)state;
	rig_expect(r, "the handler says so");
	sim_workers("work")->script = dead_script;
	rig_start(r);
	rig_advance_ms(r, 10);
	expect_place(s, SIM_DEAD);
	assert_string_equal(s->error_type, "no_such_customer");
	assert_int_equal(s->starts, 1);
	rig_free(r);
}

static void
crash_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	plan->kills = strcmp(s->body, "bomb") == 0;
}

static void
poison(const char *type)
{
	char text[256];
	struct rig *r;
	struct sim_message *bomb, *good;

	snprintf(text, sizeof(text), "[Pool work]\nFake=1\nWorkers=1\n"
	    "MaxCrashes=3\n[Queue jobs]\nType=%s\nMaxAttempts=10\n"
	    "Backoff=1s\n", type);
	r = rig_new(text);
	bomb = sim_put(rig_broker(r, "jobs"), "bomb", NULL);
	good = sim_put(rig_broker(r, "jobs"), "good", NULL);
	rig_expect(r, "poison: it ended its worker 3 times");
	sim_workers("work")->script = crash_script;
	rig_start(r);
	rig_advance_ms(r, 20000);
	expect_place(bomb, SIM_DEAD);
	assert_int_equal(bomb->starts, 3);
	assert_int_equal(bomb->crashes, 3);
	assert_string_equal(bomb->error_type, "crash");
	expect_place(good, SIM_ACKED);
	assert_int_equal(good->crashes, 0);
	assert_int_equal(sim_workers("work")->deaths, 3);
	rig_free(r);
}

static void
test_a_message_that_kills_its_workers_is_poison(void **state)
{
	(void)state;
	poison("fake");
	poison("fake-plain");
}

static void
returned_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	plan->returned = s->starts == 1;
}

static void
test_a_returned_message_runs_again_without_an_attempt(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);

	(void)state;
	sim_workers("work")->script = returned_script;
	rig_start(r);
	rig_advance_ms(r, 20);
	expect_place(s, SIM_ACKED);
	assert_int_equal(s->starts, 2);
	assert_int_equal(s->attempt, 1);
	assert_int_equal(s->receipt, 1);
	rig_free(r);
}

static void
test_refused_settlement_comes_again(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nLease=10s\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *s = sim_put(b, "x", NULL);

	(void)state;
	rig_expect(r, "could not be settled");
	b->fail_settlements = 1;
	rig_start(r);
	rig_advance_ms(r, 10);
	expect_place(s, SIM_LEASED);
	assert_int_equal(r->engine->messages_held, 0);
	assert_int_equal(rig_queue(r, "jobs")->stats.settle_errors, 1);
	rig_advance_ms(r, 10010);
	expect_place(s, SIM_ACKED);
	assert_int_equal(s->receipt, 2);
	assert_int_equal(rig_queue(r, "jobs")->stats.done, 1);
	rig_free(r);
}

/* ---- limits ---- */

static void
rate(const char *limit, double per_s)
{
	char text[256];
	double burst = MAX(1.0, per_s / 10);
	struct sim_workers *w;
	struct rig *r;
	size_t first = 0;

	snprintf(text, sizeof(text), "[Pool work]\nFake=1\nWorkers=100\n"
	    "[Queue jobs]\nType=fake\nRateLimit=%s\n", limit);
	r = rig_new(text);
	w = sim_workers("work");
	sim_put_many(rig_broker(r, "jobs"), (unsigned)(per_s * 100) + 100);
	rig_start(r);
	rig_advance_ms(r, 60000);
	assert_true((double)w->nstarts <= per_s * 60 + burst + 1);
	assert_true((double)w->nstarts >= per_s * 60 - 2);
	assert_int_equal(w->nstarts, rig_queue(r, "jobs")->stats.received -
	    rig_queue(r, "jobs")->nwaiting);
	/* What was not used for a while is not saved up. */
	engine_pause(r->engine, rig_queue(r, "jobs"), PAUSED_BY_OPERATOR);
	rig_advance_ms(r, 20000);
	engine_resume(r->engine, rig_queue(r, "jobs"), PAUSED_BY_OPERATOR);
	rig_advance_ms(r, 3000);
	/* And not all at once: no second has more than its share. */
	for (size_t i = 0; i < w->nstarts; i++) {
		while (w->starts[i].at_us - w->starts[first].at_us >=
		    USEC_PER_SEC)
			first++;
		assert_true((double)(i - first + 1) <= per_s + burst + 1);
	}
	rig_free(r);
}

static void
test_rate_limit_is_a_token_bucket(void **state)
{
	(void)state;
	rate("50/s", 50);
	rate("30/min", 0.5);
	rate("1000/s", 1000);
}

static void
limited_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	if (strcmp(s->body, "limit") != 0 || s->starts != 1)
		return;
	plan->kind = VERDICT_RETRY;
	plan->error_type = ERROR_TYPE_RATE_LIMITED;
	plan->delay_us = 5 * USEC_PER_SEC;
}

static void
rate_limited(const char *type)
{
	char text[256];
	struct sim_workers *w;
	struct sim_broker *b;
	struct sim_message *s;
	struct rig *r;
	uint64_t paused_at;

	snprintf(text, sizeof(text), "[Pool work]\nFake=1\nWorkers=1\n"
	    "[Queue jobs]\nType=%s\nPrefetch=4\nMaxAttempts=1\n"
	    "[Queue other]\nType=fake\n", type);
	r = rig_new(text);
	b = rig_broker(r, "jobs");
	w = sim_workers("work");
	w->script = limited_script;
	s = sim_put(b, "limit", NULL);
	sim_put_many(b, 20);
	rig_start(r);
	rig_advance_ms(r, 10);
	paused_at = clock_monotonic_us();
	assert_int_equal(rig_queue(r, "jobs")->paused, PAUSED_BY_RATE_LIMITED);
	sim_put_many(rig_broker(r, "other"), 20);
	rig_advance_ms(r, 4990);
	/* Its neighbour is not concerned; what waits keeps waiting. */
	assert_int_equal(rig_broker(r, "other")->count[SIM_ACKED], 20);
	assert_int_equal(b->count[SIM_ACKED], 0);
	assert_int_equal(b->releases, 0);
	rig_advance_ms(r, 5000);
	assert_int_equal(rig_queue(r, "jobs")->paused, 0);
	assert_int_equal(b->count[SIM_ACKED], 21);
	for (size_t i = 1; i < w->nstarts; i++)
		if (w->starts[i].what->broker == b)
			assert_true(w->starts[i].at_us >=
			    paused_at + 5 * USEC_PER_SEC);
	/* It was no fault of the message. */
	assert_int_equal(s->attempt, 1);
	rig_free(r);
}

static void
test_rate_limited_pauses_the_queue(void **state)
{
	(void)state;
	rate_limited("fake");
	rate_limited("fake-plain");
	rate_limited("fake-keep");
}

/* Two at once: the longer pause counts, whichever comes first. */
static void
both_limited_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	if (s->seq > 1 || s->starts != 1)
		return;
	plan->kind = VERDICT_RETRY;
	plan->error_type = ERROR_TYPE_RATE_LIMITED;
	plan->run_us += s->seq;
	plan->delay_us = s->seq == 0 ? 8 * USEC_PER_SEC : USEC_PER_SEC;
}

static void
test_a_shorter_pause_does_not_end_a_longer_one(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	sim_workers("work")->script = both_limited_script;
	sim_put_many(b, 10);
	rig_start(r);
	rig_advance_ms(r, 8000);
	assert_int_equal(sim_workers("work")->nstarts, 2);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_ACKED], 10);
	rig_free(r);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backoff_is_exponential_with_jitter),
		cmocka_unit_test(test_max_attempts_buries_with_the_last_error),
		cmocka_unit_test(test_retries_without_a_broker_that_delays),
		cmocka_unit_test(test_the_handlers_own_delay_is_kept),
		cmocka_unit_test(test_dead_verdict_buries_at_once),
		cmocka_unit_test(
		    test_a_message_that_kills_its_workers_is_poison),
		cmocka_unit_test(
		    test_a_returned_message_runs_again_without_an_attempt),
		cmocka_unit_test(test_refused_settlement_comes_again),
		cmocka_unit_test(test_rate_limit_is_a_token_bucket),
		cmocka_unit_test(test_rate_limited_pauses_the_queue),
		cmocka_unit_test(
		    test_a_shorter_pause_does_not_end_a_longer_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
