/*
 * alert.h - rules that watch figures, and tell people when one goes bad.
 *
 * A rule ([Alert NAME], or one of the four built in) looks at one figure of
 * each of its subjects - the queues, pools, checks or sinks that it is for, or
 * the operator as a whole - once a second.  For each subject it is in one of
 * these states:
 *
 *	inactive	all is well
 *	pending		the condition holds, but not for For= yet
 *	firing		it has held for For=: people are told, and again each
 *			Repeat=
 *	resolved	it was firing and is well again (shown for 15 minutes,
 *			then inactive)
 *
 * A figure that is not known (null in the status document: no connection, no
 * sample, too few messages for MinSamples=) changes nothing: what is pending
 * stays pending and its clock stands, what fires stays firing, and the status
 * says that the value is not known.  With fewer messages than MinSamples= a
 * good value still counts, a bad one does not.
 *
 * Durations are counted on the monotonic clock from look to look.  When no
 * look was possible - a restart, a loop that stood still - at most
 * ALERT_GAP_US of the time between counts, so that a restart forgets no
 * running duration and a weekend of being switched off makes no alert.
 *
 * What must survive a restart (running durations, what fires, what sinks must
 * know of it, silences) is in one small file, written as a whole beside it and
 * renamed.  It is not synced (invariant 3: the loop never waits for a disk; the
 * spool does the same): what the kernel took is safe from our death.  After a
 * power cut the file may be the one before or, on some file systems, empty;
 * then that is said and durations begin anew.
 *
 * Bounded: ALERTS_MAX pairs of rule and subject that are not inactive,
 * SILENCES_MAX silences.
 */
#ifndef BOT_OBSERVE_ALERT_H
#define BOT_OBSERVE_ALERT_H

#include "observe/alert_when.h"
#include "observe/lines.h"

#define ALERTS_MAX		1000
#define SILENCES_MAX		100
#define ALERT_SINKS_MAX		16
#define ALERT_GAP_US		(60 * USEC_PER_SEC)
#define ALERT_TRY_TIMEOUT_US	(30 * USEC_PER_SEC)
#define SILENCE_MAX_US		(366 * 86400 * USEC_PER_SEC)

extern const struct config_kind alert_kind;	/* [Alert NAME] */

enum alert_severity {
	ALERT_INFO = 1,
	ALERT_WARNING,
	ALERT_CRITICAL,
};

enum alert_state {
	ALERT_INACTIVE = 1,
	ALERT_PENDING,
	ALERT_FIRING,
	ALERT_RESOLVED,
};

const char *alert_severity_name(enum alert_severity);	/* "warning" */
const char *alert_state_name(enum alert_state);		/* "firing" */

/* ---- what sinks get ---- */

enum alert_event_kind {
	ALERT_EVENT_FIRING = 1,
	ALERT_EVENT_REPEAT,	/* still firing */
	ALERT_EVENT_RESOLVED,
	ALERT_EVENT_TEST,	/* a person asked for it; nothing is wrong */
	ALERT_EVENT_NOTICE,	/* a person or a script says something: no rule.
				   Only severity, summary, at_us, instance and
				   ticket mean something; other texts are "" */
};

const char *alert_event_name(enum alert_event_kind);	/* "firing" */

/* Lives for the call, with all it points at. No message bodies, no secrets;
   strings from configurations and peers need not be UTF-8. */
struct alert_event {
	enum alert_event_kind kind;
	enum alert_severity severity;
	const char *rule;		/* NAME of [Alert NAME] */
	const char *when;		/* "queue.backlog > 1000" */
	enum figure_scope scope;
	const char *subject;		/* the queue's, pool's, ... name, or
					   "" */
	const char *subject_title;	/* "queue:orders", "check:db",
					   "operator": stable, for keys */
	const char *figure;		/* "queue.backlog" */
	const char *op;			/* ">" */
	double value;			/* NAN: not known (any more) */
	double threshold;
	const char *value_text, *threshold_text;	/* "1200", "down" */
	uint64_t at_us, since_us;	/* wall clock: now, and when the
					   condition began to hold */
	uint64_t duration_us;		/* for which it was seen to hold */
	uint64_t for_us;		/* For= */
	const char *summary;		/* a sentence for people */
	const char *note;		/* why a resolve came without a good
					   value: "the queue is gone"; or NULL */
	const char *text, *runbook;	/* Text=, Runbook=; NULL */
	const char *instance;
	const struct recent_line *lines[RECENT_LINES];	/* oldest first */
	unsigned nlines;
	uint64_t ticket;		/* 0, or alert_answer() is wanted */
};

struct alerts;

/*
 * Where events go. Embedded by its owner; the name is what Notify= calls it
 * and lives as long as the sink.  notify() copies what it needs and returns at
 * once; it never waits.  It is called from the loop, in the order of events.
 * What a sink cannot deliver is its own to retry and to log.
 *
 * What a sink must know again after a restart it hands over with memo(), for
 * each alert that fires or has just ended, and gets back by recall() when it is
 * added: JSON that it alone understands and keeps small, or NULL.  *ret_waits:
 * what it was told of that alert is not delivered yet; then it is told again
 * after a restart.
 *
 * With a ticket, the sink owes one alert_answer() from the loop, never from
 * inside notify(); after ALERT_TRY_TIMEOUT_US nobody listens any more (then
 * it does nothing).  Tickets are never used again.
 */
