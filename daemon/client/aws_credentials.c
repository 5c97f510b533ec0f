#include "client/aws_impl.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

#define MINUTE_US	(60 * USEC_PER_SEC)
#define ADVISORY_US	(15 * MINUTE_US)	/* botocore 1.43 */
#define MANDATORY_US	(10 * MINUTE_US)
#define RETRY_MIN_US	USEC_PER_SEC
#define RETRY_MAX_US	MINUTE_US
/* Metadata that gives keys that have expired, or nothing, is out of order for
   a while; its keys are often good for longer than they say. */
#define STALE_US	(60 * MINUTE_US)

static LIST_HEAD(all);
static uint64_t last_generation;

/* ---- waiters ---- */

void
aws_waiter_init(struct aws_waiter *w, aws_waiter_fn *fn, void *owner)
{
	*w = (struct aws_waiter){ .fn = fn, .owner = owner };
	list_init(&w->link);
}

void
aws_waiter_cancel(struct aws_waiter *w)
{
	list_remove(&w->link);
}

void
aws_credentials_wake(struct aws_credentials *c, struct list *waiters,
    const struct error *err)
{
	struct error copy;
	LIST_HEAD(woken);
	struct list *l;

	if (err != NULL) {
		copy = *err;
		err = &copy;
	}
	list_splice_back(&woken, waiters);
	c->refs++;
	while ((l = list_pop_front(&woken)) != NULL) {
		struct aws_waiter *w = list_entry(l, struct aws_waiter, link);

		w->fn(w, err);
	}
	aws_credentials_unref(c);
}

/* ---- what there is ---- */

static bool
usable(const struct aws_credentials *c)
{
	return c->now.secret_key != NULL && !c->rejected &&
	    clock_realtime_us() < c->until_us;
}

static void
start(struct aws_credentials *c)
{
	if (c->chain.running)
		return;
	task_schedule(c->params.loop, &c->start_task);
}

/* At once, or when the pause after the last failure is over. */
static void
start_when_allowed(struct aws_credentials *c)
{
	uint64_t now = clock_monotonic_us();

	if (now >= c->not_before_us)
		start(c);
	else
		timer_arm_sooner(c->params.loop, &c->timer,
		    c->not_before_us - now);
}

const struct aws_keys *
aws_credentials_get(struct aws_credentials *c)
{
	if (usable(c))
		return &c->keys;
	/* The wall clock went on while the other stood still (suspend). */
	if (c->now.secret_key != NULL)
		start_when_allowed(c);
	return NULL;
}

void
aws_keys_for_signing(const struct aws_keys *k, struct sigv4_credentials *ret)
{
	*ret = (struct sigv4_credentials){
		.access_key = slice_of(k->access_key),
		.secret_key = secret_bytes(k->secret_key),
		.id = k->generation,
	};
	if (k->token != NULL)
		ret->token = secret_bytes(k->token);
}

void
aws_credentials_wait(struct aws_credentials *c, struct aws_waiter *w)
{
	BUG_ON(list_linked(&w->link));
	list_push_back(&c->waiters, &w->link);
	if (usable(c))
		task_schedule(c->params.loop, &c->start_task);
	else
		start_when_allowed(c);
}

void
aws_credentials_expired(struct aws_credentials *c, uint64_t generation)
{
	if (c->now.secret_key == NULL || c->keys.generation != generation ||
	    c->rejected)
		return;
	c->rejected = true;
	timer_cancel(c->params.loop, &c->timer);
	start_when_allowed(c);
}

const char *
aws_credentials_report(const struct aws_credentials *c)
{
	/* Always terminated: the buffer is only ever printed to. */
	return buffer_len(&c->chain.report) != 0 ?
	    buffer_head(&c->chain.report) : "";
}

/* ---- fetching ---- */

static void
on_start(struct task *t)
{
	struct aws_credentials *c = t->owner;

	/* Also while a refresh is under way. */
	if (usable(c))
		aws_credentials_wake(c, &c->waiters, NULL);
	else if (!c->chain.running)
		aws_chain_start(&c->chain);
}

