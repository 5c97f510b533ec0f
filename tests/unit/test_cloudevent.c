/* cloudevent: what Format= and Require= refuse, and what people are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/buffer.h"
#include "codec/cloudevent.h"

#define EVENT(more) \
	"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"," \
	"\"type\":\"t\"" more "}"

static struct error err;

static char *const *
names(const char *a, const char *b)
{
	static char text[2][64];
	static char *list[3];

	memset(list, 0, sizeof(list));
	if (a != NULL)
		list[0] = strcpy(text[0], a);
	if (b != NULL)
		list[1] = strcpy(text[1], b);
	return list;
}

/* text: something the sentence must say; NULL: the body is fine. */
static void
assert_check(int (*check)(struct slice, char *const *, struct error *),
    const char *body, char *const *require, const char *text)
{
	int r;

	error_clear(&err);
	r = check(slice_of(body), require, &err);
	if (text == NULL) {
		if (r != 0)
			fail_msg("%s: refused: %s", body, err.text);
		return;
	}
	if (r != -EINVAL || strstr(err.text, text) == NULL)
		fail_msg("%s: wanted \"%s\", got %d \"%s\"", body, text, r,
		    err.text);
	assert_int_equal(err.class, ERROR_REJECTED);
	assert_string_equal(err.code, "invalid_format");
}

static void
test_any_json_value_is_json(void **state)
{
	static const char *const fine[] = {
		"{}", "[]", "1", "\"x\"", "null", "true", " [1, {\"a\":2}] \n",
		"18446744073709551616", "-1e-300", "\"\\u0000\"",
		"{\"a\":{\"a\":1},\"b\":{\"a\":1}}",
		"123456789012345678901234567890.5",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
		assert_check(json_check, fine[i], NULL, NULL);
		assert_check(json_check, fine[i], names(NULL, NULL), NULL);
	}
}

static void
test_bad_json_is_told_with_its_place(void **state)
{
	(void)state;
	assert_check(json_check, "", NULL, "empty");
	assert_check(json_check, "{\n  \"a\": 1,\n  oops\n}", NULL,
	    "line 3, column 6");
	assert_check(json_check, "{} {}", NULL, "line 1, column");
	assert_check(json_check, "[1,]", NULL, "line 1");
	assert_check(json_check, "{\"a\":1,\n\"a\":2}", NULL, "line 2");
	assert_check(json_check, "{\"a\":1,\"a\":2}", NULL, "duplicate");
	assert_check(json_check, "{\"b\":{\"a\":1,\"a\":2}}", NULL,
	    "duplicate");
	assert_check(json_check, "\"\xff\"", NULL, "line 1");
	assert_check(json_check, "\"\x01\"", NULL, "line 1");
	assert_check(json_check, "[NaN]", NULL, "line 1");
	assert_check(json_check, "'a'", NULL, "line 1");
	/* The body's bytes do not get into the text. */
	assert_check(json_check, "{\"a\": hunter2}", NULL, "line 1");
	assert_null(strstr(err.text, "hunter2"));
	assert_int_equal(json_check((struct slice){ NULL, 0 }, NULL, &err),
	    -EINVAL);
	/* Not terminated, and a NUL in the middle. */
	assert_int_equal(json_check((struct slice){ "[1]x", 3 }, NULL, &err),
	    0);
	assert_int_equal(json_check((struct slice){ "[1]\0", 4 }, NULL, &err),
	    -EINVAL);
}

static void
nested(struct buffer *b, size_t depth, const char *open, const char *close)
{
	buffer_clear(b);
	for (size_t i = 0; i < depth; i++)
		buffer_add_str(b, open);
	buffer_add_char(b, '1');
	for (size_t i = 0; i < depth; i++)
		buffer_add_str(b, close);
}

static void
test_deep_json_is_refused_and_never_fatal(void **state)
{
	struct buffer b = BUFFER_INIT;

	(void)state;
	nested(&b, JSON_CHECK_DEPTH, "[", "]");
	assert_check(json_check, buffer_cstr(&b), NULL, NULL);
	nested(&b, JSON_CHECK_DEPTH, "{\"a\":", "}");
	assert_check(json_check, buffer_cstr(&b), NULL, NULL);
	nested(&b, JSON_CHECK_DEPTH + 1, "\n[", "]");
	assert_check(json_check, buffer_cstr(&b), NULL,
	    "line 66, column 1: nested deeper than 64");
	nested(&b, 1000000, "[", "");
	assert_check(json_check, buffer_cstr(&b), NULL, "nested deeper");
	nested(&b, 1000000, "{\"a\":", "");
	assert_check(cloudevent_check, buffer_cstr(&b), NULL, "nested deeper");
	/* Brackets in strings do not count; those behind an escape neither. */
	nested(&b, 100, "[", "");
	buffer_clear(&b);
	buffer_add_str(&b, "[\"\\\"");
	for (int i = 0; i < 100; i++)
		buffer_add_str(&b, "[{");
	buffer_add_str(&b, "\\\\\"]");
	assert_check(json_check, buffer_cstr(&b), NULL, NULL);
	buffer_done(&b);
}

