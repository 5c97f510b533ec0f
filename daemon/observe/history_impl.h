/*
 * history_impl.h - how history.c keeps what history_json.c shows.
 */
#ifndef BOT_OBSERVE_HISTORY_IMPL_H
#define BOT_OBSERVE_HISTORY_IMPL_H

#include "observe/history.h"

#define LOOK_EVERY_US		(10 * USEC_PER_SEC)
#define NLEVELS			3
#define STEPS_MAX		360

enum queue_series {
	HQ_BACKLOG = 0, HQ_BACKLOG_AGE, HQ_IN_FLIGHT, HQ_RECEIVED, HQ_DONE,
	HQ_RETRIED, HQ_DEAD, HQ_ERROR_RATE, HQ_P50, HQ_P95, HQ_NSERIES,
};

enum pool_series {
	HP_WORKERS = 0, HP_BUSY, HP_UTILIZATION, HP_RESTARTS, HP_NSERIES,
};

#define NO_TYPE		0xff
#define OTHER_TYPE	HISTORY_ERROR_TYPES

struct queue_step {
	float value[HQ_NSERIES];	/* NAN: a gap */
	float error[HISTORY_TOP_ERRORS];	/* a second */
	uint8_t type[HISTORY_TOP_ERRORS];	/* index, or NO_TYPE */
};

struct pool_step {
	float value[HP_NSERIES];
};

/* How long a step is, in looks, and how many are kept. */
struct history_level {
	unsigned looks, steps;
	const char *name;
};

extern const struct history_level history_levels[NLEVELS];

/* The counters at the begin of the step that is going on. */
struct base {
	uint64_t at_us;
	uint64_t received, done, retried, dead, failed;
	uint64_t errors[HISTORY_ERROR_TYPES + 1];
	struct histogram processing;
};

/* What the looks of the step that is going on have seen. */
struct seen {
	unsigned looks, backlogs, ages;
	double backlog, age;		/* the highest */
	double in_flight, workers, busy;	/* sums */
};

struct queue_history {
	struct list link;
	char *name;
	uint64_t serial;		/* of the object that was counted */
	bool found;			/* mark and sweep */
	unsigned filled[NLEVELS];
	char types[HISTORY_ERROR_TYPES][ERROR_TYPE_MAX];
	unsigned ntypes;
	struct base base[NLEVELS];
	struct seen seen[NLEVELS];
	struct queue_step *steps[NLEVELS];	/* rings, one allocation */
};

struct pool_history {
	struct list link;
	char *name;
	const struct pool *pool;
	bool found;
	unsigned filled[NLEVELS];
	uint64_t restarts[NLEVELS];	/* at the begin of the step */
	struct seen seen[NLEVELS];
	struct pool_step *steps[NLEVELS];
};

struct history {
	struct loop *loop;
	struct engine *engine;
	struct timer timer;
	uint64_t started_us;
	uint64_t look;			/* number of the last one; from 0 */
	struct list queues, pools;
	unsigned nqueues, npools;
	bool full_told;
};

/* Where the newest step of a level is, and the one n steps before it. */
static inline size_t
history_slot(const struct history *h, unsigned level, unsigned before)
{
	const struct history_level *l = &history_levels[level];
	uint64_t newest = h->look / l->looks;

	return (size_t)((newest + l->steps - before % l->steps) % l->steps);
}

#endif
