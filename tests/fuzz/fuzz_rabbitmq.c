/*
 * rabbitmq: the whole RabbitMQ queue against a broker that says anything.
 *
 * The input is a list of steps: well-formed answers, frames and bytes of any
 * kind, what an engine asks for, and time.  Both connections are pairs of
 * sockets; the engine is this file (its upcalls stand in for engine/'s), the
 * clock is virtual.  Beyond not crashing: what we send is frames; each message
 * is settled at most once, each enqueue answered exactly once, a walk only
 * when it asked; and stopping ends, with nothing left over.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/engine.h"
#include "fuzz/rabbitmq_peer.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define HELD_MAX	64
#define ENQUEUED_MAX	16
#define STEPS_MAX	400
#define TURNS_MAX	1000
#define START_US	(1000 * USEC_PER_SEC)

struct enqueued {
	struct enqueue_job job;
	struct attribute attribute;
	bool open;
};

static struct world {
	struct loop *loop;
	struct queue q;
	struct rabbit_queue *rq;
	struct peer peer[2];		/* consumer, publisher */
	struct slice in;
	struct message *held[HELD_MAX];
	unsigned nheld;
	bool stopped;
	bool lied;			/* on these connections */
	struct enqueued enqueued[ENQUEUED_MAX];
	struct dead_walk walk;
	bool walk_open, walk_asked, walk_item;
} w;

/* ---- the engine ---- */

static void
settle(struct message *m, enum settlement_kind kind, unsigned n)
{
	static const char detail[VERDICT_DETAIL_MAX];	/* does not fit */
	struct settlement s = {
		.kind = kind,
		.delay_us = (uint64_t)(n % 7) * 700 * USEC_PER_MSEC,
		.attempt = kind == SETTLE_RELEASE ? m->attempt + n % 2 :
		    m->attempt + 1,
		.crashes = m->crashes + n % 2,
	};

	if (kind == SETTLE_RETRY || kind == SETTLE_BURY) {
		s.error_type = SLICE("external_api");
		s.detail = (n & 32) != 0 ? (struct slice){ detail,
		    sizeof(detail) } : SLICE("it \"failed\"\n");
	}
	m->state = MESSAGE_SETTLING;
	w.q.nsettling++;
	w.q.type->ops->settle(&w.q, m, &s);
}

void
queue_up(struct queue *q)
{
	BUG_ON(q->connected);
	q->connected = true;
}

void
queue_down(struct queue *q, const struct error *err)
{
	BUG_ON(err->class == ERROR_NONE || err->code[0] == '\0');
	BUG_ON(q->nsettling != 0);
	if (err->class == ERROR_PROTOCOL && !w.lied)
		BUG("an honest broker is accused: %s (%s)", err->text,
		    err->code);
	q->connected = false;
}

void
queue_deliver(struct queue *q, struct message *m)
{
	BUG_ON(!q->connected || m->receipt_data == NULL);
	BUG_ON(m->attempt == 0 || m->name.n == 0);
	for (size_t i = 0; i < m->name.n; i++)
		BUG_ON((unsigned char)m->name.p[i] < ' ');
	m->state = MESSAGE_WAITING;
	if (w.nheld == HELD_MAX)
		settle(m, SETTLE_ACK, 0);
	else
		w.held[w.nheld++] = m;
}

void
queue_deliver_malformed(struct queue *q, struct message *m, const char *fmt,
    ...)
{
	(void)q;
	(void)fmt;
	settle(m, SETTLE_BURY, 0);
}

void
queue_settled(struct queue *q, struct message *m, const struct error *err)
{
	BUG_ON(m->state != MESSAGE_SETTLING || m->receipt_data != NULL);
	BUG_ON(err != NULL && err->class == ERROR_NONE);
	q->nsettling--;
	message_free(m);
}

void
queue_extended(struct queue *q, struct message *m, uint64_t until_us)
{
	(void)q;
	(void)m;
	(void)until_us;
	BUG("it has no leases");
}

void
queue_drop_receipts(struct queue *q,
    bool (*matches)(const struct message *, void *arg), void *arg)
{
	(void)q;
	for (unsigned i = 0; i < w.nheld; i++) {
		BUG_ON(!matches(w.held[i], arg));
		BUG_ON(w.held[i]->receipt_data != NULL);
		message_free(w.held[i]);
	}
	w.nheld = 0;
}

void
queue_backlog(struct queue *q, const struct backlog *b)
{
	(void)q;
	(void)b;
}

