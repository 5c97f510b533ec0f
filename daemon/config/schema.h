/*
 * schema.h - which sections and keys there are, as tables.
 *
 * Each folder owns the tables of its sections.  One row drives parsing,
 * range checks, "botctl check-config", "botctl show-config" and the table in
 * bot-operator.conf(5).
 */
#ifndef BOT_CONFIG_SCHEMA_H
#define BOT_CONFIG_SCHEMA_H

#include "base/macros.h"

enum config_type {
	CONFIG_STRING = 1,	/* any text */
	CONFIG_PATH,		/* after specifiers; a relative one starts at
				   the main file's folder: comes out absolute */
	CONFIG_BOOL,		/* yes no true false on off 1 0 */
	CONFIG_UNSIGNED,	/* 5 */
	CONFIG_BYTES,		/* 256K, 64M, 1.5G (powers of 1024), infinity */
	CONFIG_SPAN,		/* 30s, 5min, 1h 30min, 250ms, infinity;
				   a bare number is seconds, as in systemd */
	CONFIG_UNSIGNED_RANGE,	/* 2-8, or 4 which is 4-4 */
	CONFIG_SPAN_RANGE,	/* 2s-5min, or 2s which is 2s-2s */
	CONFIG_RATE,		/* 50/s, 100/min, 5000/h */
	CONFIG_CHOICE,		/* one word of the row's choices */
	CONFIG_WORDS,		/* words; quotes as in a shell; assignments
				   add up, an empty one resets */
	CONFIG_PERCENT,		/* 50% (its % begins no specifier) */
	CONFIG_ADDRESS,		/* host:port, [v6]:port, host, or /a/socket */
};

/* Flags of a row. */
#define CONFIG_RELOAD		0x1u	/* a change applies without a restart of
					   the section's object */
#define CONFIG_REQUIRED		0x2u
#define CONFIG_SECRET_FILE	0x4u	/* the value is the path of a secret */

struct config_key {
	const char *name;
	enum config_type type;
	const char *fallback;	/* default, as a user would write it; NULL: none */
	const char *choices;	/* CONFIG_CHOICE: "raw|json|cloudevents" */
	uint64_t min, max;	/* inclusive; max 0: unbounded. Own unit of the
				   type: count, bytes, us, per second x 1000;
				   a string's bytes, the number of words */
	unsigned flags;
	const char *help;	/* one or two sentences, for the manual */
};

/*
 * The keys of one section.  Several kinds may share a section name: the one
 * without a variant holds the common keys; one with a variant adds the keys
 * that count when variant_key has that value ("Type" = "redis").
 */
struct config_kind {
	const char *section;	/* "Queue" */
	bool labelled;		/* "[Queue NAME]" rather than "[Operator]" */
	const char *variant_key;	/* NULL, or "Type" */
	const char *variant;		/* NULL, or "redis" */
	const struct config_key *keys;
	size_t nkeys;
	const char *help;	/* a paragraph for the manual */
};

/* A NULL-terminated list of kinds: what main knows. */
typedef const struct config_kind *const *config_schema;

#endif
