/*
 * Settlements and renewals: collected during a turn, kept until the service
 * has done them or the lease has ended.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "queue/sqs_impl.h"

#define GATHER_US	(5 * USEC_PER_MSEC)

/* ---- ops ---- */

static bool
settles(const struct sqs_op *op)
{
	return op->message != NULL || op->id == 0;
}

static struct sqs_op *
op_new(struct sqs_queue *sq, enum sqs_op_kind kind, struct message *m,
    uint64_t until_us)
{
	struct list *l = list_pop_front(&sq->free_ops);
	struct sqs_op *op = l != NULL ? list_entry(l, struct sqs_op, again.link) :
	    xmalloc(sizeof(*op));

	*op = (struct sqs_op){
		.kind = kind,
		.id = m->id,
		.message = kind == OP_RENEW ? NULL : m,
		.chunk = chunk_ref(m->chunk),
		.receipt = m->receipt_data,
		.again.until_us = until_us,
	};
	list_init(&op->again.link);
	if (kind != OP_RENEW)
		sq->nsettling++;
	return op;
}

static void
op_free(struct sqs_queue *sq, struct sqs_op *op)
{
	list_remove(&op->again.link);
	if (settles(op))
		sq->nsettling--;
	sqs_burial_free(op->burial);
	chunk_unref(op->chunk);
	/* As many as there ever were at once: the caps on messages bound it. */
	list_push_front(&sq->free_ops, &op->again.link);
	if (sq->stopping)
		sqs_stop_check(sq);
}

void
sqs_op_wait(struct sqs_queue *sq, struct sqs_op *op)
{
	list_remove(&op->again.link);
	switch (op->kind) {
	case OP_DELETE:
		list_push_back(&sq->deletes, &op->again.link);
		sq->ndeletes++;
		break;
	case OP_VISIBILITY:
		/* A renewal that is under way might be done after it. */
		if (op->receipt->renewing) {
			op->receipt->waits = op;
			list_push_back(&sq->held_back, &op->again.link);
			return;
		}
		list_push_back(&sq->changes, &op->again.link);
		sq->nchanges++;
		break;
	case OP_RENEW:
		list_push_back(&sq->changes, &op->again.link);
		sq->nchanges++;
		break;
	case OP_BURY:
		list_push_back(&sq->buries, &op->again.link);
		break;
	}
	task_schedule(sq->loop, &sq->batch_task);
}

/* ---- collecting ---- */

/* Whole seconds, and no more than 12 h after the receive. */
static unsigned
seconds_of(const struct sqs_receipt *r, uint64_t us)
{
	uint64_t held = (clock_monotonic_us() - r->received_us) /
	    USEC_PER_SEC + 1;
	uint64_t n = us / USEC_PER_SEC + (us % USEC_PER_SEC != 0);

	return (unsigned)MIN(n, SQS_VISIBILITY_MAX - MIN(held,
	    (uint64_t)SQS_VISIBILITY_MAX));
}

static void
change(struct sqs_queue *sq, struct message *m, uint64_t delay_us)
{
	struct sqs_op *op = op_new(sq, OP_VISIBILITY, m, m->lease_until_us);

	op->seconds = seconds_of(op->receipt, delay_us);
	sqs_op_wait(sq, op);
}

static void
bury(struct sqs_queue *sq, struct message *m, const struct settlement *s)
{
	struct sqs_op *op = op_new(sq, OP_BURY, m, m->lease_until_us);

	op->burial = sqs_burial_new(sq, op, s);
	sqs_op_wait(sq, op);
}

static void
remember(struct sqs_queue *sq, const struct message *m, unsigned crashes)
{
	if (crashes != 0)
		tried_set(&sq->tried, m->name,
		    &(struct tried){ .crashes = crashes });
	else
		tried_forget(&sq->tried, m->name);
}

