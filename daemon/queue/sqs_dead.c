/*
 * Walks over the dead letters.  SQS cannot be looked into: a walk receives
 * them, ten at a time, hidden from others, and makes visible again what it has
 * not acted on when it ends.  One that is cut off leaves them to come back by
 * themselves.
 *
 * A redrive sends the copy first and deletes then: who is cut off in between
 * leaves both.  A FIFO queue drops the second copy (its deduplication id is
 * kept); on a standard queue it is one more of the duplicates that SQS allows
 * itself anyway.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "queue/sqs_impl.h"
#include "queue/walk_held.h"

#define DEDUPLICATION_US	(6 * 60 * USEC_PER_SEC)	/* 5 min, and for the
							   clocks */

struct sqs_walk {
	struct held_walk held;
	struct sqs_queue *sq;
	struct sqs_call call;
};

static struct sqs_walk *
walk_of(const struct dead_walk *walk)
{
	return walk->impl;
}

/* ---- giving back ---- */

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
give_back(struct sqs_queue *sq, const struct slice *receipts, unsigned n)
{
	struct giving_back *g;

	if (n == 0 || sq->dead_url == NULL)
		return;
	g = new0(struct giving_back);
	list_push_back(&sq->giving_back, &g->link);
	sqs_call_init(&g->call, sq, "ChangeMessageVisibilityBatch", given_back,
	    g);
	sqs_call_begin(&g->call, sq->dead_url);
	buffer_add_str(&g->call.body, ",\"Entries\":[");
	for (unsigned i = 0; i < n; i++) {
		buffer_printf(&g->call.body, "%s{\"Id\":\"%u\","
		    "\"VisibilityTimeout\":0,\"ReceiptHandle\":",
		    i != 0 ? "," : "", i);
		json_add_string(&g->call.body, receipts[i]);
		buffer_add_char(&g->call.body, '}');
	}
	buffer_add_char(&g->call.body, ']');
	sqs_call_end(&g->call);
	sqs_call_send(&g->call);
}

static void
walk_free(struct walk *base)
{
	struct sqs_walk *w = container_of(base, struct sqs_walk, held.base);
	struct chunk *chunk = chunk_new();
	struct slice receipts[SQS_BATCH_MAX];
	unsigned n = 0;

	walk_done(base);
	sqs_call_done(&w->call);
	while (held_walk_take_seen(&w->held, chunk, &receipts[n]))
		if (++n == SQS_BATCH_MAX) {
			give_back(w->sq, receipts, n);
			n = 0;
		}
	give_back(w->sq, receipts, n);
	chunk_unref(chunk);
	held_walk_done(&w->held);
	free(w);
}

/* ---- pages ---- */

static void
page_came(struct sqs_call *c, struct slice answer, const struct error *err)
{
	struct sqs_walk *w = c->owner;
	struct walk *base = &w->held.base;
	struct error of_one = ERROR_INIT;	/* the others can be read */
	LIST_HEAD(messages);
	struct list *l;

	if (!walk_came(base, err, false))
		return;
	held_walk_page(&w->held);
	if (sqs_read_messages(c, w->held.chunk, answer, &messages,
	    &of_one) < 0)
		base->error = of_one;
	while ((l = list_pop_front(&messages)) != NULL) {
		struct message *m = list_entry(l, struct message, link);

		if (w->held.n == SQS_BATCH_MAX)
			message_free(m);
		else
			held_walk_add(&w->held, m);
	}
	if (!held_walk_next(&w->held))
		base->end = !error_is_set(&base->error);
	walk_tell(base, false);
}

static bool
askable(struct sqs_walk *w)
{
	struct sqs_queue *sq = w->sq;
	struct error *err = &w->held.base.error;

	if (!sqs_is_up(sq) || sq->stopping)
		error_set(err, ERROR_TRANSIENT, "not_connected",
		    "the service cannot be reached now");
	else if (sq->dead_url == NULL)
		error_set(err, ERROR_REJECTED, "no_dead_letter", "the "
		    "queue of the redrive policy could not be looked up");
	return !error_is_set(err);
}

