#include "fuzz/rabbitmq_peer.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

/* ---- saying ---- */

void
peer_say(struct peer *p, struct slice bytes)
{
	if (p->fd >= 0 && bytes.n != 0)
		(void)!send(p->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
}

void
peer_say_frame(struct peer *p, unsigned type, unsigned channel,
    struct slice payload)
{
	struct buffer b = BUFFER_INIT;

	put8(&b, type);
	put16(&b, channel);
	put32(&b, (uint32_t)payload.n);
	buffer_add_slice(&b, payload);
	put8(&b, AMQP_FRAME_END);
	peer_say(p, buffer_slice(&b));
	buffer_done(&b);
}

void
peer_say_method(struct peer *p, unsigned channel, amqp_method_number_t id,
    struct slice args)
{
	struct buffer b = BUFFER_INIT;

	put32(&b, id);
	buffer_add_slice(&b, args);
	peer_say_frame(p, AMQP_FRAME_METHOD, channel, buffer_slice(&b));
	buffer_done(&b);
}

void
peer_say_content(struct peer *p, unsigned channel, struct slice properties,
    struct slice body)
{
	struct buffer b = BUFFER_INIT;

	put32(&b, AMQP_BASIC_CLASS << 16);
	put32(&b, 0);
	put32(&b, (uint32_t)body.n);
	if (properties.n < 2)
		properties = SLICE("\0\0");
	buffer_add_slice(&b, properties);
	peer_say_frame(p, AMQP_FRAME_HEADER, channel, buffer_slice(&b));
	if (body.n != 0)
		peer_say_frame(p, AMQP_FRAME_BODY, channel, body);
	buffer_done(&b);
}

/* ---- answering ---- */

/* As a real one would. */
static void
answer_call(struct peer *p, unsigned channel, amqp_method_number_t id)
{
	static const struct {
		amqp_method_number_t id;
		struct slice args;
	} answers[] = {
		{ AMQP_CHANNEL_OPEN_OK_METHOD, SLICE("\0\0\0\0") },
		{ AMQP_QUEUE_DECLARE_OK_METHOD,
		    SLICE("\1q\0\0\0\5\0\0\0\1") },
		{ AMQP_BASIC_CONSUME_OK_METHOD, SLICE("\1t") },
		{ AMQP_BASIC_CANCEL_OK_METHOD, SLICE("\1t") },
	};

	if (id == AMQP_BASIC_GET_OK_METHOD) {
		peer_say_method(p, channel, AMQP_BASIC_GET_EMPTY_METHOD,
		    SLICE("\0"));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		if (answers[i].id == id) {
			peer_say_method(p, channel, id, answers[i].args);
			return;
		}
	}
	peer_say_method(p, channel, id, SLICE(""));
}

void
peer_answer(struct peer *p, bool small)
{
	struct rabbit_conn *c = p->conn;

	switch (c->state) {
	case CONN_STARTING:
		peer_say_method(p, 0, AMQP_CONNECTION_START_METHOD,
		    SLICE("\0\11\0\0\0\30\7versionS\0\0\0\0134.0.5rc1.99"
		    "\0\0\0\5PLAIN\0\0\0\5en_US"));
		break;
	case CONN_TUNING:
		peer_say_method(p, 0, AMQP_CONNECTION_TUNE_METHOD, small ?
		    SLICE("\7\xff\0\0\x10\0\0\0") :
		    SLICE("\7\xff\0\2\0\0\0\x3c"));
		break;
	case CONN_OPENING:
		peer_say_method(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, SLICE("\0"));
		break;
	case CONN_CLOSING:
		peer_say_method(p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, SLICE(""));
		break;
	case CONN_OPEN:
		for (unsigned i = 1; i < RABBIT_CHANNELS; i++) {
			const struct rabbit_channel *ch = &c->channel[i];
			unsigned n = ch->ncalls;

			/* What was asked before the close may be forgotten. */
			if (n != 0)
				answer_call(p, i, ch->call[small &&
				    ch->state == CHANNEL_CLOSING ? n - 1 :
				    0].answer);
		}
		break;
	case CONN_IDLE:
	case CONN_CONNECTING:
		break;
	}
}

/* ---- connections ---- */

/* What it sends is a greeting and then frames. */
void
peer_listen(struct peer *p)
{
	static const char greeting[] = "AMQP\0\0\x09\x01";
	struct amqp_wire_frame f;
	struct error err;
	char bytes[65536];
	ssize_t n;

	while (p->fd >= 0 && (n = recv(p->fd, bytes, sizeof(bytes),
	    MSG_DONTWAIT)) > 0)
		buffer_add(&p->heard, bytes, (size_t)n);
	if (!p->greeted && buffer_len(&p->heard) >= 8) {
		BUG_ON(memcmp(buffer_head(&p->heard), greeting, 8) != 0);
		buffer_consume(&p->heard, 8);
		p->greeted = true;
	}
	while (p->greeted && (n = amqp_wire_frame(buffer_slice(&p->heard),
	    AMQP_WIRE_FRAME_MAX, &f, &err)) != 0) {
		BUG_ON(n < 0);
		buffer_consume(&p->heard, (size_t)n);
	}
}

void
peer_hang_up(struct peer *p)
{
	peer_listen(p);
	if (p->fd >= 0)
		(void)close(p->fd);
	p->fd = -1;
}

/* What rabbit_conn_open does, over a pair of sockets. */
void
peer_attach(struct peer *p, struct loop *loop)
{
	struct rabbit_conn *c = p->conn;
	int fds[2];

	peer_hang_up(p);
	buffer_clear(&p->heard);
	p->greeted = false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    fds) < 0)
		BUG("socketpair: %s", strerror(errno));
	p->fd = fds[1];
	stream_close(&c->stream);
	c->frame_max = AMQP_WIRE_FRAME_MAX;
	c->heartbeat_us = c->bytes_out_seen = 0;
	c->due_us = clock_monotonic_us() + c->rq->connect_timeout_us;
	c->state = CONN_CONNECTING;
	stream_accept(&c->stream, loop, fds[0], NULL);
}
