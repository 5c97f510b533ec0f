/*
 * The RabbitMQ queue on a real server: walks over the dead letters, which may
 * be cut off anywhere; the backlog; putting in.
 */
#include "rabbit_rig.h"

#include <signal.h>
#include <stdio.h>

/* ---- walks ---- */

/* dN, dead after 5 attempts and a crash. */
static void
make_dead(struct rig *r, unsigned n)
{
	unsigned settled = r->settled;
	amqp_table_entry_t headers[] = { TEXT("kind", "mail") };

	r->window = n;
	for (unsigned i = 0; i < n; i++) {
		char body[16], id[16];
		struct sending s = { .key = "jobs", .properties = {
		    ._flags = AMQP_BASIC_HEADERS_FLAG |
		    AMQP_BASIC_MESSAGE_ID_FLAG, .headers = TABLE(headers) } };

		snprintf(body, sizeof(body), "d%u", i);
		snprintf(id, sizeof(id), "id-%u", i);
		s.body = slice_of(body);
		s.properties.message_id = BYTES(id);
		publish_as(&s);
	}
	wait_for(r, r->nheld == n);
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_BURY, 0, 5, 1);
	wait_for(r, r->settled == settled + n);
	assert_int_equal(r->settle_errors, 0);
	/* What is answered after the acknowledgements: they have arrived. */
	(void)probe(r);
	r->window = 0;
	credit(r, 0);
	wait_count("jobs.dead", n);
}

static void
dead_letters(enum durability kind)
{
	struct rig *r = up_declaring(kind, "", 0);
	struct walking w;
	char first[64] = "";
	unsigned n = 0;

	make_dead(r, 25);
	walk_open(r, &w);
	while (walk_next(r, &w)) {
		char body[16], id[16];

		snprintf(body, sizeof(body), "d%u", n);
		snprintf(id, sizeof(id), "id-%u", n++);
		assert_true(slice_is(w.item.body, body));
		assert_true(slice_is(w.item.name, id));
		assert_true(w.item.id.n != 0);
		assert_true(slice_is(w.item.error_type, "external_api"));
		assert_true(slice_is(w.item.detail, "it \"failed\"\n"));
		assert_int_equal(w.item.attempts, 5);
		assert_int_equal(w.item.crashes, 1);
		assert_true(w.item.died_us > 1700000000000000u);
		if (n == 3 || n == 13) {
			walk_act(r, &w, DEAD_PURGE);
			assert_false(error_is_set(&w.err));
		} else if (n == 4) {
			walk_act(r, &w, DEAD_REDRIVE);
			assert_false(error_is_set(&w.err));
		}
	}
	assert_false(error_is_set(&w.err));
	assert_int_equal(n, 25);
	walk_close(r, &w);
	wait_for(r, count("jobs.dead") == 22);
	credit(r, 10);
	wait_for(r, r->nheld == 1);
	assert_true(body_is(r->held[0], "d3"));
	assert_int_equal(r->held[0]->attempt, 1);
	assert_int_equal(r->held[0]->crashes, 0);
	assert_true(attribute_is(r->held[0], "kind", "mail"));
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	/* Looking changes neither what is there nor its order nor its ids. */
	for (int again = 0; again < 3; again++) {
		walk_open(r, &w);
		for (n = 0; walk_next(r, &w); n++) {
			if (n != 0)
				continue;
			assert_true(slice_is(w.item.body, "d0"));
			if (again != 0)
				assert_true(slice_is(w.item.id, first));
			snprintf(first, sizeof(first), "%.*s",
			    (int)w.item.id.n, w.item.id.p);
		}
		walk_close(r, &w);
		assert_int_equal(n, 22);
		wait_for(r, count("jobs.dead") == 22);
	}
	rig_free(r);
}

static void
test_dead_letters(void **state _unused_)
{
	NEED_SERVER();
	each_kind(dead_letters);
}

/* Acting twice on one is refused, and not done twice. */
static void
test_acting_twice(void **state _unused_)
{
	struct rig *r;
	struct walking w;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 0);
	make_dead(r, 2);
	walk_open(r, &w);
	assert_true(walk_next(r, &w));
	walk_act(r, &w, DEAD_REDRIVE);
	assert_false(error_is_set(&w.err));
	walk_act(r, &w, DEAD_REDRIVE);
	assert_true(error_is_set(&w.err));
	walk_close(r, &w);
	wait_for(r, count("jobs.dead") == 1);
	assert_int_equal(r->downs, 0);
	rig_free(r);
	wait_count("jobs", 1);
}

