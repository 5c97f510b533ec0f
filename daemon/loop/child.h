/*
 * child.h - child processes of the loop (posix_spawn, pidfd).
 *
 * posix_spawn does not copy page tables, so its cost (0.6 ms) does not grow
 * with our memory.  The child has default signals, an empty mask, its own
 * process group, and exactly the descriptors named; all others are closed.
 */
#ifndef BOT_LOOP_CHILD_H
#define BOT_LOOP_CHILD_H

#include <sys/resource.h>
#include <sys/types.h>

#include "loop/loop.h"

struct child;

struct child_exit {
	int code;		/* exit code, or -1 */
	int signo;		/* killing signal, or 0 */
	bool core;
	struct rusage usage;	/* ru_maxrss in KiB */
};

typedef void child_exit_fn(struct child *, const struct child_exit *);

struct child {
	struct io io;		/* the pidfd */
	struct loop *loop;
	child_exit_fn *fn;
	void *owner;
	pid_t pid;		/* 0 while idle; also the process group */
};

struct child_params {
	const char *path;	/* no PATH search */
	char *const *argv;
	char *const *envp;	/* the whole environment */
	int fds[4];		/* what becomes fd 0, 1, 2, 3; -1: /dev/null for
				   0..2, closed for 3 */
};

void	child_init(struct child *, child_exit_fn *, void *owner);
/*
 * Starts it. 0 or -errno (also when exec failed, e.g. -ENOENT, -EACCES).
 * The fds stay the caller's. on_exit comes once, from the loop; the child is
 * idle again (and reaped) before the callback runs.
 */
int	child_start(struct child *, struct loop *, const struct child_params *);
/* To the whole process group; no-op when idle. */
void	child_kill(struct child *, int signo);
/* SIGKILL to the group, then reaps without a callback. For giving up only. */
void	child_abandon(struct child *);

static inline bool
child_running(const struct child *c)
{
	return c->pid != 0;
}

/* A regular file that we may run. */
bool	child_is_program(const char *path);
/* A name without a slash, looked up in $PATH (relative entries of which are
   skipped: they would mean another file another day). NULL, or to be freed. */
char	*child_find_program(const char *name);
/* Whether "NAME=value" of our own environment is a child's business as well:
   PATH, LANG, LC_*, TZ, HOME, USER, and nothing that could be secret. */
bool	child_may_inherit(const char *var);

/* "exit code 3", "killed by SIGSEGV (core dumped)". */
#define CHILD_CAUSE_BYTES	64
const char *child_cause(const struct child_exit *, char out[CHILD_CAUSE_BYTES]);

#endif
