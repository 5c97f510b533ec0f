/*
 * One connection: the handshake, heartbeats, channel 0, and frames handed to
 * their channels.  Sources: AMQP 0-9-1 specification, 2.2.4, 4.2.2; rabbitmq.com
 * "Blocked Connection Notifications", "Authentication Failure Notifications",
 * "Heartbeats".
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "queue/rabbitmq_impl.h"

#define PASSWORD_MAX	((size_t)2048)

static void
protocol_error(struct rabbit_conn *c, const char *code, const char *text)
{
	struct error err;

	error_set(&err, ERROR_PROTOCOL, code, "%s", text);
	rabbit_fail(c->rq, &err);
}

/* ---- time ---- */

static const char *
waits_for(const struct rabbit_conn *c)
{
	switch (c->state) {
	case CONN_STARTING:
		return "connection.start";
	case CONN_TUNING:
		return "connection.tune";
	case CONN_OPENING:
		return "connection.open-ok";
	case CONN_CLOSING:
		return "connection.close-ok";
	case CONN_IDLE:
	case CONN_CONNECTING:
	case CONN_OPEN:
		break;
	}
	return NULL;
}

/* What is due first and what it is called; USEC_INFINITY: nothing. */
static uint64_t
next_due(const struct rabbit_conn *c, const char **what)
{
	uint64_t due = USEC_INFINITY, at;

	*what = waits_for(c);
	if (*what != NULL)
		return c->due_us;
	if (c->state != CONN_OPEN || c->blocked)
		return USEC_INFINITY;
	for (unsigned i = 1; i < RABBIT_CHANNELS; i++) {
		at = rabbit_channel_due(&c->channel[i]);
		if (at < due) {
			due = at;
			*what = amqp_wire_method_name(
			    c->channel[i].call[0].answer);
		}
	}
	if (c == &c->rq->publisher_conn) {
		at = rabbit_confirm_due(c->rq);
		if (at < due) {
			due = at;
			*what = "a publish with its confirm";
		}
	}
	return due;
}

void
rabbit_conn_watch(struct rabbit_conn *c)
{
	const char *what;
	uint64_t due = next_due(c, &what);

	/* An earlier time is good too: it only looks again. */
	if (due != USEC_INFINITY && (!timer_armed(&c->answer_timer) ||
	    timer_due_us(&c->answer_timer) > due))
		timer_arm_at(c->rq->loop, &c->answer_timer, due);
}

static void
answer_timer_fired(struct timer *t)
{
	struct rabbit_conn *c = t->owner;
	const char *what;
	struct error err;

	if (next_due(c, &what) > clock_monotonic_us()) {
		rabbit_conn_watch(c);
		return;
	}
	error_set(&err, ERROR_TRANSIENT, "response_timeout",
	    "the broker has not answered with %s in time (%s=)", what,
	    c->state == CONN_OPEN ? "ResponseTimeout" : "ConnectTimeout");
	rabbit_fail(c->rq, &err);
}

static void
heartbeat_timer_fired(struct timer *t)
{
	struct rabbit_conn *c = t->owner;

	/* Anything that was sent serves as well (4.2.7). */
	if (c->stream.bytes_out == c->bytes_out_seen &&
	    stream_pending(&c->stream) == 0) {
		amqp_wire_add_heartbeat(stream_out(&c->stream));
		stream_flush(&c->stream);
	}
	c->bytes_out_seen = c->stream.bytes_out;
	timer_arm(c->rq->loop, t, c->heartbeat_us / 2);
}

static void
enter(struct rabbit_conn *c, enum rabbit_conn_state state)
{
	c->state = state;
	rabbit_conn_watch(c);
}

/* ---- connection.start ---- */

static amqp_table_entry_t
entry_text(const char *key, const char *text)
{
	return (amqp_table_entry_t){
		.key = amqp_cstring_bytes(key),
		.value = {
			.kind = AMQP_FIELD_KIND_UTF8,
			.value.bytes = amqp_cstring_bytes(text),
		},
	};
}

static amqp_table_entry_t
entry_true(const char *key)
{
	return (amqp_table_entry_t){
		.key = amqp_cstring_bytes(key),
		.value = {
			.kind = AMQP_FIELD_KIND_BOOLEAN,
			.value.boolean = 1,
		},
	};
}

