#include <ctype.h>

#include "config/internal.h"

#define NAME_MAX_BYTES	((size_t)64)	/* longer ones are no typo */

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Optimal string alignment (Levenshtein and swaps of neighbours), no case. */
static unsigned
distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned row[3][NAME_MAX_BYTES + 1];
	unsigned *before = row[0], *last = row[1], *now = row[2], *spare;

	for (size_t j = 0; j <= nb; j++)
		last[j] = (unsigned)j;
	memset(before, 0, sizeof(row[0]));
	for (size_t i = 1; i <= na; i++) {
		int ca = tolower((unsigned char)a[i - 1]);

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			int cb = tolower((unsigned char)b[j - 1]);

			now[j] = least(last[j - 1] + (ca != cb),
			    least(last[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 &&
			    ca == tolower((unsigned char)b[j - 2]) &&
			    tolower((unsigned char)a[i - 2]) == cb)
				now[j] = least(now[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[nb];
}

const char *
config_suggest(const char *written, const char *const *names, size_t n)
{
	size_t len = strlen(written);
	const char *best = NULL;
	unsigned best_distance = 0;

	if (len == 0 || len > NAME_MAX_BYTES)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t name_len = strlen(names[i]);
		/* A third of the letters, rounded up, but not all of them. */
		unsigned far = (unsigned)((MAX(len, name_len) + 2) / 3);
		unsigned d;

		if (name_len == 0 || name_len > NAME_MAX_BYTES)
			continue;
		d = distance(written, len, names[i], name_len);
		if (d > far || d >= MAX(len, name_len))
			continue;
		/* Among equals the longest: a letter was left out. */
		if (best == NULL || d < best_distance ||
		    (d == best_distance && name_len > strlen(best))) {
			best = names[i];
			best_distance = d;
		}
	}
	return best;
}

void
suggestion_add(struct buffer *b, const char *written, const char *const *names,
    size_t n)
{
	const char *close = config_suggest(written, names, n);

	if (close != NULL)
		buffer_printf(b, "; did you mean \"%s\"?", close);
}
