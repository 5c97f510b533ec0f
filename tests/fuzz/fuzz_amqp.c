/*
 * amqp: the first byte chooses: 's' a stream of frames, cut into pieces whose
 * size the second byte says; 'm' a method; 'p' properties.  Beyond not
 * crashing: a stream means the same however it is cut; what is decoded can be
 * sent again and is the same then; its JSON is JSON.
 */
#include <jansson.h>

#include "base/alloc.h"
#include "codec/amqp.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define FRAME_MAX	AMQP_WIRE_FRAME_MIN

static void
check_error(const struct error *err)
{
	BUG_ON(err->class != ERROR_PROTOCOL || err->code[0] == '\0');
}

static void
check_json(const struct buffer *b)
{
	json_error_t e;
	json_t *j = json_loadb(buffer_head(b), buffer_len(b), JSON_DECODE_ANY |
	    JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);

	/* A NUL in a name is fine; jansson just has no place for it. */
	if (j == NULL && json_error_code(&e) != json_error_null_byte_in_key)
		BUG("not JSON, column %d: %s", e.column, e.text);
	json_decref(j);
}

static void
table_json(struct buffer *b, const amqp_table_t *t)
{
	amqp_field_value_t v = { .kind = AMQP_FIELD_KIND_TABLE,
	    .value.table = *t };

	amqp_wire_add_json(b, &v);
}

static void
check_table(const amqp_table_t *t)
{
	struct buffer b = BUFFER_INIT;

	for (int i = 0; i < t->num_entries; i++) {
		const amqp_field_value_t *v = &t->entries[i].value;
		uint64_t n = 0;
		int r = amqp_wire_to_u64(v, &n);

		BUG_ON(r != 0 && r != -EINVAL && r != -ERANGE);
	}
	(void)amqp_wire_find(t, "bot-attempt");
	table_json(&b, t);
	check_json(&b);
	buffer_done(&b);
}

/* Published again, the properties and headers are the same. */
static void
send_again(const amqp_basic_properties_t *p, size_t frame_max)
{
	struct buffer b = BUFFER_INIT, before = BUFFER_INIT,
	    after = BUFFER_INIT;
	amqp_basic_properties_t *q;
	struct amqp_wire_frame f;
	struct amqp_wire_header h;
	amqp_pool_t pool;
	struct error err;
	ssize_t n;

	init_amqp_pool(&pool, 4096);
	if (amqp_wire_add_publish(&b, 1, frame_max, SLICE("q"), p,
	    SLICE("body"), &err) < 0)
		BUG("what came in a frame does not fit into one");
	n = amqp_wire_frame(buffer_slice(&b), frame_max, &f, &err);
	BUG_ON(n <= 0 || f.type != AMQP_FRAME_METHOD);
	buffer_consume(&b, (size_t)n);
	n = amqp_wire_frame(buffer_slice(&b), frame_max, &f, &err);
	BUG_ON(n <= 0 || f.type != AMQP_FRAME_HEADER);
	BUG_ON(amqp_wire_header(f.payload, &h, &err) < 0 || h.body_size != 4);
	BUG_ON(amqp_wire_properties(h.properties, &pool, &q, &err) < 0);
	BUG_ON(q->_flags != p->_flags);
	if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0) {
		table_json(&before, &p->headers);
		table_json(&after, &q->headers);
		BUG_ON(!slice_eq(buffer_slice(&before), buffer_slice(&after)));
	}
	empty_amqp_pool(&pool);
	buffer_done(&b);
	buffer_done(&before);
	buffer_done(&after);
}

static void
fuzz_properties(struct slice raw, amqp_pool_t *pool, size_t frame_max)
{
	amqp_basic_properties_t *p;
	struct error err = ERROR_INIT;

	if (amqp_wire_properties(raw, pool, &p, &err) < 0) {
		check_error(&err);
		return;
	}
	if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0)
		check_table(&p->headers);
	send_again(p, frame_max);
}

static void
fuzz_method(struct slice payload, amqp_pool_t *pool)
{
	struct error err = ERROR_INIT;
	amqp_method_t m;

	if (amqp_wire_method(payload, pool, &m, &err) < 0) {
		check_error(&err);
		return;
	}
	BUG_ON(strcmp(amqp_wire_method_name(m.id), "a method") == 0);
	if (m.id == AMQP_CONNECTION_START_METHOD)
		check_table(&((amqp_connection_start_t *)
		    m.decoded)->server_properties);
}

static void
fuzz_frame(const struct amqp_wire_frame *f, amqp_pool_t *pool)
{
	struct amqp_wire_header h;
	struct error err = ERROR_INIT;

	if (f->type == AMQP_FRAME_METHOD)
		fuzz_method(f->payload, pool);
	else if (f->type == AMQP_FRAME_HEADER &&
	    amqp_wire_header(f->payload, &h, &err) == 0)
		fuzz_properties(h.properties, pool, FRAME_MAX);
	recycle_amqp_pool(pool);
}

struct result {
	size_t frames, bytes;
	struct error err;
};

/* Gives step bytes more each time. */
static struct result
read_stream(struct slice in, size_t step, bool look)
{
	struct result r = { .err = ERROR_INIT };
	struct buffer b = BUFFER_INIT;
	struct amqp_wire_frame f;
	amqp_pool_t pool;
	ssize_t got = 0;
	size_t at = 0;

	init_amqp_pool(&pool, 4096);
	while (at < in.n && got >= 0) {
		size_t n = MIN(step, in.n - at);

		buffer_add(&b, in.p + at, n);
		at += n;
		while ((got = amqp_wire_frame(buffer_slice(&b), FRAME_MAX, &f,
		    &r.err)) > 0) {
			BUG_ON((size_t)got > FRAME_MAX ||
			    (size_t)got > buffer_len(&b) ||
			    f.payload.n + AMQP_WIRE_OVERHEAD != (size_t)got);
			if (look)
				fuzz_frame(&f, &pool);
			buffer_consume(&b, (size_t)got);
			r.frames++;
			r.bytes += (size_t)got;
		}
		/* No more is kept than one frame. */
		BUG_ON(got == 0 && buffer_len(&b) >= FRAME_MAX);
	}
	if (got < 0)
		check_error(&r.err);
	empty_amqp_pool(&pool);
	buffer_done(&b);
	return r;
}

static void
fuzz_stream(struct slice in)
{
	struct result whole, cut;
	size_t step;

	if (in.n == 0)
		return;
	step = (size_t)(unsigned char)in.p[0] + 1;
	in.p++;
	in.n--;
	whole = read_stream(in, in.n, true);
	cut = read_stream(in, step, false);
	BUG_ON(whole.frames != cut.frames || whole.bytes != cut.bytes ||
	    strcmp(whole.err.code, cut.err.code) != 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in;
	amqp_pool_t pool;

	if (size == 0 || size > MIB)
		return 0;
	in = (struct slice){ (const char *)data + 1, size - 1 };
	init_amqp_pool(&pool, 4096);
	switch (data[0]) {
	case 's':
		fuzz_stream(in);
		break;
	case 'm':
		fuzz_method(in, &pool);
		break;
	case 'p':
		fuzz_properties(in, &pool, MAX(in.n + 20, FRAME_MAX));
		break;
	}
	empty_amqp_pool(&pool);
	return 0;
}
