/* aws_retry: attempts, tokens, names of errors, and clocks that differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "client/aws_retry.h"

#define MINUTE	(60 * USEC_PER_SEC)

static struct aws_retry_bucket bucket;

static int
setup(void **state)
{
	(void)state;
	random_seed(42);
	aws_retry_bucket_init(&bucket);
	return 0;
}

static bool
again(struct aws_retry *r, enum aws_failure f)
{
	uint64_t delay_us;

	return aws_retry_again(r, &bucket, f, 0, &delay_us);
}

static void
test_three_attempts_with_full_jitter(void **state)
{
	uint64_t longest[2] = { 0, 0 }, shortest[2] = { UINT64_MAX, UINT64_MAX };

	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct aws_retry r = { 0 };

		aws_retry_bucket_init(&bucket);
		for (int n = 0; n < 2; n++) {
			uint64_t us;

			assert_true(aws_retry_again(&r, &bucket,
			    AWS_FAILURE_TRANSIENT, 0, &us));
			longest[n] = MAX(longest[n], us);
			shortest[n] = MIN(shortest[n], us);
		}
		assert_false(again(&r, AWS_FAILURE_TRANSIENT));
	}
	assert_in_range(longest[0], 990000, 1000000);
	assert_in_range(longest[1], 1980000, 2000000);
	assert_in_range(shortest[0], 0, 10000);
	assert_in_range(shortest[1], 0, 20000);
}

static void
test_retry_after_is_heeded(void **state)
{
	struct aws_retry r = { 0 };
	uint64_t us;

	(void)state;
	assert_true(aws_retry_again(&r, &bucket, AWS_FAILURE_THROTTLED,
	    7 * USEC_PER_SEC, &us));
	assert_int_equal(us, 7 * USEC_PER_SEC);
}

static void
test_retries_are_paid_from_the_bucket(void **state)
{
	struct aws_retry r = { 0 };

	(void)state;
	assert_false(again(&r, AWS_FAILURE_NONE));
	assert_int_equal(r.failures, 0);
	assert_true(again(&r, AWS_FAILURE_TIMEOUT));
	assert_int_equal(bucket.tokens, 490);
	assert_true(again(&r, AWS_FAILURE_THROTTLED));
	assert_int_equal(bucket.tokens, 485);
	assert_false(again(&r, AWS_FAILURE_TRANSIENT));
	assert_int_equal(bucket.tokens, 485);	/* nothing for giving up */

	/* What the last retry cost comes back, or 1. */
	aws_retry_succeeded(&r, &bucket);
	assert_int_equal(bucket.tokens, 490);
	aws_retry_succeeded(&r, &bucket);
	assert_int_equal(bucket.tokens, 491);
	bucket.tokens = AWS_RETRY_TOKENS;
	aws_retry_succeeded(&r, &bucket);
	assert_int_equal(bucket.tokens, AWS_RETRY_TOKENS);
}

static void
test_an_outage_ends_the_retries(void **state)
{
	unsigned retries = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct aws_retry r = { 0 };

		while (again(&r, AWS_FAILURE_TRANSIENT))
			retries++;
	}
	assert_int_equal(retries, AWS_RETRY_TOKENS / AWS_RETRY_COST);
	bucket.tokens = 9;
	assert_false(again(&(struct aws_retry){ 0 }, AWS_FAILURE_TIMEOUT));
	assert_true(again(&(struct aws_retry){ 0 }, AWS_FAILURE_TRANSIENT));
	assert_false(again(&(struct aws_retry){ 0 }, AWS_FAILURE_TRANSIENT));
	/* And successes start them again. */
	aws_retry_succeeded(&(struct aws_retry){ 0 }, &bucket);
	assert_true(again(&(struct aws_retry){ 0 }, AWS_FAILURE_TRANSIENT));
}

static void
assert_name(const char *type, const char *want)
{
	assert_true(slice_is(aws_error_name(slice_of(type)), want));
}

static void
test_names_of_errors(void **state)
{
	(void)state;
	assert_name("com.amazonaws.sqs#QueueDoesNotExist", "QueueDoesNotExist");
	assert_name("ExpiredToken", "ExpiredToken");
	assert_name("Throttling:http://internal.amazon.com/#x", "Throttling");
	assert_name("com.amazonaws.sqs#Throttling:http://x/", "Throttling");
	assert_name("", "");
	assert_name(NULL, "");
}

