/*
 * figures.h - a queue's own figures, as its status operation adds them.
 */
#ifndef BOT_QUEUE_FIGURES_H
#define BOT_QUEUE_FIGURES_H

#include <jansson.h>
#include <stdint.h>

/* null where there is no text, or none that is UTF-8 */
static inline void
add_text(json_t *o, const char *name, const char *text)
{
	json_t *j = text != NULL && *text != '\0' ? json_string(text) : NULL;

	json_object_set_new(o, name, j != NULL ? j : json_null());
}

static inline void
add_count(json_t *o, const char *name, uint64_t n)
{
	json_object_set_new(o, name, json_integer((json_int_t)n));
}

#endif
