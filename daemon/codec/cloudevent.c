#include "codec/cloudevent.h"

#include <jansson.h>
#include <strings.h>

#include "base/alloc.h"
#include "codec/base64.h"

/* Names in messages are cut to this: they come from the configuration, but
   the sentence must fit. */
#define NAME_SHOWN	80

static int bad(struct error *err, const char *fmt, ...) _printf_(2, 3);

static int
bad(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_vset(err, ERROR_REJECTED, "invalid_format", fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/*
 * Before the parser, which recurses, sees the text.  Whether brackets match
 * is its business; here they are only counted.
 */
static int
check_depth(struct slice s, struct error *err)
{
	size_t depth = 0, line = 1, start = 0;
	bool string = false;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '\n') {
			line++;
			start = i + 1;
		}
		if (string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				string = false;
		} else if (c == '"') {
			string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSON_CHECK_DEPTH)
				return bad(err, "line %zu, column %zu: nested "
				    "deeper than %d levels", line,
				    i - start + 1, JSON_CHECK_DEPTH);
		} else if ((c == ']' || c == '}') && depth != 0) {
			depth--;
		}
	}
	return 0;
}

/* A new reference, or NULL and *err. */
static json_t *
load(struct slice body, struct error *err)
{
	/* Numbers are not used here; as reals none is "too big" for us while
	   it is fine for the producer and the handler. */
	const size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES |
	    JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
	json_error_t je;
	json_t *root;
	char *near;

	if (body.n == 0) {
		bad(err, "the body is empty, JSON was expected");
		return NULL;
	}
	if (check_depth(body, err) < 0)
		return NULL;
	root = json_loadb(body.p, body.n, flags, &je);
	if (root != NULL)
		return root;
	/* "... near 'bytes of the body'" */
	near = strstr(je.text, " near ");
	if (near != NULL)
		*near = '\0';
	bad(err, "line %d, column %d: not valid JSON: %s", je.line, je.column,
	    je.text);
	return NULL;
}

