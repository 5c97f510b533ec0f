/*
 * The loop: phases, generations, timers, accounting, signals, children.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "loop/signal.h"

#define DEADLINE_US	(10 * USEC_PER_SEC)

static struct loop *loop;
static char trace[256];		/* what ran, one letter each */
static char last_warning[256];
static unsigned warnings;

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	(void)f;
	if (level > LOG_LEVEL_WARNING)
		return;
	warnings++;
	snprintf(last_warning, sizeof(last_warning), "%s", text);
}

static int
setup(void **state)
{
	(void)state;
	trace[0] = '\0';
	warnings = 0;
	last_warning[0] = '\0';
	log_tap(on_log, NULL);
	log_tap_exclusive(true);
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
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
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

/* Turns until *flag; fails the test when that takes too long. */
static void
turn_until(const bool *flag)
{
	uint64_t until = clock_monotonic_us() + DEADLINE_US;

	while (!*flag) {
		if (clock_monotonic_us() > until)
			fail_msg("waited too long; trace \"%s\"", trace);
		(void)loop_turn(loop, 100 * USEC_PER_MSEC);
	}
}

/* ---- phases ---- */

static struct task again;

static void
on_letter(struct task *t)
{
	note(((const char *)t->owner)[0]);
}

static void
on_batch_schedules(struct task *t)
{
	struct task *const *others = t->owner;

	note('B');
	/* Earlier, own and later phase. */
	task_schedule(loop, others[0]);
	task_schedule(loop, t);
	task_schedule(loop, others[1]);
}

static void
test_phases_run_in_order(void **state)
{
	struct task t[LOOP_NPHASES];
	static const char *const letters[] = { "D", "B", "W", "F" };

	(void)state;
	for (int i = LOOP_NPHASES - 1; i >= 0; i--) {
		task_init(&t[i], (enum loop_phase)i, "letter", on_letter,
		    (void *)(uintptr_t)letters[i]);
		task_schedule(loop, &t[i]);
	}
	assert_int_equal(loop_turn(loop, 0), LOOP_NPHASES);
	assert_string_equal(trace, "DBWF");
	assert_int_equal(loop_turn(loop, 0), 0);
}

static void
test_task_scheduled_twice_runs_once(void **state)
{
	struct task a, b;

	(void)state;
	task_init(&a, LOOP_WRITE, "a", on_letter, (void *)(uintptr_t)"a");
	task_init(&b, LOOP_WRITE, "b", on_letter, (void *)(uintptr_t)"b");
	task_schedule(loop, &b);
	task_schedule(loop, &a);
	task_schedule(loop, &b);
	task_schedule(loop, &b);
	assert_int_equal(loop_turn(loop, 0), 2);
	assert_string_equal(trace, "ba");
}

static void
test_task_for_an_earlier_phase_waits_a_turn(void **state)
{
	struct task dispatch, batch, write;
	struct task *others[2] = { &dispatch, &write };

	(void)state;
	task_init(&dispatch, LOOP_DISPATCH, "d", on_letter,
	    (void *)(uintptr_t)"D");
	task_init(&batch, LOOP_BATCH, "b", on_batch_schedules, others);
	task_init(&write, LOOP_WRITE, "w", on_letter, (void *)(uintptr_t)"W");
	task_schedule(loop, &batch);
	/* The later phase still runs in this turn; the others do not. */
	assert_int_equal(loop_turn(loop, 0), 2);
	assert_string_equal(trace, "BW");
	/* And the next turn does not wait for anything else. */
	assert_int_equal(loop_turn(loop, USEC_INFINITY), 3);
	assert_string_equal(trace, "BWDBW");
	task_cancel(&dispatch);
	task_cancel(&batch);
}

static void
on_cancels(struct task *t)
{
	note('c');
	task_cancel(t->owner);
}

static void
test_task_cancelled_in_its_own_phase_does_not_run(void **state)
{
	struct task a, b;

	(void)state;
	task_init(&b, LOOP_FREE, "b", on_letter, (void *)(uintptr_t)"b");
	task_init(&a, LOOP_FREE, "a", on_cancels, &b);
	task_schedule(loop, &a);
	task_schedule(loop, &b);
	assert_int_equal(loop_turn(loop, 0), 1);
	assert_string_equal(trace, "c");
}

static void
on_readable_schedules(struct io *io, uint32_t events)
{
	char c;

	(void)events;
	assert_int_equal(read(io->fd, &c, 1), 1);
	note('r');
	task_schedule(loop, &again);
}

static void
test_what_arrives_in_one_turn_is_one_task(void **state)
{
	struct io io[2];
	int fds[2][2];

	(void)state;
	task_init(&again, LOOP_DISPATCH, "again", on_letter,
	    (void *)(uintptr_t)"D");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(fds[i], O_NONBLOCK | O_CLOEXEC), 0);
		io_init(&io[i], "pipe", on_readable_schedules, NULL);
		assert_int_equal(io_add(loop, &io[i], fds[i][0], EPOLLIN), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
	}
	assert_int_equal(loop_turn(loop, DEADLINE_US), 3);
	assert_string_equal(trace, "rrD");
	for (int i = 0; i < 2; i++) {
		io_remove(loop, &io[i]);
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

/* ---- descriptors ---- */

struct pair {
	struct io io;
	int fd[2];
	struct pair *other;
	bool replace;		/* else only remove */
};

/*
 * Whichever of the two comes first takes the other's descriptor away, and puts
 * a fresh one with the same number, in the same slot, in its place.
 */
static void
on_first_replaces_other(struct io *io, uint32_t events)
{
	struct pair *p = io->owner, *o = p->other;
	int was = o->io.fd;
	uint32_t slot = o->io.slot;

	(void)events;
	note('1');
	io_remove(loop, &o->io);
	if (!p->replace)
		return;
	close(o->fd[0]);
	close(o->fd[1]);
	assert_int_equal(pipe2(o->fd, O_NONBLOCK | O_CLOEXEC), 0);
	if (o->fd[0] != was) {
		assert_int_equal(dup2(o->fd[0], was), was);
		close(o->fd[0]);
		o->fd[0] = was;
	}
	assert_int_equal(io_add(loop, &o->io, was, EPOLLIN), 0);
	/* The test is about exactly this. */
	assert_int_equal(o->io.fd, was);
	assert_int_equal(o->io.slot, slot);
}

static void
stale_event(bool replace)
{
	struct pair a = { .replace = replace }, b = { .replace = replace };
	struct pair *both[2] = { &a, &b };

	a.other = &b;
	b.other = &a;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(both[i]->fd, O_NONBLOCK | O_CLOEXEC), 0);
		assert_int_equal(fcntl(both[i]->fd[0], F_GETFD), FD_CLOEXEC);
		io_init(&both[i]->io, "pair", on_first_replaces_other, both[i]);
		assert_int_equal(io_add(loop, &both[i]->io, both[i]->fd[0],
		    EPOLLIN), 0);
		assert_int_equal(write(both[i]->fd[1], "x", 1), 1);
	}
	/* Two events come out of one wait; only the first has somebody. */
	assert_int_equal(loop_turn(loop, DEADLINE_US), 1);
	assert_string_equal(trace, "1");
	for (int i = 0; i < 2; i++) {
		io_remove(loop, &both[i]->io);
		close(both[i]->fd[0]);
		close(both[i]->fd[1]);
	}
}

