#include "client/http.h"

#include <strings.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/http_impl.h"

#define MAX_CONNECTIONS	64u
#define IDLE_TIMEOUT_US	(50 * USEC_PER_SEC)	/* below the usual 60 s */
#define TIMEOUT_US	(30 * USEC_PER_SEC)

/* ---- the client ---- */

struct http_client *
http_client_new(struct loop *loop, struct resolver *resolver,
    const struct http_client_params *p, struct error *err)
{
	struct http_client *hc = new0(struct http_client);
	struct tls_params tls = p->tls;

	hc->loop = loop;
	hc->resolver = resolver;
	hc->max_connections = p->max_connections != 0 ? p->max_connections :
	    MAX_CONNECTIONS;
	hc->idle_timeout_us = p->idle_timeout_us != 0 ? p->idle_timeout_us :
	    IDLE_TIMEOUT_US;
	hash_init(&hc->endpoints);
	if (http_proxies_init(&hc->proxies, p->proxy, err) < 0) {
		http_client_free(hc);
		return NULL;
	}
	tls.server = false;
	tls.alpn = "http/1.1";
	if (!p->no_tls)
		hc->tls = tls_context_new(&tls, err);
	if (hc->tls == NULL && !p->no_tls) {
		http_client_free(hc);
		return NULL;
	}
	return hc;
}

void
http_client_free(struct http_client *hc)
{
	struct hash_node *n;

	if (hc == NULL)
		return;
	while ((n = hash_any(&hc->endpoints)) != NULL) {
		struct http_endpoint *ep = container_of(n,
		    struct http_endpoint, node);

		BUG_ON(!list_empty(&ep->busy) || !list_empty(&ep->waiting));
		http_endpoint_close_idle(ep);
	}
	hash_done(&hc->endpoints);
	http_proxies_done(&hc->proxies);
	tls_context_unref(hc->tls);
	free(hc);
}

void
http_client_get_stats(const struct http_client *hc,
    struct http_client_stats *ret)
{
	*ret = hc->stats;
}

/* ---- one exchange ---- */

/* Out of its endpoint, without its connection; the memory stays. */
static void
detach(struct http_exchange *ex)
{
	struct http_client *hc = ex->endpoint->client;

	timer_cancel(hc->loop, &ex->timer);
	ex->request->exchange = NULL;
	if (ex->conn != NULL) {
		ex->conn->exchange = NULL;
		ex->conn = NULL;
	} else {
		list_remove(&ex->link);
		hc->stats.waiting--;
	}
}

static void
exchange_free(struct http_exchange *ex)
{
	http_answer_done(&ex->answer);
	free(ex);
}

void
http_exchange_failed(struct http_exchange *ex, const struct error *err)
{
	struct http_request *r = ex->request;
	struct http_endpoint *ep = ex->endpoint;
	struct http_conn *c = ex->conn;
	struct error copy = *err;	/* it may be the connection's own */

	detach(ex);
	if (c != NULL)
		http_conn_free(c);
	ep->client->stats.failed++;
	exchange_free(ex);
	http_endpoint_next(ep);
	r->on_done(r, NULL, &copy);
}

/* Answers that no owner wants to see as such. */
static bool
refuses(const struct http_exchange *ex, struct error *ret)
{
	const struct http1_head *h = &ex->answer.head;
	const struct http_endpoint *ep = ex->endpoint;
	struct slice to;
	const char *query;

	if (h->status == 407 && ep->proxy != NULL && !ep->url.tls) {
		error_set(ret, ERROR_AUTH, "proxy_auth", "the proxy wants "
		    "other credentials (407) before it asks %s",
		    ep->url.host_header);
		return true;
	}
	if (h->status < 300 || h->status > 399 || ex->request->any_status)
		return false;
	to = http1_header(h, "Location");
	/* A query may hold a signature. */
	query = to.n != 0 ? memchr(to.p, '?', to.n) : NULL;
	if (query != NULL)
		to.n = (size_t)(query - to.p);
	error_set(ret, ERROR_REJECTED, "redirect", "%s answers %u%s%.*s; "
	    "redirects are not followed", ep->url.host_header, h->status,
	    to.n != 0 ? ", Location: " : "", (int)MIN(to.n, (size_t)150),
	    to.n != 0 ? to.p : "");
	return true;
}

void
http_exchange_answered(struct http_exchange *ex, bool keep)
{
	struct http_request *r = ex->request;
	struct http_endpoint *ep = ex->endpoint;
	struct http_conn *c = ex->conn;
	struct http_response answer = {
		.status = ex->answer.head.status,
		.head = &ex->answer.head,
		.body = buffer_slice(&ex->answer.body),
	};
	struct error err;
	bool refused = refuses(ex, &err);

	ep->client->stats.failed += refused;
	http_read_times(answer.head, &answer.retry_after_us, &answer.date_us);
	detach(ex);
	if (keep)
		http_conn_rest(c);
	else
		http_conn_free(c);
	http_endpoint_next(ep);
	/* The owner may send the request again, or free it and the client. */
	r->on_done(r, refused ? NULL : &answer, refused ? &err : NULL);
	exchange_free(ex);
}

static void
on_timeout(struct timer *t)
{
	struct http_exchange *ex = t->owner;
	const struct http_request *r = ex->request;
	char span[CLOCK_SPAN_BYTES];
	const char *what = "no complete answer";
	struct error err;

	if (ex->conn == NULL)
		what = "no free connection";
	else if (ex->conn->state < HTTP_CONN_BUSY)
		what = "no connection";
	error_set(&err, ERROR_TRANSIENT, "response_timeout",
	    "%s: %s within %s", ex->endpoint->url.host_header, what,
	    clock_span(span, r->timeout_us != 0 ? r->timeout_us : TIMEOUT_US));
	http_exchange_failed(ex, &err);
}

void
http_send(struct http_client *hc, struct http_request *r)
{
	struct http_exchange *ex;

	BUG_ON(r->exchange != NULL || r->on_done == NULL ||
	    r->url.host[0] == '\0');
	if (r->method == NULL)
		r->method = r->body.n != 0 ? "POST" : "GET";
	ex = new0(struct http_exchange);
	r->exchange = ex;
	ex->request = r;
	list_init(&ex->link);
	http_answer_init(&ex->answer, strcmp(r->method, "HEAD") == 0,
	    r->max_response != 0 ? r->max_response : MIB);
	ex->answer.may_cut = r->cut_response;
	timer_init(&ex->timer, "http.answer", on_timeout, ex);
	timer_arm(hc->loop, &ex->timer, r->timeout_us != 0 ? r->timeout_us :
	    TIMEOUT_US);
	ex->endpoint = http_endpoint_get(hc, &r->url);
	list_push_back(&ex->endpoint->waiting, &ex->link);
	hc->stats.requests++;
	hc->stats.waiting++;
	http_endpoint_next(ex->endpoint);
}

void
http_cancel(struct http_request *r)
{
	struct http_exchange *ex = r->exchange;
	struct http_endpoint *ep;
	struct http_conn *c;

	if (ex == NULL)
		return;
	ep = ex->endpoint;
	c = ex->conn;
	detach(ex);
	if (c != NULL)
		http_conn_free(c);
	exchange_free(ex);
	http_endpoint_next(ep);
}
