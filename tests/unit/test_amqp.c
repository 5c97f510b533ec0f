/* amqp: frames, methods, content and what is sent; bounds above all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "amqp_rig.h"
#include "base/alloc.h"

/* ---- frames ---- */

#define FRAME_MAX	((size_t)4096)

static void
add_frame(struct buffer *b, uint8_t type, uint16_t channel, const char *payload,
    size_t n)
{
	put8(b, type);
	put16(b, channel);
	put32(b, (uint32_t)n);
	buffer_add(b, payload, n);
	put8(b, AMQP_FRAME_END);
}

static void
test_frames_in_any_split(void **state _unused_)
{
	static const struct {
		uint8_t type;
		uint16_t channel;
		const char *payload;
		size_t n;
	} frames[] = {
		{ AMQP_FRAME_METHOD, 1, "\0\12\0\12", 4 },
		{ AMQP_FRAME_HEADER, 65535, "\xce\xce\xce", 3 },
		{ AMQP_FRAME_BODY, 256, "", 0 },
		{ AMQP_FRAME_HEARTBEAT, 0, "", 0 },
		{ AMQP_FRAME_BODY, 2, "a\0b", 3 },
	};
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct slice in;

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
		add_frame(&b, frames[i].type, frames[i].channel,
		    frames[i].payload, frames[i].n);
	in = buffer_slice(&b);
	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		size_t whole = frames[i].n + AMQP_WIRE_OVERHEAD;
		struct amqp_wire_frame f;
		struct error err = ERROR_INIT;

		for (size_t n = 0; n < whole; n++) {
			/* Memory of its own: nothing behind it is read. */
			char *part = xmemdup(in.p, MAX(n, (size_t)1));

			assert_int_equal(amqp_wire_frame((struct slice){ part,
			    n }, FRAME_MAX, &f, &err), 0);
			free(part);
		}
		assert_int_equal(amqp_wire_frame(in, FRAME_MAX, &f, &err),
		    whole);
		assert_int_equal(f.type, frames[i].type);
		assert_int_equal(f.channel, frames[i].channel);
		assert_ptr_equal(f.payload.p, in.p + 7);
		assert_int_equal(f.payload.n, frames[i].n);
		assert_memory_equal(f.payload.p, frames[i].payload,
		    frames[i].n);
		in.p += whole;
		in.n -= whole;
	}
	assert_int_equal(in.n, 0);
}

static void
frame_refused(const char *bytes, size_t n, const char *code)
{
	struct error err = ERROR_INIT;
	struct amqp_wire_frame f;

	assert_int_equal(amqp_wire_frame((struct slice){ bytes, n }, FRAME_MAX,
	    &f, &err), -EPROTO);
	assert_refused(&err, code);
}

static void
test_what_is_no_frame_is_refused_early(void **state _unused_)
{
	/* By its first byte, before anything is waited for. */
	frame_refused("AMQP\0\0\x09\x01", 8, "not_amqp");
	frame_refused("A", 1, "not_amqp");
	frame_refused("HTTP/1.1 400 Bad Request\r\n", 26, "not_amqp");
	frame_refused("\x15\x03\x03", 3, "not_amqp");	/* TLS */
	for (int i = 0; i < 256; i++) {
		const char c = (char)i;

		if (i != AMQP_FRAME_METHOD && i != AMQP_FRAME_HEADER &&
		    i != AMQP_FRAME_BODY && i != AMQP_FRAME_HEARTBEAT)
			frame_refused(&c, 1, "not_amqp");
	}
	/* By the size, before its bytes have come. */
	frame_refused("\3\0\1\xff\xff\xff\xff", 7, "frame_too_large");
	frame_refused("\3\0\1\0\0\x0f\xf9", 7, "frame_too_large");
	frame_refused("\3\0\1\0\0\0\1x\xcd", 9, "malformed_frame");
	frame_refused("\10\0\0\0\0\0\0\0", 8, "malformed_frame");
}

static void
test_a_frame_as_large_as_agreed_on(void **state _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char *body = xcalloc(FRAME_MAX, 1);
	struct error err = ERROR_INIT;
	struct amqp_wire_frame f;

	add_frame(&b, AMQP_FRAME_BODY, 1, body, FRAME_MAX - AMQP_WIRE_OVERHEAD);
	assert_int_equal(amqp_wire_frame(buffer_slice(&b), FRAME_MAX, &f, &err),
	    FRAME_MAX);
	assert_int_equal(amqp_wire_frame(buffer_slice(&b), FRAME_MAX - 1, &f,
	    &err), -EPROTO);
	assert_refused(&err, "frame_too_large");
	free(body);
}