void
queue_stopped(struct queue *q)
{
	BUG_ON(w.stopped || q->nsettling != 0);
	w.stopped = true;
}

/* Only when the input says so. */
uint64_t
queue_reconnect_delay_us(unsigned failures)
{
	(void)failures;
	return 86400 * USEC_PER_SEC;
}

static void
on_item(struct dead_walk *walk, const struct dead_item *item,
    const struct error *err)
{
	struct buffer b = BUFFER_INIT;

	BUG_ON(!w.walk_asked || walk != &w.walk);
	BUG_ON(item != NULL && err != NULL);
	w.walk_asked = false;
	w.walk_item = item != NULL;
	if (item != NULL) {
		/* All of it can be read. */
		buffer_add_slice(&b, item->id);
		buffer_add_slice(&b, item->name);
		buffer_add_slice(&b, item->error_type);
		buffer_add_slice(&b, item->detail);
		buffer_add_slice(&b, item->body);
		for (size_t i = 0; i < item->nattributes; i++)
			buffer_add_slice(&b, item->attributes[i].value);
	}
	buffer_done(&b);
}

static void
on_acted(struct dead_walk *walk, const struct error *err)
{
	(void)err;
	BUG_ON(!w.walk_asked || walk != &w.walk);
	w.walk_asked = false;
	w.walk_item = false;
}

static void
on_enqueued(struct enqueue_job *job, struct slice id, const struct error *err)
{
	struct enqueued *e = job->owner;

	BUG_ON(!e->open || (err == NULL) == (id.n == 0));
	e->open = false;
}

/* ---- the input ---- */

static unsigned
take8(void)
{
	if (w.in.n == 0)
		return 0;
	w.in.n--;
	return (unsigned char)*w.in.p++;
}

static struct slice
take(size_t n)
{
	struct slice s = { w.in.p, MIN(n, w.in.n) };

	w.in.p += s.n;
	w.in.n -= s.n;
	return s;
}

/* ---- the broker ---- */

static bool
waits_for(const struct rabbit_channel *ch, amqp_method_number_t answer)
{
	for (unsigned i = 0; i < ch->ncalls; i++)
		if (ch->call[i].answer == answer)
			return true;
	return false;
}

/* What a channel is on its way to, somebody waits for. */
static void
check_channels(const struct rabbit_conn *c)
{
	for (unsigned i = 1; i < RABBIT_CHANNELS; i++) {
		const struct rabbit_channel *ch = &c->channel[i];

		BUG_ON(ch->state == CHANNEL_CLOSED && ch->ncalls != 0);
		BUG_ON(ch->state == CHANNEL_OPENING &&
		    !waits_for(ch, AMQP_CHANNEL_OPEN_OK_METHOD));
		BUG_ON(ch->state == CHANNEL_CLOSING &&
		    !waits_for(ch, AMQP_CHANNEL_CLOSE_OK_METHOD));
	}
}

static void
run(void)
{
	for (unsigned i = 0; i < TURNS_MAX; i++) {
		int ran = loop_turn(w.loop, 0);

		peer_listen(&w.peer[0]);
		peer_listen(&w.peer[1]);
		check_channels(w.peer[0].conn);
		check_channels(w.peer[1].conn);
		if (ran == 0)
			return;
	}
	BUG("the loop never gets idle");
}

static void
answer_both(unsigned rounds)
{
	while (rounds-- != 0) {
		peer_answer(&w.peer[0], w.q.prefetch != 0);
		peer_answer(&w.peer[1], w.q.prefetch != 0);
		run();
	}
}

/* ---- connections ---- */

static void
attach_both(void)
{
	w.rq->state = RABBIT_CONNECTING;
	w.lied = false;
	peer_attach(&w.peer[0], w.loop);
	peer_attach(&w.peer[1], w.loop);
	run();
}

/* ---- steps ---- */

/* May a broker that keeps to the protocol say this now? */
static void
honest(bool yes)
{
	if (!yes)
		w.lied = true;
}

static bool
channel_is(const struct peer *p, unsigned channel,
    enum rabbit_channel_state state)
{
	return p->conn->state == CONN_OPEN && channel < RABBIT_CHANNELS &&
	    p->conn->channel[channel].state == state;
}

static bool
is_unconfirmed(uint64_t sequence)
{
	struct list *l;

	list_foreach(l, &w.rq->unconfirmed)
		if (list_entry(l, struct rabbit_job, link)->sequence ==
		    sequence)
			return true;
	return false;
}

