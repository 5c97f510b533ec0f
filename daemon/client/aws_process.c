#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "client/aws_provider.h"
#include "client/aws_words.h"

#define COMPLAINTS_MAX	KIB	/* of stderr; the first of it */
#define COMPLAINT_SHOWN	120

/* ---- ending ---- */

static void
close_pipe(struct aws_process *p, struct io *io)
{
	int fd = io->fd;

	if (!io_active(io))
		return;
	io_remove(p->loop, io);
	(void)close(fd);
}

static void
wipe(struct buffer *b)
{
	if (b->data != NULL)
		secret_wipe(b->data, b->size);
	buffer_done(b);
}

static void
clear(struct aws_process *p)
{
	timer_cancel(p->loop, &p->timer);
	close_pipe(p, &p->out);
	close_pipe(p, &p->complaint);
	wipe(&p->output);
	wipe(&p->complaints);
}

/* ---- its output ---- */

static ssize_t
read_pipe(int fd, void *to, size_t n)
{
	ssize_t r;

	do {
		r = read(fd, to, n);
	} while (r < 0 && errno == EINTR);
	return r;
}

static void
on_output(struct io *io, uint32_t events)
{
	struct aws_process *p = io->owner;
	size_t room = AWS_PROCESS_OUTPUT_MAX + 1 - buffer_len(&p->output);
	ssize_t n;

	(void)events;
	/* All at once: growing would leave copies behind. */
	n = read_pipe(io->fd, buffer_reserve(&p->output, room), room);
	if (n <= 0) {
		close_pipe(p, io);
		return;
	}
	buffer_commit(&p->output, (size_t)n);
	if ((size_t)n == room) {
		p->too_long = true;
		close_pipe(p, io);
		child_kill(&p->child, SIGKILL);
	}
}

static void
on_complaint(struct io *io, uint32_t events)
{
	struct aws_process *p = io->owner;
	char text[4096];
	ssize_t n;

	(void)events;
	n = read_pipe(io->fd, text, sizeof(text));
	if (n <= 0) {
		close_pipe(p, io);
		return;
	}
	/* The rest is dropped, so that it never blocks. */
	buffer_add(&p->complaints, text, MIN((size_t)n, COMPLAINTS_MAX -
	    buffer_len(&p->complaints)));
}

static void
on_timeout(struct timer *t)
{
	struct aws_process *p = t->owner;

	p->timed_out = true;
	child_kill(&p->child, SIGKILL);
}

/* The last line of stderr that says something: "; it says: ...". */
static void
quote_complaint(const struct aws_process *p, char *out, size_t size)
{
	struct slice s = buffer_slice(&p->complaints);
	const char *start;

	while (s.n != 0 && (unsigned char)s.p[s.n - 1] <= ' ')
		s.n--;
	*out = '\0';
	if (s.n == 0)
		return;
	start = memrchr(s.p, '\n', s.n);
	start = start != NULL ? start + 1 : s.p;
	snprintf(out, size, "; it says: %.*s",
	    (int)MIN((size_t)(s.p + s.n - start), (size_t)COMPLAINT_SHOWN),
	    start);
}

static int
judge(struct aws_process *p, const struct child_exit *how,
    struct aws_answer *ret, struct error *err)
{
	char cause[CHILD_CAUSE_BYTES], span[CLOCK_SPAN_BYTES],
	    says[COMPLAINT_SHOWN + 16];
	struct error why;

	if (p->timed_out) {
		error_set(err, ERROR_TRANSIENT, "process_timeout",
		    "%s did not end within %s", p->name,
		    clock_span(span, AWS_PROCESS_TIMEOUT_US));
		return -ETIMEDOUT;
	}
	if (p->too_long) {
		error_set(err, ERROR_PROTOCOL, "process_output",
		    "%s prints more than %zu bytes", p->name,
		    AWS_PROCESS_OUTPUT_MAX);
		return -EMSGSIZE;
	}
	if (how->code != 0) {
		quote_complaint(p, says, sizeof(says));
		error_set(err, ERROR_AUTH, "process_failed", "%s: %s%s",
		    p->name, child_cause(how, cause), says);
		return -EACCES;
	}
	if (aws_answer_from_process(buffer_slice(&p->output), ret, &why) < 0) {
		error_set(err, why.class, "process_output", "%s: %s", p->name,
		    why.text);
		return -EPROTO;
	}
	return 0;
}

