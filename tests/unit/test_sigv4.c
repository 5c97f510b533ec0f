/*
 * sigv4: every published case, step by step; the key that is kept; what it
 * costs (BOT_BENCH=1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "codec/sigv4.h"

#define VECTORS	TEST_SOURCE_DIR "/tests/vectors/sigv4"

static char *
read_file(const char *name, const char *file)
{
	_cleanup_free_ char *path = xasprintf(VECTORS "/%s/%s", name, file);
	FILE *f = fopen(path, "rbe");
	char *text = xcalloc(1, 64 * KIB);

	if (f == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	assert_true(fread(text, 1, 64 * KIB - 1, f) < 64 * KIB - 1);
	(void)fclose(f);
	return text;
}

/* ---- request.txt, as loosely as its authors wrote it ---- */

struct parsed {
	struct sigv4_request q;
	struct sigv4_header headers[SIGV4_HEADERS_MAX];
};

static struct slice
span(const char *from, const char *to)
{
	return (struct slice){ from, (size_t)(to - from) };
}

static void
parse_request_line(struct sigv4_request *q, const char *line, const char *end)
{
	const char *sp = memchr(line, ' ', (size_t)(end - line)), *last = end,
	    *mark;

	while (*last != ' ')	/* the target may hold spaces */
		last--;
	q->method = span(line, sp);
	mark = memchr(sp + 1, '?', (size_t)(last - sp - 1));
	q->path = span(sp + 1, mark != NULL ? mark : last);
	q->query = mark != NULL ? span(mark + 1, last) : span(last, last);
}

static void
parse_request(struct parsed *p, const char *text)
{
	const char *end = strchr(text, '\n');

	memset(p, 0, sizeof(*p));
	parse_request_line(&p->q, text, end);
	for (text = end + 1; *text != '\0' && *text != '\n';
	    text = *end != '\0' ? end + 1 : end) {
		struct sigv4_header *h = &p->headers[p->q.nheaders];
		const char *colon;

		end = strchrnul(text, '\n');
		while (*end != '\0' && (end[1] == ' ' || end[1] == '\t'))
			end = strchrnul(end + 1, '\n');
		colon = memchr(text, ':', (size_t)(end - text));
		assert_non_null(colon);
		h->name = span(text, colon);
		h->value = span(colon + 1, end);
		p->q.nheaders++;
	}
	p->q.headers = p->headers;
	p->q.body = slice_of(*text == '\n' ? text + 1 : text);
}

/* ---- one case ---- */

static struct slice
member(const json_t *o, const char *name)
{
	return slice_of(json_string_value(json_object_get(o, name)));
}

static uint64_t
parse_time_us(const char *iso)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(iso, "%Y-%m-%dT%H:%M:%SZ", &tm));
	return (uint64_t)timegm(&tm) * USEC_PER_SEC;
}

static void
assert_same(const char *name, const char *file, struct slice got)
{
	_cleanup_free_ char *want = read_file(name, file);

	if (!slice_is(got, want))
		fail_msg("%s/%s:\nwanted:\n%s\ngot:\n%.*s", name, file, want,
		    (int)got.n, got.p);
}

/* The lines that we append are in the signed request, spelled its way. */
static void
assert_lines(const char *name, const char *lines)
{
	_cleanup_free_ char *text = read_file(name,
	    "header-signed-request.txt");

	while (*lines != '\0') {
		const char *end = strstr(lines, "\r\n");
		const char *colon = strchr(lines, ':');
		_cleanup_free_ char *want = xasprintf("\n%.*s:%.*s\n",
		    (int)(colon - lines), lines, (int)(end - colon - 2),
		    colon + 2);

		assert_non_null(end);
		if (strcasestr(text, want) == NULL)
			fail_msg("%s: not in the signed request: %s", name,
			    want);
		lines = end + 2;
	}
}

static void
run_case(struct sigv4 *s, const char *name)
{
	_cleanup_free_ char *context = read_file(name, "context.json"),
	    *request = read_file(name, "request.txt");
	json_t *o = json_loads(context, 0, NULL), *c;
	struct sigv4_trace trace = { BUFFER_INIT, BUFFER_INIT };
	struct buffer out = BUFFER_INIT;
	struct sigv4_credentials keys;
	struct parsed p;
	const char *at;

	assert_non_null(o);
	assert_true(slice_is(member(o, "region"), "us-east-1"));
	assert_true(slice_is(member(o, "service"), "service"));
	c = json_object_get(o, "credentials");
	keys = (struct sigv4_credentials){ member(c, "access_key_id"),
		member(c, "secret_access_key"), member(c, "token"), 7 };
	parse_request(&p, request);
	p.q.keep_path = !json_boolean_value(json_object_get(o, "normalize"));
	p.q.add_body_hash = json_boolean_value(json_object_get(o, "sign_body"));
	p.q.token_unsigned = json_boolean_value(json_object_get(o,
	    "omit_session_token"));
	p.q.trace = &trace;

	assert_int_equal(sigv4_sign(s, &keys, &p.q, parse_time_us(
	    member(o, "timestamp").p), &out), 0);
	assert_same(name, "header-canonical-request.txt",
	    buffer_slice(&trace.canonical_request));
	assert_same(name, "header-string-to-sign.txt",
	    buffer_slice(&trace.string_to_sign));
	at = strstr(buffer_cstr(&out), "Signature=");
	assert_non_null(at);
	assert_same(name, "header-signature.txt",
	    (struct slice){ at + 10, SIGV4_HEX_BYTES - 1 });
	assert_string_equal(at + 10 + SIGV4_HEX_BYTES - 1, "\r\n");
	assert_lines(name, buffer_cstr(&out));

	json_decref(o);
	buffer_done(&out);
	buffer_done(&trace.canonical_request);
	buffer_done(&trace.string_to_sign);
}

