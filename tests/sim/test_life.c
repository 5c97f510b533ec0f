/*
 * The engine's life: order keys, pauses, pools that fail, reload, drain.
 */
#include "sim/rig.h"

#include <stdio.h>

#define POOL	"[Pool work]\nFake=1\n"

/* ---- order (invariant 10) ---- */

/* All that came before it with its key are settled for good. */
static void
assert_its_turn(const struct sim_message *s)
{
	const struct sim_broker *b = s->broker;

	for (size_t i = 0; i < s->seq; i++) {
		const struct sim_message *before = b->all[i];

		if (before->key[0] != '\0' && strcmp(before->key, s->key) == 0 &&
		    before->place != SIM_ACKED && before->place != SIM_DEAD)
			fail_msg("%s starts before %s (key %s) is settled",
			    s->name, before->name, s->key);
	}
}

static void
order_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	uint64_t dice = random_below(100);

	(void)m;
	if (s->key[0] != '\0')
		assert_its_turn(s);
	plan->run_us = random_below(50) * USEC_PER_MSEC;
	if (dice < 25)
		plan->kind = VERDICT_RETRY;
	else if (dice < 30)
		plan->kind = VERDICT_DEAD;
	else if (dice < 35)
		plan->kills = true;
	else if (dice < 40)
		plan->returned = true;
}

static void
order_storm(const char *type, uint64_t seed)
{
	char text[256], key[24];
	struct sim_broker *b;
	struct rig *r;

	snprintf(text, sizeof(text), "[Pool work]\nFake=1\nWorkers=6\n"
	    "MaxCrashes=3\n[Queue jobs]\nType=%s\nMaxAttempts=4\n"
	    "Backoff=100ms-2s\nPrefetch=20\n", type);
	r = rig_new_seeded(text, seed);
	rig_allow(r, "it goes to the dead letters");
	sim_workers("work")->script = order_script;
	b = rig_broker(r, "jobs");
	b->jitter_us = 0;
	b->settle_us = 3000;
	for (int i = 0; i < 200; i++) {
		uint64_t k = random_below(6);

		snprintf(key, sizeof(key), "key-%u", (unsigned)k);
		(void)sim_put(b, "{}", k == 0 ? NULL : key);
	}
	rig_start(r);
	for (int i = 0; i < 3600 && b->count[SIM_ACKED] + b->count[SIM_DEAD] !=
	    200; i++)
		rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_ACKED] + b->count[SIM_DEAD], 200);
	assert_true(sim_workers("work")->max_running > 1);
	rig_free(r);
}

static void
test_invariant_10_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		order_storm("fake", seed);
		order_storm("fake-plain", seed);
	}
}

static void
fails_first_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	assert_its_turn(s);
	if (strcmp(s->body, "fails") == 0 && m->attempt <= 2) {
		plan->kind = VERDICT_RETRY;
		plan->delay_us = 10 * USEC_PER_SEC;
	}
}

static void
test_invariant_10_order_later_ones_wait_after_a_failure(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *a1 = sim_put(b, "fails", "a");
	struct sim_message *a2 = sim_put(b, "x", "a");
	struct sim_message *b1 = sim_put(b, "x", "b");
	struct sim_message *b2 = sim_put(b, "x", "b");

	(void)state;
	sim_workers("work")->script = fails_first_script;
	rig_start(r);
	assert_int_equal(rig_queue(r, "jobs")->nheld, 2);
	rig_advance_ms(r, 1000);
	/* The other key goes on; this one waits, and is kept by us. */
	assert_int_equal(b1->place, SIM_ACKED);
	assert_int_equal(b2->place, SIM_ACKED);
	assert_int_equal(a1->place, SIM_LEASED);
	assert_int_equal(a2->place, SIM_LEASED);
	rig_advance_ms(r, 18000);
	assert_int_equal(a1->starts, 2);
	assert_int_equal(a2->starts, 0);
	rig_advance_ms(r, 2000);
	assert_int_equal(a1->place, SIM_ACKED);
	assert_int_equal(a1->starts, 3);
	assert_int_equal(a2->place, SIM_ACKED);
	rig_free(r);
}

