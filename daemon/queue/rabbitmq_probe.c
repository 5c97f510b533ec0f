/*
 * The backlog, by passive declares on the administrative channel: the queue,
 * its dead letters, and each delay queue that is known to be there.  One that
 * is missing closes the channel, which is then opened again.
 */
#include "base/alloc.h"
#include "queue/rabbitmq_impl.h"

enum { PROBE_MAIN = 0, PROBE_DEAD, PROBE_STEPS };

static void probe_next(struct rabbit_queue *);

static void
counted(struct rabbit_queue *rq, uint32_t n, bool known)
{
	struct backlog *b = &rq->probe;

	switch (rq->probe_stage) {
	case PROBE_MAIN:
		b->waiting = n;
		b->waiting_known = known;
		rq->probe_stage = PROBE_DEAD;
		break;
	case PROBE_DEAD:
		b->dead = n;
		b->dead_known = known;
		rq->probe_stage = PROBE_STEPS;
		rq->probe_at = rq->steps.next;
		break;
	default:
		b->delayed += n;
		rq->probe_at = rq->probe_at->next;
		break;
	}
}

static void
probed(struct rabbit_channel *ch, amqp_method_number_t id, const void *decoded,
    void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	const amqp_queue_declare_ok_t *ok = decoded;
	bool known = id == AMQP_QUEUE_DECLARE_OK_METHOD;

	(void)arg;
	rq->probing = false;
	if (id == 0 || !rabbit_is_up(rq))
		return;			/* not answered; asked again in time */
	counted(rq, known ? ok->message_count : 0, known);
	probe_next(rq);
}

static void
probe_admin(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;

	(void)decoded;
	(void)arg;
	rq->probing = false;
	if (id == AMQP_CHANNEL_OPEN_OK_METHOD && rabbit_is_up(rq))
		probe_next(rq);
}

static const char *
probe_queue(struct rabbit_queue *rq)
{
	const struct rabbit_step *step;

	if (rq->probe_stage == PROBE_MAIN)
		return rq->name;
	if (rq->probe_stage == PROBE_DEAD)
		return rq->dead_name;
	for (; rq->probe_at != &rq->steps; rq->probe_at = rq->probe_at->next) {
		step = list_entry(rq->probe_at, struct rabbit_step, link);
		if (step->ready)
			return step->queue;
	}
	return NULL;
}

static void
probe_next(struct rabbit_queue *rq)
{
	struct rabbit_channel *ch = rabbit_admin_channel(rq);
	const char *queue = probe_queue(rq);

	if (queue == NULL) {
		rq->probe.delayed_known = true;
		queue_backlog(rq->queue, &rq->probe);
		return;
	}
	rq->probing = true;
	if (rabbit_admin(rq, probe_admin, NULL))
		return;
	rabbit_declare(ch, queue, true, NULL, probed, NULL);
	/* A queue that is busy may be slow to count: no reason to part. */
	ch->call[ch->ncalls - 1].due_us = USEC_INFINITY;
}

void
rabbit_probe(struct queue *q)
{
	struct rabbit_queue *rq = rabbit_of(q);
	const struct rabbit_channel *ch = rabbit_admin_channel(rq);

	rabbit_management_probe(rq->management);
	if (!rabbit_is_up(rq) || rq->stopping || rq->probing ||
	    ch->state == CHANNEL_OPENING || ch->ncalls == RABBIT_CALLS)
		return;
	rq->probe = (struct backlog){ .waiting = 0 };
	rq->probe_stage = PROBE_MAIN;
	probe_next(rq);
}
