/*
 * The engine in its simulated world: credit, dispatch, validation.
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

static void
test_message_is_done_and_acknowledged(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "hello", NULL);
	struct queue *q;

	(void)state;
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_true(q->connected);
	assert_int_equal(q->nrunning, 1);
	expect_place(s, SIM_LEASED);
	rig_advance_us(r, 9999);
	expect_place(s, SIM_LEASED);
	rig_advance_us(r, 1);
	expect_place(s, SIM_ACKED);
	assert_int_equal(q->stats.done, 1);
	assert_int_equal(q->stats.received, 1);
	assert_int_equal(r->engine->done, 1);
	rig_free(r);
}

static void
test_nothing_happens_before_the_pool_is_up(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "hello", NULL);

	(void)state;
	rig_expect(r, "no worker can run");
	sim_pool_down(sim_workers("work"));
	rig_start(r);
	rig_advance_ms(r, 60000);
	expect_place(s, SIM_READY);
	assert_int_equal(s->receipt, 0);
	sim_pool_up(sim_workers("work"));
	rig_advance_ms(r, 10);
	expect_place(s, SIM_ACKED);
	rig_free(r);
}

/* ---- credit ---- */

static void
slow_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->run_us = USEC_PER_SEC;
}

static unsigned
held(const struct queue *q)
{
	return q->nwaiting + q->nrunning + q->ndelayed;
}

static void
test_never_more_is_held_than_prefetch(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=3\n"
	    "[Queue jobs]\nType=fake\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	unsigned most = 0, most_running = 0;
	struct queue *q;

	(void)state;
	b->fetch_us = 5000;
	b->settle_us = 3000;
	sim_workers("work")->script = slow_script;
	sim_put_many(b, 100);
	rig_start(r);
	q = rig_queue(r, "jobs");
	while (b->count[SIM_ACKED] != 100) {
		(void)rig_step(r, USEC_PER_SEC);
		/* What is at the broker's side of us, and on its way here. */
		assert_true(b->count[SIM_LEASED] <= 10 + q->nsettling);
		most = MAX(most, held(q));
		most_running = MAX(most_running, q->nrunning);
		assert_true(clock_monotonic_us() < 2000 * USEC_PER_SEC);
	}
	assert_int_equal(most, 10);
	assert_int_equal(most_running, 3);
	assert_true(b->max_requested <= 10);
	rig_free(r);
}

static void
test_prefetch_by_rate_keeps_the_workers_busy(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=8\n"
	    "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	uint64_t start;

	(void)state;
	b->fetch_us = 2000;
	b->settle_us = 2000;
	sim_put_many(b, 4000);
	rig_start(r);
	start = clock_monotonic_us();
	while (b->count[SIM_ACKED] != 4000) {
		(void)rig_step(r, USEC_PER_SEC);
		assert_true(held(rig_queue(r, "jobs")) <= 1000);
		assert_true(clock_monotonic_us() - start < 60 * USEC_PER_SEC);
	}
	/* 8 workers at 10 ms: 5 s at best. */
	assert_true(clock_monotonic_us() - start < 5500 * USEC_PER_MSEC);
	rig_free(r);
}

static void
test_slow_settlements_stop_the_fetching(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=4\n"
	    "[Queue jobs]\nType=fake\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	b->settle_us = 20 * USEC_PER_SEC;
	sim_put_many(b, 500);
	rig_start(r);
	rig_advance_ms(r, 19000);
	assert_true(r->engine->messages_held <= 50);
	assert_true(b->count[SIM_READY] >= 450);
	b->settle_us = 0;
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 500);
	rig_free(r);
}

