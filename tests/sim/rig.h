/*
 * rig.h - the world of one simulated test: loop, clock, configuration, engine.
 *
 * Nothing sleeps: time stands until rig_advance_ms() moves it, from timer to
 * timer.  rig_free() ends the engine in order and fails the test when a
 * message, a timer, a task, a descriptor, or a line of warning level that
 * nobody announced is left over.
 */
#ifndef BOT_TESTS_SIM_RIG_H
#define BOT_TESTS_SIM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/engine.h"
#include "sim/sim_pool.h"
#include "sim/sim_queue.h"

#define RIG_EXPECTED_MAX	16

struct rig {
	struct loop *loop;
	struct config *config;
	struct engine *engine;
	struct guards *guards;
	uint64_t seed;
	size_t messages_before;
	unsigned fds_before;
	bool stopped;			/* on_stopped came */
	struct {
		const char *part;
		unsigned seen;
		bool may;		/* need not be seen */
	} expected[RIG_EXPECTED_MAX];
	unsigned nexpected;
	char unexpected[512];		/* the first one */
};

/*
 * From configuration text; [Operator] may be left out. Not started, so that
 * the test can fill its brokers. The seed is printed when the test fails.
 */
struct rig *rig_new(const char *config_text);
struct rig *rig_new_seeded(const char *config_text, uint64_t seed);
void	rig_start(struct rig *);		/* and turns until idle */
void	rig_free(struct rig *);

/* A warning or error whose text has this part must come; may come. */
void	rig_expect(struct rig *, const char *part);
void	rig_allow(struct rig *, const char *part);
unsigned rig_seen(const struct rig *, const char *part);

/* Turns at the present time until nothing runs any more. */
void	rig_run_idle(struct rig *);
/* Moves time, stopping at each timer that falls due on the way. */
void	rig_advance_ms(struct rig *, uint64_t ms);
void	rig_advance_us(struct rig *, uint64_t us);
/* Advances to the next timer, at most max_ms; returns the us it took. */
uint64_t rig_step(struct rig *, uint64_t max_us);
/* Drains and advances until the engine has stopped; the us that it took. */
uint64_t rig_drain(struct rig *);
/* Applies a new configuration; how many sections changed. */
unsigned rig_reload(struct rig *, const char *config_text);
/* Problems of that text; the tree is freed. First text to ret, if any. */
size_t	rig_problems(const char *config_text, char *ret, size_t room);

struct queue *rig_queue(struct rig *, const char *name);
struct sim_broker *rig_broker(struct rig *, const char *name);

#endif
