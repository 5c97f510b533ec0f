#include "observe/alert_impl.h"

#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"

const char *
alert_severity_name(enum alert_severity s)
{
	static const char *const names[] = {
		[ALERT_INFO] = "info", [ALERT_WARNING] = "warning",
		[ALERT_CRITICAL] = "critical",
	};

	return (size_t)s < ARRAY_SIZE(names) && names[s] != NULL ? names[s] :
	    "?";
}

const char *
alert_state_name(enum alert_state s)
{
	static const char *const names[] = {
		[ALERT_INACTIVE] = "inactive", [ALERT_PENDING] = "pending",
		[ALERT_FIRING] = "firing", [ALERT_RESOLVED] = "resolved",
	};

	return (size_t)s < ARRAY_SIZE(names) && names[s] != NULL ? names[s] :
	    "?";
}

void
alert_title(struct buffer *b, const struct alert_rule *r, const char *subject)
{
	enum figure_scope scope = r->when.figure.scope;

	buffer_add_str(b, figure_scope_name(scope));
	if (scope != FIGURE_OPERATOR)
		buffer_printf(b, ":%s", subject);
}

/* ---- the log: one line for each transition ---- */

static enum log_level
level_of(const struct alert *x)
{
	if (x->state != ALERT_FIRING)
		return x->state == ALERT_RESOLVED ? LOG_LEVEL_NOTICE :
		    LOG_LEVEL_INFO;
	switch (x->rule->severity) {
	case ALERT_CRITICAL:
		return LOG_LEVEL_ERROR;
	case ALERT_WARNING:
		return LOG_LEVEL_WARNING;
	default:
		return LOG_LEVEL_NOTICE;
	}
}

static void
log_alert(const struct alert *x, enum log_level level, const char *text)
{
	const struct alert_rule *r = x->rule;
	char value[FIGURE_TEXT_BYTES];
	/* Not among the reasons that the next alert shows. */
	struct log_fields f = { .event = EVENT_ALERT, .unwatched = true };

	if (r->when.figure.scope == FIGURE_QUEUE)
		f.queue = x->subject;
	if (r->when.figure.scope == FIGURE_POOL)
		f.pool = x->subject;
	if (r->when.figure.scope == FIGURE_CHECK)
		f.check = x->subject;
	log_at(level, &f, "alert %s (%s) %s: %s, now %s", r->name,
	    alert_severity_name(r->severity), text, r->when.text,
	    figure_text(&r->when.figure, x->value, value));
}

static void
log_transition(const struct alerts *a, const struct alert *x,
    const char *note)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const struct silence *s = alert_silence_of(a, x->rule, x->subject);
	char span[CLOCK_SPAN_BYTES];

	buffer_add_str(&b, alert_state_name(x->state));
	if (x->state == ALERT_PENDING && x->rule->for_us != USEC_INFINITY)
		buffer_printf(&b, " (fires after %s)",
		    clock_span(span, x->rule->for_us));
	if (x->state == ALERT_FIRING || x->state == ALERT_RESOLVED)
		buffer_printf(&b, " after %s", clock_span(span, x->held_us));
	if (note != NULL)
		buffer_printf(&b, " (%s)", note);
	if (x->state == ALERT_FIRING && s != NULL)
		buffer_printf(&b, " (silenced: %s)", s->pattern);
	log_alert(x, level_of(x), buffer_cstr(&b));
}

/* ---- those that are not inactive ---- */

struct alert *
alert_find(struct alert_rule *r, const char *subject)
{
	struct list *l;

	list_foreach(l, &r->alerts)
		if (strcmp(list_entry(l, struct alert, link)->subject,
		    subject) == 0)
			return list_entry(l, struct alert, link);
	return NULL;
}

struct alert *
alert_add(struct alerts *a, struct alert_rule *r, const char *subject)
{
	struct alert *x;

	if (a->nalerts >= ALERTS_MAX) {
		a->dropped++;
		if (!a->full_told)
			log_error(LOG_EVENT(EVENT_TOO_MANY), "more than %d "
			    "alerts at once: further ones are not followed "
			    "until some end", ALERTS_MAX);
		a->full_told = true;
		return NULL;
	}
	x = new0(struct alert);
	x->rule = r;
	x->subject = xstrdup(subject);
	x->state = ALERT_INACTIVE;
	x->value = (double)NAN;
	x->seen = true;
	list_push_back(&r->alerts, &x->link);
	a->nalerts++;
	return x;
}

