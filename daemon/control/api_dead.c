/*
 * Walks over dead letters for a client: one item at a time, at a rate, and no
 * longer than the client is there and reads.
 *
 * The walk is asked, answers from the loop, and is asked again.  It is closed
 * only when no call is open, in the phase where objects are freed, so that no
 * queue finds its walk gone when it returns from an upcall.
 */
#include "control/api_private.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "codec/base64.h"

#define LIST_LIMIT		50
#define FAILURES_IN_ROW_MAX	10
#define DETAIL_SHOWN		200	/* bytes of it, in a list */

enum dead_what {
	DEAD_LISTS = 1,
	DEAD_SHOWS,
	DEAD_ACTS,
};

struct dead_op {
	struct api_op op;
	struct dead_walk walk;
	char *queue;
	enum dead_what what;
	enum dead_action action;
	json_t *ids;			/* still to be found: {ID: true} */
	bool all, dry_run;
	uint64_t limit;			/* 0: none */
	char *after;			/* NULL once it was met */
	uint64_t interval_us, next_us;	/* of the rate */
	uint64_t begun_us;		/* wall clock */
	uint64_t seen, acted, failed;
	unsigned failed_in_row;
	json_t *item;			/* that is acted on */
	bool opened;			/* the walk has something to close */
	bool had_impl, asked, ended;
	bool blocked;
	struct timer timer;
	struct task end;
};

static void step(struct dead_op *);

/* ---- the end ---- */

/* The queue may have been removed by a reload meanwhile. */
static struct queue *
queue_if_alive(const struct dead_op *d)
{
	struct queue *q = engine_queue(d->op.api->p.engine, d->queue);

	if (q == NULL || q != d->walk.queue)
		return NULL;
	/* A queue's fini ends its walks. */
	if (d->had_impl && d->walk.impl == NULL)
		return NULL;
	return q;
}

static void
dead_free(struct dead_op *d)
{
	struct queue *q = queue_if_alive(d);

	timer_cancel(d->op.api->p.loop, &d->timer);
	task_cancel(&d->end);
	if (q != NULL && d->opened)
		q->type->ops->dead_close(q, &d->walk);
	api_op_end(&d->op);
	json_decref(d->ids);
	json_decref(d->item);
	free(d->after);
	free(d->queue);
	free(d);
}

static void
on_end(struct task *t)
{
	dead_free(t->owner);
}

/* No more steps; the walk is closed as soon as it is not in a call. */
static void
finish(struct dead_op *d)
{
	d->ended = true;
	timer_cancel(d->op.api->p.loop, &d->timer);
	if (!d->asked)
		task_schedule(d->op.api->p.loop, &d->end);
}

static void
on_abandoned(struct api_op *op)
{
	finish(container_of(op, struct dead_op, op));
}

static void
on_destroy(struct api_op *op)
{
	dead_free(container_of(op, struct dead_op, op));
}

static void
finish_error(struct dead_op *d, const char *text)
{
	if (d->op.conn != NULL && d->what != DEAD_ACTS) {
		api_fail(d->op.conn, "%s", text);
	} else if (d->op.conn != NULL) {
		json_t *line = json_pack("{s:b,s:I,s:I}", "ok", 0,
		    "acted", (json_int_t)d->acted,
		    "failed", (json_int_t)d->failed);

		(void)json_object_set_new(line, "error",
		    api_text(slice_of(text)));
		api_line(d->op.conn, line);
	}
	finish(d);
}

static json_t *
not_found(const struct dead_op *d)
{
	json_t *a = json_array(), *value;
	const char *id;

	json_object_foreach(d->ids, id, value) {
		(void)value;
		(void)json_array_append_new(a, json_string(id));
	}
	return a;
}

static void
finish_acts(struct dead_op *d)
{
	size_t missing = json_object_size(d->ids);
	bool ok = missing == 0 && d->failed == 0;
	json_t *line = json_pack("{s:b,s:I,s:I,s:b}", "ok", ok,
	    "acted", (json_int_t)d->acted, "failed", (json_int_t)d->failed,
	    "dry_run", d->dry_run);
	char text[128];

	(void)json_object_set_new(line, "not_found", not_found(d));
	if (!ok) {
		if (d->failed != 0)
			snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64
			    " failed; they are dead as before", d->failed,
			    d->acted + d->failed);
		else
			snprintf(text, sizeof(text),
			    "%zu of the ids are not among the dead letters",
			    missing);
		(void)json_object_set_new(line, "error", json_string(text));
	}
	api_line(d->op.conn, line);
	finish(d);
}

