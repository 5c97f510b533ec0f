/*
 * signal.h - signals as events of the loop (signalfd).
 *
 * The given signals are blocked for the process while the watcher lives; a
 * child must unblock them before exec (loop/child.h does).
 */
#ifndef BOT_LOOP_SIGNAL_H
#define BOT_LOOP_SIGNAL_H

#include <signal.h>

#include "loop/loop.h"

typedef void signal_fn(void *owner, int signo);

struct signal_watch {
	struct io io;
	struct loop *loop;
	signal_fn *fn;
	void *owner;
	sigset_t set;
	sigset_t before;
};

/* signals: a list that ends with 0. 0 or -errno. */
int	signal_watch_start(struct signal_watch *, struct loop *,
	    const int *signals, signal_fn *, void *owner);
void	signal_watch_stop(struct signal_watch *);	/* no-op when idle */

#endif
