#include "config/internal.h"

#define NAMES_MAX	((size_t)256)	/* keys that one section may have */

const struct config_kind *
schema_first(config_schema schema, const char *section)
{
	for (size_t i = 0; schema[i] != NULL; i++)
		if (strcmp(schema[i]->section, section) == 0)
			return schema[i];
	return NULL;
}

const char *
schema_variant_key(config_schema schema, const char *section)
{
	for (size_t i = 0; schema[i] != NULL; i++)
		if (schema[i]->variant_key != NULL &&
		    strcmp(schema[i]->section, section) == 0)
			return schema[i]->variant_key;
	return NULL;
}

bool
kind_applies(const struct config_kind *kind, const char *section,
    const char *variant)
{
	if (strcmp(kind->section, section) != 0)
		return false;
	return kind->variant == NULL ||
	    (variant != NULL && strcmp(kind->variant, variant) == 0);
}

const struct config_key *
kind_key(const struct config_kind *kind, const char *key)
{
	for (size_t i = 0; i < kind->nkeys; i++)
		if (strcmp(kind->keys[i].name, key) == 0)
			return &kind->keys[i];
	return NULL;
}

static bool
variant_seen(config_schema schema, size_t before, const char *section,
    const char *variant)
{
	for (size_t i = 0; i < before; i++)
		if (schema[i]->variant != NULL &&
		    strcmp(schema[i]->section, section) == 0 &&
		    strcmp(schema[i]->variant, variant) == 0)
			return true;
	return false;
}

const struct config_key *
schema_variant_row(config_schema schema, const char *section,
    struct chunk *chunk)
{
	const char *key = schema_variant_key(schema, section);
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config_key row = {
		.name = key, .type = CONFIG_CHOICE, .flags = CONFIG_REQUIRED,
		.help = "Which kind it is; it decides which other keys "
		    "there are.",
	};

	if (key == NULL)
		return NULL;
	for (size_t i = 0; schema[i] != NULL; i++) {
		const struct config_kind *kind = schema[i];

		if (strcmp(kind->section, section) != 0)
			continue;
		if (kind->variant == NULL) {
			/* A row of its own may have better words. */
			const struct config_key *own = kind_key(kind, key);

			if (own != NULL) {
				row.help = own->help;
				row.fallback = own->fallback;
				row.flags = own->flags;
			}
		} else if (!variant_seen(schema, i, section, kind->variant)) {
			if (buffer_len(&b) != 0)
				buffer_add_char(&b, '|');
			buffer_add_str(&b, kind->variant);
		}
	}
	row.choices = chunk_copy(chunk, buffer_cstr(&b), buffer_len(&b)).p;
	return memcpy(chunk_alloc(chunk, sizeof(row)), &row, sizeof(row));
}

void
schema_unknown_section(config_schema schema, const char *name,
    struct buffer *why)
{
	const char *names[NAMES_MAX];
	size_t n = 0;

	for (size_t i = 0; schema[i] != NULL && n < NAMES_MAX; i++)
		names[n++] = schema[i]->section;
	buffer_printf(why, "unknown section [%.80s]", name);
	suggestion_add(why, name, names, n);
}

void
schema_unknown_key(config_schema schema, const char *section,
    const char *variant, const char *key, struct buffer *why)
{
	const char *variant_key = schema_variant_key(schema, section);
	const char *names[NAMES_MAX];
	const char *separator = " ";
	size_t n = 0;

	/* Right in another variant? */
	for (size_t i = 0; schema[i] != NULL; i++) {
		const struct config_kind *kind = schema[i];

		if (strcmp(kind->section, section) != 0 ||
		    kind->variant == NULL || kind_key(kind, key) == NULL)
			continue;
		if (n++ == 0)
			buffer_printf(why, "key %s= belongs to", key);
		buffer_printf(why, "%s%s=%s", separator, variant_key,
		    kind->variant);
		separator = " and ";
	}
	if (n != 0) {
		buffer_printf(why, "; this is %s=%s", variant_key, variant);
		return;
	}

	if (variant_key != NULL)
		names[n++] = variant_key;
	for (size_t i = 0; schema[i] != NULL; i++) {
		if (strcmp(schema[i]->section, section) != 0 ||
		    (variant != NULL &&
		    !kind_applies(schema[i], section, variant)))
			continue;
		for (size_t k = 0; k < schema[i]->nkeys && n < NAMES_MAX; k++)
			names[n++] = schema[i]->keys[k].name;
	}
	buffer_printf(why, "unknown key \"%.80s\"", key);
	if (config_suggest(key, names, n) != NULL) {
		suggestion_add(why, key, names, n);
		return;
	}
	for (size_t i = 0; schema[i] != NULL; i++) {
		const struct config_kind *kind = schema[i];

		if (kind_key(kind, key) == NULL ||
		    strcmp(kind->section, section) == 0)
			continue;
		buffer_printf(why, "; it belongs to [%s%s]", kind->section,
		    kind->labelled ? " NAME" : "");
		return;
	}
}
