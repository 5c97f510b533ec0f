/*
 * Acknowledge and ModifyAckDeadline for many ids at once.  Both are answered
 * for all of them; with exactly-once delivery the error's details say what
 * became of each.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/protobuf.h"
#include "codec/rpc_status.pb-c.h"
#include "queue/pubsub_impl.h"

#define FULL_MIN	10u

struct pubsub_batch {
	struct list link;		/* of pq->batches */
	struct pubsub_call call;
	struct list ops;
	unsigned n;
};

static void
batch_free(struct pubsub_batch *b)
{
	list_remove(&b->link);
	pubsub_call_done(&b->call);
	free(b);
}

/* ---- what became of each id ---- */

struct verdicts {
	struct hash by_id;
	struct hash_node *nodes;
	struct slice *what;
};

/* ErrorInfo of google.rpc, in one of the details. */
static Google__Rpc__ErrorInfo *
error_info(struct slice details, struct chunk *chunk)
{
	struct error ignored;
	Google__Rpc__Status *status;

	if (details.n == 0)
		return NULL;
	status = PROTOBUF_UNPACK(Google__Rpc__Status, google__rpc__status,
	    details, chunk, &ignored);
	for (size_t i = 0; status != NULL && i < status->n_details; i++) {
		struct slice type = protobuf_slice(status->details[i]->type_url);
		const char *want = "/google.rpc.ErrorInfo";
		size_t n = strlen(want);

		if (type.n < n || memcmp(type.p + type.n - n, want, n) != 0)
			continue;
		return PROTOBUF_UNPACK(Google__Rpc__ErrorInfo,
		    google__rpc__error_info,
		    protobuf_slice(status->details[i]->value), chunk,
		    &ignored);
	}
	return NULL;
}

static void
verdicts_init(struct verdicts *v, const Google__Rpc__ErrorInfo *info,
    struct chunk *chunk)
{
	size_t n = info != NULL ? info->n_metadata : 0;

	hash_init(&v->by_id);
	v->nodes = chunk_alloc(chunk, MAX(n, (size_t)1) * sizeof(*v->nodes));
	v->what = chunk_alloc(chunk, MAX(n, (size_t)1) * sizeof(*v->what));
	for (size_t i = 0; i < n; i++) {
		struct slice id = protobuf_slice(info->metadata[i]->key);

		if (hash_find(&v->by_id, id) != NULL)
			continue;
		v->what[i] = protobuf_slice(info->metadata[i]->value);
		hash_insert(&v->by_id, &v->nodes[i], id);
	}
}

static void
verdicts_done(struct verdicts *v)
{
	struct hash_node *node;

	while ((node = hash_any(&v->by_id)) != NULL)
		hash_remove(&v->by_id, node);
	hash_done(&v->by_id);
}

static struct slice
verdict_of(const struct verdicts *v, struct slice id)
{
	struct hash_node *node = hash_find(&v->by_id, id);

	return node != NULL ? v->what[node - v->nodes] :
	    (struct slice){ NULL, 0 };
}

