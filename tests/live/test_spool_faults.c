/*
 * The spool: what breaks, and operators that are killed.
 */
#include "spool_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fault.h"
#include "base/random.h"

/* ---- what breaks ---- */

static void
test_a_second_operator_waits_for_its_turn(void **state)
{
	struct rig *r = rig_new(state), *second = xmalloc(sizeof(*second));
	char text[64];

	rig_start(r);
	rig_open(second, r->path, NULL);
	second->ops->start(&second->q);
	wait_for(second, second->downs > 0);
	assert_int_equal(second->down.class, ERROR_REJECTED);
	assert_string_equal(second->down.code, "locked");
	snprintf(text, sizeof(text), "(pid %ld)", (long)getpid());
	assert_non_null(strstr(second->down.text, text));
	put(r, "x", "x");
	credit(second, 10);
	(void)take_one(r);
	assert_int_equal(second->delivered, 0);
	rig_stop(r);
	wait_for(second, second->ups == 1 && second->delivered == 1);
	rig_stop(second);
	free(second);
	rig_open(r, r->path, NULL);
	rig_start(r);
	rig_done(r);
}

static void
test_a_directory_that_is_removed_is_made_again(void **state)
{
	struct rig *r = rig_new(state);
	struct message *m;

	rig_start(r);
	put(r, "held", "x");
	m = take_one(r);
	assert_int_equal(rmdir(at(r, "new")), 0);
	wait_for(r, r->downs == 1);
	assert_string_equal(r->down.code, "removed");
	wait_for(r, r->ups == 2);
	/* What is held is still held, and its file still where it was. */
	run_idle(r);
	assert_true(is_there(r, "cur/held"));
	settle_and_wait(r, m, SETTLE_ACK, 0);
	put(r, "next", "y");
	(void)take_one(r);
	/* All of it, with a message in our hands. */
	remove_tree(r->path);
	wait_for(r, r->downs >= 2 && r->ups >= 3 && r->q.connected);
	settle(r, r->held[0], SETTLE_RETRY, 0);
	wait_for(r, r->settled == 2);
	assert_int_equal(r->settle_errors, 1);
	/* Moved away as a whole. */
	put(r, "third", "z");
	m = take_one(r);
	assert_true(slice_is(m->name, "third"));
	{
		char away[80];
		unsigned ups = r->ups;

		snprintf(away, sizeof(away), "%s-away", r->path);
		assert_int_equal(rename(r->path, away), 0);
		wait_for(r, r->ups > ups);
		remove_tree(away);
	}
	assert_true(is_there(r, "new"));
	rig_done(r);
}

