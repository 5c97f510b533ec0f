/*
 * Timers: order, re-arming, cancelling, and that none starves anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "loop/loop.h"

#define DEADLINE_US	(60 * USEC_PER_SEC)

static struct loop *loop;
static char trace[256];		/* what ran, one letter each */

static int
setup(void **state)
{
	(void)state;
	trace[0] = '\0';
	return loop_new(&loop);
}

static int
teardown(void **state)
{
	(void)state;
	loop_free(loop);
	loop = NULL;
	if (clock_is_virtual())
		clock_set_real();
	return 0;
}

/* A virtual clock is set before the loop exists, so that the loop reads it. */
static int
setup_virtual(void **state)
{
	clock_set_virtual(1000 * USEC_PER_SEC, 1000 * USEC_PER_SEC);
	return setup(state);
}

static void
note(char c)
{
	size_t n = strlen(trace);

	assert_true(n + 1 < sizeof(trace));
	trace[n] = c;
	trace[n + 1] = '\0';
}

static void
on_io_letter(struct io *io, uint32_t events)
{
	(void)io;
	note(events & EPOLLOUT ? 'w' : 'r');
}

static void
on_timer_letter(struct timer *t)
{
	assert_false(timer_armed(t));
	note(((const char *)t->owner)[0]);
}

static void
letter_timer(struct timer *t, const char *letter)
{
	timer_init(t, "letter", on_timer_letter, (void *)(uintptr_t)letter);
}

static void
test_timers_fire_in_order_of_due_then_arming(void **state)
{
	struct timer a, b, c, d;

	(void)state;
	letter_timer(&a, "a");
	letter_timer(&b, "b");
	letter_timer(&c, "c");
	letter_timer(&d, "d");
	timer_arm(loop, &a, 3000);
	timer_arm(loop, &b, 1000);
	timer_arm(loop, &c, 2000);
	timer_arm(loop, &d, 2000);
	assert_int_equal(loop_turn(loop, 0), 0);
	clock_advance(999);
	assert_int_equal(loop_turn(loop, 0), 0);
	clock_advance(1);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_string_equal(trace, "b");
	clock_advance(5000);
	assert_int_equal(loop_turn(loop, 0), 3);
	assert_string_equal(trace, "bcda");
}

static void
test_timer_is_never_early_on_the_real_clock(void **state)
{
	uint64_t start = clock_monotonic_us();
	struct timer a;

	(void)state;
	letter_timer(&a, "a");
	timer_arm(loop, &a, 3500);
	while (trace[0] == '\0') {
		(void)loop_turn(loop, USEC_INFINITY);
		assert_true(clock_monotonic_us() < start + DEADLINE_US);
	}
	assert_true(clock_monotonic_us() - start >= 3500);
}

static void
test_timer_rearm_moves_it(void **state)
{
	struct timer a;

	(void)state;
	letter_timer(&a, "a");
	timer_arm(loop, &a, 1000);
	timer_arm(loop, &a, 5000);
	assert_int_equal(timer_due_us(&a), clock_monotonic_us() + 5000);
	timer_arm_sooner(loop, &a, 9000);
	assert_int_equal(timer_due_us(&a), clock_monotonic_us() + 5000);
	timer_arm_sooner(loop, &a, 2000);
	assert_int_equal(timer_due_us(&a), clock_monotonic_us() + 2000);
	clock_advance(1000);
	assert_int_equal(loop_turn(loop, 0), 0);
	clock_advance(1000);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_false(timer_armed(&a));
	timer_arm_sooner(loop, &a, USEC_INFINITY);	/* does not wrap */
	assert_true(timer_armed(&a));
	assert_int_equal(loop_turn(loop, 0), 0);
	timer_cancel(loop, &a);
	timer_cancel(loop, &a);
}

static void
on_cancel_other(struct timer *t)
{
	note('x');
	timer_cancel(loop, t->owner);
}

