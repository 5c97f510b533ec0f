/*
 * The reply reader, fed in pieces whose size the first byte chooses, and what
 * walks the trees that it makes.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "codec/resp.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static size_t
walk(const struct resp *r, unsigned depth)
{
	size_t n = 1;

	BUG_ON(depth > 16);
	switch (r->type) {
	case RESP_ARRAY:
		for (size_t i = 0; i < r->count; i++)
			n += walk(resp_at(r, i), depth + 1);
		BUG_ON(resp_at(r, r->count)->type != RESP_NIL);
		break;
	case RESP_STRING:
	case RESP_STATUS:
	case RESP_ERROR:
		BUG_ON(r->str.p == NULL || r->str.p[r->str.n] != '\0');
		break;
	case RESP_INTEGER:
	case RESP_NIL:
		break;
	case RESP_NONE:
		BUG("a node without a type");
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resp_reader *r;
	struct buffer in = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct resp *reply;
	struct chunk *chunk;
	size_t piece, at = 1;
	int got = 0;

	if (size == 0)
		return 0;
	piece = (size_t)data[0] + 1;
	r = resp_reader_new(64 * KIB);
	while (at < size && got >= 0) {
		size_t n = MIN(piece, size - at);

		buffer_add(&in, data + at, n);
		at += n;
		while ((got = resp_reader_next(r, &in, &reply, &chunk, &err)) >
		    0) {
			/* What is announced is bounded as what is sent. */
			BUG_ON(walk(reply, 0) > 64 * KIB);
			chunk_unref(chunk);
		}
	}
	BUG_ON(got < 0 && err.class != ERROR_PROTOCOL);
	resp_reader_free(r);
	buffer_done(&in);
	return 0;
}
