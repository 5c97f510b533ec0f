/*
 * bot_handler.h - handlers for bot-operator's Exec= in C; all of it is here.
 *
 *	#include "bot_handler.h"
 *
 *	static void
 *	handle(struct bot_handler_message *m)
 *	{
 *		if (send_mail(m->body, m->body_len) < 0)
 *			bot_retry(m, -1, "external_api", "no answer");
 *	}						returning is "done"
 *
 *	int main(void) { return bot_handler_run(handle); }
 *
 * One message at a time.  It needs POSIX only.
 */
#ifndef BOT_HANDLER_H
#define BOT_HANDLER_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct bot_handler_message {
	uint64_t id;
	uint64_t timeout_ms;		/* 0: no limit */
	unsigned attempt;		/* 1 the first time */
	const char *queue;
	const char *attributes;		/* a JSON object; not terminated */
	size_t attributes_len;
	const char *body;		/* not terminated */
	size_t body_len;
	int answered;			/* private */
};

typedef void bot_handler_fn(struct bot_handler_message *);

struct bot_handler_bytes {
	char *p;
	size_t n, size;
};

static int bot_handler_fd = -1;
static struct bot_handler_bytes bot_handler_in, bot_handler_out;
static long long bot_handler_held_since_us;

static inline long long
bot_handler_now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline char *
bot_handler_reserve(struct bot_handler_bytes *b, size_t room)
{
	if (b->size - b->n < room) {
		size_t size = b->size * 2 > b->n + room ? b->size * 2 :
		    b->n + room;
		char *p = (char *)realloc(b->p, size);

		if (p == NULL) {
			fputs("bot_handler: out of memory\n", stderr);
			abort();
		}
		b->p = p;
		b->size = size;
	}
	return b->p + b->n;
}

static inline void
bot_handler_flush(void)
{
	size_t at = 0;

	while (at < bot_handler_out.n) {
		ssize_t n = write(bot_handler_fd, bot_handler_out.p + at,
		    bot_handler_out.n - at);

		if (n < 0 && errno != EINTR)
			exit(1);	/* the operator is gone */
		if (n > 0)
			at += (size_t)n;
	}
	bot_handler_out.n = 0;
}

static inline void
bot_handler_send(const char *line, const char *detail, size_t detail_len)
{
	size_t n = strlen(line);
	char *p = bot_handler_reserve(&bot_handler_out, n + detail_len);

	if (bot_handler_out.n == 0)
		bot_handler_held_since_us = bot_handler_now_us();
	memcpy(p, line, n);
	if (detail_len != 0)
		memcpy(p + n, detail, detail_len);
	bot_handler_out.n += n + detail_len;
}

/* A word without spaces, or "internal". */
static inline const char *
bot_handler_word(const char *type)
{
	return type != NULL && *type != '\0' && strlen(type) < 64 &&
	    strpbrk(type, " \t\r\n") == NULL ? type : "internal";
}

/* Try again; delay_ms -1: after the time that Backoff= says. */
static inline void
bot_retry(struct bot_handler_message *m, long long delay_ms,
    const char *error_type, const char *detail)
{
	size_t n = detail != NULL ? strnlen(detail, 4096) : 0;
	char line[160], delay[24] = "-";

	if (m->answered)
		return;
	m->answered = 1;
	if (delay_ms >= 0)
		snprintf(delay, sizeof(delay), "%lld", delay_ms);
	snprintf(line, sizeof(line), "RETRY %llu %s %s %zu\n",
	    (unsigned long long)m->id, delay, bot_handler_word(error_type), n);
	bot_handler_send(line, detail, n);
}

/* Never again: to the dead letters. */
static inline void
bot_dead(struct bot_handler_message *m, const char *error_type,
    const char *detail)
{
	size_t n = detail != NULL ? strnlen(detail, 4096) : 0;
	char line[160];

	if (m->answered)
		return;
	m->answered = 1;
	snprintf(line, sizeof(line), "DEAD %llu %s %zu\n",
	    (unsigned long long)m->id, bot_handler_word(error_type), n);
	bot_handler_send(line, detail, n);
}

/* Asks for so much time from now on. */
static inline void
bot_touch(const struct bot_handler_message *m, unsigned long long extend_ms)
{
	char line[64];

	snprintf(line, sizeof(line), "TOUCH %llu %llu\n",
	    (unsigned long long)m->id, extend_ms);
	bot_handler_send(line, NULL, 0);
	bot_handler_flush();
}

static inline void
bot_handler_one(bot_handler_fn *fn, struct bot_handler_message *m)
{
	char line[64];

	/* Answers may wait for each other, but not for a slow message. */
	if (bot_handler_out.n != 0 && (bot_handler_out.n > 65536 ||
	    bot_handler_now_us() - bot_handler_held_since_us > 500))
		bot_handler_flush();
	fn(m);
	if (m->answered)
		return;
	snprintf(line, sizeof(line), "DONE %llu\n", (unsigned long long)m->id);
	bot_handler_send(line, NULL, 0);
}

/* The frame at p: its length, 0 when more must come, -1 at DRAIN. */
static inline long long
bot_handler_frame(bot_handler_fn *fn, const char *p, size_t n)
{
	const char *end = (const char *)memchr(p, '\n', n);
	struct bot_handler_message m;
	unsigned long long id, timeout_ms, attributes_len, body_len;
	char line[512], queue[512];
	size_t head;

	if (end == NULL || (size_t)(end - p) >= sizeof(line))
		return 0;
	head = (size_t)(end - p) + 1;
	memcpy(line, p, head - 1);
	line[head - 1] = '\0';
	if (strcmp(line, "DRAIN") == 0)
		return -1;
	memset(&m, 0, sizeof(m));
	if (sscanf(line, "MSG %llu %511s %u %llu %llu %llu", &id, queue,
	    &m.attempt, &timeout_ms, &attributes_len, &body_len) != 6)
		return (long long)head;	/* HELLO, CANCEL */
	if (n - head < attributes_len || n - head - attributes_len < body_len)
		return 0;
	m.id = id;
	m.timeout_ms = timeout_ms;
	m.queue = queue;
	m.attributes = p + head;
	m.attributes_len = (size_t)attributes_len;
	m.body = p + head + attributes_len;
	m.body_len = (size_t)body_len;
	bot_handler_one(fn, &m);
	return (long long)(head + attributes_len + body_len);
}

/* Runs fn for each message until the operator has no more. For main(). */
static inline int
bot_handler_run(bot_handler_fn *fn)
{
	struct bot_handler_bytes *in = &bot_handler_in;
	const char *fd = getenv("BOT_OPERATOR_FD");

	if (fd == NULL) {
		fputs("This program is a handler: name it in Exec= of a [Pool] "
		    "of bot-operator.\n", stderr);
		return 1;
	}
	bot_handler_fd = atoi(fd);
	bot_handler_send("READY 1\n", NULL, 0);
	for (;;) {
		size_t at = 0;
		long long used;
		ssize_t n;

		bot_handler_flush();
		n = read(bot_handler_fd, bot_handler_reserve(in, 131072),
		    131072);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		in->n += (size_t)n;
		while (at < in->n && (used = bot_handler_frame(fn, in->p + at,
		    in->n - at)) != 0) {
			if (used < 0) {
				bot_handler_flush();
				return 0;
			}
			at += (size_t)used;
		}
		memmove(in->p, in->p + at, in->n - at);
		in->n -= at;
	}
}

#endif
