#include "queue/walk.h"

#include "base/alloc.h"

void
walk_init(struct walk *w, struct list *walks, struct loop *loop,
    struct task *task, void (*free_fn)(struct walk *), struct dead_walk *walk,
    void *impl)
{
	w->walk = walk;
	w->free = free_fn;
	w->loop = loop;
	w->task = task;
	walk->impl = impl;
	list_push_back(walks, &w->link);
}

void
walk_done(struct walk *w)
{
	list_remove(&w->link);
}

void
walk_begin(struct walk *w)
{
	BUG_ON(w->asked || w->answer || w->answer_acted);
	error_clear(&w->error);
}

void
walk_ask(struct walk *w)
{
	w->asked = true;
}

void
walk_tell(struct walk *w, bool acted)
{
	w->answer_acted = acted;
	w->answer = !acted;
	task_schedule(w->loop, w->task);
}

bool
walk_came(struct walk *w, const struct error *err, bool acted)
{
	w->asked = false;
	if (w->walk == NULL) {
		w->free(w);
		return false;
	}
	if (err == NULL)
		return true;
	w->error = *err;
	walk_tell(w, acted);
	return false;
}

void
walk_closed(struct walk *w)
{
	if (w == NULL)
		return;
	w->walk->impl = NULL;
	w->walk = NULL;
	w->answer = w->answer_acted = false;
	if (!w->asked)
		w->free(w);
}

void
walks_answer(struct list *walks)
{
	struct list *l;

again:
	list_foreach(l, walks) {
		struct walk *w = list_entry(l, struct walk, link);
		struct error err = w->error;
		const struct error *e = error_is_set(&err) ? &err : NULL;
		bool acted = w->answer_acted;

		if (!w->answer && !acted)
			continue;
		w->answer = w->answer_acted = false;
		/* It may be closed inside: w is not touched afterwards. */
		if (acted)
			w->walk->on_acted(w->walk, e);
		else
			w->walk->on_item(w->walk, e != NULL || w->end ? NULL :
			    &w->item, e);
		goto again;
	}
}

void
walks_done(struct list *walks)
{
	struct list *l;

	/* They hold pointers to us: their owners end them first. */
	while ((l = list_first(walks)) != NULL) {
		struct walk *w = list_entry(l, struct walk, link);

		BUG_ON(w->walk != NULL);
		w->free(w);
	}
}
