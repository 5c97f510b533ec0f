/*
 * What moves in new/, as the kernel tells.  Files that are moved in or closed
 * by a writer are messages; one that was linked in, or whose writer sits on
 * the other side of a network file system, is found by reading new/ again.
 */
#include "queue/spool_impl.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/log.h"

#define WATCH_NEW	(IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | \
			 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
/* Below Path= there are directories and the lock file only. */
#define WATCH_ROOT	(IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | \
			 IN_MOVE_SELF | IN_ONLYDIR)
#define SOON_US		USEC_PER_SEC

static void
rescan_due(struct timer *t)
{
	struct spool *s = t->owner;
	bool soon = s->creating != 0 || s->polling;

	spool_look_again(s, soon);
	timer_arm(s->loop, &s->rescan_timer, soon ? MIN(SOON_US, s->rescan_us) :
	    s->rescan_us);
}

/* Created, and neither closed nor moved: a link, or somebody still writes. */
static void
look_soon(struct spool *s)
{
	if (s->creating != 0)
		timer_arm_sooner(s->loop, &s->rescan_timer,
		    MIN(SOON_US, s->rescan_us));
}

static bool
is_ours(const char *name)
{
	for (enum spool_dir d = SPOOL_TMP; d < SPOOL_NDIRS; d++)
		if (strcmp(name, spool_dir_name(d) + 1) == 0)
			return true;
	return strcmp(name, ".lock") == 0;
}

/* False: the watch is gone, stop reading. */
static bool
on_root(struct spool *s, const struct inotify_event *ev)
{
	if ((ev->mask & (IN_DELETE | IN_MOVED_FROM)) != 0 &&
	    !is_ours(ev->name))
		return true;
	spool_lost(s, ev->len != 0 ? ev->name : "the directory itself");
	return false;
}

/* It was taken before its event came. */
static bool
is_stale(struct spool *s, const char *name)
{
	return hash_find(&s->held, slice_of(name)) != NULL &&
	    !spool_exists(s, SPOOL_NEW, name);
}

static bool
on_event(struct spool *s, const struct inotify_event *ev)
{
	if ((ev->mask & IN_Q_OVERFLOW) != 0) {
		log_notice(LOG_QUEUE_EVENT(s->queue->name,
		    EVENT_QUEUE_RECOVERED),
		    "more files came than "
		    "the kernel could list; new/ is read again");
		spool_want(s, SPOOL_BIT(SPOOL_NEW));
		return true;
	}
	if (ev->wd == s->wd[SPOOL_ROOT])
		return on_root(s, ev);
	if (ev->wd != s->wd[SPOOL_NEW])
		return true;
	if ((ev->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED |
	    IN_UNMOUNT)) != 0) {
		spool_lost(s, "new/");
		return false;
	}
	if (ev->len == 0 || ev->name[0] == '.')
		return true;
	if ((ev->mask & IN_CREATE) != 0) {
		s->creating++;
		return true;
	}
	if ((ev->mask & IN_CLOSE_WRITE) != 0 && s->creating > 0)
		s->creating--;
	if (!is_stale(s, ev->name))
		spool_arrived(s, SPOOL_NEW, ev->name, true);
	return true;
}

static void
on_readable(struct io *io, uint32_t events _unused_)
{
	struct spool *s = io->owner;
	char buf[16384]
	    __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(io->fd, buf, sizeof(buf));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *ev = (const void *)(buf + at);

		at += (ssize_t)(sizeof(*ev) + ev->len);
		if (!on_event(s, ev))
			return;
	}
	look_soon(s);
	task_schedule(s->loop, &s->take_task);
}

void
spool_watch_init(struct spool *s)
{
	io_init(&s->watch, "spool watch", on_readable, s);
	timer_init(&s->rescan_timer, "spool rescan", rescan_due, s);
	s->wd[SPOOL_ROOT] = s->wd[SPOOL_NEW] = -1;
}

/* Without /proc there is only the path; it must still be what we opened. */
static int
watch_dir(struct spool *s, int fd, enum spool_dir dir, uint32_t mask)
{
	_cleanup_free_ char *path = xasprintf("%s%s", s->path,
	    spool_dir_name(dir));
	struct stat ours, there;

	s->wd[dir] = inotify_add_watch(fd, path, mask);
	if (s->wd[dir] < 0)
		return -errno;
	if (fstat(s->fd[dir], &ours) < 0 || stat(path, &there) < 0)
		return -errno;
	return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev ?
	    0 : -ESTALE;
}

/*
 * Closing an inotify descriptor waits for the kernel's own housekeeping, 10 to
 * 20 ms (invariant 3).  So one that is not needed is kept, without watches,
 * for the next queue that starts.
 */
static int spare = -1;

static int
descriptor_get(void)
{
	char old[4096];
	int fd = spare;

	if (fd < 0)
		return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	spare = -1;
	while (read(fd, old, sizeof(old)) > 0)
		;
	return fd;
}

static void
descriptor_put(struct spool *s, int fd)
{
	if (fd < 0 || spare >= 0) {
		close_fdp(&fd);
		return;
	}
	(void)inotify_rm_watch(fd, s->wd[SPOOL_ROOT]);
	(void)inotify_rm_watch(fd, s->wd[SPOOL_NEW]);
	spare = fd;
}

int
spool_watch_start(struct spool *s, struct error *err)
{
	int r, fd = descriptor_get();

	r = fd < 0 ? -errno : 0;
	if (r == 0)
		r = watch_dir(s, fd, SPOOL_ROOT, WATCH_ROOT);
	if (r == 0)
		r = watch_dir(s, fd, SPOOL_NEW, WATCH_NEW);
	if (r == 0)
		r = io_add(s->loop, &s->watch, fd, EPOLLIN);
	s->polling = r < 0;
	if (r < 0) {
		close_fdp(&fd);
		if (r != -EMFILE && r != -ENOSPC && r != -ENOSYS) {
			spool_error(s, err, r, SPOOL_NEW, "cannot watch");
			return r;
		}
		log_warning(LOG_QUEUE_EVENT(s->queue->name, EVENT_QUEUE_SETUP),
		    "no inotify watch to be "
		    "had (%s): %s/new is read every second instead; raise "
		    "fs.inotify.max_user_instances and max_user_watches",
		    strerror(-r), s->path);
	}
	timer_arm(s->loop, &s->rescan_timer, s->polling ? SOON_US :
	    s->rescan_us);
	return 0;
}

void
spool_watch_stop(struct spool *s)
{
	int fd = s->watch.fd;

	io_remove(s->loop, &s->watch);
	descriptor_put(s, fd);
	timer_cancel(s->loop, &s->rescan_timer);
	s->wd[SPOOL_ROOT] = s->wd[SPOOL_NEW] = -1;
	s->creating = 0;
}
