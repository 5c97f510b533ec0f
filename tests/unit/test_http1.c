/* http1: heads, body lengths, chunks; above all, what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "codec/http1.h"

#define REQ(rest)	"GET / HTTP/1.1\r\nHost: a\r\n" rest "\r\n"
#define RES(rest)	"HTTP/1.1 200 OK\r\n" rest "\r\n"

static struct http1_head head;
static struct error err;

static ssize_t
request(const char *text)
{
	error_clear(&err);
	return http1_parse_request(slice_of(text), &head, &err);
}

static ssize_t
response(const char *text, bool to_head)
{
	error_clear(&err);
	return http1_parse_response(slice_of(text), to_head, &head, &err);
}

static void
assert_refused(const char *text, const char *code)
{
	if (request(text) != -EPROTO || strcmp(err.code, code) != 0)
		fail_msg("%s: wanted %s, got \"%s\" (%s)", text, code,
		    err.code, err.text);
	assert_int_equal(err.class, ERROR_PROTOCOL);
	assert_true(err.text[0] != '\0');
}

static void
assert_slice(struct slice s, const char *want)
{
	if (!slice_is(s, want))
		fail_msg("\"%.*s\" is not \"%s\"", (int)s.n, s.p, want);
}

static void
test_request_is_taken_apart(void **state)
{
	const char *text = "GET /a?b=c HTTP/1.1\r\nHost: example:80\r\n"
	    "X-Empty:\r\nx-two: \t one two \t\r\nUtf: \xc3\xa4\r\n\r\nrest";

	(void)state;
	assert_int_equal(request(text), strlen(text) - 4);
	assert_slice(head.method, "GET");
	assert_slice(head.target, "/a?b=c");
	assert_int_equal(head.minor, 1);
	assert_int_equal(head.nheaders, 4);
	assert_slice(http1_header(&head, "HOST"), "example:80");
	assert_slice(http1_header(&head, "x-empty"), "");
	assert_non_null(http1_header(&head, "x-empty").p);
	assert_slice(http1_header(&head, "X-Two"), "one two");
	assert_null(http1_header(&head, "X-Tw").p);
	assert_int_equal(head.body, HTTP1_BODY_NONE);
	assert_true(head.keep_alive);
}

static void
test_request_in_pieces_waits_for_the_rest(void **state)
{
	const char *text = "\r\n" REQ("A: b\r\n");
	size_t n = strlen(text);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		/* A copy of its own size, so that reading past it is seen. */
		char *copy = malloc(i + 1);

		assert_non_null(copy);
		memcpy(copy, text, i);
		assert_int_equal(http1_parse_request((struct slice){ copy, i },
		    &head, &err), 0);
		free(copy);
	}
	assert_int_equal(request(text), n);
	assert_int_equal(http1_parse_request((struct slice){ NULL, 0 }, &head,
	    &err), 0);
}

