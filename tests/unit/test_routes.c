/*
 * routes and the page, over an observer that says what the test wants.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/base64.h"
#include "control/page.h"
#include "control/routes.h"

/* ---- the observer of this test (linked instead of the real one) ---- */

struct observer {
	enum health health;
	bool ready;
	unsigned made;			/* status documents */
	unsigned big;			/* bytes more in it */
	uint64_t last;			/* line of the log */
	void (*on_line)(void *owner);
	void *owner;
};

enum health
observer_health(struct observer *o)
{
	return o->health;
}

bool
observer_ready(struct observer *o)
{
	return o->ready;
}

void
observer_line(struct observer *o, struct buffer *b)
{
	(void)o;
	buffer_add_str(b, "degraded: no queue is connected");
}

json_t *
observer_status(struct observer *o)
{
	json_t *j = json_pack("{s:s,s:f}", "engine", "bot-operator", "rate",
	    81.2);

	o->made++;
	if (o->big != 0) {
		char *fill = xmalloc(o->big);

		memset(fill, 'x', o->big);
		(void)json_object_set_new(j, "fill",
		    json_stringn(fill, o->big));
		free(fill);
	}
	return j;
}

json_t *
observer_log(struct observer *o, uint64_t after, uint64_t *ret_last)
{
	json_t *a = json_array();

	for (uint64_t k = after + 1; k <= o->last; k++)
		(void)json_array_append_new(a, json_pack("{s:I,s:s}", "seq",
		    (json_int_t)k, "text", "a line"));
	*ret_last = o->last;
	return a;
}

void
observer_on_log(struct observer *o, void (*fn)(void *owner), void *owner)
{
	o->on_line = fn;
	o->owner = owner;
}

void
observer_metrics(struct observer *o, struct buffer *b)
{
	(void)o;
	buffer_add_str(b, "# EOF\n");
}

json_t *
observer_history(struct observer *o, enum history_of of, const char *name,
    uint64_t span_us)
{
	(void)o;
	if (strcmp(name, "a b") != 0)
		return NULL;
	return json_pack("{s:i,s:s,s:i}", "of", (int)of, "name", name, "s",
	    (int)(span_us / USEC_PER_SEC));
}

/* ---- asking ---- */

static struct buffer in;
static struct http1_head head;
static struct loop *loop;
static struct http_server *server;
static struct routes *routes;

static void
serve(struct observer *o)
{
	struct address any = { .kind = ADDRESS_IP, .host = "127.0.0.1" };
	struct error err = ERROR_INIT;

	assert_int_equal(loop_new(&loop), 0);
	server = http_server_new(loop, NULL);
	routes = routes_new(server, loop, o);
	assert_int_equal(http_server_listen(server, &any, &err), 0);
}

static void
stop(void)
{
	http_server_free(server);
	routes_free(routes);
	loop_free(loop);	/* finds what was left behind */
}

/* more: header lines. */
static int
dial(const char *path, const char *more)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct buffer question = BUFFER_INIT;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_port = htons(http_server_address(server)->port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	buffer_printf(&question, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s"
	    "\r\n", path, more);
	assert_int_equal(send(fd, buffer_head(&question),
	    buffer_len(&question), MSG_NOSIGNAL), buffer_len(&question));
	buffer_done(&question);
	return fd;
}

