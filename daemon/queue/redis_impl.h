/*
 * redis_impl.h - what the files of the Redis queue share.
 *
 * Two connections to one server, which live and die together:
 *
 *	reader	takes new messages and may block in doing so
 *	writer	everything else: settlements, renewals, recovery, delayed and
 *		dead letters, the backlog
 *
 *	DOWN -> CONNECTING (both) -> SETTING_UP (mode) -> UP -> DOWN ...
 *
 * Settlements.  settle() only collects.  In LOOP_BATCH what was collected
 * becomes batches (1000 acknowledgements are one), each is one command on the
 * writer, and a batch stays in rq->batches, in order, until it is answered.
 * Receipts do not die with a connection in Redis, so when it breaks the
 * unanswered batches are sent again, in order, as the first thing on the next
 * one; only when the queue is stopped before that they are answered with an
 * error.  Sending twice is safe in every mode:
 *   stream   XACK is idempotent; the scripts that retry, bury or release act
 *            only on an entry that is pending for our consumer
 *   delayed  the receipt is the number of the taking, which every taking and
 *            every settlement changes
 *   lists    equal bodies cannot be told apart, so that "remove one" is not
 *            idempotent: each batch carries a number, and the script refuses
 *            one that is not above the last it did for this consumer
 *
 * Keys.  All keys that we make up for KEY start with "{KEY}:bot:" (or with
 * "KEY:bot:" when KEY has a {tag} of its own), so that they share its slot.
 */
#ifndef BOT_QUEUE_REDIS_IMPL_H
#define BOT_QUEUE_REDIS_IMPL_H

#include "base/secret.h"
#include "codec/resp.h"
#include "engine/queue.h"
#include "net/stream.h"
#include "net/tls_config.h"
#include "queue/redis.h"

#define REDIS_BATCH_MAX		((size_t)1000)	/* messages in a command */
#define REDIS_BATCH_BYTES	MIB		/* of bodies in a command */
#define REDIS_BLOCK_MS		((uint64_t)5000)
#define REDIS_STOP_US		(5 * USEC_PER_SEC)
#define REDIS_DEFAULT_PORT	6379

struct redis_queue;
struct redis_conn;
struct redis_walk;
struct redis_extends;

/* ---- redis_scripts.c ---- */

enum redis_script {
	SCRIPT_NONE = 0,
	SCRIPT_STREAM_EXTEND,
	SCRIPT_STREAM_RETRY,
	SCRIPT_STREAM_BURY,
	SCRIPT_STREAM_RELEASE,
	SCRIPT_STREAM_PROBE,
	SCRIPT_STREAM_REDRIVE,
	SCRIPT_DELAYED_TAKE,
	SCRIPT_DELAYED_ACK,
	SCRIPT_DELAYED_RETRY,
	SCRIPT_DELAYED_BURY,
	SCRIPT_DELAYED_EXTEND,
	SCRIPT_LIST_TAKE,
	SCRIPT_LIST_ACK,
	SCRIPT_LIST_RELEASE,
	SCRIPT_LIST_RETRY,
	SCRIPT_LIST_BURY,
	SCRIPT_LIST_RESTORE,
	SCRIPT_LIST_GIVE_BACK,
	SCRIPT_LIST_BEAT,
	SCRIPT_LIST_REAP,
	SCRIPT_LIST_LEAVE,
	SCRIPT_LIST_PROBE,
	SCRIPT_LIST_REDRIVE,
	SCRIPT_SIDEKIQ_RETRY,
	SCRIPT_SIDEKIQ_POLL,
	SCRIPT_SIDEKIQ_REDRIVE,
	REDIS_NSCRIPTS,
};

#define SHA1_HEX	40

extern const char *const redis_script_text[REDIS_NSCRIPTS];

/* ---- redis_conn.c ---- */

/* reply NULL: the connection was lost before the answer. */
typedef void redis_reply_fn(struct redis_queue *, const struct resp *reply,
	    struct chunk *, void *arg);

struct redis_command {
	redis_reply_fn *fn;
	void *arg;
	uint64_t due_us;	/* sent + how long it may block */
};

