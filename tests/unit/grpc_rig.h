/*
 * grpc_rig.h - the gRPC client against a scripted HTTP/2 server on one loop.
 *
 * The server is nghttp2's own server side.  What it does with a call is in the
 * call's path ("/rst/8", "/stream/100/2000"); see server_act().  The rig fails
 * the test when a descriptor, a timer or a task is left over.
 */
#ifndef BOT_TESTS_GRPC_RIG_H
#define BOT_TESTS_GRPC_RIG_H

#include "tls_rig.h"

#include <nghttp2/nghttp2.h>

#include "client/grpc.h"
#include "codec/base64.h"

#define PEERS_MAX	8

struct gweb;

struct gpeer {
	struct stream s;
	struct gweb *web;
	nghttp2_session *session;
	struct list streams;
	unsigned pings, goaways_got;
	bool deaf;			/* what comes is not read any more */
};

struct gstream {
	struct list link;
	struct gpeer *peer;
	int32_t id;
	char path[200];
	char timeout[32], authorization[64], te[16], type[32], agent[64],
	    authority[64], extra_bin[64];
	struct buffer in, out;
	uint32_t reset;			/* code + 1, by the client */
	bool in_ended;
	bool body_submitted, deferred, end, no_trailers;
	unsigned code;			/* for the trailers */
	unsigned nmessages;
};

/* Not "struct rig": that one is net_rig.h's. RUN_UNTIL works with both. */
struct gweb {
	struct loop *loop;
	struct resolver *resolver;
	struct listener listener;
	struct tls_context *tls;
	struct gpeer peers[PEERS_MAX];
	unsigned accepted, calls;
	const char *raw;		/* said instead of HTTP/2 */
	bool raw_close, mute;		/* mute: accepts, says nothing */
	bool no_pong, hold_window;
	uint32_t max_streams, window;	/* of the SETTINGS; 0: default */
	int32_t goaway_first;		/* > 0: GOAWAY with the SETTINGS */
	struct gstream last;		/* copy of the latest call's headers */
	uint32_t last_reset;
	struct grpc_channel *ch;
	int fds_before;
};

/* ---- the server: what it says ---- */

static inline void
peer_flush(struct gpeer *p)
{
	const uint8_t *data;
	ssize_t n;

	while (p->session != NULL && stream_pending(&p->s) < 4 * MIB &&
	    (n = nghttp2_session_mem_send(p->session, &data)) > 0)
		stream_write(&p->s, data, (size_t)n);
}

static inline nghttp2_nv
nv_of(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)(uintptr_t)name,
		(uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
		NGHTTP2_NV_FLAG_NONE };
}

static inline const char *
decimal(char out[12], unsigned n)
{
	snprintf(out, 12, "%u", n);
	return out;
}

static inline ssize_t
server_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t room,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct gstream *st = source->ptr;
	size_t n = MIN(room, buffer_len(&st->out));
	char code[12];

	(void)user;
	if (n == 0 && !st->end) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n != 0)
		memcpy(to, buffer_head(&st->out), n);
	buffer_consume(&st->out, n);
	if (st->end && buffer_len(&st->out) == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (!st->no_trailers) {
			nghttp2_nv nv[] = { nv_of("grpc-status",
				decimal(code, st->code)),
				nv_of("grpc-message", "all%20well") };

			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			assert_int_equal(nghttp2_submit_trailer(session, id,
			    nv, ARRAY_SIZE(nv)), 0);
		}
	}
	return (ssize_t)n;
}

static inline void
server_open(struct gstream *st)
{
	nghttp2_nv nv[] = { nv_of(":status", "200"),
		nv_of("content-type", "application/grpc+proto") };
	nghttp2_data_provider body = { .source.ptr = st,
		.read_callback = server_read };

	if (st->body_submitted)
		return;
	st->body_submitted = true;
	assert_int_equal(nghttp2_submit_response(st->peer->session, st->id, nv,
	    ARRAY_SIZE(nv), &body), 0);
}

