#include "control/api_private.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/json.h"
#include "guard/security.h"

#define IDLE_US			(60 * USEC_PER_SEC)
#define OPS_MAX			32
#define PEER_GROUPS_MAX		1024

/* ---- who may ---- */

/*
 * The groups come from the kernel as they were at connect(2), not from the
 * user database, which could block.
 */
static bool
is_in_group(int fd, gid_t wanted, gid_t primary)
{
	gid_t groups[PEER_GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (primary == wanted)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == wanted)
			return true;
	return false;
}

static bool
is_allowed(const struct api *api, int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);
	struct stat st;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0)
		return false;
	if (ret->uid == 0 || ret->uid == geteuid())
		return true;
	return stat(api->listener.bound.host, &st) == 0 &&
	    is_in_group(fd, st.st_gid, ret->gid);
}

/* ---- lines ---- */

json_t *
api_text(struct slice s)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *j = json_stringn(s.p != NULL ? s.p : "", s.n);

	if (j != NULL)
		return j;
	json_add_string(&b, s);
	j = json_loadb(buffer_head(&b), buffer_len(&b),
	    JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	return j != NULL ? j : json_string("?");
}

static int
append_text(const char *text, size_t n, void *arg)
{
	buffer_add(arg, text, n);
	return 0;
}

void
api_line(struct api_conn *c, json_t *line)
{
	struct buffer *out = stream_out(&c->stream);

	(void)json_dump_callback(line, append_text, out, STATUS_DUMP_FLAGS);
	buffer_add_char(out, '\n');
	stream_flush(&c->stream);
	json_decref(line);
}

void
api_ok(struct api_conn *c, json_t *line)
{
	json_t *all = json_object();

	(void)json_object_set_new(all, "ok", json_true());
	if (line != NULL) {
		(void)json_object_update(all, line);
		json_decref(line);
	}
	api_line(c, all);
}

void
api_fail(struct api_conn *c, const char *fmt, ...)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	json_t *line = json_object();
	va_list ap;

	va_start(ap, fmt);
	buffer_vprintf(&b, fmt, ap);
	va_end(ap);
	(void)json_object_set_new(line, "ok", json_false());
	(void)json_object_set_new(line, "error", api_text(buffer_slice(&b)));
	api_line(c, line);
}

bool
api_is_blocked(const struct api_conn *c)
{
	return stream_pending(&c->stream) > API_HIGH_WATER;
}

/* ---- operations ---- */

int
api_op_begin(struct api_op *op, struct api_conn *c)
{
	struct api *api = c->api;

	if (api->nops >= OPS_MAX)
		return -EBUSY;
	BUG_ON(c->op != NULL);
	op->api = api;
	op->conn = c;
	c->op = op;
	list_init(&op->link);
	list_push_back(&api->ops, &op->link);
	api->nops++;
	return 0;
}

/* Requests that came meanwhile are looked at in the next turn. */
static void
look_again(struct api_conn *c)
{
	stream_pause(&c->stream, true);
	stream_pause(&c->stream, false);
}

void
api_op_end(struct api_op *op)
{
	if (!list_linked(&op->link))
		return;
	list_remove(&op->link);
	op->api->nops--;
	if (op->conn != NULL) {
		op->conn->op = NULL;
		look_again(op->conn);
		op->conn = NULL;
	}
}

/* ---- connections ---- */

static void
conn_free(struct api_conn *c)
{
	struct api_op *op = c->op;

	timer_cancel(c->api->p.loop, &c->idle);
	stream_done(&c->stream);
	list_remove(&c->link);
	c->api->nconns--;
	if (op != NULL) {
		op->conn = NULL;
		op->abandoned(op);
	}
	free(c);
}

static void
on_idle(struct timer *t)
{
	struct api_conn *c = t->owner;
	uint64_t moved = c->stream.bytes_in + c->stream.bytes_out;

	/* A long command may be silent, but its answers must be read. */
	if (moved == c->moved &&
	    (c->op == NULL || stream_pending(&c->stream) != 0)) {
		conn_free(c);
		return;
	}
	c->moved = moved;
	timer_arm(c->api->p.loop, t, IDLE_US);
}

