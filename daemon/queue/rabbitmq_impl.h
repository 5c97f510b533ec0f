/*
 * rabbitmq_impl.h - what the files of the RabbitMQ queue share.
 *
 * Two connections to one broker, which live and die together:
 *
 *	consumer   channel 1: deliveries and their acknowledgements
 *	           channel 2: declares, and passive ones for the backlog
 *	publisher  channel 1: copies, with confirms
 *	           channels 2 and up: one for each walk over the dead letters
 *
 * They are two, since a broker short of memory or disk stops reading from a
 * connection that publishes (rabbitmq.com, "Memory and Disk Alarms"):
 * acknowledgements must not stand behind a publish.
 *
 *	DOWN -> CONNECTING (both) -> SETTING_UP (queues) -> UP -> DOWN ...
 *
 * A delivery tag dies with its channel, and the broker then delivers again
 * what was not acknowledged.  So whatever goes wrong with one channel that
 * consumes or publishes takes both connections down, named; what waits in the
 * operator is dropped, what runs is marked, and everything is built up anew.
 *
 * Settling.  settle() only collects.  In LOOP_BATCH all deliveries that are
 * done, from the oldest unacknowledged on, leave as one basic.ack with
 * multiple; those behind a gap wait a moment for it to close and then leave
 * one by one.  A retry or a dead letter is first published as a copy, mandatory
 * and confirmed, and only then is its original acknowledged (invariant 1).
 * Acknowledgements are not answered in AMQP: the message is settled when its
 * acknowledgement is written.  When the connection breaks before the broker
 * has read it, the broker delivers the message again.
 */
#ifndef BOT_QUEUE_RABBITMQ_IMPL_H
#define BOT_QUEUE_RABBITMQ_IMPL_H

#include "base/secret.h"
#include "codec/amqp.h"
#include "net/stream.h"
#include "net/tls_config.h"
#include "queue/rabbitmq.h"

#define RABBIT_PORT		5672
#define RABBIT_TLS_PORT		5671
#define RABBIT_STOP_US		(5 * USEC_PER_SEC)
/* The largest max_message_size that a broker can be given (rabbit.hrl of
   3.8 to 4.x): what is announced beyond it is no message. */
#define RABBIT_BODY_MAX		(512 * MIB)
#define RABBIT_CHANNELS		10	/* of a connection, 0 included */
#define RABBIT_CALLS		8	/* open on one channel */
#define RABBIT_PREFETCH_MAX	65535u	/* basic.qos: a short */

struct rabbit_queue;
struct rabbit_conn;
struct rabbit_channel;
struct rabbit_delivery;
struct rabbit_walk;
struct rabbit_management;

/* ---- connections: rabbitmq_conn.c, rabbitmq_channel.c ---- */

/*
 * The answer to a method: its id and arguments, or AMQP_CHANNEL_CLOSE_METHOD
 * when the broker closed the channel instead, or 0 when the channel was lost.
 */
typedef void rabbit_reply_fn(struct rabbit_channel *, amqp_method_number_t id,
	    const void *decoded, void *arg);

struct rabbit_call {
	amqp_method_number_t answer, other;	/* either of them */
	rabbit_reply_fn *fn;
	void *arg;
	uint64_t due_us;
};

/* A method with content: basic.deliver, basic.return or basic.get-ok. */
struct rabbit_content {
	amqp_method_number_t method;
	uint64_t tag;			/* delivery tag */
	bool redelivered, ours;		/* of the present consumer */
	uint32_t waiting;		/* get-ok: messages behind it */
	uint16_t reply_code;		/* return */
	struct slice exchange, routing_key;
	struct slice properties;	/* raw */
	struct slice body;
	struct chunk *chunk;		/* where the slices lie */
};

enum rabbit_channel_state {
	CHANNEL_CLOSED = 0,
	CHANNEL_OPENING,
	CHANNEL_OPEN,
	CHANNEL_CLOSING,	/* we have said so */
};

struct rabbit_channel {
	struct rabbit_conn *conn;
	uint16_t number;
	enum rabbit_channel_state state;
	bool expendable;	/* closed by the broker, it is no outage */
	struct rabbit_call call[RABBIT_CALLS];	/* answered in order */
	unsigned ncalls;
	/* Content on its way. */
	enum { CONTENT_NONE = 0, CONTENT_HEADER, CONTENT_BODY } expect;
	struct rabbit_content content;
	char *body;		/* being filled; NULL: large is */
	struct buffer large;
	size_t size, have;
	/* basic.return; may be NULL. */
	void (*on_content)(struct rabbit_channel *, const struct rabbit_content *);
	void *owner;		/* of a channel that comes and goes */
};

