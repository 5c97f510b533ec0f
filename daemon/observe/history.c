#include "observe/history_impl.h"

#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "observe/watch.h"

const struct history_level history_levels[NLEVELS] = {
	{ 1, 360, "10 s" },
	{ 6, 360, "1 min" },
	{ 60, 144, "10 min" },
};

#define STEPS_IN_ALL	(360 + 360 + 144)

/* ---- queues ---- */

static unsigned
type_index(struct queue_history *h, const char *type)
{
	for (unsigned i = 0; i < h->ntypes; i++)
		if (strcmp(h->types[i], type) == 0)
			return i;
	if (h->ntypes == HISTORY_ERROR_TYPES)
		return OTHER_TYPE;
	memcpy(h->types[h->ntypes], type, sizeof(h->types[0]));
	h->types[h->ntypes][sizeof(h->types[0]) - 1] = '\0';
	return h->ntypes++;
}

static void
count_errors(struct queue_history *h, const struct queue *q,
    uint64_t counts[HISTORY_ERROR_TYPES + 1])
{
	memset(counts, 0, sizeof(uint64_t) * (HISTORY_ERROR_TYPES + 1));
	for (unsigned i = 0; i < q->stats.nerrors; i++)
		counts[type_index(h, q->stats.errors[i].type)] +=
		    q->stats.errors[i].count;
}

static void
base_take(struct queue_history *h, struct base *b, const struct queue *q,
    uint64_t now)
{
	b->at_us = now;
	b->received = q->stats.received;
	b->done = q->stats.done;
	b->retried = q->stats.retried;
	b->dead = q->stats.dead;
	b->failed = q->stats.failed;
	b->processing = q->stats.processing;
	count_errors(h, q, b->errors);
}

/* A new object under an old name has counted from zero; what the old one did
   in the step that is going on is lost. */
static void
queue_begin(struct queue_history *h, const struct queue *q)
{
	h->serial = q->serial;
	for (unsigned i = 0; i < NLEVELS; i++)
		h->base[i] = (struct base){ .at_us = h->base[i].at_us };
}

static struct queue_history *
queue_add(struct history *all, const struct queue *q, uint64_t now)
{
	struct queue_history *h = new0(struct queue_history);

	h->name = xstrdup(q->name);
	h->serial = q->serial;
	h->steps[0] = xcalloc(STEPS_IN_ALL, sizeof(struct queue_step));
	h->steps[1] = h->steps[0] + history_levels[0].steps;
	h->steps[2] = h->steps[1] + history_levels[1].steps;
	for (unsigned i = 0; i < NLEVELS; i++)
		base_take(h, &h->base[i], q, now);
	list_push_back(&all->queues, &h->link);
	all->nqueues++;
	return h;
}

static void
queue_history_free(struct history *all, struct queue_history *h)
{
	list_remove(&h->link);
	all->nqueues--;
	free(h->steps[0]);
	free(h->name);
	free(h);
}

static void
queue_look(struct queue_history *h, const struct queue *q)
{
	const struct backlog *b = &q->backlog;
	bool fresh = watch_backlog_fresh(q);
	bool known = fresh && b->waiting_known;
	bool age_known = fresh && (b->oldest_us != 0 ||
	    (b->waiting_known && b->waiting == 0));

	for (unsigned i = 0; i < NLEVELS; i++) {
		struct seen *s = &h->seen[i];

		s->looks++;
		s->in_flight += (double)q->nwaiting + q->nheld + q->ndelayed +
		    q->nrunning + q->nsettling;
		if (known) {
			s->backlogs++;
			s->backlog = MAX(s->backlog, (double)b->waiting);
		}
		if (age_known) {
			s->ages++;
			s->age = MAX(s->age, (double)b->oldest_us / 1e6);
		}
	}
}

/* The most frequent types of the step, by insertion. */
static void
top_errors(struct queue_step *step, const struct base *then,
    const struct base *now, double seconds)
{
	for (unsigned i = 0; i < HISTORY_TOP_ERRORS; i++)
		step->type[i] = NO_TYPE;
	for (unsigned t = 0; t <= OTHER_TYPE; t++) {
		float rate = (float)((double)(now->errors[t] -
		    MIN(now->errors[t], then->errors[t])) / seconds);
		unsigned at = HISTORY_TOP_ERRORS;

		if (rate <= 0)
			continue;
		while (at > 0 && (step->type[at - 1] == NO_TYPE ||
		    step->error[at - 1] < rate))
			at--;
		if (at == HISTORY_TOP_ERRORS)
			continue;
		for (unsigned i = HISTORY_TOP_ERRORS - 1; i > at; i--) {
			step->type[i] = step->type[i - 1];
			step->error[i] = step->error[i - 1];
		}
		step->type[at] = (uint8_t)t;
		step->error[at] = rate;
	}
}

static float
percentile_ms(const struct histogram *h, double percent)
{
	return h->count == 0 ? NAN :
	    (float)((double)histogram_percentile(h, percent) / 1000);
}

