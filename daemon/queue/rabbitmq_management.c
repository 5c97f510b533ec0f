/*
 * The management API (rabbitmq.com, "Management HTTP API"): GET
 * /api/queues/VHOST/NAME tells what AMQP does not: how much is unacknowledged
 * at all consumers, and which limits of the queue's act beside ours.  Its
 * figures are sampled by the broker every 5 s.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/http.h"
#include "codec/base64.h"
#include "codec/url.h"
#include "engine/pool.h"
#include "queue/rabbitmq_impl.h"

#define ASK_EVERY_US	(5 * USEC_PER_SEC)
#define TIMEOUT_US	(5 * USEC_PER_SEC)
#define LIMIT_DEFAULT	20	/* rabbitmq.com, "Quorum Queues", from 4.0 on */

struct rabbit_management {
	struct rabbit_queue *rq;
	struct http_client *client;	/* NULL: could not be made, see error */
	struct http_request request;
	char *url;			/* of the queue */
	uint64_t asked_us, answered_us;	/* monotonic; 0 never */
	uint64_t unacknowledged;
	struct error error;		/* of the last answer */
	bool checked;			/* its limits were looked at */
};

struct rabbit_management *
rabbit_management_new(struct rabbit_queue *rq, struct config *config,
    const struct config_section *s)
{
	const char *base = config_string(s, "Management");
	struct rabbit_management *m;
	struct buffer url = BUFFER_INIT;
	struct error err = ERROR_INIT;
	size_t n;

	if (base == NULL || *base == '\0')
		return NULL;
	m = new0(struct rabbit_management);
	m->rq = rq;
	n = strlen(base);
	while (n != 0 && base[n - 1] == '/')
		n--;
	buffer_add(&url, base, n);
	buffer_add_str(&url, "/api/queues/");
	url_add_component(&url, slice_of(rq->vhost));
	buffer_add_char(&url, '/');
	url_add_component(&url, slice_of(rq->name));
	m->url = buffer_dup(&url);
	buffer_done(&url);
	if (http_url_parse(&m->request.url, m->url, &err) < 0)
		config_problem(config, s, "Management", "Management=%s: %s",
		    base, err.text);
	if (rq->external && rq->password_file == NULL)
		config_problem(config, s, "Management", "Management= needs "
		    "Username= and PasswordFile=, also with Auth=external");
	return m;
}

void
rabbit_management_free(struct rabbit_management *m)
{
	if (m == NULL)
		return;
	http_cancel(&m->request);
	http_client_free(m->client);
	free(m->url);
	free(m);
}

/* ---- asking ---- */

static void
add_headers(struct http_request *r, struct buffer *b)
{
	const struct rabbit_management *m = r->owner;
	struct rabbit_queue *rq = m->rq;
	struct buffer plain = BUFFER_INIT;
	struct secret *password = NULL;
	struct error err;

	buffer_add_str(&plain, rq->username);
	buffer_add_char(&plain, ':');
	if (rq->password_file != NULL)
		password = secret_read_file(rq->password_file, &err);
	buffer_add_slice(&plain, password != NULL ? secret_bytes(password) :
	    rq->password_file != NULL ? SLICE("") : SLICE("guest"));
	secret_free(password);
	buffer_add_str(b, "Accept: application/json\r\nAuthorization: Basic ");
	base64_add(b, buffer_slice(&plain));
	buffer_add_str(b, "\r\n");
	secret_wipe(plain.data, plain.size);
	buffer_done(&plain);
}

/* ---- limits that act before ours ---- */

/* The lower of the argument and the policy; INT64_MAX: none. */
static int64_t
limit_of(const json_t *queue, const char *argument, const char *policy)
{
	const json_t *a = json_object_get(json_object_get(queue, "arguments"),
	    argument);
	const json_t *p = json_object_get(json_object_get(queue,
	    "effective_policy_definition"), policy);
	int64_t n = INT64_MAX;

	if (json_is_integer(a) && json_integer_value(a) >= 0)
		n = json_integer_value(a);
	if (json_is_integer(p) && json_integer_value(p) >= 0)
		n = MIN(n, json_integer_value(p));
	return n;
}

static bool
is_set(const json_t *queue, const char *argument, const char *policy)
{
	return json_object_get(json_object_get(queue, "arguments"),
	    argument) != NULL ||
	    json_object_get(json_object_get(queue,
	    "effective_policy_definition"), policy) != NULL;
}