enum rabbit_conn_state {
	CONN_IDLE = 0,
	CONN_CONNECTING,	/* the stream is */
	CONN_STARTING,		/* waits for connection.start */
	CONN_TUNING,		/* ... connection.tune */
	CONN_OPENING,		/* ... connection.open-ok */
	CONN_OPEN,
	CONN_CLOSING,		/* ... connection.close-ok */
};

struct rabbit_conn {
	struct rabbit_queue *rq;
	const char *role;		/* "consumer", "publisher" */
	enum rabbit_conn_state state;
	struct stream stream;
	amqp_pool_t pool;		/* for one frame */
	struct buffer scratch;
	struct chunk *chunk;		/* of the contents of one read */
	size_t frame_max;
	uint64_t heartbeat_us;		/* 0: none */
	uint64_t bytes_out_seen;
	struct timer heartbeat_timer, answer_timer;
	uint64_t due_us;		/* of the handshake */
	bool blocked;
	char blocked_reason[128];
	unsigned version;		/* 3.10.8: 31008; 0 unknown */
	struct rabbit_channel channel[RABBIT_CHANNELS];
};

void	rabbit_conn_init(struct rabbit_conn *, struct rabbit_queue *,
	    const char *role);
void	rabbit_conn_done(struct rabbit_conn *);
void	rabbit_conn_open(struct rabbit_conn *, struct tls_context *);
/* Says connection.close where that can still be said; every open call is told
   that its channel is lost. */
void	rabbit_conn_close(struct rabbit_conn *);
/* In order: connection.close, then state IDLE when it is answered. */
void	rabbit_conn_leave(struct rabbit_conn *);

/* A method on the channel; answered by fn with the id answer (or other). */
void	rabbit_call(struct rabbit_channel *, amqp_method_number_t,
	    const void *decoded, amqp_method_number_t answer,
	    amqp_method_number_t other, rabbit_reply_fn *, void *arg);
/* A method that is not answered. */
void	rabbit_send(struct rabbit_channel *, amqp_method_number_t,
	    const void *decoded);
struct buffer *rabbit_out(struct rabbit_channel *);
void	rabbit_flush_out(struct rabbit_channel *);
void	rabbit_channel_open(struct rabbit_channel *, rabbit_reply_fn *,
	    void *arg);
void	rabbit_channel_close(struct rabbit_channel *, rabbit_reply_fn *,
	    void *arg);
/* A number that is free, opened; NULL: too many. */
struct rabbit_channel *rabbit_channel_new(struct rabbit_conn *,
	    rabbit_reply_fn *, void *arg);
/* All that the broker sends on a channel. */
void	rabbit_channel_method(struct rabbit_channel *, const amqp_method_t *);
void	rabbit_channel_header(struct rabbit_channel *, struct slice payload);
void	rabbit_channel_body(struct rabbit_channel *, struct slice payload);
/* Every open call is told id 0; what was half received is forgotten. */
void	rabbit_channel_reset(struct rabbit_channel *);
/* When the oldest open call is due; USEC_INFINITY: none. */
uint64_t rabbit_channel_due(const struct rabbit_channel *);
void	rabbit_conn_watch(struct rabbit_conn *);	/* the answer timer */

/* ---- errors: rabbitmq_error.c ---- */

/* What a reply code means; what: "opening the connection", "queue X". */
void	rabbit_error(unsigned code, struct slice text, struct error *);
/* From the arguments of a channel.close. */
void	rabbit_close_error(const void *decoded, struct error *);

/* ---- queues to declare: rabbitmq_setup.c, rabbitmq_delay.c ---- */

enum rabbit_declare {		/* the order of Declare='s choices */
	DECLARE_NO = 0,
	DECLARE_CLASSIC,
	DECLARE_QUORUM,
};

/* A queue where retries wait for so long. */
struct rabbit_step {
	struct list link;	/* shortest first */
	uint64_t delay_us;
	char *queue;
	bool ready;		/* on this connection it is known to be there */
	bool declaring;
};

/* Makes the list of steps between the bounds of Backoff=. */
void	rabbit_steps_init(struct rabbit_queue *);
void	rabbit_steps_done(struct rabbit_queue *);
/*
 * The step for a delay: rounded up, but past Backoff='s maximum only when the
 * delay is.  With Declare=no one that is there.  NULL: no wait at all.
 */
