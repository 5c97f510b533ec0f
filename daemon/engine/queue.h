/*
 * queue.h - the interface between the engine and a kind of queue.
 *
 * A kind (queue/spool, queue/redis, ...) fills in a queue_type and one
 * queue_ops.  All calls come from the loop.  No operation calls back before
 * it has returned; every upcall comes from the loop.
 *
 * Contract, in the order of a life:
 *   init      the section is valid by its key tables; read it, open nothing.
 *             Checks between keys go to config_problem().
 *   start     connect, or lock the directory, ...  Reconnecting with back-off
 *             is the queue's own business: queue_up when it can deliver,
 *             queue_down (once per outage, error named) when it cannot.
 *             A server that refuses for lack of rights or names is queue_down
 *             as well; it goes on trying.
 *   credit(n) may deliver n more messages from now on; an absolute number
 *             that replaces the one before.  What is already requested from
 *             the broker counts against it.  0: ask for nothing new.
 *   deliver   queue_deliver(q, m): the engine owns m.  Beyond credit is
 *             allowed only for what was requested before credit shrank.
 *   settle    exactly once per delivered message.  The strings in the
 *             settlement live only for the call.  May come from inside
 *             queue_deliver() (a malformed message).  The queue collects and
 *             sends batches in LOOP_BATCH.  Invariant 1: the broker loses its
 *             copy only when the outcome is safe.  Answer: queue_settled(m,
 *             NULL) - the engine frees m - or queue_settled(m, err): the
 *             broker still has it and will deliver it again; also freed.
 *             After queue_down every message in SETTLING must be answered
 *             (with an error when unknown); messages held by the engine stay
 *             valid, and the queue decides at their settlement whether the
 *             receipt is still good.
 *   extend    renew the lease of m from now to lease_us; answered by
 *             queue_extended(m, until_us or 0 when lost).  Never after its
 *             settle (invariant 5); a settle may overtake an open extend,
 *             then no queue_extended comes for it.  Nor for one that is
 *             open at queue_down: the engine asks again after queue_up.  The
 *             engine frees a message whose lease has ended without asking:
 *             remember m->id, and answer only what message_find() still has.
 *   probe     sample the backlog; answered by queue_backlog() or not at all.
 *   enqueue   put a new message in, for botctl; answered by job->done.
 *   dead_*    walk the dead letters (below).
 *   reconfigure  the section changed in CONFIG_RELOAD keys only.
 *   stop      no delivery any more.  All settlements were given before; send
 *             what is collected, close in order, then queue_stopped().  Must
 *             end by itself when the broker does not answer (5 s).
 *   fini      free; nothing may be pending.  Also after init alone.
 */
#ifndef BOT_ENGINE_QUEUE_H
#define BOT_ENGINE_QUEUE_H

#include <jansson.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/histogram.h"
#include "config/config.h"
#include "engine/message.h"
#include "engine/verdict.h"
#include "loop/loop.h"
#include "net/resolve.h"

struct engine;
struct pool;
struct queue;

/* ---- capabilities ---- */

#define QUEUE_CAN_EXTEND	0x01u	/* leases, and they can be renewed */
#define QUEUE_CAN_DELAY		0x02u	/* SETTLE_RETRY waits at the broker */
#define QUEUE_BATCHES		0x04u
#define QUEUE_ORDERS		0x08u	/* the broker itself promises order */
#define QUEUE_DEAD_LETTERS	0x10u	/* dead_* work */
#define QUEUE_CAN_ENQUEUE	0x20u

/* ---- dead letters ---- */

struct dead_item {
	struct slice id;		/* opaque, printable, names it for botctl */
	struct slice name;		/* the broker's message id */
	struct slice error_type;
	struct slice detail;
	unsigned attempts;
	unsigned crashes;
	uint64_t died_us;		/* wall clock; 0 unknown */
	struct slice body;
	const struct attribute *attributes;
	size_t nattributes;
};

/*
 * A walk over the dead letters, oldest first: next, (act), next, ... close.
 * One call is open at a time; each is answered once, from the loop.  Acting
 * on an item is safe against being cut off at any moment: the item is then
 * still dead, or already redriven, never both, never neither.
 */
