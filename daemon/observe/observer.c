#include "observe/watch.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "observe/history.h"

/* ---- the watches ---- */

static void
watch_queue_free(struct watch_queue *w)
{
	list_remove(&w->link);
	free(w->name);
	free(w);
}

static void
watch_pool_free(struct watch_pool *w)
{
	list_remove(&w->link);
	free(w->name);
	free(w);
}

static void
push_histogram(struct watch_queue *w, const struct queue *q, uint64_t now)
{
	unsigned slot = (w->first_histogram + w->nhistograms) % NHISTOGRAMS;

	w->histograms[slot] = q->stats.processing;
	w->histogram_at_us[slot] = now;
	if (w->nhistograms < NHISTOGRAMS)
		w->nhistograms++;
	else
		w->first_histogram = (w->first_histogram + 1) % NHISTOGRAMS;
}

static void
push_sample(struct watch_queue *w, const struct queue *q, uint64_t now)
{
	unsigned slot = (w->first + w->nsamples) % NSAMPLES;

	w->samples[slot] = (struct sample){
		.at_us = now,
		.received = q->stats.received,
		.done = q->stats.done,
		.failed = q->stats.failed,
		.settle_errors = q->stats.settle_errors,
	};
	if (w->nsamples < NSAMPLES)
		w->nsamples++;
	else
		w->first = (w->first + 1) % NSAMPLES;
	/* After a gap the old ones say nothing about the last minute. */
	while (w->nsamples > 1 &&
	    now - w->samples[(w->first + 1) % NSAMPLES].at_us >= WINDOW_US) {
		w->first = (w->first + 1) % NSAMPLES;
		w->nsamples--;
	}
}

static const struct sample *
newest_sample(const struct watch_queue *w)
{
	return &w->samples[(w->first + w->nsamples - 1) % NSAMPLES];
}

static void
watch_queue_begin(struct watch_queue *w, const struct queue *q)
{
	uint64_t now = clock_monotonic_us();

	w->queue = q;
	w->first = w->nsamples = 0;
	w->first_histogram = w->nhistograms = 0;
	w->stalled_us = 0;
	push_sample(w, q, now);
	push_histogram(w, q, now);
}

struct watch_queue *
watch_find_queue(struct observer *o, const struct queue *q)
{
	struct watch_queue *w;
	struct list *l;

	list_foreach(l, &o->queues) {
		w = list_entry(l, struct watch_queue, link);
		if (strcmp(w->name, q->name) != 0)
			continue;
		/* A new object under an old name counts from zero again. */
		if (w->queue != q ||
		    newest_sample(w)->received > q->stats.received)
			watch_queue_begin(w, q);
		return w;
	}
	w = new0(struct watch_queue);
	w->name = xstrdup(q->name);
	w->check.since_us = clock_monotonic_us();
	watch_queue_begin(w, q);
	list_push_back(&o->queues, &w->link);
	return w;
}

struct watch_pool *
watch_find_pool(struct observer *o, const struct pool *p)
{
	struct watch_pool *w;
	struct list *l;

	list_foreach(l, &o->pools) {
		w = list_entry(l, struct watch_pool, link);
		if (strcmp(w->name, p->name) != 0)
			continue;
		if (w->pool != p) {
			w->pool = p;
			w->stuck_us = 0;
		}
		return w;
	}
	w = new0(struct watch_pool);
	w->name = xstrdup(p->name);
	w->pool = p;
	w->check.since_us = clock_monotonic_us();
	list_push_back(&o->pools, &w->link);
	return w;
}

void
watch_sync(struct observer *o)
{
	/* After it everything starts once more, with the same patience. */
	bool standby = o->engine->phase == ENGINE_STANDBY;
	struct list *l, *tmp;
	struct queue *q;
	struct pool *p;

	list_foreach(l, &o->queues)
		list_entry(l, struct watch_queue, link)->seen = false;
	list_foreach(l, &o->pools)
		list_entry(l, struct watch_pool, link)->seen = false;
	if (standby)
		o->begun_us = clock_monotonic_us();
	engine_foreach_queue(q, o->engine, l) {
		struct watch_queue *w = watch_find_queue(o, q);

		w->seen = true;
		w->was_up = !standby && (w->was_up || q->connected);
	}
	engine_foreach_pool(p, o->engine, l) {
		struct watch_pool *w = watch_find_pool(o, p);

		w->seen = true;
		w->was_up = !standby && (w->was_up || p->up);
	}
	list_foreach_safe(l, tmp, &o->queues)
		if (!list_entry(l, struct watch_queue, link)->seen)
			watch_queue_free(list_entry(l, struct watch_queue, link));
	list_foreach_safe(l, tmp, &o->pools)
		if (!list_entry(l, struct watch_pool, link)->seen)
			watch_pool_free(list_entry(l, struct watch_pool, link));
}

/* ---- the last minute ---- */

unsigned
watch_settle_error_seconds(const struct watch_queue *w, const struct queue *q)
{
	uint64_t before = w->samples[w->first].settle_errors;
	unsigned n = 0;

	for (unsigned i = 1; i < w->nsamples; i++) {
		uint64_t here =
		    w->samples[(w->first + i) % NSAMPLES].settle_errors;

		n += here > before;
		before = here;
	}
	return n + (q->stats.settle_errors > before);
}

void
watch_recent(const struct watch_queue *w, const struct queue *q,
    struct recent *ret)
{
	uint64_t now = clock_monotonic_us();
	const struct sample *old = &w->samples[w->first];
	uint64_t done = q->stats.done - old->done;
	uint64_t failed = q->stats.failed - old->failed;
	unsigned h = w->first_histogram;

