/*
 * guard/bans: who is banned, and until when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/macros.h"
#include "guard/bans.h"

#define HOUR	(3600 * USEC_PER_SEC)

static int
setup(void **state)
{
	clock_set_virtual(1000 * USEC_PER_SEC, 0);
	*state = bans_new(1000);
	return 0;
}

static int
teardown(void **state)
{
	bans_free(*state);
	clock_set_real();
	return 0;
}

static bool
put(struct bans *b, uint64_t id, enum ban_scope scope, const char *value,
    uint64_t us)
{
	struct error err = ERROR_INIT;
	struct ban *one = ban_new(id, scope, slice_of(value), us, &err);

	if (one == NULL)
		fail_msg("%s: %s", value, err.text);
	return bans_put(b, one);
}

static bool
is_value(enum ban_scope scope, const char *value)
{
	struct error err = ERROR_INIT;
	struct ban *one = ban_new(1, scope, slice_of(value), HOUR, &err);

	if (one == NULL) {
		assert_int_equal(err.class, ERROR_REJECTED);
		return false;
	}
	ban_free(one);
	return true;
}

/* Is a connection from there refused? */
static bool
from(const struct bans *b, const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		return bans_address(b, (struct sockaddr *)&in);
	assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
	return bans_address(b, (struct sockaddr *)&in6);
}

static bool
sent_by(const struct bans *b, const char *name)
{
	return bans_sender(b, slice_of(name));
}

static void
test_addresses(void **state)
{
	struct bans *b = *state;

	assert_false(from(b, "192.0.2.1"));
	assert_true(put(b, 1, BAN_IP, "192.0.2.1", HOUR));
	assert_true(put(b, 2, BAN_IP, "2001:db8::1", HOUR));
	assert_true(from(b, "192.0.2.1"));
	assert_true(from(b, "2001:db8::1"));
	assert_true(from(b, "2001:0DB8:0::0:1"));
	assert_false(from(b, "192.0.2.2"));
	assert_false(from(b, "2001:db8::2"));
	/* The same bytes at the front of the other family. */
	assert_false(from(b, "c000:201::"));
	assert_int_equal(bans_count(b, BAN_IP), 2);
	assert_int_equal(bans_total(b), 2);
}

static void
test_ipv4_in_ipv6_is_that_ipv4(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_IP, "192.0.2.1", HOUR);
	put(b, 2, BAN_IP, "::ffff:192.0.2.2", HOUR);
	put(b, 3, BAN_RANGE, "::ffff:198.51.100.0/120", HOUR);
	assert_true(from(b, "::ffff:192.0.2.1"));
	assert_true(from(b, "192.0.2.2"));
	assert_true(from(b, "::ffff:192.0.2.2"));
	assert_true(from(b, "198.51.100.77"));
	assert_true(from(b, "::ffff:198.51.100.77"));
	assert_false(from(b, "198.51.101.77"));
	/* All of IPv6 is not all of IPv4, nor the other way round. */
	put(b, 4, BAN_RANGE, "::/0", HOUR);
	assert_true(from(b, "2001:db8::1"));
	assert_false(from(b, "203.0.113.1"));
	assert_false(from(b, "::ffff:203.0.113.1"));
	bans_clear(b);
	put(b, 5, BAN_RANGE, "0.0.0.0/0", HOUR);
	assert_true(from(b, "203.0.113.1"));
	assert_true(from(b, "::ffff:203.0.113.1"));
	assert_false(from(b, "2001:db8::1"));
}

