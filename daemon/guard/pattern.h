/*
 * pattern.h - regular expressions (PCRE2) on what strangers send.
 *
 * Bytes, not characters: "." is one byte, and (?i) knows the letters of ASCII.
 * Compiled to machine code where the system allows that.
 *
 * A hostile body cannot burn the loop.  Three bounds: the steps that PCRE2 may
 * take from one place of the body (backtracking); the processor time that one
 * message's patterns may take (looking from each place anew), measured every
 * few places; and PATTERN_LOOK_MAX, the bytes looked at.  What would take more
 * has the answer PATTERN_TOO_MUCH, and is suspicious.
 *
 * Since many messages may come at once, there is a budget for one turn of the
 * loop besides: when it is used up, the others are to wait.
 */
#ifndef BOT_GUARD_PATTERN_H
#define BOT_GUARD_PATTERN_H

#include "base/error.h"
#include "base/slice.h"

#define PATTERN_LOOK_MAX	(64 * KIB)
/* So many steps and as many as the body has bytes: ".*x" goes back over all of
   it. */
#define PATTERN_STEPS		20000u
#define PATTERN_MESSAGE_US	20000u	/* processor time */
#define PATTERN_TURN_US		20000u

struct pattern;

enum pattern_answer {
	PATTERN_ABSENT = 1,
	PATTERN_MET,
	PATTERN_TOO_MUCH,
};

/* For all the messages of a turn; zero it to begin with. */
struct pattern_budget {
	uint64_t turn;			/* which one it is */
	uint64_t used_us;		/* in it, by all messages */
	uint64_t message_us;		/* by the present message */
	uint64_t too_much;		/* answers, since the start */
};

/* NULL and *err: what is wrong and at which byte of the text. */
struct pattern *pattern_new(const char *text, struct error *err);
void	pattern_free(struct pattern *);		/* accepts NULL */
bool	pattern_is_fast(const struct pattern *);	/* machine code */

/* turn: any number that is another in each turn.  False when nothing is left
   of its budget. */
bool	pattern_turn(struct pattern_budget *, uint64_t turn);
/* Before the first pattern of a message. */
void	pattern_message(struct pattern_budget *);
enum pattern_answer pattern_find(const struct pattern *, struct slice body,
	    struct pattern_budget *);

#endif
