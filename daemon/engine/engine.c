#include "engine/engine.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/internal.h"

/* ---- which section means what ---- */

const struct handler_type *
handler_of(const struct engine_types *types, const struct config_section *s)
{
	for (size_t i = 0; types->handlers[i] != NULL; i++)
		for (size_t k = 0; types->handlers[i]->keys[k] != NULL; k++)
			if (config_is_set(s, types->handlers[i]->keys[k]))
				return types->handlers[i];
	return NULL;
}

static const struct queue_type *
type_of(const struct engine_types *types, const struct config_section *s)
{
	const char *name = config_string(s, "Type");

	for (size_t i = 0; name != NULL && types->queues[i] != NULL; i++)
		if (strcmp(types->queues[i]->name, name) == 0)
			return types->queues[i];
	return NULL;
}

const char *
queue_section_pool(const struct config *c, const struct config_section *s)
{
	const char *name = config_string(s, "Pool");
	const struct config_section *only = config_next(c, "Pool", NULL);

	if (name != NULL)
		return name;
	if (only == NULL || config_next(c, "Pool", only) != NULL)
		return NULL;
	return config_label(only);
}

/* ---- checks between sections ---- */

static void
check_pool(struct config *c, const struct config_section *s,
    const struct engine_types *types)
{
	const char *first = NULL;

	for (size_t i = 0; types->handlers[i] != NULL; i++) {
		for (size_t k = 0; types->handlers[i]->keys[k] != NULL; k++) {
			const char *key = types->handlers[i]->keys[k];

			if (!config_is_set(s, key))
				continue;
			if (first != NULL)
				config_problem(c, s, key, "%s= and %s= are both "
				    "set; a pool has one handler", first, key);
			first = key;
		}
	}
	if (first == NULL)
		config_problem(c, s, NULL, "no handler: set one of Exec=, "
		    "Command=, Module=, Http=");
}

/* A name that is not there: "; did you mean ...", or nothing. */
static void
problem_unknown(struct config *c, const struct config_section *s,
    const char *key, const char *kind, const char *name)
{
	const struct config_section *other = NULL;
	const char *names[64], *close;
	size_t n = 0;

	while (n < ARRAY_SIZE(names) &&
	    (other = config_next(c, kind, other)) != NULL)
		names[n++] = config_label(other);
	close = config_suggest(name, names, n);
	config_problem(c, s, key, "there is no [%s %s]%s%s%s", kind, name,
	    close != NULL ? "; did you mean \"" : "",
	    close != NULL ? close : "", close != NULL ? "\"?" : "");
}

static void
check_queue(struct config *c, const struct config_section *s)
{
	const char *name = queue_section_pool(c, s);
	const struct config_section *pool;

	if (name == NULL) {
		config_problem(c, s, NULL, "no Pool=: which [Pool NAME] shall "
		    "run its messages?");
		return;
	}
	pool = config_find(c, "Pool", name);
	if (pool == NULL) {
		problem_unknown(c, s, "Pool", "Pool", name);
		return;
	}
	if (config_span_us(s, "MaxLease") < config_span_us(s, "Lease"))
		config_problem(c, s, "MaxLease", "MaxLease= is shorter than "
		    "Lease=");
	if (config_span_us(pool, "Timeout") > config_span_us(s, "MaxLease"))
		config_problem(c, s, "MaxLease", "MaxLease= is shorter than "
		    "Timeout= of [Pool %s] (%s): a long run would lose its "
		    "lease and be done twice; raise one or lower the other",
		    name, config_origin(pool, "Timeout"));
	for (char *const *r = config_words(s, "Requires"); *r != NULL; r++)
		if (config_find(c, "Check", *r) == NULL)
			problem_unknown(c, s, "Requires", "Check", *r);
	if (config_words(s, "Require")[0] != NULL &&
	    config_choice(s, "Format") == FORMAT_RAW)
		config_problem(c, s, "Require", "Require= needs Format=json or "
		    "Format=cloudevents");
}

