/*
 * sink/crowdsec: durations, answers with decisions, and sums of events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "codec/go_duration.h"
#include "sink/crowdsec_impl.h"

#define MIN_US	(60 * USEC_PER_SEC)
#define HOUR_US	(60 * MIN_US)

/* ---- durations ---- */

static void
test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t us;
	} good[] = {
		{ "0", 0 }, { "+0", 0 }, { "-0", 0 }, { "0s", 0 },
		{ "1s", USEC_PER_SEC }, { "1h", HOUR_US },
		{ "5m0s", 5 * MIN_US },
		{ "3h58m53.8s", 3 * HOUR_US + 58 * MIN_US + 53800000 },
		{ "59m59.63325161s", 59 * MIN_US + 59633251 },
		{ "1.5h", 90 * MIN_US }, { ".5s", 500000 }, { "5.s", 5000000 },
		{ "250ms", 250000 }, { "1500us", 1500 }, { "999ns", 0 },
		{ "1000ns", 1 }, { "2\xc2\xb5s", 2 }, { "3\xce\xbcs", 3 },
		{ "+1m1ms", MIN_US + 1000 }, { "-1h2m", 0 },
		{ "-12.345678ms", 0 }, { "1s1s", 2000000 },
		/* As long as there can be. */
		{ "2562047h47m16.854775807s", INT64_MAX / 1000 },
		{ "99999999999999999999h", INT64_MAX / 1000 },
		{ "9999999h9999999h9999999h", INT64_MAX / 1000 },
		{ "0.99999999999999999999s", 999999 },
	};
	static const char *const bad[] = { "", "-", "+", "1", "s", ".s", ".",
		"1d", "1 s", " 1s", "1s ", "1h-2m", "--1s", "1.2.3s", "1e3s",
		"0x1s", "for ever", "1\xc2s", "00", "1S" };
	uint64_t us;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (go_duration_parse(slice_of(good[i].text), &us) < 0 ||
		    us != good[i].us)
			fail_msg("%s: %llu", good[i].text,
			    (unsigned long long)us);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (go_duration_parse(slice_of(bad[i]), &us) != -EPROTO)
			fail_msg("\"%s\" was taken", bad[i]);
	assert_int_equal(go_duration_parse((struct slice){ NULL, 0 }, &us),
	    -EPROTO);
}

/* ---- answers ---- */

#define ONE(id, scope, value) \
	"{\"duration\":\"3h59m57.011640437s\",\"id\":" id "," \
	"\"origin\":\"crowdsec\",\"scenario\":\"bot-operator/auth-failed\"," \
	"\"scope\":\"" scope "\",\"type\":\"ban\",\"value\":\"" value "\"}"

/* So many at a time; what the last step said. */
static int
read_all(struct crowdsec_answer *a, const char *text, size_t max, size_t most,
    bool whole, struct error *err)
{
	int r;

	crowdsec_answer_begin(a, slice_of(text), max);
	do {
		r = crowdsec_answer_read(a, most, whole, err);
	} while (r > 0);
	return r;
}

static void
test_answers(void **state)
{
	static const char text[] = " {\"deleted\": ["
	    ONE("7", "Ip", "192.0.2.7") "," ONE("18446744073709551615", "x", "y") "] , \"new\":["
	    ONE("1", "Ip", "192.0.2.1") "," ONE("2", "range", "2001:db8::/32")
	    ",\n" ONE("3", "queue-sender", "mal\\u006cory") "],\"more\":{}}";
	struct error err = ERROR_INIT;
	struct crowdsec_answer a;

	(void)state;
	for (size_t most = 1; most < 9; most++) {
		struct bans *bans = bans_new(10);

		assert_int_equal(read_all(&a, text, 10, most, true, &err), 0);
		assert_int_equal(a.nfresh, 3);
		assert_int_equal(a.ngone, 2);
		assert_int_equal(a.gone[0], 7);
		assert_true(a.gone[1] == UINT64_MAX);
		assert_int_equal(a.ignored + a.left_out, 0);
		for (size_t i = 0; i < a.nfresh; i++) {
			assert_true(bans_put(bans, a.fresh[i]));
			a.fresh[i] = NULL;
		}
		assert_int_equal(bans_count(bans, BAN_IP), 1);
		assert_int_equal(bans_count(bans, BAN_RANGE), 1);
		assert_true(bans_sender(bans, SLICE("mallory")));
		crowdsec_answer_done(&a);
		bans_free(bans);
	}
}