static void
order_by_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	plan->run_us = USEC_PER_SEC;
	(void)s;
}

static void
test_order_by_a_member_of_the_body(void **state)
{
	static const char *const bodies[] = {
		"{\"c\":{\"id\":7}}", "{\"c\":{\"id\":7}}",
		"{\"c\":{\"id\":\"x\"}}", "{\"c\":{\"id\":-7}}",
		"{\"c\":{}}", "{\"c\":{}}", "no json",
	};
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=10\n"
	    "[Queue jobs]\nType=fake\nOrderBy=.c.id\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	sim_workers("work")->script = order_by_script;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		(void)sim_put(b, bodies[i], NULL);
	rig_start(r);
	/* Only the second 7 has to wait. */
	assert_int_equal(rig_queue(r, "jobs")->nrunning, 6);
	assert_int_equal(rig_queue(r, "jobs")->nheld, 1);
	rig_advance_ms(r, 2000);
	assert_int_equal(b->count[SIM_ACKED], ARRAY_SIZE(bodies));
	rig_free(r);
}

/* ---- pauses ---- */

static void
second_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->run_us = USEC_PER_SEC;
}

static void
test_pause_gives_back_and_resume_goes_on(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nPrefetch=6\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 10);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nwaiting, 4);
	engine_pause(r->engine, q, PAUSED_BY_OPERATOR);
	rig_run_idle(r);
	assert_int_equal(q->nwaiting, 0);
	assert_int_equal(q->nrunning, 2);
	assert_int_equal(b->releases, 4);
	assert_int_equal(b->count[SIM_READY], 8);
	rig_advance_ms(r, 60000);
	assert_int_equal(b->count[SIM_ACKED], 2);
	assert_int_equal(b->count[SIM_READY], 8);
	/* Paused for two reasons: one is not enough to go on. */
	engine_pause(r->engine, q, PAUSED_BY_CHECK);
	engine_resume(r->engine, q, PAUSED_BY_OPERATOR);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_READY], 8);
	engine_resume(r->engine, q, PAUSED_BY_CHECK);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 10);
	for (size_t i = 0; i < b->nall; i++)
		assert_int_equal(b->all[i]->attempt, 1);
	rig_free(r);
}

static void
test_pause_gives_back_what_arrives_late(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nPrefetch=4\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	b->fetch_us = 50000;
	sim_put_many(b, 4);
	rig_start(r);
	q = rig_queue(r, "jobs");
	engine_pause(r->engine, q, PAUSED_BY_OPERATOR);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_READY], 4);
	assert_int_equal(b->releases, 4);
	assert_int_equal(q->stats.released, 4);
	assert_int_equal(sim_workers("work")->nstarts, 0);
	engine_resume(r->engine, q, PAUSED_BY_OPERATOR);
	rig_advance_ms(r, 1000);
	assert_int_equal(b->count[SIM_ACKED], 4);
	rig_free(r);
}

static void
test_pool_that_is_down_pauses_its_queues(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=1\n"
	    "[Pool fine]\nFake=1\n"
	    "[Queue a]\nType=fake\nPool=work\nPrefetch=5\n"
	    "[Queue b]\nType=fake\nPool=work\nPrefetch=5\n"
	    "[Queue c]\nType=fake\nPool=fine\n");
	static const char *const names[] = { "a", "b" };

	(void)state;
	rig_expect(r, "no worker can run");
	sim_workers("work")->script = second_script;
	for (int i = 0; i < 2; i++)
		sim_put_many(rig_broker(r, names[i]), 5);
	rig_start(r);
	sim_pool_down(sim_workers("work"));
	rig_run_idle(r);
	for (int i = 0; i < 2; i++) {
		struct queue *q = rig_queue(r, names[i]);

		assert_int_equal(q->paused, PAUSED_BY_POOL);
		assert_int_equal(q->nwaiting, 0);
		assert_int_equal(q->credit, 0);
	}
	assert_int_equal(rig_queue(r, "c")->paused, 0);
	sim_put_many(rig_broker(r, "c"), 5);
	rig_advance_ms(r, 30000);
	assert_int_equal(rig_broker(r, "c")->count[SIM_ACKED], 5);
	assert_int_equal(rig_broker(r, "a")->count[SIM_ACKED] +
	    rig_broker(r, "b")->count[SIM_ACKED], 1);	/* it ran already */
	sim_pool_up(sim_workers("work"));
	rig_advance_ms(r, 10000);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_broker(r, names[i])->count[SIM_ACKED], 5);
	rig_free(r);
}

