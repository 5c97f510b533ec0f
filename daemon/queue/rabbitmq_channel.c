/*
 * One channel: calls and their answers, and contents put together from their
 * frames (AMQP 0-9-1 specification, 4.2.6).
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "queue/rabbitmq_impl.h"

/* Past this size memory is taken as the bytes come, not as they are announced. */
#define BODY_AT_ONCE_MAX	MIB

/* ---- sending ---- */

struct buffer *
rabbit_out(struct rabbit_channel *ch)
{
	return stream_out(&ch->conn->stream);
}

void
rabbit_flush_out(struct rabbit_channel *ch)
{
	stream_flush(&ch->conn->stream);
}

void
rabbit_send(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded)
{
	amqp_wire_add_method(rabbit_out(ch), ch->number, id,
	    (void *)(uintptr_t)decoded);
	rabbit_flush_out(ch);
}

void
rabbit_call(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, amqp_method_number_t answer,
    amqp_method_number_t other, rabbit_reply_fn *fn, void *arg)
{
	BUG_ON(ch->ncalls == RABBIT_CALLS);
	ch->call[ch->ncalls++] = (struct rabbit_call){
		.answer = answer,
		.other = other,
		.fn = fn,
		.arg = arg,
		.due_us = sat_add(clock_monotonic_us(),
		    ch->conn->rq->response_timeout_us),
	};
	rabbit_send(ch, id, decoded);
	rabbit_conn_watch(ch->conn);
}

uint64_t
rabbit_channel_due(const struct rabbit_channel *ch)
{
	return ch->ncalls == 0 ? USEC_INFINITY : ch->call[0].due_us;
}

static struct rabbit_call
take_call(struct rabbit_channel *ch)
{
	struct rabbit_call call = ch->call[0];

	ch->ncalls--;
	memmove(ch->call, ch->call + 1, ch->ncalls * sizeof(ch->call[0]));
	return call;
}

/* ---- opening and closing ---- */

void
rabbit_channel_open(struct rabbit_channel *ch, rabbit_reply_fn *fn, void *arg)
{
	BUG_ON(ch->state != CHANNEL_CLOSED);
	ch->state = CHANNEL_OPENING;
	rabbit_call(ch, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){
	    .out_of_band = amqp_empty_bytes }, AMQP_CHANNEL_OPEN_OK_METHOD, 0,
	    fn, arg);
}

struct rabbit_channel *
rabbit_channel_new(struct rabbit_conn *c, rabbit_reply_fn *fn, void *arg)
{
	for (unsigned i = 2; i < RABBIT_CHANNELS; i++) {
		struct rabbit_channel *ch = &c->channel[i];

		if (ch->state != CHANNEL_CLOSED)
			continue;
		ch->expendable = true;
		rabbit_channel_open(ch, fn, arg);
		return ch;
	}
	return NULL;
}

void
rabbit_channel_close(struct rabbit_channel *ch, rabbit_reply_fn *fn, void *arg)
{
	amqp_channel_close_t close = {
		.reply_code = AMQP_REPLY_SUCCESS,
		.reply_text = amqp_cstring_bytes("done"),
	};

	if (ch->state != CHANNEL_OPEN && ch->state != CHANNEL_OPENING)
		return;
	ch->state = CHANNEL_CLOSING;
	ch->on_content = NULL;
	rabbit_call(ch, AMQP_CHANNEL_CLOSE_METHOD, &close,
	    AMQP_CHANNEL_CLOSE_OK_METHOD, 0, fn, arg);
}

static void
content_forget(struct rabbit_channel *ch)
{
	ch->expect = CONTENT_NONE;
	buffer_done(&ch->large);
	chunk_unref(ch->content.chunk);
	ch->content.chunk = NULL;
}

/* All but the last keep: those will not be answered any more.  Whoever is told
   so may ask anew at once; that is no longer of these. */
static void
lose_calls(struct rabbit_channel *ch, unsigned keep)
{
	struct rabbit_call lost[RABBIT_CALLS];
	unsigned n = 0;

	while (ch->ncalls > keep)
		lost[n++] = take_call(ch);
	for (unsigned i = 0; i < n; i++)
		if (lost[i].fn != NULL)
			lost[i].fn(ch, 0, NULL, lost[i].arg);
}

void
rabbit_channel_reset(struct rabbit_channel *ch)
{
	content_forget(ch);
	ch->state = CHANNEL_CLOSED;
	ch->expendable = false;
	ch->on_content = NULL;
	ch->owner = NULL;
	lose_calls(ch, 0);
}

