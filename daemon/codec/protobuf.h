/*
 * protobuf.h - protobuf-c on chunks and buffers.
 *
 * What a server sends is unpacked into a chunk: no call of free, and strings
 * and bytes stay valid for as long as somebody holds the chunk.  The memory
 * of one message is bounded by its size on the wire (two bytes there can make
 * a hundred here), and groups of fields that our .proto files do not know are
 * skipped at no cost worth mentioning.  Our messages do not nest in themselves,
 * so depth needs no bound of its own.
 */
#ifndef BOT_CODEC_PROTOBUF_H
#define BOT_CODEC_PROTOBUF_H

#include <protobuf-c/protobuf-c.h>

#include "base/buffer.h"
#include "base/chunk.h"
#include "base/error.h"

/* Memory of an unpacked message: this much, and so many times its wire size. */
#define PROTOBUF_SLACK		((size_t)64 * 1024)
#define PROTOBUF_GROWTH		((size_t)16)

/*
 * The message, which lives in the chunk (never protobuf_c_message_free it), or
 * NULL and PROTOCOL "malformed_message".  Usually through PROTOBUF_UNPACK.
 */
ProtobufCMessage *protobuf_unpack(const ProtobufCMessageDescriptor *,
	    struct slice wire, struct chunk *, struct error *err);

/* PROTOBUF_UNPACK(Google__Rpc__Status, google__rpc__status, wire, chunk, &err) */
#define PROTOBUF_UNPACK(type, name, wire, chunk, err) \
	((type *)(void *)protobuf_unpack(&name##__descriptor, wire, chunk, err))

/*
 * The next field of a message that is not to be unpacked as a whole: returns
 * its number and moves *in behind it; 0 at the end, -EPROTO for what is no
 * field.  *ret: the bytes of a length-delimited one, else p is NULL.  (The
 * encoding page of protobuf.dev, "Message structure".)
 */
int	protobuf_field(struct slice *in, struct slice *ret);

/* Appends the packed message. Pass &m->base. */
void	protobuf_pack(struct buffer *, const ProtobufCMessage *);

static inline struct slice
protobuf_slice(ProtobufCBinaryData b)
{
	return (struct slice){ (const char *)b.data, b.len };
}

static inline ProtobufCBinaryData
protobuf_bytes(struct slice s)
{
	return (ProtobufCBinaryData){ .len = s.n,
	    .data = (uint8_t *)(uintptr_t)s.p };
}

#endif
