#include "control/http_server.h"

#include <netinet/in.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/http_date.h"
#include "codec/url.h"
#include "control/http_message.h"

#define TURN_REQUESTS	16		/* of one connection in one turn */
#define HIGH_WATER	(64 * KIB)	/* unsent: answers wait */
#define UNREAD_MAX	(64 * KIB)
#define READ_BUDGET	(16 * KIB)
/* What the kernel keeps for a peer that does not read; by itself it lets that
   grow to megabytes. */
#define SEND_BUFFER	(64 * 1024)
/* Connections over the limit that are being told so; more are just closed. */
#define REFUSED_MAX	16

struct route {
	struct list link;
	const char *path, *what;
	http_route_fn *fn;
	void *owner;
};

struct http_server {
	struct loop *loop;
	struct http_server_params params;
	char **names;
	http_guard_fn *guard;		/* NULL: all may ask for all */
	void *guard_owner;
	http_ban_fn *ban;		/* NULL: nobody is banned */
	void *ban_owner;
	struct list routes;
	struct listener listener;
	struct list conns;
	unsigned nconns, nrefused;
	struct http_server_stats stats;
};

enum conn_state {
	CONN_IDLE = 1,		/* between requests */
	CONN_HEAD,		/* a head has begun, or the first is awaited */
	CONN_FEED,		/* an answer that goes on; input is ignored */
	CONN_LINGER,		/* answered for the last time; eats the rest */
	CONN_CLOSING,		/* the stream sends what is left and ends */
};

struct conn {
	struct list link;
	struct http_server *server;
	struct stream stream;
	enum conn_state state;
	uint64_t since_us;	/* in this state */
	struct timer timer;
	uint64_t sent, progress_us;	/* bytes taken by the peer, and when */
	struct task resume;	/* the next requests, in the next turn */
	struct http_subscriber subscriber;	/* its origin: of any request */
	bool refused;
	struct sockaddr_storage peer;
};

/* ---- the life of a connection ---- */

/* The only writer of the state. */
static void
conn_enter(struct conn *c, enum conn_state state)
{
	const struct http_server_params *p = &c->server->params;
	uint64_t wait = p->idle_timeout_us;

	if (c->state == CONN_CLOSING)
		return;
	c->state = state;
	c->since_us = clock_monotonic_us();
	if (state == CONN_CLOSING) {
		timer_cancel(c->server->loop, &c->timer);
		task_cancel(&c->resume);
		stream_close_flushed(&c->stream);
		return;
	}
	if (state == CONN_HEAD)
		wait = p->head_timeout_us;
	else if (state == CONN_LINGER)
		wait = p->linger_us;
	else if (state == CONN_FEED)
		wait = p->write_timeout_us / 4;
	if (stream_pending(&c->stream) != 0)
		wait = MIN(wait, p->write_timeout_us / 4);
	timer_arm(c->server->loop, &c->timer, wait);
}

static void
conn_free(struct conn *c)
{
	struct http_server *s = c->server;

	http_feed_leave(&c->subscriber);
	list_remove(&c->link);
	if (c->refused)
		s->nrefused--;
	else
		s->nconns--;
	timer_cancel(s->loop, &c->timer);
	task_cancel(&c->resume);
	stream_done(&c->stream);
	free(c);
}

static void
conn_cut(struct conn *c, const char *why)
{
	char peer[ADDRESS_TEXT_BYTES];

	log_debug(NULL, "status server: %s %s; closed",
	    address_text(&c->stream.peer, peer), why);
	c->server->stats.cut++;
	conn_free(c);
}

/* True when it was closed: what was begun for somebody is not gone on with. */
static bool
conn_ban(struct conn *c)
{
	struct http_server *s = c->server;

	if (s->ban == NULL ||
	    !s->ban(s->ban_owner, (const struct sockaddr *)&c->peer))
		return false;
	s->stats.banned++;
	conn_free(c);
	return true;
}

/* ---- answers ---- */

void
http_response_header(struct http_response *r, const char *name,
    const char *value)
{
	BUG_ON(strpbrk(name, "\r\n:") != NULL || strpbrk(value, "\r\n") != NULL);
	buffer_printf(&r->headers, "%s: %s\r\n", name, value);
}

static void
response_init(struct http_response *r)
{
	*r = (struct http_response){ .status = 200,
		.content_type = "text/plain; charset=utf-8" };
}

static void
add_length(struct buffer *out, const struct http_response *r)
{
	if (r->feed == NULL)
		buffer_printf(out, "Content-Length: %zu\r\n",
		    buffer_len(&r->body));
}

