/*
 * Instance metadata, version 2: a token by PUT, then GETs that show it.  As in
 * botocore, an instance that does not know tokens (403, 404, 405) or never
 * answers the PUT (a container one hop too far) is asked without, unless that
 * is forbidden.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/aws_provider.h"

#define TOKEN_PATH	"/latest/api/token"
#define ROLE_PATH	"/latest/meta-data/iam/security-credentials/"
#define REGION_PATH	"/latest/meta-data/placement/region"
#define ANSWER_MAX	(64 * KIB)

static void	ask(struct aws_imds *, enum aws_imds_state);

static void
finish(struct aws_imds *m, struct aws_answer *answer, const struct error *err)
{
	m->state = IMDS_IDLE;
	secret_free(m->token);
	m->token = NULL;
	m->done(m->owner, answer, err);
}

static void
fail(struct aws_imds *m, enum error_class class, const char *code,
    const char *why)
{
	struct error err;

	error_set(&err, class, code, "%s: %s", m->request.url.host_header, why);
	finish(m, NULL, &err);
}

/* From the first step again, as often as is allowed. */
static bool
try_again(struct aws_imds *m)
{
	if (++m->tries >= m->params.attempts)
		return false;
	ask(m, IMDS_TOKEN);
	return true;
}

/* ---- the answers ---- */

static struct slice
first_line(struct slice s)
{
	const char *end = s.n != 0 ? memchr(s.p, '\n', s.n) : NULL;

	if (end != NULL)
		s.n = (size_t)(end - s.p);
	while (s.n != 0 && (unsigned char)s.p[s.n - 1] <= ' ')
		s.n--;
	return s;
}

/* IAM's letters for role names, so that it can stand in a path. */
static bool
is_role_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr("_+=,.@-", c) == NULL))
			return false;
	}
	return s.n != 0;
}

static void
without_token(struct aws_imds *m)
{
	if (m->params.no_v1)
		fail(m, ERROR_AUTH, "imds_v1", "it gives no token, and "
		    "version 1 is switched off");
	else
		ask(m, m->want_region ? IMDS_REGION : IMDS_ROLE);
}

static void
on_token(struct aws_imds *m, const struct http_response *r)
{
	struct slice token = first_line(r->body);

	switch (r->status) {
	case 200:
		if (token.n == 0) {
			fail(m, ERROR_PROTOCOL, "imds", "its token is empty");
			return;
		}
		m->token = secret_new(token.p, token.n);
		ask(m, m->want_region ? IMDS_REGION : IMDS_ROLE);
		break;
	case 403:
	case 404:
	case 405:
		without_token(m);
		break;
	default:
		if (!http_may_retry(r, NULL) || !try_again(m))
			fail(m, r->status < 500 ? ERROR_REJECTED :
			    ERROR_TRANSIENT, "imds",
			    "it refuses to give a token");
	}
}

static void
on_role(struct aws_imds *m, const struct http_response *r)
{
	struct slice role = first_line(r->body);

	if (r->status == 404 || (r->status == 200 && role.n == 0)) {
		fail(m, ERROR_AUTH, "imds_no_role",
		    "the instance has no role");
		return;
	}
	if (role.n >= sizeof(m->role) || !is_role_name(role)) {
		fail(m, ERROR_PROTOCOL, "imds", "what it calls a role is none");
		return;
	}
	memcpy(m->role, role.p, role.n);
	m->role[role.n] = '\0';
	ask(m, IMDS_KEYS);
}

static void
on_keys(struct aws_imds *m, const struct http_response *r)
{
	struct aws_answer answer;
	struct error err;

	if (aws_answer_from_endpoint(r->body, &answer, &err) < 0)
		fail(m, err.class, err.code, err.text);
	else
		finish(m, &answer, NULL);
}

static void
on_region(struct aws_imds *m, const struct http_response *r)
{
	struct aws_answer none = { .expires_us = 0 };
	struct slice s = first_line(r->body);

	snprintf(m->region, sizeof(m->region), "%.*s", (int)MIN(s.n,
	    sizeof(m->region)), s.n != 0 ? s.p : "");
	if (s.n >= sizeof(m->region) || !aws_region_is_valid(m->region))
		fail(m, ERROR_PROTOCOL, "imds", "what it calls a region is "
		    "none");
	else
		finish(m, &none, NULL);
}

