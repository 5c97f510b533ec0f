/*
 * Copies of messages: for a retry, for the dead letters, and back again.
 *
 * A copy has all properties and headers of its original, except what would act
 * on it at the broker: "expiration" (it would leave the dead letters, or its
 * delay, by itself), "user-id" (must be the publisher's own), "CC" (would send
 * it to others again) and "x-death" (the broker drops what it takes for a
 * cycle; rabbitmq.com, "Dead Letter Exchanges", automatic cycle detection).
 * They are kept aside under bot- names, and handlers see them as they were.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "queue/rabbitmq_impl.h"

#define OURS_MAX	20

struct writing {
	amqp_table_entry_t *entry;
	int n;
};

/* ---- headers ---- */

static void
put(struct writing *w, const char *key, amqp_field_value_t value)
{
	w->entry[w->n++] = (amqp_table_entry_t){
		.key = amqp_cstring_bytes(key),
		.value = value,
	};
}

static void
put_text(struct writing *w, const char *key, struct slice text)
{
	put(w, key, (amqp_field_value_t){ .kind = AMQP_FIELD_KIND_UTF8,
	    .value.bytes = amqp_wire_bytes(text) });
}

static void
put_number(struct writing *w, const char *key, uint64_t n)
{
	put(w, key, (amqp_field_value_t){ .kind = AMQP_FIELD_KIND_I64,
	    .value.i64 = (int64_t)MIN(n, (uint64_t)INT64_MAX) });
}

static bool
has(const struct writing *w, const char *key)
{
	amqp_table_t t = { w->n, w->entry };

	return amqp_wire_find(&t, key) != NULL;
}

