/*
 * url.h - the pieces of URLs (RFC 3986): escapes and queries.  Pure.
 */
#ifndef BOT_CODEC_URL_H
#define BOT_CODEC_URL_H

#include "base/buffer.h"

/* Appends s with everything but the unreserved characters escaped, in upper
   case: fit for a path segment, a query, and for AWS signatures. */
void	url_add_component(struct buffer *, struct slice);
/*
 * Appends s without its escapes; plus: '+' is a space, as in queries.
 * -EINVAL for a '%' without two hex digits behind it, and out is as it was.
 * The result may hold any byte, NUL too.
 */
int	url_decode(struct buffer *out, struct slice s, bool plus);

/* "/path?query" at the first '?'; query.p is NULL when there is none.  A
   fragment is cut off. */
void	url_split(struct slice target, struct slice *ret_path,
	    struct slice *ret_query);
/*
 * Takes the next "name=value" (or "name": an empty value) off the query.
 * Both still escaped.  False at the end; empty pieces ("a&&b") are passed.
 */
bool	url_query_next(struct slice *query, struct slice *ret_name,
	    struct slice *ret_value);

#endif
