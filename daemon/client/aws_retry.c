#include "client/aws_retry.h"

static bool
is_one_of(struct slice name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is(name, list[i]))
			return true;
	return false;
}

/* ---- the bucket ---- */

void
aws_retry_bucket_init(struct aws_retry_bucket *b)
{
	b->tokens = AWS_RETRY_TOKENS;
}

static void
give_back(struct aws_retry_bucket *b, unsigned n)
{
	b->tokens = MIN(b->tokens + n, (unsigned)AWS_RETRY_TOKENS);
}

bool
aws_retry_again(struct aws_retry *r, struct aws_retry_bucket *b,
    enum aws_failure failure, uint64_t retry_after_us, uint64_t *ret_delay_us)
{
	unsigned cost = failure == AWS_FAILURE_TIMEOUT ?
	    AWS_RETRY_TIMEOUT_COST : AWS_RETRY_COST;

	if (failure == AWS_FAILURE_NONE)
		return false;
	r->failures++;
	if (r->failures >= AWS_RETRY_ATTEMPTS || b->tokens < cost)
		return false;
	b->tokens -= cost;
	r->cost = cost;
	*ret_delay_us = http_retry_delay_us(r->failures, USEC_PER_SEC,
	    AWS_RETRY_MAX_US, retry_after_us);
	return true;
}

void
aws_retry_succeeded(struct aws_retry *r, struct aws_retry_bucket *b)
{
	give_back(b, r->cost != 0 ? r->cost : 1);
	*r = (struct aws_retry){ 0 };
}

/* ---- what went wrong ---- */

struct slice
aws_error_name(struct slice s)
{
	const char *at = s.n != 0 ? memchr(s.p, ':', s.n) : NULL;

	if (at != NULL)
		s.n = (size_t)(at - s.p);
	at = s.n != 0 ? memchr(s.p, '#', s.n) : NULL;
	if (at != NULL) {
		at++;
		s = (struct slice){ at, s.n - (size_t)(at - s.p) };
	}
	return s;
}

enum aws_failure
aws_failure_of(const struct http_response *response, const struct error *err,
    struct slice name)
{
	static const char *const throttled[] = {
		"BandwidthLimitExceeded", "EC2ThrottledException",
		"KmsThrottled", "LimitExceededException",
		"PriorRequestNotComplete",
		"ProvisionedThroughputExceededException",
		"RequestLimitExceeded", "RequestThrottled",
		"RequestThrottledException", "SlowDown", "ThrottledException",
		"Throttling", "ThrottlingException",
		"TooManyRequestsException", "TransactionInProgressException",
	};
	static const char *const transient[] = {
		"IDPCommunicationError", "RequestTimeout",
		"RequestTimeoutException",
	};
	static const char *const timeouts[] = {
		"connect_timeout", "response_timeout",
	};

	if (err != NULL) {
		if (is_one_of(slice_of(err->code), timeouts,
		    ARRAY_SIZE(timeouts)))
			return AWS_FAILURE_TIMEOUT;
		return err->class == ERROR_TRANSIENT ? AWS_FAILURE_TRANSIENT :
		    AWS_FAILURE_NONE;
	}
	if (response->status < 400)
		return AWS_FAILURE_NONE;
	if (response->status == 429 ||
	    is_one_of(name, throttled, ARRAY_SIZE(throttled)))
		return AWS_FAILURE_THROTTLED;
	if (is_one_of(name, transient, ARRAY_SIZE(transient)))
		return AWS_FAILURE_TRANSIENT;
	switch (response->status) {
	case 500:
	case 502:
	case 503:
	case 504:
		return AWS_FAILURE_TRANSIENT;
	default:
		return AWS_FAILURE_NONE;
	}
}

/* ---- the clock ---- */

uint64_t
aws_clock_us(const struct aws_clock *c, uint64_t realtime_us)
{
	if (c->offset_us < 0 && realtime_us < (uint64_t)-c->offset_us)
		return 0;
	return realtime_us + (uint64_t)c->offset_us;
}

static uint64_t
distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

bool
aws_clock_blamed(struct slice name)
{
	static const char *const names[] = {
		"AuthFailure", "InvalidSignatureException", "RequestExpired",
		"RequestInTheFuture", "RequestTimeTooSkewed",
		"SignatureDoesNotMatch",
	};

	return is_one_of(name, names, ARRAY_SIZE(names));
}

bool
aws_clock_learn(struct aws_clock *c, struct slice name, uint64_t realtime_us,
    uint64_t date_us)
{
	if (date_us == 0 || !aws_clock_blamed(name) ||
	    distance(aws_clock_us(c, realtime_us), date_us) <=
	    AWS_CLOCK_SKEW_US)
		return false;
	/* Our clock may have been put right in the meantime. */
	c->offset_us = distance(realtime_us, date_us) <= AWS_CLOCK_SKEW_US ?
	    0 : (int64_t)(date_us - realtime_us);
	return true;
}
