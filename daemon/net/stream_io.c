#include "base/clock.h"
#include "base/fault.h"
#include "net/stream_private.h"

#define READ_MIN	(4 * KIB)	/* first read; grows when it fills */
#define READ_MAX	(64 * KIB)
#define TLS_WRITE_BUDGET (256 * KIB)	/* encrypting takes time */

/* Empty buffers over TRIM_BYTES go back after a quiet TRIM_US. */
#define TRIM_BYTES	(16 * KIB)
#define TRIM_US		(2 * USEC_PER_SEC)

static bool write_round(struct stream *);

void
stream_watch(struct stream *s)
{
	uint32_t events = 0;
	int r;

	if (s->state != STREAM_UP || s->failed)
		return;
	if (!io_active(&s->io)) {
		/* It hung up while paused; see stream_up_event. */
		if (s->read_paused && !s->closing)
			return;
		r = io_add(s->loop, &s->io, s->fd, 0);
		if (r < 0) {
			error_set_errno(&s->last_error, r,
			    "cannot watch a connection");
			stream_fail_later(s);
			return;
		}
	}
	if (!s->read_paused && !s->closing && !s->want_write_for_read)
		events |= EPOLLIN;
	if (s->want_read_for_write)
		events |= EPOLLIN;
	if (s->want_write_for_read || (s->write_blocked &&
	    !s->want_read_for_write))
		events |= EPOLLOUT;
	io_set(s->loop, &s->io, events);
}

/* ---- the timer while up: idle, closing, trimming ---- */

static bool
is_trimmable(const struct buffer *b)
{
	return b->size > TRIM_BYTES && buffer_len(b) == 0;
}

static uint64_t
idle_due(const struct stream *s)
{
	if (s->params.idle_timeout_us == 0 || s->read_paused)
		return USEC_INFINITY;
	return sat_add(s->idle_since_us, s->params.idle_timeout_us);
}

/* The idle deadline only moves later, so an armed timer is left alone: it
   looks again when it fires.  That keeps the heap off the read path. */
static void
arm_timer(struct stream *s, bool anew)
{
	uint64_t due;

	if (s->closing || (timer_armed(&s->timer) && !anew))
		return;
	due = idle_due(s);
	if (is_trimmable(&s->in) || is_trimmable(&s->out))
		due = MIN(due, loop_now_us(s->loop) + TRIM_US);
	if (due != USEC_INFINITY)
		timer_arm_at(s->loop, &s->timer, due);
}

static void
note_trimmable(struct stream *s)
{
	uint64_t due = loop_now_us(s->loop) + TRIM_US;

	if (!s->closing && (!timer_armed(&s->timer) ||
	    timer_due_us(&s->timer) > due))
		timer_arm_at(s->loop, &s->timer, due);
}

static void
trim(struct stream *s, uint64_t now)
{
	if (now - MIN(now, s->last_read_us) >= TRIM_US) {
		if (is_trimmable(&s->in))
			buffer_trim(&s->in);
		s->read_size = 0;
	}
	if (is_trimmable(&s->out))
		buffer_trim(&s->out);
}

void
stream_up_timer(struct stream *s)
{
	char peer[ADDRESS_TEXT_BYTES];
	uint64_t now = clock_monotonic_us();

	address_text(&s->peer, peer);
	if (s->closing) {
		error_set(&s->last_error, ERROR_TRANSIENT, "close_timeout",
		    "%.120s did not take the last bytes in time", peer);
		stream_down(s, &s->last_error);
		return;
	}
	if (now >= idle_due(s)) {
		error_set(&s->last_error, ERROR_TRANSIENT, "idle_timeout",
		    "%.120s said nothing for too long", peer);
		stream_down(s, &s->last_error);
		return;
	}
	trim(s, now);
	arm_timer(s, false);
}

/* ---- reading ---- */

static enum tls_result
read_plain(struct stream *s, char *p, size_t room, size_t *ret_n)
{
	ssize_t n;

	*ret_n = 0;
	do
		n = fault("stream.read") ? (errno = ECONNRESET, -1) :
		    read(s->fd, p, room);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return TLS_EOF;
	if (n < 0 && errno == EAGAIN)
		return TLS_WANT_READ;
	if (n < 0) {
		char peer[ADDRESS_TEXT_BYTES];
		int err = errno;

		error_set_errno(&s->last_error, err, "reading from %.120s",
		    address_text(&s->peer, peer));
		return TLS_FAILED;
	}
	*ret_n = (size_t)n;
	/* A short read has emptied the socket. */
	return (size_t)n == room ? TLS_OK : TLS_WANT_READ;
}

