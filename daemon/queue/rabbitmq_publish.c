/*
 * Copies on their way to the broker: each is confirmed before its original is
 * acknowledged (rabbitmq.com, "Consumer Acknowledgements and Publisher
 * Confirms").  One that no queue takes comes back first (basic.return) and is
 * confirmed then; one that the broker refuses (basic.nack: a length limit with
 * reject-publish) waits and is sent again, its original held.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "queue/rabbitmq_impl.h"
#include "queue/walk.h"

#define AGAIN_US	USEC_PER_SEC
#define LOG_EVERY_US	(10 * USEC_PER_SEC)

static void
job_free(struct rabbit_job *job)
{
	list_remove(&job->link);
	free(job->error_type);
	free(job->detail);
	free(job);
}

/* The original's fate is decided; takes the job. */
static void
job_done(struct rabbit_queue *rq, struct rabbit_job *job)
{
	struct enqueue_job *enqueue = job->enqueue;
	struct slice id = slice_of(job->id);
	struct error err;

	if (job->delivery != NULL) {
		rabbit_acknowledge(rq, job->delivery);
	} else if (job->returned) {
		error_set(&err, ERROR_REJECTED, "no_queue",
		    "there is no queue %s any more", rq->name);
		enqueue->done(enqueue, (struct slice){ NULL, 0 }, &err);
	} else {
		enqueue->done(enqueue, id, NULL);
	}
	job_free(job);
}

static void
job_failed(struct rabbit_queue *rq, struct rabbit_job *job,
    const struct error *err)
{
	struct rabbit_delivery *d = job->delivery;
	struct message *m;

	if (d == NULL) {
		job->enqueue->done(job->enqueue, (struct slice){ NULL, 0 },
		    err);
		job_free(job);
		return;
	}
	m = d->message;
	m->receipt_data = NULL;
	job_free(job);
	rabbit_delivery_free(rq, d);
	queue_settled(rq->queue, m, err);
}

/* ---- sending ---- */

static struct slice
target(const struct rabbit_queue *rq, const struct rabbit_job *job)
{
	if (job->kind == JOB_BURY)
		return slice_of(rq->dead_name);
	return slice_of(job->step != NULL ? job->step->queue : rq->name);
}

static struct slice
attribute_text(const struct message *m, const char *name)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL ? a->value : (struct slice){ "", 0 };
}

static int
write_job(struct rabbit_queue *rq, struct rabbit_job *job, struct error *err)
{
	struct rabbit_channel *ch = rabbit_publish_channel(rq);
	const struct message *m;
	struct rabbit_copy copy;
	int r;

	job->sequence = rq->sequence + 1;
	if (job->kind == JOB_ENQUEUE)
		return rabbit_copy_new(ch, slice_of(rq->name), job->enqueue,
		    job->id, job->sequence, err);
	m = job->delivery->message;
	copy = (struct rabbit_copy){
		.kind = job->kind == JOB_BURY ? COPY_BURY : COPY_RETRY,
		.queue = target(rq, job),
		.properties = m->receipt,
		.body = m->body,
		.exchange = attribute_text(m, "exchange"),
		.routing_key = attribute_text(m, "routing-key"),
		.name = m->name,
		.attempt = job->attempt,
		.crashes = job->crashes,
		.error_type = slice_of(job->error_type),
		.detail = { job->detail, job->ndetail },
		.sequence = job->sequence,
	};
	r = rabbit_copy(ch, &copy, err);
	/* In small frames what the handler said gives way to the headers. */
	while (r == -EMSGSIZE && copy.detail.n != 0) {
		copy.detail.n /= 8;
		r = rabbit_copy(ch, &copy, err);
	}
	return r;
}

static void
log_refused(struct rabbit_queue *rq, const struct rabbit_job *job,
    const char *why)
{
	uint64_t now = clock_monotonic_us();
	struct slice to = target(rq, job);

	rq->publish_refused++;
	if (rq->refused_log_us != 0 && now - rq->refused_log_us < LOG_EVERY_US)
		return;
	rq->refused_log_us = now;
	log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_COPY_FAILED),
	    "a copy for queue %.*s was not "
	    "taken: %s; its message is held and it is tried again each second",
	    (int)to.n, to.p, why);
}

