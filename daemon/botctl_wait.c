/*
 * botctl wait: for scripts that must know when an operator really works.
 *
 *	ready	a queue is connected and its pool can run something
 *	progress	the status is ok, and each queue that is not paused is
 *		connected, its pool can run something, and it has either worked
 *		on something since we looked first, or has nothing to work on
 *	standby	it takes nothing, and holds nothing any more
 */
#include "botctl.h"

#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"

#define LOOK_EVERY_US		(200 * USEC_PER_MSEC)
#define TIMEOUT_DEFAULT_US	(60 * USEC_PER_SEC)

enum goal { GOAL_READY, GOAL_PROGRESS, GOAL_STANDBY, NGOALS };

static const char *const goals[NGOALS] = { "ready", "progress", "standby" };

struct waiting {
	enum goal goal;
	bool degraded;		/* is good enough */
	json_t *first;		/* the status at the first look at this process;
				   NULL: none yet */
	char why[512];		/* not yet */
};

static bool
is_true(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

static bool not_yet(struct waiting *, const char *fmt, ...) _printf_(2, 3);

static bool
not_yet(struct waiting *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->why, sizeof(w->why), fmt, ap);
	va_end(ap);
	return false;
}

static double
verdicts(const json_t *q)
{
	return number_of(q, "done") + number_of(q, "retried") +
	    number_of(q, "dead");
}

/* The worst of what its checks say; for people. */
static const char *
detail_of(const json_t *status)
{
	json_t *check;
	size_t i;

	json_array_foreach(json_object_get(status, "checks"), i, check)
		if (strcmp(text_of(check, "status"), "ok") != 0)
			return text_of(check, "detail");
	return "";
}

/* ---- progress ---- */

static bool
queue_progresses(struct waiting *w, const json_t *status, const char *name,
    const json_t *q)
{
	const json_t *was = json_object_get(json_object_get(w->first,
	    "queues"), name);
	const json_t *pool = json_object_get(json_object_get(status, "pools"),
	    text_of(q, "pool"));
	const json_t *backlog = json_object_get(q, "backlog");

	if (!is_true(q, "connected"))
		return not_yet(w, "queue %s is not connected: %s", name,
		    text_of(json_object_get(q, "error"), "text"));
	if (!is_true(pool, "up"))
		return not_yet(w, "pool %s cannot run anything: %s",
		    text_of(q, "pool"), text_of(json_object_get(pool,
		    "error"), "text"));
	if (was != NULL && verdicts(q) > verdicts(was))
		return true;
	if (number_of(q, "in_flight") > 0)
		return not_yet(w, "queue %s has %.0f messages at hand and no "
		    "verdict yet", name, number_of(q, "in_flight"));
	if (json_is_null(json_object_get(q, "backlog_sampled_seconds")) &&
	    strcmp(text_of(q, "type"), "pubsub") != 0)
		return not_yet(w, "queue %s has not counted its backlog yet",
		    name);
	if (number_of(q, "backlog") > 0)
		return not_yet(w, "queue %s has a backlog of %.0f and took "
		    "nothing yet", name, json_number_value(backlog));
	return true;
}

static bool
progresses(struct waiting *w, const json_t *status)
{
	json_t *queues = json_object_get(status, "queues"), *q;
	bool ok = strcmp(text_of(status, "status"), "ok") == 0;
	unsigned good = 0, bad = 0;
	const char *name;

	if (!ok && !(w->degraded &&
	    strcmp(text_of(status, "status"), "degraded") == 0))
		return not_yet(w, "the status is %s%s%s",
		    text_of(status, "status"),
		    *detail_of(status) != '\0' ? ": " : "",
		    detail_of(status));
	json_object_foreach(queues, name, q) {
		if (is_true(q, "paused"))
			continue;
		if (queue_progresses(w, status, name, q))
			good++;
		else if (!w->degraded)
			return false;
		else
			bad++;
	}
	/* Degraded: that one of them works is what can be asked. */
	return good != 0 || bad == 0;
}

/* ---- looking ---- */

static bool
is_so(struct waiting *w, const json_t *status)
{
	const char *word = text_of(status, "status");

	switch (w->goal) {
	case GOAL_READY:
		return is_true(status, "ready") ||
		    not_yet(w, "the status is %s: %s", word,
		    detail_of(status));
	case GOAL_STANDBY:
		return strcmp(word, "standby") == 0 ||
		    not_yet(w, "the status is %s", word);
	default:
		return progresses(w, status);
	}
}

/* A process that ended meanwhile begins anew. */
static void
note_first(struct waiting *w, json_t *status)
{
	if (w->first != NULL && strcmp(text_of(w->first, "started"),
	    text_of(status, "started")) == 0 &&
	    number_of(w->first, "uptime_seconds") <=
	    number_of(status, "uptime_seconds"))
		return;
	json_decref(w->first);
	w->first = json_incref(status);
}

static bool
look(struct waiting *w, struct options *o, json_t **ret_status)
{
	struct options quiet = *o;
	json_t *last, *status;
	bool so = false;
	int r;

	quiet.json = false;
	complain_mute(true);
	r = ask(&quiet, request_new("status"), NULL, NULL, &last);
	complain_mute(false);
	status = json_object_get(last, "status");
	if (r == 0 && json_is_object(status)) {
		note_first(w, status);
		so = is_so(w, status);
		if (so)
			*ret_status = json_incref(status);
	} else {
		not_yet(w, "no operator answers");
	}
	json_decref(last);
	return so;
}

int
cmd_wait(const struct command *cmd, struct options *o)
{
	uint64_t begun = clock_monotonic_us(), timeout = TIMEOUT_DEFAULT_US;
	const struct timespec pause = { .tv_nsec = LOOK_EVERY_US * 1000 };
	struct waiting w = { .goal = GOAL_READY,
		.degraded = (o->given & OPT_DEGRADED) != 0 };
	json_t *status = NULL;
	bool so, late = false;
	uint64_t took;

	while (w.goal < NGOALS && strcmp(goals[w.goal], o->operands[0]) != 0)
		w.goal++;
	if (w.goal == NGOALS) {
		complain("wait for what? ready, progress or standby, not "
		    "\"%s\"\nUsage: botctl wait %s", o->operands[0],
		    cmd->usage);
		return BOTCTL_BAD_USE;
	}
	if (o->config != NULL && access(o->config, F_OK) < 0) {
		complain("%s: %s", o->config, strerror(errno));
		return BOTCTL_BAD_USE;
	}
	if (o->given & OPT_TIMEOUT)
		timeout = o->timeout_us;
	/* The last look is after the time, not before it. */
	while (!(so = look(&w, o, &status)) && !late) {
		(void)nanosleep(&pause, NULL);
		late = clock_monotonic_us() - begun >= timeout;
	}
	took = clock_monotonic_us() - begun;
	if (so && o->json)
		(void)json_dumpf(status, stdout, JSON_COMPACT |
		    JSON_REAL_PRECISION(12));
	if (so)
		printf(o->json ? "\n" : "%s after %.1f s\n", goals[w.goal],
		    (double)took / 1e6);
	else
		complain("not %s after %.1f s: %s", goals[w.goal],
		    (double)took / 1e6, w.why);
	json_decref(w.first);
	json_decref(status);
	return so ? 0 : BOTCTL_NOT_SO;
}
