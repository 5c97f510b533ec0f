/*
 * http_auth.h - who may read the status server: those who know the token.
 *
 * "Authorization: Bearer TOKEN" (RFC 6750) or "Basic", any user and the token
 * as password (RFC 7617: what browsers ask people for).  /healthz is open to
 * all.  Compared in constant time.  The peer is whoever is connected: behind a
 * proxy, the proxy.
 *
 * Each wrong attempt - a request without any credentials is none, browsers
 * begin so - is told as guard/security.h's auth_failed, with the peer's address
 * and the user name that was tried.
 */
#ifndef BOT_CONTROL_HTTP_AUTH_H
#define BOT_CONTROL_HTTP_AUTH_H

#include "base/secret.h"
#include "control/http_server.h"

struct http_auth {
	struct secret *token;		/* NULL: everybody may */
	uint64_t failed;		/* since the start */
};

/* Takes the token. */
void	http_auth_set(struct http_auth *, struct secret *token);
void	http_auth_done(struct http_auth *);
/* A http_guard_fn; owner is the http_auth. */
bool	http_auth_guard(void *owner, const struct http_request *,
	    struct http_response *);

#endif
