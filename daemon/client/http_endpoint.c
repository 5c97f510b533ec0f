/*
 * Who gets which connection.  An endpoint's exchanges stand in one line: the
 * first takes an idle connection, or a new one while there is room under the
 * bound.  So nobody waits while one is idle or could be made.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "client/http_impl.h"

struct http_endpoint *
http_endpoint_get(struct http_client *hc, const struct http_url *url)
{
	struct http_endpoint *ep;
	struct hash_node *n;
	char key[sizeof(ep->key)];

	snprintf(key, sizeof(key), "%c:%s:%u", url->tls ? 's' : 'p', url->host,
	    url->port);
	n = hash_find(&hc->endpoints, slice_of(key));
	if (n != NULL)
		return container_of(n, struct http_endpoint, node);
	ep = new0(struct http_endpoint);
	ep->client = hc;
	ep->url = *url;
	ep->url.target = (struct slice){ NULL, 0 };
	ep->proxy = http_proxy_for(&hc->proxies, url);
	list_init(&ep->idle);
	list_init(&ep->busy);
	list_init(&ep->waiting);
	memcpy(ep->key, key, sizeof(key));
	hash_insert(&hc->endpoints, &ep->node, slice_of(ep->key));
	return ep;
}

void
http_endpoint_next(struct http_endpoint *ep)
{
	struct http_client *hc = ep->client;
	struct list *l;

	while ((l = list_first(&ep->waiting)) != NULL) {
		struct http_exchange *ex = list_entry(l, struct http_exchange,
		    link);
		struct http_conn *c = list_first_entry(&ep->idle,
		    struct http_conn, link);

		if (c == NULL && ep->nconns >= hc->max_connections)
			return;
		list_remove(&ex->link);
		hc->stats.waiting--;
		if (c != NULL)
			http_conn_take(c, ex);
		else
			http_conn_open(ep, ex);
	}
	if (ep->nconns != 0)
		return;
	hash_remove(&hc->endpoints, &ep->node);
	free(ep);
}

void
http_endpoint_close_idle(struct http_endpoint *ep)
{
	struct list *l;

	while ((l = list_first(&ep->idle)) != NULL)
		http_conn_free(list_entry(l, struct http_conn, link));
	http_endpoint_next(ep);
}
