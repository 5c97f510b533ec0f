/*
 * Dead letters: records, and the walk.
 *
 * The order of things on the disk: the record comes first and goes last, so a
 * letter never lies there without its reason, and a record without a letter
 * says nothing.
 */
#include "queue/spool_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/chunk.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/random.h"

#define RECORD_KIND	"bot-operator dead letter 1"
#define RECORD_MAX	((size_t)64 * KIB)
#define RECORD_BYTES	(SPOOL_NAME_BYTES + sizeof(SPOOL_RECORD))
#define TRIES		16

/* ---- records ---- */

static void
record_name(const char *file, char out[RECORD_BYTES])
{
	snprintf(out, RECORD_BYTES, "%s" SPOOL_RECORD, file);
}

static void
add_member(struct buffer *b, const char *name, struct slice value)
{
	buffer_printf(b, ",\n  \"%s\": ", name);
	json_add_string(b, value);
}

static void
write_record(struct spool *s, const struct spool_death *d, struct buffer *b)
{
	uint64_t now = clock_realtime_us();
	char iso[CLOCK_ISO_BYTES];

	buffer_add_str(b, "{\n  \"record\": \"" RECORD_KIND "\"");
	add_member(b, "queue", slice_of(s->queue->name));
	add_member(b, "name", slice_of(d->name.base));
	add_member(b, "error_type", d->error_type);
	add_member(b, "detail", d->detail);
	buffer_printf(b, ",\n  \"attempts\": %u,\n  \"crashes\": %u,\n"
	    "  \"died\": \"%s\",\n  \"died_us\": %llu\n}\n", d->attempts,
	    d->crashes, clock_iso(iso, now, true), (unsigned long long)now);
}

/* The record's object, or NULL when there is none of ours. */
static json_t *
read_record(struct spool *s, const char *record)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	struct stat st;
	json_t *object;
	ssize_t n;

	fd = openat(s->fd[SPOOL_DEAD], record, O_RDONLY | O_NONBLOCK |
	    O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size <= 0 || (uint64_t)st.st_size > RECORD_MAX)
		return NULL;
	text = xmalloc((size_t)st.st_size);
	n = pread(fd, text, (size_t)st.st_size, 0);
	if (n <= 0)
		return NULL;
	object = json_loadb(text, (size_t)n, 0, NULL);
	if (object != NULL && slice_is(slice_of(json_string_value(
	    json_object_get(object, "record"))), RECORD_KIND))
		return object;
	json_decref(object);
	return NULL;
}

void
spool_drop_orphan(struct spool *s, const char *record)
{
	char letter[SPOOL_NAME_BYTES];
	json_t *object;

	snprintf(letter, sizeof(letter), "%.*s", (int)(strlen(record) -
	    (sizeof(SPOOL_RECORD) - 1)), record);
	if (spool_exists(s, SPOOL_DEAD, letter))
		return;
	object = read_record(s, record);
	if (object != NULL)
		(void)unlinkat(s->fd[SPOOL_DEAD], record, 0);
	json_decref(object);
}

/* ---- burying ---- */

/* Puts the record at a name where neither is; chooses the name. */
static int
place_record(struct spool *s, struct spool_death *d, const char *tmp,
    char file[SPOOL_NAME_BYTES], char record[RECORD_BYTES])
{
	int r = -EEXIST;

	spool_name_shorten(&d->name);
	for (int i = 0; i < TRIES && r == -EEXIST; i++) {
		if (i > 0)
			spool_name_vary(&d->name);
		spool_name_format_dead(&d->name, file);
		record_name(file, record);
		if (spool_exists(s, SPOOL_DEAD, file))
			continue;
		spool_drop_orphan(s, record);
		r = spool_rename(s, SPOOL_TMP, tmp, SPOOL_DEAD, record);
	}
	return r;
}

int
spool_bury(struct spool *s, const char *from, struct spool_death *d,
    enum spool_dir *ret_where)
{
	_cleanup_buffer_ struct buffer text = BUFFER_INIT;
	char tmp[48], tag[17], file[SPOOL_NAME_BYTES], record[RECORD_BYTES];
	int r;

	*ret_where = SPOOL_CUR;
	if (!spool_exists(s, SPOOL_CUR, from))
		return -ENOENT;
	random_hex(tag, 16);
	snprintf(tmp, sizeof(tmp), "record-%s" SPOOL_RECORD, tag);
	write_record(s, d, &text);
	*ret_where = SPOOL_TMP;
	r = spool_write_tmp(s, tmp, buffer_slice(&text), SLICE(""));
	if (r < 0)
		return r;
	*ret_where = SPOOL_DEAD;
	r = place_record(s, d, tmp, file, record);
	if (r < 0) {
		(void)unlinkat(s->fd[SPOOL_TMP], tmp, 0);
		return r;
	}
	r = fault("spool.bury.between") ? -EIO :
	    spool_rename(s, SPOOL_CUR, from, SPOOL_DEAD, file);
	if (r < 0) {
		(void)unlinkat(s->fd[SPOOL_DEAD], record, 0);
		return r;
	}
	s->dead++;
	return 0;
}

