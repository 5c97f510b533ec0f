/*
 * bare_pubsub.c - the bare cost: one StreamingPull, and the acknowledgement of
 * what it brings in calls of up to 1000 ids on the same connection, with
 * nghttp2 and protobuf-c, a blocking socket and poll, and nothing else.
 *
 *	bare_pubsub PORT SUBSCRIPTION OUTSTANDING BATCH MESSAGES
 *
 * Plaintext HTTP/2 to 127.0.0.1, as of an emulator.  A call goes out for BATCH
 * messages, or for fewer when nothing came for a millisecond.  Prints
 * messages, seconds, its own CPU seconds and the number of those calls.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>

#include "codec/pubsub.pb-c.h"

#define BATCH_MAX	1000
#define ACK_ID_MAX	256
#define PREFIX		5	/* of a gRPC message: compressed, length */
#define READ_MAX	(256u << 10)
#define WINDOW		(16 << 20)
#define LEASE_SECONDS	60
#define PAUSE_MS	1
#define PATIENCE_MS	20000

/* A body that is being sent, or received. */
struct body {
	uint8_t *bytes;
	size_t length, size, sent;
	bool open;		/* more is written later: not the end */
	size_t ids;		/* that it acknowledges */
};

static nghttp2_session *session;
static int fd;
static char *subscription;
static unsigned long done, calls;
static int32_t pull_id;
static struct body *pull_out, pull_in;
static bool failed;

/* Ids that are not yet in a call. */
static uint8_t ids[BATCH_MAX * ACK_ID_MAX];
static ProtobufCBinaryData waiting[BATCH_MAX];
static size_t batch, n_waiting, ids_used;

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
die(const char *what)
{
	fprintf(stderr, "bare_pubsub: %s\n", what);
	exit(1);
}

/* ---- requests ---- */

static struct body *
frame(const ProtobufCMessage *message, bool open)
{
	struct body *b = calloc(1, sizeof(*b));
	size_t n = protobuf_c_message_get_packed_size(message);

	if (b == NULL || (b->bytes = malloc(PREFIX + n)) == NULL)
		die("no memory");
	b->bytes[0] = 0;
	for (int i = 0; i < 4; i++)
		b->bytes[1 + i] = (uint8_t)(n >> (24 - 8 * i));
	protobuf_c_message_pack(message, b->bytes + PREFIX);
	b->length = PREFIX + n;
	b->open = open;
	return b;
}

static ssize_t
on_read_body(nghttp2_session *s, int32_t id, uint8_t *out, size_t max,
    uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct body *b = source->ptr;
	size_t n = b->length - b->sent < max ? b->length - b->sent : max;

	(void)s, (void)id, (void)arg;
	if (n == 0 && b->open)
		return NGHTTP2_ERR_DEFERRED;
	memcpy(out, b->bytes + b->sent, n);
	b->sent += n;
	if (b->sent == b->length && !b->open)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static int32_t
call(const char *path, struct body *b)
{
#define HEADER(n, v) { (uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), \
	NGHTTP2_NV_FLAG_NONE }
	nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "http"),
		HEADER(":path", path),
		HEADER(":authority", "127.0.0.1"),
		HEADER("content-type", "application/grpc"),
		HEADER("te", "trailers"),
	};
	nghttp2_data_provider provider = {
		.source.ptr = b,
		.read_callback = on_read_body,
	};
	int32_t id = nghttp2_submit_request(session, NULL, headers,
	    sizeof(headers) / sizeof(headers[0]), &provider, b);

	if (id < 0)
		die("cannot make a request");
	return id;
}

static void
start_pull(long outstanding)
{
	Google__Pubsub__V1__StreamingPullRequest r =
	    GOOGLE__PUBSUB__V1__STREAMING_PULL_REQUEST__INIT;

	r.subscription = subscription;
	r.stream_ack_deadline_seconds = LEASE_SECONDS;
	r.client_id = (char *)"bare";
	r.max_outstanding_messages = outstanding;
	pull_out = frame(&r.base, true);
	pull_id = call("/google.pubsub.v1.Subscriber/StreamingPull", pull_out);
}

static void
acknowledge(void)
{
	Google__Pubsub__V1__AcknowledgeRequest r =
	    GOOGLE__PUBSUB__V1__ACKNOWLEDGE_REQUEST__INIT;
	struct body *b;

	r.subscription = subscription;
	r.n_ack_ids = n_waiting;
	r.ack_ids = waiting;
	b = frame(&r.base, false);
	b->ids = n_waiting;
	call("/google.pubsub.v1.Subscriber/Acknowledge", b);
	calls++;
	n_waiting = ids_used = 0;
}

/* ---- answers ---- */

