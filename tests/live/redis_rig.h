/*
 * redis_rig.h - the Redis queue on a real redis-server of its own, with an
 * engine that is only the rig's: it keeps what is delivered until the test
 * settles it.
 */
#ifndef TESTS_REDIS_RIG_H
#define TESTS_REDIS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <cmocka.h>

#include <hiredis/hiredis.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "queue/redis.h"
#include "queue/redis_impl.h"

#define DEADLINE_US	(20 * USEC_PER_SEC)
#define HELD_MAX	20000

struct server {
	pid_t pid;
	char dir[64];
	char socket[96];
	unsigned port, tls_port;
	redisContext *admin;		/* blocking, for the test itself */
};

struct rig {
	struct queue q;			/* first: upcalls get it back */
	struct loop *loop;
	struct resolver *resolver;
	const struct queue_ops *ops;
	struct config *config;
	struct message *held[HELD_MAX];
	unsigned nheld, delivered, malformed, settled, settle_errors;
	unsigned ups, downs, extended, lost, backlogs;
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

/* ---- the server ---- */

void	server_start(struct server *, const char *const *options);
void	server_again(struct server *, const char *const *options);
void	server_kill(struct server *, int signo);
void	server_stop(struct server *);		/* and removes its directory */
/* A command; the reply must not be an error. */
void	redis_do(struct server *, const char *fmt, ...);
int64_t	redis_int(struct server *, const char *fmt, ...);
/* A copy, valid until the next call. */
const char *redis_str(struct server *, const char *fmt, ...);
/* redis-server is there; else the test is skipped. */
bool	server_exists(void);
void	remove_tree(const char *path);

/* ---- the queue ---- */

/* keys: the lines of the section beside Type= and Address= (NULL: the
   server's socket). */
struct rig *rig_new(const char *address, const char *keys);
void	rig_start(struct rig *);
void	rig_turn(struct rig *);
void	rig_free(struct rig *);			/* stops first */
/* As after kill -9: the connections break, and nothing is said. */
void	rig_crash(struct rig *);
void	rig_stop(struct rig *);
void	credit(struct rig *, unsigned n);
void	settle(struct rig *, struct message *, enum settlement_kind,
	    uint64_t delay_us, unsigned attempt, unsigned crashes);
/* What the engine does at the end of MaxLease=: no settlement comes. */
void	drop(struct rig *, struct message *);
void	acknowledge_all(struct rig *);
/* Waits for one that came after the last take_one or settle. */
struct message *take_one(struct rig *);
void	settle_and_wait(struct rig *, struct message *, enum settlement_kind,
	    uint64_t delay_us, unsigned attempt, unsigned crashes);
const struct backlog *probe(struct rig *);
bool	body_is(const struct message *, const char *);
bool	attribute_is(const struct message *, const char *name,
	    const char *value);
size_t	config_problem_count(const char *keys);

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

struct enqueueing {
	struct enqueue_job job;
	bool done;
	char id[256];
	struct error err;
};

void	enqueue(struct rig *, struct enqueueing *, const char *body,
	    const struct attribute *attributes, size_t n);

/* No log lines, unless BOT_TEST_LOG is set. */
void	rig_quiet(void);

/* ---- the one server of a test program ---- */

extern struct server server;	/* pid 0 where there is no redis-server */

/* Group fixtures: in memory, or with an append-only file. */
int	world_setup(void **state);
int	world_setup_durable(void **state);
int	world_teardown(void **state);
/* Before each test: empties it. */
int	world_flush(void **state);

#define NEED_SERVER() \
	do { \
		if (server.pid == 0) { \
			print_message("no redis-server: skipped\n"); \
			skip(); \
		} \
	} while (0)

/* A started queue of these keys; at most window messages are taken. */
struct rig *up(const char *keys, unsigned window);

/* Mode=stream, Key=jobs, Group=g, Consumer=me */
#define STREAM	"Mode=stream\nKey=jobs\nGroup=g\nConsumer=me\n"
#define DELAYED	"{jobs}:bot:g:delayed"
#define RECORDS	"{jobs}:bot:g:messages"

int64_t	pending(void);
void	produce(unsigned from, unsigned n);

#endif
