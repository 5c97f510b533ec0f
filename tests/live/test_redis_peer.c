/*
 * Servers that refuse, misbehave or say nothing: each is named in the error
 * that the status shows, and none delays anybody but its own queue.
 */
#include "redis_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static void
named_as(const char *address, const char *keys, enum error_class class,
    const char *code)
{
	rig_named_as(redis_rig_new(address, keys), class, code);
}

/* ---- a real server that refuses ---- */

static void
test_refused_and_no_socket(void **state _unused_)
{
	named_as("127.0.0.1:1", STREAM, ERROR_TRANSIENT, "ECONNREFUSED");
	named_as("/nonexistent/redis.sock", STREAM, ERROR_TRANSIENT,
	    "ENOENT");
}

static void
test_auth(void **state _unused_)
{
	char keys[256], path[128];
	struct rig *r;

	NEED_SERVER();
	snprintf(path, sizeof(path), "%s/password", server.dir);
	snprintf(keys, sizeof(keys), STREAM "PasswordFile=%s\n", path);
	redis_do(&server, "CONFIG SET requirepass sesame");
	named_as(server.socket, STREAM, ERROR_AUTH, "NOAUTH");
	write_file(path, "wrong\n");
	named_as(server.socket, keys, ERROR_AUTH, "WRONGPASS");
	/* Found without a restart when the file is put right. */
	r = redis_rig_new(server.socket, keys);
	rig_start(r);
	wait_for(r, r->downs == 1);
	write_file(path, "sesame\n");
	wait_for(r, r->ups == 1);
	assert_null(strstr(r->down.text, "wrong\n"));
	rig_free(r);
	(void)unlink(path);
	r = redis_rig_new(server.socket, keys);
	rig_start(r);
	wait_for(r, r->downs == 1);
	assert_int_equal(r->down.class, ERROR_AUTH);
	rig_free(r);
	redis_do(&server, "CONFIG SET requirepass %s", "");
}

static void
test_acl(void **state _unused_)
{
	char keys[256], path[128];
	struct rig *r;

	NEED_SERVER();
	snprintf(path, sizeof(path), "%s/acl", server.dir);
	write_file(path, "pw");
	snprintf(keys, sizeof(keys), STREAM "Username=bot\nPasswordFile=%s\n",
	    path);
	redis_do(&server, "ACL SETUSER bot on >pw ~jobs* ~{jobs}* +@connection "
	    "+@scripting +@hash +@sortedset");
	named_as(server.socket, keys, ERROR_AUTH, "NOPERM");
	/* A right that only a script lacks is named as well. */
	redis_do(&server, "ACL SETUSER bot reset on >pw ~jobs* ~{jobs}* +@all "
	    "-time");
	r = redis_rig_new(server.socket, keys);
	rig_start(r);
	r->window = 5;
	wait_for(r, strcmp(r->down.code, "NOPERM") == 0);
	rig_free(r);
	/* What the manual says is enough: INFO is not in it. */
	redis_do(&server, "ACL SETUSER bot reset on >pw ~jobs* ~{jobs}* "
	    "+time +@connection +@scripting +@stream +@list +@sortedset "
	    "+@hash +@set");
	redis_do(&server, "XADD jobs * body x");
	r = redis_rig_new(server.socket, keys);
	rig_start(r);
	r->window = 5;
	settle_and_wait(r, take_one(r), SETTLE_RETRY, 0, 2, 0);
	settle_and_wait(r, take_one(r), SETTLE_BURY, 0, 2, 0);
	assert_int_equal(probe(r)->dead, 1);
	rig_free(r);
	redis_do(&server, "ACL DELUSER bot");
}

static void
test_wrong_type_names_the_key(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "SET jobs 1");
	r = redis_rig_new(server.socket, STREAM);
	rig_start(r);
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "WRONGTYPE");
	assert_non_null(strstr(r->down.text, "jobs"));
	rig_free(r);
	named_as(server.socket, "Mode=list\nKey=jobs\n",
	    ERROR_REJECTED, "WRONGTYPE");
}

static void
test_no_such_database(void **state _unused_)
{
	NEED_SERVER();
	named_as(server.socket, STREAM "Database=99\n", ERROR_REJECTED,
	    "no_database");
}

