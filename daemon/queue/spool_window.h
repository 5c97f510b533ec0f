/*
 * spool_window.h - the smallest names of a directory, sorted.
 *
 * A directory may hold millions of files; we keep the next few thousand and
 * count the others.  Names are compared as bytes.  While complete is set the
 * window holds every name there is; else all of its names are smaller than
 * those beyond it, and the directory has to be read again when it runs dry.
 */
#ifndef BOT_QUEUE_SPOOL_WINDOW_H
#define BOT_QUEUE_SPOOL_WINDOW_H

#include "base/macros.h"

#define SPOOL_WINDOW_MAX	8192

struct spool_entry {
	char *name;
	bool sure;		/* known to be complete: moved in, or closed */
};

struct spool_window {
	struct spool_entry *at;		/* at[head .. head + count) */
	size_t head, count, size, max;
	uint64_t beyond;		/* names that had no room */
	bool complete;
};

/* Empty and complete: ready for what a scan offers. */
void	spool_window_init(struct spool_window *, size_t max);
void	spool_window_done(struct spool_window *);
/* Puts it in, or counts it as beyond; a name that is there is left alone. */
void	spool_window_offer(struct spool_window *, const char *name, bool sure);
/* Takes out the first; the caller frees the name. False when empty. */
bool	spool_window_pop(struct spool_window *, struct spool_entry *ret);
void	spool_window_remove(struct spool_window *, const char *name);

static inline const char *
spool_window_first(const struct spool_window *w)
{
	return w->count != 0 ? w->at[w->head].name : NULL;
}

static inline uint64_t
spool_window_total(const struct spool_window *w)
{
	return w->count + w->beyond;
}

#endif
