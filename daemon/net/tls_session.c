#include "net/tls_session.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "net/tls_private.h"

static bool
is_ip(const char *name)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, name, &addr) == 1 ||
	    inet_pton(AF_INET6, name, &addr) == 1;
}

/* What the certificate must be for (RFC 6125, 6.4), and SNI (RFC 6066, 3). */
static bool
expect_name(struct tls_session *s)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
	bool ip = is_ip(s->name);

	if (!ip && s->name[0] != '\0' &&
	    SSL_set_tlsext_host_name(s->ssl, s->name) != 1)
		return false;
	if (s->context->insecure)
		return true;
	X509_VERIFY_PARAM_set_hostflags(param,
	    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return ip ? X509_VERIFY_PARAM_set1_ip_asc(param, s->name) == 1 :
	    X509_VERIFY_PARAM_set1_host(param, s->name, 0) == 1;
}

static bool
start_client(struct tls_session *s, struct error *err)
{
	SSL_SESSION *old;

	if (s->name[0] == '\0' && !s->context->insecure) {
		error_set(err, ERROR_REJECTED, "tls_name",
		    "TLS needs the name that the peer's certificate has");
		return false;
	}
	SSL_set_connect_state(s->ssl);
	if (!expect_name(s)) {
		error_set(err, ERROR_REJECTED, "tls_name",
		    "\"%s\" cannot be a name in a certificate", s->name);
		return false;
	}
	old = s->context->cache != NULL ?
	    tls_cache_get(s->context->cache, s->key) : NULL;
	if (old != NULL)
		(void)SSL_set_session(s->ssl, old);
	return true;
}

static void
copy_name(struct tls_session *s, const char *name, uint16_t port)
{
	size_t n = name != NULL ? strnlen(name, sizeof(s->name) - 1) : 0;

	/* "host." is the DNS' way to write it; certificates have no dot. */
	if (n != 0 && name[n - 1] == '.')
		n--;
	if (n != 0)
		memcpy(s->name, name, n);
	snprintf(s->key, sizeof(s->key), "%s:%u", s->name, port);
}

struct tls_session *
tls_session_new(struct tls_context *c, int fd, const char *name,
    uint16_t port, struct error *err)
{
	struct tls_session *s = new0(struct tls_session);

	ERR_clear_error();
	s->context = tls_context_ref(c);
	copy_name(s, name, port);
	s->ssl = SSL_new(c->ctx);
	if (s->ssl == NULL || SSL_set_fd(s->ssl, fd) != 1) {
		error_set(err, ERROR_INTERNAL, "tls", "OpenSSL: out of memory");
		tls_session_free(s);
		return NULL;
	}
	SSL_set_app_data(s->ssl, s);
	if (c->server) {
		SSL_set_accept_state(s->ssl);
	} else if (!start_client(s, err)) {
		tls_session_free(s);
		return NULL;
	}
	return s;
}

void
tls_session_free(struct tls_session *s)
{
	if (s == NULL)
		return;
	/*
	 * Else OpenSSL marks the session, which our cache shares, as not
	 * resumable just because the connection ended without a goodbye.
	 */
	if (s->ssl != NULL && s->up && !s->failed)
		SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN |
		    SSL_RECEIVED_SHUTDOWN);
	SSL_free(s->ssl);
	ERR_clear_error();
	tls_context_unref(s->context);
	free(s);
}

/* ---- what went wrong, for people and for policy ---- */

static const char *
peer_name(const struct tls_session *s)
{
	if (s->name[0] != '\0')
		return s->name;
	return s->context->server ? "a client" : "the peer";
}

/* Alerts (RFC 8446, 6.2) by which the peer refuses who we are. */
static bool
is_auth_alert(int reason)
{
	switch (reason - SSL_AD_REASON_OFFSET) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED:
		return true;
	default:
		return false;
	}
}

static void
explain_ssl(const struct tls_session *s, struct error *err)
{
	unsigned long code = ERR_peek_error();
	int reason = ERR_GET_REASON(code);
	const char *why = ERR_reason_error_string(code);
	long verify = SSL_get_verify_result(s->ssl);

	if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		error_set(err, ERROR_TRANSIENT,
		    s->up ? "tls_truncated" : "tls_eof", s->up ?
		    "%s closed the connection without ending TLS" :
		    "%s closed the connection in the TLS handshake",
		    peer_name(s));
	else if (!s->up && verify != X509_V_OK && !s->context->insecure)
		error_set(err, ERROR_AUTH, "tls_verify",
		    "the certificate of %s is not accepted: %s (%ld)",
		    peer_name(s), X509_verify_cert_error_string(verify),
		    verify);
	else if (is_auth_alert(reason))
		error_set(err, ERROR_AUTH, "tls_alert",
		    "%s refused us in TLS: %s", peer_name(s),
		    why != NULL ? why : "alert");
	else
		error_set(err, ERROR_PROTOCOL, "tls_protocol",
		    "TLS with %s failed: %s", peer_name(s),
		    why != NULL ? why : "unknown reason");
}

