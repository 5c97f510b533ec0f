#include "sink/sink_impl.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

/* ---- how it goes ---- */

bool
sink_way_failed(struct sink_record *r, struct sink_way *way,
    const struct error *err)
{
	bool news = !way->failing || strcmp(way->code, err->code) != 0;

	r->error = *err;
	r->error_at_us = clock_realtime_us();
	r->failing += !way->failing;
	way->failing = true;
	memcpy(way->code, err->code, sizeof(way->code));
	return news;
}

void
sink_failed(struct sink_record *r, struct sink_way *way,
    const struct error *err, uint64_t next_us)
{
	char span[CLOCK_SPAN_BYTES];

	if (!sink_way_failed(r, way, err))
		return;
	log_warning(&((struct log_fields){ .event = EVENT_SINK_FAILED,
	    .error_type = err->code }), "%s: %s (%s); trying again in %s, and "
	    "until it works", r->name, err->text, err->code,
	    clock_span(span, next_us));
}

void
sink_refused(struct sink_record *r, const struct error *err)
{
	r->error = *err;
	r->error_at_us = clock_realtime_us();
	r->failed++;
	log_warning(&((struct log_fields){ .event = EVENT_SINK_DROPPED,
	    .error_type = err->code }), "%s: a message was not sent: %s (%s)",
	    r->name, err->text, err->code);
}

void
sink_worked(struct sink_record *r, struct sink_way *way)
{
	bool failed = way->failing;

	sink_way_reset(r, way);
	if (failed)
		log_notice(LOG_EVENT(EVENT_SINK_WORKS), "%s: works again%s",
		    r->name, r->failing != 0 ? ", but not everywhere" : "");
	r->sent_us = clock_monotonic_us();
}

void
sink_way_reset(struct sink_record *r, struct sink_way *way)
{
	r->failing -= way->failing;
	way->failing = false;
}

void
sink_dropped(struct sink_record *r, unsigned n, const char *why)
{
	/* The first, and then ever more seldom: it may rain. */
	bool news = r->dropped == 0 || (r->dropped + n) / 100 !=
	    r->dropped / 100;

	r->dropped += n;
	if (news)
		log_warning(LOG_EVENT(EVENT_SINK_DROPPED), "%s: %u %s%s "
		    "not sent: %s (%" PRIu64 " so far)", r->name, n,
		    r->noun != NULL ? r->noun : "message",
		    n == 1 ? "" : "s", why, r->dropped);
}

json_t *
sink_record_json(const struct sink_record *r)
{
	uint64_t now = clock_monotonic_us();
	char iso[CLOCK_ISO_BYTES];
	json_t *j = json_object(), *e = json_null();

	if (error_is_set(&r->error)) {
		e = json_object();
		json_object_set_new(e, "class",
		    json_string(error_class_name(r->error.class)));
		json_object_set_new(e, "code", json_text(r->error.code));
		json_object_set_new(e, "text", json_text(r->error.text));
		json_object_set_new(e, "at", json_string(clock_iso(iso,
		    r->error_at_us, false)));
	}
	json_object_set_new(j, "sent", json_count(r->sent));
	json_object_set_new(j, "failed", json_count(r->failed));
	json_object_set_new(j, "dropped", json_count(r->dropped));
	json_object_set_new(j, "retries", json_count(r->retries));
	json_object_set_new(j, "failing", json_boolean(r->failing != 0));
	json_object_set_new(j, "failing_means", json_string(r->means != NULL ?
	    r->means : "people cannot be told this way"));
	json_object_set_new(j, "last_sent_seconds", r->sent_us == 0 ?
	    json_null() : json_count((now - MIN(now, r->sent_us)) /
	    USEC_PER_SEC));
	json_object_set_new(j, "last_error", e);
	return j;
}

/* ---- what peers say ---- */

static void
hide(char *text, struct slice what)
{
	char *at = text;

	if (what.n < 8)		/* that would star out words */
		return;
	while ((at = memmem(at, strlen(at), what.p, what.n)) != NULL) {
		memset(at, '*', what.n);
		at += what.n;
	}
}

void
sink_hide(char *text, const struct secret *s)
{
	struct slice all, last;

	if (s == NULL)
		return;
	all = last = secret_bytes(s);
	for (size_t i = all.n; i > 0; i--)
		if (all.p[i - 1] == '/') {
			last = (struct slice){ all.p + i, all.n - i };
			break;
		}
	hide(text, all);
	hide(text, last);
}