/* ---- methods ---- */

static const struct {
	amqp_method_number_t id;
	const char *name;
	struct slice args;	/* a valid one */
} methods[] = {
	{ AMQP_BASIC_DELIVER_METHOD, "basic.deliver",
	    SLICE("\3tag\0\0\0\0\0\0\0\7\1\2ex\1k") },
	{ AMQP_BASIC_ACK_METHOD, "basic.ack", SLICE("\0\0\0\0\0\0\0\1\1") },
	{ AMQP_BASIC_NACK_METHOD, "basic.nack", SLICE("\0\0\0\0\0\0\0\1\3") },
	{ AMQP_BASIC_GET_OK_METHOD, "basic.get-ok",
	    SLICE("\0\0\0\0\0\0\0\1\0\0\1k\0\0\0\5") },
	{ AMQP_BASIC_GET_EMPTY_METHOD, "basic.get-empty", SLICE("\0") },
	{ AMQP_BASIC_RETURN_METHOD, "basic.return",
	    SLICE("\1\x38\4none\0\1k") },
	{ AMQP_BASIC_QOS_OK_METHOD, "basic.qos-ok", SLICE("") },
	{ AMQP_BASIC_CONSUME_OK_METHOD, "basic.consume-ok", SLICE("\1t") },
	{ AMQP_BASIC_CANCEL_METHOD, "basic.cancel", SLICE("\1t\1") },
	{ AMQP_BASIC_CANCEL_OK_METHOD, "basic.cancel-ok", SLICE("\1t") },
	{ AMQP_CONNECTION_START_METHOD, "connection.start",
	    SLICE("\0\11\0\0\0\4\1at\1\0\0\0\5PLAIN\0\0\0\5en_US") },
	{ AMQP_CONNECTION_SECURE_METHOD, "connection.secure",
	    SLICE("\0\0\0\2ab") },
	{ AMQP_CONNECTION_TUNE_METHOD, "connection.tune",
	    SLICE("\7\xff\0\2\0\0\0\x3c") },
	{ AMQP_CONNECTION_OPEN_OK_METHOD, "connection.open-ok", SLICE("\0") },
	{ AMQP_CONNECTION_CLOSE_METHOD, "connection.close",
	    SLICE("\1\x40\3bye\0\0\0\0") },
	{ AMQP_CONNECTION_CLOSE_OK_METHOD, "connection.close-ok", SLICE("") },
	{ AMQP_CONNECTION_BLOCKED_METHOD, "connection.blocked",
	    SLICE("\6memory") },
	{ AMQP_CONNECTION_UNBLOCKED_METHOD, "connection.unblocked", SLICE("") },
	{ AMQP_CHANNEL_OPEN_OK_METHOD, "channel.open-ok", SLICE("\0\0\0\0") },
	{ AMQP_CHANNEL_FLOW_METHOD, "channel.flow", SLICE("\1") },
	{ AMQP_CHANNEL_CLOSE_METHOD, "channel.close",
	    SLICE("\1\x94\2no\0\74\0\50") },
	{ AMQP_CHANNEL_CLOSE_OK_METHOD, "channel.close-ok", SLICE("") },
	{ AMQP_QUEUE_DECLARE_OK_METHOD, "queue.declare-ok",
	    SLICE("\1q\0\0\0\1\0\0\0\2") },
	{ AMQP_CONFIRM_SELECT_OK_METHOD, "confirm.select-ok", SLICE("") },
	{ AMQP_TX_SELECT_OK_METHOD, "tx.select-ok", SLICE("") },
	{ AMQP_TX_COMMIT_OK_METHOD, "tx.commit-ok", SLICE("") },
};

/* args, in memory that ends with them. */
static int
decode_method(amqp_method_number_t id, struct slice args, amqp_method_t *ret,
    struct error *err)
{
	static char *payload;
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	put32(&b, id);
	buffer_add_slice(&b, args);
	free(payload);
	payload = xmemdup(buffer_head(&b), buffer_len(&b));
	return amqp_wire_method((struct slice){ payload, buffer_len(&b) },
	    &pool, ret, err);
}

