/*
 * botctl - asks a running operator, or tells it what to do: the command line.
 */
#include "botctl.h"

#include <getopt.h>
#include <math.h>
#include <stdarg.h>

#include "all.h"
#include "base/alloc.h"
#include "base/clock.h"

static bool muted;

void
complain_mute(bool mute)
{
	muted = mute;
}

bool
complain_muted(void)
{
	return muted;
}

void
complain(const char *fmt, ...)
{
	va_list ap;

	if (muted)
		return;
	fputs("botctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- the command line ---- */

static void
usage(FILE *f)
{
	fputs("Usage: botctl [--config FILE | --socket PATH | -i INSTANCE | "
	    "--backup INSTANCE]\n              "
	    "[--json] COMMAND ...\n\n", f);
	for (size_t i = 0; i < botctl_ncommands; i++) {
		const struct command *c = &botctl_commands[i];

		fprintf(f, "  %s%s%s\n      %s\n", c->name,
		    *c->usage != '\0' ? " " : "", c->usage, c->help);
	}
	fputs("\n"
	    "  -c, --config FILE   the operator's configuration (default:\n"
	    "                      " BOT_CONFIG_DEFAULT ")\n"
	    "  -i INSTANCE         " SYSCONFDIR "/bot-operator/INSTANCE.conf\n"
	    "      --backup INSTANCE   its standby, bot-operator-backup@INSTANCE\n"
	    "  -s, --socket PATH   its control socket\n"
	    "      --json          documents for scripts instead of text\n"
	    "      --help, --version\n\n"
	    "Exit status: 0 done, 1 failed, 2 bad use, 3 no operator there,\n"
	    "4 an alert fires (alerts), 5 not so in time (wait).\n",
	    f);
}

/* "10/s", "100/min", "5000/h", or "10", which is per second. */
static int
parse_rate(const char *s, double *ret)
{
	double n, per = 1;
	char *end;

	if ((*s < '0' || *s > '9') && *s != '.')
		return -EINVAL;
	n = strtod(s, &end);
	if (strcmp(end, "/min") == 0)
		per = 60;
	else if (strcmp(end, "/h") == 0)
		per = 3600;
	else if (strcmp(end, "/s") != 0 && *end != '\0')
		return -EINVAL;
	*ret = n / per;
	return isfinite(*ret) && *ret >= 0.001 ? 0 : -EINVAL;
}

static int
add_attribute(struct options *o, const char *text)
{
	const char *equals = strchr(text, '=');
	char *name;
	int r;

	if (equals == NULL || equals == text) {
		complain("--attribute wants NAME=VALUE, not \"%s\"", text);
		return BOTCTL_BAD_USE;
	}
	if (o->attributes == NULL)
		o->attributes = json_object();
	name = xstrndup(text, (size_t)(equals - text));
	r = json_object_set_new(o->attributes, name, json_string(equals + 1));
	free(name);
	if (r < 0) {
		complain("attribute \"%s\" is not UTF-8", text);
		return BOTCTL_BAD_USE;
	}
	return 0;
}

enum { LONG_ALL = 256, LONG_BACKUP, LONG_DRY_RUN, LONG_RATE, LONG_LIMIT, LONG_AFTER,
	LONG_BODY, LONG_REASON, LONG_LIST, LONG_END, LONG_SEVERITY, LONG_SINK,
	LONG_PERIOD, LONG_NOTIFY, LONG_TIMEOUT, LONG_DEGRADED,
	LONG_JSON, LONG_HELP, LONG_VERSION };

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "socket", required_argument, NULL, 's' },
	{ "instance", required_argument, NULL, 'i' },
	{ "backup", required_argument, NULL, LONG_BACKUP },
	{ "json", no_argument, NULL, LONG_JSON },
	{ "all", no_argument, NULL, LONG_ALL },
	{ "dry-run", no_argument, NULL, LONG_DRY_RUN },
	{ "rate", required_argument, NULL, LONG_RATE },
	{ "limit", required_argument, NULL, LONG_LIMIT },
	{ "after", required_argument, NULL, LONG_AFTER },
	{ "attribute", required_argument, NULL, 'a' },
	{ "body", required_argument, NULL, LONG_BODY },
	{ "reason", required_argument, NULL, LONG_REASON },
	{ "list", no_argument, NULL, LONG_LIST },
	{ "end", required_argument, NULL, LONG_END },
	{ "severity", required_argument, NULL, LONG_SEVERITY },
	{ "sink", required_argument, NULL, LONG_SINK },
	{ "period", required_argument, NULL, LONG_PERIOD },
	{ "notify", no_argument, NULL, LONG_NOTIFY },
	{ "timeout", required_argument, NULL, LONG_TIMEOUT },
	{ "degraded", no_argument, NULL, LONG_DEGRADED },
	{ "help", no_argument, NULL, LONG_HELP },
	{ "version", no_argument, NULL, LONG_VERSION },
	{ NULL, 0, NULL, 0 }
};

