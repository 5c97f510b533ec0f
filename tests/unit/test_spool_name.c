/*
 * The pure parts of the spool: names, the window, envelopes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/chunk.h"
#include "base/random.h"
#include "queue/spool_impl.h"

static void
check_name(const char *file, const char *base, unsigned attempt,
    unsigned crashes)
{
	struct spool_name name;
	char out[SPOOL_NAME_BYTES];

	spool_name_parse(&name, file);
	assert_string_equal(name.base, base);
	assert_int_equal(name.attempt, attempt);
	assert_int_equal(name.crashes, crashes);
	/* And back: it means the same, whatever it looks like. */
	spool_name_format(&name, out);
	spool_name_parse(&name, out);
	assert_string_equal(name.base, base);
	assert_int_equal(name.attempt, attempt);
	assert_int_equal(name.crashes, crashes);
}

static void
test_counts_are_in_the_suffix(void **state _unused_)
{
	check_name("foo", "foo", 1, 0);
	check_name("foo:a2,c1", "foo", 2, 1);
	check_name("foo:a999999,c999999", "foo", 999999, 999999);
	check_name("foo:a3,c1:a2,c0", "foo:a3,c1", 2, 0);
	/* A base that would be taken for one with counts is never bare. */
	check_name("foo:a3,c1:a1,c0", "foo:a3,c1", 1, 0);
}

static void
test_what_is_no_suffix_is_the_name(void **state _unused_)
{
	static const char *const names[] = { ":a1,c0", "foo:a0,c1", "foo:a,c",
		"foo:a1,c", "foo:a1c1", "foo:a1,c1x", "foo:a1234567,c1",
		"foo:a-1,c1", "a2,c1", ",c1", "c1", "1", "foo:b1,c1" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		check_name(names[i], names[i], 1, 0);
}

static void
test_delayed_names_sort_by_due_time(void **state _unused_)
{
	struct spool_name a = { "z", 2, 0, 999999999999 }, b;
	char first[SPOOL_NAME_BYTES], second[SPOOL_NAME_BYTES];

	spool_name_format_delayed(&a, first);
	assert_string_equal(first, "0999999999999.z:a2,c0");
	b = (struct spool_name){ "a", 3, 1, 1000000000000 };
	spool_name_format_delayed(&b, second);
	assert_true(strcmp(first, second) < 0);
	memset(&a, 0, sizeof(a));
	assert_int_equal(spool_name_parse_delayed(&a, second), 0);
	assert_string_equal(a.base, "a");
	assert_int_equal(a.attempt, 3);
	assert_int_equal(a.crashes, 1);
	assert_true(a.due_ms == 1000000000000);
	assert_int_equal(spool_name_parse_delayed(&a, "123.x"), -EINVAL);
	assert_int_equal(spool_name_parse_delayed(&a, "1000000000000."), -EINVAL);
	assert_int_equal(spool_name_parse_delayed(&a, "10000000000000.x"),
	    -EINVAL);
	/* A due time without end still sorts last. */
	b.due_ms = UINT64_MAX;
	spool_name_format_delayed(&b, first);
	assert_true(strcmp(second, first) < 0);
	assert_int_equal(spool_name_parse_delayed(&a, first), 0);
}

static void
test_a_dead_letter_is_never_taken_for_a_record(void **state _unused_)
{
	static const char *const names[] = { "foo", "foo.json", "foo.json~",
		"foo.json~~", ".json", "foo~", "foo.json.x" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct spool_name name = { .attempt = 1 }, back;
		char out[SPOOL_NAME_BYTES];

		snprintf(name.base, sizeof(name.base), "%s", names[i]);
		spool_name_format_dead(&name, out);
		assert_false(spool_name_is_record(out));
		spool_name_parse_dead(&back, out);
		assert_string_equal(back.base, names[i]);
	}
}

static void
test_long_names_are_cut_and_stay_apart(void **state _unused_)
{
	struct spool_name a = { .attempt = 999999, .crashes = 999999,
		.due_ms = 9999999999999 }, b, c;
	char out[SPOOL_NAME_BYTES];

	for (size_t i = 0; i < 254; i += 2)
		memcpy(a.base + i, "\xc3\xa4", 2);
	memcpy(a.base + 245, SPOOL_ENVELOPE, sizeof(SPOOL_ENVELOPE));
	b = c = a;
	b.base[100] = 'x';
	spool_name_shorten(&a);
	spool_name_shorten(&b);
	spool_name_shorten(&c);
	assert_true(strlen(a.base) <= SPOOL_BASE_MAX);
	assert_true(spool_name_is_envelope(a.base));
	assert_string_equal(a.base, c.base);
	assert_string_not_equal(a.base, b.base);
	/* Not in the middle of a character. */
	assert_true(strstr(a.base, "\xc3~") == NULL);
	spool_name_format_delayed(&a, out);
	assert_true(strstr(out, ":a999999,c999999") != NULL);
	spool_name_vary(&c);
	assert_string_not_equal(a.base, c.base);
	assert_true(strlen(c.base) <= SPOOL_BASE_MAX);
	assert_true(spool_name_is_envelope(c.base));
}

static void
test_ids_are_printable_and_tell_names_apart(void **state _unused_)
{
	char out[3 * SPOOL_NAME_BYTES], longest[SPOOL_NAME_BYTES];

	spool_name_id("a b\n%\xff", out);
	assert_string_equal(out, "a%20b%0A%25%FF");
	memset(longest, 0xff, sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	spool_name_id(longest, out);
	assert_int_equal(strlen(out), 3 * 255);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Against the obvious: sort all, take the first. */
static void
test_window_keeps_the_smallest(void **state _unused_)
{
	enum { N = 2000, MAXIMUM = 64 };
	struct spool_window w;
	struct spool_entry e;
	char *all[N];

	random_seed(7);
	spool_window_init(&w, MAXIMUM);
	for (int i = 0; i < N; i++) {
		all[i] = xasprintf("%016llx%d",
		    (unsigned long long)random_u64(), i);
		spool_window_offer(&w, all[i], false);
		spool_window_offer(&w, all[i], false);
	}
	qsort(all, N, sizeof(*all), by_text);
	assert_false(w.complete);
	assert_int_equal(w.count, MAXIMUM);
	assert_true(w.beyond >= N - MAXIMUM);
	for (int i = 0; i < MAXIMUM; i++) {
		assert_true(spool_window_pop(&w, &e));
		assert_string_equal(e.name, all[i]);
		free(e.name);
	}
	assert_false(spool_window_pop(&w, &e));
	for (int i = 0; i < N; i++)
		free(all[i]);
	spool_window_done(&w);
}

static void
test_window_pops_and_offers_in_any_order(void **state _unused_)
{
	struct spool_window w;
	struct spool_entry e;
	char name[16];

	spool_window_init(&w, 1000);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "%05d",
			    99999 - (round * 40 + i));
			spool_window_offer(&w, name, true);
		}
		for (int i = 0; i < 25; i++) {
			const char *first = spool_window_first(&w);

			snprintf(name, sizeof(name), "%s", first);
			assert_true(spool_window_pop(&w, &e));
			assert_string_equal(e.name, name);
			free(e.name);
		}
	}
	assert_true(w.complete);
	assert_int_equal(w.count, 50 * 15);
	snprintf(name, sizeof(name), "%s", spool_window_first(&w));
	spool_window_remove(&w, "nobody");
	spool_window_remove(&w, name);
	assert_int_equal(w.count, 50 * 15 - 1);
	assert_true(strcmp(name, spool_window_first(&w)) < 0);
	spool_window_done(&w);
}

