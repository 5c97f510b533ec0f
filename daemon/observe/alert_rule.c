/*
 * [Alert NAME]: what may be written, and what it means.
 */
#include "observe/alert_impl.h"

#include <fnmatch.h>

#include "base/alloc.h"

static const struct config_key keys[] = {
	{ "When", CONFIG_STRING, NULL, NULL, 0, 200, CONFIG_RELOAD,
	    "FIGURE OPERATOR VALUE, such as \"queue.backlog > 1000\". The "
	    "figure is one of the status document by its name there: queue.X "
	    "is looked at for each queue (queue.backlog, "
	    "queue.processing_ms.p95, queue.errors.timeout), pool.X for each "
	    "pool, others for the operator (status, backlog, "
	    "loop.slow_turns). queue.health and pool.health are what the "
	    "document's checks say. check.X is looked at for each [Check NAME] "
	    "(check.ok, check.days_left), sink.X for each way to tell people "
	    "(sink.failing). Operators: > >= < <= == !=. Yes/no figures "
	    "(queue.connected) compare with yes and no, status and health with "
	    "ok, degraded and down. Counters such as queue.dead "
	    "count since the start." },
	{ "For", CONFIG_SPAN, "1min", NULL, 0, 0, CONFIG_RELOAD,
	    "How long it must hold before people are told. A restart does not "
	    "begin anew." },
	{ "Severity", CONFIG_CHOICE, "warning", "info|warning|critical", 0, 0,
	    CONFIG_RELOAD, "How bad it is." },
	{ "Queues", CONFIG_WORDS, NULL, NULL, 0, 100, CONFIG_RELOAD,
	    "Queues that a figure queue.X is looked at for, as patterns: "
	    "\"orders-* !orders-test\". ! leaves out. Default: all." },
	{ "Pools", CONFIG_WORDS, NULL, NULL, 0, 100, CONFIG_RELOAD,
	    "The same for a figure pool.X." },
	{ "Checks", CONFIG_WORDS, NULL, NULL, 0, 100, CONFIG_RELOAD,
	    "The same for a figure check.X." },
	{ "Sinks", CONFIG_WORDS, NULL, NULL, 0, 100, CONFIG_RELOAD,
	    "The same for a figure sink.X; sinks are named as in the status "
	    "document: slack, posthog, crowdsec, kuma:NAME." },
	{ "Notify", CONFIG_WORDS, NULL, NULL, 0, 16, CONFIG_RELOAD,
	    "Who is told: names of sinks. Default: all that are configured. "
	    "none: it is only logged and shown." },
	{ "Repeat", CONFIG_SPAN, "infinity", NULL, 60 * USEC_PER_SEC, 0,
	    CONFIG_RELOAD,
	    "Tell again after so long while it still holds." },
	{ "Clear", CONFIG_STRING, NULL, NULL, 0, 32, CONFIG_RELOAD,
	    "Once told, it is over only when the figure is on the good side of "
	    "this value too: with When=queue.backlog > 1000 and Clear=500, at "
	    "500. Keeps a figure that swings around the limit from telling "
	    "again and again." },
	{ "MinSamples", CONFIG_UNSIGNED, "10", NULL, 0, 0, CONFIG_RELOAD,
	    "Messages that there must have been in the last minute for "
	    "error_rate_percent and processing_ms to count as bad: one failure "
	    "in two messages is no rate." },
	{ "Text", CONFIG_STRING, NULL, NULL, 0, 1000, CONFIG_RELOAD,
	    "What people are told besides the figures." },
	{ "Runbook", CONFIG_STRING, NULL, NULL, 0, 1000, CONFIG_RELOAD,
	    "Where it says what to do, such as a URL." },
	{ "Enabled", CONFIG_BOOL, "yes", NULL, 0, 0, CONFIG_RELOAD,
	    "no switches it off, also one of the four that are built in." },
};

const struct config_kind alert_kind = {
	"Alert", true, NULL, NULL, keys, ARRAY_SIZE(keys),
	"A rule that tells people when something goes wrong. Four are there "
	"without being written: backlog (queue.backlog > 1000 for 10min, "
	"warning), backlog-critical (queue.backlog > 10000 for 5min, "
	"critical), error-rate (queue.error_rate_percent > 5 for 5min, "
	"warning), operator-down (status == down for 2min, critical). A "
	"section of the same name takes the place of one as a whole; "
	"Enabled=no switches it off. A figure that is not known changes "
	"nothing.",
};

