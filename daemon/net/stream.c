#include "net/stream.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/stream_private.h"

static LIST_HEAD(streams);

static void on_io(struct io *, uint32_t);
static void on_timer(struct timer *);
static void on_flush(struct task *);
static void on_again(struct task *);

void
stream_init(struct stream *s, const char *name, const struct stream_ops *ops,
    void *owner)
{
	*s = (struct stream){ .ops = ops, .owner = owner, .name = name,
		.fd = -1 };
	list_init(&s->link);
	buffer_init(&s->in);
	buffer_init(&s->out);
	io_init(&s->io, name, on_io, s);
	timer_init(&s->timer, name, on_timer, s);
	task_init(&s->flush_task, LOOP_WRITE, name, on_flush, s);
	task_init(&s->again_task, LOOP_DISPATCH, name, on_again, s);
}

/* Back to IDLE, holding nothing. */
static void
release(struct stream *s)
{
	if (s->gone != NULL)
		*s->gone = true;
	s->gone = NULL;
	s->state = STREAM_IDLE;
	list_remove(&s->link);
	resolve_cancel(s->query);
	s->query = NULL;
	task_cancel(&s->flush_task);
	task_cancel(&s->again_task);
	if (s->loop != NULL) {
		timer_cancel(s->loop, &s->timer);
		io_remove(s->loop, &s->io);
	}
	tls_session_free(s->tls);
	s->tls = NULL;
	tls_context_unref(s->tls_context);
	s->tls_context = NULL;
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	buffer_done(&s->in);
	buffer_done(&s->out);
}

void
stream_done(struct stream *s)
{
	stream_close(s);
}

void
stream_down(struct stream *s, const struct error *err)
{
	struct error copy = *err;	/* it may be the stream's own */

	release(s);
	s->ops->on_down(s, &copy);
}

bool
stream_call(struct stream *s, void (*fn)(struct stream *))
{
	bool gone = false;

	if (fn == NULL)
		return true;
	BUG_ON(s->gone != NULL);
	s->gone = &gone;
	fn(s);
	if (gone)
		return false;
	s->gone = NULL;
	return true;
}

void
stream_again(struct stream *s, bool next_turn)
{
	s->again_next_turn = next_turn;
	task_schedule(s->loop, &s->again_task);
}

void
stream_fail_later(struct stream *s)
{
	s->failed = true;
	stream_again(s, false);
}

/* ---- starting ---- */

static void
copy_params(struct stream *s, const struct stream_params *p)
{
	static const struct stream_params none;

	s->params = p != NULL ? *p : none;
	if (s->params.connect_timeout_us == 0)
		s->params.connect_timeout_us = 10 * USEC_PER_SEC;
	if (s->params.handshake_timeout_us == 0)
		s->params.handshake_timeout_us = 10 * USEC_PER_SEC;
	if (s->params.max_unread == 0)
		s->params.max_unread = MIB;
	if (s->params.read_budget == 0)
		s->params.read_budget = 256 * KIB;
	if (s->params.high_water == 0)
		s->params.high_water = 256 * KIB;
	if (s->params.tls != NULL)
		s->tls_context = tls_context_ref(s->params.tls);
	/* A Unix path is in no certificate; its server is on this host. */
	snprintf(s->tls_name, sizeof(s->tls_name), "%s",
	    s->params.tls_name != NULL ? s->params.tls_name :
	    s->peer.kind == ADDRESS_UNIX && s->peer.host[0] != '\0' ?
	    "localhost" : s->peer.host);
	s->params.tls_name = s->tls_name;
}

static void
start(struct stream *s, struct loop *loop, const struct address *peer,
    const struct stream_params *params)
{
	BUG_ON(s->state != STREAM_IDLE);
	s->loop = loop;
	s->peer = *peer;
	s->tls_port = peer->port;
	copy_params(s, params);
	s->bytes_in = s->bytes_out = 0;
	s->nfound = s->next_found = 0;
	s->read_size = 0;
	s->accepted = s->failed = s->read_paused = s->over_high_water =
	    s->closing = s->write_blocked = s->want_write_for_read =
	    s->want_read_for_write = s->write_failed =
	    s->again_next_turn = false;
	s->last_read_us = s->idle_since_us = clock_monotonic_us();
	s->deadline_us = sat_add(s->idle_since_us,
	    s->params.connect_timeout_us);
	error_clear(&s->last_error);
	list_push_back(&streams, &s->link);
	s->state = STREAM_CONNECTING;
}

void
stream_connect(struct stream *s, struct loop *loop, struct resolver *resolver,
    const struct address *peer, const struct stream_params *params)
{
	start(s, loop, peer, params);
	s->resolver = resolver;
	if (peer->kind != ADDRESS_NAME) {
		stream_again(s, false);	/* tells its failures from the loop */
		return;
	}
	if (resolver == NULL) {
		error_set(&s->last_error, ERROR_INTERNAL, "no_resolver",
		    "%s is a name, and names cannot be looked up here",
		    peer->host);
		stream_fail_later(s);
		return;
	}
	s->state = STREAM_RESOLVING;
	timer_arm_at(loop, &s->timer, s->deadline_us);
	s->query = resolve_start(resolver, peer->host, peer->port,
	    stream_resolved, s);
}

static void
peer_of(int fd, struct address *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0, sizeof(ss));
	*ret = (struct address){ 0 };
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		address_from_sockaddr(ret, (struct sockaddr *)&ss);
}

