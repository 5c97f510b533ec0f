/*
 * The guard's parts, each by itself: how security events are told, signatures,
 * the rules of screens, patterns and what they may cost, floods.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"
#include "engine/message.h"
#include "guard/flood.h"
#include "guard/guard.h"
#include "guard/recent.h"
#include "guard/screen.h"
#include "guard/security.h"
#include "guard/verify.h"
#include "loop/loop.h"

#define ARE(s, text) \
	do { \
		if (!slice_is((s), (text))) \
			fail_msg("\"%.*s\" is not \"%s\"", (int)(s).n, \
			    (s).p, (text)); \
	} while (0)

/* ---- what was logged ---- */

static char last_line[1024];
static unsigned lines;

static void
on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	assert_int_equal(level, LOG_LEVEL_WARNING);
	assert_non_null(f->event);
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", text);
}

static int
setup(void **state)
{
	(void)state;
	clock_set_virtual(1000 * USEC_PER_SEC, 0);
	log_tap(on_log, NULL);
	log_tap_exclusive(true);
	lines = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	log_tap_exclusive(false);
	log_tap(NULL, NULL);
	clock_set_real();
	return 0;
}

/* ---- security.c ---- */

static struct {
	unsigned calls;
	char sender[SECURITY_NAME_MAX + 2];
} heard;

static void
on_event(void *owner, const struct security_event *e)
{
	assert_ptr_equal(owner, &heard);
	heard.calls++;
	snprintf(heard.sender, sizeof(heard.sender), "%.*s", (int)e->sender.n,
	    e->sender.p);
}

