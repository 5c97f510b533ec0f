#include "rabbit_rig.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

/* ---- what the test does at the broker ---- */

static const char *
reply_text(amqp_rpc_reply_t r)
{
	static char text[512];

	if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		return amqp_error_string2(r.library_error);
	if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
	    r.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
		const amqp_channel_close_t *m = r.reply.decoded;

		snprintf(text, sizeof(text), "%u %.*s", m->reply_code,
		    (int)m->reply_text.len, (const char *)m->reply_text.bytes);
		return text;
	}
	if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
	    r.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
		const amqp_connection_close_t *m = r.reply.decoded;

		snprintf(text, sizeof(text), "connection closed: %u %.*s",
		    m->reply_code, (int)m->reply_text.len,
		    (const char *)m->reply_text.bytes);
		return text;
	}
	return "no answer";
}

static void
admin_ok(const char *what)
{
	amqp_rpc_reply_t r = amqp_get_rpc_reply(server.admin);

	if (r.reply_type != AMQP_RESPONSE_NORMAL)
		fail_msg("%s: %s", what, reply_text(r));
}

void
declare_with(const char *queue, amqp_table_t arguments)
{
	(void)amqp_queue_declare(server.admin, 1, BYTES(queue), 0, 1, 0, 0,
	    arguments);
	admin_ok(queue);
}

void
declare(const char *queue, enum durability kind)
{
	amqp_table_entry_t quorum[] = { TEXT("x-queue-type", "quorum") };

	declare_with(queue, kind == QUORUM ? TABLE(quorum) : amqp_empty_table);
}

void
declare_delay(const char *queue, enum durability kind, int64_t ttl_ms,
    const char *then)
{
	amqp_table_entry_t entries[] = {
		NUMBER("x-message-ttl", ttl_ms),
		TEXT("x-dead-letter-exchange", ""),
		TEXT("x-dead-letter-routing-key", ""),
		TEXT("x-queue-type", "quorum"),
		TEXT("x-dead-letter-strategy", "at-least-once"),
		TEXT("x-overflow", "reject-publish"),
	};

	entries[2].value.value.bytes = BYTES(then);
	declare_with(queue, (amqp_table_t){ kind == QUORUM ? 6 : 3, entries });
}

void
bind_exchange(const char *exchange, const char *queue, const char *key)
{
	(void)amqp_exchange_declare(server.admin, 1, BYTES(exchange),
	    BYTES("direct"), 0, 1, 0, 0, amqp_empty_table);
	admin_ok(exchange);
	(void)amqp_queue_bind(server.admin, 1, BYTES(queue), BYTES(exchange),
	    BYTES(key), amqp_empty_table);
	admin_ok(key);
}

void
delete_queue(const char *queue)
{
	(void)amqp_queue_delete(server.admin, 1, BYTES(queue), 0, 0);
	admin_ok(queue);
}

uint32_t
purge(const char *queue)
{
	amqp_queue_purge_ok_t *ok = amqp_queue_purge(server.admin, 1,
	    BYTES(queue));

	admin_ok(queue);
	return ok->message_count;
}

/* False when there is no such queue; on channel 2, which that closes. */
static bool
look(const char *queue, int64_t *ret_ready, int64_t *ret_consumers)
{
	amqp_queue_declare_ok_t *ok = amqp_queue_declare(server.admin, 2,
	    BYTES(queue), 1, 0, 0, 0, amqp_empty_table);
	amqp_rpc_reply_t r = amqp_get_rpc_reply(server.admin);
	amqp_channel_close_ok_t close_ok = { 0 };

	if (ok != NULL) {
		*ret_ready = ok->message_count;
		*ret_consumers = ok->consumer_count;
		return true;
	}
	if (r.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION ||
	    r.reply.id != AMQP_CHANNEL_CLOSE_METHOD ||
	    ((amqp_channel_close_t *)r.reply.decoded)->reply_code !=
	    AMQP_NOT_FOUND)
		fail_msg("%s: %s", queue, reply_text(r));
	assert_int_equal(amqp_send_method(server.admin, 2,
	    AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok), 0);
	(void)amqp_channel_open(server.admin, 2);
	admin_ok("channel.open");
	return false;
}

