/*
 * Each kind of [Check NAME] against peers on loopback: those that work, those
 * that refuse, and those that accept and then say nothing.
 */
#include "tls_rig.h"

#include <signal.h>

#include "base/log.h"
#include "observe/check_impl.h"

#define FAST	"Interval=100ms\nTimeout=300ms\n"

static const struct config_kind *const schema[] = { &check_config_kind, NULL };

struct world {
	struct rig *r;
	struct engine engine;
	struct queue queue;
	char *requires[2];
	struct config *config;
	struct checks *checks;
	struct dependency *d;		/* the check "it" */
	/* What the server answers to each connection's first bytes. */
	const char *answer;
};

static struct world *the_world;
static char last_line[512];
static unsigned nlines;			/* of notice level and above */

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	/* How long a turn takes is not what this is about. */
	if (level > LOG_LEVEL_NOTICE || f->check == NULL)
		return;
	nlines++;
	snprintf(last_line, sizeof(last_line), "%s: %s", f->check, text);
}

static void
answer_it(struct end *e)
{
	if (the_world->answer == NULL)
		return;
	stream_write(&e->s, the_world->answer, strlen(the_world->answer));
	if (strncmp(the_world->answer, "HTTP", 4) == 0)
		buffer_clear(&e->got);
}

static int
setup(void **state)
{
	struct world *w = new0(struct world);
	void *r;

	log_tap(on_log, NULL);
	log_tap_exclusive(true);
	nlines = 0;
	(void)rig_set_up(&r);
	w->r = r;
	w->r->server.echo = false;
	w->r->server.on_data = answer_it;
	w->engine.loop = w->r->loop;
	list_init(&w->engine.queues);
	list_init(&w->engine.pools);
	list_init(&w->engine.gates);
	w->queue.name = xstrdup("jobs");
	w->requires[0] = xstrdup("other");
	w->queue.requires = w->requires;
	w->queue.engine = &w->engine;
	list_init(&w->queue.engine_link);
	list_push_back(&w->engine.queues, &w->queue.engine_link);
	the_world = w;
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;
	void *r = w->r;
	struct list *l;

	checks_free(w->checks);
	while ((l = list_first(&w->engine.gates)) != NULL) {
		list_remove(l);
		free(l);	/* the link is its first member */
	}
	config_unref(w->config);
	tls_context_unref(w->r->server_params.tls);
	free(w->queue.name);
	free(w->requires[0]);
	(void)rig_tear_down(&r);
	free(w);
	log_tap_exclusive(false);
	log_tap(NULL, NULL);
	return 0;
}

static struct config *
load(const char *text)
{
	struct config *c = config_load_text("check.conf", text, schema);

	if (config_problems(c) == 0)
		checks_verify(c);
	return c;
}

/* The section [Check it] with these lines. */
static void
begin(struct world *w, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	va_list ap;

	buffer_add_str(&b, "[Check it]\n" FAST);
	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	w->config = load(buffer_cstr(&b));
	if (config_problems(w->config) != 0)
		fail_msg("%s", config_problem_text(w->config, 0));
	w->checks = checks_new(w->r->loop, w->r->resolver, &w->engine,
	    w->config);
	w->d = checks_find(w->checks, "it");
	assert_non_null(w->d);
	checks_start(w->checks);
}

static unsigned
reload(struct world *w, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *old = w->config;
	unsigned n;
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	w->config = load(buffer_cstr(&b));
	assert_int_equal(config_problems(w->config), 0);
	n = checks_reload(w->checks, w->config);
	w->d = checks_find(w->checks, "it");
	config_unref(old);
	return n;
}

static unsigned
port(const struct world *w)
{
	return w->r->listener.bound.port;
}

static void
until(struct world *w, enum dependency_state state)
{
	RUN_UNTIL(w->r, w->d->state == state);
	assert_true(engine_gate_is_open(&w->engine, "it") ==
	    (state == DEPENDENCY_UP));
}

static void
until_looks(struct world *w, uint64_t n)
{
	n += w->d->looks;
	RUN_UNTIL(w->r, w->d->looks >= n);
}

