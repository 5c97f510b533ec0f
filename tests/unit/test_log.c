/*
 * Log lines on stderr when nobody reads them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/log.h"

#define LINES	20000		/* far more than a pipe holds */

/* In a child: stderr is the pipe. */
__attribute__((noreturn)) static void
chatter(int fd, int done, int again)
{
	char go;

	(void)alarm(20);	/* one that blocks dies of SIGALRM */
	(void)dup2(fd, STDERR_FILENO);
	log_open("test");
	for (int i = 0; i < LINES; i++)
		log_info(NULL, "line %d, and some more to fill the pipe", i);
	if (write(done, "x", 1) != 1)
		_exit(3);
	/* Until somebody has read. */
	if (read(again, &go, 1) != 1)
		_exit(2);
	log_info(NULL, "%s", "the last");
	_exit(0);
}

static void
test_invariant_3_a_reader_that_stopped_stops_nobody(void **state)
{
	static char text[1 << 20];
	size_t len = 0;
	int out[2], done[2], again[2], status;
	char byte;
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	assert_int_equal(pipe2(again, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		chatter(out[1], done[1], again[0]);
	(void)close(out[1]);
	/* It gets through all its lines although none is taken: end of file
	   would mean that it was blocked and died. */
	(void)close(done[1]);
	assert_int_equal(read(done[0], &byte, 1), 1);
	(void)fcntl(out[0], F_SETFL, O_NONBLOCK);
	while ((n = read(out[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	assert_int_equal(write(again[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	while ((n = read(out[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	assert_non_null(strstr(text, "<6>line 0, and"));
	assert_non_null(strstr(text, "log lines were lost"));
	assert_non_null(strstr(text, "<6>the last\n"));
	(void)close(out[0]);
	(void)close(done[0]);
	(void)close(again[0]);
	(void)close(again[1]);
}

static void
test_a_long_line_is_cut(void **state)
{
	static char text[8192], body[6000];
	int out[2], saved;
	ssize_t n;

	(void)state;
	memset(body, 'x', sizeof(body) - 1);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	saved = dup(STDERR_FILENO);
	(void)dup2(out[1], STDERR_FILENO);
	log_open("test");
	log_info(NULL, "%s", body);
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(out[1]);
	n = read(out[0], text, sizeof(text));
	assert_int_equal(n, 4096);
	assert_int_equal(text[n - 1], '\n');
	(void)close(out[0]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_invariant_3_a_reader_that_stopped_stops_nobody),
		cmocka_unit_test(test_a_long_line_is_cut),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
