/*
 * One StreamingPull.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/pubsub_impl.h"

/* Google's libraries send a request so often; the service ends what is silent
   on our side. */
#define ALIVE_US	(30 * USEC_PER_SEC)
/* After a half close the service ends the stream; it may take its time, and
   what it still delivers until then would wait for its lease to end. */
#define END_US		USEC_PER_SEC
#define LATE_US		(30 * USEC_PER_SEC)
/* A stream whose connection has stood for so long was no failure. */
#define GOOD_US		USEC_PER_SEC

/* ---- what is out on it ---- */

static struct pubsub_stream *
at(struct pubsub_queue *pq, struct pubsub_place place)
{
	struct pubsub_stream *s = &pq->stream[place.stream];

	return place.number != 0 && s->number == place.number ? s : NULL;
}

static void
add(unsigned *to, int n)
{
	BUG_ON(n < 0 && *to < (unsigned)-n);
	*to = (unsigned)((int)*to + n);
}

void
pubsub_out(struct pubsub_queue *pq, struct pubsub_place place, int n)
{
	struct pubsub_stream *s = at(pq, place);

	if (s != NULL)
		add(&s->outstanding, n);
}

void
pubsub_delayed(struct pubsub_queue *pq, struct pubsub_place place, int n)
{
	struct pubsub_stream *s = at(pq, place);

	if (s != NULL)
		add(&s->delayed, n);
}

/* ---- life ---- */

static void
add_metadata(struct grpc_call *g, struct grpc_metadata *metadata)
{
	struct pubsub_stream *s = g->owner;

	pubsub_add_metadata(s->pq, metadata, &s->generation);
}

static void
answers(struct pubsub_stream *s)
{
	struct pubsub_queue *pq = s->pq;

	pq->stream_corrected = false;
	if (pq->state == PUBSUB_PROVING)
		pubsub_proven(pq);
}

static void
on_open(struct grpc_call *g)
{
	answers(g->owner);
}

static void
on_message(struct grpc_call *g, struct slice message)
{
	struct pubsub_stream *s = g->owner;
	struct pubsub_queue *pq = s->pq;
	struct error err;

	s->bytes += message.n;
	s->last_us = loop_now_us(pq->loop);
	answers(s);
	if (pubsub_response(pq, s, message, &err) < 0)
		pubsub_fail(pq, &err);
	task_schedule(pq->loop, &pq->window_task);
}

static void
ended(struct pubsub_stream *s)
{
	struct pubsub_queue *pq = s->pq;

	timer_cancel(pq->loop, &s->good_timer);
	timer_cancel(pq->loop, &s->alive_timer);
	timer_cancel(pq->loop, &s->end_timer);
	s->state = STREAM_IDLE;
	if (pubsub_streams_open(pq) == 0)
		pubsub_streams_closed(pq);
}

void
pubsub_stream_good(struct pubsub_stream *s)
{
	s->good = true;
	s->pq->stream_failed = false;
}

static void
good_timer_fired(struct timer *t)
{
	struct pubsub_stream *s = t->owner;
	struct grpc_channel_stats stats;

	grpc_channel_get_stats(s->pq->channel, &stats);
	if (stats.connected)
		pubsub_stream_good(s);
	else
		timer_arm(s->pq->loop, t, GOOD_US);
}

/* The token may have been taken back before its time. */
static bool
correct(struct pubsub_stream *s, unsigned code)
{
	struct pubsub_queue *pq = s->pq;

	if (code != GRPC_UNAUTHENTICATED || pq->token == NULL ||
	    pq->stream_corrected)
		return false;
	pq->stream_corrected = true;
	google_token_rejected(pq->token, s->generation);
	return true;
}

/* The service ends streams as it likes; two that end at once are too many.  A
   PING that was not answered is an outage, whatever came before. */
static bool
is_no_outage(struct pubsub_stream *s, const struct grpc_status *status,
    const struct error *err)
{
	bool again = s->good || (status->from_server &&
	    s->pq->state == PUBSUB_UP && !s->pq->stream_failed);

	s->pq->stream_failed = !s->good;
	return again && pubsub_retryable(status->code) &&
	    strcmp(err->code, "keepalive_timeout") != 0;
}