static void
test_removed_descriptor_gets_no_event(void **state)
{
	(void)state;
	stale_event(false);
}

static void
test_reused_descriptor_gets_no_stale_event(void **state)
{
	(void)state;
	stale_event(true);
}

static void
on_io_letter(struct io *io, uint32_t events)
{
	(void)io;
	note(events & EPOLLOUT ? 'w' : 'r');
}

static void
test_io_set_changes_what_is_waited_for(void **state)
{
	struct io io;
	struct loop_stats s;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
	    fds), 0);
	io_init(&io, "socket", on_io_letter, NULL);
	assert_false(io_active(&io));
	assert_int_equal(io_add(loop, &io, fds[0], EPOLLIN), 0);
	assert_true(io_active(&io));
	loop_get_stats(loop, &s);
	assert_int_equal(s.ios, 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	io_set(loop, &io, EPOLLIN | EPOLLOUT);
	assert_int_equal(loop_turn(loop, DEADLINE_US), 1);
	io_set(loop, &io, 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	io_set(loop, &io, EPOLLIN);
	assert_int_equal(loop_turn(loop, DEADLINE_US), 1);
	assert_string_equal(trace, "wr");
	io_remove(loop, &io);
	io_remove(loop, &io);
	assert_int_equal(loop_turn(loop, 0), 0);
	loop_get_stats(loop, &s);
	assert_int_equal(s.ios, 0);
	close(fds[0]);
	close(fds[1]);
}

static void
test_io_add_of_a_bad_descriptor_fails(void **state)
{
	struct io io;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	io_init(&io, "bad", on_io_letter, NULL);
	assert_int_equal(io_add(loop, &io, fd, EPOLLIN), -EBADF);
	assert_false(io_active(&io));
}

/* More descriptors than the table starts with, all alive and all served. */
static void
test_many_descriptors(void **state)
{
	enum { N = 100 };
	static struct io io[N];
	static int fds[N][2];
	int seen = 0;

	(void)state;
	for (int i = 0; i < N; i++) {
		assert_int_equal(pipe2(fds[i], O_NONBLOCK | O_CLOEXEC), 0);
		io_init(&io[i], "many", on_io_letter, NULL);
		assert_int_equal(io_add(loop, &io[i], fds[i][0], EPOLLIN), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
	}
	seen = loop_turn(loop, DEADLINE_US);
	assert_int_equal(seen, N);
	for (int i = 0; i < N; i++) {
		io_remove(loop, &io[i]);
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

/* ---- timers ---- */

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

/* ---- looking ---- */

static void
on_slow(struct task *t)
{
	const uint64_t *us = t->owner;

	clock_advance(*us);
}

static void
test_slow_callback_is_counted_and_named(void **state)
{
	uint64_t fast = LOOP_SLOW_US, slow = LOOP_SLOW_US + 25000;
	struct task t;
	struct loop_stats s;

	(void)state;
	task_init(&t, LOOP_WRITE, "quick one", on_slow, &fast);
	task_schedule(loop, &t);
	assert_int_equal(loop_turn(loop, 0), 1);
	loop_get_stats(loop, &s);
	assert_int_equal(s.slow_turns, 0);
	assert_int_equal(s.longest_turn_us, fast);
	assert_int_equal(warnings, 0);

	task_init(&t, LOOP_WRITE, "lazy one", on_slow, &slow);
	task_schedule(loop, &t);
	assert_int_equal(loop_turn(loop, 0), 1);
	loop_get_stats(loop, &s);
	assert_int_equal(s.turns, 2);
	assert_int_equal(s.callbacks, 2);
	assert_int_equal(s.slow_turns, 1);
	assert_int_equal(s.longest_callback_us, slow);
	assert_int_equal(s.longest_turn_us, slow);
	assert_string_equal(s.longest_name, "lazy one");
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "\"lazy one\""));
	assert_non_null(strstr(last_warning, "35 ms"));

	loop_reset_longest(loop);
	loop_get_stats(loop, &s);
	assert_int_equal(s.slow_turns, 0);
	assert_int_equal(s.longest_turn_us, 0);
}

static void
test_time_between_turns_is_nobodys_fault(void **state)
{
	struct loop_stats s;
	struct timer a;

	(void)state;
	letter_timer(&a, "a");
	timer_arm(loop, &a, 0);
	clock_advance(60 * USEC_PER_SEC);
	assert_int_equal(loop_turn(loop, 0), 1);
	loop_get_stats(loop, &s);
	assert_int_equal(s.longest_turn_us, 0);
	assert_int_equal(warnings, 0);
	assert_int_equal(loop_now_us(loop), clock_monotonic_us());
}

static void
see_timer(void *arg, const char *name, uint64_t due_in_us)
{
	uint64_t *sum = arg;

	assert_string_equal(name, "letter");
	*sum += due_in_us;
}

static void
see_io(void *arg, const char *name, int fd, uint32_t events)
{
	struct io *io = arg;

	assert_string_equal(name, io->name);
	assert_int_equal(fd, io->fd);
	assert_int_equal(events, EPOLLIN);
	note('v');
}

static void
test_visits_show_what_there_is(void **state)
{
	struct timer a, b;
	struct io io;
	uint64_t sum = 0;
	int fds[2];

	(void)state;
	letter_timer(&a, "a");
	letter_timer(&b, "b");
	timer_arm(loop, &a, 700);
	timer_arm(loop, &b, 40);
	loop_visit_timers(loop, see_timer, &sum);
	assert_int_equal(sum, 740);
	timer_cancel(loop, &a);
	timer_cancel(loop, &b);
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	io_init(&io, "seen", on_io_letter, NULL);
	assert_int_equal(io_add(loop, &io, fds[0], EPOLLIN), 0);
	loop_visit_ios(loop, see_io, &io);
	assert_string_equal(trace, "v");
	io_remove(loop, &io);
	close(fds[0]);
	close(fds[1]);
}

static void
on_quit(struct timer *t)
{
	(void)t;
	note('q');
	loop_quit(loop);
}

static void
test_run_ends_with_quit(void **state)
{
	struct timer t;

	(void)state;
	timer_init(&t, "quit", on_quit, NULL);
	timer_arm(loop, &t, 1000);
	assert_int_equal(loop_run(loop), 0);
	timer_arm(loop, &t, 0);
	assert_int_equal(loop_run(loop), 0);
	assert_string_equal(trace, "qq");
}

/* ---- what is left over ---- */

enum leftover { LEFT_IO, LEFT_TIMER, LEFT_TASK };

/* In a child that must abort, and say on stderr what it was. */
static void
leave(enum leftover what, const char *expected)
{
	char text[1024];
	size_t n = 0;
	ssize_t r;
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static struct io io;
		static struct timer t;
		static struct task task;
		struct rlimit none = { 0, 0 };

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)signal(SIGABRT, SIG_DFL);
		(void)dup2(out[1], STDERR_FILENO);
		(void)close(out[0]);
		log_tap(NULL, NULL);
		log_tap_exclusive(false);
		io_init(&io, "left io", on_io_letter, NULL);
		timer_init(&t, "left timer", on_timer_letter, NULL);
		task_init(&task, LOOP_FREE, "left task", on_letter, NULL);
		if (what == LEFT_IO)
			(void)io_add(loop, &io, out[1], EPOLLOUT);
		if (what == LEFT_TIMER)
			timer_arm(loop, &t, USEC_PER_SEC);
		if (what == LEFT_TASK)
			task_schedule(loop, &task);
		loop_free(loop);
		_exit(0);
	}
	close(out[1]);
	while (n < sizeof(text) - 1 &&
	    (r = read(out[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)r;
	text[n] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, expected));
}

static void
test_loop_free_names_what_is_left(void **state)
{
	(void)state;
	leave(LEFT_IO, "\"left io\" outlives");
	leave(LEFT_TIMER, "\"left timer\" outlives");
	leave(LEFT_TASK, "\"left task\" outlives");
}

/* ---- signals ---- */

static struct signal_watch watch;
static bool got_signal;
static int last_signal;

static void
on_signal(void *owner, int signo)
{
	(void)owner;
	note(signo == SIGUSR1 ? '1' : '2');
	last_signal = signo;
	got_signal = true;
	if (signo == SIGUSR2)
		signal_watch_stop(&watch);
}

static void
test_signals_are_events(void **state)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, 0 };
	sigset_t now;

	(void)state;
	got_signal = false;
	assert_int_equal(signal_watch_start(&watch, loop, signals, on_signal,
	    NULL), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	assert_string_equal(trace, "");		/* not before the loop turns */
	turn_until(&got_signal);
	assert_int_equal(last_signal, SIGUSR1);
	/* The watch stops itself inside its callback. */
	got_signal = false;
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
	turn_until(&got_signal);
	assert_string_equal(trace, "12");
	assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &now), 0);
	assert_false(sigismember(&now, SIGUSR1));
	assert_false(sigismember(&now, SIGUSR2));
	signal_watch_stop(&watch);
}

