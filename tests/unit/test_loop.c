/*
 * The loop: phases, generations, accounting, what is left over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"

#define DEADLINE_US	(60 * USEC_PER_SEC)

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
		VIRTUAL(test_slow_callback_is_counted_and_named),
		VIRTUAL(test_time_between_turns_is_nobodys_fault),
		VIRTUAL(test_visits_show_what_there_is),
		REAL(test_run_ends_with_quit),
		REAL(test_loop_free_names_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
