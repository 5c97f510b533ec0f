/*
 * history.h - what each queue and pool did in the last 24 hours.
 *
 * Kept in the process, in fixed arrays: 10 s steps for the last hour, 1 min
 * steps for six hours, 10 min steps for 24 hours.  A queue takes about 55 KiB
 * and a pool 14 KiB; at most HISTORY_MAX of each are kept (further ones have
 * no history, which is logged once).  Memory is touched only as it fills.  A
 * restart forgets all.
 *
 * One timer takes the differences of the counters that the engine keeps.  Each
 * resolution is taken from the counters by itself, so that a coarse step is as
 * right as a fine one.  Within a step the backlog and its age are the highest
 * of the 10 s looks; in flight, workers and busy their mean.  What is not
 * known is a gap: no connection, no message (percentiles and the error rate),
 * a loop that stood still, the time before the queue was there.
 *
 * A queue that a reload makes anew keeps its history; one that is removed
 * loses it.
 */
#ifndef BOT_OBSERVE_HISTORY_H
#define BOT_OBSERVE_HISTORY_H

#include <jansson.h>

#include "engine/engine.h"

#define HISTORY_MAX		256	/* queues, and as many pools */
#define HISTORY_ERROR_TYPES	8	/* named ones of a queue; the rest is
					   "other" */
#define HISTORY_TOP_ERRORS	3	/* kept in a step: the most frequent */
#define HISTORY_SPAN_MAX_US	(24 * 3600 * USEC_PER_SEC)

enum history_of {
	HISTORY_QUEUE = 1,
	HISTORY_POOL,
};

struct history;

struct history *history_new(struct loop *, struct engine *);
void	history_free(struct history *);		/* accepts NULL */
/* After a reload: forgets what is gone, begins with what is new. */
void	history_refresh(struct history *);

/*
 * The finest steps that reach back span_us (at most HISTORY_SPAN_MAX_US), a
 * new reference; NULL when there is no such queue or pool:
 *
 *	{"queue":"orders",		("pool" for a pool)
 *	 "step_seconds":10,
 *	 "from":"2026-11-23T16:00:00Z",	begin of the first step
 *	 "until":"2026-11-23T17:00:00Z",	end of the last
 *	 "points":360,
 *	 "series":{"backlog":[12,null,...],...},	oldest first; null: gap
 *	 "errors":{"timeout":[0.1,0,...],...}}	a second; queues only
 *
 * Series of a queue: backlog, backlog_age_seconds, in_flight,
 * received_per_second, done_per_second, retried_per_second, dead_per_second,
 * error_rate_percent, processing_ms_p50, processing_ms_p95.  Of a pool:
 * workers, busy, utilization_percent, restarts (in the step).
 */
json_t	*history_json(struct history *, enum history_of, const char *name,
	    uint64_t span_us);
/* Bytes that the histories have taken, at their most. For tests. */
size_t	history_bytes(const struct history *);

#endif
