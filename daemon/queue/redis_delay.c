/*
 * The delayed store of streams and lists: a zset of record ids by the time
 * (server's clock, ms) at which they become visible, and a hash of records.
 *
 * A record that is taken stays in both, invisible for one lease; so a crash
 * between taking and settling brings it back by itself.
 *
 * A record is
 *	"BOT1 <attempt> <crashes> <enqueued_us> <name> <error> <order> <body>
 *	<attributes>{ <name> <value> <json>}\n" (one line)
 * where all but the first three are lengths in bytes, and then the bytes of
 * name, error type, order key, body and the attributes' names and values, in
 * that order, without anything between them.  Any bytes may occur.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "queue/redis_impl.h"

#define POLL_US		USEC_PER_SEC	/* what other operators have put in */
#define TAKE_MAX	100u
#define ATTRIBUTES_MAX	4096u

/* ---- records ---- */

static void
add_number(struct buffer *b, uint64_t n)
{
	buffer_add_char(b, ' ');
	buffer_add_u64(b, n);
}

void
redis_record(struct buffer *out, const struct message *m,
    const struct redis_batch *batch)
{
	struct slice error = slice_of(batch->error_type);

	buffer_add_str(out, "BOT1");
	add_number(out, batch->attempt);
	add_number(out, batch->crashes);
	add_number(out, m->enqueued_us);
	add_number(out, m->name.n);
	add_number(out, error.n);
	add_number(out, m->order_key.n);
	add_number(out, m->body.n);
	add_number(out, m->nattributes);
	for (size_t i = 0; i < m->nattributes; i++) {
		add_number(out, m->attributes[i].name.n);
		add_number(out, m->attributes[i].value.n);
		add_number(out, m->attributes[i].json ? 1 : 0);
	}
	buffer_add_char(out, '\n');
	buffer_add_slice(out, m->name);
	buffer_add_slice(out, error);
	buffer_add_slice(out, m->order_key);
	buffer_add_slice(out, m->body);
	for (size_t i = 0; i < m->nattributes; i++) {
		buffer_add_slice(out, m->attributes[i].name);
		buffer_add_slice(out, m->attributes[i].value);
	}
}

/* The next " <number>" of the line; false when there is none. */
static bool
take_number(struct slice *line, uint64_t *ret)
{
	size_t n = 1;

	if (line->n < 2 || line->p[0] != ' ')
		return false;
	while (n < line->n && line->p[n] >= '0' && line->p[n] <= '9')
		n++;
	if (slice_to_u64((struct slice){ line->p + 1, n - 1 }, ret) < 0)
		return false;
	line->p += n;
	line->n -= n;
	return true;
}

static bool
take_bytes(struct slice *from, uint64_t n, struct slice *ret)
{
	if (n > from->n)
		return false;
	*ret = (struct slice){ from->p, (size_t)n };
	from->p += n;
	from->n -= (size_t)n;
	return true;
}

bool
redis_record_read(struct chunk *chunk, struct slice record, struct message *m)
{
	const char *end = record.n != 0 ? memchr(record.p, '\n', record.n) :
	    NULL;
	struct slice line, bytes, error;
	struct attribute *a = NULL;
	uint64_t n[8], *size = NULL;

	if (end == NULL || record.n < 5 || memcmp(record.p, "BOT1 ", 5) != 0)
		return false;
	line = (struct slice){ record.p + 4, (size_t)(end - record.p) - 4 };
	bytes = (struct slice){ end + 1, record.n - line.n - 5 };
	for (size_t i = 0; i < ARRAY_SIZE(n); i++)
		if (!take_number(&line, &n[i]))
			return false;
	if (n[0] == 0 || n[0] > UINT32_MAX || n[1] > UINT32_MAX ||
	    n[7] > ATTRIBUTES_MAX)
		return false;
	if (n[7] != 0) {
		a = chunk_alloc(chunk, (size_t)n[7] * sizeof(*a));
		size = chunk_alloc(chunk, (size_t)n[7] * 3 * sizeof(*size));
	}
	for (size_t i = 0; i < n[7] * 3; i++)
		if (!take_number(&line, &size[i]))
			return false;
	if (line.n != 0 || !take_bytes(&bytes, n[3], &m->name) ||
	    !take_bytes(&bytes, n[4], &error) ||
	    !take_bytes(&bytes, n[5], &m->order_key) ||
	    !take_bytes(&bytes, n[6], &m->body))
		return false;
	for (size_t i = 0; i < n[7]; i++) {
		if (!take_bytes(&bytes, size[i * 3], &a[i].name) ||
		    !take_bytes(&bytes, size[i * 3 + 1], &a[i].value))
			return false;
		a[i].json = size[i * 3 + 2] != 0;
	}
	m->attempt = (unsigned)n[0];
	m->crashes = (unsigned)n[1];
	m->enqueued_us = n[2];
	m->attributes = a;
	m->nattributes = (size_t)n[7];
	return bytes.n == 0;
}

