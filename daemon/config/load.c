#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/alloc.h"
#include "config/internal.h"

/* A regular file; or /dev/null, the usual way to switch a drop-in off. */
static bool
readable_kind(const struct stat *st)
{
	return S_ISREG(st->st_mode) || (S_ISCHR(st->st_mode) &&
	    major(st->st_rdev) == 1 && minor(st->st_rdev) == 3);
}

/* 0 or -errno; one byte more than allowed is read, and then refused. */
static int
read_file(const char *path, struct buffer *b)
{
	/* O_NONBLOCK: a FIFO in this place must not hold up a reload. */
	_cleanup_close_ int fd = open(path,
	    O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!readable_kind(&st))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	while (buffer_len(b) <= CONFIG_FILE_MAX) {
		ssize_t n = read(fd, buffer_reserve(b, 64 * KIB), 64 * KIB);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		buffer_commit(b, (size_t)n);
	}
	return 0;
}

static void
load_file(struct config *c, const char *path)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct origin o = { path, c->file_index + 1, 0 };
	int r = read_file(path, &b);

	if (r < 0) {
		c->file_index++;
		tree_problem(c, &o, "cannot read: %s", r == -EINVAL ?
		    "not a regular file" : strerror(-r));
		return;
	}
	tree_read(c, path, buffer_slice(&b));
}

static int
is_drop_in(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 5 &&
	    strcmp(e->d_name + n - 5, ".conf") == 0;
}

/* By bytes: the order shall not hang on the locale. */
static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
load_drop_ins(struct config *c, const char *main_path)
{
	_cleanup_free_ char *dir = xasprintf("%s.d", main_path);
	struct origin o = { dir, c->file_index + 1, 0 };
	struct dirent **names;
	int n = scandir(dir, &names, is_drop_in, by_name);

	if (n < 0) {
		if (errno != ENOENT)
			tree_problem(c, &o, "cannot read: %s",
			    strerror(errno));
		return;
	}
	if ((size_t)n > CONFIG_FILES_MAX)
		tree_problem(c, &o, "more than %zu files", CONFIG_FILES_MAX);
	for (int i = 0; i < n; i++) {
		if ((size_t)n <= CONFIG_FILES_MAX) {
			_cleanup_free_ char *path = xasprintf("%s/%s", dir,
			    names[i]->d_name);

			load_file(c, path);
		}
		free(names[i]);
	}
	free(names);
}

struct config *
config_load(const char *path, config_schema schema)
{
	struct config *c = tree_new(path, schema);

	load_file(c, path);
	load_drop_ins(c, path);
	tree_finish(c);
	return c;
}

struct config *
config_load_text(const char *name, const char *text, config_schema schema)
{
	struct config *c = tree_new(name, schema);

	tree_read(c, name, slice_of(text));
	tree_finish(c);
	return c;
}
