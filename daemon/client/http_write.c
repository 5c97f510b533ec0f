/*
 * What goes out on a connection: a request, or a CONNECT to the proxy.
 */
#include "client/http_impl.h"

#define WRITE_AT_ONCE	(2 * HTTP_WRITE_MARK)

/* Long bodies go out piece by piece: on_drained asks for the next. */
void
http_conn_write_more(struct http_conn *c)
{
	size_t n = MIN(c->unsent.n, WRITE_AT_ONCE);

	if (n == 0)
		return;
	stream_write(&c->stream, c->unsent.p, n);
	c->unsent.p += n;
	c->unsent.n -= n;
}

static bool
expects_body(const char *method)
{
	return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
	    strcmp(method, "PATCH") == 0;
}

static void
add_proxy_authorization(const struct http_endpoint *ep, struct buffer *out)
{
	if (ep->proxy->authorization == NULL)
		return;
	buffer_add_str(out, "Proxy-Authorization: ");
	buffer_add_slice(out, secret_bytes(ep->proxy->authorization));
	buffer_add_str(out, "\r\n");
}

void
http_conn_write_request(struct http_conn *c)
{
	struct http_request *r = c->exchange->request;
	const struct http_endpoint *ep = c->endpoint;
	struct buffer *out = stream_out(&c->stream);
	struct slice target = r->url.target;
	bool through_proxy = ep->proxy != NULL && !ep->url.tls;

	c->state = HTTP_CONN_BUSY;
	c->heard_bytes = c->stream.bytes_in;
	buffer_add_str(out, r->method);
	buffer_add_char(out, ' ');
	if (through_proxy) {		/* absolute-form, RFC 9112, 3.2.2 */
		buffer_add_str(out, "http://");
		buffer_add_str(out, r->url.host_header);
	}
	if (target.n == 0 || target.p[0] != '/')
		buffer_add_char(out, '/');
	buffer_add_slice(out, target);
	buffer_add_str(out, " HTTP/1.1\r\nHost: ");
	buffer_add_str(out, r->url.host_header);
	buffer_add_str(out, "\r\n");
	if (through_proxy)
		add_proxy_authorization(ep, out);
	if (r->add_headers != NULL)
		r->add_headers(r, out);
	if (r->body.n != 0 || expects_body(r->method)) {
		buffer_add_str(out, "Content-Length: ");
		buffer_add_u64(out, r->body.n);
		buffer_add_str(out, "\r\n");
	}
	buffer_add_str(out, "\r\n");
	stream_flush(&c->stream);
	c->unsent = r->body;
	http_conn_write_more(c);
}

void
http_conn_write_connect(struct http_conn *c)
{
	const struct http_endpoint *ep = c->endpoint;
	struct buffer *out = stream_out(&c->stream);
	bool v6 = strchr(ep->url.host, ':') != NULL;

	c->state = HTTP_CONN_TUNNEL;
	/* The port is written here even where it is the scheme's. */
	buffer_printf(out, v6 ? "CONNECT [%s]:%u HTTP/1.1\r\nHost: " :
	    "CONNECT %s:%u HTTP/1.1\r\nHost: ", ep->url.host, ep->url.port);
	buffer_add_str(out, ep->url.host_header);
	buffer_add_str(out, "\r\n");
	add_proxy_authorization(ep, out);
	buffer_add_str(out, "\r\n");
	stream_flush(&c->stream);
}
