/*
 * pubsub_impl.h - what the files of the Pub/Sub queue share.
 *
 *	DOWN -> SETTING_UP (token, subscription, dead letters) -> [PROVING] -> UP
 *
 * One HTTP/2 connection (client/grpc.h) carries everything.
 *
 * Receiving.  StreamingPull: a stream is opened with a window, the messages
 * that may be out on it, which the service keeps as long as the stream lives.
 * A stream whose window does not fit any more is ended in order, and the next
 * one has a window that does.  Acknowledgement ids are good on any connection,
 * so that nothing is lost by that.  More streams than one are open when one
 * comes near what the service sends on it (PUBSUB_STREAM_RATE).
 *
 * Receipts.  One for each delivery, in the message's chunk.  They are found by
 * message id, so that a message that is delivered again while we have it is
 * not run twice: it gets the newer acknowledgement id (invariant 5).
 *
 * Leases.  The first comes with the delivery (stream_ack_deadline_seconds);
 * renewals are ModifyAckDeadline.  A change of the deadline that settles waits
 * for the answer to an open renewal of its message (invariant 5).  With
 * exactly-once delivery a message is delivered to the engine only after its
 * lease has been confirmed.
 *
 * Settling.  settle() only collects; LOOP_BATCH makes batches.  What fails for
 * reasons that may pass is tried again until the lease ends.  A retry changes
 * the deadline to the delay; how often the message was tried is kept here
 * (queue/tried.h), since the service keeps no words of ours.  A dead letter
 * is published first and acknowledged when that is answered (invariant 1).
 */
#ifndef BOT_QUEUE_PUBSUB_IMPL_H
#define BOT_QUEUE_PUBSUB_IMPL_H

#include "base/hash.h"
#include "base/histogram.h"
#include "client/google_monitoring.h"
#include "client/google_token.h"
#include "client/grpc.h"
#include "client/http.h"
#include "queue/pubsub.h"
#include "queue/again.h"
#include "queue/tried.h"

/* cloud.google.com/pubsub/quotas: an Acknowledge or ModifyAckDeadline request
   has 512 KiB at most; ids have up to some 200 bytes. */
#define PUBSUB_IDS_MAX		2500u
#define PUBSUB_IDS_BYTES	((size_t)512 * KIB - 2048)
#define PUBSUB_DEADLINE_MIN	10u	/* seconds, of a stream */
#define PUBSUB_DEADLINE_MAX	600u
#define PUBSUB_EXACTLY_ONCE_MIN	60u	/* as Google's own libraries have it */
#define PUBSUB_STREAM_RATE	(10u * 1000 * 1000)	/* bytes/s, same page */
#define PUBSUB_STREAMS_MAX	8u
#define PUBSUB_ATTRIBUTES_MAX	100u
#define PUBSUB_VALUE_MAX	((size_t)1024)	/* of an attribute */
#define PUBSUB_CALLS_MAX	16u	/* settling at once */
#define PUBSUB_STOP_US		(5 * USEC_PER_SEC)
#define PUBSUB_NAME_BYTES	600	/* "projects/P/subscriptions/S" */

/* google/pubsub/v1/pubsub.proto */
#define PUBSUB_SUBSCRIBER	"/google.pubsub.v1.Subscriber/"
#define PUBSUB_PUBLISH		"/google.pubsub.v1.Publisher/Publish"
#define PUBSUB_ACKNOWLEDGE	PUBSUB_SUBSCRIBER "Acknowledge"
#define PUBSUB_MODIFY_DEADLINE	PUBSUB_SUBSCRIBER "ModifyAckDeadline"
#define PUBSUB_PULL		PUBSUB_SUBSCRIBER "Pull"
#define PUBSUB_STREAMING_PULL	PUBSUB_SUBSCRIBER "StreamingPull"
#define PUBSUB_GET		PUBSUB_SUBSCRIBER "GetSubscription"

struct pubsub_queue;
struct pubsub_bury;

/* ---- calls: pubsub_call.c, pubsub_error.c ---- */

struct pubsub_call;

/* One of err and answer counts. The call is idle again: it may be sent anew, or
   freed here. The answer lives for the call. */
typedef void pubsub_call_fn(struct pubsub_call *, struct slice answer,
	    const struct error *err);

