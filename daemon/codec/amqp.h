/*
 * amqp.h - AMQP 0-9-1 on the wire, with rabbitmq-c as the codec of methods,
 * properties and field tables.  Pure: no descriptor, no clock.
 *
 * Ours are the frames (specification, 2.3.5 and 4.2.3) and the bounds: what a
 * peer may send is checked before the library, which recurses into nested
 * tables and trusts that it was asked for nothing foolish, sees it.
 */
#ifndef BOT_CODEC_AMQP_H
#define BOT_CODEC_AMQP_H

#include <stdint.h>
#include <sys/time.h>
#include <amqp.h>
#include <amqp_framing.h>

#include "base/buffer.h"
#include "base/error.h"

/* "AMQP" 0 0 9 1: what a client says first (specification, 4.2.2). */
#define AMQP_WIRE_GREETING	SLICE("AMQP\0\0\x09\x01")
#define AMQP_WIRE_FRAME_MIN	((size_t)4096)		/* 4.2.3 */
#define AMQP_WIRE_FRAME_MAX	((size_t)131072)	/* RabbitMQ's default */
#define AMQP_WIRE_OVERHEAD	((size_t)8)		/* 7 in front, 1 behind */
#define AMQP_WIRE_DEPTH_MAX	32	/* tables and arrays in each other */
#define AMQP_WIRE_SHORT_MAX	((size_t)255)		/* a short string */

struct amqp_wire_frame {
	uint8_t type;		/* AMQP_FRAME_METHOD, _HEADER, _BODY, _HEARTBEAT */
	uint16_t channel;
	struct slice payload;	/* points into the input */
};

/*
 * The frame at the start of in.  Returns its bytes, 0 when more must come, or
 * -EPROTO and *err (PROTOCOL "not_amqp", "frame_too_large",
 * "malformed_frame").
 */
ssize_t	amqp_wire_frame(struct slice in, size_t frame_max,
	    struct amqp_wire_frame *ret, struct error *err);

/*
 * Decodes a method that a server may send to a client that consumes, publishes
 * with confirms or transactions, and declares queues; any other is
 * "unexpected_method".  The result lives in the pool and points into payload.
 */
int	amqp_wire_method(struct slice payload, amqp_pool_t *, amqp_method_t *ret,
	    struct error *err);
/* "basic.deliver", for people. */
const char *amqp_wire_method_name(amqp_method_number_t);

struct amqp_wire_header {
	uint64_t body_size;
	struct slice properties;	/* raw: flags and what follows */
};

/* A content header of class basic. */
int	amqp_wire_header(struct slice payload, struct amqp_wire_header *ret,
	    struct error *err);
/*
 * Properties as they are in a header.  Byte strings point into raw, tables
 * live in the pool.  -EPROTO and *err for what is malformed or nested deeper
 * than AMQP_WIRE_DEPTH_MAX.
 */
int	amqp_wire_properties(struct slice raw, amqp_pool_t *,
	    amqp_basic_properties_t **ret, struct error *err);

/* ---- sending: frames are appended ---- */

void	amqp_wire_add_method(struct buffer *, uint16_t channel,
	    amqp_method_number_t, void *decoded);
/* What a batch has many of, without the library. */
void	amqp_wire_add_ack(struct buffer *, uint16_t channel, uint64_t tag,
	    bool multiple);
void	amqp_wire_add_requeue(struct buffer *, uint16_t channel, uint64_t tag);
void	amqp_wire_add_requeue_all(struct buffer *, uint16_t channel);
void	amqp_wire_add_heartbeat(struct buffer *);
/*
 * basic.publish to the default exchange (mandatory) with its content, in as
 * many frames as it takes.  -EMSGSIZE and *err when the properties do not fit
 * into one frame; nothing is appended then.
 */
int	amqp_wire_add_publish(struct buffer *, uint16_t channel,
	    size_t frame_max, struct slice queue,
	    const amqp_basic_properties_t *, struct slice body,
	    struct error *err);

/* ---- values ---- */

static inline struct slice
amqp_wire_slice(amqp_bytes_t b)
{
	return (struct slice){ b.bytes, b.len };
}

static inline amqp_bytes_t
amqp_wire_bytes(struct slice s)
{
	return (amqp_bytes_t){ .len = s.n, .bytes = (void *)(uintptr_t)s.p };
}

/* NULL when the table has no such key. */
const amqp_field_value_t *amqp_wire_find(const amqp_table_t *, const char *key);
/* Any of the integer kinds, or a string of digits. -EINVAL, -ERANGE. */
int	amqp_wire_to_u64(const amqp_field_value_t *, uint64_t *ret);
/* Text is a JSON string, byte arrays are base64, void is null. */
void	amqp_wire_add_json(struct buffer *, const amqp_field_value_t *);

#endif
