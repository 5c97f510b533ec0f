/*
 * queue_rig.h - any kind of queue with an engine that is only the rig's: it
 * keeps what is delivered until the test settles it, and never takes more
 * than a window.
 *
 * It is the engine that the queue sees: test programs that use it do not link
 * the real one's upcalls.  The rig of a kind (redis_rig, rabbit_rig) makes it
 * with rig_new and adds the real server.
 */
#ifndef TESTS_QUEUE_RIG_H
#define TESTS_QUEUE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/queue.h"

#define DEADLINE_US	(60 * USEC_PER_SEC)
#define HELD_MAX	20000

struct rig {
	struct queue q;			/* first: upcalls get it back */
	struct loop *loop;
	struct resolver *resolver;
	const struct queue_ops *ops;
	struct config *config;
	/* Breaks what it has open, as the end of the process would. */
	void (*cut)(struct rig *);
	struct message *held[HELD_MAX];
	unsigned nheld, delivered, malformed, settled, settle_errors;
	unsigned ups, downs, extended, lost, backlogs;
	unsigned dropped;		/* by queue_drop_receipts */
	unsigned most;			/* that were with us at one time */
	unsigned window;		/* credit is kept at it, less held */
	unsigned seen;			/* delivered, as of the last take_one
					   or settle */
	size_t others;			/* messages of other rigs */
	bool auto_ack, stopped;
	struct backlog backlog;
	struct error down, settle_error;
	char why[256];
};

/* Turns until the condition holds; fails the test at the deadline. */
#define wait_for(r, condition) \
	do { \
		uint64_t give_up_ = clock_monotonic_us() + DEADLINE_US; \
		while (!(condition)) { \
			if (clock_monotonic_us() > give_up_) \
				fail_msg("waited in vain for: %s (down: %s " \
				    "%s)", #condition, (r)->down.code, \
				    (r)->down.text); \
			rig_turn(r); \
		} \
	} while (0)

/* keys: the lines of the section [Queue jobs] beside Type=. */
struct rig *rig_new(const struct queue_type *, const char *keys);
void	rig_start(struct rig *);
void	rig_turn(struct rig *);
/* Started and up; from now on at most window messages are taken. */
struct rig *rig_up(struct rig *, unsigned window);
void	rig_free(struct rig *);			/* stops first */
/* As after kill -9: the connections break, and nothing is said. */
void	rig_crash(struct rig *);
void	rig_stop(struct rig *);
/* Starts it; it must come down twice, so named, and be stoppable. Freed. */
void	rig_named_as(struct rig *, enum error_class, const char *code);
void	credit(struct rig *, unsigned n);
void	settle(struct rig *, struct message *, enum settlement_kind,
	    uint64_t delay_us, unsigned attempt, unsigned crashes);
/* What the engine does at the end of MaxLease=: no settlement comes. */
void	drop(struct rig *, struct message *);
/* A worker has it: queue_drop_receipts marks it instead of freeing it. */
void	start_running(struct message *);
void	acknowledge_all(struct rig *);
/* Waits for one that came after the last take_one or settle. */
struct message *take_one(struct rig *);
void	settle_and_wait(struct rig *, struct message *, enum settlement_kind,
	    uint64_t delay_us, unsigned attempt, unsigned crashes);
const struct backlog *probe(struct rig *);
/* The queue's own figures in the status document; the caller's reference. */
json_t	*status_of(struct rig *);
bool	body_is(const struct message *, const char *);
bool	attribute_is(const struct message *, const char *name,
	    const char *value);
/* The same for one whose value is JSON, and says so. */
bool	attribute_is_json(const struct message *, const char *name,
	    const char *value);
size_t	config_problem_count(const struct queue_type *, const char *keys);

struct walking {
	struct dead_walk walk;
	struct dead_item item;		/* slices live until next */
	bool answered, ended, acted;
	struct error err;
};

void	walk_open(struct rig *, struct walking *);
/* False at the end. */
bool	walk_next(struct rig *, struct walking *);
void	walk_act(struct rig *, struct walking *, enum dead_action);
void	walk_close(struct rig *, struct walking *);

struct enqueueing {
	struct enqueue_job job;
	bool done;
	char id[256];
	struct error err;
};

void	enqueue(struct rig *, struct enqueueing *, const char *body,
	    const struct attribute *attributes, size_t n);

/* No log lines, unless BOT_TEST_LOG is set; only the tests that BOT_TEST_ONLY
   names, a pattern as of a shell. */
void	rig_quiet(void);

/* ---- for the rigs of real servers ---- */

void	remove_tree(const char *path);
/* A port that was free a moment ago, on loopback. */
unsigned free_port(void);
void	write_file(const char *path, const char *text);

#endif