/* "\0user\0password"; the caller wipes it. False and a failure. */
static bool
plain_response(struct rabbit_conn *c, struct buffer *b)
{
	struct rabbit_queue *rq = c->rq;
	struct secret *password = NULL;
	struct error err = ERROR_INIT;
	struct slice bytes = SLICE("guest");

	/* Read at each connect, so that a changed password is found. */
	if (rq->password_file != NULL) {
		password = secret_read_file(rq->password_file, &err);
		if (password == NULL) {
			err.class = ERROR_AUTH;
			rabbit_fail(rq, &err);
			return false;
		}
		bytes = secret_bytes(password);
		if (bytes.n > PASSWORD_MAX) {
			error_set(&err, ERROR_AUTH, "password_too_long",
			    "%s holds more than %zu bytes", rq->password_file,
			    PASSWORD_MAX);
			rabbit_fail(rq, &err);
			secret_free(password);
			return false;
		}
	}
	buffer_add_char(b, '\0');
	buffer_add_str(b, rq->username);
	buffer_add_char(b, '\0');
	buffer_add_slice(b, bytes);
	secret_free(password);
	return true;
}

static void
say_start_ok(struct rabbit_conn *c)
{
	struct rabbit_queue *rq = c->rq;
	struct buffer response = BUFFER_INIT;
	char name[256];
	amqp_table_entry_t can[] = {
		entry_true("publisher_confirms"),
		entry_true("consumer_cancel_notify"),
		entry_true("basic.nack"),
		entry_true("connection.blocked"),
		entry_true("authentication_failure_close"),
	};
	amqp_table_entry_t properties[] = {
		entry_text("product", "bot-operator"),
		entry_text("version", PACKAGE_VERSION),
		entry_text("platform", "C"),
		entry_text("connection_name", name),
		{
			.key = amqp_cstring_bytes("capabilities"),
			.value = {
				.kind = AMQP_FIELD_KIND_TABLE,
				.value.table = { ARRAY_SIZE(can), can },
			},
		},
	};
	amqp_connection_start_ok_t ok = {
		.client_properties = { ARRAY_SIZE(properties), properties },
		.mechanism = amqp_cstring_bytes(rq->external ? "EXTERNAL" :
		    "PLAIN"),
		.locale = amqp_cstring_bytes("en_US"),
	};

	snprintf(name, sizeof(name), "bot-operator:%s:%s", rq->queue->name,
	    c->role);
	properties[3] = entry_text("connection_name", name);
	if (!rq->external && !plain_response(c, &response)) {
		buffer_done(&response);
		return;
	}
	ok.response = amqp_wire_bytes(buffer_slice(&response));
	amqp_wire_add_method(stream_out(&c->stream), 0,
	    AMQP_CONNECTION_START_OK_METHOD, &ok);
	stream_flush(&c->stream);
	if (response.data != NULL)
		secret_wipe(response.data, response.size);
	buffer_done(&response);
	enter(c, CONN_TUNING);
}

static unsigned
parse_version(const amqp_table_t *properties)
{
	const amqp_field_value_t *v = amqp_wire_find(properties, "version");
	char text[32];
	unsigned a, b, p = 0;

	if (v == NULL || v->kind != AMQP_FIELD_KIND_UTF8)
		return 0;
	error_quote(amqp_wire_slice(v->value.bytes), text, sizeof(text));
	if (sscanf(text, "%3u.%2u.%2u", &a, &b, &p) < 2)
		return 0;
	return a * 10000 + b * 100 + p;
}

/* Is the word among those of the list, which spaces separate? */
static bool
has_word(struct slice list, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= list.n; i++)
		if ((i == 0 || list.p[i - 1] == ' ') &&
		    memcmp(list.p + i, word, n) == 0 &&
		    (i + n == list.n || list.p[i + n] == ' '))
			return true;
	return false;
}

static void
on_start(struct rabbit_conn *c, const amqp_connection_start_t *start)
{
	const char *want = c->rq->external ? "EXTERNAL" : "PLAIN";
	struct error err;

	c->version = parse_version(&start->server_properties);
	if (start->version_major != 0 || start->version_minor != 9) {
		error_set(&err, ERROR_PROTOCOL, "not_amqp", "the server speaks "
		    "AMQP %u-%u, 0-9-1 is needed", start->version_major,
		    start->version_minor);
		rabbit_fail(c->rq, &err);
		return;
	}
	if (!has_word(amqp_wire_slice(start->mechanisms), want)) {
		error_set(&err, ERROR_AUTH, "no_mechanism", "the broker does "
		    "not offer the mechanism %s: %s", want, c->rq->external ?
		    "enable rabbitmq_auth_mechanism_ssl and list EXTERNAL in "
		    "auth_mechanisms" : "see its auth_mechanisms, or set "
		    "Auth=external");
		rabbit_fail(c->rq, &err);
		return;
	}
	say_start_ok(c);
}

