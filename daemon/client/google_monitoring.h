/*
 * google_monitoring.h - how much waits in a Pub/Sub subscription.
 *
 * Pub/Sub itself does not say; Cloud Monitoring does, as two metrics that it
 * samples once a minute and shows up to some 4 minutes late:
 *
 *	pubsub.googleapis.com/subscription/num_undelivered_messages
 *	pubsub.googleapis.com/subscription/oldest_unacked_message_age
 *
 * One object asks for one subscription, one question at a time.  A question
 * gets a token first if there is none, and asks once more with a new one after
 * 401.  Nothing is asked by itself: the owner has a timer.
 *
 * Errors:
 *	AUTH	"PERMISSION_DENIED" (the text names roles/monitoring.viewer),
 *		"SERVICE_DISABLED" (the API is switched off in the project),
 *		"UNAUTHENTICATED", and what google_token.h says
 *	THROTTLED "RESOURCE_EXHAUSTED" (429)
 *	REJECTED "NOT_FOUND", "INVALID_ARGUMENT", ... (other 4xx: the name that
 *		Google gives it, or "monitoring")
 *	TRANSIENT 5xx; with PROTOCOL, also what client/http.h says
 */
#ifndef BOT_CLIENT_GOOGLE_MONITORING_H
#define BOT_CLIENT_GOOGLE_MONITORING_H

#include "client/google_token.h"

#define GOOGLE_MONITORING_ENDPOINT	"https://monitoring.googleapis.com"

struct google_monitoring;

/* Newest samples, with when they were taken (wall clock).  A metric without a
   sample in the last 10 minutes is not known: a new subscription, or none of
   that name (Monitoring cannot tell). */
struct google_backlog {
	bool messages_known;
	uint64_t messages;		/* not yet delivered or not acknowledged */
	uint64_t messages_at_us;
	bool oldest_known;
	uint64_t oldest_age_us;		/* of the oldest that is not acknowledged */
	uint64_t oldest_at_us;
};

/*
 * Exactly one of backlog and err is not NULL.  news: the answer before this one
 * was no error of the same code (for a backlog: it was an error).  So whoever
 * logs only news logs each kind of failure once, and that it is over.  No
 * question is open any more: asking again and freeing are fine.
 */
typedef void google_monitoring_fn(void *owner, const struct google_backlog *,
	    const struct error *err, bool news);

struct google_monitoring_params {
	struct loop *loop;
	struct resolver *resolver;
	/* For GOOGLE_AUDIENCE_MONITORING; a reference is taken. */
	struct google_token *token;
	const char *project, *subscription;	/* ids, not paths */
	const char *endpoint;		/* NULL: GOOGLE_MONITORING_ENDPOINT */
	const char *ca_file;		/* NULL: the system's */
	google_monitoring_fn *done;
	void *owner;
};

/* Strings are copied. NULL and *err: the endpoint or the CA file is no good. */
struct google_monitoring *google_monitoring_new(
	    const struct google_monitoring_params *, struct error *err);
/* Cancels. Accepts NULL. */
void	google_monitoring_free(struct google_monitoring *);

/* Leads to one done, from the loop, unless it is cancelled. No-op when a
   question is open. */
void	google_monitoring_ask(struct google_monitoring *);
void	google_monitoring_cancel(struct google_monitoring *);	/* or no-op */
bool	google_monitoring_busy(const struct google_monitoring *);

#endif
