/*
 * gRPC calls that go as they should: kinds of calls, flow control, many at
 * once, metadata.
 */
#include "grpc_rig.h"

static void
test_unary(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/unary");
	gcall_run(&c, "hello");
	assert_ok(&c);
	assert_int_equal(c.messages, 1);
	assert_true(slice_is(buffer_slice(&c.last), "hello"));
	assert_string_equal(c.status.message, "all well");
	assert_true(c.status.from_server);
	assert_string_equal(w->last.te, "trailers");
	assert_string_equal(w->last.type, "application/grpc");
	assert_string_equal(w->last.timeout, "");
	assert_int_equal(strncmp(w->last.agent, "bot-operator/", 13), 0);
	/* The same connection again. */
	gcall_run(&c, "");
	assert_ok(&c);
	assert_int_equal(c.messages, 1);
	assert_int_equal(buffer_len(&c.last), 0);
	assert_int_equal(w->accepted, 1);
	assert_int_equal(gweb_stats(w).calls, 2);
	assert_int_equal(gweb_stats(w).connects, 1);
	assert_int_equal(gweb_stats(w).open, 0);
	gcall_free(&c);
}

static void
test_bidi(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/echo");
	gcall_start(&c);
	gcall_send(&c, "one", false);
	gcall_send(&c, "two", false);
	RUN_UNTIL(w, c.messages == 2);
	assert_true(slice_is(buffer_slice(&c.last), "two"));
	gcall_send(&c, "three", false);
	RUN_UNTIL(w, c.messages == 3);
	assert_int_equal(c.done, 0);
	grpc_call_send_end(&c.call);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	/* Idle, it takes nothing. */
	grpc_call_send(&c.call, SLICE("x"), false);
	grpc_call_pause(&c.call, true);
	grpc_call_cancel(&c.call);
	assert_int_equal(grpc_call_pending(&c.call), 0);
	gcall_free(&c);
}

static void
test_half_close_by_the_server_first(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/half");
	gcall_start(&c);
	gcall_send(&c, "and on we talk", false);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	/* The server is told that we stop, too. */
	RUN_UNTIL(w, w->last_reset == NGHTTP2_NO_ERROR + 1);
	gcall_run(&c, "again");
	assert_ok(&c);
	assert_int_equal(w->accepted, 1);
	gcall_free(&c);
}

static void
test_server_streaming(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	/* 30 MB in all: more than every window. */
	gcall_init(&c, w, "/stream/15000/2000");
	gcall_run(&c, "give");
	assert_ok(&c);
	assert_int_equal(c.messages, 15000);
	assert_int_equal(c.bytes, 15000 * 2000);
	assert_int_equal(c.opened, 1);
	assert_int_equal(gweb_stats(w).messages_in, 15000);
	gcall_free(&c);
}

/* Larger than the stream's and the connection's window. */
static void
test_large_messages_both_ways(void **state)
{
	struct gweb *w = *state;
	size_t n = 20 * MIB;
	char *text = xmalloc(n + 1);
	struct gcall c;

	for (size_t i = 0; i < n; i++)
		text[i] = pattern(i) != '\0' ? pattern(i) : 'x';
	text[n] = '\0';
	gcall_init(&c, w, "/unary");
	gcall_start(&c);
	gcall_send(&c, text, true);
	assert_true(grpc_call_pending(&c.call) > 10 * MIB);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	assert_int_equal(c.messages, 1);
	assert_int_equal(c.drained, 1);
	assert_int_equal(buffer_len(&c.last), n);
	assert_memory_equal(buffer_head(&c.last), text, n);
	free(text);
	gcall_free(&c);
}

static void
test_many_calls_on_one_connection(void **state)
{
	struct gweb *w = *state;
	enum { N = 300 };
	static struct gcall c[N];
	unsigned done = 0;

	w->max_streams = 20;		/* the others wait for a place */
	for (unsigned i = 0; i < N; i++) {
		gcall_init(&c[i], w, i % 3 == 0 ? "/stream/40/500" : "/unary");
		gcall_start(&c[i]);
		gcall_send(&c[i], "ask", true);
	}
	RUN_UNTIL(w, (done = (unsigned)gweb_stats(w).open) == 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(c[i].done, 1);
		assert_ok(&c[i]);
		assert_int_equal(c[i].messages, i % 3 == 0 ? 40 : 1);
		gcall_free(&c[i]);
	}
	assert_int_equal(w->accepted, 1);
	assert_int_equal(w->calls, N);
}

/* ---- flow control ---- */

static void
turns(struct gweb *w, unsigned n)
{
	while (n-- != 0)
		assert_true(loop_turn(w->loop, 1000) >= 0);
}

