/*
 * The RabbitMQ queue on a real server: taking, acknowledging, giving back, and
 * what a handler sees of a message.
 */
#include "rabbit_rig.h"

#include <signal.h>
#include <stdio.h>

/* ---- the straight way ---- */

static void
delivers(enum durability kind)
{
	amqp_table_entry_t headers[] = { TEXT("kind", "mail") };
	struct sending s = { .key = "jobs", .body = SLICE("hello"),
	    .properties = { ._flags = AMQP_BASIC_HEADERS_FLAG |
	    AMQP_BASIC_MESSAGE_ID_FLAG, .headers = TABLE(headers),
	    .message_id = BYTES("id-1") } };
	struct rig *r;
	struct message *m;

	r = up_declaring(kind, "", 10);
	publish_as(&s);
	m = take_one(r);
	assert_true(body_is(m, "hello"));
	assert_true(attribute_is(m, "kind", "mail"));
	assert_true(slice_is(m->name, "id-1"));
	assert_int_equal(m->attempt, 1);
	assert_int_equal(m->crashes, 0);
	assert_true(m->lease_until_us > clock_monotonic_us());
	assert_int_equal(consumers("jobs"), 1);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	/* One without anything; it has a name nevertheless. */
	publish("jobs", "later");
	m = take_one(r);
	assert_true(body_is(m, "later"));
	assert_true(m->name.n != 0);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
	wait_count("jobs", 0);
	assert_int_equal(consumers("jobs"), 0);
}

static void
test_delivers_and_acknowledges(void **state _unused_)
{
	NEED_SERVER();
	each_kind(delivers);
}

static void
takes_all(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Prefetch=100\n", 0);

	produce(0, 3000);
	r->auto_ack = true;
	r->window = 100;
	wait_for(r, r->settled == 3000);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->delivered, 3000);
	assert_true(r->most <= 100);
	rig_free(r);
	wait_count("jobs", 0);
}

static void
test_takes_all_of_many(void **state _unused_)
{
	NEED_SERVER();
	each_kind(takes_all);
}

