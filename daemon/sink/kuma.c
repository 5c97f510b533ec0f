/*
 * [Kuma NAME]: push monitors of Uptime Kuma 2.
 *
 *	GET URL/api/push/TOKEN?status=up|down&msg=...&ping=MS
 *
 * answers {"ok":true}, or 404 {"ok":false,"msg"} for a token that is unknown or
 * whose monitor is paused; no beat within the monitor's interval and a second
 * is "down" by itself.  (server/routers/api-router.js of 2.0)
 *
 * A beat is sent each Interval=, and at once when up has become down or the
 * other way round.  While the operator starts or drains it says nothing about
 * health: a restart that is over in time is no outage, one that is not shows.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "codec/url.h"
#include "sink/sink_impl.h"

#define LOOK_US		USEC_PER_SEC
#define BACKOFF_US	USEC_PER_SEC
#define ANSWER_MAX	(16 * KIB)
#define MESSAGE_MAX	250	/* bytes of msg=, before its escapes */
#define HEALTH		"health"

static const struct config_key keys[] = {
	{ "URL", CONFIG_STRING, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_REQUIRED,
	    "Where Uptime Kuma is, such as https://kuma.example.org." },
	{ "PushTokenFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_RELOAD | CONFIG_REQUIRED | CONFIG_SECRET_FILE,
	    "A file with the token of a monitor of type Push: the last part of "
	    "its push URL, before the \"?\". Read for each beat." },
	{ "For", CONFIG_STRING, HEALTH, NULL, 1, 0, CONFIG_RELOAD,
	    "health: up while the operator's status is ok, down with the "
	    "reason while it is degraded or down, and silent while it starts "
	    "or drains. Or the name of an alert rule: down while it fires and "
	    "no silence covers it." },
	{ "Interval", CONFIG_SPAN, "20s", NULL, 1000000, 3600 * USEC_PER_SEC,
	    CONFIG_RELOAD,
	    "How often a beat is sent. The monitor's own heartbeat interval "
	    "must be longer: two or three times as long, so that one beat may "
	    "be lost." },
	{ "Timeout", CONFIG_SPAN, "10s", NULL, 100000, 60 * USEC_PER_SEC,
	    CONFIG_RELOAD, "How long one request may take." },
	{ "CAFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Certificates (PEM) that the server's must be signed by. Default: "
	    "the system's." },
};

const struct config_kind kuma_kind = {
	"Kuma", true, NULL, NULL, keys, ARRAY_SIZE(keys),
	"A push monitor of Uptime Kuma that is told how it goes. One section "
	"for each monitor; scripts/kuma-setup makes monitors.",
};

struct kuma {
	struct list link;
	struct sinks *sinks;
	char *label;
	struct sink_record record;	/* its name: "kuma:LABEL" */
	struct sink_way way;
	char *name;
	struct config *config;		/* a reference */
	const struct config_section *section;
	const char *watched;		/* HEALTH or a rule; the config's */
	uint64_t interval_us, timeout_us;
	struct http_client *http;	/* NULL: not made yet */
	struct http_request request;
	struct buffer url;		/* secret: wiped after the request */
	struct secret *token;
	struct timer timer;
	bool known, up;			/* as it was told last */
	unsigned failures;
	uint64_t due_us;		/* monotonic; of the next beat */
	uint64_t not_before_us;		/* after a failure */
};

/* ---- what is told ---- */

/* False: nothing. */
static bool
health_beat(struct kuma *k, bool *ret_up, struct buffer *msg)
{
	enum health h = observer_health(k->sinks->p.observer);

	/* A standby is quiet: its primary may beat for the same monitor. */
	if (h == HEALTH_STARTING || h == HEALTH_DRAINING ||
	    h == HEALTH_STANDBY)
		return false;
	*ret_up = h == HEALTH_OK;
	observer_line(k->sinks->p.observer, msg);
	return true;
}

static bool
rule_beat(struct kuma *k, bool *ret_up, struct buffer *msg)
{
	unsigned firing;

	/* A reload took the rule away: sinks_check() lets no such one in. */
	if (alerts_rule_firing(k->sinks->p.alerts, k->watched, &firing,
	    msg) < 0)
		return false;
	*ret_up = firing == 0;
	if (firing == 0)
		buffer_printf(msg, "%s does not fire", k->watched);
	return true;
}

static bool
beat(struct kuma *k, bool *ret_up, struct buffer *msg)
{
	return strcmp(k->watched, HEALTH) == 0 ? health_beat(k, ret_up, msg) :
	    rule_beat(k, ret_up, msg);
}

/* ---- answers ---- */

static void
failed(struct kuma *k, const struct error *err, uint64_t least_us)
{
	uint64_t delay;

	k->failures++;
	k->record.failed++;
	delay = http_retry_delay_us(k->failures, BACKOFF_US, k->interval_us,
	    MIN(least_us, 3600 * USEC_PER_SEC));
	/* A mistake of the configuration is not hammered at. */
	if (err->class != ERROR_TRANSIENT)
		delay = MAX(delay, k->interval_us);
	else
		k->record.retries++;
	k->not_before_us = clock_monotonic_us() + delay;
	k->due_us = k->not_before_us;
	sink_failed(&k->record, &k->way, err, MAX(delay, LOOK_US));
}

