/*
 * sqs_impl.h - what the files of the SQS queue share.
 *
 *	DOWN -> SETTING_UP (region, queue, dead letters) -> UP -> DOWN ...
 *
 * Everything is a call: one HTTP request with its signature, its retries in
 * the standard mode of AWS' SDKs, and its answer as JSON.
 *
 * Receiving.  Several long polls at once (Receivers=), each for at most ten
 * messages and no more than there is credit for beside what the others have
 * asked for.  Their number grows while answers come full.
 *
 * Leases.  The visibility time-out, renewed in batches.  A renewal and a
 * change of visibility that settles are two requests on two connections, which
 * the service may see in any order: so a settlement waits for the answer to an
 * open renewal of its message (invariant 5).  Deleting need not.
 *
 * Settling.  settle() only collects; LOOP_BATCH makes batches of ten.  What
 * fails for reasons that may pass is tried again until the lease ends: then the
 * service gives the message to somebody else, and so it is answered.  A dead
 * letter is sent to the other queue first and deleted when that is answered
 * (invariant 1).
 */
#ifndef BOT_QUEUE_SQS_IMPL_H
#define BOT_QUEUE_SQS_IMPL_H

#include <openssl/types.h>

#include "base/hash.h"
#include "client/aws_credentials.h"
#include "client/aws_retry.h"
#include "client/http.h"
#include "queue/sqs.h"
#include "queue/again.h"
#include "queue/tried.h"

#define SQS_BATCH_MAX		10u	/* entries; also messages of a receive */
#define SQS_RECEIVERS_MAX	10u
#define SQS_VISIBILITY_MAX	43200u	/* seconds; 12 h, since the receive */
#define SQS_ATTRIBUTES_MAX	10u
#define SQS_PARTS_MAX		64u	/* of a message that we read */
#define SQS_CALLS_MAX		16u	/* settling at once */
#define SQS_STOP_US		(5 * USEC_PER_SEC)
#define SQS_ANSWER_MAX		(16 * MIB)	/* 10 x 1 MiB, escaped */

struct sqs_queue;
struct sqs_call;
struct sqs_walk;

/* ---- calls: sqs_call.c, sqs_error.c ---- */

/* One of answer and err is NULL. The call is idle again: it may be sent anew or
   freed here. The answer lives for the call. */
typedef void sqs_call_fn(struct sqs_call *, const json_t *answer,
	    const struct error *err);
/* For answers that come often: the text as it came, if err is NULL. It may be
   empty, and nobody has read it yet. It lives for the call. */
typedef void sqs_call_text_fn(struct sqs_call *, struct slice answer,
	    const struct error *err);

struct sqs_call {
	struct list link;		/* of sq->calls while open */
	struct sqs_queue *sq;
	const char *operation;		/* "ReceiveMessage" */
	sqs_call_fn *fn;		/* one of the two */
	sqs_call_text_fn *text_fn;
	void *owner;
	struct buffer body;		/* filled in by the owner before sending */
	uint64_t extra_us;		/* that the answer may take longer */
	/* private */
	struct http_request request;
	struct aws_waiter waiter;
	struct timer timer;
	struct aws_retry retry;
	uint64_t generation;		/* of the keys it was signed with */
	int64_t clock_offset_us;	/* it was signed with */
	bool corrected;			/* tried again for the clock or the keys */
	struct error refused;		/* ... because of this */
	enum { CALL_IDLE = 0, CALL_WAITS, CALL_SENT, CALL_PAUSES } state;
};

void	sqs_call_init(struct sqs_call *, struct sqs_queue *,
	    const char *operation, sqs_call_fn *, void *owner);
void	sqs_call_init_text(struct sqs_call *, struct sqs_queue *,
	    const char *operation, sqs_call_text_fn *, void *owner);
/* Never calls back before it returns. */
void	sqs_call_send(struct sqs_call *);
/* No fn any more. No-op when idle. */
void	sqs_call_cancel(struct sqs_call *);
void	sqs_call_done(struct sqs_call *);	/* cancels and frees */
/* Begins its body with {"QueueUrl":"..."; the owner adds the rest. */
void	sqs_call_begin(struct sqs_call *, const char *queue_url);
void	sqs_call_end(struct sqs_call *);	/* the closing brace */
/* The error of an answer that is no JSON object. */
void	sqs_malformed(const struct sqs_call *, struct error *);

