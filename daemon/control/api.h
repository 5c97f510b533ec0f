/*
 * api.h - the control socket: what botctl talks to.
 *
 * A Unix stream socket, mode 0660, with one JSON object on each line.  A
 * request is {"command": NAME, ...}; it is answered by zero or more lines
 * without "ok" and then one with it:
 *
 *	{"ok":true, ...}   or   {"ok":false, "error":"a sentence"}
 *
 * Requests of one connection are worked on one after the other.
 *
 *	status, top	"status": the status document
 *	enqueue		queue, body or body_base64, attributes: "id"
 *	pause, resume	queue, or all=true: "queues"
 *	scale		pool, min, max
 *	drain
 *	promote, demote	out of standby and into it: "changed" (false: it was
 *			so), "status"; both go on after the answer
 *	reload		"changed": how many sections; or "problems"
 *	show-config	"text"
 *	history		queue or pool, seconds (at most a day): "history", as
 *			in observe/history.h
 *	dead-list	queue, limit, after: {"item":...} lines; "listed", "more"
 *	dead-show	queue, id: one {"item":...} line with the body
 *	dead-redrive	queue, ids or all=true, rate (a second), dry_run, limit:
 *	dead-purge	{"item":...} lines; "acted", "failed", "not_found"
 *	debug		what: timers, streams, workers or messages
 *	alerts		"alerts": as in the status document; "rules";
 *			"firing": something fires that no silence covers
 *	alert-test	name: a rule; {"item":{"sink","ok","text"}} lines
 *	notify		severity, text, sink (default: all); lines as of
 *			alert-test
 *	silence		pattern, duration ("2h"), reason: "id", "silences"
 *	silences	"silences"
 *	silence-end	silence: an id or a pattern; "ended": how many
 *
 * A member that the command does not know is refused.  A walk over dead
 * letters ends when its client goes away.
 *
 * Who may: root, our own user, and members of the socket's group
 * (SO_PEERCRED, SO_PEERGROUPS).  Bounds: API_CONNECTIONS_MAX connections,
 * API_REQUEST_MAX bytes a request, a minute and a bit of silence.
 */
#ifndef BOT_CONTROL_API_H
#define BOT_CONTROL_API_H

#include "engine/engine.h"
#include "observe/alert.h"
#include "observe/observer.h"

#define API_CONNECTIONS_MAX	16
#define API_REQUEST_MAX		MIB

struct api;

struct api_params {
	struct loop *loop;
	struct engine *engine;
	struct observer *observer;
	struct alerts *alerts;		/* NULL: none */
	/* Starts the drain; returns at once. */
	void (*on_drain)(void *owner);
	/*
	 * Begin to leave standby, or to go there. 1; 0: it was so already; or
	 * -errno and a sentence.
	 */
	int (*on_promote)(void *owner, struct buffer *ret_why);
	int (*on_demote)(void *owner, struct buffer *ret_why);
	/*
	 * Loads and applies the configuration. 0 and *ret_changed, or -errno
	 * and what is wrong, a line for each problem; then nothing changed.
	 */
	int (*on_reload)(void *owner, unsigned *ret_changed,
	    struct buffer *ret_problems);
	void *owner;
};

/* Makes the socket's folder when it is missing (the last part only). */
int	api_start(const struct api_params *, const char *path,
	    struct api **ret, struct error *);
/* The same on a listening socket that was handed over; it is the api's when
   this returns 0. */
int	api_adopt(const struct api_params *, int fd, struct api **ret,
	    struct error *);
/* After the engine has stopped and before engine_free(). Accepts NULL. */
void	api_free(struct api *);

#endif
