/*
 * The RabbitMQ queue on a real server: retries and burials, which are copies;
 * what they keep, and that none is lost on the way.
 */
#include "rabbit_rig.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#define MSEC	USEC_PER_MSEC
#define SEC	USEC_PER_SEC

/* ---- retries ---- */

static void
retry_comes_back(enum durability kind)
{
	amqp_table_entry_t headers[] = { TEXT("k", "v") };
	struct sending s = { .exchange = "orders", .key = "eu.new",
	    .body = { "a\0b", 3 }, .properties = {
	    ._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
	    .headers = TABLE(headers), .message_id = BYTES("id-1") } };
	struct rig *r = up_declaring(kind, "Backoff=100ms-1s\n", 10);
	struct message *m;
	uint64_t before;

	bind_exchange("orders", "jobs", "eu.new");
	publish_as(&s);
	m = take_one(r);
	before = clock_monotonic_us();
	settle_and_wait(r, m, SETTLE_RETRY, 500 * MSEC, 2, 1);
	assert_int_equal(count("jobs.bot-delay.500ms"), 1);
	assert_int_equal(count("jobs"), 0);
	m = take_one(r);
	assert_true(clock_monotonic_us() - before >= 490 * MSEC);
	assert_int_equal(m->attempt, 2);
	assert_int_equal(m->crashes, 1);
	assert_int_equal(m->body.n, 3);
	assert_memory_equal(m->body.p, "a\0b", 3);
	assert_true(attribute_is(m, "k", "v"));
	assert_true(attribute_is(m, "exchange", "orders"));
	assert_true(attribute_is(m, "routing-key", "eu.new"));
	assert_true(slice_is(m->name, "id-1"));
	/* Again, and at once: straight back, with the same origin. */
	settle_and_wait(r, m, SETTLE_RETRY, 0, 3, 1);
	m = take_one(r);
	assert_int_equal(m->attempt, 3);
	assert_int_equal(m->crashes, 1);
	assert_true(attribute_is(m, "exchange", "orders"));
	assert_true(attribute_is(m, "routing-key", "eu.new"));
	settle_and_wait(r, m, SETTLE_ACK, 0, 3, 1);
	rig_free(r);
	wait_count("jobs", 0);
	wait_count("jobs.bot-delay.500ms", 0);
	/* Within Backoff= they are there before they are needed. */
	wait_count("jobs.bot-delay.1s", 0);
	assert_int_equal(count("jobs.bot-delay.30d"), -1);
}

static void
test_retry_waits_and_comes_back(void **state _unused_)
{
	NEED_SERVER();
	each_kind(retry_comes_back);
}

static void
test_retry_delay_is_rounded_up(void **state _unused_)
{
	static const struct {
		uint64_t ms;
		const char *step;
	} want[] = {
		{ 15000, "15s" }, { 15001, "20s" }, { 20000, "20s" },
		{ 20001, "30s" }, { 30000, "30s" }, { 30001, "45s" },
		{ 45000, "45s" },
	};
	struct rig *r;
	int64_t there = 0;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "Backoff=15s-45s\n", 1);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		bool same = i != 0 &&
		    strcmp(want[i].step, want[i - 1].step) == 0;
		char name[64];
		struct message *m;

		snprintf(name, sizeof(name), "jobs.bot-delay.%s",
		    want[i].step);
		produce(0, 1);
		m = take_one(r);
		settle_and_wait(r, m, SETTLE_RETRY, want[i].ms * MSEC, 2, 0);
		there = same ? there + 1 : 1;
		if (count(name) != there)
			fail_msg("%" PRIu64 "ms is not in %s", want[i].ms,
			    name);
	}
	rig_free(r);
}

