/*
 * aws_words.h - a command line as credential_process has it: words between
 * blanks, '...' and "..." as in a shell, '\' before any character.  No
 * variables, no patterns, no pipes.  Pure.
 */
#ifndef BOT_CLIENT_AWS_WORDS_H
#define BOT_CLIENT_AWS_WORDS_H

#include "base/macros.h"

/* A NULL-terminated array, with its strings one allocation (free). NULL when a
   quote is open or there is no word. */
char	**aws_words_split(const char *);

#endif
