/*
 * Events become items, which wait in their lane.
 *
 * Repeats of an alert that wait become one: firing or "still firing" behind
 * firing; and of firing, over, firing again only the last firing is left, with
 * how many it was.  So an alert has at most three items that wait, however long
 * Slack is not there, and QueueMax= bounds the alerts.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "sink/slack_impl.h"

/* ---- threads ---- */

struct slack_thread *
slack_thread_find(struct slack *k, const char *key)
{
	struct hash_node *n = hash_find(&k->by_key, slice_of(key));

	return n != NULL ? container_of(n, struct slack_thread, node) : NULL;
}

void
slack_thread_free(struct slack *k, struct slack_thread *t)
{
	list_remove(&t->link);
	hash_remove(&k->by_key, &t->node);
	free(t->key);
	free(t);
}

void
slack_thread_set(struct slack *k, const char *key, const char *channel,
    const char *ts)
{
	struct slack_thread *t = slack_thread_find(k, key);

	if (t != NULL)
		slack_thread_free(k, t);
	/* The oldest goes: its end will be a message of its own. */
	if (k->by_key.count >= ALERTS_MAX)
		slack_thread_free(k, list_first_entry(&k->threads,
		    struct slack_thread, link));
	t = new0(struct slack_thread);
	t->key = xstrdup(key);
	snprintf(t->channel, sizeof(t->channel), "%s", channel);
	snprintf(t->ts, sizeof(t->ts), "%s", ts);
	list_push_back(&k->threads, &t->link);
	hash_insert(&k->by_key, &t->node, slice_of(t->key));
}

/* ---- items ---- */

void
slack_item_free(struct slack_item *i)
{
	free(i->key);
	free(i->message);
	free(i->reply);
	free(i);
}

static bool
fires(enum alert_event_kind kind)
{
	return kind == ALERT_EVENT_FIRING || kind == ALERT_EVENT_REPEAT;
}

static void
write_item(struct slack *k, struct slack_item *i, const struct alert_event *e)
{
	const struct slack_place place = { .host = k->host,
		.botctl = k->settings.botctl };
	struct buffer b = BUFFER_INIT;

	free(i->message);
	free(i->reply);
	slack_message(&b, e, &place, i->times);
	i->message = buffer_dup(&b);
	buffer_clear(&b);
	slack_reply(&b, e, i->times);
	i->reply = buffer_dup(&b);
	buffer_done(&b);
}

static struct slack_item *
item_new(struct slack *k, const struct alert_event *e)
{
	struct slack_item *i = new0(struct slack_item);

	list_init(&i->link);
	i->key = xasprintf("%s/%s", e->rule, e->subject_title);
	i->tag = hash_of(slice_of(i->key));
	i->kind = e->kind;
	i->severity = e->severity;
	i->times = 1;
	i->ticket = e->ticket;
	if (e->ticket != 0)
		i->give_up_us = clock_monotonic_us() + SLACK_WAIT_US;
	write_item(k, i, e);
	return i;
}

/* ---- coalescing ---- */

/* The last two of that alert that wait and were not begun. */
static unsigned
find_waiting(struct slack_lane *lane, const char *key,
    struct slack_item *ret[2])
{
	struct slack_item *flying = slack_lane_flying(lane);
	uint64_t tag = hash_of(slice_of(key));
	unsigned n = 0;

	for (struct list *l = lane->items.prev; l != &lane->items && n < 2;
	    l = l->prev) {
		struct slack_item *i = list_entry(l, struct slack_item, link);

		if (i->tag != tag || i == flying || i->ticket != 0 ||
		    i->step > SLACK_POST || strcmp(i->key, key) != 0)
			continue;
		ret[n++] = i;
	}
	return n;
}

