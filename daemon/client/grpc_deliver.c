/*
 * What the owners are told, all from one task: that the answer began, its
 * messages, that there is room again, and the end.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "client/grpc_impl.h"

/* Of one call in one turn; others want to be heard too. */
#define BUDGET_MESSAGES	64u
#define BUDGET_BYTES	MIB
#define TRIM_BYTES	MIB

void
grpc_ready(struct grpc_exchange *ex)
{
	struct grpc_channel *ch = ex->channel;

	if (list_linked(&ex->ready))
		return;
	list_push_back(&ch->ready, &ex->ready);
	task_schedule(ch->loop, &ch->ready_task);
}

void
grpc_exchange_end(struct grpc_exchange *ex, const struct grpc_end *end)
{
	if (ex->ended)
		return;
	ex->ended = true;
	ex->end = *end;
	/* Who answers has seen it, whatever it says later. */
	ex->end.unseen &= ex->answer.http_status == 0;
	buffer_done(&ex->out);
	grpc_ready(ex);
}

void
grpc_exchange_fail(struct grpc_exchange *ex, unsigned code,
    const struct error *err, bool unseen)
{
	struct grpc_end end = { code, *err, unseen };

	grpc_exchange_end(ex, &end);
}

/* ---- the end ---- */

/* Its words, or else ours. */
static void
fill(const struct grpc_exchange *ex, struct grpc_status *s, struct error *err)
{
	const struct grpc_end *end = &ex->end;

	*s = (struct grpc_status){ .code = end->code, .unseen = end->unseen };
	if (error_is_set(&end->err)) {
		*err = end->err;
		snprintf(s->message, sizeof(s->message), "%s", err->text);
		return;
	}
	s->from_server = true;
	s->details = buffer_slice(&ex->answer.details);
	memcpy(s->message, ex->answer.message, sizeof(s->message));
	error_clear(err);
	if (s->code != GRPC_OK)
		error_set(err, grpc_code_class(s->code),
		    grpc_code_name(s->code), "%s%s%s", grpc_code_name(s->code),
		    s->message[0] != '\0' ? ": " : "", s->message);
}

static void
finish(struct grpc_exchange *ex)
{
	struct grpc_call *call = ex->call;
	struct grpc_status status;
	struct error err;

	fill(ex, &status, &err);
	ex->channel->stats.failed += status.code != GRPC_OK;
	ex->inside = true;		/* the details live in it */
	grpc_exchange_release(ex);
	/* The owner may start it again, or free it and the channel. */
	call->on_done(call, &status, status.code != GRPC_OK ? &err : NULL);
	grpc_exchange_free(ex);
}

void
grpc_exchange_timeout(struct timer *t)
{
	struct grpc_exchange *ex = t->owner;
	struct grpc_end end = { .code = GRPC_DEADLINE_EXCEEDED,
		.unseen = !ex->started };

	error_set(&end.err, ERROR_TRANSIENT, "timeout", "%s", !ex->started ?
	    "the call could not be sent in time" :
	    "no complete answer in time");
	if (!ex->ended && ex->conn != NULL)
		grpc_session_reset(ex, NGHTTP2_CANCEL);
	ex->ended = true;
	ex->end = end;
	finish(ex);
}

/* ---- messages ---- */

/* False when the exchange is no more. */
static bool
tell(struct grpc_exchange *ex, void (*fn)(struct grpc_call *))
{
	if (fn == NULL)
		return true;
	ex->inside = true;
	fn(ex->call);
	ex->inside = false;
	return !ex->gone;
}

static bool
tell_message(struct grpc_exchange *ex, struct slice message)
{
	ex->channel->stats.messages_in++;
	ex->inside = true;
	if (ex->call->on_message != NULL)
		ex->call->on_message(ex->call, message);
	ex->inside = false;
	return !ex->gone;
}

static void
take(struct grpc_exchange *ex, size_t n)
{
	buffer_consume(&ex->in, n);
	if (n > ex->held)
		n = ex->held;	/* the rest was given back while it grew */
	grpc_session_taken(ex, n);
}

static void
refuse(struct grpc_exchange *ex, const struct error *err)
{
	unsigned code = strcmp(err->code, "message_too_large") == 0 ?
	    GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL;

	if (ex->conn != NULL)
		grpc_session_reset(ex, NGHTTP2_CANCEL);
	/* Also when its end has come: this is before it. */
	ex->ended = ex->ended_by_server = false;
	buffer_clear(&ex->in);
	grpc_exchange_fail(ex, code, err, false);
}

enum outcome {
	GONE = 0,		/* the exchange is no more */
	MORE,			/* the turn's budget is spent */
	EMPTY,			/* no other whole message */
	PAUSED,			/* there is one, but not now */
};

static enum outcome
tell_messages(struct grpc_exchange *ex)
{
	unsigned messages = 0;
	size_t bytes = 0;
	struct slice m;
	struct error err;
	ssize_t n;

	for (;;) {
		n = grpc_message(buffer_slice(&ex->in),
		    ex->channel->max_message, &m, &err);
		if (n < 0)
			refuse(ex, &err);
		if (n <= 0)
			return EMPTY;
		if (ex->paused)
			return PAUSED;
		if (messages++ >= BUDGET_MESSAGES || bytes > BUDGET_BYTES)
			return MORE;
		bytes += (size_t)n;
		if (!tell_message(ex, m))
			return GONE;
		take(ex, (size_t)n);
	}
}

/* A part of a message keeps no window from it: max_message bounds it. */
static void
settle_input(struct grpc_exchange *ex)
{
	if (!ex->paused)
		grpc_session_taken(ex, ex->held);
	if (buffer_len(&ex->in) == 0 && ex->in.size > TRIM_BYTES)
		buffer_trim(&ex->in);
}

/* False when the exchange went in a callback. */
static bool
tell_all(struct grpc_exchange *ex)
{
	enum outcome o;

	if (ex->opened && !ex->told_open) {
		ex->told_open = true;
		if (!tell(ex, ex->call->on_open))
			return false;
	}
	if (ex->drained) {
		ex->drained = false;
		if (!tell(ex, ex->call->on_drained))
			return false;
	}
	o = tell_messages(ex);
	if (o == GONE)
		return false;
	if (o == MORE)
		grpc_ready(ex);
	if (o == EMPTY)
		settle_input(ex);
	if (o != EMPTY || !ex->ended) {
		if (ex->conn != NULL)
			grpc_session_flush(ex->conn);
		return true;
	}
	if (ex->ended_by_server)
		grpc_answer_end(&ex->answer, buffer_len(&ex->in) != 0,
		    &ex->end);
	finish(ex);
	return true;
}

void
grpc_tell(struct grpc_channel *ch)
{
	struct list now;

	/* Those that become ready meanwhile are told in the next turn. */
	list_init(&now);
	list_splice_back(&now, &ch->ready);
	ch->inside = true;
	while (!list_empty(&now)) {
		struct grpc_exchange *ex = list_entry(list_first(&now),
		    struct grpc_exchange, ready);

		list_remove(&ex->ready);
		if (!tell_all(ex))
			grpc_exchange_free(ex);
	}
	ch->inside = false;
	if (ch->gone)
		free(ch);
}

void
grpc_tell_task(struct task *t)
{
	grpc_tell(t->owner);
}