/* A unary call: authorized when it is written, once more with a new token
   when that was to blame. */
struct pubsub_call {
	struct list link;		/* of pq->calls while open */
	struct pubsub_queue *pq;
	const char *path;
	pubsub_call_fn *fn;
	void *owner;
	struct buffer body;		/* filled in by the owner before sending */
	uint64_t timeout_us;
	/* For fn, beside err. */
	unsigned code;			/* enum grpc_code */
	struct slice details;
	/* private */
	struct grpc_call grpc;
	struct google_waiter waiter;
	uint64_t generation;
	struct buffer answer;
	bool answered, corrected;
	enum { CALL_IDLE = 0, CALL_WAITS, CALL_SENT } state;
};

void	pubsub_call_init(struct pubsub_call *, struct pubsub_queue *,
	    const char *path, pubsub_call_fn *, void *owner);
/* Never calls back before it returns. */
void	pubsub_call_send(struct pubsub_call *);
void	pubsub_call_cancel(struct pubsub_call *);	/* no-op when idle */
void	pubsub_call_done(struct pubsub_call *);		/* cancels and frees */

/* True when there is a token, or none is needed. */
bool	pubsub_authorized(struct pubsub_queue *);
void	pubsub_add_metadata(struct pubsub_queue *, struct grpc_metadata *,
	    uint64_t *ret_generation);

/* What a status means here, and what to do; path: of the call. */
void	pubsub_error(struct pubsub_queue *, const char *path,
	    const struct grpc_status *, const struct error *err,
	    struct error *ret);
/* A stream that ended so is to be opened again; facts of Google's libraries:
   ABORTED, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED, UNAVAILABLE,
   UNKNOWN, and OK. */
bool	pubsub_retryable(unsigned code);

/* ---- receipts and messages: pubsub_message.c, pubsub_receipt.c ---- */

enum pubsub_op_kind {
	OP_NONE = 0,
	OP_ACK,
	OP_DEADLINE,		/* settles: a retry, or given back */
	OP_BURY,		/* publishes a copy; then it is OP_ACK */
	OP_CONFIRM,		/* exactly once: before it is delivered */
	OP_RENEW,
};

/* One thing to be done with one acknowledgement id; lives in its receipt. */
struct pubsub_op {
	struct again again;		/* links it into any list */
	enum pubsub_op_kind kind;	/* OP_NONE: not in use */
	struct pubsub_receipt *receipt;
	unsigned seconds;		/* the deadline */
	uint64_t asked_us;
	unsigned version;		/* of the id that it was sent with */
	bool alone;			/* not in a batch with others */
	bool unnamed;			/* may have been done by a request that
					   failed for others */
	struct pubsub_bury *bury;	/* of OP_BURY */
};

/* The stream that something came by; good while the number is the same. */
struct pubsub_place {
	unsigned stream;
	uint32_t number;
};

/* What settles a message; in its chunk, of which it holds a reference. */
struct pubsub_receipt {
	struct list link;		/* of pq->receipts */
	struct hash_node node;		/* of pq->by_id; unlinked for a stray */
	struct pubsub_queue *pq;
	struct chunk *chunk;
	struct message *message;	/* message_find(id) says if it lives */
	uint64_t id;			/* 0: a stray, no message */
	struct slice ack_id;
	struct slice ordering_key;
	unsigned version;		/* of ack_id: a newer one replaces it */
	struct pubsub_place place;
	bool counted;			/* in the stream's outstanding */
	bool hashed, dead;		/* dead: freed when its ops have ended */
	struct pubsub_op settle, renew;	/* OP_CONFIRM is in settle */
	struct pubsub_op *waits;	/* a settlement, for the renewal's end */
};

struct pubsub_stream;

/* One answer of a stream, or of a pull. Malformed ones: -EPROTO and *err. */
int	pubsub_response(struct pubsub_queue *, struct pubsub_stream *,
	    struct slice wire, struct error *err);
/* A message outside of the engine's hands, for a walk: all fields, receipt is
   the acknowledgement id. received: Google__Pubsub__V1__ReceivedMessage. */
struct message *pubsub_message(struct pubsub_queue *, struct chunk *,
	    const void *received);

