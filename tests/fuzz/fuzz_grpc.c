/*
 * grpc: a channel and four calls against a server that says anything.
 *
 * The input is a list of steps: well-formed frames, frames and bytes of any
 * kind, what owners do with calls, and time.  Connections are pairs of sockets,
 * the clock is virtual.  Beyond not crashing: what we send are frames; each
 * call is done exactly once, and silent when cancelled or paused; messages
 * keep to their bound; what was answered is told as it was said; and nothing
 * is left over.
 */
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/grpc_impl.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define CALLS		4
#define STEPS_MAX	400
#define TURNS_MAX	200
#define MESSAGE_MAX	((size_t)2000)
#define START_US	(1000 * USEC_PER_SEC)

struct one {
	struct grpc_call call;
	bool running, paused, opened;
	unsigned flags;			/* what its callbacks do */
};

static struct world {
	struct loop *loop;
	struct grpc_channel *ch;
	struct grpc_conn *conn;		/* that fd belongs to */
	int fd;
	struct buffer heard;
	bool greeted;
	bool in_owner;			/* a call of the owner's is under way */
	struct slice in;
	struct one one[CALLS];
} w;

/* ---- the input ---- */

static unsigned
take8(void)
{
	unsigned c;

	if (w.in.n == 0)
		return 0;
	c = (unsigned char)*w.in.p;
	w.in.p++;
	w.in.n--;
	return c;
}

static struct slice
take(size_t n)
{
	struct slice s = { w.in.p, MIN(n, w.in.n) };

	w.in.p += s.n;
	w.in.n -= s.n;
	return s;
}

/* ---- owners ---- */

static void
start(struct one *o)
{
	if (o->running)
		return;
	o->running = true;
	o->paused = o->opened = false;
	o->call.timeout_us = (o->flags & 16) != 0 ? 5 * USEC_PER_SEC : 0;
	grpc_call_start(w.ch, &o->call);
	BUG_ON(!grpc_call_busy(&o->call));
}

static void
cancel(struct one *o)
{
	grpc_call_cancel(&o->call);
	o->running = false;
	BUG_ON(grpc_call_busy(&o->call));
}

static void
add_metadata(struct grpc_call *call, struct grpc_metadata *m)
{
	(void)call;
	grpc_metadata_add(m, "authorization", SLICE("Bearer secret"));
	grpc_metadata_add(m, "x-trace-bin", SLICE("\0\1\2"));
}

static void
check_running(struct one *o)
{
	BUG_ON(w.in_owner || !o->running || !grpc_call_busy(&o->call));
}

static void
on_open(struct grpc_call *call)
{
	struct one *o = call->owner;

	check_running(o);
	BUG_ON(o->opened);
	o->opened = true;
	if ((o->flags & 1) != 0)
		cancel(o);
}

static void
on_message(struct grpc_call *call, struct slice m)
{
	struct one *o = call->owner;
	_cleanup_free_ char *copy = NULL;

	check_running(o);
	BUG_ON(!o->opened || o->paused || m.n > MESSAGE_MAX);
	if ((o->flags & 2) != 0) {
		o->paused = true;
		grpc_call_pause(call, true);
	}
	if ((o->flags & 4) != 0)
		cancel(o);
	copy = xmemdup(m.p, m.n);	/* valid to the end */
}

static void
on_done(struct grpc_call *call, const struct grpc_status *s,
    const struct error *err)
{
	struct one *o = call->owner;

	BUG_ON(w.in_owner || !o->running || grpc_call_busy(call));
	BUG_ON(s->code > 16 || (s->code == GRPC_OK) != (err == NULL));
	BUG_ON(err != NULL && (err->class == ERROR_NONE ||
	    err->code[0] == '\0'));
	BUG_ON(strlen(s->message) >= sizeof(s->message));
	BUG_ON(s->code == GRPC_OK && !s->from_server);
	BUG_ON(s->unseen && (o->opened || s->from_server));
	BUG_ON(s->details.n > GRPC_DETAILS_MAX);
	o->running = false;
	if ((o->flags & 8) != 0) {
		o->flags &= ~8u;
		start(o);
	}
}

/* ---- the server ---- */

