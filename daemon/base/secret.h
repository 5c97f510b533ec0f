/*
 * secret.h - passwords, tokens, keys.
 *
 * The only way to the bytes is secret_bytes(), which exists to be passed to a
 * codec; there is deliberately no printf path.  Memory is kept out of core
 * dumps (MADV_DONTDUMP), out of swap where the limits allow it (mlock), out
 * of forked children (MADV_WIPEONFORK), and is wiped when freed.
 */
#ifndef BOT_BASE_SECRET_H
#define BOT_BASE_SECRET_H

#include "base/error.h"
#include "base/slice.h"

struct secret;

/* Takes a copy; the caller wipes its own (secret_wipe). */
struct secret *secret_new(const void *, size_t);
/*
 * Reads a whole small file (at most 64 KiB), dropping one trailing newline.
 * NULL and *err on failure; an empty file is a failure.  The text names the
 * file, never its content.
 */
struct secret *secret_read_file(const char *path, struct error *err);
void	secret_free(struct secret *);		/* accepts NULL */
struct slice secret_bytes(const struct secret *);
bool	secret_equal(const struct secret *, const struct secret *);
/* A memset that the compiler may not remove. */
void	secret_wipe(void *, size_t);

#endif
