/*
 * slack_text.h - what a message in Slack says.  Pure.
 *
 * Limits (docs.slack.dev, "Block Kit" and chat.postMessage): at most 50 blocks,
 * a section's text 3000 characters and a field's 2000, 10 fields.  Bytes are
 * counted here, of which there are never fewer than characters.  In mrkdwn
 * exactly & < > are escaped; that also defuses <!channel> in what others say.
 */
#ifndef BOT_SINK_SLACK_TEXT_H
#define BOT_SINK_SLACK_TEXT_H

#include "base/buffer.h"
#include "observe/alert.h"

#define SLACK_SECTION_MAX	2900
#define SLACK_TEXT_MAX		3500

/* Who speaks, and how a person asks there. */
struct slack_place {
	const char *host;
	const char *botctl;		/* "botctl -i client-sample" */
};

/*
 * Appends s escaped, at most max bytes; what does not fit is cut between two
 * characters, with "..." behind it.  Returns how many bytes of s it has.
 */
size_t	slack_escape(struct buffer *, struct slice s, size_t max);

/* "text":"...","blocks":[...]: members for a JSON object.  times: how many
   events are told by it. */
void	slack_message(struct buffer *, const struct alert_event *,
	    const struct slack_place *, unsigned times);
/* "text":"...": what is said in the thread of the alert. */
void	slack_reply(struct buffer *, const struct alert_event *,
	    unsigned times);

#endif
