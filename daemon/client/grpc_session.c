/*
 * nghttp2 as a codec: what comes from the stream goes in, what it wants to say
 * goes out; calls become its streams.
 */
#include "base/alloc.h"
#include "client/grpc_impl.h"

static bool
is_over(const struct grpc_conn *c)
{
	return nghttp2_session_want_read(c->session) == 0 &&
	    nghttp2_session_want_write(c->session) == 0;
}

/* nghttp2 has nothing more to do: it gave up on the peer, or the last call of
   a connection that drains has ended. */
static void
over(struct grpc_conn *c)
{
	const char *who = c->channel->authority;
	struct error err;

	if (c->said_goaway && !c->ready) {
		c->said_goaway = false;		/* UNAVAILABLE, not INTERNAL */
		error_set(&err, ERROR_PROTOCOL, "not_http2",
		    "%s does not speak HTTP/2", who);
	} else if (c->said_goaway)
		error_set(&err, ERROR_PROTOCOL, "http2_error",
		    "%s broke the rules of HTTP/2", who);
	else
		error_set(&err, ERROR_TRANSIENT, "goaway",
		    "%s ended the connection", who);
	grpc_conn_end(c, &err);
}

static void
broken(struct grpc_conn *c, int code)
{
	struct error err;

	error_set(&err, ERROR_PROTOCOL, c->ready ? "http2_error" : "not_http2",
	    "%s: %s", c->channel->authority, nghttp2_strerror(code));
	c->said_goaway = c->ready;
	grpc_conn_end(c, &err);
}

void
grpc_session_flush(struct grpc_conn *c)
{
	struct grpc_channel *ch = c->channel;
	const uint8_t *p;
	ssize_t n = 0;

	while (stream_pending(&c->stream) <= GRPC_WRITE_MARK &&
	    (n = nghttp2_session_mem_send(c->session, &p)) > 0)
		stream_write(&c->stream, p, (size_t)n);
	if (n < 0)
		broken(c, (int)n);
	else if (is_over(c))
		over(c);
	/* Those that found their connection draining. */
	if (ch->conn == NULL && !list_empty(&ch->waiting))
		grpc_conn_open(ch);
}

/* ---- calls ---- */

static bool
submit(struct grpc_conn *c, struct grpc_exchange *ex)
{
	nghttp2_data_provider body = { .read_callback = grpc_read_body };
	nghttp2_nv nv[GRPC_METADATA_MAX];
	struct grpc_metadata m;
	bool first;
	int32_t id;

	grpc_metadata_init(&m);
	grpc_metadata_fill(&m, ex);
	id = nghttp2_submit_request(c->session, NULL, nv,
	    grpc_metadata_nv(&m, nv), &body, ex);
	grpc_metadata_done(&m);
	if (id < 0)
		return false;		/* no more ids: 2^30 calls were made */
	first = list_empty(&c->exchanges);
	list_move_back(&c->exchanges, &ex->link);
	if (first)
		grpc_conn_busy(c);
	ex->stream_id = id;
	ex->conn = c;
	return true;
}

void
grpc_session_start(struct grpc_conn *c)
{
	struct grpc_channel *ch = c->channel;

	while (!list_empty(&ch->waiting)) {
		struct grpc_exchange *ex = list_entry(
		    list_first(&ch->waiting), struct grpc_exchange, link);

		if (!submit(c, ex)) {
			c->draining = true;
			ch->conn = NULL;
			grpc_conn_open(ch);
			return;
		}
	}
	task_schedule(ch->loop, &ch->flush_task);
}

void
grpc_session_resume(struct grpc_exchange *ex)
{
	if (ex->deferred) {
		ex->deferred = false;
		(void)nghttp2_session_resume_data(ex->conn->session,
		    ex->stream_id);
	}
	grpc_session_flush(ex->conn);
}

