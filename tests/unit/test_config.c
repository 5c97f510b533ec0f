/* The configuration: syntax, types, problems, files, reload, showing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "config/internal.h"

static const struct config_key operator_keys[] = {
	{ "Name", CONFIG_STRING, "%i", NULL, 0, 0, 0, "The name." },
	{ "Status", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0, "Where." },
	{ "State", CONFIG_PATH, "%S", NULL, 0, 0, 0, "Directory." },
	{ "DrainTimeout", CONFIG_SPAN, "30s", NULL, USEC_PER_MSEC, 0,
	    CONFIG_RELOAD, "How long - at most." },
	{ "LogLevel", CONFIG_CHOICE, "info", "error|warning|info|debug", 0, 0,
	    CONFIG_RELOAD, "What is logged." },
};
static const struct config_key pool_keys[] = {
	{ "Workers", CONFIG_UNSIGNED_RANGE, "1-4", NULL, 1, 512, CONFIG_RELOAD,
	    "Min and max." },
	{ "Exec", CONFIG_WORDS, NULL, NULL, 0, 0, 0, "Program." },
	{ "Environment", CONFIG_WORDS, "A=1 B=2", NULL, 0, 6, 0, "Variables." },
	{ "MemoryMax", CONFIG_BYTES, NULL, NULL, MIB, 0, 0, "Memory." },
	{ "Strict", CONFIG_BOOL, "yes", NULL, 0, 0, 0, "Strict." },
};
static const struct config_key queue_keys[] = {
	{ "Pool", CONFIG_STRING, NULL, NULL, 0, 0, 0, "Pool." },
	{ "MaxAttempts", CONFIG_UNSIGNED, "5", NULL, 1, 1000, CONFIG_RELOAD,
	    "Attempts." },
	{ "Backoff", CONFIG_SPAN_RANGE, "2s-5min", NULL, USEC_PER_MSEC,
	    86400 * USEC_PER_SEC, CONFIG_RELOAD, "Delay." },
	{ "RateLimit", CONFIG_RATE, NULL, NULL, 1, 1000000, CONFIG_RELOAD,
	    "Messages." },
	{ "MaxBytes", CONFIG_BYTES, "256K", NULL, 1, 64 * MIB, 0, "Size." },
};
static const struct config_key spool_keys[] = {
	{ "Path", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_REQUIRED, "Where." },
};
static const struct config_key redis_keys[] = {
	{ "Address", CONFIG_ADDRESS, NULL, NULL, 0, 0, CONFIG_REQUIRED,
	    "Server." },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "Secret." },
	{ "Mode", CONFIG_CHOICE, "stream", "stream|list|sidekiq", 0, 0, 0,
	    "Mode." },
	{ "Key", CONFIG_STRING, NULL, NULL, 1, 8, 0, "Key." },
};
static const struct config_key rabbit_keys[] = {
	{ "Address", CONFIG_ADDRESS, "localhost:5672", NULL, 0, 0, 0,
	    "Broker." },
};

#define KIND(name, labelled, variant_key, variant, keys, help) \
	{ name, labelled, variant_key, variant, keys, ARRAY_SIZE(keys), help }

static const struct config_kind operator_kind =
    KIND("Operator", false, NULL, NULL, operator_keys, "The \\daemon.");
static const struct config_kind pool_kind =
    KIND("Pool", true, NULL, NULL, pool_keys, NULL);
static const struct config_kind queue_kind =
    KIND("Queue", true, NULL, NULL, queue_keys, ".starts with a point");
static const struct config_kind spool_kind =
    KIND("Queue", true, "Type", "spool", spool_keys, "Directory.");
static const struct config_kind redis_kind =
    KIND("Queue", true, "Type", "redis", redis_keys, "Redis.");
static const struct config_kind rabbit_kind =
    KIND("Queue", true, "Type", "rabbitmq", rabbit_keys, NULL);

static const struct config_kind *const schema[] = {
	&operator_kind, &pool_kind, &queue_kind, &spool_kind, &redis_kind,
	&rabbit_kind, NULL
};

static struct config *
load(const char *text)
{
	return config_load_text("/etc/bot-operator/shop.conf", text, schema);
}

/* Fails with the problems in view when there are any. */
static struct config *
load_good(const char *text)
{
	struct config *c = load(text);

	for (size_t i = 0; i < config_problems(c); i++)
		print_error("%s\n", config_problem_text(c, i));
	assert_int_equal(config_problems(c), 0);
	return c;
}

