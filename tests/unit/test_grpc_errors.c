/*
 * gRPC calls that do not go as they should: what the server says, does not
 * say, and how it goes away.
 */
#include "grpc_rig.h"

static void
turns(struct gweb *w, unsigned n)
{
	while (n-- != 0)
		assert_true(loop_turn(w->loop, 1000) >= 0);
}

/* One call of its own; then the connection must serve another. */
static struct gcall *
run(struct gweb *w, struct gcall *c, const char *path)
{
	gcall_init(c, w, path);
	gcall_run(c, "x");
	gcall_free(c);
	return c;
}

static void
check_alive(struct gweb *w, unsigned accepted)
{
	struct gcall c;

	run(w, &c, "/unary");
	assert_ok(&c);
	assert_int_equal(w->accepted, accepted);
}

/* ---- what the server says ---- */

static void
test_trailers_only(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/trailers-only/5");
	gcall_run(&c, "x");
	assert_ended(&c, GRPC_NOT_FOUND, ERROR_REJECTED, "NOT_FOUND");
	assert_string_equal(c.status.message, "no \xf0\x9f\x90\x87% here ");
	assert_true(c.status.from_server);
	assert_false(c.status.unseen);
	assert_true(slice_is(buffer_slice(&c.details), "\x08\x05\x12\x02no") ||
	    buffer_len(&c.details) == 6);
	assert_int_equal(c.opened, 0);
	assert_non_null(strstr(c.err.text, "NOT_FOUND: no "));
	gcall_free(&c);
	run(w, &c, "/trailers-only/16");
	assert_ended(&c, GRPC_UNAUTHENTICATED, ERROR_AUTH, "UNAUTHENTICATED");
	run(w, &c, "/trailers-only/8");
	assert_ended(&c, GRPC_RESOURCE_EXHAUSTED, ERROR_THROTTLED,
	    "RESOURCE_EXHAUSTED");
	run(w, &c, "/trailers-only/14");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "UNAVAILABLE");
	assert_false(c.status.unseen);
	run(w, &c, "/trailers-only/99");
	assert_ended(&c, GRPC_UNKNOWN, ERROR_TRANSIENT, "UNKNOWN");
	run(w, &c, "/trailers-only/0");
	assert_ok(&c);
	check_alive(w, 1);
}

static void
test_missing_status(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	run(w, &c, "/missing");
	assert_ended(&c, GRPC_UNKNOWN, ERROR_TRANSIENT, "missing_status");
	assert_int_equal(c.messages, 1);
	assert_false(c.status.from_server);
	check_alive(w, 1);
}

static void
test_http_status(void **state)
{
	static const struct {
		const char *path;
		unsigned code;
		enum error_class class;
	} t[] = {
		{ "/http/400", GRPC_INTERNAL, ERROR_TRANSIENT },
		{ "/http/401", GRPC_UNAUTHENTICATED, ERROR_AUTH },
		{ "/http/403", GRPC_PERMISSION_DENIED, ERROR_AUTH },
		{ "/http/404", GRPC_UNIMPLEMENTED, ERROR_REJECTED },
		{ "/http/429", GRPC_UNAVAILABLE, ERROR_TRANSIENT },
		{ "/http/500", GRPC_UNKNOWN, ERROR_TRANSIENT },
		{ "/http/503", GRPC_UNAVAILABLE, ERROR_TRANSIENT },
	};
	struct gweb *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct gcall c;

		run(w, &c, t[i].path);
		assert_ended(&c, t[i].code, t[i].class,
		    grpc_code_name(t[i].code));
		assert_non_null(strstr(c.err.text, t[i].path + 6));
		assert_int_equal(c.opened, 0);
		assert_false(c.status.from_server);
	}
	check_alive(w, 1);
}

/* A page with a body: it is not waited for. */
static void
test_wrong_content_type(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	run(w, &c, "/html");
	assert_ended(&c, GRPC_UNKNOWN, ERROR_TRANSIENT, "missing_status");
	assert_non_null(strstr(c.err.text, "content type"));
	run(w, &c, "/grpcish");
	assert_ended(&c, GRPC_UNKNOWN, ERROR_TRANSIENT, "missing_status");
	check_alive(w, 1);
}

