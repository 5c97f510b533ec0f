#include "queue/redis.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "queue/redis_impl.h"

#define STEADY_US	(5 * USEC_PER_SEC)	/* up so long: a new outage */
#define GATHER_US	(2 * USEC_PER_MSEC)
#define MAINTAIN_MIN_US	(100 * USEC_PER_MSEC)

/* ---- up and down ---- */

static void
connect_now(struct redis_queue *rq)
{
	struct error err = ERROR_INIT;

	rq->state = REDIS_CONNECTING;
	if (tls_config_context(&rq->tls_config, &rq->tls, &err) < 0) {
		redis_fail(rq, &err);
		return;
	}
	redis_conn_open(&rq->writer, rq->tls);
	redis_conn_open(&rq->reader, rq->tls);
}

static void
reconnect_timer_fired(struct timer *t)
{
	connect_now(t->owner);
}

void
redis_conn_ready(struct redis_queue *rq)
{
	if (rq->state != REDIS_CONNECTING || !rq->reader.ready ||
	    !rq->writer.ready)
		return;
	rq->state = REDIS_SETTING_UP;
	redis_load_scripts(rq);		/* goes on to the mode's set-up */
}

static void
maintain_again(struct redis_queue *rq)
{
	timer_arm(rq->loop, &rq->maintain_timer,
	    MAX(rq->queue->lease_us / 2, MAINTAIN_MIN_US));
}

void
redis_set_up(struct redis_queue *rq)
{
	rq->state = REDIS_UP;
	rq->up_since_us = clock_monotonic_us();
	queue_up(rq->queue);
	/* First what was settled before: recovery must not see it. */
	redis_flush(rq);
	if (!rq->stopping) {
		redis_delayed_up(rq);
		maintain_again(rq);
		rq->reap_due = true;
	}
	redis_wake(rq);
}

void
redis_fail(struct redis_queue *rq, const struct error *err)
{
	if (rq->state == REDIS_IDLE || rq->state == REDIS_DOWN ||
	    redis_failing(rq))
		return;
	rq->failure = *err;
	task_schedule(rq->loop, &rq->fail_task);
}

static void
close_both(struct redis_queue *rq)
{
	redis_conn_close(&rq->reader);
	redis_conn_close(&rq->writer);
	timer_cancel(rq->loop, &rq->maintain_timer);
	timer_cancel(rq->loop, &rq->gather_timer);
	redis_delayed_down(rq);
	rq->asked_reader = rq->asked_writer = 0;
}

/* Outside of the callbacks of the connections that it closes. */
static void
fail_task_run(struct task *t)
{
	struct redis_queue *rq = t->owner;
	struct error err = rq->failure;

	close_both(rq);
	if (rq->state == REDIS_UP &&
	    clock_monotonic_us() - rq->up_since_us > STEADY_US)
		rq->failures = 0;
	rq->state = REDIS_DOWN;
	error_clear(&rq->failure);
	rq->failures++;
	timer_arm(rq->loop, &rq->reconnect_timer,
	    queue_reconnect_delay_us(rq->failures));
	queue_down(rq->queue, &err);
	redis_wake(rq);
}

/* ---- taking ---- */

unsigned
redis_held(const struct redis_queue *rq)
{
	const struct queue *q = rq->queue;

	return q->nwaiting + q->nheld + q->ndelayed + q->nrunning +
	    q->nsettling;
}

unsigned
redis_room(const struct redis_queue *rq)
{
	unsigned asked = rq->asked_reader + rq->asked_writer;

	return rq->stopping || rq->credit <= asked ? 0 : rq->credit - asked;
}

uint64_t
redis_lease_ms(const struct redis_queue *rq)
{
	return MAX(rq->queue->lease_us / USEC_PER_MSEC, (uint64_t)1);
}

void
redis_wake(struct redis_queue *rq)
{
	task_schedule(rq->loop, &rq->pull_task);
}

void
redis_maintain_in(struct redis_queue *rq, uint64_t us)
{
	if (rq->state == REDIS_UP && !rq->stopping)
		timer_arm_sooner(rq->loop, &rq->maintain_timer, us);
}

static void
maintain_timer_fired(struct timer *t)
{
	struct redis_queue *rq = t->owner;

	maintain_again(rq);
	rq->mode->maintain(rq);
}