static void
test_outage_is_named_once_and_ends(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	rig_expect(r, "not connected: the broker went away (sim_down)");
	rig_expect(r, "connection lost");
	sim_go_down(b);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_false(q->connected);
	assert_string_equal(q->error.code, "sim_down");
	sim_put_many(b, 3);
	rig_advance_ms(r, 10000);
	sim_come_up(b);
	rig_advance_ms(r, 100);
	assert_true(q->connected);
	assert_int_equal(b->count[SIM_ACKED], 3);
	sim_go_down(b);
	rig_advance_ms(r, 10000);
	assert_false(q->connected);
	assert_int_equal(q->credit, 0);
	sim_come_up(b);
	rig_advance_ms(r, 1000);
	assert_int_equal(q->stats.connects, 2);
	assert_false(error_is_set(&q->error));
	assert_int_equal(rig_seen(r, "connection lost"), 1);
	rig_free(r);
}

/* ---- settled ---- */

static void
retry_once_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	if (m->attempt == 1) {
		plan->kind = VERDICT_RETRY;
		plan->delay_us = 20 * USEC_PER_SEC;
	}
}

static void
test_engine_settled_means_that_nothing_is_left(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=1\n"
	    "[Queue jobs]\nType=fake\nBacklogInterval=1s\n"
	    "[Queue more]\nType=fake\nBacklogInterval=1s\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	sim_workers("work")->script = retry_once_script;
	sim_put_many(b, 2);
	assert_false(engine_settled(r->engine));
	rig_start(r);
	assert_false(engine_settled(r->engine));
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_DELAYED], 2);
	assert_false(engine_settled(r->engine));
	rig_advance_ms(r, 20000);
	assert_int_equal(b->count[SIM_ACKED], 2);
	assert_true(engine_settled(r->engine));
	/* What it has not heard of for long, it does not claim. */
	b->no_probe = true;
	rig_advance_ms(r, 60000);
	assert_false(engine_settled(r->engine));
	b->no_probe = false;
	rig_advance_ms(r, 2000);
	assert_true(engine_settled(r->engine));
	rig_free(r);
}

/* ---- reload ---- */

static void
test_reload_of_the_same_changes_nothing(void **state)
{
	static const char text[] = POOL "[Queue jobs]\nType=fake\n";
	struct rig *r = rig_new(text);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 20);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(rig_reload(r, text), 0);
	assert_ptr_equal(rig_queue(r, "jobs"), q);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 20);
	assert_int_equal(b->releases, 0);
	rig_free(r);
}

static void
test_reload_changes_keys_in_place(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nPrefetch=4\n"
	    "[Queue other]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(b, 40);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nwaiting + q->nrunning, 4);
	assert_int_equal(rig_reload(r, "[Pool work]\nFake=1\nWorkers=8\n"
	    "[Queue jobs]\nType=fake\nPrefetch=20\nMaxAttempts=9\n"
	    "[Queue other]\nType=fake\n"), 2);
	assert_ptr_equal(rig_queue(r, "jobs"), q);
	assert_int_equal(q->max_attempts, 9);
	assert_int_equal(q->nrunning, 8);
	assert_int_equal(q->nwaiting + q->nrunning, 20);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->count[SIM_ACKED], 40);
	assert_int_equal(b->releases, 0);
	for (size_t i = 0; i < b->nall; i++)
		assert_int_equal(b->all[i]->starts, 1);
	rig_free(r);
}

