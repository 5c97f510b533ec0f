/*
 * frame.h - the worker protocol, version 1 (docs/worker-protocol.md): text
 * lines, byte lengths, raw payloads.  Pure: no descriptor, no clock.
 */
#ifndef BOT_CODEC_FRAME_H
#define BOT_CODEC_FRAME_H

#include "base/buffer.h"
#include "base/error.h"

#define FRAME_VERSION	1
#define FRAME_LINE_MAX	((size_t)512)	/* a header line, newline included */

enum frame_kind {
	FRAME_NONE = 0,
	/* operator -> worker */
	FRAME_HELLO, FRAME_MSG, FRAME_CANCEL, FRAME_DRAIN,
	/* worker -> operator */
	FRAME_READY, FRAME_DONE, FRAME_RETRY, FRAME_DEAD, FRAME_TOUCH,
};

struct frame {
	enum frame_kind kind;
	uint64_t id;			/* MSG, CANCEL, DONE, RETRY, DEAD, TOUCH */
	uint64_t number;		/* HELLO: version; READY: how many; TOUCH:
					   extend ms; RETRY: delay ms, or
					   FRAME_DELAY_DEFAULT for "-" */
	struct slice word;		/* HELLO: instance; MSG: queue; RETRY, DEAD:
					   error type */
	uint64_t attempt, timeout_ms;	/* MSG */
	struct slice attributes, body;	/* MSG */
	struct slice detail;		/* RETRY, DEAD */
};

#define FRAME_DELAY_DEFAULT	UINT64_MAX

/*
 * The first frame in the buffer; its slices point into the buffer and live
 * until the buffer changes. from_worker chooses which kinds are allowed.
 * Returns the bytes it takes (consume them), 0 when more must come, or
 * -EPROTO and *err, after which the peer cannot be understood any more.
 * payload_max bounds each length that the peer announces.
 */
ssize_t	frame_decode(struct slice in, bool from_worker, size_t payload_max,
	    struct frame *ret, struct error *err);

void	frame_add_hello(struct buffer *, const char *instance);
/* attributes: JSON, made by the caller. The body follows in place. */
void	frame_add_msg(struct buffer *, uint64_t id, struct slice queue,
	    unsigned attempt, uint64_t timeout_ms, struct slice attributes,
	    struct slice body);
void	frame_add_cancel(struct buffer *, uint64_t id);
void	frame_add_drain(struct buffer *);
void	frame_add_ready(struct buffer *, unsigned n);
void	frame_add_done(struct buffer *, uint64_t id);
void	frame_add_retry(struct buffer *, uint64_t id, uint64_t delay_ms,
	    struct slice error_type, struct slice detail);
void	frame_add_dead(struct buffer *, uint64_t id, struct slice error_type,
	    struct slice detail);
void	frame_add_touch(struct buffer *, uint64_t id, uint64_t extend_ms);

#endif
