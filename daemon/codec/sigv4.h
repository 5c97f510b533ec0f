/*
 * sigv4.h - AWS Signature Version 4 in headers.  Pure: no clock, no descriptor.
 *
 * A signer belongs to one region and service (that of the endpoint) and keeps
 * the key derived from the secret for the day, so that a request costs two
 * digests and one HMAC.  Nothing is allocated here once the signer has seen
 * its longest request; OpenSSL 3.0 allocates a context of its own for each
 * digest and HMAC.
 *
 * What is signed: the headers given (Host must be among them), X-Amz-Date and
 * the session token.  Leave out what proxies change (User-Agent, Connection).
 */
#ifndef BOT_CODEC_SIGV4_H
#define BOT_CODEC_SIGV4_H

#include "base/buffer.h"

#define SIGV4_HEADERS_MAX	32
#define SIGV4_QUERY_MAX		64	/* parameters */
#define SIGV4_HEX_BYTES		65	/* a SHA-256 as lower-case hex and a NUL */

struct sigv4;

struct sigv4_header {
	struct slice name;	/* any case */
	struct slice value;	/* trimmed, folded and joined as the rules say */
};

struct sigv4_credentials {
	struct slice access_key, secret_key;
	struct slice token;	/* of the session; empty: none */
	uint64_t id;		/* differs whenever the secret does; 0: the
				   derived key is not kept */
};

/* For tests: what is hashed and signed on the way. Holds the token. */
struct sigv4_trace {
	struct buffer canonical_request, string_to_sign;
};

struct sigv4_request {
	struct slice method;
	struct slice path;	/* as on the wire; empty: "/" */
	struct slice query;	/* as on the wire, without '?'; may be empty */
	const struct sigv4_header *headers;
	size_t nheaders;	/* at most SIGV4_HEADERS_MAX */
	struct slice body;
	const char *body_sha256;	/* hex, when known; NULL: body is hashed */
	bool keep_path;		/* no normalisation of "//", "." and ".." (S3) */
	bool add_body_hash;	/* X-Amz-Content-Sha256 as a signed header */
	bool token_unsigned;	/* the token is sent but not signed */
	struct sigv4_trace *trace;
};

/* Both are copied. */
struct sigv4 *sigv4_new(const char *region, const char *service);
/* Wipes what it holds. Accepts NULL. */
void	sigv4_free(struct sigv4 *);

/*
 * Appends "X-Amz-Date: ...", "X-Amz-Security-Token: ..." (with a token),
 * "X-Amz-Content-Sha256: ..." (when asked for) and "Authorization: ...", each
 * with CRLF.  time_us is the wall clock, corrected by the caller when the
 * service's differs.  0; -EINVAL for an access key or a token that no header
 * can carry or is empty (the key); -E2BIG for too many headers or query
 * parameters.  After an error out is as it was.
 */
int	sigv4_sign(struct sigv4 *, const struct sigv4_credentials *,
	    const struct sigv4_request *, uint64_t time_us, struct buffer *out);

/* For body_sha256: bodies that are sent more than once. */
void	sigv4_sha256(struct sigv4 *, struct slice body,
	    char out[SIGV4_HEX_BYTES]);

#endif