static void
assert_says(struct world *w, const char *part)
{
	char why[384];

	dependency_detail(w->d, why, sizeof(why));
	if (strstr(why, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, why);
}

/* ---- TCP and what all have in common ---- */

static void
test_tcp_goes_down_and_comes_back(void **state)
{
	struct world *w = *state;
	char where[64];

	rig_listen(w->r, "127.0.0.1:0");
	snprintf(where, sizeof(where), "127.0.0.1:%u", port(w));
	begin(w, "TCP=%s\nFailures=3\nSuccesses=2\n", where);
	assert_int_equal(w->d->state, DEPENDENCY_PENDING);
	assert_false(engine_gate_is_open(&w->engine, "it"));
	assert_says(w, "no result yet");
	until(w, DEPENDENCY_UP);
	assert_int_equal(w->d->looks, 1);
	assert_true(w->d->latency_us > 0);
	assert_string_equal(w->d->target, where);
	assert_says(w, "");

	listener_stop(&w->r->listener);
	until_looks(w, 2);
	/* Two of three: not down yet, but it says so. */
	assert_int_equal(w->d->state, DEPENDENCY_UP);
	assert_says(w, "failed 2 of 3 times");
	assert_int_equal(nlines, 0);
	until(w, DEPENDENCY_DOWN);
	assert_int_equal(w->d->failed, 3);
	assert_says(w, "Connection refused");
	assert_int_equal(nlines, 1);
	assert_non_null(strstr(last_line, "it: down: "));

	rig_listen(w->r, where);
	until_looks(w, 1);
	assert_int_equal(w->d->state, DEPENDENCY_DOWN);
	assert_says(w, "works again 1 of 2 times");
	until(w, DEPENDENCY_UP);
	assert_int_equal(nlines, 2);
	assert_non_null(strstr(last_line, "it: up again after"));
}

static void
test_the_first_result_counts_at_once(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	listener_stop(&w->r->listener);
	begin(w, "TCP=127.0.0.1:%u\nFailures=100\n", port(w));
	until(w, DEPENDENCY_DOWN);
	assert_int_equal(w->d->looks, 1);
}

static void
test_the_log_names_the_queues(void **state)
{
	struct world *w = *state;

	free(w->requires[0]);
	w->requires[0] = xstrdup("it");
	/* Paused for it already, so that nothing else must be there. */
	w->queue.paused = PAUSED_BY_CHECK | PAUSED_BY_DRAIN;
	w->queue.loop = w->r->loop;
	rig_listen(w->r, "127.0.0.1:0");
	listener_stop(&w->r->listener);
	begin(w, "TCP=127.0.0.1:%u\n", port(w));
	until(w, DEPENDENCY_DOWN);
	assert_non_null(strstr(last_line, "; queue jobs pauses; looking again "
	    "every 100ms"));
	assert_true(dependency_matters(w->d));
}

static void
test_invariant_3_who_does_not_answer_delays_nobody(void **state)
{
	struct world *w = *state;
	struct address a;
	int fd = raw_listen(8, &a);
	struct dependency *other;

	rig_listen(w->r, "127.0.0.1:0");
	begin(w, "TLS=127.0.0.1:%u\nTimeout=1h\n[Check other]\n" FAST
	    "TCP=127.0.0.1:%u\n", a.port, port(w));
	other = checks_find(w->checks, "other");
	RUN_UNTIL(w->r, other->looks >= 5);
	assert_int_equal(other->failed, 0);
	assert_int_equal(w->d->state, DEPENDENCY_PENDING);
	assert_int_equal(w->d->looks, 0);
	(void)close(fd);
}

static void
test_unix_socket(void **state)
{
	struct world *w = *state;
	char path[96];

	snprintf(path, sizeof(path), "%s/sock", w->r->dir);
	rig_listen(w->r, path);
	begin(w, "TCP=%s\n", path);
	until(w, DEPENDENCY_UP);
	listener_stop(&w->r->listener);
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "sock");
}

/* ---- TLS ---- */

static void
test_tls_shows_the_days_left(void **state)
{
	struct world *w = *state;

	save_leaf("later.pem", "IP:127.0.0.1", -86400, 30 * 86400 + 3600);
	serve(w->r, "later.pem");
	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\n", port(w), file("ca.pem"));
	until(w, DEPENDENCY_UP);
	assert_true(w->d->days_known);
	assert_int_equal(w->d->days_left, 30);
	assert_true(dependency_ok(w->d));
}

static void
test_tls_warns_before_the_end(void **state)
{
	struct world *w = *state;
	struct tls_context *old;

	save_leaf("later.pem", "IP:127.0.0.1", -86400, 3 * 86400 + 3600);
	serve(w->r, "later.pem");
	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\n", port(w), file("ca.pem"));
	until(w, DEPENDENCY_UP);		/* and the gate is open */
	assert_int_equal(w->d->days_left, 3);
	assert_false(dependency_ok(w->d));
	assert_says(w, "the certificate ends in 3 days (DaysLeft=14)");
	assert_int_equal(nlines, 1);
	until_looks(w, 2);
	assert_int_equal(nlines, 1);		/* once */

	/* Renewed: no old session hides it. */
	save_leaf("later.pem", "IP:127.0.0.1", -86400, 90 * 86400 + 3600);
	old = w->r->server_params.tls;
	w->r->server_params.tls = server_context("later.pem");
	tls_context_unref(old);
	RUN_UNTIL(w->r, dependency_ok(w->d));
	assert_int_equal(w->d->days_left, 90);
}

