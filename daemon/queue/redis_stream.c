/*
 * Mode=stream: a stream and a consumer group.
 *
 * The lease is the pending entry's idle time.  New entries are taken with
 * XREADGROUP on the reader.  On the writer, our own pending entries that we do
 * not hold (of a former life, or of a reply that was lost) come first, all of
 * them at once; then, each half lease, XAUTOCLAIM takes what has been idle for
 * a lease from anybody.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "queue/redis_impl.h"

#define REAP_MAX	100u
/* A released entry may be claimed by anybody, whatever its Lease= is. */
#define RELEASED_IDLE_MS	((uint64_t)24 * 3600 * 1000)

static void
stream_derive(struct redis_queue *rq)
{
	rq->key = xstrdup(rq->config_key);
	rq->prefix = redis_keys_prefix(rq->key);
	rq->delayed_key = xasprintf("%s:%s:delayed", rq->prefix, rq->group);
	rq->messages_key = xasprintf("%s:%s:messages", rq->prefix, rq->group);
	rq->has_delayed = true;
}

/* ---- the group ---- */

static void
group_made(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct error err;

	(void)chunk;
	(void)arg;
	if (reply == NULL || redis_failing(rq))
		return;
	if (reply->type == RESP_ERROR && !resp_is_error(reply, "BUSYGROUP")) {
		redis_error(rq, reply, &err);
		redis_fail(rq, &err);
		return;
	}
	if (reply->type != RESP_ERROR)
		log_notice(LOG_QUEUE_EVENT(rq->queue->name,
		    EVENT_QUEUE_RECOVERED),
		    "made the group %s of "
		    "stream %s, which begins with its first entry", rq->group,
		    rq->key);
	if (rq->state == REDIS_SETTING_UP)
		redis_set_up(rq);
	else
		redis_wake(rq);
}

static void
make_group(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	redis_begin(c, 6);
	redis_arg_str(c, "XGROUP");
	redis_arg_str(c, "CREATE");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->group);
	redis_arg_str(c, "0");
	redis_arg_str(c, "MKSTREAM");
	redis_end(c, group_made, NULL, 0);
}

static void
stream_setup(struct redis_queue *rq)
{
	rq->recovering = true;
	snprintf(rq->recover_from, sizeof(rq->recover_from), "0");
	snprintf(rq->reap_from, sizeof(rq->reap_from), "0-0");
	make_group(rq);
}

/* Both mean that somebody has removed the group or the stream. */
static bool
group_gone(struct redis_queue *rq, const struct resp *reply)
{
	if (!resp_is_error(reply, "NOGROUP") &&
	    !resp_is_error(reply, "UNBLOCKED the stream key"))
		return false;
	log_warning(LOG_QUEUE_EVENT(rq->queue->name, EVENT_QUEUE_RECOVERED),
	    "group %s of stream %s is gone "
	    "(NOGROUP); making it again", rq->group, rq->key);
	if (rq->state == REDIS_UP && !redis_failing(rq))
		make_group(rq);
	return true;
}

/* ---- entries ---- */

static uint64_t
entry_time_us(struct slice id)
{
	const char *dash = memchr(id.p, '-', id.n);
	uint64_t ms;

	if (dash == NULL ||
	    slice_to_u64((struct slice){ id.p, (size_t)(dash - id.p) }, &ms) < 0)
		return 0;
	return ms > UINT64_MAX / USEC_PER_MSEC ? 0 : ms * USEC_PER_MSEC;
}

/* Without the body's field, all fields are the body. */
struct slice
redis_fields_json(struct chunk *chunk, const struct resp *fields, size_t count)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	buffer_add_char(&b, '{');
	for (size_t i = 0; i + 1 < count; i += 2) {
		if (i != 0)
			buffer_add_char(&b, ',');
		json_add_string(&b, fields->element[i]->str);
		buffer_add_char(&b, ':');
		json_add_string(&b, fields->element[i + 1]->str);
	}
	buffer_add_char(&b, '}');
	return chunk_copy(chunk, buffer_head(&b), buffer_len(&b));
}

