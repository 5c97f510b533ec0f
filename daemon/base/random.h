/*
 * random.h - numbers for jitter and ids (not for keys: OpenSSL does those).
 *
 * Seeded from getrandom(2) at first use; tests pin the seed.
 */
#ifndef BOT_BASE_RANDOM_H
#define BOT_BASE_RANDOM_H

#include "base/macros.h"

void	random_seed(uint64_t seed);
uint64_t random_u64(void);
/* Uniform in [0, n); 0 when n is 0. */
uint64_t random_below(uint64_t n);
/* n lower-case hex digits and a NUL. */
void	random_hex(char *out, size_t n);
/* A UUID of version 7 (RFC 9562, section 5.7): they sort by their time. */
#define RANDOM_UUID_BYTES	37
const char *random_uuid7(char out[RANDOM_UUID_BYTES], uint64_t realtime_us);

#endif
