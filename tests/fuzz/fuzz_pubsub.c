/*
 * What Pub/Sub sends, as bytes: fields one by one give what protobuf-c finds,
 * and no answer of any kind is more than its bytes allow.
 */
#include "base/alloc.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "codec/rpc_status.pb-c.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_received(const Google__Pubsub__V1__ReceivedMessage *a,
    const Google__Pubsub__V1__ReceivedMessage *b)
{
	BUG_ON(!slice_eq(protobuf_slice(a->ack_id),
	    protobuf_slice(b->ack_id)));
	BUG_ON((a->message == NULL) != (b->message == NULL));
	if (a->message == NULL)
		return;
	BUG_ON(!slice_eq(protobuf_slice(a->message->data),
	    protobuf_slice(b->message->data)));
	BUG_ON(a->message->n_attributes != b->message->n_attributes);
}

/* The whole, and each received_messages for itself. */
static void
check_stream(struct slice in, struct chunk *chunk)
{
	Google__Pubsub__V1__StreamingPullResponse *whole;
	Google__Pubsub__V1__ReceivedMessage *one;
	struct error err = ERROR_INIT;
	struct slice rest = in, field;
	size_t n = 0;
	int number;

	whole = PROTOBUF_UNPACK(Google__Pubsub__V1__StreamingPullResponse,
	    google__pubsub__v1__streaming_pull_response, in, chunk, &err);
	while ((number = protobuf_field(&rest, &field)) > 0) {
		BUG_ON(field.p != NULL && (field.p < in.p ||
		    field.p + field.n > in.p + in.n));
		if (number != 1 || field.p == NULL)
			continue;
		one = PROTOBUF_UNPACK(Google__Pubsub__V1__ReceivedMessage,
		    google__pubsub__v1__received_message, field, chunk, &err);
		if (whole == NULL)
			continue;
		BUG_ON(n >= whole->n_received_messages);
		/* Alone it has less memory than all of them together. */
		if (one != NULL)
			check_received(one, whole->received_messages[n]);
		n++;
	}
	/* protobuf-c takes numbers too large for a field; we do not. */
	if (whole != NULL && number == 0)
		BUG_ON(n != whole->n_received_messages);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { (const char *)data, size };
	struct chunk *chunk = chunk_new();
	struct error err = ERROR_INIT;

	if (size != 0) {
		check_stream(in, chunk);
		(void)PROTOBUF_UNPACK(Google__Pubsub__V1__Subscription,
		    google__pubsub__v1__subscription, in, chunk, &err);
		(void)PROTOBUF_UNPACK(Google__Pubsub__V1__PullResponse,
		    google__pubsub__v1__pull_response, in, chunk, &err);
		(void)PROTOBUF_UNPACK(Google__Pubsub__V1__PublishResponse,
		    google__pubsub__v1__publish_response, in, chunk, &err);
		(void)PROTOBUF_UNPACK(Google__Rpc__Status,
		    google__rpc__status, in, chunk, &err);
		(void)PROTOBUF_UNPACK(Google__Rpc__ErrorInfo,
		    google__rpc__error_info, in, chunk, &err);
	}
	chunk_unref(chunk);
	return 0;
}