static void
pull_task_run(struct task *t)
{
	struct redis_queue *rq = t->owner;
	size_t each;
	unsigned n;

	if (rq->stopping) {
		redis_stop_check(rq);
		return;
	}
	if (rq->state != REDIS_UP || redis_failing(rq))
		return;
	(void)redis_delayed_pull(rq);
	n = redis_room(rq);
	if (rq->reading || n == 0)
		return;
	each = MAX(rq->average_bytes != 0 ? rq->average_bytes :
	    rq->queue->max_bytes, (size_t)1);
	n = MIN(n, rq->count_max);
	n = (unsigned)MIN((size_t)n, rq->reply_max / 2 / each);
	n = MAX(n, 1u);
	/* Many small requests cost more than one that waits a little; but
	   workers may be idle and what runs may take long. */
	if (n < rq->last_batch / 4 && redis_held(rq) != 0 && !rq->waited) {
		if (!timer_armed(&rq->gather_timer))
			timer_arm(rq->loop, &rq->gather_timer, GATHER_US);
		return;
	}
	timer_cancel(rq->loop, &rq->gather_timer);
	rq->waited = false;
	rq->mode->pull(rq, n);
}

static void
gather_timer_fired(struct timer *t)
{
	struct redis_queue *rq = t->owner;

	rq->waited = true;
	redis_wake(rq);
}

static void
unblocked(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	(void)chunk;
	(void)arg;
	if (!redis_reply_ok(rq, reply, "CLIENT UNBLOCK") ||
	    reply->integer != 0)
		return;
	/* It came before the command that it was to end. */
	rq->unblocking = false;
	redis_wake(rq);
}

void
redis_unblock(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	if (rq->state != REDIS_UP || redis_failing(rq) || !rq->blocking ||
	    rq->unblocking || rq->reader.client_id == 0)
		return;
	rq->unblocking = true;
	redis_begin(c, 3);
	redis_arg_str(c, "CLIENT");
	redis_arg_str(c, "UNBLOCK");
	redis_arg_u64(c, rq->reader.client_id);
	redis_end(c, unblocked, NULL, 0);
}

struct message *
redis_message(struct redis_queue *rq, struct chunk *chunk, struct slice name,
    struct slice receipt, struct slice body)
{
	struct message *m = message_new(rq->queue, chunk);

	m->name = name;
	m->receipt = receipt;
	m->body = body;
	m->lease_until_us = sat_add(clock_monotonic_us(), rq->queue->lease_us);
	return m;
}

void
redis_deliver(struct redis_queue *rq, struct message *m)
{
	struct error err;

	if (fault("redis.deliver")) {
		error_set(&err, ERROR_TRANSIENT, "fault", "redis.deliver");
		redis_fail(rq, &err);
	}
	/* Lost on the way: the server still counts it as ours. */
	if (redis_failing(rq)) {
		message_free(m);
		return;
	}
	if (rq->stopping) {
		redis_stray(rq, m);
		return;
	}
	if (rq->credit != 0)
		rq->credit--;
	queue_deliver(rq->queue, m);
}

/* ---- operations ---- */

static void answer_task_run(struct task *);
static void stop_timer_fired(struct timer *);

static int
redis_init(struct queue *q, struct config *config,
    const struct config_section *section)
{
	struct redis_queue *rq = new0(struct redis_queue);

	rq->queue = q;
	rq->loop = q->loop;
	rq->count_max = (unsigned)REDIS_BATCH_MAX;
	random_hex(rq->token, sizeof(rq->token) - 1);
	redis_keys_read(rq, config, section);
	redis_conn_init(&rq->reader, rq, "reader");
	redis_conn_init(&rq->writer, rq, "writer");
	redis_settle_init(rq);
	redis_delayed_init(rq);
	list_init(&rq->walks);
	list_init(&rq->refused);
	timer_init(&rq->reconnect_timer, "redis reconnect",
	    reconnect_timer_fired, rq);
	timer_init(&rq->maintain_timer, "redis maintain",
	    maintain_timer_fired, rq);
	timer_init(&rq->gather_timer, "redis gather", gather_timer_fired, rq);
	timer_init(&rq->stop_timer, "redis stop", stop_timer_fired, rq);
	task_init(&rq->fail_task, LOOP_DISPATCH, "redis fail", fail_task_run,
	    rq);
	task_init(&rq->pull_task, LOOP_BATCH, "redis pull", pull_task_run, rq);
	task_init(&rq->answer_task, LOOP_DISPATCH, "redis answer",
	    answer_task_run, rq);
	q->impl = rq;
	return 0;
}

static void
redis_start(struct queue *q)
{
	connect_now(redis_of(q));
}

