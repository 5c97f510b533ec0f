/*
 * The states of alerts: durations, hysteresis, reloads, silences,
 * unknown figures, and what sinks get, on a clock that the test moves.
 */
#include "unit/alert_rig.h"

#define RULE	"[Alert deep]\nWhen=queue.backlog > 100\nFor=10min\n"

/* ---- durations ---- */

static void
test_fires_exactly_when_for_is_over(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 100);
	rig_run(w, 5);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
	rig_set_backlog(w, 0, 101);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	rig_run(w, 599);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	assert_int_equal(w->nevents, 0);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].kind, ALERT_EVENT_FIRING);
	assert_int_equal(w->events[0].duration_us, 600 * SEC);
	assert_int_equal(w->events[0].since_us, WALL_US + 6 * SEC);
	assert_string_equal(w->events[0].subject, "queue:orders");
	assert_string_equal(w->events[0].summary, "queue orders: "
	    "queue.backlog is 101 (limit: > 100) for 10min");
	/* Told once, without Repeat=. */
	rig_run(w, 7200);
	assert_int_equal(w->nevents, 1);

	rig_set_backlog(w, 0, 100);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "resolved");
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_RESOLVED);
	assert_int_equal(w->events[1].duration_us, 7800 * SEC);
	/* Shown for 15 minutes, then all is well. */
	rig_run(w, 899);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "resolved");
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
	assert_int_equal(w->nevents, 2);
	assert_true(rig_logged(w, "warning: alert deep (warning) firing after "
	    "10min: queue.backlog > 100, now 101"));
	assert_true(rig_logged(w, "notice: alert deep (warning) resolved"));
}

static void
test_for_zero_fires_at_the_first_look(void **state)
{
	struct world *w = *state;

	rig_begin(w, "[Alert deep]\nWhen=queue.backlog >= 1\nFor=0\n"
	    "Severity=info\n");
	rig_set_backlog(w, 0, 1);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
	rig_set_backlog(w, 0, 0);
	rig_run(w, 1);
	rig_set_backlog(w, 0, 1);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 3);
	assert_int_equal(w->events[2].kind, ALERT_EVENT_FIRING);
	assert_int_equal(w->events[2].duration_us, 0);
}

static void
test_flapping_never_adds_up(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE);
	for (unsigned i = 0; i < 20; i++) {
		rig_set_backlog(w, 0, 500);
		rig_run(w, 599);
		rig_set_backlog(w, 0, 5);
		rig_run(w, 1);
	}
	assert_int_equal(w->nevents, 0);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
}

static void
test_repeat_tells_again(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE "Repeat=30min\n");
	rig_set_backlog(w, 0, 500);
	rig_run(w, 601);
	assert_int_equal(w->nevents, 1);
	rig_run(w, 1799);
	assert_int_equal(w->nevents, 1);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_REPEAT);
	assert_int_equal(w->events[1].duration_us, 2400 * SEC);
	rig_run(w, 1800);
	assert_int_equal(w->nevents, 3);
}

static void
test_clear_is_hysteresis(void **state)
{
	struct world *w = *state;

	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nClear=50\n"
	    "For=10s\n");
	/* It does not count before firing. */
	rig_set_backlog(w, 0, 80);
	rig_run(w, 60);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
	rig_set_backlog(w, 0, 101);
	rig_run(w, 5);
	rig_set_backlog(w, 0, 80);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
	rig_set_backlog(w, 0, 101);
	rig_run(w, 11);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	rig_set_backlog(w, 0, 51);
	rig_run(w, 600);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_int_equal(w->nevents, 1);
	rig_set_backlog(w, 0, 50);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "resolved");
	assert_int_equal(w->nevents, 2);
}

/* ---- what is not known ---- */

