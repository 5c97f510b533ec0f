/*
 * The JSON scanner beside jansson: the same texts are taken, and the same
 * values come out, but for what the scanner's header says is otherwise.
 */
#include <jansson.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "codec/json_scan.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define NUMBERS	(JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL)

static json_t *
scalar(struct json_scan *s)
{
	struct slice raw;
	json_t *j;

	if (!json_scan_raw(s, &raw))
		return json_null();
	j = json_loadb(raw.p, raw.n, NUMBERS, NULL);
	/* A number beyond a double: jansson has refused the text for it. */
	return j != NULL ? j : json_null();
}

static json_t *
value(struct json_scan *s)
{
	enum json_scan_kind kind = json_scan_peek(s);
	struct slice text;
	json_t *j;

	if (kind == JSON_SCAN_STRING) {
		if (!json_scan_string(s, &text))
			return json_null();
		BUG_ON(text.p[text.n] != '\0');
		/* NULL if it were no UTF-8. */
		j = json_stringn(text.p, text.n);
		BUG_ON(j == NULL);
		return j;
	}
	if (kind == JSON_SCAN_OBJECT && json_scan_enter_object(s)) {
		j = json_object();
		while (json_scan_next_key(s, &text))
			json_object_set_new(j, text.p, value(s));
		return j;
	}
	if (kind == JSON_SCAN_ARRAY && json_scan_enter_array(s)) {
		j = json_array();
		while (json_scan_next_element(s))
			json_array_append_new(j, value(s));
		return j;
	}
	return scalar(s);
}

static bool
skips(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *copy = xmemdup(size != 0 ? (const char *)data : "",
	    MAX(size, (size_t)1));
	struct json_scan s;
	struct slice raw;
	bool good;

	json_scan_init(&s, copy, size);
	good = json_scan_raw(&s, &raw);
	good = json_scan_end(&s) == 0 && good;
	BUG_ON(size != 0 && memcmp(copy, data, size) != 0);
	BUG_ON(good != (s.error == NULL) || s.error_at > size);
	return good;
}

static bool
is_known_difference(bool good, const json_error_t *error,
    const struct json_scan *s)
{
	enum json_error_code code = json_error_code(error);

	if (!good)
		return strcmp(s->error, "nested too deeply") == 0;
	return code == json_error_numeric_overflow ||
	    code == json_error_null_byte_in_key;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *copy = xmemdup(size != 0 ? (const char *)data : "",
	    MAX(size, (size_t)1));
	json_error_t error;
	json_t *want = json_loadb((const char *)data, size, NUMBERS |
	    JSON_ALLOW_NUL, &error), *got;
	struct json_scan s;
	bool good;

	json_scan_init(&s, copy, size);
	got = value(&s);
	good = json_scan_end(&s) == 0;
	BUG_ON(skips(data, size) != good);
	if (size != 0 && memchr(data, '\0', size) != NULL)
		BUG_ON(good);
	else if (good != (want != NULL))
		BUG_ON(!is_known_difference(good, &error, &s));
	else if (good)
		BUG_ON(!json_equal(want, got));
	json_decref(want);
	json_decref(got);
	return 0;
}
