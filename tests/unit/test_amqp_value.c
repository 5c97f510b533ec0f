/* amqp: values of field tables, as numbers and as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>

#include "amqp_rig.h"

/* A table of one entry "k" with that value, decoded as a header. */
static const amqp_field_value_t *
decoded(struct slice value)
{
	_cleanup_buffer_ struct buffer raw = BUFFER_INIT;
	amqp_basic_properties_t *p;
	struct error err = ERROR_INIT;
	const amqp_field_value_t *v;

	recycle_amqp_pool(&pool);
	put16(&raw, AMQP_BASIC_HEADERS_FLAG);
	put32(&raw, (uint32_t)(2 + value.n));
	buffer_add_str(&raw, "\1k");
	buffer_add_slice(&raw, value);
	if (decode(buffer_slice(&raw), &p, &err) != 0)
		fail_msg("%s", err.text);
	v = amqp_wire_find(&p->headers, "k");
	assert_non_null(v);
	return v;
}

/* ---- numbers ---- */

static void
is_number(struct slice value, uint64_t n)
{
	uint64_t got = 77;

	assert_int_equal(amqp_wire_to_u64(decoded(value), &got), 0);
	if (got != n)
		fail_msg("%llu instead of %llu", (unsigned long long)got,
		    (unsigned long long)n);
}

static void
is_no_number(struct slice value, int r)
{
	uint64_t got = 77;

	assert_int_equal(amqp_wire_to_u64(decoded(value), &got), r);
	assert_int_equal(got, 77);
}

