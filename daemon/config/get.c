#include <stdio.h>

#include "base/alloc.h"
#include "config/internal.h"

const char *
config_path(const struct config *c)
{
	return c->path;
}

const char *
config_instance(const struct config *c)
{
	return c->instance;
}

/* ---- problems ---- */

size_t
config_problems(const struct config *c)
{
	return c->nproblems;
}

const char *
config_problem_text(const struct config *c, size_t i)
{
	BUG_ON(i >= c->nproblems);
	return c->problems[i].text;
}

void
config_problem(struct config *c, const struct config_section *s,
    const char *key, const char *fmt, ...)
{
	struct origin o = { c->path, 0, 0 };
	va_list ap;

	if (s != NULL)
		o = s->origin;
	for (size_t i = 0; s != NULL && key != NULL && i < s->nvalues; i++)
		if (s->values[i].set &&
		    strcmp(s->values[i].row->name, key) == 0)
			o = s->values[i].origin;
	va_start(ap, fmt);
	tree_vproblem(c, &o, s != NULL ? s->title : NULL, fmt, ap);
	va_end(ap);
}

int
config_parse_span(const char *text, uint64_t *ret_us, struct buffer *why)
{
	return span_parse(text, ret_us, why);
}

/* ---- sections ---- */

const struct config_section *
config_next(const struct config *c, const char *section,
    const struct config_section *prev)
{
	bool found = prev == NULL;

	for (size_t i = 0; i < c->nsections; i++) {
		if (!found)
			found = c->sections[i] == prev;
		else if (strcmp(c->sections[i]->name, section) == 0)
			return c->sections[i];
	}
	return NULL;
}

const struct config_section *
config_find(const struct config *c, const char *section, const char *label)
{
	if (label == NULL)
		label = "";
	for (size_t i = 0; i < c->nsections; i++)
		if (strcmp(c->sections[i]->name, section) == 0 &&
		    strcmp(c->sections[i]->label, label) == 0)
			return c->sections[i];
	return NULL;
}

const char *
config_label(const struct config_section *s)
{
	return s->label;
}

const char *
config_title(const struct config_section *s)
{
	return s->title;
}

/* ---- values ---- */

static const struct value *
any_value(const struct config_section *s, const char *key)
{
	for (size_t i = 0; i < s->nvalues; i++)
		if (strcmp(s->values[i].row->name, key) == 0)
			return &s->values[i];
	BUG("%s has no key %s", s->title, key);
}

static const struct parsed *
value_of(const struct config_section *s, const char *key,
    enum config_type type)
{
	const struct value *v = any_value(s, key);

	if (v->row->type != type)
		BUG("%s: %s= is not of type %d", s->title, key, (int)type);
	return &v->parsed;
}

bool
config_is_set(const struct config_section *s, const char *key)
{
	return any_value(s, key)->set;
}

const char *
config_string(const struct config_section *s, const char *key)
{
	const struct value *v = any_value(s, key);

	switch (v->row->type) {
	case CONFIG_STRING:
	case CONFIG_PATH:
	case CONFIG_ADDRESS:
	case CONFIG_CHOICE:
		return v->parsed.text;
	default:
		BUG("%s: %s= is not a string", s->title, key);
	}
}

char *
config_copy(const struct config_section *s, const char *key)
{
	const char *text = config_string(s, key);

	return text != NULL && *text != '\0' ? xstrdup(text) : NULL;
}

bool
config_bool(const struct config_section *s, const char *key)
{
	return value_of(s, key, CONFIG_BOOL)->min != 0;
}

uint64_t
config_unsigned(const struct config_section *s, const char *key)
{
	return value_of(s, key, CONFIG_UNSIGNED)->min;
}

uint64_t
config_bytes(const struct config_section *s, const char *key)
{
	return value_of(s, key, CONFIG_BYTES)->min;
}

uint64_t
config_span_us(const struct config_section *s, const char *key)
{
	return value_of(s, key, CONFIG_SPAN)->min;
}

void
config_range(const struct config_section *s, const char *key,
    uint64_t *ret_min, uint64_t *ret_max)
{
	const struct value *v = any_value(s, key);

	if (v->row->type != CONFIG_UNSIGNED_RANGE &&
	    v->row->type != CONFIG_SPAN_RANGE)
		BUG("%s: %s= is not a range", s->title, key);
	*ret_min = v->parsed.min;
	*ret_max = v->parsed.max;
}

double
config_rate(const struct config_section *s, const char *key)
{
	return value_of(s, key, CONFIG_RATE)->rate;
}

unsigned
config_percent(const struct config_section *s, const char *key)
{
	return (unsigned)value_of(s, key, CONFIG_PERCENT)->min;
}

unsigned
config_choice(const struct config_section *s, const char *key)
{
	return (unsigned)value_of(s, key, CONFIG_CHOICE)->min;
}

char *const *
config_words(const struct config_section *s, const char *key)
{
	static char *const none[] = { NULL };
	const struct parsed *p = value_of(s, key, CONFIG_WORDS);

	return p->words != NULL ? p->words : none;
}

const char *
config_origin(const struct config_section *s, const char *key)
{
	const struct value *v = any_value(s, key);

	return v->set ? v->origin_text : "default";
}
