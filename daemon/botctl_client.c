#include "botctl.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/alloc.h"

#define TIMEOUT_SECONDS	30
#define LINE_MAX_BYTES	(256 * MIB)

void
client_set_timeout(struct client *c, unsigned seconds)
{
	const struct timeval tv = { .tv_sec = (time_t)seconds };

	(void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static int
try_path(struct client *c, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	client_set_timeout(c, TIMEOUT_SECONDS);
	if (connect(c->fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int r = -errno;

		(void)close(c->fd);
		c->fd = -1;
		return r;
	}
	c->path = xstrdup(path);
	return 0;
}

static void
explain(const char *path, int err, const char *instance)
{
	struct stat st;

	if (complain_muted())
		return;
	complain("no operator can be reached at %s: %s", path, strerror(-err));
	switch (-err) {
	case EACCES:
	case EPERM:
		if (stat(path, &st) == 0)
			fprintf(stderr, "The socket is for root, its owner "
			    "(uid %u) and the members of its group (gid %u).\n",
			    (unsigned)st.st_uid, (unsigned)st.st_gid);
		else
			fprintf(stderr, "Run botctl as root, as the operator's "
			    "user, or as a member of its group.\n");
		break;
	case EAGAIN:
	case ETIMEDOUT:
		fprintf(stderr, "It is there but does not answer: see "
		    "journalctl -u bot-operator@%s.\n", instance);
		break;
	default:
		fprintf(stderr, "Is it running? See: systemctl status "
		    "bot-operator@%s\nIs it another instance? Name it with "
		    "-i INSTANCE, --config FILE or --socket PATH.\n", instance);
		break;
	}
}

int
client_connect(struct client *c, char *const *paths, size_t n,
    const char *instance)
{
	int first = 0;

	*c = (struct client){ .fd = -1, .in = BUFFER_INIT };
	for (size_t i = 0; i < n; i++) {
		int r = try_path(c, paths[i]);

		if (r == 0)
			return 0;
		/* A socket that is there and refuses tells more than one that
		   is not there. */
		if (first == 0)
			first = r;
		if (r != -ENOENT) {
			explain(paths[i], r, instance);
			return BOTCTL_NO_DAEMON;
		}
	}
	explain(paths[0], first, instance);
	return BOTCTL_NO_DAEMON;
}

void
client_close(struct client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	free(c->path);
	buffer_done(&c->in);
	c->fd = -1;
	c->path = NULL;
}

static int
append_text(const char *text, size_t n, void *arg)
{
	buffer_add(arg, text, n);
	return 0;
}

int
client_send(struct client *c, json_t *request)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	int r;

	r = json_dump_callback(request, append_text, &b,
	    JSON_COMPACT | JSON_REAL_PRECISION(12));
	json_decref(request);
	if (r < 0) {
		complain("the request cannot be written as JSON");
		return BOTCTL_FAILED;
	}
	buffer_add_char(&b, '\n');
	while (buffer_len(&b) != 0) {
		ssize_t n = send(c->fd, buffer_head(&b), buffer_len(&b),
		    MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		/* What it said before it hung up is still to be read. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0) {
			complain("sending to the operator at %s: %s", c->path,
			    strerror(errno));
			return BOTCTL_NO_DAEMON;
		}
		buffer_consume(&b, (size_t)n);
	}
	return 0;
}

json_t *
client_receive(struct client *c)
{
	size_t looked = 0;
	json_error_t e;
	json_t *line;
	char *nl;
	ssize_t n;

	for (;;) {
		nl = buffer_len(&c->in) == looked ? NULL :
		    memchr(buffer_head(&c->in) + looked, '\n',
		    buffer_len(&c->in) - looked);
		if (nl != NULL)
			break;
		looked = buffer_len(&c->in);
		if (looked > LINE_MAX_BYTES) {
			complain("the answer is too long");
			return NULL;
		}
		n = recv(c->fd, buffer_reserve(&c->in, 64 * KIB), 64 * KIB, 0);
		if (n > 0) {
			buffer_commit(&c->in, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			complain("the operator at %s closed the connection "
			    "without an answer", c->path);
		else if (errno == EAGAIN)
			complain("the operator at %s did not answer in time",
			    c->path);
		else
			complain("reading from the operator at %s: %s",
			    c->path, strerror(errno));
		return NULL;
	}
	line = json_loadb(buffer_head(&c->in),
	    (size_t)(nl - buffer_head(&c->in)), JSON_ALLOW_NUL, &e);
	buffer_consume(&c->in, (size_t)(nl - buffer_head(&c->in)) + 1);
	if (line == NULL)
		complain("the operator at %s sent what is not JSON: %s",
		    c->path, e.text);
	return line;
}