static void
deliver_entry(struct redis_queue *rq, struct chunk *chunk, struct slice id,
    const struct resp *fields)
{
	struct slice body = { NULL, 0 };
	struct attribute *a = NULL;
	struct message *m;
	size_t body_at = fields->count, n = 0;

	for (size_t i = 0; i + 1 < fields->count; i += 2) {
		if (slice_is(fields->element[i]->str, rq->body_field)) {
			body_at = i;
			body = fields->element[i + 1]->str;
			break;
		}
	}
	if (body_at == fields->count) {
		body = redis_fields_json(chunk, fields, fields->count);
	} else if (fields->count > 2) {
		a = chunk_alloc(chunk, (fields->count / 2 - 1) * sizeof(*a));
		for (size_t i = 0; i + 1 < fields->count; i += 2) {
			if (i == body_at)
				continue;
			a[n++] = (struct attribute){
				.name = fields->element[i]->str,
				.value = fields->element[i + 1]->str,
			};
		}
	}
	m = redis_message(rq, chunk, id, id, body);
	m->attributes = a;
	m->nattributes = n;
	m->enqueued_us = entry_time_us(id);
	redis_deliver(rq, m);
}

static void
ignore(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)redis_reply_ok(rq, reply, arg);
}

/* Trimmed or deleted while it was pending: nothing is left to run. */
static void
forget_entry(struct redis_queue *rq, struct slice id)
{
	struct redis_conn *c = &rq->writer;

	rq->deleted++;
	redis_begin(c, 4);
	redis_arg_str(c, "XACK");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->group);
	redis_arg(c, id);
	redis_end(c, ignore, (void *)"acknowledging a deleted entry", 0);
}

/*
 * Hands entries on; held (may be NULL) says which to leave out.  Returns how
 * many were new.
 */
static unsigned
deliver_entries(struct redis_queue *rq, const struct resp *entries,
    struct chunk *chunk, struct redis_held *held)
{
	unsigned n = 0;

	for (size_t i = 0; i < entries->count; i++) {
		const struct resp *e = entries->element[i];
		const struct resp *fields = resp_at(e, 1);
		struct slice id = resp_at(e, 0)->str;

		/* XAUTOCLAIM of 6.2 has a bare nil for a deleted one. */
		if (e->type != RESP_ARRAY || id.n == 0)
			continue;
		if (held != NULL && redis_held_has(held, id))
			continue;
		if (fields->type != RESP_ARRAY) {
			forget_entry(rq, id);
			continue;
		}
		deliver_entry(rq, chunk, id, fields);
		n++;
	}
	return n;
}

static void
learn_size(struct redis_queue *rq, const struct chunk *chunk, unsigned n)
{
	size_t each;

	if (n == 0)
		return;
	each = chunk_bytes(chunk) / n;
	rq->average_bytes = rq->average_bytes == 0 ? each :
	    (rq->average_bytes * 7 + each) / 8;
	if (rq->count_max < REDIS_BATCH_MAX)
		rq->count_max = MIN(rq->count_max * 2,
		    (unsigned)REDIS_BATCH_MAX);
}

/* ---- new ones ---- */

static void
entries_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	const struct resp *entries;
	unsigned asked = (unsigned)(uintptr_t)arg, n;

	rq->reading = rq->blocking = rq->unblocking = false;
	rq->asked_reader -= asked;
	if (reply == NULL || redis_failing(rq) || group_gone(rq, reply) ||
	    !redis_take_ok(rq, reply))
		return;
	entries = resp_at(resp_at(reply, 0), 1);
	if (entries->type == RESP_ARRAY) {
		n = deliver_entries(rq, entries, chunk, NULL);
		learn_size(rq, chunk, n);
		rq->last_batch = n;
	} else {
		rq->last_batch = 0;
	}
	redis_wake(rq);
}

static void
read_group(struct redis_conn *c, struct redis_queue *rq, unsigned n,
    uint64_t block_ms, const char *from)
{
	redis_begin(c, block_ms != 0 ? 11 : 9);
	redis_arg_str(c, "XREADGROUP");
	redis_arg_str(c, "GROUP");
	redis_arg_str(c, rq->group);
	redis_arg_str(c, rq->consumer);
	redis_arg_str(c, "COUNT");
	redis_arg_u64(c, n);
	if (block_ms != 0) {
		redis_arg_str(c, "BLOCK");
		redis_arg_u64(c, block_ms);
	}
	redis_arg_str(c, "STREAMS");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, from);
}

/* ---- our own pending entries ---- */

static void
own_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	const struct resp *entries;
	struct redis_held *held;
	unsigned asked = (unsigned)(uintptr_t)arg;
	struct slice last;

	rq->recover_busy = false;
	rq->asked_writer -= asked;
	if (reply == NULL || redis_failing(rq))
		return;
	if (group_gone(rq, reply) || !redis_take_ok(rq, reply))
		return;
	entries = resp_at(resp_at(reply, 0), 1);
	if (entries->type != RESP_ARRAY || entries->count == 0) {
		rq->recovering = false;
		if (rq->recovered != 0)
			log_debug(LOG_QUEUE(rq->queue->name), "%" PRIu64
			    " messages of an earlier run are taken up again",
			    rq->recovered);
		redis_wake(rq);
		return;
	}
	last = resp_at(entries->element[entries->count - 1], 0)->str;
	snprintf(rq->recover_from, sizeof(rq->recover_from), "%.*s",
	    (int)MIN(last.n, sizeof(rq->recover_from) - 1), last.p);
	held = redis_held_new(rq);
	rq->recovered += deliver_entries(rq, entries, chunk, held);
	redis_held_free(held);
	redis_wake(rq);
}