static bool
begins(struct slice s, const char *with)
{
	return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* Named: "PERMANENT_FAILURE_INVALID_ACK_ID", "TRANSIENT_FAILURE_...". */
static void
named(struct pubsub_op *op, struct slice what)
{
	bool final = begins(what, "PERMANENT_FAILURE");
	char quoted[80];
	struct error e;

	error_quote(what, quoted, sizeof(quoted));
	error_set(&e, final ? ERROR_REJECTED : ERROR_TRANSIENT, final ?
	    "invalid_ack_id" : "transient_ack_id", "the service says of its "
	    "acknowledgement id: %s", quoted);
	pubsub_op_failed(op, &e, final);
}

/* ---- answers ---- */

/*
 * Not named in a failure that names others: it may have been done, or not; it
 * is asked for again.  Without any names the request itself is no good for
 * some of them: each is sent alone, and only one that fails alone is lost.
 */
static void
refused(struct pubsub_op *op, const struct error *err, unsigned code,
    bool others_named, unsigned n)
{
	bool final = code == GRPC_NOT_FOUND;

	if (others_named) {
		op->unnamed = true;
	} else if (code == GRPC_INVALID_ARGUMENT) {
		final = n == 1;
		op->alone = true;
	}
	pubsub_op_failed(op, err, final);
}

static void
answered(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_queue *pq = c->pq;
	struct pubsub_batch *b = c->owner;
	struct chunk *chunk = NULL;
	struct verdicts v;
	struct list *l;

	(void)answer;
	pq->ncalls--;
	if (err != NULL) {
		chunk = chunk_new();
		verdicts_init(&v, error_info(c->details, chunk), chunk);
	}
	while ((l = list_pop_front(&b->ops)) != NULL) {
		struct pubsub_op *op = list_entry(l, struct pubsub_op, again.link);
		struct slice what;

		if (err == NULL) {
			pubsub_op_succeeded(op);
			continue;
		}
		what = verdict_of(&v, op->receipt->ack_id);
		if (what.n != 0)
			named(op, what);
		else
			refused(op, err, c->code, v.by_id.count != 0, b->n);
	}
	if (err != NULL) {
		verdicts_done(&v);
		chunk_unref(chunk);
	}
	batch_free(b);
	task_schedule(pq->loop, &pq->batch_task);
}

/* ---- sending ---- */

/* Takes ops of the same deadline from the list, as many as fit. */
static void
fill(struct pubsub_batch *b, struct list *ops, unsigned *count,
    struct slice *ids)
{
	uint64_t now = clock_monotonic_us();
	size_t bytes = 0;
	struct list *l, *tmp;
	struct pubsub_op *first = NULL;

	list_foreach_safe(l, tmp, ops) {
		struct pubsub_op *op = list_entry(l, struct pubsub_op, again.link);
		size_t need = op->receipt->ack_id.n + 4;

		if (b->n == PUBSUB_IDS_MAX ||
		    (b->n != 0 && bytes + need > PUBSUB_IDS_BYTES))
			break;
		if (first != NULL && (op->alone ||
		    (op->kind != OP_ACK && op->seconds != first->seconds)))
			continue;
		list_remove(l);
		--*count;
		if (!pubsub_op_begin(op, now))
			continue;
		first = op;
		bytes += need;
		ids[b->n++] = op->receipt->ack_id;
		list_push_back(&b->ops, &op->again.link);
		if (op->alone)
			break;
	}
}

static void
send_batch(struct pubsub_queue *pq, struct list *ops, unsigned *count,
    bool ack)
{
	struct pubsub_batch *b = new0(struct pubsub_batch);
	struct slice ids[PUBSUB_IDS_MAX];
	const struct pubsub_op *first;

	list_init(&b->ops);
	list_init(&b->link);
	pubsub_call_init(&b->call, pq, ack ? PUBSUB_ACKNOWLEDGE :
	    PUBSUB_MODIFY_DEADLINE, answered, b);
	fill(b, ops, count, ids);
	if (b->n == 0) {
		batch_free(b);
		return;
	}
	first = list_entry(list_first(&b->ops), struct pubsub_op, again.link);
	if (ack)
		pubsub_pack_ack(&b->call.body, pq->subscription, ids, b->n);
	else
		pubsub_pack_deadline(&b->call.body, pq->subscription, ids,
		    b->n, first->seconds);
	list_push_back(&pq->batches, &b->link);
	pq->ncalls++;
	pubsub_call_send(&b->call);
}

void
pubsub_batches(struct pubsub_queue *pq, bool all)
{
	/* A quarter of the window, so that the service can go on sending. */
	unsigned full = MIN(MAX(pq->last_window / 4, FULL_MIN),
	    PUBSUB_IDS_MAX);
	unsigned least = all ? 1 : full;

	while (pq->ndeadlines >= least && pq->ncalls < PUBSUB_CALLS_MAX)
		send_batch(pq, &pq->deadlines, &pq->ndeadlines, false);
	while (pq->nacks >= least && pq->ncalls < PUBSUB_CALLS_MAX)
		send_batch(pq, &pq->acks, &pq->nacks, true);
}

void
pubsub_batches_cancel(struct pubsub_queue *pq, struct list *ops)
{
	struct list *l;

	while ((l = list_first(&pq->batches)) != NULL) {
		struct pubsub_batch *b = list_entry(l, struct pubsub_batch,
		    link);

		list_splice_back(ops, &b->ops);
		batch_free(b);
	}
}
