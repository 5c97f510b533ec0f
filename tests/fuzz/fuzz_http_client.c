/*
 * http_client: the first byte chooses: 'a' an answer, 'h' one to HEAD, 'k' one
 * that is cut where it is too long, all in pieces of several sizes; 'u' a URL; 'p' a proxy; 'n' a NO_PROXY list, a line
 * break and a URL.  Beyond not crashing: an answer means the same however it
 * is cut, keeps to its bound and takes no byte that is not its own; what a URL
 * becomes can stand in a request.
 */
#include "base/alloc.h"
#include "client/http_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define BODY_MAX	((size_t)1000)

/* Gives step bytes more each time. 1, 0 or an error; how many were left. */
static int
read_answer(struct http_answer *a, struct slice in, size_t step, char kind,
    size_t *ret_left, struct error *err)
{
	struct buffer b = BUFFER_INIT;
	size_t at = 0;
	int r = 0;

	http_answer_init(a, kind == 'h', BODY_MAX);
	a->may_cut = kind == 'k';
	while (r == 0 && at < in.n) {
		size_t n = MIN(step, in.n - at);

		buffer_add(&b, in.p + at, n);
		at += n;
		r = http_answer_read(a, &b, err);
		BUG_ON(buffer_len(&a->body) > BODY_MAX);
		/* What is left uncut is a head or a line of chunks. */
		BUG_ON(r == 0 && buffer_len(&b) > HTTP1_HEAD_MAX);
	}
	*ret_left = buffer_len(&b) + in.n - at;
	buffer_done(&b);
	return r;
}

static void
check_answer(const struct http_answer *a, int r)
{
	struct slice head = buffer_slice(&a->head_bytes);
	uint64_t after, date;

	if (r < 0 || !a->have_head)
		return;
	BUG_ON(a->head.status < 200 || a->head.status > 599);
	for (size_t i = 0; i < a->head.nheaders; i++) {
		struct slice v = a->head.headers[i].value;

		BUG_ON(v.n != 0 && (v.p < head.p ||
		    v.p + v.n > head.p + head.n));
	}
	http_read_times(&a->head, &after, &date);
	BUG_ON(r == 1 && http_answer_ends(a) && !a->was_cut);
	BUG_ON(a->to_head && buffer_len(&a->body) != 0);
}

static void
fuzz_answer(struct slice in, char kind)
{
	static const size_t steps[] = { 1, 2, 7, 64 };
	struct http_answer whole, cut;
	struct error err = ERROR_INIT, cut_err = ERROR_INIT;
	size_t left, cut_left;
	int r = read_answer(&whole, in, in.n, kind, &left, &err);

	BUG_ON(r < 0 && err.class == ERROR_NONE);
	check_answer(&whole, r);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int c = read_answer(&cut, in, steps[i], kind, &cut_left,
		    &cut_err);

		BUG_ON(c != r || cut.have_head != whole.have_head ||
		    cut.was_cut != whole.was_cut);
		BUG_ON(r >= 0 && !slice_eq(buffer_slice(&cut.body),
		    buffer_slice(&whole.body)));
		/* A connection whose answer was cut is closed. */
		BUG_ON(r == 1 && !cut.was_cut && cut_left != left);
		/* Half a line may be refused for another reason. */
		BUG_ON(r < 0 && cut_err.class != err.class);
		http_answer_done(&cut);
	}
	http_answer_done(&whole);
}

static bool
parse_url(const char *text, struct http_url *u)
{
	struct error err = ERROR_INIT;

	if (http_url_parse(u, text, &err) < 0) {
		BUG_ON(err.class != ERROR_REJECTED);
		return false;
	}
	return true;
}

static void
fuzz_url(const char *text)
{
	struct address a;
	struct http_url u, again;
	char *back;

	if (!parse_url(text, &u))
		return;
	BUG_ON(u.port == 0 || u.host[0] == '\0');
	BUG_ON(u.target.n != 0 && u.target.p + u.target.n != text +
	    strlen(text));
	for (size_t i = 0; i < u.target.n; i++)
		BUG_ON(u.target.p[i] <= ' ' || u.target.p[i] > '~');
	BUG_ON(strpbrk(u.host_header, " \t\r\n@/") != NULL);
	http_url_address(&u, &a);
	BUG_ON(a.kind != ADDRESS_NAME && a.kind != ADDRESS_IP);
	BUG_ON(a.port != u.port);
	/* Put together again it is the same. */
	back = xasprintf("%s://%s%.*s", u.tls ? "https" : "http",
	    u.host_header, (int)u.target.n, u.target.n != 0 ? u.target.p : "");
	BUG_ON(!parse_url(back, &again) || strcmp(u.host, again.host) != 0 ||
	    u.port != again.port || !slice_eq(u.target, again.target));
	free(back);
}

static void
fuzz_proxy(const char *text)
{
	struct http_proxies p;
	struct error err = ERROR_INIT;

	if (http_proxies_init(&p, text, &err) < 0) {
		BUG_ON(err.class != ERROR_REJECTED);
		return;
	}
	if (p.http != NULL) {
		struct slice s = p.http->authorization != NULL ?
		    secret_bytes(p.http->authorization) : SLICE("");

		BUG_ON(p.http->address.port == 0);
		for (size_t i = 0; i < s.n; i++)
			BUG_ON(s.p[i] < ' ' || s.p[i] > '~');
	}
	http_proxies_done(&p);
}

static void
fuzz_no_proxy(char *text)
{
	char *line = strchr(text, '\n');
	struct http_url u;

	if (line == NULL)
		return;
	*line = '\0';
	if (parse_url(line + 1, &u))
		(void)http_no_proxy_matches(text, &u);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in;
	char *text;

	if (n < 2)
		return 0;
	in = (struct slice){ (const char *)data + 1, n - 1 };
	text = xstrndup(in.p, in.n);
	switch (data[0]) {
	case 'a':
	case 'h':
	case 'k':
		fuzz_answer(in, (char)data[0]);
		break;
	case 'u':
		fuzz_url(text);
		break;
	case 'p':
		fuzz_proxy(text);
		break;
	case 'n':
		fuzz_no_proxy(text);
		break;
	}
	free(text);
	return 0;
}
