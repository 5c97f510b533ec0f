/*
 * From a delivery's properties to what a handler is told, and to what we have
 * written there ourselves.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "codec/base64.h"
#include "queue/rabbitmq_impl.h"

#define PROPERTIES_MAX	16	/* attributes that are no headers */
#define NAME_SHOWN	((size_t)255)

struct reading {
	struct rabbit_conn *conn;
	struct chunk *chunk;
	struct rabbit_meta *meta;
	struct attribute *at;		/* the next one */
	struct slice exchange, routing_key;
	struct slice user_id, expiration;
	const amqp_field_value_t *x_death, *our_x_death;
	bool copy;			/* ours: it comes from a delay queue */
};

/* ---- single attributes ---- */

static void
add(struct reading *r, struct slice name, struct slice value, bool json)
{
	*r->at++ = (struct attribute){ .name = name, .value = value,
	    .json = json };
}

static void
add_text(struct reading *r, struct slice name, amqp_bytes_t value)
{
	add(r, name, amqp_wire_slice(value), false);
}

static void
add_number(struct reading *r, struct slice name, uint64_t n)
{
	char digits[24];

	add(r, name, chunk_copy(r->chunk, digits, fmt_u64(digits, n)), true);
}

static void
add_value(struct reading *r, struct slice name, const amqp_field_value_t *v)
{
	struct buffer *b = &r->conn->scratch;

	if (v->kind == AMQP_FIELD_KIND_UTF8) {
		add_text(r, name, v->value.bytes);
		return;
	}
	buffer_clear(b);
	if (v->kind == AMQP_FIELD_KIND_BYTES)
		base64_add(b, amqp_wire_slice(v->value.bytes));
	else
		amqp_wire_add_json(b, v);
	add(r, name, chunk_copy(r->chunk, buffer_head(b), buffer_len(b)),
	    v->kind != AMQP_FIELD_KIND_BYTES);
}

/* ---- headers ---- */

static bool
starts_with(struct slice s, struct slice prefix)
{
	return s.n > prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

/*
 * CloudEvents AMQP binding 1.0.2, section 3.1.3.1: "cloudEvents:" or
 * "cloudEvents_"; HTTP's "ce-" is common too, and its twin "ce_". All become
 * "ce-".
 */
static struct slice
attribute_name(struct reading *r, struct slice name)
{
	static const struct slice prefixes[] = { { "cloudEvents:", 12 },
	    { "cloudEvents_", 12 }, { "ce_", 3 } };
	char *p;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (!starts_with(name, prefixes[i]))
			continue;
		name.p += prefixes[i].n;
		name.n -= prefixes[i].n;
		p = chunk_alloc(r->chunk, name.n + 3);
		memcpy(p, "ce-", 3);
		memcpy(p + 3, name.p, name.n);
		return (struct slice){ p, name.n + 3 };
	}
	return name;
}

static uint64_t
number_of(const amqp_field_value_t *v)
{
	uint64_t n;

	return amqp_wire_to_u64(v, &n) == 0 ? n : 0;
}

static struct slice
text_of(const amqp_field_value_t *v)
{
	return v->kind == AMQP_FIELD_KIND_UTF8 ?
	    amqp_wire_slice(v->value.bytes) : (struct slice){ "", 0 };
}

static unsigned
count_of(const amqp_field_value_t *v)
{
	return (unsigned)MIN(number_of(v), (uint64_t)1000000);
}

/* One of ours, by the name behind "bot-". */
static void
our_header(struct reading *r, struct slice key, const amqp_field_value_t *v)
{
	struct rabbit_meta *m = r->meta;

	if (slice_is(key, HEADER_ATTEMPT))
		m->attempt = MAX(count_of(v), 1u);
	else if (slice_is(key, HEADER_CRASHES))
		m->crashes = count_of(v);
	else if (slice_is(key, HEADER_ERROR_TYPE))
		m->error_type = text_of(v);
	else if (slice_is(key, HEADER_DETAIL))
		m->detail = text_of(v);
	else if (slice_is(key, HEADER_EXCHANGE))
		r->exchange = text_of(v);
	else if (slice_is(key, HEADER_ROUTING_KEY))
		r->routing_key = text_of(v);
	else if (slice_is(key, HEADER_DIED))
		m->died_us = number_of(v) > UINT64_MAX / USEC_PER_MSEC ? 0 :
		    number_of(v) * USEC_PER_MSEC;
	else if (slice_is(key, HEADER_ID))
		m->id = text_of(v);
	else if (slice_is(key, HEADER_NAME))
		m->name = text_of(v);
	else if (slice_is(key, HEADER_SEQUENCE))
		m->sequence = number_of(v);
	else if (slice_is(key, HEADER_X_DEATH))
		r->our_x_death = v;
	else if (slice_is(key, HEADER_CC))
		add_value(r, SLICE("CC"), v);
	else if (slice_is(key, HEADER_USER_ID))
		r->user_id = text_of(v);
	else if (slice_is(key, HEADER_EXPIRATION))
		r->expiration = text_of(v);
}

