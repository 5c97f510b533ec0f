/*
 * How many messages may be out, on how many streams, and for how long.
 *
 * The engine says how many more messages it will take; the service wants a
 * number when a stream begins and keeps it while the stream lives.  So streams
 * whose windows no longer fit are ended in order and opened anew.  With
 * Prefetch= the window is that number, and streams are only ended when nothing
 * is wanted while the service might still send.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/pubsub_impl.h"

#define GROW_AFTER_US	(20 * USEC_PER_MSEC)
#define SHRINK_AFTER_US	USEC_PER_SEC
#define IDLE_AFTER_US	(100 * USEC_PER_MSEC)
#define RATE_US		USEC_PER_SEC
#define SLOW_AFTER_US	(60 * USEC_PER_SEC)	/* less streams then */
#define PROVING_WINDOW	10u
/* What is held is measured anew after so many. */
#define HELD_MIN	100u
#define HELD_MAX	10000u
/* Messages wait at the service, and the stream is silent: it is opened anew. */
#define SILENT_US	(120 * USEC_PER_SEC)

/* ---- leases ---- */

unsigned
pubsub_deadline(const struct pubsub_queue *pq)
{
	unsigned min = pq->facts.exactly_once ? PUBSUB_EXACTLY_ONCE_MIN :
	    PUBSUB_DEADLINE_MIN;
	uint64_t seconds = pq->queue->lease_us / USEC_PER_SEC;

	return (unsigned)MIN(MAX(seconds, (uint64_t)min),
	    (uint64_t)PUBSUB_DEADLINE_MAX);
}

/* The 99th percentile of how long messages are held (as Google's libraries do
   it): few leases then must be renewed, and none is long for nothing. */
static void
adapt_lease(struct pubsub_queue *pq)
{
	uint64_t p99;

	if (pq->fixed_lease || pq->held.count < HELD_MIN)
		return;
	p99 = histogram_percentile(&pq->held, 99);
	pq->queue->lease_us = p99 + USEC_PER_SEC;
	pq->queue->lease_us = pubsub_deadline(pq) * USEC_PER_SEC;
	if (pq->held.count > HELD_MAX)
		histogram_clear(&pq->held);
}

/* ---- sums ---- */

struct sums {
	unsigned on, ending;
	unsigned window, outstanding, delayed, free;
};

static struct sums
sums_of(const struct pubsub_queue *pq)
{
	struct sums sum = { .on = 0 };

	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++) {
		const struct pubsub_stream *s = &pq->stream[i];

		sum.ending += s->state == STREAM_ENDING && !s->late;
		if (s->state != STREAM_ON)
			continue;
		sum.on++;
		sum.window += s->window;
		sum.outstanding += s->outstanding;
		sum.delayed += s->delayed;
		sum.free += s->window > s->outstanding ?
		    s->window - s->outstanding : 0;
	}
	return sum;
}

static bool
fixed(const struct pubsub_queue *pq)
{
	return pq->queue->prefetch != 0;
}

static unsigned
most(const struct pubsub_queue *pq)
{
	return fixed(pq) ? MIN(pq->queue->prefetch, pq->max_outstanding) :
	    pq->max_outstanding;
}

/* For new streams, on which what older ones have delivered does not count: up
   to twice of what is wanted now, or they would have to grow again at once. */
static unsigned
first_window(const struct pubsub_queue *pq)
{
	unsigned held = pq->nreceipts;

	if (fixed(pq))
		return most(pq) > held ? most(pq) - held : 0;
	return MIN(pq->credit + MIN(pq->credit, held), most(pq));
}

/* ---- does it fit? ---- */

static void
look_again(struct pubsub_queue *pq, uint64_t at_us)
{
	struct timer *t = &pq->window_timer;

	if (!timer_armed(t) || timer_due_us(t) > at_us)
		timer_arm_at(pq->loop, t, at_us);
}

/* True once the condition has held for so long; *since is 0 while it does
   not. */
static bool
lasted(struct pubsub_queue *pq, bool condition, uint64_t *since,
    uint64_t after_us)
{
	uint64_t now = loop_now_us(pq->loop);

	if (!condition) {
		*since = 0;
		return false;
	}
	if (*since == 0)
		*since = now;
	if (now - *since >= after_us)
		return true;
	look_again(pq, *since + after_us);
	return false;
}

/* Nothing is wanted, but the service may send. */
static bool
is_idle(struct pubsub_queue *pq, const struct sums *sum)
{
	bool idle = pq->credit == 0 && sum->free != 0;

	/* What is given back comes again on an open stream. */
	if (pq->credit == 0 && pq->queue->paused != 0)
		return true;
	return lasted(pq, idle, &pq->idle_since_us, IDLE_AFTER_US);
}

/* Retries that wait at the service fill the window of the stream that they
   came by, but not that of the next one. */
static bool
is_too_small(struct pubsub_queue *pq, const struct sums *sum)
{
	bool small = pq->credit > sum->free + MAX(sum->window / 2, 1u) &&
	    (sum->window < most(pq) || sum->delayed >= sum->window / 2);

	return lasted(pq, small, &pq->small_since_us, GROW_AFTER_US);
}

static bool
is_too_large(struct pubsub_queue *pq, const struct sums *sum)
{
	bool large = fixed(pq) ? sum->window > most(pq) :
	    pq->credit + sum->outstanding < sum->window / 3;

	return lasted(pq, large, &pq->large_since_us, SHRINK_AFTER_US);
}