static void
recover(struct redis_queue *rq, unsigned n)
{
	rq->recover_busy = true;
	rq->asked_writer += n;
	read_group(&rq->writer, rq, n, 0, rq->recover_from);
	redis_end(&rq->writer, own_came, (void *)(uintptr_t)n, 0);
}

/* ---- those of the dead ---- */

static void reap(struct redis_queue *);

static void
claimed(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	const struct resp *entries = resp_at(reply, 1);
	struct slice next = resp_at(reply, 0)->str;
	struct redis_held *held;
	unsigned asked = (unsigned)(uintptr_t)arg, n;

	rq->reaping = false;
	rq->asked_writer -= asked;
	if (reply == NULL || redis_failing(rq))
		return;
	if (group_gone(rq, reply) ||
	    !redis_reply_ok(rq, reply, "XAUTOCLAIM"))
		return;
	rq->deleted += resp_at(reply, 2)->count;
	held = redis_held_new(rq);
	n = entries->type == RESP_ARRAY ?
	    deliver_entries(rq, entries, chunk, held) : 0;
	redis_held_free(held);
	rq->reclaimed += n;
	if (n != 0)
		log_info(LOG_QUEUE(rq->queue->name), "took over %u messages "
		    "that were idle for a whole lease", n);
	snprintf(rq->reap_from, sizeof(rq->reap_from), "%.*s",
	    (int)MIN(next.n, sizeof(rq->reap_from) - 1),
	    next.n != 0 ? next.p : "");
	if (next.n == 0 || slice_is(next, "0-0"))
		snprintf(rq->reap_from, sizeof(rq->reap_from), "0-0");
	else
		reap(rq);
	redis_wake(rq);
}

static void
reap(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;
	unsigned n = MIN(redis_room(rq), MIN(REAP_MAX, rq->count_max));

	if (n == 0 || rq->reaping || rq->recovering || rq->stopping ||
	    rq->state != REDIS_UP || redis_failing(rq))
		return;
	rq->reaping = true;
	rq->asked_writer += n;
	redis_begin(c, 8);
	redis_arg_str(c, "XAUTOCLAIM");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->group);
	redis_arg_str(c, rq->consumer);
	redis_arg_u64(c, redis_lease_ms(rq));
	redis_arg_str(c, rq->reap_from);
	redis_arg_str(c, "COUNT");
	redis_arg_u64(c, n);
	redis_end(c, claimed, (void *)(uintptr_t)n, 0);
}

static void
stream_maintain(struct redis_queue *rq)
{
	/* All credit with a reader that waits: it comes back for a moment. */
	if (redis_room(rq) == 0)
		redis_unblock(rq);
	rq->reap_due = true;
	redis_wake(rq);
}

static void
stream_pull(struct redis_queue *rq, unsigned n)
{
	uint64_t block_ms = REDIS_BLOCK_MS, now = clock_monotonic_us();

	if (rq->recovering) {
		if (!rq->recover_busy)
			recover(rq, n);
		return;
	}
	if (rq->reap_due) {
		rq->reap_due = false;
		reap(rq);
		n = MIN(n, redis_room(rq));
		if (n == 0)
			return;
	}
	/* Back in time for what becomes due (BLOCK 0 would be for ever). */
	if (rq->delayed_due_us < sat_add(now, block_ms * USEC_PER_MSEC))
		block_ms = rq->delayed_due_us <= now ? 1 :
		    (rq->delayed_due_us - now) / USEC_PER_MSEC + 1;
	rq->reading = rq->blocking = true;
	rq->asked_reader = n;
	read_group(&rq->reader, rq, n, block_ms, ">");
	redis_end(&rq->reader, entries_came, (void *)(uintptr_t)n,
	    block_ms * USEC_PER_MSEC);
}

/* ---- settling ---- */

static void
send_ack(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;

	redis_begin(c, 3 + b->count);
	redis_arg_str(c, "XACK");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->group);
	for (size_t i = 0; i < b->count; i++)
		redis_arg(c, b->message[i]->receipt);
	if (!rq->delete_after) {
		redis_end(c, redis_batch_answered, b, 0);
		return;
	}
	redis_end(c, ignore, (void *)"XACK", 0);
	redis_begin(c, 2 + b->count);
	redis_arg_str(c, "XDEL");
	redis_arg_str(c, rq->key);
	for (size_t i = 0; i < b->count; i++)
		redis_arg(c, b->message[i]->receipt);
	redis_end(c, redis_batch_answered, b, 0);
}

