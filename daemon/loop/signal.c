#include "loop/signal.h"

#include <sys/signalfd.h>

static void
on_readable(struct io *io, uint32_t events)
{
	struct signal_watch *w = io->owner;
	struct signalfd_siginfo si;

	(void)events;
	/* One a turn: the callback may stop the watch. Level-triggered. */
	if (read(io->fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		w->fn(w->owner, (int)si.ssi_signo);
}

int
signal_watch_start(struct signal_watch *w, struct loop *loop,
    const int *signals, signal_fn *fn, void *owner)
{
	int fd, r;

	*w = (struct signal_watch){ .loop = loop, .fn = fn, .owner = owner };
	io_init(&w->io, "signals", on_readable, w);
	(void)sigemptyset(&w->set);
	for (; *signals != 0; signals++)
		(void)sigaddset(&w->set, *signals);
	fd = signalfd(-1, &w->set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* Before the watch exists: none may slip through in between. */
	(void)sigprocmask(SIG_BLOCK, &w->set, &w->before);
	r = io_add(loop, &w->io, fd, EPOLLIN);
	if (r < 0) {
		(void)sigprocmask(SIG_SETMASK, &w->before, NULL);
		(void)close(fd);
	}
	return r;
}

void
signal_watch_stop(struct signal_watch *w)
{
	int fd = w->io.fd;

	if (w->loop == NULL || !io_active(&w->io))
		return;
	io_remove(w->loop, &w->io);
	(void)close(fd);
	(void)sigprocmask(SIG_SETMASK, &w->before, NULL);
}
