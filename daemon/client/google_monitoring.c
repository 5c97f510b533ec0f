#include "client/google_monitoring.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/http.h"
#include "codec/google_answer.h"
#include "codec/url.h"

#define TIMEOUT_US	(20 * USEC_PER_SEC)
#define ANSWER_MAX	(256 * KIB)
#define WINDOW_US	(600 * USEC_PER_SEC)
#define METRIC_PREFIX	"pubsub.googleapis.com/subscription/"

enum metric {
	METRIC_NONE = 0,		/* no question is open */
	METRIC_MESSAGES,
	METRIC_OLDEST,
};

static const char *const metric_names[] = {
	[METRIC_MESSAGES] = METRIC_PREFIX "num_undelivered_messages",
	[METRIC_OLDEST] = METRIC_PREFIX "oldest_unacked_message_age",
};

struct google_monitoring {
	struct google_monitoring_params params;
	struct google_waiter waiter;
	struct http_client *http;
	struct http_request request;
	struct buffer url;
	enum metric metric;
	bool again;			/* after 401; once a question */
	uint64_t generation;		/* of the token that was sent */
	struct google_backlog backlog;
	char last_code[48];		/* of the last answer; "": no error */
};

static void	ask(struct google_monitoring *);

/* ---- the end ---- */

static void
finish(struct google_monitoring *m, const struct error *err)
{
	struct google_backlog backlog = m->backlog;
	const char *code = err != NULL ? err->code : "";
	struct error copy;
	bool news = strcmp(code, m->last_code) != 0;

	if (err != NULL)
		copy = *err;
	snprintf(m->last_code, sizeof(m->last_code), "%s", code);
	m->metric = METRIC_NONE;
	m->params.done(m->params.owner, err == NULL ? &backlog : NULL,
	    err != NULL ? &copy : NULL, news);
}

/* What a server says may repeat what it was sent. */
static void
hide_token(const struct google_monitoring *m, char *text)
{
	const struct google_bearer *b = google_token_get(m->params.token);

	if (b != NULL && b->generation == m->generation)
		google_hide(text, secret_bytes(b->token));
}

static void
explain(const struct google_monitoring *m, const struct http_response *r,
    struct error *ret)
{
	const struct google_monitoring_params *p = &m->params;
	char name[GOOGLE_NAME_BYTES], message[GOOGLE_MESSAGE_BYTES];
	enum error_class class = ERROR_REJECTED;

	google_answer_error(r->body, name, message);
	hide_token(m, name);
	hide_token(m, message);
	if (r->status == 403 && strcmp(name, "SERVICE_DISABLED") == 0) {
		error_set(ret, ERROR_AUTH, name, "the Cloud Monitoring API is "
		    "switched off in project %s (gcloud services enable "
		    "monitoring.googleapis.com)",
		    p->project);
		return;
	}
	if (r->status == 403) {
		error_set(ret, ERROR_AUTH, "PERMISSION_DENIED",
		    "%s may not read the backlog: it needs "
		    "roles/monitoring.viewer in project %s%s%s",
		    google_token_source(p->token), p->project,
		    *message != '\0' ? ": " : "", message);
		return;
	}
	if (r->status == 401)
		class = ERROR_AUTH;
	else if (r->status == 429)
		class = ERROR_THROTTLED;
	else if (http_may_retry(r, NULL) || r->status >= 500)
		class = ERROR_TRANSIENT;
	if (*name == '\0' && r->status == 401)
		snprintf(name, sizeof(name), "UNAUTHENTICATED");
	else if (*name == '\0' && r->status == 429)
		snprintf(name, sizeof(name), "RESOURCE_EXHAUSTED");
	error_set(ret, class, *name != '\0' ? name : "monitoring",
	    "%s answers %u%s%s%s%s to the question for the backlog of %s",
	    m->request.url.host_header, r->status, *name != '\0' ? " " : "",
	    name, *message != '\0' ? ": " : "", message, p->subscription);
}

/* ---- answers ---- */

static void
take(struct google_monitoring *m, const struct google_sample *s)
{
	struct google_backlog *b = &m->backlog;

	if (m->metric == METRIC_MESSAGES) {
		b->messages_known = s->known;
		b->messages = s->value;
		b->messages_at_us = s->at_us;
	} else {
		b->oldest_known = s->known;
		b->oldest_age_us = MIN(s->value, UINT64_MAX / USEC_PER_SEC) *
		    USEC_PER_SEC;
		b->oldest_at_us = s->at_us;
	}
}

static void
on_answer(struct google_monitoring *m, const struct http_response *r)
{
	struct google_sample sample;
	struct error err;

	if (r->status != 200) {
		explain(m, r, &err);
		if (r->status == 401)
			google_token_rejected(m->params.token, m->generation);
		if (r->status == 401 && !m->again) {
			m->again = true;
			ask(m);
		} else {
			finish(m, &err);
		}
	} else if (google_answer_sample(r->body, &sample, &err) < 0) {
		finish(m, &err);
	} else {
		take(m, &sample);
		if (m->metric == METRIC_MESSAGES) {
			m->metric = METRIC_OLDEST;
			ask(m);
		} else {
			finish(m, NULL);
		}
	}
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct google_monitoring *m = q->owner;

	if (err != NULL)
		finish(m, err);
	else
		on_answer(m, r);
}

