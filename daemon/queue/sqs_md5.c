/*
 * The MD5s that the service gives with each message (SQS API reference,
 * "Calculating the MD5 message digest for message attributes").  Where OpenSSL
 * has no MD5 (FIPS), they are not checked.
 */
#include <openssl/evp.h>

#include "codec/base64.h"
#include "queue/sqs_impl.h"

#define MD5_BYTES	16

void
sqs_md5_init(struct sqs_queue *sq)
{
	sq->md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	sq->md5_digest = EVP_MD_CTX_new();
}

void
sqs_md5_done(struct sqs_queue *sq)
{
	EVP_MD_CTX_free(sq->md5_digest);
	EVP_MD_free(sq->md5);
}

static bool
md5(const struct sqs_queue *sq, struct slice s, unsigned char out[MD5_BYTES])
{
	unsigned n = 0;

	return sq->md5 != NULL && sq->md5_digest != NULL &&
	    EVP_DigestInit_ex2(sq->md5_digest, sq->md5, NULL) == 1 &&
	    EVP_DigestUpdate(sq->md5_digest, s.p, s.n) == 1 &&
	    EVP_DigestFinal_ex(sq->md5_digest, out, &n) == 1 &&
	    n == MD5_BYTES;
}

/* True also where there is nothing to compare. */
static bool
fits(const struct sqs_queue *sq, struct slice of, struct slice want)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char digest[MD5_BYTES];
	char text[2 * MD5_BYTES];

	if (!md5(sq, of, digest))
		return true;
	for (size_t i = 0; i < MD5_BYTES; i++) {
		text[2 * i] = hex[digest[i] >> 4];
		text[2 * i + 1] = hex[digest[i] & 15];
	}
	return slice_eq(want, (struct slice){ text, sizeof(text) });
}

static void
add_run(struct buffer *b, struct slice s)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		buffer_add_char(b, (char)(s.n >> shift));
	buffer_add_slice(b, s);
}

/* False for what cannot be encoded: then there is nothing to compare. */
static bool
add_attribute(struct buffer *b, const struct sqs_user_attribute *a)
{
	struct buffer bytes = BUFFER_INIT;
	bool binary = a->type.n >= 6 && memcmp(a->type.p, "Binary", 6) == 0;
	bool ok = true;

	add_run(b, a->name);
	add_run(b, a->type);
	buffer_add_char(b, binary ? 2 : 1);
	if (binary) {
		ok = base64_decode(a->binary, &bytes) == 0;
		add_run(b, buffer_slice(&bytes));
	} else {
		add_run(b, a->string);
	}
	buffer_done(&bytes);
	return ok;
}

static int
by_name(const void *a, const void *b)
{
	struct slice x = (*(const struct sqs_user_attribute *const *)a)->name;
	struct slice y = (*(const struct sqs_user_attribute *const *)b)->name;
	int d = memcmp(x.p, y.p, MIN(x.n, y.n));

	return d != 0 ? d : x.n < y.n ? -1 : x.n > y.n;
}

static bool
attributes_fit(const struct sqs_queue *sq, const struct sqs_parts *p)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const struct sqs_user_attribute *sorted[SQS_ATTRIBUTES_MAX];

	if (p->attributes_md5.p == NULL || p->nuser == 0 ||
	    p->nuser > SQS_ATTRIBUTES_MAX)
		return true;
	for (unsigned i = 0; i < p->nuser; i++)
		sorted[i] = &p->user[i];
	qsort(sorted, p->nuser, sizeof(sorted[0]), by_name);
	for (unsigned i = 0; i < p->nuser; i++)
		if (!add_attribute(&b, sorted[i]))
			return true;
	return fits(sq, buffer_slice(&b), p->attributes_md5);
}

const char *
sqs_md5_misfit(const struct sqs_queue *sq, const struct sqs_parts *p)
{
	if (p->body_md5.p != NULL && !fits(sq, p->body, p->body_md5))
		return "MD5OfBody";
	return attributes_fit(sq, p) ? NULL : "MD5OfMessageAttributes";
}
