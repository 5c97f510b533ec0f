/*
 * What each queue and pool did in an interval: differences of the engine's
 * counters, and how they are at its end.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "observe/figure.h"
#include "sink/posthog_impl.h"

/* ---- properties ---- */

static void
set(json_t *p, const char *key, json_t *value)
{
	json_object_set_new(p, key, value);
}

/* How they are at the end of the interval: figures of the status document. */
static const struct row {
	const char *key, *figure;
} queue_rows[] = {
	{ "backlog", "queue.backlog" },
	{ "backlog_age_seconds", "queue.backlog_age_seconds" },
	{ "delayed_backlog", "queue.delayed_backlog" },
	{ "dead_backlog", "queue.dead_backlog" },
	{ "in_flight", "queue.in_flight" },
	{ "connected", "queue.connected" },
	{ "paused", "queue.paused" },
}, pool_rows[] = {
	{ "workers", "pool.workers" },
	{ "busy", "pool.busy" },
	{ "workers_min", "pool.min" },
	{ "workers_max", "pool.max" },
	{ "up", "pool.up" },
};

/* Looked up once. */
static struct figure queue_figures[ARRAY_SIZE(queue_rows)];
static struct figure pool_figures[ARRAY_SIZE(pool_rows)];

static void
find_figures(const struct row *rows, struct figure *figures, size_t n)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;

	for (size_t i = 0; i < n; i++)
		if (figure_find(rows[i].figure, strlen(rows[i].figure), NULL,
		    &figures[i], &why) < 0)
			BUG("%s: %s", rows[i].figure, buffer_cstr(&why));
}

/* What is not known is left out: an average then is of what is known. */
static void
set_figures(struct posthog *k, json_t *j, const struct row *rows,
    const struct figure *figures, size_t n, const void *subject)
{
	for (size_t i = 0; i < n; i++) {
		struct figure_value v = figure_read(&figures[i],
		    k->sinks->p.observer, subject);

		if (v.known)
			set(j, rows[i].key, figures[i].kind == FIGURE_BOOL ?
			    json_boolean(v.value > 0) :
			    json_number(v.value, 1));
	}
}

static double
ms(double us)
{
	return us / 1000;
}

static void
set_processing(json_t *p, const struct posthog_queue *b, const struct queue *q)
{
	static const struct {
		const char *key;
		double percent;
	} rows[] = { { "processing_ms_p50", 50 }, { "processing_ms_p95", 95 },
		{ "processing_ms_p99", 99 } };
	struct histogram h = q->stats.processing;

	histogram_sub(&h, &b->processing);
	set(p, "processing_count", json_count(h.count));
	set(p, "processing_ms_sum", json_number(ms((double)h.sum_us), 3));
	if (h.count == 0)
		return;
	set(p, "processing_ms_mean", json_number(ms(histogram_mean_us(&h)),
	    3));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		set(p, rows[i].key, json_number(ms((double)
		    histogram_percentile(&h, rows[i].percent)), 3));
}

static json_t *
percent(uint64_t part, uint64_t all)
{
	return json_number(100.0 * (double)part / (double)all, 2);
}

static void
add_queue(struct posthog *k, const struct posthog_queue *b,
    const struct queue *q, double seconds)
{
	const struct queue_stats *s = &q->stats;
	uint64_t done = s->done - b->done, failed = s->failed - b->failed;
	uint64_t attempts = done + failed;
	json_t *p = json_object();

	set(p, "queue", json_text(q->name));
	set(p, "queue_type", json_string(q->type->name));
	if (q->pool != NULL)
		set(p, "pool", json_text(q->pool->name));
	set(p, "interval_seconds", json_number(seconds, 1));
	set(p, "received", json_count(s->received - b->received));
	set(p, "attempts", json_count(attempts));
	set(p, "done", json_count(done));
	set(p, "failed", json_count(failed));
	set(p, "retried", json_count(s->retried - b->retried));
	set(p, "dead", json_count(s->dead - b->dead));
	if (attempts != 0)
		set(p, "error_rate_percent", percent(failed, attempts));
	set(p, "rate_per_second", json_number((double)attempts / seconds, 3));
	set_processing(p, b, q);
	set_figures(k, p, queue_rows, queue_figures, ARRAY_SIZE(queue_rows), q);
	posthog_event_add(k, "bot_operator_queue", p);
}