static void
test_malformed_requests_are_refused(void **state)
{
	static const char *const cases[][2] = {
		{ "GET /\r\n", "bad_start_line" },
		{ "GET\r\n", "bad_start_line" },
		{ " / HTTP/1.1\r\n", "bad_start_line" },
		{ "GET  / HTTP/1.1\r\n", "bad_start_line" },
		{ "GET / HTTP/1.1 \r\n", "bad_start_line" },
		{ "GET / x HTTP/1.1\r\n", "bad_start_line" },
		{ "GET /\xc3\xa4 HTTP/1.1\r\n", "bad_start_line" },
		{ "GET\t/ HTTP/1.1\r\n", "bad_start_line" },
		{ "G(T / HTTP/1.1\r\n", "bad_start_line" },
		{ "GET / http/1.1\r\n", "bad_start_line" },
		{ "GET / HTTP/1.\r\n", "bad_start_line" },
		{ "GET / HTTP/11\r\n", "bad_start_line" },
		{ "PRI * HTTP/2.0\r\n", "version" },
		{ "GET / HTTP/0.9\r\n", "version" },
		{ "GET / HTTP/1.1\nHost: a\r\n\r\n", "bare_lf" },
		{ REQ("A: b\n"), "bare_lf" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_lf" },
		{ REQ("A: b\rc\r\n"), "bad_byte" },
		{ REQ("A: b\r\r\n"), "bad_byte" },
		{ REQ("A: b\x01\r\n"), "bad_byte" },
		{ REQ("A: \x7f\r\n"), "bad_byte" },
		{ REQ("A: b\r\n c\r\n"), "obs_fold" },
		{ REQ("A: b\r\n\tc: d\r\n"), "obs_fold" },
		{ "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "obs_fold" },
		{ REQ("A : b\r\n"), "bad_header" },
		{ REQ("A\t: b\r\n"), "bad_header" },
		{ REQ(": b\r\n"), "bad_header" },
		{ REQ("A\r\n"), "bad_header" },
		{ REQ("A B: c\r\n"), "bad_header" },
		{ REQ("A\xc3\xa4: c\r\n"), "bad_header" },
		{ "GET / HTTP/1.1\r\n\r\n", "host" },
		{ REQ("host: b\r\n"), "host" },
		{ REQ("Host: a\r\n"), "host" },
		/* Refused before the end of the head: not HTTP at all. */
		{ "\x16\x03\x01", "bad_byte" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_refused(cases[i][0], cases[i][1]);
	assert_int_equal(http1_parse_request(SLICE("GET / HTTP/1.1\r\n"
	    "A: b\0c\r\n\r\n"), &head, &err), -EPROTO);
	assert_string_equal(err.code, "bad_byte");
}

/* RFC 9112, sections 6.1, 6.3 and 11.2. */
static void
test_smuggling_is_refused(void **state)
{
	static const char *const cases[][2] = {
		{ REQ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
		    "two_lengths" },
		{ REQ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
		    "two_lengths" },
		{ REQ("Content-Length: 5\r\nContent-Length: 6\r\n"),
		    "content_length" },
		{ REQ("Content-Length: 5, 6\r\n"), "content_length" },
		{ REQ("Content-Length: 5,\r\n"), "content_length" },
		{ REQ("Content-Length:\r\n"), "content_length" },
		{ REQ("Content-Length: +5\r\n"), "content_length" },
		{ REQ("Content-Length: -5\r\n"), "content_length" },
		{ REQ("Content-Length: 0x5\r\n"), "content_length" },
		{ REQ("Content-Length: 5 5\r\n"), "content_length" },
		{ REQ("Content-Length: 5.0\r\n"), "content_length" },
		{ REQ("Content-Length: 18446744073709551617\r\n"),
		    "content_length" },
		{ REQ("Content-Length: 9223372036854775808\r\n"),
		    "content_length" },
		{ REQ("Transfer-Encoding: gzip, chunked\r\n"),
		    "transfer_coding" },
		{ REQ("Transfer-Encoding: chunked, identity\r\n"),
		    "transfer_coding" },
		{ REQ("Transfer-Encoding: xchunked\r\n"), "transfer_coding" },
		{ REQ("Transfer-Encoding: \"chunked\"\r\n"),
		    "transfer_coding" },
		{ REQ("Transfer-Encoding: chunked;q=1\r\n"),
		    "transfer_coding" },
		{ REQ("Transfer-Encoding:\r\n"), "transfer_coding" },
		{ REQ("Transfer-Encoding: chunked\r\n"
		    "Transfer-Encoding: identity\r\n"), "transfer_coding" },
		{ REQ("Transfer-Encoding: chunked\r\n"
		    "Transfer-Encoding: chunked\r\n"), "transfer_coding" },
		{ REQ("Transfer-Encoding: \x0b" "chunked\r\n"), "bad_byte" },
		{ REQ("Transfer-Encoding\t: chunked\r\n"), "bad_header" },
		{ REQ("X: y\r\n Transfer-Encoding: chunked\r\n"), "obs_fold" },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		    "transfer_coding" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_refused(cases[i][0], cases[i][1]);
	/* The same in what a server answers. */
	assert_int_equal(response(RES("Content-Length: 5\r\n"
	    "Transfer-Encoding: chunked\r\n"), false), -EPROTO);
	assert_string_equal(err.code, "two_lengths");
	assert_int_equal(response(RES("Content-Length: 1\r\n"
	    "Content-Length: 2\r\n"), true), -EPROTO);
}

static void
test_body_lengths_of_requests(void **state)
{
	(void)state;
	assert_true(request(REQ("Content-Length: 5\r\ncontent-length: 5, 05"
	    "\r\n")) > 0);
	assert_int_equal(head.body, HTTP1_BODY_LENGTH);
	assert_int_equal(head.content_length, 5);
	assert_true(request(REQ("Content-Length: 9223372036854775807\r\n")) >
	    0);
	assert_int_equal(head.content_length, INT64_MAX);
	assert_true(request(REQ("Transfer-Encoding: Chunked\r\n")) > 0);
	assert_int_equal(head.body, HTTP1_BODY_CHUNKED);
}

static void
test_keep_alive(void **state)
{
	(void)state;
	assert_true(request(REQ("Connection: x, ClOsE ,y\r\n")) > 0);
	assert_false(head.keep_alive);
	assert_true(request(REQ("Connection: a\r\nConnection: close\r\n")) >
	    0);
	assert_false(head.keep_alive);
	assert_true(request(REQ("Connection: closed, keep-alive\r\n")) > 0);
	assert_true(head.keep_alive);
	assert_true(request("GET / HTTP/1.0\r\n\r\n") > 0);
	assert_false(head.keep_alive);
	assert_true(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
	    > 0);
	assert_true(head.keep_alive);
	assert_true(request("GET / HTTP/1.7\r\nHost:\r\n\r\n") > 0);
	assert_true(head.keep_alive);
}

/* A request of n bytes, with h more headers than Host. */
static void
long_request(struct buffer *b, size_t n, unsigned h)
{
	buffer_clear(b);
	buffer_add_str(b, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (unsigned i = 0; i < h; i++)
		buffer_add_str(b, "a:\r\n");
	if (n != 0) {
		buffer_add_str(b, "l:");
		while (buffer_len(b) + 4 < n)
			buffer_add_char(b, 'x');
		buffer_add_str(b, "\r\n");
	}
	buffer_add_str(b, "\r\n");
}

static void
test_limits_hold_to_the_byte(void **state)
{
	struct buffer b = BUFFER_INIT;

	(void)state;
	long_request(&b, HTTP1_HEAD_MAX, 0);
	assert_int_equal(buffer_len(&b), HTTP1_HEAD_MAX);
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err),
	    HTTP1_HEAD_MAX);
	long_request(&b, HTTP1_HEAD_MAX + 1, 0);
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err),
	    -EPROTO);
	assert_string_equal(err.code, "head_too_long");
	/* No line end in sight: found before it comes. */
	b.end = b.start + HTTP1_HEAD_MAX - 1;
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err), 0);
	b.end = b.start + HTTP1_HEAD_MAX;
	buffer_head(&b)[HTTP1_HEAD_MAX - 1] = 'x';
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err),
	    -EPROTO);
	assert_string_equal(err.code, "head_too_long");

	long_request(&b, 0, HTTP1_HEADERS_MAX - 1);
	assert_true(http1_parse_request(buffer_slice(&b), &head, &err) > 0);
	assert_int_equal(head.nheaders, HTTP1_HEADERS_MAX);
	long_request(&b, 0, HTTP1_HEADERS_MAX);
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err),
	    -EPROTO);
	assert_string_equal(err.code, "too_many_headers");

	/* Empty lines in front count too. */
	buffer_clear(&b);
	while (buffer_len(&b) < HTTP1_HEAD_MAX)
		buffer_add_str(&b, "\r\n");
	assert_int_equal(http1_parse_request(buffer_slice(&b), &head, &err),
	    -EPROTO);
	buffer_done(&b);
}