static void
test_ranges(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_RANGE, "192.0.2.128/25", HOUR);
	put(b, 2, BAN_RANGE, "2001:db8:8000::/33", HOUR);
	/* Bits behind the prefix do not count. */
	put(b, 3, BAN_RANGE, "198.51.100.77/30", HOUR);
	put(b, 4, BAN_RANGE, "203.0.113.7", HOUR);
	assert_true(from(b, "192.0.2.128"));
	assert_true(from(b, "192.0.2.255"));
	assert_false(from(b, "192.0.2.127"));
	assert_false(from(b, "192.0.3.128"));
	assert_true(from(b, "2001:db8:8000::"));
	assert_true(from(b, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
	assert_false(from(b, "2001:db8:7fff::"));
	assert_true(from(b, "198.51.100.76"));
	assert_true(from(b, "198.51.100.79"));
	assert_false(from(b, "198.51.100.75"));
	assert_false(from(b, "198.51.100.80"));
	assert_true(from(b, "203.0.113.7"));
	assert_false(from(b, "203.0.113.6"));
	assert_int_equal(bans_count(b, BAN_RANGE), 4);
}

static void
test_ranges_that_overlap(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_RANGE, "10.0.0.0/8", HOUR);
	put(b, 2, BAN_RANGE, "10.1.0.0/16", 2 * HOUR);
	put(b, 3, BAN_IP, "10.1.2.3", 3 * HOUR);
	bans_remove(b, 2);
	assert_true(from(b, "10.1.9.9"));		/* by 1 */
	bans_remove(b, 1);
	assert_false(from(b, "10.1.9.9"));
	assert_true(from(b, "10.1.2.3"));
	put(b, 1, BAN_RANGE, "10.0.0.0/8", HOUR);
	put(b, 2, BAN_RANGE, "10.1.0.0/16", 2 * HOUR);
	/* The wide one ends first: the narrow one stays. */
	clock_advance(HOUR);
	assert_false(from(b, "10.9.9.9"));
	assert_true(from(b, "10.1.9.9"));
	assert_false(bans_expire(b, 10));
	assert_int_equal(bans_total(b), 2);
	clock_advance(HOUR);
	assert_false(from(b, "10.1.9.9"));
	assert_true(from(b, "10.1.2.3"));
}

static void
test_same_value_twice(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_IP, "192.0.2.1", HOUR);
	put(b, 2, BAN_IP, "192.0.2.1", 2 * HOUR);
	put(b, 3, BAN_RANGE, "192.0.2.1/32", 3 * HOUR);
	put(b, 4, BAN_SENDER, "mallory", HOUR);
	put(b, 5, BAN_SENDER, "mallory", HOUR);
	assert_int_equal(bans_total(b), 5);
	bans_remove(b, 2);
	assert_true(from(b, "192.0.2.1"));
	bans_remove(b, 2);
	bans_remove(b, 99);
	bans_remove(b, 1);
	assert_true(from(b, "192.0.2.1"));
	bans_remove(b, 3);
	assert_false(from(b, "192.0.2.1"));
	bans_remove(b, 4);
	assert_true(sent_by(b, "mallory"));
	bans_remove(b, 5);
	assert_false(sent_by(b, "mallory"));
	assert_int_equal(bans_total(b), 0);
}

static void
test_same_number_again_replaces(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_IP, "192.0.2.1", HOUR);
	put(b, 1, BAN_IP, "192.0.2.1", 3 * HOUR);
	assert_int_equal(bans_total(b), 1);
	clock_advance(2 * HOUR);
	assert_true(from(b, "192.0.2.1"));
	put(b, 1, BAN_SENDER, "192.0.2.1", HOUR);
	assert_false(from(b, "192.0.2.1"));
	assert_true(sent_by(b, "192.0.2.1"));
	assert_int_equal(bans_count(b, BAN_IP), 0);
	assert_int_equal(bans_count(b, BAN_SENDER), 1);
}

static void
test_ends(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_IP, "192.0.2.1", 10 * USEC_PER_SEC);
	put(b, 2, BAN_SENDER, "mallory", 11 * USEC_PER_SEC);
	put(b, 3, BAN_IP, "192.0.2.2", 0);
	put(b, 4, BAN_IP, "192.0.2.3", USEC_INFINITY);
	assert_false(from(b, "192.0.2.2"));
	clock_advance(10 * USEC_PER_SEC - 1);
	assert_true(from(b, "192.0.2.1"));
	clock_advance(1);
	/* Nobody has cleaned up: it has ended all the same. */
	assert_false(from(b, "192.0.2.1"));
	assert_true(sent_by(b, "mallory"));
	assert_int_equal(bans_total(b), 4);
	assert_true(bans_expire(b, 1));
	assert_false(bans_expire(b, 1));
	assert_int_equal(bans_total(b), 2);
	clock_advance(100 * 365 * 24 * HOUR);
	assert_false(bans_expire(b, 10));
	assert_true(from(b, "192.0.2.3"));
	assert_int_equal(bans_total(b), 1);
}

