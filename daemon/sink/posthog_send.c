/*
 * Batches: what waits, from its front, one request at a time.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "codec/gzip.h"
#include "sink/posthog_impl.h"

/* ---- what became of it ---- */

static void
taken(struct posthog *k, unsigned n)
{
	k->failures = 0;
	k->record.sent += n;
	posthog_events_drop(k, n);
	sink_worked(&k->record, &k->way);
}

static void
refused(struct posthog *k, unsigned n, const struct posthog_answer *a)
{
	bool news = sink_way_failed(&k->record, &k->way, &a->error);
	char span[CLOCK_SPAN_BYTES];
	uint64_t delay = MAX(a->retry_after_us, POSTHOG_GAP_US);

	k->failures = 0;
	k->record.failed += n;
	posthog_events_drop(k, n);
	k->next_us = clock_monotonic_us() + delay;
	if (news)
		log_warning(&((struct log_fields){ .event = EVENT_SINK_DROPPED,
		    .error_type = a->error.code }), "posthog: %u event%s lost: "
		    "%s (%s); the next are tried in %s, and counted", n,
		    n == 1 ? " is" : "s are", a->error.text, a->error.code,
		    clock_span(span, delay));
}

static void
try_later(struct posthog *k, const struct posthog_answer *a)
{
	uint64_t least = a->retry_after_us, delay;

	k->failures++;
	k->record.retries++;
	if (a->verdict == POSTHOG_MEND)
		least = MAX(least, POSTHOG_MEND_US);
	delay = http_retry_delay_us(k->failures, POSTHOG_BACKOFF_US,
	    POSTHOG_BACKOFF_MAX_US, least);
	k->next_us = clock_monotonic_us() + delay;
	sink_failed(&k->record, &k->way, &a->error, delay);
}

/* One that is too large by itself will never be taken. */
static void
halve(struct posthog *k, unsigned n, const struct posthog_answer *a)
{
	if (n <= 1) {
		refused(k, n, a);
		return;
	}
	k->batch_max = n / 2;
	k->record.retries++;
	log_info(LOG_EVENT(EVENT_SINK_FAILED), "posthog: %s; from now on at "
	    "most %u events at a time", a->error.text, k->batch_max);
}

static void
judged(struct posthog *k, const struct posthog_answer *a)
{
	unsigned n = k->flying;

	k->flying = 0;
	switch (a->verdict) {
	case POSTHOG_TAKEN:
		taken(k, n);
		break;
	case POSTHOG_REFUSED:
		refused(k, n, a);
		break;
	case POSTHOG_TOO_LARGE:
		halve(k, n, a);
		break;
	case POSTHOG_AGAIN:
	case POSTHOG_MEND:
		try_later(k, a);
		break;
	}
	posthog_send_go(k);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct posthog *k = q->owner;
	struct posthog_answer a;

	posthog_judge(k->settings.key_file, r, err, k->key, &a);
	sink_forget(&k->body, &k->key);
	judged(k, &a);
}

/* ---- a request ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	(void)q;
	buffer_add_str(out, "Content-Type: application/json\r\n"
	    "Content-Encoding: gzip\r\n"
	    "User-Agent: " PACKAGE_NAME "/" PACKAGE_VERSION "\r\n");
}

static int
make_client(struct posthog *k, struct error *err)
{
	struct http_client_params p = { .tls.ca_file = k->settings.ca_file,
		.no_tls = strncmp(k->settings.url, "http://", 7) == 0,
		.max_connections = 1,
	};

	if (k->http == NULL)
		k->http = http_client_new(k->sinks->p.loop,
		    k->sinks->p.resolver, &p, err);
	return k->http != NULL ? 0 : -EINVAL;
}

/* 0, or -EINVAL and *err, which a person must mend. */
static int
read_key(struct posthog *k, struct error *err)
{
	const char *file = k->settings.key_file;

	k->key = secret_read_file(file, err);
	return k->key != NULL ? sink_check_word(k->key, file, "key", err) :
	    -EINVAL;
}

