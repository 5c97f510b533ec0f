#include "rabbit_rig.h"

#include <amqp_tcp_socket.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define START_US	(60 * USEC_PER_SEC)
#define ENV_MAX		24
#define COOKIE		"botc"
#define ERL_CALL	"/usr/bin/erl_call"

struct server server;
static bool alarmed;

static const char *
epmd_path(void)
{
	static const char *const paths[] = { "/usr/bin/epmd",
	    "/usr/lib64/erlang/bin/epmd", "/usr/lib/erlang/bin/epmd" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

bool
server_exists(void)
{
	return access(RABBIT_BIN "rabbitmq-server", X_OK) == 0 && epmd_path() != NULL;
}

static void
write_in_dir(const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", server.dir, name);

	write_file(path, text);
	assert_int_equal(chmod(path, 0600), 0);
}

static void
environment(char *env[ENV_MAX + 1])
{
	const struct server *s = &server;
	size_t n = 0;

#define LOOPBACK	"-kernel inet_dist_use_interface {127,0,0,1}"
	env[n++] = xasprintf("PATH=%s", getenv("PATH"));
	env[n++] = xasprintf("HOME=%s", s->dir);
	env[n++] = xstrdup("LC_ALL=C.UTF-8");
	/* The script becomes the node, so that our pid is the node's. */
	env[n++] = xstrdup("RUNNING_UNDER_SYSTEMD=1");
	env[n++] = xasprintf("RABBITMQ_NODENAME=bot-c%d@localhost",
	    (int)getpid());
	env[n++] = xasprintf("RABBITMQ_NODE_PORT=%u", s->port);
	env[n++] = xasprintf("RABBITMQ_DIST_PORT=%u", s->dist_port);
	env[n++] = xasprintf("RABBITMQ_CONFIG_FILE=%s/rabbitmq.conf", s->dir);
	env[n++] = xasprintf("RABBITMQ_ADVANCED_CONFIG_FILE=%s/advanced.config",
	    s->dir);
	env[n++] = xasprintf("RABBITMQ_MNESIA_BASE=%s/mnesia", s->dir);
	env[n++] = xasprintf("RABBITMQ_LOG_BASE=%s/log", s->dir);
	env[n++] = xasprintf("RABBITMQ_PID_FILE=%s/pid", s->dir);
	env[n++] = xasprintf("RABBITMQ_ENABLED_PLUGINS_FILE=%s/enabled_plugins",
	    s->dir);
	env[n++] = xstrdup("RABBITMQ_CONF_ENV_FILE=/dev/null");
	/* Nodes may run beside each other: none keeps to the first processors. */
	env[n++] = xstrdup("RABBITMQ_SCHEDULER_BIND_TYPE=u");
	env[n++] = xstrdup("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" LOOPBACK);
	env[n++] = xstrdup("RABBITMQ_CTL_ERL_ARGS=" LOOPBACK);
	env[n++] = xstrdup("ERL_EPMD_ADDRESS=127.0.0.1");
	env[n++] = xasprintf("ERL_EPMD_PORT=%u", s->epmd_port);
	assert_true(n < ENV_MAX);
	env[n] = NULL;
}

/* Input and output are files of the server's directory; no input is NULL. */
static pid_t
spawn(const char *const *argv, const char *input, const char *output)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", server.dir, output);
	_cleanup_free_ char *from = input == NULL ? xstrdup("/dev/null") :
	    xasprintf("%s/%s", server.dir, input);
	char *env[ENV_MAX + 1];
	posix_spawn_file_actions_t actions;
	pid_t pid;

	environment(env);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	(void)posix_spawn_file_actions_addopen(&actions, 0, from, O_RDONLY,
	    0);
	(void)posix_spawn_file_actions_addopen(&actions, 1, path,
	    O_WRONLY | O_CREAT | O_TRUNC, 0600);
	(void)posix_spawn_file_actions_adddup2(&actions, 1, 2);
	(void)posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL,
	    (char *const *)(uintptr_t)argv, env), 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	for (size_t i = 0; env[i] != NULL; i++)
		free(env[i]);
	return pid;
}

static void
admin_close(void)
{
	if (server.admin != NULL)
		(void)amqp_destroy_connection(server.admin);
	server.admin = NULL;
}

