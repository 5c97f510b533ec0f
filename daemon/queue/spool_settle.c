/*
 * Back from the engine: every outcome is one rename or one unlink.
 */
#include "queue/spool_impl.h"

#include "base/alloc.h"
#include "base/chunk.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

/* The wall clock may be set while we wait for it. */
#define DELAYED_CHECK_US	(60 * USEC_PER_SEC)

static uint64_t
due_ms(uint64_t delay_us)
{
	return sat_add(clock_realtime_us(), sat_add(delay_us, 999)) / 1000;
}

/* ---- one settlement ---- */

static int
put_back(struct spool *s, const struct spool_receipt *rc)
{
	const struct settlement *st = &rc->settlement;
	bool later = st->kind == SETTLE_RETRY && st->delay_us > 0;
	enum spool_dir dir = later ? SPOOL_DELAYED : SPOOL_NEW;
	struct spool_name name = {
		.attempt = st->attempt, .crashes = st->crashes,
		.due_ms = later ? due_ms(st->delay_us) : 0 };
	char file[SPOOL_NAME_BYTES];
	int r;

	memcpy(name.base, rc->base, strlen(rc->base) + 1);
	r = spool_move(s, SPOOL_CUR, rc->file, dir, &name, file);
	if (r < 0)
		return r;
	spool_arrived(s, dir, file, true);
	if (later)
		spool_delayed_arm(s);
	else
		task_schedule(s->loop, &s->take_task);
	return 0;
}

static int
bury(struct spool *s, const struct spool_receipt *rc, enum spool_dir *where)
{
	const struct settlement *st = &rc->settlement;
	struct spool_death death = {
		.error_type = st->error_type, .detail = st->detail,
		.attempts = st->attempt, .crashes = st->crashes };

	memcpy(death.name.base, rc->base, strlen(rc->base) + 1);
	return spool_bury(s, rc->file, &death, where);
}

static int
carry_out(struct spool *s, const struct spool_receipt *rc,
    enum spool_dir *where)
{
	switch (rc->settlement.kind) {
	case SETTLE_ACK:
		*where = SPOOL_CUR;
		return unlinkat(s->fd[SPOOL_CUR], rc->file, 0) < 0 ? -errno : 0;
	case SETTLE_RETRY:
		*where = rc->settlement.delay_us > 0 ? SPOOL_DELAYED :
		    SPOOL_NEW;
		return put_back(s, rc);
	case SETTLE_RELEASE:
		*where = SPOOL_NEW;
		return put_back(s, rc);
	case SETTLE_BURY:
		*where = SPOOL_DEAD;
		return bury(s, rc, where);
	case SETTLE_NONE:
		break;
	}
	return -EINVAL;
}

/* True when the broken thing is the file system, not this message. */
static bool
settle_one(struct spool *s, struct spool_receipt *rc, struct error *err)
{
	struct message *m = rc->message;
	enum spool_dir where = SPOOL_CUR;
	bool general = false;
	int r;

	if (s->fd[SPOOL_CUR] < 0)
		r = -ENODEV;
	else if (fault("spool.settle.before"))
		r = -EIO;
	else
		r = carry_out(s, rc, &where);
	if (r == 0)
		(void)fault("spool.settle.after");
	hash_remove(&s->held, &rc->node);
	if (r == 0) {
		queue_settled(s->queue, m, NULL);
		return false;
	}
	if (s->fd[SPOOL_CUR] < 0) {
		*err = s->error;
	} else if (r == -ENOENT) {
		/* Somebody took it out of cur/: there is nothing to settle. */
		error_set(err, ERROR_REJECTED, "gone", "%s/cur/%s is not there "
		    "any more; somebody removed it", s->path, rc->file);
	} else {
		spool_error(s, err, r, where, "cannot settle a message");
		general = true;
	}
	queue_settled(s->queue, m, err);
	return general;
}

