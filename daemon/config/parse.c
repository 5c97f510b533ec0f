#include "config/internal.h"

/*
 * The syntax is that of systemd.syntax(7): "[Section label]", "Key=value",
 * comments with # or ; on lines of their own, a trailing backslash joins the
 * next line (comments in between are skipped), white space around is trimmed.
 */

struct parser {
	const struct parse_events *events;
	struct buffer logical;		/* the line so far */
	unsigned line;			/* where it began */
	bool continued;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice
trim(struct slice s)
{
	while (s.n != 0 && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n != 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

static void
problem(struct parser *p, unsigned line, const char *text)
{
	p->events->on_problem(p->events->owner, line, text);
}

size_t
utf8_sequence(const void *at, size_t n)
{
	const unsigned char *p = at;
	uint32_t c;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	c = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < (len == 2 ? 0x80u : len == 3 ? 0x800u : 0x10000u) ||
	    c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

/* What is no text would end up in logs, on terminals and in JSON. */
static bool
clean(struct parser *p, unsigned line, struct slice s)
{
	const unsigned char *at = (const unsigned char *)s.p;
	const unsigned char *end = at + s.n;

	while (at != end) {
		size_t len = utf8_sequence(at, (size_t)(end - at));

		if (len == 0) {
			problem(p, line, "not valid UTF-8");
			return false;
		}
		if ((*at < 0x20 && *at != '\t') || *at == 0x7f) {
			problem(p, line, "control character in the line");
			return false;
		}
		at += len;
	}
	return true;
}

static char *
dup_slice(struct slice s)
{
	struct buffer b = { (char *)(uintptr_t)s.p, 0, s.n, s.n };

	return buffer_dup(&b);
}

static void
header(struct parser *p, struct slice s)
{
	_cleanup_free_ char *name = NULL, *label = NULL;
	struct slice in, rest;
	size_t n = 0;

	if (s.p[s.n - 1] != ']') {
		problem(p, p->line, "section header without a closing ]");
		p->events->on_section(p->events->owner, p->line, NULL, NULL);
		return;
	}
	in = trim((struct slice){ s.p + 1, s.n - 2 });
	while (n < in.n && !is_blank(in.p[n]))
		n++;
	rest = trim((struct slice){ in.p + n, in.n - n });
	name = dup_slice((struct slice){ in.p, n });
	label = dup_slice(rest);
	if (n == 0) {
		problem(p, p->line, "section header without a name");
		p->events->on_section(p->events->owner, p->line, NULL, NULL);
		return;
	}
	p->events->on_section(p->events->owner, p->line, name, label);
}

static void
end_line(struct parser *p)
{
	struct slice s = trim(buffer_slice(&p->logical)), key, text;
	_cleanup_free_ char *k = NULL, *v = NULL;
	const char *equals;

	p->continued = false;
	if (s.n == 0)
		goto done;
	if (!clean(p, p->line, s)) {
		/* What follows a header is not the section's before it. */
		if (s.p[0] == '[')
			p->events->on_section(p->events->owner, p->line, NULL,
			    NULL);
		goto done;
	}
	if (s.p[0] == '[') {
		header(p, s);
		goto done;
	}
	equals = memchr(s.p, '=', s.n);
	if (equals == NULL) {
		problem(p, p->line, "neither [Section] nor Key=value: the = is "
		    "missing");
		goto done;
	}
	key = trim((struct slice){ s.p, (size_t)(equals - s.p) });
	text = trim((struct slice){ equals + 1,
	    (size_t)(s.p + s.n - equals - 1) });
	if (key.n == 0) {
		problem(p, p->line, "nothing in front of the =");
		goto done;
	}
	k = dup_slice(key);
	v = dup_slice(text);
	p->events->on_value(p->events->owner, p->line, k, v);
done:
	buffer_clear(&p->logical);
}

/* An odd number of backslashes: the last one is not escaped itself. */
static bool
ends_in_backslash(struct slice s)
{
	size_t n = 0;

	while (n < s.n && s.p[s.n - 1 - n] == '\\')
		n++;
	return n % 2 == 1;
}

/* false: the rest of the file is not worth looking at. */
static bool
physical_line(struct parser *p, unsigned line, struct slice s)
{
	bool more;

	if (memchr(s.p, '\0', s.n) != NULL) {
		problem(p, line, "NUL byte: this is not a text file");
		return false;
	}
	s = trim(s);
	if (s.n != 0 && (s.p[0] == '#' || s.p[0] == ';'))
		return true;
	if (!p->continued)
		p->line = line;
	more = ends_in_backslash(s);
	if (more)
		s.n--;
	if (buffer_len(&p->logical) + s.n + 1 > CONFIG_LINE_MAX) {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;

		buffer_printf(&b, "line longer than %zu bytes, continuations "
		    "included", CONFIG_LINE_MAX);
		problem(p, p->line, buffer_cstr(&b));
		return false;
	}
	buffer_add_slice(&p->logical, s);
	p->continued = more;
	if (more)
		buffer_add_char(&p->logical, ' ');
	else
		end_line(p);
	return true;
}

void
config_parse(struct slice text, const struct parse_events *events)
{
	struct parser p = { .events = events };
	bool fine = true;

	buffer_init(&p.logical);
	if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0) {
		text.p += 3;
		text.n -= 3;
	}
	for (unsigned line = 1; fine && text.n != 0; line++) {
		const char *nl = memchr(text.p, '\n', text.n);
		size_t n = nl != NULL ? (size_t)(nl - text.p) : text.n;

		fine = physical_line(&p, line, (struct slice){ text.p, n });
		if (nl != NULL)
			n++;
		text.p += n;
		text.n -= n;
	}
	if (fine && p.continued)
		end_line(&p);
	buffer_done(&p.logical);
}
