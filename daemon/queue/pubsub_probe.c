/*
 * The backlog, which Cloud Monitoring knows: sampled there once a minute, and
 * up to some minutes late.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/pubsub_impl.h"

#define PROBE_US	(60 * USEC_PER_SEC)

/* When, by our clock, a sample of that wall clock time was taken. */
static uint64_t
sampled_us(uint64_t wall_us)
{
	uint64_t now = clock_realtime_us(), mono = clock_monotonic_us();
	uint64_t age = now > wall_us ? now - wall_us : 0;

	return mono > age ? mono - age : 1;
}

static void
log_news(struct pubsub_queue *pq, const struct error *err, bool news)
{
	if (!news)
		return;
	if (err != NULL)
		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_BROKER_ERROR), "the backlog is not "
		    "known: %s (%s); everything else goes on", err->text,
		    err->code);
	else
		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_BROKER_ERROR),
		    "the backlog is known again");
}

static void
answered(void *owner, const struct google_backlog *b, const struct error *err,
    bool news)
{
	struct pubsub_queue *pq = owner;

	log_news(pq, err, news);
	pq->backlog_error = err != NULL ? *err : (struct error)ERROR_INIT;
	if (err != NULL)
		return;			/* the sample grows old, and says so */
	pq->probe.waiting_known = b->messages_known;
	pq->probe.waiting = b->messages;
	pq->probe.oldest_us = b->oldest_known ? b->oldest_age_us : 0;
	pq->probe.sampled_us = b->messages_known ?
	    sampled_us(b->messages_at_us) : 0;
	if (pq->dead_monitoring != NULL)
		google_monitoring_ask(pq->dead_monitoring);
	else if (b->messages_known)
		queue_backlog(pq->queue, &pq->probe);
}

static void
dead_answered(void *owner, const struct google_backlog *b,
    const struct error *err, bool news)
{
	struct pubsub_queue *pq = owner;

	(void)news;
	pq->probe.dead_known = err == NULL && b->messages_known;
	pq->probe.dead = pq->probe.dead_known ? b->messages : 0;
	if (pq->probe.waiting_known || pq->probe.dead_known)
		queue_backlog(pq->queue, &pq->probe);
}

/* "projects/P/subscriptions/S" */
static struct google_monitoring *
watch(struct pubsub_queue *pq, const char *path, google_monitoring_fn *done)
{
	const char *project = path + strlen("projects/");
	char *p = xstrndup(project, strcspn(project, "/"));
	struct google_monitoring_params params = {
		.loop = pq->loop,
		.resolver = pq->queue->resolver,
		.token = pq->monitoring_token,
		.project = p,
		.subscription = strrchr(path, '/') + 1,
		.endpoint = pq->monitoring_endpoint,
		.done = done,
		.owner = pq,
	};
	struct google_monitoring *m = google_monitoring_new(&params,
	    &pq->backlog_error);

	free(p);
	return m;
}

void
pubsub_probe_start(struct pubsub_queue *pq)
{
	struct google_token_params token = {
		.loop = pq->loop,
		.resolver = pq->queue->resolver,
		.credentials_file = pq->credentials_file,
		.audience = GOOGLE_AUDIENCE_MONITORING,
	};

	/* An emulator has no monitoring. */
	if (pq->monitoring != NULL || pq->token == NULL ||
	    (!pq->url.tls && pq->monitoring_endpoint == NULL))
		return;
	pq->monitoring_token = google_token_new(&token);
	pq->monitoring = watch(pq, pq->subscription, answered);
	if (pq->dead_from != NULL)
		pq->dead_monitoring = watch(pq, pq->dead_from, dead_answered);
}

void
pubsub_probe(struct queue *q)
{
	struct pubsub_queue *pq = pubsub_of(q);
	uint64_t now = clock_monotonic_us();

	if (pq->monitoring == NULL || !pubsub_is_up(pq) || pq->stopping ||
	    google_monitoring_busy(pq->monitoring) ||
	    (pq->dead_monitoring != NULL &&
	    google_monitoring_busy(pq->dead_monitoring)) ||
	    (pq->probed_us != 0 && now - pq->probed_us < PROBE_US))
		return;
	pq->probed_us = now;
	pq->probe = (struct backlog){ .waiting = 0 };
	google_monitoring_ask(pq->monitoring);
}

void
pubsub_probe_cancel(struct pubsub_queue *pq)
{
	if (pq->monitoring != NULL)
		google_monitoring_cancel(pq->monitoring);
	if (pq->dead_monitoring != NULL)
		google_monitoring_cancel(pq->dead_monitoring);
}

void
pubsub_probe_done(struct pubsub_queue *pq)
{
	google_monitoring_free(pq->monitoring);
	google_monitoring_free(pq->dead_monitoring);
	google_token_unref(pq->monitoring_token);
}
