/*
 * verify.h - is a message from somebody who knows the key?
 *
 * HMAC-SHA256 (RFC 2104, FIPS 180-4) over the message's body, byte for byte as
 * it came; before it, for each attribute that is to be signed too, in the
 * order of the configuration, its name, "=", its value and a newline.
 *
 * A signature is 64 hexadecimal digits or base64 (RFC 4648, with or without
 * its padding, of either alphabet) of the 32 bytes, with or without "sha256="
 * before it.
 */
#ifndef BOT_GUARD_VERIFY_H
#define BOT_GUARD_VERIFY_H

#include "base/error.h"
#include "base/slice.h"

#define VERIFY_BYTES		32
#define VERIFY_KEYS_MAX		16u
#define VERIFY_KEY_MIN		16u	/* bytes */

struct message;
struct verify_keys;

/*
 * One key a line: any of them is valid, so that a new one can come before the
 * old one goes.  Its bytes are the line's, without blanks around them; empty
 * lines do not count.  NULL and *err, which names the file and never a key.
 */
struct verify_keys *verify_keys_read(const char *path, struct error *err);
void	verify_keys_free(struct verify_keys *);		/* accepts NULL */

/* False when this is no signature. */
bool	verify_parse(struct slice text, unsigned char out[VERIFY_BYTES]);
void	verify_hmac(struct slice key, struct slice text,
	    unsigned char out[VERIFY_BYTES]);

/*
 * NULL when the message's signature, which is in that attribute, is of one of
 * the keys; otherwise what is wrong, a static text.  with: names of attributes
 * that are signed too, NULL-terminated.  The comparison takes the same time
 * whatever differs.
 */
const char *verify_message(const struct verify_keys *, const struct message *,
	    const char *attribute, char *const *with);

#endif
