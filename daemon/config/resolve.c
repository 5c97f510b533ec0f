#include "base/alloc.h"
#include "config/internal.h"

static struct value *
find(const struct config_section *s, const char *key)
{
	for (size_t i = 0; i < s->nvalues; i++)
		if (strcmp(s->values[i].row->name, key) == 0)
			return &s->values[i];
	return NULL;
}

static void
add_row(struct config_section *s, const struct config_key *row)
{
	if (find(s, row->name) == NULL)
		s->values[s->nvalues++].row = row;
}

static void
reset(struct value *v)
{
	v->set = false;
	v->parsed.text = NULL;
	v->parsed.min = v->parsed.max = 0;
	v->parsed.rate = 0;
	v->parsed.nwords = 0;
	if (v->parsed.words != NULL)
		v->parsed.words[0] = NULL;
}

static void
assign(struct config *c, struct config_section *s, struct value *v,
    const struct assignment *a)
{
	struct value_context context = { c->chunk, c->dir, c->instance };
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;

	v->tried = true;
	if (*a->text == '\0') {
		reset(v);
		v->tried = false;
		return;
	}
	if (value_parse(v->row, a->text, &context, &v->parsed, &why) < 0) {
		tree_problem(c, &a->origin, "%s: %s=%.80s: %s", s->title,
		    v->row->name, a->text, buffer_cstr(&why));
		return;
	}
	v->set = true;
	v->origin = a->origin;
}

static void
apply_default(struct config *c, struct config_section *s, struct value *v)
{
	struct value_context context = { c->chunk, c->dir, c->instance };
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const char *text = v->row->fallback;

	reset(v);
	if (text == NULL || (*text == '\0' && v->row->type != CONFIG_STRING))
		return;
	/* Not a broken invariant: it may hang on a specifier's value. */
	if (value_parse(v->row, text, &context, &v->parsed, &why) < 0)
		tree_problem(c, &s->origin, "%s: the default %s=%s: %s",
		    s->title, v->row->name, text, buffer_cstr(&why));
}

/* Which keys there are hangs on it, so this value comes before the others. */
static void
resolve_variant(struct config *c, struct config_section *s)
{
	const struct config_key *row = schema_variant_row(c->schema, s->name,
	    c->chunk);
	_cleanup_buffer_ struct buffer known = BUFFER_INIT;
	struct value *v;

	if (row == NULL)
		return;
	add_row(s, row);
	v = &s->values[0];
	for (size_t i = 0; i < s->nassignments; i++)
		if (strcmp(s->assignments[i].key, row->name) == 0)
			assign(c, s, v, &s->assignments[i]);
	if (!v->set && !v->tried)
		apply_default(c, s, v);
	s->variant = v->parsed.text;
	if (s->variant != NULL || v->tried)
		return;
	for (const char *p = row->choices; *p != '\0'; p++)
		buffer_add_char(&known, *p == '|' ? ' ' : *p);
	tree_problem(c, &s->origin, "%s: %s= is missing; known: %s", s->title,
	    row->name, buffer_cstr(&known));
}

static bool
in_some_variant(const struct config *c, const struct config_section *s,
    const char *key)
{
	for (size_t i = 0; c->schema[i] != NULL; i++)
		if (strcmp(c->schema[i]->section, s->name) == 0 &&
		    kind_key(c->schema[i], key) != NULL)
			return true;
	return false;
}

static void
resolve_assignment(struct config *c, struct config_section *s,
    const struct assignment *a)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	struct value *v = find(s, a->key);

	if (v != NULL) {
		assign(c, s, v, a);
		return;
	}
	/* With the type unknown, every type's keys are taken for right. */
	if (s->variant == NULL && in_some_variant(c, s, a->key))
		return;
	schema_unknown_key(c->schema, s->name, s->variant, a->key, &why);
	tree_problem(c, &a->origin, "%s: %s", s->title, buffer_cstr(&why));
}

void
section_resolve(struct config *c, struct config_section *s)
{
	const char *variant_key = schema_variant_key(c->schema, s->name);
	size_t room = 1;

	for (size_t i = 0; c->schema[i] != NULL; i++)
		if (strcmp(c->schema[i]->section, s->name) == 0)
			room += c->schema[i]->nkeys;
	s->values = xcalloc(room, sizeof(*s->values));

	resolve_variant(c, s);
	for (size_t i = 0; c->schema[i] != NULL; i++)
		if (kind_applies(c->schema[i], s->name, s->variant))
			for (size_t k = 0; k < c->schema[i]->nkeys; k++)
				add_row(s, &c->schema[i]->keys[k]);

	for (size_t i = 0; i < s->nassignments; i++)
		if (variant_key == NULL ||
		    strcmp(s->assignments[i].key, variant_key) != 0)
			resolve_assignment(c, s, &s->assignments[i]);

	for (size_t i = 0; i < s->nvalues; i++) {
		struct value *v = &s->values[i];
		bool is_variant = variant_key != NULL && i == 0;

		if (v->set) {
			v->origin_text = tree_origin_text(c, &v->origin);
			continue;
		}
		if (is_variant)		/* its default and problem: above */
			continue;
		apply_default(c, s, v);
		if ((v->row->flags & CONFIG_REQUIRED) != 0 && !v->tried &&
		    v->parsed.text == NULL && v->parsed.nwords == 0)
			tree_problem(c, &s->origin, "%s: %s= is missing",
			    s->title, v->row->name);
	}
}