void
alert_free(struct alerts *a, struct alert *x)
{
	list_remove(&x->link);
	a->nalerts--;
	if (a->nalerts < ALERTS_MAX / 2)
		a->full_told = false;
	json_decref(x->memos);
	free(x->subject);
	free(x);
}

/* The only writer of a state. INACTIVE ends x. */
static void
enter(struct alerts *a, struct alert *x, enum alert_state state,
    const char *note)
{
	enum alert_state old = x->state;

	a->dirty = true;
	x->state = state;
	x->changed_us = clock_realtime_us();
	switch (state) {
	case ALERT_PENDING:
		x->since_us = x->changed_us;
		x->held_us = x->gap_us = 0;
		x->notified = false;
		log_transition(a, x, note);
		break;
	case ALERT_FIRING:
		log_transition(a, x, note);
		x->quiet_us = 0;
		x->waits = false;
		x->notified = alert_tell(a, x, ALERT_EVENT_FIRING, note);
		break;
	case ALERT_RESOLVED:
		log_transition(a, x, note);
		x->resolved_us = 0;
		/* The end of what people know of is told in any case. */
		if (x->notified)
			(void)alert_tell(a, x, ALERT_EVENT_RESOLVED, note);
		break;
	default:
		if (old == ALERT_PENDING)
			log_transition(a, x, note);
		alert_free(a, x);
	}
}

/* Its subject or its rule is gone. */
static void
end(struct alerts *a, struct alert *x, const char *note)
{
	x->value = (double)NAN;
	x->known = false;
	if (x->state == ALERT_FIRING)
		enter(a, x, ALERT_RESOLVED, note);
	alert_free(a, x);
	a->dirty = true;
}

/* ---- one look ---- */

enum holds {
	HOLDS_UNKNOWN = 1,
	HOLDS_NOT,
	HOLDS,
};

static enum holds
judge(const struct alert_rule *r, const struct alert *x,
    const struct figure_value *v)
{
	bool firing = x != NULL && x->state == ALERT_FIRING;

	if (!v->known)
		return HOLDS_UNKNOWN;
	if (!alert_when_holds(r->when.op, v->value,
	    firing ? r->clear : r->when.threshold))
		return HOLDS_NOT;
	if (r->when.figure.windowed && v->samples < r->min_samples)
		return HOLDS_UNKNOWN;
	return HOLDS;
}

static void
note_unknown(struct alert *x)
{
	x->known = false;
	x->value = (double)NAN;
	if (!x->told_unknown && x->state != ALERT_RESOLVED)
		log_alert(x, LOG_LEVEL_INFO, x->state == ALERT_FIRING ?
		    "stays firing while its figure is not known" :
		    "stays pending while its figure is not known");
	x->told_unknown = true;
}

static void
firing_on(struct alerts *a, struct alert *x)
{
	bool due = x->rule->repeat_us != USEC_INFINITY &&
	    x->quiet_us >= x->rule->repeat_us;

	/* A silence has kept it from people, and has ended. */
	if (!x->notified) {
		x->notified = alert_tell(a, x, ALERT_EVENT_FIRING, NULL);
		if (x->notified)
			x->quiet_us = 0;
		a->dirty |= x->notified;
	} else if (due && alert_tell(a, x, ALERT_EVENT_REPEAT, NULL)) {
		log_alert(x, LOG_LEVEL_INFO, "still firing");
		x->quiet_us = 0;
		a->dirty = true;
	}
}

static void
step(struct alerts *a, struct alert_rule *r, const char *subject,
    struct figure_value v, void *arg)
{
	struct alert *x = alert_find(r, subject);
	enum holds holds = judge(r, x, &v);
	uint64_t dt = *(const uint64_t *)arg;

