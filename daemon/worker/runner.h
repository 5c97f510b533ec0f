/*
 * runner.h - inside bot-worker, the program that every worker starts as.
 *
 * It runs with the handler's rights and limits, knows nothing of the operator
 * but the socket on fd 3, and may block.
 */
#ifndef BOT_WORKER_RUNNER_H
#define BOT_WORKER_RUNNER_H

#include "codec/frame.h"

#define RUNNER_FD	3

/* Answers are held back to be written together, at most so much of them... */
#define RUNNER_OUT_BYTES	((size_t)64 * KIB)
/* ...and never over the start of another message after so long. */
#define RUNNER_HOLD_US		((uint64_t)500)

struct channel {
	struct buffer in, out;
	size_t taken;		/* bytes of the frame that was handed out */
	uint64_t held_since_us;	/* of the oldest answer in out */
};

/*
 * The next frame, waiting for it; its slices live until the next call.
 * False at the end of the connection. Exits when it makes no sense.
 */
bool	channel_next(struct channel *, struct frame *ret);
/* Writes all that is held. Exits when nobody reads it any more. */
void	channel_flush(struct channel *);
/* Call before a message is begun. */
void	channel_flush_old(struct channel *);
void	channel_done(struct channel *);

int	run_command(char *const *argv, uint64_t memory_max_bytes);
int	run_module(const char *path);

/* "bot-worker: ..." to stderr, then exit. */
__attribute__((noreturn))
void	runner_fail(int code, const char *fmt, ...) _printf_(2, 3);

#endif
