#include "observe/watch.h"

#include <stdio.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json.h"

static void
copy_cut(char *to, size_t size, const char *text)
{
	size_t n = text != NULL ? json_utf8_cut((struct slice){ text,
	    strnlen(text, size) }, size - 1) : 0;

	if (n != 0)
		memcpy(to, text, n);
	to[n] = '\0';
}

void
recent_lines_add(struct recent_lines *r, enum log_level level,
    const char *text)
{
	unsigned slot = (r->first + r->n) % RECENT_LINES;
	struct recent_line *line = &r->line[slot];

	line->at_us = clock_realtime_us();
	line->level = level;
	copy_cut(line->text, sizeof(line->text), text);
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

/* ---- all of them ---- */

static void
log_lines_add(struct log_lines *all, enum log_level level,
    const struct log_fields *f, const char *text)
{
	uint64_t number = MAX(all->next, 1);
	struct log_line *line = &all->line[number % LOG_LINES];

	line->at_us = clock_realtime_us();
	line->level = level;
	copy_cut(line->queue, sizeof(line->queue), f->queue);
	copy_cut(line->pool, sizeof(line->pool), f->pool);
	copy_cut(line->check, sizeof(line->check), f->check);
	copy_cut(line->text, sizeof(line->text), text);
	all->next = number + 1;
	if (all->on_line != NULL)
		all->on_line(all->owner);
}

static json_t *
log_line_json(uint64_t number, const struct log_line *line)
{
	char iso[CLOCK_ISO_BYTES];
	json_t *j = json_pack("{s:I,s:s,s:s,s:o}", "seq", (json_int_t)number,
	    "at", clock_iso(iso, line->at_us, true), "level",
	    log_level_name(line->level), "text", json_text(line->text));

	if (line->queue[0] != '\0')
		(void)json_object_set_new(j, "queue", json_text(line->queue));
	if (line->pool[0] != '\0')
		(void)json_object_set_new(j, "pool", json_text(line->pool));
	if (line->check[0] != '\0')
		(void)json_object_set_new(j, "check", json_text(line->check));
	return j;
}

json_t *
observer_log(struct observer *o, uint64_t after, uint64_t *ret_last)
{
	const struct log_lines *all = &o->log;
	uint64_t end = MAX(all->next, 1), first = after + 1;
	json_t *a = json_array();

	if (end > LOG_LINES && first < end - LOG_LINES)
		first = end - LOG_LINES;
	for (uint64_t k = MAX(first, 1); k < end; k++)
		(void)json_array_append_new(a, log_line_json(k,
		    &all->line[k % LOG_LINES]));
	*ret_last = end - 1;
	return a;
}

void
observer_on_log(struct observer *o, void (*fn)(void *owner), void *owner)
{
	o->log.on_line = fn;
	o->log.owner = owner;
}

void
observer_check_lines(const struct observer *o, const char *check,
    struct recent_lines *ret)
{
	uint64_t end = MAX(o->log.next, 1);
	unsigned n = 0;

	memset(ret, 0, sizeof(*ret));
	for (uint64_t k = end; k-- > 1 && end - k <= LOG_LINES &&
	    n < RECENT_LINES;) {
		const struct log_line *line = &o->log.line[k % LOG_LINES];
		/* The newest comes last. */
		struct recent_line *r = &ret->line[RECENT_LINES - 1 - n];

		if (strncmp(line->check, check, LOG_NAME_BYTES - 1) != 0)
			continue;
		r->at_us = line->at_us;
		r->level = line->level;
		copy_cut(r->text, sizeof(r->text), line->text);
		n++;
	}
	ret->n = n;
	ret->first = (RECENT_LINES - n) % RECENT_LINES;
}

/* ---- from the log ---- */

/* With the message's id, which people look for: a peer made it up. */
static const char *
with_message(const struct log_fields *f, const char *text,
    char out[LOG_LINE_BYTES])
{
	char id[81];

	if (f->message.n == 0)
		return text;
	error_quote(f->message, id, sizeof(id));
	snprintf(out, LOG_LINE_BYTES, "message %s: %s", id, text);
	return out;
}

static void
on_line(void *owner, enum log_level level, const struct log_fields *f,
    const char *line)
{
	char whole[LOG_LINE_BYTES];
	const char *text = with_message(f, line, whole);
	struct observer *o = owner;
	struct list *l;

	log_lines_add(&o->log, level, f, text);
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
