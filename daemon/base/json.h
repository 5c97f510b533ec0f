/*
 * json.h - JSON straight into a buffer, for the few places that write it
 * often (the attributes of a message).  Documents for people use jansson.
 */
#ifndef BOT_BASE_JSON_H
#define BOT_BASE_JSON_H

#include <jansson.h>

#include "base/buffer.h"

/*
 * A quoted, escaped string.  Bytes that are not UTF-8 become U+FFFD, one for
 * each bad byte (Unicode 15, section 3.9), so the output is always valid.
 */
void	json_add_string(struct buffer *, struct slice);
/* The same for a document: what configurations, peers and handlers say need not
   be UTF-8. Never NULL. */
json_t	*json_text(const char *);
/* Capped at what an integer of jansson holds. */
json_t	*json_count(uint64_t);
/* Whole numbers as such, others to so many decimals; null for NAN and such. */
json_t	*json_number(double, int decimals);
/* Length of the well-formed sequence at p, n bytes or less (Unicode 15, table
   3-7); 0: there is none. */
size_t	json_utf8_len(const unsigned char *p, size_t n);
/* How many bytes of it fit into max without cutting a sequence. */
size_t	json_utf8_cut(struct slice, size_t max);

/*
 * Of eight bytes, the first of them lowest (le64toh): the lowest bit set of the
 * answer is in the first byte that is not plain in a string: a control, a
 * quote, a backslash, or not ASCII.  0: all are plain.
 */
static inline uint64_t
json_odd_bytes(uint64_t x)
{
	const uint64_t each = 0x0101010101010101u;
	uint64_t quote = x ^ each * '"', backslash = x ^ each * '\\';

	/* A borrow goes up from a byte that is odd itself. */
	return (x | (x - each * 0x20) | (quote - each) |
	    (backslash - each)) & each * 0x80;
}

#endif
