/*
 * One connection: on the way up, asking, hearing, resting.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "client/http_impl.h"

#define CONNECT_TIMEOUT_US	(5 * USEC_PER_SEC)
#define UNREAD_MAX		MIB

/* ---- the way up ---- */

static void
tunnel_refused(struct http_conn *c, unsigned status)
{
	const char *to = c->endpoint->url.host_header;
	struct error err;

	if (status == 407)
		error_set(&err, ERROR_AUTH, "proxy_auth", "the proxy wants "
		    "other credentials (407) before it lets us to %s", to);
	else if (status >= 500)
		error_set(&err, ERROR_TRANSIENT, "proxy_error",
		    "the proxy has no way to %s (%u)", to, status);
	else
		error_set(&err, ERROR_REJECTED, "proxy_refused",
		    "the proxy does not let us to %s (%u)", to, status);
	http_exchange_failed(c->exchange, &err);
}

static void
tunnel_data(struct http_conn *c, struct buffer *in)
{
	struct http1_head head;
	struct error err, why;
	ssize_t n;

	/* A 2xx to CONNECT has no body either (RFC 9110, 9.3.6). */
	while ((n = http1_parse_response(buffer_slice(in), true, &head,
	    &why)) > 0 && head.status < 200)
		buffer_consume(in, (size_t)n);
	if (n == 0)
		return;
	if (n < 0) {
		error_set(&err, ERROR_PROTOCOL, why.code, "the proxy: %s",
		    why.text);
		http_exchange_failed(c->exchange, &err);
		return;
	}
	if (head.status > 299) {
		tunnel_refused(c, head.status);
		return;
	}
	buffer_consume(in, (size_t)n);
	c->state = HTTP_CONN_TUNNEL_TLS;
	stream_start_tls(&c->stream, c->endpoint->client->tls,
	    c->endpoint->url.host, c->endpoint->url.port);
}

static void
conn_up(struct stream *s)
{
	struct http_conn *c = s->owner;

	if (c->state == HTTP_CONN_CONNECTING && c->endpoint->proxy != NULL &&
	    c->endpoint->url.tls) {
		http_conn_write_connect(c);
		return;
	}
	timer_cancel(c->endpoint->client->loop, &c->timer);
	http_conn_write_request(c);
}

/* For all of the way up; the stream's own limits end with it or before. */
static void
on_connect_timeout(struct timer *t)
{
	struct http_conn *c = t->owner;
	const char *to = c->endpoint->url.host_header;
	struct error err;

	if (c->state == HTTP_CONN_TUNNEL)
		error_set(&err, ERROR_TRANSIENT, "connect_timeout",
		    "the proxy did not say in time whether it lets us to %s",
		    to);
	else
		error_set(&err, ERROR_TRANSIENT, "connect_timeout",
		    "no connection to %s in time (%s)", to,
		    stream_state_name(c->stream.state));
	http_exchange_failed(c->exchange, &err);
}

/* ---- the answer's bytes ---- */

static void
conn_data(struct stream *s, struct buffer *in)
{
	struct http_conn *c = s->owner;
	struct http_exchange *ex = c->exchange;
	struct http_endpoint *ep = c->endpoint;
	struct error err, why;
	int r;

	if (c->state == HTTP_CONN_TUNNEL) {
		tunnel_data(c, in);
		return;
	}
	if (c->state != HTTP_CONN_BUSY) {
		/* Said without being asked: maybe why it closes. */
		http_conn_free(c);
		http_endpoint_next(ep);
		return;
	}
	r = http_answer_read(&ex->answer, in, &why);
	if (r == 0)
		return;
	if (r < 0) {
		error_set(&err, why.class, why.code, "%s: %s",
		    ep->url.host_header, why.text);
		http_exchange_failed(ex, &err);
		return;
	}
	/* More than the answer, or an answer before the whole request: nobody
	   knows what would come next. */
	http_exchange_answered(ex, ex->answer.head.keep_alive &&
	    !ex->answer.was_cut && buffer_len(in) == 0 && c->unsent.n == 0 && stream_pending(s) == 0);
}

static void
conn_drained(struct stream *s)
{
	http_conn_write_more(s->owner);
}

static bool
is_end(const struct error *err)
{
	return strcmp(err->code, "eof") == 0 ||
	    strcmp(err->code, "tls_eof") == 0 ||
	    strcmp(err->code, "tls_truncated") == 0;
}

/* RFC 9110, section 9.2.2. */
static bool
may_resend(const struct http_request *r)
{
	static const char *const idempotent[] = { "GET", "HEAD", "PUT",
		"DELETE", "OPTIONS", "TRACE" };

	for (size_t i = 0; i < ARRAY_SIZE(idempotent); i++)
		if (strcmp(r->method, idempotent[i]) == 0)
			return true;
	return r->resend;
}

