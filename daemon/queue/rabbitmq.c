#include "queue/rabbitmq.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/pool.h"
#include "queue/figures.h"
#include "queue/rabbitmq_impl.h"

/*
 * A quorum queue's client in the broker holds back what is settled in more
 * than 32 commands that are not written yet, and forgets it when the channel
 * closes (seen with RabbitMQ 3.10).  It works on them whenever something
 * happens on the channel: so a few round trips, with time between them.
 */
#define LEAVE_ROUNDS	5u
#define LEAVE_COMMANDS	16u	/* one round more for so many */
#define LEAVE_ROUNDS_MAX 100u
#define LEAVE_PAUSE_US	(10 * USEC_PER_MSEC)
#define STEADY_US	(5 * USEC_PER_SEC)	/* up so long: a new outage */

/* ---- up and down ---- */

static void
connect_now(struct rabbit_queue *rq)
{
	struct error err = ERROR_INIT;

	rq->state = RABBIT_CONNECTING;
	if (tls_config_context(&rq->tls_config, &rq->tls, &err) < 0) {
		rabbit_fail(rq, &err);
		return;
	}
	rabbit_conn_open(&rq->consumer_conn, rq->tls);
	rabbit_conn_open(&rq->publisher_conn, rq->tls);
}

static void
reconnect_timer_fired(struct timer *t)
{
	connect_now(t->owner);
}

void
rabbit_conn_ready(struct rabbit_queue *rq)
{
	if (rq->state != RABBIT_CONNECTING || rabbit_failing(rq) ||
	    rq->consumer_conn.state != CONN_OPEN ||
	    rq->publisher_conn.state != CONN_OPEN)
		return;
	rq->state = RABBIT_SETTING_UP;
	rabbit_setup(rq);
}

void
rabbit_set_up(struct rabbit_queue *rq)
{
	rq->state = RABBIT_UP;
	rq->up_since_us = clock_monotonic_us();
	queue_up(rq->queue);
	task_schedule(rq->loop, &rq->batch_task);
	task_schedule(rq->loop, &rq->window_task);
}

void
rabbit_fail(struct rabbit_queue *rq, const struct error *err)
{
	if (rq->state == RABBIT_IDLE || rq->state == RABBIT_DOWN ||
	    rabbit_failing(rq))
		return;
	rq->failure = *err;
	task_schedule(rq->loop, &rq->fail_task);
}

/* Everything that the connections knew is void. */
static void
close_both(struct rabbit_queue *rq, const struct error *err)
{
	rq->consumer.state = CONSUMER_NONE;
	rq->consumer.tag[0] = '\0';
	timer_cancel(rq->loop, &rq->consumer.timer);
	timer_cancel(rq->loop, &rq->gather_timer);
	rabbit_conn_close(&rq->consumer_conn);
	rabbit_conn_close(&rq->publisher_conn);
	rabbit_give_up(rq, err);
	rabbit_deliveries_lost(rq);
	rq->probing = false;
}

static void finish(struct rabbit_queue *);

/* Outside of the callbacks of the connections that it closes. */
static void
fail_task_run(struct task *t)
{
	struct rabbit_queue *rq = t->owner;
	struct error err = rq->failure;
	bool was_up = rq->state == RABBIT_UP;

	if (rq->stopping) {
		finish(rq);
		return;
	}
	rq->state = RABBIT_DOWN;
	close_both(rq, &err);
	if (was_up && clock_monotonic_us() - rq->up_since_us > STEADY_US)
		rq->failures = 0;
	error_clear(&rq->failure);
	rq->failures++;
	timer_arm(rq->loop, &rq->reconnect_timer,
	    queue_reconnect_delay_us(rq->failures));
	queue_down(rq->queue, &err);
}

/* ---- operations ---- */

static void stop_timer_fired(struct timer *);
static void leave_timer_fired(struct timer *);

static int
rabbit_init(struct queue *q, struct config *config,
    const struct config_section *section)
{
	struct rabbit_queue *rq = new0(struct rabbit_queue);

	rq->queue = q;
	rq->loop = q->loop;
	random_hex(rq->token, sizeof(rq->token) - 1);
	rabbit_keys_read(rq, config, section);
	rabbit_conn_init(&rq->consumer_conn, rq, "consumer");
	rabbit_conn_init(&rq->publisher_conn, rq, "publisher");
	rabbit_steps_init(rq);
	rabbit_consume_init(rq);
	rabbit_settle_init(rq);
	rabbit_publish_init(rq);
	list_init(&rq->walks);
	buffer_init(&rq->missing);
	rq->management = rabbit_management_new(rq, config, section);
	timer_init(&rq->reconnect_timer, "rabbitmq reconnect",
	    reconnect_timer_fired, rq);
	timer_init(&rq->leave_timer, "rabbitmq leave", leave_timer_fired, rq);
	timer_init(&rq->stop_timer, "rabbitmq stop", stop_timer_fired, rq);
	task_init(&rq->fail_task, LOOP_DISPATCH, "rabbitmq fail",
	    fail_task_run, rq);
	q->impl = rq;
	return 0;
}

