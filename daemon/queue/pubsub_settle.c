/*
 * Settlements and renewals: collected during a turn, kept until the service
 * has done them or the lease has ended.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "queue/pubsub_impl.h"

#define GATHER_US	(1 * USEC_PER_MSEC)
#define LOG_EVERY_US	(10 * USEC_PER_SEC)

/* ---- ops ---- */

static struct pubsub_op *
op_start(struct pubsub_receipt *r, enum pubsub_op_kind kind, uint64_t until_us)
{
	struct pubsub_op *op = kind == OP_RENEW ? &r->renew : &r->settle;

	BUG_ON(op->kind != OP_NONE);
	op->kind = kind;
	op->again.until_us = until_us;
	op->again.failures = 0;
	op->alone = op->unnamed = false;
	if (kind != OP_RENEW)
		r->pq->nsettling++;
	return op;
}

/* The receipt may be gone afterwards. */
static void
op_end(struct pubsub_op *op)
{
	struct pubsub_receipt *r = op->receipt;
	struct pubsub_queue *pq = r->pq;

	list_remove(&op->again.link);
	if (op->kind != OP_RENEW)
		pq->nsettling--;
	op->kind = OP_NONE;
	if (r->dead)
		pubsub_receipt_free(r);
	if (pq->stopping)
		pubsub_stop_check(pq);
}

static bool
leaving(const struct pubsub_queue *pq)
{
	return (pq->stopping || pq->queue->paused != 0) &&
	    pubsub_streams_open(pq) != 0;
}

void
pubsub_streams_closed(struct pubsub_queue *pq)
{
	struct list *l;

	while ((l = list_pop_front(&pq->stopping_back)) != NULL)
		pubsub_op_wait(list_entry(l, struct pubsub_op, again.link));
}

static bool
held_back(struct pubsub_queue *pq, struct pubsub_op *op)
{
	struct pubsub_receipt *r = op->receipt;

	/* A renewal that is under way might be done after it. */
	if (r->renew.kind != OP_NONE && r->renew.asked_us != 0) {
		r->waits = op;
		list_push_back(&pq->held_back, &op->again.link);
		return true;
	}
	/* On an open stream it would come again at once. */
	if (op->seconds == 0 && leaving(pq)) {
		list_push_back(&pq->stopping_back, &op->again.link);
		pubsub_wake(pq);
		return true;
	}
	return false;
}

void
pubsub_op_wait(struct pubsub_op *op)
{
	struct pubsub_queue *pq = op->receipt->pq;

	list_remove(&op->again.link);
	switch (op->kind) {
	case OP_ACK:
		list_push_back(&pq->acks, &op->again.link);
		pq->nacks++;
		break;
	case OP_DEADLINE:
	case OP_CONFIRM:
	case OP_RENEW:
		if (op->kind == OP_DEADLINE && held_back(pq, op))
			return;
		list_push_back(&pq->deadlines, &op->again.link);
		pq->ndeadlines++;
		break;
	case OP_BURY:
		list_push_back(&pq->buries, &op->again.link);
		break;
	case OP_NONE:
		BUG("an op without a kind");
	}
	task_schedule(pq->loop, &pq->batch_task);
}

/* ---- collecting ---- */

static unsigned
seconds_of(uint64_t us)
{
	return (unsigned)MIN(us / USEC_PER_SEC + (us % USEC_PER_SEC != 0),
	    (uint64_t)PUBSUB_DEADLINE_MAX);
}

static void
change(struct pubsub_receipt *r, uint64_t delay_us)
{
	struct pubsub_op *op = op_start(r, OP_DEADLINE,
	    r->message->lease_until_us);

	op->seconds = seconds_of(delay_us);
	pubsub_op_wait(op);
}

