/*
 * handler_ops for processes: how many workers there are, and which of them
 * gets a message.
 *
 * manage() is the one place that starts workers and lets them go.  It runs as
 * a task after anything that may matter and from one timer; it starts at most
 * one worker a turn, since a start takes most of a millisecond.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "engine/queue.h"
#include "worker/internal.h"

#define GROW_INTERVAL_US	(5 * USEC_PER_MSEC)
#define RETRY_MIN_US		(100 * USEC_PER_MSEC)
#define RETRY_MAX_US		(30 * USEC_PER_SEC)
#define RETRY_BUSY_MAX_US	(1 * USEC_PER_SEC)	/* it died of a message */
#define CAUTION_MIN_US		(60 * USEC_PER_SEC)
#define CAUTION_MAX_US		(3600 * USEC_PER_SEC)
#define EXPLAIN_MAX		((size_t)120)	/* of stderr, in an error's text */
#define USELESS_DOWN		3u	/* idle deaths in a row */

#define foreach_worker(w, wp, l) \
	list_foreach((l), &(wp)->workers) \
		if (((w) = list_entry((l), struct worker, link)) != NULL)

struct census {
	unsigned all, starting, ready;	/* the latter two not leaving */
	unsigned outdated;		/* of those */
	unsigned fresh_starting;	/* with the present settings */
	unsigned room;
};

static struct census
count(struct worker_pool *wp)
{
	struct census n = { 0 };
	struct list *l;
	struct worker *w;

	foreach_worker(w, wp, l) {
		bool old = w->generation != wp->generation;

		n.all++;
		n.starting += w->state == WORKER_STARTING;
		n.ready += w->state == WORKER_READY;
		n.outdated += old && w->state != WORKER_LEAVING;
		n.fresh_starting += !old && w->state == WORKER_STARTING;
		n.room += worker_room(w);
	}
	return n;
}

void
worker_pool_check(struct worker_pool *wp)
{
	task_schedule(wp->loop, &wp->task);
}

/* ---- failing to start ---- */

static void
back_off(struct worker_pool *wp, uint64_t max_us)
{
	uint64_t delay = RETRY_MIN_US;

	for (unsigned i = 0; i < wp->failures && delay < max_us; i++)
		delay *= 2;
	delay = MIN(delay, max_us);
	wp->failures++;
	/* Half of it is chance, so that pools do not march in step. */
	wp->start_not_before_us = loop_now_us(wp->loop) + delay / 2 +
	    random_below(delay / 2 + 1);
}

static void
start_one(struct worker_pool *wp)
{
	struct error err = ERROR_INIT;
	struct worker *w = worker_new(wp, &err);

	if (w == NULL) {
		back_off(wp, RETRY_MAX_US);
		if (count(wp).ready == 0)
			pool_down(wp->pool, &err);
		return;
	}
	list_push_back(&wp->workers, &w->link);
	wp->pool->workers++;
	wp->pool->stats.started++;
	wp->start_not_before_us = MAX(wp->start_not_before_us,
	    loop_now_us(wp->loop) + 1);
	log_debug(&((struct log_fields){ .pool = wp->pool->name,
	    .worker = w->pid }), "worker started");
}

/* ---- managing ---- */

static struct worker *
least_busy(struct worker_pool *wp, bool only_outdated)
{
	struct worker *w, *best = NULL;
	struct list *l;

	/* The last of equals: the first ones are filled first. */
	foreach_worker(w, wp, l) {
		if (w->state == WORKER_LEAVING ||
		    (only_outdated && w->generation == wp->generation))
			continue;
		if (best == NULL || w->inflight <= best->inflight)
			best = w;
	}
	return best;
}

static bool
grows(const struct worker_pool *wp, const struct census *n)
{
	return wp->waiting > n->starting && n->room == 0 &&
	    n->starting + n->ready < wp->max;
}

