/*
 * check_impl.h - what the files of check*.c, and those that show the checks,
 * tell one another.
 *
 *	check.c		when to look, and what results mean
 *	check_set.c	all of them; reload
 *	check_keys.c	[Check NAME]: the keys, and reading them
 *	check_stream.c	TCP=, TLS=
 *	check_redis.c	Redis=
 *	check_http.c	HTTP=
 *	check_command.c	Command=
 */
#ifndef BOT_OBSERVE_CHECK_IMPL_H
#define BOT_OBSERVE_CHECK_IMPL_H

#include "net/stream.h"
#include "observe/check.h"

enum dependency_state {
	DEPENDENCY_PENDING = 1,		/* no result yet */
	DEPENDENCY_UP,
	DEPENDENCY_DOWN,
};

#define CHECK_TARGET_BYTES	160

/* One [Check NAME]. */
struct dependency {
	struct list link;
	struct checks *set;
	struct loop *loop;		/* NULL in checks_verify() */
	struct resolver *resolver;
	char *name;
	char target[CHECK_TARGET_BYTES];	/* to be shown; no secrets */
	const struct check_kind *kind;
	void *impl;			/* the kind's own */

	struct config *config;		/* a reference */
	const struct config_section *section;
	uint64_t interval_us, timeout_us;
	unsigned failures, successes, days_min;
	bool critical;

	enum dependency_state state;
	uint64_t since_us;		/* of the state; monotonic */
	bool expiring;			/* up, but days_left < days_min */
	unsigned bad, good;		/* results in a row */
	struct error error;		/* of the last bad one */
	bool days_known;
	int64_t days_left;		/* of the certificate; negative: over */
	uint64_t latency_us;		/* of the last one; 0: none yet */
	uint64_t looked_us;		/* when it came; monotonic, 0 never */
	uint64_t looks, failed;

	bool busy;
	uint64_t started_us;
	struct timer due, limit;
};

struct checks {
	struct loop *loop;
	struct resolver *resolver;
	struct engine *engine;
	struct list all;		/* in the order of the configuration */
	bool running;
};

/*
 * How to look.  init reads the section (set, loop and resolver may be NULL
 * then: it opens nothing) and writes target; problems go to the
 * configuration.  start looks once: check_passed() or check_failed() follows,
 * from the loop, or it returns -errno with *err and neither does.  cancel ends
 * it at once, silently; it is called after every result as well, and when
 * nothing is going on.  stage says what it waits for.
 */
struct check_kind {
	const char *key;		/* that chooses it: "TCP" */
	void (*init)(struct dependency *, struct config *);
	int (*start)(struct dependency *, struct error *err);
	const char *(*stage)(const struct dependency *);
	void (*cancel)(struct dependency *);
	void (*fini)(struct dependency *);
	unsigned uses;			/* CHECK_USES_*: keys with an effect */
};

#define CHECK_USES_CA		0x1u
#define CHECK_USES_DAYS		0x2u
#define CHECK_USES_STATUS	0x4u
#define CHECK_USES_PASSWORD	0x8u
#define CHECK_USES_NAME		0x10u

extern const struct check_kind check_tcp, check_tls, check_redis, check_http,
    check_command;

void	check_passed(struct dependency *);
void	check_failed(struct dependency *, const struct error *);
/* Of a certificate that ends then (wall clock, seconds since 1970). */
void	check_saw_certificate(struct dependency *, int64_t until_s);

/* ---- check.c, for check_set.c ---- */

void	check_look_init(struct dependency *);
/* In the next turn, unless it is under way or the set was stopped. */
void	check_look_now(struct dependency *);
void	check_look_stop(struct dependency *);
/* After days_left or days_min has changed. */
void	check_judge_expiry(struct dependency *);

/* ---- check_keys.c ---- */

/* NULL and a problem when no kind, or more than one, is chosen. */
const struct check_kind *check_kind_of(struct config *,
	    const struct config_section *);
/* What all kinds have in common; also after a change. */
void	check_read_common(struct dependency *, const struct config_section *);
/* A key that has an address; the target follows from it. */
void	check_read_address(struct dependency *, struct config *,
	    const char *key, uint16_t default_port, struct address *ret);
/* Clients that never resume, so that each look sees the certificate. */
struct tls_params check_tls_params(const struct dependency *);

/* ---- to look at ---- */

const char *dependency_state_name(enum dependency_state);
/* Up, and nothing is about to make it otherwise. */
bool	dependency_ok(const struct dependency *);
/* Somebody has said that it matters: a queue requires it, or Critical=. */
bool	dependency_matters(const struct dependency *);
/* Why it is as it is, in words; may be empty. */
void	dependency_detail(const struct dependency *, char *out, size_t size);
struct dependency *checks_find(const struct checks *, const char *name);

#define checks_foreach(d, c, l) \
	list_foreach((l), &(c)->all) \
		if (((d) = list_entry((l), struct dependency, link)) != NULL)

#endif
