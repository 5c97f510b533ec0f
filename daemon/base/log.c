#define SD_JOURNAL_SUPPRESS_LOCATION
#include "base/log.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"

enum sink { SINK_STDERR, SINK_TERMINAL, SINK_JOURNAL };

enum log_level log_max_level = LOG_LEVEL_INFO;

static enum sink sink;
static const char *ident = "bot-operator";
static log_tap_fn *tap;
static void *tap_owner;
static bool tap_only;
static log_tap_fn *watcher;
static void *watcher_owner;
static bool watching;

/* stderr is the journal's own stream when JOURNAL_STREAM names its inode. */
static bool
stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	unsigned long dev, ino;
	struct stat st;

	return env != NULL && sscanf(env, "%lu:%lu", &dev, &ino) == 2 &&
	    fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev &&
	    st.st_ino == ino;
}

void
log_open(const char *identifier)
{
	ident = identifier;
	if (stderr_is_journal())
		sink = SINK_JOURNAL;
	else
		sink = isatty(STDERR_FILENO) ? SINK_TERMINAL : SINK_STDERR;
}

void
log_tap(log_tap_fn *fn, void *owner)
{
	tap = fn;
	tap_owner = owner;
}

void
log_tap_exclusive(bool on)
{
	tap_only = on;
}

void
log_watch(log_tap_fn *fn, void *owner)
{
	watcher = fn;
	watcher_owner = owner;
}

void
log_unwatch(void *owner)
{
	if (watcher_owner == owner)
		watcher = NULL;
}

void
log_set_level(enum log_level level)
{
	log_max_level = level;
}

enum log_level
log_get_level(void)
{
	return log_max_level;
}

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
	{ "crit", LOG_LEVEL_CRIT }, { "error", LOG_LEVEL_ERROR },
	{ "err", LOG_LEVEL_ERROR }, { "warning", LOG_LEVEL_WARNING },
	{ "warn", LOG_LEVEL_WARNING }, { "notice", LOG_LEVEL_NOTICE },
	{ "info", LOG_LEVEL_INFO }, { "debug", LOG_LEVEL_DEBUG },
};

int
log_level_parse(const char *s, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcasecmp(levels[i].name, s) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

const char *
log_level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "?";
}

#define FIELDS_MAX	16

struct journal_entry {
	struct iovec iov[FIELDS_MAX];
	int n;
	struct buffer text;
	size_t at[FIELDS_MAX];		/* offsets, until the buffer is still */
};

static void
journal_add(struct journal_entry *e, const char *fmt, ...) _printf_(2, 3);

static void
journal_add(struct journal_entry *e, const char *fmt, ...)
{
	va_list ap;

	BUG_ON(e->n >= FIELDS_MAX);
	e->at[e->n] = buffer_len(&e->text);
	va_start(ap, fmt);
	buffer_vprintf(&e->text, fmt, ap);
	va_end(ap);
	e->iov[e->n].iov_len = buffer_len(&e->text) - e->at[e->n];
	e->n++;
}

static int
to_journal(enum log_level level, const struct log_fields *f, const char *file,
    int line, const char *func, const char *text)
{
	struct journal_entry e = { .n = 0 };
	int r;

	journal_add(&e, "MESSAGE=%s", text);
	journal_add(&e, "PRIORITY=%d", (int)level);
	journal_add(&e, "SYSLOG_IDENTIFIER=%s", ident);
	journal_add(&e, "CODE_FILE=%s", file);
	journal_add(&e, "CODE_LINE=%d", line);
	journal_add(&e, "CODE_FUNC=%s", func);
	if (f->queue != NULL)
		journal_add(&e, "BOT_QUEUE=%s", f->queue);
	if (f->pool != NULL)
		journal_add(&e, "BOT_POOL=%s", f->pool);
	if (f->check != NULL)
		journal_add(&e, "BOT_CHECK=%s", f->check);
	if (f->message.n != 0)
		journal_add(&e, "BOT_MESSAGE=%.*s", (int)f->message.n,
		    f->message.p);
	if (f->attempt != 0)
		journal_add(&e, "BOT_ATTEMPT=%u", f->attempt);
	if (f->error_type != NULL)
		journal_add(&e, "BOT_ERROR_TYPE=%s", f->error_type);
	if (f->worker != 0)
		journal_add(&e, "BOT_WORKER=%d", (int)f->worker);
	if (f->event != NULL)
		journal_add(&e, "MESSAGE_ID=%s", f->event);
	for (int i = 0; i < e.n; i++)
		e.iov[i].iov_base = buffer_head(&e.text) + e.at[i];
	r = sd_journal_sendv(e.iov, e.n);
	buffer_done(&e.text);
	return r;
}

