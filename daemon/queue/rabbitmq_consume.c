/*
 * The consumer and its window.
 *
 * The engine says how many more messages it will take; the broker wants a
 * prefetch when a consumer begins, and keeps it as long as the consumer lives
 * (rabbitmq.com, "Consumer Prefetch"; the prefetch of a whole channel could be
 * changed, but quorum queues do not have it).  So a consumer whose prefetch no
 * longer fits is replaced by one whose prefetch does, on the same channel:
 * what was delivered stays delivered, and order is kept.  With Prefetch= it is
 * that number and the consumer is never replaced; it is only cancelled when
 * nothing is wanted while the broker might still push.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/rabbitmq_impl.h"

#define GROW_AFTER_US	(20 * USEC_PER_MSEC)
#define SHRINK_AFTER_US	USEC_PER_SEC
#define IDLE_AFTER_US	(100 * USEC_PER_MSEC)
/* Where order counts: a quorum queue hands out again, later, what was on its
   way to a consumer that is replaced. */
#define ORDERED_PREFETCH	100u

/* ---- deliveries ---- */

static struct rabbit_delivery *
delivery_new(struct rabbit_queue *rq, const struct rabbit_content *c)
{
	struct list *l = list_pop_front(&rq->free_deliveries);
	struct rabbit_delivery *d = l != NULL ?
	    list_entry(l, struct rabbit_delivery, link) :
	    new0(struct rabbit_delivery);

	d->tag = c->tag;
	d->state = DELIVERY_HELD;
	d->message = NULL;
	d->consumer = c->ours ? rq->consumer.number : 0;
	list_init(&d->settle_link);
	list_push_back(&rq->deliveries, &d->link);
	rq->ndeliveries++;
	if (c->ours)
		rq->consumer.outstanding++;
	return d;
}

void
rabbit_delivery_free(struct rabbit_queue *rq, struct rabbit_delivery *d)
{
	if (d->consumer == rq->consumer.number)
		rq->consumer.outstanding--;
	rq->ndeliveries--;
	list_remove(&d->settle_link);
	list_remove(&d->link);
	list_push_front(&rq->free_deliveries, &d->link);
}

static bool
any(const struct message *m, void *arg)
{
	(void)m;
	(void)arg;
	return true;
}

void
rabbit_deliveries_lost(struct rabbit_queue *rq)
{
	struct list *l;

	if (list_empty(&rq->deliveries))
		return;
	/* Those that settle had are answered by now: the others' receipts go
	   before the engine frees the messages. */
	while ((l = list_first(&rq->deliveries)) != NULL) {
		struct rabbit_delivery *d = list_entry(l,
		    struct rabbit_delivery, link);

		if (d->message != NULL)
			d->message->receipt_data = NULL;
		rabbit_delivery_free(rq, d);
	}
	queue_drop_receipts(rq->queue, any, NULL);
}

/* "QUEUE.7.1234": unique while this process lives. */
static struct slice
made_up_name(struct rabbit_queue *rq, const struct rabbit_content *c)
{
	char text[80];
	size_t n;

	memcpy(text, rq->token, sizeof(rq->token) - 1);
	n = sizeof(rq->token) - 1;
	text[n++] = '.';
	n += fmt_u64(text + n, rq->consumer.number);
	text[n++] = '.';
	n += fmt_u64(text + n, c->tag);
	return chunk_copy(c->chunk, text, n);
}

static void
no_streams(struct rabbit_queue *rq)
{
	struct error err;

	error_set(&err, ERROR_REJECTED, "stream_queue", "%s is a stream: its "
	    "messages cannot be given back or removed one by one, which this "
	    "needs; bind a classic or quorum queue instead", rq->name);
	rabbit_fail(rq, &err);
}

static void
warn_deliveries(struct rabbit_queue *rq)
{
	if (rq->warned_deliveries)
		return;
	rq->warned_deliveries = true;
	log_info(LOG_QUEUE(rq->queue->name), "%s is a quorum queue, which "
	    "counts how often a message is given back: its delivery limit "
	    "(x-delivery-limit; 20 by default from RabbitMQ 4.0 on) drops or "
	    "dead-letters it at the broker, whatever MaxAttempts= says",
	    rq->name);
}

