/*
 * tls.h - TLS contexts (OpenSSL), shared by the streams of one section.
 *
 * Clients verify the chain and the host name (RFC 6125) unless told not to,
 * speak TLS 1.2 or later, and resume sessions per context and peer.
 */
#ifndef BOT_NET_TLS_H
#define BOT_NET_TLS_H

#include "base/error.h"

struct tls_context;

struct tls_params {
	bool server;
	bool insecure;			/* client: do not verify */
	bool fresh;			/* client: never resume, so that each
					   handshake sees the certificate */
	const char *ca_file;		/* NULL: the system's store */
	const char *certificate_file;	/* chain, PEM; NULL: none */
	const char *key_file;		/* PEM; NULL: in certificate_file */
	const char *alpn;		/* "h2", "http/1.1", or NULL */
};

/*
 * One reference. NULL and *err (REJECTED, names the file) on failure.
 *
 * For clients with equal parameters it is the same context while one is alive
 * and no file of it (nor the bundle of the system's store) has changed on disk
 * since: the system's certificates take 26 ms and 4 MB to read.  So sessions
 * are shared, too, still by host and port.
 */
struct tls_context *tls_context_new(const struct tls_params *, struct error *);
struct tls_context *tls_context_ref(struct tls_context *);
void	tls_context_unref(struct tls_context *);	/* accepts NULL */

#endif