/* One read into the buffer; what was in the way after its bytes. */
static enum tls_result
fill(struct stream *s, size_t *ret_n)
{
	enum tls_result end;
	size_t room;
	char *p;

	if (s->read_size == 0)
		s->read_size = READ_MIN;
	p = buffer_reserve(&s->in, s->read_size);
	room = MIN(s->in.size - s->in.end, READ_MAX);
	end = s->tls != NULL ?
	    tls_session_read(s->tls, p, room, ret_n, &s->last_error) :
	    read_plain(s, p, room, ret_n);
	if (*ret_n != 0) {
		buffer_commit(&s->in, *ret_n);
		s->bytes_in += *ret_n;
		s->last_read_us = s->idle_since_us = loop_now_us(s->loop);
	}
	if (end == TLS_OK)
		s->read_size = MIN(s->read_size * 4, READ_MAX);
	return end;
}

static void
call_on_data(struct stream *s)
{
	s->ops->on_data(s, &s->in);
}

/* False when the stream is no more. */
static bool
deliver(struct stream *s)
{
	if (buffer_len(&s->in) == 0)
		return true;
	if (!stream_call(s, call_on_data))
		return false;
	if (buffer_len(&s->in) <= s->params.max_unread)
		return true;
	error_set(&s->last_error, ERROR_PROTOCOL, "input_too_long",
	    "over %zu bytes came that cannot be used",
	    s->params.max_unread);
	stream_down(s, &s->last_error);
	return false;
}

/* After the last byte.  If the owner paused with some of it unread, the end
   is told when it has taken them (stream_up_again). */
static void
end_of_input(struct stream *s, enum tls_result end)
{
	char peer[ADDRESS_TEXT_BYTES];

	if (end == TLS_EOF) {
		/* A peer that only stopped sending may still wait for these. */
		if (buffer_len(&s->out) != 0 && !s->write_blocked &&
		    !s->write_failed) {
			s->write_failed = true;	/* its failure is no news */
			if (!write_round(s))
				return;
		}
		error_set(&s->last_error, ERROR_TRANSIENT, "eof",
		    "%.120s closed the connection",
		    address_text(&s->peer, peer));
	}
	s->failed = true;
	if (s->read_paused && buffer_len(&s->in) != 0) {
		io_remove(s->loop, &s->io);
		return;
	}
	stream_down(s, &s->last_error);
}

/*
 * Reads until the socket is empty or the turn's budget is spent.  False when
 * the stream is no more.
 */
static bool
read_round(struct stream *s)
{
	enum tls_result end;
	size_t got = 0, n;

	s->want_write_for_read = false;
	do {
		end = fill(s, &n);
		got += n;
		if (n != 0 && !deliver(s))
			return false;
		if (s->closing || s->failed || s->state != STREAM_UP)
			return true;
		if (end == TLS_EOF || end == TLS_FAILED) {
			end_of_input(s, end);
			return false;
		}
		if (s->read_paused)
			return true;
	} while (end == TLS_OK && got < s->params.read_budget);

	s->want_write_for_read = end == TLS_WANT_WRITE;
	if (s->write_failed) {
		stream_down(s, &s->last_error);	/* the write's */
		return false;
	}
	/* What OpenSSL holds already wakes no epoll. */
	if (end == TLS_OK && s->tls != NULL)
		stream_again(s, true);
	if (is_trimmable(&s->in))
		note_trimmable(s);
	arm_timer(s, false);
	return true;
}

/* ---- writing ---- */

/* The last words of a peer that hung up (why it did) are read first. */
static bool
write_failure(struct stream *s)
{
	buffer_clear(&s->out);
	s->write_blocked = s->want_read_for_write = false;
	if (s->write_failed)
		return true;	/* end_of_input goes on */
	s->write_failed = true;
	if (s->tls != NULL || s->closing) {
		stream_down(s, &s->last_error);
		return false;
	}
	if (s->read_paused)
		return true;
	return read_round(s);
}

