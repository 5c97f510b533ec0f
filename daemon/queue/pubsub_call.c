/*
 * Unary calls, and what each request carries.
 */
#include "base/alloc.h"
#include "queue/pubsub_impl.h"

static void waiter_called(struct google_waiter *, const struct error *);

void
pubsub_call_init(struct pubsub_call *c, struct pubsub_queue *pq,
    const char *path, pubsub_call_fn *fn, void *owner)
{
	*c = (struct pubsub_call){ .pq = pq, .path = path, .fn = fn,
	    .owner = owner };
	list_init(&c->link);
	buffer_init(&c->body);
	buffer_init(&c->answer);
	google_waiter_init(&c->waiter, waiter_called, c);
}

void
pubsub_call_cancel(struct pubsub_call *c)
{
	if (c->state == CALL_IDLE)
		return;
	grpc_call_cancel(&c->grpc);
	google_waiter_cancel(&c->waiter);
	list_remove(&c->link);
	c->state = CALL_IDLE;
}

void
pubsub_call_done(struct pubsub_call *c)
{
	pubsub_call_cancel(c);
	buffer_done(&c->body);
	buffer_done(&c->answer);
}

/* ---- authorization ---- */

bool
pubsub_authorized(struct pubsub_queue *pq)
{
	return pq->token == NULL || google_token_get(pq->token) != NULL;
}

void
pubsub_add_metadata(struct pubsub_queue *pq, struct grpc_metadata *metadata,
    uint64_t *ret_generation)
{
	const struct google_bearer *bearer = pq->token != NULL ?
	    google_token_get(pq->token) : NULL;
	const char *project = pq->token != NULL ?
	    google_token_quota_project(pq->token) : NULL;
	_cleanup_buffer_ struct buffer value = BUFFER_INIT;

	*ret_generation = 0;
	/* It may have gone since; the service will say so. */
	if (bearer == NULL)
		return;
	*ret_generation = bearer->generation;
	if (bearer->generation != pq->sent_generation) {
		struct slice token = secret_bytes(bearer->token);

		secret_free(pq->sent_token[1]);
		pq->sent_token[1] = pq->sent_token[0];
		pq->sent_token[0] = secret_new(token.p, token.n);
		pq->sent_generation = bearer->generation;
	}
	buffer_add_str(&value, "Bearer ");
	buffer_add_slice(&value, secret_bytes(bearer->token));
	grpc_metadata_add(metadata, "authorization", buffer_slice(&value));
	secret_wipe(buffer_head(&value), buffer_len(&value));
	if (project != NULL)
		grpc_metadata_add(metadata, "x-goog-user-project",
		    slice_of(project));
}

static void
add_metadata(struct grpc_call *g, struct grpc_metadata *metadata)
{
	struct pubsub_call *c = g->owner;

	pubsub_add_metadata(c->pq, metadata, &c->generation);
}

/* ---- answers ---- */

static void
finish(struct pubsub_call *c, struct slice answer, const struct error *err)
{
	list_remove(&c->link);
	c->state = CALL_IDLE;
	c->fn(c, answer, err);
}

static void
on_message(struct grpc_call *g, struct slice message)
{
	struct pubsub_call *c = g->owner;

	c->answered = true;
	buffer_clear(&c->answer);
	buffer_add_slice(&c->answer, message);
}

static void send_now(struct pubsub_call *);

static void
on_done(struct grpc_call *g, const struct grpc_status *status,
    const struct error *err)
{
	struct pubsub_call *c = g->owner;
	struct error e;

	c->code = status->code;
	c->details = status->details;
	if (status->code == GRPC_UNAUTHENTICATED && c->pq->token != NULL &&
	    !c->corrected) {
		c->corrected = true;
		google_token_rejected(c->pq->token, c->generation);
		send_now(c);
		return;
	}
	if (err != NULL) {
		pubsub_error(c->pq, c->path, status, err, &e);
		finish(c, (struct slice){ NULL, 0 }, &e);
	} else if (!c->answered) {
		c->code = GRPC_INTERNAL;
		error_set(&e, ERROR_PROTOCOL, "malformed_answer", "%s was "
		    "answered with OK and without a message", c->path);
		finish(c, (struct slice){ NULL, 0 }, &e);
	} else {
		finish(c, buffer_slice(&c->answer), NULL);
	}
}

/* ---- sending ---- */

static void
send_now(struct pubsub_call *c)
{
	struct pubsub_queue *pq = c->pq;

	if (!pubsub_authorized(pq)) {
		c->state = CALL_WAITS;
		google_token_wait(pq->token, &c->waiter);
		return;
	}
	c->state = CALL_SENT;
	c->answered = false;
	c->grpc = (struct grpc_call){
		.path = c->path,
		.add_metadata = add_metadata,
		.on_message = on_message,
		.on_done = on_done,
		.owner = c,
		.timeout_us = c->timeout_us != 0 ? c->timeout_us :
		    pq->response_timeout_us,
	};
	pq->requests++;
	grpc_call_start(pq->channel, &c->grpc);
	grpc_call_send(&c->grpc, buffer_slice(&c->body), true);
}

static void
waiter_called(struct google_waiter *w, const struct error *err)
{
	struct pubsub_call *c = container_of(w, struct pubsub_call, waiter);

	if (err == NULL) {
		send_now(c);
		return;
	}
	c->code = GRPC_UNAUTHENTICATED;
	c->details = (struct slice){ NULL, 0 };
	finish(c, (struct slice){ NULL, 0 }, err);
}

void
pubsub_call_send(struct pubsub_call *c)
{
	BUG_ON(c->state != CALL_IDLE);
	list_push_back(&c->pq->calls, &c->link);
	c->corrected = false;
	send_now(c);
}
