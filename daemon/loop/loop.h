/*
 * loop.h - the one epoll loop.
 *
 * A turn is: wait; descriptors' callbacks; due timers; then the phases, in
 * order.  A phase runs the "tasks" scheduled for it since its last run, once
 * each.  So whatever arrived in one turn is dispatched together, batched
 * together and written together:
 *
 *	LOOP_DISPATCH	the engine hands messages to pools, credit to queues
 *	LOOP_BATCH	queues turn collected settlements into commands
 *	LOOP_WRITE	streams and workers write what they have to the kernel
 *	LOOP_FREE	objects that died inside a callback are freed
 *
 * A task scheduled for its own or an earlier phase while phases run, runs in
 * the next turn, which then does not wait.
 *
 * epoll's data carries slot and generation: an event for a descriptor that
 * was removed in the same turn reaches nobody.  Every callback has a name;
 * one that took longer than LOOP_SLOW_US is counted and logged.
 */
#ifndef BOT_LOOP_LOOP_H
#define BOT_LOOP_LOOP_H

#include <sys/epoll.h>

#include "base/error.h"
#include "base/heap.h"
#include "base/list.h"

#define LOOP_SLOW_US	(10 * USEC_PER_MSEC)

struct loop;

int	loop_new(struct loop **ret);
/* Everything must have been removed: what is left over is a bug, named. */
void	loop_free(struct loop *);
/* Turns until loop_quit(). 0 or -errno. */
int	loop_run(struct loop *);
void	loop_quit(struct loop *);
/* One turn; waits at most timeout_us (USEC_INFINITY: until something is due).
   Returns how many callbacks ran. For tests and for loop_run. */
int	loop_turn(struct loop *, uint64_t timeout_us);
/* The time at the start of this turn's callbacks; cheap. Monotonic, us. */
uint64_t loop_now_us(const struct loop *);

/* ---- descriptors ---- */

struct io;
/* events: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP as they came. */
typedef void io_fn(struct io *, uint32_t events);

struct io {
	io_fn *fn;
	void *owner;
	const char *name;	/* static; shown in the slow log */
	int fd;			/* -1 while idle; the owner closes it */
	uint32_t events;
	uint32_t slot;		/* private */
};

void	io_init(struct io *, const char *name, io_fn *, void *owner);
/* Level-triggered. 0 or -errno. The fd must be non-blocking. */
int	io_add(struct loop *, struct io *, int fd, uint32_t events);
/* Changes what is waited for; no system call when nothing changes. */
void	io_set(struct loop *, struct io *, uint32_t events);
/* No-op when idle. No callback comes after it, not even in this turn. */
void	io_remove(struct loop *, struct io *);

static inline bool
io_active(const struct io *io)
{
	return io->fd >= 0;
}

/* ---- timers ---- */

struct timer;
typedef void timer_fn(struct timer *);

/*
 * One-shot.  Lives inside its owner, so arming never allocates visibly and
 * never fails.  It is idle again before its callback runs: the callback may
 * re-arm it, or free the object that contains it.
 */
struct timer {
	struct heap_node node;	/* key: due, monotonic us */
	timer_fn *fn;
	void *owner;
	const char *name;	/* static; shown by "botctl debug timers" */
};

void	timer_init(struct timer *, const char *name, timer_fn *, void *owner);
/* Arms or re-arms, delay from now. */
void	timer_arm(struct loop *, struct timer *, uint64_t delay_us);
void	timer_arm_at(struct loop *, struct timer *, uint64_t due_us);
/* Arms only if idle or if that makes it fire sooner. */
void	timer_arm_sooner(struct loop *, struct timer *, uint64_t delay_us);
/* No-op when idle, also without a loop (an object that never started). */
void	timer_cancel(struct loop *, struct timer *);

static inline bool
timer_armed(const struct timer *t)
{
	return heap_linked(&t->node);
}

static inline uint64_t
timer_due_us(const struct timer *t)
{
	return t->node.key;
}

/* ---- tasks of the phases ---- */

enum loop_phase {
	LOOP_DISPATCH = 0,
	LOOP_BATCH,
	LOOP_WRITE,
	LOOP_FREE,
	LOOP_NPHASES,
};

struct task;
typedef void task_fn(struct task *);

struct task {
	struct list link;
	task_fn *fn;
	void *owner;
	const char *name;	/* static */
	enum loop_phase phase;
};

void	task_init(struct task *, enum loop_phase, const char *name, task_fn *,
	    void *owner);
/* At the coming run of its phase, once; no-op when already scheduled. */
void	task_schedule(struct loop *, struct task *);
void	task_cancel(struct task *);		/* no-op when idle */

/* ---- to look at ---- */

struct loop_stats {
	uint64_t turns;
	uint64_t callbacks;
	uint64_t slow_turns;		/* one callback or more over the limit */
	uint64_t longest_turn_us;	/* callbacks only, without the wait */
	const char *longest_name;	/* the slowest callback so far */
	uint64_t longest_callback_us;
	size_t ios, timers;
};

void	loop_get_stats(const struct loop *, struct loop_stats *ret);
void	loop_reset_longest(struct loop *);	/* for measurements */
typedef void loop_timer_visit_fn(void *arg, const char *name, uint64_t due_in_us);
void	loop_visit_timers(const struct loop *, loop_timer_visit_fn *, void *arg);
typedef void loop_io_visit_fn(void *arg, const char *name, int fd, uint32_t events);
void	loop_visit_ios(const struct loop *, loop_io_visit_fn *, void *arg);

#endif
