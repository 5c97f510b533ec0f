/*
 * What Redis' error replies mean, and what a person can do about them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "queue/redis_impl.h"

static const struct meaning {
	const char *prefix;
	const char *code;
	enum error_class class;
	const char *advice;
} meanings[] = {
	{ "NOAUTH", "NOAUTH", ERROR_AUTH, "the server wants a password: set "
	    "PasswordFile=, and Username= for an ACL user" },
	{ "WRONGPASS", "WRONGPASS", ERROR_AUTH, "the server does not accept "
	    "the user name or password: check Username= and PasswordFile=" },
	{ "ERR invalid password", "WRONGPASS", ERROR_AUTH, "the server does "
	    "not accept the password: check PasswordFile=" },
	{ "ERR AUTH", "WRONGPASS", ERROR_AUTH, "the server has no password "
	    "for this user: check Username= and PasswordFile=" },
	{ "ERR Client sent AUTH", "WRONGPASS", ERROR_AUTH, "the server has no "
	    "password for this user: check Username= and PasswordFile=" },
	{ "NOPERM", "NOPERM", ERROR_AUTH, "the ACL of the user lacks a right "
	    "(bot-operator.conf(5) lists what is needed)" },
	{ "ERR The user executing the script", "NOPERM", ERROR_AUTH, "the ACL "
	    "of the user lacks a right (bot-operator.conf(5) lists what is "
	    "needed)" },
	{ "DENIED", "DENIED", ERROR_AUTH, "the server is in protected mode: "
	    "give it a password, or bind it to another address" },
	{ "LOADING", "LOADING", ERROR_TRANSIENT,
	    "the server is loading its data" },
	{ "READONLY", "READONLY", ERROR_TRANSIENT, "the server is a read-only "
	    "replica: Address= must name the primary" },
	{ "MASTERDOWN", "MASTERDOWN", ERROR_TRANSIENT,
	    "the server is a replica without its primary" },
	{ "NOREPLICAS", "NOREPLICAS", ERROR_TRANSIENT, "the server refuses to "
	    "write without enough replicas (min-replicas-to-write)" },
	{ "UNBLOCKED", "UNBLOCKED", ERROR_TRANSIENT,
	    "the server has changed its role or lost the key" },
	{ "OOM", "OOM", ERROR_TRANSIENT, "the server's memory is full "
	    "(maxmemory): retries and dead letters cannot be stored" },
	{ "MISCONF", "MISCONF", ERROR_TRANSIENT, "the server refuses to write "
	    "because it cannot save its data" },
	{ "BUSY ", "BUSY", ERROR_TRANSIENT,
	    "the server is busy with somebody's script" },
	{ "MOVED", "MOVED", ERROR_REJECTED, "this is a Redis Cluster, which "
	    "is not supported: use a single server" },
	{ "ASK ", "ASK", ERROR_REJECTED, "this is a Redis Cluster, which is "
	    "not supported: use a single server" },
	{ "CROSSSLOT", "CROSSSLOT", ERROR_REJECTED, "this is a Redis Cluster, "
	    "which is not supported: use a single server" },
	{ "CLUSTERDOWN", "CLUSTERDOWN", ERROR_REJECTED, "this is a Redis "
	    "Cluster, which is not supported: use a single server" },
	{ "ERR max number of clients", "max_clients", ERROR_TRANSIENT,
	    "the server has too many clients (maxclients)" },
	{ "ERR DB index", "no_database", ERROR_REJECTED,
	    "there is no such Database=" },
	{ "ERR invalid DB index", "no_database", ERROR_REJECTED,
	    "there is no such Database=" },
	{ "ERR unknown command", "server_too_old", ERROR_REJECTED,
	    "the server lacks a command: Redis 6.2 or later is needed" },
};

/* Up to 6.2 an error inside a script stands somewhere in the text. */
#define IN_SCRIPT	"ERR Error running script"

static bool
means(const struct resp *r, const char *prefix)
{
	if (resp_is_error(r, prefix))
		return true;
	return resp_is_error(r, IN_SCRIPT) && strncmp(prefix, "ERR", 3) != 0 &&
	    memmem(r->str.p, r->str.n, prefix, strlen(prefix)) != NULL;
}

static const struct meaning *
meaning_of(const struct resp *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (means(r, meanings[i].prefix))
			return &meanings[i];
	return NULL;
}

void
redis_error(const struct redis_queue *rq, const struct resp *r,
    struct error *err)
{
	const struct meaning *m = meaning_of(r);
	char text[128], code[32];
	size_t n;

	error_quote(r->str, text, sizeof(text));
	if (m != NULL) {
		error_set(err, m->class, m->code, "%s: %s", m->advice, text);
		return;
	}
	if (means(r, "WRONGTYPE")) {
		error_set(err, ERROR_REJECTED, "WRONGTYPE", "a key has another "
		    "type than Mode=%s needs; check Key=%s and DeadLetter= (%s)",
		    rq->mode->name, rq->config_key, text);
		return;
	}
	n = MIN(strcspn(text, " "), sizeof(code) - 1);
	memcpy(code, text, n);
	code[n] = '\0';
	error_set(err, ERROR_REJECTED, n != 0 ? code : "ERR",
	    "the server refused a command: %s", text);
}

bool
redis_error_is_fatal(const struct resp *r)
{
	return r->type == RESP_ERROR &&
	    (meaning_of(r) != NULL || means(r, "WRONGTYPE"));
}

bool
redis_take_ok(struct redis_queue *rq, const struct resp *reply)
{
	struct error err;

	if (reply == NULL || redis_failing(rq))
		return false;
	if (reply->type != RESP_ERROR)
		return true;
	if (resp_is_error(reply, "NOSCRIPT")) {
		redis_load_scripts(rq);
		redis_wake(rq);
		return false;
	}
	redis_error(rq, reply, &err);
	redis_fail(rq, &err);
	return false;
}

bool
redis_reply_ok(struct redis_queue *rq, const struct resp *reply,
    const char *what)
{
	struct error err;

	if (reply == NULL || redis_failing(rq))
		return false;
	if (reply->type != RESP_ERROR)
		return true;
	redis_error(rq, reply, &err);
	if (resp_is_error(reply, "NOSCRIPT"))
		redis_load_scripts(rq);
	else if (redis_error_is_fatal(reply))
		redis_fail(rq, &err);
	else
		log_warning(LOG_QUEUE_EVENT(rq->queue->name,
		    EVENT_BROKER_ERROR),
		    "%s failed: %s", what,
		    err.text);
	return false;
}
