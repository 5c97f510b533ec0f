/*
 * The pool of worker processes against workers that misbehave.
 */
#include "worker_rig.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/fault.h"

#define EXEC	"Exec=%s\n"

static const char *odd_args(const char *fmt, ...) _printf_(1, 2);

/* The odd worker with arguments. */
static const char *
odd_args(const char *fmt, ...)
{
	static char out[4096];
	size_t n = (size_t)snprintf(out, sizeof(out), "%s ", odd_worker());
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, sizeof(out) - n, fmt, ap);
	va_end(ap);
	return out;
}

/* ---- verdicts ---- */

static void
test_done_and_detail(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	const struct outcome *o;

	(void)state;
	rig_send(r, "ok");
	rig_send(r, "detail 20");
	rig_send(r, "detail 9000");
	rig_send(r, "sleep 0.05");
	UNTIL(r, r->n == 4);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	o = rig_outcome(r, "m2");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "my_type_");
	assert_int_equal(o->delay_us, 250000);
	assert_string_equal(o->detail, "dddddddddddddddddddd");
	assert_false(o->killed_worker);
	assert_int_equal(strlen(rig_outcome(r, "m3")->detail),
	    VERDICT_DETAIL_MAX);
	assert_true(rig_outcome(r, "m4")->took_us >= 50000);
	assert_int_equal(r->ups, 1);
	assert_int_equal(r->downs, 0);
	assert_int_equal(r->pool.stats.started, 1);
	rig_free(r);
}

static void
test_crash_names_its_cause(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	const struct outcome *o;

	(void)state;
	r->allowed_warnings = 2;
	rig_send(r, "exit 3");
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "crash");
	assert_true(o->killed_worker);
	assert_non_null(strstr(o->detail, "exit code 3"));
	assert_non_null(strstr(o->detail, "leaving with 3"));
	assert_true(o->delay_us == VERDICT_DELAY_DEFAULT);
	rig_send(r, "kill 9");
	UNTIL(r, r->n == 2);
	o = rig_outcome(r, "m2");
	assert_string_equal(o->type, "crash");
	assert_non_null(strstr(o->detail, "SIGKILL"));
	rig_send(r, "ok");
	UNTIL(r, r->n == 3);
	assert_int_equal(rig_outcome(r, "m3")->kind, VERDICT_DONE);
	assert_int_equal(r->pool.stats.crashes, 2);
	assert_int_equal(r->pool.stats.restarts, 2);
	assert_int_equal(r->downs, 0);
	rig_free(r);
}

static void
test_what_was_said_before_the_end_counts(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nTimeout=20s", odd_worker());

	(void)state;
	r->allowed_warnings = 1;
	/* It answers and ends at once: the answer may not be lost. */
	rig_send(r, "sleep 0");
	UNTIL(r, r->n == 1);
	rig_send(r, "exit 0");
	UNTIL(r, r->n == 2);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	assert_string_equal(rig_outcome(r, "m2")->type, "crash");
	rig_free(r);
}

static void
protocol_case(const char *body, const char *what)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	const struct outcome *o;

	r->allowed_warnings = 2;
	rig_send(r, body);
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "internal");
	assert_non_null(strstr(o->detail, "protocol error"));
	if (strstr(o->detail, what) == NULL)
		fail_msg("not \"%s\" but %s", what, o->detail);
	assert_false(o->killed_worker);
	rig_send(r, "ok");
	UNTIL(r, r->n == 2);
	assert_int_equal(rig_outcome(r, "m2")->kind, VERDICT_DONE);
	rig_free(r);
}

static void
test_garbage_costs_one_retry(void **state)
{
	(void)state;
	protocol_case("garbage", "Hello, I am a print");
	protocol_case("endless", "a line without an end");
	protocol_case("huge", "too large a payload");
	protocol_case("half", "in the middle of a frame");
}

static void
test_unknown_ids_are_only_counted(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());

	(void)state;
	r->allowed_warnings = 1;	/* once a worker */
	rig_send(r, "unknown");
	rig_send(r, "twice");
	rig_send(r, "ok");
	UNTIL(r, r->n == 3);
	assert_int_equal(r->done, 3);
	assert_int_equal(r->pool.stats.started, 1);
	assert_true(rig_said(r, "message 4242"));
	rig_free(r);
}

/* ---- time ---- */

