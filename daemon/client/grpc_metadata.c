/*
 * The headers of a request ("Requests" in the gRPC over HTTP/2 specification).
 */
#include "base/alloc.h"
#include "base/secret.h"
#include "client/grpc_impl.h"
#include "codec/base64.h"

void
grpc_metadata_init(struct grpc_metadata *m)
{
	buffer_init(&m->text);
	m->n = 0;
}

/* Tokens are among them. */
void
grpc_metadata_done(struct grpc_metadata *m)
{
	if (m->text.data != NULL)
		secret_wipe(m->text.data, m->text.size);
	buffer_done(&m->text);
}

/* Growing leaves no copy behind. */
static void
make_room(struct grpc_metadata *m, size_t n)
{
	struct buffer old = m->text;

	if (old.size - old.end >= n)
		return;
	buffer_init(&m->text);
	(void)buffer_reserve(&m->text, old.size + MAX(n, old.size));
	buffer_add_slice(&m->text, buffer_slice(&old));
	if (old.data != NULL)
		secret_wipe(old.data, old.size);
	buffer_done(&old);
}

static bool
is_sendable(struct slice v)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f)
			return false;
	return true;
}

void
grpc_metadata_add(struct grpc_metadata *m, const char *name,
    struct slice value)
{
	size_t nname = strlen(name), before, i = m->n;
	bool binary = nname > 4 && strcmp(name + nname - 4, "-bin") == 0;

	if (!binary && !is_sendable(value))
		return;
	BUG_ON(i == GRPC_METADATA_MAX);
	make_room(m, nname + 4 + value.n * 2);
	m->at[i].name = buffer_len(&m->text);
	m->at[i].nname = nname;
	buffer_add(&m->text, name, nname);
	before = buffer_len(&m->text);
	if (binary)
		base64_add(&m->text, value);
	else
		buffer_add_slice(&m->text, value);
	m->at[i].value = before;
	m->at[i].nvalue = buffer_len(&m->text) - before;
	m->n++;
}

static void
add(struct grpc_metadata *m, const char *name, const char *value)
{
	grpc_metadata_add(m, name, slice_of(value));
}

void
grpc_metadata_fill(struct grpc_metadata *m, struct grpc_exchange *ex)
{
	const struct grpc_channel *ch = ex->channel;
	char timeout[GRPC_TIMEOUT_BYTES];

	add(m, ":method", "POST");
	add(m, ":scheme", ch->tls != NULL ? "https" : "http");
	add(m, ":path", ex->call->path);
	add(m, ":authority", ch->authority);
	if (timer_armed(&ex->timer)) {
		uint64_t now = loop_now_us(ch->loop);
		uint64_t due = timer_due_us(&ex->timer);

		add(m, "grpc-timeout", grpc_timeout(due > now ? due - now : 0,
		    timeout));
	}
	add(m, "te", "trailers");
	add(m, "content-type", "application/grpc");
	add(m, "grpc-accept-encoding", "identity");
	add(m, "user-agent", ch->user_agent);
	if (ex->call->add_metadata != NULL)
		ex->call->add_metadata(ex->call, m);
}

size_t
grpc_metadata_nv(const struct grpc_metadata *m, nghttp2_nv *nv)
{
	uint8_t *text = (uint8_t *)buffer_head(&m->text);

	for (size_t i = 0; i < m->n; i++)
		nv[i] = (nghttp2_nv){
			.name = text + m->at[i].name,
			.namelen = m->at[i].nname,
			.value = text + m->at[i].value,
			.valuelen = m->at[i].nvalue,
			.flags = NGHTTP2_NV_FLAG_NONE,
		};
	return m->n;
}
