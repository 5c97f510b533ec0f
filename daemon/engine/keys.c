/*
 * The keys that the engine itself reads; bot-operator.conf(5) is made of them.
 */
#include "engine/engine.h"

static const struct config_key operator_keys[] = {
	{ "DrainTimeout", CONFIG_SPAN, "30s", NULL, 0, 0, CONFIG_RELOAD,
	    "How long running messages may go on after SIGTERM. Then they are "
	    "stopped and given back. Keep the unit's TimeoutStopSec= above it." },
	{ "MaxInFlight", CONFIG_UNSIGNED, "20000", NULL, 1, 500000,
	    CONFIG_RELOAD,
	    "Messages that may be held at once, of all queues. At the limit "
	    "nothing more is fetched." },
	{ "MaxInFlightBytes", CONFIG_BYTES, "64M", NULL, 65536, 0,
	    CONFIG_RELOAD,
	    "Memory that held messages may take. At the limit nothing more is "
	    "fetched; nothing is dropped." },
};

const struct config_kind engine_operator_kind = {
	"Operator", false, NULL, NULL, operator_keys, ARRAY_SIZE(operator_keys),
	"The daemon as a whole.",
};

static const struct config_key pool_keys[] = {
	{ "Timeout", CONFIG_SPAN, "30s", NULL, 1000, 0, CONFIG_RELOAD,
	    "How long a handler may work on one message. Then its worker gets "
	    "SIGTERM, after KillGrace= SIGKILL (a request of Http= is given "
	    "up), and the message is retried with the error type timeout." },
	{ "MaxCrashes", CONFIG_UNSIGNED, "2", NULL, 1, 1000, CONFIG_RELOAD,
	    "A message that ended its worker so many times is poison and goes "
	    "to the dead letters." },
};

const struct config_kind engine_pool_kind = {
	"Pool", true, NULL, NULL, pool_keys, ARRAY_SIZE(pool_keys),
	"A set of workers with one handler. Exactly one of the handler keys "
	"(Exec=, Command=, Module=, Http=) must be set.",
};

static const struct config_key queue_keys[] = {
	{ "Pool", CONFIG_STRING, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Which [Pool NAME] runs the messages. May be left out when there "
	    "is only one." },
	{ "MaxAttempts", CONFIG_UNSIGNED, "5", NULL, 1, 100000, CONFIG_RELOAD,
	    "After so many failed attempts a message goes to the dead letters." },
	{ "Backoff", CONFIG_SPAN_RANGE, "2s-5min", NULL, 1000,
	    30 * 86400 * USEC_PER_SEC, CONFIG_RELOAD,
	    "Delay before a retry: a random time between the minimum and the "
	    "minimum doubled at each attempt, never past the maximum." },
	{ "DeadLetter", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "Where dead letters go, in the words of the queue's type." },
	{ "RateLimit", CONFIG_RATE, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "At most so many messages are started, such as 50/s or 1000/h." },
	{ "Prefetch", CONFIG_UNSIGNED, "0", NULL, 0, 100000, CONFIG_RELOAD,
	    "How many messages may be held at once. 0: what the workers can "
	    "take, and 0.2 s of work at the present rate." },
	{ "Lease", CONFIG_SPAN, "60s", NULL, USEC_PER_SEC,
	    12 * 3600 * USEC_PER_SEC, CONFIG_RELOAD,
	    "How long the broker keeps a delivered message from others. "
	    "Renewed at half time, for waiting and running messages alike." },
	{ "MaxLease", CONFIG_SPAN, "1h", NULL, USEC_PER_SEC,
	    12 * 3600 * USEC_PER_SEC, CONFIG_RELOAD,
	    "A lease is not renewed past this time after delivery." },
	{ "MaxBytes", CONFIG_BYTES, "256K", NULL, 1, 64 * MIB, CONFIG_RELOAD,
	    "A longer body goes to the dead letters as invalid_format." },
	{ "Format", CONFIG_CHOICE, "raw", "raw|json|cloudevents", 0, 0,
	    CONFIG_RELOAD,
	    "What a body must be. One that is not goes to the dead letters at "
	    "once as invalid_format and is never retried. With cloudevents it "
	    "is a CloudEvent 1.0 in JSON (structured mode); when the message "
	    "has an attribute ce-specversion and its content type is not "
	    "application/cloudevents..., its attributes ce-... and its body "
	    "together are one (binary mode), and the body may be anything." },
	{ "Require", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Members that a JSON body must have, such as \"id customer.name\". "
	    "Of a CloudEvent in binary mode they are its attributes without "
	    "their ce-, such as \"id subject\"; \"data\" is a body that is not "
	    "empty, and \"data.customer\" a member of a JSON body." },
	{ "Requires", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "Names of [Check NAME] sections. While one of them is down, or has "
	    "no result yet, the queue is paused: what waits goes back to its "
	    "broker and no message uses up an attempt. Then it starts with one "
	    "message at a time and doubles that." },
	{ "OrderBy", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "Messages with the same value run one at a time, in order; after a "
	    "failure the later ones wait. The name of an attribute, or .member "
	    "of a JSON body." },
	{ "Weight", CONFIG_UNSIGNED, "1", NULL, 1, 1000, CONFIG_RELOAD,
	    "Share of a pool that several queues use, relative to the others." },
	{ "BacklogInterval", CONFIG_SPAN, "2s", NULL, 100000, 0, CONFIG_RELOAD,
	    "How often the broker is asked for the backlog." },
};

const struct config_kind engine_queue_kind = {
	"Queue", true, NULL, NULL, queue_keys, ARRAY_SIZE(queue_keys),
	"A place that messages come from.",
};
