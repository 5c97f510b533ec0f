/*
 * [PostHog]: the keys, and reading them.
 */
#include "base/alloc.h"
#include "sink/posthog_impl.h"

static const struct config_key keys[] = {
	{ "Host", CONFIG_STRING, "https://us.i.posthog.com", NULL, 0, 0,
	    CONFIG_RELOAD,
	    "Where PostHog takes events: https://us.i.posthog.com, "
	    "https://eu.i.posthog.com, or your own." },
	{ "ProjectKeyFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_REQUIRED | CONFIG_SECRET_FILE,
	    "A file with the project API key (phc_...), such as "
	    "%d/posthog-key. Read for each request." },
	{ "Interval", CONFIG_SPAN, "1min", NULL, USEC_PER_SEC,
	    3600 * USEC_PER_SEC, CONFIG_RELOAD,
	    "What is put together into one event for each queue and each pool, "
	    "one for each of their error types, and ErrorsMax= for error "
	    "tracking. PostHog bills by events: with 1min, 43200 a month for "
	    "each queue and each pool." },
	{ "Errors", CONFIG_BOOL, "yes", NULL, 0, 0, CONFIG_RELOAD,
	    "Whether error tracking is told ($exception): one event for each "
	    "queue and error type that failed in an interval, with how often. "
	    "No line of the log is in it; the type is its handler's word." },
	{ "ErrorsMax", CONFIG_UNSIGNED, "20", NULL, 1, 1000, CONFIG_RELOAD,
	    "Errors=yes: how many events at most in one interval, for the most "
	    "frequent pairs of queue and error type; they say how much was "
	    "left out." },
	{ "CAFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Certificates (PEM) that the server's must be signed by. Default: "
	    "the system's." },
	{ "Timeout", CONFIG_SPAN, "10s", NULL, 100000, 60 * USEC_PER_SEC,
	    CONFIG_RELOAD, "How long one request may take." },
	{ "QueueMax", CONFIG_UNSIGNED, "5000", NULL, 1, 100000, CONFIG_RELOAD,
	    "Events, of about 1 KB, that may wait while PostHog cannot be "
	    "reached or asks for less; then the oldest is dropped and "
	    "counted." },
};

const struct config_kind posthog_kind = {
	"PostHog", false, NULL, NULL, keys, ARRAY_SIZE(keys),
	"Figures of queues and pools to PostHog, put together by intervals, "
	"and errors for its error tracking. scripts/posthog-dashboards makes "
	"dashboards of them. HTTPS_PROXY and the like of the operator's "
	"environment are honoured.",
};

void
posthog_settings_check(struct config *c, const struct config_section *s)
{
	(void)sink_check_url(c, s, "Host");
	if (!config_bool(s, "Errors") && config_is_set(s, "ErrorsMax"))
		config_problem(c, s, "ErrorsMax", "ErrorsMax= has no effect "
		    "with Errors=no");
}

void
posthog_settings_read(struct posthog_settings *k, struct config *c,
    const struct config_section *s)
{
	const char *ca = config_string(s, "CAFile");
	_cleanup_free_ char *base = sink_trim_url(config_string(s, "Host"));

	k->config = config_ref(c);
	k->host = config_string(s, "Host");
	k->url = xasprintf("%s/batch/", base);
	k->key_file = config_string(s, "ProjectKeyFile");
	k->ca_file = ca != NULL && *ca != '\0' ? ca : NULL;
	k->interval_us = config_span_us(s, "Interval");
	k->timeout_us = config_span_us(s, "Timeout");
	k->errors = config_bool(s, "Errors");
	k->errors_max = (unsigned)config_unsigned(s, "ErrorsMax");
	k->queue_max = (unsigned)config_unsigned(s, "QueueMax");
}

void
posthog_settings_done(struct posthog_settings *k)
{
	free(k->url);
	config_unref(k->config);
}
