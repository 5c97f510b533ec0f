/*
 * [CrowdSec]: who is banned comes from its local API, and security events go
 * there.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "sink/crowdsec_impl.h"

#define TIDY_US		USEC_PER_SEC
#define TIDY_MOST	1000u		/* in one turn of the loop */
#define BACKOFF_US	(2 * USEC_PER_SEC)
#define BACKOFF_LEAST	USEC_PER_SEC
#define BACKOFF_MAX	(60 * USEC_PER_SEC)

/* ---- for both directions ---- */

int
crowdsec_make_client(struct crowdsec *k, struct error *err)
{
	const char *ca = config_string(k->settings.section, "CAFile");
	struct http_client_params p = {
		.tls.ca_file = ca != NULL && *ca != '\0' ? ca : NULL,
		.no_tls = strncmp(k->settings.url, "http://", 7) == 0,
		.max_connections = 2,
		/* Not kept from one question to the next: on an old connection
		   that just ends a question may be sent twice, and the second
		   answer would lack what the first one told. */
		.idle_timeout_us = USEC_PER_SEC / 2,
	};

	if (k->http == NULL)
		k->http = http_client_new(k->sinks->p.loop,
		    k->sinks->p.resolver, &p, err);
	return k->http != NULL ? 0 : -EINVAL;
}

uint64_t
crowdsec_delay_us(const struct crowdsec *k, const struct error *err,
    unsigned failures, uint64_t least_us)
{
	uint64_t delay = http_retry_delay_us(failures, BACKOFF_US, BACKOFF_MAX,
	    MIN(least_us, 3600 * USEC_PER_SEC));

	/* A mistake of the configuration is not hammered at. */
	if (err->class != ERROR_TRANSIENT)
		delay = MAX(delay, k->settings.interval_us);
	return MAX(delay, BACKOFF_LEAST);
}

/* ---- time ---- */

static void
on_tidy(struct timer *t)
{
	struct crowdsec *k = t->owner;
	bool more = bans_expire(k->sinks->p.bans, TIDY_MOST);

	timer_arm(k->sinks->p.loop, t, more ? 0 : TIDY_US);
}

/* ---- life ---- */

static void
apply(struct crowdsec *k)
{
	const struct crowdsec_settings *set = &k->settings;

	bans_set_max(k->sinks->p.bans, set->max);
	bans_set_effect(k->sinks->p.bans, set->effect, set->banned_delay_us);
	if (set->key_file == NULL)
		bans_clear(k->sinks->p.bans);
	crowdsec_pull_start(&k->pull);
	crowdsec_report_start(&k->report);
}

struct crowdsec *
crowdsec_new(struct sinks *all, const struct config_section *s)
{
	struct crowdsec *k = new0(struct crowdsec);

	k->sinks = all;
	k->record.name = "crowdsec (alerts)";
	k->record.noun = "alert";
	k->record.means = "its decisions are not followed, or it is not told";
	k->pull_record.name = "crowdsec";
	crowdsec_settings_read(&k->settings, all->config, s);
	crowdsec_pull_init(&k->pull, k);
	crowdsec_report_init(&k->report, k);
	timer_init(&k->tidy, "crowdsec.tidy", on_tidy, k);
	timer_arm(all->p.loop, &k->tidy, TIDY_US);
	apply(k);
	return k;
}

static void
stop(struct crowdsec *k)
{
	crowdsec_pull_stop(&k->pull);
	crowdsec_report_stop(&k->report);
	sink_way_reset(&k->record, &k->way);
	sink_way_reset(&k->pull_record, &k->pull_way);
	http_client_free(k->http);
	k->http = NULL;
}

void
crowdsec_reload(struct crowdsec *k, const struct config_section *s)
{
	struct crowdsec_settings old = k->settings;

	stop(k);
	crowdsec_settings_read(&k->settings, k->sinks->config, s);
	crowdsec_settings_done(&old);
	/* Who is banned stays so until the new API has said all it knows. */
	apply(k);
}

void
crowdsec_free(struct crowdsec *k)
{
	if (k == NULL)
		return;
	stop(k);
	crowdsec_report_done(&k->report);
	timer_cancel(k->sinks->p.loop, &k->tidy);
	bans_clear(k->sinks->p.bans);
	crowdsec_settings_done(&k->settings);
	free(k);
}

/* ---- to look at ---- */

static const struct {
	enum ban_scope scope;
	const char *name;
} scopes[] = {
	{ BAN_IP, "ip" }, { BAN_RANGE, "range" },
	{ BAN_SENDER, "queue-sender" },
};

static void
set(json_t *j, const char *key, json_t *value)
{
	json_object_set_new(j, key, value);
}

static json_t *
seconds_since(bool ever, uint64_t us)
{
	uint64_t now = clock_monotonic_us();

	return ever ? json_count((now - MIN(now, us)) / USEC_PER_SEC) :
	    json_null();
}

