/*
 * The spool: the way of a message, dead letters, enqueueing.
 */
#include "spool_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- the way of a message ---- */

static void
test_a_file_moved_in_is_delivered_and_acknowledged(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;

	rig_start(r);
	put(r, "hello", "the body");
	m = take_one(r);
	assert_true(slice_is(m->body, "the body"));
	assert_true(slice_is(m->name, "hello"));
	assert_true(attribute_is(m, "file", "hello"));
	assert_true(attribute_is(m, "size", "8"));
	assert_non_null(message_attribute(m, "mtime"));
	assert_int_equal(m->attempt, 1);
	assert_int_equal(m->crashes, 0);
	assert_true(m->lease_until_us == USEC_INFINITY);
	assert_true(clock_realtime_us() - m->enqueued_us < 60 * USEC_PER_SEC);
	assert_true(is_there(r, "cur/hello"));
	settle_and_wait(r, m, SETTLE_ACK, 0);
	assert_int_equal(count_in(r, "cur"), 0);
	assert_int_equal(count_in(r, "new"), 0);
	rig_done(r);
}

static void
test_nothing_is_taken_without_credit(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	for (int i = 0; i < 5; i++) {
		char name[2] = { (char)('0' + i), '\0' };

		put(r, name, "x");
	}
	run_idle(r);
	assert_int_equal(r->delivered, 0);
	assert_int_equal(probe(r)->waiting, 5);
	credit(r, 2);
	wait_for(r, r->delivered == 2);
	run_idle(r);
	assert_int_equal(r->delivered, 2);
	assert_int_equal(probe(r)->waiting, 3);
	rig_done(r);
}

static void
test_the_order_is_that_of_the_names(void **state)
{
	struct rig *r = rig_new(state);
	static const char *const names[] = { "c", "a", "B", "b1", "b0" };
	static const char *const order[] = { "B", "a", "b0", "b1", "c" };

	rig_start(r);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		put(r, names[i], names[i]);
	run_idle(r);
	credit(r, 10);
	wait_for(r, r->delivered == 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(slice_is(r->held[i]->body, order[i]));
	rig_done(r);
}

static void
test_a_retry_waits_and_comes_back_with_its_counts(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;
	uint64_t start;

	rig_start(r);
	put(r, "job", "x");
	m = take_one(r);
	m->crashes = 1;
	start = clock_monotonic_us();
	settle_and_wait(r, m, SETTLE_RETRY, 300 * USEC_PER_MSEC);
	assert_int_equal(count_in(r, "delayed"), 1);
	assert_int_equal(probe(r)->delayed, 1);
	assert_int_equal(r->backlog.waiting, 0);
	m = take_one(r);
	assert_true(clock_monotonic_us() - start >= 299 * USEC_PER_MSEC);
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	assert_true(slice_is(m->name, "job"));
	/* The soonest first, whatever was given back first. */
	settle_and_wait(r, m, SETTLE_RETRY, 3600 * USEC_PER_SEC);
	put(r, "other", "y");
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RETRY, 10 * USEC_PER_MSEC);
	m = take_one(r);
	assert_true(slice_is(m->name, "other"));
	assert_int_equal(probe(r)->delayed, 1);
	rig_done(r);
}

static void
test_a_release_keeps_the_counts_and_comes_at_once(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;

	rig_start(r);
	put(r, "job:a3,c1", "x");
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	assert_int_equal(m->crashes, 1);
	settle_and_wait(r, m, SETTLE_RELEASE, 0);
	assert_true(is_there(r, "new/job:a3,c1"));
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	rig_done(r);
}

static void
test_what_a_dead_operator_held_comes_back(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;

	rig_start(r);
	put(r, "a:a2,c1", "x");
	m = take_one(r);
	assert_int_equal(link(at(r, "cur/a:a2,c1"), at(r, "copy")), 0);
	settle_and_wait(r, m, SETTLE_ACK, 0);
	rig_stop(r);
	/* As if it had died: the file is in cur/, the name in new/ is used. */
	assert_int_equal(rename(at(r, "copy"), at(r, "cur/a:a2,c1")), 0);
	write_at(at(r, "new/a:a2,c1"), "another");
	rig_open(r, r->path, NULL);
	rig_start(r);
	credit(r, 10);
	wait_for(r, r->delivered == 2);
	assert_int_equal(r->held[0]->attempt, 2);
	assert_int_equal(r->held[1]->attempt, 2);
	assert_int_equal(r->held[1]->crashes, 1);
	assert_false(slice_eq(r->held[0]->body, r->held[1]->body));
	rig_done(r);
}

static void
test_old_leftovers_in_tmp_go(void **state)
{
	struct rig *r = rig_new(state);
	struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };

	rig_start(r);
	write_at(at(r, "tmp/old"), "x");
	write_at(at(r, "tmp/young"), "x");
	assert_int_equal(utimensat(AT_FDCWD, at(r, "tmp/old"), old, 0), 0);
	rig_again(r);
	(void)probe(r);
	assert_false(is_there(r, "tmp/old"));
	assert_true(is_there(r, "tmp/young"));
	rig_done(r);
}