static void
test_methods_that_a_server_sends(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		struct error err = ERROR_INIT;
		amqp_method_t m;

		assert_string_equal(amqp_wire_method_name(methods[i].id),
		    methods[i].name);
		if (decode_method(methods[i].id, methods[i].args, &m,
		    &err) != 0)
			fail_msg("%s: %s", methods[i].name, err.text);
		assert_int_equal(m.id, methods[i].id);
		for (size_t n = 0; n < methods[i].args.n; n++) {
			error_clear(&err);
			if (decode_method(methods[i].id, (struct slice){
			    methods[i].args.p, n }, &m, &err) != -EPROTO)
				fail_msg("%s, cut to %zu bytes",
				    methods[i].name, n);
			assert_refused(&err, "malformed_frame");
		}
	}
	recycle_amqp_pool(&pool);
}

static void
test_arguments(void **state _unused_)
{
	struct error err = ERROR_INIT;
	const amqp_basic_deliver_t *d;
	const amqp_connection_start_t *s;
	const amqp_connection_tune_t *t;
	amqp_method_t m;

	assert_int_equal(decode_method(methods[0].id, methods[0].args, &m,
	    &err), 0);
	d = m.decoded;
	assert_true(slice_is(amqp_wire_slice(d->consumer_tag), "tag"));
	assert_true(slice_is(amqp_wire_slice(d->exchange), "ex"));
	assert_true(slice_is(amqp_wire_slice(d->routing_key), "k"));
	assert_int_equal(d->delivery_tag, 7);
	assert_true(d->redelivered);
	assert_int_equal(decode_method(methods[10].id, methods[10].args, &m,
	    &err), 0);
	s = m.decoded;
	assert_int_equal(s->version_minor, 9);
	assert_int_equal(s->server_properties.num_entries, 1);
	assert_non_null(amqp_wire_find(&s->server_properties, "a"));
	assert_true(slice_is(amqp_wire_slice(s->mechanisms), "PLAIN"));
	assert_true(slice_is(amqp_wire_slice(s->locales), "en_US"));
	assert_int_equal(decode_method(methods[12].id, methods[12].args, &m,
	    &err), 0);
	t = m.decoded;
	assert_int_equal(t->channel_max, 2047);
	assert_int_equal(t->frame_max, 131072);
	assert_int_equal(t->heartbeat, 60);
	recycle_amqp_pool(&pool);
}

static void
test_other_methods_are_refused(void **state _unused_)
{
	static const amqp_method_number_t others[] = {
		0, UINT32_MAX, AMQP_CONNECTION_START_OK_METHOD,
		AMQP_CONNECTION_TUNE_OK_METHOD, AMQP_CONNECTION_OPEN_METHOD,
		AMQP_CHANNEL_OPEN_METHOD, AMQP_CHANNEL_FLOW_OK_METHOD,
		AMQP_QUEUE_DECLARE_METHOD, AMQP_QUEUE_BIND_OK_METHOD,
		AMQP_EXCHANGE_DECLARE_OK_METHOD, AMQP_BASIC_PUBLISH_METHOD,
		AMQP_BASIC_CONSUME_METHOD, AMQP_BASIC_RECOVER_OK_METHOD,
		AMQP_TX_ROLLBACK_OK_METHOD, AMQP_ACCESS_REQUEST_OK_METHOD,
		/* The low and high halves of two that are fine. */
		(AMQP_BASIC_DELIVER_METHOD & 0xffff) | 0x00ff0000,
	};
	struct error err = ERROR_INIT;
	amqp_method_t m;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		error_clear(&err);
		assert_int_equal(decode_method(others[i], SLICE(""), &m, &err),
		    -EPROTO);
		assert_refused(&err, "unexpected_method");
		assert_string_equal(amqp_wire_method_name(others[i]),
		    "a method");
	}
	for (size_t n = 0; n < 4; n++) {
		error_clear(&err);
		assert_int_equal(amqp_wire_method((struct slice){ "\0\74\0\74",
		    n }, &pool, &m, &err), -EPROTO);
		assert_refused(&err, "malformed_frame");
	}
}

