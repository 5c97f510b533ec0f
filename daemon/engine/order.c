/*
 * Messages with the same order key run one at a time, in the order in which
 * they came (invariant 10).  The first is the owner of the key; the others
 * are HELD behind it until it is settled for good.  A retry keeps the key:
 * the engine itself waits for it, so that nothing overtakes it.
 */
#include <jansson.h>

#include "base/alloc.h"
#include "engine/internal.h"

struct order {
	struct hash_node node;
	struct queue *queue;
	struct message *owner;
	struct list held;
	char key[];
};

/* "a.b" in a JSON body: a string or a whole number, copied to the chunk. */
static struct slice
key_from_body(struct message *m, const char *path)
{
	struct slice key = { NULL, 0 };
	json_t *root = json_loadb(m->body.p, m->body.n, 0, NULL), *at = root;
	const char *p = path;

	while (at != NULL && *p != '\0') {
		size_t n = strcspn(p, ".");

		at = json_object_getn(at, p, n);
		p += n;
		p += *p == '.';
	}
	if (json_is_string(at)) {
		key = chunk_copy(m->chunk, json_string_value(at),
		    json_string_length(at));
	} else if (json_is_integer(at)) {
		char text[24];
		json_int_t n = json_integer_value(at);
		size_t len = 0;

		if (n < 0)
			text[len++] = '-';
		len += fmt_u64(text + len, n < 0 ? (uint64_t)0 - (uint64_t)n :
		    (uint64_t)n);
		key = chunk_copy(m->chunk, text, len);
	}
	json_decref(root);
	return key;
}

static void
find_key(struct message *m)
{
	const char *by = m->queue->order_by;

	if (by == NULL)
		return;
	if (by[0] == '.') {
		m->order_key = key_from_body(m, by + 1);
	} else {
		const struct attribute *a = message_attribute(m, by);

		if (a != NULL)
			m->order_key = a->value;
	}
}

enum message_state
order_enter(struct message *m)
{
	struct queue *q = m->queue;
	struct hash_node *node;
	struct order *o;

	find_key(m);
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
