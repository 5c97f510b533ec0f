/*
 * One item after the other to one channel.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "sink/slack_impl.h"

struct slack_item *
slack_lane_flying(const struct slack_lane *lane)
{
	return http_busy(&lane->request) ?
	    list_first_entry(&lane->items, struct slack_item, link) : NULL;
}

static struct slack_item *
first(const struct slack_lane *lane)
{
	return list_first_entry(&lane->items, struct slack_item, link);
}

/* What a person would mend. */
static const char *
secret_file(const struct slack_lane *lane)
{
	const struct slack_settings *k = &lane->slack->settings;

	return k->webhook ? lane->target : k->token_file;
}

/* "#alerts-critical", or "the webhook". */
static const char *
target_name(const struct slack_lane *lane)
{
	return lane->slack->settings.webhook ? "the webhook" : lane->target;
}

void
slack_lane_take(struct slack_lane *lane, struct slack_item *i)
{
	list_remove(&i->link);
	lane->n--;
}

/* The last word on an item, to whoever waits for it. */
static void
finish(struct slack_lane *lane, struct slack_item *i, bool ok,
    const char *text)
{
	struct slack *k = lane->slack;
	uint64_t ticket = i->ticket;

	slack_lane_take(lane, i);
	slack_item_free(i);
	if (ticket != 0)
		alert_answer(k->sinks->p.alerts, ticket, &k->sink, ok, text);
}

/* ---- what became of it ---- */

/* After the message itself there may be a word in its thread. */
static bool
next_step(struct slack_item *i)
{
	if (i->step != SLACK_UPDATE)
		return false;
	i->step = SLACK_REPLY;
	return true;
}

static void
taken(struct slack_lane *lane, struct slack_item *i,
    const struct slack_answer *a)
{
	struct slack *k = lane->slack;
	_cleanup_free_ char *text = NULL;
	struct slack_thread *t;

	sink_worked(&k->record, &lane->way);
	if (next_step(i))
		return;
	k->record.sent++;
	if (i->step == SLACK_POST && *a->ts != '\0' && *a->channel != '\0' &&
	    (i->kind == ALERT_EVENT_FIRING || i->kind == ALERT_EVENT_REPEAT))
		slack_thread_set(k, i->key, a->channel, a->ts);
	t = slack_thread_find(k, i->key);
	if (i->kind == ALERT_EVENT_RESOLVED && t != NULL)
		slack_thread_free(k, t);
	if (i->ticket == 0)
		alerts_memos_changed(k->sinks->p.alerts);
	text = k->settings.webhook ? xstrdup("posted by the webhook") :
	    xasprintf("posted to %s", lane->target);
	finish(lane, i, true, text);
}

/* How long until the next try. */
static uint64_t
patience(const struct slack_lane *lane, const struct slack_answer *a)
{
	uint64_t least = a->retry_after_us;

	if (a->verdict == SLACK_MEND)
		least = MAX(least, SLACK_MEND_US);
	return http_retry_delay_us(lane->failures, SLACK_BACKOFF_US,
	    SLACK_BACKOFF_MAX_US, least);
}

static void
failed(struct slack_lane *lane, struct slack_item *i,
    const struct slack_answer *a)
{
	uint64_t now = clock_monotonic_us(), delay;
	struct slack *k = lane->slack;
	struct slack_thread *t;

	/* A message that was deleted, or is too old to be changed: then there
	   is only the thread, and else a new message. */
	if (i->step != SLACK_POST && a->verdict != SLACK_AGAIN) {
		t = slack_thread_find(k, i->key);
		if (!next_step(i)) {
			i->step = SLACK_POST;
			if (t != NULL)
				slack_thread_free(k, t);
		}
		log_info(LOG_EVENT(EVENT_SINK_FAILED), "slack: the message of "
		    "%s cannot be changed: %s (%s)", i->key, a->error.text,
		    a->error.code);
		return;
	}
	lane->failures++;
	delay = patience(lane, a);
	if (a->verdict == SLACK_REFUSED ||
	    (i->ticket != 0 && (a->verdict == SLACK_MEND ||
	    now + delay >= i->give_up_us))) {
		sink_refused(&k->record, &a->error);
		lane->failures = 0;
		finish(lane, i, false, a->error.text);
		if (a->retry_after_us != 0)
			lane->next_us = now + a->retry_after_us;
		return;
	}
	k->record.retries++;
	sink_failed(&k->record, &lane->way, &a->error, delay);
	lane->next_us = now + delay;
}

static void
forget_request(struct slack_lane *lane)
{
	sink_forget(&lane->url, &lane->secret);
	buffer_done(&lane->body);
}