/* ---- connection.tune, connection.open ---- */

static uint64_t
smaller_but_set(uint64_t a, uint64_t b)
{
	return a == 0 ? b : b == 0 ? a : MIN(a, b);
}

static void
on_tune(struct rabbit_conn *c, const amqp_connection_tune_t *tune)
{
	struct rabbit_queue *rq = c->rq;
	struct buffer *out = stream_out(&c->stream);
	amqp_connection_tune_ok_t ok = {
		/* 0 would be refused: its own is echoed. */
		.channel_max = tune->channel_max,
		.frame_max = (uint32_t)smaller_but_set(tune->frame_max,
		    AMQP_WIRE_FRAME_MAX),
		.heartbeat = (uint16_t)smaller_but_set(tune->heartbeat,
		    rq->heartbeat_us / USEC_PER_SEC),
	};
	amqp_connection_open_t open = {
		.virtual_host = amqp_cstring_bytes(rq->vhost),
	};

	if (ok.frame_max < AMQP_WIRE_FRAME_MIN) {
		protocol_error(c, "malformed_frame",
		    "connection.tune asks for frames below 4096 bytes");
		return;
	}
	if (ok.channel_max != 0 && ok.channel_max < RABBIT_CHANNELS) {
		protocol_error(c, "channel_max",
		    "the broker allows fewer than 10 channels (channel_max)");
		return;
	}
	c->frame_max = ok.frame_max;
	c->heartbeat_us = ok.heartbeat * USEC_PER_SEC;
	amqp_wire_add_method(out, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
	amqp_wire_add_method(out, 0, AMQP_CONNECTION_OPEN_METHOD, &open);
	stream_flush(&c->stream);
	if (c->heartbeat_us != 0) {
		timer_arm(rq->loop, &c->heartbeat_timer, c->heartbeat_us / 2);
		/* Two missed ones, and half of one for the way. */
		stream_set_idle_timeout(&c->stream,
		    c->heartbeat_us + c->heartbeat_us / 4);
	}
	enter(c, CONN_OPENING);
}

/* ---- channel 0 ---- */

static void
on_close(struct rabbit_conn *c, const amqp_connection_close_t *close)
{
	struct error err;

	amqp_wire_add_method(stream_out(&c->stream), 0,
	    AMQP_CONNECTION_CLOSE_OK_METHOD, &(amqp_connection_close_ok_t){ 0 });
	stream_flush(&c->stream);
	rabbit_error(close->reply_code,
	    amqp_wire_slice(close->reply_text), &err);
	rabbit_fail(c->rq, &err);
}

static void
on_blocked(struct rabbit_conn *c, struct slice reason)
{
	error_quote(reason, c->blocked_reason, sizeof(c->blocked_reason));
	if (!c->blocked)
		log_warning(LOG_QUEUE_EVENT(c->rq->queue->name,
		    EVENT_QUEUE_SLOWED),
		    "the broker blocks "
		    "publishing (%.100s): retries and dead letters wait, "
		    "nothing is lost", c->blocked_reason);
	c->blocked = true;
}

static void
on_unblocked(struct rabbit_conn *c)
{
	if (!c->blocked)
		return;
	c->blocked = false;
	log_notice(LOG_QUEUE_EVENT(c->rq->queue->name, EVENT_QUEUE_RESUMED),
	    "the broker takes publishes again");
	c->rq->unblocked_us = clock_monotonic_us();
	rabbit_publish_flush(c->rq);
	rabbit_conn_watch(c);
}

static void
left(struct rabbit_conn *c)
{
	rabbit_conn_close(c);
	rabbit_conn_left(c->rq);
}

static bool
in_place(const struct rabbit_conn *c, amqp_method_number_t id)
{
	switch (id) {
	case AMQP_CONNECTION_START_METHOD:
		return c->state == CONN_STARTING;
	case AMQP_CONNECTION_SECURE_METHOD:
	case AMQP_CONNECTION_TUNE_METHOD:
		return c->state == CONN_TUNING;
	case AMQP_CONNECTION_OPEN_OK_METHOD:
		return c->state == CONN_OPENING;
	case AMQP_CONNECTION_CLOSE_METHOD:
		return true;
	case AMQP_CONNECTION_CLOSE_OK_METHOD:
		return c->state == CONN_CLOSING;
	case AMQP_CONNECTION_BLOCKED_METHOD:
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		return c->state == CONN_OPEN || c->state == CONN_CLOSING;
	default:
		return false;
	}
}

static void
connection_method(struct rabbit_conn *c, const amqp_method_t *m)
{
	const amqp_connection_blocked_t *blocked = m->decoded;
	struct error err;

	if (!in_place(c, m->id)) {
		error_set(&err, ERROR_PROTOCOL, "unexpected_method",
		    "%s came where %s was expected",
		    amqp_wire_method_name(m->id), waits_for(c) != NULL ?
		    waits_for(c) : "nothing of the kind");
		rabbit_fail(c->rq, &err);
		return;
	}
	switch (m->id) {
	case AMQP_CONNECTION_START_METHOD:
		on_start(c, m->decoded);
		break;
	case AMQP_CONNECTION_TUNE_METHOD:
		on_tune(c, m->decoded);
		break;
	case AMQP_CONNECTION_OPEN_OK_METHOD:
		enter(c, CONN_OPEN);
		rabbit_conn_ready(c->rq);
		break;
	case AMQP_CONNECTION_CLOSE_METHOD:
		on_close(c, m->decoded);
		break;
	case AMQP_CONNECTION_CLOSE_OK_METHOD:
		left(c);
		break;
	case AMQP_CONNECTION_BLOCKED_METHOD:
		on_blocked(c, amqp_wire_slice(blocked->reason));
		break;
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		on_unblocked(c);
		break;
	default:
		protocol_error(c, "unexpected_method", "the broker asks for a "
		    "challenge that PLAIN and EXTERNAL do not have");
		break;
	}
}

/* ---- frames ---- */

static void
on_frame(struct rabbit_conn *c, const struct amqp_wire_frame *f)
{
	struct rabbit_channel *ch = NULL;
	amqp_method_t method;
	struct error err;

	if (f->type == AMQP_FRAME_HEARTBEAT)
		return;
	if (f->channel != 0 && (f->channel >= RABBIT_CHANNELS ||
	    c->channel[f->channel].state == CHANNEL_CLOSED)) {
		error_set(&err, ERROR_PROTOCOL, "malformed_frame", "a frame "
		    "came for channel %u, which is not open", f->channel);
		rabbit_fail(c->rq, &err);
		return;
	}
	if (f->channel != 0)
		ch = &c->channel[f->channel];
	if (f->type == AMQP_FRAME_METHOD) {
		if (amqp_wire_method(f->payload, &c->pool, &method, &err) < 0)
			rabbit_fail(c->rq, &err);
		else if (ch == NULL)
			connection_method(c, &method);
		else
			rabbit_channel_method(ch, &method);
	} else if (ch == NULL) {
		protocol_error(c, "malformed_frame",
		    "content came on channel 0");
	} else if (f->type == AMQP_FRAME_HEADER) {
		rabbit_channel_header(ch, f->payload);
	} else {
		rabbit_channel_body(ch, f->payload);
	}
	recycle_amqp_pool(&c->pool);
}

static void
conn_data(struct stream *s, struct buffer *in)
{
	struct rabbit_conn *c = s->owner;
	struct rabbit_queue *rq = c->rq;
	struct amqp_wire_frame f;
	struct error err;
	ssize_t n = 0;

	while (c->state != CONN_IDLE && !rabbit_failing(rq) &&
	    (n = amqp_wire_frame(buffer_slice(in), c->frame_max, &f,
	    &err)) > 0) {
		on_frame(c, &f);
		/* Its owner may have closed the stream, and the buffer. */
		if (c->state == CONN_IDLE)
			break;
		buffer_consume(in, (size_t)n);
	}
	if (n < 0)
		rabbit_fail(rq, &err);
	if (c->state == CONN_IDLE || rabbit_failing(rq))
		buffer_clear(in);
	chunk_unref(c->chunk);
	c->chunk = NULL;
}

static void
conn_up(struct stream *s)
{
	struct rabbit_conn *c = s->owner;
	struct slice greeting = AMQP_WIRE_GREETING;

	stream_write(s, greeting.p, greeting.n);
	enter(c, CONN_STARTING);
}

static void
conn_down(struct stream *s, const struct error *err)
{
	struct rabbit_conn *c = s->owner;
	struct error e = *err;
	char span[CLOCK_SPAN_BYTES];

	if (c->state == CONN_IDLE)
		return;			/* what was closed is gone */
	if (strcmp(e.code, "eof") == 0 && c->state == CONN_TUNING)
		error_set(&e, ERROR_AUTH, "ACCESS_REFUSED", "the broker has "
		    "closed the connection instead of accepting the user: "
		    "check Username= and PasswordFile=");
	else if (strcmp(e.code, "eof") == 0)
		error_set(&e, ERROR_TRANSIENT, "eof",
		    "the broker has closed the connection");
	else if (strcmp(e.code, "idle_timeout") == 0)
		error_set(&e, ERROR_TRANSIENT, "heartbeat_timeout", "nothing "
		    "was heard of the broker for %s (Heartbeat=)",
		    clock_span(span, c->heartbeat_us + c->heartbeat_us / 4));
	if (c->state == CONN_CLOSING)
		left(c);
	else
		rabbit_fail(c->rq, &e);
}

static const struct stream_ops conn_ops = {
	.on_up = conn_up,
	.on_data = conn_data,
	.on_down = conn_down,
};

/* ---- life ---- */

void
rabbit_conn_init(struct rabbit_conn *c, struct rabbit_queue *rq,
    const char *role)
{
	*c = (struct rabbit_conn){ .rq = rq, .role = role };
	stream_init(&c->stream, "rabbitmq", &conn_ops, c);
	timer_init(&c->answer_timer, "rabbitmq answer", answer_timer_fired, c);
	timer_init(&c->heartbeat_timer, "rabbitmq heartbeat",
	    heartbeat_timer_fired, c);
	init_amqp_pool(&c->pool, 16384);
	for (uint16_t i = 0; i < RABBIT_CHANNELS; i++) {
		c->channel[i].conn = c;
		c->channel[i].number = i;
	}
}

void
rabbit_conn_open(struct rabbit_conn *c, struct tls_context *tls)
{
	struct rabbit_queue *rq = c->rq;
	struct stream_params params = {
		.tls = tls,
		.tls_name = rq->tls_config.name,
		.connect_timeout_us = rq->connect_timeout_us,
		.handshake_timeout_us = rq->connect_timeout_us,
	};

	stream_close(&c->stream);	/* the last one may still be leaving */
	c->frame_max = AMQP_WIRE_FRAME_MAX;
	c->heartbeat_us = c->bytes_out_seen = 0;
	c->due_us = sat_add(clock_monotonic_us(), rq->connect_timeout_us);
	enter(c, CONN_CONNECTING);
	stream_connect(&c->stream, rq->loop, rq->queue->resolver, &rq->address,
	    &params);
}

static void
say_close(struct rabbit_conn *c)
{
	amqp_connection_close_t close = {
		.reply_code = AMQP_REPLY_SUCCESS,
		.reply_text = amqp_cstring_bytes("bye"),
	};

	amqp_wire_add_method(stream_out(&c->stream), 0,
	    AMQP_CONNECTION_CLOSE_METHOD, &close);
	stream_flush(&c->stream);
}

void
rabbit_conn_close(struct rabbit_conn *c)
{
	enum rabbit_conn_state was = c->state;

	timer_cancel(c->rq->loop, &c->answer_timer);
	timer_cancel(c->rq->loop, &c->heartbeat_timer);
	c->state = CONN_IDLE;
	c->blocked = false;
	if (was == CONN_OPEN && stream_is_up(&c->stream)) {
		say_close(c);
		stream_close_flushed(&c->stream);
	} else {
		stream_close(&c->stream);
	}
	for (unsigned i = 1; i < RABBIT_CHANNELS; i++)
		rabbit_channel_reset(&c->channel[i]);
}

void
rabbit_conn_leave(struct rabbit_conn *c)
{
	say_close(c);
	c->due_us = sat_add(clock_monotonic_us(), RABBIT_STOP_US);
	enter(c, CONN_CLOSING);
}

void
rabbit_conn_done(struct rabbit_conn *c)
{
	rabbit_conn_close(c);
	stream_done(&c->stream);
	chunk_unref(c->chunk);
	c->chunk = NULL;
	empty_amqp_pool(&c->pool);
	buffer_done(&c->scratch);
}
