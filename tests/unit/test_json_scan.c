/* The pull scanner for JSON; jansson says what is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/random.h"
#include "codec/json_scan.h"

#define SEED	20261124u

/* ---- one document, both ways ---- */

/* Exactly as long as the text: whoever reads on is seen. */
static char *
copy_of(struct slice s)
{
	return xmemdup(s.n != 0 ? s.p : "", MAX(s.n, (size_t)1));
}

static json_t *value_of(struct json_scan *);

static json_t *
object_of(struct json_scan *s)
{
	json_t *o = json_object();
	struct slice key;

	if (!json_scan_enter_object(s))
		return o;
	while (json_scan_next_key(s, &key)) {
		assert_int_equal(key.p[key.n], 0);
		json_object_set_new(o, key.p, value_of(s));
	}
	return o;
}

static json_t *
array_of(struct json_scan *s)
{
	json_t *a = json_array();

	if (!json_scan_enter_array(s))
		return a;
	while (json_scan_next_element(s))
		json_array_append_new(a, value_of(s));
	return a;
}

/* What jansson would have made of it; NULL members stand for an error. */
static json_t *
value_of(struct json_scan *s)
{
	struct slice text;

	switch (json_scan_peek(s)) {
	case JSON_SCAN_OBJECT:
		return object_of(s);
	case JSON_SCAN_ARRAY:
		return array_of(s);
	case JSON_SCAN_STRING:
		if (!json_scan_string(s, &text))
			return json_null();
		assert_int_equal(text.p[text.n], 0);
		return json_stringn_nocheck(text.p, text.n);
	default:
		return json_scan_raw(s, &text) ? json_loadb(text.p, text.n,
		    JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL) :
		    json_null();
	}
}

static json_t *
jansson(struct slice text)
{
	return json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL |
	    JSON_DECODE_INT_AS_REAL, NULL);
}

static bool
skips(struct slice text)
{
	_cleanup_free_ char *copy = copy_of(text);
	struct json_scan s;
	struct slice raw;
	bool good;

	json_scan_init(&s, copy, text.n);
	good = json_scan_raw(&s, &raw);
	good = json_scan_end(&s) == 0 && good;
	assert_memory_equal(copy, text.p, text.n);
	assert_int_equal(good, s.error == NULL);
	assert_true(s.error_at <= text.n);
	return good;
}

static bool
reads(struct slice text)
{
	_cleanup_free_ char *copy = copy_of(text);
	json_t *want = jansson(text), *got;
	struct json_scan s;
	bool good;

	json_scan_init(&s, copy, text.n);
	got = value_of(&s);
	good = json_scan_end(&s) == 0;
	if (good != (want != NULL))
		fail_msg("%.*s: %s at %zu", (int)text.n, text.p, good ?
		    "only jansson refuses it" : s.error, s.error_at);
	if (good && !json_equal(want, got))
		fail_msg("%.*s: other values", (int)text.n, text.p);
	json_decref(want);
	json_decref(got);
	return good;
}

static bool
agrees(struct slice text)
{
	bool good = reads(text);

	assert_int_equal(skips(text), good);
	return good;
}

/* ---- tests ---- */

static const char *const good[] = {
	"0", "-0", "12.50", "1e5", "-1.5E-3", "1E+2", " true ", "false", "null",
	"\"\"", "\"plain\"", "{}", "[]", "[ ]", "{ }", "[[]]", "[{}]",
	"[1,2 , 3]", "{\"a\":1,\"b\":[{\"c\":null}]}",
	"\t\n\r {\"a\" : \"b\" , \"c\" : [ ] } \n",
	"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0041\\u00e9\\u20ac\\u0000\"",
	"\"\\ud83d\\ude00 and \\uD83D\\uDE00\"", "\"\\uffff\\ud7ff\\ue000\"",
	"\"z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x98\x80\"",
	"\"a long one without anything odd in it, and then: \\\" end\"",
	"\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"12345678\\\"123456789\\\"\"",
	"\"\x7f\"", "{\"a\":1,\"a\":2}", "{\"\":\"\"}", "[0.0e0,[-1]]",
};

static const char *const bad[] = {
	"", " ", "x", "tru", "trueish", "nul", "True", "[", "]", "{", "}", "[1",
	"[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
	"{a:1}", "{1:1}", "{,}", "{\"a\":1 \"b\":2}", "[1}", "{\"a\":1]",
	"1 2", "{} x", "[]]", "01", "-", "-a", "+1", "1.", ".5", "1e", "1e+",
	"0x1", "NaN", "Infinity", "\"", "\"a", "\"\\\"", "\"\\x\"", "\"\\",
	"\"\\u\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800x\"",
	"\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\ud83d\\u",
	"\"a\nb\"", "\"a\tb\"", "\"\x01\"", "\"\x1f\"", "\"12345678\n\"",
	"\"\x80\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
	"\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "\xef\xbb\xbf{}", "'a'",
	"[1]/**/", "{\"a\"\x0c:1}", "[\"a\",,\"b\"]", "{\"a\\x\":1}", ",", ":",
};