static void
add_pool(struct posthog *k, const struct posthog_pool *b,
    const struct pool *pool, double seconds)
{
	uint64_t verdicts = pool->stats.verdicts - b->verdicts;
	json_t *p = json_object();

	set(p, "pool", json_text(pool->name));
	set(p, "interval_seconds", json_number(seconds, 1));
	set(p, "attempts", json_count(verdicts));
	set(p, "rate_per_second", json_number((double)verdicts / seconds, 3));
	set(p, "restarts", json_count(pool->stats.restarts - b->restarts));
	set(p, "crashes", json_count(pool->stats.crashes - b->crashes));
	set(p, "timeouts", json_count(pool->stats.timeouts - b->timeouts));
	set(p, "utilization_percent", b->workers == 0 ? json_integer(0) :
	    percent(MIN(b->busy, b->workers), b->workers));
	set_figures(k, p, pool_rows, pool_figures, ARRAY_SIZE(pool_rows), pool);
	posthog_event_add(k, "bot_operator_pool", p);
}

/* ---- errors ---- */

static void
add_error(struct posthog *k, const struct posthog_error *e, double seconds)
{
	json_t *p = json_object();

	set(p, "queue", json_text(e->queue->name));
	set(p, "error_type", json_text(e->type));
	set(p, "interval_seconds", json_number(seconds, 1));
	set(p, "count", json_count(e->count));
	set(p, "attempts", json_count(e->attempts));
	posthog_event_add(k, "bot_operator_error", p);
}

/* Into errors, of which n are there, with room for ERROR_TYPES_MAX more. */
static size_t
collect_errors(const struct posthog_queue *b, const struct queue *q,
    struct posthog_error *errors, size_t n)
{
	const struct queue_stats *s = &q->stats;

	for (unsigned i = 0; i < s->nerrors; i++) {
		uint64_t count = s->errors[i].count - b->errors[i];

		if (count == 0)
			continue;
		errors[n++] = (struct posthog_error){ q, s->errors[i].type,
			count, s->done - b->done + s->failed - b->failed,
			s->dead - b->dead };
	}
	return n;
}

/* ---- intervals ---- */

void
posthog_figures_begin(struct posthog *k)
{
	find_figures(queue_rows, queue_figures, ARRAY_SIZE(queue_rows));
	find_figures(pool_rows, pool_figures, ARRAY_SIZE(pool_rows));
	posthog_counts_begin(k);
}

void
posthog_figures_close(struct posthog *k, double seconds)
{
	struct engine *e = k->sinks->p.engine;
	struct posthog_error *errors;
	size_t n = 0, queues = 0;
	struct list *l;
	struct queue *q;
	struct pool *p;

	engine_foreach_queue(q, e, l)
		queues++;
	errors = xcalloc(queues * ERROR_TYPES_MAX + 1, sizeof(*errors));
	engine_foreach_queue(q, e, l) {
		const struct posthog_queue *b = posthog_counts_queue(k, q);

		add_queue(k, b, q, seconds);
		n = collect_errors(b, q, errors, n);
	}
	engine_foreach_pool(p, e, l)
		add_pool(k, posthog_counts_pool(k, p), p, seconds);
	for (size_t i = 0; i < n; i++)
		add_error(k, &errors[i], seconds);
	if (k->settings.errors)
		posthog_errors_add(k, errors, n, seconds);
	free(errors);
	posthog_counts_begin(k);
}
