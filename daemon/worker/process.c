/*
 * One worker: its socket, the messages it has, its end.
 *
 * A worker that takes one message at a time (READY 1) may be sent more than
 * one, so that a fast handler does not wait for us between two messages.  How
 * many is learned: doubled while whole batches come back within a millisecond,
 * back to one as soon as anything takes 10 ms.  Only the oldest, the head, is
 * taken to be running; the others were never started when the worker ends.
 * A worker may hold back answers for a moment to write them together, so the
 * head is beyond doubt only when it was alone: else nobody is blamed and the
 * pool runs messages singly for a while.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "engine/queue.h"
#include "worker/internal.h"

#define READ_BYTES		((size_t)64 * KIB)
#define READ_BUDGET_BYTES	((size_t)256 * KIB)
#define FINAL_BUDGET_BYTES	((size_t)4096 * KIB)
#define DETAIL_ACCEPTED_BYTES	((size_t)64 * KIB)	/* more is an error */
#define KEEP_BUFFER_BYTES	((size_t)256 * KIB)
#define FAST_BATCH_US		((uint64_t)1000)
#define SLOW_US			((uint64_t)10000)
#define TOUCH_MAX_US		((uint64_t)24 * 3600 * USEC_PER_SEC)

static struct log_fields
fields_of(const struct worker *w, const struct message *m)
{
	struct log_fields f = { .pool = w->wp->pool->name, .worker = w->pid };

	if (m != NULL) {
		f.queue = m->queue->name;
		f.message = m->name;
		f.attempt = m->attempt;
	}
	return f;
}

struct message *
worker_head(const struct worker *w)
{
	return list_first_entry(&w->messages, struct message, worker_link);
}

const char *
worker_state_name(const struct worker *w)
{
	if (w->killing != KILL_NONE)
		return "ending";
	switch (w->state) {
	case WORKER_STARTING:
		return "starting";
	case WORKER_READY:
		return w->inflight != 0 ? "busy" : "idle";
	case WORKER_LEAVING:
		return "leaving";
	case WORKER_NSTATES:
		break;
	}
	return "?";
}

struct slice
worker_tail(const struct worker *w)
{
	struct slice s = { w->tail, w->tail_n };

	while (s.n != 0 && (unsigned char)s.p[s.n - 1] <= ' ')
		s.n--;
	return s;
}

/* ---- time ---- */

static void
due(struct worker *w, uint64_t at_us)
{
	if (at_us == USEC_INFINITY)
		return;
	if (!timer_armed(&w->timer) || at_us < timer_due_us(&w->timer))
		timer_arm_at(w->wp->loop, &w->timer, at_us);
}

static void
due_in(struct worker *w, uint64_t delay_us)
{
	w->due_us = sat_add(loop_now_us(w->wp->loop), delay_us);
	due(w, w->due_us);
}

static void
kill_hard(struct worker *w)
{
	w->state = WORKER_LEAVING;
	w->killing = KILL_KILL;
	child_kill(&w->child, SIGKILL);
}

static void
terminate(struct worker *w)
{
	if (w->killing != KILL_NONE)
		return;
	w->state = WORKER_LEAVING;
	w->killing = KILL_TERM;
	child_kill(&w->child, SIGTERM);
	due_in(w, w->wp->set->kill_grace_us);
	worker_pool_check(w->wp);
}

static void
time_out(struct worker *w, struct message *m)
{
	struct log_fields f = fields_of(w, m);

	f.event = EVENT_WORKER_TIMEOUT;
	log_warning(&f, "over its time: SIGTERM to the worker, SIGKILL in "
	    "%" PRIu64 " ms", w->wp->set->kill_grace_us / USEC_PER_MSEC);
	w->fate = FATE_TIMEOUT;
	w->timed_out_id = m->id;
	w->wp->pool->stats.timeouts++;
	terminate(w);
}

