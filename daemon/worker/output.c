/*
 * What a worker prints, as lines of the log.
 *
 * A line is cut at OUTPUT_LINE_MAX, and a worker may log LINES_PER_SEC lines
 * a second; what is more is counted and dropped, since a handler in a print
 * loop must not fill the journal.  The end of stderr is kept: it is often the
 * best explanation of a crash.
 */
#include <fcntl.h>

#include "base/alloc.h"
#include "engine/queue.h"
#include "worker/internal.h"

#define LINES_PER_SEC	200u
#define READ_BYTES	((size_t)16 * KIB)
#define FINISH_BYTES	((size_t)1024 * KIB)	/* more than a pipe holds */

static void
fill_fields(struct log_fields *f, struct worker *w)
{
	const struct message *m;

	*f = (struct log_fields){ .pool = w->wp->pool->name, .worker = w->pid,
	    .unwatched = true };
	/* With several at once nobody knows which one printed it. */
	if (w->ready != 1 || list_empty(&w->messages))
		return;
	m = list_entry(w->messages.next, struct message, worker_link);
	f->queue = m->queue->name;
	f->message = m->name;
	f->attempt = m->attempt;
}

void
output_report_dropped(struct worker *w)
{
	unsigned n = w->output_dropped;

	w->output_dropped = 0;
	if (n != 0)
		log_warning(&((struct log_fields){
		    .event = EVENT_OUTPUT_DROPPED,
		    .pool = w->wp->pool->name,
		    .worker = w->pid }), "%u lines of output were dropped: more "
		    "than %u in a second", n, LINES_PER_SEC);
}

void
output_timer_fired(struct timer *t)
{
	output_report_dropped(t->owner);
}

static bool
may_log(struct worker *w)
{
	uint64_t now = loop_now_us(w->wp->loop);

	if (now - w->output_window_us >= USEC_PER_SEC) {
		output_report_dropped(w);
		w->output_window_us = now;
		w->output_lines = 0;
	}
	if (w->output_lines++ < LINES_PER_SEC)
		return true;
	if (w->output_dropped++ == 0)
		timer_arm(w->wp->loop, &w->output_timer, USEC_PER_SEC);
	return false;
}

static void
emit(struct output *o, bool cut)
{
	struct worker *w = o->worker;
	enum log_level level = w->wp->set->output_level;
	struct log_fields f;

	if (o->len != 0 && o->line[o->len - 1] == '\r')
		o->len--;
	if (o->len != 0 && level != LOG_LEVEL_NONE && log_enabled(level) &&
	    may_log(w)) {
		for (size_t i = 0; i < o->len; i++) {
			unsigned char c = (unsigned char)o->line[i];

			if ((c < ' ' && c != '\t') || c == 0x7f)
				o->line[i] = '?';
		}
		fill_fields(&f, w);
		log_at(level, &f, "%.*s%s", (int)o->len, o->line,
		    cut ? " [cut]" : "");
	}
	o->len = 0;
}

static void
keep_tail(struct worker *w, const char *p, size_t n)
{
	size_t keep;

	if (n > sizeof(w->tail)) {
		p += n - sizeof(w->tail);
		n = sizeof(w->tail);
	}
	keep = MIN(w->tail_n, sizeof(w->tail) - n);
	memmove(w->tail, w->tail + w->tail_n - keep, keep);
	memcpy(w->tail + keep, p, n);
	w->tail_n = keep + n;
}

static void
take(struct output *o, const char *p, size_t n)
{
	const char *end = p + n;

	if (o->is_stderr)
		keep_tail(o->worker, p, n);
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t part = (size_t)((nl != NULL ? nl : end) - p);
		size_t room = sizeof(o->line) - o->len;

		if (!o->skipping) {
			memcpy(o->line + o->len, p, MIN(part, room));
			o->len += MIN(part, room);
			if (part > room) {
				emit(o, true);
				o->skipping = true;
			}
		}
		p += part;
		if (nl == NULL)
			break;
		if (!o->skipping)
			emit(o, false);
		o->skipping = false;
		p++;
	}
}

static void
output_close(struct output *o)
{
	int fd = o->io.fd;

	if (fd < 0)
		return;
	io_remove(o->worker->wp->loop, &o->io);
	(void)close(fd);
	emit(o, false);
}

/* How many bytes came; 0 when there is nothing (more); closes at the end. */
static size_t
read_some(struct output *o)
{
	char buf[READ_BYTES];
	ssize_t n;

	do {
		n = read(o->io.fd, buf, sizeof(buf));
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		take(o, buf, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		output_close(o);
	return n > 0 ? (size_t)n : 0;
}

static void
on_readable(struct io *io, uint32_t events)
{
	(void)events;
	(void)read_some(io->owner);
}

int
output_start(struct output *o, struct worker *w, int fd, bool is_stderr)
{
	o->worker = w;
	o->is_stderr = is_stderr;
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	return io_add(w->wp->loop, &o->io, fd, EPOLLIN);
}

void
output_init(struct output *o, struct worker *w)
{
	o->worker = w;
	io_init(&o->io, "worker.output", on_readable, o);
}

void
output_finish(struct output *o)
{
	size_t left = FINISH_BYTES, n;

	/* A descendant outside the group may hold the pipe open, and may go on
	   writing: so neither wait for its end nor read for ever. */
	while (io_active(&o->io) && left != 0 && (n = read_some(o)) != 0)
		left -= MIN(left, n);
	output_close(o);
}