/* ---- questions ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	struct google_monitoring *m = q->owner;
	const struct google_bearer *b = google_token_get(m->params.token);
	const char *quota = google_token_quota_project(m->params.token);

	buffer_add_str(out, "Accept: application/json\r\n");
	/* Gone between the question and its turn: the answer will be 401. */
	if (b == NULL)
		return;
	m->generation = b->generation;
	buffer_add_str(out, "Authorization: Bearer ");
	buffer_add_slice(out, secret_bytes(b->token));
	buffer_add_str(out, "\r\n");
	if (quota != NULL)
		buffer_printf(out, "x-goog-user-project: %s\r\n", quota);
}

static void
add_time(struct buffer *b, const char *name, uint64_t us)
{
	char iso[CLOCK_ISO_BYTES];

	buffer_printf(b, "&%s=", name);
	url_add_component(b, slice_of(clock_iso(iso, us, false)));
}

static void
make_url(struct google_monitoring *m)
{
	const struct google_monitoring_params *p = &m->params;
	_cleanup_free_ char *filter = xasprintf("metric.type=\"%s\" AND "
	    "resource.labels.subscription_id=\"%s\"", metric_names[m->metric],
	    p->subscription);
	uint64_t now = clock_realtime_us();
	struct buffer *b = &m->url;

	buffer_clear(b);
	buffer_printf(b, "%s/v3/projects/", p->endpoint);
	url_add_component(b, slice_of(p->project));
	buffer_add_str(b, "/timeSeries?filter=");
	url_add_component(b, slice_of(filter));
	add_time(b, "interval.startTime", now - MIN(now, WINDOW_US));
	add_time(b, "interval.endTime", now);
}

static void
send_question(struct google_monitoring *m)
{
	struct error err;

	make_url(m);
	/* Its start was read before, and the rest is escaped. */
	if (http_url_parse(&m->request.url, buffer_cstr(&m->url), &err) < 0)
		BUG("%s", err.text);
	http_send(m->http, &m->request);
}

static void
on_token(struct google_waiter *w, const struct error *err)
{
	struct google_monitoring *m = w->owner;

	if (err != NULL)
		finish(m, err);
	else
		send_question(m);
}

static void
ask(struct google_monitoring *m)
{
	if (google_token_get(m->params.token) != NULL)
		send_question(m);
	else
		google_token_wait(m->params.token, &m->waiter);
}

void
google_monitoring_ask(struct google_monitoring *m)
{
	if (google_monitoring_busy(m))
		return;
	m->backlog = (struct google_backlog){ .messages_known = false };
	m->metric = METRIC_MESSAGES;
	m->again = false;
	ask(m);
}

bool
google_monitoring_busy(const struct google_monitoring *m)
{
	return m->metric != METRIC_NONE;
}

void
google_monitoring_cancel(struct google_monitoring *m)
{
	google_waiter_cancel(&m->waiter);
	http_cancel(&m->request);
	m->metric = METRIC_NONE;
}

/* ---- life ---- */

static void
free_const(const char *s)
{
	char *p = NULL;

	memcpy(&p, &s, sizeof(p));
	free(p);
}

static char *
without_slashes(const char *url)
{
	size_t n = strlen(url);

	while (n != 0 && url[n - 1] == '/')
		n--;
	return xstrndup(url, n);
}

/* Such a name could not be in the filter; Pub/Sub has none either. */
static int
check_names(const struct google_monitoring_params *p, struct error *err)
{
	if (strpbrk(p->subscription, "\"\\/") == NULL &&
	    p->subscription[0] != '\0' && p->project[0] != '\0')
		return 0;
	error_set(err, ERROR_REJECTED, "monitoring",
	    "\"%s\" in project \"%s\" cannot be the id of a subscription",
	    p->subscription, p->project);
	return -EINVAL;
}

static int
make_client(struct google_monitoring *m, struct error *err)
{
	struct http_client_params p = { .tls.ca_file = m->params.ca_file };
	struct error why;
	struct http_url url;

	if (http_url_parse(&url, m->params.endpoint, &why) < 0) {
		error_set(err, ERROR_REJECTED, "url",
		    "the endpoint of Cloud Monitoring: %s", why.text);
		return -EINVAL;
	}
	p.no_tls = !url.tls;
	m->http = http_client_new(m->params.loop, m->params.resolver, &p, err);
	return m->http != NULL ? 0 : -EINVAL;
}

struct google_monitoring *
google_monitoring_new(const struct google_monitoring_params *p,
    struct error *err)
{
	struct google_monitoring *m = new0(struct google_monitoring);

	m->params = *p;
	m->params.token = google_token_ref(p->token);
	m->params.project = xstrdup(p->project);
	m->params.subscription = xstrdup(p->subscription);
	m->params.endpoint = without_slashes(p->endpoint != NULL ?
	    p->endpoint : GOOGLE_MONITORING_ENDPOINT);
	m->params.ca_file = p->ca_file != NULL ? xstrdup(p->ca_file) : NULL;
	google_waiter_init(&m->waiter, on_token, m);
	buffer_init(&m->url);
	m->request.add_headers = add_headers;
	m->request.on_done = on_done;
	m->request.owner = m;
	m->request.timeout_us = TIMEOUT_US;
	m->request.max_response = ANSWER_MAX;
	if (check_names(p, err) < 0 || make_client(m, err) < 0) {
		google_monitoring_free(m);
		return NULL;
	}
	return m;
}

void
google_monitoring_free(struct google_monitoring *m)
{
	if (m == NULL)
		return;
	google_monitoring_cancel(m);
	http_client_free(m->http);
	google_token_unref(m->params.token);
	free_const(m->params.project);
	free_const(m->params.subscription);
	free_const(m->params.endpoint);
	free_const(m->params.ca_file);
	buffer_done(&m->url);
	free(m);
}