static void
try_again(struct rabbit_queue *rq, struct rabbit_job *job, const char *why)
{
	log_refused(rq, job, why);
	job->again_us = sat_add(clock_monotonic_us(), AGAIN_US);
	list_remove(&job->link);
	list_push_back(&rq->jobs, &job->link);
	timer_arm_sooner(rq->loop, &rq->again_timer, AGAIN_US);
}

static void
send_job(struct rabbit_queue *rq, struct rabbit_job *job)
{
	struct error err;

	if (write_job(rq, job, &err) < 0) {
		if (job->delivery == NULL)
			job_failed(rq, job, &err);
		else
			try_again(rq, job, err.text);
		return;
	}
	rq->sequence = job->sequence;
	rq->published++;
	job->sent_us = clock_monotonic_us();
	list_remove(&job->link);
	list_push_back(&rq->unconfirmed, &job->link);
}

static bool
ready(struct rabbit_queue *rq, const struct rabbit_job *job, uint64_t now)
{
	if (job->again_us > now)
		return false;
	if (job->step == NULL || job->step->ready)
		return true;
	rabbit_step_declare(rq, job->step);
	return false;
}

/* While the broker blocks us, more would only fill our own memory. */
void
rabbit_publish_flush(struct rabbit_queue *rq)
{
	uint64_t now = clock_monotonic_us();
	struct list *l, *tmp;

	if (!rabbit_is_up(rq) || rq->publisher_conn.blocked ||
	    list_empty(&rq->jobs))
		return;
	list_foreach_safe(l, tmp, &rq->jobs) {
		struct rabbit_job *job = list_entry(l, struct rabbit_job, link);

		if (ready(rq, job, now))
			send_job(rq, job);
	}
	rabbit_conn_watch(&rq->publisher_conn);
}

static void
again_timer_fired(struct timer *t)
{
	struct rabbit_queue *rq = t->owner;

	rabbit_publish_flush(rq);
	if (!list_empty(&rq->jobs))
		timer_arm(rq->loop, t, AGAIN_US);
}

void
rabbit_publish(struct rabbit_queue *rq, struct rabbit_job *job)
{
	list_push_back(&rq->jobs, &job->link);
	task_schedule(rq->loop, &rq->batch_task);
}

/* ---- answers ---- */

/* No queue of that name: what it means depends on what it was for. */
static void
unroutable(struct rabbit_queue *rq, struct rabbit_job *job)
{
	struct slice to = target(rq, job);
	struct error err;

	if (job->delivery == NULL) {
		job_done(rq, job);
		return;
	}
	error_set(&err, ERROR_REJECTED, "missing_queue", "queue %.*s is gone: "
	    "declare it again or set Declare=; the message stays where it was",
	    (int)MIN(to.n, (size_t)200), to.p);
	rabbit_fail(rq, &err);
}

static void
job_refused(struct rabbit_queue *rq, struct rabbit_job *job)
{
	struct error err;

	error_set(&err, ERROR_REJECTED, "refused", "the broker has refused "
	    "it: queue %s is at its length limit", rq->name);
	job_failed(rq, job, &err);
}

static void
confirmed(struct rabbit_queue *rq, struct rabbit_job *job, bool accepted)
{
	if (job->returned)
		unroutable(rq, job);
	else if (accepted)
		job_done(rq, job);
	else if (job->delivery == NULL)
		job_refused(rq, job);
	else
		try_again(rq, job, "the broker has refused it (basic.nack: "
		    "is the queue at its length limit?)");
}

static void
unknown_confirm(struct rabbit_queue *rq, uint64_t sequence)
{
	struct error err;

	error_set(&err, ERROR_PROTOCOL, "unknown_confirm", "the broker has "
	    "confirmed publish %" PRIu64 ", which is not open", sequence);
	rabbit_fail(rq, &err);
}

