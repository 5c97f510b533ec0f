/*
 * New messages, for botctl.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/random.h"
#include "queue/sqs_impl.h"

struct enqueueing {
	struct list link;		/* of sq->enqueues */
	struct enqueue_job *job;
	struct sqs_call call;
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
	sqs_call_done(&e->call);
	job->done(job, id, err != NULL ? &copy : NULL);
	free(e);
}

static void
sent(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	const char *id = json_string_value(json_object_get(answer,
	    "MessageId"));
	struct error malformed;

	err = sqs_send_error(answer, err, &malformed);
	finish(c->owner, slice_of(id), err);
}

static struct slice
attribute(const struct enqueue_job *job, const char *name)
{
	for (size_t i = 0; i < job->nattributes; i++)
		if (slice_is(job->attributes[i].name, name))
			return job->attributes[i].value;
	return (struct slice){ NULL, 0 };
}

/* Our own names for what is no message attribute. */
static bool
is_system(struct slice name)
{
	return name.n > 4 && memcmp(name.p, "sqs-", 4) == 0;
}

static void
attributes_json(struct buffer *b, const struct enqueue_job *job)
{
	size_t n = 0;

	buffer_add_char(b, '{');
	for (size_t i = 0; i < job->nattributes; i++) {
		if (is_system(job->attributes[i].name))
			continue;
		if (n++ != 0)
			buffer_add_char(b, ',');
		json_add_string(b, job->attributes[i].name);
		buffer_add_str(b, ":{\"DataType\":\"String\","
		    "\"StringValue\":");
		json_add_string(b, job->attributes[i].value);
		buffer_add_char(b, '}');
	}
	buffer_add_char(b, '}');
}

void
sqs_enqueue(struct queue *q, struct enqueue_job *job)
{
	struct sqs_queue *sq = sqs_of(q);
	struct enqueueing *e = new0(struct enqueueing);
	_cleanup_buffer_ struct buffer attributes = BUFFER_INIT;
	struct sqs_sending sending;
	char unique[33];

	e->job = job;
	list_push_back(&sq->enqueues, &e->link);
	sqs_call_init(&e->call, sq, "SendMessage", sent, e);
	if (!sqs_is_up(sq) || sq->stopping) {
		error_set(&e->error, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
		task_schedule(sq->loop, &sq->answer_task);
		return;
	}
	random_hex(unique, sizeof(unique) - 1);
	attributes_json(&attributes, job);
	sending = (struct sqs_sending){
		.body = job->body,
		.attributes = buffer_slice(&attributes),
		.group = attribute(job, "sqs-MessageGroupId"),
		.deduplication = attribute(job, "sqs-MessageDeduplicationId"),
		.fifo = sq->fifo,
	};
	if (sending.deduplication.n == 0)
		sending.deduplication = slice_of(unique);
	sqs_call_begin(&e->call, sq->queue_url);
	sqs_add_sending(sq, &e->call.body, &sending);
	sqs_call_end(&e->call);
	sqs_call_send(&e->call);
}

void
sqs_enqueue_answer(struct sqs_queue *sq)
{
	struct list *l;

again:
	list_foreach(l, &sq->enqueues) {
		struct enqueueing *e = list_entry(l, struct enqueueing, link);

		if (!error_is_set(&e->error))
			continue;
		finish(e, (struct slice){ NULL, 0 }, &e->error);
		goto again;
	}
}

void
sqs_enqueue_done(struct sqs_queue *sq, const struct error *err)
{
	struct list *l;

	while ((l = list_first(&sq->enqueues)) != NULL)
		finish(list_entry(l, struct enqueueing, link),
		    (struct slice){ NULL, 0 }, err);
}
