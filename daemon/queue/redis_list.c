/*
 * Mode=list: a list of bodies, taken to a processing list of our own.
 *
 * A processing list belongs to one consumer name.  The names are in a zset
 * with the time they were last seen; one that was not seen for two leases is
 * dead, and anybody moves its processing list back, in order.  So the lease of
 * a message is that of its consumer: to renew it is to be seen and to be told
 * that we were still known.
 *
 * What is in our processing list but not in our memory (of a former life, of
 * a reply that was lost, of a message that the engine has dropped at the end
 * of MaxLease=) goes back to the list: "reconcile", while nothing is being
 * taken.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/redis_impl.h"

#define PAGE		((size_t)100)

/* The oldest is at the end that is popped from, in both lists. */
static const struct ends {
	const char *pop, *keep;		/* take many */
	const char *from, *to;		/* take one: LMOVE */
	const char *back, *add;		/* push as the oldest, as the newest */
	const char *direction;		/* LREM from the oldest */
} tail_ends = { "RPOP", "LPUSH", "RIGHT", "LEFT", "RPUSH", "LPUSH", "-1" },
  head_ends = { "LPOP", "RPUSH", "LEFT", "RIGHT", "LPUSH", "RPUSH", "1" };

static const struct ends *
ends_of(const struct redis_queue *rq)
{
	return rq->pop_head ? &head_ends : &tail_ends;
}

void
redis_list_keys(struct redis_queue *rq)
{
	rq->prefix = redis_keys_prefix(rq->key);
	rq->processing_key = xasprintf("%s:processing:%s", rq->prefix,
	    rq->consumer);
	rq->consumers_key = xasprintf("%s:consumers", rq->prefix);
	rq->settled_key = xasprintf("%s:settled", rq->prefix);
	rq->delayed_key = xasprintf("%s:delayed", rq->prefix);
	rq->messages_key = xasprintf("%s:messages", rq->prefix);
}

static void
list_derive(struct redis_queue *rq)
{
	rq->key = xstrdup(rq->config_key);
	rq->has_delayed = true;
	redis_list_keys(rq);
}

/* ---- being seen ---- */

static void
beat(struct redis_queue *rq, bool enter, redis_reply_fn *fn, void *arg)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_LIST_BEAT, 2, 2);
	redis_arg_str(c, rq->consumers_key);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, rq->consumer);
	redis_arg_str(c, enter ? "1" : "0");
	redis_end(c, fn, arg, 0);
}

static void
entered(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	struct error err;

	(void)chunk;
	(void)arg;
	if (reply == NULL || redis_failing(rq))
		return;
	if (reply->type == RESP_ERROR) {
		redis_error(rq, reply, &err);
		redis_fail(rq, &err);
		return;
	}
	rq->processing_length = (size_t)resp_at(reply, 1)->integer;
	if (rq->state != REDIS_SETTING_UP)
		return;
	/* Not known any more, and not new: somebody has taken our list. */
	if (resp_at(reply, 0)->integer == 0 && rq->up_since_us != 0)
		rq->lost_before_us = clock_monotonic_us();
	redis_set_up(rq);
}

static void
measured(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)arg;
	(void)redis_take_ok(rq, reply);
}

void
redis_list_setup(struct redis_queue *rq)
{
	rq->list_empty = false;
	rq->reconcile = true;
	rq->reconciling = false;
	/* A key of another type is told now, not when something is taken. */
	redis_begin(&rq->writer, 2);
	redis_arg_str(&rq->writer, "LLEN");
	redis_arg_str(&rq->writer, rq->key);
	redis_end(&rq->writer, measured, NULL, 0);
	beat(rq, true, entered, NULL);
}

/* True while we are known; else what we held has been given to others. */
static bool
still_known(struct redis_queue *rq, const struct resp *reply)
{
	if (resp_at(reply, 0)->integer == 1)
		return true;
	log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_LEASE_LOST),
	    "this consumer was not seen "
	    "for two leases: others have taken what it held");
	rq->lost_before_us = clock_monotonic_us();
	beat(rq, true, entered, NULL);
	return false;
}

