#include "guard/guard_impl.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

/* When the processor time of a turn is used up, and when keys are missing. */
#define WAIT_US		USEC_PER_SEC
#define WAIT_KEYS_US	(30 * USEC_PER_SEC)
#define BURST_SECONDS	10
#define BURST_LEAST	5

/* ---- what is said ---- */

static struct slice
sender_of(struct queue_guard *g, struct message *m)
{
	struct guards *all = g->guards;

	if (g->sender == NULL)
		return (struct slice){ NULL, 0 };
	/* A body over MaxBytes= is not worth reading. */
	if (g->sender[0] == '.' && m->body.n > m->queue->max_bytes)
		return (struct slice){ NULL, 0 };
	if (all->sender_of != m->id) {
		all->sender = message_value(m, g->sender);
		all->sender_of = m->id;
	}
	return all->sender;
}

static void
tell(struct queue_guard *g, struct message *m, enum security_kind kind,
    const char *error_type, const char *reason)
{
	security_tell(&(struct security_event){ .kind = kind,
	    .sender = sender_of(g, m), .queue = slice_of(m->queue->name),
	    .reason = slice_of(reason), .message = m->name,
	    .error_type = error_type });
}

static enum guard_answer
bury(struct guard_verdict *v, const char *error_type, const char *why)
{
	v->error_type = error_type;
	snprintf(v->detail, sizeof(v->detail), "%s", why);
	return GUARD_BURY;
}

static enum guard_answer
wait_for(struct guard_verdict *v, uint64_t us, const char *error_type,
    const char *why)
{
	(void)bury(v, error_type, why);
	v->delay_us = us;
	return GUARD_DELAY;
}

/* ---- those who are asked ---- */

static enum guard_answer
verify(struct queue_guard *g, struct message *m, struct guard_verdict *v)
{
	const char *why;

	if (g->verify == VERIFY_NONE)
		return GUARD_PASS;
	/* Said when they were read; nothing runs that nobody vouches for. */
	if (g->keys == NULL)
		return wait_for(v, WAIT_KEYS_US, ERROR_TYPE_INTERNAL,
		    "VerifyKeyFile= could not be read");
	why = verify_message(g->keys, m, g->signature, g->with);
	if (why == NULL)
		return GUARD_PASS;
	tell(g, m, SECURITY_MESSAGE_AUTH_FAILED, ERROR_TYPE_UNAUTHENTICATED,
	    why);
	return bury(v, ERROR_TYPE_UNAUTHENTICATED, why);
}

static enum guard_answer
screen(struct queue_guard *g, struct message *m, struct guard_verdict *v)
{
	uint64_t now = loop_now_us(m->queue->loop);
	char rule[128], why[SECURITY_REASON_MAX];

	if (g->patterns) {
		if (!pattern_turn(&g->guards->budget, now))
			return wait_for(v, WAIT_US, ERROR_TYPE_RATE_LIMITED,
			    "others took the time for Pattern=");
		pattern_message(&g->guards->budget);
	}
	for (size_t i = 0; i < g->nscreens; i++) {
		struct screen *s = g->screens[i];
		enum screen_action action = screen_action(s);

		if (!screen_looks_suspicious(s, m, sender_of(g, m), now,
		    &g->guards->budget, rule, sizeof(rule)) ||
		    action == SCREEN_PASS)
			continue;
		snprintf(why, sizeof(why), "screen %s: %s", screen_name(s),
		    rule);
		if (action == SCREEN_DEAD_LETTER) {
			tell(g, m, SECURITY_MESSAGE_SUSPICIOUS,
			    ERROR_TYPE_SUSPICIOUS, why);
			return bury(v, ERROR_TYPE_SUSPICIOUS, why);
		}
		/* Once is enough: it is the same at each attempt. */
		if (m->attempt <= 1)
			tell(g, m, SECURITY_MESSAGE_SUSPICIOUS, NULL, why);
	}
	return GUARD_PASS;
}

