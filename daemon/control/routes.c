#include "control/routes.h"

#include "base/alloc.h"

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
}
