/*
 * spool_name.h - what the names in a spool say. Pure.
 *
 * "BASE", "BASE:a2,c1" in new/ and cur/; "1795449600000.BASE:a2,c1" in
 * delayed/; "BASE" in dead/, with a "~" more when it ends in ".json" and
 * perhaps such "~"s, so that a name in dead/ is a record exactly when it ends
 * in ".json".
 */
#ifndef BOT_QUEUE_SPOOL_NAME_H
#define BOT_QUEUE_SPOOL_NAME_H

#include "base/slice.h"

#define SPOOL_NAME_BYTES	256	/* NAME_MAX and the NUL */
#define SPOOL_BASE_MAX		200	/* room for what we put around it */
#define SPOOL_ENVELOPE		".envelope"
#define SPOOL_RECORD		".json"

struct spool_name {
	char base[SPOOL_NAME_BYTES];
	unsigned attempt;	/* 1 the first time */
	unsigned crashes;
	uint64_t due_ms;	/* delayed/ only; unix */
};

/* Of new/ and cur/. Any name goes: what is no suffix of ours is the base. */
void	spool_name_parse(struct spool_name *, const char *file);
void	spool_name_format(const struct spool_name *,
	    char out[SPOOL_NAME_BYTES]);
/* -EINVAL: not one of ours. */
int	spool_name_parse_delayed(struct spool_name *, const char *file);
void	spool_name_format_delayed(const struct spool_name *,
	    char out[SPOOL_NAME_BYTES]);
void	spool_name_parse_dead(struct spool_name *, const char *file);
void	spool_name_format_dead(const struct spool_name *,
	    char out[SPOOL_NAME_BYTES]);

/* Cuts a base that is too long; equal names are cut to equal ones. */
void	spool_name_shorten(struct spool_name *);
/* Another base, for when this one is taken. */
void	spool_name_vary(struct spool_name *);

bool	spool_name_is_envelope(const char *base);
bool	spool_name_is_record(const char *file);		/* in dead/ */

/* For people: control characters become '?'. */
void	spool_name_show(char *, size_t n);
/* Printable ASCII that tells any two names apart; three times the room. */
void	spool_name_id(const char *file, char out[3 * SPOOL_NAME_BYTES]);

#endif
