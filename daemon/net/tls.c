#include "net/tls.h"

#include <openssl/err.h>
#include <signal.h>

#include "base/alloc.h"
#include "net/tls_private.h"

static LIST_HEAD(clients);

/* OpenSSL's socket BIO uses write(2), which has no MSG_NOSIGNAL. */
static void
ignore_sigpipe(void)
{
	struct sigaction sa;

	if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN);
}

static int
fail(struct error *err, const char *what, const char *file)
{
	unsigned long code = ERR_peek_last_error();
	const char *why = ERR_reason_error_string(code);

	if (ERR_SYSTEM_ERROR(code))
		why = strerror(ERR_GET_REASON(code));
	error_set(err, ERROR_REJECTED, "tls_config", "cannot use %s%s%s: %s",
	    what, file[0] != '\0' ? " " : "", file,
	    why != NULL ? why : "not valid");
	ERR_clear_error();
	return -EINVAL;
}

/* OpenSSL would ask on the terminal otherwise. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static int
load_certificate(SSL_CTX *ctx, const struct tls_params *p, struct error *err)
{
	const char *key = p->key_file != NULL ? p->key_file :
	    p->certificate_file;

	SSL_CTX_set_default_passwd_cb(ctx, no_password);
	if (p->certificate_file == NULL) {
		if (!p->server && p->key_file == NULL)
			return 0;
		error_set(err, ERROR_REJECTED, "tls_config",
		    "TLS needs a certificate file");
		return -EINVAL;
	}
	if (SSL_CTX_use_certificate_chain_file(ctx, p->certificate_file) != 1)
		return fail(err, "the certificate", p->certificate_file);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		return fail(err, "the private key", key);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return fail(err, "the private key", key);
	return 0;
}

static int
load_authorities(SSL_CTX *ctx, const struct tls_params *p, struct error *err)
{
	if (p->ca_file != NULL) {
		if (SSL_CTX_load_verify_locations(ctx, p->ca_file, NULL) != 1)
			return fail(err, "the certificate authorities",
			    p->ca_file);
		return 0;
	}
	if (!p->server && SSL_CTX_set_default_verify_paths(ctx) != 1)
		return fail(err, "the system's certificate authorities", "");
	return 0;
}

/* RFC 7301, 3.1: names with their length in front. */
static size_t
alpn_wire(const char *alpn, unsigned char out[256])
{
	size_t n = strlen(alpn);

	BUG_ON(n == 0 || n > 255);
	out[0] = (unsigned char)n;
	memcpy(out + 1, alpn, n);
	return n + 1;
}

static int
select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
    const unsigned char *in, unsigned int n, void *arg)
{
	struct tls_context *c = arg;
	unsigned char ours[256], *at;
	unsigned char ours_n = (unsigned char)alpn_wire(c->alpn, ours);

	(void)ssl;
	if (SSL_select_next_proto(&at, ret_n, in, n, ours, ours_n) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*ret = at;	/* points into in, which outlives this call */
	return SSL_TLSEXT_ERR_OK;
}

static int
on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_session *s = SSL_get_app_data(ssl);

	if (s == NULL || s->context->cache == NULL)
		return 0;
	tls_cache_put(s->context->cache, s->key, session);
	return 1;	/* the reference is ours now */
}

static void
set_up_client(struct tls_context *c)
{
	unsigned char wire[256];

	SSL_CTX_set_verify(c->ctx, c->insecure ? SSL_VERIFY_NONE :
	    SSL_VERIFY_PEER, NULL);
	if (c->fresh) {
		SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	} else {
		SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT |
		    SSL_SESS_CACHE_NO_INTERNAL | SSL_SESS_CACHE_NO_AUTO_CLEAR);
		SSL_CTX_sess_set_new_cb(c->ctx, on_new_session);
		c->cache = tls_cache_new();
	}
	if (c->alpn != NULL && SSL_CTX_set_alpn_protos(c->ctx, wire,
	    (unsigned)alpn_wire(c->alpn, wire)) != 0)
		BUG("out of memory");
}

/* Tickets only: resuming costs the server no memory. */
static void
set_up_server(struct tls_context *c, bool ask_client)
{
	static const unsigned char id[] = "bot-operator";

	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(c->ctx, id, sizeof(id) - 1);
	if (ask_client)
		SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER |
		    SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (c->alpn != NULL)
		SSL_CTX_set_alpn_select_cb(c->ctx, select_alpn, c);
}

static void
set_limits(SSL_CTX *ctx)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION |
	    SSL_OP_NO_COMPRESSION);
	/*
	 * Buffers only while they hold something: idle peers are cheap.  Read
	 * ahead: one read(2) a record instead of two (the stream drains it).
	 */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
}

static struct tls_context *
make(const struct tls_params *p, struct error *err)
{
	struct tls_context *c;

	ERR_clear_error();
	ignore_sigpipe();
	c = new0(struct tls_context);
	c->refs = 1;
	list_init(&c->link);
	c->server = p->server;
	c->insecure = p->insecure;
	c->fresh = p->fresh;
	c->alpn = p->alpn != NULL ? xstrdup(p->alpn) : NULL;
	c->ctx = SSL_CTX_new(p->server ? TLS_server_method() :
	    TLS_client_method());
	if (c->ctx == NULL) {
		fail(err, "OpenSSL", "");
		tls_context_unref(c);
		return NULL;
	}
	set_limits(c->ctx);
	if (load_certificate(c->ctx, p, err) < 0 ||
	    load_authorities(c->ctx, p, err) < 0) {
		tls_context_unref(c);
		return NULL;
	}
	if (p->server)
		set_up_server(c, p->ca_file != NULL);
	else
		set_up_client(c);
	return c;
}

/* Servers are few, and their tickets' keys are nobody else's. */
static struct tls_context *
find_or_make_client(const struct tls_params *p, struct error *err)
{
	struct tls_origin origin;
	struct tls_context *c;
	struct list *l;

	tls_origin_init(&origin, p);
	list_foreach(l, &clients) {
		c = list_entry(l, struct tls_context, link);
		if (tls_origin_equal(&c->origin, &origin)) {
			tls_origin_done(&origin);
			return tls_context_ref(c);
		}
	}
	c = make(p, err);
	if (c == NULL) {
		tls_origin_done(&origin);
		return NULL;
	}
	c->origin = origin;
	list_push_back(&clients, &c->link);
	return c;
}

struct tls_context *
tls_context_new(const struct tls_params *p, struct error *err)
{
	return p->server ? make(p, err) : find_or_make_client(p, err);
}

struct tls_context *
tls_context_ref(struct tls_context *c)
{
	c->refs++;
	return c;
}

void
tls_context_unref(struct tls_context *c)
{
	if (c == NULL || --c->refs != 0)
		return;
	list_remove(&c->link);
	tls_origin_done(&c->origin);
	tls_cache_free(c->cache);
	SSL_CTX_free(c->ctx);
	free(c->alpn);
	free(c);
}
