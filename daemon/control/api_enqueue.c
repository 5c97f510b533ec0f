#include "control/api_private.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "codec/base64.h"

struct enqueue_op {
	struct api_op op;
	struct enqueue_job job;
	struct attribute *attributes;
	json_t *request;		/* the attributes' text lives there */
	json_t *values;			/* those that had to be dumped: here */
	struct buffer body;
	char *queue;
};

static void
enqueue_free(struct enqueue_op *e)
{
	api_op_end(&e->op);
	buffer_done(&e->body);
	json_decref(e->request);
	json_decref(e->values);
	free(e->attributes);
	free(e->queue);
	free(e);
}

/* The queue has the job: it cannot be called back, only not be told of. */
static void
on_abandoned(struct api_op *op _unused_)
{
}

static void
on_destroy(struct api_op *op)
{
	enqueue_free(container_of(op, struct enqueue_op, op));
}

static void
on_done(struct enqueue_job *job, struct slice id, const struct error *err)
{
	struct enqueue_op *e = container_of(job, struct enqueue_op, job);
	struct api_conn *c = e->op.conn;

	if (c != NULL && err != NULL) {
		api_fail(c, "queue %s did not take it: %s", e->queue,
		    err->text);
	} else if (c != NULL) {
		json_t *line = json_object();

		(void)json_object_set_new(line, "id", api_text(id));
		api_ok(c, line);
	}
	enqueue_free(e);
}

/* 0, or -EINVAL after having said why. */
static int
take_body(struct api_conn *c, struct enqueue_op *e)
{
	json_t *text = json_object_get(e->request, "body");
	json_t *coded = json_object_get(e->request, "body_base64");
	json_t *given = text != NULL ? text : coded;
	struct slice s;

	if ((text != NULL) == (coded != NULL) || !json_is_string(given)) {
		api_fail(c, "the message is either \"body\" or "
		    "\"body_base64\", a string");
		return -EINVAL;
	}
	s = (struct slice){ json_string_value(given),
		json_string_length(given) };
	if (text != NULL) {
		buffer_add_slice(&e->body, s);
		return 0;
	}
	if (base64_decode(s, &e->body) < 0) {
		api_fail(c, "\"body_base64\" is not base64");
		return -EINVAL;
	}
	return 0;
}

static int
take_attributes(struct api_conn *c, struct enqueue_op *e)
{
	json_t *given = json_object_get(e->request, "attributes"), *value;
	const char *name;

	e->values = json_array();
	if (given == NULL)
		return 0;
	if (!json_is_object(given)) {
		api_fail(c, "\"attributes\" is an object");
		return -EINVAL;
	}
	e->attributes = xcalloc(json_object_size(given) + 1,
	    sizeof(*e->attributes));
	json_object_foreach(given, name, value) {
		struct attribute *a = &e->attributes[e->job.nattributes++];

		a->name = slice_of(name);
		if (!json_is_string(value)) {
			_cleanup_free_ char *dump = json_dumps(value,
			    JSON_ENCODE_ANY | JSON_COMPACT);

			value = json_string(dump != NULL ? dump : "null");
			(void)json_array_append_new(e->values, value);
			a->json = true;
		}
		a->value = (struct slice){ json_string_value(value),
			json_string_length(value) };
	}
	return 0;
}

void
api_enqueue(struct api_conn *c, json_t *request)
{
	struct queue *q = api_find_queue(c, request);
	struct enqueue_op *e;

	if (q == NULL)
		return;
	if (!(q->type->capabilities & QUEUE_CAN_ENQUEUE)) {
		api_fail(c, "queues of type %s cannot be written to from here",
		    q->type->name);
		return;
	}
	if (api_refuse_standby(c))
		return;
	if (q->stopping || q->engine->phase >= ENGINE_DRAINING) {
		api_fail(c, "queue %s is stopping", q->name);
		return;
	}
	e = new0(struct enqueue_op);
	e->op.abandoned = on_abandoned;
	e->op.destroy = on_destroy;
	list_init(&e->op.link);
	e->request = json_incref(request);
	e->queue = xstrdup(q->name);
	if (take_body(c, e) < 0 || take_attributes(c, e) < 0) {
		enqueue_free(e);
		return;
	}
	if (q->max_bytes != 0 && buffer_len(&e->body) > q->max_bytes) {
		api_fail(c, "%zu bytes are over MaxBytes=%zu of queue %s",
		    buffer_len(&e->body), q->max_bytes, q->name);
		enqueue_free(e);
		return;
	}
	if (api_op_begin(&e->op, c) < 0) {
		api_fail(c, "too many commands at once");
		enqueue_free(e);
		return;
	}
	e->job.body = buffer_slice(&e->body);
	if (e->job.body.p == NULL)
		e->job.body.p = "";
	e->job.attributes = e->attributes;
	e->job.done = on_done;
	e->job.owner = e;
	q->type->ops->enqueue(q, &e->job);
}
