#include "observe/figure.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "guard/security.h"
#include "observe/watch.h"

/* How a row's number is read. */
enum how {
	U64 = 1,		/* a uint64_t at the offset */
	UINT,			/* an unsigned */
	SIZE,			/* a size_t */
	FLAG,			/* a bool */
	SECONDS,		/* a uint64_t in us */
	SECONDS_SINCE,		/* a monotonic time in us; 0: not known */
	Q_PAUSED, Q_BACKLOG, Q_AGE, Q_SAMPLED, Q_DELAYED, Q_DEAD, Q_IN_FLIGHT,
	Q_PREFETCH, Q_RAMP, Q_ERROR_RATE, Q_RATE, Q_RECEIVED_RATE, Q_MEAN, Q_P50,
	Q_P95, Q_P99, Q_ERRORS, Q_HEALTH, Q_OWN,
	P_UTILIZATION, P_HEALTH, P_OWN,
	C_OK, C_LATENCY, C_DAYS,
	S_MEMBER,		/* of the document, by its name there */
	O_STATUS, O_READY, O_BACKLOG, O_UPTIME,
	S_EVENTS, S_PER_MINUTE,	/* offset: the kind of security event */
	L_TURNS, L_SLOW_TURNS, L_LONGEST_TURN, L_LONGEST_CALLBACK, L_CALLBACKS,
	L_PROCESS,		/* offset: in struct watch_process */
};

struct figure_row {
	const char *name;
	enum figure_scope scope;
	enum figure_kind kind;
	bool windowed;
	enum how how;
	size_t offset;		/* in struct queue, pool, dependency, engine */
};

#define Q	FIGURE_QUEUE
#define P	FIGURE_POOL
#define C	FIGURE_CHECK
#define S	FIGURE_SINK
#define O	FIGURE_OPERATOR
#define N	FIGURE_NUMBER
#define B	FIGURE_BOOL
#define H	FIGURE_HEALTH
#define AT_Q(field)	offsetof(struct queue, field)
#define AT_P(field)	offsetof(struct pool, field)
#define AT_C(field)	offsetof(struct dependency, field)
#define AT_E(field)	offsetof(struct engine, field)
#define AT_PROCESS(field) offsetof(struct watch_process, field)

