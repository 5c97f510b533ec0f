#include "control/handover.h"

#include <fcntl.h>
#include <strings.h>
#include <systemd/sd-daemon.h>

#include "base/alloc.h"

void
handover_address(int fd, struct address *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	*ret = (struct address){ .kind = ADDRESS_INVALID };
	memset(&ss, 0, sizeof(ss));
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		address_from_sockaddr(ret, (struct sockaddr *)&ss);
}

bool
handover_matches(const struct address *configured,
    const struct address *handed)
{
	const char *host = configured->host;

	if (configured->kind == ADDRESS_NAME &&
	    strcasecmp(host, "localhost") == 0)
		host = "127.0.0.1";
	else if (configured->kind != handed->kind)
		return false;
	if (strcmp(host, handed->host) != 0)
		return false;
	return handed->kind == ADDRESS_UNIX || configured->port == 0 ||
	    configured->port == handed->port;
}

/* ---- what was passed ---- */

static int
take_as(int *slot, const char *name, int fd, int family, struct error *err)
{
	if (*slot >= 0) {
		error_set(err, ERROR_REJECTED, "handover", "systemd passed two "
		    "sockets named \"%s\": one is used; keep one ListenStream= "
		    "with that FileDescriptorName=", name);
		return -EINVAL;
	}
	if (sd_is_socket(fd, family, SOCK_STREAM, 1) <= 0) {
		error_set(err, ERROR_REJECTED, "handover", "what systemd "
		    "passed as \"%s\" is no listening %sstream socket: it "
		    "needs ListenStream=%s and Accept=no", name,
		    family == AF_UNIX ? "Unix " : "",
		    family == AF_UNIX ? " with a path" : "");
		return -EINVAL;
	}
	*slot = fd;
	return 0;
}

static int
take_one(struct handover *h, int fd, const char *name, struct error *err)
{
	if (strcmp(name, "status") == 0)
		return take_as(&h->status, name, fd, AF_UNSPEC, err);
	if (strcmp(name, "control") == 0)
		return take_as(&h->control, name, fd, AF_UNIX, err);
	error_set(err, ERROR_REJECTED, "handover", "systemd passed a socket "
	    "named \"%.80s\": nothing uses it; name it with "
	    "FileDescriptorName=status or FileDescriptorName=control in the "
	    ".socket unit", name);
	return -EINVAL;
}

int
handover_take(struct handover *h, struct error *err)
{
	char **names = NULL;
	int n, r = 0;

	*h = (struct handover)HANDOVER_INIT;
	n = sd_listen_fds_with_names(1, &names);
	if (n < 0) {
		error_set_errno(err, n, "the sockets that systemd passed");
		return n;
	}
	for (int i = 0; i < n && r == 0; i++)
		r = take_one(h, SD_LISTEN_FDS_START + i, names[i], err);
	for (int i = 0; i < n; i++) {
		/* sd_listen_fds has set it; a second look costs nothing. */
		(void)fcntl(SD_LISTEN_FDS_START + i, F_SETFD, FD_CLOEXEC);
		if (r < 0)
			(void)close(SD_LISTEN_FDS_START + i);
		free(names[i]);
	}
	free(names);
	if (r < 0)
		*h = (struct handover)HANDOVER_INIT;
	return r;
}

void
handover_close(struct handover *h)
{
	if (h->status >= 0)
		(void)close(h->status);
	if (h->control >= 0)
		(void)close(h->control);
	*h = (struct handover)HANDOVER_INIT;
}
