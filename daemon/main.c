/*
 * main.c - puts the rooms together and turns the loop.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "all.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "control/api.h"
#include "control/handover.h"
#include "control/role.h"
#include "control/routes.h"
#include "guard/bans.h"
#include "guard/guard.h"
#include "guard/security.h"
#include "loop/signal.h"
#include "observe/alert.h"
#include "observe/check.h"
#include "observe/notify.h"
#include "sink/sink.h"
#include "worker/worker.h"

#define EXIT_USAGE	2
#define EXIT_BAD_CONFIG	78	/* sysexits(3): EX_CONFIG */

struct operator {
	const char *path;
	struct config *config;
	struct loop *loop;
	struct resolver *resolver;
	struct engine *engine;
	struct guards *guards;
	struct bans *bans;
	struct checks *checks;
	struct observer *observer;
	struct alerts *alerts;
	struct sinks *sinks;
	struct notify *notify;
	struct http_server *http;	/* NULL without Status= */
	struct routes *routes;		/* the same */
	struct api *api;
	struct signal_watch signals;
	struct handover handover;
	struct timer ready_timer;
	struct timer listen_timer;	/* another has the status address */
	uint64_t started_us;
	char *role_path;
	bool want_standby;		/* --standby or Standby= */
	bool draining;			/* and then we end */
	bool demoting;			/* draining, and then standby */
};

/* ---- the configuration ---- */

static void
print_problems(const struct config *c)
{
	for (size_t i = 0; i < config_problems(c); i++)
		fprintf(stderr, "%s\n", config_problem_text(c, i));
}

static const struct config_section *
operator_section(const struct config *c)
{
	return config_next(c, "Operator", NULL);
}

static void
apply_log_level(const struct config *c)
{
	const struct config_section *s = operator_section(c);
	enum log_level level = LOG_LEVEL_INFO;

	if (s != NULL)
		(void)log_level_parse(config_string(s, "LogLevel"), &level);
	log_set_level(level);
}

/* A file that cannot be read leaves the old token in force: better than to let
   everybody in, or nobody. */
static void
apply_token(struct operator *o, const struct config *c)
{
	const struct config_section *s = operator_section(c);
	struct error err = ERROR_INIT;

	if (o->routes != NULL && routes_set_token_file(o->routes, s != NULL ?
	    config_string(s, "StatusTokenFile") : NULL, &err) < 0)
		log_error(LOG_EVENT(EVENT_RELOAD_PARTIAL),
		    "StatusTokenFile=: %s; the token stays as it was until "
		    "the next reload", err.text);
}

/* ---- reload and drain ---- */

static int
reload(void *owner, unsigned *ret_changed, struct buffer *problems)
{
	struct operator *o = owner;
	struct config *fresh = bot_config_load(o->path), *old = o->config;
	size_t n = config_problems(fresh);
	unsigned changed;

	*ret_changed = 0;
	if (n != 0) {
		log_error(LOG_EVENT(EVENT_RELOAD_REFUSED),
		    "%s has %zu problem%s; the old configuration "
		    "stays in force:", o->path, n, n == 1 ? "" : "s");
		for (size_t i = 0; i < n; i++) {
			log_error(LOG_EVENT(EVENT_RELOAD_REFUSED),
			    "%s", config_problem_text(fresh, i));
			buffer_printf(problems, "%s\n",
			    config_problem_text(fresh, i));
		}
		config_unref(fresh);
		return -EINVAL;
	}
	if (o->draining || o->demoting) {
		buffer_add_str(problems, o->draining ?
		    "draining: too late for a reload\n" :
		    "on its way into standby: try again when it is there\n");
		config_unref(fresh);
		return -ESHUTDOWN;
	}
	notify_reloading(o->notify);
	if (operator_section(old) != NULL && operator_section(fresh) != NULL &&
	    config_compare(operator_section(old), operator_section(fresh)) ==
	    CONFIG_CHANGED)
		log_warning(LOG_EVENT(EVENT_RELOAD_PARTIAL),
		    "some changes in [Operator] need a restart "
		    "to take effect");
	apply_log_level(fresh);
	apply_token(o, fresh);
	/* First, since a queue may require one that is new. */
	changed = checks_reload(o->checks, fresh);
	changed += guards_reload(o->guards, fresh);
	changed += engine_reload(o->engine, fresh);
	o->config = fresh;
	config_unref(old);
	observer_refresh(o->observer);
	alerts_reload(o->alerts, fresh);
	changed += sinks_reload(o->sinks, fresh);
	log_notice(LOG_EVENT(EVENT_RELOADED),
	    "reloaded %s: %u section%s changed", o->path, changed,
	    changed == 1 ? "" : "s");
	notify_ready(o->notify);
	*ret_changed = changed;
	return 0;
}

/* ---- standby ---- */

