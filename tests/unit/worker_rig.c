#include "worker_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/log.h"
#include "engine/engine.h"
#include "worker/http_pool.h"

static const struct config_kind *const schema[] = {
	&engine_pool_kind, &worker_pool_kind, &http_pool_kind, NULL
};

static struct rig *rig;

/* ---- in the engine's place ---- */

static void
record(struct message *m, bool returned, const struct verdict *v)
{
	struct outcome *o;

	BUG_ON(rig->n >= OUTCOMES_MAX);
	o = &rig->outcome[rig->keep_outcomes ? rig->n : 0];
	rig->n++;
	rig->running--;
	if (v != NULL && v->kind == VERDICT_DONE)
		rig->done++;
	snprintf(o->name, sizeof(o->name), "%.*s", (int)m->name.n, m->name.p);
	o->returned = returned;
	o->kind = VERDICT_NONE;
	if (m->started_us != 0)
		o->took_us = loop_now_us(rig->loop) - m->started_us;
	if (v != NULL && rig->keep_outcomes) {
		o->kind = v->kind;
		o->delay_us = v->delay_us;
		o->killed_worker = v->killed_worker;
		snprintf(o->type, sizeof(o->type), "%.*s",
		    (int)v->error_type.n, v->error_type.n != 0 ?
		    v->error_type.p : "");
		o->detail = xstrndup(v->detail.n != 0 ? v->detail.p : "",
		    v->detail.n);
	}
	BUG_ON(list_linked(&m->worker_link) || m->worker != NULL);
	m->state = MESSAGE_SETTLING;
	message_free(m);
}

void
pool_verdict(struct pool *p, struct message *m, const struct verdict *v)
{
	BUG_ON(m->state != MESSAGE_RUNNING);
	p->stats.verdicts++;
	record(m, false, v);
}

void
pool_returned(struct pool *p, struct message *m)
{
	(void)p;
	BUG_ON(m->state != MESSAGE_RUNNING);
	rig->returned++;
	if (rig->resubmit) {
		rig->running--;
		m->state = MESSAGE_WAITING;
		m->started_us = 0;
		list_push_front(&rig->pending, &m->link);
		rig->npending++;
		return;
	}
	record(m, true, NULL);
}

void
pool_slots_changed(struct pool *p)
{
	(void)p;
}

void
pool_touched(struct pool *p, struct message *m, uint64_t until_us)
{
	(void)p;
	(void)m;
	rig->touches++;
	rig->last_touch_us = until_us;
}

void
pool_up(struct pool *p)
{
	if (!p->up)
		rig->ups++;
	p->up = true;
}

void
pool_down(struct pool *p, const struct error *err)
{
	rig->downs++;
	p->up = false;
	rig->error = *err;
}

void
pool_drained(struct pool *p)
{
	(void)p;
	rig->drained++;
}

/* ---- files ---- */

const char *
build_path(const char *relative)
{
	static char path[4][PATH_MAX + 64];
	static unsigned next;
	char self[PATH_MAX];
	char *out = path[next++ % 4];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(n, 0)] = '\0';
	*strrchr(self, '/') = '\0';		/* BUILD/tests/unit */
	snprintf(out, sizeof(path[0]), "%s/../../%s", self, relative);
	return out;
}

const char *
source_path(const char *relative)
{
	static char path[4][PATH_MAX];
	static unsigned next;
	char *out = path[next++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", TEST_SOURCE_DIR, relative);
	return out;
}

const char *
odd_worker(void)
{
	return source_path("tests/unit/workers/odd_worker.py");
}

bool
have(const char *program)
{
	const char *at = getenv("PATH");

	while (at != NULL && *at != '\0') {
		char path[PATH_MAX];
		size_t n = strcspn(at, ":");

		snprintf(path, sizeof(path), "%.*s/%s", (int)n, at, program);
		if (access(path, X_OK) == 0)
			return true;
		at += n + (at[n] == ':');
	}
	return false;
}

bool
process_exists(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *f;

	/* One that nobody has reaped is gone all the same. */
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return false;
	if (fscanf(f, "%*d %*s %c", &state) != 1)
		state = 'Z';
	(void)fclose(f);
	return state != 'Z' && state != 'X';
}

char *
slurp(const char *path)
{
	struct buffer b = BUFFER_INIT;
	FILE *f = fopen(path, "re");
	size_t n;
	char *s;

	while (f != NULL && (n = fread(buffer_reserve(&b, 4096), 1, 4096, f)) != 0)
		buffer_commit(&b, n);
	if (f != NULL)
		(void)fclose(f);
	s = buffer_dup(&b);
	buffer_done(&b);
	return s;
}

static unsigned
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

/* ---- the rig ---- */

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	struct rig *r = owner;
	char head[256];
	size_t n;

	/* A busy machine is no fault of ours. */
	if (level <= LOG_LEVEL_WARNING && strstr(text, "was held up") == NULL)
		r->warnings++;
	snprintf(head, sizeof(head), "<%d>%s%s%.*s%s", (int)level,
	    f->worker != 0 ? "[worker] " : "", f->message.n != 0 ? "[" : "",
	    (int)f->message.n, f->message.n != 0 ? f->message.p : "",
	    f->message.n != 0 ? "] " : " ");
	n = strlen(head) + strlen(text) + 2;
	r->log = xrealloc(r->log, r->log_n + n);
	snprintf(r->log + r->log_n, n, "%s%s\n", head, text);
	r->log_n += n - 1;
}

