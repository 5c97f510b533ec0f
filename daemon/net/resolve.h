/*
 * resolve.h - names to addresses, in the loop (c-ares).
 *
 * Never blocks: c-ares' sockets and time-outs are the loop's own io and
 * timers.  /etc/hosts and resolv.conf are honoured by c-ares; "localhost" is
 * always answered (RFC 6761, 6.3).
 */
#ifndef BOT_NET_RESOLVE_H
#define BOT_NET_RESOLVE_H

#include <netinet/in.h>

#include "loop/loop.h"
#include "net/address.h"

struct resolver;
struct resolve_query;

#define RESOLVE_MAX	16	/* addresses kept of an answer */

union resolve_address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* n > 0 and addresses in the order to try, or n == 0 and an error. */
typedef void resolve_fn(void *owner, const union resolve_address *, size_t n,
	    const struct error *);

int	resolver_new(struct loop *, struct resolver **ret);
/* Open queries must have been cancelled. */
void	resolver_free(struct resolver *);
/* Asks these name servers ("127.0.0.1:5353,...") instead of resolv.conf's. */
int	resolver_set_servers(struct resolver *, const char *csv);
/*
 * Asks for IPv6 and IPv4 (RFC 8305 order, families alternating).  The answer
 * comes from the loop, never before this returns; then the query is gone.
 */
struct resolve_query *resolve_start(struct resolver *, const char *host,
	    uint16_t port, resolve_fn *, void *owner);
/* No answer comes after it. Accepts NULL. */
void	resolve_cancel(struct resolve_query *);

#endif
