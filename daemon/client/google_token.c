#include "client/google_impl.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define AHEAD_US	(225 * USEC_PER_SEC)	/* google-auth, _helpers.py */
#define LIFE_US		(3600 * USEC_PER_SEC)	/* when nobody says it */
#define RETRY_MIN_US	USEC_PER_SEC
#define RETRY_MAX_US	(60 * USEC_PER_SEC)
/* A token that is refused so soon after the last one was: it is not its age. */
#define SOON_US		(300 * USEC_PER_SEC)

struct google_token {
	unsigned refs;
	struct list link;		/* of all */
	struct google_token_params params;

	struct google_answer now;	/* token NULL: none */
	struct google_bearer bearer;	/* points into it */
	char source[256];
	char *project, *quota_project;	/* NULL: none */
	bool rejected;
	bool follows_rejected;		/* the one before now was */
	uint64_t since_us;		/* monotonic: when now came */

	struct google_fetch fetch;
	struct task start_task;
	struct timer timer;		/* refresh, or the next try */
	unsigned failures, refusals;	/* in a row */
	uint64_t not_before_us;		/* monotonic: spaces tries out */
	struct list waiters;
};

static LIST_HEAD(all);
static uint64_t last_generation;

/* ---- waiters ---- */

void
google_waiter_init(struct google_waiter *w, google_waiter_fn *fn, void *owner)
{
	*w = (struct google_waiter){ .fn = fn, .owner = owner };
	list_init(&w->link);
}

void
google_waiter_cancel(struct google_waiter *w)
{
	list_remove(&w->link);
}

/* Calls all of them. t may be gone after it. */
static void
wake(struct google_token *t, const struct error *err)
{
	LIST_HEAD(woken);
	struct list *l;

	list_splice_back(&woken, &t->waiters);
	google_token_ref(t);
	while ((l = list_pop_front(&woken)) != NULL) {
		struct google_waiter *w = list_entry(l, struct google_waiter,
		    link);

		w->fn(w, err);
	}
	google_token_unref(t);
}

/* ---- what there is ---- */

static bool
usable(const struct google_token *t)
{
	return t->now.token != NULL && !t->rejected &&
	    clock_realtime_us() < t->bearer.expires_us;
}

/* At once, or when the pause after the last failure is over. */
static void
start_when_allowed(struct google_token *t)
{
	uint64_t now = clock_monotonic_us();

	if (google_fetch_busy(&t->fetch))
		return;
	if (now >= t->not_before_us)
		task_schedule(t->params.loop, &t->start_task);
	else
		timer_arm_sooner(t->params.loop, &t->timer,
		    t->not_before_us - now);
}

const struct google_bearer *
google_token_get(struct google_token *t)
{
	if (usable(t))
		return &t->bearer;
	/* The wall clock went on while the other stood still (suspend). */
	if (t->now.token != NULL)
		start_when_allowed(t);
	return NULL;
}

void
google_token_wait(struct google_token *t, struct google_waiter *w)
{
	BUG_ON(list_linked(&w->link));
	list_push_back(&t->waiters, &w->link);
	if (usable(t))
		task_schedule(t->params.loop, &t->start_task);
	else
		start_when_allowed(t);
}

static uint64_t
pause_us(unsigned n)
{
	return RETRY_MIN_US + http_retry_delay_us(n, RETRY_MIN_US,
	    RETRY_MAX_US - RETRY_MIN_US, 0);
}

void
google_token_rejected(struct google_token *t, uint64_t generation)
{
	uint64_t now = clock_monotonic_us();

	if (t->now.token == NULL || t->bearer.generation != generation ||
	    t->rejected)
		return;
	t->rejected = true;
	timer_cancel(t->params.loop, &t->timer);
	if (t->follows_rejected && now - t->since_us < SOON_US)
		t->not_before_us = now + pause_us(++t->refusals);
	else
		t->refusals = 0;
	start_when_allowed(t);
}

/* ---- fetching ---- */

static void
on_start(struct task *task)
{
	struct google_token *t = task->owner;

	/* Also while a refresh is under way. */
	if (usable(t))
		wake(t, NULL);
	else if (google_fetch_busy(&t->fetch))
		return;
	else if (clock_monotonic_us() < t->not_before_us)
		start_when_allowed(t);	/* refused since this was scheduled */
	else
		google_fetch_start(&t->fetch);
}

static void
on_timer(struct timer *timer)
{
	struct google_token *t = timer->owner;

	if (!google_fetch_busy(&t->fetch))
		google_fetch_start(&t->fetch);
}

static void
plan_refresh(struct google_token *t, uint64_t now)
{
	uint64_t life = t->bearer.expires_us - now;

	timer_arm(t->params.loop, &t->timer, life - MIN(AHEAD_US, life / 3));
}

static void
failed(struct google_token *t, const struct error *err)
{
	char span[CLOCK_SPAN_BYTES], end[CLOCK_ISO_BYTES];
	uint64_t pause = pause_us(++t->failures);

	t->not_before_us = clock_monotonic_us() + pause;
	if (!usable(t)) {
		wake(t, err);
		return;
	}
	timer_arm(t->params.loop, &t->timer, pause);
	if (t->failures == 1)
		log_warning(LOG_EVENT(EVENT_CREDENTIALS_FAILED),
		    "the token for Google could not be "
		    "refreshed: %s; the one in use is kept until %s, next try "
		    "in %s", err->text, clock_iso(end, t->bearer.expires_us,
		    false), clock_span(span, pause));
	wake(t, NULL);
}

