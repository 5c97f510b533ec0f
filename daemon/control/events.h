/*
 * events.h - GET /events: the state as it changes, as server-sent events
 * (HTML Living Standard, section 9.2).
 *
 *	event: status	the status document, at once and then every 2 s (less
 *			often when it is big)
 *	event: log	the last lines of warning level or worse, at once; then
 *			new ones as they come, LINES_EVERY_US together:
 *			observer_log() in observe/observer.h has the array
 *	: beat		a comment every 15 s, so that proxies see life
 *
 * Each is made once for all subscribers, and not at all without any.
 */
#ifndef BOT_CONTROL_EVENTS_H
#define BOT_CONTROL_EVENTS_H

#include "control/http_server.h"
#include "observe/observer.h"

#define EVENTS_SUBSCRIBERS	32
/* Of the 16 connections of an address: the others must get through. */
#define EVENTS_PER_ADDRESS	8
#define EVENTS_UNSENT_MAX	(256 * KIB)

struct events {
	struct loop *loop;
	struct observer *observer;
	struct http_feed feed;
	struct timer tick, beat, lines;
	struct buffer out;
	uint64_t line;			/* the last one that was sent */
	uint64_t documents;		/* made for ticks, since the start */
};

void	events_init(struct events *, struct loop *, struct observer *);
/* After the server's end, before the observer's. */
void	events_done(struct events *);
/* The route; owner is the events. */
void	events_subscribe(void *owner, const struct http_request *,
	    struct http_response *);

#endif