struct alert_sink {
	const char *name;
	void (*notify)(struct alert_sink *, const struct alert_event *);
	/* Both or none. */
	json_t *(*memo)(struct alert_sink *, const char *rule,
	    const char *subject_title, bool *ret_waits);
	void (*recall)(struct alert_sink *, const char *rule,
	    const char *subject_title, const json_t *memo);
	void *owner;
	struct list link;		/* private to alert.c */
	uint64_t events;		/* given to it; private */
};

void	alerts_add_sink(struct alerts *, struct alert_sink *);
/* Its memos have changed: they are saved soon. */
void	alerts_memos_changed(struct alerts *);
/* Before the sink goes. No-op when it is not there. */
void	alerts_remove_sink(struct alerts *, struct alert_sink *);
/* What became of a test: ok, and a sentence for people ("posted to #ops"). */
void	alert_answer(struct alerts *, uint64_t ticket,
	    const struct alert_sink *, bool ok, const char *text);

/* ---- rules ---- */

/*
 * Checks what the key tables cannot: When=, Clear=, patterns, Notify=. Adds
 * problems to the tree. sinks: the names that Notify= may have, NULL-
 * terminated.
 */
void	alerts_check(struct config *, const struct engine_types *,
	    const char *const *sinks);
/* The rules that are there without any configuration, as one would write
   them; for the manual. */
extern const char alerts_builtin[];

/*
 * The tree must be free of problems; a reference is taken.  state_path: the
 * file for what must survive, or NULL; it is read now, and its folder (the
 * last part only) is made when something must be written.  Registers itself
 * with the observer, which must outlive it.
 */
struct alerts *alerts_new(struct loop *, struct observer *, struct config *,
	    const char *state_path);
/* Writes the file a last time. Accepts NULL. Before the observer's end. */
void	alerts_free(struct alerts *);
/*
 * After engine_reload(): a rule whose When= is the same keeps its states and
 * durations; all else about it applies at once.  What is gone and was firing
 * is resolved, with a note.
 */
void	alerts_reload(struct alerts *, struct config *);

/* ---- for botctl and the status document ---- */

/* "alerts" of the status document: all that is not inactive; worst first:
   firing before pending before resolved, critical before warning before info.
   {"name","severity","state","subject","queue"|"pool"|"check"|"sink","when",
   "value" (null: not known),"threshold","since","changed","duration_seconds",
   "for_seconds","silenced","silence","notified","text","runbook",
   "lines":[{"at","level","text"}]} */
json_t	*alerts_json(struct alerts *);
/* Every rule that is enabled: {"name","severity","when","for_seconds",
   "repeat_seconds" (null: never),"patterns","notify","text","runbook",
   "pending","firing" (how many subjects are)}. */
json_t	*alerts_rules_json(struct alerts *);
/* Something fires that no silence covers. */
bool	alerts_any_firing(const struct alerts *);
/* How many subjects of that rule do, and one of them in words (appended);
   -ENOENT when there is no such rule. */
int	alerts_rule_firing(struct alerts *, const char *rule,
	    unsigned *ret_firing, struct buffer *detail);

/*
 * A silence keeps events from the sinks of whatever its pattern (fnmatch(3))
 * matches: a rule's name, a subject ("queue:orders"), or both
 * ("backlog/queue:orders").  States go on.  What still fires when it ends, and
 * nobody was told of, is told then; the end of what people were told of is
 * told in any case.
 *
 * 0 and the id; -EINVAL or -ENOSPC and a sentence.
 */
int	alerts_silence(struct alerts *, const char *pattern, uint64_t span_us,
	    const char *reason, const char *by, uint64_t *ret_id,
	    struct buffer *why);
/* Ends those with that id or exactly that pattern; how many. */
unsigned alerts_silence_end(struct alerts *, const char *id_or_pattern);
/* [{"id","pattern","reason","by","from","until","seconds_left","matches" (how
   many of alerts_json()),"covers" (how many pairs of rule and subject, however
   they are)}] */
json_t	*alerts_silences_json(struct alerts *);

/*
 * A real notification of that rule through its sinks, marked as a test; no
 * state changes.  on_answer comes once for each sink, from the loop, then
 * on_end, and the trial is gone.  NULL, and a sentence, when there is no such
 * rule or no sink of it (then no callback).
 */
struct alert_trial;

struct alert_trial_ops {
	void (*on_answer)(void *owner, const char *sink, bool ok,
	    const char *text);
	void (*on_end)(void *owner);
};

struct alert_trial *alerts_try(struct alerts *, const char *rule,
	    const struct alert_trial_ops *, void *owner, struct buffer *why);
/*
 * Says text through the sink of that name, or through all (NULL), whatever
 * the rules say; the rest as alerts_try().
 */
#define ALERT_NOTICE_MAX	3000	/* bytes */
struct alert_trial *alerts_notify(struct alerts *, enum alert_severity,
	    const char *sink, const char *text, const struct alert_trial_ops *,
	    void *owner, struct buffer *why);
/* No callback any more. */
void	alert_trial_abandon(struct alert_trial *);

#endif
