/* TLS streams against each other, on a real loop. */
#include "tls_rig.h"

static void
test_talk(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");

	serve(r, "server.pem");
	connect_tls(r, c, NULL);	/* 127.0.0.1: in the certificate */
	tls_context_unref(c);
	RUN_UNTIL(r, r->client.ups == 1);
	check_talk(r);
	assert_non_null(strstr(stream_tls_text(&r->client.s), "TLSv1.3 TLS_"));
	hang_up(r);
	assert_string_equal(r->server.err.code, "eof");	/* with a goodbye */
	stop_serving(r);
}

static void
test_names(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} names[] = {
		{ "localhost", true },
		{ "localhost.", true },
		{ "a.example.test", true },
		{ "127.0.0.1", true },
		{ "127.0.0.2", false },
		{ "a.b.example.test", false },
		{ "example.test", false },
		{ "localhost.example.org", false },
	};
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");

	serve(r, "server.pem");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		r->client.ups = r->client.downs = 0;
		connect_tls(r, c, names[i].name);
		RUN_UNTIL(r, r->client.ups + r->client.downs == 1);
		assert_int_equal(r->client.ups, names[i].good);
		if (!names[i].good) {
			assert_string_equal(r->client.err.code, "tls_verify");
			assert_int_equal(r->client.err.class, ERROR_AUTH);
			assert_non_null(strstr(r->client.err.text,
			    names[i].name));
			assert_non_null(strstr(r->client.err.text, "mismatch"));
		}
		hang_up(r);
	}
	tls_context_unref(c);
	stop_serving(r);
}

static void
check_refused(struct rig *r, const char *certificate, const char *authority,
    const char *why)
{
	struct tls_context *c = client_context(authority);

	serve(r, certificate);
	connect_tls(r, c, "localhost");
	RUN_UNTIL(r, r->client.downs == 1);
	assert_int_equal(r->client.ups, 0);
	assert_string_equal(r->client.err.code, "tls_verify");
	assert_int_equal(r->client.err.class, ERROR_AUTH);
	assert_non_null(strstr(r->client.err.text, why));
	assert_non_null(strstr(r->client.err.text, "localhost"));
	tls_context_unref(c);
	hang_up(r);
	stop_serving(r);
}

static void
test_expired(void **state)
{
	check_refused(*state, "expired.pem", "ca.pem", "expired");
}

static void
test_unknown_authority(void **state)
{
	check_refused(*state, "server.pem", "other-ca.pem", "issuer");
}

static void
test_insecure(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = context(&(struct tls_params){
		.insecure = true });

	serve(r, "expired.pem");
	connect_tls(r, c, "who.ever");
	tls_context_unref(c);
	RUN_UNTIL(r, r->client.ups == 1);
	check_talk(r);
	hang_up(r);
	stop_serving(r);
}

static void
test_client_certificates(void **state)
{
	struct rig *r = *state;
	struct tls_context *s = context(&(struct tls_params){ .server = true,
		.certificate_file = file("server.pem"),
		.ca_file = file("ca.pem") });
	struct tls_context *c = context(&(struct tls_params){
		.certificate_file = file("client.pem"),
		.ca_file = file("ca.pem") });

	r->server_params.tls = s;
	rig_listen(r, "127.0.0.1:0");
	connect_tls(r, c, "localhost");
	RUN_UNTIL(r, r->client.ups == 1);
	check_talk(r);
	hang_up(r);
	tls_context_unref(c);

	c = client_context("ca.pem");
	connect_tls(r, c, "localhost");
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "tls_alert");
	assert_int_equal(r->client.err.class, ERROR_AUTH);
	hang_up(r);
	tls_context_unref(c);
	tls_context_unref(s);
}

static void
test_resumption(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct tls_context *other = context(&(struct tls_params){
		.ca_file = file("ca.pem"), .alpn = "http/1.1" });

	serve(r, "server.pem");
	for (int i = 0; i < 4; i++) {
		connect_tls(r, c, "localhost");
		RUN_UNTIL(r, r->client.ups == i + 1);
		assert_int_equal(tls_session_resumed(r->client.s.tls), i > 0);
		check_talk(r);		/* the tickets have come, too */
		hang_up(r);
	}
	/* Not for another name, nor from another context. */
	connect_tls(r, c, "127.0.0.1");
	RUN_UNTIL(r, r->client.ups == 5);
	assert_false(tls_session_resumed(r->client.s.tls));
	hang_up(r);
	connect_tls(r, other, "localhost");
	RUN_UNTIL(r, r->client.ups == 6);
	assert_false(tls_session_resumed(r->client.s.tls));
	hang_up(r);
	tls_context_unref(c);
	tls_context_unref(other);
	stop_serving(r);
}