static void
test_tls_verifies(void **state)
{
	struct world *w = *state;

	serve(w->r, "expired.pem");
	begin(w, "TLS=localhost:%u\nCAFile=%s\n", port(w), file("ca.pem"));
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "certificate has expired");
	assert_string_equal(w->d->error.code, "tls_verify");
	assert_false(w->d->days_known);
}

static void
test_tls_wants_the_name(void **state)
{
	struct world *w = *state;

	serve(w->r, "server.pem");
	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\nServerName=other.test\n",
	    port(w), file("ca.pem"));
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "ostname mismatch");
	assert_int_equal(reload(w, "[Check it]\n" FAST "TLS=127.0.0.1:%u\n"
	    "CAFile=%s\nServerName=a.example.test\n", port(w),
	    file("ca.pem")), 1);
	until(w, DEPENDENCY_UP);
}

static void
test_tls_unknown_authority(void **state)
{
	struct world *w = *state;

	serve(w->r, "server.pem");
	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\n", port(w),
	    file("other-ca.pem"));
	until(w, DEPENDENCY_DOWN);
	assert_string_equal(w->d->error.code, "tls_verify");
}

static void
test_tls_peer_that_says_nothing(void **state)
{
	struct world *w = *state;
	struct address a;
	int fd = raw_listen(8, &a);

	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\n", a.port, file("ca.pem"));
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "connected, but the TLS handshake did not end within "
	    "300ms");
	assert_true(w->d->latency_us >= 300 * USEC_PER_MSEC);
	(void)close(fd);
}

static void
test_tls_ca_file_that_is_gone(void **state)
{
	struct world *w = *state;

	serve(w->r, "server.pem");
	begin(w, "TLS=127.0.0.1:%u\nCAFile=%s\n", port(w), "/nonexistent.pem");
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "/nonexistent.pem");
}

/* ---- HTTP ---- */

#define ANSWER(status)	"HTTP/1.1 " status "\r\nContent-Length: 2\r\n" \
	"Connection: close\r\n\r\nok"

static void
test_http_status_decides(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	w->answer = ANSWER("204 No Content");
	begin(w, "HTTP=http://127.0.0.1:%u/health?token=secret\n", port(w));
	w->answer = ANSWER("200 OK");
	until(w, DEPENDENCY_UP);
	/* Invariant 7. */
	assert_null(strstr(w->d->target, "secret"));
	w->answer = ANSWER("503 Service Unavailable");
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "it answers 503, not 200-299 (Status=)");
	w->answer = ANSWER("302 Found");
	until_looks(w, 2);
	assert_says(w, "it answers 302");
	w->answer = ANSWER("299 Fine");
	until(w, DEPENDENCY_UP);
}

static void
test_http_other_statuses_may_be_good(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	w->answer = ANSWER("401 Unauthorized");
	begin(w, "HTTP=http://127.0.0.1:%u\nStatus=200-401\n", port(w));
	until(w, DEPENDENCY_UP);
}

static void
test_http_without_an_answer(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	begin(w, "HTTP=http://127.0.0.1:%u/\n", port(w));
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "no answer within 300ms (Timeout=)");
}

static void
test_http_that_is_none(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	w->answer = "220 mail.example ESMTP\r\n\r\n";
	begin(w, "HTTP=http://127.0.0.1:%u/\n", port(w));
	until(w, DEPENDENCY_DOWN);
	assert_int_equal(w->d->error.class, ERROR_PROTOCOL);
}

static void
test_https_verifies(void **state)
{
	struct world *w = *state;

	serve(w->r, "server.pem");
	w->answer = ANSWER("200 OK");
	begin(w, "HTTP=https://127.0.0.1:%u/\nCAFile=%s\n", port(w),
	    file("ca.pem"));
	until(w, DEPENDENCY_UP);
	tls_context_unref(w->r->server_params.tls);
	w->r->server_params.tls = server_context("expired.pem");
	until(w, DEPENDENCY_DOWN);
	assert_string_equal(w->d->error.code, "tls_verify");
}

/* ---- Redis ---- */