static bool
is_instance(const char *name)
{
	if (*name != '\0' && *name != '.' && strchr(name, '/') == NULL)
		return true;
	complain("\"%s\" is no name of an instance; for a file there "
	    "is --config", name);
	return false;
}

/* Where bot-operator-backup@NAME.service has it. */
static int
take_backup(struct options *o, const char *name)
{
	if (!is_instance(name))
		return BOTCTL_BAD_USE;
	free(o->socket_made);
	o->socket_made = xasprintf("/run/bot-operator/backup/%s/%s.sock", name,
	    name);
	o->socket = o->socket_made;
	return 0;
}

static int
take_instance(struct options *o, const char *name)
{
	if (!is_instance(name))
		return BOTCTL_BAD_USE;
	free(o->config_made);
	o->config_made = xasprintf(SYSCONFDIR "/bot-operator/%s.conf", name);
	o->config = o->config_made;
	return 0;
}

static int
take_timeout(struct options *o, const char *text)
{
	_cleanup_buffer_ struct buffer why = BUFFER_INIT;

	if (config_parse_span(text, &o->timeout_us, &why) == 0 &&
	    o->timeout_us <= 86400 * USEC_PER_SEC)
		return 0;
	complain("--timeout: \"%s\" is no time span of at most a day, such "
	    "as 60s", text);
	return BOTCTL_BAD_USE;
}

/* -1: go on; else the exit code. */
static int
take_option(struct options *o, int opt)
{
	switch (opt) {
	case 'c':
		o->config = optarg;
		return -1;
	case 's':
		o->socket = optarg;
		return -1;
	case 'i':
		return take_instance(o, optarg) != 0 ? BOTCTL_BAD_USE : -1;
	case LONG_BACKUP:
		return take_backup(o, optarg) != 0 ? BOTCTL_BAD_USE : -1;
	case 'a':
		o->given |= OPT_ATTRIBUTE;
		return add_attribute(o, optarg) != 0 ? BOTCTL_BAD_USE : -1;
	case LONG_JSON:
		o->json = true;
		return -1;
	case LONG_ALL:
		o->given |= OPT_ALL;
		return -1;
	case LONG_DRY_RUN:
		o->given |= OPT_DRY_RUN;
		return -1;
	case LONG_RATE:
		o->given |= OPT_RATE;
		if (parse_rate(optarg, &o->rate) == 0)
			return -1;
		complain("--rate: \"%s\" is not a rate, such as 10/s", optarg);
		return BOTCTL_BAD_USE;
	case LONG_LIMIT:
		o->given |= OPT_LIMIT;
		if (slice_to_u64(slice_of(optarg), &o->limit) == 0 &&
		    o->limit <= INT64_MAX)
			return -1;
		complain("--limit: \"%s\" is not a number", optarg);
		return BOTCTL_BAD_USE;
	case LONG_AFTER:
		o->given |= OPT_AFTER;
		o->after = optarg;
		return -1;
	case LONG_BODY:
		o->given |= OPT_BODY;
		o->body = optarg;
		return -1;
	case LONG_REASON:
		o->given |= OPT_REASON;
		o->reason = optarg;
		return -1;
	case LONG_LIST:
		o->given |= OPT_LIST;
		return -1;
	case LONG_END:
		o->given |= OPT_END;
		o->end = optarg;
		return -1;
	case LONG_SEVERITY:
		o->given |= OPT_SEVERITY;
		o->severity = optarg;
		return -1;
	case LONG_SINK:
		o->given |= OPT_SINK;
		o->sink = optarg;
		return -1;
	case LONG_PERIOD:
		o->given |= OPT_PERIOD;
		o->period = optarg;
		return -1;
	case LONG_NOTIFY:
		o->given |= OPT_NOTIFY;
		return -1;
	case LONG_TIMEOUT:
		o->given |= OPT_TIMEOUT;
		return take_timeout(o, optarg) != 0 ? BOTCTL_BAD_USE : -1;
	case LONG_DEGRADED:
		o->given |= OPT_DEGRADED;
		return -1;
	case LONG_HELP:
		usage(stdout);
		return 0;
	case LONG_VERSION:
		puts("botctl (bot-operator) " PACKAGE_VERSION);
		return 0;
	default:
		/* getopt has said what. */
		fputs("Try: botctl --help\n", stderr);
		return BOTCTL_BAD_USE;
	}
}

