/*
 * spool_impl.h - what the files of the spool tell one another.
 *
 *	spool.c		the life of it: start, up and down, stop, status
 *	spool_dir.c	the directories: open, lock, move, test, name errors
 *	spool_scan.c	reading directories in slices: recovery, windows, counts
 *	spool_watch.c	inotify, and looking again where it may not be enough
 *	spool_take.c	out of new/ and to the engine
 *	spool_settle.c	back from the engine; retries that come due
 *	spool_enqueue.c	new messages
 *	spool_dead.c	records of dead letters, and the walk over them
 *	spool_envelope.c  attributes in front of a body. Pure.
 *	spool_name.c  spool_window.c
 *
 * Down has two kinds: without descriptors (never opened, locked by another,
 * a directory vanished) and with them (no space, read-only, ...).  Messages
 * that the engine holds stay valid through both: their names are in held, and
 * the recovery of cur/ leaves those alone.
 */
#ifndef BOT_QUEUE_SPOOL_IMPL_H
#define BOT_QUEUE_SPOOL_IMPL_H

#include "base/hash.h"
#include "engine/queue.h"
#include "queue/spool_name.h"
#include "queue/spool_window.h"

/* What one callback may do before it lets others have the loop. */
#define SPOOL_SLICE_US		(2 * USEC_PER_MSEC)
#define SPOOL_SLICE_ENTRIES	1024u
#define SPOOL_SLICE_MESSAGES	128u

enum spool_dir {
	SPOOL_ROOT = 0,
	SPOOL_TMP, SPOOL_CUR, SPOOL_DEAD, SPOOL_DELAYED, SPOOL_NEW,
	SPOOL_NDIRS,
};

enum spool_state {
	SPOOL_IDLE = 0,		/* before start */
	SPOOL_DOWN,
	SPOOL_UP,
	SPOOL_STOPPING,		/* settles what was given, then stopped */
	SPOOL_STOPPED,
};

/* Of a message that the engine holds; lives in the message's chunk. */
struct spool_receipt {
	struct hash_node node;		/* of held; the key is file */
	struct list link;		/* of settling */
	struct message *message;
	const char *file;		/* in cur/ */
	const char *base;
	struct settlement settlement;
};

/* Reads a directory in slices; the buffer lives while it is open. */
struct spool_reader {
	int fd;				/* -1 while closed */
	char *data;
};

/* The size of what one system call brings. */
#define SPOOL_READER_BYTES	((size_t)8 * KIB)

/* type: DT_*. */
typedef void spool_entry_fn(void *arg, const char *name, unsigned char type);

/* What a directory was like when it was last read. */
struct spool_seen {
	uint64_t changed_ns;	/* its mtime; 0: cannot be compared */
	uint64_t at_us;		/* monotonic */
	uint64_t took_us;
	bool known;		/* the figures are there */
};

struct spool {
	struct queue *queue;
	struct loop *loop;
	char *path;
	char *dead_path;		/* DeadLetter=, or NULL */
	enum spool_state state;
	struct timer retry_timer;
	unsigned failures;
	struct error error;

	int fd[SPOOL_NDIRS];		/* all open, or all -1 */
	int lock_fd;
	bool no_renameat2;		/* the file system cannot RENAME_NOREPLACE */

	struct io watch;
	int wd[SPOOL_NDIRS];		/* SPOOL_ROOT and SPOOL_NEW */
	bool polling;			/* no inotify to be had */
	unsigned creating;		/* files made in new/ and not closed yet */
	struct timer rescan_timer;

	struct task scan_task;
	unsigned wanted;		/* bits of enum spool_dir */
	enum spool_dir scanning;	/* SPOOL_ROOT: none */
	struct spool_reader reader;
	struct spool_window scanned;	/* becomes waiting or delayed */
	uint64_t scan_count;
	unsigned scan_moved;
	uint64_t scan_started_us, scan_changed_ns;
	struct spool_seen seen[SPOOL_NDIRS];

	struct spool_window waiting, delayed;
	uint64_t dead;
	struct timer delayed_timer;
	struct task take_task;
	struct chunk *chunk;		/* what the next messages lie in */
	unsigned credit;
	unsigned taken;			/* since new/ was last read */
	uint64_t skipped_log_us;	/* monotonic */

	struct hash held;
	struct list settling;
	struct task settle_task;
	struct list enqueues;
	struct task enqueue_task;
	uint64_t enqueue_last_us;
	struct list walks;
	struct task stop_task;
	bool probing;

	/* Tests make these smaller. */
	size_t window_max;
	uint64_t rescan_us;
};

/* ---- spool.c ---- */

/* Something that everything stands on does not work; tries again later. */
void	spool_fail(struct spool *, const struct error *);
/* The directories are not what they were: lets go of them, opens again. */
void	spool_lost(struct spool *, const char *what);
void	spool_probe_done(struct spool *);	/* answers when all is known */
void	spool_check_stopped(struct spool *);

static inline struct spool *
spool_of(const struct queue *q)
{
	return q->impl;
}

static inline bool
spool_running(const struct spool *s)
{
	return s->state == SPOOL_UP;
}

