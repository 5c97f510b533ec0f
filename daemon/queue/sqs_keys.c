/*
 * [Queue NAME] with Type=sqs: the keys, and reading them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "net/tls_config.h"
#include "queue/sqs_impl.h"

static const struct config_key keys[] = {
	{ "Region", CONFIG_STRING, NULL, NULL, 1, AWS_REGION_BYTES - 1, 0,
	    "The AWS region. Default: that of QueueUrl=, AWS_REGION, "
	    "AWS_DEFAULT_REGION, the profile, the instance." },
	{ "Name", CONFIG_STRING, NULL, NULL, 1, 80, 0,
	    "The queue's name. Either Name= or QueueUrl= must be set. A name "
	    "that ends with .fifo is a FIFO queue: its message groups run one "
	    "message at a time, in order." },
	{ "AccountId", CONFIG_STRING, NULL, NULL, 12, 12, 0,
	    "The account that owns the queue of Name=, when it is another." },
	{ "QueueUrl", CONFIG_STRING, NULL, NULL, 1, 1024, 0,
	    "The queue's URL. Requests go to Endpoint= or the region's "
	    "endpoint, whatever host it names." },
	{ "Endpoint", CONFIG_STRING, NULL, NULL, 1, 400, 0,
	    "URL of the service, for a VPC endpoint or an emulator. Default: "
	    "AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, the profile's, the "
	    "region's." },
	{ "Profile", CONFIG_STRING, NULL, NULL, 1, 255, 0,
	    "The profile in the AWS configuration files. Naming one, or "
	    "CredentialsFile=, takes the environment's keys out of the "
	    "search." },
	{ "CredentialsFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "The shared credentials file, such as %d/aws. Default: "
	    "AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials." },
	{ "ConfigFile", CONFIG_PATH, NULL, NULL, 0, 0, 0,
	    "The AWS configuration file. Default: AWS_CONFIG_FILE, "
	    "~/.aws/config." },
	{ "TLSCAFile", CONFIG_PATH, NULL, NULL, 0, 0, 0,
	    "Certificates (PEM) that the endpoint's must be signed by. "
	    "Default: the system's." },
	{ "Receivers", CONFIG_UNSIGNED_RANGE, "1-8", NULL, 1,
	    SQS_RECEIVERS_MAX, CONFIG_RELOAD,
	    "How many connections wait for messages at once. It grows while "
	    "answers come full (ten messages), and shrinks while they come "
	    "empty." },
	{ "WaitTime", CONFIG_SPAN, "20s", NULL, 0, 20 * USEC_PER_SEC,
	    CONFIG_RELOAD,
	    "How long an empty queue holds a receive (long polling), in whole "
	    "seconds. 0 asks again and again, and costs accordingly." },
	{ "VisibilityTimeout", CONFIG_SPAN, NULL, NULL, USEC_PER_SEC,
	    12 * 3600 * USEC_PER_SEC, 0,
	    "The lease of a message, in whole seconds; renewed at half time. "
	    "Default: Lease=." },
	{ "ConnectTimeout", CONFIG_SPAN, "5s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long name lookup, connecting and the TLS handshake may take." },
	{ "ResponseTimeout", CONFIG_SPAN, "10s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long an answer may take, for a receive after WaitTime=." },
};

const struct config_kind sqs_queue_kind = {
	"Queue", true, "Type", "sqs", keys, ARRAY_SIZE(keys),
	"A queue of AWS SQS. Credentials are found as the AWS CLI finds them "
	"(environment, profiles and roles, web identity, credential_process, "
	"container, instance). The permissions needed are ReceiveMessage, "
	"DeleteMessage, ChangeMessageVisibility, GetQueueAttributes and, with "
	"Name=, GetQueueUrl; on the dead letter queue SendMessage and "
	"GetQueueUrl, for botctl dead also ReceiveMessage and DeleteMessage "
	"there and SendMessage here. A retry stays where it is, invisible for "
	"its delay (whole seconds, rounded up). The attempts are counted by "
	"the service as receives: giving a message back counts too, but it is "
	"never buried without having been run. DeadLetter= is the name or URL "
	"of the queue for dead letters (of a FIFO queue, a FIFO queue); by "
	"default the target of the queue's redrive policy. DeadLetter=broker leaves them to that policy: the "
	"message becomes visible at once, is received and run again, until "
	"maxReceiveCount moves it; \"dead\" is then only a wish. "
	"BacklogInterval= is 10s here unless it is set, since each question "
	"is billed.",
};

void
sqs_keys_reload(struct sqs_queue *sq, const struct config_section *s)
{
	uint64_t min, max;

	config_range(s, "Receivers", &min, &max);
	sq->receivers_min = (unsigned)min;
	sq->receivers_max = (unsigned)max;
	sq->receivers = MIN(MAX(sq->receivers, sq->receivers_min),
	    sq->receivers_max);
	sq->wait_us = config_span_us(s, "WaitTime") / USEC_PER_SEC *
	    USEC_PER_SEC;
	sq->connect_timeout_us = config_span_us(s, "ConnectTimeout");
	sq->response_timeout_us = config_span_us(s, "ResponseTimeout");
	sq->probe_every_us = config_is_set(s, "BacklogInterval") ? 0 :
	    10 * USEC_PER_SEC;
}

static bool
is_fifo(const char *name)
{
	size_t n = name != NULL ? strlen(name) : 0;

	return n > 5 && strcmp(name + n - 5, ".fifo") == 0;
}

static void
check(struct sqs_queue *sq, struct config *config,
    const struct config_section *s)
{
	if ((sq->config_name != NULL) == (sq->config_url != NULL))
		config_problem(config, s, sq->config_name != NULL ? "QueueUrl" :
		    NULL, "set either Name= or QueueUrl=");
	if (sq->account != NULL && sq->config_name == NULL)
		config_problem(config, s, "AccountId",
		    "AccountId= has an effect only with Name=");
	if (sq->config_region != NULL && !aws_region_is_valid(sq->config_region))
		config_problem(config, s, "Region",
		    "Region=%s is no name of a region", sq->config_region);
	if (sq->dead_letter != NULL && ((sq->config_name != NULL &&
	    strcmp(sq->dead_letter, sq->config_name) == 0) ||
	    (sq->config_url != NULL &&
	    strcmp(sq->dead_letter, sq->config_url) == 0)))
		config_problem(config, s, "DeadLetter", "DeadLetter= is the "
		    "queue itself: dead letters would run for ever");
	/* The groups would be lost, with which they are redriven. */
	if (sq->dead_letter != NULL && !sq->dead_by_broker &&
	    (is_fifo(sq->config_name) || is_fifo(sq->config_url)) &&
	    !is_fifo(sq->dead_letter))
		config_problem(config, s, "DeadLetter", "DeadLetter= of a FIFO "
		    "queue must be one too: its name ends with .fifo");
	(void)http_url_check(config, s, "QueueUrl");
	(void)http_url_check(config, s, "Endpoint");
}

