#include "sim/rig.h"

#include <dirent.h>
#include <stdio.h>

#include "guard/guard.h"
#include "guard/screen.h"
#include "guard/security.h"
#include "observe/check.h"

#define TURNS_MAX	100000
#define START_US	(1000 * USEC_PER_SEC)
#define START_REAL_US	(UINT64_C(1764000000) * USEC_PER_SEC)
#define DEFAULT_SEED	UINT64_C(20261123)

static const struct queue_type *const queue_types[] = {
	&sim_queue_type, &sim_queue_fixed_type, &sim_queue_plain_type,
	&sim_queue_keep_type, NULL,
};
static const struct handler_type *const handler_types[] = {
	&sim_handler_type, NULL,
};
static const struct engine_types types = { queue_types, handler_types };

static struct rig *alive;		/* until rig_free() */

static config_schema
schema(void)
{
	static const struct config_kind *kinds[16];
	size_t n = 0;

	if (kinds[0] != NULL)
		return kinds;
	kinds[n++] = &engine_operator_kind;
	kinds[n++] = &engine_queue_kind;
	kinds[n++] = &engine_pool_kind;
	for (size_t i = 0; queue_types[i] != NULL; i++)
		kinds[n++] = queue_types[i]->kind;
	kinds[n++] = sim_handler_type.kind;
	kinds[n++] = &check_config_kind;
	kinds[n++] = &guard_queue_kind;
	kinds[n++] = &screen_kind;
	return kinds;
}

static unsigned
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* ---- the log ---- */

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	struct rig *r = owner;

	if (getenv("SIM_LOG") != NULL)
		print_message("%8.3f %-7s %s%s%.*s%s%s\n",
		    (double)(clock_monotonic_us() - START_US) / 1e6,
		    log_level_name(level), f->queue != NULL ? f->queue : "",
		    f->message.n != 0 ? " " : "", (int)f->message.n,
		    f->message.n != 0 ? f->message.p : "",
		    f->queue != NULL ? ": " : "", text);
	if (level > LOG_LEVEL_WARNING)
		return;
	for (unsigned i = 0; i < r->nexpected; i++) {
		if (strstr(text, r->expected[i].part) != NULL) {
			r->expected[i].seen++;
			return;
		}
	}
	if (r->unexpected[0] == '\0')
		snprintf(r->unexpected, sizeof(r->unexpected), "%s: %s",
		    f->queue != NULL ? f->queue : f->pool != NULL ? f->pool :
		    "-", text);
}

static void
announce(struct rig *r, const char *part, bool may)
{
	assert_true(r->nexpected < RIG_EXPECTED_MAX);
	r->expected[r->nexpected].part = part;
	r->expected[r->nexpected].seen = 0;
	r->expected[r->nexpected++].may = may;
}

void
rig_expect(struct rig *r, const char *part)
{
	announce(r, part, false);
}

void
rig_allow(struct rig *r, const char *part)
{
	announce(r, part, true);
}

unsigned
rig_seen(const struct rig *r, const char *part)
{
	for (unsigned i = 0; i < r->nexpected; i++)
		if (strcmp(r->expected[i].part, part) == 0)
			return r->expected[i].seen;
	return 0;
}

/* ---- making and ending ---- */

static struct config *
load(const char *text)
{
	struct config *c = config_load_text("sim.conf", text, schema());

	engine_check(c, &types);
	if (config_problems(c) == 0)
		guards_check(c);
	return c;
}

size_t
rig_problems(const char *text, char *ret, size_t room)
{
	struct config *c = load(text);
	size_t n = config_problems(c);

	snprintf(ret, room, "%s", n != 0 ? config_problem_text(c, 0) : "");
	config_unref(c);
	return n;
}

static struct config *
load_good(const char *text)
{
	struct config *c = load(text);

	if (config_problems(c) != 0)
		fail_msg("%s", config_problem_text(c, 0));
	return c;
}

