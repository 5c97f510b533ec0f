#include <stdio.h>

#include "base/alloc.h"
#include "config/internal.h"

/* ---- making and freeing ---- */

char *
tree_copy(struct config *c, const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(chunk_alloc(c->chunk, n), s, n);
}

static char *
absolute(const char *path)
{
	_cleanup_free_ char *here = NULL;

	if (*path == '/')
		return xstrdup(path);
	here = getcwd(NULL, 0);
	return xasprintf("%s/%s", here != NULL ? here : "", path);
}

/*
 * Where relative paths start: beside the file itself, not beside a symbolic
 * link to it, so that "./handler" stays what stands next to the file.
 */
static char *
directory_of(const char *path)
{
	char *real = realpath(path, NULL);
	char *slash;

	if (real == NULL)
		real = xstrdup(path);
	slash = strrchr(real, '/');
	slash[slash == real ? 1 : 0] = '\0';
	return real;
}

struct config *
tree_new(const char *path, config_schema schema)
{
	_cleanup_free_ char *full = absolute(path), *dir = directory_of(full);
	_cleanup_free_ char *name = xstrdup(strrchr(full, '/') + 1);
	struct config *c = new0(struct config);
	size_t n = strlen(name);

	if (n > 5 && strcmp(name + n - 5, ".conf") == 0)
		name[n - 5] = '\0';
	c->refs = 1;
	c->schema = schema;
	c->chunk = chunk_new();
	c->path = tree_copy(c, full);
	c->dir = tree_copy(c, dir);
	c->instance = tree_copy(c, name);
	return c;
}

static void
section_free(struct config_section *s)
{
	for (size_t i = 0; i < s->nvalues; i++)
		free(s->values[i].parsed.words);
	free(s->values);
	free(s->assignments);
	free(s);
}

struct config *
config_ref(struct config *c)
{
	c->refs++;
	return c;
}

void
config_unref(struct config *c)
{
	if (c == NULL)
		return;
	BUG_ON(c->refs == 0);
	if (--c->refs != 0)
		return;
	for (size_t i = 0; i < c->nsections; i++)
		section_free(c->sections[i]);
	free(c->sections);
	for (size_t i = 0; i < c->nproblems; i++)
		free(c->problems[i].text);
	free(c->problems);
	chunk_unref(c->chunk);
	free(c);
}

/* ---- problems ---- */

/* Names of files and cut values: one line, and UTF-8, whatever they hold. */
static void
add_clean(struct buffer *out, const char *s)
{
	size_t left = strlen(s), n;

	for (; left != 0; s += n, left -= n) {
		n = utf8_sequence(s, left);
		if (n == 0 || (n == 1 && ((unsigned char)*s < 0x20 ||
		    *s == 0x7f))) {
			buffer_add_char(out, '?');
			n = 1;
		} else {
			buffer_add(out, s, n);
		}
	}
}

const char *
tree_origin_text(struct config *c, const struct origin *o)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	add_clean(&b, o->file);
	if (o->line != 0)
		buffer_printf(&b, ":%u", o->line);
	return tree_copy(c, buffer_cstr(&b));
}

static int
by_place(const void *left, const void *right)
{
	const struct problem *a = left, *b = right;

	if (a->origin.file_index != b->origin.file_index)
		return a->origin.file_index < b->origin.file_index ? -1 : 1;
	if (a->origin.line != b->origin.line)
		return a->origin.line < b->origin.line ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

void
tree_vproblem(struct config *c, const struct origin *o, const char *title,
    const char *fmt, va_list ap)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT, text = BUFFER_INIT;

	if (c->nproblems == CONFIG_PROBLEMS_MAX) {
		c->dropped++;
		return;
	}
	buffer_printf(&text, "%s", o->file);
	if (o->line != 0)
		buffer_printf(&text, ":%u", o->line);
	buffer_add_str(&text, ": ");
	if (title != NULL)
		buffer_printf(&text, "%s: ", title);
	buffer_vprintf(&text, fmt, ap);
	add_clean(&b, buffer_cstr(&text));

	c->problems = xreallocarray(c->problems, c->nproblems + 1,
	    sizeof(*c->problems));
	c->problems[c->nproblems] = (struct problem){
		.origin = *o, .seq = c->nproblems, .text = buffer_dup(&b),
	};
	c->nproblems++;
}

void
tree_problem(struct config *c, const struct origin *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tree_vproblem(c, o, NULL, fmt, ap);
	va_end(ap);
}

/* ---- collecting ---- */

static struct origin
here(const struct config *c, unsigned line)
{
	return (struct origin){ c->file, c->file_index, line };
}

static void
on_problem(void *owner, unsigned line, const char *text)
{
	struct config *c = owner;
	struct origin o = here(c, line);

	tree_problem(c, &o, "%s", text);
}