static void
remember(struct pubsub_receipt *r, const struct settlement *s,
    uint64_t delay_us)
{
	struct tried a = {
		.attempt = s->attempt,
		.crashes = s->crashes,
		.due_us = sat_add(clock_monotonic_us(), delay_us),
	};

	if (s->attempt <= 1 && s->crashes == 0 && delay_us == 0)
		tried_forget(&r->pq->tried, r->message->name);
	else
		tried_set(&r->pq->tried, r->message->name, &a);
}

void
pubsub_settle(struct queue *q, struct message *m, const struct settlement *s)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct pubsub_receipt *r = m->receipt_data;

	histogram_record(&pq->held, loop_now_us(pq->loop) - m->received_us);
	switch (s->kind) {
	case SETTLE_ACK:
		pubsub_op_wait(op_start(r, OP_ACK, m->lease_until_us));
		break;
	case SETTLE_RETRY:
		remember(r, s, s->delay_us);
		change(r, s->delay_us);
		break;
	case SETTLE_RELEASE:
		remember(r, s, 0);
		change(r, 0);
		break;
	case SETTLE_BURY:
		/* The dead-letter policy counts deliveries: let there be the
		   next. */
		if (pq->dead_by_broker) {
			remember(r, s, 0);
			change(r, 0);
			break;
		}
		pubsub_bury(op_start(r, OP_BURY, m->lease_until_us), m, s);
		break;
	case SETTLE_NONE:
		BUG("a settlement without a kind");
	}
}

void
pubsub_extend(struct queue *q, struct message *m, uint64_t lease_us)
{
	struct pubsub_receipt *r = m->receipt_data;
	struct pubsub_op *op;

	(void)q;
	/* Asked for with an older id: the lease is renewed when it is answered,
	   and if it was for nothing the engine asks again. */
	if (r->renew.kind != OP_NONE)
		return;
	op = op_start(r, OP_RENEW, m->lease_until_us);
	op->seconds = MAX(seconds_of(lease_us), 1u);
	op->asked_us = 0;
	pubsub_op_wait(op);
}

void
pubsub_stray(struct pubsub_receipt *r, enum pubsub_op_kind kind,
    unsigned seconds)
{
	struct pubsub_op *op = op_start(r, kind, clock_monotonic_us() +
	    PUBSUB_DEADLINE_MIN * USEC_PER_SEC);

	op->seconds = seconds;
	r->id = 0;
	r->message = NULL;
	pubsub_op_wait(op);
}

void
pubsub_confirm(struct pubsub_receipt *r, uint64_t until_us)
{
	struct pubsub_op *op = op_start(r, OP_CONFIRM, until_us);

	op->seconds = pubsub_deadline(r->pq);
	pubsub_op_wait(op);
}

/* ---- what comes of it ---- */

static struct message *
renewed_message(const struct pubsub_op *op)
{
	struct message *m = pubsub_receipt_message(op->receipt);

	return m != NULL && m->state != MESSAGE_SETTLING && !op->receipt->dead ?
	    m : NULL;
}

bool
pubsub_op_begin(struct pubsub_op *op, uint64_t now_us)
{
	op->asked_us = now_us;
	op->version = op->receipt->version;
	if (op->kind == OP_RENEW && renewed_message(op) == NULL) {
		op_end(op);
		return false;
	}
	return true;
}

/* Its message may be settled now. */
static void
renewal_over(struct pubsub_op *op)
{
	struct pubsub_receipt *r = op->receipt;
	struct pubsub_op *waits = r->waits;

	r->waits = NULL;
	op->asked_us = 0;
	if (waits != NULL)
		pubsub_op_wait(waits);
}

/* until_us 0: the lease is lost.  With an id that was replaced meanwhile it
   says nothing of the lease that we have now. */
static void
renewed(struct pubsub_op *op, uint64_t until_us)
{
	struct pubsub_receipt *r = op->receipt;
	struct queue *q = r->pq->queue;
	struct message *m = renewed_message(op);
	bool replaced = op->version != r->version;

	renewal_over(op);
	op_end(op);
	if (m != NULL && !replaced)
		queue_extended(q, m, until_us);
}

