#include "control/routes.h"

#include "base/alloc.h"
#include "codec/url.h"

static int
add_bytes(const char *p, size_t n, void *buffer)
{
	buffer_add(buffer, p, n);
	return 0;
}

static void
on_status(void *owner, const struct http_request *req,
    struct http_response *r)
{
	struct observer *o = owner;
	enum health h = observer_health(o);
	json_t *status = observer_status(o);

	(void)req;
	if (json_dump_callback(status, add_bytes, &r->body,
	    STATUS_DUMP_FLAGS) < 0)
		BUG("the status document cannot be printed");
	buffer_add_char(&r->body, '\n');
	json_decref(status);
	r->content_type = "application/json";
	if (h != HEALTH_OK && h != HEALTH_DEGRADED)
		r->status = 503;
}

static void
on_healthz(void *owner, const struct http_request *req,
    struct http_response *r)
{
	(void)owner;
	(void)req;
	buffer_add_str(&r->body, "ok\n");
}

static void
on_readyz(void *owner, const struct http_request *req,
    struct http_response *r)
{
	struct observer *o = owner;

	(void)req;
	if (!observer_ready(o)) {
		r->status = 503;
		buffer_add_str(&r->body, "not ready: ");
	}
	observer_line(o, &r->body);
	buffer_add_char(&r->body, '\n');
}

static void
on_metrics(void *owner, const struct http_request *req,
    struct http_response *r)
{
	(void)req;
	r->content_type =
	    "application/openmetrics-text; version=1.0.0; charset=utf-8";
	observer_metrics(owner, &r->body);
}

/* The value of a name in the query, without escapes. */
static bool
query_value(const struct http_request *req, const char *name,
    struct buffer *ret)
{
	struct slice query = req->query, n, v;

	while (url_query_next(&query, &n, &v)) {
		if (!slice_is(n, name))
			continue;
		buffer_clear(ret);
		/* No name has a NUL in it. */
		return url_decode(ret, v, true) == 0 &&
		    strlen(buffer_cstr(ret)) == buffer_len(ret);
	}
	return false;
}

static void
on_history(void *owner, const struct http_request *req,
    struct http_response *r)
{
	_cleanup_buffer_ struct buffer name = BUFFER_INIT;
	_cleanup_buffer_ struct buffer span = BUFFER_INIT;
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	uint64_t span_us = 3600 * USEC_PER_SEC;
	bool queue = query_value(req, "queue", &name);
	json_t *j;

	if (!queue && !query_value(req, "pool", &name)) {
		r->status = 400;
		buffer_add_str(&r->body, "of what? "
		    "/history.json?queue=NAME&span=1h, or ?pool=NAME\n");
		return;
	}
	if (query_value(req, "span", &span) && (config_parse_span(
	    buffer_cstr(&span), &span_us, &why) < 0 ||
	    span_us < USEC_PER_SEC || span_us > HISTORY_SPAN_MAX_US)) {
		r->status = 400;
		buffer_add_str(&r->body, "span: from 1s to 24h, such as 6h\n");
		return;
	}
	j = observer_history(owner, queue ? HISTORY_QUEUE : HISTORY_POOL,
	    buffer_cstr(&name), span_us);
	if (j == NULL) {
		r->status = 404;
		buffer_printf(&r->body, "there is no %s of that name\n",
		    queue ? "queue" : "pool");
		return;
	}
	if (json_dump_callback(j, add_bytes, &r->body, STATUS_DUMP_FLAGS) < 0)
		BUG("the history cannot be printed");
	buffer_add_char(&r->body, '\n');
	json_decref(j);
	r->content_type = "application/json";
}

static void
on_page(void *owner, const struct http_request *req, struct http_response *r)
{
	json_t *status = observer_status(owner);

	(void)req;
	r->content_type = "text/html; charset=utf-8";
	http_response_header(r, "Content-Security-Policy", page_policy);
	http_response_header(r, "Referrer-Policy", "no-referrer");
	page_add(&r->body, status);
	json_decref(status);
}

void
routes_add(struct http_server *s, struct observer *o)
{
	http_server_route(s, "/", "the page for people", on_page, o);
	http_server_route(s, "/.well-known/engine-status",
	    "the status document (JSON)", on_status, o);
	http_server_route(s, "/healthz", "200 while the loop turns",
	    on_healthz, o);
	http_server_route(s, "/readyz", "200 when work can be done, else 503",
	    on_readyz, o);
	http_server_route(s, "/metrics", "OpenMetrics, for Prometheus",
	    on_metrics, o);
	http_server_route(s, "/history.json",
	    "?queue=NAME or ?pool=NAME, &span=1h: the last 24 hours (JSON)",
	    on_history, o);
}