void
sink_forget(struct buffer *b, struct secret **s)
{
	if (b->data != NULL)
		secret_wipe(b->data, b->size);
	buffer_done(b);
	secret_free(*s);
	*s = NULL;
}

int
sink_check_word(const struct secret *s, const char *file, const char *what,
    struct error *err)
{
	struct slice bytes = secret_bytes(s);

	for (size_t i = 0; i < bytes.n; i++)
		if ((unsigned char)bytes.p[i] <= ' ' || bytes.p[i] == 0x7f) {
			error_set(err, ERROR_AUTH, what, "%.100s must have the "
			    "%s on one line and nothing else", file, what);
			return -EINVAL;
		}
	return 0;
}

void
sink_status_error(struct error *err, const char *who,
    const struct http_response *r, const struct secret *secret)
{
	enum error_class class = r->status == 429 ? ERROR_THROTTLED :
	    http_may_retry(r, NULL) || r->status >= 500 ? ERROR_TRANSIENT :
	    ERROR_REJECTED;
	char code[24], quoted[81];

	error_quote(r->body, quoted, sizeof(quoted));
	sink_hide(quoted, secret);
	snprintf(code, sizeof(code), "http_%u", r->status);
	error_set(err, class, code, "%s answers %u%s%s", who, r->status,
	    *quoted != '\0' ? ": " : "", quoted);
}

int
sink_check_header(const struct secret *secret, const char *file,
    struct error *err)
{
	struct slice s = secret_bytes(secret);

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] > ' ' && s.p[i] < 0x7f)
			continue;
		error_set(err, ERROR_AUTH, "secret", "%.160s holds a blank, a "
		    "line break or a byte that is not ASCII", file);
		return -EINVAL;
	}
	return 0;
}

/* ---- URLs ---- */

int
sink_check_url(struct config *c, const struct config_section *s,
    const char *key)
{
	const char *text = config_string(s, key);

	if (http_url_check(c, s, key) < 0)
		return -EINVAL;
	if (text != NULL && strchr(text, '?') != NULL) {
		config_problem(c, s, key, "%s= has no query: leave out \"?\" "
		    "and what follows", key);
		return -EINVAL;
	}
	return 0;
}

char *
sink_trim_url(const char *url)
{
	size_t n = strlen(url);

	while (n != 0 && url[n - 1] == '/')
		n--;
	return xstrndup(url, n);
}

/* ---- all of them ---- */

/* Of the sinks that Notify= may name, Slack is the only one so far. */
static void
check_notify(struct config *c)
{
	const struct config_section *s = NULL;

	if (config_next(c, "Slack", NULL) != NULL)
		return;
	while ((s = config_next(c, "Alert", s)) != NULL) {
		char *const *word = config_words(s, "Notify");

		for (; *word != NULL; word++)
			if (strcmp(*word, "slack") == 0)
				config_problem(c, s, "Notify", "Notify=slack, "
				    "but there is no [Slack]");
	}
}

static bool
is_sink(struct config *c, const char *name)
{
	const char *label = strchr(name, ':');

	if (label != NULL)
		return strncmp(name, "kuma:", 5) == 0 &&
		    config_find(c, "Kuma", label + 1) != NULL;
	return (strcmp(name, "slack") == 0 &&
	    config_next(c, "Slack", NULL) != NULL) ||
	    (strcmp(name, "posthog") == 0 &&
	    config_next(c, "PostHog", NULL) != NULL) ||
	    (strcmp(name, "crowdsec") == 0 &&
	    config_next(c, "CrowdSec", NULL) != NULL);
}

/* Sinks= of a rule: a name without a pattern in it must be there. */
static void
check_watched_sinks(struct config *c)
{
	const struct config_section *s = NULL;

	while ((s = config_next(c, "Alert", s)) != NULL) {
		char *const *word = config_words(s, "Sinks");

		for (; *word != NULL; word++) {
			const char *name = *word + (**word == '!');

			if (strpbrk(name, "*?[\\") == NULL &&
			    !is_sink(c, name))
				config_problem(c, s, "Sinks", "there is no "
				    "sink \"%.80s\": it is slack with a "
				    "[Slack], posthog with a [PostHog], "
				    "crowdsec with a [CrowdSec], or "
				    "kuma:NAME with a [Kuma NAME]",
				    name);
		}
	}
}

void
sinks_check(struct config *c)
{
	check_notify(c);
	check_watched_sinks(c);
	slack_check(c);
	posthog_check(c);
	crowdsec_check(c);
	kumas_check(c);
}