static void
test_only_declared_steps_are_used(void **state _unused_)
{
	static const struct {
		uint64_t ms;
		const char *queue;
	} want[] = {
		{ 1, "jobs.bot-delay.150ms" }, { 160, "jobs.bot-delay.200ms" },
		{ 301, "jobs.bot-delay.500ms" },
		{ 5000, "jobs.bot-delay.500ms" },	/* never past it */
	};
	struct rig *r;

	NEED_SERVER();
	declare("jobs", CLASSIC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.150ms", CLASSIC, 150, "jobs");
	declare_delay("jobs.bot-delay.200ms", CLASSIC, 200, "jobs");
	declare_delay("jobs.bot-delay.500ms", CLASSIC, 500, "jobs");
	r = up(JOBS "Backoff=150ms-500ms\n", 1);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct message *m;

		produce(0, 1);
		m = take_one(r);
		settle_and_wait(r, m, SETTLE_RETRY, want[i].ms * MSEC, 2, 0);
		if (count(want[i].queue) != 1)
			fail_msg("%" PRIu64 "ms is not in %s", want[i].ms,
			    want[i].queue);
		m = take_one(r);
		settle_and_wait(r, m, SETTLE_ACK, 0, 2, 0);
	}
	rig_free(r);
}

/* ---- what a copy keeps ---- */

struct kept {
	char *name;
	struct slice value;
	bool json;
};

static struct slice
slice_dup(struct slice s)
{
	char *p = xmalloc(s.n + 1);

	if (s.n != 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct slice){ p, s.n };
}

static struct kept *
keep(const struct message *m)
{
	struct kept *kept = xcalloc(m->nattributes + 1, sizeof(*kept));

	for (size_t i = 0; i < m->nattributes; i++) {
		kept[i].name = (char *)(uintptr_t)
		    slice_dup(m->attributes[i].name).p;
		kept[i].value = slice_dup(m->attributes[i].value);
		kept[i].json = m->attributes[i].json;
	}
	return kept;
}

static void
kept_free(struct kept *kept)
{
	for (size_t i = 0; kept[i].name != NULL; i++) {
		free(kept[i].name);
		free((char *)(uintptr_t)kept[i].value.p);
	}
	free(kept);
}

/* All of what it had, and nothing of ours. */
static void
assert_kept(const struct kept *kept, const struct attribute *at, size_t n)
{
	for (size_t i = 0; kept[i].name != NULL; i++) {
		const struct attribute *a = NULL;

		if (strcmp(kept[i].name, "redelivered") == 0)
			continue;
		for (size_t k = 0; k < n && a == NULL; k++)
			if (slice_is(at[k].name, kept[i].name))
				a = &at[k];
		if (a == NULL)
			fail_msg("%s is lost", kept[i].name);
		if (a->json != kept[i].json ||
		    !slice_eq(a->value, kept[i].value))
			fail_msg("%s was %.*s and is %.*s", kept[i].name,
			    (int)kept[i].value.n, kept[i].value.p,
			    (int)a->value.n, a->value.p);
	}
	for (size_t k = 0; k < n; k++)
		if (at[k].name.n >= 4 &&
		    memcmp(at[k].name.p, "bot-", 4) == 0)
			fail_msg("a handler sees %.*s", (int)at[k].name.n,
			    at[k].name.p);
}

#define FIELD(k, kind_, member, v) \
	{ .key = { sizeof(k) - 1, (void *)(uintptr_t)(k) }, \
	    .value = { .kind = (kind_), .value.member = (v) } }