static void
test_numbers_of_every_kind(void **state _unused_)
{
	is_number(SLICE("b\x7f"), 127);
	is_number(SLICE("B\xff"), 255);
	is_number(SLICE("s\x7f\xff"), 32767);
	is_number(SLICE("u\xff\xff"), 65535);
	is_number(SLICE("I\x7f\xff\xff\xff"), INT32_MAX);
	is_number(SLICE("i\xff\xff\xff\xff"), UINT32_MAX);
	is_number(SLICE("l\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
	is_number(SLICE("L\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX);
	is_number(SLICE("T\0\0\0\0\x6b\x04\x56\0"), 0x6b045600);
	is_number(SLICE("l\0\0\0\0\0\0\0\0"), 0);
	is_number(SLICE("S\0\0\0\2" "42"), 42);
	is_number(SLICE("S\0\0\0\24" "18446744073709551615"), UINT64_MAX);
}

static void
test_what_is_no_number(void **state _unused_)
{
	is_no_number(SLICE("b\xff"), -ERANGE);
	is_no_number(SLICE("s\xff\xff"), -ERANGE);
	is_no_number(SLICE("s\x80\0"), -ERANGE);
	is_no_number(SLICE("I\x80\0\0\0"), -ERANGE);
	is_no_number(SLICE("l\xff\xff\xff\xff\xff\xff\xff\xff"), -ERANGE);
	is_no_number(SLICE("S\0\0\0\24" "18446744073709551616"), -ERANGE);
	is_no_number(SLICE("S\0\0\0\0"), -EINVAL);
	is_no_number(SLICE("S\0\0\0\2-1"), -EINVAL);
	is_no_number(SLICE("S\0\0\0\2" "1\0"), -EINVAL);
	is_no_number(SLICE("x\0\0\0\1" "1"), -EINVAL);
	is_no_number(SLICE("t\1"), -EINVAL);
	is_no_number(SLICE("f\0\0\0\0"), -EINVAL);
	is_no_number(SLICE("d\0\0\0\0\0\0\0\0"), -EINVAL);
	is_no_number(SLICE("D\0\0\0\0\1"), -EINVAL);
	is_no_number(SLICE("V"), -EINVAL);
	is_no_number(SLICE("A\0\0\0\0"), -EINVAL);
	is_no_number(SLICE("F\0\0\0\0"), -EINVAL);
}

/* ---- JSON ---- */

static void
json_is(const amqp_field_value_t *v, const char *want)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_error_t e;
	json_t *j;

	buffer_add_str(&b, "x");
	amqp_wire_add_json(&b, v);
	buffer_consume(&b, 1);
	if (!slice_is(buffer_slice(&b), want))
		fail_msg("%s instead of %s", buffer_cstr(&b), want);
	j = json_loadb(buffer_head(&b), buffer_len(&b), JSON_DECODE_ANY |
	    JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
	if (j == NULL)
		fail_msg("%s: %s", want, e.text);
	json_decref(j);
}

static void
json_of(struct slice value, const char *want)
{
	json_is(decoded(value), want);
}

static void
test_json_of_integers(void **state _unused_)
{
	json_of(SLICE("t\0"), "false");
	json_of(SLICE("t\1"), "true");
	json_of(SLICE("t\7"), "true");
	json_of(SLICE("b\x80"), "-128");
	json_of(SLICE("B\xff"), "255");
	json_of(SLICE("s\x80\0"), "-32768");
	json_of(SLICE("u\xff\xff"), "65535");
	json_of(SLICE("I\x80\0\0\0"), "-2147483648");
	json_of(SLICE("i\xff\xff\xff\xff"), "4294967295");
	json_of(SLICE("l\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
	json_of(SLICE("L\xff\xff\xff\xff\xff\xff\xff\xff"),
	    "18446744073709551615");
	json_of(SLICE("T\xff\xff\xff\xff\xff\xff\xff\xff"),
	    "18446744073709551615");
	json_of(SLICE("V"), "null");
}

static void
test_json_of_reals(void **state _unused_)
{
	amqp_field_value_t v = { .kind = AMQP_FIELD_KIND_F64 };

	json_of(SLICE("f\x3f\xc0\0\0"), "1.5");
	json_of(SLICE("f\xbd\xcc\xcc\xcd"), "-0.100000001");
	json_of(SLICE("d\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
	    "0.10000000000000001");
	json_of(SLICE("d\x7f\xef\xff\xff\xff\xff\xff\xff"),
	    "1.7976931348623157e+308");
	json_of(SLICE("d\x80\0\0\0\0\0\0\0"), "-0");
	json_of(SLICE("d\0\0\0\0\0\0\0\1"), "4.9406564584124654e-324");
	/* JSON has none of these. */
	json_of(SLICE("f\x7f\x80\0\0"), "null");
	json_of(SLICE("f\xff\x80\0\0"), "null");
	json_of(SLICE("f\x7f\xc0\0\0"), "null");
	json_of(SLICE("d\x7f\xf0\0\0\0\0\0\0"), "null");
	json_of(SLICE("d\xff\xf0\0\0\0\0\0\0"), "null");
	v.value.f64 = NAN;
	json_is(&v, "null");
}

static void
test_json_of_decimals(void **state _unused_)
{
	char want[320];

	json_of(SLICE("D\0\0\0\0\0"), "0");
	json_of(SLICE("D\0\0\0\4\xb5"), "1205");
	json_of(SLICE("D\2\0\0\4\xb5"), "12.05");
	json_of(SLICE("D\3\0\0\4\xb5"), "1.205");
	json_of(SLICE("D\4\0\0\4\xb5"), "0.1205");
	json_of(SLICE("D\6\0\0\4\xb5"), "0.001205");
	json_of(SLICE("D\2\0\0\0\0"), "0.00");
	json_of(SLICE("D\2\xff\xff\xfb\x4b"), "-12.05");
	json_of(SLICE("D\5\xff\xff\xfb\x4b"), "-0.01205");
	json_of(SLICE("D\0\xff\xff\xff\xff"), "-1");
	json_of(SLICE("D\1\x80\0\0\0"), "-214748364.8");
	json_of(SLICE("D\1\x7f\xff\xff\xff"), "214748364.7");
	memset(want, '0', sizeof(want));
	want[0] = '-';
	want[2] = '.';
	want[3 + 254] = '1';
	want[3 + 255] = '\0';
	json_of(SLICE("D\xff\xff\xff\xff\xff"), want);
	memset(want, '0', sizeof(want));
	want[1] = '.';
	memcpy(want + 2 + 245, "2147483647", 11);
	json_of(SLICE("D\xff\x7f\xff\xff\xff"), want);
}

static void
test_json_of_text_and_bytes(void **state _unused_)
{
	json_of(SLICE("S\0\0\0\0"), "\"\"");
	json_of(SLICE("S\0\0\0\5a\"\\\n\0"), "\"a\\\"\\\\\\n\\u0000\"");
	json_of(SLICE("S\0\0\0\4\xc3\xa4\xff!"), "\"\xc3\xa4\xef\xbf\xbd!\"");
	/* One that is cut off, and too long a form. */
	json_of(SLICE("S\0\0\0\1\xe2"), "\"\xef\xbf\xbd\"");
	json_of(SLICE("S\0\0\0\2\xc0\x80"),
	    "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	json_of(SLICE("x\0\0\0\0"), "\"\"");
	json_of(SLICE("x\0\0\0\4\0\1\2\xff"), "\"AAEC/w==\"");
}

static void
test_json_of_tables_and_arrays(void **state _unused_)
{
	json_of(SLICE("F\0\0\0\0"), "{}");
	json_of(SLICE("A\0\0\0\0"), "[]");
	json_of(SLICE("A\0\0\0\12Vt\1A\0\0\0\0b\1"), "[null,true,[],1]");
	json_of(SLICE("F\0\0\0\22\1aV\1bt\1\0A\0\0\0\1V\2\"\xff" "V"),
	    "{\"a\":null,\"b\":true,\"\":[null],\"\\\"\xef\xbf\xbd\":null}");
}

static void
test_json_of_what_is_nested(void **state _unused_)
{
	_cleanup_buffer_ struct buffer raw = BUFFER_INIT, t = BUFFER_INIT,
	    b = BUFFER_INIT;
	amqp_basic_properties_t *p;
	struct error err = ERROR_INIT;
	amqp_field_value_t v = { .kind = AMQP_FIELD_KIND_TABLE };

	nest(&t, AMQP_WIRE_DEPTH_MAX, "AF");
	put16(&raw, AMQP_BASIC_HEADERS_FLAG);
	buffer_add_slice(&raw, buffer_slice(&t));
	assert_int_equal(decode(buffer_slice(&raw), &p, &err), 0);
	for (int i = 0; i < AMQP_WIRE_DEPTH_MAX; i++)
		buffer_add_str(&b, i == 0 ? "{\"k\":" : i ==
		    AMQP_WIRE_DEPTH_MAX - 1 ? "[" : i % 2 != 0 ? "[" :
		    "{\"k\":");
	for (int i = AMQP_WIRE_DEPTH_MAX - 1; i >= 0; i--)
		buffer_add_char(&b, i % 2 != 0 ? ']' : '}');
	v.value.table = p->headers;
	json_is(&v, buffer_cstr(&b));
}

static void
test_a_kind_that_is_none(void **state _unused_)
{
	amqp_field_value_t v = { .kind = 'Z' };
	uint64_t n;

	json_is(&v, "null");
	assert_int_equal(amqp_wire_to_u64(&v, &n), -EINVAL);
}

/* ---- finding ---- */

static void
test_find(void **state _unused_)
{
	amqp_table_entry_t entries[] = {
		{ .key = amqp_cstring_bytes("a"), .value.kind = 'V' },
		{ .key = amqp_cstring_bytes("ab"), .value.kind = 't' },
		{ .key = { 2, (void *)(uintptr_t)"a\0" }, .value.kind = 'b' },
		{ .key = amqp_cstring_bytes("a"), .value.kind = 'B' },
		{ .key = { 0, NULL }, .value.kind = 'u' },
	};
	amqp_table_t t = { (int)ARRAY_SIZE(entries), entries };

	assert_ptr_equal(amqp_wire_find(&t, "a"), &entries[0].value);
	assert_ptr_equal(amqp_wire_find(&t, "ab"), &entries[1].value);
	assert_ptr_equal(amqp_wire_find(&t, ""), &entries[4].value);
	assert_null(amqp_wire_find(&t, "b"));
	assert_null(amqp_wire_find(&amqp_empty_table, "a"));
}

static void
test_slices_and_bytes(void **state _unused_)
{
	struct slice s = SLICE("abc");
	amqp_bytes_t b = amqp_wire_bytes(s);

	assert_int_equal(b.len, 3);
	assert_ptr_equal(b.bytes, s.p);
	assert_true(slice_eq(amqp_wire_slice(b), s));
	assert_int_equal(amqp_wire_bytes((struct slice){ NULL, 0 }).len, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_of_every_kind),
		cmocka_unit_test(test_what_is_no_number),
		cmocka_unit_test(test_json_of_integers),
		cmocka_unit_test(test_json_of_reals),
		cmocka_unit_test(test_json_of_decimals),
		cmocka_unit_test(test_json_of_text_and_bytes),
		cmocka_unit_test(test_json_of_tables_and_arrays),
		cmocka_unit_test(test_json_of_what_is_nested),
		cmocka_unit_test(test_a_kind_that_is_none),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_slices_and_bytes),
	};

	return cmocka_run_group_tests_name("amqp_value", tests, pool_setup,
	    pool_teardown);
}
