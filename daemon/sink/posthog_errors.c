/*
 * Error tracking: $exception, one event for each queue and error type in an
 * interval, the most frequent first.  The fingerprint makes one issue of all
 * that a queue's error type ever was.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "sink/posthog_impl.h"

static int
more_first(const void *a, const void *b)
{
	const struct posthog_error *x = a, *y = b;

	return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

/* There is no stack to show: its one frame is where it happened. */
static json_t *
exception_list(const struct posthog_error *e, double seconds)
{
	_cleanup_buffer_ struct buffer value = BUFFER_INIT;
	_cleanup_free_ char *where = xasprintf("queue %s", e->queue->name);

	buffer_printf(&value, "%" PRIu64 " of %" PRIu64 " attempts failed with "
	    "%s in %.0f s, queue %s", e->count, MAX(e->attempts, e->count),
	    e->type, seconds, e->queue->name);
	return json_pack("[{s:o,s:o,s:{s:s,s:b,s:b},s:{s:s,s:[{s:s,s:s,s:o,"
	    "s:b}]}}]", "type", json_text(e->type), "value",
	    json_text(buffer_cstr(&value)), "mechanism", "type", "generic",
	    "handled", 1, "synthetic", 0, "stacktrace", "type", "raw",
	    "frames", "platform", "custom", "lang", "c", "function",
	    json_text(where), "in_app", 1);
}

static void
add_one(struct posthog *k, const struct posthog_error *e, double seconds,
    size_t groups_left_out, uint64_t errors_left_out)
{
	_cleanup_free_ char *print = xasprintf("%s/%s/%s", k->instance,
	    e->queue->name, e->type);
	_cleanup_free_ char *journal = xasprintf("journalctl -t bot-operator "
	    "BOT_QUEUE=%s BOT_ERROR_TYPE=%s", e->queue->name, e->type);
	json_t *p = json_object();

	json_object_set_new(p, "$exception_list", exception_list(e, seconds));
	json_object_set_new(p, "$exception_level", json_string(e->dead != 0 ?
	    "error" : "warning"));
	json_object_set_new(p, "$exception_fingerprint", json_text(print));
	json_object_set_new(p, "queue", json_text(e->queue->name));
	json_object_set_new(p, "error_type", json_text(e->type));
	json_object_set_new(p, "count", json_count(e->count));
	json_object_set_new(p, "left_out", json_count(e->count - 1));
	json_object_set_new(p, "groups_left_out", json_count(groups_left_out));
	json_object_set_new(p, "errors_left_out", json_count(errors_left_out));
	json_object_set_new(p, "queue_dead", json_count(e->dead));
	json_object_set_new(p, "interval_seconds", json_number(seconds, 1));
	json_object_set_new(p, "journal", json_text(journal));
	posthog_event_add(k, "$exception", p);
}

void
posthog_errors_add(struct posthog *k, struct posthog_error *e, size_t n,
    double seconds)
{
	size_t sent = MIN(n, (size_t)k->settings.errors_max);
	uint64_t left_out = 0;

	qsort(e, n, sizeof(*e), more_first);
	for (size_t i = sent; i < n; i++)
		left_out += e[i].count;
	for (size_t i = 0; i < sent; i++)
		add_one(k, &e[i], seconds, n - sent, left_out);
}
