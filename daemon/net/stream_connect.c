#include <netinet/tcp.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "net/stream_private.h"

/* A Unix listener with a full backlog says EAGAIN and then tells nothing. */
#define UNIX_RETRY_US	(20 * USEC_PER_MSEC)

/* Dead peers behind a silent network are noticed after two minutes. */
#define KEEPALIVE_IDLE_S	60
#define KEEPALIVE_INTERVAL_S	15
#define KEEPALIVE_COUNT		4

static void attempt(struct stream *);

static void
set_option(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* All of it is refused, harmlessly, by Unix sockets. */
static void
set_tcp_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
}

static void
drop_socket(struct stream *s)
{
	io_remove(s->loop, &s->io);
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

/* ---- the handshake ---- */

void
stream_handshake(struct stream *s)
{
	switch (tls_session_handshake(s->tls, &s->last_error)) {
	case TLS_OK:
		stream_go_up(s);
		return;
	case TLS_WANT_READ:
		io_set(s->loop, &s->io, EPOLLIN);
		return;
	case TLS_WANT_WRITE:
		io_set(s->loop, &s->io, EPOLLOUT);
		return;
	case TLS_NONE:
	case TLS_EOF:
		error_set(&s->last_error, ERROR_TRANSIENT, "tls_eof",
		    "%s closed the connection in the TLS handshake",
		    s->tls_name);
		break;
	case TLS_FAILED:
		break;
	}
	stream_down(s, &s->last_error);
}

static void
established(struct stream *s)
{
	set_tcp_options(s->fd);
	if (s->tls_context == NULL) {
		stream_go_up(s);
		return;
	}
	s->tls = tls_session_new(s->tls_context, s->fd, s->tls_name,
	    s->tls_port, &s->last_error);
	if (s->tls == NULL) {
		stream_down(s, &s->last_error);
		return;
	}
	s->state = STREAM_HANDSHAKING;
	timer_arm(s->loop, &s->timer, s->params.handshake_timeout_us);
	stream_handshake(s);
}

void
stream_start_tls(struct stream *s, struct tls_context *tls, const char *name,
    uint16_t port)
{
	bool early = buffer_len(&s->in) != 0 || buffer_len(&s->out) != 0;

	BUG_ON(s->state != STREAM_UP || s->tls_context != NULL ||
	    s->read_paused);
	if (s->failed || s->closing)
		return;		/* its end is on the way */
	timer_cancel(s->loop, &s->timer);
	task_cancel(&s->flush_task);
	if (early) {
		buffer_clear(&s->in);
		buffer_clear(&s->out);
		error_set(&s->last_error, ERROR_PROTOCOL, "tls_early",
		    "bytes came before TLS began");
		stream_fail_later(s);
		return;
	}
	s->tls_context = tls_context_ref(tls);
	snprintf(s->tls_name, sizeof(s->tls_name), "%s", name);
	s->tls_port = port;
	/* As if it had just been accepted: the handshake begins from the loop,
	   since this may be inside on_data. */
	s->accepted = true;
	s->state = STREAM_CONNECTING;
	io_set(s->loop, &s->io, 0);
	stream_again(s, false);
}

/* ---- connecting ---- */

static bool
next_address(const struct stream *s, struct sockaddr_storage *ret,
    socklen_t *ret_len)
{
	if (s->peer.kind != ADDRESS_NAME)
		return address_to_sockaddr(&s->peer, ret, ret_len) == 0;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, &s->found[s->next_found], sizeof(s->found[0]));
	*ret_len = ret->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
	    sizeof(struct sockaddr_in);
	return true;
}

/* "redis:6379 (192.0.2.1:6379)": the name and which of its addresses. */
static void
note_error(struct stream *s, const struct sockaddr_storage *ss, int err)
{
	char peer[ADDRESS_TEXT_BYTES], real[ADDRESS_TEXT_BYTES];

	address_text(&s->peer, peer);
	if (s->peer.kind == ADDRESS_NAME)
		error_set_errno(&s->last_error, err,
		    "cannot connect to %.80s (%.60s)", peer,
		    sockaddr_text((const struct sockaddr *)ss, real));
	else
		error_set_errno(&s->last_error, err, "cannot connect to %.120s",
		    peer);
	if (err == EACCES || err == EPERM)
		s->last_error.class = ERROR_AUTH;
}

