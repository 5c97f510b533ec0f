/*
 * Command=: a program for each message.
 */
#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "worker/runner.h"

#define TAIL_MAX	((size_t)2048)
#define VALUE_MAX	((size_t)100 * KIB)	/* the kernel's limit is 128 KiB */

static struct channel channel;
static uint64_t memory_max_bytes;

/* ---- the environment ---- */

struct environment {
	char **at;
	size_t n, own;		/* those before own are not ours to free */
};

static void
env_add(struct environment *e, char *string)
{
	e->at = xreallocarray(e->at, e->n + 2, sizeof(*e->at));
	e->at[e->n++] = string;
	e->at[e->n] = NULL;
}

static void
env_value(struct environment *e, const char *name, const char *value, size_t n)
{
	if (n <= VALUE_MAX)
		env_add(e, xasprintf("%s=%.*s", name, (int)n, value));
	else
		fprintf(stderr, "bot-worker: %s is too long for the "
		    "environment (%zu bytes)\n", name, n);
}

static void
env_attribute(struct environment *e, const char *key, const char *value)
{
	_cleanup_free_ char *name = xasprintf("BOT_ATTR_%s", key);

	for (char *p = name + 9; *p != '\0'; p++)
		*p = isalnum((unsigned char)*p) && (unsigned char)*p < 0x80 ?
		    (char)toupper((unsigned char)*p) : '_';
	env_value(e, name, value, strlen(value));
	if (strcmp(key, "id") == 0)
		env_value(e, "BOT_MESSAGE_ID", value, strlen(value));
}

static void
env_attributes(struct environment *e, struct slice json)
{
	json_t *root = json_loadb(json.p, json.n, 0, NULL), *value;
	const char *key;

	env_value(e, "BOT_ATTRIBUTES", json.p, json.n);
	json_object_foreach(root, key, value) {
		char *text = json_is_string(value) ? NULL :
		    json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

		env_attribute(e, key, text != NULL ? text :
		    json_string_value(value));
		free(text);
	}
	json_decref(root);
}

static void
env_make(struct environment *e, const struct frame *f)
{
	extern char **environ;

	/* The socket is not for the program. */
	for (char **p = environ; *p != NULL; p++)
		if (strncmp(*p, "BOT_OPERATOR_FD=", 16) != 0)
			env_add(e, *p);
	e->own = e->n;
	env_value(e, "BOT_QUEUE", f->word.p, f->word.n);
	env_add(e, xasprintf("BOT_ATTEMPT=%llu", (unsigned long long)f->attempt));
	env_add(e, xasprintf("BOT_TIMEOUT_MS=%llu",
	    (unsigned long long)f->timeout_ms));
	env_attributes(e, f->attributes);
}

static void
env_done(struct environment *e)
{
	for (size_t i = e->own; i < e->n; i++)
		free(e->at[i]);
	free(e->at);
}

/* ---- the program ---- */

struct program {
	pid_t pid;
	int err, pidfd;		/* our ends */
	char tail[TAIL_MAX];
	size_t tail_n;
};

struct ends {
	int in, err[2];
};

/*
 * The body as a file in memory, not a pipe: when we are killed, a pipe ends
 * before the program does, and what came of the body until then looks to it
 * like all.
 */
static int
body_file(struct slice body)
{
	int fd = memfd_create("body", MFD_CLOEXEC);

	while (fd >= 0 && body.n != 0) {
		ssize_t n = write(fd, body.p, body.n);

		if (n < 0 && errno != EINTR)
			close_fdp(&fd);
		body.p += MAX(n, 0);
		body.n -= (size_t)MAX(n, 0);
	}
	if (fd >= 0)
		(void)lseek(fd, 0, SEEK_SET);
	return fd;
}

/*
 * vfork, not posix_spawn: the program must die with us (PR_SET_PDEATHSIG),
 * and that can only be asked for in the child.
 */
static pid_t
spawn(char *const *argv, char *const *envp, const struct ends *ends,
    volatile int *ret_err)
{
	pid_t parent = getpid(), pid;

	*ret_err = 0;
	pid = vfork();
	if (pid != 0)
		return pid;
	(void)signal(SIGPIPE, SIG_DFL);
	(void)dup2(ends->in, STDIN_FILENO);
	(void)dup2(ends->err[1], STDERR_FILENO);
	(void)close(RUNNER_FD);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	(void)execve(argv[0], argv, envp);
	*ret_err = errno;
	_exit(127);
}

static void
keep_tail(struct program *p, const char *data, size_t n)
{
	size_t keep;

	if (n > TAIL_MAX) {
		data += n - TAIL_MAX;
		n = TAIL_MAX;
	}
	keep = MIN(p->tail_n, TAIL_MAX - n);
	memmove(p->tail, p->tail + p->tail_n - keep, keep);
	memcpy(p->tail + keep, data, n);
	p->tail_n = keep + n;
}

