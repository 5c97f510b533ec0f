/*
 * routes and the page, over an observer that says what the test wants.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "control/routes.h"

/* ---- the observer of this test (linked instead of the real one) ---- */

struct observer {
	enum health health;
	bool ready;
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
	(void)o;
	return json_pack("{s:s,s:f}", "engine", "bot-operator", "rate", 81.2);
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

/* The answer's body; valid until the next question. */
static const char *
ask(struct observer *o, const char *path)
{
	struct address any = { .kind = ADDRESS_IP, .host = "127.0.0.1" };
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct http_server *server;
	struct error err = ERROR_INIT;
	struct buffer question = BUFFER_INIT;
	uint64_t until;
	struct loop *loop;
	ssize_t len, n;
	int fd;

	assert_int_equal(loop_new(&loop), 0);
	server = http_server_new(loop, NULL);
	routes_add(server, o);
	assert_int_equal(http_server_listen(server, &any, &err), 0);
	sin.sin_port = htons(http_server_address(server)->port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	buffer_printf(&question, "GET %s HTTP/1.1\r\nHost: localhost\r\n"
	    "Connection: close\r\n\r\n", path);
	assert_int_equal(send(fd, buffer_head(&question),
	    buffer_len(&question), MSG_NOSIGNAL), buffer_len(&question));

	buffer_clear(&in);
	until = clock_monotonic_us() + 10 * USEC_PER_SEC;
	do {
		assert_true(clock_monotonic_us() < until);
		assert_true(loop_turn(loop, 1000) >= 0);
		n = recv(fd, buffer_reserve(&in, 65536), 65536, MSG_DONTWAIT);
		if (n > 0)
			buffer_commit(&in, (size_t)n);
	} while (n != 0);
	(void)close(fd);
	http_server_free(server);
	loop_free(loop);
	buffer_done(&question);
	(void)buffer_cstr(&in);
	len = http1_parse_response(buffer_slice(&in), false, &head, &err);
	assert_true(len > 0);
	assert_int_equal(head.content_length, buffer_len(&in) - (size_t)len);
	return buffer_head(&in) + len;
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
	assert_string_equal(ask(&o, "/metrics"), "# EOF\n");
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

static void
test_page_is_served_with_a_strict_policy(void **state)
{
	struct observer o = { .health = HEALTH_OK };
	const char *page;

	(void)state;
	page = ask(&o, "/");
	assert_int_equal(head.status, 200);
	assert_non_null(strstr(page, "<!DOCTYPE html>"));
	assert_true(slice_is(http1_header(&head, "Content-Type"),
	    "text/html; charset=utf-8"));
	assert_true(slice_is(http1_header(&head, "Content-Security-Policy"),
	    page_policy));
	assert_non_null(strstr(page_policy, "default-src 'none'"));
	assert_null(strstr(page_policy, "script"));
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
	    "\"connected\":false,\"error\":{\"text\":\"\\\"no\\\" & <br>\"},"
	    "\"backlog\":null,\"rate_per_second\":81.25,\"done\":990,"
	    "\"processing_ms\":{\"p99\":70}}},\"pools\":{\"mail\":{\"up\":true,"
	    "\"workers\":4}},\"checks\":[{\"name\":\"queue:a<b>\","
	    "\"status\":\"x\\\" onload=1\",\"detail\":\"<i>\"}]}", 0, &je);
	const char *page;

	(void)state;
	assert_non_null(status);
	page_add(&b, status);
	page = buffer_cstr(&b);
	assert_non_null(strstr(page, "Backlog <b>12</b>"));
	assert_non_null(strstr(page, "<td class=n>990"));
	assert_non_null(strstr(page, "<td class=n>70"));
	assert_non_null(strstr(page, "<td class=n>81.2"));
	assert_non_null(strstr(page, "<td class=n>&ndash;"));
	assert_non_null(strstr(page, "redis, not connected: "
	    "&quot;no&quot; &amp; &lt;br&gt;"));
	assert_non_null(strstr(page, "a&lt;b&gt;"));
	assert_non_null(strstr(page, "&lt;script&gt;alert(&#39;x&#39;)"));
	assert_non_null(strstr(page, "x&quot; onload=1"));
	assert_null(strstr(page, "<script"));
	assert_null(strstr(page, "<i>"));
	assert_null(strstr(page, "<br>"));
	assert_null(strstr(page, "\" onload"));
	/* Nothing is loaded from anywhere. */
	assert_null(strstr(page, "http://"));
	assert_null(strstr(page, "https://"));
	assert_null(strstr(page, "src="));
	json_decref(status);

	/* An empty or a strange document makes a page too. */
	buffer_clear(&b);
	status = json_pack("{s:i,s:[]}", "queues", 3, "pools");
	page_add(&b, status);
	assert_non_null(strstr(buffer_cstr(&b), "</html>"));
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
		cmocka_unit_test(test_page_is_served_with_a_strict_policy),
		cmocka_unit_test(test_page_shows_figures_and_escapes),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
