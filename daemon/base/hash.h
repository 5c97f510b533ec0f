/*
 * hash.h - a hash table from byte strings to objects that embed a node.
 *
 * The table owns its buckets only; keys belong to the objects and must stay
 * unchanged while linked.  The hash is seeded per process, since peers choose
 * many of the keys.
 */
#ifndef BOT_BASE_HASH_H
#define BOT_BASE_HASH_H

#include "base/slice.h"

struct hash_node {
	struct hash_node *next;
	uint64_t hash;
	struct slice key;
};

struct hash {
	struct hash_node **bucket;
	size_t nbuckets;	/* a power of two, or 0 */
	size_t count;
};

/* Of a process's own key: not to be kept longer than it. */
uint64_t hash_of(struct slice);

void	hash_init(struct hash *);
void	hash_done(struct hash *);		/* must be empty */
/* The key must not be in the table yet. */
void	hash_insert(struct hash *, struct hash_node *, struct slice key);
void	hash_remove(struct hash *, struct hash_node *);
struct hash_node *hash_find(const struct hash *, struct slice key);
/* Any member, or NULL: for emptying. */
struct hash_node *hash_any(const struct hash *);

#endif