static void
test_responses(void **state)
{
	(void)state;
	assert_true(response("HTTP/1.1 404 Not Here\r\nContent-Length: 3\r\n"
	    "\r\nabc", false) > 0);
	assert_int_equal(head.status, 404);
	assert_slice(head.reason, "Not Here");
	assert_int_equal(head.body, HTTP1_BODY_LENGTH);
	assert_true(head.keep_alive);
	assert_true(response("HTTP/1.1 200\r\n\r\n", false) > 0);
	assert_slice(head.reason, "");
	assert_int_equal(head.body, HTTP1_BODY_UNTIL_CLOSE);
	assert_false(head.keep_alive);
	assert_true(response("HTTP/1.1 200 \r\n\r\n", false) > 0);
	assert_slice(head.reason, "");
	assert_true(response(RES("Transfer-Encoding: chunked\r\n"), false) > 0);
	assert_int_equal(head.body, HTTP1_BODY_CHUNKED);
	/* RFC 9112, section 6.3, rule 1. */
	assert_true(response(RES("Content-Length: 3\r\n"), true) > 0);
	assert_int_equal(head.body, HTTP1_BODY_NONE);
	assert_int_equal(head.content_length, 3);
	assert_true(response("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n",
	    false) > 0);
	assert_int_equal(head.body, HTTP1_BODY_NONE);
	assert_true(response("HTTP/1.1 100 Continue\r\n\r\n", false) > 0);
	assert_int_equal(head.body, HTTP1_BODY_NONE);
	assert_true(head.keep_alive);
	assert_true(response("HTTP/1.1 204 x\r\n\r\n", false) > 0);
	assert_int_equal(head.body, HTTP1_BODY_NONE);
}

