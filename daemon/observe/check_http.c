/*
 * HTTP=: a GET on a connection of its own.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/http.h"
#include "observe/check_impl.h"

#define BODY_MAX	((size_t)64 * KIB)	/* the rest is cut */

struct look {
	struct dependency *d;
	struct http_client *client;
	struct http_request request;
	struct http_url url;
	unsigned first, last;		/* statuses that are good */
};

static void
on_done(struct http_request *r, const struct http_response *answer,
    const struct error *err)
{
	struct look *k = r->owner;
	struct error bad;

	if (err != NULL) {
		check_failed(k->d, err);
		return;
	}
	if (answer->status >= k->first && answer->status <= k->last) {
		check_passed(k->d);
		return;
	}
	error_set(&bad, ERROR_REJECTED, "http_status", "it answers %u, not %u"
	    "-%u (Status=)", answer->status, k->first, k->last);
	check_failed(k->d, &bad);
}

static void
init(struct dependency *d, struct config *c)
{
	struct look *k = new0(struct look);
	const char *text = config_string(d->section, "HTTP");
	struct error err = ERROR_INIT;
	uint64_t first, last;

	k->d = d;
	d->impl = k;
	if (http_url_parse(&k->url, text, &err) < 0) {
		config_problem(c, d->section, "HTTP", "HTTP=: %s", err.text);
		return;
	}
	/* A query may hold a token. */
	snprintf(d->target, sizeof(d->target), "%.*s",
	    (int)strcspn(text, "?"), text);
	if (!k->url.tls && config_is_set(d->section, "CAFile"))
		config_problem(c, d->section, "CAFile", "CAFile= has no effect "
		    "on http://");
	config_range(d->section, "Status", &first, &last);
	k->first = (unsigned)first;
	k->last = (unsigned)last;
}

static int
start(struct dependency *d, struct error *err)
{
	struct look *k = d->impl;
	struct http_client *client;

	/* Anew, so that a changed CAFile= is read; the old one goes after that,
	   so that an unchanged one is not. */
	client = http_client_new(d->loop, d->resolver,
	    &(struct http_client_params){ .tls = check_tls_params(d),
	    .no_tls = !k->url.tls, .max_connections = 1,
	    .idle_timeout_us = 1 }, err);
	if (client == NULL)
		return -EINVAL;
	http_client_free(k->client);
	k->client = client;
	k->request = (struct http_request){
		.url = k->url,
		.on_done = on_done,
		.owner = k,
		/* Later than ours, which says it in the same words for all. */
		.connect_timeout_us = d->timeout_us + USEC_PER_SEC,
		.timeout_us = d->timeout_us + USEC_PER_SEC,
		.max_response = BODY_MAX,
		.any_status = true,
		.cut_response = true,
	};
	http_send(k->client, &k->request);
	return 0;
}

static const char *
stage(const struct dependency *d)
{
	(void)d;
	return "no answer";
}

static void
cancel(struct dependency *d)
{
	struct look *k = d->impl;

	http_cancel(&k->request);
}

static void
fini(struct dependency *d)
{
	struct look *k = d->impl;

	http_client_free(k->client);
	free(k);
}

const struct check_kind check_http = {
	.key = "HTTP",
	.init = init,
	.start = start,
	.stage = stage,
	.cancel = cancel,
	.fini = fini,
	.uses = CHECK_USES_CA | CHECK_USES_STATUS,
};
