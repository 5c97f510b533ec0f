#include "codec/sigv4.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <time.h>

#include "base/alloc.h"
#include "base/secret.h"
#include "codec/sigv4_canonical.h"

#define SHA256_BYTES	32
#define DATE_BYTES	16	/* "20150830T123600Z" */
#define DAY_BYTES	8
#define ALGORITHM	"AWS4-HMAC-SHA256"

struct sigv4 {
	EVP_MD *md;
	EVP_MD_CTX *digest;
	EVP_MAC *mac;
	EVP_MAC_CTX *hmac;	/* holds the derived key while key_id != 0 */
	char *region, *service;
	uint64_t key_id, key_day;
	uint64_t day;		/* that day_text spells */
	char day_text[DAY_BYTES + 1];
	struct buffer work, pieces;
	struct buffer names;	/* "host;x-amz-date" */
};

/* ---- life ---- */

struct sigv4 *
sigv4_new(const char *region, const char *service)
{
	struct sigv4 *s = new0(struct sigv4);
	OSSL_PARAM params[2];
	char name[] = "SHA256";

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
	    name, 0);
	params[1] = OSSL_PARAM_construct_end();
	s->md = EVP_MD_fetch(NULL, name, NULL);
	s->digest = EVP_MD_CTX_new();
	s->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	s->hmac = s->mac != NULL ? EVP_MAC_CTX_new(s->mac) : NULL;
	if (s->md == NULL || s->digest == NULL || s->hmac == NULL ||
	    EVP_MAC_CTX_set_params(s->hmac, params) != 1)
		BUG("OpenSSL has no HMAC with SHA-256");
	s->region = xstrdup(region);
	s->service = xstrdup(service);
	s->day = UINT64_MAX;
	buffer_init(&s->work);
	buffer_init(&s->pieces);
	buffer_init(&s->names);
	return s;
}

void
sigv4_free(struct sigv4 *s)
{
	if (s == NULL)
		return;
	/* The key inside is wiped by OpenSSL. */
	EVP_MAC_CTX_free(s->hmac);
	EVP_MAC_free(s->mac);
	EVP_MD_CTX_free(s->digest);
	EVP_MD_free(s->md);
	free(s->region);
	free(s->service);
	buffer_done(&s->work);
	buffer_done(&s->pieces);
	buffer_done(&s->names);
	free(s);
}

/* ---- digests ---- */

static char *
put_hex(char *to, const unsigned char *p)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < SHA256_BYTES; i++) {
		*to++ = digits[p[i] >> 4];
		*to++ = digits[p[i] & 15];
	}
	return to;
}

void
sigv4_sha256(struct sigv4 *s, struct slice in, char out[SIGV4_HEX_BYTES])
{
	unsigned char sum[SHA256_BYTES];

	if (EVP_DigestInit_ex2(s->digest, s->md, NULL) != 1 ||
	    EVP_DigestUpdate(s->digest, in.p, in.n) != 1 ||
	    EVP_DigestFinal_ex(s->digest, sum, NULL) != 1)
		BUG("OpenSSL cannot make a SHA-256");
	*put_hex(out, sum) = '\0';
}

/* key.n == 0: the key of the last time. */
static void
hmac(struct sigv4 *s, struct slice key, struct slice in,
    unsigned char out[SHA256_BYTES])
{
	size_t n = 0;

	if (EVP_MAC_init(s->hmac, key.n == 0 ? NULL :
	    (const unsigned char *)key.p, key.n, NULL) != 1 ||
	    EVP_MAC_update(s->hmac, (const unsigned char *)in.p, in.n) != 1 ||
	    EVP_MAC_final(s->hmac, out, &n, SHA256_BYTES) != 1 ||
	    n != SHA256_BYTES)
		BUG("OpenSSL cannot make an HMAC");
}

/* ---- the key ---- */

static bool
have_key(const struct sigv4 *s, const struct sigv4_credentials *c)
{
	return c->id != 0 && c->id == s->key_id && s->day == s->key_day;
}

/* Leaves the key of the day in s->hmac. */
static void
derive_key(struct sigv4 *s, const struct sigv4_credentials *c)
{
	const struct slice steps[] = { { s->day_text, DAY_BYTES },
		slice_of(s->region), slice_of(s->service), SLICE("aws4_request") };
	unsigned char sum[SHA256_BYTES];
	struct slice key;

	buffer_clear(&s->work);
	(void)buffer_reserve(&s->work, 4 + c->secret_key.n);
	buffer_add_str(&s->work, "AWS4");
	buffer_add_slice(&s->work, c->secret_key);
	key = buffer_slice(&s->work);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		hmac(s, key, steps[i], sum);
		key = (struct slice){ (const char *)sum, sizeof(sum) };
	}
	if (EVP_MAC_init(s->hmac, sum, sizeof(sum), NULL) != 1)
		BUG("OpenSSL cannot make an HMAC");
	s->key_id = c->id;
	s->key_day = s->day;
	secret_wipe(sum, sizeof(sum));
	secret_wipe(s->work.data, s->work.size);
	buffer_clear(&s->work);
}

/* ---- signing ---- */

static void
put_two(char *to, uint64_t n)
{
	to[0] = (char)('0' + n / 10);
	to[1] = (char)('0' + n % 10);
}

