/*
 * One connection: a stream, a reply reader, and the commands that were sent
 * and not answered yet.  Redis answers in order, so a ring is all it takes.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/redis_impl.h"

#define VERSION_MIN	60200

/* ---- sending ---- */

void
redis_begin(struct redis_conn *c, size_t argc)
{
	BUG_ON(c->args_left != 0);
	resp_add_head(stream_out(&c->stream), argc);
	c->args_left = argc;
}

void
redis_arg(struct redis_conn *c, struct slice arg)
{
	BUG_ON(c->args_left == 0);
	c->args_left--;
	resp_add_arg(stream_out(&c->stream), arg);
}

void
redis_arg_str(struct redis_conn *c, const char *arg)
{
	redis_arg(c, slice_of(arg));
}

void
redis_arg_u64(struct redis_conn *c, uint64_t n)
{
	BUG_ON(c->args_left == 0);
	c->args_left--;
	resp_add_arg_u64(stream_out(&c->stream), n);
}

void
redis_arg_i64(struct redis_conn *c, int64_t n)
{
	char text[24];

	redis_arg(c, (struct slice){ text, (size_t)snprintf(text, sizeof(text),
	    "%lld", (long long)n) });
}

void
redis_begin_script(struct redis_conn *c, enum redis_script script,
    size_t nkeys, size_t nargs)
{
	redis_begin(c, 3 + nkeys + nargs);
	redis_arg_str(c, "EVALSHA");
	redis_arg_str(c, c->rq->sha[script]);
	redis_arg_u64(c, nkeys);
}

/*
 * The answer to the oldest command is due when it may have blocked long
 * enough and the server has been silent for ResponseTimeout=.
 */
static uint64_t
answer_due(const struct redis_conn *c)
{
	return sat_add(MAX(c->command[c->first].due_us,
	    c->stream.last_read_us), c->rq->response_timeout_us);
}

void
redis_end(struct redis_conn *c, redis_reply_fn *fn, void *arg,
    uint64_t may_block_us)
{
	struct redis_command *ring;

	BUG_ON(c->args_left != 0);
	if (c->count == c->size) {
		size_t size = MAX(c->size * 2, (size_t)16);

		ring = xreallocarray(NULL, size, sizeof(*ring));
		for (size_t i = 0; i < c->count; i++)
			ring[i] = c->command[(c->first + i) % c->size];
		free(c->command);
		c->command = ring;
		c->size = size;
		c->first = 0;
	}
	c->command[(c->first + c->count++) % c->size] = (struct redis_command){
		.fn = fn,
		.arg = arg,
		.due_us = clock_monotonic_us() + may_block_us,
	};
	stream_flush(&c->stream);
	if (!timer_armed(&c->answer_timer))
		timer_arm_at(c->rq->loop, &c->answer_timer, answer_due(c));
}

static void
answer_timer_fired(struct timer *t)
{
	struct redis_conn *c = t->owner;
	struct error err;
	char span[CLOCK_SPAN_BYTES];

	if (c->count == 0)
		return;
	if (answer_due(c) > clock_monotonic_us()) {
		timer_arm_at(c->rq->loop, t, answer_due(c));
		return;
	}
	error_set(&err, ERROR_TRANSIENT, "response_timeout", "the server has "
	    "accepted commands and not answered for %s (ResponseTimeout=)",
	    clock_span(span, c->rq->response_timeout_us));
	redis_fail(c->rq, &err);
}

/* ---- handshake ---- */

static bool
handshake_ok(struct redis_queue *rq, const struct resp *reply)
{
	struct error err;

	if (reply == NULL || redis_failing(rq))
		return false;
	if (reply->type != RESP_ERROR)
		return true;
	redis_error(rq, reply, &err);
	redis_fail(rq, &err);
	return false;
}

static void
must_work(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	(void)chunk;
	(void)arg;
	(void)handshake_ok(rq, reply);
}

/* Not being allowed to is no reason to give up; all else is. */
static void
may_fail(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	(void)chunk;
	(void)arg;
	if (!resp_is_error(reply, "NOPERM") && reply != NULL &&
	    redis_error_is_fatal(reply))
		(void)handshake_ok(rq, reply);
}

/* Without it only stopping takes longer. */
static void
client_id_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_conn *c = arg;

	may_fail(rq, reply, chunk, NULL);
	c->client_id = 0;
	if (reply != NULL && reply->type == RESP_INTEGER && reply->integer > 0)
		c->client_id = (uint64_t)reply->integer;
}

static unsigned
parse_version(struct slice info)
{
	static const char name[] = "redis_version:";
	const char *at = memmem(info.p, info.n, name, sizeof(name) - 1);
	unsigned a, b, c = 0;

	if (at == NULL ||
	    sscanf(at + sizeof(name) - 1, "%3u.%2u.%2u", &a, &b, &c) < 2)
		return 0;
	return a * 10000 + b * 100 + c;
}

static void
info_came(struct redis_queue *rq, const struct resp *reply,
    struct chunk *chunk, void *arg)
{
	struct redis_conn *c = arg;
	struct error err;

	(void)chunk;
	if (reply == NULL || redis_failing(rq))
		return;
	c->version = 0;
	/* An ACL may deny INFO: then a command will tell. */
	if (reply->type == RESP_ERROR && !resp_is_error(reply, "NOPERM") &&
	    !handshake_ok(rq, reply))
		return;
	if (reply->type == RESP_STRING)
		c->version = parse_version(reply->str);
	if (c->version != 0 && c->version < VERSION_MIN) {
		error_set(&err, ERROR_REJECTED, "server_too_old", "this is "
		    "Redis %u.%u.%u; version 6.2 or later is needed",
		    c->version / 10000, c->version / 100 % 100,
		    c->version % 100);
		redis_fail(rq, &err);
		return;
	}
	c->ready = true;
	redis_conn_ready(rq);
}

