/* The ground everything stands on: memory, containers, numbers, secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/chunk.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/histogram.h"
#include "base/json.h"
#include "base/list.h"
#include "base/random.h"
#include "base/secret.h"

#define SEED	20261124u

/* ---- buffer ---- */

static void
test_buffer_adds_and_consumes(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	_cleanup_free_ char *copy = NULL;

	(void)state;
	assert_int_equal(buffer_len(&b), 0);
	assert_string_equal(buffer_cstr(&b), "");
	buffer_add(&b, NULL, 0);
	buffer_add_str(&b, "ab");
	buffer_add_char(&b, 'c');
	buffer_add_slice(&b, SLICE("de"));
	buffer_add_u64(&b, 0);
	buffer_add_u64(&b, UINT64_MAX);
	buffer_printf(&b, "<%d>", -7);
	assert_string_equal(buffer_cstr(&b), "abcde018446744073709551615<-7>");
	/* The terminator is not part of it. */
	assert_int_equal(buffer_len(&b), 30);
	buffer_consume(&b, 3);
	assert_memory_equal(buffer_head(&b), "de0", 3);
	copy = buffer_dup(&b);
	assert_string_equal(copy, "de018446744073709551615<-7>");
	buffer_trim(&b);
	assert_string_equal(buffer_cstr(&b), copy);
	buffer_consume(&b, buffer_len(&b));
	assert_int_equal(buffer_len(&b), 0);
	assert_int_equal(b.start, 0);
	buffer_trim(&b);
	assert_null(b.data);
}

static void
test_buffer_grows_for_long_formats(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	(void)state;
	for (int width = 1; width < 3000; width += 97) {
		buffer_clear(&b);
		buffer_add_char(&b, '[');
		buffer_printf(&b, "%0*d", width, 7);
		assert_int_equal(buffer_len(&b), width + 1);
		assert_int_equal(buffer_head(&b)[width], '7');
	}
}

/* Against the plainest model: numbered bytes in, the same bytes out. */
static void
test_buffer_keeps_order_under_churn(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	uint64_t in = 0, out = 0;

	(void)state;
	random_seed(SEED);
	for (int i = 0; i < 20000; i++) {
		size_t n = random_below(700);
		char *p;

		if (random_below(2) == 0) {
			p = buffer_reserve(&b, n);
			for (size_t k = 0; k < n; k++)
				p[k] = (char)(in++ % 251);
			buffer_commit(&b, n);
		} else {
			n = MIN(n, buffer_len(&b));
			for (size_t k = 0; k < n; k++)
				if (buffer_head(&b)[k] !=
				    (char)(out++ % 251))
					fail_msg("byte %" PRIu64, out - 1);
			buffer_consume(&b, n);
		}
		assert_int_equal(buffer_len(&b), in - out);
		if (random_below(500) == 0)
			buffer_trim(&b);
	}
	assert_true(out > 1000000);
}

/* A buffer that is drained as it fills must not grow without end. */
static void
test_buffer_takes_consumed_space_back(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char block[300] = { 0 };

	(void)state;
	buffer_add(&b, block, 100);
	for (int i = 0; i < 10000; i++) {
		buffer_add(&b, block, sizeof(block));
		buffer_consume(&b, sizeof(block));
	}
	assert_int_equal(buffer_len(&b), 100);
	assert_true(b.size <= 4096);
}

/* ---- slice ---- */

static void
test_slice_to_u64(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t n;
	} cases[] = {
		{ "0", 0, 0 }, { "007", 0, 7 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "18446744073709551620", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 }, { "1 ", -EINVAL, 0 }, { "1x", -EINVAL, 0 },
		{ "0x1", -EINVAL, 0 }, { "1.0", -EINVAL, 0 }, { ":", -EINVAL, 0 },
		{ "/", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t n = 42;

		assert_int_equal(slice_to_u64(slice_of(cases[i].text), &n),
		    cases[i].r);
		assert_int_equal(n, cases[i].r == 0 ? cases[i].n : 42);
	}
	/* Only as far as the slice goes. */
	{
		uint64_t n = 0;

		assert_int_equal(slice_to_u64((struct slice){ "1234", 2 }, &n),
		    0);
		assert_int_equal(n, 12);
	}
	assert_true(slice_is(SLICE("a"), "a"));
	assert_false(slice_is(SLICE("a"), "ab"));
	assert_true(slice_eq(slice_of(NULL), slice_of("")));
}