/* One with everything that a message can have. */
static void
publish_rich(const char *body)
{
	char ff[] = { 'a', (char)0xff, '\0' };
	amqp_field_value_t list[] = {
		{ .kind = AMQP_FIELD_KIND_I32, .value.i32 = 1 },
		{ .kind = AMQP_FIELD_KIND_VOID },
	};
	amqp_table_entry_t inner[] = {
		FIELD("list", AMQP_FIELD_KIND_ARRAY, array,
		    ((amqp_array_t){ 2, list })),
		FIELD("yes", AMQP_FIELD_KIND_BOOLEAN, boolean, 1),
	};
	amqp_table_entry_t headers[] = {
		FIELD("b", AMQP_FIELD_KIND_I8, i8, -8),
		FIELD("B", AMQP_FIELD_KIND_U8, u8, 200),
		FIELD("s", AMQP_FIELD_KIND_I16, i16, -16000),
		FIELD("u", AMQP_FIELD_KIND_U16, u16, 65000),
		FIELD("I", AMQP_FIELD_KIND_I32, i32, -32),
		FIELD("i", AMQP_FIELD_KIND_U32, u32, 4000000000u),
		FIELD("l", AMQP_FIELD_KIND_I64, i64, INT64_MIN),
		FIELD("f", AMQP_FIELD_KIND_F32, f32, 0.1f),
		FIELD("d", AMQP_FIELD_KIND_F64, f64, 0.1),
		FIELD("D", AMQP_FIELD_KIND_DECIMAL, decimal,
		    ((amqp_decimal_t){ 2, 314 })),
		FIELD("T", AMQP_FIELD_KIND_TIMESTAMP, u64, 1700000000),
		FIELD("t", AMQP_FIELD_KIND_BOOLEAN, boolean, 0),
		FIELD("V", AMQP_FIELD_KIND_VOID, i32, 0),
		FIELD("S", AMQP_FIELD_KIND_UTF8, bytes, BYTES("text")),
		FIELD("bad", AMQP_FIELD_KIND_UTF8, bytes, BYTES(ff)),
		FIELD("x", AMQP_FIELD_KIND_BYTES, bytes, BYTES(ff)),
		FIELD("F", AMQP_FIELD_KIND_TABLE, table, TABLE(inner)),
		FIELD("A", AMQP_FIELD_KIND_ARRAY, array,
		    ((amqp_array_t){ 2, list })),
	};
	struct sending s = { .exchange = "orders", .key = "eu.new",
	    .body = slice_of(body), .properties = {
		._flags = AMQP_BASIC_HEADERS_FLAG |
		    AMQP_BASIC_CONTENT_TYPE_FLAG |
		    AMQP_BASIC_CONTENT_ENCODING_FLAG |
		    AMQP_BASIC_PRIORITY_FLAG |
		    AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG |
		    AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG |
		    AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG,
		.headers = TABLE(headers), .content_type = BYTES("a/b"),
		.content_encoding = BYTES("gzip"), .priority = 5,
		.correlation_id = BYTES("c"), .reply_to = BYTES("r"),
		.message_id = BYTES("m"), .timestamp = 1700000001,
		.type = BYTES("t"), .app_id = BYTES("a") } };

	publish_as(&s);
}

static void
copies_keep_all(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Backoff=100ms-1s\n", 1);
	struct walking w;
	struct kept *kept;
	struct message *m;

	bind_exchange("orders", "jobs", "eu.new");
	publish_rich("x");
	m = take_one(r);
	kept = keep(m);
	settle_and_wait(r, m, SETTLE_RETRY, 100 * MSEC, 2, 0);
	m = take_one(r);
	assert_kept(kept, m->attributes, m->nattributes);
	settle_and_wait(r, m, SETTLE_RETRY, 0, 3, 0);
	m = take_one(r);
	assert_kept(kept, m->attributes, m->nattributes);
	settle_and_wait(r, m, SETTLE_BURY, 0, 3, 0);
	wait_count("jobs.dead", 1);
	walk_open(r, &w);
	assert_true(walk_next(r, &w));
	assert_kept(kept, w.item.attributes, w.item.nattributes);
	walk_act(r, &w, DEAD_REDRIVE);
	assert_false(error_is_set(&w.err));
	walk_close(r, &w);
	m = r->nheld != 0 ? r->held[0] : take_one(r);
	assert_int_equal(m->attempt, 1);
	assert_int_equal(m->crashes, 0);
	assert_kept(kept, m->attributes, m->nattributes);
	settle_and_wait(r, m, SETTLE_ACK, 0, 1, 0);
	kept_free(kept);
	rig_free(r);
}

static void
test_copies_keep_what_the_message_had(void **state _unused_)
{
	NEED_SERVER();
	each_kind(copies_keep_all);
}