static inline void
server_resume(struct gstream *st)
{
	if (st->deferred) {
		st->deferred = false;
		(void)nghttp2_session_resume_data(st->peer->session, st->id);
	}
	peer_flush(st->peer);
}

static inline void
server_say(struct gstream *st, struct slice message)
{
	server_open(st);
	grpc_message_add(&st->out, message);
	server_resume(st);
}

static inline void
server_raw(struct gstream *st, const void *p, size_t n)
{
	server_open(st);
	buffer_add(&st->out, p, n);
	server_resume(st);
}

static inline void
server_finish(struct gstream *st, unsigned code)
{
	server_open(st);
	st->end = true;
	st->code = code;
	server_resume(st);
}

/* Headers only, with END_STREAM. */
static inline void
server_headers(struct gstream *st, const nghttp2_nv *nv, size_t n)
{
	assert_int_equal(nghttp2_submit_response(st->peer->session, st->id, nv,
	    n, NULL), 0);
}

static inline void
server_trailers_only(struct gstream *st, unsigned code)
{
	char text[12];
	nghttp2_nv nv[] = { nv_of(":status", "200"),
		nv_of("content-type", "application/grpc"),
		nv_of("grpc-status", decimal(text, code)),
		nv_of("grpc-message", "no %F0%9F%90%87%25 here%0a"),
		nv_of("grpc-status-details-bin", "CAUSAm5v") };

	server_headers(st, nv, ARRAY_SIZE(nv));
}

static inline void
server_http(struct gstream *st, const char *status, const char *type)
{
	nghttp2_nv nv[] = { nv_of(":status", status),
		nv_of("content-type", type) };

	server_headers(st, nv, ARRAY_SIZE(nv));
}

static inline void
server_huge_headers(struct gstream *st)
{
	char value[4000];
	nghttp2_nv nv[22];

	memset(value, 'x', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	nv[0] = nv_of(":status", "200");
	for (size_t i = 1; i < ARRAY_SIZE(nv); i++)
		nv[i] = nv_of("x-filler", value);
	server_headers(st, nv, ARRAY_SIZE(nv));
}

static inline void
server_stream(struct gstream *st, unsigned n, unsigned size)
{
	char *text = xcalloc(1, size);

	for (unsigned i = 0; i < n; i++) {
		memset(text, (int)('a' + i % 26), size);
		grpc_message_add(&st->out, (struct slice){ text, size });
	}
	free(text);
	server_finish(st, 0);
}

static inline void
server_goaway(struct gpeer *p, int32_t last, uint32_t code, const char *text)
{
	assert_int_equal(nghttp2_submit_goaway(p->session, NGHTTP2_FLAG_NONE,
	    last, code, (const uint8_t *)text, strlen(text)), 0);
	peer_flush(p);
}

static inline bool
path_is(const struct gstream *st, const char *prefix)
{
	return strncmp(st->path, prefix, strlen(prefix)) == 0;
}

/* When the headers of a call have come. */
static inline void
server_act(struct gstream *st)
{
	unsigned a = 0, b = 0;
	nghttp2_session *session = st->peer->session;
	nghttp2_nv early = nv_of(":status", "103");

	(void)sscanf(st->path, "/%*[^/]/%u/%u", &a, &b);
	if (path_is(st, "/hold"))
		server_open(st);
	else if (path_is(st, "/trailers-only"))
		server_trailers_only(st, a);
	else if (path_is(st, "/rst-after")) {
		server_say(st, SLICE("one"));
		(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
		    st->id, a);
	} else if (path_is(st, "/rst"))
		(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
		    st->id, a);
	else if (path_is(st, "/http/"))
		server_http(st, st->path + 6, "text/plain");
	else if (path_is(st, "/html"))
		server_http(st, "200", "text/html");
	else if (path_is(st, "/grpcish"))
		server_http(st, "200", "application/grpcish");
	else if (path_is(st, "/missing")) {
		st->no_trailers = true;
		grpc_message_add(&st->out, SLICE("lonely"));
		server_finish(st, 0);
	} else if (path_is(st, "/compressed"))
		server_raw(st, "\1\0\0\0\1x", 6);
	else if (path_is(st, "/bad-flag"))
		server_raw(st, "\7\0\0\0\1x", 6);
	else if (path_is(st, "/partial")) {
		buffer_add(&st->out, "\0\0\0\0\5abc", 8);
		server_finish(st, 0);
	} else if (path_is(st, "/too-large")) {
		char head[5] = { 0, (char)(a >> 24), (char)(a >> 16),
			(char)(a >> 8), (char)a };

		server_raw(st, head, 5);
	} else if (path_is(st, "/huge-headers"))
		server_huge_headers(st);
	else if (path_is(st, "/stream"))
		server_stream(st, a, b);
	else if (path_is(st, "/early")) {
		(void)nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE,
		    st->id, NULL, &early, 1, NULL);
		server_say(st, SLICE("late"));
		server_finish(st, 0);
	} else if (path_is(st, "/half"))
		server_finish(st, 0);	/* without waiting for our end */
}