struct dead_walk {
	struct queue *queue;
	/* item NULL and err NULL: the end. The item lives until the next call. */
	void (*on_item)(struct dead_walk *, const struct dead_item *,
	    const struct error *err);
	void (*on_acted)(struct dead_walk *, const struct error *err);
	/* Of dead_all: how many, about. */
	void (*on_all)(struct dead_walk *, uint64_t count,
	    const struct error *err);
	void *owner;
	void *impl;			/* the queue's own; NULL after its fini */
};

enum dead_action {
	DEAD_REDRIVE = 1,	/* back into the queue, attempt 1 */
	DEAD_PURGE,		/* gone */
};

/* The code of dead_all's error when each must be walked to instead. */
#define DEAD_ALL_UNSUPPORTED	"unsupported"

/* ---- enqueueing ---- */

struct enqueue_job {
	struct slice body;		/* live until done */
	const struct attribute *attributes;
	size_t nattributes;
	/* id: what the broker calls it; empty on error. */
	void (*done)(struct enqueue_job *, struct slice id, const struct error *);
	void *owner;
};

/* ---- the type ---- */

struct queue_ops {
	int (*init)(struct queue *, struct config *, const struct config_section *);
	void (*start)(struct queue *);
	void (*credit)(struct queue *, unsigned n);
	void (*settle)(struct queue *, struct message *,
	    const struct settlement *);
	void (*extend)(struct queue *, struct message *, uint64_t lease_us);
	void (*probe)(struct queue *);
	void (*enqueue)(struct queue *, struct enqueue_job *);
	void (*dead_open)(struct queue *, struct dead_walk *);
	void (*dead_next)(struct queue *, struct dead_walk *);
	void (*dead_act)(struct queue *, struct dead_walk *, enum dead_action);
	/* NULL, or: acts on all of them at the broker itself; answered by
	   on_all. rate: redriven a second; 0: as fast as it goes. */
	void (*dead_all)(struct queue *, struct dead_walk *, enum dead_action,
	    unsigned rate);
	void (*dead_close)(struct queue *, struct dead_walk *);
	void (*reconfigure)(struct queue *, const struct config_section *);
	void (*stop)(struct queue *);
	void (*fini)(struct queue *);
	/* Adds the kind's own figures to the queue's object; no secrets. */
	void (*status)(struct queue *, json_t *object);
};

struct queue_type {
	const char *name;			/* "redis", as in Type= */
	const struct config_kind *kind;		/* the keys of this type */
	unsigned capabilities;
	const struct queue_ops *ops;
	/* Names of the numbers that ops->status adds (yes/no ones count as 1
	   and 0), for alert rules; NULL-terminated, or NULL. */
	const char *const *figures;
};

/* ---- the queue as the engine sees it ---- */

/* Why nothing is taken from it, as bits. */
#define PAUSED_BY_OPERATOR	0x01u	/* botctl pause */
#define PAUSED_BY_RATE_LIMITED	0x02u	/* a handler said so, with a delay */
#define PAUSED_BY_CHECK		0x04u	/* Requires= */
#define PAUSED_BY_DRAIN		0x08u
#define PAUSED_BY_POOL		0x10u	/* its pool cannot run anything */

/* One count per error type; more than ERROR_TYPES_MAX go under "other". */
#define ERROR_TYPES_MAX	32

struct error_count {
	char type[ERROR_TYPE_MAX];
	uint64_t count;
};

/* Only ever grows; observe/ takes differences. */
struct queue_stats {
	uint64_t received, redelivered;
	uint64_t done, retried, dead, released;
	uint64_t deferred;		/* of the retried: put off by the guard */
	uint64_t dropped;		/* by the guard, on explicit demand */
	uint64_t failed;		/* verdicts that were not "done" */
	uint64_t settle_errors;		/* settlements the broker did not take */
	uint64_t leases_extended, leases_lost;
	uint64_t bytes_received;
	uint64_t connects;		/* times it came up */
	struct error_count errors[ERROR_TYPES_MAX];
	unsigned nerrors;
	struct histogram processing;	/* us from start to verdict */
	uint64_t last_received_us, last_done_us;	/* monotonic, 0 never */
};

