#include "queue/pubsub.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/figures.h"
#include "queue/pubsub_impl.h"
#include "queue/walk.h"

/* For the end of the streams; what they still deliver is given back. */
#define LINGER_US	(500 * USEC_PER_MSEC)
#define STEADY_US	(5 * USEC_PER_SEC)	/* up so long: a new outage */
/* A stream that is in doubt and has lived so long is no longer. */
#define PROVE_US	USEC_PER_SEC

/* ---- up and down ---- */

static void
reconnect_timer_fired(struct timer *t)
{
	pubsub_setup(t->owner);
}

static void
up(struct pubsub_queue *pq)
{
	pq->state = PUBSUB_UP;
	pq->doubted = pq->reported = false;
	timer_cancel(pq->loop, &pq->prove_timer);
	timer_arm(pq->loop, &pq->rate_timer, USEC_PER_SEC);
	queue_up(pq->queue);
	pubsub_wake(pq);
	task_schedule(pq->loop, &pq->batch_task);
}

void
pubsub_set_up(struct pubsub_queue *pq)
{
	pq->up_since_us = clock_monotonic_us();
	if (!pq->doubted) {
		up(pq);
		return;
	}
	pq->state = PUBSUB_PROVING;
	timer_arm(pq->loop, &pq->prove_timer, PROVE_US);
	pubsub_wake(pq);
}

void
pubsub_proven(struct pubsub_queue *pq)
{
	if (pq->state == PUBSUB_PROVING && !pubsub_failing(pq))
		up(pq);
}

static void
prove_timer_fired(struct timer *t)
{
	pubsub_proven(t->owner);
}

void
pubsub_fail(struct pubsub_queue *pq, const struct error *err)
{
	if (pq->state == PUBSUB_IDLE || pq->state == PUBSUB_DOWN ||
	    pubsub_failing(pq))
		return;
	pq->failure = *err;
	task_schedule(pq->loop, &pq->fail_task);
}

static void finish(struct pubsub_queue *);

static void
quiet(struct pubsub_queue *pq)
{
	pubsub_setup_cancel(pq);
	pubsub_streams_cancel(pq);
	google_waiter_cancel(&pq->stream_waiter);
	pubsub_probe_cancel(pq);
	timer_cancel(pq->loop, &pq->prove_timer);
	timer_cancel(pq->loop, &pq->rate_timer);
	timer_cancel(pq->loop, &pq->window_timer);
}

/* Once an outage: what each place of the search had. */
static void
report_credentials(struct pubsub_queue *pq)
{
	const char *line = pq->token != NULL ? google_token_report(pq->token) :
	    "";

	if (pq->reported)
		return;
	pq->reported = true;
	while (*line != '\0') {
		size_t n = strcspn(line, "\n");

		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_CREDENTIALS_FAILED), "credentials: %.*s", (int)n,
		    line);
		line += n + (line[n] != '\0');
	}
}

/* Acknowledgement ids do not die with a connection: settlements go on by
   themselves. */
static void
fail_task_run(struct task *t)
{
	struct pubsub_queue *pq = t->owner;
	struct error err = pq->failure;

	if (pq->stopping) {
		if (pubsub_settled_all(pq) && pubsub_streams_open(pq) == 0)
			finish(pq);
		return;
	}
	quiet(pq);
	if (pq->state == PUBSUB_UP &&
	    clock_monotonic_us() - pq->up_since_us > STEADY_US)
		pq->failures = 0;
	pq->state = PUBSUB_DOWN;
	error_clear(&pq->failure);
	pq->failures++;
	timer_arm(pq->loop, &pq->reconnect_timer,
	    queue_reconnect_delay_us(pq->failures));
	queue_down(pq->queue, &err);
	if (strcmp(err.code, "google_credentials") == 0)
		report_credentials(pq);
}

/* ---- operations ---- */

static void stop_timer_fired(struct timer *);
static void linger_timer_fired(struct timer *);