int64_t
count(const char *queue)
{
	int64_t ready, n;

	return look(queue, &ready, &n) ? ready : -1;
}

void
wait_count(const char *queue, int64_t n)
{
	uint64_t give_up = clock_monotonic_us() + DEADLINE_US;
	int64_t now;

	while ((now = count(queue)) != n) {
		if (clock_monotonic_us() > give_up)
			fail_msg("%s has %" PRId64 " messages, not %" PRId64,
			    queue, now, n);
		(void)poll(NULL, 0, 10);
	}
}

int64_t
everywhere(void)
{
	static const char *const names[] = { "jobs", "jobs.dead",
	    "jobs.bot-delay.1s", "jobs.bot-delay.1min" };
	int64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		n += MAX(count(names[i]), 0);
	return n;
}

void
wait_everywhere(int64_t n)
{
	uint64_t give_up = clock_monotonic_us() + DEADLINE_US;

	while (everywhere() != n) {
		if (clock_monotonic_us() > give_up)
			fail_msg("%" PRId64 " messages instead of %" PRId64,
			    everywhere(), n);
		(void)poll(NULL, 0, 10);
	}
}

void
wait_at_least(int64_t n)
{
	uint64_t give_up = clock_monotonic_us() + DEADLINE_US;

	while (everywhere() < n) {
		if (clock_monotonic_us() > give_up)
			fail_msg("%" PRId64 " messages are left of %" PRId64,
			    everywhere(), n);
		(void)poll(NULL, 0, 10);
	}
}

int64_t
consumers(const char *queue)
{
	int64_t ready, n;

	return look(queue, &ready, &n) ? n : -1;
}

int64_t
unacknowledged(const char *queue)
{
	_cleanup_free_ char *path = xasprintf("%s/eval.log", server.dir);
	int64_t n = -1;
	FILE *f;

	server_eval("{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, "
	    "queue, <<\"%s\">>)), [{_, N}] = rabbit_amqqueue:info(Q, "
	    "[messages_unacknowledged]), N.", queue);
	f = fopen(path, "re");
	assert_non_null(f);
	/* erl_call says {ok, 3}, and rabbitmqctl 3. */
	if (fscanf(f, "{ok, %" SCNd64, &n) != 1) {
		rewind(f);
		assert_int_equal(fscanf(f, "%" SCNd64, &n), 1);
	}
	(void)fclose(f);
	return n;
}

/* Of the last message that was sent. */
static void
wait_confirmed(const char *key)
{
	amqp_frame_t frame;
	uint64_t confirmed = 0;

	while (confirmed < server.published) {
		assert_int_equal(amqp_simple_wait_frame_noblock(server.admin,
		    &frame, &(struct timeval){ 20, 0 }), AMQP_STATUS_OK);
		if (frame.frame_type != AMQP_FRAME_METHOD)
			continue;
		if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
			fail_msg("%s: not taken by the broker", key);
		confirmed = ((amqp_basic_ack_t *)
		    frame.payload.method.decoded)->delivery_tag;
	}
	amqp_maybe_release_buffers(server.admin);
}

static void
send_unconfirmed(const struct sending *s)
{
	amqp_basic_properties_t p = s->properties;

	if ((p._flags & AMQP_BASIC_DELIVERY_MODE_FLAG) == 0) {
		p._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
		p.delivery_mode = 2;
	}
	assert_int_equal(amqp_basic_publish(server.admin, 1,
	    BYTES(s->exchange != NULL ? s->exchange : ""), BYTES(s->key), 1, 0,
	    &p, (amqp_bytes_t){ s->body.n, (void *)(uintptr_t)s->body.p }),
	    AMQP_STATUS_OK);
	server.published++;
}