struct redis_conn {
	struct redis_queue *rq;
	const char *role;		/* "reader", "writer" */
	struct stream stream;
	struct resp_reader *parser;
	struct redis_command *command;	/* a ring: sent, not answered */
	size_t first, count, size;
	size_t args_left;		/* of the command being formatted */
	struct timer answer_timer;
	bool ready;			/* the handshake is over */
	uint64_t client_id;		/* for CLIENT UNBLOCK; 0 unknown */
	unsigned version;		/* 7.0.15: 70015; 0 unknown */
};

void	redis_conn_init(struct redis_conn *, struct redis_queue *,
	    const char *role);
void	redis_conn_done(struct redis_conn *);
void	redis_conn_open(struct redis_conn *, struct tls_context *);
/* Silent; every unanswered command is told so (reply NULL). */
void	redis_conn_close(struct redis_conn *);

/* A command: begin, exactly argc arguments, end. The connection is open. */
void	redis_begin(struct redis_conn *, size_t argc);
void	redis_arg(struct redis_conn *, struct slice);
void	redis_arg_str(struct redis_conn *, const char *);
void	redis_arg_u64(struct redis_conn *, uint64_t);
void	redis_arg_i64(struct redis_conn *, int64_t);
void	redis_end(struct redis_conn *, redis_reply_fn *, void *arg,
	    uint64_t may_block_us);
/* EVALSHA with nkeys + nargs arguments to come. */
void	redis_begin_script(struct redis_conn *, enum redis_script, size_t nkeys,
	    size_t nargs);
/* Loads all scripts (again); the answer to NOSCRIPT, and part of set-up. */
void	redis_load_scripts(struct redis_queue *);

/* What an error reply means; always sets *err. */
void	redis_error(const struct redis_queue *, const struct resp *,
	    struct error *err);
/* True for what concerns the server or our rights rather than one command. */
bool	redis_error_is_fatal(const struct resp *);
/*
 * For replies that are no concern of the caller's beyond "it worked": false
 * for a lost connection or an error.  A fatal error takes the connection down;
 * NOSCRIPT loads the scripts; others are logged with what.
 */
bool	redis_reply_ok(struct redis_queue *, const struct resp *,
	    const char *what);

/* The same for what the reader lives on: any error takes it down. */
bool	redis_take_ok(struct redis_queue *, const struct resp *);

/* ---- settlements: redis_settle.c ---- */

enum redis_receipt {
	RECEIPT_PRIMARY = 1,	/* in the stream's or our processing list */
	RECEIPT_DELAYED,	/* a record of the delayed store */
};

struct redis_batch {
	struct list link;
	uint64_t number;
	enum settlement_kind kind;
	enum redis_receipt receipt;
	bool sent;			/* on this connection */
	bool sent_before;		/* on an earlier one: may be done */
	bool stray;			/* never delivered: freed by us */
	/* One message only, when it is not an acknowledgement or a plain
	   release: */
	uint64_t delay_us;
	unsigned attempt, crashes;
	char *error_type, *detail;
	size_t ndetail;
	size_t count;
	struct message *message[];
};

/* A growing array of messages. */
struct redis_pile {
	struct message **at;
	size_t n, size;
};

void	redis_settle(struct queue *, struct message *,
	    const struct settlement *);
void	redis_extend(struct queue *, struct message *, uint64_t lease_us);
/* Gives back a message that came too late to be delivered. */
void	redis_stray(struct redis_queue *, struct message *);
/* Sends what was collected and what no connection has answered. */
void	redis_flush(struct redis_queue *);
bool	redis_settled_all(const struct redis_queue *);
/* Answers everything that is open with an error. */
void	redis_give_up(struct redis_queue *, const struct error *);
void	redis_settle_init(struct redis_queue *);
void	redis_settle_done(struct redis_queue *);
/* The reply to every batch: an integer, 0: it was not ours any more. */
redis_reply_fn redis_batch_answered;
/* To every group of renewals: an array of 1 and 0 in their order. */
redis_reply_fn redis_extends_answered;
/* After an error: they wait to be sent again, or are lost. */
void	redis_extends_failed(struct redis_queue *, struct redis_extends *,
	    const struct resp *reply);

