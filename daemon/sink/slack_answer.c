/*
 * What Slack's answers mean (docs.slack.dev: chat.postMessage, "Sending
 * messages using incoming webhooks", "Rate limits").
 */
#include <jansson.h>
#include <stdio.h>

#include "sink/slack_impl.h"

/* What a person can mend, and how. Codes of both ways. */
static const struct {
	const char *code, *what;
} mendable[] = {
	{ "not_authed", "the token is empty: put a bot token into it" },
	{ "invalid_auth", "Slack does not know the token: copy the app's bot "
	    "token (xoxb-...) into it" },
	{ "account_inactive", "the token's app was removed or its owner "
	    "deactivated: make a new one" },
	{ "token_revoked", "the token was revoked: put the new one into it" },
	{ "token_expired", "the token has expired: put the new one into it" },
	{ "missing_scope", "the token lacks the scope chat:write: add it to "
	    "the app and install it again" },
	{ "not_in_channel", "the bot is no member of the channel: /invite it "
	    "there" },
	{ "channel_not_found", "there is no such channel, or the bot is no "
	    "member of it: /invite it there" },
	{ "is_archived", "the channel is archived: choose another" },
	{ "channel_is_archived", "the webhook's channel is archived: make a "
	    "webhook for another" },
	{ "no_service", "the webhook was removed or disabled: put a new one's "
	    "URL into it" },
	{ "no_active_hooks", "the webhook is disabled: enable it in Slack" },
	{ "invalid_token", "Slack does not know the webhook: copy its URL "
	    "again" },
	{ "no_team", "Slack does not know the webhook's workspace: copy its "
	    "URL again" },
	{ "action_prohibited", "an administrator forbids posting there" },
	{ "posting_to_general_channel_denied", "an administrator forbids "
	    "posting there" },
	{ "restricted_action", "an administrator forbids posting there" },
	{ "team_access_not_granted", "an administrator must allow the app" },
};

static const char *const transient_codes[] = {
	"internal_error", "fatal_error", "service_unavailable",
	"request_timeout", "ratelimited", "rate_limited", "rollup_error",
};

static const char *
how_to_mend(const char *code)
{
	for (size_t i = 0; i < ARRAY_SIZE(mendable); i++)
		if (strcmp(mendable[i].code, code) == 0)
			return mendable[i].what;
	return NULL;
}

/* By the code that Slack gives. */
static void
judge_code(const char *code, const char *target, const char *file,
    struct slack_answer *ret)
{
	const char *what = how_to_mend(code);

	for (size_t i = 0; i < ARRAY_SIZE(transient_codes); i++)
		if (strcmp(transient_codes[i], code) == 0) {
			ret->verdict = SLACK_AGAIN;
			error_set(&ret->error, ERROR_TRANSIENT, code,
			    "Slack has a problem (%s) with %s", code, target);
			return;
		}
	if (what != NULL) {
		ret->verdict = SLACK_MEND;
		error_set(&ret->error, ERROR_AUTH, code,
		    "Slack refuses %s (file %.80s): %s", target, file, what);
		return;
	}
	ret->verdict = SLACK_REFUSED;
	error_set(&ret->error, ERROR_REJECTED, *code != '\0' ? code :
	    "refused", "Slack refuses a message to %s: %s", target,
	    *code != '\0' ? code : "it does not say why");
}

/* Short, plain words only: what is taken for a code. */
static bool
take_code(struct slice s, char out[48])
{
	if (s.n == 0 || s.n >= 48)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if ((s.p[i] < 'a' || s.p[i] > 'z') && s.p[i] != '_' &&
		    (s.p[i] < '0' || s.p[i] > '9'))
			return false;
	memcpy(out, s.p, s.n);
	out[s.n] = '\0';
	return true;
}

static void
judge_webhook(const char *target, const char *file,
    const struct http_response *r, const struct secret *secret,
    struct slack_answer *ret)
{
	char code[48] = "";

	if (r->status == 200 && slice_is(r->body, "ok")) {
		ret->verdict = SLACK_TAKEN;
		return;
	}
	if (r->status == 200) {
		ret->verdict = SLACK_MEND;
		error_set(&ret->error, ERROR_PROTOCOL, "no_slack", "%s answers "
		    "200, but not as Slack does: is the URL in %.80s a "
		    "webhook's?", target, file);
		return;
	}
	if (take_code(r->body, code)) {
		judge_code(code, target, file, ret);
		return;
	}
	sink_status_error(&ret->error, target, r, secret);
	ret->verdict = r->status == 400 || r->status == 413 ? SLACK_REFUSED :
	    SLACK_MEND;
}

static void
copy_id(json_t *answer, const char *key, char out[SLACK_ID_BYTES])
{
	const char *id = json_string_value(json_object_get(answer, key));

	if (id != NULL && strlen(id) < SLACK_ID_BYTES)
		snprintf(out, SLACK_ID_BYTES, "%s", id);
}

static void
judge_method(const char *target, const char *file,
    const struct http_response *r, const struct secret *secret,
    struct slack_answer *ret)
{
	json_t *j = json_loadb(r->body.p != NULL ? r->body.p : "", r->body.n,
	    0, NULL);
	json_t *ok = json_object_get(j, "ok");
	const char *word = json_string_value(json_object_get(j, "error"));
	char code[48] = "";

	if (json_is_true(ok) && r->status == 200) {
		ret->verdict = SLACK_TAKEN;
		copy_id(j, "channel", ret->channel);
		copy_id(j, "ts", ret->ts);
	} else if (json_is_false(ok)) {
		if (!take_code(slice_of(word), code))
			code[0] = '\0';
		judge_code(code, target, file, ret);
	} else {
		sink_status_error(&ret->error, "Slack", r, secret);
		ret->verdict = SLACK_MEND;
		if (r->status == 200)
			error_set(&ret->error, ERROR_PROTOCOL, "no_slack",
			    "the answer is not as Slack's are: is Endpoint= "
			    "right?");
	}
	json_decref(j);
}

void
slack_judge(bool webhook, const char *target, const char *file,
    const struct http_response *r, const struct error *err,
    const struct secret *secret, struct slack_answer *ret)
{
	*ret = (struct slack_answer){ .verdict = SLACK_MEND };
	if (err != NULL) {
		/* Also of TLS and of what is no HTTP: it may be a proxy that
		   somebody mends. */
		ret->error = *err;
		ret->verdict = err->class == ERROR_TRANSIENT ? SLACK_AGAIN :
		    SLACK_MEND;
		return;
	}
	ret->retry_after_us = MIN(r->retry_after_us, SLACK_RETRY_AFTER_MAX_US);
	if (r->status == 429) {
		ret->verdict = SLACK_AGAIN;
		error_set(&ret->error, ERROR_THROTTLED, "ratelimited",
		    "Slack asks for less to %s", target);
	} else if (r->status >= 500 || r->status == 408) {
		ret->verdict = SLACK_AGAIN;
		sink_status_error(&ret->error, "Slack", r, secret);
	} else if (webhook) {
		judge_webhook(target, file, r, secret, ret);
	} else {
		judge_method(target, file, r, secret, ret);
	}
}
