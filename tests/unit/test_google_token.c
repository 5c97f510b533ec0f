/*
 * The life of a token: refreshing on time, what happens when that fails, who
 * waits for whom, tokens that are refused, sharing.
 */
#include "google_rig.h"

#define SECOND	USEC_PER_SEC

static void
start_with_user(struct google_rig *g, const char *token, unsigned seconds)
{
	configure(g, user_json(g, ""));
	answer_oauth(g, token, seconds);
	google_fetch(g);
	assert_token(g, token);
}

/* ---- refreshing ---- */

static void
test_refreshed_before_it_ends(void **state)
{
	struct google_rig *g = *state;
	uint64_t first;

	start_with_user(g, "a", 3600);
	first = google_bearer(g)->generation;
	advance(g->r, 3600 * SECOND - 225 * SECOND - 1);
	assert_int_equal(asked(g), 1);
	answer_oauth(g, "b", 3600);
	advance(g->r, 1);
	assert_int_equal(asked(g), 2);
	assert_token(g, "b");
	assert_int_not_equal(google_bearer(g)->generation, first);
	assert_int_equal(google_bearer(g)->expires_us,
	    clock_realtime_us() + 3600 * SECOND);
	/* And so on. */
	answer_oauth(g, "c", 3600);
	advance(g->r, 3375 * SECOND);
	assert_token(g, "c");
	assert_int_equal(asked(g), 3);
	assert_int_equal(g->r->notices, 0);
}

static void
test_short_lived_ones_are_refreshed_in_their_last_third(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 300);
	answer_oauth(g, "b", 300);
	advance(g->r, 200 * SECOND - 1);
	assert_int_equal(asked(g), 1);
	advance(g->r, 1);
	assert_token(g, "b");
}

static void
test_a_token_without_an_end_is_good_for_an_hour(void **state)
{
	struct google_rig *g = *state;

	configure(g, user_json(g, ""));
	answer(g->r, "200 OK", "{\"access_token\":\"s3cr3t.a\"}");
	google_fetch(g);
	assert_token(g, "a");
	assert_int_equal(google_bearer(g)->expires_us,
	    START_US + 3600 * SECOND);
}

static void
test_a_service_account_signs_anew(void **state)
{
	struct google_rig *g = *state;
	_cleanup_free_ char *first = NULL;
	struct slice s;

	configure(g, service_json(g, "a@p", ""));
	google_fetch(g);
	s = secret_bytes(google_bearer(g)->token);
	first = xstrndup(s.p, s.n);
	advance(g->r, 3590 * SECOND - 225 * SECOND - 1);
	assert_secret(google_bearer(g)->token, first);
	advance(g->r, 1);
	s = secret_bytes(google_bearer(g)->token);
	assert_false(slice_is(s, first));
	assert_true(jwt_verifies(s, google_key));
	assert_int_equal(google_bearer(g)->expires_us,
	    clock_realtime_us() + 3590 * SECOND);
}

/* Mounted secrets are rotated under our feet. */
static void
test_a_file_that_changed_is_taken(void **state)
{
	struct google_rig *g = *state;

	configure(g, service_json(g, "old@p", ",\"project_id\":\"old\""));
	google_fetch(g);
	assert_string_equal(google_token_project(g->t), "old");
	put_file(g->r, "key.json", service_json(g, "new@p",
	    ",\"quota_project_id\":\"q\""));
	assert_string_equal(google_token_source(g->t),
	    "service account old@p");
	advance(g->r, 3600 * SECOND);
	assert_true(jwt_verifies(secret_bytes(google_bearer(g)->token),
	    google_key));
	assert_string_equal(google_token_source(g->t),
	    "service account new@p");
	assert_null(google_token_project(g->t));
	assert_string_equal(google_token_quota_project(g->t), "q");
	/* One that is broken is not used, and what there is stays. */
	put_file(g->r, "key.json", "{");
	advance(g->r, 3370 * SECOND);
	google_bearer(g);
	assert_string_equal(google_token_source(g->t),
	    "service account new@p");
	expect_warnings(g->r, 1);
	put_file(g->r, "key.json", service_json(g, "new@p", ""));
	advance(g->r, 60 * SECOND);
	assert_int_equal(g->r->notices, 1);
	assert_null(google_token_quota_project(g->t));
}

