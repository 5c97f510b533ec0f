/*
 * Mode=list and Mode=sidekiq on a real server.
 */
#include "redis_rig.h"

#include <signal.h>
#include <stdio.h>

#define LIST	"Mode=list\nKey=jobs\nConsumer=me\n"
#define OTHER	"Mode=list\nKey=jobs\nConsumer=other\n"
#define MINE	"{jobs}:bot:processing:me"
#define SIDEKIQ	"Mode=sidekiq\nKey=mail\nConsumer=me\n"

static struct rig *
up_with_lease(const char *keys, unsigned window, uint64_t lease_us)
{
	struct rig *r = redis_rig_new(server.socket, keys);

	r->q.lease_us = lease_us;
	rig_start(r);
	wait_for(r, r->ups == 1);
	r->window = window;
	return r;
}

static void
produce_by(const char *push, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		redis_do(&server, "%s jobs m%u", push, i);
}

static void
assert_in_order(struct rig *r, unsigned from, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char body[16];

		snprintf(body, sizeof(body), "m%u", from + i);
		assert_true(body_is(r->held[i], body));
	}
}

/* ---- lists ---- */

static void
straight(const char *keys, const char *push)
{
	struct rig *r;

	redis_do(&server, "FLUSHALL");
	produce_by(push, 30);
	r = up(keys, 20);
	wait_for(r, r->nheld == 20);
	assert_in_order(r, 0, 20);
	assert_int_equal(redis_int(&server, "LLEN jobs"), 10);
	assert_int_equal(redis_int(&server, "LLEN " MINE), 20);
	for (int i = 0; i < 5; i++)
		settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, r->settled == 5);
	/* Given back, the oldest is first again. */
	rig_stop(r);
	assert_int_equal(redis_int(&server, "LLEN jobs"), 25);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	assert_int_equal(redis_int(&server, "ZCARD {jobs}:bot:consumers"), 0);
	rig_free(r);
	r = up(keys, 25);
	wait_for(r, r->nheld == 25);
	assert_in_order(r, 5, 25);
	acknowledge_all(r);
	wait_for(r, r->settled == 25);
	/* One that comes while it waits. */
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	redis_do(&server, "%s jobs late", push);
	assert_true(body_is(take_one(r), "late"));
	rig_free(r);
}

static void
test_list_takes_in_order_and_gives_back(void **state _unused_)
{
	NEED_SERVER();
	straight(LIST, "LPUSH");
	straight(LIST "PopFrom=head\n", "RPUSH");
}

static void
test_list_bodies_are_bytes(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	redis_do(&server, "LPUSH jobs %b", "a\0\xff\r\n", (size_t)5);
	redis_do(&server, "LPUSH jobs %b", "", (size_t)0);
	r = up(LIST, 5);
	wait_for(r, r->nheld == 2);
	m = r->held[0];
	assert_int_equal(m->body.n, 5);
	assert_memory_equal(m->body.p, "a\0\xff\r\n", 5);
	assert_true(m->name.n != 0);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	rig_free(r);
}

static void
test_list_retry_bury_redrive(void **state _unused_)
{
	struct rig *r;
	struct message *m;
	struct walking w;

	NEED_SERVER();
	produce_by("LPUSH", 2);
	r = up(LIST, 5);
	wait_for(r, r->nheld == 2);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 200 * USEC_PER_MSEC, 2, 1);
	assert_int_equal(redis_int(&server, "LLEN " MINE), 1);
	assert_int_equal(redis_int(&server, "ZCARD {jobs}:bot:delayed"), 1);
	m = take_one(r);
	assert_true(body_is(m, "m0"));
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	settle_and_wait(r, m, SETTLE_BURY, 0, 2, 1);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	assert_int_equal(redis_int(&server, "HLEN {jobs}:bot:messages"), 0);
	assert_int_equal(probe(r)->dead, 2);
	walk_open(r, &w);
	assert_true(walk_next(r, &w));
	assert_true(slice_is(w.item.body, "m0"));
	assert_true(slice_is(w.item.error_type, "external_api"));
	walk_act(r, &w, DEAD_REDRIVE);
	assert_false(error_is_set(&w.err));
	assert_true(walk_next(r, &w));
	walk_act(r, &w, DEAD_PURGE);
	assert_false(error_is_set(&w.err));
	assert_false(walk_next(r, &w));
	r->ops->dead_close(&r->q, &w.walk);
	m = r->nheld != 0 ? r->held[0] : take_one(r);
	assert_true(body_is(m, "m0"));
	assert_int_equal(m->attempt, 1);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 0);
	rig_free(r);
}