static struct config_section *
section_find(const struct config *c, const char *name, const char *label)
{
	for (size_t i = 0; i < c->nsections; i++)
		if (strcmp(c->sections[i]->name, name) == 0 &&
		    strcmp(c->sections[i]->label, label) == 0)
			return c->sections[i];
	return NULL;
}

static void
check_label(struct config *c, const struct config_kind *kind,
    const char *label, const struct origin *o)
{
	size_t n = strlen(label);

	if (!kind->labelled) {
		if (n != 0)
			tree_problem(c, o, "[%s %.80s]: this section takes no "
			    "name; write [%s]", kind->section, label,
			    kind->section);
	} else if (n == 0) {
		tree_problem(c, o, "[%s]: the name is missing; write [%s NAME]",
		    kind->section, kind->section);
	} else if (n > CONFIG_LABEL_MAX) {
		tree_problem(c, o, "[%s %.80s]: the name is longer than %zu "
		    "bytes", kind->section, label, CONFIG_LABEL_MAX);
	} else if (label[strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
	    "MNOPQRSTUVWXYZ0123456789_.-")] != '\0' ||
	    strcmp(label, ".") == 0 || strcmp(label, "..") == 0) {
		/* Labels become names of files and metrics. */
		tree_problem(c, o, "[%s %.80s]: a name has letters, digits, _ . "
		    "and - only", kind->section, label);
	}
}

static void
on_section(void *owner, unsigned line, const char *name, const char *label)
{
	struct config *c = owner;
	struct origin o = here(c, line);
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const struct config_kind *kind;
	struct config_section *s;

	c->current = NULL;
	c->in_section = true;
	if (name == NULL)
		return;
	kind = schema_first(c->schema, name);
	if (kind == NULL) {
		schema_unknown_section(c->schema, name, &why);
		tree_problem(c, &o, "%s", buffer_cstr(&why));
		return;
	}
	c->current = section_find(c, name, label);
	if (c->current != NULL)
		return;
	check_label(c, kind, label, &o);
	if (c->nsections == CONFIG_SECTIONS_MAX) {
		tree_problem(c, &o, "more than %zu sections",
		    CONFIG_SECTIONS_MAX);
		return;
	}
	s = new0(struct config_section);
	s->config = c;
	s->name = kind->section;
	s->label = tree_copy(c, label);
	s->origin = o;
	buffer_printf(&why, *label != '\0' ? "[%s %.80s]" : "[%s%s]", name,
	    label);
	s->title = tree_copy(c, buffer_cstr(&why));
	c->sections = xreallocarray(c->sections, c->nsections + 1,
	    sizeof(struct config_section *));
	c->sections[c->nsections++] = s;
	c->current = s;
}

static void
on_value(void *owner, unsigned line, const char *key, const char *text)
{
	struct config *c = owner;
	struct config_section *s = c->current;
	struct origin o = here(c, line);

	if (s == NULL) {
		if (!c->in_section)
			tree_problem(c, &o, "%.80s= stands before any "
			    "[Section]", key);
		return;
	}
	if (s->nassignments == s->size) {
		s->size = MAX(s->size * 2, (size_t)8);
		s->assignments = xreallocarray(s->assignments, s->size,
		    sizeof(*s->assignments));
	}
	s->assignments[s->nassignments++] = (struct assignment){
		.key = tree_copy(c, key), .text = tree_copy(c, text),
		.origin = o,
	};
}

void
tree_read(struct config *c, const char *file, struct slice text)
{
	struct parse_events events = { c, on_section, on_value, on_problem };
	struct origin o;

	c->file = tree_copy(c, file);
	c->file_index++;
	c->current = NULL;
	c->in_section = false;
	o = here(c, 0);
	if (text.n > CONFIG_FILE_MAX)
		tree_problem(c, &o, "longer than %zu bytes", CONFIG_FILE_MAX);
	else if (text.n > CONFIG_TOTAL_MAX - c->total_bytes)
		tree_problem(c, &o, "with this file the configuration is "
		    "longer than %zu bytes", CONFIG_TOTAL_MAX);
	else
		config_parse(text, &events);
	c->total_bytes += MIN(text.n, CONFIG_TOTAL_MAX - c->total_bytes);
}

void
tree_finish(struct config *c)
{
	for (size_t i = 0; i < c->nsections; i++)
		section_resolve(c, c->sections[i]);
	if (c->nproblems != 0)
		qsort(c->problems, c->nproblems, sizeof(*c->problems),
		    by_place);
	if (c->dropped != 0) {
		struct problem *last = &c->problems[c->nproblems - 1];
		char *text = xasprintf("%s; and %zu more problems", last->text,
		    c->dropped);

		free(last->text);
		last->text = text;
	}
}
