/*
 * Walks over the dead letters.  A topic cannot be looked into, so a walk pulls
 * from DeadLetterSubscription=, holds what it has for HOLD_SECONDS, and gives
 * back what it has not acted on when it ends.  One that is cut off leaves them
 * to come back by themselves.
 *
 * A redrive publishes the copy first and acknowledges then: who is cut off in
 * between leaves both, one more of the duplicates that Pub/Sub allows itself.
 * It reaches every subscription of the topic, as the first time.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "queue/pubsub_impl.h"

#define HOLD_SECONDS	120u
#define PAGE_MAX	100u
/* An empty pull waits at the service for what may come: that is the end. */
#define FIRST_PULL_US	(3 * USEC_PER_SEC)
#define NEXT_PULL_US	(2 * USEC_PER_SEC)

/* One that the walk has seen. */
struct seen {
	struct hash_node node;		/* by message id */
	bool gone;			/* acted on */
	char *ack_id;
	size_t nack_id;
	char id[];
};

struct pubsub_walk {
	struct list link;		/* of pq->walks */
	struct pubsub_queue *pq;
	struct dead_walk *walk;		/* NULL: closed while asked */
	struct pubsub_call call;
	bool answer, answer_acted, asked, end;
	struct error error;
	struct chunk *chunk;
	struct message *page[PAGE_MAX];	/* of the chunk */
	unsigned n, at;
	struct message *current;
	struct dead_item item;
	struct hash seen;
};

/* ---- what was seen ---- */

static struct seen *
seen_find(struct pubsub_walk *w, struct slice id)
{
	struct hash_node *node = hash_find(&w->seen, id);

	return node != NULL ? container_of(node, struct seen, node) : NULL;
}

/* True when it is new; the newer acknowledgement id counts. */
static bool
seen_add(struct pubsub_walk *w, const struct message *m)
{
	struct seen *s = seen_find(w, m->name);
	bool new = s == NULL;

	if (new) {
		s = xcalloc(1, sizeof(*s) + m->name.n);
		memcpy(s->id, m->name.p, m->name.n);
		hash_insert(&w->seen, &s->node,
		    (struct slice){ s->id, m->name.n });
	}
	free(s->ack_id);
	s->ack_id = xmemdup(m->receipt.p, m->receipt.n);
	s->nack_id = m->receipt.n;
	return new;
}

/* In the background: nobody waits for it. */
static void
given_back(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	(void)answer;
	if (err != NULL)
		log_debug(LOG_QUEUE(c->pq->queue->name), "dead letters stay "
		    "hidden for a while: %s", err->text);
	pubsub_call_done(c);
	free(c);
}

static void
give_back_ids(struct pubsub_queue *pq, const struct slice *ids, size_t n)
{
	struct pubsub_call *c;

	if (n == 0)
		return;
	c = new0(struct pubsub_call);
	pubsub_call_init(c, pq, PUBSUB_MODIFY_DEADLINE, given_back, c);
	pubsub_pack_deadline(&c->body, pq->dead_from, ids, n, 0);
	pubsub_call_send(c);
}

/* send: else they are only forgotten. */
static void
give_back(struct pubsub_walk *w, bool send)
{
	struct chunk *chunk = chunk_new();
	struct slice ids[PAGE_MAX];
	struct hash_node *node;
	size_t n = 0;

	while ((node = hash_any(&w->seen)) != NULL) {
		struct seen *s = container_of(node, struct seen, node);

		hash_remove(&w->seen, node);
		if (send && !s->gone)
			ids[n++] = chunk_copy(chunk, s->ack_id, s->nack_id);
		free(s->ack_id);
		free(s);
		if (n == PAGE_MAX) {
			give_back_ids(w->pq, ids, n);
			n = 0;
		}
	}
	give_back_ids(w->pq, ids, n);
	chunk_unref(chunk);
}

/* ---- pages ---- */

static void
drop_page(struct pubsub_walk *w)
{
	for (unsigned i = 0; i < w->n; i++)
		message_free(w->page[i]);
	w->n = w->at = 0;
	w->current = NULL;
	chunk_unref(w->chunk);
	w->chunk = NULL;
}

static void
walk_free(struct pubsub_walk *w, bool send)
{
	list_remove(&w->link);
	pubsub_call_done(&w->call);
	drop_page(w);
	give_back(w, send);
	hash_done(&w->seen);
	free(w);
}

static void
tell_later(struct pubsub_walk *w, bool acted)
{
	w->answer = !acted;
	w->answer_acted = acted;
	task_schedule(w->pq->loop, &w->pq->answer_task);
}

static struct slice
text(const struct message *m, const char *name)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL ? a->value : (struct slice){ NULL, 0 };
}