static void
test_the_old_one_stays_in_use_while_refreshing_fails(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 3600);
	for (int i = 0; i < 12; i++)
		answer(g->r, "503 Oh", "");
	advance(g->r, 3375 * SECOND);
	assert_int_equal(asked(g), 2);
	assert_token(g, "a");
	assert_int_equal(g->r->warnings, 1);
	assert_non_null(strstr(buffer_cstr(&g->r->said), "the token for Google "
	    "could not be refreshed: user (gcloud): 127.0.0.1:"));
	assert_non_null(strstr(buffer_cstr(&g->r->said), "answers 503; the one "
	    "in use is kept until 2026-11-23T17:00:00Z, next try in "));
	/* Who asks for it has it, and is not in the way of the next try. */
	google_fetch(g);
	assert_token(g, "a");
	/* Spaced out: from 1 s to 60 s. */
	for (int i = 0; i < 20; i++)
		advance(g->r, 10 * SECOND);
	assert_in_range(asked(g), 5, 14);
	assert_token(g, "a");
	expect_warnings(g->r, 1);		/* once, not for each */
	assert_int_equal(g->r->notices, 0);

	g->r->web->next = g->r->web->nscript;	/* it is well again */
	answer_oauth(g, "b", 3600);
	advance(g->r, 24 * SECOND);
	advance(g->r, 60 * SECOND);
	assert_token(g, "b");
	assert_int_equal(g->r->notices, 1);
	assert_non_null(strstr(buffer_cstr(&g->r->said), "a token for Google "
	    "is there again, from user (gcloud)"));
}

static void
test_nothing_is_given_out_when_it_has_ended(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 300);
	for (int i = 0; i < 30; i++)
		answer(g->r, "400 No", "{\"error\":\"invalid_grant\"}");
	for (int i = 0; i < 29; i++) {
		advance(g->r, 10 * SECOND);
		assert_token(g, "a");
	}
	advance(g->r, 10 * SECOND - 1);
	assert_token(g, "a");
	advance(g->r, 1);
	assert_null(google_token_get(g->t));
	advance(g->r, 60 * SECOND);
	advance(g->r, 60 * SECOND);
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "answers 400 invalid_grant");
	expect_warnings(g->r, 1);
	/* Tries go on as long as somebody asks. */
	g->r->web->next = g->r->web->nscript;
	answer_oauth(g, "b", 3600);
	advance(g->r, 60 * SECOND);
	google_fetch(g);
	assert_token(g, "b");
}

/* The machine slept: timers stood still, the wall clock did not. */
static void
test_a_token_that_ended_in_the_sleep(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 3600);
	clock_set_virtual(clock_monotonic_us(), START_US + 7200 * SECOND);
	answer_oauth(g, "b", 3600);
	assert_null(google_token_get(g->t));
	idle(g->r);
	assert_token(g, "b");
}

static void
test_first_tries_that_fail_are_spaced_out(void **state)
{
	struct google_rig *g = *state;
	unsigned before;

	configure(g, user_json(g, ""));
	for (int i = 0; i < 20; i++)
		answer(g->r, "503 Oh", "");
	google_fetch(g);
	assert_no_token(g, ERROR_TRANSIENT, "answers 503");
	for (int i = 0; i < 10; i++) {
		unsigned called = g->called;

		before = asked(g);
		google_token_wait(g->t, &g->waiter);
		idle(g->r);
		advance(g->r, SECOND - 1);
		assert_int_equal(asked(g), before);
		assert_int_equal(g->called, called);
		advance(g->r, 59 * SECOND + 1);
		assert_int_equal(asked(g), before + 1);
		assert_int_equal(g->called, called + 1);
	}
}

/* ---- waiting ---- */

struct second {
	struct google_waiter w;
	struct google_rig *g;
	unsigned called;
	bool drop;			/* the last reference, in the callback */
};

static void
on_second(struct google_waiter *w, const struct error *err)
{
	struct second *s = w->owner;

	(void)err;
	s->called++;
	if (s->drop)
		google_forget(s->g);
}

