/*
 * stream.h - a byte stream to a peer: TCP or Unix, plain or TLS alike.
 *
 * Lives inside its owner.  Life: stream_init, then stream_connect or
 * stream_accept, then exactly one on_down (or stream_close by the owner, after
 * which nothing is called any more), then it may start again.
 *
 *	IDLE -> RESOLVING -> CONNECTING -> HANDSHAKING -> UP -> IDLE
 *	(UP -> HANDSHAKING by stream_start_tls)
 *
 * Callbacks run from the loop, never inside a call of the owner's.  A callback
 * may close or free the stream's owner (stream_done).
 *
 * Reading: on_data is given the receive buffer and consumes what it can use;
 * the rest stays and comes again with more.  Past max_unread bytes left
 * unconsumed the stream fails with PROTOCOL "input_too_long".  At most
 * read_budget bytes are read from one stream in one turn.
 *
 * Writing: stream_write appends to the send buffer; all of a turn leaves in
 * one write in LOOP_WRITE.  on_drained comes when it has emptied after having
 * been over high_water (the owner should stop at stream_pending() > it).
 */
#ifndef BOT_NET_STREAM_H
#define BOT_NET_STREAM_H

#include "base/buffer.h"
#include "loop/loop.h"
#include "net/address.h"
#include "net/resolve.h"
#include "net/tls.h"

enum stream_state {
	STREAM_IDLE = 0,
	STREAM_RESOLVING,
	STREAM_CONNECTING,
	STREAM_HANDSHAKING,
	STREAM_UP,
};

struct stream;
struct tls_session;

struct stream_ops {
	void (*on_up)(struct stream *);		/* bytes can flow; may be NULL */
	void (*on_data)(struct stream *, struct buffer *in);
	void (*on_drained)(struct stream *);	/* may be NULL */
	/*
	 * The end, from UP or before it; the stream is IDLE already. err says
	 * what: end of file is TRANSIENT "eof". Unread input was delivered.
	 */
	void (*on_down)(struct stream *, const struct error *err);
};

struct stream_params {
	struct tls_context *tls;	/* NULL: plain. A reference is taken */
	const char *tls_name;		/* NULL: the address' host */
	uint64_t connect_timeout_us;	/* resolve + connect; 0: 10 s */
	uint64_t handshake_timeout_us;	/* TLS; 0: 10 s */
	uint64_t idle_timeout_us;	/* no byte received for so long: down,
					   TRANSIENT "idle_timeout"; 0: never */
	size_t max_unread;		/* 0: 1 MiB */
	size_t read_budget;		/* a turn; 0: 256 KiB */
	size_t high_water;		/* 0: 256 KiB */
};

struct stream {
	const struct stream_ops *ops;
	void *owner;
	const char *name;		/* static; for debug listings */
	enum stream_state state;
	struct buffer in, out;
	struct address peer;
	uint64_t bytes_in, bytes_out;	/* since connected */
	uint64_t last_read_us;		/* when a byte last came; monotonic */
	/* private to stream*.c */
	struct loop *loop;
	struct list link;		/* all streams, for stream_visit */
	int fd;				/* -1: none */
	struct io io;
	struct timer timer;		/* connect, handshake, idle, close */
	struct task flush_task, again_task;
	struct resolver *resolver;
	struct resolve_query *query;
	struct tls_session *tls;
	struct tls_context *tls_context;
	struct stream_params params;
	char tls_name[256];
	uint16_t tls_port;		/* tells cached sessions apart */
	union resolve_address found[RESOLVE_MAX];
	size_t nfound, next_found;
	uint64_t deadline_us;		/* of resolve + connect */
	uint64_t idle_since_us;
	size_t read_size;		/* asked for at once; adapts */
	struct error last_error;
	bool *gone;			/* set when it ends in a callback */
	bool accepted,			/* the fd is connected already */
	    failed,			/* last_error waits to be told */
	    read_paused, over_high_water, closing,
	    write_blocked,		/* waits for room in the socket */
	    want_write_for_read, want_read_for_write,
	    write_failed,		/* what came before it is still read */
	    again_next_turn;
};

