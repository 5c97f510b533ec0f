/*
 * What must be known before the first receive: the region, the endpoint, the
 * queue's URL and attributes, and where dead letters go.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "queue/sqs_impl.h"

static void find_queue(struct sqs_queue *);
static void find_attributes(struct sqs_queue *);
static void find_dead(struct sqs_queue *);

static void
ask(struct sqs_queue *sq, const char *operation, sqs_call_fn *fn)
{
	sq->setup_call.operation = operation;
	sq->setup_call.fn = fn;
	sqs_call_send(&sq->setup_call);
}

/* Names what is asked for in the error: the service seldom does. */
static void
fail_for(struct sqs_queue *sq, const char *what, const struct error *err)
{
	struct error e;

	error_set(&e, err->class, err->code, "%s: %s", what, err->text);
	sqs_fail(sq, &e);
}

/* ---- region and endpoint ---- */

/* "https://sqs.REGION.amazonaws.com/..." tells it too. */
static bool
region_from_url(struct sqs_queue *sq, const char *text)
{
	const char *at = text != NULL ? strstr(text, "://sqs.") : NULL;
	size_t n;

	if (at == NULL)
		return false;
	at += 7;
	n = strcspn(at, "./:");
	if (at[n] != '.' || n == 0 || n >= sizeof(sq->region))
		return false;
	memcpy(sq->region, at, n);
	sq->region[n] = '\0';
	return strncmp(at + n, ".amazonaws.com", 14) == 0 ||
	    strncmp(at + n, ".api.aws", 8) == 0;
}

static void
region_asked(struct aws_waiter *w, const struct error *err)
{
	struct sqs_queue *sq = w->owner;
	struct error e;

	(void)err;
	if (aws_credentials_region(sq->credentials) != NULL) {
		sqs_setup(sq);
		return;
	}
	error_set(&e, ERROR_REJECTED, "no_region", "no region is known: set "
	    "Region=, AWS_REGION, or region in the profile");
	sqs_fail(sq, &e);
}

/* False when it is on its way. */
static bool
find_region(struct sqs_queue *sq)
{
	const char *region;

	if (sq->config_region == NULL && (region_from_url(sq, sq->config_url) ||
	    region_from_url(sq, sq->endpoint)))
		return true;
	region = aws_credentials_region(sq->credentials);
	if (region == NULL) {
		aws_credentials_find_region(sq->credentials,
		    &sq->region_waiter);
		return false;
	}
	snprintf(sq->region, sizeof(sq->region), "%s", region);
	return true;
}

static bool
find_endpoint(struct sqs_queue *sq, struct error *err)
{
	if (sq->endpoint != NULL)
		snprintf(sq->url_text, sizeof(sq->url_text), "%s",
		    sq->endpoint);
	else if (aws_credentials_endpoint(sq->credentials, "sqs", sq->region,
	    sq->url_text, err) < 0)
		return false;
	if (http_url_parse(&sq->url, sq->url_text, err) < 0)
		return false;
	if (sq->url.target.n == 0)
		sq->url.target = SLICE("/");
	return true;
}

static bool
make_client(struct sqs_queue *sq, struct error *err)
{
	struct http_client_params params = {
		.tls = { .ca_file = sq->ca_file },
		.no_tls = !sq->url.tls,
	};

	if (sq->client == NULL)
		sq->client = http_client_new(sq->loop, sq->queue->resolver,
		    &params, err);
	if (sq->signer == NULL)
		sq->signer = sigv4_new(sq->region, "sqs");
	return sq->client != NULL;
}

void
sqs_setup(struct sqs_queue *sq)
{
	struct error err = ERROR_INIT;

	sq->state = SQS_SETTING_UP;
	/* Once known it stays: messages may be out that were signed for it. */
	if (sq->signer == NULL) {
		if (!find_region(sq))
			return;
		if (!find_endpoint(sq, &err) || !make_client(sq, &err)) {
			sqs_fail(sq, &err);
			return;
		}
	}
	find_queue(sq);
}

/* ---- the queue ---- */

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static char *
url_of(const json_t *answer)
{
	const char *url = json_string_value(json_object_get(answer,
	    "QueueUrl"));

	return url != NULL && (strncmp(url, "https://", 8) == 0 ||
	    strncmp(url, "http://", 7) == 0) ? xstrdup(url) : NULL;
}

static void
fail_without_url(struct sqs_queue *sq)
{
	struct error e;

	error_set(&e, ERROR_PROTOCOL, "malformed_answer",
	    "GetQueueUrl was answered without a QueueUrl");
	sqs_fail(sq, &e);
}

static void
queue_found(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	char what[120];

	if (err != NULL) {
		snprintf(what, sizeof(what), "queue %.80s", sq->config_name);
		fail_for(sq, what, err);
		return;
	}
	free(sq->queue_url);
	sq->queue_url = url_of(answer);
	if (sq->queue_url == NULL) {
		fail_without_url(sq);
		return;
	}
	find_attributes(sq);
}

static void
get_queue_url(struct sqs_queue *sq, struct slice name, struct slice account,
    sqs_call_fn *fn)
{
	struct buffer *b = &sq->setup_call.body;

	buffer_clear(b);
	buffer_add_str(b, "{\"QueueName\":");
	json_add_string(b, name);
	if (account.n != 0) {
		buffer_add_str(b, ",\"QueueOwnerAWSAccountId\":");
		json_add_string(b, account);
	}
	buffer_add_char(b, '}');
	ask(sq, "GetQueueUrl", fn);
}

