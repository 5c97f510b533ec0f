#include "net/resolve.h"

#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fault.h"

#define RESOLV_CONF	"/etc/resolv.conf"
#define TRY_MS		2000	/* for an answer; each later try waits longer */
#define TRIES		3

/* A socket of c-ares, watched for it. */
struct resolve_socket {
	struct list link;
	struct io io;
	struct resolver *resolver;
};

struct resolver {
	struct loop *loop;
	ares_channel channel;
	struct list sockets;
	struct list queries;
	struct timer timer;
	size_t with_ares;	/* queries that c-ares still holds */
	char *servers;		/* NULL: resolv.conf's */
	struct stat conf;	/* of resolv.conf when the channel was made */
};

/*
 * c-ares cannot drop one query: a cancelled one loses its owner and lives on
 * until c-ares has let go of it.
 */
struct resolve_query {
	struct list link;
	struct resolver *resolver;
	struct task answer;
	resolve_fn *fn;		/* NULL: cancelled */
	void *owner;
	char host[256];
	uint16_t port;
	bool with_ares;
	union resolve_address found[RESOLVE_MAX];
	size_t nfound;
	struct error error;
};

static void
query_free(struct resolve_query *q)
{
	task_cancel(&q->answer);
	list_remove(&q->link);
	free(q);
}

/* ---- c-ares' sockets and timer on our loop ---- */

static void
rearm(struct resolver *r)
{
	struct timeval tv, *next;

	next = ares_timeout(r->channel, NULL, &tv);
	if (next == NULL) {
		timer_cancel(r->loop, &r->timer);
		return;
	}
	timer_arm(r->loop, &r->timer, (uint64_t)next->tv_sec * USEC_PER_SEC +
	    (uint64_t)next->tv_usec);
}

static void
on_socket(struct io *io, uint32_t events)
{
	struct resolve_socket *s = io->owner;
	struct resolver *r = s->resolver;
	bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
	int fd = io->fd;

	/* May free s through on_socket_state. */
	ares_process_fd(r->channel,
	    broken || (events & EPOLLIN) != 0 ? fd : ARES_SOCKET_BAD,
	    (events & EPOLLOUT) != 0 ? fd : ARES_SOCKET_BAD);
	rearm(r);
}

static void
on_timer(struct timer *t)
{
	struct resolver *r = t->owner;

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(r);
}

static struct resolve_socket *
find_socket(struct resolver *r, int fd)
{
	struct list *l;

	list_foreach(l, &r->sockets) {
		struct resolve_socket *s = list_entry(l, struct resolve_socket,
		    link);

		if (s->io.fd == fd)
			return s;
	}
	return NULL;
}

/* c-ares tells what it waits for; before it closes a socket, nothing. */
static void
on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = data;
	struct resolve_socket *s = find_socket(r, fd);
	uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) |
	    (writable ? (uint32_t)EPOLLOUT : 0);

	if (events == 0) {
		if (s == NULL)
			return;
		io_remove(r->loop, &s->io);
		list_remove(&s->link);
		free(s);
		return;
	}
	if (s != NULL) {
		io_set(r->loop, &s->io, events);
		return;
	}
	s = new0(struct resolve_socket);
	s->resolver = r;
	io_init(&s->io, "resolve.socket", on_socket, s);
	if (io_add(r->loop, &s->io, fd, events) < 0) {
		free(s);	/* c-ares' own time-out ends the query */
		return;
	}
	list_push_back(&r->sockets, &s->link);
}

/* ---- the channel ---- */

