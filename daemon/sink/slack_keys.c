/*
 * [Slack]: the keys, and reading them.
 */
#include "base/alloc.h"
#include "sink/slack_impl.h"

static const struct config_key keys[] = {
	{ "WebhookFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "A file with the URL of an incoming webhook, such as "
	    "%d/slack-webhook. A webhook belongs to one channel. Read for each "
	    "message." },
	{ "InfoWebhookFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "The same for severity info only. Default: WebhookFile=." },
	{ "WarningWebhookFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "For severity warning." },
	{ "CriticalWebhookFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "For severity critical." },
	{ "TokenFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "Instead of webhooks: a file with a bot token (xoxb-...) that has "
	    "the scope chat:write. Then an alert that is over changes its own "
	    "message and is answered in its thread. The bot must be a member "
	    "of the channels. Read for each message." },
	{ "InfoChannel", CONFIG_STRING, "#alerts-info", NULL, 1, 80,
	    CONFIG_RELOAD,
	    "TokenFile: where severity info is posted; a name or an id." },
	{ "WarningChannel", CONFIG_STRING, "#alerts-warning", NULL, 1, 80,
	    CONFIG_RELOAD, "For severity warning." },
	{ "CriticalChannel", CONFIG_STRING, "#alerts-critical", NULL, 1, 80,
	    CONFIG_RELOAD, "For severity critical." },
	{ "Endpoint", CONFIG_STRING, "https://slack.com/api", NULL, 0, 0,
	    CONFIG_RELOAD, "TokenFile: where Slack's methods are." },
	{ "CAFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Certificates (PEM) that the server's must be signed by. Default: "
	    "the system's." },
	{ "Timeout", CONFIG_SPAN, "10s", NULL, 100000, 60 * USEC_PER_SEC,
	    CONFIG_RELOAD,
	    "How long one request may take." },
	{ "QueueMax", CONFIG_UNSIGNED, "100", NULL, 1, 10000, CONFIG_RELOAD,
	    "Messages that may wait for each channel while Slack cannot be "
	    "reached or asks for less; then the oldest is dropped and counted. "
	    "Repeats of one alert that wait become one message." },
};

const struct config_kind slack_kind = {
	"Slack", false, NULL, NULL, keys, ARRAY_SIZE(keys),
	"Alerts to Slack, by webhooks or by a bot token. Messages of one "
	"channel keep their order and go at most one a second; what cannot be "
	"sent waits and is tried again. HTTPS_PROXY and the like of the "
	"operator's environment are honoured.",
};

static const char *const webhook_keys[SLACK_SEVERITIES] = {
	"InfoWebhookFile", "WarningWebhookFile", "CriticalWebhookFile",
};
static const char *const channel_keys[SLACK_SEVERITIES] = {
	"InfoChannel", "WarningChannel", "CriticalChannel",
};

static const char *
value(const struct config_section *s, const char *key)
{
	const char *text = config_string(s, key);

	return text != NULL && *text != '\0' ? text : NULL;
}

static const char *
webhook_of(const struct config_section *s, unsigned severity)
{
	const char *own = value(s, webhook_keys[severity]);

	return own != NULL ? own : value(s, "WebhookFile");
}

void
slack_settings_check(struct config *c, const struct config_section *s)
{
	bool token = value(s, "TokenFile") != NULL;
	const char *hook = value(s, "WebhookFile") != NULL ? "WebhookFile" :
	    NULL;

	for (unsigned i = 0; i < SLACK_SEVERITIES; i++)
		if (hook == NULL && value(s, webhook_keys[i]) != NULL)
			hook = webhook_keys[i];
	if (token && hook != NULL) {
		config_problem(c, s, hook, "TokenFile= and %s= are both set; "
		    "Slack is told either by a bot token or by webhooks",
		    hook);
	} else if (!token && hook == NULL) {
		config_problem(c, s, NULL, "how? set WebhookFile= (the file "
		    "with a webhook's URL) or TokenFile= (with a bot token)");
	}
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++) {
		if (!token && hook != NULL && webhook_of(s, i) == NULL)
			config_problem(c, s, hook, "%s= is missing: what is "
			    "of that severity would be told to nobody (or set "
			    "WebhookFile= for all)", webhook_keys[i]);
		if (!token && config_is_set(s, channel_keys[i]))
			config_problem(c, s, channel_keys[i], "%s= has no "
			    "effect on webhooks: each belongs to its channel",
			    channel_keys[i]);
	}
	if (!token && config_is_set(s, "Endpoint"))
		config_problem(c, s, "Endpoint", "Endpoint= has no effect on "
		    "webhooks");
	(void)sink_check_url(c, s, "Endpoint");
}

/* How one calls botctl for this instance. */
static char *
botctl_of(const struct config *c)
{
	_cleanup_free_ char *usual = xasprintf(SYSCONFDIR
	    "/bot-operator/%s.conf", config_instance(c));

	if (strcmp(config_path(c), usual) == 0)
		return xasprintf("botctl -i %s", config_instance(c));
	return xasprintf("botctl --config %s", config_path(c));
}

void
slack_settings_read(struct slack_settings *k, struct config *c,
    const struct config_section *s)
{
	k->config = config_ref(c);
	k->token_file = value(s, "TokenFile");
	k->webhook = k->token_file == NULL;
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++)
		k->target[i] = k->webhook ? webhook_of(s, i) :
		    config_string(s, channel_keys[i]);
	k->endpoint = sink_trim_url(config_string(s, "Endpoint"));
	k->ca_file = value(s, "CAFile");
	k->timeout_us = config_span_us(s, "Timeout");
	k->queue_max = (unsigned)config_unsigned(s, "QueueMax");
	k->botctl = botctl_of(c);
}

void
slack_settings_done(struct slack_settings *k)
{
	free(k->endpoint);
	free(k->botctl);
	config_unref(k->config);
}
