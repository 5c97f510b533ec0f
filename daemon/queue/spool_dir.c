#include "queue/spool_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/alloc.h"

#define DIR_MODE	0750
#define FILE_MODE	0640
#define LOCK_FILE	".lock"
#define TEST_FILE	".bot-operator-test"
#define TEST_BYTES	4096
#define VARY_MAX	16

static const char *const dir_names[SPOOL_NDIRS] = {
	[SPOOL_ROOT] = "",
	[SPOOL_TMP] = "/tmp",
	[SPOOL_CUR] = "/cur",
	[SPOOL_DEAD] = "/dead",
	[SPOOL_DELAYED] = "/delayed",
	[SPOOL_NEW] = "/new",
};

const char *
spool_dir_name(enum spool_dir dir)
{
	return dir_names[dir];
}

/* ---- errors ---- */

static const char *
advice(int err)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return "; give the operator's user the right to read and write "
		    "there";
	case ENOSPC:
		return "; make room on that file system";
	case EDQUOT:
		return "; raise the quota or make room";
	case EROFS:
		return "; mount it writable again";
	case EIO:
		return "; check the disk and the kernel's log";
	case EXDEV:
		return "; it has to be on the same file system as Path=";
	case ENOTDIR:
		return "; something there is not a directory";
	default:
		return "";
	}
}

void
spool_error(struct spool *s, struct error *err, int r, enum spool_dir dir,
    const char *what)
{
	const char *code;
	bool dead = dir == SPOOL_DEAD && s->dead_path != NULL;
	enum error_class class = ERROR_TRANSIENT;

	r = r < 0 ? -r : r;
	code = strerrorname_np(r);
	if (r == EACCES || r == EPERM)
		class = ERROR_AUTH;
	else if (r == EXDEV || r == ENOTDIR)
		class = ERROR_REJECTED;
	error_set(err, class, code != NULL ? code : "errno",
	    "%s in %s%s: %s%s", what, dead ? s->dead_path : s->path,
	    dead ? "" : dir_names[dir], strerror(r), advice(r));
}

bool
spool_is_general(int r)
{
	switch (r < 0 ? -r : r) {
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case EIO:
	case EXDEV:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ESTALE:
	case ENODEV:
		return true;
	default:
		return false;
	}
}

/* ---- opening ---- */

static int
make_path(const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);

	for (char *p = copy; *p != '\0'; p++) {
		if (*p != '/' || p == copy)
			continue;
		*p = '\0';
		if (mkdir(copy, DIR_MODE) < 0 && errno != EEXIST &&
		    access(copy, F_OK) != 0)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, DIR_MODE) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int