static bool
starts_with(struct slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* Ours that outlive the copy they were written for. */
static bool
lasting(struct slice key)
{
	static const char *const keys[] = { HEADER_EXCHANGE,
	    HEADER_ROUTING_KEY, HEADER_NAME, HEADER_X_DEATH, HEADER_CC,
	    HEADER_USER_ID, HEADER_EXPIRATION, HEADER_PROPERTIES };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (slice_is(key, keys[i]))
			return true;
	return false;
}

static void
copy_headers(struct writing *w, const amqp_table_t *headers)
{
	bool ours = amqp_wire_find(headers, HEADER_ATTEMPT) != NULL;

	for (int i = 0; i < headers->num_entries; i++) {
		const amqp_table_entry_t *e = &headers->entries[i];
		struct slice key = amqp_wire_slice(e->key);

		if (starts_with(key, HEADER_PREFIX)) {
			if (lasting(key))
				w->entry[w->n++] = *e;
		} else if (slice_is(key, "x-death")) {
			/* Of our own delay queue it says nothing new. */
			if (!ours && amqp_wire_find(headers,
			    HEADER_X_DEATH) == NULL)
				put(w, HEADER_X_DEATH, e->value);
		} else if (slice_is(key, "CC")) {
			put(w, HEADER_CC, e->value);
		} else if (!starts_with(key, "x-first-death-") &&
		    !starts_with(key, "x-last-death-") &&
		    !slice_is(key, "x-delivery-count") &&
		    !slice_is(key, "x-acquired-count") &&
		    !slice_is(key, "BCC")) {
			w->entry[w->n++] = *e;
		}
	}
}

static void
set_aside(struct writing *w, amqp_basic_properties_t *p)
{
	if ((p->_flags & AMQP_BASIC_EXPIRATION_FLAG) != 0)
		put_text(w, HEADER_EXPIRATION, amqp_wire_slice(p->expiration));
	if ((p->_flags & AMQP_BASIC_USER_ID_FLAG) != 0)
		put_text(w, HEADER_USER_ID, amqp_wire_slice(p->user_id));
	p->_flags &= ~(amqp_flags_t)(AMQP_BASIC_EXPIRATION_FLAG |
	    AMQP_BASIC_USER_ID_FLAG);
}

static void
put_origin(struct writing *w, const struct rabbit_copy *c)
{
	if (!has(w, HEADER_EXCHANGE))
		put_text(w, HEADER_EXCHANGE, c->exchange);
	if (!has(w, HEADER_ROUTING_KEY))
		put_text(w, HEADER_ROUTING_KEY, c->routing_key);
	if (!has(w, HEADER_NAME) && c->name.n != 0)
		put_text(w, HEADER_NAME, c->name);
}

static void
put_failure(struct writing *w, const struct rabbit_copy *c)
{
	put_number(w, HEADER_ATTEMPT, c->attempt);
	if (c->crashes != 0)
		put_number(w, HEADER_CRASHES, c->crashes);
	if (c->error_type.n != 0)
		put_text(w, HEADER_ERROR_TYPE, c->error_type);
}

static void
put_death(struct rabbit_channel *ch, struct writing *w,
    const struct rabbit_copy *c, char id[17])
{
	random_hex(id, 16);
	put_text(w, HEADER_ID, slice_of(id));
	put_text(w, HEADER_DETAIL, c->detail);
	put_text(w, HEADER_QUEUE, slice_of(ch->conn->rq->name));
	put_number(w, HEADER_DIED, clock_realtime_us() / USEC_PER_MSEC);
}

int
rabbit_copy(struct rabbit_channel *ch, const struct rabbit_copy *c,
    struct error *err)
{
	struct rabbit_queue *rq = ch->conn->rq;
	amqp_basic_properties_t *p, none = { ._flags = 0 };
	struct error why;
	struct writing w = { .n = 0 };
	char id[17];
	size_t room;
	int r;

	if (amqp_wire_properties(c->properties, &rq->copy_pool, &p, &why) < 0)
		p = &none;
	if ((p->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
		p->headers = amqp_empty_table;
	room = (size_t)p->headers.num_entries + OURS_MAX;
	w.entry = xreallocarray(NULL, room, sizeof(*w.entry));
	copy_headers(&w, &p->headers);
	if (p == &none && c->properties.n > 2)
		put(&w, HEADER_PROPERTIES, (amqp_field_value_t){
		    .kind = AMQP_FIELD_KIND_BYTES,
		    .value.bytes = amqp_wire_bytes(c->properties) });
	set_aside(&w, p);
	put_origin(&w, c);
	if (c->kind != COPY_REDRIVE)
		put_failure(&w, c);
	if (c->kind == COPY_BURY)
		put_death(ch, &w, c, id);
	if (c->sequence != 0)
		put_number(&w, HEADER_SEQUENCE, c->sequence);
	p->headers = (amqp_table_t){ w.n, w.entry };
	p->delivery_mode = AMQP_DELIVERY_PERSISTENT;
	p->_flags |= AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
	r = amqp_wire_add_publish(rabbit_out(ch), ch->number,
	    ch->conn->frame_max, c->queue, p, c->body, err);
	free(w.entry);
	recycle_amqp_pool(&rq->copy_pool);
	rabbit_flush_out(ch);
	return r;
}

/* ---- new messages ---- */

/* The properties that can be given as attributes; true when it was one. */
static bool
as_property(amqp_basic_properties_t *p, const struct attribute *a)
{
	const struct {
		const char *name;
		amqp_flags_t flag;
		amqp_bytes_t *value;
	} known[] = {
		{ "content-type", AMQP_BASIC_CONTENT_TYPE_FLAG,
		    &p->content_type },
		{ "content-encoding", AMQP_BASIC_CONTENT_ENCODING_FLAG,
		    &p->content_encoding },
		{ "correlation-id", AMQP_BASIC_CORRELATION_ID_FLAG,
		    &p->correlation_id },
		{ "reply-to", AMQP_BASIC_REPLY_TO_FLAG, &p->reply_to },
		{ "message-id", AMQP_BASIC_MESSAGE_ID_FLAG, &p->message_id },
		{ "type", AMQP_BASIC_TYPE_FLAG, &p->type },
		{ "app-id", AMQP_BASIC_APP_ID_FLAG, &p->app_id },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!slice_is(a->name, known[i].name) ||
		    a->value.n > AMQP_WIRE_SHORT_MAX)
			continue;
		*known[i].value = amqp_wire_bytes(a->value);
		p->_flags |= known[i].flag;
		return true;
	}
	return false;
}

int
rabbit_copy_new(struct rabbit_channel *ch, struct slice queue,
    const struct enqueue_job *job, const char *id, uint64_t sequence,
    struct error *err)
{
	amqp_basic_properties_t p = {
		._flags = AMQP_BASIC_DELIVERY_MODE_FLAG |
		    AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
		    AMQP_BASIC_HEADERS_FLAG,
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
		.timestamp = clock_realtime_us() / USEC_PER_SEC,
		.message_id = amqp_cstring_bytes(id),
	};
	struct writing w = { .n = 0 };
	int r;

	w.entry = xreallocarray(NULL, job->nattributes + 1, sizeof(*w.entry));
	for (size_t i = 0; i < job->nattributes; i++) {
		const struct attribute *a = &job->attributes[i];

		if (as_property(&p, a))
			continue;
		if (a->name.n > AMQP_WIRE_SHORT_MAX) {
			error_set(err, ERROR_REJECTED, "name_too_long", "an "
			    "attribute's name is longer than 255 bytes");
			free(w.entry);
			return -EINVAL;
		}
		w.entry[w.n++] = (amqp_table_entry_t){
			.key = amqp_wire_bytes(a->name),
			.value = { .kind = AMQP_FIELD_KIND_UTF8,
			    .value.bytes = amqp_wire_bytes(a->value) },
		};
	}
	put_number(&w, HEADER_SEQUENCE, sequence);
	p.headers = (amqp_table_t){ w.n, w.entry };
	r = amqp_wire_add_publish(rabbit_out(ch), ch->number,
	    ch->conn->frame_max, queue, &p, job->body, err);
	free(w.entry);
	rabbit_flush_out(ch);
	return r;
}
