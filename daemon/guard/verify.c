#include "guard/verify.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/secret.h"
#include "codec/base64.h"
#include "engine/message.h"

struct verify_keys {
	struct secret *file;		/* keys lie in it */
	struct slice key[VERIFY_KEYS_MAX];
	size_t n;
};

/* ---- keys ---- */

static struct slice
trim(struct slice s)
{
	while (s.n != 0 && strchr(" \t\r", s.p[0]) != NULL)
		s.p++, s.n--;
	while (s.n != 0 && strchr(" \t\r", s.p[s.n - 1]) != NULL)
		s.n--;
	return s;
}

static int
add_key(struct verify_keys *k, struct slice key, const char *path,
    struct error *err)
{
	if (key.n < VERIFY_KEY_MIN) {
		error_set(err, ERROR_REJECTED, "short_key", "%s: a key has at "
		    "least %u bytes (one a line): \"openssl rand -hex 32\" "
		    "makes one", path, VERIFY_KEY_MIN);
		return -EINVAL;
	}
	if (k->n == VERIFY_KEYS_MAX) {
		error_set(err, ERROR_REJECTED, "too_many_keys", "%s: more "
		    "than %u keys (one a line)", path, VERIFY_KEYS_MAX);
		return -EINVAL;
	}
	k->key[k->n++] = key;
	return 0;
}

static int
split(struct verify_keys *k, const char *path, struct error *err)
{
	struct slice rest = secret_bytes(k->file);

	while (rest.n != 0) {
		const char *nl = memchr(rest.p, '\n', rest.n);
		size_t n = nl != NULL ? (size_t)(nl - rest.p) : rest.n;
		struct slice line = trim((struct slice){ rest.p, n });

		if (line.n != 0 && add_key(k, line, path, err) < 0)
			return -EINVAL;
		n += nl != NULL;
		rest.p += n;
		rest.n -= n;
	}
	if (k->n == 0) {
		error_set(err, ERROR_REJECTED, "no_key", "%s has no key: one a "
		    "line, \"openssl rand -hex 32\" makes one", path);
		return -EINVAL;
	}
	return 0;
}

struct verify_keys *
verify_keys_read(const char *path, struct error *err)
{
	struct verify_keys *k = new0(struct verify_keys);

	k->file = secret_read_file(path, err);
	if (k->file == NULL || split(k, path, err) < 0) {
		verify_keys_free(k);
		return NULL;
	}
	return k;
}

void
verify_keys_free(struct verify_keys *k)
{
	if (k == NULL)
		return;
	secret_free(k->file);
	free(k);
}

/* ---- signatures ---- */

static bool
parse_hex(struct slice text, unsigned char out[VERIFY_BYTES])
{
	for (size_t i = 0; i < VERIFY_BYTES; i++) {
		int high = hex_digit(text.p[2 * i]);
		int low = hex_digit(text.p[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

static bool
parse_base64(struct slice text, unsigned char out[VERIFY_BYTES])
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char url[43];

	/* 32 bytes are 43 letters and one for padding. */
	if (text.n == 44 && text.p[43] == '=')
		text.n--;
	if (text.n != sizeof(url))
		return false;
	for (size_t i = 0; i < sizeof(url); i++)
		url[i] = text.p[i] == '+' ? '-' : text.p[i] == '/' ? '_' :
		    text.p[i];
	if (base64url_decode((struct slice){ url, sizeof(url) }, &b) < 0 ||
	    buffer_len(&b) != VERIFY_BYTES)
		return false;
	memcpy(out, buffer_head(&b), VERIFY_BYTES);
	return true;
}

bool
verify_parse(struct slice text, unsigned char out[VERIFY_BYTES])
{
	static const char prefix[] = "sha256=";
	size_t n = strlen(prefix);

	text = trim(text);
	if (text.n > n && strncasecmp(text.p, prefix, n) == 0) {
		text.p += n;
		text.n -= n;
	}
	return text.n == 2 * VERIFY_BYTES ? parse_hex(text, out) :
	    parse_base64(text, out);
}

void
verify_hmac(struct slice key, struct slice text,
    unsigned char out[VERIFY_BYTES])
{
	unsigned n = 0;

	if (HMAC(EVP_sha256(), key.p, (int)key.n,
	    (const unsigned char *)text.p, text.n, out, &n) == NULL ||
	    n != VERIFY_BYTES)
		BUG("OpenSSL has no HMAC with SHA-256");
}

/* NULL, and *ret is what was signed; it may lie in b. */
static const char *
signed_text(const struct message *m, char *const *with, struct buffer *b,
    struct slice *ret)
{
	*ret = m->body;
	if (with[0] == NULL)
		return NULL;
	for (; *with != NULL; with++) {
		const struct attribute *a = message_attribute(m, *with);

		if (a == NULL)
			return "an attribute of VerifyWith= is missing";
		/* Or one value could pass for several. */
		if (a->value.n != 0 &&
		    memchr(a->value.p, '\n', a->value.n) != NULL)
			return "an attribute of VerifyWith= has several lines";
		buffer_add_str(b, *with);
		buffer_add_char(b, '=');
		buffer_add_slice(b, a->value);
		buffer_add_char(b, '\n');
	}
	buffer_add_slice(b, m->body);
	*ret = buffer_slice(b);
	return NULL;
}

const char *
verify_message(const struct verify_keys *k, const struct message *m,
    const char *attribute, char *const *with)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const struct attribute *a = message_attribute(m, attribute);
	unsigned char given[VERIFY_BYTES], want[VERIFY_BYTES];
	struct slice text;
	const char *why;
	bool ok = false;

	if (a == NULL || a->value.n == 0)
		return "no signature";
	if (!verify_parse(a->value, given))
		return "malformed signature";
	why = signed_text(m, with, &b, &text);
	if (why != NULL)
		return why;
	for (size_t i = 0; i < k->n; i++) {
		verify_hmac(k->key[i], text, want);
		ok |= CRYPTO_memcmp(given, want, VERIFY_BYTES) == 0;
	}
	secret_wipe(want, sizeof(want));
	return ok ? NULL : "wrong signature";
}