/* ---- children ---- */

static struct child_exit how;
static bool exited;

static void
on_exit_note(struct child *c, const struct child_exit *e)
{
	assert_false(child_running(c));
	/* Reaped already: there is nobody left to wait for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	how = *e;
	exited = true;
}

static char *const no_env[] = { NULL };

static int
start(struct child *c, const char *script, int fd1, int fd3)
{
	char *const argv[] = { (char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c",
		(char *)(uintptr_t)script, NULL };
	struct child_params p = {
		.path = "/bin/sh",
		.argv = argv,
		.envp = no_env,
		.fds = { -1, fd1, -1, fd3 },
	};

	exited = false;
	child_init(c, on_exit_note, NULL);
	return child_start(c, loop, &p);
}

static void
test_child_exit_code(void **state)
{
	char cause[CHILD_CAUSE_BYTES];
	struct child c;

	(void)state;
	assert_int_equal(start(&c, "exit 3", -1, -1), 0);
	assert_true(child_running(&c));
	turn_until(&exited);
	assert_int_equal(how.code, 3);
	assert_int_equal(how.signo, 0);
	assert_string_equal(child_cause(&how, cause), "exit code 3");
	child_kill(&c, SIGKILL);		/* nobody there: no-op */
	child_abandon(&c);
}