static void
finish_all(struct dead_op *d, bool more)
{
	if (d->op.conn == NULL) {
		finish(d);
	} else if (d->what == DEAD_ACTS) {
		finish_acts(d);
	} else if (d->after != NULL) {
		finish_error(d, "the id to go on after is not among the dead "
		    "letters (any more)");
	} else if (d->what == DEAD_SHOWS && json_object_size(d->ids) != 0) {
		finish_error(d, "there is no such dead letter");
	} else {
		api_ok(d->op.conn, json_pack("{s:I,s:b}", "listed",
		    (json_int_t)d->seen, "more", more));
		finish(d);
	}
}

/* ---- items ---- */

static json_t *
item_object(const struct dead_item *i, bool whole)
{
	struct slice detail = i->detail;
	char iso[CLOCK_ISO_BYTES];
	json_t *j = json_object();

	if (!whole)
		detail.n = MIN(detail.n, (size_t)DETAIL_SHOWN);
	(void)json_object_set_new(j, "id", api_text(i->id));
	(void)json_object_set_new(j, "name", api_text(i->name));
	(void)json_object_set_new(j, "error_type", api_text(i->error_type));
	(void)json_object_set_new(j, "detail", api_text(detail));
	(void)json_object_set_new(j, "attempts",
	    json_integer((json_int_t)i->attempts));
	(void)json_object_set_new(j, "crashes",
	    json_integer((json_int_t)i->crashes));
	(void)json_object_set_new(j, "died", i->died_us != 0 ?
	    json_string(clock_iso(iso, i->died_us, false)) : json_null());
	(void)json_object_set_new(j, "bytes",
	    json_integer((json_int_t)i->body.n));
	return j;
}

static void
add_content(json_t *j, const struct dead_item *i)
{
	json_t *attributes = json_object();
	json_t *body = json_stringn(i->body.p != NULL ? i->body.p : "",
	    i->body.n);

	for (size_t k = 0; k < i->nattributes; k++) {
		const struct attribute *a = &i->attributes[k];
		json_t *name = api_text(a->name), *value = NULL;

		if (a->json)
			value = json_loadb(a->value.p, a->value.n,
			    JSON_DECODE_ANY, NULL);
		if (value == NULL)
			value = api_text(a->value);
		(void)json_object_set_new(attributes, json_string_value(name),
		    value);
		json_decref(name);
	}
	(void)json_object_set_new(j, "attributes", attributes);
	if (body != NULL) {
		(void)json_object_set_new(j, "body", body);
	} else {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;

		base64_add(&b, i->body);
		(void)json_object_set_new(j, "body_base64",
		    api_text(buffer_slice(&b)));
	}
}

static void
send_item(struct dead_op *d, json_t *item)
{
	json_t *line = json_object();

	(void)json_object_set_new(line, "item", item);
	api_line(d->op.conn, line);
}

/* True when the item was one of those asked for; it then is no more. */
static bool
take_id(struct dead_op *d, struct slice id)
{
	_cleanup_free_ char *key = xstrndup(id.p, id.n);

	return json_object_del(d->ids, key) == 0;
}

static void
list_item(struct dead_op *d, const struct dead_item *item)
{
	if (d->after != NULL) {
		if (slice_is(item->id, d->after)) {
			free(d->after);
			d->after = NULL;
		}
		step(d);
		return;
	}
	/* One more than shown is asked for, to know whether there is one. */
	if (d->limit != 0 && d->seen == d->limit) {
		finish_all(d, true);
		return;
	}
	d->seen++;
	send_item(d, item_object(item, false));
	step(d);
}

static void
show_item(struct dead_op *d, const struct dead_item *item)
{
	json_t *j;

	if (!take_id(d, item->id)) {
		step(d);
		return;
	}
	j = item_object(item, true);
	add_content(j, item);
	d->seen++;
	send_item(d, j);
	finish_all(d, false);
}

