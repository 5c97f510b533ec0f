#include "spool_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"

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

void
queue_deliver(struct queue *q, struct message *m)
{
	struct rig *r = rig_of(q);

	assert_true(r->nheld < HELD_MAX);
	m->state = MESSAGE_WAITING;
	r->delivered++;
	r->held[r->nheld++] = m;
	if (r->on_deliver != NULL)
		r->on_deliver(r, m);
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
	r->held[r->nheld++] = m;
	settle(r, m, SETTLE_BURY, 0);
}

void
queue_settled(struct queue *q, struct message *m, const struct error *err)
{
	struct rig *r = rig_of(q);

	assert_int_equal(m->state, MESSAGE_SETTLING);
	r->settled++;
	if (err != NULL) {
		r->settle_errors++;
		r->settle_error = *err;
	}
	message_free(m);
}

void
queue_backlog(struct queue *q, const struct backlog *b)
{
	rig_of(q)->backlog = *b;
	rig_of(q)->samples = true;
}

void
queue_stopped(struct queue *q)
{
	rig_of(q)->stopped = true;
}

uint64_t
queue_reconnect_delay_us(unsigned failures)
{
	return MIN(failures, 10u) * 10 * USEC_PER_MSEC;
}

void
queue_extended(struct queue *q _unused_, struct message *m _unused_,
    uint64_t until_us _unused_)
{
	fail();
}


const char *
config_string(const struct config_section *s, const char *key)
{
	return strcmp(key, "Path") == 0 ? s->path : s->dead_letter;
}

void
config_problem(struct config *c, const struct config_section *s _unused_,
    const char *key _unused_, const char *fmt _unused_, ...)
{
	c->problems++;
}

/* ---- the rig ---- */

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
rig_open(struct rig *r, const char *path, const char *dead_letter)
{
	struct config_section section = { NULL, dead_letter };
	struct config config = { 0 };
	char copy[sizeof(r->path)];	/* path may be r->path */

	snprintf(copy, sizeof(copy), "%s", path);
	memset(r, 0, sizeof(*r));
	memcpy(r->path, copy, sizeof(copy));
	section.path = copy;
	assert_int_equal(loop_new(&r->loop), 0);
	r->q.name = (char *)(uintptr_t)"jobs";
	r->q.type = &spool_queue_type;
	r->q.loop = r->loop;
	r->q.max_bytes = 1000;
	r->ops = spool_queue_type.ops;
	assert_int_equal(r->ops->init(&r->q, &config, &section), 0);
	r->problems = config.problems;
}

struct rig *
rig_new(void **state)
{
	struct rig *r = xmalloc(sizeof(*r));
	char path[] = "/tmp/spool-test-XXXXXX";

	assert_non_null(mkdtemp(path));
	rig_open(r, path, NULL);
	*state = r;
	return r;
}

/* Turns until nothing happens any more: for "and nothing else came". */
void
run_idle(struct rig *r)
{
	while (loop_turn(r->loop, 30 * USEC_PER_MSEC) != 0)
		continue;
}

void
rig_start(struct rig *r)
{
	r->ops->start(&r->q);
	wait_for(r, r->ups == 1);
}

void
credit(struct rig *r, unsigned n)
{
	r->ops->credit(&r->q, n);
}

static void
settle_as(struct rig *r, struct message *m, const struct settlement *st)
{
	for (unsigned i = 0; i < r->nheld; i++)
		if (r->held[i] == m) {
			memmove(&r->held[i], &r->held[i + 1],
			    (--r->nheld - i) * sizeof(m));
			break;
		}
	m->state = MESSAGE_SETTLING;
	r->ops->settle(&r->q, m, st);
}

void
settle(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us)
{
	bool again = kind == SETTLE_RETRY;

	settle_as(r, m, &(struct settlement){
		.kind = kind, .delay_us = delay_us,
		.attempt = m->attempt + again, .crashes = m->crashes,
		.error_type = again || kind == SETTLE_BURY ?
		    SLICE("database") : SLICE(""),
		.detail = SLICE("why \"it\" failed") });
}

void
rig_stop(struct rig *r)
{
	while (r->nheld > 0)
		settle(r, r->held[0], SETTLE_RELEASE, 0);
	r->ops->stop(&r->q);
	wait_for(r, r->stopped);
	r->ops->fini(&r->q);
	loop_free(r->loop);
	r->loop = NULL;
	r->stopped = false;
}

void
rig_done(struct rig *r)
{
	rig_stop(r);
	assert_int_equal(message_count(), 0);
	remove_tree(r->path);
	free(r);
}

/* A second life on the same directory. */
void
rig_again(struct rig *r)
{
	rig_stop(r);
	rig_open(r, r->path, NULL);
	rig_start(r);
}

