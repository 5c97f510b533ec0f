#include "queue/spool.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/spool_impl.h"

#define RESCAN_US	(30 * USEC_PER_SEC)

/* ---- up and down ---- */

static void
come_up(struct spool *s)
{
	struct error err = ERROR_INIT;
	int r = 0;

	if (s->fd[SPOOL_ROOT] < 0)
		r = spool_dirs_open(s, &err);
	if (r == 0)
		r = spool_dirs_test(s, &err);
	if (r == 0 && !io_active(&s->watch))
		r = spool_watch_start(s, &err);
	if (r < 0) {
		spool_fail(s, &err);
		return;
	}
	s->failures = 0;
	error_clear(&s->error);
	s->state = SPOOL_UP;
	spool_want(s, SPOOL_BIT(SPOOL_TMP) | SPOOL_BIT(SPOOL_CUR) |
	    SPOOL_BIT(SPOOL_DEAD) | SPOOL_BIT(SPOOL_DELAYED) |
	    SPOOL_BIT(SPOOL_NEW));
	queue_up(s->queue);
}

static void
retry_due(struct timer *t)
{
	come_up(t->owner);
}

/*
 * The figures are forgotten: when it is over, everything is read again.  What
 * waits for its settlement is tried all the same (a full disk can unlink) and
 * is answered with the error where that fails.
 */
void
spool_fail(struct spool *s, const struct error *err)
{
	if (s->state != SPOOL_UP && s->state != SPOOL_DOWN)
		return;
	s->state = SPOOL_DOWN;
	spool_scan_stop(s);
	spool_take_stop(s);
	spool_watch_stop(s);
	timer_cancel(s->loop, &s->delayed_timer);
	s->error = *err;
	s->probing = false;
	timer_arm(s->loop, &s->retry_timer,
	    queue_reconnect_delay_us(++s->failures));
	queue_down(s->queue, err);
}

void
spool_lost(struct spool *s, const char *what)
{
	struct error err;

	error_set(&err, ERROR_TRANSIENT, "removed", "%s was removed or moved "
	    "away below %s; it will be made again", what, s->path);
	spool_fail(s, &err);
	spool_dirs_close(s);
}

/* ---- stopping ---- */

static void
stopped(struct task *t)
{
	struct spool *s = t->owner;

	if (s->state != SPOOL_STOPPING || !list_empty(&s->settling) ||
	    !list_empty(&s->enqueues))
		return;
	s->state = SPOOL_STOPPED;
	spool_settle_stop(s);
	spool_dirs_close(s);
	queue_stopped(s->queue);
}

void
spool_check_stopped(struct spool *s)
{
	if (s->state == SPOOL_STOPPING)
		task_schedule(s->loop, &s->stop_task);
}

/* ---- operations ---- */

static int
spool_init(struct queue *q, struct config *config,
    const struct config_section *section)
{
	struct spool *s = new0(struct spool);
	const char *dead = config_string(section, "DeadLetter");

	s->queue = q;
	s->loop = q->loop;
	s->path = xstrdup(config_string(section, "Path"));
	if (dead != NULL && *dead != '\0') {
		if (*dead == '/')
			s->dead_path = xstrdup(dead);
		else
			config_problem(config, section, "DeadLetter",
			    "DeadLetter=%s: a spool keeps its dead letters in "
			    "a directory; leave the key out for the one inside "
			    "Path=, or give an absolute path on the same file "
			    "system", dead);
	}
	for (enum spool_dir d = SPOOL_ROOT; d < SPOOL_NDIRS; d++)
		s->fd[d] = -1;
	s->lock_fd = -1;
	s->window_max = SPOOL_WINDOW_MAX;
	s->rescan_us = RESCAN_US;
	hash_init(&s->held);
	list_init(&s->walks);
	timer_init(&s->retry_timer, "spool retry", retry_due, s);
	task_init(&s->stop_task, LOOP_BATCH, "spool stop", stopped, s);
	spool_scan_init(s);
	spool_watch_init(s);
	spool_take_init(s);
	spool_settle_init(s);
	spool_enqueue_init(s);
	q->impl = s;
	return 0;
}

static void
spool_start(struct queue *q)
{
	struct spool *s = spool_of(q);

	s->state = SPOOL_DOWN;
	timer_arm(s->loop, &s->retry_timer, 0);
}

static void
spool_reconfigure(struct queue *q _unused_,
    const struct config_section *section _unused_)
{
	/* Path= and DeadLetter= need a new queue; MaxBytes= is read there. */
}

static void
spool_stop(struct queue *q)
{
	struct spool *s = spool_of(q);

	if (s->state == SPOOL_STOPPING || s->state == SPOOL_STOPPED)
		return;
	s->state = SPOOL_STOPPING;
	s->credit = 0;
	timer_cancel(s->loop, &s->retry_timer);
	spool_scan_stop(s);
	spool_take_stop(s);
	spool_watch_stop(s);
	timer_cancel(s->loop, &s->delayed_timer);
	spool_walks_stop(s);
	spool_check_stopped(s);
}

