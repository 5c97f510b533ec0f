#include "sim/sim_pool.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"

#define RUN_US		(10 * USEC_PER_MSEC)
#define RESTART_US	(100 * USEC_PER_MSEC)

struct job {
	struct list link;
	struct sim_pool *owner;
	struct message *message;
	struct sim_plan plan;
	struct timer timer;
};

struct sim_pool {
	struct pool *pool;
	struct sim_workers *world;
	struct list jobs;
	unsigned njobs;
	unsigned restarting;
	bool draining, killing, told_up, told_down;
	struct task state_task;
	struct timer restart_timer;
};

static LIST_HEAD(all);

struct sim_workers *
sim_workers(const char *name)
{
	struct sim_workers *w;
	struct list *l;

	list_foreach(l, &all) {
		w = list_entry(l, struct sim_workers, link);
		if (strcmp(w->name, name) == 0)
			return w;
	}
	w = new0(struct sim_workers);
	w->name = xstrdup(name);
	list_push_back(&all, &w->link);
	return w;
}

void
sim_workers_free(void)
{
	struct list *l;

	while ((l = list_pop_front(&all)) != NULL) {
		struct sim_workers *w = list_entry(l, struct sim_workers, link);

		assert_null(w->pool);
		free(w->starts);
		free(w->name);
		free(w);
	}
}

void
sim_workers_forget(void)
{
	list_init(&all);
}

static void
tell(struct sim_pool *sp)
{
	task_schedule(sp->pool->loop, &sp->state_task);
}

/* ---- jobs ---- */

static void
job_free(struct job *j)
{
	list_remove(&j->link);
	timer_cancel(j->owner->pool->loop, &j->timer);
	j->owner->njobs--;
	j->owner->world->running--;
	free(j);
}

static void
job_over(struct timer *t)
{
	struct job *j = t->owner;
	struct sim_pool *sp = j->owner;
	struct message *m = j->message;
	struct sim_plan plan = j->plan;
	struct verdict v = { .kind = plan.kind };

	job_free(j);
	if (sp->draining)
		tell(sp);
	if (plan.returned || sp->killing) {
		pool_returned(sp->pool, m);
		return;
	}
	if (plan.kills) {
		sp->world->deaths++;
		sp->restarting++;
		if (!timer_armed(&sp->restart_timer))
			timer_arm(sp->pool->loop, &sp->restart_timer,
			    RESTART_US);
		v.kind = VERDICT_RETRY;
		v.killed_worker = true;
	}
	if (v.kind == VERDICT_DONE) {
		sim_message_of(m)->done_verdicts++;
	} else {
		v.delay_us = plan.delay_us;
		v.error_type = slice_of(plan.kills ? ERROR_TYPE_CRASH :
		    plan.error_type);
		v.detail = slice_of(plan.detail);
	}
	pool_verdict(sp->pool, m, &v);
}

static void
restart_timer_fired(struct timer *t)
{
	struct sim_pool *sp = t->owner;

	sp->restarting = 0;
	pool_slots_changed(sp->pool);
}

static void
note_start(struct sim_workers *w, const struct message *m)
{
	struct sim_message *s = sim_message_of(m);

	s->starts++;
	if ((w->nstarts & (w->nstarts - 1)) == 0)
		w->starts = xreallocarray(w->starts,
		    MAX(w->nstarts * 2, (size_t)1), sizeof(*w->starts));
	w->starts[w->nstarts++] = (struct sim_start){ .what = s,
		.at_us = clock_monotonic_us(), .attempt = m->attempt };
	w->running++;
	w->max_running = MAX(w->max_running, w->running);
}

/* ---- the pool's state, told from the loop ---- */

static void
state_task_run(struct task *t)
{
	struct sim_pool *sp = t->owner;
	struct error err;

	if (sp->world->down && !sp->told_down) {
		sp->told_down = true;
		sp->told_up = false;
		error_set(&err, ERROR_INTERNAL, "sim_pool", "no worker starts");
		pool_down(sp->pool, &err);
	} else if (!sp->world->down && !sp->told_up) {
		sp->told_up = true;
		sp->told_down = false;
		pool_up(sp->pool);
	}
	if (sp->draining && sp->njobs == 0 && !sp->pool->drained)
		pool_drained(sp->pool);
}

static void
change_state(struct sim_workers *w, bool down)
{
	w->down = down;
	if (w->pool != NULL)
		tell(w->pool->impl);
}

void
sim_pool_down(struct sim_workers *w)
{
	change_state(w, true);
}

