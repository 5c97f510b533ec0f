/*
 * guard.h - who is asked about messages before they are worked on.
 *
 * At most one in an engine.  It is told of each queue and sets queue.guard to
 * an object of its own where there is something to ask; a queue with NULL
 * there costs one test of a pointer.  A message is asked about twice, from
 * inside queue_deliver(): first as soon as it has come (meet), and when its
 * size and format are what the queue promises (inspect).
 *
 * What is buried or dropped never runs.  What is delayed goes back to its
 * broker (or waits here, where the broker cannot wait, or its order must be
 * kept), does not use up an attempt, and is asked about again when it comes.
 */
#ifndef BOT_ENGINE_GUARD_H
#define BOT_ENGINE_GUARD_H

#include "engine/queue.h"

enum guard_answer {
	GUARD_PASS = 1,
	GUARD_BURY,		/* to the dead letters */
	GUARD_DELAY,
	GUARD_DROP,		/* acknowledged without work: only where a
				   configuration says so in as many words */
};

/* Filled in for an answer that is not GUARD_PASS. */
struct guard_verdict {
	const char *error_type;	/* static */
	char detail[192];
	uint64_t delay_us;	/* of GUARD_DELAY */
};

typedef enum guard_answer guard_fn(struct queue *, struct message *,
	    struct guard_verdict *ret);

/*
 * The engine logs nothing about what a guard decides, since a guard may be
 * asked to decide the same for thousands at once: it tells what it did itself,
 * within bounds.  The callbacks call nothing of the engine.
 */
struct guard_ops {
	/* The queue is new, or a reload has come by (its section may be the
	   same as before); sets queue.guard. */
	void (*attach)(void *owner, struct queue *);
	/* It is about to be freed; guard is not NULL. */
	void (*detach)(struct queue *);
	guard_fn *meet;
	guard_fn *inspect;
};

/* For the queues that there are, and all to come.  Before engine_start();
   owner must outlive the engine. */
void	engine_set_guard(struct engine *, const struct guard_ops *,
	    void *owner);

#endif
