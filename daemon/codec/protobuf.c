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

static bool
varint(struct slice *in, uint64_t *ret)
{
	*ret = 0;
	for (unsigned shift = 0; shift < 64 && in->n != 0; shift += 7) {
		unsigned char c = (unsigned char)*in->p;

		*ret |= (uint64_t)(c & 0x7f) << shift;
		in->p++;
		in->n--;
		if (c < 0x80)
			return true;
	}
	return false;
}

static bool
skip(struct slice *in, uint64_t n)
{
	if (n > in->n)
		return false;
	in->p += n;
	in->n -= (size_t)n;
	return true;
}

int
protobuf_field(struct slice *in, struct slice *ret)
{
	uint64_t tag, n;
	bool ok;

	*ret = (struct slice){ NULL, 0 };
	if (in->n == 0)
		return 0;
	if (!varint(in, &tag) || tag >> 3 == 0 || tag >> 3 > INT32_MAX >> 3)
		return -EPROTO;
	switch (tag & 7) {
	case 0:
		ok = varint(in, &n);
		break;
	case 1:
		ok = skip(in, 8);
		break;
	case 2:
		ok = varint(in, &n);
		*ret = (struct slice){ in->p, (size_t)n };
		ok = ok && skip(in, n);
		break;
	case 5:
		ok = skip(in, 4);
		break;
	default:		/* groups are of the past */
		ok = false;
	}
	return ok ? (int)(tag >> 3) : -EPROTO;
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