static void
test_every_published_case(void **state)
{
	struct sigv4 *s = sigv4_new("us-east-1", "service");
	struct dirent **names;
	int n = scandir(VECTORS, &names, NULL, alphasort), cases = 0;

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' &&
		    strcmp(names[i]->d_name, "README") != 0) {
			run_case(s, names[i]->d_name);
			cases++;
		}
		free(names[i]);
	}
	free(names);
	assert_int_equal(cases, 38);
	sigv4_free(s);
}

/* ---- the key, the day, the bounds ---- */

static const struct sigv4_header sqs_headers[] = {
	{ SLICE("Host"), SLICE("sqs.eu-west-1.amazonaws.com") },
	{ SLICE("Content-Type"), SLICE("application/x-amz-json-1.0") },
	{ SLICE("X-Amz-Target"), SLICE("AmazonSQS.ReceiveMessage") },
};

static const struct sigv4_request sqs_request = {
	.method = SLICE("POST"),
	.path = SLICE("/"),
	.headers = sqs_headers,
	.nheaders = ARRAY_SIZE(sqs_headers),
	.body = SLICE("{\"QueueUrl\":\"https://sqs.eu-west-1.amazonaws.com/"
	    "123456789012/orders\",\"MaxNumberOfMessages\":10,"
	    "\"WaitTimeSeconds\":20,\"MessageSystemAttributeNames\":[\"All\"],"
	    "\"MessageAttributeNames\":[\"All\"],\"VisibilityTimeout\":30}"),
};

#define NOON	(UINT64_C(1795438800) * USEC_PER_SEC)	/* 2026-11-23T13:00Z */

static char *
sign(struct sigv4 *s, const char *key, const char *secret, const char *token,
    uint64_t id, uint64_t time_us)
{
	struct sigv4_credentials c = { slice_of(key), slice_of(secret),
		slice_of(token), id };
	struct buffer out = BUFFER_INIT;
	char *text;

	assert_int_equal(sigv4_sign(s, &c, &sqs_request, time_us, &out), 0);
	text = buffer_dup(&out);
	buffer_done(&out);
	return text;
}

static char *
sign_fresh(const char *key, const char *secret, uint64_t time_us)
{
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");
	char *text = sign(s, key, secret, NULL, 0, time_us);

	sigv4_free(s);
	return text;
}

static void
assert_fresh(char *got, const char *key, const char *secret, uint64_t time_us)
{
	_cleanup_free_ char *want = sign_fresh(key, secret, time_us), *free_ =
	    got;

	assert_string_equal(got, want);
}

static void
test_the_kept_key_is_left_with_its_day_and_its_secret(void **state)
{
	const uint64_t day = 86400 * USEC_PER_SEC;
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_fresh(sign(s, "AKID", "one", NULL, 1, NOON), "AKID",
		    "one", NOON);
		assert_fresh(sign(s, "AKID", "one", NULL, 1, NOON + day),
		    "AKID", "one", NOON + day);
		/* The clock may be set back. */
		assert_fresh(sign(s, "AKID", "one", NULL, 1, NOON), "AKID",
		    "one", NOON);
		assert_fresh(sign(s, "AKID", "two", NULL, 2, NOON), "AKID",
		    "two", NOON);
		assert_fresh(sign(s, "AKID", "two", NULL, 0, NOON), "AKID",
		    "two", NOON);
		assert_fresh(sign(s, "AKID", "three", NULL, 0, NOON), "AKID",
		    "three", NOON);
	}
	sigv4_free(s);
}

static void
test_lines_are_appended(void **state)
{
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");
	_cleanup_free_ char *text = sign(s, "AKID", "secret", "tok/en==", 1,
	    NOON);
	const char *want = "X-Amz-Date: 20261123T130000Z\r\n"
	    "X-Amz-Security-Token: tok/en==\r\n"
	    "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/"
	    "eu-west-1/sqs/aws4_request, SignedHeaders=content-type;host;"
	    "x-amz-date;x-amz-security-token;x-amz-target, Signature=";

	(void)state;
	assert_memory_equal(text, want, strlen(want));
	assert_null(strstr(text, "secret"));
	sigv4_free(s);
}

