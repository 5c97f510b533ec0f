/*
 * What must be known before the first stream: the endpoint, a token, the
 * project, the subscription, and where dead letters go.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "queue/pubsub_impl.h"

#define ENDPOINT	"https://pubsub.googleapis.com"

/* ---- endpoint and credentials ---- */

static bool
find_endpoint(struct pubsub_queue *pq, struct error *err)
{
	const char *emulator = getenv("PUBSUB_EMULATOR_HOST");

	if (pq->url_text != NULL)
		return true;
	if (pq->endpoint != NULL)
		pq->url_text = xstrdup(pq->endpoint);
	else if (emulator != NULL && *emulator != '\0')
		pq->url_text = xasprintf("http://%s", emulator);
	else
		pq->url_text = xstrdup(ENDPOINT);
	if (http_url_parse(&pq->url, pq->url_text, err) == 0)
		return true;
	free(pq->url_text);
	pq->url_text = NULL;
	return false;
}

static bool
make_channel(struct pubsub_queue *pq, struct error *err)
{
	struct grpc_channel_params params = {
		.tls = pq->url.tls,
		.tls_params = { .ca_file = pq->ca_file },
		.connect_timeout_us = pq->connect_timeout_us,
		.keepalive_us = pq->keepalive_us,
	};
	char text[sizeof(pq->url.host) + 8];

	if (pq->channel != NULL)
		return true;
	snprintf(text, sizeof(text), strchr(pq->url.host, ':') != NULL ?
	    "[%s]:%u" : "%s:%u", pq->url.host, (unsigned)pq->url.port);
	if (address_parse(&params.address, text, pq->url.port, err) < 0)
		return false;
	pq->channel = grpc_channel_new(pq->loop, pq->queue->resolver, &params,
	    err);
	return pq->channel != NULL;
}

static void
make_token(struct pubsub_queue *pq)
{
	struct google_token_params params = {
		.loop = pq->loop,
		.resolver = pq->queue->resolver,
		.credentials_file = pq->credentials_file,
		.audience = GOOGLE_AUDIENCE_PUBSUB,
	};

	if (pq->token == NULL &&
	    (pq->url.tls || pq->credentials_file != NULL))
		pq->token = google_token_new(&params);
}

/* ---- names ---- */

static const char *
project_of(const struct pubsub_queue *pq)
{
	const char *project = pq->config_project;

	if (project == NULL && pq->token != NULL)
		project = google_token_project(pq->token);
	if (project == NULL)
		project = getenv("GOOGLE_CLOUD_PROJECT");
	if (project == NULL)
		project = getenv("PUBSUB_PROJECT_ID");
	return project != NULL && *project != '\0' ? project : NULL;
}

static char *
path_of(const struct pubsub_queue *pq, const char *kind, const char *name)
{
	return strchr(name, '/') != NULL ? xstrdup(name) :
	    xasprintf("projects/%s/%s/%s", pq->project, kind, name);
}

static void
set(char **at, char *to)
{
	free(*at);
	*at = to;
}

static bool
find_names(struct pubsub_queue *pq, struct error *err)
{
	const char *project = project_of(pq), *slash;

	if (pq->subscription != NULL)
		return true;
	if (project == NULL && strchr(pq->config_subscription, '/') == NULL) {
		error_set(err, ERROR_REJECTED, "no_project", "no project is "
		    "known: set Project=, or write Subscription= as "
		    "projects/P/subscriptions/S");
		return false;
	}
	if (pq->config_project == NULL &&
	    strchr(pq->config_subscription, '/') != NULL) {
		project = pq->config_subscription + strlen("projects/");
		slash = strchr(project, '/');
		pq->project = xstrndup(project, (size_t)(slash - project));
	} else {
		pq->project = xstrdup(project);
	}
	pq->subscription = path_of(pq, "subscriptions",
	    pq->config_subscription);
	if (pq->config_topic != NULL)
		pq->topic = path_of(pq, "topics", pq->config_topic);
	if (pq->dead_letter != NULL && !pq->dead_by_broker)
		pq->dead_topic = path_of(pq, "topics", pq->dead_letter);
	if (pq->dead_subscription != NULL)
		pq->dead_from = path_of(pq, "subscriptions",
		    pq->dead_subscription);
	return true;
}

/* ---- the subscription ---- */

static void
explain(struct pubsub_queue *pq)
{
	const struct pubsub_facts *f = &pq->facts;
	char span[CLOCK_SPAN_BYTES];

	if (pq->explained)
		return;
	pq->explained = true;
	if (f->max_deliveries != 0 && !pq->dead_by_broker &&
	    f->max_deliveries <= pq->queue->max_attempts)
		log_warning(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_QUEUE_SETUP), "the subscription's "
		    "dead-letter policy moves a message after %u deliveries "
		    "(what is given back and what loses its lease counts too), "
		    "before MaxAttempts=%u is used up: raise "
		    "max-delivery-attempts, or lower MaxAttempts=",
		    f->max_deliveries, pq->queue->max_attempts);
	else if (f->max_deliveries != 0)
		log_info(LOG_QUEUE(pq->queue->name), "the subscription's "
		    "dead-letter policy moves a message after %u deliveries",
		    f->max_deliveries);
	if (f->backoff_us != 0)
		log_info(LOG_QUEUE(pq->queue->name), "the subscription's retry "
		    "policy adds %s and more to each retry and to what is "
		    "given back", clock_span(span, f->backoff_us));
}

static uint64_t
duration_us(const Google__Pubsub__V1__Duration *d)
{
	return d != NULL && d->seconds >= 0 && d->seconds < 1000000 ?
	    (uint64_t)d->seconds * USEC_PER_SEC +
	    (uint64_t)MAX(d->nanos, 0) / 1000 : 0;
}