static void
judged(struct slack_lane *lane, const struct slack_answer *a)
{
	struct slack_item *i = first(lane);

	/* From the answer on: however long that took, the gap is kept. */
	lane->next_us = clock_monotonic_us() + SLACK_GAP_US;
	if (a->verdict == SLACK_TAKEN) {
		lane->failures = 0;
		taken(lane, i, a);
	} else {
		failed(lane, i, a);
	}
	slack_lane_go(lane);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct slack_lane *lane = q->owner;
	struct slack_answer a;

	slack_judge(lane->slack->settings.webhook, target_name(lane),
	    secret_file(lane), r, err, lane->secret, &a);
	forget_request(lane);
	judged(lane, &a);
}

/* ---- sending ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	const struct slack_lane *lane = q->owner;

	buffer_add_str(out, "Content-Type: application/json; charset=utf-8\r\n"
	    "User-Agent: bot-operator/" PACKAGE_VERSION "\r\n");
	if (lane->slack->settings.webhook)
		return;
	buffer_add_str(out, "Authorization: Bearer ");
	buffer_add_slice(out, secret_bytes(lane->secret));
	buffer_add_str(out, "\r\n");
}

/* Which request is next for it. */
static void
choose_step(struct slack *k, struct slack_item *i)
{
	/* A webhook can change nothing: threads are of a token before it. */
	bool thread = !k->settings.webhook &&
	    slack_thread_find(k, i->key) != NULL;

	if (i->step != 0)
		return;
	i->step = SLACK_POST;
	if (thread && i->kind == ALERT_EVENT_RESOLVED)
		i->step = SLACK_UPDATE;
	else if (thread && i->kind == ALERT_EVENT_REPEAT)
		i->step = SLACK_REPLY;
}

static void
make_body(struct slack_lane *lane, struct slack_item *i)
{
	struct slack *k = lane->slack;
	const struct slack_thread *t = slack_thread_find(k, i->key);
	struct buffer *b = &lane->body;

	buffer_add_char(b, '{');
	if (!k->settings.webhook) {
		buffer_add_str(b, "\"channel\":");
		json_add_string(b, slice_of(i->step != SLACK_POST &&
		    t != NULL ? t->channel : lane->target));
		buffer_add_char(b, ',');
	}
	if (i->step == SLACK_UPDATE && t != NULL) {
		buffer_add_str(b, "\"ts\":");
		json_add_string(b, slice_of(t->ts));
		buffer_add_char(b, ',');
	} else if (i->step == SLACK_REPLY && t != NULL) {
		buffer_add_str(b, "\"thread_ts\":");
		json_add_string(b, slice_of(t->ts));
		/* What still fires is to be seen in the channel as well. */
		if (i->kind == ALERT_EVENT_REPEAT)
			buffer_add_str(b, ",\"reply_broadcast\":true");
		buffer_add_char(b, ',');
	}
	buffer_add_str(b, i->step == SLACK_REPLY ? i->reply : i->message);
	buffer_add_char(b, '}');
}

/* 0, or -EINVAL and *err, which a person must mend. */
static int
make_url(struct slack_lane *lane, struct slack_item *i, struct error *err)
{
	const struct slack_settings *k = &lane->slack->settings;
	struct error why = { ERROR_REJECTED, "url", "a NUL is in it" };

	lane->secret = secret_read_file(secret_file(lane), err);
	if (lane->secret == NULL)
		return -EINVAL;
	/* No growth afterwards: that would leave copies behind. */
	(void)buffer_reserve(&lane->url, secret_bytes(lane->secret).n + 2 +
	    strlen(k->endpoint) + 32);
	if (k->webhook)
		buffer_add_slice(&lane->url, secret_bytes(lane->secret));
	else
		buffer_printf(&lane->url, "%s/%s", k->endpoint,
		    i->step == SLACK_UPDATE ? "chat.update" :
		    "chat.postMessage");
	if (strlen(buffer_cstr(&lane->url)) != buffer_len(&lane->url) ||
	    http_url_parse(&lane->request.url, buffer_cstr(&lane->url),
	    &why) < 0) {
		error_set(err, ERROR_AUTH, "url", "%.100s: %s",
		    secret_file(lane), why.text);
		return -EINVAL;
	}
	if (k->webhook)
		return 0;
	return sink_check_word(lane->secret, secret_file(lane), "token", err);
}

