/*
 * base64.h - RFC 4648: base64 (section 4, padded) and base64url (section 5,
 * without padding, as JWT wants it).  Pure.
 *
 * Decoding is strict: no white space, no foreign letters, the right padding,
 * and no bits behind the end, so that each value has one spelling.
 */
#ifndef BOT_CODEC_BASE64_H
#define BOT_CODEC_BASE64_H

#include "base/buffer.h"

void	base64_add(struct buffer *, struct slice);
void	base64url_add(struct buffer *, struct slice);
/* Appends the bytes; out may be NULL to check only. 0, or -EINVAL and out is
   as it was. */
int	base64_decode(struct slice, struct buffer *out);
int	base64url_decode(struct slice, struct buffer *out);

#endif
