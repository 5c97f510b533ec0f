#include "config/internal.h"

enum config_change
config_compare(const struct config_section *a, const struct config_section *b)
{
	enum config_change change = CONFIG_SAME;

	/* Rows line up where kind and variant are the same. */
	if (strcmp(a->name, b->name) != 0 || a->nvalues != b->nvalues)
		return CONFIG_CHANGED;
	if (a->variant != b->variant && (a->variant == NULL ||
	    b->variant == NULL || strcmp(a->variant, b->variant) != 0))
		return CONFIG_CHANGED;
	for (size_t i = 0; i < a->nvalues; i++) {
		const struct value *x = &a->values[i], *y = &b->values[i];

		if (value_same(x->row, &x->parsed, &y->parsed))
			continue;
		if ((x->row->flags & CONFIG_RELOAD) == 0)
			return CONFIG_CHANGED;
		change = CONFIG_RELOADABLE;
	}
	return change;
}

static void
show_section(const struct config_section *s, struct buffer *b, bool origins)
{
	const char *last = NULL;

	buffer_printf(b, "%s\n", s->title);
	for (size_t i = 0; i < s->nvalues; i++) {
		const struct value *v = &s->values[i];
		const char *origin = v->set ? v->origin_text : "default";

		/* On a line of its own: the output can be read again. */
		if (origins && (last == NULL || strcmp(last, origin) != 0))
			buffer_printf(b, "# %s\n", origin);
		last = origin;
		buffer_printf(b, "%s=", v->row->name);
		value_format(v->row, &v->parsed, b);
		buffer_add_char(b, '\n');
	}
}

void
config_show(const struct config *c, struct buffer *b, bool origins)
{
	for (size_t i = 0; i < c->nsections; i++) {
		if (i != 0)
			buffer_add_char(b, '\n');
		show_section(c->sections[i], b, origins);
	}
}
