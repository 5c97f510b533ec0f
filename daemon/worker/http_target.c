/*
 * The keys of [Pool NAME] for Http=, and the file with the secret headers.
 */
#include <strings.h>

#include "base/alloc.h"
#include "base/log.h"
#include "worker/http_internal.h"
#include "worker/worker.h"

#define LOOK_EVERY_US	USEC_PER_SEC

static const struct config_key keys[] = {
	{ "Http", CONFIG_STRING, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "A URL (https:// or http://) to which the operator itself POSTs "
	    "each message, without workers. An answer of 2xx is done; 429 or "
	    "503 with Retry-After pauses the queue; other 4xx but 408 and 429 "
	    "are dead; 5xx, and no answer within Timeout=, are retried. "
	    "Headers: Bot-Queue, Bot-Message-Id, Bot-Attempt, and "
	    "Bot-Attribute-NAME for each attribute. HTTPS_PROXY, http_proxy "
	    "and NO_PROXY of the operator's environment are honoured." },
	{ "HttpCAFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Certificate authorities (PEM) for Http=; by default the "
	    "system's." },
	{ "HttpVerify", CONFIG_BOOL, "yes", NULL, 0, 0, CONFIG_RELOAD,
	    "Whether the certificate of the server of Http= must be good." },
	{ "HttpHeaderFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "A file with header lines for the requests of Http=, such as "
	    "\"Authorization: Bearer ...\". It is read again when it changes. "
	    "Its content is never shown." },
};

const struct config_kind http_pool_kind = {
	"Pool", true, NULL, NULL, keys, ARRAY_SIZE(keys), NULL,
};

/* ---- the section ---- */

static bool
problem(const struct pool *p, struct config *c, const struct config_section *s,
    const char *key, const struct error *err)
{
	if (c != NULL)
		config_problem(c, s, key, "%s", err->text);
	else
		log_error(LOG_POOL_EVENT(p->name, EVENT_SECTION_REFUSED),
		    "%s=: %s; the pool stays as it is",
		    key, err->text);
	return false;
}

/* Keys that only mean something for processes. */
static bool
check_foreign_keys(const struct pool *p, struct config *c,
    const struct config_section *s)
{
	struct error err;
	bool good = true;

	for (size_t i = 0; i < worker_pool_kind.nkeys; i++) {
		const char *key = worker_pool_kind.keys[i].name;

		if (strcmp(key, "Concurrency") == 0 || !config_is_set(s, key))
			continue;
		error_set(&err, ERROR_REJECTED, "key", "%s= is for handlers "
		    "in processes and means nothing with Http=; how many "
		    "requests there are at once is Concurrency=", key);
		good = problem(p, c, s, key, &err);
	}
	return good;
}

static bool
make_client(struct http_target *t, const struct pool *p, struct config *c,
    const struct config_section *s)
{
	struct http_client_params params = {
		.tls = {
			.insecure = !config_bool(s, "HttpVerify"),
			.ca_file = config_string(s, "HttpCAFile"),
		},
		/* The pool bounds what is in flight. */
		.max_connections = HTTP_CONCURRENCY_MAX,
	};
	struct error err = ERROR_INIT;

	t->client = http_client_new(p->loop, p->engine->resolver, &params,
	    &err);
	if (t->client != NULL)
		return true;
	return problem(p, c, s, strcmp(err.code, "proxy") == 0 ? "Http" :
	    "HttpCAFile", &err);
}

struct http_target *
http_target_new(const struct pool *p, struct config *c,
    const struct config_section *s)
{
	struct http_target *t = new0(struct http_target);
	const char *file = config_string(s, "HttpHeaderFile");
	const char *text = config_string(s, "Http");
	struct error err = ERROR_INIT;
	bool good = check_foreign_keys(p, c, s);

	t->refs = 1;
	t->text = xstrdup(text != NULL ? text : "");
	t->header_file = file != NULL ? xstrdup(file) : NULL;
	t->concurrency = config_is_set(s, "Concurrency") ?
	    (unsigned)config_unsigned(s, "Concurrency") : HTTP_CONCURRENCY;
	if (http_url_parse(&t->url, t->text, &err) < 0)
		good = problem(p, c, s, "Http", &err);
	good = make_client(t, p, c, s) && good;
	if (!good) {
		http_target_unref(t);
		return NULL;
	}
	return t;
}