/* A table that the library must not see: it would recurse into it. */
static void
test_server_properties_are_checked(void **state _unused_)
{
	_cleanup_buffer_ struct buffer args = BUFFER_INIT, t = BUFFER_INIT;
	struct error err = ERROR_INIT;
	amqp_method_t m;

	for (unsigned levels = 31; levels <= 33; levels++) {
		nest(&t, levels, "F");
		buffer_clear(&args);
		put16(&args, 9);
		buffer_add_slice(&args, buffer_slice(&t));
		buffer_add_slice(&args, SLICE("\0\0\0\5PLAIN\0\0\0\5en_US"));
		error_clear(&err);
		assert_int_equal(decode_method(AMQP_CONNECTION_START_METHOD,
		    buffer_slice(&args), &m, &err), levels <= 32 ? 0 :
		    -EPROTO);
		if (levels > 32)
			assert_refused(&err, "malformed_frame");
	}
	recycle_amqp_pool(&pool);
}

/* ---- content headers ---- */

static void
test_content_headers(void **state _unused_)
{
	static const char header[] =
	    "\0\x3c\0\0\0\0\0\1\2\3\4\5\x80\0\1x";
	struct error err = ERROR_INIT;
	struct amqp_wire_header h;

	assert_int_equal(amqp_wire_header(SLICE(header), &h, &err), 0);
	assert_true(h.body_size == UINT64_C(0x102030405));
	assert_ptr_equal(h.properties.p, header + 12);
	assert_int_equal(h.properties.n, 4);
	for (size_t n = 0; n < 14; n++) {
		error_clear(&err);
		assert_int_equal(amqp_wire_header((struct slice){ header, n },
		    &h, &err), -EPROTO);
		assert_refused(&err, "malformed_frame");
	}
	error_clear(&err);
	assert_int_equal(amqp_wire_header(
	    SLICE("\0\x32\0\0\0\0\0\0\0\0\0\0\0\0"), &h, &err), -EPROTO);
	assert_refused(&err, "malformed_frame");
}

/* ---- properties ---- */

static const amqp_basic_properties_t every = {
	._flags = 0xfffc,
	.content_type = { 3, (void *)(uintptr_t)"a/b" },
	.content_encoding = { 4, (void *)(uintptr_t)"gzip" },
	.delivery_mode = 2,
	.priority = 9,
	.correlation_id = { 1, (void *)(uintptr_t)"c" },
	.reply_to = { 1, (void *)(uintptr_t)"r" },
	.expiration = { 2, (void *)(uintptr_t)"60" },
	.message_id = { 1, (void *)(uintptr_t)"m" },
	.timestamp = UINT64_C(1795449600),
	.type = { 1, (void *)(uintptr_t)"t" },
	.user_id = { 5, (void *)(uintptr_t)"guest" },
	.app_id = { 1, (void *)(uintptr_t)"a" },
	.cluster_id = { 2, (void *)(uintptr_t)"cl" },
};

static struct slice
encode(const amqp_basic_properties_t *p, char *out, size_t room)
{
	int n = amqp_encode_properties(AMQP_BASIC_CLASS,
	    (void *)(uintptr_t)p, (amqp_bytes_t){ room, out });

	assert_true(n >= 0);
	return (struct slice){ out, (size_t)n };
}

