/*
 * Walks over the dead letters.  SQS cannot be looked into: a walk receives
 * them, ten at a time, hidden from others for HOLD_SECONDS, and makes visible
 * again what it has not acted on when it ends.  One that is cut off leaves
 * them to come back by themselves.
 *
 * A redrive sends the copy first and deletes then: who is cut off in between
 * leaves both.  A FIFO queue drops the second copy (its deduplication id is
 * kept); on a standard queue it is one more of the duplicates that SQS allows
 * itself anyway.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "queue/sqs_impl.h"

#define HOLD_SECONDS	120u
#define DEDUPLICATION_US	(6 * 60 * USEC_PER_SEC)	/* 5 min, and for the
							   clocks */

/* One that the walk has seen. */
struct seen {
	struct hash_node node;		/* by MessageId */
	bool gone;			/* acted on */
	char *handle;
	char id[];
};

struct sqs_walk {
	struct list link;		/* of sq->walks */
	struct sqs_queue *sq;
	struct dead_walk *walk;		/* NULL: closed while asked */
	struct sqs_call call;
	bool answer, answer_acted, asked, end;
	struct error error;
	struct chunk *chunk;
	struct message *page[SQS_BATCH_MAX];	/* of the chunk */
	unsigned n, at;
	struct message *current;
	struct dead_item item;
	struct hash seen;
};

/* ---- what was seen ---- */

static struct seen *
seen_find(struct sqs_walk *w, struct slice id)
{
	struct hash_node *node = hash_find(&w->seen, id);

	return node != NULL ? container_of(node, struct seen, node) : NULL;
}

static void
seen_add(struct sqs_walk *w, const struct message *m)
{
	struct seen *s = xcalloc(1, sizeof(*s) + m->name.n);

	memcpy(s->id, m->name.p, m->name.n);
	s->handle = xstrndup(m->receipt.p, m->receipt.n);
	hash_insert(&w->seen, &s->node, (struct slice){ s->id, m->name.n });
}

/* Visible again, in the background: nobody waits for it. */
struct giving_back {
	struct list link;		/* of sq->giving_back */
	struct sqs_call call;
};

static void
given_back(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct giving_back *g = c->owner;

	(void)answer;
	if (err != NULL)
		log_debug(LOG_QUEUE(c->sq->queue->name), "dead letters stay "
		    "hidden for a while: %s", err->text);
	list_remove(&g->link);
	sqs_call_done(c);
	free(g);
}

static void
give_back(struct sqs_walk *w)
{
	struct sqs_queue *sq = w->sq;
	struct hash_node *node;
	struct giving_back *g = NULL;
	unsigned n = 0;

	while ((node = hash_any(&w->seen)) != NULL) {
		struct seen *s = container_of(node, struct seen, node);

		hash_remove(&w->seen, node);
		if (!s->gone && sq->dead_url != NULL) {
			if (g == NULL) {
				g = new0(struct giving_back);
				list_push_back(&sq->giving_back, &g->link);
				sqs_call_init(&g->call, sq,
				    "ChangeMessageVisibilityBatch", given_back,
				    g);
				sqs_call_begin(&g->call, sq->dead_url);
				buffer_add_str(&g->call.body,
				    ",\"Entries\":[");
			}
			buffer_printf(&g->call.body, "%s{\"Id\":\"%u\","
			    "\"VisibilityTimeout\":0,\"ReceiptHandle\":",
			    n != 0 ? "," : "", n);
			json_add_string(&g->call.body, slice_of(s->handle));
			buffer_add_char(&g->call.body, '}');
			n++;
		}
		free(s->handle);
		free(s);
		if (g != NULL && (n == SQS_BATCH_MAX ||
		    hash_any(&w->seen) == NULL)) {
			buffer_add_char(&g->call.body, ']');
			sqs_call_end(&g->call);
			sqs_call_send(&g->call);
			g = NULL;
			n = 0;
		}
	}
}

/* ---- pages ---- */

