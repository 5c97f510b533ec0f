/*
 * http_feed.h - answers that go on: whoever asked gets all that is sent from
 * then on (server-sent events).
 *
 * A route answers with a feed (http_response.feed); the body it made is what
 * the subscriber gets first.  The connection ends with the subscription: there
 * is no Content-Length, and what the peer says meanwhile is not read.  Bounded:
 * subscribers in all and of one address, and the bytes that one of them leaves
 * unread; who has more than that is dropped when something is sent, and who
 * takes nothing for the server's write_timeout_us is cut.
 */
#ifndef BOT_CONTROL_HTTP_FEED_H
#define BOT_CONTROL_HTTP_FEED_H

#include "net/stream.h"

/* Counted addresses; family 0 is not counted. */
struct http_origin {
	unsigned family;
	unsigned char bytes[16];
};

bool	http_origin_same(const struct http_origin *,
	    const struct http_origin *);

/* Owned by whoever sends; must outlive the server, or be empty. */
struct http_feed {
	unsigned max;			/* subscribers */
	unsigned max_per_address;
	size_t max_unsent;		/* bytes; plus one message */
	unsigned n;			/* subscribers now */
	uint64_t dropped;		/* read too slowly */
	uint64_t refused;		/* there was no room */
	struct list subscribers;	/* private */
};

void	http_feed_init(struct http_feed *, unsigned max,
	    unsigned max_per_address, size_t max_unsent);
/* To all; copied.  From a timer or a task only: it may end connections. */
void	http_feed_send(struct http_feed *, struct slice);

/* ---- for http_server.c ---- */

struct http_subscriber {
	struct list link;
	struct http_feed *feed;		/* NULL: of none */
	struct stream *stream;
	struct http_origin origin;
	void (*cut)(struct http_subscriber *);	/* ends the connection */
};

/* False, and counted, when there is no room. */
bool	http_feed_join(struct http_feed *, struct http_subscriber *);
void	http_feed_leave(struct http_subscriber *);	/* no-op when of none */

#endif
