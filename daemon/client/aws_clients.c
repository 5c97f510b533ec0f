#include "client/aws_clients.h"

static struct http_client *
make(struct aws_clients *c, struct http_client **client, const char *proxy,
    struct error *err)
{
	struct http_client_params p = {
		.tls.ca_file = c->ca_file,
		.proxy = proxy,
	};

	if (*client == NULL)
		*client = http_client_new(c->loop, c->resolver, &p, err);
	return *client;
}

struct http_client *
aws_clients_direct(struct aws_clients *c, struct error *err)
{
	return make(c, &c->direct, "", err);
}

struct http_client *
aws_clients_proxied(struct aws_clients *c, struct error *err)
{
	return make(c, &c->proxied, NULL, err);
}

void
aws_clients_done(struct aws_clients *c)
{
	http_client_free(c->direct);
	http_client_free(c->proxied);
	c->direct = c->proxied = NULL;
}
