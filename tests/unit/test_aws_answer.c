/* aws_answer: times in all their spellings, JSON and XML with credentials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "codec/aws_answer.h"

static void
test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;	/* -1: refused */
	} cases[] = {
		{ "2026-11-23T16:00:00Z", 1795449600 },
		{ "2026-11-23T16:00:00.123456789Z", 1795449600 },
		{ "2026-11-23T16:00:00,5z", 1795449600 },
		{ "2026-11-23 16:00:00", 1795449600 },
		{ "2026-11-23T16:00:00+00:00", 1795449600 },
		{ "2026-11-23T18:30:00+02:30", 1795449600 },
		{ "2026-11-23T12:30:00.1-0330", 1795449600 },
		{ "2026-11-23T12:00:00-04", 1795449600 },
		{ "1795449600", 1795449600 },
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "2026-02-29T00:00:00Z", -1 },
		{ "2026-13-01T00:00:00Z", -1 },
		{ "2026-00-01T00:00:00Z", -1 },
		{ "2026-11-31T00:00:00Z", -1 },
		{ "2026-11-23T24:00:00Z", -1 },
		{ "2026-11-23T16:60:00Z", -1 },
		{ "2026-11-23T16:00:00.Z", -1 },
		{ "2026-11-23T16:00:00Zx", -1 },
		{ "2026-11-23T16:00:00+24:00", -1 },
		{ "2026-11-23T16:00", -1 },
		{ "1969-12-31T23:59:59Z", -1 },
		{ "1970-01-01T00:00:00+01:00", -1 },
		{ "99999999999999", -1 },
		{ "soon", -1 }, { "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t us = 0;
		int r = aws_time_parse(slice_of(cases[i].text), &us);

		if (r != (cases[i].seconds < 0 ? -EINVAL : 0) ||
		    (r == 0 && us != (uint64_t)cases[i].seconds * USEC_PER_SEC))
			fail_msg("%s: %d, %llu", cases[i].text, r,
			    (unsigned long long)us);
	}
}

static void
test_xml_in_odd_shapes(void **state)
{
	static const char *const good[] = {
		"<a><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s/+=</"
		    "SecretAccessKey><SessionToken>t</SessionToken><Expiration>"
		    "2026-11-23T16:00:00Z</Expiration></a>",
		"<?xml?><Expiration\n x=\"y\">2026-11-23T16:00:00.1Z\n</E>"
		    "<SessionToken >\n  t </x><SecretAccessKey>s/+=<"
		    "<AccessKeyId>\tASIA<",
	};
	struct error err = ERROR_INIT;
	struct aws_answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (aws_answer_from_sts(slice_of(good[i]), &a, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(a.access_key, "ASIA");
		assert_true(slice_is(secret_bytes(a.secret_key), "s/+="));
		assert_true(slice_is(secret_bytes(a.token), "t"));
		assert_int_equal(a.expires_us, UINT64_C(1795449600000000));
		aws_answer_done(&a);
	}
	/* STS never gives keys without a token. */
	assert_int_equal(aws_answer_from_sts(SLICE("<AccessKeyId>A</>"
	    "<SecretAccessKey>hunter2</><SessionToken/>"), &a, &err), -EPROTO);
	assert_null(strstr(err.text, "hunter2"));
	assert_null(a.secret_key);
	assert_int_equal(aws_answer_from_sts((struct slice){ NULL, 0 }, &a,
	    &err), -EPROTO);
}

static void
test_errors_of_sts(void **state)
{
	char name[AWS_NAME_BYTES], message[AWS_MESSAGE_BYTES];

	(void)state;
	aws_sts_error(SLICE("<ErrorResponse><Error><Code>AccessDenied</Code>"
	    "<Message> no </Message></Error></ErrorResponse>"), name, message);
	assert_string_equal(name, "AccessDenied");
	assert_string_equal(message, "no");
	aws_sts_error(SLICE("<Codes>x</Codes><Cod>y</Cod><Code"), name,
	    message);
	assert_string_equal(name, "");
	assert_string_equal(message, "");
	aws_sts_error((struct slice){ NULL, 0 }, name, message);
	assert_string_equal(name, "");
}

static void
assert_json(int (*parse)(struct slice, struct aws_answer *, struct error *),
    const char *json, enum error_class class)
{
	struct error err = ERROR_INIT;
	struct aws_answer a;
	int r = parse(slice_of(json), &a, &err);

	if ((r == 0) != (class == ERROR_NONE) || err.class != class)
		fail_msg("%s: %d %s", json, r, err.text);
	if (strstr(err.text, "hunter2") != NULL)
		fail_msg("%s", err.text);
	aws_answer_done(&a);
}

#define PAIR	"\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hunter2\""

static void
test_json(void **state)
{
	(void)state;
	assert_json(aws_answer_from_process, "{\"Version\":1," PAIR "}",
	    ERROR_NONE);
	assert_json(aws_answer_from_process, "{\"Version\":1," PAIR ","
	    "\"Expiration\":null}\n", ERROR_NONE);
	assert_json(aws_answer_from_process, "{" PAIR "}", ERROR_PROTOCOL);
	assert_json(aws_answer_from_process, "{\"Version\":\"1\"," PAIR "}",
	    ERROR_PROTOCOL);
	assert_json(aws_answer_from_process, "{\"Version\":1," PAIR,
	    ERROR_PROTOCOL);
	assert_json(aws_answer_from_process, "hunter2", ERROR_PROTOCOL);
	assert_json(aws_answer_from_process, "", ERROR_PROTOCOL);
	assert_json(aws_answer_from_process, "{\"Version\":1," PAIR ","
	    "\"SessionToken\":\"hunter2\\r\\nX: y\"}", ERROR_PROTOCOL);
	/* Those who have endpoints say when to come again. */
	assert_json(aws_answer_from_endpoint, "{" PAIR "}", ERROR_PROTOCOL);
	assert_json(aws_answer_from_endpoint, "{" PAIR ",\"Token\":\"t\","
	    "\"Expiration\":\"2026-11-23T16:00:00Z\"}", ERROR_NONE);
	assert_json(aws_answer_from_endpoint, "{\"Code\":\"Failed\"," PAIR ","
	    "\"Expiration\":\"2026-11-23T16:00:00Z\"}", ERROR_AUTH);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_xml_in_odd_shapes),
		cmocka_unit_test(test_errors_of_sts),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