static uint64_t
number(const struct message *m, const char *name)
{
	uint64_t n;

	return slice_to_u64(text(m, name), &n) == 0 ? n : 0;
}

/* Ours has words of ours; what the service's policy has moved has its own. */
static void
fill_item(struct pubsub_walk *w, const struct message *m)
{
	struct slice origin = text(m, "bot-origin-id");
	uint64_t moved = number(m, "CloudPubSubDeadLetterSourceDeliveryCount");

	w->item = (struct dead_item){
		.id = m->name,
		.name = origin.n != 0 ? origin : m->name,
		.error_type = text(m, "bot-error-type"),
		.detail = text(m, "bot-detail"),
		.attempts = (unsigned)number(m, "bot-attempts"),
		.crashes = (unsigned)number(m, "bot-crashes"),
		.died_us = number(m, "bot-died") * USEC_PER_MSEC,
		.body = m->body,
		.attributes = m->attributes,
		.nattributes = m->nattributes,
	};
	if (w->item.error_type.n == 0 && moved != 0) {
		w->item.error_type = SLICE("internal");
		w->item.detail = SLICE("moved by the subscription's "
		    "dead-letter policy");
		w->item.attempts = (unsigned)moved;
	}
	if (w->item.died_us == 0)
		w->item.died_us = m->enqueued_us;
}

/* False: nothing new came, which is the end. */
static bool
read_page(struct pubsub_walk *w, struct slice answer)
{
	Google__Pubsub__V1__PullResponse *response;
	struct error ignored;

	drop_page(w);
	w->chunk = chunk_new();
	response = PROTOBUF_UNPACK(Google__Pubsub__V1__PullResponse,
	    google__pubsub__v1__pull_response, answer, w->chunk, &ignored);
	for (size_t i = 0; response != NULL &&
	    i < response->n_received_messages && w->n < PAGE_MAX; i++) {
		struct message *m = pubsub_message(w->pq, w->chunk,
		    response->received_messages[i]);

		if (m == NULL)
			continue;
		if (!seen_add(w, m)) {
			message_free(m);
			continue;
		}
		w->page[w->n++] = m;
	}
	return w->n != 0;
}

static void
next_item(struct pubsub_walk *w)
{
	w->current = w->page[w->at++];
	fill_item(w, w->current);
}

static bool
came(struct pubsub_walk *w, const struct error *err, bool acted)
{
	w->asked = false;
	if (w->walk == NULL) {
		walk_free(w, true);
		return false;
	}
	if (err == NULL)
		return true;
	w->error = *err;
	tell_later(w, acted);
	return false;
}

static void
ask(struct pubsub_walk *w, const char *path, pubsub_call_fn *fn,
    uint64_t timeout_us)
{
	w->asked = true;
	w->call.path = path;
	w->call.fn = fn;
	w->call.timeout_us = timeout_us;
	pubsub_call_send(&w->call);
}

/* They are ours for longer than the subscription's own deadline, which may be
   10 s; if that fails they may come twice, and are seen once. */
static void
page_held(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_walk *w = c->owner;

	(void)answer;
	if (!came(w, err, false))
		return;
	next_item(w);
	tell_later(w, false);
}

static void
hold_page(struct pubsub_walk *w)
{
	struct slice ids[PAGE_MAX];

	for (unsigned i = 0; i < w->n; i++)
		ids[i] = w->page[i]->receipt;
	pubsub_pack_deadline(&w->call.body, w->pq->dead_from, ids, w->n,
	    HOLD_SECONDS);
	ask(w, PUBSUB_MODIFY_DEADLINE, page_held, 0);
}

static void
page_came(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_walk *w = c->owner;

	/* An empty one waits until our time-out. */
	if (err != NULL && c->code == GRPC_DEADLINE_EXCEEDED) {
		err = NULL;
		answer.n = 0;
	}
	if (!came(w, err, false))
		return;
	if (read_page(w, answer)) {
		hold_page(w);
		return;
	}
	w->end = true;
	tell_later(w, false);
}

static bool
askable(struct pubsub_walk *w)
{
	struct pubsub_queue *pq = w->pq;

	if (!pubsub_is_up(pq) || pq->stopping)
		error_set(&w->error, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
	else if (pq->dead_from == NULL)
		error_set(&w->error, ERROR_REJECTED,
		    "no_dead_letter_subscription", "a topic cannot be read: "
		    "make a subscription of the dead letters' topic%s%s and "
		    "name it in DeadLetterSubscription=",
		    pq->dead_topic != NULL ? " " : "",
		    pq->dead_topic != NULL ? pq->dead_topic : "");
	return !error_is_set(&w->error);
}

/* ---- operations ---- */

void
pubsub_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct pubsub_walk *w = new0(struct pubsub_walk);

	w->pq = pq;
	w->walk = walk;
	walk->impl = w;
	hash_init(&w->seen);
	pubsub_call_init(&w->call, pq, PUBSUB_PULL, page_came, w);
	list_push_back(&pq->walks, &w->link);
}