static void
test_unknown_neither_fires_nor_resolves(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 300);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	/* Its connection is lost: what it waits for is not known. */
	w->q[0].connected = false;
	rig_run(w, 3600);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	assert_true(json_is_null(rig_member(w, "value")));
	assert_int_equal(w->nevents, 0);
	/* The clock stood meanwhile. */
	w->q[0].connected = true;
	rig_run(w, 300);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_int_equal(json_integer_value(rig_member(w, "value")), 500);
	w->q[0].backlog.waiting_known = false;
	rig_run(w, 3600);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_true(json_is_null(rig_member(w, "value")));
	assert_int_equal(w->nevents, 1);
	rig_set_backlog(w, 0, 0);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "resolved");
}

static void
test_an_old_sample_is_not_known(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	/* Not sampled anew: the broker does not answer probes. */
	for (unsigned i = 0; i < 700; i++) {
		clock_advance(SEC);
		(void)loop_turn(w->loop, 0);
	}
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	assert_true(json_is_null(rig_member(w, "value")));
	assert_int_equal(w->nevents, 0);
}

static void
test_min_samples(void **state)
{
	static const char rule[] =
	    "[Alert error-rate]\nEnabled=no\n[Alert bad]\n"
	    "When=queue.error_rate_percent > 5\nFor=0\nMinSamples=20\n";
	struct world *w = *state;

	rig_begin(w, rule);
	rig_run(w, 1);
	/* Every one of 19 failed, which is no rate yet. */
	w->q[0].stats.failed = 19;
	rig_run(w, 5);
	assert_string_equal(rig_state(w, "bad", "queue:orders"), "inactive");
	w->q[0].stats.failed = 20;
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "bad", "queue:orders"), "firing");
	/* Out of the window: nothing is known, so nothing changes. */
	rig_run(w, 600);
	assert_string_equal(rig_state(w, "bad", "queue:orders"), "firing");
	assert_true(json_is_null(rig_member(w, "value")));
	/* A few bad ones do not count, a few good ones do. */
	w->q[0].stats.failed += 2;
	rig_run(w, 1);
	assert_true(json_is_null(rig_member(w, "value")));
	rig_run(w, 61);
	w->q[0].stats.done += 2;
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "bad", "queue:orders"), "resolved");
	assert_int_equal(w->nevents, 2);
}

static void
test_starting_is_not_known(void **state)
{
	struct world *w = *state;

	w->p.up = false;
	rig_begin(w, "[Alert sick]\nWhen=health != ok\nFor=5s\n");
	/* Nothing came up and nothing failed yet. */
	rig_run(w, 29);
	assert_string_equal(rig_state(w, "sick", "operator"), "inactive");
	rig_run(w, 10);
	assert_string_equal(rig_state(w, "sick", "operator"), "firing");
	assert_int_equal(w->nevents, 1);
	assert_string_equal(w->events[0].summary,
	    "operator: health is down (limit: != ok) for 5s");
	w->p.up = true;
	rig_run(w, 2);
	assert_string_equal(rig_state(w, "sick", "operator"), "resolved");
}

/* ---- reload ---- */

static void
test_a_reload_keeps_what_is_the_same(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE "[Alert deeper]\nWhen=queue.backlog > 200\nFor=5s\n");
	rig_set_backlog(w, 0, 500);
	rig_run(w, 301);
	assert_int_equal(w->nevents, 1);
	/* The same question with other words around it. */
	rig_reload(w, "[Alert deep]\nWhen=queue.backlog>100\nFor=8min\n"
	    "Severity=critical\n"
	    "[Alert deeper]\nWhen=queue.backlog > 201\nFor=5s\n");
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	/* That one asks something else: over, and then anew. */
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_RESOLVED);
	assert_string_equal(w->events[1].note,
	    "the rule asks something else now");
	rig_run(w, 6);
	assert_int_equal(w->nevents, 3);
	assert_string_equal(w->events[2].rule, "deeper");
	rig_run(w, 173);
	assert_int_equal(w->nevents, 3);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 4);
	assert_string_equal(w->events[3].rule, "deep");
	assert_int_equal(w->events[3].duration_us, 480 * SEC);
	/* Gone altogether. */
	rig_reload(w, "[Alert deep]\nEnabled=no\n");
	assert_int_equal(w->nevents, 6);
	assert_string_equal(w->events[5].note, "the rule is gone");
	rig_run(w, 5);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
}