/* False at the end. */
static bool
read_stderr(struct program *p)
{
	char buf[4096];
	ssize_t n = read(p->err, buf, sizeof(buf));

	if (n > 0) {
		keep_tail(p, buf, (size_t)n);
		(void)!write(STDERR_FILENO, buf, (size_t)n);
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Listens until the program has ended. */
static void
attend(struct program *p)
{
	struct pollfd fds[2] = {
		{ .fd = p->pidfd, .events = POLLIN },
		{ .fd = p->err, .events = POLLIN },
	};

	while ((fds[0].revents & POLLIN) == 0) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents != 0 && !read_stderr(p))
			fds[1].fd = -1;
	}
	/* What it wrote last; a descendant may hold the pipe open. */
	for (int i = 0; i < 64 && fds[1].fd >= 0; i++) {
		struct pollfd last = { .fd = p->err, .events = POLLIN };

		if (poll(&last, 1, 0) <= 0 || !read_stderr(p))
			break;
	}
}

/* ---- the answer ---- */

static bool
out_of_memory(const struct program *p, const struct rusage *usage)
{
	static const char *const words[] = {
		"MemoryError", "std::bad_alloc", "out of memory",
		"Out of memory", "Cannot allocate memory",
	};
	struct rusage self;

	if (memory_max_bytes == 0)
		return false;
	if (getrusage(RUSAGE_SELF, &self) == 0 &&
	    usage->ru_maxrss > self.ru_maxrss &&
	    (uint64_t)usage->ru_maxrss * KIB >= memory_max_bytes / 100 * 85)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (memmem(p->tail, p->tail_n, words[i], strlen(words[i])))
			return true;
	return false;
}

static void
answer(uint64_t id, const struct program *p, int status,
    const struct rusage *usage)
{
	char detail[TAIL_MAX + 128];
	struct slice tail = { p->tail, p->tail_n };
	int n = 0, code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	struct slice type = SLICE("internal"), text;

	if (code == 0) {
		frame_add_done(&channel.out, id);
		return;
	}
	while (tail.n != 0 && (unsigned char)tail.p[tail.n - 1] <= ' ')
		tail.n--;
	if (code < 0) {
		const char *name = sigabbrev_np(WTERMSIG(status));

		type = SLICE("crash");
		n = snprintf(detail, sizeof(detail), "killed by SIG%s%s",
		    name != NULL ? name : "?", tail.n != 0 ? "\n" : "");
	} else if (tail.n == 0) {
		n = snprintf(detail, sizeof(detail), "exit code %d", code);
	}
	if (code != 65 && code != 69 && code != 75 && code != 100 &&
	    out_of_memory(p, usage))
		type = SLICE("out_of_memory");
	memcpy(detail + n, tail.p, tail.n);
	text = (struct slice){ detail, (size_t)n + tail.n };
	if (code == 65)
		frame_add_dead(&channel.out, id, SLICE("invalid_format"), text);
	else if (code == 100)
		frame_add_dead(&channel.out, id, type, text);
	else
		frame_add_retry(&channel.out, id, FRAME_DELAY_DEFAULT,
		    code == 69 ? SLICE("external_api") : type, text);
}

static void
refuse(uint64_t id, const char *what, int err)
{
	_cleanup_free_ char *text = xasprintf("%s: %s", what, strerror(err));

	fprintf(stderr, "bot-worker: %s\n", text);
	frame_add_retry(&channel.out, id, FRAME_DELAY_DEFAULT,
	    SLICE("internal"), slice_of(text));
}

static void
run(char *const *argv, const struct frame *f, struct ends *ends)
{
	struct program p = { .err = -1, .pidfd = -1 };
	struct environment env = { NULL, 0, 0 };
	struct rusage usage;
	volatile int failed = 0;
	int status = 0;

	env_make(&env, f);
	p.pid = spawn(argv, env.at, ends, &failed);
	close_fdp(&ends->in);
	close_fdp(&ends->err[1]);
	env_done(&env);
	if (p.pid > 0)
		p.pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	if (p.pid < 0 || p.pidfd < 0)
		runner_fail(1, "cannot start a process: %s", strerror(errno));
	p.err = ends->err[0];
	if (failed == 0)
		attend(&p);
	close_fdp(&p.err);
	close_fdp(&p.pidfd);
	while (wait4(p.pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	if (failed != 0)
		refuse(f->id, argv[0], failed);
	else
		answer(f->id, &p, status, &usage);
}

int
run_command(char *const *argv, uint64_t memory)
{
	struct frame f;

	memory_max_bytes = memory;
	if (access(argv[0], X_OK) < 0)
		runner_fail(1, "cannot run %s: %s", argv[0], strerror(errno));
	frame_add_ready(&channel.out, 1);
	while (channel_next(&channel, &f) && f.kind != FRAME_DRAIN) {
		struct ends ends;

		if (f.kind != FRAME_MSG)
			continue;
		ends.in = body_file(f.body);
		if (ends.in < 0 || pipe2(ends.err, O_CLOEXEC) < 0)
			runner_fail(1, "cannot pass a message on: %s",
			    strerror(errno));
		run(argv, &f, &ends);
		channel_flush(&channel);
	}
	channel_flush(&channel);
	channel_done(&channel);
	return 0;
}
