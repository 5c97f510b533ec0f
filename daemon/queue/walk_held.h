/*
 * walk_held.h - a walk over the dead letters of a service that cannot be looked
 * into (SQS, Pub/Sub): it receives them a page at a time, hidden from others
 * for WALK_HOLD_SECONDS, and gives back what it has not acted on when it ends.
 * One that is cut off leaves them to come back by themselves.
 *
 * Each is shown once in a walk: what is received again only brings its newer
 * receipt.  A page without anything new is the end.
 */
#ifndef BOT_QUEUE_WALK_HELD_H
#define BOT_QUEUE_WALK_HELD_H

#include "base/hash.h"
#include "queue/walk.h"

#define WALK_HOLD_SECONDS	120u
#define WALK_PAGE_MAX		100u

struct held_walk {
	struct walk base;
	struct chunk *chunk;		/* of the page */
	struct message *page[WALK_PAGE_MAX];
	unsigned n, at;
	struct message *current;	/* what was shown; NULL: nothing */
	struct hash seen;
};

void	held_walk_init(struct held_walk *);	/* beside walk_init() */
/* The page and what is left of seen. */
void	held_walk_done(struct held_walk *);

/* A new page: drops the one before, and makes its chunk. */
void	held_walk_page(struct held_walk *);
/* m is of the page's chunk; taken. The page must not be full. */
void	held_walk_add(struct held_walk *, struct message *m);
/* Shows the next of the page; false when there is none. */
bool	held_walk_next(struct held_walk *);
/* The newest receipt of the current one. */
struct slice held_walk_receipt(const struct held_walk *);
/* The current one was acted on: it is not given back. */
void	held_walk_gone(struct held_walk *);
/* One after the other of those that are to be given back; it is forgotten, and
   its receipt copied into the chunk. False: no more. */
bool	held_walk_take_seen(struct held_walk *, struct chunk *,
	    struct slice *ret_receipt);

/* An attribute's text, or its number; empty and 0 when it is not there. */
struct slice held_walk_text(const struct message *, const char *name);
uint64_t held_walk_number(const struct message *, const char *name);

#endif