static void
test_bad_messages(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gweb_channel(w, &(struct grpc_channel_params){ .max_message = 1000 });
	run(w, &c, "/compressed");
	assert_ended(&c, GRPC_INTERNAL, ERROR_REJECTED, "compressed");
	run(w, &c, "/bad-flag");
	assert_ended(&c, GRPC_INTERNAL, ERROR_PROTOCOL, "malformed_message");
	w->last_reset = 0;
	run(w, &c, "/too-large/1001");
	assert_ended(&c, GRPC_RESOURCE_EXHAUSTED, ERROR_REJECTED,
	    "message_too_large");
	RUN_UNTIL(w, w->last_reset == NGHTTP2_CANCEL + 1);
	run(w, &c, "/too-large/4294967295");
	assert_ended(&c, GRPC_RESOURCE_EXHAUSTED, ERROR_REJECTED,
	    "message_too_large");
	run(w, &c, "/stream/1/1000");
	assert_ok(&c);
	run(w, &c, "/stream/2/1001");
	assert_ended(&c, GRPC_RESOURCE_EXHAUSTED, ERROR_REJECTED,
	    "message_too_large");
	assert_int_equal(c.messages, 0);
	run(w, &c, "/partial");
	assert_ended(&c, GRPC_INTERNAL, ERROR_PROTOCOL, "malformed_message");
	run(w, &c, "/huge-headers");
	assert_ended(&c, GRPC_INTERNAL, ERROR_PROTOCOL, "http2_error");
	check_alive(w, 1);
}

static void
test_resets(void **state)
{
	static const struct {
		const char *path;
		unsigned code;
		bool unseen;
	} t[] = {
		{ "/rst/0", GRPC_INTERNAL, false },
		{ "/rst/1", GRPC_INTERNAL, false },
		{ "/rst/2", GRPC_INTERNAL, false },
		{ "/rst/3", GRPC_INTERNAL, false },
		{ "/rst/4", GRPC_INTERNAL, false },
		{ "/rst/5", GRPC_UNKNOWN, false },
		{ "/rst/6", GRPC_INTERNAL, false },
		{ "/rst/7", GRPC_UNAVAILABLE, true },
		{ "/rst/8", GRPC_CANCELLED, false },
		{ "/rst/9", GRPC_INTERNAL, false },
		{ "/rst/10", GRPC_INTERNAL, false },
		{ "/rst/11", GRPC_RESOURCE_EXHAUSTED, false },
		{ "/rst/12", GRPC_PERMISSION_DENIED, false },
		{ "/rst/13", GRPC_UNKNOWN, false },
		{ "/rst/999", GRPC_UNKNOWN, false },
	};
	struct gweb *w = *state;
	struct gcall c;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		run(w, &c, t[i].path);
		assert_ended(&c, t[i].code, grpc_code_class(t[i].code),
		    grpc_code_name(t[i].code));
		assert_int_equal(c.status.unseen, t[i].unseen);
		assert_false(c.status.from_server);
	}
	run(w, &c, "/rst-after/2");
	assert_ended(&c, GRPC_INTERNAL, ERROR_TRANSIENT, "INTERNAL");
	check_alive(w, 1);
}

/* ---- GOAWAY ---- */

