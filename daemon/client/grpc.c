#include "client/grpc.h"

#include "base/alloc.h"
#include "client/grpc_impl.h"

#define CONNECT_TIMEOUT_US	(10 * USEC_PER_SEC)
#define KEEPALIVE_US		(30 * USEC_PER_SEC)
#define KEEPALIVE_TIMEOUT_US	(10 * USEC_PER_SEC)
#define IDLE_TIMEOUT_US		(300 * USEC_PER_SEC)
#define MAX_MESSAGE		(24 * MIB)
#define STREAM_WINDOW		(4 * MIB)
#define WINDOW_MAX		((size_t)0x7fffffff)	/* RFC 9113, 6.9.1 */

/* ---- the channel ---- */

static char *
make_authority(const struct address *a, bool tls)
{
	char text[ADDRESS_TEXT_BYTES];
	struct address b = *a;

	if (a->kind == ADDRESS_UNIX)
		return xstrdup("localhost");
	address_text(&b, text);
	if (a->port == (tls ? 443 : 80))
		*strrchr(text, ':') = '\0';
	return xstrdup(text);
}

static void
on_flush(struct task *t)
{
	struct grpc_channel *ch = t->owner;

	if (ch->conn != NULL && ch->conn->ready)
		grpc_session_flush(ch->conn);
}

struct grpc_channel *
grpc_channel_new(struct loop *loop, struct resolver *resolver,
    const struct grpc_channel_params *p, struct error *err)
{
	struct grpc_channel *ch = new0(struct grpc_channel);
	struct tls_params tls = p->tls_params;

	ch->loop = loop;
	ch->resolver = resolver;
	ch->address = p->address;
	ch->tls_name = p->tls_name != NULL ? xstrdup(p->tls_name) : NULL;
	ch->authority = p->authority != NULL ? xstrdup(p->authority) :
	    make_authority(&p->address, p->tls);
	ch->user_agent = xstrdup(p->user_agent != NULL ? p->user_agent :
	    "bot-operator/" PACKAGE_VERSION);
	ch->connect_timeout_us = p->connect_timeout_us != 0 ?
	    p->connect_timeout_us : CONNECT_TIMEOUT_US;
	ch->keepalive_us = p->keepalive_us != 0 ? p->keepalive_us :
	    KEEPALIVE_US;
	ch->keepalive_timeout_us = p->keepalive_timeout_us != 0 ?
	    p->keepalive_timeout_us : KEEPALIVE_TIMEOUT_US;
	ch->idle_timeout_us = p->idle_timeout_us != 0 ? p->idle_timeout_us :
	    IDLE_TIMEOUT_US;
	ch->max_message = p->max_message != 0 ? p->max_message : MAX_MESSAGE;
	ch->stream_window = MIN(p->stream_window != 0 ? p->stream_window :
	    STREAM_WINDOW, WINDOW_MAX);
	list_init(&ch->conns);
	list_init(&ch->waiting);
	list_init(&ch->ready);
	task_init(&ch->ready_task, LOOP_DISPATCH, "grpc.ready",
	    grpc_tell_task, ch);
	task_init(&ch->flush_task, LOOP_BATCH, "grpc.flush", on_flush, ch);
	tls.server = false;
	tls.alpn = "h2";
	if (p->tls && (ch->tls = tls_context_new(&tls, err)) == NULL) {
		grpc_channel_free(ch);
		return NULL;
	}
	return ch;
}

void
grpc_channel_free(struct grpc_channel *ch)
{
	if (ch == NULL)
		return;
	BUG_ON(ch->stats.open != 0);
	while (!list_empty(&ch->conns))
		grpc_conn_free(list_entry(list_first(&ch->conns),
		    struct grpc_conn, link));
	task_cancel(&ch->ready_task);
	task_cancel(&ch->flush_task);
	tls_context_unref(ch->tls);
	free(ch->tls_name);
	free(ch->authority);
	free(ch->user_agent);
	if (ch->inside)
		ch->gone = true;
	else
		free(ch);
}