void
engine_check(struct config *c, const struct engine_types *types)
{
	const struct config_section *s = NULL;
	struct engine *e;

	while ((s = config_next(c, "Pool", s)) != NULL)
		check_pool(c, s, types);
	while ((s = config_next(c, "Queue", s)) != NULL)
		check_queue(c, s);
	if (config_problems(c) != 0)
		return;
	if (config_next(c, "Queue", NULL) == NULL) {
		config_problem(c, NULL, NULL, "no [Queue NAME] section: there "
		    "is nothing to work on");
		return;
	}
	/* The kinds' own checks run in init; nothing is opened there. */
	e = engine_new(NULL, NULL, c, types);
	engine_free(e);
}

/* ---- queues ---- */

void
queue_read_common(struct queue *q, const struct config_section *s)
{
	config_range(s, "Backoff", &q->backoff_min_us, &q->backoff_max_us);
	q->max_attempts = (unsigned)config_unsigned(s, "MaxAttempts");
	q->weight = (unsigned)config_unsigned(s, "Weight");
	q->prefetch = (unsigned)config_unsigned(s, "Prefetch");
	q->lease_us = config_span_us(s, "Lease");
	q->max_lease_us = config_span_us(s, "MaxLease");
	q->max_bytes = (size_t)config_bytes(s, "MaxBytes");
	q->format = config_choice(s, "Format");
	q->require = config_words(s, "Require");
	q->requires = config_words(s, "Requires");
	q->order_by = config_string(s, "OrderBy");
	q->rate_limit = config_rate(s, "RateLimit");
	q->tokens = MIN(q->tokens, 1.0);
}

void
queue_set_pool(struct queue *q, struct pool *p)
{
	if (q->pool == p)
		return;
	if (q->pool != NULL) {
		if (q->pool->next_queue == q)
			q->pool->next_queue = NULL;
		list_remove(&q->pool_link);
	}
	q->pool = p;
	if (p == NULL)
		return;
	list_push_back(&p->queues, &q->pool_link);
	q->max_crashes = (unsigned)config_unsigned(p->section, "MaxCrashes");
	if (p->up)
		q->paused &= ~PAUSED_BY_POOL;
	else
		q->paused |= PAUSED_BY_POOL;
}

struct queue *
queue_create(struct engine *e, struct config *c, const struct config_section *s)
{
	struct queue *q = new0(struct queue);
	const char *pool = queue_section_pool(c, s);

	q->name = xstrdup(config_label(s));
	q->serial = ++e->last_serial;
	q->type = type_of(e->types, s);
	q->engine = e;
	q->loop = e->loop;
	q->resolver = e->resolver;
	q->config = config_ref(c);
	q->section = s;
	list_init(&q->pool_link);
	list_init(&q->waiting);
	list_init(&q->held);
	list_init(&q->delayed);
	list_init(&q->running);
	list_init(&q->settling);
	list_init(&q->leases);
	hash_init(&q->orders);
	timer_init(&q->lease_timer, "queue.lease", lease_timer_fired, q);
	timer_init(&q->delay_timer, "queue.delay", delay_timer_fired, q);
	timer_init(&q->rate_timer, "queue.rate", rate_timer_fired, q);
	timer_init(&q->probe_timer, "queue.probe", probe_timer_fired, q);
	timer_init(&q->pause_timer, "queue.pause", pause_timer_fired, q);
	timer_init(&q->ramp_timer, "queue.ramp", ramp_timer_fired, q);
	q->tokens = 1;
	q->tokens_us = q->changed_us = clock_monotonic_us();
	queue_read_common(q, s);
	list_push_back(&e->queues, &q->engine_link);
	queue_set_pool(q, engine_pool(e, pool));
	if (queue_closed_gate(q) != NULL)
		q->paused |= PAUSED_BY_CHECK;
	q->type->ops->init(q, c, s);
	queue_attach_guard(q);
	return q;
}

void
queue_attach_guard(struct queue *q)
{
	if (q->engine->guard != NULL)
		q->engine->guard->attach(q->engine->guard_owner, q);
}

void
engine_set_guard(struct engine *e, const struct guard_ops *ops, void *owner)
{
	struct list *l;
	struct queue *q;

	e->guard = ops;
	e->guard_owner = owner;
	engine_foreach_queue(q, e, l)
		queue_attach_guard(q);
}

void
queue_launch(struct queue *q)
{
	q->started = true;
	q->type->ops->start(q);
}