static void
test_list_release_with_a_history(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	produce_by("LPUSH", 1);
	r = up(LIST, 5);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 4, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 4);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	rig_free(r);
}

static void
test_invariant_1_redis_list_crash_and_return(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce_by("LPUSH", 10);
	r = up(LIST, 6);
	wait_for(r, r->nheld == 6);
	rig_crash(r);
	assert_int_equal(redis_int(&server, "LLEN " MINE), 6);
	r = up(LIST, 10);
	wait_for(r, r->nheld == 10);
	assert_in_order(r, 0, 10);
	acknowledge_all(r);
	wait_for(r, r->settled == 10);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	rig_free(r);
}

static void
test_list_reaper_takes_from_the_dead(void **state _unused_)
{
	struct rig *a, *b;

	NEED_SERVER();
	produce_by("LPUSH", 10);
	a = up_with_lease(LIST, 6, USEC_PER_SEC);
	wait_for(a, a->nheld == 6);
	rig_crash(a);
	b = up_with_lease(OTHER, 20, USEC_PER_SEC);
	wait_for(b, b->nheld == 4);
	wait_for(b, b->nheld == 10);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	assert_int_equal(redis_int(&server, "ZCARD {jobs}:bot:consumers"), 1);
	acknowledge_all(b);
	wait_for(b, b->settled == 10);
	rig_free(b);
}

static void
test_invariant_5_redis_list_lease_lost(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce_by("LPUSH", 3);
	r = up(LIST, 3);
	wait_for(r, r->nheld == 3);
	r->ops->extend(&r->q, r->held[0], 30 * USEC_PER_SEC);
	wait_for(r, r->extended == 1);
	/* What a reaper does to one that was not seen. */
	r->window = 0;
	credit(r, 0);
	redis_do(&server, "ZREM {jobs}:bot:consumers me");
	redis_do(&server, "RENAME " MINE " jobs");
	for (unsigned i = 0; i < 3; i++)
		r->ops->extend(&r->q, r->held[i], 30 * USEC_PER_SEC);
	wait_for(r, r->lost == 3);
	assert_int_equal(r->extended, 1);
	settle(r, r->held[0], SETTLE_RETRY, 0, 2, 0);
	wait_for(r, r->settle_errors == 1);
	assert_string_equal(r->settle_error.code, "lease_lost");
	assert_int_equal(redis_int(&server, "LLEN jobs"), 3);
	assert_int_equal(redis_int(&server, "EXISTS {jobs}:bot:delayed"), 0);
	acknowledge_all(r);
	wait_for(r, r->settled == 3);
	assert_int_equal(redis_int(&server, "LLEN jobs"), 3);
	rig_free(r);
}

static void
test_list_message_dropped_by_the_engine_goes_back(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	produce_by("LPUSH", 3);
	r = up_with_lease(LIST, 3, USEC_PER_SEC);
	wait_for(r, r->nheld == 3);
	/* The engine forgets one at the end of MaxLease=. */
	drop(r, r->held[1]);
	m = take_one(r);
	assert_true(body_is(m, "m1"));
	assert_int_equal(r->delivered, 4);
	assert_int_equal(redis_int(&server, "LLEN " MINE), 3);
	rig_free(r);
}