/* Lets go who has been idle for long; returns when to look again. */
static uint64_t
shrink(struct worker_pool *wp, unsigned active)
{
	uint64_t now = loop_now_us(wp->loop), next = USEC_INFINITY;
	struct list *l;
	struct worker *w;

	for (l = wp->workers.prev; l != &wp->workers && active > wp->min;
	    l = l->prev) {
		uint64_t at;

		w = list_entry(l, struct worker, link);
		if (w->state != WORKER_READY || w->inflight != 0)
			continue;
		at = sat_add(w->idle_since_us, wp->set->idle_timeout_us);
		if (now >= at) {
			worker_leave(w);
			active--;
		} else {
			next = MIN(next, at);
		}
	}
	/* A busy one may become idle: then take_out's turn comes through us. */
	if (next == USEC_INFINITY && active > wp->min)
		next = sat_add(now, wp->set->idle_timeout_us);
	return next;
}

static void
manage_drain(struct worker_pool *wp)
{
	struct list *l;
	struct worker *w;

	foreach_worker(w, wp, l)
		worker_leave(w);
	timer_cancel(wp->loop, &wp->timer);
	if (list_empty(&wp->workers) && !wp->drained) {
		wp->drained = true;
		pool_drained(wp->pool);
	}
}

static void
manage(struct worker_pool *wp)
{
	uint64_t now = loop_now_us(wp->loop), next;
	struct census n;
	bool want;

	if (wp->draining) {
		manage_drain(wp);
		return;
	}
	if (!wp->started)
		return;
	n = count(wp);
	while (n.starting + n.ready > wp->max + (n.outdated != 0)) {
		worker_leave(least_busy(wp, n.outdated != 0));
		n = count(wp);
	}
	want = n.starting + n.ready < wp->min || grows(wp, &n) ||
	    (n.outdated != 0 && n.fresh_starting == 0);
	next = shrink(wp, n.starting + n.ready - n.outdated);
	if (want && now >= wp->start_not_before_us) {
		start_one(wp);
		n = count(wp);
		if (n.starting + n.ready >= wp->min)
			wp->start_not_before_us = MAX(wp->start_not_before_us,
			    now + GROW_INTERVAL_US);
		next = MIN(next, wp->start_not_before_us);
	} else if (want) {
		next = MIN(next, wp->start_not_before_us);
	}
	if (next != USEC_INFINITY)
		timer_arm_at(wp->loop, &wp->timer, next);
	else
		timer_cancel(wp->loop, &wp->timer);
}

static void
on_task(struct task *t)
{
	manage(t->owner);
}

static void
on_timer(struct timer *t)
{
	manage(t->owner);
}

/* ---- what processes tell ---- */

void
worker_pool_ready(struct worker_pool *wp, struct worker *w)
{
	struct worker *old;

	log_debug(&((struct log_fields){ .pool = wp->pool->name,
	    .worker = w->pid }), "worker ready, takes %u at once, after "
	    "%" PRIu64 " ms", w->ready,
	    (loop_now_us(wp->loop) - w->started_us) / USEC_PER_MSEC);
	/* One comes, one goes: no message waits for a reload. */
	if (w->generation == wp->generation &&
	    (old = least_busy(wp, true)) != NULL &&
	    old->generation != wp->generation)
		worker_leave(old);
	if (!wp->draining)
		pool_up(wp->pool);
	pool_slots_changed(wp->pool);
	worker_pool_check(wp);
}