static void
test_child_death_by_signal(void **state)
{
	char cause[CHILD_CAUSE_BYTES];
	struct child c;

	(void)state;
	assert_int_equal(start(&c, "ulimit -c 0; kill -SEGV $$", -1, -1), 0);
	turn_until(&exited);
	assert_int_equal(how.code, -1);
	assert_int_equal(how.signo, SIGSEGV);
	assert_false(how.core);
	assert_string_equal(child_cause(&how, cause), "killed by SIGSEGV");
}

static void
test_child_exec_failures_are_returned(void **state)
{
	char *const argv[] = { (char *)(uintptr_t)"x", NULL };
	struct child_params p = { .argv = argv, .envp = no_env,
		.fds = { -1, -1, -1, -1 } };
	struct loop_stats s;
	struct child c;

	(void)state;
	child_init(&c, on_exit_note, NULL);
	p.path = "/nonexistent/program";
	assert_int_equal(child_start(&c, loop, &p), -ENOENT);
	assert_false(child_running(&c));
	p.path = "/dev/null";
	assert_int_equal(child_start(&c, loop, &p), -EACCES);
	assert_false(child_running(&c));
	/* Nothing is left behind, neither a zombie nor a descriptor. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	loop_get_stats(loop, &s);
	assert_int_equal(s.ios, 0);
}

/* Reads until end of file or the deadline; the result is terminated. */
static void
read_all(int fd, struct buffer *b)
{
	uint64_t until = clock_monotonic_us() + DEADLINE_US;
	char part[512];
	ssize_t n;

	while (clock_monotonic_us() < until) {
		n = read(fd, part, sizeof(part));
		if (n == 0)
			return;
		if (n > 0)
			buffer_add(b, part, (size_t)n);
		else
			(void)loop_turn(loop, 10 * USEC_PER_MSEC);
	}
	fail_msg("no end of file in time");
}

/*
 * A shell with a background child of its own: one kill ends the group.  Both
 * hold the write end of the pipe, so its end of file proves that both ended.
 */
static void
test_child_kill_reaches_grandchildren(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct child c;
	char byte;
	int out[2];

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(start(&c, "sleep 600 & echo x; wait", out[1], -1), 0);
	close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1);	/* both are there */
	child_kill(&c, SIGTERM);
	turn_until(&exited);
	assert_int_equal(how.signo, SIGTERM);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	read_all(out[0], &b);
	close(out[0]);
}

