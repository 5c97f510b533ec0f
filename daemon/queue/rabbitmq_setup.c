/*
 * Between connecting and consuming: channels, and the queues that must be
 * there.  One declare is on its way at a time, since one that fails takes the
 * channel with it and whatever else was asked there.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "queue/rabbitmq_impl.h"

enum {
	STAGE_MAIN = 0,
	STAGE_DEAD,
	STAGE_STEPS,
};

static void setup_next(struct rabbit_queue *);

/* ---- declaring ---- */

static amqp_table_entry_t
text_argument(const char *key, const char *value)
{
	return (amqp_table_entry_t){
		.key = amqp_cstring_bytes(key),
		.value = {
			.kind = AMQP_FIELD_KIND_UTF8,
			.value.bytes = amqp_cstring_bytes(value),
		},
	};
}

static amqp_table_entry_t
number_argument(const char *key, int64_t value)
{
	return (amqp_table_entry_t){
		.key = amqp_cstring_bytes(key),
		.value = {
			.kind = AMQP_FIELD_KIND_I64,
			.value.i64 = value,
		},
	};
}

void
rabbit_declare(struct rabbit_channel *ch, const char *queue, bool passive,
    const struct rabbit_step *step, rabbit_reply_fn *fn, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	bool quorum = rq->declare == DECLARE_QUORUM;
	amqp_table_entry_t argument[8];
	int n = 0;
	amqp_queue_declare_t declare = {
		.queue = amqp_cstring_bytes(queue),
		.passive = passive,
		.durable = 1,
	};

	if (!passive) {
		argument[n++] = text_argument("x-queue-type", quorum ?
		    "quorum" : "classic");
		/* From 4.0 on 20 returns would end a message's life. */
		if (quorum && ch->conn->version >= 40000)
			argument[n++] = number_argument("x-delivery-limit", -1);
	}
	if (!passive && step != NULL) {
		argument[n++] = number_argument("x-message-ttl",
		    (int64_t)(step->delay_us / USEC_PER_MSEC));
		argument[n++] = text_argument("x-dead-letter-exchange", "");
		argument[n++] = text_argument("x-dead-letter-routing-key",
		    rq->name);
		/* The only way in which the broker loses none of them when
		   it hands them back (rabbitmq.com, "Quorum Queues",
		   at-least-once dead lettering). */
		if (quorum) {
			argument[n++] = text_argument("x-dead-letter-strategy",
			    "at-least-once");
			argument[n++] = text_argument("x-overflow",
			    "reject-publish");
		}
	}
	declare.arguments = (amqp_table_t){ n, argument };
	rabbit_call(ch, AMQP_QUEUE_DECLARE_METHOD, &declare,
	    AMQP_QUEUE_DECLARE_OK_METHOD, 0, fn, arg);
}

static void
admin_opened(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	(void)decoded;
	(void)arg;
	/* Jobs may wait for a queue that could not be declared meanwhile. */
	if (id == AMQP_CHANNEL_OPEN_OK_METHOD)
		task_schedule(ch->conn->rq->loop, &ch->conn->rq->batch_task);
}

bool
rabbit_admin(struct rabbit_queue *rq, rabbit_reply_fn *fn, void *arg)
{
	struct rabbit_channel *ch = rabbit_admin_channel(rq);

	if (ch->state != CHANNEL_CLOSED)
		return false;
	rabbit_channel_open(ch, fn != NULL ? fn : admin_opened, arg);
	ch->expendable = true;
	return true;
}

/* ---- what is missing ---- */

static void
note_missing(struct rabbit_queue *rq, const char *queue,
    const struct rabbit_step *step)
{
	char how[256] = "";

	if (step != NULL)
		snprintf(how, sizeof(how), " (x-message-ttl=%" PRIu64
		    ", x-dead-letter-exchange=\"\", "
		    "x-dead-letter-routing-key=%s)",
		    step->delay_us / USEC_PER_MSEC, rq->name);
	if (!rq->missing_told)
		log_error(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_SETUP),
		    "queue %s is missing: "
		    "declare it, durable%s, or set Declare=", queue, how);
	buffer_printf(&rq->missing, "%s%s", rq->nmissing++ != 0 ? ", " : "",
	    queue);
}

/* False when nothing more can be done on this connection. */
static bool
declared(struct rabbit_queue *rq, amqp_method_number_t id,
    const void *decoded, const char *queue, const struct rabbit_step *step)
{
	const amqp_channel_close_t *close = decoded;
	struct error err;

	if (id == 0 || rabbit_failing(rq))
		return false;
	if (id == AMQP_QUEUE_DECLARE_OK_METHOD)
		return true;
	if (close->reply_code == AMQP_NOT_FOUND && queue != rq->name) {
		note_missing(rq, queue, step);
		return true;
	}
	rabbit_close_error(decoded, &err);
	rabbit_fail(rq, &err);
	return false;
}