/* Long bodies go in many frames, also on the way back. */
static void
long_copies(enum durability kind)
{
	_cleanup_free_ char *bytes = xmalloc(700000);
	struct slice body = { bytes, 700000 };
	struct rig *r = up_declaring(kind, "Backoff=100ms-1s\nMaxBytes=1M\n",
	    1);
	struct message *m;
	struct got g;

	for (size_t i = 0; i < body.n; i++)
		bytes[i] = (char)(i * 131 + (i >> 9));
	publish_as(&(struct sending){ .key = "jobs", .body = body });
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_RETRY, 100 * MSEC, 2, 0);
	m = take_one(r);
	assert_true(slice_eq(m->body, body));
	settle_and_wait(r, m, SETTLE_BURY, 0, 2, 0);
	wait_count("jobs.dead", 1);
	assert_true(get("jobs.dead", &g));
	assert_true(slice_eq((struct slice){ g.message.body.bytes,
	    g.message.body.len }, body));
	got_done(&g);
	rig_free(r);
}

static void
test_copies_of_long_bodies(void **state _unused_)
{
	NEED_SERVER();
	each_kind(long_copies);
}

/*
 * What would act at the broker must not: an expiration would end the wait or
 * the dead letter, a user-id of somebody else closes the channel, CC sends
 * copies to others.
 */
static void
test_what_acts_is_not_copied(void **state _unused_)
{
	amqp_field_value_t cc[] = { { .kind = AMQP_FIELD_KIND_UTF8,
	    .value.bytes = BYTES("copies") } };
	amqp_table_entry_t headers[] = { FIELD("CC", AMQP_FIELD_KIND_ARRAY,
	    array, ((amqp_array_t){ 1, cc })) };
	struct sending s = { .key = "jobs", .body = SLICE("x"), .properties = {
	    ._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_EXPIRATION_FLAG |
	    AMQP_BASIC_USER_ID_FLAG, .headers = TABLE(headers),
	    .expiration = BYTES("300"), .user_id = BYTES("guest") } };
	_cleanup_free_ char *path = NULL, *keys = NULL;
	struct rig *r;
	struct message *m;
	struct got g;
	uint64_t before;

	NEED_SERVER();
	/* As somebody else than who has sent it. */
	path = xasprintf("%s/password", server.dir);
	keys = xasprintf(JOBS "Declare=classic\nBackoff=100ms-1s\n"
	    "Username=bot\nPasswordFile=%s\n", path);
	write_file(path, "pw");
	server_user("bot", "pw");
	server_allow("bot", ".*", ".*", ".*");
	declare("copies", CLASSIC);
	r = up(keys, 1);
	publish_as(&s);
	wait_count("copies", 1);
	m = take_one(r);
	before = clock_monotonic_us();
	settle_and_wait(r, m, SETTLE_RETRY, SEC, 2, 0);
	m = take_one(r);
	assert_true(clock_monotonic_us() - before >= 990 * MSEC);
	settle_and_wait(r, m, SETTLE_RETRY, 0, 3, 0);
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_BURY, 0, 3, 0);
	wait_count("jobs.dead", 1);
	/* What the first publish put there has expired; no copy has come. */
	assert_int_equal(count("copies"), 0);
	assert_true(get("jobs.dead", &g));
	assert_int_equal(g.message.properties._flags &
	    (AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_USER_ID_FLAG), 0);
	assert_null(got_header(&g, "CC"));
	got_done(&g);
	assert_int_equal(r->downs, 0);
	rig_free(r);
	server_no_user("bot");
}

/* Also the third time around, the broker must not take it for a cycle. */
static void
retries_go_on(enum durability kind)
{
	struct rig *r = up_declaring(kind, "Backoff=100ms-100ms\n", 1);
	struct message *m;

	produce(0, 1);
	for (unsigned n = 1; n <= 8; n++) {
		m = take_one(r);
		assert_int_equal(m->attempt, n);
		settle_and_wait(r, m, SETTLE_RETRY, 100 * MSEC, n + 1, 0);
	}
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_ACK, 0, 9, 0);
	rig_free(r);
}