static void
test_a_removed_queue_ends_its_alerts(void **state)
{
	struct world *w = *state;

	rig_add_queue(w, 1, "mails");
	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nFor=5s\n"
	    "Queues=* !mai*\n");
	rig_set_backlog(w, 0, 500);
	rig_set_backlog(w, 1, 500);
	rig_run(w, 7);
	/* The pattern leaves the other one out. */
	assert_int_equal(w->nevents, 1);
	assert_string_equal(w->events[0].subject, "queue:orders");
	rig_remove_queue(w, 0);
	observer_refresh(w->o);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_RESOLVED);
	assert_non_null(strstr(w->events[1].note, "the queue is gone"));
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
}

static void
test_draining_changes_nothing(void **state)
{
	struct world *w = *state;

	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nFor=5s\n"
	    "[Alert sick]\nWhen=status != ok\nFor=0\n");
	rig_set_backlog(w, 0, 500);
	rig_run(w, 3);
	w->engine.phase = ENGINE_DRAINING;
	rig_run(w, 60);
	assert_int_equal(w->nevents, 0);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
}

/* ---- silences ---- */

static void
test_silences(void **state)
{
	struct world *w = *state;
	struct buffer why = BUFFER_INIT;
	json_t *j;
	uint64_t id, other;

	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nFor=5s\n"
	    "Repeat=1min\n");
	assert_int_equal(alerts_silence(w->a, "deep/queue:ord*", 600 * SEC,
	    "we know", "uid 1", &id, &why), 0);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 30);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_true(json_is_true(rig_member(w, "silenced")));
	assert_false(alerts_any_firing(w->a));
	assert_int_equal(w->nevents, 0);
	/* A restart keeps it. */
	rig_end(w);
	clock_advance(10 * SEC);
	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nFor=5s\n"
	    "Repeat=1min\n");
	rig_run(w, 559);
	j = alerts_silences_json(w->a);
	assert_int_equal(json_array_size(j), 1);
	assert_string_equal(json_string_value(json_object_get(
	    json_array_get(j, 0), "reason")), "we know");
	assert_int_equal(json_integer_value(json_object_get(
	    json_array_get(j, 0), "seconds_left")), 1);
	assert_int_equal(json_integer_value(json_object_get(
	    json_array_get(j, 0), "matches")), 1);
	json_decref(j);
	assert_int_equal(w->nevents, 0);
	/* It is over and nobody was told yet. */
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].kind, ALERT_EVENT_FIRING);
	/* No repeat in a silence; the end of what was told is told. */
	assert_int_equal(alerts_silence(w->a, "queue:orders", 600 * SEC, "", "",
	    &other, &why), 0);
	assert_true(other != id);
	rig_run(w, 300);
	assert_int_equal(w->nevents, 1);
	rig_set_backlog(w, 0, 5);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_RESOLVED);
	/* What came and went in a silence is told to nobody. */
	rig_set_backlog(w, 0, 500);
	rig_run(w, 20);
	rig_set_backlog(w, 0, 5);
	rig_run(w, 20);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(alerts_silence_end(w->a, "nothing"), 0);
	assert_int_equal(alerts_silence_end(w->a, "queue:orders"), 1);
	assert_int_equal(alerts_silence_end(w->a, "queue:orders"), 0);
	buffer_done(&why);
}