void
queue_destroy(struct queue *q)
{
	BUG_ON(q->nwaiting + q->nheld + q->ndelayed + q->nrunning +
	    q->nsettling != 0);
	q->type->ops->fini(q);
	if (q->guard != NULL)
		q->engine->guard->detach(q);
	timer_cancel(q->loop, &q->lease_timer);
	timer_cancel(q->loop, &q->delay_timer);
	timer_cancel(q->loop, &q->rate_timer);
	timer_cancel(q->loop, &q->probe_timer);
	timer_cancel(q->loop, &q->pause_timer);
	timer_cancel(q->loop, &q->ramp_timer);
	queue_set_pool(q, NULL);
	list_remove(&q->engine_link);
	hash_done(&q->orders);
	config_unref(q->config);
	free(q->name);
	free(q);
}

/* ---- pools ---- */

void
pool_read_common(struct pool *p, const struct config_section *s)
{
	struct list *l;

	p->timeout_us = config_span_us(s, "Timeout");
	list_foreach(l, &p->queues)
		list_entry(l, struct queue, pool_link)->max_crashes =
		    (unsigned)config_unsigned(s, "MaxCrashes");
}

struct pool *
pool_create(struct engine *e, struct config *c, const struct config_section *s)
{
	struct pool *p = new0(struct pool);

	p->name = xstrdup(config_label(s));
	p->type = handler_of(e->types, s);
	p->engine = e;
	p->loop = e->loop;
	p->config = config_ref(c);
	p->section = s;
	p->changed_us = clock_monotonic_us();
	list_init(&p->queues);
	list_push_back(&e->pools, &p->engine_link);
	pool_read_common(p, s);
	p->type->ops->init(p, c, s);
	return p;
}

void
pool_destroy(struct pool *p)
{
	BUG_ON(!list_empty(&p->queues));
	p->type->ops->fini(p);
	list_remove(&p->engine_link);
	config_unref(p->config);
	free(p->name);
	free(p);
}

void
pool_up(struct pool *p)
{
	struct list *l;

	if (p->up)
		return;
	p->up = true;
	p->changed_us = clock_monotonic_us();
	error_clear(&p->error);
	log_info(LOG_POOL_EVENT(p->name, EVENT_POOL_READY), "ready");
	list_foreach(l, &p->queues)
		engine_resume(p->engine, list_entry(l, struct queue, pool_link),
		    PAUSED_BY_POOL);
	engine_wake(p->engine);
}

void
pool_down(struct pool *p, const struct error *err)
{
	struct list *l;

	if (p->up || strcmp(p->error.code, err->code) != 0) {
		p->changed_us = clock_monotonic_us();
		log_error(LOG_POOL_EVENT(p->name, EVENT_POOL_BROKEN),
		    "no worker can run: %s (%s); its "
		    "queues wait, trying again", err->text, err->code);
	}
	p->up = false;
	p->error = *err;
	list_foreach(l, &p->queues)
		engine_pause(p->engine, list_entry(l, struct queue, pool_link),
		    PAUSED_BY_POOL);
}

/* ---- the engine ---- */

void
engine_read_operator(struct engine *e, struct config *c)
{
	const struct config_section *s = config_next(c, "Operator", NULL);

	e->drain_timeout_us = 30 * USEC_PER_SEC;
	e->max_messages = 20000;
	e->max_bytes = 64 * MIB;
	if (s == NULL)
		return;
	e->drain_timeout_us = config_span_us(s, "DrainTimeout");
	e->max_messages = (unsigned)config_unsigned(s, "MaxInFlight");
	e->max_bytes = (size_t)config_bytes(s, "MaxInFlightBytes");
}

static void
make_objects(struct engine *e)
{
	const struct config_section *s = NULL;

	while ((s = config_next(e->config, "Pool", s)) != NULL)
		pool_create(e, e->config, s);
	while ((s = config_next(e->config, "Queue", s)) != NULL)
		queue_create(e, e->config, s);
}

static void
free_objects(struct engine *e)
{
	struct list *l;

	while ((l = list_first(&e->queues)) != NULL)
		queue_destroy(list_entry(l, struct queue, engine_link));
	while ((l = list_first(&e->pools)) != NULL)
		pool_destroy(list_entry(l, struct pool, engine_link));
}

