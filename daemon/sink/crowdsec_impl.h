/*
 * crowdsec_impl.h - what the files of [CrowdSec] tell one another.
 *
 *	crowdsec_keys.c		the keys
 *	crowdsec.c		the object: made, reloaded, freed, shown
 *	crowdsec_pull.c		as bouncer: decisions in
 *	crowdsec_answer.c	what they look like
 *	crowdsec_tally.c	security events become alerts
 *	crowdsec_alert.c	what those look like
 *	crowdsec_report.c	as machine: alerts out
 *
 * The local API (LAPI) of CrowdSec 1.4 and later: localapi_swagger.yaml.
 */
#ifndef BOT_SINK_CROWDSEC_IMPL_H
#define BOT_SINK_CROWDSEC_IMPL_H

#include "base/hash.h"
#include "guard/security.h"
#include "sink/crowdsec_answer.h"
#include "sink/sink_impl.h"

struct crowdsec;

/* ---- crowdsec_keys.c ---- */

struct crowdsec_settings {
	struct config *config;		/* a reference */
	const struct config_section *section;
	char *url;			/* without a slash at its end */
	const char *key_file;		/* NULL: no bouncer */
	const char *machine, *password_file;
	uint64_t interval_us, timeout_us, window_us, banned_delay_us;
	size_t max;
	unsigned after;
	enum ban_effect effect;
	bool report;
};

void	crowdsec_settings_read(struct crowdsec_settings *, struct config *,
	    const struct config_section *);
void	crowdsec_settings_done(struct crowdsec_settings *);

/* ---- crowdsec_pull.c ---- */

enum crowdsec_pull_state {
	PULL_IDLE = 0,
	PULL_WAITING,		/* for the next time */
	PULL_ASKING,
	PULL_READING,		/* an answer, piece by piece */
	PULL_TAKING,		/* what it said */
	PULL_SWEEPING,		/* what a whole does not have any more */
};

struct crowdsec_pull {
	struct crowdsec *owner;
	enum crowdsec_pull_state state;
	struct timer timer;		/* of what comes next */
	struct http_request request;
	char *url;			/* of the request */
	struct secret *key;
	struct crowdsec_answer answer;
	size_t taken;			/* of answer.fresh */
	bool whole;			/* the next one asks for all */
	bool asked_whole;
	bool crowded;			/* there was no room for some */
	bool ever, ok;			/* one worked; the last one did */
	uint64_t pulled_us;		/* monotonic, of the last that worked */
	uint64_t pulls, failed, ignored, left_out;
	unsigned failures;		/* one after the other */
	struct error error;		/* of the last, when it failed */
};

void	crowdsec_pull_init(struct crowdsec_pull *, struct crowdsec *);
/* Begins, or begins anew: with all that there are. */
void	crowdsec_pull_start(struct crowdsec_pull *);
/* What was not read to its end is forgotten. */
void	crowdsec_pull_stop(struct crowdsec_pull *);

/* ---- crowdsec_tally.c ---- */

#define CROWDSEC_VALUE_MAX	SECURITY_NAME_MAX

struct crowdsec_alert {
	struct list link;
	enum security_kind kind;
	bool sender;			/* else an address */
	char value[CROWDSEC_VALUE_MAX + 1];
	char user[SECURITY_NAME_MAX + 1];	/* of the last event */
	char queue[SECURITY_NAME_MAX + 1];
	char reason[SECURITY_REASON_MAX + 1];
	unsigned events;
	uint64_t from_us, to_us;	/* wall clock */
};

struct crowdsec_tallies {
	struct hash hash;
	struct list all;		/* the oldest window first */
};

void	crowdsec_tallies_init(struct crowdsec_tallies *);
void	crowdsec_tallies_done(struct crowdsec_tallies *);
/*
 * First: what windows that are over have left to tell, one at a time, until
 * NULL.  Then the event itself: an alert when there are enough in its window,
 * or NULL.  Alerts are the caller's (free).
 */
struct crowdsec_alert *crowdsec_tally_over(struct crowdsec_tallies *,
	    unsigned after, uint64_t window_us);
struct crowdsec_alert *crowdsec_tally(struct crowdsec_tallies *,
	    const struct security_event *, unsigned after);

/* ---- crowdsec_alert.c ---- */

/* As the scenarios in conf/crowdsec/ are called. */
const char *crowdsec_scenario(enum security_kind);
json_t	*crowdsec_alert_json(const struct crowdsec_alert *,
	    const struct crowdsec_settings *);

/* ---- crowdsec_report.c ---- */

struct crowdsec_report {
	struct crowdsec *owner;
	struct crowdsec_tallies tallies;
	struct list waiting, flying;	/* alerts */
	unsigned nwaiting, nflying;
	struct timer timer;
	struct http_request request;
	char *url;
	struct buffer body;		/* may hold the password: wiped */
	struct secret *password, *token;
	bool logging_in, listening;
	unsigned failures;
	uint64_t not_before_us;
	uint64_t alerts;		/* made */
};

void	crowdsec_report_init(struct crowdsec_report *, struct crowdsec *);
void	crowdsec_report_start(struct crowdsec_report *);
/* Alerts stay for the next start; the token does not. */
void	crowdsec_report_stop(struct crowdsec_report *);
void	crowdsec_report_done(struct crowdsec_report *);

/* ---- crowdsec.c ---- */

struct crowdsec {
	struct sinks *sinks;
	struct crowdsec_settings settings;
	struct http_client *http;	/* NULL: not made yet */
	struct sink_record record;	/* of alerts */
	struct sink_record pull_record;	/* of decisions */
	struct sink_way way, pull_way;
	struct crowdsec_pull pull;
	struct crowdsec_report report;
	struct timer tidy;		/* what has ended is removed */
};

int	crowdsec_make_client(struct crowdsec *, struct error *);
/* How long to wait after that many failures. */
uint64_t crowdsec_delay_us(const struct crowdsec *, const struct error *,
	    unsigned failures, uint64_t least_us);

#endif
