#include "base/error.h"

#include <stdio.h>

void
error_clear(struct error *e)
{
	*e = (struct error)ERROR_INIT;
}

/* What peers say ends up in log lines: one line, printable. */
static void
clean(char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
}

void
error_vset(struct error *e, enum error_class class, const char *code,
    const char *fmt, va_list ap)
{
	char text[sizeof(e->text)];

	if (e == NULL)
		return;
	/* The arguments may point into *e itself. */
	vsnprintf(text, sizeof(text), fmt, ap);
	e->class = class;
	snprintf(e->code, sizeof(e->code), "%s", code);
	memcpy(e->text, text, sizeof(text));
	clean(e->code);
	clean(e->text);
}

void
error_set(struct error *e, enum error_class class, const char *code,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_vset(e, class, code, fmt, ap);
	va_end(ap);
}

void
error_set_errno(struct error *e, int err, const char *fmt, ...)
{
	char what[192];
	va_list ap;
	const char *name;

	if (err < 0)
		err = -err;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	name = strerrorname_np(err);
	error_set(e, ERROR_TRANSIENT, name != NULL ? name : "errno", "%s: %s",
	    what, strerror(err));
}

const char *
error_class_name(enum error_class class)
{
	static const char *const names[] = {
		[ERROR_NONE] = "none",
		[ERROR_TRANSIENT] = "transient",
		[ERROR_THROTTLED] = "throttled",
		[ERROR_AUTH] = "auth",
		[ERROR_REJECTED] = "rejected",
		[ERROR_PROTOCOL] = "protocol",
		[ERROR_INTERNAL] = "internal",
	};

	return (size_t)class < ARRAY_SIZE(names) ? names[class] : "unknown";
}

void
error_quote(struct slice s, char *out, size_t size)
{
	size_t n = MIN(s.n, size - 1);

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		out[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	out[n] = '\0';
}