static json_t *
sinks_json(void *owner)
{
	const struct sinks *all = owner;
	json_t *j = json_object();

	if (all->slack != NULL)
		json_object_set_new(j, "slack", slack_json(all->slack));
	if (all->posthog != NULL)
		json_object_set_new(j, "posthog", posthog_json(all->posthog));
	if (all->crowdsec != NULL)
		json_object_set_new(j, "crowdsec",
		    crowdsec_json(all->crowdsec));
	kumas_add_json(all, j);
	return j;
}

static void
sinks_metrics(void *owner, struct buffer *b)
{
	const struct sinks *all = owner;

	if (all->crowdsec != NULL)
		crowdsec_metrics(all->crowdsec, b);
}

struct sinks *
sinks_new(const struct sinks_params *p, struct config *c)
{
	const struct config_section *s;
	struct sinks *all = new0(struct sinks);

	all->p = *p;
	all->config = config_ref(c);
	list_init(&all->kumas);
	if ((s = config_next(c, "Slack", NULL)) != NULL)
		all->slack = slack_new(all, s);
	if ((s = config_next(c, "PostHog", NULL)) != NULL)
		all->posthog = posthog_new(all, s);
	if ((s = config_next(c, "CrowdSec", NULL)) != NULL)
		all->crowdsec = crowdsec_new(all, s);
	(void)kumas_sync(all);
	observer_set_sinks_metrics(p->observer, sinks_metrics, all);
	observer_set_sinks(p->observer, sinks_json, all);
	return all;
}

/* Of a section without a label: true when it is not as it was; *ret is what it
   is now, or NULL. */
static bool
section_changed(struct config *old, struct config *c, const char *name,
    const struct config_section **ret)
{
	const struct config_section *was = config_next(old, name, NULL);
	const struct config_section *s = config_next(c, name, NULL);

	*ret = s;
	if (was == NULL && s == NULL)
		return false;
	if (was != NULL && s != NULL && config_compare(was, s) == CONFIG_SAME)
		return false;
	log_notice(LOG_EVENT(EVENT_SECTION_CHANGED), "[%s] %s", name,
	    was == NULL ? "added" : s == NULL ? "removed" : "changed");
	return true;
}

static unsigned
reload_slack(struct sinks *all, struct config *old, struct config *c)
{
	const struct config_section *s;

	if (!section_changed(old, c, "Slack", &s))
		return 0;
	if (s == NULL) {
		slack_free(all->slack);
		all->slack = NULL;
	} else if (all->slack == NULL) {
		all->slack = slack_new(all, s);
	} else {
		slack_reload(all->slack, s);
	}
	return 1;
}

static unsigned
reload_posthog(struct sinks *all, struct config *old, struct config *c)
{
	const struct config_section *s;

	if (!section_changed(old, c, "PostHog", &s))
		return 0;
	if (s == NULL) {
		posthog_free(all->posthog);
		all->posthog = NULL;
	} else if (all->posthog == NULL) {
		all->posthog = posthog_new(all, s);
	} else {
		posthog_reload(all->posthog, s);
	}
	return 1;
}

static unsigned
reload_crowdsec(struct sinks *all, struct config *old, struct config *c)
{
	const struct config_section *s;

	if (!section_changed(old, c, "CrowdSec", &s))
		return 0;
	if (s == NULL) {
		crowdsec_free(all->crowdsec);
		all->crowdsec = NULL;
	} else if (all->crowdsec == NULL) {
		all->crowdsec = crowdsec_new(all, s);
	} else {
		crowdsec_reload(all->crowdsec, s);
	}
	return 1;
}

unsigned
sinks_reload(struct sinks *all, struct config *c)
{
	struct config *old = all->config;
	unsigned changed;

	all->config = config_ref(c);
	changed = reload_slack(all, old, c);
	changed += reload_posthog(all, old, c);
	changed += reload_crowdsec(all, old, c);
	changed += kumas_sync(all);
	config_unref(old);
	return changed;
}

void
sinks_free(struct sinks *all)
{
	if (all == NULL)
		return;
	observer_set_sinks(all->p.observer, NULL, NULL);
	observer_set_sinks_metrics(all->p.observer, NULL, NULL);
	slack_free(all->slack);
	posthog_free(all->posthog);
	crowdsec_free(all->crowdsec);
	kumas_free(all);
	config_unref(all->config);
	free(all);
}