static void
test_silences_are_bounded(void **state)
{
	struct world *w = *state;
	struct buffer why = BUFFER_INIT;
	char pattern[16], id_text[24];
	uint64_t id = 0;

	rig_begin(w, RULE);
	assert_int_equal(alerts_silence(w->a, "", SEC, "", "", &id, &why),
	    -EINVAL);
	assert_int_equal(alerts_silence(w->a, "*", 0, "", "", &id, &why),
	    -EINVAL);
	assert_int_equal(alerts_silence(w->a, "*", SILENCE_MAX_US + 1, "", "",
	    &id, &why), -EINVAL);
	for (unsigned i = 0; i < SILENCES_MAX; i++) {
		snprintf(pattern, sizeof(pattern), "x%u", i);
		assert_int_equal(alerts_silence(w->a, pattern, 60 * SEC, "",
		    "", &id, &why), 0);
	}
	assert_int_equal(alerts_silence(w->a, "*", SEC, "", "", &id, &why),
	    -ENOSPC);
	snprintf(id_text, sizeof(id_text), "%llu", (unsigned long long)id);
	assert_int_equal(alerts_silence_end(w->a, id_text), 1);
	assert_int_equal(alerts_silence(w->a, "*", SEC, "", "", &id, &why), 0);
	rig_run(w, 61);
	assert_int_equal(rig_count_silences(w), 0);
	buffer_done(&why);
}

/* ---- events and sinks ---- */

static void
test_events_show_the_last_lines(void **state)
{
	struct world *w = *state;

	rig_begin(w, "[Alert deep]\nWhen=queue.backlog > 100\nFor=5s\n");
	rig_set_backlog(w, 0, 500);
	for (unsigned i = 0; i < 6; i++)
		log_warning(LOG_QUEUE("orders"), "reason %u", i);
	log_warning(&((struct log_fields){ .queue = "orders",
	    .message = SLICE("id\n1") }), "reason 6");
	log_error(LOG_QUEUE("other"), "of another queue");
	log_notice(LOG_QUEUE("orders"), "only a notice");
	log_error(&((struct log_fields){ .queue = "orders",
	    .unwatched = true }), "what a handler printed");
	rig_run(w, 7);
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].nlines, RECENT_LINES);
	assert_string_equal(w->events[0].last_line, "message id?1: reason 6");
	/* Its own line is no reason for the next. */
	rig_set_backlog(w, 0, 0);
	rig_run(w, 1);
	assert_string_equal(w->events[1].last_line, "message id?1: reason 6");
}

static void
second_notify(struct alert_sink *s, const struct alert_event *e)
{
	unsigned *n = s->owner;

	(void)e;
	(*n)++;
}

static void
test_notify_chooses_the_sinks(void **state)
{
	struct world *w = *state;
	unsigned mails = 0;
	struct alert_sink mail = { .name = "mail", .notify = second_notify,
		.owner = &mails };

	rig_begin(w, "[Alert a]\nWhen=queue.backlog > 100\nFor=0\n"
	    "Notify=mail\n"
	    "[Alert b]\nWhen=queue.backlog > 100\nFor=0\nNotify=none\n"
	    "[Alert c]\nWhen=queue.backlog > 100\nFor=0\n");
	alerts_add_sink(w->a, &mail);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 1);
	assert_int_equal(mails, 2);
	assert_int_equal(w->nevents, 1);
	assert_string_equal(w->events[0].rule, "c");
	alerts_remove_sink(w->a, &mail);
	rig_set_backlog(w, 0, 0);
	rig_run(w, 1);
	assert_int_equal(mails, 2);
	assert_int_equal(w->nevents, 2);
}

struct answers {
	char text[512];
	unsigned ended;
};

static void
on_answer(void *owner, const char *sink, bool ok, const char *text)
{
	struct answers *a = owner;
	size_t n = strlen(a->text);

	snprintf(a->text + n, sizeof(a->text) - n, "%s %s: %s\n", sink,
	    ok ? "ok" : "failed", text);
}

static void
on_end(void *owner)
{
	((struct answers *)owner)->ended++;
}

static const struct alert_trial_ops ops = { on_answer, on_end };