static void
test_retried_again_and_again(void **state _unused_)
{
	NEED_SERVER();
	each_kind(retries_go_on);
}

/* ---- burying ---- */

static void
bury_says_why(enum durability kind)
{
	struct rig *r = up_declaring(kind, "DeadLetter=other.dead\n", 1);
	uint64_t now_ms = clock_realtime_us() / 1000;
	struct message *m;
	struct got g;

	bind_exchange("orders", "jobs", "eu.new");
	publish_rich("bad one");
	m = take_one(r);
	settle_and_wait(r, m, SETTLE_BURY, 0, 4, 2);
	wait_count("other.dead", 1);
	assert_true(get("other.dead", &g));
	assert_true(got_body_is(&g, "bad one"));
	assert_int_equal(g.message.properties.delivery_mode, 2);
	assert_int_equal(got_number(&g, "bot-attempt"), 4);
	assert_int_equal(got_number(&g, "bot-crashes"), 2);
	assert_true(got_text_is(&g, "bot-error-type", "external_api"));
	assert_true(got_text_is(&g, "bot-detail", "it \"failed\"\n"));
	assert_true(got_text_is(&g, "bot-exchange", "orders"));
	assert_true(got_text_is(&g, "bot-routing-key", "eu.new"));
	assert_true(got_text_is(&g, "bot-queue", "jobs"));
	assert_true(got_number(&g, "bot-died") >= (int64_t)now_ms - 1000);
	assert_true(got_number(&g, "bot-died") <= (int64_t)now_ms + 60000);
	/* And everything of its own, in its own types. */
	assert_int_equal(got_header(&g, "B")->kind, AMQP_FIELD_KIND_U8);
	assert_int_equal(got_header(&g, "s")->kind, AMQP_FIELD_KIND_I16);
	assert_int_equal(got_header(&g, "D")->kind, AMQP_FIELD_KIND_DECIMAL);
	assert_int_equal(got_header(&g, "F")->kind, AMQP_FIELD_KIND_TABLE);
	assert_int_equal(g.message.properties.priority, 5);
	got_done(&g);
	rig_free(r);
	assert_int_equal(count("jobs.dead"), -1);
}

static void
test_bury_says_why(void **state _unused_)
{
	NEED_SERVER();
	each_kind(bury_says_why);
}

/* ---- invariant 1: only what is confirmed is acknowledged ---- */

static void
test_invariant_1_rabbit_waits_for_the_confirm(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "Backoff=1s-1min\n", 4);
	produce(0, 4);
	wait_for(r, r->nheld == 4);
	r->window = 0;
	credit(r, 0);
	/* The broker reads no more of a connection once it publishes. */
	server_memory_alarm(true);
	settle(r, r->held[0], SETTLE_RETRY, 60 * SEC, 2, 0);
	settle(r, r->held[0], SETTLE_RETRY, 60 * SEC, 2, 0);
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	wait_for(r, strcmp(status_text(r, "blocked"), "null") != 0);
	wait_for(r, r->settled == 1);		/* the acknowledgement */
	turn_for(r, 500 * MSEC);
	assert_int_equal(r->settled, 1);
	assert_int_equal(unacknowledged("jobs"), 3);
	assert_int_equal(status_number(r, "publishing"), 3);
	server_memory_alarm(false);
	wait_for(r, r->settled == 4);
	assert_int_equal(r->settle_errors, 0);
	assert_int_equal(r->downs, 0);
	wait_for(r, strcmp(status_text(r, "blocked"), "null") == 0);
	rig_free(r);
	wait_count("jobs", 0);
	wait_count("jobs.bot-delay.1min", 2);
	wait_count("jobs.dead", 1);
}