static void
on_timer(struct timer *t)
{
	struct aws_credentials *c = t->owner;

	if (!c->chain.running)
		aws_chain_start(&c->chain);
}

/* When to fetch again, before they end at end_us. */
static void
plan_refresh(struct aws_credentials *c, uint64_t now, uint64_t end_us)
{
	uint64_t life = end_us - now;
	uint64_t ahead = MANDATORY_US + random_below(ADVISORY_US -
	    MANDATORY_US + 1);

	/* Of those that are short-lived, the last third. */
	if (life / 3 < ahead)
		ahead = life / 3;
	timer_arm(c->params.loop, &c->timer, life - ahead);
}

static void
failed(struct aws_credentials *c, const struct error *err)
{
	struct loop *loop = c->params.loop;
	char span[CLOCK_SPAN_BYTES], end[CLOCK_ISO_BYTES];
	uint64_t now = clock_realtime_us(), pause;

	c->failures++;
	pause = RETRY_MIN_US + http_retry_delay_us(c->failures, RETRY_MIN_US,
	    RETRY_MAX_US - RETRY_MIN_US, 0);
	c->not_before_us = clock_monotonic_us() + pause;
	if (c->now.secret_key != NULL && c->from_metadata && !c->rejected &&
	    strcmp(err->code, "imds_no_role") != 0)
		c->until_us = MAX(c->until_us, c->keys.expires_us + STALE_US);
	if (c->now.secret_key == NULL || c->rejected || now >= c->until_us) {
		if (!list_empty(&c->waiters))
			aws_credentials_wake(c, &c->waiters, err);
		return;
	}
	timer_arm(loop, &c->timer, pause);
	if (c->failures == 1)
		log_warning(LOG_EVENT(EVENT_CREDENTIALS_FAILED),
		    "AWS credentials could not be refreshed: "
		    "%s; those in use are kept until %s, next try in %s",
		    err->text, clock_iso(end, c->until_us, false),
		    clock_span(span, pause));
	aws_credentials_wake(c, &c->waiters, NULL);
}

static bool
same_keys(const struct aws_answer *a, const struct aws_answer *b)
{
	return strcmp(a->access_key, b->access_key) == 0 &&
	    secret_equal(a->secret_key, b->secret_key) &&
	    secret_equal(a->token, b->token);
}

static void
adopt(struct aws_credentials *c, struct aws_answer *a)
{
	aws_answer_done(&c->now);
	c->now = *a;
	c->rejected = false;
	c->from_metadata = c->chain.plan.source == AWS_SOURCE_IMDS &&
	    c->chain.plan.nroles == 0;
	snprintf(c->source, sizeof(c->source), "%s", c->chain.plan.name);
	c->keys = (struct aws_keys){
		.access_key = c->now.access_key,
		.secret_key = c->now.secret_key,
		.token = c->now.token,
		.expires_us = c->now.expires_us,
		.generation = ++last_generation,
		.source = c->source,
	};
}

static void
succeeded(struct aws_credentials *c, struct aws_answer *a)
{
	uint64_t now = clock_realtime_us();
	bool stale;

	adopt(c, a);
	if (c->failures != 0)
		log_notice(LOG_EVENT(EVENT_CREDENTIALS_BACK),
		    "AWS credentials are there again, from %s",
		    c->source);
	c->failures = 0;
	c->not_before_us = 0;
	timer_cancel(c->params.loop, &c->timer);
	stale = c->keys.expires_us != 0 && c->keys.expires_us <= now;
	if (c->keys.expires_us == 0) {
		c->until_us = UINT64_MAX;
	} else {
		c->until_us = stale ? now + ADVISORY_US : c->keys.expires_us;
		plan_refresh(c, now, c->until_us);
	}
	log_debug(NULL, "AWS credentials %.4s... from %s%s", c->keys.access_key,
	    c->source, stale ? ", though they say they have expired" : "");
	aws_credentials_wake(c, &c->waiters, NULL);
}

