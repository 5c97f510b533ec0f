/*
 * api_private.h - what the files of the control socket tell one another.
 */
#ifndef BOT_CONTROL_API_PRIVATE_H
#define BOT_CONTROL_API_PRIVATE_H

#include <sys/socket.h>

#include "base/log.h"
#include "control/api.h"
#include "net/stream.h"

#define API_HIGH_WATER		((size_t)256 * KIB)

struct api_op;

struct api {
	struct api_params p;
	struct listener listener;
	struct list conns;
	unsigned nconns;
	struct list ops;	/* open ones, abandoned ones included */
	unsigned nops;
};

struct api_conn {
	struct api *api;
	struct list link;
	struct stream stream;
	struct timer idle;
	uint64_t moved;		/* bytes, at the last look of the idle timer */
	struct api_op *op;	/* what is being worked on */
	struct ucred peer;
};

/*
 * A command that is not answered at once.  It may outlive its client: conn is
 * NULL then, and it ends by itself as soon as that is safe.
 */
struct api_op {
	struct list link;
	struct api *api;
	struct api_conn *conn;
	void (*abandoned)(struct api_op *);	/* conn has become NULL */
	void (*drained)(struct api_op *);	/* lines can be sent again */
	void (*destroy)(struct api_op *);	/* now; from api_free() */
};

/* ---- api.c ---- */

/* One line of several; takes the reference. */
void	api_line(struct api_conn *, json_t *);
/* The last line, "ok" true; takes the reference; NULL: nothing else. */
void	api_ok(struct api_conn *, json_t *);
void	api_fail(struct api_conn *, const char *fmt, ...) _printf_(2, 3);
/* Text of any origin as a JSON string that is valid UTF-8. */
json_t	*api_text(struct slice);
bool	api_is_blocked(const struct api_conn *);	/* wait for drained */

/* -EBUSY when there are too many. */
int	api_op_begin(struct api_op *, struct api_conn *);
/* Lets go of the client (after its last line) and of the api. */
void	api_op_end(struct api_op *);

/* ---- api_commands.c ---- */

void	api_command(struct api_conn *, json_t *request);
struct queue *api_find_queue(struct api_conn *, json_t *request);
/* True, and the client has been told, when no queue is open. */
bool	api_refuse_standby(struct api_conn *);
void	api_audit(const struct api_conn *, const struct log_fields *,
	    const char *what);

/* ---- api_alerts.c, api_dead.c, api_enqueue.c, api_debug.c ---- */

void	api_alerts(struct api_conn *, json_t *request);
void	api_dead(struct api_conn *, json_t *request);
void	api_enqueue(struct api_conn *, json_t *request);
void	api_debug(struct api_conn *, json_t *request);

#endif
