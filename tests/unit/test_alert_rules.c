/*
 * What may be written in [Alert NAME], and the figures that it may name.
 */
#include "unit/alert_rig.h"

#include <math.h>

#include "observe/check_impl.h"

/* ---- When= ---- */

static const char *const own[] = { "taken", NULL };

static void
test_when_takes_figure_operator_value(void **state)
{
	static const struct {
		const char *text, *name, *shown;
		enum figure_scope scope;
		enum alert_op op;
		double threshold;
	} cases[] = {
		{ "queue.backlog > 1000", "queue.backlog",
		    "queue.backlog > 1000", FIGURE_QUEUE, ALERT_ABOVE, 1000 },
		{ "  queue.backlog>=1000  ", "queue.backlog",
		    "queue.backlog >= 1000", FIGURE_QUEUE, ALERT_AT_LEAST,
		    1000 },
		{ "queue.processing_ms.p95 > 0.5", "queue.processing_ms.p95",
		    "queue.processing_ms.p95 > 0.5", FIGURE_QUEUE, ALERT_ABOVE,
		    0.5 },
		{ "queue.errors.no_such-type <= 3", "queue.errors.no_such-type",
		    "queue.errors.no_such-type <= 3", FIGURE_QUEUE,
		    ALERT_AT_MOST, 3 },
		{ "queue.taken == 1", "queue.taken", "queue.taken == 1",
		    FIGURE_QUEUE, ALERT_EQUAL, 1 },
		{ "queue.connected == no", "queue.connected",
		    "queue.connected == no", FIGURE_QUEUE, ALERT_EQUAL, 0 },
		{ "pool.utilization_percent\t<\t-.5",
		    "pool.utilization_percent",
		    "pool.utilization_percent < -.5", FIGURE_POOL, ALERT_BELOW,
		    -0.5 },
		{ "health != ok", "health", "health != ok", FIGURE_OPERATOR,
		    ALERT_NOT_EQUAL, HEALTH_OK },
		{ "loop.slow_turns > 5", "loop.slow_turns",
		    "loop.slow_turns > 5", FIGURE_OPERATOR, ALERT_ABOVE, 5 },
	};
	struct buffer why = BUFFER_INIT;
	struct alert_when w;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (alert_when_parse(cases[i].text, own, &w, &why) < 0)
			fail_msg("%s: %s", cases[i].text, buffer_cstr(&why));
		assert_string_equal(w.figure.name, cases[i].name);
		assert_string_equal(w.text, cases[i].shown);
		assert_int_equal(w.figure.scope, cases[i].scope);
		assert_int_equal(w.op, cases[i].op);
		assert_true(fabs(w.threshold - cases[i].threshold) < 1e-9);
	}
	buffer_done(&why);
}

static void
test_operators_at_their_edges(void **state)
{
	(void)state;
	assert_false(alert_when_holds(ALERT_ABOVE, 5, 5));
	assert_true(alert_when_holds(ALERT_ABOVE, 5.001, 5));
	assert_true(alert_when_holds(ALERT_AT_LEAST, 5, 5));
	assert_false(alert_when_holds(ALERT_AT_LEAST, 4.999, 5));
	assert_false(alert_when_holds(ALERT_BELOW, 5, 5));
	assert_true(alert_when_holds(ALERT_BELOW, 4.999, 5));
	assert_true(alert_when_holds(ALERT_AT_MOST, 5, 5));
	assert_false(alert_when_holds(ALERT_AT_MOST, 5.001, 5));
	assert_true(alert_when_holds(ALERT_EQUAL, 5, 5));
	assert_false(alert_when_holds(ALERT_EQUAL, 5.001, 5));
	assert_false(alert_when_holds(ALERT_NOT_EQUAL, 5, 5));
	assert_true(alert_when_holds(ALERT_NOT_EQUAL, 4, 5));
}

/* ---- typos (invariant 9) ---- */

