#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/clock.h"
#include "codec/frame.h"

static ssize_t
decode(const char *text, bool from_worker, struct frame *f, struct error *err)
{
	return frame_decode(slice_of(text), from_worker, 4096, f, err);
}

static void
test_worker_frames(void **state)
{
	struct frame f;
	struct error err;

	(void)state;
	assert_int_equal(decode("READY 8\nDONE 1\n", true, &f, &err), 8);
	assert_int_equal(f.kind, FRAME_READY);
	assert_int_equal(f.number, 8);
	assert_int_equal(decode("DONE 123\n", true, &f, &err), 9);
	assert_int_equal(f.kind, FRAME_DONE);
	assert_int_equal(f.id, 123);
	assert_int_equal(decode("RETRY 5 - database 4\ndead", true, &f, &err),
	    25);
	assert_int_equal(f.kind, FRAME_RETRY);
	assert_int_equal(f.id, 5);
	assert_true(f.number == FRAME_DELAY_DEFAULT);
	assert_true(slice_is(f.word, "database"));
	assert_true(slice_is(f.detail, "dead"));
	assert_int_equal(decode("RETRY 5 1500 rate_limited 0\n", true, &f,
	    &err), 28);
	assert_int_equal(f.number, 1500);
	assert_int_equal(f.detail.n, 0);
	assert_int_equal(decode("DEAD 6 x 1\n!", true, &f, &err), 12);
	assert_int_equal(f.kind, FRAME_DEAD);
	assert_int_equal(decode("TOUCH 7 60000\n", true, &f, &err), 14);
	assert_int_equal(f.kind, FRAME_TOUCH);
	assert_int_equal(f.number, 60000);
	assert_int_equal(decode("DONE 18446744073709551615\n", true, &f, &err),
	    26);
	assert_true(f.id == UINT64_MAX);
}

static void
test_operator_frames(void **state)
{
	static const char wire[] = "HELLO 1 sample\n"
	    "MSG 9 my_queue 2 30000 2 5\n{}hel\0oCANCEL 9\nDRAIN\n";
	struct buffer b = BUFFER_INIT;
	struct slice in;
	struct frame f;
	struct error err;
	ssize_t n;

	(void)state;
	frame_add_hello(&b, "sample");
	frame_add_msg(&b, 9, SLICE("my queue"), 2, 30000, SLICE("{}"),
	    (struct slice){ "hel\0o", 5 });
	frame_add_cancel(&b, 9);
	frame_add_drain(&b);
	assert_int_equal(buffer_len(&b), sizeof(wire) - 1);
	assert_memory_equal(buffer_head(&b), wire, sizeof(wire) - 1);

	in = buffer_slice(&b);
	n = frame_decode(in, false, 4096, &f, &err);
	assert_int_equal(f.kind, FRAME_HELLO);
	assert_int_equal(f.number, 1);
	assert_true(slice_is(f.word, "sample"));
	in = (struct slice){ in.p + n, in.n - (size_t)n };
	n = frame_decode(in, false, 4096, &f, &err);
	assert_int_equal(f.kind, FRAME_MSG);
	assert_int_equal(f.attempt, 2);
	assert_int_equal(f.timeout_ms, 30000);
	assert_true(slice_is(f.word, "my_queue"));
	assert_true(slice_is(f.attributes, "{}"));
	assert_int_equal(f.body.n, 5);
	assert_memory_equal(f.body.p, "hel\0o", 5);
	in = (struct slice){ in.p + n, in.n - (size_t)n };
	n = frame_decode(in, false, 4096, &f, &err);
	assert_int_equal(f.kind, FRAME_CANCEL);
	in = (struct slice){ in.p + n, in.n - (size_t)n };
	assert_int_equal(frame_decode(in, false, 4096, &f, &err), 6);
	assert_int_equal(f.kind, FRAME_DRAIN);
	buffer_done(&b);
}