void
rabbit_confirmed(struct rabbit_queue *rq, uint64_t sequence, bool multiple,
    bool accepted)
{
	struct list *l, *tmp;
	bool found = false;
	struct error err;

	if (fault("rabbitmq.confirm.lost")) {
		error_set(&err, ERROR_TRANSIENT, "fault",
		    "rabbitmq.confirm.lost");
		rabbit_fail(rq, &err);
		return;
	}
	list_foreach_safe(l, tmp, &rq->unconfirmed) {
		struct rabbit_job *job = list_entry(l, struct rabbit_job, link);

		if (job->sequence > sequence || rabbit_failing(rq))
			break;
		if (!multiple && job->sequence != sequence)
			continue;
		found = true;
		confirmed(rq, job, accepted);
	}
	if (!found && !rabbit_failing(rq))
		unknown_confirm(rq, sequence);
	rabbit_stop_check(rq);
}

/* Comes before the confirm of the same publish. */
void
rabbit_returned(struct rabbit_channel *ch, const struct rabbit_content *c)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_meta meta;
	struct error err;
	struct list *l;

	if (rabbit_meta(ch->conn, c, &meta, &err) < 0)
		return;
	list_foreach(l, &rq->unconfirmed) {
		struct rabbit_job *job = list_entry(l, struct rabbit_job, link);

		if (job->sequence == meta.sequence)
			job->returned = true;
	}
}

uint64_t
rabbit_confirm_due(const struct rabbit_queue *rq)
{
	const struct rabbit_job *job = list_first_entry(&rq->unconfirmed,
	    struct rabbit_job, link);

	return job == NULL ? USEC_INFINITY : sat_add(MAX(job->sent_us,
	    rq->unblocked_us), rq->response_timeout_us);
}

/* ---- enqueueing ---- */

struct refused {
	struct list link;
	struct enqueue_job *job;
};

void
rabbit_enqueue(struct queue *q, struct enqueue_job *enqueue)
{
	struct rabbit_queue *rq = rabbit_of(q);
	struct rabbit_job *job;
	struct refused *r;

	if (!rabbit_is_up(rq) || rq->stopping) {
		r = new0(struct refused);
		r->job = enqueue;
		list_push_back(&rq->refused, &r->link);
		task_schedule(rq->loop, &rq->answer_task);
		return;
	}
	job = new0(struct rabbit_job);
	job->kind = JOB_ENQUEUE;
	job->enqueue = enqueue;
	snprintf(job->id, sizeof(job->id), "%s-%016" PRIx64, rq->token,
	    random_u64());
	rabbit_publish(rq, job);
}

static void
answer_task_run(struct task *t)
{
	struct rabbit_queue *rq = t->owner;
	struct error err;
	struct list *l;

	error_set(&err, ERROR_TRANSIENT, "not_connected",
	    "the broker cannot be reached now");
	while ((l = list_pop_front(&rq->refused)) != NULL) {
		struct refused *r = list_entry(l, struct refused, link);
		struct enqueue_job *job = r->job;

		free(r);
		job->done(job, (struct slice){ NULL, 0 }, &err);
	}
	walks_answer(&rq->walks);
}

/* ---- life ---- */

void
rabbit_publish_give_up(struct rabbit_queue *rq, const struct error *err)
{
	struct list *lists[] = { &rq->unconfirmed, &rq->jobs };
	struct list *l;

	timer_cancel(rq->loop, &rq->again_timer);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		while ((l = list_first(lists[i])) != NULL)
			job_failed(rq, list_entry(l, struct rabbit_job, link),
			    err);
}

void
rabbit_publish_init(struct rabbit_queue *rq)
{
	list_init(&rq->jobs);
	list_init(&rq->unconfirmed);
	list_init(&rq->refused);
	init_amqp_pool(&rq->copy_pool, 16384);
	timer_init(&rq->again_timer, "rabbitmq again", again_timer_fired, rq);
	task_init(&rq->answer_task, LOOP_DISPATCH, "rabbitmq answer",
	    answer_task_run, rq);
}

void
rabbit_publish_done(struct rabbit_queue *rq)
{
	BUG_ON(!list_empty(&rq->refused));
	timer_cancel(rq->loop, &rq->again_timer);
	task_cancel(&rq->answer_task);
	empty_amqp_pool(&rq->copy_pool);
}
