/*
 * internal.h - what the files of worker/ share.
 *
 *	settings.c	the section: keys, command line, environment, user
 *	pool.c		handler_ops; how many workers there are and why
 *	process.c	one worker: its socket, its messages, its life
 *	blame.c		what its messages get when it ends
 *	cgroup.c	its control group, where there is one
 *	output.c	what a worker prints
 *	runner*.c	the program that every worker starts as
 */
#ifndef BOT_WORKER_INTERNAL_H
#define BOT_WORKER_INTERNAL_H

#include "base/log.h"
#include "codec/frame.h"
#include "engine/pool.h"
#include "loop/child.h"
#include "worker/cgroup.h"
#include "worker/worker.h"

/* ---- settings.c ---- */

enum handler_kind {
	HANDLER_NONE = 0,
	HANDLER_EXEC,
	HANDLER_COMMAND,
	HANDLER_MODULE,
};

#define LOG_LEVEL_NONE	((enum log_level)0)	/* LogOutput=none */

struct settings {
	enum handler_kind kind;
	char *runner;		/* the path of bot-worker */
	char **argv;		/* of the runner; NULL-terminated */
	char **envp;		/* all of a worker's environment */
	char *program;		/* for people: the handler's path */
	unsigned min, max;
	uint64_t max_messages;	/* 0: no limit */
	uint64_t memory_max_bytes;	/* 0: no limit */
	struct cgroup_limits limits;	/* that one included */
	unsigned concurrency;	/* cap on READY */
	uint64_t kill_grace_us, idle_timeout_us, start_timeout_us;
	enum log_level output_level;
};

/*
 * Reads the section. Problems go to the tree (init), or, with a NULL tree, to
 * the log (reload). NULL when there was any.
 */
struct settings *settings_read(const struct pool *, struct config *,
	    const struct config_section *);
void	settings_free(struct settings *);	/* accepts NULL */
/*
 * The runner's command line for one worker: it enters the control group (NULL:
 * none) before anything else, whose limit of memory then takes the place of
 * RLIMIT_DATA.
 */
char	**settings_argv(const struct settings *, const struct cgroup *);
void	settings_argv_free(char **);
/* Says what of the limits has no effect here. */
void	settings_warn_limits(const struct pool *, const struct settings *);
/* Workers started with the one are as good as workers of the other. */
bool	settings_same_worker(const struct settings *, const struct settings *);

/* ---- output.c ---- */

#define OUTPUT_LINE_MAX	((size_t)4096)
#define OUTPUT_TAIL_MAX	((size_t)2048)

struct worker;

struct output {
	struct io io;
	struct worker *worker;
	bool is_stderr;
	bool skipping;		/* the rest of a line that was cut */
	char line[OUTPUT_LINE_MAX];
	size_t len;
};

void	output_init(struct output *, struct worker *);
/* Takes the read end. 0 or -errno. */
int	output_start(struct output *, struct worker *, int fd, bool is_stderr);
/* Reads what is there and closes; also when never started. */
void	output_finish(struct output *);
/* Says how many lines were dropped, if any. */
void	output_report_dropped(struct worker *);
void	output_timer_fired(struct timer *);

/* ---- process.c ---- */

enum worker_state {
	WORKER_STARTING = 1,	/* no READY yet */
	WORKER_READY,
	WORKER_LEAVING,		/* gets no more, finishes what it has */
	WORKER_NSTATES,
};

/* Why we end it; decides what its messages get. */
enum worker_fate {
	FATE_NONE = 0,		/* if it ends, it is its own doing */
	FATE_LEAVE,		/* we asked it to leave */
	FATE_START,		/* no READY in time */
	FATE_TIMEOUT,		/* a message was over its time */
	FATE_PROTOCOL,		/* it cannot be understood */
	FATE_KILLED,		/* the drain time is over */
};