/* head NULL: it was not understood. keep: the connection goes on. */
static void
conn_send(struct conn *c, const struct http1_head *head,
    struct http_response *r, bool keep)
{
	struct buffer *out = stream_out(&c->stream);
	bool with_body = head == NULL || !slice_is(head->method, "HEAD");
	char date[HTTP_DATE_BYTES];

	if (stream_pending(&c->stream) == 0) {
		c->sent = c->stream.bytes_out;
		c->progress_us = clock_monotonic_us();
	}
	buffer_printf(out, "HTTP/1.1 %u %s\r\nDate: %s\r\n"
	    "Content-Type: %s\r\n"
	    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
	    "Cross-Origin-Resource-Policy: same-origin\r\n",
	    r->status, http1_reason(r->status),
	    http_date(date, clock_realtime_us()), r->content_type);
	add_length(out, r);
	if (!keep)
		buffer_add_str(out, "Connection: close\r\n");
	else if (head != NULL && head->minor == 0)
		buffer_add_str(out, "Connection: keep-alive\r\n");
	buffer_add(out, buffer_head(&r->headers), buffer_len(&r->headers));
	buffer_add_str(out, "\r\n");
	if (with_body)
		buffer_add(out, buffer_head(&r->body), buffer_len(&r->body));
	stream_flush(&c->stream);
	buffer_done(&r->headers);
	buffer_done(&r->body);
}

/* The last answer of a connection of which more may come than is read: closing
   at once would reset it, and the peer might never see why. */
static void
conn_refuse(struct conn *c, const struct http1_head *head,
    struct http_response *r)
{
	conn_send(c, head, r, false);
	conn_enter(c, CONN_LINGER);
}

/* Bytes that are no request, or that ask for too much. */
static void
answer_malformed(struct conn *c, const struct error *err)
{
	struct http_response r;

	response_init(&r);
	r.status = 400;
	if (strcmp(err->code, "head_too_long") == 0 ||
	    strcmp(err->code, "too_many_headers") == 0) {
		r.status = 431;
		buffer_printf(&r.body, "The head of the request is too long: "
		    "send at most %zu bytes and %d headers (fewer cookies?)."
		    "\n", HTTP1_HEAD_MAX, HTTP1_HEADERS_MAX);
	} else if (strcmp(err->code, "version") == 0) {
		r.status = 505;
		buffer_add_str(&r.body, "Only HTTP/1.1 and HTTP/1.0 are spoken "
		    "here.\n");
	} else {
		buffer_printf(&r.body, "This is not a well-formed HTTP/1.1 "
		    "request: %s.\nPlain HTTP is spoken here, no TLS; try: "
		    "curl http://ADDRESS:PORT/healthz\n", err->text);
	}
	conn_refuse(c, NULL, &r);
}

static void
add_paths(struct http_server *s, struct buffer *b)
{
	struct list *l;

	list_foreach(l, &s->routes) {
		struct route *route = list_entry(l, struct route, link);

		buffer_printf(b, "  %-28s %s\n", route->path, route->what);
	}
}

static struct route *
find_route(struct http_server *s, struct slice path)
{
	struct list *l;

	list_foreach(l, &s->routes) {
		struct route *route = list_entry(l, struct route, link);

		if (slice_is(path, route->path))
			return route;
	}
	return NULL;
}

static void
answer_path(struct http_server *s, const struct http1_head *head,
    const struct address *peer, struct slice origin, struct http_response *r)
{
	_cleanup_buffer_ struct buffer path = BUFFER_INIT;
	struct http_request req = { .head = head, .peer = peer };
	struct slice escaped;
	struct route *route;

	url_split(origin, &escaped, &req.query);
	if (url_decode(&path, escaped, false) < 0) {
		r->status = 400;
		buffer_add_str(&r->body, "The path holds a '%' without two hex "
		    "digits behind it: write %25 for the sign itself.\n");
		return;
	}
	req.path = buffer_slice(&path);
	if (s->guard != NULL && !s->guard(s->guard_owner, &req, r))
		return;
	route = find_route(s, req.path);
	if (route != NULL) {
		route->fn(route->owner, &req, r);
		return;
	}
	r->status = 404;
	buffer_add_str(&r->body, "There is nothing here. These paths exist:\n");
	add_paths(s, &r->body);
}

/* 0, or the status to refuse with and why, in r. */
static unsigned
check_request(struct http_server *s, const struct http1_head *head,
    struct slice *ret_origin, struct http_response *r)
{
	struct slice host = http1_header(head, "Host");

