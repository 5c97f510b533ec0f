#include "loop/child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/alloc.h"

static void
reap(struct child *c, struct child_exit *ret, int options)
{
	int status = 0;
	pid_t r;

	*ret = (struct child_exit){ .code = -1 };
	do {
		r = wait4(c->pid, &status, options, &ret->usage);
	} while (r < 0 && errno == EINTR);
	if (r != c->pid)
		return;
	if (WIFEXITED(status))
		ret->code = WEXITSTATUS(status);
	else if (WIFSIGNALED(status)) {
		ret->signo = WTERMSIG(status);
		ret->core = WCOREDUMP(status);
	}
}

static void
forget(struct child *c)
{
	int fd = c->io.fd;

	io_remove(c->loop, &c->io);
	(void)close(fd);
	c->pid = 0;
}

static void
on_exited(struct io *io, uint32_t events)
{
	struct child *c = io->owner;
	struct child_exit how;

	(void)events;
	/* Whatever it left behind in its group goes with it; the zombie keeps
	   the group's number from being used again until we reap it. */
	(void)kill(-c->pid, SIGKILL);
	reap(c, &how, WNOHANG);
	forget(c);
	c->fn(c, &how);
}

void
child_init(struct child *c, child_exit_fn *fn, void *owner)
{
	*c = (struct child){ .fn = fn, .owner = owner };
	io_init(&c->io, "child", on_exited, c);
}

static int
spawn(const struct child_params *p, pid_t *ret)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int held[4], r = 0, last = 2;

	/* Above every target first, so that no dup2 overwrites a source. */
	for (int i = 0; i < 4; i++) {
		int fd = p->fds[i];

		held[i] = -1;
		if (fd < 0 && i == 3)
			continue;
		if (fd < 0) {
			int null = open("/dev/null", O_RDWR | O_CLOEXEC);

			held[i] = null < 0 ? -1 :
			    fcntl(null, F_DUPFD_CLOEXEC, 10);
			if (null >= 0)
				(void)close(null);
		} else {
			held[i] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
		}
		if (held[i] < 0) {
			r = errno;
			goto out;
		}
		last = i;
	}
	if ((r = posix_spawn_file_actions_init(&fa)) != 0)
		goto out;
	if ((r = posix_spawnattr_init(&attr)) != 0) {
		(void)posix_spawn_file_actions_destroy(&fa);
		goto out;
	}
	for (int i = 0; i <= last && r == 0; i++)
		if (held[i] >= 0)
			r = posix_spawn_file_actions_adddup2(&fa, held[i], i);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&fa, last + 1);
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP |
	    POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawnattr_setpgroup(&attr, 0);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	if (r == 0)
		r = posix_spawn(ret, p->path, &fa, &attr, p->argv, p->envp);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&fa);
out:
	for (int i = 0; i < 4; i++)
		if (held[i] >= 0)
			(void)close(held[i]);
	return -r;
}

int
child_start(struct child *c, struct loop *loop, const struct child_params *p)
{
	int fd, r;

	BUG_ON(child_running(c));
	r = spawn(p, &c->pid);
	if (r < 0) {
		c->pid = 0;
		return r;
	}
	c->loop = loop;
	/* Nobody but us reaps, so the pid cannot have been used again. */
	fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (fd < 0) {
		r = -errno;
	} else {
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		r = io_add(loop, &c->io, fd, EPOLLIN);
		if (r < 0)
			(void)close(fd);
	}
	if (r < 0) {
		struct child_exit how;

		(void)kill(-c->pid, SIGKILL);
		reap(c, &how, 0);
		c->pid = 0;
	}
	return r;
}

void
child_kill(struct child *c, int signo)
{
	if (child_running(c))
		(void)kill(-c->pid, signo);
}

void
child_abandon(struct child *c)
{
	struct child_exit how;

	if (!child_running(c))
		return;
	(void)kill(-c->pid, SIGKILL);
	reap(c, &how, 0);
	forget(c);
}

const char *
child_cause(const struct child_exit *e, char out[CHILD_CAUSE_BYTES])
{
	const char *name;

	if (e->signo != 0) {
		name = sigabbrev_np(e->signo);
		snprintf(out, CHILD_CAUSE_BYTES, "killed by SIG%s%s",
		    name != NULL ? name : "?", e->core ? " (core dumped)" : "");
	} else {
		snprintf(out, CHILD_CAUSE_BYTES, "exit code %d", e->code);
	}
	return out;
}

/* ---- what to start, and with what ---- */

bool
child_is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	    access(path, X_OK) == 0;
}

char *
child_find_program(const char *name)
{
	const char *at = getenv("PATH");

	if (at == NULL)
		at = "/usr/local/bin:/usr/bin:/bin";
	for (;;) {
		size_t n = strcspn(at, ":");
		char *path = xasprintf("%.*s/%s", (int)n, at, name);

		/* A relative entry would mean another file another day. */
		if (*at == '/' && child_is_program(path))
			return path;
		free(path);
		if (at[n] == '\0')
			return NULL;
		at += n + 1;
	}
}

bool
child_may_inherit(const char *var)
{
	static const char *const allowed[] = {
		"PATH=", "LANG=", "TZ=", "HOME=", "USER=",
	};

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		if (strncmp(var, allowed[i], strlen(allowed[i])) == 0)
			return true;
	return strncmp(var, "LC_", 3) == 0;
}
