/*
 * rabbit_rig.h - the RabbitMQ queue on a real rabbitmq-server of its own.
 *
 * The server takes 5 s to start: one for a test program, with an epmd, ports
 * and a cookie of its own, all on loopback.  The test itself looks and acts
 * through a blocking connection of librabbitmq's (admin).
 */
#ifndef TESTS_RABBIT_RIG_H
#define TESTS_RABBIT_RIG_H

#include "queue_rig.h"

#include <amqp.h>
#include <amqp_framing.h>

#include "queue/rabbitmq.h"

#define RABBIT_BIN	"/usr/lib/rabbitmq/bin/"

struct server {
	pid_t pid, epmd;
	char dir[64];
	unsigned port, dist_port, epmd_port;
	amqp_connection_state_t admin;	/* channel 1 confirms, 2 may fail */
	uint64_t published;		/* on channel 1 */
};

/* ---- the server ---- */

extern struct server server;	/* pid 0 where there is no rabbitmq-server */

bool	server_exists(void);
void	server_kill(int signo);
void	server_again(void);	/* the same data and ports */
/*
 * Waits until a quorum queue survives kill -9: the list of them is written a
 * second after they are declared, and 3.10 loses, confirmed or not, what a
 * queue holds that it does not find there.
 */
void	server_remembers(const char *queue);
/*
 * The node evaluates an Erlang expression, which may not be {error, ...}; what
 * it said is in eval.log of the server's folder.  At once, where rabbitmqctl
 * would start an Erlang of its own for it.
 */
void	server_eval(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A user of the virtual host /, who may do what these expressions match. */
void	server_user(const char *name, const char *password);
void	server_allow(const char *name, const char *configure,
	    const char *write, const char *read);
void	server_no_user(const char *name);
/* Every connection, as an operator would; the test's own is there again. */
void	server_close_connections(void);
/* Connections that publish are blocked while it is set. */
void	server_memory_alarm(bool on);

/* Group fixtures. */
int	world_setup(void **state);
int	world_teardown(void **state);
/* Before each test: no queue is left of those that tests use. */
int	world_flush(void **state);

#define NEED_SERVER() \
	do { \
		if (server.pid == 0) { \
			print_message("no rabbitmq-server: skipped\n"); \
			skip(); \
		} \
	} while (0)

/* ---- what the test does at the broker ---- */

#define TEXT(k, v) \
	{ .key = { sizeof(k) - 1, (void *)(uintptr_t)(k) }, .value = { \
	    .kind = AMQP_FIELD_KIND_UTF8, .value.bytes = { sizeof(v) - 1, \
	    (void *)(uintptr_t)(v) } } }
#define NUMBER(k, n) \
	{ .key = { sizeof(k) - 1, (void *)(uintptr_t)(k) }, .value = { \
	    .kind = AMQP_FIELD_KIND_I64, .value.i64 = (n) } }
#define TABLE(entries) \
	((amqp_table_t){ (int)ARRAY_SIZE(entries), (entries) })
#define BYTES(s)	((amqp_bytes_t){ strlen(s), (void *)(uintptr_t)(s) })

enum durability { CLASSIC = 1, QUORUM };

/* Durable. */
void	declare(const char *queue, enum durability);
void	declare_with(const char *queue, amqp_table_t arguments);
/* As Declare= declares it. */
void	declare_delay(const char *queue, enum durability, int64_t ttl_ms,
	    const char *then);
/* A direct exchange, and the queue bound to it by that key. */
void	bind_exchange(const char *exchange, const char *queue,
	    const char *key);
void	delete_queue(const char *queue);
uint32_t purge(const char *queue);
/* Ready messages; -1 when there is no such queue. */
int64_t	count(const char *queue);
/* Waits for it, since a quorum queue says 0 while it has no leader. */
void	wait_count(const char *queue, int64_t n);
/* The same of the queue, its dead letters and its delays of 1s and 1min
   together. */
int64_t	everywhere(void);
void	wait_everywhere(int64_t n);
void	wait_at_least(int64_t n);	/* everywhere */
int64_t	consumers(const char *queue);
/* By rabbitmqctl, so seldom; a quorum queue's lags by half a second. */
int64_t	unacknowledged(const char *queue);

struct sending {
	const char *exchange;		/* NULL: the default one */
	const char *key;
	struct slice body;
	amqp_basic_properties_t properties;
};

/* Confirmed when they return; fails the test when it goes nowhere. */
void	publish_as(const struct sending *);
void	publish(const char *queue, const char *body);
void	produce(unsigned from, unsigned n);	/* "mN" into jobs */

struct got {
	bool there;
	char exchange[256], key[256];
	bool redelivered;
	amqp_message_t message;
};

/* Takes one out, acknowledged at once. */
bool	get(const char *queue, struct got *);
void	got_done(struct got *);
bool	got_body_is(const struct got *, const char *);
/* NULL when it has none of that name. */
const amqp_field_value_t *got_header(const struct got *, const char *name);
bool	got_text_is(const struct got *, const char *name, const char *value);
/* Of any integer kind; -1 when it is none. */
int64_t	got_number(const struct got *, const char *name);

/* ---- the queue ---- */

#define JOBS		"Name=jobs\n"

/* keys: the lines of the section beside Type= and Address=. */
struct rig *rabbit_new(const char *keys);
struct rig *rabbit_new_at(const char *address, const char *keys);
struct rig *up(const char *keys, unsigned window);
/* Declare= of that kind, and more keys ("" for none). */
struct rig *up_declaring(enum durability, const char *more, unsigned window);
size_t	rabbit_problem_count(const char *keys);
/* Cuts its connections; it comes down. */
void	sever(struct rig *);
/* Turns for a while in which nothing must happen. */
void	turn_for(struct rig *, uint64_t us);
/* The held ones are these, in this order: "mN" for each N; -1 at the end. */
void	assert_held(const struct rig *, const int *numbers);
/* A JSON value that equals this one. */
bool	attribute_equals(const struct message *, const char *name,
	    const char *json);
json_int_t status_number(struct rig *, const char *name);
/* A copy, valid until the next call; "null" when it is that. */
const char *status_text(struct rig *, const char *name);

/* The same with a classic and with a quorum queue. */
void	each_kind(void (*)(enum durability));

#endif
