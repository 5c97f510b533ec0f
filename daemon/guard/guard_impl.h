/*
 * guard_impl.h - what the files of the guard tell one another.
 *
 *	guard.c		who is asked in which order
 *	guard_check.c	the [Queue] keys, and what is wrong with them
 *	banned.c verify.c screen*.c flood.c	those who are asked
 *	bans.c		who is banned
 *	pattern.c	regular expressions, and what they may cost
 *	recent.c	what screens and floods remember
 *	security.c	how it is told
 */
#ifndef BOT_GUARD_GUARD_IMPL_H
#define BOT_GUARD_GUARD_IMPL_H

#include "engine/engine.h"
#include "guard/bans.h"
#include "guard/flood.h"
#include "guard/guard.h"
#include "guard/screen.h"
#include "guard/security.h"
#include "guard/verify.h"

/* As in the key's choices. */
enum verify_kind { VERIFY_NONE = 0, VERIFY_HMAC_SHA256 };
enum over_limit { OVER_LOG = 0, OVER_DELAY, OVER_DEAD_LETTER };

#define GUARD_SCREENS_MAX	64u

/* Of one queue; strings are of its section. */
struct queue_guard {
	struct guards *guards;
	const char *sender;		/* NULL: nobody says who sent it */
	enum verify_kind verify;
	struct verify_keys *keys;	/* NULL with verify: not readable yet */
	const char *signature;		/* the attribute */
	char *const *with;
	struct screen *screens[GUARD_SCREENS_MAX];
	size_t nscreens;
	bool patterns;			/* a screen has one */
	double limit, burst;		/* limit 0: none */
	enum over_limit over;
	struct flood *flood;
};

/* What is told of messages whose sender is banned: one line in a while. */
struct banned_lines {
	uint64_t told_us;		/* monotonic; 0: never */
	uint64_t untold;
};

/* ---- banned.c ---- */

enum guard_answer banned_answer(struct bans *, struct banned_lines *,
	    const struct message *, struct slice sender,
	    struct guard_verdict *);

struct guards {
	struct engine *engine;
	struct config *config;		/* a reference */
	struct screen *screens[GUARD_SCREENS_MAX];
	size_t nscreens;
	struct pattern_budget budget;
	struct bans *bans;		/* NULL: none */
	struct banned_lines banned;
	/* Whom the last message was from: it is asked for more than once. */
	uint64_t sender_of;		/* the message's id */
	struct slice sender;
};

#endif