/* The end comes also when what is redriven dies again meanwhile. */
static void
test_walk_ends_though_more_die(void **state _unused_)
{
	struct rig *r;
	struct walking w;
	unsigned n = 0;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 0);
	make_dead(r, 5);
	credit(r, 10);
	walk_open(r, &w);
	while (walk_next(r, &w) && n < 50) {
		n++;
		walk_act(r, &w, DEAD_REDRIVE);
		assert_false(error_is_set(&w.err));
		wait_for(r, r->nheld == 1);
		settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	}
	walk_close(r, &w);
	assert_int_equal(n, 5);
	rig_free(r);
	wait_count("jobs.dead", 5);
}

/* Two that look at the same time see different ones, and lose none. */
static void
test_two_walks(void **state _unused_)
{
	struct rig *r;
	struct walking a, b;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 0);
	make_dead(r, 4);
	walk_open(r, &a);
	walk_open(r, &b);
	assert_true(walk_next(r, &a));
	assert_true(walk_next(r, &b));
	assert_false(slice_eq(a.item.id, b.item.id));
	walk_act(r, &a, DEAD_PURGE);
	assert_false(error_is_set(&a.err));
	walk_act(r, &b, DEAD_PURGE);
	assert_false(error_is_set(&b.err));
	walk_close(r, &a);
	walk_close(r, &b);
	wait_for(r, count("jobs.dead") == 2);
	rig_free(r);
}

/* ---- a walk that is cut off ---- */

enum cut {
	CUT_CLOSE,		/* the walk is closed */
	CUT_SEVER,		/* the connections break */
	CUT_CRASH,		/* the operator is killed */
};

enum step {
	STEP_OPEN,		/* nothing asked yet */
	STEP_NEXT_ASKED,	/* next is under way */
	STEP_ITEM,		/* an item is shown */
	STEP_ACT_ASKED,		/* an act is not yet sent */
	STEP_ACT_SENT,		/* ... or is, and not answered */
	STEP_ACTED,		/* the first is done, and the next shown */
	NSTEPS,
};

static void
walk_until(struct rig *r, struct walking *w, enum step step,
    enum dead_action action)
{
	walk_open(r, w);
	if (step == STEP_OPEN)
		return;
	if (step == STEP_NEXT_ASKED) {
		w->answered = false;
		r->ops->dead_next(&r->q, &w->walk);
		return;
	}
	assert_true(walk_next(r, w));
	if (step == STEP_ITEM)
		return;
	if (step == STEP_ACTED) {
		walk_act(r, w, action);
		assert_false(error_is_set(&w->err));
		assert_true(walk_next(r, w));
		return;
	}
	w->acted = false;
	r->ops->dead_act(&r->q, &w->walk, action);
	if (step == STEP_ACT_SENT)
		rig_turn(r);
}

/* What was asked when it was cut off is answered at most once. */
static struct rig *
cut_off(struct rig *r, struct walking *w, enum cut cut, enum durability kind)
{
	switch (cut) {
	case CUT_CLOSE:
		walk_close(r, w);
		return r;
	case CUT_SEVER:
		sever(r);
		walk_close(r, w);
		wait_for(r, r->ups == 2);
		return r;
	default:
		/* The control connection ends with it, so the walk first. */
		walk_close(r, w);
		rig_crash(r);
		return up_declaring(kind, "", 0);
	}
}

static void
cut_walks(enum durability kind)
{
	for (enum step step = STEP_OPEN; step < NSTEPS; step++) {
		for (enum cut cut = CUT_CLOSE; cut <= CUT_CRASH; cut++) {
			enum dead_action action = (step + cut) % 2 == 0 ?
			    DEAD_REDRIVE : DEAD_PURGE;
			struct rig *r;
			struct walking w;

			(void)world_flush(NULL);
			r = up_declaring(kind, "", 0);
			make_dead(r, 3);
			walk_until(r, &w, step, action);
			r = cut_off(r, &w, cut, kind);
			rig_stop(r);
			rig_free(r);
			/* Each is dead, or back in the queue; a purged one
			   may be gone, but only the one that was purged. */
			if (step < STEP_ACT_ASKED) {
				wait_count("jobs.dead", 3);
				wait_count("jobs", 0);
				continue;
			}
			if (step == STEP_ACTED) {
				wait_count("jobs.dead", 2);
				wait_count("jobs", action == DEAD_REDRIVE);
				continue;
			}
			if (action == DEAD_REDRIVE) {
				wait_everywhere(3);
				assert_true(count("jobs.dead") >= 2);
				continue;
			}
			wait_at_least(2);
			assert_int_equal(count("jobs"), 0);
		}
	}
}

