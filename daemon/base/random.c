#include "base/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/alloc.h"

/* xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64. */
static uint64_t s[4];
static bool seeded;

void
random_seed(uint64_t seed)
{
	for (size_t i = 0; i < 4; i++) {
		uint64_t z = (seed += 0x9e3779b97f4a7c15u);

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		s[i] = z ^ (z >> 31);
	}
	seeded = true;
}

static inline uint64_t
rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t
random_u64(void)
{
	uint64_t result, t;

	if (unlikely(!seeded)) {
		uint64_t seed;

		if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
			BUG("getrandom: %s", strerror(errno));
		random_seed(seed);
	}
	result = rotl(s[1] * 5, 7) * 9;
	t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t
random_below(uint64_t n)
{
	return n == 0 ? 0 :
	    (uint64_t)(((unsigned __int128)random_u64() * n) >> 64);
}

void
random_hex(char *out, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++)
		out[i] = digits[random_u64() >> 60];
	out[n] = '\0';
}

const char *
random_uuid7(char out[RANDOM_UUID_BYTES], uint64_t realtime_us)
{
	uint64_t ms = realtime_us / 1000 & 0xffffffffffff;
	uint64_t a = random_u64(), b = random_u64();

	snprintf(out, RANDOM_UUID_BYTES, "%08" PRIx64 "-%04" PRIx64 "-7%03"
	    PRIx64 "-%04" PRIx64 "-%012" PRIx64, ms >> 16, ms & 0xffff,
	    a & 0xfff, (b >> 48 & 0x3fff) | 0x8000, b & 0xffffffffffff);
	return out;
}
