/*
 * The bytes of one answer: heads until the final one, then the body, into
 * memory that stays where it is until the owner has seen it.
 */
#include "client/http_impl.h"

void
http_answer_init(struct http_answer *a, bool to_head, size_t max_body)
{
	*a = (struct http_answer){ .to_head = to_head, .max_body = max_body };
	buffer_init(&a->head_bytes);
	buffer_init(&a->body);
}

void
http_answer_done(struct http_answer *a)
{
	buffer_done(&a->head_bytes);
	buffer_done(&a->body);
}

/* 1 when what is there will do. */
static int
too_large(struct http_answer *a, struct error *err)
{
	if (a->may_cut) {
		a->was_cut = true;
		return 1;
	}
	error_set(err, ERROR_REJECTED, "response_too_large",
	    "the answer is longer than %zu bytes", a->max_body);
	return -EMSGSIZE;
}

/* 1 when there is one, and it is the last. */
static int
read_head(struct http_answer *a, struct buffer *in, struct error *err)
{
	ssize_t n;

	for (;;) {
		n = http1_parse_response(buffer_slice(in), a->to_head,
		    &a->head, err);
		if (n <= 0)
			return (int)n;
		if (a->head.status >= 200)
			break;
		if (a->head.status == 101) {
			error_set(err, ERROR_PROTOCOL, "upgrade",
			    "another protocol is spoken there, unasked");
			return -EPROTO;
		}
		buffer_consume(in, (size_t)n);
	}
	/* Once more where it can stay: the input buffer moves. */
	buffer_add(&a->head_bytes, buffer_head(in), (size_t)n);
	buffer_consume(in, (size_t)n);
	(void)http1_parse_response(buffer_slice(&a->head_bytes), a->to_head,
	    &a->head, err);
	a->have_head = true;
	if (a->head.body == HTTP1_BODY_LENGTH && !a->may_cut &&
	    a->head.content_length > a->max_body)
		return too_large(a, err);
	return 1;
}

/* Up to max bytes in all; false when there are more. */
static bool
take(struct http_answer *a, struct buffer *in, uint64_t max)
{
	size_t room = (size_t)max - buffer_len(&a->body);
	size_t n = MIN(room, buffer_len(in));

	buffer_add(&a->body, buffer_head(in), n);
	buffer_consume(in, n);
	return buffer_len(in) == 0;
}

static int
read_length(struct http_answer *a, struct buffer *in, struct error *err)
{
	uint64_t length = a->head.content_length;

	if (length > a->max_body)
		return take(a, in, a->max_body) ? 0 : too_large(a, err);
	(void)take(a, in, length);
	return buffer_len(&a->body) == length;
}

static int
read_chunked(struct http_answer *a, struct buffer *in, struct error *err)
{
	ssize_t n = http1_chunked_decode(&a->chunked, buffer_slice(in),
	    &a->body, a->max_body, err);

	if (n == -EMSGSIZE)
		return too_large(a, err);
	if (n < 0)
		return (int)n;
	buffer_consume(in, (size_t)n);
	return a->chunked.state == CHUNK_COMPLETE;
}

static int
read_until_close(struct http_answer *a, struct buffer *in, struct error *err)
{
	return take(a, in, a->max_body) ? 0 : too_large(a, err);
}

int
http_answer_read(struct http_answer *a, struct buffer *in, struct error *err)
{
	int r;

	if (!a->have_head && (r = read_head(a, in, err)) <= 0)
		return r;
	switch (a->head.body) {
	case HTTP1_BODY_LENGTH:
		return read_length(a, in, err);
	case HTTP1_BODY_CHUNKED:
		return read_chunked(a, in, err);
	case HTTP1_BODY_UNTIL_CLOSE:
		return read_until_close(a, in, err);
	case HTTP1_BODY_NONE:
		break;
	}
	return 1;
}

bool
http_answer_ends(const struct http_answer *a)
{
	return a->have_head && a->head.body == HTTP1_BODY_UNTIL_CLOSE;
}
