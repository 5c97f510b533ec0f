#include "observe/watch.h"

#include "base/clock.h"

/* Not in the middle of a UTF-8 sequence. */
static size_t
cut_at(const char *text, size_t max)
{
	size_t n = strnlen(text, max + 1);

	if (n <= max)
		return n;
	for (n = max; n > max - 4; n--)
		if (((unsigned char)text[n] & 0xc0) != 0x80)
			break;
	return n;
}

void
recent_lines_add(struct recent_lines *r, enum log_level level,
    const char *text)
{
	unsigned slot = (r->first + r->n) % RECENT_LINES;
	struct recent_line *line = &r->line[slot];
	size_t n = cut_at(text, sizeof(line->text) - 1);

	line->at_us = clock_realtime_us();
	line->level = level;
	memcpy(line->text, text, n);
	line->text[n] = '\0';
	if (r->n < RECENT_LINES)
		r->n++;
	else
		r->first = (r->first + 1) % RECENT_LINES;
}

const struct recent_line *
recent_lines_get(const struct recent_lines *r, unsigned i)
{
	return &r->line[(r->first + i) % RECENT_LINES];
}

static void
on_line(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	struct observer *o = owner;
	struct list *l;

	if (f->queue != NULL) {
		list_foreach(l, &o->queues) {
			struct watch_queue *w = list_entry(l,
			    struct watch_queue, link);

			if (strcmp(w->name, f->queue) == 0)
				recent_lines_add(&w->lines, level, text);
		}
	}
	if (f->pool != NULL) {
		list_foreach(l, &o->pools) {
			struct watch_pool *w = list_entry(l, struct watch_pool,
			    link);

			if (strcmp(w->name, f->pool) == 0)
				recent_lines_add(&w->lines, level, text);
		}
	}
}

void
recent_lines_watch(struct observer *o)
{
	log_watch(on_line, o);
}

void
recent_lines_unwatch(struct observer *o)
{
	log_unwatch(o);
}
