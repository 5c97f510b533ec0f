/*
 * tried.h - how often a message was tried, and how many workers it has killed,
 * for services that keep no words of ours with a message that is to be tried
 * again.
 *
 * In memory, for the last TRIED_MAX of a queue.  What is forgotten, or was
 * never known (a restart, another consumer), begins with what the service
 * itself counts.
 */
#ifndef BOT_QUEUE_TRIED_H
#define BOT_QUEUE_TRIED_H

#include "base/hash.h"
#include "base/list.h"

#define TRIED_MAX	20000u

struct tried {
	unsigned attempt;		/* that it comes back as; 0: not kept */
	unsigned crashes;
	uint64_t due_us;		/* not before; monotonic; 0: at once */
	/* Where it waits meanwhile, for the owner; 0: nowhere. */
	uint32_t place_number;
	unsigned place;
};

struct tried_table {
	struct hash by_id;
	struct list order;		/* the oldest first */
};

void	tried_init(struct tried_table *);
void	tried_done(struct tried_table *);
/* Of the message with that id, which is copied; the oldest is forgotten when
   there are too many. */
void	tried_set(struct tried_table *, struct slice id, const struct tried *);
void	tried_forget(struct tried_table *, struct slice id);	/* or no-op */
/* NULL: not known. Valid until it is set or forgotten. */
struct tried *tried_find(const struct tried_table *, struct slice id);

#endif
