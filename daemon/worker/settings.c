/*
 * The keys of [Pool NAME] for handlers in processes, and what follows from
 * them: the command line, the environment and the user of a worker.
 */
#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "worker/http_pool.h"
#include "worker/internal.h"

static const struct config_key keys[] = {
	{ "Exec", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "A program, with arguments, that speaks the worker protocol. A name "
	    "without a slash is looked up in $PATH, a relative path starts at "
	    "the configuration file." },
	{ "Command", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "A program, with arguments, that is run once a message: the body on "
	    "stdin, the attributes in BOT_* variables. Exit code 0 is done, 75 "
	    "retry, 69 retry (external_api), 65 dead (invalid_format), 100 "
	    "dead; others are retried." },
	{ "Module", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "A shared object with the function bot_handle (bot_module.h), run "
	    "in worker processes." },
	{ "Workers", CONFIG_UNSIGNED_RANGE, "1-4", NULL, 1, WORKERS_MAX,
	    CONFIG_RELOAD,
	    "How many processes: the minimum is always there, more are started "
	    "while messages wait, up to the maximum." },
	{ "MaxMessages", CONFIG_UNSIGNED, "0", NULL, 0, 0, CONFIG_RELOAD,
	    "After so many messages a worker is replaced. 0: never." },
	{ "MemoryMax", CONFIG_BYTES, NULL, NULL, MIB, 0, CONFIG_RELOAD,
	    "Memory that a worker with all its children may use, where systemd "
	    "delegates control groups (Delegate=yes); else what each of its "
	    "processes may allocate (RLIMIT_DATA). A worker that is over it is "
	    "killed, and its message retried as out_of_memory. Not set: no "
	    "limit." },
	{ "TasksMax", CONFIG_UNSIGNED, NULL, NULL, 1, 0, CONFIG_RELOAD,
	    "Processes and threads that a worker with all its children may "
	    "have at once. Needs control groups (Delegate=yes). Not set: no "
	    "limit." },
	{ "CPUQuota", CONFIG_PERCENT, NULL, NULL, 1, 100000, CONFIG_RELOAD,
	    "Processor time that a worker with all its children may use, in "
	    "per cent of one processor, such as 50%. Needs control groups "
	    "(Delegate=yes). Not set: no limit." },
	{ "User", CONFIG_STRING, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "The user that workers run as. Needs an operator that runs as "
	    "root." },
	{ "Group", CONFIG_STRING, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "The group that workers run as; by default that of User=." },
	{ "Environment", CONFIG_WORDS, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "NAME=VALUE words for the environment of workers. Of the operator's "
	    "own they get PATH, LANG, LC_*, TZ, HOME and USER only." },
	{ "Concurrency", CONFIG_UNSIGNED, NULL, NULL, 1, WORKER_READY_MAX,
	    CONFIG_RELOAD,
	    "At most so many messages at once in a worker that announces that "
	    "it takes several (by default 1024), or so many requests of Http= "
	    "(by default 10)." },
	{ "StartTimeout", CONFIG_SPAN, "10s", NULL, 1000, 0, CONFIG_RELOAD,
	    "How long a worker may take until it is ready." },
	{ "KillGrace", CONFIG_SPAN, "5s", NULL, 1000, 0, CONFIG_RELOAD,
	    "Time between SIGTERM and SIGKILL." },
	{ "IdleTimeout", CONFIG_SPAN, "60s", NULL, 1000, 0, CONFIG_RELOAD,
	    "A worker above the minimum that had nothing to do for so long is "
	    "let go." },
	{ "LogOutput", CONFIG_CHOICE, "info",
	    "none|error|warning|notice|info|debug", 0, 0, CONFIG_RELOAD,
	    "At which level the output of workers is logged." },
};

const struct config_kind worker_pool_kind = {
	"Pool", true, NULL, NULL, keys, ARRAY_SIZE(keys), NULL,
};

static const char *runner_override;

void
worker_set_runner(const char *path)
{
	runner_override = path;
}

void
worker_setup_cgroups(void)
{
	cgroups_setup(NULL);
}

/* Where problems go, and whether there was one. */
struct reader {
	const struct pool *pool;
	struct config *config;
	const struct config_section *section;
	bool failed;
};

static void problem(struct reader *, const char *key, const char *fmt, ...)
    _printf_(3, 4);