static enum aws_failure
of_status(unsigned status, const char *name)
{
	struct http_response response = { .status = status };

	return aws_failure_of(&response, NULL, slice_of(name));
}

static enum aws_failure
of_error(enum error_class class, const char *code)
{
	struct error err;

	error_set(&err, class, code, "x");
	return aws_failure_of(NULL, &err, (struct slice){ NULL, 0 });
}

static void
test_what_is_worth_another_try(void **state)
{
	(void)state;
	assert_int_equal(of_status(200, NULL), AWS_FAILURE_NONE);
	assert_int_equal(of_status(400, "QueueDoesNotExist"), AWS_FAILURE_NONE);
	assert_int_equal(of_status(403, "AccessDenied"), AWS_FAILURE_NONE);
	assert_int_equal(of_status(501, NULL), AWS_FAILURE_NONE);
	assert_int_equal(of_status(400, "RequestTimeout"),
	    AWS_FAILURE_TRANSIENT);
	for (unsigned s = 500; s <= 504; s += s == 500 ? 2 : 1)
		assert_int_equal(of_status(s, NULL), AWS_FAILURE_TRANSIENT);
	assert_int_equal(of_status(400, "RequestThrottled"),
	    AWS_FAILURE_THROTTLED);
	assert_int_equal(of_status(503, "Throttling"), AWS_FAILURE_THROTTLED);
	assert_int_equal(of_status(429, NULL), AWS_FAILURE_THROTTLED);
	assert_int_equal(of_error(ERROR_TRANSIENT, "eof"),
	    AWS_FAILURE_TRANSIENT);
	assert_int_equal(of_error(ERROR_TRANSIENT, "response_timeout"),
	    AWS_FAILURE_TIMEOUT);
	assert_int_equal(of_error(ERROR_TRANSIENT, "connect_timeout"),
	    AWS_FAILURE_TIMEOUT);
	assert_int_equal(of_error(ERROR_AUTH, "tls_verify"), AWS_FAILURE_NONE);
	assert_int_equal(of_error(ERROR_PROTOCOL, "http"), AWS_FAILURE_NONE);
}

static void
test_a_clock_that_differs(void **state)
{
	const uint64_t ours = 1000 * MINUTE;
	struct aws_clock c = { 0 };

	(void)state;
	assert_int_equal(aws_clock_us(&c, ours), ours);
	/* Not far enough off; not dated; not an error of that kind. */
	assert_false(aws_clock_learn(&c, SLICE("RequestExpired"), ours,
	    ours + 4 * MINUTE));
	assert_false(aws_clock_learn(&c, SLICE("RequestExpired"), ours, 0));
	assert_false(aws_clock_learn(&c, SLICE("AccessDenied"), ours,
	    ours + 90 * MINUTE));
	assert_int_equal(c.offset_us, 0);

	assert_true(aws_clock_learn(&c, SLICE("SignatureDoesNotMatch"), ours,
	    ours + 90 * MINUTE));
	assert_int_equal(aws_clock_us(&c, ours), ours + 90 * MINUTE);
	/* The same error again has another cause: no endless loop. */
	assert_false(aws_clock_learn(&c, SLICE("SignatureDoesNotMatch"),
	    ours + MINUTE, ours + 91 * MINUTE));
	/* Ours is put right. */
	assert_true(aws_clock_learn(&c, SLICE("RequestInTheFuture"),
	    ours + 92 * MINUTE, ours + 92 * MINUTE + USEC_PER_SEC));
	assert_int_equal(c.offset_us, 0);
	/* Ours is ahead. */
	assert_true(aws_clock_learn(&c, SLICE("RequestTimeTooSkewed"), ours,
	    ours - 90 * MINUTE));
	assert_int_equal(aws_clock_us(&c, ours), ours - 90 * MINUTE);
	assert_int_equal(aws_clock_us(&c, MINUTE), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_three_attempts_with_full_jitter,
		    setup),
		cmocka_unit_test_setup(test_retry_after_is_heeded, setup),
		cmocka_unit_test_setup(test_retries_are_paid_from_the_bucket,
		    setup),
		cmocka_unit_test_setup(test_an_outage_ends_the_retries, setup),
		cmocka_unit_test(test_names_of_errors),
		cmocka_unit_test(test_what_is_worth_another_try),
		cmocka_unit_test(test_a_clock_that_differs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