static void
enter_standby(struct operator *o)
{
	log_notice(LOG_EVENT(EVENT_STANDBY), "in standby: everything is "
	    "loaded and checked, nothing is taken until \"botctl promote\"");
	notify_ready(o->notify);
}

static void
remember_role(struct operator *o, enum role role)
{
	int r = role_write(o->role_path, role);

	if (r < 0)
		log_warning(LOG_EVENT(EVENT_ROLE_FORGOTTEN), "%s: %s; after a "
		    "restart this is %s", o->role_path, strerror(-r),
		    o->want_standby ? "a standby" : "active");
}

static bool
in_standby(const struct operator *o)
{
	return o->engine->phase == ENGINE_STANDBY;
}

static int
promote(void *owner, struct buffer *why)
{
	struct operator *o = owner;

	if (o->draining || o->demoting) {
		buffer_add_str(why, o->draining ? "it is draining, to end" :
		    "it is still on its way into standby; try again when it "
		    "is there");
		return -EBUSY;
	}
	remember_role(o, ROLE_ACTIVE);
	if (!in_standby(o))
		return 0;
	log_notice(LOG_EVENT(EVENT_PROMOTED),
	    "promoted: queues are opened and workers started");
	o->started_us = clock_monotonic_us();
	engine_start(o->engine);
	timer_arm(o->loop, &o->ready_timer, 0);
	return 1;
}

static void
on_stopped(void *owner)
{
	struct operator *o = owner;

	if (!o->draining) {
		o->demoting = false;
		engine_rest(o->engine);
		observer_refresh(o->observer);
		enter_standby(o);
		return;
	}
	log_notice(LOG_EVENT(EVENT_STOPPED),
	    "drained; done %llu, retried %llu, dead %llu since "
	    "the start", (unsigned long long)o->engine->done,
	    (unsigned long long)o->engine->retried,
	    (unsigned long long)o->engine->dead);
	loop_quit(o->loop);
}

static void
drain(void *owner)
{
	struct operator *o = owner;

	if (o->draining) {
		/* Asked twice: whoever asks does not want to wait. */
		engine_hurry(o->engine);
		return;
	}
	/* On its way into standby it goes on draining, and ends then. */
	o->draining = true;
	checks_stop(o->checks);
	engine_drain(o->engine, on_stopped, o);
	notify_stopping(o->notify, o->engine->drain_until_us);
}

static int
demote(void *owner, struct buffer *why)
{
	struct operator *o = owner;

	if (o->draining) {
		buffer_add_str(why, "it is draining, to end");
		return -EBUSY;
	}
	remember_role(o, ROLE_STANDBY);
	if (in_standby(o) || o->demoting)
		return 0;
	timer_cancel(o->loop, &o->ready_timer);
	o->demoting = true;
	engine_drain(o->engine, on_stopped, o);
	return 1;
}

static void
on_signal(void *owner, int signo)
{
	_cleanup_buffer_ struct buffer problems = BUFFER_INIT;
	unsigned changed;

	if (signo == SIGHUP)
		(void)reload(owner, &changed, &problems);
	else
		drain(owner);
}

/* ---- readiness ---- */

/* READY=1 as soon as work can be done, and after a while in any case: a
   broker that is down must not make systemd give up on us. */
#define READY_LATEST_US	(5 * USEC_PER_SEC)
#define READY_POLL_US	(5 * USEC_PER_MSEC)

static void
check_ready(struct timer *t)
{
	struct operator *o = t->owner;
	uint64_t since = clock_monotonic_us() - o->started_us;

	if (o->draining || o->demoting)
		return;
	if (in_standby(o)) {
		enter_standby(o);
		return;
	}
	if (!observer_ready(o->observer) && since < READY_LATEST_US) {
		timer_arm(o->loop, t, READY_POLL_US);
		return;
	}
	if (observer_ready(o->observer))
		log_notice(LOG_EVENT(EVENT_READY), "ready after %llu ms",
		    (unsigned long long)(since / USEC_PER_MSEC));
	else
		log_warning(LOG_EVENT(EVENT_NOT_READY),
		    "no queue can be worked on yet; going on "
		    "trying");
	notify_ready(o->notify);
}

/* ---- the process ---- */

