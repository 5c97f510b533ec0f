/*
 * AssumeRole and AssumeRoleWithWebIdentity: forms by POST, answers in XML.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/aws_provider.h"
#include "codec/url.h"

#define TIMEOUT_US	(10 * USEC_PER_SEC)
#define ANSWER_MAX	(64 * KIB)
#define CONTENT_TYPE	"application/x-www-form-urlencoded; charset=utf-8"

void
aws_role_done(struct aws_role *r)
{
	free(r->arn);
	free(r->session);
	free(r->external_id);
	free(r->seconds);
	free(r->token_file);
	*r = (struct aws_role){ .arn = NULL };
}

/* ---- the end ---- */

static void
clear(struct aws_sts *s)
{
	/* A web identity's token was in it. */
	if (s->body.data != NULL)
		secret_wipe(s->body.data, s->body.size);
	buffer_done(&s->body);
	sigv4_free(s->signer);
	s->signer = NULL;
	aws_answer_done(&s->keys);
}

static void
finish(struct aws_sts *s, struct aws_answer *answer, const struct error *err)
{
	clear(s);
	s->done(s->owner, answer, err);
}

static void
on_timer(struct timer *t)
{
	struct aws_sts *s = t->owner;

	http_send(s->http, &s->request);
}

/* What it says about a request that it understood. */
static void
explain(const struct aws_sts *s, const struct http_response *r,
    enum aws_failure failure, const char *name, const char *message,
    struct error *ret)
{
	enum error_class class = ERROR_AUTH;

	if (failure == AWS_FAILURE_THROTTLED)
		class = ERROR_THROTTLED;
	else if (failure != AWS_FAILURE_NONE)
		class = ERROR_TRANSIENT;
	if (*name == '\0')
		error_set(ret, class, "sts", "%s answers %u for %s",
		    s->request.url.host_header, r->status, s->arn);
	else
		error_set(ret, class, name, "%s: %s%s%s", s->arn, name,
		    *message != '\0' ? ": " : "", message);
}

static void
on_failure(struct aws_sts *s, const struct http_response *r,
    const struct error *err)
{
	char name[AWS_NAME_BYTES] = "", message[AWS_MESSAGE_BYTES] = "";
	enum aws_failure failure;
	struct error why;
	uint64_t delay_us;

	if (r != NULL)
		aws_sts_error(r->body, name, message);
	failure = aws_failure_of(r, err, slice_of(name));
	if (aws_retry_again(&s->retry, &s->bucket, failure,
	    r != NULL ? MIN(r->retry_after_us, AWS_RETRY_MAX_US) : 0,
	    &delay_us)) {
		timer_arm(s->clients->loop, &s->timer, delay_us);
		return;
	}
	if (r != NULL && !s->skewed && aws_clock_learn(&s->clock,
	    slice_of(name), clock_realtime_us(), r->date_us)) {
		s->skewed = true;
		http_send(s->http, &s->request);
		return;
	}
	if (err != NULL)
		why = *err;
	else
		explain(s, r, failure, name, message, &why);
	finish(s, NULL, &why);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct aws_sts *s = q->owner;
	struct aws_answer answer;
	struct error why;

	if (err != NULL || r->status != 200) {
		on_failure(s, r, err);
		return;
	}
	aws_retry_succeeded(&s->retry, &s->bucket);
	if (aws_answer_from_sts(r->body, &answer, &why) < 0)
		finish(s, NULL, &why);
	else
		finish(s, &answer, NULL);
}

/* ---- the question ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	struct aws_sts *s = q->owner;
	const struct sigv4_header headers[] = {
		{ SLICE("Host"), slice_of(q->url.host_header) },
		{ SLICE("Content-Type"), SLICE(CONTENT_TYPE) },
	};
	struct sigv4_request request = {
		.method = SLICE("POST"),
		.headers = headers,
		.nheaders = ARRAY_SIZE(headers),
		.body = q->body,
	};
	struct sigv4_credentials keys;
	int r;

	buffer_add_str(out, "Content-Type: " CONTENT_TYPE "\r\n");
	if (s->signer == NULL)
		return;
	url_split(q->url.target, &request.path, &request.query);
	keys = (struct sigv4_credentials){
		.access_key = slice_of(s->keys.access_key),
		.secret_key = secret_bytes(s->keys.secret_key),
		.id = 1,
	};
	if (s->keys.token != NULL)
		keys.token = secret_bytes(s->keys.token);
	/* The keys were checked when they came. */
	r = sigv4_sign(s->signer, &keys, &request,
	    aws_clock_us(&s->clock, clock_realtime_us()), out);
	if (r < 0)
		BUG("cannot sign: %s", strerror(-r));
}

