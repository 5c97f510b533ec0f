/*
 * Messages of senders that are banned.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "guard/guard_impl.h"

#define TELL_EVERY_US	(10 * USEC_PER_SEC)

/* A banned sender may send thousands: a line in a while says how many. */
static void
tell(struct banned_lines *lines, const struct message *m, struct slice sender,
    const char *then)
{
	uint64_t now = loop_now_us(m->queue->loop), untold = lines->untold;
	char name[SECURITY_NAME_MAX + 1], more[80] = "";

	if (lines->told_us != 0 && now - lines->told_us < TELL_EVERY_US) {
		lines->untold++;
		return;
	}
	lines->told_us = now;
	lines->untold = 0;
	(void)security_clean(sender, name);
	if (untold != 0)
		snprintf(more, sizeof(more), " (and %" PRIu64 " more messages "
		    "of banned senders since)", untold);
	log_warning(&((struct log_fields){ .event = EVENT_SENDER_BANNED,
	    .queue = m->queue->name, .message = m->name,
	    .attempt = m->attempt, .error_type = ERROR_TYPE_BANNED }),
	    "its sender %s is banned; %s%s", name, then, more);
}

enum guard_answer
banned_answer(struct bans *bans, struct banned_lines *lines,
    const struct message *m, struct slice sender, struct guard_verdict *v)
{
	enum ban_effect effect = bans_effect(bans, &v->delay_us);
	char span[CLOCK_SPAN_BYTES], then[80];

	if (!bans_sender(bans, sender))
		return GUARD_PASS;
	v->error_type = ERROR_TYPE_BANNED;
	snprintf(v->detail, sizeof(v->detail), "its sender is banned");
	bans_count_message(bans, effect);
	switch (effect) {
	case BAN_DELAY:
		snprintf(then, sizeof(then), "it waits for %s",
		    clock_span(span, v->delay_us));
		tell(lines, m, sender, then);
		return GUARD_DELAY;
	case BAN_DROP:
		tell(lines, m, sender, "it is dropped");
		return GUARD_DROP;
	default:
		tell(lines, m, sender, "it goes to the dead letters");
		return GUARD_BURY;
	}
}
