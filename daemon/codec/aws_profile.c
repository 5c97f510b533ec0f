/*
 * The text is copied once and cut up in place: names, values and joined
 * continuations only ever get shorter, so nothing else holds a secret.
 */
#include "codec/aws_profile.h"

#include "base/alloc.h"
#include "base/secret.h"

struct section {
	enum aws_section kind;	/* 0: passed over */
	const char *name;
	bool bare_default;	/* "[default]" in config */
};

struct property {
	size_t section;
	const char *key, *sub;	/* sub: NULL unless it is a sub-property */
	char *value;
};

struct aws_profiles {
	char *text;
	size_t size;
	struct section *sections;
	size_t nsections, sections_room;
	struct property *properties;
	size_t nproperties, properties_room;
};

struct parser {
	struct aws_profiles *out;
	enum aws_profile_file file;
	unsigned line;
	struct error *err;
	bool in_property;
	bool real_default;	/* "[profile default]" was seen */
	size_t indent;		/* of the current property */
	char *value_end;	/* where its value ends (a NUL) */
	const char *parent;	/* its key when it has no value, else NULL */
};

static int
refuse(const struct parser *p, const char *what)
{
	error_set(p->err, ERROR_REJECTED, "aws_profile", "line %u: %s", p->line,
	    what);
	return -EINVAL;
}

/* ---- the tables ---- */

static void *
grow(void *table, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return table;
	*room = *room == 0 ? 16 : *room * 2;
	return xreallocarray(table, *room, size);
}

static void
add_section(struct aws_profiles *o, struct section s)
{
	o->sections = grow(o->sections, o->nsections, &o->sections_room,
	    sizeof(*o->sections));
	o->sections[o->nsections++] = s;
}

static void
add_property(struct aws_profiles *o, const char *key, const char *sub,
    char *value)
{
	o->properties = grow(o->properties, o->nproperties,
	    &o->properties_room, sizeof(*o->properties));
	o->properties[o->nproperties++] = (struct property){
		o->nsections - 1, key, sub, value };
}

/* ---- pieces of text ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_comment(char c)
{
	return c == '#' || c == ';';
}

/* Both ends; to is where the NUL goes. */
static char *
trim(char *from, char *to)
{
	while (from < to && is_blank(*from))
		from++;
	while (to > from && is_blank(to[-1]))
		to--;
	*to = '\0';
	return from;
}

/* The value behind '='; a comment counts behind a blank only. */
static char *
cut_value(char *from, char *to)
{
	for (char *c = from; c < to; c++)
		if (is_comment(*c) && c > from && is_blank(c[-1])) {
			to = c;
			break;
		}
	return trim(from, to);
}

static void
lower(char *s)
{
	for (; *s != '\0'; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s + ('a' - 'A'));
}

/* ---- section headers ---- */

static char *
unquote(char *name)
{
	size_t n = strlen(name);

	if (n >= 2 && (name[0] == '"' || name[0] == '\'') &&
	    name[n - 1] == name[0]) {
		name[n - 1] = '\0';
		return name + 1;
	}
	return name;
}

/* What follows "profile " and the like; NULL when that is not the prefix. */
static char *
after_prefix(char *name, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(name, prefix, n) != 0 || !is_blank(name[n]))
		return NULL;
	name += n;
	return unquote(trim(name, name + strlen(name)));
}

static struct section
name_section(struct parser *p, char *name)
{
	static const struct {
		const char *prefix;
		enum aws_section kind;
	} kinds[] = {
		{ "profile", AWS_SECTION_PROFILE },
		{ "services", AWS_SECTION_SERVICES },
		{ "sso-session", AWS_SECTION_SSO_SESSION },
	};

	if (p->file == AWS_FILE_CREDENTIALS)
		return (struct section){ AWS_SECTION_PROFILE, unquote(name),
			false };
	if (strcmp(name, "default") == 0)
		return (struct section){ AWS_SECTION_PROFILE, name, true };
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char *rest = after_prefix(name, kinds[i].prefix);

		if (rest == NULL)
			continue;
		if (kinds[i].kind == AWS_SECTION_PROFILE &&
		    strcmp(rest, "default") == 0)
			p->real_default = true;
		return (struct section){ kinds[i].kind, rest, false };
	}
	return (struct section){ 0, name, false };
}

static int
parse_header(struct parser *p, char *at, char *end)
{
	char *close = memchr(at, ']', (size_t)(end - at)), *rest, *name;
	struct section s;

	if (close == NULL)
		return refuse(p, "no ']' behind the section's name");
	for (rest = close + 1; rest < end && is_blank(*rest); rest++)
		;
	if (rest < end && !is_comment(*rest))
		return refuse(p, "something behind the ']' of a section");
	name = trim(at + 1, close);
	s = name_section(p, name);
	if (s.name[0] == '\0')
		return refuse(p, "a section without a name");
	add_section(p->out, s);
	p->in_property = false;
	return 0;
}

/* ---- properties ---- */

/* Cuts "key = value" up; end may be written to. */
static int
cut_property(struct parser *p, char *at, char *end, char **ret_key,
    char **ret_value)
{
	char *equals = memchr(at, '=', (size_t)(end - at));

	if (equals == NULL)	/* the CLI knows this too */
		equals = memchr(at, ':', (size_t)(end - at));
	if (equals == NULL)
		return refuse(p, "no '=' in it");
	*ret_value = cut_value(equals + 1, end);
	*ret_key = trim(at, equals);
	if (**ret_key == '\0')
		return refuse(p, "nothing in front of the '='");
	lower(*ret_key);
	return 0;
}

