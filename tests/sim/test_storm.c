/*
 * Invariants 1 and 2 in bad weather: everything that can go wrong goes wrong
 * at random; afterwards each message is in exactly one place, for a reason,
 * and each delivery was settled exactly once or was lost.  The fake queue and
 * pool fail the test at once when the engine breaks a contract.
 */
#include "sim/rig.h"

#include <stdio.h>

#ifndef SEEDS
#define SEEDS	40
#endif
#define STEPS	400

struct weather {
	struct rig *r;
	struct sim_broker *brokers[3];
	const char *types[3];
	bool bad;
	unsigned reloads;
};

static struct weather weather;

static void
storm_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	uint64_t dice = random_below(100);

	(void)s;
	(void)m;
	plan->run_us = random_below(dice < 5 ? 30000 : 200) * USEC_PER_MSEC;
	if (!weather.bad)
		return;
	dice = random_below(100);
	if (dice < 15)
		plan->kind = VERDICT_RETRY;
	else if (dice < 18)
		plan->kind = VERDICT_DEAD;
	else if (dice < 23)
		plan->kills = true;
	else if (dice < 28)
		plan->returned = true;
	else if (dice < 29) {
		plan->kind = VERDICT_RETRY;
		plan->error_type = ERROR_TYPE_RATE_LIMITED;
		plan->delay_us = random_below(60000) * USEC_PER_MSEC;
	}
}

/* The same queues with other figures, at times one less, or another type. */
static void
configuration(char *text, size_t room)
{
	static const char *const types[] = { "fake", "fake-fixed", "fake-plain",
		"fake-keep" };
	size_t n = (size_t)snprintf(text, room, "[Operator]\n"
	    "DrainTimeout=5s\nMaxInFlight=%u\n"
	    "[Check thing]\nTCP=thing.example:1\n"
	    "[Pool one]\nFake=1\nWorkers=%u\nTimeout=20s\n"
	    "[Pool two]\nFake=1\nWorkers=%u\nTimeout=20s\n",
	    (unsigned)random_below(100) + 20, (unsigned)random_below(8) + 1,
	    (unsigned)random_below(8) + 1);

	for (unsigned i = 0; i < 3; i++) {
		if (weather.types[i] == NULL || random_below(10) == 0)
			weather.types[i] = types[random_below(4)];
		/* The first is always there. */
		if (i != 0 && weather.bad && random_below(8) == 0)
			continue;
		n += (size_t)snprintf(text + n, room - n, "[Queue q%u]\n"
		    "Type=%s\nPool=%s\nPrefetch=%u\nLease=10s\nMaxLease=40s\n"
		    "Backoff=100ms-5s\nMaxAttempts=%u\nWeight=%u\n%s%s", i,
		    weather.types[i], random_below(2) == 0 ? "one" : "two",
		    (unsigned)random_below(20),
		    (unsigned)random_below(5) + 2,
		    (unsigned)random_below(3) + 1,
		    random_below(4) == 0 ? "RateLimit=20/s\n" : "",
		    random_below(4) == 0 ? "Requires=thing\n" : "");
	}
}

static void
reload(struct weather *w)
{
	char text[1536];

	configuration(text, sizeof(text));
	(void)rig_reload(w->r, text);
	w->reloads++;
}

static void
random_put(struct sim_broker *b)
{
	char key[24];

	for (uint64_t n = random_below(20); n > 0; n--) {
		snprintf(key, sizeof(key), "k%u", (unsigned)random_below(4));
		(void)sim_put(b, "{}", random_below(3) == 0 ? key : NULL);
	}
}

static void
toggle_pause(struct rig *r)
{
	struct queue *q;
	struct list *l;

	engine_foreach_queue(q, r->engine, l) {
		if (q->removed || random_below(3) != 0)
			continue;
		if ((q->paused & PAUSED_BY_OPERATOR) != 0)
			engine_resume(r->engine, q, PAUSED_BY_OPERATOR);
		else if (random_below(3) == 0)
			engine_pause(r->engine, q, PAUSED_BY_OPERATOR);
	}
}

static void
one_event(struct weather *w)
{
	struct sim_broker *b = w->brokers[random_below(3)];
	struct sim_workers *pool = sim_workers(random_below(2) == 0 ? "one" :
	    "two");

	switch (random_below(16)) {
	case 0: case 1: case 2:
		random_put(b);
		break;
	case 3:
		sim_go_down(b);
		break;
	case 4: case 5:
		sim_come_up(b);
		break;
	case 6:
		b->fail_settlements = (unsigned)random_below(10);
		break;
	case 7:
		sim_pool_down(pool);
		break;
	case 8: case 9:
		sim_pool_up(pool);
		break;
	case 10:
		b->receipts_die = random_below(2) == 0;
		b->settle_applies_early = random_below(2) == 0;
		break;
	case 11:
		b->fetch_us = random_below(3000) * USEC_PER_MSEC;
		b->settle_us = random_below(15000) * USEC_PER_MSEC;
		b->extend_us = random_below(7000) * USEC_PER_MSEC;
		b->jitter_us = random_below(2000) * USEC_PER_MSEC;
		break;
	case 12:
		toggle_pause(w->r);
		engine_gate(w->r->engine, "thing", random_below(3) != 0);
		break;
	case 13:
		if (b->count[SIM_LEASED] != 0)
			sim_steal(list_first_entry(&b->place[SIM_LEASED],
			    struct sim_message, link));
		break;
	case 14:
		if (random_below(4) == 0)
			reload(w);
		break;
	default:
		b->fetch_us = b->settle_us = b->extend_us = b->jitter_us = 0;
		break;
	}
}

