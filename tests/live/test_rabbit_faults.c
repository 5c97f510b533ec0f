/*
 * The RabbitMQ queue while the broker refuses, goes away, stands still or
 * takes back: each is named in the error that the status shows, and healed
 * from without a restart.
 */
#include "rabbit_rig.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#define MSEC	USEC_PER_MSEC
#define SEC	USEC_PER_SEC

/* Comes down with that code (and a text that says this), and stops well. */
static void
named_as(const char *keys, const char *code, const char *says)
{
	struct rig *r = rabbit_new(keys);

	rig_start(r);
	r->window = 5;
	wait_for(r, r->downs >= 2);		/* it goes on trying */
	if (strcmp(r->down.code, code) != 0 ||
	    strstr(r->down.text, says) == NULL)
		fail_msg("%s: %s (%s with \"%s\" expected)", r->down.code,
		    r->down.text, code, says);
	assert_int_equal(r->ups, 0);
	rig_free(r);
}

static void
wait_code(struct rig *r, const char *code)
{
	wait_for(r, strcmp(r->down.code, code) == 0);
}

/* ---- not let in ---- */

static void
test_nobody_listens(void **state _unused_)
{
	rig_named_as(rabbit_new_at("127.0.0.1:1", JOBS), ERROR_TRANSIENT,
	    "ECONNREFUSED");
}

static void
test_auth(void **state _unused_)
{
	_cleanup_free_ char *path = NULL, *keys = NULL;
	struct rig *r;

	NEED_SERVER();
	path = xasprintf("%s/password", server.dir);
	keys = xasprintf(JOBS "Declare=classic\nUsername=bot\n"
	    "PasswordFile=%s\n", path);
	server_user("bot", "sesame");
	server_allow("bot", ".*", ".*", ".*");
	write_file(path, "wrong-word\n");
	rig_named_as(rabbit_new(keys), ERROR_AUTH, "ACCESS_REFUSED");
	/* Found without a restart when the file is put right. */
	r = rabbit_new(keys);
	rig_start(r);
	wait_for(r, r->downs == 1);
	assert_null(strstr(r->down.text, "wrong-word"));
	write_file(path, "sesame\n");
	wait_for(r, r->ups == 1);
	rig_free(r);
	/* No file at all. */
	(void)unlink(path);
	r = rabbit_new(keys);
	rig_start(r);
	wait_for(r, r->downs == 1);
	assert_int_equal(r->down.class, ERROR_AUTH);
	rig_free(r);
	server_no_user("bot");
}

static void
test_rights_that_are_lacking(void **state _unused_)
{
	_cleanup_free_ char *path = NULL, *keys = NULL, *other = NULL;
	struct rig *r;

	NEED_SERVER();
	path = xasprintf("%s/password", server.dir);
	keys = xasprintf(JOBS "Backoff=1s-1s\nUsername=bot\n"
	    "PasswordFile=%s\n", path);
	other = xasprintf("VHost=elsewhere\n%s", keys);
	write_file(path, "pw\n");
	server_user("bot", "pw");
	rig_named_as(rabbit_new("VHost=nowhere\n" JOBS), ERROR_REJECTED,
	    "no_vhost");
	/* The vhost is there, but not for this user. */
	server_eval("rabbit_vhost:add(<<\"elsewhere\">>, <<\"test\">>).");
	rig_named_as(rabbit_new(other), ERROR_AUTH, "ACCESS_REFUSED");
	server_eval("rabbit_vhost:delete(<<\"elsewhere\">>, <<\"test\">>).");
	/* It may come in, but not read. */
	declare("jobs", CLASSIC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	server_allow("bot", "^$", ".*", "^$");
	r = rabbit_new(keys);
	rig_start(r);
	r->window = 5;
	wait_for(r, r->downs >= 1);
	assert_string_equal(r->down.code, "ACCESS_REFUSED");
	assert_int_equal(r->down.class, ERROR_AUTH);
	/* What the manual says is enough. */
	server_allow("bot", "^$", "^amq[.]default$", "^jobs");
	produce(0, 3);
	wait_for(r, r->nheld == 3);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, SEC, 2, 0);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, r->nheld == 1);
	assert_int_equal(r->held[0]->attempt, 2);
	rig_free(r);
	server_no_user("bot");
}