static const struct figure_row rows[] = {
	{ "queue.backlog", Q, N, false, Q_BACKLOG, 0 },
	{ "queue.backlog_age_seconds", Q, N, false, Q_AGE, 0 },
	{ "queue.backlog_sampled_seconds", Q, N, false, Q_SAMPLED, 0 },
	{ "queue.delayed_backlog", Q, N, false, Q_DELAYED, 0 },
	{ "queue.dead_backlog", Q, N, false, Q_DEAD, 0 },
	{ "queue.connected", Q, B, false, FLAG, AT_Q(connected) },
	{ "queue.paused", Q, B, false, Q_PAUSED, 0 },
	{ "queue.health", Q, H, false, Q_HEALTH, 0 },
	{ "queue.in_flight", Q, N, false, Q_IN_FLIGHT, 0 },
	{ "queue.waiting", Q, N, false, UINT, AT_Q(nwaiting) },
	{ "queue.held", Q, N, false, UINT, AT_Q(nheld) },
	{ "queue.delayed", Q, N, false, UINT, AT_Q(ndelayed) },
	{ "queue.running", Q, N, false, UINT, AT_Q(nrunning) },
	{ "queue.settling", Q, N, false, UINT, AT_Q(nsettling) },
	{ "queue.held_bytes", Q, N, false, SIZE, AT_Q(bytes_held) },
	{ "queue.prefetch", Q, N, false, Q_PREFETCH, 0 },
	{ "queue.credit", Q, N, false, UINT, AT_Q(credit) },
	{ "queue.ramp", Q, N, false, Q_RAMP, 0 },
	{ "queue.received", Q, N, false, U64, AT_Q(stats.received) },
	{ "queue.redelivered", Q, N, false, U64, AT_Q(stats.redelivered) },
	{ "queue.done", Q, N, false, U64, AT_Q(stats.done) },
	{ "queue.retried", Q, N, false, U64, AT_Q(stats.retried) },
	{ "queue.dead", Q, N, false, U64, AT_Q(stats.dead) },
	{ "queue.deferred", Q, N, false, U64, AT_Q(stats.deferred) },
	{ "queue.dropped", Q, N, false, U64, AT_Q(stats.dropped) },
	{ "queue.released", Q, N, false, U64, AT_Q(stats.released) },
	{ "queue.error_rate_percent", Q, N, true, Q_ERROR_RATE, 0 },
	{ "queue.rate_per_second", Q, N, false, Q_RATE, 0 },
	{ "queue.received_per_second", Q, N, false, Q_RECEIVED_RATE, 0 },
	{ "queue.processing_ms.mean", Q, N, true, Q_MEAN, 0 },
	{ "queue.processing_ms.p50", Q, N, true, Q_P50, 0 },
	{ "queue.processing_ms.p95", Q, N, true, Q_P95, 0 },
	{ "queue.processing_ms.p99", Q, N, true, Q_P99, 0 },
	{ "queue.leases_extended", Q, N, false, U64,
	    AT_Q(stats.leases_extended) },
	{ "queue.leases_lost", Q, N, false, U64, AT_Q(stats.leases_lost) },
	{ "queue.settle_errors", Q, N, false, U64, AT_Q(stats.settle_errors) },
	{ "queue.connects", Q, N, false, U64, AT_Q(stats.connects) },
	{ "queue.last_received_seconds", Q, N, false, SECONDS_SINCE,
	    AT_Q(stats.last_received_us) },
	{ "queue.last_done_seconds", Q, N, false, SECONDS_SINCE,
	    AT_Q(stats.last_done_us) },

	{ "pool.up", P, B, false, FLAG, AT_P(up) },
	{ "pool.health", P, H, false, P_HEALTH, 0 },
	{ "pool.workers", P, N, false, UINT, AT_P(workers) },
	{ "pool.busy", P, N, false, UINT, AT_P(busy) },
	{ "pool.min", P, N, false, UINT, AT_P(min) },
	{ "pool.max", P, N, false, UINT, AT_P(max) },
	{ "pool.utilization_percent", P, N, false, P_UTILIZATION, 0 },
	{ "pool.restarts", P, N, false, U64, AT_P(stats.restarts) },
	{ "pool.running", P, N, false, UINT, AT_P(running) },
	{ "pool.started", P, N, false, U64, AT_P(stats.started) },
	{ "pool.crashes", P, N, false, U64, AT_P(stats.crashes) },
	{ "pool.timeouts", P, N, false, U64, AT_P(stats.timeouts) },
	{ "pool.verdicts", P, N, false, U64, AT_P(stats.verdicts) },
	{ "pool.busy_seconds", P, N, false, SECONDS, AT_P(stats.busy_us) },
	{ "pool.last_verdict_seconds", P, N, false, SECONDS_SINCE,
	    AT_P(stats.last_verdict_us) },

	/* What kinds of pools add to the document: not all have it. */
	{ "pool.starting", P, N, false, P_OWN, 0 },
	{ "pool.connections", P, N, false, P_OWN, 0 },

	{ "check.ok", C, B, false, C_OK, 0 },
	{ "check.latency_ms", C, N, false, C_LATENCY, 0 },
	{ "check.days_left", C, N, false, C_DAYS, 0 },
	{ "check.last_looked_seconds", C, N, false, SECONDS_SINCE,
	    AT_C(looked_us) },
	{ "check.looks", C, N, false, U64, AT_C(looks) },
	{ "check.failed", C, N, false, U64, AT_C(failed) },

	{ "sink.failing", S, B, false, S_MEMBER, 0 },
	{ "sink.queued", S, N, false, S_MEMBER, 0 },
	{ "sink.sent", S, N, false, S_MEMBER, 0 },
	{ "sink.failed", S, N, false, S_MEMBER, 0 },
	{ "sink.dropped", S, N, false, S_MEMBER, 0 },
	{ "sink.retries", S, N, false, S_MEMBER, 0 },
	{ "sink.coalesced", S, N, false, S_MEMBER, 0 },
	{ "sink.last_sent_seconds", S, N, false, S_MEMBER, 0 },
	{ "sink.up", S, B, false, S_MEMBER, 0 },
	{ "sink.queued_bytes", S, N, false, S_MEMBER, 0 },
	{ "sink.batch_max", S, N, false, S_MEMBER, 0 },
	{ "sink.intervals", S, N, false, S_MEMBER, 0 },
	{ "sink.connected", S, B, false, S_MEMBER, 0 },
	{ "sink.last_pull_seconds", S, N, false, S_MEMBER, 0 },
	{ "sink.pulls", S, N, false, S_MEMBER, 0 },
	{ "sink.pulls_failed", S, N, false, S_MEMBER, 0 },
	{ "sink.decisions_max", S, N, false, S_MEMBER, 0 },
	{ "sink.decisions_left_out", S, N, false, S_MEMBER, 0 },
	{ "sink.decisions_ignored", S, N, false, S_MEMBER, 0 },

	{ "status", O, H, false, O_STATUS, 0 },
	{ "health", O, H, false, O_STATUS, 0 },
	{ "ready", O, B, false, O_READY, 0 },
	{ "backlog", O, N, false, O_BACKLOG, 0 },
	{ "uptime_seconds", O, N, false, O_UPTIME, 0 },
	{ "totals.done", O, N, false, U64, AT_E(done) },
	{ "totals.retried", O, N, false, U64, AT_E(retried) },
	{ "totals.dead", O, N, false, U64, AT_E(dead) },
	{ "totals.dropped", O, N, false, U64, AT_E(dropped) },
	{ "security.auth_failed", O, N, false, S_EVENTS,
	    SECURITY_AUTH_FAILED },
	{ "security.auth_failed_per_minute", O, N, false,
	    S_PER_MINUTE, SECURITY_AUTH_FAILED },
	{ "security.message_auth_failed", O, N, false, S_EVENTS,
	    SECURITY_MESSAGE_AUTH_FAILED },
	{ "security.message_auth_failed_per_minute", O, N, false,
	    S_PER_MINUTE, SECURITY_MESSAGE_AUTH_FAILED },
	{ "security.message_suspicious", O, N, false, S_EVENTS,
	    SECURITY_MESSAGE_SUSPICIOUS },
	{ "security.message_suspicious_per_minute", O, N, false,
	    S_PER_MINUTE, SECURITY_MESSAGE_SUSPICIOUS },
	{ "security.message_flood", O, N, false, S_EVENTS,
	    SECURITY_MESSAGE_FLOOD },
	{ "security.message_flood_per_minute", O, N, false,
	    S_PER_MINUTE, SECURITY_MESSAGE_FLOOD },
	{ "messages.held", O, N, false, UINT, AT_E(messages_held) },
	{ "messages.max", O, N, false, UINT, AT_E(max_messages) },
	{ "messages.held_bytes", O, N, false, SIZE, AT_E(bytes_held) },
	{ "messages.max_bytes", O, N, false, SIZE, AT_E(max_bytes) },
	{ "loop.turns", O, N, false, L_TURNS, 0 },
	{ "loop.slow_turns", O, N, false, L_SLOW_TURNS, 0 },
	{ "loop.longest_turn_ms", O, N, false, L_LONGEST_TURN, 0 },
	{ "loop.longest_callback_ms", O, N, false, L_LONGEST_CALLBACK, 0 },
	{ "loop.callbacks", O, N, false, L_CALLBACKS, 0 },
	{ "process.rss_bytes", O, N, false, L_PROCESS, AT_PROCESS(rss_bytes) },
	{ "process.cpu_seconds", O, N, false, L_PROCESS,
	    AT_PROCESS(cpu_seconds) },
	{ "process.descriptors", O, N, false, L_PROCESS,
	    AT_PROCESS(descriptors) },
	{ "process.descriptors_max", O, N, false, L_PROCESS,
	    AT_PROCESS(descriptors_max) },
};