static void
test_what_was_there_before_is_taken(void **state _unused_)
{
	struct rig *r = NULL;

	NEED_SERVER();
	/* Also with everything declared by somebody else. */
	declare("jobs", CLASSIC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	declare_delay("jobs.bot-delay.2s", CLASSIC, 2000, "jobs");
	produce(0, 5);
	r = up(JOBS "Backoff=1s-2s\n", 10);
	wait_for(r, r->nheld == 5);
	assert_held(r, (const int[]){ 0, 1, 2, 3, 4, -1 });
	acknowledge_all(r);
	wait_for(r, r->settled == 5);
	rig_free(r);
}

/* ---- what a handler sees ---- */

static void
test_properties_become_attributes(void **state _unused_)
{
	static const struct {
		const char *name, *text;
	} want[] = {
		{ "content-type", "text/plain" }, { "content-encoding", "gzip" },
		{ "correlation-id", "c-7" }, { "reply-to", "answers" },
		{ "expiration", "60000" }, { "message-id", "id-9" },
		{ "type", "order.new" }, { "user-id", "guest" },
		{ "app-id", "shop" }, { "exchange", "orders" },
		{ "routing-key", "eu.new" },
	};
	struct sending s = { .exchange = "orders", .key = "eu.new",
	    .body = SLICE("x"), .properties = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG |
		    AMQP_BASIC_CONTENT_ENCODING_FLAG |
		    AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG |
		    AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG |
		    AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
		    AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG |
		    AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_APP_ID_FLAG,
		.content_type = BYTES("text/plain"),
		.content_encoding = BYTES("gzip"), .delivery_mode = 1,
		.priority = 3, .correlation_id = BYTES("c-7"),
		.reply_to = BYTES("answers"), .expiration = BYTES("60000"),
		.message_id = BYTES("id-9"), .timestamp = 1700000000,
		.type = BYTES("order.new"), .user_id = BYTES("guest"),
		.app_id = BYTES("shop") } };
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 1);
	bind_exchange("orders", "jobs", "eu.new");
	publish_as(&s);
	m = take_one(r);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		if (!attribute_is(m, want[i].name, want[i].text))
			fail_msg("%s is not %s", want[i].name, want[i].text);
	assert_true(attribute_equals(m, "delivery-mode", "1"));
	assert_true(attribute_equals(m, "priority", "3"));
	assert_true(attribute_equals(m, "timestamp", "1700000000"));
	assert_true(attribute_equals(m, "redelivered", "false"));
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 1, 0);
	m = take_one(r);
	assert_true(attribute_equals(m, "redelivered", "true"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	/* None of them is made up when it is not there. */
	publish("jobs", "y");
	m = take_one(r);
	for (size_t i = 0; i < ARRAY_SIZE(want) - 2; i++)
		if (message_attribute(m, want[i].name) != NULL)
			fail_msg("%s was made up", want[i].name);
	assert_true(attribute_is(m, "exchange", ""));
	assert_true(attribute_is(m, "routing-key", "jobs"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

#define FIELD(k, kind_, member, v) \
	{ .key = { sizeof(k) - 1, (void *)(uintptr_t)(k) }, \
	    .value = { .kind = (kind_), .value.member = (v) } }
#define ITEM(kind_, member, v) \
	{ .kind = (kind_), .value.member = (v) }

static void
test_headers_of_every_kind(void **state _unused_)
{
	char ff[] = { 'a', (char)0xff, '"', '\0' };
	amqp_field_value_t list[] = {
		ITEM(AMQP_FIELD_KIND_I32, i32, 1),
		ITEM(AMQP_FIELD_KIND_UTF8, bytes, BYTES("two")),
		ITEM(AMQP_FIELD_KIND_VOID, i32, 0),
		ITEM(AMQP_FIELD_KIND_UTF8, bytes, BYTES(ff)),
	};
	amqp_table_entry_t inner[] = {
		FIELD("deep", AMQP_FIELD_KIND_BOOLEAN, boolean, 1),
		FIELD("list", AMQP_FIELD_KIND_ARRAY, array,
		    ((amqp_array_t){ 4, list })),
	};
	amqp_table_entry_t outer[] = {
		FIELD("in", AMQP_FIELD_KIND_TABLE, table, TABLE(inner)),
		FIELD("q\"", AMQP_FIELD_KIND_F64, f64, -0.5),
	};
	amqp_table_entry_t headers[] = {
		FIELD("t", AMQP_FIELD_KIND_BOOLEAN, boolean, 1),
		FIELD("f", AMQP_FIELD_KIND_BOOLEAN, boolean, 0),
		FIELD("i8", AMQP_FIELD_KIND_I8, i8, -7),
		FIELD("u8", AMQP_FIELD_KIND_U8, u8, 250),
		FIELD("i16", AMQP_FIELD_KIND_I16, i16, -30000),
		FIELD("u16", AMQP_FIELD_KIND_U16, u16, 60000),
		FIELD("i32", AMQP_FIELD_KIND_I32, i32, -2000000000),
		FIELD("u32", AMQP_FIELD_KIND_U32, u32, 4000000000u),
		FIELD("i64", AMQP_FIELD_KIND_I64, i64, -9007199254740993),
		FIELD("f32", AMQP_FIELD_KIND_F32, f32, 1.5f),
		FIELD("f64", AMQP_FIELD_KIND_F64, f64, 2.25),
		FIELD("decimal", AMQP_FIELD_KIND_DECIMAL, decimal,
		    ((amqp_decimal_t){ 1, 15 })),
		FIELD("time", AMQP_FIELD_KIND_TIMESTAMP, u64, 1700000000),
		FIELD("void", AMQP_FIELD_KIND_VOID, i32, 0),
		FIELD("bytes", AMQP_FIELD_KIND_BYTES, bytes, BYTES(ff)),
		FIELD("text", AMQP_FIELD_KIND_UTF8, bytes,
		    BYTES("gr\xc3\xbc\xc3\x9f")),
		FIELD("bad", AMQP_FIELD_KIND_UTF8, bytes, BYTES(ff)),
		FIELD("empty", AMQP_FIELD_KIND_UTF8, bytes, BYTES("")),
		FIELD("table", AMQP_FIELD_KIND_TABLE, table, TABLE(outer)),
		FIELD("array", AMQP_FIELD_KIND_ARRAY, array,
		    ((amqp_array_t){ 4, list })),
		FIELD("none", AMQP_FIELD_KIND_TABLE, table, amqp_empty_table),
	};
	struct sending s = { .key = "jobs", .body = SLICE("x"), .properties = {
	    ._flags = AMQP_BASIC_HEADERS_FLAG, .headers = TABLE(headers) } };
	struct rig *r;
	struct message *m;
	const struct attribute *a;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 1);
	publish_as(&s);
	m = take_one(r);
	assert_true(attribute_equals(m, "t", "true"));
	assert_true(attribute_equals(m, "f", "false"));
	assert_true(attribute_equals(m, "i8", "-7"));
	assert_true(attribute_equals(m, "u8", "250"));
	assert_true(attribute_equals(m, "i16", "-30000"));
	assert_true(attribute_equals(m, "u16", "60000"));
	assert_true(attribute_equals(m, "i32", "-2000000000"));
	assert_true(attribute_equals(m, "u32", "4000000000"));
	assert_true(attribute_equals(m, "i64", "-9007199254740993"));
	assert_true(attribute_equals(m, "f32", "1.5"));
	assert_true(attribute_equals(m, "f64", "2.25"));
	assert_true(attribute_is(m, "text", "gr\xc3\xbc\xc3\x9f"));
	assert_true(attribute_is(m, "empty", ""));
	assert_non_null(message_attribute(m, "decimal"));
	assert_non_null(message_attribute(m, "time"));
	assert_non_null(message_attribute(m, "bytes"));
	/* What is no text is kept from nobody, and from no JSON reader. */
	a = message_attribute(m, "bad");
	assert_non_null(a);
	assert_true(a->json ? attribute_equals(m, "bad", "\"a\xef\xbf\xbd\\\"\"")
	    : slice_is(a->value, ff) || slice_is(a->value, "a\xef\xbf\xbd\""));
	assert_true(attribute_equals(m, "array",
	    "[1,\"two\",null,\"a\xef\xbf\xbd\\\"\"]"));
	assert_true(attribute_equals(m, "table", "{\"in\":{\"deep\":true,"
	    "\"list\":[1,\"two\",null,\"a\xef\xbf\xbd\\\"\"]},"
	    "\"q\\\"\":-0.5}"));
	assert_true(attribute_equals(m, "none", "{}"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

static void
test_cloud_events_by_any_prefix(void **state _unused_)
{
	amqp_table_entry_t headers[] = {
		TEXT("cloudEvents:id", "1"), TEXT("cloudEvents_type", "made"),
		TEXT("ce-source", "/shop"), TEXT("ce_subject", "hat"),
		TEXT("cents", "5"),
	};
	struct sending s = { .key = "jobs", .body = SLICE("x"), .properties = {
	    ._flags = AMQP_BASIC_HEADERS_FLAG, .headers = TABLE(headers) } };
	struct rig *r;
	struct message *m;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 1);
	publish_as(&s);
	m = take_one(r);
	assert_true(attribute_is(m, "ce-id", "1"));
	assert_true(attribute_is(m, "ce-type", "made"));
	assert_true(attribute_is(m, "ce-source", "/shop"));
	assert_true(attribute_is(m, "ce-subject", "hat"));
	assert_true(attribute_is(m, "cents", "5"));
	assert_null(message_attribute(m, "cloudEvents:id"));
	assert_null(message_attribute(m, "ce_subject"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	rig_free(r);
}

/* ---- bodies ---- */

static char *
pattern(size_t n)
{
	char *p = xmalloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 131 + (i >> 8) * 7);
	return p;
}

static void
bodies_arrive(enum durability kind)
{
	/* A frame holds 131072 - 8 bytes; one more needs a second. */
	static const size_t sizes[] = { 0, 1, 131063, 131064, 131065, 262128,
	    262129, 1000000 };
	_cleanup_free_ char *bytes = pattern(1000000);
	struct rig *r = up_declaring(kind, "MaxBytes=2M\n", 3);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct message *m;

		publish_as(&(struct sending){ .key = "jobs",
		    .body = { bytes, sizes[i] } });
		m = take_one(r);
		assert_int_equal(m->body.n, sizes[i]);
		assert_true(slice_eq(m->body, (struct slice){ bytes,
		    sizes[i] }));
		settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	}
	rig_free(r);
}

static void
test_bodies_of_any_length(void **state _unused_)
{
	NEED_SERVER();
	each_kind(bodies_arrive);
}

static void
test_long_bodies_side_by_side(void **state _unused_)
{
	_cleanup_free_ char *bytes = pattern(300000);
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "MaxBytes=1M\nPrefetch=20\n", 0);
	for (size_t i = 0; i < 20; i++)
		publish_as(&(struct sending){ .key = "jobs",
		    .body = { bytes + i, 299000 + i } });
	r->window = 20;
	wait_for(r, r->nheld == 20);
	for (size_t i = 0; i < 20; i++)
		assert_true(slice_eq(r->held[i]->body, (struct slice){
		    bytes + i, 299000 + i }));
	acknowledge_all(r);
	wait_for(r, r->settled == 20);
	rig_free(r);
}

static void
test_too_long_a_body_is_buried_whole(void **state _unused_)
{
	_cleanup_free_ char *bytes = pattern(400000);
	struct got g;
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "MaxBytes=1K\n", 5);
	publish_as(&(struct sending){ .key = "jobs",
	    .body = { bytes, 400000 } });
	publish("jobs", "short");
	/* Told as malformed, or left to the engine, which buries it. */
	wait_for(r, r->malformed == 1 || r->nheld == 2);
	if (r->malformed == 0)
		settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	wait_for(r, r->settled == 1 && r->nheld == 1);
	assert_int_equal(r->settle_errors, 0);
	assert_true(body_is(r->held[0], "short"));
	wait_count("jobs.dead", 1);
	assert_true(get("jobs.dead", &g));
	assert_int_equal(g.message.body.len, 400000);
	assert_memory_equal(g.message.body.bytes, bytes, 400000);
	got_done(&g);
	rig_free(r);
}

/* ---- credit ---- */

static void
credit_is_kept(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Prefetch=7\n", 0);

	produce(0, 50);
	turn_for(r, 300 * USEC_PER_MSEC);
	assert_int_equal(r->delivered, 0);
	assert_true(count("jobs") >= 43);
	r->window = 7;
	wait_for(r, r->nheld == 7);
	turn_for(r, 300 * USEC_PER_MSEC);
	assert_int_equal(r->nheld, 7);
	assert_int_equal(count("jobs"), 43);
	assert_int_equal(status_number(r, "unacknowledged"), 7);
	assert_int_equal(status_number(r, "consumer_prefetch"), 7);
	for (int i = 0; i < 3; i++)
		settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, r->settled == 3 && r->nheld == 7);
	turn_for(r, 300 * USEC_PER_MSEC);
	assert_int_equal(count("jobs"), 40);
	while (r->settled < 50) {
		acknowledge_all(r);
		rig_turn(r);
		/* Never more than 7 are neither ready nor acknowledged. */
		assert_true(count("jobs") >= 43 - (int)r->settled -
		    (int)r->q.nsettling);
	}
	assert_int_equal(r->delivered, 50);
	assert_true(r->most <= 7);
	rig_free(r);
}

static void
test_never_beyond_credit(void **state _unused_)
{
	NEED_SERVER();
	each_kind(credit_is_kept);
}

/*
 * With nothing wanted for a while it may end its consumer; the one that it
 * begins afterwards must not get its prefetch on top of what is still held.
 */
static void
prefetch_holds(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Prefetch=7\n", 7);

	produce(0, 7);
	wait_for(r, r->nheld == 7);
	r->window = 0;
	credit(r, 0);
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	turn_for(r, 500 * USEC_PER_MSEC);
	produce(7, 23);
	turn_for(r, 200 * USEC_PER_MSEC);
	assert_true(count("jobs") >= 22);	/* 30 less 1 less 7 */
	r->window = 7;
	wait_for(r, r->nheld >= 7);
	turn_for(r, 300 * USEC_PER_MSEC);
	assert_int_equal(r->nheld, 7);
	assert_int_equal(count("jobs"), 22);
	rig_free(r);
	wait_count("jobs", 29);
}

static void
test_prefetch_holds_over_a_pause(void **state _unused_)
{
	NEED_SERVER();
	each_kind(prefetch_holds);
}

static void
test_credit_that_comes_back(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "", 0);
	produce(0, 40);
	r->window = 10;
	wait_for(r, r->nheld == 10);
	/* None for a while, as in a pause; and then more than before. */
	r->window = 0;
	credit(r, 0);
	acknowledge_all(r);
	wait_for(r, r->settled == 10);
	turn_for(r, 200 * USEC_PER_MSEC);
	assert_true(r->nheld <= 10);	/* what was asked for before */
	r->window = 100;
	wait_for(r, r->delivered == 40);
	acknowledge_all(r);
	wait_for(r, r->settled == 40);
	assert_int_equal(r->settle_errors, 0);
	rig_free(r);
	wait_count("jobs", 0);
}

/* ---- settlements of every order ---- */

static void
out_of_order(enum durability kind)
{
	static const unsigned done[] = { 19, 0, 1, 2, 7, 5, 14, 12, 13, 15 };
	struct message *m[20];
	struct rig *r = up_declaring(kind, "", 20);

	produce(0, 20);
	wait_for(r, r->nheld == 20);
	memcpy(m, r->held, sizeof(m));
	r->window = 0;
	for (size_t i = 0; i < ARRAY_SIZE(done); i++) {
		settle(r, m[done[i]], SETTLE_ACK, 0, 1, 0);
		if (i % 4 == 3)
			rig_turn(r);	/* another batch */
	}
	wait_for(r, r->settled == 10);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(status_number(r, "unacknowledged"), 10);
	/* What is on its way when a connection breaks may get lost. */
	wait_for(r, unacknowledged("jobs") <= 10);
	/* An acknowledgement that said too much would show now. */
	rig_crash(r);
	r = up_declaring(kind, "", 30);
	wait_for(r, r->nheld == 10);
	assert_held(r, (const int[]){ 3, 4, 6, 8, 9, 10, 11, 16, 17, 18, -1 });
	for (unsigned i = 0; i < 10; i++)
		assert_true(attribute_equals(r->held[i], "redelivered",
		    "true"));
	turn_for(r, 200 * USEC_PER_MSEC);
	assert_int_equal(r->nheld, 10);
	acknowledge_all(r);
	wait_for(r, r->settled == 10);
	rig_free(r);
	wait_count("jobs", 0);
}

static void
test_acknowledged_out_of_order(void **state _unused_)
{
	NEED_SERVER();
	each_kind(out_of_order);
}

/* All kinds of settlement in one turn, around one that is still held. */
static void
mixed_batch(enum durability kind)
{
	struct message *m[10];
	struct rig *r = up_declaring(kind, "Backoff=1s-1min\n", 10);

	produce(0, 10);
	wait_for(r, r->nheld == 10);
	memcpy(m, r->held, sizeof(m));
	r->window = 0;
	credit(r, 0);
	settle(r, m[0], SETTLE_ACK, 0, 1, 0);
	settle(r, m[1], SETTLE_RETRY, 60 * USEC_PER_SEC, 2, 0);
	settle(r, m[2], SETTLE_ACK, 0, 1, 0);
	settle(r, m[3], SETTLE_BURY, 0, 1, 0);
	settle(r, m[4], SETTLE_ACK, 0, 1, 0);
	settle(r, m[5], SETTLE_RELEASE, 0, 1, 0);
	for (int i = 7; i < 10; i++)
		settle(r, m[i], SETTLE_ACK, 0, 1, 0);
	wait_for(r, r->settled == 9);
	assert_int_equal(r->settle_errors, 0);
	wait_for(r, unacknowledged("jobs") <= 2);
	rig_crash(r);
	wait_count("jobs", 2);			/* 5 and 6 */
	wait_count("jobs.bot-delay.1min", 1);
	wait_count("jobs.dead", 1);
	r = up_declaring(kind, "Backoff=1s-1min\n", 10);
	wait_for(r, r->nheld == 2);
	assert_true(body_is(r->held[0], "m5") || body_is(r->held[1], "m5"));
	assert_true(body_is(r->held[0], "m6") || body_is(r->held[1], "m6"));
	rig_free(r);
}

static void
test_settlements_of_every_kind_in_one_batch(void **state _unused_)
{
	NEED_SERVER();
	each_kind(mixed_batch);
}

static void
release_requeues(enum durability kind)
{
	struct rig *r = up_declaring(kind, "", 1);
	struct message *m;

	produce(0, 1);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 1, 0);
	m = take_one(r);
	assert_true(body_is(m, "m0"));
	assert_int_equal(m->attempt, 1);
	/* With a history it keeps that: here the engine counted. */
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 3, 1);
	m = take_one(r);
	assert_true(body_is(m, "m0"));
	assert_int_equal(m->attempt, 3);
	assert_int_equal(m->crashes, 1);
	settle_and_wait(r, m, SETTLE_RELEASE, 0, 3, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	settle_and_wait(r, m, SETTLE_ACK, 0, 3, 1);
	rig_free(r);
	wait_count("jobs", 0);
}