static enum tls_result
write_plain(struct stream *s, size_t *ret_n)
{
	size_t len = buffer_len(&s->out);
	ssize_t n;

	*ret_n = 0;
	do
		n = fault("stream.write") ? (errno = ECONNRESET, -1) :
		    send(s->fd, buffer_head(&s->out), len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return TLS_WANT_WRITE;
	if (n < 0) {
		char peer[ADDRESS_TEXT_BYTES];
		int err = errno;

		error_set_errno(&s->last_error, err, "writing to %.120s",
		    address_text(&s->peer, peer));
		return TLS_FAILED;
	}
	*ret_n = (size_t)n;
	return (size_t)n == len ? TLS_OK : TLS_WANT_WRITE;
}

static enum tls_result
write_some(struct stream *s)
{
	enum tls_result end;
	size_t n;

	end = s->tls == NULL ? write_plain(s, &n) :
	    tls_session_write(s->tls, buffer_head(&s->out),
	    buffer_len(&s->out), &n, &s->last_error);
	buffer_consume(&s->out, n);
	s->bytes_out += n;
	return end;
}

/* False when the stream is no more. */
static bool
write_round(struct stream *s)
{
	enum tls_result end = TLS_OK;
	uint64_t limit = s->bytes_out + TLS_WRITE_BUDGET;

	s->want_read_for_write = false;
	while (buffer_len(&s->out) != 0 && end == TLS_OK) {
		if (s->bytes_out >= limit) {
			s->write_blocked = false;
			task_schedule(s->loop, &s->flush_task);
			return true;
		}
		end = write_some(s);
	}
	if (end == TLS_EOF)
		error_set(&s->last_error, ERROR_TRANSIENT, "eof",
		    "the connection was closed");
	if (end == TLS_FAILED || end == TLS_EOF)
		return write_failure(s);
	s->write_blocked = buffer_len(&s->out) != 0;
	s->want_read_for_write = end == TLS_WANT_READ;
	return true;
}

static void
call_on_drained(struct stream *s)
{
	s->over_high_water = false;
	if (s->ops->on_drained != NULL)
		s->ops->on_drained(s);
}

/* Closing with bytes unread would make the kernel send a reset, which can
   take back what the peer has not read yet. */
static void
discard_input(struct stream *s)
{
	char scrap[4096];

	for (int i = 0; i < 64; i++)
		if (read(s->fd, scrap, sizeof(scrap)) <= 0)
			break;
}

/* All is sent; says goodbye.  Waits at most for room to say it. */
static void
finish_close(struct stream *s)
{
	if (s->tls != NULL &&
	    tls_session_shutdown(s->tls) == TLS_WANT_WRITE) {
		s->write_blocked = true;
		stream_watch(s);
		return;
	}
	(void)shutdown(s->fd, SHUT_WR);
	discard_input(s);
	error_set(&s->last_error, ERROR_TRANSIENT, "closed", "closed");
	stream_down(s, &s->last_error);
}

/* Writes, then whatever an empty buffer means.  False when it is no more. */
static bool
write_and_settle(struct stream *s)
{
	if (!write_round(s))
		return false;
	if (buffer_len(&s->out) == 0 && s->closing) {
		finish_close(s);
		return false;
	}
	if (buffer_len(&s->out) == 0 && s->over_high_water && !s->failed &&
	    !s->write_failed) {
		if (!stream_call(s, call_on_drained))
			return false;
	}
	if (is_trimmable(&s->out))
		note_trimmable(s);
	stream_watch(s);
	return true;
}

void
stream_up_flush(struct stream *s)
{
	if (!s->failed && !s->write_blocked)
		(void)write_and_settle(s);
}

/* ---- events ---- */

/* What epoll reports whether asked or not must not keep it awake. */
static void
hung_up(struct stream *s)
{
	if (s->closing) {
		error_set(&s->last_error, ERROR_TRANSIENT, "closed",
		    "the peer closed first");
		stream_down(s, &s->last_error);
		return;
	}
	io_remove(s->loop, &s->io);
}

void
stream_up_event(struct stream *s, uint32_t events)
{
	bool hup = (events & (EPOLLERR | EPOLLHUP)) != 0;
	bool in = (events & EPOLLIN) != 0 || hup;
	bool out = (events & EPOLLOUT) != 0 || hup;

	if ((s->write_blocked && out) || (s->want_read_for_write && in))
		if (!write_and_settle(s))
			return;
	if (s->failed)
		return;
	if (s->read_paused || s->closing) {
		if (hup)
			hung_up(s);
		return;
	}
	/* The budget of this turn belongs to the task if it is waiting. */
	if (list_linked(&s->again_task.link))
		return;
	if (in || (s->want_write_for_read && out))
		if (read_round(s))
			stream_watch(s);
}

/* After a pause, after the handshake, or with budget for the next turn. */
void
stream_up_again(struct stream *s)
{
	if (s->failed && (s->closing || buffer_len(&s->in) == 0)) {
		stream_down(s, &s->last_error);
		return;
	}
	if (s->closing || s->read_paused || !deliver(s))
		return;
	if (s->closing || s->read_paused || s->state != STREAM_UP)
		return;
	if (s->failed) {
		stream_down(s, &s->last_error);
		return;
	}
	if (read_round(s))
		stream_watch(s);
}

void
stream_go_up(struct stream *s)
{
	s->state = STREAM_UP;
	s->last_read_us = s->idle_since_us = clock_monotonic_us();
	timer_cancel(s->loop, &s->timer);
	arm_timer(s, true);
	stream_watch(s);
	if (buffer_len(&s->out) != 0)
		task_schedule(s->loop, &s->flush_task);
	/* Bytes behind the handshake may be in OpenSSL already. */
	if (s->tls != NULL)
		stream_again(s, false);
	(void)stream_call(s, s->ops->on_up);
}
