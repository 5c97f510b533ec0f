/*
 * The Http= handler with the test in the engine's place: what it sends, what
 * it makes of odd answers, and that it keeps to engine/pool.h.
 */
#include "http_client_rig.h"

#include "base/log.h"
#include "worker/http_internal.h"
#include "worker/worker.h"

#define HOOK_OK	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static const struct config_kind *const schema[] = {
	&engine_pool_kind, &worker_pool_kind, &http_pool_kind, NULL
};

struct hook {
	struct web *web;
	struct pool pool;
	struct queue queue;
	struct engine engine;
	struct chunk *chunk;
	struct config *config;
	bool inside;		/* an op is under way: no upcall may come */
	unsigned verdicts, returned, drained, ups, downs;
	enum verdict_kind kind;
	char type[ERROR_TYPE_MAX], detail[1024];
	uint64_t delay_us;
	struct error error;
	char header_file[128];
};

static struct hook *hook;

/* ---- in the engine's place ---- */

static void
retire(struct message *m)
{
	if (hook->inside)
		fail_msg("an upcall inside a call");
	assert_int_equal(m->state, MESSAGE_RUNNING);
	assert_null(m->worker);
	m->state = MESSAGE_SETTLING;
	message_free(m);
}

void
pool_verdict(struct pool *p, struct message *m, const struct verdict *v)
{
	(void)p;
	hook->verdicts++;
	hook->kind = v->kind;
	hook->delay_us = v->delay_us;
	snprintf(hook->type, sizeof(hook->type), "%.*s", (int)v->error_type.n,
	    v->error_type.n != 0 ? v->error_type.p : "");
	snprintf(hook->detail, sizeof(hook->detail), "%.*s", (int)v->detail.n,
	    v->detail.n != 0 ? v->detail.p : "");
	retire(m);
}

void
pool_returned(struct pool *p, struct message *m)
{
	(void)p;
	hook->returned++;
	retire(m);
}

void
pool_slots_changed(struct pool *p)
{
	(void)p;
}

void
pool_touched(struct pool *p, struct message *m, uint64_t until_us)
{
	(void)p;
	(void)m;
	(void)until_us;
	fail();
}

void
pool_up(struct pool *p)
{
	assert_false(hook->inside);
	hook->ups++;
	p->up = true;
}

void
pool_down(struct pool *p, const struct error *err)
{
	assert_false(hook->inside);
	hook->downs++;
	hook->error = *err;
	p->up = false;
}

void
pool_drained(struct pool *p)
{
	(void)p;
	assert_false(hook->inside);
	hook->drained++;
}

/* ---- the rig ---- */

static const struct handler_ops *ops;

#define CALL(op, ...) \
	do { \
		hook->inside = true; \
		ops->op(__VA_ARGS__); \
		hook->inside = false; \
	} while (0)

static struct config *
load(const char *more)
{
	char text[1024];
	struct config *c;

	snprintf(text, sizeof(text), "[Pool hook]\n"
	    "Http=http://127.0.0.1:%u/in\n%s", hook->web->listener.bound.port,
	    more);
	c = config_load_text("/nowhere/test.conf", text, schema);
	if (config_problems(c) != 0)
		fail_msg("%s", config_problem_text(c, 0));
	return c;
}

static void
start(void **state, const char *more)
{
	struct web *w = *state;
	struct pool *p;

	hook = new0(struct hook);
	hook->web = w;
	hook->engine.resolver = w->resolver;
	hook->engine.loop = w->loop;
	hook->chunk = chunk_new();
	hook->queue.name = (char *)(uintptr_t)"orders";
	hook->config = load(more);
	p = &hook->pool;
	*p = (struct pool){ .name = (char *)(uintptr_t)"hook",
		.type = &http_handler_type, .engine = &hook->engine,
		.loop = w->loop, .config = hook->config };
	p->section = config_find(hook->config, "Pool", "hook");
	p->timeout_us = config_span_us(p->section, "Timeout");
	list_init(&p->queues);
	ops = http_handler_type.ops;
	assert_int_equal(ops->init(p, hook->config, p->section), 0);
	CALL(start, p);
}

