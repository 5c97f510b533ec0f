/*
 * Module= and Command=, the handler libraries with their examples, and how
 * fast it all is.
 */
#include "worker_rig.h"

#include <stdio.h>

#include "base/alloc.h"

#define NOOP	build_path("tests/bench/noop_module.so")

/* ---- Module= ---- */

static void
test_module(void **state)
{
	struct rig *r = rig_new("Module=%s\nWorkers=1", NOOP);
	const struct outcome *o;

	(void)state;
	rig_send(r, "");
	rig_send(r, "r");
	rig_send(r, "d");
	rig_send(r, "e");
	UNTIL(r, r->n == 4);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	o = rig_outcome(r, "m2");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "rate_limited");
	assert_int_equal(o->delay_us, 1500000);
	assert_string_equal(o->detail, "asked to wait");
	o = rig_outcome(r, "m3");
	assert_int_equal(o->kind, VERDICT_DEAD);
	assert_string_equal(o->type, "invalid_format");
	o = rig_outcome(r, "m4");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "internal");
	rig_free(r);
}

static void
test_module_crash_in_a_full_pipeline_blames_the_right_one(void **state)
{
	struct rig *r = rig_new("Module=%s\nWorkers=1", NOOP);

	(void)state;
	r->allowed_warnings = 1;
	r->resubmit = true;
	for (int i = 1; i <= 900; i++)
		rig_send(r, i == 700 ? "!" : "ok");
	UNTIL(r, r->n == 900);
	assert_true(r->max_running > 2);
	assert_int_equal(r->done, 899);
	assert_true(rig_outcome(r, "m700")->killed_worker);
	assert_string_equal(rig_outcome(r, "m700")->type, "crash");
	assert_non_null(strstr(rig_outcome(r, "m700")->detail, "SIGABRT"));
	assert_int_equal(r->pool.stats.crashes, 1);
	rig_free(r);
}

static void
test_module_that_cannot_be_loaded(void **state)
{
	struct rig *r = rig_new("Module=%s\nWorkers=1",
	    source_path("tests/bench/noop_module.c"));

	(void)state;
	r->allowed_warnings = 10;
	UNTIL(r, r->downs == 1);
	assert_non_null(strstr(r->error.text, "noop_module.c"));
	rig_free(r);
}

/* ---- Command= ---- */

static void
test_command_exit_codes(void **state)
{
	static const struct {
		const char *body;
		enum verdict_kind kind;
		const char *type, *detail;
		bool killed;
	} cases[] = {
		{ "exit 0", VERDICT_DONE, "", "", false },
		{ "echo why >&2; exit 65", VERDICT_DEAD, "invalid_format", "why",
		    false },
		{ "echo why >&2; exit 75", VERDICT_RETRY, "internal", "why",
		    false },
		{ "exit 69", VERDICT_RETRY, "external_api", "exit code 69",
		    false },
		{ "exit 100", VERDICT_DEAD, "internal", "exit code 100", false },
		{ "exit 3", VERDICT_RETRY, "internal", "exit code 3", false },
		{ "echo oh >&2; kill -9 $$", VERDICT_RETRY, "crash",
		    "killed by SIGKILL\noh", true },
		{ "kill -15 $$", VERDICT_RETRY, "crash", "killed by SIGTERM",
		    true },
	};
	struct rig *r = rig_new("Command=/bin/sh\nWorkers=2");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		rig_send(r, cases[i].body);
	UNTIL(r, r->n == ARRAY_SIZE(cases));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[16];
		const struct outcome *o;

		snprintf(name, sizeof(name), "m%zu", i + 1);
		o = rig_outcome(r, name);
		if (o->kind != cases[i].kind ||
		    strcmp(o->type, cases[i].type) != 0 ||
		    strcmp(o->detail, cases[i].detail) != 0 ||
		    o->killed_worker != cases[i].killed)
			fail_msg("%s: kind %d, %s: %s", cases[i].body, o->kind,
			    o->type, o->detail);
	}
	/* The runner itself lives on. */
	assert_int_equal(r->pool.stats.restarts, 0);
	assert_int_equal(r->pool.stats.crashes, 2);
	UNTIL(r, rig_said(r, "why"));
	rig_free(r);
}

