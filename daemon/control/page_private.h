/*
 * page_private.h - what the files of the page tell one another.
 */
#ifndef BOT_CONTROL_PAGE_PRIVATE_H
#define BOT_CONTROL_PAGE_PRIVATE_H

#include "control/page.h"

/* Made from page/ when this is built, by scripts/embed. */
extern const unsigned char page_html[], page_style[], page_script[];
extern const size_t page_html_bytes, page_style_bytes, page_script_bytes;

/* ---- page_text.c ---- */

/* Text of any origin, for content and for quoted attributes. */
void	page_text(struct buffer *, const char *);
/* "a.b" of the object; NULL when it is not there, or null. */
const json_t *page_get(const json_t *, const char *path);
const char *page_get_text(const json_t *, const char *path);
/* What is not known is a dash, not a zero. */
void	page_value(struct buffer *, const json_t *);
/* A coloured word; classes are a fixed set: others get none. */
void	page_state(struct buffer *, const char *state);

struct page_column {
	const char *title;
	const char *path;
};

/* <table> with a caption and the titles; ends with page_table_end(). */
void	page_table(struct buffer *, const char *caption,
	    const char *const *words, const struct page_column *, size_t n);
void	page_table_end(struct buffer *);
void	page_row(struct buffer *, const char *name);
void	page_cell(struct buffer *, const json_t *row, const char *path);
void	page_numbers(struct buffer *, const json_t *row,
	    const struct page_column *, size_t n);

/* ---- page_tables.c ---- */

/* All of it, what is wrong first. */
void	page_tables(struct buffer *, const json_t *status, const json_t *log);

#endif
