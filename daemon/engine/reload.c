/*
 * A new configuration, applied as the difference: what did not change does
 * not notice.  A queue that must be made anew gives its messages back first
 * and starts when the old one has stopped, so that no message is held twice.
 *
 * Each object keeps a reference on the tree that it was configured from.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "engine/internal.h"

static void
adopt_queue(struct queue *q, struct config *c, const struct config_section *s)
{
	struct config *old = q->config;

	queue_read_common(q, s);
	q->type->ops->reconfigure(q, s);
	q->section = s;
	q->config = config_ref(c);
	config_unref(old);
	gates_apply(q);
}

static void
adopt_pool(struct pool *p, struct config *c, const struct config_section *s)
{
	struct config *old = p->config;

	pool_read_common(p, s);
	p->type->ops->reconfigure(p, s);
	p->section = s;
	p->config = config_ref(c);
	config_unref(old);
}

static unsigned
reload_pools(struct engine *e, struct config *c)
{
	const struct config_section *s = NULL;
	struct list *l;
	struct pool *p;
	unsigned changed = 0;

	engine_foreach_pool(p, e, l) {
		s = config_find(c, "Pool", p->name);
		if (p->removed)
			continue;
		if (s == NULL || handler_of(e->types, s) != p->type) {
			log_notice(LOG_POOL_EVENT(p->name,
			    EVENT_SECTION_CHANGED),
			    "removed");
			p->removed = true;
			changed++;
		} else if (config_compare(p->section, s) != CONFIG_SAME) {
			log_notice(LOG_POOL_EVENT(p->name,
			    EVENT_SECTION_CHANGED),
			    "configuration changed");
			adopt_pool(p, c, s);
			changed++;
		}
	}
	s = NULL;
	while ((s = config_next(c, "Pool", s)) != NULL) {
		if (engine_pool(e, config_label(s)) != NULL)
			continue;
		p = pool_create(e, c, s);
		log_notice(LOG_POOL_EVENT(p->name, EVENT_SECTION_CHANGED),
		    "added");
		if (e->phase == ENGINE_RUNNING)
			p->type->ops->start(p);
		changed++;
	}
	return changed;
}

static struct queue *
any_queue(struct engine *e, const char *name)
{
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, e, l)
		if (strcmp(q->name, name) == 0)
			return q;
	return NULL;
}

/* Starts the queue of that name, unless an old one is still on its way out:
   then reload_queue_gone() comes back to it. */
static unsigned
add_queue(struct engine *e, struct config *c, const struct config_section *s)
{
	struct queue *q;

	if (any_queue(e, config_label(s)) != NULL)
		return 0;
	q = queue_create(e, c, s);
	log_notice(LOG_QUEUE_EVENT(q->name, EVENT_SECTION_CHANGED), "added");
	if (e->phase == ENGINE_RUNNING)
		queue_launch(q);
	return 1;
}

static unsigned
reload_queues(struct engine *e, struct config *c)
{
	const struct config_section *s;
	struct list *l;
	struct queue *q;
	unsigned changed = 0;

	engine_foreach_queue(q, e, l) {
		enum config_change how;

		if (q->removed)
			continue;
		s = config_find(c, "Queue", q->name);
		how = s == NULL ? CONFIG_CHANGED : config_compare(q->section, s);
		if (how != CONFIG_SAME) {
			log_notice(LOG_QUEUE_EVENT(q->name,
			    EVENT_SECTION_CHANGED),
			    s == NULL ? "removed" :
			    how == CONFIG_CHANGED ? "configuration changed: it "
			    "gives its messages back and starts anew" :
			    "configuration changed");
			changed++;
		}
		if (how == CONFIG_CHANGED) {
			q->removed = true;
			queue_retire(q);
			continue;
		}
		if (how == CONFIG_RELOADABLE)
			adopt_queue(q, c, s);
		queue_attach_guard(q);
		/* Also when only its pool was made anew: what runs there
		   still finishes there. */
		queue_set_pool(q, engine_pool(e, queue_section_pool(c, s)));
	}
	s = NULL;
	while ((s = config_next(c, "Queue", s)) != NULL)
		changed += add_queue(e, c, s);
	return changed;
}

void
reload_queue_gone(struct engine *e, const char *name)
{
	const struct config_section *s = config_find(e->config, "Queue", name);

	if (s != NULL && (e->phase == ENGINE_RUNNING ||
	    e->phase == ENGINE_STANDBY))
		add_queue(e, e->config, s);
}

unsigned
engine_reload(struct engine *e, struct config *c)
{
	struct config *old = e->config;
	unsigned changed;

	if (e->phase != ENGINE_RUNNING && e->phase != ENGINE_STANDBY)
		return 0;
	BUG_ON(config_problems(c) != 0);
	e->config = config_ref(c);
	engine_read_operator(e, c);
	changed = reload_pools(e, c);
	changed += reload_queues(e, c);
	gates_forget(e, c);
	config_unref(old);
	engine_wake(e);
	return changed;
}
