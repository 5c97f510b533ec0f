/*
 * http1.h - HTTP/1.1 messages (RFC 9112), both directions.  Pure.
 */
#ifndef BOT_CODEC_HTTP1_H
#define BOT_CODEC_HTTP1_H

#include "base/buffer.h"
#include "base/error.h"

#define HTTP1_HEAD_MAX		((size_t)16 * KIB)
#define HTTP1_HEADERS_MAX	64

struct http1_header {
	struct slice name, value;	/* value without the white space around */
};

struct http1_head {
	/* request */
	struct slice method, target;
	/* response */
	unsigned status;
	struct slice reason;
	/* both */
	unsigned minor;			/* HTTP/1.minor */
	struct http1_header headers[HTTP1_HEADERS_MAX];
	size_t nheaders;
	/* derived, RFC 9112 section 6 */
	enum { HTTP1_BODY_NONE = 1, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED,
	    HTTP1_BODY_UNTIL_CLOSE } body;
	uint64_t content_length;
	bool keep_alive;
};

/*
 * Parses a head at the start of in; slices point into it. Returns its length
 * with the empty line, 0 when more must come, or -EPROTO and *err (bare CR,
 * obs-fold, space before the colon, two different Content-Lengths,
 * Content-Length with Transfer-Encoding, more than the limits, ...: refused,
 * as RFC 9112 sections 5, 6.3 and 11 say, so that nobody is smuggled past).
 */
ssize_t	http1_parse_request(struct slice in, struct http1_head *ret,
	    struct error *err);
/* head_request: the answer to HEAD has no body. */
ssize_t	http1_parse_response(struct slice in, bool head_request,
	    struct http1_head *ret, struct error *err);
/* The (first) header of that name, any case; p NULL when there is none. */
struct slice http1_header(const struct http1_head *, const char *name);

/* Chunked bodies, incrementally. */
struct http1_chunked {
	enum { CHUNK_SIZE_LINE = 0, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER,
	    CHUNK_COMPLETE } state;
	uint64_t left;
	size_t trailer_bytes;
};

/*
 * Appends decoded bytes to out, never letting it grow past max (-EMSGSIZE).
 * Returns how many bytes of in were used; done when state is CHUNK_COMPLETE.
 * Bytes that were not used (half a line) must come again, with more.
 * -EPROTO and *err when malformed.
 */
ssize_t	http1_chunked_decode(struct http1_chunked *, struct slice in,
	    struct buffer *out, size_t max, struct error *err);

/* "Bad Request", for the statuses we send. */
const char *http1_reason(unsigned status);

#endif