#undef Q
#undef P
#undef C
#undef S
#undef O
#undef N
#undef B
#undef H

/* These take a name from elsewhere. */
static const struct figure_row errors_row = { "queue.errors.", FIGURE_QUEUE,
	FIGURE_NUMBER, false, Q_ERRORS, 0 };
static const struct figure_row own_row = { "queue.", FIGURE_QUEUE,
	FIGURE_NUMBER, false, Q_OWN, 0 };

/* ---- names ---- */

const char *
figure_scope_name(enum figure_scope s)
{
	static const char *const names[FIGURE_NSCOPES] = {
		[FIGURE_OPERATOR] = "operator", [FIGURE_QUEUE] = "queue",
		[FIGURE_POOL] = "pool", [FIGURE_CHECK] = "check",
		[FIGURE_SINK] = "sink",
	};

	return (size_t)s < ARRAY_SIZE(names) && names[s] != NULL ? names[s] :
	    "?";
}

const char *
figure_name_at(size_t i)
{
	return i < ARRAY_SIZE(rows) ? rows[i].name : NULL;
}

static void
found(struct figure *f, const struct figure_row *row, const char *name)
{
	f->row = row;
	f->scope = row->scope;
	f->kind = row->kind;
	f->windowed = row->windowed;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->member = row == &errors_row || row == &own_row ?
	    strlen(row->name) : 0;
}

