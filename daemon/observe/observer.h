/*
 * observer.h - reads the numbers off the engine and says how it goes.
 *
 * Samples every queue's and pool's counters once a second (one timer) and
 * keeps a minute of samples for rates, error rates and percentiles.  Judges
 * health by progress (invariant 8): what each queue and pool achieved lately.
 * Nothing in engine/, queue/ or worker/ includes this folder.
 */
#ifndef BOT_OBSERVE_OBSERVER_H
#define BOT_OBSERVE_OBSERVER_H

#include <jansson.h>

#include "engine/engine.h"
#include "observe/history.h"

enum health {
	HEALTH_STARTING = 1,	/* something neither came up nor failed yet, for
				   at most 30 s */
	HEALTH_OK,
	HEALTH_DEGRADED,	/* works, but a person should look */
	HEALTH_DOWN,		/* no message can be worked on */
	HEALTH_DRAINING,
	HEALTH_STANDBY,		/* takes nothing until it is promoted */
	HEALTH_WARNING,		/* of one check only, which no queue requires */
};

struct observer;
struct checks;
struct guards;

struct observer *observer_new(struct loop *, struct engine *);
void	observer_free(struct observer *);	/* accepts NULL */
/* What the status calls this instance; without it, the file's name. */
void	observer_set_instance(struct observer *, const char *name);
/* Whose results are shown and judged; they must outlive the observer. */
void	observer_set_checks(struct observer *, const struct checks *);
/* What "security" of the status document tells of besides events; it must
   outlive the observer. */
void	observer_set_guards(struct observer *, const struct guards *);
/* Makes "sinks" of the status document, which a folder above knows; NULL: it
   is empty. */
typedef json_t *observer_part_fn(void *owner);
void	observer_set_sinks(struct observer *, observer_part_fn *, void *owner);
/* That part, {} when there is none; a new reference. */
json_t	*observer_sinks(struct observer *);
/* Adds families of their own to the metrics; NULL: none. */
typedef void observer_metrics_fn(void *owner, struct buffer *);
void	observer_set_sinks_metrics(struct observer *, observer_metrics_fn *,
	    void *owner);
/* After a reload or removal: forgets queues and pools that are gone. */
void	observer_refresh(struct observer *);

/* Judged now, not at the last sample. */
enum health observer_health(struct observer *);
const char *health_name(enum health);		/* "ok", "degraded", ... */
/* Work can be done: at least one queue is connected and its pool is up. */
bool	observer_ready(struct observer *);
/* How late the loop was with the last sample, one each second. */
uint64_t observer_latency_us(const struct observer *);
/* One line for STATUS= and botctl: "ok: 3 queues, 81/s, backlog 12". */
void	observer_line(struct observer *, struct buffer *);

/* The document of /.well-known/engine-status; a new reference. */
json_t	*observer_status(struct observer *);
/* How to print it: without these, 81.2 comes out as 81.200000000000003. */
#define STATUS_DUMP_FLAGS	(JSON_COMPACT | JSON_REAL_PRECISION(12))
/* As history_json() in history.h; NULL when there is no such queue or pool. */
json_t	*observer_history(struct observer *, enum history_of, const char *name,
	    uint64_t span_us);
/*
 * The last lines of warning level or worse (at most LOG_LINES of lines.h),
 * oldest first, with a seq over after: [{"seq":7,"at":"2026-...","level":
 * "warning","text":"...","queue"|"pool"|"check":NAME}].  A new reference.
 * *ret_last: the seq of the newest line that there is; 0: none.
 */
json_t	*observer_log(struct observer *, uint64_t after, uint64_t *ret_last);
/* fn (NULL: none) is told that there is a new line, from inside whatever
   logged it. */
void	observer_on_log(struct observer *, void (*fn)(void *owner), void *owner);
/* OpenMetrics text, "# EOF" included. */
void	observer_metrics(struct observer *, struct buffer *);

#endif
