/*
 * notify.h - tells systemd how it goes (sd_notify(3)).
 *
 * All of it does nothing when NOTIFY_SOCKET is not set.  The watchdog is fed
 * by a timer of the loop at half of WATCHDOG_USEC: a loop that stands still is
 * killed by systemd, a broker that cannot be reached kills nobody.
 *
 * Datagrams to systemd's socket are the one thing here that could wait for a
 * peer; that peer is pid 1, which reads them before all else.
 */
#ifndef BOT_OBSERVE_NOTIFY_H
#define BOT_OBSERVE_NOTIFY_H

#include "observe/observer.h"

struct notify;

/* Starts feeding the watchdog at once, if there is one. */
struct notify *notify_new(struct loop *, struct observer *);
void	notify_free(struct notify *);		/* accepts NULL */

/* READY=1 with STATUS=; from now on STATUS= follows when it changes.  Also the
   end of a reload. */
void	notify_ready(struct notify *);
/* RELOADING=1 with MONOTONIC_USEC=; notify_ready() must follow. */
void	notify_reloading(struct notify *);
/* STOPPING=1; the stop time-out is extended for as long as the loop turns,
   until the drain must be over (monotonic; plus some seconds to close). */
void	notify_stopping(struct notify *, uint64_t drain_until_us);

#endif
