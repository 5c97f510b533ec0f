/*
 * net_rig.h - two ends of a connection on one real loop.
 *
 * The client end connects, the server end is what the listener accepted; both
 * remember what happened to them.  The rig fails the test when a descriptor,
 * a timer or a task is left over (loop_free does).
 */
#ifndef BOT_TESTS_NET_RIG_H
#define BOT_TESTS_NET_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "net/stream.h"
#include "net/tls_session.h"

#define DEADLINE_MS	60000

struct end;
typedef void end_hook(struct end *);

struct end {
	struct stream s;
	struct buffer got;
	int ups, downs, drained, rounds;
	struct error err;
	bool echo, keep;		/* keep: consumes nothing */
	bool inside;			/* a call of ours is under way */
	end_hook *on_up, *on_data, *on_down, *on_drained;
	struct rig *rig;
};

struct rig {
	struct loop *loop;
	struct resolver *resolver;
	struct listener listener;
	struct end client, server;
	struct stream_params server_params;
	int accepted;
	char dir[64];
	int fds_before;
};

/* Turns the loop until cond, or fails. */
#define RUN_UNTIL(r, cond) \
	do { \
		uint64_t end_us_ = clock_monotonic_us() + \
		    DEADLINE_MS * USEC_PER_MSEC; \
		while (!(cond)) { \
			if (clock_monotonic_us() > end_us_) \
				fail_msg("not in time: %s", #cond); \
			assert_true(loop_turn((r)->loop, 10000) >= 0); \
		} \
	} while (0)

static inline int
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

static inline void
end_on_up(struct stream *s)
{
	struct end *e = s->owner;

	assert_false(e->inside);
	e->ups++;
	if (e->on_up != NULL)
		e->on_up(e);
}

static inline void
end_on_data(struct stream *s, struct buffer *in)
{
	struct end *e = s->owner;

	assert_false(e->inside);
	assert_true(s->state == STREAM_UP);
	e->rounds++;
	if (!e->keep) {
		buffer_add(&e->got, buffer_head(in), buffer_len(in));
		if (e->echo)
			stream_write(s, buffer_head(in), buffer_len(in));
		buffer_consume(in, buffer_len(in));
	}
	if (e->on_data != NULL)
		e->on_data(e);
}

static inline void
end_on_drained(struct stream *s)
{
	struct end *e = s->owner;

	assert_false(e->inside);
	e->drained++;
	if (e->on_drained != NULL)
		e->on_drained(e);
}

static inline void
end_on_down(struct stream *s, const struct error *err)
{
	struct end *e = s->owner;

	assert_false(e->inside);
	assert_true(s->state == STREAM_IDLE);
	assert_true(error_is_set(err));
	e->downs++;
	e->err = *err;
	if (e->on_down != NULL)
		e->on_down(e);
}

static const struct stream_ops end_ops = {
	.on_up = end_on_up,
	.on_data = end_on_data,
	.on_drained = end_on_drained,
	.on_down = end_on_down,
};

static inline void
end_init(struct end *e, struct rig *r, const char *name)
{
	*e = (struct end){ .rig = r };
	stream_init(&e->s, name, &end_ops, e);
	buffer_init(&e->got);
}

static inline void
end_done(struct end *e)
{
	stream_done(&e->s);
	buffer_done(&e->got);
}

static inline void
rig_on_accept(struct listener *l, int fd, const struct sockaddr *peer)
{
	struct rig *r = l->owner;

	(void)peer;
	r->accepted++;
	if (r->server.s.state != STREAM_IDLE) {
		(void)close(fd);
		return;
	}
	stream_accept(&r->server.s, r->loop, fd, &r->server_params);
}

static inline int
rig_set_up(void **state)
{
	struct rig *r = new0(struct rig);

	r->fds_before = count_fds();
	snprintf(r->dir, sizeof(r->dir), "/tmp/test_net.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	assert_int_equal(loop_new(&r->loop), 0);
	assert_int_equal(resolver_new(r->loop, &r->resolver), 0);
	listener_init(&r->listener, "listener", rig_on_accept, r);
	end_init(&r->client, r, "client");
	end_init(&r->server, r, "server");
	r->server.echo = true;
	*state = r;
	return 0;
}

static inline int
rig_tear_down(void **state)
{
	struct rig *r = *state;

	listener_stop(&r->listener);
	end_done(&r->client);
	end_done(&r->server);
	resolver_free(r->resolver);
	loop_free(r->loop);
	(void)rmdir(r->dir);
	if (count_fds() != r->fds_before)
		fail_msg("descriptors left over: %d before, %d now",
		    r->fds_before, count_fds());
	free(r);
	return 0;
}

#define rig_test(f) \
	cmocka_unit_test_setup_teardown(f, rig_set_up, rig_tear_down)

static inline struct address
parse(const char *text)
{
	struct address a;
	struct error err = ERROR_INIT;

	if (address_parse(&a, text, 0, &err) < 0)
		fail_msg("%s", err.text);
	return a;
}

static inline void
rig_listen(struct rig *r, const char *where)
{
	struct address a = parse(where);
	struct error err = ERROR_INIT;

	if (listener_start(&r->listener, r->loop, &a, 0660, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void
end_connect(struct end *e, const struct address *a,
    const struct stream_params *p)
{
	e->inside = true;
	stream_connect(&e->s, e->rig->loop, e->rig->resolver, a, p);
	e->inside = false;
}

static inline void
end_connect_text(struct end *e, const char *where,
    const struct stream_params *p)
{
	struct address a = parse(where);

	end_connect(e, &a, p);
}

static inline void
end_accept(struct end *e, int fd, const struct stream_params *p)
{
	e->inside = true;
	stream_accept(&e->s, e->rig->loop, fd, p);
	e->inside = false;
}

static inline void
end_say(struct end *e, const char *text)
{
	e->inside = true;
	stream_write(&e->s, text, strlen(text));
	e->inside = false;
}

static inline bool
end_got(const struct end *e, const char *text)
{
	return buffer_len(&e->got) != 0 &&
	    slice_is(buffer_slice(&e->got), text);
}

static inline void
make_pair(int type, int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK |
	    SOCK_CLOEXEC, 0, fds), 0);
}

/* A listening TCP socket on 127.0.0.1 that the loop does not know. */
static inline int
raw_listen(int backlog, struct address *ret)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	address_from_sockaddr(ret, (struct sockaddr *)&in);
	return fd;
}

static inline int
raw_accept(struct rig *r, int listener)
{
	int fd = -1;

	RUN_UNTIL(r, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK |
	    SOCK_CLOEXEC)) >= 0);
	return fd;
}

/* Bytes that tell their place, so that loss and mix-ups show. */
static inline char
pattern(size_t i)
{
	return (char)(i * 7 + i / 251);
}

static inline void
check_pattern(const struct buffer *b, size_t n)
{
	assert_int_equal(buffer_len(b), n);
	for (size_t i = 0; i < n; i++)
		if (buffer_head(b)[i] != pattern(i))
			fail_msg("byte %zu is wrong", i);
}

static inline void
write_pattern(struct stream *s, size_t n)
{
	struct buffer *out = stream_out(s);
	char *p = buffer_reserve(out, n);

	for (size_t i = 0; i < n; i++)
		p[i] = pattern(i);
	buffer_commit(out, n);
	stream_flush(s);
}

#endif