static enum tls_result
failed(struct tls_session *s, int ssl_error, int saved_errno,
    struct error *err)
{
	s->failed = true;
	if (ssl_error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
		if (saved_errno != 0)
			error_set_errno(err, saved_errno, "TLS with %s",
			    peer_name(s));
		else
			error_set(err, ERROR_TRANSIENT, "tls_eof",
			    "%s closed the connection", peer_name(s));
	} else {
		explain_ssl(s, err);
	}
	ERR_clear_error();
	return TLS_FAILED;
}

static enum tls_result
outcome(struct tls_session *s, int ret, int saved_errno, struct error *err)
{
	int e = SSL_get_error(s->ssl, ret);

	switch (e) {
	case SSL_ERROR_NONE:
		return TLS_OK;
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	default:
		return failed(s, e, saved_errno, err);
	}
}

/* ---- the calls ---- */

static bool
check_alpn(struct tls_session *s, struct error *err)
{
	const unsigned char *got;
	const char *want = s->context->alpn;
	unsigned n;

	/* HTTP/1.1 is what is spoken without ALPN, too. */
	if (s->context->server || want == NULL || strcmp(want, "http/1.1") == 0)
		return true;
	SSL_get0_alpn_selected(s->ssl, &got, &n);
	if (n == strlen(want) && memcmp(got, want, n) == 0)
		return true;
	error_set(err, ERROR_PROTOCOL, "tls_alpn", "%s does not speak %s",
	    peer_name(s), want);
	return false;
}

enum tls_result
tls_session_handshake(struct tls_session *s, struct error *err)
{
	enum tls_result r;
	int ret;

	ERR_clear_error();
	errno = 0;
	ret = SSL_do_handshake(s->ssl);
	r = outcome(s, ret, errno, err);
	if (r == TLS_OK && !check_alpn(s, err)) {
		s->failed = true;
		r = TLS_FAILED;
	}
	if (r == TLS_FAILED && s->context->cache != NULL)
		tls_cache_drop(s->context->cache, s->key);
	if (r != TLS_OK)
		return r;
	s->up = true;
	snprintf(s->text, sizeof(s->text), "%s %s", SSL_get_version(s->ssl),
	    SSL_get_cipher_name(s->ssl));
	return TLS_OK;
}

enum tls_result
tls_session_read(struct tls_session *s, char *p, size_t room, size_t *ret_n,
    struct error *err)
{
	*ret_n = 0;
	while (*ret_n < room) {
		size_t n = 0;
		int ret;

		ERR_clear_error();
		errno = 0;
		ret = SSL_read_ex(s->ssl, p + *ret_n, room - *ret_n, &n);
		if (ret != 1)
			return outcome(s, ret, errno, err);
		*ret_n += n;
	}
	return TLS_OK;
}

enum tls_result
tls_session_write(struct tls_session *s, const char *p, size_t n,
    size_t *ret_n, struct error *err)
{
	int ret;

	*ret_n = 0;
	ERR_clear_error();
	errno = 0;
	ret = SSL_write_ex(s->ssl, p, n, ret_n);
	return ret == 1 ? TLS_OK : outcome(s, ret, errno, err);
}

enum tls_result
tls_session_shutdown(struct tls_session *s)
{
	struct error ignored;
	int ret;

	if (!s->up || s->failed)
		return TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	ret = SSL_shutdown(s->ssl);
	return ret >= 0 ? TLS_OK : outcome(s, ret, errno, &ignored);
}

const char *
tls_session_text(const struct tls_session *s)
{
	return s->text;
}

bool
tls_session_until(const struct tls_session *s, int64_t *ret)
{
	X509 *cert = SSL_get0_peer_certificate(s->ssl);
	struct tm tm;
	time_t t;

	if (cert == NULL ||
	    ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return false;
	t = timegm(&tm);
	*ret = (int64_t)t;
	return t != (time_t)-1;
}

bool
tls_session_resumed(const struct tls_session *s)
{
	return SSL_session_reused(s->ssl) == 1;
}