static void
test_senders(void **state)
{
	struct bans *b = *state;
	char name[400];

	put(b, 1, BAN_SENDER, "mallory", HOUR);
	assert_true(sent_by(b, "mallory"));
	assert_false(sent_by(b, "Mallory"));
	assert_false(sent_by(b, "mallor"));
	assert_false(sent_by(b, ""));
	/* As the log shows it, and as a person types it. */
	put(b, 2, BAN_SENDER, "eve?x", HOUR);
	put(b, 3, BAN_SENDER, "J\xc3\xb6" "rg M", HOUR);
	assert_true(sent_by(b, "eve\"x"));
	assert_true(sent_by(b, "eve x"));
	assert_true(sent_by(b, "J\xc3\xb6" "rg M"));
	/* What the line cuts off, a ban cannot know. */
	memset(name, 'a', sizeof(name));
	name[399] = '\0';
	put(b, 4, BAN_SENDER, name, HOUR);
	name[390] = 'b';
	assert_true(sent_by(b, name));
	name[3] = 'b';
	assert_false(sent_by(b, name));
}

static void
test_values_that_are_none(void **state)
{
	static const char *const bad[] = { "", "/", "192.0.2", "192.0.2.256",
		"192.0.2.1/", "192.0.2.1/33", "192.0.2.1/-1", "192.0.2.1/+1",
		"192.0.2.1/1x", "192.0.2.1/0032", "192.0.2.1 ", "::1/129",
		"fe80::1%eth0", "::ffff:192.0.2.0/95", "example.org",
		"[::1]", "192.0.2.1:80", "1/2/3",
		"2001:db8:0000:0000:0000:0000:0000:0000:0000:0000:0000/32",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (is_value(BAN_RANGE, bad[i]) || is_value(BAN_IP, bad[i]))
			fail_msg("\"%s\" was taken", bad[i]);
	}
	assert_false(is_value(BAN_SENDER, ""));
	assert_true(is_value(BAN_RANGE, "192.0.2.0/0"));
	assert_true(is_value(BAN_RANGE, "2001:db8::/128"));
	assert_true(is_value(BAN_RANGE, "::ffff:192.0.2.0/96"));
	assert_true(is_value(BAN_IP,
	    "2001:0db8:0000:0000:0000:0000:192.100.200.255"));
}

static void
test_loopback_is_never_refused(void **state)
{
	struct bans *b = *state;
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	put(b, 1, BAN_IP, "127.0.0.1", HOUR);
	put(b, 2, BAN_IP, "::1", HOUR);
	put(b, 3, BAN_RANGE, "0.0.0.0/0", HOUR);
	put(b, 4, BAN_RANGE, "::/0", HOUR);
	assert_false(from(b, "127.0.0.1"));
	assert_false(from(b, "127.255.0.9"));
	assert_false(from(b, "::ffff:127.0.0.1"));
	assert_false(from(b, "::1"));
	assert_true(from(b, "128.0.0.1"));
	assert_true(from(b, "::2"));
	assert_false(bans_address(b, (struct sockaddr *)&un));
	assert_false(bans_address(b, NULL));
}

