/* Addresses, listeners, name lookups and connects, on a real loop. */
#include "net_rig.h"

#include <arpa/inet.h>
#include <sys/resource.h>

/* ---- addresses ---- */

static void
test_addresses(void **state)
{
	static const struct {
		const char *text;
		enum address_kind kind;
		const char *host;
		uint16_t port;
		const char *back;
	} good[] = {
		{ "127.0.0.1:80", ADDRESS_IP, "127.0.0.1", 80, "127.0.0.1:80" },
		{ "127.0.0.1", ADDRESS_IP, "127.0.0.1", 7, "127.0.0.1:7" },
		{ "127.0.0.1:0", ADDRESS_IP, "127.0.0.1", 0, "127.0.0.1:0" },
		{ "[::1]:443", ADDRESS_IP, "::1", 443, "[::1]:443" },
		{ "[::1]", ADDRESS_IP, "::1", 7, "[::1]:7" },
		{ "::1", ADDRESS_IP, "::1", 7, "[::1]:7" },
		{ "redis", ADDRESS_NAME, "redis", 7, "redis:7" },
		{ "a-b.c_d.example:65535", ADDRESS_NAME, "a-b.c_d.example",
		    65535, "a-b.c_d.example:65535" },
		{ "example.:1", ADDRESS_NAME, "example.", 1, "example.:1" },
		{ "/run/x.sock", ADDRESS_UNIX, "/run/x.sock", 0,
		    "/run/x.sock" },
	};
	static const char *const bad[] = { "", ":80", "a:65536", "a:", "a:b",
		"a:-1", "[::1", "[::1]80", "[::1]:", "[redis]:1",
		"::1:2:3:4:5:6:7:8:9",
		"1.2.3:1", "1.2.3.256:1", "a b:1", "a..b:1", ".a:1", "a/b:1",
		"fe80::1%no-such-zone" };
	char text[ADDRESS_TEXT_BYTES], longer[400];
	struct address a;
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(address_parse(&a, good[i].text, 7, &err), 0);
		assert_int_equal(a.kind, good[i].kind);
		assert_string_equal(a.host, good[i].host);
		assert_int_equal(a.port, good[i].port);
		assert_string_equal(address_text(&a, text), good[i].back);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		error_clear(&err);
		if (address_parse(&a, bad[i], 7, &err) == 0)
			fail_msg("\"%s\" was accepted", bad[i]);
		assert_int_equal(err.class, ERROR_REJECTED);
	}
	assert_int_equal(address_parse(&a, "redis", 0, &err), -EINVAL);
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(address_parse(&a, longer, 7, &err), -EINVAL);
	longer[0] = '/';
	assert_int_equal(address_parse(&a, longer, 7, &err), -EINVAL);
}

/* ---- up, echo, down ---- */

static void
check_echo(struct rig *r, const struct address *to)
{
	end_connect(&r->client, to, NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	end_say(&r->client, "hel");
	end_say(&r->client, "lo");
	RUN_UNTIL(r, end_got(&r->client, "hello"));
	assert_int_equal(r->server.rounds, 1);	/* left in one write */
	assert_int_equal(r->client.s.bytes_in, 5);
	assert_int_equal(r->client.s.bytes_out, 5);
	stream_close(&r->client.s);
	RUN_UNTIL(r, r->server.downs == 1);
	assert_string_equal(r->server.err.code, "eof");
	assert_int_equal(r->server.err.class, ERROR_TRANSIENT);
	assert_int_equal(r->client.downs, 0);
}

static void
test_tcp4(void **state)
{
	struct rig *r = *state;

	rig_listen(r, "127.0.0.1:0");
	assert_int_not_equal(r->listener.bound.port, 0);
	check_echo(r, &r->listener.bound);
}

static bool
have_v6(void)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool ok = fd >= 0 &&
	    bind(fd, (struct sockaddr *)&in6, sizeof(in6)) == 0;

	if (fd >= 0)
		(void)close(fd);
	return ok;
}

static void
test_tcp6(void **state)
{
	struct rig *r = *state;

	if (!have_v6()) {
		print_message("no IPv6 on loopback: skipped\n");
		skip();
	}
	rig_listen(r, "[::1]:0");
	check_echo(r, &r->listener.bound);
}