static void
harden(void)
{
	struct rlimit files;

	(void)signal(SIGPIPE, SIG_IGN);
	umask(0027);
	/* Invariant 7: no core file with what connections had in memory. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static struct operator *running;

static void
dump_state(void)
{
	if (running != NULL && running->engine != NULL)
		engine_dump(running->engine);
}

static bool
is_banned(void *owner, const struct sockaddr *peer)
{
	return bans_address(owner, peer);
}

/* ---- the sockets ---- */

#define LISTEN_AGAIN_US	USEC_PER_SEC

static int
open_status(struct operator *o, const struct address *address,
    struct error *err)
{
	char shown[ADDRESS_TEXT_BYTES];
	int r;

	if (o->handover.status >= 0) {
		r = http_server_adopt(o->http, o->handover.status, err);
		if (r == 0)
			o->handover.status = -1;
	} else {
		r = http_server_listen(o->http, address, err);
	}
	if (r == 0)
		log_notice(LOG_EVENT(EVENT_START), "status at http://%s/",
		    address_text(http_server_address(o->http), shown));
	return r;
}

static void
listen_again(struct timer *t)
{
	struct operator *o = t->owner;
	const struct config_section *s = operator_section(o->config);
	struct error err = ERROR_INIT;
	struct address address;

	if (o->draining || s == NULL ||
	    address_parse(&address, config_string(s, "Status"), 0, &err) < 0)
		return;
	if (open_status(o, &address, &err) < 0)
		timer_arm(o->loop, t, LISTEN_AGAIN_US);
}

/* What a socket unit says and what the configuration says. */
static void
compare_handed(const char *key, const char *text, int fd)
{
	char shown[ADDRESS_TEXT_BYTES];
	struct error err = ERROR_INIT;
	struct address configured, handed;

	handover_address(fd, &handed);
	if (text == NULL || address_parse(&configured, text, 0, &err) < 0 ||
	    handover_matches(&configured, &handed))
		return;
	log_warning(LOG_EVENT(EVENT_HANDOVER), "%s=%s, but systemd passed a "
	    "socket that listens on %s: that is used; make ListenStream= and "
	    "%s= the same", key, text, address_text(&handed, shown), key);
}

/* On what systemd passed, or on Status=, when there is one. */
static int
serve_status(struct operator *o, struct error *err)
{
	const struct config_section *s = operator_section(o->config);
	const char *text = s != NULL ? config_string(s, "Status") : NULL;
	struct address address = { .kind = ADDRESS_INVALID };
	int r;

	if (o->handover.status >= 0)
		compare_handed("Status", text, o->handover.status);
	else if (text == NULL)
		return 0;
	else if ((r = address_parse(&address, text, 0, err)) < 0)
		return r;
	o->http = http_server_new(o->loop, &(struct http_server_params){
	    .names = s != NULL ? config_words(s, "StatusHosts") : NULL });
	http_server_set_ban(o->http, is_banned, o->bans);
	o->routes = routes_new(o->http, o->loop, o->observer);
	r = routes_set_token_file(o->routes, s != NULL ? config_string(s,
	    "StatusTokenFile") : NULL, err);
	if (r < 0)
		return r;
	r = open_status(o, &address, err);
	if (r < 0 && o->want_standby && strcmp(err->code, "EADDRINUSE") == 0) {
		log_notice(LOG_EVENT(EVENT_STATUS_ADDRESS), "%s; it is taken "
		    "as soon as it is free", err->text);
		timer_arm(o->loop, &o->listen_timer, LISTEN_AGAIN_US);
		r = 0;
	}
	return r;
}

static int
serve_control(struct operator *o, const char *path, struct error *err)
{
	const struct api_params params = { .loop = o->loop,
	    .engine = o->engine, .observer = o->observer,
	    .alerts = o->alerts, .on_drain = drain, .on_promote = promote,
	    .on_demote = demote, .on_reload = reload, .owner = o };
	int r;

	if (o->handover.control < 0)
		return api_start(&params, path, &o->api, err);
	compare_handed("Control", path, o->handover.control);
	r = api_adopt(&params, o->handover.control, &o->api, err);
	if (r == 0)
		o->handover.control = -1;
	return r;
}

/* ---- start and end ---- */

static bool
starts_in_standby(struct operator *o)
{
	enum role role = role_read(o->role_path);

	if (role == ROLE_ACTIVE && o->want_standby)
		log_notice(LOG_EVENT(EVENT_PROMOTED), "promoted before the "
		    "restart (%s): it works on", o->role_path);
	return role == ROLE_STANDBY ||
	    (role == ROLE_CONFIGURED && o->want_standby);
}

static int
start(struct operator *o)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, 0 };
	struct error err = ERROR_INIT;
	_cleanup_free_ char *control = operator_control_path(o->config);
	_cleanup_free_ char *states = operator_state_path(o->config,
	    "alerts.json");
	const struct config_section *s = operator_section(o->config);
	int r;

	if (handover_take(&o->handover, &err) < 0) {
		log_error(LOG_EVENT(EVENT_CANNOT_START), "cannot start: %s",
		    err.text);
		return -EINVAL;
	}
	o->role_path = role_path(control);
	o->want_standby |= s != NULL && config_bool(s, "Standby");
	if ((r = loop_new(&o->loop)) < 0 ||
	    (r = signal_watch_start(&o->signals, o->loop, signals, on_signal,
	    o)) < 0 ||
	    (r = resolver_new(o->loop, &o->resolver)) < 0) {
		log_error(LOG_EVENT(EVENT_CANNOT_START),
		    "cannot start: %s", strerror(-r));
		return r;
	}
	security_open(o->loop);
	o->engine = engine_new(o->loop, o->resolver, o->config, &bot_types);
	o->guards = guards_new(o->engine, o->config);
	o->bans = bans_new(0);		/* [CrowdSec] says how many */
	guards_set_bans(o->guards, o->bans);
	o->observer = observer_new(o->loop, o->engine);
	observer_set_guards(o->observer, o->guards);
	observer_set_instance(o->observer, operator_name(o->config));
	o->alerts = alerts_new(o->loop, o->observer, o->config, states);
	o->checks = checks_new(o->loop, o->resolver, o->engine, o->config);
	observer_set_checks(o->observer, o->checks);
	o->sinks = sinks_new(&(struct sinks_params){ .loop = o->loop,
	    .resolver = o->resolver, .engine = o->engine,
	    .observer = o->observer, .alerts = o->alerts,
	    .bans = o->bans }, o->config);
	o->notify = notify_new(o->loop, o->observer);
	timer_init(&o->ready_timer, "main.ready", check_ready, o);

	timer_init(&o->listen_timer, "main.listen", listen_again, o);

	if (serve_control(o, control, &err) < 0 ||
	    serve_status(o, &err) < 0) {
		log_error(LOG_EVENT(EVENT_CANNOT_START),
		    "cannot start: %s", err.text);
		return -EADDRINUSE;
	}
	o->started_us = clock_monotonic_us();
	worker_setup_cgroups();
	checks_start(o->checks);
	if (starts_in_standby(o))
		engine_standby(o->engine);
	else
		engine_start(o->engine);
	timer_arm(o->loop, &o->ready_timer, 0);
	return 0;
}

