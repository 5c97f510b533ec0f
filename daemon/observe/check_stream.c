/*
 * TCP= and TLS=: a connection that comes up, and is closed again.
 */
#include "base/alloc.h"
#include "observe/check_impl.h"

struct look {
	struct dependency *d;
	struct stream stream;
	struct address address;
	struct tls_context *tls;	/* of the last look, to share it */
};

static void
on_up(struct stream *s)
{
	struct look *k = s->owner;
	int64_t until;

	if (stream_tls_until(s, &until))
		check_saw_certificate(k->d, until);
	check_passed(k->d);
}

static void
on_data(struct stream *s, struct buffer *in)
{
	(void)s;
	buffer_consume(in, buffer_len(in));
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

static struct look *
look_new(struct dependency *d, struct config *c, const char *key,
    uint16_t default_port)
{
	struct look *k = new0(struct look);

	k->d = d;
	stream_init(&k->stream, "check", &ops, k);
	check_read_address(d, c, key, default_port, &k->address);
	d->impl = k;
	return k;
}

static void
tcp_init(struct dependency *d, struct config *c)
{
	(void)look_new(d, c, "TCP", 0);
}

static void
tls_init(struct dependency *d, struct config *c)
{
	const struct look *k = look_new(d, c, "TLS", 443);

	if (k->address.kind == ADDRESS_UNIX &&
	    !config_is_set(d->section, "ServerName"))
		config_problem(c, d->section, "TLS", "TLS= with a Unix socket "
		    "needs ServerName=");
}

static void
look_connect(struct look *k, struct tls_context *tls)
{
	struct dependency *d = k->d;

	/* Its own time-outs come later than ours, which knows the stage. */
	stream_connect(&k->stream, d->loop, d->resolver, &k->address,
	    &(struct stream_params){ .tls = tls,
	    .tls_name = config_string(d->section, "ServerName"),
	    .connect_timeout_us = d->timeout_us + USEC_PER_SEC,
	    .handshake_timeout_us = d->timeout_us + USEC_PER_SEC,
	    .max_unread = 64 * KIB, .read_budget = 64 * KIB });
}

static int
tcp_start(struct dependency *d, struct error *err)
{
	(void)err;
	look_connect(d->impl, NULL);
	return 0;
}

static int
tls_start(struct dependency *d, struct error *err)
{
	struct look *k = d->impl;
	struct tls_params params = check_tls_params(d);
	/* The one of the last look again, unless a file has changed. */
	struct tls_context *tls = tls_context_new(&params, err);

	if (tls == NULL)
		return -EINVAL;
	tls_context_unref(k->tls);
	k->tls = tls;
	look_connect(k, tls);
	return 0;
}

static const char *
stage(const struct dependency *d)
{
	const struct look *k = d->impl;

	switch (k->stream.state) {
	case STREAM_RESOLVING:
		return "the name was not resolved";
	case STREAM_HANDSHAKING:
		return "connected, but the TLS handshake did not end";
	case STREAM_IDLE:
	case STREAM_CONNECTING:
	case STREAM_UP:
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
	tls_context_unref(k->tls);
	free(k);
}

const struct check_kind check_tcp = {
	.key = "TCP",
	.init = tcp_init,
	.start = tcp_start,
	.stage = stage,
	.cancel = cancel,
	.fini = fini,
};

const struct check_kind check_tls = {
	.key = "TLS",
	.init = tls_init,
	.start = tls_start,
	.stage = stage,
	.cancel = cancel,
	.fini = fini,
	.uses = CHECK_USES_CA | CHECK_USES_DAYS | CHECK_USES_NAME,
};
