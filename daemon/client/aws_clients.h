/*
 * aws_clients.h - the HTTP clients of credentials, made when they are first
 * needed; private to aws_*.c.
 *
 * Reading the system's certificate authorities takes 26 ms and 0.8 MB for each
 * client, which those whose keys stand in a file need not pay.
 */
#ifndef BOT_CLIENT_AWS_CLIENTS_H
#define BOT_CLIENT_AWS_CLIENTS_H

#include "client/http.h"

struct aws_clients {
	struct loop *loop;
	struct resolver *resolver;
	const char *ca_file;
	struct http_client *direct;	/* NULL: not made yet */
	struct http_client *proxied;
};

void	aws_clients_done(struct aws_clients *);
/* What goes to link-local addresses: never through a proxy. NULL and *err. */
struct http_client *aws_clients_direct(struct aws_clients *, struct error *);
/* As the environment wants it. NULL and *err: the CA file or the proxy's URL
   is no good. */
struct http_client *aws_clients_proxied(struct aws_clients *, struct error *);

#endif