static void
add_field(struct buffer *b, const char *name, struct slice value)
{
	buffer_add_char(b, '&');
	buffer_add_str(b, name);
	buffer_add_char(b, '=');
	url_add_component(b, value);
}

static int
make_body(struct aws_sts *s, const struct aws_role *role, struct error *err)
{
	struct secret *token = NULL;
	char session[64];
	struct error why;

	if (role->token_file != NULL) {
		token = secret_read_file(role->token_file, &why);
		if (token == NULL) {
			error_set(err, ERROR_AUTH, "web_identity", "%s",
			    why.text);
			return -EACCES;
		}
		/* No growth below: that would leave copies behind. */
		(void)buffer_reserve(&s->body, 16 * KIB +
		    3 * secret_bytes(token).n);
	}
	snprintf(session, sizeof(session), "bot-operator-%llu",
	    (unsigned long long)(clock_realtime_us() / USEC_PER_SEC));
	buffer_add_str(&s->body, token != NULL ?
	    "Action=AssumeRoleWithWebIdentity" : "Action=AssumeRole");
	add_field(&s->body, "Version", SLICE("2011-06-15"));
	add_field(&s->body, "RoleArn", slice_of(role->arn));
	add_field(&s->body, "RoleSessionName", slice_of(role->session != NULL ?
	    role->session : session));
	if (role->seconds != NULL)
		add_field(&s->body, "DurationSeconds", slice_of(role->seconds));
	if (role->external_id != NULL)
		add_field(&s->body, "ExternalId", slice_of(role->external_id));
	if (token != NULL)
		add_field(&s->body, "WebIdentityToken", secret_bytes(token));
	secret_free(token);
	return 0;
}

int
aws_sts_start(struct aws_sts *s, const struct aws_role *role, const char *url,
    const char *region, struct aws_answer *keys, struct error *err)
{
	struct error why;

	if (keys != NULL) {
		s->keys = *keys;
		*keys = (struct aws_answer){ .expires_us = 0 };
		s->signer = sigv4_new(region, "sts");
	}
	s->arn = role->arn;
	s->skewed = false;
	s->retry = (struct aws_retry){ 0 };
	snprintf(s->url, sizeof(s->url), "%s", url);
	if (http_url_parse(&s->request.url, s->url, &why) < 0) {
		error_set(err, ERROR_REJECTED, "url",
		    "the endpoint of STS: %s", why.text);
		clear(s);
		return -EINVAL;
	}
	s->http = aws_clients_proxied(s->clients, err);
	if (s->http == NULL || make_body(s, role, err) < 0) {
		clear(s);
		return -EINVAL;
	}
	s->request.body = buffer_slice(&s->body);
	http_send(s->http, &s->request);
	return 0;
}

void
aws_sts_init(struct aws_sts *s, struct aws_clients *clients,
    aws_provider_fn *done, void *owner)
{
	*s = (struct aws_sts){ .clients = clients, .done = done,
		.owner = owner };
	timer_init(&s->timer, "aws.sts", on_timer, s);
	aws_retry_bucket_init(&s->bucket);
	buffer_init(&s->body);
	s->request.method = "POST";
	s->request.add_headers = add_headers;
	s->request.on_done = on_done;
	s->request.owner = s;
	s->request.timeout_us = TIMEOUT_US;
	s->request.max_response = ANSWER_MAX;
	s->request.resend = true;	/* asking twice harms nobody */
}

void
aws_sts_cancel(struct aws_sts *s)
{
	timer_cancel(s->clients->loop, &s->timer);
	http_cancel(&s->request);
	clear(s);
}