void
grpc_channel_get_stats(const struct grpc_channel *ch,
    struct grpc_channel_stats *ret)
{
	*ret = ch->stats;
	ret->connected = ch->conn != NULL && ch->conn->ready;
}

/* ---- a call's life ---- */

void
grpc_exchange_free(struct grpc_exchange *ex)
{
	buffer_done(&ex->in);
	buffer_done(&ex->out);
	grpc_answer_done(&ex->answer);
	free(ex);
}

void
grpc_exchange_release(struct grpc_exchange *ex)
{
	struct grpc_conn *c = ex->conn;

	timer_cancel(ex->channel->loop, &ex->timer);
	ex->call->exchange = NULL;
	ex->channel->stats.open--;
	list_remove(&ex->link);
	list_remove(&ex->ready);
	if (c != NULL) {
		grpc_session_reset(ex, ex->ended ? NGHTTP2_NO_ERROR :
		    NGHTTP2_CANCEL);
		ex->conn = NULL;
		if (list_empty(&c->exchanges))
			grpc_conn_unused(c);
		grpc_session_flush(c);
	}
	if (ex->inside)
		ex->gone = true;	/* its message is still being read */
	else
		grpc_exchange_free(ex);
}

void
grpc_call_start(struct grpc_channel *ch, struct grpc_call *call)
{
	struct grpc_exchange *ex;

	BUG_ON(call->exchange != NULL || call->path == NULL ||
	    call->on_done == NULL);
	ex = new0(struct grpc_exchange);
	call->exchange = ex;
	ex->call = call;
	ex->channel = ch;
	list_init(&ex->link);
	list_init(&ex->ready);
	buffer_init(&ex->in);
	buffer_init(&ex->out);
	grpc_answer_init(&ex->answer);
	timer_init(&ex->timer, "grpc.call", grpc_exchange_timeout, ex);
	if (call->timeout_us != 0)
		timer_arm(ch->loop, &ex->timer, call->timeout_us);
	ch->stats.calls++;
	ch->stats.open++;
	list_push_back(&ch->waiting, &ex->link);
	grpc_conn_open(ch);
	/* Its headers leave with its first message, or at the end of the turn. */
	if (ch->conn->ready)
		grpc_session_start(ch->conn);
}

void
grpc_call_cancel(struct grpc_call *call)
{
	if (call->exchange != NULL)
		grpc_exchange_release(call->exchange);
}

/* ---- what it sends ---- */

static void
note_sendable(struct grpc_exchange *ex)
{
	if (ex->conn != NULL)
		grpc_session_resume(ex);
}

void
grpc_call_send(struct grpc_call *call, struct slice message, bool last)
{
	struct grpc_exchange *ex = call->exchange;

	if (ex == NULL || ex->ended || ex->last)
		return;
	BUG_ON(message.n > UINT32_MAX);
	grpc_message_add(&ex->out, message);
	ex->channel->stats.messages_out++;
	ex->over_high_water |= buffer_len(&ex->out) > GRPC_HIGH_WATER;
	ex->last = last;
	note_sendable(ex);
}

void
grpc_call_send_end(struct grpc_call *call)
{
	struct grpc_exchange *ex = call->exchange;

	if (ex == NULL || ex->ended || ex->last)
		return;
	ex->last = true;
	note_sendable(ex);
}

size_t
grpc_call_pending(const struct grpc_call *call)
{
	return call->exchange != NULL ? buffer_len(&call->exchange->out) : 0;
}

void
grpc_call_pause(struct grpc_call *call, bool paused)
{
	struct grpc_exchange *ex = call->exchange;

	if (ex == NULL || ex->paused == paused)
		return;
	ex->paused = paused;
	if (!paused)
		grpc_ready(ex);
}
