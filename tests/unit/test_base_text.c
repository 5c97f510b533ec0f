/* JSON strings, time for people, errors and secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "base/secret.h"

#define SEED	20261124u

/* ---- json ---- */

static void
expect_json(struct slice in, const char *want)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	json_add_string(&b, in);
	assert_string_equal(buffer_cstr(&b), want);
}

#define BAD	"\xef\xbf\xbd"		/* U+FFFD */

static void
test_json_utf8_cut(void **state)
{
	static const struct {
		const char *text;
		size_t max, want;
	} cases[] = {
		{ "", 0, 0 }, { "abc", 3, 3 }, { "abc", 4, 3 }, { "abc", 2, 2 },
		{ "a\xc3\xa4z", 2, 1 }, { "a\xc3\xa4z", 3, 3 },
		{ "\xf0\x9f\x94\xa5", 3, 0 }, { "x\xf0\x9f\x94\xa5", 4, 1 },
		/* No UTF-8 at all: not for ever. */
		{ "\x80\x80\x80\x80\x80\x80\x80\x80", 6, 6 },
		{ "\x80\x80", 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(json_utf8_cut(slice_of(cases[i].text),
		    cases[i].max), cases[i].want);
}

static void
test_json_add_string(void **state)
{
	(void)state;
	expect_json(SLICE(""), "\"\"");
	expect_json(SLICE("plain /text"), "\"plain /text\"");
	expect_json(SLICE("a\"b\\c\nd\te\r\x01\x1f\x7f"),
	    "\"a\\\"b\\\\c\\nd\\u0009e\\u000d\\u0001\\u001f\x7f\"");
	expect_json(SLICE("a\0b"), "\"a\\u0000b\"");
	/* The edges of what is well-formed. */
	expect_json(SLICE("\xc2\x80\xdf\xbf"), "\"\xc2\x80\xdf\xbf\"");
	expect_json(SLICE("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"),
	    "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\"");
	expect_json(SLICE("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
	    "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"");
	/* One replacement for each bad byte. */
	expect_json(SLICE("\x80"), "\"" BAD "\"");
	expect_json(SLICE("a\xff" "b"), "\"a" BAD "b\"");
	expect_json(SLICE("\xc0\xaf"), "\"" BAD BAD "\"");
	expect_json(SLICE("\xe0\x80\x80"), "\"" BAD BAD BAD "\"");
	expect_json(SLICE("\xed\xa0\x80"), "\"" BAD BAD BAD "\"");
	expect_json(SLICE("\xf4\x90\x80\x80"), "\"" BAD BAD BAD BAD "\"");
	/* Cut short: by the end, by something else. */
	expect_json(SLICE("\xe2\x82"), "\"" BAD BAD "\"");
	expect_json(SLICE("\xe2\x82x"), "\"" BAD BAD "x\"");
	expect_json((struct slice){ "\xe2\x82\xac", 2 }, "\"" BAD BAD "\"");
}

/* Whatever goes in, a strict reader takes what comes out. */
static void
test_json_add_string_is_always_valid(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	(void)state;
	random_seed(SEED);
	for (int i = 0; i < 3000; i++) {
		char in[40];
		size_t n = random_below(sizeof(in));
		json_error_t error;
		json_t *value;

		for (size_t k = 0; k < n; k++) {
			uint64_t r = random_u64();

			/* Lead and continuation bytes more often. */
			in[k] = (char)(r % 3 == 0 ? 0x80 | (r >> 8 & 0x7f) :
			    r >> 8);
		}
		buffer_clear(&b);
		json_add_string(&b, (struct slice){ in, n });
		value = json_loadb(buffer_head(&b), buffer_len(&b),
		    JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
		if (value == NULL)
			fail_msg("round %d: %s", i, error.text);
		json_decref(value);
	}
}

/* ---- clock ---- */

static void
test_clock_span(void **state)
{
	static const struct {
		uint64_t us;
		const char *want;
	} cases[] = {
		{ 0, "0s" }, { 1, "1us" }, { 999, "999us" }, { 1000, "1ms" },
		{ 250000, "250ms" }, { 999999, "999ms" }, { 3000000, "3s" },
		{ 3999999, "3s" }, { 59000000, "59s" }, { 60000000, "1min" },
		{ 90000000, "1min 30s" }, { 3600000000, "1h" },
		{ 3659000000, "1h" }, { 7500000000, "2h 5min" },
		{ 86400000000, "1d" }, { 90000000000, "1d 1h" },
		{ USEC_INFINITY, "infinity" },
		{ USEC_INFINITY - 1, "213503982d 8h" },
	};
	char out[CLOCK_SPAN_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(clock_span(out, cases[i].us),
		    cases[i].want);
}

static void
test_clock_iso(void **state)
{
	char out[CLOCK_ISO_BYTES];

	(void)state;
	assert_string_equal(clock_iso(out, 0, false), "1970-01-01T00:00:00Z");
	assert_string_equal(clock_iso(out, 1795449600123456, true),
	    "2026-11-23T16:00:00.123Z");
	assert_string_equal(clock_iso(out, 1795449600999999, false),
	    "2026-11-23T16:00:00Z");
}

static void
test_clock_virtual(void **state)
{
	(void)state;
	assert_false(clock_is_virtual());
	clock_set_virtual(5, 1000);
	assert_true(clock_is_virtual());
	clock_advance(7);
	assert_int_equal(clock_monotonic_us(), 12);
	assert_int_equal(clock_realtime_us(), 1007);
	clock_set_real();
	assert_true(clock_realtime_us() > 1600000000 * USEC_PER_SEC);
}

/* ---- error ---- */

static void
test_error_is_one_clean_line(void **state)
{
	struct error e = ERROR_INIT;
	char long_text[1000];

	(void)state;
	assert_false(error_is_set(&e));
	error_set(NULL, ERROR_AUTH, "x", "ignored");
	error_set(&e, ERROR_AUTH, "WRONGPASS", "said:\r\n%s", "\x1b[0mno");
	assert_int_equal(e.class, ERROR_AUTH);
	assert_string_equal(e.code, "WRONGPASS");
	assert_string_equal(e.text, "said:   [0mno");
	/* Its own text may be an argument. */
	error_set(&e, ERROR_TRANSIENT, "wrapped", "outer: %s", e.text);
	assert_string_equal(e.text, "outer: said:   [0mno");
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	error_set(&e, ERROR_INTERNAL, long_text, "%s", long_text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_int_equal(strlen(e.code), sizeof(e.code) - 1);
	error_set_errno(&e, -ENOENT, "open %s", "/x");
	assert_string_equal(e.code, "ENOENT");
	assert_string_equal(e.text, "open /x: No such file or directory");
	error_clear(&e);
	assert_false(error_is_set(&e));
	assert_string_equal(error_class_name(ERROR_THROTTLED), "throttled");
	assert_string_equal(error_class_name((enum error_class)99), "unknown");
}

/* ---- secret ---- */

static void
put(int fd, const char *text, size_t n)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, text, n, 0), n);
}

static void
test_secret_file(void **state)
{
	char path[] = "/tmp/bot-secret-XXXXXX";
	int fd = mkstemp(path);
	struct error e = ERROR_INIT;
	struct secret *s;
	char *big = xcalloc(1, 64 * KIB + 1);

	(void)state;
	assert_true(fd >= 0);
	put(fd, "s3cr\0t\n", 7);
	s = secret_read_file(path, &e);
	assert_non_null(s);
	assert_true(slice_eq(secret_bytes(s), SLICE("s3cr\0t")));
	secret_free(s);
	put(fd, "two\n\n", 5);		/* one newline goes, not two */
	s = secret_read_file(path, &e);
	assert_true(slice_is(secret_bytes(s), "two\n"));
	secret_free(s);
	put(fd, "dos\r\n", 5);
	s = secret_read_file(path, &e);
	assert_true(slice_is(secret_bytes(s), "dos"));
	secret_free(s);
	assert_false(error_is_set(&e));

	put(fd, "\n", 1);
	assert_null(secret_read_file(path, &e));
	assert_string_equal(e.code, "secret_empty");
	put(fd, big, 64 * KIB);
	s = secret_read_file(path, &e);
	assert_non_null(s);
	assert_int_equal(secret_bytes(s).n, 64 * KIB);
	secret_free(s);
	memset(big, 'Z', 64 * KIB + 1);
	put(fd, big, 64 * KIB + 1);
	assert_null(secret_read_file(path, &e));
	assert_string_equal(e.code, "secret_too_long");
	assert_non_null(strstr(e.text, path));
	assert_null(strstr(e.text, "ZZZ"));
	assert_int_equal(unlink(path), 0);
	assert_null(secret_read_file(path, &e));
	assert_string_equal(e.code, "ENOENT");
	close(fd);
	free(big);
	secret_free(NULL);
}

static void
test_secret_equal(void **state)
{
	struct secret *a = secret_new("abc", 3), *b = secret_new("abc", 3);
	struct secret *c = secret_new("abd", 3), *d = secret_new("ab", 2);
	struct secret *empty = secret_new(NULL, 0);

	(void)state;
	assert_true(secret_equal(a, b));
	assert_false(secret_equal(a, c));
	assert_false(secret_equal(a, d));
	assert_false(secret_equal(d, a));
	assert_false(secret_equal(empty, NULL));
	assert_true(secret_equal(NULL, NULL));
	assert_int_equal(secret_bytes(empty).n, 0);
	secret_free(a);
	secret_free(b);
	secret_free(c);
	secret_free(d);
	secret_free(empty);
}

/* The flags of the mapping that holds p, from smaps (see proc(5)). */
static void
flags_of(const void *p, char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[256];
	bool inside = false;

	memset(ret, 0, size);
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		uintptr_t from, to;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			(void)stpncpy(ret, line + 8, size - 1);
	}
	(void)fclose(f);
}

static void
test_invariant_7_secrets_stay_out_of_dumps_and_children(void **state)
{
	struct secret *s = secret_new("hunter2", 7);
	char flags[256];
	int status;
	pid_t pid;

	(void)state;
	flags_of(secret_bytes(s).p, flags, sizeof(flags));
	if (flags[0] == '\0') {
		secret_free(s);
		print_message("a kernel without VmFlags: skipped\n");
		skip();
	}
	assert_non_null(strstr(flags, " dd"));	/* not in core dumps */
	assert_non_null(strstr(flags, " wf"));	/* wiped on fork */
	/* That the test can tell: ordinary memory has neither. */
	flags_of(&status, flags, sizeof(flags));
	assert_null(strstr(flags, " dd"));

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *p = secret_bytes(s).p;

		for (size_t i = 0; i < 7; i++)
			if (p[i] != '\0')
				_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(slice_is(secret_bytes(s), "hunter2"));
	secret_free(s);
}

static void
test_secret_wipe(void **state)
{
	char bytes[] = "password";

	(void)state;
	secret_wipe(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_utf8_cut),
		cmocka_unit_test(test_json_add_string),
		cmocka_unit_test(test_json_add_string_is_always_valid),
		cmocka_unit_test(test_clock_span),
		cmocka_unit_test(test_clock_iso),
		cmocka_unit_test(test_clock_virtual),
		cmocka_unit_test(test_error_is_one_clean_line),
		cmocka_unit_test(test_secret_file),
		cmocka_unit_test(test_secret_equal),
		cmocka_unit_test(
		    test_invariant_7_secrets_stay_out_of_dumps_and_children),
		cmocka_unit_test(test_secret_wipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
