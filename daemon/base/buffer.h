/*
 * buffer.h - bytes that come in at one end and leave at the other.
 *
 * Owned by whoever embeds it; buffer_done() frees the memory.  Growing never
 * fails (see alloc.h), so the owner bounds what it appends.  Pointers into a
 * buffer are valid until the next call that appends to it.  Consumed space is
 * taken back when the buffer empties or when that saves a growth, so a buffer
 * that is drained now and then costs no copying.
 */
#ifndef BOT_BASE_BUFFER_H
#define BOT_BASE_BUFFER_H

#include <stdarg.h>

#include "base/slice.h"

struct buffer {
	char *data;
	size_t start;		/* first byte not yet consumed */
	size_t end;		/* one past the last byte */
	size_t size;		/* allocated */
};

#define BUFFER_INIT	{ NULL, 0, 0, 0 }

static inline size_t
buffer_len(const struct buffer *b)
{
	return b->end - b->start;
}

static inline char *
buffer_head(const struct buffer *b)
{
	/* NULL + 0 is undefined before C2y; this compiles to the same. */
	return b->start == 0 ? b->data : b->data + b->start;
}

static inline struct slice
buffer_slice(const struct buffer *b)
{
	return (struct slice){ buffer_head(b), buffer_len(b) };
}

void	buffer_init(struct buffer *);
void	buffer_done(struct buffer *);		/* also wipes the struct */

/* At least room bytes behind the end; returns where they start. */
char	*buffer_reserve(struct buffer *, size_t room);
/* The owner wrote n bytes into reserved room. */
static inline void
buffer_commit(struct buffer *b, size_t n)
{
	b->end += n;
}

void	buffer_consume(struct buffer *, size_t n);
void	buffer_clear(struct buffer *);		/* keeps the memory */
void	buffer_trim(struct buffer *);		/* gives back unused memory */

void	buffer_add(struct buffer *, const void *, size_t);
void	buffer_add_str(struct buffer *, const char *);
void	buffer_add_slice(struct buffer *, struct slice);
void	buffer_add_u64(struct buffer *, uint64_t);	/* decimal, fast */
void	buffer_printf(struct buffer *, const char *fmt, ...) _printf_(2, 3);
void	buffer_vprintf(struct buffer *, const char *fmt, va_list) _printf_(2, 0);

static inline void
buffer_add_char(struct buffer *b, char c)
{
	*buffer_reserve(b, 1) = c;
	b->end++;
}

/* A terminated copy, owned by the caller (free). */
char	*buffer_dup(const struct buffer *);
/* The content with a NUL behind it (which does not count); never NULL. */
const char *buffer_cstr(struct buffer *);

/* Writes n as decimal digits at p (room for 20), returns how many. */
size_t	fmt_u64(char *p, uint64_t n);

static inline void
buffer_donep(struct buffer *b)
{
	buffer_done(b);
}
#define _cleanup_buffer_	_cleanup_(buffer_donep)

#endif
