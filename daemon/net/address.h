/*
 * address.h - where a peer is: "host:port", "[v6]:port", "host", "/socket".
 */
#ifndef BOT_NET_ADDRESS_H
#define BOT_NET_ADDRESS_H

#include <sys/socket.h>

#include "base/error.h"

enum address_kind {
	ADDRESS_INVALID = 0,
	ADDRESS_NAME,		/* must be resolved */
	ADDRESS_IP,		/* a literal */
	ADDRESS_UNIX,
};

struct address {
	enum address_kind kind;
	char host[256];		/* name, literal without brackets, or path */
	uint16_t port;
};

/* default_port counts where none is written; 0 means one must be written.
   REJECTED with a sentence for people. */
int	address_parse(struct address *ret, const char *text,
	    uint16_t default_port, struct error *err);
/* A literal or a Unix path, as sockaddr. -EINVAL for a name. */
int	address_to_sockaddr(const struct address *, struct sockaddr_storage *ret,
	    socklen_t *ret_len);

/* The other way. INVALID for families other than IPv4, IPv6 and Unix; an
   unnamed Unix socket has an empty host.  A Unix sockaddr must be filled up
   with zeros to its full size. */
void	address_from_sockaddr(struct address *ret, const struct sockaddr *);

#define ADDRESS_TEXT_BYTES	272
/* "192.0.2.1:80", "[2001:db8::1]:80", "/run/x.sock" */
const char *address_text(const struct address *, char out[ADDRESS_TEXT_BYTES]);
const char *sockaddr_text(const struct sockaddr *, char out[ADDRESS_TEXT_BYTES]);

#endif
