/*
 * message.h - one message on its way through the house.
 *
 * Made by a queue (message_new), owned by the engine from queue_deliver() on,
 * lent to a pool between submit and verdict, lent to its queue between settle
 * and queue_settled(), then freed by the engine.  Body, attributes, receipt
 * and the other slices lie in the chunk.
 */
#ifndef BOT_ENGINE_MESSAGE_H
#define BOT_ENGINE_MESSAGE_H

#include "base/chunk.h"
#include "base/list.h"
#include "base/slice.h"
#include "engine/verdict.h"

struct pool;
struct queue;

enum message_state {
	MESSAGE_NEW = 0,	/* the queue is still filling it in */
	MESSAGE_WAITING,	/* in queue->waiting, may be dispatched */
	MESSAGE_HELD,		/* behind another of its order key */
	MESSAGE_DELAYED,	/* a retry that the engine itself waits for */
	MESSAGE_RUNNING,	/* with the pool */
	MESSAGE_SETTLING,	/* with its queue, until queue_settled() */
	MESSAGE_NSTATES,
};

struct attribute {
	struct slice name;
	struct slice value;	/* text; a JSON value when json is set */
	bool json;
};

struct message {
	uint64_t id;		/* ours: unique in this process, on the worker's
				   wire; finds the message (message_find) */
	struct queue *queue;
	enum message_state state;
	struct list link;	/* of the list of its state */

	struct chunk *chunk;	/* a reference */
	struct slice name;	/* the broker's message id; printable */
	struct slice body;
	const struct attribute *attributes;
	size_t nattributes;
	struct slice order_key;	/* n == 0: none */

	unsigned attempt;	/* 1 the first time */
	unsigned crashes;	/* workers that it has killed so far */
	uint64_t enqueued_us;	/* wall clock; 0 when the broker does not say */
	uint64_t received_us;	/* monotonic */
	uint64_t started_us;	/* monotonic; 0 until a worker has it */

	/* Lease: written by the queue (before deliver, in queue_extended),
	   watched by engine/lease.c. USEC_INFINITY: the broker has none. */
	uint64_t lease_until_us;
	struct list lease_link;
	bool extending;		/* asked, not yet answered */
	bool lease_lost;	/* the broker may have given it to another */
	bool deferred;		/* waits here because the guard said so, and is
				   asked about again before it runs */
	bool dropped;		/* SETTLING as done, without any work */

	/* The queue's own: what settles it. */
	struct slice receipt;
	uint64_t receipt_number;
	void *receipt_data;

	struct pool *pool;	/* where it runs; set at dispatch */
	/* The pool's own, while RUNNING. */
	void *worker;
	struct list worker_link;
	uint64_t deadline_us;

	struct order *order;	/* engine/order.c's */
	struct list order_link;	/* while HELD */
	enum settlement_kind settling_as;	/* while SETTLING */
	uint64_t due_us;	/* while DELAYED; monotonic */
	size_t charged_bytes;	/* what it counts for in the byte caps */
};

/* From a slab; zeroed, attempt 1, no lease. Takes a reference on the chunk.
   Ids grow; the low MESSAGE_SLOT_BITS are the slot in the slab. */
#define MESSAGE_SLOT_BITS	20
struct message *message_new(struct queue *, struct chunk *);
/* Only for one that was never delivered; the engine frees the others. */
void	message_free(struct message *);
/* NULL when that id is not alive any more. */
struct message *message_find(uint64_t id);
/* All live messages, oldest slot first. */
typedef void message_visit_fn(void *arg, const struct message *);
void	message_visit(message_visit_fn *, void *arg);
size_t	message_count(void);
const char *message_state_name(enum message_state);
/* The attribute's value, or NULL. */
const struct attribute *message_attribute(const struct message *,
	    const char *name);
/*
 * What "NAME", an attribute, or ".member.of", of a JSON body, says: there a
 * string or a whole number.  p is NULL when there is none.  Lives as long as
 * the chunk.
 */
struct slice message_value(struct message *, const char *by);

#endif
