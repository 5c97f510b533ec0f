/*
 * tls_session.h - one TLS connection over a non-blocking socket.
 *
 * Private to net/: stream.c drives it.  Nothing here waits; each call says
 * what the socket must become ready for.  After TLS_FAILED only
 * tls_session_free is allowed.
 */
#ifndef BOT_NET_TLS_SESSION_H
#define BOT_NET_TLS_SESSION_H

#include "net/tls.h"

struct tls_session;

enum tls_result {
	TLS_NONE = 0,
	TLS_OK,
	TLS_WANT_READ,
	TLS_WANT_WRITE,
	TLS_EOF,		/* the peer said goodbye (close_notify) */
	TLS_FAILED,		/* *err is set */
};

/*
 * A client needs the peer's name, which is verified and asked for (SNI, if it
 * is no IP literal), unless the context is insecure.  The port only tells
 * cached sessions apart.  A context reference is taken; the fd stays the
 * caller's.
 */
struct tls_session *tls_session_new(struct tls_context *, int fd,
	    const char *name, uint16_t port, struct error *);
void	tls_session_free(struct tls_session *);		/* accepts NULL */

enum tls_result tls_session_handshake(struct tls_session *, struct error *);
/* Reads until the room is full (TLS_OK) or something is in the way; then
   *ret_n bytes came before it. */
enum tls_result tls_session_read(struct tls_session *, char *, size_t room,
	    size_t *ret_n, struct error *);
/* One record at most; *ret_n bytes of it were taken on TLS_OK.  After a
   WANT_ the same bytes (or more, maybe moved) must be offered again. */
enum tls_result tls_session_write(struct tls_session *, const char *, size_t n,
	    size_t *ret_n, struct error *);
/* Sends close_notify; does not wait for the peer's. */
enum tls_result tls_session_shutdown(struct tls_session *);

/* "TLSv1.3 TLS_AES_256_GCM_SHA384"; valid while the session lives. */
const char *tls_session_text(const struct tls_session *);
/* When the peer's certificate ends: seconds since 1970. False without one. */
bool	tls_session_until(const struct tls_session *, int64_t *ret);
bool	tls_session_resumed(const struct tls_session *);

#endif