static void
test_invariant_1_a_full_disk_loses_nothing(void **state)
{
	struct rig *r = rig_new(state);
	struct enqueueing e;
	struct message *m;
	int fd;
	char zeros[4096] = "";

	r->ops->fini(&r->q);
	loop_free(r->loop);
	r->loop = NULL;
	/* In a mount namespace of our own: nothing is left over if we fail. */
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("spool", r->path, "tmpfs", 0, "size=256k") < 0) {
		print_message("skipped: no tmpfs to be had\n");
			remove_tree(r->path);
		free(r);
		skip();
	}
	rig_open(r, r->path, NULL);
	rig_start(r);
	put(r, "a", "one");
	put(r, "b", "two");
	credit(r, 2);
	wait_for(r, r->nheld == 2);
	fd = open(at(r, "filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		continue;
	(void)close(fd);
	enqueue(r, &e, "three", NULL, 0);
	assert_string_equal(e.err.code, "ENOSPC");
	assert_non_null(strstr(e.err.text, "make room"));
	/* No room for a record: not buried, and not lost. */
	settle(r, r->held[0], SETTLE_BURY, 0);
	wait_for(r, r->settled == 1 && r->downs > 0);
	assert_string_equal(r->settle_error.code, "ENOSPC");
	assert_non_null(strstr(r->down.text, r->path));
	/* To be done with it needs no room. */
	settle(r, r->held[0], SETTLE_ACK, 0);
	wait_for(r, r->settled == 2);
	assert_int_equal(r->settle_errors, 1);
	assert_int_equal(unlink(at(r, "filler")), 0);
	wait_for(r, r->ups == 2);
	m = take_one(r);
	assert_true(slice_is(m->body, "one"));
	settle_and_wait(r, m, SETTLE_BURY, 0);

	/* The same with a file system that turns read-only. */
	put(r, "c", "four");
	m = take_one(r);
	assert_int_equal(mount("spool", r->path, "tmpfs",
	    MS_REMOUNT | MS_RDONLY, "size=256k"), 0);
	settle(r, m, SETTLE_ACK, 0);
	wait_for(r, r->settled == 4 && !r->q.connected);
	assert_string_equal(r->settle_error.code, "EROFS");
	assert_int_equal(mount("spool", r->path, "tmpfs", MS_REMOUNT,
	    "size=256k"), 0);
	wait_for(r, r->ups == 3);
	settle_and_wait(r, take_one(r), SETTLE_ACK, 0);

	/* And with dead letters on another file system. */
	rig_stop(r);
	rig_open(r, r->path, "/tmp/spool-test-elsewhere");
	r->ops->start(&r->q);
	wait_for(r, r->downs > 0);
	assert_string_equal(r->down.code, "EXDEV");
	assert_int_equal(r->down.class, ERROR_REJECTED);
	rig_stop(r);
	remove_tree("/tmp/spool-test-elsewhere");
	assert_int_equal(umount2(r->path, MNT_DETACH), 0);
	remove_tree(r->path);
	free(r);
}

/* As another user: root is never refused. */
static void
as_nobody(void)
{
	struct rig *r = xmalloc(sizeof(*r));
	char path[] = "/tmp/spool-test-XXXXXX";

	if (setgid(65534) < 0 || setuid(65534) < 0 || mkdtemp(path) == NULL)
		_exit(1);
	rig_open(r, path, NULL);
	rig_start(r);
	put(r, "closed", "x");
	if (chmod(at(r, "new/closed"), 0) < 0)
		_exit(1);
	credit(r, 10);
	wait_for(r, r->malformed == 1 && r->settled == 1);
	assert_true(is_there(r, "dead/closed.json"));
	assert_int_equal(chmod(at(r, "cur"), 0550), 0);
	put(r, "x", "x");
	wait_for(r, r->downs == 1);
	assert_int_equal(r->down.class, ERROR_AUTH);
	assert_non_null(strstr(r->down.text, "cur"));
	assert_int_equal(chmod(at(r, "cur"), 0750), 0);
	wait_for(r, r->ups == 2 && r->delivered == 1);
	rig_done(r);
}

static void
test_what_may_not_be_read_or_written(void **state _unused_)
{
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("skipped: only root can become somebody else\n");
			skip();
	}
	pid = fork();
	if (pid == 0) {
		as_nobody();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What a file system without RENAME_NOREPLACE leaves us. */
static void
test_without_renameat2(void **state)
{
	struct rig *r = rig_new(state);

	rig_start(r);
	spool(r)->no_renameat2 = true;
	assert_int_equal(mkdir(at(r, "new/zdir"), 0750), 0);
	for (int i = 0; i < 3; i++) {
		put(r, "same", "x");
		(void)take_one(r);
	}
	credit(r, 1);
	wait_for(r, r->malformed == 1 && r->settled == 1);
	assert_int_equal(count_in(r, "cur"), 3);
	settle_and_wait(r, r->held[0], SETTLE_RELEASE, 0);
	assert_int_equal(count_in(r, "new"), 1);
	put(r, "same~", "y");
	settle_and_wait(r, r->held[0], SETTLE_RETRY, 1000);
	settle_and_wait(r, r->held[0], SETTLE_BURY, 0);
	credit(r, 10);
	wait_for(r, r->nheld == 3);
	/* Killed between link and unlink: one message, two names. */
	assert_int_equal(link(at(r, "cur/same~"), at(r, "new/same~")), 0);
	settle_and_wait(r, r->held[0], SETTLE_RELEASE, 0);
	rig_done(r);
}

/* ---- killed ---- */

#ifdef BOT_FAULT_INJECTION

/* By the first letter of the body. */
static void
by_name(struct rig *r, struct message *m)
{
	static const struct {
		char letter;
		enum settlement_kind kind;
	} kinds[] = { { 'a', SETTLE_ACK }, { 'r', SETTLE_RETRY },
		{ 'b', SETTLE_BURY }, { 'g', SETTLE_RELEASE } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (m->body.p[0] == kinds[i].letter)
			settle(r, m, kinds[i].kind, 3600 * USEC_PER_SEC);
}

#define PER_KIND	12

static void
run_until_killed(const char *path, const char *faults)
{
	struct rig *r = xmalloc(sizeof(*r));

	fault_arm(faults);
	rig_open(r, path, NULL);
	r->on_deliver = by_name;
	rig_start(r);
	credit(r, 7);
	for (uint64_t end = clock_monotonic_us() + DEADLINE_US;
	    clock_monotonic_us() < end && r->settled < 40 * PER_KIND;) {
		(void)loop_turn(r->loop, 1000);
		credit(r, 7);
	}
	_exit(0);
}

/* Adds up how often each body lies anywhere. */
static void
tally_dir(struct rig *r, const char *dir, unsigned found[256][PER_KIND])
{
	DIR *d = opendir(at(r, dir));
	struct dirent *e;
	char name[300], body[32] = "";

	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);
		ssize_t got;
		int fd;

		if (e->d_name[0] == '.' ||
		    (n > 5 && strcmp(e->d_name + n - 5, ".json") == 0))
			continue;
		snprintf(name, sizeof(name), "%s/%s", dir, e->d_name);
		fd = open(at(r, name), O_RDONLY | O_CLOEXEC);
		got = read(fd, body, sizeof(body) - 1);
		(void)close(fd);
		assert_true(got > 1);
		body[got] = '\0';
		found[(unsigned char)body[0]][atoi(body + 1)]++;
	}
	(void)closedir(d);
}

static void
kill_once(struct rig *r, const char *faults)
{
	static const char letters[] = "arbg";
	unsigned found[256][PER_KIND] = { 0 };
	char name[32], body[16];
	int status;
	pid_t pid;

	for (const char *l = letters; *l != '\0'; l++)
		for (int i = 0; i < PER_KIND; i++) {
			/* What comes back at once must not be first again. */
			snprintf(name, sizeof(name), "%c%02d%c",
			    *l == 'g' ? 'z' : 'a', i, *l);
			snprintf(body, sizeof(body), "%c%d", *l, i);
			put(r, name, body);
		}
	pid = fork();
	if (pid == 0)
		run_until_killed(r->path, faults);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	rig_open(r, r->path, NULL);
	rig_start(r);
	(void)probe(r);
	assert_int_equal(count_in(r, "cur"), 0);
	/* Every record has its letter. */
	assert_int_equal(count_in(r, "dead"), 2 * r->backlog.dead);
	rig_stop(r);
	tally_dir(r, "new", found);
	tally_dir(r, "delayed", found);
	tally_dir(r, "dead", found);
	for (const char *l = letters; *l != '\0'; l++)
		for (int i = 0; i < PER_KIND; i++) {
			unsigned n = found[(unsigned char)*l][i];

			if (n != 1 && (*l != 'a' || n != 0))
				fail_msg("%s: %c%d is there %u times", faults,
				    *l, i, n);
		}
	remove_tree(r->path);
	rig_open(r, r->path, NULL);
	rig_start(r);
	rig_stop(r);
}

static void
test_invariant_1_killed_at_any_point_each_is_there_once(void **state)
{
	static const char *const points[] = { "spool.take",
		"spool.settle.before", "spool.settle.after",
		"spool.bury.between" };
	struct rig *r = rig_new(state);
	char faults[64];

	rig_start(r);
	rig_stop(r);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++)
		for (unsigned nth = 1; nth <= PER_KIND; nth += 3) {
			snprintf(faults, sizeof(faults), "%s=%u:kill",
			    points[i], nth);
			kill_once(r, faults);
		}
	remove_tree(r->path);
	free(r);
}