static void
test_invariant_9_typos_in_alerts_are_errors(void **state)
{
	static const struct {
		const char *text, *say;
	} cases[] = {
		{ "When=queue.backlogg > 1", "test.conf:4: [Alert x]: When=: "
		    "unknown figure \"queue.backlogg\"; did you mean "
		    "\"queue.backlog\"?" },
		{ "When=backlog_age_seconds > 1",
		    "did you mean \"queue.backlog_age_seconds\"?" },
		{ "When=queue.processing_ms.p9 > 1",
		    "did you mean \"queue.processing_ms.p9" },
		{ "When=queue.backlog = 1", "unknown operator \"=\"; did you "
		    "mean \"==\"?; known: > >= < <= == !=" },
		{ "When=queue.backlog => 1", "did you mean \">=\"?" },
		{ "When=queue.backlog above 1", "the operator is missing" },
		{ "When=queue.backlog >", "a value is missing behind >" },
		{ "When=queue.backlog > 10,000", "without \",\"" },
		{ "When=queue.backlog > 1k", "what is \"k\" behind" },
		{ "When=queue.backlog > 0x10", "what is \"x10\" behind" },
		{ "When=queue.backlog > nan", "not a number" },
		{ "When=queue.backlog > many", "\"many\" is not a number" },
		{ "When=queue.connected == maybe", "yes or no" },
		{ "When=queue.connected > no", "== and != only" },
		{ "When=status == degradde",
		    "did you mean \"degraded\"?; known: ok degraded down" },
		{ "When=status == draining", "unknown health" },
		{ "When=> 1", "which figure?" },
		{ "Severity=warning", "When= is missing" },
		{ "When=queue.backlog > 1\nQueues=ordres",
		    "there is no [Queue ordres]; did you mean \"orders\"?" },
		{ "When=queue.backlog > 1\nQueues=!nothing-like-it",
		    "there is no [Queue nothing-like-it]" },
		{ "When=pool.busy > 1\nQueues=orders",
		    "pool.busy is no figure of a queue" },
		{ "When=queue.backlog > 1\nPools=mail",
		    "queue.backlog is no figure of a pool" },
		{ "When=queue.backlog > 1\nChecks=*",
		    "queue.backlog is no figure of a check" },
		{ "When=check.ok == no\nChecks=db",
		    "there is no [Check db]" },
		{ "When=queue.backlog > 1\nSinks=slack",
		    "queue.backlog is no figure of a sink" },
		{ "When=chek.ok == no", "did you mean \"check.ok\"?" },
		{ "When=queue.backlog > 1\nNotify=pagr",
		    "there is no sink \"pagr\"; did you mean \"pager\"?; "
		    "known: none pager mail" },
		{ "When=queue.backlog > 1\nNotify=none pager",
		    "\"none\" stands alone" },
		{ "When=queue.backlog > 1\nClear=2", "on the bad side" },
		{ "When=queue.backlog < 5\nClear=4", "on the bad side" },
		{ "When=queue.backlog == 5\nClear=4", "Clear= needs" },
		{ "When=queue.backlog > 5\nClear=x", "not a number" },
		{ "When=queue.backlog > 5\nSeverity=warn",
		    "did you mean \"warning\"?" },
		{ "When=queue.backlog > 5\nFr=5min",
		    "unknown key \"Fr\"; did you mean \"For\"?" },
		{ "When=queue.backlog > 5\nFor=5minuts", "5minuts" },
	};
	static const char *const sinks[] = { "pager", "mail", NULL };
	static const struct config_kind queue = { .section = "Queue",
		.labelled = true }, pool = { .section = "Pool",
		.labelled = true };
	static const struct config_kind *const schema[] = { &alert_kind,
		&queue, &pool, NULL };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = xasprintf("[Queue orders]\n"
		    "[Pool mail]\n[Alert x]\n%s\n", cases[i].text);
		struct config *c = config_load_text("test.conf", text, schema);

		if (config_problems(c) == 0)
			alerts_check(c, NULL, sinks);
		if (config_problems(c) != 1 ||
		    strstr(config_problem_text(c, 0), cases[i].say) == NULL ||
		    strstr(config_problem_text(c, 0), "test.conf:") == NULL)
			fail_msg("%s: %zu problems: %s", cases[i].text,
			    config_problems(c), config_problems(c) != 0 ?
			    config_problem_text(c, 0) : "");
		config_unref(c);
	}
}

