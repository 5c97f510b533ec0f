#include "sink/crowdsec_answer.h"

#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "codec/go_duration.h"

struct decision {
	struct slice id, type, scope, value, duration;
};

void
crowdsec_answer_begin(struct crowdsec_answer *a, struct slice text, size_t max)
{
	*a = (struct crowdsec_answer){ .max = max };
	a->text = xcalloc(1, text.n + 1);
	memcpy(a->text, text.p != NULL ? text.p : "", text.n);
	json_scan_init(&a->scan, a->text, text.n);
}

void
crowdsec_answer_done(struct crowdsec_answer *a)
{
	for (size_t i = 0; i < a->nfresh; i++)
		if (a->fresh[i] != NULL)
			ban_free(a->fresh[i]);
	free(a->fresh);
	free(a->gone);
	free(a->text);
	*a = (struct crowdsec_answer){ .text = NULL };
}

/* ---- one decision ---- */

static void
read_decision(struct json_scan *s, struct decision *d)
{
	const struct json_scan_member members[] = {
		{ "type", &d->type }, { "scope", &d->scope },
		{ "value", &d->value }, { "duration", &d->duration },
	};
	struct slice key;
	size_t i;

	*d = (struct decision){ .id = { NULL, 0 } };
	if (!json_scan_enter_object(s))
		return;
	while (json_scan_next_key(s, &key)) {
		for (i = 0; i < ARRAY_SIZE(members) &&
		    !slice_is(key, members[i].name); i++)
			continue;
		if (i < ARRAY_SIZE(members))
			(void)json_scan_text(s, members[i].text);
		else if (slice_is(key, "id"))
			(void)json_scan_raw(s, &d->id);
		else
			(void)json_scan_skip(s);
	}
}

static bool
same_word(struct slice a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

static enum ban_scope
scope_of(struct slice name)
{
	return same_word(name, "ip") ? BAN_IP :
	    same_word(name, "range") ? BAN_RANGE :
	    same_word(name, "queue-sender") ? BAN_SENDER : 0;
}

static void
ignore(struct crowdsec_answer *a, const char *why)
{
	if (a->ignored++ == 0)
		snprintf(a->ignored_why, sizeof(a->ignored_why), "%s", why);
}

static void
take_new(struct crowdsec_answer *a, const struct decision *d, uint64_t id)
{
	enum ban_scope scope = scope_of(d->scope);
	uint64_t duration;
	struct error err;
	struct ban *b;

	if (!same_word(d->type, "ban") && !same_word(d->type, "captcha")) {
		ignore(a, "a type that is neither ban nor captcha");
		return;
	}
	if (scope == 0) {
		ignore(a, "a scope that was not asked for");
		return;
	}
	if (go_duration_parse(d->duration, &duration) < 0) {
		ignore(a, "a duration that is none");
		return;
	}
	if (duration == 0)
		return;
	if (a->nfresh >= a->max) {
		a->left_out++;
		return;
	}
	b = ban_new(id, scope, d->value, duration, &err);
	if (b == NULL) {
		ignore(a, err.text);
		return;
	}
	if (a->nfresh == a->fresh_size) {
		a->fresh_size = MAX((size_t)64, 2 * a->fresh_size);
		a->fresh = xreallocarray(a->fresh, a->fresh_size,
		    sizeof(struct ban *));
	}
	a->fresh[a->nfresh++] = b;
}

static void
take_deleted(struct crowdsec_answer *a, uint64_t id)
{
	if (a->ngone == a->gone_size) {
		a->gone_size = MAX((size_t)64, 2 * a->gone_size);
		a->gone = xreallocarray(a->gone, a->gone_size,
		    sizeof(*a->gone));
	}
	a->gone[a->ngone++] = id;
}

static void
take_decision(struct crowdsec_answer *a)
{
	struct decision d;
	uint64_t id;

	read_decision(&a->scan, &d);
	if (a->scan.error != NULL)
		return;
	if (slice_to_u64(d.id, &id) < 0)
		ignore(a, "a decision without a number");
	else if (a->is_new)
		take_new(a, &d, id);
	else
		take_deleted(a, id);
}

/* ---- all of it ---- */

/* The next key of the whole; false at its end. */
static bool
next_list(struct crowdsec_answer *a)
{
	struct slice key;

	if (!json_scan_next_key(&a->scan, &key))
		return false;
	a->is_new = slice_is(key, "new");
	if (a->is_new)
		a->has_new = true;
	else if (slice_is(key, "deleted"))
		a->has_deleted = true;
	else
		return json_scan_skip(&a->scan);
	if (json_scan_peek(&a->scan) == JSON_SCAN_NULL)
		return json_scan_skip(&a->scan);
	a->in_array = json_scan_enter_array(&a->scan);
	return a->in_array;
}

int
crowdsec_answer_read(struct crowdsec_answer *a, size_t most, bool whole,
    struct error *err)
{
	if (!a->begun) {
		a->begun = true;
		(void)json_scan_enter_object(&a->scan);
	}
	while (most-- != 0) {
		if (a->in_array) {
			if (json_scan_next_element(&a->scan))
				take_decision(a);
			else
				a->in_array = false;
		} else if (!next_list(a)) {
			break;
		}
		if (a->scan.error != NULL)
			break;
		if (most == 0)
			return 1;
	}
	if (json_scan_end(&a->scan) < 0) {
		error_set(err, ERROR_PROTOCOL, "bad_json", "the answer is no "
		    "list of decisions: %s at byte %zu", a->scan.error,
		    a->scan.error_at);
		return -EPROTO;
	}
	if (!a->has_new && (whole || !a->has_deleted)) {
		error_set(err, ERROR_PROTOCOL, "no_decisions", "the answer "
		    "has no \"new\": is Url= CrowdSec's local API?");
		return -EPROTO;
	}
	return 0;
}