const char alerts_builtin[] =
	"[Alert backlog]\n"
	"When=queue.backlog > 1000\n"
	"For=10min\n"
	"Severity=warning\n"
	"Text=More messages come than are worked on.\n"
	"[Alert backlog-critical]\n"
	"When=queue.backlog > 10000\n"
	"For=5min\n"
	"Severity=critical\n"
	"Text=Many more messages come than are worked on.\n"
	"[Alert error-rate]\n"
	"When=queue.error_rate_percent > 5\n"
	"For=5min\n"
	"Severity=warning\n"
	"Text=Handlers fail more often than they should.\n"
	"[Alert operator-down]\n"
	"When=status == down\n"
	"For=2min\n"
	"Severity=critical\n"
	"Text=The health check fails: no message can be worked on.\n";

static const struct config_kind *const builtin_schema[] = { &alert_kind, NULL };

/* ---- figures of kinds ---- */

#define OWN_MAX	256

static void
own_figures(const struct engine_types *types, const char *ret[OWN_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; types != NULL && types->queues[i] != NULL; i++) {
		const char *const *own = types->queues[i]->figures;

		for (; own != NULL && *own != NULL && n < OWN_MAX; own++)
			ret[n++] = *own;
	}
	ret[n] = NULL;
}

/* ---- checks ---- */

/* Which key has patterns for which subjects, and whose names these are. */
static const struct {
	const char *key, *section;
} subjects[FIGURE_NSCOPES] = {
	[FIGURE_QUEUE] = { "Queues", "Queue" },
	[FIGURE_POOL] = { "Pools", "Pool" },
	[FIGURE_CHECK] = { "Checks", "Check" },
	/* A folder above knows these. */
	[FIGURE_SINK] = { "Sinks", NULL },
};

static const char *
suggested(const char *written, const char *const *names, size_t n,
    struct buffer *b)
{
	const char *near = config_suggest(written, names, n);

	buffer_clear(b);
	if (near != NULL)
		buffer_printf(b, "; did you mean \"%s\"?", near);
	return buffer_cstr(b);
}

/* A name without a pattern in it must be there. */
static void
check_names(struct config *c, const struct config_section *s, const char *key,
    const char *section)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char *const *word = config_words(s, key);
	const struct config_section *other = NULL;
	const char *names[64];
	size_t n = 0;

	while ((other = config_next(c, section, other)) != NULL)
		if (n < ARRAY_SIZE(names))
			names[n++] = config_label(other);
	for (; *word != NULL; word++) {
		const char *name = *word + (**word == '!');

		if (*name == '\0')
			config_problem(c, s, key, "a pattern is missing behind "
			    "\"!\"");
		else if (strpbrk(name, "*?[\\") == NULL &&
		    config_find(c, section, name) == NULL)
			config_problem(c, s, key, "there is no [%s %s]%s",
			    section, name, suggested(name, names, n, &b));
	}
}

static void
check_sinks(struct config *c, const struct config_section *s,
    const char *const *sinks)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT, known = BUFFER_INIT;
	char *const *word = config_words(s, "Notify");
	bool none = false;
	size_t n = 0, words = 0;

	for (; sinks != NULL && sinks[n] != NULL; n++)
		buffer_printf(&known, " %s", sinks[n]);
	for (; *word != NULL; word++, words++) {
		size_t i = 0;

		none |= strcmp(*word, "none") == 0;
		while (i < n && strcmp(sinks[i], *word) != 0)
			i++;
		if (i == n && strcmp(*word, "none") != 0)
			config_problem(c, s, "Notify", "there is no sink "
			    "\"%.80s\"%s; known: none%s", *word,
			    n != 0 ? suggested(*word, sinks, n, &b) : "",
			    buffer_cstr(&known));
	}
	if (none && words > 1)
		config_problem(c, s, "Notify", "\"none\" stands alone");
}

static void
check_clear(struct config *c, const struct config_section *s,
    const struct alert_when *when)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const char *text = config_string(s, "Clear");
	double clear;

	if (text == NULL || *text == '\0')
		return;
	if (when->op >= ALERT_EQUAL) {
		config_problem(c, s, "Clear", "Clear= needs a When= with "
		    "> >= < or <=");
		return;
	}
	if (alert_when_value(text, &when->figure, &clear, &why) < 0) {
		config_problem(c, s, "Clear", "%s", buffer_cstr(&why));
		return;
	}
	if (when->op <= ALERT_AT_LEAST ? clear > when->threshold :
	    clear < when->threshold)
		config_problem(c, s, "Clear", "Clear=%s is on the bad side of "
		    "When=%s: it would be over and begin at once", text,
		    when->text);
}