static void
test_a_test_tells_what_each_sink_said(void **state)
{
	struct world *w = *state;
	struct answers got = { "", 0 };
	struct buffer why = BUFFER_INIT;
	unsigned mails = 0;
	struct alert_sink mail = { .name = "mail", .notify = second_notify,
		.owner = &mails };
	struct alert_trial *t;

	rig_begin(w, RULE);
	assert_null(alerts_try(w->a, "deap", &ops, &got, &why));
	assert_string_equal(buffer_cstr(&why),
	    "there is no rule \"deap\"; did you mean \"deep\"?");
	alerts_add_sink(w->a, &mail);
	rig_set_backlog(w, 0, 7);
	assert_non_null(alerts_try(w->a, "deep", &ops, &got, &why));
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].kind, ALERT_EVENT_TEST);
	assert_true(w->events[0].ticket != 0);
	assert_string_equal(w->events[0].summary, "a test, nothing is wrong: "
	    "queue orders: queue.backlog is 7 (limit: > 100)");
	alert_answer(w->a, w->events[0].ticket, &w->sink, true, "posted");
	alert_answer(w->a, w->events[0].ticket, &w->sink, true, "twice");
	alert_answer(w->a, w->events[0].ticket + 1, &mail, true, "strange");
	assert_string_equal(got.text, "pager ok: posted\n");
	assert_int_equal(got.ended, 0);
	rig_run(w, 29);
	assert_int_equal(got.ended, 0);
	rig_run(w, 2);
	assert_string_equal(got.text, "pager ok: posted\n"
	    "mail failed: no answer within 30s\n");
	assert_int_equal(got.ended, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "inactive");
	/* Too late is too late. */
	alert_answer(w->a, w->events[0].ticket, &mail, true, "late");
	assert_int_equal(got.ended, 1);

	/* Nobody listens any more. */
	t = alerts_try(w->a, "deep", &ops, &got, &why);
	assert_non_null(t);
	alert_trial_abandon(t);
	alert_answer(w->a, w->events[1].ticket, &w->sink, true, "posted");
	assert_int_equal(got.ended, 1);
	/* A sink goes away meanwhile. */
	got.text[0] = '\0';
	assert_non_null(alerts_try(w->a, "deep", &ops, &got, &why));
	alerts_remove_sink(w->a, &mail);
	alert_answer(w->a, w->events[2].ticket, &w->sink, false, "404");
	assert_string_equal(got.text, "mail failed: it was taken away\n"
	    "pager failed: 404\n");
	assert_int_equal(got.ended, 2);
	buffer_clear(&why);
	alerts_remove_sink(w->a, &w->sink);
	assert_null(alerts_try(w->a, "deep", &ops, &got, &why));
	assert_non_null(strstr(buffer_cstr(&why), "no sink is configured"));
	buffer_done(&why);
}

/* ---- bounds and built-in rules ---- */

static void
test_alerts_are_bounded(void **state)
{
	struct world *w = *state;
	struct queue *many = xcalloc(ALERTS_MAX + 50, sizeof(*many));
	json_t *j;

	for (unsigned i = 0; i < ALERTS_MAX + 50; i++) {
		struct queue *q = &many[i];

		q->name = xasprintf("q%u", i);
		q->type = &rig_queue_type;
		q->engine = &w->engine;
		list_init(&q->engine_link);
		list_push_back(&w->engine.queues, &q->engine_link);
	}
	rig_begin(w, "[Alert gone]\nWhen=queue.connected == no\nFor=1h\n"
	    "Notify=none\n");
	rig_run(w, 3);
	j = alerts_json(w->a);
	assert_int_equal(json_array_size(j), ALERTS_MAX);
	json_decref(j);
	assert_true(rig_logged(w, "more than 1000 alerts at once"));
	rig_end(w);
	for (unsigned i = 0; i < ALERTS_MAX + 50; i++) {
		list_remove(&many[i].engine_link);
		free(many[i].name);
	}
	free(many);
}