static void
assert_same(const amqp_basic_properties_t *got, unsigned flags)
{
	const struct {
		unsigned flag;
		amqp_bytes_t a, b;
	} texts[] = {
		{ AMQP_BASIC_CONTENT_TYPE_FLAG, got->content_type,
		    every.content_type },
		{ AMQP_BASIC_CONTENT_ENCODING_FLAG, got->content_encoding,
		    every.content_encoding },
		{ AMQP_BASIC_CORRELATION_ID_FLAG, got->correlation_id,
		    every.correlation_id },
		{ AMQP_BASIC_REPLY_TO_FLAG, got->reply_to, every.reply_to },
		{ AMQP_BASIC_EXPIRATION_FLAG, got->expiration,
		    every.expiration },
		{ AMQP_BASIC_MESSAGE_ID_FLAG, got->message_id,
		    every.message_id },
		{ AMQP_BASIC_TYPE_FLAG, got->type, every.type },
		{ AMQP_BASIC_USER_ID_FLAG, got->user_id, every.user_id },
		{ AMQP_BASIC_APP_ID_FLAG, got->app_id, every.app_id },
		{ AMQP_BASIC_CLUSTER_ID_FLAG, got->cluster_id,
		    every.cluster_id },
	};

	assert_int_equal(got->_flags, flags);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if ((flags & texts[i].flag) != 0)
			assert_true(slice_eq(amqp_wire_slice(texts[i].a),
			    amqp_wire_slice(texts[i].b)));
	if ((flags & AMQP_BASIC_DELIVERY_MODE_FLAG) != 0)
		assert_int_equal(got->delivery_mode, 2);
	if ((flags & AMQP_BASIC_PRIORITY_FLAG) != 0)
		assert_int_equal(got->priority, 9);
	if ((flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0)
		assert_true(got->timestamp == every.timestamp);
	if ((flags & AMQP_BASIC_HEADERS_FLAG) != 0)
		assert_int_equal(got->headers.num_entries, 1);
}

static void
test_properties_with_every_combination_of_flags(void **state _unused_)
{
	amqp_table_entry_t entry = {
		.key = { 1, (void *)(uintptr_t)"k" },
		.value = { .kind = AMQP_FIELD_KIND_BOOLEAN },
	};
	amqp_basic_properties_t p = every;
	amqp_basic_properties_t *got;
	struct error err = ERROR_INIT;
	char raw[256];

	p.headers = (amqp_table_t){ 1, &entry };
	for (unsigned flags = 0; flags <= 0xfffc; flags += 4) {
		p._flags = flags;
		assert_int_equal(decode(encode(&p, raw, sizeof(raw)), &got,
		    &err), 0);
		assert_same(got, flags);
		recycle_amqp_pool(&pool);
	}
}

static void
test_properties_that_are_cut_off(void **state _unused_)
{
	amqp_table_entry_t entry = {
		.key = { 1, (void *)(uintptr_t)"k" },
		.value = { .kind = AMQP_FIELD_KIND_VOID },
	};
	amqp_basic_properties_t p = every;
	amqp_basic_properties_t *got;
	struct error err = ERROR_INIT;
	struct slice whole;
	char raw[256];

	p.headers = (amqp_table_t){ 1, &entry };
	whole = encode(&p, raw, sizeof(raw));
	for (size_t n = 0; n < whole.n; n++) {
		error_clear(&err);
		assert_int_equal(decode((struct slice){ whole.p, n }, &got,
		    &err), -EPROTO);
		assert_refused(&err, "malformed_frame");
	}
	/* Flags go on in a second word: there is no such property. */
	error_clear(&err);
	assert_int_equal(decode(SLICE("\0\1\0\0"), &got, &err), -EPROTO);
	assert_refused(&err, "malformed_frame");
	error_clear(&err);
	assert_int_equal(decode(SLICE("\xff\xfd\x80\0"), &got, &err), -EPROTO);
	/* Bytes behind the last one are nobody's. */
	assert_int_equal(decode(SLICE("\x80\0\1xyz"), &got, &err), 0);
	assert_true(slice_is(amqp_wire_slice(got->content_type), "x"));
	recycle_amqp_pool(&pool);
}

/* ---- tables ---- */

static int
decode_table(struct slice table, struct error *err)
{
	_cleanup_buffer_ struct buffer raw = BUFFER_INIT;
	amqp_basic_properties_t *got;
	int r;

	/* Behind both of the strings that may stand before it. */
	put16(&raw, AMQP_BASIC_CONTENT_TYPE_FLAG |
	    AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_HEADERS_FLAG);
	buffer_add_slice(&raw, SLICE("\3a/b\0"));
	buffer_add_slice(&raw, table);
	r = decode(buffer_slice(&raw), &got, err);
	recycle_amqp_pool(&pool);
	return r;
}

static void
test_tables_nest_32_deep(void **state _unused_)
{
	static const char *const kinds[] = { "F", "A", "FA", "AF", "AAF" };
	_cleanup_buffer_ struct buffer t = BUFFER_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct error err = ERROR_INIT;

		nest(&t, 31, kinds[i]);
		assert_int_equal(decode_table(buffer_slice(&t), &err), 0);
		nest(&t, 32, kinds[i]);
		assert_int_equal(decode_table(buffer_slice(&t), &err), 0);
		nest(&t, 33, kinds[i]);
		assert_int_equal(decode_table(buffer_slice(&t), &err),
		    -EPROTO);
		assert_refused(&err, "nested_too_deeply");
		error_clear(&err);
		nest(&t, 20000, kinds[i]);
		assert_int_equal(decode_table(buffer_slice(&t), &err),
		    -EPROTO);
		assert_refused(&err, "nested_too_deeply");
	}
}