static void
test_read_only_replica(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "XADD jobs * body x");
	r = redis_rig_new(server.socket, STREAM);
	rig_start(r);
	r->window = 5;
	wait_for(r, r->nheld == 1);
	/* It becomes a replica while we hold a message, and a primary again. */
	redis_do(&server, "REPLICAOF 127.0.0.1 1");
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, strcmp(r->down.code, "READONLY") == 0);
	assert_int_equal(r->settled, 0);
	redis_do(&server, "REPLICAOF NO ONE");
	wait_for(r, r->settled == 1);
	assert_int_equal(r->settle_errors, 0);
	rig_free(r);
}

static void
test_out_of_memory(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "XADD jobs * body x");
	r = redis_rig_new(server.socket, STREAM);
	rig_start(r);
	r->window = 5;
	wait_for(r, r->nheld == 1);
	redis_do(&server, "CONFIG SET maxmemory 1");
	settle(r, r->held[0], SETTLE_RETRY, 600 * USEC_PER_SEC, 2, 0);
	wait_for(r, strcmp(r->down.code, "OOM") == 0);
	assert_int_equal(r->settled, 0);
	redis_do(&server, "CONFIG SET maxmemory 0");
	wait_for(r, r->settled == 1);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(redis_int(&server, "ZCARD {jobs}:bot:g:delayed"), 1);
	rig_free(r);
}

static void
test_dead_letter_key_of_another_type(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	redis_do(&server, "XADD jobs * body x");
	redis_do(&server, "SET jobs:dead 1");
	r = redis_rig_new(server.socket, STREAM);
	rig_start(r);
	r->window = 5;
	wait_for(r, r->nheld == 1);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	wait_for(r, strcmp(r->down.code, "WRONGTYPE") == 0);
	redis_do(&server, "DEL jobs:dead");
	wait_for(r, r->settled == 1);
	assert_int_equal(r->settle_errors, 0);
	rig_free(r);
}

/* A server that is stopped in the middle of its work (SIGSTOP). */
static void
test_invariant_3_redis_stalled_server(void **state _unused_)
{
	struct rig *r;
	struct loop_stats stats;
	uint64_t before;

	NEED_SERVER();
	for (int i = 0; i < 10; i++)
		redis_do(&server, "XADD jobs * body x");
	r = redis_rig_new(server.socket, STREAM "ResponseTimeout=2s\n");
	rig_start(r);
	r->window = 10;
	wait_for(r, r->nheld == 10);
	loop_reset_longest(r->loop);
	(void)kill(server.pid, SIGSTOP);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	before = clock_monotonic_us();
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "response_timeout");
	assert_in_range(clock_monotonic_us() - before, 2 * USEC_PER_SEC,
	    20 * USEC_PER_SEC);
	for (int i = 0; i < 20; i++)
		rig_turn(r);
	loop_get_stats(r->loop, &stats);
	/* To wait for the server would have been 2 s and more. */
	assert_true(stats.longest_turn_us < 1500 * USEC_PER_MSEC);
	(void)kill(server.pid, SIGCONT);
	wait_for(r, r->settled == 1 && r->ups == 2);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->delivered, 10);
	/* And stopping does not wait for one that is stalled. */
	(void)kill(server.pid, SIGSTOP);
	before = clock_monotonic_us();
	rig_stop(r);
	assert_true(clock_monotonic_us() - before < 20 * USEC_PER_SEC);
	(void)kill(server.pid, SIGCONT);
	rig_free(r);
}

/* ---- TLS ---- */

static void
make_certificate(const char *dir)
{
	_cleanup_free_ char *command = xasprintf("openssl req -x509 -newkey "
	    "ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
	    "-subj /CN=localhost -addext subjectAltName=DNS:localhost "
	    "-keyout %s/key.pem -out %s/cert.pem >%s/openssl.log 2>&1", dir,
	    dir, dir);

	assert_int_equal(system(command), 0);
}

