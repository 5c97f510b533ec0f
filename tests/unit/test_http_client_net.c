/*
 * The HTTP client's ways to its peers: URLs, proxies, TLS; and when to try
 * again.
 */
#include "http_client_rig.h"

#include "client/http_impl.h"
#include "codec/http_date.h"

#define TARGET	"https://a.example.test/hook?token=t"

/* ---- URLs ---- */

static void
test_urls(void **state)
{
	static const struct {
		const char *text;
		bool tls;
		const char *host;
		unsigned port;
		const char *header, *target;
	} good[] = {
		{ "https://example.com", true, "example.com", 443,
			"example.com", "" },
		{ "HTTP://Example.COM:8080/A/b?c=d&e", false, "example.com",
			8080, "example.com:8080", "/A/b?c=d&e" },
		{ "https://h:443/", true, "h", 443, "h", "/" },
		{ "http://h:443", false, "h", 443, "h:443", "" },
		{ "https://h?q=/@:", true, "h", 443, "h", "?q=/@:" },
		{ "http://127.0.0.1/", false, "127.0.0.1", 80, "127.0.0.1",
			"/" },
		{ "http://[::1]:81/x", false, "::1", 81, "[::1]:81", "/x" },
		{ "https://[2001:DB8::1]", true, "2001:db8::1", 443,
			"[2001:db8::1]", "" },
		{ "https://h./%20", true, "h.", 443, "h.", "/%20" },
	};
	static const char *const bad[] = { "", "example.com", "ftp://h/",
		"https://", "https:///x", "https://user@h/", "https://u:p@h/",
		"https://h/#top", "https://h#top", "https://h/a b",
		"https://h/\r\nX: y", "https://h/\x80", "https://h:0/",
		"https://h:65536/", "https://h:x/", "https://h:/",
		"https://::1/", "https://[::1/", "https://[h]/",
		"https://h h/", "https://h%41/", "https://1.2.3/",
		"https://[fe80::1%lo]/", "https:/h/", "https://h\\x/",
		"https://\xc3\xa4.test/", "https://a..b/" };
	struct http_url u;
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		err = (struct error)ERROR_INIT;
		if (http_url_parse(&u, good[i].text, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.text);
		assert_int_equal(u.tls, good[i].tls);
		assert_string_equal(u.host, good[i].host);
		assert_int_equal(u.port, good[i].port);
		assert_string_equal(u.host_header, good[i].header);
		assert_true(slice_is(u.target, good[i].target));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (http_url_parse(&u, bad[i], &err) >= 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.class, ERROR_REJECTED);
		assert_null(strstr(err.text, "u:p"));
	}
}

static void
test_targets_on_the_wire(void **state)
{
	static const struct {
		const char *url, *line;
	} cases[] = {
		{ "http://127.0.0.1:%u", "GET / HTTP/1.1\r\n" },
		{ "http://127.0.0.1:%u?a=b", "GET /?a=b HTTP/1.1\r\n" },
		{ "http://127.0.0.1:%u/x?a", "GET /x?a HTTP/1.1\r\n" },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		call_init(&c, w, cases[i].url);
		call_run(&c);
		assert_answer(&c, 200, "ok");
		assert_true(web_heard(w, cases[i].line));
		call_done(&c);
	}
}

/* A full backlog is a peer that never accepts. */
static void
test_connect_timeout_and_refusal(void **state)
{
	struct web *w = *state;
	struct call c[4];
	struct address full, none;
	int fd = raw_listen(0, &full), gone = raw_listen(1, &none);

	(void)close(gone);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		call_init(&c[i], w, "http://127.0.0.1:%u/");
		call_aim(&c[i], "http://127.0.0.1:%u/", full.port);
		c[i].req.connect_timeout_us = 100000;
		call_send(&c[i]);
	}
	/* The first ones fit; they get no answer instead. */
	RUN_UNTIL(w, c[3].done == 1);
	assert_failed(&c[3], ERROR_TRANSIENT, "connect_timeout");
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		http_cancel(&c[i].req);
	call_aim(&c[0], "http://127.0.0.1:%u/", none.port);
	call_run(&c[0]);
	assert_failed(&c[0], ERROR_TRANSIENT, "ECONNREFUSED");
	assert_int_equal(web_stats(w).open, 0);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		call_done(&c[i]);
	(void)close(fd);
}