static void
on_done(struct grpc_call *g, const struct grpc_status *status,
    const struct error *err)
{
	struct pubsub_stream *s = g->owner;
	struct pubsub_queue *pq = s->pq;
	bool ours = s->state == STREAM_ENDING;
	struct error e;

	ended(s);
	pubsub_wake(pq);
	if (pq->stopping) {
		pubsub_stop_check(pq);
		return;
	}
	if (ours || correct(s, status->code))
		return;
	pubsub_error(pq, PUBSUB_STREAMING_PULL, status, err, &e);
	if (is_no_outage(s, status, &e)) {
		log_debug(LOG_QUEUE(pq->queue->name), "a stream has ended, and "
		    "is opened again: %s (%s)", e.text, e.code);
		return;
	}
	pq->doubted = true;
	pubsub_fail(pq, &e);
}

void
pubsub_stream_open(struct pubsub_stream *s, unsigned window)
{
	static uint32_t last;
	struct pubsub_queue *pq = s->pq;
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	BUG_ON(s->state != STREAM_IDLE);
	s->state = STREAM_ON;
	s->number = ++last != 0 ? last : ++last;
	s->window = window;
	s->outstanding = s->delayed = 0;
	s->deadline = pubsub_deadline(pq);
	s->last_us = clock_monotonic_us();
	s->good = false;
	s->grpc = (struct grpc_call){
		.path = PUBSUB_STREAMING_PULL,
		.add_metadata = add_metadata,
		.on_open = on_open,
		.on_message = on_message,
		.on_done = on_done,
		.owner = s,
	};
	pq->streams_opened++;
	pubsub_pack_open(&b, pq, window, s->deadline);
	grpc_call_start(pq->channel, &s->grpc);
	grpc_call_send(&s->grpc, buffer_slice(&b), false);
	timer_arm(pq->loop, &s->good_timer, GOOD_US);
	timer_arm(pq->loop, &s->alive_timer, ALIVE_US);
}

static void
alive_timer_fired(struct timer *t)
{
	struct pubsub_stream *s = t->owner;
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	unsigned deadline = pubsub_deadline(s->pq);

	/* Beyond doubt it is the one that the service has been told. */
	pubsub_pack_alive(&b, deadline != s->deadline ? deadline : 0);
	s->deadline = deadline;
	grpc_call_send(&s->grpc, buffer_slice(&b), false);
	timer_arm(s->pq->loop, t, ALIVE_US);
}

void
pubsub_stream_end(struct pubsub_stream *s)
{
	if (s->state != STREAM_ON)
		return;
	s->state = STREAM_ENDING;
	s->late = false;
	timer_cancel(s->pq->loop, &s->alive_timer);
	grpc_call_send_end(&s->grpc);
	timer_arm(s->pq->loop, &s->end_timer, END_US);
}

static void
cancel(struct pubsub_stream *s)
{
	if (s->state == STREAM_IDLE)
		return;
	grpc_call_cancel(&s->grpc);
	ended(s);
}

static void
end_timer_fired(struct timer *t)
{
	struct pubsub_stream *s = t->owner;

	if (s->late) {
		cancel(s);
	} else {
		s->late = true;
		timer_arm(s->pq->loop, t, LATE_US);
	}
	pubsub_wake(s->pq);
	if (s->pq->stopping)
		pubsub_stop_check(s->pq);
}

/* ---- all of them ---- */

void
pubsub_streams_end(struct pubsub_queue *pq)
{
	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++)
		pubsub_stream_end(&pq->stream[i]);
}

void
pubsub_streams_cancel(struct pubsub_queue *pq)
{
	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++)
		cancel(&pq->stream[i]);
}

unsigned
pubsub_streams_open(const struct pubsub_queue *pq)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++)
		n += pq->stream[i].state != STREAM_IDLE;
	return n;
}

void
pubsub_streams_init(struct pubsub_queue *pq)
{
	for (unsigned i = 0; i < PUBSUB_STREAMS_MAX; i++) {
		struct pubsub_stream *s = &pq->stream[i];

		s->pq = pq;
		timer_init(&s->good_timer, "pubsub good", good_timer_fired, s);
		timer_init(&s->alive_timer, "pubsub alive", alive_timer_fired,
		    s);
		timer_init(&s->end_timer, "pubsub end", end_timer_fired, s);
	}
}

void
pubsub_streams_done(struct pubsub_queue *pq)
{
	pubsub_streams_cancel(pq);
}