static void
finish(struct operator *o)
{
	if (o->loop != NULL) {
		timer_cancel(o->loop, &o->ready_timer);
		timer_cancel(o->loop, &o->listen_timer);
	}
	http_server_free(o->http);
	routes_free(o->routes);
	api_free(o->api);
	notify_free(o->notify);
	sinks_free(o->sinks);
	alerts_free(o->alerts);
	observer_free(o->observer);
	checks_free(o->checks);
	engine_free(o->engine);
	guards_free(o->guards);
	bans_free(o->bans);
	security_close();
	resolver_free(o->resolver);
	signal_watch_stop(&o->signals);
	loop_free(o->loop);
	config_unref(o->config);
	handover_close(&o->handover);
	free(o->role_path);
}

static void
usage(FILE *f)
{
	fprintf(f, "usage: bot-operatord [--config FILE] [--check | --standby]\n"
	    "\n"
	    "Runs the messages of event queues through isolated workers.\n"
	    "\n"
	    "  --config FILE  the configuration; default %s\n"
	    "  --check        check it, say what is wrong, and exit\n"
	    "  --standby      take nothing until \"botctl promote\"\n"
	    "  --version      print the version\n"
	    "\n"
	    "SIGTERM drains, SIGHUP reloads. See bot-operatord(8).\n",
	    BOT_CONFIG_DEFAULT);
}

static int
run(struct operator *o)
{
	int r;

	log_open("bot-operator");
	apply_log_level(o->config);
	harden();
	running = o;
	panic_hook = dump_state;
	log_notice(LOG_EVENT(EVENT_START),
	    "bot-operator %s starts with %s", PACKAGE_VERSION,
	    o->path);
	r = start(o);
	if (r == 0) {
		r = loop_run(o->loop);
		if (r < 0)
			log_error(LOG_EVENT(EVENT_CANNOT_START),
			    "the loop failed: %s", strerror(-r));
	}
	finish(o);
	running = NULL;
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "standby", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct operator o = { .path = BOT_CONFIG_DEFAULT,
		.handover = HANDOVER_INIT };
	bool check = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			o.path = optarg;
			break;
		case 'k':
			check = true;
			break;
		case 's':
			o.want_standby = true;
			break;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		case 'V':
			printf("bot-operator %s\n", PACKAGE_VERSION);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "bot-operatord: what is \"%s\"?\n", argv[optind]);
		usage(stderr);
		return EXIT_USAGE;
	}
	o.config = bot_config_load(o.path);
	if (config_problems(o.config) != 0) {
		print_problems(o.config);
		fprintf(stderr, "bot-operatord: %s has %zu problem%s; nothing "
		    "was started\n", o.path, config_problems(o.config),
		    config_problems(o.config) == 1 ? "" : "s");
		config_unref(o.config);
		return EXIT_BAD_CONFIG;
	}
	if (check) {
		printf("%s: ok\n", o.path);
		config_unref(o.config);
		return EXIT_SUCCESS;
	}
	return run(&o);
}