static void
test_redis_ping(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	w->answer = "+PONG\r\n";
	begin(w, "Redis=127.0.0.1:%u\n", port(w));
	until(w, DEPENDENCY_UP);
	assert_true(end_got(&w->r->server, "*1\r\n$4\r\nPING\r\n"));
	w->answer = "-NOAUTH Authentication required.\r\n";
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "the server says: NOAUTH Authentication required.");
	w->answer = "-LOADING Redis is loading the dataset in memory\r\n";
	until_looks(w, 2);
	assert_says(w, "LOADING");
	w->answer = ":1\r\n";
	until_looks(w, 2);
	assert_says(w, "not answered with PONG");
	w->answer = "no Redis at all\r\n";
	until_looks(w, 2);
	assert_int_equal(w->d->error.class, ERROR_PROTOCOL);
	w->answer = NULL;
	until_looks(w, 2);
	assert_says(w, "connected, but PING was not answered within 300ms");
}

static void
test_redis_password(void **state)
{
	struct world *w = *state;
	const char *secret = file("shared.pem");
	FILE *f = fopen(secret, "w");

	assert_non_null(f);
	(void)fputs("hunter2\n", f);
	(void)fclose(f);
	rig_listen(w->r, "127.0.0.1:0");
	w->answer = "+OK\r\n+PONG\r\n";
	begin(w, "Redis=127.0.0.1:%u\nUsername=bot\nPasswordFile=%s\n", port(w),
	    secret);
	until(w, DEPENDENCY_UP);
	assert_true(end_got(&w->r->server, "*3\r\n$4\r\nAUTH\r\n$3\r\nbot\r\n"
	    "$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n"));
	w->answer = "-WRONGPASS invalid username-password pair\r\n"
	    "-NOAUTH Authentication required.\r\n";
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "WRONGPASS");
	assert_null(strstr(last_line, "hunter2"));
	(void)unlink(secret);
	until_looks(w, 2);
	assert_says(w, "shared.pem");
}

/* ---- commands ---- */

static void
test_command_exit_code(void **state)
{
	struct world *w = *state;
	char flag[128];
	FILE *f;

	snprintf(flag, sizeof(flag), "%s", file("shared.pem"));
	begin(w, "Timeout=20s\nCommand=sh -c \"echo first >&2; "
	    "echo no such flag >&2; test -e $0\" %s\n", flag);
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "exit code 1; it says: no such flag");
	assert_string_equal(w->d->target, "sh");
	f = fopen(flag, "w");
	assert_non_null(f);
	(void)fclose(f);
	until(w, DEPENDENCY_UP);
	(void)unlink(flag);
}

static void
test_command_that_is_killed_by_a_signal(void **state)
{
	struct world *w = *state;

	begin(w, "Timeout=20s\nCommand=sh -c \"kill -TERM $$\"\n");
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "killed by SIGTERM");
}

static pid_t
read_pid(const char *path)
{
	FILE *f = fopen(path, "r");
	int pid = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	(void)fclose(f);
	return pid;
}

/* One that hangs is killed with what it has started. */
static void
test_command_that_hangs(void **state)
{
	struct world *w = *state;
	char path[128];
	pid_t pid = 0;

	snprintf(path, sizeof(path), "%s", file("shared.pem"));
	begin(w, "Interval=1h\nTimeout=2s\nCommand=sh -c \"sleep 1000 & "
	    "echo $! > $0; wait\" %s\n", path);
	RUN_UNTIL(w->r, (pid = read_pid(path)) != 0);
	assert_int_equal(kill(pid, 0), 0);
	until(w, DEPENDENCY_DOWN);
	assert_says(w, "it did not end within 2s (Timeout=)");
	RUN_UNTIL(w->r, kill(pid, 0) < 0);
	(void)unlink(path);
}

/* Freed in the middle of it. */
static void
test_command_under_way_at_the_end(void **state)
{
	struct world *w = *state;
	char path[128];
	pid_t pid = 0;

	snprintf(path, sizeof(path), "%s", file("shared.pem"));
	begin(w, "Timeout=1h\nCommand=sh -c \"echo $$ > $0; exec sleep 1000\" "
	    "%s\n", path);
	RUN_UNTIL(w->r, (pid = read_pid(path)) != 0);
	checks_free(w->checks);
	w->checks = NULL;
	assert_true(kill(pid, 0) < 0);
	(void)unlink(path);
}

static void
test_invariant_7_commands_get_no_secrets(void **state)
{
	struct world *w = *state;

	assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "x", 1), 0);
	begin(w, "Timeout=20s\nCommand=sh -c \"test -z "
	    "\\\"$AWS_SECRET_ACCESS_KEY\\\" && test -n \\\"$PATH\\\"\"\n");
	until(w, DEPENDENCY_UP);
	(void)unsetenv("AWS_SECRET_ACCESS_KEY");
}

