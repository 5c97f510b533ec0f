/* TLS streams against bad peers and bare OpenSSL, on a real loop. */
#include "tls_rig.h"

/* ---- bad peers ---- */

static void
test_invariant_3_mute_peer_delays_nobody(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct stream_params p = { .tls = c, .tls_name = "localhost",
		.handshake_timeout_us = 300000 };
	static struct end talk;
	struct loop_stats stats;
	struct address mute;
	int listener = raw_listen(5, &mute), fd, n = 0;

	rig_listen(r, "127.0.0.1:0");
	end_init(&talk, r, "talk");
	end_connect(&talk, &r->listener.bound, NULL);
	RUN_UNTIL(r, talk.ups == 1);
	end_connect(&r->client, &mute, &p);
	tls_context_unref(c);
	fd = raw_accept(r, listener);
	RUN_UNTIL(r, r->client.s.state == STREAM_HANDSHAKING);
	loop_reset_longest(r->loop);
	while (r->client.downs == 0) {
		buffer_clear(&talk.got);
		end_say(&talk, "x");
		RUN_UNTIL(r, end_got(&talk, "x"));
		n++;
	}
	assert_string_equal(r->client.err.code, "handshake_timeout");
	assert_int_equal(r->client.err.class, ERROR_TRANSIENT);
	assert_true(n > 20);
	loop_get_stats(r->loop, &stats);
	assert_true(stats.longest_turn_us < 100000);
	end_done(&talk);
	(void)close(fd);
	(void)close(listener);
}

static void
check_bad_peer(struct rig *r, const char *says, const char *code,
    enum error_class class)
{
	struct tls_context *c = client_context("ca.pem");
	struct stream_params p = { .tls = c, .tls_name = "localhost" };
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], &p);
	tls_context_unref(c);
	assert_int_equal(write(fds[1], says, strlen(says)), strlen(says));
	assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
	r->client.downs = 0;
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, code);
	assert_int_equal(r->client.err.class, class);
	assert_int_equal(r->client.ups, 0);
	(void)close(fds[1]);
}

static void
test_peers_that_speak_no_tls(void **state)
{
	check_bad_peer(*state, "HTTP/1.1 400 Bad Request\r\n\r\n",
	    "tls_protocol", ERROR_PROTOCOL);
	check_bad_peer(*state, "-ERR unknown command\r\n", "tls_protocol",
	    ERROR_PROTOCOL);
	check_bad_peer(*state, "", "tls_eof", ERROR_TRANSIENT);
	check_bad_peer(*state, "\x16\x03\x03", "tls_eof", ERROR_TRANSIENT);
}

static void
test_client_that_speaks_no_tls(void **state)
{
	struct rig *r = *state;

	serve(r, "server.pem");
	end_connect(&r->client, &r->listener.bound, NULL);
	end_say(&r->client, "GET / HTTP/1.0\r\n\r\n");
	RUN_UNTIL(r, r->server.downs == 1);
	assert_int_equal(r->server.err.class, ERROR_PROTOCOL);
	assert_int_equal(r->server.ups, 0);
	stream_close(&r->client.s);
	stop_serving(r);
}

/* ---- a peer made of bare OpenSSL, for what ours would not do ---- */

