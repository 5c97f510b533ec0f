#include "redis_rig.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/log.h"
#include "engine/engine.h"

extern char **environ;

/* ---- an engine ---- */

static struct rig *
rig_of(struct queue *q)
{
	return container_of(q, struct rig, q);
}

void
queue_up(struct queue *q)
{
	rig_of(q)->ups++;
	q->connected = true;
}

void
queue_down(struct queue *q, const struct error *err)
{
	rig_of(q)->downs++;
	rig_of(q)->down = *err;
	q->connected = false;
}

static void
forget(struct rig *r, struct message *m)
{
	for (unsigned i = 0; i < r->nheld; i++) {
		if (r->held[i] == m) {
			memmove(r->held + i, r->held + i + 1,
			    (--r->nheld - i) * sizeof(r->held[0]));
			return;
		}
	}
	fail_msg("a message that is not held");
}

void
queue_deliver(struct queue *q, struct message *m)
{
	struct rig *r = rig_of(q);

	assert_true(r->nheld < HELD_MAX);
	m->state = MESSAGE_WAITING;
	m->received_us = loop_now_us(r->loop);
	r->delivered++;
	if (r->auto_ack) {
		struct settlement s = { .kind = SETTLE_ACK };

		m->state = MESSAGE_SETTLING;
		q->nsettling++;
		r->ops->settle(q, m, &s);
		return;
	}
	q->nwaiting++;
	r->held[r->nheld++] = m;
}

void
queue_deliver_malformed(struct queue *q, struct message *m, const char *fmt,
    ...)
{
	struct rig *r = rig_of(q);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	r->malformed++;
	q->nwaiting++;
	r->held[r->nheld++] = m;
	settle(r, m, SETTLE_BURY, 0, 1, 0);
}

void
queue_settled(struct queue *q, struct message *m, const struct error *err)
{
	struct rig *r = rig_of(q);

	assert_int_equal(m->state, MESSAGE_SETTLING);
	r->settled++;
	q->nsettling--;
	if (err != NULL) {
		r->settle_errors++;
		r->settle_error = *err;
	}
	message_free(m);
}

void
queue_extended(struct queue *q, struct message *m, uint64_t until_us)
{
	struct rig *r = rig_of(q);

	assert_int_not_equal(m->state, MESSAGE_SETTLING);
	m->extending = false;
	if (until_us == 0) {
		r->lost++;
		m->lease_lost = true;
		return;
	}
	r->extended++;
	m->lease_until_us = until_us;
}

void
queue_backlog(struct queue *q, const struct backlog *b)
{
	rig_of(q)->backlog = *b;
	rig_of(q)->backlogs++;
}

void
queue_stopped(struct queue *q)
{
	rig_of(q)->stopped = true;
}

uint64_t
queue_reconnect_delay_us(unsigned failures)
{
	return MIN(failures, 10u) * 20 * USEC_PER_MSEC;
}

/* ---- the server ---- */

bool
server_exists(void)
{
	return access("/usr/bin/redis-server", X_OK) == 0 ||
	    access("/usr/local/bin/redis-server", X_OK) == 0;
}