static bool
conf_changed(const struct stat *a, const struct stat *b)
{
	return a->st_ino != b->st_ino || a->st_size != b->st_size ||
	    a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	    a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static int
open_channel(struct resolver *r)
{
	struct ares_options options = {
		.timeout = TRY_MS,
		.tries = TRIES,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = r,
	};
	int status;

	if (stat(RESOLV_CONF, &r->conf) < 0)
		memset(&r->conf, 0, sizeof(r->conf));
	status = ares_init_options(&r->channel, &options, ARES_OPT_TIMEOUTMS |
	    ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
	if (status != ARES_SUCCESS) {
		r->channel = NULL;
		return status == ARES_ENOMEM ? -ENOMEM : -EIO;
	}
	if (r->servers != NULL &&
	    ares_set_servers_ports_csv(r->channel, r->servers) != ARES_SUCCESS)
		return -EINVAL;
	return 0;
}

/* resolv.conf may change under a daemon that runs for months (DHCP, VPN). */
static void
refresh_channel(struct resolver *r)
{
	struct stat now;
	ares_channel old = r->channel;

	if (r->with_ares != 0 || r->servers != NULL)
		return;
	if (stat(RESOLV_CONF, &now) < 0 || !conf_changed(&now, &r->conf))
		return;
	if (open_channel(r) < 0)
		r->channel = old;
	else
		ares_destroy(old);
}

int
resolver_set_servers(struct resolver *r, const char *csv)
{
	free(r->servers);
	r->servers = xstrdup(csv);
	return ares_set_servers_ports_csv(r->channel, csv) == ARES_SUCCESS ?
	    0 : -EINVAL;
}

int
resolver_new(struct loop *loop, struct resolver **ret)
{
	struct resolver *r;
	int err;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	r = new0(struct resolver);
	r->loop = loop;
	list_init(&r->sockets);
	list_init(&r->queries);
	timer_init(&r->timer, "resolve.timeout", on_timer, r);
	err = open_channel(r);
	if (err < 0) {
		ares_library_cleanup();
		free(r);
		return err;
	}
	*ret = r;
	return 0;
}

void
resolver_free(struct resolver *r)
{
	struct list *l;

	if (r == NULL)
		return;
	list_foreach(l, &r->queries) {
		struct resolve_query *q = list_entry(l, struct resolve_query,
		    link);

		if (q->fn != NULL)
			BUG("the lookup of %s outlives the resolver", q->host);
	}
	ares_destroy(r->channel);	/* frees its queries */
	ares_library_cleanup();
	BUG_ON(!list_empty(&r->queries) || !list_empty(&r->sockets));
	timer_cancel(r->loop, &r->timer);
	free(r->servers);
	free(r);
}

/* ---- questions and answers ---- */

/* Addresses as c-ares sorted them (RFC 6724), then families alternating
   (RFC 8305, 4): a family that does not work costs one attempt. */
static void
keep_addresses(struct resolve_query *q, const struct ares_addrinfo *info)
{
	const struct ares_addrinfo_node *node, *next[2] = { NULL, NULL };
	int first = 0;

	node = info->nodes;
	if (node == NULL)
		return;
	first = node->ai_family;
	next[0] = next[1] = node;
	while (q->nfound < RESOLVE_MAX &&
	    (next[0] != NULL || next[1] != NULL)) {
		for (int i = 0; i < 2 && q->nfound < RESOLVE_MAX; i++) {
			while (next[i] != NULL &&
			    (next[i]->ai_family == first) != (i == 0))
				next[i] = next[i]->ai_next;
			if (next[i] == NULL)
				continue;
			if (next[i]->ai_addrlen <= sizeof(q->found[0]))
				memcpy(&q->found[q->nfound++], next[i]->ai_addr,
				    next[i]->ai_addrlen);
			next[i] = next[i]->ai_next;
		}
	}
	for (size_t i = 0; i < q->nfound; i++) {
		if (q->found[i].sa.sa_family == AF_INET6)
			q->found[i].in6.sin6_port = htons(q->port);
		else
			q->found[i].in.sin_port = htons(q->port);
	}
}

static void
on_answered(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct resolve_query *q = arg;

	(void)timeouts;
	q->with_ares = false;
	q->resolver->with_ares--;
	if (q->fn == NULL) {
		if (info != NULL)
			ares_freeaddrinfo(info);
		query_free(q);
		return;
	}
	if (status == ARES_SUCCESS && info != NULL)
		keep_addresses(q, info);
	if (info != NULL)
		ares_freeaddrinfo(info);
	if (q->nfound == 0) {
		bool unknown = status == ARES_ENOTFOUND ||
		    status == ARES_ENODATA || status == ARES_SUCCESS;

		error_set(&q->error, ERROR_TRANSIENT,
		    unknown ? "name_not_found" : "resolve_failed",
		    "cannot find the address of %s: %s", q->host,
		    status == ARES_SUCCESS ? "it has none" :
		    ares_strerror(status));
	}
	task_schedule(q->resolver->loop, &q->answer);
}

static void
on_answer_task(struct task *t)
{
	struct resolve_query *q = t->owner;
	union resolve_address found[RESOLVE_MAX];
	struct error error = q->error;
	resolve_fn *fn = q->fn;
	void *owner = q->owner;
	size_t n = q->nfound;

	memcpy(found, q->found, sizeof(found));
	query_free(q);
	fn(owner, found, n, &error);
}

/* RFC 6761, 6.3: never asked of a name server. */
static bool
is_localhost(const char *host)
{
	size_t n = strlen(host);

	if (n != 0 && host[n - 1] == '.')
		n--;
	if (n == 9)
		return strncasecmp(host, "localhost", 9) == 0;
	return n > 10 && strncasecmp(host + n - 10, ".localhost", 10) == 0;
}

/* IPv4 first: most servers that listen on one of the two listen there. */
static void
answer_localhost(struct resolve_query *q)
{
	q->found[0].in = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons(q->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	q->found[1].in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
		.sin6_port = htons(q->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	q->nfound = 2;
	task_schedule(q->resolver->loop, &q->answer);
}

struct resolve_query *
resolve_start(struct resolver *r, const char *host, uint16_t port,
    resolve_fn *fn, void *owner)
{
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_ENVHOSTS };
	struct resolve_query *q = new0(struct resolve_query);

	q->resolver = r;
	q->fn = fn;
	q->owner = owner;
	q->port = port;
	snprintf(q->host, sizeof(q->host), "%s", host);
	task_init(&q->answer, LOOP_DISPATCH, "resolve.answer", on_answer_task,
	    q);
	list_push_back(&r->queries, &q->link);
	if (fault("resolve.start")) {
		error_set(&q->error, ERROR_TRANSIENT, "resolve_failed",
		    "cannot find the address of %s: injected fault", host);
		task_schedule(r->loop, &q->answer);
		return q;
	}
	if (is_localhost(host)) {
		answer_localhost(q);
		return q;
	}
	refresh_channel(r);
	q->with_ares = true;
	r->with_ares++;
	ares_getaddrinfo(r->channel, q->host, NULL, &hints, on_answered, q);
	rearm(r);
	return q;
}

void
resolve_cancel(struct resolve_query *q)
{
	if (q == NULL)
		return;
	if (!q->with_ares) {
		query_free(q);
		return;
	}
	q->fn = NULL;
}