static void
test_past_the_maximum(void **state)
{
	struct bans *b = *state;

	bans_set_max(b, 2);
	assert_true(put(b, 1, BAN_IP, "192.0.2.1", HOUR));
	assert_true(put(b, 2, BAN_IP, "192.0.2.2", 2 * HOUR));
	assert_false(put(b, 3, BAN_IP, "192.0.2.3", HOUR));
	assert_int_equal(bans_left_out(b), 1);
	assert_true(from(b, "192.0.2.1"));
	assert_false(from(b, "192.0.2.3"));
	/* What is there already is no newcomer. */
	assert_true(put(b, 2, BAN_IP, "192.0.2.2", 3 * HOUR));
	clock_advance(HOUR);
	assert_false(bans_expire(b, 9));
	assert_true(put(b, 3, BAN_IP, "192.0.2.3", HOUR));
	bans_set_max(b, 1);
	assert_int_equal(bans_total(b), 2);
	assert_false(put(b, 4, BAN_IP, "192.0.2.4", HOUR));
}

static void
test_a_new_whole(void **state)
{
	struct bans *b = *state;

	put(b, 1, BAN_IP, "192.0.2.1", HOUR);
	put(b, 2, BAN_IP, "192.0.2.2", HOUR);
	put(b, 3, BAN_SENDER, "mallory", HOUR);
	bans_renew(b);
	put(b, 2, BAN_IP, "192.0.2.2", HOUR);
	put(b, 4, BAN_IP, "192.0.2.4", HOUR);
	/* Nobody slips through meanwhile. */
	assert_true(from(b, "192.0.2.1"));
	assert_true(bans_sweep(b, 1));
	assert_false(bans_sweep(b, 1));
	assert_false(from(b, "192.0.2.1"));
	assert_true(from(b, "192.0.2.2"));
	assert_true(from(b, "192.0.2.4"));
	assert_false(sent_by(b, "mallory"));
	assert_int_equal(bans_total(b), 2);
	/* The old ones do not keep the new ones out. */
	bans_set_max(b, 2);
	bans_renew(b);
	assert_true(put(b, 5, BAN_IP, "192.0.2.5", HOUR));
	assert_true(put(b, 6, BAN_IP, "192.0.2.6", HOUR));
	assert_false(put(b, 7, BAN_IP, "192.0.2.7", HOUR));
	assert_false(bans_sweep(b, 9));
	assert_true(from(b, "192.0.2.5"));
	assert_true(from(b, "192.0.2.6"));
	/* An empty one. */
	bans_renew(b);
	assert_false(bans_sweep(b, 9));
	assert_int_equal(bans_total(b), 0);
}

static void
test_many(void **state)
{
	struct bans *b = *state;
	char text[64];

	bans_set_max(b, 30000);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(text, sizeof(text), "%u.%u.%u.%u", 20 + i % 7,
		    i >> 16 & 255, i >> 8 & 255, i & 255);
		put(b, i, BAN_IP, text, (1 + i % 100) * USEC_PER_SEC);
	}
	for (unsigned bits = 8; bits <= 32; bits++) {
		snprintf(text, sizeof(text), "60.0.0.%u/%u", bits, bits);
		put(b, 20000 + bits, BAN_RANGE, text, HOUR);
	}
	assert_int_equal(bans_total(b), 20025);
	assert_true(from(b, "20.0.0.0"));
	assert_true(from(b, "60.255.1.1"));
	assert_false(from(b, "61.0.0.1"));
	for (unsigned i = 0; i < 20000; i += 2)
		bans_remove(b, i);
	assert_false(from(b, "20.0.0.0"));
	clock_advance(50 * USEC_PER_SEC);
	while (bans_expire(b, 100))
		;
	assert_int_equal(bans_total(b), 5000 + 25);
	/* 20099: ends after 100 s and has an odd number. */
	snprintf(text, sizeof(text), "%u.0.78.%u", 20 + 19999 % 7, 19999 & 255);
	assert_true(from(b, text));
}

int
main(void)
{
#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_addresses),
		T(test_ipv4_in_ipv6_is_that_ipv4),
		T(test_ranges),
		T(test_ranges_that_overlap),
		T(test_same_value_twice),
		T(test_same_number_again_replaces),
		T(test_ends),
		T(test_senders),
		T(test_values_that_are_none),
		T(test_loopback_is_never_refused),
		T(test_past_the_maximum),
		T(test_a_new_whole),
		T(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