void
pubsub_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_walk *w = walk->impl;

	(void)q;
	BUG_ON(w->asked || w->answer || w->answer_acted);
	error_clear(&w->error);
	w->current = NULL;
	if (w->at < w->n) {
		next_item(w);
		tell_later(w, false);
		return;
	}
	if (!askable(w)) {
		tell_later(w, false);
		return;
	}
	pubsub_pack_pull(&w->call.body, w->pq->dead_from, PAGE_MAX);
	ask(w, PUBSUB_PULL, page_came, w->seen.count == 0 ? FIRST_PULL_US :
	    NEXT_PULL_US);
}

static void
acted(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_walk *w = c->owner;
	struct seen *s;

	(void)answer;
	if (err == NULL && (s = seen_find(w, w->current->name)) != NULL)
		s->gone = true;
	if (came(w, err, true))
		tell_later(w, true);
}

static void
acknowledge(struct pubsub_walk *w)
{
	const struct seen *s = seen_find(w, w->current->name);
	struct slice id = { s->ack_id, s->nack_id };

	pubsub_pack_ack(&w->call.body, w->pq->dead_from, &id, 1);
	ask(w, PUBSUB_ACKNOWLEDGE, acted, 0);
}

/* The copy is there: the dead letter goes, also when nobody listens now. */
static void
redriven(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_walk *w = c->owner;
	struct chunk *chunk = chunk_new();
	struct error malformed;
	struct slice id;

	if (err == NULL && pubsub_published(answer, chunk, &id, &malformed) < 0)
		err = &malformed;
	if (err != NULL)
		(void)came(w, err, true);
	else
		acknowledge(w);
	chunk_unref(chunk);
}

void
pubsub_dead_act(struct queue *q, struct dead_walk *walk,
    enum dead_action action)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct pubsub_walk *w = walk->impl;
	struct pubsub_copy copy;

	BUG_ON(w->asked || w->answer || w->answer_acted || w->current == NULL);
	error_clear(&w->error);
	if (askable(w) && action == DEAD_REDRIVE && pq->topic == NULL)
		error_set(&w->error, ERROR_REJECTED, "no_topic", "the topic of "
		    "the subscription is not known: set Topic=");
	if (error_is_set(&w->error)) {
		tell_later(w, true);
		return;
	}
	if (action == DEAD_PURGE) {
		acknowledge(w);
		return;
	}
	copy = (struct pubsub_copy){
		.body = w->current->body,
		.ordering_key = text(w->current, "pubsub-ordering-key"),
		.attributes = w->current->attributes,
		.nattributes = w->current->nattributes,
	};
	pubsub_pack_publish(&w->call.body, pq->topic, &copy);
	ask(w, PUBSUB_PUBLISH, redriven, 0);
}

void
pubsub_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_walk *w = walk->impl;

	(void)q;
	if (w == NULL)
		return;
	walk->impl = NULL;
	w->walk = NULL;
	w->answer = w->answer_acted = false;
	if (!w->asked)
		walk_free(w, true);
}

void
pubsub_dead_answer(struct pubsub_queue *pq)
{
	struct list *l;

again:
	list_foreach(l, &pq->walks) {
		struct pubsub_walk *w = list_entry(l, struct pubsub_walk, link);
		struct error err = w->error;
		const struct error *e = error_is_set(&err) ? &err : NULL;
		bool was_act = w->answer_acted;

		if (!w->answer && !was_act)
			continue;
		w->answer = w->answer_acted = false;
		if (was_act)
			w->walk->on_acted(w->walk, e);
		else
			w->walk->on_item(w->walk, e != NULL || w->end ? NULL :
			    &w->item, e);
		goto again;
	}
}

void
pubsub_dead_done(struct pubsub_queue *pq)
{
	struct list *l, *tmp;

	while ((l = list_first(&pq->walks)) != NULL) {
		struct pubsub_walk *w = list_entry(l, struct pubsub_walk, link);

		BUG_ON(w->walk != NULL);
		walk_free(w, false);
	}
	list_foreach_safe(l, tmp, &pq->calls) {
		struct pubsub_call *c = list_entry(l, struct pubsub_call, link);

		if (c->fn != given_back)
			continue;
		pubsub_call_done(c);
		free(c);
	}
}
