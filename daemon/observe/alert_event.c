/*
 * Events on their way to the sinks, and tests of that way.
 */
#include "observe/alert_impl.h"

#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"

const char *
alert_event_name(enum alert_event_kind k)
{
	static const char *const names[] = {
		[ALERT_EVENT_FIRING] = "firing",
		[ALERT_EVENT_REPEAT] = "repeat",
		[ALERT_EVENT_RESOLVED] = "resolved",
		[ALERT_EVENT_TEST] = "test",
		[ALERT_EVENT_NOTICE] = "notice",
	};

	return (size_t)k < ARRAY_SIZE(names) && names[k] != NULL ? names[k] :
	    "?";
}

/* ---- what sinks remember ---- */

static json_t *
memo_of(struct alert_sink *s, const struct alert *x, bool *ret_waits)
{
	_cleanup_buffer_ struct buffer title = BUFFER_INIT;

	*ret_waits = false;
	if (s->memo == NULL)
		return NULL;
	alert_title(&title, x->rule, x->subject);
	return s->memo(s, x->rule->name, buffer_cstr(&title), ret_waits);
}

json_t *
alert_memos(struct alerts *a, const struct alert *x, bool *ret_waits)
{
	json_t *all = x->memos != NULL ? json_copy(x->memos) : json_object();
	struct list *l;

	*ret_waits = x->waits;
	list_foreach(l, &a->sinks) {
		struct alert_sink *s = list_entry(l, struct alert_sink, link);
		bool waits;
		json_t *memo = memo_of(s, x, &waits);

		if (memo != NULL)
			(void)json_object_set_new(all, s->name, memo);
		*ret_waits |= waits;
	}
	return all;
}

/* The sink is there, and has what was kept for it. */
static void
recall(struct alerts *a, struct alert_sink *s)
{
	struct alert_rule *r;
	struct list *l, *k;

	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts) {
			struct alert *x = list_entry(k, struct alert, link);
			_cleanup_buffer_ struct buffer title = BUFFER_INIT;
			json_t *memo = json_object_get(x->memos, s->name);

			if (memo == NULL)
				continue;
			alert_title(&title, r, x->subject);
			s->recall(s, r->name, buffer_cstr(&title), memo);
			(void)json_object_del(x->memos, s->name);
		}
}

/* The sink goes; what it knows is kept for the next of that name. */
static void
keep_memos(struct alerts *a, struct alert_sink *s)
{
	struct alert_rule *r;
	struct list *l, *k;

	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts) {
			struct alert *x = list_entry(k, struct alert, link);
			bool waits;
			json_t *memo = memo_of(s, x, &waits);

			x->waits |= waits;
			if (memo == NULL)
				continue;
			if (x->memos == NULL)
				x->memos = json_object();
			(void)json_object_set_new(x->memos, s->name, memo);
		}
}

void
alerts_memos_changed(struct alerts *a)
{
	a->dirty = true;
}

/* ---- sinks ---- */

/* Whether it is told: of that rule (NULL: of anything), and when it is the one
   of that name (NULL: any). */
static bool
is_told(const struct alert_sink *s, const struct alert_rule *r,
    const char *only)
{
	return (r == NULL || alert_rule_notifies(r, s->name)) &&
	    (only == NULL || strcmp(s->name, only) == 0);
}

void
alerts_add_sink(struct alerts *a, struct alert_sink *s)
{
	BUG_ON(a->nsinks >= ALERT_SINKS_MAX);
	s->events = 0;
	list_push_back(&a->sinks, &s->link);
	a->nsinks++;
	if (s->recall != NULL)
		recall(a, s);
}

static void
trial_end(struct alert_trial *t)
{
	struct alert_trial_ops ops = t->ops;
	void *owner = t->owner;

	alert_trial_abandon(t);
	ops.on_end(owner);
}

