/*
 * What we hold, as a set that counts: made for the moment in which the server
 * tells what it thinks that we hold.
 */
#include "base/alloc.h"
#include "queue/redis_impl.h"

struct held_node {
	struct hash_node node;
	unsigned count;
};

struct redis_held {
	struct redis_queue *rq;
	struct hash hash;
	struct held_node *node;
	size_t n, size;
};

static void
count_one(void *arg, const struct message *m)
{
	struct redis_held *h = arg;

	if (m->queue == h->rq->queue && redis_receipt(m) == RECEIPT_PRIMARY)
		h->size++;
}

static void
add_one(void *arg, const struct message *m)
{
	struct redis_held *h = arg;
	struct hash_node *found;

	if (m->queue != h->rq->queue || redis_receipt(m) != RECEIPT_PRIMARY)
		return;
	found = hash_find(&h->hash, m->receipt);
	if (found != NULL) {
		container_of(found, struct held_node, node)->count++;
		return;
	}
	h->node[h->n].count = 1;
	hash_insert(&h->hash, &h->node[h->n++].node, m->receipt);
}

struct redis_held *
redis_held_new(struct redis_queue *rq)
{
	struct redis_held *h = new0(struct redis_held);

	h->rq = rq;
	hash_init(&h->hash);
	message_visit(count_one, h);
	if (h->size != 0)
		h->node = xcalloc(h->size, sizeof(*h->node));
	message_visit(add_one, h);
	return h;
}

size_t
redis_held_count(const struct redis_held *h)
{
	return h->size;
}

bool
redis_held_has(struct redis_held *h, struct slice receipt)
{
	return hash_find(&h->hash, receipt) != NULL;
}

bool
redis_held_take(struct redis_held *h, struct slice receipt)
{
	struct hash_node *found = hash_find(&h->hash, receipt);
	struct held_node *node;

	if (found == NULL)
		return false;
	node = container_of(found, struct held_node, node);
	if (node->count == 0)
		return false;
	node->count--;
	return true;
}

void
redis_held_free(struct redis_held *h)
{
	for (size_t i = 0; i < h->n; i++)
		hash_remove(&h->hash, &h->node[i].node);
	hash_done(&h->hash);
	free(h->node);
	free(h);
}
