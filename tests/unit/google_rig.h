/*
 * google_rig.h - tokens against one scripted server that is all of Google, on
 * a clock that stands still; files, environment, answers and the watch over
 * secrets are those of aws_rig.h.
 */
#ifndef BOT_TESTS_GOOGLE_RIG_H
#define BOT_TESTS_GOOGLE_RIG_H

#include "aws_rig.h"

#include "base/json.h"
#include "client/google_token.h"
#include "codec/base64.h"

struct google_rig {
	struct aws_rig *r;
	struct google_token_params params;
	struct google_token *t;
	struct google_waiter waiter;
	unsigned called;
	struct error err;		/* of the last call; clear: a token */
};

static EVP_PKEY *google_key;		/* of every service account */

/* ---- keys ---- */

static inline int
make_google_key(void **state)
{
	(void)state;
	google_key = EVP_RSA_gen(2048);
	return google_key != NULL ? 0 : -1;
}

static inline int
free_google_key(void **state)
{
	(void)state;
	EVP_PKEY_free(google_key);
	return 0;
}

/* In PEM, PKCS#8. */
static inline void
add_pem(struct buffer *out, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *p;
	long n;

	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0,
	    NULL, NULL), 1);
	n = BIO_get_mem_data(bio, &p);
	buffer_add(out, p, (size_t)n);
	BIO_free(bio);
}

/* One part of a JWT, as text. */
static inline void
jwt_part(struct slice token, unsigned part, struct buffer *out)
{
	const char *p = token.p, *end = token.p + token.n, *dot;

	buffer_clear(out);
	for (; part != 0; part--) {
		p = memchr(p, '.', (size_t)(end - p));
		assert_non_null(p);
		p++;
	}
	dot = memchr(p, '.', (size_t)(end - p));
	assert_int_equal(base64url_decode((struct slice){ p,
	    (size_t)((dot != NULL ? dot : end) - p) }, out), 0);
}

static inline bool
jwt_verifies(struct slice token, EVP_PKEY *key)
{
	_cleanup_buffer_ struct buffer sig = BUFFER_INIT;
	const char *last = memrchr(token.p, '.', token.n);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	assert_non_null(last);
	jwt_part(token, 2, &sig);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL,
	    key), 1);
	ok = EVP_DigestVerify(ctx, (unsigned char *)buffer_head(&sig),
	    buffer_len(&sig), (const unsigned char *)token.p,
	    (size_t)(last - token.p));
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok == 1;
}

/* ---- files ---- */

/* more: members, each with a comma in front. */
static inline const char *
service_json(struct google_rig *g, const char *email, const char *more)
{
	struct buffer pem = BUFFER_INIT, out = BUFFER_INIT;

	add_pem(&pem, google_key);
	buffer_printf(&out, "{\"type\":\"service_account\",\"client_email\":"
	    "\"%s\",\"private_key_id\":\"k1\",\"private_key\":", email);
	json_add_string(&out, buffer_slice(&pem));
	buffer_printf(&out, "%s}", more);
	buffer_done(&pem);
	keep(g->r, buffer_dup(&out));
	buffer_done(&out);
	return g->r->texts[g->r->ntexts - 1];
}

static inline const char *
user_json(struct google_rig *g, const char *more)
{
	return keep(g->r, xasprintf("{\"type\":\"authorized_user\","
	    "\"client_id\":\"c.apps\",\"client_secret\":\"GO-s3cr3t\","
	    "\"refresh_token\":\"1//s3cr3t/r\",\"token_uri\":\"%s\"%s}",
	    at(g->r, "/oauth"), more));
}

static inline const char *
external_json(struct google_rig *g, const char *source, const char *more)
{
	return keep(g->r, xasprintf("{\"type\":\"external_account\","
	    "\"audience\":\"//iam/pools/p\",\"subject_token_type\":"
	    "\"urn:jwt\",\"token_url\":\"%s\",\"credential_source\":%s%s}",
	    at(g->r, "/sts"), source, more));
}

static inline const char *
becoming(struct google_rig *g, const char *more)
{
	return keep(g->r, xasprintf(",\"service_account_impersonation_url\":"
	    "\"%s\"%s", at(g->r, "/v1/projects/-/serviceAccounts/to@p.iam:"
	    "generateAccessToken"), more));
}

static inline void
configure(struct google_rig *g, const char *json)
{
	g->params.credentials_file = put_file(g->r, "key.json", json);
}

/* ---- what the server says ---- */

static inline void
answer_oauth(struct google_rig *g, const char *token, unsigned seconds)
{
	answer(g->r, "200 OK", keep(g->r, xasprintf("{\"access_token\":"
	    "\"s3cr3t.%s\",\"expires_in\":%u,\"token_type\":\"Bearer\"}",
	    token, seconds)));
}

