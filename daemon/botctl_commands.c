/*
 * The commands of botctl: each makes a request and prints the answer.
 */
#include "botctl.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "all.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "codec/base64.h"
#include "control/api.h"

struct style
style_of_stdout(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	struct style s = { .colour = isatty(STDOUT_FILENO) == 1 };

	if ((no != NULL && *no != '\0') || term == NULL ||
	    strcmp(term, "dumb") == 0)
		s.colour = false;
	return s;
}

/* 0, or an exit code when stdout is gone. */
int
print(struct buffer *b)
{
	size_t n = buffer_len(b);

	if (fwrite(buffer_head(b), 1, n, stdout) != n || fflush(stdout) != 0) {
		complain("writing the answer: %s", strerror(errno));
		return BOTCTL_FAILED;
	}
	return 0;
}

static int
print_json(const json_t *j)
{
	if (json_dumpf(j, stdout, STATUS_DUMP_FLAGS | JSON_ENCODE_ANY) < 0 ||
	    fputc('\n', stdout) == EOF || fflush(stdout) != 0) {
		complain("writing the answer: %s", strerror(errno));
		return BOTCTL_FAILED;
	}
	return 0;
}

/* ---- which operator ---- */

static const char *
config_path_of(const struct options *o)
{
	return o->config != NULL ? o->config : BOT_CONFIG_DEFAULT;
}

/*
 * A configuration with a mistake in it must not keep anybody from looking at
 * the operator that still runs with the one before.
 */
static int
connect_operator(const struct options *o, struct client *c)
{
	struct config *config;
	char *paths[2];
	size_t n = 0;
	int r;

	if (o->socket != NULL) {
		paths[0] = xstrdup(o->socket);
		r = client_connect(c, paths, 1, "INSTANCE");
		free(paths[0]);
		return r;
	}
	if (o->config != NULL && access(o->config, F_OK) < 0) {
		complain("%s: %s", o->config, strerror(errno));
		return BOTCTL_BAD_USE;
	}
	config = config_load(config_path_of(o), bot_schema);
	paths[n++] = operator_control_path(config);
	paths[n] = xasprintf("/run/bot-operator/%s.sock",
	    config_instance(config));
	if (strcmp(paths[0], paths[1]) != 0)
		n++;
	if (config_problems(config) != 0 &&
	    access(config_path_of(o), F_OK) == 0)
		complain("%s; trying the socket %s", config_problem_text(config,
		    0), paths[0]);
	r = client_connect(c, paths, n, config_instance(config));
	free(paths[0]);
	free(paths[1]);
	config_unref(config);
	return r;
}

/* ---- asking ---- */

static bool
is_last(const json_t *line)
{
	return json_object_get(line, "ok") != NULL;
}

/* The exit code that a last line means; the error goes to stderr. */
static int
verdict_of(const json_t *last)
{
	const char *problems =
	    json_string_value(json_object_get(last, "problems"));
	const char *error = json_string_value(json_object_get(last, "error"));

	if (json_is_true(json_object_get(last, "ok")))
		return 0;
	complain("%s", error != NULL ? error : "it failed");
	if (problems != NULL)
		fprintf(stderr, "%s%s", problems, *problems != '\0' &&
		    problems[strlen(problems) - 1] != '\n' ? "\n" : "");
	return BOTCTL_FAILED;
}

/*
 * One request and all its lines.  With --json they are printed as they come;
 * else on_item sees each {"item":...}.  *ret_last is the caller's.
 */
static int
ask_with(struct client *c, struct options *o, json_t *request,
    item_fn *on_item, void *arg, json_t **ret_last)
{
	int r = client_send(c, request), bad = 0;
	json_t *line;

	*ret_last = NULL;
	if (r != 0)
		return r;
	while ((line = client_receive(c)) != NULL && !is_last(line)) {
		if (o->json)
			bad = print_json(line);
		else if (on_item != NULL)
			bad = on_item(o, json_object_get(line, "item"), arg);
		json_decref(line);
		if (bad != 0)
			return bad;
	}
	if (line == NULL)
		return BOTCTL_NO_DAEMON;
	*ret_last = line;
	return verdict_of(line);
}

