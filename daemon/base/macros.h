/*
 * macros.h - the few language helpers that every file may use.
 */
#ifndef BOT_BASE_MACROS_H
#define BOT_BASE_MACROS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

/* The object that embeds a member; the pointer must be the member's. */
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define MIN(a, b)		((a) < (b) ? (a) : (b))
#define MAX(a, b)		((a) > (b) ? (a) : (b))

#define _printf_(fmt, first)	__attribute__((format(printf, fmt, first)))
#define _unused_		__attribute__((unused))
#define _nonnull_		__attribute__((nonnull))
#define _must_check_		__attribute__((warn_unused_result))
#define _cleanup_(fn)		__attribute__((cleanup(fn)))
#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)

#define KIB			((size_t)1024)
#define MIB			((size_t)1024 * 1024)

#define USEC_PER_MSEC		((uint64_t)1000)
#define USEC_PER_SEC		((uint64_t)1000000)
#define USEC_INFINITY		UINT64_MAX

static inline void
free_charp(char **p)
{
	free(*p);
}

static inline void
close_fdp(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		(void)close(*fd);
		errno = saved;
	}
}

#define _cleanup_free_		_cleanup_(free_charp)
#define _cleanup_close_		_cleanup_(close_fdp)

/* a + b that stops at the top instead of wrapping (times and sizes). */
static inline uint64_t
sat_add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

#endif