static void
test_invariant_1_rabbit_walks_cut_off(void **state _unused_)
{
	NEED_SERVER();
	cut_walks(CLASSIC);
	cut_walks(QUORUM);
}

/* The connection breaks under a walk that goes on asking. */
static void
test_walk_after_the_connection_broke(void **state _unused_)
{
	struct rig *r;
	struct walking w;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 0);
	make_dead(r, 3);
	walk_open(r, &w);
	assert_true(walk_next(r, &w));
	sever(r);
	walk_act(r, &w, DEAD_PURGE);
	assert_true(error_is_set(&w.err));
	wait_for(r, r->ups == 2);
	/* It may not act on what it was shown before. */
	walk_act(r, &w, DEAD_PURGE);
	assert_true(error_is_set(&w.err));
	walk_close(r, &w);
	wait_count("jobs.dead", 3);
	rig_free(r);
	wait_count("jobs.dead", 3);
}

/* ---- the backlog, putting in ---- */

static void
backlog_is_counted(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Backoff=1s-1min\n", 0);
	const struct backlog *b;

	b = probe(r);
	assert_true(b->waiting_known);
	assert_int_equal(b->waiting, 0);
	produce(0, 10);
	r->window = 4;
	wait_for(r, r->nheld == 4);
	r->window = 0;
	credit(r, 0);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 60 * USEC_PER_SEC, 2, 0);
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 30 * USEC_PER_SEC, 2, 0);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	b = probe(r);
	assert_true(b->waiting_known && b->delayed_known && b->dead_known);
	/* What the broker pushed ahead of credit is with us already. */
	assert_true(b->waiting >= 3 && b->waiting <= 6);
	assert_int_equal(b->delayed, 2);
	assert_int_equal(b->dead, 1);
	rig_free(r);
}

static void
test_backlog(void **state _unused_)
{
	NEED_SERVER();
	each_kind(backlog_is_counted);
}

static void
test_enqueue(void **state _unused_)
{
	amqp_table_entry_t full[] = { NUMBER("x-max-length", 1),
	    TEXT("x-overflow", "reject-publish") };
	struct attribute a[] = { { SLICE("x"), SLICE("1"), false } };
	struct enqueueing e;
	struct message *m;
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(QUORUM, "", 5);
	enqueue(r, &e, "work", a, 1);
	if (error_is_set(&e.err))
		fail_msg("%s", e.err.text);
	assert_string_not_equal(e.id, "");
	m = r->nheld != 0 ? r->held[0] : take_one(r);
	assert_true(slice_is(m->name, e.id));
	assert_true(body_is(m, "work"));
	assert_true(attribute_is(m, "x", "1"));
	assert_true(attribute_equals(m, "delivery-mode", "2"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
	/* A queue that refuses, and one that cannot be reached. */
	(void)world_flush(NULL);
	declare_with("jobs", TABLE(full));
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	r = up(JOBS "Backoff=1s-1s\n", 0);
	enqueue(r, &e, "one", NULL, 0);
	enqueue(r, &e, "two", NULL, 0);
	enqueue(r, &e, "three", NULL, 0);
	assert_true(error_is_set(&e.err));
	assert_int_equal(r->downs, 0);
	sever(r);
	enqueue(r, &e, "four", NULL, 0);
	assert_true(error_is_set(&e.err));
	rig_free(r);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_dead_letters),
		T(test_acting_twice),
		T(test_walk_ends_though_more_die),
		T(test_two_walks),
		T(test_invariant_1_rabbit_walks_cut_off),
		T(test_walk_after_the_connection_broke),
		T(test_backlog),
		T(test_enqueue),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("rabbit_dead", tests, world_setup,
	    world_teardown);
}
