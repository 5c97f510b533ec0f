/*
 * The HTTP client on a real loop: connections and who gets them, answers of
 * every shape, peers that misbehave, and letting go at any moment.
 */
#include "http_client_rig.h"

#include "client/http_impl.h"

#define URL	"http://127.0.0.1:%u/"

/* ---- connections ---- */

static void
test_connection_is_kept_and_reused(void **state)
{
	struct web *w = *state;
	struct call c;

	call_init(&c, w, URL "path?q=1");
	c.more_headers = "X-Mine: yes\r\n";
	for (int i = 1; i <= 5; i++) {
		call_run(&c);
		assert_answer(&c, 200, "ok");
		assert_int_equal(w->accepted, 1);
		assert_int_equal(c.headers_asked, i);
	}
	assert_true(web_heard(w, "GET /path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
	assert_true(web_heard(w, "\r\nX-Mine: yes\r\n"));
	assert_false(web_heard(w, "Content-Length"));
	assert_int_equal(web_stats(w).requests, 5);
	assert_int_equal(web_stats(w).connects, 1);
	assert_int_equal(web_stats(w).reused, 4);
	assert_int_equal(web_stats(w).idle, 1);
	assert_int_equal(web_stats(w).failed, 0);
	call_done(&c);
}

static void
test_bodies_go_out(void **state)
{
	static char big[700000];
	struct web *w = *state;
	struct call c;
	size_t at;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = pattern(i);
	call_init(&c, w, URL);
	c.req.body = SLICE("hello");
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_true(web_heard(w, "POST / HTTP/1.1\r\n"));
	assert_true(web_heard(w, "\r\nContent-Length: 5\r\n\r\nhello"));

	c.req.body = (struct slice){ big, sizeof(big) };
	c.req.method = "PUT";
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_true(web_heard(w, "PUT / HTTP/1.1\r\n"));
	at = buffer_len(&w->last) - sizeof(big);
	assert_memory_equal(buffer_head(&w->last) + at, big, sizeof(big));
	assert_int_equal(w->accepted, 1);

	/* A POST says that it has no body. */
	c.req.body = (struct slice){ NULL, 0 };
	c.req.method = "POST";
	call_run(&c);
	assert_true(web_heard(w, "\r\nContent-Length: 0\r\n\r\n"));
	call_done(&c);
}

static void
test_bound_and_order_of_waiting(void **state)
{
	struct web *w = *state;
	struct call c[7];

	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 2 });
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		call_init(&c[i], w, URL);
		call_send(&c[i]);
	}
	assert_int_equal(web_stats(w).open, 2);
	assert_int_equal(web_stats(w).waiting, 5);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		RUN_UNTIL(w, c[i].done == 1);
	assert_int_equal(w->accepted, 2);
	/* The two connections may overtake one another, no more. */
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		assert_answer(&c[i], 200, "ok");
		assert_in_range(c[i].order, MAX(i, 1), i + 2);
		call_done(&c[i]);
	}

	/* With one connection the order is strict; one that leaves the line
	   does not disturb it. */
	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 1 });
	w->ndone = 0;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		call_init(&c[i], w, URL);
		call_send(&c[i]);
	}
	http_cancel(&c[3].req);
	assert_int_equal(web_stats(w).waiting, 5);
	RUN_UNTIL(w, c[6].done == 1);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		assert_int_equal(c[i].done, i != 3);
		if (i != 3)
			assert_int_equal(c[i].order, i < 3 ? i + 1 : i);
		call_done(&c[i]);
	}
}

static void
test_endpoints_are_apart(void **state)
{
	struct web *w = *state;
	struct call a, b;

	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 1 });
	call_init(&a, w, URL);
	call_init(&b, w, "http://LOCALHOST:%u/");
	web_script(w, "-");
	call_send(&a);
	RUN_UNTIL(w, w->requests == 1);
	call_run(&b);		/* not behind the other's silence */
	assert_answer(&b, 200, "ok");
	assert_true(web_heard(w, "\r\nHost: localhost:"));
	assert_int_equal(a.done, 0);
	http_cancel(&a.req);
	call_done(&a);
	call_done(&b);
}