static void
renewed(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	struct redis_extends *e = arg;

	(void)chunk;
	if (!redis_reply_ok(rq, reply, "renewing leases")) {
		redis_extends_failed(rq, e, reply);
		return;
	}
	(void)still_known(rq, reply);
	for (size_t i = 0; i < e->count; i++) {
		struct message *m = message_find(e->renewal[i].id);

		if (m == NULL || m->state == MESSAGE_SETTLING)
			continue;
		queue_extended(rq->queue, m,
		    m->received_us <= rq->lost_before_us ? 0 :
		    sat_add(e->asked_us, e->renewal[i].lease_us));
	}
	free(e);
}

void
redis_list_extend(struct redis_queue *rq, struct redis_extends *e)
{
	beat(rq, false, renewed, e);
}

static void
seen(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	struct redis_held *held;

	(void)chunk;
	(void)arg;
	if (!redis_reply_ok(rq, reply, "the heartbeat") ||
	    !still_known(rq, reply))
		return;
	rq->processing_length = (size_t)resp_at(reply, 1)->integer;
	held = redis_held_new(rq);
	if (rq->processing_length > redis_held_count(held)) {
		rq->reconcile = true;
		redis_unblock(rq);
		redis_wake(rq);
	}
	redis_held_free(held);
}

static void
reaped(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)arg;
	if (!redis_reply_ok(rq, reply, "looking for dead consumers") ||
	    reply->integer == 0)
		return;
	rq->reclaimed += (uint64_t)reply->integer;
	rq->list_empty = false;
	log_info(LOG_QUEUE(rq->queue->name), "%" PRId64 " messages of "
	    "consumers that are gone are back in the list", reply->integer);
}

void
redis_list_maintain(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	beat(rq, false, seen, NULL);
	redis_begin_script(c, SCRIPT_LIST_REAP, 3, 5);
	redis_arg_str(c, rq->consumers_key);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->settled_key);
	redis_arg_str(c, rq->consumer);
	redis_arg_u64(c, 2 * redis_lease_ms(rq));
	{
		_cleanup_free_ char *prefix = xasprintf("%s:processing:",
		    rq->prefix);

		redis_arg_str(c, prefix);
	}
	/* Newest first to the end that is popped: the oldest ends up there. */
	redis_arg_str(c, ends_of(rq)->to);
	redis_arg_str(c, ends_of(rq)->from);
	redis_end(c, reaped, NULL, 0);
}

/* ---- reconciling ---- */

static void
reconciled(struct redis_queue *rq)
{
	rq->reconcile = rq->reconciling = false;
	rq->list_empty = false;
	if (rq->reconcile_held != NULL)
		redis_held_free(rq->reconcile_held);
	rq->reconcile_held = NULL;
	redis_wake(rq);
}

static void restore(struct redis_queue *);

static void
restored(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	(void)chunk;
	(void)arg;
	rq->reconciling = false;
	if (!redis_take_ok(rq, reply))
		return;
	if (reply->integer > 0) {
		restore(rq);
		return;
	}
	reconciled(rq);
}

/* We hold nothing: all of it goes back. */
static void
restore(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	rq->reconciling = true;
	redis_begin_script(c, SCRIPT_LIST_RESTORE, 2, 3);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, ends_of(rq)->to);
	redis_arg_str(c, ends_of(rq)->from);
	redis_arg_u64(c, REDIS_BATCH_MAX);
	redis_end(c, restored, NULL, 0);
}

static void
given_back(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	(void)chunk;
	(void)arg;
	(void)redis_reply_ok(rq, reply, "giving messages back");
}

static void
give_back(struct redis_queue *rq, const struct slice *value, size_t n)
{
	struct redis_conn *c = &rq->writer;

	rq->recovered += n;
	redis_begin_script(c, SCRIPT_LIST_GIVE_BACK, 2, 2 + n);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, ends_of(rq)->direction);
	redis_arg_str(c, ends_of(rq)->back);
	for (size_t i = 0; i < n; i++)
		redis_arg(c, value[i]);
	redis_end(c, given_back, NULL, 0);
}

