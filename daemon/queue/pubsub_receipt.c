/*
 * Receipts: from a delivery to its settlement.
 */
#include "base/alloc.h"
#include "queue/pubsub_impl.h"

struct pubsub_receipt *
pubsub_receipt_new(struct pubsub_queue *pq, struct chunk *chunk,
    struct slice ack_id, const struct pubsub_stream *s)
{
	struct pubsub_receipt *r = chunk_alloc(chunk, sizeof(*r));

	*r = (struct pubsub_receipt){
		.pq = pq,
		.chunk = chunk_ref(chunk),
		.ack_id = ack_id,
		.counted = true,
		.place = { (unsigned)(s - pq->stream), s->number },
	};
	list_init(&r->settle.again.link);
	list_init(&r->renew.again.link);
	r->settle.receipt = r->renew.receipt = r;
	list_push_back(&pq->receipts, &r->link);
	pq->nreceipts++;
	pubsub_out(pq, r->place, 1);
	return r;
}

void
pubsub_receipt_add(struct pubsub_receipt *r, struct message *m)
{
	r->message = m;
	r->id = m->id;
	r->hashed = true;
	m->receipt_data = r;
	m->receipt = r->ack_id;
	hash_insert(&r->pq->by_id, &r->node, m->name);
}

void
pubsub_receipt_forget(struct pubsub_receipt *r)
{
	if (r->hashed)
		hash_remove(&r->pq->by_id, &r->node);
	r->hashed = false;
	if (r->counted)
		pubsub_out(r->pq, r->place, -1);
	r->counted = false;
}

void
pubsub_receipt_free(struct pubsub_receipt *r)
{
	pubsub_receipt_forget(r);
	r->dead = true;
	if (r->settle.kind != OP_NONE || r->renew.kind != OP_NONE)
		return;
	list_remove(&r->link);
	r->pq->nreceipts--;
	chunk_unref(r->chunk);		/* r was in it */
}

struct message *
pubsub_receipt_message(const struct pubsub_receipt *r)
{
	return r->id != 0 ? message_find(r->id) : NULL;
}

struct pubsub_receipt *
pubsub_receipt_find(struct pubsub_queue *pq, struct slice message_id)
{
	struct hash_node *node = hash_find(&pq->by_id, message_id);
	struct pubsub_receipt *r;
	struct message *m;

	if (node == NULL)
		return NULL;
	r = container_of(node, struct pubsub_receipt, node);
	m = pubsub_receipt_message(r);
	/* Let go by the engine: what comes now is a message of its own. */
	if (m == NULL || m->lease_lost) {
		if (m == NULL)
			pubsub_receipt_free(r);
		else
			pubsub_receipt_forget(r);
		return NULL;
	}
	return r;
}

void
pubsub_receipt_replace(struct pubsub_receipt *old, struct pubsub_receipt *new)
{
	old->ack_id = chunk_copy(old->chunk, new->ack_id.p, new->ack_id.n);
	old->version++;
	if (old->message != NULL)
		old->message->receipt = old->ack_id;
	if (old->counted)
		pubsub_out(old->pq, old->place, -1);
	old->place = new->place;
	old->counted = new->counted;
	new->counted = false;
	pubsub_receipt_free(new);
}

void
pubsub_receipts_sweep(struct pubsub_queue *pq)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &pq->receipts) {
		struct pubsub_receipt *r = list_entry(l, struct pubsub_receipt,
		    link);

		if (!r->dead && r->id != 0 && pubsub_receipt_message(r) == NULL)
			pubsub_receipt_free(r);
	}
}

void
pubsub_receipts_done(struct pubsub_queue *pq)
{
	pubsub_receipts_sweep(pq);
	BUG_ON(!list_empty(&pq->receipts));
	hash_done(&pq->by_id);
}