/* What has come into b; false at the end of the connection. */
static bool
take(int fd, struct buffer *b)
{
	ssize_t n = recv(fd, buffer_reserve(b, 65536), 65536, MSG_DONTWAIT);

	if (n > 0)
		buffer_commit(b, (size_t)n);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static uint64_t
real_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

/* Turns the loop until cond; fails after 60 s. */
#define UNTIL(cond) \
	do { \
		uint64_t until_us = real_us() + 60 * USEC_PER_SEC; \
		while (!(cond)) { \
			if (real_us() > until_us) \
				fail_msg("never came: %s", #cond); \
			assert_true(loop_turn(loop, 1000) >= 0); \
		} \
	} while (0)

/* The answer's body, with a server of its own; valid until the next one. */
static const char *
ask_with(struct observer *o, const char *path, const char *more,
    const char *token_file)
{
	_cleanup_buffer_ struct buffer lines = BUFFER_INIT;
	struct error err = ERROR_INIT;
	ssize_t len;
	int fd;

	serve(o);
	assert_int_equal(routes_set_token_file(routes, token_file, &err), 0);
	buffer_printf(&lines, "Connection: close\r\n%s", more);
	fd = dial(path, buffer_cstr(&lines));
	buffer_clear(&in);
	UNTIL(!take(fd, &in));
	(void)close(fd);
	stop();
	(void)buffer_cstr(&in);
	len = http1_parse_response(buffer_slice(&in), false, &head, &err);
	assert_true(len > 0);
	assert_int_equal(head.content_length, buffer_len(&in) - (size_t)len);
	return buffer_head(&in) + len;
}

static const char *
ask(struct observer *o, const char *path)
{
	return ask_with(o, path, "", NULL);
}

static void
test_status_follows_health(void **state)
{
	static const struct {
		enum health health;
		unsigned status;
	} cases[] = {
		{ HEALTH_STARTING, 503 }, { HEALTH_OK, 200 },
		{ HEALTH_DEGRADED, 200 }, { HEALTH_DOWN, 503 },
		{ HEALTH_DRAINING, 503 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct observer o = { .health = cases[i].health };

		assert_string_equal(ask(&o, "/.well-known/engine-status"),
		    "{\"engine\":\"bot-operator\",\"rate\":81.2}\n");
		assert_int_equal(head.status, cases[i].status);
		assert_true(slice_is(http1_header(&head, "Content-Type"),
		    "application/json"));
	}
}

static void
test_healthz_and_readyz(void **state)
{
	struct observer o = { .health = HEALTH_DOWN };

	(void)state;
	/* The loop turns, whatever else. */
	assert_string_equal(ask(&o, "/healthz"), "ok\n");
	assert_int_equal(head.status, 200);
	assert_string_equal(ask(&o, "/readyz"),
	    "not ready: degraded: no queue is connected\n");
	assert_int_equal(head.status, 503);
	o.ready = true;
	assert_string_equal(ask(&o, "/readyz"),
	    "degraded: no queue is connected\n");
	assert_int_equal(head.status, 200);
}

static void
test_metrics_and_other_paths(void **state)
{
	struct observer o = { .health = HEALTH_OK };

	(void)state;
	assert_non_null(strstr(ask(&o, "/metrics"), "\n"
	    "bot_operator_status_subscribers_dropped_total 0\n"));
	assert_string_equal(buffer_cstr(&in) + buffer_len(&in) - 6, "# EOF\n");
	assert_true(slice_is(http1_header(&head, "Content-Type"),
	    "application/openmetrics-text; version=1.0.0; charset=utf-8"));
	assert_non_null(strstr(ask(&o, "/nothing"),
	    "/.well-known/engine-status"));
	assert_int_equal(head.status, 404);
}

static void
test_history_reads_its_query(void **state)
{
	struct observer o = { .health = HEALTH_OK };

	(void)state;
	assert_string_equal(ask(&o, "/history.json?queue=a%20b"),
	    "{\"of\":1,\"name\":\"a b\",\"s\":3600}\n");
	assert_true(slice_is(http1_header(&head, "Content-Type"),
	    "application/json"));
	assert_string_equal(ask(&o, "/history.json?span=1h+30min&pool=a+b"),
	    "{\"of\":2,\"name\":\"a b\",\"s\":5400}\n");
	assert_non_null(strstr(ask(&o, "/history.json"), "?queue=NAME"));
	assert_int_equal(head.status, 400);
	(void)ask(&o, "/history.json?queue=a+b&span=25h");
	assert_int_equal(head.status, 400);
	(void)ask(&o, "/history.json?queue=a+b&span=soon");
	assert_int_equal(head.status, 400);
	(void)ask(&o, "/history.json?queue=other");
	assert_int_equal(head.status, 404);
	(void)ask(&o, "/history.json?queue=a+b%00x");
	assert_int_equal(head.status, 400);
}

/* ---- the token ---- */

static char log_text[8192];
static unsigned log_lines;

static void
on_log_line(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	(void)f;
	if (level > LOG_LEVEL_WARNING)
		return;
	log_lines++;
	(void)snprintf(log_text, sizeof(log_text), "%s", text);
}

static char token_path[] = "/tmp/bot-token-XXXXXX";

static void
write_token(const char *token)
{
	int fd = mkstemp(token_path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, token, strlen(token)), strlen(token));
	assert_int_equal(close(fd), 0);
}

/* The name is a pattern again. */
static void
remove_token(void)
{
	assert_int_equal(unlink(token_path), 0);
	memset(token_path + strlen(token_path) - 6, 'X', 6);
}

static unsigned
status_with(const char *path, const char *authorization)
{
	_cleanup_buffer_ struct buffer more = BUFFER_INIT;
	struct observer o = { .health = HEALTH_OK, .ready = true };

	if (authorization != NULL)
		buffer_printf(&more, "Authorization: %s\r\n", authorization);
	(void)ask_with(&o, path, buffer_cstr(&more), token_path);
	return head.status;
}

static unsigned
status_with_basic(const char *user_and_password)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	buffer_add_str(&b, "Basic ");
	base64_add(&b, slice_of(user_and_password));
	return status_with("/", buffer_cstr(&b));
}

static void
test_token_opens_and_nothing_else(void **state)
{
	static const char *const paths[] = { "/", "/events", "/metrics",
		"/readyz", "/history.json?queue=a+b", "/log.json", "/nothing",
		"/.well-known/engine-status" };

	(void)state;
	write_token("s3cr:et\n");
	log_tap(on_log_line, NULL);
	log_tap_exclusive(true);
	log_lines = 0;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		assert_int_equal(status_with(paths[i], NULL), 401);
		assert_true(slice_is(http1_header(&head, "WWW-Authenticate"),
		    "Basic realm=\"bot-operator\", charset=\"UTF-8\""));
	}
	/* Browsers begin without: that is no attempt. */
	assert_int_equal(log_lines, 0);
	assert_int_equal(status_with("/healthz", NULL), 200);
	assert_int_equal(status_with("/%68ealthz", NULL), 200);
	assert_int_equal(status_with("/healthz/", NULL), 401);
	assert_int_equal(status_with("/readyz", "Bearer s3cr:et"), 200);
	assert_int_equal(status_with("/readyz", "bearer  s3cr:et"), 200);
	assert_int_equal(status_with_basic("anybody:s3cr:et"), 200);
	assert_int_equal(status_with_basic(":s3cr:et"), 200);
	assert_int_equal(log_lines, 0);

	assert_int_equal(status_with("/", "Bearer s3cr:e"), 401);
	assert_int_equal(status_with("/", "Bearer s3cr:ett"), 401);
	assert_int_equal(status_with("/", "Bearer "), 401);
	assert_int_equal(status_with("/", "Bearer"), 401);
	assert_int_equal(status_with("/", "Basic !!"), 401);
	assert_int_equal(status_with_basic("s3cr:ett"), 401);
	assert_int_equal(log_lines, 6);
	assert_int_equal(status_with_basic("eve\"\n\\x y:wrong"), 401);
	assert_string_equal(log_text, "event=auth_failed src_ip=127.0.0.1 "
	    "user=\"eve???x?y\" sender=\"\" queue=\"\" reason=\"wrong token\"");
	assert_int_equal(status_with("/", "Digest x"), 401);
	assert_non_null(strstr(log_text, "reason=\"unknown scheme\""));
	assert_null(strstr(log_text, "s3cr"));
	remove_token();
	log_tap_exclusive(false);
	log_tap(NULL, NULL);
}

