#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fault.h"
#include "base/log.h"
#include "net/stream.h"

#define BACKLOG		128
#define PAUSE_US	(200 * USEC_PER_MSEC)

static void
on_pause_over(struct timer *t)
{
	struct listener *l = t->owner;

	io_set(l->loop, &l->io, EPOLLIN);
}

/* Level-triggered: without a pause the loop would spin on what it cannot
   take. */
static void
accept_failed(struct listener *l, int err)
{
	switch (err) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		log_debug(NULL, "%s: accept: %s; trying again in 200 ms",
		    l->io.name, strerror(err));
		io_set(l->loop, &l->io, 0);
		timer_arm(l->loop, &l->pause, PAUSE_US);
		break;
	default:
		break;		/* that one peer's trouble (accept(2)) */
	}
}

/* One a turn: the callback may stop or free the listener. */
static void
on_readable(struct io *io, uint32_t events)
{
	struct listener *l = io->owner;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd;

	(void)events;
	memset(&ss, 0, sizeof(ss));
	if (fault("listener.accept")) {
		accept_failed(l, EMFILE);
		return;
	}
	fd = accept4(io->fd, (struct sockaddr *)&ss, &len,
	    SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		accept_failed(l, errno);
	else
		l->fn(l, fd, (const struct sockaddr *)&ss);
}

void
listener_init(struct listener *l, const char *name, listener_fn *fn,
    void *owner)
{
	*l = (struct listener){ .fn = fn, .owner = owner };
	io_init(&l->io, name, on_readable, l);
	timer_init(&l->pause, name, on_pause_over, l);
}

static void
note_bound(struct listener *l, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0, sizeof(ss));
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		address_from_sockaddr(&l->bound, (struct sockaddr *)&ss);
}

/* ---- Unix sockets ---- */

/* A file that bind(2) met: 0 when it was nobody's and is gone now. */
static int
remove_stale(const char *path, const struct sockaddr_un *un, socklen_t len)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)un, len) == 0 ? 0 : errno;
	(void)close(fd);
	if (r != ECONNREFUSED)
		return -EADDRINUSE;	/* also EAGAIN: its backlog is full */
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Nobody gets in between bind and chmod: it is made for us alone. */
static int
bind_private(int fd, const struct sockaddr_un *un, socklen_t len)
{
	mode_t before = umask(0177);
	int r = bind(fd, (const struct sockaddr *)un, len) < 0 ? -errno : 0;

	(void)umask(before);
	return r;
}

static int
bind_unix(struct listener *l, int fd, const struct sockaddr_un *un,
    socklen_t len, mode_t mode)
{
	const char *path = un->sun_path;
	struct stat st;
	int r;

	r = bind_private(fd, un, len);
	if (r == -EADDRINUSE) {
		r = remove_stale(path, un, len);
		if (r == 0)
			r = bind_private(fd, un, len);
	}
	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return -errno;
	l->made_file = true;
	l->file_dev = st.st_dev;
	l->file_ino = st.st_ino;
	/* Listening before opening up: who sees it can connect. */
	if (listen(fd, BACKLOG) < 0 || chmod(path, mode) < 0)
		return -errno;
	return 0;
}

/* Not if another instance has put its own there meanwhile. */
static void
remove_file(struct listener *l)
{
	struct stat st;

	if (!l->made_file)
		return;
	l->made_file = false;
	if (lstat(l->bound.host, &st) == 0 && st.st_dev == l->file_dev &&
	    st.st_ino == l->file_ino)
		(void)unlink(l->bound.host);
}

/* ---- TCP ---- */

static int
bind_tcp(int fd, const struct sockaddr *sa, socklen_t len)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	/* "[::]" is IPv6 only, so that "0.0.0.0" can be had as well. */
	if (sa->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, sa, len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int
listen_on(struct listener *l, int fd, const struct sockaddr_storage *ss,
    socklen_t len, mode_t mode)
{
	int r;

	if (ss->ss_family == AF_UNIX)
		r = bind_unix(l, fd, (const void *)ss, len, mode);
	else
		r = bind_tcp(fd, (const struct sockaddr *)ss, len);
	return r < 0 ? r : io_add(l->loop, &l->io, fd, EPOLLIN);
}

static int
refuse(struct error *err, const struct address *a, int r)
{
	char text[ADDRESS_TEXT_BYTES];

	address_text(a, text);
	if (r == -EEXIST)
		error_set(err, ERROR_REJECTED, "EEXIST",
		    "cannot listen on %.160s: the file is no socket", text);
	else if (r == -EADDRINUSE && a->kind == ADDRESS_UNIX)
		error_set(err, ERROR_REJECTED, "EADDRINUSE",
		    "cannot listen on %.160s: somebody does already", text);
	else
		error_set_errno(err, r, "cannot listen on %.160s", text);
	return r;
}

int
listener_start(struct listener *l, struct loop *loop,
    const struct address *address, mode_t mode, struct error *err)
{
	struct address a = *address;
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, r;

	if (a.kind == ADDRESS_NAME && strcasecmp(a.host, "localhost") == 0) {
		a.kind = ADDRESS_IP;
		snprintf(a.host, sizeof(a.host), "127.0.0.1");
	}
	if (address_to_sockaddr(&a, &ss, &len) < 0) {
		error_set(err, ERROR_REJECTED, "address",
		    "cannot listen on \"%.100s\": an IP address is needed",
		    a.host);
		return -EINVAL;
	}
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd < 0)
		return refuse(err, &a, -errno);
	l->loop = loop;
	l->bound = a;
	r = listen_on(l, fd, &ss, len, mode);
	if (r < 0) {
		remove_file(l);
		(void)close(fd);
		return refuse(err, &a, r);
	}
	note_bound(l, fd);
	return 0;
}

int
listener_adopt(struct listener *l, struct loop *loop, int fd,
    struct error *err)
{
	int flags = fcntl(fd, F_GETFL), r;

	/* Handed over by another process, so perhaps blocking. */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		r = -errno;
		error_set_errno(err, r, "cannot use the socket handed over");
		return r;
	}
	l->loop = loop;
	l->made_file = false;
	r = io_add(loop, &l->io, fd, EPOLLIN);
	if (r < 0) {
		error_set_errno(err, r, "cannot use the socket handed over");
		return r;
	}
	note_bound(l, fd);
	return 0;
}

void
listener_stop(struct listener *l)
{
	int fd = l->io.fd;

	if (!io_active(&l->io))
		return;
	timer_cancel(l->loop, &l->pause);
	io_remove(l->loop, &l->io);
	(void)close(fd);
	remove_file(l);
}
