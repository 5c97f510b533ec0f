/*
 * What a status means here, and what a person can do about it.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/pubsub_impl.h"

#define HIDE_BY	((size_t)16)	/* a token is known by its first bytes */

bool
pubsub_retryable(unsigned code)
{
	switch (code) {
	case GRPC_OK:
	case GRPC_ABORTED:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_INTERNAL:
	case GRPC_RESOURCE_EXHAUSTED:
	case GRPC_UNAVAILABLE:
	case GRPC_UNKNOWN:
		return true;
	default:
		return false;
	}
}

/* "Acknowledge" of "/google.pubsub.v1.Subscriber/Acknowledge". */
static const char *
method(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static const char *
advice(unsigned code, const char *name)
{
	bool publish = strcmp(name, "Publish") == 0;

	switch (code) {
	case GRPC_NOT_FOUND:
		return publish ? "the topic is not there: check DeadLetter= "
		    "(dead letters) or the subscription's topic" :
		    "it is not there: check Project= and Subscription=, or "
		    "create it";
	case GRPC_PERMISSION_DENIED:
		return publish ? "the account lacks roles/pubsub.publisher on "
		    "the topic" :
		    "the account lacks roles/pubsub.subscriber on it";
	case GRPC_UNAUTHENTICATED:
		return "the service does not accept our credentials: check "
		    "CredentialsFile= and the clock";
	case GRPC_RESOURCE_EXHAUSTED:
		return "a quota of the project is used up";
	case GRPC_FAILED_PRECONDITION:
		return "its state does not allow it (a detached subscription, "
		    "a push subscription, a topic without a schema's message)";
	default:
		return NULL;
	}
}

/* What a server says may repeat what it was sent, and be cut in the middle. */
static void
hide(char *text, const struct secret *token)
{
	struct slice s = token != NULL ? secret_bytes(token) :
	    (struct slice){ NULL, 0 };
	char *p = text;

	s.n = MIN(s.n, HIDE_BY);
	while (s.n != 0 && (p = memmem(p, strlen(p), s.p, s.n)) != NULL)
		while (*p > ' ' && *p != '"' && *p != '\'' && *p != ',')
			*p++ = '*';
}

void
pubsub_error(struct pubsub_queue *pq, const char *path,
    const struct grpc_status *status, const struct error *err,
    struct error *ret)
{
	const char *name = method(path), *do_this;
	bool publish = strcmp(name, "Publish") == 0;
	char said[120], message[sizeof(status->message)];

	if (err == NULL) {		/* a stream that ended with OK */
		error_set(ret, ERROR_TRANSIENT, "stream_ended", "the service "
		    "has ended the stream");
		return;
	}
	if (!status->from_server) {
		*ret = *err;		/* the connection: it says it all */
		return;
	}
	do_this = advice(status->code, name);
	memcpy(message, status->message, sizeof(message));
	for (size_t i = 0; i < ARRAY_SIZE(pq->sent_token); i++)
		hide(message, pq->sent_token[i]);
	error_quote(slice_of(message), said, sizeof(said));
	error_set(ret, err->class, err->code, "%s%s%s: %s%s%s", name,
	    publish ? "" : " of ", publish ? "" : pq->subscription != NULL ?
	    pq->subscription : "the subscription",
	    do_this != NULL ? do_this : said, do_this != NULL && *said != '\0' ?
	    "; it says: " : "", do_this != NULL ? said : "");
}
