/*
 * aws_retry.h - when a request to AWS is tried again: the "standard" mode of
 * its SDKs (botocore 1.43).  Pure: no clock, no timers.
 *
 * Three attempts; between them full jitter of min(2^i, 20) seconds, and at
 * least what Retry-After asks for.  All requests to one service share a bucket
 * of tokens that retries are paid from, so that an outage is not answered with
 * three times the load: a retry costs 5, one after a time-out 10; a success
 * gives back what its last retry cost, or 1 when it needed none.
 */
#ifndef BOT_CLIENT_AWS_RETRY_H
#define BOT_CLIENT_AWS_RETRY_H

#include "client/http.h"

#define AWS_RETRY_ATTEMPTS	3
#define AWS_RETRY_TOKENS	500
#define AWS_RETRY_COST		5
#define AWS_RETRY_TIMEOUT_COST	10
#define AWS_RETRY_MAX_US	(20 * USEC_PER_SEC)

struct aws_retry_bucket {
	unsigned tokens;
};

/* Of one request; zero is a fresh one. */
struct aws_retry {
	unsigned failures;	/* attempts that failed so far */
	unsigned cost;		/* of the last retry */
};

/* What an attempt came to. */
enum aws_failure {
	AWS_FAILURE_NONE = 0,	/* a success, or nothing that waiting helps */
	AWS_FAILURE_TRANSIENT,
	AWS_FAILURE_TIMEOUT,
	AWS_FAILURE_THROTTLED,
};

void	aws_retry_bucket_init(struct aws_retry_bucket *);

/*
 * True: try again in *ret_delay_us.  False: give up, since the attempts or the
 * tokens are used up (or failure is NONE).
 */
bool	aws_retry_again(struct aws_retry *, struct aws_retry_bucket *,
	    enum aws_failure, uint64_t retry_after_us, uint64_t *ret_delay_us);
/* The request was answered; its state is fresh again. */
void	aws_retry_succeeded(struct aws_retry *, struct aws_retry_bucket *);

/*
 * "com.amazonaws.sqs#QueueDoesNotExist", "Name:http://...": the name alone.
 */
struct slice aws_error_name(struct slice type);
/* Exactly one of response and err; name may be empty. */
enum aws_failure aws_failure_of(const struct http_response *,
	    const struct error *err, struct slice name);

/* ---- a clock that differs from theirs ---- */

#define AWS_CLOCK_SKEW_US	(4 * 60 * USEC_PER_SEC)

struct aws_clock {
	int64_t offset_us;	/* theirs - ours; 0 until learned */
};

/* The time to sign with. */
uint64_t aws_clock_us(const struct aws_clock *, uint64_t realtime_us);
/* Whether an error of that name may come from the clock. */
bool	aws_clock_blamed(struct slice name);
/*
 * After an error of that name whose answer was dated date_us (0: not at all)
 * by our clock's realtime_us: when it may come from the clock and the time
 * that was signed with is more than AWS_CLOCK_SKEW_US off, keeps the offset
 * and returns true: the same request is worth one more try at once.
 */
bool	aws_clock_learn(struct aws_clock *, struct slice name,
	    uint64_t realtime_us, uint64_t date_us);

#endif