/* ---- queues that are missing, or others than wanted ---- */

static void
test_missing_queue_is_named_and_healed(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	named_as(JOBS, "no_queue", "Declare=");
	r = rabbit_new(JOBS "Backoff=200ms-1s\n");
	rig_start(r);
	r->window = 5;
	wait_code(r, "no_queue");
	assert_int_equal(r->down.class, ERROR_REJECTED);
	declare("jobs", CLASSIC);
	wait_code(r, "missing_queue");
	assert_int_equal(r->down.class, ERROR_REJECTED);
	assert_non_null(strstr(r->down.text, "jobs.dead"));
	declare_delay("jobs.bot-delay.200ms", CLASSIC, 200, "jobs");
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	declare("jobs.dead", CLASSIC);
	/* The one step between the bounds is the last that is missing. */
	wait_for(r, strstr(r->down.text, "jobs.dead") == NULL &&
	    strstr(r->down.text, "jobs.bot-delay.500ms") != NULL);
	assert_string_equal(r->down.code, "missing_queue");
	assert_null(strstr(r->down.text, "jobs.bot-delay.200ms"));
	declare_delay("jobs.bot-delay.500ms", CLASSIC, 500, "jobs");
	wait_for(r, r->ups == 1);
	produce(0, 1);
	settle_and_wait(r, take_one(r), SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

static void
test_each_missing_one_is_named(void **state _unused_)
{
	NEED_SERVER();
	declare("jobs", CLASSIC);
	declare("other.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	declare_delay("jobs.bot-delay.2s", CLASSIC, 2000, "jobs");
	named_as(JOBS "Backoff=1s-2s\n", "missing_queue", "jobs.dead");
	named_as(JOBS "Backoff=1s-3s\nDeadLetter=other.dead\n",
	    "missing_queue", "jobs.bot-delay.3s");
	named_as(JOBS "Backoff=500ms-2s\nDeadLetter=other.dead\n",
	    "missing_queue", "jobs.bot-delay.500ms");
	rig_free(up(JOBS "Backoff=1s-2s\nDeadLetter=other.dead\n", 0));
}

static void
test_declared_differently(void **state _unused_)
{
	amqp_table_entry_t limit[] = { NUMBER("x-max-length", 5) };
	struct rig *r;

	NEED_SERVER();
	declare("jobs", CLASSIC);
	named_as(JOBS "Declare=quorum\n", "declared_differently", "jobs");
	delete_queue("jobs");
	declare_with("jobs", TABLE(limit));
	named_as(JOBS "Declare=classic\n", "declared_differently", "jobs");
	delete_queue("jobs");
	/* The dead letters', and a delay that is found only when needed. */
	declare_with("jobs.dead", TABLE(limit));
	named_as(JOBS "Declare=classic\n", "declared_differently",
	    "jobs.dead");
	delete_queue("jobs.dead");
	declare_delay("jobs.bot-delay.1min", CLASSIC, 9000, "jobs");
	r = up_declaring(CLASSIC, "Backoff=1s-1s\n", 1);
	produce(0, 1);
	settle(r, take_one(r), SETTLE_RETRY, 60 * SEC, 2, 0);
	wait_code(r, "declared_differently");
	assert_non_null(strstr(r->down.text, "jobs.bot-delay.1min"));
	delete_queue("jobs.bot-delay.1min");
	/* The message is not lost over it. */
	wait_for(r, r->nheld == 1);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 60 * SEC, 2, 0);
	wait_count("jobs.bot-delay.1min", 1);
	rig_free(r);
}

/* ---- connections that break ---- */

static void
reconnects(enum durability kind)
{
	struct rig *r = up_declaring(kind, "", 10);
	struct message *running;

	produce(0, 6);
	wait_for(r, r->nheld == 6);
	running = r->held[2];
	start_running(running);
	sever(r);
	assert_true(strcmp(r->down.code, "eof") == 0 ||
	    strcmp(r->down.code, "ECONNRESET") == 0);
	assert_int_equal(r->down.class, ERROR_TRANSIENT);
	/* What waited is dropped, what runs is marked: receipts are void. */
	assert_int_equal(r->dropped, 5);
	assert_true(running->lease_lost);
	assert_int_equal(r->nheld, 1);
	wait_for(r, r->ups == 2 && r->nheld == 7);
	assert_int_equal(consumers("jobs"), 1);
	/* Its verdict comes too late: the engine settles it no more. */
	drop(r, running);
	for (unsigned i = 0; i < 6; i++)
		assert_true(attribute_equals(r->held[i], "redelivered",
		    "true"));
	assert_held(r, (const int[]){ 0, 1, 2, 3, 4, 5, -1 });
	acknowledge_all(r);
	wait_for(r, r->settled == 6);
	assert_int_equal(r->settle_errors, 0);
	rig_free(r);
	wait_count("jobs", 0);
}

static void
test_reconnects(void **state _unused_)
{
	NEED_SERVER();
	each_kind(reconnects);
}

/* Settlements on their way when it breaks: answered once, nothing lost. */
static void
settlements_cut_off(enum durability kind)
{
	for (int turns = 0; turns < 4; turns++) {
		struct rig *r;

		(void)world_flush(NULL);
		r = up_declaring(kind, "Backoff=1s-1min\n", 6);
		produce(0, 6);
		wait_for(r, r->nheld == 6);
		r->window = 0;
		credit(r, 0);
		for (int i = 0; i < 3; i++) {
			settle(r, r->held[0], SETTLE_RETRY, 60 * SEC, 2, 0);
			settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
		}
		for (int i = 0; i < turns; i++)
			rig_turn(r);
		sever(r);
		wait_for(r, r->settled == 6);
		/* At least once: a copy may be there beside its original. */
		rig_free(r);
		wait_at_least(6);
		assert_true(everywhere() <= 12);
	}
}

static void
test_invariant_1_rabbit_settlements_cut_off(void **state _unused_)
{
	NEED_SERVER();
	settlements_cut_off(CLASSIC);
	settlements_cut_off(QUORUM);
}

/*
 * The name is used once only: 3.10 does not bring a quorum queue back that
 * had namesakes before ("could not be restarted, enoent").
 */
static void
restart(const char *name, const char *kind, int signo)
{
	_cleanup_free_ char *keys = xasprintf("Name=%s\nDeclare=%s\n"
	    "Backoff=1s-1h\n", name, kind);
	_cleanup_free_ char *dead = xasprintf("%s.dead", name);
	_cleanup_free_ char *delay = xasprintf("%s.bot-delay.1h", name);
	struct rig *r = up(keys, 10);

	for (int i = 0; i < 8; i++)
		publish(name, "x");
	wait_for(r, r->nheld == 8);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 3600 * SEC, 2, 0);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	if (strcmp(kind, "quorum") == 0) {
		server_remembers(name);
		server_remembers(dead);
		server_remembers(delay);
	}
	/* Its list of queues is written late as well. */
	server_eval("mnesia:sync_log().");
	server_kill(signo);
	wait_for(r, r->downs >= 1);
	assert_int_equal(r->down.class, ERROR_TRANSIENT);
	assert_int_equal(r->nheld, 0);
	server_again();
	wait_for(r, r->ups >= 2 && r->nheld >= 6);
	acknowledge_all(r);
	wait_for(r, r->q.nsettling == 0);
	rig_free(r);
	wait_count(name, 0);
	wait_count(delay, 1);
	wait_count(dead, 1);
}

static void
test_survives_restarts_of_the_broker(void **state _unused_)
{
	NEED_SERVER();
	restart("kept.classic", "classic", SIGKILL);
	restart("kept.quorum", "quorum", SIGKILL);
	restart("kept.term", "quorum", SIGTERM);
}

static void
test_closed_by_an_operator(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 5);
	produce(0, 3);
	wait_for(r, r->nheld == 3);
	server_close_connections();
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "connection_forced");
	assert_int_equal(r->down.class, ERROR_TRANSIENT);
	wait_for(r, r->ups == 2 && r->nheld == 3);
	assert_int_equal(consumers("jobs"), 1);
	rig_free(r);
	wait_count("jobs", 3);
}