static struct peer *
take_peer(unsigned *ret_channel)
{
	unsigned n = take8();

	*ret_channel = n >> 1 & 15;
	return &w.peer[n & 1];
}

static void
step_deliver(void)
{
	struct buffer b = BUFFER_INIT;
	unsigned flags = take8();
	struct slice properties = take(take8());
	struct slice body = take(flags & 15);

	honest((w.rq->consumer.state == CONSUMER_ON ||
	    w.rq->consumer.state == CONSUMER_CANCELLING) &&
	    (flags & 16) == 0);
	put_text(&b, (flags & 16) != 0 ? SLICE("another") :
	    slice_of(w.rq->consumer.tag));
	put32(&b, 0);
	put32(&b, take8());
	put8(&b, flags >> 5 & 1);
	put_text(&b, SLICE("ex"));
	put_text(&b, SLICE("key"));
	peer_say_method(&w.peer[0], 1, AMQP_BASIC_DELIVER_METHOD, buffer_slice(&b));
	peer_say_content(&w.peer[0], 1, properties, body);
	buffer_done(&b);
}

static void
step_got(void)
{
	struct buffer b = BUFFER_INIT;
	unsigned n = take8();
	struct slice properties = take(take8());
	const struct rabbit_channel *ch = &w.peer[1].conn->channel[2 + n % 2];

	honest(channel_is(&w.peer[1], ch->number, CHANNEL_OPEN) &&
	    ch->ncalls != 0 && ch->call[0].answer == AMQP_BASIC_GET_OK_METHOD);
	put32(&b, 0);
	put32(&b, n);
	put8(&b, n & 1);
	put_text(&b, SLICE(""));
	put_text(&b, SLICE("jobs.dead"));
	put32(&b, n >> 4);
	peer_say_method(&w.peer[1], 2 + n % 2, AMQP_BASIC_GET_OK_METHOD,
	    buffer_slice(&b));
	peer_say_content(&w.peer[1], 2 + n % 2, properties, take(n & 15));
	buffer_done(&b);
}

static void
step_confirm(void)
{
	struct buffer b = BUFFER_INIT;
	unsigned n = take8();

	honest(is_unconfirmed(n & 15));
	put32(&b, 0);
	put32(&b, n & 15);
	put8(&b, n >> 6 & 1);
	peer_say_method(&w.peer[1], 1, (n & 128) != 0 ? AMQP_BASIC_NACK_METHOD :
	    AMQP_BASIC_ACK_METHOD, buffer_slice(&b));
	buffer_done(&b);
}

/* Of that publish; on any channel. */
static void
step_return(void)
{
	struct buffer b = BUFFER_INIT;
	unsigned n = take8();

	honest(n >> 6 == 0 && is_unconfirmed(n & 15));
	put16(&b, 312);
	put_text(&b, SLICE("NO_ROUTE"));
	put_text(&b, SLICE(""));
	put_text(&b, SLICE("q"));
	peer_say_method(&w.peer[1], 1 + (n >> 6), AMQP_BASIC_RETURN_METHOD,
	    buffer_slice(&b));
	buffer_clear(&b);
	put16(&b, AMQP_BASIC_HEADERS_FLAG);
	put32(&b, 15);
	put_text(&b, SLICE("bot-sequence"));
	put8(&b, AMQP_FIELD_KIND_U8);
	put8(&b, n & 15);
	peer_say_content(&w.peer[1], 1 + (n >> 6), buffer_slice(&b), SLICE("x"));
	buffer_done(&b);
}

static void
step_close(void)
{
	static const uint16_t codes[] = { 200, 320, 403, 404, 406, 501, 530,
		541 };
	struct buffer b = BUFFER_INIT;
	unsigned channel;
	struct peer *p = take_peer(&channel);
	unsigned n = take8(), code = codes[n % ARRAY_SIZE(codes)];

	/* Others have a name, and some are named a violation. */
	honest(channel_is(p, channel, CHANNEL_CLOSING) ||
	    (code == AMQP_NOT_FOUND && channel_is(p, channel, CHANNEL_OPEN) &&
	    p->conn->channel[channel].expendable));
	put16(&b, code);
	put_text(&b, take(n >> 4));
	put32(&b, 0);
	peer_say_method(p, channel, channel == 0 ? AMQP_CONNECTION_CLOSE_METHOD :
	    AMQP_CHANNEL_CLOSE_METHOD, buffer_slice(&b));
	buffer_done(&b);
}

