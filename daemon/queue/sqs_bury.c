/*
 * A dead letter: sent to its queue, and only then deleted here.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/sqs_impl.h"

#define LOG_EVERY_US	(10 * USEC_PER_SEC)

static void
log_failure(struct sqs_queue *sq, const struct sqs_op *op,
    const struct error *err)
{
	uint64_t now = clock_monotonic_us();

	if (sq->dead_log_us != 0 && now - sq->dead_log_us < LOG_EVERY_US)
		return;
	sq->dead_log_us = now;
	log_warning(&((struct log_fields){ .event = EVENT_COPY_FAILED,
	    .queue = sq->queue->name,
	    .message = op->message->name }), "could not be sent to the dead "
	    "letters at %s: %s (%s); it is tried again until its lease ends, "
	    "and nothing is deleted before", sq->dead_url, err->text,
	    err->code);
}

static void
sent(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	struct sqs_op *op = c->owner;
	struct error malformed;

	err = sqs_send_error(answer, err, &malformed);
	sq->ncalls--;
	if (err == NULL) {
		sqs_op_succeeded(sq, op);
	} else if (!op->burial->bare && strcmp(err->code, "InvalidParameterValue") ==
	    0) {
		/* Too long together with our words: then without them. */
		op->burial->bare = true;
		sqs_op_wait(sq, op);
	} else {
		log_failure(sq, op, err);
		sqs_op_failed(sq, op, err);
	}
	task_schedule(sq->loop, &sq->batch_task);
}

struct sqs_burial *
sqs_burial_new(struct sqs_queue *sq, struct sqs_op *op,
    const struct settlement *s)
{
	struct sqs_burial *b = new0(struct sqs_burial);

	sqs_call_init(&b->call, sq, "SendMessage", sent, op);
	b->error_type = xstrndup(s->error_type.n != 0 ? s->error_type.p :
	    "internal", s->error_type.n != 0 ? s->error_type.n : 8);
	b->ndetail = MIN(s->detail.n, VERDICT_DETAIL_MAX);
	b->detail = xmemdup(s->detail.n != 0 ? s->detail.p : "",
	    MAX(b->ndetail, (size_t)1));
	b->attempts = s->attempt;
	b->crashes = s->crashes;
	return b;
}

void
sqs_burial_free(struct sqs_burial *b)
{
	if (b == NULL)
		return;
	sqs_call_done(&b->call);
	free(b->error_type);
	free(b->detail);
	free(b);
}

void
sqs_bury_send(struct sqs_queue *sq, struct sqs_op *op)
{
	const struct sqs_receipt *r = op->receipt;
	struct sqs_burial *b = op->burial;
	const struct message *m = op->message;
	struct sqs_sending sending = {
		.body = m->body,
		.attributes = r->attributes,
		.group = r->group,
		/* Sent twice within five minutes it is there once; not by the
		   producer's id, which other messages may have had too. */
		.deduplication = m->name,
		.first_deduplication = r->deduplication,
		.fifo = sq->dead_fifo,
		.name = m->name,
		.attempts = b->attempts,
		.crashes = b->crashes,
	};

	if (!b->bare) {
		sending.error_type = slice_of(b->error_type);
		sending.detail = (struct slice){ b->detail, b->ndetail };
	}
	list_remove(&op->again.link);
	list_push_back(&sq->burying, &op->again.link);
	sqs_call_begin(&b->call, sq->dead_url);
	sqs_add_sending(sq, &b->call.body, &sending);
	sqs_call_end(&b->call);
	op->asked_us = clock_monotonic_us();
	sq->ncalls++;
	sqs_call_send(&b->call);
}