/* 0: under way; 1: connected; or -errno. */
static int
open_socket(struct stream *s, const struct sockaddr_storage *ss, socklen_t len)
{
	int fd, r, connected;

	if (fault("stream.connect"))
		return -ECONNREFUSED;
	fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd < 0)
		return -errno;
	connected = connect(fd, (const struct sockaddr *)ss, len) == 0;
	if (!connected && errno != EINPROGRESS) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	r = io_add(s->loop, &s->io, fd, connected ? 0 : EPOLLOUT);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	s->fd = fd;
	return connected;
}

static uint64_t
time_left(const struct stream *s)
{
	uint64_t now = clock_monotonic_us();

	return s->deadline_us > now ? s->deadline_us - now : 0;
}

/* Each address still to try gets an equal share of the time that is left. */
static void
attempt(struct stream *s)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int r;

	for (; s->next_found < s->nfound; s->next_found++) {
		if (!next_address(s, &ss, &len)) {
			note_error(s, &ss, EINVAL);
			continue;
		}
		r = open_socket(s, &ss, len);
		if (r == 1) {
			established(s);
			return;
		}
		if (r == 0) {
			timer_arm(s->loop, &s->timer,
			    time_left(s) / (s->nfound - s->next_found));
			return;
		}
		if (r == -EAGAIN && ss.ss_family == AF_UNIX) {
			timer_arm(s->loop, &s->timer,
			    MIN(time_left(s), UNIX_RETRY_US));
			return;
		}
		note_error(s, &ss, -r);
	}
	stream_down(s, &s->last_error);
}

void
stream_connect_again(struct stream *s)
{
	if (s->accepted) {
		established(s);
		return;
	}
	s->nfound = 1;
	attempt(s);
}

void
stream_resolved(void *owner, const union resolve_address *found, size_t n,
    const struct error *err)
{
	struct stream *s = owner;

	s->query = NULL;
	if (n == 0) {
		stream_down(s, err);
		return;
	}
	memcpy(s->found, found, n * sizeof(*found));
	s->nfound = n;
	s->state = STREAM_CONNECTING;
	attempt(s);
}

/* A connect to a port of our own ephemeral range can meet itself. */
static bool
is_self_connected(int fd)
{
	struct sockaddr_storage a, b;
	socklen_t alen = sizeof(a), blen = sizeof(b);

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	return getsockname(fd, (struct sockaddr *)&a, &alen) == 0 &&
	    getpeername(fd, (struct sockaddr *)&b, &blen) == 0 &&
	    a.ss_family != AF_UNIX && alen == blen && memcmp(&a, &b, alen) == 0;
}

void
stream_connect_event(struct stream *s, uint32_t events)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	int err = 0;

	if (s->accepted)
		return;		/* waits for its task */
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err == 0 && (events & EPOLLOUT) == 0)
		return;
	if (err == 0 && is_self_connected(s->fd))
		err = ECONNREFUSED;
	if (err == 0) {
		established(s);
		return;
	}
	(void)next_address(s, &ss, &len);
	note_error(s, &ss, err);
	drop_socket(s);
	s->next_found++;
	attempt(s);
}

void
stream_connect_timer(struct stream *s)
{
	char peer[ADDRESS_TEXT_BYTES];
	struct sockaddr_storage ss;
	socklen_t len;

	address_text(&s->peer, peer);
	if (s->state == STREAM_HANDSHAKING) {
		error_set(&s->last_error, ERROR_TRANSIENT, "handshake_timeout",
		    "%.120s did not finish the TLS handshake in time", peer);
		stream_down(s, &s->last_error);
		return;
	}
	if (s->state == STREAM_RESOLVING) {
		error_set(&s->last_error, ERROR_TRANSIENT, "resolve_timeout",
		    "the name servers did not say in time where %.120s is",
		    peer);
		stream_down(s, &s->last_error);
		return;
	}
	if (time_left(s) == 0) {
		error_set(&s->last_error, ERROR_TRANSIENT, "connect_timeout",
		    "cannot connect to %.120s: no answer in time", peer);
		stream_down(s, &s->last_error);
		return;
	}
	if (s->fd >= 0) {
		(void)next_address(s, &ss, &len);
		note_error(s, &ss, ETIMEDOUT);
		drop_socket(s);
		s->next_found++;
	}
	attempt(s);
}
