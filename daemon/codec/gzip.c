#include "codec/gzip.h"

#include <zlib.h>

#include "base/alloc.h"
#include "base/secret.h"

/* zlib.h, deflateInit2(): 16 more for a gzip header; 8 is the default. */
#define WINDOW_BITS	(MAX_WBITS + 16)
#define MEMORY_LEVEL	8

/* Its length stands before each block, to wipe it by; aligned as malloc(3)
   does. */
union block {
	size_t n;
	max_align_t align;
};

static voidpf
allocate(voidpf opaque, uInt items, uInt size)
{
	size_t n = (size_t)items * size;
	union block *b = xcalloc(1, sizeof(*b) + n);

	(void)opaque;
	b->n = n;
	return b + 1;
}

static void
release(voidpf opaque, voidpf p)
{
	union block *b = (union block *)p - 1;

	(void)opaque;
	secret_wipe(p, b->n);
	free(b);
}

void
gzip_add(struct buffer *out, struct slice in)
{
	z_stream z = { .zalloc = allocate, .zfree = release };
	size_t room;

	BUG_ON(in.n > UINT32_MAX);
	/* The fastest level: JSON becomes a tenth all the same. */
	if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, WINDOW_BITS,
	    MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		BUG("deflateInit2: %s", z.msg != NULL ? z.msg : "no memory");
	room = deflateBound(&z, in.n);
	BUG_ON(room > UINT32_MAX);
	z.next_in = (Bytef *)(uintptr_t)in.p;
	z.avail_in = (uInt)in.n;
	z.next_out = (Bytef *)buffer_reserve(out, room);
	z.avail_out = (uInt)room;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		BUG("deflate: %s", z.msg != NULL ? z.msg : "no room");
	buffer_commit(out, room - z.avail_out);
	(void)deflateEnd(&z);
}
