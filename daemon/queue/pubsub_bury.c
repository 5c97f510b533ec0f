/*
 * A dead letter: published to its topic, and only then acknowledged here.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/pubsub_impl.h"

#define LOG_EVERY_US	(10 * USEC_PER_SEC)

struct pubsub_bury {
	struct pubsub_call call;
	struct pubsub_op *op;
	const struct message *message;
	char *error_type, *detail;
	size_t ndetail;
	unsigned attempts, crashes;
	bool bare;			/* without words of ours: they do not fit */
};

void
pubsub_bury_done(struct pubsub_op *op)
{
	struct pubsub_bury *b = op->bury;

	if (b == NULL)
		return;
	op->bury = NULL;
	pubsub_call_done(&b->call);
	free(b->error_type);
	free(b->detail);
	free(b);
}

static void
log_failure(struct pubsub_queue *pq, const struct pubsub_bury *b,
    const struct error *err)
{
	uint64_t now = clock_monotonic_us();

	if (pq->dead_log_us != 0 && now - pq->dead_log_us < LOG_EVERY_US)
		return;
	pq->dead_log_us = now;
	log_warning(&((struct log_fields){ .event = EVENT_COPY_FAILED,
	    .queue = pq->queue->name, .message = b->message->name }),
	    "could not be published to the dead letters at %s: %s (%s); it is "
	    "tried again until its lease ends, and nothing is acknowledged "
	    "before", pq->dead_topic, err->text, err->code);
}

static void
published(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_bury *b = c->owner;
	struct pubsub_queue *pq = c->pq;
	struct pubsub_op *op = b->op;
	struct chunk *chunk = chunk_new();
	struct error malformed;
	struct slice id;

	pq->ncalls--;
	if (err == NULL && pubsub_published(answer, chunk, &id, &malformed) < 0)
		err = &malformed;
	if (err == NULL) {
		pubsub_bury_done(op);
		pubsub_op_succeeded(op);
	} else if (!b->bare && c->code == GRPC_INVALID_ARGUMENT) {
		/* Too long together with our words: then without them. */
		b->bare = true;
		pubsub_op_wait(op);
	} else {
		log_failure(pq, b, err);
		pubsub_op_failed(op, err, false);
	}
	chunk_unref(chunk);
	task_schedule(pq->loop, &pq->batch_task);
}

void
pubsub_bury(struct pubsub_op *op, const struct message *m,
    const struct settlement *s)
{
	struct pubsub_bury *b = new0(struct pubsub_bury);

	b->op = op;
	b->message = m;
	b->error_type = xstrndup(s->error_type.n != 0 ? s->error_type.p :
	    "internal", s->error_type.n != 0 ? s->error_type.n : 8);
	b->ndetail = MIN(s->detail.n, VERDICT_DETAIL_MAX);
	b->detail = xmemdup(s->detail.n != 0 ? s->detail.p : "",
	    MAX(b->ndetail, (size_t)1));
	b->attempts = s->attempt;
	b->crashes = s->crashes;
	pubsub_call_init(&b->call, op->receipt->pq, PUBSUB_PUBLISH, published,
	    b);
	op->bury = b;
	op->seconds = 0;
	pubsub_op_wait(op);
}

void
pubsub_bury_send(struct pubsub_op *op)
{
	struct pubsub_bury *b = op->bury;
	struct pubsub_queue *pq = op->receipt->pq;
	const struct message *m = b->message;
	struct pubsub_copy copy = {
		.body = m->body,
		.ordering_key = op->receipt->ordering_key,
		.attributes = m->attributes,
		.nattributes = m->nattributes,
		.queue = slice_of(pq->queue->name),
		.name = m->name,
		.attempts = b->attempts,
		.crashes = b->crashes,
	};

	if (!b->bare) {
		copy.error_type = slice_of(b->error_type);
		copy.detail = (struct slice){ b->detail, b->ndetail };
	}
	list_remove(&op->again.link);
	list_push_back(&pq->burying, &op->again.link);
	pubsub_pack_publish(&b->call.body, pq->dead_topic, &copy);
	op->asked_us = clock_monotonic_us();
	pq->ncalls++;
	pubsub_call_send(&b->call);
}