open_dir(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Only to be read by people; the lock is what counts. */
static void
write_pid(struct spool *s)
{
	_cleanup_close_ int fd = openat(s->fd[SPOOL_ROOT], LOCK_FILE,
	    O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	char pid[24];
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

	if (fd >= 0)
		(void)!write(fd, pid, (size_t)n);
}

/*
 * Somebody may remove the file between our open and our lock.  What we keep
 * open is not for writing, so that the file system can be mounted read-only.
 */
static int
lock(struct spool *s, struct error *err)
{
	struct stat ours, there;
	char pid[24] = "";
	int fd, r, mode = O_RDONLY;
	ssize_t n;

	for (;;) {
		fd = openat(s->fd[SPOOL_ROOT], LOCK_FILE,
		    mode | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
		if (fd < 0) {
			r = -errno;
			spool_error(s, err, r, SPOOL_ROOT,
			    "cannot open the lock file");
			return r;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			r = -errno;
			if (r != -EBADF || mode != O_RDONLY)
				break;
			mode = O_RDWR;		/* NFS wants it like that */
			(void)close(fd);
			continue;
		}
		if (fstat(fd, &ours) == 0 && fstatat(s->fd[SPOOL_ROOT],
		    LOCK_FILE, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    ours.st_ino == there.st_ino) {
			s->lock_fd = fd;
			write_pid(s);
			return 0;
		}
		(void)close(fd);
	}
	if (r != -EWOULDBLOCK) {
		spool_error(s, err, r, SPOOL_ROOT, "cannot lock");
		(void)close(fd);
		return r;
	}
	n = pread(fd, pid, sizeof(pid) - 1, 0);
	pid[MAX(n, 0)] = '\0';
	(void)close(fd);
	error_set(err, ERROR_REJECTED, "locked", strtol(pid, NULL, 10) ==
	    (long)getpid() ? "%s is locked by another queue of this operator "
	    "(pid %ld)" : "%s is locked by another operator (pid %ld)",
	    s->path, strtol(pid, NULL, 10));
	return r;
}

static int
open_below(struct spool *s, enum spool_dir dir, struct error *err)
{
	bool elsewhere = dir == SPOOL_DEAD && s->dead_path != NULL;
	const char *name = dir_names[dir] + 1;
	int r = 0;

	if (elsewhere)
		r = make_path(s->dead_path);
	else if (mkdirat(s->fd[SPOOL_ROOT], name, DIR_MODE) < 0 &&
	    errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = elsewhere ? open_dir(AT_FDCWD, s->dead_path) :
		    open_dir(s->fd[SPOOL_ROOT], name);
	if (r < 0) {
		spool_error(s, err, r, dir, "cannot open the directory");
		return r;
	}
	s->fd[dir] = r;
	return 0;
}

int
spool_dirs_open(struct spool *s, struct error *err)
{
	int r;

	r = make_path(s->path);
	if (r == 0)
		r = open_dir(AT_FDCWD, s->path);
	if (r < 0) {
		spool_error(s, err, r, SPOOL_ROOT, "cannot open the directory");
		return r;
	}
	s->fd[SPOOL_ROOT] = r;
	r = lock(s, err);
	for (enum spool_dir d = SPOOL_TMP; r == 0 && d < SPOOL_NDIRS; d++)
		r = open_below(s, d, err);
	if (r < 0)
		spool_dirs_close(s);
	return r;
}

void
spool_dirs_close(struct spool *s)
{
	for (enum spool_dir d = SPOOL_ROOT; d < SPOOL_NDIRS; d++) {
		close_fdp(&s->fd[d]);
		s->fd[d] = -1;
	}
	close_fdp(&s->lock_fd);
	s->lock_fd = -1;
}

/* ---- the test ---- */

/* One file through all the directories, and what a disk that is full would
   refuse. Its name is hidden, so nobody takes it. */
int
spool_dirs_test(struct spool *s, struct error *err)
{
	static const enum spool_dir way[] = { SPOOL_TMP, SPOOL_NEW, SPOOL_CUR,
		SPOOL_DELAYED, SPOOL_DEAD };
	static const char zeros[TEST_BYTES];
	size_t at = 0;
	int r;

	(void)unlinkat(s->fd[SPOOL_TMP], TEST_FILE, 0);
	r = spool_write_tmp(s, TEST_FILE,
	    (struct slice){ zeros, sizeof(zeros) }, SLICE(""));
	if (r < 0) {
		spool_error(s, err, r, SPOOL_TMP, "cannot write a file");
		return r;
	}
	for (; at + 1 < ARRAY_SIZE(way) && r == 0; at++)
		if (renameat(s->fd[way[at]], TEST_FILE, s->fd[way[at + 1]],
		    TEST_FILE) < 0)
			r = -errno;
	if (r < 0) {
		/* at has moved on: the one before it was left, or not. */
		spool_error(s, err, r, way[at], "cannot move a file to and fro");
		(void)unlinkat(s->fd[way[at - 1]], TEST_FILE, 0);
		return r;
	}
	if (unlinkat(s->fd[way[at]], TEST_FILE, 0) < 0) {
		r = -errno;
		spool_error(s, err, r, way[at], "cannot remove a file");
	}
	return r;
}

/* ---- files ---- */

bool
spool_exists(struct spool *s, enum spool_dir dir, const char *file)
{
	struct stat st;

	return fstatat(s->fd[dir], file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int
write_all(int fd, struct slice data)
{
	while (data.n > 0) {
		ssize_t n = write(fd, data.p, data.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data.p += n;
		data.n -= (size_t)n;
	}
	return 0;
}

int
spool_write_tmp(struct spool *s, const char *file, struct slice head,
    struct slice body)
{
	int r, fd = openat(s->fd[SPOOL_TMP], file, O_WRONLY | O_CREAT | O_EXCL |
	    O_CLOEXEC | O_NOFOLLOW, FILE_MODE);

	if (fd < 0)
		return -errno;
	r = write_all(fd, head);
	if (r == 0)
		r = write_all(fd, body);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(s->fd[SPOOL_TMP], file, 0);
	return r;
}

static bool
same_file(int a, const char *a_name, int b, const char *b_name)
{
	struct stat x, y;

	return fstatat(a, a_name, &x, AT_SYMLINK_NOFOLLOW) == 0 &&
	    fstatat(b, b_name, &y, AT_SYMLINK_NOFOLLOW) == 0 &&
	    x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/*
 * Without RENAME_NOREPLACE.  Only new/ has other writers than us, so only
 * there link() must decide who was first; when we are killed behind it, both
 * names are one file, which the next attempt notices.
 */
static int
rename_plain(struct spool *s, enum spool_dir from, const char *file,
    enum spool_dir to_dir, const char *to)
{
	int a = s->fd[from], b = s->fd[to_dir];

	if (spool_exists(s, to_dir, to)) {
		if (!same_file(a, file, b, to))
			return -EEXIST;
		return unlinkat(a, file, 0) < 0 ? -errno : 0;
	}
	if (to_dir == SPOOL_NEW) {
		if (linkat(a, file, b, to, 0) == 0)
			return unlinkat(a, file, 0) < 0 ? -errno : 0;
		if (errno == EEXIST || errno == ENOENT)
			return -errno;
		/* A directory, or a file system without links. */
	}
	return renameat(a, file, b, to) < 0 ? -errno : 0;
}

int
spool_rename(struct spool *s, enum spool_dir from, const char *file,
    enum spool_dir to_dir, const char *to)
{
	if (!s->no_renameat2) {
		if (renameat2(s->fd[from], file, s->fd[to_dir], to,
		    RENAME_NOREPLACE) == 0)
			return 0;
		if (errno == EEXIST && same_file(s->fd[from], file,
		    s->fd[to_dir], to))
			return unlinkat(s->fd[from], file, 0) < 0 ? -errno : 0;
		if (errno != EINVAL && errno != ENOSYS)
			return -errno;
		s->no_renameat2 = true;
	}
	return rename_plain(s, from, file, to_dir, to);
}

static void
format(enum spool_dir dir, const struct spool_name *name,
    char out[SPOOL_NAME_BYTES])
{
	switch (dir) {
	case SPOOL_DELAYED:
		spool_name_format_delayed(name, out);
		return;
	case SPOOL_DEAD:
		spool_name_format_dead(name, out);
		return;
	default:
		spool_name_format(name, out);
	}
}

int
spool_move(struct spool *s, enum spool_dir from, const char *file,
    enum spool_dir to_dir, struct spool_name *to,
    char ret_file[SPOOL_NAME_BYTES])
{
	char local[SPOOL_NAME_BYTES], *out = ret_file != NULL ? ret_file : local;
	int r = -EEXIST;

	spool_name_shorten(to);
	for (int i = 0; i < VARY_MAX && r == -EEXIST; i++) {
		if (i > 0)
			spool_name_vary(to);
		format(to_dir, to, out);
		r = spool_rename(s, from, file, to_dir, out);
	}
	return r;
}