static void
test_release_requeues(void **state _unused_)
{
	NEED_SERVER();
	each_kind(release_requeues);
}

static void
stop_gives_back(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Prefetch=10\n", 10);
	bool seen[30] = { false };
	uint64_t before;

	produce(0, 30);
	wait_for(r, r->nheld == 10);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);	/* still to be sent */
	before = clock_monotonic_us();
	rig_stop(r);
	assert_int_equal(r->settle_errors, 0);
	/* The 5 s are for a broker that does not answer; this one does. */
	assert_true(clock_monotonic_us() - before < 3 * USEC_PER_SEC);
	rig_free(r);
	wait_count("jobs", 29);
	assert_int_equal(consumers("jobs"), 0);
	r = up_declaring(kind, "", 40);
	wait_for(r, r->nheld == 29);
	for (unsigned i = 0; i < 29; i++) {
		struct slice body = r->held[i]->body;
		uint64_t n;

		assert_int_equal(slice_to_u64((struct slice){ body.p + 1,
		    body.n - 1 }, &n), 0);
		assert_true(n < 30 && !seen[n]);
		seen[n] = true;
		/* A classic queue puts them back where they were. */
		if (kind == CLASSIC)
			assert_int_equal(n, i + 1);
		assert_int_equal(r->held[i]->attempt, 1);
	}
	acknowledge_all(r);
	wait_for(r, r->settled == 29);
	rig_free(r);
}

