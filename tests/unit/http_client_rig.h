/*
 * http_client_rig.h - the HTTP client against a scripted server on one loop.
 *
 * The server takes any number of connections.  To each complete request it
 * says the next line of the script (or "ok" when that is used up).  A line may
 * begin with
 *	"!"	hang up after it
 *	"-"	say nothing, keep the connection
 *	"T"	say it, then TLS (a proxy that lets CONNECT through)
 * The rig fails the test when a descriptor, a timer or a task is left over.
 */
#ifndef BOT_TESTS_HTTP_CLIENT_RIG_H
#define BOT_TESTS_HTTP_CLIENT_RIG_H

#include "tls_rig.h"

#include "base/random.h"
#include "client/http.h"

#define OK_ANSWER	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define PEERS_MAX	16
#define SCRIPT_MAX	32

struct peer {
	struct stream s;
	struct web *web;
	unsigned requests;
	bool resumed;
};

struct call;
typedef void call_hook(struct call *);

struct call {
	struct http_request req;
	struct web *web;
	int done;
	unsigned status;
	struct error err;
	struct buffer body, header;	/* header: X-Test of the answer */
	uint64_t retry_after_us, date_us;
	const char *more_headers;
	int headers_asked;
	call_hook *on_done;
	bool inside;			/* http_send() is under way */
	unsigned order;			/* the how-manieth to be done */
};

/* Not "struct rig": that one is net_rig.h's. RUN_UNTIL works with both. */
struct web {
	struct loop *loop;
	struct resolver *resolver;
	struct listener listener;
	struct tls_context *tls;	/* the server's, from the start */
	struct tls_context *tunnel_tls;	/* after "T" */
	struct peer peers[PEERS_MAX];
	unsigned accepted, requests;
	const char *script[SCRIPT_MAX];
	unsigned nscript, next;
	struct buffer last;		/* the last request, whole */
	struct buffer all;		/* each of them, in order */
	struct http_client *hc;
	unsigned ndone;
	int fds_before;
	char url[8][160];
	unsigned nurl;
};

static inline void
web_script(struct web *w, const char *line)
{
	assert_true(w->nscript < SCRIPT_MAX);
	w->script[w->nscript++] = line;
}

/* ---- the server ---- */

static inline void
peer_follow_script(struct peer *p)
{
	struct web *w = p->web;
	const char *line = w->next < w->nscript ? w->script[w->next++] :
	    OK_ANSWER;
	char how = *line;

	if (how == '!' || how == '-' || how == 'T')
		line++;
	else
		how = ' ';
	stream_write(&p->s, line, strlen(line));
	if (how == '!')
		stream_close_flushed(&p->s);
}

static inline void
peer_on_data(struct stream *s, struct buffer *in)
{
	struct peer *p = s->owner;
	struct web *w = p->web;
	struct http1_head h;
	struct error err;
	ssize_t n = http1_parse_request(buffer_slice(in), &h, &err);
	size_t whole;

	if (n < 0)
		fail_msg("the client sent no request: %s: %.*s", err.text,
		    (int)buffer_len(in), buffer_head(in));
	whole = (size_t)n + h.content_length;
	if (n == 0 || buffer_len(in) < whole)
		return;
	buffer_clear(&w->last);
	buffer_add(&w->last, buffer_head(in), whole);
	buffer_add(&w->all, buffer_head(in), whole);
	buffer_consume(in, whole);
	w->requests++;
	p->requests++;
	peer_follow_script(p);
}

/* The tunnel begins when its answer has left. */
static inline void
web_start_tunnels(struct web *w)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *p = &w->peers[i];

		if (w->tunnel_tls != NULL && p->requests == 1 &&
		    stream_is_up(&p->s) && stream_pending(&p->s) == 0 &&
		    p->s.tls_context == NULL && w->next != 0 &&
		    w->script[w->next - 1][0] == 'T')
			stream_start_tls(&p->s, w->tunnel_tls, "", 0);
	}
}

static inline void
peer_on_up(struct stream *s)
{
	struct peer *p = s->owner;

	if (s->tls != NULL)
		p->resumed = tls_session_resumed(s->tls);
}

static inline void
peer_on_down(struct stream *s, const struct error *err)
{
	(void)s;
	(void)err;
}

static const struct stream_ops peer_ops = {
	.on_up = peer_on_up,
	.on_data = peer_on_data,
	.on_down = peer_on_down,
};

static inline void
web_on_accept(struct listener *l, int fd, const struct sockaddr *from)
{
	struct web *w = l->owner;
	struct peer *p = &w->peers[w->accepted++ % PEERS_MAX];
	struct stream_params params = { .tls = w->tls,
		.max_unread = 64 * MIB };

	(void)from;
	if (p->s.state != STREAM_IDLE)
		fail_msg("too many connections at once for the rig");
	p->requests = 0;
	stream_accept(&p->s, w->loop, fd, &params);
}

static inline unsigned
web_open(const struct web *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PEERS_MAX; i++)
		n += w->peers[i].s.state != STREAM_IDLE;
	return n;
}

/* ---- the client ---- */

static inline void
web_client(struct web *w, const struct http_client_params *params)
{
	struct http_client_params none = { .proxy = "" };
	struct error err = ERROR_INIT;

	http_client_free(w->hc);
	w->hc = http_client_new(w->loop, w->resolver,
	    params != NULL ? params : &none, &err);
	if (w->hc == NULL)
		fail_msg("%s", err.text);
}

