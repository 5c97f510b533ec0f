/*
 * Leases (invariant 5): waiting and running messages alike, from the broker's
 * real deadline, capped, never after a settlement, dropped after a loss.
 */
#include "sim/rig.h"

#define ONE	"[Pool work]\nFake=1\nWorkers=1\nTimeout=20s\n"
#define JOBS	"[Queue jobs]\nType=fake\nPrefetch=3\nLease=10s\n"

static uint64_t run_us;

static void
long_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	(void)m;
	plan->run_us = run_us;
}

static struct rig *
world(const char *text, unsigned messages)
{
	struct rig *r = rig_new(text);

	sim_workers("work")->script = long_script;
	sim_put_many(rig_broker(r, "jobs"), messages);
	return r;
}

static void
test_invariant_5_leases_cover_waiting_and_running(void **state)
{
	struct rig *r = world(ONE JOBS "MaxLease=10min\n", 3);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	run_us = 60 * USEC_PER_SEC;
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nrunning, 1);
	assert_int_equal(q->nwaiting, 2);
	rig_advance_ms(r, 180000);
	assert_int_equal(b->count[SIM_ACKED], 3);
	assert_int_equal(sim_workers("work")->nstarts, 3);
	assert_int_equal(q->stats.leases_lost, 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(b->all[i]->receipt, 1);
	/* Every 5 s: 11 + 23 + 35 or so, not one a turn. */
	assert_in_range(b->extends, 60, 80);
	assert_int_equal(b->extends, q->stats.leases_extended);
	rig_free(r);
}

static void
test_invariant_5_leases_are_capped(void **state)
{
	struct rig *r = world("[Pool work]\nFake=1\nWorkers=2\nTimeout=20s\n"
	    JOBS "MaxLease=32s\nMaxAttempts=1\n", 1);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_workers *w = sim_workers("work");
	struct sim_message *s = b->all[0];

	(void)state;
	rig_expect(r, "its lease has ended while it was running");
	run_us = 100 * USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 31999);
	assert_int_equal(w->cancels, 0);
	assert_int_equal(s->receipt, 1);
	run_us = USEC_PER_SEC;
	rig_advance_ms(r, 1);
	/* Exactly at the cap; the worker is told, the broker has it again. */
	assert_int_equal(b->max_lease_seen_us, 32 * USEC_PER_SEC);
	assert_int_equal(w->cancels, 1);
	assert_true(s->deliveries[0].lost);
	rig_advance_ms(r, 1000);
	assert_int_equal(s->place, SIM_ACKED);
	assert_int_equal(s->receipt, 2);
	/* The late verdict of the first run settles nothing. */
	assert_int_equal(rig_queue(r, "jobs")->nrunning, 1);
	rig_advance_ms(r, 68000);
	assert_int_equal(rig_queue(r, "jobs")->nrunning, 0);
	assert_int_equal(s->deliveries[0].settled, 0);
	assert_int_equal(b->settles, 1);
	assert_int_equal(rig_queue(r, "jobs")->stats.leases_lost, 1);
	assert_int_equal(rig_queue(r, "jobs")->stats.done, 1);
	rig_free(r);
}

/* The fake queue fails the test at an extend after a settle. */
static void
test_invariant_5_leases_end_with_the_settlement(void **state)
{
	struct rig *r = world(ONE JOBS, 3);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;
	unsigned before;

	(void)state;
	rig_expect(r, "could not be settled");
	run_us = 10000;
	b->settle_us = 60 * USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 40);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nsettling, 3);
	before = b->extends;
	b->settle_us = 0;
	rig_advance_ms(r, 59000);
	assert_int_equal(b->extends, before);
	/* The broker gave them to us again meanwhile; the late answers find
	   their receipts void. */
	rig_advance_ms(r, 2000);
	assert_int_equal(b->count[SIM_ACKED], 3);
	assert_int_equal(q->stats.done, 3);
	assert_int_equal(q->stats.settle_errors, 3);
	rig_free(r);
}

