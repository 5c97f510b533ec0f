/*
 * [CrowdSec]: the keys, and reading them.
 */
#include "base/alloc.h"
#include "sink/crowdsec_impl.h"

static const struct config_key keys[] = {
	{ "Url", CONFIG_STRING, "http://127.0.0.1:8080", NULL, 1, 0,
	    CONFIG_RELOAD,
	    "Where CrowdSec's local API is. On another host use https." },
	{ "ApiKeyFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "A file with the key that \"cscli bouncers add NAME\" has printed: "
	    "then its decisions count here. Each operator needs a key of its "
	    "own, since the API remembers by key what it has told. Read for "
	    "each request." },
	{ "Interval", CONFIG_SPAN, "10s", NULL, USEC_PER_SEC,
	    3600 * USEC_PER_SEC, CONFIG_RELOAD,
	    "How often the API is asked for new decisions and for those that "
	    "were deleted." },
	{ "MaxDecisions", CONFIG_UNSIGNED, "50000", NULL, 100, 1000000,
	    CONFIG_RELOAD,
	    "How many decisions are kept, about 250 bytes each. Past that, new "
	    "ones are left out until there is room; the log and the status "
	    "say so." },
	{ "BannedSender", CONFIG_CHOICE, "dead-letter",
	    "dead-letter|delay|drop", 0, 0, CONFIG_RELOAD,
	    "What becomes of a message whose sender (Sender= of its queue) is "
	    "banned. dead-letter: it goes to the dead letters with the error "
	    "type banned. delay: it waits for BannedDelay= and is looked at "
	    "again, without using up an attempt. drop: it is acknowledged "
	    "without being run, and is gone." },
	{ "BannedDelay", CONFIG_SPAN, "10min", NULL, USEC_PER_SEC,
	    86400 * USEC_PER_SEC, CONFIG_RELOAD,
	    "BannedSender=delay: how long." },
	{ "Report", CONFIG_BOOL, "no", NULL, 0, 0, CONFIG_RELOAD,
	    "Whether security events are told to the API as alerts, for hosts "
	    "whose log CrowdSec does not read. Not both: they would count "
	    "twice." },
	{ "MachineId", CONFIG_STRING, NULL, NULL, 1, 128, CONFIG_RELOAD,
	    "Report=yes: the name of \"cscli machines add NAME\"." },
	{ "MachinePasswordFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_SECRET_FILE,
	    "Report=yes: a file with its password. Read for each log-in." },
	{ "ReportAfter", CONFIG_UNSIGNED, "5", NULL, 1, 10000, CONFIG_RELOAD,
	    "Report=yes: how many events of one kind about one address or "
	    "sender within ReportWindow= make an alert." },
	{ "ReportWindow", CONFIG_SPAN, "1min", NULL, USEC_PER_SEC,
	    3600 * USEC_PER_SEC, CONFIG_RELOAD,
	    "Report=yes: the time that ReportAfter= is about." },
	{ "CAFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Certificates (PEM) that the server's must be signed by. Default: "
	    "the system's." },
	{ "Timeout", CONFIG_SPAN, "10s", NULL, 100000, 60 * USEC_PER_SEC,
	    CONFIG_RELOAD, "How long one request may take." },
};

const struct config_kind crowdsec_kind = {
	"CrowdSec", false, NULL, NULL, keys, ARRAY_SIZE(keys),
	"CrowdSec decides who is banned: addresses, networks and, with the "
	"scope queue-sender, senders of messages. Banned addresses are not "
	"served at Status=; loopback addresses always are. While its API "
	"cannot be reached the decisions that are known stay in force until "
	"they end. docs/crowdsec.md has the whole way.",
};

static const char *
value(const struct config_section *s, const char *key)
{
	const char *text = config_string(s, key);

	return text != NULL && *text != '\0' ? text : NULL;
}

void
crowdsec_check(struct config *c)
{
	const struct config_section *s = config_next(c, "CrowdSec", NULL);
	bool report;

	if (s == NULL)
		return;
	report = config_bool(s, "Report");
	(void)sink_check_url(c, s, "Url");
	if (report && value(s, "MachineId") == NULL)
		config_problem(c, s, "Report", "Report=yes needs MachineId=: "
		    "the name of \"cscli machines add NAME\"");
	if (report && value(s, "MachinePasswordFile") == NULL)
		config_problem(c, s, "Report", "Report=yes needs "
		    "MachinePasswordFile=: a file with the machine's password");
	if (!report && value(s, "ApiKeyFile") == NULL)
		config_problem(c, s, NULL, "[CrowdSec] has nothing to do: set "
		    "ApiKeyFile= (a key of \"cscli bouncers add NAME\"), "
		    "Report=yes, or both");
}

void
crowdsec_settings_read(struct crowdsec_settings *set, struct config *c,
    const struct config_section *s)
{
	static const enum ban_effect effects[] = { BAN_BURY, BAN_DELAY,
		BAN_DROP };

	*set = (struct crowdsec_settings){
		.config = config_ref(c),
		.section = s,
		.url = sink_trim_url(config_string(s, "Url")),
		.key_file = value(s, "ApiKeyFile"),
		.machine = value(s, "MachineId"),
		.password_file = value(s, "MachinePasswordFile"),
		.interval_us = config_span_us(s, "Interval"),
		.timeout_us = config_span_us(s, "Timeout"),
		.window_us = config_span_us(s, "ReportWindow"),
		.banned_delay_us = config_span_us(s, "BannedDelay"),
		.max = (size_t)config_unsigned(s, "MaxDecisions"),
		.after = (unsigned)config_unsigned(s, "ReportAfter"),
		.effect = effects[config_choice(s, "BannedSender")],
		.report = config_bool(s, "Report"),
	};
}

void
crowdsec_settings_done(struct crowdsec_settings *set)
{
	free(set->url);
	config_unref(set->config);
	*set = (struct crowdsec_settings){ .config = NULL };
}
