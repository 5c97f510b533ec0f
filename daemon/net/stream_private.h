/*
 * stream_private.h - what stream.c (life), stream_connect.c (the way up) and
 * stream_io.c (while up) share.
 */
#ifndef BOT_NET_STREAM_PRIVATE_H
#define BOT_NET_STREAM_PRIVATE_H

#include "net/stream.h"
#include "net/tls_session.h"

/* ---- stream.c ---- */

/* From the loop only: all is let go, then on_down.  Nothing of the stream may
   be touched after it. */
void	stream_down(struct stream *, const struct error *);
/* Work that must be done from the loop; next_turn: not in this turn. */
void	stream_again(struct stream *, bool next_turn);
/* A failure found inside a call of the owner's: told by the loop. */
void	stream_fail_later(struct stream *);
/* Calls fn; false when the stream ended (or its memory went) meanwhile. */
bool	stream_call(struct stream *, void (*fn)(struct stream *));

/* ---- stream_connect.c ---- */

void	stream_connect_again(struct stream *);
void	stream_connect_event(struct stream *, uint32_t events);
void	stream_connect_timer(struct stream *);
void	stream_handshake(struct stream *);
void	stream_resolved(void *owner, const union resolve_address *, size_t n,
	    const struct error *);

/* ---- stream_io.c ---- */

void	stream_go_up(struct stream *);
void	stream_up_again(struct stream *);
void	stream_up_event(struct stream *, uint32_t events);
void	stream_up_timer(struct stream *);
void	stream_up_flush(struct stream *);
/* Makes the loop wait for what the stream waits for. */
void	stream_watch(struct stream *);

#endif