/* ---- configuration ---- */

static void
test_invariant_9_problems(void **state)
{
	static const struct {
		const char *lines, *problem;
	} cases[] = {
		{ "", "nothing to look at: set one of" },
		{ "TCP=a:1\nTLS=b:2\n", "TCP= and TLS= are both set" },
		{ "TCP=a\n", "TCP=: " },
		{ "TCP=a:1\nDaysLeft=3\n", "DaysLeft= has no effect" },
		{ "TCP=a:1\nStatus=200\n", "Status= has no effect" },
		{ "HTTP=ftp://a/\n", "HTTP=: " },
		{ "HTTP=http://user:pass@a/\n", "HTTP=: " },
		{ "HTTP=http://a/\nCAFile=/x\n", "CAFile= has no effect" },
		{ "Redis=a\nUsername=u\n", "Username= needs PasswordFile=" },
		{ "Redis=a\nServerName=u\n", "ServerName= has no effect" },
		{ "Command=no-such-program-here\n", "no program" },
		{ "Command=bin/x\n", "write the whole path" },
		{ "Command=/etc/passwd\n", "is no program" },
		{ "TCP=a:1\nIntervall=3s\n", "Interval" },
	};
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config *c;

		buffer_clear(&b);
		buffer_printf(&b, "[Check it]\n%s", cases[i].lines);
		c = load(buffer_cstr(&b));
		if (config_problems(c) != 1 || strstr(config_problem_text(c, 0),
		    cases[i].problem) == NULL)
			fail_msg("%s%s", cases[i].lines, config_problems(c) ?
			    config_problem_text(c, 0) : "no problem");
		config_unref(c);
	}
}

static void
test_reload(void **state)
{
	struct world *w = *state;

	rig_listen(w->r, "127.0.0.1:0");
	begin(w, "TCP=127.0.0.1:%u\n", port(w));
	until(w, DEPENDENCY_UP);
	assert_int_equal(reload(w, "[Check it]\n" FAST "TCP=127.0.0.1:%u\n",
	    port(w)), 0);
	/* When to look and what counts: what was found stays. */
	assert_int_equal(reload(w, "[Check it]\n" FAST "Failures=7\n"
	    "TCP=127.0.0.1:%u\n", port(w)), 1);
	assert_int_equal(w->d->state, DEPENDENCY_UP);
	assert_int_equal(w->d->failures, 7);
	/* Another target: of that nothing is known. */
	assert_int_equal(reload(w, "[Check it]\n" FAST "TCP=localhost:%u\n",
	    port(w)), 1);
	assert_int_equal(w->d->state, DEPENDENCY_PENDING);
	assert_false(engine_gate_is_open(&w->engine, "it"));
	until(w, DEPENDENCY_UP);
	assert_int_equal(reload(w, "[Check new]\n" FAST "TCP=127.0.0.1:%u\n",
	    port(w)), 2);
	assert_null(w->d);
	w->d = checks_find(w->checks, "new");
	RUN_UNTIL(w->r, w->d->state == DEPENDENCY_UP);
	assert_true(engine_gate_is_open(&w->engine, "new"));
	/* No look after the stop. */
	checks_stop(w->checks);
	assert_false(timer_armed(&w->d->due));
}

#define check_test(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		check_test(test_tcp_goes_down_and_comes_back),
		check_test(test_the_first_result_counts_at_once),
		check_test(test_the_log_names_the_queues),
		check_test(test_invariant_3_who_does_not_answer_delays_nobody),
		check_test(test_unix_socket),
		check_test(test_tls_shows_the_days_left),
		check_test(test_tls_warns_before_the_end),
		check_test(test_tls_verifies),
		check_test(test_tls_wants_the_name),
		check_test(test_tls_unknown_authority),
		check_test(test_tls_peer_that_says_nothing),
		check_test(test_tls_ca_file_that_is_gone),
		check_test(test_http_status_decides),
		check_test(test_http_other_statuses_may_be_good),
		check_test(test_http_without_an_answer),
		check_test(test_http_that_is_none),
		check_test(test_https_verifies),
		check_test(test_redis_ping),
		check_test(test_redis_password),
		check_test(test_command_exit_code),
		check_test(test_command_that_is_killed_by_a_signal),
		check_test(test_command_that_hangs),
		check_test(test_command_under_way_at_the_end),
		check_test(test_invariant_7_commands_get_no_secrets),
		check_test(test_invariant_9_problems),
		check_test(test_reload),
	};

	return cmocka_run_group_tests(tests, make_certificates,
	    remove_certificates);
}
