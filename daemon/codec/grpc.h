/*
 * grpc.h - what gRPC adds to HTTP/2 (the "gRPC over HTTP/2" specification):
 * message frames, status codes, and the spelling of its headers.  Pure.
 */
#ifndef BOT_CODEC_GRPC_H
#define BOT_CODEC_GRPC_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

/* google.rpc.Code */
enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* "NOT_FOUND"; "UNKNOWN" for what is no code. */
const char *grpc_code_name(unsigned code);
/* See client/grpc.h; ERROR_NONE for GRPC_OK. */
enum error_class grpc_code_class(unsigned code);
/* grpc-status: decimal; GRPC_UNKNOWN for what is no code. */
unsigned grpc_code_parse(struct slice);
/* For an answer without a grpc-status: 401 is UNAUTHENTICATED, ... */
unsigned grpc_code_of_http(unsigned http_status);
/* For RST_STREAM's error code: REFUSED_STREAM is UNAVAILABLE, ... */
unsigned grpc_code_of_rst(uint32_t http2_error);

/* ---- messages: compressed flag, length, bytes ---- */

#define GRPC_PREFIX	((size_t)5)

/*
 * The message at the start of in.  Returns its bytes with the prefix, 0 when
 * more must come, or -EPROTO and *err: "compressed" or "message_too_large"
 * (REJECTED), "malformed_message" (PROTOCOL).  *ret points into the input.
 */
ssize_t	grpc_message(struct slice in, size_t max, struct slice *ret,
	    struct error *err);
/* Appends prefix and message. */
void	grpc_message_add(struct buffer *, struct slice message);

/* ---- headers ---- */

/* grpc-message: percent-encoded UTF-8. Broken escapes stay as they are,
   control characters become spaces; what does not fit is cut, at a whole
   character. Returns out. */
const char *grpc_percent_decode(struct slice in, char *out, size_t size);
/* "-bin" values: base64 with or without padding. -EINVAL. */
int	grpc_bin_decode(struct buffer *, struct slice in);
#define GRPC_TIMEOUT_BYTES	12
/* "1500000u": at most eight digits and a unit, rounded up, at least "1n". */
const char *grpc_timeout(uint64_t us, char out[GRPC_TIMEOUT_BYTES]);
/* "application/grpc", also with "+proto" or ";..." behind it. */
bool	grpc_content_type_ok(struct slice);

#endif