/* A run that the broker does not wait for is done twice. */
static void
warn_timeout(struct rabbit_queue *rq)
{
	const struct pool *p = rq->queue->pool;
	char ours[CLOCK_SPAN_BYTES], theirs[CLOCK_SPAN_BYTES];

	if (p == NULL || p->timeout_us < rq->consumer_timeout_us)
		return;
	log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_SETUP),
	    "Timeout=%s of [Pool %s] is as "
	    "long as the broker's consumer time-out (%s by ConsumerTimeout=) "
	    "or longer: the broker closes the channel then and delivers "
	    "everything that is held again; raise consumer_timeout at the "
	    "broker and say so in ConsumerTimeout=, or lower Timeout=",
	    clock_span(ours, p->timeout_us), p->name,
	    clock_span(theirs, rq->consumer_timeout_us));
}

static void
rabbit_start(struct queue *q)
{
	struct rabbit_queue *rq = rabbit_of(q);

	warn_timeout(rq);
	rabbit_management_start(rq->management);
	connect_now(rq);
}

static void
rabbit_credit(struct queue *q, unsigned n)
{
	struct rabbit_queue *rq = rabbit_of(q);

	rq->credit = n;
	task_schedule(rq->loop, &rq->window_task);
}

static void
rabbit_reconfigure(struct queue *q, const struct config_section *section)
{
	struct rabbit_queue *rq = rabbit_of(q);

	rabbit_keys_reload(rq, section);
	warn_timeout(rq);
	task_schedule(rq->loop, &rq->window_task);
}

/* ---- leaving ---- */

static void
finish(struct rabbit_queue *rq)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "stopped", "the broker did not answer "
	    "before the queue was stopped");
	rq->state = RABBIT_IDLE;
	error_clear(&rq->failure);
	close_both(rq, &err);
	task_cancel(&rq->fail_task);
	task_cancel(&rq->batch_task);
	task_cancel(&rq->window_task);
	timer_cancel(rq->loop, &rq->reconnect_timer);
	timer_cancel(rq->loop, &rq->stop_timer);
	timer_cancel(rq->loop, &rq->leave_timer);
	queue_stopped(rq->queue);
}

void
rabbit_conn_left(struct rabbit_queue *rq)
{
	if (rq->state == RABBIT_LEAVING &&
	    rq->consumer_conn.state == CONN_IDLE &&
	    rq->publisher_conn.state == CONN_IDLE)
		finish(rq);
}

/* What was acknowledged is read when the channel's close is answered. */
static void
consume_channel_closed(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	if (id == 0 || rabbit_failing(rq) || rq->state != RABBIT_LEAVING)
		return;
	rabbit_conn_leave(&rq->consumer_conn);
	rabbit_conn_leave(&rq->publisher_conn);
}

static void
leave_round_over(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	if (id != 0 && !rabbit_failing(rq) && rq->state == RABBIT_LEAVING)
		timer_arm(rq->loop, &rq->leave_timer, LEAVE_PAUSE_US);
}

static void
leave_timer_fired(struct timer *t)
{
	struct rabbit_queue *rq = t->owner;
	struct rabbit_channel *ch = rabbit_consume_channel(rq);

	if (rq->leave_rounds-- != 0)
		rabbit_call(ch, AMQP_BASIC_QOS_METHOD, &(amqp_basic_qos_t){
		    .prefetch_count = 1 }, AMQP_BASIC_QOS_OK_METHOD, 0,
		    leave_round_over, NULL);
	else
		rabbit_channel_close(ch, consume_channel_closed, NULL);
}

void
rabbit_stop_check(struct rabbit_queue *rq)
{
	if (!rq->stopping || rabbit_failing(rq) || rq->state != RABBIT_UP ||
	    !rabbit_settled_all(rq))
		return;
	rq->state = RABBIT_LEAVING;
	rq->leave_rounds = MIN(LEAVE_ROUNDS + rq->commands / LEAVE_COMMANDS,
	    LEAVE_ROUNDS_MAX);
	timer_arm(rq->loop, &rq->leave_timer, 0);
}

static void
stop_timer_fired(struct timer *t)
{
	finish(t->owner);
}

