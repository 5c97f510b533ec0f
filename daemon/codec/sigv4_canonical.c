#include "codec/sigv4_canonical.h"

#include "codec/url.h"

/* ---- headers ---- */

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static int
compare_names(struct slice a, struct slice b)
{
	size_t n = MIN(a.n, b.n);

	for (size_t i = 0; i < n; i++) {
		int d = lower(a.p[i]) - lower(b.p[i]);

		if (d != 0)
			return d;
	}
	return a.n < b.n ? -1 : a.n > b.n;
}

void
sigv4_headers_add(struct sigv4_headers *h, struct sigv4_header header)
{
	size_t i = h->n++;

	for (; i > 0 && compare_names(h->at[i - 1].name, header.name) > 0; i--)
		h->at[i] = h->at[i - 1];
	h->at[i] = header;
}

static bool
same_as_before(const struct sigv4_headers *h, size_t i)
{
	return i > 0 && compare_names(h->at[i - 1].name, h->at[i].name) == 0;
}

static void
add_lower(struct buffer *b, struct slice s)
{
	char *to = buffer_reserve(b, s.n);

	for (size_t i = 0; i < s.n; i++)
		to[i] = (char)lower(s.p[i]);
	buffer_commit(b, s.n);
}

void
sigv4_add_names(struct buffer *b, const struct sigv4_headers *h)
{
	for (size_t i = 0; i < h->n; i++) {
		if (same_as_before(h, i))
			continue;
		if (i > 0)
			buffer_add_char(b, ';');
		add_lower(b, h->at[i].name);
	}
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
add_value(struct buffer *b, struct slice v)
{
	char *start = buffer_reserve(b, v.n), *to = start;
	bool space = false;

	for (size_t i = 0; i < v.n; i++) {
		if (is_space(v.p[i])) {
			space = to != start;
			continue;
		}
		if (space)
			*to++ = ' ';
		space = false;
		*to++ = v.p[i];
	}
	buffer_commit(b, (size_t)(to - start));
}

static void
add_headers(struct buffer *b, const struct sigv4_headers *h)
{
	for (size_t i = 0; i < h->n; i++) {
		if (same_as_before(h, i)) {
			buffer_add_char(b, ',');
		} else {
			if (i > 0)
				buffer_add_char(b, '\n');
			add_lower(b, h->at[i].name);
			buffer_add_char(b, ':');
		}
		add_value(b, h->at[i].value);
	}
	buffer_add_char(b, '\n');
}

/* ---- the path ---- */

static void
add_escaped_path(struct buffer *b, struct slice path)
{
	size_t from = 0;

	for (size_t i = 0; i <= path.n; i++) {
		if (i < path.n && path.p[i] != '/')
			continue;
		url_add_component(b, (struct slice){ path.p + from, i - from });
		if (i < path.n)
			buffer_add_char(b, '/');
		from = i + 1;
	}
}

/* The path without its last segment: "/a/b/" becomes "/a/". */
static void
drop_segment(struct buffer *b, size_t root)
{
	if (b->end <= root)
		return;
	b->end--;
	while (b->end > root && b->data[b->end - 1] != '/')
		b->end--;
}

static void
add_normal_path(struct buffer *b, struct slice path)
{
	size_t root, from = 0;

	buffer_add_char(b, '/');
	root = b->end;
	for (size_t i = 0; i <= path.n; i++) {
		struct slice s = { path.p + from, i - from };

		if (i < path.n && path.p[i] != '/')
			continue;
		from = i + 1;
		if (s.n == 0 || slice_is(s, "."))
			continue;
		if (slice_is(s, "..")) {
			drop_segment(b, root);
			continue;
		}
		url_add_component(b, s);
		if (i < path.n)
			buffer_add_char(b, '/');
	}
}

static void
add_path(struct buffer *b, const struct sigv4_request *q)
{
	if (q->path.n <= 1)
		buffer_add_char(b, '/');
	else if (q->keep_path)
		add_escaped_path(b, q->path);
	else
		add_normal_path(b, q->path);
}

/* ---- the query ---- */

struct piece {
	size_t name, value, end;	/* offsets into pieces */
};

/* A '%' that starts no escape is a byte like any other. */
static void
add_again(struct buffer *b, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '%' && s.n - i > 2 && hex_digit(s.p[i + 1]) >= 0 &&
		    hex_digit(s.p[i + 2]) >= 0) {
			c = (char)(hex_digit(s.p[i + 1]) << 4 |
			    hex_digit(s.p[i + 2]));
			i += 2;
		}
		url_add_component(b, (struct slice){ &c, 1 });
	}
}

static struct slice
part(const struct buffer *b, size_t from, size_t to)
{
	return (struct slice){ b->data + from, to - from };
}

static int
compare_bytes(struct slice a, struct slice b)
{
	int d = memcmp(a.p, b.p, MIN(a.n, b.n));

	return d != 0 ? d : a.n < b.n ? -1 : a.n > b.n;
}

static int
compare_pieces(const struct buffer *b, const struct piece *x,
    const struct piece *y)
{
	int d = compare_bytes(part(b, x->name, x->value),
	    part(b, y->name, y->value));

	return d != 0 ? d : compare_bytes(part(b, x->value, x->end),
	    part(b, y->value, y->end));
}

static int
add_query(struct buffer *out, struct buffer *b, struct slice query)
{
	struct piece list[SIGV4_QUERY_MAX];
	struct slice name, value;
	size_t n = 0, i;

	buffer_clear(b);
	(void)buffer_reserve(b, 3 * query.n);
	while (url_query_next(&query, &name, &value)) {
		struct piece p;

		if (n == ARRAY_SIZE(list))
			return -E2BIG;
		p.name = b->end;
		add_again(b, name);
		p.value = b->end;
		add_again(b, value);
		p.end = b->end;
		for (i = n++; i > 0 &&
		    compare_pieces(b, &list[i - 1], &p) > 0; i--)
			list[i] = list[i - 1];
		list[i] = p;
	}
	for (i = 0; i < n; i++) {
		if (i > 0)
			buffer_add_char(out, '&');
		buffer_add_slice(out, part(b, list[i].name, list[i].value));
		buffer_add_char(out, '=');
		buffer_add_slice(out, part(b, list[i].value, list[i].end));
	}
	return 0;
}

/* ---- all of it ---- */

int
sigv4_add_canonical(struct buffer *out, struct buffer *pieces,
    const struct sigv4_request *q, const struct sigv4_headers *h,
    struct slice names, const char *body_hash)
{
	buffer_add_slice(out, q->method);
	buffer_add_char(out, '\n');
	add_path(out, q);
	buffer_add_char(out, '\n');
	if (q->query.n != 0 && add_query(out, pieces, q->query) < 0)
		return -E2BIG;
	buffer_add_char(out, '\n');
	add_headers(out, h);
	buffer_add_char(out, '\n');
	buffer_add_slice(out, names);
	buffer_add_char(out, '\n');
	buffer_add(out, body_hash, SIGV4_HEX_BYTES - 1);
	return 0;
}
