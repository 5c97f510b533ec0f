/*
 * http_date.h - dates as HTTP writes them (RFC 9110, section 5.6.7).  Pure.
 */
#ifndef BOT_CODEC_HTTP_DATE_H
#define BOT_CODEC_HTTP_DATE_H

#include "base/slice.h"

#define HTTP_DATE_BYTES	32
/* "Sun, 06 Nov 1994 08:49:37 GMT". Wall clock, us. */
const char *http_date(char out[HTTP_DATE_BYTES], uint64_t realtime_us);

/*
 * The same back, from 1970 to 9999.  The two forms that are obsolete
 * ("Sunday, 06-Nov-94 ...", "Sun Nov  6 ...") are not read: whoever still
 * sends them is treated like one who sends no date.  -EINVAL.
 */
int	http_date_parse(struct slice, uint64_t *ret_realtime_us);

#endif
