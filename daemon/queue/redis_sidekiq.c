/*
 * Mode=sidekiq: the lists, sets and members of Sidekiq (its wiki, "Job
 * Format"), so that its own processes, its web page and ours can share them.
 *
 * A job is taken as in list mode.  A retry goes to the set "retry", where
 * Sidekiq's poller or ours finds it when it is due; a dead one to "dead".
 * retry_count is 0 after the first failure, so it is our attempt less two.
 * Sidekiq before 8 writes times as seconds with a fraction, later as integer
 * milliseconds: we write as the job's producer did.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "queue/redis_impl.h"

#define POLL_MAX	100
#define MS_FROM		1e11	/* beyond year 5138 in seconds */

static void
sidekiq_derive(struct redis_queue *rq)
{
	rq->key = xasprintf("queue:%s", rq->config_key);
	rq->dead_key = xstrdup("dead");
	rq->pop_head = false;
	redis_list_keys(rq);
}

/* ---- reading jobs ---- */

static bool
job_number(struct slice job, const char *name, double *ret)
{
	struct slice raw = redis_job_member(job, name);
	char text[40], *end;

	if (raw.n == 0 || raw.n >= sizeof(text) ||
	    strchr("-0123456789", raw.p[0]) == NULL)
		return false;
	memcpy(text, raw.p, raw.n);
	text[raw.n] = '\0';
	*ret = strtod(text, &end);
	return *end == '\0';
}

static uint64_t
job_time_us(struct slice job, const char *name)
{
	double n;

	if (!job_number(job, name, &n) || n <= 0 || n > 1e15)
		return 0;
	return (uint64_t)(n * (n > MS_FROM ? 1e3 : 1e6));
}

static unsigned
job_count(struct slice job, const char *name, unsigned none)
{
	double n;

	if (!job_number(job, name, &n) || n < 0 || n > 1e6)
		return none;
	return (unsigned)n;
}

void
redis_sidekiq_deliver(struct redis_queue *rq, struct chunk *chunk,
    struct slice job)
{
	static const char *const names[] = { "class", "jid", "queue" };
	struct slice jid = redis_job_string(job, "jid");
	struct attribute *a;
	struct message *m;
	char *name;
	double n;

	if (jid.n == 0) {
		name = chunk_alloc(chunk, 40);
		jid.n = (size_t)snprintf(name, 40, "%s-%" PRIu64, rq->token,
		    ++rq->name_counter);
		jid.p = name;
	}
	m = redis_message(rq, chunk, jid, job, job);
	if (!redis_job_is_object(job)) {
		if (rq->stopping || redis_failing(rq)) {
			redis_deliver(rq, m);
			return;
		}
		if (rq->credit != 0)
			rq->credit--;
		queue_deliver_malformed(rq->queue, m,
		    "a Sidekiq job is a JSON object");
		return;
	}
	a = chunk_alloc(chunk, ARRAY_SIZE(names) * sizeof(*a));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct slice value = redis_job_string(job, names[i]);

		if (value.n != 0)
			a[m->nattributes++] = (struct attribute){
			    slice_of(names[i]), value, false };
	}
	m->attributes = a;
	m->enqueued_us = job_time_us(job, "enqueued_at");
	if (job_number(job, "retry_count", &n))
		m->attempt = job_count(job, "retry_count", 0) + 2;
	m->crashes = job_count(job, "bot_crashes", 0);
	redis_deliver(rq, m);
}

/* ---- writing jobs ---- */

static void
add_time(struct buffer *out, struct slice job, const char *name)
{
	uint64_t now = clock_realtime_us();
	char text[40];
	double n;
	int len;

	if (job_number(job, "enqueued_at", &n) && n > MS_FROM)
		len = snprintf(text, sizeof(text), "%" PRIu64, now / 1000);
	else
		len = snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64,
		    now / USEC_PER_SEC, now % USEC_PER_SEC);
	redis_job_add(out, name, (struct slice){ text, (size_t)len });
}

static void
add_count(struct buffer *out, const char *name, unsigned n)
{
	char text[20];

	redis_job_add(out, name, (struct slice){ text, fmt_u64(text, n) });
}

