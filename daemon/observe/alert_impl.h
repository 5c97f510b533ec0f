/*
 * alert_impl.h - what the files of the alerts tell one another.
 *
 *	alert_rule.c	[Alert NAME]: keys, checks, which subjects
 *	alert.c		the clockwork and the states
 *	alert_event.c	events to the sinks, and tests of them
 *	alert_silence.c	silences
 *	alert_file.c	the state file
 *	alert_show.c	documents
 */
#ifndef BOT_OBSERVE_ALERT_IMPL_H
#define BOT_OBSERVE_ALERT_IMPL_H

#include "observe/alert.h"
#include "observe/watch.h"

#define ALERT_LOOK_US		USEC_PER_SEC
#define ALERT_RESOLVED_SHOWN_US	(15 * 60 * USEC_PER_SEC)
/* While something runs, the file is at most so old. */
#define ALERT_SAVE_EVERY_US	(10 * USEC_PER_SEC)
#define ALERT_FILE_MAX		MIB

struct alert_rule {
	struct list link;
	/* Its strings live as long as this tree. */
	struct config *config;
	const char *name;
	struct alert_when when;
	enum alert_severity severity;
	uint64_t for_us;
	uint64_t repeat_us;		/* USEC_INFINITY: never */
	double clear;			/* holds on while firing; when.threshold
					   without Clear= */
	uint64_t min_samples;
	char *const *patterns;		/* Queues=, Pools=, ... */
	char *const *notify;		/* empty: all */
	const char *text, *runbook;	/* NULL */
	struct list alerts;		/* those that are not inactive */
};

/* One rule and one subject, while not inactive. */
struct alert {
	struct list link;
	struct alert_rule *rule;
	enum alert_state state;		/* alert.c:enter() is its only writer */
	char *subject;			/* "" for the operator */
	bool seen;			/* mark and sweep */
	bool known;
	bool told_unknown;		/* logged */
	double value;			/* NAN when not known */
	uint64_t since_us;		/* wall clock: began to hold */
	uint64_t changed_us;		/* wall clock: in this state since */
	uint64_t held_us;		/* seen to hold; RESOLVED: had held */
	uint64_t gap_us;		/* counts as held if it holds now too */
	uint64_t quiet_us;		/* firing: since it was told last */
	uint64_t resolved_us;		/* how long it has been RESOLVED */
	bool notified;			/* people were told that it fires */
	json_t *memos;			/* by name, of sinks that are not there
					   (yet, or any more); NULL */
	bool waits;			/* one of these had not told it */
};

struct silence {
	struct list link;
	uint64_t id;
	char *pattern, *reason, *by;	/* reason, by: "" */
	uint64_t from_us, span_us;	/* wall clock */
	uint64_t until_us;		/* monotonic */
};

struct alert_trial {
	struct list link;
	struct alerts *alerts;
	struct alert_trial_ops ops;
	void *owner;
	uint64_t ticket;
	const struct alert_sink *waiting[ALERT_SINKS_MAX];
	unsigned nwaiting;
	struct timer timer;
};

struct alerts {
	struct loop *loop;
	struct observer *observer;
	struct list rules, sinks, silences, trials;
	unsigned nalerts, nsinks, nsilences;
	uint64_t dropped;		/* alerts over ALERTS_MAX */
	bool full_told;
	struct timer timer;
	uint64_t look_us;		/* monotonic, of the last look */
	uint64_t next_silence, next_ticket;
	bool notifying;			/* inside a sink's notify() */
	struct recent_lines check_lines;	/* alert_lines() made them */
	/* The file. */
	char *path;			/* NULL: none */
	bool dirty;
	bool on_disk;			/* there is something to replace */
	int save_error;			/* -errno of the last try, told */
	uint64_t saved_us;		/* monotonic */
};

/* ---- alert_rule.c ---- */

void	alert_rules_read(struct alerts *, struct config *);
void	alert_rule_free(struct alert_rule *);	/* has no alerts any more */
struct alert_rule *alert_rule_find(struct alerts *, const char *name);
/* Is the rule for a subject of this name? */
bool	alert_rule_is_for(const struct alert_rule *, const char *subject);
bool	alert_rule_notifies(const struct alert_rule *, const char *sink);

/* ---- alert.c ---- */

struct alert *alert_find(struct alert_rule *, const char *subject);
/* NULL when there are too many. */
struct alert *alert_add(struct alerts *, struct alert_rule *,
	    const char *subject);
void	alert_free(struct alerts *, struct alert *);
/* "queue:orders", "operator". */
void	alert_title(struct buffer *, const struct alert_rule *,
	    const char *subject);

#define alerts_foreach_rule(r, a, l) \
	list_foreach((l), &(a)->rules) \
		if (((r) = list_entry((l), struct alert_rule, link)) != NULL)

/* For each subject of the rule, with its figure now; a queue that is about to
   be made anew has none. */
typedef void alert_subject_fn(struct alerts *, struct alert_rule *,
	    const char *subject, struct figure_value, void *arg);
void	alert_subjects(struct alerts *, struct alert_rule *,
	    alert_subject_fn *, void *arg);

/* ---- alert_event.c ---- */

/* The last warnings of the subject, until the next call; NULL: none are kept. */
const struct recent_lines *alert_lines(struct alerts *,
	    const struct alert_rule *, const char *subject);
/* Unless silenced; true when it went to the sinks (were there any or not). */
bool	alert_tell(struct alerts *, struct alert *, enum alert_event_kind,
	    const char *note);
void	alert_trials_free(struct alerts *);
/* What its sinks must know again, by their names: a new reference. */
json_t	*alert_memos(struct alerts *, const struct alert *, bool *ret_waits);

/* ---- alert_silence.c ---- */

const struct silence *alert_silence_of(const struct alerts *,
	    const struct alert_rule *, const char *subject);
struct silence *silence_add(struct alerts *, const char *pattern,
	    const char *reason, const char *by);
void	silence_free(struct alerts *, struct silence *);
void	silences_expire(struct alerts *);

/* ---- alert_file.c ---- */

void	alert_file_load(struct alerts *);
void	alert_file_save(struct alerts *);
/* For alert_file_load() and the fuzzer: whatever bytes. 0, or -EINVAL and a
   sentence; then nothing was taken over. */
int	alert_file_parse(struct alerts *, struct slice, struct buffer *why);

#endif