static void
redis_credit(struct queue *q, unsigned n)
{
	struct redis_queue *rq = redis_of(q);

	rq->credit = n;
	redis_wake(rq);
}

static void
redis_reconfigure(struct queue *q, const struct config_section *section)
{
	redis_keys_reload(redis_of(q), section);
}

/* ---- backlog ---- */

static void
redis_probe(struct queue *q)
{
	struct redis_queue *rq = redis_of(q);

	if (rq->state == REDIS_UP && !redis_failing(rq) && !rq->leaving)
		rq->mode->probe(rq);
}

void
redis_probed(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct backlog b = { .waiting_known = false };

	(void)chunk;
	(void)arg;
	if (!redis_reply_ok(rq, reply, "asking for the backlog"))
		return;
	b.waiting = (uint64_t)MAX(resp_at(reply, 0)->integer, (int64_t)0);
	b.waiting_known = resp_at(reply, 1)->integer == 1;
	b.delayed = (uint64_t)resp_at(reply, 2)->integer;
	b.dead = (uint64_t)resp_at(reply, 3)->integer;
	b.delayed_known = b.dead_known = true;
	b.oldest_us = (uint64_t)MAX(resp_at(reply, 4)->integer, (int64_t)0) *
	    USEC_PER_MSEC;
	queue_backlog(rq->queue, &b);
}

/* ---- enqueueing ---- */

struct refused {
	struct list link;
	struct enqueue_job *job;
	struct error err;
};

static void
redis_enqueue(struct queue *q, struct enqueue_job *job)
{
	struct redis_queue *rq = redis_of(q);
	struct error err = ERROR_INIT;
	struct refused *r;

	if (rq->state != REDIS_UP || redis_failing(rq) || rq->leaving)
		error_set(&err, ERROR_TRANSIENT, "not_connected",
		    "the server cannot be reached now");
	else if (rq->mode->enqueue(rq, job, &err))
		return;
	r = new0(struct refused);
	r->job = job;
	r->err = err;
	list_push_back(&rq->refused, &r->link);
	task_schedule(rq->loop, &rq->answer_task);
}

void
redis_enqueued(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct enqueue_job *job = arg;
	struct slice none = { NULL, 0 };
	struct error err;

	(void)chunk;
	if (reply == NULL || redis_failing(rq)) {
		error_set(&err, ERROR_TRANSIENT, "disconnected", "the "
		    "connection broke before the answer: it may be enqueued");
		job->done(job, none, &err);
	} else if (reply->type == RESP_ERROR) {
		redis_error(rq, reply, &err);
		(void)redis_reply_ok(rq, reply, "enqueueing");
		job->done(job, none, &err);
	} else {
		job->done(job, reply->str, NULL);
	}
}

static void
answer_task_run(struct task *t)
{
	struct redis_queue *rq = t->owner;
	struct list *l;

	while ((l = list_pop_front(&rq->refused)) != NULL) {
		struct refused *r = list_entry(l, struct refused, link);
		struct enqueue_job *job = r->job;
		struct error err = r->err;

		free(r);
		job->done(job, (struct slice){ NULL, 0 }, &err);
	}
	redis_dead_answer(rq);
}

/* ---- leaving ---- */

static void
finish(struct redis_queue *rq)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "stopped", "the server did not answer "
	    "before the queue was stopped");
	rq->state = REDIS_IDLE;
	close_both(rq);
	error_clear(&rq->failure);
	task_cancel(&rq->fail_task);
	timer_cancel(rq->loop, &rq->reconnect_timer);
	timer_cancel(rq->loop, &rq->stop_timer);
	redis_give_up(rq, &err);
	task_cancel(&rq->pull_task);
	task_cancel(&rq->batch_task);
	queue_stopped(rq->queue);
}

static void
left(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)arg;
	(void)redis_reply_ok(rq, reply, "leaving");
	redis_wake(rq);
}

void
redis_stop_check(struct redis_queue *rq)
{
	if (!rq->stopping || rq->state == REDIS_IDLE || redis_failing(rq))
		return;
	if (!redis_settled_all(rq))
		return;			/* until answered, or the timer */
	if (rq->state != REDIS_UP) {
		finish(rq);
		return;
	}
	if (rq->reading || rq->asked_writer != 0) {
		redis_unblock(rq);
		return;
	}
	if (rq->mode->leave != NULL && !rq->leaving) {
		rq->leaving = true;
		rq->mode->leave(rq);
		redis_end(&rq->writer, left, NULL, 0);
		return;
	}
	if (rq->writer.count == 0)
		finish(rq);
}

