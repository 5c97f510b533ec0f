/*
 * What everything is doing right now, for a person with a question.
 */
#include "control/api_private.h"

#include <math.h>

#include "base/clock.h"

#define MESSAGES_MAX	1000	/* shown; all are counted */

static json_t *
seconds(uint64_t us)
{
	return json_real(round((double)us / 1e4) / 100);
}

static json_t *
seconds_ago(uint64_t then_us)
{
	uint64_t now = clock_monotonic_us();

	return then_us == 0 ? json_null() : seconds(now - MIN(now, then_us));
}

static json_t *
seconds_until(uint64_t then_us)
{
	double now = (double)clock_monotonic_us();

	return then_us == 0 || then_us == USEC_INFINITY ? json_null() :
	    json_real(round(((double)then_us - now) / 1e4) / 100);
}

static void
add_timer(void *arg, const char *name, uint64_t due_in_us)
{
	json_t *j = json_object();

	(void)json_object_set_new(j, "name", api_text(slice_of(name)));
	(void)json_object_set_new(j, "due_in_seconds", seconds(due_in_us));
	(void)json_array_append_new(arg, j);
}

static void
add_stream(void *arg, const struct stream *s)
{
	const char *tls = stream_is_up(s) ? stream_tls_text(s) : NULL;
	char peer[ADDRESS_TEXT_BYTES];
	json_t *j = json_object();

	address_text(&s->peer, peer);
	(void)json_object_set_new(j, "name", api_text(slice_of(s->name)));
	(void)json_object_set_new(j, "state",
	    json_string(stream_state_name(s->state)));
	(void)json_object_set_new(j, "peer", api_text(slice_of(peer)));
	(void)json_object_set_new(j, "tls", tls != NULL ?
	    api_text(slice_of(tls)) : json_null());
	(void)json_object_set_new(j, "bytes_in",
	    json_integer((json_int_t)s->bytes_in));
	(void)json_object_set_new(j, "bytes_out",
	    json_integer((json_int_t)s->bytes_out));
	(void)json_object_set_new(j, "unread",
	    json_integer((json_int_t)buffer_len(&s->in)));
	(void)json_object_set_new(j, "unsent",
	    json_integer((json_int_t)stream_pending(s)));
	(void)json_object_set_new(j, "last_read_seconds",
	    seconds_ago(s->last_read_us));
	(void)json_array_append_new(arg, j);
}

/* Not the body and not the attributes: those are the client's. */
static void
add_message(void *arg, const struct message *m)
{
	json_t *j;

	if (json_array_size(arg) >= MESSAGES_MAX)
		return;
	j = json_object();
	(void)json_object_set_new(j, "id", json_integer((json_int_t)m->id));
	(void)json_object_set_new(j, "queue",
	    api_text(slice_of(m->queue->name)));
	(void)json_object_set_new(j, "name", api_text(m->name));
	(void)json_object_set_new(j, "state",
	    json_string(message_state_name(m->state)));
	(void)json_object_set_new(j, "attempt",
	    json_integer((json_int_t)m->attempt));
	(void)json_object_set_new(j, "crashes",
	    json_integer((json_int_t)m->crashes));
	(void)json_object_set_new(j, "bytes",
	    json_integer((json_int_t)m->body.n));
	(void)json_object_set_new(j, "order_key", m->order_key.n != 0 ?
	    api_text(m->order_key) : json_null());
	(void)json_object_set_new(j, "age_seconds",
	    seconds_ago(m->received_us));
	(void)json_object_set_new(j, "running_seconds",
	    m->state == MESSAGE_RUNNING ? seconds_ago(m->started_us) :
	    json_null());
	(void)json_object_set_new(j, "lease_seconds",
	    seconds_until(m->lease_until_us));
	(void)json_object_set_new(j, "lease_lost",
	    json_boolean(m->lease_lost));
	(void)json_array_append_new(arg, j);
}

static void
add_workers(struct engine *e, json_t *array)
{
	struct list *l;
	struct pool *p;

	engine_foreach_pool(p, e, l)
		if (p->type->ops->debug != NULL)
			p->type->ops->debug(p, array);
}

void
api_debug(struct api_conn *c, json_t *request)
{
	const char *what =
	    json_string_value(json_object_get(request, "what"));
	json_t *line = json_object(), *array = json_array();

	if (what == NULL)
		what = "";
	if (strcmp(what, "timers") == 0) {
		loop_visit_timers(c->api->p.loop, add_timer, array);
	} else if (strcmp(what, "streams") == 0) {
		stream_visit(add_stream, array);
	} else if (strcmp(what, "workers") == 0) {
		add_workers(c->api->p.engine, array);
	} else if (strcmp(what, "messages") == 0) {
		message_visit(add_message, array);
		(void)json_object_set_new(line, "count",
		    json_integer((json_int_t)message_count()));
	} else {
		json_decref(array);
		json_decref(line);
		api_fail(c, "debug shows timers, streams, workers or messages");
		return;
	}
	(void)json_object_set_new(line, what, array);
	api_ok(c, line);
}
