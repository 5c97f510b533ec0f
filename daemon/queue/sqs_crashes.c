/*
 * How many workers a message has killed.  SQS keeps no words of ours with a
 * message that is to be tried again, so they are kept here, for the last
 * CRASHES_MAX of them.  What is forgotten (or was never known: a restart,
 * another consumer) begins at 0, and MaxAttempts= ends it.
 */
#include "base/alloc.h"
#include "queue/sqs_impl.h"

#define CRASHES_MAX	1000u

struct crashed {
	struct hash_node node;		/* by MessageId */
	struct list link;		/* the oldest first */
	unsigned crashes;
	char id[];
};

static struct crashed *
find(const struct sqs_queue *sq, struct slice id)
{
	struct hash_node *node = sq->crashed.count != 0 ?
	    hash_find(&sq->crashed, id) : NULL;

	return node != NULL ? container_of(node, struct crashed, node) : NULL;
}

static void
forget(struct sqs_queue *sq, struct crashed *c)
{
	if (c == NULL)
		return;
	hash_remove(&sq->crashed, &c->node);
	list_remove(&c->link);
	free(c);
}

static void
forget_oldest(struct sqs_queue *sq)
{
	struct list *l = list_first(&sq->crashed_order);

	if (l != NULL)
		forget(sq, list_entry(l, struct crashed, link));
}

void
sqs_crashes_set(struct sqs_queue *sq, struct slice id, unsigned crashes)
{
	struct crashed *c;

	forget(sq, find(sq, id));
	if (crashes == 0)
		return;
	if (sq->crashed.count >= CRASHES_MAX)
		forget_oldest(sq);
	c = xcalloc(1, sizeof(*c) + id.n);
	memcpy(c->id, id.p, id.n);
	c->crashes = crashes;
	hash_insert(&sq->crashed, &c->node, (struct slice){ c->id, id.n });
	list_push_back(&sq->crashed_order, &c->link);
}

unsigned
sqs_crashes_of(const struct sqs_queue *sq, struct slice id)
{
	const struct crashed *c = find(sq, id);

	return c != NULL ? c->crashes : 0;
}

void
sqs_crashes_init(struct sqs_queue *sq)
{
	hash_init(&sq->crashed);
	list_init(&sq->crashed_order);
}

void
sqs_crashes_done(struct sqs_queue *sq)
{
	while (!list_empty(&sq->crashed_order))
		forget_oldest(sq);
	hash_done(&sq->crashed);
}