static void
drop_page(struct sqs_walk *w)
{
	for (unsigned i = 0; i < w->n; i++)
		message_free(w->page[i]);
	w->n = w->at = 0;
	w->current = NULL;
	chunk_unref(w->chunk);
	w->chunk = NULL;
}

static void
walk_free(struct sqs_walk *w)
{
	list_remove(&w->link);
	sqs_call_done(&w->call);
	drop_page(w);
	give_back(w);
	hash_done(&w->seen);
	free(w);
}

static void
tell_later(struct sqs_walk *w, bool acted)
{
	w->answer = !acted;
	w->answer_acted = acted;
	task_schedule(w->sq->loop, &w->sq->answer_task);
}

static uint64_t
number(const struct message *m, const char *name)
{
	const struct attribute *a = message_attribute(m, name);
	uint64_t n;

	return a != NULL && slice_to_u64(a->value, &n) == 0 ? n : 0;
}

static struct slice
text(const struct message *m, const char *name)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL ? a->value : (struct slice){ NULL, 0 };
}

static void
fill_item(struct sqs_walk *w, const struct message *m)
{
	struct slice origin = text(m, "bot-origin-id");

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
	if (w->item.died_us == 0)
		w->item.died_us = m->enqueued_us;
}

/* False: nothing new came, which is the end; or an error. */
static bool
read_page(struct sqs_walk *w, struct slice answer, struct error *err)
{
	struct error of_one = ERROR_INIT;	/* the others can be read */
	LIST_HEAD(messages);
	struct list *l;

	drop_page(w);
	w->chunk = chunk_new();
	if (sqs_read_messages(&w->call, w->chunk, answer, &messages,
	    &of_one) < 0)
		*err = of_one;
	while ((l = list_pop_front(&messages)) != NULL) {
		struct message *m = list_entry(l, struct message, link);

		if (w->n == SQS_BATCH_MAX || seen_find(w, m->name) != NULL) {
			message_free(m);
			continue;
		}
		seen_add(w, m);
		w->page[w->n++] = m;
	}
	return w->n != 0;
}

static void
next_item(struct sqs_walk *w)
{
	w->current = w->page[w->at++];
	fill_item(w, w->current);
}

static bool
came(struct sqs_walk *w, const struct error *err, bool acted)
{
	w->asked = false;
	if (w->walk == NULL) {
		walk_free(w);
		return false;
	}
	if (err == NULL)
		return true;
	w->error = *err;
	tell_later(w, acted);
	return false;
}

static void
page_came(struct sqs_call *c, struct slice answer, const struct error *err)
{
	struct sqs_walk *w = c->owner;

	if (!came(w, err, false))
		return;
	if (read_page(w, answer, &w->error))
		next_item(w);
	else
		w->end = !error_is_set(&w->error);
	tell_later(w, false);
}

static bool
askable(struct sqs_walk *w)
{
	struct sqs_queue *sq = w->sq;

	if (!sqs_is_up(sq) || sq->stopping)
		error_set(&w->error, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
	else if (sq->dead_url == NULL)
		error_set(&w->error, ERROR_REJECTED, "no_dead_letter", "the "
		    "queue of the redrive policy could not be looked up");
	return !error_is_set(&w->error);
}

static void
ask(struct sqs_walk *w, const char *operation, sqs_call_fn *fn)
{
	w->asked = true;
	w->call.operation = operation;
	w->call.fn = fn;
	w->call.text_fn = fn == NULL ? page_came : NULL;
	sqs_call_end(&w->call);
	sqs_call_send(&w->call);
}

/* ---- operations ---- */

void
sqs_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct sqs_queue *sq = sqs_of(q);
	struct sqs_walk *w = new0(struct sqs_walk);

	w->sq = sq;
	w->walk = walk;
	walk->impl = w;
	hash_init(&w->seen);
	sqs_call_init(&w->call, sq, "ReceiveMessage", NULL, w);
	list_push_back(&sq->walks, &w->link);
}

