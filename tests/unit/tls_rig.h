/*
 * tls_rig.h - the rig with TLS: certificates made anew for each run.
 */
#ifndef BOT_TESTS_TLS_RIG_H
#define BOT_TESTS_TLS_RIG_H

#include "net_rig.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* ---- certificates, made anew for each run ---- */

struct pair {
	X509 *cert;
	EVP_PKEY *key;
};

static char dir[] = "/tmp/test_tls.XXXXXX";
static struct pair ca, other_ca;
static const char *const files[] = { "ca.pem", "other-ca.pem", "server.pem",
	"expired.pem", "client.pem", "empty.pem", "shared.pem", "later.pem" };

static inline const char *
file(const char *name)
{
	static char path[32][128];
	static unsigned next;
	char *p = path[next++ % ARRAY_SIZE(path)];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static inline void
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(cert, e, -1), 1);
	X509_EXTENSION_free(e);
}

/* issuer NULL: signs itself, as an authority. */
static inline struct pair
make_pair_of(const char *name, const struct pair *issuer, const char *san,
    long from_s, long to_s)
{
	static long serial = 1;
	struct pair p = { X509_new(), EVP_EC_gen("P-256") };
	X509_NAME *subject = X509_get_subject_name(p.cert);
	const struct pair *by = issuer != NULL ? issuer : &p;

	assert_non_null(p.key);
	X509_set_version(p.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(p.cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(p.cert), to_s);
	X509_set_pubkey(p.cert, p.key);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
	    (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(p.cert, X509_get_subject_name(by->cert));
	add_extension(p.cert, by->cert, NID_basic_constraints,
	    issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
	if (san != NULL)
		add_extension(p.cert, by->cert, NID_subject_alt_name, san);
	assert_true(X509_sign(p.cert, by->key, EVP_sha256()) > 0);
	return p;
}

static inline void
pair_free(struct pair *p)
{
	X509_free(p->cert);
	EVP_PKEY_free(p->key);
}

static inline void
save(const char *name, const struct pair *p, bool key)
{
	FILE *f = fopen(file(name), "w");

	assert_non_null(f);
	if (p != NULL)
		assert_int_equal(PEM_write_X509(f, p->cert), 1);
	if (key)
		assert_int_equal(PEM_write_PrivateKey(f, p->key, NULL, NULL, 0,
		    NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
}

static inline void
save_leaf(const char *name, const char *san, long from_s, long to_s)
{
	struct pair p = make_pair_of(name, &ca, san, from_s, to_s);

	save(name, &p, true);
	pair_free(&p);
}

static inline int
make_certificates(void **state)
{
	const long day = 86400;

	(void)state;
	assert_non_null(mkdtemp(dir));
	ca = make_pair_of("test authority", NULL, NULL, -day, day);
	other_ca = make_pair_of("other authority", NULL, NULL, -day, day);
	save("ca.pem", &ca, false);
	save("other-ca.pem", &other_ca, false);
	save("empty.pem", NULL, false);
	save_leaf("server.pem", "DNS:localhost,DNS:*.example.test,IP:127.0.0.1",
	    -day, day);
	save_leaf("expired.pem", "DNS:localhost", -2 * day, -day);
	save_leaf("client.pem", "DNS:client", -day, day);
	return 0;
}

static inline int
remove_certificates(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		(void)unlink(file(files[i]));
	(void)rmdir(dir);
	pair_free(&ca);
	pair_free(&other_ca);
	return 0;
}

/* ---- contexts and connections ---- */

static inline struct tls_context *
context(const struct tls_params *p)
{
	struct error err = ERROR_INIT;
	struct tls_context *c = tls_context_new(p, &err);

	if (c == NULL)
		fail_msg("%s", err.text);
	return c;
}

static inline struct tls_context *
server_context(const char *certificate)
{
	return context(&(struct tls_params){ .server = true,
		.certificate_file = file(certificate) });
}

static inline struct tls_context *
client_context(const char *authority)
{
	return context(&(struct tls_params){ .ca_file = file(authority) });
}

static inline void
serve(struct rig *r, const char *certificate)
{
	struct tls_context *c = server_context(certificate);

	r->server_params.tls = c;
	rig_listen(r, "127.0.0.1:0");
}

static inline void
stop_serving(struct rig *r)
{
	tls_context_unref(r->server_params.tls);
}

/* Connects with a context that lives for this connection. */
static inline void
connect_tls(struct rig *r, struct tls_context *c, const char *name)
{
	struct stream_params p = { .tls = c, .tls_name = name };

	end_connect(&r->client, &r->listener.bound, &p);
}

static inline void
check_talk(struct rig *r)
{
	buffer_clear(&r->client.got);
	end_say(&r->client, "hello");
	RUN_UNTIL(r, end_got(&r->client, "hello"));
}

static inline void
hang_up(struct rig *r)
{
	stream_close(&r->client.s);
	RUN_UNTIL(r, r->server.s.state == STREAM_IDLE);
}

#endif