int
ask(struct options *o, json_t *request, item_fn *on_item, void *arg,
    json_t **ret_last)
{
	struct client c;
	int r = connect_operator(o, &c), bad;

	*ret_last = NULL;
	if (r != 0) {
		json_decref(request);
		return r;
	}
	if (o->slow)
		client_set_timeout(&c, 60);
	if ((o->given & OPT_RATE) && o->rate < 0.1)
		client_set_timeout(&c, (unsigned)(30 + 1 / o->rate));
	r = ask_with(&c, o, request, on_item, arg, ret_last);
	if (o->json && *ret_last != NULL && (bad = print_json(*ret_last)) != 0)
		r = bad;
	client_close(&c);
	return r;
}

/* For commands whose answer is one sentence. */
static int
ask_and_say(struct options *o, json_t *request, const char *fmt, ...)
    _printf_(3, 4);

static int
ask_and_say(struct options *o, json_t *request, const char *fmt, ...)
{
	json_t *last;
	int r = ask(o, request, NULL, NULL, &last);
	va_list ap;

	if (r == 0 && !o->json) {
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
	}
	json_decref(last);
	return r;
}

json_t *
request_new(const char *command)
{
	return json_pack("{s:s}", "command", command);
}

/* Operands are bytes; JSON wants UTF-8. */
void
put_text(json_t *request, const char *key, const char *text)
{
	if (json_object_set_new(request, key, json_string(text)) == 0)
		return;
	complain("\"%s\" is not UTF-8", text);
	exit(BOTCTL_BAD_USE);
}

/* ---- status and top ---- */

static json_t *
fetch_status(struct client *c, struct options *o, int *ret)
{
	json_t *last, *status;

	*ret = ask_with(c, o, request_new("status"), NULL, NULL, &last);
	status = *ret == 0 ? json_incref(json_object_get(last, "status")) :
	    NULL;
	json_decref(last);
	return status;
}

static int
cmd_status(const struct command *cmd _unused_, struct options *o)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct style style = style_of_stdout();
	struct client c;
	json_t *status;
	int r = connect_operator(o, &c);

	if (r != 0)
		return r;
	status = fetch_status(&c, o, &r);
	client_close(&c);
	if (status == NULL)
		return r;
	if (o->json) {
		r = print_json(status);
	} else {
		format_status(&b, status, NULL, 0, &style);
		r = print(&b);
	}
	json_decref(status);
	return r;
}

static volatile sig_atomic_t interrupted;

static void
on_signal(int signo _unused_)
{
	interrupted = 1;
}

static bool
wait_for_key(unsigned ms)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	bool keys = isatty(STDIN_FILENO) == 1;
	char c;

	if (poll(&p, keys ? 1 : 0, (int)ms) <= 0)
		return false;
	return read(STDIN_FILENO, &c, 1) != 1 || c == 'q' || c == 'Q';
}

/* Whole lines, each cleared to its end: a screen that does not flicker. */
static int
draw(struct buffer *page, unsigned rows)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *p = buffer_cstr(page);

	buffer_add_str(&b, "\033[H");
	for (unsigned row = 1; *p != '\0' && row < rows; row++) {
		size_t n = strcspn(p, "\n");

		buffer_add(&b, p, n);
		buffer_add_str(&b, "\033[K\r\n");
		p += n + (p[n] == '\n');
	}
	buffer_add_str(&b, "\033[J");
	return print(&b);
}

static int
run_top(struct client *c, struct options *o)
{
	struct style style = style_of_stdout();
	json_t *status, *before = NULL;
	uint64_t then = 0;
	int r = 0;

	while (!interrupted) {
		_cleanup_buffer_ struct buffer page = BUFFER_INIT;
		struct winsize ws = { .ws_row = 0 };
		uint64_t now;

		status = fetch_status(c, o, &r);
		if (status == NULL)
			break;
		now = clock_monotonic_us();
		if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_row == 0)
			ws = (struct winsize){ .ws_row = 24, .ws_col = 80 };
		style.width = ws.ws_col;
		format_status(&page, status, before,
		    (double)(now - then) / 1e6, &style);
		json_decref(before);
		before = status;
		then = now;
		r = draw(&page, ws.ws_row);
		if (r != 0 || wait_for_key(1000))
			break;
	}
	json_decref(before);
	return r;
}