static void
test_goaway(void **state)
{
	struct gweb *w = *state;
	struct gcall old, late, fresh;
	struct gpeer *p;

	gcall_init(&old, w, "/hold");
	gcall_init(&late, w, "/silent");
	gcall_init(&fresh, w, "/unary");
	gcall_start(&old);
	gcall_send(&old, "x", false);
	RUN_UNTIL(w, old.opened == 1);
	gcall_start(&late);
	gcall_send(&late, "x", false);
	RUN_UNTIL(w, w->calls == 2);
	p = gweb_peer(w);
	server_goaway(p, 1, NGHTTP2_NO_ERROR, "");
	RUN_UNTIL(w, late.done == 1);
	assert_ended(&late, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "goaway");
	assert_true(late.status.unseen);
	assert_int_equal(old.done, 0);
	assert_false(gweb_stats(w).connected);
	/* New calls go elsewhere; the old one ends well where it is. */
	gcall_run(&fresh, "x");
	assert_ok(&fresh);
	assert_int_equal(w->accepted, 2);
	server_finish(list_entry(list_first(&p->streams), struct gstream,
	    link), 0);
	RUN_UNTIL(w, old.done == 1);
	assert_ok(&old);
	RUN_UNTIL(w, gweb_open(w) == 1);	/* its connection has gone */
	gcall_free(&old);
	gcall_free(&late);
	gcall_free(&fresh);
}

static void
test_goaway_of_an_idle_connection(void **state)
{
	struct gweb *w = *state;

	check_alive(w, 1);
	server_goaway(gweb_peer(w), 0x7fffffff, NGHTTP2_NO_ERROR, "");
	RUN_UNTIL(w, gweb_open(w) == 0);
	check_alive(w, 2);
}

static void
test_goaway_with_an_error(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/hold");
	gcall_start(&c);
	gcall_send(&c, "x", false);
	RUN_UNTIL(w, c.opened == 1);
	server_goaway(gweb_peer(w), 1, NGHTTP2_ENHANCE_YOUR_CALM,
	    "too_many_pings");
	turns(w, 3);
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, c.done == 1);
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "goaway");
	assert_non_null(strstr(c.err.text, "too_many_pings"));
	assert_false(c.status.unseen);
	gcall_free(&c);
	check_alive(w, 2);
}

/* Calls that have no place yet have not left: they move, unnoticed. */
static void
test_goaway_moves_what_has_not_left(void **state)
{
	struct gweb *w = *state;
	struct gcall a, b;

	w->max_streams = 1;
	gcall_init(&a, w, "/hold");
	gcall_init(&b, w, "/unary");
	b.call.timeout_us = 5 * USEC_PER_SEC;
	gcall_start(&a);
	gcall_send(&a, "x", false);
	RUN_UNTIL(w, a.opened == 1);
	gcall_start(&b);
	gcall_send(&b, "hello", true);
	turns(w, 3);
	server_goaway(gweb_peer(w), 1, NGHTTP2_NO_ERROR, "");
	RUN_UNTIL(w, b.done == 1);
	assert_ok(&b);
	assert_int_equal(b.messages, 1);
	assert_true(slice_is(buffer_slice(&b.last), "hello"));
	assert_int_equal(b.metadata_asked, 2);
	assert_int_equal(w->accepted, 2);
	assert_int_equal(a.done, 0);
	gcall_free(&a);
	gcall_free(&b);
}

/* A server that takes no call on any connection is not asked for ever. */
static void
test_goaway_at_once(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	w->goaway_first = 1;
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "goaway");
	assert_true(c.status.unseen);
	assert_int_equal(w->accepted, 2);
	assert_int_equal(w->calls, 0);
	w->goaway_first = 0;
	check_alive(w, 3);
}

/* ---- connections ---- */

static void
test_refused(void **state)
{
	struct gweb *w = *state;
	struct address where;
	int fd = raw_listen(1, &where);
	struct gcall c;

	(void)close(fd);
	gweb_channel(w, &(struct grpc_channel_params){ .address = where });
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "ECONNREFUSED");
	assert_true(c.status.unseen);
	run(w, &c, "/unary");
	assert_int_equal(gweb_stats(w).connects, 2);
	assert_int_equal(gweb_stats(w).failed, 2);
}

