/* The configuration: what each type takes, and what it does not. */
#include "config_rig.h"

/* ---- values ---- */

struct span_case {
	const char *text;
	uint64_t us;
};

static void
test_spans(void **state)
{
	static const struct span_case good[] = {
		{ "0", 0 }, { "5", 5000000 }, { "1.5", 1500000 },
		{ "1us", 1 }, { "1usec", 1 }, { "7\xc2\xb5s", 7 },
		{ "250ms", 250000 }, { "2msec", 2000 }, { "1.5ms", 1500 },
		{ "3s", 3000000 }, { "3 sec", 3000000 }, { "1second", 1000000 },
		{ "2seconds", 2000000 }, { "5m", 300000000 },
		{ "5min", 300000000 }, { "1minute", 60000000 },
		{ "2 minutes", 120000000 }, { "1h", 3600000000 },
		{ "1hr", 3600000000 }, { "1hour", 3600000000 },
		{ "2hours", 7200000000 }, { "1d", 86400000000 },
		{ "2days", 172800000000 }, { "1w", 604800000000 },
		{ "2weeks", 1209600000000 }, { "1h 30min", 5400000000 },
		{ "1h30min", 5400000000 }, { "1min 1s 1ms 1us", 61001001 },
		{ "0.000001s", 1 }, { "0.0000019s", 1 },
		{ "infinity", USEC_INFINITY },
		{ "18446744073709551615us", UINT64_MAX },
	};
	static const char *const bad[] = {
		"", " ", "s", "-1s", "1s-2s", "1..5s", "1.s", ".5s", "1min 30",
		"30 1min", "1x", "1S", "1M", "1 s s", "5s,", "0x10", "1e3",
		"18446744073709551616us", "18446744073709551615s",
		"99999999999999999999999999", "infinity 1s", "Infinity",
		"18446744073709551615us 1us", "1\xff", "1\xc2\xb5",
		"1abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
	};
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	uint64_t us;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;

		us = 42;
		if (span_parse(good[i].text, &us, &why) < 0)
			fail_msg("%s: %s", good[i].text, buffer_cstr(&why));
		assert_int_equal(us, good[i].us);
		/* What is shown is exact. */
		span_format(&b, us);
		assert_int_equal(span_parse(buffer_cstr(&b), &us, &why), 0);
		assert_int_equal(us, good[i].us);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		buffer_clear(&why);
		if (span_parse(bad[i], &us, &why) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_not_equal(buffer_len(&why), 0);
	}
}

