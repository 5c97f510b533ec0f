#include "codec/resp.h"

#include <hiredis/hiredis.h>

#include "base/alloc.h"

#define FEED_BYTES	((size_t)16 * KIB)	/* REDIS_READER_MAX_BUF */

struct resp_reader {
	redisReader *hiredis;
	size_t reply_max;
	size_t reply_bytes;	/* fed since the reply began */
	size_t announced;	/* array elements of the reply so far */
	struct chunk *chunk;	/* of the reply being read; NULL before it */
	struct error refused;
};

static const struct resp nil = { .type = RESP_NIL };

/* ---- hiredis builds its tree through these ---- */

static struct resp *
node_new(const redisReadTask *task, enum resp_type type)
{
	struct resp_reader *r = task->privdata;
	struct resp *n;

	if (r->chunk == NULL)
		r->chunk = chunk_new();
	n = chunk_alloc(r->chunk, sizeof(*n));
	*n = (struct resp){ .type = type };
	if (task->parent != NULL) {
		struct resp *parent = task->parent->obj;

		parent->element[task->idx] = n;
	}
	return n;
}

static void *
create_string(const redisReadTask *task, char *p, size_t len)
{
	struct resp_reader *r = task->privdata;
	enum resp_type type = RESP_STRING;
	struct resp *n;

	if (task->type == REDIS_REPLY_STATUS)
		type = RESP_STATUS;
	else if (task->type == REDIS_REPLY_ERROR)
		type = RESP_ERROR;
	n = node_new(task, type);
	n->str = chunk_copy(r->chunk, p, len);
	return n;
}

/*
 * The element count is the peer's word, and hiredis wants the room for it
 * before one element has come: each is charged as the smallest that it can be
 * on the wire, so that what a peer announces is bounded as what it sends.
 */
static void *
create_array(const redisReadTask *task, HIREDIS_COUNT elements)
{
	struct resp_reader *r = task->privdata;
	size_t count = (size_t)elements;
	struct resp *n;

	if (count > r->reply_max / 4 - r->announced) {
		error_set(&r->refused, ERROR_PROTOCOL, "reply_too_large",
		    "a reply with an array of %zu elements is longer than "
		    "ReplyMax= allows (%zu bytes)", count, r->reply_max);
		return NULL;
	}
	r->announced += count;
	n = node_new(task, RESP_ARRAY);
	n->count = count;
	if (count != 0)
		n->element = chunk_alloc(r->chunk,
		    count * sizeof(*n->element));
	return n;
}

static void *
create_integer(const redisReadTask *task, long long value)
{
	struct resp *n = node_new(task, RESP_INTEGER);

	n->integer = value;
	return n;
}

static void *
create_nil(const redisReadTask *task)
{
	return node_new(task, RESP_NIL);
}

#if HIREDIS_MAJOR >= 1
/* RESP3 only, which is never asked for. */
static void *
create_double(const redisReadTask *task, double value, char *p, size_t len)
{
	(void)value;
	return create_string(task, p, len);
}

static void *
create_bool(const redisReadTask *task, int value)
{
	return create_integer(task, value);
}
#endif

static void
free_object(void *object)
{
	(void)object;		/* the chunk's */
}

static redisReplyObjectFunctions functions = {
	.createString = create_string,
	.createArray = create_array,
	.createInteger = create_integer,
	.createNil = create_nil,
#if HIREDIS_MAJOR >= 1
	.createDouble = create_double,
	.createBool = create_bool,
#endif
	.freeObject = free_object,
};

/* ---- reading ---- */

struct resp_reader *
resp_reader_new(size_t reply_max)
{
	struct resp_reader *r = new0(struct resp_reader);

	r->reply_max = MAX(reply_max, (size_t)KIB);
	r->hiredis = redisReaderCreateWithFunctions(&functions);
	if (r->hiredis == NULL)
		BUG("out of memory for a reply reader");
	r->hiredis->privdata = r;
	return r;
}

void
resp_reader_free(struct resp_reader *r)
{
	if (r == NULL)
		return;
	redisReaderFree(r->hiredis);
	chunk_unref(r->chunk);
	free(r);
}

static int
refuse(struct resp_reader *r, struct error *err)
{
	if (error_is_set(&r->refused)) {
		if (err != NULL)
			*err = r->refused;
	} else {
		error_set(err, ERROR_PROTOCOL, "bad_reply",
		    "not a Redis reply: %.160s", r->hiredis->errstr);
	}
	return -EPROTO;
}

int
resp_reader_next(struct resp_reader *r, struct buffer *in, struct resp **ret,
    struct chunk **ret_chunk, struct error *err)
{
	void *reply;
	size_t n;

	if (error_is_set(&r->refused))
		return refuse(r, err);
	for (;;) {
		reply = NULL;
		if (redisReaderGetReply(r->hiredis, &reply) != REDIS_OK)
			return refuse(r, err);
		if (reply != NULL)
			break;
		if (buffer_len(in) == 0)
			return 0;
		if (r->reply_bytes > r->reply_max) {
			error_set(&r->refused, ERROR_PROTOCOL,
			    "reply_too_large", "a reply is longer than "
			    "ReplyMax= allows (%zu bytes)", r->reply_max);
			return refuse(r, err);
		}
		n = MIN(buffer_len(in), FEED_BYTES);
		if (redisReaderFeed(r->hiredis, buffer_head(in), n) != REDIS_OK)
			return refuse(r, err);
		buffer_consume(in, n);
		r->reply_bytes += n;
	}
	/* What was fed beyond this reply belongs to the next: at most one feed,
	   which the bound of a reply need not be exact about. */
	r->reply_bytes = 0;
	r->announced = 0;
	*ret = reply;
	*ret_chunk = r->chunk;
	r->chunk = NULL;
	return 1;
}

/* ---- writing ---- */

/* In place: hiredis' formatter would allocate and copy each command. */
static void
add_count(struct buffer *b, char kind, size_t n)
{
	char *p = buffer_reserve(b, 24);
	size_t len;

	p[0] = kind;
	len = 1 + fmt_u64(p + 1, n);
	p[len++] = '\r';
	p[len++] = '\n';
	buffer_commit(b, len);
}

void
resp_add_head(struct buffer *b, size_t argc)
{
	add_count(b, '*', argc);
}

void
resp_add_arg(struct buffer *b, struct slice arg)
{
	char *p;

	add_count(b, '$', arg.n);
	p = buffer_reserve(b, arg.n + 2);
	if (arg.n != 0)
		memcpy(p, arg.p, arg.n);
	p[arg.n] = '\r';
	p[arg.n + 1] = '\n';
	buffer_commit(b, arg.n + 2);
}

void
resp_add_arg_u64(struct buffer *b, uint64_t n)
{
	char digits[20];

	resp_add_arg(b, (struct slice){ digits, fmt_u64(digits, n) });
}

void
resp_add_command(struct buffer *b, const struct slice *argv, size_t argc)
{
	resp_add_head(b, argc);
	for (size_t i = 0; i < argc; i++)
		resp_add_arg(b, argv[i]);
}

/* ---- reading trees ---- */

const struct resp *
resp_at(const struct resp *r, size_t i)
{
	if (r == NULL || r->type != RESP_ARRAY || i >= r->count)
		return &nil;
	return r->element[i];
}

bool
resp_is_error(const struct resp *r, const char *prefix)
{
	size_t n = prefix != NULL ? strlen(prefix) : 0;

	if (r == NULL || r->type != RESP_ERROR)
		return false;
	return r->str.n >= n && (n == 0 || memcmp(r->str.p, prefix, n) == 0);
}