static bool
admin_connect(void)
{
	amqp_connection_state_t c;
	amqp_socket_t *socket;

	admin_close();
	server.admin = c = amqp_new_connection();
	server.published = 0;
	socket = amqp_tcp_socket_new(c);
	if (amqp_socket_open_noblock(socket, "127.0.0.1", (int)server.port,
	    &(struct timeval){ 5, 0 }) != AMQP_STATUS_OK ||
	    amqp_set_rpc_timeout(c, &(struct timeval){ 20, 0 }) != 0 ||
	    amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest",
	    "guest").reply_type != AMQP_RESPONSE_NORMAL)
		return false;
	return amqp_channel_open(c, 1) != NULL &&
	    amqp_confirm_select(c, 1) != NULL &&
	    amqp_channel_open(c, 2) != NULL;
}

void
server_again(void)
{
	const char *const argv[] = { RABBIT_BIN "rabbitmq-server", NULL };
	uint64_t give_up = clock_monotonic_us() + START_US;

	server.pid = spawn(argv, NULL, "server.log");
	while (!admin_connect()) {
		if (clock_monotonic_us() > give_up ||
		    waitpid(server.pid, NULL, WNOHANG) != 0)
			fail_msg("rabbitmq-server does not start: %s",
			    server.dir);
		(void)poll(NULL, 0, 50);
	}
}

void
server_kill(int signo)
{
	if (server.pid == 0)
		return;
	admin_close();
	(void)kill(server.pid, signo);
	(void)waitpid(server.pid, NULL, 0);
	server.pid = 0;
}

static bool
file_has(const char *path, const char *text)
{
	char line[65536];
	size_t n = strlen(text), got;
	FILE *f = fopen(path, "re");
	bool has = false;

	assert_non_null(f);
	got = fread(line, 1, sizeof(line), f);
	for (size_t i = 0; i + n <= got && !has; i++)
		has = memcmp(line + i, text, n) == 0;
	(void)fclose(f);
	return has;
}

void
server_remembers(const char *queue)
{
	_cleanup_free_ char *path = xasprintf("%s/mnesia/bot-c%d@localhost/"
	    "quorum/bot-c%d@localhost/names.dets", server.dir, (int)getpid(),
	    (int)getpid());
	_cleanup_free_ char *name = xasprintf("%%2F_%s", queue);
	uint64_t give_up = clock_monotonic_us() + DEADLINE_US;

	while (!file_has(path, name)) {
		if (clock_monotonic_us() > give_up)
			fail_msg("%s is not in %s", queue, path);
		(void)poll(NULL, 0, 20);
	}
}

/* A broken invariant ends this program, and so does a runner's time-out: the
   server must not stay behind. */
static void
on_the_end(int signo)
{
	if (server.pid > 0)
		(void)kill(server.pid, SIGKILL);
	if (server.epmd > 0)
		(void)kill(server.epmd, SIGKILL);
	(void)signal(signo, SIG_DFL);
	(void)raise(signo);
}

int
world_setup(void **state _unused_)
{
	_cleanup_free_ char *conf = NULL, *port = NULL;

	if (!server_exists())
		return 0;
	memset(&server, 0, sizeof(server));
	(void)signal(SIGABRT, on_the_end);
	(void)signal(SIGTERM, on_the_end);
	(void)signal(SIGINT, on_the_end);
	snprintf(server.dir, sizeof(server.dir), "/tmp/bot-rabbit-XXXXXX");
	assert_non_null(mkdtemp(server.dir));
	server.port = free_port();
	server.dist_port = free_port();
	server.epmd_port = free_port();
	conf = xasprintf("listeners.tcp.1 = 127.0.0.1:%u\nlog.console = true\n"
	    "log.file = false\ndisk_free_limit.absolute = 1MB\n", server.port);
	write_in_dir("rabbitmq.conf", conf);
	/* Consumers that are timed out, counts of quorum queues. */
	write_in_dir("advanced.config", "[{rabbit, [{channel_tick_interval, "
	    "500}, {quorum_tick_interval, 500}]}].\n");
	write_in_dir("enabled_plugins", "[].\n");
	write_in_dir(".erlang.cookie", COOKIE);
	/* Ours, and first: the node would leave the one that it starts. */
	port = xasprintf("%u", server.epmd_port);
	server.epmd = spawn((const char *const[]){ epmd_path(), "-address",
	    "127.0.0.1", "-port", port, NULL }, NULL, "epmd.log");
	server_again();
	return 0;
}

