/*
 * redis_rig.h - the Redis queue on a real redis-server of its own.
 */
#ifndef TESTS_REDIS_RIG_H
#define TESTS_REDIS_RIG_H

#include "queue_rig.h"

#include <hiredis/hiredis.h>

#include "queue/redis.h"
#include "queue/redis_impl.h"

struct server {
	pid_t pid;
	char dir[64];
	char socket[96];
	unsigned port, tls_port;
	redisContext *admin;		/* blocking, for the test itself */
};

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

/* ---- the queue ---- */

/* keys: the lines of the section beside Type= and Address=. */
struct rig *redis_rig_new(const char *address, const char *keys);
size_t	redis_problem_count(const char *keys);

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