static void
test_command_environment(void **state)
{
	static const struct attribute attributes[] = {
		{ { "trace-id", 8 }, { "abc def", 7 }, false },
		{ { "size", 4 }, { "12", 2 }, true },
	};
	struct rig *r = rig_new("Command=/bin/sh\nWorkers=1\nTimeout=7s\n"
	    "Environment=EXTRA=1");
	struct message *m;

	(void)state;
	m = rig_send(r, "echo $BOT_QUEUE,$BOT_ATTEMPT,$BOT_MESSAGE_ID,"
	    "$BOT_TIMEOUT_MS,$BOT_ATTR_TRACE_ID,$BOT_ATTR_SIZE,$EXTRA,"
	    "$BOT_OPERATOR_FD,$BOT_ATTRIBUTES >&2; exit 75");
	m->attributes = attributes;
	m->nattributes = ARRAY_SIZE(attributes);
	m->attempt = 4;
	UNTIL(r, r->n == 1);
	assert_string_equal(rig_outcome(r, "m1")->detail,
	    "orders,4,m1,7000,abc def,12,1,,"
	    "{\"id\":\"m1\",\"trace-id\":\"abc def\",\"size\":12}");
	rig_free(r);
}

static void
test_command_that_ignores_a_large_body(void **state)
{
	struct rig *r = rig_new("Command=/bin/true\nWorkers=1");
	_cleanup_free_ char *body = xmalloc(3000001);

	(void)state;
	memset(body, 'x', 3000000);
	body[3000000] = '\0';
	rig_send(r, body);
	UNTIL(r, r->n == 1);
	assert_int_equal(r->done, 1);
	rig_free(r);

	/* One that looks how much there is, before it reads any: all, or a
	   runner that is killed would leave it with a part of it. */
	r = rig_new("Command=/bin/sh -c 'test $(stat -Lc %%%%s /dev/stdin) = "
	    "3000000'\nWorkers=1");
	rig_send(r, body);
	UNTIL(r, r->n == 1);
	assert_int_equal(r->done, 1);
	rig_free(r);

	/* And one that reads all of it. */
	r = rig_new("Command=/bin/sh -c 'test $(wc -c) = 3000000'\nWorkers=1");
	rig_send(r, body);
	UNTIL(r, r->n == 1);
	assert_int_equal(r->done, 1);
	rig_free(r);
}

static void
test_command_timeout(void **state)
{
	struct rig *r = rig_new("Command=/bin/sh\nWorkers=1\nTimeout=200ms\n"
	    "KillGrace=100ms");
	const struct outcome *o;

	(void)state;
	r->allowed_warnings = 2;
	rig_send(r, "trap '' TERM; echo begun >&2; sleep 60; sleep 60");
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_string_equal(o->type, "timeout");
	assert_non_null(strstr(o->detail, "begun"));
	rig_free(r);
}

static void
test_command_memory(void **state)
{
	struct rig *r;

	(void)state;
#ifdef BOT_SANITIZERS
	print_message("the shadow memory is beyond any limit: skipped\n");
	skip();
#endif
	if (!have("python3")) {
		print_message("no python3: skipped\n");
		skip();
	}
	r = rig_new("Command=python3 -\nWorkers=1\nMemoryMax=80M");
	rig_send(r, "x = bytearray(1 << 20)\n");
	rig_send(r, "x = [bytearray(b'x' * (1 << 20)) for i in range(500)]\n");
	UNTIL(r, r->n == 2);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	assert_string_equal(rig_outcome(r, "m2")->type, "out_of_memory");
	assert_true(rig_outcome(r, "m2")->killed_worker);
	rig_free(r);
}

/* ---- the examples ---- */