/* ---- what the broker takes back ---- */

static void
test_queue_deleted_while_consuming(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	declare("jobs", CLASSIC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	r = up(JOBS "Backoff=1s-1s\n", 5);
	produce(0, 1);
	settle_and_wait(r, take_one(r), SETTLE_ACK, 0, 1, 0);
	delete_queue("jobs");
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "consumer_cancelled");
	wait_code(r, "no_queue");
	declare("jobs", QUORUM);
	wait_for(r, r->ups == 2);
	produce(1, 1);
	assert_true(body_is(take_one(r), "m1"));
	rig_free(r);
}

static void
test_deleted_queue_is_declared_again(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(QUORUM, "", 5);
	produce(0, 1);
	settle_and_wait(r, take_one(r), SETTLE_ACK, 0, 1, 0);
	delete_queue("jobs");
	wait_for(r, r->downs == 1 && r->ups == 2);
	assert_string_equal(r->down.code, "consumer_cancelled");
	produce(1, 1);
	assert_true(body_is(take_one(r), "m1"));
	rig_free(r);
}

static void
timed_out(enum durability kind)
{
	struct rig *r;

	server_eval("application:set_env(rabbit, consumer_timeout, 1000).");
	r = up_declaring(kind, "", 3);
	produce(0, 3);
	wait_for(r, r->nheld == 3);
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "consumer_timeout");
	server_eval("application:set_env(rabbit, consumer_timeout, "
	    "1800000).");
	wait_for(r, r->ups >= 2);
	/* One more time-out may have come before that. */
	wait_for(r, r->nheld == 3 && r->q.connected);
	acknowledge_all(r);
	wait_for(r, r->q.nsettling == 0);
	assert_int_equal(consumers("jobs"), 1);
	rig_free(r);
	wait_count("jobs", 0);
}

