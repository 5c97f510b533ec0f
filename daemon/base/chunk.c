#include "base/chunk.h"

#include "base/alloc.h"

#define BLOCK_BYTES	((size_t)32 * KIB)
#define CACHE_MAX	8	/* blocks kept for the next chunk */

struct block {
	struct block *next;
	size_t used, size;
	char data[] __attribute__((aligned(16)));
};

struct chunk {
	unsigned refs;
	size_t bytes;
	struct block *blocks;		/* newest first; the bump block is it */
};

/* The loop is one thread: a plain cache of ordinary blocks. */
static struct block *cache;
static unsigned cached;

static struct block *
block_get(size_t size)
{
	struct block *b;

	if (size == BLOCK_BYTES && cache != NULL) {
		b = cache;
		cache = b->next;
		cached--;
	} else {
		b = xmalloc(sizeof(*b) + size);
		b->size = size;
	}
	b->used = 0;
	return b;
}

static void
block_put(struct block *b)
{
	if (b->size == BLOCK_BYTES && cached < CACHE_MAX) {
		b->next = cache;
		cache = b;
		cached++;
	} else {
		free(b);
	}
}

__attribute__((destructor)) static void
cache_drop(void)
{
	while (cache != NULL) {
		struct block *b = cache;

		cache = b->next;
		free(b);
	}
	cached = 0;
}

struct chunk *
chunk_new(void)
{
	struct chunk *c = new0(struct chunk);

	c->refs = 1;
	return c;
}

struct chunk *
chunk_ref(struct chunk *c)
{
	c->refs++;
	return c;
}

void
chunk_unref(struct chunk *c)
{
	if (c == NULL)
		return;
	BUG_ON(c->refs == 0);
	if (--c->refs != 0)
		return;
	while (c->blocks != NULL) {
		struct block *b = c->blocks;

		c->blocks = b->next;
		block_put(b);
	}
	free(c);
}

void *
chunk_alloc(struct chunk *c, size_t n)
{
	struct block *b = c->blocks;
	char *p;

	n = (n + 7) & ~(size_t)7;
	if (b == NULL || b->size - b->used < n) {
		struct block *fresh;

		if (n > BLOCK_BYTES / 4 && b != NULL) {
			/* Behind the bump block, which still has room. */
			fresh = block_get(n);
			fresh->next = b->next;
			b->next = fresh;
		} else {
			fresh = block_get(MAX(n, BLOCK_BYTES));
			fresh->next = b;
			c->blocks = fresh;
		}
		c->bytes += sizeof(*fresh) + fresh->size;
		b = fresh;
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

struct slice
chunk_copy(struct chunk *c, const void *src, size_t n)
{
	char *p = chunk_alloc(c, n + 1);

	if (n != 0)
		memcpy(p, src, n);
	p[n] = '\0';
	return (struct slice){ p, n };
}

size_t
chunk_bytes(const struct chunk *c)
{
	return c->bytes;
}