struct rabbit_step *rabbit_step_for(struct rabbit_queue *, uint64_t delay_us);
/* After both connections are open; ends with rabbit_set_up() or a failure. */
void	rabbit_setup(struct rabbit_queue *);
/* Declares one while we are up; then the jobs that wait for it are sent. */
void	rabbit_step_declare(struct rabbit_queue *, struct rabbit_step *);
/* queue.declare of the main queue, the dead letters' or a step's. */
void	rabbit_declare(struct rabbit_channel *, const char *queue, bool passive,
	    const struct rabbit_step *, rabbit_reply_fn *, void *arg);
/* The administrative channel, opened again when the broker has closed it. */
bool	rabbit_admin(struct rabbit_queue *, rabbit_reply_fn *, void *arg);

/* ---- messages: rabbitmq_message.c, rabbitmq_copy.c ---- */

/* The headers of ours, which no handler sees. */
#define HEADER_PREFIX		"bot-"
#define HEADER_ATTEMPT		"bot-attempt"
#define HEADER_CRASHES		"bot-crashes"
#define HEADER_ERROR_TYPE	"bot-error-type"
#define HEADER_DETAIL		"bot-detail"
#define HEADER_EXCHANGE		"bot-exchange"
#define HEADER_ROUTING_KEY	"bot-routing-key"
#define HEADER_QUEUE		"bot-queue"
#define HEADER_DIED		"bot-died"
#define HEADER_ID		"bot-id"
#define HEADER_NAME		"bot-name"
#define HEADER_SEQUENCE		"bot-sequence"
#define HEADER_X_DEATH		"bot-x-death"
#define HEADER_CC		"bot-CC"
#define HEADER_USER_ID		"bot-user-id"
#define HEADER_EXPIRATION	"bot-expiration"
#define HEADER_PROPERTIES	"bot-properties"

/* What is read off a message's properties besides its attributes. */
struct rabbit_meta {
	unsigned attempt, crashes;
	struct slice name, error_type, detail, id;
	uint64_t died_us;		/* wall clock; 0 unknown */
	uint64_t sent_us;		/* timestamp property, wall clock */
	uint64_t sequence;		/* 0: none */
	uint64_t deliveries;		/* x-delivery-count; 0: none */
	bool of_stream;			/* has x-stream-offset */
	const struct attribute *attributes;
	size_t nattributes;
};

/*
 * Decodes the properties of c into ret, whose slices lie in c->chunk or in
 * static memory. -EPROTO and *err when they cannot be.
 */
int	rabbit_meta(struct rabbit_conn *, const struct rabbit_content *c,
	    struct rabbit_meta *ret, struct error *err);

enum rabbit_copy_kind {
	COPY_RETRY = 1,
	COPY_BURY,
	COPY_REDRIVE,		/* attempt 1, nothing of the death */
};

struct rabbit_copy {
	enum rabbit_copy_kind kind;
	struct slice queue;		/* where to */
	struct slice properties, body;	/* raw, of the original */
	struct slice exchange, routing_key, name;
	unsigned attempt, crashes;
	struct slice error_type, detail;
	uint64_t sequence;		/* 0: none */
};

/* Appends a publish of the copy. -EMSGSIZE and *err when it cannot be. */
int	rabbit_copy(struct rabbit_channel *, const struct rabbit_copy *,
	    struct error *err);
/* Appends a publish of a new message. */
int	rabbit_copy_new(struct rabbit_channel *, struct slice queue,
	    const struct enqueue_job *, const char *id, uint64_t sequence,
	    struct error *err);

/* ---- consuming: rabbitmq_consume.c ---- */

enum rabbit_consumer_state {
	CONSUMER_NONE = 0,
	CONSUMER_STARTING,
	CONSUMER_ON,
	CONSUMER_CANCELLING,
};

struct rabbit_consumer {
	enum rabbit_consumer_state state;
	uint32_t number;		/* of the process; in the tag */
	char tag[128];
	unsigned prefetch;
	unsigned outstanding;		/* delivered by it, not acknowledged */
	uint64_t since_us;
	uint64_t idle_since_us;		/* no credit though it may push; 0 */
	uint64_t low_since_us;		/* far less wanted than prefetch; 0 */
	struct timer timer;
};

enum rabbit_delivery_state {
	DELIVERY_HELD = 1,	/* by the engine */
	DELIVERY_PUBLISHING,	/* its copy is not confirmed */
	DELIVERY_ACK,
	DELIVERY_REQUEUE,
};