static enum guard_answer
flood(struct queue_guard *g, struct message *m, struct guard_verdict *v)
{
	char why[SECURITY_REASON_MAX], span[CLOCK_SPAN_BYTES];
	uint64_t delay = 0;

	/* A further attempt is our doing, not the sender's. */
	if (g->limit <= 0 || m->attempt > 1)
		return GUARD_PASS;
	if (flood_take(g->flood, sender_of(g, m), g->limit, g->burst,
	    loop_now_us(m->queue->loop), &delay))
		return GUARD_PASS;
	switch (g->over) {
	case OVER_LOG:
		tell(g, m, SECURITY_MESSAGE_FLOOD, NULL, "over SenderLimit=");
		break;
	case OVER_DELAY:
		snprintf(why, sizeof(why), "over SenderLimit=, delayed by %s",
		    clock_span(span, delay));
		tell(g, m, SECURITY_MESSAGE_FLOOD, NULL, why);
		return wait_for(v, delay, ERROR_TYPE_RATE_LIMITED, why);
	case OVER_DEAD_LETTER:
		tell(g, m, SECURITY_MESSAGE_FLOOD, ERROR_TYPE_FLOOD,
		    "over SenderLimit=");
		return bury(v, ERROR_TYPE_FLOOD, "over SenderLimit=");
	}
	return GUARD_PASS;
}

static enum guard_answer
meet(struct queue *q, struct message *m, struct guard_verdict *v)
{
	struct queue_guard *g = q->guard;
	struct guards *all = g->guards;

	/* Most often there are none: then the sender is not even looked for. */
	if (g->sender == NULL || all->bans == NULL ||
	    bans_count(all->bans, BAN_SENDER) == 0)
		return GUARD_PASS;
	return banned_answer(all->bans, &all->banned, m, sender_of(g, m), v);
}

static enum guard_answer
inspect(struct queue *q, struct message *m, struct guard_verdict *v)
{
	struct queue_guard *g = q->guard;
	enum guard_answer answer = verify(g, m, v);

	if (answer == GUARD_PASS)
		answer = screen(g, m, v);
	if (answer == GUARD_PASS)
		answer = flood(g, m, v);
	return answer;
}

/* ---- queues ---- */

static void
guard_free(struct queue_guard *g)
{
	if (g == NULL)
		return;
	verify_keys_free(g->keys);
	flood_free(g->flood);
	free(g);
}

static void
detach(struct queue *q)
{
	guard_free(q->guard);
	q->guard = NULL;
}

/* Old keys are better than none: who could sign yesterday may today. */
static void
read_keys(struct queue_guard *g, const struct queue *q)
{
	struct error err = ERROR_INIT;
	struct verify_keys *k = NULL;

	if (g->verify != VERIFY_NONE) {
		k = verify_keys_read(config_string(q->section, "VerifyKeyFile"),
		    &err);
		if (k == NULL) {
			log_error(LOG_QUEUE_EVENT(q->name,
			    EVENT_RELOAD_PARTIAL), "VerifyKeyFile=: %s; %s "
			    "until a reload can read it", err.text,
			    g->keys != NULL ? "the keys that were read before "
			    "are valid" : "its messages wait");
			return;
		}
	}
	verify_keys_free(g->keys);
	g->keys = k;
}

static void
read_section(struct queue_guard *g, const struct queue *q)
{
	const struct config_section *s = q->section;
	uint64_t burst = config_unsigned(s, "SenderBurst");

	g->sender = config_string(s, "Sender");
	g->verify = (enum verify_kind)config_choice(s, "Verify");
	g->signature = config_string(s, "VerifyAttribute");
	g->with = config_words(s, "VerifyWith");
	g->limit = config_rate(s, "SenderLimit");
	g->burst = burst != 0 ? (double)burst :
	    MAX((double)BURST_LEAST, g->limit * BURST_SECONDS);
	g->over = (enum over_limit)config_choice(s, "OverLimit");
	read_keys(g, q);
	if (g->limit > 0 && g->flood == NULL)
		g->flood = flood_new();
}