static void
test_agrees_with_jansson(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!agrees(slice_of(good[i])))
			fail_msg("%s is refused", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (agrees(slice_of(bad[i])))
			fail_msg("%s is taken", bad[i]);
	assert_false(agrees(SLICE("[1]\0")));
	assert_false(agrees(SLICE("\"a\0b\"")));
}

/* Every length and every place within the eight bytes that are read at once. */
static void
test_odd_bytes_anywhere(void **state)
{
	static const char *const odd[] = { "\\\"", "\\u20ac", "\xc3\xbc", "\\n",
		"\x1f", "\x80", "\\ud83d\\ude00", "\x7f", "\\z", "\"" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		for (int before = 0; before < 20; before++)
			for (int after = 0; after < 20; after++) {
				char text[128];
				int n = snprintf(text, sizeof(text),
				    "[\"%.*s%s%.*s\",1]", before,
				    "abcdefghijklmnopqrst", odd[i], after,
				    "ABCDEFGHIJKLMNOPQRST");

				(void)agrees((struct slice){ text, (size_t)n });
			}
}

/* Good documents with a byte or two changed, cut or doubled. */
static void
test_spoiled_documents_agree(void **state)
{
	static const char signs[] = "\"\\{}[],:0e-. \n\x80\xc3u\x01nt";
	unsigned taken = 0, refused = 0;

	(void)state;
	random_seed(SEED);
	for (unsigned i = 0; i < 20000; i++) {
		const char *from = good[i % ARRAY_SIZE(good)];
		char text[128];
		size_t n = strlen(from);

		memcpy(text, from, n);
		for (uint64_t k = random_below(3); k > 0 && n > 0; k--) {
			size_t at = (size_t)random_below(n);

			if (random_below(4) == 0)
				n = at;
			else
				text[at] = signs[random_below(sizeof(signs) -
				    1)];
		}
		if (agrees((struct slice){ text, n }))
			taken++;
		else
			refused++;
	}
	assert_true(taken > 1000 && refused > 1000);
}

static bool
nested_is_taken(size_t depth)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	for (size_t i = 0; i < depth; i++)
		buffer_add_str(&b, i % 3 != 0 ? "[" : "{\"a\":");
	buffer_add_str(&b, "[]");
	for (size_t i = depth; i-- > 0;)
		buffer_add_char(&b, i % 3 != 0 ? ']' : '}');
	return skips(buffer_slice(&b));
}

static void
test_depth_is_bounded(void **state)
{
	(void)state;
	assert_true(nested_is_taken(JSON_SCAN_DEPTH_MAX - 1));
	assert_false(nested_is_taken(JSON_SCAN_DEPTH_MAX));
	assert_false(nested_is_taken(100000));
}

/* What the header says is other than with jansson. */
static void
test_where_jansson_differs(void **state)
{
	(void)state;
	assert_true(skips(SLICE("1e999")));
	assert_true(skips(SLICE("[123456789012345678901234567890]")));
	assert_true(skips(SLICE("{\"a\\u0000\":1}")));
	assert_false(skips(SLICE("0\0")));
	assert_false(skips(SLICE("[1,2\0]")));
	assert_null(jansson(SLICE("1e999")));
	assert_null(jansson(SLICE("{\"a\\u0000\":1}")));
}

static void
test_is_number_as_jansson(void **state)
{
	static const char *const text[] = { "0", "-0", "5", "007", "1.5", "1e5",
		"1e999", "-1e999", "1e-999", "1e308", "1.8e308", "", "-", "x",
		"1x", "true", "\"1\"", "[1]", "0.1e+10", "1e0000000000000001",
		"123456789012345678901234567890", "1.", ".5", "+5", "1e",
		"123456789012345678901234567890123456789012345678901234567890"
		"123", "0.0e99999", "0x10", "1_000" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		json_t *j = jansson(slice_of(text[i]));

		if (json_scan_is_number(slice_of(text[i])) != json_is_number(j))
			fail_msg("%s", text[i]);
		json_decref(j);
	}
	assert_false(json_scan_is_number(SLICE(" 5")));
	assert_false(json_scan_is_number(SLICE("5\0")));
	assert_false(json_scan_is_number(SLICE("1234567890123456789012345678901"
	    "234567890123456789012345678901234")));
}

/* ---- how it is used ---- */

