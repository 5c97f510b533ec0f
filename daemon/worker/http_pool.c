/*
 * handler_ops for Http=.  What the status calls workers are the requests that
 * there may be at once; busy are those in flight.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "worker/http_internal.h"

#define RETRY_US	USEC_PER_SEC

static void
set_concurrency(struct http_pool *hp, unsigned n)
{
	struct pool *p = hp->pool;

	hp->concurrency = MIN(n, HTTP_CONCURRENCY_MAX);
	p->min = p->max = hp->concurrency;
	if (hp->started)
		p->workers = hp->concurrency;
}

/* Up, unless the headers that it shall send are not there. */
static void
go_up(struct http_pool *hp)
{
	struct pool *p = hp->pool;
	struct error err;

	if (p->up)
		return;
	if (http_target_look(hp->target, p, &err) < 0) {
		pool_down(p, &err);
		timer_arm(p->loop, &hp->timer, RETRY_US);
		return;
	}
	timer_cancel(p->loop, &hp->timer);
	pool_up(p);
}

static void
on_task(struct task *t)
{
	struct http_pool *hp = t->owner;
	struct list *l;

	while ((l = list_first(&hp->ended)) != NULL)
		http_call_settle(list_entry(l, struct http_call, link));
	if (!hp->draining) {
		if (hp->started)
			go_up(hp);
	} else if (hp->inflight == 0 && !hp->drained) {
		hp->drained = true;
		hp->pool->workers = 0;
		pool_drained(hp->pool);
	}
}

static void
on_timer(struct timer *t)
{
	go_up(t->owner);
}

void
http_pool_left(struct http_pool *hp)
{
	if (hp->draining)
		task_schedule(hp->pool->loop, &hp->task);
	else
		pool_slots_changed(hp->pool);
}

/* ---- handler_ops ---- */

static int
op_init(struct pool *p, struct config *c, const struct config_section *s)
{
	struct http_pool *hp = new0(struct http_pool);

	p->impl = hp;
	hp->pool = p;
	list_init(&hp->calls);
	list_init(&hp->ended);
	task_init(&hp->task, LOOP_BATCH, "http_pool", on_task, hp);
	timer_init(&hp->timer, "http_pool", on_timer, hp);
	hp->target = http_target_new(p, c, s);
	if (hp->target == NULL)
		return -EINVAL;
	set_concurrency(hp, hp->target->concurrency);
	return 0;
}

static void
op_start(struct pool *p)
{
	struct http_pool *hp = p->impl;

	BUG_ON(hp->target == NULL);
	hp->started = true;
	set_concurrency(hp, hp->concurrency);
	task_schedule(p->loop, &hp->task);
}

static unsigned
op_slots(struct pool *p)
{
	const struct http_pool *hp = p->impl;

	if (hp->draining || hp->inflight >= hp->concurrency)
		return 0;
	return hp->concurrency - hp->inflight;
}

static void
op_submit(struct pool *p, struct message *m)
{
	struct http_pool *hp = p->impl;
	struct error err;

	/* What was read at the start is kept, so that this cannot fail. */
	(void)http_target_look(hp->target, p, &err);
	http_call_start(hp, m);
}

/* There are no processes that could be more or fewer. */
static void
op_demand(struct pool *p, unsigned waiting)
{
	(void)p;
	(void)waiting;
}

static void
op_cancel(struct pool *p, struct message *m)
{
	(void)p;
	if (m->worker != NULL)
		http_call_stop(m->worker, HTTP_CALL_CANCELLED);
}

static void
op_scale(struct pool *p, unsigned min, unsigned max)
{
	struct http_pool *hp = p->impl;

	(void)min;
	set_concurrency(hp, max);
	pool_slots_changed(p);
}

static void
op_drain(struct pool *p)
{
	struct http_pool *hp = p->impl;

	hp->draining = true;
	timer_cancel(p->loop, &hp->timer);
	task_schedule(p->loop, &hp->task);
}

static void
op_kill(struct pool *p)
{
	struct http_pool *hp = p->impl;
	struct list *l;

	op_drain(p);
	while ((l = list_first(&hp->calls)) != NULL)
		http_call_stop(list_entry(l, struct http_call, link),
		    HTTP_CALL_KILLED);
}

static void
op_reconfigure(struct pool *p, const struct config_section *s)
{
	struct http_pool *hp = p->impl;
	struct http_target *t = http_target_new(p, NULL, s);
	struct error err;

	if (t == NULL)
		return;
	if (p->up && http_target_look(t, p, &err) < 0) {
		log_error(LOG_POOL_EVENT(p->name, EVENT_SECTION_REFUSED),
		    "HttpHeaderFile=: %s; the pool "
		    "stays as it is", err.text);
		http_target_unref(t);
		return;
	}
	/* Calls under way end with the old one. */
	http_target_unref(hp->target);
	hp->target = t;
	set_concurrency(hp, t->concurrency);
	task_schedule(p->loop, &hp->task);
}

static void
op_fini(struct pool *p)
{
	struct http_pool *hp = p->impl;

	BUG_ON(hp->inflight != 0);
	timer_cancel(p->loop, &hp->timer);
	task_cancel(&hp->task);
	http_target_unref(hp->target);
	free(hp);
	p->impl = NULL;
}

static void
op_status(struct pool *p, json_t *object)
{
	const struct http_pool *hp = p->impl;
	struct http_client_stats s;

	if (hp->target == NULL)
		return;
	http_client_get_stats(hp->target->client, &s);
	json_object_set_new(object, "connections", json_integer(s.open));
	/* No path: it may hold a token. */
	json_object_set_new(object, "program", json_sprintf("POST %s://%s",
	    hp->target->url.tls ? "https" : "http",
	    hp->target->url.host_header));
}

static void
op_debug(struct pool *p, json_t *array)
{
	const struct http_pool *hp = p->impl;
	uint64_t now = loop_now_us(p->loop);
	struct list *l;

	list_foreach(l, &hp->calls) {
		const struct http_call *c = list_entry(l, struct http_call,
		    link);

		json_array_append_new(array, json_pack("{s:s s:s s:f s:[o]}",
		    "pool", p->name, "state", "request",
		    "age_seconds", (double)(now - c->started_us) / 1e6,
		    "messages", json_stringn(c->message->name.p,
		    c->message->name.n)));
	}
}

static const struct handler_ops ops = {
	.init = op_init,
	.start = op_start,
	.slots = op_slots,
	.submit = op_submit,
	.demand = op_demand,
	.cancel = op_cancel,
	.scale = op_scale,
	.drain = op_drain,
	.kill = op_kill,
	.reconfigure = op_reconfigure,
	.fini = op_fini,
	.status = op_status,
	.debug = op_debug,
};

static const char *const handler_keys[] = { "Http", NULL };

const struct handler_type http_handler_type = {
	.name = "http",
	.keys = handler_keys,
	.kind = &http_pool_kind,
	.ops = &ops,
};
