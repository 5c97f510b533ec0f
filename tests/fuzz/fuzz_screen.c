/*
 * What a screen looks at: the depth of JSON beside the scanner that knows the
 * grammar, and patterns looked for piece by piece beside PCRE2 in one go.
 */
#define PCRE2_CODE_UNIT_WIDTH	8

#include <pcre2.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "codec/json_scan.h"
#include "guard/screen.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* The largest depth within the next value. */
static unsigned
depth_of(struct json_scan *s)
{
	enum json_scan_kind kind = json_scan_peek(s);
	unsigned most = 0, n;
	struct slice key;

	if (kind == JSON_SCAN_OBJECT && json_scan_enter_object(s)) {
		while (json_scan_next_key(s, &key))
			if ((n = depth_of(s)) > most)
				most = n;
		return most + 1;
	}
	if (kind == JSON_SCAN_ARRAY && json_scan_enter_array(s)) {
		while (json_scan_next_element(s))
			if ((n = depth_of(s)) > most)
				most = n;
		return most + 1;
	}
	(void)json_scan_skip(s);
	return 0;
}

static void
check_depth(struct slice body)
{
	char *copy = xmalloc(body.n + 1);
	struct json_scan s;
	unsigned depth;

	for (size_t max = 1; max < 8; max++)
		BUG_ON(screen_is_deeper(body, max + 1) &&
		    !screen_is_deeper(body, max));
	memcpy(copy, body.p, body.n);
	json_scan_init(&s, copy, body.n);
	depth = depth_of(&s);
	if (json_scan_end(&s) == 0) {
		BUG_ON(screen_is_deeper(body, depth));
		BUG_ON(depth != 0 && !screen_is_deeper(body, depth - 1));
	}
	free(copy);
}

static void
check_pattern(const char *text, struct slice body)
{
	struct error err = ERROR_INIT;
	struct pattern *p = pattern_new(text, &err);
	struct pattern_budget budget = { 0 };
	enum pattern_answer answer;
	pcre2_code *code;
	pcre2_match_data *data;
	PCRE2_SIZE at;
	int why, r;

	if (p == NULL)
		return;
	pattern_message(&budget);
	answer = pattern_find(p, body, &budget);
	pattern_free(p);
	if (answer == PATTERN_TOO_MUCH)
		return;
	code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
	    PCRE2_NEVER_UTF | PCRE2_NEVER_UCP, &why, &at, NULL);
	BUG_ON(code == NULL);
	data = pcre2_match_data_create(1, NULL);
	r = pcre2_match(code, (PCRE2_SPTR)body.p, body.n, 0, 0, data, NULL);
	BUG_ON(r >= 0 && answer != PATTERN_MET);
	BUG_ON(r == PCRE2_ERROR_NOMATCH && answer != PATTERN_ABSENT);
	pcre2_match_data_free(data);
	pcre2_code_free(code);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const patterns[] = {
		"(a+)+$", "(?i)<script|union\\s+select", "\\bx\\b", "^$",
		"(?<=[\\[{])\"", "(?m)^b.*c$", "\\xff\\x00", "(?=ab)a(?!bc)",
	};
	_cleanup_free_ char *copy = NULL;
	struct slice body;

	if (size == 0 || size > 4096)
		return 0;
	/* Of its own size, so that a step past its end is seen. */
	copy = xmalloc(size);
	memcpy(copy, data + 1, size - 1);
	body = (struct slice){ copy, size - 1 };
	check_depth(body);
	check_pattern(patterns[data[0] % ARRAY_SIZE(patterns)], body);
	return 0;
}
