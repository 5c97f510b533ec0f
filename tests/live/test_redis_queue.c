/*
 * Mode=stream on a real server.
 */
#include "redis_rig.h"

#include <signal.h>
#include <stdio.h>

/* ---- the straight way ---- */

static void
test_delivers_and_acknowledges(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	redis_do(&server, "XADD jobs 1700000000123-4 kind mail body hello n 7");
	r = up(STREAM, 10);
	m = take_one(r);
	assert_true(body_is(m, "hello"));
	assert_true(attribute_is(m, "kind", "mail"));
	assert_true(attribute_is(m, "n", "7"));
	assert_int_equal(m->nattributes, 2);
	assert_true(slice_is(m->name, "1700000000123-4"));
	assert_true(m->enqueued_us == 1700000000123000u);
	assert_int_equal(m->attempt, 1);
	assert_true(m->lease_until_us > clock_monotonic_us());
	assert_int_equal(pending(), 1);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	assert_int_equal(pending(), 0);
	assert_int_equal(redis_int(&server, "XLEN jobs"), 1);
	/* One that comes while it waits. */
	redis_do(&server, "XADD jobs * body later");
	m = take_one(r);
	assert_true(body_is(m, "later"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

static void
test_entry_without_body_is_json(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	redis_do(&server, "XADD jobs * a 1 b %b", "x\"\xff", (size_t)3);
	r = up(STREAM, 10);
	m = take_one(r);
	assert_true(body_is(m, "{\"a\":\"1\",\"b\":\"x\\\"\xef\xbf\xbd\"}"));
	assert_int_equal(m->nattributes, 0);
	/* Buried it keeps its own fields, bytes and all. */
	settle_and_wait(r, m, SETTLE_BURY, 0, 1, 0);
	{
		redisReply *reply = redisCommand(server.admin,
		    "XRANGE jobs:dead - +");
		redisReply *f = reply->element[0]->element[1];

		assert_string_equal(f->element[0]->str, "a");
		assert_int_equal(f->element[3]->len, 3);
		assert_memory_equal(f->element[3]->str, "x\"\xff", 3);
		assert_string_equal(f->element[4]->str, "bot-error-type");
		freeReplyObject(reply);
	}
	rig_free(r);
}

static void
test_delete_after_settlement(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce(0, 3);
	r = up(STREAM "Delete=yes\n", 10);
	wait_for(r, r->nheld == 3);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RETRY, 60 * USEC_PER_SEC, 2, 0);
	wait_for(r, r->settled == 3);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(redis_int(&server, "XLEN jobs"), 0);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 1);
	rig_free(r);
}

static void
test_never_beyond_credit(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce(0, 50);
	r = up(STREAM, 0);
	credit(r, 7);
	wait_for(r, r->nheld == 7);
	for (int i = 0; i < 20; i++)
		rig_turn(r);
	assert_int_equal(r->nheld, 7);
	credit(r, 3);
	wait_for(r, r->nheld == 10);
	assert_int_equal(pending(), 10);
	rig_free(r);
}

/* ---- retry, bury, release ---- */

static void
test_retry_waits_and_comes_back(void **state _unused_)
{
	struct rig *r;
	struct message *m;
	uint64_t before;

	NEED_SERVER();
	redis_do(&server, "XADD jobs 1700000000000-1 k v body %b", "a\0b",
	    (size_t)3);
	r = up(STREAM, 10);
	m = take_one(r);
	before = clock_monotonic_us();
	settle_and_wait(r, m, SETTLE_RETRY, 300 * USEC_PER_MSEC, 2, 1);
	assert_int_equal(pending(), 0);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 1);
	m = take_one(r);
	assert_true(clock_monotonic_us() - before >= 290 * USEC_PER_MSEC);
	assert_true(clock_monotonic_us() - before < 2 * USEC_PER_SEC);
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	assert_int_equal(m->body.n, 3);
	assert_memory_equal(m->body.p, "a\0b", 3);
	assert_true(attribute_is(m, "k", "v"));
	assert_true(m->enqueued_us == 1700000000000000u);
	assert_true(slice_is(m->name, "1700000000000-1"));
	/* Once more, then acknowledged: nothing is left behind. */
	settle_and_wait(r, m, SETTLE_RETRY, 0, 3, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	settle_and_wait(r, m, SETTLE_ACK, 0, 3, 1);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 0);
	assert_int_equal(redis_int(&server, "HLEN " RECORDS), 0);
	rig_free(r);
}

