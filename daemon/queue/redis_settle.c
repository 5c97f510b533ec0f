/*
 * Settlements and renewals: collected during a turn, sent as few commands in
 * LOOP_BATCH, kept until answered.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "queue/redis_impl.h"

/* ---- collecting ---- */

static void
pile_add(struct redis_pile *p, struct message *m)
{
	if (p->n == p->size) {
		p->size = MAX(p->size * 2, (size_t)64);
		p->at = xreallocarray(p->at, p->size, sizeof(*p->at));
	}
	p->at[p->n++] = m;
}

static struct redis_batch *
batch_new(struct redis_queue *rq, enum settlement_kind kind,
    enum redis_receipt receipt, struct message *const *messages, size_t count)
{
	struct redis_batch *b = xmalloc(sizeof(*b) + count * sizeof(*messages));

	*b = (struct redis_batch){
		.number = ++rq->batch_number,
		.kind = kind,
		.receipt = receipt,
		.count = count,
	};
	memcpy(b->message, messages, count * sizeof(*messages));
	list_push_back(&rq->batches, &b->link);
	return b;
}

static void
batch_free(struct redis_batch *b)
{
	list_remove(&b->link);
	free(b->error_type);
	free(b->detail);
	free(b);
}

static struct redis_batch *
settle_one(struct redis_queue *rq, struct message *m,
    const struct settlement *s)
{
	struct redis_batch *b;
	bool release = s->kind == SETTLE_RELEASE;

	b = batch_new(rq, release ? SETTLE_RETRY : s->kind, redis_receipt(m),
	    &m, 1);
	b->delay_us = release ? 0 : s->delay_us;
	b->attempt = s->attempt;
	b->crashes = s->crashes;
	b->error_type = xstrndup(s->error_type.n != 0 ? s->error_type.p : "",
	    s->error_type.n);
	b->ndetail = MIN(s->detail.n, VERDICT_DETAIL_MAX);
	b->detail = xmemdup(s->detail.n != 0 ? s->detail.p : "",
	    MAX(b->ndetail, (size_t)1));
	return b;
}

void
redis_stray(struct redis_queue *rq, struct message *m)
{
	struct settlement s = {
		.kind = SETTLE_RELEASE,
		.attempt = m->attempt,
		.crashes = m->crashes,
	};

	if (redis_receipt(m) == RECEIPT_DELAYED)
		settle_one(rq, m, &s)->stray = true;
	else
		pile_add(&rq->strays, m);
	task_schedule(rq->loop, &rq->batch_task);
}

void
redis_settle(struct queue *q, struct message *m, const struct settlement *s)
{
	struct redis_queue *rq = redis_of(q);
	bool delayed = redis_receipt(m) == RECEIPT_DELAYED;

	switch (s->kind) {
	case SETTLE_ACK:
		pile_add(delayed ? &rq->delayed_acks : &rq->acks, m);
		break;
	case SETTLE_RELEASE:
		/*
		 * Nothing to remember about it: back to where it was.  Else it
		 * becomes a record that is due at once, which keeps the counts
		 * (a Sidekiq job carries its own).
		 */
		if (!delayed && (rq->mode == &redis_mode_sidekiq ||
		    (s->attempt <= 1 && s->crashes == 0))) {
			pile_add(&rq->releases, m);
			break;
		}
		(void)settle_one(rq, m, s);
		break;
	case SETTLE_RETRY:
	case SETTLE_BURY:
		(void)settle_one(rq, m, s);
		break;
	case SETTLE_NONE:
		BUG("a settlement without a kind");
	}
	task_schedule(rq->loop, &rq->batch_task);
}

/* ---- sending ---- */

/* Bodies are part of the command where there is no other receipt. */
static void
cut_pile(struct redis_queue *rq, struct redis_pile *p,
    enum settlement_kind kind, enum redis_receipt receipt, bool stray)
{
	size_t from = 0, bytes = 0;

	for (size_t i = 0; i < p->n; i++) {
		bytes += p->at[i]->receipt.n;
		if (i + 1 - from == REDIS_BATCH_MAX ||
		    bytes >= REDIS_BATCH_BYTES || i + 1 == p->n) {
			batch_new(rq, kind, receipt, p->at + from,
			    i + 1 - from)->stray = stray;
			from = i + 1;
			bytes = 0;
		}
	}
	p->n = 0;
}