static void
test_required_members_of_json(void **state)
{
	const char *body = "{\"a\":{\"b\":{\"c\":null}},\"d\":[1],\"e\":0}";

	(void)state;
	assert_check(json_check, body, names("a", "e"), NULL);
	assert_check(json_check, body, names("a.b.c", "d"), NULL);
	assert_check(json_check, body, names("e", "f"),
	    "\"f\" is missing: the top object has no member \"f\"");
	assert_check(json_check, body, names("a.x.c", NULL),
	    "\"a.x.c\" is missing: \"a\" has no member \"x\"");
	assert_check(json_check, body, names("a.b.x", NULL),
	    "\"a.b\" has no member \"x\"");
	assert_check(json_check, body, names("d.x", NULL),
	    "\"d\" is an array, not an object");
	assert_check(json_check, body, names("a.b.c.d", NULL),
	    "\"a.b.c\" is null, not an object");
	assert_check(json_check, "[1]", names("a", NULL),
	    "the body is an array, but must be an object with \"a\"");
	assert_check(json_check, "3", names("a", NULL), "a number");
}

static void
test_events_that_are_fine(void **state)
{
	(void)state;
	assert_check(cloudevent_check, EVENT(""), NULL, NULL);
	assert_check(cloudevent_check, EVENT(",\"data\":[1],\"time\":"
	    "\"2026-11-23T16:00:00Z\",\"datacontenttype\":\"a/b\","
	    "\"subject\":\"x\",\"ext\":1"), NULL, NULL);
	assert_check(cloudevent_check, EVENT(",\"data_base64\":\"AAECAw==\""),
	    NULL, NULL);
	assert_check(cloudevent_check, EVENT(",\"time\":null,\"data\":null,"
	    "\"data_base64\":\"\""), NULL, NULL);
	assert_check(cloudevent_check, EVENT(",\"data\":{\"customer\":null}"),
	    names("data.customer", "type"), NULL);
}

static void
test_events_that_are_not(void **state)
{
	(void)state;
	assert_check(cloudevent_check, "[" EVENT("") "]", NULL, "a batch");
	assert_check(cloudevent_check, "\"x\"", NULL, "a string");
	assert_check(cloudevent_check, "{", NULL, "line 1");
	assert_check(cloudevent_check, "{}", NULL, "\"specversion\" is missing");
	assert_check(cloudevent_check, "{\"specversion\":\"1.0\",\"id\":\"1\","
	    "\"source\":\"s\"}", NULL, "\"type\" is missing");
	assert_check(cloudevent_check, "{\"specversion\":\"1.0\",\"id\":null,"
	    "\"source\":\"s\",\"type\":\"t\"}", NULL, "\"id\" is missing");
	assert_check(cloudevent_check, "{\"specversion\":\"0.3\",\"id\":\"1\","
	    "\"source\":\"s\",\"type\":\"t\"}", NULL, "must be \"1.0\"");
	assert_check(cloudevent_check, "{\"specversion\":1.0,\"id\":\"1\","
	    "\"source\":\"s\",\"type\":\"t\"}", NULL,
	    "\"specversion\" is a number");
	assert_check(cloudevent_check, "{\"specversion\":\"1.0\",\"id\":1,"
	    "\"source\":\"s\",\"type\":\"t\"}", NULL, "\"id\" is a number");
	assert_check(cloudevent_check, "{\"specversion\":\"1.0\",\"id\":\"1\","
	    "\"source\":\"\",\"type\":\"t\"}", NULL, "\"source\" is empty");
	assert_check(cloudevent_check, EVENT(",\"datacontenttype\":1"), NULL,
	    "\"datacontenttype\" is a number");
	assert_check(cloudevent_check, EVENT(",\"subject\":\"\""), NULL,
	    "\"subject\" is empty");
	assert_check(cloudevent_check, EVENT(",\"data\":1,\"data_base64\":\"\""),
	    NULL, "both");
	assert_check(cloudevent_check, EVENT(",\"data_base64\":\"AAE\""), NULL,
	    "not base64");
	assert_check(cloudevent_check, EVENT(",\"data_base64\":{}"), NULL,
	    "is an object");
	assert_check(cloudevent_check, EVENT(",\"id\":\"2\""), NULL,
	    "duplicate");
	assert_check(cloudevent_check, EVENT(",\"data\":{}"),
	    names("data.customer", NULL), "\"data\" has no member");
	assert_check(cloudevent_check, EVENT(",\"subject\":null"),
	    names("subject", NULL), "\"subject\" is missing: it is null");
}

