#include "guard/recent.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "base/list.h"

struct entry {
	struct hash_node node;
	struct list link;
	uint64_t key;
	uint64_t value[];
};

struct recent {
	struct hash hash;
	struct list used;		/* longest ago first */
	size_t bytes, max;
};

struct recent *
recent_new(size_t bytes, size_t max)
{
	struct recent *r = new0(struct recent);

	hash_init(&r->hash);
	list_init(&r->used);
	r->bytes = bytes;
	r->max = max;
	return r;
}

static struct entry *
take_oldest(struct recent *r)
{
	struct entry *e = list_entry(list_pop_front(&r->used), struct entry,
	    link);

	hash_remove(&r->hash, &e->node);
	return e;
}

void
recent_free(struct recent *r)
{
	if (r == NULL)
		return;
	while (!list_empty(&r->used))
		free(take_oldest(r));
	hash_done(&r->hash);
	free(r);
}

size_t
recent_count(const struct recent *r)
{
	return r->hash.count;
}

static struct slice
key_of(const uint64_t *key)
{
	return (struct slice){ (const char *)key, sizeof(*key) };
}

void *
recent_get(struct recent *r, uint64_t key)
{
	struct hash_node *node = hash_find(&r->hash, key_of(&key));
	struct entry *e;

	if (node != NULL) {
		e = container_of(node, struct entry, node);
		list_move_back(&r->used, &e->link);
		return e->value;
	}
	if (r->hash.count == r->max) {
		e = take_oldest(r);
		memset(e->value, 0, r->bytes);
	} else {
		e = xcalloc(1, sizeof(*e) + r->bytes);
	}
	e->key = key;
	list_init(&e->link);
	list_push_back(&r->used, &e->link);
	hash_insert(&r->hash, &e->node, key_of(&e->key));
	return e->value;
}