static void
header(struct reading *r, struct slice key, const amqp_field_value_t *v)
{
	if (starts_with(key, SLICE(HEADER_PREFIX))) {
		our_header(r, key, v);
		return;
	}
	if (slice_is(key, "x-death")) {
		r->x_death = v;
		return;
	}
	/* The time in our delay queue is no death that anybody asked about. */
	if (r->copy && (starts_with(key, SLICE("x-first-death-")) ||
	    starts_with(key, SLICE("x-last-death-"))))
		return;
	if (slice_is(key, "x-delivery-count"))
		r->meta->deliveries = number_of(v);
	else if (slice_is(key, "x-stream-offset"))
		r->meta->of_stream = true;
	add_value(r, attribute_name(r, key), v);
}

/* ---- all of it ---- */

static void
properties(struct reading *r, const amqp_basic_properties_t *p)
{
	const struct {
		amqp_flags_t flag;
		struct slice name;
		amqp_bytes_t value;
	} texts[] = {
		{ AMQP_BASIC_CONTENT_TYPE_FLAG, SLICE("content-type"),
		    p->content_type },
		{ AMQP_BASIC_CONTENT_ENCODING_FLAG, SLICE("content-encoding"),
		    p->content_encoding },
		{ AMQP_BASIC_CORRELATION_ID_FLAG, SLICE("correlation-id"),
		    p->correlation_id },
		{ AMQP_BASIC_REPLY_TO_FLAG, SLICE("reply-to"), p->reply_to },
		{ AMQP_BASIC_MESSAGE_ID_FLAG, SLICE("message-id"),
		    p->message_id },
		{ AMQP_BASIC_TYPE_FLAG, SLICE("type"), p->type },
		{ AMQP_BASIC_APP_ID_FLAG, SLICE("app-id"), p->app_id },
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if ((p->_flags & texts[i].flag) != 0)
			add_text(r, texts[i].name, texts[i].value);
	if ((p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) != 0)
		add_number(r, SLICE("delivery-mode"), p->delivery_mode);
	if ((p->_flags & AMQP_BASIC_PRIORITY_FLAG) != 0)
		add_number(r, SLICE("priority"), p->priority);
	if ((p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0) {
		add_number(r, SLICE("timestamp"), p->timestamp);
		if (p->timestamp < UINT64_MAX / USEC_PER_SEC)
			r->meta->sent_us = p->timestamp * USEC_PER_SEC;
	}
	if ((p->_flags & AMQP_BASIC_EXPIRATION_FLAG) != 0)
		r->expiration = amqp_wire_slice(p->expiration);
	if ((p->_flags & AMQP_BASIC_USER_ID_FLAG) != 0)
		r->user_id = amqp_wire_slice(p->user_id);
	if ((p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0)
		r->meta->name = amqp_wire_slice(p->message_id);
}

/* Names end in logs and on terminals. */
static struct slice
printable(struct chunk *chunk, struct slice s)
{
	char text[NAME_SHOWN + 1];

	s.n = MIN(s.n, NAME_SHOWN);
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] > ' ' && s.p[i] != 0x7f)
			continue;
		error_quote(s, text, sizeof(text));
		return chunk_copy(chunk, text, s.n);
	}
	return s;
}

int
rabbit_meta(struct rabbit_conn *conn, const struct rabbit_content *c,
    struct rabbit_meta *ret, struct error *err)
{
	amqp_basic_properties_t *p;
	const amqp_table_t *headers;
	struct attribute *attributes;
	struct reading r = {
		.conn = conn,
		.chunk = c->chunk,
		.meta = ret,
		.exchange = c->exchange,
		.routing_key = c->routing_key,
	};

	*ret = (struct rabbit_meta){ .attempt = 1 };
	if (amqp_wire_properties(c->properties, &conn->pool, &p, err) < 0)
		return -EPROTO;
	headers = &p->headers;
	if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
		headers = &amqp_empty_table;
	attributes = chunk_alloc(c->chunk, ((size_t)headers->num_entries +
	    PROPERTIES_MAX) * sizeof(*attributes));
	r.at = attributes;
	properties(&r, p);
	r.copy = amqp_wire_find(headers, HEADER_ATTEMPT) != NULL;
	for (int i = 0; i < headers->num_entries; i++)
		header(&r, amqp_wire_slice(headers->entries[i].key),
		    &headers->entries[i].value);
	if (r.our_x_death != NULL)
		add_value(&r, SLICE("x-death"), r.our_x_death);
	else if (r.x_death != NULL && !r.copy)
		add_value(&r, SLICE("x-death"), r.x_death);
	if (r.user_id.n != 0)
		add(&r, SLICE("user-id"), r.user_id, false);
	if (r.expiration.n != 0)
		add(&r, SLICE("expiration"), r.expiration, false);
	add(&r, SLICE("exchange"), r.exchange, false);
	add(&r, SLICE("routing-key"), r.routing_key, false);
	add(&r, SLICE("redelivered"), c->redelivered ? SLICE("true") :
	    SLICE("false"), true);
	ret->attributes = attributes;
	ret->nattributes = (size_t)(r.at - attributes);
	ret->name = printable(c->chunk, ret->name);
	return 0;
}