#define F	"/etc/bot-operator/shop.conf"

/* Exactly these problems, in this order. */
static void
expect_problems(const char *text, const char *const *want, size_t n)
{
	struct config *c = load(text);

	for (size_t i = 0; i < config_problems(c) && i < n; i++)
		assert_string_equal(config_problem_text(c, i), want[i]);
	if (config_problems(c) > n)
		print_error("also: %s\n", config_problem_text(c, n));
	assert_int_equal(config_problems(c), n);
	config_unref(c);
}

#define EXPECT(text, ...) \
	do { \
		static const char *const want_[] = { __VA_ARGS__ }; \
		expect_problems(text, want_, ARRAY_SIZE(want_)); \
	} while (0)

/* ---- syntax ---- */

static void
test_sections_and_values(void **state)
{
	struct config *c = load_good("# comment\n; comment\n\n"
	    "[Operator]\n  Name =  a = b # no comment \n"
	    "[Queue b]\nType=spool\nPath=/b\n"
	    "[  Queue\t a  ]\nPath=/a\nType=spool\n"
	    "[Pool b]\n");
	const struct config_section *s;

	(void)state;
	assert_string_equal(config_path(c), F);
	assert_string_equal(config_instance(c), "shop");
	s = config_find(c, "Operator", NULL);
	assert_non_null(s);
	assert_ptr_equal(s, config_find(c, "Operator", ""));
	assert_string_equal(config_label(s), "");
	assert_string_equal(config_title(s), "[Operator]");
	assert_string_equal(config_string(s, "Name"), "a = b # no comment");
	s = config_next(c, "Queue", NULL);
	assert_string_equal(config_title(s), "[Queue b]");
	s = config_next(c, "Queue", s);
	assert_string_equal(config_label(s), "a");
	assert_string_equal(config_string(s, "Path"), "/a");
	assert_null(config_next(c, "Queue", s));
	assert_null(config_find(c, "Queue", "c"));
	assert_non_null(config_find(c, "Pool", "b"));
	assert_null(config_next(c, "Nothing", NULL));
	config_unref(c);
}

static void
test_continuation_bom_and_crlf(void **state)
{
	struct config *c = load_good("\xef\xbb\xbf[Operator]\r\n"
	    "Name=one \\\r\n"
	    "# a comment in between\r\n"
	    "   two\\\r\n\tthree\r\n"
	    "LogLevel=debug\r\n"
	    "[Pool p]\nExec=a\\\\\nStrict=no\\");
	const struct config_section *s = config_find(c, "Operator", NULL);

	(void)state;
	assert_string_equal(config_string(s, "Name"), "one  two three");
	assert_string_equal(config_origin(s, "Name"), F ":2");
	assert_string_equal(config_origin(s, "LogLevel"), F ":6");
	s = config_find(c, "Pool", "p");
	/* Two backslashes at the end are one escaped, not a continuation. */
	assert_string_equal(config_words(s, "Exec")[0], "a\\");
	assert_false(config_bool(s, "Strict"));
	config_unref(c);
}

