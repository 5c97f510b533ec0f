/*
 * One request to the service (AWS JSON 1.0): signed when it is written, tried
 * again as the standard retry mode says, and once more when the clock or the
 * keys were to blame.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "queue/sqs_impl.h"

static void send_now(struct sqs_call *);

/* ---- life ---- */

static void waiter_called(struct aws_waiter *, const struct error *);
static void timer_fired(struct timer *);

void
sqs_call_init(struct sqs_call *c, struct sqs_queue *sq, const char *operation,
    sqs_call_fn *fn, void *owner)
{
	*c = (struct sqs_call){ .sq = sq, .operation = operation, .fn = fn,
	    .owner = owner };
	list_init(&c->link);
	buffer_init(&c->body);
	aws_waiter_init(&c->waiter, waiter_called, c);
	timer_init(&c->timer, "sqs retry", timer_fired, c);
}

void
sqs_call_init_text(struct sqs_call *c, struct sqs_queue *sq,
    const char *operation, sqs_call_text_fn *fn, void *owner)
{
	sqs_call_init(c, sq, operation, NULL, owner);
	c->text_fn = fn;
}

void
sqs_call_cancel(struct sqs_call *c)
{
	if (c->state == CALL_IDLE)
		return;
	http_cancel(&c->request);
	aws_waiter_cancel(&c->waiter);
	timer_cancel(c->sq->loop, &c->timer);
	list_remove(&c->link);
	c->state = CALL_IDLE;
}

void
sqs_call_done(struct sqs_call *c)
{
	sqs_call_cancel(c);
	buffer_done(&c->body);
}

void
sqs_call_begin(struct sqs_call *c, const char *queue_url)
{
	buffer_clear(&c->body);
	buffer_add_str(&c->body, "{\"QueueUrl\":");
	json_add_string(&c->body, slice_of(queue_url));
}

void
sqs_call_end(struct sqs_call *c)
{
	buffer_add_char(&c->body, '}');
}

static void
answer(struct sqs_call *c, struct slice text, const json_t *json,
    const struct error *err)
{
	list_remove(&c->link);
	c->state = CALL_IDLE;
	if (c->text_fn != NULL)
		c->text_fn(c, text, err);
	else
		c->fn(c, json, err);
}

static void
refuse(struct sqs_call *c, const struct error *err)
{
	answer(c, (struct slice){ "", 0 }, NULL, err);
}

void
sqs_malformed(const struct sqs_call *c, struct error *err)
{
	error_set(err, ERROR_PROTOCOL, "malformed_answer", "%s was answered "
	    "with something that is no JSON object", c->operation);
}

/* ---- signing ---- */

static void
add_headers(struct http_request *r, struct buffer *out)
{
	struct sqs_call *c = r->owner;
	struct sqs_queue *sq = c->sq;
	const struct aws_keys *keys = aws_credentials_get(sq->credentials);
	struct sigv4_credentials with;
	char target[64];
	int n = snprintf(target, sizeof(target), "AmazonSQS.%s", c->operation);
	struct sigv4_header headers[] = {
		{ SLICE("Host"), slice_of(sq->url.host_header) },
		{ SLICE("Content-Type"), SLICE("application/x-amz-json-1.0") },
		{ SLICE("X-Amz-Target"), { target, (size_t)n } },
	};
	struct sigv4_request request = {
		.method = SLICE("POST"),
		.path = sq->url.target,
		.headers = headers,
		.nheaders = ARRAY_SIZE(headers),
		.body = buffer_slice(&c->body),
	};

	for (size_t i = 1; i < ARRAY_SIZE(headers); i++) {
		buffer_add_slice(out, headers[i].name);
		buffer_add_str(out, ": ");
		buffer_add_slice(out, headers[i].value);
		buffer_add_str(out, "\r\n");
	}
	buffer_add_str(out, "User-Agent: bot-operator/" PACKAGE_VERSION "\r\n");
	/* They may have gone since; the service will say so. */
	if (keys == NULL)
		return;
	c->generation = keys->generation;
	c->clock_offset_us = sq->clock.offset_us;
	aws_keys_for_signing(keys, &with);
	snprintf(sq->credentials_source, sizeof(sq->credentials_source), "%s",
	    keys->source);
	(void)sigv4_sign(sq->signer, &with, &request,
	    aws_clock_us(&sq->clock, clock_realtime_us()), out);
}

/* ---- answers ---- */

static void
again(struct sqs_call *c, uint64_t delay_us)
{
	c->state = CALL_PAUSES;
	timer_arm(c->sq->loop, &c->timer, delay_us);
}

/* The clock or the keys: worth one more try at once. */
static bool
correct(struct sqs_call *c, const struct http_response *r, struct slice name)
{
	struct sqs_queue *sq = c->sq;
	bool learned = aws_clock_learn(&sq->clock, name, clock_realtime_us(),
	    r->date_us);

	/* Another call may have learned since this one was signed. */
	if (aws_clock_blamed(name) &&
	    c->clock_offset_us != sq->clock.offset_us)
		learned = true;
	if (slice_is(name, "ExpiredToken") ||
	    slice_is(name, "ExpiredTokenException") ||
	    slice_is(name, "InvalidClientTokenId") ||
	    slice_is(name, "UnrecognizedClientException") ||
	    slice_is(name, "InvalidSecurity") ||
	    (!learned && (slice_is(name, "SignatureDoesNotMatch") ||
	    slice_is(name, "InvalidSignatureException")))) {
		aws_credentials_expired(sq->credentials, c->generation);
		learned = true;
	}
	if (!learned || c->corrected)
		return false;
	c->corrected = true;
	return true;
}

