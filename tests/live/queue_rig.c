#include "queue_rig.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "engine/engine.h"

/* ---- an engine ---- */

static struct rig *
rig_of(struct queue *q)
{
	return container_of(q, struct rig, q);
}

void
queue_up(struct queue *q)
{
	rig_of(q)->ups++;
	q->connected = true;
}

void
queue_down(struct queue *q, const struct error *err)
{
	rig_of(q)->downs++;
	rig_of(q)->down = *err;
	q->connected = false;
}

static void
forget(struct rig *r, struct message *m)
{
	for (unsigned i = 0; i < r->nheld; i++) {
		if (r->held[i] == m) {
			memmove(r->held + i, r->held + i + 1,
			    (--r->nheld - i) * sizeof(r->held[0]));
			return;
		}
	}
	fail_msg("a message that is not held");
}

void
queue_deliver(struct queue *q, struct message *m)
{
	struct rig *r = rig_of(q);

	assert_true(r->nheld < HELD_MAX);
	m->state = MESSAGE_WAITING;
	m->received_us = loop_now_us(r->loop);
	r->delivered++;
	r->most = MAX(r->most, q->nwaiting + q->nsettling + 1);
	if (r->auto_ack) {
		struct settlement s = { .kind = SETTLE_ACK };

		m->state = MESSAGE_SETTLING;
		q->nsettling++;
		r->ops->settle(q, m, &s);
		return;
	}
	q->nwaiting++;
	r->held[r->nheld++] = m;
}

void
queue_deliver_malformed(struct queue *q, struct message *m, const char *fmt,
    ...)
{
	struct rig *r = rig_of(q);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	r->malformed++;
	q->nwaiting++;
	r->held[r->nheld++] = m;
	settle(r, m, SETTLE_BURY, 0, 1, 0);
}

void
queue_settled(struct queue *q, struct message *m, const struct error *err)
{
	struct rig *r = rig_of(q);

	assert_int_equal(m->state, MESSAGE_SETTLING);
	r->settled++;
	q->nsettling--;
	if (err != NULL) {
		r->settle_errors++;
		r->settle_error = *err;
	}
	message_free(m);
}

void
queue_extended(struct queue *q, struct message *m, uint64_t until_us)
{
	struct rig *r = rig_of(q);

	assert_int_not_equal(m->state, MESSAGE_SETTLING);
	m->extending = false;
	if (until_us == 0) {
		r->lost++;
		m->lease_lost = true;
		return;
	}
	r->extended++;
	m->lease_until_us = until_us;
}

void
queue_drop_receipts(struct queue *q,
    bool (*matches)(const struct message *, void *arg), void *arg)
{
	struct rig *r = rig_of(q);

	for (unsigned i = 0; i < r->nheld;) {
		struct message *m = r->held[i];

		if (!matches(m, arg)) {
			i++;
		} else if (m->state == MESSAGE_RUNNING) {
			m->lease_lost = true;
			r->lost++;
			i++;
		} else {
			drop(r, m);
			r->dropped++;
		}
	}
}

void
queue_backlog(struct queue *q, const struct backlog *b)
{
	rig_of(q)->backlog = *b;
	rig_of(q)->backlogs++;
}

void
queue_stopped(struct queue *q)
{
	rig_of(q)->stopped = true;
}

uint64_t
queue_reconnect_delay_us(unsigned failures)
{
	return MIN(failures, 10u) * 20 * USEC_PER_MSEC;
}

/* ---- the queue ---- */

static struct config *
load(const struct queue_type *type, const char *keys)
{
	/* It must outlive the tree, and every rig of a program has one type. */
	static const struct config_kind *schema[3];
	_cleanup_free_ char *text = xasprintf("[Queue jobs]\nType=%s\n%s",
	    type->name, keys);

	schema[0] = &engine_queue_kind;
	schema[1] = type->kind;
	return config_load_text("test.conf", text, schema);
}

/* What the engine reads for a queue, as engine_load does. */
static void
read_keys(struct queue *q)
{
	const struct config_section *s = q->section;

	config_range(s, "Backoff", &q->backoff_min_us, &q->backoff_max_us);
	q->max_attempts = (unsigned)config_unsigned(s, "MaxAttempts");
	q->prefetch = (unsigned)config_unsigned(s, "Prefetch");
	q->lease_us = config_span_us(s, "Lease");
	q->max_lease_us = config_span_us(s, "MaxLease");
	q->max_bytes = config_bytes(s, "MaxBytes");
	q->order_by = config_string(s, "OrderBy");
}

