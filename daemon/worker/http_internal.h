/*
 * http_internal.h - what the files of the Http= handler share.
 *
 *	http_pool.c	handler_ops; how many requests there may be
 *	http_call.c	one message on its way, and what the answer means
 *	http_target.c	the section: where to, with which secrets
 */
#ifndef BOT_WORKER_HTTP_INTERNAL_H
#define BOT_WORKER_HTTP_INTERNAL_H

#include <sys/stat.h>

#include "base/secret.h"
#include "client/http.h"
#include "engine/engine.h"
#include "worker/http_pool.h"

/* ---- http_target.c ---- */

#define HTTP_CONCURRENCY	10u
#define HTTP_CONCURRENCY_MAX	1024u

/* What the section says.  A call keeps the one that it was made with. */
struct http_target {
	unsigned refs;
	unsigned concurrency;
	char *text;			/* url points into it */
	struct http_url url;
	struct http_client *client;
	char *header_file;		/* NULL: none */
	struct secret *headers;		/* whole lines; NULL: not (yet) read */
	struct stat header_stat;	/* of when it was read */
	uint64_t looked_us;
	bool complained;		/* that it cannot be read again */
};

/* One reference. Problems go to the tree (init), or, with a NULL tree, to the
   log (reload). NULL when there was any. */
struct http_target *http_target_new(const struct pool *, struct config *,
	    const struct config_section *);
struct http_target *http_target_ref(struct http_target *);
void	http_target_unref(struct http_target *);	/* accepts NULL */
/*
 * Reads the header file if it was not read or has changed; looks once a second
 * at most.  What was read before stays when it cannot be read again.  -errno
 * and *err when there is nothing to send.
 */
int	http_target_look(struct http_target *, const struct pool *,
	    struct error *err);

/* ---- http_call.c ---- */

enum http_call_state {
	HTTP_CALL_RUNNING = 1,
	HTTP_CALL_CANCELLED,	/* the lease is lost; a verdict is due */
	HTTP_CALL_KILLED,	/* the drain time is over; it goes back */
};

struct http_call {
	struct list link;	/* of http_pool.calls or .ended */
	struct http_pool *hp;
	struct http_target *target;
	struct message *message;
	struct http_request request;
	enum http_call_state state;
	uint64_t started_us;
};

void	http_call_start(struct http_pool *, struct message *);
/* Lets the request go; the answer to the engine waits for the pool's task. */
void	http_call_stop(struct http_call *, enum http_call_state);
/* One that was stopped: tells the engine. */
void	http_call_settle(struct http_call *);

/* ---- http_pool.c ---- */

struct http_pool {
	struct pool *pool;
	struct http_target *target;
	struct list calls, ended;
	unsigned inflight;	/* of both */
	unsigned concurrency;
	bool started, draining, drained;
	struct task task;
	struct timer timer;	/* the header file could not be read */
};

/* A call has left: there may be room, or nothing left to drain. */
void	http_pool_left(struct http_pool *);

#endif