static void
stop(void)
{
	struct web *w = hook->web;

	CALL(drain, &hook->pool);
	RUN_UNTIL(w, hook->drained == 1);
	assert_true(loop_turn(w->loop, 1000) >= 0);
	assert_int_equal(hook->drained, 1);	/* told once */
	assert_int_equal(hook->pool.busy, 0);
	assert_int_equal(hook->pool.workers, 0);
	ops->fini(&hook->pool);
	chunk_unref(hook->chunk);
	config_unref(hook->config);
	free(hook);
	hook = NULL;
}

static struct message *
submit(const char *body, const struct attribute *a, size_t n)
{
	struct message *m = message_new(&hook->queue, hook->chunk);

	assert_true(ops->slots(&hook->pool) != 0);
	m->name = SLICE("id-1");
	m->body = slice_of(body);
	m->attributes = a;
	m->nattributes = n;
	m->state = MESSAGE_RUNNING;
	CALL(submit, &hook->pool, m);
	return m;
}

static void
answer(const char *line)
{
	unsigned before = hook->verdicts;

	web_script(hook->web, line);
	submit("x", NULL, 0);
	RUN_UNTIL(hook->web, hook->verdicts == before + 1);
}

/* ---- what goes out ---- */

static void
test_headers(void **state)
{
	static char big[9000];
	const struct attribute odd[] = {
		{ SLICE("a_b:\r\nc"), SLICE("1\r\nX-Evil: 2"), false },
		{ SLICE("quote"), SLICE("\"50%\" \t\x7f\xc3\xa9"), false },
		{ SLICE(""), SLICE("empty"), false },
		{ SLICE("json"), SLICE("{\"a\":1}"), true },
		{ SLICE("big"), { big, sizeof(big) }, false },
		{ SLICE("Content-Type"), SLICE("text/x\r\nX-Evil: 3"), false },
		{ SLICE("content-type"), SLICE("text/plain; charset=utf-8"),
			false },
	};
	const struct attribute binary[] = {
		{ SLICE("ce-specversion"), SLICE("1.0"), false },
	};
	struct web *w = *state;

	memset(big, 'b', sizeof(big));
	start(state, "");
	submit("body", odd, ARRAY_SIZE(odd));
	RUN_UNTIL(w, hook->verdicts == 1);
	assert_int_equal(hook->kind, VERDICT_DONE);
	assert_true(web_heard(w, "POST /in HTTP/1.1\r\n"));
	assert_true(web_heard(w, "\r\n\r\nbody"));
	assert_true(web_heard(w, "\r\nContent-Length: 4\r\n"));
	assert_true(web_heard(w, "\r\nBot-Attribute-a-b---c: "
	    "1%0D%0AX-Evil:%202\r\n"));
	assert_true(web_heard(w, "\r\nBot-Attribute-quote: "
	    "%2250%25%22%20%09%7F%C3%A9\r\n"));
	assert_true(web_heard(w, "\r\nBot-Attribute-: empty\r\n"));
	assert_true(web_heard(w, "\r\nBot-Attribute-json: "
	    "{%22a%22:1}\r\n"));
	assert_true(web_heard(w, "\r\nBot-Attributes-Omitted: 1\r\n"));
	assert_true(web_heard(w, "\r\nContent-Type: text/plain; "
	    "charset=utf-8\r\n"));
	assert_false(web_heard(w, "\nX-Evil"));
	assert_false(web_heard(w, "bbb"));
	hook->queue.format = FORMAT_CLOUDEVENTS;
	submit("", NULL, 0);
	RUN_UNTIL(w, hook->verdicts == 2);
	assert_true(web_heard(w, "\r\nContent-Length: 0\r\n"));
	assert_true(web_heard(w, "\r\nContent-Type: "
	    "application/cloudevents+json\r\n"));
	/* In binary mode the body is only the event's data. */
	assert_false(web_heard(w, "octet-stream"));
	submit("{}", binary, ARRAY_SIZE(binary));
	RUN_UNTIL(w, hook->verdicts == 3);
	assert_true(web_heard(w, "\r\nContent-Type: "
	    "application/octet-stream\r\n"));
	stop();
}

/* ---- what comes back ---- */

