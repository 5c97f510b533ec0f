/*
 * aws_credentials.h - the keys that requests to AWS are signed with.
 *
 * One object for all who name the same profile and files.  It finds keys the
 * way the AWS CLI does, the first that is configured counts:
 *
 *	1 environment		AWS_ACCESS_KEY_ID, ...
 *	2 role			role_arn with source_profile or credential_source
 *	3 web identity		AWS_WEB_IDENTITY_TOKEN_FILE or the profile's
 *	4 credentials file	~/.aws/credentials
 *	5 credential_process	a program; argv, no shell
 *	6 config file		keys in ~/.aws/config
 *	7 container		AWS_CONTAINER_CREDENTIALS_*
 *	8 instance metadata	IMDSv2, with its rules for falling back to v1
 *
 * A profile or a credentials file that our own configuration names takes the
 * environment's keys and roles (1, and the variables of 3) out.  What is
 * configured and fails ends the search: no other account is used instead.
 * Identity Center ("sso_*") needs a person and is passed over.
 *
 * Keys that expire are fetched again at some moment between 15 and 10 minutes
 * before; one fetch at a time.  If that fails, the old ones stay in use as
 * long as they are valid, and it is tried again.  Nothing here waits for the
 * network or a process; small local files are read as they are.
 *
 * Secrets are in struct secret and appear in no text.  Logging: one warning
 * when refreshing fails, one notice when it works again; what keeps keys from
 * being there at all is told to those who wait, who log it.
 */
#ifndef BOT_CLIENT_AWS_CREDENTIALS_H
#define BOT_CLIENT_AWS_CREDENTIALS_H

#include "base/list.h"
#include "base/secret.h"
#include "client/aws_endpoint.h"
#include "codec/sigv4.h"
#include "net/resolve.h"

struct aws_credentials;
struct aws_waiter;

typedef const char *aws_getenv_fn(const char *name);

struct aws_credentials_params {
	struct loop *loop;
	struct resolver *resolver;
	const char *profile;		/* NULL: AWS_PROFILE or "default" */
	const char *credentials_file;	/* NULL: AWS_SHARED_CREDENTIALS_FILE or
					   ~/.aws/credentials */
	const char *config_file;	/* NULL: AWS_CONFIG_FILE or ~/.aws/config */
	const char *region;		/* NULL: found; for STS and as an answer
					   to aws_credentials_region() */
	const char *ca_file;		/* for STS; NULL: the system's */
	/* For tests; NULL: the real ones. */
	aws_getenv_fn *getenv;
	const char *container_endpoint;	/* "http://169.254.170.2" */
};

/* Valid until the caller returns to the loop. */
struct aws_keys {
	const char *access_key;
	const struct secret *secret_key;
	const struct secret *token;	/* NULL: none */
	uint64_t expires_us;		/* wall clock; 0: never */
	uint64_t generation;		/* differs between any two in a process */
	const char *source;		/* "profile orders: credential_process" */
};

/* err: NULL, or why there are none. The waiter is idle again. */
typedef void aws_waiter_fn(struct aws_waiter *, const struct error *err);

struct aws_waiter {
	struct list link;
	aws_waiter_fn *fn;
	void *owner;
};

/*
 * A reference to the object of those params (a new one, or that of others on
 * the same loop).  Nothing is read before it is asked for something.  Loop and
 * resolver must outlive it.  The container_endpoint must live as long as it;
 * other strings are copied.
 */
struct aws_credentials *aws_credentials_new(
	    const struct aws_credentials_params *);
struct aws_credentials *aws_credentials_ref(struct aws_credentials *);
/* With the last one, what is under way is cancelled. Accepts NULL. */
void	aws_credentials_unref(struct aws_credentials *);

/* What to sign with now; NULL when there is nothing: aws_credentials_wait(). */
const struct aws_keys *aws_credentials_get(struct aws_credentials *);
/* The same as the signer wants it. */
void	aws_keys_for_signing(const struct aws_keys *,
	    struct sigv4_credentials *ret);

void	aws_waiter_init(struct aws_waiter *, aws_waiter_fn *, void *owner);
/*
 * Calls back once, from the loop: at once when there are keys, else when a
 * fetch has ended.  After failures fetches are spaced out (1 s to 60 s), so
 * waiting again at once is fine.
 */
void	aws_credentials_wait(struct aws_credentials *, struct aws_waiter *);
void	aws_waiter_cancel(struct aws_waiter *);		/* no-op when idle */

/*
 * The service said ExpiredToken (or knows the key no more) to a request that
 * was signed with this generation.  If that is still the current one, it is
 * not given out any more, and new ones are fetched.  If the same come again,
 * it is an error when they have an end; keys without one are given out again
 * (as a new generation), since there are no others and the fault may be the
 * service's: who was refused twice in a row reports that, and waits.
 */
void	aws_credentials_expired(struct aws_credentials *, uint64_t generation);

/*
 * What each provider answered the last time, a sentence a line, e.g.
 * "environment: AWS_ACCESS_KEY_ID is not set".  "" before the first time.
 */
const char *aws_credentials_report(const struct aws_credentials *);

/* ---- region and endpoint ---- */

/*
 * The first of: params, AWS_REGION, AWS_DEFAULT_REGION, the profile's region,
 * what instance metadata said.  NULL: aws_credentials_find_region() asks that,
 * and calls back; ask again then.
 */
const char *aws_credentials_region(struct aws_credentials *);
void	aws_credentials_find_region(struct aws_credentials *,
	    struct aws_waiter *);

/*
 * The URL of a service: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL, the
 * profile's services section, its endpoint_url, unless
 * AWS_IGNORE_CONFIGURED_ENDPOINT_URLS or ignore_configured_endpoint_urls is
 * true; else the region's own, as AWS_USE_FIPS_ENDPOINT and
 * AWS_USE_DUALSTACK_ENDPOINT (or the profile's keys) want it.
 */
int	aws_credentials_endpoint(struct aws_credentials *, const char *service,
	    const char *region, char ret_url[AWS_URL_BYTES],
	    struct error *err);

#endif