static void
closed_by_broker(struct rabbit_channel *ch, const void *decoded)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_call call = { .fn = NULL };
	struct error err;

	rabbit_send(ch, AMQP_CHANNEL_CLOSE_OK_METHOD,
	    &(amqp_channel_close_ok_t){ 0 });
	if (ch->state == CHANNEL_CLOSING) {
		/* Of all that was asked only our close is still answered. */
		content_forget(ch);
		lose_calls(ch, 1);
		return;
	}
	if (!ch->expendable) {
		rabbit_close_error(decoded, &err);
		rabbit_fail(rq, &err);
		return;
	}
	if (ch->ncalls != 0)
		call = take_call(ch);
	rabbit_channel_reset(ch);
	if (call.fn != NULL)
		call.fn(ch, AMQP_CHANNEL_CLOSE_METHOD, decoded, call.arg);
}

/* What was asked before the close need not be answered any more. */
static void
closed(struct rabbit_channel *ch)
{
	struct rabbit_call close = ch->call[--ch->ncalls];

	rabbit_channel_reset(ch);
	if (close.fn != NULL)
		close.fn(ch, AMQP_CHANNEL_CLOSE_OK_METHOD, NULL, close.arg);
}

/* ---- methods ---- */

static void
unexpected(struct rabbit_channel *ch, amqp_method_number_t id)
{
	struct error err;

	error_set(&err, ERROR_PROTOCOL, "unexpected_method",
	    "%s came on channel %u, where %s", amqp_wire_method_name(id),
	    ch->number, ch->ncalls != 0 ? "something else was asked for" :
	    "nothing was asked for");
	rabbit_fail(ch->conn->rq, &err);
}

static void
answered(struct rabbit_channel *ch, amqp_method_number_t id, const void *decoded)
{
	struct rabbit_call call = take_call(ch);

	if (id == AMQP_CHANNEL_OPEN_OK_METHOD)
		ch->state = CHANNEL_OPEN;
	if (call.fn != NULL)
		call.fn(ch, id, decoded, call.arg);
}

static struct chunk *
chunk_of(struct rabbit_conn *c)
{
	if (c->chunk == NULL)
		c->chunk = chunk_new();
	return c->chunk;
}

static struct slice
keep(struct chunk *chunk, amqp_bytes_t b)
{
	return b.len == 0 ? (struct slice){ "", 0 } :
	    chunk_copy(chunk, b.bytes, b.len);
}

static void
content_begin(struct rabbit_channel *ch, const amqp_method_t *m)
{
	const amqp_basic_deliver_t *deliver = m->decoded;
	const amqp_basic_get_ok_t *got = m->decoded;
	const amqp_basic_return_t *returned = m->decoded;
	struct chunk *chunk = chunk_of(ch->conn);
	struct rabbit_content *c = &ch->content;

	*c = (struct rabbit_content){ .method = m->id,
	    .chunk = chunk_ref(chunk) };
	if (m->id == AMQP_BASIC_DELIVER_METHOD) {
		c->tag = deliver->delivery_tag;
		c->redelivered = deliver->redelivered != 0;
		c->ours = rabbit_consumer_is(ch->conn->rq,
		    amqp_wire_slice(deliver->consumer_tag));
		c->exchange = keep(chunk, deliver->exchange);
		c->routing_key = keep(chunk, deliver->routing_key);
	} else if (m->id == AMQP_BASIC_GET_OK_METHOD) {
		c->tag = got->delivery_tag;
		c->redelivered = got->redelivered != 0;
		c->waiting = got->message_count;
		c->exchange = keep(chunk, got->exchange);
		c->routing_key = keep(chunk, got->routing_key);
	} else {
		c->reply_code = returned->reply_code;
		c->exchange = keep(chunk, returned->exchange);
		c->routing_key = keep(chunk, returned->routing_key);
	}
	ch->expect = CONTENT_HEADER;
}

static bool
content_expected(const struct rabbit_channel *ch, amqp_method_number_t id)
{
	switch (id) {
	case AMQP_BASIC_DELIVER_METHOD:
		/* Not before there was a consumer on this connection. */
		return ch == rabbit_consume_channel(ch->conn->rq) &&
		    ch->conn->rq->consumer.tag[0] != '\0';
	case AMQP_BASIC_GET_OK_METHOD:
		return ch->ncalls != 0 && ch->call[0].answer == id;
	default:
		return ch->conn == &ch->conn->rq->publisher_conn;
	}
}

