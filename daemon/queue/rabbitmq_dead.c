/*
 * Walks over the dead letters.  Each has a channel of its own in transaction
 * mode and takes one message after the other with basic.get; closing the
 * channel gives back all that were not acted on, in their old places.
 *
 * Acting is one transaction: the copy back into the queue and the
 * acknowledgement of the dead letter are committed together, so that whoever
 * is cut off before the commit was sent has done nothing, and afterwards all
 * (AMQP 0-9-1 specification, class tx).
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "queue/rabbitmq_impl.h"
#include "queue/walk.h"

struct rabbit_walk {
	struct walk base;
	struct rabbit_channel *channel;	/* ours while its owner is w */
	bool counted;			/* left is known */
	uint32_t left;			/* not seen of those there at first */
	bool returned;			/* no queue took the redriven one */
	struct rabbit_content content;	/* of the item; a reference */
	struct rabbit_meta meta;
	char id[24];
};

/* ---- telling ---- */

static void
drop_item(struct rabbit_walk *w)
{
	chunk_unref(w->content.chunk);
	w->content.chunk = NULL;
}

static void
walk_free(struct walk *base)
{
	struct rabbit_walk *w = container_of(base, struct rabbit_walk, base);
	struct rabbit_channel *ch = w->channel;

	if (ch != NULL && ch->owner == w) {
		ch->owner = NULL;
		/* A quorum queue gets them back some time after the channel
		   has gone; told so it does at once, for the next who looks. */
		if (ch->state == CHANNEL_OPEN) {
			amqp_wire_add_requeue_all(rabbit_out(ch), ch->number);
			rabbit_send(ch, AMQP_TX_COMMIT_METHOD,
			    &(amqp_tx_commit_t){ 0 });
		}
		rabbit_channel_close(ch, NULL, NULL);
	}
	walk_done(base);
	drop_item(w);
	free(w);
}

/* False when there is nobody to tell any more, or the answer is an error. */
static bool
came(struct rabbit_walk *w, amqp_method_number_t id, const void *decoded,
    bool acted)
{
	struct error err = ERROR_INIT;

	if (id == AMQP_CHANNEL_CLOSE_METHOD)
		rabbit_close_error(decoded, &err);
	else if (id == 0)
		error_set(&err, ERROR_TRANSIENT, "disconnected",
		    "the connection broke before the answer");
	return walk_came(&w->base, error_is_set(&err) ? &err : NULL, acted);
}

/* ---- items ---- */

/* FNV-1a (Fowler, Noll, Vo), 64 bits: the same in every run. */
static uint64_t
fnv(uint64_t h, struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* For one that others have put there: by what does not change. */
static struct slice
made_up_id(struct rabbit_walk *w)
{
	const struct rabbit_content *c = &w->content;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	h = fnv(h, w->meta.name);
	h = fnv(h, c->routing_key);
	h = fnv(h, (struct slice){ (const char *)&w->meta.sent_us,
	    sizeof(w->meta.sent_us) });
	h = fnv(h, c->body);
	snprintf(w->id, sizeof(w->id), "x%016" PRIx64, h);
	return slice_of(w->id);
}

static void
fill_item(struct rabbit_walk *w)
{
	const struct rabbit_meta *m = &w->meta;

	w->base.item = (struct dead_item){
		.id = m->id.n != 0 ? m->id : made_up_id(w),
		.name = m->name,
		.error_type = m->error_type,
		.detail = m->detail,
		.attempts = m->attempt,
		.crashes = m->crashes,
		.died_us = m->died_us,
		.body = w->content.body,
		.attributes = m->attributes,
		.nattributes = m->nattributes,
	};
	if (w->base.item.name.n == 0)
		w->base.item.name = w->base.item.id;
}

static void
got(struct rabbit_channel *ch, amqp_method_number_t id, const void *decoded,
    void *arg)
{
	struct rabbit_walk *w = arg;
	struct error ignored;

	if (!came(w, id, decoded, false))
		return;
	w->base.end = id == AMQP_BASIC_GET_EMPTY_METHOD;
	if (!w->base.end) {
		w->content = *(const struct rabbit_content *)decoded;
		chunk_ref(w->content.chunk);
		if (!w->counted)
			w->left = w->content.waiting + 1;
		w->counted = true;
		w->left--;
		/* What cannot be decoded is shown without attributes. */
		if (rabbit_meta(ch->conn, &w->content, &w->meta, &ignored) < 0)
			w->meta = (struct rabbit_meta){ .attempt = 1 };
		fill_item(w);
	}
	walk_tell(&w->base, false);
}

/* ---- the channel ---- */

static void
on_content(struct rabbit_channel *ch, const struct rabbit_content *c)
{
	struct rabbit_walk *w = ch->owner;

	if (w != NULL && c->method == AMQP_BASIC_RETURN_METHOD)
		w->returned = true;
}

static bool
has_channel(const struct rabbit_walk *w)
{
	return w->channel != NULL && w->channel->owner == w;
}

static bool
open_channel(struct rabbit_queue *rq, struct rabbit_walk *w)
{
	w->channel = rabbit_channel_new(&rq->publisher_conn, NULL, NULL);
	if (w->channel == NULL) {
		error_set(&w->base.error, ERROR_THROTTLED, "too_many_walks",
		    "too many others look at the dead letters now");
		return false;
	}
	w->channel->owner = w;
	w->channel->on_content = on_content;
	rabbit_call(w->channel, AMQP_TX_SELECT_METHOD,
	    &(amqp_tx_select_t){ 0 }, AMQP_TX_SELECT_OK_METHOD, 0, NULL, NULL);
	return true;
}

/* False and the walk's error when nothing can be asked. */
static bool
askable(struct rabbit_queue *rq, struct rabbit_walk *w)
{
	if (!rabbit_is_up(rq) || rq->stopping) {
		error_set(&w->base.error, ERROR_TRANSIENT, "not_connected",
		    "the broker cannot be reached now");
		return false;
	}
	if (has_channel(w))
		return true;
	if (w->counted) {
		error_set(&w->base.error, ERROR_TRANSIENT, "disconnected",
		    "the connection broke meanwhile");
		return false;
	}
	return open_channel(rq, w);
}

/* ---- operations ---- */

void
rabbit_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct rabbit_queue *rq = rabbit_of(q);
	struct rabbit_walk *w = new0(struct rabbit_walk);

	walk_init(&w->base, &rq->walks, rq->loop, &rq->answer_task, walk_free,
	    walk, w);
}