static void
test_envelope_comes_back_as_it_was(void **state _unused_)
{
	struct attribute in[] = {
		{ SLICE("k\"1"), SLICE("v\n1"), false },
		{ SLICE("n"), SLICE("{\"a\":\n[1,2]}"), true },
		{ SLICE("broken"), SLICE("{no"), true },
	}, *out;
	struct buffer b = BUFFER_INIT;
	struct chunk *chunk = chunk_new();
	struct slice body;
	struct error err;
	size_t n;

	spool_envelope_write(&b, in, ARRAY_SIZE(in));
	buffer_add_str(&b, "the\nbody");
	out = chunk_alloc(chunk, SPOOL_ATTRIBUTES_MAX * sizeof(*out));
	assert_int_equal(spool_envelope_parse(chunk, buffer_slice(&b), out, &n,
	    &body, &err), 0);
	assert_true(slice_is(body, "the\nbody"));
	assert_int_equal(n, 3);
	assert_true(slice_is(out[0].name, "k\"1"));
	assert_true(slice_is(out[0].value, "v\n1"));
	assert_false(out[0].json);
	assert_true(out[1].json);
	assert_true(slice_is(out[1].value, "{\"a\":[1,2]}"));
	assert_true(slice_is(out[2].value, "{no"));
	assert_false(out[2].json);
	buffer_done(&b);
	chunk_unref(chunk);
}

static void
test_bad_envelopes_are_refused(void **state _unused_)
{
	static const char *const bad[] = { "", "{}", "{\"a\":1", "[1]\nx",
		"{\"a\":1,\"a\":2}\nx", "\nx", "{\"a\":\"\xff\"}\n", "1\n" };
	struct chunk *chunk = chunk_new();
	struct attribute *out = chunk_alloc(chunk,
	    SPOOL_ATTRIBUTES_MAX * sizeof(*out));
	struct buffer b = BUFFER_INIT;
	struct slice body;
	struct error err;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		error_clear(&err);
		assert_int_equal(spool_envelope_parse(chunk, slice_of(bad[i]),
		    out, &n, &body, &err), -EINVAL);
		assert_true(error_is_set(&err));
	}
	buffer_add_str(&b, "{\"0\":0");
	for (unsigned i = 1; i <= SPOOL_ATTRIBUTES_MAX; i++)
		buffer_printf(&b, ",\"%u\":0", i);
	buffer_add_str(&b, "}\n");
	assert_int_equal(spool_envelope_parse(chunk, buffer_slice(&b), out, &n,
	    &body, &err), -EINVAL);
	buffer_done(&b);
	chunk_unref(chunk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_are_in_the_suffix),
		cmocka_unit_test(test_what_is_no_suffix_is_the_name),
		cmocka_unit_test(test_delayed_names_sort_by_due_time),
		cmocka_unit_test(test_a_dead_letter_is_never_taken_for_a_record),
		cmocka_unit_test(test_long_names_are_cut_and_stay_apart),
		cmocka_unit_test(test_ids_are_printable_and_tell_names_apart),
		cmocka_unit_test(test_window_keeps_the_smallest),
		cmocka_unit_test(test_window_pops_and_offers_in_any_order),
		cmocka_unit_test(test_envelope_comes_back_as_it_was),
		cmocka_unit_test(test_bad_envelopes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
