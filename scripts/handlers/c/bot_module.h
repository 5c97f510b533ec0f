/*
 * bot_module.h - what a Module= handler of bot-operator implements.
 *
 *	cc -shared -fPIC -o resize.so resize.c
 *
 *	[Pool resize]
 *	Module=/usr/local/lib/resize.so
 *
 * The module is loaded into worker processes; bot_handle() runs one message
 * at a time.  A crash ends that worker process only.
 */
#ifndef BOT_MODULE_H
#define BOT_MODULE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BOT_MODULE_ABI 1

/* Everything in it lives until bot_handle() returns. */
struct bot_message {
	uint32_t abi;			/* BOT_MODULE_ABI or later */
	uint32_t attempt;		/* 1 the first time */
	uint64_t id;			/* the operator's number, for touch */
	uint64_t timeout_ms;		/* 0: no limit */
	const char *queue;
	const char *attributes;		/* a JSON object; not terminated */
	size_t attributes_len;
	const void *body;		/* not terminated */
	size_t body_len;
	/* Asks for so much time from now on. */
	void (*touch)(const struct bot_message *, uint64_t extend_ms);
};

enum bot_kind {
	BOT_DONE = 1,		/* the default */
	BOT_RETRY,
	BOT_DEAD,
};

/* Prepared as DONE; strings must live until the next call of bot_handle(). */
struct bot_result {
	uint32_t abi;
	enum bot_kind kind;
	int64_t delay_ms;		/* RETRY; -1: as Backoff= says */
	const char *error_type;		/* NULL: internal */
	const char *detail;		/* terminated; NULL: none */
};

/*
 * 0: the result counts.  Anything else is a retry of the type internal, unless
 * the result says something worse than done.
 */
int	bot_handle(const struct bot_message *, struct bot_result *);

/* Optional.  Not 0: the worker cannot start (say why on stderr). */
int	bot_init(void);
/* Optional.  Before a worker leaves in peace. */
void	bot_done(void);

#ifdef __cplusplus
}
#endif
#endif
