/*
 * resp.h - RESP2 (redis.io, "Redis serialization protocol") by hiredis'
 * reader and formatter.  Pure: no descriptor.
 *
 * Replies are trees in a chunk: one bump allocation a node, no malloc, and
 * the strings can be kept by whoever references the chunk.
 */
#ifndef BOT_CODEC_RESP_H
#define BOT_CODEC_RESP_H

#include "base/buffer.h"
#include "base/chunk.h"
#include "base/error.h"

enum resp_type {
	RESP_NONE = 0,
	RESP_STRING, RESP_ARRAY, RESP_INTEGER, RESP_NIL, RESP_STATUS, RESP_ERROR,
};

struct resp {
	enum resp_type type;
	int64_t integer;
	struct slice str;		/* STRING, STATUS, ERROR; NUL-terminated */
	struct resp **element;		/* ARRAY */
	size_t count;
};

struct resp_reader;

/* reply_max: bytes of one reply; beyond it the reader fails. */
struct resp_reader *resp_reader_new(size_t reply_max);
void	resp_reader_free(struct resp_reader *);		/* accepts NULL */
/*
 * Takes bytes from in (consuming them, 16 KiB at a time: larger feeds go
 * quadratic in hiredis) until one reply is complete. 1: *ret is set and lives
 * in *ret_chunk, of which the caller gets a reference. 0: more must come.
 * -EPROTO and *err: the connection is of no use any more.
 */
int	resp_reader_next(struct resp_reader *, struct buffer *in,
	    struct resp **ret, struct chunk **ret_chunk, struct error *err);

/* Formats a command. argv strings may hold any bytes. */
void	resp_add_command(struct buffer *, const struct slice *argv, size_t argc);
/* The same piece by piece: a head that says how many arguments follow. */
void	resp_add_head(struct buffer *, size_t argc);
void	resp_add_arg(struct buffer *, struct slice);
void	resp_add_arg_u64(struct buffer *, uint64_t);

/* ---- reading trees without surprises ---- */

/* The i-th element, or a static NIL: never NULL. */
const struct resp *resp_at(const struct resp *, size_t i);
bool	resp_is_error(const struct resp *, const char *prefix);

#endif