/* The message whose time is over soonest; with READY 1 only the head's runs. */
static struct message *
soonest(const struct worker *w)
{
	struct message *first = worker_head(w);
	struct list *l;

	if (w->ready == 1)
		return first;
	list_foreach(l, &w->messages) {
		struct message *m = list_entry(l, struct message, worker_link);

		if (m->deadline_us < first->deadline_us)
			first = m;
	}
	return first;
}

static void
on_timer(struct timer *t)
{
	struct worker *w = t->owner;
	uint64_t now = loop_now_us(w->wp->loop);
	struct message *m;

	/* Armed for something that has been settled since: look what is next. */
	if (w->killing == KILL_KILL)
		return;
	if (w->killing == KILL_TERM || w->eof || w->no_more ||
	    w->state == WORKER_STARTING) {
		if (now < w->due_us) {
			due(w, w->due_us);
		} else if (w->killing == KILL_TERM) {
			kill_hard(w);
		} else {
			if (w->state == WORKER_STARTING)
				w->fate = FATE_START;
			terminate(w);
		}
		return;
	}
	m = soonest(w);
	if (m == NULL)
		return;
	if (now >= m->deadline_us)
		time_out(w, m);
	else
		due(w, m->deadline_us);
}

/* ---- what goes to the worker ---- */

static void
stop_sending(struct worker *w)
{
	buffer_clear(&w->out);
	if (io_active(&w->io))
		io_set(w->wp->loop, &w->io, EPOLLIN);
}

static void
flush(struct worker *w)
{
	struct loop *loop = w->wp->loop;

	while (buffer_len(&w->out) != 0) {
		ssize_t n = send(w->fd, buffer_head(&w->out),
		    buffer_len(&w->out), MSG_NOSIGNAL);

		if (n >= 0) {
			buffer_consume(&w->out, (size_t)n);
		} else if (errno == EAGAIN) {
			io_set(loop, &w->io, EPOLLIN | EPOLLOUT);
			return;
		} else if (errno != EINTR) {
			/* It is gone; what it left and how comes by itself. */
			stop_sending(w);
			return;
		}
	}
	io_set(loop, &w->io, EPOLLIN);
	if (w->out.size > KEEP_BUFFER_BYTES)
		buffer_trim(&w->out);
	if (w->no_more)
		(void)shutdown(w->fd, SHUT_WR);
}

static void
on_write(struct task *t)
{
	struct worker *w = t->owner;

	if (io_active(&w->io))
		flush(w);
}

static void
send_later(struct worker *w)
{
	task_schedule(w->wp->loop, &w->write_task);
}

static void
half_close(struct worker *w)
{
	w->no_more = true;
	due_in(w, w->wp->set->kill_grace_us);
	send_later(w);
}

void
worker_leave(struct worker *w)
{
	if (w->state == WORKER_LEAVING)
		return;
	w->fate = FATE_LEAVE;
	if (w->state == WORKER_STARTING) {
		terminate(w);
		return;
	}
	w->state = WORKER_LEAVING;
	frame_add_drain(&w->out);
	send_later(w);
	if (w->inflight == 0)
		half_close(w);
}

void
worker_kill(struct worker *w)
{
	w->fate = FATE_KILLED;
	kill_hard(w);
}

unsigned
worker_room(const struct worker *w)
{
	const struct worker_pool *wp = w->wp;
	unsigned cap = w->ready;
	uint64_t left;

	if (w->state != WORKER_READY)
		return 0;
	if (cap == 1 && (wp->cautious_until_us == 0 ||
	    loop_now_us(wp->loop) >= wp->cautious_until_us))
		cap = w->depth;
	if (cap <= w->inflight)
		return 0;
	if (wp->set->max_messages == 0)
		return cap - w->inflight;
	left = wp->set->max_messages > w->given ?
	    wp->set->max_messages - w->given : 0;
	return (unsigned)MIN((uint64_t)(cap - w->inflight), left);
}

