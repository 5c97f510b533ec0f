/*
 * figure.h - the figures of the status document, by their names there.
 *
 *	queue.backlog, queue.processing_ms.p95, queue.errors.timeout, ...
 *	pool.utilization_percent, ...	loop.slow_turns, ...
 *	check.ok, check.days_left, ...	sink.failing, sink.queued, ...
 *	status, backlog, ready, ...	of the operator as a whole
 *
 * Read from the counters without making the document (but for sink.X: those
 * are in a folder above, and only their document is known here).  What a kind
 * of queue adds by itself (queue_ops.status) goes by its name too; which names
 * these are only the running queue can tell.
 *
 * Besides numbers there are yes/no figures (1 and 0) and health ("ok",
 * "degraded", "down"): status or health of the operator, queue.health and
 * pool.health, which are what the document says under "checks".
 */
#ifndef BOT_OBSERVE_FIGURE_H
#define BOT_OBSERVE_FIGURE_H

#include "observe/observer.h"

enum figure_scope {
	FIGURE_OPERATOR = 1,
	FIGURE_QUEUE,			/* one for each queue */
	FIGURE_POOL,			/* one for each pool */
	FIGURE_CHECK,			/* one for each [Check NAME] */
	FIGURE_SINK,			/* one for each sink: "slack",
					   "kuma:health" */
	FIGURE_NSCOPES,
};

/* "operator", "queue", "pool", "check", "sink": what a name begins with. */
const char *figure_scope_name(enum figure_scope);

enum figure_kind {
	FIGURE_NUMBER = 1,
	FIGURE_BOOL,
	FIGURE_HEALTH,			/* the numbers of enum health */
};

#define FIGURE_NAME_MAX	96

struct figure_row;

struct figure {
	const struct figure_row *row;
	enum figure_scope scope;
	enum figure_kind kind;
	bool windowed;		/* made of the messages of the last minute */
	char name[FIGURE_NAME_MAX];	/* as written: "queue.errors.timeout" */
	size_t member;		/* where in the name an error type or a kind's
				   own figure begins; 0: neither */
};

struct figure_value {
	bool known;		/* else value is NAN */
	double value;
	uint64_t samples;	/* messages that a windowed one is made of */
};

/*
 * Looks a name up. 0; or -EINVAL and what is wrong, with the name that may
 * have been meant.  own: names of figures that kinds of queues add by
 * themselves, NULL-terminated, or NULL.
 */
int	figure_find(const char *name, size_t n, const char *const *own,
	    struct figure *ret, struct buffer *why);

/*
 * subject: the struct queue, pool or dependency (check_impl.h), or the json_t
 * of the sink in the document; NULL for the operator.  Not known are: what the
 * document shows as null; the backlog of a queue that is not connected or was
 * not asked lately; a windowed figure without a message in the window; health
 * while it is "starting".
 */
struct figure_value figure_read(const struct figure *, struct observer *,
	    const void *subject);

/* "1200", "12.5", "yes", "degraded"; "not known" for NAN. */
#define FIGURE_TEXT_BYTES	32
const char *figure_text(const struct figure *, double value,
	    char out[FIGURE_TEXT_BYTES]);

/* "queue.backlog", ...: the i-th name of the table, or NULL behind the last.
   For the manual and tests. */
const char *figure_name_at(size_t i);

#endif
