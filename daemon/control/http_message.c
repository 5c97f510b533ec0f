#include "control/http_message.h"

#include <arpa/inet.h>
#include <strings.h>

/* reg-name of RFC 3986; sub-delims and escapes have no use in names that
   anybody configures, but clients of Unix sockets put paths there. */
static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') ||
	    (c != '\0' && strchr("-._~%!$&'()*+,;=", c) != NULL);
}

static bool
is_port(struct slice s)
{
	uint64_t port;

	/* ":" alone is allowed by RFC 3986. */
	return s.n == 0 || (slice_to_u64(s, &port) == 0 && port <= UINT16_MAX);
}

static bool
is_ip6(const char *text)
{
	struct in6_addr a;

	return inet_pton(AF_INET6, text, &a) == 1;
}

static bool
is_ip4(const char *text)
{
	struct in_addr a;

	return inet_pton(AF_INET, text, &a) == 1;
}

/* Cuts "host:port" or "[v6]:port" up; name gets a terminated copy. */
static bool
split_host(struct slice host, char name[256], bool *ret_bracketed)
{
	const char *end, *p = host.p;
	struct slice port = { NULL, 0 };
	size_t n;

	*ret_bracketed = host.n != 0 && p[0] == '[';
	if (*ret_bracketed) {
		end = memchr(p, ']', host.n);
		if (end == NULL)
			return false;
		p++;
		n = (size_t)(end - p);
		port = (struct slice){ end + 1, host.n - n - 2 };
	} else {
		end = host.n != 0 ? memchr(p, ':', host.n) : NULL;
		n = end != NULL ? (size_t)(end - p) : host.n;
		if (end != NULL)
			port = (struct slice){ end, host.n - n };
		for (size_t i = 0; i < n; i++)
			if (!is_name_char(p[i]))
				return false;
	}
	if (n > 255)
		return false;
	if (port.n != 0 && (port.p[0] != ':' ||
	    !is_port((struct slice){ port.p + 1, port.n - 1 })))
		return false;
	if (n != 0)
		memcpy(name, p, n);
	name[n] = '\0';
	return true;
}

unsigned
http_check_host(struct slice host, char *const *names)
{
	bool bracketed;
	char name[256];
	size_t n;

	if (!split_host(host, name, &bracketed))
		return 400;
	if (bracketed)
		return is_ip6(name) ? 0 : 400;
	if (names == NULL || is_ip4(name))
		return 0;
	n = strlen(name);
	if (n > 1 && name[n - 1] == '.')
		name[n - 1] = '\0';	/* the root, written out */
	if (strcasecmp(name, "localhost") == 0)
		return 0;
	for (; *names != NULL; names++)
		if (strcasecmp(name, *names) == 0)
			return 0;
	return 421;
}

bool
http_origin_target(struct slice target, struct slice *ret_origin,
    struct slice *host)
{
	const char *scheme = "http://", *slash;
	size_t n = strlen(scheme);

	if (target.n != 0 && target.p[0] == '/') {
		*ret_origin = target;
		return true;
	}
	if (target.n <= n || strncasecmp(target.p, scheme, n) != 0)
		return false;
	target.p += n;
	target.n -= n;
	slash = memchr(target.p, '/', target.n);
	if (slash == NULL || slash == target.p)
		return false;
	*host = (struct slice){ target.p, (size_t)(slash - target.p) };
	*ret_origin = (struct slice){ slash, target.n - host->n };
	return true;
}