	if (x == NULL) {
		if (holds != HOLDS || (x = alert_add(a, r, subject)) == NULL)
			return;
		x->value = v.value;
		x->known = true;
		enter(a, x, ALERT_PENDING, NULL);
		dt = 0;
	}
	x->seen = true;
	if (x->state == ALERT_FIRING)
		x->quiet_us += dt;
	if (x->state == ALERT_RESOLVED)
		x->resolved_us += dt;
	if (holds == HOLDS_UNKNOWN) {
		note_unknown(x);
		if (x->state == ALERT_FIRING)
			firing_on(a, x);
		return;
	}
	x->value = v.value;
	x->known = true;
	x->told_unknown = false;
	switch (x->state) {
	case ALERT_PENDING:
		if (holds == HOLDS_NOT) {
			enter(a, x, ALERT_INACTIVE, NULL);
			return;
		}
		x->held_us += dt + x->gap_us;
		x->gap_us = 0;
		if (x->held_us >= r->for_us)
			enter(a, x, ALERT_FIRING, NULL);
		break;
	case ALERT_FIRING:
		if (holds == HOLDS_NOT) {
			enter(a, x, ALERT_RESOLVED, NULL);
			return;
		}
		x->held_us += dt + x->gap_us;
		x->gap_us = 0;
		firing_on(a, x);
		break;
	default:
		if (holds == HOLDS) {
			enter(a, x, ALERT_PENDING, NULL);
			if (r->for_us == 0)
				enter(a, x, ALERT_FIRING, NULL);
		} else if (x->resolved_us >= ALERT_RESOLVED_SHOWN_US) {
			enter(a, x, ALERT_INACTIVE, NULL);
		}
	}
}

/* ---- all of them ---- */

static bool
configured(const struct alerts *a, const char *section, const char *name)
{
	const struct config *c = a->observer->engine->config;

	return c != NULL && config_find(c, section, name) != NULL;
}

static void
queue_subjects(struct alerts *a, struct alert_rule *r, alert_subject_fn *fn,
    void *arg)
{
	struct observer *o = a->observer;
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, o->engine, l) {
		if (!alert_rule_is_for(r, q->name))
			continue;
		if (!q->removed)
			fn(a, r, q->name,
			    figure_read(&r->when.figure, o, q), arg);
		/* It is on its way out; a new one of that name starts when it
		   is gone. */
		else if (configured(a, "Queue", q->name))
			fn(a, r, q->name,
			    (struct figure_value){ .value = (double)NAN }, arg);
	}
}

static void
sink_subjects(struct alerts *a, struct alert_rule *r, alert_subject_fn *fn,
    void *arg)
{
	json_t *all = observer_sinks(a->observer), *sink;
	const char *name;

	json_object_foreach(all, name, sink)
		if (alert_rule_is_for(r, name))
			fn(a, r, name, figure_read(&r->when.figure,
			    a->observer, sink), arg);
	json_decref(all);
}

void
alert_subjects(struct alerts *a, struct alert_rule *r, alert_subject_fn *fn,
    void *arg)
{
	const struct figure *f = &r->when.figure;
	struct observer *o = a->observer;
	struct dependency *d;
	struct list *l;
	struct pool *p;

	switch (f->scope) {
	case FIGURE_QUEUE:
		queue_subjects(a, r, fn, arg);
		break;
	case FIGURE_POOL:
		engine_foreach_pool(p, o->engine, l)
			if (!p->removed && alert_rule_is_for(r, p->name))
				fn(a, r, p->name, figure_read(f, o, p), arg);
		break;
	case FIGURE_CHECK:
		if (o->checks == NULL)
			break;
		checks_foreach(d, o->checks, l)
			if (alert_rule_is_for(r, d->name))
				fn(a, r, d->name, figure_read(f, o, d), arg);
		break;
	case FIGURE_SINK:
		sink_subjects(a, r, fn, arg);
		break;
	default:
		fn(a, r, "", figure_read(f, o, NULL), arg);
	}
}

/* It was not looked at. */
static void
end_unseen(struct alerts *a, struct alert *x)
{
	_cleanup_free_ char *note = xasprintf("the %s is gone, or the rule is "
	    "not for it any more",
	    figure_scope_name(x->rule->when.figure.scope));

	end(a, x, note);
}

