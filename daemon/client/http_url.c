#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "client/http_impl.h"

static int
reject(struct error *err, const char *why)
{
	/* Not the text: paths and queries may hold tokens. */
	error_set(err, ERROR_REJECTED, "url", "no usable URL: %s", why);
	return -EINVAL;
}

static const char *
check_target(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '#')
			return "a #fragment is for browsers";
		if (s.p[i] < 0x21 || s.p[i] > 0x7e)
			return "other characters than printable ASCII must be "
			    "%-escaped";
	}
	return NULL;
}

static const char *
parse_authority(struct http_url *u, struct slice s)
{
	uint16_t port = u->tls ? 443 : 80;
	char text[300];
	struct address a;
	struct error err;
	bool v6;

	if (s.n == 0)
		return "the host is missing";
	if (s.n >= sizeof(text))
		return "the host is too long";
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	if (memchr(text, '@', s.n) != NULL)
		return "user and password do not belong into it";
	if (strlen(text) != s.n || address_parse(&a, text, port, &err) < 0 ||
	    a.kind == ADDRESS_UNIX || strchr(a.host, '%') != NULL)
		return "the host is no name, IPv4 address or [IPv6 address], "
		    "or the port is no port";
	v6 = strchr(a.host, ':') != NULL;
	if (v6 != (text[0] == '['))
		return "an IPv6 address is written [address]";
	if (a.port == 0)
		return "port 0 is no port";
	for (char *p = a.host; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	memcpy(u->host, a.host, sizeof(u->host));
	u->port = a.port;
	if (a.port == port)
		snprintf(u->host_header, sizeof(u->host_header),
		    v6 ? "[%s]" : "%s", u->host);
	else
		snprintf(u->host_header, sizeof(u->host_header),
		    v6 ? "[%s]:%u" : "%s:%u", u->host, u->port);
	return NULL;
}

int
http_url_parse(struct http_url *ret, const char *text, struct error *err)
{
	struct http_url u = { .tls = false };
	const char *why;
	size_t n;

	*ret = u;
	if (strncasecmp(text, "https://", 8) == 0) {
		u.tls = true;
		text += 8;
	} else if (strncasecmp(text, "http://", 7) == 0) {
		text += 7;
	} else {
		return reject(err, "it must start with https:// or http://");
	}
	n = strcspn(text, "/?#");
	why = parse_authority(&u, (struct slice){ text, n });
	if (why != NULL)
		return reject(err, why);
	u.target = slice_of(text + n);
	why = check_target(u.target);
	if (why != NULL)
		return reject(err, why);
	*ret = u;
	return 0;
}

void
http_url_address(const struct http_url *u, struct address *ret)
{
	char text[300];
	struct error err;

	snprintf(text, sizeof(text),
	    strchr(u->host, ':') != NULL ? "[%s]:%u" : "%s:%u", u->host,
	    u->port);
	if (address_parse(ret, text, 0, &err) < 0)
		memset(ret, 0, sizeof(*ret));	/* not from http_url_parse */
}

int
http_url_check(struct config *config, const struct config_section *s,
    const char *key)
{
	const char *text = config_string(s, key);
	struct error err = ERROR_INIT;
	struct http_url url;

	if (text == NULL || *text == '\0' ||
	    http_url_parse(&url, text, &err) == 0)
		return 0;
	config_problem(config, s, key, "%s=%s: %s", key, text, err.text);
	return -EINVAL;
}
