#include "codec/jwt.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/alloc.h"
#include "base/json.h"
#include "codec/base64.h"

struct jwt_key {
	EVP_PKEY *key;
};

static void
bad_key(struct error *err, const char *why)
{
	error_set(err, ERROR_AUTH, "jwt_key", "the private key %s", why);
	ERR_clear_error();
}

/* OpenSSL would ask on the terminal otherwise. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	bool *asked = arg;

	(void)buf;
	(void)size;
	(void)rwflag;
	*asked = true;
	return -1;
}

static bool
contains(struct slice s, const char *what)
{
	return s.n != 0 && memmem(s.p, s.n, what, strlen(what)) != NULL;
}

static void
explain(struct slice pem, bool asked_password, struct error *err)
{
	if (asked_password)
		bad_key(err, "is encrypted with a pass phrase");
	else if (!contains(pem, "-----BEGIN "))
		bad_key(err, "is not in PEM (it has no \"-----BEGIN\" line)");
	else if (!contains(pem, " PRIVATE KEY-----"))
		bad_key(err, "is none: this PEM holds something else");
	else if (!contains(pem, "-----END "))
		bad_key(err, "is cut off (it has no \"-----END\" line)");
	else
		bad_key(err, "cannot be read: its PEM is damaged");
}

static EVP_PKEY *
parse(struct slice pem, struct error *err)
{
	bool asked = false;
	EVP_PKEY *key;
	BIO *bio;

	if (pem.n == 0 || pem.n > 64 * KIB) {
		bad_key(err, pem.n == 0 ? "is empty" : "is too long");
		return NULL;
	}
	/* Not copied: it reads where the bytes are. */
	bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	if (bio == NULL)
		BUG("out of memory");
	ERR_clear_error();
	key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked);
	BIO_free(bio);
	if (key == NULL)
		explain(pem, asked, err);
	return key;
}

struct jwt_key *
jwt_key_new(struct slice pem, struct error *err)
{
	EVP_PKEY *key = parse(pem, err);
	struct jwt_key *k;
	int bits;

	if (key == NULL)
		return NULL;
	bits = EVP_PKEY_get_bits(key);
	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
		bad_key(err, "is not for RSA");
	else if (bits < JWT_KEY_BITS_MIN)
		bad_key(err, "is too short: RS256 wants 2048 bits at least");
	else if (bits > JWT_KEY_BITS_MAX)
		bad_key(err, "is too long: 16384 bits at most");
	else {
		k = new0(struct jwt_key);
		k->key = key;
		return k;
	}
	EVP_PKEY_free(key);
	return NULL;
}

void
jwt_key_free(struct jwt_key *k)
{
	if (k == NULL)
		return;
	EVP_PKEY_free(k->key);	/* OpenSSL wipes its numbers (BN_clear_free) */
	free(k);
}

static void
add_header(struct buffer *b, const char *kid)
{
	struct buffer header = BUFFER_INIT;

	buffer_add_str(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
	if (kid != NULL) {
		buffer_add_str(&header, ",\"kid\":");
		json_add_string(&header, slice_of(kid));
	}
	buffer_add_char(&header, '}');
	base64url_add(b, buffer_slice(&header));
	buffer_done(&header);
}

static int
add_signature(const struct jwt_key *k, struct buffer *b)
{
	unsigned char sig[JWT_KEY_BITS_MAX / 8];
	size_t n = sizeof(sig);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	ok = ctx != NULL &&
	    EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1 &&
	    EVP_DigestSign(ctx, sig, &n, (const unsigned char *)buffer_head(b),
	    buffer_len(b)) == 1;
	EVP_MD_CTX_free(ctx);
	if (ok) {
		buffer_add_char(b, '.');
		base64url_add(b, (struct slice){ (const char *)sig, n });
	}
	secret_wipe(sig, sizeof(sig));
	return ok ? 0 : -EINVAL;
}

struct secret *
jwt_sign(const struct jwt_key *k, const char *kid, struct slice claims,
    struct error *err)
{
	struct buffer b = BUFFER_INIT;
	struct secret *token = NULL;
	size_t kid_n = kid != NULL ? strlen(kid) : 0;

	/* No growth below: that would leave copies behind. */
	(void)buffer_reserve(&b, 2 * claims.n + 8 * kid_n +
	    JWT_KEY_BITS_MAX / 4 + KIB);
	add_header(&b, kid);
	buffer_add_char(&b, '.');
	base64url_add(&b, claims);
	ERR_clear_error();
	if (add_signature(k, &b) == 0)
		token = secret_new(buffer_head(&b), buffer_len(&b));
	else
		error_set(err, ERROR_INTERNAL, "jwt_sign",
		    "OpenSSL cannot sign: %s", ERR_reason_error_string(
		    ERR_peek_last_error()) != NULL ? ERR_reason_error_string(
		    ERR_peek_last_error()) : "no reason given");
	ERR_clear_error();
	secret_wipe(b.data, b.size);
	buffer_done(&b);
	return token;
}