static void
test_timeout_ends_the_worker(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nTimeout=200ms\nKillGrace=100ms",
	    odd_worker());
	const struct outcome *o;

	(void)state;
	r->allowed_warnings = 2;
	rig_send(r, "sleep 60");
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "timeout");
	assert_non_null(strstr(o->detail, "SIGTERM"));
	assert_true(o->took_us >= 200000);
	assert_false(o->killed_worker);
	assert_int_equal(r->pool.stats.timeouts, 1);
	rig_send(r, "ok");
	UNTIL(r, r->n == 2);
	assert_int_equal(r->done, 1);
	rig_free(r);
}

static void
test_stubborn_children_and_grandchildren_go_too(void **state)
{
	char mark[] = "/tmp/test-worker-XXXXXX";
	int fd = mkstemp(mark);
	struct rig *r = rig_new(EXEC "Workers=1\nTimeout=300ms\nKillGrace=200ms",
	    odd_args("--mark %s", mark));
	_cleanup_free_ char *text = NULL;
	const struct outcome *o;
	char *line;
	int grandchild = 0;

	(void)state;
	r->allowed_warnings = 2;
	rig_send(r, "stubborn");
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_string_equal(o->type, "timeout");
	assert_non_null(strstr(o->detail, "SIGKILL"));
	assert_true(o->took_us >= 500000);
	text = slurp(mark);
	line = strchr(text, '\n');	/* after "start PID" */
	assert_non_null(line);
	grandchild = atoi(line + 1);
	assert_true(grandchild > 1);
	UNTIL(r, !process_exists(grandchild));
	rig_free(r);
	(void)unlink(mark);
	(void)close(fd);
}

static void
test_an_answer_within_the_grace_counts(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nTimeout=100ms\nKillGrace=500ms",
	    odd_worker());

	(void)state;
	r->allowed_warnings = 2;
	rig_send(r, "late 0.3");
	UNTIL(r, r->n == 1);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	assert_int_equal(r->pool.stats.timeouts, 1);
	rig_free(r);
}

static void
test_touch_gives_more_time(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nTimeout=400ms", odd_worker());

	(void)state;
	rig_send(r, "touch");		/* 800 ms in all */
	UNTIL(r, r->n == 1);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	assert_int_equal(r->touches, 4);
	assert_true(r->last_touch_us > 0);
	rig_free(r);
}

static void
test_lost_leases_are_told(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	struct message *m = rig_send(r, "sleep 0.1");

	(void)state;
	UNTIL(r, r->running == 1);
	worker_handler_type.ops->cancel(&r->pool, m);
	UNTIL(r, r->n == 1);
	assert_int_equal(r->done, 1);
	rig_free(r);
}

/* ---- starting ---- */

static void
test_handler_that_cannot_start(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=2", odd_args("--start-exit 9"));

	(void)state;
	r->allowed_warnings = 100;
	UNTIL(r, r->downs >= 1 && r->pool.stats.started >= 4);
	assert_int_equal(r->ups, 0);
	assert_non_null(strstr(r->error.text, "odd_worker.py"));
	assert_non_null(strstr(r->error.text, "exit code 9"));
	assert_non_null(strstr(r->error.text, "no such table: orders"));
	/* Backing off: in the first half second no more than a few. */
	assert_true(r->pool.stats.started < 10);
	rig_free(r);
}

static void
test_handler_that_comes_back(void **state)
{
	char path[] = "/tmp/test-worker-XXXXXX";
	int fd = mkstemp(path);
	struct rig *r;

	(void)state;
	(void)close(fd);
	(void)unlink(path);
	r = rig_new(EXEC "Workers=1", odd_args("--start-if %s", path));
	r->allowed_warnings = 100;
	UNTIL(r, r->downs >= 2);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	(void)close(fd);
	UNTIL(r, r->ups == 1);
	rig_send(r, "ok");
	UNTIL(r, r->done == 1);
	rig_free(r);
	(void)unlink(path);
}

static void
test_handler_that_never_gets_ready(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nStartTimeout=150ms\n"
	    "KillGrace=100ms", odd_args("--no-ready 1"));

	(void)state;
	r->allowed_warnings = 100;
	UNTIL(r, r->downs >= 1);
	assert_non_null(strstr(r->error.text, "not ready within 150 ms"));
	assert_string_equal(r->error.code, "worker_start_timeout");
	rig_free(r);
}

static void
test_one_that_leaves_by_itself_is_not_restarted_in_a_storm(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_args("--then-exit 0"));
	uint64_t until = clock_monotonic_us() + USEC_PER_SEC;

	(void)state;
	r->allowed_warnings = 100;
	UNTIL(r, clock_monotonic_us() > until && r->downs >= 1 &&
	    r->pool.stats.started >= 2);
	assert_true(r->pool.stats.started <= 6);
	rig_free(r);
}

