/*
 * http1: the first byte chooses: 'q' a request, 'r' a response, 'h' a response
 * to HEAD, 'c' a chunked body fed in pieces.  Beyond not crashing: what is
 * accepted lies within the input, means the same when it comes in pieces, and
 * never goes past its bounds.
 */
#include "base/alloc.h"
#include "codec/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define BODY_MAX	1000

static void
check_inside(struct slice s, struct slice in)
{
	BUG_ON(s.n != 0 && (s.p < in.p || s.p + s.n > in.p + in.n));
}

static void
check_head(struct slice in, ssize_t n, const struct http1_head *h)
{
	struct slice head = { in.p, (size_t)n };

	BUG_ON((size_t)n > in.n || (size_t)n > HTTP1_HEAD_MAX);
	BUG_ON(n < 4 || memcmp(in.p + n - 4, "\r\n\r\n", 4) != 0);
	BUG_ON(h->nheaders > HTTP1_HEADERS_MAX);
	check_inside(h->method, head);
	check_inside(h->target, head);
	check_inside(h->reason, head);
	for (size_t i = 0; i < h->nheaders; i++) {
		check_inside(h->headers[i].name, head);
		check_inside(h->headers[i].value, head);
		BUG_ON(h->headers[i].name.n == 0);
	}
	BUG_ON(h->body == HTTP1_BODY_UNTIL_CLOSE && h->keep_alive);
}

static ssize_t
parse(char kind, struct slice in, struct http1_head *h)
{
	struct error err = ERROR_INIT;
	ssize_t n = kind == 'q' ? http1_parse_request(in, h, &err) :
	    http1_parse_response(in, kind == 'h', h, &err);

	BUG_ON(n < 0 && (n != -EPROTO || err.class != ERROR_PROTOCOL));
	return n;
}

static void
fuzz_head(char kind, struct slice in)
{
	struct http1_head h, again;
	ssize_t n = parse(kind, in, &h);

	if (n <= 0)
		return;
	check_head(in, n, &h);
	/* Exactly its own bytes say the same; one less is not enough. */
	BUG_ON(parse(kind, (struct slice){ in.p, (size_t)n }, &again) != n);
	BUG_ON(again.body != h.body || again.keep_alive != h.keep_alive ||
	    again.content_length != h.content_length ||
	    again.nheaders != h.nheaders);
	BUG_ON(parse(kind, (struct slice){ in.p, (size_t)n - 1 }, &again) != 0);
}

/* Feeds step bytes more each time; what came of it. */
static ssize_t
unchunk(struct slice in, size_t step, struct buffer *out, size_t *ret_used)
{
	struct http1_chunked c = { .state = CHUNK_SIZE_LINE };
	struct error err = ERROR_INIT;
	size_t have = 0, at = 0;

	while (have < in.n && c.state != CHUNK_COMPLETE) {
		ssize_t n;

		have = MIN(have + step, in.n);
		n = http1_chunked_decode(&c,
		    (struct slice){ in.p + at, have - at }, out, BODY_MAX,
		    &err);
		BUG_ON(buffer_len(out) > BODY_MAX);
		if (n < 0) {
			BUG_ON(err.class == ERROR_NONE);
			return n;
		}
		BUG_ON((size_t)n > have - at);
		at += (size_t)n;
	}
	*ret_used = at;
	return c.state == CHUNK_COMPLETE;
}

static void
fuzz_chunked(struct slice in)
{
	static const size_t steps[] = { 1, 2, 7 };
	struct buffer whole = BUFFER_INIT, pieces = BUFFER_INIT;
	size_t used = 0, used_pieces = 0;
	ssize_t r = unchunk(in, in.n, &whole, &used);

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		buffer_clear(&pieces);
		BUG_ON(unchunk(in, steps[i], &pieces, &used_pieces) != r);
		BUG_ON(!slice_eq(buffer_slice(&whole), buffer_slice(&pieces)));
		BUG_ON(r > 0 && used != used_pieces);
	}
	buffer_done(&whole);
	buffer_done(&pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in;

	if (n < 2)
		return 0;
	in = (struct slice){ (const char *)data + 1, n - 1 };
	switch (data[0]) {
	case 'q':
	case 'r':
	case 'h':
		fuzz_head((char)data[0], in);
		break;
	case 'c':
		fuzz_chunked(in);
		break;
	}
	return 0;
}