static void
test_unix(void **state)
{
	struct rig *r = *state;
	char path[100];
	struct stat st;

	snprintf(path, sizeof(path), "%s/s", r->dir);
	rig_listen(r, path);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	check_echo(r, &r->listener.bound);
	listener_stop(&r->listener);
	assert_int_equal(lstat(path, &st), -1);
}

static void
test_any_v6_leaves_v4_free(void **state)
{
	struct rig *r = *state;
	struct listener v4;
	struct address a;
	struct error err;

	if (!have_v6()) {
		print_message("no IPv6 on loopback: skipped\n");
		skip();
	}
	rig_listen(r, "[::]:0");
	a = parse("0.0.0.0:0");
	a.port = r->listener.bound.port;
	listener_init(&v4, "v4", rig_on_accept, r);
	assert_int_equal(listener_start(&v4, r->loop, &a, 0, &err), 0);
	listener_stop(&v4);
}

static void
test_socket_files(void **state)
{
	struct rig *r = *state;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct listener second;
	struct error err;
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/s", r->dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	/* Left over by somebody who died. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 1), 0);
	(void)close(fd);
	rig_listen(r, path);

	/* Used by somebody who lives. */
	listener_init(&second, "second", rig_on_accept, r);
	assert_int_equal(listener_start(&second, r->loop, &r->listener.bound,
	    0600, &err), -EADDRINUSE);
	RUN_UNTIL(r, r->server.downs == 1);	/* it was only probed */
	r->server.downs = 0;
	check_echo(r, &r->listener.bound);

	/* Replaced by somebody else: not ours to remove. */
	assert_int_equal(unlink(path), 0);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	listener_stop(&r->listener);
	assert_int_equal(access(path, F_OK), 0);

	/* And no socket at all. */
	assert_int_equal(listener_start(&second, r->loop, &r->listener.bound,
	    0600, &err), -EEXIST);
	assert_int_equal(err.class, ERROR_REJECTED);
	assert_int_equal(unlink(path), 0);
}

static void
test_listener_adopt(void **state)
{
	struct rig *r = *state;
	struct address a;
	struct error err;
	int fd = raw_listen(5, &a);

	assert_int_equal(listener_adopt(&r->listener, r->loop, fd, &err), 0);
	assert_int_equal(r->listener.bound.port, a.port);
	check_echo(r, &a);
}

static void
test_listener_pauses_without_descriptors(void **state)
{
	struct rig *r = *state;
	struct rlimit old, none;
	struct loop_stats before, after;
	uint64_t start;

	rig_listen(r, "127.0.0.1:0");
	end_connect(&r->client, &r->listener.bound, NULL);
	/* The client has its socket; the server cannot have one. */
	while (r->client.s.fd < 0)
		assert_true(loop_turn(r->loop, 0) >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	RUN_UNTIL(r, timer_armed(&r->listener.pause) || r->accepted != 0);
	assert_int_equal(r->accepted, 0);
	loop_get_stats(r->loop, &before);
	start = clock_monotonic_us();
	while (clock_monotonic_us() < start + 50 * USEC_PER_MSEC)
		(void)loop_turn(r->loop, 10000);
	loop_get_stats(r->loop, &after);
	assert_true(after.turns - before.turns < 20);	/* it does not spin */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	RUN_UNTIL(r, r->accepted == 1 || r->client.downs == 1);
	/* valgrind's accept takes the connection and drops it. */
	if (r->accepted == 0)
		end_connect(&r->client, &r->listener.bound, NULL);
	RUN_UNTIL(r, r->accepted == 1);
}

/* ---- names ---- */

static void
test_localhost(void **state)
{
	struct rig *r = *state;
	struct address a = parse("localhost:1");

	rig_listen(r, "127.0.0.1:0");
	a.port = r->listener.bound.port;
	check_echo(r, &a);
}

static void
test_next_address_when_first_refuses(void **state)
{
	struct rig *r = *state;
	struct address a = parse("x.LocalHost.:1");

	if (!have_v6()) {
		print_message("no IPv6 on loopback: skipped\n");
		skip();
	}
	rig_listen(r, "[::1]:0");	/* 127.0.0.1 is tried first */
	a.port = r->listener.bound.port;
	check_echo(r, &a);
}

/* A name server: "good." has 127.0.0.1, "mute." no answer, others nothing. */
struct dns {
	struct io io;
	int asked;
	char servers[64];
};

static void
dns_on_readable(struct io *io, uint32_t events)
{
	static const unsigned char a_record[] = { 0xc0, 0x0c, 0, 1, 0, 1, 0, 0,
		0, 60, 0, 4, 127, 0, 0, 1 };
	struct dns *d = io->owner;
	unsigned char p[600];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(io->fd, p, 500, 0, (struct sockaddr *)&from, &len);
	size_t at = 12;
	bool good, is_a;

	(void)events;
	if (n < 17)
		return;
	d->asked++;
	if (memcmp(p + 12, "\4mute", 5) == 0)
		return;
	good = memcmp(p + 12, "\4good", 5) == 0;
	while (p[at] != 0)
		at += (size_t)p[at] + 1;
	is_a = p[at + 2] == 1;
	at += 5;
	p[2] = 0x81;
	p[3] = good ? 0x80 : 0x83;		/* NXDOMAIN */
	memset(p + 6, 0, 6);
	if (good && is_a) {
		p[7] = 1;
		memcpy(p + at, a_record, sizeof(a_record));
		at += sizeof(a_record);
	}
	(void)sendto(io->fd, p, at, 0, (struct sockaddr *)&from, len);
}

static void
dns_start(struct rig *r, struct dns *d)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*d = (struct dns){ 0 };
	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	io_init(&d->io, "dns", dns_on_readable, d);
	assert_int_equal(io_add(r->loop, &d->io, fd, EPOLLIN), 0);
	snprintf(d->servers, sizeof(d->servers), "127.0.0.1:%u",
	    ntohs(in.sin_port));
	assert_int_equal(resolver_set_servers(r->resolver, d->servers), 0);
}

