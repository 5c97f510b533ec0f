#include "observe/alert_impl.h"

#include <math.h>

#include "base/clock.h"
#include "base/json.h"

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new_nocheck(object, key, value);
}

static json_t *
optional_text(const char *s)
{
	return s != NULL ? json_text(s) : json_null();
}

static json_t *
wall(uint64_t realtime_us)
{
	char iso[CLOCK_ISO_BYTES];

	return json_string(clock_iso(iso, realtime_us, false));
}

static json_t *
whole_seconds(uint64_t us)
{
	return us == USEC_INFINITY ? json_null() :
	    json_integer((json_int_t)(us / USEC_PER_SEC));
}

/* As the document has the figure itself. */
static json_t *
figure_json(const struct figure *f, double x)
{
	char text[FIGURE_TEXT_BYTES];

	if (isnan(x))
		return json_null();
	if (f->kind == FIGURE_BOOL)
		return json_boolean(x > 0);
	if (f->kind == FIGURE_HEALTH)
		return json_string(figure_text(f, x, text));
	return json_number(x, 3);
}

static json_t *
lines_json(struct alerts *a, const struct alert *x)
{
	const struct recent_lines *lines = alert_lines(a, x->rule, x->subject);
	json_t *array = json_array();

	for (unsigned i = 0; lines != NULL && i < lines->n; i++) {
		const struct recent_line *line = recent_lines_get(lines, i);
		json_t *j = json_object();

		set(j, "at", wall(line->at_us));
		set(j, "level", json_string(log_level_name(line->level)));
		set(j, "text", json_text(line->text));
		json_array_append_new(array, j);
	}
	return array;
}

static json_t *
alert_json(struct alerts *a, const struct alert *x)
{
	const struct alert_rule *r = x->rule;
	const struct figure *f = &r->when.figure;
	const struct silence *s = alert_silence_of(a, r, x->subject);
	_cleanup_buffer_ struct buffer title = BUFFER_INIT;
	json_t *j = json_object();

	alert_title(&title, r, x->subject);
	set(j, "name", json_text(r->name));
	set(j, "severity", json_string(alert_severity_name(r->severity)));
	set(j, "state", json_string(alert_state_name(x->state)));
	set(j, "subject", json_text(buffer_cstr(&title)));
	if (f->scope != FIGURE_OPERATOR)
		set(j, figure_scope_name(f->scope), json_text(x->subject));
	set(j, "when", json_text(r->when.text));
	set(j, "value", figure_json(f, x->value));
	set(j, "threshold", figure_json(f, r->when.threshold));
	set(j, "since", wall(x->since_us));
	set(j, "changed", wall(x->changed_us));
	set(j, "duration_seconds", whole_seconds(x->held_us));
	set(j, "for_seconds", whole_seconds(r->for_us));
	set(j, "silenced", json_boolean(s != NULL));
	set(j, "silence", s != NULL ? json_text(s->pattern) :
	    json_null());
	set(j, "notified", json_boolean(x->notified));
	set(j, "text", optional_text(r->text));
	set(j, "runbook", optional_text(r->runbook));
	set(j, "lines", lines_json(a, x));
	return j;
}

json_t *
alerts_json(struct alerts *a)
{
	static const enum alert_state states[] = { ALERT_FIRING, ALERT_PENDING,
		ALERT_RESOLVED };
	json_t *array = json_array();
	struct alert_rule *r;
	struct list *l, *k;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		for (enum alert_severity s = ALERT_CRITICAL; s >= ALERT_INFO;
		    s--)
			alerts_foreach_rule(r, a, l) {
				if (r->severity != s)
					continue;
				list_foreach(k, &r->alerts) {
					const struct alert *x = list_entry(k,
					    struct alert, link);

					if (x->state == states[i])
						json_array_append_new(array,
						    alert_json(a, x));
				}
			}
	return array;
}

bool
alerts_any_firing(const struct alerts *a)
{
	struct alert_rule *r;
	struct list *l, *k;

	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts) {
			const struct alert *x =
			    list_entry(k, struct alert, link);

			if (x->state == ALERT_FIRING &&
			    alert_silence_of(a, r, x->subject) == NULL)
				return true;
		}
	return false;
}

int
alerts_rule_firing(struct alerts *a, const char *name, unsigned *ret_firing,
    struct buffer *detail)
{
	struct alert_rule *r = alert_rule_find(a, name);
	const struct alert *first = NULL;
	char text[FIGURE_TEXT_BYTES];
	struct list *l;

	*ret_firing = 0;
	if (r == NULL)
		return -ENOENT;
	list_foreach(l, &r->alerts) {
		const struct alert *x = list_entry(l, struct alert, link);

		if (x->state != ALERT_FIRING ||
		    alert_silence_of(a, r, x->subject) != NULL)
			continue;
		if (first == NULL)
			first = x;
		++*ret_firing;
	}
	if (first == NULL)
		return 0;
	alert_title(detail, r, first->subject);
	buffer_printf(detail, ": %s, is %s", r->when.text,
	    figure_text(&r->when.figure, first->value, text));
	if (*ret_firing > 1)
		buffer_printf(detail, "; and %u more", *ret_firing - 1);
	return 0;
}

static json_t *
words_json(char *const *words)
{
	json_t *array = json_array();

	for (; words != NULL && *words != NULL; words++)
		json_array_append_new(array, json_text(*words));
	return array;
}

json_t *
alerts_rules_json(struct alerts *a)
{
	json_t *array = json_array();
	struct alert_rule *r;
	struct list *l, *k;

	alerts_foreach_rule(r, a, l) {
		unsigned pending = 0, firing = 0;
		json_t *j = json_object();

		list_foreach(k, &r->alerts) {
			const struct alert *x =
			    list_entry(k, struct alert, link);

			pending += x->state == ALERT_PENDING;
			firing += x->state == ALERT_FIRING;
		}
		set(j, "name", json_text(r->name));
		set(j, "severity",
		    json_string(alert_severity_name(r->severity)));
		set(j, "when", json_text(r->when.text));
		set(j, "for_seconds", whole_seconds(r->for_us));
		set(j, "repeat_seconds", whole_seconds(r->repeat_us));
		set(j, "patterns", words_json(r->patterns));
		set(j, "notify", words_json(r->notify));
		set(j, "text", optional_text(r->text));
		set(j, "runbook", optional_text(r->runbook));
		set(j, "pending", json_integer(pending));
		set(j, "firing", json_integer(firing));
		json_array_append_new(array, j);
	}
	return array;
}