static unsigned
free_port(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	return ntohs(in.sin_port);
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

static int
remove_one(const char *path, const struct stat *st _unused_, int flag _unused_,
    struct FTW *ftw _unused_)
{
	return remove(path);
}

void
remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
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

static const struct config_kind *const schema[] = {
	&engine_queue_kind, &redis_queue_kind, NULL
};

static struct config *
load(const char *address, const char *keys)
{
	_cleanup_free_ char *text = xasprintf("[Queue jobs]\nType=redis\n"
	    "Address=%s\n%s", address, keys);

	return config_load_text("test.conf", text, schema);
}

struct rig *
rig_new(const char *address, const char *keys)
{
	struct rig *r = new0(struct rig);
	const struct config_section *section;
	struct error err = ERROR_INIT;

	r->others = message_count();
	r->config = load(address, keys);
	if (config_problems(r->config) != 0)
		fail_msg("%s", config_problem_text(r->config, 0));
	assert_int_equal(loop_new(&r->loop), 0);
	assert_int_equal(resolver_new(r->loop, &r->resolver), 0);
	section = config_find(r->config, "Queue", "jobs");
	assert_non_null(section);
	r->q.name = xstrdup("jobs");
	r->q.type = &redis_queue_type;
	r->q.loop = r->loop;
	r->q.resolver = r->resolver;
	r->q.config = r->config;
	r->q.section = section;
	r->q.lease_us = 60 * USEC_PER_SEC;
	r->q.max_bytes = 256 * KIB;
	r->ops = redis_queue_type.ops;
	assert_int_equal(r->ops->init(&r->q, r->config, section), 0);
	if (config_problems(r->config) != 0)
		fail_msg("%s", config_problem_text(r->config, 0));
	(void)err;
	return r;
}

size_t
config_problem_count(const char *keys)
{
	struct config *c = load("127.0.0.1:1", keys);
	const struct config_section *section = config_find(c, "Queue", "jobs");
	struct queue q = { .name = (char *)(uintptr_t)"jobs",
	    .type = &redis_queue_type };
	size_t n = config_problems(c);

	assert_int_equal(loop_new(&q.loop), 0);
	if (n == 0) {
		assert_int_equal(redis_queue_type.ops->init(&q, c, section), 0);
		redis_queue_type.ops->fini(&q);
		n = config_problems(c);
	}
	loop_free(q.loop);
	config_unref(c);
	return n;
}

void
rig_start(struct rig *r)
{
	r->ops->start(&r->q);
}

void
rig_turn(struct rig *r)
{
	unsigned held = r->q.nwaiting + r->q.nsettling;

	if (r->window != 0)
		r->ops->credit(&r->q, r->window > held ? r->window - held : 0);
	(void)loop_turn(r->loop, 20 * USEC_PER_MSEC);
}

void
credit(struct rig *r, unsigned n)
{
	r->ops->credit(&r->q, n);
}

void
settle(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us, unsigned attempt, unsigned crashes)
{
	struct settlement s = {
		.kind = kind,
		.delay_us = delay_us,
		.attempt = attempt,
		.crashes = crashes,
	};

	if (kind == SETTLE_RETRY || kind == SETTLE_BURY) {
		s.error_type = SLICE("external_api");
		s.detail = SLICE("it \"failed\"\n");
	}
	forget(r, m);
	r->seen = r->delivered;
	r->q.nwaiting--;
	r->q.nsettling++;
	m->state = MESSAGE_SETTLING;
	r->ops->settle(&r->q, m, &s);
}

void
drop(struct rig *r, struct message *m)
{
	forget(r, m);
	r->seen = r->delivered;
	r->q.nwaiting--;
	message_free(m);
}

void
settle_and_wait(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us, unsigned attempt, unsigned crashes)
{
	unsigned before = r->settled, errors = r->settle_errors;

	settle(r, m, kind, delay_us, attempt, crashes);
	wait_for(r, r->settled == before + 1);
	if (r->settle_errors != errors)
		fail_msg("not settled: %s", r->settle_error.text);
}

void
acknowledge_all(struct rig *r)
{
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
}

struct message *
take_one(struct rig *r)
{
	wait_for(r, r->delivered > r->seen && r->nheld != 0);
	r->seen = r->delivered;
	return r->held[r->nheld - 1];
}

void
rig_stop(struct rig *r)
{
	r->window = 0;
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_RELEASE, 0, r->held[0]->attempt,
		    r->held[0]->crashes);
	r->ops->stop(&r->q);
	wait_for(r, r->stopped);
	assert_int_equal(r->q.nsettling, 0);
}

static void
teardown(struct rig *r)
{
	size_t others = r->others;

	r->ops->fini(&r->q);
	resolver_free(r->resolver);
	loop_free(r->loop);		/* aborts when a timer or fd is left */
	config_unref(r->config);
	free(r->q.name);
	free(r);
	assert_int_equal(message_count(), others);
}