static void
dns_stop(struct rig *r, struct dns *d)
{
	int fd = d->io.fd;

	io_remove(r->loop, &d->io);
	(void)close(fd);
}

static void
test_name_server(void **state)
{
	struct rig *r = *state;
	struct address a = parse("good.test.:1");
	struct dns d;

	dns_start(r, &d);
	rig_listen(r, "127.0.0.1:0");
	a.port = r->listener.bound.port;
	check_echo(r, &a);
	assert_true(d.asked >= 1);

	end_connect_text(&r->client, "nobody.test.:1", NULL);
	assert_int_equal(r->client.s.state, STREAM_RESOLVING);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "name_not_found");
	assert_non_null(strstr(r->client.err.text, "nobody.test."));
	dns_stop(r, &d);
}

static void
test_mute_name_server(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .connect_timeout_us = 100000 };
	struct dns d;

	dns_start(r, &d);
	end_connect_text(&r->client, "mute.test.:1", &p);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "resolve_timeout");
	assert_true(d.asked >= 1);

	/* Closed in the middle: nothing comes of it. */
	end_connect_text(&r->client, "mute.test.:1", NULL);
	stream_close(&r->client.s);
	assert_int_equal(r->client.downs, 1);
	dns_stop(r, &d);
}

static void
test_name_without_resolver(void **state)
{
	struct rig *r = *state;
	struct address a = parse("good.test.:1");

	stream_connect(&r->client.s, r->loop, NULL, &a, NULL);
	assert_int_equal(r->client.downs, 0);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "no_resolver");
}

/* ---- connects that fail ---- */

static void
test_refused(void **state)
{
	struct rig *r = *state;
	struct address a;
	int fd = raw_listen(1, &a);
	char path[100];

	(void)close(fd);
	end_connect(&r->client, &a, NULL);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "ECONNREFUSED");
	assert_int_equal(r->client.err.class, ERROR_TRANSIENT);
	assert_non_null(strstr(r->client.err.text, "127.0.0.1"));

	snprintf(path, sizeof(path), "%s/nobody", r->dir);
	end_connect_text(&r->client, path, NULL);
	RUN_UNTIL(r, r->client.downs == 2);
	assert_string_equal(r->client.err.code, "ENOENT");
	assert_int_equal(r->client.ups, 0);
}

static void
test_unreachable(void **state)
{
	struct rig *r = *state;

	/* TCP to the broadcast address is refused by our own kernel. */
	end_connect_text(&r->client, "255.255.255.255:9", NULL);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_int_equal(r->client.ups, 0);
	assert_non_null(strstr(r->client.err.text, "255.255.255.255:9"));
}

static int
fill_backlog(const struct address *a, int *fds, int max)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int n = 0;

	assert_int_equal(address_to_sockaddr(a, &ss, &len), 0);
	while (n < max) {
		int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (connect(fd, (struct sockaddr *)&ss, len) < 0 &&
		    errno == EAGAIN) {
			(void)close(fd);
			break;
		}
		fds[n++] = fd;
	}
	return n;
}

