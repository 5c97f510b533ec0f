/*
 * sigv4_canonical.h - the spelling of a request that is signed; private to
 * sigv4*.c.
 *
 * Path: each byte but the unreserved ones and '/' is escaped; what was escaped
 * on the wire is so once more ("%20" becomes "%2520"), as every service but S3
 * wants it.  Query: unescaped, escaped again, sorted by name and value.
 * Headers: names in lower case and sorted, values trimmed, runs of white space
 * (folded lines too) one space, values of one name joined by ','.
 */
#ifndef BOT_CODEC_SIGV4_CANONICAL_H
#define BOT_CODEC_SIGV4_CANONICAL_H

#include "codec/sigv4.h"

/* Sorted; of one name in the order they came. */
struct sigv4_headers {
	struct sigv4_header at[SIGV4_HEADERS_MAX + 3];
	size_t n;
};

void	sigv4_headers_add(struct sigv4_headers *, struct sigv4_header);
/* "host;x-amz-date" */
void	sigv4_add_names(struct buffer *, const struct sigv4_headers *);
/* names: what sigv4_add_names() made; pieces is for work. -E2BIG. */
int	sigv4_add_canonical(struct buffer *out, struct buffer *pieces,
	    const struct sigv4_request *, const struct sigv4_headers *,
	    struct slice names, const char *body_hash);

#endif
