/*
 * The backlog, by the approximate counts of GetQueueAttributes: of the queue,
 * then of its dead letters.  The age of the oldest message is a CloudWatch
 * metric and not known here.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "queue/sqs_impl.h"

static uint64_t
count(const json_t *attributes, const char *name, bool *known)
{
	const char *text = json_string_value(json_object_get(attributes,
	    name));
	uint64_t n = 0;

	*known = text != NULL && slice_to_u64(slice_of(text), &n) == 0;
	return n;
}

static void
ask(struct sqs_queue *sq, const char *url)
{
	sqs_call_begin(&sq->probe_call, url);
	buffer_add_str(&sq->probe_call.body, ",\"AttributeNames\":["
	    "\"ApproximateNumberOfMessages\","
	    "\"ApproximateNumberOfMessagesNotVisible\","
	    "\"ApproximateNumberOfMessagesDelayed\"]");
	sqs_call_end(&sq->probe_call);
	sqs_call_send(&sq->probe_call);
}

static void
answered(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	const json_t *a = json_object_get(answer, "Attributes");
	struct backlog *b = &sq->probe;
	bool known;

	if (!sqs_is_up(sq))
		return;
	if (sq->probe_dead) {
		b->dead = count(a, "ApproximateNumberOfMessages",
		    &b->dead_known);
		queue_backlog(sq->queue, b);
		return;
	}
	sq->attributes_error = err != NULL ? *err : (struct error)ERROR_INIT;
	if (err != NULL)
		return;			/* the sample grows old, and says so */
	b->waiting = count(a, "ApproximateNumberOfMessages",
	    &b->waiting_known);
	b->delayed = count(a, "ApproximateNumberOfMessagesDelayed",
	    &b->delayed_known);
	sq->not_visible = count(a, "ApproximateNumberOfMessagesNotVisible",
	    &known);
	if (sq->dead_url == NULL) {
		queue_backlog(sq->queue, b);
		return;
	}
	sq->probe_dead = true;
	ask(sq, sq->dead_url);
}

void
sqs_probe(struct queue *q)
{
	struct sqs_queue *sq = sqs_of(q);
	uint64_t now = clock_monotonic_us();

	if (!sqs_is_up(sq) || sq->stopping ||
	    sq->probe_call.state != CALL_IDLE || (sq->probed_us != 0 &&
	    now - sq->probed_us < sq->probe_every_us))
		return;
	sq->probed_us = now;
	sq->probe = (struct backlog){ .waiting = 0 };
	sq->probe_dead = false;
	ask(sq, sq->queue_url);
}

void
sqs_probe_init(struct sqs_queue *sq)
{
	sqs_call_init(&sq->probe_call, sq, "GetQueueAttributes", answered, sq);
}

void
sqs_probe_done(struct sqs_queue *sq)
{
	sqs_call_done(&sq->probe_call);
}
