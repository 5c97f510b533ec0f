/*
 * alloc.h - allocation that never returns NULL.
 *
 * For small objects only: when memory is gone the process aborts with a
 * message and systemd restarts it.  Whatever size a peer decides must be
 * bounded by its caller before it comes here.
 */
#ifndef BOT_BASE_ALLOC_H
#define BOT_BASE_ALLOC_H

#include "base/macros.h"

void	*xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void	*xcalloc(size_t count, size_t size)
	    __attribute__((malloc, returns_nonnull));
void	*xrealloc(void *old, size_t size) __attribute__((returns_nonnull));
/* Room for count elements of size bytes; aborts when the product overflows. */
void	*xreallocarray(void *old, size_t count, size_t size)
	    __attribute__((returns_nonnull));
char	*xstrdup(const char *) __attribute__((malloc, returns_nonnull));
char	*xstrndup(const char *, size_t max)
	    __attribute__((malloc, returns_nonnull));
void	*xmemdup(const void *, size_t size)
	    __attribute__((malloc, returns_nonnull));
char	*xasprintf(const char *fmt, ...) _printf_(1, 2)
	    __attribute__((malloc, returns_nonnull));

#define new0(type)		((type *)xcalloc(1, sizeof(type)))

/* Prints where and what, then aborts: the broken-invariant exit. */
__attribute__((noreturn, cold))
void	panic(const char *file, int line, const char *fmt, ...) _printf_(3, 4);
/* Called once by panic() before the abort, for a dump of the state. */
extern void (*panic_hook)(void);

#define BUG(...)		panic(__FILE__, __LINE__, __VA_ARGS__)
#define BUG_ON(cond) \
	do { if (unlikely(cond)) BUG("broken invariant: %s", #cond); } while (0)

#endif