static void
test_delayed_is_not_held_up_by_a_waiting_reader(void **state _unused_)
{
	struct rig *r;
	struct message *m;
	uint64_t before;

	NEED_SERVER();
	produce(0, 1);
	r = up(STREAM, 1);
	m = take_one(r);
	before = clock_monotonic_us();
	settle_and_wait(r, m, SETTLE_RETRY, 400 * USEC_PER_MSEC, 2, 0);
	/* The only credit is now with an XREADGROUP that blocks. */
	m = take_one(r);
	assert_true(clock_monotonic_us() - before < 2 * USEC_PER_SEC);
	settle_and_wait(r, m, SETTLE_ACK, 0, 2, 0);
	rig_free(r);
}

static void
test_delayed_buried_and_released(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	produce(0, 2);
	r = up(STREAM, 10);
	wait_for(r, r->nheld == 2);
	settle(r, r->held[0], SETTLE_RETRY, 0, 2, 0);
	settle(r, r->held[0], SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->nheld == 2);
	m = r->held[0];
	settle_and_wait(r, m, SETTLE_BURY, 0, 2, 1);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	assert_int_equal(redis_int(&server, "HLEN " RECORDS), 2);
	m = r->held[0];
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 2, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	settle_and_wait(r, m, SETTLE_ACK, 0, 2, 1);
	assert_int_equal(redis_int(&server, "HLEN " RECORDS), 0);
	rig_free(r);
}

static void
test_damaged_record_is_malformed(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "ZADD " DELAYED " 0 x 0 y");
	redis_do(&server, "HSET " RECORDS " x rubbish");
	r = up(STREAM, 10);
	wait_for(r, r->malformed == 1);
	wait_for(r, r->settled == 1);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	/* y had no record at all. */
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 0);
	rig_free(r);
}

static void
test_release_is_taken_by_another_at_once(void **state _unused_)
{
	struct rig *a, *b;

	NEED_SERVER();
	produce(0, 5);
	a = up(STREAM, 10);
	wait_for(a, a->nheld == 5);
	rig_free(a);
	assert_int_equal(pending(), 5);
	b = up("Mode=stream\nKey=jobs\nGroup=g\nConsumer=other\n", 10);
	wait_for(b, b->nheld == 5);
	assert_int_equal(b->held[0]->attempt, 1);
	acknowledge_all(b);
	wait_for(b, b->settled == 5);
	assert_int_equal(pending(), 0);
	rig_free(b);
}

static void
test_release_while_running_comes_back(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	produce(0, 1);
	r = up(STREAM, 1);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 1, 0);
	m = take_one(r);
	assert_int_equal(m->attempt, 1);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

static void
test_release_with_a_history_keeps_it(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	produce(0, 1);
	r = up(STREAM, 10);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 3, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	assert_int_equal(m->crashes, 1);
	assert_int_equal(pending(), 0);
	settle_and_wait(r, m, SETTLE_ACK, 0, 3, 1);
	rig_free(r);
}

/* ---- leases ---- */

static void
test_invariant_5_redis_leases(void **state _unused_)
{
	struct rig *r;
	struct message *m, *stolen;

	NEED_SERVER();
	produce(0, 3);
	r = up(STREAM, 3);
	wait_for(r, r->nheld == 3);
	stolen = r->held[2];
	redis_do(&server, "XCLAIM jobs g thief 0 %b", stolen->receipt.p,
	    stolen->receipt.n);
	/* One of each kind: a delayed one too. */
	settle_and_wait(r, r->held[1], SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->nheld == 3);
	for (unsigned i = 0; i < 3; i++)
		r->ops->extend(&r->q, r->held[i], 30 * USEC_PER_SEC);
	wait_for(r, r->extended == 2 && r->lost == 1);
	assert_true(stolen->lease_lost);
	/* The cap that the engine has asked for is kept. */
	assert_true(r->held[0]->lease_until_us <=
	    clock_monotonic_us() + 30 * USEC_PER_SEC);
	/* A settlement of the stolen one must not make a copy of it. */
	settle(r, stolen, SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->settle_errors == 1);
	assert_string_equal(r->settle_error.code, "lease_lost");
	/* A settlement overtakes a renewal that is not sent yet... */
	m = r->held[0];
	r->ops->extend(&r->q, m, 30 * USEC_PER_SEC);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	/* ... and follows one that is under way. */
	m = r->held[0];
	assert_int_equal(m->attempt, 2);
	r->ops->extend(&r->q, m, 30 * USEC_PER_SEC);
	rig_turn(r);
	settle_and_wait(r, m, SETTLE_RETRY, 60 * USEC_PER_SEC, 3, 0);
	assert_int_equal(r->extended + r->lost, r->extended + 1);
	assert_int_equal(pending(), 1);		/* the thief's */
	rig_free(r);
}