/* ---- when to try again ---- */

static void
test_retry_delay(void **state)
{
	uint64_t min = UINT64_MAX, max = 0, d;

	(void)state;
	random_seed(7);
	for (int i = 0; i < 2000; i++) {
		d = http_retry_delay_us(3, 1000, 100000, 0);
		min = MIN(min, d);
		max = MAX(max, d);
	}
	assert_in_range(min, 0, 100);		/* full jitter, to 4 * base */
	assert_in_range(max, 3900, 4000);
	for (unsigned n = 1; n < 200; n++)
		assert_in_range(http_retry_delay_us(n, 1000, 5000, 0), 0,
		    MIN((uint64_t)5000, (uint64_t)1000 << MIN(n - 1, 20u)));
	assert_int_equal(http_retry_delay_us(1, 1000, 5000, 60000), 60000);
	assert_int_equal(http_retry_delay_us(5, 0, 0, 0), 0);
	(void)http_retry_delay_us(90, UINT64_MAX / 2, UINT64_MAX, 0);
}

static void
test_may_retry(void **state)
{
	static const unsigned yes[] = { 408, 429, 500, 502, 503, 504 };
	struct http_response r = { 0 };
	struct error e = ERROR_INIT;
	size_t n = 0;

	(void)state;
	for (r.status = 100; r.status < 600; r.status++) {
		bool may = http_may_retry(&r, NULL);

		if (n < ARRAY_SIZE(yes) && r.status == yes[n]) {
			assert_true(may);
			n++;
		} else {
			assert_false(may);
		}
	}
	assert_int_equal(n, ARRAY_SIZE(yes));
	for (e.class = ERROR_TRANSIENT; e.class <= ERROR_INTERNAL; e.class++)
		assert_int_equal(http_may_retry(NULL, &e),
		    e.class == ERROR_TRANSIENT);
}

static void
test_dates(void **state)
{
	static const char *const bad[] = { "", "Sun, 06 Nov 1994 08:49:37 CET",
		"Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
		"Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1969 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:-7 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT " };
	static const uint64_t times[] = { 0, 784111777, 951782399, 951868800,
		1795449600, 4102444800, 253402300799 };
	char text[HTTP_DATE_BYTES];
	uint64_t t;

	(void)state;
	assert_int_equal(http_date_parse(SLICE("Sun, 06 Nov 1994 08:49:37 GMT"),
	    &t), 0);
	assert_int_equal(t, 784111777 * USEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		assert_int_equal(http_date_parse(slice_of(http_date(text,
		    times[i] * USEC_PER_SEC)), &t), 0);
		assert_int_equal(t, times[i] * USEC_PER_SEC);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (http_date_parse(slice_of(bad[i]), &t) == 0)
			fail_msg("a date: \"%s\"", bad[i]);
}

static void
test_retry_after_and_date(void **state)
{
	static const struct {
		const char *headers;
		uint64_t after_s, date_s;
	} cases[] = {
		{ "Retry-After: 7\r\n", 7, 0 },
		{ "Retry-After: 0\r\n", 0, 0 },
		{ "Retry-After: soon\r\n", 0, 0 },
		{ "Retry-After: -5\r\n", 0, 0 },
		/* By the server's clock, however wrong that is. */
		{ "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
			"Retry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n", 30,
			784111777 },
		{ "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
			"Retry-After: Sun, 06 Nov 1994 08:49:07 GMT\r\n", 0,
			784111777 },
		{ "", 0, 0 },
	};
	struct web *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char answer[300];
		struct call c;

		snprintf(answer, sizeof(answer), "HTTP/1.1 503 Busy\r\n"
		    "%sContent-Length: 0\r\n\r\n", cases[i].headers);
		web_script(w, answer);
		call_init(&c, w, "http://127.0.0.1:%u/");
		call_run(&c);
		assert_answer(&c, 503, "");
		assert_int_equal(c.retry_after_us,
		    cases[i].after_s * USEC_PER_SEC);
		assert_int_equal(c.date_us, cases[i].date_s * USEC_PER_SEC);
		call_done(&c);
	}
}

