/*
 * http_server over real loopback sockets: what it answers, and how it holds
 * out against clients that are slow, many, or wrong.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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
#include "control/http_message.h"
#include "control/http_server.h"

#define GET(path, more)	"GET " path " HTTP/1.1\r\nHost: localhost\r\n" more "\r\n"
#define BIG		((size_t)300000)

static struct loop *loop;
static struct http_server *server;
static unsigned hits;
static uint64_t virtual_us;

/* ---- the rig ---- */

static void
on_hit(void *owner, const struct http_request *req, struct http_response *r)
{
	(void)owner;
	hits++;
	buffer_printf(&r->body, "hit %.*s?%.*s\n", (int)req->path.n,
	    req->path.p, (int)req->query.n, req->query.p);
	http_response_header(r, "X-Hit", "yes");
}

static void
on_big(void *owner, const struct http_request *req, struct http_response *r)
{
	(void)owner;
	(void)req;
	hits++;
	memset(buffer_reserve(&r->body, BIG), 'b', BIG);
	buffer_commit(&r->body, BIG);
}

static void
on_busy(void *owner, const struct http_request *req, struct http_response *r)
{
	(void)owner;
	(void)req;
	r->status = 503;
	r->content_type = "application/json";
	buffer_add_str(&r->body, "{}");
}

static void
start(const struct http_server_params *p)
{
	struct address a = { .kind = ADDRESS_IP, .host = "127.0.0.1" };
	struct error err = ERROR_INIT;

	hits = 0;
	assert_int_equal(loop_new(&loop), 0);
	server = http_server_new(loop, p);
	http_server_route(server, "/", "the root", on_hit, NULL);
	http_server_route(server, "/hit it", "a path with a space", on_hit,
	    NULL);
	http_server_route(server, "/big", "much", on_big, NULL);
	http_server_route(server, "/busy", "a 503", on_busy, NULL);
	if (http_server_listen(server, &a, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(http_server_address(server)->port != 0);
}

static int
teardown(void **state)
{
	(void)state;
	http_server_free(server);
	loop_free(loop);	/* finds what was left behind */
	server = NULL;
	loop = NULL;
	clock_set_real();
	return 0;
}

static int
setup(void **state)
{
	(void)state;
	start(NULL);
	return 0;
}

static uint64_t
real_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static void
turn(void)
{
	assert_true(loop_turn(loop, 1000) >= 0);
}

/* Turns the loop until cond; fails after 60 s. */
#define UNTIL(cond) \
	do { \
		uint64_t until_us = real_us() + 60 * USEC_PER_SEC; \
		while (!(cond)) { \
			if (real_us() > until_us) \
				fail_msg("never came: %s", #cond); \
			turn(); \
		} \
	} while (0)

static struct http_server_stats
stats(void)
{
	struct http_server_stats s;

	http_server_get_stats(server, &s);
	return s;
}

/* Clients are plain non-blocking sockets. */
static int
dial(int rcvbuf)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(http_server_address(server)->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	if (rcvbuf != 0)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf,
		    sizeof(rcvbuf)), 0);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	/* What is said arrives at once, also while time stands still. */
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
	    sizeof(on)), 0);
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* Whatever is there. True at the end of the connection. */
static bool
take(int fd, struct buffer *b)
{
	ssize_t n;

	while ((n = recv(fd, buffer_reserve(b, 65536), 65536, 0)) > 0)
		buffer_commit(b, (size_t)n);
	if (n < 0 && errno != EAGAIN)
		fail_msg("the connection broke: %s", strerror(errno));
	return n == 0;
}

struct answer {
	struct http1_head head;
	struct buffer bytes;
	struct slice body;
};