static void
page_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct slice surplus[PAGE];
	size_t n = 0, count;

	(void)chunk;
	(void)arg;
	rq->reconcile_pages--;
	if (redis_reply_ok(rq, reply, "reading the processing list") &&
	    reply->type == RESP_ARRAY) {
		/*
		 * Now, not before: what was settled ahead of this command is
		 * gone from the list and from memory, what is settled behind
		 * it is in both.
		 */
		if (rq->reconcile_held == NULL)
			rq->reconcile_held = redis_held_new(rq);
		count = MIN(reply->count, PAGE);
		for (size_t i = 0; i < count; i++) {
			struct slice value = reply->element[rq->pop_head ? i :
			    count - 1 - i]->str;

			if (!redis_held_take(rq->reconcile_held, value))
				surplus[n++] = value;
		}
		if (n != 0)
			give_back(rq, surplus, n);
	}
	if (rq->reconcile_pages == 0)
		reconciled(rq);
}

static void
reconcile(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	if (redis_held(rq) == 0 && redis_settled_all(rq)) {
		restore(rq);
		return;
	}
	/* All pages in one write: nothing of ours comes in between. */
	rq->reconciling = true;
	rq->reconcile_pages = rq->processing_length / PAGE + 1;
	for (size_t i = 0; i < rq->reconcile_pages; i++) {
		redis_begin(c, 4);
		redis_arg_str(c, "LRANGE");
		redis_arg_str(c, rq->processing_key);
		redis_arg_u64(c, i * PAGE);
		redis_arg_u64(c, i * PAGE + PAGE - 1);
		redis_end(c, page_came, NULL, 0);
	}
}

/* ---- taking ---- */

static void
deliver_value(struct redis_queue *rq, struct chunk *chunk, struct slice value)
{
	struct message *m;
	char *name;
	int n;

	if (rq->mode == &redis_mode_sidekiq) {
		redis_sidekiq_deliver(rq, chunk, value);
		return;
	}
	/* Elements of a list have no names; a record in the delayed store
	   needs one, and so do people. */
	name = chunk_alloc(chunk, 40);
	n = snprintf(name, 40, "%s-%" PRIu64, rq->token, ++rq->name_counter);
	m = redis_message(rq, chunk, (struct slice){ name, (size_t)n }, value,
	    value);
	redis_deliver(rq, m);
}

static void
values_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	unsigned asked = (unsigned)(uintptr_t)arg, n = 0;

	rq->reading = rq->blocking = rq->unblocking = false;
	rq->asked_reader -= asked;
	if (!redis_take_ok(rq, reply))
		return;
	if (reply->type == RESP_STRING) {		/* BLMOVE */
		deliver_value(rq, chunk, reply->str);
		n = 1;
	} else if (reply->type == RESP_ARRAY) {
		for (n = 0; n < reply->count; n++)
			deliver_value(rq, chunk, reply->element[n]->str);
	}
	rq->list_empty = n == 0 && reply->type == RESP_ARRAY;
	rq->last_batch = n;
	if (n != 0) {
		size_t each = chunk_bytes(chunk) / n;

		rq->average_bytes = rq->average_bytes == 0 ? each :
		    (rq->average_bytes * 7 + each) / 8;
		rq->count_max = (unsigned)MIN((size_t)rq->count_max * 2,
		    REDIS_BATCH_MAX);
	}
	redis_wake(rq);
}

static void
wait_for_one(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->reader;

	rq->blocking = true;
	rq->asked_reader = 1;
	redis_begin(c, 6);
	redis_arg_str(c, "BLMOVE");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, ends_of(rq)->from);
	redis_arg_str(c, ends_of(rq)->to);
	redis_arg_u64(c, REDIS_BLOCK_MS / 1000);
	redis_end(c, values_came, (void *)(uintptr_t)1,
	    REDIS_BLOCK_MS * USEC_PER_MSEC);
}

void
redis_list_pull(struct redis_queue *rq, unsigned n)
{
	struct redis_conn *c = &rq->reader;

	if (rq->reconcile) {
		if (!rq->reconciling)
			reconcile(rq);
		return;
	}
	rq->reading = true;
	if (rq->list_empty) {
		wait_for_one(rq);
		return;
	}
	rq->asked_reader = n;
	redis_begin_script(c, SCRIPT_LIST_TAKE, 2, 3);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->processing_key);
	redis_arg_u64(c, n);
	redis_arg_str(c, ends_of(rq)->pop);
	redis_arg_str(c, ends_of(rq)->keep);
	redis_end(c, values_came, (void *)(uintptr_t)n, 0);
}

/* ---- settling ---- */

