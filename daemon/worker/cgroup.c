#include "worker/cgroup.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/alloc.h"
#include "base/log.h"

#define CPU_PERIOD_US	100000u		/* the kernel's default */

enum place { MEMORY = 0, PIDS, CPU };

static const char *const controllers[CGROUP_PLACES] = { "memory", "pids",
	"cpu" };

static struct {
	bool done;
	int version;			/* 2, 1; 0: none */
	char *bases[CGROUP_PLACES];	/* of the unit; v2: the first only */
	bool has[CGROUP_PLACES];	/* the controller is ours */
	char missing[256];
	uint64_t serial;
	struct list leftovers;
	struct cgroup_paths paths;
} all;

/* ---- small files ---- */

static int
write_file(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	(void)close(fd);
	return r;
}

static int
write_number(const char *dir, const char *name, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return write_file(dir, name, text);
}

/* Cut at size - 1; these are short. 0 or -errno. */
static int
read_path(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	out[0] = '\0';
	if (fd < 0)
		return -errno;
	n = read(fd, out, size - 1);
	(void)close(fd);
	if (n < 0)
		return -EIO;
	out[n] = '\0';
	return 0;
}

static int
read_file(const char *dir, const char *name, char *out, size_t size)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);

	return read_path(path, out, size);
}

static bool
has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)) != NULL; p += n)
		if ((p == text || isspace((unsigned char)p[-1]) ||
		    p[-1] == ',') && (p[n] == '\0' || p[n] == ',' ||
		    isspace((unsigned char)p[n])))
			return true;
	return false;
}

/* The number behind "KEY " at the beginning of a line; 0: not there. */
static uint64_t
value_of(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p != NULL && *p != '\0';) {
		if (strncmp(p, key, n) == 0 && p[n] == ' ')
			return strtoull(p + n + 1, NULL, 10);
		p = strchr(p, '\n');
		p = p != NULL ? p + 1 : NULL;
	}
	return 0;
}

/* ---- what is ours ---- */

static bool
delegated_by_attribute(const char *dir)
{
	static const char *const names[] = { "user.delegate",
		"trusted.delegate" };
	char value[8];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ssize_t n = getxattr(dir, names[i], value, sizeof(value));

		if (n == 1 && value[0] == '1')
			return true;
	}
	return false;
}

static int
make_dir(const char *dir)
{
	return mkdir(dir, 0755) < 0 ? -errno : 0;
}

static void missing(const char *fmt, ...) _printf_(1, 2);

static void
missing(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(all.missing, sizeof(all.missing), fmt, ap);
	va_end(ap);
	all.version = 0;
	for (size_t i = 0; i < CGROUP_PLACES; i++) {
		free(all.bases[i]);
		all.bases[i] = NULL;
		all.has[i] = false;
	}
}

/*
 * Our path in the hierarchy of that controller ("" is v2's), from lines
 * "4:memory:/system.slice/x.service"; NULL when there is none.  *ret_names:
 * how its folder is called on v1, "cpu,cpuacct".
 */
static char *
own_path(const char *lines, const char *controller, char *ret_names,
    size_t size)
{
	for (const char *p = lines; *p != '\0';) {
		const char *names = strchr(p, ':'), *path, *end;

		if (names == NULL || (path = strchr(++names, ':')) == NULL)
			return NULL;
		end = path + 1 + strcspn(path + 1, "\n");
		snprintf(ret_names, size, "%.*s", (int)(path - names), names);
		if (*controller == '\0' ? *ret_names == '\0' :
		    has_word(ret_names, controller))
			return xstrndup(path + 1, (size_t)(end - path - 1));
		p = *end == '\n' ? end + 1 : end;
	}
	return NULL;
}

/* ---- version 2 ---- */

/* No process may be in a group whose children have limits: we move into a
   child first (cgroup-v2.rst, "No Internal Process Constraint"). */