void
sqs_settle(struct queue *q, struct message *m, const struct settlement *s)
{
	struct sqs_queue *sq = sqs_of(q);

	switch (s->kind) {
	case SETTLE_ACK:
		tried_forget(&sq->tried, m->name);
		sqs_op_wait(sq, op_new(sq, OP_DELETE, m, m->lease_until_us));
		break;
	case SETTLE_RETRY:
		remember(sq, m, s->crashes);
		change(sq, m, s->delay_us);
		break;
	case SETTLE_RELEASE:
		change(sq, m, 0);
		break;
	case SETTLE_BURY:
		remember(sq, m, sq->dead_by_broker ? s->crashes : 0);
		/* The redrive policy counts receives: let there be the next. */
		if (sq->dead_by_broker)
			change(sq, m, 0);
		else
			bury(sq, m, s);
		break;
	case SETTLE_NONE:
		BUG("a settlement without a kind");
	}
}

void
sqs_extend(struct queue *q, struct message *m, uint64_t lease_us)
{
	struct sqs_queue *sq = sqs_of(q);
	struct sqs_op *op = op_new(sq, OP_RENEW, m, m->lease_until_us);

	op->seconds = MAX(seconds_of(op->receipt, lease_us), 1u);
	sqs_op_wait(sq, op);
}

void
sqs_stray(struct sqs_queue *sq, struct message *m, unsigned seconds)
{
	struct sqs_op *op = op_new(sq, OP_VISIBILITY, m, m->lease_until_us);

	op->seconds = seconds;
	op->id = 0;
	op->message = NULL;
	message_free(m);
	sqs_op_wait(sq, op);
}

/* ---- what comes of it ---- */

static struct message *
renewed_message(const struct sqs_op *op)
{
	struct message *m = message_find(op->id);

	return m != NULL && m->state != MESSAGE_SETTLING ? m : NULL;
}

bool
sqs_op_begin(struct sqs_queue *sq, struct sqs_op *op, uint64_t now_us)
{
	op->asked_us = now_us;
	if (op->kind != OP_RENEW)
		return true;
	if (renewed_message(op) == NULL) {
		op_free(sq, op);
		return false;
	}
	op->receipt->renewing = true;
	return true;
}

/* Its message may be settled now. */
static void
renewal_over(struct sqs_queue *sq, struct sqs_op *op)
{
	struct sqs_op *waits = op->receipt->waits;

	op->receipt->renewing = false;
	op->receipt->waits = NULL;
	if (waits != NULL)
		sqs_op_wait(sq, waits);
}

static void
renewed(struct sqs_queue *sq, struct sqs_op *op)
{
	struct message *m;
	uint64_t until = sat_add(op->asked_us,
	    op->seconds * USEC_PER_SEC);

	renewal_over(sq, op);
	m = renewed_message(op);
	op_free(sq, op);
	if (m != NULL)
		queue_extended(sq->queue, m, until);
}

void
sqs_op_succeeded(struct sqs_queue *sq, struct sqs_op *op)
{
	struct message *m = op->message;

	if (op->kind == OP_RENEW) {
		renewed(sq, op);
		return;
	}
	if (op->kind == OP_BURY) {
		op->kind = OP_DELETE;
		op->again.failures = 0;
		sqs_op_wait(sq, op);
		return;
	}
	op_free(sq, op);
	if (m != NULL)
		queue_settled(sq->queue, m, NULL);
}

static void
op_lost(struct sqs_queue *sq, struct sqs_op *op, const struct error *err)
{
	struct message *m = op->message;
	bool renewal = op->kind == OP_RENEW;

	if (renewal)
		m = renewed_message(op);
	op_free(sq, op);
	if (m == NULL)
		return;
	if (renewal)
		queue_extended(sq->queue, m, 0);
	else
		queue_settled(sq->queue, m, err);
}

void
sqs_op_failed(struct sqs_queue *sq, struct sqs_op *op, const struct error *err)
{
	uint64_t now = clock_monotonic_us();

	if (op->kind == OP_RENEW)
		renewal_over(sq, op);
	op->again.failures++;
	if (op->kind == OP_RENEW && renewed_message(op) == NULL)
		op_free(sq, op);
	else if (op->kind != OP_BURY && sqs_error_is_final(slice_of(err->code)))
		op_lost(sq, op, err);
	else if (again_over(&op->again, now))
		op_lost(sq, op, err);
	else
		again_later(&sq->again, &op->again, op->kind == OP_RENEW);
}