struct engine *
engine_new(struct loop *loop, struct resolver *resolver, struct config *c,
    const struct engine_types *types)
{
	struct engine *e = new0(struct engine);

	e->loop = loop;
	e->resolver = resolver;
	e->types = types;
	e->phase = ENGINE_STARTING;
	list_init(&e->queues);
	list_init(&e->pools);
	list_init(&e->gates);
	task_init(&e->dispatch_task, LOOP_DISPATCH, "engine.dispatch",
	    dispatch_task_run, e);
	timer_init(&e->drain_timer, "engine.drain", drain_timer_fired, e);
	e->config = config_ref(c);
	engine_read_operator(e, c);
	make_objects(e);
	return e;
}

void
engine_start(struct engine *e)
{
	struct list *l;
	struct queue *q;
	struct pool *p;

	e->phase = ENGINE_RUNNING;
	engine_foreach_pool(p, e, l)
		p->type->ops->start(p);
	engine_foreach_queue(q, e, l)
		queue_launch(q);
	engine_wake(e);
}

void
engine_standby(struct engine *e)
{
	BUG_ON(e->phase != ENGINE_STARTING);
	e->phase = ENGINE_STANDBY;
}

void
engine_rest(struct engine *e)
{
	BUG_ON(e->phase != ENGINE_STOPPED);
	free_objects(e);
	e->phase = ENGINE_STANDBY;
	e->on_stopped = NULL;
	make_objects(e);
}

void
engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	BUG_ON(e->phase == ENGINE_RUNNING || e->phase == ENGINE_DRAINING);
	free_objects(e);
	gates_forget(e, NULL);
	task_cancel(&e->dispatch_task);
	timer_cancel(e->loop, &e->drain_timer);
	config_unref(e->config);
	free(e);
}

struct queue *
engine_queue(struct engine *e, const char *name)
{
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, e, l)
		if (!q->removed && strcmp(q->name, name) == 0)
			return q;
	return NULL;
}

struct pool *
engine_pool(struct engine *e, const char *name)
{
	struct list *l;
	struct pool *p;

	engine_foreach_pool(p, e, l)
		if (!p->removed && strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

bool
engine_settled(const struct engine *e)
{
	uint64_t now = clock_monotonic_us();
	struct list *l;
	struct queue *q;

	if (e->messages_held != 0)
		return false;
	engine_foreach_queue(q, e, l) {
		const struct backlog *b = &q->backlog;

		if (!q->connected || b->sampled_us == 0 || !b->waiting_known ||
		    b->waiting != 0 || b->delayed != 0)
			return false;
		/* Sampled after the last thing that happened. */
		if (b->sampled_us <= q->stats.last_received_us ||
		    now - b->sampled_us > 30 * USEC_PER_SEC)
			return false;
	}
	return true;
}

void
engine_dump(const struct engine *e)
{
	struct list *l;
	struct queue *q;
	struct pool *p;

	log_at(LOG_LEVEL_CRIT, LOG_EVENT(EVENT_BUG),
	    "engine: phase %d, %u messages, %zu bytes "
	    "held", (int)e->phase, e->messages_held, e->bytes_held);
	engine_foreach_pool(p, e, l)
		log_at(LOG_LEVEL_CRIT, LOG_POOL_EVENT(p->name, EVENT_BUG),
		    "up %d, workers %u "
		    "(%u-%u), busy %u, running %u, draining %d, drained %d",
		    p->up, p->workers, p->min, p->max, p->busy, p->running,
		    p->draining, p->drained);
	engine_foreach_queue(q, e, l)
		log_at(LOG_LEVEL_CRIT, LOG_QUEUE_EVENT(q->name, EVENT_BUG),
		    "connected %d (%s), "
		    "paused %#x, credit %u, waiting %u, held %u, delayed %u, "
		    "running %u, settling %u, stopping %d, stopped %d",
		    q->connected, q->error.code, q->paused, q->credit,
		    q->nwaiting, q->nheld, q->ndelayed, q->nrunning,
		    q->nsettling, q->stopping, q->stopped);
}
