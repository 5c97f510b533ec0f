/*
 * walk.h - what the walks over dead letters of several kinds of queue have in
 * common: that answers come from the loop, after the call has returned, once;
 * and that a walk that is closed while its broker is asked ends when the
 * answer has come.
 *
 * A struct walk lies in the kind's own object, which its free() ends.  At any
 * time a walk is idle, asked (the broker has a question) or about to tell.
 *
 *	next or act: walk_begin; then walk_ask, or walk_tell at once
 *	an answer:   if walk_came(...), go on, and walk_tell in the end
 */
#ifndef BOT_QUEUE_WALK_H
#define BOT_QUEUE_WALK_H

#include "engine/queue.h"

struct walk {
	struct list link;		/* of the walks of the queue */
	struct dead_walk *walk;		/* NULL: closed while asked */
	void (*free)(struct walk *);	/* after walk_done() */
	struct loop *loop;
	struct task *task;		/* the owner's: calls walks_answer() */
	bool asked;			/* a call is at the broker */
	bool answer, answer_acted;	/* ... or its answer waits to be told */
	bool end;			/* told as the end, unless error is set */
	struct error error;
	struct dead_item item;		/* what is told otherwise */
};

void	walk_init(struct walk *, struct list *walks, struct loop *,
	    struct task *, void (*free)(struct walk *), struct dead_walk *,
	    void *impl);
/* Out of the list; then the owner's parts may be freed. */
void	walk_done(struct walk *);
/* Of next and act: nothing may be open; no error yet. */
void	walk_begin(struct walk *);
void	walk_ask(struct walk *);
/* acted: on_acted, else on_item; from the task. */
void	walk_tell(struct walk *, bool acted);
/*
 * An answer has come.  False when there is nothing more to do: nobody listens
 * any more and it was freed, or err is told.
 */
bool	walk_came(struct walk *, const struct error *err, bool acted);
/* Of the operation close; accepts NULL. */
void	walk_closed(struct walk *);
/* Of the task: tells all that is to be told. */
void	walks_answer(struct list *walks);
/* Of fini: their owners must have closed all of them. */
void	walks_done(struct list *walks);

#endif
