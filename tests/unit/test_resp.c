#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/alloc.h"
#include "codec/resp.h"

#define MAX_BYTES	((size_t)1 << 20)

/* Everything at once, or one byte at a time. */
static int
feed(struct resp_reader *r, struct slice text, bool bytewise,
    struct resp **ret, struct chunk **chunk, struct error *err)
{
	_cleanup_buffer_ struct buffer in = BUFFER_INIT;
	int got = 0;

	if (!bytewise) {
		buffer_add_slice(&in, text);
		return resp_reader_next(r, &in, ret, chunk, err);
	}
	for (size_t i = 0; i < text.n && got == 0; i++) {
		buffer_add_char(&in, text.p[i]);
		got = resp_reader_next(r, &in, ret, chunk, err);
		if (got == 1)
			assert_int_equal(i, text.n - 1);
	}
	return got;
}

static struct resp *
parse(const char *text, size_t n, bool bytewise, struct chunk **chunk)
{
	struct resp_reader *r = resp_reader_new(MAX_BYTES);
	struct resp *reply = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(feed(r, (struct slice){ text, n }, bytewise, &reply,
	    chunk, &err), 1);
	resp_reader_free(r);		/* the reply outlives it */
	return reply;
}

#define PARSE(text, bytewise, chunk) \
	parse(text, sizeof(text) - 1, bytewise, chunk)

