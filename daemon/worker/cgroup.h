/*
 * cgroup.h - a control group for each worker, where systemd delegates.
 *
 * With Delegate=yes in the unit its control group is ours to divide: we move
 * into a child named "operator", and each worker starts in one of its own,
 * "worker-POOL-N", with the limits of its pool.  The kernel then counts all
 * that the worker and its children use, and says when it killed one of them
 * for want of memory.
 *
 * cgroup v2: memory.max, memory.oom.group, pids.max, cpu.max (cgroup-v2.rst);
 * cgroup v1 (systemd's legacy and hybrid): the same limits in the hierarchies
 * of memory, pids and cpu.  There systemd delegates to root only.
 *
 * That a control group is delegated is told by the extended attribute
 * user.delegate (or trusted.delegate) that systemd puts on it: what belongs to
 * others is never touched, root or not.
 *
 * All of it is a few writes to files that are not on a disk, at the start and
 * the end of a worker.  State of the process, as there is one operator in it.
 */
#ifndef BOT_WORKER_CGROUP_H
#define BOT_WORKER_CGROUP_H

#include "base/error.h"
#include "base/list.h"

struct cgroup_limits {
	uint64_t memory_max_bytes;	/* 0: none */
	uint64_t tasks_max;		/* 0: none */
	unsigned cpu_percent;		/* of one processor; 0: no limit */
};

#define CGROUP_PLACES	3	/* v1: memory, pids, cpu; v2: one */

struct cgroup {
	struct list link;		/* of those that could not go yet */
	char *dirs[CGROUP_PLACES];	/* NULL: not there */
	uint64_t oom_kills;		/* as last seen */
};

/* Where things are; {NULL}: the real ones. For tests. */
struct cgroup_paths {
	const char *mount;		/* /sys/fs/cgroup */
	const char *self;		/* /proc/self/cgroup */
	/* Whether that folder is delegated; NULL: by the attribute. */
	bool (*delegated)(const char *dir);
	/* As mkdir(2): a fake one makes the files too. */
	int (*make)(const char *dir);
};

/* Once, before the first worker. Says in the log how it is. */
void	cgroups_setup(const struct cgroup_paths *);
void	cgroups_done(void);		/* forgets all; for tests */
/* "v2", "v1" or "none". */
const char *cgroups_kind(void);
/* Why there are none: a few words; NULL when there are. */
const char *cgroups_missing(void);
/* Memory always is, where there are any. */
bool	cgroups_limit_tasks(void);
bool	cgroups_limit_cpu(void);

/* NULL when there are none, or when this one could not be made: *err is set
   then.  A limit that the kernel does not take is such a failure; one whose
   controller is not there has no effect. */
struct cgroup *cgroup_new(const char *pool, const struct cgroup_limits *,
	    struct error *err);
/* Ends what is left in it and removes it, now or with a later call. */
void	cgroup_free(struct cgroup *);		/* accepts NULL */
/* True once for each time that the kernel killed for want of memory there. */
bool	cgroup_ran_out(struct cgroup *);
uint64_t cgroup_memory_bytes(const struct cgroup *);	/* 0: not known */

#endif