/* How many of those that wait go into one batch, and their bytes. */
static unsigned
count_batch(const struct posthog *k, size_t *ret_bytes)
{
	size_t bytes = 0;
	unsigned n = 0;
	struct list *l;

	list_foreach(l, &k->events) {
		const struct posthog_event *e = list_entry(l,
		    struct posthog_event, link);

		if (n == k->batch_max ||
		    (n != 0 && bytes + e->n > POSTHOG_BATCH_BYTES))
			break;
		bytes += e->n + 1;
		n++;
	}
	*ret_bytes = bytes;
	return n;
}

static void
make_body(struct posthog *k)
{
	_cleanup_buffer_ struct buffer raw = BUFFER_INIT;
	char iso[CLOCK_ISO_BYTES];
	unsigned i = 0;
	struct list *l;
	size_t bytes;

	k->flying = count_batch(k, &bytes);
	/* No growth afterwards: that would leave copies of the key behind. */
	(void)buffer_reserve(&raw, bytes + 6 * secret_bytes(k->key).n + 128);
	buffer_add_str(&raw, "{\"api_key\":");
	json_add_string(&raw, secret_bytes(k->key));
	buffer_add_str(&raw, ",\"batch\":[");
	list_foreach(l, &k->events) {
		const struct posthog_event *e = list_entry(l,
		    struct posthog_event, link);

		if (i == k->flying)
			break;
		if (i++ != 0)
			buffer_add_char(&raw, ',');
		buffer_add(&raw, e->text, e->n);
	}
	buffer_printf(&raw, "],\"sent_at\":\"%s\"}", clock_iso(iso,
	    clock_realtime_us(), true));
	gzip_add(&k->body, buffer_slice(&raw));
	secret_wipe(raw.data, raw.size);
}

static void
send_batch(struct posthog *k)
{
	struct posthog_answer a = { .verdict = POSTHOG_MEND };

	if (make_client(k, &a.error) < 0 || read_key(k, &a.error) < 0 ||
	    http_url_parse(&k->request.url, k->settings.url, &a.error) < 0) {
		a.error.class = ERROR_AUTH;
		sink_forget(&k->body, &k->key);
		judged(k, &a);
		return;
	}
	make_body(k);
	k->request.body = buffer_slice(&k->body);
	k->request.timeout_us = k->request.connect_timeout_us =
	    k->settings.timeout_us;
	http_send(k->http, &k->request);
}

static void
on_timer(struct timer *t)
{
	struct posthog *k = t->owner;

	if (!http_busy(&k->request) && k->n != 0)
		send_batch(k);
}

/* ---- from the others ---- */

void
posthog_send_go(struct posthog *k)
{
	if (http_busy(&k->request) || k->n == 0)
		return;
	timer_arm_at(k->sinks->p.loop, &k->send_timer, MAX(k->next_us,
	    clock_monotonic_us()));
}

void
posthog_send_init(struct posthog *k)
{
	list_init(&k->events);
	k->batch_max = POSTHOG_BATCH_MAX;
	timer_init(&k->send_timer, "posthog: send", on_timer, k);
	buffer_init(&k->body);
	k->request = (struct http_request){
		.add_headers = add_headers,
		.on_done = on_done,
		.owner = k,
		.max_response = POSTHOG_ANSWER_MAX,
		/* Uuids: PostHog keeps one of what comes twice. */
		.resend = true,
		.any_status = true,
		.cut_response = true,
	};
}

void
posthog_send_stop(struct posthog *k)
{
	http_cancel(&k->request);
	sink_forget(&k->body, &k->key);
	timer_cancel(k->sinks->p.loop, &k->send_timer);
	http_client_free(k->http);
	k->http = NULL;
	k->flying = 0;
	k->failures = 0;
	k->next_us = 0;
}
