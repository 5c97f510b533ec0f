/*
 * check.h - [Check NAME]: looks again and again whether something that
 * handlers need (a dependency: a database, an API) can be used.
 *
 * Opens and closes the engine's gate of its name, so that the queues that name
 * it in Requires= pause while it is down (engine/gate.c).  All of it runs in
 * the loop; a peer that accepts and then says nothing costs its own check a
 * Timeout= and nobody else anything (invariant 3).
 *
 * Pending until the first result, which counts at once; then Failures= bad
 * ones in a row make it down and Successes= good ones bring it back.
 */
#ifndef BOT_OBSERVE_CHECK_H
#define BOT_OBSERVE_CHECK_H

#include "engine/engine.h"

extern const struct config_kind check_config_kind;

struct checks;

/* Problems within and between the keys go to the tree; opens nothing. */
void	checks_verify(struct config *);

/* The configuration must be free of problems. */
struct checks *checks_new(struct loop *, struct resolver *, struct engine *,
	    struct config *);
/* The first look at each, in the next turn. */
void	checks_start(struct checks *);
/*
 * Applies the difference; to be called before engine_reload(), whose queues
 * may require what is new.  One whose target has changed is pending again.
 * Returns how many sections changed.
 */
unsigned checks_reload(struct checks *, struct config *);
/* No look any more; what was found stays to be read. For the drain. */
void	checks_stop(struct checks *);
/* Before the engine is. Accepts NULL. */
void	checks_free(struct checks *);

#endif
