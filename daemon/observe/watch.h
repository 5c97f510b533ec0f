/*
 * watch.h - what observe/ remembers about each queue and pool.
 *
 * Private to observe/.  The engine's objects come and go with reloads: a watch
 * finds its object by name at each look and never follows an old pointer.
 */
#ifndef BOT_OBSERVE_WATCH_H
#define BOT_OBSERVE_WATCH_H

#include "observe/check_impl.h"
#include "observe/lines.h"
#include "observe/observer.h"

#define SAMPLE_EVERY_US		USEC_PER_SEC
#define WINDOW_US		(60 * USEC_PER_SEC)
#define NSAMPLES		61	/* a minute, both ends included */
#define HISTOGRAM_EVERY_US	(10 * USEC_PER_SEC)
#define NHISTOGRAMS		7
#define STARTING_GRACE_US	(30 * USEC_PER_SEC)
#define STALL_US		(60 * USEC_PER_SEC)

struct alerts;
struct history;

struct check {
	enum health state;	/* STARTING, OK, DEGRADED or DOWN */
	char detail[384];
	uint64_t since_us;	/* when state became what it is; monotonic */
};

struct sample {
	uint64_t at_us;
	uint64_t received;
	uint64_t done;
	uint64_t failed;
	uint64_t settle_errors;
};

struct watch_queue {
	struct list link;
	char *name;
	const struct queue *queue;	/* to compare with, never to follow */
	bool seen;			/* mark and sweep */
	bool was_up;
	struct sample samples[NSAMPLES];	/* a ring */
	unsigned first, nsamples;
	struct histogram histograms[NHISTOGRAMS];	/* of the past, a ring */
	uint64_t histogram_at_us[NHISTOGRAMS];
	unsigned first_histogram, nhistograms;
	uint64_t progress;		/* whatever moves, added up */
	uint64_t stalled_us;		/* work and no progress since; 0: no */
	struct check check;
	struct recent_lines lines;
};

struct watch_pool {
	struct list link;
	char *name;
	const struct pool *pool;	/* to compare with, never to follow */
	bool seen;
	bool was_up;
	uint64_t verdicts;
	uint64_t stuck_us;		/* all busy, no verdict since; 0: no */
	struct check check;
	struct recent_lines lines;
};

struct observer {
	struct loop *loop;
	struct engine *engine;
	struct timer tick;
	char *instance;			/* NULL: the configuration's */
	struct list queues, pools;
	const struct checks *checks;	/* NULL: there are none */
	const struct guards *guards;	/* NULL: there are none */
	uint64_t started_us;		/* monotonic */
	uint64_t begun_us;		/* the same, or the end of standby */
	uint64_t started_realtime_us;
	uint64_t tick_us;		/* when the last sample was taken */
	uint64_t late_us;		/* how late that was */
	uint64_t held_up_at_us;		/* the last bad delay, and how long */
	uint64_t held_up_us;
	struct check loop_check;
	enum health overall;
	uint64_t overall_since_us;
	struct history *history;
	struct log_lines log;
	struct alerts *alerts;		/* NULL: none; it registers itself */
	observer_part_fn *sinks;	/* NULL: there are none */
	void *sinks_owner;
	observer_metrics_fn *sinks_metrics;	/* NULL: they have none */
	void *sinks_metrics_owner;
};

/* What a queue did in the last minute. */
struct recent {
	double seconds;
	double rate;			/* verdicts a second */
	double received_rate;
	double error_percent;
	uint64_t verdicts;		/* that error_percent is made of */
	struct histogram processing;
};

/* Makes, finds or starts over the watches of all that the engine has. */
void	watch_sync(struct observer *);
struct watch_queue *watch_find_queue(struct observer *, const struct queue *);
struct watch_pool *watch_find_pool(struct observer *, const struct pool *);
void	watch_recent(const struct watch_queue *, const struct queue *,
	    struct recent *ret);
/* Seconds of the last minute in which settlements failed. */
unsigned watch_settle_error_seconds(const struct watch_queue *,
	    const struct queue *);

/* Brings all checks and the overall state up to date. */
void	health_judge(struct observer *);

/* The sample of the backlog is of now: connected, and not old. */
bool	watch_backlog_fresh(const struct queue *);

/* Of one [Check NAME]: OK, STARTING while it is pending, DEGRADED, WARNING. */
enum health health_of_dependency(const struct dependency *);

/* Of the operator itself, without its workers; NAN: not known. */
struct watch_process {
	double rss_bytes;
	double cpu_seconds;
	double descriptors, descriptors_max;	/* that are watched */
};

void	watch_process(const struct loop *, struct watch_process *ret);

const char *observer_instance(const struct observer *);
/* When the monotonic time was, as wall clock. */
uint64_t watch_realtime_us(uint64_t monotonic_us);

#endif
