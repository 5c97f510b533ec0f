#include "all.h"

#include <stdio.h>

#include "base/alloc.h"
#include "guard/guard.h"
#include "guard/screen.h"
#include "observe/alert.h"
#include "observe/check.h"
#include "queue/pubsub.h"
#include "queue/rabbitmq.h"
#include "queue/redis.h"
#include "queue/spool.h"
#include "queue/sqs.h"
#include "sink/sink.h"
#include "worker/http_pool.h"
#include "worker/worker.h"

static const struct config_key operator_keys[] = {
	{ "Name", CONFIG_STRING, "%i", NULL, 0, 0, 0,
	    "What this instance is called in the status, alerts and logs." },
	{ "Status", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0,
	    "Where /.well-known/engine-status, /healthz, /readyz, /metrics and "
	    "the page are served, such as 127.0.0.1:8080. Port 0 picks a free "
	    "one and logs it. Not set: they are not served. A socket that "
	    "systemd passes as FileDescriptorName=status is served instead; it "
	    "should have the same address." },
	{ "StatusHosts", CONFIG_WORDS, NULL, NULL, 0, 0, 0,
	    "Host names under which the status address may be asked for, "
	    "besides IP addresses and localhost." },
	{ "StatusTokenFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_SECRET_FILE | CONFIG_RELOAD,
	    "A file with a token that whoever asks the status address must "
	    "send: as \"Authorization: Bearer TOKEN\", or as the password (any "
	    "user) that a browser asks for. Only /healthz is open then. A "
	    "reload reads it anew. Without TLS it travels in the clear: see "
	    "that the address is a private one." },
	{ "Control", CONFIG_PATH, NULL, NULL, 0, 0, 0,
	    "The control socket that botctl uses. Default: NAME.sock in "
	    "$RUNTIME_DIRECTORY or /run/bot-operator; for another user than "
	    "root in $XDG_RUNTIME_DIR or /tmp/bot-operator-UID. A socket that "
	    "systemd passes as FileDescriptorName=control is used instead." },
	{ "Standby", CONFIG_BOOL, "no", NULL, 0, 0, 0,
	    "Start in standby, as with --standby: the configuration is loaded "
	    "and checked, but no message is taken until botctl promote." },
	{ "State", CONFIG_PATH, "%S", NULL, 0, 0, 0,
	    "Directory for what must survive a restart." },
	{ "LogLevel", CONFIG_CHOICE, "info",
	    "error|warning|notice|info|debug", 0, 0, CONFIG_RELOAD,
	    "What is logged." },
};

static const struct config_kind operator_kind = {
	"Operator", false, NULL, NULL, operator_keys, ARRAY_SIZE(operator_keys),
	NULL,
};

static const struct queue_type *const queues[] = {
	&spool_queue_type, &redis_queue_type, &rabbitmq_queue_type,
	&sqs_queue_type, &pubsub_queue_type, NULL
};

static const struct handler_type *const handlers[] = {
	&worker_handler_type, &http_handler_type, NULL
};

const struct engine_types bot_types = { queues, handlers };

const struct config_kind *const bot_schema[] = {
	&operator_kind, &engine_operator_kind,
	&engine_pool_kind, &worker_pool_kind, &http_pool_kind,
	&engine_queue_kind, &spool_queue_kind, &redis_queue_kind,
	&rabbitmq_queue_kind, &sqs_queue_kind, &pubsub_queue_kind,
	&guard_queue_kind, &screen_kind,
	&alert_kind, &check_config_kind,
	&slack_kind, &kuma_kind, &posthog_kind, &crowdsec_kind,
	NULL
};

/* Each sink's folder adds its name here. */
const char *const bot_sinks[] = { "slack", NULL };

struct config *
bot_config_load(const char *path)
{
	struct config *c = config_load(path, bot_schema);

	if (config_problems(c) == 0) {
		checks_verify(c);
		engine_check(c, &bot_types);
	}
	if (config_problems(c) == 0)
		guards_check(c);
	if (config_problems(c) == 0)
		alerts_check(c, &bot_types, bot_sinks);
	if (config_problems(c) == 0)
		sinks_check(c);
	return c;
}

const char *
operator_name(const struct config *c)
{
	const struct config_section *s = config_next(c, "Operator", NULL);
	const char *name = s != NULL ? config_string(s, "Name") : NULL;

	return name != NULL ? name : config_instance(c);
}

char *
operator_control_path(const struct config *c)
{
	const struct config_section *s = config_next(c, "Operator", NULL);
	const char *set = s != NULL ? config_string(s, "Control") : NULL;
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (set != NULL)
		return xstrdup(set);
	/* systemd lists several directories with colons; the first is ours. */
	if (runtime != NULL && *runtime == '/')
		return xasprintf("%.*s/%s.sock", (int)strcspn(runtime, ":"),
		    runtime, config_instance(c));
	if (geteuid() == 0)
		return xasprintf("/run/bot-operator/%s.sock",
		    config_instance(c));
	if (xdg != NULL && *xdg == '/')
		return xasprintf("%s/bot-operator/%s.sock", xdg,
		    config_instance(c));
	return xasprintf("/tmp/bot-operator-%u/%s.sock", (unsigned)geteuid(),
	    config_instance(c));
}

char *
operator_state_path(const struct config *c, const char *what)
{
	const struct config_section *s = config_next(c, "Operator", NULL);
	const char *set = s != NULL ? config_string(s, "State") : NULL;
	const char *env = getenv("STATE_DIRECTORY");

	if (set != NULL)
		return xasprintf("%s/%s.%s", set, config_instance(c), what);
	/* No [Operator] section: what %S is. */
	if (env != NULL && *env == '/')
		return xasprintf("%.*s/%s.%s", (int)strcspn(env, ":"), env,
		    config_instance(c), what);
	return xasprintf("/var/lib/bot-operator/%s.%s", config_instance(c),
	    what);
}