static void
stop_timer_fired(struct timer *t)
{
	finish(t->owner);
}

static void
redis_stop(struct queue *q)
{
	struct redis_queue *rq = redis_of(q);

	if (rq->stopping)
		return;
	/* Nothing new may come from now on; what is on its way goes back. */
	redis_unblock(rq);
	rq->stopping = true;
	timer_cancel(rq->loop, &rq->maintain_timer);
	redis_delayed_down(rq);
	timer_arm(rq->loop, &rq->stop_timer, REDIS_STOP_US);
	task_schedule(rq->loop, &rq->batch_task);
	redis_wake(rq);
}

static void
redis_fini(struct queue *q)
{
	struct redis_queue *rq = redis_of(q);
	struct list *l;

	if (rq == NULL)
		return;
	rq->state = REDIS_IDLE;
	close_both(rq);
	timer_cancel(rq->loop, &rq->reconnect_timer);
	timer_cancel(rq->loop, &rq->stop_timer);
	task_cancel(&rq->fail_task);
	task_cancel(&rq->pull_task);
	redis_settle_done(rq);
	/* Walks and jobs hold pointers to us: their owners end them first. */
	while ((l = list_first(&rq->walks)) != NULL) {
		struct redis_walk *w = list_entry(l, struct redis_walk, link);

		BUG_ON(w->walk != NULL);
		list_remove(l);
		chunk_unref(w->chunk);
		free(w);
	}
	BUG_ON(!list_empty(&rq->refused));
	task_cancel(&rq->answer_task);
	redis_conn_done(&rq->reader);
	redis_conn_done(&rq->writer);
	tls_context_unref(rq->tls);
	redis_keys_done(rq);
	free(rq);
	q->impl = NULL;
}

/* ---- status ---- */

static void
redis_status(struct queue *q, json_t *object)
{
	const struct redis_queue *rq = redis_of(q);
	char text[ADDRESS_TEXT_BYTES], version[24] = "";
	const char *tls = stream_tls_text(&rq->writer.stream);
	unsigned v = rq->writer.version;
	size_t unanswered = 0;
	struct list *l;

	list_foreach(l, &rq->batches)
		unanswered += list_entry(l, struct redis_batch, link)->count;
	json_object_set_new(object, "mode", json_string(rq->mode->name));
	json_object_set_new(object, "address",
	    json_string(address_text(&rq->address, text)));
	json_object_set_new(object, "key", json_string(rq->key));
	if (rq->mode == &redis_mode_stream)
		json_object_set_new(object, "group", json_string(rq->group));
	json_object_set_new(object, "consumer", json_string(rq->consumer));
	if (v != 0) {
		snprintf(version, sizeof(version), "%u.%u.%u", v / 10000,
		    v / 100 % 100, v % 100);
		json_object_set_new(object, "server_version",
		    json_string(version));
	}
	if (tls != NULL)
		json_object_set_new(object, "tls", json_string(tls));
	json_object_set_new(object, "settlements_unanswered",
	    json_integer((json_int_t)unanswered));
	json_object_set_new(object, "settlements_resent",
	    json_integer((json_int_t)rq->resent));
	json_object_set_new(object, "recovered",
	    json_integer((json_int_t)rq->recovered));
	json_object_set_new(object, "reclaimed",
	    json_integer((json_int_t)rq->reclaimed));
	json_object_set_new(object, "deleted_while_pending",
	    json_integer((json_int_t)rq->deleted));
}

static const struct queue_ops redis_ops = {
	.init = redis_init,
	.start = redis_start,
	.credit = redis_credit,
	.settle = redis_settle,
	.extend = redis_extend,
	.probe = redis_probe,
	.enqueue = redis_enqueue,
	.dead_open = redis_dead_open,
	.dead_next = redis_dead_next,
	.dead_act = redis_dead_act,
	.dead_close = redis_dead_close,
	.reconfigure = redis_reconfigure,
	.stop = redis_stop,
	.fini = redis_fini,
	.status = redis_status,
};

static const char *const figures[] = {
	"settlements_unanswered", "settlements_resent", "recovered",
	"reclaimed", "deleted_while_pending", NULL
};

const struct queue_type redis_queue_type = {
	.name = "redis",
	.kind = &redis_queue_kind,
	.capabilities = QUEUE_CAN_EXTEND | QUEUE_CAN_DELAY | QUEUE_BATCHES |
	    QUEUE_DEAD_LETTERS | QUEUE_CAN_ENQUEUE,
	.ops = &redis_ops,
	.figures = figures,
};