static void
main_declared(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)arg;
	if (!declared(rq, id, decoded, rq->name, NULL))
		return;
	rq->setup_stage = STAGE_DEAD;
	setup_next(rq);
}

static void
dead_declared(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)arg;
	if (!declared(rq, id, decoded, rq->dead_name, NULL))
		return;
	rq->setup_stage = STAGE_STEPS;
	rq->setup_at = rq->steps.next;
	setup_next(rq);
}

static void
step_declared(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_step *step = arg;

	if (!declared(rq, id, decoded, step->queue, step))
		return;
	step->ready = id == AMQP_QUEUE_DECLARE_OK_METHOD;
	rq->setup_at = rq->setup_at->next;
	setup_next(rq);
}

static void
setup_done(struct rabbit_queue *rq)
{
	struct error err;

	if (rq->nmissing == 0) {
		rq->missing_told = false;
		rabbit_set_up(rq);
		return;
	}
	rq->missing_told = true;
	error_set(&err, ERROR_REJECTED, "missing_queue", "%u queue%s missing: "
	    "declare (the log says how) or set Declare=: %s", rq->nmissing,
	    rq->nmissing == 1 ? " is" : "s are", buffer_cstr(&rq->missing));
	rabbit_fail(rq, &err);
}

static void
admin_again(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	(void)decoded;
	(void)arg;
	if (id == AMQP_CHANNEL_OPEN_OK_METHOD && !rabbit_failing(ch->conn->rq))
		setup_next(ch->conn->rq);
}

static void
setup_next(struct rabbit_queue *rq)
{
	struct rabbit_channel *ch = rabbit_admin_channel(rq);
	bool passive = rq->declare == DECLARE_NO;
	struct rabbit_step *step;

	/* A passive declare that found nothing has closed it. */
	if (rabbit_admin(rq, admin_again, NULL))
		return;
	switch (rq->setup_stage) {
	case STAGE_MAIN:
		rabbit_declare(ch, rq->name, passive, NULL, main_declared,
		    NULL);
		break;
	case STAGE_DEAD:
		rabbit_declare(ch, rq->dead_name, passive, NULL, dead_declared,
		    NULL);
		break;
	default:
		if (rq->setup_at == &rq->steps) {
			setup_done(rq);
			break;
		}
		step = list_entry(rq->setup_at, struct rabbit_step, link);
		rabbit_declare(ch, step->queue, passive, step, step_declared,
		    step);
		break;
	}
}

/* ---- channels ---- */

static void
one_more_open(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	if (id == 0 || rabbit_failing(rq))
		return;
	if (--rq->setup_open == 0)
		setup_next(rq);
}

void
rabbit_setup(struct rabbit_queue *rq)
{
	struct rabbit_channel *publish = rabbit_publish_channel(rq);
	struct list *l;

	list_foreach(l, &rq->steps) {
		struct rabbit_step *s = list_entry(l, struct rabbit_step, link);

		s->ready = s->declaring = false;
	}
	buffer_clear(&rq->missing);
	rq->nmissing = 0;
	rq->setup_stage = STAGE_MAIN;
	rq->setup_open = 4;
	rq->sequence = 0;
	rabbit_channel_open(rabbit_consume_channel(rq), one_more_open, NULL);
	(void)rabbit_admin(rq, one_more_open, NULL);
	rabbit_channel_open(publish, one_more_open, NULL);
	publish->on_content = rabbit_returned;
	rabbit_call(publish, AMQP_CONFIRM_SELECT_METHOD,
	    &(amqp_confirm_select_t){ 0 }, AMQP_CONFIRM_SELECT_OK_METHOD, 0,
	    one_more_open, NULL);
}

/* ---- a step that is needed for the first time ---- */

static void
late_step_declared(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_step *step = arg;

	step->declaring = false;
	/* The channel went with somebody else's question: once more. */
	if (id == 0 && rabbit_is_up(rq))
		(void)rabbit_admin(rq, NULL, NULL);
	if (!declared(rq, id, decoded, step->queue, step))
		return;
	step->ready = true;
	rabbit_publish_flush(rq);
}

static void
admin_for_step(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_step *step = arg;

	(void)decoded;
	step->declaring = false;
	if (id == AMQP_CHANNEL_OPEN_OK_METHOD && !rabbit_failing(ch->conn->rq))
		rabbit_step_declare(ch->conn->rq, step);
}

void
rabbit_step_declare(struct rabbit_queue *rq, struct rabbit_step *step)
{
	struct rabbit_channel *ch = rabbit_admin_channel(rq);

	if (step->declaring || step->ready)
		return;
	/* While it is opened again, or full: asked for anew by the next flush. */
	if (ch->state == CHANNEL_OPENING || ch->ncalls == RABBIT_CALLS)
		return;
	step->declaring = true;
	if (rabbit_admin(rq, admin_for_step, step))
		return;
	rabbit_declare(ch, step->queue, false, step, late_step_declared, step);
}
