#include "codec/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "codec/json_scan_string.h"

#define NUMBER_MAX	63

/* ---- where it is ---- */

void
json_scan_init(struct json_scan *s, char *text, size_t n)
{
	*s = (struct json_scan){ .text = text, .at = text, .end = text + n };
}

/* Nothing is there any more then, for nobody. */
static bool
fail(struct json_scan *s, const char *what)
{
	if (s->error == NULL) {
		s->error = what;
		s->error_at = (size_t)(s->at - s->text);
	}
	s->at = s->end;
	return false;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The next byte that is no blank; 0 at the end, where nothing may come. */
static char
look(struct json_scan *s)
{
	while (s->at != s->end && is_blank(*s->at))
		s->at++;
	return s->at != s->end ? *s->at : '\0';
}

int
json_scan_end(struct json_scan *s)
{
	(void)look(s);
	if (s->error == NULL && s->at != s->end)
		(void)fail(s, "something follows the value");
	else if (s->error == NULL && s->depth != 0)
		(void)fail(s, "the text ends too early");
	return s->error == NULL ? 0 : -EPROTO;
}

/* ---- scalars ---- */

static bool
string(struct json_scan *s, struct slice *ret, bool keep)
{
	char *at;
	const char *wrong = json_scan_unquote(s->at + 1, s->end, keep, ret,
	    &at);

	s->at = at;
	return wrong == NULL || fail(s, wrong);
}

static const char *
digits(const char *p, const char *end)
{
	while (p != end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* Behind the number that begins at p; NULL when none does. */
static const char *
number_end(const char *p, const char *end, bool *ret_exponent)
{
	const char *from;

	*ret_exponent = false;
	if (p != end && *p == '-')
		p++;
	from = p;
	p = digits(p, end);
	if (p == from || (*from == '0' && p - from > 1))
		return NULL;
	if (p != end && *p == '.') {
		from = ++p;
		p = digits(p, end);
		if (p == from)
			return NULL;
	}
	if (p != end && (*p == 'e' || *p == 'E')) {
		*ret_exponent = true;
		p++;
		if (p != end && (*p == '+' || *p == '-'))
			p++;
		from = p;
		p = digits(p, end);
		if (p == from)
			return NULL;
	}
	return p;
}

bool
json_scan_is_number(struct slice text)
{
	char copy[NUMBER_MAX + 1];
	bool exponent;

	if (text.n == 0 || text.n > NUMBER_MAX || number_end(text.p,
	    text.p + text.n, &exponent) != text.p + text.n)
		return false;
	if (!exponent)
		return true;
	/* Nobody here sets another locale, with another decimal point. */
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	return isfinite(strtod(copy, NULL));
}

static bool
number(struct json_scan *s)
{
	bool exponent;
	const char *end = number_end(s->at, s->end, &exponent);

	if (end == NULL)
		return fail(s, "a number that is none");
	s->at += end - s->at;
	return true;
}

static bool
word(struct json_scan *s, struct slice want)
{
	if ((size_t)(s->end - s->at) < want.n ||
	    memcmp(s->at, want.p, want.n) != 0)
		return fail(s, "a word that JSON does not have");
	s->at += want.n;
	return true;
}

/* ---- going in ---- */

enum json_scan_kind
json_scan_peek(struct json_scan *s)
{
	switch (look(s)) {
	case '{':
		return JSON_SCAN_OBJECT;
	case '[':
		return JSON_SCAN_ARRAY;
	case '"':
		return JSON_SCAN_STRING;
	case 't':
		return JSON_SCAN_TRUE;
	case 'f':
		return JSON_SCAN_FALSE;
	case 'n':
		return JSON_SCAN_NULL;
	case '-': case '0': case '1': case '2': case '3': case '4':
	case '5': case '6': case '7': case '8': case '9':
		return JSON_SCAN_NUMBER;
	default:
		return JSON_SCAN_NOTHING;
	}
}

static bool
enter(struct json_scan *s, char open, const char *wanted)
{
	if (look(s) != open)
		return fail(s, wanted);
	if (s->depth == JSON_SCAN_DEPTH_MAX)
		return fail(s, "nested too deeply");
	s->depth++;
	s->at++;
	s->first = true;
	return true;
}

bool
json_scan_enter_object(struct json_scan *s)
{
	return enter(s, '{', "no object where one must be");
}

bool
json_scan_enter_array(struct json_scan *s)
{
	return enter(s, '[', "no array where one must be");
}

/* True: another member or element must come now. */
static bool
another(struct json_scan *s, char close)
{
	bool first = s->first;
	char c = look(s);

	s->first = false;
	if (s->error != NULL)
		return false;
	if (c == close && s->depth != 0) {
		s->at++;
		s->depth--;
		return false;
	}
	if (first)
		return true;
	if (c != ',')
		return fail(s, "neither a comma nor the end of what was begun");
	s->at++;
	return true;
}

static bool
colon(struct json_scan *s)
{
	if (look(s) != ':')
		return fail(s, "a key without a colon");
	s->at++;
	return true;
}

bool
json_scan_next_key(struct json_scan *s, struct slice *ret)
{
	if (!another(s, '}'))
		return false;
	if (look(s) != '"')
		return fail(s, "no key where one must be");
	return string(s, ret, true) && colon(s);
}

bool
json_scan_next_element(struct json_scan *s)
{
	if (!another(s, ']'))
		return false;
	/* Its value's function would say so too, but may not be called. */
	return json_scan_peek(s) != JSON_SCAN_NOTHING ||
	    fail(s, "no value where one must be");
}

/* ---- values ---- */

bool
json_scan_string(struct json_scan *s, struct slice *ret)
{
	if (look(s) != '"')
		return fail(s, "no string where one must be");
	return string(s, ret, true);
}

bool
json_scan_text(struct json_scan *s, struct slice *ret)
{
	if (look(s) == '"')
		return string(s, ret, true);
	*ret = (struct slice){ NULL, 0 };
	return json_scan_skip(s);
}

void
json_scan_texts(struct json_scan *s, const struct json_scan_member *members,
    size_t n)
{
	struct slice key;
	size_t i;

	if (json_scan_peek(s) != JSON_SCAN_OBJECT) {
		(void)json_scan_skip(s);
		return;
	}
	(void)json_scan_enter_object(s);
	while (json_scan_next_key(s, &key)) {
		for (i = 0; i < n && !slice_is(key, members[i].name); i++)
			continue;
		if (i < n)
			(void)json_scan_text(s, members[i].text);
		else
			(void)json_scan_skip(s);
	}
}

static bool
skip_scalar(struct json_scan *s)
{
	switch (json_scan_peek(s)) {
	case JSON_SCAN_STRING:
		return string(s, NULL, false);
	case JSON_SCAN_NUMBER:
		return number(s);
	case JSON_SCAN_TRUE:
		return word(s, SLICE("true"));
	case JSON_SCAN_FALSE:
		return word(s, SLICE("false"));
	case JSON_SCAN_NULL:
		return word(s, SLICE("null"));
	default:
		return fail(s, "no value where one must be");
	}
}

/* The next thing inside an object or array, up to its value; false at its end
   or after an error. */
static bool
skip_to_value(struct json_scan *s, bool object)
{
	if (!object)
		return json_scan_next_element(s);
	if (!another(s, '}'))
		return false;
	if (look(s) != '"')
		return fail(s, "no key where one must be");
	return string(s, NULL, false) && colon(s);
}

/* No recursion: what is open is an object (1) or an array (0), by depth. */
static bool
skip_all(struct json_scan *s)
{
	uint64_t objects[(JSON_SCAN_DEPTH_MAX + 63) / 64] = { 0 };
	unsigned start = s->depth;

	for (;;) {
		enum json_scan_kind kind = json_scan_peek(s);
		unsigned at = s->depth;

		if (kind == JSON_SCAN_OBJECT || kind == JSON_SCAN_ARRAY) {
			bool object = kind == JSON_SCAN_OBJECT;
			uint64_t bit = (uint64_t)1 << (at & 63);

			if (!enter(s, object ? '{' : '[', ""))
				return false;
			objects[at / 64] = object ? objects[at / 64] | bit :
			    objects[at / 64] & ~bit;
		} else if (!skip_scalar(s)) {
			return false;
		}
		do {
			if (s->depth == start)
				return s->error == NULL;
			at = s->depth - 1;
		} while (!skip_to_value(s, objects[at / 64] >> (at & 63) & 1) &&
		    s->error == NULL);
		if (s->error != NULL)
			return false;
	}
}

bool
json_scan_skip(struct json_scan *s)
{
	char c = look(s);

	return c == '{' || c == '[' ? skip_all(s) : skip_scalar(s);
}

bool
json_scan_raw(struct json_scan *s, struct slice *ret)
{
	char *from;

	(void)look(s);
	from = s->at;
	if (!json_scan_skip(s))
		return false;
	*ret = (struct slice){ from, (size_t)(s->at - from) };
	return true;
}
