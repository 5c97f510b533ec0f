#include "observe/alert_impl.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"

#define PATTERN_MAX	200
#define REASON_MAX	500

static bool
matches(const struct silence *s, const struct alert_rule *r,
    const char *subject)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	size_t rule;

	if (fnmatch(s->pattern, r->name, 0) == 0)
		return true;
	buffer_printf(&b, "%s/", r->name);
	rule = buffer_len(&b);
	alert_title(&b, r, subject);
	return fnmatch(s->pattern, buffer_cstr(&b), 0) == 0 ||
	    fnmatch(s->pattern, buffer_cstr(&b) + rule, 0) == 0;
}

const struct silence *
alert_silence_of(const struct alerts *a, const struct alert_rule *r,
    const char *subject)
{
	struct list *l;

	list_foreach(l, &a->silences) {
		const struct silence *s = list_entry(l, struct silence, link);

		if (matches(s, r, subject))
			return s;
	}
	return NULL;
}

struct silence *
silence_add(struct alerts *a, const char *pattern, const char *reason,
    const char *by)
{
	struct silence *s;

	if (a->nsilences >= SILENCES_MAX)
		return NULL;
	s = new0(struct silence);
	s->id = a->next_silence++;
	s->pattern = xstrdup(pattern);
	s->reason = xstrdup(reason);
	s->by = xstrdup(by);
	list_push_back(&a->silences, &s->link);
	a->nsilences++;
	return s;
}

void
silence_free(struct alerts *a, struct silence *s)
{
	list_remove(&s->link);
	a->nsilences--;
	free(s->pattern);
	free(s->reason);
	free(s->by);
	free(s);
}

void
silences_expire(struct alerts *a)
{
	uint64_t now = clock_monotonic_us();
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &a->silences) {
		struct silence *s = list_entry(l, struct silence, link);

		if (now < s->until_us)
			continue;
		log_notice(LOG_EVENT(EVENT_SILENCE),
		    "the silence of %s is over", s->pattern);
		silence_free(a, s);
		a->dirty = true;
	}
}

int
alerts_silence(struct alerts *a, const char *pattern, uint64_t span_us,
    const char *reason, const char *by, uint64_t *ret_id, struct buffer *why)
{
	char span[CLOCK_SPAN_BYTES];
	struct silence *s;

	if (*pattern == '\0' || strlen(pattern) > PATTERN_MAX) {
		buffer_printf(why, "a pattern has 1 to %d bytes", PATTERN_MAX);
		return -EINVAL;
	}
	if (strlen(reason) > REASON_MAX) {
		buffer_printf(why, "a reason has at most %d bytes", REASON_MAX);
		return -EINVAL;
	}
	if (span_us < USEC_PER_SEC || span_us > SILENCE_MAX_US) {
		buffer_add_str(why, "a silence lasts from 1s to 366 days");
		return -EINVAL;
	}
	s = silence_add(a, pattern, reason, by);
	if (s == NULL) {
		buffer_printf(why, "there are %d silences already; end some",
		    SILENCES_MAX);
		return -ENOSPC;
	}
	s->from_us = clock_realtime_us();
	s->span_us = span_us;
	s->until_us = sat_add(clock_monotonic_us(), span_us);
	log_notice(LOG_EVENT(EVENT_SILENCE),
	    "alerts that match %s are silent for %s", pattern,
	    clock_span(span, span_us));
	*ret_id = s->id;
	a->dirty = true;
	return 0;
}

unsigned
alerts_silence_end(struct alerts *a, const char *what)
{
	struct list *l, *tmp;
	unsigned n = 0;
	uint64_t id = 0;
	bool by_id = slice_to_u64(slice_of(what), &id) == 0;

	list_foreach_safe(l, tmp, &a->silences) {
		struct silence *s = list_entry(l, struct silence, link);

		if (by_id ? s->id != id : strcmp(s->pattern, what) != 0)
			continue;
		silence_free(a, s);
		a->dirty = true;
		n++;
	}
	return n;
}

static unsigned
count_matches(struct alerts *a, const struct silence *s)
{
	struct alert_rule *r;
	struct list *l, *k;
	unsigned n = 0;

	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts)
			n += matches(s, r,
			    list_entry(k, struct alert, link)->subject);
	return n;
}

struct covered {
	const struct silence *silence;
	unsigned n;
};

static void
cover(struct alerts *a, struct alert_rule *r, const char *subject,
    struct figure_value v, void *arg)
{
	struct covered *c = arg;

	(void)a;
	(void)v;
	c->n += matches(c->silence, r, subject);
}

/* Whether anything is wrong with them or not. */
static unsigned
count_covered(struct alerts *a, const struct silence *s)
{
	struct covered c = { .silence = s };
	struct alert_rule *r;
	struct list *l;

	alerts_foreach_rule(r, a, l)
		alert_subjects(a, r, cover, &c);
	return c.n;
}

json_t *
alerts_silences_json(struct alerts *a)
{
	uint64_t now = clock_monotonic_us();
	char iso[CLOCK_ISO_BYTES];
	json_t *array = json_array();
	struct list *l;

	list_foreach(l, &a->silences) {
		const struct silence *s = list_entry(l, struct silence, link);
		uint64_t left = s->until_us - MIN(now, s->until_us);
		json_t *j = json_object();

		json_object_set_new(j, "id", json_integer((json_int_t)s->id));
		json_object_set_new(j, "pattern", json_text(s->pattern));
		json_object_set_new(j, "reason", json_text(s->reason));
		json_object_set_new(j, "by", json_text(s->by));
		json_object_set_new(j, "from",
		    json_string(clock_iso(iso, s->from_us, false)));
		json_object_set_new(j, "until", json_string(clock_iso(iso,
		    sat_add(clock_realtime_us(), left), false)));
		json_object_set_new(j, "seconds_left",
		    json_integer((json_int_t)(left / USEC_PER_SEC)));
		json_object_set_new(j, "matches",
		    json_integer((json_int_t)count_matches(a, s)));
		json_object_set_new(j, "covers",
		    json_integer((json_int_t)count_covered(a, s)));
		json_array_append_new(array, j);
	}
	return array;
}