static void
find_queue(struct sqs_queue *sq)
{
	if (sq->config_name != NULL) {
		get_queue_url(sq, slice_of(sq->config_name),
		    slice_of(sq->account), queue_found);
		return;
	}
	if (sq->queue_url == NULL)
		sq->queue_url = xstrdup(sq->config_url);
	find_attributes(sq);
}

/* ---- attributes ---- */

/* "arn:aws:sqs:eu-west-1:123456789012:orders-dead" */
static bool
arn_parts(const char *arn, struct slice *account, struct slice *name)
{
	const char *last = strrchr(arn, ':'), *before = last;

	while (before != NULL && before > arn && before[-1] != ':')
		before--;
	if (before == NULL || before == arn || last[1] == '\0')
		return false;
	*account = (struct slice){ before, (size_t)(last - before) };
	*name = slice_of(last + 1);
	return true;
}

static void
attributes_came(struct sqs_call *c, const json_t *answer,
    const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	const json_t *a = json_object_get(answer, "Attributes");
	const char *policy, *arn;

	error_clear(&sq->attributes_error);
	free(sq->redrive_arn);
	sq->redrive_arn = NULL;
	if (err != NULL && (err->class != ERROR_AUTH ||
	    sq->dead_letter == NULL)) {
		fail_for(sq, "reading the queue's attributes", err);
		return;
	}
	/* Only the backlog needs it, and a default for dead letters. */
	if (err != NULL)
		sq->attributes_error = *err;
	policy = json_string_value(json_object_get(a, "RedrivePolicy"));
	if (policy != NULL) {
		json_t *j = json_loads(policy, 0, NULL);

		arn = json_string_value(json_object_get(j,
		    "deadLetterTargetArn"));
		if (arn != NULL)
			sq->redrive_arn = xstrdup(arn);
		json_decref(j);
	}
	arn = json_string_value(json_object_get(a, "QueueArn"));
	if (arn != NULL && sq->queue_arn == NULL)
		sq->queue_arn = xstrdup(arn);
	sq->fifo = ends_with(sq->queue_url, ".fifo");
	find_dead(sq);
}

static void
find_attributes(struct sqs_queue *sq)
{
	sqs_call_begin(&sq->setup_call, sq->queue_url);
	buffer_add_str(&sq->setup_call.body, ",\"AttributeNames\":[\"All\"]");
	sqs_call_end(&sq->setup_call);
	ask(sq, "GetQueueAttributes", attributes_came);
}

/* ---- dead letters ---- */

static void
dead_known(struct sqs_queue *sq)
{
	sq->dead_fifo = sq->dead_url != NULL &&
	    ends_with(sq->dead_url, ".fifo");
	sqs_set_up(sq);
}

static void
dead_found(struct sqs_call *c, const json_t *answer, const struct error *err)
{
	struct sqs_queue *sq = c->sq;
	char what[160];

	/* With DeadLetter=broker only botctl wants to know where they are. */
	if (err != NULL && !sq->dead_by_broker) {
		snprintf(what, sizeof(what), "dead letters, queue %.100s",
		    sq->dead_letter != NULL ? sq->dead_letter :
		    sq->redrive_arn);
		fail_for(sq, what, err);
		return;
	}
	free(sq->dead_url);
	sq->dead_url = url_of(answer);
	if (sq->dead_url == NULL && !sq->dead_by_broker)
		fail_without_url(sq);
	else
		dead_known(sq);
}

static void
find_dead(struct sqs_queue *sq)
{
	struct slice account, name;
	struct error err;

	if (sq->dead_letter != NULL && !sq->dead_by_broker) {
		if (strstr(sq->dead_letter, "://") == NULL) {
			get_queue_url(sq, slice_of(sq->dead_letter),
			    slice_of(sq->account), dead_found);
			return;
		}
		free(sq->dead_url);
		sq->dead_url = xstrdup(sq->dead_letter);
		dead_known(sq);
		return;
	}
	if (sq->redrive_arn != NULL && arn_parts(sq->redrive_arn, &account,
	    &name)) {
		get_queue_url(sq, name, account, dead_found);
		return;
	}
	error_set(&err, ERROR_REJECTED, "no_dead_letter", "%s", sq->dead_by_broker ?
	    "DeadLetter=broker, but the queue has no redrive policy: dead "
	    "messages would come back for ever; give it one, or name a queue "
	    "in DeadLetter=" : "nowhere to put dead letters: set DeadLetter= "
	    "to a queue, or give this one a redrive policy (RedrivePolicy)");
	sqs_fail(sq, &err);
}

/* ---- life ---- */

void
sqs_setup_init(struct sqs_queue *sq)
{
	sqs_call_init(&sq->setup_call, sq, "GetQueueUrl", queue_found, sq);
	aws_waiter_init(&sq->region_waiter, region_asked, sq);
}

void
sqs_setup_cancel(struct sqs_queue *sq)
{
	sqs_call_cancel(&sq->setup_call);
	aws_waiter_cancel(&sq->region_waiter);
}

void
sqs_setup_done(struct sqs_queue *sq)
{
	sqs_setup_cancel(sq);
	sqs_call_done(&sq->setup_call);
	free(sq->redrive_arn);
}