void
sim_pool_up(struct sim_workers *w)
{
	change_state(w, false);
}

/* ---- operations ---- */

static void
read_keys(struct pool *p, const struct config_section *s)
{
	p->min = p->max = p->workers = (unsigned)config_unsigned(s, "Workers");
}

static int
op_init(struct pool *p, struct config *c, const struct config_section *s)
{
	struct sim_pool *sp = new0(struct sim_pool);

	(void)c;
	p->impl = sp;
	sp->pool = p;
	list_init(&sp->jobs);
	task_init(&sp->state_task, LOOP_DISPATCH, "sim.pool", state_task_run,
	    sp);
	timer_init(&sp->restart_timer, "sim.restart", restart_timer_fired, sp);
	read_keys(p, s);
	if (p->loop == NULL)
		return 0;
	sp->world = sim_workers(p->name);
	sp->world->pool = p;
	return 0;
}

static void
op_start(struct pool *p)
{
	tell(p->impl);
}

static unsigned
op_slots(struct pool *p)
{
	const struct sim_pool *sp = p->impl;
	unsigned busy = sp->njobs + sp->restarting;

	if (sp->world->down || sp->draining || !sp->told_up)
		return 0;
	return p->workers > busy ? p->workers - busy : 0;
}

static void
op_submit(struct pool *p, struct message *m)
{
	struct sim_pool *sp = p->impl;
	struct job *j = new0(struct job);

	assert_true(op_slots(p) > 0);
	assert_int_equal(m->state, MESSAGE_RUNNING);
	assert_false(m->lease_lost);
	j->owner = sp;
	j->message = m;
	j->plan = (struct sim_plan){
		.run_us = RUN_US,
		.kind = VERDICT_DONE,
		.delay_us = VERDICT_DELAY_DEFAULT,
		.error_type = ERROR_TYPE_EXTERNAL_API,
	};
	list_init(&j->link);
	timer_init(&j->timer, "sim.job", job_over, j);
	list_push_back(&sp->jobs, &j->link);
	sp->njobs++;
	note_start(sp->world, m);
	if (sp->world->script != NULL)
		sp->world->script(sim_message_of(m), m, &j->plan);
	if (!j->plan.returned)
		m->started_us = clock_monotonic_us();
	timer_arm(p->loop, &j->timer, j->plan.run_us);
}

static void
op_demand(struct pool *p, unsigned waiting)
{
	struct sim_pool *sp = p->impl;

	sp->world->demand = waiting;
}

static void
op_cancel(struct pool *p, struct message *m)
{
	struct sim_pool *sp = p->impl;

	assert_true(m->lease_lost);
	sp->world->cancels++;
}

static void
op_scale(struct pool *p, unsigned min, unsigned max)
{
	p->min = min;
	p->max = p->workers = max;
	tell(p->impl);
}

static void
op_drain(struct pool *p)
{
	struct sim_pool *sp = p->impl;

	sp->draining = true;
	tell(sp);
}

static void
op_kill(struct pool *p)
{
	struct sim_pool *sp = p->impl;
	struct list *l;

	sp->killing = true;
	list_foreach(l, &sp->jobs) {
		struct job *j = list_entry(l, struct job, link);

		sp->world->kills++;
		timer_arm(p->loop, &j->timer, 0);
	}
	tell(sp);
}

static void
op_reconfigure(struct pool *p, const struct config_section *s)
{
	read_keys(p, s);
	pool_slots_changed(p);
}

static void
op_fini(struct pool *p)
{
	struct sim_pool *sp = p->impl;

	assert_int_equal(sp->njobs, 0);
	if (p->loop != NULL) {
		task_cancel(&sp->state_task);
		timer_cancel(p->loop, &sp->restart_timer);
	}
	if (sp->world != NULL && sp->world->pool == p)
		sp->world->pool = NULL;
	free(sp);
}

static void
op_status(struct pool *p, json_t *object)
{
	(void)p;
	(void)object;
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
	.debug = op_status,
};

static const struct config_key keys[] = {
	{ "Fake", CONFIG_STRING, NULL, NULL, 0, 0, 0, "A handler of the tests." },
	{ "Workers", CONFIG_UNSIGNED, "4", NULL, 1, 10000, CONFIG_RELOAD,
	    "How many run at once." },
};

static const struct config_kind kind = {
	"Pool", true, NULL, NULL, keys, ARRAY_SIZE(keys),
	"Workers that follow a script.",
};

static const char *const handler_keys[] = { "Fake", NULL };

const struct handler_type sim_handler_type = { "fake", handler_keys, &kind,
	&ops };