static void
test_strangers_words_are_made_harmless(void **state)
{
	char all[256], out[SECURITY_NAME_MAX + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	assert_int_equal(security_clean((struct slice){ all, sizeof(all) },
	    out), SECURITY_NAME_MAX);
	for (unsigned i = 0; i < SECURITY_NAME_MAX; i++)
		assert_int_equal(out[i], i <= ' ' || i == '"' || i == '\\' ||
		    i == 0x7f ? '?' : (int)i);
	assert_int_equal(out[SECURITY_NAME_MAX], 0);
	assert_int_equal(security_clean((struct slice){ all + 128, 128 }, out),
	    128);
	assert_int_equal(strspn(out, "?"), 128);
	assert_int_equal(security_clean((struct slice){ NULL, 0 }, out), 0);

	security_tell(&(struct security_event){
	    .kind = SECURITY_MESSAGE_SUSPICIOUS, .src_ip = "192.0.2.1",
	    .user = SLICE("a b"), .sender = SLICE("x\" reason=\"y\n\\"),
	    .queue = SLICE("q"), .reason = SLICE("two \"words\"\n") });
	assert_string_equal(last_line, "event=message_suspicious "
	    "src_ip=192.0.2.1 user=\"a?b\" sender=\"x??reason=?y??\" "
	    "queue=\"q\" reason=\"two ?words??\"");
	security_tell(&(struct security_event){ .kind = SECURITY_AUTH_FAILED });
	assert_string_equal(last_line, "event=auth_failed src_ip=- user=\"\" "
	    "sender=\"\" queue=\"\" reason=\"\"");
}

static void
tell_many(enum security_kind kind, unsigned n)
{
	while (n-- != 0)
		security_tell(&(struct security_event){ .kind = kind,
		    .sender = SLICE("m y") });
}

static void
test_lines_are_bounded_and_the_rest_is_said(void **state)
{
	struct loop *loop;
	uint64_t before = security_count(SECURITY_MESSAGE_FLOOD);

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	security_open(loop);
	lines = 0;
	security_listen(on_event, &heard);
	heard.calls = 0;
	tell_many(SECURITY_MESSAGE_FLOOD, 5000);
	assert_int_equal(lines, SECURITY_LINES);
	assert_int_equal(heard.calls, 5000);
	assert_string_equal(heard.sender, "m?y");
	assert_int_equal(security_count(SECURITY_MESSAGE_FLOOD) - before, 5000);
	/* Another kind has lines of its own. */
	tell_many(SECURITY_MESSAGE_AUTH_FAILED, 1);
	assert_int_equal(lines, SECURITY_LINES + 1);
	(void)loop_turn(loop, 0);
	assert_int_equal(lines, SECURITY_LINES + 1);
	clock_advance(USEC_PER_SEC);
	(void)loop_turn(loop, 0);
	assert_int_equal(lines, SECURITY_LINES + 2);
	assert_string_equal(last_line, "4980 more events message_flood were "
	    "not logged one by one");
	/* And then there is nothing more to say. */
	clock_advance(10 * USEC_PER_SEC);
	(void)loop_turn(loop, 0);
	assert_int_equal(lines, SECURITY_LINES + 2);
	tell_many(SECURITY_MESSAGE_FLOOD, SECURITY_LINES + 3);
	assert_int_equal(lines, 2 * SECURITY_LINES + 2);
	security_close();
	assert_int_equal(lines, 2 * SECURITY_LINES + 3);
	assert_non_null(strstr(last_line, "3 more events message_flood"));
	security_unlisten(&lines);
	tell_many(SECURITY_AUTH_FAILED, 1);
	assert_int_equal(heard.calls, 5000 + 1 + SECURITY_LINES + 3 + 1);
	security_unlisten(&heard);
	tell_many(SECURITY_AUTH_FAILED, 1);
	assert_int_equal(heard.calls, 5000 + 1 + SECURITY_LINES + 3 + 1);
	loop_free(loop);
}

static void
test_the_last_minute_is_counted(void **state)
{
	const enum security_kind k = SECURITY_MESSAGE_SUSPICIOUS;

	(void)state;
	clock_set_virtual(5000 * USEC_PER_SEC, 0);
	assert_int_equal(security_per_minute(k), 0);
	tell_many(k, 3);
	clock_advance(30 * USEC_PER_SEC);
	tell_many(k, 100);
	assert_int_equal(security_per_minute(k), 103);
	clock_advance(30 * USEC_PER_SEC);
	assert_int_equal(security_per_minute(k), 100);
	clock_advance(29 * USEC_PER_SEC);
	assert_int_equal(security_per_minute(k), 100);
	clock_advance(1 * USEC_PER_SEC);
	assert_int_equal(security_per_minute(k), 0);
	tell_many(k, 1);
	clock_advance(1000 * USEC_PER_SEC);
	assert_int_equal(security_per_minute(k), 0);
	clock_set_virtual(1000 * USEC_PER_SEC, 0);
}

static void
test_kinds_have_names(void **state)
{
	(void)state;
	assert_string_equal(security_kind_name(SECURITY_AUTH_FAILED),
	    "auth_failed");
	assert_null(security_kind_name(0));
	assert_null(security_kind_name(SECURITY_NKINDS));
	for (enum security_kind i = 1; i < SECURITY_NKINDS; i++)
		assert_non_null(security_kind_name(i));
}

/* ---- verify.c ---- */

static void
hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

/* RFC 4231, section 4. */
static void
test_hmac_vectors(void **state)
{
	static const struct {
		const char *key;
		char fill;
		size_t nkey;
		const char *text;
		char repeated;
		size_t ntext;
		const char *want;
	} cases[] = {
		{ NULL, 0x0b, 20, "Hi There", 0, 0, "b0344c61d8db38535ca8afceaf"
		    "0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "Jefe", 0, 4, "what do ya want for nothing?", 0, 0,
		    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964"
		    "ec3843" },
		{ NULL, (char)0xaa, 20, NULL, (char)0xdd, 50, "773ea91e36800e4"
		    "6854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
		{ "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25"
		    "\26\27\30\31", 0, 25, NULL, (char)0xcd, 50,
		    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff467"
		    "29665b" },
		{ NULL, (char)0xaa, 131, "Test Using Larger Than Block-Size "
		    "Key - Hash Key First", 0, 0, "60e431591ee0b67f0d8a26aacbf5"
		    "b77f8e0bc6213728c5140546040f0ee37f54" },
		{ NULL, (char)0xaa, 131, "This is a test using a larger than "
		    "block-size key and a larger than block-size data. The key "
		    "needs to be hashed before being used by the HMAC "
		    "algorithm.", 0, 0, "9b09ffa71b942fcb27635fbcd5b0e944bfdc6"
		    "3644f0713938a7f51535c3a35e2" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char key[131], text[50], got[2 * VERIFY_BYTES + 1];
		unsigned char mac[VERIFY_BYTES], parsed[VERIFY_BYTES];

		memset(key, cases[i].fill, sizeof(key));
		memset(text, cases[i].repeated, sizeof(text));
		verify_hmac((struct slice){ cases[i].key != NULL ?
		    cases[i].key : key, cases[i].nkey },
		    cases[i].text != NULL ? slice_of(cases[i].text) :
		    (struct slice){ text, cases[i].ntext }, mac);
		hex(mac, sizeof(mac), got);
		assert_string_equal(got, cases[i].want);
		assert_true(verify_parse(slice_of(got), parsed));
		assert_memory_equal(parsed, mac, sizeof(mac));
	}
}

static bool
parses(const char *text)
{
	unsigned char out[VERIFY_BYTES];

	return verify_parse(slice_of(text), out);
}

#define HEX64	"00112233445566778899aabbccddeeff" \
	"00112233445566778899AABBCCDDEEFF"
#define B43	"ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8"

static void
test_signatures_have_several_spellings(void **state)
{
	unsigned char a[VERIFY_BYTES], b[VERIFY_BYTES];

	(void)state;
	assert_true(verify_parse(SLICE(HEX64), a));
	assert_true(verify_parse(SLICE(B43), b));
	assert_memory_equal(a, b, sizeof(a));
	assert_true(parses("sha256=" HEX64));
	assert_true(parses("SHA256=" B43 "="));
	assert_true(parses(" " B43 "= \r"));
	assert_true(parses("ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"));
	assert_false(parses(""));
	assert_false(parses("sha256="));
	assert_false(parses("sha1=" HEX64));
	assert_false(parses(HEX64 "0"));
	assert_false(parses("x" HEX64));
	assert_false(parses(B43 "=="));
	assert_false(parses(B43 "A"));
	/* Bits behind the end: another spelling of the same bytes. */
	assert_false(parses("ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v9"));
	assert_false(parses("0011223344556677889?aabbccddeeff"
	    "00112233445566778899AABBCCDDEEFF"));
}

static char path[] = "/tmp/bot-test-guard-XXXXXX";

static struct verify_keys *
keys_of(const char *text, struct error *err)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	error_clear(err);
	return verify_keys_read(path, err);
}

static void
expect_no_keys(const char *text, const char *why)
{
	struct error err = ERROR_INIT;

	assert_null(keys_of(text, &err));
	if (strstr(err.text, why) == NULL || strstr(err.text, path) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	assert_null(strstr(err.text, "tiny"));
}

static void
test_key_files(void **state)
{
	struct error err = ERROR_INIT;
	char many[17 * (VERIFY_KEYS_MAX + 1) + 1] = "";
	struct verify_keys *k;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	expect_no_keys("", "empty");
	expect_no_keys("\n\n \r\n", "no key");
	expect_no_keys("tiny\n", "at least 16 bytes");
	expect_no_keys("0123456789abcdef\ntiny", "at least 16 bytes");
	for (unsigned i = 0; i <= VERIFY_KEYS_MAX; i++)
		strcat(many, "0123456789abcdef\n");
	expect_no_keys(many, "more than 16 keys");
	k = keys_of("\n 0123456789abcdef\r\n\nfedcba9876543210", &err);
	assert_non_null(k);
	verify_keys_free(k);
	(void)unlink(path);
	assert_null(verify_keys_read(path, &err));
	assert_non_null(strstr(err.text, path));
}

/* ---- messages ---- */

static struct queue queue = { .max_bytes = 1 * MIB };

static struct message *
message_of(struct slice body, const struct attribute *a, size_t n)
{
	struct chunk *c = chunk_new();
	struct message *m = message_new(&queue, c);

	m->body = body;
	m->attributes = a;
	m->nattributes = n;
	m->name = SLICE("1");
	chunk_unref(c);
	return m;
}

static void
test_messages_are_verified(void **state)
{
	static const char *const both[] = { "from", "at", NULL };
	char *none[] = { NULL };
	char mac[2 * VERIFY_BYTES + 1];
	unsigned char raw[VERIFY_BYTES];
	struct error err = ERROR_INIT;
	struct verify_keys *k;
	struct attribute a[3] = {
		{ SLICE("from"), SLICE("shop"), false },
		{ SLICE("at"), SLICE(""), false },
		{ SLICE("sig"), { mac, sizeof(mac) - 1 }, false },
	};
	struct message *m = message_of(SLICE("body"), a, 3);

	(void)state;
	k = keys_of("0123456789abcdef\nfedcba9876543210\n", &err);
	assert_non_null(k);
	verify_hmac(SLICE("fedcba9876543210"), SLICE("body"), raw);
	hex(raw, sizeof(raw), mac);
	assert_null(verify_message(k, m, "sig", none));
	assert_string_equal(verify_message(k, m, "other", none),
	    "no signature");
	assert_string_equal(verify_message(k, m, "from", none),
	    "malformed signature");
	assert_string_equal(verify_message(k, m, "sig", (char *const *)both),
	    "wrong signature");
	verify_hmac(SLICE("0123456789abcdef"), SLICE("from=shop\nat=\nbody"),
	    raw);
	hex(raw, sizeof(raw), mac);
	assert_null(verify_message(k, m, "sig", (char *const *)both));
	m->body = SLICE("bodY");
	assert_string_equal(verify_message(k, m, "sig", (char *const *)both),
	    "wrong signature");
	/* No value may pass for the next one's line. */
	a[0].value = SLICE("shop\nat=");
	assert_string_equal(verify_message(k, m, "sig", (char *const *)both),
	    "an attribute of VerifyWith= has several lines");
	m->nattributes = 0;
	assert_string_equal(verify_message(k, m, "sig", none), "no signature");
	message_free(m);
	verify_keys_free(k);
	(void)unlink(path);
}

static void
member_is(const char *body, const char *by, const char *want)
{
	struct message *m = message_of(slice_of(body), NULL, 0);
	struct slice value = message_value(m, by);

	if (want == NULL)
		assert_null(value.p);
	else
		ARE(value, want);
	ARE(m->body, body);		/* as it was */
	message_free(m);
}

static void
test_members_of_a_body(void **state)
{
	static const struct attribute a = { SLICE("from"), SLICE("x"), false };
	_cleanup_free_ char *large = xmalloc(100001);
	struct message *m = message_of(SLICE("{}"), &a, 1);

	(void)state;
	ARE(message_value(m, "from"), "x");
	assert_null(message_value(m, "From").p);
	message_free(m);
	member_is("{\"a\":\"x\"}", ".a", "x");
	member_is(" {\"b\":[1,{}],\"a\":{\"b\":{\"c\":-12}}} ", ".a.b.c",
	    "-12");
	member_is("{\"a\":\"\\u00e4\\n\"}", ".a", "\xc3\xa4\n");
	member_is("{\"\\u0061\":\"x\"}", ".a", "x");
	/* The last one counts, as for those who read it later. */
	member_is("{\"a\":\"x\",\"a\":\"y\"}", ".a", "y");
	member_is("{\"a\":\"x\",\"a\":null}", ".a", NULL);
	member_is("{\"a\":{\"b\":1},\"a\":{}}", ".a.b", NULL);
	member_is("{\"a\":1.5}", ".a", NULL);
	member_is("{\"a\":1e3}", ".a", NULL);
	member_is("{\"a\":true}", ".a", NULL);
	member_is("{\"a\":{\"b\":1}}", ".a", NULL);
	member_is("{\"a\":\"x\"} x", ".a", NULL);
	member_is("{\"a\":\"x\"", ".a", NULL);
	member_is("[\"a\"]", ".a", NULL);
	member_is("", ".a", NULL);
	memset(large, ' ', 100000);
	large[100000] = '\0';
	memcpy(large + 99980, "{\"a\":\"x\"}", 9);
	member_is(large, ".a", "x");
}

/* ---- screens ---- */

static bool
deeper(const char *text, size_t max)
{
	return screen_is_deeper(slice_of(text), max);
}

static void
test_depth(void **state)
{
	(void)state;
	assert_false(deeper("[[[]]]", 3));
	assert_true(deeper("[[[]]]", 2));
	assert_false(deeper("{\"a\":[],\"b\":[],\"c\":[]}", 2));
	assert_true(deeper("{\"a\":{\"b\":[1]}}", 2));
	assert_false(deeper("{\"[[[[\":\"{{{{\"}", 1));
	assert_true(deeper("{\"\\\"\":[\"]\",[1]]}", 2));
	assert_true(deeper("\xef\xbb\xbf \n[[1]]", 1));
	/* What is no JSON has no depth; what only begins so, has. */
	assert_false(deeper("x [[[[[", 1));
	assert_false(deeper("", 1));
	assert_true(deeper("[[[[[", 4));
	assert_false(deeper("[\"", 1));
	assert_false(deeper("[\"\\", 1));
	assert_false(deeper("[]]]]][", 1));
}

static void
test_repeats_are_written_so(void **state)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;
	uint64_t span;
	unsigned n;

	(void)state;
	assert_int_equal(screen_parse_repeats("5/10min", &n, &span, &why), 0);
	assert_int_equal(n, 5);
	assert_int_equal(span, 600 * USEC_PER_SEC);
	assert_int_equal(screen_parse_repeats("1000000/1h 30min", &n, &span,
	    &why), 0);
	assert_true(screen_parse_repeats("1000001/1h", &n, &span, &why) < 0);
	assert_true(screen_parse_repeats("/1h", &n, &span, &why) < 0);
	assert_true(screen_parse_repeats("-1/1h", &n, &span, &why) < 0);
	assert_true(screen_parse_repeats("1/", &n, &span, &why) < 0);
	assert_true(screen_parse_repeats("1/x", &n, &span, &why) < 0);
	assert_true(screen_parse_repeats("1/infinity", &n, &span, &why) < 0);
}

/* ---- patterns ---- */

static enum pattern_answer
find(const char *pattern, struct slice body, struct pattern_budget *b)
{
	struct error err = ERROR_INIT;
	struct pattern *p = pattern_new(pattern, &err);
	enum pattern_answer answer;

	if (p == NULL)
		fail_msg("%s: %s", pattern, err.text);
	pattern_message(b);
	answer = pattern_find(p, body, b);
	pattern_free(p);
	return answer;
}

/* At every place of a body, whatever is looked at in one go. */
static void
test_patterns_are_found_everywhere(void **state)
{
	struct pattern_budget b = { 0 };
	char body[300];

	(void)state;
	for (size_t i = 0; i + 3 <= sizeof(body); i++) {
		memset(body, '-', sizeof(body));
		memcpy(body + i, "abc", 3);
		assert_int_equal(find("abc", (struct slice){ body,
		    sizeof(body) }, &b), PATTERN_MET);
		assert_int_equal(find("(?<=b)c", (struct slice){ body,
		    sizeof(body) }, &b), PATTERN_MET);
		assert_int_equal(find("^abc", (struct slice){ body,
		    sizeof(body) }, &b), i == 0 ? PATTERN_MET :
		    PATTERN_ABSENT);
		assert_int_equal(find("abc$", (struct slice){ body,
		    sizeof(body) }, &b), i + 3 == sizeof(body) ? PATTERN_MET :
		    PATTERN_ABSENT);
		assert_int_equal(find("abcd", (struct slice){ body,
		    sizeof(body) }, &b), PATTERN_ABSENT);
	}
	assert_int_equal(find("^$", (struct slice){ NULL, 0 }, &b),
	    PATTERN_MET);
	assert_int_equal(find("$", (struct slice){ body, 64 }, &b),
	    PATTERN_MET);
	assert_int_equal(find("(?i)SELECT\\b", SLICE("x\0y select;"), &b),
	    PATTERN_MET);
	/* Bytes, not characters. */
	assert_int_equal(find("^..$", SLICE("\xc3\xa4"), &b), PATTERN_MET);
	assert_int_equal(find("\xff", SLICE("a\xff\xfe"), &b), PATTERN_MET);
	assert_int_equal(b.too_much, 0);
}

static void
test_bad_patterns_are_explained(void **state)
{
	static const char *const bad[][2] = {
		{ "a(b", "at byte 3: missing closing parenthesis" },
		{ "a**", "at byte" }, { "[z-a]", "at byte 3: range out of" },
		{ "(*UTF)x", "at byte" }, { "\\", "at byte 1" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;

		assert_null(pattern_new(bad[i][0], &err));
		if (strstr(err.text, bad[i][1]) == NULL)
			fail_msg("%s: %s", bad[i][0], err.text);
	}
}

static void
test_hostile_bodies_are_cut_short(void **state)
{
	static const char *const patterns[] = {
		/* Too many steps from the first place already; */
		"(a+)+$", "^(a|a)*[cd]", "(x+x+)+y|(a|aa)+$",
		/* few steps, but from each of 65536 places; */
		"(?:[ac]x?)*+[de]",
		/* the same where there is no machine code. */
		"(*NO_JIT)(a+)+$", "(*NO_JIT)(?:[ac]x?)*+[de]",
	};
	struct pattern_budget b = { 0 };
	size_t n = 64 * KIB;
	_cleanup_free_ char *body = xmalloc(n);

	(void)state;
	memset(body, 'a', n);
	body[n - 1] = 'b';
	assert_true(pattern_turn(&b, 1));
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		assert_int_equal(find(patterns[i], (struct slice){ body, n },
		    &b), PATTERN_TOO_MUCH);
	assert_int_equal(b.too_much, ARRAY_SIZE(patterns));
	/* The turn's budget is used up then, and whole in the next. */
	assert_false(pattern_turn(&b, 1));
	assert_true(pattern_turn(&b, 2));
	/* What is behind is not looked at, and so costs nothing. */
	assert_int_equal(find("b", (struct slice){ body, n }, &b),
	    PATTERN_MET);
	body[n - 1] = 'a';
	assert_int_equal(find("^a*$", (struct slice){ body, n }, &b),
	    PATTERN_MET);
}

static void
test_only_so_much_is_looked_at(void **state)
{
	struct pattern_budget b = { 0 };
	size_t n = PATTERN_LOOK_MAX + 1;
	_cleanup_free_ char *body = xmalloc(n);

	(void)state;
	memset(body, 'a', n);
	body[n - 1] = 'b';
	assert_int_equal(find("b", (struct slice){ body, n }, &b),
	    PATTERN_ABSENT);
	body[n - 2] = 'b';
	assert_int_equal(find("b", (struct slice){ body, n }, &b),
	    PATTERN_MET);
}

/* ---- memory ---- */

static void
test_recent_forgets_what_was_asked_for_longest_ago(void **state)
{
	struct recent *r = recent_new(sizeof(unsigned), 3);

	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		*(unsigned *)recent_get(r, i) = i;
	assert_int_equal(*(unsigned *)recent_get(r, 1), 1);
	assert_int_equal(*(unsigned *)recent_get(r, 4), 0);	/* 2 went */
	assert_int_equal(recent_count(r), 3);
	assert_int_equal(*(unsigned *)recent_get(r, 1), 1);
	assert_int_equal(*(unsigned *)recent_get(r, 3), 3);
	assert_int_equal(*(unsigned *)recent_get(r, 2), 0);
	for (uint64_t i = 0; i < 10000; i++)
		(void)recent_get(r, i * 7919);
	assert_int_equal(recent_count(r), 3);
	recent_free(r);
}

#define S	USEC_PER_SEC

static void
test_flood_gives_tokens_by_the_clock(void **state)
{
	struct flood *f = flood_new();
	uint64_t delay = 0, now = 5 * S, last = 0;

	(void)state;
	/* A burst of three, then two a second. */
	for (unsigned i = 0; i < 3; i++)
		assert_true(flood_take(f, SLICE("a"), 2, 3, now, &delay));
	for (unsigned i = 0; i < 5; i++) {
		assert_false(flood_take(f, SLICE("a"), 2, 3, now, &delay));
		assert_true(delay > last);	/* half a second apart */
		assert_in_range(delay, S / 2 * (i + 1), S / 2 * (i + 1) + 10);
		last = delay;
	}
	assert_true(flood_take(f, SLICE("b"), 2, 3, now, &delay));
	assert_true(flood_take(f, SLICE(""), 2, 3, now, &delay));
	assert_false(flood_take(f, SLICE("a"), 2, 3, now + S / 2 - 1, &delay));
	assert_true(flood_take(f, SLICE("a"), 2, 3, now + S / 2 + 1, &delay));
	assert_false(flood_take(f, SLICE("a"), 2, 3, now + S / 2 + 1, &delay));
	/* Full again, and no fuller than that. */
	now += 3600 * S;
	for (unsigned i = 0; i < 3; i++)
		assert_true(flood_take(f, SLICE("a"), 2, 3, now, &delay));
	assert_false(flood_take(f, SLICE("a"), 2, 3, now, &delay));
	/* Nobody is put off for ever. */
	assert_true(flood_take(f, SLICE("slow"), 0.0001, 1, now, &delay));
	for (unsigned i = 0; i < 3; i++) {
		assert_false(flood_take(f, SLICE("slow"), 0.0001, 1, now,
		    &delay));
		assert_int_equal(delay, FLOOD_DELAY_MAX_US);
	}
	assert_int_equal(flood_senders(f), 4);
	flood_free(f);
}

static void
test_flood_is_bounded(void **state)
{
	struct flood *f = flood_new();
	uint64_t delay;
	char name[32];

	(void)state;
	assert_true(flood_take(f, SLICE("first"), 1, 1, S, &delay));
	for (unsigned i = 0; i < 3 * FLOOD_SENDERS_MAX; i++) {
		int n = snprintf(name, sizeof(name), "sender %u", i);

		assert_true(flood_take(f, (struct slice){ name, (size_t)n }, 1,
		    1, S, &delay));
	}
	assert_int_equal(flood_senders(f), FLOOD_SENDERS_MAX);
	/* The last one is known; the first was forgotten. */
	assert_false(flood_take(f, slice_of(name), 1, 1, S, &delay));
	assert_true(flood_take(f, SLICE("first"), 1, 1, S, &delay));
	flood_free(f);
}

/* ---- a whole screen ---- */

static const struct config_kind *const schema[] = {
	&engine_queue_kind, &guard_queue_kind, &screen_kind, NULL
};

static struct config *
config_of(const char *rules)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;

	buffer_printf(&b, "[Queue jobs]\nSender=from\n[Screen s]\n%s\n", rules);
	c = config_load_text("t.conf", buffer_cstr(&b), schema);
	if (config_problems(c) == 0)
		guards_check(c);
	return c;
}

static struct screen *
screen_of(const char *rules)
{
	struct config *c = config_of(rules);
	struct screen *s;

	if (config_problems(c) != 0)
		fail_msg("%s", config_problem_text(c, 0));
	s = screen_new(c, config_next(c, "Screen", NULL));
	config_unref(c);
	return s;
}

static bool
suspicious(struct screen *s, struct slice body, const char *sender)
{
	struct message *m = message_of(body, NULL, 0);
	struct pattern_budget b = { 0 };
	char why[128] = "";
	bool yes = screen_looks_suspicious(s, m, slice_of(sender), S, &b, why,
	    sizeof(why));

	assert_int_equal(yes, why[0] != '\0');
	message_free(m);
	return yes;
}

static void
test_screen_rules_at_their_edges(void **state)
{
	static const char long_name[300] = { [0 ... 298] = 'a' };
	struct screen *s = screen_of("MaxSize=3");

	(void)state;
	assert_false(suspicious(s, SLICE("abc"), NULL));
	assert_true(suspicious(s, SLICE("abcd"), NULL));
	assert_int_equal(screen_stats(s)->looked, 2);
	assert_int_equal(screen_stats(s)->suspicious, 1);
	screen_free(s);
	s = screen_of("MaxDepth=2");
	assert_false(suspicious(s, SLICE("[[1]]"), NULL));
	assert_true(suspicious(s, SLICE("[[[]]]"), NULL));
	screen_free(s);
	s = screen_of("Senders=shop till-? a*");
	assert_false(suspicious(s, SLICE(""), "shop"));
	assert_false(suspicious(s, SLICE(""), "till-1"));
	assert_true(suspicious(s, SLICE(""), "till-10"));
	assert_true(suspicious(s, SLICE(""), "Shop"));
	assert_true(suspicious(s, SLICE(""), ""));
	assert_true(suspicious(s, SLICE(""), long_name));
	screen_free(s);
	s = screen_of("Senders=a*");
	assert_false(suspicious(s, SLICE(""), "a"));
	screen_free(s);
	s = screen_of("Pattern=^x\nMaxSize=2");
	assert_true(suspicious(s, SLICE("x"), NULL));
	assert_true(suspicious(s, SLICE("yyy"), NULL));
	assert_false(suspicious(s, SLICE("y"), NULL));
	screen_free(s);
}

static void
test_screen_remembers_bodies_within_bounds(void **state)
{
	struct screen *s = screen_of("Repeats=1/1h");
	struct pattern_budget b = { 0 };
	char why[128], body[32], name[32];

	(void)state;
	for (unsigned i = 0; i < SCREEN_BODIES_MAX + 10; i++) {
		int n = snprintf(body, sizeof(body), "body %u", i);
		struct message *m = message_of((struct slice){ body,
		    (size_t)n }, NULL, 0);

		assert_false(screen_looks_suspicious(s, m, SLICE(""), S, &b,
		    why, sizeof(why)));
		message_free(m);
	}
	/* One of the first is forgotten; one of the last is not. */
	for (unsigned i = 0; i < 2; i++) {
		struct message *m = message_of(i == 0 ? SLICE("body 3") :
		    SLICE("body 16000"), NULL, 0);

		snprintf(name, sizeof(name), "n%u", i);
		m->name = slice_of(name);
		assert_int_equal(screen_looks_suspicious(s, m, SLICE(""), S,
		    &b, why, sizeof(why)), i);
		message_free(m);
	}
	screen_free(s);
}

static void
test_a_screen_outlives_a_reload(void **state)
{
	struct config *c = config_of("MaxSize=9");
	struct screen *s = screen_of("MaxSize=3\nPattern=x\nAction=pass");

	(void)state;
	assert_true(suspicious(s, SLICE("abcd"), NULL));
	assert_true(screen_has_pattern(s));
	assert_string_equal(screen_action_name(s), "pass");
	screen_reload(s, c, config_next(c, "Screen", NULL));
	assert_false(suspicious(s, SLICE("abcdx"), NULL));
	assert_false(screen_has_pattern(s));
	assert_int_equal(screen_action(s), SCREEN_LOG);
	assert_int_equal(screen_stats(s)->looked, 2);
	assert_true(screen_covers(s, "jobs"));
	screen_free(s);
	config_unref(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strangers_words_are_made_harmless),
		cmocka_unit_test(test_lines_are_bounded_and_the_rest_is_said),
		cmocka_unit_test(test_the_last_minute_is_counted),
		cmocka_unit_test(test_kinds_have_names),
		cmocka_unit_test(test_hmac_vectors),
		cmocka_unit_test(test_signatures_have_several_spellings),
		cmocka_unit_test(test_key_files),
		cmocka_unit_test(test_messages_are_verified),
		cmocka_unit_test(test_members_of_a_body),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_repeats_are_written_so),
		cmocka_unit_test(test_patterns_are_found_everywhere),
		cmocka_unit_test(test_bad_patterns_are_explained),
		cmocka_unit_test(test_hostile_bodies_are_cut_short),
		cmocka_unit_test(test_only_so_much_is_looked_at),
		cmocka_unit_test(
		    test_recent_forgets_what_was_asked_for_longest_ago),
		cmocka_unit_test(test_flood_gives_tokens_by_the_clock),
		cmocka_unit_test(test_flood_is_bounded),
		cmocka_unit_test(test_screen_rules_at_their_edges),
		cmocka_unit_test(test_screen_remembers_bodies_within_bounds),
		cmocka_unit_test(test_a_screen_outlives_a_reload),
	};
	const char *only = getenv("BOT_TEST_ONLY");

	if (only != NULL)
		cmocka_set_test_filter(only);
	return cmocka_run_group_tests(tests, setup, teardown);
}
