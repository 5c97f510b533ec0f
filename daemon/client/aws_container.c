#include <arpa/inet.h>
#include <stdio.h>

#include "base/alloc.h"
#include "client/aws_provider.h"

/* botocore 1.43, ContainerMetadataFetcher. */
#define TIMEOUT_US	(2 * USEC_PER_SEC)
#define ATTEMPTS	3
#define PAUSE_US	USEC_PER_SEC
#define ANSWER_MAX	(64 * KIB)

bool
aws_container_url_is_allowed(const struct http_url *u)
{
	static const char *const hosts[] = { "169.254.170.2",	/* ECS */
		"169.254.170.23", "fd00:ec2::23",		/* EKS */
		"localhost" };
	struct in6_addr v6, other;
	struct in_addr v4;

	if (u->tls)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		if (strcmp(u->host, hosts[i]) == 0)
			return true;
	if (inet_pton(AF_INET, u->host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, u->host, &v6) != 1)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&v6) ||
	    (inet_pton(AF_INET6, "fd00:ec2::23", &other) == 1 &&
	    IN6_ARE_ADDR_EQUAL(&v6, &other));
}

static void
finish(struct aws_container *c, struct aws_answer *answer,
    const struct error *err)
{
	secret_free(c->token);
	c->token = NULL;
	c->done(c->owner, answer, err);
}

static void
on_timer(struct timer *t)
{
	struct aws_container *c = t->owner;

	http_send(c->http, &c->request);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct aws_container *c = q->owner;
	struct aws_answer answer;
	struct error why;

	if (http_may_retry(r, err) && ++c->tries < ATTEMPTS) {
		timer_arm(c->clients->loop, &c->timer, PAUSE_US);
		return;
	}
	if (err != NULL) {
		why = *err;
		finish(c, NULL, &why);
	} else if (r->status != 200) {
		/* Its text is not shown: nobody knows what is in it. */
		error_set(&why, http_may_retry(r, NULL) ? ERROR_TRANSIENT :
		    ERROR_AUTH, "container", "%s answers %u",
		    q->url.host_header, r->status);
		finish(c, NULL, &why);
	} else if (aws_answer_from_endpoint(r->body, &answer, &why) < 0) {
		finish(c, NULL, &why);
	} else {
		finish(c, &answer, NULL);
	}
}

static void
add_headers(struct http_request *q, struct buffer *out)
{
	struct aws_container *c = q->owner;

	buffer_add_str(out, "Accept: application/json\r\n");
	if (c->token == NULL)
		return;
	buffer_add_str(out, "Authorization: ");
	buffer_add_slice(out, secret_bytes(c->token));
	buffer_add_str(out, "\r\n");
}

static bool
has_control(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return true;
	return false;
}

static int
take_token(struct aws_container *c, const struct aws_container_params *p,
    struct error *err)
{
	struct error why;

	if (p->token_file != NULL) {
		c->token = secret_read_file(p->token_file, &why);
		if (c->token == NULL) {
			error_set(err, ERROR_AUTH, "container_token", "%s",
			    why.text);
			return -EACCES;
		}
	} else if (p->token != NULL) {
		struct slice s = secret_bytes(p->token);

		c->token = secret_new(s.p, s.n);
	}
	if (c->token != NULL && has_control(secret_bytes(c->token))) {
		secret_free(c->token);
		c->token = NULL;
		error_set(err, ERROR_AUTH, "container_token",
		    "the authorization token has a line break or another "
		    "control character in it");
		return -EINVAL;
	}
	return 0;
}

int
aws_container_start(struct aws_container *c,
    const struct aws_container_params *p, struct error *err)
{
	struct error why;

	memcpy(c->url, p->url, sizeof(c->url));
	if (http_url_parse(&c->request.url, c->url, &why) < 0) {
		error_set(err, ERROR_REJECTED, "url", "%s", why.text);
		return -EINVAL;
	}
	if (!aws_container_url_is_allowed(&c->request.url)) {
		error_set(err, ERROR_REJECTED, "container_host",
		    "%s must be asked with https: keys go unencrypted to "
		    "loopback and the container agents only",
		    c->request.url.host_header);
		return -EPERM;
	}
	c->http = aws_clients_direct(c->clients, err);
	if (c->http == NULL || take_token(c, p, err) < 0)
		return -EINVAL;
	c->tries = 0;
	http_send(c->http, &c->request);
	return 0;
}

void
aws_container_init(struct aws_container *c, struct aws_clients *clients,
    aws_provider_fn *done, void *owner)
{
	*c = (struct aws_container){ .clients = clients, .done = done,
		.owner = owner };
	timer_init(&c->timer, "aws.container", on_timer, c);
	c->request.add_headers = add_headers;
	c->request.on_done = on_done;
	c->request.owner = c;
	c->request.timeout_us = TIMEOUT_US;
	c->request.max_response = ANSWER_MAX;
}

void
aws_container_cancel(struct aws_container *c)
{
	timer_cancel(c->clients->loop, &c->timer);
	http_cancel(&c->request);
	secret_free(c->token);
	c->token = NULL;
}