/* ---- dead letters ---- */

static void
test_a_dead_letter_has_a_record(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;
	json_t *o;

	rig_start(r);
	put(r, "bad:a5,c2", "x");
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_BURY, 0);
	assert_true(is_there(r, "dead/bad"));
	o = record_of(r, "dead/bad.json");
	assert_string_equal(json_string_value(json_object_get(o, "queue")),
	    "jobs");
	assert_string_equal(json_string_value(json_object_get(o, "name")),
	    "bad");
	assert_string_equal(json_string_value(json_object_get(o, "error_type")),
	    "database");
	assert_string_equal(json_string_value(json_object_get(o, "detail")),
	    "why \"it\" failed");
	assert_int_equal(json_integer_value(json_object_get(o, "attempts")), 5);
	assert_int_equal(json_integer_value(json_object_get(o, "crashes")), 2);
	json_decref(o);
	assert_int_equal(probe(r)->dead, 1);
	rig_again(r);
	assert_int_equal(probe(r)->dead, 1);
	assert_int_equal(count_in(r, "tmp"), 0);
	rig_done(r);
}

static void
test_dead_letters_are_walked_redriven_and_purged(void **state)
{
	struct rig *r = rig_new(state);
	static const char *const names[] = { "b", "a.json", "c", "a" };
	struct walking w;
	struct message *m;

	rig_start(r);
	bury_some(r, names, ARRAY_SIZE(names));
	credit(r, 0);
	assert_int_equal(count_in(r, "dead"), 8);
	spool(r)->window_max = 2;	/* so that it has to read again */
	walk_open(r, &w);
	assert_true(walk_next(r, &w));
	assert_true(slice_is(w.item.name, "a"));
	assert_true(slice_is(w.item.body, "a"));
	assert_true(slice_is(w.item.error_type, "database"));
	assert_true(slice_is(w.item.detail, "why \"it\" failed"));
	assert_int_equal(w.item.attempts, 1);
	assert_true(clock_realtime_us() - w.item.died_us < 60 * USEC_PER_SEC);
	walk_act(r, &w, DEAD_PURGE);
	assert_true(walk_next(r, &w));
	assert_true(slice_is(w.item.name, "a.json"));
	walk_act(r, &w, DEAD_REDRIVE);
	assert_true(walk_next(r, &w));
	assert_true(slice_is(w.item.name, "b"));
	assert_true(walk_next(r, &w));
	assert_true(slice_is(w.item.name, "c"));
	assert_false(walk_next(r, &w));
	r->ops->dead_close(&r->q, &w.walk);
	assert_int_equal(probe(r)->dead, 2);
	assert_int_equal(count_in(r, "dead"), 4);
	m = take_one(r);
	assert_true(slice_is(m->name, "a.json"));
	assert_int_equal(m->attempt, 1);
	rig_done(r);
}

static void
test_a_walk_that_is_open_at_the_stop_is_answered(void **state)
{
	struct rig *r = rig_new(state);
	static const char *const names[] = { "a" };
	struct walking w;

	rig_start(r);
	bury_some(r, names, 1);
	walk_open(r, &w);
	r->ops->dead_next(&r->q, &w.walk);
	r->ops->stop(&r->q);
	wait_for(r, r->stopped && w.answered);
	assert_true(error_is_set(&w.err));
	r->ops->dead_close(&r->q, &w.walk);
	r->ops->fini(&r->q);
	loop_free(r->loop);
	rig_open(r, r->path, NULL);
	rig_start(r);
	rig_done(r);
}

static void
test_records_without_a_letter_go_others_stay(void **state)
{
	struct rig *r = rig_new(state);
	static const char *const names[] = { "a", "b" };

	rig_start(r);
	bury_some(r, names, 2);
	assert_int_equal(unlink(at(r, "dead/a")), 0);
	write_at(at(r, "dead/mine.json"), "{\"record\": \"my own\"}");
	rig_again(r);
	assert_int_equal(probe(r)->dead, 1);
	assert_false(is_there(r, "dead/a.json"));
	assert_true(is_there(r, "dead/b.json"));
	assert_true(is_there(r, "dead/mine.json"));
	/* And it is not written over either. */
	put(r, "mine", "x");
	settle_and_wait(r, take_one(r), SETTLE_BURY, 0);
	assert_true(is_there(r, "dead/mine.json"));
	assert_false(is_there(r, "dead/mine"));
	assert_int_equal(count_in(r, "dead"), 5);
	rig_done(r);
}

