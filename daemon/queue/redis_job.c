/*
 * Sidekiq's jobs, edited as text: what we do not change stays byte for byte
 * as its producer wrote it (64-bit integers, 1.10, the order of members).
 */
#include "base/json.h"
#include "queue/redis_impl.h"

struct scan {
	const char *p, *end;
};

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' ||
	    *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

/* From the opening quote to behind the closing one. */
static bool
skip_string(struct scan *s)
{
	if (s->p == s->end || *s->p != '"')
		return false;
	for (s->p++; s->p < s->end; s->p++) {
		if (*s->p == '\\')
			s->p++;
		else if (*s->p == '"') {
			s->p++;
			return true;
		}
	}
	s->p = s->end;
	return false;
}

static bool
skip_value(struct scan *s)
{
	size_t depth = 0;

	if (s->p == s->end)
		return false;
	if (*s->p == '"')
		return skip_string(s);
	while (s->p < s->end) {
		switch (*s->p) {
		case '"':
			if (!skip_string(s))
				return false;
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return true;	/* the parent's */
			if (--depth == 0) {
				s->p++;
				return true;
			}
			break;
		case ',':
		case ' ':
		case '\t':
		case '\n':
		case '\r':
			if (depth == 0)
				return true;
			break;
		}
		s->p++;
	}
	return false;
}

struct member {
	struct slice name;	/* without quotes, as written */
	struct slice value;
};

/* 1: *m is the next member; 0: the end of the object; -1: not an object. */
static int
next_member(struct scan *s, bool first, struct member *m)
{
	const char *from;

	skip_space(s);
	if (s->p < s->end && *s->p == '}') {
		s->p++;
		skip_space(s);
		return s->p == s->end ? 0 : -1;
	}
	if (!first) {
		if (s->p == s->end || *s->p != ',')
			return -1;
		s->p++;
		skip_space(s);
	}
	from = s->p;
	if (!skip_string(s))
		return -1;
	m->name = (struct slice){ from + 1, (size_t)(s->p - from) - 2 };
	skip_space(s);
	if (s->p == s->end || *s->p != ':')
		return -1;
	s->p++;
	skip_space(s);
	from = s->p;
	if (!skip_value(s) || s->p == from)
		return -1;
	m->value = (struct slice){ from, (size_t)(s->p - from) };
	return 1;
}

static bool
open_object(struct scan *s, struct slice job)
{
	*s = (struct scan){ job.p, job.p + job.n };
	if (job.n == 0)
		return false;
	skip_space(s);
	if (s->p == s->end || *s->p != '{')
		return false;
	s->p++;
	return true;
}

bool
redis_job_is_object(struct slice job)
{
	struct scan s;
	struct member m;
	int r = -1;

	if (!open_object(&s, job))
		return false;
	for (bool first = true; (r = next_member(&s, first, &m)) > 0;)
		first = false;
	return r == 0;
}

struct slice
redis_job_member(struct slice job, const char *name)
{
	struct scan s;
	struct member m;
	struct slice found = { NULL, 0 };

	if (!open_object(&s, job))
		return found;
	/* As parsers do, the last one counts. */
	for (bool first = true; next_member(&s, first, &m) > 0; first = false)
		if (slice_is(m.name, name))
			found = m.value;
	return found;
}

struct slice
redis_job_string(struct slice job, const char *name)
{
	struct slice raw = redis_job_member(job, name);

	if (raw.n < 2 || raw.p[0] != '"')
		return (struct slice){ NULL, 0 };
	return (struct slice){ raw.p + 1, raw.n - 2 };
}

static bool
among(struct slice name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (slice_is(name, *names))
			return true;
	return false;
}

void
redis_job_edit(struct buffer *out, struct slice job,
    const char *const *without)
{
	struct scan s;
	struct member m;
	size_t written = 0;

	buffer_add_char(out, '{');
	if (!open_object(&s, job))
		return;
	for (bool first = true; next_member(&s, first, &m) > 0; first = false) {
		if (among(m.name, without))
			continue;
		if (written++ != 0)
			buffer_add_char(out, ',');
		buffer_add_char(out, '"');
		buffer_add_slice(out, m.name);
		buffer_add_str(out, "\":");
		buffer_add_slice(out, m.value);
	}
}

void
redis_job_add(struct buffer *out, const char *name, struct slice raw)
{
	if (out->data[out->end - 1] != '{')
		buffer_add_char(out, ',');
	json_add_string(out, slice_of(name));
	buffer_add_char(out, ':');
	buffer_add_slice(out, raw);
}

void
redis_job_add_string(struct buffer *out, const char *name, struct slice value)
{
	redis_job_add(out, name, (struct slice){ "", 0 });
	json_add_string(out, value);
}

void
redis_job_end(struct buffer *out)
{
	buffer_add_char(out, '}');
}
