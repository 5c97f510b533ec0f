/*
 * From new/ to the engine.
 */
#include "queue/spool_impl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/chunk.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

/* A finished chunk is freed when the last of its messages is settled. */
#define CHUNK_BYTES	((size_t)64 * KIB)
/* Where leases are denied: this long unchanged is taken for complete. */
#define FRESH_US	(2 * USEC_PER_SEC)
#define SKIPPED_LOG_US	(5 * 60 * USEC_PER_SEC)

/* ---- is somebody writing? ---- */

enum writer {
	WRITER_NONE = 1,
	WRITER_THERE,
	WRITER_UNKNOWN,
};

/*
 * A read lease is granted only while nobody has the file open for writing.  It
 * is given back at once; should a writer come in between, its signal is one
 * that is ignored by default, rather than SIGIO.
 */
static enum writer
find_writer(int fd)
{
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return WRITER_UNKNOWN;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? WRITER_THERE : WRITER_UNKNOWN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return WRITER_NONE;
}

static uint64_t
time_us(const struct timespec *t)
{
	return t->tv_sec < 0 ? 0 : (uint64_t)t->tv_sec * USEC_PER_SEC +
	    (uint64_t)t->tv_nsec / 1000;
}

/* For one that a scan found, where the kernel does not tell. */
static bool
is_fresh(const struct stat *st)
{
	uint64_t now = clock_realtime_us();
	uint64_t then = MAX(time_us(&st->st_mtim), time_us(&st->st_ctim));

	return now >= then && now - then < FRESH_US;
}

/* ---- what is in the file ---- */

