/*
 * Which proxy a request takes: one for all, or what the environment says, in
 * the way of curl.
 */
#include <arpa/inet.h>
#include <strings.h>

#include "base/alloc.h"
#include "client/http_impl.h"
#include "codec/base64.h"
#include "codec/url.h"

/* ---- one proxy ---- */

static int
reject(struct error *err, const char *from, const char *why)
{
	/* Without the text: it may hold a password. */
	error_set(err, ERROR_REJECTED, "proxy", "%s is no usable proxy: %s",
	    from, why);
	return -EINVAL;
}

/* "user:password", each with its escapes, as Basic wants it (RFC 7617). */
static struct secret *
authorization(struct slice user_info)
{
	_cleanup_buffer_ struct buffer plain = BUFFER_INIT;
	_cleanup_buffer_ struct buffer header = BUFFER_INIT;
	struct secret *s = NULL;
	bool colon = memchr(user_info.p, ':', user_info.n) != NULL;

	/* No growth below: that would leave copies behind. */
	(void)buffer_reserve(&plain, user_info.n + 16);
	(void)buffer_reserve(&header, 2 * user_info.n + 32);
	if (url_decode(&plain, user_info, false) == 0) {
		if (!colon)
			buffer_add_char(&plain, ':');
		buffer_add_str(&header, "Basic ");
		base64_add(&header, buffer_slice(&plain));
		s = secret_new(buffer_head(&header), buffer_len(&header));
	}
	secret_wipe(plain.data, plain.size);
	secret_wipe(header.data, header.size);
	return s;
}

static void
proxy_free(struct http_proxy *p)
{
	if (p == NULL)
		return;
	secret_free(p->authorization);
	free(p);
}

/* from: what people know the text by. */
static int
parse_proxy(const char *text, const char *from, struct http_proxy **ret,
    struct error *err)
{
	_cleanup_free_ char *host = NULL;
	struct http_proxy *p;
	struct error why;
	const char *at;
	size_t n;

	*ret = NULL;
	if (*text == '\0')
		return 0;
	if (strncasecmp(text, "http://", 7) == 0)
		text += 7;
	else if (strstr(text, "://") != NULL)
		return reject(err, from, "only http:// proxies can be used");
	n = strcspn(text, "/?#");
	if (strcspn(text + n, "/") != 0 || (text[n] == '/' && text[n + 1] != '\0'))
		return reject(err, from, "nothing can follow host:port");
	p = new0(struct http_proxy);
	at = memrchr(text, '@', n);
	if (at != NULL) {
		p->authorization = authorization((struct slice){ text,
		    (size_t)(at - text) });
		if (p->authorization == NULL) {
			proxy_free(p);
			return reject(err, from, "a % in the user or password "
			    "is written %25");
		}
		n -= (size_t)(at + 1 - text);
		text = at + 1;
	}
	host = xstrndup(text, n);
	if (address_parse(&p->address, host, 80, &why) < 0 ||
	    p->address.kind == ADDRESS_UNIX || p->address.port == 0) {
		proxy_free(p);
		return reject(err, from, "it is written "
		    "http://[user:password@]host:port");
	}
	*ret = p;
	return 0;
}

/* ---- all of them ---- */

static const char *
environment(const char *lower, const char *upper, const char **ret_name)
{
	const char *value = getenv(lower);

	*ret_name = lower;
	if ((value == NULL || *value == '\0') && upper != NULL) {
		value = getenv(upper);
		*ret_name = upper;
	}
	return value != NULL ? value : "";
}

int
http_proxies_init(struct http_proxies *p, const char *text, struct error *err)
{
	const char *name, *value;
	int r;

	*p = (struct http_proxies){ NULL, NULL, NULL };
	if (text != NULL) {
		r = parse_proxy(text, "the proxy", &p->http, err);
		if (r == 0)
			r = parse_proxy(text, "the proxy", &p->https, err);
	} else {
		/* Upper case only for https: a CGI's HTTP_PROXY is a header
		   that any client can send. */
		value = environment("http_proxy", NULL, &name);
		r = parse_proxy(value, name, &p->http, err);
		value = environment("https_proxy", "HTTPS_PROXY", &name);
		if (r == 0)
			r = parse_proxy(value, name, &p->https, err);
		p->except = xstrdup(environment("no_proxy", "NO_PROXY", &name));
	}
	if (r < 0)
		http_proxies_done(p);
	return r;
}