struct backlog {
	uint64_t waiting;		/* ready at the broker, not delivered */
	uint64_t delayed;		/* waiting for their retry */
	uint64_t dead;
	uint64_t oldest_us;		/* age of the oldest; 0 unknown */
	uint64_t sampled_us;		/* monotonic; 0: never sampled */
	bool waiting_known, delayed_known, dead_known;
};

struct queue {
	/* Set by the engine before init. */
	char *name;
	uint64_t serial;		/* another for each object: a reload
					   may make one in the same place */
	const struct queue_type *type;
	struct engine *engine;
	struct loop *loop;
	struct resolver *resolver;
	struct pool *pool;
	struct list engine_link, pool_link;
	void *impl;			/* the kind's own object */
	void *guard;			/* the guard's, guard.h; NULL: pass all */

	/* Configuration common to all kinds. */
	struct config *config;		/* a reference */
	const struct config_section *section;
	unsigned max_attempts, weight;
	uint64_t backoff_min_us, backoff_max_us;
	unsigned prefetch;		/* 0: by rate */
	uint64_t lease_us, max_lease_us;
	size_t max_bytes;
	unsigned max_crashes;		/* of the pool */
	enum { FORMAT_RAW = 0, FORMAT_JSON, FORMAT_CLOUDEVENTS } format;
	char *const *require;		/* JSON members that must be there */
	char *const *requires;		/* names of [Check]s; NULL: none */
	const char *order_by;		/* NULL: order_key is the queue's */
	double rate_limit;		/* messages a second; 0: none */

	/* What is going on; written by engine/ only. */
	bool connected, started, stopping, told_to_stop, stopped, removed;
	struct error error;		/* why not connected, or why it was */
	uint64_t changed_us;		/* connected or error changed; monotonic */
	unsigned paused;		/* PAUSED_BY_* */
	uint64_t rate_limited_until_us;
	unsigned ramp;			/* after a check came back: so many may
					   run at once; 0: as ever */
	unsigned ramp_done;		/* verdicts since it last grew */
	unsigned credit;		/* as last told to the queue */
	struct list waiting, held, delayed, running, settling;
	unsigned nwaiting, nheld, ndelayed, nrunning, nsettling;
	size_t bytes_held;		/* of all the messages above */
	struct hash orders;
	struct list leases;		/* soonest deadline first */
	struct timer lease_timer, delay_timer, rate_timer, probe_timer,
	    pause_timer, ramp_timer;
	double tokens;
	uint64_t tokens_us;
	int deficit;			/* of the round robin */
	double rate_ewma;		/* verdicts a second, for prefetch */
	size_t body_peak_bytes;		/* fades; for the cap of bytes */
	uint64_t rate_counted, rate_us;
	struct backlog backlog;
	struct queue_stats stats;
	uint64_t settle_log_us, lease_log_us;	/* bounded logging */
};

/* ---- upcalls, from the loop only ---- */

void	queue_up(struct queue *);
void	queue_down(struct queue *, const struct error *);
void	queue_deliver(struct queue *, struct message *);
/*
 * A message that cannot be one (no body where one must be, over MaxBytes=
 * before it was read): counted, logged, and settled as BURY at once by the
 * engine, error type invalid_format.
 */
void	queue_deliver_malformed(struct queue *, struct message *,
	    const char *fmt, ...) _printf_(3, 4);
void	queue_settled(struct queue *, struct message *, const struct error *);
void	queue_extended(struct queue *, struct message *, uint64_t until_us);
/* sampled_us: when; 0 means now. */
void	queue_backlog(struct queue *, const struct backlog *);
void	queue_stopped(struct queue *);

/* The broker no longer accepts the receipts of the messages for which
   matches() is true (reconnect of a queue whose receipts die with the
   connection): waiting ones are dropped, running ones marked lease_lost. */
void	queue_drop_receipts(struct queue *,
	    bool (*matches)(const struct message *, void *arg), void *arg);

/* min * 2^(n-1), capped, then uniform in [d/2, d]: for reconnects. */
uint64_t queue_reconnect_delay_us(unsigned failures);

#endif
