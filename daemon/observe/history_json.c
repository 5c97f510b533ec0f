#include "observe/history_impl.h"

#include <math.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json.h"

static const char *const queue_names[HQ_NSERIES] = {
	[HQ_BACKLOG] = "backlog",
	[HQ_BACKLOG_AGE] = "backlog_age_seconds",
	[HQ_IN_FLIGHT] = "in_flight",
	[HQ_RECEIVED] = "received_per_second",
	[HQ_DONE] = "done_per_second",
	[HQ_RETRIED] = "retried_per_second",
	[HQ_DEAD] = "dead_per_second",
	[HQ_ERROR_RATE] = "error_rate_percent",
	[HQ_P50] = "processing_ms_p50",
	[HQ_P95] = "processing_ms_p95",
};

static const char *const pool_names[HP_NSERIES] = {
	[HP_WORKERS] = "workers",
	[HP_BUSY] = "busy",
	[HP_UTILIZATION] = "utilization_percent",
	[HP_RESTARTS] = "restarts",
};

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new_nocheck(object, key, value);
}

/* Three decimals do for a graph. */
static json_t *
point(float x)
{
	return json_number((double)x, 3);
}

/* ---- queues ---- */

static const struct queue_step *
queue_step_at(const struct history *all, const struct queue_history *h,
    unsigned level, unsigned before)
{
	return before < h->filled[level] ?
	    &h->steps[level][history_slot(all, level, before)] : NULL;
}

static json_t *
queue_series(const struct history *all, const struct queue_history *h,
    unsigned level, unsigned points)
{
	json_t *series = json_object();

	for (unsigned i = 0; i < HQ_NSERIES; i++) {
		json_t *a = json_array();

		for (unsigned k = points; k-- > 0;) {
			const struct queue_step *s =
			    queue_step_at(all, h, level, k);

			(void)json_array_append_new(a, s != NULL ?
			    point(s->value[i]) : json_null());
		}
		set(series, queue_names[i], a);
	}
	return series;
}

/* Of a step's errors only the most frequent are kept; of others it is not
   known whether there were any. */
static json_t *
error_point(const struct queue_step *s, unsigned type)
{
	if (s == NULL || isnan(s->value[HQ_IN_FLIGHT]))
		return json_null();
	for (unsigned i = 0; i < HISTORY_TOP_ERRORS; i++)
		if (s->type[i] == type)
			return point(s->error[i]);
	return s->type[HISTORY_TOP_ERRORS - 1] == NO_TYPE ? json_integer(0) :
	    json_null();
}

static bool
type_occurs(const struct history *all, const struct queue_history *h,
    unsigned level, unsigned points, unsigned type)
{
	for (unsigned k = 0; k < points; k++) {
		const struct queue_step *s = queue_step_at(all, h, level, k);

		for (unsigned i = 0; s != NULL && i < HISTORY_TOP_ERRORS; i++)
			if (s->type[i] == type)
				return true;
	}
	return false;
}

static json_t *
queue_errors(const struct history *all, const struct queue_history *h,
    unsigned level, unsigned points)
{
	json_t *errors = json_object();

	for (unsigned t = 0; t <= OTHER_TYPE; t++) {
		json_t *a, *key;

		if (!type_occurs(all, h, level, points, t))
			continue;
		a = json_array();
		for (unsigned k = points; k-- > 0;)
			(void)json_array_append_new(a, error_point(
			    queue_step_at(all, h, level, k), t));
		key = json_text(t == OTHER_TYPE ? "other" : h->types[t]);
		set(errors, json_string_value(key), a);
		json_decref(key);
	}
	return errors;
}

/* ---- pools ---- */

static json_t *
pool_series(const struct history *all, const struct pool_history *h,
    unsigned level, unsigned points)
{
	json_t *series = json_object();

	for (unsigned i = 0; i < HP_NSERIES; i++) {
		json_t *a = json_array();

		for (unsigned k = points; k-- > 0;)
			(void)json_array_append_new(a, k >= h->filled[level] ?
			    json_null() : point(h->steps[level][history_slot(
			    all, level, k)].value[i]));
		set(series, pool_names[i], a);
	}
	return series;
}

/* ---- the document ---- */

/* So long ago, by today's wall clock. */
static json_t *
wall(uint64_t ago)
{
	uint64_t real = clock_realtime_us();
	char iso[CLOCK_ISO_BYTES];

	return json_string(clock_iso(iso, real - MIN(real, ago), false));
}

static json_t *
document(const struct history *all, const char *kind, const char *name,
    unsigned level, unsigned points)
{
	uint64_t step_us = history_levels[level].looks * LOOK_EVERY_US;
	uint64_t until = all->started_us + all->look /
	    history_levels[level].looks * step_us;
	uint64_t now = clock_monotonic_us(), ago = now - MIN(now, until);
	json_t *j = json_object();

	set(j, kind, json_text(name));
	set(j, "step_seconds", json_integer((json_int_t)(step_us /
	    USEC_PER_SEC)));
	set(j, "from", wall(ago + points * step_us));
	set(j, "until", wall(ago));
	set(j, "points", json_integer(points));
	return j;
}

json_t *
history_json(struct history *all, enum history_of of, const char *name,
    uint64_t span_us)
{
	unsigned level = 0, points;
	uint64_t step_us;
	struct list *l;
	json_t *j;

	span_us = MAX(MIN(span_us, HISTORY_SPAN_MAX_US), USEC_PER_SEC);
	while (history_levels[level].looks * LOOK_EVERY_US *
	    history_levels[level].steps < span_us)
		level++;
	step_us = history_levels[level].looks * LOOK_EVERY_US;
	points = (unsigned)((span_us + step_us - 1) / step_us);
	if (of == HISTORY_QUEUE) {
		list_foreach(l, &all->queues) {
			const struct queue_history *h =
			    list_entry(l, struct queue_history, link);

			if (strcmp(h->name, name) != 0)
				continue;
			j = document(all, "queue", name, level, points);
			set(j, "series", queue_series(all, h, level, points));
			set(j, "errors", queue_errors(all, h, level, points));
			return j;
		}
		return NULL;
	}
	list_foreach(l, &all->pools) {
		const struct pool_history *h =
		    list_entry(l, struct pool_history, link);

		if (strcmp(h->name, name) != 0)
			continue;
		j = document(all, "pool", name, level, points);
		set(j, "series", pool_series(all, h, level, points));
		return j;
	}
	return NULL;
}