/* ---- opening and ending ---- */

static void
open_missing(struct pubsub_queue *pq, const struct sums *sum)
{
	unsigned total = first_window(pq), missing, each;

	if (pq->state == PUBSUB_PROVING)
		total = MAX(MIN(pq->last_window, most(pq)), PROVING_WINDOW);
	else if (pq->credit == 0)
		return;
	if (total == 0 || sum->on >= pq->nstreams)
		return;
	missing = pq->nstreams - sum->on;
	each = MAX(total / pq->nstreams, 1u);
	/* Beside others there may be no room: then all of them begin anew. */
	if (sum->on != 0 && sum->window + each * missing > most(pq)) {
		pubsub_streams_end(pq);
		return;
	}
	pq->last_window = total;
	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX && missing != 0; i++) {
		if (pq->stream[i].state != STREAM_IDLE)
			continue;
		pubsub_stream_open(&pq->stream[i], each);
		missing--;
	}
}

static void
window_task_run(struct task *t)
{
	struct pubsub_queue *pq = t->owner;
	struct sums sum;

	if ((pq->state != PUBSUB_UP && pq->state != PUBSUB_PROVING) ||
	    pubsub_failing(pq) || pq->stopping ||
	    list_linked(&pq->stream_waiter.link))
		return;
	sum = sums_of(pq);
	/* Those that are ended may deliver to the last. */
	if (sum.ending != 0)
		return;
	if (sum.on < pq->nstreams) {
		if (!pubsub_authorized(pq)) {
			google_token_wait(pq->token, &pq->stream_waiter);
			return;
		}
		open_missing(pq, &sum);
		return;
	}
	if (sum.on > pq->nstreams || is_idle(pq, &sum) ||
	    is_too_small(pq, &sum) || is_too_large(pq, &sum)) {
		pq->idle_since_us = pq->small_since_us = 0;
		pq->large_since_us = 0;
		pubsub_streams_end(pq);
	}
}

void
pubsub_wake(struct pubsub_queue *pq)
{
	task_schedule(pq->loop, &pq->window_task);
}

static void
window_timer_fired(struct timer *t)
{
	pubsub_wake(t->owner);
}

static void
stream_waiter_called(struct google_waiter *w, const struct error *err)
{
	struct pubsub_queue *pq = w->owner;

	if (err != NULL)
		pubsub_fail(pq, err);
	else
		pubsub_wake(pq);
}

/* ---- once a second ---- */

static void
count_streams(struct pubsub_queue *pq)
{
	uint64_t bytes = 0, now = clock_monotonic_us();
	unsigned wanted;

	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++) {
		bytes += pq->stream[i].bytes;
		pq->stream[i].bytes = 0;
	}
	wanted = (unsigned)MIN(1 + bytes / (PUBSUB_STREAM_RATE / 4 * 3),
	    (uint64_t)pq->streams_max);
	if (wanted >= pq->nstreams)
		pq->slow_since_us = 0;
	else if (pq->slow_since_us == 0)
		pq->slow_since_us = now;
	if (wanted > pq->nstreams || (pq->slow_since_us != 0 &&
	    now - pq->slow_since_us > SLOW_AFTER_US)) {
		log_debug(LOG_QUEUE(pq->queue->name), "%u streams from now on, "
		    "at %llu bytes/s", wanted, (unsigned long long)bytes);
		pq->nstreams = wanted;
		pq->slow_since_us = 0;
		pubsub_wake(pq);
	}
}

/* Google's monitoring says that messages wait, a stream is open for them, and
   nothing comes: it may be dead in a way that no PING shows. */
static void
heed_silence(struct pubsub_queue *pq)
{
	const struct backlog *b = &pq->queue->backlog;
	uint64_t now = clock_monotonic_us();

	if (b->sampled_us == 0 || !b->waiting_known || b->waiting == 0 ||
	    b->oldest_us < SILENT_US || now - b->sampled_us > SILENT_US * 2)
		return;
	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++) {
		struct pubsub_stream *s = &pq->stream[i];

		if (s->state != STREAM_ON || s->outstanding != 0 ||
		    pq->credit == 0 || now - s->last_us < SILENT_US ||
		    b->sampled_us < s->last_us + SILENT_US / 2)
			continue;
		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_QUEUE_RECOVERED), "messages wait, but the "
		    "stream has been silent for two minutes: it is opened "
		    "again");
		pubsub_stream_end(s);
	}
}

static void
rate_timer_fired(struct timer *t)
{
	struct pubsub_queue *pq = t->owner;

	timer_arm(pq->loop, t, RATE_US);
	count_streams(pq);
	adapt_lease(pq);
	heed_silence(pq);
	pubsub_receipts_sweep(pq);
}

void
pubsub_window_init(struct pubsub_queue *pq)
{
	pq->nstreams = 1;
	task_init(&pq->window_task, LOOP_BATCH, "pubsub window",
	    window_task_run, pq);
	timer_init(&pq->window_timer, "pubsub window", window_timer_fired, pq);
	timer_init(&pq->rate_timer, "pubsub rate", rate_timer_fired, pq);
	google_waiter_init(&pq->stream_waiter, stream_waiter_called, pq);
}

void
pubsub_window_done(struct pubsub_queue *pq)
{
	google_waiter_cancel(&pq->stream_waiter);
	timer_cancel(pq->loop, &pq->window_timer);
	timer_cancel(pq->loop, &pq->rate_timer);
	task_cancel(&pq->window_task);
}