static void
test_odd_answers(void **state)
{
	static char tall[70200];
	int n;

	start(state, "Timeout=100ms\n");
	answer("HTTP/1.1 429 Slow\r\nRetry-After: 99999999999\r\n"
	    "Content-Length: 0\r\n\r\n");
	assert_int_equal(hook->kind, VERDICT_RETRY);
	assert_string_equal(hook->type, ERROR_TYPE_RATE_LIMITED);
	assert_int_equal(hook->delay_us, 3600 * USEC_PER_SEC);
	answer("HTTP/1.1 503 Slow\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
	    "\r\n");
	assert_string_equal(hook->type, ERROR_TYPE_RATE_LIMITED);
	assert_int_equal(hook->delay_us, 5 * USEC_PER_SEC);
	/* Only those two statuses ask for a pause. */
	answer("HTTP/1.1 500 Oops\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
	    "\r\n");
	assert_string_equal(hook->type, ERROR_TYPE_EXTERNAL_API);
	assert_int_equal(hook->delay_us, VERDICT_DELAY_DEFAULT);
	answer("HTTP/1.1 410 Gone\r\nRetry-After: 5\r\nContent-Length: 7\r\n\r\n"
	    "a\x01\r\n\x7f" "bc");
	assert_int_equal(hook->kind, VERDICT_DEAD);
	assert_string_equal(hook->detail, "HTTP 410: a    bc");
	answer("!garbage\r\n");
	assert_int_equal(hook->kind, VERDICT_RETRY);
	assert_string_equal(hook->type, ERROR_TYPE_EXTERNAL_API);
	answer("-");
	assert_string_equal(hook->type, ERROR_TYPE_TIMEOUT);
	assert_int_equal(hook->pool.stats.timeouts, 1);
	/* Too long a body is no failure, and is cut between characters. */
	n = snprintf(tall, sizeof(tall), "HTTP/1.1 200 OK\r\n"
	    "Content-Length: 70000\r\n\r\n");
	memset(tall + n, 'z', 70000);
	answer(tall);
	assert_int_equal(hook->kind, VERDICT_DONE);
	n = snprintf(tall, sizeof(tall), "HTTP/1.1 400 No\r\n"
	    "Content-Length: 2000\r\n\r\n");
	for (int i = 0; i < 1000; i++)
		memcpy(tall + n + 2 * i, "\xc3\xa9", 2);
	tall[n + 2000] = '\0';
	answer(tall);
	n = (int)strlen(hook->detail);
	assert_in_range(n, 500, 512);
	assert_memory_equal(hook->detail + n - 2, "\xc3\xa9", 2);
	stop();
}

/* ---- letting go ---- */

static void
test_a_lost_lease_ends_the_request(void **state)
{
	struct web *w = *state;
	struct message *m;

	start(state, "");
	web_script(w, "-");
	m = submit("x", NULL, 0);
	RUN_UNTIL(w, w->requests == 1);
	CALL(cancel, &hook->pool, m);
	CALL(cancel, &hook->pool, m);
	assert_int_equal(hook->verdicts, 0);
	RUN_UNTIL(w, hook->verdicts == 1);
	assert_int_equal(hook->kind, VERDICT_RETRY);
	RUN_UNTIL(w, web_open(w) == 0);
	assert_int_equal(ops->slots(&hook->pool), 10);
	stop();
}

static void
test_kill_gives_back(void **state)
{
	struct web *w = *state;
	struct message *m = NULL;

	start(state, "Concurrency=3\n");
	for (int i = 0; i < 3; i++)
		web_script(w, "-");
	for (int i = 0; i < 3; i++)
		m = submit("x", NULL, 0);
	assert_int_equal(ops->slots(&hook->pool), 0);
	assert_int_equal(hook->pool.busy, 3);
	RUN_UNTIL(w, w->requests == 3);
	CALL(drain, &hook->pool);
	assert_int_equal(ops->slots(&hook->pool), 0);
	for (int i = 0; i < 3; i++)
		assert_true(loop_turn(w->loop, 1000) >= 0);
	assert_int_equal(hook->drained, 0);
	CALL(kill, &hook->pool);
	CALL(cancel, &hook->pool, m);	/* a lease that ends late */
	RUN_UNTIL(w, hook->drained == 1);
	assert_int_equal(hook->returned, 3);
	assert_int_equal(hook->verdicts, 0);
	stop();
}