static void
test_consumer_timeout(void **state _unused_)
{
	NEED_SERVER();
	each_kind(timed_out);
}

/* ---- a broker that stands still ---- */

static void
test_invariant_3_rabbit_stalled_server(void **state _unused_)
{
	struct rig *r;
	struct loop_stats stats;
	uint64_t before;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "Heartbeat=2s\n", 10);
	produce(0, 5);
	wait_for(r, r->nheld == 5);
	loop_reset_longest(r->loop);
	(void)kill(server.pid, SIGSTOP);
	before = clock_monotonic_us();
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "heartbeat_timeout");
	assert_int_equal(r->down.class, ERROR_TRANSIENT);
	assert_true(clock_monotonic_us() - before >= 1900 * MSEC);
	assert_true(clock_monotonic_us() - before < 5 * SEC);
	turn_for(r, 300 * MSEC);
	loop_get_stats(r->loop, &stats);
	/* To wait for the server would have been two seconds. */
	assert_true(stats.longest_turn_us < 500 * MSEC);
	(void)kill(server.pid, SIGCONT);
	wait_for(r, r->ups == 2 && r->nheld >= 4);
	/* And stopping does not wait for one that is stalled. */
	(void)kill(server.pid, SIGSTOP);
	before = clock_monotonic_us();
	rig_stop(r);
	assert_true(clock_monotonic_us() - before < 7 * SEC);
	(void)kill(server.pid, SIGCONT);
	rig_free(r);
}

