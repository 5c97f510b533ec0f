#include "base/buffer.h"

#include <stdio.h>

#include "base/alloc.h"

#define BUFFER_MIN	512

void
buffer_init(struct buffer *b)
{
	*b = (struct buffer)BUFFER_INIT;
}

void
buffer_done(struct buffer *b)
{
	free(b->data);
	buffer_init(b);
}

char *
buffer_reserve(struct buffer *b, size_t room)
{
	size_t len = buffer_len(b), size;

	if (likely(b->size - b->end >= room && b->data != NULL))
		return b->data + b->end;

	/* Sliding down is worth it only when it frees as much as it copies. */
	if (b->size - len >= room && b->start >= len && b->data != NULL) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		return b->data + b->end;
	}

	size = MAX(b->size, (size_t)BUFFER_MIN);
	while (size - len < room) {
		BUG_ON(size > SIZE_MAX / 2);
		size *= 2;
	}
	if (b->start != 0) {
		char *data = xmalloc(size);

		memcpy(data, b->data + b->start, len);
		free(b->data);
		b->data = data;
		b->start = 0;
		b->end = len;
	} else {
		b->data = xrealloc(b->data, size);
	}
	b->size = size;
	return b->data + b->end;
}

void
buffer_consume(struct buffer *b, size_t n)
{
	BUG_ON(n > buffer_len(b));
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
buffer_clear(struct buffer *b)
{
	b->start = b->end = 0;
}

void
buffer_trim(struct buffer *b)
{
	size_t len = buffer_len(b);

	if (len == 0) {
		buffer_done(b);
		return;
	}
	if (b->start != 0)
		memmove(b->data, b->data + b->start, len);
	b->start = 0;
	b->end = len;
	b->data = xrealloc(b->data, len);
	b->size = len;
}

void
buffer_add(struct buffer *b, const void *src, size_t n)
{
	char *p = buffer_reserve(b, n);

	if (n != 0)
		memcpy(p, src, n);
	b->end += n;
}

void
buffer_add_str(struct buffer *b, const char *s)
{
	buffer_add(b, s, strlen(s));
}

void
buffer_add_slice(struct buffer *b, struct slice s)
{
	buffer_add(b, s.p, s.n);
}

size_t
fmt_u64(char *p, uint64_t n)
{
	char tmp[20];
	size_t i = sizeof(tmp), len;

	do {
		tmp[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	len = sizeof(tmp) - i;
	memcpy(p, tmp + i, len);
	return len;
}

void
buffer_add_u64(struct buffer *b, uint64_t n)
{
	b->end += fmt_u64(buffer_reserve(b, 20), n);
}

void
buffer_vprintf(struct buffer *b, const char *fmt, va_list ap)
{
	va_list again;
	char *p = buffer_reserve(b, 128);
	size_t room = b->size - b->end;
	int n;

	va_copy(again, ap);
	n = vsnprintf(p, room, fmt, ap);
	BUG_ON(n < 0);
	if ((size_t)n >= room) {
		p = buffer_reserve(b, (size_t)n + 1);
		vsnprintf(p, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	b->end += (size_t)n;
}

void
buffer_printf(struct buffer *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(b, fmt, ap);
	va_end(ap);
}

char *
buffer_dup(const struct buffer *b)
{
	size_t len = buffer_len(b);
	char *p = xmalloc(len + 1);

	if (len != 0)
		memcpy(p, buffer_head(b), len);
	p[len] = '\0';
	return p;
}

const char *
buffer_cstr(struct buffer *b)
{
	*buffer_reserve(b, 1) = '\0';
	return buffer_head(b);
}

int
slice_to_u64(struct slice s, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s.p[i] - '0'), &n))
			return -ERANGE;
	}
	*ret = n;
	return 0;
}
