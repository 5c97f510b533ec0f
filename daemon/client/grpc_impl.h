/*
 * grpc_impl.h - what the parts of the gRPC client share.
 *
 *	grpc.c		the channel and the owner's calls
 *	grpc_conn.c	one connection: up, keep-alive, idle, down
 *	grpc_session.c	nghttp2: bytes in and out, calls become streams
 *	grpc_callbacks.c	what nghttp2 tells
 *	grpc_metadata.c	the headers of a request
 *	grpc_answer.c	the headers of an answer, and what its end means
 *	grpc_deliver.c	messages and ends, told to the owners by a task
 *
 * nghttp2's callbacks only take notes: bytes into exchanges, flags, the ready
 * list.  The owners hear of it later, from the channel's task, so they may do
 * anything to calls, and connections may go at any time, without nghttp2 being
 * in the middle of something.
 */
#ifndef BOT_CLIENT_GRPC_IMPL_H
#define BOT_CLIENT_GRPC_IMPL_H

#include <nghttp2/nghttp2.h>

#include "client/grpc.h"
#include "net/stream.h"

#define GRPC_WRITE_MARK		(256 * KIB)	/* more is not written ahead */
#define GRPC_HEADERS_MAX	(64 * KIB)	/* of one answer */
#define GRPC_CONN_WINDOW	((int32_t)8 * 1024 * 1024)
#define GRPC_DETAILS_MAX	(16 * KIB)

struct grpc_conn;

struct grpc_channel {
	struct loop *loop;
	struct resolver *resolver;
	struct address address;
	struct tls_context *tls;	/* NULL: plain */
	char *tls_name, *authority, *user_agent;
	uint64_t connect_timeout_us, keepalive_us, keepalive_timeout_us,
	    idle_timeout_us;
	size_t max_message, stream_window;
	struct grpc_conn *conn;		/* for new calls; NULL: none */
	struct list conns;		/* with those that drain */
	struct list waiting;		/* exchanges without a stream yet */
	struct list ready;		/* exchanges with something to tell */
	struct task ready_task, flush_task;
	struct grpc_channel_stats stats;
	bool inside;			/* grpc_tell() goes through its list */
	bool gone;			/* freed meanwhile, but for its memory */
};

/* ---- grpc_answer.c ---- */

struct grpc_answer {
	unsigned http_status;		/* 0: not yet */
	bool final_head;		/* that of the answer has come whole */
	bool content_type_ok;
	bool have_status;		/* in the latest block */
	unsigned code;
	char message[256];
	struct buffer details;
	size_t header_bytes;
};

/* How a call ended. */
struct grpc_end {
	unsigned code;
	struct error err;		/* class NONE: the code says it all */
	bool unseen;
};

void	grpc_answer_init(struct grpc_answer *);
void	grpc_answer_done(struct grpc_answer *);
void	grpc_answer_begin(struct grpc_answer *);	/* a block of headers */
/* -EMSGSIZE: too many of them. */
int	grpc_answer_header(struct grpc_answer *, struct slice name,
	    struct slice value);
/* The block is complete: does it forbid that messages follow? */
bool	grpc_answer_refused(const struct grpc_answer *);
/* What the end of the stream means; partial: in the middle of a message. */
void	grpc_answer_end(const struct grpc_answer *, bool partial,
	    struct grpc_end *ret);
void	grpc_end_of_rst(uint32_t http2_error, struct grpc_end *ret);

/* ---- one call ---- */

struct grpc_exchange {
	struct grpc_call *call;
	struct grpc_channel *channel;
	struct grpc_conn *conn;		/* NULL: waits, or its connection went */
	struct list link;		/* of channel->waiting, conn->exchanges */
	struct list ready;		/* of channel->ready */
	struct timer timer;		/* timeout_us */
	int32_t stream_id;		/* 0: none yet */
	struct buffer in, out;		/* framed messages */
	size_t held;			/* bytes that the window misses */
	struct grpc_answer answer;
	struct grpc_end end;
	bool started;			/* HEADERS have left */
	bool requeued;			/* once, after a GOAWAY */
	bool last;			/* the owner said so */
	bool last_sent;			/* END_STREAM has left */
	bool deferred;			/* nghttp2 waits for resume_data */
	bool closed;			/* the stream is no more, or as good as */
	bool reset_by_server;
	bool ended;			/* end is what became of it, */
	bool ended_by_server;		/* ... but for what is in answer */
	bool opened, told_open, paused;
	bool over_high_water, drained;
	bool inside;			/* a callback of the owner's runs */
	bool gone;			/* ended inside it: freed behind it */
};

