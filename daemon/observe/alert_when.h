/*
 * alert_when.h - "queue.backlog > 1000": a figure, an operator, a value.
 *
 * Operators: > >= < <= == !=.  Blanks around them are free.  The value is a
 * number, yes or no (true, false) for a yes/no figure, or ok, degraded or
 * down for health; these two compare with == and != only.
 */
#ifndef BOT_OBSERVE_ALERT_WHEN_H
#define BOT_OBSERVE_ALERT_WHEN_H

#include "observe/figure.h"

enum alert_op {
	ALERT_ABOVE = 1,	/* > */
	ALERT_AT_LEAST,		/* >= */
	ALERT_BELOW,		/* < */
	ALERT_AT_MOST,		/* <= */
	ALERT_EQUAL,		/* == */
	ALERT_NOT_EQUAL,	/* != */
};

#define ALERT_WHEN_BYTES	(FIGURE_NAME_MAX + FIGURE_TEXT_BYTES + 8)

struct alert_when {
	struct figure figure;
	enum alert_op op;
	double threshold;
	char text[ALERT_WHEN_BYTES];	/* in one way of writing */
};

/* 0, or -EINVAL and a sentence. own: as of figure_find(). */
int	alert_when_parse(const char *text, const char *const *own,
	    struct alert_when *ret, struct buffer *why);
/* A threshold by itself, as of Clear=. */
int	alert_when_value(const char *text, const struct figure *, double *ret,
	    struct buffer *why);
/* Is the value (not NAN) on the bad side of the threshold? */
bool	alert_when_holds(enum alert_op, double value, double threshold);
const char *alert_op_text(enum alert_op);	/* ">" */

#endif
