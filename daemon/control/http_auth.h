/*
 * http_auth.h - who may read the status server: those who know the token.
 *
 * "Authorization: Bearer TOKEN" (RFC 6750) or "Basic", any user and the token
 * as password (RFC 7617: what browsers ask people for).  /healthz is open to
 * all.  Compared in constant time.  The peer is whoever is connected: behind a
 * proxy, the proxy.
 *
 * Each wrong attempt - a request without any credentials is none, browsers
 * begin so - is one line of a stable form, for programs that ban by log
 * (CrowdSec, fail2ban):
 *
 *	event=auth_failed src_ip=192.0.2.1 user="x" sender="" queue=""
 *	    reason="wrong token"
 *
 * (one line; src_ip is - for a Unix socket.)  At most HTTP_AUTH_LINES a
 * second are written; how many were left out is said afterwards.
 */
#ifndef BOT_CONTROL_HTTP_AUTH_H
#define BOT_CONTROL_HTTP_AUTH_H

#include "base/secret.h"
#include "control/http_server.h"

#define HTTP_AUTH_LINES		20

struct http_auth {
	struct secret *token;		/* NULL: everybody may */
	uint64_t failed;		/* since the start */
	uint64_t second_us;		/* private: the bound */
	unsigned lines, left_out;
};

/* Takes the token. */
void	http_auth_set(struct http_auth *, struct secret *token);
void	http_auth_done(struct http_auth *);
/* A http_guard_fn; owner is the http_auth. */
bool	http_auth_guard(void *owner, const struct http_request *,
	    struct http_response *);

#endif
