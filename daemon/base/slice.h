/*
 * slice.h - a run of bytes that belongs to somebody else.
 *
 * Not terminated.  Valid for as long as its owner says; never freed.
 */
#ifndef BOT_BASE_SLICE_H
#define BOT_BASE_SLICE_H

#include "base/macros.h"

struct slice {
	const char *p;
	size_t n;
};

#define SLICE(lit)	((struct slice){ (lit), sizeof(lit) - 1 })

static inline struct slice
slice_of(const char *s)
{
	return (struct slice){ s, s != NULL ? strlen(s) : 0 };
}

static inline bool
slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
slice_is(struct slice a, const char *s)
{
	return slice_eq(a, slice_of(s));
}

/* What a hexadecimal digit of either case stands for, or -1. */
static inline int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decimal digits only, no sign, no space.  -EINVAL, -ERANGE. */
int	slice_to_u64(struct slice, uint64_t *ret);

#endif
