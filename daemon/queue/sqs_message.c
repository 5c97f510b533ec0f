/*
 * From an element of "Messages" to a message, and back to what is sent.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "codec/json_scan.h"
#include "queue/sqs_impl.h"

/* ---- receiving ---- */

static bool
begins(struct slice s, const char *with)
{
	size_t n = strlen(with);

	return s.n >= n && memcmp(s.p, with, n) == 0;
}

static struct attribute
theirs(const struct sqs_user_attribute *u)
{
	bool binary = begins(u->type, "Binary");
	struct slice value = binary ? u->binary : u->string;

	return (struct attribute){
		.name = u->name,
		.value = value.p != NULL ? value : (struct slice){ "", 0 },
		.json = begins(u->type, "Number") && json_scan_is_number(value),
	};
}

/* The service's own facts about the message: "sqs-SentTimestamp". */
static struct attribute
of_service(struct chunk *chunk, const struct sqs_system_attribute *s)
{
	char *name = chunk_alloc(chunk, s->name.n + 4);
	uint64_t number;

	memcpy(name, "sqs-", 4);
	memcpy(name + 4, s->name.p, s->name.n);
	return (struct attribute){
		.name = { name, s->name.n + 4 },
		.value = s->value,
		.json = slice_to_u64(s->value, &number) == 0 &&
		    json_scan_is_number(s->value),
	};
}

static void
add_attributes(struct message *m, const struct sqs_parts *p)
{
	struct attribute *a = chunk_alloc(m->chunk, MAX(p->nuser + p->nsystem,
	    1u) * sizeof(*a));

	m->attributes = a;
	m->nattributes = p->nuser + p->nsystem;
	for (unsigned i = 0; i < p->nuser; i++)
		*a++ = theirs(&p->user[i]);
	for (unsigned i = 0; i < p->nsystem; i++)
		*a++ = of_service(m->chunk, &p->system[i]);
}

static uint64_t
number_of(struct slice s)
{
	uint64_t n;

	return slice_to_u64(s, &n) == 0 ? n : 0;
}

static void
take_system(struct message *m, struct sqs_receipt *r,
    const struct sqs_system_attribute *s)
{
	uint64_t attempt;

	if (slice_is(s->name, "MessageGroupId")) {
		r->group = s->value;
	} else if (slice_is(s->name, "MessageDeduplicationId")) {
		r->deduplication = s->value;
	} else if (slice_is(s->name, "ApproximateReceiveCount")) {
		attempt = MAX(number_of(s->value), (uint64_t)1);
		m->attempt = (unsigned)MIN(attempt,
		    (uint64_t)m->queue->max_attempts);
	} else if (slice_is(s->name, "SentTimestamp")) {
		m->enqueued_us = number_of(s->value) * USEC_PER_MSEC;
	}
}

struct message *
sqs_message(struct sqs_queue *sq, struct chunk *chunk,
    const struct sqs_parts *p, uint64_t now_us)
{
	struct message *m = message_new(sq->queue, chunk);
	struct sqs_receipt *r = chunk_alloc(chunk, sizeof(*r));

	*r = (struct sqs_receipt){
		.message = m,
		.handle = p->handle,
		.attributes = p->user_text,
		.received_us = now_us,
		.misfit = sqs_md5_misfit(sq, p),
	};
	m->receipt_data = r;
	m->receipt = r->handle;
	m->name = p->id;
	m->body = p->body;
	for (unsigned i = 0; i < p->nsystem; i++)
		take_system(m, r, &p->system[i]);
	add_attributes(m, p);
	/* On a standard queue a group (fair queues) promises no order. */
	if (sq->fifo)
		m->order_key = r->group;
	return m;
}

/* ---- sending ---- */

static void
add_string_attribute(struct buffer *b, bool first, const char *name,
    const char *type, struct slice value)
{
	if (!first)
		buffer_add_char(b, ',');
	json_add_string(b, slice_of(name));
	buffer_add_str(b, ":{\"DataType\":");
	json_add_string(b, slice_of(type));
	buffer_add_str(b, ",\"StringValue\":");
	json_add_string(b, value);
	buffer_add_char(b, '}');
}

/* The words of a death, the most useful first: there is room for ten. */
static void
add_death(struct sqs_queue *sq, struct buffer *b, const struct sqs_sending *s,
    size_t have)
{
	char attempts[24], died[24], crashes[24];
	const struct {
		const char *name, *type;
		struct slice value;
	} ours[] = {
		{ "bot-error-type", "String", s->error_type },
		{ "bot-detail", "String", s->detail },
		{ "bot-attempts", "Number", { attempts,
		    fmt_u64(attempts, s->attempts) } },
		{ "bot-queue", "String", slice_of(sq->queue->name) },
		{ "bot-died", "Number", { died, fmt_u64(died,
		    clock_realtime_us() / USEC_PER_MSEC) } },
		{ "bot-deduplication-id", "String", s->first_deduplication },
		{ "bot-origin-id", "String", s->name },
		{ "bot-crashes", "Number", { crashes,
		    fmt_u64(crashes, s->crashes) } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		/* The service refuses empty values. */
		if (ours[i].value.n == 0 || have == SQS_ATTRIBUTES_MAX)
			continue;
		add_string_attribute(b, have == 0, ours[i].name, ours[i].type,
		    ours[i].value);
		have++;
	}
}

/* Those of the original, without what an earlier death has left there. */
static size_t
add_theirs(struct buffer *b, struct slice attributes)
{
	_cleanup_free_ char *copy = NULL;
	struct slice name, value;
	struct json_scan s;
	size_t n = 0;

	if (attributes.n == 0)
		return 0;
	copy = xmemdup(attributes.p, attributes.n);
	json_scan_init(&s, copy, attributes.n);
	if (!json_scan_enter_object(&s))
		return 0;
	while (json_scan_next_key(&s, &name) && json_scan_raw(&s, &value)) {
		if (begins(name, "bot-"))
			continue;
		if (n++ != 0)
			buffer_add_char(b, ',');
		json_add_string(b, name);
		buffer_add_char(b, ':');
		buffer_add_slice(b, value);
	}
	return n;
}

void
sqs_add_sending(struct sqs_queue *sq, struct buffer *b,
    const struct sqs_sending *s)
{
	size_t n;

	buffer_add_str(b, ",\"MessageBody\":");
	json_add_string(b, s->body);
	buffer_add_str(b, ",\"MessageAttributes\":{");
	n = add_theirs(b, s->attributes);
	if (s->error_type.n != 0)
		add_death(sq, b, s, n);
	buffer_add_char(b, '}');
	if (!s->fifo)
		return;
	buffer_add_str(b, ",\"MessageGroupId\":");
	json_add_string(b, s->group.n != 0 ? s->group : SLICE("bot-operator"));
	buffer_add_str(b, ",\"MessageDeduplicationId\":");
	json_add_string(b, s->deduplication);
}
