/* RS256 tokens, and what is said about keys that are none. */
#include "google_rig.h"

#include "codec/jwt.h"

static struct jwt_key *
parse_key(EVP_PKEY *key, struct error *err)
{
	_cleanup_buffer_ struct buffer pem = BUFFER_INIT;

	add_pem(&pem, key);
	return jwt_key_new(buffer_slice(&pem), err);
}

static void
assert_part(struct slice token, unsigned part, const char *text)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	jwt_part(token, part, &b);
	assert_string_equal(buffer_cstr(&b), text);
}

static void
test_signed_tokens_verify(void **state)
{
	struct error err = ERROR_INIT;
	struct jwt_key *key = parse_key(google_key, &err);
	EVP_PKEY *other = EVP_RSA_gen(2048);
	struct secret *a, *b;

	(void)state;
	assert_non_null(key);
	a = jwt_sign(key, "k\"1", SLICE("{\"iss\":\"a@b\"}"), &err);
	b = jwt_sign(key, NULL, SLICE("{}"), &err);
	assert_part(secret_bytes(a), 0,
	    "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k\\\"1\"}");
	assert_part(secret_bytes(a), 1, "{\"iss\":\"a@b\"}");
	assert_part(secret_bytes(b), 0, "{\"alg\":\"RS256\",\"typ\":\"JWT\"}");
	assert_true(jwt_verifies(secret_bytes(a), google_key));
	assert_true(jwt_verifies(secret_bytes(b), google_key));
	assert_false(jwt_verifies(secret_bytes(a), other));
	secret_free(a);
	secret_free(b);
	jwt_key_free(key);
	EVP_PKEY_free(other);
	jwt_key_free(NULL);
}

static void
test_large_claims_do_not_grow_the_buffer(void **state)
{
	struct error err = ERROR_INIT;
	struct jwt_key *key = parse_key(google_key, &err);
	_cleanup_free_ char *big = xmalloc(60000);
	struct secret *t;

	(void)state;
	memset(big, 'x', 60000);
	t = jwt_sign(key, "k", (struct slice){ big, 60000 }, &err);
	assert_non_null(t);
	assert_true(jwt_verifies(secret_bytes(t), google_key));
	secret_free(t);
	jwt_key_free(key);
}

static void
test_pkcs1_is_read_too(void **state)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct error err = ERROR_INIT;
	struct jwt_key *key;
	char *p;
	long n;

	(void)state;
	assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, google_key,
	    NULL, NULL, 0, NULL, NULL), 1);
	n = BIO_get_mem_data(bio, &p);
	assert_non_null(memmem(p, (size_t)n, "BEGIN RSA PRIVATE KEY", 21));
	key = jwt_key_new((struct slice){ p, (size_t)n }, &err);
	assert_non_null(key);
	jwt_key_free(key);
	BIO_free(bio);
}

static void
assert_bad(struct slice pem, const char *text)
{
	struct error err = ERROR_INIT;

	assert_null(jwt_key_new(pem, &err));
	assert_int_equal(err.class, ERROR_AUTH);
	assert_string_equal(err.code, "jwt_key");
	if (strstr(err.text, text) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", text, err.text);
	assert_int_equal(ERR_peek_error(), 0);
}

static void
assert_bad_key(EVP_PKEY *key, const char *text)
{
	_cleanup_buffer_ struct buffer pem = BUFFER_INIT;

	add_pem(&pem, key);
	assert_bad(buffer_slice(&pem), text);
	EVP_PKEY_free(key);
}

static void
test_bad_keys_are_named(void **state)
{
	_cleanup_buffer_ struct buffer pem = BUFFER_INIT;
	_cleanup_free_ char *long_one = xcalloc(1, 70000);
	BIO *bio = BIO_new(BIO_s_mem());
	char *p;
	long n;

	(void)state;
	assert_bad(SLICE(""), "is empty");
	assert_bad((struct slice){ NULL, 0 }, "is empty");
	assert_bad((struct slice){ long_one, 70000 }, "is too long");
	assert_bad(SLICE("hello"), "is not in PEM");
	assert_bad(SLICE("-----BEGIN CERTIFICATE-----\nAAAA\n"
	    "-----END CERTIFICATE-----\n"), "holds something else");
	add_pem(&pem, google_key);
	assert_bad((struct slice){ buffer_head(&pem), 600 }, "is cut off");
	buffer_head(&pem)[300] = '*';
	assert_bad(buffer_slice(&pem), "its PEM is damaged");
	assert_bad_key(EVP_EC_gen("P-256"), "is not for RSA");
	assert_bad_key(EVP_RSA_gen(1024), "is too short");

	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, google_key,
	    EVP_aes_128_cbc(), "pass", 4, NULL, NULL), 1);
	n = BIO_get_mem_data(bio, &p);
	assert_bad((struct slice){ p, (size_t)n }, "with a pass phrase");
	BIO_free(bio);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signed_tokens_verify),
		cmocka_unit_test(test_large_claims_do_not_grow_the_buffer),
		cmocka_unit_test(test_pkcs1_is_read_too),
		cmocka_unit_test(test_bad_keys_are_named),
	};

	return cmocka_run_group_tests_name("jwt", tests, make_google_key,
	    free_google_key);
}