/* True when the id was one of these. */
static bool
news(struct rabbit_channel *ch, const amqp_method_t *m)
{
	struct rabbit_queue *rq = ch->conn->rq;
	const amqp_basic_ack_t *ack = m->decoded;
	const amqp_basic_nack_t *nack = m->decoded;
	const amqp_channel_flow_t *flow = m->decoded;
	bool publishes = ch == rabbit_publish_channel(rq);
	struct error err;

	if (m->id == AMQP_BASIC_ACK_METHOD && publishes) {
		rabbit_confirmed(rq, ack->delivery_tag, ack->multiple != 0,
		    true);
	} else if (m->id == AMQP_BASIC_NACK_METHOD && publishes) {
		rabbit_confirmed(rq, nack->delivery_tag, nack->multiple != 0,
		    false);
	} else if (m->id == AMQP_BASIC_CANCEL_METHOD) {
		error_set(&err, ERROR_TRANSIENT, "consumer_cancelled",
		    "the broker has cancelled the consumer: queue %s was "
		    "deleted, or its node went away", rq->name);
		rabbit_fail(rq, &err);
	} else if (m->id == AMQP_CHANNEL_FLOW_METHOD) {
		rabbit_send(ch, AMQP_CHANNEL_FLOW_OK_METHOD,
		    &(amqp_channel_flow_ok_t){ .active = flow->active });
	} else {
		return false;
	}
	return true;
}

void
rabbit_channel_method(struct rabbit_channel *ch, const amqp_method_t *m)
{
	bool content = m->id == AMQP_BASIC_DELIVER_METHOD ||
	    m->id == AMQP_BASIC_GET_OK_METHOD ||
	    m->id == AMQP_BASIC_RETURN_METHOD;
	bool answer = ch->ncalls != 0 && (m->id == ch->call[0].answer ||
	    m->id == ch->call[0].other);

	if (m->id == AMQP_CHANNEL_CLOSE_METHOD)
		closed_by_broker(ch, m->decoded);
	else if (m->id == AMQP_CHANNEL_CLOSE_OK_METHOD &&
	    ch->state == CHANNEL_CLOSING)
		closed(ch);
	else if (ch->expect != CONTENT_NONE)
		unexpected(ch, m->id);
	else if (content && content_expected(ch, m->id))
		content_begin(ch, m);
	else if (!content && answer)
		answered(ch, m->id, m->decoded);
	else if (!content && (news(ch, m) || ch->state == CHANNEL_CLOSING))
		return;		/* or it was on its way when we closed it */
	else
		unexpected(ch, m->id);
}

/* ---- contents ---- */

static void
malformed(struct rabbit_channel *ch, const char *code, const char *text)
{
	struct error err;

	error_set(&err, ERROR_PROTOCOL, code, "%s", text);
	rabbit_fail(ch->conn->rq, &err);
}

static void
content_complete(struct rabbit_channel *ch)
{
	struct rabbit_content c = ch->content;

	if (ch->body == NULL && ch->have != 0)
		c.body = chunk_copy(c.chunk, buffer_head(&ch->large), ch->have);
	else
		c.body = (struct slice){ ch->body, ch->have };
	ch->content.chunk = NULL;	/* the reference is c's now */
	content_forget(ch);
	if (c.method == AMQP_BASIC_GET_OK_METHOD)
		answered(ch, c.method, &c);
	else if (c.method == AMQP_BASIC_DELIVER_METHOD)
		rabbit_delivered(ch, &c);
	else if (ch->on_content != NULL)
		ch->on_content(ch, &c);
	chunk_unref(c.chunk);
}

void
rabbit_channel_header(struct rabbit_channel *ch, struct slice payload)
{
	struct rabbit_content *c = &ch->content;
	struct amqp_wire_header h;
	struct error err;

	if (ch->expect != CONTENT_HEADER) {
		malformed(ch, "malformed_frame",
		    "a content header came without its method");
		return;
	}
	if (amqp_wire_header(payload, &h, &err) < 0) {
		rabbit_fail(ch->conn->rq, &err);
		return;
	}
	if (h.body_size > RABBIT_BODY_MAX) {
		malformed(ch, "message_too_large", "a message is "
		    "announced that is larger than any broker takes (512 MiB)");
		return;
	}
	c->properties = chunk_copy(c->chunk, h.properties.p, h.properties.n);
	ch->size = (size_t)h.body_size;
	ch->have = 0;
	ch->body = ch->size <= BODY_AT_ONCE_MAX ?
	    chunk_alloc(c->chunk, MAX(ch->size, (size_t)1)) : NULL;
	ch->expect = CONTENT_BODY;
	if (ch->size == 0)
		content_complete(ch);
}

void
rabbit_channel_body(struct rabbit_channel *ch, struct slice payload)
{
	if (ch->expect != CONTENT_BODY || payload.n > ch->size - ch->have) {
		malformed(ch, "malformed_frame", ch->expect != CONTENT_BODY ?
		    "a body frame came without its header" :
		    "a body is longer than was announced");
		return;
	}
	if (ch->body != NULL)
		memcpy(ch->body + ch->have, payload.p, payload.n);
	else
		buffer_add_slice(&ch->large, payload);
	ch->have += payload.n;
	if (ch->have == ch->size)
		content_complete(ch);
}