/* A settlement overtakes an open extend: no answer comes for that. */
static void
test_settlement_overtakes_an_open_extend(void **state)
{
	struct rig *r = world(ONE JOBS, 1);
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	run_us = 5100 * USEC_PER_MSEC;		/* the extend goes out at 5 s */
	b->extend_us = USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 5000);
	assert_int_equal(b->count[SIM_LEASED], 1);
	rig_advance_ms(r, 100);
	assert_int_equal(b->count[SIM_ACKED], 1);
	rig_advance_ms(r, 10000);
	assert_int_equal(b->extends, 0);
	rig_free(r);
}

static void
test_late_extend_drops_what_waits(void **state)
{
	struct rig *r = world(ONE JOBS, 2);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *waits = b->all[1];
	struct queue *q;

	(void)state;
	rig_expect(r, "its lease has ended while it was");
	run_us = 12 * USEC_PER_SEC;
	b->extend_us = 8 * USEC_PER_SEC;	/* asked at 5 s, late at 10 s */
	rig_start(r);
	q = rig_queue(r, "jobs");
	assert_int_equal(q->nwaiting, 1);
	rig_advance_ms(r, 9999);
	assert_int_equal(waits->receipt, 1);
	b->extend_us = 0;
	rig_advance_ms(r, 1);
	/* Dropped, and at once delivered again with a new receipt. */
	assert_int_equal(waits->receipt, 2);
	assert_true(waits->deliveries[0].lost);
	rig_advance_ms(r, 60000);
	assert_int_equal(b->count[SIM_ACKED], 2);
	assert_int_equal(waits->deliveries[0].settled, 0);
	assert_int_equal(waits->starts, 1);
	assert_int_equal(q->stats.leases_lost, 2);
	rig_free(r);
}

static void
test_leases_that_cannot_be_renewed_run_out(void **state)
{
	struct rig *r = world(ONE "[Queue jobs]\nType=fake-fixed\nPrefetch=2\n"
	    "Lease=10s\n", 2);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	rig_expect(r, "its lease has ended while it was");
	run_us = 12 * USEC_PER_SEC;
	rig_start(r);
	q = rig_queue(r, "jobs");
	rig_advance_ms(r, 9999);
	assert_int_equal(q->stats.leases_lost, 0);
	rig_advance_ms(r, 1);
	assert_int_equal(q->stats.leases_lost, 2);
	assert_int_equal(sim_workers("work")->cancels, 1);
	run_us = USEC_PER_SEC;
	rig_advance_ms(r, 30000);
	assert_int_equal(b->count[SIM_ACKED], 2);
	rig_free(r);
}

static void
test_stolen_message_is_dropped(void **state)
{
	struct rig *r = world(ONE JOBS, 2);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_workers *w = sim_workers("work");

	(void)state;
	rig_expect(r, "its lease has ended while it was");
	run_us = 15 * USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 1000);
	sim_steal(b->all[0]);			/* runs */
	sim_steal(b->all[1]);			/* waits */
	rig_advance_ms(r, 4000);		/* the extends are refused */
	assert_int_equal(w->cancels, 1);
	assert_int_equal(rig_queue(r, "jobs")->nwaiting, 0);
	rig_advance_ms(r, 20000);
	assert_int_equal(w->nstarts, 1);
	assert_int_equal(b->settles, 0);
	assert_int_equal(r->engine->messages_held, 0);
	rig_free(r);
}

/* Receipts that die with the connection: what waits goes, what runs is marked
   as lost. */
static void
test_invariant_5_leases_receipts_die_with_the_connection(void **state)
{
	struct rig *r = world(ONE JOBS, 3);
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q;

	(void)state;
	rig_expect(r, "connection lost");
	run_us = 2 * USEC_PER_SEC;
	b->receipts_die = true;
	rig_start(r);
	q = rig_queue(r, "jobs");
	rig_advance_ms(r, 1000);
	sim_go_down(b);
	rig_run_idle(r);
	assert_int_equal(q->nwaiting, 0);
	assert_int_equal(q->nrunning, 1);
	assert_int_equal(b->count[SIM_READY], 3);
	sim_come_up(b);
	rig_advance_ms(r, 20000);
	assert_int_equal(b->count[SIM_ACKED], 3);
	/* Three, and the one that ran for nothing. */
	assert_int_equal(sim_workers("work")->nstarts, 4);
	assert_int_equal(b->settles, 3);
	rig_free(r);
}

