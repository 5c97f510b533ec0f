#include "queue/spool_window.h"

#include "base/alloc.h"

void
spool_window_init(struct spool_window *w, size_t max)
{
	*w = (struct spool_window){ .max = max, .complete = true };
}

void
spool_window_done(struct spool_window *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->at[w->head + i].name);
	free(w->at);
	spool_window_init(w, w->max);
}

/* Where the name is (*found) or would have to go, from the head. */
static size_t
search(const struct spool_window *w, const char *name, bool *found)
{
	size_t low = 0, high = w->count;

	*found = false;
	/* Names mostly come in order. */
	if (high != 0 && strcmp(w->at[w->head + high - 1].name, name) < 0)
		return high;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(w->at[w->head + mid].name, name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
make_room(struct spool_window *w)
{
	if (w->head + w->count < w->size)
		return;
	if (w->head > w->size / 2) {
		memmove(w->at, w->at + w->head, w->count * sizeof(*w->at));
		w->head = 0;
		return;
	}
	w->size = MAX((size_t)64, w->size * 2);
	w->at = xreallocarray(w->at, w->size, sizeof(*w->at));
}

void
spool_window_offer(struct spool_window *w, const char *name, bool sure)
{
	struct spool_entry *at;
	bool found;
	size_t i = search(w, name, &found);

	if (found) {
		w->at[w->head + i].sure |= sure;
		return;
	}
	if (i == w->count && (!w->complete || w->count == w->max)) {
		w->complete = false;
		w->beyond++;
		return;
	}
	if (w->count == w->max) {
		free(w->at[w->head + --w->count].name);
		w->complete = false;
		w->beyond++;
	}
	if (i == 0 && w->head > 0) {
		w->head--;
	} else {
		make_room(w);
		at = w->at + w->head + i;
		memmove(at + 1, at, (w->count - i) * sizeof(*at));
	}
	w->at[w->head + i] = (struct spool_entry){ xstrdup(name), sure };
	w->count++;
}

bool
spool_window_pop(struct spool_window *w, struct spool_entry *ret)
{
	if (w->count == 0)
		return false;
	*ret = w->at[w->head++];
	if (--w->count == 0)
		w->head = 0;
	return true;
}

void
spool_window_remove(struct spool_window *w, const char *name)
{
	bool found;
	size_t i = search(w, name, &found);
	struct spool_entry *at;

	if (!found)
		return;
	at = w->at + w->head + i;
	free(at->name);
	memmove(at, at + 1, (w->count - i - 1) * sizeof(*at));
	w->count--;
}
