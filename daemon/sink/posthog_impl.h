/*
 * posthog_impl.h - what PostHog gets, and how.
 *
 * Who does what:
 *	posthog_keys.c		[PostHog]: the keys, and reading them
 *	posthog.c		life, the clock of the intervals, the status
 *	posthog_counts.c	the counters when the interval began
 *	posthog_figures.c	what queues and pools did in it
 *	posthog_errors.c	what failed in it, as error tracking wants it
 *	posthog_event.c		events wait, in the form in which they are sent
 *	posthog_send.c		batches, one request at a time
 *	posthog_answer.c	what PostHog's answers mean
 *
 *	POST HOST/batch/	{"api_key","batch":[event, ...],"sent_at"}
 *
 * Numbers are of an interval, never of a message.  No event holds anything
 * that a handler or a message said but the error type (and a queue's or pool's
 * name): PostHog is mostly somebody else's machine, and even our own line about
 * a dead letter quotes its handler.
 */
#ifndef BOT_SINK_POSTHOG_IMPL_H
#define BOT_SINK_POSTHOG_IMPL_H

#include "sink/sink_impl.h"

#define POSTHOG_LOOK_US		USEC_PER_SEC
#define POSTHOG_BACKOFF_US	USEC_PER_SEC
#define POSTHOG_BACKOFF_MAX_US	(60 * USEC_PER_SEC)
#define POSTHOG_MEND_US		(30 * USEC_PER_SEC)	/* a person has to */
#define POSTHOG_WAIT_MAX_US	(3600 * USEC_PER_SEC)	/* of Retry-After */
#define POSTHOG_GAP_US		USEC_PER_SEC	/* after what was refused */
/* Of a batch, before it is packed. PostHog's own clients keep to 500 kB; this
   much takes 2 ms of the loop to pack. */
#define POSTHOG_BATCH_BYTES	(256 * KIB)
#define POSTHOG_BATCH_MAX	500		/* events */
#define POSTHOG_ANSWER_MAX	(16 * KIB)

struct posthog_settings {
	struct config *config;		/* a reference; owns the strings */
	char *url;			/* "https://us.i.posthog.com/batch/" */
	const char *host, *key_file, *ca_file;	/* ca_file may be NULL */
	uint64_t interval_us, timeout_us;
	bool errors;
	unsigned errors_max, queue_max;
};

struct posthog_event {
	struct list link;
	size_t n;
	char text[];			/* JSON, its uuid in it; no NUL */
};

/* The counters of a queue when the interval began. */
struct posthog_queue {
	struct list link;
	uint64_t serial;		/* of the object that was counted */
	bool found;			/* mark and sweep */
	uint64_t received, done, retried, dead, failed;
	uint64_t errors[ERROR_TYPES_MAX];	/* the engine's order */
	struct histogram processing;
};

struct posthog_pool {
	struct list link;
	char *name;
	const struct pool *pool;	/* to compare with, never to follow */
	bool found;
	uint64_t verdicts, restarts, crashes, timeouts;
	uint64_t workers, busy;		/* sums of the looks */
};

/* Of the errors of one interval, which are told one by one. */
struct posthog_error {
	const struct queue *queue;	/* for as long as the interval closes */
	const char *type;
	uint64_t count, attempts, dead;
};

struct posthog {
	struct sinks *sinks;
	struct posthog_settings settings;
	struct sink_record record;	/* counts events */
	struct sink_way way;
	char host[256];			/* of this machine */
	char *instance, *distinct_id;

	/* the intervals */
	struct timer timer;
	uint64_t began_us, due_us;	/* monotonic */
	uint64_t intervals;
	struct list queues, pools;

	/* what waits */
	struct list events;
	unsigned n;
	size_t bytes;
	unsigned flying;		/* the first of them, in the request */
	unsigned batch_max;		/* events; less once one was too large */

	/* the request */
	struct timer send_timer;
	uint64_t next_us;		/* monotonic; not before */
	unsigned failures;
	struct http_client *http;	/* NULL: not made yet */
	struct http_request request;
	struct buffer body;		/* secret: wiped after the request */
	struct secret *key;
};

/* ---- posthog_keys.c ---- */

void	posthog_settings_check(struct config *, const struct config_section *);
void	posthog_settings_read(struct posthog_settings *, struct config *,
	    const struct config_section *);
void	posthog_settings_done(struct posthog_settings *);

/* ---- posthog_counts.c ---- */

/* An interval begins: what was counted before is nobody's business. */
void	posthog_counts_begin(struct posthog *);
/* Each POSTHOG_LOOK_US. */
void	posthog_counts_look(struct posthog *);
/* Of one; zeros when it was not there. Lives until the next begin. */
struct posthog_queue *posthog_counts_queue(struct posthog *,
	    const struct queue *);
struct posthog_pool *posthog_counts_pool(struct posthog *,
	    const struct pool *);
void	posthog_counts_done(struct posthog *);

/* ---- posthog_figures.c ---- */

/* At the start. */
void	posthog_figures_begin(struct posthog *);
/* The events of the interval; the next one begins. */
void	posthog_figures_close(struct posthog *, double seconds);

/* ---- posthog_errors.c ---- */

/* The most frequent of the n errors, ErrorsMax= at most. Sorts them. */
void	posthog_errors_add(struct posthog *, struct posthog_error *, size_t n,
	    double seconds);

/* ---- posthog_event.c ---- */

/* Takes the properties. Beyond QueueMax= the oldest is dropped. */
void	posthog_event_add(struct posthog *, const char *name,
	    json_t *properties);
void	posthog_event_take(struct posthog *, struct posthog_event *);
/* The first n, for whatever reason: they are gone. */
void	posthog_events_drop(struct posthog *, unsigned n);
static inline struct posthog_event *
posthog_event_first(const struct posthog *k)
{
	return list_first_entry(&k->events, struct posthog_event, link);
}

/* ---- posthog_send.c ---- */

void	posthog_send_init(struct posthog *);
void	posthog_send_go(struct posthog *);	/* when something waits */
/* Ends the request. Its events are sent again, with the same uuids. */
void	posthog_send_stop(struct posthog *);

/* ---- posthog_answer.c ---- */

enum posthog_verdict {
	POSTHOG_TAKEN = 1,
	POSTHOG_AGAIN,		/* the same again may work */
	POSTHOG_MEND,		/* when a person has mended something */
	POSTHOG_TOO_LARGE,	/* half of it may work */
	POSTHOG_REFUSED,	/* these events never */
};

struct posthog_answer {
	enum posthog_verdict verdict;
	struct error error;		/* of all but TAKEN */
	uint64_t retry_after_us;
};

/* Exactly one of response and err. key_file: which one a person would mend. */
void	posthog_judge(const char *key_file, const struct http_response *,
	    const struct error *err, const struct secret *key,
	    struct posthog_answer *ret);

#endif
