/*
 * json_scan.h - JSON read as it stands: no tree, no allocation.  Pure.
 *
 * For answers that come often.  The owner gives a text that it may spoil (its
 * own copy, most often in a message's chunk) and pulls values out of it in the
 * order in which they stand:
 *
 *	json_scan_init(&s, text);
 *	if (json_scan_enter_object(&s))
 *		while (json_scan_next_key(&s, &key))
 *			if (slice_is(key, "Body"))
 *				json_scan_text(&s, &body);
 *			else
 *				json_scan_skip(&s);
 *	if (json_scan_end(&s) < 0)
 *		... nothing of what was read is to be believed ...
 *
 * Each key and each element is followed by exactly one of: a value's function,
 * json_scan_skip, or an enter with its loop run to the end.  Strings are
 * unescaped where they stand, and come out as slices into the text with a NUL
 * behind them that does not count.
 *
 * The grammar is RFC 8259's, all of it, in what is skipped too; strings must be
 * UTF-8 (Unicode 15, table 3-7) and \u escapes whole surrogate pairs.  What
 * jansson 2.14 does otherwise: it refuses numbers beyond a double and a key
 * with \u0000, passes over a byte 0 behind a number or a word, and counts a
 * scalar as one level more of its 2048.  Of a key that is there twice both come
 * out; jansson keeps the last.
 *
 * The first error stays: from then on every function says no.
 */
#ifndef BOT_CODEC_JSON_SCAN_H
#define BOT_CODEC_JSON_SCAN_H

#include "base/slice.h"

#define JSON_SCAN_DEPTH_MAX	2048u	/* objects and arrays in each other */

enum json_scan_kind {
	JSON_SCAN_NOTHING = 0,	/* no value begins here, or an error */
	JSON_SCAN_OBJECT,
	JSON_SCAN_ARRAY,
	JSON_SCAN_STRING,
	JSON_SCAN_NUMBER,
	JSON_SCAN_TRUE,
	JSON_SCAN_FALSE,
	JSON_SCAN_NULL,
};

/*
 * A copy of it goes back to where it was made, as long as what it is to read
 * again was only skipped (json_scan_skip, json_scan_raw).
 */
struct json_scan {
	char *text, *end;
	char *at;		/* the next byte */
	unsigned depth;
	bool first;		/* an object or array was just entered */
	const char *error;	/* static; NULL: none so far */
	size_t error_at;	/* byte offset in the text */
};

/* The text must be writable for as long as strings are asked for, and stay for
   as long as the slices are used. */
void	json_scan_init(struct json_scan *, char *text, size_t n);
/* Only white space may follow. 0, or -EPROTO for any error so far. */
int	json_scan_end(struct json_scan *);

/* What the next value is, by its first byte; it is not consumed. */
enum json_scan_kind json_scan_peek(struct json_scan *);
/* False, and an error, when something else comes. */
bool	json_scan_enter_object(struct json_scan *);
bool	json_scan_enter_array(struct json_scan *);
bool	json_scan_string(struct json_scan *, struct slice *ret);
/* False at the end, which is consumed, and for errors. */
bool	json_scan_next_key(struct json_scan *, struct slice *ret);
bool	json_scan_next_element(struct json_scan *);
/* Any value; *ret is its text, blanks inside it included. */
bool	json_scan_skip(struct json_scan *);
bool	json_scan_raw(struct json_scan *, struct slice *ret);
/* A string; any other value is skipped, and *ret is { NULL, 0 }. */
bool	json_scan_text(struct json_scan *, struct slice *ret);

/*
 * An object of which only some texts are wanted: each is looked for by its
 * name, and set as by json_scan_text() (unchanged when it is not there).
 * Other members are skipped, and so is what is no object.
 */
struct json_scan_member {
	const char *name;
	struct slice *text;
};

void	json_scan_texts(struct json_scan *, const struct json_scan_member *,
	    size_t n);

/* Is all of it one JSON number, no blanks, that a double can hold? "007" and
   "1e999" are none. At most 63 bytes. */
bool	json_scan_is_number(struct slice);

#endif