#ifdef BOT_FAULT_INJECTION
static void
test_no_descriptors_left(void **state)
{
	struct rig *r;

	(void)state;
	fault_arm("worker.start=1:error");
	r = rig_new(EXEC "Workers=1", odd_worker());
	UNTIL(r, r->downs == 1);
	assert_int_equal(r->ups, 0);
	UNTIL(r, r->ups == 1);
	fault_arm(NULL);
	rig_free(r);
}
#endif

/* ---- how many ---- */

static void
test_grows_when_busy_and_shrinks_when_idle(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1-3\nIdleTimeout=200ms",
	    odd_worker());

	(void)state;
	UNTIL(r, r->ups == 1);
	assert_int_equal(r->pool.workers, 1);
	for (int i = 0; i < 9; i++)
		rig_send(r, "sleep 0.3");
	UNTIL(r, r->pool.busy == 3);
	assert_int_equal(r->pool.workers, 3);
	UNTIL(r, r->n == 9);
	assert_int_equal(r->max_running, 3);
	assert_int_equal(r->pool.stats.started, 3);
	UNTIL(r, r->pool.workers == 1);
	assert_int_equal(r->pool.stats.restarts, 0);
	rig_free(r);
}

static void
test_scale(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());

	(void)state;
	worker_handler_type.ops->scale(&r->pool, 3, 4);
	UNTIL(r, r->pool.workers == 3);
	assert_int_equal(r->pool.min, 3);
	assert_int_equal(r->pool.max, 4);
	worker_handler_type.ops->scale(&r->pool, 1, 1);
	UNTIL(r, r->pool.workers == 1);
	rig_send(r, "ok");
	UNTIL(r, r->done == 1);
	rig_free(r);
}

static void
test_max_messages(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nMaxMessages=10", odd_worker());

	(void)state;
	for (int i = 0; i < 35; i++)
		rig_send(r, "ok");
	UNTIL(r, r->n == 35);
	assert_int_equal(r->done, 35);
	assert_in_range(r->pool.stats.started, 4, 5);
	assert_int_equal(r->pool.stats.restarts, 0);
	rig_free(r);
}

static void
test_reload_replaces_one_by_one(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=2\nEnvironment=V=1",
	    odd_worker());

	(void)state;
	UNTIL(r, r->pool.workers == 2);
	for (int i = 0; i < 4; i++)
		rig_send(r, "sleep 0.2");
	UNTIL(r, r->running == 2);
	rig_reload(r, EXEC "Workers=2\nEnvironment=V=2", odd_worker());
	UNTIL(r, r->n == 4);
	assert_int_equal(r->done, 4);
	UNTIL(r, r->pool.stats.started == 4 && r->pool.workers == 2);
	rig_send(r, "tell environ");
	UNTIL(r, r->n == 5);
	assert_non_null(strstr(rig_outcome(r, "m5")->detail, "\"V\": \"2\""));
	assert_int_equal(r->pool.stats.started, 4);
	/* Only a limit: nobody is replaced. */
	rig_reload(r, EXEC "Workers=2-3\nEnvironment=V=2", odd_worker());
	rig_send(r, "ok");
	UNTIL(r, r->n == 6);
	assert_int_equal(r->pool.stats.started, 4);
	assert_int_equal(r->pool.max, 3);
	assert_int_equal(r->downs, 0);
	rig_free(r);
}

static void
test_reload_with_a_broken_handler_keeps_the_old(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	struct config *broken = rig_config("[Pool test]\nExec=/nonexistent\n");

	(void)state;
	UNTIL(r, r->ups == 1);
	r->allowed_warnings = 1;
	worker_handler_type.ops->reconfigure(&r->pool,
	    config_find(broken, "Pool", "test"));
	rig_send(r, "ok");
	UNTIL(r, r->done == 1);
	assert_int_equal(r->pool.stats.started, 1);
	config_unref(broken);
	rig_free(r);
}

/* ---- several at once, and ahead ---- */

static void
test_ready_8_runs_8_at_once(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_args("--ready 8 --hold 8"));

	(void)state;
	for (int i = 0; i < 16; i++)
		rig_send(r, "ok");
	UNTIL(r, r->n == 16);
	assert_int_equal(r->done, 16);
	assert_int_equal(r->max_running, 8);
	/* It answers in the reverse order. */
	assert_string_equal(r->outcome[0].name, "m8");
	rig_free(r);
}