static void
test_list_reconnects_with_twins(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	for (int i = 0; i < 150; i++)
		redis_do(&server, "LPUSH jobs twin");
	r = up(LIST, 150);
	wait_for(r, r->nheld == 150);
	/* A reply that never reached us. */
	redis_do(&server, "LPUSH " MINE " twin other");
	redis_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
	wait_for(r, r->ups == 2);
	r->window = 152;
	wait_for(r, r->nheld == 152);
	for (int i = 0; i < 10; i++)
		rig_turn(r);
	assert_int_equal(r->delivered, 152);
	acknowledge_all(r);
	wait_for(r, r->settled == 152);
	assert_int_equal(redis_int(&server, "EXISTS " MINE), 0);
	assert_int_equal(redis_int(&server, "LLEN jobs"), 0);
	rig_free(r);
}

#ifdef BOT_FAULT_INJECTION
static void
twins_through_fault(const char *spec)
{
	struct rig *r;

	redis_do(&server, "FLUSHALL");
	for (int i = 0; i < 6; i++)
		redis_do(&server, "LPUSH jobs twin");
	r = up(LIST, 6);
	wait_for(r, r->nheld == 6);
	r->window = 0;
	credit(r, 0);
	fault_arm(spec);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RELEASE, 0, 1, 0);
	wait_for(r, r->settled == 4);
	fault_arm(NULL);
	assert_int_equal(r->settle_errors, 0);
	assert_true(r->downs >= 1);
	/* Done twice, one of the two that we hold would be gone. */
	assert_int_equal(redis_int(&server, "LLEN " MINE), 2);
	assert_int_equal(redis_int(&server, "LLEN jobs"), 1);
	assert_int_equal(redis_int(&server, "ZCARD {jobs}:bot:delayed"), 1);
	assert_int_equal(redis_int(&server, "XLEN jobs:dead"), 1);
	rig_free(r);
}
#endif

static void
test_invariant_2_redis_list_settles_twins_once(void **state _unused_)
{
	NEED_SERVER();
#ifdef BOT_FAULT_INJECTION
	twins_through_fault("redis.settle.before_write=2:error");
	twins_through_fault("redis.settle.after_write=1:error");
	twins_through_fault("redis.settle.after_write=2:error");
	twins_through_fault("redis.settle.after_write=3:error");
	twins_through_fault("redis.settle.after_write=4:error");
#else
	print_message("built without fault injection: skipped\n");
	skip();
#endif
}

static void
test_list_enqueue_and_backlog(void **state _unused_)
{
	struct attribute a[] = { { SLICE("x"), SLICE("1"), false } };
	struct enqueueing e;
	struct rig *r;

	NEED_SERVER();
	r = up(LIST, 0);
	enqueue(r, &e, "one", NULL, 0);
	assert_false(error_is_set(&e.err));
	enqueue(r, &e, "two", NULL, 0);
	enqueue(r, &e, "three", a, 1);
	assert_string_equal(e.err.code, "no_attributes");
	assert_int_equal(probe(r)->waiting, 2);
	assert_true(r->backlog.waiting_known && r->backlog.delayed_known);
	r->window = 5;
	wait_for(r, r->nheld == 2);
	assert_true(body_is(r->held[0], "one"));
	rig_free(r);
}

static void
test_list_script_flush(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	produce_by("LPUSH", 2);
	r = up(LIST, 1);
	wait_for(r, r->nheld == 1);
	redis_do(&server, "SCRIPT FLUSH");
	r->window = 5;
	wait_for(r, r->nheld == 2);
	redis_do(&server, "SCRIPT FLUSH");
	acknowledge_all(r);
	wait_for(r, r->settled == 2);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->downs, 0);
	rig_free(r);
}

/* ---- Sidekiq ---- */

#define JOB \
	"{\"class\":\"Mailer\",\"args\":[12345678901234567890,1.10,\"a}\\\"\"]," \
	"\"jid\":\"b4a577edbccf1d805744efa9\",\"queue\":\"mail\"," \
	"\"retry\":true,\"created_at\":1700000000.5," \
	"\"enqueued_at\":1700000000.25}"

