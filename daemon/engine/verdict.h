/*
 * verdict.h - what became of a message, and what its queue shall do with it.
 */
#ifndef BOT_ENGINE_VERDICT_H
#define BOT_ENGINE_VERDICT_H

#include "base/slice.h"

/* The field's error types; a handler may use its own words too. */
#define ERROR_TYPE_TIMEOUT		"timeout"
#define ERROR_TYPE_EXTERNAL_API		"external_api"
#define ERROR_TYPE_DATABASE		"database"
#define ERROR_TYPE_RATE_LIMITED		"rate_limited"
#define ERROR_TYPE_INVALID_FORMAT	"invalid_format"
#define ERROR_TYPE_CRASH		"crash"
#define ERROR_TYPE_OUT_OF_MEMORY	"out_of_memory"
#define ERROR_TYPE_INTERNAL		"internal"

#define ERROR_TYPE_MAX		64	/* [A-Za-z0-9_.-], longer is cut */
#define VERDICT_DETAIL_MAX	((size_t)4096)	/* longer is cut */
#define VERDICT_DELAY_DEFAULT	UINT64_MAX

enum verdict_kind {
	VERDICT_NONE = 0,
	VERDICT_DONE,
	VERDICT_RETRY,
	VERDICT_DEAD,
};

struct verdict {
	enum verdict_kind kind;
	uint64_t delay_us;	/* RETRY: VERDICT_DELAY_DEFAULT is Backoff= */
	struct slice error_type;	/* empty for DONE */
	struct slice detail;
	bool killed_worker;	/* counts towards MaxCrashes= */
};

enum settlement_kind {
	SETTLE_NONE = 0,
	SETTLE_ACK,		/* done: the broker forgets it */
	SETTLE_RETRY,		/* come back after delay_us, as attempt */
	SETTLE_BURY,		/* into the dead letters */
	SETTLE_RELEASE,		/* give it back at once; nothing happened */
};

struct settlement {
	enum settlement_kind kind;
	uint64_t delay_us;	/* RETRY */
	unsigned attempt;	/* RETRY, RELEASE: the number it comes back with;
				   BURY: how many were made */
	unsigned crashes;	/* to be kept with it */
	struct slice error_type;	/* RETRY, BURY: why */
	struct slice detail;
};

#endif
