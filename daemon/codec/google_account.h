/*
 * google_account.h - credential files of Google: what is in the JSON.  Pure.
 *
 *	service_account		an e-mail address and a private key
 *	authorized_user		a refresh token, as gcloud leaves it
 *	external_account	workload identity federation
 *	impersonated_service_account	one of these, and whom to become
 *
 * Members as google-auth 2.x reads them (google/auth/_default.py,
 * identity_pool.py, impersonated_credentials.py).  Errors (AUTH,
 * "google_credentials") name the member that is no good, never its value.
 */
#ifndef BOT_CODEC_GOOGLE_ACCOUNT_H
#define BOT_CODEC_GOOGLE_ACCOUNT_H

#include "base/error.h"
#include "codec/jwt.h"

#define GOOGLE_TOKEN_URL	"https://oauth2.googleapis.com/token"
#define GOOGLE_LIFETIME_S	3600
#define GOOGLE_HEADERS_MAX	8

enum google_account_kind {
	GOOGLE_ACCOUNT_NONE = 0,
	GOOGLE_ACCOUNT_SERVICE,
	GOOGLE_ACCOUNT_USER,
	GOOGLE_ACCOUNT_EXTERNAL,
};

/* Where the token comes from that is exchanged; one of file and url. */
struct google_subject {
	char *file, *url;
	struct {
		char *name;
		struct secret *value;
	} headers[GOOGLE_HEADERS_MAX];	/* of the request for url */
	size_t nheaders;
	char *field;			/* of JSON; NULL: the text is the token */
};

/* Strings that a kind does not have are NULL. */
struct google_account {
	enum google_account_kind kind;
	char *email;			/* service; user: if the file knows */
	char *key_id;			/* service; may be NULL */
	struct jwt_key *key;		/* service */
	char *client_id;		/* user; external: may be NULL */
	struct secret *client_secret;	/* the same */
	struct secret *refresh_token;	/* user */
	char *token_url;		/* user, external */
	char *audience;			/* external */
	char *subject_type;		/* external */
	char *user_project;		/* external; of a workforce pool, or NULL */
	struct google_subject subject;	/* external */
	char *become_url;		/* impersonation; NULL: none */
	char *become_email;		/* out of it */
	char *delegates;		/* a JSON array, or NULL */
	unsigned lifetime_s;		/* of what impersonation gives */
	char *project, *quota_project;	/* NULL: not named */
};

/* 0, or -EINVAL, *err, and *ret is empty. */
int	google_account_parse(struct slice json, struct google_account *ret,
	    struct error *err);
/* Leaves an empty one. */
void	google_account_done(struct google_account *);

#endif
