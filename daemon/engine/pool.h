/*
 * pool.h - the interface between the engine and what runs messages.
 *
 * A handler kind (worker/: Exec, Command, Module; later Http) fills in a
 * handler_type.  The same rules as in queue.h: calls never call back before
 * they return, upcalls come from the loop.
 *
 *   init      read the section; checks go to config_problem().
 *   start     bring the pool to its minimum.
 *   slots     how many messages it would take right now.
 *   submit    takes the message (state RUNNING); there was a slot.  Answer:
 *             exactly one of pool_verdict() or pool_returned() (it was never
 *             started, nothing happened to it).
 *   demand    n messages wait for it: grow or shrink.
 *   cancel    the lease of m is lost: tell the worker; a verdict still comes.
 *   scale     new limits for the number of workers (botctl scale).
 *   drain     no submit comes any more; finish, then pool_drained().
 *   kill      the drain time is over: what still runs is killed and comes
 *             back by pool_returned().
 *   reconfigure  same handler key; workers are replaced one by one, none is
 *             killed in the middle of a message.
 *   fini      free; nothing may run.
 */
#ifndef BOT_ENGINE_POOL_H
#define BOT_ENGINE_POOL_H

#include <jansson.h>

#include "base/error.h"
#include "config/config.h"
#include "engine/message.h"
#include "engine/verdict.h"
#include "loop/loop.h"

struct engine;
struct pool;

struct handler_ops {
	int (*init)(struct pool *, struct config *, const struct config_section *);
	void (*start)(struct pool *);
	unsigned (*slots)(struct pool *);
	void (*submit)(struct pool *, struct message *);
	void (*demand)(struct pool *, unsigned waiting);
	void (*cancel)(struct pool *, struct message *);
	void (*scale)(struct pool *, unsigned min, unsigned max);
	void (*drain)(struct pool *);
	void (*kill)(struct pool *);
	void (*reconfigure)(struct pool *, const struct config_section *);
	void (*fini)(struct pool *);
	void (*status)(struct pool *, json_t *object);
	/* For "botctl debug workers": an array of objects. */
	void (*debug)(struct pool *, json_t *array);
};

struct handler_type {
	const char *name;			/* "worker", "http" */
	const char *const *keys;		/* NULL-terminated: "Exec", ...;
						   one of them set chooses it */
	const struct config_kind *kind;		/* its keys of [Pool NAME] */
	const struct handler_ops *ops;
};

struct pool_stats {
	uint64_t started, restarts;	/* workers */
	uint64_t crashes, timeouts;
	uint64_t verdicts;
	uint64_t last_verdict_us;	/* monotonic */
	uint64_t busy_us;		/* worker time spent on messages */
};

struct pool {
	char *name;
	const struct handler_type *type;
	struct engine *engine;
	struct loop *loop;
	struct list engine_link;
	struct list queues;		/* queue.pool_link */
	void *impl;

	struct config *config;		/* a reference */
	const struct config_section *section;
	uint64_t timeout_us;

	unsigned workers, busy, min, max;	/* written by the handler kind */
	/* Written by the engine. */
	bool up;			/* can run something */
	struct error error;		/* why not */
	uint64_t changed_us;
	unsigned running;		/* messages with it */
	bool draining, drained, removed;
	struct pool_stats stats;
	struct queue *next_queue;	/* round robin */
};

/* ---- upcalls ---- */

void	pool_verdict(struct pool *, struct message *, const struct verdict *);
void	pool_returned(struct pool *, struct message *);
void	pool_slots_changed(struct pool *);	/* there may be room again */
/* The worker asked for more time for m (TOUCH): at least until_us. */
void	pool_touched(struct pool *, struct message *, uint64_t until_us);
void	pool_up(struct pool *);
void	pool_down(struct pool *, const struct error *);
void	pool_drained(struct pool *);

#endif