static void
act_now(struct dead_op *d)
{
	struct queue *q = queue_if_alive(d);

	if (q == NULL || q->stopping) {
		finish_error(d, "the queue is stopping");
		return;
	}
	d->next_us = sat_add(clock_monotonic_us(), d->interval_us);
	d->asked = true;
	q->type->ops->dead_act(q, &d->walk, d->action);
}

static void
on_timer(struct timer *t)
{
	act_now(t->owner);
}

static void
act_on_item(struct dead_op *d, const struct dead_item *item)
{
	uint64_t now = clock_monotonic_us();

	/* What was redriven and died again is behind us; it is not ours. */
	if (d->action == DEAD_REDRIVE && item->died_us > d->begun_us) {
		finish_all(d, false);
		return;
	}
	if (!d->all && !take_id(d, item->id)) {
		step(d);
		return;
	}
	json_decref(d->item);
	d->item = item_object(item, false);
	if (d->dry_run) {
		d->acted++;
		send_item(d, d->item);
		d->item = NULL;
		step(d);
	} else if (d->next_us > now) {
		timer_arm_at(d->op.api->p.loop, &d->timer, d->next_us);
	} else {
		act_now(d);
	}
}

/* ---- answers of the walk ---- */

static void
on_item(struct dead_walk *walk, const struct dead_item *item,
    const struct error *err)
{
	struct dead_op *d = walk->owner;

	d->asked = false;
	if (d->ended) {
		finish(d);
	} else if (err != NULL) {
		finish_error(d, err->text);
	} else if (item == NULL) {
		finish_all(d, false);
	} else if (d->what == DEAD_LISTS) {
		list_item(d, item);
	} else if (d->what == DEAD_SHOWS) {
		show_item(d, item);
	} else {
		act_on_item(d, item);
	}
}

static void
on_acted(struct dead_walk *walk, const struct error *err)
{
	struct dead_op *d = walk->owner;

	d->asked = false;
	if (err == NULL)
		d->acted++;
	else
		d->failed++;
	d->failed_in_row = err == NULL ? 0 : d->failed_in_row + 1;
	if (d->ended) {
		finish(d);
		return;
	}
	if (err != NULL)
		(void)json_object_set_new(d->item, "error",
		    api_text(slice_of(err->text)));
	send_item(d, d->item);
	d->item = NULL;
	if (d->failed_in_row >= FAILURES_IN_ROW_MAX)
		finish_error(d, err->text);
	else
		step(d);
}

/* The broker has done it itself, or each must be walked to. */
static void
on_all(struct dead_walk *walk, uint64_t count, const struct error *err)
{
	struct dead_op *d = walk->owner;

	d->asked = false;
	if (d->ended) {
		finish(d);
	} else if (err == NULL) {
		d->acted = count;
		finish_all(d, false);
	} else if (strcmp(err->code, DEAD_ALL_UNSUPPORTED) == 0) {
		step(d);
	} else {
		finish_error(d, err->text);
	}
}

/* Can all be left to the broker? Not what is limited, or slow to be purged. */
static bool
act_on_all(struct dead_op *d, struct queue *q)
{
	unsigned rate = d->interval_us == 0 ? 0 :
	    (unsigned)MAX(USEC_PER_SEC / d->interval_us, (uint64_t)1);

	if (d->what != DEAD_ACTS || !d->all || d->dry_run || d->limit != 0 ||
	    q->type->ops->dead_all == NULL ||
	    (rate != 0 && d->action == DEAD_PURGE))
		return false;
	d->asked = true;
	q->type->ops->dead_all(q, &d->walk, d->action, rate);
	return true;
}

static void
step(struct dead_op *d)
{
	struct queue *q = queue_if_alive(d);

	if (q == NULL || q->stopping) {
		finish_error(d, "the queue is stopping");
		return;
	}
	if (d->what == DEAD_ACTS &&
	    ((d->limit != 0 && d->acted + d->failed >= d->limit) ||
	    (!d->all && json_object_size(d->ids) == 0))) {
		finish_all(d, true);
		return;
	}
	d->blocked = api_is_blocked(d->op.conn);
	if (d->blocked)
		return;
	d->asked = true;
	q->type->ops->dead_next(q, &d->walk);
}

static void
on_drained(struct api_op *op)
{
	struct dead_op *d = container_of(op, struct dead_op, op);

	if (d->blocked && !d->ended)
		step(d);
}

