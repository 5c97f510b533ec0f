/*
 * slack_impl.h - what the files of Slack tell one another.
 *
 *	slack_keys.c	[Slack]: the keys, and reading them
 *	slack.c		events become items in lanes; coalescing; status
 *	slack_lane.c	one item after the other to one channel
 *	slack_answer.c	what Slack's answers mean
 *	slack_text.c	what a message says
 *
 * A lane is one channel (or one webhook): its messages go one by one, in
 * order, at most one a second, and a problem there delays no other lane.
 */
#ifndef BOT_SINK_SLACK_IMPL_H
#define BOT_SINK_SLACK_IMPL_H

#include "base/hash.h"
#include "sink/sink_impl.h"
#include "sink/slack_text.h"

/* docs.slack.dev, "Rate limits": a message a second per channel. */
#define SLACK_GAP_US		USEC_PER_SEC
#define SLACK_BACKOFF_US	USEC_PER_SEC
#define SLACK_BACKOFF_MAX_US	(300 * USEC_PER_SEC)
/* What a person must mend is looked at again after so long. */
#define SLACK_MEND_US		(30 * USEC_PER_SEC)
#define SLACK_RETRY_AFTER_MAX_US (3600 * USEC_PER_SEC)
/* Somebody waits for the answer; shorter than ALERT_TRY_TIMEOUT_US. */
#define SLACK_WAIT_US		(25 * USEC_PER_SEC)
#define SLACK_ANSWER_MAX	(64 * KIB)
#define SLACK_SEVERITIES	3
#define SLACK_ID_BYTES		64

enum slack_step {
	SLACK_POST = 1,		/* a new message */
	SLACK_UPDATE,		/* the message of the alert is changed */
	SLACK_REPLY,		/* in its thread */
};

/* What one event, or several of the same alert, come to. */
struct slack_item {
	struct list link;
	char *key;			/* "backlog/queue:orders" */
	uint64_t tag;			/* hash_of() it */
	enum alert_event_kind kind;
	enum alert_severity severity;
	enum slack_step step;		/* 0: not begun */
	unsigned times;
	char *message, *reply;		/* as of slack_text.h */
	uint64_t ticket;		/* 0: nobody waits */
	uint64_t give_up_us;		/* monotonic; with a ticket */
};

/* An alert that fires, and its message. */
struct slack_thread {
	struct list link;		/* the oldest first */
	struct hash_node node;
	char *key;
	char channel[SLACK_ID_BYTES];	/* its id, not its name */
	char ts[SLACK_ID_BYTES];
};

struct slack_lane {
	struct slack *slack;
	const char *target;		/* channel's name, or the webhook's
					   file; the settings' */
	struct list items;
	unsigned n;
	unsigned failures;		/* in a row */
	struct sink_way way;
	uint64_t next_us;		/* monotonic; not before */
	struct timer timer;		/* the next try */
	struct timer deadline;		/* of the first ticket */
	struct http_request request;
	struct buffer url, body;	/* of the request; the url may be
					   secret: wiped after it */
	struct secret *secret;		/* what it was sent with */
};

/* Of [Slack]; strings are the configuration's. */
struct slack_settings {
	struct config *config;		/* a reference */
	bool webhook;
	const char *token_file;
	const char *target[SLACK_SEVERITIES];
	char *endpoint;
	const char *ca_file;
	uint64_t timeout_us;
	unsigned queue_max;
	char *botctl;			/* struct slack_place's */
};

struct slack {
	struct sinks *sinks;
	struct alert_sink sink;
	struct sink_record record;
	struct slack_settings settings;
	struct http_client *http;	/* NULL: its CAFile= is no good */
	struct slack_lane lanes[SLACK_SEVERITIES];
	unsigned lane_of[SLACK_SEVERITIES];
	struct list threads;
	struct hash by_key;		/* the same */
	uint64_t coalesced;
	char host[256];
};

/* ---- slack_keys.c ---- */

/* Problems go to the configuration, of which there must be none to read. */
void	slack_settings_check(struct config *, const struct config_section *);
void	slack_settings_read(struct slack_settings *, struct config *,
	    const struct config_section *);
void	slack_settings_done(struct slack_settings *);

/* ---- slack.c ---- */

struct slack_thread *slack_thread_find(struct slack *, const char *key);
void	slack_thread_set(struct slack *, const char *key, const char *channel,
	    const char *ts);
void	slack_thread_free(struct slack *, struct slack_thread *);
void	slack_item_free(struct slack_item *);

/* ---- slack_lane.c ---- */

/* Unless it is there. Reads certificates, which takes 26 ms: at a start or a
   reload, so that no alert has to. 0, or -EINVAL and *err. */
int	slack_make_client(struct slack *, struct error *err);
void	slack_lane_init(struct slack_lane *, struct slack *);
/* Takes it over. */
void	slack_lane_add(struct slack_lane *, struct slack_item *);
/* Takes it out; it must not be on its way. */
void	slack_lane_take(struct slack_lane *, struct slack_item *);
/* The first one, while it is on its way; else NULL. */
struct slack_item *slack_lane_flying(const struct slack_lane *);
/* Nothing is on its way any more; the items stay, the first from its
   beginning or from the step that was not answered. */
void	slack_lane_stop(struct slack_lane *);
void	slack_lane_go(struct slack_lane *);
void	slack_lane_done(struct slack_lane *);	/* its items too */

/* ---- slack_answer.c ---- */

enum slack_verdict {
	SLACK_TAKEN = 1,
	SLACK_AGAIN,		/* the same again may work */
	SLACK_MEND,		/* when a person has mended something */
	SLACK_REFUSED,		/* this message never */
};

struct slack_answer {
	enum slack_verdict verdict;
	struct error error;		/* of all but TAKEN */
	uint64_t retry_after_us;
	char channel[SLACK_ID_BYTES], ts[SLACK_ID_BYTES];	/* "" unknown */
};

/* Exactly one of response and err. file: which one a person would mend. */
void	slack_judge(bool webhook, const char *target, const char *file,
	    const struct http_response *, const struct error *err,
	    const struct secret *, struct slack_answer *ret);

#endif
