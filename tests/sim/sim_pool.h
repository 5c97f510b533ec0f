/*
 * sim_pool.h - a handler kind whose workers follow a script.
 *
 * Key Fake= chooses it; Workers= is how many messages run at once.  A script
 * says of each message how long it runs (virtual time) and what comes of it.
 */
#ifndef BOT_TESTS_SIM_POOL_H
#define BOT_TESTS_SIM_POOL_H

#include "engine/engine.h"
#include "sim/sim_queue.h"

extern const struct handler_type sim_handler_type;

struct sim_plan {
	uint64_t run_us;		/* default 10 ms */
	enum verdict_kind kind;		/* default VERDICT_DONE */
	uint64_t delay_us;		/* default VERDICT_DELAY_DEFAULT */
	const char *error_type;		/* default "external_api" */
	const char *detail;
	bool kills;			/* the worker dies of it */
	bool returned;			/* handed back, never started */
};

typedef void sim_script_fn(struct sim_message *, const struct message *,
	    struct sim_plan *);

/* What happened, for the order of things. */
struct sim_start {
	struct sim_message *what;
	uint64_t at_us;
	unsigned attempt;
};

struct sim_workers {
	struct list link;
	char *name;
	struct pool *pool;		/* NULL: none of that name now */
	struct loop *loop;
	sim_script_fn *script;		/* NULL: all is done in 10 ms */
	bool down;

	unsigned running, max_running;
	unsigned cancels, kills, deaths, demand;
	struct sim_start *starts;
	size_t nstarts;
};

/* The workers of the pool of that name; made when there are none. */
struct sim_workers *sim_workers(const char *name);
void	sim_workers_free(void);
void	sim_workers_forget(void);		/* after a test that failed */

void	sim_pool_down(struct sim_workers *);	/* told from the loop */
void	sim_pool_up(struct sim_workers *);

#endif