static void
test_times(void **state)
{
	static const char *const fine[] = {
		"2026-11-23T16:00:00Z", "2026-11-23t16:00:00z",
		"2024-02-29T23:59:60.123456789+14:00",
		"2000-02-29T00:00:00-00:00", "1985-04-12T23:20:50.52Z",
	};
	static const char *const wrong[] = {
		"x", "2026", "2026-11-23", "2026-11-23 16:00:00Z",
		"2026-11-23T16:00:00", "2026-11-23T16:00Z",
		"2026-11-23T16:00:00.Z", "2026-11-23T24:00:00Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
		"2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-04-00T00:00:00Z",
		"2026-11-23T16:00:00+1:00", "2026-11-23T16:00:00+01",
		"2026-11-23T16:00:00+01:00x", "2026-11-23T16:00:00Zx",
		"2026-11-23T16:60:00Z", "2026-11-23T16:00:61Z",
		"2026-11-23T16:00:00Z\\u0000x", "26-11-23T16:00:00Z",
	};
	char body[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
		strcpy(body, EVENT(",\"time\":\"%"));
		strcpy(strchr(body, '%'), fine[i]);
		strcat(body, "\"}");
		assert_check(cloudevent_check, body, NULL, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		strcpy(body, EVENT(",\"time\":\"%"));
		strcpy(strchr(body, '%'), wrong[i]);
		strcat(body, "\"}");
		assert_check(cloudevent_check, body, NULL, "RFC 3339");
	}
}

/* ---- binary mode ---- */

struct header {
	const char *name, *text;
	bool json;
	size_t n;		/* 0: up to its end */
};

#define HEADERS \
	{ "specversion", "1.0", false, 0 }, { "id", "1", false, 0 }, \
	{ "source", "/s", false, 0 }, { "type", "t", false, 0 }

static bool
get_header(const void *arg, struct slice name, struct cloudevent_value *ret)
{
	const struct header *h = arg;

	/* The last one of a name counts, so that a test can put its own
	   behind HEADERS. */
	bool found = false;

	for (; h->name != NULL; h++) {
		if (!slice_is(name, h->name))
			continue;
		found = h->text != NULL;
		*ret = (struct cloudevent_value){ .text = slice_of(h->text),
		    .json = h->json };
		if (h->n != 0)
			ret->text.n = h->n;
	}
	return found;
}

static void
assert_binary(const struct header *headers, const char *body,
    char *const *require, const char *text)
{
	int r;

	error_clear(&err);
	r = cloudevent_check_binary(slice_of(body), get_header, headers,
	    require, &err);
	if (text == NULL) {
		if (r != 0)
			fail_msg("refused: %s", err.text);
		return;
	}
	if (r != -EINVAL || strstr(err.text, text) == NULL)
		fail_msg("wanted \"%s\", got %d \"%s\"", text, r, err.text);
	assert_int_equal(err.class, ERROR_REJECTED);
	assert_string_equal(err.code, "invalid_format");
}

#define BINARY(body, require, text, ...) \
	assert_binary((const struct header[]){ HEADERS, __VA_ARGS__, \
	    { NULL, NULL, false, 0 } }, body, require, text)

static void
test_binary_attributes(void **state)
{
	static const char *const needed[] = { "specversion", "id", "source",
		"type" };
	char text[64];

	(void)state;
	BINARY("", NULL, NULL, { "x", "", false, 0 });
	BINARY("\xff not JSON", NULL, NULL, { "x", "[1]", true, 0 });
	BINARY("", NULL, NULL, { "subject", "s", false, 0 },
	    { "dataschema", "s:", false, 0 },
	    { "time", "2026-11-23T16:00:00Z", false, 0 });
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		snprintf(text, sizeof(text), "\"ce-%s\" is missing",
		    needed[i]);
		BINARY("", NULL, text, { needed[i], NULL, false, 0 });
		BINARY("", NULL, text, { needed[i], "null", true, 0 });
		snprintf(text, sizeof(text), "\"ce-%s\" is empty", needed[i]);
		BINARY("", NULL, text, { needed[i], "", false, 0 });
		snprintf(text, sizeof(text), "\"ce-%s\" is not a string",
		    needed[i]);
		BINARY("", NULL, text, { needed[i], "1.0", true, 0 });
	}
	BINARY("", NULL, NULL, { "id", "null", false, 0 });
	BINARY("", NULL, "must be \"1.0\"", { "specversion", "0.3", false,
	    0 });
	BINARY("", NULL, "must be \"1.0\"", { "specversion", "1.0\0", false,
	    4 });
	BINARY("", NULL, "\"ce-subject\" is empty", { "subject", "", false,
	    0 });
	BINARY("", NULL, "\"ce-subject\" is not", { "subject", "{}", true,
	    0 });
	BINARY("", NULL, NULL, { "subject", "null", true, 0 });
	BINARY("", NULL, "\"ce-dataschema\" is empty", { "dataschema", "",
	    false, 0 });
}

