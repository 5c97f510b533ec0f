/*
 * screen.h - [Screen NAME]: rules that a message should not meet.
 *
 * A screen lasts over reloads as long as its name does: what it has counted,
 * and which bodies it saw, stay.
 */
#ifndef BOT_GUARD_SCREEN_H
#define BOT_GUARD_SCREEN_H

#include "base/buffer.h"
#include "base/list.h"
#include "config/config.h"
#include "guard/pattern.h"

/* The bodies that one screen remembers for Repeats=. */
#define SCREEN_BODIES_MAX	16384u
/* Of each body, the messages that are known to have had it: a message that is
   delivered again is no repetition. */
#define SCREEN_NAMES		8u

struct message;
struct screen;

enum screen_action {
	SCREEN_LOG = 0,			/* as in the table's choices */
	SCREEN_DEAD_LETTER,
	SCREEN_PASS,
};

extern const struct config_kind screen_kind;

/* Problems of all [Screen]s are added to the tree. */
void	screens_check(struct config *);

/* ---- one of them ---- */

struct screen_stats {
	uint64_t looked, suspicious;
};

/* Of a tree free of problems, on which it takes a reference. */
struct screen *screen_new(struct config *, const struct config_section *);
void	screen_free(struct screen *);
/* Another section of the same name. */
void	screen_reload(struct screen *, struct config *,
	    const struct config_section *);

const char *screen_name(const struct screen *);
enum screen_action screen_action(const struct screen *);
const char *screen_action_name(const struct screen *);
const struct screen_stats *screen_stats(const struct screen *);
bool	screen_has_pattern(const struct screen *);
bool	screen_covers(const struct screen *, const char *queue);

/*
 * True when a rule is met; why says which ("too long: 70000 bytes,
 * MaxSize=65536").  sender: empty when there is none.
 */
bool	screen_looks_suspicious(struct screen *, const struct message *,
	    struct slice sender, uint64_t now_us, struct pattern_budget *,
	    char *why, size_t room);

/* ---- rules, for tests ---- */

/*
 * Is this text, if it begins as JSON does, nested more deeply than max?
 * Brackets in strings do not count.  No grammar: what is no JSON has some
 * answer.
 */
bool	screen_is_deeper(struct slice text, size_t max);
/* "5/10min": 0, or -EINVAL and why. */
int	screen_parse_repeats(const char *text, unsigned *ret_n,
	    uint64_t *ret_span_us, struct buffer *why);

#endif