/* ---- the server: what it hears ---- */

static inline int
srv_begin(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
	struct gpeer *p = user;
	struct gstream *st;

	if (f->hd.type != NGHTTP2_HEADERS ||
	    f->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	st = new0(struct gstream);
	st->peer = p;
	st->id = f->hd.stream_id;
	buffer_init(&st->in);
	buffer_init(&st->out);
	list_push_back(&p->streams, &st->link);
	return nghttp2_session_set_stream_user_data(session, st->id, st);
}

static inline void
note(char *to, size_t size, const uint8_t *p, size_t n)
{
	snprintf(to, size, "%.*s", (int)n, (const char *)p);
}

static inline int
srv_header(nghttp2_session *session, const nghttp2_frame *f,
    const uint8_t *name, size_t nname, const uint8_t *value, size_t nvalue,
    uint8_t flags, void *user)
{
	struct gstream *st = nghttp2_session_get_stream_user_data(session,
	    f->hd.stream_id);
	struct slice s = { (const char *)name, nname };

	(void)flags;
	(void)user;
	if (slice_is(s, ":path"))
		note(st->path, sizeof(st->path), value, nvalue);
	else if (slice_is(s, "grpc-timeout"))
		note(st->timeout, sizeof(st->timeout), value, nvalue);
	else if (slice_is(s, "authorization"))
		note(st->authorization, sizeof(st->authorization), value,
		    nvalue);
	else if (slice_is(s, "te"))
		note(st->te, sizeof(st->te), value, nvalue);
	else if (slice_is(s, "content-type"))
		note(st->type, sizeof(st->type), value, nvalue);
	else if (slice_is(s, "user-agent"))
		note(st->agent, sizeof(st->agent), value, nvalue);
	else if (slice_is(s, ":authority"))
		note(st->authority, sizeof(st->authority), value, nvalue);
	else if (slice_is(s, "x-extra-bin"))
		note(st->extra_bin, sizeof(st->extra_bin), value, nvalue);
	return 0;
}

static inline void
server_messages(struct gstream *st)
{
	struct slice m;
	struct error err;
	ssize_t n;

	while ((n = grpc_message(buffer_slice(&st->in), SIZE_MAX / 4, &m,
	    &err)) > 0) {
		st->nmessages++;
		if (path_is(st, "/echo") || path_is(st, "/unary"))
			server_say(st, m);
		buffer_consume(&st->in, (size_t)n);
	}
	assert_true(n == 0);
	if (st->in_ended && (path_is(st, "/echo") || path_is(st, "/unary")))
		server_finish(st, 0);
}

static inline int
srv_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
	struct gpeer *p = user;
	struct gstream *st = f->hd.stream_id > 0 ?
	    nghttp2_session_get_stream_user_data(session, f->hd.stream_id) :
	    NULL;

	p->pings += f->hd.type == NGHTTP2_PING;
	if (f->hd.type == NGHTTP2_RST_STREAM)
		p->web->last_reset = f->rst_stream.error_code + 1;
	if (st == NULL)
		return 0;
	if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		st->in_ended = true;
	if (f->hd.type == NGHTTP2_HEADERS) {
		p->web->calls++;
		p->web->last = *st;
		server_act(st);
	}
	if (f->hd.type == NGHTTP2_DATA)
		server_messages(st);
	return 0;
}

