/*
 * The engine's counters as they were when the interval began.
 *
 * A queue that a reload makes anew has counted from zero; what the old one did
 * in the interval that is going on is not told.  The same with one that is
 * removed.
 */
#include "base/alloc.h"
#include "sink/posthog_impl.h"

static struct posthog_queue *
find_queue(const struct posthog *k, const struct queue *q)
{
	struct list *l;

	list_foreach(l, &k->queues) {
		struct posthog_queue *b = list_entry(l, struct posthog_queue,
		    link);

		if (b->serial == q->serial)
			return b;
	}
	return NULL;
}

static struct posthog_pool *
find_pool(const struct posthog *k, const struct pool *p)
{
	struct list *l;

	list_foreach(l, &k->pools) {
		struct posthog_pool *b = list_entry(l, struct posthog_pool,
		    link);

		/* An address may be used again. */
		if (b->pool == p && strcmp(b->name, p->name) == 0 &&
		    p->stats.verdicts >= b->verdicts)
			return b;
	}
	return NULL;
}

struct posthog_queue *
posthog_counts_queue(struct posthog *k, const struct queue *q)
{
	struct posthog_queue *b = find_queue(k, q);

	if (b == NULL) {
		b = new0(struct posthog_queue);
		b->serial = q->serial;
		list_push_back(&k->queues, &b->link);
	}
	b->found = true;
	return b;
}

struct posthog_pool *
posthog_counts_pool(struct posthog *k, const struct pool *p)
{
	struct posthog_pool *b = find_pool(k, p);

	if (b == NULL) {
		b = new0(struct posthog_pool);
		b->name = xstrdup(p->name);
		b->pool = p;
		list_push_back(&k->pools, &b->link);
	}
	b->found = true;
	return b;
}

static void
queue_free(struct posthog_queue *b)
{
	list_remove(&b->link);
	free(b);
}

static void
pool_free(struct posthog_pool *b)
{
	list_remove(&b->link);
	free(b->name);
	free(b);
}

/* Those that were not found since the last sweep. */
static void
sweep(struct posthog *k)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &k->queues) {
		struct posthog_queue *b = list_entry(l, struct posthog_queue,
		    link);

		if (!b->found)
			queue_free(b);
		else
			b->found = false;
	}
	list_foreach_safe(l, tmp, &k->pools) {
		struct posthog_pool *b = list_entry(l, struct posthog_pool,
		    link);

		if (!b->found)
			pool_free(b);
		else
			b->found = false;
	}
}

static void
queue_begin(struct posthog_queue *b, const struct queue *q)
{
	const struct queue_stats *s = &q->stats;

	b->received = s->received;
	b->done = s->done;
	b->retried = s->retried;
	b->dead = s->dead;
	b->failed = s->failed;
	b->processing = s->processing;
	for (unsigned i = 0; i < s->nerrors; i++)
		b->errors[i] = s->errors[i].count;
}

static void
pool_begin(struct posthog_pool *b, const struct pool *p)
{
	b->verdicts = p->stats.verdicts;
	b->restarts = p->stats.restarts;
	b->crashes = p->stats.crashes;
	b->timeouts = p->stats.timeouts;
	b->workers = b->busy = 0;
}

void
posthog_counts_begin(struct posthog *k)
{
	struct engine *e = k->sinks->p.engine;
	struct list *l;
	struct queue *q;
	struct pool *p;

	engine_foreach_queue(q, e, l)
		queue_begin(posthog_counts_queue(k, q), q);
	engine_foreach_pool(p, e, l)
		pool_begin(posthog_counts_pool(k, p), p);
	sweep(k);
}

void
posthog_counts_look(struct posthog *k)
{
	struct engine *e = k->sinks->p.engine;
	struct list *l;
	struct pool *p;

	engine_foreach_pool(p, e, l) {
		struct posthog_pool *b = posthog_counts_pool(k, p);

		b->workers += p->workers;
		b->busy += MIN(p->busy, p->workers);
	}
}

void
posthog_counts_done(struct posthog *k)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &k->queues)
		queue_free(list_entry(l, struct posthog_queue, link));
	list_foreach_safe(l, tmp, &k->pools)
		pool_free(list_entry(l, struct posthog_pool, link));
}