static void
check_limits(struct rabbit_management *m, const json_t *queue)
{
	struct rabbit_queue *rq = m->rq;
	const char *type = json_string_value(json_object_get(queue, "type"));
	bool quorum = type != NULL && strcmp(type, "quorum") == 0;
	bool dlx = is_set(queue, "x-dead-letter-exchange",
	    "dead-letter-exchange");
	int64_t limit = limit_of(queue, "x-delivery-limit", "delivery-limit");
	int64_t ttl = limit_of(queue, "x-message-ttl", "message-ttl");
	int64_t held = limit_of(queue, "x-consumer-timeout",
	    "consumer-timeout");
	const struct pool *p = rq->queue->pool;
	const char *then = dlx ? "moves it to the queue's dead letter exchange" :
	    "drops it";

	if (m->checked)
		return;
	m->checked = true;
	if (quorum && limit == INT64_MAX && rq->consumer_conn.version >= 40000 &&
	    !is_set(queue, "x-delivery-limit", "delivery-limit"))
		limit = LIMIT_DEFAULT;
	if (quorum && limit != INT64_MAX)
		log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_SETUP),
		    "quorum queue %s has a "
		    "delivery limit of %" PRId64 ": when a message was given "
		    "back so often (at each lost connection, pause or stop "
		    "while it was held), the broker %s, whatever MaxAttempts=%u "
		    "says", rq->name, limit, then, rq->queue->max_attempts);
	if (ttl != INT64_MAX)
		log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_SETUP),
		    "queue %s has a "
		    "message TTL of %" PRId64 " ms: what waits longer never "
		    "gets here, the broker %s", rq->name, ttl, then);
	if (held != INT64_MAX && p != NULL && p->timeout_us >=
	    (uint64_t)held * USEC_PER_MSEC)
		log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_SETUP),
		    "queue %s has a "
		    "consumer time-out of %" PRId64 " ms, which Timeout= of "
		    "[Pool %s] passes: a long run would be done twice",
		    rq->name, held, p->name);
}

/* ---- answers ---- */

static void
read_queue(struct rabbit_management *m, struct slice body)
{
	json_error_t je;
	json_t *queue = json_loadb(body.p, body.n, 0, &je);
	const json_t *n = json_object_get(queue, "messages_unacknowledged");

	/* A queue that was just declared has no figures yet. */
	if (!json_is_object(queue)) {
		error_set(&m->error, ERROR_PROTOCOL, "not_json",
		    "the management API has not answered with a JSON object");
	} else if (json_is_integer(n)) {
		m->unacknowledged = (uint64_t)MAX(json_integer_value(n), 0);
		m->answered_us = clock_monotonic_us();
		check_limits(m, queue);
	}
	json_decref(queue);
}

static void
on_done(struct http_request *r, const struct http_response *res,
    const struct error *err)
{
	struct rabbit_management *m = r->owner;
	struct error before = m->error;

	error_clear(&m->error);
	if (err != NULL)
		m->error = *err;
	else if (res->status == 200)
		read_queue(m, res->body);
	else if (res->status == 401 || res->status == 403)
		error_set(&m->error, ERROR_AUTH, "management_refused", "the "
		    "management API refuses the user (HTTP %u): it needs the "
		    "tag monitoring or management", res->status);
	else if (res->status == 404)
		error_set(&m->error, ERROR_REJECTED, "management_no_queue",
		    "the management API knows no such queue (HTTP 404); is "
		    "Management= the right broker's?");
	else
		error_set(&m->error, ERROR_TRANSIENT, "management_status",
		    "the management API answered with HTTP %u", res->status);
	/* Everything else works without it. */
	if (error_is_set(&m->error) && strcmp(before.code, m->error.code) != 0)
		log_warning(LOG_QUEUE_EVENT(m->rq->queue->name,
		    EVENT_BROKER_ERROR),
		    "Management=: %s "
		    "(%s); the queue itself is not affected, it is asked "
		    "again", m->error.text, m->error.code);
}

void
rabbit_management_start(struct rabbit_management *m)
{
	const struct rabbit_queue *rq;
	struct http_client_params params;

	if (m == NULL)
		return;
	rq = m->rq;
	params = (struct http_client_params){
		.tls = {
			.insecure = !rq->tls_config.verify,
			.ca_file = rq->tls_config.ca,
		},
		.no_tls = !m->request.url.tls,
		.max_connections = 1,
	};

	/* The certificates that it reads are those of the queue itself, which
	   will complain of them. */
	m->client = http_client_new(rq->loop, rq->queue->resolver, &params,
	    &m->error);
}

void
rabbit_management_probe(struct rabbit_management *m)
{
	uint64_t now = clock_monotonic_us();

	if (m == NULL || m->client == NULL || http_busy(&m->request) ||
	    (m->asked_us != 0 && now - m->asked_us < ASK_EVERY_US))
		return;
	m->asked_us = now;
	m->request.add_headers = add_headers;
	m->request.on_done = on_done;
	m->request.owner = m;
	m->request.timeout_us = TIMEOUT_US;
	http_send(m->client, &m->request);
}

void
rabbit_management_status(const struct rabbit_management *m, json_t *o)
{
	uint64_t now = clock_monotonic_us();

	if (m == NULL)
		return;
	if (m->answered_us == 0) {
		json_object_set_new(o, "unacknowledged_at_broker", json_null());
	} else {
		json_object_set_new(o, "unacknowledged_at_broker",
		    json_integer((json_int_t)m->unacknowledged));
		json_object_set_new(o, "unacknowledged_age_seconds",
		    json_integer((json_int_t)((now - m->answered_us) /
		    USEC_PER_SEC)));
	}
	if (error_is_set(&m->error))
		json_object_set_new(o, "management_error",
		    json_string(m->error.text));
}