static void
handle_line(struct api_conn *c, struct slice line)
{
	json_error_t e;
	json_t *request;

	while (line.n != 0 && (line.p[line.n - 1] == '\r' ||
	    line.p[line.n - 1] == ' '))
		line.n--;
	if (line.n == 0)
		return;
	request = json_loadb(line.p, line.n,
	    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (request == NULL) {
		api_fail(c, "this is not JSON: %s", e.text);
		return;
	}
	if (json_is_object(request))
		api_command(c, request);
	else
		api_fail(c, "a request is a JSON object");
	json_decref(request);
}

static void
on_data(struct stream *s, struct buffer *in)
{
	struct api_conn *c = s->owner;

	while (c->op == NULL && !api_is_blocked(c) && buffer_len(in) != 0) {
		const char *head = buffer_head(in);
		const char *nl = memchr(head, '\n', buffer_len(in));
		size_t n = nl != NULL ? (size_t)(nl - head) : buffer_len(in);

		if (n > API_REQUEST_MAX) {
			api_fail(c, "a request is at most %zu bytes",
			    (size_t)API_REQUEST_MAX);
			buffer_consume(in, buffer_len(in));
			stream_close_flushed(s);
			return;
		}
		if (nl == NULL)
			return;
		handle_line(c, (struct slice){ head, n });
		buffer_consume(in, n + 1);
	}
}

static void
on_drained(struct stream *s)
{
	struct api_conn *c = s->owner;

	if (c->op != NULL && c->op->drained != NULL)
		c->op->drained(c->op);
	else
		look_again(c);
}

static void
on_down(struct stream *s, const struct error *err)
{
	log_debug(NULL, "control connection ended: %s", err->text);
	conn_free(s->owner);
}

static const struct stream_ops stream_ops = {
	.on_data = on_data,
	.on_drained = on_drained,
	.on_down = on_down,
};

/* A last word, if it fits; then the door. */
static void
refuse(int fd, const char *why)
{
	char line[128];
	int n = snprintf(line, sizeof(line),
	    "{\"ok\":false,\"error\":\"%s\"}\n", why);

	(void)send(fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fd);
}

static void
tell_refused(const struct ucred *cred)
{
	char user[32], reason[SECURITY_REASON_MAX];

	snprintf(user, sizeof(user), "uid:%u", (unsigned)cred->uid);
	snprintf(reason, sizeof(reason), "control socket: gid %u, pid %d is "
	    "neither root nor our user nor in the socket's group",
	    (unsigned)cred->gid, (int)cred->pid);
	security_tell(&(struct security_event){
	    .kind = SECURITY_AUTH_FAILED, .user = slice_of(user),
	    .reason = slice_of(reason) });
}

static void
on_accept(struct listener *l, int fd, const struct sockaddr *peer _unused_)
{
	struct api *api = l->owner;
	const struct stream_params params = {
		/* So that what is too long is ours to answer. */
		.max_unread = API_REQUEST_MAX + 512 * KIB,
		.high_water = API_HIGH_WATER,
	};
	struct ucred cred = { .pid = 0 };
	struct api_conn *c;

	if (!is_allowed(api, fd, &cred)) {
		tell_refused(&cred);
		refuse(fd, "you are not allowed to use this socket");
		return;
	}
	if (api->nconns >= API_CONNECTIONS_MAX) {
		log_warning(LOG_EVENT(EVENT_CONTROL_REFUSED),
		    "control socket: %u connections are open, "
		    "pid %d was refused", api->nconns, (int)cred.pid);
		refuse(fd, "too many control connections");
		return;
	}
	c = new0(struct api_conn);
	c->api = api;
	c->peer = cred;
	list_init(&c->link);
	list_push_back(&api->conns, &c->link);
	api->nconns++;
	timer_init(&c->idle, "control: idle", on_idle, c);
	timer_arm(api->p.loop, &c->idle, IDLE_US);
	stream_init(&c->stream, "control", &stream_ops, c);
	stream_accept(&c->stream, api->p.loop, fd, &params);
}

/* ---- life ---- */

/*
 * The folder decides who can put a socket there: it must not be somebody
 * else's (a name in /tmp can be taken by anyone).
 */
static int
make_folder(const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *folder = NULL;
	struct stat st;

	if (slash == NULL || slash == path)
		return 0;
	folder = xstrndup(path, (size_t)(slash - path));
	if (mkdir(folder, 0755) < 0 && errno != EEXIST) {
		int r = -errno;

		error_set_errno(err, r, "making %s for the control socket",
		    folder);
		return r;
	}
	if (stat(folder, &st) < 0) {
		int r = -errno;

		error_set_errno(err, r, "%s", folder);
		return r;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		error_set(err, ERROR_REJECTED, "foreign_folder", "%s belongs "
		    "to another user (uid %u): no control socket is put there",
		    folder, (unsigned)st.st_uid);
		return -EPERM;
	}
	return 0;
}

static struct api *
api_new(const struct api_params *p)
{
	struct api *api = new0(struct api);

	api->p = *p;
	list_init(&api->conns);
	list_init(&api->ops);
	listener_init(&api->listener, "control", on_accept, api);
	return api;
}

int
api_adopt(const struct api_params *p, int fd, struct api **ret,
    struct error *err)
{
	struct api *api = api_new(p);
	int r = listener_adopt(&api->listener, p->loop, fd, err);

	if (r < 0) {
		free(api);
		return r;
	}
	*ret = api;
	return 0;
}

int
api_start(const struct api_params *p, const char *path, struct api **ret,
    struct error *err)
{
	struct address at = { .kind = ADDRESS_UNIX };
	struct api *api;
	int r;

	if (strlen(path) >= sizeof(at.host)) {
		error_set(err, ERROR_REJECTED, "path_too_long",
		    "the control socket's path is too long: %.100s...", path);
		return -ENAMETOOLONG;
	}
	r = make_folder(path, err);
	if (r < 0)
		return r;
	memcpy(at.host, path, strlen(path) + 1);
	api = api_new(p);
	r = listener_start(&api->listener, p->loop, &at, 0660, err);
	if (r < 0) {
		free(api);
		return r;
	}
	*ret = api;
	return 0;
}

void
api_free(struct api *api)
{
	struct list *l, *tmp;

	if (api == NULL)
		return;
	listener_stop(&api->listener);
	list_foreach_safe(l, tmp, &api->conns) {
		struct api_conn *c = list_entry(l, struct api_conn, link);

		/* The answer to "drain" may still be on its way. */
		if (stream_is_up(&c->stream) &&
		    stream_pending(&c->stream) != 0)
			(void)send(c->stream.io.fd,
			    buffer_head(stream_out(&c->stream)),
			    stream_pending(&c->stream),
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		conn_free(c);
	}
	while ((l = list_first(&api->ops)) != NULL) {
		struct api_op *op = list_entry(l, struct api_op, link);

		op->destroy(op);
	}
	free(api);
}