/* Being blocked for long is no reason to part, nor for a stop to hang. */
static void
test_blocked_longer_than_the_response_timeout(void **state _unused_)
{
	uint64_t before;
	struct rig *r;

	NEED_SERVER();
	r = up_declaring(CLASSIC, "Backoff=1s-1min\nResponseTimeout=1s\n", 4);
	produce(0, 3);
	wait_for(r, r->nheld == 3);
	server_memory_alarm(true);
	settle(r, r->held[0], SETTLE_RETRY, 60 * SEC, 2, 0);
	wait_for(r, strcmp(status_text(r, "blocked"), "null") != 0);
	turn_for(r, 2500 * MSEC);
	assert_int_equal(r->downs, 0);
	before = clock_monotonic_us();
	rig_stop(r);
	assert_true(clock_monotonic_us() - before < 8 * SEC);
	rig_free(r);
	server_memory_alarm(false);
	/* The one without a confirm, and those that were never settled; what
	   was sent before may be read now, and be there twice. */
	wait_count("jobs", 3);
	assert_true(MAX(count("jobs.bot-delay.1min"), 0) <= 1);
}

/* The dead letters are full and refuse: basic.nack. */
static void
test_invariant_1_rabbit_refused_copy(void **state _unused_)
{
	amqp_table_entry_t full[] = { NUMBER("x-max-length", 1),
	    TEXT("x-overflow", "reject-publish") };
	struct rig *r;

	NEED_SERVER();
	declare("jobs", CLASSIC);
	declare_with("jobs.dead", TABLE(full));
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	r = up(JOBS "Backoff=1s-1s\n", 6);
	produce(0, 6);
	wait_for(r, r->nheld == 6);
	r->window = 0;
	credit(r, 0);
	while (r->nheld != 0)
		settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	turn_for(r, SEC);
	assert_true(count("jobs.dead") >= 1);
	assert_true(r->settled < 6 || r->settle_errors > 0);
	/* There is room again: now, or after a restart, none is missing. */
	delete_queue("jobs.dead");
	declare("jobs.dead", CLASSIC);
	rig_stop(r);
	rig_free(r);
	assert_true(everywhere() >= 3);
	r = up(JOBS "Backoff=1s-1s\n", 10);
	turn_for(r, 200 * MSEC);
	acknowledge_all(r);
	rig_free(r);
}

/* The dead letters are not there at all: basic.return. */
static void
test_invariant_1_rabbit_unroutable_copy(void **state _unused_)
{
	struct rig *r;

	NEED_SERVER();
	declare("jobs", CLASSIC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	r = up(JOBS "Backoff=1s-1s\n", 4);
	produce(0, 4);
	wait_for(r, r->nheld == 4);
	r->window = 0;
	credit(r, 0);
	settle_and_wait(r, r->held[0], SETTLE_ACK, 0, 1, 0);
	turn_for(r, 200 * MSEC);
	delete_queue("jobs.dead");
	delete_queue("jobs.bot-delay.1s");
	settle(r, r->held[0], SETTLE_BURY, 0, 1, 0);
	settle(r, r->held[0], SETTLE_RETRY, SEC, 2, 0);
	turn_for(r, 500 * MSEC);
	declare("jobs.dead", CLASSIC);
	declare_delay("jobs.bot-delay.1s", CLASSIC, 1000, "jobs");
	turn_for(r, 500 * MSEC);
	rig_free(r);
	wait_everywhere(3);
}

#define T(f)	cmocka_unit_test_setup(f, world_flush)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_retry_waits_and_comes_back),
		T(test_retry_delay_is_rounded_up),
		T(test_only_declared_steps_are_used),
		T(test_copies_keep_what_the_message_had),
		T(test_copies_of_long_bodies),
		T(test_what_acts_is_not_copied),
		T(test_retried_again_and_again),
		T(test_bury_says_why),
		T(test_invariant_1_rabbit_waits_for_the_confirm),
		T(test_blocked_longer_than_the_response_timeout),
		T(test_invariant_1_rabbit_refused_copy),
		T(test_invariant_1_rabbit_unroutable_copy),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	rig_quiet();
	return cmocka_run_group_tests_name("rabbit_retry", tests, world_setup,
	    world_teardown);
}
