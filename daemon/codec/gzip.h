/*
 * gzip.h - RFC 1952, in one go, by zlib.  Pure.
 *
 * Packing what is text takes about 4 ms a megabyte of the loop: whoever packs
 * bounds what.  What zlib has used is wiped: there may be a secret in the
 * bytes.
 */
#ifndef BOT_CODEC_GZIP_H
#define BOT_CODEC_GZIP_H

#include "base/buffer.h"

/* Appends the whole of a gzip file; at most 4 GiB. */
void	gzip_add(struct buffer *, struct slice);

#endif
