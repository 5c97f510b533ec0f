/*
 * All the [Check NAME]s: made, started, changed by a reload, freed.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "observe/check_impl.h"

struct dependency *
checks_find(const struct checks *c, const char *name)
{
	struct dependency *d;
	struct list *l;

	checks_foreach(d, c, l)
		if (strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

static struct dependency *
dependency_new(struct checks *set, struct config *c,
    const struct config_section *s)
{
	const struct check_kind *kind = check_kind_of(c, s);
	struct dependency *d;

	if (kind == NULL)
		return NULL;
	d = new0(struct dependency);
	d->set = set;
	d->loop = set->loop;
	d->resolver = set->resolver;
	d->name = xstrdup(config_label(s));
	d->kind = kind;
	d->config = config_ref(c);
	d->section = s;
	d->state = DEPENDENCY_PENDING;
	d->since_us = clock_monotonic_us();
	check_look_init(d);
	check_read_common(d, s);
	kind->init(d, c);
	list_push_back(&set->all, &d->link);
	return d;
}

static void
dependency_free(struct dependency *d)
{
	if (d->loop != NULL)
		check_look_stop(d);
	d->kind->fini(d);
	list_remove(&d->link);
	config_unref(d->config);
	free(d->name);
	free(d);
}

struct checks *
checks_new(struct loop *loop, struct resolver *resolver,
    struct engine *engine, struct config *c)
{
	struct checks *set = new0(struct checks);
	const struct config_section *s = NULL;

	set->loop = loop;
	set->resolver = resolver;
	set->engine = engine;
	list_init(&set->all);
	while ((s = config_next(c, "Check", s)) != NULL)
		(void)dependency_new(set, c, s);
	return set;
}

void
checks_verify(struct config *c)
{
	checks_free(checks_new(NULL, NULL, NULL, c));
}

void
checks_start(struct checks *set)
{
	struct dependency *d;
	struct list *l;

	set->running = true;
	checks_foreach(d, set, l)
		check_look_now(d);
}

void
checks_stop(struct checks *set)
{
	struct dependency *d;
	struct list *l;

	set->running = false;
	checks_foreach(d, set, l)
		check_look_stop(d);
}

void
checks_free(struct checks *set)
{
	struct list *l;

	if (set == NULL)
		return;
	while ((l = list_first(&set->all)) != NULL)
		dependency_free(list_entry(l, struct dependency, link));
	free(set);
}

/* ---- reload ---- */

/* Keys that say when to look and what counts; what was found stays. */
static void
adopt(struct dependency *d, struct config *c, const struct config_section *s)
{
	struct config *old = d->config;

	check_read_common(d, s);
	d->section = s;
	d->config = config_ref(c);
	config_unref(old);
	check_judge_expiry(d);
	check_look_now(d);
}

static void
add(struct checks *set, struct config *c, const struct config_section *s)
{
	struct dependency *d = dependency_new(set, c, s);

	/* What was true of another target says nothing of this one. */
	engine_gate(set->engine, d->name, false);
	check_look_now(d);
}

static unsigned
reload_known(struct checks *set, struct config *c)
{
	unsigned changed = 0;
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &set->all) {
		struct dependency *d = list_entry(l, struct dependency, link);
		const struct log_fields f = { .event = EVENT_SECTION_CHANGED,
			.check = d->name };
		const struct config_section *s =
		    config_find(c, "Check", d->name);
		enum config_change how = s == NULL ? CONFIG_CHANGED :
		    config_compare(d->section, s);

		if (how == CONFIG_SAME)
			continue;
		/* One that is made anew is counted when it is. */
		changed += s == NULL || how == CONFIG_RELOADABLE;
		log_notice(&f, s == NULL ? "removed" : how == CONFIG_CHANGED ?
		    "configuration changed: it is pending again" :
		    "configuration changed");
		if (how == CONFIG_RELOADABLE)
			adopt(d, c, s);
		else
			dependency_free(d);
	}
	return changed;
}

unsigned
checks_reload(struct checks *set, struct config *c)
{
	const struct config_section *s = NULL;
	unsigned changed = reload_known(set, c);

	while ((s = config_next(c, "Check", s)) != NULL) {
		if (checks_find(set, config_label(s)) != NULL)
			continue;
		add(set, c, s);
		changed++;
	}
	return changed;
}