struct pubsub_receipt *pubsub_receipt_new(struct pubsub_queue *, struct chunk *,
	    struct slice ack_id, const struct pubsub_stream *);
/* It is m's; found by its name from now on. */
void	pubsub_receipt_add(struct pubsub_receipt *, struct message *);
/* It is found no more, and not out on its stream; its ops go on. */
void	pubsub_receipt_forget(struct pubsub_receipt *);
/* It counts for nothing any more; freed when no op of it is open. */
void	pubsub_receipt_free(struct pubsub_receipt *);
/* The service has delivered the message of old again, as new: the newer id is
   the one that counts. Frees new. */
void	pubsub_receipt_replace(struct pubsub_receipt *old,
	    struct pubsub_receipt *new);
/* That of a message that lives; NULL. */
struct pubsub_receipt *pubsub_receipt_find(struct pubsub_queue *,
	    struct slice message_id);
struct message *pubsub_receipt_message(const struct pubsub_receipt *);
/* Frees those whose messages the engine has let go. */
void	pubsub_receipts_sweep(struct pubsub_queue *);
void	pubsub_receipts_done(struct pubsub_queue *);

/* ---- streams: pubsub_stream.c, pubsub_window.c ---- */

enum pubsub_stream_state {
	STREAM_IDLE = 0,
	STREAM_ON,
	STREAM_ENDING,		/* half closed by us */
};

struct pubsub_stream {
	struct pubsub_queue *pq;
	struct grpc_call grpc;
	enum pubsub_stream_state state;
	uint32_t number;		/* a new one each time it is opened */
	unsigned window;		/* messages that may be out on it */
	unsigned outstanding;		/* about as the service counts them */
	unsigned delayed;		/* of these: retries that wait there */
	unsigned deadline;		/* seconds, as last told */
	uint64_t last_us;		/* last message, or opened */
	uint64_t bytes;			/* received, for the rate */
	uint64_t generation;		/* of the token */
	bool good;			/* it has brought messages, or stood */
	bool late;			/* its end takes long: others may open */
	struct timer good_timer, alive_timer, end_timer;
};

void	pubsub_streams_init(struct pubsub_queue *);
void	pubsub_streams_done(struct pubsub_queue *);
void	pubsub_stream_open(struct pubsub_stream *, unsigned window);
void	pubsub_stream_end(struct pubsub_stream *);	/* in order */
void	pubsub_streams_end(struct pubsub_queue *);
void	pubsub_streams_cancel(struct pubsub_queue *);
unsigned pubsub_streams_open(const struct pubsub_queue *);
/* It has brought a message, or its connection stands for a while. */
void	pubsub_stream_good(struct pubsub_stream *);
/* What is out on a stream: n more or less, delayed ones count as well.  No-ops
   when it is not that stream any more. */
void	pubsub_out(struct pubsub_queue *, struct pubsub_place, int n);
void	pubsub_delayed(struct pubsub_queue *, struct pubsub_place, int n);
/* Opens, replaces and ends streams as the credit wants it. */
void	pubsub_wake(struct pubsub_queue *);
void	pubsub_window_init(struct pubsub_queue *);
void	pubsub_window_done(struct pubsub_queue *);
unsigned pubsub_deadline(const struct pubsub_queue *);	/* seconds */

/* ---- settling: pubsub_settle.c, pubsub_batch.c, pubsub_bury.c ---- */

void	pubsub_settle_init(struct pubsub_queue *);
void	pubsub_settle_done(struct pubsub_queue *);
void	pubsub_settle(struct queue *, struct message *,
	    const struct settlement *);
void	pubsub_extend(struct queue *, struct message *, uint64_t lease_us);
/* One that is not, or no more, the engine's. */
void	pubsub_stray(struct pubsub_receipt *, enum pubsub_op_kind,
	    unsigned seconds);