static void
on_exit_(struct child *c, const struct child_exit *how)
{
	struct aws_process *p = c->owner;
	struct aws_answer answer;
	struct error err = ERROR_INIT;
	int r;

	/* What is left in the pipes. Nobody writes any more. */
	while (io_active(&p->out))
		on_output(&p->out, 0);
	while (io_active(&p->complaint))
		on_complaint(&p->complaint, 0);
	r = judge(p, how, &answer, &err);
	clear(p);
	p->done(p->owner, r == 0 ? &answer : NULL, r == 0 ? NULL : &err);
}

/* ---- starting ---- */

/* Without what systemd says to us and nobody else. */
static char **
make_environment(void)
{
	static const char *const ours[] = { "NOTIFY_SOCKET=", "WATCHDOG_",
		"LISTEN_", "JOURNAL_STREAM=", "INVOCATION_ID=", "BOT_" };
	extern char **environ;
	char **env;
	size_t n = 0, i;

	while (environ != NULL && environ[n] != NULL)
		n++;
	env = xcalloc(n + 1, sizeof(*env));
	n = 0;
	for (char **e = environ; e != NULL && *e != NULL; e++) {
		for (i = 0; i < ARRAY_SIZE(ours); i++)
			if (strncmp(*e, ours[i], strlen(ours[i])) == 0)
				break;
		if (i == ARRAY_SIZE(ours))
			env[n++] = *e;
	}
	return env;
}

/* Where the program is; NULL. */
static char *
find_program(const char *name)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/') != NULL)
		return xstrdup(name);
	if (path == NULL || *path == '\0')
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path != '\0') {
		size_t n = strcspn(path, ":");
		char *file = xasprintf("%.*s/%s", (int)n, path, name);

		if (n != 0 && access(file, X_OK) == 0)
			return file;
		free(file);
		path += n + (path[n] == ':');
	}
	return NULL;
}

static int
watch_pipe(struct aws_process *p, struct io *io, int fds[2])
{
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	else
		r = io_add(p->loop, io, fds[0], EPOLLIN);
	if (r < 0) {
		(void)close(fds[0]);
		(void)close(fds[1]);
		fds[1] = -1;
	}
	return r;
}

static int
spawn(struct aws_process *p, const char *path, char **argv)
{
	_cleanup_close_ int out = -1, complaint = -1;
	struct child_params params = { .path = path, .argv = argv };
	int fds[2] = { -1, -1 }, r;
	char **env;

	r = watch_pipe(p, &p->out, fds);
	out = fds[1];
	if (r < 0)
		return r;
	r = watch_pipe(p, &p->complaint, fds);
	complaint = r < 0 ? -1 : fds[1];
	if (r < 0)
		return r;
	env = make_environment();
	params.envp = env;
	params.fds[0] = -1;
	params.fds[1] = out;
	params.fds[2] = complaint;
	params.fds[3] = -1;
	r = child_start(&p->child, p->loop, &params);
	free(env);
	return r;
}

int
aws_process_start(struct aws_process *p, const char *command,
    struct error *err)
{
	_cleanup_free_ char *path = NULL;
	char **argv = aws_words_split(command);
	const char *base;
	int r;

	if (argv == NULL) {
		error_set(err, ERROR_AUTH, "process_command",
		    "the command is empty, or a quote in it is open");
		return -EINVAL;
	}
	base = strrchr(argv[0], '/');
	snprintf(p->name, sizeof(p->name), "%s",
	    base != NULL ? base + 1 : argv[0]);
	p->too_long = p->timed_out = false;
	path = find_program(argv[0]);
	r = path != NULL ? spawn(p, path, argv) : -ENOENT;
	free(argv);
	if (r < 0) {
		clear(p);
		error_set(err, ERROR_AUTH, "process_start",
		    "%s cannot be started: %s", p->name, strerror(-r));
		return r;
	}
	timer_arm(p->loop, &p->timer, AWS_PROCESS_TIMEOUT_US);
	return 0;
}

void
aws_process_init(struct aws_process *p, struct loop *loop,
    aws_provider_fn *done, void *owner)
{
	*p = (struct aws_process){ .loop = loop, .done = done, .owner = owner };
	child_init(&p->child, on_exit_, p);
	io_init(&p->out, "aws.process", on_output, p);
	io_init(&p->complaint, "aws.process", on_complaint, p);
	timer_init(&p->timer, "aws.process", on_timeout, p);
	buffer_init(&p->output);
	buffer_init(&p->complaints);
}

void
aws_process_cancel(struct aws_process *p)
{
	child_abandon(&p->child);
	clear(p);
}