static inline int
srv_data(nghttp2_session *session, uint8_t flags, int32_t id,
    const uint8_t *data, size_t n, void *user)
{
	struct gstream *st = nghttp2_session_get_stream_user_data(session, id);

	(void)flags;
	(void)user;
	buffer_add(&st->in, data, n);
	return 0;
}

static inline void
gstream_free(struct gstream *st)
{
	list_remove(&st->link);
	buffer_done(&st->in);
	buffer_done(&st->out);
	free(st);
}

static inline int
srv_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct gstream *st = nghttp2_session_get_stream_user_data(session, id);

	(void)code;
	(void)user;
	if (st != NULL)
		gstream_free(st);
	return 0;
}

static inline void
peer_session(struct gpeer *p)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;
	nghttp2_settings_entry entry[2];
	size_t n = 0;

	assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
	assert_int_equal(nghttp2_option_new(&option), 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, srv_begin);
	nghttp2_session_callbacks_set_on_header_callback(cb, srv_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, srv_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb,
	    srv_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, srv_close);
	nghttp2_option_set_no_auto_ping_ack(option, p->web->no_pong);
	nghttp2_option_set_no_auto_window_update(option, p->web->hold_window);
	nghttp2_option_set_max_send_header_block_length(option, MIB);
	assert_int_equal(nghttp2_session_server_new2(&p->session, cb, p,
	    option), 0);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(option);
	if (p->web->max_streams != 0)
		entry[n++] = (nghttp2_settings_entry){
			NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
			p->web->max_streams };
	if (p->web->window != 0)
		entry[n++] = (nghttp2_settings_entry){
			NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, p->web->window };
	assert_int_equal(nghttp2_submit_settings(p->session,
	    NGHTTP2_FLAG_NONE, entry, n), 0);
	if (p->web->goaway_first > 0)
		server_goaway(p, 0, NGHTTP2_NO_ERROR, "");
}

static inline void
peer_drop(struct gpeer *p)
{
	while (!list_empty(&p->streams))
		gstream_free(list_entry(list_first(&p->streams),
		    struct gstream, link));
	nghttp2_session_del(p->session);
	p->session = NULL;
}

static inline void
peer_on_up(struct stream *s)
{
	struct gpeer *p = s->owner;

	if (p->web->mute || p->web->raw != NULL)
		return;
	peer_session(p);
	peer_flush(p);
}

static inline void
peer_on_data(struct stream *s, struct buffer *in)
{
	struct gpeer *p = s->owner;

	if (p->web->raw != NULL) {
		stream_write(s, p->web->raw, strlen(p->web->raw));
		buffer_clear(in);
		if (p->web->raw_close)
			stream_close_flushed(s);
		return;
	}
	if (p->session != NULL && !p->deaf) {
		ssize_t n = nghttp2_session_mem_recv(p->session,
		    (const uint8_t *)buffer_head(in), buffer_len(in));

		if (n < 0)
			fail_msg("the client sent no HTTP/2: %s",
			    nghttp2_strerror((int)n));
	}
	buffer_clear(in);
	peer_flush(p);
}

static inline void
peer_on_drained(struct stream *s)
{
	peer_flush(s->owner);
}

static inline void
peer_on_down(struct stream *s, const struct error *err)
{
	(void)err;
	peer_drop(s->owner);
}

static const struct stream_ops peer_ops = {
	.on_up = peer_on_up,
	.on_data = peer_on_data,
	.on_drained = peer_on_drained,
	.on_down = peer_on_down,
};

