#include "control/role.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/alloc.h"

static const char *const words[] = {
	[ROLE_ACTIVE] = "promoted\n",
	[ROLE_STANDBY] = "demoted\n",
};

char *
role_path(const char *control)
{
	size_t n = strlen(control);

	if (n > 5 && strcmp(control + n - 5, ".sock") == 0)
		n -= 5;
	return xasprintf("%.*s.role", (int)n, control);
}

enum role
role_read(const char *path)
{
	char text[16];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return ROLE_CONFIGURED;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n < 0)
		return ROLE_CONFIGURED;
	text[n] = '\0';
	for (enum role r = ROLE_ACTIVE; r <= ROLE_STANDBY; r++)
		if (strcmp(text, words[r]) == 0)
			return r;
	return ROLE_CONFIGURED;
}

/* Beside it and renamed: a reader sees one word or the other. */
int
role_write(const char *path, enum role role)
{
	_cleanup_free_ char *fresh = xasprintf("%s.new", path);
	size_t n = strlen(words[role]);
	int fd, r = 0;

	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
	    0644);
	if (fd < 0)
		return -errno;
	if (write(fd, words[role], n) != (ssize_t)n)
		r = -EIO;
	(void)close(fd);
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(fresh);
	return r;
}