/* Of SendMessage: err, or (in *room) that it says nothing of having been done;
   what is not known to be stored must not be deleted elsewhere. */
const struct error *sqs_send_error(const json_t *answer,
	    const struct error *err, struct error *room);
/* What a service error means and what to do; name may be empty. */
void	sqs_error(struct slice name, unsigned status, struct slice text,
	    struct error *err);
/* True for what concerns one message rather than the queue. */
bool	sqs_error_is_final(struct slice code);

/* ---- messages: sqs_read.c, sqs_message.c, sqs_md5.c ---- */

/* What settles a message; in its chunk, m->receipt_data. */
struct sqs_receipt {
	struct message *message;
	struct slice handle;
	struct slice attributes;	/* MessageAttributes as JSON; n 0: none */
	struct slice group, deduplication;	/* FIFO */
	uint64_t received_us;		/* monotonic, for the limit of 12 h */
	const char *misfit;		/* the checksum that is not its; or NULL */
	bool renewing;			/* a renewal is at the service */
	struct sqs_op *waits;		/* a settlement that waits for its end */
};

/* An element of "Messages", as slices into the answer; p NULL: not there. */
struct sqs_parts {
	struct slice id, handle, body, body_md5, attributes_md5;
	struct slice user_text;		/* MessageAttributes as they came */
	struct sqs_user_attribute {
		struct slice name, type, string, binary;
	} user[SQS_PARTS_MAX];
	struct sqs_system_attribute {
		struct slice name, value;
	} system[SQS_PARTS_MAX];
	unsigned nuser, nsystem;
};

/*
 * The messages of an answer to ReceiveMessage, which is copied into the chunk:
 * in order, linked by m->link, not delivered.  Those that cannot be messages
 * are left out, and *err (ERROR_INIT before) says so.  -EPROTO and *err when
 * the answer is none, and nothing was made of it.
 */
int	sqs_read_messages(const struct sqs_call *, struct chunk *,
	    struct slice answer, struct list *messages, struct error *err);
/* The parts must lie in the chunk. */
struct message *sqs_message(struct sqs_queue *, struct chunk *,
	    const struct sqs_parts *, uint64_t now_us);
void	sqs_md5_init(struct sqs_queue *);
void	sqs_md5_done(struct sqs_queue *);
/* The name of one that is there and does not fit; NULL: all well. */
const char *sqs_md5_misfit(const struct sqs_queue *,
	    const struct sqs_parts *);
/* Appends ,"MessageBody":...,"MessageAttributes":{...} and the FIFO ids. */
struct sqs_sending {
	struct slice body;
	struct slice attributes;	/* JSON object of theirs; n 0: none */
	struct slice group, deduplication;
	bool fifo;			/* the target is */
	struct slice first_deduplication;	/* of a death: the original's */
	/* Of a death; error_type.n 0: none. */
	struct slice error_type, detail, name;
	unsigned attempts, crashes;
};
void	sqs_add_sending(struct sqs_queue *, struct buffer *,
	    const struct sqs_sending *);

/* ---- receiving: sqs_receive.c ---- */

struct sqs_receiver {
	struct sqs_call call;
	unsigned asked;			/* messages; 0: idle */
	uint64_t asked_us;
};

void	sqs_receive_init(struct sqs_queue *);
void	sqs_receive_done(struct sqs_queue *);
void	sqs_wake(struct sqs_queue *);
void	sqs_receive_stop(struct sqs_queue *);	/* cancels the long polls */
unsigned sqs_polling(const struct sqs_queue *);	/* how many there are */

/* ---- settling: sqs_settle.c, sqs_batch.c, sqs_bury.c ---- */

enum sqs_op_kind {
	OP_DELETE = 1,
	OP_VISIBILITY,		/* settles: a retry or a release */
	OP_BURY,		/* sends the dead letter; then it is OP_DELETE */
	OP_RENEW,		/* settles nothing; its message may be gone */
};

