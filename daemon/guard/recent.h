/*
 * recent.h - a bounded memory of what was seen lately.
 *
 * Entries of one size, found by a number (hash_of() of what strangers choose).
 * When it is full, the one that was not asked for longest makes room.
 */
#ifndef BOT_GUARD_RECENT_H
#define BOT_GUARD_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recent;

struct recent *recent_new(size_t entry_bytes, size_t max);
void	recent_free(struct recent *);		/* accepts NULL */
/* The entry of that key, zeroed when it is new; until the next call. */
void	*recent_get(struct recent *, uint64_t key);
size_t	recent_count(const struct recent *);

#endif