static void
test_binary_times(void **state)
{
	(void)state;
	BINARY("", NULL, NULL, { "time", "2024-02-29T23:59:60.5+14:00", false,
	    0 });
	/* AMQP's own timestamp. */
	BINARY("", NULL, NULL, { "time", "1795449600", true, 0 });
	BINARY("", NULL, NULL, { "time", "0", true, 0 });
	BINARY("", NULL, NULL, { "time", "null", true, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "1795449600", false, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "-1", true, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "1.5", true, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "{}", true, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "soon", false, 0 });
	BINARY("", NULL, "\"ce-time\" is empty", { "time", "", false, 0 });
	BINARY("", NULL, "RFC 3339", { "time", "2026-11-23T16:00:00Z\0x",
	    false, 22 });
	/* Not terminated. */
	BINARY("", NULL, NULL, { "time", "2026-11-23T16:00:00Zx", false, 20 });
	BINARY("", NULL, "RFC 3339", { "time", "2026-11-23T16:00:00Z", false,
	    19 });
}

static void
test_binary_required(void **state)
{
	const struct header none = { "x", "x", false, 0 };

	(void)state;
	BINARY("", names("id", "x"), NULL, none);
	BINARY("", names("type", "y"), "\"ce-y\" is missing", none);
	BINARY("", names("y", NULL), "\"ce-y\" is missing",
	    { "y", "null", true, 0 });
	BINARY("", names("x", NULL), NULL, { "x", "", false, 0 });
	BINARY("", names("data", NULL), "the body is empty", none);
	BINARY("x", names("data", NULL), NULL, none);
	BINARY("{\"a\":{\"b\":null}}", names("data.a", "data.a.b"), NULL,
	    none);
	BINARY("{\"a\":1}", names("data.a", "data.c"),
	    "\"data.c\" is missing: \"data\" has no member \"c\"", none);
	BINARY("{\"a\":1}", names("data.a.b", NULL),
	    "\"data.a\" is a number, not an object", none);
	BINARY("[1]", names("data.a", NULL),
	    "\"data\" is an array, not an object", none);
	BINARY("", names("data.a", NULL), "the body is empty, JSON", none);
	BINARY("{\n\"a\":1,}", names("data.a", NULL), "line 2", none);
	BINARY("{\"a\":1,\"a\":2}", names("data.a", NULL), "duplicate",
	    none);
	/* It looks like the data, and is an attribute. */
	BINARY("{\"a\":1}", names("datum", "database"), "\"ce-datum\" is",
	    none);
	BINARY("x", names("datacontenttype", NULL), NULL,
	    { "datacontenttype", "text/plain", false, 0 });
	/* The attributes come first. */
	BINARY("", names("data", NULL), "\"ce-id\" is missing",
	    { "id", NULL, false, 0 });
}

static void
test_structured_by_content_type(void **state)
{
	(void)state;
	assert_true(cloudevent_is_structured(SLICE("application/cloudevents")));
	assert_true(cloudevent_is_structured(
	    SLICE("application/cloudevents+json; charset=utf-8")));
	assert_true(cloudevent_is_structured(
	    SLICE("Application/CloudEvents-Batch+json")));
	assert_false(cloudevent_is_structured(SLICE("application/cloudevent")));
	assert_false(cloudevent_is_structured(SLICE("application/json")));
	assert_false(cloudevent_is_structured((struct slice){ NULL, 0 }));
	assert_false(cloudevent_is_structured(
	    (struct slice){ "application/cloudevents", 22 }));
}

static void
test_long_names_are_cut(void **state)
{
	char name[600], *list[2] = { name, NULL };

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	name[300] = '.';
	assert_check(json_check, "{}", list, "is missing");
	BINARY("", list, "is missing", { "x", "", false, 0 });
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_json_value_is_json),
		cmocka_unit_test(test_bad_json_is_told_with_its_place),
		cmocka_unit_test(test_deep_json_is_refused_and_never_fatal),
		cmocka_unit_test(test_required_members_of_json),
		cmocka_unit_test(test_events_that_are_fine),
		cmocka_unit_test(test_events_that_are_not),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_binary_attributes),
		cmocka_unit_test(test_binary_times),
		cmocka_unit_test(test_binary_required),
		cmocka_unit_test(test_structured_by_content_type),
		cmocka_unit_test(test_long_names_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