void	stream_init(struct stream *, const char *name, const struct stream_ops *,
	    void *owner);
/* Closes and frees what it holds. */
void	stream_done(struct stream *);

/*
 * Starts; what comes of it is told by on_up or on_down.  The resolver is
 * needed for names only.  Params and address are copied.
 */
void	stream_connect(struct stream *, struct loop *, struct resolver *,
	    const struct address *, const struct stream_params *);
/* Takes a connected, non-blocking fd over (also on failure). */
void	stream_accept(struct stream *, struct loop *, int fd,
	    const struct stream_params *);

/*
 * TLS from here on, over a connection that is UP and plain: behind a proxy's
 * CONNECT, or STARTTLS.  The stream goes back to HANDSHAKING; on_up comes once
 * more.  name and port as stream_connect has them; the context is
 * referenced.  Bytes that came or wait to go are a PROTOCOL "tls_early": plain
 * ones must not pass for encrypted ones.  Allowed in on_data; not when paused.
 */
void	stream_start_tls(struct stream *, struct tls_context *,
	    const char *name, uint16_t port);

/* Before UP it waits for UP; when idle it is lost. */
void	stream_write(struct stream *, const void *, size_t);
/* The send buffer itself, for codecs that format in place; call
   stream_flush() after appending. */
struct buffer *stream_out(struct stream *);
void	stream_flush(struct stream *);
size_t	stream_pending(const struct stream *);

/* Stops/starts reading: backpressure. Once started again, what was left
   unconsumed comes again, even without more. */
void	stream_pause(struct stream *, bool paused);
void	stream_set_idle_timeout(struct stream *, uint64_t us);	/* 0: never */
/* Now; unsent bytes are dropped. Silent: no on_down. No-op when idle. */
void	stream_close(struct stream *);
/* Sends what is pending (and TLS close), then on_down with "closed". Gives up
   after the handshake time-out. */
void	stream_close_flushed(struct stream *);

static inline bool
stream_is_up(const struct stream *s)
{
	return s->state == STREAM_UP;
}

const char *stream_state_name(enum stream_state);
/* "TLSv1.3 TLS_AES_256_GCM_SHA384", or NULL when plain. */
const char *stream_tls_text(const struct stream *);
/* When the peer's certificate ends (seconds since 1970); false when plain.
   After a resumption it is the one of back then: see fresh in net/tls.h. */
bool	stream_tls_until(const struct stream *, int64_t *ret);
/* Every stream that is not idle: for "botctl debug streams". */
typedef void stream_visit_fn(void *arg, const struct stream *);
void	stream_visit(stream_visit_fn *, void *arg);

/* ---- listening ---- */

struct listener;
/* A non-blocking, close-on-exec socket that the callee owns from now on. */
typedef void listener_fn(struct listener *, int fd,
	    const struct sockaddr *peer);

struct listener {
	struct io io;
	struct loop *loop;
	listener_fn *fn;
	void *owner;
	struct timer pause;	/* after EMFILE: stops accepting for a moment */
	struct address bound;	/* with the port that was really chosen */
	/* private */
	bool made_file;
	dev_t file_dev;
	ino_t file_ino;
};

void	listener_init(struct listener *, const char *name, listener_fn *,
	    void *owner);
/* An old socket file that nobody listens on is replaced; one that somebody
   does is -EADDRINUSE. mode: of a Unix socket, e.g. 0660. */
int	listener_start(struct listener *, struct loop *, const struct address *,
	    mode_t mode, struct error *);
/* Takes over a listening fd (socket activation). */
int	listener_adopt(struct listener *, struct loop *, int fd,
	    struct error *);
/* Removes the socket file that it made. No-op when idle. */
void	listener_stop(struct listener *);

#endif
