#include "control/events.h"

#include "base/alloc.h"

#define TICK_US		(2 * USEC_PER_SEC)
#define TICK_BYTES	(32 * KIB)	/* each more is a second more */
#define BEAT_US		(15 * USEC_PER_SEC)
#define LINES_EVERY_US	(200 * USEC_PER_MSEC)
#define RETRY_MS	3000

static int
add_bytes(const char *p, size_t n, void *buffer)
{
	buffer_add(buffer, p, n);
	return 0;
}

/* Compact JSON has no line breaks, so one "data:" line holds it. */
static void
add_event(struct buffer *b, const char *name, json_t *data)
{
	buffer_printf(b, "event: %s\ndata: ", name);
	if (json_dump_callback(data, add_bytes, b, STATUS_DUMP_FLAGS) < 0)
		BUG("an event cannot be printed");
	buffer_add_str(b, "\n\n");
	json_decref(data);
}

static void
send_out(struct events *e)
{
	http_feed_send(&e->feed, buffer_slice(&e->out));
	buffer_clear(&e->out);
	buffer_trim(&e->out);
}

static void
on_tick(struct timer *t)
{
	struct events *e = t->owner;
	size_t n;

	if (e->feed.n == 0)
		return;
	add_event(&e->out, "status", observer_status(e->observer));
	n = buffer_len(&e->out);
	e->documents++;
	send_out(e);
	timer_arm(e->loop, t, TICK_US + n / TICK_BYTES * USEC_PER_SEC);
}

static void
on_beat(struct timer *t)
{
	struct events *e = t->owner;

	if (e->feed.n == 0)
		return;
	buffer_add_str(&e->out, ": beat\n\n");
	send_out(e);
	timer_arm(e->loop, t, BEAT_US);
}

static void
on_lines(struct timer *t)
{
	struct events *e = t->owner;
	json_t *lines;

	if (e->feed.n == 0)
		return;
	lines = observer_log(e->observer, e->line, &e->line);
	if (json_array_size(lines) == 0) {
		json_decref(lines);
		return;
	}
	add_event(&e->out, "log", lines);
	send_out(e);
}

/* Anything may be logging: nothing is sent from in here. */
static void
on_new_line(void *owner)
{
	struct events *e = owner;

	if (e->feed.n != 0)
		timer_arm_sooner(e->loop, &e->lines, LINES_EVERY_US);
}

void
events_init(struct events *e, struct loop *loop, struct observer *o)
{
	*e = (struct events){ .loop = loop, .observer = o,
		.out = BUFFER_INIT };
	http_feed_init(&e->feed, EVENTS_SUBSCRIBERS, EVENTS_PER_ADDRESS,
	    EVENTS_UNSENT_MAX);
	timer_init(&e->tick, "events: status", on_tick, e);
	timer_init(&e->beat, "events: beat", on_beat, e);
	timer_init(&e->lines, "events: log", on_lines, e);
	observer_on_log(o, on_new_line, e);
}

void
events_done(struct events *e)
{
	observer_on_log(e->observer, NULL, NULL);
	timer_cancel(e->loop, &e->tick);
	timer_cancel(e->loop, &e->beat);
	timer_cancel(e->loop, &e->lines);
	buffer_done(&e->out);
}

void
events_subscribe(void *owner, const struct http_request *req,
    struct http_response *r)
{
	struct events *e = owner;
	uint64_t last;

	(void)req;
	r->content_type = "text/event-stream";
	r->feed = &e->feed;
	buffer_printf(&r->body, "retry: %d\n\n", RETRY_MS);
	add_event(&r->body, "status", observer_status(e->observer));
	add_event(&r->body, "log", observer_log(e->observer, 0, &last));
	/* Others may still wait for theirs. */
	if (e->feed.n == 0)
		e->line = last;
	if (!timer_armed(&e->tick))
		timer_arm(e->loop, &e->tick, TICK_US);
	if (!timer_armed(&e->beat))
		timer_arm(e->loop, &e->beat, BEAT_US);
}