static void
calm_down(struct weather *w)
{
	struct queue *q;
	struct list *l;

	w->bad = false;
	for (unsigned i = 0; i < 3; i++) {
		struct sim_broker *b = w->brokers[i];

		b->fetch_us = b->settle_us = b->extend_us = b->jitter_us = 0;
		b->fail_settlements = 0;
		sim_come_up(b);
	}
	sim_pool_up(sim_workers("one"));
	sim_pool_up(sim_workers("two"));
	reload(w);
	engine_gate(w->r->engine, "thing", true);
	/* Those that a reload is still making anew are not paused. */
	engine_foreach_queue(q, w->r->engine, l)
		engine_resume(w->r->engine, q, PAUSED_BY_OPERATOR);
}

static bool
all_settled(const struct weather *w)
{
	for (unsigned i = 0; i < 3; i++) {
		const struct sim_broker *b = w->brokers[i];

		if (b->count[SIM_ACKED] + b->count[SIM_DEAD] != b->nall)
			return false;
	}
	return true;
}

static void
report(const struct weather *w)
{
	for (unsigned i = 0; i < 3; i++) {
		const struct sim_broker *b = w->brokers[i];

		print_message("# %s: ready %u leased %u delayed %u dead %u "
		    "acknowledged %u\n", b->name, b->count[SIM_READY],
		    b->count[SIM_LEASED], b->count[SIM_DELAYED],
		    b->count[SIM_DEAD], b->count[SIM_ACKED]);
	}
}

static struct rig *
begin(uint64_t seed)
{
	static const char *const names[] = { "q0", "q1", "q2" };
	char text[1536];
	struct rig *r;

	weather = (struct weather){ .bad = false };
	random_seed(seed);
	configuration(text, sizeof(text));
	r = rig_new_seeded(text, seed);
	rig_allow(r, "it goes to the dead letters");
	rig_allow(r, "its lease has ended while it was");
	rig_allow(r, "could not be settled");
	rig_allow(r, "connection lost");
	rig_allow(r, "not connected");
	rig_allow(r, "no worker can run");
	rig_allow(r, "DrainTimeout= is over");
	weather.r = r;
	for (unsigned i = 0; i < 3; i++)
		weather.brokers[i] = rig_broker(r, names[i]);
	sim_workers("one")->script = storm_script;
	sim_workers("two")->script = storm_script;
	weather.bad = true;
	rig_start(r);
	return r;
}

static void
bad_weather(struct weather *w)
{
	for (int i = 0; i < STEPS; i++) {
		one_event(w);
		rig_advance_us(w->r, random_below(800) * USEC_PER_MSEC);
	}
}

static void
check_messages(const struct weather *w)
{
	for (unsigned i = 0; i < 3; i++)
		sim_broker_check(w->brokers[i]);
}

static void
test_invariant_1_nothing_lost(void **state)
{
	size_t messages = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct rig *r = begin(seed);

		bad_weather(&weather);
		check_messages(&weather);
		calm_down(&weather);
		for (int i = 0; i < 3600 && !(all_settled(&weather) &&
		    engine_settled(r->engine)); i++)
			rig_advance_ms(r, 1000);
		if (!all_settled(&weather) || !engine_settled(r->engine)) {
			report(&weather);
			engine_dump(r->engine);
			fail_msg("not everything is settled; seed %llu",
			    (unsigned long long)seed);
		}
		check_messages(&weather);
		for (unsigned i = 0; i < 3; i++)
			messages += weather.brokers[i]->nall;
		rig_free(r);
	}
	assert_true(messages > SEEDS * 200);
}

/* The same, ended by a drain in the middle: rig_free() checks what is left. */
static void
test_invariant_2_settled_once(void **state)
{
	(void)state;
	for (uint64_t seed = 1001; seed <= 1000 + SEEDS; seed++) {
		struct rig *r = begin(seed);

		bad_weather(&weather);
		random_put(weather.brokers[0]);
		assert_true(rig_drain(r) <= 11 * USEC_PER_SEC);
		rig_free(r);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invariant_1_nothing_lost),
		cmocka_unit_test(test_invariant_2_settled_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