static int
cmd_top(const struct command *cmd, struct options *o)
{
	const struct sigaction sa = { .sa_handler = on_signal };
	struct termios was, raw;
	struct client c;
	bool keys;
	int r;

	if (!isatty(STDOUT_FILENO) || o->json)
		return cmd_status(cmd, o);
	r = connect_operator(o, &c);
	if (r != 0)
		return r;
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	keys = tcgetattr(STDIN_FILENO, &was) == 0;
	if (keys) {
		raw = was;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	/* The other screen, without a cursor; what was there comes back. */
	fputs("\033[?1049h\033[?25l", stdout);
	r = run_top(&c, o);
	fputs("\033[?25h\033[?1049l", stdout);
	(void)fflush(stdout);
	if (keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &was);
	client_close(&c);
	return r;
}

/* ---- enqueue ---- */

static int
read_all(const char *path, struct buffer *b)
{
	bool is_stdin = strcmp(path, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && buffer_len(b) <= API_REQUEST_MAX) {
		n = read(fd, buffer_reserve(b, 64 * KIB), 64 * KIB);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buffer_commit(b, (size_t)n);
	}
	if (fd < 0 || n < 0) {
		complain("%s: %s", is_stdin ? "standard input" : path,
		    strerror(errno));
		if (fd >= 0 && !is_stdin)
			(void)close(fd);
		return BOTCTL_FAILED;
	}
	if (!is_stdin)
		(void)close(fd);
	return 0;
}

static int
put_body(json_t *request, const char *body, size_t n)
{
	_cleanup_buffer_ struct buffer coded = BUFFER_INIT;
	json_t *text = json_stringn(body != NULL ? body : "", n);
	size_t size;

	if (text != NULL) {
		(void)json_object_set_new(request, "body", text);
	} else {
		base64_add(&coded, (struct slice){ body, n });
		(void)json_object_set_new(request, "body_base64",
		    json_stringn(buffer_head(&coded), buffer_len(&coded)));
	}
	size = json_dumpb(request, NULL, 0, STATUS_DUMP_FLAGS);
	if (size <= API_REQUEST_MAX)
		return 0;
	complain("a message of %s%zu bytes is too big for the control socket "
	    "(%zu bytes with its JSON around)", n > API_REQUEST_MAX ?
	    "more than " : "", MIN(n, (size_t)API_REQUEST_MAX),
	    (size_t)API_REQUEST_MAX);
	return BOTCTL_FAILED;
}

static int
cmd_enqueue(const struct command *cmd _unused_, struct options *o)
{
	_cleanup_buffer_ struct buffer body = BUFFER_INIT;
	json_t *request, *last;
	int r = 0;

	if ((o->given & OPT_BODY) && o->noperands == 2) {
		complain("either --body or a file, not both");
		return BOTCTL_BAD_USE;
	}
	if (o->given & OPT_BODY)
		buffer_add_str(&body, o->body);
	else
		r = read_all(o->noperands == 2 ? o->operands[1] : "-", &body);
	if (r != 0)
		return r;
	request = request_new("enqueue");
	if (o->attributes != NULL)
		(void)json_object_set(request, "attributes", o->attributes);
	put_text(request, "queue", o->operands[0]);
	if (put_body(request, buffer_head(&body), buffer_len(&body)) != 0) {
		json_decref(request);
		return BOTCTL_FAILED;
	}
	r = ask(o, request, NULL, NULL, &last);
	if (r == 0 && !o->json)
		printf("%s\n", json_string_value(json_object_get(last, "id")));
	json_decref(last);
	return r;
}

/* ---- pause, resume, scale, drain, reload ---- */

static int
cmd_pause(const struct command *cmd, struct options *o)
{
	bool all = o->given & OPT_ALL, first = true;
	json_t *request, *last, *name;
	size_t i;
	int r;

	if (all == (o->noperands == 1)) {
		complain("%s: name one queue, or all with --all", cmd->name);
		return BOTCTL_BAD_USE;
	}
	request = request_new(cmd->name);
	if (all)
		(void)json_object_set_new(request, "all", json_true());
	else
		put_text(request, "queue", o->operands[0]);
	r = ask(o, request, NULL, NULL, &last);
	if (r == 0 && !o->json) {
		printf("%s:", strcmp(cmd->name, "pause") == 0 ? "paused" :
		    "resumed");
		json_array_foreach(json_object_get(last, "queues"), i, name) {
			printf("%s%s", first ? " " : ", ",
			    json_string_value(name));
			first = false;
		}
		putchar('\n');
	}
	json_decref(last);
	return r;
}

/* "2-8", or "4", which is 4-4. */
static int
parse_range(const char *s, unsigned long *min, unsigned long *max)
{
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	*min = *max = strtoul(s, &end, 10);
	if (*end == '-' && end[1] >= '0' && end[1] <= '9')
		*max = strtoul(end + 1, &end, 10);
	return *end != '\0' || errno != 0 || *min > *max || *max == 0 ||
	    *max > 1000000 ? -EINVAL : 0;
}

static int
cmd_scale(const struct command *cmd _unused_, struct options *o)
{
	unsigned long min, max;
	json_t *request;

	if (parse_range(o->operands[1], &min, &max) < 0) {
		complain("scale: \"%s\" is not MIN-MAX, such as 2-8",
		    o->operands[1]);
		return BOTCTL_BAD_USE;
	}
	request = json_pack("{s:s,s:I,s:I}", "command", "scale", "min",
	    (json_int_t)min, "max", (json_int_t)max);
	put_text(request, "pool", o->operands[0]);
	return ask_and_say(o, request, "pool %s: %lu-%lu workers, until the "
	    "next start or a change of Workers=\n", o->operands[0], min, max);
}

static int
cmd_drain(const struct command *cmd _unused_, struct options *o)
{
	return ask_and_say(o, request_new("drain"), "draining: what runs is "
	    "finished, what waits is given back, then the operator ends\n");
}

static int
cmd_role(const struct command *cmd, struct options *o)
{
	bool promote = strcmp(cmd->name, "promote") == 0;
	json_t *last;
	int r = ask(o, request_new(cmd->name), NULL, NULL, &last);

	if (r == 0 && !o->json) {
		bool changed = json_is_true(json_object_get(last, "changed"));

		puts(promote ? changed ? "promoted: it opens its queues now" :
		    "it is active already" :
		    changed ? "demoted: what runs is finished, what waits is "
		    "given back, then it is in standby" :
		    "it is in standby already, or on its way");
	}
	json_decref(last);
	return r;
}

static int
cmd_reload(const struct command *cmd _unused_, struct options *o)
{
	json_t *last;
	int r = ask(o, request_new("reload"), NULL, NULL, &last);

	if (r == 0 && !o->json) {
		double n = json_number_value(json_object_get(last, "changed"));

		printf("reloaded: %.0f section%s changed\n", n,
		    n == 1 ? "" : "s");
	}
	json_decref(last);
	return r;
}

/* ---- configuration and debugging ---- */

static int
cmd_check_config(const struct command *cmd _unused_, struct options *o)
{
	const char *path = o->noperands == 1 ? o->operands[0] :
	    config_path_of(o);
	struct config *config = bot_config_load(path);
	size_t n = config_problems(config);
	int r = n != 0 ? BOTCTL_FAILED : 0;

	if (o->json) {
		json_t *problems = json_array(), *j;

		for (size_t i = 0; i < n; i++)
			(void)json_array_append_new(problems,
			    json_string(config_problem_text(config, i)));
		j = json_pack("{s:s,s:b,s:o}", "file", path, "ok", n == 0,
		    "problems", problems);
		if (print_json(j) != 0)
			r = BOTCTL_FAILED;
		json_decref(j);
	} else if (n == 0) {
		printf("%s: ok\n", path);
	} else {
		for (size_t i = 0; i < n; i++)
			fprintf(stderr, "%s\n", config_problem_text(config, i));
	}
	config_unref(config);
	return r;
}

/* What a file says, whether an operator runs with it or not. */
static int
show_file(const char *path)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c = bot_config_load(path);
	size_t n = config_problems(c);

	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "%s\n", config_problem_text(c, i));
	if (n == 0)
		config_show(c, &b, true);
	config_unref(c);
	return n != 0 ? BOTCTL_FAILED : print(&b);
}