static void
test_broken_lines(void **state)
{
	(void)state;
	EXPECT("Name=early\n[Operator\nName=x\n[]\nName=x\n[Operator]\nnonsense\n"
	    "=x\nName=\xff\nName=a\x1b[0m\n[Oper\x01tor]\nUnknown=not reported\n",
	    F ":1: Name= stands before any [Section]",
	    F ":2: section header without a closing ]",
	    F ":4: section header without a name",
	    F ":7: neither [Section] nor Key=value: the = is missing",
	    F ":8: nothing in front of the =",
	    F ":9: not valid UTF-8",
	    F ":10: control character in the line",
	    F ":11: control character in the line");
	/* Overlong, surrogate, beyond the last, cut short. */
	EXPECT("[Operator]\nName=\xc0\xaf\nName=\xed\xa0\x80\n"
	    "Name=\xf4\x90\x80\x80\nName=\xe2\x82\n",
	    F ":2: not valid UTF-8", F ":3: not valid UTF-8",
	    F ":4: not valid UTF-8", F ":5: not valid UTF-8");
	config_unref(load_good("[Operator]\nName=\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\n"));
}

static void
test_nul_and_long_lines_are_refused(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c = tree_new(F, schema);

	(void)state;
	tree_read(c, F, SLICE("[Operator]\nName=a\0b\nGarbage\n"));
	tree_finish(c);
	assert_int_equal(config_problems(c), 1);
	assert_string_equal(config_problem_text(c, 0),
	    F ":2: NUL byte: this is not a text file");
	config_unref(c);

	/* Long through one line, and through continuations. */
	buffer_add_str(&b, "[Operator]\nName=");
	for (size_t i = 0; i < CONFIG_LINE_MAX; i++)
		buffer_add_char(&b, 'x');
	EXPECT(buffer_cstr(&b),
	    F ":2: line longer than 32768 bytes, continuations included");
	buffer_clear(&b);
	buffer_add_str(&b, "[Operator]\nName=");
	for (size_t i = 0; i < CONFIG_LINE_MAX / 8; i++)
		buffer_add_str(&b, "1234567\\\n");
	EXPECT(buffer_cstr(&b),
	    F ":2: line longer than 32768 bytes, continuations included");
}

static void
test_labels(void **state)
{
	char text[128];

	(void)state;
	EXPECT("[Operator x]\n[Pool]\n[Pool a/b]\n[Pool a b]\n[Pool ..]\n"
	    "[Pool \xc3\xbc]\n",
	    F ":1: [Operator x]: this section takes no name; write [Operator]",
	    F ":2: [Pool]: the name is missing; write [Pool NAME]",
	    F ":3: [Pool a/b]: a name has letters, digits, _ . and - only",
	    F ":4: [Pool a b]: a name has letters, digits, _ . and - only",
	    F ":5: [Pool ..]: a name has letters, digits, _ . and - only",
	    F ":6: [Pool \xc3\xbc]: a name has letters, digits, _ . and - only");
	/* 64 bytes are a name, 65 are not. */
	snprintf(text, sizeof(text), "[Pool %064d]\n", 1);
	config_unref(load_good(text));
	snprintf(text, sizeof(text), "[Pool %065d]\n", 1);
	{
		struct config *c = load(text);

		assert_int_equal(config_problems(c), 1);
		assert_non_null(strstr(config_problem_text(c, 0),
		    "longer than 64 bytes"));
		config_unref(c);
	}
}

/* ---- problems ---- */

