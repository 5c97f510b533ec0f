#include "control/page_private.h"

#include <math.h>

void
page_text(struct buffer *b, const char *s)
{
	for (; *s != '\0'; s++) {
		switch (*s) {
		case '&':
			buffer_add_str(b, "&amp;");
			break;
		case '<':
			buffer_add_str(b, "&lt;");
			break;
		case '>':
			buffer_add_str(b, "&gt;");
			break;
		case '"':
			buffer_add_str(b, "&quot;");
			break;
		case '\'':
			buffer_add_str(b, "&#39;");
			break;
		default:
			buffer_add_char(b, *s);
			break;
		}
	}
}

const json_t *
page_get(const json_t *j, const char *path)
{
	char name[64];
	size_t n;

	for (;; path += n + 1) {
		n = strcspn(path, ".");
		if (n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		j = json_object_get(j, name);
		if (path[n] == '\0')
			return json_is_null(j) ? NULL : j;
	}
}

const char *
page_get_text(const json_t *j, const char *path)
{
	const char *s = json_string_value(page_get(j, path));

	return s != NULL ? s : "";
}

static void
add_words(struct buffer *b, const json_t *array)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		if (i != 0)
			buffer_add_str(b, ", ");
		page_value(b, json_array_get(array, i));
	}
}

void
page_value(struct buffer *b, const json_t *j)
{
	if (json_is_string(j))
		page_text(b, json_string_value(j));
	else if (json_is_integer(j))
		buffer_printf(b, "%lld", (long long)json_integer_value(j));
	else if (json_is_real(j) && isfinite(json_real_value(j)))
		buffer_printf(b, "%.*f", fabs(json_real_value(j)) < 10 ? 2 : 1,
		    json_real_value(j));
	else if (json_is_boolean(j))
		buffer_add_str(b, json_is_true(j) ? "yes" : "no");
	else if (json_array_size(j) != 0 &&
	    !json_is_array(json_array_get(j, 0)))
		add_words(b, j);
	else
		buffer_add_str(b, "&ndash;");
}

void
page_state(struct buffer *b, const char *state)
{
	static const char *const known[] = { "ok", "degraded", "starting",
		"draining", "standby", "down", "warning", "pending", "firing", "resolved",
		"error", "critical" };
	const char *class = "";

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(state, known[i]) == 0)
			class = known[i];
	buffer_printf(b, "<span class=\"state %s\">", class);
	page_text(b, state);
	buffer_add_str(b, "</span>");
}

void
page_table(struct buffer *b, const char *caption, const char *const *words,
    const struct page_column *columns, size_t n)
{
	buffer_printf(b, "<section><h2>%s</h2><div class=wide><table><thead>"
	    "<tr>", caption);
	for (; *words != NULL; words++)
		buffer_printf(b, "<th scope=col>%s", *words);
	for (size_t i = 0; i < n; i++)
		buffer_printf(b, "<th scope=col class=n>%s", columns[i].title);
	buffer_add_str(b, "<tbody>\n");
}

void
page_table_end(struct buffer *b)
{
	buffer_add_str(b, "</table></div></section>\n");
}

void
page_row(struct buffer *b, const char *name)
{
	buffer_add_str(b, "<tr><th scope=row>");
	page_text(b, name);
}

void
page_cell(struct buffer *b, const json_t *row, const char *path)
{
	buffer_add_str(b, "<td>");
	page_value(b, page_get(row, path));
}

void
page_numbers(struct buffer *b, const json_t *row,
    const struct page_column *columns, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buffer_add_str(b, "<td class=n>");
		page_value(b, page_get(row, columns[i].path));
	}
	buffer_add_char(b, '\n');
}