static void
test_confirm_that_does_not_come(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "Backoff=1s-1min\nResponseTimeout=3s\n",
	    2);
	produce(0, 1);
	/* The delay queue is there already. */
	settle_and_wait(r, take_one(r), SETTLE_RETRY, SEC, 2, 0);
	wait_for(r, r->nheld == 1);
	(void)kill(server.pid, SIGSTOP);
	settle(r, r->held[0], SETTLE_RETRY, SEC, 3, 0);
	wait_code(r, "response_timeout");
	wait_for(r, r->settled == 2);
	assert_int_equal(r->settle_errors, 1);
	(void)kill(server.pid, SIGCONT);
	wait_for(r, r->ups == 2);
	/* The copy, or the original, or both. */
	wait_for(r, r->nheld >= 1);
	rig_free(r);
}

/* ---- the status, the configuration ---- */

static void
test_status_shows_what_goes_on(void **state _unused_)
{
	char address[32];
	struct rig *r;
	json_t *status;

	NEED_SERVER();
	snprintf(address, sizeof(address), "127.0.0.1:%u", server.port);
	r = up_declaring(CLASSIC, "Prefetch=9\n", 3);
	assert_string_equal(status_text(r, "address"), address);
	assert_string_equal(status_text(r, "vhost"), "/");
	assert_string_equal(status_text(r, "name"), "jobs");
	assert_true(status_text(r, "server_version")[0] >= '3');
	assert_string_equal(status_text(r, "blocked"), "null");
	wait_for(r, strcmp(status_text(r, "consumer"), "null") != 0);
	assert_int_equal(status_number(r, "publishing"), 0);
	assert_int_equal(status_number(r, "unacknowledged"), 0);
	status = status_of(r);
	assert_non_null(json_object_get(status, "tls"));
	assert_null(json_object_get(status, "unacknowledged_at_broker"));
	json_decref(status);
	produce(0, 3);
	wait_for(r, r->nheld == 3);
	assert_int_equal(status_number(r, "unacknowledged"), 3);
	acknowledge_all(r);
	wait_for(r, r->settled == 3 &&
	    status_number(r, "unacknowledged") == 0);
	rig_free(r);
}

static void
test_config_is_checked(void **state _unused_)
{
	char name[300];

	assert_int_equal(rabbit_problem_count(JOBS), 0);
	assert_int_equal(rabbit_problem_count(JOBS "Declare=quorum\n"), 0);
	assert_int_equal(rabbit_problem_count(""), 1);
	assert_int_equal(rabbit_problem_count(JOBS "Declare=sometimes\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "Auth=magic\n"), 1);
	/* EXTERNAL is the certificate of TLS. */
	assert_int_equal(rabbit_problem_count(JOBS "Auth=external\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "TLSCAFile=/x\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS
	    "TLS=yes\nTLSKeyFile=/x\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "Management=nonsense\n"),
	    1);
	assert_int_equal(rabbit_problem_count(JOBS "Heartbeat=soon\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "DeadLetter=jobs\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "Username=u\n"), 1);
	assert_int_equal(rabbit_problem_count(JOBS "PasswordFile=/x\n"), 1);
	/* Longer than a name can be on the wire, with what we put behind. */
	snprintf(name, sizeof(name), "Name=%0280d\n", 7);
	assert_int_equal(rabbit_problem_count(name), 1);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nobody_listens),
		T(test_auth),
		T(test_rights_that_are_lacking),
		T(test_missing_queue_is_named_and_healed),
		T(test_each_missing_one_is_named),
		T(test_declared_differently),
		T(test_reconnects),
		T(test_invariant_1_rabbit_settlements_cut_off),
		T(test_survives_restarts_of_the_broker),
		T(test_closed_by_an_operator),
		T(test_queue_deleted_while_consuming),
		T(test_deleted_queue_is_declared_again),
		T(test_consumer_timeout),
		T(test_invariant_3_rabbit_stalled_server),
		T(test_confirm_that_does_not_come),
		T(test_status_shows_what_goes_on),
		T(test_config_is_checked),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("rabbit_faults", tests, world_setup,
	    world_teardown);
}