static void
problem(struct reader *r, const char *key, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	va_list ap;

	r->failed = true;
	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	if (r->config != NULL)
		config_problem(r->config, r->section, key, "%s",
		    buffer_cstr(&b));
	else
		log_error(LOG_POOL_EVENT(r->pool->name, EVENT_SECTION_REFUSED),
		    "%s%s%s; the workers stay "
		    "as they are", key != NULL ? key : "",
		    key != NULL ? "=: " : "", buffer_cstr(&b));
}

/* ---- programs ---- */

/* The directory of the configuration file, absolute. */
static char *
config_dir(const struct pool *p)
{
	const char *path = config_path(p->config);
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash == NULL ? xstrdup(".") :
	    xstrndup(path, (size_t)MAX(slash - path, 1));

	return realpath(dir, NULL);
}

static char *
find_program(struct reader *r, const char *key, const char *name)
{
	char *path;

	if (*name == '\0') {
		problem(r, key, "the program's name is empty");
		return NULL;
	}
	if (strchr(name, '/') == NULL) {
		path = child_find_program(name);
		if (path == NULL)
			problem(r, key, "no program \"%s\" in $PATH", name);
		return path;
	}
	if (*name == '/') {
		path = xstrdup(name);
	} else {
		_cleanup_free_ char *dir = config_dir(r->pool);

		path = xasprintf("%s/%s", dir != NULL ? dir : ".", name);
	}
	if (!child_is_program(path)) {
		problem(r, key, "%s: %s", path, access(path, F_OK) < 0 ?
		    strerror(errno) : "not an executable file");
		free(path);
		return NULL;
	}
	return path;
}

static char *
find_runner(void)
{
	char self[PATH_MAX];
	ssize_t n;

	if (runner_override != NULL)
		return xstrdup(runner_override);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		char *path, *slash;

		self[n] = '\0';
		slash = strrchr(self, '/');
		path = xasprintf("%.*s/bot-worker", (int)(slash - self), self);
		if (child_is_program(path))
			return path;
		free(path);
	}
	return xstrdup(PKGLIBEXECDIR "/bot-worker");
}

/* ---- user and group ---- */

static bool
is_number(const char *s)
{
	return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

struct identity {
	bool set;
	uid_t uid;
	gid_t gid;
	char *name, *home;	/* of the user, when it has an entry */
	char *groups;		/* "1,2,3" */
};

static void
read_groups(struct identity *id, const char *user)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	gid_t list[256];
	int n = (int)ARRAY_SIZE(list);

	if (getgrouplist(user, id->gid, list, &n) < 0)
		n = (int)ARRAY_SIZE(list);
	for (int i = 0; i < n; i++)
		buffer_printf(&b, "%s%u", i != 0 ? "," : "", list[i]);
	id->groups = buffer_dup(&b);
}

static void
read_identity(struct reader *r, struct identity *id)
{
	const char *user = config_string(r->section, "User");
	const char *group = config_string(r->section, "Group");
	const struct passwd *pw = NULL;
	const struct group *gr = NULL;

	id->uid = geteuid();
	id->gid = getegid();
	if (user != NULL) {
		pw = getpwnam(user);
		if (pw == NULL && is_number(user))
			pw = getpwuid((uid_t)strtoul(user, NULL, 10));
		if (pw == NULL && !is_number(user)) {
			problem(r, "User", "there is no user \"%s\"", user);
			return;
		}
		id->uid = pw != NULL ? pw->pw_uid :
		    (uid_t)strtoul(user, NULL, 10);
		id->gid = pw != NULL ? pw->pw_gid : (gid_t)id->uid;
		if (pw != NULL) {
			id->name = xstrdup(pw->pw_name);
			id->home = xstrdup(pw->pw_dir);
		}
	}
	if (group != NULL) {
		gr = getgrnam(group);
		if (gr == NULL && !is_number(group)) {
			problem(r, "Group", "there is no group \"%s\"", group);
			return;
		}
		id->gid = gr != NULL ? gr->gr_gid :
		    (gid_t)strtoul(group, NULL, 10);
	}
	if (id->uid == geteuid() && id->gid == getegid())
		return;
	if (geteuid() != 0) {
		problem(r, user != NULL ? "User" : "Group", "another user or "
		    "group needs an operator that runs as root");
		return;
	}
	id->set = true;
	if (id->name != NULL)
		read_groups(id, id->name);
	else
		id->groups = xasprintf("%u", id->gid);
}

/* ---- environment ---- */

struct strings {
	char **at;
	size_t n;
};

static void
strings_add(struct strings *s, char *string)
{
	s->at = xreallocarray(s->at, s->n + 2, sizeof(*s->at));
	s->at[s->n++] = string;
	s->at[s->n] = NULL;
}

