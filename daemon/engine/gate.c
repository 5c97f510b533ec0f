/*
 * Requires=: a queue takes nothing while something that its handler needs is
 * down, so that no message burns an attempt on it.
 *
 * A gate is the engine's side of a [Check NAME]: it is closed until the check
 * says otherwise.  What waits here goes back to its broker when one closes, as
 * with every pause of unknown length: so no lease runs out in our memory, and
 * another operator that can still reach the thing may take it.  What runs goes
 * on.
 *
 * When all gates are open again the queue starts with one message at a time,
 * and each time so many were worked on, or RAMP_STEP_US have passed, it may be
 * twice as many: what has just come back is not flooded.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "engine/internal.h"

#define RAMP_STEP_US	(10 * USEC_PER_SEC)

struct gate {
	struct list link;
	bool open;
	char name[];
};

static struct gate *
find(struct engine *e, const char *name)
{
	struct list *l;

	list_foreach(l, &e->gates) {
		struct gate *g = list_entry(l, struct gate, link);

		if (strcmp(g->name, name) == 0)
			return g;
	}
	return NULL;
}

bool
engine_gate_is_open(struct engine *e, const char *name)
{
	const struct gate *g = find(e, name);

	return g != NULL && g->open;
}

bool
queue_requires(const struct queue *q, const char *name)
{
	for (char *const *r = q->requires; r != NULL && *r != NULL; r++)
		if (strcmp(*r, name) == 0)
			return true;
	return false;
}

const char *
queue_closed_gate(const struct queue *q)
{
	for (char *const *r = q->requires; r != NULL && *r != NULL; r++)
		if (!engine_gate_is_open(q->engine, *r))
			return *r;
	return NULL;
}

void
gates_apply(struct queue *q)
{
	if (queue_closed_gate(q) != NULL) {
		ramp_end(q);
		engine_pause(q->engine, q, PAUSED_BY_CHECK);
	} else if ((q->paused & PAUSED_BY_CHECK) != 0) {
		q->ramp = 1;
		q->ramp_done = 0;
		timer_arm(q->loop, &q->ramp_timer, RAMP_STEP_US);
		engine_resume(q->engine, q, PAUSED_BY_CHECK);
	}
}

void
engine_gate(struct engine *e, const char *name, bool open)
{
	struct gate *g = find(e, name);
	size_t n = strlen(name) + 1;
	struct list *l;
	struct queue *q;

	if (g == NULL) {
		g = xcalloc(1, sizeof(*g) + n);
		memcpy(g->name, name, n);
		list_push_back(&e->gates, &g->link);
	}
	if (g->open == open)
		return;
	g->open = open;
	engine_foreach_queue(q, e, l)
		if (!q->removed && queue_requires(q, name))
			gates_apply(q);
}

void
gates_forget(struct engine *e, const struct config *c)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &e->gates) {
		struct gate *g = list_entry(l, struct gate, link);

		if (c != NULL && config_find(c, "Check", g->name) != NULL)
			continue;
		list_remove(&g->link);
		free(g);
	}
}

/* ---- the way up ---- */

void
ramp_end(struct queue *q)
{
	q->ramp = 0;
	timer_cancel(q->loop, &q->ramp_timer);
}

static void
ramp_up(struct queue *q)
{
	/* Prefetch= has at most six digits: dispatch ends it before. */
	q->ramp = MIN(q->ramp * 2, UINT32_MAX / 4);
	q->ramp_done = 0;
	timer_arm(q->loop, &q->ramp_timer, RAMP_STEP_US);
}

void
ramp_timer_fired(struct timer *t)
{
	struct queue *q = t->owner;

	if (q->ramp != 0)
		ramp_up(q);
	engine_wake(q->engine);
}

void
ramp_verdict(struct queue *q, enum verdict_kind kind)
{
	/* A retry may well be the thing's doing, again. */
	if (q->ramp != 0 && kind != VERDICT_RETRY && ++q->ramp_done >= q->ramp)
		ramp_up(q);
}

unsigned
ramp_allows(const struct queue *q)
{
	if (q->ramp == 0)
		return UINT32_MAX;
	return q->ramp > q->nrunning ? q->ramp - q->nrunning : 0;
}