/* One thing to be done about one message; waits in a list, is in a batch at
   the service, or pauses before another try. */
struct sqs_op {
	struct again again;		/* links it into any list */
	enum sqs_op_kind kind;
	uint64_t id;			/* of the message; 0: a stray */
	struct message *message;	/* that it settles; NULL: none */
	struct chunk *chunk;		/* a reference, for the receipt */
	struct sqs_receipt *receipt;
	unsigned seconds;		/* visibility */
	uint64_t asked_us;
	struct sqs_burial *burial;	/* of what is or was OP_BURY */
};

struct sqs_burial {
	struct sqs_call call;
	char *error_type, *detail;
	size_t ndetail;
	unsigned attempts, crashes;
	bool bare;			/* without words of ours: they do not fit */
};

void	sqs_settle_init(struct sqs_queue *);
void	sqs_settle_done(struct sqs_queue *);
void	sqs_settle(struct queue *, struct message *, const struct settlement *);
void	sqs_extend(struct queue *, struct message *, uint64_t lease_us);
/* One that was received and will not be delivered: visible again after so
   long. Takes m. */
void	sqs_stray(struct sqs_queue *, struct message *, unsigned seconds);
bool	sqs_settled_all(const struct sqs_queue *);
/* Whatever is not done by now is answered with the error. */
void	sqs_give_up(struct sqs_queue *, const struct error *);
void	sqs_op_wait(struct sqs_queue *, struct sqs_op *);	/* to be sent */
/* What came of it: it is freed, or kept for another try. */
void	sqs_op_succeeded(struct sqs_queue *, struct sqs_op *);
void	sqs_op_failed(struct sqs_queue *, struct sqs_op *,
	    const struct error *);
/* Is there still something for it to do? Renewals may come too late. */
bool	sqs_op_begin(struct sqs_queue *, struct sqs_op *, uint64_t now_us);

/* Sends full batches; those that are not full too when all is set. */
void	sqs_batches(struct sqs_queue *, bool all);
/* Gives the ops of all open batches to fn, and cancels them. */
void	sqs_batches_cancel(struct sqs_queue *, struct list *ops);
void	sqs_batches_done(struct sqs_queue *);
/* What is to be said of a death, and its call. */
struct sqs_burial *sqs_burial_new(struct sqs_queue *, struct sqs_op *,
	    const struct settlement *);
void	sqs_burial_free(struct sqs_burial *);	/* cancels; accepts NULL */
void	sqs_bury_send(struct sqs_queue *, struct sqs_op *);

/* ---- setting up: sqs_setup.c ---- */

void	sqs_setup_init(struct sqs_queue *);
void	sqs_setup_done(struct sqs_queue *);
void	sqs_setup(struct sqs_queue *);
void	sqs_setup_cancel(struct sqs_queue *);

/* ---- the rest ---- */

void	sqs_probe_init(struct sqs_queue *);
void	sqs_probe_done(struct sqs_queue *);
void	sqs_probe(struct queue *);
void	sqs_enqueue(struct queue *, struct enqueue_job *);
void	sqs_enqueue_answer(struct sqs_queue *);
void	sqs_enqueue_done(struct sqs_queue *, const struct error *);
void	sqs_dead_open(struct queue *, struct dead_walk *);
void	sqs_dead_next(struct queue *, struct dead_walk *);
void	sqs_dead_act(struct queue *, struct dead_walk *, enum dead_action);
void	sqs_dead_all(struct queue *, struct dead_walk *, enum dead_action,
	    unsigned rate);
void	sqs_dead_close(struct queue *, struct dead_walk *);
/* sqs_dead_all.c: ends what that walk (NULL: any) has asked for. */
void	sqs_all_close(struct sqs_queue *, const struct dead_walk *);
void	sqs_all_answer(struct sqs_queue *);
void	sqs_dead_done(struct sqs_queue *);

/* ---- the queue ---- */

enum sqs_state {
	SQS_IDLE = 0,		/* not started, or stopped */
	SQS_DOWN,		/* waits to set up again */
	SQS_SETTING_UP,
	SQS_UP,
};