static void
test_fmt_u64(void **state)
{
	uint64_t n = 1;

	(void)state;
	for (int i = 0; i < 64; i++, n *= 2) {
		char want[24], got[20];
		int len = snprintf(want, sizeof(want), "%" PRIu64, n);

		assert_int_equal(fmt_u64(got, n), len);
		assert_memory_equal(got, want, (size_t)len);
	}
}

/* ---- chunk ---- */

static void
test_chunk_lives_as_long_as_its_references(void **state)
{
	struct chunk *c = chunk_new();
	struct slice first, empty;

	(void)state;
	assert_int_equal(chunk_bytes(c), 0);
	first = chunk_copy(c, "hello", 5);
	empty = chunk_copy(c, NULL, 0);
	assert_int_equal(first.p[5], '\0');
	assert_int_equal(empty.n, 0);
	assert_int_equal(empty.p[0], '\0');
	assert_ptr_equal(chunk_ref(c), c);
	chunk_unref(c);
	assert_memory_equal(first.p, "hello", 6);
	chunk_unref(c);
	chunk_unref(NULL);
}

static void
test_chunk_allocations_are_apart_and_aligned(void **state)
{
	struct chunk *c = chunk_new();
	unsigned char *at[2000];
	size_t len[2000];
	size_t total = 0;

	(void)state;
	random_seed(SEED);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		/* Mostly small; now and then larger than a block. */
		len[i] = random_below(50) == 0 ? random_below(100000) :
		    random_below(200);
		at[i] = chunk_alloc(c, len[i]);
		assert_int_equal((uintptr_t)at[i] % 8, 0);
		if (len[i] != 0)
			memset(at[i], (int)(i % 251), len[i]);
		total += len[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		for (size_t k = 0; k < len[i]; k++)
			if (at[i][k] != i % 251)
				fail_msg("allocation %zu was overwritten", i);
	assert_true(chunk_bytes(c) >= total);
	/* Large requests do not throw the current block's rest away. */
	assert_true(chunk_bytes(c) < total + total / 2 + 256 * KIB);
	chunk_unref(c);
}

/* ---- list ---- */

struct item {
	int n;
	struct list link;
};

static void
expect_list(const struct list *head, const char *want)
{
	char got[32];
	struct list *l;
	size_t n = 0;

	list_foreach(l, head)
		got[n++] = (char)('0' + list_entry(l, struct item, link)->n);
	got[n] = '\0';
	assert_string_equal(got, want);
	n = 0;
	for (l = head->prev; l != head; l = l->prev)
		assert_int_equal(list_entry(l, struct item, link)->n,
		    want[strlen(want) - 1 - n++] - '0');
}

static void
test_list(void **state)
{
	LIST_HEAD(head);
	LIST_HEAD(other);
	struct item items[6];
	struct list *l, *tmp;

	(void)state;
	for (int i = 0; i < 6; i++) {
		items[i].n = i;
		list_init(&items[i].link);
		assert_false(list_linked(&items[i].link));
	}
	assert_true(list_empty(&head));
	assert_null(list_first(&head));
	assert_null(list_pop_front(&head));
	assert_null(list_first_entry(&head, struct item, link));
	list_push_back(&head, &items[1].link);
	list_push_back(&head, &items[2].link);
	list_push_front(&head, &items[0].link);
	expect_list(&head, "012");
	assert_true(list_linked(&items[1].link));
	list_remove(&items[1].link);
	list_remove(&items[1].link);	/* twice is harmless */
	assert_false(list_linked(&items[1].link));
	expect_list(&head, "02");
	list_push_back(&other, &items[3].link);
	list_push_back(&other, &items[4].link);
	list_splice_back(&head, &other);
	list_splice_back(&head, &other);	/* empty by now */
	assert_true(list_empty(&other));
	expect_list(&head, "0234");
	list_move_back(&head, &items[2].link);
	expect_list(&head, "0342");
	assert_ptr_equal(list_first_entry(&head, struct item, link), &items[0]);
	list_foreach_safe(l, tmp, &head)
		if (list_entry(l, struct item, link)->n >= 3)
			list_remove(l);
	expect_list(&head, "02");
	assert_ptr_equal(list_pop_front(&head), &items[0].link);
	expect_list(&head, "2");
}

/* ---- heap ---- */

static void
test_heap_sorts(void **state)
{
	enum { N = 3000 };
	struct heap_node *nodes = xcalloc(N, sizeof(*nodes));
	struct heap h;
	uint64_t last = 0;
	size_t left = N;

	(void)state;
	random_seed(SEED);
	heap_init(&h);
	assert_null(heap_first(&h));
	for (size_t i = 0; i < N; i++)
		heap_insert(&h, &nodes[i], random_below(1000));
	/* A third goes from the middle. */
	for (size_t i = 0; i < N; i += 3) {
		assert_true(heap_linked(&nodes[i]));
		heap_remove(&h, &nodes[i]);
		assert_false(heap_linked(&nodes[i]));
		heap_remove(&h, &nodes[i]);	/* no-op */
		left--;
	}
	assert_int_equal(h.count, left);
	for (; left != 0; left--) {
		struct heap_node *n = heap_first(&h);

		assert_true(n->key >= last);
		last = n->key;
		heap_remove(&h, n);
	}
	assert_null(heap_first(&h));
	heap_done(&h);
	free(nodes);
}

static void
test_heap_keeps_equal_keys_in_order(void **state)
{
	struct heap_node nodes[100] = { 0 };
	struct heap h;

	(void)state;
	heap_init(&h);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		heap_insert(&h, &nodes[i], i % 2);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		assert_ptr_equal(heap_first(&h),
		    &nodes[i < 50 ? i * 2 : (i - 50) * 2 + 1]);
		heap_remove(&h, heap_first(&h));
	}
	heap_done(&h);
}