	if (!slice_is(head->method, "GET") && !slice_is(head->method, "HEAD")) {
		http_response_header(r, "Allow", "GET, HEAD");
		buffer_add_str(&r->body, "Only GET and HEAD are answered here; "
		    "to change anything use botctl on the host.\n");
		return 405;
	}
	if (head->body == HTTP1_BODY_CHUNKED ||
	    (head->body == HTTP1_BODY_LENGTH && head->content_length != 0)) {
		buffer_add_str(&r->body, "No request bodies are taken here: "
		    "send the same request without one.\n");
		return 413;
	}
	if (!http_origin_target(head->target, ret_origin, &host)) {
		buffer_add_str(&r->body, "The target must be a path, such as "
		    "/healthz.\n");
		return 400;
	}
	/* HTTP/1.0 may come without; browsers never do. */
	if (host.p == NULL)
		return 0;
	switch (http_check_host(host, s->names)) {
	case 400:
		buffer_add_str(&r->body, "The Host header is not HOST or "
		    "HOST:PORT.\n");
		return 400;
	case 421:
		buffer_add_str(&r->body, "This name is not one that is "
		    "answered to here: use the IP address or localhost, or add "
		    "the name to StatusHosts= in [Operator].\n");
		return 421;
	default:
		return 0;
	}
}

/* The last answer of a connection, which goes on for as long as the peer
   listens. */
static void
conn_subscribe(struct conn *c, const struct http1_head *head,
    struct http_response *r)
{
	struct http_feed *feed = r->feed;

	if (!slice_is(head->method, "HEAD") &&
	    !http_feed_join(feed, &c->subscriber)) {
		buffer_done(&r->body);
		buffer_done(&r->headers);
		response_init(r);
		r->status = 503;
		http_response_header(r, "Retry-After", "10");
		buffer_printf(&r->body, "Too many listen: at most %u, %u of "
		    "one address. Ask for the status document now and then "
		    "instead.\n", feed->max, feed->max_per_address);
	}
	conn_send(c, head, r, false);
	conn_enter(c, c->subscriber.feed != NULL ? CONN_FEED : CONN_CLOSING);
}

/* Answers one request.  False when the connection goes no further. */
static bool
conn_serve(struct conn *c, const struct http1_head *head)
{
	bool body = head->body == HTTP1_BODY_CHUNKED ||
	    (head->body == HTTP1_BODY_LENGTH && head->content_length != 0);
	struct http_response r;
	struct slice origin;
	unsigned status;

	c->server->stats.requests++;
	response_init(&r);
	status = check_request(c->server, head, &origin, &r);
	if (status == 0)
		answer_path(c->server, head, &c->stream.peer, origin, &r);
	else
		r.status = status;
	if (body) {
		conn_refuse(c, head, &r);
		return false;
	}
	if (r.feed != NULL) {
		conn_subscribe(c, head, &r);
		return false;
	}
	conn_send(c, head, &r, head->keep_alive);
	if (!head->keep_alive)
		conn_enter(c, CONN_CLOSING);
	return head->keep_alive;
}

/* ---- what the stream tells ---- */

static void
on_data(struct stream *stream, struct buffer *in)
{
	struct conn *c = stream->owner;
	struct http1_head head;
	struct error err;

	if (conn_ban(c))
		return;
	for (int n = 0; c->state <= CONN_HEAD && buffer_len(in) != 0; n++) {
		ssize_t len;

		if (stream_pending(stream) > HIGH_WATER) {
			stream_pause(stream, true);	/* till on_drained */
			return;
		}
		if (n == TURN_REQUESTS) {
			stream_pause(stream, true);
			task_schedule(c->server->loop, &c->resume);
			return;
		}
		len = http1_parse_request(buffer_slice(in), &head, &err);
		if (len == 0) {
			/* Each further byte buys no further time. */
			if (c->state != CONN_HEAD)
				conn_enter(c, CONN_HEAD);
			return;
		}
		if (len < 0) {
			answer_malformed(c, &err);
			break;
		}
		if (!conn_serve(c, &head))
			break;
		buffer_consume(in, (size_t)len);
		conn_enter(c, CONN_IDLE);
	}
	if (c->state > CONN_HEAD)
		buffer_clear(in);
}

static void
on_resume(struct task *t)
{
	struct conn *c = t->owner;

	stream_pause(&c->stream, false);
}

static void
on_drained(struct stream *stream)
{
	stream_pause(stream, false);
}

static void
on_down(struct stream *stream, const struct error *err)
{
	(void)err;
	conn_free(stream->owner);
}

static const struct stream_ops conn_ops = {
	.on_data = on_data,
	.on_drained = on_drained,
	.on_down = on_down,
};