static void
make_date(struct sigv4 *s, uint64_t time_us, char date[DATE_BYTES + 1])
{
	uint64_t seconds = time_us / USEC_PER_SEC, day = seconds / 86400;

	if (day != s->day) {
		time_t t = (time_t)(day * 86400);
		struct tm tm;

		(void)gmtime_r(&t, &tm);
		(void)strftime(s->day_text, sizeof(s->day_text), "%Y%m%d", &tm);
		s->day = day;
	}
	memcpy(date, s->day_text, DAY_BYTES);
	date[8] = 'T';
	put_two(date + 9, seconds / 3600 % 24);
	put_two(date + 11, seconds / 60 % 60);
	put_two(date + 13, seconds % 60);
	date[15] = 'Z';
	date[16] = '\0';
}

static bool
is_visible(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] > '~')
			return false;
	return true;
}

static void
add_header(struct buffer *out, const char *name, struct slice value)
{
	buffer_add_str(out, name);
	buffer_add(out, ": ", 2);
	buffer_add_slice(out, value);
	buffer_add(out, "\r\n", 2);
}

static void
add_scope(const struct sigv4 *s, struct buffer *out)
{
	buffer_add(out, s->day_text, DAY_BYTES);
	buffer_add_char(out, '/');
	buffer_add_str(out, s->region);
	buffer_add_char(out, '/');
	buffer_add_str(out, s->service);
	buffer_add_str(out, "/aws4_request");
}

static void
make_string_to_sign(struct sigv4 *s, const char *date, const char *hash)
{
	buffer_clear(&s->work);
	buffer_add_str(&s->work, ALGORITHM "\n");
	buffer_add(&s->work, date, DATE_BYTES);
	buffer_add_char(&s->work, '\n');
	add_scope(s, &s->work);
	buffer_add_char(&s->work, '\n');
	buffer_add(&s->work, hash, SIGV4_HEX_BYTES - 1);
}

static void
add_authorization(struct sigv4 *s, const struct sigv4_credentials *c,
    const unsigned char *signature, struct buffer *out)
{
	char hex[SIGV4_HEX_BYTES];

	buffer_add_str(out, "Authorization: " ALGORITHM " Credential=");
	buffer_add_slice(out, c->access_key);
	buffer_add_char(out, '/');
	add_scope(s, out);
	buffer_add_str(out, ", SignedHeaders=");
	buffer_add_slice(out, buffer_slice(&s->names));
	buffer_add_str(out, ", Signature=");
	(void)put_hex(hex, signature);
	buffer_add(out, hex, SIGV4_HEX_BYTES - 1);
	buffer_add(out, "\r\n", 2);
}

static int
collect(struct sigv4_headers *h, const struct sigv4_request *q,
    const char *date, struct slice token, const char *body_hash)
{
	if (q->nheaders > SIGV4_HEADERS_MAX)
		return -E2BIG;
	h->n = 0;
	for (size_t i = 0; i < q->nheaders; i++)
		sigv4_headers_add(h, q->headers[i]);
	sigv4_headers_add(h, (struct sigv4_header){ SLICE("x-amz-date"),
	    { date, DATE_BYTES } });
	if (q->add_body_hash)
		sigv4_headers_add(h, (struct sigv4_header){
		    SLICE("x-amz-content-sha256"), slice_of(body_hash) });
	if (token.n != 0 && !q->token_unsigned)
		sigv4_headers_add(h, (struct sigv4_header){
		    SLICE("x-amz-security-token"), token });
	return 0;
}

int
sigv4_sign(struct sigv4 *s, const struct sigv4_credentials *c,
    const struct sigv4_request *q, uint64_t time_us, struct buffer *out)
{
	char date[DATE_BYTES + 1], body_hash[SIGV4_HEX_BYTES],
	    hash[SIGV4_HEX_BYTES];
	unsigned char signature[SHA256_BYTES];
	struct sigv4_headers headers;
	int r;

	if (c->access_key.n == 0 || !is_visible(c->access_key) ||
	    !is_visible(c->token))
		return -EINVAL;
	make_date(s, time_us, date);
	if (q->body_sha256 == NULL)
		sigv4_sha256(s, q->body, body_hash);
	else
		memcpy(body_hash, q->body_sha256, sizeof(body_hash));
	if ((r = collect(&headers, q, date, c->token, body_hash)) < 0)
		return r;
	if (!have_key(s, c))
		derive_key(s, c);

	buffer_clear(&s->work);
	/* Growing would leave the token in freed memory. */
	(void)buffer_reserve(&s->work, 2 * KIB + c->token.n);
	buffer_clear(&s->names);
	sigv4_add_names(&s->names, &headers);
	r = sigv4_add_canonical(&s->work, &s->pieces, q, &headers,
	    buffer_slice(&s->names), body_hash);
	if (r == 0) {
		sigv4_sha256(s, buffer_slice(&s->work), hash);
		if (q->trace != NULL)
			buffer_add_slice(&q->trace->canonical_request,
			    buffer_slice(&s->work));
	}
	if (c->token.n != 0)	/* it was in there */
		secret_wipe(buffer_head(&s->work), buffer_len(&s->work));
	if (r < 0)
		return r;
	make_string_to_sign(s, date, hash);
	if (q->trace != NULL)
		buffer_add_slice(&q->trace->string_to_sign,
		    buffer_slice(&s->work));
	hmac(s, (struct slice){ NULL, 0 }, buffer_slice(&s->work), signature);

	add_header(out, "X-Amz-Date", (struct slice){ date, DATE_BYTES });
	if (c->token.n != 0)
		add_header(out, "X-Amz-Security-Token", c->token);
	if (q->add_body_hash)
		add_header(out, "X-Amz-Content-Sha256", slice_of(body_hash));
	add_authorization(s, c, signature, out);
	return 0;
}
