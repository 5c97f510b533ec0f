/*
 * google_token.h - the bearer token that requests to Google are sent with.
 *
 * One object for all who name the same file and the same service.  It finds
 * credentials the way Google's own libraries do (Application Default
 * Credentials), the first that is configured counts:
 *
 *	1 the file that our own configuration names
 *	2 the file of GOOGLE_APPLICATION_CREDENTIALS
 *	3 application_default_credentials.json in $CLOUDSDK_CONFIG or
 *	  ~/.config/gcloud
 *	4 the metadata server (GCE_METADATA_HOST, else
 *	  metadata.google.internal), unless NO_GCE_CHECK is true
 *
 * The kinds of file ("type"): service_account (signs a JWT itself for each
 * service; nothing is exchanged), authorized_user, external_account (workload
 * identity federation with a subject token from a file or a URL),
 * impersonated_service_account.  What is configured and fails ends the search:
 * no other account is used instead.
 *
 * Tokens are fetched again 3 min 45 s before they end (the last third of those
 * that are shorter-lived), one fetch at a time; the file is read again then.
 * If that fails, the old one stays in use as long as it is valid, and it is
 * tried again.  Nothing here waits for the network; small local files are read
 * as they are, and signing takes about 1 ms.
 *
 * Secrets are in struct secret and appear in no text.  Logging: one warning
 * when refreshing fails, one notice when it works again; what keeps a token
 * from being there at all is told to those who wait, who log it.
 */
#ifndef BOT_CLIENT_GOOGLE_TOKEN_H
#define BOT_CLIENT_GOOGLE_TOKEN_H

#include "base/error.h"
#include "base/list.h"
#include "base/secret.h"
#include "loop/loop.h"
#include "net/resolve.h"

/* What a service account's JWT is for. */
#define GOOGLE_AUDIENCE_PUBSUB		"https://pubsub.googleapis.com/"
#define GOOGLE_AUDIENCE_MONITORING	"https://monitoring.googleapis.com/"

struct google_token;
struct google_waiter;

typedef const char *google_getenv_fn(const char *name);

struct google_token_params {
	struct loop *loop;
	struct resolver *resolver;
	const char *credentials_file;	/* NULL: found (2 to 4) */
	const char *audience;		/* GOOGLE_AUDIENCE_... */
	const char *ca_file;		/* NULL: the system's */
	google_getenv_fn *getenv;	/* for tests; NULL: the real one */
};

/* Valid until the caller returns to the loop. */
struct google_bearer {
	const struct secret *token;	/* "authorization: Bearer " + this */
	uint64_t expires_us;		/* wall clock */
	uint64_t generation;		/* differs between any two in a process */
};

/* err: NULL, or why there is none. The waiter is idle again. */
typedef void google_waiter_fn(struct google_waiter *, const struct error *err);

struct google_waiter {
	struct list link;
	google_waiter_fn *fn;
	void *owner;
};

/*
 * A reference to the object of those params (a new one, or that of others on
 * the same loop).  Nothing is read before it is asked for something.  Loop and
 * resolver must outlive it; strings are copied.
 */
struct google_token *google_token_new(const struct google_token_params *);
struct google_token *google_token_ref(struct google_token *);
/* With the last one, what is under way is cancelled. Accepts NULL. */
void	google_token_unref(struct google_token *);

/* What to send now; NULL when there is nothing: google_token_wait(). */
const struct google_bearer *google_token_get(struct google_token *);

void	google_waiter_init(struct google_waiter *, google_waiter_fn *,
	    void *owner);
/*
 * Calls back once, from the loop: at once when there is a token, else when a
 * fetch has ended.  After failures fetches are spaced out (1 s to 60 s), so
 * waiting again at once is fine.
 *
 * Errors: AUTH (files that are no good, grants that are refused: a person must
 * act), TRANSIENT, THROTTLED, PROTOCOL; the text says which source it was and
 * what it answered.
 */
void	google_token_wait(struct google_token *, struct google_waiter *);
void	google_waiter_cancel(struct google_waiter *);	/* no-op when idle */

/*
 * The service said UNAUTHENTICATED to a request with this generation.  If that
 * is still the current one, it is not given out any more, and a new one is
 * fetched.  If what comes is the same, those who wait get an error
 * ("UNAUTHENTICATED").  If it is another one that is refused, too, the next
 * fetches are spaced out like those after failures.
 */
void	google_token_rejected(struct google_token *, uint64_t generation);

/* ---- for the status: valid until the caller returns to the loop ---- */

/*
 * "service account x@y", "metadata server", "user (gcloud)", "workload
 * identity federation as x@y": of the token in use, or else of the last
 * search.  "" before the first one.
 */
const char *google_token_source(const struct google_token *);
/*
 * The project that GOOGLE_CLOUD_PROJECT, the file or the metadata server
 * names; NULL when none does, or before the first token has come.
 */
const char *google_token_project(const struct google_token *);
/* To be sent as x-goog-user-project with each request; NULL: none. */
const char *google_token_quota_project(const struct google_token *);
/*
 * What each place of the search had the last time, a sentence a line, e.g.
 * "GOOGLE_APPLICATION_CREDENTIALS: is not set".  "" before the first time.
 */
const char *google_token_report(const struct google_token *);

#endif