/* ---- time ---- */

static void
answer_too_slow(struct conn *c)
{
	struct http_response r;

	c->server->stats.cut++;
	response_init(&r);
	r.status = 408;
	buffer_printf(&r.body, "No whole request came within %llu s: send it at "
	    "once, or open the connection later.\n", (unsigned long long)
	    (c->server->params.head_timeout_us / USEC_PER_SEC));
	conn_refuse(c, NULL, &r);
}

/* True when it was cut. */
static bool
check_progress(struct conn *c, uint64_t now)
{
	if (c->sent != c->stream.bytes_out) {
		c->sent = c->stream.bytes_out;
		c->progress_us = now;
	}
	if (now - c->progress_us < c->server->params.write_timeout_us)
		return false;
	conn_cut(c, "does not read its answers");
	return true;
}

/* When the state has lasted too long. */
static uint64_t
state_due(const struct conn *c)
{
	const struct http_server_params *p = &c->server->params;

	if (c->state == CONN_IDLE)
		return c->since_us + p->idle_timeout_us;
	if (c->state == CONN_HEAD)
		return c->since_us + p->head_timeout_us;
	if (c->state == CONN_FEED)
		return USEC_INFINITY;
	/* While more of the unread comes, but not for ever. */
	return MIN(MAX(c->since_us, c->stream.last_read_us) + p->linger_us,
	    c->since_us + p->head_timeout_us);
}

static void
on_timer(struct timer *t)
{
	struct conn *c = t->owner;
	const struct http_server_params *p = &c->server->params;
	uint64_t now = clock_monotonic_us(), due = state_due(c), next;
	bool pending = stream_pending(&c->stream) != 0;

	if (conn_ban(c))
		return;
	if (pending && check_progress(c, now))
		return;
	if (c->state == CONN_FEED) {
		/* What comes next has its whole time. */
		if (!pending)
			c->progress_us = now;
		timer_arm(c->server->loop, t, p->write_timeout_us / 4);
		return;
	}
	if (now >= due && (!pending || c->state == CONN_LINGER)) {
		if (c->state == CONN_HEAD)
			answer_too_slow(c);
		else if (c->state == CONN_LINGER)
			conn_enter(c, CONN_CLOSING);
		else
			conn_cut(c, "asked nothing more");
		return;
	}
	next = now >= due ? p->write_timeout_us / 4 : due - now;
	if (pending)
		next = MIN(next, p->write_timeout_us / 4);
	timer_arm(c->server->loop, &c->timer, next);
}

/* ---- accepting ---- */

static struct http_origin
origin_of(const struct sockaddr *sa)
{
	struct http_origin o = { 0 };

	if (sa == NULL)
		return o;
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		o.family = AF_INET;
		memcpy(o.bytes, &in.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
			o.family = AF_INET;
			memcpy(o.bytes, in6.sin6_addr.s6_addr + 12, 4);
		} else {
			/* Whoever has one address of a /64 has them all. */
			o.family = AF_INET6;
			memcpy(o.bytes, &in6.sin6_addr, 8);
		}
	}
	return o;
}

static bool
is_full(const struct http_server *s, const struct http_origin *o)
{
	unsigned same = 0;
	struct list *l;

	if (s->nconns >= s->params.max_connections)
		return true;
	list_foreach(l, &s->conns) {
		struct conn *c = list_entry(l, struct conn, link);

		same += !c->refused &&
		    http_origin_same(&c->subscriber.origin, o);
	}
	return same >= s->params.max_per_address;
}

static void
answer_full(struct conn *c)
{
	const struct http_server_params *p = &c->server->params;
	struct http_response r;

	response_init(&r);
	r.status = 503;
	http_response_header(&r, "Retry-After", "1");
	buffer_printf(&r.body, "Too many connections: at most %u are served, "
	    "%u of one address. Close some, or try again in a moment.\n",
	    p->max_connections, p->max_per_address);
	conn_refuse(c, NULL, &r);
}

static void
on_feed_cut(struct http_subscriber *s)
{
	conn_cut(container_of(s, struct conn, subscriber),
	    "does not keep up with the events");
}

