/*
 * What PostHog's answers mean (rust/capture/src/api.rs of PostHog; what
 * posthog-node does with them).
 */
#include <jansson.h>
#include <stdio.h>

#include "sink/posthog_impl.h"

/* {"status":1} or {"status":"Ok"}, maybe "quota_limited":["events", ...]. */
static void
judge_ok(const struct http_response *r, struct posthog_answer *ret)
{
	json_t *j = json_loadb(r->body.p != NULL ? r->body.p : "", r->body.n,
	    0, NULL);
	const json_t *limited, *one;
	size_t i;

	if (json_object_get(j, "status") == NULL) {
		ret->verdict = POSTHOG_MEND;
		error_set(&ret->error, ERROR_PROTOCOL, "no_posthog", "it does "
		    "not answer as PostHog does: is Host= right?");
		json_decref(j);
		return;
	}
	limited = json_object_get(j, "quota_limited");
	json_array_foreach(limited, i, one) {
		if (!json_is_string(one) ||
		    strcmp(json_string_value(one), "events") != 0)
			continue;
		ret->verdict = POSTHOG_REFUSED;
		ret->retry_after_us = POSTHOG_MEND_US;
		error_set(&ret->error, ERROR_THROTTLED, "quota_limited",
		    "PostHog throws events away: the quota of its project is "
		    "used up (billing limits)");
	}
	json_decref(j);
}

static void
judge_status(const char *file, const struct http_response *r,
    const struct secret *key, struct posthog_answer *ret)
{
	sink_status_error(&ret->error, "PostHog", r, key);
	if (r->status == 413) {
		ret->verdict = POSTHOG_TOO_LARGE;
	} else if (r->status == 400) {
		ret->verdict = POSTHOG_REFUSED;
	} else if (r->status == 401) {
		ret->verdict = POSTHOG_REFUSED;
		ret->retry_after_us = POSTHOG_MEND_US;
		error_set(&ret->error, ERROR_AUTH, "http_401", "PostHog does "
		    "not know the key in %.80s: copy the project API key "
		    "(phc_...) from the project's settings into it", file);
	} else if (r->status == 408 || r->status == 429 || r->status >= 500) {
		ret->verdict = POSTHOG_AGAIN;
	} else {
		/* Moved, not found, forbidden: that is not the events' fault. */
		ret->verdict = POSTHOG_MEND;
		ret->error.class = ERROR_REJECTED;
	}
}

void
posthog_judge(const char *file, const struct http_response *r,
    const struct error *err, const struct secret *key,
    struct posthog_answer *ret)
{
	*ret = (struct posthog_answer){ .verdict = POSTHOG_TAKEN };
	if (err != NULL) {
		ret->error = *err;
		ret->verdict = err->class == ERROR_TRANSIENT ? POSTHOG_AGAIN :
		    POSTHOG_MEND;
		return;
	}
	ret->retry_after_us = MIN(r->retry_after_us, POSTHOG_WAIT_MAX_US);
	if (r->status == 200)
		judge_ok(r, ret);
	else
		judge_status(file, r, key, ret);
}
