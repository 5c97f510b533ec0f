/*
 * security.h - what happened that concerns safety, told always the same way.
 *
 * One line of a stable form for each, for programs that ban by log (CrowdSec,
 * fail2ban):
 *
 *	event=message_auth_failed src_ip=- user="" sender="shop"
 *	    queue="orders" reason="wrong signature"
 *
 * (one line; fields in this order, none ever left out; src_ip is - when there
 * is none, such as for a Unix socket.)  user, sender and queue come from
 * strangers: what is not printable ASCII, and spaces, quotes and backslashes,
 * become "?", and no more than SECURITY_NAME_MAX bytes are kept.  A reason is
 * the same but with spaces.
 *
 * At most SECURITY_LINES a second are written for each kind; how many were
 * left out is said in one line when the second is over.  Counted are all.
 *
 * One of it in a process, as the log is.
 */
#ifndef BOT_GUARD_SECURITY_H
#define BOT_GUARD_SECURITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct loop;

#define SECURITY_LINES		20
#define SECURITY_NAME_MAX	128	/* bytes of a user, sender or queue */
#define SECURITY_REASON_MAX	160

enum security_kind {
	SECURITY_AUTH_FAILED = 1,	/* status server, control socket */
	SECURITY_MESSAGE_AUTH_FAILED,	/* Verify= */
	SECURITY_MESSAGE_SUSPICIOUS,	/* [Screen NAME] */
	SECURITY_MESSAGE_FLOOD,		/* SenderLimit= */
	SECURITY_NKINDS,
};

/* Slices and strings need to live for the call only. */
struct security_event {
	enum security_kind kind;
	const char *src_ip;		/* NULL: none */
	struct slice user, sender, queue, reason;
	struct slice message;		/* the broker's message id; becomes the
					   field BOT_MESSAGE, not text */
	const char *error_type;		/* BOT_ERROR_TYPE; NULL: none */
};

/* "message_flood"; NULL for what is no kind. */
const char *security_kind_name(enum security_kind);

void	security_tell(const struct security_event *);

/* Since the start, and within the last 60 s; logged or not. */
uint64_t security_count(enum security_kind);
uint64_t security_per_minute(enum security_kind);

/*
 * What is left out is said by a timer of this loop from now on; without one,
 * with the next event of the kind.  Close before the loop is freed: what was
 * left out is said then.
 */
void	security_open(struct loop *);
void	security_close(void);

/*
 * fn is told every event, logged or not, from inside security_tell(), with its
 * texts made clean as in the line.  It copies what it needs and returns at
 * once; it must not tell another.  One listener; the last one counts.
 */
typedef void security_fn(void *owner, const struct security_event *);
void	security_listen(security_fn *, void *owner);
void	security_unlisten(void *owner);	/* no-op when it is not this owner's */

/*
 * A name as the line shows it, ended with a zero byte: whoever compares a
 * sender with one that came back from a log (a ban) compares these.  Returns
 * the length.
 */
size_t	security_clean(struct slice name, char out[SECURITY_NAME_MAX + 1]);

#endif
