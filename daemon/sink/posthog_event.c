/*
 * An event is written once, when it happens: its uuid and its time stay the
 * same however often it is sent, and PostHog keeps one of them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "sink/posthog_impl.h"

void
posthog_event_take(struct posthog *k, struct posthog_event *e)
{
	list_remove(&e->link);
	k->n--;
	k->bytes -= e->n;
	free(e);
}

void
posthog_events_drop(struct posthog *k, unsigned n)
{
	while (n-- > 0 && k->n != 0)
		posthog_event_take(k, posthog_event_first(k));
}

/* What flies may have been taken already: it is not told as dropped. */
static void
drop_oldest(struct posthog *k)
{
	unsigned i = 0;
	struct list *l;

	list_foreach(l, &k->events) {
		if (i++ < k->flying)
			continue;
		posthog_event_take(k, list_entry(l, struct posthog_event,
		    link));
		sink_dropped(&k->record, 1, "too many wait (QueueMax=)");
		return;
	}
}

/* What all of them have. */
static void
add_common(const struct posthog *k, json_t *p)
{
	json_object_set_new(p, "instance", json_text(k->instance));
	json_object_set_new(p, "host", json_text(k->host));
	json_object_set_new(p, "$lib", json_string(PACKAGE_NAME));
	json_object_set_new(p, "$lib_version", json_string(PACKAGE_VERSION));
	json_object_set_new(p, "$process_person_profile", json_false());
	json_object_set_new(p, "$geoip_disable", json_true());
}

void
posthog_event_add(struct posthog *k, const char *name, json_t *properties)
{
	uint64_t now = clock_realtime_us();
	char iso[CLOCK_ISO_BYTES], uuid[RANDOM_UUID_BYTES];
	struct posthog_event *e;
	json_t *j;
	char *text;
	size_t n;

	add_common(k, properties);
	j = json_pack("{s:s,s:o,s:o,s:s,s:s}", "event", name, "properties",
	    properties, "distinct_id", json_text(k->distinct_id), "timestamp",
	    clock_iso(iso, now, true), "uuid", random_uuid7(uuid, now));
	text = json_dumps(j, STATUS_DUMP_FLAGS);
	BUG_ON(text == NULL);
	n = strlen(text);
	e = xcalloc(1, sizeof(*e) + n);
	e->n = n;
	memcpy(e->text, text, n);
	free(text);
	json_decref(j);
	list_push_back(&k->events, &e->link);
	k->n++;
	k->bytes += n;
	while (k->n > k->settings.queue_max && k->n > k->flying)
		drop_oldest(k);
}
