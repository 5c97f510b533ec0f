#include "queue/walk_held.h"

#include "base/alloc.h"

/* One that the walk has seen. */
struct seen {
	struct hash_node node;		/* by the message's id */
	bool gone;			/* acted on */
	char *receipt;
	size_t nreceipt;
	char id[];
};

void
held_walk_init(struct held_walk *w)
{
	hash_init(&w->seen);
}

static struct seen *
seen_find(const struct held_walk *w, struct slice id)
{
	struct hash_node *node = hash_find(&w->seen, id);

	return node != NULL ? container_of(node, struct seen, node) : NULL;
}

static void
drop_page(struct held_walk *w)
{
	for (unsigned i = 0; i < w->n; i++)
		message_free(w->page[i]);
	w->n = w->at = 0;
	w->current = NULL;
	chunk_unref(w->chunk);
	w->chunk = NULL;
}

void
held_walk_page(struct held_walk *w)
{
	drop_page(w);
	w->chunk = chunk_new();
}

void
held_walk_add(struct held_walk *w, struct message *m)
{
	struct seen *s = seen_find(w, m->name);
	bool new = s == NULL;

	BUG_ON(w->n == WALK_PAGE_MAX);
	if (new) {
		s = xcalloc(1, sizeof(*s) + m->name.n);
		memcpy(s->id, m->name.p, m->name.n);
		hash_insert(&w->seen, &s->node,
		    (struct slice){ s->id, m->name.n });
	}
	free(s->receipt);
	s->receipt = xmemdup(m->receipt.p, m->receipt.n);
	s->nreceipt = m->receipt.n;
	if (new)
		w->page[w->n++] = m;
	else
		message_free(m);
}

struct slice
held_walk_text(const struct message *m, const char *name)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL ? a->value : (struct slice){ NULL, 0 };
}

uint64_t
held_walk_number(const struct message *m, const char *name)
{
	uint64_t n;

	return slice_to_u64(held_walk_text(m, name), &n) == 0 ? n : 0;
}

bool
held_walk_next(struct held_walk *w)
{
	const struct message *m;
	struct slice origin;

	w->current = NULL;
	if (w->at == w->n)
		return false;
	m = w->current = w->page[w->at++];
	origin = held_walk_text(m, "bot-origin-id");
	w->base.item = (struct dead_item){
		.id = m->name,
		.name = origin.n != 0 ? origin : m->name,
		.error_type = held_walk_text(m, "bot-error-type"),
		.detail = held_walk_text(m, "bot-detail"),
		.attempts = (unsigned)held_walk_number(m, "bot-attempts"),
		.crashes = (unsigned)held_walk_number(m, "bot-crashes"),
		.died_us = held_walk_number(m, "bot-died") * USEC_PER_MSEC,
		.body = m->body,
		.attributes = m->attributes,
		.nattributes = m->nattributes,
	};
	if (w->base.item.died_us == 0)
		w->base.item.died_us = m->enqueued_us;
	return true;
}

struct slice
held_walk_receipt(const struct held_walk *w)
{
	const struct seen *s = seen_find(w, w->current->name);

	return (struct slice){ s->receipt, s->nreceipt };
}

void
held_walk_gone(struct held_walk *w)
{
	seen_find(w, w->current->name)->gone = true;
}

static void
forget(struct held_walk *w, struct seen *s)
{
	hash_remove(&w->seen, &s->node);
	free(s->receipt);
	free(s);
}

bool
held_walk_take_seen(struct held_walk *w, struct chunk *chunk,
    struct slice *ret_receipt)
{
	struct hash_node *node;

	while ((node = hash_any(&w->seen)) != NULL) {
		struct seen *s = container_of(node, struct seen, node);
		bool wanted = !s->gone;

		if (wanted)
			*ret_receipt = chunk_copy(chunk, s->receipt,
			    s->nreceipt);
		forget(w, s);
		if (wanted)
			return true;
	}
	return false;
}

void
held_walk_done(struct held_walk *w)
{
	struct hash_node *node;

	drop_page(w);
	while ((node = hash_any(&w->seen)) != NULL)
		forget(w, container_of(node, struct seen, node));
	hash_done(&w->seen);
}