static inline void
gweb_on_accept(struct listener *l, int fd, const struct sockaddr *from)
{
	struct gweb *w = l->owner;
	struct gpeer *p = &w->peers[w->accepted++ % PEERS_MAX];
	struct stream_params params = { .tls = w->tls };

	(void)from;
	if (p->s.state != STREAM_IDLE)
		fail_msg("too many connections at once for the rig");
	p->pings = 0;
	p->deaf = false;
	stream_accept(&p->s, w->loop, fd, &params);
}

/* The latest connection. */
static inline struct gpeer *
gweb_peer(struct gweb *w)
{
	return &w->peers[(w->accepted - 1) % PEERS_MAX];
}

/* The server's side of the only or latest call on the latest connection. */
static inline struct gstream *
gweb_stream(struct gweb *w)
{
	struct gpeer *p = gweb_peer(w);

	assert_false(list_empty(&p->streams));
	return list_entry(p->streams.prev, struct gstream, link);
}

static inline void
peer_hang_up(struct gpeer *p)
{
	stream_close(&p->s);
	peer_drop(p);
}

static inline unsigned
gweb_open(const struct gweb *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PEERS_MAX; i++)
		n += w->peers[i].s.state != STREAM_IDLE;
	return n;
}

/* ---- the client ---- */

struct gcall;
typedef void gcall_hook(struct gcall *);

struct gcall {
	struct grpc_call call;
	struct gweb *web;
	int opened, messages, drained, done;
	size_t bytes;
	struct buffer last;		/* the latest message */
	struct grpc_status status;
	struct buffer details;
	struct error err;
	bool inside;			/* a call of ours is under way */
	const char *token;
	int metadata_asked;
	gcall_hook *on_open, *on_message, *on_done;
};

static inline void
gcall_metadata(struct grpc_call *call, struct grpc_metadata *m)
{
	struct gcall *c = call->owner;

	c->metadata_asked++;
	if (c->token != NULL) {
		grpc_metadata_add(m, "authorization", slice_of(c->token));
		grpc_metadata_add(m, "x-extra-bin", SLICE("\1\2"));
		grpc_metadata_add(m, "x-bad", SLICE("a\nb"));
	}
}

static inline void
gcall_on_open(struct grpc_call *call)
{
	struct gcall *c = call->owner;

	assert_false(c->inside);
	assert_int_equal(c->messages, 0);
	c->opened++;
	if (c->on_open != NULL)
		c->on_open(c);
}

static inline void
gcall_on_message(struct grpc_call *call, struct slice m)
{
	struct gcall *c = call->owner;

	assert_false(c->inside);
	assert_int_equal(c->opened, 1);
	assert_true(grpc_call_busy(call));
	c->messages++;
	c->bytes += m.n;
	buffer_clear(&c->last);
	buffer_add_slice(&c->last, m);
	if (c->on_message != NULL) {
		char first = m.n != 0 ? m.p[0] : 0;

		c->on_message(c);
		/* Valid to the end of the callback, whatever it did. */
		assert_true(m.n == 0 || m.p[0] == first);
	}
}

static inline void
gcall_on_drained(struct grpc_call *call)
{
	struct gcall *c = call->owner;

	assert_false(c->inside);
	c->drained++;
}

static inline void
gcall_on_done(struct grpc_call *call, const struct grpc_status *status,
    const struct error *err)
{
	struct gcall *c = call->owner;

	assert_false(c->inside);
	assert_false(grpc_call_busy(call));
	assert_true((status->code == GRPC_OK) == (err == NULL));
	c->done++;
	c->status = *status;
	buffer_clear(&c->details);
	buffer_add_slice(&c->details, status->details);
	error_clear(&c->err);
	if (err != NULL) {
		assert_true(error_is_set(err));
		c->err = *err;
	}
	if (c->on_done != NULL)
		c->on_done(c);
}

