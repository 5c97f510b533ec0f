/*
 * Walks over the dead letters.  A topic cannot be looked into, so a walk pulls
 * from DeadLetterSubscription=, holds what it has for a while, and gives back
 * what it has not acted on when it ends.  One that is cut off leaves them
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
#include "queue/walk_held.h"

/* An empty pull waits at the service for what may come: that is the end. */
#define FIRST_PULL_US	(3 * USEC_PER_SEC)
#define NEXT_PULL_US	(2 * USEC_PER_SEC)

struct pubsub_walk {
	struct held_walk held;
	struct pubsub_queue *pq;
	struct pubsub_call call;
};

static struct pubsub_walk *
walk_of(const struct dead_walk *walk)
{
	return walk->impl;
}

/* ---- giving back ---- */

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
give_back(struct pubsub_queue *pq, const struct slice *ids, size_t n)
{
	struct pubsub_call *c;

	if (n == 0 || !pubsub_is_up(pq))
		return;
	c = new0(struct pubsub_call);
	pubsub_call_init(c, pq, PUBSUB_MODIFY_DEADLINE, given_back, c);
	pubsub_pack_deadline(&c->body, pq->dead_from, ids, n, 0);
	pubsub_call_send(c);
}

static void
walk_free(struct walk *base)
{
	struct pubsub_walk *w = container_of(base, struct pubsub_walk,
	    held.base);
	struct chunk *chunk = chunk_new();
	struct slice ids[WALK_PAGE_MAX];
	size_t n = 0;

	walk_done(base);
	pubsub_call_done(&w->call);
	while (held_walk_take_seen(&w->held, chunk, &ids[n]))
		if (++n == WALK_PAGE_MAX) {
			give_back(w->pq, ids, n);
			n = 0;
		}
	give_back(w->pq, ids, n);
	chunk_unref(chunk);
	held_walk_done(&w->held);
	free(w);
}

/* ---- pages ---- */

/* Ours has words of ours; what the service's policy has moved has its own. */
static bool
next_item(struct pubsub_walk *w)
{
	struct dead_item *item = &w->held.base.item;
	uint64_t moved;

	if (!held_walk_next(&w->held))
		return false;
	moved = held_walk_number(w->held.current,
	    "CloudPubSubDeadLetterSourceDeliveryCount");
	if (item->error_type.n == 0 && moved != 0) {
		item->error_type = SLICE("internal");
		item->detail = SLICE("moved by the subscription's "
		    "dead-letter policy");
		item->attempts = (unsigned)moved;
	}
	return true;
}

static void
read_page(struct pubsub_walk *w, struct slice answer)
{
	Google__Pubsub__V1__PullResponse *response;
	struct error ignored;

	held_walk_page(&w->held);
	response = PROTOBUF_UNPACK(Google__Pubsub__V1__PullResponse,
	    google__pubsub__v1__pull_response, answer, w->held.chunk, &ignored);
	for (size_t i = 0; response != NULL &&
	    i < response->n_received_messages && w->held.n < WALK_PAGE_MAX;
	    i++) {
		struct message *m = pubsub_message(w->pq, w->held.chunk,
		    response->received_messages[i]);

		if (m != NULL)
			held_walk_add(&w->held, m);
	}
}

static void
ask(struct pubsub_walk *w, const char *path, pubsub_call_fn *fn,
    uint64_t timeout_us)
{
	walk_ask(&w->held.base);
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
	if (!walk_came(&w->held.base, err, false))
		return;
	(void)next_item(w);
	walk_tell(&w->held.base, false);
}

static void
hold_page(struct pubsub_walk *w)
{
	struct slice ids[WALK_PAGE_MAX];

	for (unsigned i = 0; i < w->held.n; i++)
		ids[i] = w->held.page[i]->receipt;
	pubsub_pack_deadline(&w->call.body, w->pq->dead_from, ids, w->held.n,
	    WALK_HOLD_SECONDS);
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
	if (!walk_came(&w->held.base, err, false))
		return;
	read_page(w, answer);
	if (w->held.n != 0) {
		hold_page(w);
		return;
	}
	w->held.base.end = true;
	walk_tell(&w->held.base, false);
}

