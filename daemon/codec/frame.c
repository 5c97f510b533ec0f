#include "codec/frame.h"

/*
 * Decoding is on the path of every message, twice: hence the hand-written
 * number and word readers, which walk the line once and look at nothing twice.
 */
struct line {
	const char *p, *end;	/* end: the newline */
};

static const struct verb {
	const char *text;	/* with the separator behind it */
	size_t n;
	enum frame_kind kind;
	bool from_worker;
} verbs[] = {
	{ "DONE ", 5, FRAME_DONE, true },
	{ "RETRY ", 6, FRAME_RETRY, true },
	{ "DEAD ", 5, FRAME_DEAD, true },
	{ "TOUCH ", 6, FRAME_TOUCH, true },
	{ "READY ", 6, FRAME_READY, true },
	{ "MSG ", 4, FRAME_MSG, false },
	{ "CANCEL ", 7, FRAME_CANCEL, false },
	{ "DRAIN\n", 6, FRAME_DRAIN, false },
	{ "HELLO ", 6, FRAME_HELLO, false },
};

/* The verb that the bytes start with; *ret_partial when more could make one. */
static const struct verb *
find_verb(struct slice in, bool from_worker, bool *ret_partial)
{
	*ret_partial = false;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		const struct verb *v = &verbs[i];

		if (v->from_worker != from_worker || v->text[0] != in.p[0])
			continue;
		if (memcmp(v->text, in.p, MIN(v->n, in.n)) != 0)
			continue;
		if (in.n >= v->n)
			return v;
		*ret_partial = true;
	}
	return NULL;
}

/* Digits up to the separator that must follow, which is consumed too. */
static bool
take_number(struct line *l, char separator, uint64_t *ret)
{
	const char *p = l->p;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (unlikely(n > (UINT64_MAX - digit) / 10))
			return false;
		n = n * 10 + digit;
	}
	if (p == l->p || *p != separator)
		return false;
	l->p = p + 1;
	*ret = n;
	return true;
}

/* Visible characters; bytes of UTF-8 pass. */
static bool
take_word(struct line *l, char separator, struct slice *ret)
{
	const char *p = l->p;

	while ((unsigned char)*p > ' ' && *p != 0x7f)
		p++;
	if (p == l->p || *p != separator)
		return false;
	*ret = (struct slice){ l->p, (size_t)(p - l->p) };
	l->p = p + 1;
	return true;
}

static bool
take_delay(struct line *l, uint64_t *ret)
{
	if (l->p[0] == '-' && l->p[1] == ' ') {
		l->p += 2;
		*ret = FRAME_DELAY_DEFAULT;
		return true;
	}
	return take_number(l, ' ', ret);
}

static ssize_t
refuse(struct error *err, struct slice in, const char *why)
{
	char text[49];
	size_t n = MIN(in.n, sizeof(text) - 1);

	/* What it said helps to find the print that went astray. */
	for (size_t i = 0; i < n; i++)
		text[i] = in.p[i] >= ' ' && in.p[i] < 0x7f ? in.p[i] : '.';
	text[n] = '\0';
	error_set(err, ERROR_PROTOCOL, "frame", "%s at \"%s\"", why, text);
	return -EPROTO;
}

/*
 * All fields are read by characters that must be there, and the line ends
 * with a newline, so no reader runs past it.
 */
static bool
take_fields(struct line *l, struct frame *f, uint64_t *ret_a, uint64_t *ret_b)
{
	switch (f->kind) {
	case FRAME_DONE:
	case FRAME_CANCEL:
		return take_number(l, '\n', &f->id);
	case FRAME_MSG:
		return take_number(l, ' ', &f->id) &&
		    take_word(l, ' ', &f->word) &&
		    take_number(l, ' ', &f->attempt) &&
		    take_number(l, ' ', &f->timeout_ms) &&
		    take_number(l, ' ', ret_a) && take_number(l, '\n', ret_b);
	case FRAME_RETRY:
		return take_number(l, ' ', &f->id) &&
		    take_delay(l, &f->number) && take_word(l, ' ', &f->word) &&
		    take_number(l, '\n', ret_a);
	case FRAME_DEAD:
		return take_number(l, ' ', &f->id) &&
		    take_word(l, ' ', &f->word) && take_number(l, '\n', ret_a);
	case FRAME_TOUCH:
		return take_number(l, ' ', &f->id) &&
		    take_number(l, '\n', &f->number);
	case FRAME_READY:
		return take_number(l, '\n', &f->number) && f->number != 0;
	case FRAME_HELLO:
		return take_number(l, ' ', &f->number) &&
		    take_word(l, '\n', &f->word);
	case FRAME_DRAIN:
		l->p = l->end + 1;
		return true;
	case FRAME_NONE:
		break;
	}
	return false;
}

ssize_t
frame_decode(struct slice in, bool from_worker, size_t payload_max,
    struct frame *ret, struct error *err)
{
	uint64_t a = 0, b = 0;
	const struct verb *verb;
	struct line line;
	size_t head;
	bool partial;

