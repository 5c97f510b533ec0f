/*
 * handover.h - listening sockets that systemd opened for us (sd_listen_fds(3)).
 *
 * A .socket unit names them by FileDescriptorName=: "status" is what Status=
 * would have opened, "control" what Control= would have.  One of each at most;
 * another name, or a socket of the wrong kind, is an error with a sentence: who
 * set up a socket unit believes that it is used.
 */
#ifndef BOT_CONTROL_HANDOVER_H
#define BOT_CONTROL_HANDOVER_H

#include "base/error.h"
#include "net/address.h"

#define HANDOVER_INIT	{ -1, -1 }

struct handover {
	int status;		/* -1: none; whoever uses it sets it to -1 */
	int control;
};

/* Takes what LISTEN_FDS announces and removes the variables, so that no child
   sees them. 0 or -errno; then all of them are closed. */
int	handover_take(struct handover *, struct error *);
/* Closes what nobody has used. */
void	handover_close(struct handover *);
/* Where a socket listens; kind INVALID when that cannot be said. */
void	handover_address(int fd, struct address *ret);
/* Whether a configured address means the one that was handed over: port 0
   and "localhost" mean any that fits. */
bool	handover_matches(const struct address *configured,
	    const struct address *handed);

#endif
