/*
 * sim_queue.h - a broker in memory, and the queue types that speak to it.
 *
 * A broker lives apart from the queue (engine object) that is attached to it:
 * the queue may be made anew by a reload while the broker keeps its messages.
 * It is found by Broker= of the section, else by the queue's name.  All its
 * delays are timers of the loop on the virtual clock.
 *
 * Types, which differ in capabilities:
 *	fake		leases that can be renewed, native delay
 *	fake-fixed	leases that cannot be renewed, native delay
 *	fake-plain	no leases, no delay (the engine waits for retries)
 *	fake-keep	renewable leases, no native delay
 */
#ifndef BOT_TESTS_SIM_QUEUE_H
#define BOT_TESTS_SIM_QUEUE_H

#include "base/buffer.h"
#include "engine/engine.h"

extern const struct queue_type sim_queue_type, sim_queue_fixed_type,
    sim_queue_plain_type, sim_queue_keep_type;

enum sim_place {
	SIM_READY = 1,
	SIM_LEASED,
	SIM_DELAYED,
	SIM_DEAD,
	SIM_ACKED,
	SIM_NPLACES,
};

/* One handing-out of a message. */
struct sim_delivery {
	uint64_t at_us;
	unsigned attempt;
	unsigned settled;	/* settle calls; never more than one */
	bool arrived;		/* the engine has got it */
	bool lost;		/* lease over or receipt gone, before a settle */
};

struct sim_message {
	struct list link;		/* of the broker's list of its place */
	struct sim_broker *broker;
	uint64_t seq;			/* the order in which it was put in */
	char name[24];
	char *body;
	size_t body_bytes;
	char key[24];			/* order key, "" for none */
	const struct attribute *attributes;	/* the test's; none at first */
	size_t nattributes;
	enum sim_place place;
	uint64_t until_us;		/* LEASED, DELAYED */
	unsigned attempt, crashes;
	uint64_t receipt;		/* number of the last delivery, from 1 */
	struct sim_delivery *deliveries;	/* [receipt - 1] */
	char error_type[ERROR_TYPE_MAX];	/* of the last retry or burial */
	char detail[128];
	uint64_t last_delay_us;		/* of the last SETTLE_RETRY */
	unsigned retries, releases;	/* settlements applied */
	unsigned done_verdicts;		/* counted by sim_pool */
	unsigned starts;		/* counted by sim_pool */
};

struct sim_queue;

struct sim_broker {
	struct list link;
	char *name;
	struct loop *loop;
	struct sim_queue *attached;	/* NULL: nobody */
	struct list place[SIM_NPLACES];	/* READY in the order of seq */
	unsigned count[SIM_NPLACES];
	struct sim_message **all;
	size_t nall;
	struct timer timer;		/* next lease or delay that ends */

	/* Switches. */
	uint64_t fetch_us;		/* how long a fetch takes */
	uint64_t settle_us;		/* how long a settlement takes */
	uint64_t extend_us;
	uint64_t lease_step_us;		/* grants whole steps only, cut down */
	uint64_t jitter_us;		/* added to all of them, uniform */
	unsigned fail_settlements;	/* so many are refused */
	bool settle_applies_early;	/* at sending, not at answering */
	bool mute;			/* answers nothing any more */
	bool down;
	bool receipts_die;		/* a lost connection voids receipts */
	bool no_probe;

	/* What was seen. */
	unsigned max_requested;		/* largest number ever in flight */
	unsigned extends, extends_dropped;
	uint64_t max_lease_seen_us;	/* from delivery to granted deadline */
	unsigned credits;
	unsigned settles;		/* calls */
	unsigned releases;
};

/* The broker of that name; made when there is none. */
struct sim_broker *sim_broker(struct loop *, const char *name);
/* All of them, with their timers; their queues must be gone. */
void	sim_brokers_free(void);
/* After a test that failed: as if there had never been any. */
void	sim_brokers_forget(void);

struct sim_message *sim_put(struct sim_broker *, const char *body,
	    const char *key);
struct sim_message *sim_put_bytes(struct sim_broker *, size_t body_bytes);
void	sim_put_many(struct sim_broker *, unsigned n);
/* What a struct message is a delivery of. */
struct sim_message *sim_message_of(const struct message *);

/* The connection ends now (told to the engine from the loop) / works again. */
void	sim_go_down(struct sim_broker *);
void	sim_come_up(struct sim_broker *);
/* One message is given to somebody else: its receipt is void. */
void	sim_steal(struct sim_message *);

/*
 * The model: each message is in exactly one place; every delivery was settled
 * exactly once or was lost; what is acknowledged was done.  Fails the test.
 */
void	sim_broker_check(const struct sim_broker *);
void	sim_brokers_check(void);

#endif