static void
test_new_settings_leave_old_requests_alone(void **state)
{
	struct web *w = *state;
	struct config *old;

	start(state, "");
	web_script(w, "-");
	submit("x", NULL, 0);
	RUN_UNTIL(w, w->requests == 1);
	old = hook->config;
	hook->config = load("Concurrency=2\n");
	hook->pool.section = config_find(hook->config, "Pool", "hook");
	CALL(reconfigure, &hook->pool, hook->pool.section);
	hook->pool.config = hook->config;
	config_unref(old);
	assert_int_equal(hook->pool.max, 2);
	assert_int_equal(ops->slots(&hook->pool), 1);
	submit("y", NULL, 0);
	RUN_UNTIL(w, hook->verdicts == 1);
	stream_write(&w->peers[0].s, HOOK_OK, strlen(HOOK_OK));
	RUN_UNTIL(w, hook->verdicts == 2);
	assert_int_equal(hook->kind, VERDICT_DONE);
	stop();
}

/* ---- secret headers ---- */

static void
write_headers(const char *text)
{
	FILE *f = fopen(hook->header_file, "we");

	assert_non_null(f);
	assert_int_equal(fputs(text, f) >= 0, 1);
	assert_int_equal(fclose(f), 0);
}

static void
test_header_files(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "empty" },
		{ "Authorization hunter2\n", ":1 is not" },
		{ "# fine\nX-A: b\n: hunter2\n", ":3 is not" },
		{ "X A: hunter2\n", ":1 has a name" },
		{ "X-A: hun\rter2\n", ":1 has a control character" },
		{ "X-A: b\nTRANSFER-Encoding: chunked\n", ":2 sets what" },
		{ "host: hunter2\n", ":1 sets what" },
	};
	struct web *w = *state;
	struct http_target t = { .refs = 1 };
	struct error err;
	char more[200];

	start(state, "");
	snprintf(hook->header_file, sizeof(hook->header_file),
	    "/tmp/test_http_pool.%d", (int)getpid());
	t.header_file = hook->header_file;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_headers(bad[i].text);
		err = (struct error)ERROR_INIT;
		assert_true(http_target_look(&t, &hook->pool, &err) < 0);
		if (strstr(err.text, bad[i].why) == NULL)
			fail_msg("\"%s\" instead of \"%s\"", err.text,
			    bad[i].why);
		assert_null(strstr(err.text, "hunter2"));
		assert_null(t.headers);
	}
	write_headers("# x\n\nX-A:b\r\nX-B: c:d \xc3\xa9\n");
	assert_int_equal(http_target_look(&t, &hook->pool, &err), 0);
	assert_true(slice_is(secret_bytes(t.headers),
	    "X-A:b\r\nX-B: c:d \xc3\xa9\r\n"));
	secret_free(t.headers);
	/* And as a pool it sends them. */
	RUN_UNTIL(w, hook->ups == 1);
	snprintf(more, sizeof(more), "HttpHeaderFile=%s\n", hook->header_file);
	config_unref(hook->config);
	hook->config = load(more);
	hook->pool.config = hook->config;
	hook->pool.section = config_find(hook->config, "Pool", "hook");
	CALL(reconfigure, &hook->pool, hook->pool.section);
	submit("x", NULL, 0);
	RUN_UNTIL(w, hook->verdicts == 1);
	assert_true(web_heard(w, "\r\nX-A:b\r\nX-B: c:d"));
	(void)unlink(hook->header_file);
	stop();
}

static void
quiet(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	(void)f;
	if (level <= LOG_LEVEL_WARNING && strstr(text, "held up") == NULL)
		fail_msg("a warning: %s", text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		web_test(test_headers),
		web_test(test_odd_answers),
		web_test(test_a_lost_lease_ends_the_request),
		web_test(test_kill_gives_back),
		web_test(test_new_settings_leave_old_requests_alone),
		web_test(test_header_files),
	};

	log_tap(quiet, NULL);
	log_tap_exclusive(true);
	return cmocka_run_group_tests_name("http_pool", tests, NULL, NULL);
}