static void
test_stop_gives_back(void **state _unused_)
{
	NEED_SERVER();
	each_kind(stop_gives_back);
}

static void
redelivered_in_order(enum durability kind)
{
	struct rig *r = up_declaring(kind, "", 20);

	produce(0, 12);
	wait_for(r, r->nheld == 12);
	rig_crash(r);
	r = up_declaring(kind, "", 20);
	wait_for(r, r->nheld == 12);
	assert_held(r, (const int[]){ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
	    -1 });
	acknowledge_all(r);
	wait_for(r, r->settled == 12);
	rig_free(r);
}

static void
test_redelivered_in_order(void **state _unused_)
{
	NEED_SERVER();
	each_kind(redelivered_in_order);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_delivers_and_acknowledges),
		T(test_takes_all_of_many),
		T(test_what_was_there_before_is_taken),
		T(test_properties_become_attributes),
		T(test_headers_of_every_kind),
		T(test_cloud_events_by_any_prefix),
		T(test_bodies_of_any_length),
		T(test_long_bodies_side_by_side),
		T(test_too_long_a_body_is_buried_whole),
		T(test_never_beyond_credit),
		T(test_prefetch_holds_over_a_pause),
		T(test_credit_that_comes_back),
		T(test_acknowledged_out_of_order),
		T(test_settlements_of_every_kind_in_one_batch),
		T(test_release_requeues),
		T(test_stop_gives_back),
		T(test_redelivered_in_order),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("rabbit_queue", tests, world_setup,
	    world_teardown);
}