static void
begin(struct worker *w, struct message *m)
{
	uint64_t now = loop_now_us(w->wp->loop);

	m->started_us = now;
	/* A TOUCH may have come before its turn. */
	m->deadline_us = MAX(m->deadline_us,
	    sat_add(now, w->wp->pool->timeout_us));
	w->head_since_us = now;
	due(w, m->deadline_us);
}

void
worker_submit(struct worker *w, struct message *m)
{
	struct worker_pool *wp = w->wp;
	struct pool *p = wp->pool;

	m->worker = w;
	m->deadline_us = 0;
	list_push_back(&w->messages, &m->worker_link);
	w->given++;
	if (w->inflight++ == 0) {
		p->busy++;
		w->busy_since_us = loop_now_us(wp->loop);
	}
	if (w->ready != 1 || w->inflight == 1)
		begin(w, m);
	frame_add_msg(&w->out, m->id, slice_of(m->queue->name), m->attempt,
	    p->timeout_us == USEC_INFINITY ? 0 :
	    MAX(p->timeout_us / USEC_PER_MSEC, (uint64_t)1),
	    worker_pool_attributes(wp, m), m->body);
	send_later(w);
	if (wp->set->max_messages != 0 && w->given >= wp->set->max_messages) {
		worker_leave(w);
		worker_pool_check(wp);
	}
}

void
worker_cancel(struct worker *w, const struct message *m)
{
	frame_add_cancel(&w->out, m->id);
	send_later(w);
}

/* ---- what comes from the worker ---- */

/* What a handler calls its error is shown and counted: plain words only. */
static struct slice
tidy_type(struct slice type, char out[ERROR_TYPE_MAX])
{
	size_t n = MIN(type.n, (size_t)ERROR_TYPE_MAX - 1);

	for (size_t i = 0; i < n; i++) {
		char c = type.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';

		out[i] = ok ? c : '_';
	}
	if (n == 0 || (n == 1 && out[0] == '-'))
		return SLICE(ERROR_TYPE_INTERNAL);
	return (struct slice){ out, n };
}

struct slice
worker_cut_detail(struct slice detail)
{
	if (detail.n <= VERDICT_DETAIL_MAX)
		return detail;
	detail.n = VERDICT_DETAIL_MAX;
	/* Not in the middle of a character. */
	while (detail.n != 0 && ((unsigned char)detail.p[detail.n] & 0xc0) == 0x80)
		detail.n--;
	return detail;
}

void
worker_take_out(struct worker *w, struct message *m)
{
	struct pool *p = w->wp->pool;
	uint64_t now = loop_now_us(w->wp->loop);

	list_remove(&m->worker_link);
	m->worker = NULL;
	if (--w->inflight != 0)
		return;
	p->busy--;
	p->stats.busy_us += now - w->busy_since_us;
	w->idle_since_us = now;
	if (w->state == WORKER_LEAVING && !w->no_more && !w->eof &&
	    w->killing == KILL_NONE)
		half_close(w);
}

static struct message *
find(struct worker *w, uint64_t id)
{
	struct message *m = worker_head(w);

	if (likely(m != NULL && m->id == id))
		return m;
	m = message_find(id);
	if (m != NULL && m->state == MESSAGE_RUNNING && m->worker == w &&
	    list_linked(&m->worker_link))
		return m;
	if (w->strange++ == 0) {
		struct log_fields f = fields_of(w, NULL);

		f.event = EVENT_WORKER_PROTOCOL;
		log_warning(&f, "it speaks of message %" PRIu64 ", which it "
		    "does not have; ignored (and further ones, silently)", id);
	}
	return NULL;
}

