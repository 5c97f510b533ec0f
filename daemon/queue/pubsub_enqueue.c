/*
 * New messages, for botctl: published to the subscription's topic.
 */
#include "base/alloc.h"
#include "queue/pubsub_impl.h"


struct enqueueing {
	struct list link;		/* of pq->enqueues */
	struct enqueue_job *job;
	struct pubsub_call call;
	struct error error;		/* set: to be told from the task */
};

static void
finish(struct enqueueing *e, struct slice id, const struct error *err)
{
	struct enqueue_job *job = e->job;
	struct error copy;

	if (err != NULL)
		copy = *err;
	list_remove(&e->link);
	pubsub_call_done(&e->call);
	job->done(job, id, err != NULL ? &copy : NULL);
	free(e);
}

static void
published(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct chunk *chunk = chunk_new();
	struct slice id = { NULL, 0 };
	struct error malformed;

	if (err == NULL && pubsub_published(answer, chunk, &id, &malformed) < 0)
		err = &malformed;
	finish(c->owner, id, err);
	chunk_unref(chunk);
}

static struct slice
ordering_key(const struct enqueue_job *job)
{
	for (size_t i = 0; i < job->nattributes; i++)
		if (slice_is(job->attributes[i].name, "pubsub-ordering-key"))
			return job->attributes[i].value;
	return (struct slice){ NULL, 0 };
}

void
pubsub_enqueue(struct queue *q, struct enqueue_job *job)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct enqueueing *e = new0(struct enqueueing);
	struct pubsub_copy copy = {
		.body = job->body,
		.ordering_key = ordering_key(job),
		.attributes = job->attributes,
		.nattributes = job->nattributes,
	};

	e->job = job;
	list_push_back(&pq->enqueues, &e->link);
	pubsub_call_init(&e->call, pq, PUBSUB_PUBLISH, published, e);
	if (!pubsub_is_up(pq) || pq->stopping)
		error_set(&e->error, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
	else if (pq->topic == NULL)
		error_set(&e->error, ERROR_REJECTED, "no_topic", "the topic of "
		    "the subscription is not known: set Topic=");
	if (error_is_set(&e->error)) {
		task_schedule(pq->loop, &pq->answer_task);
		return;
	}
	pubsub_pack_publish(&e->call.body, pq->topic, &copy);
	pubsub_call_send(&e->call);
}

void
pubsub_enqueue_answer(struct pubsub_queue *pq)
{
	struct list *l;

again:
	list_foreach(l, &pq->enqueues) {
		struct enqueueing *e = list_entry(l, struct enqueueing, link);

		if (!error_is_set(&e->error))
			continue;
		finish(e, (struct slice){ NULL, 0 }, &e->error);
		goto again;
	}
}

void
pubsub_enqueue_done(struct pubsub_queue *pq, const struct error *err)
{
	struct list *l;

	while ((l = list_first(&pq->enqueues)) != NULL)
		finish(list_entry(l, struct enqueueing, link),
		    (struct slice){ NULL, 0 }, err);
}
