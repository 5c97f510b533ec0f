#include "control/routes.h"

#include "base/alloc.h"
#include "codec/url.h"
#include "control/events.h"
#include "control/http_auth.h"
#include "control/page.h"

struct routes {
	struct http_server *server;
	struct observer *observer;
	struct events events;
	struct http_auth auth;
};

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
add_metric(struct buffer *b, const char *name, const char *type,
    const char *suffix, const char *help, uint64_t value)
{
	buffer_printf(b, "# TYPE bot_operator_status_%s %s\n"
	    "# HELP bot_operator_status_%s %s\nbot_operator_status_%s%s %llu\n",
	    name, type, name, help, name, suffix, (unsigned long long)value);
}

/* Those of this server, which the observer does not know. */
static void
add_own_metrics(const struct routes *routes, struct buffer *b)
{
	const struct http_feed *f = &routes->events.feed;
	struct http_server_stats s;

	http_server_get_stats(routes->server, &s);
	add_metric(b, "requests", "counter", "_total",
	    "Requests to the status address.", s.requests);
	add_metric(b, "connections", "gauge", "",
	    "Connections to the status address.", s.connections);
	add_metric(b, "connections_refused", "counter", "_total",
	    "Connections over the limits.", s.refused);
	add_metric(b, "connections_cut", "counter", "_total",
	    "Connections of clients that were too slow.", s.cut);
	add_metric(b, "connections_banned", "counter", "_total",
	    "Connections that were closed since their address is banned.",
	    s.banned);
	add_metric(b, "subscribers", "gauge", "",
	    "Connections to /events.", f->n);
	add_metric(b, "subscribers_refused", "counter", "_total",
	    "Requests for /events over the limits.", f->refused);
	add_metric(b, "subscribers_dropped", "counter", "_total",
	    "Subscribers that did not keep up.", f->dropped);
	add_metric(b, "auth_failures", "counter", "_total",
	    "Requests with a wrong token.", routes->auth.failed);
}

static void
on_metrics(void *owner, const struct http_request *req,
    struct http_response *r)
{
	const struct routes *routes = owner;

	(void)req;
	r->content_type =
	    "application/openmetrics-text; version=1.0.0; charset=utf-8";
	add_own_metrics(routes, &r->body);
	observer_metrics(routes->observer, &r->body);
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
on_log(void *owner, const struct http_request *req, struct http_response *r)
{
	uint64_t last;
	json_t *j = observer_log(owner, 0, &last);

	(void)req;
	if (json_dump_callback(j, add_bytes, &r->body, STATUS_DUMP_FLAGS) < 0)
		BUG("the log cannot be printed");
	buffer_add_char(&r->body, '\n');
	json_decref(j);
	r->content_type = "application/json";
}

static void
on_page(void *owner, const struct http_request *req, struct http_response *r)
{
	json_t *status = observer_status(owner);
	uint64_t last;
	json_t *log = observer_log(owner, 0, &last);

	(void)req;
	r->content_type = "text/html; charset=utf-8";
	http_response_header(r, "Content-Security-Policy", page_policy());
	http_response_header(r, "Referrer-Policy", "no-referrer");
	http_response_header(r, "X-Frame-Options", "DENY");
	page_add(&r->body, status, log);
	json_decref(status);
	json_decref(log);
}

static const struct {
	const char *path, *what;
	http_route_fn *fn;
} paths[] = {
	{ "/", "the page for people", on_page },
	{ "/.well-known/engine-status", "the status document (JSON)",
	    on_status },
	{ "/healthz", "200 while the loop turns", on_healthz },
	{ "/readyz", "200 when work can be done, else 503", on_readyz },
	{ "/history.json", "?queue=NAME or ?pool=NAME, &span=1h: the last 24 "
	    "hours (JSON)", on_history },
	{ "/log.json", "the last warnings and errors (JSON)", on_log },
};

struct routes *
routes_new(struct http_server *s, struct loop *loop, struct observer *o)
{
	struct routes *routes = new0(struct routes);

	routes->server = s;
	routes->observer = o;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		http_server_route(s, paths[i].path, paths[i].what,
		    paths[i].fn, o);
	http_server_route(s, "/metrics", "OpenMetrics, for Prometheus",
	    on_metrics, routes);
	events_init(&routes->events, loop, o);
	http_server_route(s, "/events", "the status as it changes "
	    "(server-sent events)", events_subscribe, &routes->events);
	http_server_set_guard(s, http_auth_guard, &routes->auth);
	return routes;
}

void
routes_free(struct routes *routes)
{
	if (routes == NULL)
		return;
	events_done(&routes->events);
	http_auth_done(&routes->auth);
	free(routes);
}

int
routes_set_token_file(struct routes *routes, const char *path,
    struct error *err)
{
	struct secret *token = NULL;

	if (path != NULL && (token = secret_read_file(path, err)) == NULL)
		return -EACCES;
	http_auth_set(&routes->auth, token);
	return 0;
}
