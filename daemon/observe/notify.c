#include "observe/notify.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "base/alloc.h"
#include "base/clock.h"

#define STATUS_EVERY_US		(3 * USEC_PER_SEC)
#define EXTEND_EVERY_US		(3 * USEC_PER_SEC)
#define EXTEND_BY_US		(10 * USEC_PER_SEC)
/* After the drain: killed workers are reaped, queues close (5 s each at most,
   all at once). */
#define CLOSING_US		(10 * USEC_PER_SEC)

struct notify {
	struct loop *loop;
	struct observer *observer;
	bool enabled;			/* NOTIFY_SOCKET was there */
	bool ready, stopping;
	uint64_t watchdog_us;		/* 0: none */
	uint64_t stop_until_us;
	char *last;			/* STATUS= as last told */
	struct timer watchdog, status, extend;
};

static void
on_watchdog(struct timer *t)
{
	struct notify *n = t->owner;

	(void)sd_notify(0, "WATCHDOG=1");
	timer_arm(n->loop, t, n->watchdog_us / 2);
}

/* The line when it is news, else NULL. */
static const char *
fresh_status(struct notify *n)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	observer_line(n->observer, &b);
	if (n->last != NULL && strcmp(n->last, buffer_cstr(&b)) == 0)
		return NULL;
	free(n->last);
	n->last = buffer_dup(&b);
	return n->last;
}

static void
on_status(struct timer *t)
{
	struct notify *n = t->owner;
	const char *line = fresh_status(n);

	if (line != NULL)
		(void)sd_notifyf(0, "STATUS=%s", line);
	timer_arm(n->loop, t, STATUS_EVERY_US);
}

static void
on_extend(struct timer *t)
{
	struct notify *n = t->owner;

	if (clock_monotonic_us() >= n->stop_until_us)
		return;
	(void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, EXTEND_BY_US);
	timer_arm(n->loop, t, EXTEND_EVERY_US);
}

struct notify *
notify_new(struct loop *loop, struct observer *observer)
{
	const char *socket = getenv("NOTIFY_SOCKET");
	struct notify *n = new0(struct notify);
	uint64_t usec = 0;

	n->loop = loop;
	n->observer = observer;
	n->enabled = socket != NULL && *socket != '\0';
	timer_init(&n->watchdog, "notify: watchdog", on_watchdog, n);
	timer_init(&n->status, "notify: status", on_status, n);
	timer_init(&n->extend, "notify: extend", on_extend, n);
	if (n->enabled && sd_watchdog_enabled(0, &usec) > 0 && usec > 1) {
		n->watchdog_us = usec;
		timer_arm(loop, &n->watchdog, 0);
	}
	return n;
}

void
notify_free(struct notify *n)
{
	if (n == NULL)
		return;
	timer_cancel(n->loop, &n->watchdog);
	timer_cancel(n->loop, &n->status);
	timer_cancel(n->loop, &n->extend);
	free(n->last);
	free(n);
}

void
notify_ready(struct notify *n)
{
	const char *line;

	if (!n->enabled || n->stopping)
		return;
	line = fresh_status(n);
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s",
	    line != NULL ? line : n->last);
	n->ready = true;
	timer_arm(n->loop, &n->status, STATUS_EVERY_US);
}

void
notify_reloading(struct notify *n)
{
	if (!n->enabled || !n->ready || n->stopping)
		return;
	/* systemd tells a new reload from an old one by this time stamp, which
	   must come in the same datagram (sd_notify(3), since 253). */
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
	    clock_monotonic_us());
}

void
notify_stopping(struct notify *n, uint64_t drain_until_us)
{
	const char *line;

	if (!n->enabled || n->stopping)
		return;
	n->stopping = true;
	n->stop_until_us = sat_add(drain_until_us, CLOSING_US);
	line = fresh_status(n);
	(void)sd_notifyf(0,
	    "STOPPING=1\nSTATUS=%s\nEXTEND_TIMEOUT_USEC=%" PRIu64,
	    line != NULL ? line : n->last, EXTEND_BY_US);
	timer_arm(n->loop, &n->extend, EXTEND_EVERY_US);
	timer_arm(n->loop, &n->status, STATUS_EVERY_US);
}