static void
test_the_four_that_are_built_in(void **state)
{
	struct world *w = *state;
	json_t *rules;

	rig_begin(w, "[Alert backlog]\nWhen=queue.backlog > 7\nFor=1s\n"
	    "[Alert error-rate]\nEnabled=no\n");
	rules = alerts_rules_json(w->a);
	assert_int_equal(json_array_size(rules), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(
	    rules, 0), "name")), "backlog-critical");
	assert_string_equal(json_string_value(json_object_get(json_array_get(
	    rules, 2), "when")), "queue.backlog > 7");
	json_decref(rules);
	rig_end(w);

	rig_begin(w, "");
	rig_set_backlog(w, 0, 10001);
	rig_run(w, 300);
	assert_int_equal(w->nevents, 0);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
	assert_string_equal(w->events[0].rule, "backlog-critical");
	rig_run(w, 300);
	assert_int_equal(w->nevents, 2);
	assert_string_equal(w->events[1].rule, "backlog");
	assert_true(rig_logged(w, "error: alert backlog-critical (critical) "
	    "firing after 5min"));
	/* 6 of 100 fail, minute by minute. */
	for (unsigned i = 0; i < 310; i++) {
		w->q[0].stats.done += 94;
		w->q[0].stats.failed += 6;
		rig_run(w, 1);
	}
	assert_int_equal(w->nevents, 3);
	assert_string_equal(w->events[2].rule, "error-rate");
	/* No pool can run anything: down. */
	w->p.up = false;
	error_set(&w->p.error, ERROR_INTERNAL, "exec", "no such file");
	rig_run(w, 120);
	assert_int_equal(w->nevents, 3);
	rig_run(w, 3);
	assert_int_equal(w->nevents, 4);
	assert_string_equal(w->events[3].rule, "operator-down");
	assert_string_equal(w->events[3].subject, "operator");
}

static void
test_status_and_metrics_show_them(void **state)
{
	struct world *w = *state;
	struct buffer b = BUFFER_INIT;
	json_t *status, *alert;

	rig_begin(w, RULE "Text=Look at it.\nRunbook=https://wiki/deep\n");
	rig_set_backlog(w, 0, 500);
	rig_run(w, 601);
	status = observer_status(w->o);
	alert = json_array_get(json_object_get(status, "alerts"), 0);
	assert_string_equal(json_string_value(json_object_get(alert, "name")),
	    "deep");
	assert_string_equal(json_string_value(json_object_get(alert,
	    "runbook")), "https://wiki/deep");
	assert_string_equal(json_string_value(json_object_get(alert, "since")),
	    "2026-11-23T16:00:01Z");
	assert_int_equal(json_integer_value(json_object_get(alert,
	    "duration_seconds")), 600);
	json_decref(status);
	observer_metrics(w->o, &b);
	assert_non_null(strstr(buffer_cstr(&b), "\nbot_operator_alert_firing{"
	    "alert=\"deep\",severity=\"warning\",subject=\"queue:orders\"} "
	    "1\n"));
	assert_non_null(strstr(buffer_cstr(&b), "\nbot_operator_alerts{"
	    "state=\"firing\",severity=\"warning\"} 1\n"));
	assert_non_null(strstr(buffer_cstr(&b),
	    "\nbot_operator_alert_events_total{sink=\"pager\"} 1\n"));
	buffer_done(&b);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, rig_setup, \
			    rig_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fires_exactly_when_for_is_over),
		TEST(test_for_zero_fires_at_the_first_look),
		TEST(test_flapping_never_adds_up),
		TEST(test_repeat_tells_again),
		TEST(test_clear_is_hysteresis),
		TEST(test_unknown_neither_fires_nor_resolves),
		TEST(test_an_old_sample_is_not_known),
		TEST(test_min_samples),
		TEST(test_starting_is_not_known),
		TEST(test_a_reload_keeps_what_is_the_same),
		TEST(test_a_removed_queue_ends_its_alerts),
		TEST(test_draining_changes_nothing),
		TEST(test_silences),
		TEST(test_silences_are_bounded),
		TEST(test_events_show_the_last_lines),
		TEST(test_notify_chooses_the_sinks),
		TEST(test_a_test_tells_what_each_sink_said),
		TEST(test_alerts_are_bounded),
		TEST(test_the_four_that_are_built_in),
		TEST(test_status_and_metrics_show_them),
	};
	const char *only = getenv("BOT_TEST_ONLY");

	if (only != NULL)
		cmocka_set_test_filter(only);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