static const char *
type_name(const json_t *j)
{
	if (j == NULL)
		return "nothing";
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

/* One member of a path: cut at the dot, since jansson before 2.14 looks up
   terminated names only. */
static json_t *
member(const json_t *object, const char *name, size_t n)
{
	_cleanup_free_ char *copy = xstrndup(name, n);

	return json_object_get(object, copy);
}

static int
check_path(const json_t *root, const char *path, struct error *err)
{
	const json_t *at = root;
	const char *name = path;

	for (;;) {
		size_t n = strcspn(name, "."), before;

		before = name == path ? 0 : (size_t)(name - path - 1);
		if (!json_is_object(at)) {
			return bad(err, "\"%.*s\" is required, but \"%.*s\" is "
			    "%s, not an object", NAME_SHOWN, path,
			    (int)MIN(before, (size_t)NAME_SHOWN), path,
			    type_name(at));
		}
		at = member(at, name, n);
		if (at == NULL && before != 0)
			return bad(err, "\"%.*s\" is missing: \"%.*s\" has no "
			    "member \"%.*s\"", NAME_SHOWN, path,
			    (int)MIN(before, (size_t)NAME_SHOWN), path,
			    (int)MIN(n, (size_t)NAME_SHOWN), name);
		if (at == NULL)
			return bad(err, "\"%.*s\" is missing: the top object "
			    "has no member \"%.*s\"", NAME_SHOWN, path,
			    (int)MIN(n, (size_t)NAME_SHOWN), name);
		if (name[n] == '\0')
			return 0;
		name += n + 1;
	}
}

static int
check_all(const json_t *root, char *const *require, struct error *err)
{
	int r = 0;

	for (; require != NULL && *require != NULL && r == 0; require++)
		r = check_path(root, *require, err);
	return r;
}

int
json_check(struct slice body, char *const *require, struct error *err)
{
	json_t *root = load(body, err);
	int r = 0;

	if (root == NULL)
		return -EINVAL;
	if (require != NULL && *require != NULL && !json_is_object(root))
		r = bad(err, "the body is %s, but must be an object with "
		    "\"%.*s\"", type_name(root), NAME_SHOWN, *require);
	else
		r = check_all(root, require, err);
	json_decref(root);
	return r;
}

/* ---- CloudEvents ---- */

/* n digits, within the bounds. */
static bool
number(const char *p, int n, unsigned min, unsigned max, unsigned *ret)
{
	unsigned v = 0;

	for (int i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	*ret = v;
	return v >= min && v <= max;
}

/* RFC 3339, section 5.6: "2026-11-23T16:00:00.5+01:00". */
static bool
is_time(const char *s)
{
	static const unsigned char days[] = { 0, 31, 29, 31, 30, 31, 30, 31,
		31, 30, 31, 30, 31 };
	unsigned year, month, day, x;
	bool leap;

	/* Each test reads only behind what the last one found to be there. */
	if (!number(s, 4, 0, 9999, &year) || s[4] != '-' ||
	    !number(s + 5, 2, 1, 12, &month) || s[7] != '-' ||
	    !number(s + 8, 2, 1, days[month], &day) ||
	    (s[10] != 'T' && s[10] != 't') ||
	    !number(s + 11, 2, 0, 23, &x) || s[13] != ':' ||
	    !number(s + 14, 2, 0, 59, &x) || s[16] != ':' ||
	    !number(s + 17, 2, 0, 60, &x))
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (month == 2 && day == 29 && !leap)
		return false;
	s += 19;
	if (*s == '.') {
		size_t n = strspn(s + 1, "0123456789");

		if (n == 0)
			return false;
		s += 1 + n;
	}
	if (*s == 'Z' || *s == 'z')
		return s[1] == '\0';
	return (*s == '+' || *s == '-') && number(s + 1, 2, 0, 23, &x) &&
	    s[3] == ':' && number(s + 4, 2, 0, 59, &x) && s[6] == '\0';
}

/* NULL when it is absent, or null, which is the same. */
static const json_t *
attribute(const json_t *event, const char *name)
{
	const json_t *j = json_object_get(event, name);

	return json_is_null(j) ? NULL : j;
}

static int
check_string(const json_t *event, const char *name, bool required,
    struct error *err)
{
	const json_t *j = attribute(event, name);

	if (j == NULL)
		return required ? bad(err, "\"%s\" is missing: a CloudEvent "
		    "must have specversion, id, source and type", name) : 0;
	if (!json_is_string(j))
		return bad(err, "\"%s\" is %s, but must be a string", name,
		    type_name(j));
	if (json_string_length(j) == 0)
		return bad(err, "\"%s\" is empty", name);
	return 0;
}

static int
check_attributes(const json_t *event, struct error *err)
{
	static const struct {
		const char *name;
		bool required;
	} strings[] = {
		{ "specversion", true }, { "id", true }, { "source", true },
		{ "type", true }, { "time", false },
		{ "datacontenttype", false }, { "dataschema", false },
		{ "subject", false },
	};
	const json_t *j;

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		int r = check_string(event, strings[i].name,
		    strings[i].required, err);

		if (r < 0)
			return r;
	}
	if (strcmp(json_string_value(attribute(event, "specversion")),
	    "1.0") != 0)
		return bad(err, "\"specversion\" must be \"1.0\"");
	j = attribute(event, "time");
	/* A NUL inside would hide what stands behind it. */
	if (j != NULL && (strlen(json_string_value(j)) !=
	    json_string_length(j) || !is_time(json_string_value(j))))
		return bad(err, "\"time\" is not a time of RFC 3339, such as "
		    "\"2026-11-23T16:00:00Z\"");
	return 0;
}

static int
check_data(const json_t *event, struct error *err)
{
	const json_t *j = attribute(event, "data_base64");

	if (j == NULL)
		return 0;
	if (attribute(event, "data") != NULL)
		return bad(err, "both \"data\" and \"data_base64\" are given");
	if (!json_is_string(j))
		return bad(err, "\"data_base64\" is %s, but must be a string",
		    type_name(j));
	if (base64_decode((struct slice){ json_string_value(j),
	    json_string_length(j) }, NULL) < 0)
		return bad(err, "\"data_base64\" is not base64");
	return 0;
}

int
cloudevent_check(struct slice body, char *const *require, struct error *err)
{
	json_t *root = load(body, err);
	int r = 0;

	if (root == NULL)
		return -EINVAL;
	if (json_is_array(root))
		r = bad(err, "the body is an array (a batch of CloudEvents?): "
		    "send each event as a message of its own");
	else if (!json_is_object(root))
		r = bad(err, "the body is %s, but a CloudEvent is an object",
		    type_name(root));
	if (r == 0)
		r = check_attributes(root, err);
	if (r == 0)
		r = check_data(root, err);
	for (char *const *name = require; r == 0 && name != NULL &&
	    *name != NULL; name++) {
		if (strchr(*name, '.') == NULL &&
		    json_is_null(json_object_get(root, *name)))
			r = bad(err, "\"%.*s\" is missing: it is null",
			    NAME_SHOWN, *name);
		else
			r = check_path(root, *name, err);
	}
	json_decref(root);
	return r;
}

/* ---- binary mode ---- */

struct binary {
	struct slice body;
	cloudevent_get_fn *get;
	const void *arg;
	json_t *data;		/* {"data": the body}; NULL: not needed yet */
};

bool
cloudevent_is_structured(struct slice type)
{
	static const char prefix[] = "application/cloudevents";

	return type.n >= sizeof(prefix) - 1 &&
	    strncasecmp(type.p, prefix, sizeof(prefix) - 1) == 0;
}

/* False, and empty, when it is not there. */
static bool
get(const struct binary *b, const char *name, struct cloudevent_value *ret)
{
	if (b->get(b->arg, slice_of(name), ret) &&
	    !(ret->json && slice_is(ret->text, "null")))
		return true;
	*ret = (struct cloudevent_value){ .text = { "", 0 } };
	return false;
}

static int
check_header(const struct binary *b, const char *name, bool required,
    struct cloudevent_value *v, struct error *err)
{
	if (!get(b, name, v))
		return required ? bad(err, "\"ce-%s\" is missing: a "
		    "CloudEvent in binary mode must have ce-specversion, "
		    "ce-id, ce-source and ce-type", name) : 0;
	if (v->json)
		return strcmp(name, "time") == 0 ? 0 :
		    bad(err, "\"ce-%s\" is not a string", name);
	if (v->text.n == 0)
		return bad(err, "\"ce-%s\" is empty", name);
	return 0;
}

/* As text it is RFC 3339; as a number AMQP's seconds since 1970. */
static bool
is_header_time(const struct cloudevent_value *v)
{
	_cleanup_free_ char *text = NULL;
	uint64_t n;

	if (v->json)
		return slice_to_u64(v->text, &n) == 0;
	if (memchr(v->text.p, '\0', v->text.n) != NULL)
		return false;
	text = xstrndup(v->text.p, v->text.n);
	return is_time(text);
}

static int
check_headers(const struct binary *b, struct error *err)
{
	static const char *const required[] = { "id", "source", "type" };
	static const char *const others[] = { "subject", "dataschema" };
	struct cloudevent_value v;
	int r = check_header(b, "specversion", true, &v, err);

	if (r == 0 && !slice_is(v.text, "1.0"))
		r = bad(err, "\"ce-specversion\" must be \"1.0\"");
	for (size_t i = 0; i < ARRAY_SIZE(required) && r == 0; i++)
		r = check_header(b, required[i], true, &v, err);
	for (size_t i = 0; i < ARRAY_SIZE(others) && r == 0; i++)
		r = check_header(b, others[i], false, &v, err);
	if (r == 0)
		r = check_header(b, "time", false, &v, err);
	if (r == 0 && v.text.n != 0 && !is_header_time(&v))
		r = bad(err, "\"ce-time\" is not a time of RFC 3339, such as "
		    "\"2026-11-23T16:00:00Z\"");
	return r;
}

static int
check_required(struct binary *b, const char *name, struct error *err)
{
	struct cloudevent_value v;
	json_t *root;

	if (strcmp(name, "data") == 0)
		return b->body.n != 0 ? 0 : bad(err, "\"data\" is missing: "
		    "the body is empty");
	if (strncmp(name, "data.", 5) != 0)
		return get(b, name, &v) ? 0 : bad(err, "\"ce-%.*s\" is "
		    "missing", NAME_SHOWN, name);
	if (b->data == NULL) {
		root = load(b->body, err);
		if (root == NULL)
			return -EINVAL;
		b->data = json_object();
		if (b->data == NULL ||
		    json_object_set_new(b->data, "data", root) < 0)
			BUG("out of memory");
	}
	return check_path(b->data, name, err);
}

int
cloudevent_check_binary(struct slice body, cloudevent_get_fn *fn,
    const void *arg, char *const *require, struct error *err)
{
	struct binary b = { .body = body, .get = fn, .arg = arg };
	int r = check_headers(&b, err);

	for (; require != NULL && *require != NULL && r == 0; require++)
		r = check_required(&b, *require, err);
	json_decref(b.data);
	return r;
}
