#include "sim/sim_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"

/* What is on its way between the queue and its broker. */
enum op_kind { OP_FETCH = 1, OP_SETTLE, OP_EXTEND, OP_PROBE };

struct op {
	struct list link;
	enum op_kind kind;
	struct sim_queue *queue;
	struct timer timer;
	struct sim_message *what;
	uint64_t receipt;
	struct message *message;	/* SETTLE */
	uint64_t message_id;		/* EXTEND: it may be gone by then */
	struct settlement settlement;	/* without its strings */
	char error_type[ERROR_TYPE_MAX];
	char detail[128];
	uint64_t lease_us;
	bool refused, applied;
};

struct sim_queue {
	struct queue *queue;
	struct sim_broker *broker;
	struct list ops;		/* sent, not answered */
	struct list collected;		/* settlements, until LOOP_BATCH */
	unsigned credit;
	unsigned requested;		/* in FETCH ops */
	bool stopping, up, told_down;
	struct task fetch_task, batch_task, link_task;
	struct timer stop_timer;
};

/* ---- the way between ---- */

static uint64_t
takes(const struct sim_broker *b, uint64_t us)
{
	return us + (b->jitter_us != 0 ? random_below(b->jitter_us) : 0);
}

static void op_answered(struct timer *);

static struct op *
op_new(struct sim_queue *sq, enum op_kind kind)
{
	struct op *op = new0(struct op);

	op->kind = kind;
	op->queue = sq;
	list_init(&op->link);
	timer_init(&op->timer, "sim.op", op_answered, op);
	return op;
}

static void
op_free(struct op *op)
{
	list_remove(&op->link);
	timer_cancel(op->queue->queue->loop, &op->timer);
	if (op->kind == OP_FETCH)
		op->queue->requested--;
	free(op);
}

static void
op_send(struct op *op, uint64_t us)
{
	list_move_back(&op->queue->ops, &op->link);
	if (!op->queue->broker->mute)
		timer_arm(op->queue->queue->loop, &op->timer,
		    takes(op->queue->broker, us));
}

static void
deliver(struct sim_queue *sq, struct sim_message *s, uint64_t receipt)
{
	struct chunk *chunk = chunk_new();
	struct message *m = message_new(sq->queue, chunk);

	m->name = chunk_copy(chunk, s->name, strlen(s->name));
	m->body = chunk_copy(chunk, s->body, s->body_bytes);
	if (s->key[0] != '\0')
		m->order_key = chunk_copy(chunk, s->key, strlen(s->key));
	m->attributes = s->attributes;
	m->nattributes = s->nattributes;
	m->attempt = s->attempt;
	m->crashes = s->crashes;
	m->lease_until_us = s->until_us;
	m->receipt_number = receipt;
	m->receipt_data = s;
	chunk_unref(chunk);
	sim_delivery_of(s, receipt)->arrived = true;
	if (sq->credit != 0)
		sq->credit--;
	queue_deliver(sq->queue, m);
}

static bool
receipt_good(const struct op *op)
{
	return op->what->place == SIM_LEASED && op->what->receipt == op->receipt;
}

/* What the broker does with it; false when it refuses. */
static bool
apply(struct op *op)
{
	struct sim_message *s = op->what;
	const struct settlement *how = &op->settlement;
	uint64_t now = clock_monotonic_us();

	if (op->refused || !receipt_good(op))
		return false;
	s->attempt = how->attempt;
	s->crashes = how->crashes;
	switch (how->kind) {
	case SETTLE_ACK:
		sim_move(s, SIM_ACKED, 0);
		break;
	case SETTLE_RETRY:
		s->retries++;
		s->last_delay_us = how->delay_us;
		memcpy(s->error_type, op->error_type, sizeof(s->error_type));
		sim_move(s, SIM_DELAYED, sat_add(now, how->delay_us));
		break;
	case SETTLE_BURY:
		memcpy(s->error_type, op->error_type, sizeof(s->error_type));
		memcpy(s->detail, op->detail, sizeof(s->detail));
		sim_move(s, SIM_DEAD, 0);
		break;
	case SETTLE_RELEASE:
		s->releases++;
		op->queue->broker->releases++;
		sim_move(s, SIM_READY, 0);
		break;
	case SETTLE_NONE:
		fail_msg("a settlement of no kind");
	}
	return true;
}