static void
test_reload_changes_the_operator(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");

	(void)state;
	rig_start(r);
	assert_int_equal(r->engine->drain_timeout_us, 30 * USEC_PER_SEC);
	(void)rig_reload(r, "[Operator]\nDrainTimeout=3s\nMaxInFlight=7\n"
	    "MaxInFlightBytes=128K\n" POOL "[Queue jobs]\nType=fake\n");
	assert_int_equal(r->engine->drain_timeout_us, 3 * USEC_PER_SEC);
	assert_int_equal(r->engine->max_messages, 7);
	assert_int_equal(r->engine->max_bytes, 128 * KIB);
	rig_free(r);
}

static void
test_reload_adds_and_removes_queues(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue old]\nType=fake\nPrefetch=6\n"
	    "[Queue stays]\nType=fake\n");
	struct sim_broker *old = rig_broker(r, "old");
	struct sim_broker *new = rig_broker(r, "new");

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(old, 10);
	sim_put_many(new, 3);
	rig_start(r);
	assert_int_equal(rig_reload(r, "[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue stays]\nType=fake\n[Queue new]\nType=fake\n"), 2);
	assert_null(engine_queue(r->engine, "old"));
	/* What waited is back, what runs may finish. */
	assert_int_equal(old->count[SIM_READY], 8);
	assert_int_equal(old->count[SIM_LEASED], 2);
	rig_advance_ms(r, 60000);
	assert_int_equal(old->count[SIM_ACKED], 2);
	assert_int_equal(old->count[SIM_READY], 8);
	assert_null(old->attached);
	assert_int_equal(new->count[SIM_ACKED], 3);
	rig_free(r);
}

/* A key that cannot change in place: the queue is made anew, in order. */
static void
test_reload_makes_a_queue_anew(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nBroker=one\nPrefetch=6\n");
	struct sim_broker *one = rig_broker(r, "one");
	struct queue *q;

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(one, 10);
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(rig_reload(r, "[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake-keep\nBroker=one\nPrefetch=6\n"), 1);
	/* Not before the old one has stopped: one holds it at a time. */
	assert_int_equal(one->count[SIM_READY], 8);
	assert_null(engine_queue(r->engine, "jobs"));
	rig_advance_ms(r, 1000);
	assert_non_null(engine_queue(r->engine, "jobs"));
	assert_ptr_equal(rig_queue(r, "jobs")->type, &sim_queue_keep_type);
	rig_advance_ms(r, 10000);
	assert_int_equal(one->count[SIM_ACKED], 10);
	for (size_t i = 0; i < one->nall; i++)
		assert_int_equal(one->all[i]->starts, 1);
	(void)q;
	rig_free(r);
}

static void
test_reload_twice_while_the_old_queue_finishes(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nBroker=one\n"
	    "[Queue stays]\nType=fake\n");
	struct sim_broker *one = rig_broker(r, "one");
	struct sim_broker *three = rig_broker(r, "three");

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(one, 2);
	sim_put_many(three, 2);
	rig_start(r);
	(void)rig_reload(r, POOL "[Queue jobs]\nType=fake\nBroker=two\n"
	    "[Queue stays]\nType=fake\n");
	(void)rig_reload(r, POOL "[Queue stays]\nType=fake\n");
	(void)rig_reload(r, POOL "[Queue jobs]\nType=fake\nBroker=three\n"
	    "[Queue stays]\nType=fake\n");
	rig_advance_ms(r, 10000);
	assert_int_equal(one->count[SIM_ACKED], 2);
	assert_null(rig_broker(r, "two")->attached);
	assert_int_equal(three->count[SIM_ACKED], 2);
	rig_free(r);
}