/* Splits one answer off the front of in. */
static bool
split_answer(struct buffer *in, bool to_head, struct answer *a)
{
	struct error err;
	ssize_t n = http1_parse_response(buffer_slice(in), to_head, &a->head,
	    &err);
	size_t whole;

	if (n < 0)
		fail_msg("not an answer: %s: %.*s", err.text,
		    (int)buffer_len(in), buffer_head(in));
	if (n == 0)
		return false;
	whole = (size_t)n;
	if (!to_head) {
		assert_int_equal(a->head.body, HTTP1_BODY_LENGTH);
		whole += a->head.content_length;
	}
	if (buffer_len(in) < whole)
		return false;
	/* A copy, into which the slices point. */
	buffer_clear(&a->bytes);
	buffer_add(&a->bytes, buffer_head(in), whole);
	assert_int_equal(http1_parse_response(buffer_slice(&a->bytes), to_head,
	    &a->head, &err), n);
	a->body = (struct slice){ buffer_head(&a->bytes) + n,
		whole - (size_t)n };
	buffer_consume(in, whole);
	return true;
}

static void
wait_answer(int fd, struct buffer *in, bool to_head, struct answer *a)
{
	UNTIL(((void)take(fd, in), split_answer(in, to_head, a)));
}

/* One question on a connection of its own; its status. */
static unsigned
ask(const char *question, struct answer *a)
{
	struct buffer in = BUFFER_INIT;
	int fd = dial(0);
	unsigned status;

	say(fd, question);
	wait_answer(fd, &in, strncmp(question, "HEAD", 4) == 0, a);
	status = a->head.status;
	buffer_done(&in);
	(void)close(fd);
	return status;
}

static void
assert_status(const char *question, unsigned want, const char *text)
{
	struct answer a = { .bytes = BUFFER_INIT };
	unsigned got = ask(question, &a);

	buffer_cstr(&a.bytes);
	if (got != want || strstr(buffer_cstr(&a.bytes), text) == NULL)
		fail_msg("%s\nwanted %u and \"%s\", got:\n%s", question, want,
		    text, buffer_cstr(&a.bytes));
	buffer_done(&a.bytes);
}

static void
go_virtual(void)
{
	virtual_us = clock_monotonic_us();
	clock_set_virtual(virtual_us, 784111777 * USEC_PER_SEC);
}

static void
advance_ms(uint64_t ms)
{
	clock_advance(ms * USEC_PER_MSEC);
	turn();
	turn();
}

/* ---- answers ---- */

static void
test_get_and_its_headers(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };

	(void)state;
	go_virtual();
	assert_int_equal(ask(GET("/hit%20it?a=b", ""), &a), 200);
	assert_true(slice_is(a.body, "hit /hit it?a=b\n"));
	assert_true(slice_is(http1_header(&a.head, "Content-Type"),
	    "text/plain; charset=utf-8"));
	assert_true(slice_is(http1_header(&a.head, "Cache-Control"),
	    "no-store"));
	assert_true(slice_is(http1_header(&a.head, "X-Content-Type-Options"),
	    "nosniff"));
	assert_true(slice_is(http1_header(&a.head, "Date"),
	    "Sun, 06 Nov 1994 08:49:37 GMT"));
	assert_true(slice_is(http1_header(&a.head, "X-Hit"), "yes"));
	assert_null(http1_header(&a.head, "Connection").p);
	assert_true(a.head.keep_alive);
	assert_status(GET("/busy", ""), 503, "application/json");
	assert_status("GET http://localhost/hit%20it HTTP/1.1\r\nHost: x\r\n"
	    "\r\n", 200, "hit /hit it");
	buffer_done(&a.bytes);
}

static void
test_head_has_no_body(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	int fd = dial(0);

	(void)state;
	/* The next answer starts right behind the head. */
	say(fd, "HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n" GET("/", "")
	    "HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n" GET("/", ""));
	wait_answer(fd, &in, true, &a);
	assert_int_equal(a.head.content_length, BIG);
	wait_answer(fd, &in, false, &a);
	assert_true(slice_is(a.body, "hit /?\n"));
	wait_answer(fd, &in, true, &a);
	assert_int_equal(a.head.status, 404);
	wait_answer(fd, &in, false, &a);
	assert_true(slice_is(a.body, "hit /?\n"));
	buffer_done(&in);
	buffer_done(&a.bytes);
	(void)close(fd);
}