/* ---- hash ---- */

struct entry {
	char key[16];
	struct hash_node node;
	bool in;
};

static void
test_hash_finds_what_is_in(void **state)
{
	enum { N = 2000 };
	struct entry *e = xcalloc(N, sizeof(*e));
	struct hash h;
	size_t count = 0;

	(void)state;
	random_seed(SEED);
	hash_init(&h);
	assert_null(hash_find(&h, SLICE("none")));
	assert_null(hash_any(&h));
	for (size_t i = 0; i < N; i++)
		snprintf(e[i].key, sizeof(e[i].key), "key-%zu", i);
	for (int round = 0; round < 10000; round++) {
		struct entry *x = &e[random_below(N)];
		struct slice key = slice_of(x->key);
		struct hash_node *found = hash_find(&h, key);

		assert_ptr_equal(found, x->in ? &x->node : NULL);
		if (x->in) {
			hash_remove(&h, &x->node);
			count--;
		} else {
			hash_insert(&h, &x->node, key);
			count++;
		}
		x->in = !x->in;
		assert_int_equal(h.count, count);
	}
	for (struct hash_node *n; (n = hash_any(&h)) != NULL; count--)
		hash_remove(&h, n);
	assert_int_equal(count, 0);
	hash_done(&h);
	free(e);
}

static void
test_hash_keys_are_bytes(void **state)
{
	struct hash_node a, b, c;
	struct hash h;

	(void)state;
	hash_init(&h);
	hash_insert(&h, &a, (struct slice){ "a\0b", 3 });
	hash_insert(&h, &b, (struct slice){ "a\0c", 3 });
	hash_insert(&h, &c, (struct slice){ NULL, 0 });
	assert_ptr_equal(hash_find(&h, (struct slice){ "a\0b", 3 }), &a);
	assert_ptr_equal(hash_find(&h, (struct slice){ "a\0c", 3 }), &b);
	assert_ptr_equal(hash_find(&h, SLICE("")), &c);
	assert_null(hash_find(&h, SLICE("a")));
	hash_remove(&h, &a);
	hash_remove(&h, &b);
	hash_remove(&h, &c);
	hash_done(&h);
}

/* ---- histogram ---- */