static void
explain(const struct worker_pool *wp, const struct worker *w,
    const struct child_exit *how, struct error *ret)
{
	char cause[CHILD_CAUSE_BYTES];
	struct slice tail = worker_tail(w);
	const char *code = "worker_start";

	child_cause(how, cause);
	if (w->fate == FATE_START) {
		snprintf(cause, sizeof(cause), "not ready within %" PRIu64
		    " ms", wp->set->start_timeout_us / USEC_PER_MSEC);
		code = "worker_start_timeout";
	} else if (w->fate == FATE_PROTOCOL) {
		snprintf(cause, sizeof(cause), "%.60s", w->error.text);
		code = "worker_protocol";
	}
	/* The end of stderr says it best: the whole lines that fit. */
	if (tail.n > EXPLAIN_MAX) {
		const char *end = tail.p + tail.n, *from = end - EXPLAIN_MAX;
		const char *line = memchr(from, '\n', EXPLAIN_MAX);

		if (line != NULL && line + 1 < end)
			from = line + 1;
		tail = (struct slice){ from, (size_t)(end - from) };
	}
	error_set(ret, ERROR_TRANSIENT, code, "%.100s: %s%s%.*s",
	    wp->set->program, cause, tail.n != 0 ? ": " : "", (int)tail.n,
	    tail.p);
	for (char *p = ret->text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
}

void
worker_pool_gone(struct worker_pool *wp, struct worker *w,
    const struct child_exit *how, bool useless)
{
	struct log_fields f = { .event = EVENT_WORKER_CRASH,
		.pool = wp->pool->name, .worker = w->pid };
	char cause[CHILD_CAUSE_BYTES];
	struct error err;

	child_cause(how, cause);
	wp->pool->workers--;
	if (w->fate == FATE_LEAVE || w->fate == FATE_KILLED)
		log_debug(&f, "worker left: %s", cause);
	else if (w->fate == FATE_NONE && how->code == 0)
		log_info(&f, "worker left by itself; it is replaced");
	else
		log_warning(&f, "worker ended: %s; it is replaced", cause);
	if (w->fate != FATE_LEAVE && w->fate != FATE_KILLED)
		wp->pool->stats.restarts++;
	if (useless && !wp->draining) {
		back_off(wp, w->given != 0 ? RETRY_BUSY_MAX_US : RETRY_MAX_US);
		/* A message that kills is the message's fault, not the pool's. */
		if (w->given == 0 && count(wp).ready == 0 &&
		    (w->ready == 0 || wp->failures >= USELESS_DOWN)) {
			explain(wp, w, how, &err);
			pool_down(wp->pool, &err);
		}
	}
	worker_pool_check(wp);
}

void
worker_pool_be_cautious(struct worker_pool *wp)
{
	uint64_t now = loop_now_us(wp->loop);

	/* Longer if it happens again soon after. */
	if (now < sat_add(wp->cautious_until_us, wp->caution_us) &&
	    wp->caution_us != 0)
		wp->caution_us = MIN(wp->caution_us * 2, CAUTION_MAX_US);
	else
		wp->caution_us = CAUTION_MIN_US;
	wp->cautious_until_us = now + wp->caution_us;
	log_notice(LOG_POOL_EVENT(wp->pool->name, EVENT_WORKER_CAUTION),
	    "a worker ended with several "
	    "messages at hand: they run one by one for %" PRIu64 " s, to find "
	    "which one it was", wp->caution_us / USEC_PER_SEC);
}

/* ---- a message's attributes as JSON ---- */

static void
add_enqueued(struct worker_pool *wp, struct buffer *b, uint64_t at_us)
{
	uint64_t second = at_us / USEC_PER_SEC;
	unsigned ms = (unsigned)(at_us / USEC_PER_MSEC % 1000);

	if (second != wp->iso_second) {
		clock_iso(wp->iso, second * USEC_PER_SEC, true);
		wp->iso_second = second;
	}
	/* "2026-11-23T16:00:00.000Z": only the milliseconds change. */
	wp->iso[20] = (char)('0' + ms / 100);
	wp->iso[21] = (char)('0' + ms / 10 % 10);
	wp->iso[22] = (char)('0' + ms % 10);
	buffer_add_str(b, ",\"enqueued\":\"");
	buffer_add(b, wp->iso, 24);
	buffer_add_char(b, '"');
}

struct slice
worker_pool_attributes(struct worker_pool *wp, const struct message *m)
{
	struct buffer *b = &wp->scratch;

	buffer_clear(b);
	buffer_add_str(b, "{\"id\":");
	json_add_string(b, m->name);
	if (m->enqueued_us != 0)
		add_enqueued(wp, b, m->enqueued_us);
	for (size_t i = 0; i < m->nattributes; i++) {
		const struct attribute *a = &m->attributes[i];

		/* A member twice means something else to every parser. */
		if (slice_is(a->name, "id") || (slice_is(a->name, "enqueued") &&
		    m->enqueued_us != 0))
			continue;
		buffer_add_char(b, ',');
		json_add_string(b, a->name);
		buffer_add_char(b, ':');
		if (a->json && a->value.n != 0)
			buffer_add_slice(b, a->value);
		else
			json_add_string(b, a->value);
	}
	buffer_add_char(b, '}');
	return buffer_slice(b);
}

/* ---- handler_ops ---- */

static void
take_limits(struct worker_pool *wp, unsigned min, unsigned max)
{
	wp->min = min;
	wp->max = MAX(max, min);
	wp->pool->min = wp->min;
	wp->pool->max = wp->max;
}

static int
op_init(struct pool *p, struct config *config,
    const struct config_section *section)
{
	struct worker_pool *wp = new0(struct worker_pool);

	p->impl = wp;
	wp->pool = p;
	wp->loop = p->loop;
	list_init(&wp->workers);
	task_init(&wp->task, LOOP_BATCH, "worker.manage", on_task, wp);
	timer_init(&wp->timer, "worker.manage", on_timer, wp);
	wp->set = settings_read(p, config, section);
	if (wp->set == NULL)
		return -EINVAL;
	take_limits(wp, wp->set->min, wp->set->max);
	return 0;
}

static void
op_start(struct pool *p)
{
	struct worker_pool *wp = p->impl;

	BUG_ON(wp->set == NULL);
	settings_warn_limits(p, wp->set);
	wp->started = true;
	worker_pool_check(wp);
}

static unsigned
op_slots(struct pool *p)
{
	struct worker_pool *wp = p->impl;
	struct list *l;
	struct worker *w;
	unsigned n = 0;

	if (wp->draining)
		return 0;
	foreach_worker(w, wp, l)
		n += worker_room(w);
	return n;
}

/* The one with the least to do; the first of equals, so that under a light
   load the later ones idle and can be let go. */
static void
op_submit(struct pool *p, struct message *m)
{
	struct worker_pool *wp = p->impl;
	struct worker *w, *best = NULL;
	struct list *l;

	foreach_worker(w, wp, l) {
		if ((best == NULL || w->inflight < best->inflight) &&
		    worker_room(w) != 0) {
			best = w;
			if (w->inflight == 0)
				break;
		}
	}
	BUG_ON(best == NULL);
	worker_submit(best, m);
}

static void
op_demand(struct pool *p, unsigned waiting)
{
	struct worker_pool *wp = p->impl;
	struct census n;

	if (wp->waiting == 0 && waiting == 0)
		return;
	wp->waiting = waiting;
	if (!wp->started || wp->draining || p->workers >= wp->max)
		return;
	n = count(wp);
	if (grows(wp, &n))
		worker_pool_check(wp);
}

static void
op_cancel(struct pool *p, struct message *m)
{
	(void)p;
	if (m->worker != NULL)
		worker_cancel(m->worker, m);
}

static void
op_scale(struct pool *p, unsigned min, unsigned max)
{
	struct worker_pool *wp = p->impl;

	take_limits(wp, MIN(min, WORKERS_MAX), MIN(max, WORKERS_MAX));
	worker_pool_check(wp);
}

static void
op_drain(struct pool *p)
{
	struct worker_pool *wp = p->impl;

	wp->draining = true;
	worker_pool_check(wp);
}

static void
op_kill(struct pool *p)
{
	struct worker_pool *wp = p->impl;
	struct list *l;
	struct worker *w;

	wp->draining = true;
	foreach_worker(w, wp, l)
		worker_kill(w);
	worker_pool_check(wp);
}

static void
op_reconfigure(struct pool *p, const struct config_section *section)
{
	struct worker_pool *wp = p->impl;
	struct settings *set = settings_read(p, NULL, section), *old = wp->set;

	if (set == NULL)
		return;
	wp->set = set;
	if (set->min != old->min || set->max != old->max)
		take_limits(wp, set->min, set->max);
	if (!settings_same_worker(set, old)) {
		wp->generation++;
		wp->failures = 0;
		wp->start_not_before_us = 0;
		log_notice(LOG_POOL_EVENT(p->name, EVENT_WORKERS_REPLACED),
		    "its workers are replaced one by "
		    "one");
	}
	if (set->limits.tasks_max != old->limits.tasks_max ||
	    set->limits.cpu_percent != old->limits.cpu_percent)
		settings_warn_limits(p, set);
	settings_free(old);
	worker_pool_check(wp);
}

static void
op_fini(struct pool *p)
{
	struct worker_pool *wp = p->impl;
	struct list *l;

	while ((l = list_first(&wp->workers)) != NULL)
		worker_free(list_entry(l, struct worker, link));
	if (wp->loop != NULL)
		timer_cancel(wp->loop, &wp->timer);
	task_cancel(&wp->task);
	settings_free(wp->set);
	buffer_done(&wp->scratch);
	free(wp);
	p->impl = NULL;
}

static void
op_status(struct pool *p, json_t *object)
{
	struct worker_pool *wp = p->impl;
	struct census n = count(wp);

	json_object_set_new(object, "starting", json_integer(n.starting));
	json_object_set_new(object, "crashes",
	    json_integer((json_int_t)p->stats.crashes));
	json_object_set_new(object, "timeouts",
	    json_integer((json_int_t)p->stats.timeouts));
	json_object_set_new(object, "cgroups", json_string(cgroups_kind()));
	json_object_set_new(object, "cgroups_missing",
	    cgroups_missing() != NULL ? json_string(cgroups_missing()) :
	    json_null());
	if (wp->set != NULL)
		json_object_set_new(object, "program",
		    json_string_nocheck(wp->set->program));
}

static void
op_debug(struct pool *p, json_t *array)
{
	struct worker_pool *wp = p->impl;
	uint64_t now = loop_now_us(wp->loop);
	struct list *l, *ml;
	struct worker *w;

	foreach_worker(w, wp, l) {
		json_t *messages = json_array();

		list_foreach(ml, &w->messages) {
			const struct message *m = list_entry(ml,
			    struct message, worker_link);

			if (json_array_size(messages) == 16)
				break;
			json_array_append_new(messages,
			    json_stringn(m->name.p, m->name.n));
		}
		json_array_append_new(array, json_pack(
		    "{s:s s:i s:s s:i s:i s:i s:I s:I s:f s:i s:I s:o}",
		    "pool", p->name, "pid", (int)w->pid,
		    "state", worker_state_name(w),
		    "in_flight", (int)w->inflight, "ready", (int)w->ready,
		    "ahead", (int)w->depth,
		    "answered", (json_int_t)w->answered,
		    "strange", (json_int_t)w->strange,
		    "age_seconds", (double)(now - w->started_us) / 1e6,
		    "generation", (int)w->generation,
		    "cgroup_bytes", (json_int_t)cgroup_memory_bytes(w->group),
		    "messages", messages));
	}
}

static const struct handler_ops ops = {
	.init = op_init,
	.start = op_start,
	.slots = op_slots,
	.submit = op_submit,
	.demand = op_demand,
	.cancel = op_cancel,
	.scale = op_scale,
	.drain = op_drain,
	.kill = op_kill,
	.reconfigure = op_reconfigure,
	.fini = op_fini,
	.status = op_status,
	.debug = op_debug,
};

static const char *const handler_keys[] = { "Exec", "Command", "Module", NULL };

const struct handler_type worker_handler_type = {
	.name = "worker",
	.keys = handler_keys,
	.kind = &worker_pool_kind,
	.ops = &ops,
};