static void
settle_some(struct task *t)
{
	struct spool *s = t->owner;
	uint64_t until = clock_monotonic_us() + SPOOL_SLICE_US;
	struct error err = ERROR_INIT, first = ERROR_INIT;
	struct list *link;

	for (unsigned n = 0; n < 2 * SPOOL_SLICE_MESSAGES; n++) {
		link = list_pop_front(&s->settling);
		if (link == NULL)
			break;
		if (settle_one(s, list_entry(link, struct spool_receipt, link),
		    &err) && !error_is_set(&first))
			first = err;
		if (clock_monotonic_us() > until)
			break;
	}
	/* What stayed in cur/ is read there when we are up again. */
	if (error_is_set(&first))
		spool_fail(s, &first);
	if (!list_empty(&s->settling))
		task_schedule(s->loop, &s->settle_task);
	else
		spool_check_stopped(s);
}

void
spool_settle(struct queue *q, struct message *m, const struct settlement *st)
{
	struct spool *s = spool_of(q);
	struct spool_receipt *rc = m->receipt_data;

	BUG_ON(rc->settlement.kind != SETTLE_NONE);
	rc->settlement = *st;
	rc->settlement.error_type = chunk_copy(m->chunk, st->error_type.p,
	    st->error_type.n);
	rc->settlement.detail = chunk_copy(m->chunk, st->detail.p, st->detail.n);
	list_push_back(&s->settling, &rc->link);
	task_schedule(s->loop, &s->settle_task);
}

/* ---- what comes due ---- */

void
spool_delayed_arm(struct spool *s)
{
	const char *first = spool_window_first(&s->delayed);
	uint64_t now = clock_realtime_us(), due;
	struct spool_name name;

	if (!spool_running(s) || first == NULL ||
	    spool_name_parse_delayed(&name, first) < 0) {
		timer_cancel(s->loop, &s->delayed_timer);
		return;
	}
	due = name.due_ms * 1000;
	timer_arm(s->loop, &s->delayed_timer, due > now ?
	    MIN(due - now, DELAYED_CHECK_US) : 0);
}

static int
wake_first(struct spool *s)
{
	struct spool_entry entry;
	struct spool_name name;
	char file[SPOOL_NAME_BYTES];
	int r;

	(void)spool_window_pop(&s->delayed, &entry);
	spool_left(s, SPOOL_DELAYED, entry.name);
	(void)spool_name_parse_delayed(&name, entry.name);
	name.due_ms = 0;
	r = spool_move(s, SPOOL_DELAYED, entry.name, SPOOL_NEW, &name, file);
	if (r == 0)
		spool_arrived(s, SPOOL_NEW, file, true);
	free(entry.name);
	return r == -ENOENT ? 0 : r;
}

static void
delayed_due(struct timer *t)
{
	struct spool *s = t->owner;
	uint64_t start = clock_monotonic_us();
	uint64_t now_ms = clock_realtime_us() / 1000;
	struct spool_name name;
	const char *first;
	struct error err;
	int r = 0;

	for (unsigned n = 0; r == 0 && n < SPOOL_SLICE_MESSAGES; n++) {
		first = spool_window_first(&s->delayed);
		if (first == NULL || clock_monotonic_us() >
		    start + SPOOL_SLICE_US ||
		    spool_name_parse_delayed(&name, first) < 0 ||
		    name.due_ms > now_ms)
			break;
		r = wake_first(s);
	}
	if (r < 0) {
		spool_error(s, &err, r, SPOOL_NEW, "cannot put a retry back");
		spool_fail(s, &err);
		return;
	}
	task_schedule(s->loop, &s->take_task);
	if (!s->delayed.complete && s->delayed.count <= s->window_max / 4 &&
	    s->scanning != SPOOL_DELAYED)
		spool_want(s, SPOOL_BIT(SPOOL_DELAYED));
	spool_delayed_arm(s);
}

void
spool_settle_init(struct spool *s)
{
	list_init(&s->settling);
	task_init(&s->settle_task, LOOP_BATCH, "spool settle", settle_some, s);
	timer_init(&s->delayed_timer, "spool delayed", delayed_due, s);
}

void
spool_settle_stop(struct spool *s)
{
	task_cancel(&s->settle_task);
	timer_cancel(s->loop, &s->delayed_timer);
}