static void
suggest(const char *name, struct buffer *why)
{
	const char *names[ARRAY_SIZE(rows) * 2], *near;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		names[n++] = rows[i].name;
	/* The scope left out is the likeliest slip of all. */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *dot = strchr(rows[i].name, '.');

		if (dot != NULL && strcmp(dot + 1, name) == 0) {
			buffer_printf(why, "; did you mean \"%s\"?",
			    rows[i].name);
			return;
		}
	}
	near = config_suggest(name, names, n);
	if (near != NULL)
		buffer_printf(why, "; did you mean \"%s\"?", near);
}

static bool
is_own(const char *const *own, const char *member)
{
	for (; own != NULL && *own != NULL; own++)
		if (strcmp(*own, member) == 0)
			return true;
	return false;
}

int
figure_find(const char *text, size_t n, const char *const *own,
    struct figure *ret, struct buffer *why)
{
	char name[FIGURE_NAME_MAX];
	size_t errors = strlen(errors_row.name), queue = strlen(own_row.name);

	if (n == 0 || n >= sizeof(name)) {
		buffer_add_str(why, n == 0 ? "which figure?" :
		    "the figure's name is too long");
		return -EINVAL;
	}
	memcpy(name, text, n);
	name[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strcmp(rows[i].name, name) == 0) {
			found(ret, &rows[i], name);
			return 0;
		}
	}
	if (n > errors && strncmp(name, errors_row.name, errors) == 0 &&
	    n - errors < ERROR_TYPE_MAX) {
		found(ret, &errors_row, name);
		return 0;
	}
	if (strncmp(name, own_row.name, queue) == 0 &&
	    is_own(own, name + queue)) {
		found(ret, &own_row, name);
		return 0;
	}
	buffer_printf(why, "unknown figure \"%s\"", name);
	suggest(name, why);
	return -EINVAL;
}

const char *
figure_text(const struct figure *f, double value, char out[FIGURE_TEXT_BYTES])
{
	const char *text = NULL;

	if (isnan(value))
		text = "not known";
	else if (f->kind == FIGURE_BOOL)
		text = value > 0 ? "yes" : "no";
	else if (f->kind == FIGURE_HEALTH)
		text = health_name((enum health)(int)value);
	if (text != NULL)
		snprintf(out, FIGURE_TEXT_BYTES, "%s", text);
	else
		snprintf(out, FIGURE_TEXT_BYTES, "%.12g",
		    round(value * 1000) / 1000);
	return out;
}

/* ---- values ---- */

static struct figure_value
is(double value)
{
	return (struct figure_value){ true, value, 0 };
}

static struct figure_value
unknown(void)
{
	return (struct figure_value){ false, (double)NAN, 0 };
}

static struct figure_value
is_if(bool known, double value)
{
	return known ? is(value) : unknown();
}

static struct figure_value
since(uint64_t then_us)
{
	uint64_t now = clock_monotonic_us();

	return is_if(then_us != 0, (double)(now - MIN(now, then_us)) / 1e6);
}