static void
example(const char *line, const char *workers, bool json)
{
	struct rig *r = rig_new("%s\n%s", line, workers);
	const struct outcome *o;

	rig_send(r, json ? "{\"name\":\"Ada\"}" : "Ada");
	rig_send(r, json ? "{\"name\":\"x\",\"do\":\"retry\"}" : "retry");
	rig_send(r, json ? "{\"name\":\"x\",\"do\":\"dead\"}" : "dead");
	UNTIL(r, r->n == 3);
	assert_int_equal(rig_outcome(r, "m1")->kind, VERDICT_DONE);
	o = rig_outcome(r, "m2");
	assert_int_equal(o->kind, VERDICT_RETRY);
	assert_string_equal(o->type, "external_api");
	assert_string_equal(o->detail, "the mail server said 503");
	o = rig_outcome(r, "m3");
	assert_int_equal(o->kind, VERDICT_DEAD);
	assert_string_equal(o->detail, "nobody wants this");
	UNTIL(r, rig_said(r, "hello, Ada"));
	if (json) {
		rig_send(r, "{\"name\":\"x\",\"do\":\"raise\"}");
		rig_send(r, "{\"name\":\"x\",\"do\":\"rate_limited\"}");
		rig_send(r, "{\"name\":\"x\",\"do\":\"slow\"}");
		rig_send(r, "no json");
		UNTIL(r, r->n == 7);
		o = rig_outcome(r, "m4");
		assert_string_equal(o->type, "internal");
		assert_non_null(strstr(o->detail, "a bug"));
		o = rig_outcome(r, "m5");
		assert_string_equal(o->type, "rate_limited");
		assert_int_equal(o->delay_us, 1500000);
		assert_int_equal(rig_outcome(r, "m6")->kind, VERDICT_DONE);
		assert_int_equal(r->touches, 1);
		assert_string_equal(rig_outcome(r, "m7")->type,
		    "invalid_format");
	}
	assert_int_equal(r->pool.stats.restarts, 0);
	rig_free(r);
}

static void
test_example_python(void **state)
{
	_cleanup_free_ char *line = xasprintf("Exec=%s",
	    source_path("scripts/handlers/python/example.py"));

	(void)state;
	if (!have("python3")) {
		print_message("no python3: skipped\n");
		skip();
	}
	example(line, "Workers=1", true);
}

static void
test_example_node(void **state)
{
	_cleanup_free_ char *line = xasprintf("Exec=%s",
	    source_path("scripts/handlers/node/example.js"));

	(void)state;
	if (!have("node")) {
		print_message("no node: skipped\n");
		skip();
	}
	example(line, "Workers=1", true);
	example(line, "Workers=1\nEnvironment=CONCURRENCY=8", true);
}

static void
test_example_c(void **state)
{
	_cleanup_free_ char *exec = xasprintf("Exec=%s",
	    build_path("scripts/handlers/c/example"));
	_cleanup_free_ char *module = xasprintf("Module=%s",
	    build_path("scripts/handlers/c/example_module.so"));

	(void)state;
	example(exec, "Workers=1", false);
	example(module, "Workers=1", false);
}

static void
test_example_shell(void **state)
{
	_cleanup_free_ char *line = xasprintf("Command=%s",
	    source_path("scripts/handlers/shell/example.sh"));

	(void)state;
	example(line, "Workers=1", false);
}

static void
test_python_timeout_is_raised_inside(void **state)
{
	struct rig *r;
	const struct outcome *o;
	_cleanup_free_ char *script = xasprintf(
	    "import sys, time; sys.path.insert(0, \"%s\"); import bot_handler; "
	    "bot_handler.run(lambda m: time.sleep(60))",
	    source_path("scripts/handlers/python"));

	(void)state;
	if (!have("python3")) {
		print_message("no python3: skipped\n");
		skip();
	}
	r = rig_new("Exec=python3 -c '%s'\nWorkers=1\nTimeout=300ms", script);
	r->allowed_warnings = 2;
	rig_send(r, "x");
	UNTIL(r, r->n == 1);
	o = rig_outcome(r, "m1");
	assert_string_equal(o->type, "timeout");
	assert_non_null(strstr(o->detail, "over its time"));
	assert_true(o->took_us < 4 * USEC_PER_SEC);	/* no need of SIGKILL */
	rig_free(r);
}

