#include "base/alloc.h"
#include "config/internal.h"

struct splitter {
	struct buffer word;
	char **words;
	size_t n, size;
	bool in_word;
};

static int
end_word(struct splitter *s, struct buffer *why)
{
	if (!s->in_word)
		return 0;
	if (s->n == CONFIG_WORDS_MAX) {
		buffer_printf(why, "more than %zu words", CONFIG_WORDS_MAX);
		return -EINVAL;
	}
	if (s->n + 1 >= s->size) {
		s->size = MAX(s->size * 2, (size_t)8);
		s->words = xreallocarray(s->words, s->size,
		    sizeof(*s->words));
	}
	s->words[s->n++] = buffer_dup(&s->word);
	s->words[s->n] = NULL;
	buffer_clear(&s->word);
	s->in_word = false;
	return 0;
}

/* p is at the opening quote; returns the closing one, NULL if none. */
static const char *
quoted(struct splitter *s, const char *p)
{
	char quote = *p++;

	for (; *p != '\0'; p++) {
		if (*p == quote)
			return p;
		/* POSIX.1, 2.2.3: inside double quotes \ works on few. */
		if (quote == '"' && *p == '\\' && p[1] != '\0' &&
		    strchr("\"\\$`", p[1]) != NULL)
			p++;
		buffer_add_char(&s->word, *p);
	}
	return NULL;
}

static int
split(struct splitter *s, const char *p, struct buffer *why)
{
	for (; *p != '\0'; p++) {
		if (*p == ' ' || *p == '\t') {
			if (end_word(s, why) < 0)
				return -EINVAL;
			continue;
		}
		s->in_word = true;
		if (*p == '"' || *p == '\'') {
			char quote = *p;

			p = quoted(s, p);
			if (p == NULL) {
				buffer_printf(why, "a %c quote is not closed",
				    quote);
				return -EINVAL;
			}
		} else if (*p == '\\') {
			if (*++p == '\0') {
				buffer_add_str(why, "ends in a backslash");
				return -EINVAL;
			}
			buffer_add_char(&s->word, *p);
		} else {
			buffer_add_char(&s->word, *p);
		}
	}
	return end_word(s, why);
}

void
words_free(char **words)
{
	for (size_t i = 0; words != NULL && words[i] != NULL; i++)
		free(words[i]);
	free(words);
}

int
words_split(const char *text, char ***ret, size_t *ret_n, struct buffer *why)
{
	struct splitter s = { .in_word = false };
	int r;

	buffer_init(&s.word);
	r = split(&s, text, why);
	buffer_done(&s.word);
	if (r < 0) {
		words_free(s.words);
		return r;
	}
	*ret = s.words != NULL ? s.words : xcalloc(1, sizeof(*s.words));
	*ret_n = s.n;
	return 0;
}

void
words_quote(struct buffer *b, const char *word)
{
	/* Safe as they are; quoting more than needed only looks odd. */
	if (*word != '\0' && word[strspn(word, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%")] == '\0') {
		buffer_add_str(b, word);
		return;
	}
	buffer_add_char(b, '"');
	for (; *word != '\0'; word++) {
		if (strchr("\"\\$`", *word) != NULL)
			buffer_add_char(b, '\\');
		buffer_add_char(b, *word);
	}
	buffer_add_char(b, '"');
}