static void
test_death_with_8_at_once(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_args("--ready 8 --hold 3"));

	(void)state;
	r->allowed_warnings = 1;
	rig_send(r, "ok");
	rig_send(r, "exit 1");
	rig_send(r, "ok");		/* answered first, of the three */
	UNTIL(r, r->n == 3);
	assert_int_equal(rig_outcome(r, "m3")->kind, VERDICT_DONE);
	assert_string_equal(rig_outcome(r, "m1")->type, "crash");
	assert_string_equal(rig_outcome(r, "m2")->type, "crash");
	assert_true(rig_outcome(r, "m2")->killed_worker);
	rig_free(r);
}

static void
test_a_slow_handler_never_hoards(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=2", odd_worker());

	(void)state;
	for (int i = 0; i < 12; i++)
		rig_send(r, "sleep 0.03");
	UNTIL(r, r->n == 12);
	assert_int_equal(r->max_running, 2);
	rig_free(r);
}

static void
test_poison_in_a_pipeline_is_found_and_no_other_is_blamed(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	unsigned killed = 0;

	(void)state;
	r->allowed_warnings = 10;
	r->resubmit = true;
	for (int i = 0; i < 900; i++)
		rig_send(r, i == 800 ? "exit 7" : "ok");
	UNTIL(r, r->n == 900);
	assert_true(r->max_running > 2);	/* it was a pipeline */
	for (unsigned i = 0; i < r->n; i++)
		killed += r->outcome[i].killed_worker;
	/* The culprit: alone on its second time, or known at once. */
	assert_true(killed <= 1);
	assert_true(killed == 0 || rig_outcome(r, "m801")->killed_worker);
	assert_int_equal(r->done, 899);
	if (killed == 0) {
		rig_send(r, "exit 7");
		UNTIL(r, r->n == 901);
		assert_true(r->outcome[900].killed_worker);
	}
	rig_free(r);
}

/* ---- leaving ---- */

static void
test_drain_lets_it_finish(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=2", odd_worker());

	(void)state;
	rig_send(r, "sleep 0.2");
	UNTIL(r, r->running == 1);
	worker_handler_type.ops->drain(&r->pool);
	assert_int_equal(r->drained, 0);	/* never before it returns */
	UNTIL(r, r->drained != 0);
	assert_int_equal(r->done, 1);
	rig_free(r);
}

static void
test_drain_over_gives_everything_back(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=2", odd_worker());

	(void)state;
	rig_send(r, "stubborn");
	rig_send(r, "sleep 60");
	UNTIL(r, r->running == 2);
	worker_handler_type.ops->drain(&r->pool);
	rig_turn(r);
	worker_handler_type.ops->kill(&r->pool);
	assert_int_equal(r->n, 0);
	UNTIL(r, r->drained != 0);
	assert_int_equal(r->n, 2);
	assert_int_equal(r->returned, 2);
	rig_free(r);
}

static void
test_one_that_will_not_leave_is_made_to(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nKillGrace=100ms", odd_args("--stay 1"));

	(void)state;
	UNTIL(r, r->ups == 1);
	worker_handler_type.ops->drain(&r->pool);
	UNTIL(r, r->drained != 0);
	rig_free(r);
}

/* ---- output ---- */

static void
test_output_goes_to_the_log_and_is_limited(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());

	(void)state;
	r->allowed_warnings = 1;
	rig_send(r, "print 1000");
	UNTIL(r, r->n == 1);
	UNTIL(r, rig_said(r, "lines of output were dropped"));
	assert_true(rig_said(r, "line 0\n"));
	assert_true(rig_said(r, "line 199\n"));
	assert_false(rig_said(r, "line 200\n"));
	assert_true(rig_said(r, "800 lines of output were dropped"));
	rig_free(r);

	r = rig_new(EXEC "Workers=1", odd_worker());
	rig_send(r, "long 10000");
	UNTIL(r, r->n == 1 && rig_said(r, "x [cut]"));
	assert_int_equal(r->warnings, 0);
	rig_free(r);

	r = rig_new(EXEC "Workers=1\nLogOutput=none", odd_worker());
	rig_send(r, "print 5");
	rig_send(r, "ok");
	UNTIL(r, r->n == 2);
	assert_false(rig_said(r, "line 0"));
	rig_free(r);
}

/* ---- limits and rights ---- */

