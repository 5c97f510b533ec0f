/*
 * From an answer of a stream to messages.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "queue/pubsub_impl.h"

/* The lease began when the service sent it. */
#define LEASE_SLACK_US	USEC_PER_SEC
/* Sooner than this before it is due, a retry may as well be run. */
#define EARLY_US	(2 * USEC_PER_SEC)
#define CHUNK_BYTES	((size_t)64 * KIB)

/* ---- attributes ---- */

static struct slice
number(struct chunk *chunk, uint64_t n)
{
	char text[24];

	return chunk_copy(chunk, text, fmt_u64(text, n));
}

static uint64_t
publish_time_us(const Google__Pubsub__V1__PubsubMessage *p)
{
	const Google__Pubsub__V1__Timestamp *t = p->publish_time;

	if (t == NULL || t->seconds <= 0 || t->nanos < 0 ||
	    t->seconds > INT64_MAX / (int64_t)USEC_PER_SEC - 1)
		return 0;
	return (uint64_t)t->seconds * USEC_PER_SEC + (uint64_t)t->nanos / 1000;
}

/* Theirs as they are, and the service's own facts: "pubsub-publish-time" (ms
   since the epoch), "pubsub-ordering-key", "pubsub-delivery-attempt". */
static void
add_attributes(struct message *m,
    const Google__Pubsub__V1__ReceivedMessage *rm)
{
	const Google__Pubsub__V1__PubsubMessage *p = rm->message;
	struct attribute *a = chunk_alloc(m->chunk, (p->n_attributes + 3) *
	    sizeof(*a));

	m->attributes = a;
	for (size_t i = 0; i < p->n_attributes; i++)
		*a++ = (struct attribute){
			.name = protobuf_slice(p->attributes[i]->key),
			.value = protobuf_slice(p->attributes[i]->value),
		};
	if (m->enqueued_us != 0)
		*a++ = (struct attribute){ SLICE("pubsub-publish-time"),
		    number(m->chunk, m->enqueued_us / USEC_PER_MSEC), true };
	if (p->ordering_key.len != 0)
		*a++ = (struct attribute){ SLICE("pubsub-ordering-key"),
		    protobuf_slice(p->ordering_key), false };
	if (rm->delivery_attempt > 0)
		*a++ = (struct attribute){ SLICE("pubsub-delivery-attempt"),
		    number(m->chunk, (uint64_t)rm->delivery_attempt), true };
	m->nattributes = (size_t)(a - m->attributes);
}

struct message *
pubsub_message(struct pubsub_queue *pq, struct chunk *chunk,
    const void *received)
{
	const Google__Pubsub__V1__ReceivedMessage *rm = received;
	const Google__Pubsub__V1__PubsubMessage *p = rm->message;
	struct message *m;

	if (p == NULL || rm->ack_id.len == 0 || p->message_id.len == 0)
		return NULL;
	m = message_new(pq->queue, chunk);
	m->name = protobuf_slice(p->message_id);
	m->body = protobuf_slice(p->data);
	if (m->body.p == NULL)
		m->body = (struct slice){ "", 0 };
	m->receipt = protobuf_slice(rm->ack_id);
	m->enqueued_us = publish_time_us(p);
	add_attributes(m, rm);
	/* Without ordering the key promises nothing. */
	if (pq->facts.ordered)
		m->order_key = protobuf_slice(p->ordering_key);
	return m;
}

/* ---- deliveries ---- */

static unsigned
clamp_attempt(const struct pubsub_queue *pq, uint64_t n)
{
	/* It is never buried without having been run. */
	return (unsigned)MIN(MAX(n, (uint64_t)1),
	    (uint64_t)pq->queue->max_attempts);
}

/* The service delivers it again though we have it still. */
static void
duplicate(struct pubsub_receipt *old, struct pubsub_receipt *new,
    uint64_t until_us)
{
	struct pubsub_queue *pq = old->pq;

	pq->duplicates++;
	switch (old->settle.kind) {
	case OP_ACK:
		pubsub_stray(new, OP_ACK, 0);
		break;
	case OP_DEADLINE:
		BUG("what is given back is no duplicate when it comes again");
	case OP_BURY:
	case OP_CONFIRM:
		pubsub_receipt_replace(old, new);
		break;
	case OP_NONE:
	case OP_RENEW:
		pubsub_receipt_replace(old, new);
		queue_extended(pq->queue, old->message, until_us);
		break;
	}
}

/* A delay that the service cannot wait for in one go. True: not yet. */
static bool
early(struct pubsub_receipt *r, const struct tried *a, uint64_t now)
{
	uint64_t left;

	if (a->due_us <= now + EARLY_US)
		return false;
	left = (a->due_us - now + USEC_PER_SEC - 1) / USEC_PER_SEC;
	pubsub_stray(r, OP_DEADLINE, (unsigned)MIN(left,
	    (uint64_t)PUBSUB_DEADLINE_MAX));
	return true;
}

