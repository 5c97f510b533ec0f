/*
 * config.h - the configuration as an immutable tree.
 *
 * NAME.conf plus NAME.conf.d/ *.conf in the order of their names; a later
 * assignment wins, section by section and key by key.  Every value is parsed
 * and range-checked while loading; afterwards the getters cannot fail.
 *
 * Everything wrong is collected, not only the first thing: each problem has
 * file:line, what is wrong, and a suggestion where a name is close to a known
 * one.  A tree with problems is good for nothing but printing them.
 *
 * An empty value ("Key=") brings back the default.
 *
 * Specifiers in values: %d credentials directory ($CREDENTIALS_DIRECTORY, or
 * where systemd would put it), %i instance (the file's name without ".conf"),
 * %S state base ($STATE_DIRECTORY or /var/lib/bot-operator), %t runtime base
 * ($RUNTIME_DIRECTORY or /run/bot-operator), %% a percent sign.
 */
#ifndef BOT_CONFIG_CONFIG_H
#define BOT_CONFIG_CONFIG_H

#include "base/buffer.h"
#include "config/schema.h"

struct config;
struct config_section;

/* Never NULL; ask config_problems(). The schema must outlive the tree. */
struct config *config_load(const char *path, config_schema);
/* The same from text in memory, for tests; drop-ins do not apply. */
struct config *config_load_text(const char *name, const char *text,
	    config_schema);
struct config *config_ref(struct config *);
void	config_unref(struct config *);		/* accepts NULL */

const char *config_path(const struct config *);	/* absolute */
const char *config_instance(const struct config *);	/* what %i is */

/* ---- problems ---- */

size_t	config_problems(const struct config *);
/* "FILE:LINE: text", valid as long as the tree. */
const char *config_problem_text(const struct config *, size_t i);
/*
 * For checks between sections ("no [Pool mail] ..."): adds a problem at the
 * key's origin, or at the section's header when the key is NULL or not set.
 */
void	config_problem(struct config *, const struct config_section *,
	    const char *key, const char *fmt, ...) _printf_(4, 5);
/* The closest of the n names to what was written, or NULL if none is close. */
const char *config_suggest(const char *written, const char *const *names,
	    size_t n);

/* "30s", "1h 30min", as CONFIG_SPAN has it: 0, or -EINVAL and why. */
int	config_parse_span(const char *text, uint64_t *ret_us,
	    struct buffer *why);

/* ---- reading ---- */

/* First (prev NULL) or next section of that name, in the files' order. */
const struct config_section *config_next(const struct config *,
	    const char *section, const struct config_section *prev);
const struct config_section *config_find(const struct config *,
	    const char *section, const char *label);
/* "" for a section without a label. */
const char *config_label(const struct config_section *);
/* "[Queue orders]" */
const char *config_title(const struct config_section *);

/*
 * Getters return the default where nothing was written.  Asking for a key
 * that the section's schema does not have, or by the wrong type, aborts: it is
 * our typo.  Strings live as long as the tree.
 */
bool	config_is_set(const struct config_section *, const char *key);
/* STRING, PATH, ADDRESS, CHOICE; NULL when there is no value. */
const char *config_string(const struct config_section *, const char *key);
/* A copy (free) of a string that has a value and is not empty, or NULL. */
char	*config_copy(const struct config_section *, const char *key);
bool	config_bool(const struct config_section *, const char *key);
unsigned config_percent(const struct config_section *, const char *key);
uint64_t config_unsigned(const struct config_section *, const char *key);
uint64_t config_bytes(const struct config_section *, const char *key);
uint64_t config_span_us(const struct config_section *, const char *key);
void	config_range(const struct config_section *, const char *key,
	    uint64_t *ret_min, uint64_t *ret_max);	/* count or us */
/* Per second; 0 when there is no value. */
double	config_rate(const struct config_section *, const char *key);
/* Index of the word in the row's choices. */
unsigned config_choice(const struct config_section *, const char *key);
/* A NULL-terminated array, owned by the tree; never NULL. */
char	*const *config_words(const struct config_section *, const char *key);
/* "FILE:LINE" of where the value was written; "default" when it was not. */
const char *config_origin(const struct config_section *, const char *key);

/* ---- reloading ---- */

enum config_change {
	CONFIG_SAME = 1,
	CONFIG_RELOADABLE,	/* only keys with CONFIG_RELOAD differ */
	CONFIG_CHANGED,
};

enum config_change config_compare(const struct config_section *a,
	    const struct config_section *b);

/* ---- showing ---- */

/* All sections with every value in force, so that it can be loaded again;
   origins adds "# FILE:LINE" lines. */
void	config_show(const struct config *, struct buffer *, bool origins);
/* The key tables as man(7) source, for bot-operator.conf(5). */
void	config_manual(config_schema, struct buffer *);

#endif
