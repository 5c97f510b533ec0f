/*
 * One connection: up, keep-alive, idle, down.
 */
#include "base/alloc.h"
#include "client/grpc_impl.h"

static const char *
peer(const struct grpc_conn *c)
{
	return c->channel->authority;
}

/* ---- down ---- */

void
grpc_conn_free(struct grpc_conn *c)
{
	struct grpc_channel *ch = c->channel;

	BUG_ON(!list_empty(&c->exchanges));
	if (ch->conn == c)
		ch->conn = NULL;
	list_remove(&c->link);
	timer_cancel(ch->loop, &c->timer);
	stream_done(&c->stream);
	nghttp2_session_del(c->session);
	free(c);
}

void
grpc_conn_end(struct grpc_conn *c, const struct error *err)
{
	struct grpc_channel *ch = c->channel;
	struct error copy = *err;	/* it may be the stream's own */

	while (!list_empty(&c->exchanges)) {
		struct grpc_exchange *ex = list_entry(
		    list_first(&c->exchanges), struct grpc_exchange, link);

		list_remove(&ex->link);
		ex->conn = NULL;
		ex->closed = true;
		grpc_exchange_fail(ex, c->said_goaway ? GRPC_INTERNAL :
		    GRPC_UNAVAILABLE, &copy, !ex->started);
	}
	if (ch->conn == c)
		while (!list_empty(&ch->waiting)) {
			struct grpc_exchange *ex = list_entry(
			    list_first(&ch->waiting), struct grpc_exchange,
			    link);

			list_remove(&ex->link);
			grpc_exchange_fail(ex, GRPC_UNAVAILABLE, &copy, true);
		}
	grpc_conn_free(c);
}

static bool
is_end(const struct error *err)
{
	return strcmp(err->code, "eof") == 0 ||
	    strcmp(err->code, "tls_eof") == 0 ||
	    strcmp(err->code, "tls_truncated") == 0;
}

/* What the stream says, in the client's words. */
static void
explain(const struct grpc_conn *c, const struct error *from,
    struct error *ret)
{
	*ret = *from;
	if (c->goaway_code != NGHTTP2_NO_ERROR)
		error_set(ret, ERROR_TRANSIENT, "goaway",
		    "%s ended the connection: %s%s%s", peer(c),
		    nghttp2_http2_strerror(c->goaway_code),
		    c->goaway_text[0] != '\0' ? ": " : "", c->goaway_text);
	else if (is_end(from))
		error_set(ret, ERROR_TRANSIENT, "eof", c->ready ?
		    "%s closed the connection" :
		    "%s closed the connection before it spoke HTTP/2",
		    peer(c));
	else if (strcmp(from->code, "resolve_timeout") == 0 ||
	    strcmp(from->code, "handshake_timeout") == 0)
		error_set(ret, ERROR_TRANSIENT, "connect_timeout", "%s",
		    from->text);
	else if (strcmp(from->code, "tls_alpn") == 0)
		error_set(ret, ERROR_PROTOCOL, "not_http2",
		    "%s does not speak HTTP/2 (ALPN h2)", peer(c));
}

static void
conn_down(struct stream *s, const struct error *from)
{
	struct grpc_conn *c = s->owner;
	struct error err;

	explain(c, from, &err);
	grpc_conn_end(c, &err);
}

/* ---- time ---- */

static uint64_t
next_due(const struct grpc_conn *c)
{
	const struct grpc_channel *ch = c->channel;

	if (list_empty(&c->exchanges))
		return sat_add(c->idle_since_us, ch->idle_timeout_us);
	if (c->ping_open)
		return sat_add(c->ping_us, ch->keepalive_timeout_us);
	return sat_add(MAX(c->stream.last_read_us, c->busy_since_us),
	    ch->keepalive_us);
}

static void
ping(struct grpc_conn *c)
{
	c->ping_open = true;
	c->ping_us = loop_now_us(c->channel->loop);
	c->channel->stats.pings++;
	(void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
	timer_arm_at(c->channel->loop, &c->timer, next_due(c));
	grpc_session_flush(c);
}

static void
on_timer(struct timer *t)
{
	struct grpc_conn *c = t->owner;
	struct error err;

	if (!c->ready) {
		error_set(&err, ERROR_TRANSIENT, "connect_timeout",
		    "no HTTP/2 connection to %s in time (%s)", peer(c),
		    c->stream.state == STREAM_UP ? "it says nothing" :
		    stream_state_name(c->stream.state));
		grpc_conn_end(c, &err);
		return;
	}
	/* It only ever moves later, so the timer looks again when it fires. */
	if (next_due(c) > loop_now_us(c->channel->loop)) {
		timer_arm_at(c->channel->loop, &c->timer, next_due(c));
		return;
	}
	if (list_empty(&c->exchanges)) {
		grpc_conn_free(c);
		return;
	}
	if (c->ping_open) {
		error_set(&err, ERROR_TRANSIENT, "keepalive_timeout",
		    "%s does not answer any more (PING)", peer(c));
		grpc_conn_end(c, &err);
		return;
	}
	ping(c);
}

/* Any byte answers a PING: it shows that the peer lives. */
void
grpc_conn_heard(struct grpc_conn *c)
{
	if (!c->ping_open)
		return;
	c->ping_open = false;
	timer_arm_at(c->channel->loop, &c->timer, next_due(c));
}

void
grpc_conn_busy(struct grpc_conn *c)
{
	c->busy_since_us = loop_now_us(c->channel->loop);
	if (!timer_armed(&c->timer) || timer_due_us(&c->timer) > next_due(c))
		timer_arm_at(c->channel->loop, &c->timer, next_due(c));
}

void
grpc_conn_unused(struct grpc_conn *c)
{
	c->idle_since_us = loop_now_us(c->channel->loop);
	if (!timer_armed(&c->timer))
		timer_arm_at(c->channel->loop, &c->timer, next_due(c));
}

/* ---- up ---- */

static void
conn_up(struct stream *s)
{
	grpc_session_flush(s->owner);	/* the preface and our SETTINGS */
}

static void
conn_data(struct stream *s, struct buffer *in)
{
	struct grpc_conn *c = s->owner;
	struct grpc_channel *ch = c->channel;

	grpc_session_read(c, in);
	grpc_tell(ch);
}

static void
conn_drained(struct stream *s)
{
	grpc_session_flush(s->owner);
}

static const struct stream_ops conn_ops = {
	.on_up = conn_up,
	.on_data = conn_data,
	.on_drained = conn_drained,
	.on_down = conn_down,
};

void
grpc_conn_open(struct grpc_channel *ch)
{
	struct stream_params p = {
		.tls = ch->tls,
		.tls_name = ch->tls_name,
		.connect_timeout_us = ch->connect_timeout_us,
		.handshake_timeout_us = ch->connect_timeout_us,
		.high_water = GRPC_WRITE_MARK,
	};
	struct grpc_conn *c;

	if (ch->conn != NULL)
		return;
	c = new0(struct grpc_conn);
	c->channel = ch;
	list_init(&c->exchanges);
	list_push_back(&ch->conns, &c->link);
	timer_init(&c->timer, "grpc.conn", on_timer, c);
	timer_arm(ch->loop, &c->timer, ch->connect_timeout_us);
	stream_init(&c->stream, "grpc", &conn_ops, c);
	grpc_session_new(c);
	ch->conn = c;
	ch->stats.connects++;
	stream_connect(&c->stream, ch->loop, ch->resolver, &ch->address, &p);
}