static void
test_bytes(void **state)
{
	static const struct span_case good[] = {
		{ "0", 0 }, { "1", 1 }, { "512B", 512 }, { "1K", 1024 },
		{ "1 KiB", 1024 }, { "2KB", 2048 }, { "256K", 262144 },
		{ "64M", 67108864 }, { "1.5G", 1610612736 },
		{ "1T", 1099511627776 }, { "0.5K", 512 },
		{ "infinity", UINT64_MAX },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = {
		"", "K", "-1", "1k", "1m", "1Q", "1K 1", "1K1", "1,5M",
		"18446744073709551616", "16777216T", "99999999999T", "1 2",
	};
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	uint64_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;

		if (bytes_parse(good[i].text, &n, &why) < 0)
			fail_msg("%s: %s", good[i].text, buffer_cstr(&why));
		assert_int_equal(n, good[i].us);
		bytes_format(&b, n);
		assert_int_equal(bytes_parse(buffer_cstr(&b), &n, &why), 0);
		assert_int_equal(n, good[i].us);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (bytes_parse(bad[i], &n, &why) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void
test_rates(void **state)
{
	static const struct {
		const char *text;
		double rate;
	} good[] = {
		{ "50/s", 50 }, { "120/min", 2 }, { "7200 / h", 2 },
		{ "0.5/s", 0.5 }, { "5/10s", 0.5 }, { "86400/d", 1 },
		{ "1/ms", 1000 },
	};
	static const char *const bad[] = {
		"50", "50/", "/s", "0/s", "50/x", "50s", "-1/s", "5/0s",
		"5/infinity", "", "50//s", "5/s x",
	};
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	double rate;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (rate_parse(good[i].text, &rate, &why) < 0)
			fail_msg("%s: %s", good[i].text, buffer_cstr(&why));
		assert_true(rate > good[i].rate * 0.999999 &&
		    rate < good[i].rate * 1.000001);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (rate_parse(bad[i], &rate, &why) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void
test_words(void **state)
{
	static const char *const expected[] = {
		"a", "b c", "d\\e \"$x`", "it's", "", "f g", "hij", "%", NULL
	};
	struct config *c = load_good("[Pool p]\n"
	    "Exec=lost\nExec=\n"
	    "Exec=  a 'b c' \"d\\e \\\"\\$x\\`\" \"it's\" ''\n"
	    "Exec=f\\ g\th\"i\"'j' %%\n"
	    "[Pool q]\nEnvironment=C=3\n[Pool r]\nEnvironment=C=3\n"
	    "Environment=\n");
	char *const *w = config_words(config_find(c, "Pool", "p"), "Exec");

	(void)state;
	for (size_t i = 0; expected[i] != NULL; i++) {
		assert_non_null(w[i]);
		assert_string_equal(w[i], expected[i]);
	}
	assert_null(w[ARRAY_SIZE(expected) - 1]);
	/* Written words replace the default; an empty value brings it back. */
	w = config_words(config_find(c, "Pool", "q"), "Environment");
	assert_string_equal(w[0], "C=3");
	assert_null(w[1]);
	w = config_words(config_find(c, "Pool", "r"), "Environment");
	assert_string_equal(w[0], "A=1");
	assert_string_equal(w[1], "B=2");
	assert_null(w[2]);
	assert_false(config_is_set(config_find(c, "Pool", "r"), "Environment"));
	/* Never NULL. */
	assert_null(config_words(config_find(c, "Pool", "q"), "Exec")[0]);
	config_unref(c);

	EXPECT("[Pool p]\nExec='a\nExec=\"a\\\"\nExec=a%z\n"
	    "Environment=a b c d\nEnvironment=e f g\n",
	    F ":2: [Pool p]: Exec='a: a ' quote is not closed",
	    F ":3: [Pool p]: Exec=\"a\\\": a \" quote is not closed",
	    F ":4: [Pool p]: Exec=a%z: unknown specifier %z; known: %d %i %S "
	    "%t, and %% for a percent sign",
	    F ":6: [Pool p]: Environment=e f g: more than 6 words");
}

static void
test_words_are_bounded(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;

	(void)state;
	buffer_add_str(&b, "[Pool p]\nExec=");
	for (int i = 0; i < 4096; i++)
		buffer_add_str(&b, "x ");
	config_unref(load_good(buffer_cstr(&b)));
	buffer_add_str(&b, "\nExec=one-more");
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), 1);
	assert_string_equal(config_problem_text(c, 0),
	    F ":3: [Pool p]: Exec=one-more: more than 4096 words");
	config_unref(c);
}

static void
test_scalars_and_ranges(void **state)
{
	struct config *c = load_good("[Pool p]\nStrict=OFF\nWorkers= 2 - 8\n"
	    "MemoryMax=256M\n"
	    "[Pool q]\nWorkers=3\n"
	    "[Queue a]\nType=redis\nAddress=h\nMode=sidekiq\nMaxAttempts=7\n"
	    "Backoff=100ms-1h 30min\nRateLimit=90/min\nKey=12345678\n"
	    "[Queue b]\nType=rabbitmq\nMaxAttempts=7\nMaxAttempts=\n"
	    "Backoff=3-9\n");
	const struct config_section *s = config_find(c, "Pool", "p");
	uint64_t min, max;

	(void)state;
	assert_false(config_bool(s, "Strict"));
	assert_int_equal(config_bytes(s, "MemoryMax"), 256 * MIB);
	config_range(s, "Workers", &min, &max);
	assert_int_equal(min, 2);
	assert_int_equal(max, 8);
	s = config_find(c, "Pool", "q");
	assert_true(config_bool(s, "Strict"));
	assert_int_equal(config_bytes(s, "MemoryMax"), 0);
	config_range(s, "Workers", &min, &max);
	assert_int_equal(min, 3);
	assert_int_equal(max, 3);
	s = config_find(c, "Queue", "a");
	assert_string_equal(config_string(s, "Mode"), "sidekiq");
	assert_int_equal(config_choice(s, "Mode"), 2);
	assert_int_equal(config_unsigned(s, "MaxAttempts"), 7);
	assert_true(config_is_set(s, "MaxAttempts"));
	assert_true(config_rate(s, "RateLimit") > 1.4999 &&
	    config_rate(s, "RateLimit") < 1.5001);
	config_range(s, "Backoff", &min, &max);
	assert_int_equal(min, 100000);
	assert_int_equal(max, 5400 * USEC_PER_SEC);
	s = config_find(c, "Queue", "b");
	/* Assigned and then emptied: the default. */
	assert_int_equal(config_unsigned(s, "MaxAttempts"), 5);
	assert_false(config_is_set(s, "MaxAttempts"));
	assert_string_equal(config_origin(s, "MaxAttempts"), "default");
	assert_string_equal(config_string(s, "Address"), "localhost:5672");
	assert_null(config_string(s, "Pool"));
	assert_true(config_rate(s, "RateLimit") == 0);
	config_range(s, "Backoff", &min, &max);
	assert_int_equal(min, 3 * USEC_PER_SEC);
	assert_int_equal(max, 9 * USEC_PER_SEC);
	config_unref(c);
}

static void
test_values_out_of_range(void **state)
{
	(void)state;
	EXPECT("[Pool p]\nStrict=maybe\nWorkers=0\nWorkers=1-513\nWorkers=8-2\n"
	    "Workers=-3\nWorkers=2-\nMemoryMax=1K\n"
	    "[Queue a]\nType=redis\nAddress=h\nMaxAttempts=0\nMaxAttempts=1001\n"
	    "MaxAttempts=99999999999999999999\nBackoff=2-5min\nBackoff=1us-2s\n"
	    "Backoff=1s-2d\nRateLimit=2000/s\nMaxBytes=65M\nKey=123456789\n"
	    "MaxAttempts=+5\n",
	    F ":2: [Pool p]: Strict=maybe: expected yes or no",
	    F ":3: [Pool p]: Workers=0: out of range: 1 to 512",
	    F ":4: [Pool p]: Workers=1-513: out of range: 1 to 512",
	    F ":5: [Pool p]: Workers=8-2: the smaller one comes first",
	    F ":6: [Pool p]: Workers=-3: expected a range such as 2-8",
	    F ":7: [Pool p]: Workers=2-: expected a range such as 2-8",
	    F ":8: [Pool p]: MemoryMax=1K: out of range: at least 1M",
	    F ":12: [Queue a]: MaxAttempts=0: out of range: 1 to 1000",
	    F ":13: [Queue a]: MaxAttempts=1001: out of range: 1 to 1000",
	    F ":14: [Queue a]: MaxAttempts=99999999999999999999: the number is "
	    "too large",
	    F ":15: [Queue a]: Backoff=2-5min: write the unit of \"2\" too",
	    F ":16: [Queue a]: Backoff=1us-2s: out of range: 1ms to 1d",
	    F ":17: [Queue a]: Backoff=1s-2d: out of range: 1ms to 1d",
	    F ":18: [Queue a]: RateLimit=2000/s: out of range: 0.001/s to "
	    "1000/s",
	    F ":19: [Queue a]: MaxBytes=65M: out of range: 1 to 64M",
	    F ":20: [Queue a]: Key=123456789: out of range: 1 to 8 bytes long",
	    F ":21: [Queue a]: MaxAttempts=+5: expected a whole number without "
	    "a unit");
}

static void
test_addresses(void **state)
{
	static const char *const good[] = {
		"localhost", "localhost:0", "127.0.0.1:65535", "a-b.c_d:1",
		"[::1]:80", "[::1]", "[fe80::1%eth0]:1", "::1", "fe80::1",
		"/run/x.sock", "[::ffff:1.2.3.4]:9",
	};
	static const char *const bad[] = {
		"", ":80", "host:", "host:x", "host:65536", "host:-1",
		"host:99999999999999999999", "ho st:1", "a:b:c", "[::1", "[]:1",
		"[::1]x", "[::1]80", "[localhost]:1", "*:80", "http://x",
		"h\xc3\xbcst", "[1.2.3.4]:5",
		"/23456789012345678901234567890123456789012345678901234567890"
		"123456789012345678901234567890123456789012345678",
		"12345678901234567890123456789012345678901234567890123456789012"
		"34567890123456789012345678901234567890123456789012345678901234"
		"56789012345678901234567890123456789012345678901234567890123456"
		"7890123456789012345678901234567890123456789012345678901234567890"
		"1234:1",
	};
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (address_check(good[i], &why) < 0)
			fail_msg("%s: %s", good[i], buffer_cstr(&why));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		buffer_clear(&why);
		if (address_check(bad[i], &why) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_not_equal(buffer_len(&why), 0);
	}
}

static void
test_paths_and_specifiers(void **state)
{
	struct config *c;
	const struct config_section *s;

	(void)state;
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/run/cred/x", 1), 0);
	assert_int_equal(setenv("STATE_DIRECTORY", "/var/lib/a:/var/lib/b", 1),
	    0);
	c = load_good("[Operator]\nName=%%-%i-%t\n"
	    "[Queue a]\nType=redis\nAddress=%t/redis.sock\n"
	    "PasswordFile=%d/redis\n"
	    "[Queue b]\nType=spool\nPath=data//./x/../y/\n"
	    "[Queue c]\nType=spool\nPath=/\n");
	s = config_find(c, "Operator", NULL);
	assert_string_equal(config_string(s, "Name"),
	    "%-shop-/run/bot-operator");
	assert_string_equal(config_string(s, "State"), "/var/lib/a");
	assert_string_equal(config_origin(s, "State"), "default");
	s = config_find(c, "Queue", "a");
	assert_string_equal(config_string(s, "PasswordFile"),
	    "/run/cred/x/redis");
	assert_string_equal(config_string(s, "Address"),
	    "/run/bot-operator/redis.sock");
	assert_string_equal(config_string(config_find(c, "Queue", "b"), "Path"),
	    "/etc/bot-operator/data/x/../y");
	assert_string_equal(config_string(config_find(c, "Queue", "c"), "Path"),
	    "/");
	config_unref(c);
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("STATE_DIRECTORY");

	c = load_good("[Queue a]\nType=spool\nPath=%d/%S\n");
	assert_string_equal(config_string(config_find(c, "Queue", "a"), "Path"),
	    "/run/credentials/bot-operator@shop.service/var/lib/bot-operator");
	config_unref(c);

	EXPECT("[Operator]\nName=50%\nName=%x\nName=%\xc3\xbc\n",
	    F ":2: [Operator]: Name=50%: ends in a single %; write %% for a "
	    "percent sign",
	    F ":3: [Operator]: Name=%x: unknown specifier %x; known: %d %i %S "
	    "%t, and %% for a percent sign",
	    F ":4: [Operator]: Name=%\xc3\xbc: unknown specifier %; known: %d "
	    "%i %S %t, and %% for a percent sign");
}

/* Its % begins no specifier, and is shown as it was written. */
static void
test_percentages(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;

	(void)state;
	c = load_good("[Pool p]\nExec=/bin/true\nQuota=150%\n");
	assert_int_equal(config_percent(config_find(c, "Pool", "p"), "Quota"),
	    150);
	config_show(c, &b, false);
	assert_non_null(strstr(buffer_cstr(&b), "\nQuota=150%\n"));
	config_unref(c);
	EXPECT("[Pool p]\nExec=/bin/true\nQuota=50\nQuota=%\nQuota=x%\n"
	    "Quota=0%\nQuota=401%\n",
	    F ":3: [Pool p]: Quota=50: \"50\" is no percentage, such as 50%",
	    F ":4: [Pool p]: Quota=%: \"%\" is no percentage, such as 50%",
	    F ":5: [Pool p]: Quota=x%: \"x%\" is no percentage, such as 50%",
	    F ":6: [Pool p]: Quota=0%: out of range: 1% to 400%",
	    F ":7: [Pool p]: Quota=401%: out of range: 1% to 400%");
}

static void
test_specifiers_cannot_blow_up(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;

	(void)state;
	buffer_add_str(&b, "[Operator]\nName=");
	for (int i = 0; i < 16000; i++)
		buffer_add_str(&b, "%S");
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), 1);
	assert_non_null(strstr(config_problem_text(c, 0),
	    "longer than 65536 bytes with its specifiers replaced"));
	config_unref(c);

	buffer_clear(&b);
	buffer_add_str(&b, "[Operator]\nState=/");
	for (int i = 0; i < 4096; i++)
		buffer_add_char(&b, 'x');
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), 1);
	assert_non_null(strstr(config_problem_text(c, 0),
	    "the path is longer than 4095 bytes"));
	config_unref(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_words_are_bounded),
		cmocka_unit_test(test_scalars_and_ranges),
		cmocka_unit_test(test_values_out_of_range),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_paths_and_specifiers),
		cmocka_unit_test(test_percentages),
		cmocka_unit_test(test_specifiers_cannot_blow_up),
	};

	config_rig_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