/* What Sidekiq writes after a failure. */
static void
failed_job(struct buffer *out, struct slice job, const struct redis_batch *b,
    unsigned failures)
{
	static const char *const first[] = { "retry_count", "error_class",
	    "error_message", "failed_at", "retried_at", "bot_crashes", NULL };
	static const char *const later[] = { "retry_count", "error_class",
	    "error_message", "retried_at", "bot_crashes", NULL };
	bool again = redis_job_member(job, "failed_at").n != 0;

	redis_job_edit(out, job, again ? later : first);
	if (failures != 0)
		add_count(out, "retry_count", failures - 1);
	redis_job_add_string(out, "error_class", slice_of(b->error_type));
	redis_job_add_string(out, "error_message",
	    (struct slice){ b->detail, b->ndetail });
	add_time(out, job, again ? "retried_at" : "failed_at");
	if (b->crashes != 0)
		add_count(out, "bot_crashes", b->crashes);
	redis_job_end(out);
}

static void
sidekiq_send(struct redis_queue *rq, struct redis_batch *b)
{
	struct redis_conn *c = &rq->writer;
	_cleanup_buffer_ struct buffer job = BUFFER_INIT;
	bool dead = b->kind == SETTLE_BURY;
	struct slice value = b->message[0]->receipt;
	char delay[40];

	if (b->kind == SETTLE_ACK || b->kind == SETTLE_RELEASE) {
		redis_list_send(rq, b);
		return;
	}
	if (redis_job_is_object(value))
		failed_job(&job, value, b, dead ? b->attempt :
		    (b->attempt > 1 ? b->attempt - 1 : 0));
	else
		buffer_add_slice(&job, value);
	snprintf(delay, sizeof(delay), "%.6f",
	    dead ? 0.0 : (double)b->delay_us / 1e6);
	redis_list_begin(rq, SCRIPT_SIDEKIQ_RETRY, 1, 3);
	redis_arg_str(c, dead ? rq->dead_key : "retry");
	redis_list_numbered(rq, b);
	redis_arg(c, value);
	redis_arg_str(c, delay);
	redis_arg(c, buffer_slice(&job));
	redis_end(c, redis_batch_answered, b, 0);
}

/* ---- what is due ---- */

static void
polled(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)arg;
	rq->taking_delayed = false;
	(void)redis_reply_ok(rq, reply, "moving due jobs");
}

static void
sidekiq_poll(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	if (rq->taking_delayed)
		return;
	rq->taking_delayed = true;
	redis_begin_script(c, SCRIPT_SIDEKIQ_POLL, 3, 1);
	redis_arg_str(c, "queues");
	redis_arg_str(c, "retry");
	redis_arg_str(c, "schedule");
	redis_arg_u64(c, POLL_MAX);
	redis_end(c, polled, NULL, 0);
}

/* ---- backlog, enqueueing ---- */

static void
counted(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	struct backlog b = { .waiting_known = true };

	(void)chunk;
	(void)arg;
	if (!redis_reply_ok(rq, reply, "asking for the backlog"))
		return;
	/* The sets hold other queues' jobs too: not known is the truth. */
	b.waiting = (uint64_t)MAX(reply->integer, (int64_t)0);
	queue_backlog(rq->queue, &b);
}

static void
sidekiq_probe(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	redis_begin(c, 2);
	redis_arg_str(c, "LLEN");
	redis_arg_str(c, rq->key);
	redis_end(c, counted, NULL, 0);
}

static void
ignore(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	(void)chunk;
	(void)redis_reply_ok(rq, reply, arg);
}

static bool
sidekiq_enqueue(struct redis_queue *rq, struct enqueue_job *e,
    struct error *err)
{
	static const char *const none[] = { NULL };
	struct redis_conn *c = &rq->writer;
	_cleanup_buffer_ struct buffer job = BUFFER_INIT;
	char jid[25];