static void
test_idle_connections_close(void **state)
{
	struct web *w = *state;
	struct call c;

	web_client(w, &(struct http_client_params){ .proxy = "",
		.idle_timeout_us = 20000 });
	call_init(&c, w, URL);
	call_run(&c);
	assert_int_equal(web_stats(w).idle, 1);
	RUN_UNTIL(w, web_stats(w).open == 0);
	RUN_UNTIL(w, web_open(w) == 0);
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_int_equal(w->accepted, 2);
	call_done(&c);
}

/* ---- a server that closes a kept connection ---- */

static void
test_closed_idle_connection_is_forgotten(void **state)
{
	struct web *w = *state;
	struct call c;

	call_init(&c, w, URL);
	call_run(&c);
	stream_close(&w->peers[0].s);
	RUN_UNTIL(w, web_stats(w).open == 0);
	call_run(&c);
	assert_answer(&c, 200, "ok");
	/* One that talks without being asked is not used again either. */
	stream_write(&w->peers[1].s, "HTTP/1.1 408 Too Slow\r\n\r\n", 25);
	RUN_UNTIL(w, web_stats(w).open == 0);
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_int_equal(w->accepted, 3);
	call_done(&c);
}

/*
 * The connection is closed when the next request is on its way already: what
 * happens depends on whether it may be sent twice.
 */
static void
close_as_it_is_reused(struct web *w, struct call *c)
{
	call_run(c);
	assert_answer(c, 200, "ok");
	web_script(w, "!");		/* of the second */
	call_run(c);
}

static void
test_resend_rule(void **state)
{
	static const struct {
		const char *method;
		bool resend, works;
	} cases[] = {
		{ "GET", false, true },
		{ "PUT", false, true },
		{ "DELETE", false, true },
		{ "POST", false, false },
		{ "POST", true, true },
		{ "PATCH", false, false },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		web_client(w, NULL);
		w->nscript = w->next = 0;
		w->requests = 0;
		web_script(w, OK_ANSWER);
		call_init(&c, w, URL);
		c.req.method = cases[i].method;
		c.req.resend = cases[i].resend;
		close_as_it_is_reused(w, &c);
		if (cases[i].works) {
			assert_answer(&c, 200, "ok");
			assert_int_equal(w->requests, 3);
			assert_int_equal(c.headers_asked, 3);
			assert_int_equal(web_stats(w).failed, 0);
		} else {
			assert_failed(&c, ERROR_TRANSIENT, "eof");
			assert_int_equal(w->requests, 2);
			assert_int_equal(web_stats(w).failed, 1);
		}
		call_done(&c);
	}
}

static void
test_resend_only_once_and_not_on_a_new_connection(void **state)
{
	struct web *w = *state;
	struct call c;

	/* A new connection that closes is a failure. */
	web_script(w, "!");
	call_init(&c, w, URL);
	call_run(&c);
	assert_failed(&c, ERROR_TRANSIENT, "eof");
	assert_non_null(strstr(c.err.text, "without an answer"));
	assert_int_equal(w->requests, 1);
	/* So is the second try. */
	web_script(w, OK_ANSWER);
	web_script(w, "!");
	web_script(w, "!");
	call_run(&c);
	assert_answer(&c, 200, "ok");
	call_run(&c);
	assert_failed(&c, ERROR_TRANSIENT, "eof");
	assert_int_equal(w->requests, 4);
	/* And one whose answer had begun. */
	web_script(w, OK_ANSWER);
	web_script(w, "!HTTP/1.1 200 O");
	call_run(&c);
	call_run(&c);
	assert_failed(&c, ERROR_TRANSIENT, "eof");
	assert_non_null(strstr(c.err.text, "in the middle"));
	assert_int_equal(w->requests, 6);
	call_done(&c);
}

/* ---- answers ---- */