static inline enum redis_receipt
redis_receipt(const struct message *m)
{
	return m->receipt_number != 0 ? RECEIPT_DELAYED : RECEIPT_PRIMARY;
}

/* A renewal: by id, since the message may be settled before the answer. */
struct redis_renewal {
	uint64_t id;
	uint64_t lease_us;
};

/* Renewals of one command. */
struct redis_extends {
	uint64_t asked_us;
	enum redis_receipt receipt;
	size_t count;
	struct redis_renewal renewal[];
};

/* ---- modes ---- */

enum redis_mode_kind {
	MODE_STREAM = 0,	/* the order of the Mode= choices */
	MODE_LIST,
	MODE_SIDEKIQ,
};

struct redis_mode {
	const char *name;
	/* Key names from rq->config_key. */
	void (*derive)(struct redis_queue *);
	/* The writer is ready; ends with redis_set_up() from a reply. */
	void (*setup)(struct redis_queue *);
	/* Takes up to n more; n >= 1, nothing is outstanding at the reader. */
	void (*pull)(struct redis_queue *, unsigned n);
	/* Formats one batch with primary receipts on the writer. */
	void (*send)(struct redis_queue *, struct redis_batch *);
	/* Formats one group of renewals of primary receipts. */
	void (*extend)(struct redis_queue *, struct redis_extends *);
	/* Each half lease, and sooner when rq->maintain_soon(). */
	void (*maintain)(struct redis_queue *);
	/* Each second; NULL: the delayed store is asked instead. */
	void (*poll)(struct redis_queue *);
	void (*probe)(struct redis_queue *);
	/* Formats; the reply goes to redis_enqueued(). False: *err. */
	bool (*enqueue)(struct redis_queue *, struct enqueue_job *,
	    struct error *);
	/* Formats the last command on the writer, but for its end. May be NULL. */
	void (*leave)(struct redis_queue *);
	/* Dead letters: asks for the page after the last; reads the next of the
	   page into w->item, or skips it (false); acts on w->item. */
	void (*dead_page)(struct redis_queue *, struct redis_walk *);
	bool (*dead_item)(struct redis_queue *, struct redis_walk *);
	void (*dead_act)(struct redis_queue *, struct redis_walk *,
	    enum dead_action);
};

extern const struct redis_mode redis_mode_stream, redis_mode_list,
    redis_mode_sidekiq;

/* ---- the queue ---- */

enum redis_state {
	REDIS_IDLE = 0,		/* not started, or stopped */
	REDIS_DOWN,		/* waits to connect again */
	REDIS_CONNECTING,
	REDIS_SETTING_UP,
	REDIS_UP,
};

struct redis_queue {
	struct queue *queue;
	struct loop *loop;
	enum redis_state state;
	const struct redis_mode *mode;

	/* Configuration. */
	struct address address;
	struct tls_config tls_config;
	bool delete_after, pop_head;
	char *username, *password_file;
	uint64_t database;
	char *config_key, *group, *consumer, *body_field;
	size_t reply_max;
	uint64_t connect_timeout_us, response_timeout_us;

	/* Keys at the server. */
	char *key;		/* stream or list */
	char *prefix;		/* of what we make up */
	char *delayed_key, *messages_key, *dead_key;
	char *processing_key, *consumers_key, *settled_key;

	struct tls_context *tls;
	struct redis_conn reader, writer;
	unsigned failures;
	uint64_t up_since_us;
	struct timer reconnect_timer;
	struct task fail_task;
	struct error failure;		/* set: fail_task is on its way */
	char sha[REDIS_NSCRIPTS][SHA1_HEX + 1];
	size_t scripts_loading;

	/* Taking. */
	unsigned credit;		/* as the engine said, less delivered */
	unsigned asked_reader, asked_writer;	/* requested, not delivered */
	bool reading;			/* a command is out at the reader */
	bool blocking;			/* ... that may block */
	bool unblocking;		/* CLIENT UNBLOCK is on its way */
	unsigned last_batch;		/* messages in the last reply */
	unsigned count_max;		/* shrinks after a reply too large */
	size_t average_bytes;		/* of a message on the wire */
	struct task pull_task;
	struct timer maintain_timer;
	struct timer gather_timer;	/* small requests wait a little */
	bool waited;

