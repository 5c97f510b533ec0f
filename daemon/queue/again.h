/*
 * again.h - what a service did not do for us is asked for again, ever more
 * seldom, until the lease of its message ends.
 *
 * A struct again lies in the owner's object and is in one list at a time: the
 * owner's while it is to be done or under way, and again_list.paused between.
 */
#ifndef BOT_QUEUE_AGAIN_H
#define BOT_QUEUE_AGAIN_H

#include "base/list.h"
#include "loop/loop.h"

struct again {
	struct list link;
	uint64_t until_us;		/* the lease's end: no sense after it */
	uint64_t due_us;		/* while it is paused */
	unsigned failures;
};

struct again_list {
	struct loop *loop;
	struct list paused;
	struct timer timer;
	/* It is due; the callee puts it into another list. */
	void (*due)(struct again_list *, struct again *);
	uint64_t count;			/* that were paused, ever */
};

void	again_init(struct again_list *, const char *name, struct loop *,
	    void (*due)(struct again_list *, struct again *));
/* Nothing more becomes due; who is paused stays in the list. */
void	again_stop(struct again_list *);
/* The lease has ended, by our count, which is on the safe side. */
bool	again_over(const struct again *, uint64_t now_us);
/*
 * It has failed, failures times with this one, and is not over.  A settlement's
 * last try is when the lease ends; a renewal must be done before.
 */
void	again_later(struct again_list *, struct again *, bool renewal);

#endif