static void
step_settle(void)
{
	static const enum settlement_kind kinds[] = { SETTLE_ACK, SETTLE_RETRY,
		SETTLE_BURY, SETTLE_RELEASE };
	unsigned n = take8();
	struct message *m;

	if (w.nheld == 0)
		return;
	n %= w.nheld;
	m = w.held[n];
	w.held[n] = w.held[--w.nheld];
	n = take8();
	settle(m, kinds[n & 3], n >> 2);
}

static void
step_enqueue(void)
{
	unsigned n = take8();
	struct enqueued *e = &w.enqueued[n % ENQUEUED_MAX];

	if (e->open)
		return;
	e->attribute = (struct attribute){
		.name = (n & 16) != 0 ? SLICE("type") : SLICE("colour"),
		.value = SLICE("blue"),
	};
	e->job = (struct enqueue_job){
		.body = SLICE("body"),
		.attributes = &e->attribute,
		.nattributes = n >> 7,
		.done = on_enqueued,
		.owner = e,
	};
	e->open = true;
	w.q.type->ops->enqueue(&w.q, &e->job);
}

static void
close_walk(void)
{
	if (!w.walk_open)
		return;
	w.walk_open = w.walk_asked = w.walk_item = false;
	w.q.type->ops->dead_close(&w.q, &w.walk);
}

static void
step_walk(void)
{
	const struct queue_ops *ops = w.q.type->ops;
	unsigned n = take8();

	if (!w.walk_open) {
		w.walk = (struct dead_walk){ .queue = &w.q,
		    .on_item = on_item, .on_acted = on_acted };
		w.walk_open = true;
		ops->dead_open(&w.q, &w.walk);
	}
	if ((n & 3) == 3) {
		close_walk();
	} else if (!w.walk_asked && w.walk_item && (n & 3) != 0) {
		w.walk_asked = true;
		ops->dead_act(&w.q, &w.walk, (n & 3) == 1 ? DEAD_REDRIVE :
		    DEAD_PURGE);
	} else if (!w.walk_asked) {
		w.walk_asked = true;
		w.walk_item = false;
		ops->dead_next(&w.q, &w.walk);
	}
}

static void
step_frame(void)
{
	unsigned channel;
	struct peer *p = take_peer(&channel);
	unsigned type = take8() & 15;
	struct slice payload = take(take8());

	honest(false);
	peer_say_frame(p, type, channel, payload);
}

static void
step_bytes(void)
{
	unsigned channel;
	struct peer *p = take_peer(&channel);

	honest(false);
	peer_say(p, take(take8()));
}

static void
step_blocked(void)
{
	unsigned n = take8();
	struct buffer b = BUFFER_INIT;

	honest(w.peer[n & 1].conn->state == CONN_OPEN);
	put_text(&b, take(n >> 2));
	peer_say_method(&w.peer[n & 1], 0, (n & 2) != 0 ?
	    AMQP_CONNECTION_UNBLOCKED_METHOD : AMQP_CONNECTION_BLOCKED_METHOD,
	    (n & 2) != 0 ? SLICE("") : buffer_slice(&b));
	buffer_done(&b);
}

static void
step_time(void)
{
	static const uint64_t spans[] = { USEC_PER_MSEC, 10 * USEC_PER_MSEC,
		100 * USEC_PER_MSEC, USEC_PER_SEC, 3 * USEC_PER_SEC,
		12 * USEC_PER_SEC, 40 * USEC_PER_SEC };

	run();
	clock_advance(spans[take8() % ARRAY_SIZE(spans)]);
}

static void
stop(void)
{
	if (w.q.stopping)
		return;
	/* The engine settles all before. */
	while (w.nheld != 0)
		settle(w.held[--w.nheld], SETTLE_RELEASE, 0);
	w.q.stopping = true;
	w.q.type->ops->stop(&w.q);
}

static void
step_on_the_wire(unsigned kind)
{
	unsigned channel;

	switch (kind) {
	case 0:
		answer_both(1);
		break;
	case 1:
		step_bytes();
		break;
	case 2:
		step_frame();
		break;
	case 3:
		step_deliver();
		break;
	case 4:
		step_confirm();
		break;
	case 5:
		step_return();
		break;
	case 6:
		step_got();
		break;
	case 7:
		step_close();
		break;
	case 8:
		step_blocked();
		break;
	default:
		peer_hang_up(take_peer(&channel));
		break;
	}
}

