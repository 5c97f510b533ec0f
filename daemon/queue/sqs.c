#include "queue/sqs.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/figures.h"
#include "queue/sqs_impl.h"
#include "queue/walk.h"

/* For answers with messages, which are on their way then: what is handed out to
   nobody stays hidden until its visibility time-out ends. */
#define LINGER_US	(500 * USEC_PER_MSEC)
#define STEADY_US	(5 * USEC_PER_SEC)	/* up so long: a new outage */

/* ---- up and down ---- */

static void
reconnect_timer_fired(struct timer *t)
{
	sqs_setup(t->owner);
}

void
sqs_set_up(struct sqs_queue *sq)
{
	sq->state = SQS_UP;
	sq->up_since_us = clock_monotonic_us();
	queue_up(sq->queue);
	sqs_wake(sq);
	task_schedule(sq->loop, &sq->batch_task);
}

void
sqs_fail(struct sqs_queue *sq, const struct error *err)
{
	if (sq->state == SQS_IDLE || sq->state == SQS_DOWN || sqs_failing(sq))
		return;
	sq->failure = *err;
	task_schedule(sq->loop, &sq->fail_task);
}

static void finish(struct sqs_queue *);

/* Receipts do not die with a connection: settlements go on by themselves. */
static void
fail_task_run(struct task *t)
{
	struct sqs_queue *sq = t->owner;
	struct error err = sq->failure;

	if (sq->stopping) {
		if (sqs_settled_all(sq) && sqs_polling(sq) == 0)
			finish(sq);
		return;
	}
	sqs_setup_cancel(sq);
	sqs_receive_stop(sq);
	sqs_call_cancel(&sq->probe_call);
	if (sq->state == SQS_UP &&
	    clock_monotonic_us() - sq->up_since_us > STEADY_US)
		sq->failures = 0;
	sq->state = SQS_DOWN;
	error_clear(&sq->failure);
	sq->failures++;
	timer_arm(sq->loop, &sq->reconnect_timer,
	    queue_reconnect_delay_us(sq->failures));
	queue_down(sq->queue, &err);
}

/* ---- operations ---- */

static void stop_timer_fired(struct timer *);
static void linger_timer_fired(struct timer *);

static void
answer_task_run(struct task *t)
{
	struct sqs_queue *sq = t->owner;

	sqs_enqueue_answer(sq);
	walks_answer(&sq->walks);
	sqs_all_answer(sq);
}

static int
sqs_init(struct queue *q, struct config *config,
    const struct config_section *section)
{
	struct sqs_queue *sq = new0(struct sqs_queue);

	sq->queue = q;
	sq->loop = q->loop;
	list_init(&sq->calls);
	list_init(&sq->enqueues);
	list_init(&sq->walks);
	list_init(&sq->giving_back);
	list_init(&sq->alls);
	aws_retry_bucket_init(&sq->bucket);
	sqs_keys_read(sq, config, section);
	sqs_setup_init(sq);
	sqs_md5_init(sq);
	sqs_receive_init(sq);
	sqs_settle_init(sq);
	tried_init(&sq->tried);
	sqs_probe_init(sq);
	timer_init(&sq->reconnect_timer, "sqs reconnect",
	    reconnect_timer_fired, sq);
	timer_init(&sq->stop_timer, "sqs stop", stop_timer_fired, sq);
	timer_init(&sq->linger_timer, "sqs linger", linger_timer_fired, sq);
	task_init(&sq->fail_task, LOOP_DISPATCH, "sqs fail", fail_task_run,
	    sq);
	task_init(&sq->answer_task, LOOP_DISPATCH, "sqs answer",
	    answer_task_run, sq);
	q->impl = sq;
	return 0;
}

static void
sqs_start(struct queue *q)
{
	struct sqs_queue *sq = sqs_of(q);
	struct aws_credentials_params params = {
		.loop = sq->loop,
		.resolver = q->resolver,
		.profile = sq->profile,
		.credentials_file = sq->credentials_file,
		.config_file = sq->config_file,
		.region = sq->config_region,
		.ca_file = sq->ca_file,
	};

	sq->credentials = aws_credentials_new(&params);
	sqs_setup(sq);
}

static void
sqs_credit(struct queue *q, unsigned n)
{
	struct sqs_queue *sq = sqs_of(q);

	sq->credit = n;
	sqs_wake(sq);
}

static void
sqs_reconfigure(struct queue *q, const struct config_section *section)
{
	sqs_keys_reload(sqs_of(q), section);
	sqs_wake(sqs_of(q));
}

/* ---- leaving ---- */

static void
finish(struct sqs_queue *sq)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "stopped", "the service did not "
	    "answer before the queue was stopped");
	sq->state = SQS_IDLE;
	error_clear(&sq->failure);
	sqs_setup_cancel(sq);
	sqs_receive_stop(sq);
	sqs_call_cancel(&sq->probe_call);
	sqs_give_up(sq, &err);
	sqs_enqueue_done(sq, &err);
	timer_cancel(sq->loop, &sq->reconnect_timer);
	timer_cancel(sq->loop, &sq->stop_timer);
	timer_cancel(sq->loop, &sq->linger_timer);
	task_cancel(&sq->fail_task);
	queue_stopped(sq->queue);
}