static void
on_verdict(struct worker *w, const struct frame *f, uint64_t step_us)
{
	struct message *m = find(w, f->id);
	char type[ERROR_TYPE_MAX];
	struct verdict v = { .kind = VERDICT_DONE };
	bool was_head;

	if (m == NULL)
		return;
	was_head = m == worker_head(w);
	if (f->kind != FRAME_DONE) {
		v.kind = f->kind == FRAME_DEAD ? VERDICT_DEAD : VERDICT_RETRY;
		v.error_type = tidy_type(f->word, type);
		v.detail = worker_cut_detail(f->detail);
		v.delay_us = f->kind == FRAME_DEAD ||
		    f->number == FRAME_DELAY_DEFAULT ? VERDICT_DELAY_DEFAULT :
		    MIN(f->number, UINT64_MAX / 2 / USEC_PER_MSEC) *
		    USEC_PER_MSEC;
		/* A command is the worker of its message. */
		v.killed_worker = v.kind == VERDICT_RETRY &&
		    w->kind == HANDLER_COMMAND &&
		    (slice_is(v.error_type, ERROR_TYPE_CRASH) ||
		    slice_is(v.error_type, ERROR_TYPE_OUT_OF_MEMORY));
		if (v.killed_worker)
			w->wp->pool->stats.crashes++;
		/* The kernel's word counts more than what became of it. */
		if (w->kind == HANDLER_COMMAND && cgroup_ran_out(w->group))
			v.error_type = SLICE(ERROR_TYPE_OUT_OF_MEMORY);
	}
	/* Several answers at once: each took its share of the time. */
	if (step_us != 0 || m->started_us == 0)
		m->started_us = loop_now_us(w->wp->loop) - step_us;
	w->answered++;
	w->wp->failures = 0;
	worker_take_out(w, m);
	if (w->ready == 1 && was_head && w->inflight != 0)
		begin(w, worker_head(w));
	pool_verdict(w->wp->pool, m, &v);
}

static void
on_touch(struct worker *w, const struct frame *f)
{
	uint64_t extend_us = f->number > TOUCH_MAX_US / USEC_PER_MSEC ?
	    TOUCH_MAX_US : f->number * USEC_PER_MSEC;
	struct message *m = find(w, f->id);

	if (m == NULL)
		return;
	m->deadline_us = MAX(m->deadline_us,
	    loop_now_us(w->wp->loop) + extend_us);
	pool_touched(w->wp->pool, m, m->deadline_us);
}

static void
protocol_error(struct worker *w, const struct error *err)
{
	struct log_fields f = fields_of(w, worker_head(w));

	f.event = EVENT_WORKER_PROTOCOL;
	log_warning(&f, "protocol error: %s; the worker is replaced", err->text);
	w->error = *err;
	w->fate = FATE_PROTOCOL;
	w->eof = true;
	io_remove(w->wp->loop, &w->io);
	kill_hard(w);
	worker_pool_check(w->wp);
}

static void
on_ready(struct worker *w, const struct frame *f)
{
	struct error err;

	if (w->ready != 0) {
		error_set(&err, ERROR_PROTOCOL, "frame", "a second READY");
		protocol_error(w, &err);
		return;
	}
	w->ready = (unsigned)MIN(f->number, (uint64_t)MIN(WORKER_READY_MAX,
	    w->wp->set->concurrency));
	w->depth = 1;
	w->idle_since_us = loop_now_us(w->wp->loop);
	if (w->state != WORKER_STARTING)
		return;
	w->state = WORKER_READY;
	worker_pool_ready(w->wp, w);
}

