/*
 * tls_private.h - what tls.c and tls_session.c share.
 */
#ifndef BOT_NET_TLS_PRIVATE_H
#define BOT_NET_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "base/list.h"
#include "net/tls_session.h"
#include "net/tls_share.h"

struct tls_context {
	unsigned refs;
	struct list link;		/* of the clients' */
	struct tls_origin origin;	/* clients only */
	SSL_CTX *ctx;
	bool server, insecure, fresh;
	char *alpn;			/* NULL: none */
	struct tls_cache *cache;	/* clients only; NULL: fresh */
};

#define TLS_KEY_BYTES	272	/* "host:port" */

struct tls_session {
	SSL *ssl;
	struct tls_context *context;
	char name[256];
	char key[TLS_KEY_BYTES];
	char text[96];
	bool up, failed;
};

/*
 * Sessions to resume, by "host:port": bounded, the least recently used goes
 * first.  put takes the reference.
 */
struct tls_cache *tls_cache_new(void);
void	tls_cache_free(struct tls_cache *);		/* accepts NULL */
void	tls_cache_put(struct tls_cache *, const char *key, SSL_SESSION *);
SSL_SESSION *tls_cache_get(struct tls_cache *, const char *key);
void	tls_cache_drop(struct tls_cache *, const char *key);

#endif