static void
test_all_who_wait_share_one_fetch(void **state)
{
	struct google_rig *g = *state;
	struct second many[5] = { 0 };

	configure(g, user_json(g, ""));
	answer_oauth(g, "a", 3600);
	google_make(g);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		google_waiter_init(&many[i].w, on_second, &many[i]);
		google_token_wait(g->t, &many[i].w);
	}
	google_waiter_cancel(&many[2].w);
	google_waiter_cancel(&many[2].w);
	WAIT(g->r, many[4].called == 1);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		assert_int_equal(many[i].called, i != 2);
	assert_int_equal(asked(g), 1);
	/* There is one now: nothing is asked, and still not called at once. */
	google_token_wait(g->t, &many[2].w);
	assert_int_equal(many[2].called, 0);
	WAIT(g->r, many[2].called == 1);
	assert_int_equal(asked(g), 1);
}

static void
test_who_asks_while_it_is_refreshed_has_the_old_one(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 3600);
	web_script(g->r->web, "-");
	advance(g->r, 3375 * SECOND);
	assert_int_equal(asked(g), 2);
	google_fetch(g);
	assert_token(g, "a");
	/* It says nothing for good. */
	advance(g->r, 10 * SECOND);
	expect_warnings(g->r, 1);
	assert_token(g, "a");
}

static void
test_freed_inside_a_callback(void **state)
{
	struct google_rig *g = *state;
	struct second s = { .g = g, .drop = true }, later = { .g = g };

	configure(g, user_json(g, ""));
	answer_oauth(g, "a", 3600);
	google_make(g);
	google_waiter_init(&s.w, on_second, &s);
	google_waiter_init(&later.w, on_second, &later);
	google_token_wait(g->t, &s.w);
	google_token_wait(g->t, &later.w);
	WAIT(g->r, later.called == 1);
	assert_null(g->t);
	/* Also when it failed. */
	configure(g, "{}");
	google_make(g);
	google_token_wait(g->t, &s.w);
	WAIT(g->r, s.called == 2);
	assert_null(g->t);
}

static void
test_dropped_in_the_middle_of_each_step(void **state)
{
	static const unsigned steps = 3;
	struct google_rig *g = *state;

	configure(g, external_json(g, keep(g->r, xasprintf("{\"url\":\"%s\"}",
	    at(g->r, "/identity"))), becoming(g, "")));
	for (unsigned n = 1; n <= steps; n++) {
		unsigned before = asked(g);

		if (n > 1)
			answer(g->r, "200 OK", "s3cr3t.subject");
		if (n > 2)
			answer_oauth(g, "sts", 3600);
		web_script(g->r->web, "-");
		google_make(g);
		google_token_wait(g->t, &g->waiter);
		WAIT(g->r, asked(g) == before + n);
		google_waiter_cancel(&g->waiter);
		google_forget(g);
		idle(g->r);
	}
	assert_int_equal(g->called, 0);
}

/* ---- tokens that are refused ---- */

static void
test_a_refused_token_is_replaced_once(void **state)
{
	struct google_rig *g = *state;
	uint64_t generation;

	start_with_user(g, "a", 3600);
	generation = google_bearer(g)->generation;
	answer_oauth(g, "b", 3600);
	google_token_rejected(g->t, generation);
	assert_null(google_token_get(g->t));
	/* Others that were under way say the same. */
	google_token_rejected(g->t, generation);
	google_fetch(g);
	assert_token(g, "b");
	google_token_rejected(g->t, generation);
	assert_token(g, "b");
	idle(g->r);
	assert_int_equal(asked(g), 2);
	/* Long after that it is an accident like the first. */
	generation = google_bearer(g)->generation;
	advance(g->r, 400 * SECOND);
	answer_oauth(g, "c", 3600);
	google_token_rejected(g->t, generation);
	google_fetch(g);
	assert_token(g, "c");
	assert_int_equal(asked(g), 3);
}

static void
test_the_same_token_again_is_an_error(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 3600);
	answer_oauth(g, "a", 3600);
	google_token_rejected(g->t, google_bearer(g)->generation);
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "user (gcloud): Google does not accept "
	    "its token, and there is no other one");
	assert_string_equal(g->err.code, "UNAUTHENTICATED");
	assert_google_report(g, "Google does not accept its token");
	answer_oauth(g, "b", 3600);
	advance(g->r, 60 * SECOND);
	google_fetch(g);
	assert_token(g, "b");
}