static void
setup_v2(const char *lines)
{
	_cleanup_free_ char *base = NULL, *own = NULL, *path = NULL;
	char text[1024], names[64], *slash;
	int r;

	path = own_path(lines, "", names, sizeof(names));
	if (path == NULL) {
		missing("we are in no control group");
		return;
	}
	base = xasprintf("%s%s", all.paths.mount,
	    strcmp(path, "/") == 0 ? "" : path);
	/* DelegateSubgroup=operator, or a start by somebody who was there. */
	slash = strrchr(base, '/');
	if (slash != NULL && strcmp(slash, "/operator") == 0)
		*slash = '\0';
	if (!all.paths.delegated(base)) {
		missing("not delegated (Delegate=yes in the unit does it)");
		return;
	}
	own = xasprintf("%s/operator", base);
	r = all.paths.make(own);
	if (r < 0 && r != -EEXIST) {
		missing("%s: %s", own, strerror(-r));
		return;
	}
	r = write_file(own, "cgroup.procs", "0");
	if (r < 0) {
		missing("%s/cgroup.procs: %s", own, strerror(-r));
		return;
	}
	if (read_file(base, "cgroup.controllers", text, sizeof(text)) < 0)
		text[0] = '\0';
	for (size_t i = 0; i < CGROUP_PLACES; i++) {
		char enable[16];

		snprintf(enable, sizeof(enable), "+%s", controllers[i]);
		r = has_word(text, controllers[i]) ? write_file(base,
		    "cgroup.subtree_control", enable) : -ENOENT;
		all.has[i] = r == 0;
		if (r < 0 && i == MEMORY) {
			missing("the memory controller is not to be had (%s)",
			    strerror(-r));
			return;
		}
	}
	all.bases[0] = xstrdup(base);
	all.version = 2;
}

/* ---- version 1 ---- */

static void
setup_v1(const char *lines)
{
	_cleanup_free_ char *unit = NULL, *base = NULL, *unified = NULL;
	char names[64];

	unit = own_path(lines, "name=systemd", names, sizeof(names));
	if (unit == NULL) {
		missing("this is no machine with systemd");
		return;
	}
	/* Hybrid: systemd keeps its attributes in the empty v2 hierarchy. */
	base = xasprintf("%s/systemd%s", all.paths.mount, unit);
	unified = xasprintf("%s/unified%s", all.paths.mount, unit);
	if (!all.paths.delegated(base) && !all.paths.delegated(unified)) {
		missing("not delegated (Delegate=yes in the unit does it)");
		return;
	}
	for (size_t i = 0; i < CGROUP_PLACES; i++) {
		_cleanup_free_ char *path = own_path(lines, controllers[i],
		    names, sizeof(names));

		/* Elsewhere than the unit: that one is not delegated. */
		if (path == NULL || strcmp(path, unit) != 0)
			continue;
		all.bases[i] = xasprintf("%s/%s%s", all.paths.mount, names,
		    path);
		all.has[i] = access(all.bases[i], W_OK) == 0;
	}
	if (!all.has[MEMORY]) {
		missing("cgroup v1, where systemd delegates controllers to "
		    "root only");
		return;
	}
	all.version = 1;
}

void
cgroups_setup(const struct cgroup_paths *paths)
{
	_cleanup_free_ char *probe = NULL;
	char lines[4096];

	if (all.done)
		return;
	all.done = true;
	list_init(&all.leftovers);
	all.paths = (struct cgroup_paths){ "/sys/fs/cgroup",
		"/proc/self/cgroup", delegated_by_attribute, make_dir };
	if (paths != NULL && paths->mount != NULL)
		all.paths = *paths;
	probe = xasprintf("%s/cgroup.controllers", all.paths.mount);
	if (read_path(all.paths.self, lines, sizeof(lines)) < 0)
		missing("no control groups on this machine");
	else if (access(probe, F_OK) == 0)
		setup_v2(lines);
	else
		setup_v1(lines);
	if (all.version != 0)
		log_info(LOG_EVENT(EVENT_CGROUPS), "workers get control groups "
		    "of their own (cgroup v%d: memory%s%s)", all.version,
		    all.has[PIDS] ? ", tasks" : "", all.has[CPU] ? ", CPU" :
		    "");
	else
		log_info(LOG_EVENT(EVENT_CGROUPS),
		    "no control groups for workers: %s", all.missing);
}

const char *
cgroups_kind(void)
{
	return all.version == 2 ? "v2" : all.version == 1 ? "v1" : "none";
}

const char *
cgroups_missing(void)
{
	return all.version != 0 ? NULL : all.done ? all.missing :
	    "not asked for";
}

bool
cgroups_limit_tasks(void)
{
	return all.version != 0 && all.has[PIDS];
}

bool
cgroups_limit_cpu(void)
{
	return all.version != 0 && all.has[CPU];
}

/* ---- one worker's ---- */

/* True when it is gone. */
static bool
remove_dirs(struct cgroup *g)
{
	bool gone = true;

	for (size_t i = 0; i < CGROUP_PLACES; i++) {
		if (g->dirs[i] == NULL)
			continue;
		/* Whoever left the worker's process group. */
		if (all.version == 2)
			(void)write_file(g->dirs[i], "cgroup.kill", "1");
		if (rmdir(g->dirs[i]) < 0 && errno != ENOENT)
			gone = false;
	}
	return gone;
}

