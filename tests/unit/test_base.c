/* The ground everything stands on: memory, containers, counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/chunk.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/random.h"

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

/* RFC 9562, appendix A.6, but for what is random. */
static void
test_uuids_carry_their_time(void **state)
{
	char a[RANDOM_UUID_BYTES], b[RANDOM_UUID_BYTES];

	(void)state;
	random_seed(SEED);
	for (int i = 0; i < 1000; i++) {
		random_uuid7(a, UINT64_C(1645557742000) * 1000 + 999);
		random_uuid7(b, UINT64_C(1645557742001) * 1000);
		assert_int_equal(strlen(a), 36);
		assert_memory_equal(a, "017f22e2-79b0-7", 15);
		assert_memory_equal(b, "017f22e2-79b1-7", 15);
		assert_non_null(strchr("89ab", a[19]));
		assert_true(a[18] == '-' && a[23] == '-');
		assert_int_equal(strspn(a + 24, "0123456789abcdef"), 12);
		assert_true(strcmp(a, b) < 0);
		assert_string_not_equal(a + 15, b + 15);
	}
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
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_uuids_carry_their_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
