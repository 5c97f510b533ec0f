/*
 * jwt.h - signed JSON Web Tokens (RFC 7519) in compact form (RFC 7515) with
 * RS256 (RFC 7518, 3.3), as Google's service accounts sign them.  Pure.
 *
 * A key is parsed once and signs as often as it is wanted, at about 1 ms each
 * (RSA of 2048 bits).  Key and tokens are secrets; errors say what is wrong
 * with a key, never what is in it.
 */
#ifndef BOT_CODEC_JWT_H
#define BOT_CODEC_JWT_H

#include "base/error.h"
#include "base/secret.h"

#define JWT_KEY_BITS_MIN	2048	/* RFC 7518, 3.3 */
#define JWT_KEY_BITS_MAX	16384	/* who asks for more wants us to stand still */

struct jwt_key;

/*
 * An RSA private key in PEM: PKCS#8 ("BEGIN PRIVATE KEY") or PKCS#1 ("BEGIN
 * RSA PRIVATE KEY"), without a pass phrase.  NULL and *err (AUTH, "jwt_key").
 */
struct jwt_key *jwt_key_new(struct slice pem, struct error *err);
void	jwt_key_free(struct jwt_key *);		/* accepts NULL */

/* header.claims.signature; claims is a JSON object, signed as it is.  kid may
   be NULL. NULL and *err (INTERNAL) when OpenSSL cannot. */
struct secret *jwt_sign(const struct jwt_key *, const char *kid,
	    struct slice claims, struct error *err);

#endif