static void
answer_settle(struct op *op)
{
	struct queue *q = op->queue->queue;
	struct message *m = op->message;
	struct error err = ERROR_INIT;

	if (!op->applied && !apply(op)) {
		error_set(&err, ERROR_REJECTED, "refused",
		    "the broker does not take it");
		/* A lease brings it back in time; without one it is now. */
		if (receipt_good(op) && op->what->until_us == USEC_INFINITY)
			sim_lose(op->what);
	}
	op_free(op);
	queue_settled(q, m, error_is_set(&err) ? &err : NULL);
}

static void
answer_extend(struct op *op)
{
	struct queue *q = op->queue->queue;
	struct sim_broker *b = op->queue->broker;
	struct sim_message *s = op->what;
	struct message *m = message_find(op->message_id);
	uint64_t until = 0, lease;

	if (receipt_good(op)) {
		until = sat_add(clock_monotonic_us(), op->lease_us);
		if (b->lease_step_us != 0)
			until -= until % b->lease_step_us;
		lease = until - sim_delivery_of(s, op->receipt)->at_us;
		b->max_lease_seen_us = MAX(b->max_lease_seen_us, lease);
		b->extends++;
		sim_move(s, SIM_LEASED, until);
	}
	/* Renewed for nobody: the engine has given it up meanwhile. */
	if (m == NULL && until != 0)
		sim_delivery_of(s, op->receipt)->lost = true;
	op_free(op);
	if (m != NULL)
		queue_extended(q, m, until);
}

static void
answer_probe(struct op *op)
{
	struct queue *q = op->queue->queue;
	const struct sim_broker *b = op->queue->broker;
	struct backlog s = {
		.waiting = b->count[SIM_READY],
		.delayed = b->count[SIM_DELAYED],
		.dead = b->count[SIM_DEAD],
		.waiting_known = true,
		.delayed_known = true,
		.dead_known = true,
	};

	op_free(op);
	queue_backlog(q, &s);
}

static void
op_answered(struct timer *t)
{
	struct op *op = t->owner;
	struct sim_queue *sq = op->queue;
	struct sim_message *s = op->what;
	uint64_t receipt = op->receipt;

	switch (op->kind) {
	case OP_FETCH:
		op_free(op);
		/* On the way it may have become somebody else's. */
		if (s->receipt == receipt && s->place == SIM_LEASED)
			deliver(sq, s, receipt);
		break;
	case OP_SETTLE:
		answer_settle(op);
		break;
	case OP_EXTEND:
		answer_extend(op);
		break;
	case OP_PROBE:
		answer_probe(op);
		break;
	}
	if (sq->stopping)
		task_schedule(sq->queue->loop, &sq->link_task);
	else if (sq->credit > sq->requested)
		task_schedule(sq->queue->loop, &sq->fetch_task);
}

/* ---- the queue ---- */

void
sim_queue_wake(struct sim_queue *sq)
{
	if (sq != NULL && sq->up)
		task_schedule(sq->queue->loop, &sq->fetch_task);
}