struct rig *
rig_new(const struct queue_type *type, const char *keys)
{
	struct rig *r = new0(struct rig);

	r->others = message_count();
	r->config = load(type, keys);
	if (config_problems(r->config) != 0)
		fail_msg("%s", config_problem_text(r->config, 0));
	assert_int_equal(loop_new(&r->loop), 0);
	assert_int_equal(resolver_new(r->loop, &r->resolver), 0);
	r->q.section = config_find(r->config, "Queue", "jobs");
	assert_non_null(r->q.section);
	r->q.name = xstrdup("jobs");
	r->q.type = type;
	r->q.loop = r->loop;
	r->q.resolver = r->resolver;
	r->q.config = r->config;
	read_keys(&r->q);
	r->ops = type->ops;
	assert_int_equal(r->ops->init(&r->q, r->config, r->q.section), 0);
	if (config_problems(r->config) != 0)
		fail_msg("%s", config_problem_text(r->config, 0));
	return r;
}

size_t
config_problem_count(const struct queue_type *type, const char *keys)
{
	struct config *c = load(type, keys);
	struct queue q = { .name = (char *)(uintptr_t)"jobs", .type = type };
	size_t n = config_problems(c);

	assert_int_equal(loop_new(&q.loop), 0);
	if (n == 0) {
		q.section = config_find(c, "Queue", "jobs");
		q.config = c;
		read_keys(&q);
		assert_int_equal(type->ops->init(&q, c, q.section), 0);
		type->ops->fini(&q);
		n = config_problems(c);
	}
	if (getenv("BOT_TEST_LOG") != NULL && n != 0)
		print_message("%s\n", config_problem_text(c, 0));
	loop_free(q.loop);
	config_unref(c);
	return n;
}

void
rig_start(struct rig *r)
{
	r->ops->start(&r->q);
}

void
rig_turn(struct rig *r)
{
	unsigned held = r->q.nwaiting + r->q.nsettling;

	if (r->window != 0)
		r->ops->credit(&r->q, r->window > held ? r->window - held : 0);
	(void)loop_turn(r->loop, 20 * USEC_PER_MSEC);
}

void
credit(struct rig *r, unsigned n)
{
	r->ops->credit(&r->q, n);
}

void
settle(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us, unsigned attempt, unsigned crashes)
{
	struct settlement s = {
		.kind = kind,
		.delay_us = delay_us,
		.attempt = attempt,
		.crashes = crashes,
	};

	if (kind == SETTLE_RETRY || kind == SETTLE_BURY) {
		s.error_type = SLICE("external_api");
		s.detail = SLICE("it \"failed\"\n");
	}
	forget(r, m);
	r->seen = r->delivered;
	r->q.nwaiting--;
	r->q.nsettling++;
	m->state = MESSAGE_SETTLING;
	r->ops->settle(&r->q, m, &s);
}

void
drop(struct rig *r, struct message *m)
{
	forget(r, m);
	r->seen = r->delivered;
	r->q.nwaiting--;
	message_free(m);
}

void
settle_and_wait(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us, unsigned attempt, unsigned crashes)
{
	unsigned before = r->settled, errors = r->settle_errors;

	settle(r, m, kind, delay_us, attempt, crashes);
	wait_for(r, r->settled == before + 1);
	if (r->settle_errors != errors)
		fail_msg("not settled: %s", r->settle_error.text);
}

void
acknowledge_all(struct rig *r)
{
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
}

struct message *
take_one(struct rig *r)
{
	wait_for(r, r->delivered > r->seen && r->nheld != 0);
	r->seen = r->delivered;
	return r->held[r->nheld - 1];
}

void
rig_stop(struct rig *r)
{
	r->window = 0;
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_RELEASE, 0, r->held[0]->attempt,
		    r->held[0]->crashes);
	r->ops->stop(&r->q);
	wait_for(r, r->stopped);
	assert_int_equal(r->q.nsettling, 0);
}

static void
teardown(struct rig *r)
{
	size_t others = r->others;

	r->ops->fini(&r->q);
	resolver_free(r->resolver);
	loop_free(r->loop);		/* aborts when a timer or fd is left */
	config_unref(r->config);
	free(r->q.name);
	free(r);
	assert_int_equal(message_count(), others);
}

void
rig_free(struct rig *r)
{
	if (!r->stopped)
		rig_stop(r);
	teardown(r);
}

void
rig_crash(struct rig *r)
{
	r->cut(r);
	while (r->nheld != 0)
		drop(r, r->held[0]);
	assert_int_equal(r->q.nsettling, 0);
	teardown(r);
}

struct rig *
rig_up(struct rig *r, unsigned window)
{
	rig_start(r);
	wait_for(r, r->ups == 1);
	r->window = window;
	return r;
}