/* Beside a context that does, and with the same file. */
static void
test_fresh_contexts_never_resume(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct tls_context *fresh = context(&(struct tls_params){
		.ca_file = file("ca.pem"), .fresh = true });
	int64_t until, now = (int64_t)(clock_realtime_us() / USEC_PER_SEC);

	assert_ptr_not_equal(c, fresh);
	serve(r, "server.pem");
	for (int i = 0; i < 4; i++) {
		connect_tls(r, i == 0 ? c : fresh, "localhost");
		RUN_UNTIL(r, r->client.ups == i + 1);
		assert_false(tls_session_resumed(r->client.s.tls));
		/* It is good for a day from the start of this test. */
		assert_true(stream_tls_until(&r->client.s, &until));
		assert_true(until > now && until <= now + 86400);
		check_talk(r);
		hang_up(r);
	}
	assert_false(stream_tls_until(&r->client.s, &until));
	tls_context_unref(c);
	tls_context_unref(fresh);
	stop_serving(r);
}

/* More peers than the cache holds: the oldest go, nothing grows or leaks. */
static void
test_resumption_is_bounded(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	char name[40];

	serve(r, "server.pem");
	for (int i = 0; i < 70; i++) {
		snprintf(name, sizeof(name), "n%d.example.test", i);
		connect_tls(r, c, name);
		RUN_UNTIL(r, r->client.ups == i + 1);
		check_talk(r);
		hang_up(r);
	}
	connect_tls(r, c, "n0.example.test");
	RUN_UNTIL(r, r->client.ups == 71);
	assert_false(tls_session_resumed(r->client.s.tls));
	hang_up(r);
	connect_tls(r, c, "n69.example.test");
	RUN_UNTIL(r, r->client.ups == 72);
	assert_true(tls_session_resumed(r->client.s.tls));
	hang_up(r);
	tls_context_unref(c);
	stop_serving(r);
}

static void
test_alpn(void **state)
{
	struct rig *r = *state;
	struct tls_context *s = context(&(struct tls_params){ .server = true,
		.certificate_file = file("server.pem"), .alpn = "http/1.1" });
	struct tls_context *good = context(&(struct tls_params){
		.ca_file = file("ca.pem"), .alpn = "http/1.1" });
	struct tls_context *bad = context(&(struct tls_params){
		.ca_file = file("ca.pem"), .alpn = "h2" });

	r->server_params.tls = s;
	rig_listen(r, "127.0.0.1:0");
	connect_tls(r, good, "localhost");
	RUN_UNTIL(r, r->client.ups == 1);
	hang_up(r);
	connect_tls(r, bad, "localhost");
	RUN_UNTIL(r, r->client.downs == 1);
	assert_int_equal(r->client.ups, 1);
	assert_int_equal(r->client.err.class, ERROR_PROTOCOL);
	hang_up(r);
	stop_serving(r);

	/* A server that knows nothing of ALPN does not speak h2. */
	r->server_params.tls = s = server_context("server.pem");
	connect_tls(r, bad, "localhost");
	RUN_UNTIL(r, r->client.downs == 2);
	assert_string_equal(r->client.err.code, "tls_alpn");
	hang_up(r);
	tls_context_unref(good);
	tls_context_unref(bad);
	tls_context_unref(s);
}

/* ---- amounts ---- */

static void
test_much_both_ways(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	size_t total = 8 * MIB;

	serve(r, "server.pem");
	connect_tls(r, c, "localhost");
	tls_context_unref(c);
	RUN_UNTIL(r, r->client.ups == 1);
	write_pattern(&r->client.s, total);
	RUN_UNTIL(r, buffer_len(&r->client.got) >= total);
	check_pattern(&r->client.got, total);
	assert_int_equal(r->client.drained, 1);
	hang_up(r);
	stop_serving(r);
}