/* One sink of a trial has answered or never will. */
static void
trial_answer(struct alert_trial *t, const struct alert_sink *s, bool ok,
    const char *text)
{
	for (unsigned i = 0; i < t->nwaiting; i++) {
		if (t->waiting[i] != s)
			continue;
		t->waiting[i] = t->waiting[--t->nwaiting];
		t->ops.on_answer(t->owner, s->name, ok, text);
		if (t->nwaiting == 0)
			trial_end(t);
		return;
	}
}

void
alerts_remove_sink(struct alerts *a, struct alert_sink *s)
{
	struct list *l, *tmp;

	list_foreach(l, &a->sinks)
		if (l == &s->link)
			break;
	if (l == &a->sinks)
		return;
	list_remove(&s->link);
	a->nsinks--;
	keep_memos(a, s);
	list_foreach_safe(l, tmp, &a->trials)
		trial_answer(list_entry(l, struct alert_trial, link), s, false,
		    "it was taken away");
}

/* ---- events ---- */

const struct recent_lines *
alert_lines(struct alerts *a, const struct alert_rule *r, const char *subject)
{
	struct list *l;

	if (r->when.figure.scope == FIGURE_QUEUE)
		list_foreach(l, &a->observer->queues) {
			struct watch_queue *w = list_entry(l,
			    struct watch_queue, link);

			if (strcmp(w->name, subject) == 0)
				return &w->lines;
		}
	if (r->when.figure.scope == FIGURE_POOL)
		list_foreach(l, &a->observer->pools) {
			struct watch_pool *w = list_entry(l,
			    struct watch_pool, link);

			if (strcmp(w->name, subject) == 0)
				return &w->lines;
		}
	if (r->when.figure.scope == FIGURE_CHECK) {
		observer_check_lines(a->observer, subject, &a->check_lines);
		return &a->check_lines;
	}
	return NULL;
}

/* "queue orders: queue.backlog is 1200 (> 1000) for 10min" */
static void
add_summary(struct buffer *b, const struct alert_event *e)
{
	char span[CLOCK_SPAN_BYTES];

	if (e->kind == ALERT_EVENT_TEST)
		buffer_add_str(b, "a test, nothing is wrong: ");
	buffer_printf(b, "%s%s%s: %s ", figure_scope_name(e->scope),
	    *e->subject != '\0' ? " " : "", e->subject, e->figure);
	if (isnan(e->value))
		buffer_add_str(b, "is not known");
	else
		buffer_printf(b, "is %s", e->value_text);
	buffer_printf(b, " (%s: %s %s)", e->kind == ALERT_EVENT_RESOLVED ?
	    "over" : "limit", e->op, e->threshold_text);
	if (e->kind != ALERT_EVENT_TEST)
		buffer_printf(b, "%s for %s", e->kind == ALERT_EVENT_RESOLVED ?
		    ", was bad" : "", clock_span(span, e->duration_us));
	if (e->note != NULL)
		buffer_printf(b, "; %s", e->note);
}

/* The strings that an event points at, for as long as it lives. */
struct event_texts {
	struct buffer title, summary;
	char value[FIGURE_TEXT_BYTES], threshold[FIGURE_TEXT_BYTES];
};

static void
make_event(struct alerts *a, const struct alert_rule *r, const char *subject,
    double value, struct event_texts *t, struct alert_event *e)
{
	const struct recent_lines *lines = alert_lines(a, r, subject);

	e->severity = r->severity;
	e->rule = r->name;
	e->when = r->when.text;
	e->scope = r->when.figure.scope;
	e->subject = subject;
	alert_title(&t->title, r, subject);
	e->subject_title = buffer_cstr(&t->title);
	e->figure = r->when.figure.name;
	e->op = alert_op_text(r->when.op);
	e->value = value;
	e->threshold = r->when.threshold;
	e->value_text = figure_text(&r->when.figure, value, t->value);
	e->threshold_text = figure_text(&r->when.figure, r->when.threshold,
	    t->threshold);
	e->at_us = clock_realtime_us();
	if (e->since_us == 0)
		e->since_us = e->at_us;
	e->for_us = r->for_us;
	e->text = r->text;
	e->runbook = r->runbook;
	e->instance = observer_instance(a->observer);
	for (unsigned i = 0; lines != NULL && i < lines->n; i++)
		e->lines[e->nlines++] = recent_lines_get(lines, i);
	add_summary(&t->summary, e);
	e->summary = buffer_cstr(&t->summary);
}