static void
test_invariant_9_typo_is_an_error(void **state)
{
	(void)state;
	/* Section, key, unit, choice, type: where, what, and what is meant. */
	EXPECT("[Quue orders]\nType=redis\n"
	    "[Operater]\nAnything=goes unreported here\n"
	    "[Queue orders]\nType=redis\nAdress=127.0.0.1:6379\n"
	    "Address=127.0.0.1:6379\nmode=list\nMode=steam\nBackoff=2s-5mn\n"
	    "MaxBytes=64Kb\nRateLimit=5/secnd\nMaxAttempts=5x\nBogusness=1\n"
	    "[Queue b]\nType=redsi\n",
	    F ":1: unknown section [Quue]; did you mean \"Queue\"?",
	    F ":3: unknown section [Operater]; did you mean \"Operator\"?",
	    F ":7: [Queue orders]: unknown key \"Adress\"; did you mean "
	    "\"Address\"?",
	    F ":9: [Queue orders]: unknown key \"mode\"; did you mean "
	    "\"Mode\"?",
	    F ":10: [Queue orders]: Mode=steam: unknown value \"steam\"; did "
	    "you mean \"stream\"?; known: stream list sidekiq",
	    F ":11: [Queue orders]: Backoff=2s-5mn: unknown unit \"mn\"; did "
	    "you mean \"min\"?; known: us ms s min h d w",
	    F ":12: [Queue orders]: MaxBytes=64Kb: unknown unit \"Kb\"; did "
	    "you mean \"KB\"?; known: K M G T",
	    F ":13: [Queue orders]: RateLimit=5/secnd: unknown unit \"secnd\"; "
	    "did you mean \"second\"?; known: us ms s min h d w",
	    F ":14: [Queue orders]: MaxAttempts=5x: expected a whole number "
	    "without a unit",
	    F ":15: [Queue orders]: unknown key \"Bogusness\"",
	    F ":17: [Queue b]: Type=redsi: unknown value \"redsi\"; did you "
	    "mean \"redis\"?; known: spool redis rabbitmq");
}

static void
test_keys_of_others(void **state)
{
	(void)state;
	EXPECT("[Queue a]\nType=spool\nPath=/x\nAddress=h:1\nMode=list\n"
	    "Workers=3\n",
	    F ":4: [Queue a]: key Address= belongs to Type=redis and "
	    "Type=rabbitmq; this is Type=spool",
	    F ":5: [Queue a]: key Mode= belongs to Type=redis; this is "
	    "Type=spool",
	    F ":6: [Queue a]: unknown key \"Workers\"; it belongs to "
	    "[Pool NAME]");
}

static void
test_type_is_required_and_may_come_late(void **state)
{
	struct config *c;

	(void)state;
	/* While the type is unknown every type's keys are taken, no others. */
	EXPECT("[Queue a]\nPath=/x\nMode=list\nTypo=1\n",
	    F ":1: [Queue a]: Type= is missing; known: spool redis rabbitmq",
	    F ":4: [Queue a]: unknown key \"Typo\"; did you mean \"Type\"?");
	EXPECT("[Queue a]\nPath=/x\nTypo=1\n[Queue a]\nType=spool\n",
	    F ":3: [Queue a]: unknown key \"Typo\"; did you mean \"Type\"?");
	c = load_good("[Queue a]\nAddress=h:1\nType=redis\n");
	assert_string_equal(config_string(config_find(c, "Queue", "a"), "Type"),
	    "redis");
	assert_int_equal(config_choice(config_find(c, "Queue", "a"), "Type"), 1);
	config_unref(c);
}

static void
test_required_keys_are_named(void **state)
{
	(void)state;
	EXPECT("[Queue a]\nType=redis\n[Queue b]\nType=spool\nPath=/x\nPath=\n"
	    "[Queue c]\nType=redis\nAddress=a:b:c\n",
	    F ":1: [Queue a]: Address= is missing",
	    F ":3: [Queue b]: Path= is missing",
	    /* Not "missing" too: it is there, only wrong. */
	    F ":9: [Queue c]: Address=a:b:c: more than one colon; write "
	    "host:port or [IPv6]:port");
}

static void
test_problems_are_bounded(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;
	const char *last;

	(void)state;
	for (int i = 0; i < 1000; i++)
		buffer_add_str(&b, "garbage\n");
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), CONFIG_PROBLEMS_MAX);
	last = config_problem_text(c, CONFIG_PROBLEMS_MAX - 1);
	assert_non_null(strstr(last, "; and 800 more problems"));
	config_unref(c);

	buffer_clear(&b);
	for (int i = 0; i < 1030; i++)
		buffer_printf(&b, "[Pool p%d]\n", i);
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), 6);
	assert_string_equal(config_problem_text(c, 0),
	    F ":1025: more than 1024 sections");
	config_unref(c);
}