/* More than the budget lies inside OpenSSL or behind one event. */
static void
test_budget_leaves_nothing_behind(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct stream_params p = { .tls = c, .tls_name = "localhost",
		.read_budget = 1 };
	size_t total = 300000;
	uint64_t before;

	serve(r, "server.pem");
	r->server.echo = false;
	end_connect(&r->client, &r->listener.bound, &p);
	tls_context_unref(c);
	RUN_UNTIL(r, r->client.ups == 1 && r->server.ups == 1);
	write_pattern(&r->server.s, total);
	do {
		before = r->client.s.bytes_in;
		/* If anything were waiting for more input, this would stall. */
		RUN_UNTIL(r, r->client.s.bytes_in > before ||
		    r->client.s.bytes_in == total);
		assert_true(r->client.s.bytes_in - before <= 65536);
	} while (r->client.s.bytes_in < total);
	check_pattern(&r->client.got, total);
	hang_up(r);
	stop_serving(r);
}

static void
test_pause_and_close_flushed(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");

	serve(r, "server.pem");
	r->server.echo = false;
	connect_tls(r, c, "localhost");
	tls_context_unref(c);
	RUN_UNTIL(r, r->client.ups == 1 && r->server.ups == 1);
	stream_pause(&r->client.s, true);
	write_pattern(&r->server.s, 100000);
	stream_close_flushed(&r->server.s);
	RUN_UNTIL(r, r->server.downs == 1);
	assert_string_equal(r->server.err.code, "closed");
	assert_int_equal(r->client.rounds, 0);
	stream_pause(&r->client.s, false);
	RUN_UNTIL(r, r->client.downs == 1);
	check_pattern(&r->client.got, 100000);
	assert_string_equal(r->client.err.code, "eof");
	stop_serving(r);
}

/* Carries bytes between two sockets, one at a time. */
static int
carry(int from, int to)
{
	char c;

	if (recv(from, &c, 1, 0) != 1)
		return 0;
	assert_int_equal(send(to, &c, 1, MSG_NOSIGNAL), 1);
	return 1;
}

static void
test_tiny_fragments(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct tls_context *s = server_context("server.pem");
	struct stream_params cp = { .tls = c, .tls_name = "localhost" };
	struct stream_params sp = { .tls = s };
	int a[2], b[2], carried = 0;

	/* A client that starts on a connection made elsewhere. */
	make_pair(SOCK_STREAM, a);
	make_pair(SOCK_STREAM, b);
	end_accept(&r->server, b[0], &sp);
	r->client.inside = true;
	stream_accept(&r->client.s, r->loop, a[0], &cp);
	r->client.inside = false;
	end_say(&r->client, "fragments");	/* waits until it is up */
	for (int i = 0; i < 20000 && !end_got(&r->client, "fragments"); i++) {
		assert_true(loop_turn(r->loop, 0) >= 0);
		carried += carry(a[1], b[1]);
		carried += carry(b[1], a[1]);
	}
	assert_true(end_got(&r->client, "fragments"));
	assert_true(carried > 1000);
	stream_close(&r->client.s);
	stream_close(&r->server.s);
	tls_context_unref(c);
	tls_context_unref(s);
	(void)close(a[1]);
	(void)close(b[1]);
}

/* ---- one context for equal clients ---- */

static void
test_equal_clients_share_one_context(void **state)
{
	struct rig *r = *state;
	const struct tls_params params = { .ca_file = file("ca.pem"),
		.certificate_file = file("client.pem"), .alpn = "http/1.1" };
	/* Equal strings at other places. */
	_cleanup_free_ char *path = xstrdup(params.ca_file);
	struct tls_params again = params;
	struct tls_context *a = context(&params), *b;

	again.ca_file = path;
	b = context(&again);
	assert_ptr_equal(a, b);
	serve(r, "server.pem");
	connect_tls(r, a, "localhost");
	RUN_UNTIL(r, r->client.ups == 1);
	check_talk(r);
	hang_up(r);
	/* The other reference lives on, sessions and all. */
	tls_context_unref(a);
	connect_tls(r, b, "localhost");
	RUN_UNTIL(r, r->client.ups == 2);
	assert_true(tls_session_resumed(r->client.s.tls));
	check_talk(r);
	hang_up(r);
	tls_context_unref(b);
	/* Nobody has it any more: this one is new. */
	a = context(&params);
	connect_tls(r, a, "localhost");
	RUN_UNTIL(r, r->client.ups == 3);
	assert_false(tls_session_resumed(r->client.s.tls));
	hang_up(r);
	tls_context_unref(a);
	stop_serving(r);
}