static void
step_of_the_engine(unsigned kind)
{
	const struct queue_ops *ops = w.q.type->ops;

	switch (kind) {
	case 10:
		if (!w.q.stopping)
			ops->credit(&w.q, take8());
		break;
	case 11:
		step_settle();
		break;
	case 12:
		ops->probe(&w.q);
		break;
	case 13:
		step_enqueue();
		break;
	case 14:
		step_walk();
		break;
	case 15:
		step_time();
		break;
	case 16:
		if (w.rq->state == RABBIT_DOWN && !w.q.stopping) {
			timer_cancel(w.loop, &w.rq->reconnect_timer);
			attach_both();
		}
		break;
	case 17:
		answer_both(12);
		break;
	case 18:
		stop();
		break;
	}
}

/* ---- a world ---- */

static struct config *
config(unsigned kind)
{
	static const struct config_kind *const schema[] = { &engine_queue_kind,
		&rabbitmq_queue_kind, NULL };
	static const char *const texts[] = {
		"Declare=quorum\n", "Declare=no\nBackoff=1s-5s\n",
		"Declare=classic\nPrefetch=3\n", "Declare=no\nPrefetch=1\n",
	};
	static struct config *made[ARRAY_SIZE(texts)];
	char *text;

	if (made[kind] == NULL) {
		text = xasprintf("[Queue jobs]\nType=rabbitmq\nName=jobs\n%s",
		    texts[kind]);
		made[kind] = config_load_text("test.conf", text, schema);
		free(text);
		if (config_problems(made[kind]) != 0)
			BUG("%s", config_problem_text(made[kind], 0));
	}
	return made[kind];
}

static void
begin(unsigned flags)
{
	static char name[] = "jobs";
	const struct config_section *s;

	w.q.config = config(flags & 3);
	w.q.section = s = config_find(w.q.config, "Queue", "jobs");
	w.q.name = name;
	w.q.type = &rabbitmq_queue_type;
	w.q.loop = w.loop;
	config_range(s, "Backoff", &w.q.backoff_min_us, &w.q.backoff_max_us);
	w.q.prefetch = (unsigned)config_unsigned(s, "Prefetch");
	w.q.max_bytes = config_bytes(s, "MaxBytes");
	if (w.q.type->ops->init(&w.q, w.q.config, s) != 0)
		BUG("init");
	w.rq = rabbit_of(&w.q);
	w.peer[0] = (struct peer){ .conn = &w.rq->consumer_conn, .fd = -1 };
	w.peer[1] = (struct peer){ .conn = &w.rq->publisher_conn, .fd = -1 };
	attach_both();
	if ((flags & 4) == 0)
		return;
	/* As far as most of it is: up, and consuming. */
	answer_both(20);
	w.q.type->ops->credit(&w.q, 10);
	run();
	answer_both(4);
}

static void
end(void)
{
	stop();
	run();
	clock_advance(RABBIT_STOP_US);
	run();
	BUG_ON(!w.stopped || w.q.nsettling != 0);
	close_walk();
	run();
	for (size_t i = 0; i < ENQUEUED_MAX; i++)
		BUG_ON(w.enqueued[i].open);
	w.q.type->ops->fini(&w.q);
	for (size_t i = 0; i < ARRAY_SIZE(w.peer); i++) {
		peer_hang_up(&w.peer[i]);
		buffer_done(&w.peer[i].heard);
	}
	loop_free(w.loop);
	BUG_ON(message_count() != 0);
	clock_set_real();
}

static void
nothing(void *owner, enum log_level level, const struct log_fields *fields,
    const char *text)
{
	(void)owner;
	(void)level;
	(void)fields;
	(void)text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	log_tap(nothing, NULL);
	log_tap_exclusive(true);
	random_seed(1);
	clock_set_virtual(START_US, UINT64_C(1795449600) * USEC_PER_SEC);
	memset(&w, 0, sizeof(w));
	w.in = (struct slice){ (const char *)data + 1, size - 1 };
	if (loop_new(&w.loop) < 0)
		BUG("loop");
	begin(data[0]);
	for (unsigned i = 0; i < STEPS_MAX && w.in.n != 0 && !w.stopped; i++) {
		unsigned step = take8();
		unsigned kind = (step & 31) % 19;

		/* What the broker knows must not be stale, but of content. */
		if ((step & 128) != 0 && kind < 10)
			honest(kind == 3);
		if (kind < 10)
			step_on_the_wire(kind);
		else
			step_of_the_engine(kind);
		/* Else it comes together with the next one's. */
		if ((step & 128) == 0)
			run();
	}
	end();
	return 0;
}
