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
#define DUPLICATE_AGAIN_SECONDS	10u

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
		pubsub_stray(new, OP_DEADLINE, MAX(old->settle.seconds,
		    DUPLICATE_AGAIN_SECONDS));
		break;
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
early(struct pubsub_receipt *r, const struct pubsub_attempts *a, uint64_t now)
{
	uint64_t left;

	if (a->due_us <= now + EARLY_US)
		return false;
	left = (a->due_us - now + USEC_PER_SEC - 1) / USEC_PER_SEC;
	pubsub_stray(r, OP_DEADLINE, (unsigned)MIN(left,
	    (uint64_t)PUBSUB_DEADLINE_MAX));
	return true;
}

static void
deliver(struct pubsub_stream *s, struct chunk *chunk,
    const Google__Pubsub__V1__ReceivedMessage *rm, uint64_t now,
    struct error *err)
{
	struct pubsub_queue *pq = s->pq;
	uint64_t until = now + s->deadline * USEC_PER_SEC - LEASE_SLACK_US;
	const struct pubsub_attempts *a;
	struct pubsub_receipt *r, *old;
	struct message *m = pubsub_message(pq, chunk, rm);

	if (m == NULL) {
		error_set(err, ERROR_PROTOCOL, "malformed_answer", "a message "
		    "came without its id or without an acknowledgement id");
		return;
	}
	r = pubsub_receipt_new(pq, chunk, m->receipt, s);
	old = pubsub_receipt_find(pq, m->name);
	a = pubsub_attempts_arrived(pq, m->name);
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
heed_properties(struct pubsub_queue *pq,
    const Google__Pubsub__V1__StreamingPullResponse__SubscriptionProperties *p)
{
	if (p == NULL)
		return;
	if (pq->facts.exactly_once != (bool)p->exactly_once_delivery_enabled ||
	    pq->facts.ordered != (bool)p->message_ordering_enabled)
		log_notice(LOG_QUEUE(pq->queue->name), "the subscription has "
		    "exactly-once delivery %s and message ordering %s",
		    p->exactly_once_delivery_enabled ? "on" : "off",
		    p->message_ordering_enabled ? "on" : "off");
	pq->facts.exactly_once = p->exactly_once_delivery_enabled;
	pq->facts.ordered = p->message_ordering_enabled;
}

int
pubsub_response(struct pubsub_queue *pq, struct pubsub_stream *s,
    struct slice wire, struct error *err)
{
	Google__Pubsub__V1__StreamingPullResponse *response;
	struct chunk *chunk = chunk_new();
	uint64_t now = clock_monotonic_us();

	error_clear(err);
	response = PROTOBUF_UNPACK(Google__Pubsub__V1__StreamingPullResponse,
	    google__pubsub__v1__streaming_pull_response, wire, chunk, err);
	if (response != NULL) {
		heed_properties(pq, response->subscription_properties);
		for (size_t i = 0; i < response->n_received_messages; i++)
			deliver(s, chunk, response->received_messages[i], now,
			    err);
	}
	chunk_unref(chunk);
	return error_is_set(err) ? -EPROTO : 0;
}
