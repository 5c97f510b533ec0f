#include <arpa/inet.h>
#include <sys/un.h>

#include "config/internal.h"

int
path_resolve(const char *text, const struct value_context *context,
    const char **ret, struct buffer *why)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	_cleanup_free_ char *full = NULL;

	/* Before the copying: this is as long as a value may be. */
	if (strlen(text) > CONFIG_PATH_MAX)
		goto too_long;
	if (*text != '/') {
		buffer_add_str(&b, context->dir);
		buffer_add_char(&b, '/');
	}
	buffer_add_str(&b, text);
	full = buffer_dup(&b);
	buffer_clear(&b);
	for (const char *p = full; *p != '\0';) {
		size_t n;

		while (*p == '/')
			p++;
		n = strcspn(p, "/");
		/* ".." stays: in front of it may be a symbolic link. */
		if (n != 0 && !(n == 1 && *p == '.')) {
			buffer_add_char(&b, '/');
			buffer_add(&b, p, n);
		}
		p += n;
	}
	if (buffer_len(&b) == 0)
		buffer_add_char(&b, '/');
	if (buffer_len(&b) > CONFIG_PATH_MAX)
		goto too_long;
	*ret = chunk_copy(context->chunk, buffer_head(&b), buffer_len(&b)).p;
	return 0;
too_long:
	buffer_printf(why, "the path is longer than %zu bytes",
	    CONFIG_PATH_MAX);
	return -EINVAL;
}

static int
port_check(const char *port, struct buffer *why)
{
	uint64_t n;

	if (slice_to_u64(slice_of(port), &n) < 0 || n > 65535) {
		buffer_printf(why, "\"%.40s\" is no port (0 to 65535)", port);
		return -EINVAL;
	}
	return 0;
}

static int
host_check(const char *host, size_t n, struct buffer *why)
{
	/* RFC 1035, 2.3.4: names have at most 253 bytes in text. */
	if (n == 0 || n > 253) {
		buffer_add_str(why, n == 0 ? "no host" :
		    "the host's name is too long");
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		/* The underscore is no host's by the book, but in use. */
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"
		    "YZ0123456789-._", host[i]) == NULL) {
			buffer_printf(why, "\"%.*s\" is no host name",
			    (int)MIN(n, (size_t)80), host);
			return -EINVAL;
		}
	}
	return 0;
}

static bool
is_v6(const char *text, size_t n)
{
	char host[INET6_ADDRSTRLEN + 32];
	struct in6_addr in6;

	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	/* A zone ("fe80::1%eth0") is the resolver's affair. */
	host[strcspn(host, "%")] = '\0';
	return inet_pton(AF_INET6, host, &in6) == 1;
}

int
address_check(const char *text, struct buffer *why)
{
	const char *colon = strchr(text, ':'), *close;

	if (*text == '/') {
		if (strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
			buffer_printf(why, "a socket's path has at most %zu "
			    "bytes",
			    sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
			return -EINVAL;
		}
		return 0;
	}
	if (*text == '[') {
		close = strchr(text, ']');
		if (close == NULL || !is_v6(text + 1,
		    (size_t)(close - text - 1))) {
			buffer_add_str(why, "not an IPv6 address in [ ]");
			return -EINVAL;
		}
		if (close[1] == '\0')
			return 0;
		if (close[1] != ':') {
			buffer_add_str(why, "expected :port behind the ]");
			return -EINVAL;
		}
		return port_check(close + 2, why);
	}
	if (colon == NULL)
		return host_check(text, strlen(text), why);
	if (strchr(colon + 1, ':') != NULL) {
		if (is_v6(text, strlen(text)))
			return 0;
		buffer_add_str(why, "more than one colon; write host:port or "
		    "[IPv6]:port");
		return -EINVAL;
	}
	if (host_check(text, (size_t)(colon - text), why) < 0)
		return -EINVAL;
	return port_check(colon + 1, why);
}
