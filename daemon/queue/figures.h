/*
 * figures.h - a queue's own figures, as its status operation adds them.
 */
#ifndef BOT_QUEUE_FIGURES_H
#define BOT_QUEUE_FIGURES_H

#include "base/json.h"

/* null where there is no text */
static inline void
add_text(json_t *o, const char *name, const char *text)
{
	json_object_set_new(o, name, text != NULL && *text != '\0' ?
	    json_text(text) : json_null());
}

static inline void
add_count(json_t *o, const char *name, uint64_t n)
{
	json_object_set_new(o, name, json_count(n));
}

#endif