	if (in.n == 0)
		return 0;
	verb = find_verb(in, from_worker, &partial);
	if (unlikely(verb == NULL))
		return partial ? 0 : refuse(err, in, "not a frame");
	line.end = memchr(in.p, '\n', MIN(in.n, FRAME_LINE_MAX));
	if (line.end == NULL)
		return in.n < FRAME_LINE_MAX ? 0 :
		    refuse(err, in, "a line without an end");
	*ret = (struct frame){ .kind = verb->kind };
	line.p = in.p + (verb->kind == FRAME_DRAIN ? 0 : verb->n);
	if (unlikely(!take_fields(&line, ret, &a, &b)))
		return refuse(err, (struct slice){ in.p,
		    (size_t)(line.end - in.p) }, "wrong fields");
	if (unlikely(line.p != line.end + 1))
		return refuse(err, in, "wrong fields");
	if (unlikely(a > payload_max || b > payload_max))
		return refuse(err, in, "too large a payload");
	head = (size_t)(line.p - in.p);
	if (in.n - head < a || in.n - head - (size_t)a < b)
		return 0;
	if (verb->kind == FRAME_MSG) {
		ret->attributes = (struct slice){ line.p, (size_t)a };
		ret->body = (struct slice){ line.p + a, (size_t)b };
	} else {
		ret->detail = (struct slice){ line.p, (size_t)a };
	}
	return (ssize_t)(head + (size_t)a + (size_t)b);
}

/* ---- writing ---- */

#define WORD_MAX	((size_t)200)	/* so that a line fits FRAME_LINE_MAX */

static char *
put(char *p, const char *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

#define PUT(p, literal)	put(p, literal, sizeof(literal) - 1)

static char *
put_number(char *p, uint64_t n)
{
	return p + fmt_u64(p, n);
}

/* A word has no white space and is not empty. */
static char *
put_word(char *p, struct slice word)
{
	size_t n = MIN(word.n, WORD_MAX);

	if (n == 0)
		*p++ = '-';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)word.p[i];

		*p++ = c > ' ' && c != 0x7f ? (char)c : '_';
	}
	return p;
}

static void
finish(struct buffer *b, const char *end)
{
	buffer_commit(b, (size_t)(end - (b->data + b->end)));
}

void
frame_add_hello(struct buffer *b, const char *instance)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX);

	p = PUT(p, "HELLO ");
	p = put_number(p, FRAME_VERSION);
	*p++ = ' ';
	p = put_word(p, slice_of(instance));
	*p++ = '\n';
	finish(b, p);
}

void
frame_add_msg(struct buffer *b, uint64_t id, struct slice queue,
    unsigned attempt, uint64_t timeout_ms, struct slice attributes,
    struct slice body)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX + attributes.n + body.n);

	p = PUT(p, "MSG ");
	p = put_number(p, id);
	*p++ = ' ';
	p = put_word(p, queue);
	*p++ = ' ';
	p = put_number(p, attempt);
	*p++ = ' ';
	p = put_number(p, timeout_ms);
	*p++ = ' ';
	p = put_number(p, attributes.n);
	*p++ = ' ';
	p = put_number(p, body.n);
	*p++ = '\n';
	if (attributes.n != 0)
		p = put(p, attributes.p, attributes.n);
	if (body.n != 0)
		p = put(p, body.p, body.n);
	finish(b, p);
}

void
frame_add_cancel(struct buffer *b, uint64_t id)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX);

	p = put_number(PUT(p, "CANCEL "), id);
	*p++ = '\n';
	finish(b, p);
}

void
frame_add_drain(struct buffer *b)
{
	buffer_add_str(b, "DRAIN\n");
}

void
frame_add_ready(struct buffer *b, unsigned n)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX);

	p = put_number(PUT(p, "READY "), n);
	*p++ = '\n';
	finish(b, p);
}

void
frame_add_done(struct buffer *b, uint64_t id)
{
	char *p = buffer_reserve(b, 32);

	p = put_number(PUT(p, "DONE "), id);
	*p++ = '\n';
	finish(b, p);
}

static char *
put_failure(char *p, struct slice error_type, struct slice detail)
{
	*p++ = ' ';
	p = put_word(p, error_type);
	*p++ = ' ';
	p = put_number(p, detail.n);
	*p++ = '\n';
	if (detail.n != 0)
		p = put(p, detail.p, detail.n);
	return p;
}

void
frame_add_retry(struct buffer *b, uint64_t id, uint64_t delay_ms,
    struct slice error_type, struct slice detail)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX + detail.n);

	p = put_number(PUT(p, "RETRY "), id);
	*p++ = ' ';
	if (delay_ms == FRAME_DELAY_DEFAULT)
		*p++ = '-';
	else
		p = put_number(p, delay_ms);
	finish(b, put_failure(p, error_type, detail));
}

void
frame_add_dead(struct buffer *b, uint64_t id, struct slice error_type,
    struct slice detail)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX + detail.n);

	p = put_number(PUT(p, "DEAD "), id);
	finish(b, put_failure(p, error_type, detail));
}

void
frame_add_touch(struct buffer *b, uint64_t id, uint64_t extend_ms)
{
	char *p = buffer_reserve(b, FRAME_LINE_MAX);

	p = put_number(PUT(p, "TOUCH "), id);
	*p++ = ' ';
	p = put_number(p, extend_ms);
	*p++ = '\n';
	finish(b, p);
}