static inline void
answer_iam(struct google_rig *g, const char *token, const char *expires)
{
	answer(g->r, "200 OK", keep(g->r, xasprintf("{\"accessToken\":"
	    "\"s3cr3t.%s\",\"expireTime\":\"%s\"}", token, expires)));
}

static inline void
answer_metadata(struct google_rig *g, const char *status, const char *body)
{
	answer(g->r, keep(g->r, xasprintf("%s\r\nMetadata-Flavor: Google",
	    status)), body);
}

static inline void
answer_metadata_token(struct google_rig *g, const char *token,
    unsigned seconds)
{
	answer_metadata(g, "200 OK", keep(g->r, xasprintf("{\"access_token\":"
	    "\"s3cr3t.%s\",\"expires_in\":%u}", token, seconds)));
}

static inline unsigned
asked(struct google_rig *g)
{
	return g->r->web->requests;
}

/* ---- asking ---- */

static inline void
on_google_waiter(struct google_waiter *w, const struct error *err)
{
	struct google_rig *g = w->owner;

	g->called++;
	error_clear(&g->err);
	if (err != NULL) {
		assert_true(error_is_set(err));
		g->err = *err;
		buffer_printf(&g->r->said, "%s: %s\n", err->code, err->text);
	}
}

static inline void
google_make(struct google_rig *g)
{
	if (g->t == NULL)
		g->t = google_token_new(&g->params);
}

/* Starts anew, with what the environment and the files are now. */
static inline void
google_forget(struct google_rig *g)
{
	google_token_unref(g->t);
	g->t = NULL;
}

/* Waits for an end. */
static inline void
google_fetch(struct google_rig *g)
{
	unsigned before = g->called;

	google_make(g);
	google_token_wait(g->t, &g->waiter);
	assert_int_equal(g->called, before);	/* never at once */
	WAIT(g->r, g->called == before + 1);
	buffer_add_str(&g->r->said, google_token_report(g->t));
	buffer_add_str(&g->r->said, google_token_source(g->t));
}

static inline const struct google_bearer *
google_bearer(struct google_rig *g)
{
	const struct google_bearer *b = google_token_get(g->t);

	if (error_is_set(&g->err))
		fail_msg("%s: %s\n%s", g->err.code, g->err.text,
		    google_token_report(g->t));
	assert_non_null(b);
	return b;
}

static inline void
assert_token(struct google_rig *g, const char *token)
{
	_cleanup_free_ char *want = xasprintf("s3cr3t.%s", token);

	assert_secret(google_bearer(g)->token, want);
}

static inline void
assert_no_token(struct google_rig *g, enum error_class class, const char *text)
{
	assert_null(google_token_get(g->t));
	if (!error_is_set(&g->err))
		fail_msg("no error, but wanted: %s", text);
	if (strstr(g->err.text, text) == NULL || g->err.class != class)
		fail_msg("\"%s\" is not in %s \"%s\"", text,
		    error_class_name(g->err.class), g->err.text);
}

static inline void
assert_google_report(struct google_rig *g, const char *line)
{
	if (strstr(google_token_report(g->t), line) == NULL)
		fail_msg("\"%s\" is not in the report:\n%s", line,
		    google_token_report(g->t));
}

/* ---- setting up ---- */

static inline int
google_set_up(void **state)
{
	struct google_rig *g = new0(struct google_rig);
	void *r;

	assert_int_equal(aws_set_up(&r), 0);
	g->r = r;
	set_env("NO_GCE_CHECK", "true");
	set_env("GCE_METADATA_HOST", keep(g->r, xasprintf("127.0.0.1:%u",
	    g->r->web->listener.bound.port)));
	g->params = (struct google_token_params){
		.loop = g->r->web->loop, .resolver = g->r->web->resolver,
		.audience = GOOGLE_AUDIENCE_PUBSUB, .getenv = aws_getenv,
	};
	google_waiter_init(&g->waiter, on_google_waiter, g);
	*state = g;
	return 0;
}

static inline int
google_tear_down(void **state)
{
	struct google_rig *g = *state;
	void *r = g->r;

	google_waiter_cancel(&g->waiter);
	google_token_unref(g->t);
	/* How each JWT and each key in PEM begins. */
	assert_null(strstr(buffer_cstr(&g->r->said), "eyJ"));
	assert_null(strstr(buffer_cstr(&g->r->said), "-----BEGIN"));
	free(g);
	return aws_tear_down(&r);
}

#define google_test(f) \
	cmocka_unit_test_setup_teardown(f, google_set_up, google_tear_down)

#endif