static void
test_connection_lost_in_each_state(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	/* Before SETTINGS. */
	w->raw = "";
	w->raw_close = true;
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "eof");
	assert_true(c.status.unseen);
	w->raw = NULL;
	/* Asked, not answered. */
	gcall_init(&c, w, "/silent");
	gcall_start(&c);
	gcall_send(&c, "x", true);
	RUN_UNTIL(w, w->calls == 1);
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, c.done == 1);
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "eof");
	assert_false(c.status.unseen);
	/* In the middle of a message. */
	c.call.path = "/hold";
	gcall_start(&c);
	gcall_send(&c, "x", true);
	RUN_UNTIL(w, c.opened == 1);
	server_say(gweb_stream(w), SLICE("whole"));
	server_raw(gweb_stream(w), "\0\0\0\0\5ab", 7);
	RUN_UNTIL(w, c.messages == 1);
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, c.done == 2);
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "eof");
	/* What had come before is told. */
	c.call.path = "/stream/500/20";
	gcall_start(&c);
	gcall_send(&c, "x", true);
	RUN_UNTIL(w, w->calls == 3);
	turns(w, 1);
	gcall_free(&c);
	check_alive(w, 4);
}

static void
test_lost_for_many(void **state)
{
	struct gweb *w = *state;
	struct gcall c[10];

	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		gcall_init(&c[i], w, "/hold");
		gcall_start(&c[i]);
		gcall_send(&c[i], "x", false);
	}
	RUN_UNTIL(w, c[9].opened == 1);
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, gweb_stats(w).open == 0);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		assert_int_equal(c[i].done, 1);
		assert_ended(&c[i], GRPC_UNAVAILABLE, ERROR_TRANSIENT, "eof");
		gcall_free(&c[i]);
	}
}

static void
test_not_http2(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
		"-ERR unknown command\r\n",
		"\x15\x03\x03\x00\x02\x02\x46",
		"220 mail.example.test ESMTP\r\n",
	};
	struct gweb *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct gcall c;

		w->raw = answers[i];
		gcall_init(&c, w, "/unary");
		c.call.timeout_us = 3 * USEC_PER_SEC;
		gcall_start(&c);
		/* Too short for a frame's head, it waits for the end. */
		w->raw_close = strlen(answers[i]) < 9;
		gcall_send(&c, "x", true);
		RUN_UNTIL(w, c.done == 1);
		if (w->raw_close)
			assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT,
			    "eof");
		else
			assert_ended(&c, GRPC_UNAVAILABLE, ERROR_PROTOCOL,
			    "not_http2");
		assert_true(c.status.unseen);
		gcall_free(&c);
		RUN_UNTIL(w, gweb_open(w) == 0);
	}
	w->raw = NULL;
	check_alive(w, (unsigned)ARRAY_SIZE(answers) + 1);
}

static void
test_connect_timeout(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	w->mute = true;
	gweb_channel(w, &(struct grpc_channel_params){
		.connect_timeout_us = 30 * USEC_PER_MSEC });
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT, "connect_timeout");
	assert_true(c.status.unseen);
	w->mute = false;
	check_alive(w, 2);
}

static void
test_broken_frames(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/hold");
	gcall_start(&c);
	gcall_send(&c, "x", false);
	RUN_UNTIL(w, c.opened == 1);
	/* A PING of three bytes. */
	stream_write(&gweb_peer(w)->s, "\0\0\3\6\0\0\0\0\0abc", 12);
	RUN_UNTIL(w, c.done == 1);
	assert_ended(&c, GRPC_INTERNAL, ERROR_PROTOCOL, "http2_error");
	gcall_free(&c);
	check_alive(w, 2);
}

static void
test_keepalive_is_not_answered(void **state)
{
	struct gweb *w = *state;
	struct gcall c, d;

	w->no_pong = true;
	gweb_channel(w, &(struct grpc_channel_params){
		.keepalive_us = 20 * USEC_PER_MSEC,
		.keepalive_timeout_us = 20 * USEC_PER_MSEC });
	gcall_init(&c, w, "/hold");
	gcall_init(&d, w, "/silent");
	gcall_start(&c);
	gcall_send(&c, "x", false);
	gcall_start(&d);
	gcall_send(&d, "x", false);
	RUN_UNTIL(w, c.done == 1 && d.done == 1);
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_TRANSIENT,
	    "keepalive_timeout");
	assert_ended(&d, GRPC_UNAVAILABLE, ERROR_TRANSIENT,
	    "keepalive_timeout");
	assert_int_equal(gweb_stats(w).pings, 1);
	gcall_free(&c);
	gcall_free(&d);
	check_alive(w, 2);
}

