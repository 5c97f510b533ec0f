#include "base/hash.h"

#include "base/alloc.h"
#include "base/random.h"

/* SipHash-1-3 (Aumasson, Bernstein 2012), keyed per process. */
#define ROTL(x, b)	(((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND \
	do { \
		v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32); \
		v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2; \
		v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0; \
		v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32); \
	} while (0)

uint64_t
hash_of(struct slice s)
{
	static uint64_t k0, k1;
	uint64_t v0, v1, v2, v3, m;
	const char *p = s.p, *end = s.n != 0 ? s.p + (s.n & ~(size_t)7) : s.p;

	if (unlikely(k0 == 0)) {
		k0 = random_u64() | 1;
		k1 = random_u64();
	}
	v0 = k0 ^ 0x736f6d6570736575u;
	v1 = k1 ^ 0x646f72616e646f6du;
	v2 = k0 ^ 0x6c7967656e657261u;
	v3 = k1 ^ 0x7465646279746573u;
	for (; p != end; p += 8) {
		memcpy(&m, p, 8);
		v3 ^= m;
		SIPROUND;
		v0 ^= m;
	}
	m = (uint64_t)s.n << 56;
	for (size_t i = 0; i < (s.n & 7); i++)
		m |= (uint64_t)(unsigned char)p[i] << (8 * i);
	v3 ^= m;
	SIPROUND;
	v0 ^= m;
	v2 ^= 0xff;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

void
hash_init(struct hash *h)
{
	*h = (struct hash){ NULL, 0, 0 };
}

void
hash_done(struct hash *h)
{
	BUG_ON(h->count != 0);
	free(h->bucket);
	hash_init(h);
}

static void
grow(struct hash *h)
{
	size_t n = MAX((size_t)16, h->nbuckets * 2);
	struct hash_node **fresh = xcalloc(n, sizeof(*fresh));

	for (size_t i = 0; i < h->nbuckets; i++) {
		struct hash_node *node = h->bucket[i], *next;

		for (; node != NULL; node = next) {
			next = node->next;
			node->next = fresh[node->hash & (n - 1)];
			fresh[node->hash & (n - 1)] = node;
		}
	}
	free(h->bucket);
	h->bucket = fresh;
	h->nbuckets = n;
}

void
hash_insert(struct hash *h, struct hash_node *node, struct slice key)
{
	if (h->count >= h->nbuckets)
		grow(h);
	node->key = key;
	node->hash = hash_of(key);
	node->next = h->bucket[node->hash & (h->nbuckets - 1)];
	h->bucket[node->hash & (h->nbuckets - 1)] = node;
	h->count++;
}

void
hash_remove(struct hash *h, struct hash_node *node)
{
	struct hash_node **at;

	BUG_ON(h->nbuckets == 0);
	at = &h->bucket[node->hash & (h->nbuckets - 1)];
	while (*at != node) {
		BUG_ON(*at == NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	h->count--;
}

struct hash_node *
hash_find(const struct hash *h, struct slice key)
{
	struct hash_node *node;
	uint64_t hash;

	if (h->count == 0)
		return NULL;
	hash = hash_of(key);
	node = h->bucket[hash & (h->nbuckets - 1)];
	while (node != NULL && !(node->hash == hash && slice_eq(node->key, key)))
		node = node->next;
	return node;
}

struct hash_node *
hash_any(const struct hash *h)
{
	for (size_t i = 0; h->count != 0 && i < h->nbuckets; i++)
		if (h->bucket[i] != NULL)
			return h->bucket[i];
	return NULL;
}