static void
test_every_type(void **state _unused_)
{
	for (int bytewise = 0; bytewise < 2; bytewise++) {
		struct chunk *c;
		struct resp *r;

		r = PARSE("+OK\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_STATUS);
		assert_true(slice_is(r->str, "OK"));
		chunk_unref(c);
		r = PARSE("-NOAUTH no\r\n", bytewise, &c);
		assert_true(resp_is_error(r, "NOAUTH"));
		assert_true(resp_is_error(r, NULL));
		assert_false(resp_is_error(r, "NOAUTH no way"));
		chunk_unref(c);
		r = PARSE(":-9223372036854775808\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_INTEGER);
		assert_true(r->integer == INT64_MIN);
		chunk_unref(c);
		r = PARSE("$5\r\na\0b\r\n\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_STRING);
		assert_int_equal(r->str.n, 5);
		assert_memory_equal(r->str.p, "a\0b\r\n", 6);
		chunk_unref(c);
		r = PARSE("$-1\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_NIL);
		chunk_unref(c);
		r = PARSE("*-1\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_NIL);
		chunk_unref(c);
		r = PARSE("*0\r\n", bytewise, &c);
		assert_int_equal(r->type, RESP_ARRAY);
		assert_int_equal(r->count, 0);
		chunk_unref(c);
		r = PARSE("*3\r\n*2\r\n$1\r\nx\r\n:7\r\n$-1\r\n*1\r\n*0\r\n",
		    bytewise, &c);
		assert_int_equal(r->count, 3);
		assert_true(slice_is(resp_at(resp_at(r, 0), 0)->str, "x"));
		assert_int_equal(resp_at(resp_at(r, 0), 1)->integer, 7);
		assert_int_equal(resp_at(r, 1)->type, RESP_NIL);
		assert_int_equal(resp_at(resp_at(r, 2), 0)->type, RESP_ARRAY);
		chunk_unref(c);
	}
}

static void
test_access_never_surprises(void **state _unused_)
{
	struct chunk *c;
	struct resp *r = PARSE("*1\r\n:1\r\n", false, &c);

	assert_int_equal(resp_at(r, 1)->type, RESP_NIL);
	assert_int_equal(resp_at(resp_at(r, 0), 0)->type, RESP_NIL);
	assert_int_equal(resp_at(NULL, 0)->type, RESP_NIL);
	assert_false(resp_is_error(r, ""));
	assert_false(resp_is_error(NULL, ""));
	chunk_unref(c);
}

static void
test_many_replies_in_one_buffer(void **state _unused_)
{
	struct resp_reader *r = resp_reader_new(MAX_BYTES);
	_cleanup_buffer_ struct buffer in = BUFFER_INIT;
	struct chunk *chunk;
	struct resp *reply;
	struct error err;

	for (unsigned i = 0; i < 20000; i++)
		buffer_printf(&in, ":%u\r\n", i);
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(resp_reader_next(r, &in, &reply, &chunk,
		    &err), 1);
		assert_int_equal(reply->integer, i);
		chunk_unref(chunk);
	}
	assert_int_equal(resp_reader_next(r, &in, &reply, &chunk, &err), 0);
	assert_int_equal(buffer_len(&in), 0);
	resp_reader_free(r);
}

static void
refused(const char *text, size_t n, const char *code)
{
	for (int bytewise = 0; bytewise < 2; bytewise++) {
		struct resp_reader *r = resp_reader_new(64 * KIB);
		_cleanup_buffer_ struct buffer more = BUFFER_INIT;
		struct chunk *chunk = NULL;
		struct resp *reply = NULL;
		struct error err = ERROR_INIT;

		assert_int_equal(feed(r, (struct slice){ text, n }, bytewise,
		    &reply, &chunk, &err), -EPROTO);
		assert_int_equal(err.class, ERROR_PROTOCOL);
		assert_string_equal(err.code, code);
		assert_null(reply);
		/* And for good. */
		buffer_add_str(&more, "+OK\r\n");
		assert_int_equal(resp_reader_next(r, &more, &reply, &chunk,
		    &err), -EPROTO);
		resp_reader_free(r);
	}
}

#define REFUSED(text, code)	refused(text, sizeof(text) - 1, code)

static void
test_bad_replies_are_refused(void **state _unused_)
{
	REFUSED("HTTP/1.1 400 Bad Request\r\n", "bad_reply");
	REFUSED("\r\n", "bad_reply");
	REFUSED(":12x\r\n", "bad_reply");
	REFUSED("*-7\r\n", "bad_reply");
	REFUSED("$-2\r\n", "bad_reply");
	REFUSED("*99999999999999999999\r\n", "bad_reply");
	/* Nested deeper than anything that Redis says. */
	REFUSED("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"
	    "*1\r\n*1\r\n", "bad_reply");
}

static void
test_announced_sizes_are_bounded(void **state _unused_)
{
	_cleanup_buffer_ struct buffer big = BUFFER_INIT;

	REFUSED("*2147483647\r\n", "reply_too_large");
	REFUSED("*16385\r\n", "reply_too_large");
	/* Many arrays, each of them small enough. */
	REFUSED("*10000\r\n*10000\r\n", "reply_too_large");
	/* A string that goes on and on. */
	buffer_add_str(&big, "$999999999\r\n");
	for (int i = 0; i < 100000; i++)
		buffer_add_char(&big, 'x');
	refused(buffer_head(&big), buffer_len(&big), "reply_too_large");
}

static void
test_half_a_reply_is_freed(void **state _unused_)
{
	struct resp_reader *r = resp_reader_new(MAX_BYTES);
	struct chunk *chunk;
	struct resp *reply;
	struct error err;

	assert_int_equal(feed(r, SLICE("*5\r\n*2\r\n$3\r\nabc\r\n:1\r\n$100\r\nx"),
	    false, &reply, &chunk, &err), 0);
	resp_reader_free(r);
	resp_reader_free(NULL);
}

static void
test_formats_commands(void **state _unused_)
{
	_cleanup_buffer_ struct buffer out = BUFFER_INIT;
	struct slice argv[] = { SLICE("SET"), SLICE("a\0b"), { NULL, 0 } };
	struct resp_reader *r = resp_reader_new(MAX_BYTES);
	struct chunk *chunk;
	struct resp *reply;
	struct error err;
	static const char want[] =
	    "*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n";

	resp_add_command(&out, argv, 3);
	assert_int_equal(buffer_len(&out), sizeof(want) - 1);
	assert_memory_equal(buffer_head(&out), want, sizeof(want) - 1);
	buffer_clear(&out);
	resp_add_head(&out, 2);
	resp_add_arg(&out, SLICE("x"));
	resp_add_arg_u64(&out, UINT64_MAX);
	/* A command is an array of strings. */
	assert_int_equal(resp_reader_next(r, &out, &reply, &chunk, &err), 1);
	assert_true(slice_is(resp_at(reply, 1)->str, "18446744073709551615"));
	chunk_unref(chunk);
	resp_reader_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_access_never_surprises),
		cmocka_unit_test(test_many_replies_in_one_buffer),
		cmocka_unit_test(test_bad_replies_are_refused),
		cmocka_unit_test(test_announced_sizes_are_bounded),
		cmocka_unit_test(test_half_a_reply_is_freed),
		cmocka_unit_test(test_formats_commands),
	};

	return cmocka_run_group_tests_name("resp", tests, NULL, NULL);
}