/* ---- which proxy ---- */

static void
test_no_proxy(void **state)
{
	static const struct {
		const char *list, *url;
		bool matches;
	} cases[] = {
		{ "", "http://a.test", false },
		{ "*", "http://a.test", true },
		{ "a.test", "http://a.test", true },
		{ "a.test", "http://b.a.test", true },
		{ "a.test", "http://ba.test", false },
		{ ".a.test", "http://a.test", true },
		{ ".a.test", "http://b.a.test", true },
		{ "A.Test", "http://b.a.test", true },
		{ "a.test.", "http://a.test", true },
		{ "a.test", "http://a.test.", true },
		{ "b.a.test", "http://a.test", false },
		{ "x, ,y\ta.test,z", "http://a.test", true },
		{ "a.test:81", "http://a.test", false },
		{ "a.test:81", "http://a.test:81", true },
		{ "a.test:x", "http://a.test", false },
		{ ".", "http://a.test", false },
		{ "10.0.0.1", "http://10.0.0.1", true },
		{ "10.0.0.1", "http://10.0.0.11", false },
		{ "0.0.1", "http://10.0.0.1", false },
		{ "10.0.0.1:80", "http://10.0.0.1", true },
		{ "10.0.0.1:81", "http://10.0.0.1", false },
		{ "10.0.0.0/8", "http://10.20.30.40", true },
		{ "10.0.0.0/8", "http://11.20.30.40", false },
		{ "10.20.0.0/15", "http://10.21.0.1", true },
		{ "10.20.0.0/15", "http://10.22.0.1", false },
		{ "0.0.0.0/0", "http://9.9.9.9", true },
		{ "10.0.0.0/33", "http://10.0.0.0", false },
		{ "10.0.0.0/8", "http://a.test", false },
		{ "10.0.0.0/x", "http://10.0.0.1", false },
		{ "2001:db8::1", "http://[2001:DB8:0::1]", true },
		{ "[2001:db8::1]", "http://[2001:db8::1]", true },
		{ "[2001:db8::1]:81", "http://[2001:db8::1]", false },
		{ "2001:db8::/32", "http://[2001:db8:ffff::1]", true },
		{ "2001:db8::/32", "http://[2001:db9::1]", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_url u;
		struct error err;

		assert_int_equal(http_url_parse(&u, cases[i].url, &err), 0);
		if (http_no_proxy_matches(cases[i].list, &u) !=
		    cases[i].matches)
			fail_msg("\"%s\" and %s", cases[i].list, cases[i].url);
	}
}

static void
check_way(const struct http_proxies *p, const char *url, const char *want)
{
	char text[ADDRESS_TEXT_BYTES];
	const struct http_proxy *proxy;
	struct http_url u;
	struct error err;

	assert_int_equal(http_url_parse(&u, url, &err), 0);
	proxy = http_proxy_for(p, &u);
	assert_string_equal(proxy != NULL ?
	    address_text(&proxy->address, text) : "direct", want);
}

static void
clear_environment(void)
{
	static const char *const names[] = { "http_proxy", "HTTP_PROXY",
		"https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)unsetenv(names[i]);
}

static void
test_proxies_of_the_environment(void **state)
{
	struct http_proxies p;
	struct error err = ERROR_INIT;

	(void)state;
	clear_environment();
	assert_int_equal(http_proxies_init(&p, NULL, &err), 0);
	check_way(&p, "https://a.test", "direct");
	http_proxies_done(&p);

	(void)setenv("HTTPS_PROXY", "http://s.test:3128/", 1);
	(void)setenv("HTTP_PROXY", "http://evil.test:1", 1);
	(void)setenv("NO_PROXY", "b.test", 1);
	assert_int_equal(http_proxies_init(&p, NULL, &err), 0);
	check_way(&p, "https://a.test", "s.test:3128");
	check_way(&p, "https://x.b.test", "direct");
	check_way(&p, "https://localhost", "direct");
	check_way(&p, "https://127.9.9.9", "direct");
	check_way(&p, "https://[::1]", "direct");
	check_way(&p, "http://a.test", "direct");	/* httpoxy */
	http_proxies_done(&p);

	(void)setenv("http_proxy", "p.test", 1);
	(void)setenv("https_proxy", "http://u:p%40@s2.test:1", 1);
	(void)setenv("no_proxy", "c.test", 1);
	assert_int_equal(http_proxies_init(&p, NULL, &err), 0);
	check_way(&p, "http://a.test", "p.test:80");
	check_way(&p, "https://b.test", "s2.test:1");	/* lower case wins */
	check_way(&p, "https://c.test", "direct");
	assert_true(slice_is(secret_bytes(p.https->authorization),
	    "Basic dTpwQA=="));
	http_proxies_done(&p);

	/* One that is given is for all. */
	assert_int_equal(http_proxies_init(&p, "http://[::1]:8080", &err), 0);
	check_way(&p, "http://c.test", "[::1]:8080");
	check_way(&p, "https://localhost", "[::1]:8080");
	http_proxies_done(&p);
	assert_int_equal(http_proxies_init(&p, "", &err), 0);
	check_way(&p, "http://a.test", "direct");
	http_proxies_done(&p);
	clear_environment();
}

static void
test_bad_proxies(void **state)
{
	static const char *const bad[] = { "https://p.test:1", "socks5://p:1",
		"http://p.test/path", "http://:1", "http://p:0", "http://p:x",
		"http://u:secret%zz@p:1", "http://u:secret@", "/run/secret",
		"http://u:secret@p:1?x", "http://a b:1" };
	struct http_proxies p;
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (http_proxies_init(&p, bad[i], &err) >= 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.class, ERROR_REJECTED);
		assert_string_equal(err.code, "proxy");
		assert_null(strstr(err.text, "secret"));
	}
}

/* ---- through one ---- */

static const char *
proxy_url(struct web *w, const char *user)
{
	static char url[80];

	snprintf(url, sizeof(url), "http://%s127.0.0.1:%u", user,
	    w->listener.bound.port);
	return url;
}

static void
use_proxy(struct web *w, const char *user)
{
	web_client(w, &(struct http_client_params){
		.proxy = proxy_url(w, user),
		.tls = { .ca_file = file("ca.pem") } });
}

static void
test_plain_through_a_proxy(void **state)
{
	struct web *w = *state;
	struct call c;

	use_proxy(w, "me:pass@");
	call_init(&c, w, "http://a.test:81/x?y");
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_true(web_heard(w, "GET http://a.test:81/x?y HTTP/1.1\r\n"
	    "Host: a.test:81\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n"));
	call_done(&c);
	call_init(&c, w, "http://b.test?y");
	web_script(w, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
	call_run(&c);
	assert_failed(&c, ERROR_AUTH, "proxy_auth");
	assert_true(web_heard(w, "GET http://b.test/?y HTTP/1.1\r\n"));
	assert_null(strstr(c.err.text, "pass"));
	call_done(&c);
	/* Without a proxy 407 is an answer like any other. */
	web_client(w, NULL);
	web_script(w, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
	call_init(&c, w, "http://127.0.0.1:%u/");
	call_run(&c);
	assert_answer(&c, 407, "");
	call_done(&c);
}

static void
test_tls_through_a_proxy(void **state)
{
	struct web *w = *state;
	struct call c;

	w->tunnel_tls = server_context("server.pem");
	use_proxy(w, "me:pass@");
	web_script(w, "THTTP/1.1 200 Connection established\r\n\r\n");
	call_init(&c, w, TARGET);
	c.more_headers = "Authorization: Bearer x\r\n";
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_int_equal(w->requests, 2);
	assert_true(web_heard(w, "GET /hook?token=t HTTP/1.1\r\n"
	    "Host: a.example.test\r\nAuthorization: Bearer x\r\n\r\n"));
	assert_false(web_heard(w, "Proxy"));
	assert_int_equal(c.headers_asked, 1);
	/* The tunnel is kept, too. */
	call_run(&c);
	assert_answer(&c, 200, "ok");
	assert_int_equal(w->accepted, 1);
	call_done(&c);
}

static void
test_what_the_proxy_hears(void **state)
{
	struct web *w = *state;
	struct call c;

	use_proxy(w, "me:pass@");
	web_script(w, "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n");
	call_init(&c, w, TARGET);
	c.more_headers = "Authorization: Bearer x\r\n";
	call_run(&c);
	assert_failed(&c, ERROR_AUTH, "proxy_auth");
	assert_true(slice_is(buffer_slice(&w->last),
	    "CONNECT a.example.test:443 HTTP/1.1\r\nHost: a.example.test\r\n"
	    "Proxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n"));
	assert_int_equal(c.headers_asked, 0);
	call_done(&c);
}

static void
test_tunnel_refused(void **state)
{
	static const struct {
		const char *answer;
		enum error_class class;
		const char *code;
	} cases[] = {
		{ "HTTP/1.1 407 Who\r\n\r\n", ERROR_AUTH, "proxy_auth" },
		{ "HTTP/1.1 403 No\r\n\r\n", ERROR_REJECTED, "proxy_refused" },
		{ "HTTP/1.1 302 Hm\r\n\r\n", ERROR_REJECTED, "proxy_refused" },
		{ "HTTP/1.1 503 Down\r\n\r\n", ERROR_TRANSIENT, "proxy_error" },
		{ "HTTP/1.1 504 Late\r\n\r\n", ERROR_TRANSIENT, "proxy_error" },
		{ "+OK\r\n", ERROR_PROTOCOL, "bad_start_line" },
		{ "!", ERROR_TRANSIENT, "eof" },
		{ "!HTTP/1.1 200 ", ERROR_TRANSIENT, "eof" },
		{ "-", ERROR_TRANSIENT, "connect_timeout" },
		/* Bytes before TLS are no part of it. */
		{ "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
			ERROR_PROTOCOL, "tls_early" },
		/* A tunnel into silence. */
		{ "HTTP/1.1 200 OK\r\n\r\n", ERROR_TRANSIENT,
			"connect_timeout" },
		/* The peer goes away in the handshake. */
		{ "!HTTP/1.1 200 OK\r\n\r\n", ERROR_TRANSIENT, NULL },
	};
	struct web *w = *state;

	use_proxy(w, "");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct call c;

		w->nscript = w->next = 0;
		web_script(w, cases[i].answer);
		/* The ClientHello is no request to a silent server. */
		call_init(&c, w, TARGET);
		c.req.connect_timeout_us = 60000;
		call_send(&c);
		RUN_UNTIL(w, w->requests == i + 1 || c.done == 1);
		for (unsigned k = 0; k < PEERS_MAX; k++)
			if (stream_is_up(&w->peers[k].s) && cases[i].answer[0] !=
			    '!')
				stream_pause(&w->peers[k].s, true);
		RUN_UNTIL(w, c.done == 1);
		if (cases[i].code != NULL)
			assert_failed(&c, cases[i].class, cases[i].code);
		assert_int_equal(c.err.class, cases[i].class);
		assert_int_equal(web_stats(w).open, 0);
		call_done(&c);
		for (unsigned k = 0; k < PEERS_MAX; k++)
			stream_pause(&w->peers[k].s, false);
		for (unsigned k = 0; k < PEERS_MAX; k++)
			stream_close(&w->peers[k].s);
	}
}

static void
test_proxy_is_not_there(void **state)
{
	struct web *w = *state;
	struct address none;
	struct call c;
	char url[80];
	int gone = raw_listen(1, &none);

	(void)close(gone);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", none.port);
	web_client(w, &(struct http_client_params){ .proxy = url });
	call_init(&c, w, TARGET);
	call_run(&c);
	assert_failed(&c, ERROR_TRANSIENT, "ECONNREFUSED");
	assert_non_null(strstr(c.err.text, "the proxy: "));
	call_done(&c);
}

/* ---- TLS ---- */

static void
test_tls_and_resumption(void **state)
{
	struct web *w = *state;
	struct call c;

	w->tls = server_context("server.pem");
	web_client(w, &(struct http_client_params){ .proxy = "",
		.tls = { .ca_file = file("ca.pem") } });
	call_init(&c, w, "https://localhost:%u/");
	for (int i = 0; i < 3; i++) {
		call_run(&c);
		assert_answer(&c, 200, "ok");
		/* A new connection each time, the session is the old one. */
		assert_int_equal(w->accepted, i + 1);
		assert_int_equal(w->peers[i].resumed, i > 0);
		stream_close(&w->peers[i].s);
		RUN_UNTIL(w, web_stats(w).open == 0);
	}
	call_done(&c);
}

static void
test_tls_refusals(void **state)
{
	static const struct {
		const char *ca, *host, *word;
	} cases[] = {
		{ "other-ca.pem", "https://localhost:%u/", "localhost" },
		{ "ca.pem", "https://127.0.0.1:%u/", NULL },
		{ "ca.pem", "https://LOCALHOST.:%u/", NULL },
	};
	struct web *w = *state;
	struct call c;

	w->tls = server_context("server.pem");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		web_client(w, &(struct http_client_params){ .proxy = "",
			.tls = { .ca_file = file(cases[i].ca) } });
		call_init(&c, w, cases[i].host);
		call_run(&c);
		if (cases[i].word != NULL) {
			assert_failed(&c, ERROR_AUTH, "tls_verify");
			assert_non_null(strstr(c.err.text, cases[i].word));
		} else {
			assert_answer(&c, 200, "ok");
		}
		call_done(&c);
	}
	/* Its name is not in the certificate; unless nobody looks. */
	tls_context_unref(w->tls);
	w->tls = server_context("client.pem");
	for (int insecure = 0; insecure < 2; insecure++) {
		web_client(w, &(struct http_client_params){ .proxy = "",
			.tls = { .ca_file = file("ca.pem"),
			.insecure = insecure == 1 } });
		call_init(&c, w, "https://localhost:%u/");
		call_run(&c);
		if (insecure == 0) {
			assert_failed(&c, ERROR_AUTH, "tls_verify");
			assert_non_null(strstr(c.err.text, "localhost"));
			assert_non_null(strstr(c.err.text, "mismatch"));
		} else {
			assert_answer(&c, 200, "ok");
		}
		call_done(&c);
	}
}

static void
test_tls_name_behind_a_proxy(void **state)
{
	struct web *w = *state;
	struct call c;

	w->tunnel_tls = server_context("server.pem");
	use_proxy(w, "");
	web_script(w, "THTTP/1.1 200 OK\r\n\r\n");
	call_init(&c, w, "https://other.test/");
	call_run(&c);
	assert_failed(&c, ERROR_AUTH, "tls_verify");
	assert_non_null(strstr(c.err.text, "other.test"));
	call_done(&c);
}

/* RFC 9112, 9.8: only TLS' own goodbye ends a body without a length. */
static void
test_tls_truncation(void **state)
{
	struct web *w = *state;
	struct call c;

	w->tls = server_context("server.pem");
	web_client(w, &(struct http_client_params){ .proxy = "",
		.tls = { .ca_file = file("ca.pem") } });
	call_init(&c, w, "https://localhost:%u/");
	web_script(w, "!HTTP/1.1 200 OK\r\n\r\nall of it");
	call_run(&c);
	assert_answer(&c, 200, "all of it");

	web_script(w, "-HTTP/1.1 200 OK\r\n\r\npart of");
	call_send(&c);
	RUN_UNTIL(w, w->requests == 2 && stream_pending(&w->peers[1].s) == 0);
	(void)shutdown(w->peers[1].s.fd, SHUT_WR);
	RUN_UNTIL(w, c.done == 2);
	assert_failed(&c, ERROR_TRANSIENT, "eof");
	call_done(&c);
}

static void
test_silent_peer_in_the_handshake(void **state)
{
	struct web *w = *state;		/* speaks no TLS: waits for a head */
	struct call c;
	struct address there;
	int fd = raw_listen(8, &there);

	web_client(w, &(struct http_client_params){ .proxy = "",
		.tls = { .ca_file = file("ca.pem") } });
	call_init(&c, w, "https://127.0.0.1:%u/");
	call_aim(&c, "https://127.0.0.1:%u/", there.port);
	c.req.connect_timeout_us = 40000;
	call_run(&c);
	assert_failed(&c, ERROR_TRANSIENT, "connect_timeout");

	/* And one that is cancelled there. */
	c.req.connect_timeout_us = 0;
	call_send(&c);
	RUN_UNTIL(w, c.req.exchange->conn->stream.state == STREAM_HANDSHAKING);
	http_cancel(&c.req);
	assert_int_equal(web_stats(w).open, 0);
	assert_int_equal(c.done, 1);
	call_done(&c);
	(void)close(fd);
}

/* After each number of turns: connecting, tunnelling, in the handshake. */
static void
test_cancel_on_the_way_through_a_proxy(void **state)
{
	struct web *w = *state;
	unsigned seen = 0;

	w->tunnel_tls = server_context("server.pem");
	use_proxy(w, "");
	for (int n = 0; n < 14; n++) {
		struct call c;

		w->nscript = w->next = 0;
		web_script(w, "THTTP/1.1 200 OK\r\n\r\n");
		web_script(w, "-");
		call_init(&c, w, TARGET);
		call_send(&c);
		for (int i = 0; i < n; i++) {
			assert_true(loop_turn(w->loop, 1000) >= 0);
			web_start_tunnels(w);
		}
		seen |= 1u << c.req.exchange->conn->state;
		http_cancel(&c.req);
		assert_int_equal(web_stats(w).open, 0);
		assert_int_equal(c.done, 0);
		RUN_UNTIL(w, web_open(w) == 0);
		call_done(&c);
	}
	assert_int_equal(seen, 1u << HTTP_CONN_CONNECTING |
	    1u << HTTP_CONN_TUNNEL | 1u << HTTP_CONN_TUNNEL_TLS |
	    1u << HTTP_CONN_BUSY);
}

static void
test_bad_tls_settings(void **state)
{
	struct web *w = *state;
	struct http_client_params p = { .proxy = "",
		.tls = { .ca_file = "/does/not/exist.pem" } };
	struct error err = ERROR_INIT;

	assert_null(http_client_new(w->loop, w->resolver, &p, &err));
	assert_non_null(strstr(err.text, "/does/not/exist.pem"));
	p = (struct http_client_params){ .proxy = "ftp://x" };
	assert_null(http_client_new(w->loop, w->resolver, &p, &err));
	assert_string_equal(err.code, "proxy");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		web_test(test_targets_on_the_wire),
		web_test(test_connect_timeout_and_refusal),
		cmocka_unit_test(test_retry_delay),
		cmocka_unit_test(test_may_retry),
		cmocka_unit_test(test_dates),
		web_test(test_retry_after_and_date),
		cmocka_unit_test(test_no_proxy),
		cmocka_unit_test(test_proxies_of_the_environment),
		cmocka_unit_test(test_bad_proxies),
		web_test(test_plain_through_a_proxy),
		web_test(test_tls_through_a_proxy),
		web_test(test_what_the_proxy_hears),
		web_test(test_tunnel_refused),
		web_test(test_proxy_is_not_there),
		web_test(test_tls_and_resumption),
		web_test(test_tls_refusals),
		web_test(test_tls_name_behind_a_proxy),
		web_test(test_tls_truncation),
		web_test(test_silent_peer_in_the_handshake),
		web_test(test_cancel_on_the_way_through_a_proxy),
		web_test(test_bad_tls_settings),
	};

	return cmocka_run_group_tests_name("http_client_net", tests,
	    make_certificates, remove_certificates);
}