static void
test_invariant_6_bounded_memory(void **state)
{
	enum { BODY = 4096, CAP = 65536, N = 300 };
	struct rig *r = rig_new("[Operator]\nMaxInFlightBytes=64K\n"
	    "[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nPrefetch=1000\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	bool was_full = false;
	struct queue *q;

	(void)state;
	b->fetch_us = 1000;
	/* Its size is not known before the first ones have come. */
	sim_put_many(b, 1);
	for (int i = 0; i < N; i++)
		(void)sim_put_bytes(b, BODY);
	rig_start(r);
	q = rig_queue(r, "jobs");
	while (b->count[SIM_ACKED] != N + 1) {
		uint64_t until = clock_monotonic_us();
		size_t fetched = b->max_requested * (BODY + 512);

		(void)rig_step(r, USEC_PER_SEC);
		assert_true(until < 2000 * USEC_PER_SEC);
		/* The cap, and at most what was asked for before it. */
		assert_true(r->engine->bytes_held <= CAP + fetched);
		assert_int_equal(r->engine->bytes_held, q->bytes_held);
		if (r->engine->bytes_held >= CAP) {
			was_full = true;
			assert_int_equal(q->credit, 0);
		}
		/* Once the size is known it is kept to. */
		if (b->count[SIM_ACKED] > N / 3)
			assert_true(r->engine->bytes_held <=
			    CAP + 2 * (BODY + 512));
	}
	assert_true(was_full);
	assert_int_equal(q->stats.dead, 0);
	assert_int_equal(q->stats.released, 0);
	assert_int_equal(b->count[SIM_DEAD], 0);
	rig_free(r);
}

/* Small ones first, then large ones: the mean of the past deceives. */
static void
test_invariant_6_bounded_memory_when_sizes_jump(void **state)
{
	enum { BODY = 16384, CAP = 262144 };
	struct rig *r = rig_new("[Operator]\nMaxInFlightBytes=256K\n"
	    "[Pool work]\nFake=1\nWorkers=50\n"
	    "[Queue jobs]\nType=fake\nPrefetch=500\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	size_t most = 0;

	(void)state;
	sim_put_many(b, 2000);
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_ACKED], 2000);
	for (int i = 0; i < 1000; i++)
		(void)sim_put_bytes(b, BODY);
	while (b->count[SIM_ACKED] != 3000) {
		(void)rig_step(r, USEC_PER_SEC);
		most = MAX(most, r->engine->bytes_held);
		assert_true(clock_monotonic_us() < 2000 * USEC_PER_SEC);
	}
	/* Twice the cap, for what was asked for in good faith. */
	assert_true(most <= 2 * CAP + BODY);
	assert_int_equal(rig_queue(r, "jobs")->stats.dead, 0);
	rig_free(r);
}

static void
test_operator_cap_of_messages(void **state)
{
	struct rig *r = rig_new("[Operator]\nMaxInFlight=20\n"
	    "[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nPrefetch=100\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	unsigned most = 0;

	(void)state;
	b->fetch_us = 1000;
	b->settle_us = 50000;
	sim_put_many(b, 200);
	rig_start(r);
	while (b->count[SIM_ACKED] != 200) {
		(void)rig_step(r, USEC_PER_SEC);
		most = MAX(most, r->engine->messages_held);
		assert_true(b->count[SIM_LEASED] <= 20);
		assert_true(clock_monotonic_us() < 2000 * USEC_PER_SEC);
	}
	assert_int_equal(most, 20);
	rig_free(r);
}

/* ---- weights ---- */

static unsigned
starts_of(const struct sim_workers *w, const char *broker, size_t first)
{
	unsigned n = 0;

	for (size_t i = 0; i < first; i++)
		n += strcmp(w->starts[i].what->broker->name, broker) == 0;
	return n;
}

static void
test_weights_share_a_pool(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=4\n"
	    "[Queue big]\nType=fake\nWeight=3\nPrefetch=50\n"
	    "[Queue small]\nType=fake\nWeight=1\nPrefetch=50\n");
	struct sim_workers *w = sim_workers("work");

	(void)state;
	sim_put_many(rig_broker(r, "big"), 600);
	sim_put_many(rig_broker(r, "small"), 600);
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_true(w->nstarts >= 400);
	assert_in_range(starts_of(w, "big", 400), 290, 310);
	/* Alone a queue gets everything. */
	rig_advance_ms(r, 3000);
	assert_int_equal(rig_broker(r, "big")->count[SIM_ACKED], 600);
	assert_int_equal(rig_broker(r, "small")->count[SIM_ACKED], 600);
	assert_int_equal(w->max_running, 4);
	rig_free(r);
}

static void
test_an_idle_queue_saves_up_nothing(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=1\n"
	    "[Queue a]\nType=fake\nPrefetch=50\n"
	    "[Queue b]\nType=fake\nPrefetch=50\n");
	struct sim_workers *w = sim_workers("work");
	size_t before;
	unsigned n;

	(void)state;
	sim_put_many(rig_broker(r, "a"), 500);
	rig_start(r);
	rig_advance_ms(r, 1000);
	before = w->nstarts;
	assert_true(before >= 100);
	sim_put_many(rig_broker(r, "b"), 100);
	rig_advance_ms(r, 1000);
	n = starts_of(w, "b", before + 100);
	assert_in_range(n, 45, 55);
	rig_advance_ms(r, 5000);
	rig_free(r);
}

/* ---- validation ---- */

struct sample {
	const char *body;
	bool good;
	const struct attribute *attributes;
	size_t nattributes;
};