static void
pause_it(struct gcall *c)
{
	grpc_call_pause(&c->call, true);
}

static void
test_pause_stops_only_its_call(void **state)
{
	struct gweb *w = *state;
	struct gcall c, other;
	size_t left;

	gweb_channel(w, &(struct grpc_channel_params){
		.stream_window = 100000 });
	gcall_init(&c, w, "/stream/5000/1000");
	gcall_init(&other, w, "/stream/5000/1000");
	c.on_message = pause_it;
	gcall_start(&c);
	gcall_send(&c, "", true);
	RUN_UNTIL(w, c.messages == 1);
	turns(w, 20);
	assert_int_equal(c.messages, 1);
	/* One window has left the server, no more. */
	left = buffer_len(&gweb_stream(w)->out);
	assert_true(left >= 5000 * 1005 - 102000 && left < 5000 * 1005 - 90000);
	gcall_run(&other, "");
	assert_ok(&other);
	assert_int_equal(other.messages, 5000);
	assert_int_equal(c.messages, 1);
	/* One more for each time that it may go on. */
	grpc_call_pause(&c.call, false);
	assert_int_equal(c.messages, 1);	/* not inside the call */
	RUN_UNTIL(w, c.messages == 2);
	turns(w, 5);
	assert_int_equal(c.messages, 2);
	c.on_message = NULL;
	grpc_call_pause(&c.call, false);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	assert_int_equal(c.messages, 5000);
	gcall_free(&c);
	gcall_free(&other);
}

static void
test_paused_call_ends_after_its_messages(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/stream/3/10");
	gcall_start(&c);
	gcall_send(&c, "", true);
	pause_it(&c);
	RUN_UNTIL(w, c.opened == 1);
	turns(w, 10);
	assert_int_equal(c.messages, 0);
	assert_int_equal(c.done, 0);
	/* Also when the connection is gone meanwhile. */
	peer_hang_up(gweb_peer(w));
	turns(w, 10);
	assert_int_equal(c.done, 0);
	grpc_call_pause(&c.call, false);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	assert_int_equal(c.messages, 3);
	/* One without messages does not wait. */
	gcall_free(&c);
	gcall_init(&c, w, "/trailers-only/0");
	gcall_start(&c);
	pause_it(&c);
	RUN_UNTIL(w, c.done == 1);
	assert_ok(&c);
	gcall_free(&c);
}

static void
test_pause_in_the_middle_of_a_message(void **state)
{
	struct gweb *w = *state;
	char *text = xcalloc(1, MIB);
	struct gcall c;

	gweb_channel(w, &(struct grpc_channel_params){
		.stream_window = 65535 });
	gcall_init(&c, w, "/hold");
	gcall_start(&c);
	gcall_send(&c, "", false);
	RUN_UNTIL(w, c.opened == 1);
	pause_it(&c);
	server_say(gweb_stream(w), (struct slice){ text, MIB });
	turns(w, 20);
	assert_true(buffer_len(&gweb_stream(w)->out) > MIB - 80000);
	grpc_call_pause(&c.call, false);
	RUN_UNTIL(w, c.messages == 1);
	assert_int_equal(c.bytes, MIB);
	gcall_free(&c);
	free(text);
}

/* The server gives no window: what is sent stays in the call. */
static void
test_backpressure_on_sending(void **state)
{
	struct gweb *w = *state;
	char *text = xcalloc(1, 64 * KIB);
	struct gcall c, other;
	struct gpeer *p;

	w->hold_window = true;
	w->window = 70000;
	gcall_init(&c, w, "/hold");
	gcall_init(&other, w, "/trailers-only/0");
	gcall_start(&c);
	for (int i = 0; i < 40; i++)
		grpc_call_send(&c.call, (struct slice){ text, 64 * KIB },
		    false);
	assert_int_equal(grpc_call_pending(&c.call), 40 * (64 * KIB + 5));
	RUN_UNTIL(w, c.opened == 1);
	turns(w, 10);
	/* The connection's window is the smaller one: 65535. */
	assert_int_equal(grpc_call_pending(&c.call), 40 * (64 * KIB + 5) -
	    65535);
	assert_int_equal(c.drained, 0);
	gcall_start(&other);
	RUN_UNTIL(w, other.done == 1);		/* headers have no window */
	p = gweb_peer(w);
	RUN_UNTIL(w, (nghttp2_session_consume(p->session,
	    gweb_stream(w)->id, 16384), peer_flush(p), c.drained == 1));
	assert_int_equal(grpc_call_pending(&c.call), 0);
	gcall_free(&c);
	gcall_free(&other);
	free(text);
}

/* ---- the rest of the contract ---- */