void
grpc_session_reset(struct grpc_exchange *ex, uint32_t error)
{
	nghttp2_session *session = ex->conn->session;

	if (ex->stream_id == 0)
		return;
	(void)nghttp2_session_set_stream_user_data(session, ex->stream_id,
	    NULL);
	if (!ex->closed)
		(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
		    ex->stream_id, error);
	ex->closed = true;
}

void
grpc_session_taken(struct grpc_exchange *ex, size_t n)
{
	BUG_ON(n > ex->held);
	ex->held -= n;
	if (n != 0 && ex->conn != NULL && !ex->closed)
		(void)nghttp2_session_consume_stream(ex->conn->session,
		    ex->stream_id, n);
}

/* To be sent once more, on another connection: nothing of it has left. */
static void
requeue(struct grpc_exchange *ex)
{
	struct error err;

	if (ex->conn != NULL)
		grpc_session_reset(ex, NGHTTP2_CANCEL);	/* out of its queue */
	ex->conn = NULL;
	list_remove(&ex->link);
	if (ex->requeued) {
		error_set(&err, ERROR_TRANSIENT, "goaway",
		    "%s takes no new calls", ex->channel->authority);
		grpc_exchange_fail(ex, GRPC_UNAVAILABLE, &err, true);
		return;
	}
	ex->requeued = true;
	ex->closed = ex->deferred = false;
	ex->stream_id = 0;
	list_push_back(&ex->channel->waiting, &ex->link);
}

/*
 * A GOAWAY: new calls need another connection, and so do those that have not
 * left yet, for want of a place or of SETTINGS.  They try it once, no more: a
 * server that refuses each connection would be asked for ever without a pause.
 */
static void
drain(struct grpc_conn *c, bool was_ready)
{
	struct grpc_channel *ch = c->channel;
	struct list moved, *l, *next;

	list_init(&moved);
	if (ch->conn == c) {
		ch->conn = NULL;
		if (!was_ready)
			list_splice_back(&moved, &ch->waiting);
	}
	for (l = c->exchanges.next; l != &c->exchanges; l = next) {
		next = l->next;
		if (!list_entry(l, struct grpc_exchange, link)->started)
			list_move_back(&moved, l);
	}
	while (!list_empty(&moved))
		requeue(list_entry(list_first(&moved), struct grpc_exchange,
		    link));
	if (list_empty(&c->exchanges))
		grpc_conn_unused(c);
}

void
grpc_session_read(struct grpc_conn *c, struct buffer *in)
{
	struct grpc_channel *ch = c->channel;
	bool was_ready = c->ready, was_draining = c->draining;
	ssize_t n;

	n = nghttp2_session_mem_recv(c->session,
	    (const uint8_t *)buffer_head(in), buffer_len(in));
	if (n < 0) {
		broken(c, (int)n);
		return;
	}
	buffer_consume(in, buffer_len(in));
	grpc_conn_heard(c);
	if (c->draining && !was_draining)
		drain(c, was_ready);
	if (c->ready && !was_ready) {
		c->idle_since_us = loop_now_us(ch->loop);
		timer_cancel(ch->loop, &c->timer);
		grpc_conn_unused(c);
		if (!c->draining)
			grpc_session_start(c);
	}
	grpc_session_flush(c);
}

/* ---- the session ---- */

void
grpc_session_new(struct grpc_conn *c)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
		    (uint32_t)c->channel->stream_window },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADERS_MAX },
	};
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;
	bool ok;

	ok = nghttp2_session_callbacks_new(&cb) == 0 &&
	    nghttp2_option_new(&option) == 0;
	if (!ok)
		BUG("nghttp2: out of memory");
	grpc_set_callbacks(cb);
	nghttp2_option_set_no_auto_window_update(option, 1);
	ok = nghttp2_session_client_new2(&c->session, cb, c, option) == 0 &&
	    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
	    ARRAY_SIZE(settings)) == 0 &&
	    nghttp2_session_set_local_window_size(c->session,
	    NGHTTP2_FLAG_NONE, 0, GRPC_CONN_WINDOW) == 0;
	if (!ok)
		BUG("nghttp2: out of memory");
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(option);
}