struct config *
rig_config(const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/tests/unit/test.conf",
	    TEST_SOURCE_DIR);

	return config_load_text(path, text, schema);
}

static struct config *load(const char *fmt, va_list ap) _printf_(1, 0);

static struct config *
load(const char *fmt, va_list ap)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;

	buffer_add_str(&b, "[Pool test]\n");
	buffer_vprintf(&b, fmt, ap);
	buffer_add_char(&b, '\n');
	c = rig_config(buffer_cstr(&b));
	if (config_problems(c) != 0)
		fail_msg("%s", config_problem_text(c, 0));
	return c;
}

static void
read_common(struct rig *r)
{
	r->pool.timeout_us = config_span_us(r->pool.section, "Timeout");
}

struct rig *
rig_new(const char *fmt, ...)
{
	struct rig *r = new0(struct rig);
	va_list ap;

	rig = r;
	(void)signal(SIGPIPE, SIG_IGN);
	log_tap(on_log, r);
	log_tap_exclusive(true);
	log_set_level(LOG_LEVEL_DEBUG);
	worker_set_runner(build_path("bot-worker"));
	r->fds = count_fds();
	r->keep_outcomes = true;
	r->outcome = xcalloc(1000, sizeof(*r->outcome));
	list_init(&r->pending);
	if (loop_new(&r->loop) < 0)
		fail_msg("no loop");
	va_start(ap, fmt);
	r->config = load(fmt, ap);
	va_end(ap);
	r->queue.name = xstrdup("orders");
	r->queue.loop = r->loop;
	r->chunk = chunk_new();
	r->pool.name = xstrdup("test");
	r->pool.type = &worker_handler_type;
	r->pool.loop = r->loop;
	r->pool.config = r->config;
	r->pool.section = config_find(r->config, "Pool", "test");
	list_init(&r->pool.queues);
	read_common(r);
	if (worker_handler_type.ops->init(&r->pool, r->config,
	    r->pool.section) < 0)
		fail_msg("%s", config_problems(r->config) != 0 ?
		    config_problem_text(r->config, 0) : "init failed");
	worker_handler_type.ops->start(&r->pool);
	return r;
}

void
rig_reload(struct rig *r, const char *fmt, ...)
{
	struct config *old = r->config;
	const struct config_section *s;
	va_list ap;

	va_start(ap, fmt);
	r->config = load(fmt, ap);
	va_end(ap);
	s = config_find(r->config, "Pool", "test");
	worker_handler_type.ops->reconfigure(&r->pool, s);
	r->pool.config = r->config;
	r->pool.section = s;
	read_common(r);
	config_unref(old);
}

struct message *
rig_send(struct rig *r, const char *body)
{
	struct message *m = message_new(&r->queue, r->chunk);
	static unsigned number;
	char name[32];

	if (r->n == 0 && r->npending == 0 && r->running == 0)
		number = 0;
	snprintf(name, sizeof(name), "m%u", ++number);
	m->name = chunk_copy(r->chunk, name, strlen(name));
	m->body = chunk_copy(r->chunk, body, strlen(body));
	m->state = MESSAGE_WAITING;
	list_push_back(&r->pending, &m->link);
	r->npending++;
	return m;
}

static void
feed(struct rig *r)
{
	unsigned slots = worker_handler_type.ops->slots(&r->pool);

	for (; slots != 0 && !list_empty(&r->pending); slots--) {
		struct message *m = list_entry(list_pop_front(&r->pending),
		    struct message, link);

		r->npending--;
		r->running++;
		r->max_running = MAX(r->max_running, r->running);
		m->state = MESSAGE_RUNNING;
		worker_handler_type.ops->submit(&r->pool, m);
	}
	worker_handler_type.ops->demand(&r->pool, r->npending);
}

void
rig_turn(struct rig *r)
{
	if (!r->drained)
		feed(r);
	if (loop_turn(r->loop, 20 * USEC_PER_MSEC) < 0)
		fail_msg("the loop failed");
}

bool
rig_said(const struct rig *r, const char *text)
{
	return r->log != NULL && strstr(r->log, text) != NULL;
}

const struct outcome *
rig_outcome(const struct rig *r, const char *name)
{
	for (unsigned i = r->n; i-- != 0;)
		if (strcmp(r->outcome[i].name, name) == 0)
			return &r->outcome[i];
	fail_msg("no outcome of %s", name);
	return NULL;
}

static void
free_outcomes(struct rig *r)
{
	for (unsigned i = 0; r->keep_outcomes && i < r->n; i++)
		free(r->outcome[i].detail);
	free(r->outcome);
}

void
rig_free(struct rig *r)
{
	if (!r->drained) {
		worker_handler_type.ops->drain(&r->pool);
		UNTIL(r, r->drained != 0);
	}
	assert_int_equal(r->drained, 1);
	assert_int_equal(r->running, 0);
	assert_int_equal(r->pool.workers, 0);
	assert_int_equal(r->pool.busy, 0);
	worker_handler_type.ops->fini(&r->pool);
	assert_int_equal(message_count(), 0);
	loop_free(r->loop);		/* aborts when a timer or fd is left */
	assert_int_equal(count_fds(), r->fds);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	if (r->warnings > r->allowed_warnings)
		fail_msg("%u warnings, not %u:\n%s", r->warnings,
		    r->allowed_warnings, r->log);
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
	config_unref(r->config);
	chunk_unref(r->chunk);
	free(r->queue.name);
	free(r->pool.name);
	free_outcomes(r);
	free(r->log);
	free(r);
	rig = NULL;
}