	/* Recovery: our own leftovers first. */
	bool recovering, recover_busy;
	char recover_from[48];
	bool reaping, reap_due;
	char reap_from[48];

	/* Delayed store. */
	bool has_delayed, taking_delayed;
	uint64_t delayed_due_us;	/* monotonic; USEC_INFINITY none known */
	struct timer delayed_timer;

	/* Settlements. */
	struct task batch_task;
	struct redis_pile acks, delayed_acks, releases, strays;
	struct list batches;		/* not answered, in order */
	uint64_t batch_number;
	char token[17];			/* of this process */
	struct redis_renewal *renewal;	/* collected */
	size_t nrenewals, renewals_size;

	/* Lists. */
	uint64_t lost_before_us;	/* what was received before is not ours */
	bool list_empty;		/* the last take found nothing */
	bool reconcile, reconciling;
	struct redis_held *reconcile_held;
	size_t reconcile_pages, processing_length;
	uint64_t name_counter;

	/* Stopping. */
	bool stopping, leaving;
	struct timer stop_timer;

	/* Deferred answers: redis_dead.c and enqueue while down. */
	struct list refused;		/* enqueue jobs to be refused */
	struct list walks;
	struct task answer_task;

	/* Counts for the status. */
	uint64_t deleted, reclaimed, recovered, resent;
};

static inline struct redis_queue *
redis_of(struct queue *q)
{
	return q->impl;
}

/* ---- redis.c, for the others ---- */

/* Takes both connections down, soon; the first reason of an outage counts. */
void	redis_fail(struct redis_queue *, const struct error *);
void	redis_conn_ready(struct redis_queue *);	/* one handshake is over */
void	redis_set_up(struct redis_queue *);	/* the mode is ready */
void	redis_wake(struct redis_queue *);	/* something may be pulled */
/* What may be asked for now beside what is asked already. */
unsigned redis_room(const struct redis_queue *);
unsigned redis_held(const struct redis_queue *);
void	redis_maintain_in(struct redis_queue *, uint64_t us);
void	redis_unblock(struct redis_queue *);
uint64_t redis_lease_ms(const struct redis_queue *);
/* A message with its lease set; deliver hands it to the engine. */
struct message *redis_message(struct redis_queue *, struct chunk *,
	    struct slice name, struct slice receipt, struct slice body);
void	redis_deliver(struct redis_queue *, struct message *);
void	redis_stop_check(struct redis_queue *);
redis_reply_fn redis_enqueued;
/* waiting, known, delayed, dead, age in ms. */
redis_reply_fn redis_probed;

static inline bool
redis_failing(const struct redis_queue *rq)
{
	return error_is_set(&rq->failure);
}

/* ---- held receipts, while recovering ---- */

struct redis_held;
/* Every receipt of the queue's live messages; counts equal ones. */
struct redis_held *redis_held_new(struct redis_queue *);
size_t	redis_held_count(const struct redis_held *);
bool	redis_held_has(struct redis_held *, struct slice receipt);
/* Takes one away: true when there was one left. */
bool	redis_held_take(struct redis_held *, struct slice receipt);
void	redis_held_free(struct redis_held *);

/* ---- redis_keys.c ---- */

/* Reads the section; problems go to the configuration. */
void	redis_keys_read(struct redis_queue *, struct config *,
	    const struct config_section *);
void	redis_keys_reload(struct redis_queue *, const struct config_section *);
void	redis_keys_done(struct redis_queue *);
/* "{KEY}:bot", or "KEY:bot" when KEY has a hash tag; free. */
char	*redis_keys_prefix(const char *key);

/* ---- redis_delay.c ---- */

void	redis_delayed_init(struct redis_queue *);
void	redis_delayed_up(struct redis_queue *);
void	redis_delayed_down(struct redis_queue *);
/* True when something due was asked for. */
bool	redis_delayed_pull(struct redis_queue *);
/* Something becomes due in so long. */
void	redis_delayed_expect(struct redis_queue *, uint64_t in_us);
void	redis_delayed_send(struct redis_queue *, struct redis_batch *);
void	redis_delayed_extend(struct redis_queue *, struct redis_extends *);
/* The record of a message with what its settlement says. */
void	redis_record(struct buffer *, const struct message *,
	    const struct redis_batch *);
