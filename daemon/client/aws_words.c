#include "client/aws_words.h"

#include "base/alloc.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copies one word to *to with a NUL; where it ended, or NULL. */
static const char *
copy_word(const char *p, char **to)
{
	char quote = '\0';

	for (; *p != '\0' && (quote != '\0' || !is_blank(*p)); p++) {
		if (*p == quote) {
			quote = '\0';
		} else if (quote == '\0' && (*p == '"' || *p == '\'')) {
			quote = *p;
		} else if (*p == '\\' && quote != '\'') {
			/* Inside "" it only hides '"' and itself. */
			if (quote == '\0' || p[1] == '"' || p[1] == '\\')
				p++;
			if (*p == '\0')
				return NULL;
			*(*to)++ = *p;
		} else {
			*(*to)++ = *p;
		}
	}
	*(*to)++ = '\0';
	return quote == '\0' ? p : NULL;
}

char **
aws_words_split(const char *text)
{
	/* Two characters a word at least, but for the last. */
	size_t n = strlen(text), max = n / 2 + 2, count = 0;
	char **words = xmalloc(max * sizeof(*words) + n + 1);
	char *to = (char *)(words + max);

	for (const char *p = text;;) {
		while (is_blank(*p))
			p++;
		if (*p == '\0')
			break;
		words[count++] = to;
		p = copy_word(p, &to);
		if (p == NULL) {
			free(words);
			return NULL;
		}
	}
	words[count] = NULL;
	if (count == 0) {
		free(words);
		return NULL;
	}
	return words;
}