static void
rabbit_stop(struct queue *q)
{
	struct rabbit_queue *rq = rabbit_of(q);

	if (rq->stopping)
		return;
	rq->stopping = true;
	if (rq->state != RABBIT_UP || rabbit_failing(rq)) {
		/* Nothing to say to anybody; from the loop all the same. */
		task_schedule(rq->loop, &rq->fail_task);
		return;
	}
	rabbit_consumer_cancel(rq);
	timer_arm(rq->loop, &rq->stop_timer, RABBIT_STOP_US);
	task_schedule(rq->loop, &rq->batch_task);
}

static void
rabbit_fini(struct queue *q)
{
	struct rabbit_queue *rq = rabbit_of(q);

	if (rq == NULL)
		return;
	rq->state = RABBIT_IDLE;
	timer_cancel(rq->loop, &rq->reconnect_timer);
	timer_cancel(rq->loop, &rq->stop_timer);
	timer_cancel(rq->loop, &rq->leave_timer);
	task_cancel(&rq->fail_task);
	rabbit_management_free(rq->management);
	rabbit_dead_done(rq);
	rabbit_conn_done(&rq->consumer_conn);
	rabbit_conn_done(&rq->publisher_conn);
	rabbit_settle_done(rq);
	rabbit_publish_done(rq);
	rabbit_consume_done(rq);
	rabbit_steps_done(rq);
	buffer_done(&rq->missing);
	tls_context_unref(rq->tls);
	rabbit_keys_done(rq);
	free(rq);
	q->impl = NULL;
}

/* ---- status ---- */

static size_t
length(const struct list *list)
{
	struct list *l;
	size_t n = 0;

	list_foreach(l, list)
		n++;
	return n;
}

static void
rabbit_status(struct queue *q, json_t *o)
{
	const struct rabbit_queue *rq = rabbit_of(q);
	const struct rabbit_conn *c = &rq->consumer_conn;
	const struct rabbit_conn *p = &rq->publisher_conn;
	const char *tls = stream_tls_text(&c->stream);
	char text[ADDRESS_TEXT_BYTES], version[24] = "";

	if (c->version != 0)
		snprintf(version, sizeof(version), "%u.%u.%u",
		    c->version / 10000, c->version / 100 % 100,
		    c->version % 100);
	json_object_set_new(o, "address",
	    json_string(address_text(&rq->address, text)));
	add_text(o, "vhost", rq->vhost);
	add_text(o, "name", rq->name);
	add_text(o, "dead_letter", rq->dead_name);
	add_text(o, "server_version", version);
	add_text(o, "tls", tls);
	add_text(o, "blocked", p->blocked ? p->blocked_reason : c->blocked ?
	    c->blocked_reason : NULL);
	add_text(o, "consumer", rq->consumer.state == CONSUMER_ON ?
	    rq->consumer.tag : NULL);
	json_object_set_new(o, "consumer_prefetch", json_integer(
	    rq->consumer.state == CONSUMER_ON ?
	    (json_int_t)rq->consumer.prefetch : 0));
	add_count(o, "unacknowledged", rq->ndeliveries);
	add_count(o, "acknowledgements", rq->acknowledgements);
	add_count(o, "publishing", length(&rq->jobs) +
	    length(&rq->unconfirmed));
	add_count(o, "published", rq->published);
	add_count(o, "publishes_refused", rq->publish_refused);
	rabbit_management_status(rq->management, o);
}

static const struct queue_ops rabbit_ops = {
	.init = rabbit_init,
	.start = rabbit_start,
	.credit = rabbit_credit,
	.settle = rabbit_settle,
	/* AMQP has no lease: a delivery is ours as long as its channel lives. */
	.probe = rabbit_probe,
	.enqueue = rabbit_enqueue,
	.dead_open = rabbit_dead_open,
	.dead_next = rabbit_dead_next,
	.dead_act = rabbit_dead_act,
	.dead_close = rabbit_dead_close,
	.reconfigure = rabbit_reconfigure,
	.stop = rabbit_stop,
	.fini = rabbit_fini,
	.status = rabbit_status,
};

static const char *const figures[] = {
	"consumer_prefetch", "unacknowledged", "acknowledgements",
	"publishing", "published", "publishes_refused",
	"unacknowledged_at_broker", "unacknowledged_age_seconds", NULL
};

const struct queue_type rabbitmq_queue_type = {
	.name = "rabbitmq",
	.kind = &rabbitmq_queue_kind,
	.capabilities = QUEUE_CAN_DELAY | QUEUE_BATCHES | QUEUE_DEAD_LETTERS |
	    QUEUE_CAN_ENQUEUE,
	.ops = &rabbit_ops,
	.figures = figures,
};
