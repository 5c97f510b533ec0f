/*
 * internal.h - what the files of config/ share.
 *
 * Loading goes in three steps: parse.c cuts text into sections and
 * assignments, tree.c collects them section by section over all files, and
 * resolve.c, once everything is read, picks each section's kinds, checks keys
 * and parses values.  The variant ("Type=") may thus stand anywhere.
 */
#ifndef BOT_CONFIG_INTERNAL_H
#define BOT_CONFIG_INTERNAL_H

#include <stdarg.h>

#include "base/buffer.h"
#include "base/chunk.h"
#include "config/config.h"

/* Bounds, generous for people and finite for what is no configuration. */
#define CONFIG_FILE_MAX		(1 * MIB)
#define CONFIG_TOTAL_MAX	(8 * MIB)	/* all files of one tree */
#define CONFIG_LINE_MAX		(32 * KIB)	/* continuations included */
#define CONFIG_VALUE_MAX	(64 * KIB)	/* after specifiers */
#define CONFIG_FILES_MAX	((size_t)256)	/* drop-ins */
#define CONFIG_SECTIONS_MAX	((size_t)1024)
#define CONFIG_WORDS_MAX	((size_t)4096)
#define CONFIG_PROBLEMS_MAX	((size_t)200)
#define CONFIG_PATH_MAX		((size_t)4095)	/* PATH_MAX without its NUL */
#define CONFIG_LABEL_MAX	((size_t)64)

struct origin {
	const char *file;		/* as shown; NULL: a default */
	unsigned file_index;		/* in reading order */
	unsigned line;			/* 0: the file as a whole */
};

struct assignment {
	const char *key, *text;		/* text trimmed, not yet expanded */
	struct origin origin;
};

/* What a value came out as; which members count follows the row's type. */
struct parsed {
	const char *text;		/* expanded; NULL: no value */
	uint64_t min, max;		/* single numbers are in min */
	double rate;
	char **words;			/* NULL-terminated; the array is from
					   the heap, its words from the chunk */
	size_t nwords;
};

struct value {
	const struct config_key *row;
	bool set;
	bool tried;			/* written, perhaps not understood */
	struct origin origin;
	const char *origin_text;
	struct parsed parsed;
};

struct config_section {
	struct config *config;
	const char *name, *label, *title;
	struct origin origin;
	struct assignment *assignments;
	size_t nassignments, size;
	const char *variant;		/* NULL: none, or not known */
	struct value *values;
	size_t nvalues;
};

struct problem {
	struct origin origin;
	size_t seq;
	char *text;
};

struct config {
	unsigned refs;
	config_schema schema;
	struct chunk *chunk;		/* every string of the tree */
	const char *path, *dir, *instance;
	struct config_section **sections;
	size_t nsections;
	struct problem *problems;
	size_t nproblems;
	size_t dropped;			/* problems beyond the bound */
	size_t total_bytes;
	/* While reading: */
	const char *file;
	unsigned file_index;
	struct config_section *current;	/* NULL: its keys are skipped */
	bool in_section;
};

/* ---- parse.c ---- */

/* Strings live for the call and are clean: UTF-8, no control characters. */
struct parse_events {
	void *owner;
	void (*on_section)(void *owner, unsigned line, const char *name,
	    const char *label);
	void (*on_value)(void *owner, unsigned line, const char *key,
	    const char *text);
	void (*on_problem)(void *owner, unsigned line, const char *text);
};

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), or 0. */
size_t	utf8_sequence(const void *p, size_t n);
void	config_parse(struct slice text, const struct parse_events *);

/* ---- values.c, numbers.c, text.c, words.c, specifier.c ---- */

struct value_context {
	struct chunk *chunk;
	const char *dir;		/* for relative paths */
	const char *instance;
};

/*
 * Parses one assignment (not an empty one) to a row.  Words are added to
 * those there, all else is replaced.  -EINVAL and a sentence in *why, which
 * the caller initialized; *ret is then unchanged.
 */
int	value_parse(const struct config_key *, const char *text,
	    const struct value_context *, struct parsed *ret,
	    struct buffer *why);
/* Whether two values of the same row mean the same. */
bool	value_same(const struct config_key *, const struct parsed *,
	    const struct parsed *);
/* As a configuration file would have it: reading it gives the same. */
void	value_format(const struct config_key *, const struct parsed *,
	    struct buffer *);
/* "1 to 512", "at least 1ms", or nothing and false. */
bool	value_limits(const struct config_key *, struct buffer *);
/* "1h 30min"; "infinity" is UINT64_MAX. */
int	span_parse(const char *text, uint64_t *ret_us, struct buffer *why);

int	bytes_parse(const char *text, uint64_t *ret_bytes, struct buffer *why);
int	rate_parse(const char *text, double *ret_per_second,
	    struct buffer *why);
/* Exact, and readable by the parsers above. */
void	span_format(struct buffer *, uint64_t us);
void	bytes_format(struct buffer *, uint64_t bytes);

/* Absolute, without "//", "/./" and a slash at the end; in the chunk. */
int	path_resolve(const char *text, const struct value_context *,
	    const char **ret, struct buffer *why);
/* The form only: whether a name resolves is for later. */
int	address_check(const char *text, struct buffer *why);

/* Splits as a shell would; the array and its words are the caller's. */
int	words_split(const char *text, char ***ret, size_t *ret_n,
	    struct buffer *why);
void	words_free(char **words);
/* Quoted where needed. */
void	words_quote(struct buffer *, const char *word);

int	specifiers_expand(const char *text, const struct value_context *,
	    struct buffer *out, struct buffer *why);

/* ---- tree.c ---- */

char	*tree_copy(struct config *, const char *);
const char *tree_origin_text(struct config *, const struct origin *);
void	tree_problem(struct config *, const struct origin *, const char *fmt,
	    ...) _printf_(3, 4);
void	tree_vproblem(struct config *, const struct origin *, const char *title,
	    const char *fmt, va_list) _printf_(4, 0);
struct config *tree_new(const char *path, config_schema);
void	tree_read(struct config *, const char *file, struct slice text);
void	tree_finish(struct config *);

/* ---- resolve.c ---- */

/* All kinds, variants and values of one section, once all is read. */
void	section_resolve(struct config *, struct config_section *);

/* ---- schema.c ---- */

/* The section's first kind; NULL when there is no such section. */
const struct config_kind *schema_first(config_schema, const char *section);
/* "Type", or NULL when the section has no variants. */
const char *schema_variant_key(config_schema, const char *section);
/* The row that stands for it, its choices being the variants there are. */
const struct config_key *schema_variant_row(config_schema, const char *section,
	    struct chunk *);
/* Whether a kind's keys count in a section with that variant (or NULL). */
bool	kind_applies(const struct config_kind *, const char *section,
	    const char *variant);
const struct config_key *kind_key(const struct config_kind *, const char *key);
/* What is wrong with a section's or a key's name, and what may be meant. */
void	schema_unknown_section(config_schema, const char *name,
	    struct buffer *why);
void	schema_unknown_key(config_schema, const char *section,
	    const char *variant, const char *key, struct buffer *why);

/* ---- suggest.c ---- */

/* Appends '; did you mean "NAME"?' where a name is close. */
void	suggestion_add(struct buffer *, const char *written,
	    const char *const *names, size_t n);

#endif