/* Depth is not width: many beside each other are fine. */
static void
test_many_tables_beside_each_other(void **state _unused_)
{
	_cleanup_buffer_ struct buffer t = BUFFER_INIT;
	struct error err = ERROR_INIT;

	put32(&t, 100 * 7 + 100 * 7);
	for (int i = 0; i < 100; i++) {
		buffer_add_slice(&t, SLICE("\1tF\0\0\0\0"));
		buffer_add_slice(&t, SLICE("\1aA\0\0\0\0"));
	}
	assert_int_equal(decode_table(buffer_slice(&t), &err), 0);
}

static void
test_malformed_tables(void **state _unused_)
{
	static const struct slice bad[] = {
		SLICE(""), SLICE("\0\0\0"),		/* no length */
		SLICE("\0\0\0\1"),			/* cut off */
		SLICE("\xff\xff\xff\xff"),
		SLICE("\x7f\xff\xff\xff\1k"),
		SLICE("\0\0\0\1\0"),			/* a key, no kind */
		SLICE("\0\0\0\2\1k"),
		SLICE("\0\0\0\3\5kV"),			/* a key too long */
		SLICE("\0\0\0\3\xffkV"),
		SLICE("\0\0\0\3\1kt"),			/* no value */
		SLICE("\0\0\0\3\1ks\0\0"),		/* ... behind its end */
		SLICE("\0\0\0\4\1ks\0\0"),
		SLICE("\0\0\0\6\1kI\0\0\0\0"),
		SLICE("\0\0\0\7\1kD\0\0\0\0\0"),
		SLICE("\0\0\0\12\1kl\0\0\0\0\0\0\0\0"),
		SLICE("\0\0\0\6\1kS\0\0\0"),		/* no length */
		SLICE("\0\0\0\7\1kS\0\0\0\1x"),
		SLICE("\0\0\0\10\1kx\0\0\0\2x"),
		SLICE("\0\0\0\7\1kS\xff\xff\xff\xff"),
		SLICE("\0\0\0\7\1kS\xff\xff\xff\xf8"),	/* wraps around */
		SLICE("\0\0\0\7\1kF\0\0\0\1\0"),
		SLICE("\0\0\0\10\1kF\0\0\0\1\0"),	/* inner: no kind */
		SLICE("\0\0\0\12\1kF\0\0\0\3\1kI"),
		SLICE("\0\0\0\7\1kF\xff\xff\xff\xff"),
		SLICE("\0\0\0\7\1kA\0\0\0\1V"),
		SLICE("\0\0\0\10\1kA\0\0\0\1I"),
		SLICE("\0\0\0\10\1kA\0\0\0\2VV"),
		/* The inner one ends before its value does; the outer one
		   would have had room. */
		SLICE("\0\0\0\20\1kF\0\0\0\4\1xI\0\0\0\0\0"),
		SLICE("\0\0\0\3\1kZ"),			/* unknown kinds */
		SLICE("\0\0\0\3\1k\0"),
		SLICE("\0\0\0\3\1k\xff"),
		SLICE("\0\0\0\10\1kA\0\0\0\1z"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;

		if (decode_table(bad[i], &err) != -EPROTO)
			fail_msg("table %zu is taken", i);
		assert_refused(&err, "malformed_frame");
	}
}

static void
test_every_value_cut_off(void **state _unused_)
{
	static const struct slice values[] = {
		SLICE("V"), SLICE("t\1"), SLICE("b\1"), SLICE("B\1"),
		SLICE("s\0\1"), SLICE("u\0\1"), SLICE("I\0\0\0\1"),
		SLICE("i\0\0\0\1"), SLICE("l\0\0\0\0\0\0\0\1"),
		SLICE("L\0\0\0\0\0\0\0\1"), SLICE("f\0\0\0\0"),
		SLICE("d\0\0\0\0\0\0\0\0"), SLICE("D\1\0\0\0\1"),
		SLICE("T\0\0\0\0\0\0\0\1"), SLICE("S\0\0\0\2ab"),
		SLICE("x\0\0\0\2ab"), SLICE("A\0\0\0\3Vt\1"),
		SLICE("F\0\0\0\3\1kV"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_buffer_ struct buffer t = BUFFER_INIT;
		struct slice v = values[i];

		for (size_t n = 0; n <= v.n; n++) {
			struct error err = ERROR_INIT;

			buffer_clear(&t);
			put32(&t, (uint32_t)(2 + n));
			buffer_add_str(&t, "\1k");
			buffer_add(&t, v.p, n);
			assert_int_equal(decode_table(buffer_slice(&t), &err),
			    n == v.n ? 0 : -EPROTO);
		}
	}
}

/* ---- sending ---- */

/* The next frame, taken off. */
static struct amqp_wire_frame
take(struct buffer *b, size_t frame_max)
{
	struct amqp_wire_frame f;
	struct error err = ERROR_INIT;
	ssize_t n = amqp_wire_frame(buffer_slice(b), frame_max, &f, &err);

	if (n <= 0)
		fail_msg("no frame: %s", err.text);
	/* The bytes stay where they are until something is appended. */
	buffer_consume(b, (size_t)n);
	return f;
}

static void
test_methods_are_sent_in_frames(void **state _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	amqp_connection_open_t open = {
		.virtual_host = amqp_cstring_bytes("/"),
	};

	buffer_add_str(&b, "before");
	amqp_wire_add_method(&b, 258, AMQP_CONNECTION_OPEN_METHOD, &open);
	assert_int_equal(buffer_len(&b), 6 + 16);
	assert_memory_equal(buffer_head(&b), "before"
	    "\1\1\2\0\0\0\10\0\12\0\50\1/\0\0\xce", 22);
	buffer_clear(&b);
	amqp_wire_add_ack(&b, 1, UINT64_C(0x102030405060708), true);
	amqp_wire_add_ack(&b, 1, 9, false);
	amqp_wire_add_requeue(&b, 2, 3);
	amqp_wire_add_heartbeat(&b);
	assert_int_equal(buffer_len(&b), 3 * 21 + 8);
	assert_memory_equal(buffer_head(&b),
	    "\1\0\1\0\0\0\15\0\74\0\120\1\2\3\4\5\6\7\10\1\xce"
	    "\1\0\1\0\0\0\15\0\74\0\120\0\0\0\0\0\0\0\11\0\xce"
	    "\1\0\2\0\0\0\15\0\74\0\170\0\0\0\0\0\0\0\3\2\xce"
	    "\10\0\0\0\0\0\0\xce", 3 * 21 + 8);
}

static void
test_acks_are_what_the_library_writes(void **state _unused_)
{
	_cleanup_buffer_ struct buffer ours = BUFFER_INIT, theirs = BUFFER_INIT;
	amqp_basic_ack_t ack = { .delivery_tag = 77, .multiple = 1 };
	amqp_basic_nack_t nack = { .delivery_tag = 78, .requeue = 1 };

	amqp_wire_add_ack(&ours, 1, 77, true);
	amqp_wire_add_requeue(&ours, 1, 78);
	amqp_wire_add_method(&theirs, 1, AMQP_BASIC_ACK_METHOD, &ack);
	amqp_wire_add_method(&theirs, 1, AMQP_BASIC_NACK_METHOD, &nack);
	assert_true(slice_eq(buffer_slice(&ours), buffer_slice(&theirs)));
}

static void
check_publish(size_t frame_max, size_t body_bytes, size_t body_frames)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT, got = BUFFER_INIT;
	char *body = xmalloc(body_bytes + 1);
	amqp_basic_properties_t *p;
	struct error err = ERROR_INIT;
	struct amqp_wire_frame f;
	struct amqp_wire_header h;
	amqp_basic_properties_t sent = every;

	for (size_t i = 0; i < body_bytes; i++)
		body[i] = (char)(i * 7);
	sent._flags &= ~(amqp_flags_t)AMQP_BASIC_HEADERS_FLAG;
	assert_int_equal(amqp_wire_add_publish(&b, 3, frame_max, SLICE("jobs"),
	    &sent, (struct slice){ body, body_bytes }, &err), 0);
	f = take(&b, frame_max);
	assert_int_equal(f.type, AMQP_FRAME_METHOD);
	assert_int_equal(f.channel, 3);
	/* basic.publish, "", "jobs", mandatory */
	assert_int_equal(f.payload.n, 13);
	assert_memory_equal(f.payload.p, "\0\74\0\50\0\0\0\4jobs\1", 13);
	f = take(&b, frame_max);
	assert_int_equal(f.type, AMQP_FRAME_HEADER);
	assert_int_equal(f.channel, 3);
	assert_int_equal(amqp_wire_header(f.payload, &h, &err), 0);
	assert_true(h.body_size == body_bytes);
	assert_int_equal(decode(h.properties, &p, &err), 0);
	assert_same(p, (unsigned)sent._flags);
	for (size_t i = 0; i < body_frames; i++) {
		f = take(&b, frame_max);
		assert_int_equal(f.type, AMQP_FRAME_BODY);
		assert_int_equal(f.channel, 3);
		assert_true(f.payload.n != 0);
		buffer_add_slice(&got, f.payload);
	}
	assert_int_equal(buffer_len(&b), 0);
	assert_true(slice_eq(buffer_slice(&got), (struct slice){ body,
	    body_bytes }));
	recycle_amqp_pool(&pool);
	free(body);
}

static void
test_publish_in_as_many_frames_as_it_takes(void **state _unused_)
{
	static const size_t maxima[] = { AMQP_WIRE_FRAME_MIN,
		AMQP_WIRE_FRAME_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(maxima); i++) {
		size_t max = maxima[i];

		check_publish(max, 0, 0);
		check_publish(max, 1, 1);
		check_publish(max, max - 8, 1);
		check_publish(max, max - 7, 2);
		check_publish(max, 3 * (max - 8), 3);
		check_publish(max, 3 * (max - 8) + 1, 4);
	}
}

/* One header, so long that the content header has so many bytes to spare. */
static int
publish_with_header(struct buffer *b, ssize_t spare, struct error *err)
{
	const size_t max = AMQP_WIRE_FRAME_MIN;
	/* frame 8, header 12, flags 2, table 4, key 2, kind 1, length 4 */
	size_t n = max - 8 - 12 - 2 - 4 - 2 - 1 - 4 - (size_t)spare;
	char *text = xcalloc(n, 1);
	amqp_table_entry_t entry = {
		.key = amqp_cstring_bytes("k"),
		.value = { .kind = AMQP_FIELD_KIND_UTF8,
		    .value.bytes = { n, text } },
	};
	amqp_basic_properties_t p = {
		._flags = AMQP_BASIC_HEADERS_FLAG,
		.headers = { 1, &entry },
	};
	int r = amqp_wire_add_publish(b, 1, max, SLICE("q"), &p, SLICE("body"),
	    err);

	free(text);
	return r;
}

static void
test_properties_that_do_not_fit(void **state _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct amqp_wire_frame f;

	assert_int_equal(publish_with_header(&b, 0, &err), 0);
	(void)take(&b, AMQP_WIRE_FRAME_MIN);
	f = take(&b, AMQP_WIRE_FRAME_MIN);
	assert_int_equal(f.payload.n, AMQP_WIRE_FRAME_MIN - 8);
	f = take(&b, AMQP_WIRE_FRAME_MIN);
	assert_true(slice_is(f.payload, "body"));
	/* One byte more, with something half read before it. */
	buffer_add_str(&b, "xbefore");
	buffer_consume(&b, 1);
	assert_int_equal(publish_with_header(&b, -1, &err), -EMSGSIZE);
	assert_true(slice_is(buffer_slice(&b), "before"));
	assert_int_equal(err.class, ERROR_REJECTED);
	assert_string_equal(err.code, "headers_too_large");
	buffer_clear(&b);
	assert_int_equal(publish_with_header(&b, -100000, &err),
	    -EMSGSIZE);
	assert_int_equal(buffer_len(&b), 0);
	assert_int_equal(publish_with_header(&b, 1, &err), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_in_any_split),
		cmocka_unit_test(test_what_is_no_frame_is_refused_early),
		cmocka_unit_test(test_a_frame_as_large_as_agreed_on),
		cmocka_unit_test(test_methods_that_a_server_sends),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_other_methods_are_refused),
		cmocka_unit_test(test_server_properties_are_checked),
		cmocka_unit_test(test_content_headers),
		cmocka_unit_test(
		    test_properties_with_every_combination_of_flags),
		cmocka_unit_test(test_properties_that_are_cut_off),
		cmocka_unit_test(test_tables_nest_32_deep),
		cmocka_unit_test(test_many_tables_beside_each_other),
		cmocka_unit_test(test_malformed_tables),
		cmocka_unit_test(test_every_value_cut_off),
		cmocka_unit_test(test_methods_are_sent_in_frames),
		cmocka_unit_test(test_acks_are_what_the_library_writes),
		cmocka_unit_test(test_publish_in_as_many_frames_as_it_takes),
		cmocka_unit_test(test_properties_that_do_not_fit),
	};

	return cmocka_run_group_tests_name("amqp", tests, pool_setup,
	    pool_teardown);
}
