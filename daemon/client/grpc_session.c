/*
 * nghttp2 as a codec: what comes from the stream goes in, what it wants to say
 * goes out, and its callbacks take notes.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "client/grpc_impl.h"

static struct grpc_exchange *
find(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static struct slice
rc_slice(nghttp2_rcbuf *b)
{
	nghttp2_vec v = nghttp2_rcbuf_get_buf(b);

	return (struct slice){ (const char *)v.base, v.len };
}

/* ---- what comes ---- */

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
	struct grpc_exchange *ex = find(session, f->hd.stream_id);

	(void)user;
	if (ex != NULL && !ex->ended)
		grpc_answer_begin(&ex->answer);
	return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *f,
    nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user)
{
	struct grpc_exchange *ex = find(session, f->hd.stream_id);
	struct error err;

	(void)flags;
	(void)user;
	if (ex == NULL || ex->ended)
		return 0;
	if (grpc_answer_header(&ex->answer, rc_slice(name),
	    rc_slice(value)) == 0)
		return 0;
	error_set(&err, ERROR_PROTOCOL, "http2_error",
	    "the answer has over %zu bytes of headers", GRPC_HEADERS_MAX);
	grpc_exchange_fail(ex, GRPC_INTERNAL, &err, false);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;	/* a reset */
}

/* The server has said all; our side may still be open. */
static void
ended_by_server(struct grpc_exchange *ex)
{
	static const struct grpc_end by_answer;

	if (ex->ended)
		return;
	ex->ended_by_server = true;
	grpc_exchange_end(ex, &by_answer);
	if (!ex->last_sent && !ex->closed) {
		(void)nghttp2_submit_rst_stream(ex->conn->session,
		    NGHTTP2_FLAG_NONE, ex->stream_id, NGHTTP2_NO_ERROR);
		ex->closed = true;
	}
}

static void
on_headers(struct grpc_exchange *ex, const nghttp2_frame *f)
{
	struct grpc_answer *a = &ex->answer;
	struct grpc_end end;
	bool last = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

	if (ex->ended || (a->http_status >= 100 && a->http_status < 200))
		return;
	if (last) {
		ended_by_server(ex);
		return;
	}
	a->have_status = false;		/* its place is in the last block */
	if (a->final_head)
		return;
	a->final_head = true;
	if (!grpc_answer_refused(a)) {
		ex->opened = true;
		grpc_ready(ex);
		return;
	}
	grpc_answer_end(a, false, &end);
	grpc_exchange_end(ex, &end);
	grpc_session_reset(ex, NGHTTP2_CANCEL);
}

static void
on_goaway(struct grpc_conn *c, const nghttp2_goaway *g)
{
	struct slice text = { (const char *)g->opaque_data,
		g->opaque_data_len };
	uint64_t now = c->channel->keepalive_us;

	c->draining = true;
	c->goaway_code = g->error_code;
	(void)grpc_percent_decode(text, c->goaway_text,
	    sizeof(c->goaway_text));
	/* As the specification of keep-alive wants it. */
	if (g->error_code == NGHTTP2_ENHANCE_YOUR_CALM &&
	    slice_is(text, "too_many_pings"))
		c->channel->keepalive_us = sat_add(now, now);
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
	struct grpc_conn *c = user;
	struct grpc_exchange *ex;

	switch (f->hd.type) {
	case NGHTTP2_SETTINGS:
		if ((f->hd.flags & NGHTTP2_FLAG_ACK) == 0)
			c->ready = true;
		break;
	case NGHTTP2_GOAWAY:
		on_goaway(c, &f->goaway);
		break;
	case NGHTTP2_HEADERS:
		if ((ex = find(session, f->hd.stream_id)) != NULL)
			on_headers(ex, f);
		break;
	case NGHTTP2_RST_STREAM:
		if ((ex = find(session, f->hd.stream_id)) != NULL)
			ex->reset_by_server = true;
		break;
	case NGHTTP2_DATA:
		if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
		    (ex = find(session, f->hd.stream_id)) != NULL)
			ended_by_server(ex);
		break;
	default:
		break;
	}
	return 0;
}

/* The connection's window is given back at once: a call that is paused must
   not starve the others.  Its own window bounds what it can pile up. */
static int
on_data(nghttp2_session *session, uint8_t flags, int32_t id,
    const uint8_t *data, size_t n, void *user)
{
	struct grpc_exchange *ex = find(session, id);

	(void)flags;
	(void)user;
	(void)nghttp2_session_consume_connection(session, n);
	if (ex == NULL || ex->ended)
		return 0;
	buffer_add(&ex->in, data, n);
	ex->held += n;
	grpc_ready(ex);
	return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t id, uint32_t error,
    void *user)
{
	struct grpc_conn *c = user;
	struct grpc_exchange *ex = find(session, id);
	struct grpc_end end;

	if (ex == NULL)
		return 0;
	ex->closed = true;
	if (ex->ended)
		return 0;
	grpc_end_of_rst(error, &end);
	end.unseen |= !ex->started;
	if (!ex->reset_by_server)
		error_set(&end.err, ERROR_PROTOCOL, "http2_error",
		    "the answer broke the rules of HTTP/2: %s",
		    nghttp2_http2_strerror(error));
	if (c->draining && error == NGHTTP2_REFUSED_STREAM)
		error_set(&end.err, ERROR_TRANSIENT, "goaway",
		    "%s ended the connection before it saw the call",
		    c->channel->authority);
	grpc_exchange_end(ex, &end);
	return 0;
}

/* ---- what goes ---- */

static int
on_sent(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
	struct grpc_conn *c = user;
	struct grpc_exchange *ex;

	if (f->hd.type == NGHTTP2_GOAWAY &&
	    f->goaway.error_code != NGHTTP2_NO_ERROR)
		c->said_goaway = true;
	if (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA)
		return 0;
	if ((ex = find(session, f->hd.stream_id)) != NULL) {
		ex->started = true;
		ex->last_sent |=
		    (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	}
	return 0;
}

static ssize_t
read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct grpc_exchange *ex = find(session, id);
	size_t n;

	(void)source;
	(void)user;
	if (ex == NULL || ex->ended)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = MIN(buffer_len(&ex->out), room);
	if (n == 0 && !ex->last) {
		ex->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n != 0)
		memcpy(to, buffer_head(&ex->out), n);
	buffer_consume(&ex->out, n);
	if (buffer_len(&ex->out) != 0)
		return (ssize_t)n;
	if (ex->last)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (ex->over_high_water) {
		ex->over_high_water = false;
		ex->drained = true;
		grpc_ready(ex);
	}
	return (ssize_t)n;
}

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
	nghttp2_data_provider body = { .read_callback = read_body };
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

static void
set_callbacks(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb,
	    on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb,
	    on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
}

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
	set_callbacks(cb);
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