/* ---- the request ---- */

static int
take_ids(struct api_conn *c, struct dead_op *d, json_t *request)
{
	json_t *ids = json_object_get(request, "ids"), *id;
	size_t i;

	if ((ids != NULL) == d->all || (ids != NULL && !json_is_array(ids))) {
		api_fail(c, "either \"ids\", an array, or \"all\": true");
		return -EINVAL;
	}
	json_array_foreach(ids, i, id) {
		if (!json_is_string(id)) {
			api_fail(c, "an id is a string");
			return -EINVAL;
		}
		(void)json_object_set_new(d->ids, json_string_value(id),
		    json_true());
	}
	return 0;
}

static int
take_request(struct api_conn *c, struct dead_op *d, json_t *request)
{
	const char *command =
	    json_string_value(json_object_get(request, "command"));
	const char *after =
	    json_string_value(json_object_get(request, "after"));
	json_t *limit = json_object_get(request, "limit");
	json_t *rate = json_object_get(request, "rate");
	json_t *id = json_object_get(request, "id");

	d->all = json_is_true(json_object_get(request, "all"));
	d->dry_run = json_is_true(json_object_get(request, "dry_run"));
	d->after = after != NULL ? xstrdup(after) : NULL;
	if (limit != NULL && (!json_is_integer(limit) ||
	    json_integer_value(limit) < 0)) {
		api_fail(c, "\"limit\" is a number; 0: no limit");
		return -EINVAL;
	}
	d->limit = limit != NULL ? (uint64_t)json_integer_value(limit) : 0;
	if (rate != NULL && (!json_is_number(rate) ||
	    json_number_value(rate) < 0.001)) {
		api_fail(c, "\"rate\" is a number of messages a second");
		return -EINVAL;
	}
	if (rate != NULL)
		d->interval_us = (uint64_t)(1e6 / json_number_value(rate));
	if (strcmp(command, "dead-list") == 0) {
		d->what = DEAD_LISTS;
		if (limit == NULL)
			d->limit = LIST_LIMIT;
		return 0;
	}
	if (strcmp(command, "dead-show") == 0) {
		d->what = DEAD_SHOWS;
		if (!json_is_string(id)) {
			api_fail(c, "which one? (\"id\" is missing)");
			return -EINVAL;
		}
		(void)json_object_set_new(d->ids, json_string_value(id),
		    json_true());
		return 0;
	}
	d->what = DEAD_ACTS;
	d->action = strcmp(command, "dead-purge") == 0 ? DEAD_PURGE :
	    DEAD_REDRIVE;
	return take_ids(c, d, request);
}

void
api_dead(struct api_conn *c, json_t *request)
{
	struct queue *q = api_find_queue(c, request);
	struct dead_op *d;

	if (q == NULL)
		return;
	if (api_refuse_standby(c))
		return;
	if (!(q->type->capabilities & QUEUE_DEAD_LETTERS)) {
		api_fail(c, "queues of type %s have no dead letters that can "
		    "be reached from here", q->type->name);
		return;
	}
	d = new0(struct dead_op);
	d->op.api = c->api;
	d->op.abandoned = on_abandoned;
	d->op.drained = on_drained;
	d->op.destroy = on_destroy;
	list_init(&d->op.link);
	d->queue = xstrdup(q->name);
	d->ids = json_object();
	d->begun_us = clock_realtime_us();
	d->walk = (struct dead_walk){ .queue = q, .on_item = on_item,
		.on_acted = on_acted, .on_all = on_all, .owner = d };
	timer_init(&d->timer, "control: dead letters", on_timer, d);
	task_init(&d->end, LOOP_FREE, "control: dead letters", on_end, d);
	if (take_request(c, d, request) < 0) {
		dead_free(d);
		return;
	}
	if (api_op_begin(&d->op, c) < 0) {
		api_fail(c, "too many commands at once");
		dead_free(d);
		return;
	}
	if (d->what == DEAD_ACTS && !d->dry_run)
		api_audit(c, LOG_QUEUE(q->name), d->action == DEAD_PURGE ?
		    "purging dead letters" : "redriving dead letters");
	d->opened = true;
	q->type->ops->dead_open(q, &d->walk);
	d->had_impl = d->walk.impl != NULL;
	if (!act_on_all(d, q))
		step(d);
}