struct rig *
rig_new_seeded(const char *text, uint64_t seed)
{
	struct rig *r = new0(struct rig);
	const char *other = getenv("SIM_SEED");

	/* A test that failed has left its world behind; this one is new. */
	if (alive != NULL) {
		sim_brokers_forget();
		sim_workers_forget();
	}
	alive = r;
	r->seed = other != NULL ? strtoull(other, NULL, 0) : seed;
	print_message("# seed %llu\n", (unsigned long long)r->seed);
	random_seed(r->seed);
	r->messages_before = message_count();
	r->fds_before = count_fds();
	clock_set_virtual(START_US, START_REAL_US);
	log_tap(on_log, r);
	log_tap_exclusive(true);
	if (getenv("SIM_LOG") != NULL)
		log_set_level(LOG_LEVEL_DEBUG);
	assert_int_equal(loop_new(&r->loop), 0);
	r->config = load_good(text);
	security_open(r->loop);
	r->engine = engine_new(r->loop, NULL, r->config, &types);
	r->guards = guards_new(r->engine, r->config);
	return r;
}

struct rig *
rig_new(const char *text)
{
	return rig_new_seeded(text, DEFAULT_SEED);
}

void
rig_start(struct rig *r)
{
	engine_start(r->engine);
	rig_run_idle(r);
}

static void
check_log(const struct rig *r)
{
	if (r->unexpected[0] != '\0')
		fail_msg("unexpected in the log: %s", r->unexpected);
	for (unsigned i = 0; i < r->nexpected; i++)
		if (r->expected[i].seen == 0 && !r->expected[i].may)
			fail_msg("never in the log: %s", r->expected[i].part);
}

void
rig_free(struct rig *r)
{
	if (!r->stopped && r->engine->phase != ENGINE_STARTING)
		(void)rig_drain(r);
	assert_int_equal(r->engine->messages_held, 0);
	assert_int_equal(r->engine->bytes_held, 0);
	engine_free(r->engine);
	guards_free(r->guards);
	security_close();
	sim_brokers_check();
	sim_brokers_free();
	sim_workers_free();
	config_unref(r->config);
	assert_int_equal(message_count(), r->messages_before);
	loop_free(r->loop);
	clock_set_real();
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
	assert_int_equal(count_fds(), r->fds_before);
	check_log(r);
	alive = NULL;
	free(r);
}

/* ---- time ---- */

void
rig_run_idle(struct rig *r)
{
	for (unsigned i = 0; i < TURNS_MAX; i++)
		if (loop_turn(r->loop, 0) == 0)
			return;
	fail_msg("the loop never gets idle");
}

static void
soonest(void *arg, const char *name, uint64_t due_in_us)
{
	uint64_t *least = arg;

	(void)name;
	*least = MIN(*least, due_in_us);
}

uint64_t
rig_step(struct rig *r, uint64_t max_us)
{
	uint64_t next = max_us;

	rig_run_idle(r);
	loop_visit_timers(r->loop, soonest, &next);
	clock_advance(next);
	rig_run_idle(r);
	return next;
}

void
rig_advance_us(struct rig *r, uint64_t us)
{
	uint64_t until = clock_monotonic_us() + us;

	rig_run_idle(r);
	while (clock_monotonic_us() < until)
		(void)rig_step(r, until - clock_monotonic_us());
}

void
rig_advance_ms(struct rig *r, uint64_t ms)
{
	rig_advance_us(r, ms * USEC_PER_MSEC);
}

static void
on_stopped(void *owner)
{
	struct rig *r = owner;

	assert_false(r->stopped);
	r->stopped = true;
}

uint64_t
rig_drain(struct rig *r)
{
	uint64_t start = clock_monotonic_us();
	uint64_t most = r->engine->drain_timeout_us + 60 * USEC_PER_SEC;

	engine_drain(r->engine, on_stopped, r);
	rig_run_idle(r);
	while (!r->stopped) {
		if (clock_monotonic_us() - start >= most) {
			log_set_level(LOG_LEVEL_CRIT);
			engine_dump(r->engine);
			fail_msg("the drain does not end; %s", r->unexpected);
		}
		(void)rig_step(r, USEC_PER_SEC);
	}
	return clock_monotonic_us() - start;
}

unsigned
rig_reload(struct rig *r, const char *text)
{
	struct config *c = load_good(text);
	unsigned changed = guards_reload(r->guards, c);

	changed += engine_reload(r->engine, c);
	config_unref(r->config);
	r->config = c;
	rig_run_idle(r);
	return changed;
}

struct queue *
rig_queue(struct rig *r, const char *name)
{
	struct queue *q = engine_queue(r->engine, name);

	assert_non_null(q);
	return q;
}

struct sim_broker *
rig_broker(struct rig *r, const char *name)
{
	return sim_broker(r->loop, name);
}
