/*
 * Long polls, as many as there is credit and work for.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/sqs_impl.h"

#define GATHER_US	(5 * USEC_PER_MSEC)
#define THROTTLE_MIN_US	(500 * USEC_PER_MSEC)
#define THROTTLE_MAX_US	(20 * USEC_PER_SEC)
#define LOG_EVERY_US	(10 * USEC_PER_SEC)
#define WRONG_MD5_SECONDS 5u
#define EMPTY_US	(50 * USEC_PER_MSEC)

unsigned
sqs_visibility(const struct sqs_queue *sq)
{
	return (unsigned)MIN(MAX(sq->queue->lease_us / USEC_PER_SEC,
	    (uint64_t)1), (uint64_t)SQS_VISIBILITY_MAX);
}

void
sqs_wake(struct sqs_queue *sq)
{
	task_schedule(sq->loop, &sq->pull_task);
}

/* ---- messages ---- */

static void
wrong_md5(struct sqs_queue *sq, struct message *m, const char *what)
{
	uint64_t now = clock_monotonic_us();

	sq->md5_wrong++;
	if (sq->md5_log_us == 0 || now - sq->md5_log_us > LOG_EVERY_US) {
		sq->md5_log_us = now;
		log_error(&((struct log_fields){ .event = EVENT_MESSAGE_STUCK,
		    .queue = sq->queue->name,
		    .message = m->name }), "what came does not have the %s that "
		    "the service gave with it: it is not run, and received "
		    "again in %u s", what, WRONG_MD5_SECONDS);
	}
	sqs_stray(sq, m, WRONG_MD5_SECONDS);
}

static void
deliver(struct sqs_queue *sq, struct message *m, uint64_t until_us)
{
	const struct tried *tried = tried_find(&sq->tried, m->name);
	const struct sqs_receipt *r = m->receipt_data;

	m->lease_until_us = until_us;
	m->crashes = tried != NULL ? tried->crashes : 0;
	if (r->misfit != NULL) {
		wrong_md5(sq, m, r->misfit);
	} else if (sq->stopping) {
		sqs_stray(sq, m, 0);
	} else {
		if (sq->credit != 0)
			sq->credit--;
		queue_deliver(sq->queue, m);
	}
}

/* How many there were. What is no message is an error of the queue, after the
   others were delivered. */
static unsigned
deliver_all(struct sqs_call *c, struct slice answer)
{
	struct sqs_queue *sq = c->sq;
	struct error err = ERROR_INIT;
	uint64_t lease = sqs_visibility(sq) * USEC_PER_SEC;
	struct chunk *chunk = chunk_new();
	LIST_HEAD(messages);
	struct list *l;
	uint64_t until;
	unsigned n = 0;

	/* It began when the service wrote the answer, which we do not know. */
	until = clock_monotonic_us() + lease - MIN(lease / 10, USEC_PER_SEC);
	(void)sqs_read_messages(c, chunk, answer, &messages, &err);
	while ((l = list_pop_front(&messages)) != NULL) {
		deliver(sq, list_entry(l, struct message, link), until);
		n++;
	}
	chunk_unref(chunk);
	if (error_is_set(&err))
		sqs_fail(sq, &err);
	return n;
}

/* ---- receivers ---- */

/* Less is asked for, and nobody is told that the queue is down. */
static void
throttled(struct sqs_queue *sq, const struct error *err)
{
	if (sq->throttles == 0)
		log_warning(LOG_QUEUE_EVENT(sq->queue->name,
		    EVENT_QUEUE_SLOWED),
		    "receiving slows down: "
		    "%s (%s)", err->text, err->code);
	sq->throttle = *err;
	sq->receivers = sq->receivers_min;
	sq->throttles++;
	timer_arm(sq->loop, &sq->throttle_timer, THROTTLE_MIN_US +
	    http_retry_delay_us(sq->throttles, THROTTLE_MIN_US,
	    THROTTLE_MAX_US, 0));
}

static void
not_throttled(struct sqs_queue *sq)
{
	if (sq->throttles == 0)
		return;
	sq->throttles = 0;
	error_clear(&sq->throttle);
	log_notice(LOG_QUEUE_EVENT(sq->queue->name, EVENT_QUEUE_RESUMED),
	    "receiving goes on as usual");
}

static void
adapt(struct sqs_queue *sq, unsigned asked, unsigned got)
{
	if (got == SQS_BATCH_MAX)
		sq->receivers = MIN(sq->receivers + 1, sq->receivers_max);
	else if (got == 0 && asked == SQS_BATCH_MAX)
		sq->receivers = MAX(sq->receivers - 1, sq->receivers_min);
}