static void
test_shapes_of_answers(void **state)
{
	static const struct {
		const char *method, *answer;
		unsigned status;
		const char *body;
		bool kept;
	} cases[] = {
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
			200, "hello", true },
		{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			200, "", true },
		{ "GET", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked"
			"\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n"
			"\r\n", 201, "hello world", true },
		{ "GET", "!HTTP/1.1 200 OK\r\n\r\nuntil the end", 200,
			"until the end", false },
		{ "GET", "!HTTP/1.0 200 OK\r\n\r\n", 200, "", false },
		{ "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200,
			"ok", false },
		{ "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
			"Content-Length: 2\r\n\r\nok", 200, "ok", true },
		{ "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n"
			"Content-Length: 2\r\n\r\nok", 200, "ok", false },
		{ "POST", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true },
		{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200,
			"", true },
		{ "GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n"
			"gone", 404, "gone", true },
		{ "GET", "HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, "",
			true },
		{ "PUT", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n"
			"Link: x\r\n\r\nHTTP/1.1 200 OK\r\n"
			"Content-Length: 2\r\n\r\nok", 200, "ok", true },
		/* More than was asked for. */
		{ "GET", OK_ANSWER "HTTP/1.1 200 OK\r\n", 200, "ok", false },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		w->nscript = w->next = 0;
		web_client(w, NULL);
		web_script(w, cases[i].answer);
		call_init(&c, w, URL);
		c.req.method = cases[i].method;
		call_run(&c);
		assert_answer(&c, cases[i].status, cases[i].body);
		if (web_stats(w).idle != cases[i].kept)
			fail_msg("case %zu: %skept", i,
			    cases[i].kept ? "not " : "");
		assert_int_equal(c.done, 1);
		call_done(&c);
	}
}

/* Byte by byte it means the same. */
static void
test_answer_in_pieces(void **state)
{
	static const char answer[] = "HTTP/1.1 100 Continue\r\n\r\n"
	    "HTTP/1.1 200 OK\r\nX-Test: a  b \r\nTransfer-Encoding: chunked\r\n"
	    "\r\n3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n";
	struct web *w = *state;
	struct call c;

	web_script(w, "-");
	call_init(&c, w, URL);
	call_send(&c);
	RUN_UNTIL(w, w->requests == 1);
	for (size_t i = 0; i < sizeof(answer) - 1; i++) {
		uint64_t before = w->peers[0].s.bytes_out;

		assert_int_equal(c.done, 0);
		stream_write(&w->peers[0].s, &answer[i], 1);
		RUN_UNTIL(w, w->peers[0].s.bytes_out == before + 1);
		assert_true(loop_turn(w->loop, 0) >= 0);
	}
	RUN_UNTIL(w, c.done == 1);
	assert_answer(&c, 200, "abc0123456789");
	assert_true(slice_is(buffer_slice(&c.header), "a  b"));
	assert_int_equal(web_stats(w).idle, 1);
	call_done(&c);
}

