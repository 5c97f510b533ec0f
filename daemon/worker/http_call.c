/*
 * One message on its way as a request, and what the answer means for it.
 */
#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "engine/queue.h"
#include "worker/http_internal.h"

/* Of the answer's body: read at most, shown of it. */
#define ANSWER_MAX	((size_t)64 * KIB)
#define DETAIL_MAX	((size_t)512)

/* A peer that asks for more is asked again after so long. */
#define RETRY_AFTER_MAX_US	(3600 * USEC_PER_SEC)
/* Timeout=infinity, as a number that can be added to a time. */
#define TIMEOUT_MAX_US	(365 * 86400 * USEC_PER_SEC)

/* ---- the headers ---- */

static bool
is_content_type(struct slice name)
{
	return name.n == 12 && strncasecmp(name.p, "content-type", 12) == 0;
}

static void
add_value(struct buffer *b, struct slice s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c > ' ' && c < 0x7f && c != '"' && c != '%') {
			buffer_add_char(b, s.p[i]);
			continue;
		}
		buffer_add_char(b, '%');
		buffer_add_char(b, hex[c >> 4]);
		buffer_add_char(b, hex[c & 15]);
	}
	buffer_add_str(b, "\r\n");
}

static void
add_attribute(struct buffer *b, const struct attribute *a)
{
	buffer_add_str(b, "Bot-Attribute-");
	for (size_t i = 0; i < a->name.n; i++) {
		char c = a->name.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9');

		buffer_add_char(b, plain ? c : '-');
	}
	buffer_add_str(b, ": ");
	add_value(b, a->value);
}

static void
add_attributes(struct buffer *b, const struct message *m)
{
	unsigned omitted = 0;
	size_t used = 0;

	for (size_t i = 0; i < m->nattributes; i++) {
		const struct attribute *a = &m->attributes[i];
		size_t worst = 20 + a->name.n + 3 * a->value.n;
		size_t before = buffer_len(b);

		if (is_content_type(a->name))
			continue;
		if (used + worst > HTTP_ATTRIBUTES_MAX) {
			omitted++;
			continue;
		}
		add_attribute(b, a);
		used += buffer_len(b) - before;
	}
	if (omitted != 0)
		buffer_printf(b, "Bot-Attributes-Omitted: %u\r\n", omitted);
}

/* As it is, if it can stand in a header. */
static struct slice
content_type(const struct message *m)
{
	for (size_t i = 0; i < m->nattributes; i++) {
		struct slice v = m->attributes[i].value;
		bool good = v.n != 0 && v.n < 256;

		if (!is_content_type(m->attributes[i].name))
			continue;
		for (size_t k = 0; k < v.n && good; k++)
			good = v.p[k] >= ' ' && v.p[k] < 0x7f;
		if (good)
			return v;
	}
	switch (m->queue->format) {
	case FORMAT_JSON:
		return SLICE("application/json");
	case FORMAT_CLOUDEVENTS:
		/* In binary mode the body is only its data, of any type. */
		if (message_attribute(m, "ce-specversion") != NULL)
			break;
		return SLICE("application/cloudevents+json");
	case FORMAT_RAW:
		break;
	}
	return SLICE("application/octet-stream");
}

static void
add_headers(struct http_request *r, struct buffer *b)
{
	const struct http_call *c = r->owner;
	const struct message *m = c->message;

	buffer_add_str(b, "User-Agent: bot-operator/" PACKAGE_VERSION "\r\n"
	    "Content-Type: ");
	buffer_add_slice(b, content_type(m));
	buffer_add_str(b, "\r\nBot-Queue: ");
	add_value(b, slice_of(m->queue->name));
	buffer_add_str(b, "Bot-Message-Id: ");
	add_value(b, m->name);
	buffer_printf(b, "Bot-Attempt: %u\r\n", m->attempt);
	add_attributes(b, m);
	if (c->target->headers != NULL)
		buffer_add_slice(b, secret_bytes(c->target->headers));
}

/* ---- what the answer means ---- */

/* The first bytes of the body, in one line. */
static struct slice
describe(const struct http_response *r, char out[DETAIL_MAX])
{
	struct slice body = r->body;
	size_t n = (size_t)snprintf(out, DETAIL_MAX, "HTTP %u%s", r->status,
	    body.n != 0 ? ": " : "");

	body.n = MIN(body.n, DETAIL_MAX - n);
	/* Not in the middle of a character. */
	while (body.n != 0 && body.n < r->body.n &&
	    ((unsigned char)body.p[body.n] & 0xc0) == 0x80)
		body.n--;
	for (size_t i = 0; i < body.n; i++)
		out[n++] = (unsigned char)body.p[i] < ' ' ||
		    body.p[i] == 0x7f ? ' ' : body.p[i];
	return (struct slice){ out, n };
}