void
rabbit_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct rabbit_queue *rq = rabbit_of(q);
	struct rabbit_walk *w = walk->impl;
	amqp_basic_get_t get = {
		.queue = amqp_cstring_bytes(rq->dead_name),
	};

	walk_begin(&w->base);
	drop_item(w);
	/* What comes behind those was put there since. */
	w->base.end = w->counted && w->left == 0;
	if (w->base.end || !askable(rq, w)) {
		walk_tell(&w->base, false);
		return;
	}
	walk_ask(&w->base);
	rabbit_call(w->channel, AMQP_BASIC_GET_METHOD, &get,
	    AMQP_BASIC_GET_OK_METHOD, AMQP_BASIC_GET_EMPTY_METHOD, got, w);
}

static void acted(struct rabbit_channel *, amqp_method_number_t, const void *,
	    void *);

static void
commit(struct rabbit_walk *w, rabbit_reply_fn *fn)
{
	walk_ask(&w->base);
	rabbit_call(w->channel, AMQP_TX_COMMIT_METHOD,
	    &(amqp_tx_commit_t){ 0 }, AMQP_TX_COMMIT_OK_METHOD, 0, fn, w);
}

static struct rabbit_copy
copy_of(const struct rabbit_queue *rq, const struct rabbit_walk *w,
    enum rabbit_copy_kind kind)
{
	return (struct rabbit_copy){
		.kind = kind,
		.queue = slice_of(kind == COPY_REDRIVE ? rq->name :
		    rq->dead_name),
		.properties = w->content.properties,
		.body = w->content.body,
		.exchange = w->content.exchange,
		.routing_key = w->content.routing_key,
		.name = w->meta.name,
		.attempt = w->meta.attempt,
		.crashes = w->meta.crashes,
		.error_type = w->meta.error_type,
		.detail = w->meta.detail,
	};
}

static void
put_back(struct rabbit_channel *ch, amqp_method_number_t id,
    const void *decoded, void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_walk *w = arg;

	if (!came(w, id, decoded, true))
		return;
	error_set(&w->base.error, ERROR_REJECTED, "no_queue",
	    "there is no queue %s any more; it is dead as before", rq->name);
	walk_tell(&w->base, true);
}

static void
acted(struct rabbit_channel *ch, amqp_method_number_t id, const void *decoded,
    void *arg)
{
	struct rabbit_queue *rq = ch->conn->rq;
	struct rabbit_walk *w = arg;
	struct rabbit_copy copy;

	/* The queue went away in this very moment. */
	if (id == AMQP_TX_COMMIT_OK_METHOD && w->returned) {
		w->returned = false;
		copy = copy_of(rq, w, COPY_BURY);
		if (rabbit_copy(ch, &copy, &w->base.error) == 0) {
			commit(w, put_back);
			return;
		}
	}
	if (came(w, id, decoded, true))
		walk_tell(&w->base, true);
}

void
rabbit_dead_act(struct queue *q, struct dead_walk *walk, enum dead_action action)
{
	struct rabbit_queue *rq = rabbit_of(q);
	struct rabbit_walk *w = walk->impl;
	struct rabbit_copy copy = copy_of(rq, w, COPY_REDRIVE);

	walk_begin(&w->base);
	w->returned = false;
	if (!askable(rq, w) || (action == DEAD_REDRIVE &&
	    rabbit_copy(w->channel, &copy, &w->base.error) < 0)) {
		walk_tell(&w->base, true);
		return;
	}
	amqp_wire_add_ack(rabbit_out(w->channel), w->channel->number,
	    w->content.tag, false);
	commit(w, acted);
}

void
rabbit_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct rabbit_walk *w = walk->impl;

	(void)q;
	walk_closed(w != NULL ? &w->base : NULL);
}

void
rabbit_dead_done(struct rabbit_queue *rq)
{
	walks_done(&rq->walks);
}