static void
on_accept(struct listener *listener, int fd, const struct sockaddr *peer)
{
	struct http_server *s = listener->owner;
	const struct stream_params params = {
		/* For a last answer that nobody reads. */
		.handshake_timeout_us = s->params.write_timeout_us,
		.max_unread = UNREAD_MAX,
		.read_budget = READ_BUDGET,
		.high_water = HIGH_WATER,
	};
	struct http_origin origin = origin_of(peer);
	bool refused = is_full(s, &origin);
	struct conn *c;
	int size = SEND_BUFFER;

	if (s->ban != NULL && peer != NULL && s->ban(s->ban_owner, peer)) {
		s->stats.banned++;
		(void)close(fd);
		return;
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (refused)
		s->stats.refused++;
	else
		s->stats.accepted++;
	if (refused && s->nrefused >= REFUSED_MAX) {
		(void)close(fd);
		return;
	}
	c = new0(struct conn);
	c->server = s;
	c->subscriber = (struct http_subscriber){ .stream = &c->stream,
		.origin = origin, .cut = on_feed_cut };
	c->refused = refused;
	c->peer.ss_family = AF_UNSPEC;
	if (peer != NULL)
		memcpy(&c->peer, peer, peer->sa_family == AF_INET6 ?
		    sizeof(struct sockaddr_in6) : peer->sa_family == AF_INET ?
		    sizeof(struct sockaddr_in) : sizeof(sa_family_t));
	list_push_back(&s->conns, &c->link);
	if (refused)
		s->nrefused++;
	else
		s->nconns++;
	timer_init(&c->timer, "http connection", on_timer, c);
	task_init(&c->resume, LOOP_FREE, "http pipelined", on_resume, c);
	stream_init(&c->stream, "http", &conn_ops, c);
	stream_accept(&c->stream, s->loop, fd, &params);
	if (refused)
		answer_full(c);
	else
		conn_enter(c, CONN_HEAD);
}

/* ---- the server ---- */

static void
copy_names(struct http_server *s, char *const *names)
{
	size_t n = 0;

	while (names[n] != NULL)
		n++;
	s->names = xcalloc(n + 1, sizeof(*s->names));
	for (size_t i = 0; i < n; i++)
		s->names[i] = xstrdup(names[i]);
}

struct http_server *
http_server_new(struct loop *loop, const struct http_server_params *params)
{
	struct http_server *s = new0(struct http_server);
	struct http_server_params *p = &s->params;

	s->loop = loop;
	list_init(&s->routes);
	list_init(&s->conns);
	listener_init(&s->listener, "http listener", on_accept, s);
	if (params != NULL)
		*p = *params;
	if (p->names != NULL)
		copy_names(s, p->names);
	p->names = NULL;
	if (p->head_timeout_us == 0)
		p->head_timeout_us = 10 * USEC_PER_SEC;
	if (p->idle_timeout_us == 0)
		p->idle_timeout_us = 60 * USEC_PER_SEC;
	if (p->write_timeout_us == 0)
		p->write_timeout_us = 30 * USEC_PER_SEC;
	if (p->linger_us == 0)
		p->linger_us = USEC_PER_SEC;
	if (p->max_connections == 0)
		p->max_connections = 64;
	if (p->max_per_address == 0)
		p->max_per_address = 16;
	return s;
}

void
http_server_free(struct http_server *s)
{
	struct list *l, *tmp;

	if (s == NULL)
		return;
	listener_stop(&s->listener);
	list_foreach_safe(l, tmp, &s->conns)
		conn_free(list_entry(l, struct conn, link));
	list_foreach_safe(l, tmp, &s->routes)
		free(list_entry(l, struct route, link));
	for (size_t i = 0; s->names != NULL && s->names[i] != NULL; i++)
		free(s->names[i]);
	free(s->names);
	free(s);
}

void
http_server_set_guard(struct http_server *s, http_guard_fn *fn, void *owner)
{
	s->guard = fn;
	s->guard_owner = owner;
}

void
http_server_set_ban(struct http_server *s, http_ban_fn *fn, void *owner)
{
	s->ban = fn;
	s->ban_owner = owner;
}

void
http_server_route(struct http_server *s, const char *path, const char *what,
    http_route_fn *fn, void *owner)
{
	struct route *r = new0(struct route);

	*r = (struct route){ .path = path, .what = what, .fn = fn,
		.owner = owner };
	list_push_back(&s->routes, &r->link);
}

int
http_server_listen(struct http_server *s, const struct address *a,
    struct error *err)
{
	return listener_start(&s->listener, s->loop, a, 0660, err);
}

int
http_server_adopt(struct http_server *s, int fd, struct error *err)
{
	return listener_adopt(&s->listener, s->loop, fd, err);
}

const struct address *
http_server_address(const struct http_server *s)
{
	return &s->listener.bound;
}

void
http_server_get_stats(const struct http_server *s,
    struct http_server_stats *ret)
{
	*ret = s->stats;
	ret->connections = s->nconns;
}
