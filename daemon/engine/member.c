/*
 * What OrderBy= and keys like it name in a message.
 */
#include "base/alloc.h"
#include "codec/json_scan.h"
#include "engine/message.h"

#define SCRATCH_BYTES	(64 * KIB)

static bool
is_whole(struct slice s)
{
	size_t i = s.n != 0 && s.p[0] == '-';

	if (i == s.n)
		return false;
	while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
		i++;
	return i == s.n;
}

static struct slice
read_value(struct json_scan *s)
{
	struct slice value = { NULL, 0 };

	switch (json_scan_peek(s)) {
	case JSON_SCAN_STRING:
		(void)json_scan_string(s, &value);
		break;
	case JSON_SCAN_NUMBER:
		(void)json_scan_raw(s, &value);
		if (!is_whole(value))
			value = (struct slice){ NULL, 0 };
		break;
	default:
		(void)json_scan_skip(s);
	}
	return value;
}

/* One level for each name of the path.  Of a key that is there twice the last
   counts, as it does for those who will read the body after us. */
static struct slice
find(struct json_scan *s, const char *path)
{
	size_t n = strcspn(path, ".");
	struct slice value = { NULL, 0 }, key, name = { path, n };

	if (*path == '\0')
		return read_value(s);
	if (json_scan_peek(s) != JSON_SCAN_OBJECT) {
		(void)json_scan_skip(s);
		return value;
	}
	(void)json_scan_enter_object(s);
	while (json_scan_next_key(s, &key)) {
		if (slice_eq(key, name))
			value = find(s, path + n + (path[n] == '.'));
		else
			(void)json_scan_skip(s);
	}
	return value;
}

static struct slice
member(struct message *m, const char *path)
{
	static char scratch[SCRATCH_BYTES];
	_cleanup_free_ char *large = NULL;
	struct slice value;
	struct json_scan s;
	char *text = scratch;

	if (m->body.n == 0)
		return (struct slice){ NULL, 0 };
	/* The body itself must stay as it is. */
	if (m->body.n > sizeof(scratch))
		text = large = xmalloc(m->body.n);
	memcpy(text, m->body.p, m->body.n);
	json_scan_init(&s, text, m->body.n);
	value = find(&s, path);
	if (json_scan_end(&s) < 0 || value.p == NULL)
		return (struct slice){ NULL, 0 };
	return chunk_copy(m->chunk, value.p, value.n);
}

struct slice
message_value(struct message *m, const char *by)
{
	const struct attribute *a;

	if (by[0] == '.')
		return member(m, by + 1);
	a = message_attribute(m, by);
	return a != NULL ? a->value : (struct slice){ NULL, 0 };
}