static void
test_metadata(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gweb_channel(w, &(struct grpc_channel_params){
		.authority = "pubsub.example.test", .user_agent = "me/1" });
	gcall_init(&c, w, "/unary");
	c.token = "Bearer abc";
	c.call.timeout_us = 20 * USEC_PER_SEC;
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(c.metadata_asked, 1);
	assert_string_equal(w->last.authorization, "Bearer abc");
	assert_string_equal(w->last.extra_bin, "AQI=");
	assert_string_equal(w->last.authority, "pubsub.example.test");
	assert_string_equal(w->last.agent, "me/1");
	assert_int_equal(w->last.timeout[strlen(w->last.timeout) - 1], 'u');
	assert_true(strtoul(w->last.timeout, NULL, 10) > 15000000);
	assert_true(strtoul(w->last.timeout, NULL, 10) <= 20000000);
	gcall_free(&c);
}

static void
test_interim_answer(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/early");
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(c.opened, 1);
	assert_int_equal(c.messages, 1);
	gcall_free(&c);
}

static void
start_again(struct gcall *c)
{
	if (c->done < 50) {
		gcall_start(c);
		gcall_send(c, "again", true);
	}
}

static void
test_restart_in_on_done(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/unary");
	c.on_done = start_again;
	gcall_start(&c);
	gcall_send(&c, "first", true);
	RUN_UNTIL(w, c.done == 50);
	assert_int_equal(w->accepted, 1);
	gcall_free(&c);
}

static void
free_channel(struct gcall *c)
{
	struct gweb *w = c->web;

	grpc_call_cancel(&c->call);
	grpc_channel_free(w->ch);
	w->ch = NULL;
	c->web = NULL;
}

/* All of it may go in any callback. */
static void
test_free_in_callbacks(void **state)
{
	struct gweb *w = *state;

	for (int i = 0; i < 3; i++) {
		struct gcall c;

		gweb_channel(w, NULL);
		gcall_init(&c, w, "/stream/10/100");
		c.on_open = i == 0 ? free_channel : NULL;
		c.on_message = i == 1 ? free_channel : NULL;
		c.on_done = i == 2 ? free_channel : NULL;
		gcall_start(&c);
		gcall_send(&c, "", true);
		RUN_UNTIL(w, c.web == NULL);
		assert_int_equal(c.messages, i == 0 ? 0 : i == 1 ? 1 : 10);
		assert_int_equal(c.done, i == 2);
		RUN_UNTIL(w, gweb_open(w) == 0);
		gcall_free(&c);
	}
}

static struct gcall *victim;

static void
cancel_victim(struct gcall *c)
{
	(void)c;
	grpc_call_cancel(&victim->call);
}

static void
test_cancel_another_in_a_callback(void **state)
{
	struct gweb *w = *state;
	struct gcall a, b;

	gcall_init(&a, w, "/stream/1/10");
	gcall_init(&b, w, "/stream/1/10");
	a.on_message = cancel_victim;
	victim = &b;
	gcall_start(&a);
	gcall_start(&b);
	gcall_send(&a, "", true);
	gcall_send(&b, "", true);
	RUN_UNTIL(w, a.done == 1);
	turns(w, 5);
	assert_int_equal(b.done, 0);
	assert_int_equal(gweb_stats(w).open, 0);
	gcall_free(&a);
	gcall_free(&b);
}

static void
test_cancel_in_each_state(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/hold");
	gcall_start(&c);			/* connecting */
	gcall_free(&c);
	gcall_start(&c);
	gcall_send(&c, "x", false);
	RUN_UNTIL(w, gweb_stats(w).connected);	/* headers on the way */
	gcall_free(&c);
	gcall_start(&c);			/* in nghttp2 only */
	gcall_free(&c);
	turns(w, 5);
	gcall_start(&c);
	gcall_send(&c, "x", false);
	RUN_UNTIL(w, c.opened == 1);		/* open */
	w->last_reset = 0;
	gcall_free(&c);
	RUN_UNTIL(w, w->last_reset == NGHTTP2_CANCEL + 1);
	gcall_start(&c);
	gcall_send(&c, "x", true);
	RUN_UNTIL(w, c.opened == 1);		/* half closed */
	w->last_reset = 0;
	gcall_free(&c);
	RUN_UNTIL(w, w->last_reset == NGHTTP2_CANCEL + 1);
	c.call.path = "/stream/20000/1000";	/* in the middle of much */
	gcall_start(&c);
	gcall_send(&c, "x", true);
	RUN_UNTIL(w, c.messages > 10);
	gcall_free(&c);
	c.call.path = "/unary";
	gcall_run(&c, "still there");
	assert_ok(&c);
	assert_int_equal(w->accepted, 1);
	gcall_free(&c);
}