struct sqs_queue {
	struct queue *queue;
	struct loop *loop;
	enum sqs_state state;

	/* Configuration. */
	char *config_region, *config_name, *config_url, *account, *endpoint;
	char *profile, *credentials_file, *config_file, *ca_file, *dead_letter;
	unsigned receivers_min, receivers_max;
	uint64_t wait_us, connect_timeout_us, response_timeout_us;
	bool dead_by_broker;		/* DeadLetter=broker */
	uint64_t probe_every_us;	/* 0: as often as the engine asks */

	/* Found out. */
	struct aws_credentials *credentials;
	struct http_client *client;
	struct sigv4 *signer;
	char region[AWS_REGION_BYTES];
	char url_text[AWS_URL_BYTES];	/* of the endpoint */
	struct http_url url;
	char *queue_url, *queue_arn, *dead_url, *redrive_arn;
	bool fifo, dead_fifo;
	char credentials_source[128];

	struct aws_clock clock;
	struct aws_retry_bucket bucket;
	struct list calls;		/* open ones */

	/* Setting up. */
	struct sqs_call setup_call;
	struct aws_waiter region_waiter;
	struct error attributes_error;	/* why they are not known */
	unsigned failures;
	uint64_t up_since_us;
	struct timer reconnect_timer;
	struct task fail_task;
	struct error failure;		/* set: fail_task is on its way */

	/* Receiving. */
	unsigned credit;		/* as the engine said, less delivered */
	unsigned asked;			/* by all receivers */
	unsigned receivers;		/* that may poll at once, now */
	struct sqs_receiver receiver[SQS_RECEIVERS_MAX];
	struct task pull_task;
	struct timer gather_timer, throttle_timer;
	bool gathered;
	struct error throttle;		/* why less is asked for */
	unsigned throttles;		/* in a row */
	EVP_MD *md5;			/* NULL: OpenSSL has none (FIPS) */
	EVP_MD_CTX *md5_digest;
	uint64_t md5_log_us;

	/* Settling. */
	struct task batch_task;
	struct list deletes, changes;	/* to be sent in batches */
	struct list buries;		/* to be sent, one by one */
	struct list burying;		/* at the service */
	struct list held_back;		/* behind an open renewal */
	struct list batches;
	struct list free_ops, free_batches;	/* to be used again */
	unsigned ndeletes, nchanges;
	unsigned nsettling;		/* ops that settle, wherever they are */
	unsigned ncalls;
	struct timer batch_timer;
	struct again_list again;
	bool batch_gathered;
	uint64_t dead_log_us;

	struct tried_table tried;	/* crashes; until the next receive */

	/* Other things that wait for an answer. */
	struct task answer_task;
	struct list enqueues, walks, giving_back, alls;
	struct sqs_call probe_call;
	struct backlog probe;
	bool probe_dead;		/* the second half of a probe */
	uint64_t probed_us;
	uint64_t not_visible;

	/* Stopping. */
	bool stopping;
	struct timer stop_timer, linger_timer;

	/* Counts for the status. */
	uint64_t requests, throttled, md5_wrong;
};

static inline struct sqs_queue *
sqs_of(struct queue *q)
{
	return q->impl;
}

static inline bool
sqs_failing(const struct sqs_queue *sq)
{
	return error_is_set(&sq->failure);
}

static inline bool
sqs_is_up(const struct sqs_queue *sq)
{
	return sq->state == SQS_UP && !sqs_failing(sq);
}

/* ---- sqs.c, for the others ---- */

/* The queue is down, soon; the first reason of an outage counts. */
void	sqs_fail(struct sqs_queue *, const struct error *);
void	sqs_set_up(struct sqs_queue *);
void	sqs_stop_check(struct sqs_queue *);
unsigned sqs_visibility(const struct sqs_queue *);	/* seconds */

/* ---- sqs_keys.c ---- */

void	sqs_keys_read(struct sqs_queue *, struct config *,
	    const struct config_section *);
void	sqs_keys_reload(struct sqs_queue *, const struct config_section *);
void	sqs_keys_done(struct sqs_queue *);

#endif