static void
test_new_tokens_that_are_refused_are_spaced_out(void **state)
{
	static const char *const names[] = { "b", "c", "d", "e", "f", "g" };
	struct google_rig *g = *state;
	unsigned before;

	start_with_user(g, "a", 3600);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		answer_oauth(g, names[i], 3600);
		before = asked(g);
		google_token_rejected(g->t, google_bearer(g)->generation);
		google_token_wait(g->t, &g->waiter);
		/* The first at once, the others with a pause. */
		if (i != 0) {
			idle(g->r);
			assert_int_equal(asked(g), before);
			advance(g->r, SECOND - 1);
			assert_int_equal(asked(g), before);
			advance(g->r, 59 * SECOND + 1);
		}
		WAIT(g->r, g->called == i + 2);
		assert_token(g, names[i]);
		assert_int_equal(g->called, i + 2);
	}
}

static void
test_a_refused_service_account(void **state)
{
	struct google_rig *g = *state;

	configure(g, service_json(g, "a@p", ""));
	google_fetch(g);
	google_token_rejected(g->t, google_bearer(g)->generation);
	google_fetch(g);	/* in the same second: the same JWT */
	assert_no_token(g, ERROR_AUTH, "service account a@p: Google does not "
	    "accept its token, and there is no other one (is the clock of "
	    "this machine right?)");
	advance(g->r, 60 * SECOND);
	google_fetch(g);
	assert_true(jwt_verifies(secret_bytes(google_bearer(g)->token),
	    google_key));
}

static void
test_a_refused_token_while_a_refresh_is_under_way(void **state)
{
	struct google_rig *g = *state;

	start_with_user(g, "a", 3600);
	web_script(g->r->web, "-");
	advance(g->r, 3375 * SECOND);
	google_token_rejected(g->t, google_bearer(g)->generation);
	assert_null(google_token_get(g->t));
	answer_oauth(g, "b", 3600);
	advance(g->r, 10 * SECOND);	/* it had said nothing */
	advance(g->r, 60 * SECOND);
	google_fetch(g);
	assert_token(g, "b");
	assert_int_equal(asked(g), 3);
}

/* ---- sharing ---- */

static void
test_shared_by_equal_params(void **state)
{
	struct google_rig *g = *state;
	struct google_token_params p;
	_cleanup_free_ char *path = NULL;
	struct google_token *t;

	configure(g, user_json(g, ""));
	google_make(g);
	path = xstrdup(g->params.credentials_file);
	p = g->params;
	p.credentials_file = path;
	t = google_token_new(&p);
	assert_ptr_equal(t, g->t);
	google_token_unref(t);
	p.audience = GOOGLE_AUDIENCE_MONITORING;
	t = google_token_new(&p);
	assert_ptr_not_equal(t, g->t);
	google_token_unref(t);
	p = g->params;
	p.credentials_file = NULL;
	t = google_token_new(&p);
	assert_ptr_not_equal(t, g->t);
	google_token_unref(t);
	p = g->params;
	p.ca_file = "/x";
	t = google_token_new(&p);
	assert_ptr_not_equal(t, g->t);
	google_token_unref(t);
	google_token_unref(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		google_test(test_refreshed_before_it_ends),
		google_test(
		    test_short_lived_ones_are_refreshed_in_their_last_third),
		google_test(test_a_token_without_an_end_is_good_for_an_hour),
		google_test(test_a_service_account_signs_anew),
		google_test(test_a_file_that_changed_is_taken),
		google_test(
		    test_the_old_one_stays_in_use_while_refreshing_fails),
		google_test(test_nothing_is_given_out_when_it_has_ended),
		google_test(test_a_token_that_ended_in_the_sleep),
		google_test(test_first_tries_that_fail_are_spaced_out),
		google_test(test_all_who_wait_share_one_fetch),
		google_test(
		    test_who_asks_while_it_is_refreshed_has_the_old_one),
		google_test(test_freed_inside_a_callback),
		google_test(test_dropped_in_the_middle_of_each_step),
		google_test(test_a_refused_token_is_replaced_once),
		google_test(test_the_same_token_again_is_an_error),
		google_test(test_new_tokens_that_are_refused_are_spaced_out),
		google_test(test_a_refused_service_account),
		google_test(test_a_refused_token_while_a_refresh_is_under_way),
		google_test(test_shared_by_equal_params),
	};

	return cmocka_run_group_tests_name("google token", tests,
	    make_google_key, free_google_key);
}
