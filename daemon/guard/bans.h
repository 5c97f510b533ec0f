/*
 * bans.h - who is banned, as somebody else has decided (CrowdSec).
 *
 * A decision has a number of its own, a scope, a value and an end:
 *
 *	BAN_IP		"192.0.2.1", "2001:db8::1"
 *	BAN_RANGE	"192.0.2.0/24", "2001:db8::/32"; bits behind the prefix
 *			do not count
 *	BAN_SENDER	a sender of messages, as security_clean() shows it
 *
 * An IPv4 address that comes as IPv6 (::ffff:192.0.2.1, RFC 4291, 2.5.5.2) is
 * that IPv4 address, on both sides.  Something is banned while any decision
 * about it has not ended; several may be about the same value, and each ends by
 * itself.  Ends are on the monotonic clock: a wall clock that is set changes
 * nothing.
 *
 * Look-ups do not depend on how many there are: one look into a hash for a
 * sender, and for an address one for each prefix length that is in use (at most
 * 33 and 129).
 *
 * Bounded: past the maximum a new decision is not kept, only counted; the older
 * ones stay, since who is banned now should not be let in by that.  A decision
 * takes about 250 bytes.
 */
#ifndef BOT_GUARD_BANS_H
#define BOT_GUARD_BANS_H

#include <sys/socket.h>

#include "base/error.h"
#include "base/slice.h"

enum ban_scope {
	BAN_IP = 1,
	BAN_RANGE,
	BAN_SENDER,
	BAN_NSCOPES,
};

/* What becomes of a message whose sender is banned. */
enum ban_effect {
	BAN_BURY = 1,		/* to the dead letters */
	BAN_DELAY,
	BAN_DROP,		/* acknowledged without work */
	BAN_NEFFECTS,
};

struct ban;
struct bans;

struct bans *bans_new(size_t max);
void	bans_free(struct bans *);		/* accepts NULL */
/* Those that are there already stay. */
void	bans_set_max(struct bans *, size_t max);
/* delay_us: of BAN_DELAY. Until then BAN_BURY. */
void	bans_set_effect(struct bans *, enum ban_effect, uint64_t delay_us);
enum ban_effect bans_effect(const struct bans *, uint64_t *ret_delay_us);

/* ---- decisions ---- */

/* One that is in force from now for so long, not yet put in. NULL and why for a
   value that is none of its scope (REJECTED). */
struct ban *ban_new(uint64_t id, enum ban_scope, struct slice value,
	    uint64_t duration_us, struct error *err);
void	ban_free(struct ban *);			/* one that is not put in */

/* Takes it.  One of the same number is replaced.  False: no room, and it is
   gone. */
bool	bans_put(struct bans *, struct ban *);
/* No-op when there is none of that number. */
void	bans_remove(struct bans *, uint64_t id);
/* Removes what has ended, so many at most.  Look-ups do not need it, memory
   does.  True: there is more. */
bool	bans_expire(struct bans *, size_t most);

/*
 * A new whole: bans_renew(), then bans_put() of all that there are, then
 * bans_sweep() until it returns false, each time at most so many.  What was not
 * put in again is gone then.  Until then the older ones count as well.
 */
void	bans_renew(struct bans *);
bool	bans_sweep(struct bans *, size_t most);
void	bans_clear(struct bans *);		/* nobody is banned */

/* ---- look-ups ---- */

/* Of a connection's peer.  Unix sockets never are, nor is a loopback address:
   a host must be able to look at itself. */
bool	bans_address(const struct bans *, const struct sockaddr *);
/* The sender's name as it came; an empty one never is. */
bool	bans_sender(const struct bans *, struct slice name);

/* A message was treated so; and how many there were since the start. */
void	bans_count_message(struct bans *, enum ban_effect);
uint64_t bans_messages(const struct bans *, enum ban_effect);
const char *ban_effect_name(enum ban_effect);	/* "dead-letter" */

size_t	bans_count(const struct bans *, enum ban_scope);
size_t	bans_total(const struct bans *);
uint64_t bans_left_out(const struct bans *);	/* for lack of room, so far */

#endif
