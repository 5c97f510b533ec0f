/* codec/gzip: what zlib's own reader makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "codec/gzip.h"

#define SEED	0x20261129

static void
assert_unpacks(struct slice packed, struct slice want)
{
	_cleanup_buffer_ struct buffer out = BUFFER_INIT;
	z_stream z = { .next_in = (Bytef *)(uintptr_t)packed.p,
		.avail_in = (uInt)packed.n };

	/* gzip only */
	assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
	z.next_out = (Bytef *)buffer_reserve(&out, want.n + 1);
	z.avail_out = (uInt)want.n + 1;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(z.avail_in, 0);
	assert_int_equal(z.total_out, want.n);
	if (want.n != 0)
		assert_memory_equal(out.data, want.p, want.n);
	assert_int_equal(inflateEnd(&z), Z_OK);
}

static void
test_unpacks_to_the_same(void **state)
{
	static const size_t sizes[] = { 0, 1, 20, 4096, 65535, 65536, 300000 };

	(void)state;
	random_seed(SEED);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_buffer_ struct buffer in = BUFFER_INIT;
		_cleanup_buffer_ struct buffer out = BUFFER_INIT;
		struct slice packed;

		/* Noise grows a little: there must be room for it. */
		for (size_t n = 0; n < sizes[i]; n++)
			buffer_add_char(&in, (char)random_below(256));
		buffer_add_str(&out, "before");
		gzip_add(&out, buffer_slice(&in));
		packed = buffer_slice(&out);
		assert_memory_equal(packed.p, "before", 6);
		assert_unpacks((struct slice){ packed.p + 6, packed.n - 6 },
		    buffer_slice(&in));
	}
}

static void
test_text_becomes_small(void **state)
{
	_cleanup_buffer_ struct buffer in = BUFFER_INIT, out = BUFFER_INIT;
	uint64_t began;

	(void)state;
	random_seed(SEED);
	while (buffer_len(&in) < 256 * KIB)
		buffer_printf(&in, "{\"event\":\"bot_operator_queue\",\"uuid\":"
		    "\"%016llx\",\"properties\":{\"queue\":\"orders\",\"done\":"
		    "%llu,\"rate_per_second\":%.3f,\"processing_ms_p50\":%.3f,"
		    "\"$process_person_profile\":false}},",
		    (unsigned long long)random_u64(),
		    (unsigned long long)random_below(1000),
		    (double)random_below(1000) / 7,
		    (double)random_below(1000) / 3);
	began = clock_monotonic_us();
	gzip_add(&out, buffer_slice(&in));
	print_message("# %zu bytes became %zu in %llu us\n", buffer_len(&in),
	    buffer_len(&out), (unsigned long long)(clock_monotonic_us() -
	    began));
	assert_true(buffer_len(&out) < buffer_len(&in) / 3);
	assert_unpacks(buffer_slice(&out), buffer_slice(&in));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpacks_to_the_same),
		cmocka_unit_test(test_text_becomes_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