/* ---- large bodies ---- */

static void
large(const char *handler)
{
	struct rig *r = rig_new("%s\nWorkers=1", handler);
	_cleanup_free_ char *body = xmalloc(5000001);

	memset(body, ' ', 5000000);
	memcpy(body, "{\"name\":\"Ada\"}", 14);
	body[5000000] = '\0';
	for (int i = 0; i < 8; i++)
		rig_send(r, body);
	UNTIL(r, r->n == 8);
	assert_int_equal(r->done, 8);
	rig_free(r);
}

static void
test_large_bodies(void **state)
{
	_cleanup_free_ char *module = xasprintf("Module=%s", NOOP);
	_cleanup_free_ char *python = xasprintf("Exec=%s",
	    source_path("scripts/handlers/python/example.py"));
	_cleanup_free_ char *node = xasprintf("Exec=%s",
	    source_path("scripts/handlers/node/example.js"));

	(void)state;
	large(module);
	if (have("python3"))
		large(python);
	if (have("node"))
		large(node);
}

/* ---- speed ---- */

static void
measure(const char *name, const char *handler, unsigned total)
{
	struct rig *r = rig_new("%s", handler);
	char body[201];
	uint64_t start, took;
	unsigned sent = 0;

	memset(body, 'x', 200);
	body[200] = '\0';
	r->keep_outcomes = false;
	UNTIL(r, r->ups == 1);
	start = clock_monotonic_us();
	while (r->n < total) {
		/* As the engine does: messages come as others go. */
		while (sent < total && r->npending < 1024) {
			rig_send(r, body);
			sent++;
		}
		rig_turn(r);
		if (clock_monotonic_us() - start > 60 * USEC_PER_SEC)
			fail_msg("%s: only %u of %u", name, r->n, total);
	}
	took = clock_monotonic_us() - start;
	assert_int_equal(r->done, total);
	assert_int_equal(r->pool.stats.restarts, 0);
	print_message("%s: %.0f messages/s (at most %u in flight)\n", name,
	    (double)total * 1e6 / (double)took, r->max_running);
	rig_free(r);
}

static void
test_throughput(void **state)
{
	_cleanup_free_ char *module = xasprintf("Module=%s\nWorkers=1", NOOP);
	_cleanup_free_ char *two = xasprintf("Module=%s\nWorkers=2", NOOP);
	_cleanup_free_ char *c = xasprintf("Exec=%s\nWorkers=1\nLogOutput=none",
	    build_path("scripts/handlers/c/example"));
	_cleanup_free_ char *python = xasprintf("Exec=python3 %s\nWorkers=1",
	    source_path("tests/bench/noop_handler.py"));

	(void)state;
#ifdef BOT_SANITIZERS
	measure("Module=, 1 worker", module, 20000);
	measure("Module=, 2 workers", two, 20000);
	measure("C Exec=", c, 5000);
	if (have("python3"))
		measure("Python Exec=", python, 5000);
#else
	measure("Module=, 1 worker", module, 400000);
	measure("Module=, 2 workers", two, 400000);
	measure("C Exec= that prints", c, 50000);
	if (have("python3"))
		measure("Python Exec=", python, 50000);
#endif
}

#define T(name)	cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_module),
		T(test_module_crash_in_a_full_pipeline_blames_the_right_one),
		T(test_module_that_cannot_be_loaded),
		T(test_command_exit_codes),
		T(test_command_environment),
		T(test_command_that_ignores_a_large_body),
		T(test_command_timeout),
		T(test_command_memory),
		T(test_example_python),
		T(test_example_node),
		T(test_example_c),
		T(test_example_shell),
		T(test_python_timeout_is_raised_inside),
		T(test_large_bodies),
		T(test_throughput),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
