/*
 * nghttp2's callbacks: they take notes, no more.
 */
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

ssize_t
grpc_read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room,
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

void
grpc_set_callbacks(nghttp2_session_callbacks *cb)
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