static void
test_problem_from_outside(void **state)
{
	struct config *c = load_good("[Queue a]\nType=spool\nPath=/x\nPool=p\n");
	const struct config_section *s = config_find(c, "Queue", "a");

	(void)state;
	config_problem(c, s, "Pool", "there is no [Pool %s]", "p");
	config_problem(c, s, "RateLimit", "not set");
	config_problem(c, s, NULL, "as a whole\n\x1b[0m");
	config_problem(c, NULL, NULL, "nothing to do");
	assert_int_equal(config_problems(c), 4);
	assert_string_equal(config_problem_text(c, 0),
	    F ":4: [Queue a]: there is no [Pool p]");
	assert_string_equal(config_problem_text(c, 1),
	    F ":1: [Queue a]: not set");
	assert_string_equal(config_problem_text(c, 2),
	    F ":1: [Queue a]: as a whole??[0m");
	assert_string_equal(config_problem_text(c, 3), F ": nothing to do");
	config_unref(c);
}

static void
test_suggest(void **state)
{
	static const char *const names[] = { "orders", "mail", "x" };

	(void)state;
	assert_string_equal(config_suggest("ordres", names, 3), "orders");
	assert_string_equal(config_suggest("ORDERS", names, 3), "orders");
	assert_string_equal(config_suggest("mial", names, 3), "mail");
	assert_string_equal(config_suggest("ordr", names, 3), "orders");
	assert_null(config_suggest("billing", names, 3));
	assert_null(config_suggest("y", names, 3));
	assert_null(config_suggest("", names, 3));
	assert_null(config_suggest("orders", names, 0));
	assert_null(config_suggest("a name that is far too long to be a typo "
	    "of anything that we know or may know", names, 3));
}

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

/* ---- files ---- */

struct folder {
	char dir[64];
	char conf[96];
};

static int
folder_setup(void **state)
{
	struct folder *f = new0(struct folder);

	snprintf(f->dir, sizeof(f->dir), "/tmp/bot-config-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->conf, sizeof(f->conf), "%s/shop.conf", f->dir);
	*state = f;
	return 0;
}

static int
folder_teardown(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *command = xasprintf("rm -rf '%s'", f->dir);
	int r = system(command);

	free(f);
	return r;
}

static void
put(const struct folder *f, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", f->dir, name);
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	assert_int_equal(fputs(text, out) < 0, 0);
	assert_int_equal(fclose(out), 0);
}

static char *
in(const struct folder *f, const char *name)
{
	return xasprintf("%s/%s", f->dir, name);
}

static void
expect_problem(const struct config *c, size_t i, const struct folder *f,
    const char *rest)
{
	_cleanup_free_ char *want = xasprintf("%s/%s", f->dir, rest);

	assert_true(config_problems(c) > i);
	assert_string_equal(config_problem_text(c, i), want);
}

static void
test_drop_ins(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	_cleanup_free_ char *null = in(f, "shop.conf.d/30-masked.conf");
	_cleanup_free_ char *origin = in(f, "shop.conf.d/20-b.conf:2");
	_cleanup_free_ char *data = in(f, "data");
	const struct config_section *s;
	struct config *c;

	assert_int_equal(mkdir(d, 0700), 0);
	put(f, "shop.conf", "[Queue a]\nType=spool\nPath=data\nMaxAttempts=3\n"
	    "[Pool p]\nExec=x\n");
	put(f, "shop.conf.d/10-a.conf", "[Queue a]\nMaxAttempts=4\n"
	    "[Pool p]\nExec=a\nStrict=no\n");
	put(f, "shop.conf.d/20-b.conf", "[Queue a]\nMaxAttempts=9\n"
	    "[Pool p]\nExec=b\n[Pool new]\n");
	put(f, "shop.conf.d/.hidden.conf", "garbage\n");
	put(f, "shop.conf.d/readme.txt", "garbage\n");
	put(f, "shop.conf.d/.conf", "garbage\n");
	assert_int_equal(symlink("/dev/null", null), 0);

	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	s = config_find(c, "Queue", "a");
	assert_int_equal(config_unsigned(s, "MaxAttempts"), 9);
	assert_string_equal(config_origin(s, "MaxAttempts"), origin);
	/* Beside the main file, whoever wrote it. */
	assert_string_equal(config_string(s, "Path"), data);
	s = config_find(c, "Pool", "p");
	assert_false(config_bool(s, "Strict"));
	assert_string_equal(config_words(s, "Exec")[0], "x");
	assert_string_equal(config_words(s, "Exec")[1], "a");
	assert_string_equal(config_words(s, "Exec")[2], "b");
	assert_non_null(config_find(c, "Pool", "new"));
	config_unref(c);

	/* Problems in the order of files and lines. */
	put(f, "shop.conf", "[Queue a]\nPath=x\nMaxAttempts=3x\n[Nope]\n");
	put(f, "shop.conf.d/10-a.conf", "Strict=1\n[Queue a]\nType=spool\n"
	    "MaxAttempts=0\n");
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 4);
	expect_problem(c, 0, f, "shop.conf:3: [Queue a]: MaxAttempts=3x: "
	    "expected a whole number without a unit");
	expect_problem(c, 1, f, "shop.conf:4: unknown section [Nope]");
	expect_problem(c, 2, f, "shop.conf.d/10-a.conf:1: Strict= stands "
	    "before any [Section]");
	expect_problem(c, 3, f, "shop.conf.d/10-a.conf:4: [Queue a]: "
	    "MaxAttempts=0: out of range: 1 to 1000");
	config_unref(c);
}