static void
test_the_dead_letters_may_lie_elsewhere(void **state)
{
	struct rig *r = rig_new(state);
	char dead[64], path[64];

	memcpy(path, r->path, sizeof(path));
	snprintf(dead, sizeof(dead), "%.50s-dead/a/b", path);
	r->ops->fini(&r->q);
	loop_free(r->loop);
	rig_open(r, path, dead);
	rig_start(r);
	put(r, "x", "x");
	settle_and_wait(r, take_one(r), SETTLE_BURY, 0);
	assert_int_equal(access(strcat(dead, "/x.json"), F_OK), 0);
	rig_stop(r);
	snprintf(dead, sizeof(dead), "%.50s-dead", path);
	remove_tree(dead);
	rig_open(r, path, "dead-jobs");
	assert_int_equal(r->problems, 1);
	r->ops->fini(&r->q);
	/* Only to check a configuration there is no loop. */
	r->q.loop = NULL;
	assert_int_equal(r->ops->init(&r->q, &(struct config){ 0 },
	    &(struct config_section){ path, NULL }), 0);
	r->ops->fini(&r->q);
	loop_free(r->loop);
	rig_open(r, path, NULL);
	rig_start(r);
	rig_done(r);
}

/* ---- enqueue ---- */

static void
test_enqueued_messages_carry_their_attributes(void **state)
{
	struct rig *r = rig_new(state);
	struct attribute attributes[] = { { SLICE("k"), SLICE("v\n\"w"), false },
		{ SLICE("n"), SLICE("[1,\n2]"), true },
		{ SLICE("size"), SLICE("large"), false } };
	struct enqueueing e, f;
	struct message *m;

	rig_start(r);
	enqueue(r, &e, "plain", NULL, 0);
	enqueue(r, &f, "line 1\nline 2", attributes, 3);
	assert_false(error_is_set(&e.err) || error_is_set(&f.err));
	assert_true(strcmp(e.id, f.id) < 0);
	m = take_one(r);
	assert_true(slice_is(m->name, e.id));
	assert_true(slice_is(m->body, "plain"));
	settle_and_wait(r, m, SETTLE_ACK, 0);
	m = take_one(r);
	assert_true(slice_is(m->name, f.id));
	assert_true(slice_is(m->body, "line 1\nline 2"));
	assert_true(attribute_is(m, "k", "v\n\"w"));
	assert_true(attribute_is(m, "n", "[1,2]"));
	assert_true(attribute_is(m, "size", "large"));
	assert_true(attribute_is(m, "file", f.id));
	assert_int_equal(m->nattributes, 5);
	/* Through a retry as well. */
	settle_and_wait(r, m, SETTLE_RETRY, 1);
	m = take_one(r);
	assert_true(attribute_is(m, "k", "v\n\"w"));
	assert_int_equal(m->attempt, 2);
	enqueue(r, &e, "", NULL, 0);
	assert_false(error_is_set(&e.err));
	rig_done(r);
}

static void
test_what_is_too_large_is_not_enqueued(void **state)
{
	struct rig *r = rig_new(state);
	struct enqueueing e;
	char body[1002];

	rig_start(r);
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	enqueue(r, &e, body, NULL, 0);
	assert_int_equal(e.err.class, ERROR_REJECTED);
	assert_int_equal(count_in(r, "tmp"), 0);
	/* Moved in all the same, it is dead at once. */
	put(r, "large", body);
	credit(r, 1);
	wait_for(r, r->malformed == 1);
	run_idle(r);
	assert_non_null(strstr(r->why, "MaxBytes=1000"));
	assert_true(is_there(r, "dead/large.json"));
	put(r, "bad.envelope", "no json\nbody");
	credit(r, 1);
	wait_for(r, r->malformed == 2);
	run_idle(r);
	assert_true(is_there(r, "dead/bad.envelope"));
	rig_done(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_a_file_moved_in_is_delivered_and_acknowledged),
		cmocka_unit_test(test_nothing_is_taken_without_credit),
		cmocka_unit_test(test_the_order_is_that_of_the_names),
		cmocka_unit_test(
		    test_a_retry_waits_and_comes_back_with_its_counts),
		cmocka_unit_test(
		    test_a_release_keeps_the_counts_and_comes_at_once),
		cmocka_unit_test(test_what_a_dead_operator_held_comes_back),
		cmocka_unit_test(test_old_leftovers_in_tmp_go),
		cmocka_unit_test(test_a_dead_letter_has_a_record),
		cmocka_unit_test(
		    test_dead_letters_are_walked_redriven_and_purged),
		cmocka_unit_test(
		    test_a_walk_that_is_open_at_the_stop_is_answered),
		cmocka_unit_test(test_records_without_a_letter_go_others_stay),
		cmocka_unit_test(test_the_dead_letters_may_lie_elsewhere),
		cmocka_unit_test(test_enqueued_messages_carry_their_attributes),
		cmocka_unit_test(test_what_is_too_large_is_not_enqueued),
	};

	rig_quiet();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