/* ---- the walk ---- */

struct walk {
	struct list link;		/* of spool.walks */
	struct spool *spool;
	struct dead_walk *walk;
	struct task task;
	enum { ASKED_NOTHING = 0, ASKED_NEXT, ASKED_ACT } asked;
	enum dead_action action;
	struct spool_window window;
	struct spool_reader reader;
	char *after;			/* the last name shown; NULL: none */
	bool read;			/* the window was filled once */
	char file[SPOOL_NAME_BYTES];	/* what an action is for; "": nothing */
	struct chunk *chunk;		/* what the item lies in */
	struct dead_item item;
};

static struct slice
copy_of(struct chunk *chunk, json_t *string)
{
	return chunk_copy(chunk, json_string_value(string),
	    json_string_length(string));
}

static void
load_record(struct walk *w)
{
	struct dead_item *item = &w->item;
	char record[RECORD_BYTES];
	json_t *o;
	json_int_t died;

	record_name(w->file, record);
	o = read_record(w->spool, record);
	item->error_type = copy_of(w->chunk, json_object_get(o, "error_type"));
	item->detail = copy_of(w->chunk, json_object_get(o, "detail"));
	item->attempts = (unsigned)json_integer_value(
	    json_object_get(o, "attempts"));
	item->crashes = (unsigned)json_integer_value(
	    json_object_get(o, "crashes"));
	died = json_integer_value(json_object_get(o, "died_us"));
	item->died_us = died > 0 ? (uint64_t)died : 0;
	json_decref(o);
}

static void
load_letter(struct walk *w, int fd, const struct stat *st, const char *base)
{
	struct spool_content content;
	struct stat shown = *st;
	struct error err;

	/* One that is over MaxBytes= is shown up to there. */
	if (spool_read_content(w->chunk, fd, st, base,
	    w->spool->queue->max_bytes, &content, &err) < 0) {
		shown.st_size = MIN(shown.st_size,
		    (off_t)w->spool->queue->max_bytes);
		(void)spool_read_content(w->chunk, fd, &shown, "",
		    w->spool->queue->max_bytes, &content, &err);
	}
	w->item.body = content.body;
	w->item.attributes = content.attributes;
	w->item.nattributes = content.nattributes;
}