static void
pick_screens(struct queue_guard *g, const char *queue)
{
	struct guards *all = g->guards;

	g->nscreens = 0;
	g->patterns = false;
	for (size_t i = 0; i < all->nscreens; i++) {
		if (!screen_covers(all->screens[i], queue))
			continue;
		g->screens[g->nscreens++] = all->screens[i];
		g->patterns |= screen_has_pattern(all->screens[i]);
	}
}

static void
attach(void *owner, struct queue *q)
{
	struct queue_guard *g = q->guard;

	if (g == NULL) {
		g = new0(struct queue_guard);
		g->guards = owner;
	}
	read_section(g, q);
	pick_screens(g, q->name);
	q->guard = g;
	if (g->sender == NULL && g->verify == VERIFY_NONE &&
	    g->nscreens == 0 && g->limit <= 0)
		detach(q);
}

static const struct guard_ops ops = {
	.attach = attach,
	.detach = detach,
	.meet = meet,
	.inspect = inspect,
};

/* ---- all of them ---- */

static struct screen *
take_screen(struct guards *g, const char *name)
{
	for (size_t i = 0; i < g->nscreens; i++) {
		struct screen *s = g->screens[i];

		if (s == NULL || strcmp(screen_name(s), name) != 0)
			continue;
		g->screens[i] = NULL;
		return s;
	}
	return NULL;
}

static bool
news(const char *name, const char *what)
{
	log_notice(LOG_EVENT(EVENT_SECTION_CHANGED), "screen %s: %s", name,
	    what);
	return true;
}

/* The screen of that section, as it was or as it is now; true: another. */
static bool
renew(struct guards *g, struct config *c, const struct config_section *s,
    struct screen **ret)
{
	const char *name = config_label(s);

	*ret = take_screen(g, name);
	if (*ret == NULL) {
		*ret = screen_new(c, s);
		/* At the start there is nothing new about it. */
		return g->config != NULL && news(name, "added");
	}
	if (config_compare(config_find(g->config, "Screen", name), s) ==
	    CONFIG_SAME)
		return false;
	screen_reload(*ret, c, s);
	return news(name, "configuration changed");
}

unsigned
guards_reload(struct guards *g, struct config *c)
{
	struct screen *kept[GUARD_SCREENS_MAX] = { NULL };
	const struct config_section *s = NULL;
	unsigned changed = 0;
	struct queue *q;
	struct list *l;
	size_t n = 0;

	while (n < ARRAY_SIZE(kept) &&
	    (s = config_next(c, "Screen", s)) != NULL)
		changed += renew(g, c, s, &kept[n++]);
	for (size_t i = 0; i < g->nscreens; i++) {
		if (g->screens[i] == NULL)
			continue;
		changed += news(screen_name(g->screens[i]), "removed");
		screen_free(g->screens[i]);
	}
	memcpy(g->screens, kept, sizeof(kept));
	g->nscreens = n;
	config_unref(g->config);
	g->config = config_ref(c);
	/* Also those on their way out, which are not attached again. */
	engine_foreach_queue(q, g->engine, l)
		if (q->guard != NULL)
			pick_screens(q->guard, q->name);
	return changed;
}

struct guards *
guards_new(struct engine *e, struct config *c)
{
	struct guards *g = new0(struct guards);

	g->engine = e;
	(void)guards_reload(g, c);
	engine_set_guard(e, &ops, g);
	return g;
}

void
guards_set_bans(struct guards *g, struct bans *bans)
{
	g->bans = bans;
}

void
guards_free(struct guards *g)
{
	if (g == NULL)
		return;
	for (size_t i = 0; i < g->nscreens; i++)
		screen_free(g->screens[i]);
	config_unref(g->config);
	free(g);
}

const struct screen *
guards_screen(const struct guards *g, size_t i)
{
	return i < g->nscreens ? g->screens[i] : NULL;
}