void
rig_named_as(struct rig *r, enum error_class class, const char *code)
{
	rig_start(r);
	r->window = 5;
	wait_for(r, r->downs >= 2);		/* it goes on trying */
	if (strcmp(r->down.code, code) != 0)
		fail_msg("%s instead of %s: %s", r->down.code, code,
		    r->down.text);
	assert_int_equal(r->down.class, class);
	assert_int_equal(r->ups, 0);
	rig_free(r);
}

void
start_running(struct message *m)
{
	assert_int_equal(m->state, MESSAGE_WAITING);
	m->state = MESSAGE_RUNNING;
}

json_t *
status_of(struct rig *r)
{
	json_t *object = json_object();

	r->ops->status(&r->q, object);
	return object;
}

const struct backlog *
probe(struct rig *r)
{
	unsigned before = r->backlogs;

	r->ops->probe(&r->q);
	wait_for(r, r->backlogs > before);
	return &r->backlog;
}

bool
body_is(const struct message *m, const char *text)
{
	return slice_is(m->body, text);
}

bool
attribute_is(const struct message *m, const char *name, const char *value)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL && slice_is(a->value, value);
}

bool
attribute_is_json(const struct message *m, const char *name, const char *value)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL && a->json && slice_is(a->value, value);
}

/* ---- dead letters, enqueueing ---- */

static void
on_item(struct dead_walk *walk, const struct dead_item *item,
    const struct error *err)
{
	struct walking *w = walk->owner;

	assert_false(w->answered);
	w->answered = true;
	w->ended = item == NULL;
	error_clear(&w->err);
	if (err != NULL)
		w->err = *err;
	if (item != NULL)
		w->item = *item;
}

static void
on_acted(struct dead_walk *walk, const struct error *err)
{
	struct walking *w = walk->owner;

	assert_false(w->acted);
	w->acted = true;
	error_clear(&w->err);
	if (err != NULL)
		w->err = *err;
}

void
walk_open(struct rig *r, struct walking *w)
{
	*w = (struct walking){ .walk = { .queue = &r->q, .on_item = on_item,
	    .on_acted = on_acted, .owner = w } };
	r->ops->dead_open(&r->q, &w->walk);
}

bool
walk_next(struct rig *r, struct walking *w)
{
	w->answered = false;
	r->ops->dead_next(&r->q, &w->walk);
	assert_false(w->answered);		/* never before it returned */
	wait_for(r, w->answered);
	return !w->ended;
}

void
walk_act(struct rig *r, struct walking *w, enum dead_action action)
{
	w->acted = false;
	r->ops->dead_act(&r->q, &w->walk, action);
	assert_false(w->acted);
	wait_for(r, w->acted);
}

void
walk_close(struct rig *r, struct walking *w)
{
	r->ops->dead_close(&r->q, &w->walk);
}

static void
enqueued(struct enqueue_job *job, struct slice id, const struct error *err)
{
	struct enqueueing *e = job->owner;

	assert_false(e->done);
	e->done = true;
	snprintf(e->id, sizeof(e->id), "%.*s", (int)id.n,
	    id.n != 0 ? id.p : "");
	error_clear(&e->err);
	if (err != NULL)
		e->err = *err;
}

void
enqueue(struct rig *r, struct enqueueing *e, const char *body,
    const struct attribute *attributes, size_t n)
{
	*e = (struct enqueueing){ .job = { .body = slice_of(body),
	    .attributes = attributes, .nattributes = n, .done = enqueued,
	    .owner = e } };
	r->ops->enqueue(&r->q, &e->job);
	assert_false(e->done);
	wait_for(r, e->done);
}

static void
quiet(void *owner _unused_, enum log_level level _unused_,
    const struct log_fields *fields _unused_, const char *text _unused_)
{
}

void
rig_quiet(void)
{
	if (getenv("BOT_TEST_ONLY") != NULL)
		cmocka_set_test_filter(getenv("BOT_TEST_ONLY"));
	if (getenv("BOT_TEST_LOG") != NULL)
		return;
	log_tap(quiet, NULL);
	log_tap_exclusive(true);
}

/* ---- for the rigs of real servers ---- */

/* Not one that the kernel gives to connections: it may be used again, or for
   the first time, a while later. */
unsigned
free_port(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t port;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	do {
		assert_int_equal(getrandom(&port, sizeof(port), 0),
		    sizeof(port));
		port = (uint16_t)(10000 + port % 22000);
		in.sin_port = htons(port);
	} while (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0);
	return port;
}

static int
remove_one(const char *path, const struct stat *st _unused_, int flag _unused_,
    struct FTW *ftw _unused_)
{
	return remove(path);
}

void
remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	(void)fputs(text, f);
	assert_int_equal(fclose(f), 0);
}