static void
test_a_known_body_hash_is_taken(void **state)
{
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");
	struct sigv4_credentials c = { SLICE("AKID"), SLICE("secret"),
		{ NULL, 0 }, 1 };
	struct sigv4_request q = sqs_request;
	struct buffer a = BUFFER_INIT, b = BUFFER_INIT;
	char hex[SIGV4_HEX_BYTES];

	(void)state;
	sigv4_sha256(s, (struct slice){ NULL, 0 }, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb924"
	    "27ae41e4649b934ca495991b7852b855");
	sigv4_sha256(s, q.body, hex);
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &a), 0);
	q.body = (struct slice){ NULL, 0 };
	q.body_sha256 = hex;
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &b), 0);
	assert_true(slice_eq(buffer_slice(&a), buffer_slice(&b)));
	buffer_done(&a);
	buffer_done(&b);
	sigv4_free(s);
}

static void
test_what_no_header_can_carry_is_refused(void **state)
{
	static const struct {
		const char *key, *token;
	} bad[] = {
		{ "", NULL }, { "AK ID", NULL }, { "AKID\r\nX: y", NULL },
		{ "AKID", "to\nken" }, { "AKID", "t\xc3\xa9" },
	};
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");
	struct buffer out = BUFFER_INIT;

	(void)state;
	buffer_add_str(&out, "Host: x\r\n");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct sigv4_credentials c = { slice_of(bad[i].key),
			SLICE("s"), slice_of(bad[i].token), 1 };

		assert_int_equal(sigv4_sign(s, &c, &sqs_request, NOON, &out),
		    -EINVAL);
	}
	assert_string_equal(buffer_cstr(&out), "Host: x\r\n");
	buffer_done(&out);
	sigv4_free(s);
}

static void
test_odd_queries_and_too_much_of_anything(void **state)
{
	struct sigv4 *s = sigv4_new("eu-west-1", "sqs");
	struct sigv4_credentials c = { SLICE("AKID"), SLICE("s"),
		{ NULL, 0 }, 1 };
	struct sigv4_trace trace = { BUFFER_INIT, BUFFER_INIT };
	struct sigv4_header many[SIGV4_HEADERS_MAX + 1];
	struct sigv4_request q = sqs_request;
	struct buffer out = BUFFER_INIT, query = BUFFER_INIT;
	const char *want = "POST\n/c%25\n"
	    "=&a=&a=%2F&b=1&b=2&x=100%25&y=%25zz&z=a%2Bb\n";

	(void)state;
	q.trace = &trace;
	q.path = SLICE("/a%20b/../c%");
	q.query = SLICE("b=2&a=%2f&&b=1&a&=&x=100%&y=%zz&z=a+b");
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &out), 0);
	assert_memory_equal(buffer_cstr(&trace.canonical_request), want,
	    strlen(want));
	q.trace = NULL;
	for (int i = 0; i <= SIGV4_QUERY_MAX; i++)
		buffer_add_str(&query, "a=b&");
	q.query = buffer_slice(&query);
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &out), -E2BIG);
	q.query = (struct slice){ NULL, 0 };
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct sigv4_header){ SLICE("a"), SLICE("b") };
	q.headers = many;
	q.nheaders = ARRAY_SIZE(many);
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &out), -E2BIG);
	q.nheaders--;
	assert_int_equal(sigv4_sign(s, &c, &q, NOON, &out), 0);
	buffer_done(&out);
	buffer_done(&query);
	buffer_done(&trace.canonical_request);
	buffer_done(&trace.string_to_sign);
	sigv4_free(s);
}

/* ---- what it costs ---- */

static void
test_what_a_signature_costs(void **state)
{
	enum { ROUNDS = 200000 };
	struct sigv4_credentials c = { SLICE("AKIDEXAMPLE"),
		SLICE("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
		{ NULL, 0 }, 1 };
	struct sigv4 *s;
	struct buffer out = BUFFER_INIT;
	uint64_t start;

	(void)state;
	if (getenv("BOT_BENCH") == NULL) {
		print_message("skipped: only with BOT_BENCH=1\n");
		skip();
	}
	s = sigv4_new("eu-west-1", "sqs");
	start = clock_monotonic_us();
	for (unsigned i = 0; i < ROUNDS; i++) {
		buffer_clear(&out);
		assert_int_equal(sigv4_sign(s, &c, &sqs_request, NOON + i,
		    &out), 0);
	}
	print_message("%.2f us a signature\n", (double)
	    (clock_monotonic_us() - start) / ROUNDS);
	buffer_done(&out);
	sigv4_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_published_case),
		cmocka_unit_test(
		    test_the_kept_key_is_left_with_its_day_and_its_secret),
		cmocka_unit_test(test_lines_are_appended),
		cmocka_unit_test(test_a_known_body_hash_is_taken),
		cmocka_unit_test(test_what_no_header_can_carry_is_refused),
		cmocka_unit_test(test_odd_queries_and_too_much_of_anything),
		cmocka_unit_test(test_what_a_signature_costs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