/* One unacknowledged delivery; m->receipt_data while it is good. */
struct rabbit_delivery {
	struct list link;		/* of rq->deliveries, by tag */
	struct list settle_link;	/* of rq->acks or rq->requeues */
	uint64_t tag;
	uint32_t consumer;
	enum rabbit_delivery_state state;
	struct message *message;
};

void	rabbit_consume_init(struct rabbit_queue *);
void	rabbit_consume_done(struct rabbit_queue *);
void	rabbit_delivered(struct rabbit_channel *, const struct rabbit_content *);
bool	rabbit_consumer_is(const struct rabbit_queue *, struct slice tag);
/* Fits the consumer to the credit. */
void	rabbit_window(struct rabbit_queue *);
void	rabbit_consumer_cancel(struct rabbit_queue *);
void	rabbit_delivery_free(struct rabbit_queue *, struct rabbit_delivery *);
/* The channel is gone: all receipts are. */
void	rabbit_deliveries_lost(struct rabbit_queue *);

/* ---- settling: rabbitmq_settle.c, rabbitmq_publish.c ---- */

enum rabbit_job_kind {
	JOB_RETRY = 1,
	JOB_BURY,
	JOB_REPUBLISH,		/* a release that must keep its counts */
	JOB_ENQUEUE,
};

/* Something to be published and confirmed. */
struct rabbit_job {
	struct list link;	/* of rq->jobs (to send) or rq->unconfirmed */
	enum rabbit_job_kind kind;
	struct rabbit_delivery *delivery;	/* NULL for JOB_ENQUEUE */
	struct enqueue_job *enqueue;
	char id[40];		/* of JOB_ENQUEUE */
	struct rabbit_step *step;	/* NULL: the queue itself, or the dead */
	unsigned attempt, crashes;
	char *error_type, *detail;
	size_t ndetail;
	uint64_t sequence;	/* of the confirm */
	uint64_t sent_us, again_us;
	bool returned;		/* no queue took it */
};

void	rabbit_settle_init(struct rabbit_queue *);
void	rabbit_settle_done(struct rabbit_queue *);
void	rabbit_settle(struct queue *, struct message *,
	    const struct settlement *);
void	rabbit_enqueue(struct queue *, struct enqueue_job *);
/* Writes what was collected. */
void	rabbit_flush(struct rabbit_queue *);
bool	rabbit_settled_all(const struct rabbit_queue *);
/* Answers everything that is open with an error. */
void	rabbit_give_up(struct rabbit_queue *, const struct error *);
/* The copy is safe, or the verdict was done. */
void	rabbit_acknowledge(struct rabbit_queue *, struct rabbit_delivery *);
void	rabbit_publish_init(struct rabbit_queue *);
void	rabbit_publish_done(struct rabbit_queue *);
void	rabbit_publish(struct rabbit_queue *, struct rabbit_job *);
void	rabbit_publish_flush(struct rabbit_queue *);
void	rabbit_publish_give_up(struct rabbit_queue *, const struct error *);
void	rabbit_confirmed(struct rabbit_queue *, uint64_t sequence, bool multiple,
	    bool accepted);
void	rabbit_returned(struct rabbit_channel *, const struct rabbit_content *);
/* When the oldest unconfirmed one is due; USEC_INFINITY: none. */
uint64_t rabbit_confirm_due(const struct rabbit_queue *);

/* ---- dead letters: rabbitmq_dead.c ---- */

void	rabbit_dead_open(struct queue *, struct dead_walk *);
void	rabbit_dead_next(struct queue *, struct dead_walk *);
void	rabbit_dead_act(struct queue *, struct dead_walk *, enum dead_action);
void	rabbit_dead_close(struct queue *, struct dead_walk *);
void	rabbit_dead_done(struct rabbit_queue *);

/* ---- backlog: rabbitmq_probe.c, rabbitmq_management.c ---- */

void	rabbit_probe(struct queue *);
/* NULL without Management=; a bad URL is a problem of the configuration. */
struct rabbit_management *rabbit_management_new(struct rabbit_queue *,
	    struct config *, const struct config_section *);
void	rabbit_management_free(struct rabbit_management *);
void	rabbit_management_start(struct rabbit_management *);
void	rabbit_management_probe(struct rabbit_management *);
void	rabbit_management_status(const struct rabbit_management *, json_t *);

/* ---- the queue ---- */

