/*
 * routes.h - what the status server says, and at which path.
 *
 *	/				the page for people
 *	/.well-known/engine-status	the status document
 *	/events				the same as it changes: events.h
 *	/log.json			the last warnings and errors
 *	/healthz			200 while the loop turns
 *	/readyz				200 when work can be done, else 503
 *	/metrics			OpenMetrics
 *	/history.json			?queue=NAME or ?pool=NAME, &span=1h:
 *					observe/history.h has the document
 */
#ifndef BOT_CONTROL_ROUTES_H
#define BOT_CONTROL_ROUTES_H

#include "control/http_server.h"
#include "observe/observer.h"

struct routes;

/* The observer must outlive the server, and the server be freed first. */
struct routes *routes_new(struct http_server *, struct loop *,
	    struct observer *);
void	routes_free(struct routes *);		/* accepts NULL */
/*
 * From now on all but /healthz needs the token in that file; NULL: nothing
 * does.  On failure all stays as it was.
 */
int	routes_set_token_file(struct routes *, const char *path,
	    struct error *);

#endif
