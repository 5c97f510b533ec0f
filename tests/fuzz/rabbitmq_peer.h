/*
 * rabbitmq_peer.h - the broker's end of one connection of the RabbitMQ queue,
 * over a pair of sockets.  It says what it is told to, true or not.
 */
#ifndef TESTS_FUZZ_RABBITMQ_PEER_H
#define TESTS_FUZZ_RABBITMQ_PEER_H

#include "queue/rabbitmq_impl.h"

struct peer {
	struct rabbit_conn *conn;
	int fd;				/* the broker's end; -1 closed */
	struct buffer heard;
	bool greeted;
};

/* Connects it, as rabbit_conn_open does; on_up comes from the loop. */
void	peer_attach(struct peer *, struct loop *);
void	peer_hang_up(struct peer *);
/* Takes what the queue has sent: a greeting and then frames, or it aborts. */
void	peer_listen(struct peer *);

/* What does not fit into the socket is lost, as on a bad day. */
void	peer_say(struct peer *, struct slice);
void	peer_say_frame(struct peer *, unsigned type, unsigned channel,
	    struct slice payload);
void	peer_say_method(struct peer *, unsigned channel, amqp_method_number_t,
	    struct slice args);
/* Header and body; properties of less than two bytes are none. */
void	peer_say_content(struct peer *, unsigned channel,
	    struct slice properties, struct slice body);
/*
 * What a broker says next: the next step of the handshake, or the answer to
 * the oldest call of each channel.  small: frames of 4096 bytes, no heartbeat.
 */
void	peer_answer(struct peer *, bool small);

/* ---- arguments ---- */

static inline void
put8(struct buffer *b, unsigned n)
{
	buffer_add_char(b, (char)n);
}

static inline void
put16(struct buffer *b, unsigned n)
{
	put8(b, n >> 8);
	put8(b, n);
}

static inline void
put32(struct buffer *b, uint32_t n)
{
	put16(b, n >> 16);
	put16(b, n);
}

static inline void
put_text(struct buffer *b, struct slice s)
{
	s.n = MIN(s.n, (size_t)255);
	put8(b, (unsigned)s.n);
	buffer_add_slice(b, s);
}

#endif