static void
on_answer(struct aws_imds *m, const struct http_response *r)
{
	char text[64];

	if (m->state == IMDS_TOKEN) {
		on_token(m, r);
		return;
	}
	/* The token may have ended with the agent that gave it. */
	if (r->status == 401 && m->token != NULL && !m->renewed) {
		m->renewed = true;
		ask(m, IMDS_TOKEN);
		return;
	}
	if (r->status != 200 && !(m->state == IMDS_ROLE && r->status == 404)) {
		if (http_may_retry(r, NULL) && try_again(m))
			return;
		snprintf(text, sizeof(text), "it answers %u", r->status);
		fail(m, http_may_retry(r, NULL) ? ERROR_TRANSIENT :
		    ERROR_REJECTED, "imds", text);
		return;
	}
	if (m->state == IMDS_ROLE)
		on_role(m, r);
	else if (m->state == IMDS_KEYS)
		on_keys(m, r);
	else
		on_region(m, r);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct aws_imds *m = q->owner;
	struct error copy;

	if (err == NULL) {
		on_answer(m, r);
		return;
	}
	if (m->state == IMDS_TOKEN &&
	    strcmp(err->code, "response_timeout") == 0) {
		without_token(m);
		return;
	}
	if (err->class == ERROR_TRANSIENT && try_again(m))
		return;
	copy = *err;
	finish(m, NULL, &copy);
}

/* ---- the questions ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	struct aws_imds *m = q->owner;

	if (m->state == IMDS_TOKEN) {
		buffer_add_str(out,
		    "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n");
	} else if (m->token != NULL) {
		buffer_add_str(out, "X-aws-ec2-metadata-token: ");
		buffer_add_slice(out, secret_bytes(m->token));
		buffer_add_str(out, "\r\n");
	}
}

static void
ask(struct aws_imds *m, enum aws_imds_state state)
{
	static const char *const paths[] = {
		[IMDS_TOKEN] = TOKEN_PATH,
		[IMDS_ROLE] = ROLE_PATH,
		[IMDS_KEYS] = ROLE_PATH,
		[IMDS_REGION] = REGION_PATH,
	};
	struct error err;

	if (state == IMDS_TOKEN) {
		secret_free(m->token);
		m->token = NULL;
	}
	m->state = state;
	snprintf(m->url, sizeof(m->url), "%s%s%s", m->params.endpoint,
	    paths[state], state == IMDS_KEYS ? m->role : "");
	if (http_url_parse(&m->request.url, m->url, &err) < 0)
		BUG("%s", err.text);	/* its start was read before */
	m->request.method = state == IMDS_TOKEN ? "PUT" : "GET";
	http_send(m->http, &m->request);
}

int
aws_imds_start(struct aws_imds *m, const struct aws_imds_params *params,
    bool region, struct error *err)
{
	size_t n = strlen(params->endpoint);
	struct error why;

	BUG_ON(m->state != IMDS_IDLE);
	m->params = *params;
	while (n > 0 && m->params.endpoint[n - 1] == '/')
		m->params.endpoint[--n] = '\0';
	if (http_url_parse(&m->request.url, m->params.endpoint, &why) < 0) {
		error_set(err, ERROR_REJECTED, "url",
		    "the endpoint of instance metadata: %s", why.text);
		return -EINVAL;
	}
	m->http = aws_clients_direct(m->clients, err);
	if (m->http == NULL)
		return -EINVAL;
	m->want_region = region;
	m->renewed = false;
	m->tries = 0;
	m->role[0] = '\0';
	m->request.connect_timeout_us = params->timeout_us;
	/* Longer, so that it is known which of the two it was. */
	m->request.timeout_us = 2 * params->timeout_us;
	ask(m, IMDS_TOKEN);
	return 0;
}

void
aws_imds_init(struct aws_imds *m, struct aws_clients *clients,
    aws_provider_fn *done, void *owner)
{
	*m = (struct aws_imds){ .clients = clients, .done = done,
		.owner = owner };
	m->request.add_headers = add_headers;
	m->request.on_done = on_done;
	m->request.owner = m;
	m->request.max_response = ANSWER_MAX;
}

void
aws_imds_cancel(struct aws_imds *m)
{
	http_cancel(&m->request);
	secret_free(m->token);
	m->token = NULL;
	m->state = IMDS_IDLE;
}