static void
test_failed_log_ins_are_logged_with_a_bound(void **state)
{
	struct observer o = { .health = HEALTH_OK };
	struct error err = ERROR_INIT;

	(void)state;
	write_token("right");
	clock_set_virtual(100 * USEC_PER_SEC, 0);
	log_tap(on_log_line, NULL);
	log_tap_exclusive(true);
	log_lines = 0;
	serve(&o);
	assert_int_equal(routes_set_token_file(routes, token_path, &err), 0);
	for (unsigned i = 0; i < 30; i++) {
		int fd = dial("/", "Authorization: Bearer no\r\n"
		    "Connection: close\r\n");

		buffer_clear(&in);
		UNTIL(!take(fd, &in));
		(void)close(fd);
		if (i == 28)	/* a second is over: the last one is logged */
			clock_advance(USEC_PER_SEC);
	}
	/* 20, then how many were left out, then the last. */
	assert_int_equal(log_lines, 22);
	/* A token file that is gone changes nothing. */
	assert_true(routes_set_token_file(routes, "/nonexistent", &err) < 0);
	assert_non_null(strstr(err.text, "/nonexistent"));
	stop();
	log_tap_exclusive(false);
	log_tap(NULL, NULL);
	clock_set_real();
	remove_token();
}

/* ---- events ---- */

