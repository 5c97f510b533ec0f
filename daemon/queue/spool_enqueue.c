#include "queue/spool_impl.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"

struct pending {
	struct list link;
	struct enqueue_job *job;
};

/* Sorts behind what was enqueued before, whatever the clock does. */
static void
make_name(struct spool *s, bool envelope, struct spool_name *name)
{
	char tag[9];

	s->enqueue_last_us = MAX(clock_realtime_us(), s->enqueue_last_us + 1);
	random_hex(tag, 8);
	*name = (struct spool_name){ .attempt = 1 };
	snprintf(name->base, sizeof(name->base), "%016llu-%s%s",
	    (unsigned long long)s->enqueue_last_us, tag,
	    envelope ? SPOOL_ENVELOPE : ".msg");
}

static int
put(struct spool *s, const struct enqueue_job *job, char file[SPOOL_NAME_BYTES],
    struct error *err)
{
	_cleanup_buffer_ struct buffer head = BUFFER_INIT;
	char tmp[SPOOL_NAME_BYTES];
	struct spool_name name;
	int r;

	if (s->fd[SPOOL_TMP] < 0) {
		*err = s->error;
		if (!error_is_set(err))
			error_set(err, ERROR_TRANSIENT, "down", "%s is not "
			    "open", s->path);
		return -EIO;
	}
	if (job->nattributes != 0)
		spool_envelope_write(&head, job->attributes, job->nattributes);
	if (job->body.n > s->queue->max_bytes ||
	    buffer_len(&head) > SPOOL_ENVELOPE_MAX ||
	    job->nattributes > SPOOL_ATTRIBUTES_MAX) {
		error_set(err, ERROR_REJECTED, "too_large", "the body has %zu "
		    "bytes (MaxBytes=%zu), the attributes %zu (at most %zu)",
		    job->body.n, s->queue->max_bytes, buffer_len(&head),
		    SPOOL_ENVELOPE_MAX);
		return -EMSGSIZE;
	}
	make_name(s, job->nattributes != 0, &name);
	snprintf(tmp, sizeof(tmp), "%s", name.base);
	r = spool_write_tmp(s, tmp, buffer_slice(&head), job->body);
	if (r < 0) {
		spool_error(s, err, r, SPOOL_TMP, "cannot write a message");
		return r;
	}
	r = spool_move(s, SPOOL_TMP, tmp, SPOOL_NEW, &name, file);
	if (r < 0) {
		spool_error(s, err, r, SPOOL_NEW, "cannot put a message");
		(void)unlinkat(s->fd[SPOOL_TMP], tmp, 0);
		return r;
	}
	spool_arrived(s, SPOOL_NEW, file, true);
	return 0;
}

static void
enqueue_some(struct task *t)
{
	struct spool *s = t->owner;
	uint64_t until = clock_monotonic_us() + SPOOL_SLICE_US;
	char file[SPOOL_NAME_BYTES];
	struct list *link;
	struct error err;

	do {
		struct enqueue_job *job;

		link = list_pop_front(&s->enqueues);
		if (link == NULL)
			break;
		job = list_entry(link, struct pending, link)->job;
		free(list_entry(link, struct pending, link));
		error_clear(&err);
		if (put(s, job, file, &err) == 0) {
			task_schedule(s->loop, &s->take_task);
			job->done(job, slice_of(file), NULL);
		} else {
			job->done(job, SLICE(""), &err);
		}
	} while (clock_monotonic_us() < until);
	if (!list_empty(&s->enqueues))
		task_schedule(s->loop, &s->enqueue_task);
	else
		spool_check_stopped(s);
}

void
spool_enqueue(struct queue *q, struct enqueue_job *job)
{
	struct spool *s = spool_of(q);
	struct pending *p = new0(struct pending);

	p->job = job;
	list_push_back(&s->enqueues, &p->link);
	task_schedule(s->loop, &s->enqueue_task);
}

void
spool_enqueue_init(struct spool *s)
{
	list_init(&s->enqueues);
	task_init(&s->enqueue_task, LOOP_DISPATCH, "spool enqueue",
	    enqueue_some, s);
}
