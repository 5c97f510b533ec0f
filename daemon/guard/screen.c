#include "guard/screen.h"

#include <fnmatch.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "engine/message.h"
#include "guard/recent.h"

static const struct config_key keys[] = {
	{ "Queues", CONFIG_WORDS, "*", NULL, 0, 0, CONFIG_RELOAD,
	    "Which queues' messages are looked at; * and ? stand for any." },
	{ "MaxSize", CONFIG_BYTES, NULL, NULL, 1, 64 * MIB, CONFIG_RELOAD,
	    "A longer body is suspicious. Unlike MaxBytes= of the queue, what "
	    "becomes of it is Action='s." },
	{ "MaxDepth", CONFIG_UNSIGNED, NULL, NULL, 1, 100000, CONFIG_RELOAD,
	    "A JSON body whose objects and arrays lie deeper in each other is "
	    "suspicious." },
	{ "Pattern", CONFIG_STRING, NULL, NULL, 1, 4096, CONFIG_RELOAD,
	    "A body in which this regular expression (PCRE2, pcre2pattern(3)) "
	    "is found is suspicious, such as (?i)<script|\\bunion\\s+select. A "
	    "percent sign is written twice. It is about bytes: \".\" is one of "
	    "them. The first 64 KiB of a body are looked at; one on which the "
	    "expression takes too many steps is suspicious as well." },
	{ "Repeats", CONFIG_STRING, NULL, NULL, 1, 64, CONFIG_RELOAD,
	    "N/TIME, such as 5/10min: of messages with the same body, so many "
	    "may come within that time, counted from the first; those after "
	    "them are suspicious. Deliveries of the same message again do not "
	    "count. The 16384 bodies that came last are remembered." },
	{ "Senders", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Names of senders (Sender= of the queue) that may send; * and ? "
	    "stand for any. A message of another sender, or of none, is "
	    "suspicious." },
	{ "Action", CONFIG_CHOICE, "log", "log|dead-letter|pass", 0, 0,
	    CONFIG_RELOAD,
	    "What becomes of a suspicious message. log: it is told as an event "
	    "message_suspicious, and runs. dead-letter: told, and it goes to "
	    "the dead letters as suspicious without being run. pass: it is only "
	    "counted, and runs; for trying a rule out." },
};

const struct config_kind screen_kind = {
	"Screen", true, NULL, NULL, keys, ARRAY_SIZE(keys),
	"Rules that messages should not meet; one is enough to make a message "
	"suspicious. Several screens may look at one queue, in the order in "
	"which they are written.",
};

static const char *const rule_keys[] = {
	"MaxSize", "MaxDepth", "Pattern", "Repeats", "Senders"
};

struct body {
	uint64_t first_us;
	unsigned count;
	struct {
		uint64_t name;
		unsigned place;		/* which one it was: 1, 2, ... */
	} came[SCREEN_NAMES];		/* a ring */
};

struct screen {
	struct config *config;		/* a reference; the texts are of it */
	const char *name;
	struct screen_stats stats;
	char *const *queues, *const *senders;
	uint64_t max_size;		/* 0: no rule, as all below */
	uint64_t max_depth;
	struct pattern *pattern;
	const char *pattern_text;
	unsigned repeats;
	uint64_t span_us;
	const char *repeats_text;
	struct recent *bodies;		/* with Repeats= */
	enum screen_action action;
};

/* ---- life ---- */

/* Only what changed is made anew. */
static void
read_pattern(struct screen *s, const char *text)
{
	struct error err = ERROR_INIT;

	if (text == NULL || s->pattern_text == NULL ||
	    strcmp(text, s->pattern_text) != 0) {
		pattern_free(s->pattern);
		s->pattern = text != NULL ? pattern_new(text, &err) : NULL;
		BUG_ON(text != NULL && s->pattern == NULL);
	}
	s->pattern_text = text;
}

static void
read_repeats(struct screen *s, const char *text)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;

	s->repeats = 0;
	s->repeats_text = text;
	if (text == NULL) {
		recent_free(s->bodies);
		s->bodies = NULL;
		return;
	}
	if (screen_parse_repeats(text, &s->repeats, &s->span_us, &why) < 0)
		BUG("Repeats= of a screen was not checked");
	if (s->bodies == NULL)
		s->bodies = recent_new(sizeof(struct body), SCREEN_BODIES_MAX);
}

void
screen_reload(struct screen *s, struct config *c,
    const struct config_section *from)
{
	struct config *old = s->config;

	s->config = config_ref(c);
	s->name = config_label(from);
	s->queues = config_words(from, "Queues");
	s->senders = config_words(from, "Senders");
	s->max_size = config_bytes(from, "MaxSize");
	s->max_depth = config_unsigned(from, "MaxDepth");
	s->action = (enum screen_action)config_choice(from, "Action");
	read_pattern(s, config_string(from, "Pattern"));
	read_repeats(s, config_string(from, "Repeats"));
	config_unref(old);
}

struct screen *
screen_new(struct config *c, const struct config_section *from)
{
	struct screen *s = new0(struct screen);

	screen_reload(s, c, from);
	return s;
}

void
screen_free(struct screen *s)
{
	if (s == NULL)
		return;
	pattern_free(s->pattern);
	recent_free(s->bodies);
	config_unref(s->config);
	free(s);
}

const char *
screen_name(const struct screen *s)
{
	return s->name;
}

enum screen_action
screen_action(const struct screen *s)
{
	return s->action;
}

const char *
screen_action_name(const struct screen *s)
{
	return s->action == SCREEN_LOG ? "log" :
	    s->action == SCREEN_DEAD_LETTER ? "dead-letter" : "pass";
}

const struct screen_stats *
screen_stats(const struct screen *s)
{
	return &s->stats;
}

