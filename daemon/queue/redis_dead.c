/*
 * Dead letters.  Streams and lists keep theirs in a stream: the message's own
 * fields, then seven of ours that say what happened.  Putting one in and
 * taking the original away is one script; so is the way back.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "queue/redis_impl.h"

/* ---- writing ---- */

size_t
redis_dead_count(const struct message *m)
{
	return 1 + m->nattributes;
}

static const char *
body_field(const struct redis_queue *rq)
{
	return rq->mode == &redis_mode_stream ? rq->body_field : "body";
}

void
redis_dead_fields(struct redis_queue *rq, const struct message *m)
{
	struct redis_conn *c = &rq->writer;

	redis_arg_str(c, body_field(rq));
	redis_arg(c, m->body);
	for (size_t i = 0; i < m->nattributes; i++) {
		redis_arg(c, m->attributes[i].name);
		redis_arg(c, m->attributes[i].value);
	}
}

void
redis_dead_args(struct redis_queue *rq, const struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;

	/* The first of them is how a redrive finds where they begin. */
	redis_arg_str(c, "bot-error-type");
	redis_arg_str(c, b->error_type);
	redis_arg_str(c, "bot-detail");
	redis_arg(c, (struct slice){ b->detail, b->ndetail });
	redis_arg_str(c, "bot-attempts");
	redis_arg_u64(c, b->attempt);
	redis_arg_str(c, "bot-crashes");
	redis_arg_u64(c, b->crashes);
	redis_arg_str(c, "bot-origin-id");
	redis_arg(c, b->message[0]->name);
	redis_arg_str(c, "bot-queue");
	redis_arg_str(c, rq->queue->name);
	redis_arg_str(c, "bot-died");
	redis_arg_u64(c, clock_realtime_us() / USEC_PER_MSEC);
}

/* ---- a stream of them ---- */

void
redis_dead_stream_page(struct redis_queue *rq, struct redis_walk *w)
{
	struct redis_conn *c = &rq->writer;

	redis_begin(c, 6);
	redis_arg_str(c, "XRANGE");
	redis_arg_str(c, rq->dead_key);
	redis_arg_str(c, w->from[0] != '\0' ? w->from : "-");
	redis_arg_str(c, "+");
	redis_arg_str(c, "COUNT");
	redis_arg_u64(c, REDIS_DEAD_PAGE);
	redis_end(c, redis_dead_page_came, w, 0);
}

static uint64_t
number(struct slice text)
{
	uint64_t n;

	return slice_to_u64(text, &n) == 0 ? n : 0;
}

static void
read_ours(const struct resp *fields, size_t from, struct dead_item *item)
{
	for (size_t i = from; i + 1 < fields->count; i += 2) {
		struct slice name = fields->element[i]->str;
		struct slice value = fields->element[i + 1]->str;

		if (slice_is(name, "bot-error-type"))
			item->error_type = value;
		else if (slice_is(name, "bot-detail"))
			item->detail = value;
		else if (slice_is(name, "bot-attempts"))
			item->attempts = (unsigned)MIN(number(value),
			    (uint64_t)UINT32_MAX);
		else if (slice_is(name, "bot-crashes"))
			item->crashes = (unsigned)MIN(number(value),
			    (uint64_t)UINT32_MAX);
		else if (slice_is(name, "bot-origin-id"))
			item->name = value;
		else if (slice_is(name, "bot-died"))
			item->died_us = number(value) >
			    UINT64_MAX / USEC_PER_MSEC ? 0 :
			    number(value) * USEC_PER_MSEC;
	}
}

bool
redis_dead_stream_item(struct redis_queue *rq, struct redis_walk *w)
{
	const struct resp *entry = resp_at(w->page, w->at++);
	const struct resp *fields = resp_at(entry, 1);
	struct slice id = resp_at(entry, 0)->str;
	struct attribute *a;
	size_t own = fields->count, n = 0;
	bool found = false;

	if (id.n == 0 || fields->type != RESP_ARRAY)
		return false;
	snprintf(w->from, sizeof(w->from), "(%.*s",
	    (int)MIN(id.n, sizeof(w->from) - 2), id.p);
	w->item = (struct dead_item){ .id = id, .name = id };
	if (own >= 2 * REDIS_DEAD_FIELDS &&
	    slice_is(fields->element[own - 2 * REDIS_DEAD_FIELDS]->str,
	    "bot-error-type")) {
		own -= 2 * REDIS_DEAD_FIELDS;
		read_ours(fields, own, &w->item);
	}
	a = chunk_alloc(w->chunk, (own / 2 + 1) * sizeof(*a));
	for (size_t i = 0; i + 1 < own; i += 2) {
		struct slice name = fields->element[i]->str;
		struct slice value = fields->element[i + 1]->str;

		if (!found && slice_is(name, body_field(rq))) {
			found = true;
			w->item.body = value;
			continue;
		}
		a[n++] = (struct attribute){ .name = name, .value = value };
	}
	if (!found) {
		w->item.body = redis_fields_json(w->chunk, fields, own);
		n = 0;
	}
	w->item.attributes = a;
	w->item.nattributes = n;
	return true;
}

void
redis_dead_stream_act(struct redis_queue *rq, struct redis_walk *w,
    enum dead_action action)
{
	struct redis_conn *c = &rq->writer;
	bool list = rq->mode != &redis_mode_stream;

