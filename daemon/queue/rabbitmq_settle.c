/*
 * Settlements: collected during a turn, written in LOOP_BATCH.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "queue/rabbitmq_impl.h"

/*
 * A broker is busy with every acknowledgement, however many it stands for:
 * what is done waits a moment for its like, and behind a gap a little longer
 * for the gap to close.  Not while the window would run dry, nor when another
 * message waits for its key.
 */
#define GATHER_US	(2 * USEC_PER_MSEC)
#define GAP_US		(50 * USEC_PER_MSEC)
#define GATHER_PART	8	/* of the prefetch */
#define GAP_PART	2

/* ---- collecting ---- */

void
rabbit_acknowledge(struct rabbit_queue *rq, struct rabbit_delivery *d)
{
	d->state = DELIVERY_ACK;
	list_push_back(&rq->acks, &d->settle_link);
	rq->nacks++;
	if (d->message->order != NULL)
		rq->hurry = true;
	task_schedule(rq->loop, &rq->batch_task);
}

static void
publish_copy(struct rabbit_queue *rq, struct rabbit_delivery *d,
    enum rabbit_job_kind kind, const struct settlement *s)
{
	struct rabbit_job *job = new0(struct rabbit_job);

	d->state = DELIVERY_PUBLISHING;
	job->kind = kind;
	job->delivery = d;
	job->attempt = s->attempt;
	job->crashes = s->crashes;
	job->error_type = xstrndup(s->error_type.n != 0 ? s->error_type.p : "",
	    s->error_type.n);
	job->ndetail = MIN(s->detail.n, VERDICT_DETAIL_MAX);
	job->detail = xmemdup(s->detail.n != 0 ? s->detail.p : "",
	    MAX(job->ndetail, (size_t)1));
	if (kind == JOB_RETRY)
		job->step = rabbit_step_for(rq, s->delay_us);
	rabbit_publish(rq, job);
}

/* Would it come back as it went if it was simply given back? */
static bool
counts_kept(struct rabbit_queue *rq, const struct message *m,
    const struct settlement *s)
{
	const struct rabbit_content c = { .properties = m->receipt,
	    .chunk = m->chunk };
	struct rabbit_meta meta;
	struct error err;

	/* Of one that is given back for its order only the place matters. */
	if (m->order_key.n != 0 || (s->attempt <= 1 && s->crashes == 0))
		return true;
	if (rabbit_meta(&rq->consumer_conn, &c, &meta, &err) < 0)
		return true;
	recycle_amqp_pool(&rq->consumer_conn.pool);
	return meta.attempt == s->attempt && meta.crashes == s->crashes;
}

/* Its receipt went with a connection; the broker has it again already. */
static void
orphan_add(struct rabbit_queue *rq, struct message *m)
{
	if (rq->norphans == rq->orphans_size) {
		rq->orphans_size = MAX(rq->orphans_size * 2, (size_t)64);
		rq->orphan = xreallocarray(rq->orphan, rq->orphans_size,
		    sizeof(*rq->orphan));
	}
	rq->orphan[rq->norphans++] = m;
	task_schedule(rq->loop, &rq->batch_task);
}

static void
answer_orphans(struct rabbit_queue *rq)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "receipt_lost", "the connection over "
	    "which it came is gone");
	while (rq->norphans != 0)
		queue_settled(rq->queue, rq->orphan[--rq->norphans], &err);
}

void
rabbit_settle(struct queue *q, struct message *m, const struct settlement *s)
{
	struct rabbit_queue *rq = rabbit_of(q);
	struct rabbit_delivery *d = m->receipt_data;

	if (d == NULL) {
		orphan_add(rq, m);
		return;
	}
	BUG_ON(d->message != m || d->state != DELIVERY_HELD);
	switch (s->kind) {
	case SETTLE_ACK:
		rabbit_acknowledge(rq, d);
		break;
	case SETTLE_RELEASE:
		if (!counts_kept(rq, m, s)) {
			publish_copy(rq, d, JOB_REPUBLISH, s);
			break;
		}
		d->state = DELIVERY_REQUEUE;
		list_push_back(&rq->requeues, &d->settle_link);
		break;
	case SETTLE_RETRY:
		publish_copy(rq, d, JOB_RETRY, s);
		break;
	case SETTLE_BURY:
		publish_copy(rq, d, JOB_BURY, s);
		break;
	case SETTLE_NONE:
		BUG("a settlement without a kind");
	}
	task_schedule(rq->loop, &rq->batch_task);
}

/* ---- writing ---- */

static void
settled(struct rabbit_queue *rq, struct rabbit_delivery *d,
    const struct error *err)
{
	struct message *m = d->message;

	if (d->state == DELIVERY_ACK)
		rq->nacks--;
	rabbit_delivery_free(rq, d);
	m->receipt_data = NULL;
	queue_settled(rq->queue, m, err);
}

static void
count_command(struct rabbit_queue *rq)
{
	uint64_t now = loop_now_us(rq->loop);

	if (now - rq->commands_us > USEC_PER_SEC)
		rq->commands = 0;
	rq->commands_us = now;
	rq->commands++;
}

