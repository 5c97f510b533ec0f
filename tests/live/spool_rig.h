/*
 * spool_rig.h - the spool on a real directory, with an engine that is only
 * the rig's: it keeps what is delivered until the test settles it.
 */
#ifndef TESTS_SPOOL_RIG_H
#define TESTS_SPOOL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "queue/spool.h"
#include "queue/spool_impl.h"

#define DEADLINE_US	(60 * USEC_PER_SEC)
#define HELD_MAX	30000

/* All that init asks of the configuration. */
struct config_section {
	const char *path, *dead_letter;
};

struct config {
	unsigned problems;
};

struct rig {
	struct queue q;			/* first: upcalls get it back */
	struct loop *loop;
	const struct queue_ops *ops;
	char path[64];
	struct message *held[HELD_MAX];
	unsigned nheld, delivered, malformed, settled, settle_errors;
	unsigned ups, downs, problems;
	bool stopped, samples;
	struct backlog backlog;
	struct error down, settle_error;
	char why[256];			/* of the last malformed one */
	void (*on_deliver)(struct rig *, struct message *);
};

/* Turns until the condition holds; fails the test at the deadline. */
#define wait_for(r, condition) \
	do { \
		uint64_t give_up_ = clock_monotonic_us() + DEADLINE_US; \
		while (!(condition)) { \
			if (clock_monotonic_us() > give_up_) \
				fail_msg("waited in vain for: %s", #condition); \
			(void)loop_turn((r)->loop, 20 * USEC_PER_MSEC); \
		} \
	} while (0)

struct walking {
	struct dead_walk walk;
	struct dead_item item;		/* copied; slices live until next */
	bool answered, ended, acted;
	struct error err;
};

struct enqueueing {
	struct enqueue_job job;
	bool done;
	char id[256];
	struct error err;
};

void	remove_tree(const char *path);
void	rig_open(struct rig *r, const char *path, const char *dead_letter);
struct rig *rig_new(void **state);
void	run_idle(struct rig *r);
void	rig_start(struct rig *r);
void	credit(struct rig *r, unsigned n);
void	settle(struct rig *r, struct message *m, enum settlement_kind kind,
	    uint64_t delay_us);
void	rig_stop(struct rig *r);
void	rig_done(struct rig *r);
void	rig_again(struct rig *r);
struct spool *spool(struct rig *r);
const struct backlog *probe(struct rig *r);
const char *at(struct rig *r, const char *name);
void	write_at(const char *path, const char *body);
void	put(struct rig *r, const char *name, const char *body);
unsigned count_in(struct rig *r, const char *dir);
bool	is_there(struct rig *r, const char *name);
json_t *record_of(struct rig *r, const char *name);
bool	attribute_is(const struct message *m, const char *name,
	    const char *value);
struct message *take_one(struct rig *r);
void	settle_and_wait(struct rig *r, struct message *m,
	    enum settlement_kind kind, uint64_t delay_us);
void	walk_open(struct rig *r, struct walking *w);
bool	walk_next(struct rig *r, struct walking *w);
void	walk_act(struct rig *r, struct walking *w, enum dead_action action);
void	bury_some(struct rig *r, const char *const *names, size_t n);
void	enqueue(struct rig *r, struct enqueueing *e, const char *body,
	    const struct attribute *attributes, size_t n);
void	acknowledge(struct rig *r, struct message *m);
void	make_files(struct rig *r, unsigned from, unsigned n);
/* No log lines. */
void	rig_quiet(void);

#endif
