#include "codec/amqp.h"

#include "base/alloc.h"

/* ---- numbers ---- */

static uint16_t
get16(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint16_t)(u[0] << 8 | u[1]);
}

static uint32_t
get32(const char *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t
get64(const char *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static char *
put16(char *p, uint16_t n)
{
	*p++ = (char)(n >> 8);
	*p++ = (char)n;
	return p;
}

static char *
put32(char *p, uint32_t n)
{
	return put16(put16(p, (uint16_t)(n >> 16)), (uint16_t)n);
}

static char *
put64(char *p, uint64_t n)
{
	return put32(put32(p, (uint32_t)(n >> 32)), (uint32_t)n);
}

/* ---- frames ---- */

static int
bad(struct error *err, const char *code, const char *fmt, ...)
    _printf_(3, 4);

static int
bad(struct error *err, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_vset(err, ERROR_PROTOCOL, code, fmt, ap);
	va_end(ap);
	return -EPROTO;
}

static bool
frame_type_known(uint8_t type)
{
	return type == AMQP_FRAME_METHOD || type == AMQP_FRAME_HEADER ||
	    type == AMQP_FRAME_BODY || type == AMQP_FRAME_HEARTBEAT;
}

ssize_t
amqp_wire_frame(struct slice in, size_t frame_max, struct amqp_wire_frame *ret,
    struct error *err)
{
	size_t size;

	if (in.n == 0)
		return 0;
	ret->type = (uint8_t)in.p[0];
	if (ret->type == 'A')
		return bad(err, "not_amqp", "the server refuses AMQP 0-9-1: "
		    "it answered with a protocol header of its own");
	if (!frame_type_known(ret->type))
		return bad(err, "not_amqp", "what the server sends is not "
		    "AMQP 0-9-1 (a frame cannot begin with byte %u); is the "
		    "port right, and TLS=?", ret->type);
	if (in.n < AMQP_WIRE_OVERHEAD - 1)
		return 0;
	size = get32(in.p + 3);
	if (size > frame_max - AMQP_WIRE_OVERHEAD)
		return bad(err, "frame_too_large", "a frame of %zu bytes came; "
		    "%zu were agreed on", size, frame_max);
	if (in.n < size + AMQP_WIRE_OVERHEAD)
		return 0;
	if ((uint8_t)in.p[size + AMQP_WIRE_OVERHEAD - 1] != AMQP_FRAME_END)
		return bad(err, "malformed_frame",
		    "a frame does not end with 0xCE");
	ret->channel = get16(in.p + 1);
	ret->payload = (struct slice){ in.p + 7, size };
	return (ssize_t)(size + AMQP_WIRE_OVERHEAD);
}

/* ---- field tables, before the library sees them ---- */

/* Bytes of a value of that kind; SIZE_MAX: has a length in front. */
static size_t
value_size(char kind)
{
	switch (kind) {
	case 'V':
		return 0;
	case 't': case 'b': case 'B':
		return 1;
	case 's': case 'u':
		return 2;
	case 'I': case 'i': case 'f':
		return 4;
	case 'D':
		return 5;
	case 'l': case 'L': case 'd': case 'T':
		return 8;
	case 'S': case 'x': case 'A': case 'F':
		return SIZE_MAX;
	default:
		return SIZE_MAX - 1;
	}
}

static const char malformed_table[] = "a field table is malformed";

/*
 * One value without its key at *at, which moves behind it; a table or array is
 * only entered: *inner is where it ends, else 0.
 */
static int
check_value(struct slice t, size_t *at, size_t end, size_t *inner,
    bool *is_array, struct error *err)
{
	size_t size;
	char kind;

	*inner = 0;
	if (*at >= end)
		return bad(err, "malformed_frame", "%s", malformed_table);
	kind = t.p[(*at)++];
	size = value_size(kind);
	if (size == SIZE_MAX - 1)
		return bad(err, "malformed_frame",
		    "a field table has a value of the unknown kind %u",
		    (unsigned char)kind);
	if (size == SIZE_MAX) {
		if (end - *at < 4)
			return bad(err, "malformed_frame", "%s",
			    malformed_table);
		size = get32(t.p + *at);
		*at += 4;
		if (size > end - *at)
			return bad(err, "malformed_frame", "%s",
			    malformed_table);
		if (kind == 'A' || kind == 'F') {
			*inner = *at + size;
			*is_array = kind == 'A';
			return 0;
		}
	}
	if (size > end - *at)
		return bad(err, "malformed_frame", "%s", malformed_table);
	*at += size;
	return 0;
}

/* t is a whole table with its length in front; more may follow it. */
static int
check_table(struct slice t, struct error *err)
{
	struct {
		size_t end;
		bool array;
	} level[AMQP_WIRE_DEPTH_MAX];
	size_t at = 4, depth = 0;

	if (t.n < 4 || get32(t.p) > t.n - 4)
		return bad(err, "malformed_frame", "%s", malformed_table);
	level[0].end = 4 + get32(t.p);
	level[0].array = false;
	for (;;) {
		size_t end = level[depth].end, inner;
		bool array = false;

		if (at == end) {
			if (depth == 0)
				return 0;
			depth--;
			continue;
		}
		if (!level[depth].array) {
			at += 1 + (size_t)(unsigned char)t.p[at];
			if (at > end)
				return bad(err, "malformed_frame", "%s",
				    malformed_table);
		}
		if (check_value(t, &at, end, &inner, &array, err) < 0)
			return -EPROTO;
		if (inner == 0)
			continue;
		if (++depth == AMQP_WIRE_DEPTH_MAX)
			return bad(err, "nested_too_deeply", "tables are nested "
			    "deeper than %d levels", AMQP_WIRE_DEPTH_MAX);
		level[depth].end = inner;
		level[depth].array = array;
	}
}

/* ---- methods ---- */

static const struct {
	amqp_method_number_t id;
	const char *name;
	bool from_server;
} methods[] = {
	{ AMQP_BASIC_DELIVER_METHOD, "basic.deliver", true },
	{ AMQP_BASIC_ACK_METHOD, "basic.ack", true },
	{ AMQP_BASIC_NACK_METHOD, "basic.nack", true },
	{ AMQP_BASIC_GET_OK_METHOD, "basic.get-ok", true },
	{ AMQP_BASIC_GET_EMPTY_METHOD, "basic.get-empty", true },
	{ AMQP_BASIC_RETURN_METHOD, "basic.return", true },
	{ AMQP_BASIC_QOS_OK_METHOD, "basic.qos-ok", true },
	{ AMQP_BASIC_CONSUME_OK_METHOD, "basic.consume-ok", true },
	{ AMQP_BASIC_CANCEL_METHOD, "basic.cancel", true },
	{ AMQP_BASIC_CANCEL_OK_METHOD, "basic.cancel-ok", true },
	{ AMQP_CONNECTION_START_METHOD, "connection.start", true },
	{ AMQP_CONNECTION_SECURE_METHOD, "connection.secure", true },
	{ AMQP_CONNECTION_TUNE_METHOD, "connection.tune", true },
	{ AMQP_CONNECTION_OPEN_OK_METHOD, "connection.open-ok", true },
	{ AMQP_CONNECTION_CLOSE_METHOD, "connection.close", true },
	{ AMQP_CONNECTION_CLOSE_OK_METHOD, "connection.close-ok", true },
	{ AMQP_CONNECTION_BLOCKED_METHOD, "connection.blocked", true },
	{ AMQP_CONNECTION_UNBLOCKED_METHOD, "connection.unblocked", true },
	{ AMQP_CHANNEL_OPEN_OK_METHOD, "channel.open-ok", true },
	{ AMQP_CHANNEL_FLOW_METHOD, "channel.flow", true },
	{ AMQP_CHANNEL_CLOSE_METHOD, "channel.close", true },
	{ AMQP_CHANNEL_CLOSE_OK_METHOD, "channel.close-ok", true },
	{ AMQP_QUEUE_DECLARE_OK_METHOD, "queue.declare-ok", true },
	{ AMQP_CONFIRM_SELECT_OK_METHOD, "confirm.select-ok", true },
	{ AMQP_TX_SELECT_OK_METHOD, "tx.select-ok", true },
	{ AMQP_TX_COMMIT_OK_METHOD, "tx.commit-ok", true },
};

const char *
amqp_wire_method_name(amqp_method_number_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (methods[i].id == id)
			return methods[i].name;
	return "a method";
}

static bool
method_expected(amqp_method_number_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (methods[i].id == id)
			return true;
	return false;
}

int
amqp_wire_method(struct slice payload, amqp_pool_t *pool, amqp_method_t *ret,
    struct error *err)
{
	struct slice args;

	if (payload.n < 4)
		return bad(err, "malformed_frame",
		    "a method frame has only %zu bytes", payload.n);
	ret->id = get32(payload.p);
	args = (struct slice){ payload.p + 4, payload.n - 4 };
	if (!method_expected(ret->id))
		return bad(err, "unexpected_method", "the server sent method "
		    "%u of class %u, which has no place here",
		    ret->id & 0xffff, ret->id >> 16);
	/* The only one of them with a table: behind the version's two bytes. */
	if (ret->id == AMQP_CONNECTION_START_METHOD) {
		if (args.n < 2 || check_table((struct slice){ args.p + 2,
		    args.n - 2 }, err) < 0)
			return bad(err, "malformed_frame",
			    "the server properties of connection.start are "
			    "malformed");
	}
	if (amqp_decode_method(ret->id, pool, amqp_wire_bytes(args),
	    &ret->decoded) != AMQP_STATUS_OK)
		return bad(err, "malformed_frame", "the arguments of %s are "
		    "malformed", amqp_wire_method_name(ret->id));
	return 0;
}

/* ---- content ---- */

int
amqp_wire_header(struct slice payload, struct amqp_wire_header *ret,
    struct error *err)
{
	if (payload.n < 14)
		return bad(err, "malformed_frame",
		    "a content header has only %zu bytes", payload.n);
	if (get16(payload.p) != AMQP_BASIC_CLASS)
		return bad(err, "malformed_frame",
		    "a content header is of class %u", get16(payload.p));
	ret->body_size = get64(payload.p + 4);
	ret->properties = (struct slice){ payload.p + 12, payload.n - 12 };
	return 0;
}

/* Behind the two short strings that may stand in front of the headers. */
static int
check_headers(struct slice raw, struct error *err)
{
	size_t at = 2;
	unsigned flags;

	if (raw.n < 2)
		return bad(err, "malformed_frame", "properties without flags");
	flags = get16(raw.p);
	/* A continuation of the flags: basic has no such property. */
	if ((flags & 1) != 0)
		return bad(err, "malformed_frame",
		    "properties that class basic does not have");
	if ((flags & AMQP_BASIC_HEADERS_FLAG) == 0)
		return 0;
	for (unsigned bit = AMQP_BASIC_CONTENT_TYPE_FLAG;
	    bit >= AMQP_BASIC_CONTENT_ENCODING_FLAG; bit >>= 1) {
		if ((flags & bit) == 0)
			continue;
		if (at >= raw.n)
			return bad(err, "malformed_frame",
			    "properties are cut off");
		at += 1 + (size_t)(unsigned char)raw.p[at];
	}
	if (at > raw.n)
		return bad(err, "malformed_frame", "properties are cut off");
	return check_table((struct slice){ raw.p + at, raw.n - at }, err);
}

int
amqp_wire_properties(struct slice raw, amqp_pool_t *pool,
    amqp_basic_properties_t **ret, struct error *err)
{
	void *decoded;

	if (check_headers(raw, err) < 0)
		return -EPROTO;
	if (amqp_decode_properties(AMQP_BASIC_CLASS, pool,
	    amqp_wire_bytes(raw), &decoded) != AMQP_STATUS_OK)
		return bad(err, "malformed_frame", "properties are malformed");
	*ret = decoded;
	return 0;
}

/* ---- sending ---- */

static char *
frame_begin(char *p, uint8_t type, uint16_t channel, size_t size)
{
	*p++ = (char)type;
	return put32(put16(p, channel), (uint32_t)size);
}

void
amqp_wire_add_method(struct buffer *b, uint16_t channel,
    amqp_method_number_t id, void *decoded)
{
	/* Ours are short: names of at most 255 bytes and small tables. */
	const size_t room = AMQP_WIRE_FRAME_MIN;
	char *p = buffer_reserve(b, room);
	int n = amqp_encode_method(id, decoded, (amqp_bytes_t){
	    .len = room - 12, .bytes = p + 11 });

	if (n < 0)
		BUG("method %#x does not fit into a frame", id);
	put32(frame_begin(p, AMQP_FRAME_METHOD, channel, (size_t)n + 4), id);
	p[11 + n] = (char)AMQP_FRAME_END;
	buffer_commit(b, (size_t)n + 12);
}

/* basic.ack and basic.nack have the same arguments: a tag and bits. */
static void
add_tag(struct buffer *b, uint16_t channel, amqp_method_number_t id,
    uint64_t tag, uint8_t bits)
{
	char *p = buffer_reserve(b, 21);

	p = put32(frame_begin(p, AMQP_FRAME_METHOD, channel, 13), id);
	p = put64(p, tag);
	*p++ = (char)bits;
	*p = (char)AMQP_FRAME_END;
	buffer_commit(b, 21);
}

void
amqp_wire_add_ack(struct buffer *b, uint16_t channel, uint64_t tag,
    bool multiple)
{
	add_tag(b, channel, AMQP_BASIC_ACK_METHOD, tag, multiple);
}

void
amqp_wire_add_requeue(struct buffer *b, uint16_t channel, uint64_t tag)
{
	/* bit 0: multiple, bit 1: requeue */
	add_tag(b, channel, AMQP_BASIC_NACK_METHOD, tag, 2);
}

void
amqp_wire_add_requeue_all(struct buffer *b, uint16_t channel)
{
	/* Tag 0 with multiple is all of them (basic.nack). */
	add_tag(b, channel, AMQP_BASIC_NACK_METHOD, 0, 3);
}

void
amqp_wire_add_heartbeat(struct buffer *b)
{
	char *p = frame_begin(buffer_reserve(b, AMQP_WIRE_OVERHEAD),
	    AMQP_FRAME_HEARTBEAT, 0, 0);

	*p = (char)AMQP_FRAME_END;
	buffer_commit(b, AMQP_WIRE_OVERHEAD);
}

static void
add_body(struct buffer *b, uint16_t channel, size_t frame_max,
    struct slice body)
{
	while (body.n != 0) {
		size_t n = MIN(body.n, frame_max - AMQP_WIRE_OVERHEAD);
		char *p = buffer_reserve(b, n + AMQP_WIRE_OVERHEAD);

		p = frame_begin(p, AMQP_FRAME_BODY, channel, n);
		memcpy(p, body.p, n);
		p[n] = (char)AMQP_FRAME_END;
		buffer_commit(b, n + AMQP_WIRE_OVERHEAD);
		body.p += n;
		body.n -= n;
	}
}

int
amqp_wire_add_publish(struct buffer *b, uint16_t channel, size_t frame_max,
    struct slice queue, const amqp_basic_properties_t *properties,
    struct slice body, struct error *err)
{
	amqp_basic_publish_t publish = {
		.routing_key = amqp_wire_bytes(queue),
		.mandatory = 1,
	};
	size_t before = buffer_len(b);
	char *p;
	int n;

	amqp_wire_add_method(b, channel, AMQP_BASIC_PUBLISH_METHOD, &publish);
	p = buffer_reserve(b, frame_max);
	n = amqp_encode_properties(AMQP_BASIC_CLASS,
	    (void *)(uintptr_t)properties, (amqp_bytes_t){
	    .len = frame_max - AMQP_WIRE_OVERHEAD - 12, .bytes = p + 19 });
	if (n < 0) {
		b->end -= buffer_len(b) - before;
		error_set(err, ERROR_REJECTED, "headers_too_large", "its "
		    "properties do not fit into a frame of %zu bytes",
		    frame_max);
		return -EMSGSIZE;
	}
	p = frame_begin(p, AMQP_FRAME_HEADER, channel, (size_t)n + 12);
	p = put64(put16(put16(p, AMQP_BASIC_CLASS), 0), body.n);
	p[n] = (char)AMQP_FRAME_END;
	buffer_commit(b, (size_t)n + 12 + AMQP_WIRE_OVERHEAD);
	add_body(b, channel, frame_max, body);
	return 0;
}