/* Receipts that outlive it: the same leases go on after an outage. */
static void
outage(uint64_t at_ms, uint64_t for_ms)
{
	struct rig *r = world(ONE JOBS, 2);
	struct sim_broker *b = rig_broker(r, "jobs");

	rig_expect(r, "connection lost");
	run_us = 40 * USEC_PER_SEC;
	b->extend_us = 200 * USEC_PER_MSEC;
	rig_start(r);
	rig_advance_ms(r, at_ms);
	sim_go_down(b);
	rig_advance_ms(r, for_ms);
	sim_come_up(b);
	rig_advance_ms(r, 100000);
	assert_int_equal(rig_queue(r, "jobs")->stats.leases_lost, 0);
	assert_int_equal(b->count[SIM_ACKED], 2);
	assert_int_equal(sim_workers("work")->nstarts, 2);
	rig_free(r);
}

static void
test_leases_survive_an_outage(void **state)
{
	(void)state;
	outage(1000, 1000);		/* nothing was due */
	outage(4000, 2000);		/* the renewal falls into it */
	outage(5100, 1000);		/* the renewal's answer is lost in it */
}

/* Delivered late, the lease is renewed by what is left of it. */
static void
test_invariant_5_leases_start_at_the_broker(void **state)
{
	struct rig *r = world(ONE JOBS, 1);
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	run_us = 15 * USEC_PER_SEC;
	b->fetch_us = 8 * USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 8000);
	assert_int_equal(b->all[0]->place, SIM_LEASED);
	assert_int_equal(b->extends, 1);	/* at once: 2 s are left */
	rig_advance_ms(r, 15000);
	assert_int_equal(b->all[0]->place, SIM_ACKED);
	assert_int_equal(b->all[0]->receipt, 1);
	rig_free(r);
}

/* A broker that grants whole seconds is not asked again and again for the
   fraction that is missing at the cap. */
static void
test_rounded_leases_do_not_spin(void **state)
{
	struct rig *r = world(ONE JOBS "MaxLease=30s\n", 1);
	struct sim_broker *b = rig_broker(r, "jobs");

	(void)state;
	rig_expect(r, "its lease has ended while it was running");
	b->lease_step_us = USEC_PER_SEC;
	b->fetch_us = 300 * USEC_PER_MSEC;
	b->extend_us = 1000;
	run_us = 40 * USEC_PER_SEC;
	rig_start(r);
	rig_advance_ms(r, 29000);
	assert_int_equal(b->all[0]->receipt, 1);
	assert_true(b->extends < 12);
	run_us = 1000;
	rig_advance_ms(r, 60000);
	assert_int_equal(b->all[0]->place, SIM_ACKED);
	rig_free(r);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_invariant_5_leases_cover_waiting_and_running),
		cmocka_unit_test(test_invariant_5_leases_are_capped),
		cmocka_unit_test(
		    test_invariant_5_leases_end_with_the_settlement),
		cmocka_unit_test(test_settlement_overtakes_an_open_extend),
		cmocka_unit_test(test_late_extend_drops_what_waits),
		cmocka_unit_test(test_leases_that_cannot_be_renewed_run_out),
		cmocka_unit_test(test_stolen_message_is_dropped),
		cmocka_unit_test(
		    test_invariant_5_leases_receipts_die_with_the_connection),
		cmocka_unit_test(test_leases_survive_an_outage),
		cmocka_unit_test(test_invariant_5_leases_start_at_the_broker),
		cmocka_unit_test(test_rounded_leases_do_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
