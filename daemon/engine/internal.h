/*
 * internal.h - what the files of engine/ tell one another.
 *
 * Who does what:
 *	engine.c	the objects: made from sections, started, freed
 *	flow.c		a message's states and the counters that follow them
 *	deliver.c	in: the queue's upcalls, validation, the guard
 *	member.c	what OrderBy= and the like name in a message
 *	dispatch.c	to the pools, and credit to the queues
 *	retry.c		out: from verdict to settlement
 *	gate.c		Requires=: pauses by checks, and the slow start after
 *	lease.c  order.c  limit.c  drain.c  reload.c: as they are named
 */
#ifndef BOT_ENGINE_INTERNAL_H
#define BOT_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/guard.h"

/* ---- engine.c ---- */

void	engine_read_operator(struct engine *, struct config *);
struct queue *queue_create(struct engine *, struct config *,
	    const struct config_section *);
void	queue_read_common(struct queue *, const struct config_section *);
void	queue_launch(struct queue *);		/* ops->start */
void	queue_destroy(struct queue *);		/* ops->fini */
struct pool *pool_create(struct engine *, struct config *,
	    const struct config_section *);
void	pool_read_common(struct pool *, const struct config_section *);
void	pool_destroy(struct pool *);
void	queue_attach_guard(struct queue *);
void	queue_set_pool(struct queue *, struct pool *);
/* The pool that a [Queue] section means, or NULL. */
const char *queue_section_pool(const struct config *,
	    const struct config_section *);
const struct handler_type *handler_of(const struct engine_types *,
	    const struct config_section *);

static inline void
engine_wake(struct engine *e)
{
	task_schedule(e->loop, &e->dispatch_task);
}

/* ---- flow.c ---- */

/* Moves m to the list of that state and keeps all the counts. */
void	message_enter(struct message *, enum message_state);
/* Back to the front of the waiting ones (it never started). */
void	message_enter_front(struct message *);
/* The engine lets go: out of every list and count, then freed. */
void	message_retire(struct message *);

/* ---- deliver.c ---- */

/* One that was deferred here may run now, if the guard still lets it. */
void	deliver_again(struct message *);

/* ---- retry.c ---- */

void	message_settle(struct message *, const struct settlement *);
void	message_release(struct message *);
void	message_bury(struct message *, struct slice error_type,
	    struct slice detail);
/* As a retry that does not count; leaves a message that has an order key, or
   whose broker cannot wait, DELAYED. */
void	message_defer(struct message *, const struct guard_verdict *);
/* Acknowledged without work. */
void	message_drop(struct message *);
/* A list of messages that share link; each is released. */
void	messages_release(struct list *);
uint64_t retry_delay_us(const struct queue *, unsigned attempt);
void	count_error(struct queue *, struct slice error_type);
void	delay_timer_fired(struct timer *);

/* ---- lease.c ---- */

void	lease_watch(struct message *);		/* or watch again */
void	lease_forget(struct message *);
void	leases_connected(struct queue *);	/* renews what fell due */
void	leases_disconnected(struct queue *);
void	lease_timer_fired(struct timer *);

/* ---- order.c ---- */

/* Picks the key (OrderBy=, or the queue's own); MESSAGE_WAITING or _HELD. */
enum message_state order_enter(struct message *);
/* It is settled for good: the next of its key may run. */
void	order_advance(struct message *);
/* It goes back unfinished: the later ones of its key go back too. */
void	order_abandon(struct message *);

/* ---- limit.c ---- */

void	rate_refill(struct queue *);
/* How many may start now. */
unsigned rate_allows(struct queue *);
void	rate_take(struct queue *);
void	rate_timer_fired(struct timer *);
void	pause_timer_fired(struct timer *);
void	pause_for(struct queue *, uint64_t us);		/* rate_limited */

/* ---- gate.c ---- */

void	gates_apply(struct queue *);	/* after Requires= has changed */
/* Those without a [Check] in the configuration; all when it is NULL. */
void	gates_forget(struct engine *, const struct config *);
/* How many more may start while the queue comes up slowly. */
unsigned ramp_allows(const struct queue *);
void	ramp_verdict(struct queue *, enum verdict_kind);
void	ramp_end(struct queue *);
void	ramp_timer_fired(struct timer *);

/* ---- dispatch.c ---- */

void	dispatch_task_run(struct task *);
void	probe_timer_fired(struct timer *);

/* ---- drain.c, reload.c ---- */

void	drain_check(struct engine *);		/* is a step complete? */
void	queue_retire(struct queue *);		/* gives all back, then stops */
/* A queue that was retired has stopped: the new one of its name may start. */
void	reload_queue_gone(struct engine *, const char *name);
void	drain_timer_fired(struct timer *);

#endif