static void
write_requeues(struct rabbit_queue *rq)
{
	struct rabbit_channel *ch = rabbit_consume_channel(rq);
	struct list *l;

	while ((l = list_first(&rq->requeues)) != NULL) {
		struct rabbit_delivery *d = list_entry(l,
		    struct rabbit_delivery, settle_link);

		amqp_wire_add_requeue(rabbit_out(ch), ch->number, d->tag);
		count_command(rq);
		settled(rq, d, NULL);
	}
}

/* All that are done with nothing undone before them: one frame. */
static void
write_oldest(struct rabbit_queue *rq)
{
	struct rabbit_channel *ch = rabbit_consume_channel(rq);
	struct rabbit_delivery *last = NULL, *d;
	struct list *l, *end;

	list_foreach(l, &rq->deliveries) {
		d = list_entry(l, struct rabbit_delivery, link);
		if (d->state != DELIVERY_ACK)
			break;
		last = d;
	}
	if (last == NULL)
		return;
	end = l;
	rq->acknowledgements++;
	amqp_wire_add_ack(rabbit_out(ch), ch->number, last->tag,
	    &last->link != rq->deliveries.next);
	while ((l = rq->deliveries.next) != end)
		settled(rq, list_entry(l, struct rabbit_delivery, link), NULL);
}

static void
write_singly(struct rabbit_queue *rq)
{
	struct rabbit_channel *ch = rabbit_consume_channel(rq);
	struct list *l;

	while ((l = list_first(&rq->acks)) != NULL) {
		struct rabbit_delivery *d = list_entry(l,
		    struct rabbit_delivery, settle_link);

		amqp_wire_add_ack(rabbit_out(ch), ch->number, d->tag, false);
		rq->acknowledgements++;
		count_command(rq);
		settled(rq, d, NULL);
	}
}

static bool
many(const struct rabbit_queue *rq, unsigned part)
{
	return rq->nacks >= MAX(rq->consumer.prefetch / part, 1u);
}

static void
write_acks(struct rabbit_queue *rq)
{
	uint64_t now = loop_now_us(rq->loop);
	bool at_once = rq->hurry || rq->stopping;

	if (rq->nacks == 0)
		return;
	if (at_once || rq->gathered || many(rq, GATHER_PART))
		write_oldest(rq);
	rq->gathered = false;
	if (rq->nacks == 0)
		rq->gap_since_us = 0;
	else if (rq->gap_since_us == 0)
		rq->gap_since_us = now;
	if (at_once || many(rq, GAP_PART) ||
	    (rq->gap_since_us != 0 && now - rq->gap_since_us >= GAP_US)) {
		write_singly(rq);
		rq->gap_since_us = 0;
	}
	rq->hurry = false;
	if (rq->nacks == 0)
		timer_cancel(rq->loop, &rq->gather_timer);
	else if (!timer_armed(&rq->gather_timer))
		timer_arm(rq->loop, &rq->gather_timer, GATHER_US);
}

void
rabbit_flush(struct rabbit_queue *rq)
{
	struct error err;

	answer_orphans(rq);
	if (!rabbit_is_up(rq))
		return;
	if (fault("rabbitmq.settle.before_write")) {
		error_set(&err, ERROR_TRANSIENT, "fault",
		    "rabbitmq.settle.before_write");
		rabbit_fail(rq, &err);
		return;
	}
	rabbit_publish_flush(rq);
	write_requeues(rq);
	write_acks(rq);
	rabbit_flush_out(rabbit_consume_channel(rq));
	rabbit_window(rq);
	rabbit_stop_check(rq);
}

static void
batch_task_run(struct task *t)
{
	rabbit_flush(t->owner);
}

static void
gather_timer_fired(struct timer *t)
{
	struct rabbit_queue *rq = t->owner;

	rq->gathered = true;
	task_schedule(rq->loop, &rq->batch_task);
}

bool
rabbit_settled_all(const struct rabbit_queue *rq)
{
	return rq->nacks == 0 && rq->norphans == 0 && list_empty(&rq->requeues) &&
	    list_empty(&rq->jobs) && list_empty(&rq->unconfirmed);
}

void
rabbit_give_up(struct rabbit_queue *rq, const struct error *err)
{
	struct list *lists[] = { &rq->acks, &rq->requeues };
	struct list *l;

	answer_orphans(rq);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		while ((l = list_first(lists[i])) != NULL)
			settled(rq, list_entry(l, struct rabbit_delivery,
			    settle_link), err);
	rabbit_publish_give_up(rq, err);
}

void
rabbit_settle_init(struct rabbit_queue *rq)
{
	list_init(&rq->acks);
	list_init(&rq->requeues);
	task_init(&rq->batch_task, LOOP_BATCH, "rabbitmq batch",
	    batch_task_run, rq);
	timer_init(&rq->gather_timer, "rabbitmq gather", gather_timer_fired,
	    rq);
}

void
rabbit_settle_done(struct rabbit_queue *rq)
{
	BUG_ON(!rabbit_settled_all(rq));
	task_cancel(&rq->batch_task);
	timer_cancel(rq->loop, &rq->gather_timer);
	free(rq->orphan);
}