static void
test_every_cut_waits_for_more(void **state)
{
	static const char text[] = "RETRY 77 1500 external_api 5\nhello";
	static const char msg[] = "MSG 7 q 1 0 2 3\n{}abc";
	struct frame f;
	struct error err;

	(void)state;
	for (size_t n = 0; n < sizeof(text) - 1; n++)
		assert_int_equal(frame_decode((struct slice){ text, n }, true,
		    4096, &f, &err), 0);
	for (size_t n = 0; n < sizeof(msg) - 1; n++)
		assert_int_equal(frame_decode((struct slice){ msg, n }, false,
		    4096, &f, &err), 0);
}

static void
test_nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"Traceback (most", "X", "\n", " DONE 1\n", "DONE\n", "DONE \n",
		"DONE x\n", "DONE 1 \n", "DONE  1\n", "DONE 1\r\n", "DONE -1\n",
		"DONE 18446744073709551616\n", "READY 0\n", "READY\n",
		"RETRY 1 - x\n", "RETRY 1 x y 0\n", "RETRY 1 -1 x 0\n",
		"DEAD 1 x 4097\n", "DEAD 1  0\n", "TOUCH 1\n", "MSG 1 q 1 1 0 0\n",
		"HELLO 1 x\n", "DONE 1\t\n",
	};
	char long_line[FRAME_LINE_MAX + 1];
	struct frame f;
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		error_clear(&err);
		if (decode(bad[i], true, &f, &err) != -EPROTO)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.class, ERROR_PROTOCOL);
	}
	assert_int_equal(decode("DONE 1\n", false, &f, &err), -EPROTO);
	memset(long_line, '1', sizeof(long_line));
	memcpy(long_line, "DONE ", 5);
	assert_int_equal(frame_decode((struct slice){ long_line,
	    FRAME_LINE_MAX - 1 }, true, 0, &f, &err), 0);
	assert_int_equal(frame_decode((struct slice){ long_line,
	    FRAME_LINE_MAX }, true, 0, &f, &err), -EPROTO);
}

static void
test_words_are_made_safe(void **state)
{
	struct buffer b = BUFFER_INIT;
	struct frame f;
	struct error err;
	char word[600];
	ssize_t n;

	(void)state;
	memset(word, 'w', sizeof(word));
	word[3] = ' ';
	word[4] = '\n';
	frame_add_retry(&b, 1, FRAME_DELAY_DEFAULT,
	    (struct slice){ word, sizeof(word) }, SLICE("d"));
	n = frame_decode(buffer_slice(&b), true, 10, &f, &err);
	assert_int_equal(n, buffer_len(&b));
	assert_memory_equal(f.word.p, "www__w", 6);
	assert_int_equal(f.word.n, 200);
	buffer_clear(&b);
	frame_add_dead(&b, 1, (struct slice){ NULL, 0 }, SLICE(""));
	assert_int_equal(frame_decode(buffer_slice(&b), true, 10, &f, &err),
	    buffer_len(&b));
	assert_true(slice_is(f.word, "-"));
	buffer_done(&b);
}

static void
test_speed(void **state)
{
	enum { ROUNDS = 20, FRAMES = 50000 };
	struct buffer b = BUFFER_INIT;
	struct frame f;
	struct error err;
	uint64_t start, sum = 0, took;

	(void)state;
	for (uint64_t i = 0; i < FRAMES; i++)
		frame_add_done(&b, 1000000 + i);
	start = clock_monotonic_us();
	for (int round = 0; round < ROUNDS; round++) {
		struct slice in = buffer_slice(&b);
		ssize_t n;

		while ((n = frame_decode(in, true, 0, &f, &err)) > 0) {
			sum += f.id - 1000000;
			in.p += n;
			in.n -= (size_t)n;
		}
		assert_int_equal(in.n, 0);
	}
	took = clock_monotonic_us() - start;
	assert_true(sum == (uint64_t)ROUNDS * FRAMES * (FRAMES - 1) / 2);
	print_message("decoding DONE: %.1f ns a frame\n",
	    (double)took * 1000 / (ROUNDS * FRAMES));
	buffer_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worker_frames),
		cmocka_unit_test(test_operator_frames),
		cmocka_unit_test(test_every_cut_waits_for_more),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_words_are_made_safe),
		cmocka_unit_test(test_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