	if (!redis_job_is_object(e->body) ||
	    redis_job_string(e->body, "class").n == 0) {
		error_set(err, ERROR_REJECTED, "invalid_format", "a Sidekiq "
		    "job is a JSON object with a member \"class\"");
		return false;
	}
	redis_job_edit(&job, e->body, none);
	if (redis_job_member(e->body, "jid").n == 0) {
		random_hex(jid, sizeof(jid) - 1);
		redis_job_add_string(&job, "jid", slice_of(jid));
	}
	if (redis_job_member(e->body, "queue").n == 0)
		redis_job_add_string(&job, "queue", slice_of(rq->config_key));
	if (redis_job_member(e->body, "args").n == 0)
		redis_job_add(&job, "args", SLICE("[]"));
	if (redis_job_member(e->body, "retry").n == 0)
		redis_job_add(&job, "retry", SLICE("true"));
	if (redis_job_member(e->body, "created_at").n == 0)
		add_time(&job, e->body, "created_at");
	if (redis_job_member(e->body, "enqueued_at").n == 0)
		add_time(&job, e->body, "enqueued_at");
	redis_job_end(&job);
	redis_begin(c, 3);
	redis_arg_str(c, "SADD");
	redis_arg_str(c, "queues");
	redis_arg_str(c, rq->config_key);
	redis_end(c, ignore, (void *)"SADD queues", 0);
	redis_begin(c, 3);
	redis_arg_str(c, "LPUSH");
	redis_arg_str(c, rq->key);
	redis_arg(c, buffer_slice(&job));
	redis_end(c, redis_enqueued, e, 0);
	return true;
}

/* ---- the dead set ---- */

static void
dead_page(struct redis_queue *rq, struct redis_walk *w)
{
	struct redis_conn *c = &rq->writer;

	redis_begin(c, 4);
	redis_arg_str(c, "ZRANGE");
	redis_arg_str(c, rq->dead_key);
	redis_arg_u64(c, w->rank);
	redis_arg_u64(c, w->rank + REDIS_DEAD_PAGE - 1);
	redis_end(c, redis_dead_page_came, w, 0);
}

static bool
dead_item(struct redis_queue *rq, struct redis_walk *w)
{
	struct slice job = resp_at(w->page, w->at++)->str;
	struct slice jid = redis_job_string(job, "jid");

	w->rank++;
	/* All queues share the set. */
	if (job.n == 0 || !slice_is(redis_job_string(job, "queue"),
	    rq->config_key))
		return false;
	w->value = job;
	w->item = (struct dead_item){
		.id = jid.n != 0 ? jid : SLICE("no-jid"),
		.name = jid,
		.error_type = redis_job_string(job, "error_class"),
		.detail = redis_job_string(job, "error_message"),
		.attempts = job_count(job, "retry_count", 0) + 1,
		.crashes = job_count(job, "bot_crashes", 0),
		.died_us = job_time_us(job, "retried_at"),
		.body = job,
	};
	if (w->item.died_us == 0)
		w->item.died_us = job_time_us(job, "failed_at");
	return true;
}

static void
dead_act(struct redis_queue *rq, struct redis_walk *w, enum dead_action action)
{
	static const char *const history[] = { "retry_count", "error_class",
	    "error_message", "error_backtrace", "failed_at", "retried_at",
	    "bot_crashes", NULL };
	struct redis_conn *c = &rq->writer;
	_cleanup_buffer_ struct buffer job = BUFFER_INIT;

	if (action == DEAD_PURGE) {
		redis_begin(c, 3);
		redis_arg_str(c, "ZREM");
		redis_arg_str(c, rq->dead_key);
		redis_arg(c, w->value);
	} else {
		redis_job_edit(&job, w->value, history);
		redis_job_end(&job);
		redis_begin_script(c, SCRIPT_SIDEKIQ_REDRIVE, 3, 3);
		redis_arg_str(c, rq->dead_key);
		redis_arg_str(c, rq->key);
		redis_arg_str(c, "queues");
		redis_arg(c, w->value);
		redis_arg(c, buffer_slice(&job));
		redis_arg_str(c, rq->config_key);
	}
	redis_end(c, redis_dead_acted, w, 0);
}

const struct redis_mode redis_mode_sidekiq = {
	.name = "sidekiq",
	.derive = sidekiq_derive,
	.setup = redis_list_setup,
	.pull = redis_list_pull,
	.send = sidekiq_send,
	.extend = redis_list_extend,
	.maintain = redis_list_maintain,
	.poll = sidekiq_poll,
	.probe = sidekiq_probe,
	.enqueue = sidekiq_enqueue,
	.leave = redis_list_leave,
	.dead_page = dead_page,
	.dead_item = dead_item,
	.dead_act = dead_act,
};