static struct verdict
judge_answer(const struct http_response *r, char detail[DETAIL_MAX])
{
	struct verdict v = { .kind = VERDICT_RETRY,
		.delay_us = VERDICT_DELAY_DEFAULT,
		.error_type = SLICE(ERROR_TYPE_EXTERNAL_API) };
	bool busy = r->status == 429 || r->status == 503;

	if (r->status < 300) {
		v = (struct verdict){ .kind = VERDICT_DONE };
		return v;
	}
	v.detail = describe(r, detail);
	if (busy && r->retry_after_us != 0)
		v.delay_us = MIN(r->retry_after_us, RETRY_AFTER_MAX_US);
	if (r->status == 429 || v.delay_us != VERDICT_DELAY_DEFAULT)
		v.error_type = SLICE(ERROR_TYPE_RATE_LIMITED);
	else if (r->status < 500 && r->status != 408)
		v.kind = VERDICT_DEAD;
	return v;
}

static struct verdict
judge_error(struct pool *p, const struct error *err)
{
	bool late = strcmp(err->code, "response_timeout") == 0;

	p->stats.timeouts += late;
	return (struct verdict){ .kind = VERDICT_RETRY,
		.delay_us = VERDICT_DELAY_DEFAULT,
		.error_type = late ? SLICE(ERROR_TYPE_TIMEOUT) :
		    SLICE(ERROR_TYPE_EXTERNAL_API),
		.detail = slice_of(err->text) };
}

/* ---- life ---- */

/* The message is the engine's again after it. */
static struct message *
leave(struct http_call *c)
{
	struct http_pool *hp = c->hp;
	struct pool *p = hp->pool;
	struct message *m = c->message;

	list_remove(&c->link);
	hp->inflight--;
	p->busy--;
	p->stats.busy_us += loop_now_us(p->loop) - c->started_us;
	m->worker = NULL;
	http_target_unref(c->target);
	free(c);
	http_pool_left(hp);
	return m;
}

static void
on_done(struct http_request *r, const struct http_response *answer,
    const struct error *err)
{
	struct http_call *c = r->owner;
	struct pool *p = c->hp->pool;
	char detail[DETAIL_MAX];
	struct verdict v = answer != NULL ? judge_answer(answer, detail) :
	    judge_error(p, err);

	pool_verdict(p, leave(c), &v);
}

void
http_call_start(struct http_pool *hp, struct message *m)
{
	struct http_call *c = new0(struct http_call);
	struct pool *p = hp->pool;

	c->hp = hp;
	c->target = http_target_ref(hp->target);
	c->message = m;
	c->state = HTTP_CALL_RUNNING;
	c->started_us = m->started_us = loop_now_us(p->loop);
	m->deadline_us = sat_add(m->started_us, p->timeout_us);
	m->worker = c;
	list_push_back(&hp->calls, &c->link);
	hp->inflight++;
	p->busy++;
	c->request = (struct http_request){
		.method = "POST",
		.url = c->target->url,
		.body = m->body,
		.add_headers = add_headers,
		.on_done = on_done,
		.owner = c,
		.timeout_us = MIN(p->timeout_us, TIMEOUT_MAX_US),
		.max_response = ANSWER_MAX,
		.cut_response = true,
		/* A retry would do the same; who gets it must bear both. */
		.resend = true,
	};
	http_send(c->target->client, &c->request);
}

void
http_call_stop(struct http_call *c, enum http_call_state state)
{
	struct http_pool *hp = c->hp;

	if (c->state != HTTP_CALL_RUNNING)
		return;
	c->state = state;
	http_cancel(&c->request);
	list_move_back(&hp->ended, &c->link);
	task_schedule(hp->pool->loop, &hp->task);
}

void
http_call_settle(struct http_call *c)
{
	bool killed = c->state == HTTP_CALL_KILLED;
	struct pool *p = c->hp->pool;
	struct verdict v = { .kind = VERDICT_RETRY,
		.delay_us = VERDICT_DELAY_DEFAULT,
		.error_type = SLICE(ERROR_TYPE_TIMEOUT),
		.detail = SLICE("its lease was lost") };
	struct message *m = leave(c);

	if (killed)
		pool_returned(p, m);
	else
		pool_verdict(p, m, &v);
}