static void
test_answers_without_changes(void **state)
{
	struct error err = ERROR_INIT;
	struct crowdsec_answer a;

	(void)state;
	assert_int_equal(read_all(&a, "{\"deleted\":null,\"new\":null}", 10, 1,
	    true, &err), 0);
	assert_int_equal(a.nfresh + a.ngone, 0);
	crowdsec_answer_done(&a);
	assert_int_equal(read_all(&a, "{\"new\":[]}", 10, 1, true, &err), 0);
	crowdsec_answer_done(&a);
	assert_int_equal(read_all(&a, "{\"deleted\":[]}", 10, 1, false, &err),
	    0);
	crowdsec_answer_done(&a);
}

static void
test_answers_that_are_none(void **state)
{
	static const char *const bad[] = { "", " ", "null", "[]", "{", "{}",
		"\"new\"", "{\"new\":null", "{\"new\":null}x", "{\"new\":5}",
		"{\"new\":{}}", "{\"new\":[1]}", "{\"new\":[null]}",
		"{\"new\":[" ONE("1", "Ip", "192.0.2.1") "]",
		"{\"new\":[" ONE("1", "Ip", "192.0.2.1") ",]}",
		"{\"new\":[" ONE("1", "Ip", "192.0.2.1") "],}",
		"{\"new\":[" ONE("1", "Ip", "192.0.2.\xff") "]}",
		"{\"message\":\"access forbidden\"}", "<html>" };
	struct error err = ERROR_INIT;
	struct crowdsec_answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		for (size_t most = 1; most < 5; most++) {
			error_clear(&err);
			if (read_all(&a, bad[i], 10, most, false, &err) !=
			    -EPROTO || err.class != ERROR_PROTOCOL)
				fail_msg("\"%s\" was taken", bad[i]);
			crowdsec_answer_done(&a);
		}
	}
	/* Nobody would be banned any more. */
	assert_int_equal(read_all(&a, "{\"deleted\":null}", 10, 9, true, &err),
	    -EPROTO);
	crowdsec_answer_done(&a);
}

static void
test_decisions_that_are_none(void **state)
{
	static const char text[] = "{\"new\":[{},"
	    ONE("-1", "Ip", "192.0.2.1") "," ONE("1.5", "Ip", "192.0.2.1") ","
	    ONE("\"1\"", "Ip", "192.0.2.1") "," ONE("null", "Ip", "192.0.2.1")
	    "," ONE("99999999999999999999", "Ip", "192.0.2.1") ","
	    ONE("1", "Country", "XX") "," ONE("2", "Ip", "192.0.2") ","
	    ONE("3", "Ip", "") "," ONE("4", "", "192.0.2.1") ","
	    "{\"id\":5,\"scope\":7,\"type\":\"ban\",\"value\":[],"
	    "\"duration\":{}},"
	    "{\"id\":6,\"scope\":\"Ip\",\"type\":\"ban\","
	    "\"value\":\"192.0.2.1\",\"duration\":\"soon\"},"
	    "{\"id\":7,\"scope\":\"Ip\",\"type\":\"throttle\","
	    "\"value\":\"192.0.2.1\",\"duration\":\"1h\"},"
	    "{\"id\":8,\"scope\":\"Ip\",\"type\":\"ban\","
	    "\"value\":\"192.0.2.1\",\"duration\":\"-1h\"},"
	    "{\"id\":9,\"scope\":\"Ip\",\"type\":\"Captcha\","
	    "\"value\":\"192.0.2.1\",\"duration\":\"1h\"}]}";
	struct error err = ERROR_INIT;
	struct crowdsec_answer a;

	(void)state;
	assert_int_equal(read_all(&a, text, 10, 3, true, &err), 0);
	assert_int_equal(a.ignored, 13);
	assert_int_equal(a.nfresh, 1);
	assert_string_equal(a.ignored_why, "a decision without a number");
	crowdsec_answer_done(&a);
}

static void
test_answers_over_the_maximum(void **state)
{
	struct buffer b = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct crowdsec_answer a;

	(void)state;
	buffer_add_str(&b, "{\"new\":[");
	for (int i = 0; i < 500; i++)
		buffer_printf(&b, "%s" ONE("%d", "Ip", "192.0.2.1"),
		    i != 0 ? "," : "", i);
	buffer_add_str(&b, "]}");
	assert_int_equal(read_all(&a, buffer_cstr(&b), 100, 7, true, &err), 0);
	assert_int_equal(a.nfresh, 100);
	assert_int_equal(a.left_out, 400);
	crowdsec_answer_done(&a);
	buffer_done(&b);
}

/* ---- sums ---- */

#define AFTER	5
#define WINDOW	MIN_US

static int
setup(void **state)
{
	struct crowdsec_tallies *all = new0(struct crowdsec_tallies);

	clock_set_virtual(1000 * USEC_PER_SEC, 5000 * USEC_PER_SEC);
	crowdsec_tallies_init(all);
	*state = all;
	return 0;
}

static int
teardown(void **state)
{
	crowdsec_tallies_done(*state);
	free(*state);
	clock_set_real();
	return 0;
}