static void
queue_close_step(struct queue_history *h, unsigned level,
    const struct queue *q, struct queue_step *step, uint64_t now)
{
	struct base *then = &h->base[level], fresh;
	struct seen *s = &h->seen[level];
	struct histogram processing;
	double seconds, verdicts;

	for (unsigned i = 0; i < HQ_NSERIES; i++)
		step->value[i] = NAN;
	memset(step->error, 0, sizeof(step->error));
	memset(step->type, NO_TYPE, sizeof(step->type));
	h->filled[level] = MIN(h->filled[level] + 1,
	    history_levels[level].steps);
	if (s->looks == 0)
		return;
	base_take(h, &fresh, q, now);
	seconds = (double)MAX(now - then->at_us, USEC_PER_SEC) / 1e6;
	step->value[HQ_RECEIVED] =
	    (float)((double)(fresh.received - then->received) / seconds);
	step->value[HQ_DONE] =
	    (float)((double)(fresh.done - then->done) / seconds);
	step->value[HQ_RETRIED] =
	    (float)((double)(fresh.retried - then->retried) / seconds);
	step->value[HQ_DEAD] =
	    (float)((double)(fresh.dead - then->dead) / seconds);
	verdicts = (double)(fresh.done - then->done) +
	    (double)(fresh.failed - then->failed);
	if (verdicts > 0)
		step->value[HQ_ERROR_RATE] = (float)(100.0 *
		    (double)(fresh.failed - then->failed) / verdicts);
	top_errors(step, then, &fresh, seconds);
	processing = fresh.processing;
	histogram_sub(&processing, &then->processing);
	step->value[HQ_P50] = percentile_ms(&processing, 50);
	step->value[HQ_P95] = percentile_ms(&processing, 95);
	step->value[HQ_IN_FLIGHT] = (float)(s->in_flight / s->looks);
	if (s->backlogs != 0)
		step->value[HQ_BACKLOG] = (float)s->backlog;
	if (s->ages != 0)
		step->value[HQ_BACKLOG_AGE] = (float)s->age;
	*then = fresh;
	memset(s, 0, sizeof(*s));
}

/* ---- pools ---- */

static void
pool_add(struct history *all, const struct pool *p)
{
	struct pool_history *h = new0(struct pool_history);

	h->name = xstrdup(p->name);
	h->pool = p;
	h->found = true;
	h->steps[0] = xcalloc(STEPS_IN_ALL, sizeof(struct pool_step));
	h->steps[1] = h->steps[0] + history_levels[0].steps;
	h->steps[2] = h->steps[1] + history_levels[1].steps;
	for (unsigned i = 0; i < NLEVELS; i++)
		h->restarts[i] = p->stats.restarts;
	list_push_back(&all->pools, &h->link);
	all->npools++;
}

static void
pool_history_free(struct history *all, struct pool_history *h)
{
	list_remove(&h->link);
	all->npools--;
	free(h->steps[0]);
	free(h->name);
	free(h);
}

static void
pool_look(struct pool_history *h, const struct pool *p)
{
	for (unsigned i = 0; i < NLEVELS; i++) {
		h->seen[i].looks++;
		h->seen[i].workers += p->workers;
		h->seen[i].busy += MIN(p->busy, p->workers);
	}
}

static void
pool_close_step(struct pool_history *h, unsigned level, const struct pool *p,
    struct pool_step *step)
{
	struct seen *s = &h->seen[level];

	for (unsigned i = 0; i < HP_NSERIES; i++)
		step->value[i] = NAN;
	h->filled[level] = MIN(h->filled[level] + 1,
	    history_levels[level].steps);
	if (s->looks == 0)
		return;
	step->value[HP_WORKERS] = (float)(s->workers / s->looks);
	step->value[HP_BUSY] = (float)(s->busy / s->looks);
	step->value[HP_UTILIZATION] = s->workers <= 0 ? 0 :
	    (float)(100.0 * s->busy / s->workers);
	step->value[HP_RESTARTS] =
	    (float)(p->stats.restarts - h->restarts[level]);
	h->restarts[level] = p->stats.restarts;
	memset(s, 0, sizeof(*s));
}

/* ---- which there are ---- */

static struct queue_history *
find_queue(struct history *all, const char *name)
{
	struct list *l;

	list_foreach(l, &all->queues)
		if (strcmp(list_entry(l, struct queue_history, link)->name,
		    name) == 0)
			return list_entry(l, struct queue_history, link);
	return NULL;
}

static struct pool_history *
find_pool(struct history *all, const char *name)
{
	struct list *l;

	list_foreach(l, &all->pools)
		if (strcmp(list_entry(l, struct pool_history, link)->name,
		    name) == 0)
			return list_entry(l, struct pool_history, link);
	return NULL;
}

static void
tell_full(struct history *all, const char *what)
{
	if (!all->full_told)
		log_notice(LOG_EVENT(EVENT_TOO_MANY), "more than %d %s: the "
		    "history is kept of the first ones only",
		    HISTORY_MAX, what);
	all->full_told = true;
}

