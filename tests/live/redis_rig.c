#include "redis_rig.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

extern char **environ;

/* ---- the server ---- */

bool
server_exists(void)
{
	return access("/usr/bin/redis-server", X_OK) == 0 ||
	    access("/usr/local/bin/redis-server", X_OK) == 0;
}

static bool
admin_connect(struct server *s)
{
	redisReply *reply;
	bool ok;

	if (s->admin != NULL)
		redisFree(s->admin);
	s->admin = redisConnectUnixWithTimeout(s->socket,
	    (struct timeval){ 5, 0 });
	if (s->admin == NULL || s->admin->err != 0)
		return false;
	reply = redisCommand(s->admin, "PING");
	ok = reply != NULL && reply->type == REDIS_REPLY_STATUS;
	if (reply != NULL)
		freeReplyObject(reply);
	return ok;
}

void
server_again(struct server *s, const char *const *options)
{
	char port[16];
	const char *argv[64] = { "redis-server", "--port", port, "--bind",
	    "127.0.0.1", "--unixsocket", s->socket, "--dir", s->dir,
	    "--save", "", "--daemonize", "no", "--logfile", "redis.log" };
	size_t n = 15;
	uint64_t give_up = clock_monotonic_us() + DEADLINE_US;

	snprintf(port, sizeof(port), "%u", s->port);
	while (options != NULL && *options != NULL && n < 62)
		argv[n++] = *options++;
	argv[n] = NULL;
	assert_int_equal(posix_spawnp(&s->pid, "redis-server", NULL, NULL,
	    (char *const *)(uintptr_t)argv, environ), 0);
	while (!admin_connect(s)) {
		if (clock_monotonic_us() > give_up)
			fail_msg("redis-server does not start");
		(void)poll(NULL, 0, 5);
	}
}

void
server_start(struct server *s, const char *const *options)
{
	memset(s, 0, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), "/tmp/bot-redis-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->socket, sizeof(s->socket), "%s/redis.sock", s->dir);
	s->port = free_port();
	server_again(s, options);
}

void
server_kill(struct server *s, int signo)
{
	if (s->pid == 0)
		return;
	if (s->admin != NULL)
		redisFree(s->admin);
	s->admin = NULL;
	(void)kill(s->pid, signo);
	(void)waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

void
server_stop(struct server *s)
{
	server_kill(s, SIGKILL);
	remove_tree(s->dir);
}

static redisReply *
ask(struct server *s, const char *fmt, va_list ap)
{
	redisReply *reply = redisvCommand(s->admin, fmt, ap);

	if (reply == NULL)
		fail_msg("%s: %s", fmt, s->admin->errstr);
	if (reply->type == REDIS_REPLY_ERROR)
		fail_msg("%s: %s", fmt, reply->str);
	return reply;
}

void
redis_do(struct server *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	freeReplyObject(ask(s, fmt, ap));
	va_end(ap);
}

int64_t
redis_int(struct server *s, const char *fmt, ...)
{
	redisReply *reply;
	int64_t n;
	va_list ap;

	va_start(ap, fmt);
	reply = ask(s, fmt, ap);
	va_end(ap);
	assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
	n = reply->integer;
	freeReplyObject(reply);
	return n;
}

const char *
redis_str(struct server *s, const char *fmt, ...)
{
	static char text[8192];
	redisReply *reply;
	va_list ap;

	va_start(ap, fmt);
	reply = ask(s, fmt, ap);
	va_end(ap);
	while (reply->type == REDIS_REPLY_ARRAY && reply->elements != 0)
		break;
	if (reply->type == REDIS_REPLY_ARRAY) {
		text[0] = '\0';
		if (reply->elements != 0 && reply->element[0]->str != NULL)
			snprintf(text, sizeof(text), "%s",
			    reply->element[0]->str);
	} else {
		snprintf(text, sizeof(text), "%s",
		    reply->str != NULL ? reply->str : "(nil)");
	}
	freeReplyObject(reply);
	return text;
}

/* ---- the queue ---- */

static void
cut(struct rig *r)
{
	struct redis_queue *rq = r->q.impl;
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "crash", "crash");
	redis_conn_close(&rq->reader);
	redis_conn_close(&rq->writer);
	redis_give_up(rq, &err);
}

struct rig *
redis_rig_new(const char *address, const char *keys)
{
	_cleanup_free_ char *all = xasprintf("Address=%s\n%s", address, keys);
	struct rig *r = rig_new(&redis_queue_type, all);

	r->cut = cut;
	return r;
}

size_t
redis_problem_count(const char *keys)
{
	_cleanup_free_ char *all = xasprintf("Address=127.0.0.1:1\n%s", keys);

	return config_problem_count(&redis_queue_type, all);
}

/* ---- the one server of a test program ---- */

struct server server;

int
world_setup(void **state _unused_)
{
	if (server_exists())
		server_start(&server, NULL);
	return 0;
}

int
world_setup_durable(void **state _unused_)
{
	if (server_exists())
		server_start(&server, (const char *const[]){ "--appendonly",
		    "yes", "--appendfsync", "always", NULL });
	return 0;
}

int
world_teardown(void **state _unused_)
{
	if (server.pid != 0)
		server_stop(&server);
	return 0;
}

int
world_flush(void **state _unused_)
{
	if (server.pid == 0)
		return 0;
	/* One that failed may have left it stopped. */
	(void)kill(server.pid, SIGCONT);
	redis_do(&server, "FLUSHALL");
	return 0;
}

struct rig *
up(const char *keys, unsigned window)
{
	return rig_up(redis_rig_new(server.socket, keys), window);
}

int64_t
pending(void)
{
	redisReply *reply = redisCommand(server.admin, "XPENDING jobs g");
	int64_t n = reply->type == REDIS_REPLY_ARRAY ?
	    reply->element[0]->integer : -1;

	freeReplyObject(reply);
	return n;
}

void
produce(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		redis_do(&server, "XADD jobs * body m%u", i);
}