static void
test_reload_moves_a_queue_to_another_pool(void **state)
{
	struct rig *r = rig_new("[Pool old]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=fake\nPool=old\nPrefetch=6\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_workers *w = sim_workers("new");

	(void)state;
	sim_workers("old")->script = second_script;
	sim_put_many(b, 10);
	rig_start(r);
	assert_int_equal(rig_reload(r, "[Pool new]\nFake=1\nWorkers=8\n"
	    "[Queue jobs]\nType=fake\nPool=new\nPrefetch=6\n"), 3);
	assert_null(engine_pool(r->engine, "old"));
	assert_non_null(sim_workers("old")->pool);
	rig_advance_ms(r, 900);
	/* The two that ran still run in the old one, and end there. */
	assert_int_equal(b->count[SIM_ACKED], 8);
	assert_int_equal(w->nstarts, 8);
	rig_advance_ms(r, 200);
	assert_int_equal(b->count[SIM_ACKED], 10);
	assert_int_equal(sim_workers("old")->nstarts, 2);
	assert_int_equal(sim_workers("old")->kills, 0);
	assert_null(sim_workers("old")->pool);
	rig_free(r);
}

static void
test_drain_in_the_middle_of_a_reload(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nBroker=one\n");
	struct sim_broker *one = rig_broker(r, "one");

	(void)state;
	sim_workers("work")->script = second_script;
	sim_put_many(one, 2);
	rig_start(r);
	(void)rig_reload(r, POOL "[Queue jobs]\nType=fake\nBroker=two\n");
	assert_int_equal(rig_drain(r), USEC_PER_SEC);
	assert_int_equal(one->count[SIM_ACKED], 2);
	assert_null(rig_broker(r, "two")->attached);
	rig_free(r);
}

/* ---- drain ---- */

static void
drain_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	plan->run_us = strcmp(s->body, "long") == 0 ? 60 * USEC_PER_SEC :
	    USEC_PER_SEC;
}

static void
drain(const char *type)
{
	char text[256];
	struct rig *r;
	struct sim_broker *b;
	struct sim_message *brief, *lengthy;

	snprintf(text, sizeof(text), "[Operator]\nDrainTimeout=5s\n"
	    "[Pool work]\nFake=1\nWorkers=2\n"
	    "[Queue jobs]\nType=%s\nPrefetch=10\n", type);
	r = rig_new(text);
	b = rig_broker(r, "jobs");
	rig_expect(r, "DrainTimeout= is over");
	sim_workers("work")->script = drain_script;
	brief = sim_put(b, "brief", NULL);
	lengthy = sim_put(b, "long", NULL);
	sim_put_many(b, 8);
	rig_start(r);
	assert_int_equal(rig_queue(r, "jobs")->nwaiting, 8);
	engine_drain(r->engine, NULL, NULL);
	rig_run_idle(r);
	/* What waits is back at once. */
	assert_int_equal(b->count[SIM_READY], 8);
	assert_int_equal(r->engine->phase, ENGINE_DRAINING);
	rig_advance_ms(r, 1000);
	assert_int_equal(brief->place, SIM_ACKED);
	rig_advance_ms(r, 3999);
	assert_int_equal(lengthy->place, SIM_LEASED);
	rig_advance_ms(r, 1);
	assert_int_equal(r->engine->phase, ENGINE_STOPPED);
	assert_int_equal(lengthy->place, SIM_READY);
	assert_int_equal(sim_workers("work")->kills, 1);
	/* Unharmed: as if they had never been taken. */
	for (size_t i = 0; i < b->nall; i++)
		assert_int_equal(b->all[i]->attempt, 1);
	r->stopped = true;
	rig_free(r);
}

static void
test_drain_within_its_timeout(void **state)
{
	(void)state;
	drain("fake");
	drain("fake-plain");
	drain("fake-keep");
}