int
slack_make_client(struct slack *k, struct error *err)
{
	const struct slack_settings *s = &k->settings;
	struct http_client_params p = { .tls.ca_file = s->ca_file,
		.no_tls = !s->webhook &&
		    strncmp(s->endpoint, "http://", 7) == 0 };

	if (k->http == NULL)
		k->http = http_client_new(k->sinks->p.loop,
		    k->sinks->p.resolver, &p, err);
	return k->http != NULL ? 0 : -EINVAL;
}

static void
send_first(struct slack_lane *lane)
{
	struct slack *k = lane->slack;
	struct slack_answer a = { .verdict = SLACK_MEND };
	struct slack_item *i = first(lane);
	uint64_t now = clock_monotonic_us(), limit = k->settings.timeout_us;

	choose_step(k, i);
	if (slack_make_client(k, &a.error) < 0 ||
	    make_url(lane, i, &a.error) < 0) {
		a.error.class = ERROR_AUTH;
		forget_request(lane);
		judged(lane, &a);
		return;
	}
	make_body(lane, i);
	if (i->ticket != 0)
		limit = MIN(limit, MAX(i->give_up_us - MIN(now,
		    i->give_up_us), USEC_PER_SEC));
	lane->request.body = buffer_slice(&lane->body);
	lane->request.timeout_us = lane->request.connect_timeout_us = limit;
	http_send(k->http, &lane->request);
}

static void
on_timer(struct timer *t)
{
	struct slack_lane *lane = t->owner;

	if (!http_busy(&lane->request) && lane->n != 0)
		send_first(lane);
}

void
slack_lane_go(struct slack_lane *lane)
{
	if (http_busy(&lane->request) || lane->n == 0)
		return;
	/* Never at once: this may be inside of notify(). */
	timer_arm_at(lane->slack->sinks->p.loop, &lane->timer,
	    MAX(lane->next_us, clock_monotonic_us()));
}

/* ---- those that somebody waits for ---- */

static void
arm_deadline(struct slack_lane *lane)
{
	uint64_t due = USEC_INFINITY;
	struct list *l;

	list_foreach(l, &lane->items) {
		const struct slack_item *i =
		    list_entry(l, struct slack_item, link);

		if (i->ticket != 0 && i != slack_lane_flying(lane))
			due = MIN(due, i->give_up_us);
	}
	if (due != USEC_INFINITY)
		timer_arm_at(lane->slack->sinks->p.loop, &lane->deadline, due);
}

static void
on_deadline(struct timer *t)
{
	struct slack_lane *lane = t->owner;
	struct slack *k = lane->slack;
	uint64_t now = clock_monotonic_us();
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &lane->items) {
		struct slack_item *i = list_entry(l, struct slack_item, link);
		_cleanup_free_ char *text = NULL;

		if (i->ticket == 0 || i->give_up_us > now ||
		    i == slack_lane_flying(lane))
			continue;
		text = xasprintf("not sent in time, %u message%s wait for %s%s"
		    "%s", lane->n, lane->n == 1 ? "" : "s", target_name(lane),
		    lane->way.failing ? "; last error: " : "",
		    lane->way.failing ? k->record.error.text : "");
		k->record.failed++;
		finish(lane, i, false, text);
	}
	arm_deadline(lane);
}

/* ---- life ---- */

void
slack_lane_add(struct slack_lane *lane, struct slack_item *i)
{
	list_push_back(&lane->items, &i->link);
	lane->n++;
	arm_deadline(lane);
	slack_lane_go(lane);
}

void
slack_lane_init(struct slack_lane *lane, struct slack *k)
{
	lane->slack = k;
	list_init(&lane->items);
	timer_init(&lane->timer, "slack", on_timer, lane);
	timer_init(&lane->deadline, "slack: deadline", on_deadline, lane);
	buffer_init(&lane->url);
	buffer_init(&lane->body);
	lane->request = (struct http_request){
		.add_headers = add_headers,
		.on_done = on_done,
		.owner = lane,
		.max_response = SLACK_ANSWER_MAX,
		/* A Location could repeat the secret: not even looked at. */
		.any_status = true,
		.cut_response = true,
	};
}

void
slack_lane_stop(struct slack_lane *lane)
{
	http_cancel(&lane->request);
	forget_request(lane);
	timer_cancel(lane->slack->sinks->p.loop, &lane->timer);
	timer_cancel(lane->slack->sinks->p.loop, &lane->deadline);
	lane->failures = 0;
}

void
slack_lane_done(struct slack_lane *lane)
{
	struct slack_item *i;

	slack_lane_stop(lane);
	while ((i = first(lane)) != NULL) {
		slack_lane_take(lane, i);
		slack_item_free(i);
	}
}