static void
test_drop_in_may_change_the_type(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	struct config *c;

	assert_int_equal(mkdir(d, 0700), 0);
	put(f, "shop.conf", "[Queue a]\nType=spool\nPath=/x\n");
	put(f, "shop.conf.d/a.conf", "[Queue a]\nType=redis\nAddress=h:1\n");
	c = config_load(f->conf, schema);
	/* A leftover of the other type is as wrong as any unknown key. */
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf:3: [Queue a]: key Path= belongs to "
	    "Type=spool; this is Type=redis");
	config_unref(c);
}

static void
test_files_that_cannot_be_read(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	_cleanup_free_ char *fifo = in(f, "shop.conf.d/fifo.conf");
	_cleanup_free_ char *sub = in(f, "shop.conf.d/sub.conf");
	_cleanup_free_ char *gone = in(f, "shop.conf.d/zz.conf");
	struct config *c = config_load(f->conf, schema);

	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf: cannot read: No such file or "
	    "directory");
	config_unref(c);

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(mkdir(d, 0700), 0);
	assert_int_equal(mkdir(sub, 0700), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(symlink("/nonexistent/file", gone), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 3);
	expect_problem(c, 0, f, "shop.conf.d/fifo.conf: cannot read: not a "
	    "regular file");
	expect_problem(c, 1, f, "shop.conf.d/sub.conf: cannot read: Is a "
	    "directory");
	expect_problem(c, 2, f, "shop.conf.d/zz.conf: cannot read: No such "
	    "file or directory");
	config_unref(c);
}