static void
test_drain_of_an_idle_engine_is_immediate(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");

	(void)state;
	rig_start(r);
	assert_int_equal(rig_drain(r), 0);
	rig_free(r);
}

static void
test_drain_gives_back_delayed_and_held_messages(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake-plain\n"
	    "Prefetch=10\nMaxAttempts=3\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *first = sim_put(b, "x", "k");
	struct sim_message *second = sim_put(b, "x", "k");

	(void)state;
	sim_workers("work")->script = retry_once_script;
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_int_equal(rig_queue(r, "jobs")->ndelayed, 1);
	assert_int_equal(rig_queue(r, "jobs")->nheld, 1);
	assert_int_equal(rig_drain(r), 0);
	assert_int_equal(first->place, SIM_READY);
	assert_int_equal(second->place, SIM_READY);
	/* The failed attempt is not forgotten. */
	assert_int_equal(first->attempt, 2);
	assert_int_equal(second->attempt, 1);
	rig_free(r);
}

static void
test_a_failure_during_the_drain_keeps_its_delay(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *s = sim_put(b, "x", NULL);

	(void)state;
	sim_workers("work")->script = retry_once_script;
	rig_start(r);
	assert_int_equal(rig_drain(r), 10000);
	assert_int_equal(s->place, SIM_DELAYED);
	assert_int_equal(s->attempt, 2);
	assert_int_equal(s->last_delay_us, 20 * USEC_PER_SEC);
	rig_free(r);
}

/* A broker that says nothing more cannot hold up the end for long. */
static void
test_drain_ends_when_the_broker_is_mute(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	rig_expect(r, "could not be settled");
	sim_workers("work")->script = second_script;
	sim_put_many(b, 10);
	rig_start(r);
	b->mute = true;
	assert_true(rig_drain(r) <= 7 * USEC_PER_SEC);
	assert_int_equal(b->count[SIM_LEASED], 10);
	rig_free(r);
}

static void
test_drain_while_the_broker_is_away(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nPrefetch=10\n");
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	rig_expect(r, "could not be settled");
	rig_expect(r, "connection lost");
	sim_workers("work")->script = second_script;
	sim_put_many(b, 10);
	rig_start(r);
	sim_go_down(b);
	rig_run_idle(r);
	assert_true(rig_drain(r) <= 7 * USEC_PER_SEC);
	rig_free(r);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invariant_10_order),
		cmocka_unit_test(
		    test_invariant_10_order_later_ones_wait_after_a_failure),
		cmocka_unit_test(test_order_by_a_member_of_the_body),
		cmocka_unit_test(test_pause_gives_back_and_resume_goes_on),
		cmocka_unit_test(test_pause_gives_back_what_arrives_late),
		cmocka_unit_test(test_pool_that_is_down_pauses_its_queues),
		cmocka_unit_test(test_outage_is_named_once_and_ends),
		cmocka_unit_test(
		    test_engine_settled_means_that_nothing_is_left),
		cmocka_unit_test(test_reload_of_the_same_changes_nothing),
		cmocka_unit_test(test_reload_changes_keys_in_place),
		cmocka_unit_test(test_reload_changes_the_operator),
		cmocka_unit_test(test_reload_adds_and_removes_queues),
		cmocka_unit_test(test_reload_makes_a_queue_anew),
		cmocka_unit_test(
		    test_reload_twice_while_the_old_queue_finishes),
		cmocka_unit_test(test_reload_moves_a_queue_to_another_pool),
		cmocka_unit_test(test_drain_in_the_middle_of_a_reload),
		cmocka_unit_test(test_drain_within_its_timeout),
		cmocka_unit_test(test_drain_of_an_idle_engine_is_immediate),
		cmocka_unit_test(
		    test_drain_gives_back_delayed_and_held_messages),
		cmocka_unit_test(
		    test_a_failure_during_the_drain_keeps_its_delay),
		cmocka_unit_test(test_drain_ends_when_the_broker_is_mute),
		cmocka_unit_test(test_drain_while_the_broker_is_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