static void
forget(struct cgroup *g)
{
	list_remove(&g->link);
	for (size_t i = 0; i < CGROUP_PLACES; i++)
		free(g->dirs[i]);
	free(g);
}

static void
sweep(void)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &all.leftovers) {
		struct cgroup *g = list_entry(l, struct cgroup, link);

		if (remove_dirs(g))
			forget(g);
	}
}

void
cgroups_done(void)
{
	struct list *l;

	if (!all.done)
		return;
	while ((l = list_first(&all.leftovers)) != NULL)
		forget(list_entry(l, struct cgroup, link));
	missing("%s", "");
	all.serial = 0;
	all.done = false;
}

static int
set_limits(const struct cgroup *g, const struct cgroup_limits *l,
    const char **ret_what)
{
	bool v2 = all.version == 2;
	const char *memory = g->dirs[v2 ? 0 : MEMORY];
	const char *pids = g->dirs[v2 ? 0 : PIDS];
	const char *cpu = g->dirs[v2 ? 0 : CPU];
	uint64_t quota = (uint64_t)l->cpu_percent * CPU_PERIOD_US / 100;
	char text[64];
	int r = 0;

	*ret_what = "MemoryMax=";
	/* All of a worker goes at once: half of one answers nothing. */
	if (v2)
		(void)write_file(memory, "memory.oom.group", "1");
	if (l->memory_max_bytes != 0)
		r = write_number(memory, v2 ? "memory.max" :
		    "memory.limit_in_bytes", l->memory_max_bytes);
	if (r == 0 && l->tasks_max != 0 && all.has[PIDS]) {
		*ret_what = "TasksMax=";
		r = write_number(pids, "pids.max", l->tasks_max);
	}
	if (r == 0 && l->cpu_percent != 0 && all.has[CPU]) {
		*ret_what = "CPUQuota=";
		snprintf(text, sizeof(text), "%llu %u",
		    (unsigned long long)quota, CPU_PERIOD_US);
		r = v2 ? write_file(cpu, "cpu.max", text) :
		    write_number(cpu, "cpu.cfs_quota_us", quota);
	}
	return r;
}

struct cgroup *
cgroup_new(const char *pool, const struct cgroup_limits *limits,
    struct error *err)
{
	_cleanup_free_ char *name = NULL;
	const char *what;
	struct cgroup *g;
	int r = 0;

	if (all.version == 0)
		return NULL;
	sweep();
	name = xasprintf("worker-%.64s-%llu", pool,
	    (unsigned long long)++all.serial);
	for (char *p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("-_.", *p) == NULL)
			*p = '_';
	g = new0(struct cgroup);
	list_init(&g->link);
	for (size_t i = 0; i < CGROUP_PLACES && r == 0; i++) {
		char *dir;

		if (all.bases[i] == NULL || !all.has[i])
			continue;
		dir = xasprintf("%s/%s", all.bases[i], name);
		r = all.paths.make(dir);
		if (r == 0 || r == -EEXIST) {
			r = 0;
			g->dirs[i] = dir;
		} else {
			error_set_errno(err, r, "control group %.100s", dir);
			free(dir);
		}
	}
	if (r == 0 && (r = set_limits(g, limits, &what)) < 0)
		error_set_errno(err, r, "%s in control group %s", what, name);
	if (r < 0) {
		cgroup_free(g);
		return NULL;
	}
	return g;
}

void
cgroup_free(struct cgroup *g)
{
	if (g == NULL)
		return;
	if (remove_dirs(g))
		forget(g);
	else
		list_push_back(&all.leftovers, &g->link);
}

bool
cgroup_ran_out(struct cgroup *g)
{
	char text[512];
	uint64_t kills;

	if (g == NULL || g->dirs[MEMORY] == NULL || read_file(g->dirs[MEMORY],
	    all.version == 2 ? "memory.events" : "memory.oom_control", text,
	    sizeof(text)) < 0)
		return false;
	kills = value_of(text, "oom_kill");
	if (kills <= g->oom_kills)
		return false;
	g->oom_kills = kills;
	return true;
}

uint64_t
cgroup_memory_bytes(const struct cgroup *g)
{
	char text[32];

	if (g == NULL || g->dirs[MEMORY] == NULL || read_file(g->dirs[MEMORY],
	    all.version == 2 ? "memory.current" : "memory.usage_in_bytes",
	    text, sizeof(text)) < 0)
		return 0;
	return strtoull(text, NULL, 10);
}