static void
answer_task_run(struct task *t)
{
	struct pubsub_queue *pq = t->owner;

	pubsub_enqueue_answer(pq);
	walks_answer(&pq->walks);
}

static int
pubsub_init(struct queue *q, struct config *config,
    const struct config_section *section)
{
	struct pubsub_queue *pq = new0(struct pubsub_queue);

	pq->queue = q;
	pq->loop = q->loop;
	list_init(&pq->calls);
	list_init(&pq->receipts);
	list_init(&pq->enqueues);
	list_init(&pq->walks);
	hash_init(&pq->by_id);
	pubsub_window_init(pq);
	pubsub_keys_read(pq, config, section);
	pubsub_setup_init(pq);
	pubsub_streams_init(pq);
	pubsub_settle_init(pq);
	tried_init(&pq->tried);
	timer_init(&pq->reconnect_timer, "pubsub reconnect",
	    reconnect_timer_fired, pq);
	timer_init(&pq->prove_timer, "pubsub prove", prove_timer_fired, pq);
	timer_init(&pq->stop_timer, "pubsub stop", stop_timer_fired, pq);
	timer_init(&pq->linger_timer, "pubsub linger", linger_timer_fired, pq);
	task_init(&pq->fail_task, LOOP_DISPATCH, "pubsub fail", fail_task_run,
	    pq);
	task_init(&pq->answer_task, LOOP_DISPATCH, "pubsub answer",
	    answer_task_run, pq);
	q->impl = pq;
	return 0;
}

static void
pubsub_start(struct queue *q)
{
	pubsub_setup(pubsub_of(q));
}

static void
pubsub_credit(struct queue *q, unsigned n)
{
	struct pubsub_queue *pq = pubsub_of(q);

	pq->credit = n;
	pubsub_wake(pq);
}

static void
pubsub_reconfigure(struct queue *q, const struct config_section *section)
{
	pubsub_keys_reload(pubsub_of(q), section);
	pubsub_wake(pubsub_of(q));
}

/* ---- leaving ---- */

static void
finish(struct pubsub_queue *pq)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "stopped", "the service did not "
	    "answer before the queue was stopped");
	pq->state = PUBSUB_IDLE;
	error_clear(&pq->failure);
	quiet(pq);
	pubsub_give_up(pq, &err);
	pubsub_enqueue_done(pq, &err);
	timer_cancel(pq->loop, &pq->reconnect_timer);
	timer_cancel(pq->loop, &pq->stop_timer);
	timer_cancel(pq->loop, &pq->linger_timer);
	task_cancel(&pq->fail_task);
	queue_stopped(pq->queue);
}

/* From the task: it may be asked in the middle of something. */
void
pubsub_stop_check(struct pubsub_queue *pq)
{
	if (pq->stopping && pq->state != PUBSUB_IDLE &&
	    pubsub_settled_all(pq) && pubsub_streams_open(pq) == 0)
		task_schedule(pq->loop, &pq->fail_task);
}

static void
linger_timer_fired(struct timer *t)
{
	struct pubsub_queue *pq = t->owner;

	pubsub_streams_cancel(pq);
	pubsub_stop_check(pq);
}

static void
stop_timer_fired(struct timer *t)
{
	finish(t->owner);
}

static void
pubsub_stop(struct queue *q)
{
	struct pubsub_queue *pq = pubsub_of(q);

	if (pq->stopping)
		return;
	pq->stopping = true;
	timer_cancel(pq->loop, &pq->reconnect_timer);
	timer_arm(pq->loop, &pq->linger_timer, LINGER_US);
	timer_arm(pq->loop, &pq->stop_timer, PUBSUB_STOP_US);
	pubsub_streams_end(pq);
	task_schedule(pq->loop, &pq->batch_task);
	pubsub_stop_check(pq);
}

