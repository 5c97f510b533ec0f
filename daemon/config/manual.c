#include <ctype.h>

#include "config/internal.h"

/* groff_man_style(7): a dash that is meant as such, and no requests by
   accident where a line begins with a point or an apostrophe. */
static void
add_text(struct buffer *b, const char *s)
{
	bool line_start = true;

	for (; *s != '\0'; s++) {
		if (line_start && (*s == '.' || *s == '\''))
			buffer_add_str(b, "\\&");
		line_start = *s == '\n';
		switch (*s) {
		case '\\':
			buffer_add_str(b, "\\e");
			break;
		case '-':
			buffer_add_str(b, "\\-");
			break;
		case '~':
			buffer_add_str(b, "\\(ti");
			break;
		case '^':
			buffer_add_str(b, "\\(ha");
			break;
		case '"':
			/* Also right inside of a macro's argument. */
			buffer_add_str(b, "\\(dq");
			break;
		default:
			buffer_add_char(b, *s);
		}
	}
}

static const char *
type_name(const struct config_key *row)
{
	if ((row->flags & CONFIG_SECRET_FILE) != 0)
		return "path of a file with a secret";
	switch (row->type) {
	case CONFIG_STRING:
		return "text";
	case CONFIG_PATH:
		return "path";
	case CONFIG_BOOL:
		return "yes or no";
	case CONFIG_UNSIGNED:
		return "number";
	case CONFIG_BYTES:
		return "size in bytes, with K, M, G or T";
	case CONFIG_SPAN:
		return "time span";
	case CONFIG_UNSIGNED_RANGE:
		return "number or range, such as 2-8";
	case CONFIG_SPAN_RANGE:
		return "time span or range, such as 2s-5min";
	case CONFIG_PERCENT:
		return "percentage, such as 50%";
	case CONFIG_RATE:
		return "rate, such as 50/s or 100/min";
	case CONFIG_WORDS:
		return "words, quoted as in a shell; assignments add up";
	case CONFIG_ADDRESS:
		return "host:port, [IPv6]:port, host or a socket's path";
	case CONFIG_CHOICE:
	default:
		return "one of";
	}
}

static void
add_choices(struct buffer *b, const char *choices)
{
	_cleanup_buffer_ struct buffer words = BUFFER_INIT;

	for (; *choices != '\0'; choices++) {
		if (*choices == '|')
			buffer_add_str(&words, ", ");
		else
			buffer_add_char(&words, *choices);
	}
	buffer_add_char(b, ' ');
	add_text(b, buffer_cstr(&words));
}

static void
add_key(struct buffer *b, const struct config_key *row)
{
	_cleanup_buffer_ struct buffer limits = BUFFER_INIT;

	buffer_add_str(b, ".TP\n.B ");
	add_text(b, row->name);
	buffer_add_str(b, "=\n");
	if (row->help != NULL) {
		add_text(b, row->help);
		buffer_add_str(b, "\n.br\n");
	}
	buffer_add_str(b, "Value: ");
	add_text(b, type_name(row));
	if (row->type == CONFIG_CHOICE)
		add_choices(b, row->choices);
	if (value_limits(row, &limits)) {
		buffer_add_str(b, "; ");
		add_text(b, buffer_cstr(&limits));
	}
	buffer_add_str(b, ".\n");
	if (row->fallback != NULL && *row->fallback != '\0') {
		buffer_add_str(b, "Default: ");
		add_text(b, row->fallback);
		buffer_add_str(b, ".\n");
	} else if ((row->flags & CONFIG_REQUIRED) != 0) {
		buffer_add_str(b, "Required.\n");
	} else {
		buffer_add_str(b, "Not set by default.\n");
	}
	if ((row->flags & CONFIG_RELOAD) != 0)
		buffer_add_str(b, "A reload applies it in place.\n");
}

static void
add_help(struct buffer *b, const struct config_kind *kind)
{
	if (kind->help == NULL)
		return;
	add_text(b, kind->help);
	buffer_add_char(b, '\n');
}

/* The first of a section's kinds; the others follow under it. */
static void
add_section(struct buffer *b, config_schema schema, const char *section,
    bool labelled)
{
	struct chunk *chunk = chunk_new();
	const struct config_key *variant = schema_variant_row(schema, section,
	    chunk);

	/* The first paragraphs first, then the keys. */
	buffer_printf(b, ".SH [%s%s]\n", section, labelled ? " NAME" : "");
	for (size_t i = 0; schema[i] != NULL; i++)
		if (kind_applies(schema[i], section, NULL))
			add_help(b, schema[i]);
	if (variant != NULL)
		add_key(b, variant);
	for (size_t i = 0; schema[i] != NULL; i++) {
		if (!kind_applies(schema[i], section, NULL))
			continue;
		for (size_t k = 0; k < schema[i]->nkeys; k++)
			if (variant == NULL || strcmp(variant->name,
			    schema[i]->keys[k].name) != 0)
				add_key(b, &schema[i]->keys[k]);
	}
	for (size_t i = 0; schema[i] != NULL; i++) {
		if (schema[i]->variant == NULL ||
		    strcmp(schema[i]->section, section) != 0)
			continue;
		buffer_printf(b, ".SS [%s%s] with %s=%s\n", section,
		    labelled ? " NAME" : "", schema[i]->variant_key,
		    schema[i]->variant);
		add_help(b, schema[i]);
		for (size_t k = 0; k < schema[i]->nkeys; k++)
			add_key(b, &schema[i]->keys[k]);
	}
	chunk_unref(chunk);
}

void
config_manual(config_schema schema, struct buffer *b)
{
	for (size_t i = 0; schema[i] != NULL; i++)
		if (schema_first(schema, schema[i]->section) == schema[i])
			add_section(b, schema, schema[i]->section,
			    schema[i]->labelled);
}
