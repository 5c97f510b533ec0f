/*
 * What becomes of messages that a guard objects to; and the real one's
 * SenderLimit= and Repeats= on the virtual clock.
 */
#include "sim/rig.h"

#include <stdio.h>

#include "engine/guard.h"
#include "guard/flood.h"
#include "guard/security.h"

#define POOL	"[Pool work]\nFake=1\nWorkers=4\n"

/* ---- a guard that does what the body says ---- */

static struct {
	unsigned met, inspected;
	unsigned delays;		/* "delay": so many times */
	unsigned asked[64];		/* by sim_message.seq */
} stub;

static void
stub_attach(void *owner, struct queue *q)
{
	q->guard = owner;
}

static void
stub_detach(struct queue *q)
{
	q->guard = NULL;
}

static enum guard_answer
stub_meet(struct queue *q, struct message *m, struct guard_verdict *v)
{
	assert_non_null(q->guard);
	stub.met++;
	/* A while ago, and not any more. */
	if (slice_is(m->body, "wait") &&
	    stub.asked[sim_message_of(m)->seq % 64]++ < stub.delays) {
		v->error_type = "banned";
		v->delay_us = 5 * USEC_PER_SEC;
		return GUARD_DELAY;
	}
	if (!slice_is(m->body, "banned"))
		return GUARD_PASS;
	v->error_type = "banned";
	snprintf(v->detail, sizeof(v->detail), "by the stub");
	return GUARD_BURY;
}

static enum guard_answer
stub_inspect(struct queue *q, struct message *m, struct guard_verdict *v)
{
	struct sim_message *s = sim_message_of(m);

	assert_non_null(q->guard);
	stub.inspected++;
	if (slice_is(m->body, "drop")) {
		s->done_verdicts++;	/* or the model would object */
		return GUARD_DROP;
	}
	if (slice_is(m->body, "delay") &&
	    stub.asked[s->seq % 64]++ < stub.delays) {
		v->error_type = ERROR_TYPE_RATE_LIMITED;
		v->delay_us = 5 * USEC_PER_SEC;
		return GUARD_DELAY;
	}
	return GUARD_PASS;
}

static const struct guard_ops stub_ops = {
	.attach = stub_attach,
	.detach = stub_detach,
	.meet = stub_meet,
	.inspect = stub_inspect,
};

static struct rig *
stubbed(const char *text)
{
	struct rig *r = rig_new(text);

	memset(&stub, 0, sizeof(stub));
	engine_set_guard(r->engine, &stub_ops, &stub);
	return r;
}

static void
test_without_a_guard_nobody_is_asked(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\n");

	(void)state;
	assert_null(rig_queue(r, "jobs")->guard);
	sim_put_many(rig_broker(r, "jobs"), 10);
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_int_equal(rig_queue(r, "jobs")->stats.done, 10);
	rig_free(r);
}

