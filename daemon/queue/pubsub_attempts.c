/*
 * How often a message was tried, and how many workers it has killed.  The
 * service keeps no words of ours with a message that is to be tried again
 * (and counts deliveries only under a dead-letter policy), so they are kept
 * here, for the last ATTEMPTS_MAX of them.  What is forgotten, or was never
 * known (a restart, another subscriber), begins with what the service counts.
 */
#include "base/alloc.h"
#include "queue/pubsub_impl.h"

#define ATTEMPTS_MAX	20000u

struct tried {
	struct hash_node node;		/* by message id */
	struct list link;		/* the oldest first */
	struct pubsub_attempts what;
	char id[];
};

static struct tried *
find(const struct pubsub_queue *pq, struct slice id)
{
	struct hash_node *node = pq->attempts.count != 0 ?
	    hash_find(&pq->attempts, id) : NULL;

	return node != NULL ? container_of(node, struct tried, node) : NULL;
}

static void
forget(struct pubsub_queue *pq, struct tried *t)
{
	hash_remove(&pq->attempts, &t->node);
	list_remove(&t->link);
	free(t);
}

static void
forget_oldest(struct pubsub_queue *pq)
{
	struct list *l = list_first(&pq->attempts_order);

	if (l != NULL)
		forget(pq, list_entry(l, struct tried, link));
}

void
pubsub_attempts_forget(struct pubsub_queue *pq, struct slice id)
{
	struct tried *t = find(pq, id);

	if (t != NULL)
		forget(pq, t);
}

void
pubsub_attempts_set(struct pubsub_queue *pq, struct slice id,
    const struct pubsub_attempts *what)
{
	struct tried *t;

	pubsub_attempts_forget(pq, id);
	if (pq->attempts.count >= ATTEMPTS_MAX)
		forget_oldest(pq);
	t = xcalloc(1, sizeof(*t) + id.n);
	memcpy(t->id, id.p, id.n);
	t->what = *what;
	hash_insert(&pq->attempts, &t->node, (struct slice){ t->id, id.n });
	list_push_back(&pq->attempts_order, &t->link);
}

void
pubsub_attempts_delayed(struct pubsub_queue *pq, struct slice id,
    struct pubsub_place place)
{
	struct tried *t = find(pq, id);

	if (t == NULL) {
		pubsub_out(pq, place, -1);
		return;
	}
	t->what.place = place;
	pubsub_delayed(pq, place, 1);
}

const struct pubsub_attempts *
pubsub_attempts_arrived(struct pubsub_queue *pq, struct slice id)
{
	struct tried *t = find(pq, id);

	if (t == NULL)
		return NULL;
	pubsub_delayed(pq, t->what.place, -1);
	pubsub_out(pq, t->what.place, -1);
	t->what.place.number = 0;
	return &t->what;
}

void
pubsub_attempts_init(struct pubsub_queue *pq)
{
	hash_init(&pq->attempts);
	list_init(&pq->attempts_order);
}

void
pubsub_attempts_done(struct pubsub_queue *pq)
{
	while (!list_empty(&pq->attempts_order))
		forget_oldest(pq);
	hash_done(&pq->attempts);
}