static inline void
call_add_headers(struct http_request *r, struct buffer *b)
{
	struct call *c = r->owner;

	c->headers_asked++;
	if (c->more_headers != NULL)
		buffer_add_str(b, c->more_headers);
}

static inline void
call_on_done(struct http_request *r, const struct http_response *answer,
    const struct error *err)
{
	struct call *c = r->owner;

	if (c->inside)
		fail_msg("on_done inside http_send");
	assert_true((answer == NULL) != (err == NULL));
	assert_false(http_busy(r));
	c->done++;
	c->order = ++c->web->ndone;
	c->status = 0;
	buffer_clear(&c->body);
	buffer_clear(&c->header);
	error_clear(&c->err);
	if (err != NULL) {
		assert_true(error_is_set(err));
		c->err = *err;
	} else {
		c->status = answer->status;
		c->retry_after_us = answer->retry_after_us;
		c->date_us = answer->date_us;
		buffer_add_slice(&c->body, answer->body);
		buffer_add_slice(&c->header, http1_header(answer->head,
		    "X-Test"));
	}
	if (c->on_done != NULL)
		c->on_done(c);
}

/* Where it goes; format takes the port.  Works for 8 calls at a time. */
static inline void
call_aim(struct call *c, const char *format, unsigned port)
{
	struct web *w = c->web;
	char *url = w->url[w->nurl++ % ARRAY_SIZE(w->url)];
	struct error err = ERROR_INIT;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(url, sizeof(w->url[0]), format, port);
#pragma GCC diagnostic pop
	if (http_url_parse(&c->req.url, url, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void
call_init(struct call *c, struct web *w, const char *format)
{
	*c = (struct call){ .web = w };
	c->req.owner = c;
	c->req.on_done = call_on_done;
	c->req.add_headers = call_add_headers;
	buffer_init(&c->body);
	buffer_init(&c->header);
	call_aim(c, format, w->listener.bound.port);
}

static inline void
call_done(struct call *c)
{
	buffer_done(&c->body);
	buffer_done(&c->header);
}

static inline void
call_send(struct call *c)
{
	c->inside = true;
	http_send(c->web->hc, &c->req);
	c->inside = false;
}

/* Sends and waits for the end. */
static inline void
call_run(struct call *c)
{
	int before = c->done;

	call_send(c);
	RUN_UNTIL(c->web, (web_start_tunnels(c->web), c->done == before + 1));
}

static inline void
assert_answer(const struct call *c, unsigned status, const char *body)
{
	if (error_is_set(&c->err))
		fail_msg("%s: %s", c->err.code, c->err.text);
	assert_int_equal(c->status, status);
	if (!slice_is(buffer_slice(&c->body), body))
		fail_msg("the body is \"%.*s\", not \"%s\"",
		    (int)buffer_len(&c->body), buffer_head(&c->body), body);
}

static inline void
assert_failed(const struct call *c, enum error_class class, const char *code)
{
	if (!error_is_set(&c->err))
		fail_msg("an answer of %u, not %s", c->status, code);
	if (strcmp(c->err.code, code) != 0 || c->err.class != class)
		fail_msg("%s %s (%s), not %s %s", error_class_name(c->err.class),
		    c->err.code, c->err.text, error_class_name(class), code);
}

static inline struct http_client_stats
web_stats(const struct web *w)
{
	struct http_client_stats s;

	http_client_get_stats(w->hc, &s);
	return s;
}

static inline bool
web_heard(const struct web *w, const char *text)
{
	return memmem(buffer_head(&w->last), buffer_len(&w->last), text,
	    strlen(text)) != NULL;
}

/* ---- setting up ---- */

static inline int
web_set_up(void **state)
{
	struct web *w = new0(struct web);
	struct address a = parse("127.0.0.1:0");
	struct error err = ERROR_INIT;

	w->fds_before = count_fds();
	random_seed(1);
	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(resolver_new(w->loop, &w->resolver), 0);
	listener_init(&w->listener, "web", web_on_accept, w);
	if (listener_start(&w->listener, w->loop, &a, 0, &err) < 0)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		w->peers[i].web = w;
		stream_init(&w->peers[i].s, "peer", &peer_ops, &w->peers[i]);
	}
	web_client(w, NULL);
	*state = w;
	return 0;
}

static inline int
web_tear_down(void **state)
{
	struct web *w = *state;

	if (w->hc != NULL) {
		struct http_client_stats s = web_stats(w);

		assert_int_equal(s.waiting, 0);
		assert_int_equal(s.open, s.idle);
	}
	http_client_free(w->hc);
	listener_stop(&w->listener);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		stream_done(&w->peers[i].s);
	buffer_done(&w->last);
	buffer_done(&w->all);
	tls_context_unref(w->tls);
	tls_context_unref(w->tunnel_tls);
	resolver_free(w->resolver);
	loop_free(w->loop);	/* names what is left over, and aborts */
	if (count_fds() != w->fds_before)
		fail_msg("descriptors left over: %d before, %d now",
		    w->fds_before, count_fds());
	free(w);
	return 0;
}

#define web_test(f) \
	cmocka_unit_test_setup_teardown(f, web_set_up, web_tear_down)

#endif