static void
check_format(const char *format, const struct sample *samples, size_t n)
{
	char text[256];
	struct rig *r;
	struct sim_broker *b;
	unsigned bad = 0;

	snprintf(text, sizeof(text), POOL "[Queue jobs]\nType=fake\n%s", format);
	r = rig_new(text);
	b = rig_broker(r, "jobs");
	rig_expect(r, "not a valid message, it goes to the dead letters");
	for (size_t i = 0; i < n; i++) {
		struct sim_message *s = sim_put(b, samples[i].body, NULL);

		s->attributes = samples[i].attributes;
		s->nattributes = samples[i].nattributes;
		bad += !samples[i].good;
	}
	rig_start(r);
	/* The bad ones at once, without a worker. */
	assert_int_equal(b->count[SIM_DEAD], bad);
	rig_advance_ms(r, 1000);
	for (size_t i = 0; i < n; i++) {
		const struct sim_message *s = b->all[i];

		if (samples[i].good != (s->place == SIM_ACKED))
			fail_msg("%s taken wrongly: %s (%s)", format, s->body,
			    s->detail);
		if (samples[i].good)
			continue;
		expect_place(s, SIM_DEAD);
		assert_string_equal(s->error_type, ERROR_TYPE_INVALID_FORMAT);
		assert_true(s->detail[0] != '\0');
		assert_int_equal(s->starts, 0);
		assert_int_equal(s->receipt, 1);
	}
	assert_int_equal(rig_queue(r, "jobs")->stats.dead, bad);
	assert_int_equal(rig_queue(r, "jobs")->stats.failed, bad);
	rig_free(r);
}

static void
test_format_json(void **state)
{
	static const struct sample samples[] = {
		{ "{\"id\":1,\"customer\":{\"name\":\"Ada\"}}", true },
		{ "{\"id\":1,\"customer\":{\"name\":\"Ada\"},\"more\":[]}", true },
		{ "{\"id\":1,\"customer\":{}}", false },
		{ "{\"customer\":{\"name\":\"Ada\"}}", false },
		{ "{\"id\":1,\"customer\":\"Ada\"}", false },
		{ "{\"id\":1", false },
		{ "not json", false },
		{ "", false },
		{ "[1,2]", false },
	};

	(void)state;
	check_format("Format=json\nRequire=id customer.name\n", samples,
	    ARRAY_SIZE(samples));
}

static void
test_format_cloudevents(void **state)
{
	static const struct sample samples[] = {
		{ "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\","
		    "\"type\":\"t\",\"data\":{\"x\":1}}", true },
		{ "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\","
		    "\"type\":\"t\"}", false },		/* data.x is required */
		{ "{\"specversion\":\"1.0\",\"source\":\"/a\","
		    "\"type\":\"t\",\"data\":{\"x\":1}}", false },
		{ "{\"id\":\"1\",\"source\":\"/a\",\"type\":\"t\","
		    "\"data\":{\"x\":1}}", false },
		{ "{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/a\","
		    "\"type\":\"t\",\"data\":{\"x\":1}}", false },
		{ "{\"data\":{\"x\":1}}", false },
		{ "[]", false },
	};

	(void)state;
	check_format("Format=cloudevents\nRequire=data.x\n", samples,
	    ARRAY_SIZE(samples));
}

#define ATTRIBUTE(name, value) \
	{ { (name), sizeof(name) - 1 }, { (value), sizeof(value) - 1 }, false }
#define BINARY_EVENT \
	ATTRIBUTE("ce-specversion", "1.0"), ATTRIBUTE("ce-id", "1"), \
	ATTRIBUTE("ce-source", "/a"), ATTRIBUTE("ce-type", "t")
#define WITH(attributes)	(attributes), ARRAY_SIZE(attributes)

static void
test_format_cloudevents_in_binary_mode(void **state)
{
	static const char whole[] = "{\"specversion\":\"1.0\",\"id\":\"1\","
	    "\"source\":\"/a\",\"type\":\"t\",\"subject\":\"s\","
	    "\"datacontenttype\":\"a/b\",\"data\":{\"x\":1}}";
	static const struct attribute fine[] = { BINARY_EVENT,
		ATTRIBUTE("content-type", "application/json"),
		ATTRIBUTE("ce-subject", "s") };
	static const struct attribute upper[] = { BINARY_EVENT,
		ATTRIBUTE("ce-subject", "s"),
		ATTRIBUTE("Content-Type", "text/plain") };
	static const struct attribute no_type[] = { BINARY_EVENT,
		ATTRIBUTE("ce-subject", "s") };
	static const struct attribute bad_time[] = { BINARY_EVENT,
		ATTRIBUTE("content-type", "application/json"),
		ATTRIBUTE("ce-subject", "s"), ATTRIBUTE("ce-time", "now") };
	static const struct attribute half[] = {
		ATTRIBUTE("content-type", "application/json"),
		ATTRIBUTE("ce-specversion", "1.0"),
		ATTRIBUTE("ce-subject", "s") };
	/* The content type decides, and then the body counts. */
	static const struct attribute structured[] = {
		ATTRIBUTE("Content-Type", "Application/CloudEvents+json; x=y"),
		ATTRIBUTE("ce-specversion", "0.3") };
	/* No event of that mode: a header that somebody else has set. */
	static const struct attribute stray[] = { ATTRIBUTE("ce-id", "1"),
		ATTRIBUTE("x-ce-specversion", "1.0") };
	static const struct sample samples[] = {
		{ "{\"x\":1}", true, WITH(fine) },
		{ "{\"x\":1}", true, WITH(upper) },
		{ "{\"x\":1}", false, WITH(no_type) },
		{ "{\"y\":1}", false, WITH(fine) },	/* data.x */
		{ "x", false, WITH(fine) },
		{ "", false, WITH(fine) },
		{ "{\"x\":1}", false, WITH(bad_time) },
		{ "{\"x\":1}", false, WITH(half) },
		{ whole, false, WITH(half) },
		{ whole, true, WITH(structured) },
		{ "{\"x\":1}", false, WITH(structured) },
		{ whole, true, WITH(stray) },
		{ "{\"x\":1}", false, WITH(stray) },
		{ whole, true, NULL, 0 },
	};

	(void)state;
	check_format("Format=cloudevents\n"
	    "Require=id subject datacontenttype data data.x\n", samples,
	    ARRAY_SIZE(samples));
}