static void
look(struct alerts *a, struct alert_rule *r, uint64_t dt)
{
	struct list *l, *tmp;

	list_foreach(l, &r->alerts)
		list_entry(l, struct alert, link)->seen = false;
	alert_subjects(a, r, step, &dt);
	list_foreach_safe(l, tmp, &r->alerts) {
		struct alert *x = list_entry(l, struct alert, link);

		if (!x->seen)
			end_unseen(a, x);
	}
}

static bool
anything_runs(const struct alerts *a)
{
	return a->nalerts != 0 || a->nsilences != 0;
}

static void
on_timer(struct timer *t)
{
	struct alerts *a = t->owner;
	uint64_t now = clock_monotonic_us();
	uint64_t dt = MIN(now - a->look_us, ALERT_GAP_US);
	struct alert_rule *r;
	struct list *l;

	a->look_us = now;
	timer_arm_at(a->loop, t, now + ALERT_LOOK_US);
	silences_expire(a);
	/* What stops or waits on purpose says nothing; it is as it was until
	   it runs again. */
	if (a->observer->engine->phase < ENGINE_DRAINING &&
	    a->observer->engine->phase != ENGINE_STANDBY)
		alerts_foreach_rule(r, a, l)
			look(a, r, dt);
	if (a->dirty || (anything_runs(a) &&
	    now - a->saved_us >= ALERT_SAVE_EVERY_US))
		alert_file_save(a);
}

struct alerts *
alerts_new(struct loop *loop, struct observer *o, struct config *c,
    const char *state_path)
{
	struct alerts *a = new0(struct alerts);

	a->loop = loop;
	a->observer = o;
	a->next_silence = a->next_ticket = 1;
	a->look_us = a->saved_us = clock_monotonic_us();
	list_init(&a->rules);
	list_init(&a->sinks);
	list_init(&a->silences);
	list_init(&a->trials);
	timer_init(&a->timer, "observe: alerts", on_timer, a);
	if (state_path != NULL)
		a->path = xstrdup(state_path);
	alert_rules_read(a, c);
	alert_file_load(a);
	o->alerts = a;
	timer_arm(loop, &a->timer, ALERT_LOOK_US);
	return a;
}

static void
free_rules(struct alerts *a)
{
	struct list *l;

	while ((l = list_first(&a->rules)) != NULL) {
		struct alert_rule *r = list_entry(l, struct alert_rule, link);

		while ((l = list_first(&r->alerts)) != NULL)
			alert_free(a, list_entry(l, struct alert, link));
		alert_rule_free(r);
	}
}

void
alerts_free(struct alerts *a)
{
	struct list *l;

	if (a == NULL)
		return;
	if (a->dirty || anything_runs(a))
		alert_file_save(a);
	timer_cancel(a->loop, &a->timer);
	alert_trials_free(a);
	a->observer->alerts = NULL;
	free_rules(a);
	while ((l = list_first(&a->silences)) != NULL)
		silence_free(a, list_entry(l, struct silence, link));
	while (list_pop_front(&a->sinks) != NULL)
		;
	free(a->path);
	free(a);
}

/* ---- reload ---- */

/* The states go over where the rule still asks the same. */
static void
hand_over(struct alerts *a, struct alert_rule *old)
{
	struct alert_rule *r = alert_rule_find(a, old->name);
	bool same = r != NULL && strcmp(r->when.text, old->when.text) == 0;
	struct list *l;

	while ((l = list_first(&old->alerts)) != NULL) {
		struct alert *x = list_entry(l, struct alert, link);

		if (same) {
			x->rule = r;
			list_move_back(&r->alerts, l);
		} else {
			end(a, x, r == NULL ? "the rule is gone" :
			    "the rule asks something else now");
		}
	}
}

void
alerts_reload(struct alerts *a, struct config *c)
{
	LIST_HEAD(old);
	struct list *l;

	list_splice_back(&old, &a->rules);
	alert_rules_read(a, c);
	while ((l = list_first(&old)) != NULL) {
		struct alert_rule *r = list_entry(l, struct alert_rule, link);

		hand_over(a, r);
		alert_rule_free(r);
	}
}