static void
test_memory_max(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1\nMemoryMax=96M", odd_worker());
	const struct outcome *o;

	(void)state;
	r->allowed_warnings = 1;
	rig_send(r, "memory 20");
	UNTIL(r, r->n == 1);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	rig_send(r, "memory 400");
	UNTIL(r, r->n == 2);
	o = rig_outcome(r, "m2");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "out_of_memory");
	assert_true(o->killed_worker);
	rig_free(r);
}

static void
test_invariant_7_secrets_stay_out_of_workers(void **state)
{
	struct rig *r;
	const char *detail;
	int leak = open("/dev/null", O_RDWR);	/* not close-on-exec */

	(void)state;
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1);
	setenv("REDIS_PASSWORD", "hunter2", 1);
	setenv("NOTIFY_SOCKET", "/run/notify", 1);
	setenv("JOURNAL_STREAM", "1:2", 1);
	setenv("LC_TEST", "visible", 1);
	r = rig_new(EXEC "Workers=1\nEnvironment=COLOUR=red \"TWO=a b\"",
	    odd_worker());
	rig_send(r, "tell");
	UNTIL(r, r->n == 1);
	detail = rig_outcome(r, "m1")->detail;
	assert_null(strstr(detail, "hunter2"));
	assert_null(strstr(detail, "CREDENTIALS_DIRECTORY"));
	assert_null(strstr(detail, "NOTIFY_SOCKET"));
	assert_null(strstr(detail, "JOURNAL_STREAM"));
	assert_non_null(strstr(detail, "\"LC_TEST\": \"visible\""));
	assert_non_null(strstr(detail, "\"COLOUR\": \"red\""));
	assert_non_null(strstr(detail, "\"TWO\": \"a b\""));
	assert_non_null(strstr(detail, "\"BOT_OPERATOR_FD\": \"3\""));
	assert_non_null(strstr(detail, "\"BOT_OPERATOR_POOL\": \"test\""));
	assert_non_null(strstr(detail, "\"fds\": [0, 1, 2, 3],"));
	assert_non_null(strstr(detail, "\"stdin\": \"/dev/null\""));
	assert_non_null(strstr(detail, "\"umask\": 23"));
	assert_non_null(strstr(detail, "\"core\": 0"));
	assert_non_null(strstr(detail, "\"nnp\": \"1\""));
	assert_non_null(strstr(detail, "\"pgid\": true"));
	rig_free(r);
	(void)close(leak);
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("REDIS_PASSWORD");
	unsetenv("NOTIFY_SOCKET");
	unsetenv("JOURNAL_STREAM");
}

static void
test_attributes(void **state)
{
	static const struct attribute attributes[] = {
		{ { "trace \"id\"", 10 }, { "a\nb", 3 }, false },
		{ { "n", 1 }, { "{\"x\":[1]}", 9 }, true },
		{ { "id", 2 }, { "mine", 4 }, false },
	};
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	struct message *m = rig_send(r, "tell attributes");
	const char *detail;

	(void)state;
	m->attributes = attributes;
	m->nattributes = ARRAY_SIZE(attributes);
	m->enqueued_us = 1795449600123456;
	UNTIL(r, r->n == 1);
	detail = rig_outcome(r, "m1")->detail;
	assert_string_equal(detail, "{\"id\": \"m1\", \"enqueued\": "
	    "\"2026-11-23T16:00:00.123Z\", \"trace \\\"id\\\"\": \"a\\nb\", "
	    "\"n\": {\"x\": [1]}}");
	rig_free(r);
}

static void
test_user(void **state)
{
	struct rig *r;

	(void)state;
	if (geteuid() != 0) {
		print_message("not root: skipped\n");
		skip();
	}
	r = rig_new(EXEC "Workers=1\nUser=nobody", odd_worker());
	rig_send(r, "tell uid");
	rig_send(r, "tell groups");
	rig_send(r, "tell environ");
	UNTIL(r, r->n == 3);
	assert_string_equal(rig_outcome(r, "m1")->detail, "65534");
	assert_string_equal(rig_outcome(r, "m2")->detail, "[65534]");
	assert_non_null(strstr(rig_outcome(r, "m3")->detail,
	    "\"USER\": \"nobody\""));
	rig_free(r);
}

/* ---- configuration ---- */