/* -ENOENT when it is gone. A letter that is no file has no body. */
static int
load_item(struct walk *w)
{
	char id[3 * SPOOL_NAME_BYTES];
	struct spool_name name;
	struct slice shown;
	struct stat st;
	_cleanup_close_ int fd = -1;

	if (fstatat(w->spool->fd[SPOOL_DEAD], w->file, &st,
	    AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	chunk_unref(w->chunk);
	w->chunk = chunk_new();
	w->item = (struct dead_item){ .body = SLICE("") };
	spool_name_parse_dead(&name, w->file);
	spool_name_id(w->file, id);
	w->item.id = chunk_copy(w->chunk, id, strlen(id));
	shown = chunk_copy(w->chunk, name.base, strlen(name.base));
	spool_name_show((char *)(uintptr_t)shown.p, shown.n);
	w->item.name = shown;
	load_record(w);
	if (!S_ISREG(st.st_mode))
		return 0;
	fd = openat(w->spool->fd[SPOOL_DEAD], w->file, O_RDONLY | O_NONBLOCK |
	    O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		load_letter(w, fd, &st, name.base);
	return 0;
}

static void
walk_entry(void *arg, const char *name, unsigned char type _unused_)
{
	struct walk *w = arg;

	if (!spool_name_is_record(name) &&
	    (w->after == NULL || strcmp(name, w->after) > 0))
		spool_window_offer(&w->window, name, true);
}

/* 1: there is an item, 0: the end, -EAGAIN: call again, -errno. */
static int
walk_next(struct walk *w)
{
	uint64_t until = clock_monotonic_us() + SPOOL_SLICE_US;
	struct spool_entry entry;
	int r = 0;

	if (w->reader.fd < 0 && w->window.count == 0) {
		if (w->read && w->window.complete)
			return 0;
		spool_window_done(&w->window);
		r = spool_reader_open(&w->reader, w->spool->fd[SPOOL_DEAD]);
		if (r < 0)
			return r;
	}
	if (w->reader.fd >= 0) {
		r = spool_reader_slice(&w->reader, walk_entry, w);
		if (r <= 0) {
			spool_reader_close(&w->reader);
			w->read = true;
		}
		return r < 0 ? r : -EAGAIN;
	}
	while (spool_window_pop(&w->window, &entry)) {
		free(w->after);
		w->after = entry.name;
		snprintf(w->file, sizeof(w->file), "%s", entry.name);
		r = load_item(w);
		if (r == 0)
			return 1;
		w->file[0] = '\0';
		if (r != -ENOENT)
			return r;
		if (clock_monotonic_us() > until)
			break;
	}
	return -EAGAIN;
}

static int
walk_act(struct walk *w, struct error *err)
{
	struct spool *s = w->spool;
	char record[RECORD_BYTES], file[SPOOL_NAME_BYTES];
	struct spool_name name;
	struct stat st;
	int r = 0;

	if (w->file[0] == '\0') {
		error_set(err, ERROR_REJECTED, "no_item",
		    "there is no dead letter to act on");
		return -EINVAL;
	}
	if (w->action == DEAD_REDRIVE) {
		spool_name_parse_dead(&name, w->file);
		r = spool_move(s, SPOOL_DEAD, w->file, SPOOL_NEW, &name, file);
		if (r == 0)
			spool_arrived(s, SPOOL_NEW, file, true);
	} else if (unlinkat(s->fd[SPOOL_DEAD], w->file, 0) < 0) {
		r = -errno;
		if (fstatat(s->fd[SPOOL_DEAD], w->file, &st,
		    AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			r = unlinkat(s->fd[SPOOL_DEAD], w->file,
			    AT_REMOVEDIR) < 0 ? -errno : 0;
	}
	if (r < 0) {
		spool_error(s, err, r, SPOOL_DEAD, w->action == DEAD_REDRIVE ?
		    "cannot redrive a dead letter" :
		    "cannot purge a dead letter");
		return r;
	}
	record_name(w->file, record);
	(void)unlinkat(s->fd[SPOOL_DEAD], record, 0);
	w->file[0] = '\0';
	if (s->dead > 0)
		s->dead--;
	if (w->action == DEAD_REDRIVE && spool_running(s))
		task_schedule(s->loop, &s->take_task);
	return 0;
}

/* The owner may close the walk in its callback: nothing is touched after. */
static void
walk_step(struct task *t)
{
	struct walk *w = t->owner;
	struct dead_walk *walk = w->walk;
	struct spool *s = w->spool;
	struct error err = ERROR_INIT;
	bool acting = w->asked == ASKED_ACT;
	int r;

	if (s->fd[SPOOL_DEAD] < 0 || s->state == SPOOL_STOPPING) {
		err = s->error;
		if (!error_is_set(&err))
			error_set(&err, ERROR_TRANSIENT, "down",
			    "%s is not open", s->path);
		r = -ENODEV;
	} else if (acting) {
		r = walk_act(w, &err);
	} else {
		r = walk_next(w);
		if (r == -EAGAIN) {
			task_schedule(s->loop, &w->task);
			return;
		}
		if (r < 0)
			spool_error(s, &err, r, SPOOL_DEAD,
			    "cannot read the dead letters");
	}
	w->asked = ASKED_NOTHING;
	if (acting)
		walk->on_acted(walk, r < 0 ? &err : NULL);
	else
		walk->on_item(walk, r > 0 ? &w->item : NULL,
		    r < 0 ? &err : NULL);
}

static void
walk_free(struct walk *w)
{
	task_cancel(&w->task);
	list_remove(&w->link);
	spool_window_done(&w->window);
	spool_reader_close(&w->reader);
	chunk_unref(w->chunk);
	free(w->after);
	w->walk->impl = NULL;
	free(w);
}

void
spool_dead_open(struct queue *q, struct dead_walk *walk)
{
	struct spool *s = spool_of(q);
	struct walk *w = new0(struct walk);

	w->spool = s;
	w->walk = walk;
	w->reader.fd = -1;
	spool_window_init(&w->window, s->window_max);
	task_init(&w->task, LOOP_DISPATCH, "spool dead letters", walk_step, w);
	list_init(&w->link);
	list_push_back(&s->walks, &w->link);
	walk->impl = w;
}

static void
ask(struct dead_walk *walk, int what)
{
	struct walk *w = walk->impl;

	BUG_ON(w == NULL || w->asked != ASKED_NOTHING);
	w->asked = what == ASKED_ACT ? ASKED_ACT : ASKED_NEXT;
	task_schedule(w->spool->loop, &w->task);
}

void
spool_dead_next(struct queue *q _unused_, struct dead_walk *walk)
{
	ask(walk, ASKED_NEXT);
}

void
spool_dead_act(struct queue *q _unused_, struct dead_walk *walk,
    enum dead_action action)
{
	((struct walk *)walk->impl)->action = action;
	ask(walk, ASKED_ACT);
}

void
spool_dead_close(struct queue *q _unused_, struct dead_walk *walk)
{
	if (walk->impl != NULL)
		walk_free(walk->impl);
}

void
spool_walks_stop(struct spool *s)
{
	struct list *link;

	list_foreach(link, &s->walks) {
		struct walk *w = list_entry(link, struct walk, link);

		if (w->asked != ASKED_NOTHING)
			task_schedule(s->loop, &w->task);
	}
}

void
spool_walks_free(struct spool *s)
{
	while (!list_empty(&s->walks))
		walk_free(list_first_entry(&s->walks, struct walk, link));
}