static int
read_body(struct chunk *chunk, int fd, size_t size, struct slice *ret)
{
	char *p = chunk_alloc(chunk, size + 1);
	size_t got = 0;

	while (got < size) {
		ssize_t n = pread(fd, p + got, size - got, (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	p[got] = '\0';
	*ret = (struct slice){ p, got };
	return 0;
}

/* One of the attributes that every file has; the producer's own win. */
static void
add_attribute(struct spool_content *c, const char *name, struct slice value,
    bool json)
{
	for (size_t i = 0; i < c->nattributes; i++)
		if (slice_is(c->attributes[i].name, name))
			return;
	c->attributes[c->nattributes++] = (struct attribute){
		.name = slice_of(name), .value = value, .json = json };
}

static int
read_envelope(struct chunk *chunk, struct slice text, struct spool_content *c,
    struct error *err)
{
	struct attribute *all = chunk_alloc(chunk,
	    (SPOOL_ATTRIBUTES_MAX + 3) * sizeof(*all));

	c->attributes = all;
	return spool_envelope_parse(chunk, text, all, &c->nattributes, &c->body,
	    err);
}

int
spool_read_content(struct chunk *chunk, int fd, const struct stat *st,
    const char *base, size_t max_bytes, struct spool_content *ret,
    struct error *err)
{
	bool envelope = spool_name_is_envelope(base);
	size_t limit = max_bytes + (envelope ? SPOOL_ENVELOPE_MAX : 0);
	char iso[CLOCK_ISO_BYTES], size[24];
	struct slice text;
	int r;

	*ret = (struct spool_content){
		.body = SLICE(""), .modified_us = time_us(&st->st_mtim) };
	if ((uint64_t)st->st_size > limit) {
		error_set(err, ERROR_REJECTED, "too_large", "the file has %lld "
		    "bytes, MaxBytes=%zu", (long long)st->st_size, max_bytes);
		return -EINVAL;
	}
	r = read_body(chunk, fd, (size_t)st->st_size, &text);
	if (r < 0) {
		error_set(err, ERROR_TRANSIENT, "read", "the file cannot be "
		    "read: %s", strerror(-r));
		return r;
	}
	if (envelope) {
		r = read_envelope(chunk, text, ret, err);
		if (r < 0)
			return r;
		if (ret->body.n > max_bytes) {
			error_set(err, ERROR_REJECTED, "too_large", "the body "
			    "has %zu bytes, MaxBytes=%zu", ret->body.n,
			    max_bytes);
			return -EINVAL;
		}
	} else {
		ret->body = text;
		ret->attributes = chunk_alloc(chunk,
		    3 * sizeof(*ret->attributes));
	}
	snprintf(size, sizeof(size), "%zu", ret->body.n);
	clock_iso(iso, ret->modified_us, true);
	add_attribute(ret, "file", chunk_copy(chunk, base, strlen(base)), false);
	add_attribute(ret, "size", chunk_copy(chunk, size, strlen(size)), true);
	add_attribute(ret, "mtime", chunk_copy(chunk, iso, strlen(iso)), false);
	return 0;
}

/* ---- one file ---- */

struct taking {
	struct spool *spool;
	int fd;
	struct stat st;
	const char *unfit;		/* why it is no message; NULL: it is */
	struct spool_name name;
	char taken[SPOOL_NAME_BYTES];	/* in cur/ */
};

static void
close_taking(struct taking *t)
{
	close_fdp(&t->fd);
}

static int
open_in(struct taking *t, enum spool_dir dir, const char *file)
{
	close_fdp(&t->fd);
	t->unfit = NULL;
	t->fd = openat(t->spool->fd[dir], file, O_RDONLY | O_NONBLOCK |
	    O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	if (t->fd < 0) {
		switch (errno) {
		case ELOOP:
			t->unfit = "it is a symbolic link";
			return 0;
		case ENXIO:
		case ENODEV:
			t->unfit = "it is not a regular file";
			return 0;
		case EACCES:
		case EPERM:
			t->unfit = "the operator's user may not read it";
			return 0;
		case ENOENT:
		case EAGAIN:
		case EMFILE:
		case ENFILE:
		case ENOMEM:
			return -errno;
		default:
			t->unfit = "it cannot be opened";
			return 0;
		}
	}
	if (fstat(t->fd, &t->st) < 0)
		return -errno;
	if (!S_ISREG(t->st.st_mode))
		t->unfit = S_ISDIR(t->st.st_mode) ? "it is a directory" :
		    "it is not a regular file";
	return 0;
}

/* A producer may have renamed another file over it since we opened it. */
static bool
was_replaced(const struct taking *t)
{
	struct stat st;

	return fstatat(t->spool->fd[SPOOL_CUR], t->taken, &st,
	    AT_SYMLINK_NOFOLLOW) == 0 && t->fd >= 0 &&
	    (st.st_ino != t->st.st_ino || st.st_dev != t->st.st_dev);
}

static void
skipped(struct spool *s, const char *file, const char *why)
{
	uint64_t now = clock_monotonic_us();
	char shown[SPOOL_NAME_BYTES];

	if (s->skipped_log_us != 0 && now - s->skipped_log_us < SKIPPED_LOG_US)
		return;
	s->skipped_log_us = now;
	snprintf(shown, sizeof(shown), "%s", file);
	spool_name_show(shown, strlen(shown));
	log_error(LOG_QUEUE_EVENT(s->queue->name, EVENT_MESSAGE_STUCK),
	    "%s/new/%s cannot be taken and is "
	    "left there: %s", s->path, shown, why);
}

static struct message *
make_message(struct spool *s, const struct taking *t)
{
	struct spool_receipt *rc;
	struct message *m;
	struct slice file, shown;

	if (s->chunk == NULL || chunk_bytes(s->chunk) > CHUNK_BYTES) {
		chunk_unref(s->chunk);
		s->chunk = chunk_new();
	}
	rc = chunk_alloc(s->chunk, sizeof(*rc));
	memset(rc, 0, sizeof(*rc));
	list_init(&rc->link);
	file = chunk_copy(s->chunk, t->taken, strlen(t->taken));
	rc->file = file.p;
	rc->base = chunk_copy(s->chunk, t->name.base, strlen(t->name.base)).p;
	shown = chunk_copy(s->chunk, rc->base, strlen(rc->base));
	spool_name_show((char *)(uintptr_t)shown.p, shown.n);
	m = message_new(s->queue, s->chunk);
	m->name = shown;
	m->receipt = file;
	m->receipt_data = rc;
	m->attempt = t->name.attempt;
	m->crashes = t->name.crashes;
	rc->message = m;
	hash_insert(&s->held, &rc->node, file);
	return m;
}

/* The file is in cur/ now: whatever comes, the engine gets it. */
static void
deliver(struct spool *s, struct taking *t)
{
	struct message *m = make_message(s, t);
	struct spool_content content;
	struct error err = ERROR_INIT;
	int r = 0;

	if (t->unfit != NULL) {
		queue_deliver_malformed(s->queue, m, "%s", t->unfit);
		return;
	}
	r = spool_read_content(s->chunk, t->fd, &t->st, t->name.base,
	    s->queue->max_bytes, &content, &err);
	m->enqueued_us = content.modified_us;
	if (r < 0) {
		queue_deliver_malformed(s->queue, m, "%s", err.text);
		return;
	}
	m->body = content.body;
	m->attributes = content.attributes;
	m->nattributes = content.nattributes;
	queue_deliver(s->queue, m);
}

/* A name that is held may have lost its file to somebody; it stays its own. */
static int
move_to_cur(struct spool *s, const char *file, struct taking *t)
{
	char first[SPOOL_NAME_BYTES];
	int r;

	spool_name_parse(&t->name, file);
	r = spool_move(s, SPOOL_NEW, file, SPOOL_CUR, &t->name, t->taken);
	while (r == 0 && hash_find(&s->held, slice_of(t->taken)) != NULL) {
		memcpy(first, t->taken, sizeof(first));
		spool_name_vary(&t->name);
		r = spool_move(s, SPOOL_CUR, first, SPOOL_CUR, &t->name,
		    t->taken);
	}
	return r;
}

/* No event will tell when it may be taken. */
static void
look_later(struct spool *s)
{
	s->creating++;
	timer_arm_sooner(s->loop, &s->rescan_timer, FRESH_US);
}

static int
broken(struct spool *s, int r, struct error *err)
{
	spool_error(s, err, r, SPOOL_NEW, "cannot take a file");
	return r;
}

/* 0: taken, or not to be taken now. -errno: nothing can be taken. */
static int
take(struct spool *s, const char *file, bool sure, struct error *err)
{
	_cleanup_(close_taking) struct taking t = { .spool = s, .fd = -1 };
	int r;

	r = open_in(&t, SPOOL_NEW, file);
	if (r == -ENOENT)
		return 0;
	if (r == -EAGAIN) {
		look_later(s);		/* somebody has a lease on it */
		return 0;
	}
	if (r < 0)
		return broken(s, r, err);
	if (t.unfit == NULL) {
		enum writer w = find_writer(t.fd);

		/* Closing it is an event, so it is not forgotten. */
		if (w == WRITER_THERE)
			return 0;
		if (w == WRITER_UNKNOWN && !sure && is_fresh(&t.st)) {
			look_later(s);
			return 0;
		}
	}
	r = move_to_cur(s, file, &t);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		/* This one, or everything? */
		if (spool_is_general(r))
			return broken(s, r, err);
		if (spool_dirs_test(s, err) < 0)
			return r;
		skipped(s, file, strerror(-r));
		return 0;
	}
	if (fault("spool.take"))
		return broken(s, -EIO, err);
	if (t.unfit == NULL && was_replaced(&t)) {
		r = open_in(&t, SPOOL_CUR, t.taken);
		if (r < 0)
			t.unfit = "it cannot be read";
	}
	s->credit--;
	s->taken++;
	deliver(s, &t);
	return 0;
}

/* ---- many ---- */

/* Before the window is dry, and only if the last reading was good for some. */
static void
refill(struct spool *s)
{
	if (!s->waiting.complete && s->waiting.count <= s->window_max / 4 &&
	    s->scanning != SPOOL_NEW && s->taken != 0)
		spool_want(s, SPOOL_BIT(SPOOL_NEW));
}

static void
take_some(struct task *t)
{
	struct spool *s = t->owner;
	uint64_t until = clock_monotonic_us() + SPOOL_SLICE_US;
	struct spool_entry entry;
	struct error err;
	int r = 0;

	if (!spool_running(s) || !s->seen[SPOOL_NEW].known)
		return;
	for (unsigned n = 0; r == 0 && s->credit > 0; n++) {
		if (n == SPOOL_SLICE_MESSAGES || clock_monotonic_us() > until) {
			task_schedule(s->loop, &s->take_task);
			break;
		}
		if (!spool_window_pop(&s->waiting, &entry))
			break;
		spool_left(s, SPOOL_NEW, entry.name);
		r = take(s, entry.name, entry.sure, &err);
		free(entry.name);
	}
	/* A slow message must not keep those of later turns in memory. */
	chunk_unref(s->chunk);
	s->chunk = NULL;
	if (r < 0) {
		spool_fail(s, &err);
		return;
	}
	refill(s);
}

void
spool_credit(struct queue *q, unsigned n)
{
	struct spool *s = spool_of(q);

	s->credit = n;
	if (n > 0 && spool_running(s))
		task_schedule(s->loop, &s->take_task);
}

void
spool_take_init(struct spool *s)
{
	task_init(&s->take_task, LOOP_DISPATCH, "spool take", take_some, s);
}

void
spool_take_stop(struct spool *s)
{
	task_cancel(&s->take_task);
	chunk_unref(s->chunk);
	s->chunk = NULL;
}