static json_t *
error_json(const struct error *e)
{
	json_t *j;

	if (!error_is_set(e))
		return json_null();
	j = json_object();
	set(j, "class", json_string(error_class_name(e->class)));
	set(j, "code", json_text(e->code));
	set(j, "text", json_text(e->text));
	return j;
}

static json_t *
report_json(const struct crowdsec *k)
{
	const struct crowdsec_report *r = &k->report;
	json_t *j;

	if (!k->settings.report)
		return json_null();
	j = sink_record_json(&k->record);
	set(j, "alerts", json_count(r->alerts));
	set(j, "queued", json_integer(r->nwaiting + r->nflying));
	set(j, "logged_in", json_boolean(r->token != NULL));
	return j;
}

json_t *
crowdsec_json(const struct crowdsec *k)
{
	const struct crowdsec_pull *p = &k->pull;
	const struct bans *bans = k->sinks->p.bans;
	json_t *j = sink_record_json(&k->record), *by_scope = json_object();
	json_t *messages = json_object();

	for (enum ban_effect e = BAN_BURY; e < BAN_NEFFECTS; e++)
		set(messages, ban_effect_name(e), json_count(bans_messages(
		    bans, e)));
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++)
		set(by_scope, scopes[i].name, json_count(bans_count(bans,
		    scopes[i].scope)));
	set(j, "type", json_string("crowdsec"));
	set(j, "queued", json_integer(k->report.nwaiting +
	    k->report.nflying));
	set(j, "failing", json_boolean(k->record.failing != 0 ||
	    k->pull_record.failing != 0));
	set(j, "connected", json_boolean(p->ok));
	set(j, "decisions", by_scope);
	set(j, "decisions_max", json_count(k->settings.max));
	set(j, "decisions_left_out", json_count(p->left_out));
	set(j, "decisions_ignored", json_count(p->ignored));
	set(j, "pulls", json_count(p->pulls));
	set(j, "pulls_failed", json_count(p->failed));
	set(j, "last_pull_seconds", seconds_since(p->ever, p->pulled_us));
	set(j, "error", error_json(&p->error));
	set(j, "banned_sender", json_string(ban_effect_name(
	    k->settings.effect)));
	set(j, "banned_messages", messages);
	set(j, "report", report_json(k));
	if (k->record.failing == 0 && error_is_set(&k->pull_record.error)) {
		json_t *pull = sink_record_json(&k->pull_record);

		set(j, "last_error", json_incref(json_object_get(pull,
		    "last_error")));
		json_decref(pull);
	}
	return j;
}

#define P	"bot_operator_crowdsec_"

static void
family(struct buffer *b, const char *name, const char *type, const char *help)
{
	buffer_printf(b, "# TYPE " P "%s %s\n# HELP " P "%s %s\n", name, type,
	    name, help);
}

static void
counter(struct buffer *b, const char *name, const char *help, uint64_t n)
{
	family(b, name, "counter", help);
	buffer_printf(b, P "%s_total %" PRIu64 "\n", name, n);
}

void
crowdsec_metrics(const struct crowdsec *k, struct buffer *b)
{
	const struct crowdsec_pull *p = &k->pull;
	uint64_t now = clock_monotonic_us();

	family(b, "connected", "gauge", "Whether CrowdSec's API answered when "
	    "it was last asked (1) or not (0).");
	buffer_printf(b, P "connected %d\n", p->ok);
	family(b, "decisions", "gauge", "Decisions that are in force here.");
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++)
		buffer_printf(b, P "decisions{scope=\"%s\"} %zu\n",
		    scopes[i].name, bans_count(k->sinks->p.bans,
		    scopes[i].scope));
	if (p->ever) {
		family(b, "last_pull_age_seconds", "gauge",
		    "Since decisions were last pulled; absent before.");
		buffer_printf(b, P "last_pull_age_seconds %" PRIu64 "\n",
		    (now - MIN(now, p->pulled_us)) / USEC_PER_SEC);
	}
	counter(b, "pulls", "Answers with decisions.", p->pulls);
	counter(b, "pulls_failed", "Questions that failed.", p->failed);
	counter(b, "decisions_left_out",
	    "Decisions over MaxDecisions=.", p->left_out);
	counter(b, "decisions_ignored",
	    "Decisions that made no sense here.", p->ignored);
	family(b, "banned_messages", "counter",
	    "Messages whose sender is banned, by what became of them.");
	for (enum ban_effect e = BAN_BURY; e < BAN_NEFFECTS; e++)
		buffer_printf(b, P "banned_messages_total{then=\"%s\"} %" PRIu64
		    "\n", ban_effect_name(e),
		    bans_messages(k->sinks->p.bans, e));
	counter(b, "alerts_sent", "Alerts that the API took.", k->record.sent);
	counter(b, "alerts_dropped", "Alerts that were not sent.",
	    k->record.dropped);
}
