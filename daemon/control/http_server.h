/*
 * http_server.h - a small HTTP/1.1 server for reading: GET and HEAD.
 *
 * Routes are exact paths, each with a function that fills a response from
 * memory; nothing waits.  Keep-alive and pipelining are served, a few requests
 * a connection and turn.  Request bodies are refused.  Everything that a peer
 * can make grow is bounded: heads, connections (in all and for one address;
 * an IPv6 /64 counts as one), unsent answers, and time.
 *
 * When names are given, a request must be for one of them, for "localhost" or
 * for an IP literal: a page that a browser fetched from elsewhere cannot read
 * the status by pointing its own name at this host (DNS rebinding).
 */
#ifndef BOT_CONTROL_HTTP_SERVER_H
#define BOT_CONTROL_HTTP_SERVER_H

#include "codec/http1.h"
#include "control/http_feed.h"
#include "net/stream.h"

struct http_server;

/* Zeros are the defaults. */
struct http_server_params {
	uint64_t head_timeout_us;	/* a whole head must come; 10 s */
	uint64_t idle_timeout_us;	/* between requests; 60 s */
	uint64_t write_timeout_us;	/* without a byte taken; 30 s, noticed
					   at most a quarter later */
	uint64_t linger_us;		/* a refused peer said nothing more;
					   1 s, in all head_timeout_us */
	unsigned max_connections;	/* 64; further ones get a 503 */
	unsigned max_per_address;	/* 16; Unix sockets have none */
	char *const *names;		/* ends with NULL; NULL: any. Copied */
};

/* Lives for the call. */
struct http_request {
	const struct http1_head *head;
	struct slice path;		/* without escapes */
	struct slice query;		/* as it came; see codec/url.h */
	const struct address *peer;
};

struct http_response {
	unsigned status;		/* 200 unless changed */
	const char *content_type;	/* static; "text/plain; charset=utf-8"
					   unless changed */
	struct buffer body;		/* HEAD too: the server leaves it out */
	struct buffer headers;		/* whole lines; http_response_header() */
	struct http_feed *feed;		/* NULL: the body is all; else what is
					   sent to the feed follows it */
};

typedef void http_route_fn(void *owner, const struct http_request *,
	    struct http_response *);

/* May this be answered? Asked before any route; false: r says why not. */
typedef bool http_guard_fn(void *owner, const struct http_request *,
	    struct http_response *r);

/* Is nobody from there served? Its connections are closed without an answer;
   asked when one comes, before anything is read, and now and then later. */
typedef bool http_ban_fn(void *owner, const struct sockaddr *peer);

/* A header more; neither may hold a line break. */
void	http_response_header(struct http_response *, const char *name,
	    const char *value);

struct http_server *http_server_new(struct loop *,
	    const struct http_server_params *);
/* Closes all. Accepts NULL. Not from inside a route. */
void	http_server_free(struct http_server *);
/* what: a few words for the list of paths. Both static. */
void	http_server_route(struct http_server *, const char *path,
	    const char *what, http_route_fn *, void *owner);
/* fn NULL: no guard. */
void	http_server_set_guard(struct http_server *, http_guard_fn *,
	    void *owner);
void	http_server_set_ban(struct http_server *, http_ban_fn *, void *owner);
int	http_server_listen(struct http_server *, const struct address *,
	    struct error *);
/* Takes over a listening fd (socket activation). */
int	http_server_adopt(struct http_server *, int fd, struct error *);
/* Where it listens, with the port that was really chosen. */
const struct address *http_server_address(const struct http_server *);

struct http_server_stats {
	uint64_t connections;		/* open now */
	uint64_t accepted, refused;	/* since the start; 503 or just closed */
	uint64_t banned;		/* closed since the peer is banned */
	uint64_t requests;
	uint64_t cut;			/* too slow, in one way or another */
};

void	http_server_get_stats(const struct http_server *,
	    struct http_server_stats *ret);

#endif
