/*
 * google_impl.h - what the files of google_token share.
 *
 *	google_token.c		the token in use: refreshing, waiting
 *	google_fetch.c		one fetch: from a place to a token
 *	google_ask.c		one request of it
 *	google_forms.c		what stands in that
 *	google_place.c		where credentials are looked for
 *	codec/google_account.c	the files, codec/google_answer.c the answers
 */
#ifndef BOT_CLIENT_GOOGLE_IMPL_H
#define BOT_CLIENT_GOOGLE_IMPL_H

#include "base/buffer.h"
#include "client/google_token.h"
#include "client/http.h"
#include "codec/google_account.h"
#include "codec/google_answer.h"

#define GOOGLE_SCOPE_CLOUD \
	"https://www.googleapis.com/auth/cloud-platform"
#define GOOGLE_SCOPE_PUBSUB	"https://www.googleapis.com/auth/pubsub"
#define GOOGLE_SCOPE_MONITORING \
	"https://www.googleapis.com/auth/monitoring.read"

/* ---- google_place.c ---- */

struct google_place {
	char *file;			/* NULL: the metadata server */
	char *metadata_host;		/* host[:port] */
	char *project;			/* that the environment names, or NULL */
};

/* 0, or -ENOENT and *err (AUTH): there is no place left. Each place that is
   passed over gets a line in the report. */
int	google_place_find(struct google_place *,
	    const struct google_token_params *, struct buffer *report,
	    struct error *err);
void	google_place_done(struct google_place *);

/* ---- google_fetch.c ---- */

enum google_step {
	GOOGLE_IDLE = 0,
	GOOGLE_METADATA_TOKEN,
	GOOGLE_METADATA_PROJECT,
	GOOGLE_REFRESH,			/* of a user */
	GOOGLE_SUBJECT,			/* the URL of a subject token */
	GOOGLE_EXCHANGE,		/* STS */
	GOOGLE_BECOME,			/* impersonation */
	GOOGLE_NSTEPS,
};

/* Exactly one is not NULL; owns what is in the answer. */
typedef void google_fetch_fn(void *owner, struct google_answer *,
	    const struct error *);

struct google_fetch {
	const struct google_token_params *params;
	google_fetch_fn *done;
	void *owner;
	struct google_place place;	/* of the last fetch */
	struct secret *text;		/* of place.file, as it was parsed */
	struct google_account account;	/* NONE: metadata */
	char source[256];		/* "service account x@y" */
	char project[64];		/* what metadata says */
	struct buffer report;
	struct google_answer got;	/* so far */
	struct secret *subject;
	enum google_step step;
	struct http_client *direct;	/* never through a proxy */
	struct http_client *proxied;	/* as the environment wants it */
	struct http_request request;
	char *url;
	struct buffer body;		/* wiped */
};

/* Params are the owner's and outlive it. */
void	google_fetch_init(struct google_fetch *,
	    const struct google_token_params *, google_fetch_fn *, void *owner);
/* Cancels. */
void	google_fetch_done(struct google_fetch *);
/* To be called from the loop: done may come before it returns. */
void	google_fetch_start(struct google_fetch *);

static inline bool
google_fetch_busy(const struct google_fetch *f)
{
	return f->step != GOOGLE_IDLE;
}

/* ---- google_ask.c ---- */

#define GOOGLE_FLAVOR	"Google"	/* of metadata: asked and answered */

/* Sends the step's request, with what is in body for those that have one. 0,
   or -errno and *err: the URL is no good, or may not be asked without TLS. */
int	google_ask(struct google_fetch *, enum google_step, const char *url,
	    struct error *err);
void	google_add_headers(struct http_request *, struct buffer *);

/* ---- google_forms.c ---- */

/* Replace what is in body; it is big enough not to grow, which would leave
   copies of secrets behind. */
void	google_form_refresh(struct buffer *, const struct google_account *);
void	google_form_exchange(struct buffer *, const struct google_account *,
	    const struct secret *subject);
void	google_form_become(struct buffer *, const struct google_account *);
/* "Authorization: Basic ..." of client_id and client_secret, as a line. */
void	google_add_basic(struct buffer *, const struct google_account *);
void	google_body_wipe(struct buffer *);
/* A JWT for that audience from now on; *ret_life_us: how long it is good.
   NULL and *err. */
struct secret *google_sign(const struct google_account *, const char *audience,
	    uint64_t *ret_life_us, struct error *err);

#endif
