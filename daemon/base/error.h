/*
 * error.h - what went wrong, in a form that policy can read.
 *
 * Functions return 0 or -errno.  Where somebody must decide (retry, alert,
 * count), they fill a struct error too.  Policy reads the class, never the
 * text; people read the text.
 */
#ifndef BOT_BASE_ERROR_H
#define BOT_BASE_ERROR_H

#include <stdarg.h>

#include "base/macros.h"
#include "base/slice.h"

enum error_class {
	ERROR_NONE = 0,
	ERROR_TRANSIENT,	/* the peer or the way to it; try again later */
	ERROR_THROTTLED,	/* the peer asked for less */
	ERROR_AUTH,		/* credentials or permissions; a person must act */
	ERROR_REJECTED,		/* understood and refused; the same again is futile */
	ERROR_PROTOCOL,		/* bytes that make no sense */
	ERROR_INTERNAL,		/* ours */
};

struct error {
	enum error_class class;
	char code[48];		/* short, stable, e.g. "NOGROUP", "tls_verify" */
	char text[256];		/* a sentence; no secrets, no newline */
};

#define ERROR_INIT	{ ERROR_NONE, "", "" }

void	error_clear(struct error *);
/* Replaces what was there; text that does not fit is cut. NULL is accepted. */
void	error_set(struct error *, enum error_class, const char *code,
	    const char *fmt, ...) _printf_(4, 5);
void	error_vset(struct error *, enum error_class, const char *code,
	    const char *fmt, va_list) _printf_(4, 0);
/* The same from an errno value (positive or negative), "WHAT: strerror". */
void	error_set_errno(struct error *, int err, const char *fmt, ...)
	    _printf_(3, 4);

/* What a peer said, for a sentence: control characters become '?', and what
   does not fit is cut. Terminated. */
void	error_quote(struct slice, char *out, size_t size);

const char *error_class_name(enum error_class);

static inline bool
error_is_set(const struct error *e)
{
	return e->class != ERROR_NONE;
}

#endif