static inline void
gcall_init(struct gcall *c, struct gweb *w, const char *path)
{
	*c = (struct gcall){ .web = w, .call = {
		.path = path,
		.add_metadata = gcall_metadata,
		.on_open = gcall_on_open,
		.on_message = gcall_on_message,
		.on_drained = gcall_on_drained,
		.on_done = gcall_on_done,
		.owner = c,
	} };
	buffer_init(&c->last);
	buffer_init(&c->details);
}

static inline void
gcall_free(struct gcall *c)
{
	grpc_call_cancel(&c->call);
	buffer_done(&c->last);
	buffer_done(&c->details);
}

static inline void
gcall_start(struct gcall *c)
{
	c->opened = c->messages = 0;
	c->bytes = 0;
	c->inside = true;
	grpc_call_start(c->web->ch, &c->call);
	c->inside = false;
	assert_true(grpc_call_busy(&c->call));
}

static inline void
gcall_send(struct gcall *c, const char *text, bool last)
{
	c->inside = true;
	grpc_call_send(&c->call, slice_of(text), last);
	c->inside = false;
}

/* Starts, sends one message, waits for the end. */
static inline void
gcall_run(struct gcall *c, const char *text)
{
	int before = c->done;

	gcall_start(c);
	gcall_send(c, text, true);
	RUN_UNTIL(c->web, c->done == before + 1);
}

static inline void
assert_ok(const struct gcall *c)
{
	if (c->status.code != GRPC_OK)
		fail_msg("%s: %s: %s", grpc_code_name(c->status.code),
		    c->err.code, c->err.text);
}

static inline void
assert_ended(const struct gcall *c, unsigned code, enum error_class class,
    const char *name)
{
	if (c->status.code != code || strcmp(c->err.code, name) != 0 ||
	    c->err.class != class)
		fail_msg("%s, %s %s (%s), not %s, %s %s",
		    grpc_code_name(c->status.code),
		    error_class_name(c->err.class), c->err.code, c->err.text,
		    grpc_code_name(code), error_class_name(class), name);
}

static inline void
gweb_channel(struct gweb *w, const struct grpc_channel_params *params)
{
	struct grpc_channel_params p = { 0 };
	struct error err = ERROR_INIT;

	if (params != NULL)
		p = *params;
	if (p.address.kind == ADDRESS_INVALID)
		p.address = w->listener.bound;
	grpc_channel_free(w->ch);
	w->ch = grpc_channel_new(w->loop, w->resolver, &p, &err);
	if (w->ch == NULL)
		fail_msg("%s", err.text);
}

static inline struct grpc_channel_stats
gweb_stats(const struct gweb *w)
{
	struct grpc_channel_stats s;

	grpc_channel_get_stats(w->ch, &s);
	return s;
}

/* ---- the rig ---- */

static inline int
gweb_set_up(void **state)
{
	struct gweb *w = new0(struct gweb);
	struct error err = ERROR_INIT;
	struct address a = parse("127.0.0.1:0");

	w->fds_before = count_fds();
	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(resolver_new(w->loop, &w->resolver), 0);
	listener_init(&w->listener, "listener", gweb_on_accept, w);
	assert_int_equal(listener_start(&w->listener, w->loop, &a, 0, &err), 0);
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		w->peers[i].web = w;
		list_init(&w->peers[i].streams);
		stream_init(&w->peers[i].s, "peer", &peer_ops, &w->peers[i]);
	}
	gweb_channel(w, NULL);
	*state = w;
	return 0;
}

static inline int
gweb_tear_down(void **state)
{
	struct gweb *w = *state;

	grpc_channel_free(w->ch);
	listener_stop(&w->listener);
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		stream_done(&w->peers[i].s);
		peer_drop(&w->peers[i]);
	}
	tls_context_unref(w->tls);
	resolver_free(w->resolver);
	loop_free(w->loop);
	if (count_fds() != w->fds_before)
		fail_msg("descriptors left over: %d before, %d now",
		    w->fds_before, count_fds());
	free(w);
	return 0;
}

#define gweb_test(f) \
	cmocka_unit_test_setup_teardown(f, gweb_set_up, gweb_tear_down)

#endif