static int
cmd_show_config(const struct command *cmd _unused_, struct options *o)
{
	json_t *last;
	int r;

	if (o->noperands == 1)
		return show_file(o->operands[0]);
	r = ask(o, request_new("show-config"), NULL, NULL, &last);
	if (r == 0 && !o->json)
		fputs(json_string_value(json_object_get(last, "text")), stdout);
	json_decref(last);
	return r;
}

static int
cmd_debug(const struct command *cmd _unused_, struct options *o)
{
	static const char *const whats[] = { "timers", "streams", "workers",
		"messages" };
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct style style = style_of_stdout();
	json_t *request, *last, *array;
	bool known = false;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(whats); i++)
		known |= strcmp(o->operands[0], whats[i]) == 0;
	if (!known) {
		complain("debug shows timers, streams, workers or messages, "
		    "not \"%s\"", o->operands[0]);
		return BOTCTL_BAD_USE;
	}
	request = json_pack("{s:s,s:s}", "command", "debug", "what",
	    o->operands[0]);
	r = ask(o, request, NULL, NULL, &last);
	if (r == 0 && !o->json) {
		array = json_object_get(last, o->operands[0]);
		if (json_array_size(array) == 0)
			buffer_printf(&b, "no %s\n", o->operands[0]);
		else
			format_objects(&b, array, &style);
		r = print(&b);
	}
	json_decref(last);
	return r;
}