	/* Not under a second: the first messages are no rate yet. */
	ret->seconds = (double)MAX(now - old->at_us, USEC_PER_SEC) / 1e6;
	ret->rate = (double)(done + failed) / ret->seconds;
	ret->received_rate =
	    (double)(q->stats.received - old->received) / ret->seconds;
	ret->verdicts = done + failed;
	ret->error_percent = done + failed == 0 ? 0 :
	    100.0 * (double)failed / (double)(done + failed);

	for (unsigned i = 1; i < w->nhistograms; i++) {
		unsigned next = (w->first_histogram + i) % NHISTOGRAMS;

		if (now - w->histogram_at_us[next] < WINDOW_US)
			break;
		h = next;
	}
	ret->processing = q->stats.processing;
	histogram_sub(&ret->processing, &w->histograms[h]);
}

bool
watch_backlog_fresh(const struct queue *q)
{
	const struct backlog *b = &q->backlog;
	uint64_t now = clock_monotonic_us(), every = 0;

	if (!q->connected || b->sampled_us == 0)
		return false;
	if (q->section != NULL)
		every = config_span_us(q->section, "BacklogInterval");
	every = MIN(every, USEC_INFINITY / 4);
	return now - MIN(now, b->sampled_us) <= MAX(3 * every, STALL_US);
}

/* ---- the clockwork ---- */

static void
take_samples(struct observer *o, uint64_t now)
{
	struct queue *q;
	struct list *l;

	engine_foreach_queue(q, o->engine, l) {
		struct watch_queue *w = watch_find_queue(o, q);
		unsigned last =
		    (w->first_histogram + w->nhistograms - 1) % NHISTOGRAMS;

		push_sample(w, q, now);
		if (now - w->histogram_at_us[last] >= HISTOGRAM_EVERY_US)
			push_histogram(w, q, now);
	}
}

static void
on_tick(struct timer *t)
{
	struct observer *o = t->owner;
	uint64_t now = clock_monotonic_us();
	uint64_t due = o->tick_us + SAMPLE_EVERY_US;

	o->late_us = now > due ? now - due : 0;
	o->tick_us = now;
	/* health.c says what is bad; here it is only kept. */
	if (o->late_us >= USEC_PER_SEC) {
		o->held_up_us = o->late_us;
		o->held_up_at_us = now;
	}
	watch_sync(o);
	health_judge(o);
	take_samples(o, now);
	timer_arm_at(o->loop, t, now + SAMPLE_EVERY_US);
}

struct observer *
observer_new(struct loop *loop, struct engine *engine)
{
	struct observer *o = new0(struct observer);

	o->loop = loop;
	o->engine = engine;
	list_init(&o->queues);
	list_init(&o->pools);
	o->started_us = o->begun_us = o->tick_us = o->overall_since_us =
	    o->loop_check.since_us = clock_monotonic_us();
	o->started_realtime_us = clock_realtime_us();
	o->overall = HEALTH_STARTING;
	o->loop_check.state = HEALTH_OK;
	timer_init(&o->tick, "observe: sample", on_tick, o);
	watch_sync(o);
	timer_arm(loop, &o->tick, SAMPLE_EVERY_US);
	o->history = history_new(loop, engine);
	recent_lines_watch(o);
	return o;
}

void
observer_free(struct observer *o)
{
	struct list *l;

	if (o == NULL)
		return;
	recent_lines_unwatch(o);
	history_free(o->history);
	timer_cancel(o->loop, &o->tick);
	while ((l = list_first(&o->queues)) != NULL)
		watch_queue_free(list_entry(l, struct watch_queue, link));
	while ((l = list_first(&o->pools)) != NULL)
		watch_pool_free(list_entry(l, struct watch_pool, link));
	free(o->instance);
	free(o);
}

void
observer_set_instance(struct observer *o, const char *name)
{
	char *copy = xstrdup(name);

	free(o->instance);
	o->instance = copy;
}

void
observer_set_checks(struct observer *o, const struct checks *checks)
{
	o->checks = checks;
}

void
observer_set_guards(struct observer *o, const struct guards *guards)
{
	o->guards = guards;
}

void
observer_set_sinks(struct observer *o, observer_part_fn *fn, void *owner)
{
	o->sinks = fn;
	o->sinks_owner = owner;
}

json_t *
observer_sinks(struct observer *o)
{
	return o->sinks != NULL ? o->sinks(o->sinks_owner) : json_object();
}

void
observer_set_sinks_metrics(struct observer *o, observer_metrics_fn *fn,
    void *owner)
{
	o->sinks_metrics = fn;
	o->sinks_metrics_owner = owner;
}

uint64_t
observer_latency_us(const struct observer *o)
{
	return o->late_us;
}

const char *
observer_instance(const struct observer *o)
{
	return o->instance != NULL ? o->instance :
	    config_instance(o->engine->config);
}

void
observer_refresh(struct observer *o)
{
	watch_sync(o);
	history_refresh(o->history);
}

json_t *
observer_history(struct observer *o, enum history_of of, const char *name,
    uint64_t span_us)
{
	return history_json(o->history, of, name, span_us);
}

uint64_t
watch_realtime_us(uint64_t monotonic_us)
{
	uint64_t now = clock_monotonic_us(), wall = clock_realtime_us();

	if (monotonic_us >= now)
		return sat_add(wall, monotonic_us - now);
	return wall - MIN(wall, now - monotonic_us);
}
