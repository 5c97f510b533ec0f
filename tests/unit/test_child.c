/*
 * Signals and child processes as events of the loop.
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
#include "loop/child.h"
#include "loop/loop.h"
#include "loop/signal.h"

#define DEADLINE_US	(60 * USEC_PER_SEC)

static struct loop *loop;
static char trace[16];		/* the signals that came, one digit each */

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
	return 0;
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
			fail_msg("waited too long");
		(void)loop_turn(loop, 100 * USEC_PER_MSEC);
	}
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

#define TEST(fn)	cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_signals_are_events),
		TEST(test_child_exit_code),
		TEST(test_child_death_by_signal),
		TEST(test_child_exec_failures_are_returned),
		TEST(test_child_kill_reaches_grandchildren),
		TEST(test_child_exit_takes_its_group_along),
		TEST(test_child_abandon_reaps_without_a_callback),
		TEST(test_child_has_only_the_descriptors_named),
		TEST(test_child_gets_descriptor_3),
		TEST(test_child_descriptors_may_be_crossed),
		TEST(test_child_starts_with_clean_signals_and_its_own_group),
		TEST(test_child_usage_is_its_own),
		TEST(test_child_callback_may_free_its_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