/* ---- the table ---- */

const struct command botctl_commands[] = {
	{ "status", 0, 0, 0, cmd_status, "",
	    "how it goes, and why" },
	{ "top", 0, 0, 0, cmd_top, "",
	    "the same every second, until q" },
	{ "enqueue", 1, 2, OPT_ATTRIBUTE | OPT_BODY, cmd_enqueue,
	    "QUEUE [--attribute K=V]... [--body TEXT | FILE | -]",
	    "put a message into a queue" },
	{ "pause", 0, 1, OPT_ALL, cmd_pause, "QUEUE | --all",
	    "take nothing from a queue" },
	{ "resume", 0, 1, OPT_ALL, cmd_pause, "QUEUE | --all",
	    "go on with it" },
	{ "scale", 2, 2, 0, cmd_scale, "POOL MIN-MAX",
	    "how many workers a pool has" },
	{ "drain", 0, 0, 0, cmd_drain, "",
	    "finish what runs, give back the rest, end" },
	{ "promote", 0, 0, 0, cmd_role, "",
	    "out of standby: take messages" },
	{ "demote", 0, 0, 0, cmd_role, "",
	    "finish what runs, give back the rest, and be in standby" },
	{ "dead list", 1, 1, OPT_LIMIT | OPT_AFTER, cmd_dead_list,
	    "QUEUE [--limit N] [--after ID]", "dead letters, oldest first" },
	{ "dead show", 2, 2, 0, cmd_dead_show, "QUEUE ID",
	    "one of them, with its body" },
	{ "dead redrive", 1, -1, OPT_ALL | OPT_DRY_RUN | OPT_RATE | OPT_LIMIT,
	    cmd_dead_act,
	    "QUEUE ID... | --all [--dry-run] [--rate N/s] [--limit N]",
	    "back into the queue with them" },
	{ "dead purge", 1, -1, OPT_ALL | OPT_DRY_RUN | OPT_RATE | OPT_LIMIT,
	    cmd_dead_act,
	    "QUEUE ID... | --all [--dry-run] [--rate N/s] [--limit N]",
	    "delete them for good" },
	{ "alerts", 0, 0, OPT_ALL, cmd_alerts, "[--all]",
	    "what fires or is about to (--all: the rules too); exit status 4 "
	    "when something fires" },
	{ "alert test", 1, 1, 0, cmd_alert_test, "RULE",
	    "a real notification through its sinks, marked as a test" },
	{ "notify", 1, 1, OPT_SEVERITY | OPT_SINK, cmd_notify,
	    "--severity info|warning|critical [--sink NAME] TEXT",
	    "say something through the sinks, and see what they answer" },
	{ "silence", 0, 2, OPT_REASON | OPT_LIST | OPT_END, cmd_silence,
	    "PATTERN DURATION [--reason TEXT] | --list | --end ID|PATTERN",
	    "tell nobody of alerts that match: a rule, queue:NAME, or "
	    "RULE/queue:NAME" },
	{ "report", 0, 0, OPT_PERIOD | OPT_NOTIFY, cmd_report,
	    "[--period daily|weekly|monthly] [--notify]",
	    "how it goes and went: backlog, anomalies, dead letters, "
	    "resources; --notify: in short through the sinks too" },
	{ "wait", 1, 1, OPT_TIMEOUT | OPT_DEGRADED, cmd_wait,
	    "ready|progress|standby [--timeout 60s] [--degraded]",
	    "until it is so; exit status 5 when it is not in time" },
	{ "check-config", 0, 1, 0, cmd_check_config, "[FILE]",
	    "is the configuration right?" },
	{ "show-config", 0, 1, 0, cmd_show_config, "[FILE]",
	    "every value in force, and where it comes from; with FILE what "
	    "that says, no operator needed" },
	{ "reload", 0, 0, 0, cmd_reload, "",
	    "read the configuration again" },
	{ "debug", 1, 1, 0, cmd_debug, "timers|streams|workers|messages",
	    "what it is doing right now" },
};

const size_t botctl_ncommands = ARRAY_SIZE(botctl_commands);