static void
test_reaps_dead_consumers(void **state _unused_)
{
	struct rig *r = redis_rig_new(server.socket, STREAM);

	if (server.pid == 0) {
		rig_crash(r);
		skip();
	}
	produce(0, 250);
	redis_do(&server, "XGROUP CREATE jobs g 0");
	redis_do(&server, "XREADGROUP GROUP g dead COUNT 250 STREAMS jobs >");
	r->q.lease_us = USEC_PER_SEC;
	rig_start(r);
	r->window = 300;
	for (int i = 0; i < 10; i++)
		rig_turn(r);
	assert_int_equal(r->nheld, 0);		/* not idle for long enough */
	wait_for(r, r->nheld == 250);
	acknowledge_all(r);
	wait_for(r, r->settled == 250);
	assert_int_equal(pending(), 0);
	rig_free(r);
}

static void
test_takes_up_its_former_life_at_once(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce(0, 30);
	redis_do(&server, "XGROUP CREATE jobs g 0");
	redis_do(&server, "XREADGROUP GROUP g me COUNT 20 STREAMS jobs >");
	/* One of them was trimmed meanwhile. */
	redis_do(&server, "XTRIM jobs MAXLEN 29");
	r = up(STREAM, 8);
	wait_for(r, r->nheld == 8);
	assert_true(body_is(r->held[0], "m1"));
	for (unsigned done = 0; done < 29;) {
		wait_for(r, r->nheld != 0);
		done += r->nheld;
		acknowledge_all(r);
	}
	wait_for(r, r->settled == 29);
	assert_int_equal(r->delivered, 29);
	assert_int_equal(pending(), 0);
	rig_free(r);
}

static void
test_invariant_1_redis_crash_loses_nothing(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce(0, 20);
	r = up(STREAM, 30);
	wait_for(r, r->nheld == 20);
	settle(r, r->held[0], SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->nheld == 20);
	rig_crash(r);
	r = redis_rig_new(server.socket, STREAM);
	r->q.lease_us = USEC_PER_SEC;
	rig_start(r);
	r->window = 30;
	/* Ours are back at once, the delayed one after its lease, which was
	   60 s: its time is moved instead. */
	wait_for(r, r->nheld == 19);
	redis_do(&server, "EVAL %s 1 " DELAYED, "for _,v in ipairs(redis.call("
	    "'ZRANGE',KEYS[1],0,-1)) do redis.call('ZADD',KEYS[1],1,v) end");
	wait_for(r, r->nheld == 20);
	acknowledge_all(r);
	wait_for(r, r->settled == 20);
	assert_int_equal(pending(), 0);
	assert_int_equal(redis_int(&server, "ZCARD " DELAYED), 0);
	rig_free(r);
}

/* ---- backlog, enqueueing, dead letters ---- */

static void
test_backlog(void **state _unused_)
{
	struct rig *r;
	const struct backlog *b;

	NEED_SERVER();
	redis_do(&server, "XADD jobs 1700000000000-0 body old");
	produce(0, 9);
	r = up(STREAM, 0);
	b = probe(r);
	assert_true(b->waiting_known);
	assert_int_equal(b->waiting, 10);
	assert_true(b->oldest_us > 3600 * USEC_PER_SEC);
	credit(r, 4);
	wait_for(r, r->nheld == 4);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 60 * USEC_PER_SEC, 2, 0);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	b = probe(r);
	assert_int_equal(b->waiting, 6);
	assert_true(b->oldest_us < 60 * USEC_PER_SEC);
	assert_int_equal(b->delayed, 1);
	assert_int_equal(b->dead, 1);
	assert_true(b->delayed_known && b->dead_known);
	/* An entry that was not read is deleted: lag is unknown, we say so. */
	redis_do(&server, "XTRIM jobs MAXLEN 2");
	b = probe(r);
	assert_true(!b->waiting_known || b->waiting == 2);
	rig_free(r);
}