static void
judge(struct kuma *k, const struct http_response *r)
{
	const char *file = config_string(k->section, "PushTokenFile");
	struct slice body = r->body;
	struct error err;
	json_t *j;
	bool ok;

	if (r->status == 404) {
		error_set(&err, ERROR_AUTH, "unknown_token", "Uptime Kuma does "
		    "not know the token in %.80s, or its monitor is paused: "
		    "copy the last part of the monitor's push URL into the "
		    "file, or resume the monitor", file);
		failed(k, &err, 0);
		return;
	}
	if (r->status != 200) {
		sink_status_error(&err, "Uptime Kuma", r, k->token);
		failed(k, &err, r->retry_after_us);
		return;
	}
	j = json_loadb(body.p != NULL ? body.p : "", body.n, 0, NULL);
	ok = json_is_true(json_object_get(j, "ok"));
	json_decref(j);
	if (!ok) {
		error_set(&err, ERROR_PROTOCOL, "no_kuma", "%s does not answer "
		    "as Uptime Kuma: is URL= right?",
		    k->request.url.host_header);
		failed(k, &err, 0);
		return;
	}
	k->failures = 0;
	k->record.sent++;
	sink_worked(&k->record, &k->way);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct kuma *k = q->owner;

	if (err != NULL)
		failed(k, err, 0);
	else
		judge(k, r);
	sink_forget(&k->url, &k->token);
}

/* ---- beats ---- */

static int
make_client(struct kuma *k, struct error *err)
{
	const char *ca = config_string(k->section, "CAFile");
	struct http_client_params p = {
		.tls.ca_file = ca != NULL && *ca != '\0' ? ca : NULL,
		.no_tls = strncmp(config_string(k->section, "URL"), "http://",
		    7) == 0,
		.max_connections = 1,
	};

	if (k->http == NULL)
		k->http = http_client_new(k->sinks->p.loop,
		    k->sinks->p.resolver, &p, err);
	return k->http != NULL ? 0 : -EINVAL;
}

static int
make_url(struct kuma *k, bool up, struct slice msg, struct error *err)
{
	_cleanup_free_ char *base = sink_trim_url(config_string(k->section,
	    "URL"));
	struct error why;

	k->token = secret_read_file(config_string(k->section,
	    "PushTokenFile"), err);
	if (k->token == NULL)
		return -EINVAL;
	/* No growth afterwards: that would leave copies behind. */
	(void)buffer_reserve(&k->url, strlen(base) + 64 +
	    3 * (secret_bytes(k->token).n + msg.n));
	buffer_printf(&k->url, "%s/api/push/", base);
	url_add_component(&k->url, secret_bytes(k->token));
	buffer_printf(&k->url, "?status=%s&msg=", up ? "up" : "down");
	url_add_component(&k->url, msg);
	buffer_printf(&k->url, "&ping=%.3f",
	    (double)observer_latency_us(k->sinks->p.observer) / 1000);
	if (http_url_parse(&k->request.url, buffer_cstr(&k->url), &why) == 0)
		return 0;
	error_set(err, ERROR_AUTH, "url", "URL=: %s", why.text);
	return -EINVAL;
}

static void
send_beat(struct kuma *k, bool up, struct slice msg)
{
	struct error err;

	k->known = true;
	k->up = up;
	k->due_us = clock_monotonic_us() + k->interval_us;
	if (make_client(k, &err) < 0 || make_url(k, up, msg, &err) < 0) {
		err.class = ERROR_AUTH;
		sink_forget(&k->url, &k->token);
		failed(k, &err, 0);
		return;
	}
	k->request.timeout_us = k->request.connect_timeout_us = k->timeout_us;
	http_send(k->http, &k->request);
}

static void
on_timer(struct timer *t)
{
	struct kuma *k = t->owner;
	_cleanup_buffer_ struct buffer msg = BUFFER_INIT;
	uint64_t now = clock_monotonic_us();
	struct slice text;
	bool up;

	timer_arm(k->sinks->p.loop, t, LOOK_US);
	if (http_busy(&k->request) || now < k->not_before_us ||
	    !beat(k, &up, &msg))
		return;
	if (k->known && k->up == up && now < k->due_us)
		return;
	text = buffer_slice(&msg);
	text.n = json_utf8_cut(text, MESSAGE_MAX);
	send_beat(k, up, text);
}

/* ---- life ---- */

static void
read_section(struct kuma *k, struct config *c, const struct config_section *s)
{
	config_unref(k->config);
	k->config = config_ref(c);
	k->section = s;
	k->watched = config_string(s, "For");
	k->interval_us = config_span_us(s, "Interval");
	k->timeout_us = config_span_us(s, "Timeout");
}