static void
hear(void)
{
	static const char preface[] = NGHTTP2_CLIENT_MAGIC;
	size_t n_preface = sizeof(preface) - 1;
	char bytes[65536];
	ssize_t n;

	while (w.fd >= 0 && (n = recv(w.fd, bytes, sizeof(bytes),
	    MSG_DONTWAIT)) > 0)
		buffer_add(&w.heard, bytes, (size_t)n);
	if (!w.greeted && buffer_len(&w.heard) >= n_preface) {
		BUG_ON(memcmp(buffer_head(&w.heard), preface, n_preface) != 0);
		buffer_consume(&w.heard, n_preface);
		w.greeted = true;
	}
	while (w.greeted && buffer_len(&w.heard) >= 9) {
		const uint8_t *p = (const uint8_t *)buffer_head(&w.heard);
		size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

		BUG_ON(len > 16384 || p[3] > NGHTTP2_CONTINUATION ||
		    (p[5] & 0x80) != 0);
		if (buffer_len(&w.heard) < 9 + len)
			break;
		buffer_consume(&w.heard, 9 + len);
	}
}

static void
hang_up(void)
{
	hear();
	if (w.fd >= 0)
		(void)close(w.fd);
	w.fd = -1;
	w.conn = NULL;
}

/* A new connection of the channel's goes to a pair of sockets. */
static void
attach(void)
{
	struct grpc_conn *c = w.ch->conn;
	struct stream_params p = { .high_water = GRPC_WRITE_MARK };
	int fds[2];

	if (c == NULL || c == w.conn || c->stream.accepted)
		return;
	hang_up();
	buffer_clear(&w.heard);
	w.greeted = false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    fds) < 0)
		BUG("socketpair: %s", strerror(errno));
	w.fd = fds[1];
	w.conn = c;
	stream_close(&c->stream);
	stream_accept(&c->stream, w.loop, fds[0], &p);
}

static void
say(const void *p, size_t n)
{
	if (w.fd >= 0 && n != 0)
		(void)!send(w.fd, p, n, MSG_NOSIGNAL);
}

static void
say_frame(unsigned type, unsigned flags, uint32_t stream, struct slice s)
{
	char head[9] = { (char)(s.n >> 16), (char)(s.n >> 8), (char)s.n,
		(char)type, (char)flags, (char)(stream >> 24),
		(char)(stream >> 16), (char)(stream >> 8), (char)stream };

	say(head, sizeof(head));
	say(s.p, s.n);
}

/* Mostly that of a call. */
static uint32_t
take_stream(void)
{
	unsigned n = take8();

	if (n >= 0x80)
		return n - 0x80;
	return w.one[n % CALLS].call.exchange != NULL ?
	    (uint32_t)w.one[n % CALLS].call.exchange->stream_id : n;
}

static void
literal(struct buffer *b, const char *name, struct slice value)
{
	size_t n = MIN(value.n, (size_t)126);

	buffer_add_char(b, 0x10);	/* never indexed, new name */
	buffer_add_char(b, (char)strlen(name));
	buffer_add_str(b, name);
	buffer_add_char(b, (char)n);
	buffer_add(b, value.p, n);
}

static void
say_headers(unsigned how)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	uint32_t stream = take_stream();
	char status[4];

	if ((how & 1) != 0) {
		buffer_add_char(&b, (char)0x88);	/* :status 200 */
		literal(&b, "content-type", SLICE("application/grpc"));
	} else if ((how & 2) != 0) {
		literal(&b, ":status", take(3));
	}
	if ((how & 4) != 0) {
		size_t n = fmt_u64(status, take8() % 20);

		literal(&b, "grpc-status", (struct slice){ status, n });
	}
	if ((how & 8) != 0) {
		literal(&b, "grpc-message", take(take8() % 64));
		literal(&b, "grpc-status-details-bin", take(take8() % 64));
	}
	say_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS |
	    ((how & 16) != 0 ? NGHTTP2_FLAG_END_STREAM : 0), stream,
	    buffer_slice(&b));
}

static void
say_message(unsigned how)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	uint32_t stream = take_stream();
	unsigned n = take8();

	for (unsigned i = 0; i <= n % 4; i++)
		grpc_message_add(&b, take(n));
	if ((how & 1) != 0)		/* the end comes another time */
		b.end -= MIN(buffer_len(&b), (size_t)7);
	say_frame(NGHTTP2_DATA, (how & 2) != 0 ? NGHTTP2_FLAG_END_STREAM : 0,
	    stream, buffer_slice(&b));
}

