/*
 * bare_redis.c - the bare cost: reads a stream's entries and acknowledges
 * them in batches with hiredis' blocking API, and does nothing else.
 *
 *	bare_redis SOCKET KEY GROUP BATCH MESSAGES
 *
 * Prints messages, seconds and its own CPU seconds.
 */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

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

static redisReply *
must(redisContext *c, void *reply)
{
	redisReply *r = reply;

	if (r == NULL || r->type == REDIS_REPLY_ERROR) {
		fprintf(stderr, "bare_redis: %s\n", r != NULL ? r->str :
		    c->errstr);
		exit(1);
	}
	return r;
}

int
main(int argc, char **argv)
{
	unsigned long batch, want, done = 0;
	const char **ack;
	size_t *len;
	redisContext *c;
	double start;

	if (argc != 6) {
		fprintf(stderr, "usage: bare_redis SOCKET KEY GROUP BATCH "
		    "MESSAGES\n");
		return 2;
	}
	batch = strtoul(argv[4], NULL, 10);
	want = strtoul(argv[5], NULL, 10);
	ack = calloc(batch + 3, sizeof(*ack));
	len = calloc(batch + 3, sizeof(*len));
	c = redisConnectUnix(argv[1]);
	if (ack == NULL || len == NULL || c == NULL || c->err != 0)
		return 1;
	ack[0] = "XACK";
	ack[1] = argv[2];
	ack[2] = argv[3];
	for (int i = 0; i < 3; i++)
		len[i] = strlen(ack[i]);
	start = now();
	while (done < want) {
		redisReply *r = must(c, redisCommand(c, "XREADGROUP GROUP %s "
		    "bare COUNT %lu BLOCK 1000 STREAMS %s >", argv[3], batch,
		    argv[2]));
		redisReply *entries;

		if (r->type != REDIS_REPLY_ARRAY) {
			fprintf(stderr, "bare_redis: the stream ran dry at "
			    "%lu\n", done);
			return 1;
		}
		entries = r->element[0]->element[1];
		for (size_t i = 0; i < entries->elements; i++) {
			ack[3 + i] = entries->element[i]->element[0]->str;
			len[3 + i] = entries->element[i]->element[0]->len;
		}
		freeReplyObject(must(c, redisCommandArgv(c,
		    (int)(3 + entries->elements), ack, len)));
		done += entries->elements;
		freeReplyObject(r);
	}
	printf("%lu %.6f %.6f\n", done, now() - start, cpu());
	redisFree(c);
	free(ack);
	free(len);
	return 0;
}