static void
pubsub_fini(struct queue *q)
{
	struct pubsub_queue *pq = pubsub_of(q);

	if (pq == NULL)
		return;
	pq->state = PUBSUB_IDLE;
	timer_cancel(pq->loop, &pq->reconnect_timer);
	timer_cancel(pq->loop, &pq->prove_timer);
	timer_cancel(pq->loop, &pq->stop_timer);
	timer_cancel(pq->loop, &pq->linger_timer);
	task_cancel(&pq->fail_task);
	pubsub_dead_done(pq);
	BUG_ON(!list_empty(&pq->enqueues));
	task_cancel(&pq->answer_task);
	pubsub_setup_done(pq);
	pubsub_streams_done(pq);
	pubsub_window_done(pq);
	pubsub_settle_done(pq);
	pubsub_receipts_done(pq);
	tried_done(&pq->tried);
	pubsub_probe_done(pq);
	BUG_ON(!list_empty(&pq->calls));
	grpc_channel_free(pq->channel);
	google_token_unref(pq->token);
	secret_free(pq->sent_token[0]);
	secret_free(pq->sent_token[1]);
	pubsub_keys_done(pq);
	free(pq);
	q->impl = NULL;
}

/* ---- status ---- */

static void
pubsub_status(struct queue *q, json_t *o)
{
	const struct pubsub_queue *pq = pubsub_of(q);
	unsigned window = 0, outstanding = 0, on = 0;

	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++) {
		if (pq->stream[i].state != STREAM_ON)
			continue;
		on++;
		window += pq->stream[i].window;
		outstanding += pq->stream[i].outstanding;
	}
	add_text(o, "endpoint", pq->url_text);
	add_text(o, "subscription", pq->subscription);
	add_text(o, "topic", pq->topic);
	add_text(o, "dead_letter", pq->dead_by_broker ? "broker" :
	    pq->dead_topic);
	json_object_set_new(o, "exactly_once",
	    json_boolean(pq->facts.exactly_once));
	json_object_set_new(o, "ordered", json_boolean(pq->facts.ordered));
	add_text(o, "credentials", pq->token != NULL ?
	    google_token_source(pq->token) : NULL);
	add_count(o, "streams", on);
	add_count(o, "streams_opened", pq->streams_opened);
	add_count(o, "window", window);
	add_count(o, "outstanding", outstanding);
	add_count(o, "lease_seconds", pubsub_deadline(pq));
	add_count(o, "requests", pq->requests);
	add_count(o, "duplicates", pq->duplicates);
	add_count(o, "settlements_unanswered", pq->nsettling);
	add_count(o, "settlements_again", pq->again.count);
	add_text(o, "backlog_error", pq->backlog_error.text);
}

static const struct queue_ops pubsub_ops = {
	.init = pubsub_init,
	.start = pubsub_start,
	.credit = pubsub_credit,
	.settle = pubsub_settle,
	.extend = pubsub_extend,
	.probe = pubsub_probe,
	.enqueue = pubsub_enqueue,
	.dead_open = pubsub_dead_open,
	.dead_next = pubsub_dead_next,
	.dead_act = pubsub_dead_act,
	.dead_close = pubsub_dead_close,
	.reconfigure = pubsub_reconfigure,
	.stop = pubsub_stop,
	.fini = pubsub_fini,
	.status = pubsub_status,
};

static const char *const figures[] = {
	"exactly_once", "ordered", "streams", "streams_opened", "window",
	"outstanding", "lease_seconds", "requests", "duplicates",
	"settlements_unanswered", "settlements_again", NULL
};

const struct queue_type pubsub_queue_type = {
	.name = "pubsub",
	.kind = &pubsub_queue_kind,
	.capabilities = QUEUE_CAN_EXTEND | QUEUE_CAN_DELAY | QUEUE_BATCHES |
	    QUEUE_DEAD_LETTERS | QUEUE_CAN_ENQUEUE,
	.ops = &pubsub_ops,
	.figures = figures,
};
