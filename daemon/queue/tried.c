#include "queue/tried.h"

#include "base/alloc.h"

struct entry {
	struct hash_node node;
	struct list link;
	struct tried tried;
	char id[];
};

static struct entry *
find(const struct tried_table *t, struct slice id)
{
	struct hash_node *node = t->by_id.count != 0 ?
	    hash_find(&t->by_id, id) : NULL;

	return node != NULL ? container_of(node, struct entry, node) : NULL;
}

static void
forget(struct tried_table *t, struct entry *e)
{
	hash_remove(&t->by_id, &e->node);
	list_remove(&e->link);
	free(e);
}

static void
forget_oldest(struct tried_table *t)
{
	struct list *l = list_first(&t->order);

	if (l != NULL)
		forget(t, list_entry(l, struct entry, link));
}

void
tried_forget(struct tried_table *t, struct slice id)
{
	struct entry *e = find(t, id);

	if (e != NULL)
		forget(t, e);
}

void
tried_set(struct tried_table *t, struct slice id, const struct tried *what)
{
	struct entry *e;

	tried_forget(t, id);
	if (t->by_id.count >= TRIED_MAX)
		forget_oldest(t);
	e = xcalloc(1, sizeof(*e) + id.n);
	memcpy(e->id, id.p, id.n);
	e->tried = *what;
	hash_insert(&t->by_id, &e->node, (struct slice){ e->id, id.n });
	list_push_back(&t->order, &e->link);
}

struct tried *
tried_find(const struct tried_table *t, struct slice id)
{
	struct entry *e = find(t, id);

	return e != NULL ? &e->tried : NULL;
}

void
tried_init(struct tried_table *t)
{
	hash_init(&t->by_id);
	list_init(&t->order);
}

void
tried_done(struct tried_table *t)
{
	while (!list_empty(&t->order))
		forget_oldest(t);
	hash_done(&t->by_id);
}
