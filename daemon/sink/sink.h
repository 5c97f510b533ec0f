/*
 * sink.h - tells people and monitors: Slack ([Slack]), Uptime Kuma
 * ([Kuma NAME]) and PostHog ([PostHog]); and CrowdSec ([CrowdSec]), which also
 * says who is banned.
 *
 * A sink never delays anything else (invariant 3): it has its own connections,
 * time-outs and bounded queue, and what it cannot send waits there.  Secrets
 * (tokens, webhook URLs) are read from their files for each request and are in
 * no log line and no status (invariant 7).
 *
 * Slack is an alert_sink ("slack" in Notify=).  A push monitor of Kuma looks
 * by itself at what it is for; PostHog gets figures by intervals.
 */
#ifndef BOT_SINK_SINK_H
#define BOT_SINK_SINK_H

#include "guard/bans.h"
#include "observe/alert.h"
#include "observe/observer.h"

extern const struct config_kind slack_kind;	/* [Slack] */
extern const struct config_kind kuma_kind;	/* [Kuma NAME] */
extern const struct config_kind posthog_kind;	/* [PostHog] */
extern const struct config_kind crowdsec_kind;	/* [CrowdSec] */

struct sinks;

struct sinks_params {
	struct loop *loop;
	struct resolver *resolver;
	struct engine *engine;
	struct observer *observer;
	struct alerts *alerts;
	struct bans *bans;		/* [CrowdSec] fills them */
};

/* What the key tables cannot say, and a Notify= of what is not there. */
void	sinks_check(struct config *);

/* The tree must be free of problems; a reference is taken.  Shows itself in
   the observer's status document. */
struct sinks *sinks_new(const struct sinks_params *, struct config *);
/* After alerts_reload(). What waits is kept and goes the new way. Returns how
   many sections changed. */
unsigned sinks_reload(struct sinks *, struct config *);
/* Before the alerts and the observer end. What still waits is not sent; that
   is logged. Accepts NULL. */
void	sinks_free(struct sinks *);

#endif