static unsigned
count(struct buffer *b, const char *what)
{
	unsigned n = 0;

	for (const char *p = buffer_cstr(b); (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static unsigned
connections(void)
{
	struct http_server_stats stats;

	http_server_get_stats(server, &stats);
	return (unsigned)stats.connections;
}

/* Reads all of them; true when each has so many of what. */
static bool
all_have(const int *fds, struct buffer *got, unsigned n, const char *what,
    unsigned times)
{
	bool all = true;

	for (unsigned i = 0; i < n; i++) {
		assert_true(take(fds[i], &got[i]));
		all &= count(&got[i], what) == times;
	}
	return all;
}

static void
test_events_are_made_once_for_all(void **state)
{
	struct observer o = { .health = HEALTH_OK, .last = 3 };
	struct buffer got[3] = { BUFFER_INIT, BUFFER_INIT, BUFFER_INIT };
	int fds[3];

	(void)state;
	clock_set_virtual(100 * USEC_PER_SEC, 0);
	serve(&o);
	for (int i = 0; i < 3; i++)
		fds[i] = dial("/events", "");
	UNTIL(all_have(fds, got, 3, "event: status\n", 1));
	assert_non_null(strstr(buffer_cstr(&got[0]),
	    "Content-Type: text/event-stream\r\n"));
	assert_null(strstr(buffer_cstr(&got[0]), "Content-Length"));
	assert_non_null(strstr(buffer_cstr(&got[0]), "retry: 3000\n\n"));
	assert_non_null(strstr(buffer_cstr(&got[0]), "event: log\n"
	    "data: [{\"seq\":1,\"text\":\"a line\"},"));
	assert_int_equal(o.made, 3);
	clock_advance(2 * USEC_PER_SEC);
	UNTIL(all_have(fds, got, 3, "data: {\"engine\":\"bot-operator\"", 2));
	assert_int_equal(o.made, 4);

	/* Lines that come together go together. */
	o.last = 5;
	o.on_line(o.owner);
	o.on_line(o.owner);
	clock_advance(300 * USEC_PER_MSEC);
	UNTIL(all_have(fds, got, 3, "event: log\ndata: [{\"seq\":4,\"text\":"
	    "\"a line\"},{\"seq\":5,\"text\":\"a line\"}]\n\n", 1));
	clock_advance(15 * USEC_PER_SEC);
	UNTIL(all_have(fds, got, 3, ": beat\n\n", 1));

	/* Nothing is made for nobody. */
	for (int i = 0; i < 3; i++) {
		(void)close(fds[i]);
		buffer_done(&got[i]);
	}
	UNTIL(connections() == 0);
	o.made = 0;
	for (int i = 0; i < 5; i++) {
		clock_advance(20 * USEC_PER_SEC);
		assert_true(loop_turn(loop, 0) >= 0);
	}
	assert_int_equal(o.made, 0);
	o.on_line(o.owner);
	stop();
	clock_set_real();
}

static void
test_subscribers_are_bounded(void **state)
{
	struct observer o = { .health = HEALTH_OK };
	struct buffer got[9] = { BUFFER_INIT };
	int fds[9];

	(void)state;
	serve(&o);
	for (int i = 0; i < 8; i++)
		fds[i] = dial("/events", "");
	UNTIL(all_have(fds, got, 8, "event: log\n", 1));
	fds[8] = dial("/events", "");
	UNTIL(!take(fds[8], &got[8]));
	assert_non_null(strstr(buffer_cstr(&got[8]), "HTTP/1.1 503 "));
	assert_non_null(strstr(buffer_cstr(&got[8]), "8 of one address"));
	(void)close(fds[8]);

	/* Who is gone makes room. */
	(void)close(fds[0]);
	UNTIL(connections() == 7);
	fds[8] = dial("/events", "");
	buffer_clear(&got[8]);
	UNTIL((assert_true(take(fds[8], &got[8])),
	    count(&got[8], "event: log\n") == 1));
	/* And others are still answered. */
	(void)close(fds[1]);
	fds[1] = dial("/healthz", "");
	buffer_clear(&got[1]);
	UNTIL((take(fds[1], &got[1]), count(&got[1], "ok\n") == 1));
	for (int i = 1; i < 9; i++)
		(void)close(fds[i]);
	for (int i = 0; i < 9; i++)
		buffer_done(&got[i]);
	stop();
}

static void
test_subscriber_that_does_not_read_is_dropped(void **state)
{
	struct observer o = { .health = HEALTH_OK, .big = 100000 };
	struct buffer got = BUFFER_INIT;
	struct http_server_stats stats;
	int slow, good, small = 4096;

	(void)state;
	clock_set_virtual(100 * USEC_PER_SEC, 0);
	serve(&o);
	slow = dial("/events", "");
	assert_int_equal(setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &small,
	    sizeof(small)), 0);
	good = dial("/events", "");
	UNTIL((assert_true(take(good, &got)), count(&got, "event: log") == 1));
	UNTIL((http_server_get_stats(server, &stats), o.made == 2));
	for (int i = 0; i < 200 && stats.cut == 0; i++) {
		unsigned made = o.made;

		buffer_clear(&got);
		/* A big document comes less often. */
		clock_advance(6 * USEC_PER_SEC);
		UNTIL((assert_true(take(good, &got)), o.made > made &&
		    count(&got, "\"}\n\n") >= 1));
		http_server_get_stats(server, &stats);
	}
	assert_int_equal(stats.cut, 1);
	/* The other one has not noticed. */
	buffer_clear(&got);
	clock_advance(6 * USEC_PER_SEC);
	UNTIL((assert_true(take(good, &got)), count(&got, "\"}\n\n") >= 1));
	(void)close(slow);
	(void)close(good);
	buffer_done(&got);
	stop();
	clock_set_real();
}

/* ---- the page ---- */

static void
test_page_is_served_with_a_strict_policy(void **state)
{
	struct observer o = { .health = HEALTH_OK };
	const char *page, *policy = page_policy();

	(void)state;
	page = ask(&o, "/");
	assert_int_equal(head.status, 200);
	assert_non_null(strstr(page, "<!DOCTYPE html>"));
	assert_true(slice_is(http1_header(&head, "Content-Type"),
	    "text/html; charset=utf-8"));
	assert_true(slice_is(http1_header(&head, "Content-Security-Policy"),
	    policy));
	assert_non_null(strstr(policy, "default-src 'none'; "
	    "script-src 'sha256-"));
	assert_non_null(strstr(policy, "; style-src 'sha256-"));
	assert_null(strstr(policy, "unsafe"));
	assert_null(strstr(policy, "*"));
	/* Nothing is loaded from anywhere. */
	assert_null(strstr(page, "src="));
	assert_null(strstr(page, "@import"));
	assert_null(strstr(page, "url("));
	assert_null(strstr(page, "//cdn"));
}

/* Between the begin of the tables and the script, which has its own signs. */
static char *
tables_of(struct buffer *page)
{
	char *all = buffer_dup(page), *begin = strstr(all, "<div id=\"plain\">");
	char *end, *part;

	assert_non_null(begin);
	end = strstr(begin, "<script>");
	assert_non_null(end);
	*end = '\0';
	part = xstrdup(begin);
	free(all);
	return part;
}

static void
test_page_shows_figures_and_escapes(void **state)
{
	struct buffer b = BUFFER_INIT;
	json_error_t je;
	json_t *status = json_loads(
	    "{\"instance\":\"<script>alert('x')</script>\",\"status\":\"ok\","
	    "\"version\":\"1\",\"since\":\"s\",\"backlog\":12,"
	    "\"uptime_seconds\":5,\"queues\":{\"a<b>\":{\"type\":\"redis\","
	    "\"connected\":false,\"error\":{\"text\":\"\\\"no\\\" & <br>\","
	    "\"since\":\"then\"},\"paused\":true,\"paused_by\":[\"check\","
	    "\"pool\"],\"errors\":{\"<img src=x>\":4},"
	    "\"backlog\":null,\"rate_per_second\":81.25,\"done\":990,"
	    "\"processing_ms\":{\"p99\":70}}},\"pools\":{\"mail\":{\"up\":true,"
	    "\"workers\":4}},\"checks\":[{\"name\":\"queue:a<b>\","
	    "\"status\":\"x\\\" onload=1\",\"detail\":\"<i>\"},"
	    "{\"name\":\"pool:p\",\"status\":\"down\",\"detail\":\"gone\","
	    "\"since\":\"noon\"}],\"alerts\":[{\"name\":\"quiet\",\"state\":"
	    "\"firing\",\"silenced\":true,\"silence\":\"q*\"},{\"name\":\"late\","
	    "\"state\":\"firing\",\"subject\":\"queue:a\",\"when\":\"x > 1\"}],"
	    "\"dependencies\":{\"db\":{\"status\":\"down\",\"queues\":[\"a\","
	    "\"b\"]}}}", 0, &je);
	json_t *log = json_loads("[{\"seq\":1,\"at\":\"10\",\"level\":"
	    "\"warning\",\"queue\":\"q<\",\"text\":\"<u>first\"},{\"seq\":2,"
	    "\"at\":\"11\",\"level\":\"error\",\"text\":\"second\"}]", 0, &je);
	char *page;

	(void)state;
	assert_non_null(status);
	assert_non_null(log);
	page_add(&b, status, log);
	page = tables_of(&b);
	assert_non_null(strstr(page, "backlog <b>12</b>"));
	assert_non_null(strstr(page, "<td class=n>990"));
	assert_non_null(strstr(page, "<td class=n>70"));
	assert_non_null(strstr(page, "<td class=n>81.2"));
	assert_non_null(strstr(page, "<td class=n>&ndash;"));
	assert_non_null(strstr(page, "redis, not connected, paused by check, "
	    "pool: &quot;no&quot; &amp; &lt;br&gt; <span class=faint>since "
	    "then"));
	assert_non_null(strstr(page, "a&lt;b&gt;"));
	assert_non_null(strstr(page, "&lt;script&gt;alert(&#39;x&#39;)"));
	assert_non_null(strstr(page, "x&quot; onload=1"));
	assert_non_null(strstr(page, "&lt;img src=x&gt;<td>4"));
	assert_non_null(strstr(page, "<td>queue q&lt;<td>&lt;u&gt;first"));
	/* The newest line stands first. */
	assert_true(strstr(page, "second") < strstr(page, "first"));
	assert_null(strstr(page, "<script"));
	assert_null(strstr(page, "<i>"));
	assert_null(strstr(page, "<br>"));
	assert_null(strstr(page, "<img"));
	assert_null(strstr(page, "<u>"));
	assert_null(strstr(page, "\" onload"));
	/* What is wrong, worst first; what is silenced is in its table only. */
	assert_non_null(strstr(page, "<li><span class=\"state down\">down"
	    "</span> <b>pool:p</b> gone <span class=faint>since noon"));
	assert_non_null(strstr(page, "<b>late / queue:a</b> x &gt; 1"));
	assert_true(strstr(page, "<b>pool:p") < strstr(page, "<b>late"));
	assert_null(strstr(page, "<b>quiet"));
	assert_non_null(strstr(page, "quiet<td>"));
	assert_non_null(strstr(page, "<td>a, b"));
	free(page);
	json_decref(status);
	json_decref(log);

	/* An empty or a strange document makes a page too. */
	buffer_clear(&b);
	status = json_pack("{s:i,s:[]}", "queues", 3, "pools");
	page_add(&b, status, NULL);
	assert_non_null(strstr(buffer_cstr(&b), "</html>"));
	json_decref(status);
	buffer_done(&b);
}

/* An "@" of a name is no mark of the page. */
static void
test_page_fills_marks_of_its_own_only(void **state)
{
	struct buffer b = BUFFER_INIT;
	json_t *status = json_pack("{s:s,s:s}", "instance", "@SCRIPT@",
	    "status", "ok");
	char *page;

	(void)state;
	page_add(&b, status, NULL);
	page = tables_of(&b);
	assert_non_null(strstr(page, "<h1>@SCRIPT@ "));
	assert_null(strstr(page, "@TABLES@"));
	free(page);
	json_decref(status);
	buffer_done(&b);
}

static int
cleanup(void **state)
{
	(void)state;
	buffer_done(&in);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_follows_health),
		cmocka_unit_test(test_healthz_and_readyz),
		cmocka_unit_test(test_metrics_and_other_paths),
		cmocka_unit_test(test_history_reads_its_query),
		cmocka_unit_test(test_token_opens_and_nothing_else),
		cmocka_unit_test(test_failed_log_ins_are_logged_with_a_bound),
		cmocka_unit_test(test_events_are_made_once_for_all),
		cmocka_unit_test(test_subscribers_are_bounded),
		cmocka_unit_test(test_subscriber_that_does_not_read_is_dropped),
		cmocka_unit_test(test_page_is_served_with_a_strict_policy),
		cmocka_unit_test(test_page_shows_figures_and_escapes),
		cmocka_unit_test(test_page_fills_marks_of_its_own_only),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