/* How long each of the answers in the buffer took, if there are several. */
static uint64_t
share_us(const struct worker *w)
{
	const char *p = buffer_head(&w->in), *end = p + buffer_len(&w->in);
	unsigned lines = 0;

	if (w->ready != 1 || w->inflight < 2)
		return 0;
	while (lines < w->inflight && p < end &&
	    (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		lines++;
		p++;
	}
	if (lines < 2)
		return 0;
	return MAX((loop_now_us(w->wp->loop) - w->head_since_us) / lines,
	    (uint64_t)1);
}

static void
adapt(struct worker *w, unsigned had, uint64_t answered, uint64_t took_us)
{
	if (w->ready != 1 || answered == 0)
		return;
	if (took_us > SLOW_US)
		w->depth = 1;
	else if (took_us < FAST_BATCH_US && had >= w->depth &&
	    2 * answered >= w->depth)
		w->depth = MIN(w->depth * 2, WORKER_DEPTH_MAX);
}

static void
decode(struct worker *w)
{
	unsigned had = w->inflight;
	uint64_t before = w->answered, step_us = share_us(w);
	uint64_t took_us = loop_now_us(w->wp->loop) - w->head_since_us;
	struct frame f;
	struct error err;
	ssize_t n = 0;

	while (w->fate != FATE_PROTOCOL && (n = frame_decode(
	    buffer_slice(&w->in), true, DETAIL_ACCEPTED_BYTES, &f, &err)) > 0) {
		if (f.kind == FRAME_READY)
			on_ready(w, &f);
		else if (f.kind == FRAME_TOUCH)
			on_touch(w, &f);
		else
			on_verdict(w, &f, step_us);
		buffer_consume(&w->in, (size_t)n);
	}
	if (n < 0)
		protocol_error(w, &err);
	adapt(w, had, w->answered - before, took_us);
	if (w->answered == before)
		return;
	if (w->inflight != 0) {
		/* Never idle under load: count the time all the same. */
		uint64_t now = loop_now_us(w->wp->loop);

		w->wp->pool->stats.busy_us += now - w->busy_since_us;
		w->busy_since_us = now;
	}
	pool_slots_changed(w->wp->pool);
}

/* Reads what is there, up to the budget. False when the end was reached. */
static bool
read_socket(struct worker *w, size_t budget)
{
	while (budget != 0) {
		char *p = buffer_reserve(&w->in, READ_BYTES);
		ssize_t n;

		do {
			n = recv(w->fd, p, READ_BYTES, MSG_DONTWAIT);
		} while (n < 0 && errno == EINTR);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		buffer_commit(&w->in, (size_t)n);
		budget -= MIN(budget, (size_t)n);
		decode(w);
		if (w->fate == FATE_PROTOCOL)
			return true;
		if ((size_t)n < READ_BYTES)
			return true;
	}
	return true;
}

static void
on_socket(struct io *io, uint32_t events)
{
	struct worker *w = io->owner;

	if ((events & ~(uint32_t)EPOLLOUT) != 0 &&
	    !read_socket(w, READ_BUDGET_BYTES)) {
		/* Its end usually follows at once; if not, we help. */
		w->eof = true;
		w->state = WORKER_LEAVING;
		io_remove(w->wp->loop, &w->io);
		if (w->killing == KILL_NONE)
			due_in(w, w->wp->set->kill_grace_us);
		worker_pool_check(w->wp);
		return;
	}
	if ((events & EPOLLOUT) != 0 && io_active(&w->io))
		flush(w);
}

/* ---- the end ---- */

static void
on_exit_of_child(struct child *c, const struct child_exit *how)
{
	struct worker *w = c->owner;
	struct worker_pool *wp = w->wp;
	bool useless;

	/* What it said before its end counts. */
	if (!w->eof) {
		(void)read_socket(w, FINAL_BUDGET_BYTES);
		io_remove(wp->loop, &w->io);
		w->eof = true;
	}
	output_finish(&w->out_pipe);
	output_finish(&w->err_pipe);
	output_report_dropped(w);
	worker_settle_rest(w, how);
	useless = w->answered == 0 && (w->fate == FATE_NONE ||
	    w->fate == FATE_START || w->fate == FATE_PROTOCOL);
	list_remove(&w->link);
	worker_pool_gone(wp, w, how, useless);
	worker_free(w);
}

/* ---- the beginning ---- */

struct pair {
	int ours, theirs;
};

static void
pair_close(struct pair *p)
{
	close_fdp(&p->ours);
	close_fdp(&p->theirs);
}

static int
open_pairs(struct pair *sock, struct pair *out, struct pair *err)
{
	int fd[2];

	if (fault("worker.start"))
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return -errno;
	*sock = (struct pair){ fd[0], fd[1] };
	/* Ours only: O_NONBLOCK belongs to the open file, not to both ends. */
	(void)fcntl(sock->ours, F_SETFL, O_RDWR | O_NONBLOCK);
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*out = (struct pair){ fd[0], fd[1] };
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*err = (struct pair){ fd[0], fd[1] };
	return 0;
}

static int
start(struct worker *w, struct pair *sock, struct pair *out, struct pair *err)
{
	const struct settings *set = w->wp->set;
	struct loop *loop = w->wp->loop;
	char **argv = settings_argv(set, w->group);
	struct child_params params = {
		.path = set->runner, .argv = argv, .envp = set->envp,
		.fds = { -1, out->theirs, err->theirs, sock->theirs },
	};
	struct rusage self;
	int r;

	r = child_start(&w->child, loop, &params);
	settings_argv_free(argv);
	if (r < 0)
		return r;
	w->pid = w->child.pid;
	if (getrusage(RUSAGE_SELF, &self) == 0)
		w->parent_maxrss_kib = self.ru_maxrss;
	if ((r = io_add(loop, &w->io, sock->ours, EPOLLIN)) < 0)
		return r;
	w->fd = sock->ours;
	sock->ours = -1;
	if ((r = output_start(&w->out_pipe, w, out->ours, false)) < 0)
		return r;
	out->ours = -1;
	if ((r = output_start(&w->err_pipe, w, err->ours, true)) < 0)
		return r;
	err->ours = -1;
	return 0;
}

struct worker *
worker_new(struct worker_pool *wp, struct error *err)
{
	struct pair sock = { -1, -1 }, out = { -1, -1 }, errp = { -1, -1 };
	struct worker *w = new0(struct worker);
	int r;

	w->wp = wp;
	w->state = WORKER_STARTING;
	w->generation = wp->generation;
	w->kind = wp->set->kind;
	w->fd = -1;
	list_init(&w->link);
	list_init(&w->messages);
	child_init(&w->child, on_exit_of_child, w);
	io_init(&w->io, "worker.socket", on_socket, w);
	timer_init(&w->timer, "worker", on_timer, w);
	timer_init(&w->output_timer, "worker.output", output_timer_fired, w);
	task_init(&w->write_task, LOOP_WRITE, "worker.write", on_write, w);
	output_init(&w->out_pipe, w);
	output_init(&w->err_pipe, w);
	error_clear(err);
	r = open_pairs(&sock, &out, &errp);
	if (r == 0) {
		w->group = cgroup_new(wp->pool->name, &wp->set->limits, err);
		r = error_is_set(err) ? -ECANCELED :
		    start(w, &sock, &out, &errp);
	}
	pair_close(&sock);
	pair_close(&out);
	pair_close(&errp);
	if (r < 0) {
		if (!error_is_set(err))
			error_set_errno(err, r, "%s", wp->set->runner);
		worker_free(w);
		return NULL;
	}
	w->started_us = loop_now_us(wp->loop);
	frame_add_hello(&w->out, config_instance(wp->pool->config));
	send_later(w);
	due_in(w, wp->set->start_timeout_us);
	return w;
}

void
worker_free(struct worker *w)
{
	struct loop *loop = w->wp->loop;

	BUG_ON(w->inflight != 0);
	child_abandon(&w->child);
	io_remove(loop, &w->io);
	close_fdp(&w->fd);
	output_finish(&w->out_pipe);
	output_finish(&w->err_pipe);
	timer_cancel(loop, &w->timer);
	timer_cancel(loop, &w->output_timer);
	task_cancel(&w->write_task);
	list_remove(&w->link);
	cgroup_free(w->group);
	buffer_done(&w->in);
	buffer_done(&w->out);
	free(w);
}