static void
test_good_sections_pass(void **state)
{
	(void)state;
	config_unref(rig_config("[Alert a]\nWhen=queue.backlog > 5\n"
	    "Queues=ord* !orders-test-*\nClear=5\nNotify=mail\nRepeat=1h\n"
	    "[Alert b]\nEnabled=no\n[Alert c]\nWhen=queue.backlog < 5\n"
	    "Clear=6\nNotify=none\n"));
}

/* ---- figures against the document ---- */

/* ---- a check and a sink, filled in by hand ---- */

static struct checks the_checks;
static struct dependency the_check;
static json_t *the_sink;

static json_t *
sinks_of_test(void *owner)
{
	(void)owner;
	return json_pack("{s:O}", "slack", the_sink);
}

static void
add_check_and_sink(struct world *w)
{
	static const struct check_kind kind = { .key = "TCP" };
	static char name[] = "db";

	list_init(&the_checks.all);
	the_checks.engine = &w->engine;
	the_check = (struct dependency){ .set = &the_checks, .name = name,
		.kind = &kind, .state = DEPENDENCY_PENDING };
	list_push_back(&the_checks.all, &the_check.link);
	the_sink = json_pack("{s:n}", "last_sent_seconds");
	observer_set_checks(w->o, &the_checks);
	observer_set_sinks(w->o, sinks_of_test, NULL);
}

static const void *
subject_of(struct world *w, enum figure_scope scope)
{
	switch (scope) {
	case FIGURE_QUEUE:
		return &w->q[0];
	case FIGURE_POOL:
		return &w->p;
	case FIGURE_CHECK:
		return &the_check;
	case FIGURE_SINK:
		return the_sink;
	default:
		return NULL;
	}
}

/* What the document has that no rule can name: no figure. */
static bool
is_no_figure(const char *name)
{
	static const char *const others[] = { "queue.fake", "queue.done_own" };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(others[i], name) == 0)
			return true;
	return false;
}

static void
compare(struct world *w, const char *name, const json_t *j, unsigned *n)
{
	bool flag = json_is_boolean(j);
	double want = flag ? json_is_true(j) : json_number_value(j);
	struct buffer why = BUFFER_INIT;
	struct figure_value v;
	struct figure f;

	if (is_no_figure(name))
		return;
	if (figure_find(name, strlen(name), NULL, &f, &why) < 0)
		fail_msg("%s", buffer_cstr(&why));
	v = figure_read(&f, w->o, subject_of(w, f.scope));
	/* What the process uses grows between the two looks. */
	if (!v.known || fabs(v.value - want) > 0.06 + fabs(want) /
	    (strncmp(name, "process.", 8) == 0 ? 2 : 1000))
		fail_msg("%s: %g in the document, %g as a figure", name, want,
		    v.value);
	assert_int_equal(f.kind, flag ? FIGURE_BOOL : FIGURE_NUMBER);
	(*n)++;
	buffer_done(&why);
}

static void
compare_all(struct world *w, const char *prefix, json_t *object, unsigned *n)
{
	const char *key;
	json_t *j;

	json_object_foreach(object, key, j) {
		_cleanup_free_ char *name = xasprintf("%s%s", prefix, key);
		_cleanup_free_ char *deeper = xasprintf("%s.", name);

		if (json_is_number(j) || json_is_boolean(j))
			compare(w, name, j, n);
		else if (json_is_object(j) && strcmp(name, "queues") != 0 &&
		    strcmp(name, "pools") != 0 &&
		    strcmp(name, "dependencies") != 0 &&
		    strcmp(name, "sinks") != 0 && strstr(name, "error") == NULL)
			compare_all(w, deeper, j, n);
	}
}

