/*
 * The requests as they go out.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "queue/pubsub_impl.h"

/* protobuf-c has no const in its structs. */
static char *
text(const char *s)
{
	return (char *)(uintptr_t)s;
}

static void
pack(struct buffer *b, const ProtobufCMessage *m)
{
	buffer_clear(b);
	protobuf_pack(b, m);
}

void
pubsub_pack_open(struct buffer *b, const struct pubsub_queue *pq,
    unsigned window, unsigned deadline)
{
	Google__Pubsub__V1__StreamingPullRequest m =
	    GOOGLE__PUBSUB__V1__STREAMING_PULL_REQUEST__INIT;

	m.subscription = text(pq->subscription);
	m.client_id = text(pq->client_id);
	m.stream_ack_deadline_seconds = (int32_t)deadline;
	m.max_outstanding_messages = (int64_t)window;
	m.max_outstanding_bytes = (int64_t)pq->max_outstanding_bytes;
	pack(b, &m.base);
}

void
pubsub_pack_alive(struct buffer *b, unsigned deadline)
{
	Google__Pubsub__V1__StreamingPullRequest m =
	    GOOGLE__PUBSUB__V1__STREAMING_PULL_REQUEST__INIT;

	m.stream_ack_deadline_seconds = (int32_t)deadline;
	pack(b, &m.base);
}

static ProtobufCBinaryData *
ids_of(const struct slice *ids, size_t n)
{
	ProtobufCBinaryData *list = xcalloc(MAX(n, (size_t)1), sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = protobuf_bytes(ids[i]);
	return list;
}

void
pubsub_pack_ack(struct buffer *b, const char *subscription,
    const struct slice *ids, size_t n)
{
	Google__Pubsub__V1__AcknowledgeRequest m =
	    GOOGLE__PUBSUB__V1__ACKNOWLEDGE_REQUEST__INIT;

	m.subscription = text(subscription);
	m.ack_ids = ids_of(ids, n);
	m.n_ack_ids = n;
	pack(b, &m.base);
	free(m.ack_ids);
}

void
pubsub_pack_deadline(struct buffer *b, const char *subscription,
    const struct slice *ids, size_t n, unsigned seconds)
{
	Google__Pubsub__V1__ModifyAckDeadlineRequest m =
	    GOOGLE__PUBSUB__V1__MODIFY_ACK_DEADLINE_REQUEST__INIT;

	m.subscription = text(subscription);
	m.ack_ids = ids_of(ids, n);
	m.n_ack_ids = n;
	m.ack_deadline_seconds = (int32_t)seconds;
	pack(b, &m.base);
	free(m.ack_ids);
}

void
pubsub_pack_get(struct buffer *b, const char *subscription)
{
	Google__Pubsub__V1__GetSubscriptionRequest m =
	    GOOGLE__PUBSUB__V1__GET_SUBSCRIPTION_REQUEST__INIT;

	m.subscription = text(subscription);
	pack(b, &m.base);
}

void
pubsub_pack_pull(struct buffer *b, const char *subscription, unsigned n)
{
	Google__Pubsub__V1__PullRequest m =
	    GOOGLE__PUBSUB__V1__PULL_REQUEST__INIT;

	m.subscription = text(subscription);
	m.max_messages = (int32_t)n;
	pack(b, &m.base);
}

/* ---- copies ---- */

struct attributes {
	Google__Pubsub__V1__Attribute *list[PUBSUB_ATTRIBUTES_MAX];
	Google__Pubsub__V1__Attribute room[PUBSUB_ATTRIBUTES_MAX];
	size_t n;
};

/* Values are cut to what the service takes, at a whole character. */
static void
add(struct attributes *a, struct slice name, struct slice value)
{
	Google__Pubsub__V1__Attribute *at;

	if (a->n == PUBSUB_ATTRIBUTES_MAX || value.n == 0)
		return;
	if (value.n > PUBSUB_VALUE_MAX) {
		value.n = PUBSUB_VALUE_MAX;
		while (value.n != 0 && (value.p[value.n] & 0xc0) == 0x80)
			value.n--;
	}
	at = &a->room[a->n];
	google__pubsub__v1__attribute__init(at);
	at->key = protobuf_bytes(name);
	at->value = protobuf_bytes(value);
	a->list[a->n++] = at;
}

/* What an earlier death, or the service itself, has left there; and our own
   words for what is no attribute. */
static bool
is_ours(struct slice name)
{
	return (name.n >= 4 && memcmp(name.p, "bot-", 4) == 0) ||
	    (name.n >= 7 && memcmp(name.p, "pubsub-", 7) == 0) ||
	    (name.n >= 27 && memcmp(name.p, "CloudPubSubDeadLetterSource",
	    27) == 0);
}

static void
add_death(struct attributes *a, const struct pubsub_copy *c,
    char (*number)[24])
{
	add(a, SLICE("bot-error-type"), c->error_type);
	add(a, SLICE("bot-detail"), c->detail);
	add(a, SLICE("bot-attempts"), (struct slice){ number[0],
	    fmt_u64(number[0], c->attempts) });
	add(a, SLICE("bot-crashes"), (struct slice){ number[1],
	    fmt_u64(number[1], c->crashes) });
	add(a, SLICE("bot-died"), (struct slice){ number[2],
	    fmt_u64(number[2], clock_realtime_us() / USEC_PER_MSEC) });
	add(a, SLICE("bot-queue"), c->queue);
	add(a, SLICE("bot-origin-id"), c->name);
}

void
pubsub_pack_publish(struct buffer *b, const char *topic,
    const struct pubsub_copy *c)
{
	Google__Pubsub__V1__PublishRequest m =
	    GOOGLE__PUBSUB__V1__PUBLISH_REQUEST__INIT;
	Google__Pubsub__V1__PubsubMessage message =
	    GOOGLE__PUBSUB__V1__PUBSUB_MESSAGE__INIT, *one = &message;
	struct attributes *a = new0(struct attributes);
	char number[3][24];

	/* Ours first: theirs give way when there are too many. */
	if (c->error_type.n != 0)
		add_death(a, c, number);
	for (size_t i = 0; i < c->nattributes; i++)
		if (!is_ours(c->attributes[i].name))
			add(a, c->attributes[i].name, c->attributes[i].value);
	message.data = protobuf_bytes(c->body);
	message.ordering_key = protobuf_bytes(c->ordering_key);
	message.attributes = a->list;
	message.n_attributes = a->n;
	m.topic = text(topic);
	m.messages = &one;
	m.n_messages = 1;
	pack(b, &m.base);
	free(a);
}

int
pubsub_published(struct slice wire, struct chunk *chunk, struct slice *ret,
    struct error *err)
{
	Google__Pubsub__V1__PublishResponse *m = PROTOBUF_UNPACK(
	    Google__Pubsub__V1__PublishResponse,
	    google__pubsub__v1__publish_response, wire, chunk, err);

	if (m == NULL)
		return -EPROTO;
	if (m->n_message_ids != 1 || m->message_ids[0].len == 0) {
		error_set(err, ERROR_PROTOCOL, "malformed_answer", "Publish "
		    "was answered without the id of the message");
		return -EPROTO;
	}
	*ret = protobuf_slice(m->message_ids[0]);
	return 0;
}