static struct kuma *
kuma_new(struct sinks *all, const struct config_section *s)
{
	struct kuma *k = new0(struct kuma);

	k->sinks = all;
	k->label = xstrdup(config_label(s));
	k->name = xasprintf("kuma:%s", k->label);
	k->record.name = k->name;
	read_section(k, all->config, s);
	buffer_init(&k->url);
	timer_init(&k->timer, "kuma", on_timer, k);
	k->request.on_done = on_done;
	k->request.owner = k;
	k->request.max_response = ANSWER_MAX;
	/* A Location could repeat the token: not even looked at. */
	k->request.any_status = k->request.cut_response = true;
	list_push_back(&all->kumas, &k->link);
	timer_arm(all->p.loop, &k->timer, 0);
	return k;
}

static void
stop_request(struct kuma *k)
{
	http_cancel(&k->request);
	sink_forget(&k->url, &k->token);
	http_client_free(k->http);
	k->http = NULL;
}

static void
kuma_free(struct kuma *k)
{
	stop_request(k);
	timer_cancel(k->sinks->p.loop, &k->timer);
	list_remove(&k->link);
	config_unref(k->config);
	free(k->name);
	free(k->label);
	free(k);
}

static struct kuma *
find(const struct sinks *all, const char *label)
{
	struct list *l;

	list_foreach(l, &all->kumas) {
		struct kuma *k = list_entry(l, struct kuma, link);

		if (strcmp(k->label, label) == 0)
			return k;
	}
	return NULL;
}

static unsigned
sync_known(struct sinks *all)
{
	unsigned changed = 0;
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &all->kumas) {
		struct kuma *k = list_entry(l, struct kuma, link);
		const struct config_section *s = config_find(all->config,
		    "Kuma", k->label);

		if (s != NULL && config_compare(k->section, s) == CONFIG_SAME)
			continue;
		changed++;
		log_notice(LOG_EVENT(EVENT_SECTION_CHANGED), "[Kuma %s] %s",
		    k->label, s == NULL ? "removed" : "changed");
		if (s == NULL) {
			kuma_free(k);
			continue;
		}
		stop_request(k);
		read_section(k, all->config, s);
		k->known = false;
		k->not_before_us = 0;
		timer_arm(all->p.loop, &k->timer, 0);
	}
	return changed;
}

unsigned
kumas_sync(struct sinks *all)
{
	const struct config_section *s = NULL;
	unsigned changed = sync_known(all);

	while ((s = config_next(all->config, "Kuma", s)) != NULL) {
		if (find(all, config_label(s)) != NULL)
			continue;
		(void)kuma_new(all, s);
		changed++;
	}
	return changed;
}

void
kumas_free(struct sinks *all)
{
	while (!list_empty(&all->kumas))
		kuma_free(list_first_entry(&all->kumas, struct kuma, link));
}

/* ---- checks ---- */

static void
check_watched(struct config *c, const struct config_section *s)
{
	static const char *const builtin[] = { HEALTH, "backlog",
		"backlog-critical", "error-rate", "operator-down" };
	const char *what = config_string(s, "For"), *names[64], *near;
	const struct config_section *rule = NULL;
	size_t n = ARRAY_SIZE(builtin);

	memcpy(names, builtin, sizeof(builtin));
	while ((rule = config_next(c, "Alert", rule)) != NULL) {
		if (strcmp(config_label(rule), what) == 0 &&
		    !config_bool(rule, "Enabled")) {
			config_problem(c, s, "For", "[Alert %s] is switched "
			    "off (Enabled=no)", what);
			return;
		}
		if (n < ARRAY_SIZE(names))
			names[n++] = config_label(rule);
	}
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], what) == 0)
			return;
	if (config_find(c, "Alert", what) != NULL)
		return;
	near = config_suggest(what, names, n);
	config_problem(c, s, "For", "For= is health or the name of an alert "
	    "rule; there is no [Alert %s]%s%s%s", what,
	    near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
	    near != NULL ? "\"?" : "");
}

void
kumas_check(struct config *c)
{
	const struct config_section *s = NULL;

	while ((s = config_next(c, "Kuma", s)) != NULL) {
		(void)sink_check_url(c, s, "URL");
		check_watched(c, s);
	}
}

/* ---- to look at ---- */

void
kumas_add_json(const struct sinks *all, json_t *object)
{
	struct list *l;

	list_foreach(l, &all->kumas) {
		const struct kuma *k = list_entry(l, struct kuma, link);
		json_t *j = sink_record_json(&k->record);
		json_t *key = json_text(k->name);

		json_object_set_new(j, "type", json_string("kuma"));
		json_object_set_new(j, "for", json_text(k->watched));
		json_object_set_new(j, "queued",
		    json_integer(http_busy(&k->request)));
		json_object_set_new(j, "up", k->known ? json_boolean(k->up) :
		    json_null());
		json_object_set_new_nocheck(object, json_string_value(key), j);
		json_decref(key);
	}
}