/* Exactly once: the lease is asked for; the message is delivered after it. */
void	pubsub_confirm(struct pubsub_receipt *, uint64_t until_us);
bool	pubsub_settled_all(const struct pubsub_queue *);
/* Whatever is not done by now is answered with the error. */
void	pubsub_give_up(struct pubsub_queue *, const struct error *);
void	pubsub_op_wait(struct pubsub_op *);	/* to be sent */
/* No stream is open: what waited for that is given back. */
void	pubsub_streams_closed(struct pubsub_queue *);
void	pubsub_op_succeeded(struct pubsub_op *);
void	pubsub_op_failed(struct pubsub_op *, const struct error *, bool final);
/* Is there still something for it to do? Renewals may come too late. */
bool	pubsub_op_begin(struct pubsub_op *, uint64_t now_us);

/* Sends full batches; those that are not full too when all is set. */
void	pubsub_batches(struct pubsub_queue *, bool all);
/* Moves the ops of all open batches to the list, and cancels them. */
void	pubsub_batches_cancel(struct pubsub_queue *, struct list *ops);

void	pubsub_bury(struct pubsub_op *, const struct message *,
	    const struct settlement *);
void	pubsub_bury_send(struct pubsub_op *);
/* Cancels and forgets the copy that was to be made. */
void	pubsub_bury_done(struct pubsub_op *);

/* ---- requests on the wire: pubsub_wire.c ---- */

/* A copy of a message to be published. */
struct pubsub_copy {
	struct slice body, ordering_key;
	const struct attribute *attributes;	/* theirs; bot-... are left out */
	size_t nattributes;
	/* Of a death; error_type.n 0: none. */
	struct slice error_type, detail, name, queue;
	unsigned attempts, crashes;
};

/* Each replaces the buffer's content. */
void	pubsub_pack_open(struct buffer *, const struct pubsub_queue *,
	    unsigned window, unsigned deadline);
/* Keeps a stream alive; with another deadline if it is not 0. */
void	pubsub_pack_alive(struct buffer *, unsigned deadline);
void	pubsub_pack_ack(struct buffer *, const char *subscription,
	    const struct slice *ids, size_t n);
void	pubsub_pack_deadline(struct buffer *, const char *subscription,
	    const struct slice *ids, size_t n, unsigned seconds);
void	pubsub_pack_get(struct buffer *, const char *subscription);
void	pubsub_pack_pull(struct buffer *, const char *subscription, unsigned n);
void	pubsub_pack_publish(struct buffer *, const char *topic,
	    const struct pubsub_copy *);
/* The id of the one that was published, in the chunk; -EPROTO and *err. */
int	pubsub_published(struct slice wire, struct chunk *, struct slice *ret,
	    struct error *err);

/* ---- setting up: pubsub_setup.c ---- */

/* What GetSubscription says. */
struct pubsub_facts {
	bool known;			/* it may be asked, and was */
	bool exactly_once, ordered;
	unsigned max_deliveries;	/* of the dead-letter policy; 0: none */
	uint64_t backoff_us;		/* of the retry policy; 0: none */
};

void	pubsub_setup_init(struct pubsub_queue *);
void	pubsub_setup_done(struct pubsub_queue *);
void	pubsub_setup(struct pubsub_queue *);
void	pubsub_setup_cancel(struct pubsub_queue *);

/* ---- the rest ---- */

void	pubsub_probe_start(struct pubsub_queue *);
void	pubsub_probe_done(struct pubsub_queue *);
void	pubsub_probe_cancel(struct pubsub_queue *);
void	pubsub_probe(struct queue *);
void	pubsub_enqueue(struct queue *, struct enqueue_job *);
void	pubsub_enqueue_answer(struct pubsub_queue *);
void	pubsub_enqueue_done(struct pubsub_queue *, const struct error *);
void	pubsub_dead_open(struct queue *, struct dead_walk *);
void	pubsub_dead_next(struct queue *, struct dead_walk *);
void	pubsub_dead_act(struct queue *, struct dead_walk *, enum dead_action);
void	pubsub_dead_close(struct queue *, struct dead_walk *);
void	pubsub_dead_done(struct pubsub_queue *);

/* ---- the queue ---- */

enum pubsub_state {
	PUBSUB_IDLE = 0,	/* not started, or stopped */
	PUBSUB_DOWN,		/* waits to set up again */
	PUBSUB_SETTING_UP,
	PUBSUB_PROVING,		/* set up; the last stream was no good */
	PUBSUB_UP,
};

struct pubsub_queue {
	struct queue *queue;
	struct loop *loop;
	enum pubsub_state state;

