#include "client/google_impl.h"

#include <arpa/inet.h>

#include "base/alloc.h"

#define METADATA_CONNECT_US (3 * USEC_PER_SEC)	/* google-auth, _metadata.py */

static void
add_bearer(struct buffer *out, const struct secret *token)
{
	buffer_add_str(out, "Authorization: Bearer ");
	buffer_add_slice(out, secret_bytes(token));
	buffer_add_str(out, "\r\n");
}

void
google_add_headers(struct http_request *q, struct buffer *out)
{
	struct google_fetch *f = q->owner;
	const struct google_account *a = &f->account;

	/* The file says what the server of a subject token wants. */
	if (f->step != GOOGLE_SUBJECT)
		buffer_add_str(out, "Accept: application/json\r\n");
	switch (f->step) {
	case GOOGLE_METADATA_TOKEN:
	case GOOGLE_METADATA_PROJECT:
		buffer_add_str(out, "Metadata-Flavor: " GOOGLE_FLAVOR "\r\n");
		break;
	case GOOGLE_SUBJECT:
		for (size_t i = 0; i < a->subject.nheaders; i++) {
			buffer_printf(out, "%s: ", a->subject.headers[i].name);
			buffer_add_slice(out, secret_bytes(
			    a->subject.headers[i].value));
			buffer_add_str(out, "\r\n");
		}
		break;
	case GOOGLE_EXCHANGE:
	case GOOGLE_REFRESH:
		if (f->step == GOOGLE_EXCHANGE && a->client_id != NULL)
			google_add_basic(out, a);
		buffer_add_str(out,
		    "Content-Type: application/x-www-form-urlencoded\r\n");
		break;
	case GOOGLE_BECOME:
		add_bearer(out, f->got.token);
		buffer_add_str(out, "Content-Type: application/json\r\n");
		break;
	case GOOGLE_IDLE:
	case GOOGLE_NSTEPS:
		break;
	}
}

static bool
is_loopback(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(host, "localhost") == 0;
}

static struct http_client *
client_for(struct google_fetch *f, bool direct, struct error *err)
{
	struct http_client **c = direct ? &f->direct : &f->proxied;
	struct http_client_params p = {
		.tls.ca_file = f->params->ca_file,
		.no_tls = direct,
		.proxy = direct ? "" : NULL,
	};

	if (*c == NULL)
		*c = http_client_new(f->params->loop, f->params->resolver, &p,
		    err);
	return *c;
}

/*
 * Plain http: only to this machine, but for metadata servers (ours, and those
 * of other clouds that have subject tokens), which are a hop away, never
 * behind a proxy, and speak nothing else.
 */
static int
check_url(const struct google_fetch *f, enum google_step step,
    struct error *err)
{
	const struct http_url *u = &f->request.url;

	if (u->tls || is_loopback(u->host) || step == GOOGLE_SUBJECT ||
	    step == GOOGLE_METADATA_TOKEN || step == GOOGLE_METADATA_PROJECT)
		return 0;
	error_set(err, ERROR_AUTH, "google_url", "%s must be asked with https: "
	    "secrets do not go unencrypted to other machines", u->host_header);
	return -EPERM;
}

int
google_ask(struct google_fetch *f, enum google_step step, const char *url,
    struct error *err)
{
	bool post = step == GOOGLE_REFRESH || step == GOOGLE_EXCHANGE ||
	    step == GOOGLE_BECOME;
	struct http_client *client;
	struct error why;

	free(f->url);
	f->url = xstrdup(url);
	if (http_url_parse(&f->request.url, f->url, &why) < 0) {
		error_set(err, ERROR_AUTH, "google_url", "%s: %s",
		    step == GOOGLE_SUBJECT ? "credential_source.url" :
		    step == GOOGLE_BECOME ? "the URL of impersonation" :
		    post ? "the URL of tokens" : "GCE_METADATA_HOST",
		    why.text);
		return -EINVAL;
	}
	if (check_url(f, step, err) < 0)
		return -EPERM;
	client = client_for(f, !f->request.url.tls, err);
	if (client == NULL)
		return -EINVAL;
	f->step = step;
	f->request.method = post ? "POST" : "GET";
	f->request.body = post ? buffer_slice(&f->body) :
	    (struct slice){ NULL, 0 };
	f->request.connect_timeout_us = step == GOOGLE_METADATA_TOKEN ?
	    METADATA_CONNECT_US : 0;
	http_send(client, &f->request);
	return 0;
}