/* ---- grpc.c ---- */

/* It leaves the owner, the lists and its connection; then it is freed, unless
   a callback of its owner's is running. */
void	grpc_exchange_release(struct grpc_exchange *);
void	grpc_exchange_free(struct grpc_exchange *);

/* ---- grpc_deliver.c ---- */

void	grpc_ready(struct grpc_exchange *);
/* Tells all that are ready. From the loop only; the channel may be gone after
   it. */
void	grpc_tell(struct grpc_channel *);
void	grpc_tell_task(struct task *);
/* The end, as far as we know; told when the messages before it are. */
void	grpc_exchange_end(struct grpc_exchange *, const struct grpc_end *);
/* Made of an error that is not the server's. */
void	grpc_exchange_fail(struct grpc_exchange *, unsigned code,
	    const struct error *, bool unseen);
void	grpc_exchange_timeout(struct timer *);

/* ---- grpc_conn.c ---- */

struct grpc_conn {
	struct list link;		/* of channel->conns */
	struct grpc_channel *channel;
	struct stream stream;
	struct timer timer;		/* connecting, keep-alive or idle */
	nghttp2_session *session;
	struct list exchanges;
	bool ready;			/* the server's SETTINGS have come */
	bool draining;			/* GOAWAY has come, or no more ids */
	bool said_goaway;		/* nghttp2 gave up on the peer */
	bool ping_open;
	uint64_t ping_us, idle_since_us, busy_since_us;
	uint32_t goaway_code;		/* the peer's */
	char goaway_text[96];
};

/* The channel's connection for new calls; starts one if need be. */
void	grpc_conn_open(struct grpc_channel *);
/* Closes, silently for the stream.  Calls on it end UNAVAILABLE with err, told
   later; those that waited for it, too. */
void	grpc_conn_end(struct grpc_conn *, const struct error *err);
/* Like it, without calls. */
void	grpc_conn_free(struct grpc_conn *);
void	grpc_conn_heard(struct grpc_conn *);	/* bytes have come */
void	grpc_conn_busy(struct grpc_conn *);	/* its first call has come */
void	grpc_conn_unused(struct grpc_conn *);	/* its last call has gone */

/* ---- grpc_session.c ---- */

void	grpc_session_new(struct grpc_conn *);
/* Bytes of the peer's. Nothing of the connection may be touched after it. */
void	grpc_session_read(struct grpc_conn *, struct buffer *in);
/* What nghttp2 has to say goes to the stream. Nothing of the connection may
   be touched after it. */
void	grpc_session_flush(struct grpc_conn *);
/* Those that wait get streams. */
void	grpc_session_start(struct grpc_conn *);
void	grpc_session_resume(struct grpc_exchange *);
/* Without a flush. */
void	grpc_session_reset(struct grpc_exchange *, uint32_t error);
void	grpc_session_taken(struct grpc_exchange *, size_t n);

/* ---- grpc_callbacks.c ---- */

void	grpc_set_callbacks(nghttp2_session_callbacks *);
ssize_t	grpc_read_body(nghttp2_session *, int32_t id, uint8_t *to, size_t room,
	    uint32_t *flags, nghttp2_data_source *, void *user);

/* ---- grpc_metadata.c ---- */

#define GRPC_METADATA_MAX	32

struct grpc_metadata {
	struct buffer text;		/* names and values; wiped */
	struct {
		size_t name, nname, value, nvalue;
	} at[GRPC_METADATA_MAX];
	size_t n;
};

void	grpc_metadata_init(struct grpc_metadata *);
void	grpc_metadata_done(struct grpc_metadata *);
/* All of a request's headers, in the specification's order. */
void	grpc_metadata_fill(struct grpc_metadata *, struct grpc_exchange *);
/* nv has room for GRPC_METADATA_MAX; valid while the metadata is unchanged. */
size_t	grpc_metadata_nv(const struct grpc_metadata *, nghttp2_nv *nv);

#endif