int
world_teardown(void **state _unused_)
{
	if (server.epmd == 0)
		return 0;
	server_kill(SIGKILL);
	(void)kill(server.epmd, SIGKILL);
	(void)waitpid(server.epmd, NULL, 0);
	if (getenv("BOT_TEST_KEEP") == NULL)
		remove_tree(server.dir);
	else
		print_message("kept: %s\n", server.dir);
	return 0;
}

static bool
evaluated(void)
{
	_cleanup_free_ char *path = xasprintf("%s/eval.log", server.dir);

	return !file_has(path, "{error,");
}

void
server_eval(const char *fmt, ...)
{
	_cleanup_free_ char *node = xasprintf("bot-c%d@localhost",
	    (int)getpid());
	_cleanup_free_ char *text = NULL, *line = NULL;
	const char *const call[] = { ERL_CALL, "-n", node, "-c", COOKIE, "-e",
	    NULL };
	const char *ctl[] = { RABBIT_BIN "rabbitmqctl", "--quiet", "eval",
	    NULL, NULL };
	int status = -1;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&text, fmt, ap) >= 0);
	va_end(ap);
	line = xasprintf("%s\n", text);
	write_in_dir("eval", line);
	ctl[3] = text;
	assert_int_equal(waitpid(spawn(access(ERL_CALL, X_OK) == 0 ? call : ctl,
	    "eval", "eval.log"), &status, 0) < 0, 0);
	if (status != 0 || !evaluated())
		fail_msg("%s: status %d (%s/eval.log)", text, status,
		    server.dir);
}

#define USERS	"rabbit_auth_backend_internal:"

void
server_user(const char *name, const char *password)
{
	server_eval(USERS "add_user(<<\"%s\">>, <<\"%s\">>, <<\"test\">>).",
	    name, password);
}

void
server_allow(const char *name, const char *configure, const char *write,
    const char *read)
{
	server_eval(USERS "set_permissions(<<\"%s\">>, <<\"/\">>, <<\"%s\">>, "
	    "<<\"%s\">>, <<\"%s\">>, <<\"test\">>).", name, configure, write,
	    read);
}

void
server_no_user(const char *name)
{
	server_eval(USERS "delete_user(<<\"%s\">>, <<\"test\">>).", name);
}

void
server_close_connections(void)
{
	/* One may have ended by itself. */
	server_eval("[catch rabbit_networking:close_connection(P, "
	    "\"maintenance\") || P <- rabbit_networking:connections()], ok.");
	assert_true(admin_connect());
}

void
server_memory_alarm(bool on)
{
	server_eval("vm_memory_monitor:set_vm_memory_high_watermark(%s).",
	    on ? "0.000001" : "0.4");
	/* The connections have heard of it, too, once it is listed. */
	server_eval("true = lists:any(fun(_) -> timer:sleep(10), %s =:= "
	    "(rabbit_alarm:get_alarms() =/= []) end, lists:seq(1, 2000)).",
	    on ? "true" : "false");
	alarmed = on;
}

int
world_flush(void **state _unused_)
{
	static const char *const names[] = { "jobs", "jobs.dead", "copies",
	    "other", "other.dead" };
	static const char *const spans[] = { "100ms", "150ms", "200ms",
	    "300ms", "500ms", "700ms", "1s", "2s", "3s", "5s", "10s", "15s",
	    "20s", "30s", "45s", "1min", "2min", "5min", "1h" };

	if (server.pid == 0)
		return 0;
	/* What a test that failed has left behind. */
	(void)kill(server.pid, SIGCONT);
	if (alarmed) {
		server_memory_alarm(false);
		assert_true(admin_connect());
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		delete_queue(names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		_cleanup_free_ char *name = xasprintf("jobs.bot-delay.%s",
		    spans[i]);

		delete_queue(name);
	}
	/* A channel of 3.10 fails when a queue that it knew comes back as one
	   of the other type. */
	assert_true(admin_connect());
	return 0;
}
