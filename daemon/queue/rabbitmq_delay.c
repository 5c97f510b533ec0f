/*
 * Where retries wait.  A queue hands on what has expired only at its head
 * (rabbitmq.com, "Time-To-Live and Expiration", caveats), so each delay has a
 * queue of its own, with one TTL for all: the steps.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "queue/rabbitmq_impl.h"

#define S	USEC_PER_SEC
#define M	(60 * S)
#define H	(60 * M)
#define D	(24 * H)

static const uint64_t ladder[] = { 100000, 200000, 500000, S, 2 * S, 5 * S,
    10 * S, 20 * S, 30 * S, M, 2 * M, 5 * M, 10 * M, 20 * M, 30 * M, H, 2 * H,
    6 * H, 12 * H, D, 2 * D, 5 * D, 10 * D, 20 * D, 30 * D };

/* "2s", "1min", "1500ms": the largest unit that divides it. */
static char *
step_name(const char *queue, uint64_t us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
		{ "d", D }, { "h", H }, { "min", M }, { "s", S },
		{ "ms", USEC_PER_MSEC },
	};
	size_t i = 0;

	while (us % units[i].us != 0)
		i++;
	return xasprintf("%s.bot-delay.%" PRIu64 "%s", queue,
	    us / units[i].us, units[i].name);
}

/* In its place; the same one when it is there. */
static struct rabbit_step *
step_get(struct rabbit_queue *rq, uint64_t us)
{
	struct rabbit_step *s;
	struct list *at;

	list_foreach(at, &rq->steps) {
		s = list_entry(at, struct rabbit_step, link);
		if (s->delay_us == us)
			return s;
		if (s->delay_us > us)
			break;
	}
	s = new0(struct rabbit_step);
	s->delay_us = us;
	s->queue = step_name(rq->name, us);
	list_insert_between(&s->link, at->prev, at);
	return s;
}

static uint64_t
whole_ms(uint64_t us)
{
	return (us + USEC_PER_MSEC - 1) / USEC_PER_MSEC * USEC_PER_MSEC;
}

void
rabbit_steps_init(struct rabbit_queue *rq)
{
	uint64_t min = whole_ms(rq->queue->backoff_min_us);
	uint64_t max = whole_ms(rq->queue->backoff_max_us);

	list_init(&rq->steps);
	/* All that Backoff= can ask for are there from the start: what a broker
	   learned of within its last second it may forget when it is killed,
	   messages included (seen with RabbitMQ 3.10).  A handler's own longer
	   delays are declared when they are needed. */
	(void)step_get(rq, min);
	(void)step_get(rq, max);
	for (size_t i = 0; i < ARRAY_SIZE(ladder); i++)
		if (ladder[i] > min && ladder[i] < max)
			(void)step_get(rq, ladder[i]);
}

void
rabbit_steps_done(struct rabbit_queue *rq)
{
	struct list *l;

	while ((l = list_pop_front(&rq->steps)) != NULL) {
		struct rabbit_step *s = list_entry(l, struct rabbit_step, link);

		free(s->queue);
		free(s);
	}
}

/* Of those that somebody else has declared. */
static struct rabbit_step *
declared_step(struct rabbit_queue *rq, uint64_t us)
{
	struct rabbit_step *s = NULL;
	struct list *l;

	list_foreach(l, &rq->steps) {
		s = list_entry(l, struct rabbit_step, link);
		if (s->delay_us >= us)
			return s;
	}
	return s;
}

struct rabbit_step *
rabbit_step_for(struct rabbit_queue *rq, uint64_t delay_us)
{
	uint64_t us = whole_ms(delay_us);
	uint64_t min = whole_ms(rq->queue->backoff_min_us);
	uint64_t max = whole_ms(rq->queue->backoff_max_us);
	uint64_t best = ladder[ARRAY_SIZE(ladder) - 1];

	if (us == 0)
		return NULL;
	if (rq->declare == DECLARE_NO)
		return declared_step(rq, us);
	for (size_t i = 0; i < ARRAY_SIZE(ladder); i++) {
		if (ladder[i] >= us) {
			best = ladder[i];
			break;
		}
	}
	if (min >= us && min < best)
		best = min;
	if (max >= us && max < best)
		best = max;
	return step_get(rq, best);
}
