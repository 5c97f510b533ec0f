/*
 * From an element of "Messages" to a message, and back to what is sent.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "queue/sqs_impl.h"

static struct slice
text_of(const json_t *j)
{
	return json_is_string(j) ? (struct slice){ json_string_value(j),
	    json_string_length(j) } : (struct slice){ "", 0 };
}

static struct slice
keep(struct chunk *chunk, const json_t *j)
{
	struct slice s = text_of(j);

	return s.n == 0 ? s : chunk_copy(chunk, s.p, s.n);
}

static uint64_t
number_of(const json_t *j)
{
	uint64_t n;

	return slice_to_u64(text_of(j), &n) == 0 ? n : 0;
}

/* ---- attributes ---- */

/* Is the text a JSON number as it stands? "007" and "1e999" are text. */
static bool
is_number(struct slice s)
{
	json_t *j = s.n != 0 && s.n < 64 ? json_loadb(s.p, s.n,
	    JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL) : NULL;
	bool yes = json_is_number(j);

	json_decref(j);
	return yes;
}

static struct slice
prefixed(struct chunk *chunk, const char *name)
{
	size_t n = strlen(name);
	char *p = chunk_alloc(chunk, n + 4);

	memcpy(p, "sqs-", 4);
	memcpy(p + 4, name, n);
	return (struct slice){ p, n + 4 };
}

static struct attribute
theirs(struct chunk *chunk, const char *name, const json_t *value)
{
	const char *type = json_string_value(json_object_get(value,
	    "DataType"));
	struct attribute a = { .name = chunk_copy(chunk, name, strlen(name)) };

	if (type != NULL && strncmp(type, "Binary", 6) == 0) {
		a.value = keep(chunk, json_object_get(value, "BinaryValue"));
		return a;
	}
	a.value = keep(chunk, json_object_get(value, "StringValue"));
	a.json = type != NULL && strncmp(type, "Number", 6) == 0 &&
	    is_number(a.value);
	return a;
}

/* Ours are the service's own facts about the message: "sqs-SentTimestamp". */
static void
add_attributes(struct message *m, const json_t *system, const json_t *user)
{
	size_t n = json_object_size(system) + json_object_size(user);
	struct attribute *a = chunk_alloc(m->chunk, MAX(n, (size_t)1) *
	    sizeof(*a));
	const char *name;
	json_t *value;

	m->attributes = a;
	json_object_foreach((json_t *)(uintptr_t)user, name, value)
		*a++ = theirs(m->chunk, name, value);
	json_object_foreach((json_t *)(uintptr_t)system, name, value) {
		struct slice text = keep(m->chunk, value);
		uint64_t number;

		*a++ = (struct attribute){
			.name = prefixed(m->chunk, name),
			.value = text,
			.json = slice_to_u64(text, &number) == 0 &&
			    is_number(text),
		};
	}
	m->nattributes = n;
}

static void
keep_user(struct message *m, struct sqs_receipt *r, const json_t *user)
{
	char *text;

	if (json_object_size(user) == 0)
		return;
	text = json_dumps(user, JSON_COMPACT);
	r->attributes = chunk_copy(m->chunk, text, strlen(text));
	free(text);
}

/* ---- receiving ---- */

struct message *
sqs_message(struct sqs_queue *sq, struct chunk *chunk, const json_t *j,
    struct error *err)
{
	const json_t *system = json_object_get(j, "Attributes");
	const json_t *user = json_object_get(j, "MessageAttributes");
	struct sqs_receipt *r;
	struct message *m;

	if (!json_is_string(json_object_get(j, "ReceiptHandle")) ||
	    !json_is_string(json_object_get(j, "MessageId")) ||
	    !json_is_string(json_object_get(j, "Body"))) {
		error_set(err, ERROR_PROTOCOL, "malformed_answer", "a message "
		    "came without MessageId, ReceiptHandle or Body");
		return NULL;
	}
	m = message_new(sq->queue, chunk);
	r = chunk_alloc(chunk, sizeof(*r));
	*r = (struct sqs_receipt){
		.message = m,
		.handle = keep(chunk, json_object_get(j, "ReceiptHandle")),
		.group = keep(chunk, json_object_get(system,
		    "MessageGroupId")),
		.deduplication = keep(chunk, json_object_get(system,
		    "MessageDeduplicationId")),
		.received_us = clock_monotonic_us(),
	};
	m->receipt_data = r;
	m->receipt = r->handle;
	m->name = keep(chunk, json_object_get(j, "MessageId"));
	m->body = keep(chunk, json_object_get(j, "Body"));
	keep_user(m, r, user);
	add_attributes(m, system, user);
	m->attempt = (unsigned)MIN(MAX(number_of(json_object_get(system,
	    "ApproximateReceiveCount")), (uint64_t)1),
	    (uint64_t)sq->queue->max_attempts);
	m->enqueued_us = number_of(json_object_get(system, "SentTimestamp")) *
	    USEC_PER_MSEC;
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

static bool
is_ours(const char *name)
{
	return strncmp(name, "bot-", 4) == 0;
}

/* Those of the original, without what an earlier death has left there. */
static size_t
add_theirs(struct buffer *b, struct slice attributes)
{
	json_t *object = attributes.n != 0 ? json_loadb(attributes.p,
	    attributes.n, 0, NULL) : NULL;
	const char *name;
	json_t *value;
	size_t n = 0;

	json_object_foreach(object, name, value) {
		char *text;

		if (is_ours(name))
			continue;
		if (n++ != 0)
			buffer_add_char(b, ',');
		json_add_string(b, slice_of(name));
		buffer_add_char(b, ':');
		text = json_dumps(value, JSON_COMPACT);
		buffer_add_str(b, text);
		free(text);
	}
	json_decref(object);
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