static void
test_max_bytes(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nMaxBytes=1K\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *fits = sim_put_bytes(b, 1024);
	struct sim_message *over = sim_put_bytes(b, 1025);

	(void)state;
	rig_expect(r, "MaxBytes=1024");
	rig_start(r);
	rig_advance_ms(r, 10);
	expect_place(fits, SIM_ACKED);
	expect_place(over, SIM_DEAD);
	assert_string_equal(over->error_type, ERROR_TYPE_INVALID_FORMAT);
	rig_free(r);
}

/* Dead when it comes: the broker counted attempts that we never saw end. */
static void
test_delivered_too_often_is_buried(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nMaxAttempts=3\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "x", NULL);
	struct sim_message *last = sim_put(rig_broker(r, "jobs"), "x", NULL);

	(void)state;
	s->attempt = 4;
	last->attempt = 3;
	rig_start(r);
	rig_advance_ms(r, 100);
	expect_place(s, SIM_DEAD);
	assert_int_equal(s->starts, 0);
	expect_place(last, SIM_ACKED);
	rig_free(r);
}

/* ---- checks between sections ---- */

static void
test_sections_are_checked_against_one_another(void **state)
{
	static const struct {
		const char *text, *problem;
	} bad[] = {
		{ POOL "[Queue jobs]\nType=fake\nPool=wurk\n",
		    "there is no [Pool wurk]; did you mean \"work\"?" },
		{ POOL "[Pool two]\nFake=1\n[Queue jobs]\nType=fake\n",
		    "no Pool=" },
		{ "[Pool work]\nWorkers=1\n[Queue jobs]\nType=fake\n",
		    "no handler" },
		{ POOL, "nothing to work on" },
		{ POOL "[Queue jobs]\nType=fake\nLease=60s\nMaxLease=30s\n",
		    "MaxLease= is shorter than Lease=" },
		{ POOL "Timeout=2h\n[Queue jobs]\nType=fake\n",
		    "MaxLease= is shorter than Timeout=" },
		{ POOL "[Queue jobs]\nType=fake\nRequire=id\n",
		    "Require= needs Format=" },
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(rig_problems(bad[i].text, text, sizeof(text)) > 0);
		if (strstr(text, bad[i].problem) == NULL)
			fail_msg("\"%s\" instead of \"%s\"", text,
			    bad[i].problem);
		assert_non_null(strstr(text, "sim.conf"));
	}
	assert_int_equal(rig_problems(POOL "[Queue jobs]\nType=fake\n", text,
	    sizeof(text)), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_is_done_and_acknowledged),
		cmocka_unit_test(test_nothing_happens_before_the_pool_is_up),
		cmocka_unit_test(test_never_more_is_held_than_prefetch),
		cmocka_unit_test(test_prefetch_by_rate_keeps_the_workers_busy),
		cmocka_unit_test(test_slow_settlements_stop_the_fetching),
		cmocka_unit_test(test_invariant_6_bounded_memory),
		cmocka_unit_test(
		    test_invariant_6_bounded_memory_when_sizes_jump),
		cmocka_unit_test(test_operator_cap_of_messages),
		cmocka_unit_test(test_weights_share_a_pool),
		cmocka_unit_test(test_an_idle_queue_saves_up_nothing),
		cmocka_unit_test(test_format_json),
		cmocka_unit_test(test_format_cloudevents),
		cmocka_unit_test(test_format_cloudevents_in_binary_mode),
		cmocka_unit_test(test_max_bytes),
		cmocka_unit_test(test_delivered_too_often_is_buried),
		cmocka_unit_test(test_sections_are_checked_against_one_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