/* What the stream says, in the client's words. */
static void
explain(const struct http_conn *c, const struct error *from, struct error *ret)
{
	const char *to = c->endpoint->url.host_header;

	*ret = *from;
	if (c->state == HTTP_CONN_BUSY && is_end(from)) {
		error_set(ret, ERROR_TRANSIENT, "eof",
		    c->stream.bytes_in == c->heard_bytes ?
		    "%s closed the connection without an answer" :
		    "%s closed the connection in the middle of an answer", to);
	} else if (strcmp(from->code, "resolve_timeout") == 0 ||
	    strcmp(from->code, "handshake_timeout") == 0) {
		error_set(ret, ERROR_TRANSIENT, "connect_timeout", "%s",
		    from->text);
	} else if (c->endpoint->proxy != NULL &&
	    (c->state == HTTP_CONN_CONNECTING ||
	    c->state == HTTP_CONN_TUNNEL)) {
		error_set(ret, from->class, from->code, "the proxy: %s",
		    from->text);
	}
}

static void
conn_down(struct stream *s, const struct error *from)
{
	struct http_conn *c = s->owner;
	struct http_exchange *ex = c->exchange;
	struct http_endpoint *ep = c->endpoint;
	struct error err;

	if (ex == NULL) {
		http_conn_free(c);
		http_endpoint_next(ep);
		return;
	}
	if (c->state == HTTP_CONN_BUSY && http_answer_ends(&ex->answer) &&
	    strcmp(from->code, "eof") == 0) {
		http_exchange_answered(ex, false);
		return;
	}
	/* It had been closed before we asked, only the news came late.  Once:
	   the new one is not used yet. */
	if (c->state == HTTP_CONN_BUSY && c->used &&
	    s->bytes_in == c->heard_bytes && from->class == ERROR_TRANSIENT &&
	    may_resend(ex->request)) {
		c->exchange = NULL;
		http_conn_free(c);
		http_conn_open(ep, ex);
		return;
	}
	explain(c, from, &err);
	http_exchange_failed(ex, &err);
}

static const struct stream_ops conn_ops = {
	.on_up = conn_up,
	.on_data = conn_data,
	.on_drained = conn_drained,
	.on_down = conn_down,
};

/* ---- life ---- */

void
http_conn_open(struct http_endpoint *ep, struct http_exchange *ex)
{
	struct http_client *hc = ep->client;
	struct http_conn *c = new0(struct http_conn);
	uint64_t timeout_us = ex->request->connect_timeout_us != 0 ?
	    ex->request->connect_timeout_us : CONNECT_TIMEOUT_US;
	struct stream_params params = {
		.tls = ep->url.tls && ep->proxy == NULL ? hc->tls : NULL,
		.tls_name = ep->url.host,
		.connect_timeout_us = timeout_us,
		.handshake_timeout_us = timeout_us,
		.high_water = HTTP_WRITE_MARK,
		.max_unread = UNREAD_MAX,
	};
	struct address to;

	if (ep->proxy != NULL)
		to = ep->proxy->address;
	else
		http_url_address(&ep->url, &to);
	c->endpoint = ep;
	c->state = HTTP_CONN_CONNECTING;
	c->exchange = ex;
	ex->conn = c;
	list_push_back(&ep->busy, &c->link);
	ep->nconns++;
	hc->stats.open++;
	hc->stats.connects++;
	stream_init(&c->stream, "http", &conn_ops, c);
	timer_init(&c->timer, "http.connect", on_connect_timeout, c);
	timer_arm(hc->loop, &c->timer, timeout_us);
	stream_connect(&c->stream, hc->loop, hc->resolver, &to, &params);
}

void
http_conn_take(struct http_conn *c, struct http_exchange *ex)
{
	struct http_client *hc = c->endpoint->client;

	BUG_ON(c->state != HTTP_CONN_IDLE);
	c->exchange = ex;
	ex->conn = c;
	list_move_back(&c->endpoint->busy, &c->link);
	hc->stats.idle--;
	hc->stats.reused++;
	stream_set_idle_timeout(&c->stream, 0);
	http_conn_write_request(c);
}

void
http_conn_rest(struct http_conn *c)
{
	struct http_client *hc = c->endpoint->client;

	c->state = HTTP_CONN_IDLE;
	c->used = true;
	list_remove(&c->link);
	list_push_front(&c->endpoint->idle, &c->link);
	hc->stats.idle++;
	stream_set_idle_timeout(&c->stream, hc->idle_timeout_us);
}

void
http_conn_free(struct http_conn *c)
{
	struct http_client *hc = c->endpoint->client;

	BUG_ON(c->exchange != NULL && c->exchange->conn == c &&
	    c->exchange->request->exchange == c->exchange);
	timer_cancel(hc->loop, &c->timer);
	stream_done(&c->stream);
	list_remove(&c->link);
	c->endpoint->nconns--;
	hc->stats.open--;
	hc->stats.idle -= c->state == HTTP_CONN_IDLE;
	free(c);
}