static void
test_tls(void **state _unused_)
{
	struct server tls;
	char dir[] = "/tmp/bot-redis-tls-XXXXXX";
	char cert[96], key[96], port[16], keys[512], address[64];
	struct rig *r;

	NEED_SERVER();
	if (access("/usr/bin/openssl", X_OK) != 0) {
		print_message("no openssl(1): skipped\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	make_certificate(dir);
	snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	snprintf(key, sizeof(key), "%s/key.pem", dir);
	/* A port next to one that was free a moment ago. */
	snprintf(port, sizeof(port), "%u", server.port > 60000 ?
	    server.port - 7001 : server.port + 3001);
	server_start(&tls, (const char *const[]){ "--tls-port", port,
	    "--tls-cert-file", cert, "--tls-key-file", key,
	    "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", NULL });
	snprintf(address, sizeof(address), "localhost:%s", port);
	snprintf(keys, sizeof(keys), STREAM "TLS=yes\nTLSCAFile=%s\n", cert);
	for (int i = 0; i < 500; i++)
		redis_do(&tls, "XADD jobs * body %d", i);
	r = redis_rig_new(address, keys);
	r->auto_ack = true;
	rig_start(r);
	r->window = 200;
	wait_for(r, r->settled == 500);
	assert_int_equal(r->settle_errors, 0);
	assert_non_null(stream_tls_text(&redis_of(&r->q)->writer.stream));
	rig_free(r);
	/* Not signed by anybody we know; and another name. */
	named_as(address, STREAM "TLS=yes\n", ERROR_AUTH, "tls_verify");
	strncat(keys, "TLSServerName=other.example\n",
	    sizeof(keys) - strlen(keys) - 1);
	named_as(address, keys, ERROR_AUTH, "tls_verify");
	r = redis_rig_new(address, STREAM "TLS=yes\nTLSVerify=no\n");
	rig_start(r);
	wait_for(r, r->ups == 1);
	rig_free(r);
	named_as(address, STREAM "TLS=yes\nTLSCAFile=/nonexistent\n",
	    ERROR_REJECTED, "tls_config");
	server_stop(&tls);
	remove_tree(dir);
}

/* ---- scripted peers ---- */

struct script {
	const char *version;		/* what INFO answers; NULL: 7.0.0 */
	const char *answer;		/* to everything after the handshake */
	size_t n;			/* its length; 0: strlen */
	const char *first;		/* NULL, or at once when connected */
	bool silent;			/* accepts and never answers */
	bool hang_up;			/* after the answer */
};

struct peer {
	pid_t pid;
	char dir[64], path[96];
};

static void
say(int fd, const char *text, size_t n)
{
	while (n != 0) {
		ssize_t w = write(fd, text, n);

		if (w <= 0)
			return;
		text += w;
		n -= (size_t)w;
	}
}

static size_t
count_of(const char *in, size_t len, const char *what)
{
	size_t n = 0, k = strlen(what);

	for (size_t i = 0; i + k <= len; i++)
		if (memcmp(in + i, what, k) == 0)
			n++;
	return n;
}

/* Our handshake is one write; what comes later is answered by the script. */
static void
converse(int fd, const struct script *s)
{
	char in[65536];
	ssize_t n;

	if (s->first != NULL)
		say(fd, s->first, strlen(s->first));
	while ((n = read(fd, in, sizeof(in))) > 0) {
		char info[128];
		int len;

		if (s->silent)
			continue;
		if (count_of(in, (size_t)n, "$4\r\nINFO\r\n") != 0) {
			len = snprintf(info, sizeof(info),
			    "redis_version:%s\r\n",
			    s->version != NULL ? s->version : "7.0.0");
			dprintf(fd, "+OK\r\n:5\r\n$%d\r\n%s\r\n", len, info);
			continue;
		}
		say(fd, s->answer, s->n != 0 ? s->n : strlen(s->answer));
		if (s->hang_up)
			break;
	}
	(void)close(fd);
	_exit(0);
}

static void
peer_start(struct peer *p, const struct script *s)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	snprintf(p->dir, sizeof(p->dir), "/tmp/bot-peer-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/s", p->dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", p->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 16), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		(void)setpgid(0, 0);
		(void)signal(SIGCHLD, SIG_IGN);
		for (;;) {
			int c = accept(fd, NULL, NULL);

			if (c < 0)
				_exit(0);
			if (fork() == 0)
				converse(c, s);
			(void)close(c);
		}
	}
	(void)setpgid(p->pid, p->pid);
	(void)close(fd);
}

static void
peer_stop(struct peer *p)
{
	(void)kill(-p->pid, SIGKILL);
	(void)waitpid(p->pid, NULL, 0);
	remove_tree(p->dir);
}

static void
scripted(const struct script *s, enum error_class class, const char *code)
{
	struct peer p;
	/* The peer, too, needs its time to answer. */
	const char *keys = strcmp(code, "response_timeout") == 0 ?
	    STREAM "ResponseTimeout=200ms\nReplyMax=64K\n" :
	    STREAM "ResponseTimeout=10s\nReplyMax=64K\n";

	peer_start(&p, s);
	named_as(p.path, keys, class, code);
	peer_stop(&p);
}

static void
answers(const char *answer, enum error_class class, const char *code)
{
	struct script s = { .answer = answer };

	scripted(&s, class, code);
}

static void
test_error_replies_are_named(void **state _unused_)
{
	answers("-LOADING Redis is loading the dataset in memory\r\n",
	    ERROR_TRANSIENT, "LOADING");
	answers("-MASTERDOWN Link with MASTER is down\r\n", ERROR_TRANSIENT,
	    "MASTERDOWN");
	answers("-NOREPLICAS Not enough good replicas to write.\r\n",
	    ERROR_TRANSIENT, "NOREPLICAS");
	answers("-UNBLOCKED force unblock from blocking operation\r\n",
	    ERROR_TRANSIENT, "UNBLOCKED");
	answers("-BUSY Redis is busy running a script.\r\n", ERROR_TRANSIENT,
	    "BUSY");
	answers("-MISCONF Redis is configured to save RDB snapshots\r\n",
	    ERROR_TRANSIENT, "MISCONF");
	answers("-MOVED 1234 127.0.0.1:7001\r\n", ERROR_REJECTED, "MOVED");
	answers("-ASK 1234 127.0.0.1:7001\r\n", ERROR_REJECTED, "ASK");
	answers("-CLUSTERDOWN The cluster is down\r\n", ERROR_REJECTED,
	    "CLUSTERDOWN");
	answers("-ERR Error running script (call to f_1): @user_script:3: "
	    "-READONLY You can't write\r\n", ERROR_TRANSIENT, "READONLY");
	answers("-ERR something\x01 new\r\n", ERROR_REJECTED, "ERR");
	answers("-ERR unknown command 'SCRIPT'\r\n", ERROR_REJECTED,
	    "server_too_old");
}

static void
test_odd_versions(void **state _unused_)
{
	struct script old = { .version = "5.0.14", .answer = "+OK\r\n" };

	scripted(&old, ERROR_REJECTED, "server_too_old");
}

static void
test_greetings_instead_of_answers(void **state _unused_)
{
	struct script denied = { .answer = "",
	    .first = "-DENIED Redis is running in protected mode\r\n" };
	struct script full = { .answer = "",
	    .first = "-ERR max number of clients reached\r\n" };

	scripted(&denied, ERROR_AUTH, "DENIED");
	scripted(&full, ERROR_TRANSIENT, "max_clients");
}

static void
test_peers_that_make_no_sense(void **state _unused_)
{
	static char huge[200000];
	struct script silent = { .silent = true, .answer = "" };
	struct script ssh = { .answer = "", .first = "SSH-2.0-OpenSSH_9\r\n" };
	struct script half = { .answer = "$100\r\nabc", .hang_up = true };
	struct script stuck = { .answer = "$100\r\nabc" };
	struct script bulk = { .answer = huge, .n = sizeof(huge) };
	struct script unasked = { .answer = ":1\r\n", .first =
	    "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n" };

	scripted(&silent, ERROR_TRANSIENT, "response_timeout");
	scripted(&ssh, ERROR_PROTOCOL, "bad_reply");
	answers("HTTP/1.1 400 Bad Request\r\n\r\n", ERROR_PROTOCOL,
	    "bad_reply");
	scripted(&half, ERROR_TRANSIENT, "eof");
	scripted(&stuck, ERROR_TRANSIENT, "response_timeout");
	answers("*2147483647\r\n", ERROR_PROTOCOL, "reply_too_large");
	answers("$2147483647\r\n", ERROR_TRANSIENT, "response_timeout");
	answers("$99999999999999999999\r\n", ERROR_PROTOCOL, "bad_reply");
	memset(huge, 'x', sizeof(huge));
	memcpy(huge, "$199999999\r\n", 12);
	scripted(&bulk, ERROR_PROTOCOL, "reply_too_large");
	answers("*0\r\n", ERROR_PROTOCOL, "bad_reply");
	scripted(&unasked, ERROR_PROTOCOL, "unasked_reply");
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_refused_and_no_socket),
		T(test_auth),
		T(test_acl),
		T(test_wrong_type_names_the_key),
		T(test_no_such_database),
		T(test_read_only_replica),
		T(test_out_of_memory),
		T(test_dead_letter_key_of_another_type),
		T(test_invariant_3_redis_stalled_server),
		T(test_tls),
		T(test_error_replies_are_named),
		T(test_odd_versions),
		T(test_greetings_instead_of_answers),
		T(test_peers_that_make_no_sense),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("redis_peer", tests,
	    world_setup,
	    world_teardown);
}
