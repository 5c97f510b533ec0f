/*
 * guard.h - judges messages before they are dispatched.
 *
 * In this order, for queues whose section says so: whether the sender is
 * banned; size and format (the engine's own work); Verify=; [Screen NAME];
 * SenderLimit=.  The first that objects decides.
 *
 * Sender= names who sent a message.  It is what the message says about itself:
 * as true as what is signed (VerifyWith=), and as the broker's own attributes.
 */
#ifndef BOT_GUARD_GUARD_H
#define BOT_GUARD_GUARD_H

#include <jansson.h>

#include "config/config.h"
#include "engine/guard.h"

struct bans;
struct guards;
struct screen;

extern const struct config_kind guard_queue_kind;	/* [Queue] keys */

#define ERROR_TYPE_BANNED		"banned"	/* guard/bans.h */
#define ERROR_TYPE_UNAUTHENTICATED	"unauthenticated"	/* Verify= */
#define ERROR_TYPE_SUSPICIOUS		"suspicious"	/* [Screen NAME] */
#define ERROR_TYPE_FLOOD		"flood"		/* SenderLimit= */

/* Problems of what the guard reads are added to the tree; files of keys are
   read to see whether they can be. */
void	guards_check(struct config *);

/* The configuration must be free of problems.  Sets itself as the engine's
   guard; must be freed after the engine. */
struct guards *guards_new(struct engine *, struct config *);
void	guards_free(struct guards *);		/* accepts NULL */
/* Whose senders are banned; they must outlive the guards. NULL: nobody's. */
void	guards_set_bans(struct guards *, struct bans *);
/*
 * Before engine_reload(), which then attaches every queue anew: files of keys
 * are read again, whatever else has changed.  Returns how many [Screen]
 * sections changed.
 */
unsigned guards_reload(struct guards *, struct config *);

/* The i-th screen, or NULL behind the last. */
const struct screen *guards_screen(const struct guards *, size_t i);

#endif