static void
texts_done(struct event_texts *t)
{
	buffer_done(&t->title);
	buffer_done(&t->summary);
}

static void
give(struct alerts *a, const struct alert_rule *r, const char *only,
    const struct alert_event *e)
{
	struct list *l, *tmp;

	a->notifying = true;
	list_foreach_safe(l, tmp, &a->sinks) {
		struct alert_sink *s = list_entry(l, struct alert_sink, link);

		if (!is_told(s, r, only))
			continue;
		s->events++;
		s->notify(s, e);
	}
	a->notifying = false;
}

bool
alert_tell(struct alerts *a, struct alert *x, enum alert_event_kind kind,
    const char *note)
{
	struct alert_event e = { .kind = kind, .note = note,
		.since_us = x->since_us, .duration_us = x->held_us };
	struct event_texts t = { .title = BUFFER_INIT };

	if (kind != ALERT_EVENT_RESOLVED &&
	    alert_silence_of(a, x->rule, x->subject) != NULL)
		return false;
	make_event(a, x->rule, x->subject, x->value, &t, &e);
	give(a, x->rule, NULL, &e);
	texts_done(&t);
	return true;
}

/* ---- tests ---- */

void
alert_answer(struct alerts *a, uint64_t ticket, const struct alert_sink *s,
    bool ok, const char *text)
{
	struct list *l, *tmp;

	BUG_ON(a->notifying);
	list_foreach_safe(l, tmp, &a->trials) {
		struct alert_trial *t = list_entry(l, struct alert_trial, link);

		if (ticket == 0 || t->ticket != ticket)
			continue;
		trial_answer(t, s, ok, text);
		return;
	}
}

static void
on_trial_timeout(struct timer *timer)
{
	struct alert_trial *t = timer->owner;
	char span[CLOCK_SPAN_BYTES];
	_cleanup_free_ char *text = xasprintf("no answer within %s",
	    clock_span(span, ALERT_TRY_TIMEOUT_US));

	/* The last answer ends the trial. */
	for (unsigned n = t->nwaiting; n > 0; n--)
		trial_answer(t, t->waiting[0], false, text);
}

void
alert_trial_abandon(struct alert_trial *t)
{
	timer_cancel(t->alerts->loop, &t->timer);
	list_remove(&t->link);
	free(t);
}

void
alert_trials_free(struct alerts *a)
{
	struct list *l;

	while ((l = list_first(&a->trials)) != NULL)
		alert_trial_abandon(list_entry(l, struct alert_trial, link));
}

/* The first that the rule is for, and its figure now. */
struct any_subject {
	char *name;			/* NULL: there is none */
	double value;
};

static void
take_first(struct alerts *a, struct alert_rule *r, const char *subject,
    struct figure_value v, void *arg)
{
	struct any_subject *any = arg;

	(void)a;
	(void)r;
	if (any->name != NULL)
		return;
	any->name = xstrdup(subject);
	any->value = v.value;
}

static void
unknown_rule(struct alerts *a, const char *name, struct buffer *why)
{
	const char *names[64], *near;
	struct alert_rule *r;
	struct list *l;
	size_t n = 0;

	alerts_foreach_rule(r, a, l)
		if (n < ARRAY_SIZE(names))
			names[n++] = r->name;
	near = config_suggest(name, names, n);
	buffer_printf(why, "there is no rule \"%s\"", name);
	if (near != NULL)
		buffer_printf(why, "; did you mean \"%s\"?", near);
}

static unsigned
collect_sinks(struct alerts *a, const struct alert_rule *r, const char *only,
    const struct alert_sink *ret[ALERT_SINKS_MAX])
{
	struct list *l;
	unsigned n = 0;

	list_foreach(l, &a->sinks) {
		const struct alert_sink *s =
		    list_entry(l, struct alert_sink, link);

		if (is_told(s, r, only))
			ret[n++] = s;
	}
	return n;
}