static void
test_bad_answers(void **state)
{
	static const struct {
		const char *answer;
		enum error_class class;
		const char *code;
	} cases[] = {
		{ "HTTP/1.1 302 Found\r\nLocation: http://a.test/b?secret=1\r\n"
			"Content-Length: 0\r\n\r\n", ERROR_REJECTED,
			"redirect" },
		{ "HTTP/1.1 304 Not Modified\r\n\r\n", ERROR_REJECTED,
			"redirect" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
			ERROR_REJECTED, "response_too_large" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"6\r\nabcdef\r\n5\r\n", ERROR_REJECTED,
			"response_too_large" },
		{ "HTTP/1.1 200 OK\r\n\r\n0123456789a", ERROR_REJECTED,
			"response_too_large" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", ERROR_PROTOCOL,
			"bad_start_line" },
		{ "HTTP/2.0 200 OK\r\n\r\n", ERROR_PROTOCOL, "version" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
			"Content-Length: 2\r\n\r\n", ERROR_PROTOCOL,
			"content_length" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
			ERROR_PROTOCOL, "transfer_coding" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
			ERROR_PROTOCOL, "chunk_size" },
		{ "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
			ERROR_PROTOCOL, "upgrade" },
		{ "!HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
			ERROR_TRANSIENT, "eof" },
		{ "!HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"3\r\nabc\r\n", ERROR_TRANSIENT, "eof" },
		{ "!HTTP/1.1 200 OK\r\nContent-Le", ERROR_TRANSIENT, "eof" },
		{ "!", ERROR_TRANSIENT, "eof" },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		w->nscript = w->next = 0;
		web_client(w, NULL);
		web_script(w, cases[i].answer);
		call_init(&c, w, URL "secret-path");
		c.req.max_response = 10;
		call_run(&c);
		assert_failed(&c, cases[i].class, cases[i].code);
		assert_null(strstr(c.err.text, "secret"));
		assert_non_null(strstr(c.err.text, "127.0.0.1"));
		if (i == 0)
			assert_non_null(strstr(c.err.text, "302, Location: "
			    "http://a.test/b;"));
		assert_int_equal(web_stats(w).failed, 1);
		assert_int_equal(c.done, 1);
		/* And the next one works. */
		call_run(&c);
		assert_answer(&c, 200, "ok");
		call_done(&c);
	}
}

static void
test_any_status_lets_redirects_through(void **state)
{
	struct web *w = *state;
	struct call c;

	web_script(w, "HTTP/1.1 302 Found\r\nX-Test: t\r\nContent-Length: 1\r\n"
	    "\r\nx");
	call_init(&c, w, URL);
	c.req.any_status = true;
	call_run(&c);
	assert_answer(&c, 302, "x");
	assert_int_equal(web_stats(w).failed, 0);
	call_done(&c);
}

/* For those who only want the status. */
static void
test_too_long_an_answer_may_be_cut(void **state)
{
	static const struct {
		const char *answer, *body;
		bool kept;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
			"0123456789", true },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789a",
			"0123456789", false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
			"0123456789a", "0123456789", false },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"6\r\nabcdef\r\n5\r\n", "abcdef", false },
		{ "HTTP/1.1 200 OK\r\n\r\n0123456789a", "0123456789",
			false },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		web_client(w, NULL);
		web_script(w, cases[i].answer);
		call_init(&c, w, URL);
		c.req.max_response = 10;
		c.req.cut_response = true;
		call_run(&c);
		assert_answer(&c, 200, cases[i].body);
		assert_int_equal(web_stats(w).idle, cases[i].kept);
		call_done(&c);
	}
}

static void
test_large_answer(void **state)
{
	static char answer[900100];
	struct web *w = *state;
	struct call c;
	int n = snprintf(answer, sizeof(answer),
	    "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n");

	for (int i = 0; i < 900000; i++)
		answer[n + i] = (char)('a' + i % 23);
	web_script(w, answer);
	call_init(&c, w, URL);
	call_run(&c);
	assert_int_equal(c.status, 200);
	assert_int_equal(buffer_len(&c.body), 900000);
	assert_memory_equal(buffer_head(&c.body), answer + n, 900000);
	call_done(&c);
}

/* The answer comes before the request has left: it counts, the connection
   does not. */
static void
test_answer_before_the_whole_request(void **state)
{
	static char big[8 * 1000 * 1000];
	struct web *w = *state;
	struct call c;

	memset(big, 'x', sizeof(big));
	call_init(&c, w, URL);
	c.req.body = (struct slice){ big, sizeof(big) };
	call_send(&c);
	RUN_UNTIL(w, w->accepted == 1 && w->peers[0].s.bytes_in > 0);
	stream_pause(&w->peers[0].s, true);
	stream_write(&w->peers[0].s, "HTTP/1.1 413 Too Large\r\n"
	    "Content-Length: 0\r\n\r\n", 45);
	RUN_UNTIL(w, c.done == 1);
	assert_answer(&c, 413, "");
	assert_int_equal(web_stats(w).open, 0);
	call_done(&c);
}

