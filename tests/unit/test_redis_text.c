/*
 * The texts that the Redis queue keeps at the server: the record of a delayed
 * message, and Sidekiq's jobs as we edit them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "queue/redis_impl.h"

/* ---- records ---- */

static struct message
sample(void)
{
	static const struct attribute a[] = {
		{ SLICE("kind"), SLICE("mail\n"), false },
		{ SLICE("data"), SLICE("{\"a\":1}"), true },
		{ SLICE(""), SLICE(""), false },
	};
	struct message m = {
		.name = SLICE("1700000000000-0"),
		.body = SLICE("a\0b\nc"),
		.order_key = SLICE("customer 7"),
		.enqueued_us = 1700000000000000u,
		.attributes = a,
		.nattributes = ARRAY_SIZE(a),
	};

	return m;
}

static struct slice
record(struct buffer *b)
{
	char type[] = "external_api";
	struct redis_batch batch = { .attempt = 3, .crashes = 1,
	    .error_type = type };
	struct message m = sample();

	redis_record(b, &m, &batch);
	return buffer_slice(b);
}

static void
test_record_round_trip(void **state _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct chunk *chunk = chunk_new();
	struct message want = sample(), m = { .id = 0 };

	assert_true(redis_record_read(chunk, record(&b), &m));
	assert_int_equal(m.attempt, 3);
	assert_int_equal(m.crashes, 1);
	assert_true(m.enqueued_us == want.enqueued_us);
	assert_true(slice_eq(m.name, want.name));
	assert_true(slice_eq(m.body, want.body));
	assert_true(slice_eq(m.order_key, want.order_key));
	assert_int_equal(m.nattributes, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(slice_eq(m.attributes[i].name,
		    want.attributes[i].name));
		assert_true(slice_eq(m.attributes[i].value,
		    want.attributes[i].value));
		assert_int_equal(m.attributes[i].json, want.attributes[i].json);
	}
	chunk_unref(chunk);
}

/* Each copy has exactly its bytes, so that a sanitizer sees a step too far. */
static bool
readable(const char *p, size_t n)
{
	char *copy = xmemdup(p, MAX(n, (size_t)1));
	struct chunk *chunk = chunk_new();
	struct message m = { .id = 0 };
	bool ok = redis_record_read(chunk, (struct slice){ copy, n }, &m);

	if (ok)
		assert_true(m.body.p >= copy && m.body.p + m.body.n <= copy + n);
	chunk_unref(chunk);
	free(copy);
	return ok;
}

static void
test_damaged_records_are_refused(void **state _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct slice whole = record(&b);
	size_t line = (size_t)((char *)memchr(whole.p, '\n', whole.n) -
	    whole.p);

	assert_true(readable(whole.p, whole.n));
	for (size_t n = 0; n < whole.n; n++)
		assert_false(readable(whole.p, n));
	buffer_add_char(&b, 'x');
	assert_false(readable(buffer_head(&b), buffer_len(&b)));
	b.end--;
	/* Any byte of the line; most make it wrong, none may be followed. */
	for (size_t i = 0; i <= line; i++) {
		char was = buffer_head(&b)[i];

		for (int c = 0; c < 256; c++) {
			buffer_head(&b)[i] = (char)c;
			(void)readable(buffer_head(&b), buffer_len(&b));
		}
		buffer_head(&b)[i] = was;
	}
#define BAD(text) assert_false(readable(text, sizeof(text) - 1))
	BAD("BOT1 0 0 0 0 0 0 0 0\n");			/* attempt 0 */
	BAD("BOT1 1 0 0 0 0 0 0 99999\n");
	BAD("BOT1 1 0 0 0 0 0 18446744073709551615 0\nxx");
	BAD("BOT1 4294967296 0 0 0 0 0 0 0\n");
	BAD("BOT2 1 0 0 0 0 0 0 0\n");
	BAD("BOT1  1 0 0 0 0 0 0 0\n");
	assert_true(readable("BOT1 1 0 0 0 0 0 0 0\n", 21));
}