static bool
askable(struct pubsub_walk *w)
{
	struct pubsub_queue *pq = w->pq;
	struct error *err = &w->held.base.error;

	if (!pubsub_is_up(pq) || pq->stopping)
		error_set(err, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
	else if (pq->dead_from == NULL)
		error_set(err, ERROR_REJECTED,
		    "no_dead_letter_subscription", "a topic cannot be read: "
		    "make a subscription of the dead letters' topic%s%s and "
		    "name it in DeadLetterSubscription=",
		    pq->dead_topic != NULL ? " " : "",
		    pq->dead_topic != NULL ? pq->dead_topic : "");
	return !error_is_set(err);
}

/* ---- operations ---- */

void
pubsub_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct pubsub_walk *w = new0(struct pubsub_walk);

	w->pq = pq;
	walk_init(&w->held.base, &pq->walks, pq->loop, &pq->answer_task,
	    walk_free, walk, w);
	held_walk_init(&w->held);
	pubsub_call_init(&w->call, pq, PUBSUB_PULL, page_came, w);
}

void
pubsub_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_walk *w = walk_of(walk);

	(void)q;
	walk_begin(&w->held.base);
	if (next_item(w) || !askable(w)) {
		walk_tell(&w->held.base, false);
		return;
	}
	pubsub_pack_pull(&w->call.body, w->pq->dead_from, WALK_PAGE_MAX);
	ask(w, PUBSUB_PULL, page_came, w->held.seen.count == 0 ?
	    FIRST_PULL_US : NEXT_PULL_US);
}

static void
acted(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	struct pubsub_walk *w = c->owner;

	(void)answer;
	if (err == NULL)
		held_walk_gone(&w->held);
	if (walk_came(&w->held.base, err, true))
		walk_tell(&w->held.base, true);
}

static void
acknowledge(struct pubsub_walk *w)
{
	struct slice id = held_walk_receipt(&w->held);

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
		(void)walk_came(&w->held.base, err, true);
	else
		acknowledge(w);
	chunk_unref(chunk);
}

void
pubsub_dead_act(struct queue *q, struct dead_walk *walk,
    enum dead_action action)
{
	struct pubsub_queue *pq = pubsub_of(q);
	struct pubsub_walk *w = walk_of(walk);
	const struct message *m = w->held.current;
	struct error *err = &w->held.base.error;
	struct pubsub_copy copy;

	BUG_ON(m == NULL);
	walk_begin(&w->held.base);
	if (askable(w) && action == DEAD_REDRIVE && pq->topic == NULL)
		error_set(err, ERROR_REJECTED, "no_topic", "the topic of "
		    "the subscription is not known: set Topic=");
	if (error_is_set(err)) {
		walk_tell(&w->held.base, true);
		return;
	}
	if (action == DEAD_PURGE) {
		acknowledge(w);
		return;
	}
	copy = (struct pubsub_copy){
		.body = m->body,
		.ordering_key = held_walk_text(m, "pubsub-ordering-key"),
		.attributes = m->attributes,
		.nattributes = m->nattributes,
	};
	pubsub_pack_publish(&w->call.body, pq->topic, &copy);
	ask(w, PUBSUB_PUBLISH, redriven, 0);
}

void
pubsub_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct pubsub_walk *w = walk_of(walk);

	(void)q;
	walk_closed(w != NULL ? &w->held.base : NULL);
}

void
pubsub_dead_done(struct pubsub_queue *pq)
{
	struct list *l, *tmp;

	walks_done(&pq->walks);
	list_foreach_safe(l, tmp, &pq->calls) {
		struct pubsub_call *c = list_entry(l, struct pubsub_call, link);

		if (c->fn != given_back)
			continue;
		pubsub_call_done(c);
		free(c);
	}
}