static void
test_malformed_responses_are_refused(void **state)
{
	static const char *const cases[] = {
		"HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.1 600 OK\r\n\r\n", "HTTP/1.1\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n",
		"HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1\t200 OK\r\n\r\n",
		"\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200OK\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (response(cases[i], false) != -EPROTO)
			fail_msg("accepted: %s", cases[i]);
}

/* ---- chunked ---- */

/* Feeds step bytes more at a time; what is not used comes again. */
static ssize_t
unchunk(const char *text, size_t n, size_t step, size_t max,
    struct buffer *out, struct http1_chunked *c)
{
	size_t at = 0, have = 0;

	*c = (struct http1_chunked){ .state = CHUNK_SIZE_LINE };
	buffer_clear(out);
	error_clear(&err);
	while (have < n && c->state != CHUNK_COMPLETE) {
		ssize_t used;

		have = MIN(have + step, n);
		used = http1_chunked_decode(c,
		    (struct slice){ text + at, have - at }, out, max, &err);
		if (used < 0)
			return used;
		at += (size_t)used;
	}
	return (ssize_t)at;
}

static void
test_chunks_in_any_pieces(void **state)
{
	const char *text = "4\r\nWiki\r\n006;a=\"b\"\r\npedia \r\nB ;x\r\n"
	    "in \r\nchunks\r\n0\r\nExpires: x\r\nY:\r\n\r\n";
	struct buffer out = BUFFER_INIT;
	struct http1_chunked c;
	size_t n = strlen(text);

	(void)state;
	for (size_t step = 1; step <= n; step++) {
		assert_int_equal(unchunk(text, n, step, 1000, &out, &c), n);
		assert_int_equal(c.state, CHUNK_COMPLETE);
		assert_slice(buffer_slice(&out), "Wikipedia in \r\nchunks");
	}
	/* What stands behind the body is left alone. */
	assert_int_equal(unchunk("0\r\n\r\nGET", 8, 8, 10, &out, &c), 5);
	assert_int_equal(c.state, CHUNK_COMPLETE);
	buffer_done(&out);
}

static void
test_malformed_chunks_are_refused(void **state)
{
	static const char *const cases[][2] = {
		{ "\r\n", "chunk_size" }, { "x\r\n", "chunk_size" },
		{ "-1\r\n", "chunk_size" }, { "+1\r\n", "chunk_size" },
		{ "0x1\r\n", "chunk_size" }, { " 1\r\n", "chunk_size" },
		{ "1 \r\n", "chunk_size" }, { "1 2\r\n", "chunk_size" },
		{ "1\n", "bare_lf" }, { "1;\n", "bare_lf" },
		{ "1;a\rb\r\n", "bad_byte" },
		{ "10000000000000000\r\n", "chunk_size" },
		{ "1\r\nab\r\n", "chunk_end" }, { "1\r\na\rb", "chunk_end" },
		{ "1\r\na\n0\r\n\r\n", "chunk_end" },
		{ "0\r\n a: b\r\n\r\n", "obs_fold" },
		{ "0\r\na\r\n\r\n", "bad_header" }, { "0\r\n\n", "bare_lf" },
	};
	struct buffer out = BUFFER_INIT, longer = BUFFER_INIT;
	struct http1_chunked c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t step = 1; step < 40; step += 38) {
			if (unchunk(cases[i][0], strlen(cases[i][0]), step,
			    1000, &out, &c) != -EPROTO ||
			    strcmp(err.code, cases[i][1]) != 0)
				fail_msg("%s by %zu: %s (%s)", cases[i][0],
				    step, err.code, err.text);
		}
	/* An endless extension, and endless trailers. */
	buffer_add_str(&longer, "1;");
	while (buffer_len(&longer) < 1000)
		buffer_add_char(&longer, 'x');
	assert_int_equal(unchunk(buffer_head(&longer), buffer_len(&longer), 7,
	    1000, &out, &c), -EPROTO);
	buffer_clear(&longer);
	buffer_add_str(&longer, "0\r\n");
	while (buffer_len(&longer) < 2 * HTTP1_HEAD_MAX)
		buffer_add_str(&longer, "a: b\r\n");
	assert_int_equal(unchunk(buffer_head(&longer), buffer_len(&longer),
	    1000, 1000, &out, &c), -EPROTO);
	assert_string_equal(err.code, "head_too_long");
	buffer_done(&longer);
	buffer_done(&out);
}