/* True: it is in one that waits already. */
static bool
coalesce(struct slack *k, struct slack_lane *lane, const char *key,
    const struct alert_event *e)
{
	struct slack_item *last[2] = { NULL, NULL }, *into = NULL;
	unsigned n = find_waiting(lane, key, last);

	if (e->ticket != 0 || !fires(e->kind) || n == 0)
		return false;
	if (fires(last[0]->kind)) {
		into = last[0];
	} else if (n == 2 && fires(last[1]->kind)) {
		into = last[1];
		slack_lane_take(lane, last[0]);
		slack_item_free(last[0]);
		k->coalesced++;
	}
	if (into == NULL)
		return false;
	into->times++;
	k->coalesced++;
	write_item(k, into, e);
	return true;
}

/* ---- from the alerts ---- */

static void
drop_oldest(struct slack *k, struct slack_lane *lane)
{
	struct slack_item *flying = slack_lane_flying(lane);
	struct list *l;

	list_foreach(l, &lane->items) {
		struct slack_item *i = list_entry(l, struct slack_item, link);

		/* Somebody waits for an answer; that ends by itself. */
		if (i == flying || i->ticket != 0)
			continue;
		slack_lane_take(lane, i);
		slack_item_free(i);
		sink_dropped(&k->record, 1, "too many wait (QueueMax=)");
		return;
	}
}

static void
on_event(struct alert_sink *sink, const struct alert_event *e)
{
	struct slack *k = sink->owner;
	struct slack_lane *lane =
	    &k->lanes[k->lane_of[e->severity - ALERT_INFO]];
	_cleanup_free_ char *key = xasprintf("%s/%s", e->rule,
	    e->subject_title);

	if (coalesce(k, lane, key, e)) {
		slack_lane_go(lane);
		return;
	}
	if (lane->n >= k->settings.queue_max)
		drop_oldest(k, lane);
	slack_lane_add(lane, item_new(k, e));
}

/* ---- over a restart ---- */

/* Where its message is, so that its end can change it. */
static json_t *
on_memo(struct alert_sink *sink, const char *rule, const char *subject_title,
    bool *ret_waits)
{
	struct slack *k = sink->owner;
	_cleanup_free_ char *key = xasprintf("%s/%s", rule, subject_title);
	const struct slack_thread *t = slack_thread_find(k, key);
	uint64_t tag = hash_of(slice_of(key));
	struct list *l;

	for (unsigned n = 0; n < SLACK_SEVERITIES; n++)
		list_foreach(l, &k->lanes[n].items) {
			const struct slack_item *i =
			    list_entry(l, struct slack_item, link);

			*ret_waits |= i->tag == tag && i->ticket == 0 &&
			    i->kind != ALERT_EVENT_REPEAT &&
			    strcmp(i->key, key) == 0;
		}
	return t == NULL ? NULL : json_pack("{s:o,s:o}", "channel",
	    json_text(t->channel), "ts", json_text(t->ts));
}

static void
on_recall(struct alert_sink *sink, const char *rule,
    const char *subject_title, const json_t *memo)
{
	struct slack *k = sink->owner;
	_cleanup_free_ char *key = xasprintf("%s/%s", rule, subject_title);
	const char *channel = json_string_value(json_object_get(memo,
	    "channel"));
	const char *ts = json_string_value(json_object_get(memo, "ts"));

	/* The file may say anything. */
	if (channel != NULL && ts != NULL && strlen(channel) < SLACK_ID_BYTES &&
	    strlen(ts) < SLACK_ID_BYTES)
		slack_thread_set(k, key, channel, ts);
}

/* ---- settings ---- */

/* Severities with the same target share a lane. */
static void
assign_lanes(struct slack *k)
{
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++) {
		unsigned lane = i;

		for (unsigned j = i; j-- > 0;)
			if (strcmp(k->settings.target[i],
			    k->settings.target[j]) == 0)
				lane = k->lane_of[j];
		k->lane_of[i] = lane;
		k->lanes[i].target = k->settings.target[i];
		if (lane != i)		/* nothing goes there any more */
			sink_way_reset(&k->record, &k->lanes[i].way);
	}
}

void
slack_check(struct config *c)
{
	const struct config_section *s = config_next(c, "Slack", NULL);

	if (s != NULL)
		slack_settings_check(c, s);
}

