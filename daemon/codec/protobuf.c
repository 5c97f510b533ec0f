#include "codec/protobuf.h"

#include "base/alloc.h"

/* What one unpacking may take from its chunk. */
struct arena {
	struct chunk *chunk;
	size_t left;
};

static void *
arena_alloc(void *data, size_t n)
{
	struct arena *a = data;

	n = (n + 7) & ~(size_t)7;	/* as the chunk does */
	if (n > a->left)
		return NULL;
	a->left -= n;
	return chunk_alloc(a->chunk, n);
}

static void
arena_free(void *data, void *p)
{
	(void)data;
	(void)p;
}

ProtobufCMessage *
protobuf_unpack(const ProtobufCMessageDescriptor *d, struct slice wire,
    struct chunk *chunk, struct error *err)
{
	static const uint8_t nothing[1];
	struct arena a = { chunk, PROTOBUF_SLACK };
	ProtobufCAllocator allocator = { arena_alloc, arena_free, &a };
	ProtobufCMessage *m;

	a.left += MIN(wire.n, (SIZE_MAX - a.left) / PROTOBUF_GROWTH) *
	    PROTOBUF_GROWTH;
	m = protobuf_c_message_unpack(d, &allocator, wire.n,
	    wire.n != 0 ? (const uint8_t *)wire.p : nothing);
	if (m == NULL)
		error_set(err, ERROR_PROTOCOL, "malformed_message",
		    "%zu bytes are no %s", wire.n, d->name);
	return m;
}

void
protobuf_pack(struct buffer *b, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	if (n == 0)
		return;
	(void)protobuf_c_message_pack(m, (uint8_t *)buffer_reserve(b, n));
	buffer_commit(b, n);
}