static void
confirmed(struct pubsub_op *op)
{
	struct pubsub_receipt *r = op->receipt;
	struct message *m = r->message;
	struct queue *q = r->pq->queue;

	m->lease_until_us = sat_add(op->asked_us, op->seconds * USEC_PER_SEC);
	op_end(op);
	queue_deliver(q, m);
}

/* A retry that waits for its delay is still out on its stream. */
static void
waits_there(struct pubsub_receipt *r, const struct message *m)
{
	struct tried *t = tried_find(&r->pq->tried, m->name);

	if (t == NULL)
		return;
	r->counted = false;
	t->place = r->place.stream;
	t->place_number = r->place.number;
	pubsub_delayed(r->pq, r->place, 1);
}

static void
settled(struct pubsub_op *op, const struct error *err)
{
	struct pubsub_receipt *r = op->receipt;
	struct pubsub_queue *pq = r->pq;
	struct message *m = r->id != 0 ? r->message : NULL;

	pubsub_bury_done(op);
	if (err == NULL && m != NULL && op->kind == OP_ACK) {
		tried_forget(&pq->tried, m->name);
	} else if (err == NULL && m != NULL && op->seconds != 0 && r->counted) {
		waits_there(r, m);
	}
	pubsub_receipt_free(r);
	op_end(op);
	if (m != NULL)
		queue_settled(pq->queue, m, err);
}

void
pubsub_op_succeeded(struct pubsub_op *op)
{
	struct pubsub_queue *pq = op->receipt->pq;

	switch (op->kind) {
	case OP_RENEW:
		renewed(op, sat_add(op->asked_us, op->seconds * USEC_PER_SEC));
		break;
	case OP_CONFIRM:
		confirmed(op);
		break;
	case OP_BURY:
		op->kind = OP_ACK;
		op->again.failures = 0;
		pubsub_op_wait(op);
		break;
	case OP_ACK:
	case OP_DEADLINE:
		settled(op, NULL);
		break;
	case OP_NONE:
		BUG("an op without a kind succeeded");
	}
	task_schedule(pq->loop, &pq->window_task);
}

/* The message was not yet the engine's. */
static void
unconfirmed(struct pubsub_op *op)
{
	struct pubsub_receipt *r = op->receipt;
	struct message *m = r->message;

	r->pq->queue->stats.leases_lost++;
	pubsub_receipt_free(r);
	op_end(op);
	message_free(m);
}

static void
op_lost(struct pubsub_op *op, const struct error *err)
{
	switch (op->kind) {
	case OP_RENEW:
		renewed(op, 0);
		break;
	case OP_CONFIRM:
		unconfirmed(op);
		break;
	default:
		settled(op, err);
		break;
	}
}

static void
log_refused(struct pubsub_queue *pq, const struct error *err)
{
	uint64_t now = clock_monotonic_us();

	if ((err->class != ERROR_AUTH && err->class != ERROR_REJECTED) ||
	    (pq->refused_log_us != 0 &&
	    now - pq->refused_log_us < LOG_EVERY_US))
		return;
	pq->refused_log_us = now;
	log_warning(LOG_QUEUE_EVENT(pq->queue->name, EVENT_SETTLE_FAILED),
	    "a message cannot be settled: "
	    "%s (%s); it is tried again until its lease ends", err->text,
	    err->code);
}

void
pubsub_op_failed(struct pubsub_op *op, const struct error *err, bool final)
{
	struct pubsub_queue *pq = op->receipt->pq;
	uint64_t now = clock_monotonic_us();

	op->again.failures++;
	if (op->kind == OP_RENEW) {
		renewal_over(op);
		if (renewed_message(op) == NULL) {
			op_end(op);
			return;
		}
	}
	if (final && op->unnamed && op->kind == OP_ACK) {
		pubsub_op_succeeded(op);
	} else if (final || again_over(&op->again, now)) {
		op_lost(op, err);
	} else {
		if (op->kind != OP_BURY)	/* it says it itself */
			log_refused(pq, err);
		again_later(&pq->again, &op->again, op->kind == OP_RENEW);
	}
}