/* ---- time-outs ---- */

static void
test_timeouts(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/silent");
	c.call.timeout_us = 30 * USEC_PER_MSEC;
	gcall_run(&c, "x");
	assert_ended(&c, GRPC_DEADLINE_EXCEEDED, ERROR_TRANSIENT, "timeout");
	assert_false(c.status.unseen);
	RUN_UNTIL(w, w->last_reset == NGHTTP2_CANCEL + 1);
	/* In the middle of the answer, and paused with messages. */
	c.call.path = "/stream/3/10";
	gcall_start(&c);
	gcall_send(&c, "x", true);
	grpc_call_pause(&c.call, true);
	RUN_UNTIL(w, c.done == 2);
	assert_ended(&c, GRPC_DEADLINE_EXCEEDED, ERROR_TRANSIENT, "timeout");
	assert_int_equal(c.messages, 0);
	gcall_free(&c);
	check_alive(w, 1);
	/* While connecting. */
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, !gweb_stats(w).connected);
	w->mute = true;
	gcall_run(&c, "x");
	assert_ended(&c, GRPC_DEADLINE_EXCEEDED, ERROR_TRANSIENT, "timeout");
	assert_true(c.status.unseen);
	gcall_free(&c);
}

/* ---- TLS ---- */

static void
test_tls_without_h2(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	w->tls = server_context("server.pem");		/* no ALPN at all */
	gweb_channel(w, &(struct grpc_channel_params){ .tls = true,
		.tls_params.ca_file = file("ca.pem"),
		.tls_name = "localhost" });
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_PROTOCOL, "not_http2");
	assert_true(c.status.unseen);
}

static void
test_tls_verify(void **state)
{
	struct gweb *w = *state;
	struct error err = ERROR_INIT;
	struct grpc_channel_params p = { .address = w->listener.bound,
		.tls = true, .tls_params.ca_file = file("other-ca.pem"),
		.tls_name = "localhost" };
	struct gcall c;

	w->tls = context(&(struct tls_params){ .server = true,
		.certificate_file = file("server.pem"), .alpn = "h2" });
	gweb_channel(w, &p);
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_AUTH, "tls_verify");
	p.tls_params.ca_file = file("ca.pem");
	p.tls_name = "elsewhere.test";
	gweb_channel(w, &p);
	run(w, &c, "/unary");
	assert_ended(&c, GRPC_UNAVAILABLE, ERROR_AUTH, "tls_verify");
	p.tls_params.ca_file = "/nowhere/ca.pem";
	assert_null(grpc_channel_new(w->loop, w->resolver, &p, &err));
	assert_int_equal(err.class, ERROR_REJECTED);
	grpc_channel_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		gweb_test(test_trailers_only),
		gweb_test(test_missing_status),
		gweb_test(test_http_status),
		gweb_test(test_wrong_content_type),
		gweb_test(test_bad_messages),
		gweb_test(test_resets),
		gweb_test(test_goaway),
		gweb_test(test_goaway_of_an_idle_connection),
		gweb_test(test_goaway_with_an_error),
		gweb_test(test_goaway_moves_what_has_not_left),
		gweb_test(test_goaway_at_once),
		gweb_test(test_refused),
		gweb_test(test_connection_lost_in_each_state),
		gweb_test(test_lost_for_many),
		gweb_test(test_not_http2),
		gweb_test(test_connect_timeout),
		gweb_test(test_broken_frames),
		gweb_test(test_keepalive_is_not_answered),
		gweb_test(test_timeouts),
		gweb_test(test_tls_without_h2),
		gweb_test(test_tls_verify),
	};

	return cmocka_run_group_tests(tests, make_certificates,
	    remove_certificates);
}