/* ---- time-outs ---- */

static void
test_answer_never_comes(void **state)
{
	static const char *const answers[] = { "-", "-HTTP/1.1 200 OK\r\n",
		"-HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
		"-HTTP/1.1 100 Continue\r\n\r\n" };
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		uint64_t start = clock_monotonic_us();
		struct call c;

		web_script(w, answers[i]);
		call_init(&c, w, URL);
		c.req.timeout_us = 30000;
		call_run(&c);
		assert_failed(&c, ERROR_TRANSIENT, "response_timeout");
		assert_non_null(strstr(c.err.text, "30ms"));
		assert_true(clock_monotonic_us() - start >= 30000);
		assert_int_equal(web_stats(w).open, 0);
		call_done(&c);
	}
	RUN_UNTIL(w, web_open(w) == 0);
}

static void
test_timeout_while_waiting_for_a_connection(void **state)
{
	struct web *w = *state;
	struct call a, b;

	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 1 });
	web_script(w, "-");
	call_init(&a, w, URL);
	call_init(&b, w, URL);
	b.req.timeout_us = 20000;
	call_send(&a);
	call_run(&b);
	assert_failed(&b, ERROR_TRANSIENT, "response_timeout");
	assert_non_null(strstr(b.err.text, "no free connection"));
	assert_int_equal(web_stats(w).waiting, 0);
	assert_int_equal(a.done, 0);
	http_cancel(&a.req);
	call_done(&a);
	call_done(&b);
}

/* ---- letting go ---- */

static void
turns(struct web *w, int n)
{
	while (n-- != 0)
		assert_true(loop_turn(w->loop, 1000) >= 0);
}

/* Which moments a test has seen. */
#define SEEN_CONNECTING	0x01u
#define SEEN_RESOLVING	0x02u
#define SEEN_SENT	0x04u
#define SEEN_BODY	0x08u

static unsigned
moment(const struct call *c)
{
	const struct http_exchange *ex = c->req.exchange;

	if (ex->conn->stream.state == STREAM_RESOLVING)
		return SEEN_RESOLVING;
	if (ex->conn->stream.state == STREAM_CONNECTING)
		return SEEN_CONNECTING;
	return buffer_len(&ex->answer.body) != 0 ? SEEN_BODY : SEEN_SENT;
}

/* Cancels after each possible number of turns: whatever the state is then. */
static void
test_cancel_at_any_moment(void **state)
{
	static const char answer[] = "-HTTP/1.1 200 OK\r\n"
	    "Content-Length: 5\r\n\r\nhel";
	struct web *w = *state;
	static const char *const urls[] = { URL, "http://localhost:%u/" };
	unsigned seen = 0;

	for (size_t u = 0; u < ARRAY_SIZE(urls); u++) {
		for (int n = 0; n < 12; n++) {
			struct call c;

			web_script(w, answer);
			if (w->nscript == SCRIPT_MAX)
				w->nscript = w->next = 0;
			call_init(&c, w, urls[u]);
			call_send(&c);
			turns(w, n);
			assert_int_equal(c.done, 0);
			seen |= moment(&c);
			http_cancel(&c.req);
			assert_false(http_busy(&c.req));
			http_cancel(&c.req);
			turns(w, 3);
			assert_int_equal(c.done, 0);
			assert_int_equal(web_stats(w).open, 0);
			RUN_UNTIL(w, web_open(w) == 0);
			call_done(&c);
		}
	}
	assert_int_equal(seen, SEEN_CONNECTING | SEEN_RESOLVING | SEEN_SENT |
	    SEEN_BODY);
}

static void
test_cancel_lets_the_next_one_in(void **state)
{
	struct web *w = *state;
	struct call a, b;

	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 1 });
	web_script(w, "-");
	call_init(&a, w, URL);
	call_init(&b, w, URL);
	call_send(&a);
	RUN_UNTIL(w, w->requests == 1);
	call_send(&b);
	assert_int_equal(web_stats(w).waiting, 1);
	http_cancel(&a.req);
	assert_int_equal(web_stats(w).waiting, 0);
	RUN_UNTIL(w, b.done == 1);
	assert_answer(&b, 200, "ok");
	assert_int_equal(a.done, 0);
	call_done(&a);
	call_done(&b);
}