static void
say_any_frame(void)
{
	unsigned type = take8() % 12, flags = take8();
	uint32_t stream = take_stream();

	say_frame(type, flags, stream, take(take8()));
}

static void
say_end(unsigned how)
{
	char p[8] = { 0 };

	p[3] = (char)take8();
	if ((how & 1) != 0)
		say_frame(NGHTTP2_RST_STREAM, 0, take_stream(),
		    (struct slice){ p, 4 });
	else {
		p[7] = (char)(take8() % 14);
		say_frame(NGHTTP2_GOAWAY, 0, 0, (struct slice){ p, 8 });
	}
}

/* ---- steps ---- */

static void
settle(void)
{
	for (int i = 0; i < TURNS_MAX; i++) {
		int ran;

		attach();
		ran = loop_turn(w.loop, 0);
		hear();
		if (ran <= 0)
			return;
	}
}

static void
own(unsigned what, struct one *o)
{
	static const char text[3000];

	w.in_owner = true;
	switch (what) {
	case 0:
		o->flags = take8();
		start(o);
		break;
	case 1:
		grpc_call_send(&o->call, take(take8()), false);
		break;
	case 2:
		grpc_call_send(&o->call, (struct slice){ text, sizeof(text) },
		    true);
		break;
	case 3:
		grpc_call_send_end(&o->call);
		break;
	case 4:
		o->paused = o->running && !o->paused;
		grpc_call_pause(&o->call, o->paused);
		break;
	case 5:
		cancel(o);
		break;
	}
	w.in_owner = false;
}

static void
step(void)
{
	static const uint64_t spans[] = { 1, 1000, 5 * USEC_PER_SEC,
		10 * USEC_PER_SEC, 30 * USEC_PER_SEC, 301 * USEC_PER_SEC };
	unsigned c = take8();

	if (c < 0x40) {
		say_headers(c);
	} else if (c < 0x50) {
		say_message(c);
	} else if (c < 0x60) {
		say_frame(NGHTTP2_SETTINGS, c & 1, 0, SLICE(""));
	} else if (c < 0x68) {
		say_end(c);
	} else if (c < 0x70) {
		struct slice s = take(take8());

		say(s.p, s.n);
	} else if (c < 0x80) {
		say_any_frame();
	} else if (c < 0xe0) {
		own((c >> 2) % 6, &w.one[c % CALLS]);
	} else if (c < 0xf0) {
		settle();
	} else if (c < 0xf8) {
		settle();
		clock_advance(spans[c % ARRAY_SIZE(spans)]);
		settle();
	} else {
		settle();
		hang_up();
	}
}

static void
nothing(void *owner, enum log_level level, const struct log_fields *fields,
    const char *text)
{
	(void)owner;
	(void)level;
	(void)fields;
	(void)text;
}

static void
begin(void)
{
	struct grpc_channel_params p = {
		.address = { .kind = ADDRESS_UNIX, .host = "/nowhere" },
		.max_message = MESSAGE_MAX,
		.stream_window = 65535,
	};
	struct error err;

	if (loop_new(&w.loop) < 0)
		BUG("no loop");
	w.fd = -1;
	w.ch = grpc_channel_new(w.loop, NULL, &p, &err);
	for (size_t i = 0; i < CALLS; i++)
		w.one[i].call = (struct grpc_call){
			.path = "/fuzz.Service/Method",
			.add_metadata = add_metadata,
			.on_open = on_open,
			.on_message = on_message,
			.on_done = on_done,
			.owner = &w.one[i],
		};
}

static void
finish(void)
{
	struct grpc_channel_stats stats;

	settle();
	for (size_t i = 0; i < CALLS; i++) {
		BUG_ON(w.one[i].running != grpc_call_busy(&w.one[i].call));
		cancel(&w.one[i]);
	}
	grpc_channel_get_stats(w.ch, &stats);
	BUG_ON(stats.open != 0);
	grpc_channel_free(w.ch);
	hang_up();
	buffer_done(&w.heard);
	loop_free(w.loop);
	clock_set_real();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	log_tap(nothing, NULL);
	log_tap_exclusive(true);
	clock_set_virtual(START_US, UINT64_C(1795449600) * USEC_PER_SEC);
	memset(&w, 0, sizeof(w));
	w.in = (struct slice){ (const char *)data, size };
	begin();
	for (int i = 0; i < STEPS_MAX && w.in.n != 0; i++)
		step();
	finish();
	return 0;
}
