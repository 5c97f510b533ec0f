/*
 * DeleteMessageBatch and ChangeMessageVisibilityBatch: ten entries at most,
 * each answered for itself.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "codec/json_scan.h"
#include "queue/sqs_impl.h"

struct sqs_batch {
	struct list link;		/* of sq->batches */
	struct sqs_call call;
	struct sqs_op *op[SQS_BATCH_MAX];	/* NULL: answered */
	unsigned n;
};

static void answered(struct sqs_call *, struct slice, const struct error *);

static struct sqs_batch *
batch_get(struct sqs_queue *sq, const char *operation)
{
	struct list *l = list_pop_front(&sq->free_batches);
	struct sqs_batch *b;

	if (l != NULL) {
		b = list_entry(l, struct sqs_batch, link);
	} else {
		b = new0(struct sqs_batch);
		list_init(&b->link);
		sqs_call_init_text(&b->call, sq, operation, answered, b);
	}
	b->call.operation = operation;
	b->n = 0;
	return b;
}

/* At most SQS_CALLS_MAX are kept, with the memory of their requests. */
static void
batch_put(struct sqs_batch *b)
{
	sqs_call_cancel(&b->call);
	list_remove(&b->link);
	list_push_front(&b->call.sq->free_batches, &b->link);
}

void
sqs_batches_done(struct sqs_queue *sq)
{
	struct list *l;

	while ((l = list_pop_front(&sq->free_batches)) != NULL) {
		struct sqs_batch *b = list_entry(l, struct sqs_batch, link);

		sqs_call_done(&b->call);
		free(b);
	}
}

/* ---- answers ---- */

/* The op that an entry of the answer is about, which is taken out. */
static struct sqs_op *
take(struct sqs_batch *b, struct slice id)
{
	struct sqs_op *op;
	unsigned i;

	if (id.n != 1 || id.p[0] < '0' || id.p[0] > '9')
		return NULL;
	i = (unsigned)(id.p[0] - '0');
	if (i >= b->n)
		return NULL;
	op = b->op[i];
	b->op[i] = NULL;
	return op;
}

struct entry {
	struct slice id, code, text;	/* p NULL: not there */
};

static void
entry_done(struct sqs_batch *b, const struct entry *e, bool good)
{
	struct sqs_queue *sq = b->call.sq;
	struct sqs_op *op = take(b, e->id);
	struct error err;

	if (op == NULL)
		return;
	if (good) {
		sqs_op_succeeded(sq, op);
		return;
	}
	sqs_error(aws_error_name(e->code.p != NULL ? e->code :
	    SLICE("InternalError")), 0, e->text.p != NULL ? e->text :
	    SLICE(""), &err);
	sqs_op_failed(sq, op, &err);
}

static void
read_entry(struct json_scan *s, struct entry *e)
{
	const struct json_scan_member members[] = {
		{ "Id", &e->id },
		{ "Code", &e->code },
		{ "Message", &e->text },
	};

	*e = (struct entry){ .id = { NULL, 0 } };
	json_scan_texts(s, members, ARRAY_SIZE(members));
}

/* One list of the answer. */
static void
read_entries(struct sqs_batch *b, struct json_scan *s, bool good)
{
	struct entry e;

	if (json_scan_peek(s) != JSON_SCAN_ARRAY) {
		(void)json_scan_skip(s);
		return;
	}
	(void)json_scan_enter_array(s);
	while (json_scan_next_element(s)) {
		read_entry(s, &e);
		if (s->error == NULL)
			entry_done(b, &e, good);
	}
}

/*
 * Who is in both lists has failed.  So those that failed are read first, and
 * for that the answer twice, which also shows that it is whole.
 */
static int
read_answer(struct sqs_batch *b, struct slice answer)
{
	_cleanup_free_ char *copy = xmemdup(answer.p, answer.n);
	struct json_scan s, failed, succeeded;
	bool have_failed = false, have_succeeded = false;
	struct slice key;

	json_scan_init(&s, copy, answer.n);
	(void)json_scan_enter_object(&s);
	while (json_scan_next_key(&s, &key)) {
		if (slice_is(key, "Failed")) {
			failed = s;
			have_failed = true;
		} else if (slice_is(key, "Successful")) {
			succeeded = s;
			have_succeeded = true;
		}
		(void)json_scan_skip(&s);
	}
	if (json_scan_end(&s) < 0)
		return -EPROTO;
	if (have_failed)
		read_entries(b, &failed, false);
	if (have_succeeded)
		read_entries(b, &succeeded, true);
	return 0;
}

static void
answered(struct sqs_call *c, struct slice answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	struct sqs_batch *b = c->owner;
	struct error wrong;

	sq->ncalls--;
	if (err == NULL && answer.n != 0 && read_answer(b, answer) < 0) {
		sqs_malformed(c, &wrong);
		err = &wrong;
	}
	for (unsigned i = 0; i < b->n; i++) {
		if (b->op[i] == NULL)
			continue;
		if (err == NULL)
			error_set(&wrong, ERROR_PROTOCOL, "malformed_answer",
			    "%s has not answered for this message",
			    c->operation);
		sqs_op_failed(sq, b->op[i], err != NULL ? err : &wrong);
	}
	batch_put(b);
	task_schedule(sq->loop, &sq->batch_task);
}

/* ---- sending ---- */

static void
add_entry(struct buffer *body, unsigned i, const struct sqs_op *op)
{
	buffer_add_str(body, i != 0 ? ",{\"Id\":\"" : "{\"Id\":\"");
	buffer_add_u64(body, i);
	buffer_add_str(body, "\",\"ReceiptHandle\":");
	json_add_string(body, op->receipt->handle);
	if (op->kind != OP_DELETE) {
		buffer_add_str(body, ",\"VisibilityTimeout\":");
		buffer_add_u64(body, op->seconds);
	}
	buffer_add_char(body, '}');
}

static void
send_batch(struct sqs_queue *sq, struct list *ops, unsigned *count,
    const char *operation)
{
	struct sqs_batch *b = batch_get(sq, operation);
	uint64_t now = clock_monotonic_us();
	struct list *l;

	sqs_call_begin(&b->call, sq->queue_url);
	buffer_add_str(&b->call.body, ",\"Entries\":[");
	while (b->n < SQS_BATCH_MAX && (l = list_pop_front(ops)) != NULL) {
		struct sqs_op *op = list_entry(l, struct sqs_op, again.link);

		--*count;
		if (!sqs_op_begin(sq, op, now))
			continue;
		add_entry(&b->call.body, b->n, op);
		b->op[b->n++] = op;
	}
	if (b->n == 0) {
		batch_put(b);
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
				list_push_back(ops, &b->op[i]->again.link);
		batch_put(b);
	}
}