void
rabbit_delivered(struct rabbit_channel *ch, const struct rabbit_content *c)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_delivery *d;
	struct rabbit_meta meta;
	struct message *m;
	struct error err;
	bool whole;

	/* Unsettled it goes back when the connection closes. */
	if (rq->stopping || rabbit_failing(rq))
		return;
	d = delivery_new(rq, c);
	whole = rabbit_meta(ch->conn, c, &meta, &err) == 0;
	if (meta.of_stream) {
		no_streams(rq);
		return;
	}
	if (meta.deliveries != 0)
		warn_deliveries(rq);
	m = message_new(rq->queue, c->chunk);
	d->message = m;
	m->receipt_data = d;
	m->receipt_number = c->tag;
	m->receipt = c->properties;
	m->name = meta.name.n != 0 ? meta.name : made_up_name(rq, c);
	m->body = c->body;
	m->attributes = meta.attributes;
	m->nattributes = meta.nattributes;
	m->attempt = meta.attempt;
	m->crashes = meta.crashes;
	m->enqueued_us = meta.sent_us;
	m->lease_until_us = USEC_INFINITY;
	if (rq->credit != 0)
		rq->credit--;
	if (whole)
		queue_deliver(rq->queue, m);
	else
		queue_deliver_malformed(rq->queue, m, "%s", err.text);
	task_schedule(rq->loop, &rq->window_task);
}

/* ---- the consumer ---- */

bool
rabbit_consumer_is(const struct rabbit_queue *rq, struct slice tag)
{
	return slice_is(tag, rq->consumer.tag);
}

static void
cancelled(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	if (id == 0)
		return;
	if (rq->consumer.state == CONSUMER_CANCELLING)
		rq->consumer.state = CONSUMER_NONE;
	task_schedule(rq->loop, &rq->window_task);
}

void
rabbit_consumer_cancel(struct rabbit_queue *rq)
{
	struct rabbit_consumer *c = &rq->consumer;
	amqp_basic_cancel_t cancel = {
		.consumer_tag = amqp_cstring_bytes(c->tag),
	};

	if (c->state != CONSUMER_ON)
		return;
	c->state = CONSUMER_CANCELLING;
	rabbit_call(rabbit_consume_channel(rq), AMQP_BASIC_CANCEL_METHOD,
	    &cancel, AMQP_BASIC_CANCEL_OK_METHOD, 0, cancelled, NULL);
}

static void
consuming(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	if (id != AMQP_BASIC_CONSUME_OK_METHOD)
		return;
	rq->consumer.state = CONSUMER_ON;
	rq->consumer.since_us = loop_now_us(rq->loop);
	task_schedule(rq->loop, &rq->window_task);
}

static void
consume(struct rabbit_queue *rq, unsigned prefetch)
{
	static uint32_t last;
	struct rabbit_consumer *c = &rq->consumer;
	struct rabbit_channel *ch = rabbit_consume_channel(rq);
	amqp_basic_qos_t qos = { .prefetch_count = (uint16_t)prefetch };
	amqp_basic_consume_t consume;

	c->state = CONSUMER_STARTING;
	c->number = ++last;
	c->prefetch = prefetch;
	c->outstanding = 0;
	c->idle_since_us = c->low_since_us = 0;
	snprintf(c->tag, sizeof(c->tag), "bot-operator.%.80s.%s.%" PRIu32,
	    rq->queue->name, rq->token, c->number);
	consume = (amqp_basic_consume_t){
		.queue = amqp_cstring_bytes(rq->name),
		.consumer_tag = amqp_cstring_bytes(c->tag),
	};
	rabbit_call(ch, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD,
	    0, NULL, NULL);
	rabbit_call(ch, AMQP_BASIC_CONSUME_METHOD, &consume,
	    AMQP_BASIC_CONSUME_OK_METHOD, 0, consuming, NULL);
}

/* ---- the window ---- */

/* 0: it follows the credit. */
static unsigned
fixed_prefetch(const struct rabbit_queue *rq)
{
	const struct queue *q = rq->queue;

	return q->prefetch != 0 ? q->prefetch :
	    q->order_by != NULL ? ORDERED_PREFETCH : 0;
}

/* What is to be in flight: fixed, or what the engine has and still wants. */
static unsigned
wanted(const struct rabbit_queue *rq)
{
	if (fixed_prefetch(rq) != 0)
		return fixed_prefetch(rq);
	return MIN(rq->credit + rq->ndeliveries, RABBIT_PREFETCH_MAX);
}