static void
fetch_task_run(struct task *t)
{
	struct sim_queue *sq = t->owner;
	struct sim_broker *b = sq->broker;
	struct list *l;

	if (!sq->up || sq->stopping || b->mute)
		return;
	while (sq->requested < sq->credit &&
	    (l = list_first(&b->place[SIM_READY])) != NULL) {
		struct sim_message *s = list_entry(l, struct sim_message, link);
		struct op *op = op_new(sq, OP_FETCH);
		uint64_t now = clock_monotonic_us();

		s->deliveries = xreallocarray(s->deliveries, s->receipt + 1,
		    sizeof(*s->deliveries));
		s->deliveries[s->receipt] = (struct sim_delivery){
			.at_us = now, .attempt = s->attempt };
		s->receipt++;
		sim_move(s, SIM_LEASED, sq->queue->type == &sim_queue_plain_type ?
		    USEC_INFINITY : sat_add(now, sq->queue->lease_us));
		op->what = s;
		op->receipt = s->receipt;
		sq->requested++;
		b->max_requested = MAX(b->max_requested, sq->requested);
		op_send(op, b->fetch_us);
	}
}

static void
batch_task_run(struct task *t)
{
	struct sim_queue *sq = t->owner;
	struct list *l;

	while ((l = list_pop_front(&sq->collected)) != NULL) {
		struct op *op = list_entry(l, struct op, link);

		if (sq->broker->fail_settlements != 0) {
			sq->broker->fail_settlements--;
			op->refused = true;
		}
		if (!sq->up)
			op->refused = true;
		if (sq->up && sq->broker->settle_applies_early &&
		    !sq->broker->mute)
			op->applied = apply(op);
		list_push_back(&sq->ops, &op->link);
		if (sq->up && sq->broker->mute)
			continue;
		timer_arm(sq->queue->loop, &op->timer, sq->up ?
		    takes(sq->broker, sq->broker->settle_us) : 0);
	}
}

/* Everything on the way is gone; what must be answered is. */
static void
cut(struct sim_queue *sq, const struct error *err)
{
	LIST_HEAD(gone);
	struct list *l;

	list_splice_back(&sq->collected, &sq->ops);
	list_splice_back(&gone, &sq->collected);
	while ((l = list_first(&gone)) != NULL) {
		struct op *op = list_entry(l, struct op, link);
		struct message *m = op->message;
		enum op_kind kind = op->kind;

		/* It stays leased until its time is over, if that ever is. */
		if ((kind == OP_FETCH || kind == OP_SETTLE) && !op->applied &&
		    receipt_good(op) && op->what->until_us == USEC_INFINITY)
			sim_lose(op->what);
		op_free(op);
		if (kind == OP_SETTLE)
			queue_settled(sq->queue, m, err);
		else if (kind == OP_EXTEND)
			sq->broker->extends_dropped++;
	}
}

static bool
match_any(const struct message *m, void *arg)
{
	(void)arg;
	return m->receipt_data != NULL;
}

static void
void_receipts(struct sim_broker *b)
{
	struct list *l;

	while ((l = list_first(&b->place[SIM_LEASED])) != NULL)
		sim_lose(list_entry(l, struct sim_message, link));
}

/* Up, down, or the end: whatever is true now is told. */
static void
link_task_run(struct task *t)
{
	struct sim_queue *sq = t->owner;
	struct sim_broker *b = sq->broker;
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "sim_down", "the broker went away");
	if (b->down && (sq->up || !sq->told_down)) {
		bool was = sq->up;

		sq->up = false;
		sq->told_down = true;
		sq->credit = 0;
		cut(sq, &err);
		if (was && b->receipts_die)
			void_receipts(b);
		queue_down(sq->queue, &err);
		if (was && b->receipts_die)
			queue_drop_receipts(sq->queue, match_any, NULL);
	} else if (!b->down && !sq->up && !sq->stopping) {
		sq->up = true;
		sq->told_down = false;
		queue_up(sq->queue);
	}
	if (sq->stopping && list_empty(&sq->ops) &&
	    list_empty(&sq->collected) && !sq->queue->stopped) {
		timer_cancel(sq->queue->loop, &sq->stop_timer);
		queue_stopped(sq->queue);
	}
}