static void
test_timer_cancelled_by_an_earlier_one_stays_silent(void **state)
{
	struct timer a, b;

	(void)state;
	letter_timer(&b, "b");
	timer_init(&a, "a", on_cancel_other, &b);
	timer_arm(loop, &a, 1000);
	timer_arm(loop, &b, 1000);
	clock_advance(2000);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_string_equal(trace, "x");
	assert_false(timer_armed(&b));
}

static void
on_rearm(struct timer *t)
{
	const uint64_t *delay = t->owner;

	note('t');
	timer_arm(loop, t, *delay);
}

static void
test_timer_rearms_inside_its_callback(void **state)
{
	uint64_t delay = 10 * USEC_PER_MSEC;
	struct timer t;

	(void)state;
	timer_init(&t, "period", on_rearm, &delay);
	timer_arm(loop, &t, delay);
	for (int i = 0; i < 5; i++) {
		clock_advance(delay);
		assert_int_equal(loop_turn(loop, 0), 1);
		assert_true(timer_armed(&t));
	}
	assert_string_equal(trace, "ttttt");
	timer_cancel(loop, &t);
}

/* A timer at 0 runs once a turn, and descriptors have theirs all the same. */
static void
test_timer_at_zero_does_not_starve_descriptors(void **state)
{
	uint64_t delay = 0;
	struct timer t;
	struct io io;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	io_init(&io, "pipe", on_io_letter, NULL);
	assert_int_equal(io_add(loop, &io, fds[0], EPOLLIN), 0);
	timer_init(&t, "busy", on_rearm, &delay);
	timer_arm(loop, &t, 0);
	assert_int_equal(loop_turn(loop, USEC_INFINITY), 1);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_turn(loop, USEC_INFINITY), 2);
	assert_int_equal(loop_turn(loop, USEC_INFINITY), 2);
	assert_string_equal(trace, "trtrt");
	timer_cancel(loop, &t);
	io_remove(loop, &io);
	close(fds[0]);
	close(fds[1]);
}

static void
on_rearm_in_the_past(struct timer *t)
{
	note('p');
	timer_arm_at(loop, t, 1);
}

/* One that is always late takes its turn like the others. */
static void
test_timer_in_the_past_does_not_starve_other_timers(void **state)
{
	struct timer p, a, b;

	(void)state;
	timer_init(&p, "past", on_rearm_in_the_past, NULL);
	letter_timer(&a, "a");
	letter_timer(&b, "b");
	timer_arm_at(loop, &p, 1);
	timer_arm(loop, &a, 1000);
	timer_arm(loop, &b, 1000);
	clock_advance(1000);
	assert_int_equal(loop_turn(loop, 0), 3);
	assert_string_equal(trace, "pab");
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_string_equal(trace, "pabp");
	timer_cancel(loop, &p);
}

struct owner {
	struct timer t;
	char guts[256];
};

static void
on_free_owner(struct timer *t)
{
	struct owner *o = t->owner;

	note('f');
	memset(o, 0x55, sizeof(*o));
	free(o);
}

static void
test_timer_frees_the_object_that_holds_it(void **state)
{
	struct owner *o = new0(struct owner);
	struct loop_stats s;

	(void)state;
	timer_init(&o->t, "owner", on_free_owner, o);
	timer_arm(loop, &o->t, 0);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_string_equal(trace, "f");
	loop_get_stats(loop, &s);
	assert_int_equal(s.timers, 0);
}

#define REAL(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define VIRTUAL(fn) \
	cmocka_unit_test_setup_teardown(fn, setup_virtual, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		VIRTUAL(test_timers_fire_in_order_of_due_then_arming),
		REAL(test_timer_is_never_early_on_the_real_clock),
		VIRTUAL(test_timer_rearm_moves_it),
		VIRTUAL(test_timer_cancelled_by_an_earlier_one_stays_silent),
		VIRTUAL(test_timer_rearms_inside_its_callback),
		VIRTUAL(test_timer_at_zero_does_not_starve_descriptors),
		VIRTUAL(test_timer_in_the_past_does_not_starve_other_timers),
		VIRTUAL(test_timer_frees_the_object_that_holds_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
