/*
 * json_scan_string.h - json_scan.c's strings.
 */
#ifndef BOT_CODEC_JSON_SCAN_STRING_H
#define BOT_CODEC_JSON_SCAN_STRING_H

#include "base/slice.h"

/*
 * p is behind the opening quote.  keep: what the string says is put where it
 * stood, with a NUL behind it, and is *ret; otherwise nothing is written.
 * NULL, and *ret_at is behind the closing quote; or what is wrong at *ret_at.
 */
const char *json_scan_unquote(char *p, char *end, bool keep, struct slice *ret,
	    char **ret_at);

#endif
