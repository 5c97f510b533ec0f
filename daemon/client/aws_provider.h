/*
 * aws_provider.h - the four ways of getting keys that take time; private to
 * aws_*.c.
 *
 * Each lives inside its owner and does one thing at a time.  *_start() leads
 * to exactly one done, from the loop, unless *_cancel() comes first; the
 * provider is idle again before done runs, and may be freed there.  done owns
 * what is in the answer.
 */
#ifndef BOT_CLIENT_AWS_PROVIDER_H
#define BOT_CLIENT_AWS_PROVIDER_H

#include "base/buffer.h"
#include "client/aws_clients.h"
#include "client/aws_endpoint.h"
#include "client/aws_retry.h"
#include "codec/aws_answer.h"
#include "codec/sigv4.h"
#include "loop/child.h"

/* Exactly one is not NULL. */
typedef void aws_provider_fn(void *owner, struct aws_answer *,
	    const struct error *);

/* ---- aws_process.c: a program that prints them ---- */

#define AWS_PROCESS_OUTPUT_MAX	(64 * KIB)
#define AWS_PROCESS_TIMEOUT_US	(60 * USEC_PER_SEC)

struct aws_process {
	struct loop *loop;
	aws_provider_fn *done;
	void *owner;
	struct child child;
	struct io out, complaint;	/* its stdout and stderr */
	struct buffer output, complaints;
	struct timer timer;
	bool too_long, timed_out;
	char name[64];			/* of the program, for texts */
};

void	aws_process_init(struct aws_process *, struct loop *,
	    aws_provider_fn *, void *owner);
/* command is split like a shell's words, and nothing else of a shell's. 0, or
   -errno and *err: it did not start, and done does not come. */
int	aws_process_start(struct aws_process *, const char *command,
	    struct error *err);
void	aws_process_cancel(struct aws_process *);

/* ---- aws_imds.c: instance metadata ---- */

struct aws_imds_params {
	char endpoint[AWS_URL_BYTES];
	uint64_t timeout_us;		/* of each request */
	unsigned attempts;		/* 0: 1 */
	bool no_v1;
};

enum aws_imds_state {
	IMDS_IDLE = 0,
	IMDS_TOKEN,
	IMDS_ROLE,
	IMDS_KEYS,
	IMDS_REGION,
};

struct aws_imds {
	struct aws_clients *clients;
	struct http_client *http;	/* of these */
	aws_provider_fn *done;
	void *owner;
	struct aws_imds_params params;
	enum aws_imds_state state;
	bool want_region, renewed;
	unsigned tries;
	struct http_request request;
	char url[AWS_URL_BYTES + 512];
	char role[128];
	struct secret *token;		/* NULL: v1 */
	char region[AWS_REGION_BYTES];	/* after a region was asked for */
};

void	aws_imds_init(struct aws_imds *, struct aws_clients *,
	    aws_provider_fn *, void *owner);
/* region: only that; the answer is empty and region is set.  0, or -errno and
   *err: the endpoint is no URL, or there is no client for it. */
int	aws_imds_start(struct aws_imds *, const struct aws_imds_params *,
	    bool region, struct error *err);
void	aws_imds_cancel(struct aws_imds *);

/* ---- aws_container.c: the agent of ECS and EKS ---- */

struct aws_container_params {
	char url[AWS_URL_BYTES];
	char *token_file;		/* NULL: none; read at each start */
	struct secret *token;		/* NULL: none, or of the file */
};

struct aws_container {
	struct aws_clients *clients;
	struct http_client *http;	/* of these */
	aws_provider_fn *done;
	void *owner;
	struct http_request request;
	struct timer timer;
	char url[AWS_URL_BYTES];
	struct secret *token;
	unsigned tries;
};

void	aws_container_init(struct aws_container *, struct aws_clients *,
	    aws_provider_fn *, void *owner);
/* 0, or -errno and *err: the token file, or a URL that is not allowed. */
int	aws_container_start(struct aws_container *,
	    const struct aws_container_params *, struct error *err);
void	aws_container_cancel(struct aws_container *);
/* https anywhere; http to loopback and the agents' own addresses only. */
bool	aws_container_url_is_allowed(const struct http_url *);

/* ---- aws_sts.c: a role for keys, or for a web identity's token ---- */

/* Strings are the owner's and stay until done. */
struct aws_role {
	char *arn;
	char *session;			/* NULL: one is made */
	char *external_id, *seconds;	/* NULL: none */
	char *token_file;		/* web identity; NULL: keys are used */
};

void	aws_role_done(struct aws_role *);

struct aws_sts {
	struct aws_clients *clients;
	struct http_client *http;	/* of these */
	aws_provider_fn *done;
	void *owner;
	struct http_request request;
	struct timer timer;
	struct aws_retry retry;
	struct aws_retry_bucket bucket;
	struct aws_clock clock;
	bool skewed;			/* this request was tried for that */
	struct buffer body;
	char url[AWS_URL_BYTES];
	struct sigv4 *signer;		/* NULL: not signed */
	struct aws_answer keys;		/* to sign with */
	const char *arn;
};

void	aws_sts_init(struct aws_sts *, struct aws_clients *,
	    aws_provider_fn *, void *owner);
/* Takes what is in keys (NULL for a web identity), also on failure. 0, or
   -errno and *err: the URL or the token file is no good. */
int	aws_sts_start(struct aws_sts *, const struct aws_role *,
	    const char *url, const char *region, struct aws_answer *keys,
	    struct error *err);
void	aws_sts_cancel(struct aws_sts *);

#endif
