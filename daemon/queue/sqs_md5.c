/*
 * The MD5s that the service gives with each message (SQS API reference,
 * "Calculating the MD5 message digest for message attributes").  Where OpenSSL
 * has no MD5 (FIPS), they are not checked.
 */
#include <openssl/evp.h>

#include "codec/base64.h"
#include "queue/sqs_impl.h"

#define MD5_BYTES	16

static bool
md5(const void *p, size_t n, unsigned char out[MD5_BYTES])
{
	unsigned len = 0;

	return EVP_Digest(p, n, out, &len, EVP_md5(), NULL) == 1 &&
	    len == MD5_BYTES;
}

static bool
hex_is(const json_t *want, const unsigned char digest[MD5_BYTES])
{
	static const char hex[] = "0123456789abcdef";
	char text[2 * MD5_BYTES + 1] = "";

	for (size_t i = 0; i < MD5_BYTES; i++) {
		text[2 * i] = hex[digest[i] >> 4];
		text[2 * i + 1] = hex[digest[i] & 15];
	}
	return strcmp(json_string_value(want), text) == 0;
}

static void
add_run(struct buffer *b, struct slice s)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		buffer_add_char(b, (char)(s.n >> shift));
	buffer_add_slice(b, s);
}

static struct slice
text_of(const json_t *object, const char *key)
{
	const json_t *j = json_object_get(object, key);

	return json_is_string(j) ? (struct slice){ json_string_value(j),
	    json_string_length(j) } : (struct slice){ "", 0 };
}

/* False for what cannot be encoded: then there is nothing to compare. */
static bool
add_attribute(struct buffer *b, const char *name, const json_t *value)
{
	struct slice type = text_of(value, "DataType");
	struct buffer bytes = BUFFER_INIT;
	bool binary = type.n >= 6 && memcmp(type.p, "Binary", 6) == 0;
	bool ok = true;

	add_run(b, slice_of(name));
	add_run(b, type);
	buffer_add_char(b, binary ? 2 : 1);
	if (binary) {
		ok = base64_decode(text_of(value, "BinaryValue"), &bytes) == 0;
		add_run(b, buffer_slice(&bytes));
	} else {
		add_run(b, text_of(value, "StringValue"));
	}
	buffer_done(&bytes);
	return ok;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
attributes_fit(const json_t *attributes, const json_t *want)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *names[SQS_ATTRIBUTES_MAX], *name;
	unsigned char digest[MD5_BYTES];
	json_t *value;
	size_t n = 0;

	if (!json_is_string(want) || json_object_size(attributes) == 0 ||
	    json_object_size(attributes) > SQS_ATTRIBUTES_MAX)
		return true;
	json_object_foreach((json_t *)(uintptr_t)attributes, name, value)
		names[n++] = name;
	qsort(names, n, sizeof(names[0]), by_name);
	for (size_t i = 0; i < n; i++)
		if (!add_attribute(&b, names[i], json_object_get(attributes,
		    names[i])))
			return true;
	return !md5(buffer_head(&b), buffer_len(&b), digest) ||
	    hex_is(want, digest);
}

const char *
sqs_md5_misfit(const json_t *message)
{
	const json_t *want = json_object_get(message, "MD5OfBody");
	struct slice body = text_of(message, "Body");
	unsigned char digest[MD5_BYTES];

	if (json_is_string(want) && md5(body.p, body.n, digest) &&
	    !hex_is(want, digest))
		return "MD5OfBody";
	return attributes_fit(json_object_get(message, "MessageAttributes"),
	    json_object_get(message, "MD5OfMessageAttributes")) ? NULL :
	    "MD5OfMessageAttributes";
}