static void
problem_case(const char *section, const char *expected)
{
	_cleanup_free_ char *text = xasprintf("[Pool test]\n%s\n", section);
	struct config *c = rig_config(text);
	struct pool p = { .name = xstrdup("test"), .config = c };

	if (config_problems(c) == 0) {
		p.section = config_find(c, "Pool", "test");
		assert_true(worker_handler_type.ops->init(&p, c, p.section) < 0);
		worker_handler_type.ops->fini(&p);
	}
	assert_true(config_problems(c) > 0);
	if (strstr(config_problem_text(c, 0), expected) == NULL)
		fail_msg("%s: not \"%s\" but %s", section, expected,
		    config_problem_text(c, 0));
	config_unref(c);
	free(p.name);
}

static void
test_configuration_problems(void **state)
{
	(void)state;
	problem_case("Exec=/no/such/program", "/no/such/program: No such file");
	problem_case("Exec=no-such-program-in-path", "in $PATH");
	problem_case("Exec=workers/nothing.py", "tests/unit/workers/nothing.py");
	problem_case("Exec=/etc/passwd", "not an executable file");
	problem_case("Command=/usr", "not an executable file");
	problem_case("Module=/no/such.so", "No such file");
	problem_case("Exec=/bin/true\nCommand=/bin/true", "one handler");
	problem_case("Workers=1", "one of Exec=");
	problem_case("Exec=/bin/true\nUser=no-such-user", "no user");
	problem_case("Exec=/bin/true\nGroup=no-such-group", "no group");
	problem_case("Exec=/bin/true\nEnvironment=1X=2", "NAME=VALUE");
}

static void
test_programs_are_found(void **state)
{
	/* Beside the configuration file, which is tests/unit/test.conf. */
	struct rig *r = rig_new("Exec=workers/odd_worker.py\nWorkers=1");

	(void)state;
	rig_send(r, "ok");
	UNTIL(r, r->done == 1);
	rig_free(r);
	r = rig_new("Exec=python3 %s\nWorkers=1", odd_worker());
	rig_send(r, "ok");
	UNTIL(r, r->done == 1);
	rig_free(r);
}

static void
test_status_and_debug(void **state)
{
	struct rig *r = rig_new(EXEC "Workers=1", odd_worker());
	json_t *object = json_object(), *array = json_array(), *w;

	(void)state;
	rig_send(r, "sleep 0.1");
	UNTIL(r, r->running == 1);
	worker_handler_type.ops->status(&r->pool, object);
	worker_handler_type.ops->debug(&r->pool, array);
	assert_non_null(json_object_get(object, "timeouts"));
	w = json_array_get(array, 0);
	assert_string_equal(json_string_value(json_object_get(w, "state")),
	    "busy");
	assert_int_equal(json_integer_value(json_object_get(w, "in_flight")), 1);
	assert_string_equal(json_string_value(json_array_get(
	    json_object_get(w, "messages"), 0)), "m1");
	json_decref(object);
	json_decref(array);
	UNTIL(r, r->n == 1);
	rig_free(r);
}

#define T(name)	cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_done_and_detail),
		T(test_crash_names_its_cause),
		T(test_what_was_said_before_the_end_counts),
		T(test_garbage_costs_one_retry),
		T(test_unknown_ids_are_only_counted),
		T(test_timeout_ends_the_worker),
		T(test_stubborn_children_and_grandchildren_go_too),
		T(test_an_answer_within_the_grace_counts),
		T(test_touch_gives_more_time),
		T(test_lost_leases_are_told),
		T(test_handler_that_cannot_start),
		T(test_handler_that_comes_back),
		T(test_handler_that_never_gets_ready),
		T(test_one_that_leaves_by_itself_is_not_restarted_in_a_storm),
#ifdef BOT_FAULT_INJECTION
		T(test_no_descriptors_left),
#endif
		T(test_grows_when_busy_and_shrinks_when_idle),
		T(test_scale),
		T(test_max_messages),
		T(test_reload_replaces_one_by_one),
		T(test_reload_with_a_broken_handler_keeps_the_old),
		T(test_ready_8_runs_8_at_once),
		T(test_death_with_8_at_once),
		T(test_a_slow_handler_never_hoards),
		T(test_poison_in_a_pipeline_is_found_and_no_other_is_blamed),
		T(test_drain_lets_it_finish),
		T(test_drain_over_gives_everything_back),
		T(test_one_that_will_not_leave_is_made_to),
		T(test_output_goes_to_the_log_and_is_limited),
		T(test_memory_max),
		T(test_invariant_7_secrets_stay_out_of_workers),
		T(test_attributes),
		T(test_user),
		T(test_configuration_problems),
		T(test_programs_are_found),
		T(test_status_and_debug),
	};

	if (!have("python3")) {
		print_message("1..0 # SKIP the test workers need python3\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