/* From the task: it may be asked in the middle of something. */
void
sqs_stop_check(struct sqs_queue *sq)
{
	if (sq->stopping && sq->state != SQS_IDLE && sqs_settled_all(sq) &&
	    sqs_polling(sq) == 0)
		task_schedule(sq->loop, &sq->fail_task);
}

static void
linger_timer_fired(struct timer *t)
{
	struct sqs_queue *sq = t->owner;

	sqs_receive_stop(sq);
	sqs_stop_check(sq);
}

static void
stop_timer_fired(struct timer *t)
{
	finish(t->owner);
}

static void
sqs_stop(struct queue *q)
{
	struct sqs_queue *sq = sqs_of(q);

	if (sq->stopping)
		return;
	sq->stopping = true;
	timer_arm(sq->loop, &sq->linger_timer, LINGER_US);
	timer_cancel(sq->loop, &sq->reconnect_timer);
	timer_arm(sq->loop, &sq->stop_timer, SQS_STOP_US);
	task_schedule(sq->loop, &sq->batch_task);
	sqs_stop_check(sq);
}

static void
sqs_fini(struct queue *q)
{
	struct sqs_queue *sq = sqs_of(q);

	if (sq == NULL)
		return;
	sq->state = SQS_IDLE;
	timer_cancel(sq->loop, &sq->reconnect_timer);
	timer_cancel(sq->loop, &sq->stop_timer);
	timer_cancel(sq->loop, &sq->linger_timer);
	task_cancel(&sq->fail_task);
	sqs_all_close(sq, NULL);
	sqs_dead_done(sq);
	BUG_ON(!list_empty(&sq->enqueues));
	task_cancel(&sq->answer_task);
	sqs_setup_done(sq);
	sqs_receive_done(sq);
	sqs_md5_done(sq);
	sqs_probe_done(sq);
	sqs_settle_done(sq);
	tried_done(&sq->tried);
	BUG_ON(!list_empty(&sq->calls));
	http_client_free(sq->client);
	sigv4_free(sq->signer);
	aws_credentials_unref(sq->credentials);
	sqs_keys_done(sq);
	free(sq);
	q->impl = NULL;
}

/* ---- status ---- */

static void
sqs_status(struct queue *q, json_t *o)
{
	const struct sqs_queue *sq = sqs_of(q);
	unsigned polling = 0;

	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++)
		polling += sq->receiver[i].asked != 0;
	add_text(o, "endpoint", sq->url_text);
	add_text(o, "region", sq->region);
	add_text(o, "queue_url", sq->queue_url);
	add_text(o, "dead_letter", sq->dead_by_broker ? "broker" :
	    sq->dead_url);
	json_object_set_new(o, "fifo", json_boolean(sq->fifo));
	add_text(o, "credentials", sq->credentials_source);
	json_object_set_new(o, "receivers", json_integer(polling));
	add_text(o, "throttled_by", sq->throttle.code);
	add_count(o, "requests", sq->requests);
	add_count(o, "throttled", sq->throttled);
	add_count(o, "md5_wrong", sq->md5_wrong);
	add_count(o, "settlements_unanswered", sq->nsettling);
	add_count(o, "settlements_again", sq->again.count);
	add_count(o, "not_visible", sq->not_visible);
	json_object_set_new(o, "clock_offset_seconds",
	    json_integer((json_int_t)(sq->clock.offset_us /
	    (int64_t)USEC_PER_SEC)));
	add_text(o, "attributes_error", sq->attributes_error.text);
}

static const struct queue_ops sqs_ops = {
	.init = sqs_init,
	.start = sqs_start,
	.credit = sqs_credit,
	.settle = sqs_settle,
	.extend = sqs_extend,
	.probe = sqs_probe,
	.enqueue = sqs_enqueue,
	.dead_open = sqs_dead_open,
	.dead_next = sqs_dead_next,
	.dead_act = sqs_dead_act,
	.dead_all = sqs_dead_all,
	.dead_close = sqs_dead_close,
	.reconfigure = sqs_reconfigure,
	.stop = sqs_stop,
	.fini = sqs_fini,
	.status = sqs_status,
};

static const char *const figures[] = {
	"fifo", "receivers", "requests", "throttled", "md5_wrong",
	"settlements_unanswered", "settlements_again", "not_visible",
	"clock_offset_seconds", NULL
};

const struct queue_type sqs_queue_type = {
	.name = "sqs",
	.kind = &sqs_queue_kind,
	.capabilities = QUEUE_CAN_EXTEND | QUEUE_CAN_DELAY | QUEUE_BATCHES |
	    QUEUE_DEAD_LETTERS | QUEUE_CAN_ENQUEUE,
	.ops = &sqs_ops,
	.figures = figures,
};