static void
push_job(const char *job)
{
	redis_do(&server, "SADD queues mail");
	redis_do(&server, "LPUSH queue:mail %s", job);
}

static void
test_sidekiq_reads_jobs(void **state _unused_)
{
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	push_job(JOB);
	r = up(SIDEKIQ, 5);
	m = take_one(r);
	assert_true(slice_is(m->name, "b4a577edbccf1d805744efa9"));
	assert_true(attribute_is(m, "class", "Mailer"));
	assert_true(attribute_is(m, "queue", "mail"));
	assert_int_equal(m->attempt, 1);
	assert_true(m->enqueued_us == 1700000000250000u);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	assert_int_equal(redis_int(&server,
	    "EXISTS {queue:mail}:bot:processing:me"), 0);
	push_job("{\"class\":\"A\",\"jid\":\"j\",\"queue\":\"mail\","
	    "\"retry_count\":2,\"enqueued_at\":1700000000250}");
	m = take_one(r);
	assert_int_equal(m->attempt, 4);
	assert_true(m->enqueued_us == 1700000000250000u);
	rig_free(r);
}

static void
test_sidekiq_retry_is_sidekiqs(void **state _unused_)
{
	struct rig *r;
	struct message *m;
	char job[2048];

	NEED_SERVER();
	push_job(JOB);
	r = up(SIDEKIQ, 5);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 1);
	snprintf(job, sizeof(job), "%s", redis_str(&server,
	    "ZRANGE retry 0 -1"));
	/* What is not ours is untouched, byte for byte. */
	assert_non_null(strstr(job, "[12345678901234567890,1.10,\"a}\\\"\"]"));
	assert_non_null(strstr(job, "\"created_at\":1700000000.5,"));
	assert_non_null(strstr(job, "\"retry_count\":0,"));
	assert_non_null(strstr(job, "\"error_class\":\"external_api\""));
	assert_non_null(strstr(job, "\"bot_crashes\":1"));
	assert_non_null(strstr(job, "\"failed_at\":1"));
	assert_null(strstr(job, "retried_at"));
	assert_true(strtod(redis_str(&server, "ZSCORE retry %s", job), NULL) >
	    (double)clock_realtime_us() / 1e6 + 590);
	/* It is due: our poller moves it back. */
	redis_do(&server, "ZADD retry 1 %s", job);
	m = take_one(r);
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	settle_and_wait(r, m, SETTLE_RETRY, 600 * USEC_PER_SEC, 3, 1);
	snprintf(job, sizeof(job), "%s", redis_str(&server,
	    "ZRANGE retry 0 -1"));
	assert_non_null(strstr(job, "\"retry_count\":1,"));
	assert_non_null(strstr(job, "\"retried_at\":1"));
	assert_non_null(strstr(job, "\"failed_at\":1"));
	rig_free(r);
}

static void
test_sidekiq_schedule_and_other_queues(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "ZADD schedule 1 %s", JOB);
	redis_do(&server, "ZADD retry 1 %s",
	    "{\"class\":\"B\",\"queue\":\"other\"}");
	redis_do(&server, "ZADD retry 1 rubbish");
	redis_do(&server, "ZADD retry 99999999999 %s",
	    "{\"class\":\"C\",\"queue\":\"mail\"}");
	r = up(SIDEKIQ, 5);
	wait_for(r, r->nheld == 1);
	assert_true(attribute_is(r->held[0], "class", "Mailer"));
	assert_int_equal(redis_int(&server, "LLEN queue:other"), 1);
	assert_int_equal(redis_int(&server, "LLEN queue:default"), 1);
	assert_int_equal(redis_int(&server, "SISMEMBER queues other"), 1);
	assert_int_equal(redis_int(&server, "ZCARD retry"), 1);
	rig_free(r);
}

