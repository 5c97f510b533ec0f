/*
 * Command=: a child of the loop that must exit with 0.
 *
 * One that runs over its time is killed with its whole group; the check has
 * failed then, and does not wait for the end of what may hang in the kernel.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"
#include "loop/child.h"
#include "observe/check_impl.h"

#define COMPLAINT_MAX	((size_t)2 * KIB)	/* of stderr; the first of it */
#define COMPLAINT_SHOWN	120

struct look {
	struct dependency *d;
	char *path;
	char **environment;
	struct child child;
	struct io io;			/* its stderr */
	struct buffer complaint;
	bool given_up;			/* killed; its end is no result */
};

static void
close_pipe(struct look *k)
{
	int fd = k->io.fd;

	if (!io_active(&k->io))
		return;
	io_remove(k->d->loop, &k->io);
	(void)close(fd);
}

static void
read_complaint(struct look *k)
{
	char text[4096];
	ssize_t n;

	do {
		n = read(k->io.fd, text, sizeof(text));
	} while (n < 0 && errno == EINTR);
	/* The rest is dropped, so that its writer never blocks. */
	if (n > 0)
		buffer_add(&k->complaint, text, MIN((size_t)n,
		    COMPLAINT_MAX - buffer_len(&k->complaint)));
	else if (n == 0 || errno != EAGAIN)
		close_pipe(k);
}

static void
on_complaint(struct io *io, uint32_t events)
{
	(void)events;
	read_complaint(io->owner);
}

/* "; it says: LAST LINE", or nothing. */
static void
quote_complaint(const struct look *k, char *out, size_t size)
{
	struct slice s = buffer_slice(&k->complaint);
	char line[COMPLAINT_SHOWN + 1];
	const char *start;

	while (s.n != 0 && (unsigned char)s.p[s.n - 1] <= ' ')
		s.n--;
	*out = '\0';
	if (s.n == 0)
		return;
	start = memrchr(s.p, '\n', s.n);
	start = start != NULL ? start + 1 : s.p;
	error_quote((struct slice){ start, (size_t)(s.p + s.n - start) }, line,
	    sizeof(line));
	snprintf(out, size, "; it says: %s", line);
}

static void
on_exit_of_child(struct child *c, const struct child_exit *how)
{
	struct look *k = c->owner;
	char cause[CHILD_CAUSE_BYTES], says[COMPLAINT_SHOWN + 16];
	struct error err;

	if (k->given_up) {
		close_pipe(k);
		return;
	}
	/* What it said last; a pipe holds more than we keep. */
	if (io_active(&k->io))
		read_complaint(k);
	close_pipe(k);
	if (how->code == 0) {
		check_passed(k->d);
		return;
	}
	quote_complaint(k, says, sizeof(says));
	error_set(&err, ERROR_REJECTED, "command_failed", "%s%s",
	    child_cause(how, cause), says);
	check_failed(k->d, &err);
}

/* ---- starting ---- */

static char **
make_environment(void)
{
	extern char **environ;
	size_t n = 0, i = 0;
	char **env;

	while (environ != NULL && environ[n] != NULL)
		n++;
	env = xcalloc(n + 2, sizeof(*env));
	if (getenv("PATH") == NULL)
		env[i++] = xstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
	for (size_t j = 0; j < n; j++)
		if (child_may_inherit(environ[j]))
			env[i++] = xstrdup(environ[j]);
	return env;
}

static void
init(struct dependency *d, struct config *c)
{
	struct look *k = new0(struct look);
	const char *name = config_words(d->section, "Command")[0];

	k->d = d;
	d->impl = k;
	child_init(&k->child, on_exit_of_child, k);
	io_init(&k->io, "check", on_complaint, k);
	buffer_init(&k->complaint);
	k->environment = make_environment();
	if (name == NULL) {
		config_problem(c, d->section, "Command", "Command= is empty");
		return;
	}
	/* Arguments may hold a password. */
	snprintf(d->target, sizeof(d->target), "%s", name);
	if (strchr(name, '/') == NULL)
		k->path = child_find_program(name);
	else if (*name == '/' && child_is_program(name))
		k->path = xstrdup(name);
	if (k->path == NULL)
		config_problem(c, d->section, "Command", *name != '/' &&
		    strchr(name, '/') != NULL ? "\"%s\": write the whole path, "
		    "from /" : strchr(name, '/') != NULL ? "\"%s\" is no "
		    "program that can be run" : "no program \"%s\" in $PATH",
		    name);
}

static int
spawn(struct look *k)
{
	struct child_params params = {
		.path = k->path,
		.argv = config_words(k->d->section, "Command"),
		.envp = k->environment,
		.fds = { -1, -1, -1, -1 },
	};
	_cleanup_close_ int theirs = -1;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	theirs = params.fds[2] = fds[1];
	r = fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno :
	    io_add(k->d->loop, &k->io, fds[0], EPOLLIN);
	if (r < 0) {
		(void)close(fds[0]);
		return r;
	}
	r = child_start(&k->child, k->d->loop, &params);
	if (r < 0)
		close_pipe(k);
	return r;
}

static int
start(struct dependency *d, struct error *err)
{
	struct look *k = d->impl;
	int r;

	if (child_running(&k->child)) {
		error_set(err, ERROR_TRANSIENT, "command_hangs", "the one of "
		    "the last look (pid %d) was killed and has not ended",
		    (int)k->child.pid);
		return -EBUSY;
	}
	buffer_clear(&k->complaint);
	k->given_up = false;
	r = spawn(k);
	if (r < 0)
		error_set(err, ERROR_INTERNAL, "command_start",
		    "it cannot be started: %s", strerror(-r));
	return r;
}

static const char *
stage(const struct dependency *d)
{
	(void)d;
	return "it did not end";
}

static void
cancel(struct dependency *d)
{
	struct look *k = d->impl;

	if (!child_running(&k->child))
		return;
	k->given_up = true;
	close_pipe(k);
	child_kill(&k->child, SIGKILL);
}

static void
fini(struct dependency *d)
{
	struct look *k = d->impl;

	if (d->loop != NULL)
		child_abandon(&k->child);
	close_pipe(k);
	buffer_done(&k->complaint);
	for (char **e = k->environment; *e != NULL; e++)
		free(*e);
	free(k->environment);
	free(k->path);
	free(k);
}

const struct check_kind check_command = {
	.key = "Command",
	.init = init,
	.start = start,
	.stage = stage,
	.cancel = cancel,
	.fini = fini,
};
