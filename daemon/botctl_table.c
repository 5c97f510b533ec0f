#include "botctl.h"

#include <stdarg.h>

#include "base/alloc.h"

static void
add_cell(struct table *t, char *text)
{
	t->cells = xreallocarray(t->cells, t->ncells + 1, sizeof(*t->cells));
	t->cells[t->ncells++] = text;
}

void
table_init(struct table *t, const char *heads)
{
	*t = (struct table){ .ncolumns = 0 };
	while (*heads != '\0' && t->ncolumns < ARRAY_SIZE(t->right)) {
		size_t n = strcspn(heads, " ");
		char *text;

		t->right[t->ncolumns] = *heads == '>';
		text = xstrndup(heads + t->right[t->ncolumns],
		    n - t->right[t->ncolumns]);
		for (char *p = text; *p != '\0'; p++)
			if (*p == '_')
				*p = ' ';
		t->ncolumns++;
		add_cell(t, text);
		heads += n + strspn(heads + n, " ");
	}
}

void
table_cell(struct table *t, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	_cleanup_buffer_ struct buffer clean = BUFFER_INIT;
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	add_clean(&clean, buffer_head(&b), buffer_len(&b), false);
	add_cell(t, buffer_dup(&clean));
}

void
table_cell_take(struct table *t, char *text)
{
	table_cell(t, "%s", text);
	free(text);
}

/* Characters, not bytes: continuation bytes take no room. */
static size_t
width_of(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static size_t
add_cut(struct buffer *b, const char *s, size_t max)
{
	size_t n = 0;

	for (; *s != '\0'; s++) {
		bool starts = ((unsigned char)*s & 0xc0) != 0x80;

		if (starts && n == max)
			break;
		n += starts;
		buffer_add_char(b, *s);
	}
	return n;
}

void
table_print(struct table *t, struct buffer *b, const char *indent,
    const struct style *style)
{
	size_t widths[ARRAY_SIZE(t->right)] = { 0 };
	size_t rows = t->ncolumns != 0 ? t->ncells / t->ncolumns : 0;

	for (size_t i = 0; i < rows * t->ncolumns; i++)
		widths[i % t->ncolumns] = MAX(widths[i % t->ncolumns],
		    width_of(t->cells[i]));
	for (size_t row = 0; row < rows; row++) {
		size_t left = style->width != 0 ? style->width : SIZE_MAX;

		if (row == 0 && style->colour)
			buffer_add_str(b, "\033[1m");
		left -= MIN(left, add_cut(b, indent, left));
		for (unsigned c = 0; c < t->ncolumns; c++) {
			const char *text = t->cells[row * t->ncolumns + c];
			size_t pad = widths[c] - width_of(text);
			bool last = c + 1 == t->ncolumns;

			for (; t->right[c] && pad != 0 && left != 0; pad--) {
				buffer_add_char(b, ' ');
				left--;
			}
			left -= add_cut(b, text, left);
			for (pad += 2; !last && pad != 0 && left != 0; pad--) {
				buffer_add_char(b, ' ');
				left--;
			}
		}
		if (row == 0 && style->colour)
			buffer_add_str(b, "\033[0m");
		buffer_add_char(b, '\n');
	}
}

void
table_done(struct table *t)
{
	for (size_t i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){ .ncolumns = 0 };
}