/* ---- spool_dir.c ---- */

/* 0, or -errno and *err. All open and locked, or nothing. */
int	spool_dirs_open(struct spool *, struct error *err);
void	spool_dirs_close(struct spool *);
/* Can everything be done that will have to be? */
int	spool_dirs_test(struct spool *, struct error *err);
const char *spool_dir_name(enum spool_dir);
/* Fills *err from an errno: WHAT failed, where, and what to do about it. */
void	spool_error(struct spool *, struct error *err, int r,
	    enum spool_dir, const char *what);
/* True when it is about the file system and not about one file. */
bool	spool_is_general(int r);
/*
 * Renames; what is there already is never replaced: *to gets another base
 * instead.  ret_file is the new file's name; NULL is accepted.
 */
int	spool_move(struct spool *, enum spool_dir from, const char *file,
	    enum spool_dir to_dir, struct spool_name *to,
	    char ret_file[SPOOL_NAME_BYTES]);
/* The same with a fixed name: -EEXIST. */
int	spool_rename(struct spool *, enum spool_dir from, const char *file,
	    enum spool_dir to_dir, const char *to);
bool	spool_exists(struct spool *, enum spool_dir, const char *file);
/* Makes a file in tmp/ with these bytes. 0 or -errno; nothing left then. */
int	spool_write_tmp(struct spool *, const char *file, struct slice head,
	    struct slice body);

/* ---- spool_scan.c ---- */

#define SPOOL_BIT(dir)	(1u << (dir))

void	spool_want(struct spool *, unsigned dirs);
void	spool_scan_init(struct spool *);
void	spool_scan_stop(struct spool *);	/* nothing is known any more */
/* A name appeared in new/ or delayed/, or left it by our doing. */
void	spool_arrived(struct spool *, enum spool_dir, const char *file,
	    bool sure);
void	spool_left(struct spool *, enum spool_dir, const char *file);
/* Reads again what changed behind our back and was not read lately. */
void	spool_look_again(struct spool *, bool soon);

int	spool_reader_open(struct spool_reader *, int dirfd);
void	spool_reader_close(struct spool_reader *);
/* 1: there is more, 0: the end, -errno. Names with a '.' in front are not
   shown. */
int	spool_reader_slice(struct spool_reader *, spool_entry_fn *, void *arg);

/* ---- spool_watch.c ---- */

void	spool_watch_init(struct spool *);
int	spool_watch_start(struct spool *, struct error *err);
void	spool_watch_stop(struct spool *);

/* ---- spool_take.c ---- */

void	spool_take_init(struct spool *);
void	spool_take_stop(struct spool *);
void	spool_credit(struct queue *, unsigned n);
/*
 * Reads the body of an open file of that size into the chunk, and makes the
 * attributes.  0, or -EINVAL and why it is no message, or -errno.
 */
struct spool_content {
	struct slice body;
	struct attribute *attributes;
	size_t nattributes;
	uint64_t modified_us;
};
struct stat;
int	spool_read_content(struct chunk *, int fd, const struct stat *,
	    const char *base, size_t max_bytes, struct spool_content *ret,
	    struct error *err);

/* ---- spool_settle.c ---- */

void	spool_settle_init(struct spool *);
void	spool_settle_stop(struct spool *);
void	spool_settle(struct queue *, struct message *,
	    const struct settlement *);
void	spool_delayed_arm(struct spool *);

/* ---- spool_enqueue.c ---- */

void	spool_enqueue_init(struct spool *);
void	spool_enqueue(struct queue *, struct enqueue_job *);

/* ---- spool_dead.c ---- */

struct spool_death {
	struct spool_name name;
	struct slice error_type, detail;
	unsigned attempts, crashes;
};

/* From cur/ to dead/, the record first. 0 or -errno and where it failed. */
int	spool_bury(struct spool *, const char *file, struct spool_death *,
	    enum spool_dir *ret_where);
/* A record whose letter is gone: removes it when it is one of ours. */
void	spool_drop_orphan(struct spool *, const char *record);
void	spool_dead_open(struct queue *, struct dead_walk *);
void	spool_dead_next(struct queue *, struct dead_walk *);
void	spool_dead_act(struct queue *, struct dead_walk *, enum dead_action);
void	spool_dead_close(struct queue *, struct dead_walk *);
/* Answers what is open with an error; the walks stay their owners'. */
void	spool_walks_stop(struct spool *);
void	spool_walks_free(struct spool *);

/* ---- spool_envelope.c ---- */

#define SPOOL_ENVELOPE_MAX	((size_t)64 * KIB)
#define SPOOL_ATTRIBUTES_MAX	256u

/*
 * Splits text: attributes go to out (room for SPOOL_ATTRIBUTES_MAX), *body is
 * the rest.  0, or -EINVAL and why.
 */
int	spool_envelope_parse(struct chunk *, struct slice text,
	    struct attribute *out, size_t *ret_n, struct slice *ret_body,
	    struct error *err);
struct buffer;
void	spool_envelope_write(struct buffer *, const struct attribute *,
	    size_t n);

#endif