static void
on_fetched(void *owner, struct aws_answer *a, const struct error *err)
{
	struct aws_credentials *c = owner;
	struct error why;

	if (err != NULL) {
		failed(c, err);
		return;
	}
	/* Keys without an end cannot have expired: what was wrong may have been
	   mended at the service, and there are no others anyway. */
	if (c->rejected && a->expires_us != 0 && same_keys(a, &c->now)) {
		error_set(&why, ERROR_AUTH, "ExpiredToken", "%s: AWS says "
		    "that these keys have expired, and there are no others",
		    c->chain.plan.name);
	} else if (a->expires_us != 0 && a->expires_us <= clock_realtime_us() &&
	    c->chain.plan.source != AWS_SOURCE_IMDS) {
		char iso[CLOCK_ISO_BYTES];

		error_set(&why, ERROR_AUTH, "ExpiredToken", "%s: these keys "
		    "expired at %s", c->chain.plan.name,
		    clock_iso(iso, a->expires_us, false));
	} else {
		succeeded(c, a);
		return;
	}
	aws_answer_done(a);
	failed(c, &why);
}

/* ---- life ---- */

static char *
copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_params(const struct aws_credentials_params *a,
    const struct aws_credentials_params *b)
{
	return a->loop == b->loop && a->resolver == b->resolver &&
	    same(a->profile, b->profile) &&
	    same(a->credentials_file, b->credentials_file) &&
	    same(a->config_file, b->config_file) &&
	    same(a->region, b->region) && same(a->ca_file, b->ca_file) &&
	    a->getenv == b->getenv &&
	    same(a->container_endpoint, b->container_endpoint);
}

static void
free_const(const char *s)
{
	char *p = NULL;

	memcpy(&p, &s, sizeof(p));
	free(p);
}

static void
copy_params(struct aws_credentials *c, const struct aws_credentials_params *p)
{
	c->params = *p;
	c->params.profile = copy(p->profile);
	c->params.credentials_file = copy(p->credentials_file);
	c->params.config_file = copy(p->config_file);
	c->params.region = copy(p->region);
	c->params.ca_file = copy(p->ca_file);
}

static void
destroy(struct aws_credentials *c)
{
	list_remove(&c->link);
	aws_chain_done(&c->chain);
	aws_region_done(c);
	task_cancel(&c->start_task);
	timer_cancel(c->params.loop, &c->timer);
	BUG_ON(!list_empty(&c->waiters));
	aws_answer_done(&c->now);
	aws_clients_done(&c->clients);
	free_const(c->params.profile);
	free_const(c->params.credentials_file);
	free_const(c->params.config_file);
	free_const(c->params.region);
	free_const(c->params.ca_file);
	free(c);
}

static void
init(struct aws_credentials *c)
{
	c->clients = (struct aws_clients){ .loop = c->params.loop,
		.resolver = c->params.resolver, .ca_file = c->params.ca_file };
	aws_chain_init(&c->chain, &c->params, &c->clients, on_fetched, c);
	task_init(&c->start_task, LOOP_DISPATCH, "aws.credentials", on_start,
	    c);
	aws_region_init(c);
	timer_init(&c->timer, "aws.credentials", on_timer, c);
	list_init(&c->waiters);
}

struct aws_credentials *
aws_credentials_new(const struct aws_credentials_params *p)
{
	struct aws_credentials *c;
	struct list *l;

	list_foreach(l, &all) {
		c = list_entry(l, struct aws_credentials, link);
		if (same_params(&c->params, p))
			return aws_credentials_ref(c);
	}
	c = new0(struct aws_credentials);
	c->refs = 1;
	copy_params(c, p);
	list_push_back(&all, &c->link);
	init(c);
	return c;
}

struct aws_credentials *
aws_credentials_ref(struct aws_credentials *c)
{
	c->refs++;
	return c;
}

void
aws_credentials_unref(struct aws_credentials *c)
{
	if (c != NULL && --c->refs == 0)
		destroy(c);
}
