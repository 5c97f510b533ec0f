/*
 * DeleteMessageBatch and ChangeMessageVisibilityBatch: ten entries at most,
 * each answered for itself.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "queue/sqs_impl.h"

struct sqs_batch {
	struct list link;		/* of sq->batches */
	struct sqs_call call;
	struct sqs_op *op[SQS_BATCH_MAX];	/* NULL: answered */
	unsigned n;
};

static void
batch_free(struct sqs_batch *b)
{
	list_remove(&b->link);
	sqs_call_done(&b->call);
	free(b);
}

/* ---- answers ---- */

/* The op that an entry of the answer is about, which is taken out. */
static struct sqs_op *
take(struct sqs_batch *b, const json_t *entry)
{
	const char *id = json_string_value(json_object_get(entry, "Id"));
	struct sqs_op *op;
	unsigned i;

	if (id == NULL || id[0] < '0' || id[0] > '9' || id[1] != '\0')
		return NULL;
	i = (unsigned)(id[0] - '0');
	if (i >= b->n)
		return NULL;
	op = b->op[i];
	b->op[i] = NULL;
	return op;
}

static void
failed_entry(struct sqs_queue *sq, struct sqs_op *op, const json_t *entry)
{
	const char *code = json_string_value(json_object_get(entry, "Code"));
	const char *text = json_string_value(json_object_get(entry,
	    "Message"));
	struct slice name = aws_error_name(slice_of(code != NULL ? code :
	    "InternalError"));
	struct error err;

	sqs_error(name, 0, slice_of(text != NULL ? text : ""), &err);
	sqs_op_failed(sq, op, &err);
}

static void
answered(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	struct sqs_batch *b = c->owner;
	const json_t *good = json_object_get(answer, "Successful");
	const json_t *bad = json_object_get(answer, "Failed");
	struct error unanswered;
	struct sqs_op *op;

	sq->ncalls--;
	for (size_t i = 0; i < json_array_size(bad); i++)
		if ((op = take(b, json_array_get(bad, i))) != NULL)
			failed_entry(sq, op, json_array_get(bad, i));
	for (size_t i = 0; i < json_array_size(good); i++)
		if ((op = take(b, json_array_get(good, i))) != NULL)
			sqs_op_succeeded(sq, op);
	error_set(&unanswered, ERROR_PROTOCOL, "malformed_answer",
	    "%s has not answered for this message", c->operation);
	for (unsigned i = 0; i < b->n; i++)
		if (b->op[i] != NULL)
			sqs_op_failed(sq, b->op[i], err != NULL ? err :
			    &unanswered);
	batch_free(b);
	task_schedule(sq->loop, &sq->batch_task);
}

/* ---- sending ---- */

static void
add_entry(struct buffer *body, unsigned i, const struct sqs_op *op)
{
	buffer_printf(body, "%s{\"Id\":\"%u\",\"ReceiptHandle\":",
	    i != 0 ? "," : "", i);
	json_add_string(body, op->receipt->handle);
	if (op->kind != OP_DELETE)
		buffer_printf(body, ",\"VisibilityTimeout\":%u", op->seconds);
	buffer_add_char(body, '}');
}

static void
send_batch(struct sqs_queue *sq, struct list *ops, unsigned *count,
    const char *operation)
{
	struct sqs_batch *b = new0(struct sqs_batch);
	struct list *l;

	sqs_call_init(&b->call, sq, operation, answered, b);
	sqs_call_begin(&b->call, sq->queue_url);
	buffer_add_str(&b->call.body, ",\"Entries\":[");
	while (b->n < SQS_BATCH_MAX && (l = list_pop_front(ops)) != NULL) {
		struct sqs_op *op = list_entry(l, struct sqs_op, link);

		--*count;
		if (!sqs_op_begin(sq, op))
			continue;
		add_entry(&b->call.body, b->n, op);
		b->op[b->n++] = op;
	}
	if (b->n == 0) {
		list_init(&b->link);
		batch_free(b);
		return;
	}
	buffer_add_char(&b->call.body, ']');
	sqs_call_end(&b->call);
	list_push_back(&sq->batches, &b->link);
	sq->ncalls++;
	sqs_call_send(&b->call);
}

void
sqs_batches(struct sqs_queue *sq, bool all)
{
	unsigned least = all ? 1 : SQS_BATCH_MAX;

	while (sq->nchanges >= least && sq->ncalls < SQS_CALLS_MAX)
		send_batch(sq, &sq->changes, &sq->nchanges,
		    "ChangeMessageVisibilityBatch");
	while (sq->ndeletes >= least && sq->ncalls < SQS_CALLS_MAX)
		send_batch(sq, &sq->deletes, &sq->ndeletes,
		    "DeleteMessageBatch");
}

void
sqs_batches_cancel(struct sqs_queue *sq, struct list *ops)
{
	struct list *l;

	while ((l = list_first(&sq->batches)) != NULL) {
		struct sqs_batch *b = list_entry(l, struct sqs_batch, link);

		for (unsigned i = 0; i < b->n; i++)
			if (b->op[i] != NULL)
				list_push_back(ops, &b->op[i]->link);
		batch_free(b);
	}
}