void
redis_list_begin(struct redis_queue *rq, enum redis_script script,
    size_t nkeys, size_t nargs)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, script, 2 + nkeys, 4 + nargs);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, rq->settled_key);
}

void
redis_list_numbered(struct redis_queue *rq, const struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;

	redis_arg_str(c, rq->consumer);
	redis_arg_str(c, rq->token);
	redis_arg_u64(c, b->number);
	redis_arg_str(c, ends_of(rq)->direction);
}

static void
send_many(struct redis_queue *rq, const struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	bool release = b->kind == SETTLE_RELEASE;

	redis_list_begin(rq, release ? SCRIPT_LIST_RELEASE : SCRIPT_LIST_ACK,
	    release ? 1 : 0, (release ? 1 : 0) + b->count);
	if (release)
		redis_arg_str(c, rq->key);
	redis_list_numbered(rq, b);
	if (release)
		redis_arg_str(c, ends_of(rq)->back);
	for (size_t i = 0; i < b->count; i++)
		redis_arg(c, b->message[i]->receipt);
}

static void
send_retry(struct redis_queue *rq, const struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	const struct message *m = b->message[0];
	_cleanup_buffer_ struct buffer record = BUFFER_INIT;

	redis_record(&record, m, b);
	redis_list_begin(rq, SCRIPT_LIST_RETRY, 2, 4);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->messages_key);
	redis_list_numbered(rq, b);
	redis_arg(c, m->receipt);
	redis_arg(c, m->name);
	redis_arg_u64(c, b->delay_us / USEC_PER_MSEC);
	redis_arg(c, buffer_slice(&record));
}

static void
send_bury(struct redis_queue *rq, const struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	const struct message *m = b->message[0];

	redis_list_begin(rq, SCRIPT_LIST_BURY, 1,
	    1 + 2 * (redis_dead_count(m) + REDIS_DEAD_FIELDS));
	redis_arg_str(c, rq->dead_key);
	redis_list_numbered(rq, b);
	redis_arg(c, m->receipt);
	redis_dead_fields(rq, m);
	redis_dead_args(rq, b);
}

void
redis_list_send(struct redis_queue *rq, struct redis_batch *b)
{
	switch (b->kind) {
	case SETTLE_ACK:
	case SETTLE_RELEASE:
		send_many(rq, b);
		break;
	case SETTLE_RETRY:
		send_retry(rq, b);
		break;
	case SETTLE_BURY:
		send_bury(rq, b);
		break;
	case SETTLE_NONE:
		BUG("a batch without a kind");
	}
	redis_end(&rq->writer, redis_batch_answered, b, 0);
	if (b->kind == SETTLE_RELEASE)
		rq->list_empty = false;
}

/* ---- the rest ---- */

void
redis_list_leave(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_LIST_LEAVE, 4, 3);
	redis_arg_str(c, rq->consumers_key);
	redis_arg_str(c, rq->processing_key);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->settled_key);
	redis_arg_str(c, rq->consumer);
	redis_arg_str(c, ends_of(rq)->to);
	redis_arg_str(c, ends_of(rq)->from);
}

static void
list_probe(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_LIST_PROBE, 3, 0);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->dead_key);
	redis_end(c, redis_probed, NULL, 0);
}

static bool
list_enqueue(struct redis_queue *rq, struct enqueue_job *job,
    struct error *err)
{
	struct redis_conn *c = &rq->writer;

	if (job->nattributes != 0) {
		error_set(err, ERROR_REJECTED, "no_attributes",
		    "the elements of a list have no attributes");
		return false;
	}
	redis_begin(c, 3);
	redis_arg_str(c, ends_of(rq)->add);
	redis_arg_str(c, rq->key);
	redis_arg(c, job->body);
	redis_end(c, redis_enqueued, job, 0);
	return true;
}

const struct redis_mode redis_mode_list = {
	.name = "list",
	.derive = list_derive,
	.setup = redis_list_setup,
	.pull = redis_list_pull,
	.send = redis_list_send,
	.extend = redis_list_extend,
	.maintain = redis_list_maintain,
	.probe = list_probe,
	.enqueue = list_enqueue,
	.leave = redis_list_leave,
	.dead_page = redis_dead_stream_page,
	.dead_item = redis_dead_stream_item,
	.dead_act = redis_dead_stream_act,
};