void
rig_free(struct rig *r)
{
	if (!r->stopped)
		rig_stop(r);
	teardown(r);
}

void
rig_crash(struct rig *r)
{
	struct redis_queue *rq = r->q.impl;
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "crash", "crash");
	redis_conn_close(&rq->reader);
	redis_conn_close(&rq->writer);
	redis_give_up(rq, &err);
	while (r->nheld != 0) {
		struct message *m = r->held[0];

		forget(r, m);
		message_free(m);
	}
	teardown(r);
}

const struct backlog *
probe(struct rig *r)
{
	unsigned before = r->backlogs;

	r->ops->probe(&r->q);
	wait_for(r, r->backlogs > before);
	return &r->backlog;
}

bool
body_is(const struct message *m, const char *text)
{
	return slice_is(m->body, text);
}

bool
attribute_is(const struct message *m, const char *name, const char *value)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL && slice_is(a->value, value);
}

/* ---- dead letters, enqueueing ---- */

static void
on_item(struct dead_walk *walk, const struct dead_item *item,
    const struct error *err)
{
	struct walking *w = walk->owner;

	assert_false(w->answered);
	w->answered = true;
	w->ended = item == NULL;
	error_clear(&w->err);
	if (err != NULL)
		w->err = *err;
	if (item != NULL)
		w->item = *item;
}

static void
on_acted(struct dead_walk *walk, const struct error *err)
{
	struct walking *w = walk->owner;

	assert_false(w->acted);
	w->acted = true;
	error_clear(&w->err);
	if (err != NULL)
		w->err = *err;
}

void
walk_open(struct rig *r, struct walking *w)
{
	*w = (struct walking){ .walk = { .queue = &r->q, .on_item = on_item,
	    .on_acted = on_acted, .owner = w } };
	r->ops->dead_open(&r->q, &w->walk);
}

bool
walk_next(struct rig *r, struct walking *w)
{
	w->answered = false;
	r->ops->dead_next(&r->q, &w->walk);
	assert_false(w->answered);		/* never before it returned */
	wait_for(r, w->answered);
	return !w->ended;
}

void
walk_act(struct rig *r, struct walking *w, enum dead_action action)
{
	w->acted = false;
	r->ops->dead_act(&r->q, &w->walk, action);
	assert_false(w->acted);
	wait_for(r, w->acted);
}

static void
enqueued(struct enqueue_job *job, struct slice id, const struct error *err)
{
	struct enqueueing *e = job->owner;

	assert_false(e->done);
	e->done = true;
	snprintf(e->id, sizeof(e->id), "%.*s", (int)id.n,
	    id.n != 0 ? id.p : "");
	error_clear(&e->err);
	if (err != NULL)
		e->err = *err;
}

void
enqueue(struct rig *r, struct enqueueing *e, const char *body,
    const struct attribute *attributes, size_t n)
{
	*e = (struct enqueueing){ .job = { .body = slice_of(body),
	    .attributes = attributes, .nattributes = n, .done = enqueued,
	    .owner = e } };
	r->ops->enqueue(&r->q, &e->job);
	assert_false(e->done);
	wait_for(r, e->done);
}

static void
quiet(void *owner _unused_, enum log_level level _unused_,
    const struct log_fields *fields _unused_, const char *text _unused_)
{
}

void
rig_quiet(void)
{
	if (getenv("BOT_TEST_LOG") != NULL)
		return;
	log_tap(quiet, NULL);
	log_tap_exclusive(true);
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
	if (server.pid != 0)
		redis_do(&server, "FLUSHALL");
	return 0;
}

struct rig *
up(const char *keys, unsigned window)
{
	struct rig *r = rig_new(server.socket, keys);

	rig_start(r);
	wait_for(r, r->ups == 1);
	r->window = window;
	return r;
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