void
sqs_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct sqs_walk *w = walk->impl;

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
	/* A wait asks all servers of the service, not only some of them. */
	w->call.extra_us = USEC_PER_SEC;
	sqs_call_begin(&w->call, w->sq->dead_url);
	buffer_printf(&w->call.body, ",\"MaxNumberOfMessages\":%u,"
	    "\"WaitTimeSeconds\":1,\"VisibilityTimeout\":%u,"
	    "\"MessageSystemAttributeNames\":[\"All\"],"
	    "\"MessageAttributeNames\":[\"All\"]", SQS_BATCH_MAX, HOLD_SECONDS);
	ask(w, "ReceiveMessage", NULL);
}

static void
acted(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_walk *w = c->owner;
	struct seen *s;

	(void)answer;
	if (err == NULL) {
		s = seen_find(w, w->current->name);
		if (s != NULL)
			s->gone = true;
	}
	if (came(w, err, true))
		tell_later(w, true);
}

static void
delete_it(struct sqs_walk *w)
{
	sqs_call_begin(&w->call, w->sq->dead_url);
	buffer_add_str(&w->call.body, ",\"ReceiptHandle\":");
	json_add_string(&w->call.body, w->current->receipt);
	ask(w, "DeleteMessage", acted);
}

/* The copy is there: the dead letter goes, also when nobody listens now. */
static void
redriven(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_walk *w = c->owner;
	struct error malformed;

	err = sqs_send_error(answer, err, &malformed);
	if (err != NULL)
		(void)came(w, err, true);
	else
		delete_it(w);
}

/*
 * The producer's own id again, but not within the five minutes in which the
 * queue would take the copy for a duplicate, and drop it: then one that stays
 * the same if this is tried again.
 */
static struct slice
redrive_deduplication(const struct message *m)
{
	struct slice first = text(m, "bot-deduplication-id");
	uint64_t now = clock_realtime_us();

	return first.n != 0 && now > m->enqueued_us &&
	    now - m->enqueued_us > DEDUPLICATION_US ? first : m->name;
}

void
sqs_dead_act(struct queue *q, struct dead_walk *walk, enum dead_action action)
{
	struct sqs_queue *sq = sqs_of(q);
	struct sqs_walk *w = walk->impl;
	const struct sqs_receipt *r;
	struct sqs_sending sending;

	BUG_ON(w->asked || w->answer || w->answer_acted || w->current == NULL);
	error_clear(&w->error);
	if (!askable(w)) {
		tell_later(w, true);
		return;
	}
	w->call.extra_us = 0;
	if (action == DEAD_PURGE) {
		delete_it(w);
		return;
	}
	r = w->current->receipt_data;
	sending = (struct sqs_sending){
		.body = w->current->body,
		.attributes = r->attributes,
		.group = r->group,
		.deduplication = redrive_deduplication(w->current),
		.fifo = sq->fifo,
	};
	sqs_call_begin(&w->call, sq->queue_url);
	sqs_add_sending(sq, &w->call.body, &sending);
	ask(w, "SendMessage", redriven);
}

void
sqs_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct sqs_walk *w = walk->impl;

	if (w == NULL)
		return;
	sqs_all_close(sqs_of(q), walk);
	walk->impl = NULL;
	w->walk = NULL;
	w->answer = w->answer_acted = false;
	if (!w->asked)
		walk_free(w);
}

void
sqs_dead_answer(struct sqs_queue *sq)
{
	struct list *l;

again:
	list_foreach(l, &sq->walks) {
		struct sqs_walk *w = list_entry(l, struct sqs_walk, link);
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
sqs_dead_done(struct sqs_queue *sq)
{
	struct list *l;

	while ((l = list_first(&sq->walks)) != NULL) {
		struct sqs_walk *w = list_entry(l, struct sqs_walk, link);

		BUG_ON(w->walk != NULL);
		walk_free(w);
	}
	while ((l = list_first(&sq->giving_back)) != NULL) {
		struct giving_back *g = list_entry(l, struct giving_back, link);

		list_remove(l);
		sqs_call_done(&g->call);
		free(g);
	}
}