static void
ask(struct sqs_walk *w, const char *operation, sqs_call_fn *fn)
{
	walk_ask(&w->held.base);
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
	walk_init(&w->held.base, &sq->walks, sq->loop, &sq->answer_task,
	    walk_free, walk, w);
	held_walk_init(&w->held);
	sqs_call_init(&w->call, sq, "ReceiveMessage", NULL, w);
}

void
sqs_dead_next(struct queue *q, struct dead_walk *walk)
{
	struct sqs_walk *w = walk_of(walk);

	(void)q;
	walk_begin(&w->held.base);
	if (held_walk_next(&w->held) || !askable(w)) {
		walk_tell(&w->held.base, false);
		return;
	}
	/* A wait asks all servers of the service, not only some of them. */
	w->call.extra_us = USEC_PER_SEC;
	sqs_call_begin(&w->call, w->sq->dead_url);
	buffer_printf(&w->call.body, ",\"MaxNumberOfMessages\":%u,"
	    "\"WaitTimeSeconds\":1,\"VisibilityTimeout\":%u,"
	    "\"MessageSystemAttributeNames\":[\"All\"],"
	    "\"MessageAttributeNames\":[\"All\"]", SQS_BATCH_MAX,
	    WALK_HOLD_SECONDS);
	ask(w, "ReceiveMessage", NULL);
}

static void
acted(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_walk *w = c->owner;

	(void)answer;
	if (err == NULL)
		held_walk_gone(&w->held);
	if (walk_came(&w->held.base, err, true))
		walk_tell(&w->held.base, true);
}

static void
delete_it(struct sqs_walk *w)
{
	sqs_call_begin(&w->call, w->sq->dead_url);
	buffer_add_str(&w->call.body, ",\"ReceiptHandle\":");
	json_add_string(&w->call.body, held_walk_receipt(&w->held));
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
		(void)walk_came(&w->held.base, err, true);
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
	struct slice first = held_walk_text(m, "bot-deduplication-id");
	uint64_t now = clock_realtime_us();

	return first.n != 0 && now > m->enqueued_us &&
	    now - m->enqueued_us > DEDUPLICATION_US ? first : m->name;
}

void
sqs_dead_act(struct queue *q, struct dead_walk *walk, enum dead_action action)
{
	struct sqs_queue *sq = sqs_of(q);
	struct sqs_walk *w = walk_of(walk);
	const struct message *m = w->held.current;
	const struct sqs_receipt *r;
	struct sqs_sending sending;

	BUG_ON(m == NULL);
	walk_begin(&w->held.base);
	if (!askable(w)) {
		walk_tell(&w->held.base, true);
		return;
	}
	w->call.extra_us = 0;
	if (action == DEAD_PURGE) {
		delete_it(w);
		return;
	}
	r = m->receipt_data;
	sending = (struct sqs_sending){
		.body = m->body,
		.attributes = r->attributes,
		.group = r->group,
		.deduplication = redrive_deduplication(m),
		.fifo = sq->fifo,
	};
	sqs_call_begin(&w->call, sq->queue_url);
	sqs_add_sending(sq, &w->call.body, &sending);
	ask(w, "SendMessage", redriven);
}

void
sqs_dead_close(struct queue *q, struct dead_walk *walk)
{
	struct sqs_walk *w = walk_of(walk);

	if (w == NULL)
		return;
	sqs_all_close(sqs_of(q), walk);
	walk_closed(&w->held.base);
}

void
sqs_dead_done(struct sqs_queue *sq)
{
	struct list *l;

	walks_done(&sq->walks);
	while ((l = list_first(&sq->giving_back)) != NULL) {
		struct giving_back *g = list_entry(l, struct giving_back, link);

		list_remove(l);
		sqs_call_done(&g->call);
		free(g);
	}
}
