/*
 * http.h - HTTP/1.1 requests (RFC 9110, 9112) over the loop's streams.
 *
 * A client is a set of connections with one TLS configuration and one proxy
 * configuration; everything that speaks HTTPS in the house makes one.
 * Connections are kept per endpoint (scheme, host, port), reused while they
 * are idle, and bounded in number: a request beyond the bound waits in order.
 * TLS sessions are resumed.  Nothing is pipelined.
 *
 * A request lives inside its owner.  http_send() takes it; on_done comes
 * exactly once, from the loop, never inside http_send(), and not at all after
 * http_cancel().  The request is idle again before on_done runs: it may be
 * sent again there, or freed, and the client too if nothing else is open.  The
 * strings and the body that it points to belong to the owner and stay
 * unchanged until then.
 *
 * Errors (struct error):
 *	TRANSIENT  "connect_timeout", "response_timeout" (no complete answer
 *		   within timeout_us), ECONNREFUSED, "eof" (closed in the middle
 *		   of an answer), the resolver's, "proxy_error" (5xx to CONNECT)
 *	AUTH	   "tls_verify", "proxy_auth" (407)
 *	REJECTED   "redirect" (3xx is never followed: text names the Location,
 *		   without its query), "response_too_large", "proxy_refused"
 *	PROTOCOL   what is no HTTP
 * An answer of any other status is no error: on_done gets it and decides.
 * A reused connection that closes before the first byte of the answer is
 * nobody's fault: the request is sent once more on a new one when it is
 * idempotent or its owner has said so (resend).  1xx answers are skipped.
 */
#ifndef BOT_CLIENT_HTTP_H
#define BOT_CLIENT_HTTP_H

#include "base/buffer.h"
#include "base/error.h"
#include "codec/http1.h"
#include "config/config.h"
#include "loop/loop.h"
#include "net/resolve.h"
#include "net/tls.h"

struct http_client;
struct http_exchange;

struct http_client_params {
	struct tls_params tls;		/* of https; alpn is set by the client */
	bool no_tls;			/* only http will be asked for: reading the
					   system's certificates takes 30 ms */
	/*
	 * "http://[user:password@]host:port" for all requests, or NULL: what
	 * HTTPS_PROXY, HTTP_PROXY and NO_PROXY (also lower case; HTTP_PROXY only
	 * so) say, but for localhost and loopback addresses.  https goes through
	 * CONNECT, http as absolute-form.  "" means none, whatever the
	 * environment says.  NO_PROXY: "*", names (with all below them), IP
	 * addresses, networks (10.0.0.0/8), each but the last with a :port.
	 */
	const char *proxy;
	unsigned max_connections;	/* for one endpoint; 0: 64 */
	uint64_t idle_timeout_us;	/* an unused connection is closed; 0: 50 s */
};

struct http_url {
	bool tls;
	char host[256];			/* without brackets */
	uint16_t port;
	char host_header[272];		/* host[:port], as Host: wants it */
	struct slice target;		/* "/path?query"; points into the text */
};

struct http_response {
	unsigned status;
	const struct http1_head *head;	/* see http1_header() */
	struct slice body;		/* decoded; all of it */
	uint64_t retry_after_us;	/* of Retry-After (seconds or date); 0: none */
	uint64_t date_us;		/* of Date, wall clock; 0: none */
};

struct http_request {
	/* The owner's; zero is a sensible default for all but url and on_done. */
	const char *method;		/* NULL: "GET", or "POST" with a body */
	struct http_url url;
	struct slice body;
	/*
	 * Appends header lines ("Name: value\r\n") when the request is written;
	 * called again for each try, so that signatures and dates are fresh.
	 * Host, Content-Length and Connection are the client's.  May be NULL.
	 * It may run inside http_send(), and must not call the client.
	 */
	void (*add_headers)(struct http_request *, struct buffer *);
	void (*on_done)(struct http_request *, const struct http_response *,
	    const struct error *);	/* exactly one of the two is not NULL */
	void *owner;
	uint64_t connect_timeout_us;	/* name, TCP, proxy and TLS; 0: 5 s */
	uint64_t timeout_us;		/* from being sent (or queued) to the end
					   of the answer; 0: 30 s */
	size_t max_response;		/* bytes of decoded body; 0: 1 MiB */
	bool resend;			/* safe to send twice */
	bool any_status;		/* 3xx is an answer like any other */
	bool cut_response;		/* too long a body is cut, no error; for
					   those who only want the status */
	/* private */
	struct http_exchange *exchange;
};

/* NULL and *err when a TLS file or the proxy's URL is no good. */
struct http_client *http_client_new(struct loop *, struct resolver *,
	    const struct http_client_params *, struct error *err);
/* All requests must have ended or been cancelled. Accepts NULL. */
void	http_client_free(struct http_client *);

/* "https://host[:port][/path][?query]"; user info and fragments are refused.
   The text must outlive the url (target points into it). REJECTED. */
int	http_url_parse(struct http_url *ret, const char *text,
	    struct error *err);

/* The same for the value of a key, if it is set; a problem goes to the
   configuration. 0 or -EINVAL. */
int	http_url_check(struct config *, const struct config_section *,
	    const char *key);

void	http_send(struct http_client *, struct http_request *);
/* No on_done comes any more; a connection in use is closed. No-op when idle. */
void	http_cancel(struct http_request *);

static inline bool
http_busy(const struct http_request *r)
{
	return r->exchange != NULL;
}

/* ---- trying again: for owners that want it ---- */

/*
 * Full jitter: uniform in [0, min(base * 2^(n-1), max)] for the n-th failure
 * (n >= 1), and at least retry_after_us.
 */
uint64_t http_retry_delay_us(unsigned n, uint64_t base_us, uint64_t max_us,
	    uint64_t retry_after_us);
/* Worth another try: TRANSIENT errors; statuses 408, 429, 500, 502-504. */
bool	http_may_retry(const struct http_response *, const struct error *);

/* ---- to look at ---- */

struct http_client_stats {
	uint64_t requests, connects, reused, failed;
	unsigned open, idle, waiting;
};
void	http_client_get_stats(const struct http_client *,
	    struct http_client_stats *ret);

#endif
