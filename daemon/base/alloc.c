#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>

void (*panic_hook)(void);

void
panic(const char *file, int line, const char *fmt, ...)
{
	void (*hook)(void) = panic_hook;
	va_list ap;

	panic_hook = NULL;
	fprintf(stderr, "<2>bot-operator: %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (hook != NULL)
		hook();
	abort();
}

void *
xmalloc(size_t size)
{
	void *p = malloc(size != 0 ? size : 1);

	if (unlikely(p == NULL))
		BUG("out of memory allocating %zu bytes", size);
	return p;
}

void *
xcalloc(size_t count, size_t size)
{
	void *p = calloc(count != 0 ? count : 1, size != 0 ? size : 1);

	if (unlikely(p == NULL))
		BUG("out of memory allocating %zu x %zu bytes", count, size);
	return p;
}

void *
xrealloc(void *old, size_t size)
{
	void *p = realloc(old, size != 0 ? size : 1);

	if (unlikely(p == NULL))
		BUG("out of memory growing to %zu bytes", size);
	return p;
}

void *
xreallocarray(void *old, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		BUG("size overflow: %zu x %zu bytes", count, size);
	return xrealloc(old, total);
}

char *
xstrdup(const char *s)
{
	return xmemdup(s, strlen(s) + 1);
}

char *
xstrndup(const char *s, size_t max)
{
	size_t n = strnlen(s, max);
	char *p = xmalloc(n + 1);

	memcpy(p, s, n);
	p[n] = '\0';
	return p;
}

void *
xmemdup(const void *src, size_t size)
{
	void *p = xmalloc(size);

	if (size != 0)
		memcpy(p, src, size);
	return p;
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0)
		BUG("out of memory formatting \"%s\"", fmt);
	return p;
}
