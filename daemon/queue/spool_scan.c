/*
 * Reading directories.  One at a time, a slice a turn, in the order of enum
 * spool_dir: what comes back from cur/ is in new/ before new/ is read.
 */
#include "queue/spool_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define TMP_OLD_SEC		(24 * 3600)
#define NSEC_PER_SEC		UINT64_C(1000000000)
/* Reading again may take up a twentieth of our time. */
#define SCAN_SHARE		20u

/* ---- the reader ---- */

int
spool_reader_open(struct spool_reader *r, int dirfd)
{
	/* An open file of its own: the position is not shared. */
	r->fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0)
		return -errno;
	r->data = xmalloc(SPOOL_READER_BYTES);
	return 0;
}

void
spool_reader_close(struct spool_reader *r)
{
	close_fdp(&r->fd);
	r->fd = -1;
	free(r->data);
	r->data = NULL;
}

int
spool_reader_slice(struct spool_reader *r, spool_entry_fn *fn, void *arg)
{
	uint64_t until = clock_monotonic_us() + SPOOL_SLICE_US;
	unsigned seen = 0;

	do {
		ssize_t n = getdents64(r->fd, r->data, SPOOL_READER_BYTES);

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t at = 0; at < n;) {
			struct dirent64 *d = (void *)(r->data + at);

			at += d->d_reclen;
			seen++;
			if (d->d_name[0] != '.')
				fn(arg, d->d_name, d->d_type);
		}
	} while (seen < SPOOL_SLICE_ENTRIES && clock_monotonic_us() < until);
	return 1;
}

/* ---- what each directory's entries are for ---- */