	/* Configuration. */
	char *config_project, *config_subscription, *config_topic, *endpoint;
	char *credentials_file, *ca_file, *dead_letter, *dead_subscription;
	char *monitoring_endpoint;
	unsigned max_outstanding, streams_max;
	uint64_t max_outstanding_bytes;
	uint64_t keepalive_us, connect_timeout_us, response_timeout_us;
	bool dead_by_broker;		/* DeadLetter=broker */
	bool fixed_lease;		/* Lease= is set */

	/* Found out. */
	char *url_text;
	struct http_url url;
	struct grpc_channel *channel;
	struct google_token *token;	/* NULL: none is needed */
	char *project, *subscription, *topic, *dead_topic, *dead_from;
	char client_id[40];
	struct secret *sent_token[2];	/* the last two, to be kept out of texts */
	uint64_t sent_generation;
	struct pubsub_facts facts;

	struct list calls;		/* open ones */

	/* Setting up. */
	struct pubsub_call setup_call;
	struct google_waiter token_waiter;
	unsigned failures;
	uint64_t up_since_us;
	bool doubted;			/* the last stream was no good */
	bool explained, denied;		/* logged once */
	bool reported;			/* where credentials were looked for */
	struct timer reconnect_timer, prove_timer;
	struct task fail_task;
	struct error failure;		/* set: fail_task is on its way */

	/* Receiving. */
	unsigned credit;		/* as the engine said, less delivered */
	unsigned nstreams;		/* that are to be open */
	unsigned last_window;		/* for a stream that proves */
	struct pubsub_stream stream[PUBSUB_STREAMS_MAX];
	bool stream_corrected;		/* a new token was asked for */
	bool stream_failed;		/* the last one, before it was good */
	struct google_waiter stream_waiter;
	struct task window_task;
	struct timer window_timer, rate_timer;
	uint64_t idle_since_us, small_since_us, large_since_us, slow_since_us;
	struct list receipts;
	struct hash by_id;
	unsigned nreceipts;
	struct histogram held;		/* how long messages are held */

	/* Settling. */
	struct task batch_task;
	struct list acks, deadlines;	/* to be sent in batches */
	struct list buries, burying;	/* to be sent; at the service */
	struct list held_back;		/* behind an open renewal */
	struct list stopping_back;	/* given back when no stream is open */
	struct list batches;
	unsigned nacks, ndeadlines;
	unsigned nsettling;		/* ops that settle, wherever they are */
	unsigned ncalls;
	struct timer batch_timer;
	struct again_list again;
	bool batch_gathered;
	uint64_t dead_log_us, refused_log_us;

	struct tried_table tried;	/* between a retry and the next delivery */

	/* Other things that wait for an answer. */
	struct task answer_task;
	struct list enqueues, walks;
	struct google_monitoring *monitoring, *dead_monitoring;
	struct google_token *monitoring_token;
	struct backlog probe;
	uint64_t probed_us;
	struct error backlog_error;

	/* Stopping. */
	bool stopping;
	struct timer stop_timer, linger_timer;

	/* Counts for the status. */
	uint64_t requests, streams_opened, duplicates;
};

static inline struct pubsub_queue *
pubsub_of(struct queue *q)
{
	return q->impl;
}

static inline bool
pubsub_failing(const struct pubsub_queue *pq)
{
	return error_is_set(&pq->failure);
}

static inline bool
pubsub_is_up(const struct pubsub_queue *pq)
{
	return pq->state == PUBSUB_UP && !pubsub_failing(pq);
}

/* ---- pubsub.c, for the others ---- */

/* The queue is down, soon; the first reason of an outage counts. */
void	pubsub_fail(struct pubsub_queue *, const struct error *);
/* Set up: streams may be opened. */
void	pubsub_set_up(struct pubsub_queue *);
void	pubsub_proven(struct pubsub_queue *);
void	pubsub_stop_check(struct pubsub_queue *);

/* ---- pubsub_keys.c ---- */

void	pubsub_keys_read(struct pubsub_queue *, struct config *,
	    const struct config_section *);
void	pubsub_keys_reload(struct pubsub_queue *, const struct config_section *);
void	pubsub_keys_done(struct pubsub_queue *);

#endif