static int
parse_property(struct parser *p, char *at, char *end, size_t indent)
{
	char *key, *value;

	if (p->out->nsections == 0)
		return refuse(p, "a property in front of the first section");
	if (cut_property(p, at, end, &key, &value) < 0)
		return -EINVAL;
	add_property(p->out, key, NULL, value);
	p->in_property = true;
	p->indent = indent;
	p->value_end = value + strlen(value);
	p->parent = *value == '\0' ? key : NULL;
	return 0;
}

static int
parse_continuation(struct parser *p, char *at, char *end)
{
	char *key, *value;
	size_t n;

	if (p->parent != NULL) {
		if (cut_property(p, at, end, &key, &value) < 0)
			return -EINVAL;
		add_property(p->out, p->parent, key, value);
		return 0;
	}
	/* There is room: the text that ended the value's line. */
	at = trim(at, end);
	n = strlen(at);
	*p->value_end = '\n';
	memmove(p->value_end + 1, at, n + 1);
	p->value_end += 1 + n;
	return 0;
}

static int
parse_line(struct parser *p, char *line, char *end)
{
	char *at = line;
	size_t indent;

	if (end > line && end[-1] == '\r')
		end--;
	while (at < end && is_blank(*at))
		at++;
	if (at == end || is_comment(*at))
		return 0;
	indent = (size_t)(at - line);
	if (p->in_property && indent > p->indent)
		return parse_continuation(p, at, end);
	if (*at == '[')
		return parse_header(p, at, end);
	return parse_property(p, at, end, indent);
}

static int
parse(struct parser *p)
{
	char *at = p->out->text, *last = at + p->out->size;

	if (p->out->size >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
		at += 3;
	while (at < last) {
		char *end = memchr(at, '\n', (size_t)(last - at));

		if (end == NULL)
			end = last;
		p->line++;
		if (memchr(at, '\0', (size_t)(end - at)) != NULL)
			return refuse(p, "a NUL byte");
		if (parse_line(p, at, end) < 0)
			return -EINVAL;
		at = end + 1;
	}
	if (p->real_default)
		for (size_t i = 0; i < p->out->nsections; i++)
			if (p->out->sections[i].bare_default)
				p->out->sections[i].kind = 0;
	return 0;
}

struct aws_profiles *
aws_profiles_parse(enum aws_profile_file file, struct slice text,
    struct error *err)
{
	struct aws_profiles *o = new0(struct aws_profiles);
	struct parser p = { .out = o, .file = file, .err = err };

	o->size = text.n;
	o->text = xmalloc(text.n + 1);
	if (text.n != 0)
		memcpy(o->text, text.p, text.n);
	o->text[text.n] = '\0';
	if (parse(&p) < 0) {
		aws_profiles_free(o);
		return NULL;
	}
	return o;
}

void
aws_profiles_free(struct aws_profiles *o)
{
	if (o == NULL)
		return;
	secret_wipe(o->text, o->size);
	free(o->text);
	free(o->sections);
	free(o->properties);
	free(o);
}

/* ---- asking ---- */

static bool
is_section(const struct section *s, enum aws_section kind, const char *name)
{
	return s->kind == kind && strcmp(s->name, name) == 0;
}

bool
aws_profiles_has(const struct aws_profiles *o, enum aws_section kind,
    const char *name)
{
	for (size_t i = 0; o != NULL && i < o->nsections; i++)
		if (is_section(&o->sections[i], kind, name))
			return true;
	return false;
}

/* The last one of that key; NULL. */
static const struct property *
find(const struct aws_profiles *o, enum aws_section kind, const char *name,
    const char *key)
{
	for (size_t i = o != NULL ? o->nproperties : 0; i-- > 0;) {
		const struct property *p = &o->properties[i];

		if (p->sub == NULL && strcmp(p->key, key) == 0 &&
		    is_section(&o->sections[p->section], kind, name))
			return p;
	}
	return NULL;
}

const char *
aws_profiles_get(const struct aws_profiles *o, enum aws_section kind,
    const char *name, const char *key)
{
	const struct property *p = find(o, kind, name, key);

	return p != NULL ? p->value : NULL;
}

const char *
aws_profiles_get_sub(const struct aws_profiles *o, enum aws_section kind,
    const char *name, const char *key, const char *sub)
{
	const struct property *p = find(o, kind, name, key);
	const char *value = NULL;

	if (p == NULL)
		return NULL;
	while (++p < o->properties + o->nproperties && p->sub != NULL)
		if (strcmp(p->sub, sub) == 0)
			value = p->value;
	return value;
}

void
aws_profiles_visit(const struct aws_profiles *o, aws_profiles_visit_fn *fn,
    void *arg)
{
	for (size_t i = 0; o != NULL && i < o->nproperties; i++) {
		const struct property *p = &o->properties[i];
		const struct section *s = &o->sections[p->section];

		if (s->kind != 0)
			fn(arg, s->kind, s->name, p->key, p->sub, p->value);
	}
}