static const char *
option_name(unsigned bit)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{ OPT_ALL, "--all" }, { OPT_DRY_RUN, "--dry-run" },
		{ OPT_RATE, "--rate" }, { OPT_LIMIT, "--limit" },
		{ OPT_AFTER, "--after" }, { OPT_ATTRIBUTE, "--attribute" },
		{ OPT_BODY, "--body" }, { OPT_REASON, "--reason" },
		{ OPT_LIST, "--list" }, { OPT_END, "--end" },
		{ OPT_SEVERITY, "--severity" }, { OPT_SINK, "--sink" },
		{ OPT_PERIOD, "--period" }, { OPT_NOTIFY, "--notify" },
		{ OPT_TIMEOUT, "--timeout" }, { OPT_DEGRADED, "--degraded" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (bit & names[i].bit)
			return names[i].name;
	return "?";
}

static const struct command *
find_command(int argc, char **argv, int *ret_words)
{
	const char *names[32], *near;
	_cleanup_free_ char *two = xasprintf("%s %s", argv[0],
	    argc > 1 ? argv[1] : "");
	bool is_dead = strcmp(argv[0], "dead") == 0;
	bool is_alert = strcmp(argv[0], "alert") == 0;

	BUG_ON(botctl_ncommands > ARRAY_SIZE(names));
	for (size_t i = 0; i < botctl_ncommands; i++) {
		names[i] = botctl_commands[i].name;
		*ret_words = strchr(names[i], ' ') != NULL ? 2 : 1;
		if (strcmp(names[i], *ret_words == 2 ? two : argv[0]) == 0)
			return &botctl_commands[i];
	}
	near = config_suggest(is_dead || is_alert ? two : argv[0], names,
	    botctl_ncommands);
	if (is_dead)
		complain("dead wants list, show, redrive or purge%s%s",
		    argc > 1 ? ", not " : "", argc > 1 ? argv[1] : "");
	else if (is_alert)
		complain("alert wants test%s%s; or did you mean \"alerts\"?",
		    argc > 1 ? ", not " : "", argc > 1 ? argv[1] : "");
	else
		complain("there is no command \"%s\"%s%s%s", argv[0],
		    near != NULL ? "; did you mean \"" : "",
		    near != NULL ? near : "", near != NULL ? "\"?" : "");
	fputs("Try: botctl --help\n", stderr);
	return NULL;
}

static int
run(struct options *o, int argc, char **argv)
{
	const struct command *cmd;
	int words;

	if (argc == 0) {
		usage(stderr);
		return BOTCTL_BAD_USE;
	}
	if (o->socket != NULL && o->config != NULL) {
		complain("either --socket or a configuration, not both");
		return BOTCTL_BAD_USE;
	}
	cmd = find_command(argc, argv, &words);
	if (cmd == NULL)
		return BOTCTL_BAD_USE;
	o->operands = argv + words;
	o->noperands = argc - words;
	if (o->noperands < cmd->min ||
	    (cmd->max >= 0 && o->noperands > cmd->max)) {
		complain("%s: %s\nUsage: botctl %s %s", cmd->name,
		    o->noperands < cmd->min ? "something is missing" :
		    "too many words", cmd->name, cmd->usage);
		return BOTCTL_BAD_USE;
	}
	if ((o->given & ~cmd->options) != 0) {
		complain("%s does not know %s\nUsage: botctl %s %s", cmd->name,
		    option_name(o->given & ~cmd->options), cmd->name,
		    cmd->usage);
		return BOTCTL_BAD_USE;
	}
	return cmd->fn(cmd, o);
}

int
main(int argc, char **argv)
{
	struct options o = { .config = NULL };
	int opt, r = -1;

	while (r < 0 && (opt = getopt_long(argc, argv, "c:s:i:a:",
	    long_options, NULL)) != -1)
		r = take_option(&o, opt);
	if (r < 0)
		r = run(&o, argc - optind, argv + optind);
	json_decref(o.attributes);
	free(o.config_made);
	free(o.socket_made);
	/* A full disk or a closed pipe must not look like success. */
	if (fflush(stdout) != 0 && r == 0)
		r = BOTCTL_FAILED;
	return r;
}