/* A later NAME=VALUE replaces an earlier one. */
static void
env_put(struct strings *env, char *string)
{
	size_t n = strcspn(string, "=") + 1;

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->at[i], string, n) == 0) {
			free(env->at[i]);
			env->at[i] = string;
			return;
		}
	}
	strings_add(env, string);
}

static bool
valid_assignment(const char *s)
{
	size_t n = strcspn(s, "=");

	if (n == 0 || s[n] != '=' || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

static char **
make_environment(struct reader *r, const struct identity *id)
{
	extern char **environ;
	struct strings env = { NULL, 0 };
	char *const *words = config_words(r->section, "Environment");

	env_put(&env, xstrdup("PATH=/usr/local/bin:/usr/bin:/bin"));
	for (char **e = environ; e != NULL && *e != NULL; e++)
		if (child_may_inherit(*e))
			env_put(&env, xstrdup(*e));
	if (id->name != NULL)
		env_put(&env, xasprintf("USER=%s", id->name));
	if (id->home != NULL)
		env_put(&env, xasprintf("HOME=%s", id->home));
	for (; *words != NULL; words++) {
		if (valid_assignment(*words))
			env_put(&env, xstrdup(*words));
		else
			problem(r, "Environment", "\"%.*s\" is not NAME=VALUE",
			    (int)strcspn(*words, "="), *words);
	}
	env_put(&env, xstrdup("BOT_OPERATOR_FD=3"));
	env_put(&env, xasprintf("BOT_OPERATOR_POOL=%s", r->pool->name));
	env_put(&env, xasprintf("BOT_OPERATOR_INSTANCE=%s",
	    config_instance(r->pool->config)));
	return env.at;
}

/* Keys that only mean something for requests. */
static void
check_foreign_keys(struct reader *r)
{
	for (size_t i = 0; i < http_pool_kind.nkeys; i++) {
		const char *key = http_pool_kind.keys[i].name;

		if (config_is_set(r->section, key))
			problem(r, key, "%s= means nothing without Http=", key);
	}
}

/* ---- the command line of the runner ---- */

static void
read_handler(struct reader *r, struct settings *s, struct strings *argv)
{
	static const struct {
		const char *key, *verb;
		enum handler_kind kind;
	} kinds[] = {
		{ "Exec", "exec", HANDLER_EXEC },
		{ "Command", "command", HANDLER_COMMAND },
		{ "Module", "module", HANDLER_MODULE },
	};
	const char *key = NULL;

	strings_add(argv, xstrdup("bot-worker"));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!config_is_set(r->section, kinds[i].key))
			continue;
		if (key != NULL) {
			problem(r, kinds[i].key, "%s= is set too; a pool has "
			    "one handler", key);
			return;
		}
		key = kinds[i].key;
		s->kind = kinds[i].kind;
		strings_add(argv, xstrdup(kinds[i].verb));
	}
	if (s->kind == HANDLER_MODULE) {
		const char *path = config_string(r->section, "Module");

		if (path != NULL && access(path, R_OK) == 0)
			s->program = xstrdup(path);
		else
			problem(r, key, "%s: %s", path != NULL ? path : "",
			    strerror(errno));
	} else if (s->kind != HANDLER_NONE) {
		char *const *words = config_words(r->section, key);

		if (words[0] == NULL)
			problem(r, key, "a program is needed");
		else
			s->program = find_program(r, key, words[0]);
	} else {
		problem(r, NULL, "one of Exec=, Command=, Module= is needed");
	}
}

static void
make_argv(struct reader *r, struct settings *s, struct strings *argv,
    const struct identity *id)
{
	strings_add(argv, xasprintf("--parent=%d", (int)getpid()));
	if (s->memory_max_bytes != 0)
		strings_add(argv, xasprintf("--memory=%llu",
		    (unsigned long long)s->memory_max_bytes));
	if (id->set) {
		strings_add(argv, xasprintf("--uid=%u", id->uid));
		strings_add(argv, xasprintf("--gid=%u", id->gid));
		strings_add(argv, xasprintf("--groups=%s", id->groups));
	}
	strings_add(argv, xstrdup("--"));
	strings_add(argv, xstrdup(s->program != NULL ? s->program : ""));
	if (s->kind == HANDLER_EXEC || s->kind == HANDLER_COMMAND) {
		char *const *words = config_words(r->section,
		    s->kind == HANDLER_EXEC ? "Exec" : "Command");

		for (words += *words != NULL; *words != NULL; words++)
			strings_add(argv, xstrdup(*words));
	}
	s->argv = argv->at;
}

