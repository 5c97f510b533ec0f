#include "net/tls_private.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "base/list.h"

#define CACHE_MAX	64	/* peers of one context; a few KiB each */

struct entry {
	struct hash_node node;
	struct list link;	/* least recently used first */
	SSL_SESSION *session;
	char key[TLS_KEY_BYTES];
};

struct tls_cache {
	struct hash by_key;
	struct list by_use;
};

struct tls_cache *
tls_cache_new(void)
{
	struct tls_cache *c = new0(struct tls_cache);

	hash_init(&c->by_key);
	list_init(&c->by_use);
	return c;
}

static struct entry *
find(struct tls_cache *c, const char *key)
{
	struct hash_node *n = hash_find(&c->by_key, slice_of(key));

	return n != NULL ? container_of(n, struct entry, node) : NULL;
}

static void
entry_free(struct tls_cache *c, struct entry *e)
{
	hash_remove(&c->by_key, &e->node);
	list_remove(&e->link);
	SSL_SESSION_free(e->session);
	free(e);
}

void
tls_cache_free(struct tls_cache *c)
{
	struct list *l;

	if (c == NULL)
		return;
	while ((l = list_first(&c->by_use)) != NULL)
		entry_free(c, list_entry(l, struct entry, link));
	hash_done(&c->by_key);
	free(c);
}

void
tls_cache_put(struct tls_cache *c, const char *key, SSL_SESSION *session)
{
	struct entry *e = find(c, key);

	if (e != NULL) {
		SSL_SESSION_free(e->session);
		e->session = session;
		list_move_back(&c->by_use, &e->link);
		return;
	}
	if (c->by_key.count >= CACHE_MAX)
		entry_free(c, list_entry(c->by_use.next, struct entry, link));
	e = new0(struct entry);
	e->session = session;
	memcpy(e->key, key, strnlen(key, sizeof(e->key) - 1));
	hash_insert(&c->by_key, &e->node, slice_of(e->key));
	list_push_back(&c->by_use, &e->link);
}

SSL_SESSION *
tls_cache_get(struct tls_cache *c, const char *key)
{
	struct entry *e = find(c, key);

	if (e == NULL)
		return NULL;
	if (!SSL_SESSION_is_resumable(e->session)) {
		entry_free(c, e);
		return NULL;
	}
	list_move_back(&c->by_use, &e->link);
	return e->session;
}

void
tls_cache_drop(struct tls_cache *c, const char *key)
{
	struct entry *e = find(c, key);

	if (e != NULL)
		entry_free(c, e);
}
