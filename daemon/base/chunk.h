/*
 * chunk.h - a reference-counted arena: what came in together lives together.
 *
 * A queue that receives a batch puts the bodies and attributes of all its
 * messages into one chunk; each message holds a reference, and the memory
 * goes when the last of them is settled.  This is what keeps malloc off the
 * per-message path.
 *
 * Allocations are bump-pointer, aligned to 8, never moved and never freed one
 * by one.  Large requests get a block of their own.
 */
#ifndef BOT_BASE_CHUNK_H
#define BOT_BASE_CHUNK_H

#include "base/slice.h"

struct chunk;

struct chunk *chunk_new(void);			/* one reference */
struct chunk *chunk_ref(struct chunk *);
void	chunk_unref(struct chunk *);		/* accepts NULL */

void	*chunk_alloc(struct chunk *, size_t) __attribute__((returns_nonnull));
/* A copy inside the chunk, with a NUL behind it that does not count. */
struct slice chunk_copy(struct chunk *, const void *, size_t);
size_t	chunk_bytes(const struct chunk *);	/* allocated, blocks included */

#endif
