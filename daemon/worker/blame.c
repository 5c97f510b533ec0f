/*
 * Whose fault it was: what the messages get that a worker has not answered
 * when it ends.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"
#include "worker/internal.h"

static bool
tail_says_memory(const struct worker *w)
{
	static const char *const words[] = {
		"MemoryError", "std::bad_alloc", "out of memory",
		"Out of memory", "Cannot allocate memory",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (memmem(w->tail, w->tail_n, words[i], strlen(words[i])))
			return true;
	return false;
}

/*
 * ru_maxrss of a spawned child begins with what its parent had at that time
 * (Linux keeps the larger of the two over exec), so it says something only
 * when it is more than that.
 */
static bool
out_of_memory(const struct worker *w, const struct child_exit *how)
{
	uint64_t max = w->wp->set->memory_max_bytes;
	uint64_t rss = (uint64_t)how->usage.ru_maxrss * KIB;

	if (cgroup_ran_out(w->group))
		return true;
	/* Its limit is one of resident memory, and the kernel has the word. */
	if (w->group != NULL)
		return how->code > 0 && tail_says_memory(w);
	if (max == 0 || (how->code == 0 && how->signo == 0))
		return false;
	if (how->usage.ru_maxrss > w->parent_maxrss_kib &&
	    rss >= max / 100 * 85)
		return true;
	return tail_says_memory(w);
}

static void
give_back(struct worker *w, struct message *m)
{
	worker_take_out(w, m);
	pool_returned(w->wp->pool, m);
}

static void
blame(struct worker *w, struct message *m, const char *type, bool killed,
    const char *detail)
{
	struct verdict v = {
		.kind = VERDICT_RETRY,
		.delay_us = VERDICT_DELAY_DEFAULT,
		.error_type = slice_of(type),
		.detail = worker_cut_detail(slice_of(detail)),
		.killed_worker = killed,
	};

	worker_take_out(w, m);
	pool_verdict(w->wp->pool, m, &v);
}

/* Is it beyond doubt that the head was the one that ran? */
static bool
head_is_certain(const struct worker *w, const struct child_exit *how)
{
	if (w->ready != 1 || w->inflight <= 1)
		return true;
	switch (w->kind) {
	case HANDLER_COMMAND:
		return true;	/* answers each message at once */
	case HANDLER_MODULE:
		/* These it catches, to write what it has (runner_module.c). */
		return how->signo == SIGSEGV || how->signo == SIGBUS ||
		    how->signo == SIGABRT || how->signo == SIGFPE ||
		    how->signo == SIGILL || how->code >= 0;
	case HANDLER_EXEC:
	case HANDLER_NONE:
		break;
	}
	return false;
}

void
worker_settle_rest(struct worker *w, const struct child_exit *how)
{
	char cause[CHILD_CAUSE_BYTES], detail[OUTPUT_TAIL_MAX + 512];
	struct pool *p = w->wp->pool;
	struct slice tail = worker_tail(w);
	bool certain = head_is_certain(w, how), killed, first = true;
	const char *type = ERROR_TYPE_CRASH;
	struct message *m;

	child_cause(how, cause);
	if (w->fate == FATE_NONE && how->code == 0 && buffer_len(&w->in) != 0) {
		w->fate = FATE_PROTOCOL;
		error_set(&w->error, ERROR_PROTOCOL, "frame",
		    "it ended in the middle of a frame");
	}
	if (w->inflight == 0 || w->fate == FATE_KILLED) {
		while ((m = worker_head(w)) != NULL)
			give_back(w, m);
		return;
	}
	if (w->fate == FATE_TIMEOUT) {
		type = ERROR_TYPE_TIMEOUT;
		snprintf(detail, sizeof(detail), "no answer within %" PRIu64
		    " ms; worker %d: %s%s%.*s", p->timeout_us / USEC_PER_MSEC,
		    (int)w->pid, cause, tail.n != 0 ? "\n" : "", (int)tail.n,
		    tail.p);
	} else if (w->fate == FATE_PROTOCOL) {
		type = ERROR_TYPE_INTERNAL;
		snprintf(detail, sizeof(detail), "protocol error: %s",
		    w->error.text);
	} else {
		p->stats.crashes++;
		if (out_of_memory(w, how))
			type = ERROR_TYPE_OUT_OF_MEMORY;
		snprintf(detail, sizeof(detail), "worker %d ended: %s%s%s%.*s",
		    (int)w->pid, cause, certain ? "" :
		    " (with other messages at hand)", tail.n != 0 ? "\n" : "",
		    (int)tail.n, tail.p);
	}
	/* One that we asked to leave and that left in peace was not killed. */
	killed = certain && w->fate != FATE_TIMEOUT &&
	    w->fate != FATE_PROTOCOL &&
	    !(w->fate == FATE_LEAVE && how->code == 0);
	if (!certain)
		worker_pool_be_cautious(w->wp);
	while ((m = worker_head(w)) != NULL) {
		bool guilty = w->fate == FATE_TIMEOUT ?
		    m->id == w->timed_out_id : first || w->ready != 1;

		first = false;
		if (guilty)
			blame(w, m, type, killed, detail);
		else
			give_back(w, m);
	}
}