void
http_proxies_done(struct http_proxies *p)
{
	proxy_free(p->http);
	proxy_free(p->https);
	free(p->except);
	*p = (struct http_proxies){ NULL, NULL, NULL };
}

/* ---- NO_PROXY ---- */

/* The bytes of an IP literal; how many, or 0 for a name. */
static size_t
literal(const char *host, unsigned char out[16])
{
	if (inet_pton(AF_INET, host, out) == 1)
		return 4;
	return inet_pton(AF_INET6, host, out) == 1 ? 16 : 0;
}

static bool
is_loopback(const char *host)
{
	static const unsigned char v6[16] = { [15] = 1 };
	unsigned char ip[16];

	switch (literal(host, ip)) {
	case 4:
		return ip[0] == 127;
	case 16:
		return memcmp(ip, v6, sizeof(v6)) == 0;
	default:
		return strcmp(host, "localhost") == 0;
	}
}

/* "10.0.0.0/8" */
static bool
in_network(const char *entry, const char *bits_text, const char *host)
{
	unsigned char net[16], ip[16];
	char text[64];
	size_t n = (size_t)(bits_text - entry);
	uint64_t bits;

	if (n >= sizeof(text) || slice_to_u64(slice_of(bits_text + 1), &bits) < 0)
		return false;
	memcpy(text, entry, n);
	text[n] = '\0';
	n = literal(text, net);
	if (n == 0 || literal(host, ip) != n || bits > n * 8)
		return false;
	for (size_t i = 0; i < bits; i++)
		if (((net[i / 8] ^ ip[i / 8]) & (0x80 >> i % 8)) != 0)
			return false;
	return true;
}

/* "example.com" and ".example.com": the name and all below it. */
static bool
is_below(const char *entry, const char *host)
{
	size_t n, h = strlen(host);

	entry += *entry == '.';
	n = strlen(entry);
	if (h != 0 && host[h - 1] == '.')
		h--;
	if (n != 0 && entry[n - 1] == '.')
		n--;
	if (n == 0 || n > h || strncasecmp(host + h - n, entry, n) != 0)
		return false;
	return n == h || host[h - n - 1] == '.';
}

static bool
entry_matches(char *entry, const struct http_url *u)
{
	unsigned char a[16], b[16];
	char *slash = strchr(entry, '/'), *end = strchr(entry, ']'), *colon;
	uint64_t port;
	size_t n;

	if (strcmp(entry, "*") == 0)
		return true;
	if (slash != NULL)
		return in_network(entry, slash, u->host);
	if (*entry == '[' && end != NULL) {
		colon = end[1] == ':' ? end + 1 : NULL;
		*end = '\0';
		entry++;
	} else {
		colon = strrchr(entry, ':');
		if (colon != NULL && strchr(entry, ':') != colon)
			colon = NULL;		/* a bare IPv6 address */
	}
	if (colon != NULL) {
		if (slice_to_u64(slice_of(colon + 1), &port) < 0 ||
		    port != u->port)
			return false;
		*colon = '\0';
	}
	n = literal(u->host, b);
	if (n != 0)
		return literal(entry, a) == n && memcmp(a, b, n) == 0;
	return is_below(entry, u->host);
}

bool
http_no_proxy_matches(const char *list, const struct http_url *u)
{
	char entry[300];

	while (*list != '\0') {
		size_t n;

		list += strspn(list, ", \t");
		n = strcspn(list, ", \t");
		if (n != 0 && n < sizeof(entry)) {
			memcpy(entry, list, n);
			entry[n] = '\0';
			if (entry_matches(entry, u))
				return true;
		}
		list += n;
	}
	return false;
}

const struct http_proxy *
http_proxy_for(const struct http_proxies *p, const struct http_url *u)
{
	const struct http_proxy *it = u->tls ? p->https : p->http;

	if (it == NULL || p->except == NULL)
		return it;
	/* Nobody means his proxy's loopback by ours. */
	if (is_loopback(u->host) || http_no_proxy_matches(p->except, u))
		return NULL;
	return it;
}
