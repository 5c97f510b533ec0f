/*
 * [PostHog]: intervals become events, which wait until they are sent.
 *
 * An interval ends each Interval=, whatever becomes of what it made.  At a
 * stop the one that is going on, and what waits, is not sent.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "sink/posthog_impl.h"

/* ---- the clock ---- */

static void
arm(struct posthog *k)
{
	timer_arm_at(k->sinks->p.loop, &k->timer, MIN(k->due_us,
	    clock_monotonic_us() + POSTHOG_LOOK_US));
}

static void
on_timer(struct timer *t)
{
	struct posthog *k = t->owner;
	uint64_t now = clock_monotonic_us();

	posthog_counts_look(k);
	if (now >= k->due_us) {
		posthog_figures_close(k, (double)MAX(now - k->began_us,
		    USEC_PER_MSEC) / 1e6);
		k->intervals++;
		k->began_us = now;
		k->due_us += k->settings.interval_us;
		/* A loop that stood still makes up for nothing. */
		if (k->due_us <= now)
			k->due_us = now + k->settings.interval_us;
		posthog_send_go(k);
	}
	arm(k);
}

/* ---- life ---- */

/* Name= does not change while we run. */
static void
name_it(struct posthog *k)
{
	struct config *c = k->sinks->config;
	const struct config_section *op = config_next(c, "Operator", NULL);
	const char *name = op != NULL ? config_string(op, "Name") : NULL;

	if (gethostname(k->host, sizeof(k->host) - 1) < 0)
		snprintf(k->host, sizeof(k->host), "unknown");
	k->instance = xstrdup(name != NULL ? name : config_instance(c));
	k->distinct_id = xasprintf("%s@%s", k->instance, k->host);
}

struct posthog *
posthog_new(struct sinks *all, const struct config_section *s)
{
	struct posthog *k = new0(struct posthog);

	k->sinks = all;
	k->record.name = "posthog";
	k->record.noun = "event";
	k->record.means = "it gets no figures";
	list_init(&k->queues);
	list_init(&k->pools);
	name_it(k);
	posthog_settings_read(&k->settings, all->config, s);
	posthog_send_init(k);
	posthog_figures_begin(k);
	k->began_us = clock_monotonic_us();
	k->due_us = k->began_us + k->settings.interval_us;
	timer_init(&k->timer, "posthog", on_timer, k);
	arm(k);
	return k;
}

void
posthog_reload(struct posthog *k, const struct config_section *s)
{
	struct posthog_settings old = k->settings;

	posthog_send_stop(k);
	k->batch_max = POSTHOG_BATCH_MAX;
	posthog_settings_read(&k->settings, k->sinks->config, s);
	posthog_settings_done(&old);
	k->due_us = k->began_us + k->settings.interval_us;
	arm(k);
	posthog_send_go(k);
}

void
posthog_free(struct posthog *k)
{
	if (k == NULL)
		return;
	posthog_send_stop(k);
	timer_cancel(k->sinks->p.loop, &k->timer);
	if (k->n != 0)
		sink_dropped(&k->record, k->n, "the sink ends");
	posthog_events_drop(k, k->n);
	posthog_counts_done(k);
	posthog_settings_done(&k->settings);
	free(k->instance);
	free(k->distinct_id);
	free(k);
}

void
posthog_check(struct config *c)
{
	const struct config_section *s = config_next(c, "PostHog", NULL);

	if (s != NULL)
		posthog_settings_check(c, s);
}

/* ---- to look at ---- */

json_t *
posthog_json(const struct posthog *k)
{
	json_t *j = sink_record_json(&k->record);

	json_object_set_new(j, "type", json_string("posthog"));
	json_object_set_new(j, "peer", json_text(k->settings.host));
	json_object_set_new(j, "queued", json_integer(k->n));
	json_object_set_new(j, "queued_bytes", json_count(k->bytes));
	json_object_set_new(j, "batch_max", json_integer(k->batch_max));
	json_object_set_new(j, "intervals", json_count(k->intervals));
	return j;
}
