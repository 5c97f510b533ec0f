/*
 * lines.h - the last warnings and errors: of each queue and pool, and of all.
 *
 * Taken from the log as it is written (log_watch in base/log.h): an alert can
 * show why, and the page what happened.  Bounded; a line that is too long is
 * cut.  What workers print themselves is not kept: it may hold a message's
 * body.  A line about a message begins with its id.
 */
#ifndef BOT_OBSERVE_LINES_H
#define BOT_OBSERVE_LINES_H

#include "base/log.h"

#define RECENT_LINES	5
#define RECENT_LINE_BYTES	256
#define LOG_LINES		50
#define LOG_NAME_BYTES		64
#define LOG_LINE_BYTES		512

struct observer;

struct recent_line {
	uint64_t at_us;			/* wall clock */
	enum log_level level;
	char text[RECENT_LINE_BYTES];
};

struct recent_lines {			/* zeros: none */
	struct recent_line line[RECENT_LINES];	/* a ring */
	unsigned first, n;
};

void	recent_lines_add(struct recent_lines *, enum log_level,
	    const char *text);
/* The i-th, oldest first; i < n. */
const struct recent_line *recent_lines_get(const struct recent_lines *,
	    unsigned i);

/* Of whatever it was about, for people; names are cut like the text. */
struct log_line {
	uint64_t at_us;			/* wall clock */
	enum log_level level;
	char queue[LOG_NAME_BYTES], pool[LOG_NAME_BYTES],
	    check[LOG_NAME_BYTES];
	char text[LOG_LINE_BYTES];
};

struct log_lines {			/* zeros: none */
	struct log_line line[LOG_LINES];	/* number k is at k % LOG_LINES */
	uint64_t next;			/* number of the next; the first is 1 */
	void (*on_line)(void *owner);	/* observer_on_log() */
	void *owner;
};

/* The last ones that are still kept of that [Check NAME]. */
void	observer_check_lines(const struct observer *, const char *check,
	    struct recent_lines *ret);

/* From now on the observer's watches get the lines that name them. */
void	recent_lines_watch(struct observer *);
void	recent_lines_unwatch(struct observer *);

#endif