/* "starting" says nothing yet, and a standby nothing about the work. */
static struct figure_value
health_is(enum health h)
{
	return is_if(h != HEALTH_STARTING && h != HEALTH_STANDBY && h != 0, (double)h);
}

static struct figure_value
read_at(const struct figure_row *row, const void *object)
{
	const char *p = (const char *)object + row->offset;
	uint64_t u64;
	unsigned u;
	size_t size;
	bool flag;

	switch (row->how) {
	case UINT:
		memcpy(&u, p, sizeof(u));
		return is(u);
	case SIZE:
		memcpy(&size, p, sizeof(size));
		return is((double)size);
	case FLAG:
		memcpy(&flag, p, sizeof(flag));
		return is(flag ? 1 : 0);
	default:
		memcpy(&u64, p, sizeof(u64));
		if (row->how == SECONDS)
			return is((double)u64 / 1e6);
		return row->how == SECONDS_SINCE ? since(u64) :
		    is((double)u64);
	}
}

static struct figure_value
read_backlog(const struct figure_row *row, const struct queue *q)
{
	const struct backlog *b = &q->backlog;
	bool fresh = watch_backlog_fresh(q);

	switch (row->how) {
	case Q_BACKLOG:
		return is_if(fresh && b->waiting_known, (double)b->waiting);
	case Q_DELAYED:
		return is_if(fresh && b->delayed_known, (double)b->delayed);
	case Q_DEAD:
		return is_if(fresh && b->dead_known, (double)b->dead);
	default:
		return is_if(fresh && (b->oldest_us != 0 ||
		    (b->waiting_known && b->waiting == 0)),
		    (double)b->oldest_us / 1e6);
	}
}

static struct figure_value
read_window(const struct figure_row *row, struct observer *o,
    const struct queue *q)
{
	struct figure_value v;
	struct recent r;

	watch_recent(watch_find_queue(o, q), q, &r);
	switch (row->how) {
	case Q_RATE:
		return is(r.rate);
	case Q_RECEIVED_RATE:
		return is(r.received_rate);
	case Q_ERROR_RATE:
		v = is_if(r.verdicts != 0, r.error_percent);
		v.samples = r.verdicts;
		return v;
	case Q_MEAN:
		v = is(histogram_mean_us(&r.processing) / 1000);
		break;
	case Q_P50:
		v = is((double)histogram_percentile(&r.processing, 50) / 1000);
		break;
	case Q_P95:
		v = is((double)histogram_percentile(&r.processing, 95) / 1000);
		break;
	default:
		v = is((double)histogram_percentile(&r.processing, 99) / 1000);
		break;
	}
	if (r.processing.count == 0)
		return unknown();
	v.samples = r.processing.count;
	return v;
}

static struct figure_value
read_errors(const struct queue *q, const char *type)
{
	for (unsigned i = 0; i < q->stats.nerrors; i++)
		if (strcmp(q->stats.errors[i].type, type) == 0)
			return is((double)q->stats.errors[i].count);
	return is(0);
}

static struct figure_value
read_json(const json_t *j)
{
	if (json_is_boolean(j))
		return is(json_is_true(j) ? 1 : 0);
	return is_if(json_is_number(j), json_number_value(j));
}

/* What the kind itself adds to the document. */
static struct figure_value
read_own(const struct queue *q, const char *name)
{
	struct figure_value v;
	json_t *own;

	if (q->type->ops->status == NULL || q->stopped)
		return unknown();
	own = json_object();
	q->type->ops->status((struct queue *)q, own);
	v = read_json(json_object_get(own, name));
	json_decref(own);
	return v;
}

static struct figure_value
read_queue(const struct figure *f, struct observer *o, const struct queue *q)
{
	switch (f->row->how) {
	case Q_PAUSED:
		return is(q->paused != 0 ? 1 : 0);
	case Q_BACKLOG:
	case Q_AGE:
	case Q_DELAYED:
	case Q_DEAD:
		return read_backlog(f->row, q);
	case Q_SAMPLED:
		return since(q->backlog.sampled_us);
	case Q_IN_FLIGHT:
		return is((double)q->nwaiting + q->nheld + q->ndelayed +
		    q->nrunning + q->nsettling);
	case Q_PREFETCH:
		return is_if(q->prefetch != 0, q->prefetch);
	case Q_RAMP:
		return is_if(q->ramp != 0, q->ramp);
	case Q_ERROR_RATE:
	case Q_RATE:
	case Q_RECEIVED_RATE:
	case Q_MEAN:
	case Q_P50:
	case Q_P95:
	case Q_P99:
		return read_window(f->row, o, q);
	case Q_ERRORS:
		return read_errors(q, f->name + f->member);
	case Q_HEALTH:
		return health_is(watch_find_queue(o, q)->check.state);
	case Q_OWN:
		return read_own(q, f->name + f->member);
	default:
		return read_at(f->row, q);
	}
}

