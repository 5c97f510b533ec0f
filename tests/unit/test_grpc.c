/*
 * The gRPC codec: message frames, status codes, headers; and protobuf-c on
 * chunks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "codec/grpc.h"
#include "codec/protobuf.h"
#include "codec/pubsub.pb-c.h"
#include "codec/rpc_status.pb-c.h"

/* ---- status codes ---- */

static void
test_codes(void **state)
{
	(void)state;
	assert_string_equal(grpc_code_name(0), "OK");
	assert_string_equal(grpc_code_name(16), "UNAUTHENTICATED");
	assert_string_equal(grpc_code_name(17), "UNKNOWN");
	assert_string_equal(grpc_code_name(UINT_MAX), "UNKNOWN");
	assert_int_equal(grpc_code_class(GRPC_OK), ERROR_NONE);
	assert_int_equal(grpc_code_class(GRPC_ABORTED), ERROR_TRANSIENT);
	assert_int_equal(grpc_code_class(GRPC_RESOURCE_EXHAUSTED),
	    ERROR_THROTTLED);
	assert_int_equal(grpc_code_class(GRPC_PERMISSION_DENIED), ERROR_AUTH);
	assert_int_equal(grpc_code_class(GRPC_DATA_LOSS), ERROR_REJECTED);
	assert_int_equal(grpc_code_class(1000), ERROR_TRANSIENT);
	assert_int_equal(grpc_code_parse(SLICE("0")), GRPC_OK);
	assert_int_equal(grpc_code_parse(SLICE("14")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_parse(SLICE("17")), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_parse(SLICE("-1")), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_parse(SLICE("")), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_parse(SLICE("99999999999999999999999")),
	    GRPC_UNKNOWN);
	assert_int_equal(grpc_code_of_http(504), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_of_http(302), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_of_rst(7), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_of_rst(0xffffffff), GRPC_UNKNOWN);
}

/* ---- messages ---- */

static void
test_messages(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct slice m, all;

	(void)state;
	grpc_message_add(&b, SLICE("hello"));
	grpc_message_add(&b, SLICE(""));
	all = buffer_slice(&b);
	assert_int_equal(all.n, 15);
	assert_memory_equal(all.p, "\0\0\0\0\5hello\0\0\0\0\0", 15);
	for (size_t n = 0; n < 10; n++)
		assert_int_equal(grpc_message((struct slice){ all.p, n }, 5,
		    &m, &err), 0);
	assert_int_equal(grpc_message(all, 5, &m, &err), 10);
	assert_true(slice_is(m, "hello"));
	buffer_consume(&b, 10);
	assert_int_equal(grpc_message(buffer_slice(&b), 5, &m, &err), 5);
	assert_int_equal(m.n, 0);
}

static void
expect_bad(struct slice in, const char *code)
{
	struct error err = ERROR_INIT;
	struct slice m;

	assert_int_equal(grpc_message(in, 100, &m, &err), -EPROTO);
	assert_string_equal(err.code, code);
}

static void
test_bad_messages(void **state)
{
	(void)state;
	expect_bad(SLICE("\1"), "compressed");
	expect_bad(SLICE("\2\0\0\0\0"), "malformed_message");
	expect_bad(SLICE("HTTP/1.1 400"), "malformed_message");
	expect_bad(SLICE("\0\0\0\0\x65"), "message_too_large");
	expect_bad(SLICE("\0\xff\xff\xff\xff"), "message_too_large");
}

/* ---- headers ---- */

static const char *
decode(const char *text)
{
	static char out[16];

	return grpc_percent_decode(slice_of(text), out, sizeof(out));
}

static void
test_percent_decoding(void **state)
{
	char one[1];

	(void)state;
	assert_string_equal(decode(""), "");
	assert_string_equal(decode("plain"), "plain");
	assert_string_equal(decode("a%20b%2fC%2F"), "a b/C/");
	assert_string_equal(decode("100%"), "100%");
	assert_string_equal(decode("%4"), "%4");
	assert_string_equal(decode("%zz%41"), "%zzA");
	assert_string_equal(decode("a%0ab%00c\x7f"), "a b c ");
	assert_string_equal(decode("%e2%82%ac"), "\xe2\x82\xac");
	/* Cut at whole characters. */
	assert_string_equal(decode("123456789012345"), "123456789012345");
	assert_string_equal(decode("1234567890123456"), "123456789012345");
	assert_string_equal(decode("1234567890123%e2%82%ac"), "1234567890123");
	assert_string_equal(decode("12345678901234%c3%a4"), "12345678901234");
	assert_string_equal(decode("123456789012%e2%82%ac!"),
	    "123456789012\xe2\x82\xac");
	assert_string_equal(decode("%80%80%80%80%80%80%80%80%80%80%80%80%80%80"
	    "%80%80"), "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"
	    "\x80\x80");
	assert_string_equal(grpc_percent_decode(SLICE("abc"), one, 1), "");
}

static void
test_bin_decoding(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	(void)state;
	assert_int_equal(grpc_bin_decode(&b, SLICE("aGVsbG8")), 0);
	assert_true(slice_is(buffer_slice(&b), "hello"));
	buffer_clear(&b);
	assert_int_equal(grpc_bin_decode(&b, SLICE("aGVsbG8=")), 0);
	assert_true(slice_is(buffer_slice(&b), "hello"));
	buffer_clear(&b);
	assert_int_equal(grpc_bin_decode(&b, SLICE("")), 0);
	assert_int_equal(grpc_bin_decode(&b, SLICE("a")), -EINVAL);
	assert_int_equal(grpc_bin_decode(&b, SLICE("a$Vs")), -EINVAL);
	assert_int_equal(grpc_bin_decode(&b, SLICE("aGVsbG8=aGVs")), -EINVAL);
	assert_int_equal(buffer_len(&b), 0);
}

static void
test_timeouts(void **state)
{
	static const struct {
		uint64_t us;
		const char *text;
	} t[] = {
		{ 0, "1n" }, { 1, "1u" }, { 99999999, "99999999u" },
		{ 100000000, "100000m" }, { 100000001, "100001m" },
		{ 99999999000, "99999999m" }, { 99999999001, "100000S" },
		{ UINT64_MAX, "99999999H" },
		{ UINT64_C(99999999) * 3600000000, "99999999H" },
		{ UINT64_C(99999999) * 60000000 + 1, "1666667H" },
	};
	char out[GRPC_TIMEOUT_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_string_equal(grpc_timeout(t[i].us, out), t[i].text);
}

static void
test_content_type(void **state)
{
	(void)state;
	assert_true(grpc_content_type_ok(SLICE("application/grpc")));
	assert_true(grpc_content_type_ok(SLICE("application/grpc+proto")));
	assert_true(grpc_content_type_ok(SLICE("Application/gRPC; x=y")));
	assert_false(grpc_content_type_ok(SLICE("application/grpc-web")));
	assert_false(grpc_content_type_ok(SLICE("application/grp")));
	assert_false(grpc_content_type_ok(SLICE("")));
}

/* ---- protobuf ---- */

static void
test_fields(void **state)
{
	struct slice in = SLICE("\x0a\x03" "abc" "\x10\x96\x01" "\x1a\x00"
	    "\x21" "12345678" "\x2d" "1234" "\x82\x01\x01" "x"), field;
	static const struct slice bad[] = {
		{ "\x0a\x05" "abc", 5 },	/* cut off */
		{ "\x0a", 1 },
		{ "\x08\xff", 2 },
		{ "\x00\x01", 2 },		/* number 0 */
		{ "\x0b", 1 },			/* a group */
		{ "\x09" "1234567", 8 },
		{ "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },
	};

	(void)state;
	assert_int_equal(protobuf_field(&in, &field), 1);
	assert_true(slice_is(field, "abc"));
	assert_int_equal(protobuf_field(&in, &field), 2);
	assert_null(field.p);
	assert_int_equal(protobuf_field(&in, &field), 3);
	assert_non_null(field.p);
	assert_int_equal(field.n, 0);
	assert_int_equal(protobuf_field(&in, &field), 4);
	assert_int_equal(protobuf_field(&in, &field), 5);
	assert_int_equal(protobuf_field(&in, &field), 16);
	assert_true(slice_is(field, "x"));
	assert_int_equal(protobuf_field(&in, &field), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		in = bad[i];
		assert_int_equal(protobuf_field(&in, &field), -EPROTO);
	}
}

static void
test_pack_and_unpack(void **state)
{
	Google__Pubsub__V1__Attribute attribute =
	    GOOGLE__PUBSUB__V1__ATTRIBUTE__INIT, *attributes = &attribute;
	Google__Pubsub__V1__PubsubMessage message =
	    GOOGLE__PUBSUB__V1__PUBSUB_MESSAGE__INIT, *messages = &message;
	Google__Pubsub__V1__PublishRequest request =
	    GOOGLE__PUBSUB__V1__PUBLISH_REQUEST__INIT, *back;
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct chunk *chunk = chunk_new();

	(void)state;
	attribute.key = protobuf_bytes(SLICE("k"));
	attribute.value = protobuf_bytes(SLICE("v\0w"));
	message.data = protobuf_bytes(SLICE("body"));
	message.attributes = &attributes;
	message.n_attributes = 1;
	request.topic = (char *)(uintptr_t)"projects/p/topics/t";
	request.messages = &messages;
	request.n_messages = 1;
	protobuf_pack(&b, &request.base);
	assert_int_equal(buffer_len(&b), 39);
	assert_memory_equal(buffer_head(&b), "\x0a\x13projects/p/topics/t"
	    "\x12\x10\x0a\4body\x12\x08\x0a\1k\x12\3v\0w", 39);
	back = PROTOBUF_UNPACK(Google__Pubsub__V1__PublishRequest,
	    google__pubsub__v1__publish_request, buffer_slice(&b), chunk,
	    &err);
	assert_non_null(back);
	assert_string_equal(back->topic, request.topic);
	assert_int_equal(back->n_messages, 1);
	assert_true(slice_is(protobuf_slice(back->messages[0]->data), "body"));
	assert_int_equal(back->messages[0]->attributes[0]->value.len, 3);
	/* It lives in the chunk alone. */
	memset(buffer_head(&b), 'x', buffer_len(&b));
	assert_string_equal(back->topic, request.topic);
	chunk_unref(chunk);
}

/* Field numbers of the public file, byte by byte. */
static void
test_wire_of_pubsub(void **state)
{
	static const char wire[] = "\x0a\x2b" "\x0a\2id\x12\x23"
	    "\x0a\4data\x12\6\x0a\1k\x12\1v\x1a\3" "777\x22\4\x08\x05\x10\x07"
	    "\x2a\5order\xfa\x7f\0\x18\3"
	    "\x22\2\x08\1";
	Google__Pubsub__V1__StreamingPullResponse *r;
	Google__Pubsub__V1__ReceivedMessage *m;
	struct error err = ERROR_INIT;
	struct chunk *chunk = chunk_new();

	(void)state;
	r = PROTOBUF_UNPACK(Google__Pubsub__V1__StreamingPullResponse,
	    google__pubsub__v1__streaming_pull_response,
	    ((struct slice){ wire, sizeof(wire) - 1 }), chunk, &err);
	assert_non_null(r);
	assert_int_equal(r->n_received_messages, 1);
	m = r->received_messages[0];
	assert_true(slice_is(protobuf_slice(m->ack_id), "id"));
	assert_int_equal(m->delivery_attempt, 3);
	assert_true(slice_is(protobuf_slice(m->message->data), "data"));
	assert_true(slice_is(protobuf_slice(m->message->message_id), "777"));
	assert_true(slice_is(protobuf_slice(m->message->ordering_key),
	    "order"));
	assert_int_equal(m->message->publish_time->seconds, 5);
	assert_int_equal(m->message->publish_time->nanos, 7);
	assert_int_equal(
	    r->subscription_properties->exactly_once_delivery_enabled, 1);
	chunk_unref(chunk);
}

static void
test_empty_and_malformed(void **state)
{
	struct error err = ERROR_INIT;
	struct chunk *chunk = chunk_new();

	(void)state;
	assert_non_null(protobuf_unpack(
	    &google__pubsub__v1__pull_response__descriptor, SLICE(""), chunk,
	    &err));
	assert_non_null(protobuf_unpack(
	    &google__pubsub__v1__pull_response__descriptor,
	    (struct slice){ NULL, 0 }, chunk, &err));
	assert_null(protobuf_unpack(
	    &google__pubsub__v1__pull_response__descriptor, SLICE("\x0a\5x"),
	    chunk, &err));
	assert_int_equal(err.class, ERROR_PROTOCOL);
	assert_string_equal(err.code, "malformed_message");
	chunk_unref(chunk);
}

/* Two bytes on the wire can be a hundred here: that is bounded. */
static void
test_growth_is_bounded(void **state)
{
	size_t n = 2 * MIB;
	char *wire = xmalloc(n);
	struct error err = ERROR_INIT;
	struct chunk *chunk = chunk_new();

	(void)state;
	for (size_t i = 0; i < n; i += 2)
		memcpy(wire + i, "\x0a\0", 2);
	assert_null(protobuf_unpack(
	    &google__pubsub__v1__pull_response__descriptor,
	    (struct slice){ wire, n }, chunk, &err));
	assert_true(chunk_bytes(chunk) <= PROTOBUF_SLACK +
	    PROTOBUF_GROWTH * n + MIB);
	free(wire);
	chunk_unref(chunk);
}

static void
test_error_info(void **state)
{
	static const char wire[] = "\x08\3\x12\3bad\x1a\x3f"
	    "\x0a\x28type.googleapis.com/google.rpc.ErrorInfo"
	    "\x12\x13\x0a\1R\x12\1D\x1a\x0b\x0a\3ack\x12\4PERM";
	struct error err = ERROR_INIT;
	struct chunk *chunk = chunk_new();
	Google__Rpc__Status *s;
	Google__Rpc__ErrorInfo *e;

	(void)state;
	s = PROTOBUF_UNPACK(Google__Rpc__Status, google__rpc__status,
	    ((struct slice){ wire, sizeof(wire) - 1 }), chunk, &err);
	assert_non_null(s);
	assert_int_equal(s->code, 3);
	assert_int_equal(s->n_details, 1);
	assert_true(slice_is(protobuf_slice(s->details[0]->type_url),
	    "type.googleapis.com/google.rpc.ErrorInfo"));
	e = PROTOBUF_UNPACK(Google__Rpc__ErrorInfo, google__rpc__error_info,
	    protobuf_slice(s->details[0]->value), chunk, &err);
	assert_non_null(e);
	assert_true(slice_is(protobuf_slice(e->reason), "R"));
	assert_true(slice_is(protobuf_slice(e->metadata[0]->value), "PERM"));
	chunk_unref(chunk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_percent_decoding),
		cmocka_unit_test(test_bin_decoding),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_content_type),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_pack_and_unpack),
		cmocka_unit_test(test_wire_of_pubsub),
		cmocka_unit_test(test_empty_and_malformed),
		cmocka_unit_test(test_growth_is_bounded),
		cmocka_unit_test(test_error_info),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
