/*
 * amqp_rig.h - bytes of AMQP made by hand, for the codec's tests.  To be
 * included once, behind cmocka.h.
 */
#ifndef TESTS_UNIT_AMQP_RIG_H
#define TESTS_UNIT_AMQP_RIG_H

#include "base/alloc.h"
#include "codec/amqp.h"

static amqp_pool_t pool;

static int
pool_setup(void **state _unused_)
{
	init_amqp_pool(&pool, 4096);
	return 0;
}

static int
pool_teardown(void **state _unused_)
{
	empty_amqp_pool(&pool);
	return 0;
}

static inline void
put8(struct buffer *b, unsigned n)
{
	buffer_add_char(b, (char)n);
}

static inline void
put16(struct buffer *b, unsigned n)
{
	put8(b, n >> 8);
	put8(b, n);
}

static inline void
put32(struct buffer *b, uint32_t n)
{
	put16(b, n >> 16);
	put16(b, n);
}

static inline void
put64(struct buffer *b, uint64_t n)
{
	put32(b, (uint32_t)(n >> 32));
	put32(b, (uint32_t)n);
}

static inline void
assert_refused(const struct error *err, const char *code)
{
	if (strcmp(err->code, code) != 0)
		fail_msg("%s instead of %s: %s", err->code, code, err->text);
	assert_int_equal(err->class, ERROR_PROTOCOL);
}

/* Of raw properties, in memory that ends with them; valid until the next
   call and until the pool is recycled. */
static inline int
decode(struct slice raw, amqp_basic_properties_t **ret, struct error *err)
{
	static char bytes[1 << 18];
	char *own = bytes + sizeof(bytes) - raw.n;

	assert_true(raw.n <= sizeof(bytes));
	memcpy(own, raw.p, raw.n);
	return amqp_wire_properties((struct slice){ own, raw.n }, &pool, ret,
	    err);
}

/*
 * A table with so many levels, itself the first; the others are of the kinds
 * given, in turn: "F" a table, "A" an array.
 */
static inline void
nest(struct buffer *b, unsigned levels, const char *kinds)
{
	size_t n = strlen(kinds), size = 0;
	size_t *sizes = xreallocarray(NULL, levels + 1, sizeof(*sizes));

	/* From the inside, how long each is; then from the outside. */
	for (unsigned i = levels; i > 0; i--) {
		sizes[i] = size;
		/* Its own head in the one around it: kind and length, and in
		   a table a key. */
		size += 5;
		if (i > 1 && (i == 2 || kinds[(i - 3) % n] == 'F'))
			size += 2;
	}
	buffer_clear(b);
	for (unsigned i = 1; i <= levels; i++) {
		if (i > 1 && (i == 2 || kinds[(i - 3) % n] == 'F'))
			buffer_add_str(b, "\1k");
		if (i > 1)
			buffer_add_char(b, kinds[(i - 2) % n]);
		put32(b, (uint32_t)sizes[i]);
	}
	free(sizes);
}

#endif