bool
screen_has_pattern(const struct screen *s)
{
	return s->pattern != NULL;
}

static bool
matches(char *const *patterns, const char *name)
{
	for (; *patterns != NULL; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

bool
screen_covers(const struct screen *s, const char *queue)
{
	return matches(s->queues, queue);
}

/* ---- looking ---- */

#define SENDER_MAX	256u

static bool
is_known_sender(const struct screen *s, struct slice sender)
{
	char name[SENDER_MAX + 1];

	/* A byte 0 would end the name early. */
	if (sender.n == 0 || sender.n > SENDER_MAX ||
	    memchr(sender.p, 0, sender.n) != NULL)
		return false;
	memcpy(name, sender.p, sender.n);
	name[sender.n] = '\0';
	return matches(s->senders, name);
}

/* Which one with this body, within the time, it is. */
static unsigned
count_body(struct screen *s, const struct message *m, uint64_t now_us)
{
	struct body *b = recent_get(s->bodies, hash_of(m->body));
	uint64_t name = hash_of(m->name);
	unsigned at;

	if (b->count == 0 || now_us - b->first_us >= s->span_us)
		*b = (struct body){ .first_us = now_us };
	for (unsigned i = 0; m->name.n != 0 && i < MIN(b->count, SCREEN_NAMES);
	    i++)
		if (b->came[i].name == name)
			return b->came[i].place;
	at = b->count++ % SCREEN_NAMES;
	b->came[at].name = name;
	b->came[at].place = b->count;
	return b->count;
}

static bool
meets_a_rule(struct screen *s, const struct message *m, struct slice sender,
    uint64_t now_us, struct pattern_budget *budget, char *why, size_t room)
{
	unsigned n;

	if (s->max_size != 0 && m->body.n > s->max_size) {
		snprintf(why, room, "%zu bytes, MaxSize=%llu", m->body.n,
		    (unsigned long long)s->max_size);
		return true;
	}
	if (s->max_depth != 0 && screen_is_deeper(m->body, s->max_depth)) {
		snprintf(why, room, "nested more deeply than MaxDepth=%llu",
		    (unsigned long long)s->max_depth);
		return true;
	}
	if (s->senders[0] != NULL && !is_known_sender(s, sender)) {
		snprintf(why, room, sender.n == 0 ? "no sender" :
		    "not one of Senders=");
		return true;
	}
	/* A further attempt is no further message. */
	if (s->repeats != 0 && m->attempt <= 1 &&
	    (n = count_body(s, m, now_us)) > s->repeats) {
		snprintf(why, room, "the %u. with the same body, Repeats=%s",
		    n, s->repeats_text);
		return true;
	}
	if (s->pattern == NULL)
		return false;
	switch (pattern_find(s->pattern, m->body, budget)) {
	case PATTERN_MET:
		snprintf(why, room, "Pattern= is in it");
		return true;
	case PATTERN_TOO_MUCH:
		snprintf(why, room, "Pattern= takes too many steps on it");
		return true;
	case PATTERN_ABSENT:
		break;
	}
	return false;
}

bool
screen_looks_suspicious(struct screen *s, const struct message *m,
    struct slice sender, uint64_t now_us, struct pattern_budget *budget,
    char *why, size_t room)
{
	s->stats.looked++;
	if (!meets_a_rule(s, m, sender, now_us, budget, why, room))
		return false;
	s->stats.suspicious++;
	return true;
}

/* ---- checking ---- */

static bool
matches_a_queue(const struct config *c, const char *pattern)
{
	const struct config_section *q = NULL;

	while ((q = config_next(c, "Queue", q)) != NULL)
		if (fnmatch(pattern, config_label(q), 0) == 0)
			return true;
	return false;
}

static void
check_queues(struct config *c, const struct config_section *s)
{
	char *const *queues = config_words(s, "Queues");
	const struct config_section *q = NULL;

	for (char *const *w = queues; *w != NULL; w++)
		if (!matches_a_queue(c, *w))
			config_problem(c, s, "Queues", "there is no [Queue %s]"
			    "%s", *w, strpbrk(*w, "*?[") != NULL ? ", or any "
			    "that it could stand for" : "");
	if (config_words(s, "Senders")[0] == NULL)
		return;
	while ((q = config_next(c, "Queue", q)) != NULL)
		if (matches(queues, config_label(q)) &&
		    config_string(q, "Sender") == NULL)
			config_problem(c, s, "Senders", "[Queue %s] has no "
			    "Sender= that says who sent a message",
			    config_label(q));
}

static void
check_rules(struct config *c, const struct config_section *s)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const char *pattern = config_string(s, "Pattern");
	const char *repeats = config_string(s, "Repeats");
	struct error err = ERROR_INIT;
	uint64_t span;
	unsigned n;

	if (pattern != NULL) {
		struct pattern *p = pattern_new(pattern, &err);

		if (p == NULL)
			config_problem(c, s, "Pattern", "Pattern=%s: %s",
			    pattern, err.text);
		pattern_free(p);
	}
	if (repeats != NULL &&
	    screen_parse_repeats(repeats, &n, &span, &why) < 0)
		config_problem(c, s, "Repeats", "Repeats=%s: %s", repeats,
		    buffer_cstr(&why));
	for (size_t i = 0; i < ARRAY_SIZE(rule_keys); i++)
		if (config_is_set(s, rule_keys[i]))
			return;
	config_problem(c, s, NULL, "no rule: set one of MaxSize=, MaxDepth=, "
	    "Pattern=, Repeats=, Senders=");
}

void
screens_check(struct config *c)
{
	const struct config_section *s = NULL;

	while ((s = config_next(c, "Screen", s)) != NULL) {
		check_rules(c, s);
		check_queues(c, s);
	}
}