static void
send_again(struct call *c)
{
	if (c->done < 5)
		call_send(c);
}

static void
test_on_done_sends_again(void **state)
{
	struct web *w = *state;
	struct call c;

	call_init(&c, w, URL);
	c.on_done = send_again;
	call_send(&c);
	RUN_UNTIL(w, c.done == 5);
	assert_answer(&c, 200, "ok");
	assert_int_equal(w->accepted, 1);	/* on the same connection */
	/* Also after a failure. */
	web_script(w, "!");
	web_script(w, "!garbage\r\n");
	web_script(w, "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n");
	c.done = 0;
	c.req.method = "POST";
	call_send(&c);
	RUN_UNTIL(w, c.done == 5);
	assert_answer(&c, 200, "ok");
	call_done(&c);
}

static void
free_all(struct call *c)
{
	struct web *w = c->web;

	call_done(c);
	memset(c, 0xee, sizeof(*c));
	free(c);
	http_client_free(w->hc);
	w->hc = NULL;
}

/* What ends it frees the request, its owner and the client. */
static void
test_on_done_frees_everything(void **state)
{
	static const char *const answers[] = { OK_ANSWER, "!", "!x\r\n",
		"!HTTP/1.1 200 OK\r\n\r\nok", "-",
		"!HTTP/1.1 302 Found\r\n\r\n" };
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct call *c = new0(struct call);

		if (w->hc == NULL)
			web_client(w, NULL);
		web_script(w, answers[i]);
		call_init(c, w, URL);
		c->on_done = free_all;
		c->req.timeout_us = 50000;
		call_send(c);
		RUN_UNTIL(w, w->hc == NULL);
		RUN_UNTIL(w, web_open(w) == 0);
	}
}

static struct call *victim;

static void
cancel_the_other(struct call *c)
{
	(void)c;
	http_cancel(&victim->req);
}

/* The one that got the connection just before is gone again. */
static void
test_on_done_cancels_its_successor(void **state)
{
	struct web *w = *state;
	struct call a, b, c;

	web_client(w, &(struct http_client_params){ .proxy = "",
		.max_connections = 1 });
	call_init(&a, w, URL);
	call_init(&b, w, URL);
	call_init(&c, w, URL);
	victim = &b;
	a.on_done = cancel_the_other;
	call_send(&a);
	call_send(&b);
	call_send(&c);
	RUN_UNTIL(w, c.done == 1);
	assert_answer(&c, 200, "ok");
	assert_int_equal(a.done, 1);
	assert_int_equal(b.done, 0);
	call_done(&a);
	call_done(&b);
	call_done(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		web_test(test_connection_is_kept_and_reused),
		web_test(test_bodies_go_out),
		web_test(test_bound_and_order_of_waiting),
		web_test(test_endpoints_are_apart),
		web_test(test_idle_connections_close),
		web_test(test_closed_idle_connection_is_forgotten),
		web_test(test_resend_rule),
		web_test(test_resend_only_once_and_not_on_a_new_connection),
		web_test(test_shapes_of_answers),
		web_test(test_answer_in_pieces),
		web_test(test_bad_answers),
		web_test(test_any_status_lets_redirects_through),
		web_test(test_too_long_an_answer_may_be_cut),
		web_test(test_large_answer),
		web_test(test_answer_before_the_whole_request),
		web_test(test_answer_never_comes),
		web_test(test_timeout_while_waiting_for_a_connection),
		web_test(test_cancel_at_any_moment),
		web_test(test_cancel_lets_the_next_one_in),
		web_test(test_on_done_sends_again),
		web_test(test_on_done_frees_everything),
		web_test(test_on_done_cancels_its_successor),
	};

	return cmocka_run_group_tests_name("http_client", tests, NULL, NULL);
}