/* False when it is damaged. Slices of m lie in record. */
bool	redis_record_read(struct chunk *,
	    struct slice record, struct message *m);

/* ---- redis_dead.c ---- */

#define REDIS_DEAD_FIELDS	((size_t)7)
#define REDIS_DEAD_PAGE		10

void	redis_dead_open(struct queue *, struct dead_walk *);
void	redis_dead_next(struct queue *, struct dead_walk *);
void	redis_dead_act(struct queue *, struct dead_walk *, enum dead_action);
void	redis_dead_close(struct queue *, struct dead_walk *);
/* Deferred answers. */
void	redis_dead_answer(struct redis_queue *);
/* The bot-* fields of a dead letter: 2 * REDIS_DEAD_FIELDS arguments. */
void	redis_dead_args(struct redis_queue *, const struct redis_batch *);
/* The original fields: 2 * redis_dead_count(m) arguments. */
size_t	redis_dead_count(const struct message *);
void	redis_dead_fields(struct redis_queue *, const struct message *);
/* For modes whose dead letters are a stream. */
void	redis_dead_stream_page(struct redis_queue *, struct redis_walk *);
bool	redis_dead_stream_item(struct redis_queue *, struct redis_walk *);
void	redis_dead_stream_act(struct redis_queue *, struct redis_walk *,
	    enum dead_action);

struct redis_walk {
	struct list link;
	struct dead_walk *walk;		/* NULL: closed while one was asked */
	struct chunk *chunk;		/* of the page */
	const struct resp *page;
	size_t at;			/* next in the page */
	bool asked;			/* a page or an action is on its way */
	bool answer, answer_acted;	/* from answer_task */
	bool last_page;
	struct error error;		/* what to answer */
	char from[48];			/* stream: where the next page begins */
	size_t rank;			/* sidekiq: the same, place in the set */
	struct slice value;		/* sidekiq: the member */
	struct dead_item item;
};

redis_reply_fn redis_dead_page_came, redis_dead_acted;

/* ---- redis_stream.c ---- */

/* The fields as one JSON object. */
struct slice redis_fields_json(struct chunk *, const struct resp *fields,
	    size_t count);

/* ---- redis_list.c, for sidekiq ---- */

void	redis_list_keys(struct redis_queue *);
void	redis_list_setup(struct redis_queue *);
void	redis_list_pull(struct redis_queue *, unsigned n);
void	redis_list_send(struct redis_queue *, struct redis_batch *);
void	redis_list_extend(struct redis_queue *, struct redis_extends *);
void	redis_list_maintain(struct redis_queue *);
void	redis_list_leave(struct redis_queue *);
/* A numbered script on the writer: the first two keys; then, after the other
   keys, its first four arguments. */
void	redis_list_begin(struct redis_queue *, enum redis_script, size_t nkeys,
	    size_t nargs);
void	redis_list_numbered(struct redis_queue *, const struct redis_batch *);

/* ---- redis_sidekiq.c, for lists ---- */

void	redis_sidekiq_deliver(struct redis_queue *, struct chunk *,
	    struct slice job);

/* ---- redis_job.c: Sidekiq's JSON, member by member ---- */

/* The raw text of a top-level member; n == 0: there is none. */
struct slice redis_job_member(struct slice job, const char *name);
/* A JSON string between its quotes, as written (escapes stay). */
struct slice redis_job_string(struct slice job, const char *name);
bool	redis_job_is_object(struct slice job);
/*
 * The object without the named members (NULL-terminated), all else as it was
 * written, without the closing brace: members can be added.
 */
void	redis_job_edit(struct buffer *, struct slice job,
	    const char *const *without);
void	redis_job_add(struct buffer *, const char *name, struct slice raw);
void	redis_job_add_string(struct buffer *, const char *name, struct slice);
void	redis_job_end(struct buffer *);

#endif