static struct figure_value
read_pool(const struct figure *f, struct observer *o, const struct pool *p)
{
	unsigned busy = MIN(p->busy, p->workers);
	struct figure_value v;
	json_t *own;

	switch (f->row->how) {
	case P_UTILIZATION:
		return is(p->workers == 0 ? 0 :
		    round(100.0 * busy / p->workers));
	case P_HEALTH:
		return health_is(watch_find_pool(o, p)->check.state);
	case P_OWN:
		if (p->type->ops->status == NULL)
			return unknown();
		own = json_object();
		p->type->ops->status((struct pool *)p, own);
		v = read_json(json_object_get(own, strchr(f->name, '.') + 1));
		json_decref(own);
		return v;
	default:
		return read_at(f->row, p);
	}
}

static struct figure_value
read_check(const struct figure *f, const struct dependency *d)
{
	switch (f->row->how) {
	case C_OK:
		return is_if(d->state != DEPENDENCY_PENDING, dependency_ok(d));
	case C_LATENCY:
		return is_if(d->latency_us != 0, (double)d->latency_us / 1000);
	case C_DAYS:
		return is_if(d->days_known, (double)d->days_left);
	default:
		return read_at(f->row, d);
	}
}

/* The sum, when all of it is known: a part would look like a recovery. */
static struct figure_value
read_backlog_sum(struct observer *o)
{
	double sum = 0;
	struct list *l;
	struct queue *q;

	engine_foreach_queue(q, o->engine, l) {
		if (!watch_backlog_fresh(q) || !q->backlog.waiting_known)
			return unknown();
		sum += (double)q->backlog.waiting;
	}
	return is(sum);
}

static struct figure_value
read_operator(const struct figure *f, struct observer *o)
{
	struct loop_stats s;
	struct watch_process p;
	double value;

	loop_get_stats(o->loop, &s);
	switch (f->row->how) {
	case O_STATUS:
		return health_is(o->overall);
	case O_READY:
		return is(observer_ready(o) ? 1 : 0);
	case O_BACKLOG:
		return read_backlog_sum(o);
	case O_UPTIME:
		return is((double)((clock_monotonic_us() - o->started_us) /
		    USEC_PER_SEC));
	case S_EVENTS:
		return is((double)security_count(
		    (enum security_kind)f->row->offset));
	case S_PER_MINUTE:
		return is((double)security_per_minute(
		    (enum security_kind)f->row->offset));
	case L_TURNS:
		return is((double)s.turns);
	case L_SLOW_TURNS:
		return is((double)s.slow_turns);
	case L_LONGEST_TURN:
		return is((double)s.longest_turn_us / 1000);
	case L_LONGEST_CALLBACK:
		return is((double)s.longest_callback_us / 1000);
	case L_CALLBACKS:
		return is((double)s.callbacks);
	case L_PROCESS:
		watch_process(o->loop, &p);
		memcpy(&value, (const char *)&p + f->row->offset,
		    sizeof(value));
		return is(value);
	default:
		return read_at(f->row, o->engine);
	}
}

struct figure_value
figure_read(const struct figure *f, struct observer *o, const void *subject)
{
	switch (f->scope) {
	case FIGURE_QUEUE:
		return read_queue(f, o, subject);
	case FIGURE_POOL:
		return read_pool(f, o, subject);
	case FIGURE_CHECK:
		return read_check(f, subject);
	case FIGURE_SINK:
		return read_json(json_object_get(subject,
		    strchr(f->name, '.') + 1));
	default:
		return read_operator(f, o);
	}
}