static void
stop_timer_fired(struct timer *t)
{
	struct sim_queue *sq = t->owner;
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "sim_mute", "the broker says nothing");
	cut(sq, &err);
	task_schedule(sq->queue->loop, &sq->link_task);
}

void
sim_go_down(struct sim_broker *b)
{
	b->down = true;
	if (b->attached != NULL && b->attached->queue->started)
		task_schedule(b->loop, &b->attached->link_task);
}

void
sim_come_up(struct sim_broker *b)
{
	b->down = false;
	b->mute = false;
	if (b->attached != NULL && b->attached->queue->started)
		task_schedule(b->loop, &b->attached->link_task);
}

/* ---- operations ---- */

static int
op_init(struct queue *q, struct config *c, const struct config_section *s)
{
	struct sim_queue *sq = new0(struct sim_queue);
	const char *name = config_string(s, "Broker");

	(void)c;
	q->impl = sq;
	sq->queue = q;
	list_init(&sq->ops);
	list_init(&sq->collected);
	task_init(&sq->fetch_task, LOOP_WRITE, "sim.fetch", fetch_task_run, sq);
	task_init(&sq->batch_task, LOOP_BATCH, "sim.batch", batch_task_run, sq);
	task_init(&sq->link_task, LOOP_DISPATCH, "sim.link", link_task_run, sq);
	timer_init(&sq->stop_timer, "sim.stop", stop_timer_fired, sq);
	/* Without a loop it is only a check of the configuration. */
	if (q->loop == NULL)
		return 0;
	sq->broker = sim_broker(q->loop, name != NULL ? name : q->name);
	return 0;
}

static void
op_start(struct queue *q)
{
	struct sim_queue *sq = q->impl;

	/* Two at one broker would mean that one was not given back in time. */
	assert_null(sq->broker->attached);
	sq->broker->attached = sq;
	task_schedule(q->loop, &sq->link_task);
}

static void
op_credit(struct queue *q, unsigned n)
{
	struct sim_queue *sq = q->impl;

	assert_false(sq->stopping);
	sq->broker->credits++;
	sq->credit = n;
	if (n > sq->requested)
		task_schedule(q->loop, &sq->fetch_task);
}

static void
drop_extend(struct sim_queue *sq, const struct message *m)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &sq->ops) {
		struct op *op = list_entry(l, struct op, link);

		if (op->kind == OP_EXTEND && op->message_id == m->id)
			op_free(op);
	}
}

static void
copy_text(char *to, size_t room, struct slice from)
{
	size_t n = MIN(from.n, room - 1);

	if (n != 0)
		memcpy(to, from.p, n);
	to[n] = '\0';
}

static void
op_settle(struct queue *q, struct message *m, const struct settlement *how)
{
	struct sim_queue *sq = q->impl;
	struct op *op = op_new(sq, OP_SETTLE);

	op->what = m->receipt_data;
	op->receipt = m->receipt_number;
	op->message = m;
	op->settlement = *how;
	copy_text(op->error_type, sizeof(op->error_type), how->error_type);
	copy_text(op->detail, sizeof(op->detail), how->detail);
	sq->broker->settles++;
	if (++sim_delivery_of(op->what, op->receipt)->settled != 1)
		fail_msg("%s is settled twice", op->what->name);
	if (how->kind == SETTLE_ACK && op->what->done_verdicts == 0)
		fail_msg("%s is acknowledged before it is done",
		    op->what->name);
	if (how->kind == SETTLE_RETRY &&
	    (q->type->capabilities & QUEUE_CAN_DELAY) == 0)
		fail_msg("SETTLE_RETRY for a queue that cannot delay");
	drop_extend(sq, m);
	list_push_back(&sq->collected, &op->link);
	task_schedule(q->loop, &sq->batch_task);
}