static void
received(const uint8_t *bytes, size_t n)
{
	Google__Pubsub__V1__StreamingPullResponse *r =
	    google__pubsub__v1__streaming_pull_response__unpack(NULL, n, bytes);

	if (r == NULL)
		die("a response that cannot be decoded");
	for (size_t i = 0; i < r->n_received_messages; i++) {
		ProtobufCBinaryData id = r->received_messages[i]->ack_id;

		if (id.len > ACK_ID_MAX)
			die("an acknowledgement id is longer than expected");
		memcpy(ids + ids_used, id.data, id.len);
		waiting[n_waiting].data = ids + ids_used;
		waiting[n_waiting++].len = id.len;
		ids_used += id.len;
		if (n_waiting == batch)
			acknowledge();
	}
	google__pubsub__v1__streaming_pull_response__free_unpacked(r, NULL);
}

static int
on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *bytes,
    size_t n, void *arg)
{
	struct body *b = &pull_in;
	size_t at = 0;

	(void)s, (void)flags, (void)arg;
	if (id != pull_id)
		return 0;
	if (b->length + n > b->size) {
		b->size = 2 * (b->length + n);
		b->bytes = realloc(b->bytes, b->size);
		if (b->bytes == NULL)
			die("no memory");
	}
	memcpy(b->bytes + b->length, bytes, n);
	b->length += n;
	while (b->length - at >= PREFIX) {
		const uint8_t *p = b->bytes + at;
		size_t k = (size_t)p[1] << 24 | (size_t)p[2] << 16 |
		    (size_t)p[3] << 8 | p[4];

		if (b->length - at - PREFIX < k)
			break;
		received(p + PREFIX, k);
		at += PREFIX + k;
	}
	memmove(b->bytes, b->bytes + at, b->length - at);
	b->length -= at;
	return 0;
}

static int
on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
    size_t name_length, const uint8_t *value, size_t n, uint8_t flags,
    void *arg)
{
	(void)s, (void)f, (void)flags, (void)arg;
	if (name_length == 11 && memcmp(name, "grpc-status", 11) == 0 &&
	    !(n == 1 && value[0] == '0')) {
		fprintf(stderr, "bare_pubsub: grpc-status %.*s\n", (int)n,
		    (const char *)value);
		failed = true;
	}
	return 0;
}

static int
on_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg)
{
	struct body *b = nghttp2_session_get_stream_user_data(s, id);

	(void)arg;
	if (error != 0)
		failed = true;
	if (id == pull_id) {		/* main frees that */
		failed = true;
		return 0;
	}
	done += b->ids;
	free(b->bytes);
	free(b);
	return 0;
}

/* ---- the socket ---- */

static void
start(uint16_t port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};
	nghttp2_session_callbacks *callbacks;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("cannot connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		die("no memory");
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
	    on_data);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
	    on_close);
	if (nghttp2_session_client_new(&session, callbacks, NULL) != 0 ||
	    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 2) ||
	    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
	    WINDOW) != 0)
		die("no HTTP/2 session");
	nghttp2_session_callbacks_del(callbacks);
}

static void
send_all(void)
{
	const uint8_t *bytes;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(session, &bytes)) > 0)
		for (ssize_t sent = 0; sent < n;) {
			ssize_t k = write(fd, bytes + sent,
			    (size_t)(n - sent));

			if (k <= 0)
				die("cannot write");
			sent += k;
		}
	if (n < 0)
		die("cannot send");
}

/* false: nothing came in that time. */
static bool
read_some(int timeout_ms)
{
	static uint8_t bytes[READ_MAX];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, timeout_ms) == 0)
		return false;
	n = read(fd, bytes, sizeof(bytes));
	if (n <= 0)
		die("the connection ended early");
	if (nghttp2_session_mem_recv(session, bytes, (size_t)n) != n)
		die("this is no HTTP/2");
	return true;
}

int
main(int argc, char **argv)
{
	unsigned long want, outstanding;
	double begin;

	if (argc != 6) {
		fprintf(stderr, "usage: bare_pubsub PORT SUBSCRIPTION "
		    "OUTSTANDING BATCH MESSAGES\n");
		return 2;
	}
	subscription = argv[2];
	outstanding = strtoul(argv[3], NULL, 10);
	batch = strtoul(argv[4], NULL, 10);
	want = strtoul(argv[5], NULL, 10);
	if (batch == 0 || batch > BATCH_MAX || batch > outstanding)
		die("BATCH is from 1 to 1000, and to OUTSTANDING");
	start((uint16_t)atoi(argv[1]));
	begin = now();
	start_pull((long)outstanding);
	while (done < want) {
		send_all();
		if (!read_some(n_waiting > 0 ? PAUSE_MS : PATIENCE_MS)) {
			if (n_waiting == 0)
				die("nothing comes");
			acknowledge();
		}
		if (failed)
			die("a call failed");
	}
	printf("%lu %.6f %.6f %lu\n", done, now() - begin, cpu(), calls);
	free(pull_in.bytes);
	free(pull_out->bytes);
	free(pull_out);
	nghttp2_session_del(session);
	close(fd);
	return 0;
}
