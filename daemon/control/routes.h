/*
 * routes.h - what the status server says, and at which path.
 *
 *	/				the page for people
 *	/.well-known/engine-status	the status document
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

/* The observer must outlive the server. */
void	routes_add(struct http_server *, struct observer *);

/*
 * The page: the main figures of a status document as tables, without script.
 * Whatever the document holds is escaped; what it lacks is left out.
 */
void	page_add(struct buffer *, const json_t *status);
/* Its Content-Security-Policy. */
extern const char page_policy[];

#endif
