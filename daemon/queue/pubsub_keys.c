/*
 * [Queue NAME] with Type=pubsub: the keys, and reading them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/pubsub_impl.h"

static const struct config_key keys[] = {
	{ "Project", CONFIG_STRING, NULL, NULL, 1, 255, 0,
	    "The Google Cloud project. Default: that of Subscription= when it "
	    "is a whole path, GOOGLE_CLOUD_PROJECT, the credentials'." },
	{ "Subscription", CONFIG_STRING, NULL, NULL, 3, 511, CONFIG_REQUIRED,
	    "The subscription: its id, or projects/P/subscriptions/S." },
	{ "Topic", CONFIG_STRING, NULL, NULL, 3, 511, 0,
	    "Where botctl enqueue and botctl dead redrive publish: id or "
	    "projects/P/topics/T. Default: the subscription's own topic. Every "
	    "subscription of that topic gets what is published there." },
	{ "Endpoint", CONFIG_STRING, NULL, NULL, 1, 400, 0,
	    "URL of the service, for a regional endpoint or an emulator; http "
	    "means plaintext, without credentials unless CredentialsFile= is "
	    "set. Default: PUBSUB_EMULATOR_HOST, else "
	    "https://pubsub.googleapis.com." },
	{ "CredentialsFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "A credentials file, such as %d/google.json. Default: what "
	    "Application Default Credentials find." },
	{ "TLSCAFile", CONFIG_PATH, NULL, NULL, 0, 0, 0,
	    "Certificates (PEM) that the endpoint's must be signed by. "
	    "Default: the system's." },
	{ "MaxOutstanding", CONFIG_UNSIGNED, "1000", NULL, 1, 1000000, 0,
	    "How many messages may be out at once, those that are being "
	    "settled included; Prefetch= may ask for less." },
	{ "MaxOutstandingBytes", CONFIG_BYTES, "100M", NULL, 64 * 1024, 0, 0,
	    "The same in bytes, for each stream." },
	{ "Streams", CONFIG_UNSIGNED, "4", NULL, 1, PUBSUB_STREAMS_MAX,
	    CONFIG_RELOAD,
	    "How many streams may be open at most. The service sends some "
	    "10 MB a second on one; another is opened when that comes near." },
	{ "DeadLetterSubscription", CONFIG_STRING, NULL, NULL, 3, 511, 0,
	    "A subscription of the dead letters' topic: what botctl dead "
	    "reads. Id, or projects/P/subscriptions/S." },
	{ "MonitoringEndpoint", CONFIG_STRING, NULL, NULL, 1, 400, 0,
	    "URL of Cloud Monitoring, which knows the backlog. Default: "
	    "https://monitoring.googleapis.com; with Endpoint= of plain http, "
	    "none." },
	{ "KeepAlive", CONFIG_SPAN, "30s", NULL, USEC_PER_SEC, 0, 0,
	    "A PING is sent after so long without a byte; unanswered for 10 s "
	    "more the connection is dead." },
	{ "ConnectTimeout", CONFIG_SPAN, "10s", NULL, 10000, 0, 0,
	    "How long name lookup, connecting and the TLS handshake may take." },
	{ "ResponseTimeout", CONFIG_SPAN, "15s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long an answer may take." },
};

const struct config_kind pubsub_queue_kind = {
	"Queue", true, "Type", "pubsub", keys, ARRAY_SIZE(keys),
	"A subscription of Google Cloud Pub/Sub (pull; StreamingPull over "
	"gRPC). Credentials are found as Google's libraries find them "
	"(Application Default Credentials). The account needs "
	"roles/pubsub.subscriber on the subscription, roles/pubsub.publisher "
	"on DeadLetter=, and for the backlog roles/monitoring.viewer. "
	"Lease= is the acknowledgement deadline; by default it follows how "
	"long messages are held (99th percentile, 10 s to 10 min; from 60 s "
	"on with exactly-once delivery). A retry stays in the subscription "
	"for its delay (whole seconds, rounded up; from 10 min on in steps). "
	"How often a message was tried is known only to this process, unless "
	"the subscription has a dead-letter policy, which makes the service "
	"count. DeadLetter= is the id or path of the topic for dead letters; "
	"by default that of the subscription's dead-letter policy. "
	"DeadLetter=broker leaves them to that policy: the message is given "
	"back, delivered and run again until the policy moves it. Ordering "
	"keys run one message at a time, in order, where the subscription has "
	"message ordering. The backlog comes from Cloud Monitoring and is up "
	"to some minutes old.",
};

void
pubsub_keys_reload(struct pubsub_queue *pq, const struct config_section *s)
{
	pq->streams_max = (unsigned)config_unsigned(s, "Streams");
	pq->nstreams = MIN(MAX(pq->nstreams, 1u), pq->streams_max);
	pq->response_timeout_us = config_span_us(s, "ResponseTimeout");
}

/* An id, or "projects/P/KIND/ID". */
static void
check_name(struct config *config, const struct config_section *s,
    const char *key, const char *kind)
{
	const char *text = config_string(s, key), *at;

	if (text == NULL || strchr(text, '/') == NULL)
		return;
	at = strncmp(text, "projects/", 9) == 0 ? strchr(text + 9, '/') : NULL;
	if (at == NULL || at == text + 9 || strncmp(at + 1, kind,
	    strlen(kind)) != 0 || at[1 + strlen(kind)] != '/' ||
	    at[2 + strlen(kind)] == '\0' ||
	    strchr(at + 2 + strlen(kind), '/') != NULL)
		config_problem(config, s, key, "%s=%s is neither an id nor "
		    "projects/PROJECT/%s/ID", key, text, kind);
}