static void
sync_queues(struct history *all, uint64_t now)
{
	struct queue_history *h;
	struct list *l, *tmp;
	struct queue *q;

	list_foreach(l, &all->queues)
		list_entry(l, struct queue_history, link)->found = false;
	engine_foreach_queue(q, all->engine, l) {
		h = find_queue(all, q->name);
		if (h == NULL && all->nqueues < HISTORY_MAX)
			h = queue_add(all, q, now);
		if (h == NULL) {
			tell_full(all, "queues");
			continue;
		}
		h->found = true;
		if (h->serial != q->serial)
			queue_begin(h, q);
	}
	list_foreach_safe(l, tmp, &all->queues)
		if (!list_entry(l, struct queue_history, link)->found)
			queue_history_free(all,
			    list_entry(l, struct queue_history, link));
}

static void
sync_pools(struct history *all)
{
	struct pool_history *h;
	struct list *l, *tmp;
	struct pool *p;

	list_foreach(l, &all->pools)
		list_entry(l, struct pool_history, link)->found = false;
	engine_foreach_pool(p, all->engine, l) {
		h = find_pool(all, p->name);
		if (h == NULL && all->npools < HISTORY_MAX) {
			pool_add(all, p);
			continue;
		}
		if (h == NULL) {
			tell_full(all, "pools");
			continue;
		}
		h->found = true;
		if (h->pool != p || h->restarts[0] > p->stats.restarts) {
			h->pool = p;
			memset(h->restarts, 0, sizeof(h->restarts));
		}
	}
	list_foreach_safe(l, tmp, &all->pools)
		if (!list_entry(l, struct pool_history, link)->found)
			pool_history_free(all,
			    list_entry(l, struct pool_history, link));
}

void
history_refresh(struct history *all)
{
	sync_queues(all, clock_monotonic_us());
	sync_pools(all);
}

/* ---- the clockwork ---- */

/* Closes the steps that end with this look, on every level. */
static void
close_steps(struct history *all, uint64_t now)
{
	struct queue_history *qh;
	struct pool_history *ph;
	struct queue *q;
	struct pool *p;
	struct list *l;

	for (unsigned i = 0; i < NLEVELS; i++) {
		size_t slot = history_slot(all, i, 0);

		if (all->look % history_levels[i].looks != 0)
			continue;
		engine_foreach_queue(q, all->engine, l)
			if ((qh = find_queue(all, q->name)) != NULL)
				queue_close_step(qh, i, q,
				    &qh->steps[i][slot], now);
		engine_foreach_pool(p, all->engine, l)
			if ((ph = find_pool(all, p->name)) != NULL)
				pool_close_step(ph, i, p, &ph->steps[i][slot]);
	}
}

static void
look(struct history *all)
{
	struct queue_history *qh;
	struct pool_history *ph;
	struct queue *q;
	struct pool *p;
	struct list *l;

	engine_foreach_queue(q, all->engine, l)
		if ((qh = find_queue(all, q->name)) != NULL)
			queue_look(qh, q);
	engine_foreach_pool(p, all->engine, l)
		if ((ph = find_pool(all, p->name)) != NULL)
			pool_look(ph, p);
}

static void
on_timer(struct timer *t)
{
	struct history *all = t->owner;
	uint64_t now = clock_monotonic_us();
	uint64_t number = (now - all->started_us) / LOOK_EVERY_US;
	/* After a long standstill the steps before are all gaps anyway. */
	uint64_t most = (uint64_t)history_levels[NLEVELS - 1].looks *
	    (history_levels[NLEVELS - 1].steps + 1);

	history_refresh(all);
	if (number > all->look + most)
		all->look = number - most;
	while (all->look + 1 < number) {
		all->look++;
		close_steps(all, now);
	}
	if (number > all->look) {
		all->look = number;
		look(all);
		close_steps(all, now);
	}
	timer_arm_at(all->loop, t,
	    all->started_us + (all->look + 1) * LOOK_EVERY_US);
}

struct history *
history_new(struct loop *loop, struct engine *engine)
{
	struct history *all = new0(struct history);

	all->loop = loop;
	all->engine = engine;
	all->started_us = clock_monotonic_us();
	list_init(&all->queues);
	list_init(&all->pools);
	timer_init(&all->timer, "observe: history", on_timer, all);
	history_refresh(all);
	timer_arm(loop, &all->timer, LOOK_EVERY_US);
	return all;
}

void
history_free(struct history *all)
{
	struct list *l;

	if (all == NULL)
		return;
	timer_cancel(all->loop, &all->timer);
	while ((l = list_first(&all->queues)) != NULL)
		queue_history_free(all,
		    list_entry(l, struct queue_history, link));
	while ((l = list_first(&all->pools)) != NULL)
		pool_history_free(all,
		    list_entry(l, struct pool_history, link));
	free(all);
}

size_t
history_bytes(const struct history *all)
{
	return sizeof(*all) + all->nqueues * (sizeof(struct queue_history) +
	    STEPS_IN_ALL * sizeof(struct queue_step)) +
	    all->npools * (sizeof(struct pool_history) +
	    STEPS_IN_ALL * sizeof(struct pool_step));
}
