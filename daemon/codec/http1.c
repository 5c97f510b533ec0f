#include "codec/http1.h"

#include <strings.h>

/* Of a chunk's size line, extensions included; nobody needs longer ones. */
#define CHUNK_LINE_MAX	((size_t)256)

/* ---- what may stand where (RFC 9110, section 5.6.2; RFC 9112) ---- */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_tchar(char c)
{
	if (is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool
is_token(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_tchar(s.p[i]))
			return false;
	return s.n != 0;
}

/* HTAB, SP, VCHAR, obs-text. */
static bool
is_field_char(char c)
{
	unsigned char u = (unsigned char)c;

	return u == '\t' || (u >= 0x20 && u != 0x7f);
}

static bool
is_text(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_field_char(s.p[i]))
			return false;
	return true;
}

static bool
is_ows(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice
trimmed(struct slice s)
{
	while (s.n != 0 && is_ows(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n != 0 && is_ows(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool
is_word(struct slice s, const char *word)
{
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static int
bad(struct error *err, const char *code, const char *text)
{
	error_set(err, ERROR_PROTOCOL, code, "%s", text);
	return -EPROTO;
}

/* ---- lines ---- */

/*
 * The line at the start of in, without its CRLF, at most max bytes with it.
 * 1 and *ret_used, 0 when more must come, or -EPROTO.  A lone LF is refused
 * although RFC 9112, section 2.2, would allow it: two readers that disagree
 * about where a line ends are what smuggling is made of.
 */
static int
next_line(struct slice in, size_t max, const char *long_code,
    struct slice *ret, size_t *ret_used, struct error *err)
{
	const char *lf = NULL;
	size_t n = MIN(in.n, max);

	if (n != 0)
		lf = memchr(in.p, '\n', n);
	if (lf == NULL) {
		/* What came so far may be refused before the rest does. */
		for (size_t i = 0; i < n; i++)
			if (!is_field_char(in.p[i]) &&
			    (in.p[i] != '\r' || i + 1 != n))
				return bad(err, "bad_byte",
				    "a control character where text belongs");
		if (in.n >= max)
			return bad(err, long_code, "a line that is too long");
		return 0;
	}
	n = (size_t)(lf - in.p);
	if (n == 0 || in.p[n - 1] != '\r')
		return bad(err, "bare_lf", "a line that ends without CR");
	*ret = (struct slice){ in.p, n - 1 };
	*ret_used = n + 1;
	if (!is_text(*ret))
		return bad(err, "bad_byte",
		    "a control character where text belongs");
	return 1;
}

/* "HTTP/1.x"; another major version is told apart, for the 505. */
static int
parse_version(struct slice s, struct http1_head *h, struct error *err)
{
	if (s.n != 8 || memcmp(s.p, "HTTP/", 5) != 0 || !is_digit(s.p[5]) ||
	    s.p[6] != '.' || !is_digit(s.p[7]))
		return bad(err, "bad_start_line", "no HTTP version");
	if (s.p[5] != '1')
		return bad(err, "version", "not a version 1 of HTTP");
	h->minor = (unsigned)(s.p[7] - '0');
	return 0;
}

static int
parse_request_line(struct slice line, struct http1_head *h, struct error *err)
{
	const char *end = line.p + line.n, *sp1, *sp2;

	sp1 = memchr(line.p, ' ', line.n);
	if (sp1 == NULL)
		return bad(err, "bad_start_line", "not a request line");
	sp2 = memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1));
	if (sp2 == NULL)
		return bad(err, "bad_start_line", "no HTTP version");
	h->method = (struct slice){ line.p, (size_t)(sp1 - line.p) };
	h->target = (struct slice){ sp1 + 1, (size_t)(sp2 - sp1 - 1) };
	if (!is_token(h->method))
		return bad(err, "bad_start_line", "not a method");
	if (h->target.n == 0)
		return bad(err, "bad_start_line", "an empty target");
	for (size_t i = 0; i < h->target.n; i++)
		if (h->target.p[i] < 0x21 || h->target.p[i] > 0x7e)
			return bad(err, "bad_start_line",
			    "a target that is not a URI");
	return parse_version((struct slice){ sp2 + 1, (size_t)(end - sp2 - 1) },
	    h, err);
}

static int
parse_status_line(struct slice line, struct http1_head *h, struct error *err)
{
	const char *p = line.p;
	int r;

	if (line.n < 8)
		return bad(err, "bad_start_line", "not a status line");
	r = parse_version((struct slice){ p, 8 }, h, err);
	if (r < 0)
		return r;
	/* The space before an empty reason is often left out. */
	if (line.n < 12 || p[8] != ' ' || !is_digit(p[9]) || !is_digit(p[10]) ||
	    !is_digit(p[11]) || (line.n > 12 && p[12] != ' '))
		return bad(err, "bad_start_line", "not a status line");
	h->status = (unsigned)(p[9] - '0') * 100 +
	    (unsigned)(p[10] - '0') * 10 + (unsigned)(p[11] - '0');
	if (h->status < 100 || h->status > 599)
		return bad(err, "bad_start_line", "not a status");
	h->reason = line.n > 13 ? (struct slice){ p + 13, line.n - 13 } :
	    (struct slice){ p + 12, 0 };
	return 0;
}

static int
parse_field(struct slice line, struct http1_header *ret, struct error *err)
{
	const char *colon;

	if (is_ows(line.p[0]))
		return bad(err, "obs_fold", "a header folded over two lines");
	colon = memchr(line.p, ':', line.n);
	if (colon == NULL)
		return bad(err, "bad_header", "a header without a colon");
	ret->name = (struct slice){ line.p, (size_t)(colon - line.p) };
	if (!is_token(ret->name))
		return bad(err, "bad_header",
		    "a header name with characters that do not belong there");
	ret->value = trimmed((struct slice){ colon + 1,
		line.n - ret->name.n - 1 });
	return 0;
}

/* ---- what the headers mean ---- */

/*
 * One number, however often it is said ("5", "5, 5", two headers); RFC 9112,
 * section 6.3, rule 5.  1 when there is one, 0 when there is none.
 */
static int
content_length(const struct http1_head *h, uint64_t *ret, struct error *err)
{
	bool found = false;

	for (size_t i = 0; i < h->nheaders; i++) {
		struct slice rest = h->headers[i].value;
		bool more = true;

		if (!is_word(h->headers[i].name, "Content-Length"))
			continue;
		while (more) {
			const char *comma = rest.n == 0 ? NULL :
			    memchr(rest.p, ',', rest.n);
			struct slice one = rest;
			uint64_t n;

			more = comma != NULL;
			if (more) {
				one.n = (size_t)(comma - rest.p);
				rest.p = comma + 1;
				rest.n -= one.n + 1;
			}
			if (slice_to_u64(trimmed(one), &n) < 0 ||
			    n > INT64_MAX)
				return bad(err, "content_length",
				    "a Content-Length that is not a length");
			if (found && n != *ret)
				return bad(err, "content_length",
				    "two different Content-Lengths");
			*ret = n;
			found = true;
		}
	}
	return found;
}

/* 1: chunked, 0: none.  Every other coding is refused. */
static int
transfer_encoding(const struct http1_head *h, struct error *err)
{
	bool found = false;

	for (size_t i = 0; i < h->nheaders; i++) {
		if (!is_word(h->headers[i].name, "Transfer-Encoding"))
			continue;
		if (found || !is_word(h->headers[i].value, "chunked"))
			return bad(err, "transfer_coding",
			    "a Transfer-Encoding other than chunked");
		found = true;
	}
	return found;
}

/* Whether a Connection header lists the word. */
static bool
connection_has(const struct http1_head *h, const char *word)
{
	for (size_t i = 0; i < h->nheaders; i++) {
		const char *p = h->headers[i].value.p;
		const char *end = p + h->headers[i].value.n;

		if (!is_word(h->headers[i].name, "Connection"))
			continue;
		while (p < end) {
			const char *comma = memchr(p, ',', (size_t)(end - p));
			const char *stop = comma != NULL ? comma : end;

			if (is_word(trimmed((struct slice){ p,
			    (size_t)(stop - p) }), word))
				return true;
			p = stop + 1;
		}
	}
	return false;
}

static int
derive(struct http1_head *h, bool response, bool head_request,
    struct error *err)
{
	int length = content_length(h, &h->content_length, err), coded;

	if (length < 0)
		return length;
	coded = transfer_encoding(h, err);
	if (coded < 0)
		return coded;
	/* RFC 9112, section 6.1: either is how requests get smuggled. */
	if (coded && length)
		return bad(err, "two_lengths",
		    "both Content-Length and Transfer-Encoding");
	if (coded && h->minor == 0)
		return bad(err, "transfer_coding",
		    "Transfer-Encoding in HTTP/1.0");

	if (response && (head_request || h->status < 200 ||
	    h->status == 204 || h->status == 304))
		h->body = HTTP1_BODY_NONE;
	else if (coded)
		h->body = HTTP1_BODY_CHUNKED;
	else if (length)
		h->body = HTTP1_BODY_LENGTH;
	else
		h->body = response ? HTTP1_BODY_UNTIL_CLOSE : HTTP1_BODY_NONE;

	h->keep_alive = h->body != HTTP1_BODY_UNTIL_CLOSE &&
	    !connection_has(h, "close") &&
	    (h->minor != 0 || connection_has(h, "keep-alive"));
	return 0;
}

/* RFC 9112, section 3.2: exactly one, from HTTP/1.1 on. */
static int
check_host(const struct http1_head *h, struct error *err)
{
	unsigned n = 0;

	for (size_t i = 0; i < h->nheaders; i++)
		if (is_word(h->headers[i].name, "Host"))
			n++;
	if (n > 1)
		return bad(err, "host", "more than one Host header");
	if (n == 0 && h->minor != 0)
		return bad(err, "host", "no Host header");
	return 0;
}

static ssize_t
parse_head(struct slice in, bool response, bool head_request,
    struct http1_head *h, struct error *err)
{
	size_t at = 0, used = 0;
	struct slice line;
	int r;

	h->method = h->target = h->reason = (struct slice){ NULL, 0 };
	h->status = h->minor = 0;
	h->nheaders = 0;
	h->content_length = 0;

	/* Old clients send an empty line behind a body: RFC 9112, 2.2. */
	while (!response && in.n - at >= 2 && at + 2 < HTTP1_HEAD_MAX &&
	    memcmp(in.p + at, "\r\n", 2) == 0)
		at += 2;

	for (bool first = true;; first = false) {
		r = next_line((struct slice){ in.n != 0 ? in.p + at : NULL,
			in.n - at }, HTTP1_HEAD_MAX - at, "head_too_long",
		    &line, &used, err);
		if (r <= 0)
			return r;
		at += used;
		if (first) {
			r = response ? parse_status_line(line, h, err) :
			    parse_request_line(line, h, err);
		} else if (line.n == 0) {
			break;
		} else if (h->nheaders == HTTP1_HEADERS_MAX) {
			r = bad(err, "too_many_headers", "too many headers");
		} else {
			r = parse_field(line, &h->headers[h->nheaders], err);
			h->nheaders++;
		}
		if (r < 0)
			return r;
	}
	r = derive(h, response, head_request, err);
	if (r == 0 && !response)
		r = check_host(h, err);
	return r < 0 ? r : (ssize_t)at;
}

ssize_t
http1_parse_request(struct slice in, struct http1_head *ret, struct error *err)
{
	return parse_head(in, false, false, ret, err);
}

ssize_t
http1_parse_response(struct slice in, bool head_request,
    struct http1_head *ret, struct error *err)
{
	return parse_head(in, true, head_request, ret, err);
}

struct slice
http1_header(const struct http1_head *h, const char *name)
{
	for (size_t i = 0; i < h->nheaders; i++)
		if (is_word(h->headers[i].name, name))
			return h->headers[i].value;
	return (struct slice){ NULL, 0 };
}

/* ---- chunked ---- */

/* chunk-size [ BWS ";" anything ] */
static int
parse_chunk_size(struct slice line, uint64_t *ret, struct error *err)
{
	uint64_t size = 0;
	size_t i = 0;

	for (; i < line.n && hex_digit(line.p[i]) >= 0; i++) {
		if (size > UINT64_MAX >> 4)
			return bad(err, "chunk_size", "a chunk size beyond all");
		size = size << 4 | (uint64_t)hex_digit(line.p[i]);
	}
	if (i == 0)
		return bad(err, "chunk_size", "a chunk without a size");
	if (i < line.n) {
		while (i < line.n && is_ows(line.p[i]))
			i++;
		if (i == line.n || line.p[i] != ';')
			return bad(err, "chunk_size",
			    "something behind a chunk size");
	}
	*ret = size;
	return 0;
}

/* One step; how many bytes it used (0: more must come), or an error. */
static ssize_t
chunk_step(struct http1_chunked *c, struct slice in, struct buffer *out,
    size_t max, struct error *err)
{
	struct http1_header field;
	struct slice line;
	size_t used = 0;
	int r;

	switch (c->state) {
	case CHUNK_SIZE_LINE:
		r = next_line(in, CHUNK_LINE_MAX, "chunk_size", &line, &used,
		    err);
		if (r <= 0)
			return r;
		r = parse_chunk_size(line, &c->left, err);
		if (r < 0)
			return r;
		if (c->left > max || buffer_len(out) > max - c->left) {
			error_set(err, ERROR_REJECTED, "body_too_long",
			    "the body is longer than %zu bytes", max);
			return -EMSGSIZE;
		}
		c->state = c->left != 0 ? CHUNK_DATA : CHUNK_TRAILER;
		return (ssize_t)used;
	case CHUNK_DATA:
		used = MIN(c->left, in.n);
		/* out may have grown otherwise since the size was checked. */
		if (buffer_len(out) > max || used > max - buffer_len(out)) {
			error_set(err, ERROR_REJECTED, "body_too_long",
			    "the body is longer than %zu bytes", max);
			return -EMSGSIZE;
		}
		buffer_add(out, in.p, used);
		c->left -= used;
		if (c->left == 0)
			c->state = CHUNK_DATA_END;
		return (ssize_t)used;
	case CHUNK_DATA_END:
		if (in.p[0] != '\r' || (in.n > 1 && in.p[1] != '\n'))
			return bad(err, "chunk_end",
			    "a chunk longer than its size");
		if (in.n < 2)
			return 0;
		c->state = CHUNK_SIZE_LINE;
		return 2;
	case CHUNK_TRAILER:
		r = next_line(in, HTTP1_HEAD_MAX - c->trailer_bytes,
		    "head_too_long", &line, &used, err);
		if (r <= 0)
			return r;
		c->trailer_bytes += used;
		if (line.n == 0) {
			c->state = CHUNK_COMPLETE;
			return (ssize_t)used;
		}
		/* Trailers mean nothing to us, but must be well-formed. */
		r = parse_field(line, &field, err);
		return r < 0 ? r : (ssize_t)used;
	case CHUNK_COMPLETE:
		break;
	}
	return 0;
}

ssize_t
http1_chunked_decode(struct http1_chunked *c, struct slice in,
    struct buffer *out, size_t max, struct error *err)
{
	size_t at = 0;

	while (at < in.n && c->state != CHUNK_COMPLETE) {
		ssize_t n = chunk_step(c, (struct slice){ in.p + at,
			in.n - at }, out, max, err);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		at += (size_t)n;
	}
	return (ssize_t)at;
}

const char *
http1_reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *reason;
	} reasons[] = {
		{ 100, "Continue" }, { 200, "OK" }, { 202, "Accepted" },
		{ 204, "No Content" }, { 301, "Moved Permanently" },
		{ 302, "Found" }, { 304, "Not Modified" },
		{ 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" },
		{ 411, "Length Required" }, { 413, "Content Too Large" },
		{ 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
		{ 421, "Misdirected Request" }, { 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}
