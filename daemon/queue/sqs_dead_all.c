/*
 * All dead letters at once, by the service itself: StartMessageMoveTask and
 * PurgeQueue (SQS API reference).  Where it cannot, or we may not, the caller
 * walks instead.  A task goes on at the service when nobody waits for it any
 * more.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "queue/sqs_impl.h"

#define LOOK_EVERY_US	USEC_PER_SEC
#define RATE_MAX	500u	/* MaxNumberOfMessagesPerSecond */

struct sqs_all {
	struct list link;		/* of sq->alls */
	struct sqs_queue *sq;
	struct dead_walk *walk;		/* NULL: nobody waits */
	enum dead_action action;
	unsigned rate;
	struct sqs_call call;
	struct timer timer;
	struct slice arn;		/* of the dead letters; ours */
	uint64_t count;
	struct error error;		/* to be told from the task */
	bool answer;
};

static void
all_free(struct sqs_all *a)
{
	list_remove(&a->link);
	timer_cancel(a->sq->loop, &a->timer);
	sqs_call_done(&a->call);
	free((char *)(uintptr_t)a->arn.p);
	free(a);
}

static void
tell(struct sqs_all *a, const struct error *err)
{
	if (err != NULL)
		a->error = *err;
	a->answer = true;
	task_schedule(a->sq->loop, &a->sq->answer_task);
}

void
sqs_all_answer(struct sqs_queue *sq)
{
	struct list *l;

again:
	list_foreach(l, &sq->alls) {
		struct sqs_all *a = list_entry(l, struct sqs_all, link);
		struct dead_walk *walk = a->walk;
		struct error err = a->error;
		uint64_t count = a->count;

		if (!a->answer)
			continue;
		all_free(a);
		if (walk != NULL)
			walk->on_all(walk, count, error_is_set(&err) ? &err :
			    NULL);
		goto again;
	}
}

/* Reasons to walk instead: not there, not allowed, not a dead letter queue. */
static bool
is_unsupported(const struct error *err)
{
	static const char *const codes[] = { "UnsupportedOperation",
	    "UnknownOperationException", "UnknownOperation", "InvalidAction",
	    "ResourceNotFoundException", "AccessDenied",
	    "AccessDeniedException", "InvalidParameterValue" };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (strcmp(err->code, codes[i]) == 0)
			return true;
	return false;
}

static void
refused(struct sqs_all *a, const struct error *err)
{
	struct error e = *err;

	if (is_unsupported(err))
		error_set(&e, ERROR_REJECTED, DEAD_ALL_UNSUPPORTED, "%s",
		    err->text);
	tell(a, &e);
}

static void
ask(struct sqs_all *a, const char *operation, sqs_call_fn *fn)
{
	a->call.operation = operation;
	a->call.fn = fn;
	sqs_call_send(&a->call);
}

/* ---- moving ---- */

static void
looked(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_all *a = c->owner;
	const json_t *task = json_array_get(json_object_get(answer,
	    "Results"), 0);
	const char *status = json_string_value(json_object_get(task,
	    "Status"));
	const json_t *moved = json_object_get(task,
	    "ApproximateNumberOfMessagesMoved");
	const char *why = json_string_value(json_object_get(task,
	    "FailureReason"));
	struct error e;

	if (err != NULL) {
		tell(a, err);
		return;
	}
	if (json_is_integer(moved))
		a->count = (uint64_t)MAX(json_integer_value(moved), 0);
	if (status != NULL && (strcmp(status, "RUNNING") == 0 ||
	    strcmp(status, "CREATED") == 0)) {
		timer_arm(a->sq->loop, &a->timer, LOOK_EVERY_US);
	} else if (status != NULL && strcmp(status, "COMPLETED") == 0) {
		tell(a, NULL);
	} else {
		error_set(&e, ERROR_REJECTED, "move_task", "the service's move "
		    "task ended as %s after %" PRIu64 " messages: %s",
		    status != NULL ? status : "unknown", a->count,
		    why != NULL ? why : "no reason given");
		tell(a, &e);
	}
}

