/*
 * Messages with the same order key run one at a time, in the order in which
 * they came (invariant 10).  The first is the owner of the key; the others
 * are HELD behind it until it is settled for good.  A retry keeps the key:
 * the engine itself waits for it, so that nothing overtakes it.
 */
#include "base/alloc.h"
#include "engine/internal.h"

struct order {
	struct hash_node node;
	struct queue *queue;
	struct message *owner;
	struct list held;
	char key[];
};

enum message_state
order_enter(struct message *m)
{
	struct queue *q = m->queue;
	struct hash_node *node;
	struct order *o;

	if (q->order_by != NULL)
		m->order_key = message_value(m, q->order_by);
	if (m->order_key.n == 0)
		return MESSAGE_WAITING;
	node = hash_find(&q->orders, m->order_key);
	if (node != NULL) {
		o = container_of(node, struct order, node);
		m->order = o;
		list_push_back(&o->held, &m->order_link);
		return MESSAGE_HELD;
	}
	o = xcalloc(1, sizeof(*o) + m->order_key.n);
	memcpy(o->key, m->order_key.p, m->order_key.n);
	o->queue = q;
	o->owner = m;
	list_init(&o->held);
	hash_insert(&q->orders, &o->node,
	    (struct slice){ o->key, m->order_key.n });
	m->order = o;
	return MESSAGE_WAITING;
}

static void
order_free(struct order *o)
{
	hash_remove(&o->queue->orders, &o->node);
	free(o);
}

void
order_advance(struct message *m)
{
	struct order *o = m->order;
	struct list *next;

	if (o == NULL)
		return;
	BUG_ON(o->owner != m);
	m->order = NULL;
	next = list_pop_front(&o->held);
	if (next == NULL) {
		order_free(o);
		return;
	}
	o->owner = list_entry(next, struct message, order_link);
	if (o->owner->deferred)
		deliver_again(o->owner);
	else
		message_enter(o->owner, MESSAGE_WAITING);
	engine_wake(o->queue->engine);
}

void
order_abandon(struct message *m)
{
	struct order *o = m->order;
	struct list *l;

	if (o == NULL)
		return;
	m->order = NULL;
	if (o->owner != m) {
		list_remove(&m->order_link);
		return;
	}
	/* In their order, so that a broker which keeps it sees it kept. */
	while ((l = list_pop_front(&o->held)) != NULL) {
		struct message *later = list_entry(l, struct message, order_link);

		later->order = NULL;
		message_release(later);
	}
	order_free(o);
}
