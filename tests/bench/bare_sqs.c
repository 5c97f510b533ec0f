/*
 * bare_sqs.c - the bare cost: N connections that receive ten messages and
 * delete them, each a thread that waits for every answer, and nothing else.
 *
 *	bare_sqs PORT QUEUE-URL CONNECTIONS MESSAGES
 *
 * Plain HTTP to 127.0.0.1, connections kept, the headers always the same, no
 * signature, no JSON parser: receipt handles are found by their name.  Prints
 * messages, seconds and its own CPU seconds.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX	(1u << 20)
#define BATCH		10
#define HANDLE_MAX	1024

static uint16_t port;
static const char *queue_url;
static unsigned long want;
static atomic_ulong done;
static double end;		/* when the last was deleted */

struct client {
	pthread_t thread;
	int fd;
	char request[BATCH * (HANDLE_MAX + 64) + 2048];
	char answer[ANSWER_MAX + 1];
};

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
	fprintf(stderr, "bare_sqs: %s\n", what);
	exit(1);
}

static void
start(struct client *c)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("cannot connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

/* The body of the answer. */
static char *
ask(struct client *c, const char *operation, const char *body)
{
	size_t n, got = 0;
	unsigned long length = 0;
	char *tail = NULL, *found;

	n = (size_t)snprintf(c->request, sizeof(c->request),
	    "POST / HTTP/1.1\r\n"
	    "Host: 127.0.0.1\r\n"
	    "X-Amz-Target: AmazonSQS.%s\r\n"
	    "Content-Type: application/x-amz-json-1.0\r\n"
	    "X-Amz-Date: 20260101T000000Z\r\n"
	    "Authorization: AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/"
	    "eu-west-1/sqs/aws4_request, SignedHeaders=content-type;host;"
	    "x-amz-date;x-amz-target, Signature=0000000000000000000000000000"
	    "000000000000000000000000000000000000\r\n"
	    "Content-Length: %zu\r\n\r\n%s", operation, strlen(body), body);
	if (n >= sizeof(c->request))
		die("the request is too long");
	for (size_t sent = 0; sent < n;) {
		ssize_t k = write(c->fd, c->request + sent, n - sent);

		if (k <= 0)
			die("cannot write");
		sent += (size_t)k;
	}
	while (tail == NULL || got < (size_t)(tail - c->answer) + length) {
		ssize_t k = read(c->fd, c->answer + got, ANSWER_MAX - got);

		if (k <= 0)
			die("the answer ended early");
		got += (size_t)k;
		c->answer[got] = '\0';
		if (tail != NULL || (tail = strstr(c->answer, "\r\n\r\n")) == NULL)
			continue;
		tail += 4;
		found = strcasestr(c->answer, "\r\ncontent-length:");
		if (found == NULL || found > tail)
			die("an answer without a length");
		length = strtoul(found + 17, NULL, 10);
	}
	if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0) {
		fprintf(stderr, "%s\n", c->answer);
		die(operation);
	}
	return tail;
}

static void *
run(void *arg)
{
	static const char key[] = "\"ReceiptHandle\":\"";
	struct client *c = arg;
	char receive[1024], delete[BATCH * (HANDLE_MAX + 64) + 1024];

	snprintf(receive, sizeof(receive), "{\"QueueUrl\":\"%s\","
	    "\"MaxNumberOfMessages\":%d,\"WaitTimeSeconds\":1,"
	    "\"MessageSystemAttributeNames\":[\"All\"],"
	    "\"MessageAttributeNames\":[\"All\"],\"VisibilityTimeout\":60}",
	    queue_url, BATCH);
	while (atomic_load(&done) < want) {
		char *p = ask(c, "ReceiveMessage", receive), *q;
		unsigned long got = 0;
		size_t n;

		n = (size_t)snprintf(delete, sizeof(delete),
		    "{\"QueueUrl\":\"%s\",\"Entries\":[", queue_url);
		while (got < BATCH && (p = strstr(p, key)) != NULL) {
			p += sizeof(key) - 1;
			q = strchr(p, '"');
			if (q == NULL || q - p > HANDLE_MAX)
				die("a receipt handle that is none");
			n += (size_t)snprintf(delete + n, sizeof(delete) - n,
			    "%s{\"Id\":\"%lu\",\"ReceiptHandle\":\"%.*s\"}",
			    got == 0 ? "" : ",", got, (int)(q - p), p);
			got++;
			p = q;
		}
		if (got == 0)
			continue;
		snprintf(delete + n, sizeof(delete) - n, "]}");
		ask(c, "DeleteMessageBatch", delete);
		if (atomic_fetch_add(&done, got) + got == want)
			end = now();
	}
	close(c->fd);
	return NULL;
}

int
main(int argc, char **argv)
{
	struct client *clients;
	unsigned n;
	double begin;

	if (argc != 5) {
		fprintf(stderr, "usage: bare_sqs PORT QUEUE-URL CONNECTIONS "
		    "MESSAGES\n");
		return 2;
	}
	port = (uint16_t)atoi(argv[1]);
	queue_url = argv[2];
	n = (unsigned)atoi(argv[3]);
	want = strtoul(argv[4], NULL, 10);
	clients = calloc(n, sizeof(*clients));
	if (clients == NULL || n == 0)
		die("no connections");
	for (unsigned i = 0; i < n; i++)
		start(&clients[i]);
	begin = now();
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&clients[i].thread, NULL, run,
		    &clients[i]) != 0)
			die("cannot start a thread");
	for (unsigned i = 0; i < n; i++)
		pthread_join(clients[i].thread, NULL);
	printf("%lu %.6f %.6f\n", atomic_load(&done), end - begin, cpu());
	free(clients);
	return 0;
}