/* It does not wait any more at the stream that it was delayed on. */
static const struct tried *
arrived(struct pubsub_queue *pq, struct slice id)
{
	struct tried *t = tried_find(&pq->tried, id);
	struct pubsub_place place;

	if (t == NULL)
		return NULL;
	place = (struct pubsub_place){ t->place, t->place_number };
	pubsub_delayed(pq, place, -1);
	pubsub_out(pq, place, -1);
	t->place_number = 0;
	return t;
}

static void
deliver(struct pubsub_stream *s, struct chunk *chunk,
    const Google__Pubsub__V1__ReceivedMessage *rm, uint64_t now,
    struct error *err)
{
	struct pubsub_queue *pq = s->pq;
	uint64_t until = now + s->deadline * USEC_PER_SEC - LEASE_SLACK_US;
	const struct tried *a;
	struct pubsub_receipt *r, *old;
	struct message *m = pubsub_message(pq, chunk, rm);

	if (m == NULL) {
		error_set(err, ERROR_PROTOCOL, "malformed_answer", "a message "
		    "came without its id or without an acknowledgement id");
		return;
	}
	pubsub_stream_good(s);
	r = pubsub_receipt_new(pq, chunk, m->receipt, s);
	old = pubsub_receipt_find(pq, m->name);
	/* Given back, and here again before that was answered. */
	if (old != NULL && old->settle.kind == OP_DEADLINE) {
		pubsub_receipt_forget(old);
		old = NULL;
	}
	a = arrived(pq, m->name);
	if (old != NULL || pq->stopping || (a != NULL && early(r, a, now))) {
		message_free(m);
		if (old != NULL)
			duplicate(old, r, until);
		else if (pq->stopping)
			pubsub_stray(r, OP_DEADLINE, 0);
		return;
	}
	m->lease_until_us = until;
	m->attempt = clamp_attempt(pq, a != NULL ? a->attempt :
	    (uint64_t)MAX(rm->delivery_attempt, 1));
	m->crashes = a != NULL ? a->crashes : 0;
	pubsub_receipt_add(r, m);
	r->ordering_key = protobuf_slice(rm->message->ordering_key);
	if (pq->credit != 0)
		pq->credit--;
	if (pq->facts.exactly_once)
		pubsub_confirm(r, until);
	else
		queue_deliver(pq->queue, m);
}

static void
heed_properties(struct pubsub_queue *pq, struct slice wire)
{
	Google__Pubsub__V1__StreamingPullResponse__SubscriptionProperties *p;
	struct chunk *chunk = chunk_new();
	struct error ignored;

	p = PROTOBUF_UNPACK(
	    Google__Pubsub__V1__StreamingPullResponse__SubscriptionProperties,
	    google__pubsub__v1__streaming_pull_response__subscription_properties,
	    wire, chunk, &ignored);
	if (p != NULL && (pq->facts.exactly_once !=
	    (bool)p->exactly_once_delivery_enabled || pq->facts.ordered !=
	    (bool)p->message_ordering_enabled)) {
		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_QUEUE_SETUP), "the subscription has "
		    "exactly-once delivery %s and message ordering %s",
		    p->exactly_once_delivery_enabled ? "on" : "off",
		    p->message_ordering_enabled ? "on" : "off");
		pq->facts.exactly_once = p->exactly_once_delivery_enabled;
		pq->facts.ordered = p->message_ordering_enabled;
	}
	chunk_unref(chunk);
}

/* Field numbers of StreamingPullResponse, see codec/pubsub.proto. */
#define RECEIVED_MESSAGES	1
#define SUBSCRIPTION_PROPERTIES	4

/* True when all of it is fields. */
static bool
each_field(struct pubsub_queue *pq, struct slice wire, int want,
    struct pubsub_stream *s, struct error *err)
{
	Google__Pubsub__V1__ReceivedMessage *rm;
	struct chunk *chunk = chunk_new();
	uint64_t now = clock_monotonic_us();
	struct slice field;
	int number;

	while ((number = protobuf_field(&wire, &field)) > 0) {
		if (number != want || field.p == NULL)
			continue;
		if (number == SUBSCRIPTION_PROPERTIES) {
			heed_properties(pq, field);
			continue;
		}
		/* One that is held long must not hold all the others' memory. */
		if (chunk_bytes(chunk) > CHUNK_BYTES) {
			chunk_unref(chunk);
			chunk = chunk_new();
		}
		rm = PROTOBUF_UNPACK(Google__Pubsub__V1__ReceivedMessage,
		    google__pubsub__v1__received_message, field, chunk, err);
		if (rm != NULL)
			deliver(s, chunk, rm, now, err);
	}
	chunk_unref(chunk);
	return number == 0;
}

int
pubsub_response(struct pubsub_queue *pq, struct pubsub_stream *s,
    struct slice wire, struct error *err)
{
	error_clear(err);
	/* The properties say how the messages are to be taken, and come after
	   them. */
	if (!each_field(pq, wire, SUBSCRIPTION_PROPERTIES, s, err) ||
	    !each_field(pq, wire, RECEIVED_MESSAGES, s, err))
		error_set(err, ERROR_PROTOCOL, "malformed_message",
		    "%zu bytes are no StreamingPullResponse", wire.n);
	return error_is_set(err) ? -EPROTO : 0;
}