static void
op_extend(struct queue *q, struct message *m, uint64_t lease_us)
{
	struct sim_queue *sq = q->impl;
	struct op *op = op_new(sq, OP_EXTEND);
	struct list *l;

	op->what = m->receipt_data;
	op->receipt = m->receipt_number;
	op->message_id = m->id;
	op->lease_us = lease_us;
	if (sim_delivery_of(op->what, op->receipt)->settled != 0)
		fail_msg("%s is extended after its settlement", op->what->name);
	if (m->lease_lost)
		fail_msg("%s is extended after its loss", op->what->name);
	if ((q->type->capabilities & QUEUE_CAN_EXTEND) == 0)
		fail_msg("extend for a queue that cannot");
	list_foreach(l, &sq->ops) {
		const struct op *o = list_entry(l, struct op, link);

		if (o->kind == OP_EXTEND && o->message_id == m->id)
			fail_msg("%s is extended twice at once",
			    op->what->name);
	}
	if (!sq->up) {
		sq->broker->extends_dropped++;
		op_free(op);
		return;
	}
	op_send(op, sq->broker->extend_us);
}

static void
op_probe(struct queue *q)
{
	struct sim_queue *sq = q->impl;

	if (sq->up && !sq->broker->no_probe)
		op_send(op_new(sq, OP_PROBE), 0);
}

static void
op_reconfigure(struct queue *q, const struct config_section *s)
{
	(void)q;
	(void)s;
}

static void
op_stop(struct queue *q)
{
	struct sim_queue *sq = q->impl;
	struct list *l, *tmp;

	sq->stopping = true;
	/* What was fetched and has not arrived goes back by itself. */
	list_foreach_safe(l, tmp, &sq->ops) {
		struct op *op = list_entry(l, struct op, link);
		struct sim_message *s = op->what;

		if (op->kind != OP_FETCH)
			continue;
		if (s->receipt == op->receipt && s->place == SIM_LEASED)
			sim_lose(s);
		op_free(op);
	}
	timer_arm(q->loop, &sq->stop_timer, 5 * USEC_PER_SEC);
	task_schedule(q->loop, &sq->link_task);
}

static void
op_fini(struct queue *q)
{
	struct sim_queue *sq = q->impl;

	assert_true(list_empty(&sq->ops));
	assert_true(list_empty(&sq->collected));
	if (q->loop != NULL) {
		task_cancel(&sq->fetch_task);
		task_cancel(&sq->batch_task);
		task_cancel(&sq->link_task);
		timer_cancel(q->loop, &sq->stop_timer);
	}
	if (sq->broker != NULL && sq->broker->attached == sq)
		sq->broker->attached = NULL;
	free(sq);
}

static void
op_status(struct queue *q, json_t *object)
{
	(void)q;
	(void)object;
}

static const struct queue_ops ops = {
	.init = op_init,
	.start = op_start,
	.credit = op_credit,
	.settle = op_settle,
	.extend = op_extend,
	.probe = op_probe,
	.reconfigure = op_reconfigure,
	.stop = op_stop,
	.fini = op_fini,
	.status = op_status,
};

static const struct config_key keys[] = {
	{ "Broker", CONFIG_STRING, NULL, NULL, 0, 0, 0, "Name of the broker." },
};

#define SIM_TYPE(id, type_name, flags) \
	static const struct config_kind id##_kind = { \
		"Queue", true, "Type", type_name, keys, ARRAY_SIZE(keys), \
		"A broker of the tests." }; \
	const struct queue_type id = { type_name, &id##_kind, flags, &ops }

SIM_TYPE(sim_queue_type, "fake", QUEUE_CAN_EXTEND | QUEUE_CAN_DELAY |
    QUEUE_BATCHES);
SIM_TYPE(sim_queue_fixed_type, "fake-fixed", QUEUE_CAN_DELAY | QUEUE_BATCHES);
SIM_TYPE(sim_queue_plain_type, "fake-plain", QUEUE_BATCHES);
SIM_TYPE(sim_queue_keep_type, "fake-keep", QUEUE_CAN_EXTEND | QUEUE_BATCHES);
