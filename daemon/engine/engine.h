/*
 * engine.h - what decides: credit, dispatch, leases, retries, order, drain.
 *
 * Owns the queues and pools that the configuration names, and every message
 * between queue_deliver() and queue_settled().
 */
#ifndef BOT_ENGINE_ENGINE_H
#define BOT_ENGINE_ENGINE_H

#include "config/config.h"
#include "engine/pool.h"
#include "engine/queue.h"

extern const struct config_kind engine_operator_kind;	/* [Operator] keys that
							   the engine reads */
extern const struct config_kind engine_queue_kind;	/* common [Queue NAME] */
extern const struct config_kind engine_pool_kind;	/* common [Pool NAME] */

/* NULL-terminated; what main was linked with. */
struct engine_types {
	const struct queue_type *const *queues;
	const struct handler_type *const *handlers;
};

enum engine_phase {
	ENGINE_STARTING = 1,
	ENGINE_STANDBY,		/* all is loaded, nothing is started */
	ENGINE_RUNNING,
	ENGINE_DRAINING,
	ENGINE_STOPPED,
};

struct guard_ops;

struct engine {
	struct loop *loop;
	struct resolver *resolver;
	const struct engine_types *types;
	struct config *config;
	struct list queues, pools;
	uint64_t last_serial;		/* of a queue */
	struct list gates;		/* of engine/gate.c */
	enum engine_phase phase;
	uint64_t drain_timeout_us;
	uint64_t drain_until_us;	/* monotonic, while draining */
	size_t max_bytes, bytes_held;
	unsigned max_messages, messages_held;
	struct task dispatch_task;
	struct timer drain_timer;
	void (*on_stopped)(void *owner);
	void *owner;
	/* Operator-wide sums that outlive removed queues. */
	uint64_t done, dead, retried, dropped;
	const struct guard_ops *guard;	/* NULL: none; guard.h */
	void *guard_owner;
};

/*
 * Checks what lies between sections (a queue's pool exists, ...) and adds
 * problems to the tree. Starts nothing. For --check as well.
 */
void	engine_check(struct config *, const struct engine_types *);

/* The configuration must be free of problems. */
struct engine *engine_new(struct loop *, struct resolver *, struct config *,
	    const struct engine_types *);
void	engine_start(struct engine *);	/* also from standby */
/* Instead of engine_start(): nothing is opened, connected or run until then.
   A reload applies. */
void	engine_standby(struct engine *);
/* From on_stopped of engine_drain(): queues and pools are made anew, as they
   were before the start, and are in standby.  Their counts begin at zero, the
   engine's own sums go on. */
void	engine_rest(struct engine *);
/*
 * Stops taking messages; gives back what waits, at once; lets run what runs
 * until DrainTimeout=; then kills and gives back; then on_stopped. Idempotent.
 */
void	engine_drain(struct engine *, void (*on_stopped)(void *owner),
	    void *owner);
/* Draining: the drain time is over now. No-op otherwise. */
void	engine_hurry(struct engine *);
/* After on_stopped (or when never started). */
void	engine_free(struct engine *);
/* Applies the difference; the tree must be free of problems. Returns how many
   sections changed. */
unsigned engine_reload(struct engine *, struct config *);

struct queue *engine_queue(struct engine *, const char *name);
struct pool *engine_pool(struct engine *, const char *name);
void	engine_pause(struct engine *, struct queue *, unsigned reason);
void	engine_resume(struct engine *, struct queue *, unsigned reason);
/*
 * A [Check] says whether what it looks at can be used; until it has said so
 * the gate of that name is closed.  Queues that name it in Requires= pause
 * (PAUSED_BY_CHECK) while one of theirs is closed, and then start slowly.
 */
void	engine_gate(struct engine *, const char *name, bool open);
bool	engine_gate_is_open(struct engine *, const char *name);
bool	queue_requires(const struct queue *, const char *name);
/* The first of its gates that is closed, or NULL. */
const char *queue_closed_gate(const struct queue *);
/* True when nothing waits, runs or is delayed anywhere that we know of, the
   brokers' fresh backlog samples included: "all is settled". */
bool	engine_settled(const struct engine *);
/* Everything about every object, to the log: for panic_hook. */
void	engine_dump(const struct engine *);

#define engine_foreach_queue(q, e, l) \
	list_foreach((l), &(e)->queues) \
		if (((q) = list_entry((l), struct queue, engine_link)) != NULL)
#define engine_foreach_pool(p, e, l) \
	list_foreach((l), &(e)->pools) \
		if (((p) = list_entry((l), struct pool, engine_link)) != NULL)

#endif