static void
scan_tmp(void *arg, const char *name, unsigned char type)
{
	struct spool *s = arg;
	struct stat st;

	if (type != DT_REG && type != DT_UNKNOWN)
		return;
	if (fstatat(s->fd[SPOOL_TMP], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_mtim.tv_sec + TMP_OLD_SEC <
	    (time_t)(clock_realtime_us() / USEC_PER_SEC))
		(void)unlinkat(s->fd[SPOOL_TMP], name, 0);
}

/* Nobody holds it: a dead operator's, or its settlement failed. */
static void
scan_cur(void *arg, const char *name, unsigned char type _unused_)
{
	struct spool *s = arg;
	struct spool_name to;
	int r;

	if (hash_find(&s->held, slice_of(name)) != NULL)
		return;
	spool_name_parse(&to, name);
	r = spool_move(s, SPOOL_CUR, name, SPOOL_NEW, &to, NULL);
	if (r == 0)
		s->scan_moved++;
	else if (r != -ENOENT)
		log_error(LOG_QUEUE_EVENT(s->queue->name, EVENT_MESSAGE_STUCK),
		    "%s/cur/%s cannot go back "
		    "to new/: %s; it stays there", s->path, name, strerror(-r));
}

static void
scan_dead(void *arg, const char *name, unsigned char type _unused_)
{
	struct spool *s = arg;

	if (!spool_name_is_record(name))
		s->scan_count++;
	else if (!s->seen[SPOOL_DEAD].known)
		spool_drop_orphan(s, name);
}

static void
scan_delayed(void *arg, const char *name, unsigned char type _unused_)
{
	struct spool *s = arg;
	struct spool_name parsed;

	if (spool_name_parse_delayed(&parsed, name) == 0)
		spool_window_offer(&s->scanned, name, true);
	else
		s->scan_count++;
}

static void
scan_new(void *arg, const char *name, unsigned char type _unused_)
{
	struct spool *s = arg;

	spool_window_offer(&s->scanned, name, false);
}

static spool_entry_fn *const entry_fns[SPOOL_NDIRS] = {
	[SPOOL_TMP] = scan_tmp,
	[SPOOL_CUR] = scan_cur,
	[SPOOL_DEAD] = scan_dead,
	[SPOOL_DELAYED] = scan_delayed,
	[SPOOL_NEW] = scan_new,
};

/* ---- one scan after the other ---- */

static uint64_t
changed_ns(const struct spool *s, enum spool_dir dir)
{
	struct stat st;

	if (fstat(s->fd[dir], &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC +
	    (uint64_t)st.st_mtim.tv_nsec;
}

static void
adopt(struct spool *s, struct spool_window *into)
{
	spool_window_done(into);
	*into = s->scanned;
	spool_window_init(&s->scanned, s->window_max);
}

static int
begin(struct spool *s)
{
	enum spool_dir dir = SPOOL_TMP;
	int r;

	while ((s->wanted & SPOOL_BIT(dir)) == 0)
		dir++;
	r = spool_reader_open(&s->reader, s->fd[dir]);
	if (r < 0)
		return r;
	s->wanted &= ~SPOOL_BIT(dir);
	s->scanning = dir;
	s->scan_count = 0;
	s->scan_moved = 0;
	s->scan_started_us = clock_monotonic_us();
	s->scan_changed_ns = changed_ns(s, dir);
	if (dir == SPOOL_NEW)
		s->creating = 0;
	return 0;
}

static void
finish(struct spool *s)
{
	enum spool_dir dir = s->scanning;
	struct spool_seen *seen = &s->seen[dir];
	uint64_t now = clock_monotonic_us();

	spool_reader_close(&s->reader);
	s->scanning = SPOOL_ROOT;
	seen->at_us = now;
	seen->took_us = now - s->scan_started_us;
	/* What changed within a tick of the clock cannot be told from then. */
	seen->changed_ns = s->scan_changed_ns / NSEC_PER_SEC + 1 <
	    clock_realtime_us() / USEC_PER_SEC ? s->scan_changed_ns : 0;
	seen->known = true;
	switch (dir) {
	case SPOOL_CUR:
		/* Moving may have hidden some from the reader. */
		if (s->scan_moved != 0) {
			log_notice(LOG_QUEUE_EVENT(s->queue->name,
			    EVENT_QUEUE_RECOVERED),
			    "%u messages "
			    "that were taken and not settled go back to new/",
			    s->scan_moved);
			spool_want(s, SPOOL_BIT(SPOOL_CUR));
		}
		break;
	case SPOOL_DEAD:
		s->dead = s->scan_count;
		break;
	case SPOOL_DELAYED:
		if (s->scan_count != 0)
			log_warning(LOG_QUEUE_EVENT(s->queue->name,
			    EVENT_MESSAGE_STUCK),
			    "%llu files in "
			    "%s/delayed are none of ours and are left alone",
			    (unsigned long long)s->scan_count, s->path);
		adopt(s, &s->delayed);
		spool_delayed_arm(s);
		break;
	case SPOOL_NEW:
		adopt(s, &s->waiting);
		s->taken = 0;
		task_schedule(s->loop, &s->take_task);
		break;
	default:
		break;
	}
}

static void
scan_step(struct task *t)
{
	struct spool *s = t->owner;
	struct error err;
	int r = 1;

	if (s->scanning == SPOOL_ROOT && s->wanted != 0)
		r = begin(s);
	if (r > 0 && s->scanning != SPOOL_ROOT) {
		r = spool_reader_slice(&s->reader, entry_fns[s->scanning], s);
		if (r == 0)
			finish(s);
	}
	if (r < 0) {
		spool_error(s, &err, r, s->scanning, "cannot read the directory");
		spool_fail(s, &err);
		return;
	}
	if (s->scanning != SPOOL_ROOT || s->wanted != 0)
		task_schedule(s->loop, &s->scan_task);
	else
		spool_probe_done(s);
}

void
spool_want(struct spool *s, unsigned dirs)
{
	s->wanted |= dirs;
	if (spool_running(s))
		task_schedule(s->loop, &s->scan_task);
}

void
spool_scan_init(struct spool *s)
{
	task_init(&s->scan_task, LOOP_DISPATCH, "spool scan", scan_step, s);
	s->reader.fd = -1;
	spool_window_init(&s->scanned, s->window_max);
	spool_window_init(&s->waiting, s->window_max);
	spool_window_init(&s->delayed, s->window_max);
}

void
spool_scan_stop(struct spool *s)
{
	task_cancel(&s->scan_task);
	spool_reader_close(&s->reader);
	s->scanning = SPOOL_ROOT;
	s->wanted = 0;
	/* Also takes over a changed window_max. */
	spool_window_done(&s->scanned);
	spool_window_done(&s->waiting);
	spool_window_done(&s->delayed);
	s->scanned.max = s->waiting.max = s->delayed.max = s->window_max;
	memset(s->seen, 0, sizeof(s->seen));
}

/* ---- what changes between the scans ---- */

void
spool_arrived(struct spool *s, enum spool_dir dir, const char *file, bool sure)
{
	struct spool_window *w = dir == SPOOL_NEW ? &s->waiting : &s->delayed;

	if (s->seen[dir].known)
		spool_window_offer(w, file, sure);
	if (s->scanning == dir)
		spool_window_offer(&s->scanned, file, sure);
}

void
spool_left(struct spool *s, enum spool_dir dir, const char *file)
{
	if (s->scanning == dir)
		spool_window_remove(&s->scanned, file);
}

void
spool_look_again(struct spool *s, bool soon)
{
	static const enum spool_dir dirs[] = { SPOOL_DEAD, SPOOL_DELAYED,
		SPOOL_NEW };
	uint64_t now = clock_monotonic_us(), gap;

	if (!spool_running(s))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct spool_seen *seen = &s->seen[dirs[i]];

		gap = MAX(soon && dirs[i] == SPOOL_NEW ? 0 : s->rescan_us,
		    SCAN_SHARE * seen->took_us);
		if (!seen->known || s->scanning == dirs[i] ||
		    now - seen->at_us < gap)
			continue;
		if (soon || seen->changed_ns == 0 ||
		    seen->changed_ns != changed_ns(s, dirs[i]))
			spool_want(s, SPOOL_BIT(dirs[i]));
	}
}