/* Names of calls whose place is still taken wait, and can be cancelled. */
static void
test_cancel_without_a_place(void **state)
{
	struct gweb *w = *state;
	struct gcall a, b;

	w->max_streams = 1;
	gcall_init(&a, w, "/hold");
	gcall_init(&b, w, "/unary");
	gcall_start(&a);
	gcall_send(&a, "x", false);
	RUN_UNTIL(w, a.opened == 1);
	gcall_start(&b);
	gcall_send(&b, "x", true);
	turns(w, 5);
	assert_int_equal(w->calls, 1);
	gcall_free(&b);
	turns(w, 5);
	gcall_start(&b);
	gcall_send(&b, "x", true);
	turns(w, 5);
	gcall_free(&a);
	RUN_UNTIL(w, b.done == 1);
	assert_ok(&b);
	assert_int_equal(w->calls, 2);
	gcall_free(&b);
}

/* ---- the connection's time ---- */

static void
test_keepalive_is_answered(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gweb_channel(w, &(struct grpc_channel_params){
		.keepalive_us = 20 * USEC_PER_MSEC });
	gcall_init(&c, w, "/hold");
	gcall_start(&c);
	gcall_send(&c, "x", false);
	RUN_UNTIL(w, gweb_peer(w)->pings >= 4);
	assert_int_equal(c.done, 0);
	assert_int_equal(w->accepted, 1);
	gcall_free(&c);
}

static void
test_idle_connection_closes(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gweb_channel(w, &(struct grpc_channel_params){
		.idle_timeout_us = 30 * USEC_PER_MSEC,
		.keepalive_us = 10 * USEC_PER_MSEC });
	gcall_init(&c, w, "/unary");
	gcall_run(&c, "x");
	assert_int_equal(gweb_open(w), 1);
	RUN_UNTIL(w, gweb_open(w) == 0);
	assert_false(gweb_stats(w).connected);
	assert_int_equal(gweb_stats(w).pings, 0);	/* only for calls */
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(w->accepted, 2);
	gcall_free(&c);
}

static void
test_idle_connection_lost(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	gcall_init(&c, w, "/unary");
	gcall_run(&c, "x");
	peer_hang_up(gweb_peer(w));
	RUN_UNTIL(w, !gweb_stats(w).connected);
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(w->accepted, 2);
	gcall_free(&c);
}

static void
test_tls(void **state)
{
	struct gweb *w = *state;
	struct gcall c;

	w->tls = context(&(struct tls_params){ .server = true,
		.certificate_file = file("server.pem"), .alpn = "h2" });
	gweb_channel(w, &(struct grpc_channel_params){ .tls = true,
		.tls_params.ca_file = file("ca.pem"),
		.tls_name = "localhost" });
	gcall_init(&c, w, "/stream/2000/3000");
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(c.messages, 2000);
	c.call.path = "/unary";
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_int_equal(w->accepted, 1);
	gcall_free(&c);
}

static void
test_unix_socket(void **state)
{
	struct gweb *w = *state;
	struct error err = ERROR_INIT;
	struct address a;
	struct gcall c;
	char path[64];

	snprintf(path, sizeof(path), "%s/grpc.sock", dir);
	a = parse(path);
	listener_stop(&w->listener);
	assert_int_equal(listener_start(&w->listener, w->loop, &a, 0600, &err),
	    0);
	gweb_channel(w, NULL);
	gcall_init(&c, w, "/unary");
	gcall_run(&c, "x");
	assert_ok(&c);
	assert_string_equal(w->last.authority, "localhost");
	gcall_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		gweb_test(test_unary),
		gweb_test(test_bidi),
		gweb_test(test_half_close_by_the_server_first),
		gweb_test(test_server_streaming),
		gweb_test(test_large_messages_both_ways),
		gweb_test(test_many_calls_on_one_connection),
		gweb_test(test_pause_stops_only_its_call),
		gweb_test(test_paused_call_ends_after_its_messages),
		gweb_test(test_pause_in_the_middle_of_a_message),
		gweb_test(test_backpressure_on_sending),
		gweb_test(test_metadata),
		gweb_test(test_interim_answer),
		gweb_test(test_restart_in_on_done),
		gweb_test(test_free_in_callbacks),
		gweb_test(test_cancel_another_in_a_callback),
		gweb_test(test_cancel_in_each_state),
		gweb_test(test_cancel_without_a_place),
		gweb_test(test_keepalive_is_answered),
		gweb_test(test_idle_connection_closes),
		gweb_test(test_idle_connection_lost),
		gweb_test(test_tls),
		gweb_test(test_unix_socket),
	};

	return cmocka_run_group_tests(tests, make_certificates,
	    remove_certificates);
}