/* ---- jobs ---- */

static void
test_job_members(void **state _unused_)
{
	struct slice job = SLICE(" { \"a\" : [1,{\"jid\":\"no\"}] , "
	    "\"jid\":\"x\\\"y\",\"n\":-1.5e3,\"t\":true,\"e\":{} } ");

	assert_true(redis_job_is_object(job));
	assert_true(slice_is(redis_job_member(job, "a"),
	    "[1,{\"jid\":\"no\"}]"));
	assert_true(slice_is(redis_job_string(job, "jid"), "x\\\"y"));
	assert_true(slice_is(redis_job_member(job, "n"), "-1.5e3"));
	assert_true(slice_is(redis_job_member(job, "t"), "true"));
	assert_true(slice_is(redis_job_member(job, "e"), "{}"));
	assert_int_equal(redis_job_member(job, "none").n, 0);
	assert_int_equal(redis_job_string(job, "n").n, 0);
	assert_true(redis_job_is_object(SLICE("{}")));
}

static void
test_what_is_not_an_object(void **state _unused_)
{
	static const char *const bad[] = { "", " ", "[]", "1", "{", "{\"a\"}",
	    "{\"a\":}", "{\"a\":1", "{\"a\":1,}", "{\"a\":1}x", "{a:1}",
	    "{\"a\":\"b}", "{\"a\":[1}", "{\"a\\", "{,}", "{\"a\":1 \"b\":2}" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t n = strlen(bad[i]);
		char *copy = xmemdup(bad[i], MAX(n, (size_t)1));
		_cleanup_buffer_ struct buffer out = BUFFER_INIT;
		static const char *const none[] = { NULL };

		/* "[1}" is for the handler to find out. */
		if (strcmp(bad[i], "{\"a\":[1}") != 0 &&
		    redis_job_is_object((struct slice){ copy, n }))
			fail_msg("%s", bad[i]);
		redis_job_edit(&out, (struct slice){ copy, n }, none);
		free(copy);
	}
}

static void
test_job_edits_leave_the_rest(void **state _unused_)
{
	static const char *const without[] = { "retry_count", "z", NULL };
	_cleanup_buffer_ struct buffer out = BUFFER_INIT;

	redis_job_edit(&out, SLICE("{\"z\":1, \"a\" : 12345678901234567890,"
	    "\"retry_count\":{\"z\":[]},\"b\":1.10}"), without);
	redis_job_add(&out, "retry_count", SLICE("3"));
	redis_job_add_string(&out, "why", SLICE("a\"\n"));
	redis_job_end(&out);
	assert_string_equal(buffer_cstr(&out), "{\"a\":12345678901234567890,"
	    "\"b\":1.10,\"retry_count\":3,\"why\":\"a\\\"\\n\"}");
	buffer_clear(&out);
	redis_job_edit(&out, SLICE("{\"z\":1}"), without);
	redis_job_add(&out, "a", SLICE("1"));
	redis_job_end(&out);
	assert_string_equal(buffer_cstr(&out), "{\"a\":1}");
}

static void
test_prefix_keeps_to_one_slot(void **state _unused_)
{
	static const char *const keys[][2] = { { "jobs", "{jobs}:bot" },
	    { "a{b}c", "a{b}c:bot" }, { "{}x", "{{}x}:bot" },
	    { "a{b", "{a{b}:bot" } };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		_cleanup_free_ char *got = redis_keys_prefix(keys[i][0]);

		assert_string_equal(got, keys[i][1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record_round_trip),
		cmocka_unit_test(test_damaged_records_are_refused),
		cmocka_unit_test(test_job_members),
		cmocka_unit_test(test_what_is_not_an_object),
		cmocka_unit_test(test_job_edits_leave_the_rest),
		cmocka_unit_test(test_prefix_keeps_to_one_slot),
	};

	return cmocka_run_group_tests_name("redis_text", tests, NULL, NULL);
}