static void
test_banned_goes_before_size_and_format(void **state)
{
	struct rig *r = stubbed(POOL "[Queue jobs]\nType=fake\nFormat=json\n"
	    "MaxBytes=6\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *banned = sim_put(b, "banned", NULL);
	struct sim_message *odd = sim_put(b, "odd", NULL);
	struct sim_message *large = sim_put(b, "[1,2,3]", NULL);
	struct sim_message *good = sim_put(b, "[1]", NULL);
	const struct queue_stats *st = &rig_queue(r, "jobs")->stats;

	(void)state;
	rig_expect(r, "not a valid message");
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_int_equal(banned->place, SIM_DEAD);
	assert_string_equal(banned->error_type, "banned");
	assert_string_equal(banned->detail, "by the stub");
	assert_string_equal(odd->error_type, "invalid_format");
	assert_string_equal(large->error_type, "invalid_format");
	assert_int_equal(good->place, SIM_ACKED);
	assert_int_equal(banned->starts + odd->starts + large->starts, 0);
	assert_int_equal(stub.met, 4);
	assert_int_equal(stub.inspected, 1);
	assert_int_equal(st->dead, 3);
	assert_int_equal(st->failed, 3);
	rig_free(r);
}

static void
test_dropped_is_acknowledged_and_no_work(void **state)
{
	struct rig *r = stubbed(POOL "[Queue jobs]\nType=fake\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *s = sim_put(b, "drop", NULL);
	const struct queue_stats *st = &rig_queue(r, "jobs")->stats;

	(void)state;
	sim_put(b, "x", NULL);
	rig_start(r);
	rig_advance_ms(r, 1000);
	assert_int_equal(s->place, SIM_ACKED);
	assert_int_equal(s->starts, 0);
	assert_int_equal(st->dropped, 1);
	assert_int_equal(st->done, 1);
	assert_int_equal(st->failed, 0);
	assert_int_equal(r->engine->dropped, 1);
	assert_int_equal(r->engine->done, 1);
	rig_free(r);
}

/* ---- delayed ones ---- */

static void
delayed_on(const char *type)
{
	char text[256];
	struct sim_message *s;
	struct sim_broker *b;
	const struct queue_stats *st;
	struct rig *r;

	snprintf(text, sizeof(text), POOL "[Queue jobs]\nType=%s\n"
	    "MaxAttempts=1\nLease=30s\n", type);
	r = stubbed(text);
	b = rig_broker(r, "jobs");
	st = &rig_queue(r, "jobs")->stats;
	stub.delays = 2;
	s = sim_put(b, "delay", NULL);
	sim_put(b, "x", NULL);
	rig_start(r);
	rig_advance_ms(r, 9900);
	assert_int_equal(st->done, 1);
	assert_int_equal(s->starts, 0);
	assert_int_equal(st->deferred, 2);
	assert_int_equal(st->retried, 2);
	rig_advance_ms(r, 1000);
	assert_int_equal(s->place, SIM_ACKED);
	assert_int_equal(s->attempt, 1);
	assert_int_equal(s->starts, 1);
	assert_int_equal(st->done, 2);
	assert_int_equal(st->failed, 0);
	assert_int_equal(stub.inspected, 4);
	rig_free(r);
}

static void
test_delayed_ones_come_again_with_their_attempt(void **state)
{
	(void)state;
	delayed_on("fake");
	delayed_on("fake-fixed");
	delayed_on("fake-plain");
	delayed_on("fake-keep");
}

/* What the first question has put off is asked it again, and all the rest. */
static void
delayed_at_first_on(const char *type)
{
	char text[256];
	struct sim_message *s, *odd;
	struct rig *r;

	snprintf(text, sizeof(text), POOL "[Queue jobs]\nType=%s\n"
	    "Lease=30s\nFormat=json\n", type);
	r = stubbed(text);
	rig_expect(r, "not a valid message");
	stub.delays = 2;
	s = sim_put(rig_broker(r, "jobs"), "[1]", NULL);
	odd = sim_put(rig_broker(r, "jobs"), "wait", NULL);
	rig_start(r);
	rig_advance_ms(r, 9900);
	assert_int_equal(s->place, SIM_ACKED);
	assert_int_equal(rig_queue(r, "jobs")->stats.deferred, 2);
	rig_advance_ms(r, 1000);
	assert_int_equal(odd->place, SIM_DEAD);
	assert_string_equal(odd->error_type, "invalid_format");
	assert_int_equal(odd->starts, 0);
	assert_int_equal(stub.met, 4);
	assert_int_equal(stub.inspected, 1);
	rig_free(r);
}

static void
test_delayed_ones_are_asked_from_the_beginning(void **state)
{
	(void)state;
	delayed_at_first_on("fake");
	delayed_at_first_on("fake-plain");
}

static uint64_t started[16];
static unsigned nstarted;

static void
note_start(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	(void)plan;
	if (nstarted < ARRAY_SIZE(started))
		started[nstarted++] = s->seq;
}

static void
in_order_on(const char *type)
{
	char text[256];
	struct sim_broker *b;
	struct rig *r;

	snprintf(text, sizeof(text), POOL "[Queue jobs]\nType=%s\n", type);
	r = stubbed(text);
	b = rig_broker(r, "jobs");
	nstarted = 0;
	sim_workers("work")->script = note_start;
	stub.delays = 2;
	for (unsigned i = 0; i < 4; i++)
		sim_put(b, i % 2 == 0 ? "delay" : "x", "key");
	rig_start(r);
	rig_advance_ms(r, 60000);
	assert_int_equal(nstarted, 4);
	for (unsigned i = 1; i < nstarted; i++)
		assert_true(started[i - 1] < started[i]);
	assert_int_equal(b->count[SIM_ACKED], 4);
	/* Three times each that was delayed: also when its turn had come. */
	assert_int_equal(stub.inspected, 8);
	assert_int_equal(rig_queue(r, "jobs")->stats.failed, 0);
	rig_free(r);
}

static void
test_invariant_10_delayed_ones_are_not_overtaken(void **state)
{
	(void)state;
	in_order_on("fake");
	in_order_on("fake-plain");
}

static void
test_delayed_ones_go_back_at_a_drain(void **state)
{
	struct rig *r = stubbed(POOL "[Queue jobs]\nType=fake-plain\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct sim_message *s = sim_put(b, "delay", NULL);
	struct sim_message *first = sim_put(b, "delay", "key");
	struct sim_message *second = sim_put(b, "delay", "key");

	(void)state;
	stub.delays = 9;
	rig_start(r);
	rig_advance_ms(r, 100);
	assert_int_equal(rig_queue(r, "jobs")->ndelayed, 2);
	assert_int_equal(rig_queue(r, "jobs")->nheld, 1);
	(void)rig_drain(r);
	assert_int_equal(b->count[SIM_READY], 3);
	assert_int_equal(s->attempt, 1);
	assert_int_equal(first->attempt, 1);
	assert_int_equal(second->attempt, 1);
	rig_free(r);
}

/* ---- the real one ---- */

static const struct attribute from_a = { { "from", 4 }, { "a", 1 }, false };
static const struct attribute from_b = { { "from", 4 }, { "b", 1 }, false };

static void
put_from(struct sim_broker *b, const struct attribute *from, unsigned n)
{
	while (n-- != 0) {
		struct sim_message *s = sim_put(b, "x", NULL);

		s->attributes = from;
		s->nattributes = 1;
	}
}

#define LIMITED	POOL "[Queue jobs]\nType=fake\nSender=from\n" \
	"SenderLimit=2/s\nSenderBurst=3\nMaxAttempts=1\n"

static void
test_sender_limit_lets_so_many_through(void **state)
{
	struct rig *r = rig_new(LIMITED "OverLimit=delay\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	const struct queue_stats *st = &rig_queue(r, "jobs")->stats;
	uint64_t before = security_count(SECURITY_MESSAGE_FLOOD);

	(void)state;
	rig_expect(r, "event=message_flood src_ip=- user=\"\" sender=\"a\" "
	    "queue=\"jobs\" reason=\"over SenderLimit=, delayed by ");
	put_from(b, &from_a, 20);
	put_from(b, &from_b, 3);
	rig_start(r);
	rig_advance_ms(r, 100);
	assert_int_equal(st->done, 6);		/* a burst of each */
	for (unsigned second = 1; second <= 8; second++) {
		rig_advance_ms(r, 1000);
		assert_in_range(st->done, 6 + 2 * second - 1, 6 + 2 * second);
	}
	rig_advance_ms(r, 2000);
	assert_int_equal(st->done, 23);
	assert_int_equal(st->dead + st->failed, 0);
	/* Told each time; and they were not sent round more than they had to. */
	assert_int_equal(security_count(SECURITY_MESSAGE_FLOOD) - before,
	    st->deferred);
	assert_in_range(st->deferred, 17, 3 * 17);
	rig_free(r);
}

static void
test_a_reload_changes_the_limit(void **state)
{
	struct rig *r = rig_new(LIMITED "OverLimit=delay\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	const struct queue_stats *st = &rig_queue(r, "jobs")->stats;

	(void)state;
	rig_allow(r, "message_flood");
	put_from(b, &from_a, 5);
	rig_start(r);
	rig_advance_ms(r, 10);
	assert_int_equal(st->done, 3);
	assert_int_equal(rig_reload(r, LIMITED "OverLimit=dead-letter\n"), 1);
	put_from(b, &from_a, 1);
	rig_advance_ms(r, 100);
	assert_int_equal(st->dead, 1);
	assert_int_equal(rig_reload(r, POOL "[Queue jobs]\nType=fake\n"
	    "MaxAttempts=1\n"), 1);
	assert_null(rig_queue(r, "jobs")->guard);
	put_from(b, &from_a, 5);
	rig_advance_ms(r, 100);
	assert_int_equal(st->done, 8);
	rig_advance_ms(r, 2000);
	assert_int_equal(st->done, 10);
	rig_free(r);
}

static void
test_repeats_end_with_their_time(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nMaxAttempts=9\n"
	    "[Screen again]\nRepeats=2/1min\nAction=dead-letter\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	const struct queue_stats *st = &rig_queue(r, "jobs")->stats;

	(void)state;
	rig_expect(r, "screen again: the 3. with the same body");
	rig_expect(r, "screen again: the 4. with the same body");
	rig_start(r);
	put_from(b, &from_a, 3);
	rig_advance_ms(r, 1000);
	assert_int_equal(st->done, 2);
	assert_int_equal(st->dead, 1);
	rig_advance_ms(r, 58000);
	put_from(b, &from_a, 1);
	rig_advance_ms(r, 500);
	assert_int_equal(st->dead, 2);
	rig_advance_ms(r, 1000);
	put_from(b, &from_a, 2);
	rig_advance_ms(r, 500);
	assert_int_equal(st->done, 4);
	assert_int_equal(st->dead, 2);
	rig_free(r);
}

static void
twice_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)s;
	if (m->attempt < 3)
		plan->kind = VERDICT_RETRY;
}

static void
test_what_only_is_told_is_told_once(void **state)
{
	struct rig *r = rig_new(POOL "[Queue jobs]\nType=fake\nMaxAttempts=5\n"
	    "[Screen long]\nMaxSize=1\n[Screen trial]\nMaxSize=1\n"
	    "Action=pass\n");
	struct sim_message *s = sim_put(rig_broker(r, "jobs"), "xx", NULL);

	(void)state;
	sim_workers("work")->script = twice_script;
	rig_expect(r, "screen long: 2 bytes, MaxSize=1");
	rig_start(r);
	rig_advance_ms(r, 60000);
	assert_int_equal(s->starts, 3);
	assert_int_equal(s->place, SIM_ACKED);
	assert_int_equal(rig_seen(r, "screen long: 2 bytes, MaxSize=1"), 1);
	rig_free(r);
}

static uint64_t slow_seq;

static void
slow_script(struct sim_message *s, const struct message *m,
    struct sim_plan *plan)
{
	(void)m;
	if (s->seq == slow_seq)
		plan->run_us = 20 * USEC_PER_SEC;
}

/* Given back and taken again it is the same message. */
static void
test_a_redelivery_is_no_repetition(void **state)
{
	struct rig *r = rig_new("[Pool work]\nFake=1\nWorkers=1\n"
	    "[Queue jobs]\nType=fake\nPrefetch=2\n"
	    "[Screen again]\nRepeats=1/1h\nAction=dead-letter\n");
	struct sim_broker *b = rig_broker(r, "jobs");
	struct queue *q = rig_queue(r, "jobs");
	struct sim_message *waits;

	(void)state;
	sim_workers("work")->script = slow_script;
	slow_seq = sim_put(b, "first", NULL)->seq;
	waits = sim_put(b, "x", NULL);
	rig_start(r);
	for (unsigned i = 0; i < 5; i++) {
		rig_advance_ms(r, 1000);
		engine_pause(r->engine, q, PAUSED_BY_OPERATOR);
		rig_advance_ms(r, 1000);
		engine_resume(r->engine, q, PAUSED_BY_OPERATOR);
	}
	rig_advance_ms(r, 30000);
	assert_int_equal(waits->releases, 5);
	assert_int_equal(q->stats.dead, 0);
	assert_int_equal(q->stats.done, 2);
	rig_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_guard_nobody_is_asked),
		cmocka_unit_test(test_banned_goes_before_size_and_format),
		cmocka_unit_test(test_dropped_is_acknowledged_and_no_work),
		cmocka_unit_test(test_delayed_ones_come_again_with_their_attempt),
		cmocka_unit_test(test_delayed_ones_are_asked_from_the_beginning),
		cmocka_unit_test(test_invariant_10_delayed_ones_are_not_overtaken),
		cmocka_unit_test(test_delayed_ones_go_back_at_a_drain),
		cmocka_unit_test(test_sender_limit_lets_so_many_through),
		cmocka_unit_test(test_a_reload_changes_the_limit),
		cmocka_unit_test(test_repeats_end_with_their_time),
		cmocka_unit_test(test_what_only_is_told_is_told_once),
		cmocka_unit_test(test_a_redelivery_is_no_repetition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
