/*
 * go_duration.h - durations as programs in Go write them: "3h58m53.8s".
 *
 * pkg.go.dev/time#ParseDuration: a sign, then numbers, each with a fraction if
 * need be and a unit behind it: ns, us (also with U+00B5 or U+03BC for the u),
 * ms, s, m, h.  Or "0".  Pure.
 */
#ifndef BOT_CODEC_GO_DURATION_H
#define BOT_CODEC_GO_DURATION_H

#include "base/slice.h"

/*
 * Parts of a microsecond are cut off, and what is longer than 292 years (all
 * that fits there) is that long.  A negative one is 0.  -EPROTO for what is
 * none.
 */
int	go_duration_parse(struct slice, uint64_t *ret_us);

#endif