static void
send_batches(struct redis_queue *rq)
{
	struct list *l;
	struct error err;

	list_foreach(l, &rq->batches) {
		struct redis_batch *b = list_entry(l, struct redis_batch, link);

		if (b->sent)
			continue;
		if (fault("redis.settle.before_write")) {
			error_set(&err, ERROR_TRANSIENT, "fault",
			    "redis.settle.before_write");
			redis_fail(rq, &err);
			return;
		}
		if (b->sent_before)
			rq->resent += b->count;
		b->sent = true;
		if (b->receipt == RECEIPT_DELAYED)
			redis_delayed_send(rq, b);
		else
			rq->mode->send(rq, b);
	}
}

static void
send_renewals(struct redis_queue *rq, enum redis_receipt receipt)
{
	struct redis_extends *e = NULL;
	const size_t max = REDIS_BATCH_MAX;

	for (size_t i = 0; i <= rq->nrenewals; i++) {
		struct message *m = NULL;

		if (i < rq->nrenewals) {
			m = message_find(rq->renewal[i].id);
			if (m == NULL || m->state == MESSAGE_SETTLING ||
			    redis_receipt(m) != receipt)
				continue;
		}
		if (e != NULL && (m == NULL || e->count == max)) {
			if (receipt == RECEIPT_DELAYED)
				redis_delayed_extend(rq, e);
			else
				rq->mode->extend(rq, e);
			e = NULL;
		}
		if (m == NULL)
			break;
		if (e == NULL) {
			e = xmalloc(sizeof(*e) + max * sizeof(e->renewal[0]));
			e->asked_us = clock_monotonic_us();
			e->receipt = receipt;
			e->count = 0;
		}
		e->renewal[e->count++] = rq->renewal[i];
	}
}

void
redis_flush(struct redis_queue *rq)
{
	if (rq->state != REDIS_UP || redis_failing(rq))
		return;
	if (rq->acks.n != 0)
		cut_pile(rq, &rq->acks, SETTLE_ACK, RECEIPT_PRIMARY,
		    false);
	if (rq->delayed_acks.n != 0)
		cut_pile(rq, &rq->delayed_acks, SETTLE_ACK,
		    RECEIPT_DELAYED, false);
	if (rq->releases.n != 0)
		cut_pile(rq, &rq->releases, SETTLE_RELEASE, RECEIPT_PRIMARY,
		    false);
	if (rq->strays.n != 0)
		cut_pile(rq, &rq->strays, SETTLE_RELEASE, RECEIPT_PRIMARY,
		    true);
	if (rq->nrenewals != 0) {
		send_renewals(rq, RECEIPT_PRIMARY);
		send_renewals(rq, RECEIPT_DELAYED);
		rq->nrenewals = 0;
	}
	send_batches(rq);
}

static void
batch_task_run(struct task *t)
{
	redis_flush(t->owner);
}

bool
redis_settled_all(const struct redis_queue *rq)
{
	return list_empty(&rq->batches) && rq->acks.n == 0 &&
	    rq->delayed_acks.n == 0 && rq->releases.n == 0 &&
	    rq->strays.n == 0;
}

/* ---- answers ---- */

static void
batch_settled(struct redis_queue *rq, struct redis_batch *b,
    const struct error *err)
{
	list_remove(&b->link);
	for (size_t i = 0; i < b->count; i++) {
		if (b->stray)
			message_free(b->message[i]);
		else
			queue_settled(rq->queue, b->message[i], err);
	}
	batch_free(b);
	redis_wake(rq);
}