static void
test_chunked_bodies_are_bounded(void **state)
{
	struct buffer out = BUFFER_INIT;
	struct http1_chunked c;
	const char *two = "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";

	(void)state;
	assert_int_equal(unchunk(two, strlen(two), 100, 6, &out, &c),
	    strlen(two));
	assert_int_equal(unchunk(two, strlen(two), 100, 5, &out, &c),
	    -EMSGSIZE);
	assert_string_equal(err.code, "body_too_long");
	assert_int_equal(err.class, ERROR_REJECTED);
	assert_int_equal(buffer_len(&out), 3);
	assert_int_equal(unchunk("ffffffffffffffff\r\n", 18, 100, SIZE_MAX - 9,
	    &out, &c), -EMSGSIZE);
	buffer_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_is_taken_apart),
		cmocka_unit_test(test_request_in_pieces_waits_for_the_rest),
		cmocka_unit_test(test_malformed_requests_are_refused),
		cmocka_unit_test(test_smuggling_is_refused),
		cmocka_unit_test(test_body_lengths_of_requests),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_limits_hold_to_the_byte),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_malformed_responses_are_refused),
		cmocka_unit_test(test_chunks_in_any_pieces),
		cmocka_unit_test(test_malformed_chunks_are_refused),
		cmocka_unit_test(test_chunked_bodies_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
