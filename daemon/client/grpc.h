/*
 * grpc.h - gRPC calls (the "gRPC over HTTP/2" protocol) over the loop's
 * streams, with nghttp2 as the codec of HTTP/2.
 *
 * A channel is one HTTP/2 connection to one server, made when the first call
 * starts.  After a loss it is made again by the next call that starts: how
 * long to wait before that is for the owners to decide.  A connection that
 * the server is about to end (GOAWAY) carries its calls to their end while new
 * calls get a new one.
 *
 * A call lives inside its owner, which sets the fields of its part and zeroes
 * the rest.  grpc_call_start() takes it; on_done comes exactly once, and not
 * at all after grpc_call_cancel().  The call is idle again before on_done
 * runs: it may be started again there, or freed, and the channel too if
 * nothing else is open.  on_open and on_message may cancel, pause, send, and
 * free what they like too.  No callback runs inside a call of the owner's:
 * all come from the loop.  path belongs to the owner and stays unchanged until
 * then; what is sent is copied.
 *
 * Messages come whole and in order; a slice is valid inside the callback.
 * on_done comes after the last message, so a paused call may be done and not
 * say so until it is resumed (its own time-out excepted, which drops what was
 * not yet delivered).  A call may end before the owner has said "last": what
 * it sends then is lost.
 *
 * Errors: class by code, struct error's code is the status' name:
 *	TRANSIENT  UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNKNOWN
 *	THROTTLED  RESOURCE_EXHAUSTED
 *	AUTH	   UNAUTHENTICATED, PERMISSION_DENIED
 *	REJECTED   all the others
 * What was not the server's word has a name of its own instead, and a status
 * code that says about the same:
 *	TRANSIENT  "connect_timeout", ECONNREFUSED and so on, "eof", the
 *		   resolver's (UNAVAILABLE), "goaway" (UNAVAILABLE),
 *		   "keepalive_timeout" (a PING was not answered; UNAVAILABLE),
 *		   "timeout" (timeout_us; DEADLINE_EXCEEDED),
 *		   "missing_status" (the stream ended without one; UNKNOWN)
 *	AUTH	   "tls_verify" (UNAVAILABLE)
 *	REJECTED   "message_too_large" (RESOURCE_EXHAUSTED), "compressed"
 *		   (INTERNAL)
 *	PROTOCOL   "not_http2" (no ALPN h2, or bytes that are no HTTP/2;
 *		   UNAVAILABLE), "malformed_message" (INTERNAL), "http2_error"
 *		   (the server broke the protocol; INTERNAL)
 * RST_STREAM and an HTTP status without a grpc-status give the codes of the
 * specification, with its names; an HTTP status is told in the text.
 */
#ifndef BOT_CLIENT_GRPC_H
#define BOT_CLIENT_GRPC_H

#include "base/buffer.h"
#include "base/error.h"
#include "codec/grpc.h"
#include "loop/loop.h"
#include "net/address.h"
#include "net/resolve.h"
#include "net/tls.h"

struct grpc_channel;
struct grpc_metadata;
struct grpc_exchange;

struct grpc_channel_params {
	struct address address;
	bool tls;			/* else h2c by prior knowledge */
	struct tls_params tls_params;	/* alpn is set by the channel */
	const char *tls_name;		/* NULL: the address' host */
	const char *authority;		/* NULL: host:port (no port if usual) */
	const char *user_agent;		/* NULL: "bot-operator/VERSION" */
	uint64_t connect_timeout_us;	/* name, TCP, TLS, first SETTINGS; 0: 10 s */
	uint64_t keepalive_us;		/* a PING after so long without a byte,
					   while calls are open; 0: 30 s */
	uint64_t keepalive_timeout_us;	/* 0: 10 s */
	uint64_t idle_timeout_us;	/* without a call; 0: 5 min */
	size_t max_message;		/* received; 0: 24 MiB (a pull answer has
					   20 MB at most) */
	size_t stream_window;		/* received but not yet delivered, for one
					   call; 0: 4 MiB */
};

struct grpc_status {
	unsigned code;			/* enum grpc_code; GRPC_OK is 0 */
	char message[256];		/* decoded, without control characters */
	struct slice details;		/* grpc-status-details-bin, decoded: a
					   google.rpc.Status; for the callback */
	bool unseen;			/* the server surely did nothing with the
					   call: safe to send again */
	bool from_server;		/* it sent a grpc-status; else it is ours */
};

struct grpc_call {
	/* The owner's; zero is a sensible default for all but path, on_done. */
	const char *path;		/* "/google.pubsub.v1.Publisher/Publish" */
	/* grpc_metadata_add(), when the request leaves: so that tokens are
	   fresh.  It may run inside grpc_call_start(), and once more after a
	   GOAWAY; it must not call the channel. */
	void (*add_metadata)(struct grpc_call *, struct grpc_metadata *);
	void (*on_open)(struct grpc_call *);	/* the server answers; optional */
	void (*on_message)(struct grpc_call *, struct slice message);
	/* All of it is sent, after more than GRPC_HIGH_WATER; optional. */
	void (*on_drained)(struct grpc_call *);
	/* err is NULL when the code is GRPC_OK. */
	void (*on_done)(struct grpc_call *, const struct grpc_status *,
	    const struct error *err);
	void *owner;
	uint64_t timeout_us;		/* to on_done, connecting included; also
					   sent as grpc-timeout; 0: none */
	/* private */
	struct grpc_exchange *exchange;
};

#define GRPC_HIGH_WATER		((size_t)1024 * 1024)

/* NULL and *err when a TLS file is no good. */
struct grpc_channel *grpc_channel_new(struct loop *, struct resolver *,
	    const struct grpc_channel_params *, struct error *err);
/* All calls must have ended or been cancelled. Accepts NULL. */
void	grpc_channel_free(struct grpc_channel *);

/* The call must be idle. Opens the connection if there is none. */
void	grpc_call_start(struct grpc_channel *, struct grpc_call *);
/*
 * Appends a message; last: no other follows (half close).  May be called as
 * soon as the call has started; no-op when it is idle.  Nothing bounds what
 * waits: the owner looks at grpc_call_pending().
 */
void	grpc_call_send(struct grpc_call *, struct slice message, bool last);
/* No other message: half close without one. */
void	grpc_call_send_end(struct grpc_call *);
/* No on_message, and no more window for the server once stream_window is
   full; other calls are not touched. */
void	grpc_call_pause(struct grpc_call *, bool paused);
/* RST_STREAM CANCEL; no callback comes any more. No-op when idle. */
void	grpc_call_cancel(struct grpc_call *);
/* Bytes handed to grpc_call_send() that HTTP/2 has not yet taken. */
size_t	grpc_call_pending(const struct grpc_call *);

static inline bool
grpc_call_busy(const struct grpc_call *c)
{
	return c->exchange != NULL;
}

/* Lower-case name; a value of a "-bin" name is sent as base64. Values with
   control characters are left out. Secrets are never indexed by HPACK when
   the name is "authorization". */
void	grpc_metadata_add(struct grpc_metadata *, const char *name,
	    struct slice value);

/* ---- to look at ---- */

struct grpc_channel_stats {
	uint64_t calls, failed, connects;
	uint64_t messages_in, messages_out, pings;
	unsigned open;			/* calls */
	bool connected;			/* SETTINGS have come */
};
void	grpc_channel_get_stats(const struct grpc_channel *,
	    struct grpc_channel_stats *ret);

#endif
