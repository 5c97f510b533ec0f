/*
 * [Queue NAME] with Type=rabbitmq: the keys, and reading them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/rabbitmq_impl.h"

#define NAME_MAX_BYTES	200	/* with room for ".bot-delay.20min" in 255 */

static const struct config_key keys[] = {
	{ "Address", CONFIG_ADDRESS, "127.0.0.1", NULL, 0, 0, 0,
	    "The broker: host, host:port or [v6]:port. Port 5672 when none is "
	    "written, 5671 with TLS=yes. RabbitMQ 3.8 or later." },
	TLS_CONFIG_KEYS,
	{ "VHost", CONFIG_STRING, "/", NULL, 1, 255, 0,
	    "The virtual host." },
	{ "Auth", CONFIG_CHOICE, "plain", "plain|external", 0, 0, 0,
	    "How to log in: plain with a name and a password, external by "
	    "the certificate of TLSCertificateFile= (the broker needs "
	    "rabbitmq_auth_mechanism_ssl)." },
	{ "Username", CONFIG_STRING, NULL, NULL, 1, 255, 0,
	    "The user. Default: guest with the password guest, as a fresh "
	    "broker has it. It needs read on the queue and on NAME.dead, and "
	    "write on amq.default; with Declare= also configure and write on "
	    "NAME.*." },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "A file with the password, such as %d/rabbitmq. Read at each "
	    "connect." },
	{ "Name", CONFIG_STRING, NULL, NULL, 1, NAME_MAX_BYTES, CONFIG_REQUIRED,
	    "The queue to consume from." },
	{ "Declare", CONFIG_CHOICE, "no", "no|classic|quorum", 0, 0, 0,
	    "Declare the queue, its dead letters and its delay queues "
	    "(NAME.bot-delay.SPAN), durable and of that type, when they are "
	    "missing. With no they must be there: the error that is shown "
	    "says with which arguments." },
	{ "Heartbeat", CONFIG_SPAN, "30s", NULL, 2 * USEC_PER_SEC,
	    3600 * USEC_PER_SEC, 0,
	    "A connection over which nothing is heard for so long, and a "
	    "quarter more, is dead. The broker's wish counts when it is "
	    "shorter." },
	{ "ConnectTimeout", CONFIG_SPAN, "5s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long name lookup, connecting, the TLS handshake and the "
	    "AMQP handshake may take." },
	{ "ResponseTimeout", CONFIG_SPAN, "10s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long the broker may leave a method unanswered or a publish "
	    "unconfirmed before the connection is given up. Time in which it "
	    "blocks publishing does not count." },
	{ "ConsumerTimeout", CONFIG_SPAN, "30min", NULL, USEC_PER_SEC, 0,
	    CONFIG_RELOAD,
	    "consumer_timeout of the broker (30 minutes by default): it takes "
	    "back what is held longer. Only to warn of a longer Timeout= of "
	    "the pool." },
	{ "Management", CONFIG_STRING, NULL, NULL, 0, 1024, 0,
	    "URL of the management API, such as http://127.0.0.1:15672. With "
	    "it the status also shows what is unacknowledged at the broker, "
	    "and limits of the queue are warned of. The user needs the tag "
	    "monitoring, or management and access to the vhost." },
};

const struct config_kind rabbitmq_queue_kind = {
	"Queue", true, "Type", "rabbitmq", keys, ARRAY_SIZE(keys),
	"A queue of a RabbitMQ broker (AMQP 0-9-1), classic or quorum. A retry "
	"is a confirmed copy in a delay queue that hands it back after its "
	"time; the time is rounded up to the next of 0.1, 0.2, 0.5, 1, 2, 5, "
	"10, 20, 30 s and so on up to 30 days, and of the bounds of Backoff=, "
	"whose maximum is kept. A retry without delay goes to the end of the "
	"queue. A dead letter is a confirmed copy in the queue DeadLetter= "
	"(default: NAME.dead), with headers bot-... that say why. Lease= and "
	"MaxLease= have no meaning here: a message is ours as long as the "
	"connection lives. Prefetch= is basic.qos; 0 adapts it to what the "
	"workers can take.",
};

void
rabbit_keys_reload(struct rabbit_queue *rq, const struct config_section *s)
{
	rq->connect_timeout_us = config_span_us(s, "ConnectTimeout");
	rq->response_timeout_us = config_span_us(s, "ResponseTimeout");
	rq->consumer_timeout_us = config_span_us(s, "ConsumerTimeout");
}

static void
check(struct rabbit_queue *rq, struct config *config,
    const struct config_section *s)
{
	struct error err = ERROR_INIT;
	const char *address = config_string(s, "Address");

	if (address_parse(&rq->address, address, rq->tls_config.enabled ?
	    RABBIT_TLS_PORT : RABBIT_PORT, &err) < 0)
		config_problem(config, s, "Address", "Address=%s: %s", address,
		    err.text);
	if (config_is_set(s, "Username") && rq->password_file == NULL &&
	    !rq->external)
		config_problem(config, s, "Username",
		    "Username= needs PasswordFile= beside it");
	if (rq->password_file != NULL && !config_is_set(s, "Username"))
		config_problem(config, s, "PasswordFile",
		    "PasswordFile= needs Username= beside it");
	if (rq->external && rq->tls_config.certificate == NULL)
		config_problem(config, s, "Auth", "Auth=external needs "
		    "TLS=yes and TLSCertificateFile=");
	if (rq->external && rq->password_file != NULL &&
	    !config_is_set(s, "Management"))
		config_problem(config, s, "PasswordFile", "PasswordFile= has "
		    "no effect with Auth=external");
	if (strlen(rq->dead_name) > 255)
		config_problem(config, s, "DeadLetter",
		    "DeadLetter= is longer than 255 bytes");
	if (strcmp(rq->dead_name, rq->name) == 0)
		config_problem(config, s, "DeadLetter", "DeadLetter= is the "
		    "queue itself: dead letters would run for ever");
	if (rq->queue->prefetch > RABBIT_PREFETCH_MAX)
		config_problem(config, s, "Prefetch", "Prefetch= is at most "
		    "%u with Type=rabbitmq", RABBIT_PREFETCH_MAX);
}

void
rabbit_keys_read(struct rabbit_queue *rq, struct config *config,
    const struct config_section *s)
{
	tls_config_read(&rq->tls_config, config, s);
	rq->vhost = config_copy(s, "VHost");
	rq->external = config_choice(s, "Auth") == 1;
	rq->username = config_copy(s, "Username");
	if (rq->username == NULL)
		rq->username = xstrdup("guest");
	rq->password_file = config_copy(s, "PasswordFile");
	rq->name = config_copy(s, "Name");
	if (rq->name == NULL)
		rq->name = xstrdup("");		/* a problem by now */
	rq->dead_name = config_copy(s, "DeadLetter");
	if (rq->dead_name == NULL)
		rq->dead_name = xasprintf("%s.dead", rq->name);
	rq->declare = config_choice(s, "Declare");
	rq->heartbeat_us = config_span_us(s, "Heartbeat");
	rabbit_keys_reload(rq, s);
	check(rq, config, s);
}

void
rabbit_keys_done(struct rabbit_queue *rq)
{
	char *all[] = { rq->vhost, rq->username, rq->password_file, rq->name,
	    rq->dead_name };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
	tls_config_done(&rq->tls_config);
}