static void
test_pulls_what_is_wanted(void **state)
{
	char text[] = "{\"skipped\":{\"a\":[1,{\"b\":\"\\n\"}]},\"name\":\"a\\u"
	    "00e9\\n\",\"none\":null,\"raw\": [1, \"\\t\"] ,\"last\":[true]}";
	struct slice key, name = { NULL, 0 }, none = SLICE("x");
	struct slice raw = { NULL, 0 };
	struct json_scan s;
	unsigned n = 0;

	(void)state;
	json_scan_init(&s, text, strlen(text));
	assert_int_equal(json_scan_peek(&s), JSON_SCAN_OBJECT);
	assert_true(json_scan_enter_object(&s));
	while (json_scan_next_key(&s, &key)) {
		n++;
		if (slice_is(key, "name"))
			assert_true(json_scan_text(&s, &name));
		else if (slice_is(key, "none"))
			assert_true(json_scan_text(&s, &none));
		else if (slice_is(key, "raw"))
			assert_true(json_scan_raw(&s, &raw));
		else
			assert_true(json_scan_skip(&s));
	}
	assert_int_equal(json_scan_end(&s), 0);
	assert_int_equal(n, 5);
	assert_string_equal(name.p, "a\xc3\xa9\n");
	assert_int_equal(name.n, 4);
	assert_null(none.p);
	assert_true(slice_is(raw, "[1, \"\\t\"]"));
}

static void
test_goes_back_after_raw(void **state)
{
	char text[] = "[{\"a\":\"\\n\"},2]";
	struct json_scan s, mark;
	struct slice raw, key, value;

	(void)state;
	json_scan_init(&s, text, strlen(text));
	assert_true(json_scan_enter_array(&s) && json_scan_next_element(&s));
	mark = s;
	assert_true(json_scan_raw(&s, &raw));
	assert_true(slice_is(raw, "{\"a\":\"\\n\"}"));
	s = mark;
	assert_true(json_scan_enter_object(&s));
	assert_true(json_scan_next_key(&s, &key));
	assert_true(json_scan_text(&s, &value));
	assert_string_equal(value.p, "\n");
	assert_false(json_scan_next_key(&s, &key));
	assert_true(json_scan_next_element(&s) && json_scan_skip(&s));
	assert_false(json_scan_next_element(&s));
	assert_int_equal(json_scan_end(&s), 0);
}

/* Where, and once: what is done after it changes nothing. */
static void
test_errors_say_where_and_stay(void **state)
{
	char text[] = "{\"a\":[1,\"b\\q\"]}";
	struct json_scan s;
	struct slice key;

	(void)state;
	json_scan_init(&s, text, strlen(text));
	assert_true(json_scan_enter_object(&s) && json_scan_next_key(&s, &key));
	assert_false(json_scan_skip(&s));
	assert_int_equal(s.error_at, 10);
	assert_string_equal(s.error, "an escape that is none");
	assert_false(json_scan_next_key(&s, &key));
	assert_false(json_scan_next_element(&s));
	assert_false(json_scan_enter_object(&s));
	assert_false(json_scan_text(&s, &key));
	assert_int_equal(json_scan_peek(&s), JSON_SCAN_NOTHING);
	assert_int_equal(json_scan_end(&s), -EPROTO);
	assert_int_equal(s.error_at, 10);
}

static void
test_an_end_that_is_missing(void **state)
{
	char text[] = "[[1]";
	struct json_scan s;

	(void)state;
	json_scan_init(&s, text, strlen(text));
	assert_true(json_scan_enter_array(&s) && json_scan_next_element(&s) &&
	    json_scan_skip(&s));
	/* The owner stops too early. */
	assert_int_equal(json_scan_end(&s), -EPROTO);
	assert_int_equal(s.error_at, 4);
}

static void
test_texts_of_an_object(void **state)
{
	char object[] = "{\"a\":\"x\\ny\",\"n\":{\"a\":\"no\"},\"b\":7}";
	char array[] = "[1]", broken[] = "{\"a\":\"x\",}";
	struct slice a = { NULL, 0 }, b = SLICE("old"), c = SLICE("kept");
	const struct json_scan_member members[] = {
		{ "a", &a }, { "b", &b }, { "c", &c },
	};
	struct json_scan s;

	(void)state;
	json_scan_init(&s, object, sizeof(object) - 1);
	json_scan_texts(&s, members, ARRAY_SIZE(members));
	assert_int_equal(json_scan_end(&s), 0);
	assert_true(slice_is(a, "x\ny"));
	assert_null(b.p);		/* there, and no text */
	assert_true(slice_is(c, "kept"));
	json_scan_init(&s, array, sizeof(array) - 1);
	json_scan_texts(&s, members, ARRAY_SIZE(members));
	assert_int_equal(json_scan_end(&s), 0);
	json_scan_init(&s, broken, sizeof(broken) - 1);
	json_scan_texts(&s, members, ARRAY_SIZE(members));
	assert_int_equal(json_scan_end(&s), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agrees_with_jansson),
		cmocka_unit_test(test_odd_bytes_anywhere),
		cmocka_unit_test(test_spoiled_documents_agree),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_where_jansson_differs),
		cmocka_unit_test(test_is_number_as_jansson),
		cmocka_unit_test(test_pulls_what_is_wanted),
		cmocka_unit_test(test_goes_back_after_raw),
		cmocka_unit_test(test_errors_say_where_and_stay),
		cmocka_unit_test(test_an_end_that_is_missing),
		cmocka_unit_test(test_texts_of_an_object),
	};

	return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}
