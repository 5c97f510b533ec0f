#include "base/heap.h"

#include "base/alloc.h"

void
heap_init(struct heap *h)
{
	*h = (struct heap){ NULL, 0, 0, 0 };
}

void
heap_done(struct heap *h)
{
	BUG_ON(h->count != 0);
	free(h->at);
	heap_init(h);
}

static bool
before(const struct heap_node *a, const struct heap_node *b)
{
	return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void
place(struct heap *h, struct heap_node *n, size_t slot)
{
	h->at[slot] = n;
	n->slot = slot;
}

static void
sift_up(struct heap *h, struct heap_node *n, size_t slot)
{
	for (; slot > 1 && before(n, h->at[slot / 2]); slot /= 2)
		place(h, h->at[slot / 2], slot);
	place(h, n, slot);
}

static void
sift_down(struct heap *h, struct heap_node *n, size_t slot)
{
	for (size_t child; (child = slot * 2) <= h->count; slot = child) {
		if (child < h->count && before(h->at[child + 1], h->at[child]))
			child++;
		if (!before(h->at[child], n))
			break;
		place(h, h->at[child], slot);
	}
	place(h, n, slot);
}

void
heap_insert(struct heap *h, struct heap_node *n, uint64_t key)
{
	BUG_ON(n->slot != 0);
	if (h->count + 1 >= h->size) {
		h->size = MAX((size_t)16, h->size * 2);
		h->at = xreallocarray(h->at, h->size, sizeof(*h->at));
	}
	n->key = key;
	n->seq = h->seq++;
	sift_up(h, n, ++h->count);
}

void
heap_remove(struct heap *h, struct heap_node *n)
{
	size_t slot = n->slot;
	struct heap_node *last;

	if (slot == 0)
		return;
	BUG_ON(slot > h->count || h->at[slot] != n);
	n->slot = 0;
	last = h->at[h->count--];
	if (last == n)
		return;
	if (slot > 1 && before(last, h->at[slot / 2]))
		sift_up(h, last, slot);
	else
		sift_down(h, last, slot);
}