static void
test_sidekiq_dead_set(void **state _unused_)
{
	struct rig *r;
	struct walking w;
	char job[512];

	NEED_SERVER();
	for (unsigned i = 0; i < 12; i++) {
		snprintf(job, sizeof(job), "{\"class\":\"M\",\"jid\":\"j%02u\","
		    "\"queue\":\"mail\",\"args\":[%u]}", i, i);
		push_job(job);
	}
	redis_do(&server, "ZADD dead 1 %s",
	    "{\"class\":\"X\",\"jid\":\"x\",\"queue\":\"other\"}");
	r = up(SIDEKIQ, 12);
	wait_for(r, r->nheld == 12);
	r->window = 0;
	credit(r, 0);
	while (r->nheld != 0)
		settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 3, 0);
	assert_int_equal(redis_int(&server, "ZCARD dead"), 13);
	walk_open(r, &w);
	for (unsigned i = 0; i < 12; i++) {
		snprintf(job, sizeof(job), "j%02u", i);
		assert_true(walk_next(r, &w));
		assert_true(slice_is(w.item.id, job));
		assert_true(slice_is(w.item.error_type, "external_api"));
		assert_int_equal(w.item.attempts, 3);
		assert_true(w.item.died_us > 1700000000000000u);
		if (i == 2 || i == 3) {
			walk_act(r, &w, DEAD_PURGE);
			assert_false(error_is_set(&w.err));
		} else if (i == 5) {
			walk_act(r, &w, DEAD_REDRIVE);
			assert_false(error_is_set(&w.err));
		}
	}
	assert_false(walk_next(r, &w));
	r->ops->dead_close(&r->q, &w.walk);
	assert_int_equal(redis_int(&server, "ZCARD dead"), 10);
	assert_string_equal(redis_str(&server, "LRANGE queue:mail 0 -1"),
	    "{\"class\":\"M\",\"jid\":\"j05\",\"queue\":\"mail\",\"args\":[5]}");
	rig_free(r);
}

static void
test_sidekiq_malformed_and_enqueue(void **state _unused_)
{
	struct enqueueing e;
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	push_job("not json");
	r = up(SIDEKIQ, 5);
	wait_for(r, r->malformed == 1 && r->settled == 1);
	assert_int_equal(r->settle_errors, 0);
	assert_string_equal(redis_str(&server, "ZRANGE dead 0 -1"), "not json");
	enqueue(r, &e, "[]", NULL, 0);
	assert_string_equal(e.err.code, "invalid_format");
	enqueue(r, &e, "{\"class\":\"K\"}", NULL, 0);
	assert_false(error_is_set(&e.err));
	m = r->nheld != 0 ? r->held[0] : take_one(r);
	assert_true(attribute_is(m, "class", "K"));
	assert_true(attribute_is(m, "queue", "mail"));
	assert_int_equal(m->name.n, 24);
	assert_true(m->enqueued_us > 1700000000000000u);
	assert_int_equal(redis_int(&server, "SISMEMBER queues mail"), 1);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 1, 0);
	m = take_one(r);
	assert_int_equal(m->attempt, 1);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	assert_int_equal(probe(r)->waiting, 0);
	assert_false(r->backlog.dead_known);
	rig_free(r);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_list_takes_in_order_and_gives_back),
		T(test_list_bodies_are_bytes),
		T(test_list_retry_bury_redrive),
		T(test_list_release_with_a_history),
		T(test_invariant_1_redis_list_crash_and_return),
		T(test_list_reaper_takes_from_the_dead),
		T(test_invariant_5_redis_list_lease_lost),
		T(test_list_message_dropped_by_the_engine_goes_back),
		T(test_list_reconnects_with_twins),
		T(test_invariant_2_redis_list_settles_twins_once),
		T(test_list_enqueue_and_backlog),
		T(test_list_script_flush),
		T(test_sidekiq_reads_jobs),
		T(test_sidekiq_retry_is_sidekiqs),
		T(test_sidekiq_schedule_and_other_queues),
		T(test_sidekiq_dead_set),
		T(test_sidekiq_malformed_and_enqueue),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("redis_modes", tests,
	    world_setup,
	    world_teardown);
}