/* How many alerts were due, and of how many events the last was. */
static unsigned last_events;

static unsigned
happens(struct crowdsec_tallies *all, enum security_kind kind, const char *ip,
    const char *sender, unsigned times)
{
	struct security_event e = { .kind = kind, .src_ip = ip,
		.sender = slice_of(sender), .reason = SLICE("because"),
		.queue = SLICE("jobs") };
	struct crowdsec_alert *a;
	unsigned n = 0;

	while (times-- != 0) {
		a = crowdsec_tally(all, &e, AFTER);
		if (a == NULL)
			continue;
		n++;
		last_events = a->events;
		assert_int_equal(a->kind, kind);
		assert_int_equal(a->sender, ip == NULL);
		assert_string_equal(a->value, ip != NULL ? ip : sender);
		assert_string_equal(a->reason, "because");
		free(a);
	}
	return n;
}

static unsigned
over(struct crowdsec_tallies *all)
{
	struct crowdsec_alert *a;
	unsigned n = 0;

	while ((a = crowdsec_tally_over(all, AFTER, WINDOW)) != NULL) {
		n++;
		last_events = a->events;
		free(a);
	}
	return n;
}

static void
test_sums_of_a_window(void **state)
{
	struct crowdsec_tallies *all = *state;

	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, "192.0.2.1", "",
	    4), 0);
	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, "192.0.2.2", "",
	    4), 0);
	assert_int_equal(happens(all, SECURITY_MESSAGE_FLOOD, NULL,
	    "192.0.2.1", 4), 0);
	assert_int_equal(happens(all, SECURITY_MESSAGE_SUSPICIOUS, NULL,
	    "192.0.2.1", 4), 0);
	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, "192.0.2.1", "",
	    1), 1);
	assert_int_equal(last_events, 5);
	/* One is enough; what follows comes at the end. */
	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, "192.0.2.1", "",
	    1000), 0);
	assert_int_equal(over(all), 0);
	clock_advance(WINDOW);
	assert_int_equal(over(all), 1);
	assert_int_equal(last_events, 1000);
	/* Nothing is left of that window, of nobody. */
	assert_int_equal(all->hash.count, 0);
	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, "192.0.2.2", "",
	    4), 0);
}

static void
test_few_are_no_alert(void **state)
{
	struct crowdsec_tallies *all = *state;

	for (int i = 0; i < 50; i++) {
		assert_int_equal(over(all), 0);
		assert_int_equal(happens(all, SECURITY_MESSAGE_AUTH_FAILED,
		    NULL, "mallory", 1), 0);
		clock_advance(WINDOW / 4);
	}
	/* Five, and four more. */
	clock_advance(WINDOW);
	assert_int_equal(over(all), 0);
	assert_int_equal(happens(all, SECURITY_MESSAGE_AUTH_FAILED, NULL,
	    "mallory", 9), 1);
	clock_advance(WINDOW);
	assert_int_equal(over(all), 0);
}

static void
test_events_about_nobody(void **state)
{
	struct crowdsec_tallies *all = *state;

	static const char *const own[] = { "127.0.0.1", "127.9.9.9", "::1",
		"10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.0.1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "-",
		"nonsense" };
	static const char *const others[] = { "192.0.2.1", "172.15.0.1",
		"172.32.0.1", "192.167.0.1", "11.0.0.1", "2001:db8::1",
		"::ffff:192.0.2.1" };

	assert_int_equal(happens(all, SECURITY_AUTH_FAILED, NULL, "", 100), 0);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		assert_int_equal(happens(all, SECURITY_AUTH_FAILED, own[i], "",
		    100), 0);
	assert_int_equal(all->hash.count, 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_int_equal(happens(all, SECURITY_AUTH_FAILED, others[i],
		    "", 5), 1);
}

static void
test_sums_are_bounded(void **state)
{
	struct crowdsec_tallies *all = *state;
	char name[32];

	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "sender-%u", i);
		assert_int_equal(happens(all, SECURITY_MESSAGE_FLOOD, NULL,
		    name, 1), 0);
	}
	assert_int_equal(all->hash.count, 1000);
	assert_int_equal(happens(all, SECURITY_MESSAGE_FLOOD, NULL,
	    "sender-4999", 4), 1);
	assert_int_equal(happens(all, SECURITY_MESSAGE_FLOOD, NULL,
	    "sender-1", 4), 0);
}

int
main(void)
{
#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_answers_without_changes),
		cmocka_unit_test(test_answers_that_are_none),
		cmocka_unit_test(test_decisions_that_are_none),
		cmocka_unit_test(test_answers_over_the_maximum),
		T(test_sums_of_a_window),
		T(test_few_are_no_alert),
		T(test_events_about_nobody),
		T(test_sums_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