static void
read_limits(const struct config_section *section, struct settings *s)
{
	struct cgroup_limits *l = &s->limits;

	l->memory_max_bytes = s->memory_max_bytes;
	if (config_is_set(section, "TasksMax"))
		l->tasks_max = config_unsigned(section, "TasksMax");
	if (config_is_set(section, "CPUQuota"))
		l->cpu_percent = config_percent(section, "CPUQuota");
}

/* Once, when the pool begins: what is asked for and cannot be had. */
void
settings_warn_limits(const struct pool *p, const struct settings *s)
{
	const char *key = s->limits.tasks_max != 0 && !cgroups_limit_tasks() ?
	    "TasksMax" : s->limits.cpu_percent != 0 && !cgroups_limit_cpu() ?
	    "CPUQuota" : NULL;

	if (key != NULL)
		log_warning(LOG_POOL_EVENT(p->name, EVENT_CGROUPS), "%s= has "
		    "no effect: %s", key, cgroups_missing() != NULL ?
		    cgroups_missing() : "its controller is not delegated");
}

struct settings *
settings_read(const struct pool *pool, struct config *config,
    const struct config_section *section)
{
	struct reader r = { .pool = pool, .config = config,
		.section = section };
	struct settings *s = new0(struct settings);
	struct identity id = { .set = false };
	struct strings argv = { NULL, 0 };
	const char *level;
	uint64_t min, max;

	config_range(section, "Workers", &min, &max);
	s->min = (unsigned)min;
	s->max = (unsigned)max;
	s->max_messages = config_unsigned(section, "MaxMessages");
	s->memory_max_bytes = config_bytes(section, "MemoryMax");
	read_limits(section, s);
	s->concurrency = config_is_set(section, "Concurrency") ?
	    (unsigned)config_unsigned(section, "Concurrency") :
	    WORKER_READY_MAX;
	s->start_timeout_us = config_span_us(section, "StartTimeout");
	s->kill_grace_us = config_span_us(section, "KillGrace");
	s->idle_timeout_us = config_span_us(section, "IdleTimeout");
	level = config_string(section, "LogOutput");
	if (level == NULL || log_level_parse(level, &s->output_level) < 0)
		s->output_level = LOG_LEVEL_NONE;
	s->runner = find_runner();
	read_handler(&r, s, &argv);
	check_foreign_keys(&r);
	read_identity(&r, &id);
	s->envp = make_environment(&r, &id);
	make_argv(&r, s, &argv, &id);
	free(id.name);
	free(id.home);
	free(id.groups);
	if (r.failed) {
		settings_free(s);
		return NULL;
	}
	return s;
}

static void
free_strings(char **at)
{
	for (size_t i = 0; at != NULL && at[i] != NULL; i++)
		free(at[i]);
	free(at);
}

char **
settings_argv(const struct settings *s, const struct cgroup *group)
{
	struct strings argv = { NULL, 0 };
	char *const *set = s->argv;

	strings_add(&argv, xstrdup(set[0]));	/* "bot-worker" */
	strings_add(&argv, xstrdup(set[1]));	/* the verb */
	for (size_t i = 0; group != NULL && i < CGROUP_PLACES; i++)
		if (group->dirs[i] != NULL)
			strings_add(&argv, xasprintf("--cgroup=%s",
			    group->dirs[i]));
	set += 2;
	for (; *set != NULL && strcmp(*set, "--") != 0; set++)
		if (group == NULL || strncmp(*set, "--memory=", 9) != 0)
			strings_add(&argv, xstrdup(*set));
	for (; *set != NULL; set++)
		strings_add(&argv, xstrdup(*set));
	return argv.at;
}

void
settings_argv_free(char **argv)
{
	free_strings(argv);
}

void
settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	free_strings(s->argv);
	free_strings(s->envp);
	free(s->runner);
	free(s->program);
	free(s);
}

static bool
same_strings(char *const *a, char *const *b)
{
	for (; *a != NULL && *b != NULL; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return *a == *b;
}

bool
settings_same_worker(const struct settings *a, const struct settings *b)
{
	return strcmp(a->runner, b->runner) == 0 &&
	    a->limits.tasks_max == b->limits.tasks_max &&
	    a->limits.cpu_percent == b->limits.cpu_percent &&
	    same_strings(a->argv, b->argv) && same_strings(a->envp, b->envp);
}