enum rabbit_state {
	RABBIT_IDLE = 0,	/* not started, or stopped */
	RABBIT_DOWN,		/* waits to connect again */
	RABBIT_CONNECTING,
	RABBIT_SETTING_UP,
	RABBIT_UP,
	RABBIT_LEAVING,		/* everything is settled; closing in order */
};

struct rabbit_queue {
	struct queue *queue;
	struct loop *loop;
	enum rabbit_state state;

	/* Configuration. */
	struct address address;
	struct tls_config tls_config;
	char *vhost, *username, *password_file, *name, *dead_name;
	bool external;			/* Auth=external */
	enum rabbit_declare declare;
	uint64_t heartbeat_us, connect_timeout_us, response_timeout_us;
	uint64_t consumer_timeout_us;

	struct tls_context *tls;
	struct rabbit_conn consumer_conn, publisher_conn;
	unsigned failures;
	uint64_t up_since_us;
	struct timer reconnect_timer;
	struct task fail_task;
	struct error failure;		/* set: fail_task is on its way */
	bool warned_deliveries;		/* that the broker counts them */
	char token[9];			/* of this process */

	/* Setting up. */
	struct list steps;
	struct list *setup_at;		/* the step that is declared next */
	unsigned setup_stage, setup_open;
	struct buffer missing;		/* what is to be declared, for people */
	unsigned nmissing;
	bool missing_told;		/* logged in this outage */

	/* Consuming. */
	unsigned credit;		/* as the engine said, less delivered */
	struct rabbit_consumer consumer;
	struct list deliveries, free_deliveries;
	unsigned ndeliveries;
	struct task window_task;

	/* Settling. */
	struct task batch_task;
	struct list acks, requeues;
	unsigned nacks;
	unsigned commands;		/* that settle single ones, of late */
	uint64_t commands_us;
	struct message **orphan;	/* settled, but their receipts are gone */
	size_t norphans, orphans_size;
	struct timer gather_timer;
	bool gathered;			/* the moment is over */
	bool hurry;			/* a message waits for its key */
	uint64_t gap_since_us;		/* acks wait behind a gap; 0 */

	/* Publishing. */
	uint64_t unblocked_us;		/* when the broker last took them again */
	amqp_pool_t copy_pool;		/* for one copy */
	struct list jobs, unconfirmed;	/* in the order of their sequence */
	uint64_t sequence;		/* of the last one on this channel */
	struct timer again_timer;
	uint64_t refused_log_us;
	struct list refused;		/* enqueue jobs, to be told so */

	/* Dead letters. */
	struct list walks;
	struct task answer_task;

	/* Probing. */
	bool probing;
	unsigned probe_stage;
	struct backlog probe;
	struct list *probe_at;
	struct rabbit_management *management;

	/* Stopping. */
	bool stopping;
	struct timer stop_timer, leave_timer;
	unsigned leave_rounds;

	/* Counts for the status. */
	uint64_t published, publish_refused, acknowledgements;
};

static inline struct rabbit_queue *
rabbit_of(struct queue *q)
{
	return q->impl;
}

static inline struct rabbit_channel *
rabbit_consume_channel(struct rabbit_queue *rq)
{
	return &rq->consumer_conn.channel[1];
}

static inline struct rabbit_channel *
rabbit_admin_channel(struct rabbit_queue *rq)
{
	return &rq->consumer_conn.channel[2];
}

static inline struct rabbit_channel *
rabbit_publish_channel(struct rabbit_queue *rq)
{
	return &rq->publisher_conn.channel[1];
}

static inline bool
rabbit_failing(const struct rabbit_queue *rq)
{
	return error_is_set(&rq->failure);
}

static inline bool
rabbit_is_up(const struct rabbit_queue *rq)
{
	return rq->state == RABBIT_UP && !rabbit_failing(rq);
}

/* ---- rabbitmq.c, for the others ---- */

/* Takes both connections down, soon; the first reason of an outage counts. */
void	rabbit_fail(struct rabbit_queue *, const struct error *);
void	rabbit_conn_ready(struct rabbit_queue *);	/* one is open */
void	rabbit_conn_left(struct rabbit_queue *);	/* one is closed */
void	rabbit_set_up(struct rabbit_queue *);
void	rabbit_stop_check(struct rabbit_queue *);

/* ---- rabbitmq_keys.c ---- */

void	rabbit_keys_read(struct rabbit_queue *, struct config *,
	    const struct config_section *);
void	rabbit_keys_reload(struct rabbit_queue *, const struct config_section *);
void	rabbit_keys_done(struct rabbit_queue *);

#endif