static void
test_connect_timeout(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .connect_timeout_us = 150000 };
	struct address a;
	int fd = raw_listen(0, &a), fds[4];
	int n = fill_backlog(&a, fds, 4);
	uint64_t start = clock_monotonic_us();

	end_connect(&r->client, &a, &p);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "connect_timeout");
	assert_true(clock_monotonic_us() - start >= 150000);
	while (n > 0)
		(void)close(fds[--n]);
	(void)close(fd);
}

/* The first address is silent: the second gets its share of the time. */
static void
test_next_address_when_first_is_silent(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .connect_timeout_us = 400000 };
	struct address a, v6 = parse("[::1]:1"), name = parse("localhost:1");
	uint64_t start = clock_monotonic_us();
	struct error err;
	int fd, fds[4], n;

	if (!have_v6()) {
		print_message("no IPv6 on loopback: skipped\n");
		skip();
	}
	fd = raw_listen(0, &a);
	n = fill_backlog(&a, fds, 4);
	v6.port = name.port = a.port;
	if (listener_start(&r->listener, r->loop, &v6, 0, &err) == 0) {
		end_connect(&r->client, &name, &p);
		RUN_UNTIL(r, r->client.ups + r->client.downs == 1);
		assert_int_equal(r->client.ups, 1);
		assert_true(clock_monotonic_us() - start >= 200000);
	}
	while (n > 0)
		(void)close(fds[--n]);
	(void)close(fd);
}

static void
test_unix_backlog_full_then_not(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .connect_timeout_us = 100000 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct address a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int fds[4], n, peer;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", r->dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 0), 0);
	a = parse(un.sun_path);
	n = fill_backlog(&a, fds, 4);
	assert_true(n >= 1 && n < 4);
	end_connect(&r->client, &a, &p);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "connect_timeout");

	end_connect(&r->client, &a, NULL);
	for (int i = 0; i < 3; i++)
		assert_true(loop_turn(r->loop, 1000) >= 0);
	assert_int_equal(r->client.ups, 0);
	peer = raw_accept(r, fd);
	(void)close(peer);
	RUN_UNTIL(r, r->client.ups == 1);
	while (n > 0)
		(void)close(fds[--n]);
	(void)close(fd);
	assert_int_equal(unlink(un.sun_path), 0);
}

#ifdef BOT_FAULT_INJECTION
static void
test_injected_faults(void **state)
{
	static const char *const spec[] = { "stream.read=1:error",
		"stream.write=1:error", "stream.connect=1:error" };
	static const char *const code[] = { "ECONNRESET", "ECONNRESET",
		"ECONNREFUSED" };
	struct rig *r = *state;

	rig_listen(r, "127.0.0.1:0");
	r->server.echo = false;
	for (int i = 0; i < 3; i++) {
		fault_arm(spec[i]);
		end_connect(&r->client, &r->listener.bound, NULL);
		end_say(&r->client, "x");
		if (i == 0)
			r->server.echo = true;
		RUN_UNTIL(r, r->client.downs + r->server.downs > 0);
		if (r->client.downs > 0)
			assert_string_equal(r->client.err.code, code[i]);
		fault_arm(NULL);
		stream_close(&r->client.s);
		stream_close(&r->server.s);
		r->client.downs = r->server.downs = 0;
	}
	fault_arm("resolve.start=1:error");
	end_connect_text(&r->client, "localhost:1", NULL);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "resolve_failed");
	fault_arm(NULL);
}
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		rig_test(test_tcp4),
		rig_test(test_tcp6),
		rig_test(test_unix),
		rig_test(test_any_v6_leaves_v4_free),
		rig_test(test_socket_files),
		rig_test(test_listener_adopt),
		rig_test(test_listener_pauses_without_descriptors),
		rig_test(test_localhost),
		rig_test(test_next_address_when_first_refuses),
		rig_test(test_name_server),
		rig_test(test_mute_name_server),
		rig_test(test_name_without_resolver),
		rig_test(test_refused),
		rig_test(test_unreachable),
		rig_test(test_connect_timeout),
		rig_test(test_next_address_when_first_is_silent),
		rig_test(test_unix_backlog_full_then_not),
#ifdef BOT_FAULT_INJECTION
		rig_test(test_injected_faults),
#endif
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