struct spool *
spool(struct rig *r)
{
	return r->q.impl;
}

const struct backlog *
probe(struct rig *r)
{
	r->samples = false;
	r->ops->probe(&r->q);
	wait_for(r, r->samples);
	return &r->backlog;
}

/* ---- files ---- */

const char *
at(struct rig *r, const char *name)
{
	static char path[4][640];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", r->path, name);
	return p;
}

void
write_at(const char *path, const char *body)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, body, strlen(body)), (ssize_t)strlen(body));
	(void)close(fd);
}

/* As a producer should. */
void
put(struct rig *r, const char *name, const char *body)
{
	char new[512];

	write_at(at(r, "tmp/.producer"), body);
	snprintf(new, sizeof(new), "new/%s", name);
	assert_int_equal(rename(at(r, "tmp/.producer"), at(r, new)), 0);
}

unsigned
count_in(struct rig *r, const char *dir)
{
	DIR *d = opendir(at(r, dir));
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	(void)closedir(d);
	return n;
}

bool
is_there(struct rig *r, const char *name)
{
	struct stat st;

	return lstat(at(r, name), &st) == 0;
}

json_t *
record_of(struct rig *r, const char *name)
{
	json_t *o = json_load_file(at(r, name), 0, NULL);

	assert_non_null(o);
	return o;
}

bool
attribute_is(const struct message *m, const char *name, const char *value)
{
	const struct attribute *a = message_attribute(m, name);

	return a != NULL && slice_is(a->value, value);
}

struct message *
take_one(struct rig *r)
{
	unsigned before = r->delivered;

	credit(r, 1);
	wait_for(r, r->delivered == before + 1);
	return r->held[r->nheld - 1];
}

void
settle_and_wait(struct rig *r, struct message *m, enum settlement_kind kind,
    uint64_t delay_us)
{
	unsigned before = r->settled, errors = r->settle_errors;

	settle(r, m, kind, delay_us);
	wait_for(r, r->settled == before + 1);
	assert_int_equal(r->settle_errors, errors);
}

/* ---- dead letters ---- */

static void
on_item(struct dead_walk *walk, const struct dead_item *item,
    const struct error *err)
{
	struct walking *w = walk->owner;

	w->answered = true;
	w->ended = item == NULL && err == NULL;
	if (err != NULL)
		w->err = *err;
	if (item != NULL)
		w->item = *item;
}

static void
on_acted(struct dead_walk *walk, const struct error *err)
{
	struct walking *w = walk->owner;

	w->acted = true;
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
	assert_false(w->answered);
	wait_for(r, w->answered);
	assert_false(error_is_set(&w->err));
	return !w->ended;
}

void
walk_act(struct rig *r, struct walking *w, enum dead_action action)
{
	w->acted = false;
	r->ops->dead_act(&r->q, &w->walk, action);
	wait_for(r, w->acted);
	assert_false(error_is_set(&w->err));
}

void
bury_some(struct rig *r, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		put(r, names[i], names[i]);
		settle_and_wait(r, take_one(r), SETTLE_BURY, 0);
	}
}

/* ---- enqueue ---- */

static void
on_enqueued(struct enqueue_job *job, struct slice id, const struct error *err)
{
	struct enqueueing *e = job->owner;

	e->done = true;
	snprintf(e->id, sizeof(e->id), "%.*s", (int)id.n, id.p);
	if (err != NULL)
		e->err = *err;
}

void
enqueue(struct rig *r, struct enqueueing *e, const char *body,
    const struct attribute *attributes, size_t n)
{
	*e = (struct enqueueing){ .job = { .body = slice_of(body),
	    .attributes = attributes, .nattributes = n, .done = on_enqueued,
	    .owner = e } };
	r->ops->enqueue(&r->q, &e->job);
	assert_false(e->done);
	wait_for(r, e->done);
}

/* ---- many ---- */

void
acknowledge(struct rig *r, struct message *m)
{
	settle(r, m, SETTLE_ACK, 0);
	credit(r, 100);
}

void
make_files(struct rig *r, unsigned from, unsigned n)
{
	char name[32], body[16];

	for (unsigned i = from; i < from + n; i++) {
		/* Scattered over the directory, the order is in the name. */
		unsigned k = from + (i - from) * 7919 % n;

		snprintf(name, sizeof(name), "new/%08u", k);
		snprintf(body, sizeof(body), "%u", k);
		write_at(at(r, name), body);
	}
}

static void
quiet(void *owner _unused_, enum log_level level _unused_,
    const struct log_fields *fields _unused_, const char *text _unused_)
{
}

void
rig_quiet(void)
{
	log_tap(quiet, NULL);
	log_tap_exclusive(true);
}