/* Its sinks are there already; the ticket. */
static uint64_t
trial_begin(struct alerts *a, struct alert_trial *t,
    const struct alert_trial_ops *ops, void *owner)
{
	t->alerts = a;
	t->ops = *ops;
	t->owner = owner;
	t->ticket = a->next_ticket++;
	timer_init(&t->timer, "observe: alert test", on_trial_timeout, t);
	timer_arm(a->loop, &t->timer, ALERT_TRY_TIMEOUT_US);
	list_push_back(&a->trials, &t->link);
	return t->ticket;
}

struct alert_trial *
alerts_try(struct alerts *a, const char *name,
    const struct alert_trial_ops *ops, void *owner, struct buffer *why)
{
	struct alert_rule *r = alert_rule_find(a, name);
	struct alert_event e = { .kind = ALERT_EVENT_TEST };
	struct event_texts texts = { .title = BUFFER_INIT };
	struct alert_trial *t;
	struct any_subject any = { .value = (double)NAN };

	if (r == NULL) {
		unknown_rule(a, name, why);
		return NULL;
	}
	t = new0(struct alert_trial);
	t->nwaiting = collect_sinks(a, r, NULL, t->waiting);
	if (t->nwaiting == 0) {
		buffer_printf(why, a->nsinks == 0 ? "no sink is configured: "
		    "nobody would be told of %s" : "Notify= leaves no sink: "
		    "nobody would be told of %s", name);
		free(t);
		return NULL;
	}
	e.ticket = trial_begin(a, t, ops, owner);
	alert_subjects(a, r, take_first, &any);
	make_event(a, r, any.name != NULL ? any.name : "(none)", any.value,
	    &texts, &e);
	give(a, r, NULL, &e);
	texts_done(&texts);
	free(any.name);
	return t;
}

/* ---- what people and scripts say ---- */

static bool
check_notice(struct alerts *a, const char *sink, const char *text,
    struct buffer *why)
{
	const char *names[ALERT_SINKS_MAX], *near;
	struct list *l;
	size_t n = 0;

	if (*text == '\0' || strlen(text) > ALERT_NOTICE_MAX) {
		buffer_printf(why, "a message has 1 to %d bytes",
		    ALERT_NOTICE_MAX);
		return false;
	}
	if (a->nsinks == 0) {
		buffer_add_str(why, "no sink is configured: nobody would be "
		    "told");
		return false;
	}
	list_foreach(l, &a->sinks)
		names[n++] = list_entry(l, struct alert_sink, link)->name;
	for (size_t i = 0; i < n; i++)
		if (sink == NULL || strcmp(names[i], sink) == 0)
			return true;
	near = config_suggest(sink, names, n);
	buffer_printf(why, "there is no sink \"%.80s\"", sink);
	if (near != NULL)
		buffer_printf(why, "; did you mean \"%s\"?", near);
	buffer_add_str(why, "; configured:");
	for (size_t i = 0; i < n; i++)
		buffer_printf(why, " %s", names[i]);
	return false;
}

struct alert_trial *
alerts_notify(struct alerts *a, enum alert_severity severity,
    const char *sink, const char *text, const struct alert_trial_ops *ops,
    void *owner, struct buffer *why)
{
	struct alert_event e = { .kind = ALERT_EVENT_NOTICE,
		.severity = severity, .rule = "", .when = "",
		.scope = FIGURE_OPERATOR, .subject = "", .subject_title = "",
		.figure = "", .op = "", .value = (double)NAN,
		.threshold = (double)NAN,
		.value_text = "", .threshold_text = "", .summary = text,
		.instance = observer_instance(a->observer) };
	struct alert_trial *t;

	if (!check_notice(a, sink, text, why))
		return NULL;
	t = new0(struct alert_trial);
	t->nwaiting = collect_sinks(a, NULL, sink, t->waiting);
	e.ticket = trial_begin(a, t, ops, owner);
	e.at_us = e.since_us = clock_realtime_us();
	give(a, NULL, sink, &e);
	return t;
}
