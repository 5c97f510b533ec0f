/*
 * Mode=stream while connections break, servers go away, groups vanish.
 */
#include "redis_rig.h"

#include <signal.h>
#include <stdio.h>

/* ---- connections that break ---- */

static void
cut_connections(void)
{
	redis_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
}

static void
test_reconnects_and_keeps_what_it_holds(void **state _unused_)
{
	struct rig *r;
	unsigned downs;

	NEED_SERVER();
	produce(0, 10);
	r = up(STREAM, 20);
	wait_for(r, r->nheld == 10);
	cut_connections();
	downs = r->downs;
	wait_for(r, r->downs > downs && r->ups == 2);
	assert_string_equal(r->down.code, "eof");
	produce(10, 5);
	wait_for(r, r->nheld == 15);
	for (int i = 0; i < 10; i++)
		rig_turn(r);
	assert_int_equal(r->delivered, 15);	/* none twice */
	acknowledge_all(r);
	wait_for(r, r->settled == 15);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(pending(), 0);
	rig_free(r);
}

#ifdef BOT_FAULT_INJECTION
/* Each kind of settlement is cut off once, before and after it was done. */
static void
settle_through_fault(const char *spec)
{
	struct rig *r;

	redis_do(&server, "FLUSHALL");
	produce(0, 8);
	r = up(STREAM, 8);
	wait_for(r, r->nheld == 8);
	r->window = 0;
	credit(r, 0);
	fault_arm(spec);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RELEASE, 0, 1, 0);
	wait_for(r, r->settled == 7);
	fault_arm(NULL);
	assert_int_equal(r->settle_errors, 0);
	assert_true(r->downs >= 1);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 2);
	assert_int_equal(redis_int(&server, "HLEN " RECORDS), 2);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 2);
	assert_int_equal(pending(), 2);
	rig_free(r);
}
#endif

static void
test_invariant_1_redis_settlement_cut_off(void **state _unused_)
{
	NEED_SERVER();
#ifdef BOT_FAULT_INJECTION
	settle_through_fault("redis.settle.before_write=1:error");
	settle_through_fault("redis.settle.before_write=3:error");
	settle_through_fault("redis.settle.after_write=1:error");
	settle_through_fault("redis.settle.after_write=2:error");
	settle_through_fault("redis.settle.after_write=4:error");
#else
	print_message("built without fault injection: skipped\n");
	skip();
#endif
}

static void
test_delivery_cut_off_comes_again(void **state _unused_)
{
	NEED_SERVER();
#ifdef BOT_FAULT_INJECTION
	struct rig *r;

	produce(0, 10);
	r = up(STREAM, 0);
	fault_arm("redis.deliver=4:error");
	r->window = 20;
	wait_for(r, r->nheld == 10);
	assert_int_equal(r->delivered, 10);
	fault_arm("redis.delayed=1:error");
	settle(r, r->held[0], SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->downs == 2);
	fault_arm(NULL);
	/* It was taken, out of sight for a lease. */
	wait_for(r, r->settled == 1);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 1);
	rig_free(r);
#else
	print_message("built without fault injection: skipped\n");
	skip();
#endif
}

static void
test_survives_a_restart_of_the_server(void **state _unused_)
{
	struct rig *r;
	const char *const aof[] = { "--appendonly", "yes", "--appendfsync",
	    "always", NULL };

	NEED_SERVER();
	produce(0, 6);
	r = up(STREAM, 10);
	wait_for(r, r->nheld == 6);
	server_kill(&server, SIGKILL);
	wait_for(r, r->downs == 1);
	/* Settled while it is away. */
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	for (int i = 0; i < 10; i++)
		rig_turn(r);
	assert_int_equal(r->settled, 0);
	server_again(&server, aof);
	wait_for(r, r->settled == 3);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->ups, 2);
	assert_int_equal(pending(), 3);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	for (int i = 0; i < 10; i++)
		rig_turn(r);
	assert_int_equal(r->delivered, 6);
	rig_free(r);
}

static void
test_stop_while_away_answers_all(void **state _unused_)
{
	const char *const aof[] = { "--appendonly", "yes", "--appendfsync",
	    "always", NULL };
	struct rig *r;
	uint64_t before;

	NEED_SERVER();
	produce(0, 4);
	r = up(STREAM, 10);
	wait_for(r, r->nheld == 4);
	server_kill(&server, SIGKILL);
	wait_for(r, r->downs == 1);
	before = clock_monotonic_us();
	rig_stop(r);
	assert_int_equal(r->settle_errors, 4);
	assert_true(clock_monotonic_us() - before < 20 * USEC_PER_SEC);
	rig_free(r);
	server_again(&server, aof);
	assert_int_equal(pending(), 4);
}

static void
test_script_flush_is_survived(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce(0, 3);
	r = up(STREAM, 3);
	wait_for(r, r->nheld == 3);
	redis_do(&server, "SCRIPT FLUSH");
	r->ops->extend(&r->q, r->held[2], 30 * USEC_PER_SEC);
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	wait_for(r, r->settled == 2 && r->extended == 1);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->downs, 0);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	rig_free(r);
}

static void
test_group_that_vanishes_is_made_again(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up(STREAM, 5);
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	redis_do(&server, "XGROUP DESTROY jobs g");
	produce(0, 2);
	wait_for(r, r->nheld == 2);
	acknowledge_all(r);
	wait_for(r, r->settled == 2);
	redis_do(&server, "DEL jobs");
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	produce(5, 2);
	wait_for(r, r->nheld == 2);
	rig_free(r);
}

static void
test_stop_leaves_nothing_behind(void **state _unused_)
{
	struct rig *r;
	uint64_t before;

	NEED_SERVER();
	r = up(STREAM, 5);
	for (int i = 0; i < 5; i++)
		rig_turn(r);		/* the reader blocks now */
	before = clock_monotonic_us();
	rig_stop(r);
	assert_true(clock_monotonic_us() - before < USEC_PER_SEC);
	rig_free(r);
	produce(0, 1);
	assert_int_equal(pending(), 0);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_reconnects_and_keeps_what_it_holds),
		T(test_invariant_1_redis_settlement_cut_off),
		T(test_delivery_cut_off_comes_again),
		T(test_survives_a_restart_of_the_server),
		T(test_stop_while_away_answers_all),
		T(test_script_flush_is_survived),
		T(test_group_that_vanishes_is_made_again),
		T(test_stop_leaves_nothing_behind),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("redis_faults", tests,
	    world_setup_durable,
	    world_teardown);
}
