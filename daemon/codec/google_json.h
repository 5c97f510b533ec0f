/*
 * google_json.h - JSON with secrets in it, for the codecs of google_*.c only.
 *
 * Between open and close jansson's memory comes from an allocator that wipes
 * what it gives back, its scratch space too.  Nothing of jansson may be kept
 * from before to after, and only one document can be open.
 */
#ifndef BOT_CODEC_GOOGLE_JSON_H
#define BOT_CODEC_GOOGLE_JSON_H

#include <jansson.h>

#include "base/error.h"
#include "base/slice.h"

/* An object. NULL (and nothing is open) and *err with that class and code:
   "WHAT is no JSON (line 1, column 2)". */
json_t	*google_json_open(struct slice text, enum error_class,
	    const char *code, const char *what, struct error *err);
void	google_json_close(json_t *);

/* "" when it is not there or no string; never has a NUL in it. */
const char *google_json_string(const json_t *object, const char *name);
struct slice google_json_slice(const json_t *object, const char *name);
/* A number that is not negative, also one in a string or with a fraction;
   false: neither. */
bool	google_json_number(const json_t *value, uint64_t *ret);
/* Printable ASCII without blanks, and at least one; for what goes into headers
   and URLs. */
bool	google_is_word(struct slice);

#endif