static void
check(struct pubsub_queue *pq, struct config *config,
    const struct config_section *s)
{
	check_name(config, s, "Subscription", "subscriptions");
	check_name(config, s, "DeadLetterSubscription", "subscriptions");
	check_name(config, s, "Topic", "topics");
	if (!pq->dead_by_broker)
		check_name(config, s, "DeadLetter", "topics");
	(void)http_url_check(config, s, "Endpoint");
	(void)http_url_check(config, s, "MonitoringEndpoint");
	if (pq->config_project != NULL &&
	    strchr(pq->config_project, '/') != NULL)
		config_problem(config, s, "Project", "Project=%s is no id of a "
		    "project", pq->config_project);
	if (pq->dead_subscription != NULL && pq->config_subscription != NULL &&
	    strcmp(pq->dead_subscription, pq->config_subscription) == 0)
		config_problem(config, s, "DeadLetterSubscription",
		    "DeadLetterSubscription= is the subscription itself");
	if (pq->queue->prefetch > pq->max_outstanding)
		config_problem(config, s, "Prefetch", "Prefetch=%u is more "
		    "than MaxOutstanding=%u", pq->queue->prefetch,
		    pq->max_outstanding);
}

void
pubsub_keys_read(struct pubsub_queue *pq, struct config *config,
    const struct config_section *s)
{
	pq->config_project = config_copy(s, "Project");
	pq->config_subscription = config_copy(s, "Subscription");
	pq->config_topic = config_copy(s, "Topic");
	pq->endpoint = config_copy(s, "Endpoint");
	pq->credentials_file = config_copy(s, "CredentialsFile");
	pq->ca_file = config_copy(s, "TLSCAFile");
	pq->dead_letter = config_copy(s, "DeadLetter");
	pq->dead_by_broker = pq->dead_letter != NULL &&
	    strcmp(pq->dead_letter, "broker") == 0;
	pq->dead_subscription = config_copy(s, "DeadLetterSubscription");
	pq->monitoring_endpoint = config_copy(s, "MonitoringEndpoint");
	pq->max_outstanding = (unsigned)config_unsigned(s, "MaxOutstanding");
	pq->max_outstanding_bytes = config_bytes(s, "MaxOutstandingBytes");
	pq->keepalive_us = config_span_us(s, "KeepAlive");
	pq->connect_timeout_us = config_span_us(s, "ConnectTimeout");
	pq->fixed_lease = config_is_set(s, "Lease");
	pubsub_keys_reload(pq, s);
	check(pq, config, s);
}

void
pubsub_keys_done(struct pubsub_queue *pq)
{
	char *all[] = { pq->config_project, pq->config_subscription,
	    pq->config_topic, pq->endpoint, pq->credentials_file, pq->ca_file,
	    pq->dead_letter, pq->dead_subscription, pq->monitoring_endpoint,
	    pq->url_text, pq->project, pq->subscription, pq->topic,
	    pq->dead_topic, pq->dead_from };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
}