/* Where dead letters go; false and *err when that is nowhere. */
static bool
find_dead(struct pubsub_queue *pq,
    const Google__Pubsub__V1__DeadLetterPolicy *policy, struct error *err)
{
	const char *topic = policy != NULL ? policy->dead_letter_topic : NULL;

	if (topic != NULL && *topic != '\0' && pq->dead_letter == NULL)
		set(&pq->dead_topic, xstrdup(topic));
	if (pq->dead_by_broker && pq->facts.known && policy == NULL) {
		error_set(err, ERROR_REJECTED, "no_dead_letter",
		    "DeadLetter=broker, but the subscription has no "
		    "dead-letter policy: dead messages would come back for "
		    "ever; give it one, or name a topic in DeadLetter=");
		return false;
	}
	if (pq->dead_by_broker || pq->dead_topic != NULL)
		return true;
	error_set(err, ERROR_REJECTED, "no_dead_letter", pq->facts.known ?
	    "nowhere to put dead letters: set DeadLetter= to a topic, or give "
	    "the subscription a dead-letter policy" : "nowhere to put dead "
	    "letters: set DeadLetter= to a topic (the subscription's own "
	    "policy cannot be read: pubsub.subscriptions.get)");
	return false;
}

static bool
heed(struct pubsub_queue *pq, const Google__Pubsub__V1__Subscription *s,
    struct error *err)
{
	const Google__Pubsub__V1__DeadLetterPolicy *policy =
	    s->dead_letter_policy;

	pq->facts = (struct pubsub_facts){
		.known = true,
		.exactly_once = s->enable_exactly_once_delivery,
		.ordered = s->enable_message_ordering,
		.max_deliveries = policy != NULL ? policy->max_delivery_attempts
		    > 0 ? (unsigned)policy->max_delivery_attempts : 5 : 0,
		.backoff_us = s->retry_policy != NULL ?
		    duration_us(s->retry_policy->minimum_backoff) : 0,
	};
	if (s->detached) {
		error_set(err, ERROR_REJECTED, "detached", "%s is detached "
		    "from its topic and gets no messages any more",
		    pq->subscription);
		return false;
	}
	if (pq->config_topic == NULL && s->topic != NULL && *s->topic != '\0' &&
	    strcmp(s->topic, "_deleted-topic_") != 0)
		set(&pq->topic, xstrdup(s->topic));
	explain(pq);
	return find_dead(pq, policy, err);
}

static void
log_denied(struct pubsub_queue *pq)
{
	if (!pq->denied)
		log_notice(LOG_QUEUE_EVENT(pq->queue->name,
		    EVENT_QUEUE_SETUP), "%s may be consumed "
		    "from, but not looked at (pubsub.subscriptions.get, "
		    "roles/pubsub.viewer): its dead-letter and retry policies "
		    "are not known", pq->subscription);
	pq->denied = true;
}

static void
came(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_queue *pq = c->pq;
	Google__Pubsub__V1__Subscription *s;
	struct chunk *chunk;
	struct error e = ERROR_INIT;
	bool ok;

	if (err != NULL && c->code != GRPC_PERMISSION_DENIED) {
		pubsub_fail(pq, err);
		return;
	}
	if (err != NULL) {
		log_denied(pq);
		ok = find_dead(pq, NULL, &e);
	} else {
		chunk = chunk_new();
		s = PROTOBUF_UNPACK(Google__Pubsub__V1__Subscription,
		    google__pubsub__v1__subscription, answer, chunk, &e);
		ok = s != NULL && heed(pq, s, &e);
		chunk_unref(chunk);
	}
	if (!ok) {
		pubsub_fail(pq, &e);
		return;
	}
	/* Without having been asked the service has shown nothing yet. */
	pq->doubted = pq->doubted || err != NULL;
	pubsub_set_up(pq);
}

/* ---- the steps ---- */

static void
token_came(struct google_waiter *w, const struct error *err)
{
	struct pubsub_queue *pq = w->owner;

	if (err != NULL)
		pubsub_fail(pq, err);
	else
		pubsub_setup(pq);
}

void
pubsub_setup(struct pubsub_queue *pq)
{
	struct error err = ERROR_INIT;

	pq->state = PUBSUB_SETTING_UP;
	if (!find_endpoint(pq, &err) || !make_channel(pq, &err)) {
		pubsub_fail(pq, &err);
		return;
	}
	make_token(pq);
	if (!pubsub_authorized(pq)) {
		google_token_wait(pq->token, &pq->token_waiter);
		return;
	}
	if (!find_names(pq, &err)) {
		pubsub_fail(pq, &err);
		return;
	}
	pubsub_probe_start(pq);
	pubsub_pack_get(&pq->setup_call.body, pq->subscription);
	pubsub_call_send(&pq->setup_call);
}

/* ---- life ---- */

void
pubsub_setup_init(struct pubsub_queue *pq)
{
	pubsub_call_init(&pq->setup_call, pq, PUBSUB_GET, came, pq);
	google_waiter_init(&pq->token_waiter, token_came, pq);
	memcpy(pq->client_id, "bot-operator-", 13);
	random_hex(pq->client_id + 13, 16);
}

void
pubsub_setup_cancel(struct pubsub_queue *pq)
{
	pubsub_call_cancel(&pq->setup_call);
	google_waiter_cancel(&pq->token_waiter);
}

void
pubsub_setup_done(struct pubsub_queue *pq)
{
	pubsub_setup_cancel(pq);
	pubsub_call_done(&pq->setup_call);
}