/*
 * A reader that stopped reading must not stop us (invariant 3): what does not
 * go out at once is lost, counted, and told when there is room again.  poll(2)
 * promises room for PIPE_BUF bytes.
 */
static void
write_line(struct buffer *line)
{
	static unsigned long lost;
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	char note[64];
	int n;

	if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0) {
		lost++;
		return;
	}
	if (lost != 0) {
		n = snprintf(note, sizeof(note), "<4>%lu log lines were lost: "
		    "nobody read them\n", lost);
		lost = 0;
		(void)!write(STDERR_FILENO, note, (size_t)n);
		write_line(line);
		return;
	}
	if (buffer_len(line) > PIPE_BUF) {
		line->end = line->start + PIPE_BUF - 1;
		buffer_add_char(line, '\n');
	}
	/* One write a line, so that lines of several processes do not mix. */
	(void)!write(STDERR_FILENO, buffer_head(line), buffer_len(line));
}

static void
add_subject(struct buffer *b, const struct log_fields *f)
{
	if (f->queue != NULL)
		buffer_printf(b, "queue %s: ", f->queue);
	if (f->pool != NULL)
		buffer_printf(b, "pool %s: ", f->pool);
	if (f->check != NULL)
		buffer_printf(b, "check %s: ", f->check);
	if (f->worker != 0)
		buffer_printf(b, "worker %d: ", (int)f->worker);
	if (f->message.n != 0)
		buffer_printf(b, "message %.*s: ", (int)f->message.n,
		    f->message.p);
}

static void
to_stderr(enum log_level level, const struct log_fields *f, const char *text)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	if (sink == SINK_TERMINAL) {
		char iso[CLOCK_ISO_BYTES];

		clock_iso(iso, clock_realtime_us(), true);
		buffer_printf(&b, "%.12s %-7s ", iso + 11, log_level_name(level));
	} else {
		buffer_printf(&b, "<%d>", (int)level);
	}
	if (!f->bare)
		add_subject(&b, f);
	buffer_add_str(&b, text);
	buffer_add_char(&b, '\n');
	write_line(&b);
}

void
log_write(enum log_level level, const struct log_fields *fields,
    const char *file, int line, const char *func, const char *fmt, ...)
{
	static const struct log_fields none;
	_cleanup_buffer_ struct buffer text = BUFFER_INIT;
	const struct log_fields *f = fields != NULL ? fields : &none;
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(&text, fmt, ap);
	va_end(ap);
	if (tap != NULL)
		tap(tap_owner, level, f, buffer_cstr(&text));
	if (watcher != NULL && level <= LOG_LEVEL_WARNING && !watching &&
	    !f->unwatched) {
		watching = true;
		watcher(watcher_owner, level, f, buffer_cstr(&text));
		watching = false;
	}
	if (!(tap != NULL && tap_only)) {
		const char *s = buffer_cstr(&text);

		if (sink != SINK_JOURNAL ||
		    to_journal(level, f, file, line, func, s) < 0)
			to_stderr(level, f, s);
	}
	errno = saved;
}
