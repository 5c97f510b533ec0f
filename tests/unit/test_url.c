/* url and base64: escapes, queries, and strict decoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "codec/base64.h"
#include "codec/url.h"

static void
assert_slice(struct slice s, const char *want)
{
	if (!slice_is(s, want))
		fail_msg("\"%.*s\" is not \"%s\"", (int)s.n, s.p, want);
}

static void
test_components_there_and_back(void **state)
{
	struct buffer b = BUFFER_INIT, back = BUFFER_INIT;
	char all[256];

	(void)state;
	url_add_component(&b, SLICE("aZ0-._~ /?&=+%\xc3\xa4"));
	assert_slice(buffer_slice(&b),
	    "aZ0-._~%20%2F%3F%26%3D%2B%25%C3%A4");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	buffer_clear(&b);
	url_add_component(&b, (struct slice){ all, 256 });
	assert_int_equal(url_decode(&back, buffer_slice(&b), true), 0);
	assert_int_equal(buffer_len(&back), 256);
	assert_memory_equal(buffer_head(&back), all, 256);
	buffer_done(&b);
	buffer_done(&back);
}

static void
test_bad_escapes_change_nothing(void **state)
{
	static const char *const wrong[] = { "%", "a%2", "%g0", "%0g", "%%41",
		"ok%4" };
	struct buffer b = BUFFER_INIT;

	(void)state;
	buffer_add_str(&b, "x");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(url_decode(&b, slice_of(wrong[i]), false),
		    -EINVAL);
		assert_slice(buffer_slice(&b), "x");
	}
	assert_int_equal(url_decode(&b, SLICE("%4a+b"), false), 0);
	assert_int_equal(url_decode(&b, SLICE("+"), true), 0);
	assert_slice(buffer_slice(&b), "xJ+b ");
	buffer_done(&b);
}

static void
test_targets_and_queries(void **state)
{
	struct slice path, query, name, value;

	(void)state;
	url_split(SLICE("/a?b=c?d&e#f?g"), &path, &query);
	assert_slice(path, "/a");
	assert_slice(query, "b=c?d&e");
	url_split(SLICE("/a#?b"), &path, &query);
	assert_slice(path, "/a");
	assert_null(query.p);
	url_split(SLICE("/a?"), &path, &query);
	assert_non_null(query.p);
	assert_false(url_query_next(&query, &name, &value));
	url_split(SLICE("?&&a=1=2&b&=c&"), &path, &query);
	assert_true(url_query_next(&query, &name, &value));
	assert_slice(name, "a");
	assert_slice(value, "1=2");
	assert_true(url_query_next(&query, &name, &value));
	assert_slice(name, "b");
	assert_slice(value, "");
	assert_true(url_query_next(&query, &name, &value));
	assert_slice(name, "");
	assert_slice(value, "c");
	assert_false(url_query_next(&query, &name, &value));
}

/* RFC 4648, section 10, and the two letters that differ. */
static void
test_base64_known_values(void **state)
{
	static const char *const known[][3] = {
		{ "", "", "" }, { "f", "Zg==", "Zg" }, { "fo", "Zm8=", "Zm8" },
		{ "foo", "Zm9v", "Zm9v" }, { "foob", "Zm9vYg==", "Zm9vYg" },
		{ "fooba", "Zm9vYmE=", "Zm9vYmE" },
		{ "foobar", "Zm9vYmFy", "Zm9vYmFy" },
		{ "\xfb\xff", "+/8=", "-_8" },
	};
	struct buffer b = BUFFER_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		base64_add(&b, slice_of(known[i][0]));
		assert_slice(buffer_slice(&b), known[i][1]);
		buffer_clear(&b);
		base64url_add(&b, slice_of(known[i][0]));
		assert_slice(buffer_slice(&b), known[i][2]);
		buffer_clear(&b);
		assert_int_equal(base64_decode(slice_of(known[i][1]), &b), 0);
		assert_slice(buffer_slice(&b), known[i][0]);
		buffer_clear(&b);
		assert_int_equal(base64url_decode(slice_of(known[i][2]), &b),
		    0);
		assert_slice(buffer_slice(&b), known[i][0]);
		buffer_clear(&b);
	}
	buffer_done(&b);
}

static void
test_base64_is_strict(void **state)
{
	static const char *const wrong[] = { "Z", "Zg", "Zg=", "Zg===", "Z===",
		"====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9v\n", "-_8=",
		"=Zg=", "Zm9v====", "Zm9\xc3" };
	static const char *const wrong_url[] = { "Z", "Zg==", "Zh", "+/8",
		"Zm9vY" };
	struct buffer b = BUFFER_INIT;

	(void)state;
	buffer_add_str(&b, "x");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (base64_decode(slice_of(wrong[i]), &b) != -EINVAL ||
		    base64_decode(slice_of(wrong[i]), NULL) != -EINVAL)
			fail_msg("accepted: %s", wrong[i]);
		assert_slice(buffer_slice(&b), "x");
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong_url); i++)
		if (base64url_decode(slice_of(wrong_url[i]), &b) != -EINVAL)
			fail_msg("accepted: %s", wrong_url[i]);
	assert_slice(buffer_slice(&b), "x");
	buffer_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_components_there_and_back),
		cmocka_unit_test(test_bad_escapes_change_nothing),
		cmocka_unit_test(test_targets_and_queries),
		cmocka_unit_test(test_base64_known_values),
		cmocka_unit_test(test_base64_is_strict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