struct worker {
	struct list link;	/* of worker_pool.workers */
	struct worker_pool *wp;
	enum worker_state state;
	enum worker_fate fate;
	uint64_t generation;	/* of the settings it runs with */
	enum handler_kind kind;
	struct child child;
	pid_t pid;		/* stays when the child is gone */
	struct io io;		/* the socket */
	int fd;
	bool eof;		/* nothing more comes from it */
	bool no_more;		/* nothing more goes to it: half-close */
	enum { KILL_NONE = 0, KILL_TERM, KILL_KILL } killing;
	struct buffer in, out;
	struct task write_task;
	struct timer timer;	/* the next thing that may be due */
	uint64_t due_us;	/* of starting, leaving, killing */

	struct list messages;	/* message.worker_link, oldest first */
	unsigned inflight;
	unsigned ready;		/* as announced, capped */
	unsigned depth;		/* how far to send ahead when ready is 1 */
	uint64_t head_since_us;	/* when the oldest message began */
	uint64_t timed_out_id;
	uint64_t given, answered;	/* messages */
	uint64_t strange;	/* verdicts for messages that it does not have */
	uint64_t started_us, idle_since_us, busy_since_us;
	long parent_maxrss_kib;	/* ours when it was started */
	struct cgroup *group;	/* NULL: none */
	struct error error;	/* FATE_PROTOCOL: what was wrong */

	struct output out_pipe, err_pipe;
	struct timer output_timer;
	uint64_t output_window_us;
	unsigned output_lines, output_dropped;
	char tail[OUTPUT_TAIL_MAX];
	size_t tail_n;
};

#define WORKERS_MAX		512u
#define WORKER_DEPTH_MAX	256u
#define WORKER_READY_MAX	1024u

/* NULL and *err when it could not even be started. */
struct worker *worker_new(struct worker_pool *, struct error *err);
/* Its process must be gone or is ended and reaped now. */
void	worker_free(struct worker *);
unsigned worker_room(const struct worker *);
void	worker_submit(struct worker *, struct message *);
void	worker_cancel(struct worker *, const struct message *);
/* No more messages; it may finish those that it has. */
void	worker_leave(struct worker *);
/* SIGKILL; its messages come back as never done. */
void	worker_kill(struct worker *);
const char *worker_state_name(const struct worker *);
/* The last lines of stderr, tidied; for error texts. */
struct slice worker_tail(const struct worker *);

/* The oldest of its messages, or NULL. */
struct message *worker_head(const struct worker *);
/* The message is not with it any more. */
void	worker_take_out(struct worker *, struct message *);
struct slice worker_cut_detail(struct slice);

/* ---- blame.c ---- */

/* The worker has ended: answers for the messages that it still has. */
void	worker_settle_rest(struct worker *, const struct child_exit *);

/* ---- pool.c ---- */

struct worker_pool {
	struct pool *pool;
	struct loop *loop;
	struct settings *set;
	uint64_t generation;	/* grows when workers must be replaced */
	struct list workers;
	unsigned min, max, waiting;
	bool started, draining, drained;
	unsigned failures;	/* starts in a row that came to nothing */
	uint64_t start_not_before_us;
	uint64_t cautious_until_us;	/* one message a worker until then */
	uint64_t caution_us;
	struct task task;
	struct timer timer;
	struct buffer scratch;	/* attributes as JSON */
	uint64_t iso_second;	/* cache of the enqueued time as text */
	char iso[40];
};

/* process.c tells the pool. */
void	worker_pool_ready(struct worker_pool *, struct worker *);
void	worker_pool_gone(struct worker_pool *, struct worker *,
	    const struct child_exit *, bool useless);
void	worker_pool_check(struct worker_pool *);	/* at the end of the turn */
/* Nobody can say which message it was: run them one by one for a while. */
void	worker_pool_be_cautious(struct worker_pool *);
struct slice worker_pool_attributes(struct worker_pool *,
	    const struct message *);

#endif
