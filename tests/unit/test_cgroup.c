/*
 * Control groups of workers, on a folder that looks like one of the kernel's.
 */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "worker/cgroup.h"

#define PATH_BYTES	512

static char top[64];
static bool is_delegated;
static const char *readonly;	/* a file that make_files() makes unwritable */

static const char *
at(const char *name)
{
	static char out[4][PATH_BYTES];
	static unsigned turn;
	char *p = out[turn++ % 4];

	snprintf(p, PATH_BYTES, "%s/%s", top, name);
	return p;
}

static void
put(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static const char *
get(const char *name)
{
	static char text[256];
	FILE *f = fopen(at(name), "r");

	if (f == NULL)
		return "(not there)";
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

static bool
there(const char *name)
{
	return access(at(name), F_OK) == 0;
}

static void
folder(const char *name)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s", at(name));
	for (char *p = path + strlen(top) + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(path, 0755);
		*p = '/';
	}
	assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
}

/* The kernel makes the files of a group with its folder. */
static int
make_files(const char *dir)
{
	static const char *const names[] = { "cgroup.procs", "cgroup.kill",
		"memory.max", "memory.oom.group", "memory.events",
		"memory.current", "pids.max", "cpu.max", "cpu.cfs_quota_us",
		"memory.limit_in_bytes", "memory.oom_control" };
	char path[PATH_BYTES];

	if (mkdir(dir, 0755) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd;

		if (readonly != NULL && strcmp(readonly, names[i]) == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		fd = open(path, O_WRONLY | O_CREAT, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	return 0;
}

static bool
fake_delegated(const char *dir)
{
	/* Asked of the unit's own group and of no other. */
	return is_delegated && strstr(dir, "/bot.service") != NULL &&
	    strstr(dir, "/operator") == NULL;
}

static void
begin(const char *self)
{
	static char own[PATH_BYTES];

	put("self", self);
	snprintf(own, sizeof(own), "%s", at("self"));
	cgroups_setup(&(struct cgroup_paths){ top, own, fake_delegated,
	    make_files });
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/bot-cgroup-XXXXXX");
	assert_non_null(mkdtemp(top));
	is_delegated = true;
	readonly = NULL;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	cgroups_done();
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define UNIT	"system.slice/bot.service"

static void
unit_v2(const char *controllers)
{
	put("cgroup.controllers", "cpu memory pids io\n");
	folder(UNIT);
	put(UNIT "/cgroup.controllers", controllers);
	put(UNIT "/cgroup.subtree_control", "");
}

/* ---- version 2 ---- */

static void
test_v2_worker(void **state)
{
	const struct cgroup_limits limits = { 64 * MIB, 20, 150 };
	struct error err = ERROR_INIT;
	struct cgroup *g, *other;

	(void)state;
	unit_v2("cpuset cpu io memory pids\n");
	begin("0::/" UNIT "\n");
	assert_null(cgroups_missing());
	assert_string_equal(cgroups_kind(), "v2");
	assert_true(cgroups_limit_tasks() && cgroups_limit_cpu());
	/* First out of the unit's own group, then its children get limits. */
	assert_string_equal(get(UNIT "/operator/cgroup.procs"), "0");
	/* A plain file keeps the last word, in the length of the longest. */
	assert_string_equal(get(UNIT "/cgroup.subtree_control"), "+cpusry");
	g = cgroup_new("m/a il", &limits, &err);
	assert_non_null(g);
	assert_false(error_is_set(&err));
	assert_string_equal(strrchr(g->dirs[0], '/'), "/worker-m_a_il-1");
	assert_null(g->dirs[1]);
	assert_string_equal(get(UNIT "/worker-m_a_il-1/memory.max"),
	    "67108864");
	assert_string_equal(get(UNIT "/worker-m_a_il-1/memory.oom.group"),
	    "1");
	assert_string_equal(get(UNIT "/worker-m_a_il-1/pids.max"), "20");
	assert_string_equal(get(UNIT "/worker-m_a_il-1/cpu.max"),
	    "150000 100000");
	/* No limits: nothing is written. */
	other = cgroup_new("mail", &(struct cgroup_limits){ 0 }, &err);
	assert_string_equal(get(UNIT "/worker-mail-2/memory.max"), "");
	assert_string_equal(get(UNIT "/worker-mail-2/pids.max"), "");
	cgroup_free(other);
	cgroup_free(g);
}

static void
test_v2_out_of_memory_is_seen_once(void **state)
{
	struct error err = ERROR_INIT;
	struct cgroup *g;

	(void)state;
	unit_v2("memory\n");
	begin("0::/" UNIT "\n");
	assert_false(cgroups_limit_tasks() || cgroups_limit_cpu());
	g = cgroup_new("p", &(struct cgroup_limits){ MIB, 5, 50 }, &err);
	assert_non_null(g);	/* what is not delegated has no effect */
	assert_string_equal(get(UNIT "/worker-p-1/pids.max"), "");
	assert_false(cgroup_ran_out(g));
	put(UNIT "/worker-p-1/memory.events",
	    "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n");
	assert_false(cgroup_ran_out(g));
	put(UNIT "/worker-p-1/memory.events", "max 12\noom 1\noom_kill 2\n");
	assert_true(cgroup_ran_out(g));
	assert_false(cgroup_ran_out(g));
	put(UNIT "/worker-p-1/memory.current", "4096\n");
	assert_int_equal(cgroup_memory_bytes(g), 4096);
	assert_false(cgroup_ran_out(NULL));
	assert_int_equal(cgroup_memory_bytes(NULL), 0);
	cgroup_free(g);
}

static void
test_v2_from_inside_the_child(void **state)
{
	(void)state;
	unit_v2("memory pids cpu\n");
	begin("0::/" UNIT "/operator\n");
	assert_null(cgroups_missing());
	assert_false(there(UNIT "/operator/operator"));
}

/* A folder with files in it cannot be removed: like one with processes. */
static void
test_what_cannot_go_yet_goes_later(void **state)
{
	struct error err = ERROR_INIT;
	struct cgroup *g;

	(void)state;
	unit_v2("memory\n");
	begin("0::/" UNIT "\n");
	g = cgroup_new("p", &(struct cgroup_limits){ 0 }, &err);
	cgroup_free(g);
	assert_string_equal(get(UNIT "/worker-p-1/cgroup.kill"), "1");
	assert_true(there(UNIT "/worker-p-1"));
	assert_int_equal(nftw(at(UNIT "/worker-p-1"), remove_one, 16,
	    FTW_DEPTH | FTW_PHYS), 0);
	folder(UNIT "/worker-p-1");
	g = cgroup_new("p", &(struct cgroup_limits){ 0 }, &err);
	assert_false(there(UNIT "/worker-p-1"));
	cgroup_free(g);
}

static void
test_a_limit_that_is_not_taken_is_an_error(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	unit_v2("memory\n");
	begin("0::/" UNIT "\n");
	readonly = "memory.max";
	assert_null(cgroup_new("p", &(struct cgroup_limits){ MIB, 0, 0 },
	    &err));
	assert_true(error_is_set(&err));
	assert_non_null(strstr(err.text, "MemoryMax="));
}

static void
test_what_is_not_ours_is_left_alone(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	is_delegated = false;
	unit_v2("memory\n");
	begin("0::/" UNIT "\n");
	assert_string_equal(cgroups_kind(), "none");
	assert_non_null(strstr(cgroups_missing(), "Delegate=yes"));
	assert_false(there(UNIT "/operator"));
	assert_null(cgroup_new("p", &(struct cgroup_limits){ MIB, 0, 0 },
	    &err));
	assert_false(error_is_set(&err));
	cgroup_free(NULL);
}

static void
test_no_memory_controller(void **state)
{
	(void)state;
	unit_v2("cpu pids\n");
	begin("0::/" UNIT "\n");
	assert_string_equal(cgroups_kind(), "none");
	assert_non_null(strstr(cgroups_missing(), "memory"));
}

static void
test_nonsense(void **state)
{
	static const char *const lines[] = { "", "\n", "0", "0:", "0::",
		"::\n::\n", "4:memory\n" };

	(void)state;
	put("cgroup.controllers", "memory\n");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		begin(lines[i]);
		assert_string_equal(cgroups_kind(), "none");
		assert_non_null(cgroups_missing());
		cgroups_done();
	}
}

/* ---- version 1 ---- */

static void
test_v1_worker(void **state)
{
	const struct cgroup_limits limits = { 64 * MIB, 20, 50 };
	struct error err = ERROR_INIT;
	struct cgroup *g;

	(void)state;
	folder("systemd/" UNIT);
	folder("memory/" UNIT);
	folder("pids/" UNIT);
	folder("cpu,cpuacct/" UNIT);
	begin("5:pids:/" UNIT "\n4:memory:/" UNIT "\n3:cpu,cpuacct:/" UNIT
	    "\n2:cpuset:/\n1:name=systemd:/" UNIT "\n0::/" UNIT "\n");
	assert_string_equal(cgroups_kind(), "v1");
	g = cgroup_new("p", &limits, &err);
	assert_non_null(g);
	assert_string_equal(
	    get("memory/" UNIT "/worker-p-1/memory.limit_in_bytes"),
	    "67108864");
	assert_string_equal(get("pids/" UNIT "/worker-p-1/pids.max"), "20");
	assert_string_equal(
	    get("cpu,cpuacct/" UNIT "/worker-p-1/cpu.cfs_quota_us"), "50000");
	put("memory/" UNIT "/worker-p-1/memory.oom_control",
	    "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
	assert_true(cgroup_ran_out(g));
	cgroup_free(g);
}

static void
test_v1_elsewhere_than_the_unit(void **state)
{
	(void)state;
	folder("systemd/" UNIT);
	folder("memory/other");
	begin("4:memory:/other\n1:name=systemd:/" UNIT "\n");
	assert_string_equal(cgroups_kind(), "none");
	assert_non_null(strstr(cgroups_missing(), "v1"));
}

int
main(void)
{
#define CASE(x)	cmocka_unit_test_setup_teardown(x, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_v2_worker),
		CASE(test_v2_out_of_memory_is_seen_once),
		CASE(test_v2_from_inside_the_child),
		CASE(test_what_cannot_go_yet_goes_later),
		CASE(test_a_limit_that_is_not_taken_is_an_error),
		CASE(test_what_is_not_ours_is_left_alone),
		CASE(test_no_memory_controller),
		CASE(test_nonsense),
		CASE(test_v1_worker),
		CASE(test_v1_elsewhere_than_the_unit),
	};

	cmocka_set_test_filter(getenv("BOT_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