/* ---- taking ---- */

static void
deliver_record(struct redis_queue *rq, struct chunk *chunk, struct slice id,
    uint64_t taking, struct slice record)
{
	struct message *m = redis_message(rq, chunk, id, id,
	    (struct slice){ record.p, 0 });

	m->receipt_number = taking;
	if (redis_record_read(chunk, record, m)) {
		redis_deliver(rq, m);
		return;
	}
	/* Not ours to interpret, and not ours to drop. */
	m->name = id;
	m->body = record;
	m->order_key = (struct slice){ NULL, 0 };
	m->attributes = NULL;
	m->nattributes = 0;
	m->attempt = 1;
	queue_deliver_malformed(rq->queue, m,
	    "the record in the delayed store is damaged");
}

static void
taken(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	unsigned asked = (unsigned)(uintptr_t)arg;
	size_t n = 0;
	struct error err;

	rq->taking_delayed = false;
	rq->asked_writer -= asked;
	if (!redis_reply_ok(rq, reply, "taking delayed messages"))
		return;
	if (fault("redis.delayed")) {
		error_set(&err, ERROR_TRANSIENT, "fault", "redis.delayed");
		redis_fail(rq, &err);
		return;
	}
	rq->delayed_due_us = USEC_INFINITY;
	if (resp_at(reply, 0)->type == RESP_INTEGER &&
	    resp_at(reply, 0)->integer >= 0)
		redis_delayed_expect(rq,
		    (uint64_t)resp_at(reply, 0)->integer * USEC_PER_MSEC);
	for (size_t i = 1; i + 2 < reply->count; i += 3, n++)
		deliver_record(rq, chunk, resp_at(reply, i)->str,
		    (uint64_t)resp_at(reply, i + 1)->integer,
		    resp_at(reply, i + 2)->str);
	timer_arm_sooner(rq->loop, &rq->delayed_timer, POLL_US);
	redis_wake(rq);
}

static void
ask(struct redis_queue *rq, unsigned n)
{
	struct redis_conn *c = &rq->writer;

	rq->taking_delayed = true;
	rq->asked_writer += n;
	redis_begin_script(c, SCRIPT_DELAYED_TAKE, 2, 3);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->messages_key);
	redis_arg_u64(c, n);
	redis_arg_u64(c, redis_lease_ms(rq));
	redis_arg_u64(c, rq->reply_max / 4);
	redis_end(c, taken, (void *)(uintptr_t)n, 0);
}

static bool
due(const struct redis_queue *rq)
{
	return rq->delayed_due_us <= clock_monotonic_us();
}

bool
redis_delayed_pull(struct redis_queue *rq)
{
	unsigned room = redis_room(rq);

	if (!rq->has_delayed || rq->taking_delayed || !due(rq) || room == 0 ||
	    rq->stopping)
		return false;
	ask(rq, MIN(room, MIN(TAKE_MAX, rq->count_max)));
	return true;
}