static void
test_keep_alive_and_close(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	int fd = dial(0);

	(void)state;
	for (int i = 0; i < 3; i++) {
		say(fd, GET("/", ""));
		wait_answer(fd, &in, false, &a);
		assert_int_equal(stats().connections, 1);
	}
	say(fd, GET("/", "Connection: close\r\n") GET("/", ""));
	wait_answer(fd, &in, false, &a);
	assert_false(a.head.keep_alive);
	UNTIL(take(fd, &in));
	assert_int_equal(buffer_len(&in), 0);	/* not one answer more */
	assert_int_equal(hits, 4);
	assert_int_equal(stats().accepted, 1);
	(void)close(fd);

	/* HTTP/1.0 ends, unless it asks not to. */
	fd = dial(0);
	say(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	wait_answer(fd, &in, false, &a);
	assert_true(slice_is(http1_header(&a.head, "Connection"),
	    "keep-alive"));
	say(fd, "GET / HTTP/1.0\r\n\r\n");
	wait_answer(fd, &in, false, &a);
	UNTIL(take(fd, &in));
	(void)close(fd);
	UNTIL(stats().connections == 0);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

/* A client that stops sending still gets its answer. */
static void
test_half_closed_client_is_answered(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	int fd = dial(0);

	(void)state;
	say(fd, GET("/", ""));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	wait_answer(fd, &in, false, &a);
	UNTIL(take(fd, &in));
	(void)close(fd);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

static void
test_pipelined_in_order_and_in_pieces(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT, out = BUFFER_INIT;
	struct slice rest;
	int fd = dial(0);
	char want[32];

	(void)state;
	for (int i = 0; i < 500; i++)
		buffer_printf(&out, "GET /?%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
	rest = buffer_slice(&out);
	for (int i = 0; i < 500; i++) {
		UNTIL(({
			/* Odd pieces, so that heads are split anywhere. */
			ssize_t n = rest.n == 0 ? 0 : send(fd, rest.p,
			    MIN(rest.n, (size_t)997), MSG_NOSIGNAL);

			if (n > 0) {
				rest.p += n;
				rest.n -= (size_t)n;
			}
			(void)take(fd, &in);
			split_answer(&in, false, &a);
		}));
		snprintf(want, sizeof(want), "hit /?%d\n", i);
		if (!slice_is(a.body, want))
			fail_msg("wanted %s, got %.*s", want, (int)a.body.n,
			    a.body.p);
	}
	assert_int_equal(stats().requests, 500);
	buffer_done(&in);
	buffer_done(&out);
	buffer_done(&a.bytes);
	(void)close(fd);
}

/* Of one connection's pipeline only so many are answered in one turn. */
static void
test_pipeline_is_bounded_in_a_turn(void **state)
{
	struct buffer in = BUFFER_INIT, out = BUFFER_INIT;
	struct answer a = { .bytes = BUFFER_INIT };
	unsigned before, most = 0;
	int fd;

	(void)state;
	fd = dial(0);
	say(fd, GET("/", ""));
	wait_answer(fd, &in, false, &a);
	for (int i = 0; i < 100; i++)
		buffer_add_str(&out, GET("/", ""));
	say(fd, buffer_cstr(&out));
	UNTIL((before = hits, turn(), most = MAX(most, hits - before),
	    hits == 101));
	assert_true(most <= 32);
	for (int i = 0; i < 100; i++)
		wait_answer(fd, &in, false, &a);
	buffer_done(&in);
	buffer_done(&out);
	buffer_done(&a.bytes);
	(void)close(fd);
}

/* A client that asks and asks but never reads fills no memory. */
static void
test_unread_answers_are_bounded(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	unsigned before;
	int fd = dial(4096);

	(void)state;
	for (int i = 0; i < 100; i++)
		say(fd, GET("/big", ""));
	do {
		before = hits;
		for (int i = 0; i < 50; i++)
			turn();
	} while (hits != before);
	assert_true(hits < 50);
	/* And once it reads, all come. */
	for (int i = 0; i < 100; i++) {
		wait_answer(fd, &in, false, &a);
		assert_int_equal(a.body.n, BIG);
	}
	assert_int_equal(hits, 100);
	buffer_done(&in);
	buffer_done(&a.bytes);
	(void)close(fd);
}

/* ---- refusals ---- */

static void
test_bad_requests_are_told_why(void **state)
{
	struct buffer b = BUFFER_INIT;

	(void)state;
	assert_status("GET / HTTP/1.1\r\n\r\n", 400, "no Host header");
	assert_status("\x16\x03\x01\x02", 400, "no TLS");
	assert_status("GET / HTTP/1.1\nHost: a\n\n", 400, "without CR");
	assert_status("GET / HTTP/2.0\r\n\r\n", 505, "HTTP/1.1");
	assert_status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1");
	assert_status(GET("/%zz", ""), 400, "%25");
	assert_status(GET("*", ""), 400, "path");
	assert_status(GET("https://localhost/", ""), 400, "path");
	assert_status(GET("/none", ""), 404, "/hit it");
	assert_status(GET("/%00", ""), 404, "/hit it");
	assert_status(GET("/x/../", ""), 404, "/hit it");
	assert_status(GET("/", "A : b\r\n"), 400, "header name");
	assert_status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "HOST:PORT");
	assert_status("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "HOST:PORT");
	assert_status("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400, "HOST:PORT");
	assert_status("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "HOST:PORT");
	assert_int_equal(hits, 0);

	buffer_add_str(&b, "GET / HTTP/1.1\r\nHost: a\r\nCookie: ");
	while (buffer_len(&b) <= HTTP1_HEAD_MAX)
		buffer_add_char(&b, 'c');
	assert_status(buffer_cstr(&b), 431, "fewer cookies");
	buffer_clear(&b);
	buffer_add_str(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HTTP1_HEADERS_MAX; i++)
		buffer_add_str(&b, "a: b\r\n");
	buffer_add_str(&b, "\r\n");
	assert_status(buffer_cstr(&b), 431, "64 headers");
	buffer_done(&b);
}

static void
test_only_get_and_head(void **state)
{
	(void)state;
	assert_status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
	    "abc", 405, "Allow: GET, HEAD");
	assert_status("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "botctl");
	assert_status("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "botctl");
	assert_status("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405, "botctl");
	assert_status("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405,
	    "botctl");
	assert_int_equal(hits, 0);
}

static void
test_bodies_are_refused_and_never_taken_for_requests(void **state)
{
	static const char *const questions[] = {
		GET("/", "Content-Length: 5\r\n") "abcde" GET("/", ""),
		GET("/", "Transfer-Encoding: chunked\r\n") "0\r\n\r\n"
		    GET("/", ""),
		GET("/", "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n")
		    "0\r\n\r\n" GET("/", ""),
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 41\r\n\r\n"
		    GET("/", ""),
	};
	static const unsigned statuses[] = { 413, 413, 400, 405 };
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		int fd = dial(0);

		say(fd, questions[i]);
		wait_answer(fd, &in, false, &a);
		assert_int_equal(a.head.status, statuses[i]);
		assert_false(a.head.keep_alive);
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
		UNTIL(take(fd, &in));
		assert_int_equal(buffer_len(&in), 0);
		(void)close(fd);
	}
	assert_int_equal(hits, 0);
	/* An empty body is none. */
	assert_status(GET("/", "Content-Length: 0\r\n"), 200, "hit");
	buffer_done(&in);
	buffer_done(&a.bytes);
}

/* A large body that is still on its way must not cost the client the answer. */
static void
test_answer_survives_a_large_unread_body(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	char piece[4096] = { 0 };
	int fd = dial(0);

	(void)state;
	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
	    "\r\n");
	for (size_t sent = 0; sent < 4000000;) {
		ssize_t n = send(fd, piece, MIN(sizeof(piece),
		    (size_t)4000000 - sent), MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else
			assert_int_equal(errno, EAGAIN);
		turn();
	}
	wait_answer(fd, &in, false, &a);
	assert_int_equal(a.head.status, 405);
	(void)close(fd);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

static void
test_host_names(void **state)
{
	char one[] = "status.example.org", two[] = "bot";
	char *names[] = { one, two, NULL };
	struct http_server_params p = { .names = names };

	(void)state;
	start(&p);
	memset(one, 'x', 4);	/* they were copied */
#define HOST(h)	"GET / HTTP/1.1\r\nHost: " h "\r\n\r\n"
	assert_status(HOST("status.example.org"), 200, "hit");
	assert_status(HOST("STATUS.example.org:8080"), 200, "hit");
	assert_status(HOST("status.example.org."), 200, "hit");
	assert_status(HOST("bot"), 200, "hit");
	assert_status(HOST("LocalHost:80"), 200, "hit");
	assert_status(HOST("127.0.0.1:8080"), 200, "hit");
	assert_status(HOST("192.0.2.7"), 200, "hit");
	assert_status(HOST("[::1]:8080"), 200, "hit");
	assert_status("GET / HTTP/1.0\r\n\r\n", 200, "hit");
	hits = 0;
	assert_status(HOST("evil.example"), 421, "localhost");
	assert_status(HOST("bot.evil.example"), 421, "localhost");
	assert_status(HOST("localhost.evil.example"), 421, "localhost");
	assert_status(HOST("127.0.0.1.evil.example"), 421, "localhost");
	assert_status(HOST("xtatus.example.org"), 421, "localhost");
	assert_status(HOST("127.1"), 421, "localhost");
	assert_status(HOST(""), 421, "localhost");
	assert_status(HOST("[bot]"), 400, "HOST:PORT");
	assert_status(HOST("bot@evil"), 400, "HOST:PORT");
	/* The target's own authority counts, not the header. */
	assert_status("GET http://evil.example/ HTTP/1.1\r\nHost: bot\r\n\r\n",
	    421, "localhost");
	assert_int_equal(hits, 0);
}

/* ---- slow clients ---- */

static void
test_slowloris_is_cut(void **state)
{
	struct buffer in = BUFFER_INIT;
	struct answer a = { .bytes = BUFFER_INIT };
	int fd;

	(void)state;
	go_virtual();
	fd = dial(0);
	say(fd, "GET / HT");
	UNTIL(stats().connections == 1);
	/* A byte every second buys no time. */
	for (int i = 0; i < 9; i++) {
		advance_ms(1000);
		say(fd, i == 0 ? "TP/1.1\r\nA" : "a");
		turn();
	}
	advance_ms(990);
	assert_int_equal(stats().cut, 0);
	assert_false(take(fd, &in));
	assert_int_equal(buffer_len(&in), 0);
	advance_ms(20);
	assert_int_equal(stats().cut, 1);
	wait_answer(fd, &in, false, &a);
	assert_int_equal(a.head.status, 408);
	assert_int_equal(stats().requests, 0);
	/* It goes on, but nobody listens, and not for ever. */
	for (int i = 0; i < 19; i++) {
		say(fd, "a: b\r\n\r\n");
		for (int j = 0; j < 5; j++)
			turn();
		advance_ms(500);
		assert_int_equal(stats().connections, 1);
	}
	advance_ms(510);
	UNTIL(stats().connections == 0);
	UNTIL(take(fd, &in));
	assert_int_equal(buffer_len(&in), 0);
	assert_int_equal(stats().requests, 0);
	(void)close(fd);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

static void
test_silent_connection_is_cut(void **state)
{
	struct buffer in = BUFFER_INIT;
	int fd;

	(void)state;
	go_virtual();
	fd = dial(0);
	UNTIL(stats().connections == 1);
	advance_ms(9900);
	assert_int_equal(stats().cut, 0);
	advance_ms(200);
	assert_int_equal(stats().cut, 1);
	advance_ms(1100);
	UNTIL(stats().connections == 0);
	(void)close(fd);
	buffer_done(&in);
}

static void
test_idle_connection_is_closed(void **state)
{
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	int fd;

	(void)state;
	go_virtual();
	fd = dial(0);
	say(fd, GET("/", ""));
	wait_answer(fd, &in, false, &a);
	advance_ms(59000);
	say(fd, GET("/", ""));		/* starts the time anew */
	wait_answer(fd, &in, false, &a);
	advance_ms(59000);
	assert_int_equal(stats().connections, 1);
	/* The next head has begun: it has 10 s now, not 1. */
	say(fd, "GET ");
	for (int i = 0; i < 20; i++)
		turn();
	advance_ms(5000);
	assert_int_equal(stats().connections, 1);
	say(fd, "/ HTTP/1.1\r\nHost: a\r\n\r\n");
	wait_answer(fd, &in, false, &a);
	advance_ms(60100);
	UNTIL(stats().connections == 0);
	UNTIL(take(fd, &in));
	assert_int_equal(buffer_len(&in), 0);	/* no unasked answer */
	(void)close(fd);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

static void
test_reader_without_progress_is_cut(void **state)
{
	struct buffer in = BUFFER_INIT;
	unsigned before;
	ssize_t n;
	int fd;

	(void)state;
	go_virtual();
	fd = dial(4096);
	for (int i = 0; i < 50; i++)
		say(fd, GET("/big", ""));
	do {
		before = hits;
		for (int i = 0; i < 50; i++)
			turn();
	} while (hits != before);
	/* Slow, but it reads: it may stay longer than the limit. */
	for (int i = 0; i < 6; i++) {
		size_t got = 0;

		UNTIL((n = recv(fd, buffer_reserve(&in, 65536), 65536, 0),
		    got += n > 0 ? (size_t)n : 0, got > 4 * BIG));
		advance_ms(10000);
		assert_int_equal(stats().cut, 0);
	}
	/* What it has asked for and not read is more than the kernel holds. */
	for (int i = 0; i < 50; i++)
		turn();
	/* The kernel may take a little more now and then. */
	for (int i = 0; i < 400 && stats().cut == 0; i++)
		advance_ms(1000);
	assert_int_equal(stats().cut, 1);
	assert_int_equal(stats().connections, 0);
	(void)close(fd);
	buffer_done(&in);
}

/* ---- many clients ---- */

static void
test_connections_are_bounded(void **state)
{
	struct http_server_params p = { .max_per_address = 1000,
		.linger_us = 50 * USEC_PER_MSEC };
	struct answer a = { .bytes = BUFFER_INIT };
	struct buffer in = BUFFER_INIT;
	int fd[64], more;

	(void)state;
	start(&p);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = dial(0);
	UNTIL(stats().connections == 64);
	more = dial(0);
	say(more, GET("/", ""));
	wait_answer(more, &in, false, &a);
	assert_int_equal(a.head.status, 503);
	assert_true(slice_is(http1_header(&a.head, "Retry-After"), "1"));
	assert_false(a.head.keep_alive);
	UNTIL(take(more, &in));
	(void)close(more);
	assert_int_equal(stats().connections, 64);
	assert_int_equal(stats().refused, 1);
	assert_int_equal(hits, 0);
	/* Those that are in are served, and one that leaves makes room. */
	say(fd[63], GET("/", ""));
	wait_answer(fd[63], &in, false, &a);
	(void)close(fd[0]);
	UNTIL(stats().connections == 63);
	assert_status(GET("/", ""), 200, "hit");
	for (size_t i = 1; i < ARRAY_SIZE(fd); i++)
		(void)close(fd[i]);
	UNTIL(stats().connections == 0);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

static void
test_connections_of_one_address_are_bounded(void **state)
{
	int fd[16], more[40];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = dial(0);
	UNTIL(stats().connections == 16);
	assert_status(GET("/", ""), 503, "16 of one address");
	/* Past those that are told so, they are just closed. */
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		more[i] = dial(0);
	UNTIL(stats().refused == 41);
	assert_int_equal(stats().connections, 16);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		(void)close(more[i]);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		(void)close(fd[i]);
	UNTIL(stats().connections == 0);
	UNTIL(({ struct answer a = { .bytes = BUFFER_INIT };
		unsigned status = ask(GET("/", ""), &a);
		buffer_done(&a.bytes); status == 200; }));
}

static bool
is_banned(void *owner, const struct sockaddr *peer)
{
	struct sockaddr_in in;

	assert_int_equal(peer->sa_family, AF_INET);
	memcpy(&in, peer, sizeof(in));
	assert_int_equal(ntohl(in.sin_addr.s_addr), INADDR_LOOPBACK);
	return *(bool *)owner;
}

static void
test_banned_ones_are_closed_without_an_answer(void **state)
{
	struct buffer in = BUFFER_INIT;
	struct answer a = { .bytes = BUFFER_INIT };
	bool banned = false;
	int before, silent, late;

	(void)state;
	clock_set_virtual(USEC_PER_SEC, USEC_PER_SEC);
	http_server_set_ban(server, is_banned, &banned);
	before = dial(0);
	say(before, GET("/", ""));
	wait_answer(before, &in, false, &a);
	silent = dial(0);
	UNTIL(stats().connections == 2);
	banned = true;
	/* A new one is not read at all. */
	late = dial(0);
	UNTIL(take(late, &in));
	assert_int_equal(stats().banned, 1);
	assert_int_equal(stats().accepted, 2);
	/* One that asks again, and one that says nothing more. */
	say(before, GET("/", ""));
	UNTIL(stats().banned == 2);
	clock_advance(11 * USEC_PER_SEC);
	UNTIL(stats().banned == 3);
	UNTIL(take(silent, &in));
	assert_int_equal(buffer_len(&in), 0);
	assert_int_equal(hits, 1);
	assert_int_equal(stats().connections, 0);
	assert_int_equal(stats().refused, 0);
	banned = false;
	assert_status(GET("/", ""), 200, "hit");
	(void)close(before);
	(void)close(silent);
	(void)close(late);
	buffer_done(&in);
	buffer_done(&a.bytes);
}

/* Freeing it in the middle of everything leaves nothing behind. */
static void
test_free_with_open_connections(void **state)
{
	struct buffer in = BUFFER_INIT;
	int fd[6];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = dial(4096);
	say(fd[0], "GET /");
	say(fd[1], GET("/", ""));
	say(fd[2], "nonsense\r\n\r\n");
	say(fd[4], GET("/", "Connection: close\r\n"));
	for (int i = 0; i < 40; i++) {
		say(fd[3], GET("/big", ""));
		say(fd[5], GET("/", ""));
	}
	UNTIL(stats().requests > 10);
	http_server_free(server);
	server = NULL;
	for (int i = 0; i < 10; i++)
		turn();
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		(void)close(fd[i]);
	buffer_done(&in);
}

int
main(void)
{
#define T(f)		cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T_OWN(f)	cmocka_unit_test_teardown(f, teardown)
	const struct CMUnitTest tests[] = {
		T(test_get_and_its_headers),
		T(test_head_has_no_body),
		T(test_keep_alive_and_close),
		T(test_half_closed_client_is_answered),
		T(test_pipelined_in_order_and_in_pieces),
		T(test_pipeline_is_bounded_in_a_turn),
		T(test_unread_answers_are_bounded),
		T(test_bad_requests_are_told_why),
		T(test_only_get_and_head),
		T(test_bodies_are_refused_and_never_taken_for_requests),
		T(test_answer_survives_a_large_unread_body),
		T_OWN(test_host_names),
		T(test_slowloris_is_cut),
		T(test_silent_connection_is_cut),
		T(test_idle_connection_is_closed),
		T(test_reader_without_progress_is_cut),
		T_OWN(test_connections_are_bounded),
		T(test_connections_of_one_address_are_bounded),
		T(test_banned_ones_are_closed_without_an_answer),
		T(test_free_with_open_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
