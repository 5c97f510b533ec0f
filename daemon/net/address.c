#include "net/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/slice.h"

#define NAME_MAX_BYTES	253	/* RFC 1035, 2.3.4, as text */
#define LABEL_MAX_BYTES	63

static int
reject(struct error *err, const char *text, const char *why)
{
	error_set(err, ERROR_REJECTED, "address",
	    "\"%.100s\" is no address: %s", text, why);
	return -EINVAL;
}

/* An IPv6 literal may carry a zone: "fe80::1%eth0". */
static bool
parse_v6(const char *host, struct sockaddr_in6 *ret)
{
	char bare[INET6_ADDRSTRLEN];
	const char *zone = strchr(host, '%');
	size_t n = zone != NULL ? (size_t)(zone - host) : strlen(host);

	if (n >= sizeof(bare))
		return false;
	memcpy(bare, host, n);
	bare[n] = '\0';
	*ret = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET6, bare, &ret->sin6_addr) != 1)
		return false;
	if (zone != NULL) {
		ret->sin6_scope_id = if_nametoindex(zone + 1);
		return ret->sin6_scope_id != 0;
	}
	return true;
}

static bool
is_literal(const char *host)
{
	struct sockaddr_in6 in6;
	struct in_addr in;

	return inet_pton(AF_INET, host, &in) == 1 || parse_v6(host, &in6);
}

static const char *
check_name(const char *host)
{
	size_t label = 0, n = strlen(host);

	if (n > NAME_MAX_BYTES)
		return "the name is too long";
	if (host[strspn(host, "0123456789.")] == '\0')
		return "not an IPv4 address";
	for (const char *p = host; *p != '\0'; p++) {
		if (*p == '.') {
			if (label == 0)
				return "the name has an empty label";
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
			return "a host name has letters, digits, - and . only";
		if (++label > LABEL_MAX_BYTES)
			return "a label of the name is too long";
	}
	return NULL;
}

static int
parse_unix(struct address *a, const char *text, struct error *err)
{
	if (strlen(text) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return reject(err, text, "the socket path is too long");
	a->kind = ADDRESS_UNIX;
	memcpy(a->host, text, strlen(text) + 1);
	return 0;
}

/* Finds where host and port are; *ret_port is NULL when none is written. */
static const char *
split(const char *text, struct slice *ret_host, const char **ret_port)
{
	const char *end, *colon;

	*ret_port = NULL;
	if (*text == '[') {
		end = strchr(text, ']');
		if (end == NULL)
			return "the ] is missing";
		*ret_host = (struct slice){ text + 1,
		    (size_t)(end - text - 1) };
		if (end[1] == ':')
			*ret_port = end + 2;
		else if (end[1] != '\0')
			return "only :port can follow the ]";
		return NULL;
	}
	colon = strrchr(text, ':');
	*ret_host = slice_of(text);
	if (colon == NULL)
		return NULL;
	if (strchr(text, ':') != colon)
		return is_literal(text) ? NULL :
		    "an IPv6 address with a port is written [address]:port";
	ret_host->n = (size_t)(colon - text);
	*ret_port = colon + 1;
	return NULL;
}

int
address_parse(struct address *ret, const char *text, uint16_t default_port,
    struct error *err)
{
	struct address a = { .port = default_port };
	struct slice host;
	const char *port, *why;
	uint64_t n;

	*ret = (struct address){ 0 };
	if (*text == '/') {
		if (parse_unix(&a, text, err) < 0)
			return -EINVAL;
		a.port = 0;
		*ret = a;
		return 0;
	}
	why = split(text, &host, &port);
	if (why != NULL)
		return reject(err, text, why);
	if (host.n == 0)
		return reject(err, text, "the host is missing");
	if (host.n >= sizeof(a.host))
		return reject(err, text, "the name is too long");
	memcpy(a.host, host.p, host.n);
	a.host[host.n] = '\0';
	if (is_literal(a.host))
		a.kind = ADDRESS_IP;
	else if (*text == '[')
		return reject(err, text, "not an IPv6 address in the brackets");
	else if ((why = check_name(a.host)) != NULL)
		return reject(err, text, why);
	else
		a.kind = ADDRESS_NAME;
	if (port != NULL) {
		if (slice_to_u64(slice_of(port), &n) < 0 || n > UINT16_MAX)
			return reject(err, text,
			    "the port is no number up to 65535");
		a.port = (uint16_t)n;
	} else if (default_port == 0) {
		return reject(err, text, "the port is missing (host:port)");
	}
	*ret = a;
	return 0;
}

int
address_to_sockaddr(const struct address *a, struct sockaddr_storage *ret,
    socklen_t *ret_len)
{
	struct sockaddr_in *in = (void *)ret;
	struct sockaddr_in6 *in6 = (void *)ret;
	struct sockaddr_un *un = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (a->kind == ADDRESS_UNIX) {
		size_t n = strlen(a->host);

		if (n >= sizeof(un->sun_path))
			return -EINVAL;
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->host, n + 1);
		*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
		    n + 1);
		return 0;
	}
	if (a->kind != ADDRESS_IP)
		return -EINVAL;
	if (inet_pton(AF_INET, a->host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		*ret_len = sizeof(*in);
		return 0;
	}
	if (!parse_v6(a->host, in6))
		return -EINVAL;
	in6->sin6_port = htons(a->port);
	*ret_len = sizeof(*in6);
	return 0;
}

const char *
address_text(const struct address *a, char out[ADDRESS_TEXT_BYTES])
{
	if (a->kind == ADDRESS_INVALID)
		snprintf(out, ADDRESS_TEXT_BYTES, "-");
	else if (a->kind == ADDRESS_UNIX)
		snprintf(out, ADDRESS_TEXT_BYTES, "%s",
		    a->host[0] != '\0' ? a->host : "unix");
	else if (strchr(a->host, ':') != NULL)
		snprintf(out, ADDRESS_TEXT_BYTES, "[%s]:%u", a->host, a->port);
	else
		snprintf(out, ADDRESS_TEXT_BYTES, "%s:%u", a->host, a->port);
	return out;
}

void
address_from_sockaddr(struct address *ret, const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_un *un = (const void *)sa;

	*ret = (struct address){ 0 };
	switch (sa->sa_family) {
	case AF_INET:
		ret->kind = ADDRESS_IP;
		ret->port = ntohs(in->sin_port);
		(void)inet_ntop(AF_INET, &in->sin_addr, ret->host,
		    sizeof(ret->host));
		break;
	case AF_INET6:
		ret->kind = ADDRESS_IP;
		ret->port = ntohs(in6->sin6_port);
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, ret->host,
		    sizeof(ret->host));
		break;
	case AF_UNIX:
		ret->kind = ADDRESS_UNIX;
		snprintf(ret->host, sizeof(ret->host), "%.*s",
		    (int)sizeof(un->sun_path), un->sun_path);
		break;
	default:
		break;
	}
}

const char *
sockaddr_text(const struct sockaddr *sa, char out[ADDRESS_TEXT_BYTES])
{
	struct address a;

	address_from_sockaddr(&a, sa);
	return address_text(&a, out);
}
