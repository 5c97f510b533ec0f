/*
 * bare_rabbitmq.c - the bare cost: consumes and acknowledges in batches with
 * rabbitmq-c's blocking API, and does nothing else.
 *
 *	bare_rabbitmq PORT QUEUE consume PREFETCH BATCH MESSAGES
 *	bare_rabbitmq PORT QUEUE fill classic|quorum BYTES MESSAGES
 *
 * consume prints messages, seconds and its own CPU seconds.  fill declares the
 * queue, publishes persistent messages and waits for their confirms.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double
cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
must(amqp_rpc_reply_t r, const char *what)
{
	if (r.reply_type == AMQP_RESPONSE_NORMAL)
		return;
	fprintf(stderr, "bare_rabbitmq: %s failed (%d, %s)\n", what,
	    (int)r.reply_type, amqp_error_string2(r.library_error));
	exit(1);
}

static amqp_connection_state_t
login(const char *port)
{
	amqp_connection_state_t c = amqp_new_connection();
	amqp_socket_t *s = amqp_tcp_socket_new(c);

	if (s == NULL || amqp_socket_open(s, "127.0.0.1", atoi(port)) != 0) {
		fprintf(stderr, "bare_rabbitmq: cannot connect\n");
		exit(1);
	}
	must(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest",
	    "guest"), "login");
	amqp_channel_open(c, 1);
	must(amqp_get_rpc_reply(c), "channel.open");
	return c;
}

static int
consume(amqp_connection_state_t c, const char *queue, uint16_t prefetch,
    unsigned long batch, unsigned long want)
{
	unsigned long done = 0;
	double start;

	amqp_basic_qos(c, 1, 0, prefetch, 0);
	must(amqp_get_rpc_reply(c), "basic.qos");
	start = now();
	amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0,
	    0, 0, amqp_empty_table);
	must(amqp_get_rpc_reply(c), "basic.consume");
	while (done < want) {
		amqp_envelope_t e;

		amqp_maybe_release_buffers(c);
		must(amqp_consume_message(c, &e, &(struct timeval){ 20, 0 },
		    0), "basic.deliver");
		done++;
		if (done % batch == 0 || done == want)
			amqp_basic_ack(c, 1, e.delivery_tag, 1);
		amqp_destroy_envelope(&e);
	}
	/* Its answer comes when the acknowledgements were read. */
	amqp_channel_close(c, 1, AMQP_REPLY_SUCCESS);
	printf("%lu %.6f %.6f\n", done, now() - start, cpu());
	return 0;
}

static int
fill(amqp_connection_state_t c, const char *queue, const char *type,
    size_t bytes, unsigned long want)
{
	amqp_table_entry_t arg = {
		.key = amqp_cstring_bytes("x-queue-type"),
		.value = { .kind = AMQP_FIELD_KIND_UTF8,
		    .value.bytes = amqp_cstring_bytes(type) },
	};
	amqp_basic_properties_t p = {
		._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
	};
	char *body = malloc(bytes);
	uint64_t confirmed = 0;

	if (body == NULL)
		return 1;
	memset(body, 'x', bytes);
	amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0,
	    (amqp_table_t){ 1, &arg });
	must(amqp_get_rpc_reply(c), "queue.declare");
	amqp_confirm_select(c, 1);
	must(amqp_get_rpc_reply(c), "confirm.select");
	for (unsigned long i = 0; i < want; i++)
		if (amqp_basic_publish(c, 1, amqp_empty_bytes,
		    amqp_cstring_bytes(queue), 0, 0, &p,
		    (amqp_bytes_t){ bytes, body }) != AMQP_STATUS_OK)
			return 1;
	while (confirmed < want) {
		amqp_frame_t f;
		amqp_basic_ack_t *ack;

		amqp_maybe_release_buffers(c);
		if (amqp_simple_wait_frame(c, &f) != AMQP_STATUS_OK)
			return 1;
		if (f.frame_type != AMQP_FRAME_METHOD ||
		    f.payload.method.id != AMQP_BASIC_ACK_METHOD)
			continue;
		ack = f.payload.method.decoded;
		if (!ack->multiple)
			confirmed++;
		else if (ack->delivery_tag > confirmed)
			confirmed = ack->delivery_tag;
		if (ack->delivery_tag == want)
			break;
	}
	free(body);
	return 0;
}

int
main(int argc, char **argv)
{
	amqp_connection_state_t c;
	int r;

	if (argc != 7) {
		fprintf(stderr, "usage: bare_rabbitmq PORT QUEUE consume "
		    "PREFETCH BATCH MESSAGES | fill TYPE BYTES MESSAGES\n");
		return 2;
	}
	c = login(argv[1]);
	if (strcmp(argv[3], "fill") == 0)
		r = fill(c, argv[2], argv[4], strtoul(argv[5], NULL, 10),
		    strtoul(argv[6], NULL, 10));
	else
		r = consume(c, argv[2], (uint16_t)atoi(argv[4]),
		    strtoul(argv[5], NULL, 10), strtoul(argv[6], NULL, 10));
	amqp_connection_close(c, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(c);
	return r;
}