/* The leader goes by itself; what it left running in its group goes too. */
static void
test_child_exit_takes_its_group_along(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct child c;
	int out[2];

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(start(&c, "sleep 600 & exit 7", out[1], -1), 0);
	close(out[1]);
	turn_until(&exited);
	assert_int_equal(how.code, 7);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	read_all(out[0], &b);
	close(out[0]);
}

static void
test_child_abandon_reaps_without_a_callback(void **state)
{
	struct child c;
	pid_t pid;

	(void)state;
	assert_int_equal(start(&c, "sleep 600", -1, -1), 0);
	pid = c.pid;
	child_abandon(&c);
	assert_false(child_running(&c));
	assert_false(exited);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(loop_turn(loop, 0), 0);
}

static void
test_child_has_only_the_descriptors_named(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct child c;
	int out[2], extra, high;

	(void)state;
	/* Without close-on-exec: only closing can keep them from the child. */
	extra = open("/dev/null", O_RDONLY);
	assert_true(extra >= 0);
	high = fcntl(extra, F_DUPFD, 200);
	assert_true(high >= 200);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(start(&c, "for f in 0 1 2 3 4 5 6 7 8 9 11 12 13 200; "
	    "do [ -e /proc/self/fd/$f ] && printf '%s ' $f; done; "
	    "[ -e /proc/$$/fd/200 ] && echo high; exit 0", out[1], -1), 0);
	close(out[1]);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	read_all(out[0], &b);
	/* The test runs inside the shell: "[" is built in, self is the shell. */
	assert_string_equal(buffer_cstr(&b), "0 1 2 ");
	turn_until(&exited);
	close(out[0]);
	close(extra);
	close(high);
}