struct bare {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

static void
bare_start(struct rig *r, struct bare *b, bool server, int version)
{
	struct tls_context *c = server ? client_context("ca.pem") :
	    server_context("server.pem");
	struct stream_params p = { .tls = c, .tls_name = "localhost" };
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	b->fd = fds[1];
	b->ctx = SSL_CTX_new(TLS_method());
	SSL_CTX_set_max_proto_version(b->ctx, version);
	SSL_CTX_use_certificate_chain_file(b->ctx, file("server.pem"));
	SSL_CTX_use_PrivateKey_file(b->ctx, file("server.pem"),
	    SSL_FILETYPE_PEM);
	b->ssl = SSL_new(b->ctx);
	SSL_set_fd(b->ssl, b->fd);
	if (server)
		SSL_set_accept_state(b->ssl);
	else
		SSL_set_connect_state(b->ssl);
	end_accept(&r->client, fds[0], &p);
	tls_context_unref(c);
	RUN_UNTIL(r, SSL_do_handshake(b->ssl) == 1);
	RUN_UNTIL(r, r->client.ups == 1);
}

static void
bare_stop(struct bare *b)
{
	SSL_free(b->ssl);
	SSL_CTX_free(b->ctx);
	(void)close(b->fd);
	ERR_clear_error();
}

static void
test_tls_1_2(void **state)
{
	struct rig *r = *state;
	struct bare b;
	char in[10];

	bare_start(r, &b, true, TLS1_2_VERSION);
	assert_non_null(strstr(stream_tls_text(&r->client.s), "TLSv1.2"));
	assert_int_equal(SSL_write(b.ssl, "hello", 5), 5);
	RUN_UNTIL(r, end_got(&r->client, "hello"));
	end_say(&r->client, "hi");
	RUN_UNTIL(r, SSL_read(b.ssl, in, sizeof(in)) == 2);
	bare_stop(&b);
}

static void
test_old_versions_are_refused(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = server_context("server.pem");
	struct stream_params p = { .tls = c };
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	SSL_CTX_set_security_level(ctx, 0);
	ssl = SSL_new(ctx);
	SSL_set_cipher_list(ssl, "ALL:@SECLEVEL=0");
	SSL_set_fd(ssl, fds[1]);
	SSL_set_connect_state(ssl);
	end_accept(&r->client, fds[0], &p);
	while (r->client.downs == 0) {
		ERR_clear_error();
		(void)SSL_do_handshake(ssl);
		assert_true(loop_turn(r->loop, 1000) >= 0);
	}
	assert_int_equal(r->client.ups, 0);
	assert_int_equal(r->client.err.class, ERROR_PROTOCOL);
	assert_non_null(strstr(r->client.err.text, "protocol"));
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	(void)close(fds[1]);
	tls_context_unref(c);
}

/* The bare peer wants a new handshake in the middle; it must not get one. */
static void
check_renegotiation(struct rig *r, bool bare_is_server)
{
	struct bare b;
	char in[10];
	bool refused = false;

	bare_start(r, &b, bare_is_server, TLS1_2_VERSION);
	assert_int_equal(SSL_renegotiate(b.ssl), 1);
	for (int i = 0; i < 50 && !refused; i++) {
		ERR_clear_error();
		if (SSL_do_handshake(b.ssl) != 1 &&
		    SSL_get_error(b.ssl, -1) == SSL_ERROR_SSL)
			refused = true;
		ERR_clear_error();
		(void)SSL_read(b.ssl, in, sizeof(in));
		if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_NO_RENEGOTIATION)
			refused = true;
		assert_true(loop_turn(r->loop, 1000) >= 0);
	}
	assert_true(refused);
	stream_close(&r->client.s);
	r->client.ups = 0;
	bare_stop(&b);
}

static void
test_renegotiation_is_refused(void **state)
{
	check_renegotiation(*state, true);
	check_renegotiation(*state, false);
}

/* TLS 1.3: the peer changes keys and wants us to; reading makes us write. */
static void
test_key_update(void **state)
{
	struct rig *r = *state;
	struct bare b;
	char in[10];

	bare_start(r, &b, true, TLS1_3_VERSION);
	for (int i = 0; i < 3; i++) {
		buffer_clear(&r->client.got);
		assert_int_equal(SSL_key_update(b.ssl,
		    SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_write(b.ssl, "hello", 5), 5);
		RUN_UNTIL(r, end_got(&r->client, "hello"));
		end_say(&r->client, "hi");
		RUN_UNTIL(r, SSL_read(b.ssl, in, sizeof(in)) == 2);
	}
	bare_stop(&b);
}

static void
test_truncation_shows(void **state)
{
	struct rig *r = *state;
	struct bare b;

	bare_start(r, &b, true, TLS1_3_VERSION);
	assert_int_equal(SSL_write(b.ssl, "half of i", 9), 9);
	SSL_set_quiet_shutdown(b.ssl, 1);
	bare_stop(&b);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_true(end_got(&r->client, "half of i"));
	assert_string_equal(r->client.err.code, "tls_truncated");
	assert_int_equal(r->client.err.class, ERROR_TRANSIENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_invariant_3_mute_peer_delays_nobody),
		rig_test(test_peers_that_speak_no_tls),
		rig_test(test_client_that_speaks_no_tls),
		rig_test(test_tls_1_2),
		rig_test(test_old_versions_are_refused),
		rig_test(test_renegotiation_is_refused),
		rig_test(test_key_update),
		rig_test(test_truncation_shows),
	};

	return cmocka_run_group_tests_name("tls_peer", tests, make_certificates,
	    remove_certificates);
}
