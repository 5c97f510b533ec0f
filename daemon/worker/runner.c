/*
 * bot-worker: what a worker process starts as.
 *
 *	bot-worker exec|command|module [options] -- HANDLER [ARGUMENT...]
 *
 * The operator cannot prepare a child between fork and exec (posix_spawn has
 * no such place), so this program does: it gives up rights, sets limits, and
 * then becomes the handler (exec) or runs it.
 */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "worker/runner.h"

#define EXIT_SETUP	125	/* as env(1), nice(1), ... do */
#define EXIT_NOT_RUN	126
#define EXIT_NOT_FOUND	127
#define GROUPS_MAX	256

void
runner_fail(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("bot-worker: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(code);
}

/* ---- the channel ---- */

void
channel_flush(struct channel *c)
{
	while (buffer_len(&c->out) != 0) {
		ssize_t n = write(RUNNER_FD, buffer_head(&c->out),
		    buffer_len(&c->out));

		if (n >= 0)
			buffer_consume(&c->out, (size_t)n);
		else if (errno != EINTR)
			exit(EXIT_SETUP);	/* the operator is gone */
	}
	c->held_since_us = 0;
}

void
channel_flush_old(struct channel *c)
{
	uint64_t now;

	if (buffer_len(&c->out) == 0)
		return;
	now = clock_monotonic_us();
	if (c->held_since_us == 0)
		c->held_since_us = now;
	if (buffer_len(&c->out) >= RUNNER_OUT_BYTES ||
	    now - c->held_since_us >= RUNNER_HOLD_US)
		channel_flush(c);
}

bool
channel_next(struct channel *c, struct frame *ret)
{
	struct error err;

	buffer_consume(&c->in, c->taken);
	c->taken = 0;
	for (;;) {
		ssize_t n = frame_decode(buffer_slice(&c->in), false, SIZE_MAX,
		    ret, &err);
		char *p;

		if (n > 0) {
			c->taken = (size_t)n;
			return true;
		}
		if (n < 0)
			runner_fail(EXIT_SETUP, "the operator: %s", err.text);
		channel_flush(c);
		p = buffer_reserve(&c->in, 128 * KIB);
		n = read(RUNNER_FD, p, 128 * KIB);
		if (n == 0)
			return false;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		buffer_commit(&c->in, (size_t)n);
	}
}

void
channel_done(struct channel *c)
{
	buffer_done(&c->in);
	buffer_done(&c->out);
}

/* ---- the command line ---- */

struct options {
	pid_t parent;
	uint64_t memory_max_bytes;
	bool identity;
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t ngroups;
};

static uint64_t
number(const char *s, const char *what)
{
	uint64_t n;

	if (slice_to_u64(slice_of(s), &n) < 0)
		runner_fail(2, "%s needs a number, not \"%s\"", what, s);
	return n;
}

static void
parse_groups(struct options *o, const char *s)
{
	while (*s != '\0') {
		size_t n = strcspn(s, ",");
		uint64_t gid;

		if (slice_to_u64((struct slice){ s, n }, &gid) < 0)
			runner_fail(2, "--groups needs numbers");
		if (o->ngroups < GROUPS_MAX)
			o->groups[o->ngroups++] = (gid_t)gid;
		s += n + (s[n] == ',');
	}
}

/* First of all, as the user that the group belongs to. */
static void
enter_cgroup(const char *dir)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) < 0)
		runner_fail(EXIT_SETUP, "%s: %s", path, strerror(errno));
	(void)close(fd);
}

/* Returns the index of the handler. */
static int
parse(int argc, char **argv, struct options *o)
{
	for (int i = 2; i < argc; i++) {
		const char *a = argv[i];

		if (strcmp(a, "--") == 0 && i + 1 < argc)
			return i + 1;
		if (strncmp(a, "--parent=", 9) == 0) {
			o->parent = (pid_t)number(a + 9, "--parent");
		} else if (strncmp(a, "--cgroup=", 9) == 0) {
			enter_cgroup(a + 9);
		} else if (strncmp(a, "--memory=", 9) == 0) {
			o->memory_max_bytes = number(a + 9, "--memory");
		} else if (strncmp(a, "--uid=", 6) == 0) {
			o->uid = (uid_t)number(a + 6, "--uid");
			o->identity = true;
		} else if (strncmp(a, "--gid=", 6) == 0) {
			o->gid = (gid_t)number(a + 6, "--gid");
		} else if (strncmp(a, "--groups=", 9) == 0) {
			parse_groups(o, a + 9);
		} else {
			break;
		}
	}
	runner_fail(2, "bot-operatord starts this program for its workers; "
	    "it is of no use by hand");
}

/* ---- rights and limits ---- */

static void
limit(int what, const char *name, uint64_t bytes)
{
	struct rlimit l = { .rlim_cur = (rlim_t)bytes,
		.rlim_max = (rlim_t)bytes };

	if (setrlimit((__rlimit_resource_t)what, &l) < 0)
		runner_fail(EXIT_SETUP, "%s: %s", name, strerror(errno));
}

static void
prepare(const struct options *o)
{
	(void)umask(027);
	limit(RLIMIT_CORE, "RLIMIT_CORE", 0);
	if (o->identity && (setgroups(o->ngroups, o->groups) < 0 ||
	    setresgid(o->gid, o->gid, o->gid) < 0 ||
	    setresuid(o->uid, o->uid, o->uid) < 0))
		runner_fail(EXIT_SETUP, "cannot become user %u, group %u: %s",
		    o->uid, o->gid, strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		runner_fail(EXIT_SETUP, "no_new_privs: %s", strerror(errno));
	/* After the change of user, which takes it away. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		runner_fail(EXIT_SETUP, "PR_SET_PDEATHSIG: %s",
		    strerror(errno));
	if (o->parent != 0 && getppid() != o->parent)
		exit(EXIT_SETUP);	/* it died before that */
}

static void
limit_memory(const struct options *o)
{
	if (o->memory_max_bytes != 0)
		limit(RLIMIT_DATA, "RLIMIT_DATA", o->memory_max_bytes);
}

static int
run_exec(char *const *argv, const struct options *o)
{
	extern char **environ;
	int err;

	/* Between the limit and exec nothing may allocate. */
	limit_memory(o);
	(void)execve(argv[0], argv, environ);
	err = errno;
	runner_fail(err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN,
	    "cannot run %s: %s", argv[0], strerror(err));
}

int
main(int argc, char **argv)
{
	struct options o = { .parent = 0 };
	int first;

	if (argc < 2)
		(void)parse(argc, argv, &o);
	first = parse(argc, argv, &o);
	prepare(&o);
	if (strcmp(argv[1], "exec") == 0)
		return run_exec(argv + first, &o);
#ifndef BOT_SANITIZERS	/* whose shadow memory is beyond any limit */
	limit_memory(&o);
#endif
	(void)signal(SIGPIPE, SIG_IGN);
	if (strcmp(argv[1], "command") == 0)
		return run_command(argv + first, o.memory_max_bytes);
	if (strcmp(argv[1], "module") == 0)
		return run_module(argv[first]);
	runner_fail(2, "no such kind of handler: %s", argv[1]);
}
