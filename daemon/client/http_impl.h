/*
 * http_impl.h - what the files of the HTTP client share.
 *
 *	http.c		the client; one exchange: from http_send to on_done
 *	http_endpoint.c	who gets which connection, and who waits
 *	http_conn.c	one connection: up (through the proxy, TLS), in, at rest
 *	http_write.c	what goes out on it
 *	http_answer.c	the bytes of one answer
 *	http_proxy.c	which proxy, if any
 *	http_url.c  http_retry.c: as they are named
 *
 * An exchange is what a request is between http_send and on_done.  It waits at
 * its endpoint, or has one connection and is that connection's only one.
 */
#ifndef BOT_CLIENT_HTTP_IMPL_H
#define BOT_CLIENT_HTTP_IMPL_H

#include "base/hash.h"
#include "base/secret.h"
#include "client/http.h"
#include "net/stream.h"

/* ---- http_answer.c ---- */

struct http_answer {
	bool to_head;		/* of a HEAD: no body, whatever it says */
	bool have_head;
	bool may_cut, was_cut;	/* a body over max_body is no error */
	size_t max_body;
	struct http1_head head;	/* points into head_bytes */
	struct http1_chunked chunked;
	struct buffer head_bytes, body;
};

void	http_answer_init(struct http_answer *, bool to_head, size_t max_body);
void	http_answer_done(struct http_answer *);
/* Consumes what it can use. 1: complete; 0: more must come; or -errno and
   *err. */
int	http_answer_read(struct http_answer *, struct buffer *in,
	    struct error *err);
/* Whether the end of the connection completes it. */
bool	http_answer_ends(const struct http_answer *);

/* ---- http_proxy.c ---- */

struct http_proxy {
	struct address address;
	struct secret *authorization;	/* "Basic ..."; NULL: none */
};

struct http_proxies {
	struct http_proxy *http, *https;	/* NULL: none */
	char *except;			/* NO_PROXY; NULL: for all requests */
};

/* text: as in http_client_params. 0 or -EINVAL and *err (REJECTED). */
int	http_proxies_init(struct http_proxies *, const char *text,
	    struct error *err);
void	http_proxies_done(struct http_proxies *);
/* NULL: go there directly. */
const struct http_proxy *http_proxy_for(const struct http_proxies *,
	    const struct http_url *);
bool	http_no_proxy_matches(const char *list, const struct http_url *);

/* ---- http_url.c ---- */

/* Where its host is. */
void	http_url_address(const struct http_url *, struct address *ret);

/* ---- http_retry.c ---- */

/* Of Retry-After and Date. */
void	http_read_times(const struct http1_head *, uint64_t *ret_retry_after_us,
	    uint64_t *ret_date_us);

/* ---- http.c ---- */

struct http_client {
	struct loop *loop;
	struct resolver *resolver;
	struct tls_context *tls;
	struct http_proxies proxies;
	unsigned max_connections;
	uint64_t idle_timeout_us;
	struct hash endpoints;
	struct http_client_stats stats;
};

struct http_exchange {
	struct http_request *request;
	struct http_endpoint *endpoint;
	struct http_conn *conn;		/* NULL: it waits */
	struct list link;		/* of endpoint->waiting */
	struct timer timer;		/* timeout_us */
	struct http_answer answer;
};

/* The answer is complete.  keep: its connection can serve another.  Nothing of
   the client may be touched after it. */
void	http_exchange_answered(struct http_exchange *, bool keep);
/* The same for what went wrong. */
void	http_exchange_failed(struct http_exchange *, const struct error *);

/* ---- http_endpoint.c ---- */

struct http_endpoint {
	struct hash_node node;		/* of client->endpoints */
	struct http_client *client;
	struct http_url url;		/* without a target */
	const struct http_proxy *proxy;
	struct list idle;		/* the last used first */
	struct list busy;		/* connections with an exchange */
	struct list waiting;		/* exchanges, in order */
	unsigned nconns;
	char key[280];
};

struct http_endpoint *http_endpoint_get(struct http_client *,
	    const struct http_url *);
/* Those that wait get what is free; an endpoint without use goes away. */
void	http_endpoint_next(struct http_endpoint *);
void	http_endpoint_close_idle(struct http_endpoint *);

/* ---- http_conn.c ---- */

enum http_conn_state {
	HTTP_CONN_CONNECTING = 1,	/* to the peer or its proxy, TLS too */
	HTTP_CONN_TUNNEL,		/* CONNECT was said to the proxy */
	HTTP_CONN_TUNNEL_TLS,		/* the handshake through it */
	HTTP_CONN_BUSY,
	HTTP_CONN_IDLE,
};

struct http_conn {
	struct list link;		/* of endpoint->idle or ->busy */
	struct http_endpoint *endpoint;
	struct http_exchange *exchange;	/* NULL: idle */
	enum http_conn_state state;
	struct stream stream;
	struct timer timer;		/* connect_timeout_us, for all of it */
	struct slice unsent;		/* of the request's body */
	uint64_t heard_bytes;		/* before this exchange */
	bool used;			/* it has served one before */
};

/* A new one for the exchange, or one that is idle. */
void	http_conn_open(struct http_endpoint *, struct http_exchange *);
void	http_conn_take(struct http_conn *, struct http_exchange *);
/* Its exchange has ended well: it waits for another. */
void	http_conn_rest(struct http_conn *);
/* Closes, whatever it does. The exchange, if any, is left without. */
void	http_conn_free(struct http_conn *);

/* ---- http_write.c ---- */

/* The stream's high-water mark: of a long body more is not in its buffer. */
#define HTTP_WRITE_MARK	(64 * KIB)

void	http_conn_write_connect(struct http_conn *);
void	http_conn_write_request(struct http_conn *);
/* The next piece of a body that does not go out at once. */
void	http_conn_write_more(struct http_conn *);

#endif