static void
test_enqueue(void **state _unused_)
{
	struct attribute a[] = { { SLICE("x"), SLICE("1"), false } };
	struct enqueueing e;
	struct message *m;
	struct rig *r;

	NEED_SERVER();
	r = up(STREAM, 5);
	enqueue(r, &e, "work", a, 1);
	assert_false(error_is_set(&e.err));
	m = r->nheld != 0 ? r->held[0] : take_one(r);
	assert_true(slice_is(m->name, e.id));
	assert_true(body_is(m, "work"));
	assert_true(attribute_is(m, "x", "1"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	server_kill(&server, SIGKILL);
	wait_for(r, r->downs == 1);
	enqueue(r, &e, "work", NULL, 0);
	assert_true(error_is_set(&e.err));
	server_again(&server, (const char *const[]){ "--appendonly", "yes",
	    "--appendfsync", "always", NULL });
	rig_free(r);
}

static void
test_dead_letters(void **state _unused_)
{
	struct rig *r;
	struct walking w;
	unsigned n = 0;

	NEED_SERVER();
	for (unsigned i = 0; i < 25; i++)
		redis_do(&server, "XADD jobs * body d%u kind mail", i);
	r = up(STREAM, 25);
	wait_for(r, r->nheld == 25);
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_BURY, 0, 5, 1);
	wait_for(r, r->settled == 25);
	assert_int_equal(r->settle_errors, 0);
	r->window = 0;
	credit(r, 0);
	walk_open(r, &w);
	while (walk_next(r, &w)) {
		char body[16];

		snprintf(body, sizeof(body), "d%u", n++);
		assert_true(slice_is(w.item.body, body));
		assert_int_equal(w.item.nattributes, 1);
		assert_true(slice_is(w.item.attributes[0].value, "mail"));
		assert_true(slice_is(w.item.error_type, "external_api"));
		assert_true(slice_is(w.item.detail, "it \"failed\"\n"));
		assert_int_equal(w.item.attempts, 5);
		assert_int_equal(w.item.crashes, 1);
		assert_true(w.item.died_us > 1700000000000000u);
		if (n == 3 || n == 13) {
			walk_act(r, &w, DEAD_PURGE);
			assert_false(error_is_set(&w.err));
		} else if (n == 4) {
			walk_act(r, &w, DEAD_REDRIVE);
			assert_false(error_is_set(&w.err));
			walk_act(r, &w, DEAD_REDRIVE);	/* it is gone */
			assert_string_equal(w.err.code, "gone");
		}
	}
	assert_false(error_is_set(&w.err));
	assert_int_equal(n, 25);
	r->ops->dead_close(&r->q, &w.walk);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 22);
	credit(r, 10);
	wait_for(r, r->nheld == 1);
	assert_true(body_is(r->held[0], "d3"));
	assert_int_equal(r->held[0]->nattributes, 1);
	assert_int_equal(r->held[0]->attempt, 1);
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	/* Closed while it is asked; and asked while the server is away. */
	walk_open(r, &w);
	r->ops->dead_next(&r->q, &w.walk);
	r->ops->dead_close(&r->q, &w.walk);
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	walk_open(r, &w);
	server_kill(&server, SIGKILL);
	wait_for(r, r->downs == 1);
	assert_false(walk_next(r, &w));
	assert_true(error_is_set(&w.err));
	r->ops->dead_close(&r->q, &w.walk);
	server_again(&server, (const char *const[]){ "--appendonly", "yes",
	    "--appendfsync", "always", NULL });
	rig_free(r);
}

static void
test_large_messages_shrink_the_request(void **state _unused_)
{
	struct rig *r;
	_cleanup_free_ char *big = xmalloc(100000);

	NEED_SERVER();
	memset(big, 'x', 100000);
	for (int i = 0; i < 40; i++)
		redis_do(&server, "XADD jobs * body %b", big, (size_t)100000);
	r = redis_rig_new(server.socket, STREAM "ReplyMax=300K\n");
	r->q.max_bytes = 100;		/* what it would guess from */
	rig_start(r);
	r->window = 100;
	wait_for(r, r->nheld == 40);
	assert_int_equal(r->delivered, 40);
	assert_string_equal(r->down.code, "reply_too_large");
	acknowledge_all(r);
	wait_for(r, r->settled == 40);
	assert_int_equal(pending(), 0);
	rig_free(r);
}

static void
test_config_is_checked(void **state _unused_)
{
	assert_int_equal(redis_problem_count(STREAM), 0);
	assert_int_equal(redis_problem_count("Mode=stream\n"), 1);
	assert_int_equal(redis_problem_count(STREAM "Username=u\n"), 1);
	assert_int_equal(redis_problem_count(STREAM "TLSCAFile=/x\n"), 1);
	assert_int_equal(redis_problem_count(STREAM
	    "TLS=yes\nTLSKeyFile=/x\n"), 1);
	assert_int_equal(redis_problem_count(
	    "Mode=sidekiq\nKey=q\nDeadLetter=d\n"), 1);
	assert_int_equal(redis_problem_count("Mode=streem\nKey=q\n"), 1);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_delivers_and_acknowledges),
		T(test_entry_without_body_is_json),
		T(test_delete_after_settlement),
		T(test_never_beyond_credit),
		T(test_retry_waits_and_comes_back),
		T(test_delayed_is_not_held_up_by_a_waiting_reader),
		T(test_delayed_buried_and_released),
		T(test_damaged_record_is_malformed),
		T(test_release_is_taken_by_another_at_once),
		T(test_release_while_running_comes_back),
		T(test_release_with_a_history_keeps_it),
		T(test_invariant_5_redis_leases),
		T(test_reaps_dead_consumers),
		T(test_takes_up_its_former_life_at_once),
		T(test_invariant_1_redis_crash_loses_nothing),
		T(test_backlog),
		T(test_enqueue),
		T(test_dead_letters),
		T(test_large_messages_shrink_the_request),
		T(test_config_is_checked),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("redis_queue", tests,
	    world_setup_durable,
	    world_teardown);
}