/*
 * For a new consumer, to which what older ones have delivered does not count:
 * the rest of Prefetch=, which is never passed; without it up to twice of
 * what is wanted now, or it would have to grow again at once.
 */
static unsigned
first_prefetch(const struct rabbit_queue *rq)
{
	unsigned want = fixed_prefetch(rq), held = rq->ndeliveries;

	if (want != 0)
		return want > held ? want - held : 0;
	return MIN(rq->credit + MIN(rq->credit, held), RABBIT_PREFETCH_MAX);
}

static void
look_again(struct rabbit_queue *rq, uint64_t at_us)
{
	struct timer *t = &rq->consumer.timer;

	if (!timer_armed(t) || timer_due_us(t) > at_us)
		timer_arm_at(rq->loop, t, at_us);
}

/* True once the condition has held for so long; *since is 0 while it does
   not. */
static bool
lasted(struct rabbit_queue *rq, bool condition, uint64_t *since,
    uint64_t after_us)
{
	uint64_t now = loop_now_us(rq->loop);

	if (!condition) {
		*since = 0;
		return false;
	}
	if (*since == 0)
		*since = now;
	if (now - *since >= after_us)
		return true;
	look_again(rq, *since + after_us);
	return false;
}

/* Nothing is wanted, but the broker may push. */
static bool
is_idle(struct rabbit_queue *rq)
{
	struct rabbit_consumer *c = &rq->consumer;
	bool idle = rq->credit == 0 && c->outstanding < c->prefetch;

	if (idle && rq->queue->paused != 0)
		return true;
	return lasted(rq, idle, &c->idle_since_us, IDLE_AFTER_US);
}

static bool
is_too_small(struct rabbit_queue *rq)
{
	struct rabbit_consumer *c = &rq->consumer;
	unsigned want = wanted(rq);

	/* It had only a rest: all of it when nothing is out. */
	if (fixed_prefetch(rq) != 0)
		return c->prefetch < want && rq->ndeliveries == 0;
	if (want < c->prefetch + MAX(c->prefetch / 2, 1u))
		return false;
	if (loop_now_us(rq->loop) - c->since_us >= GROW_AFTER_US)
		return true;
	look_again(rq, c->since_us + GROW_AFTER_US);
	return false;
}

static bool
is_too_large(struct rabbit_queue *rq)
{
	struct rabbit_consumer *c = &rq->consumer;
	unsigned want = wanted(rq);

	if (fixed_prefetch(rq) != 0)
		return want < c->prefetch;	/* reloaded */
	return lasted(rq, want < c->prefetch / 3, &c->low_since_us,
	    SHRINK_AFTER_US);
}

void
rabbit_window(struct rabbit_queue *rq)
{
	struct rabbit_consumer *c = &rq->consumer;

	if (!rabbit_is_up(rq) || rq->stopping)
		return;
	if (c->state == CONSUMER_NONE) {
		if (rq->credit != 0 && first_prefetch(rq) != 0)
			consume(rq, first_prefetch(rq));
		return;
	}
	if (c->state != CONSUMER_ON)
		return;
	if (is_idle(rq) || is_too_small(rq) || is_too_large(rq))
		rabbit_consumer_cancel(rq);
}

static void
window_task_run(struct task *t)
{
	rabbit_window(t->owner);
}

static void
consumer_timer_fired(struct timer *t)
{
	rabbit_window(t->owner);
}

void
rabbit_consume_init(struct rabbit_queue *rq)
{
	list_init(&rq->deliveries);
	list_init(&rq->free_deliveries);
	task_init(&rq->window_task, LOOP_BATCH, "rabbitmq window",
	    window_task_run, rq);
	timer_init(&rq->consumer.timer, "rabbitmq window",
	    consumer_timer_fired, rq);
}

void
rabbit_consume_done(struct rabbit_queue *rq)
{
	struct list *l;

	BUG_ON(!list_empty(&rq->deliveries));
	timer_cancel(rq->loop, &rq->consumer.timer);
	task_cancel(&rq->window_task);
	while ((l = list_pop_front(&rq->free_deliveries)) != NULL)
		free(list_entry(l, struct rabbit_delivery, link));
}
