/*
 * heap.h - a binary heap of objects that know their place in it.
 *
 * The heap owns its array, not the objects.  Each object embeds a heap_node;
 * removal from the middle is O(log n).
 */
#ifndef BOT_BASE_HEAP_H
#define BOT_BASE_HEAP_H

#include "base/macros.h"

struct heap_node {
	uint64_t key;		/* smallest first; equal keys by insertion */
	uint64_t seq;		/* private */
	size_t slot;		/* private; 0 means in no heap */
};

struct heap {
	struct heap_node **at;	/* at[1..count] */
	size_t count, size;
	uint64_t seq;
};

void	heap_init(struct heap *);
void	heap_done(struct heap *);
void	heap_insert(struct heap *, struct heap_node *, uint64_t key);
void	heap_remove(struct heap *, struct heap_node *);	/* no-op when idle */

static inline struct heap_node *
heap_first(const struct heap *h)
{
	return h->count != 0 ? h->at[1] : NULL;
}

static inline bool
heap_linked(const struct heap_node *n)
{
	return n->slot != 0;
}

#endif