/* Long polls that do not last, or WaitTime=0: no more than 20 a second. */
static void
empty(struct sqs_queue *sq, const struct sqs_receiver *r)
{
	uint64_t took = clock_monotonic_us() - r->asked_us;

	if (took < EMPTY_US && !timer_armed(&sq->throttle_timer))
		timer_arm(sq->loop, &sq->throttle_timer, EMPTY_US - took);
}

static void
received(struct sqs_call *c, struct slice answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	struct sqs_receiver *r = c->owner;
	unsigned asked = r->asked, n;

	sq->asked -= asked;
	r->asked = 0;
	if (err == NULL) {
		not_throttled(sq);
		n = deliver_all(c, answer);
		adapt(sq, asked, n);
		if (n == 0)
			empty(sq, r);
	} else if (err->class == ERROR_THROTTLED) {
		throttled(sq, err);
	} else if (!sq->stopping) {
		sqs_fail(sq, err);
	}
	sqs_wake(sq);
	sqs_stop_check(sq);
}

static void
receive(struct sqs_queue *sq, struct sqs_receiver *r, unsigned n)
{
	struct buffer *b = &r->call.body;

	r->asked = n;
	r->asked_us = clock_monotonic_us();
	sq->asked += n;
	r->call.extra_us = sq->wait_us;
	sqs_call_begin(&r->call, sq->queue_url);
	buffer_add_str(b, ",\"MaxNumberOfMessages\":");
	buffer_add_u64(b, n);
	buffer_add_str(b, ",\"WaitTimeSeconds\":");
	buffer_add_u64(b, sq->wait_us / USEC_PER_SEC);
	buffer_add_str(b, ",\"VisibilityTimeout\":");
	buffer_add_u64(b, sqs_visibility(sq));
	buffer_add_str(b, ",\"MessageSystemAttributeNames\":[\"All\"],"
	    "\"MessageAttributeNames\":[\"All\"]");
	sqs_call_end(&r->call);
	sqs_call_send(&r->call);
}

unsigned
sqs_polling(const struct sqs_queue *sq)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++)
		n += sq->receiver[i].asked != 0;
	return n;
}

static struct sqs_receiver *
idle_receiver(struct sqs_queue *sq)
{
	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++)
		if (sq->receiver[i].asked == 0)
			return &sq->receiver[i];
	return NULL;
}

static unsigned
held(const struct queue *q)
{
	return q->nwaiting + q->nheld + q->ndelayed + q->nrunning +
	    q->nsettling;
}

/* Requests cost money and a round trip: few messages wait for more, unless
   there is nothing else to do. */
static bool
worth_it(struct sqs_queue *sq, unsigned room)
{
	if (room >= SQS_BATCH_MAX || sq->gathered || held(sq->queue) == 0)
		return true;
	if (!timer_armed(&sq->gather_timer))
		timer_arm(sq->loop, &sq->gather_timer, GATHER_US);
	return false;
}

static void
pull_task_run(struct task *t)
{
	struct sqs_queue *sq = t->owner;
	unsigned busy = sqs_polling(sq), room;

	if (!sqs_is_up(sq) || sq->stopping || timer_armed(&sq->throttle_timer))
		return;
	while (busy < sq->receivers) {
		room = sq->credit > sq->asked ? sq->credit - sq->asked : 0;
		if (room == 0 || !worth_it(sq, room))
			return;
		sq->gathered = false;
		receive(sq, idle_receiver(sq), MIN(room, SQS_BATCH_MAX));
		busy++;
	}
}

static void
gather_timer_fired(struct timer *t)
{
	struct sqs_queue *sq = t->owner;

	sq->gathered = true;
	sqs_wake(sq);
}

static void
throttle_timer_fired(struct timer *t)
{
	sqs_wake(t->owner);
}

void
sqs_receive_stop(struct sqs_queue *sq)
{
	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++) {
		sqs_call_cancel(&sq->receiver[i].call);
		sq->receiver[i].asked = 0;
	}
	sq->asked = 0;
	timer_cancel(sq->loop, &sq->gather_timer);
	timer_cancel(sq->loop, &sq->throttle_timer);
}

void
sqs_receive_init(struct sqs_queue *sq)
{
	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++)
		sqs_call_init_text(&sq->receiver[i].call, sq, "ReceiveMessage",
		    received, &sq->receiver[i]);
	task_init(&sq->pull_task, LOOP_BATCH, "sqs pull", pull_task_run, sq);
	timer_init(&sq->gather_timer, "sqs gather", gather_timer_fired, sq);
	timer_init(&sq->throttle_timer, "sqs throttle", throttle_timer_fired,
	    sq);
}

void
sqs_receive_done(struct sqs_queue *sq)
{
	sqs_receive_stop(sq);
	for (unsigned i = 0; i < SQS_RECEIVERS_MAX; i++)
		sqs_call_done(&sq->receiver[i].call);
	task_cancel(&sq->pull_task);
}