static void
test_child_gets_descriptor_3(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct child c;
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
	    0);
	assert_int_equal(start(&c, "read line <&3; echo \"got $line\" >&3", -1,
	    sv[1]), 0);
	close(sv[1]);
	assert_int_equal(write(sv[0], "hello\n", 6), 6);
	assert_int_equal(fcntl(sv[0], F_SETFL, O_NONBLOCK), 0);
	read_all(sv[0], &b);
	assert_string_equal(buffer_cstr(&b), "got hello\n");
	turn_until(&exited);
	assert_int_equal(how.code, 0);
	close(sv[0]);
}

/* Even when the caller's own numbers are those of the targets, crossed. */
static void
test_child_descriptors_may_be_crossed(void **state)
{
	char *const argv[] = { (char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c",
		(char *)(uintptr_t)"echo one; echo two >&2", NULL };
	struct child_params p = { .path = "/bin/sh", .argv = argv,
		.envp = no_env, .fds = { -1, 2, 1, -1 } };
	int saved[2], one[2], two[2], r;
	struct child c;
	char text[16];

	(void)state;
	assert_int_equal(pipe2(one, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(two, O_CLOEXEC | O_NONBLOCK), 0);
	exited = false;
	child_init(&c, on_exit_note, NULL);
	/* What shall become 1 sits at 2, and the other way round. */
	fflush(stdout);
	saved[0] = fcntl(1, F_DUPFD_CLOEXEC, 100);
	saved[1] = fcntl(2, F_DUPFD_CLOEXEC, 100);
	(void)dup2(one[1], 2);
	(void)dup2(two[1], 1);
	r = child_start(&c, loop, &p);
	(void)dup2(saved[0], 1);
	(void)dup2(saved[1], 2);
	assert_int_equal(r, 0);
	turn_until(&exited);
	assert_int_equal(read(one[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "one\n", 4);
	assert_int_equal(read(two[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "two\n", 4);
	for (int i = 0; i < 2; i++) {
		close(one[i]);
		close(two[i]);
		close(saved[i]);
	}
}

static void
test_child_starts_with_clean_signals_and_its_own_group(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	void (*before)(int) = signal(SIGPIPE, SIG_IGN);
	sigset_t block, saved;
	unsigned long long blocked = 1, ignored = 1;
	struct child c;
	int out[2], group = 0;
	pid_t pid;

	(void)state;
	(void)sigemptyset(&block);
	(void)sigaddset(&block, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &block, &saved), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(start(&c, "while read k v rest; do case $k in "
	    "SigBlk:|SigIgn:) echo $k $v;; esac; done < /proc/self/status; "
	    "read pid comm st ppid pgrp rest < /proc/self/stat; "
	    "echo group $pgrp; exit 9", out[1], -1), 0);
	pid = c.pid;
	close(out[1]);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	read_all(out[0], &b);
	(void)sigprocmask(SIG_SETMASK, &saved, NULL);
	(void)signal(SIGPIPE, before);
	turn_until(&exited);
	close(out[0]);
	assert_int_equal(sscanf(buffer_cstr(&b), "SigBlk: %llx\nSigIgn: %llx\n"
	    "group %d\n", &blocked, &ignored, &group), 3);
	assert_int_equal(blocked, 0);
	/* 32 and 33 are the C library's own; its posix_spawn ignores them. */
	assert_int_equal(ignored & ~0x180000000ull, 0);
	assert_int_equal(group, pid);
	assert_int_equal(how.code, 9);
}

static void
test_child_usage_is_its_own(void **state)
{
	struct child c;

	(void)state;
	assert_int_equal(start(&c, "i=0; while [ $i -lt 20000 ]; do "
	    "i=$((i+1)); done", -1, -1), 0);
	turn_until(&exited);
	assert_int_equal(how.code, 0);
	assert_true(how.usage.ru_maxrss > 100);		/* KiB: a shell */
	assert_true(how.usage.ru_utime.tv_sec > 0 ||
	    how.usage.ru_utime.tv_usec > 0);
}

struct held_child {
	struct child c;
	char guts[64];
};

static void
on_exit_free(struct child *c, const struct child_exit *e)
{
	struct held_child *h = c->owner;

	(void)e;
	exited = true;
	memset(h, 0x55, sizeof(*h));
	free(h);
}

static void
test_child_callback_may_free_its_object(void **state)
{
	struct held_child *h = new0(struct held_child);
	char *const argv[] = { (char *)(uintptr_t)"true", NULL };
	struct child_params p = { .path = "/bin/true", .argv = argv,
		.envp = no_env, .fds = { -1, -1, -1, -1 } };

	(void)state;
	exited = false;
	child_init(&h->c, on_exit_free, h);
	assert_int_equal(child_start(&h->c, loop, &p), 0);
	turn_until(&exited);
}

#define REAL(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define VIRTUAL(fn) \
	cmocka_unit_test_setup_teardown(fn, setup_virtual, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		VIRTUAL(test_phases_run_in_order),
		VIRTUAL(test_task_scheduled_twice_runs_once),
		VIRTUAL(test_task_for_an_earlier_phase_waits_a_turn),
		VIRTUAL(test_task_cancelled_in_its_own_phase_does_not_run),
		REAL(test_what_arrives_in_one_turn_is_one_task),
		REAL(test_removed_descriptor_gets_no_event),
		REAL(test_reused_descriptor_gets_no_stale_event),
		REAL(test_io_set_changes_what_is_waited_for),
		REAL(test_io_add_of_a_bad_descriptor_fails),
		REAL(test_many_descriptors),
		VIRTUAL(test_timers_fire_in_order_of_due_then_arming),
		REAL(test_timer_is_never_early_on_the_real_clock),
		VIRTUAL(test_timer_rearm_moves_it),
		VIRTUAL(test_timer_cancelled_by_an_earlier_one_stays_silent),
		VIRTUAL(test_timer_rearms_inside_its_callback),
		VIRTUAL(test_timer_at_zero_does_not_starve_descriptors),
		VIRTUAL(test_timer_in_the_past_does_not_starve_other_timers),
		VIRTUAL(test_timer_frees_the_object_that_holds_it),
		VIRTUAL(test_slow_callback_is_counted_and_named),
		VIRTUAL(test_time_between_turns_is_nobodys_fault),
		VIRTUAL(test_visits_show_what_there_is),
		REAL(test_run_ends_with_quit),
		REAL(test_loop_free_names_what_is_left),
		REAL(test_signals_are_events),
		REAL(test_child_exit_code),
		REAL(test_child_death_by_signal),
		REAL(test_child_exec_failures_are_returned),
		REAL(test_child_kill_reaches_grandchildren),
		REAL(test_child_exit_takes_its_group_along),
		REAL(test_child_abandon_reaps_without_a_callback),
		REAL(test_child_has_only_the_descriptors_named),
		REAL(test_child_gets_descriptor_3),
		REAL(test_child_descriptors_may_be_crossed),
		REAL(test_child_starts_with_clean_signals_and_its_own_group),
		REAL(test_child_usage_is_its_own),
		REAL(test_child_callback_may_free_its_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