static void
replace(char **text, const char *with)
{
	char *copy = with != NULL ? xstrdup(with) : NULL;

	free(*text);
	*text = copy;
}

static const char *
found_project(const struct google_fetch *f)
{
	if (f->place.project != NULL)
		return f->place.project;
	if (f->account.project != NULL)
		return f->account.project;
	return f->place.file == NULL && f->project[0] != '\0' ? f->project :
	    NULL;
}

static void
adopt(struct google_token *t, struct google_answer *a, uint64_t expires_us)
{
	const struct google_fetch *f = &t->fetch;

	google_answer_done(&t->now);
	t->now = *a;
	t->bearer = (struct google_bearer){
		.token = t->now.token,
		.expires_us = expires_us,
		.generation = ++last_generation,
	};
	t->follows_rejected = t->rejected;
	t->rejected = false;
	t->since_us = clock_monotonic_us();
	memcpy(t->source, f->source, sizeof(t->source));
	replace(&t->project, found_project(f));
	replace(&t->quota_project, f->account.quota_project);
}

static void
succeeded(struct google_token *t, struct google_answer *a, uint64_t now,
    uint64_t expires_us)
{
	char end[CLOCK_ISO_BYTES];

	adopt(t, a, expires_us);
	if (t->failures != 0)
		log_notice(LOG_EVENT(EVENT_CREDENTIALS_BACK),
		    "a token for Google is there again, from %s",
		    t->source);
	t->failures = 0;
	t->not_before_us = 0;
	plan_refresh(t, now);
	log_debug(NULL, "a token for %s from %s, until %s", t->params.audience,
	    t->source, clock_iso(end, expires_us, false));
	wake(t, NULL);
}

static uint64_t
end_of(const struct google_answer *a, uint64_t now)
{
	if (a->expires_us != 0)
		return a->expires_us;
	return now + (a->life_us != 0 ? a->life_us : LIFE_US);
}

static void
on_fetched(void *owner, struct google_answer *a, const struct error *err)
{
	struct google_token *t = owner;
	uint64_t now = clock_realtime_us(), expires_us;
	char end[CLOCK_ISO_BYTES];
	struct error why;

	if (err != NULL) {
		failed(t, err);
		return;
	}
	expires_us = end_of(a, now);
	if (t->rejected && secret_equal(a->token, t->now.token)) {
		error_set(&why, ERROR_AUTH, "UNAUTHENTICATED", "%s: Google "
		    "does not accept its token, and there is no other one (is "
		    "the clock of this machine right?)", t->fetch.source);
	} else if (expires_us <= now) {
		error_set(&why, ERROR_AUTH, "google_token", "%s: what came is "
		    "a token that ended at %s (is the clock of this machine "
		    "right?)", t->fetch.source,
		    clock_iso(end, expires_us, false));
	} else {
		succeeded(t, a, now, expires_us);
		return;
	}
	google_answer_done(a);
	buffer_printf(&t->fetch.report, "%s\n", why.text);
	failed(t, &why);
}

/* ---- for the status ---- */

const char *
google_token_source(const struct google_token *t)
{
	return t->now.token != NULL ? t->source : t->fetch.source;
}

const char *
google_token_project(const struct google_token *t)
{
	return t->project;
}

const char *
google_token_quota_project(const struct google_token *t)
{
	return t->quota_project;
}

const char *
google_token_report(const struct google_token *t)
{
	/* Always terminated: the buffer is only ever printed to. */
	return buffer_len(&t->fetch.report) != 0 ?
	    buffer_head(&t->fetch.report) : "";
}

/* ---- life ---- */

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_params(const struct google_token_params *a,
    const struct google_token_params *b)
{
	return a->loop == b->loop && a->resolver == b->resolver &&
	    same(a->credentials_file, b->credentials_file) &&
	    same(a->audience, b->audience) && same(a->ca_file, b->ca_file) &&
	    a->getenv == b->getenv;
}

static char *
copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

static void
free_const(const char *s)
{
	char *p = NULL;

	memcpy(&p, &s, sizeof(p));
	free(p);
}

static void
destroy(struct google_token *t)
{
	list_remove(&t->link);
	google_fetch_done(&t->fetch);
	task_cancel(&t->start_task);
	timer_cancel(t->params.loop, &t->timer);
	BUG_ON(!list_empty(&t->waiters));
	google_answer_done(&t->now);
	free(t->project);
	free(t->quota_project);
	free_const(t->params.credentials_file);
	free_const(t->params.audience);
	free_const(t->params.ca_file);
	free(t);
}

struct google_token *
google_token_new(const struct google_token_params *p)
{
	struct google_token *t;
	struct list *l;

	list_foreach(l, &all) {
		t = list_entry(l, struct google_token, link);
		if (same_params(&t->params, p))
			return google_token_ref(t);
	}
	t = new0(struct google_token);
	t->refs = 1;
	t->params = *p;
	t->params.credentials_file = copy(p->credentials_file);
	t->params.audience = copy(p->audience);
	t->params.ca_file = copy(p->ca_file);
	google_fetch_init(&t->fetch, &t->params, on_fetched, t);
	task_init(&t->start_task, LOOP_DISPATCH, "google.token", on_start, t);
	timer_init(&t->timer, "google.token", on_timer, t);
	list_init(&t->waiters);
	list_push_back(&all, &t->link);
	return t;
}

struct google_token *
google_token_ref(struct google_token *t)
{
	t->refs++;
	return t;
}

void
google_token_unref(struct google_token *t)
{
	if (t != NULL && --t->refs == 0)
		destroy(t);
}