static void
failed(struct sqs_call *c, const struct http_response *r,
    const struct error *err, struct slice name, struct slice text)
{
	struct sqs_queue *sq = c->sq;
	enum aws_failure failure = aws_failure_of(r, err, name);
	struct error e;
	uint64_t delay;

	if (failure == AWS_FAILURE_THROTTLED)
		sq->throttled++;
	if (r != NULL && correct(c, r, name)) {
		sqs_error(name, r->status, text, &c->refused);
		again(c, 0);
		return;
	}
	if (aws_retry_again(&c->retry, &sq->bucket, failure,
	    r != NULL ? r->retry_after_us : 0, &delay)) {
		again(c, delay);
		return;
	}
	if (err != NULL)
		e = *err;
	else
		sqs_error(name, r->status, text, &e);
	refuse(c, &e);
}

static struct slice
text_of(const json_t *object, const char *key)
{
	const json_t *j = json_object_get(object, key);

	return json_is_string(j) ? (struct slice){ json_string_value(j),
	    json_string_length(j) } : (struct slice){ "", 0 };
}

/* In the body, or (what proxies of the service do) in a header. */
static struct slice
error_name(const struct http_response *r, const json_t *json)
{
	struct slice name = text_of(json, "__type");

	if (name.n == 0)
		name = text_of(json, "code");
	if (name.n == 0)
		name = text_of(json, "Code");
	if (name.n == 0)
		name = http1_header(r->head, "x-amzn-errortype");
	return name.n != 0 ? aws_error_name(name) : (struct slice){ "", 0 };
}

static void
on_done(struct http_request *r, const struct http_response *res,
    const struct error *err)
{
	struct sqs_call *c = r->owner;
	struct slice name = { "", 0 }, text = { "", 0 };
	json_t *json = NULL;
	struct error e;

	if (err != NULL) {
		failed(c, NULL, err, name, text);
		return;
	}
	if (res->status == 200 && c->text_fn != NULL) {
		aws_retry_succeeded(&c->retry, &c->sq->bucket);
		answer(c, res->body, NULL, NULL);
		return;
	}
	if (res->body.n != 0)
		json = json_loadb(res->body.p, res->body.n, JSON_ALLOW_NUL,
		    NULL);
	if (res->status != 200) {
		name = error_name(res, json);
		text = text_of(json, "message");
		if (text.n == 0)
			text = text_of(json, "Message");
		failed(c, res, NULL, name, text);
	} else if (res->body.n != 0 && !json_is_object(json)) {
		sqs_malformed(c, &e);
		refuse(c, &e);
	} else {
		aws_retry_succeeded(&c->retry, &c->sq->bucket);
		answer(c, res->body, json, NULL);
	}
	json_decref(json);
}

/* ---- sending ---- */

static void
send_now(struct sqs_call *c)
{
	struct sqs_queue *sq = c->sq;

	if (aws_credentials_get(sq->credentials) == NULL) {
		c->state = CALL_WAITS;
		aws_credentials_wait(sq->credentials, &c->waiter);
		return;
	}
	c->state = CALL_SENT;
	c->request = (struct http_request){
		.method = "POST",
		.url = sq->url,
		.body = buffer_slice(&c->body),
		.add_headers = add_headers,
		.on_done = on_done,
		.owner = c,
		.connect_timeout_us = sq->connect_timeout_us,
		.timeout_us = sat_add(sq->response_timeout_us, c->extra_us),
		.max_response = SQS_ANSWER_MAX,
		.resend = true,
	};
	sq->requests++;
	http_send(sq->client, &c->request);
}

static void
waiter_called(struct aws_waiter *w, const struct error *err)
{
	struct sqs_call *c = w->owner;

	struct error refused = c->refused;

	/* Why others were asked for says more than that there are none. */
	if (err == NULL)
		send_now(c);
	else
		refuse(c, error_is_set(&refused) ? &refused : err);
}

static void
timer_fired(struct timer *t)
{
	send_now(t->owner);
}

void
sqs_call_send(struct sqs_call *c)
{
	BUG_ON(c->state != CALL_IDLE);
	list_push_back(&c->sq->calls, &c->link);
	c->retry = (struct aws_retry){ .failures = 0 };
	c->corrected = false;
	error_clear(&c->refused);
	send_now(c);
}

const struct error *
sqs_send_error(const json_t *answer, const struct error *err,
    struct error *room)
{
	if (err != NULL || json_string_length(json_object_get(answer,
	    "MessageId")) != 0)
		return err;
	error_set(room, ERROR_PROTOCOL, "malformed_answer", "SendMessage was "
	    "answered without a MessageId");
	return room;
}
