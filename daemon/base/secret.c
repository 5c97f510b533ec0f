#include "base/secret.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/alloc.h"

#define SECRET_FILE_MAX	((size_t)64 * KIB)

struct secret {
	size_t mapped;
	size_t n;
	char bytes[];
};

void
secret_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}

static struct secret *
secret_map(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = (sizeof(struct secret) + n + 1 + page - 1) & ~(page - 1);
	struct secret *s;

	s = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		BUG("out of memory mapping %zu bytes", mapped);
	/* Best effort each: an old kernel or a low RLIMIT_MEMLOCK is no error. */
	(void)madvise(s, mapped, MADV_DONTDUMP);
	(void)madvise(s, mapped, MADV_WIPEONFORK);
	(void)mlock(s, mapped);
	s->mapped = mapped;
	s->n = n;
	return s;
}

struct secret *
secret_new(const void *src, size_t n)
{
	struct secret *s = secret_map(n);

	if (n != 0)
		memcpy(s->bytes, src, n);
	return s;
}

struct secret *
secret_read_file(const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct secret *s;
	ssize_t n = -1;
	size_t len = 0;

	if (fd < 0) {
		error_set_errno(err, errno, "cannot open %s", path);
		return NULL;
	}
	s = secret_map(SECRET_FILE_MAX + 1);
	while (len <= SECRET_FILE_MAX) {
		n = read(fd, s->bytes + len, SECRET_FILE_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (n < 0) {
		error_set_errno(err, errno, "cannot read %s", path);
		goto fail;
	}
	if (len > SECRET_FILE_MAX) {
		error_set(err, ERROR_REJECTED, "secret_too_long",
		    "%s is longer than %zu bytes", path, SECRET_FILE_MAX);
		goto fail;
	}
	if (len > 0 && s->bytes[len - 1] == '\n')
		len--;
	if (len > 0 && s->bytes[len - 1] == '\r')
		len--;
	if (len == 0) {
		error_set(err, ERROR_REJECTED, "secret_empty", "%s is empty", path);
		goto fail;
	}
	s->n = len;
	return s;
fail:
	secret_free(s);
	return NULL;
}

void
secret_free(struct secret *s)
{
	size_t mapped;

	if (s == NULL)
		return;
	mapped = s->mapped;
	secret_wipe(s, mapped);
	(void)munmap(s, mapped);
}

struct slice
secret_bytes(const struct secret *s)
{
	return (struct slice){ s->bytes, s->n };
}

bool
secret_equal(const struct secret *a, const struct secret *b)
{
	unsigned char diff = 0;

	if (a == NULL || b == NULL)
		return a == b;
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		diff |= (unsigned char)(a->bytes[i] ^ b->bytes[i]);
	return diff == 0;
}