static void
run_and_log(const char *path, const char *log)
{
	struct rig *r = xmalloc(sizeof(*r));
	int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	rig_open(r, path, NULL);
	r->ops->start(&r->q);
	for (uint64_t end = clock_monotonic_us() + DEADLINE_US;
	    clock_monotonic_us() < end;) {
		credit(r, 20);
		(void)loop_turn(r->loop, 1000);
		while (r->nheld > 0) {
			struct message *m = r->held[0];
			char line[32];

			/* Half of them fail the first time. */
			if (m->attempt == 1 && (m->body.p[0] & 1) != 0) {
				settle(r, m, SETTLE_RETRY, 1000);
				continue;
			}
			snprintf(line, sizeof(line), "%.*s\n", (int)m->body.n,
			    m->body.p);
			(void)!write(fd, line, strlen(line));
			settle(r, m, SETTLE_ACK, 0);
		}
	}
	_exit(0);
}

static void
test_invariant_1_twenty_random_kills_lose_nothing(void **state)
{
	enum { ROUNDS = 20, EACH = 200 };
	struct rig *r = rig_new(state);
	static bool done[ROUNDS * EACH];
	unsigned missing = 0, i;
	char line[32], log[80];
	FILE *f;

	random_seed(42);
	snprintf(log, sizeof(log), "%s.log", r->path);
	rig_start(r);
	rig_stop(r);
	for (unsigned round = 0; round <= ROUNDS; round++) {
		bool last = round == ROUNDS;
		unsigned pause_us = (unsigned)random_below(30000);
		uint64_t end = clock_monotonic_us() + DEADLINE_US;
		pid_t pid = fork();

		if (pid == 0)
			run_and_log(r->path, log);
		for (i = 0; !last && i < EACH; i++) {
			snprintf(line, sizeof(line), "%u", round * EACH + i);
			put(r, line, line);
		}
		if (!last)
			(void)usleep(pause_us);
		while (last && clock_monotonic_us() < end && count_in(r, "new") +
		    count_in(r, "cur") + count_in(r, "delayed") > 0)
			(void)usleep(2000);
		(void)kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	assert_int_equal(count_in(r, "new") + count_in(r, "cur") +
	    count_in(r, "delayed") + count_in(r, "dead"), 0);
	f = fopen(log, "r");
	assert_non_null(f);
	memset(done, 0, sizeof(done));
	while (fgets(line, sizeof(line), f) != NULL)
		done[atoi(line)] = true;
	(void)fclose(f);
	for (i = 0; i < ROUNDS * EACH; i++)
		missing += !done[i];
	assert_int_equal(missing, 0);
	(void)unlink(log);
	remove_tree(r->path);
	free(r);
}

static void
test_errors_at_the_fault_points_lose_nothing(void **state)
{
	static const char *const specs[] = { "spool.take=1:error",
		"spool.settle.before=1:error", "spool.bury.between=1:error" };
	struct rig *r = rig_new(state);

	rig_start(r);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		unsigned ups = r->ups;
		uint64_t dead = r->backlog.dead;

		put(r, "x", "x");
		fault_arm(specs[i]);
		if (strstr(specs[i], "take") != NULL) {
			credit(r, 1);
		} else {
			settle(r, take_one(r), SETTLE_BURY, 0);
		}
		wait_for(r, r->ups == ups + 1);
		fault_arm(NULL);
		settle_and_wait(r, take_one(r), SETTLE_BURY, 0);
		assert_int_equal(probe(r)->dead, dead + 1);
		assert_int_equal(count_in(r, "dead"), 2 * (dead + 1));
		assert_int_equal(count_in(r, "tmp"), 0);
	}
	rig_done(r);
}

#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_second_operator_waits_for_its_turn),
		cmocka_unit_test(
		    test_a_directory_that_is_removed_is_made_again),
		cmocka_unit_test(test_invariant_1_a_full_disk_loses_nothing),
		cmocka_unit_test(test_what_may_not_be_read_or_written),
		cmocka_unit_test(test_without_renameat2),
#ifdef BOT_FAULT_INJECTION
		cmocka_unit_test(
		    test_invariant_1_killed_at_any_point_each_is_there_once),
		cmocka_unit_test(
		    test_invariant_1_twenty_random_kills_lose_nothing),
		cmocka_unit_test(test_errors_at_the_fault_points_lose_nothing),
#endif
	};

	rig_quiet();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
