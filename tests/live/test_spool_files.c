/*
 * The spool: what producers do to it, and very many files.
 */
#include "spool_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- writers ---- */

static void
test_an_open_file_is_not_taken_before_it_is_closed(void **state)
{
	struct rig *r = rig_new(state);
	int fd, second;

	rig_start(r);
	credit(r, 10);
	fd = open(at(r, "new/slow"), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	assert_int_equal(write(fd, "half", 4), 4);
	run_idle(r);
	assert_int_equal(r->delivered, 0);
	/* Nor after a reading, nor while a second one writes. */
	spool_want(spool(r), SPOOL_BIT(SPOOL_NEW));
	run_idle(r);
	second = open(at(r, "new/slow"), O_WRONLY | O_CLOEXEC);
	(void)close(second);
	run_idle(r);
	assert_int_equal(r->delivered, 0);
	assert_int_equal(write(fd, " whole", 6), 6);
	(void)close(fd);
	wait_for(r, r->delivered == 1);
	assert_true(slice_is(r->held[0]->body, "half whole"));
	rig_done(r);
}

static void
test_an_open_file_is_not_taken_at_the_start(void **state)
{
	struct rig *r = rig_new(state);
	int fd;

	rig_start(r);
	rig_stop(r);
	fd = open(at(r, "new/slow"), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	rig_open(r, r->path, NULL);
	rig_start(r);
	credit(r, 10);
	run_idle(r);
	assert_int_equal(r->delivered, 0);
	(void)close(fd);
	wait_for(r, r->delivered == 1);
	rig_done(r);
}

static void
test_a_file_that_is_linked_in_is_found(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	credit(r, 10);
	write_at(at(r, "tmp/x"), "linked");
	assert_int_equal(link(at(r, "tmp/x"), at(r, "new/x")), 0);
	assert_int_equal(unlink(at(r, "tmp/x")), 0);
	wait_for(r, r->delivered == 1);
	rig_done(r);
}

static void
test_names_that_are_taken_already(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	/* Three of one name, held at once; then all dead, then all retried. */
	for (int i = 0; i < 3; i++) {
		char body[2] = { (char)('0' + i), '\0' };

		put(r, "same.envelope", body);
		unlink(at(r, "new/same.envelope"));
		put(r, "same", body);
		(void)take_one(r);
	}
	assert_int_equal(count_in(r, "cur"), 3);
	for (int i = 0; i < 3; i++)
		settle_and_wait(r, r->held[0], SETTLE_RETRY, 1000);
	for (int i = 0; i < 3; i++)
		(void)take_one(r);
	for (int i = 0; i < 3; i++)
		settle_and_wait(r, r->held[0], SETTLE_BURY, 0);
	for (int i = 0; i < 3; i++) {
		put(r, "same", "x");
		settle_and_wait(r, take_one(r), SETTLE_BURY, 0);
	}
	assert_int_equal(count_in(r, "dead"), 12);
	assert_int_equal(count_in(r, "cur"), 0);
	rig_done(r);
}

static void
test_a_held_file_that_somebody_took_away(void **state)
{
	struct rig *r = rig_new(state);
	struct message *a, *b;

	rig_start(r);
	put(r, "x", "first");
	a = take_one(r);
	assert_int_equal(unlink(at(r, "cur/x")), 0);
	put(r, "x", "second");
	b = take_one(r);
	assert_true(slice_is(b->body, "second"));
	settle(r, a, SETTLE_ACK, 0);
	wait_for(r, r->settled == 1);
	assert_int_equal(r->settle_errors, 1);
	assert_string_equal(r->settle_error.code, "gone");
	/* It did not cost the other one its file, nor the queue its life. */
	assert_int_equal(count_in(r, "cur"), 1);
	assert_int_equal(r->downs, 0);
	settle_and_wait(r, b, SETTLE_ACK, 0);
	rig_done(r);
}

static void
test_a_file_that_was_replaced_is_the_new_one(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	put(r, "x", "old");
	run_idle(r);
	put(r, "x", "new");
	credit(r, 5);
	wait_for(r, r->delivered == 1);
	run_idle(r);
	assert_int_equal(r->delivered, 1);
	assert_true(slice_is(r->held[0]->body, "new"));
	rig_done(r);
}

/* ---- hostile ---- */

static void
test_hostile_names(void **state)
{
	struct rig *r = rig_new(state);
	char longest[256], suffixed[256];
	const char *names[] = { "new\nline \x1b[31m", "\xc3\xa4\xe2\x82\xac",
		"\xff\xfe", ":a1,c0", "x:a999999,c999999", "x.json", ".json~",
		"x y", "%s%n", "-rf", longest, suffixed };
	unsigned n = ARRAY_SIZE(names) - 1;	/* .json~ is hidden */
	static const enum settlement_kind kinds[] = { SETTLE_RELEASE,
		SETTLE_RETRY, SETTLE_BURY };

	memset(longest, 'l', 255);
	longest[255] = '\0';
	memset(suffixed, 's', 255);
	memcpy(suffixed + 249, ":a7,c1", 7);
	rig_start(r);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		put(r, names[i], names[i]);
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		credit(r, 100);
		wait_for(r, r->nheld == n);
		credit(r, 0);
		for (unsigned i = 0; i < n; i++)
			for (size_t c = 0; c < r->held[i]->name.n; c++)
				assert_true((unsigned char)
				    r->held[i]->name.p[c] >= 0x20);
		while (r->nheld > 0)
			settle(r, r->held[0], kinds[k], 1000);
		wait_for(r, r->settled == n * (k + 1));
		assert_int_equal(r->settle_errors, 0);
	}
	assert_int_equal(probe(r)->dead, n);
	assert_int_equal(count_in(r, "dead"), 2 * n);
	/* Each body is still its own, and all come back. */
	{
		struct walking w;
		unsigned seen = 0;

		walk_open(r, &w);
		while (walk_next(r, &w)) {
			for (size_t i = 0; i < ARRAY_SIZE(names); i++)
				seen += slice_is(w.item.body, names[i]);
			for (size_t c = 0; c < w.item.id.n; c++)
				assert_in_range(w.item.id.p[c], 0x21, 0x7e);
			walk_act(r, &w, DEAD_REDRIVE);
		}
		r->ops->dead_close(&r->q, &w.walk);
		assert_int_equal(seen, n);
	}
	assert_int_equal(probe(r)->waiting, n);
	assert_int_equal(count_in(r, "dead"), 0);
	rig_done(r);
}

static void
test_what_is_no_regular_file_is_dead(void **state)
{
	struct rig *r = rig_new(state);
	struct walking w;

	rig_start(r);
	write_at(at(r, "secret"), "nobody's business");
	assert_int_equal(symlink(at(r, "secret"), at(r, "new/link")), 0);
	assert_int_equal(mkdir(at(r, "new/dir"), 0750), 0);
	assert_int_equal(mkfifo(at(r, "new/fifo"), 0640), 0);
	put(r, "good", "x");
	credit(r, 10);
	wait_for(r, r->malformed == 3 && r->delivered == 1 && r->settled == 3);
	assert_true(is_there(r, "secret"));
	assert_int_equal(probe(r)->dead, 3);
	walk_open(r, &w);
	while (walk_next(r, &w)) {
		assert_int_equal(w.item.body.n, 0);
		walk_act(r, &w, DEAD_PURGE);
	}
	r->ops->dead_close(&r->q, &w.walk);
	assert_int_equal(count_in(r, "dead"), 0);
	assert_true(is_there(r, "secret"));
	rig_done(r);
}

/* ---- many ---- */

static unsigned expected;

static void
expect_next(struct rig *r, struct message *m)
{
	char body[16];

	snprintf(body, sizeof(body), "%u", expected++);
	assert_true(slice_is(m->body, body));
	acknowledge(r, m);
}

static void
test_twenty_thousand_files_in_order(void **state)
{
	struct rig *r = rig_new(state);
	struct loop_stats stats;
	uint64_t start;

	rig_start(r);
	rig_stop(r);
	make_files(r, 0, 20000);
	rig_open(r, r->path, NULL);
	rig_start(r);
	assert_int_equal(probe(r)->waiting, 20000);
	assert_true(r->backlog.oldest_us < 600 * USEC_PER_SEC);
	expected = 0;
	r->on_deliver = expect_next;
	start = clock_monotonic_us();
	credit(r, 100);
	wait_for(r, r->settled == 20000);
	loop_get_stats(r->loop, &stats);
	print_message("20000 files in %llu ms, longest callback %llu us (%s)\n",
	    (unsigned long long)(clock_monotonic_us() - start) / 1000,
	    (unsigned long long)stats.longest_callback_us, stats.longest_name);
	assert_int_equal(r->delivered, 20000);
	assert_int_equal(probe(r)->waiting, 0);
	assert_int_equal(count_in(r, "cur"), 0);
	rig_done(r);
}

/* More came while nobody turned the loop than the kernel keeps events for. */
static void
test_lost_events_are_made_up_for(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	(void)probe(r);
	make_files(r, 0, 20000);
	wait_for(r, (spool(r)->wanted & SPOOL_BIT(SPOOL_NEW)) != 0 ||
	    spool(r)->scanning == SPOOL_NEW);
	r->on_deliver = acknowledge;
	credit(r, 100);
	wait_for(r, r->settled == 20000);
	run_idle(r);
	assert_int_equal(r->delivered, 20000);
	assert_int_equal(count_in(r, "new"), 0);
	rig_done(r);
}

static void
test_a_small_window_sees_everything(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	(void)probe(r);
	spool(r)->window_max = 16;
	spool_scan_stop(spool(r));
	spool_want(spool(r), SPOOL_BIT(SPOOL_CUR) | SPOOL_BIT(SPOOL_DEAD) |
	    SPOOL_BIT(SPOOL_DELAYED) | SPOOL_BIT(SPOOL_NEW));
	make_files(r, 0, 500);
	assert_int_equal(probe(r)->waiting, 500);
	assert_false(spool(r)->waiting.complete);
	r->on_deliver = acknowledge;
	credit(r, 5);
	make_files(r, 1000, 100);
	wait_for(r, r->settled == 600);
	assert_int_equal(probe(r)->waiting, 0);
	/* And delayed/, which has a window too. */
	r->on_deliver = NULL;
	make_files(r, 0, 100);
	credit(r, 100);
	wait_for(r, r->nheld == 100);
	while (r->nheld > 0)
		settle(r, r->held[0], SETTLE_RETRY, USEC_PER_SEC / 2 +
		    r->nheld * 1000);
	wait_for(r, r->settled == 700);
	assert_int_equal(probe(r)->delayed, 100);
	r->on_deliver = acknowledge;
	credit(r, 100);
	wait_for(r, r->settled == 800);
	assert_int_equal(probe(r)->delayed, 0);
	rig_done(r);
}

static void
test_what_others_remove_is_not_counted_for_long(void **state)
{
	struct rig *r = rig_new(state);
	static const char *const names[] = { "d1", "d2" };

	rig_start(r);
	bury_some(r, names, 2);
	put(r, "a", "x");
	put(r, "b", "x");
	wait_for(r, probe(r)->waiting == 2);
	spool(r)->rescan_us = 50 * USEC_PER_MSEC;
	timer_arm(r->loop, &spool(r)->rescan_timer, 0);
	assert_int_equal(unlink(at(r, "new/a")), 0);
	assert_int_equal(unlink(at(r, "dead/d1")), 0);
	wait_for(r, probe(r)->waiting == 1 && r->backlog.dead == 1);
	rig_done(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_an_open_file_is_not_taken_before_it_is_closed),
		cmocka_unit_test(test_an_open_file_is_not_taken_at_the_start),
		cmocka_unit_test(test_a_file_that_is_linked_in_is_found),
		cmocka_unit_test(test_names_that_are_taken_already),
		cmocka_unit_test(test_a_held_file_that_somebody_took_away),
		cmocka_unit_test(test_a_file_that_was_replaced_is_the_new_one),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_what_is_no_regular_file_is_dead),
		cmocka_unit_test(test_twenty_thousand_files_in_order),
		cmocka_unit_test(test_lost_events_are_made_up_for),
		cmocka_unit_test(test_a_small_window_sees_everything),
		cmocka_unit_test(
		    test_what_others_remove_is_not_counted_for_long),
	};

	rig_quiet();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
