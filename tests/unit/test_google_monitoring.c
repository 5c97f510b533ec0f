/* The backlog of a subscription, as a scripted Cloud Monitoring tells it. */
#include "google_rig.h"

#include "client/google_monitoring.h"

struct mon {
	struct google_rig *g;
	struct google_monitoring *m;
	unsigned called;
	bool has, news;
	struct google_backlog backlog;
	struct error err;
	bool free_inside, ask_inside;
};

static void
on_backlog(void *owner, const struct google_backlog *backlog,
    const struct error *err, bool news)
{
	struct mon *m = owner;

	assert_true((backlog == NULL) != (err == NULL));
	assert_false(google_monitoring_busy(m->m));
	m->called++;
	m->has = backlog != NULL;
	m->news = news;
	error_clear(&m->err);
	if (backlog != NULL) {
		m->backlog = *backlog;
	} else {
		m->err = *err;
		buffer_printf(&m->g->r->said, "%s\n", err->text);
	}
	if (m->free_inside) {
		google_monitoring_free(m->m);
		m->m = NULL;
	} else if (m->ask_inside) {
		m->ask_inside = false;
		google_monitoring_ask(m->m);
	}
}

static void
start_up(struct mon *m, struct google_rig *g)
{
	struct google_monitoring_params p;
	struct error err;

	*m = (struct mon){ .g = g };
	g->params.audience = GOOGLE_AUDIENCE_MONITORING;
	configure(g, user_json(g, ",\"quota_project_id\":\"q-1\""));
	google_make(g);
	p = (struct google_monitoring_params){
		.loop = g->r->web->loop, .resolver = g->r->web->resolver,
		.token = g->t, .project = "p:1", .subscription = "sub-1",
		.endpoint = at(g->r, "/"), .done = on_backlog, .owner = m,
	};
	m->m = google_monitoring_new(&p, &err);
	if (m->m == NULL)
		fail_msg("%s", err.text);
}

static void
ask(struct mon *m)
{
	unsigned before = m->called;

	google_monitoring_ask(m->m);
	assert_int_equal(m->called, before);
	assert_true(google_monitoring_busy(m->m));
	google_monitoring_ask(m->m);	/* changes nothing */
	WAIT(m->g->r, m->called == before + 1);
}

static void
answer_sample(struct mon *m, const char *value, const char *end)
{
	answer(m->g->r, "200 OK", keep(m->g->r, xasprintf("{\"timeSeries\":[{"
	    "\"metric\":{},\"points\":[{\"interval\":{\"endTime\":\"%s\"},"
	    "\"value\":{\"int64Value\":\"%s\"}}]}]}", end, value)));
}

static void
test_both_metrics(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	answer_sample(&m, "123456", "2026-11-23T15:57:00Z");
	answer_sample(&m, "90", "2026-11-23T15:58:00Z");
	ask(&m);
	assert_true(m.has);
	assert_false(m.news);
	assert_true(m.backlog.messages_known);
	assert_int_equal(m.backlog.messages, 123456);
	assert_int_equal(m.backlog.messages_at_us,
	    START_US - 180 * USEC_PER_SEC);
	assert_true(m.backlog.oldest_known);
	assert_int_equal(m.backlog.oldest_age_us, 90 * USEC_PER_SEC);
	assert_int_equal(m.backlog.oldest_at_us, START_US - 120 * USEC_PER_SEC);
	ASKED(g->r, "POST /oauth ", "GET /v3/projects/p%3A1/timeSeries?filter="
	    "metric.type%3D%22pubsub.googleapis.com%2Fsubscription%2F"
	    "num_undelivered_messages%22%20AND%20resource.labels."
	    "subscription_id%3D%22sub-1%22&interval.startTime="
	    "2026-11-23T15%3A50%3A00Z&interval.endTime="
	    "2026-11-23T16%3A00%3A00Z HTTP/1.1\r\n",
	    "Authorization: Bearer s3cr3t.a\r\n",
	    "x-goog-user-project: q-1\r\n", "GET /v3/projects/p%3A1/",
	    "%2Foldest_unacked_message_age%22%20AND%20");
	google_monitoring_free(m.m);
}