	if (action == DEAD_PURGE) {
		redis_begin(c, 3);
		redis_arg_str(c, "XDEL");
		redis_arg_str(c, rq->dead_key);
		redis_arg(c, w->item.id);
	} else {
		redis_begin_script(c, list ? SCRIPT_LIST_REDRIVE :
		    SCRIPT_STREAM_REDRIVE, 2, 2);
		redis_arg_str(c, rq->dead_key);
		redis_arg_str(c, rq->key);
		redis_arg(c, w->item.id);
		if (list)
			redis_arg_str(c, rq->pop_head ? "RPUSH" : "LPUSH");
		else
			redis_arg_u64(c, 2 * REDIS_DEAD_FIELDS);
	}
	redis_end(c, redis_dead_acted, w, 0);
}

/* ---- walking ---- */

static void
walk_free(struct redis_walk *w)
{
	list_remove(&w->link);
	chunk_unref(w->chunk);
	free(w);
}

void
redis_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct redis_queue *rq = redis_of(q);
	struct redis_walk *w = new0(struct redis_walk);

	w->walk = walk;
	walk->impl = w;
	list_push_back(&rq->walks, &w->link);
}

/* Answers from the task when there is nobody to ask. */
static bool
askable(struct redis_queue *rq, struct redis_walk *w)
{
	if (rq->state == REDIS_UP && !redis_failing(rq) && !rq->leaving)
		return true;
	error_set(&w->error, ERROR_TRANSIENT, "not_connected",
	    "the server cannot be reached now");
	return false;
}

void
redis_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct redis_queue *rq = redis_of(q);
	struct redis_walk *w = walk->impl;

	BUG_ON(w->asked || w->answer || w->answer_acted);
	error_clear(&w->error);
	w->answer = true;
	task_schedule(rq->loop, &rq->answer_task);
}

void
redis_dead_act(struct queue *q, struct dead_walk *walk, enum dead_action action)
{
	struct redis_queue *rq = redis_of(q);
	struct redis_walk *w = walk->impl;

	BUG_ON(w->asked || w->answer || w->answer_acted);
	error_clear(&w->error);
	if (askable(rq, w)) {
		w->asked = true;
		rq->mode->dead_act(rq, w, action);
	} else {
		w->answer_acted = true;
		task_schedule(rq->loop, &rq->answer_task);
	}
}

void
redis_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct redis_walk *w = walk->impl;

	(void)q;
	if (w == NULL)
		return;
	walk->impl = NULL;
	w->walk = NULL;
	if (!w->asked)
		walk_free(w);
}

/* The owner may close the walk inside: w is not touched after the call. */
static void
tell(struct redis_walk *w, const struct dead_item *item)
{
	struct error err = w->error;

	w->walk->on_item(w->walk, item, error_is_set(&err) ? &err : NULL);
}

static void
step(struct redis_queue *rq, struct redis_walk *w)
{
	w->answer = false;
	if (error_is_set(&w->error)) {
		tell(w, NULL);
		return;
	}
	while (w->page != NULL && w->at < w->page->count) {
		if (rq->mode->dead_item(rq, w)) {
			tell(w, &w->item);
			return;
		}
	}
	if (w->last_page) {
		tell(w, NULL);
	} else if (askable(rq, w)) {
		w->asked = true;
		rq->mode->dead_page(rq, w);
	} else {
		tell(w, NULL);
	}
}

void
redis_dead_answer(struct redis_queue *rq)
{
	struct list *l;

again:
	list_foreach(l, &rq->walks) {
		struct redis_walk *w = list_entry(l, struct redis_walk, link);

		if (w->answer_acted) {
			struct error err = w->error;

			w->answer_acted = false;
			w->walk->on_acted(w->walk,
			    error_is_set(&err) ? &err : NULL);
			goto again;
		}
		if (w->answer) {
			step(rq, w);
			goto again;
		}
	}
}

/* False when the walk is over or its error is set. */
static bool
came(struct redis_queue *rq, struct redis_walk *w, const struct resp *reply)
{
	w->asked = false;
	if (w->walk == NULL) {
		(void)redis_reply_ok(rq, reply, "dead letters");
		walk_free(w);
		return false;
	}
	if (reply == NULL || redis_failing(rq))
		error_set(&w->error, ERROR_TRANSIENT, "disconnected",
		    "the connection broke before the answer");
	else if (reply->type == RESP_ERROR)
		redis_error(rq, reply, &w->error);
	(void)redis_reply_ok(rq, reply, "dead letters");
	return true;
}

void
redis_dead_page_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_walk *w = arg;

	if (!came(rq, w, reply))
		return;
	if (!error_is_set(&w->error)) {
		chunk_unref(w->chunk);
		w->chunk = chunk_ref(chunk);
		w->page = reply;
		w->at = 0;
		w->last_page = reply->type != RESP_ARRAY ||
		    reply->count < REDIS_DEAD_PAGE;
	}
	/* Through the task: a lost connection answers inside other calls. */
	w->answer = true;
	task_schedule(rq->loop, &rq->answer_task);
}

void
redis_dead_acted(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_walk *w = arg;

	(void)chunk;
	if (!came(rq, w, reply))
		return;
	if (!error_is_set(&w->error) && reply->integer == 0)
		error_set(&w->error, ERROR_REJECTED, "gone",
		    "it is not among the dead letters any more");
	/* What was behind it has moved up. */
	if (!error_is_set(&w->error) && w->rank != 0)
		w->rank--;
	w->answer_acted = true;
	task_schedule(rq->loop, &rq->answer_task);
}