/* ---- sending ---- */

static void
op_due(struct again_list *a, struct again *one)
{
	sqs_op_wait(container_of(a, struct sqs_queue, again),
	    container_of(one, struct sqs_op, again));
}

static void
send_buries(struct sqs_queue *sq)
{
	struct list *l;

	while (sq->ncalls < SQS_CALLS_MAX &&
	    (l = list_first(&sq->buries)) != NULL)
		sqs_bury_send(sq, list_entry(l, struct sqs_op, again.link));
}

static void
batch_task_run(struct task *t)
{
	struct sqs_queue *sq = t->owner;
	struct error err;

	/* Without a signer nothing was ever received. */
	if (sq->signer == NULL)
		return;
	if (fault("sqs.settle.before_write")) {
		error_set(&err, ERROR_TRANSIENT, "fault",
		    "sqs.settle.before_write");
		sqs_fail(sq, &err);
	}
	sqs_batches(sq, sq->batch_gathered || sq->stopping);
	sq->batch_gathered = false;
	send_buries(sq);
	if (sq->ndeletes + sq->nchanges == 0)
		timer_cancel(sq->loop, &sq->batch_timer);
	else if (!timer_armed(&sq->batch_timer))
		timer_arm(sq->loop, &sq->batch_timer, GATHER_US);
	if (sq->stopping)
		sqs_stop_check(sq);
}

static void
batch_timer_fired(struct timer *t)
{
	struct sqs_queue *sq = t->owner;

	sq->batch_gathered = true;
	task_schedule(sq->loop, &sq->batch_task);
}

/* ---- life ---- */

bool
sqs_settled_all(const struct sqs_queue *sq)
{
	return sq->nsettling == 0;
}

static void
give_up_list(struct sqs_queue *sq, struct list *ops, const struct error *err)
{
	struct list *l;

	while ((l = list_first(ops)) != NULL) {
		struct sqs_op *op = list_entry(l, struct sqs_op, again.link);

		if (op->burial != NULL)
			sqs_call_cancel(&op->burial->call);
		op->receipt->renewing = false;
		op_lost(sq, op, err);
	}
}

void
sqs_give_up(struct sqs_queue *sq, const struct error *err)
{
	struct list *lists[] = { &sq->deletes, &sq->changes, &sq->buries,
	    &sq->burying, &sq->again.paused, &sq->held_back };
	LIST_HEAD(open);

	sqs_batches_cancel(sq, &open);
	give_up_list(sq, &open, err);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		give_up_list(sq, lists[i], err);
	sq->ndeletes = sq->nchanges = sq->ncalls = 0;
	timer_cancel(sq->loop, &sq->batch_timer);
	again_stop(&sq->again);
	task_cancel(&sq->batch_task);
}

void
sqs_settle_init(struct sqs_queue *sq)
{
	list_init(&sq->deletes);
	list_init(&sq->changes);
	list_init(&sq->buries);
	list_init(&sq->burying);
	list_init(&sq->held_back);
	list_init(&sq->batches);
	list_init(&sq->free_ops);
	list_init(&sq->free_batches);
	task_init(&sq->batch_task, LOOP_BATCH, "sqs batch", batch_task_run, sq);
	timer_init(&sq->batch_timer, "sqs batch", batch_timer_fired, sq);
	again_init(&sq->again, "sqs again", sq->loop, op_due);
}

void
sqs_settle_done(struct sqs_queue *sq)
{
	struct list *l;

	BUG_ON(!sqs_settled_all(sq) || !list_empty(&sq->batches));
	while ((l = list_pop_front(&sq->free_ops)) != NULL)
		free(list_entry(l, struct sqs_op, again.link));
	sqs_batches_done(sq);
	task_cancel(&sq->batch_task);
	timer_cancel(sq->loop, &sq->batch_timer);
	again_stop(&sq->again);
}