static void
test_metrics_that_are_not_there(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	answer(g->r, "200 OK", "{}");
	answer_sample(&m, "0", START);
	ask(&m);
	assert_true(m.has);
	assert_false(m.backlog.messages_known);
	assert_true(m.backlog.oldest_known);
	/* Nothing stays from the last question. */
	answer_sample(&m, "5", START);
	answer(g->r, "200 OK", "{\"timeSeries\":[]}");
	ask(&m);
	assert_int_equal(m.backlog.messages, 5);
	assert_false(m.backlog.oldest_known);
	google_monitoring_free(m.m);
}

static void
expect_error(struct mon *m, const char *status, const char *body,
    enum error_class class, const char *code, const char *text)
{
	answer(m->g->r, status, body);
	ask(m);
	assert_false(m->has);
	if (strcmp(m->err.code, code) != 0 || m->err.class != class ||
	    strstr(m->err.text, text) == NULL)
		fail_msg("%s %s: %s", error_class_name(m->err.class),
		    m->err.code, m->err.text);
}

#define DENIED	"{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\"," \
		"\"message\":\"Permission monitoring.timeSeries.list denied " \
		"(or the resource may not exist).\"}}"

static void
test_failures_are_named_and_news_once(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	expect_error(&m, "403 No", DENIED, ERROR_AUTH, "PERMISSION_DENIED",
	    "user (gcloud) may not read the backlog: it needs "
	    "roles/monitoring.viewer in project p:1: Permission monitoring.");
	assert_true(m.news);
	expect_error(&m, "403 No", DENIED, ERROR_AUTH, "PERMISSION_DENIED", "");
	assert_false(m.news);
	expect_error(&m, "403 No", "<html>", ERROR_AUTH, "PERMISSION_DENIED",
	    "roles/monitoring.viewer");
	assert_false(m.news);
	expect_error(&m, "403 No", "{\"error\":{\"code\":403,\"status\":"
	    "\"PERMISSION_DENIED\",\"details\":[{\"reason\":"
	    "\"SERVICE_DISABLED\"}]}}", ERROR_AUTH, "SERVICE_DISABLED",
	    "the Cloud Monitoring API is switched off in project p:1");
	assert_true(m.news);
	expect_error(&m, "404 No", "{\"error\":{\"status\":\"NOT_FOUND\","
	    "\"message\":\"no project\"}}", ERROR_REJECTED, "NOT_FOUND",
	    " answers 404 NOT_FOUND: no project to the question for the "
	    "backlog of sub-1");
	expect_error(&m, "400 No", "", ERROR_REJECTED, "monitoring",
	    "answers 400");
	expect_error(&m, "429 No", "", ERROR_THROTTLED, "RESOURCE_EXHAUSTED",
	    "answers 429");
	expect_error(&m, "503 No", "{\"error\":{\"status\":\"UNAVAILABLE\"}}",
	    ERROR_TRANSIENT, "UNAVAILABLE", "answers 503");
	expect_error(&m, "200 OK", "<html>", ERROR_PROTOCOL, "google_answer",
	    "no JSON");
	assert_true(m.news);
	/* The second metric may fail alone; then nothing is known. */
	answer_sample(&m, "1", START);
	expect_error(&m, "500 No", "", ERROR_TRANSIENT, "monitoring", "500");
	/* Well again: news, once. */
	for (int i = 0; i < 2; i++) {
		answer_sample(&m, "1", START);
		answer_sample(&m, "1", START);
		ask(&m);
		assert_true(m.has);
		assert_int_equal(m.news, i == 0);
	}
	google_monitoring_free(m.m);
}