void
redis_batch_answered(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_batch *b = arg;
	struct error err;

	(void)chunk;
	/* Done at the server, not known here. */
	if (reply != NULL && fault("redis.settle.after_write")) {
		error_set(&err, ERROR_TRANSIENT, "fault",
		    "redis.settle.after_write");
		redis_fail(rq, &err);
		reply = NULL;
	}
	if (reply == NULL || redis_failing(rq)) {
		b->sent = false;
		b->sent_before = true;
		return;
	}
	if (reply->type == RESP_ERROR) {
		redis_error(rq, reply, &err);
		if (resp_is_error(reply, "NOSCRIPT")) {
			b->sent = false;
			redis_load_scripts(rq);
			task_schedule(rq->loop, &rq->batch_task);
		} else if (redis_error_is_fatal(reply)) {
			b->sent = false;
			redis_fail(rq, &err);
		} else {
			batch_settled(rq, b, &err);
		}
		return;
	}
	if (reply->type == RESP_INTEGER && reply->integer == 0 &&
	    !b->sent_before && b->kind != SETTLE_ACK &&
	    b->kind != SETTLE_RELEASE) {
		error_set(&err, ERROR_TRANSIENT, "lease_lost",
		    "it is not ours any more: its lease had ended");
		batch_settled(rq, b, &err);
		return;
	}
	if (b->kind == SETTLE_RETRY)
		redis_delayed_expect(rq, b->delay_us);
	batch_settled(rq, b, NULL);
}

void
redis_give_up(struct redis_queue *rq, const struct error *err)
{
	struct redis_pile *piles[] = { &rq->acks, &rq->delayed_acks,
	    &rq->releases };

	for (size_t i = 0; i < ARRAY_SIZE(piles); i++) {
		for (size_t k = 0; k < piles[i]->n; k++)
			queue_settled(rq->queue, piles[i]->at[k], err);
		piles[i]->n = 0;
	}
	for (size_t k = 0; k < rq->strays.n; k++)
		message_free(rq->strays.at[k]);
	rq->strays.n = 0;
	while (!list_empty(&rq->batches))
		batch_settled(rq, list_first_entry(&rq->batches,
		    struct redis_batch, link), err);
	rq->nrenewals = 0;
}

/* ---- renewals ---- */

static void
renewal_add(struct redis_queue *rq, struct redis_renewal r)
{
	if (rq->nrenewals == rq->renewals_size) {
		rq->renewals_size = MAX(rq->renewals_size * 2, (size_t)64);
		rq->renewal = xreallocarray(rq->renewal, rq->renewals_size,
		    sizeof(*rq->renewal));
	}
	rq->renewal[rq->nrenewals++] = r;
}

void
redis_extend(struct queue *q, struct message *m, uint64_t lease_us)
{
	struct redis_queue *rq = redis_of(q);

	renewal_add(rq, (struct redis_renewal){ m->id, lease_us });
	task_schedule(rq->loop, &rq->batch_task);
}

static void
extends_again(struct redis_queue *rq, struct redis_extends *e)
{
	for (size_t i = 0; i < e->count; i++)
		renewal_add(rq, e->renewal[i]);
	free(e);
	task_schedule(rq->loop, &rq->batch_task);
}

static void
renewal_answer(struct redis_queue *rq, const struct redis_extends *e, size_t i,
    bool ours)
{
	struct message *m = message_find(e->renewal[i].id);

	if (m == NULL || m->state == MESSAGE_SETTLING)
		return;
	queue_extended(rq->queue, m, ours ?
	    sat_add(e->asked_us, e->renewal[i].lease_us) : 0);
}

void
redis_extends_failed(struct redis_queue *rq, struct redis_extends *e,
    const struct resp *reply)
{
	if (reply == NULL || redis_failing(rq) ||
	    resp_is_error(reply, "NOSCRIPT")) {
		extends_again(rq, e);
		return;
	}
	for (size_t i = 0; i < e->count; i++)
		renewal_answer(rq, e, i, false);
	free(e);
}

void
redis_extends_answered(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_extends *e = arg;

	(void)chunk;
	if (!redis_reply_ok(rq, reply, "renewing leases")) {
		redis_extends_failed(rq, e, reply);
		return;
	}
	for (size_t i = 0; i < e->count; i++)
		renewal_answer(rq, e, i, resp_at(reply, i)->integer == 1);
	free(e);
}

/* ---- life ---- */

void
redis_settle_init(struct redis_queue *rq)
{
	list_init(&rq->batches);
	task_init(&rq->batch_task, LOOP_BATCH, "redis batch", batch_task_run,
	    rq);
}

void
redis_settle_done(struct redis_queue *rq)
{
	BUG_ON(!redis_settled_all(rq));
	task_cancel(&rq->batch_task);
	free(rq->acks.at);
	free(rq->delayed_acks.at);
	free(rq->releases.at);
	free(rq->strays.at);
	free(rq->renewal);
}