struct slack *
slack_new(struct sinks *all, const struct config_section *s)
{
	struct slack *k = new0(struct slack);
	struct error err;

	k->sinks = all;
	k->record.name = "slack";
	list_init(&k->threads);
	hash_init(&k->by_key);
	if (gethostname(k->host, sizeof(k->host) - 1) < 0)
		snprintf(k->host, sizeof(k->host), "unknown");
	slack_settings_read(&k->settings, all->config, s);
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++)
		slack_lane_init(&k->lanes[i], k);
	assign_lanes(k);
	/* What is wrong with it is said with the first message. */
	(void)slack_make_client(k, &err);
	k->sink.name = "slack";
	k->sink.notify = on_event;
	k->sink.memo = on_memo;
	k->sink.recall = on_recall;
	k->sink.owner = k;
	alerts_add_sink(all->p.alerts, &k->sink);
	return k;
}

void
slack_reload(struct slack *k, const struct config_section *s)
{
	struct slack_settings old = k->settings;
	LIST_HEAD(waiting);
	struct error err;
	struct list *l;

	for (unsigned i = 0; i < SLACK_SEVERITIES; i++) {
		slack_lane_stop(&k->lanes[i]);
		list_splice_back(&waiting, &k->lanes[i].items);
		k->lanes[i].n = 0;
		k->lanes[i].next_us = MIN(k->lanes[i].next_us,
		    clock_monotonic_us() + SLACK_GAP_US);
	}
	http_client_free(k->http);
	k->http = NULL;
	k->settings = (struct slack_settings){ .config = NULL };
	slack_settings_read(&k->settings, k->sinks->config, s);
	assign_lanes(k);
	(void)slack_make_client(k, &err);
	while ((l = list_pop_front(&waiting)) != NULL) {
		struct slack_item *i = list_entry(l, struct slack_item, link);

		/* Its thread may be of another workspace. */
		if (old.webhook != k->settings.webhook)
			i->step = 0;
		slack_lane_add(&k->lanes[k->lane_of[i->severity -
		    ALERT_INFO]], i);
	}
	slack_settings_done(&old);
}

static unsigned
queued(const struct slack *k)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SLACK_SEVERITIES; i++)
		n += k->lanes[i].n;
	return n;
}

void
slack_free(struct slack *k)
{
	unsigned n;

	if (k == NULL)
		return;
	/* While it still knows what waits. */
	alerts_remove_sink(k->sinks->p.alerts, &k->sink);
	n = queued(k);
	if (n != 0)
		sink_dropped(&k->record, n, "the sink ends");
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++)
		slack_lane_done(&k->lanes[i]);
	while (!list_empty(&k->threads))
		slack_thread_free(k, list_first_entry(&k->threads,
		    struct slack_thread, link));
	hash_done(&k->by_key);
	http_client_free(k->http);
	slack_settings_done(&k->settings);
	free(k);
}

/* ---- to look at ---- */

json_t *
slack_json(const struct slack *k)
{
	static const char *const names[] = { "info", "warning", "critical" };
	json_t *j = sink_record_json(&k->record), *channels = json_object();

	json_object_set_new(j, "type", json_string("slack"));
	json_object_set_new(j, "by", json_string(k->settings.webhook ?
	    "webhook" : "token"));
	json_object_set_new(j, "queued", json_integer(queued(k)));
	json_object_set_new(j, "coalesced", json_integer(
	    (json_int_t)MIN(k->coalesced, (uint64_t)INT64_MAX)));
	for (unsigned i = 0; i < SLACK_SEVERITIES; i++) {
		const struct slack_lane *lane = &k->lanes[k->lane_of[i]];
		json_t *one = json_object();

		if (!k->settings.webhook)
			json_object_set_new(one, "channel",
			    json_text(lane->target));
		json_object_set_new(one, "queued", json_integer(lane->n));
		json_object_set_new(channels, names[i], one);
	}
	json_object_set_new(j, "severities", channels);
	return j;
}
