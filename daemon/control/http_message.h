/*
 * http_message.h - the parts of http_server that only look at bytes.
 */
#ifndef BOT_CONTROL_HTTP_MESSAGE_H
#define BOT_CONTROL_HTTP_MESSAGE_H

#include "base/buffer.h"
#include "codec/http1.h"

/*
 * Is the Host header's value (or the authority of an absolute target) one that
 * we answer to? 0, or the status to refuse with: 400 (no host at all) or 421.
 * names: NULL (any will do), or names that end with NULL.
 */
unsigned http_check_host(struct slice host, char *const *names);

/*
 * "/path?query" of an origin-form or absolute-form target (RFC 9112, section
 * 3.2); the latter's authority replaces *host. False for other forms.
 */
bool	http_origin_target(struct slice target, struct slice *ret_origin,
	    struct slice *host);

#endif
