/*
 * Redis=: AUTH where a password is set, then PING; both in one write.
 */
#include "base/alloc.h"
#include "base/secret.h"
#include "codec/resp.h"
#include "observe/check_impl.h"

#define REPLY_MAX	((size_t)4 * KIB)

struct look {
	struct dependency *d;
	struct stream stream;
	struct address address;
	struct tls_context *tls;
	struct resp_reader *reader;
	unsigned expected;		/* replies before PING's */
};

static int
say_auth(struct look *k, struct error *err)
{
	const struct config_section *s = k->d->section;
	const char *file = config_string(s, "PasswordFile");
	const char *user = config_string(s, "Username");
	struct buffer *out = stream_out(&k->stream);
	struct secret *password;

	if (file == NULL)
		return 0;
	password = secret_read_file(file, err);
	if (password == NULL)
		return -EACCES;
	resp_add_head(out, user != NULL ? 3 : 2);
	resp_add_arg(out, SLICE("AUTH"));
	if (user != NULL)
		resp_add_arg(out, slice_of(user));
	resp_add_arg(out, secret_bytes(password));
	secret_free(password);
	k->expected++;
	return 0;
}

static void
on_up(struct stream *s)
{
	struct look *k = s->owner;
	struct buffer *out = stream_out(s);
	struct error err = ERROR_INIT;
	int64_t until;

	if (stream_tls_until(s, &until))
		check_saw_certificate(k->d, until);
	if (say_auth(k, &err) < 0) {
		check_failed(k->d, &err);
		return;
	}
	resp_add_head(out, 1);
	resp_add_arg(out, SLICE("PING"));
	stream_flush(s);
}

/* False when it was the last one. */
static bool
take(struct look *k, const struct resp *reply)
{
	char text[128];
	struct error err;

	if (reply->type == RESP_ERROR) {
		error_quote(reply->str, text, sizeof(text));
		error_set(&err, ERROR_REJECTED, "redis_error",
		    "the server says: %s", text);
		check_failed(k->d, &err);
		return false;
	}
	if (k->expected != 0) {
		k->expected--;
		return true;
	}
	if (reply->type == RESP_STATUS && slice_is(reply->str, "PONG")) {
		check_passed(k->d);
		return false;
	}
	error_set(&err, ERROR_PROTOCOL, "redis_answer",
	    "PING was not answered with PONG");
	check_failed(k->d, &err);
	return false;
}

static void
on_data(struct stream *s, struct buffer *in)
{
	struct look *k = s->owner;
	struct resp *reply;
	struct chunk *chunk;
	struct error err;
	bool more;
	int r;

	while ((r = resp_reader_next(k->reader, in, &reply, &chunk,
	    &err)) > 0) {
		more = take(k, reply);
		chunk_unref(chunk);
		if (!more)
			return;
	}
	if (r < 0)
		check_failed(k->d, &err);
}

static void
on_down(struct stream *s, const struct error *err)
{
	struct look *k = s->owner;

	check_failed(k->d, err);
}

static const struct stream_ops ops = {
	.on_up = on_up,
	.on_data = on_data,
	.on_down = on_down,
};

static void
init(struct dependency *d, struct config *c)
{
	struct look *k = new0(struct look);

	k->d = d;
	stream_init(&k->stream, "check", &ops, k);
	d->impl = k;
	check_read_address(d, c, "Redis", 6379, &k->address);
	if (config_is_set(d->section, "Username") &&
	    !config_is_set(d->section, "PasswordFile"))
		config_problem(c, d->section, "Username", "Username= needs "
		    "PasswordFile=");
	if (config_is_set(d->section, "ServerName") &&
	    !config_is_set(d->section, "CAFile"))
		config_problem(c, d->section, "ServerName", "ServerName= has "
		    "no effect without CAFile=: Redis= speaks TLS only with "
		    "it");
}

static int
start(struct dependency *d, struct error *err)
{
	struct look *k = d->impl;
	struct tls_params params = check_tls_params(d);
	struct tls_context *tls = NULL;

	if (params.ca_file != NULL) {
		tls = tls_context_new(&params, err);
		if (tls == NULL)
			return -EINVAL;
	}
	tls_context_unref(k->tls);
	k->tls = tls;
	resp_reader_free(k->reader);
	k->reader = resp_reader_new(REPLY_MAX);
	k->expected = 0;
	stream_connect(&k->stream, d->loop, d->resolver, &k->address,
	    &(struct stream_params){ .tls = tls,
	    .tls_name = config_string(d->section, "ServerName"),
	    .connect_timeout_us = d->timeout_us + USEC_PER_SEC,
	    .handshake_timeout_us = d->timeout_us + USEC_PER_SEC,
	    .max_unread = 64 * KIB, .read_budget = 64 * KIB });
	return 0;
}

static const char *
stage(const struct dependency *d)
{
	const struct look *k = d->impl;

	switch (k->stream.state) {
	case STREAM_UP:
		return "connected, but PING was not answered";
	case STREAM_HANDSHAKING:
		return "connected, but the TLS handshake did not end";
	case STREAM_IDLE:
	case STREAM_RESOLVING:
	case STREAM_CONNECTING:
		break;
	}
	return "not connected";
}

static void
cancel(struct dependency *d)
{
	struct look *k = d->impl;

	stream_close(&k->stream);
}

static void
fini(struct dependency *d)
{
	struct look *k = d->impl;

	stream_done(&k->stream);
	resp_reader_free(k->reader);
	tls_context_unref(k->tls);
	free(k);
}

const struct check_kind check_redis = {
	.key = "Redis",
	.init = init,
	.start = start,
	.stage = stage,
	.cancel = cancel,
	.fini = fini,
	.uses = CHECK_USES_CA | CHECK_USES_DAYS | CHECK_USES_PASSWORD |
	    CHECK_USES_NAME,
};