/* ---- sending ---- */

static void
op_due(struct again_list *a, struct again *one)
{
	(void)a;
	pubsub_op_wait(container_of(one, struct pubsub_op, again));
}

static void
send_buries(struct pubsub_queue *pq)
{
	struct list *l;

	while (pq->ncalls < PUBSUB_CALLS_MAX &&
	    (l = list_first(&pq->buries)) != NULL)
		pubsub_bury_send(list_entry(l, struct pubsub_op, again.link));
}

static void
batch_task_run(struct task *t)
{
	struct pubsub_queue *pq = t->owner;
	struct error err;

	/* Without a channel nothing was ever received. */
	if (pq->channel == NULL)
		return;
	if (fault("pubsub.settle.before_write")) {
		error_set(&err, ERROR_TRANSIENT, "fault",
		    "pubsub.settle.before_write");
		pubsub_fail(pq, &err);
	}
	pubsub_batches(pq, pq->batch_gathered || pq->stopping);
	pq->batch_gathered = false;
	send_buries(pq);
	if (pq->nacks + pq->ndeadlines == 0)
		timer_cancel(pq->loop, &pq->batch_timer);
	else if (!timer_armed(&pq->batch_timer))
		timer_arm(pq->loop, &pq->batch_timer, GATHER_US);
	if (pq->stopping)
		pubsub_stop_check(pq);
}

static void
batch_timer_fired(struct timer *t)
{
	struct pubsub_queue *pq = t->owner;

	pq->batch_gathered = true;
	task_schedule(pq->loop, &pq->batch_task);
}

/* ---- life ---- */

bool
pubsub_settled_all(const struct pubsub_queue *pq)
{
	return pq->nsettling == 0;
}

static void
give_up_list(struct list *ops, const struct error *err)
{
	struct list *l;

	while ((l = list_first(ops)) != NULL) {
		struct pubsub_op *op = list_entry(l, struct pubsub_op, again.link);

		op->receipt->waits = NULL;
		op_lost(op, err);
	}
}

void
pubsub_give_up(struct pubsub_queue *pq, const struct error *err)
{
	struct list *lists[] = { &pq->acks, &pq->deadlines, &pq->buries,
	    &pq->burying, &pq->again.paused, &pq->held_back,
	    &pq->stopping_back };
	LIST_HEAD(open);

	pubsub_batches_cancel(pq, &open);
	give_up_list(&open, err);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		give_up_list(lists[i], err);
	pq->nacks = pq->ndeadlines = pq->ncalls = 0;
	timer_cancel(pq->loop, &pq->batch_timer);
	again_stop(&pq->again);
	task_cancel(&pq->batch_task);
}

void
pubsub_settle_init(struct pubsub_queue *pq)
{
	list_init(&pq->acks);
	list_init(&pq->deadlines);
	list_init(&pq->buries);
	list_init(&pq->burying);
	list_init(&pq->held_back);
	list_init(&pq->stopping_back);
	list_init(&pq->batches);
	task_init(&pq->batch_task, LOOP_BATCH, "pubsub batch", batch_task_run,
	    pq);
	timer_init(&pq->batch_timer, "pubsub batch", batch_timer_fired, pq);
	again_init(&pq->again, "pubsub again", pq->loop, op_due);
}

void
pubsub_settle_done(struct pubsub_queue *pq)
{
	BUG_ON(!pubsub_settled_all(pq) || !list_empty(&pq->batches));
	task_cancel(&pq->batch_task);
	timer_cancel(pq->loop, &pq->batch_timer);
	again_stop(&pq->again);
}
