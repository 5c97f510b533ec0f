/*
 * worker_rig.h - a pool on a real loop, with the test in the engine's place.
 */
#ifndef TESTS_WORKER_RIG_H
#define TESTS_WORKER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/queue.h"
#include "worker/worker.h"

struct outcome {
	char name[32];
	bool returned;
	enum verdict_kind kind;
	uint64_t delay_us, took_us;
	char type[ERROR_TYPE_MAX];
	char *detail;
	bool killed_worker;
};

#define OUTCOMES_MAX	400000

struct rig {
	struct loop *loop;
	struct config *config;
	struct pool pool;
	struct queue queue;
	struct chunk *chunk;
	struct list pending;		/* not submitted yet */
	unsigned npending;
	bool keep_outcomes, resubmit;
	struct outcome *outcome;
	unsigned n, returned;		/* outcomes; of which returned */
	unsigned done;
	unsigned ups, downs, touches, drained;
	struct error error;		/* of the last pool_down */
	unsigned fds;			/* when it began */
	unsigned max_running, running;
	uint64_t last_touch_us;
	/* Lines of the log. */
	char *log;
	size_t log_n;
	unsigned warnings;
	unsigned allowed_warnings;
};

/* text: what stands in [Pool test]; %% and formats as printf. */
struct rig *rig_new(const char *fmt, ...) _printf_(1, 2);
/* Drains, frees, and fails the test when anything is left over. */
void	rig_free(struct rig *);
void	rig_reload(struct rig *, const char *fmt, ...) _printf_(2, 3);
struct config *rig_config(const char *text);
/* A message with that body, named m1, m2, ... */
struct message *rig_send(struct rig *, const char *body);
void	rig_turn(struct rig *);
bool	rig_said(const struct rig *, const char *text);
const struct outcome *rig_outcome(const struct rig *, const char *name);
const char *odd_worker(void);		/* path of workers/odd_worker.py */
const char *source_path(const char *relative);
const char *build_path(const char *relative);
bool	have(const char *program);
bool	process_exists(pid_t);
char	*slurp(const char *path);	/* "" when it is not there */

/* Turns the loop until it holds; fails after 60 s. */
#define UNTIL(r, condition) \
	do { \
		uint64_t until_ = clock_monotonic_us() + 60 * USEC_PER_SEC; \
		while (!(condition)) { \
			if (clock_monotonic_us() > until_) \
				fail_msg("never: %s; log:\n%s", #condition, \
				    (r)->log != NULL ? (r)->log : ""); \
			rig_turn(r); \
		} \
	} while (0)

#endif