static void
test_files_are_bounded(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	struct config *c;
	char name[64];

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(truncate(f->conf, (off_t)CONFIG_FILE_MAX + 1), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf: longer than 1048576 bytes");
	config_unref(c);

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(mkdir(d, 0700), 0);
	for (size_t i = 0; i <= CONFIG_FILES_MAX; i++) {
		snprintf(name, sizeof(name), "shop.conf.d/%03zu.conf", i);
		put(f, name, "[Operator]\nName=x\n");
	}
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf.d: more than 256 files");
	config_unref(c);
	/* name holds the last one: without it they are few enough. */
	{
		_cleanup_free_ char *last = in(f, name);

		assert_int_equal(unlink(last), 0);
	}
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	config_unref(c);
}

static void
test_relative_to_the_file_not_the_link(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *real_dir = in(f, "real");
	_cleanup_free_ char *real = in(f, "real/other.conf");
	_cleanup_free_ char *want = in(f, "real/data");
	struct config *c;

	assert_int_equal(mkdir(real_dir, 0700), 0);
	put(f, "real/other.conf", "[Queue a]\nType=spool\nPath=./data\n");
	assert_int_equal(symlink(real, f->conf), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	assert_string_equal(config_string(config_find(c, "Queue", "a"), "Path"),
	    want);
	/* But it is called what it was called. */
	assert_string_equal(config_instance(c), "shop");
	assert_string_equal(config_path(c), f->conf);
	config_unref(c);
}

/* ---- reload, show, manual ---- */

static enum config_change
compare(const char *a, const char *b)
{
	struct config *one = load_good(a), *two = load_good(b);
	enum config_change change = config_compare(
	    config_find(one, "Queue", "a"), config_find(two, "Queue", "a"));

	config_unref(one);
	config_unref(two);
	return change;
}

#define REDIS	"[Queue a]\nType=redis\nAddress=h:1\n"

static void
test_compare(void **state)
{
	(void)state;
	assert_int_equal(compare(REDIS, REDIS), CONFIG_SAME);
	/* By meaning, wherever and however it is written. */
	assert_int_equal(compare(REDIS, "# x\n[Queue a]\nAddress=h:1\n"
	    "MaxAttempts=5\nBackoff=2000ms-300s\nMode=stream\nType=redis\n"
	    "MaxBytes=262144\n"), CONFIG_SAME);
	assert_int_equal(compare(REDIS, REDIS "MaxAttempts=6\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "RateLimit=5/s\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS "RateLimit=5/s\n",
	    REDIS "RateLimit=300/min\n"), CONFIG_SAME);
	assert_int_equal(compare(REDIS "RateLimit=5/s\n",
	    REDIS "RateLimit=6/s\n"), CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "Backoff=2s-6min\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "Mode=list\n"), CONFIG_CHANGED);
	/* One that does not reload decides. */
	assert_int_equal(compare(REDIS, REDIS "MaxAttempts=6\nPool=x\n"),
	    CONFIG_CHANGED);
	assert_int_equal(compare(REDIS, "[Queue a]\nType=rabbitmq\n"
	    "Address=h:1\n"), CONFIG_CHANGED);
	assert_int_equal(compare("[Queue a]\nType=spool\nPath=h:1\n",
	    "[Queue a]\nType=rabbitmq\nAddress=h:1\n"), CONFIG_CHANGED);
}

static void
test_compare_words_and_kinds(void **state)
{
	struct config *c = load_good("[Pool a]\nExec=x y\n[Pool b]\nExec='x y'\n"
	    "[Pool c]\nExec=x\nExec=y\n[Operator]\n");

	(void)state;
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Pool", "c")), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Pool", "b")), CONFIG_CHANGED);
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Operator", NULL)), CONFIG_CHANGED);
	config_unref(c);
}

static void
test_show_can_be_read_again(void **state)
{
	struct config *c = load_good("[Operator]\nName=a%%b \\ c\n"
	    "[Pool p]\nExec=a 'b c' \"\" \\\"q\\\" 100%% '$x' 'e\\'\n"
	    REDIS "PasswordFile=secret\n");
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *again;

	(void)state;
	config_show(c, &b, false);
	assert_string_equal(buffer_cstr(&b), "[Operator]\nName=a%%b \\ c\n"
	    "Status=\nState=/var/lib/bot-operator\nDrainTimeout=30s\n"
	    "LogLevel=info\n\n"
	    "[Pool p]\nWorkers=1-4\nExec=a \"b c\" \"\" \"\\\"q\\\"\" 100%% "
	    "\"\\$x\" \"e\\\\\"\nEnvironment=A=1 B=2\nMemoryMax=\nStrict=yes\n\n"
	    "[Queue a]\nType=redis\nPool=\nMaxAttempts=5\nBackoff=2s-5min\n"
	    "RateLimit=\nMaxBytes=256K\nAddress=h:1\n"
	    "PasswordFile=/etc/bot-operator/secret\nMode=stream\nKey=\n");
	again = load_good(buffer_cstr(&b));
	assert_int_equal(config_compare(config_find(c, "Operator", NULL),
	    config_find(again, "Operator", NULL)), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Pool", "p"),
	    config_find(again, "Pool", "p")), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Queue", "a"),
	    config_find(again, "Queue", "a")), CONFIG_SAME);
	config_unref(again);

	buffer_clear(&b);
	config_show(c, &b, true);
	assert_non_null(strstr(buffer_cstr(&b),
	    "[Queue a]\n# " F ":6\nType=redis\n# default\nPool=\n"));
	assert_non_null(strstr(buffer_cstr(&b), "# " F ":7\nAddress=h:1\n"));
	config_unref(load_good(buffer_cstr(&b)));
	config_unref(c);
}