static void
test_a_token_that_is_refused_is_replaced_once(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	answer(g->r, "401 No", "");
	answer_oauth(g, "b", 3600);
	answer_sample(&m, "1", START);
	answer_sample(&m, "2", START);
	ask(&m);
	assert_true(m.has);
	assert_int_equal(m.backlog.messages, 1);
	ASKED(g->r, "Bearer s3cr3t.a\r\n", "POST /oauth", "Bearer s3cr3t.b",
	    "Bearer s3cr3t.b");
	/* Not twice for one question. */
	answer(g->r, "401 No", "");
	answer_oauth(g, "c", 3600);
	google_monitoring_ask(m.m);
	idle(g->r);
	answer(g->r, "401 No", "{\"error\":{\"status\":\"UNAUTHENTICATED\","
	    "\"message\":\"Request had s3cr3t.c\"}}");
	assert_int_equal(m.called, 1);	/* the pause of the token */
	answer_oauth(g, "d", 3600);
	advance(g->r, 60 * USEC_PER_SEC);
	WAIT(g->r, m.called == 2);
	assert_false(m.has);
	assert_int_equal(m.err.class, ERROR_AUTH);
	assert_string_equal(m.err.code, "UNAUTHENTICATED");
	google_monitoring_free(m.m);
}

static void
test_no_token_no_question(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	expect_error(&m, "400 No", "{\"error\":\"invalid_grant\"}", ERROR_AUTH,
	    "invalid_grant", "user (gcloud): ");
	assert_int_equal(asked(g), 1);
	google_monitoring_free(m.m);
}

static void
test_nobody_there(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	web_script(g->r->web, "!");
	web_script(g->r->web, "!");
	ask(&m);
	assert_int_equal(m.err.class, ERROR_TRANSIENT);
	google_monitoring_free(m.m);
}

static void
test_freed_cancelled_and_asked_in_the_middle(void **state)
{
	struct google_rig *g = *state;
	struct mon m;

	/* While it waits for a token; while it waits for an answer. */
	start_up(&m, g);
	web_script(g->r->web, "-");
	google_monitoring_ask(m.m);
	WAIT(g->r, asked(g) == 1);
	google_monitoring_cancel(m.m);
	google_monitoring_cancel(m.m);
	assert_false(google_monitoring_busy(m.m));
	google_forget(g);		/* it holds on to it */
	google_monitoring_ask(m.m);
	google_monitoring_free(m.m);

	start_up(&m, g);
	answer_oauth(g, "a", 3600);
	web_script(g->r->web, "-");
	google_monitoring_ask(m.m);
	WAIT(g->r, asked(g) == 3);
	google_monitoring_free(m.m);
	assert_int_equal(m.called, 0);

	/* Inside its own callback. */
	start_up(&m, g);
	m.ask_inside = true;
	for (int i = 0; i < 4; i++)
		answer_sample(&m, "1", START);
	google_monitoring_ask(m.m);
	WAIT(g->r, m.called == 2);
	m.free_inside = true;
	answer(g->r, "400 No", "");
	google_monitoring_ask(m.m);
	WAIT(g->r, m.called == 3);
	assert_null(m.m);
	google_monitoring_free(NULL);
}

static void
test_params_that_are_no_good(void **state)
{
	struct google_rig *g = *state;
	static const struct {
		const char *project, *subscription, *endpoint, *text;
	} cases[] = {
		{ "p", "s", "ftp://x", "the endpoint of Cloud Monitoring: " },
		{ "p", "a\"b", NULL, "cannot be the id of a subscription" },
		{ "p", "projects/p/subscriptions/s", NULL, "cannot be the id" },
		{ "p", "", NULL, "cannot be the id" },
		{ "", "s", NULL, "cannot be the id" },
	};
	struct error err;

	google_make(g);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct google_monitoring_params p = {
			.loop = g->r->web->loop,
			.resolver = g->r->web->resolver, .token = g->t,
			.project = cases[i].project,
			.subscription = cases[i].subscription,
			.endpoint = cases[i].endpoint, .done = on_backlog,
		};

		assert_null(google_monitoring_new(&p, &err));
		assert_int_equal(err.class, ERROR_REJECTED);
		assert_non_null(strstr(err.text, cases[i].text));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		google_test(test_both_metrics),
		google_test(test_metrics_that_are_not_there),
		google_test(test_failures_are_named_and_news_once),
		google_test(test_a_token_that_is_refused_is_replaced_once),
		google_test(test_no_token_no_question),
		google_test(test_nobody_there),
		google_test(test_freed_cancelled_and_asked_in_the_middle),
		google_test(test_params_that_are_no_good),
	};

	return cmocka_run_group_tests_name("google monitoring", tests,
	    make_google_key, free_google_key);
}