static void
delayed_timer_fired(struct timer *t)
{
	struct redis_queue *rq = t->owner;

	timer_arm(rq->loop, t, POLL_US);
	if (rq->mode->poll != NULL) {
		rq->mode->poll(rq);
		return;
	}
	if (rq->taking_delayed || rq->stopping)
		return;
	/* The credit may all be with a reader that waits for new ones. */
	if (due(rq) && redis_room(rq) == 0)
		redis_unblock(rq);
	if (!redis_delayed_pull(rq) && !due(rq))
		ask(rq, 0);
}

void
redis_delayed_expect(struct redis_queue *rq, uint64_t in_us)
{
	uint64_t at = sat_add(clock_monotonic_us(), in_us);

	if (!rq->has_delayed || rq->state != REDIS_UP || rq->stopping)
		return;
	if (at < rq->delayed_due_us)
		rq->delayed_due_us = at;
	timer_arm_sooner(rq->loop, &rq->delayed_timer, in_us);
}

void
redis_delayed_init(struct redis_queue *rq)
{
	timer_init(&rq->delayed_timer, "redis delayed", delayed_timer_fired,
	    rq);
	rq->delayed_due_us = USEC_INFINITY;
}

void
redis_delayed_up(struct redis_queue *rq)
{
	if (!rq->has_delayed && rq->mode->poll == NULL)
		return;
	rq->taking_delayed = false;
	/* Look at once. */
	rq->delayed_due_us = rq->has_delayed ? 0 : USEC_INFINITY;
	timer_arm(rq->loop, &rq->delayed_timer, 0);
}

void
redis_delayed_down(struct redis_queue *rq)
{
	timer_cancel(rq->loop, &rq->delayed_timer);
}

/* ---- settling ---- */

static void
send_ack(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_DELAYED_ACK, 2, b->count);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->messages_key);
	for (size_t i = 0; i < b->count; i++)
		redis_arg(c, b->message[i]->receipt);
	redis_end(c, redis_batch_answered, b, 0);
}

void
redis_delayed_send(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	const struct message *m = b->message[0];

	switch (b->kind) {
	case SETTLE_ACK:
		send_ack(rq, b);
		break;
	case SETTLE_RETRY: {
		_cleanup_buffer_ struct buffer record = BUFFER_INIT;

		redis_record(&record, m, b);
		redis_begin_script(c, SCRIPT_DELAYED_RETRY, 2, 4);
		redis_arg_str(c, rq->delayed_key);
		redis_arg_str(c, rq->messages_key);
		redis_arg(c, m->receipt);
		redis_arg_u64(c, m->receipt_number);
		redis_arg_u64(c, b->delay_us / USEC_PER_MSEC);
		redis_arg(c, buffer_slice(&record));
		redis_end(c, redis_batch_answered, b, 0);
		break;
	}
	case SETTLE_BURY:
		redis_begin_script(c, SCRIPT_DELAYED_BURY, 3,
		    2 + 2 * (redis_dead_count(m) + REDIS_DEAD_FIELDS));
		redis_arg_str(c, rq->delayed_key);
		redis_arg_str(c, rq->messages_key);
		redis_arg_str(c, rq->dead_key);
		redis_arg(c, m->receipt);
		redis_arg_u64(c, m->receipt_number);
		redis_dead_fields(rq, m);
		redis_dead_args(rq, b);
		redis_end(c, redis_batch_answered, b, 0);
		break;
	case SETTLE_RELEASE:
	case SETTLE_NONE:
		BUG("a delayed message cannot be settled as %d", (int)b->kind);
	}
}

void
redis_delayed_extend(struct redis_queue *rq, struct redis_extends *e)
{
	struct redis_conn *c = &rq->writer;

	redis_begin_script(c, SCRIPT_DELAYED_EXTEND, 2, 1 + 2 * e->count);
	redis_arg_str(c, rq->delayed_key);
	redis_arg_str(c, rq->messages_key);
	redis_arg_u64(c, redis_lease_ms(rq));
	for (size_t i = 0; i < e->count; i++) {
		const struct message *m = message_find(e->renewal[i].id);

		redis_arg(c, m->receipt);
		redis_arg_u64(c, m->receipt_number);
	}
	redis_end(c, redis_extends_answered, e, 0);
}