static void
client_name(struct redis_conn *c)
{
	char name[160];
	int n = snprintf(name, sizeof(name), "bot-operator:%s:%s",
	    c->rq->queue->name, c->role);

	/* No spaces or special characters are allowed in it. */
	for (int i = 0; i < n && i < (int)sizeof(name) - 1; i++)
		if (name[i] <= ' ' || name[i] > '~')
			name[i] = '_';
	redis_begin(c, 3);
	redis_arg_str(c, "CLIENT");
	redis_arg_str(c, "SETNAME");
	redis_arg_str(c, name);
	redis_end(c, may_fail, NULL, 0);
}

/* All of it in one write; the first refusal decides. */
static void
say_hello(struct redis_conn *c, const struct secret *password)
{
	struct redis_queue *rq = c->rq;

	if (password != NULL) {
		redis_begin(c, rq->username != NULL ? 3 : 2);
		redis_arg_str(c, "AUTH");
		if (rq->username != NULL)
			redis_arg_str(c, rq->username);
		redis_arg(c, secret_bytes(password));
		redis_end(c, must_work, NULL, 0);
	}
	if (rq->database != 0) {
		redis_begin(c, 2);
		redis_arg_str(c, "SELECT");
		redis_arg_u64(c, rq->database);
		redis_end(c, must_work, NULL, 0);
	}
	client_name(c);
	redis_begin(c, 2);
	redis_arg_str(c, "CLIENT");
	redis_arg_str(c, "ID");
	redis_end(c, client_id_came, c, 0);
	redis_begin(c, 2);
	redis_arg_str(c, "INFO");
	redis_arg_str(c, "server");
	redis_end(c, info_came, c, 0);
}

/* ---- the stream's callbacks ---- */

static void
conn_up(struct stream *s)
{
	struct redis_conn *c = s->owner;
	struct redis_queue *rq = c->rq;
	struct secret *password = NULL;
	struct error err = ERROR_INIT;

	/* Read at each connect, so that a changed password is found. */
	if (rq->password_file != NULL) {
		password = secret_read_file(rq->password_file, &err);
		if (password == NULL) {
			err.class = ERROR_AUTH;
			redis_fail(rq, &err);
			return;
		}
	}
	say_hello(c, password);
	secret_free(password);
}

static void
conn_data(struct stream *s, struct buffer *in)
{
	struct redis_conn *c = s->owner;
	struct redis_queue *rq = c->rq;
	struct redis_command command;
	struct resp *reply;
	struct chunk *chunk;
	struct error err;
	int r = 0;

	while (!redis_failing(rq) && (r = resp_reader_next(c->parser, in,
	    &reply, &chunk, &err)) > 0) {
		if (c->count == 0) {
			/* What a server says before it hangs up. */
			if (reply->type == RESP_ERROR)
				redis_error(rq, reply, &err);
			else
				error_set(&err, ERROR_PROTOCOL,
				    "unasked_reply",
				    "a reply came that nobody asked for");
			redis_fail(rq, &err);
			chunk_unref(chunk);
			break;
		}
		command = c->command[c->first];
		c->first = (c->first + 1) % c->size;
		if (--c->count == 0)
			timer_cancel(rq->loop, &c->answer_timer);
		command.fn(rq, reply, chunk, command.arg);
		chunk_unref(chunk);
	}
	if (r < 0) {
		if (strcmp(err.code, "reply_too_large") == 0)
			rq->count_max = MAX(rq->count_max / 4, 1u);
		redis_fail(rq, &err);
	}
	if (redis_failing(rq))
		buffer_clear(in);
}

static void
conn_down(struct stream *s, const struct error *err)
{
	struct redis_conn *c = s->owner;
	struct error e = *err;

	if (strcmp(e.code, "eof") == 0)
		error_set(&e, ERROR_TRANSIENT, "eof",
		    "the server has closed the connection");
	redis_fail(c->rq, &e);
}

static const struct stream_ops conn_ops = {
	.on_up = conn_up,
	.on_data = conn_data,
	.on_down = conn_down,
};

/* ---- life ---- */

void
redis_conn_init(struct redis_conn *c, struct redis_queue *rq, const char *role)
{
	*c = (struct redis_conn){ .rq = rq, .role = role };
	stream_init(&c->stream, "redis", &conn_ops, c);
	timer_init(&c->answer_timer, "redis answer", answer_timer_fired, c);
}

void
redis_conn_open(struct redis_conn *c, struct tls_context *tls)
{
	struct redis_queue *rq = c->rq;
	struct stream_params params = {
		.tls = tls,
		.tls_name = rq->tls_config.name,
		.connect_timeout_us = rq->connect_timeout_us,
		.handshake_timeout_us = rq->connect_timeout_us,
	};

	c->ready = false;
	c->parser = resp_reader_new(rq->reply_max);
	stream_connect(&c->stream, rq->loop, rq->queue->resolver, &rq->address,
	    &params);
}

void
redis_conn_close(struct redis_conn *c)
{
	timer_cancel(c->rq->loop, &c->answer_timer);
	stream_close(&c->stream);
	resp_reader_free(c->parser);
	c->parser = NULL;
	c->ready = false;
	c->args_left = 0;
	while (c->count != 0) {
		struct redis_command command = c->command[c->first];

		c->first = (c->first + 1) % c->size;
		c->count--;
		command.fn(c->rq, NULL, NULL, command.arg);
	}
}

void
redis_conn_done(struct redis_conn *c)
{
	redis_conn_close(c);
	stream_done(&c->stream);
	free(c->command);
	c->command = NULL;
	c->size = 0;
}