struct http_target *
http_target_ref(struct http_target *t)
{
	t->refs++;
	return t;
}

void
http_target_unref(struct http_target *t)
{
	if (t == NULL || --t->refs != 0)
		return;
	http_client_free(t->client);
	secret_free(t->headers);
	free(t->header_file);
	free(t->text);
	free(t);
}

/* ---- the secret headers ---- */

static bool
is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') ||
	    (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Names the client sets; twice they would contradict each other. */
static bool
is_taken(struct slice name)
{
	static const char *const taken[] = { "Host", "Content-Length",
		"Connection", "Transfer-Encoding" };

	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		if (name.n == strlen(taken[i]) &&
		    strncasecmp(name.p, taken[i], name.n) == 0)
			return true;
	return false;
}

/* NULL when the line can be sent. */
static const char *
check_line(struct slice line)
{
	const char *colon = memchr(line.p, ':', line.n);
	size_t n = colon != NULL ? (size_t)(colon - line.p) : 0;

	if (n == 0)
		return "is not \"Name: value\"";
	for (size_t i = 0; i < n; i++)
		if (!is_token_char(line.p[i]))
			return "has a name with characters that do not belong "
			    "there";
	for (size_t i = n; i < line.n; i++)
		if (((unsigned char)line.p[i] < ' ' && line.p[i] != '\t') ||
		    line.p[i] == 0x7f)
			return "has a control character";
	if (is_taken((struct slice){ line.p, n }))
		return "sets what the operator itself sets";
	return NULL;
}

/* Lines as they are sent; empty ones and comments are left out. */
static struct secret *
tidy(const struct secret *raw, const char *path, struct error *err)
{
	_cleanup_buffer_ struct buffer out = BUFFER_INIT;
	struct slice in = secret_bytes(raw);
	const char *end = in.p + in.n, *at = in.p, *why = NULL;
	struct secret *tidied = NULL;
	unsigned number = 0;

	/* No growth below: that would leave copies behind. */
	(void)buffer_reserve(&out, 2 * in.n + 2);
	while (at < end && why == NULL) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		const char *stop = lf != NULL ? lf : end;
		struct slice line = { at, (size_t)(stop - at) };

		number++;
		at = lf != NULL ? lf + 1 : end;
		if (line.n != 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0 || line.p[0] == '#')
			continue;
		why = check_line(line);
		buffer_add_slice(&out, line);
		buffer_add_str(&out, "\r\n");
	}
	if (why != NULL)
		error_set(err, ERROR_REJECTED, "header_file",
		    "%.120s:%u %s", path, number, why);
	else
		tidied = secret_new(buffer_len(&out) != 0 ?
		    buffer_head(&out) : "", buffer_len(&out));
	secret_wipe(out.data, out.size);
	return tidied;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int
read_headers(struct http_target *t, const struct stat *st, struct error *err)
{
	struct secret *raw = secret_read_file(t->header_file, err), *tidied;

	if (raw == NULL) {
		err->class = ERROR_AUTH;
		return -EACCES;
	}
	tidied = tidy(raw, t->header_file, err);
	secret_free(raw);
	if (tidied == NULL)
		return -EINVAL;
	secret_free(t->headers);
	t->headers = tidied;
	t->header_stat = *st;
	t->complained = false;
	return 0;
}

int
http_target_look(struct http_target *t, const struct pool *p,
    struct error *err)
{
	uint64_t now = loop_now_us(p->loop);
	struct stat st = { 0 };
	int r;

	if (t->header_file == NULL ||
	    (t->headers != NULL && now - t->looked_us < LOOK_EVERY_US))
		return 0;
	t->looked_us = now;
	r = stat(t->header_file, &st);
	if (r == 0 && same_file(&st, &t->header_stat))
		return 0;
	r = read_headers(t, &st, err);
	if (r == 0 || t->headers == NULL)
		return r;
	if (!t->complained)
		log_warning(LOG_POOL_EVENT(p->name, EVENT_SECTION_REFUSED),
		    "HttpHeaderFile= cannot be read "
		    "again: %s; what it said before is used", err->text);
	t->complained = true;
	return 0;
}
