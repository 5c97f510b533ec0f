/*
 * Both sides of the worker protocol: whatever decodes must encode to the same
 * bytes' meaning, and nothing may read past the input.
 */
#include "base/alloc.h"
#include "codec/frame.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
encode(struct buffer *b, const struct frame *f)
{
	switch (f->kind) {
	case FRAME_HELLO: {
		_cleanup_free_ char *s = xstrndup(f->word.p, f->word.n);

		frame_add_hello(b, s);
		break;
	}
	case FRAME_MSG:
		frame_add_msg(b, f->id, f->word, (unsigned)f->attempt,
		    f->timeout_ms, f->attributes, f->body);
		break;
	case FRAME_CANCEL:
		frame_add_cancel(b, f->id);
		break;
	case FRAME_DRAIN:
		frame_add_drain(b);
		break;
	case FRAME_READY:
		frame_add_ready(b, (unsigned)f->number);
		break;
	case FRAME_DONE:
		frame_add_done(b, f->id);
		break;
	case FRAME_RETRY:
		frame_add_retry(b, f->id, f->number, f->word, f->detail);
		break;
	case FRAME_DEAD:
		frame_add_dead(b, f->id, f->word, f->detail);
		break;
	case FRAME_TOUCH:
		frame_add_touch(b, f->id, f->number);
		break;
	case FRAME_NONE:
		BUG("a frame without a kind");
	}
}

static void
again(const struct frame *f, bool from_worker)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct frame g;
	struct error err;
	ssize_t n;

	encode(&b, f);
	n = frame_decode(buffer_slice(&b), from_worker, SIZE_MAX, &g, &err);
	/* READY and the attempt are 32 bits wide when we write them; a zero
	   of READY is refused. */
	if (f->kind == FRAME_READY && (unsigned)f->number == 0)
		return;
	BUG_ON(n != (ssize_t)buffer_len(&b));
	BUG_ON(g.kind != f->kind || g.id != f->id);
	BUG_ON(!slice_eq(g.attributes, f->attributes));
	BUG_ON(!slice_eq(g.body, f->body) || !slice_eq(g.detail, f->detail));
	if (f->word.n <= 200)
		BUG_ON(!slice_eq(g.word, f->word));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int side = 0; side < 2; side++) {
		/* A copy of the exact size, so that ASan sees a byte too many. */
		char *copy = xmemdup(data, size);
		struct slice in = { copy, size };
		struct error err = ERROR_INIT;
		struct frame f;
		ssize_t n;

		while ((n = frame_decode(in, side == 0, 4096, &f, &err)) > 0) {
			BUG_ON((size_t)n > in.n || f.kind == FRAME_NONE);
			again(&f, side == 0);
			in.p += n;
			in.n -= (size_t)n;
		}
		BUG_ON(n < 0 && err.class != ERROR_PROTOCOL);
		free(copy);
	}
	return 0;
}
