/*
 * What a broker's reply codes mean (AMQP 0-9-1 specification, 1.5.2 "reply-code"
 * constants; texts as RabbitMQ writes them), and what a person can do.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/rabbitmq_impl.h"

static const struct meaning {
	unsigned reply;
	const char *contains;	/* NULL: any text */
	const char *code;
	enum error_class class;
	const char *advice;
} meanings[] = {
	{ 320, NULL, "connection_forced", ERROR_TRANSIENT,
	    "the broker shuts down, or somebody has closed the connection" },
	{ 403, "Login was refused", "ACCESS_REFUSED", ERROR_AUTH, "the broker "
	    "does not accept the user: check Username= and PasswordFile= "
	    "(guest may only come from the broker's own host)" },
	{ 403, "exclusive use", "exclusive_consumer", ERROR_REJECTED,
	    "another consumer has the queue for itself" },
	{ 403, NULL, "ACCESS_REFUSED", ERROR_AUTH, "the user lacks a right in "
	    "the vhost (rabbitmqctl set_permissions): it needs read on the "
	    "queue, write on amq.default, with Declare= also configure" },
	{ 404, NULL, "no_queue", ERROR_REJECTED,
	    "declare it, or set Declare=classic or Declare=quorum" },
	{ 405, NULL, "queue_locked", ERROR_REJECTED,
	    "it is an exclusive queue of another connection" },
	{ 406, "timed out", "consumer_timeout", ERROR_TRANSIENT, "a message was "
	    "held longer than the broker's consumer_timeout; all that were "
	    "held come again. Raise it there (and ConsumerTimeout= here), or "
	    "lower Timeout= of the pool" },
	{ 406, "inequivalent arg", "declared_differently", ERROR_REJECTED,
	    "a queue is there with other arguments than Declare= would give "
	    "it: set Declare=no, or delete it" },
	{ 406, "larger than", "too_large_to_publish", ERROR_REJECTED, "a copy "
	    "for a retry or the dead letters is over the broker's "
	    "max_message_size" },
	{ 501, NULL, "frame_error", ERROR_PROTOCOL, "the broker does not "
	    "understand our frames" },
	{ 506, NULL, "resource_error", ERROR_TRANSIENT,
	    "a limit of the broker is reached" },
	{ 530, "not found", "no_vhost", ERROR_REJECTED,
	    "check VHost=" },
	{ 530, "access to vhost", "ACCESS_REFUSED", ERROR_AUTH,
	    "the user has no permissions in VHost= (rabbitmqctl "
	    "set_permissions)" },
	{ 530, "limit", "resource_error", ERROR_TRANSIENT,
	    "a limit of the broker is reached" },
	{ 530, NULL, "not_allowed", ERROR_REJECTED, "the broker does not "
	    "allow it" },
	{ 541, NULL, "broker_error", ERROR_TRANSIENT,
	    "the broker has failed; see its log" },
};

void
rabbit_error(unsigned reply, struct slice said, struct error *err)
{
	char text[160];

	error_quote(said, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
		const struct meaning *m = &meanings[i];

		if (m->reply != reply || (m->contains != NULL &&
		    strstr(text, m->contains) == NULL))
			continue;
		error_set(err, m->class, m->code, "%s (%s)", m->advice, text);
		return;
	}
	error_set(err, ERROR_PROTOCOL, "broker_refused",
	    "the broker said %u %s", reply, text);
}

void
rabbit_close_error(const void *decoded, struct error *err)
{
	const amqp_channel_close_t *close = decoded;

	rabbit_error(close->reply_code, amqp_wire_slice(close->reply_text),
	    err);
}