void
stream_accept(struct stream *s, struct loop *loop, int fd,
    const struct stream_params *params)
{
	struct address peer;
	int r;

	peer_of(fd, &peer);
	start(s, loop, &peer, params);
	s->fd = fd;
	s->accepted = true;
	r = io_add(loop, &s->io, fd, 0);
	if (r < 0) {
		error_set_errno(&s->last_error, r, "cannot watch a connection");
		stream_fail_later(s);
		return;
	}
	stream_again(s, false);
}

/* ---- what the loop tells ---- */

static void
on_io(struct io *io, uint32_t events)
{
	struct stream *s = io->owner;

	switch (s->state) {
	case STREAM_CONNECTING:
		stream_connect_event(s, events);
		break;
	case STREAM_HANDSHAKING:
		stream_handshake(s);
		break;
	case STREAM_UP:
		stream_up_event(s, events);
		break;
	case STREAM_IDLE:
	case STREAM_RESOLVING:
		BUG("an event in state %s", stream_state_name(s->state));
	}
}

static void
on_timer(struct timer *t)
{
	struct stream *s = t->owner;

	if (s->state == STREAM_UP)
		stream_up_timer(s);
	else
		stream_connect_timer(s);
}

static void
on_flush(struct task *t)
{
	struct stream *s = t->owner;

	if (s->state == STREAM_UP)
		stream_up_flush(s);
}

static void
on_again(struct task *t)
{
	struct stream *s = t->owner;

	if (s->again_next_turn) {
		stream_again(s, false);
		return;
	}
	if (s->state == STREAM_UP)
		stream_up_again(s);
	else if (s->failed)
		stream_down(s, &s->last_error);
	else if (s->state == STREAM_CONNECTING)
		stream_connect_again(s);
}

/* ---- the owner's calls ---- */

static void
note_written(struct stream *s)
{
	if (buffer_len(&s->out) > s->params.high_water)
		s->over_high_water = true;
	if (s->state == STREAM_UP && !s->write_blocked && !s->failed)
		task_schedule(s->loop, &s->flush_task);
}

/* The peer is gone or going: what is written now reaches nobody. */
static bool
is_deaf(const struct stream *s)
{
	return s->state == STREAM_IDLE || s->failed || s->write_failed ||
	    s->closing;
}

void
stream_write(struct stream *s, const void *p, size_t n)
{
	if (n == 0 || is_deaf(s))
		return;
	buffer_add(&s->out, p, n);
	note_written(s);
}

struct buffer *
stream_out(struct stream *s)
{
	return &s->out;
}

void
stream_flush(struct stream *s)
{
	if (s->closing)
		return;		/* it is flushing already */
	if (is_deaf(s))
		buffer_clear(&s->out);
	else if (buffer_len(&s->out) != 0)
		note_written(s);
}

size_t
stream_pending(const struct stream *s)
{
	return buffer_len(&s->out);
}

void
stream_pause(struct stream *s, bool paused)
{
	if (s->state == STREAM_IDLE || s->read_paused == paused)
		return;
	s->read_paused = paused;
	if (s->state != STREAM_UP || s->closing)
		return;
	if (!paused) {
		s->idle_since_us = clock_monotonic_us();
		stream_again(s, false);
	}
	stream_watch(s);
}

void
stream_set_idle_timeout(struct stream *s, uint64_t us)
{
	s->params.idle_timeout_us = us;
	s->idle_since_us = clock_monotonic_us();
	if (s->state == STREAM_UP && !s->closing && us != 0)
		timer_arm_sooner(s->loop, &s->timer, us);
}

void
stream_close(struct stream *s)
{
	/* A goodbye, if it fits; not in the middle of a record. */
	if (s->state == STREAM_UP && s->tls != NULL && !s->write_blocked &&
	    !s->failed)
		(void)tls_session_shutdown(s->tls);
	release(s);
}

void
stream_close_flushed(struct stream *s)
{
	if (s->state == STREAM_IDLE || s->closing)
		return;
	s->closing = true;
	if (s->failed) {
		stream_again(s, false);
		return;
	}
	if (s->state != STREAM_UP || s->write_failed) {
		error_set(&s->last_error, ERROR_TRANSIENT, "closed", "closed");
		stream_fail_later(s);
		return;
	}
	timer_arm(s->loop, &s->timer, s->params.handshake_timeout_us);
	if (!s->write_blocked)
		task_schedule(s->loop, &s->flush_task);
	stream_watch(s);
}

/* ---- to look at ---- */

const char *
stream_state_name(enum stream_state state)
{
	switch (state) {
	case STREAM_IDLE:
		return "idle";
	case STREAM_RESOLVING:
		return "resolving";
	case STREAM_CONNECTING:
		return "connecting";
	case STREAM_HANDSHAKING:
		return "handshaking";
	case STREAM_UP:
		return "up";
	}
	return "unknown";
}

bool
stream_tls_until(const struct stream *s, int64_t *ret)
{
	return s->tls != NULL && tls_session_until(s->tls, ret);
}

const char *
stream_tls_text(const struct stream *s)
{
	return s->tls != NULL ? tls_session_text(s->tls) : NULL;
}

void
stream_visit(stream_visit_fn *fn, void *arg)
{
	struct list *l;

	list_foreach(l, &streams)
		fn(arg, list_entry(l, struct stream, link));
}
