/*
 * log.h - lines for journalctl, with fields.
 *
 * To the journal when stderr is connected to it (JOURNAL_STREAM) or on
 * request, else to stderr: plain text on a terminal, "<N>" prefixed when not.
 * The layer that decides logs, once; lower layers only debug.  A line says
 * what failed, where, what happens next and when.  No message bodies and no
 * secrets.
 *
 * Fields: BOT_QUEUE, BOT_POOL, BOT_CHECK, BOT_MESSAGE, BOT_ATTEMPT,
 * BOT_ERROR_TYPE, BOT_WORKER (pid), MESSAGE_ID, CODE_FILE/LINE/FUNC.  On stderr
 * the queue, pool, check, message and worker stand in front of the text.
 */
#ifndef BOT_BASE_LOG_H
#define BOT_BASE_LOG_H

#include <stdarg.h>
#include <sys/types.h>

#include "base/log_event.h"
#include "base/slice.h"

/* syslog's numbers (RFC 5424, table 2), which journald shares. */
enum log_level {
	LOG_LEVEL_CRIT = 2,
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* All optional; NULL/0 fields are left out.  Strings live for the call. */
struct log_fields {
	const char *queue;
	const char *pool;
	const char *check;
	struct slice message;		/* the broker's message id */
	unsigned attempt;
	const char *error_type;
	pid_t worker;
	const char *event;		/* EVENT_*, as MESSAGE_ID */
	bool unwatched;		/* not for log_watch(): a handler's own words
				   (they may hold a message's body), or what
				   was said because of other lines */
	bool bare;		/* nothing stands in front of the text on stderr
				   either: other programs read it */
};

/* Where lines go: decided once, from main. */
void	log_open(const char *identifier);
/* NULL restores.  Tests collect lines; the page shows the last ones. */
typedef void log_tap_fn(void *owner, enum log_level, const struct log_fields *,
	    const char *text);
void	log_tap(log_tap_fn *, void *owner);
/*
 * Beside the tap: sees each line of warning level or worse.  One at a time,
 * the last one counts; what it logs itself, it does not see.
 */
void	log_watch(log_tap_fn *, void *owner);
void	log_unwatch(void *owner);	/* no-op when it is not this owner's */
/* With a tap that is exclusive, nothing is written elsewhere. */
void	log_tap_exclusive(bool);

void	log_set_level(enum log_level);
enum log_level log_get_level(void);
/* "error", "warning", "info", ...: 0 and *ret, or -EINVAL. */
int	log_level_parse(const char *, enum log_level *ret);
const char *log_level_name(enum log_level);

void	log_write(enum log_level, const struct log_fields *, const char *file,
	    int line, const char *func, const char *fmt, ...) _printf_(6, 7);

static inline bool
log_enabled(enum log_level level)
{
	extern enum log_level log_max_level;

	return level <= log_max_level;
}

#define log_at(level, fields, ...) \
	do { \
		if (log_enabled(level)) \
			log_write(level, fields, __FILE__, __LINE__, __func__, \
			    __VA_ARGS__); \
	} while (0)

/* fields: &(struct log_fields){ .queue = name } or NULL. */
#define log_error(fields, ...)	log_at(LOG_LEVEL_ERROR, fields, __VA_ARGS__)
#define log_warning(fields, ...) log_at(LOG_LEVEL_WARNING, fields, __VA_ARGS__)
#define log_notice(fields, ...)	log_at(LOG_LEVEL_NOTICE, fields, __VA_ARGS__)
#define log_info(fields, ...)	log_at(LOG_LEVEL_INFO, fields, __VA_ARGS__)
#define log_debug(fields, ...)	log_at(LOG_LEVEL_DEBUG, fields, __VA_ARGS__)

#define LOG_QUEUE(name)		(&(struct log_fields){ .queue = (name) })
#define LOG_POOL(name)		(&(struct log_fields){ .pool = (name) })
/* The same with its kind of event. */
#define LOG_EVENT(id)		(&(struct log_fields){ .event = (id) })
#define LOG_QUEUE_EVENT(name, id) \
	(&(struct log_fields){ .queue = (name), .event = (id) })
#define LOG_POOL_EVENT(name, id) \
	(&(struct log_fields){ .pool = (name), .event = (id) })

#endif