void
publish_as(const struct sending *s)
{
	send_unconfirmed(s);
	wait_confirmed(s->key);
}

void
publish(const char *queue, const char *body)
{
	publish_as(&(struct sending){ .key = queue, .body = slice_of(body) });
}

void
produce(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		char body[16];

		snprintf(body, sizeof(body), "m%u", i);
		send_unconfirmed(&(struct sending){ .key = "jobs",
		    .body = slice_of(body) });
	}
	wait_confirmed("jobs");
}

static void
copy_bytes(char *to, size_t size, amqp_bytes_t from)
{
	snprintf(to, size, "%.*s", (int)from.len,
	    from.len != 0 ? (const char *)from.bytes : "");
}

bool
get(const char *queue, struct got *g)
{
	amqp_rpc_reply_t r = amqp_basic_get(server.admin, 1, BYTES(queue), 1);
	const amqp_basic_get_ok_t *ok = r.reply.decoded;

	memset(g, 0, sizeof(*g));
	if (r.reply_type != AMQP_RESPONSE_NORMAL)
		fail_msg("basic.get %s: %s", queue, reply_text(r));
	if (r.reply.id != AMQP_BASIC_GET_OK_METHOD)
		return false;
	g->there = true;
	g->redelivered = ok->redelivered != 0;
	copy_bytes(g->exchange, sizeof(g->exchange), ok->exchange);
	copy_bytes(g->key, sizeof(g->key), ok->routing_key);
	r = amqp_read_message(server.admin, 1, &g->message, 0);
	if (r.reply_type != AMQP_RESPONSE_NORMAL)
		fail_msg("the message of %s: %s", queue, reply_text(r));
	return true;
}

void
got_done(struct got *g)
{
	if (g->there)
		amqp_destroy_message(&g->message);
	g->there = false;
}

static bool
bytes_are(amqp_bytes_t b, const char *text)
{
	return b.len == strlen(text) && memcmp(b.bytes, text, b.len) == 0;
}

bool
got_body_is(const struct got *g, const char *text)
{
	return g->there && bytes_are(g->message.body, text);
}

const amqp_field_value_t *
got_header(const struct got *g, const char *name)
{
	const amqp_basic_properties_t *p = &g->message.properties;

	if (!g->there || (p->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
		return NULL;
	for (int i = 0; i < p->headers.num_entries; i++)
		if (bytes_are(p->headers.entries[i].key, name))
			return &p->headers.entries[i].value;
	return NULL;
}

bool
got_text_is(const struct got *g, const char *name, const char *value)
{
	const amqp_field_value_t *v = got_header(g, name);

	return v != NULL && v->kind == AMQP_FIELD_KIND_UTF8 &&
	    bytes_are(v->value.bytes, value);
}

int64_t
got_number(const struct got *g, const char *name)
{
	const amqp_field_value_t *v = got_header(g, name);

	switch (v != NULL ? v->kind : 0) {
	case AMQP_FIELD_KIND_I8: return v->value.i8;
	case AMQP_FIELD_KIND_U8: return v->value.u8;
	case AMQP_FIELD_KIND_I16: return v->value.i16;
	case AMQP_FIELD_KIND_U16: return v->value.u16;
	case AMQP_FIELD_KIND_I32: return v->value.i32;
	case AMQP_FIELD_KIND_U32: return v->value.u32;
	case AMQP_FIELD_KIND_I64: return v->value.i64;
	case AMQP_FIELD_KIND_TIMESTAMP: return (int64_t)v->value.u64;
	default: return -1;
	}
}

/* ---- the queue ---- */

/* Ends our side of every connection to the server but the test's own. */
static void
shut_sockets(void)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		struct sockaddr_in in = { 0 };
		socklen_t len = sizeof(in);
		int fd = atoi(e->d_name);

		if (e->d_name[0] == '.' || (server.admin != NULL &&
		    fd == amqp_get_sockfd(server.admin)))
			continue;
		if (getpeername(fd, (struct sockaddr *)&in, &len) == 0 &&
		    in.sin_family == AF_INET &&
		    ntohs(in.sin_port) == server.port)
			(void)shutdown(fd, SHUT_RDWR);
	}
	(void)closedir(d);
}