static void
fill_in(struct world *w)
{
	struct queue_stats *s = &w->q[0].stats;
	struct queue *q = &w->q[0];

	q->nwaiting = 1;
	q->nheld = 2;
	q->ndelayed = 3;
	q->nrunning = 4;
	q->nsettling = 5;
	q->bytes_held = 600;
	q->prefetch = 7;
	q->credit = 8;
	q->ramp = 38;
	s->redelivered = 9;
	s->released = 10;
	s->retried = 11;
	s->dead = 12;
	s->leases_extended = 13;
	s->leases_lost = 14;
	s->settle_errors = 15;
	s->connects = 16;
	s->received += 50;
	s->done += 17;
	s->failed += 3;
	s->last_received_us = clock_monotonic_us() - 18 * SEC;
	s->last_done_us = clock_monotonic_us() - 19 * SEC;
	s->nerrors = 1;
	snprintf(s->errors[0].type, sizeof(s->errors[0].type), "timeout");
	s->errors[0].count = 20;
	histogram_record_n(&s->processing, 5000, 20);
	q->backlog.delayed = 21;
	q->backlog.dead = 22;
	q->backlog.delayed_known = q->backlog.dead_known = true;
	w->p.busy = 3;
	w->p.running = 23;
	w->p.stats = (struct pool_stats){ .started = 24, .restarts = 25,
		.crashes = 26, .timeouts = 27, .verdicts = 28,
		.last_verdict_us = clock_monotonic_us() - 29 * SEC,
		.busy_us = 30 * SEC };
	w->engine.done = 31;
	w->engine.retried = 32;
	w->engine.dead = 33;
	w->engine.messages_held = 34;
	w->engine.max_messages = 35;
	w->engine.bytes_held = 36;
	w->engine.max_bytes = 37;
	the_check.state = DEPENDENCY_UP;
	the_check.latency_us = 39000;
	the_check.days_known = true;
	the_check.days_left = -40;
	the_check.looked_us = clock_monotonic_us() - 41 * SEC;
	the_check.looks = 42;
	the_check.failed = 43;
	(void)json_object_update_new(the_sink, json_pack("{s:i,s:i,s:i}",
	    "queued_bytes", 51, "batch_max", 52, "intervals", 53));
	(void)json_object_update_new(the_sink, json_pack("{s:b,s:i,s:i,s:i,s:i,"
	    "s:i,s:i}", "connected", 1, "last_pull_seconds", 54, "pulls", 55,
	    "pulls_failed", 56, "decisions_max", 57, "decisions_left_out", 58,
	    "decisions_ignored", 59));
	(void)json_object_update_new(the_sink, json_pack("{s:b,s:b,s:i,s:i,s:i,"
	    "s:i,s:i,s:i,s:i,s:s}", "failing", 1, "up", 0, "queued", 44,
	    "sent", 45, "failed", 46, "dropped", 47, "retries", 48,
	    "coalesced", 49, "last_sent_seconds", 50, "type", "slack"));
}

/* Every number and yes/no of the document is a figure, with that value. */
static void
test_every_figure_of_the_document(void **state)
{
	struct world *w = *state;
	unsigned n = 0, names = 0;
	json_t *status;

	rig_begin(w, "");
	add_check_and_sink(w);
	rig_run(w, 30);
	rig_set_backlog(w, 0, 500);
	fill_in(w);
	status = observer_status(w->o);
	json_object_del(status, "backlog_complete");
	compare_all(w, "", status, &n);
	compare_all(w, "queue.", json_object_get(json_object_get(status,
	    "queues"), "orders"), &n);
	compare_all(w, "pool.", json_object_get(json_object_get(status,
	    "pools"), "mail"), &n);
	compare_all(w, "check.", json_object_get(json_object_get(status,
	    "dependencies"), "db"), &n);
	compare_all(w, "sink.", json_object_get(json_object_get(status,
	    "sinks"), "slack"), &n);
	compare(w, "queue.errors.timeout", json_object_get(json_object_get(
	    json_object_get(json_object_get(status, "queues"), "orders"),
	    "errors"), "timeout"), &n);
	json_decref(status);
	/* And the other way round; but for health, which is text there. */
	while (figure_name_at(names) != NULL)
		names++;
	assert_int_equal(n, names + 1 - 4);
	rig_end(w);
	json_decref(the_sink);
	w->q[0].nwaiting = w->q[0].nheld = 0;
}