void
sqs_keys_read(struct sqs_queue *sq, struct config *config,
    const struct config_section *s)
{
	sq->config_region = config_copy(s, "Region");
	sq->config_name = config_copy(s, "Name");
	sq->account = config_copy(s, "AccountId");
	sq->config_url = config_copy(s, "QueueUrl");
	sq->endpoint = config_copy(s, "Endpoint");
	sq->profile = config_copy(s, "Profile");
	sq->credentials_file = config_copy(s, "CredentialsFile");
	sq->config_file = config_copy(s, "ConfigFile");
	sq->ca_file = config_copy(s, "TLSCAFile");
	sq->dead_letter = config_copy(s, "DeadLetter");
	sq->dead_by_broker = sq->dead_letter != NULL &&
	    strcmp(sq->dead_letter, "broker") == 0;
	if (config_is_set(s, "VisibilityTimeout"))
		sq->queue->lease_us = config_span_us(s, "VisibilityTimeout");
	sqs_keys_reload(sq, s);
	check(sq, config, s);
}

void
sqs_keys_done(struct sqs_queue *sq)
{
	char *all[] = { sq->config_region, sq->config_name, sq->config_url,
	    sq->account, sq->endpoint, sq->profile, sq->credentials_file,
	    sq->config_file, sq->ca_file, sq->dead_letter, sq->queue_url,
	    sq->queue_arn, sq->dead_url };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
}
