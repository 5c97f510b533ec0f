/*
 * http_pool.h - the handler "Http=": the loop itself POSTs each message.
 * Implements engine/pool.h over client/http.h; no processes.
 *
 * The body is the request's body.  Content-Type is the attribute of that name,
 * else what Format= promises (of a CloudEvent in binary mode nothing), else
 * application/octet-stream.  Headers:
 *
 *	Bot-Queue, Bot-Message-Id, Bot-Attempt
 *	Bot-Attribute-NAME	each other attribute; in NAME all but letters,
 *				digits and "-" become "-"
 *	Bot-Attributes-Omitted	how many did not fit into HTTP_ATTRIBUTES_MAX
 *
 * Values are percent-encoded where they are no visible ASCII, and at " and %,
 * as CloudEvents' HTTP binding does it (section 3.1.3.2).
 *
 * 2xx is done.  429 and 503 with Retry-After are a retry of type rate_limited
 * with that delay, which pauses the queue.  408, 429, 5xx are retries; so are
 * networks that fail, redirects and time-outs.  Any other 4xx is dead.
 */
#ifndef BOT_WORKER_HTTP_POOL_H
#define BOT_WORKER_HTTP_POOL_H

#include "engine/pool.h"

#define HTTP_ATTRIBUTES_MAX	((size_t)8 * KIB)

extern const struct config_kind http_pool_kind;		/* its [Pool NAME] keys */
extern const struct handler_type http_handler_type;

#endif