static void
group_args(struct redis_queue *rq)
{
	redis_arg_str(&rq->writer, rq->group);
	redis_arg_str(&rq->writer, rq->consumer);
}

static void
send_release(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_STREAM_RELEASE, 1, 3 + b->count);
	redis_arg_str(c, rq->key);
	group_args(rq);
	redis_arg_u64(c, RELEASED_IDLE_MS);
	for (size_t i = 0; i < b->count; i++)
		redis_arg(c, b->message[i]->receipt);
	redis_end(c, redis_batch_answered, b, 0);
	/* Given back while we go on: we may take it up again ourselves. */
	redis_maintain_in(rq, USEC_PER_SEC);
}

static void
send_retry(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	_cleanup_buffer_ struct buffer record = BUFFER_INIT;

	redis_record(&record, b->message[0], b);
	redis_begin_script(c, SCRIPT_STREAM_RETRY, 3, 6);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->messages_key);
	group_args(rq);
	redis_arg(c, b->message[0]->receipt);
	redis_arg_str(c, rq->delete_after ? "1" : "0");
	redis_arg_u64(c, b->delay_us / USEC_PER_MSEC);
	redis_arg(c, buffer_slice(&record));
	redis_end(c, redis_batch_answered, b, 0);
}

static void
send_bury(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	const struct message *m = b->message[0];

	redis_begin_script(c, SCRIPT_STREAM_BURY, 2,
	    4 + 2 * (REDIS_DEAD_FIELDS + redis_dead_count(m)));
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->dead_key);
	group_args(rq);
	redis_arg(c, m->receipt);
	redis_arg_str(c, rq->delete_after ? "1" : "0");
	redis_dead_args(rq, b);
	redis_dead_fields(rq, m);
	redis_end(c, redis_batch_answered, b, 0);
}

static void
stream_send(struct redis_queue *rq, struct redis_batch *b)
{
	switch (b->kind) {
	case SETTLE_ACK:
		send_ack(rq, b);
		break;
	case SETTLE_RETRY:
		send_retry(rq, b);
		break;
	case SETTLE_BURY:
		send_bury(rq, b);
		break;
	case SETTLE_RELEASE:
		send_release(rq, b);
		break;
	case SETTLE_NONE:
		BUG("a batch without a kind");
	}
}

static void
stream_extend(struct redis_queue *rq, struct redis_extends *e)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_STREAM_EXTEND, 1, 2 + e->count);
	redis_arg_str(c, rq->key);
	group_args(rq);
	for (size_t i = 0; i < e->count; i++)
		redis_arg(c, message_find(e->renewal[i].id)->receipt);
	redis_end(c, redis_extends_answered, e, 0);
}

/* ---- the rest ---- */

static void
stream_probe(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_STREAM_PROBE, 3, 1);
	redis_arg_str(c, rq->key);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->dead_key);
	redis_arg_str(c, rq->group);
	redis_end(c, redis_probed, NULL, 0);
}

static bool
stream_enqueue(struct redis_queue *rq, struct enqueue_job *job,
    struct error *err)
{
	struct redis_conn *c = &rq->writer;
	size_t n = 0;

	(void)err;
	for (size_t i = 0; i < job->nattributes; i++)
		if (!slice_is(job->attributes[i].name, rq->body_field))
			n++;
	redis_begin(c, 5 + 2 * n);
	redis_arg_str(c, "XADD");
	redis_arg_str(c, rq->key);
	redis_arg_str(c, "*");
	redis_arg_str(c, rq->body_field);
	redis_arg(c, job->body);
	for (size_t i = 0; i < job->nattributes; i++) {
		const struct attribute *a = &job->attributes[i];

		if (slice_is(a->name, rq->body_field))
			continue;
		redis_arg(c, a->name);
		redis_arg(c, a->value);
	}
	redis_end(c, redis_enqueued, job, 0);
	return true;
}

const struct redis_mode redis_mode_stream = {
	.name = "stream",
	.derive = stream_derive,
	.setup = stream_setup,
	.pull = stream_pull,
	.send = stream_send,
	.extend = stream_extend,
	.maintain = stream_maintain,
	.probe = stream_probe,
	.enqueue = stream_enqueue,
	.dead_page = redis_dead_stream_page,
	.dead_item = redis_dead_stream_item,
	.dead_act = redis_dead_stream_act,
};