void
sever(struct rig *r)
{
	unsigned downs = r->downs;

	assert_true(r->q.connected);
	shut_sockets();
	wait_for(r, r->downs > downs);
}

/* The receipts die with the connections, so that there is nothing to say. */
static void
cut(struct rig *r)
{
	r->window = 0;
	if (r->q.connected)
		sever(r);
	while (r->nheld != 0)
		drop(r, r->held[0]);
	r->ops->stop(&r->q);
	wait_for(r, r->stopped);
}

struct rig *
rabbit_new_at(const char *address, const char *keys)
{
	_cleanup_free_ char *all = xasprintf("Address=%s\n%s", address, keys);
	struct rig *r = rig_new(&rabbitmq_queue_type, all);

	r->cut = cut;
	return r;
}

struct rig *
rabbit_new(const char *keys)
{
	_cleanup_free_ char *address = xasprintf("127.0.0.1:%u", server.port);

	return rabbit_new_at(address, keys);
}

struct rig *
up(const char *keys, unsigned window)
{
	return rig_up(rabbit_new(keys), window);
}

struct rig *
up_declaring(enum durability kind, const char *more, unsigned window)
{
	_cleanup_free_ char *keys = xasprintf(JOBS "Declare=%s\n%s",
	    kind == QUORUM ? "quorum" : "classic", more);

	return up(keys, window);
}

size_t
rabbit_problem_count(const char *keys)
{
	_cleanup_free_ char *all = xasprintf("Address=127.0.0.1:1\n%s", keys);

	return config_problem_count(&rabbitmq_queue_type, all);
}

void
turn_for(struct rig *r, uint64_t us)
{
	uint64_t until = clock_monotonic_us() + us;

	while (clock_monotonic_us() < until)
		rig_turn(r);
}

void
assert_held(const struct rig *r, const int *numbers)
{
	for (unsigned i = 0; numbers[i] >= 0; i++) {
		char body[16];

		snprintf(body, sizeof(body), "m%d", numbers[i]);
		if (i >= r->nheld || !body_is(r->held[i], body))
			fail_msg("%s is not number %u of the %u held", body, i,
			    r->nheld);
	}
}

bool
attribute_equals(const struct message *m, const char *name, const char *json)
{
	const struct attribute *a = message_attribute(m, name);
	json_t *is, *want;
	bool equal;

	if (a == NULL || !a->json)
		return false;
	is = json_loadb(a->value.p, a->value.n, JSON_DECODE_ANY, NULL);
	want = json_loads(json, JSON_DECODE_ANY, NULL);
	assert_non_null(want);
	equal = is != NULL && json_equal(is, want);
	if (!equal)
		print_message("%s is %.*s\n", name, (int)a->value.n,
		    a->value.p);
	json_decref(is);
	json_decref(want);
	return equal;
}

json_int_t
status_number(struct rig *r, const char *name)
{
	json_t *status = status_of(r);
	json_t *value = json_object_get(status, name);
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value))
		fail_msg("the status has no number %s", name);
	json_decref(status);
	return n;
}

const char *
status_text(struct rig *r, const char *name)
{
	static char text[512];
	json_t *status = status_of(r);
	json_t *value = json_object_get(status, name);

	if (json_is_string(value))
		snprintf(text, sizeof(text), "%s", json_string_value(value));
	else if (json_is_null(value))
		snprintf(text, sizeof(text), "null");
	else
		fail_msg("the status has no text %s", name);
	json_decref(status);
	return text;
}

void
each_kind(void (*fn)(enum durability))
{
	fn(CLASSIC);
	(void)world_flush(NULL);
	fn(QUORUM);
}