static void
test_other_clients_and_servers_share_nothing(void **state)
{
	const struct tls_params all[] = {
		{ .ca_file = file("ca.pem") },
		{ .ca_file = file("other-ca.pem") },
		{ .ca_file = file("ca.pem"), .insecure = true },
		{ .ca_file = file("ca.pem"), .alpn = "h2" },
		{ .ca_file = file("ca.pem"), .alpn = "http/1.1" },
		{ .ca_file = file("ca.pem"),
		    .certificate_file = file("client.pem") },
		{ .ca_file = file("ca.pem"),
		    .certificate_file = file("client.pem"),
		    .key_file = file("client.pem") },
		{ .insecure = true },
		{ .server = true, .certificate_file = file("server.pem") },
		{ .server = true, .certificate_file = file("server.pem") },
	};
	struct tls_context *c[ARRAY_SIZE(all)];
	struct tls_context *one;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		c[i] = context(&all[i]);
		for (size_t j = 0; j < i; j++)
			assert_ptr_not_equal(c[i], c[j]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		one = context(&all[i]);
		assert_int_equal(one == c[i], !all[i].server);
		tls_context_unref(one);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		tls_context_unref(c[i]);
}

/* Writes an authority to shared.pem in a way that mtime alone shows. */
static struct tls_context *
with_authority(const struct tls_params *p, const struct pair *authority,
    time_t changed_s)
{
	const struct timespec times[] = { { .tv_sec = changed_s },
		{ .tv_sec = changed_s } };

	save("shared.pem", authority, false);
	assert_int_equal(utimensat(AT_FDCWD, file("shared.pem"), times, 0), 0);
	return context(p);
}

static void
test_a_file_that_changed_is_read_again(void **state)
{
	struct rig *r = *state;
	const struct tls_params p = { .ca_file = file("shared.pem") };
	struct tls_context *old = with_authority(&p, &other_ca, 1000);
	struct tls_context *same = with_authority(&p, &other_ca, 1000);
	struct tls_context *now = with_authority(&p, &ca, 1001);
	struct tls_context *moved;

	assert_ptr_equal(old, same);
	assert_ptr_not_equal(old, now);
	serve(r, "server.pem");
	connect_tls(r, old, "localhost");
	RUN_UNTIL(r, r->client.downs == 1);
	hang_up(r);
	connect_tls(r, now, "localhost");
	RUN_UNTIL(r, r->client.ups == 1);
	hang_up(r);
	stop_serving(r);

	/* Another file of that name, as programs that renew them put it. */
	save("empty.pem", &ca, false);
	assert_int_equal(rename(file("empty.pem"), file("shared.pem")), 0);
	moved = context(&p);
	assert_ptr_not_equal(moved, now);
	save("empty.pem", NULL, false);
	tls_context_unref(moved);
	tls_context_unref(now);
	tls_context_unref(same);
	tls_context_unref(old);
}

static void
test_the_bundle_of_the_system_is_looked_at(void **state)
{
	const struct tls_params p = { .insecure = false };
	struct tls_context *a, *b, *c;

	(void)state;
	assert_int_equal(setenv("SSL_CERT_FILE", file("shared.pem"), 1), 0);
	a = with_authority(&p, &ca, 1000);
	b = context(&p);
	c = with_authority(&p, &ca, 1001);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
	tls_context_unref(a);
	tls_context_unref(b);
	tls_context_unref(c);
}

/* A failure is nobody's context; the next who asks gets his own answer. */
static void
test_failures_are_not_shared(void **state)
{
	const struct tls_params p = { .ca_file = file("later.pem") };
	struct error err = ERROR_INIT;
	struct tls_context *c;

	(void)state;
	assert_null(tls_context_new(&p, &err));
	save("later.pem", &ca, false);
	c = context(&p);
	tls_context_unref(c);
}

/* ---- closing and freeing where it hurts ---- */

static void
close_it(struct end *e)
{
	stream_close(&e->s);
}

static void
free_it(struct end *e)
{
	e->rig->accepted = -1;
	end_done(e);
	free(e);
}

static void
live_through(struct rig *r, struct end *e, struct tls_context *c)
{
	struct stream_params p = { .tls = c, .tls_name = "localhost" };

	end_connect(e, &r->listener.bound, &p);
	end_say(e, "x");
	for (int i = 0; i < 100 && r->accepted != -1; i++)
		assert_true(loop_turn(r->loop, 2000) >= 0);
	stream_close(&r->server.s);
	for (int i = 0; i < 5; i++)
		assert_true(loop_turn(r->loop, 1000) >= 0);
}

static void
test_close_and_free_inside_callbacks(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");

	serve(r, "server.pem");
	for (int i = 0; i < 5; i++) {
		struct end *e = new0(struct end);

		end_init(e, r, "mortal");
		if (i == 0)
			e->on_up = free_it;
		else if (i == 1)
			e->on_data = free_it;
		else if (i == 2)
			e->on_down = free_it;
		else if (i == 3)
			e->on_up = close_it;
		else
			e->on_data = close_it;
		r->accepted = 0;
		live_through(r, e, c);
		if (i < 3) {
			assert_int_equal(r->accepted, -1);
			continue;
		}
		assert_int_equal(e->s.state, STREAM_IDLE);
		assert_int_equal(e->downs, 0);
		end_done(e);
		free(e);
	}
	tls_context_unref(c);
	stop_serving(r);
}

/* ---- bad settings ---- */

static void
check_settings(const struct tls_params *p, const char *names)
{
	struct error err = ERROR_INIT;

	assert_null(tls_context_new(p, &err));
	assert_int_equal(err.class, ERROR_REJECTED);
	if (strstr(err.text, names) == NULL)
		fail_msg("\"%s\" does not name \"%s\"", err.text, names);
	assert_null(strstr(err.text, "PRIVATE"));
}

static void
test_bad_settings(void **state)
{
	(void)state;
	check_settings(&(struct tls_params){ .ca_file = "/nowhere.pem" },
	    "/nowhere.pem");
	check_settings(&(struct tls_params){ .ca_file = file("empty.pem") },
	    "empty.pem");
	check_settings(&(struct tls_params){ .server = true }, "certificate");
	check_settings(&(struct tls_params){ .server = true,
		.certificate_file = file("ca.pem") }, "ca.pem");
	check_settings(&(struct tls_params){ .server = true,
		.certificate_file = file("server.pem"),
		.key_file = file("client.pem") }, "client.pem");
	check_settings(&(struct tls_params){ .key_file = file("client.pem") },
	    "certificate");
	tls_context_unref(NULL);
}

static void
test_name_is_needed(void **state)
{
	struct rig *r = *state;
	struct tls_context *c = client_context("ca.pem");
	struct stream_params p = { .tls = c };
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], &p);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "tls_name");
	tls_context_unref(c);
	(void)close(fds[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_talk),
		rig_test(test_names),
		rig_test(test_expired),
		rig_test(test_unknown_authority),
		rig_test(test_insecure),
		rig_test(test_client_certificates),
		rig_test(test_resumption),
		rig_test(test_fresh_contexts_never_resume),
		rig_test(test_resumption_is_bounded),
		rig_test(test_alpn),
		rig_test(test_much_both_ways),
		rig_test(test_budget_leaves_nothing_behind),
		rig_test(test_pause_and_close_flushed),
		rig_test(test_tiny_fragments),
		rig_test(test_equal_clients_share_one_context),
		cmocka_unit_test(test_other_clients_and_servers_share_nothing),
		rig_test(test_a_file_that_changed_is_read_again),
		cmocka_unit_test(test_the_bundle_of_the_system_is_looked_at),
		cmocka_unit_test(test_failures_are_not_shared),
		rig_test(test_close_and_free_inside_callbacks),
		cmocka_unit_test(test_bad_settings),
		rig_test(test_name_is_needed),
	};

	return cmocka_run_group_tests_name("tls", tests, make_certificates,
	    remove_certificates);
}
