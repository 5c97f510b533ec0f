/*
 * Who gets which connection.  An endpoint's exchanges stand in one line: the
 * first takes an idle connection, or a new one while there is room under the
 * bound.  So nobody waits while one is idle or could be made.
 */
#include "base/alloc.h"
#include "client/http_impl.h"

/* "s:HOST:443"; for each request, so without printf. */
static struct slice
make_key(char key[], const struct http_url *url)
{
	size_t n = strlen(url->host);

	key[0] = url->tls ? 's' : 'p';
	key[1] = ':';
	memcpy(key + 2, url->host, n);
	key[2 + n] = ':';
	n += 3 + fmt_u64(key + 3 + n, url->port);
	key[n] = '\0';
	return (struct slice){ key, n };
}

struct http_endpoint *
http_endpoint_get(struct http_client *hc, const struct http_url *url)
{
	struct http_endpoint *ep;
	struct hash_node *n;
	char key[sizeof(ep->key)];
	struct slice name = make_key(key, url);

	n = hash_find(&hc->endpoints, name);
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
	memcpy(ep->key, key, name.n + 1);
	name.p = ep->key;
	hash_insert(&hc->endpoints, &ep->node, name);
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