static void
look(struct timer *t)
{
	struct sqs_all *a = t->owner;
	struct buffer *b = &a->call.body;

	buffer_clear(b);
	buffer_add_str(b, "{\"SourceArn\":");
	json_add_string(b, a->arn);
	buffer_add_str(b, ",\"MaxResults\":1}");
	ask(a, "ListMessageMoveTasks", looked);
}

static void
started(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_all *a = c->owner;

	(void)answer;
	if (err != NULL) {
		refused(a, err);
		return;
	}
	a->count = 0;
	look(&a->timer);
}

static void
move(struct sqs_all *a)
{
	struct buffer *b = &a->call.body;

	buffer_clear(b);
	buffer_add_str(b, "{\"SourceArn\":");
	json_add_string(b, a->arn);
	buffer_add_str(b, ",\"DestinationArn\":");
	json_add_string(b, slice_of(a->sq->queue_arn));
	if (a->rate != 0)
		buffer_printf(b, ",\"MaxNumberOfMessagesPerSecond\":%u",
		    MIN(a->rate, RATE_MAX));
	buffer_add_char(b, '}');
	ask(a, "StartMessageMoveTask", started);
}

/* ---- purging ---- */

static void
purged(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_all *a = c->owner;

	(void)answer;
	if (err != NULL)
		refused(a, err);
	else
		tell(a, NULL);
}

/* ---- both ---- */

static void
attributes_came(struct sqs_call *c, const json_t *answer,
    const struct error *err)
{
	struct sqs_all *a = c->owner;
	const json_t *attributes = json_object_get(answer, "Attributes");
	const char *arn = json_string_value(json_object_get(attributes,
	    "QueueArn"));
	const char *count = json_string_value(json_object_get(attributes,
	    "ApproximateNumberOfMessages"));
	struct error unsupported;

	if (err != NULL) {
		refused(a, err);
		return;
	}
	if (count == NULL || slice_to_u64(slice_of(count), &a->count) < 0)
		a->count = 0;
	if (a->action == DEAD_PURGE) {
		sqs_call_begin(&a->call, a->sq->dead_url);
		sqs_call_end(&a->call);
		ask(a, "PurgeQueue", purged);
	} else if (arn == NULL || a->sq->queue_arn == NULL) {
		error_set(&unsupported, ERROR_REJECTED, DEAD_ALL_UNSUPPORTED,
		    "the ARNs of the queues are not known");
		tell(a, &unsupported);
	} else {
		a->arn = slice_of(xstrdup(arn));
		move(a);
	}
}

void
sqs_dead_all(struct queue *q, struct dead_walk *walk, enum dead_action action,
    unsigned rate)
{
	struct sqs_queue *sq = sqs_of(q);
	struct sqs_all *a = new0(struct sqs_all);
	struct error err;

	a->sq = sq;
	a->walk = walk;
	a->action = action;
	a->rate = rate;
	list_push_back(&sq->alls, &a->link);
	timer_init(&a->timer, "sqs move task", look, a);
	sqs_call_init(&a->call, sq, "GetQueueAttributes", attributes_came, a);
	/* Walking says what is wrong. */
	if (!sqs_is_up(sq) || sq->stopping || sq->dead_url == NULL) {
		error_set(&err, ERROR_TRANSIENT, DEAD_ALL_UNSUPPORTED,
		    "the service cannot be reached now");
		tell(a, &err);
		return;
	}
	sqs_call_begin(&a->call, sq->dead_url);
	buffer_add_str(&a->call.body, ",\"AttributeNames\":[\"QueueArn\","
	    "\"ApproximateNumberOfMessages\"]");
	sqs_call_end(&a->call);
	sqs_call_send(&a->call);
}

void
sqs_all_close(struct sqs_queue *sq, const struct dead_walk *walk)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &sq->alls) {
		struct sqs_all *a = list_entry(l, struct sqs_all, link);

		if (walk == NULL || a->walk == walk)
			all_free(a);
	}
}
