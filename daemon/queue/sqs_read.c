/*
 * The answer to ReceiveMessage, read where it stands in the messages' chunk.
 */
#include "base/clock.h"
#include "codec/json_scan.h"
#include "queue/sqs_impl.h"

/* ---- attributes ---- */

static struct slice
or_empty(struct slice s)
{
	return s.p != NULL ? s : (struct slice){ "", 0 };
}

/* Where the attribute of that name goes: what comes last counts. NULL: there
   is no room for more. */
static struct sqs_user_attribute *
user_slot(struct sqs_parts *p, struct slice name)
{
	unsigned i = 0;

	while (i < p->nuser && !slice_eq(p->user[i].name, name))
		i++;
	if (i == SQS_PARTS_MAX)
		return NULL;
	p->nuser = MAX(p->nuser, i + 1);
	p->user[i] = (struct sqs_user_attribute){ .name = name };
	return &p->user[i];
}

static struct sqs_system_attribute *
system_slot(struct sqs_parts *p, struct slice name)
{
	unsigned i = 0;

	while (i < p->nsystem && !slice_eq(p->system[i].name, name))
		i++;
	if (i == SQS_PARTS_MAX)
		return NULL;
	p->nsystem = MAX(p->nsystem, i + 1);
	p->system[i].name = name;
	return &p->system[i];
}

static void
read_user_value(struct json_scan *s, struct sqs_user_attribute *a)
{
	const struct json_scan_member members[] = {
		{ "DataType", &a->type },
		{ "StringValue", &a->string },
		{ "BinaryValue", &a->binary },
	};

	json_scan_texts(s, members, ARRAY_SIZE(members));
}

/* False: there are too many. */
static bool
read_user(struct json_scan *s, struct chunk *chunk, struct sqs_parts *p)
{
	struct sqs_user_attribute *a;
	struct json_scan start;
	struct slice key;
	bool room = true;

	p->nuser = 0;
	p->user_text = (struct slice){ NULL, 0 };
	if (json_scan_peek(s) != JSON_SCAN_OBJECT) {
		(void)json_scan_skip(s);
		return true;
	}
	/* As it came, for a dead letter; before it is unescaped. */
	start = *s;
	if (!json_scan_raw(s, &p->user_text))
		return true;
	if (p->user_text.n == 2) {	/* {} */
		p->user_text.n = 0;
		return true;
	}
	p->user_text = chunk_copy(chunk, p->user_text.p, p->user_text.n);
	*s = start;
	(void)json_scan_enter_object(s);
	while (json_scan_next_key(s, &key)) {
		a = user_slot(p, key);
		room = room && a != NULL;
		if (a != NULL)
			read_user_value(s, a);
		else
			(void)json_scan_skip(s);
	}
	return room;
}

static bool
read_system(struct json_scan *s, struct sqs_parts *p)
{
	struct sqs_system_attribute *a;
	struct slice key, value;
	bool room = true;

	p->nsystem = 0;
	if (json_scan_peek(s) != JSON_SCAN_OBJECT) {
		(void)json_scan_skip(s);
		return true;
	}
	(void)json_scan_enter_object(s);
	while (json_scan_next_key(s, &key)) {
		(void)json_scan_text(s, &value);
		a = system_slot(p, key);
		room = room && a != NULL;
		if (a != NULL)
			a->value = or_empty(value);
	}
	return room;
}

/* ---- messages ---- */

static struct slice *
text_part(struct sqs_parts *p, struct slice key)
{
	if (slice_is(key, "MessageId"))
		return &p->id;
	if (slice_is(key, "ReceiptHandle"))
		return &p->handle;
	if (slice_is(key, "Body"))
		return &p->body;
	if (slice_is(key, "MD5OfBody"))
		return &p->body_md5;
	if (slice_is(key, "MD5OfMessageAttributes"))
		return &p->attributes_md5;
	return NULL;
}

/* False: it can be no message. */
static bool
read_parts(struct json_scan *s, struct chunk *chunk, struct sqs_parts *p)
{
	struct slice key, *text;
	bool room = true;

	p->id = p->handle = p->body = p->body_md5 = p->attributes_md5 =
	    p->user_text = (struct slice){ NULL, 0 };
	p->nuser = p->nsystem = 0;
	if (json_scan_peek(s) != JSON_SCAN_OBJECT) {
		(void)json_scan_skip(s);
		return false;
	}
	(void)json_scan_enter_object(s);
	while (json_scan_next_key(s, &key)) {
		text = text_part(p, key);
		if (text != NULL)
			(void)json_scan_text(s, text);
		else if (slice_is(key, "MessageAttributes"))
			room = read_user(s, chunk, p) && room;
		else if (slice_is(key, "Attributes"))
			room = read_system(s, p) && room;
		else
			(void)json_scan_skip(s);
	}
	return room && p->id.p != NULL && p->handle.p != NULL &&
	    p->body.p != NULL;
}

static void
drop(struct list *messages)
{
	struct list *l;

	while ((l = list_pop_front(messages)) != NULL)
		message_free(list_entry(l, struct message, link));
}

static void
read_array(struct json_scan *s, struct sqs_queue *sq, struct chunk *chunk,
    struct list *messages, struct error *err)
{
	uint64_t now = clock_monotonic_us();
	struct sqs_parts p;
	struct message *m;

	(void)json_scan_enter_array(s);
	while (json_scan_next_element(s)) {
		bool good = read_parts(s, chunk, &p);

		if (s->error != NULL)
			return;
		if (!good) {
			error_set(err, ERROR_PROTOCOL, "malformed_answer",
			    "a message came without MessageId, ReceiptHandle "
			    "or Body, or with more than %u attributes",
			    SQS_PARTS_MAX);
			continue;
		}
		m = sqs_message(sq, chunk, &p, now);
		list_push_back(messages, &m->link);
	}
}

int
sqs_read_messages(const struct sqs_call *c, struct chunk *chunk,
    struct slice answer, struct list *messages, struct error *err)
{
	struct json_scan s;
	struct slice key;
	char *copy;
	bool no_array = false;

	if (answer.n == 0)
		return 0;
	copy = chunk_alloc(chunk, answer.n);
	memcpy(copy, answer.p, answer.n);
	json_scan_init(&s, copy, answer.n);
	(void)json_scan_enter_object(&s);
	while (json_scan_next_key(&s, &key)) {
		enum json_scan_kind kind = json_scan_peek(&s);

		if (!slice_is(key, "Messages")) {
			(void)json_scan_skip(&s);
			continue;
		}
		drop(messages);		/* what comes last counts */
		no_array = kind != JSON_SCAN_ARRAY && kind != JSON_SCAN_NULL;
		if (kind == JSON_SCAN_ARRAY)
			read_array(&s, c->sq, chunk, messages, err);
		else
			(void)json_scan_skip(&s);
	}
	if (json_scan_end(&s) < 0)
		sqs_malformed(c, err);
	else if (no_array)
		error_set(err, ERROR_PROTOCOL, "malformed_answer", "%s was "
		    "answered with Messages that are no array", c->operation);
	else
		return 0;
	drop(messages);
	return -EPROTO;
}