static void
test_unknown_figures_are_unknown(void **state)
{
	static const char *const names[] = { "queue.backlog",
		"queue.backlog_age_seconds", "queue.backlog_sampled_seconds",
		"queue.delayed_backlog", "queue.dead_backlog", "queue.prefetch",
		"queue.error_rate_percent", "queue.processing_ms.mean",
		"queue.processing_ms.p99", "queue.last_done_seconds",
		"pool.last_verdict_seconds", "backlog", "queue.ramp",
		"check.ok", "check.latency_ms", "check.days_left",
		"check.last_looked_seconds", "sink.last_sent_seconds",
		"sink.coalesced" };
	struct world *w = *state;
	struct buffer why = BUFFER_INIT;

	rig_begin(w, "");
	add_check_and_sink(w);
	rig_run(w, 2);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct figure_value v;
		struct figure f;

		assert_int_equal(figure_find(names[i], strlen(names[i]), NULL,
		    &f, &why), 0);
		v = figure_read(&f, w->o, subject_of(w, f.scope));
		if (v.known || !isnan(v.value))
			fail_msg("%s is known: %g", names[i], v.value);
	}
	buffer_done(&why);
	json_decref(the_sink);
}

/* Each check and each sink is a subject, by its name. */
static void
test_rules_for_checks_and_sinks(void **state)
{
	struct world *w = *state;

	rig_begin(w, "[Alert gone]\nWhen=check.ok == no\nFor=5s\n"
	    "[Alert ends]\nWhen=check.days_left < 7\nFor=0\n"
	    "[Alert other]\nWhen=check.ok == no\nFor=0\nChecks=api-*\n"
	    "[Alert mute]\nWhen=sink.failing == yes\nFor=0\nSinks=sl*\n"
	    "[Alert deaf]\nWhen=sink.failing == yes\nFor=0\nSinks=!slack\n");
	add_check_and_sink(w);
	rig_run(w, 10);
	assert_int_equal(w->nevents, 0);
	for (unsigned i = 0; i < 60; i++)
		log_warning(&((struct log_fields){ .check = i % 20 == 0 ? "db" :
		    "other" }), "down: reason %u", i);
	the_check.state = DEPENDENCY_DOWN;
	(void)json_object_set_new(the_sink, "failing", json_true());
	rig_run(w, 5);
	assert_string_equal(rig_state(w, "gone", "check:db"), "pending");
	assert_string_equal(rig_state(w, "mute", "sink:slack"), "firing");
	assert_string_equal(w->events[0].summary,
	    "sink slack: sink.failing is yes (limit: == yes) for 0s");
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "gone", "check:db"), "firing");
	assert_string_equal(w->events[1].summary,
	    "check db: check.ok is no (limit: == no) for 5s");
	/* Of the last 50 lines two were about it. */
	assert_int_equal(w->events[1].nlines, 2);
	assert_string_equal(w->events[1].last_line, "down: reason 40");
	assert_int_equal(w->nevents, 2);
	the_check.state = DEPENDENCY_UP;
	the_check.days_known = true;
	the_check.days_left = 6;
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "gone", "check:db"), "resolved");
	assert_string_equal(rig_state(w, "ends", "check:db"), "firing");
	assert_string_equal(rig_state(w, "other", "check:db"), "inactive");
	assert_string_equal(rig_state(w, "deaf", "sink:slack"), "inactive");
	/* Taken away by a reload. */
	list_remove(&the_check.link);
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "ends", "check:db"), "inactive");
	assert_string_equal(w->events[w->nevents - 1].note,
	    "the check is gone, or the rule is not for it any more");
	json_decref(the_sink);
	observer_set_sinks(w->o, NULL, NULL);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, rig_setup, \
			    rig_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when_takes_figure_operator_value),
		cmocka_unit_test(test_operators_at_their_edges),
		cmocka_unit_test(test_invariant_9_typos_in_alerts_are_errors),
		cmocka_unit_test(test_good_sections_pass),
		TEST(test_every_figure_of_the_document),
		TEST(test_unknown_figures_are_unknown),
		TEST(test_rules_for_checks_and_sinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