static void
check_section(struct config *c, const struct config_section *s,
    const char *const *own, const char *const *sinks)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const char *text = config_string(s, "When");
	struct alert_when when;

	for (size_t i = 0; i < FIGURE_NSCOPES; i++)
		if (subjects[i].section != NULL)
			check_names(c, s, subjects[i].key,
			    subjects[i].section);
	check_sinks(c, s, sinks);
	if (text == NULL || *text == '\0') {
		if (config_bool(s, "Enabled"))
			config_problem(c, s, NULL, "When= is missing, such as "
			    "When=queue.backlog > 1000");
		return;
	}
	if (alert_when_parse(text, own, &when, &why) < 0) {
		config_problem(c, s, "When", "When=: %s", buffer_cstr(&why));
		return;
	}
	check_clear(c, s, &when);
	for (enum figure_scope i = 0; i < FIGURE_NSCOPES; i++)
		if (i != when.figure.scope && subjects[i].key != NULL &&
		    config_is_set(s, subjects[i].key))
			config_problem(c, s, subjects[i].key,
			    "%s is no figure of a %s", when.figure.name,
			    figure_scope_name(i));
}

void
alerts_check(struct config *c, const struct engine_types *types,
    const char *const *sinks)
{
	const struct config_section *s = NULL;
	const char *own[OWN_MAX + 1];

	own_figures(types, own);
	while ((s = config_next(c, "Alert", s)) != NULL)
		check_section(c, s, own, sinks);
}

/* ---- reading ---- */

static const char *
text_or_null(const struct config_section *s, const char *key)
{
	const char *text = config_string(s, key);

	return text != NULL && *text != '\0' ? text : NULL;
}

static void
rule_read(struct alerts *a, struct config *c, const struct config_section *s)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	const char *own[OWN_MAX + 1], *clear = text_or_null(s, "Clear");
	struct alert_rule *r;

	if (!config_bool(s, "Enabled"))
		return;
	own_figures(a->observer->engine->types, own);
	r = new0(struct alert_rule);
	list_init(&r->alerts);
	r->config = config_ref(c);
	r->name = config_label(s);
	if (alert_when_parse(config_string(s, "When"), own, &r->when,
	    &why) < 0)
		BUG("%s: alerts_check() let it pass", config_title(s));
	r->severity = config_choice(s, "Severity") + ALERT_INFO;
	r->for_us = config_span_us(s, "For");
	r->repeat_us = config_span_us(s, "Repeat");
	r->min_samples = config_unsigned(s, "MinSamples");
	r->clear = r->when.threshold;
	if (clear != NULL && alert_when_value(clear, &r->when.figure,
	    &r->clear, &why) < 0)
		BUG("%s: alerts_check() let it pass", config_title(s));
	if (subjects[r->when.figure.scope].key != NULL)
		r->patterns = config_words(s,
		    subjects[r->when.figure.scope].key);
	r->notify = config_words(s, "Notify");
	r->text = text_or_null(s, "Text");
	r->runbook = text_or_null(s, "Runbook");
	list_push_back(&a->rules, &r->link);
}

void
alert_rules_read(struct alerts *a, struct config *c)
{
	struct config *builtin = config_load_text("built-in", alerts_builtin,
	    builtin_schema);
	const struct config_section *s = NULL;

	BUG_ON(config_problems(builtin) != 0);
	while ((s = config_next(builtin, "Alert", s)) != NULL)
		if (config_find(c, "Alert", config_label(s)) == NULL)
			rule_read(a, builtin, s);
	while ((s = config_next(c, "Alert", s)) != NULL)
		rule_read(a, c, s);
	config_unref(builtin);
}

void
alert_rule_free(struct alert_rule *r)
{
	BUG_ON(!list_empty(&r->alerts));
	list_remove(&r->link);
	config_unref(r->config);
	free(r);
}

struct alert_rule *
alert_rule_find(struct alerts *a, const char *name)
{
	struct alert_rule *r;
	struct list *l;

	alerts_foreach_rule(r, a, l)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

bool
alert_rule_is_for(const struct alert_rule *r, const char *subject)
{
	bool any = false, in = false;

	for (char *const *p = r->patterns; p != NULL && *p != NULL; p++) {
		bool out = **p == '!';
		bool matches = fnmatch(*p + out, subject, 0) == 0;

		if (out && matches)
			return false;
		any |= !out;
		in |= !out && matches;
	}
	return in || !any;
}

bool
alert_rule_notifies(const struct alert_rule *r, const char *sink)
{
	if (*r->notify == NULL)
		return true;
	for (char *const *p = r->notify; *p != NULL; p++)
		if (strcmp(*p, sink) == 0)
			return true;
	return false;
}