static void
spool_fini(struct queue *q)
{
	struct spool *s = spool_of(q);
	struct hash_node *node;

	if (s == NULL)
		return;
	/* No loop: it was made to check a configuration. */
	if (s->loop != NULL) {
		timer_cancel(s->loop, &s->retry_timer);
		task_cancel(&s->stop_task);
		task_cancel(&s->enqueue_task);
		spool_watch_stop(s);
		spool_settle_stop(s);
	}
	spool_scan_stop(s);
	spool_take_stop(s);
	spool_walks_free(s);
	spool_dirs_close(s);
	while ((node = hash_any(&s->held)) != NULL)
		hash_remove(&s->held, node);
	hash_done(&s->held);
	free(s->path);
	free(s->dead_path);
	free(s);
	q->impl = NULL;
}

/* ---- the backlog ---- */

static uint64_t
oldest_us(struct spool *s)
{
	const char *first = spool_window_first(&s->waiting);
	uint64_t now = clock_realtime_us(), then;
	struct stat st;

	if (first == NULL || fstatat(s->fd[SPOOL_NEW], first, &st,
	    AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	then = (uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC +
	    (uint64_t)st.st_mtim.tv_nsec / 1000;
	return now > then ? now - then : 0;
}

/* Only what was counted is told; the rest is told when it is counted. */
void
spool_probe_done(struct spool *s)
{
	struct backlog b = {
		.waiting = spool_window_total(&s->waiting),
		.delayed = spool_window_total(&s->delayed),
		.dead = s->dead,
		.sampled_us = clock_monotonic_us(),
		.waiting_known = true,
		.delayed_known = true,
		.dead_known = true,
	};

	if (!s->probing || !spool_running(s) || !s->seen[SPOOL_NEW].known ||
	    !s->seen[SPOOL_DELAYED].known || !s->seen[SPOOL_DEAD].known)
		return;
	s->probing = false;
	b.oldest_us = oldest_us(s);
	queue_backlog(s->queue, &b);
}

static void
spool_probe(struct queue *q)
{
	struct spool *s = spool_of(q);

	if (!spool_running(s))
		return;
	s->probing = true;
	task_schedule(s->loop, &s->scan_task);	/* answers, also without a scan */
}

static void
spool_status(struct queue *q, json_t *object)
{
	struct spool *s = spool_of(q);

	json_object_set_new(object, "path", json_string_nocheck(s->path));
	json_object_set_new(object, "watch", json_string(s->polling ?
	    "polling" : "inotify"));
	json_object_set_new(object, "counted", json_boolean(
	    s->seen[SPOOL_NEW].known));
	json_object_set_new(object, "waiting_exact", json_boolean(
	    s->waiting.complete));
	json_object_set_new(object, "taken", json_integer(
	    (json_int_t)s->held.count));
}

/* ---- the type ---- */

static const struct config_key keys[] = {
	{ .name = "Path", .type = CONFIG_PATH, .flags = CONFIG_REQUIRED,
	  .help = "Directory of the spool; made when missing. A file that is "
	    "moved into its new/ is a message, taken in the order of the "
	    "names; write it in tmp/ first. A file named *.envelope starts "
	    "with a line that is a JSON object, the message's attributes; "
	    "the body is what follows. Dead letters lie in dead/, each with a "
	    "record NAME.json of why; DeadLetter= may name another directory "
	    "on the same file system." },
};

const struct config_kind spool_queue_kind = {
	.section = "Queue",
	.labelled = true,
	.variant_key = "Type",
	.variant = "spool",
	.keys = keys,
	.nkeys = ARRAY_SIZE(keys),
	.help = "A directory on this machine, like a maildir: what needs no "
	    "broker. Only one operator can work on it.",
};

static const struct queue_ops ops = {
	.init = spool_init,
	.start = spool_start,
	.credit = spool_credit,
	.settle = spool_settle,
	.probe = spool_probe,
	.enqueue = spool_enqueue,
	.dead_open = spool_dead_open,
	.dead_next = spool_dead_next,
	.dead_act = spool_dead_act,
	.dead_close = spool_dead_close,
	.reconfigure = spool_reconfigure,
	.stop = spool_stop,
	.fini = spool_fini,
	.status = spool_status,
};

static const char *const figures[] = {
	"counted", "waiting_exact", "taken", NULL
};

const struct queue_type spool_queue_type = {
	.name = "spool",
	.kind = &spool_queue_kind,
	.capabilities = QUEUE_CAN_DELAY | QUEUE_BATCHES | QUEUE_DEAD_LETTERS |
	    QUEUE_CAN_ENQUEUE,
	.ops = &ops,
	.figures = figures,
};