static void
test_manual(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *text;

	(void)state;
	config_manual(schema, &b);
	text = buffer_cstr(&b);
	assert_non_null(strstr(text, ".SH [Operator]\nThe \\edaemon.\n.TP\n"));
	assert_non_null(strstr(text, ".SH [Queue NAME]\n"
	    "\\&.starts with a point\n.TP\n.B Type=\n"));
	assert_non_null(strstr(text, ".B DrainTimeout=\nHow long \\- at most.\n"
	    ".br\nValue: time span; at least 1ms.\nDefault: 30s.\n"
	    "A reload applies it in place.\n"));
	assert_non_null(strstr(text, "Value: one of spool, redis, rabbitmq.\n"
	    "Required.\n"));
	assert_non_null(strstr(text, ".SS [Queue NAME] with Type=redis\n"
	    "Redis.\n.TP\n.B Address=\n"));
	assert_non_null(strstr(text, "Value: size in bytes, with K, M, G or T; "
	    "1 to 64M.\nDefault: 256K.\n"));
	assert_non_null(strstr(text, "Value: path of a file with a secret.\n"
	    "Not set by default.\n"));
	/* Every key has its place. */
	for (size_t i = 0; schema[i] != NULL; i++) {
		for (size_t k = 0; k < schema[i]->nkeys; k++) {
			_cleanup_free_ char *row = xasprintf(".TP\n.B %s=\n",
			    schema[i]->keys[k].name);

			assert_non_null(strstr(text, row));
		}
	}
}

static void
test_references(void **state)
{
	struct config *c = load_good("[Operator]\nName=kept\n");

	(void)state;
	assert_ptr_equal(config_ref(c), c);
	config_unref(c);
	assert_string_equal(config_string(config_find(c, "Operator", NULL),
	    "Name"), "kept");
	config_unref(c);
	config_unref(NULL);
}

int
main(void)
{
#define IN_FOLDER(fn) \
	cmocka_unit_test_setup_teardown(fn, folder_setup, folder_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections_and_values),
		cmocka_unit_test(test_continuation_bom_and_crlf),
		cmocka_unit_test(test_broken_lines),
		cmocka_unit_test(test_nul_and_long_lines_are_refused),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_invariant_9_typo_is_an_error),
		cmocka_unit_test(test_keys_of_others),
		cmocka_unit_test(test_type_is_required_and_may_come_late),
		cmocka_unit_test(test_required_keys_are_named),
		cmocka_unit_test(test_problems_are_bounded),
		cmocka_unit_test(test_problem_from_outside),
		cmocka_unit_test(test_suggest),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_words_are_bounded),
		cmocka_unit_test(test_scalars_and_ranges),
		cmocka_unit_test(test_values_out_of_range),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_paths_and_specifiers),
		cmocka_unit_test(test_specifiers_cannot_blow_up),
		IN_FOLDER(test_drop_ins),
		IN_FOLDER(test_drop_in_may_change_the_type),
		IN_FOLDER(test_files_that_cannot_be_read),
		IN_FOLDER(test_files_are_bounded),
		IN_FOLDER(test_relative_to_the_file_not_the_link),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_compare_words_and_kinds),
		cmocka_unit_test(test_show_can_be_read_again),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_references),
	};

	/* Values below must not hang on who runs the tests. */
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