static void
test_histogram_is_off_by_little(void **state)
{
	struct histogram *h = new0(struct histogram);

	(void)state;
	assert_int_equal(histogram_percentile(h, 99), 0);
	assert_true(histogram_mean_us(h) == 0);
	/* One value alone, from 0 to 19 hours: within 3.2 %. */
	for (uint64_t us = 0; us < (uint64_t)19 * 3600 * USEC_PER_SEC;
	    us += us / 37 + 1) {
		uint64_t got;

		histogram_clear(h);
		histogram_record(h, us);
		got = histogram_percentile(h, 50);
		if ((got > us ? got - us : us - got) * 1000 > us * 32)
			fail_msg("%" PRIu64 " came out as %" PRIu64, us, got);
	}
	/* Larger ones count, in the last bucket. */
	histogram_clear(h);
	histogram_record(h, UINT64_MAX);
	assert_int_equal(h->count, 1);
	assert_true(histogram_percentile(h, 50) >
	    (uint64_t)18 * 3600 * USEC_PER_SEC);
	free(h);
}

static void
test_histogram_percentiles(void **state)
{
	static const struct {
		double percent;
		uint64_t want;
	} cases[] = {
		{ 0, 1 }, { 1, 100 }, { 50, 5000 }, { 95, 9500 }, { 99, 9900 },
		{ 100, 10000 },
	};
	struct histogram *h = new0(struct histogram);

	(void)state;
	for (uint64_t us = 1; us <= 10000; us++)
		histogram_record(h, us);
	assert_int_equal(h->count, 10000);
	assert_true(histogram_mean_us(h) > 5000.4 &&
	    histogram_mean_us(h) < 5000.6);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		double got = (double)histogram_percentile(h, cases[i].percent);

		assert_true(got >= (double)cases[i].want * 0.968);
		assert_true(got <= (double)cases[i].want * 1.032);
	}
	free(h);
}

static void
test_histogram_adds_and_subtracts(void **state)
{
	struct histogram *all = new0(struct histogram);
	struct histogram *part = new0(struct histogram);

	(void)state;
	histogram_record_n(all, 100, 3);
	histogram_record_n(part, 50000, 1000);
	histogram_add(all, part);
	assert_int_equal(all->count, 1003);
	assert_int_equal(all->sum_us, 300 + 50000000);
	assert_true(histogram_percentile(all, 50) > 48000);
	histogram_sub(all, part);
	assert_int_equal(all->count, 3);
	assert_int_equal(all->sum_us, 300);
	assert_true(histogram_percentile(all, 99) < 104);
	free(all);
	free(part);
}

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
	char line[512];
	bool inside = false;

	ret[0] = '\0';
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		uintptr_t from, to;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(ret, size, "%s", line + 8);
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
	if (flags[0] == '\0')
		skip();		/* a kernel without VmFlags */
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

/* ---- random ---- */

static void
test_random(void **state)
{
	unsigned seen[10] = { 0 };
	char hex[33];
	uint64_t first;

	(void)state;
	random_seed(SEED);
	first = random_u64();
	random_seed(SEED);
	assert_int_equal(random_u64(), first);
	assert_int_equal(random_below(0), 0);
	assert_int_equal(random_below(1), 0);
	for (int i = 0; i < 10000; i++) {
		uint64_t n = random_below(10);

		assert_true(n < 10);
		seen[n]++;
	}
	for (size_t i = 0; i < 10; i++)
		assert_true(seen[i] > 800 && seen[i] < 1200);
	random_hex(hex, 32);
	assert_int_equal(strlen(hex), 32);
	assert_int_equal(strspn(hex, "0123456789abcdef"), 32);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffer_adds_and_consumes),
		cmocka_unit_test(test_buffer_grows_for_long_formats),
		cmocka_unit_test(test_buffer_keeps_order_under_churn),
		cmocka_unit_test(test_buffer_takes_consumed_space_back),
		cmocka_unit_test(test_slice_to_u64),
		cmocka_unit_test(test_fmt_u64),
		cmocka_unit_test(test_chunk_lives_as_long_as_its_references),
		cmocka_unit_test(test_chunk_allocations_are_apart_and_aligned),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_heap_sorts),
		cmocka_unit_test(test_heap_keeps_equal_keys_in_order),
		cmocka_unit_test(test_hash_finds_what_is_in),
		cmocka_unit_test(test_hash_keys_are_bytes),
		cmocka_unit_test(test_histogram_is_off_by_little),
		cmocka_unit_test(test_histogram_percentiles),
		cmocka_unit_test(test_histogram_adds_and_subtracts),
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
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
