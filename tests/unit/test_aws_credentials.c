/*
 * The life of keys: which provider counts, refreshing, what happens when that
 * fails, who waits for whom, regions and endpoints.
 */
#include "aws_rig.h"

#include "client/aws_plan.h"

/* ---- which provider counts ---- */

static void
assert_plan(struct aws_rig *r, enum aws_source source, const char *name)
{
	struct buffer report = BUFFER_INIT;
	struct error err = ERROR_INIT;
	struct aws_settings s;
	struct aws_plan plan;

	if (aws_settings_load(&s, &r->params, &err) < 0 ||
	    aws_plan_make(&plan, &s, &r->params, &report, &err) < 0)
		fail_msg("wanted %s, got: %s", name, err.text);
	if (plan.source != source || strstr(plan.name, name) == NULL)
		fail_msg("wanted %s, got %s", name, plan.name);
	aws_plan_done(&plan);
	aws_settings_done(&s);
	buffer_done(&report);
}

#define KEYS(id)	"aws_access_key_id = " id "\n" \
			"aws_secret_access_key = s3cr3t-" id "\n"

static void
test_the_order_of_the_chain(void **state)
{
	struct aws_rig *r = *state;
	const char *jwt = put_file(r, "jwt", "s3cr3t");

	set_env("AWS_ACCESS_KEY_ID", "AKIAENV");
	set_env("AWS_SECRET_ACCESS_KEY", "s3cr3t-env");
	set_env("AWS_ROLE_ARN", "arn:web");
	set_env("AWS_WEB_IDENTITY_TOKEN_FILE", jwt);
	set_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x");
	set_env("AWS_EC2_METADATA_DISABLED", NULL);
	put_file(r, "credentials", "[default]\n" KEYS("AKIAFILE"));
	put_file(r, "config", "[default]\nrole_arn = arn:role\n"
	    "source_profile = default\ncredential_process = helper\n"
	    KEYS("AKIACONF"));

	assert_plan(r, AWS_SOURCE_KEYS, "environment");
	set_env("AWS_ACCESS_KEY_ID", NULL);
	assert_plan(r, AWS_SOURCE_KEYS, "role arn:role by profile default");
	put_file(r, "config", "[default]\ncredential_process = helper\n"
	    KEYS("AKIACONF"));
	assert_plan(r, AWS_SOURCE_WEB_IDENTITY, "role arn:web by web identity");
	set_env("AWS_WEB_IDENTITY_TOKEN_FILE", NULL);
	assert_plan(r, AWS_SOURCE_KEYS, "/credentials");
	put_file(r, "credentials", "[other]\n" KEYS("AKIAFILE"));
	assert_plan(r, AWS_SOURCE_PROCESS, "credential_process");
	put_file(r, "config", "[default]\n" KEYS("AKIACONF"));
	assert_plan(r, AWS_SOURCE_KEYS, "/config");
	put_file(r, "config", "");
	assert_plan(r, AWS_SOURCE_CONTAINER, "container");
	set_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", NULL);
	assert_plan(r, AWS_SOURCE_IMDS, "instance metadata");
}

static void
test_our_own_configuration_takes_the_environment_out(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_ACCESS_KEY_ID", "AKIAENV");
	set_env("AWS_SECRET_ACCESS_KEY", "s3cr3t-env");
	set_env("AWS_ROLE_ARN", "arn:web");
	set_env("AWS_WEB_IDENTITY_TOKEN_FILE", put_file(r, "jwt", "s3cr3t"));
	put_file(r, "credentials", "[jobs]\n" KEYS("AKIAJOBS")
	    "[default]\n" KEYS("AKIADEFAULT"));

	/* Not so a profile that the environment names. */
	set_env("AWS_PROFILE", "jobs");
	assert_plan(r, AWS_SOURCE_KEYS, "environment");
	set_env("AWS_PROFILE", NULL);
	r->params.profile = "jobs";
	assert_plan(r, AWS_SOURCE_KEYS, "profile jobs: keys in ");
	r->params.profile = NULL;
	r->params.credentials_file = put_file(r, "ours",
	    "[default]\n" KEYS("AKIAOURS"));
	assert_plan(r, AWS_SOURCE_KEYS, "/ours");
	fetch(r);
	assert_keys(r, "AKIAOURS");
	assert_report(r, "environment: has no say: ");
}

static void
test_profiles_of_a_web_identity(void **state)
{
	struct aws_rig *r = *state;

	r->params.profile = "web";
	put_file(r, "config", "[profile web]\nrole_arn = arn:p\n"
	    "web_identity_token_file = /x\n[profile far]\nrole_arn = arn:far\n"
	    "source_profile = web\n[profile half]\n"
	    "web_identity_token_file = /x\n");
	assert_plan(r, AWS_SOURCE_WEB_IDENTITY, "role arn:p by web identity");
	r->params.profile = "far";
	assert_plan(r, AWS_SOURCE_WEB_IDENTITY,
	    "role arn:far by role arn:p by web identity");
	r->params.profile = "half";
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "there is a token file, but no role");
}

static void
assert_refused(struct aws_rig *r, const char *config, const char *text)
{
	put_file(r, "config", config);
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, text);
	assert_report(r, text);
	clock_advance(MINUTE);
}

static void
test_roles_that_lead_nowhere(void **state)
{
	struct aws_rig *r = *state;

	assert_refused(r, "[default]\nrole_arn = a\n",
	    "neither source_profile nor credential_source");
	assert_refused(r, "[default]\nrole_arn = a\nsource_profile = x\n"
	    "credential_source = Environment\n",
	    "both source_profile and credential_source");
	assert_refused(r, "[default]\nrole_arn = a\nsource_profile = x\n",
	    "source_profile x of profile default is not there");
	assert_refused(r, "[default]\nrole_arn = a\nsource_profile = x\n"
	    "[profile x]\nregion = y\n",
	    "source_profile x has no keys, no role and no credential_process");
	assert_refused(r, "[default]\nrole_arn = a\nsource_profile=default\n",
	    "its own source_profile, but has no keys");
	assert_refused(r, "[default]\nrole_arn = a\nsource_profile=x\n"
	    "[profile x]\nrole_arn = b\nsource_profile = default\n",
	    "in a circle");
	assert_refused(r, "[default]\nrole_arn = a\nmfa_serial = m\n"
	    "source_profile = default\n" KEYS("AKIA"), "mfa_serial");
	assert_refused(r, "[default]\nrole_arn = a\ncredential_source = Me\n",
	    "is none of Environment, Ec2InstanceMetadata, EcsContainer");
	assert_refused(r, "[default]\nrole_arn = a\n"
	    "credential_source = Environment\n", "Environment, which has "
	    "nothing");
}

static void
test_every_provider_says_why_it_has_nothing(void **state)
{
	static const char *const lines[] = {
		"environment: AWS_ACCESS_KEY_ID is not set\n",
		"role: profile default has no role_arn\n",
		"web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set and "
		    "profile default has no web_identity_token_file\n",
		"Identity Center: profile default wants a person to log in",
		"credentials file: ", "/credentials is not there",
		"credential_process: profile default has none\n",
		"config file: ", "/config has no aws_access_key_id for "
		    "profile default\n",
		"container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and ",
		"instance metadata: AWS_EC2_METADATA_DISABLED is true\n",
	};
	struct aws_rig *r = *state;
	const char *p;

	put_file(r, "config", "[default]\nsso_session = x\n");
	make(r);
	assert_string_equal(aws_credentials_report(r->c), "");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "no AWS credentials are configured");
	p = aws_credentials_report(r->c);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *found = strstr(p, lines[i]);

		if (found == NULL)
			fail_msg("\"%s\" is not (there) in:\n%s", lines[i],
			    aws_credentials_report(r->c));
		p = found;
	}
}

static void
test_files_that_are_no_good(void **state)
{
	struct aws_rig *r = *state;

	put_file(r, "credentials", "[default]\naws_secret_access_key s3cr3t\n");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "/credentials, line 2: no '=' in it");
	clock_advance(MINUTE);
	put_file(r, "credentials", "[default]\naws_access_key_id = AKIA\n");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "no usable secret access key");
	clock_advance(MINUTE);
	put_file(r, "credentials", "");
	set_env("AWS_PROFILE", "nobody");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "there is no profile \"nobody\" in ");
	aws_credentials_unref(r->c);
	r->c = NULL;
	r->params.credentials_file = "/nowhere/credentials";
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "cannot open /nowhere/credentials");
}

/* ---- waiting ---- */

static void
test_all_who_wait_share_one_fetch(void **state)
{
	struct aws_rig *r = *state;
	struct aws_waiter more[3];

	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/x"));
	answer_json(r, "ASIAONE", "2026-11-23T17:00:00Z");
	make(r);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		aws_waiter_init(&more[i], on_waiter, r);
		aws_credentials_wait(r->c, &more[i]);
		aws_waiter_cancel(&more[i]);
		aws_credentials_wait(r->c, &more[i]);
	}
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->web->requests == 1);
	aws_waiter_cancel(&more[1]);
	WAIT(r, r->called == 3);
	assert_int_equal(r->web->requests, 1);
	assert_keys(r, "ASIAONE");
	/* With keys there, a waiter is called at the next turn. */
	fetch(r);
	assert_int_equal(r->web->requests, 1);
}

static void
test_tries_are_spaced_out(void **state)
{
	struct aws_rig *r = *state;
	uint64_t waited = 0;

	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/x"));
	for (unsigned i = 0; i < 8; i++)
		answer(r, "403 No", "");
	fetch(r);
	for (unsigned i = 1; i < 8; i++) {
		uint64_t step = 0;

		aws_credentials_wait(r->c, &r->waiter);
		idle(r);
		assert_int_equal(r->web->requests, i);
		while (r->web->requests == i) {
			advance(r, USEC_PER_SEC / 2);
			step += USEC_PER_SEC / 2;
		}
		assert_in_range(step, USEC_PER_SEC, MINUTE + USEC_PER_SEC);
		waited += step;
		WAIT(r, r->called == i + 1);
	}
	/* 1..2, 1..3, 1..5, ... 1..60 seconds. */
	assert_in_range(waited, 20 * USEC_PER_SEC, 180 * USEC_PER_SEC);
	clock_advance(MINUTE);
	answer_json(r, "ASIAONE", "2026-11-23T20:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAONE");
	assert_int_equal(r->notices, 1);	/* there again */
}

static void
drop_inside(struct aws_waiter *w, const struct error *err)
{
	struct aws_rig *r = w->owner;

	on_waiter(w, err);
	aws_credentials_unref(r->c);
	r->c = NULL;
}

static void
test_the_last_reference_may_go_inside_a_callback(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/x"));
	r->waiter.fn = drop_inside;
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			answer_json(r, "ASIAONE", "2026-11-23T17:00:00Z");
		else
			answer(r, "403 No", "");
		make(r);
		aws_credentials_wait(r->c, &r->waiter);
		WAIT(r, r->c == NULL);
	}
	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->c == NULL);
	put_file(r, "config", "[default]\ncredential_process = false\n");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->c == NULL);
	r->waiter.fn = drop_inside;
	make(r);
	aws_credentials_find_region(r->c, &r->waiter);
	WAIT(r, r->c == NULL);
	assert_int_equal(r->called, 5);
}

/* What is under way goes with the last reference. */
static void
test_going_away_in_the_middle(void **state)
{
	struct aws_rig *r = *state;
	const char *const how[] = { "container", "process", "imds", "sts",
		"region" };

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		unsigned before = r->web->requests;

		web_script(r->web, "-");
		put_file(r, "config", i == 1 ?
		    "[default]\ncredential_process = sleep 1000\n" : "");
		set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI",
		    i == 0 ? at(r, "/x") : NULL);
		set_env("AWS_WEB_IDENTITY_TOKEN_FILE", i == 3 ?
		    put_file(r, "jwt", "s3cr3t") : NULL);
		set_env("AWS_ROLE_ARN", i == 3 ? "arn:x" : NULL);
		set_env("AWS_EC2_METADATA_DISABLED", NULL);
		set_env("AWS_EC2_METADATA_SERVICE_ENDPOINT", at(r, ""));
		make(r);
		if (i == 4)
			aws_credentials_find_region(r->c, &r->waiter);
		else
			aws_credentials_wait(r->c, &r->waiter);
		if (i == 1)
			idle(r);
		else
			WAIT(r, r->web->requests == before + 1);
		aws_waiter_cancel(&r->waiter);
		aws_credentials_unref(r->c);
		r->c = NULL;
	}
	assert_int_equal(r->called, 0);
}

static void
test_equal_parameters_share_one_object(void **state)
{
	struct aws_rig *r = *state;
	struct aws_credentials_params p = r->params;
	_cleanup_free_ char *profile = xstrdup("jobs");
	struct aws_credentials *a, *b, *c;

	p.profile = "jobs";
	a = aws_credentials_new(&p);
	p.profile = profile;
	b = aws_credentials_new(&p);
	p.profile = NULL;
	c = aws_credentials_new(&p);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_ptr_equal(aws_credentials_ref(c), c);
	aws_credentials_unref(a);
	aws_credentials_unref(b);
	aws_credentials_unref(c);
	aws_credentials_unref(c);
	aws_credentials_unref(NULL);
}

static void
test_a_ca_file_that_is_not_there(void **state)
{
	struct aws_rig *r = *state;

	r->params.ca_file = "/nowhere/ca.pem";
	set_env("AWS_ROLE_ARN", "arn:web");
	set_env("AWS_WEB_IDENTITY_TOKEN_FILE", put_file(r, "jwt", "s3cr3t"));
	fetch(r);
	assert_no_keys(r, ERROR_REJECTED, "/nowhere/ca.pem");
}

/* ---- refreshing ---- */

#define HOUR_LATER	"2026-11-23T17:00:00Z"

static void
container(struct aws_rig *r)
{
	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/x"));
}

static void
test_keys_are_refreshed_between_15_and_10_minutes_before(void **state)
{
	struct aws_rig *r = *state;
	uint64_t generation;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	answer_json(r, "ASIATWO", "2026-11-23T18:00:00Z");
	fetch(r);
	generation = aws_credentials_get(r->c)->generation;
	advance(r, 45 * MINUTE - 1);
	assert_int_equal(r->web->requests, 1);
	/* Under way, the old ones are given out. */
	clock_advance(5 * MINUTE + 1);
	assert_keys(r, "ASIAONE");
	WAIT(r, r->web->requests == 2);
	idle(r);
	assert_keys(r, "ASIATWO");
	assert_true(aws_credentials_get(r->c)->generation != generation);
	/* And so on, without anybody asking. */
	answer_json(r, "ASIATHREE", "2026-11-23T19:00:00Z");
	advance(r, 60 * MINUTE);
	assert_keys(r, "ASIATHREE");
	assert_int_equal(r->web->requests, 3);
	assert_int_equal(r->called, 1);
}

static void
test_nobody_waits_for_a_refresh(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	web_script(r->web, "-");
	fetch(r);
	clock_advance(50 * MINUTE);
	WAIT(r, r->web->requests == 2);
	fetch(r);
	assert_keys(r, "ASIAONE");
}

static void
test_the_moment_is_left_to_chance(void **state)
{
	struct aws_rig *r = *state;
	uint64_t first = UINT64_MAX, last = 0;

	container(r);
	for (unsigned i = 0; i < 12; i++) {
		uint64_t t = 45 * MINUTE;

		clock_set_virtual(1000 * USEC_PER_SEC + i * 3600 *
		    USEC_PER_SEC, START_US);
		answer_json(r, "ASIAONE", HOUR_LATER);
		answer_json(r, "ASIATWO", HOUR_LATER);
		fetch(r);
		clock_advance(t);
		for (; r->web->requests < 2 * i + 2; t += MINUTE / 2)
			advance(r, MINUTE / 2);
		idle(r);
		first = MIN(first, t);
		last = MAX(last, t);
		assert_in_range(t, 45 * MINUTE, 50 * MINUTE + MINUTE / 2);
		aws_credentials_unref(r->c);
		r->c = NULL;
	}
	assert_true(last - first >= 2 * MINUTE);
}

static void
test_short_lived_keys_are_refreshed_in_their_last_third(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAONE", "2026-11-23T16:06:00Z");
	answer_json(r, "ASIATWO", HOUR_LATER);
	fetch(r);
	advance(r, 4 * MINUTE - 1);
	assert_int_equal(r->web->requests, 1);
	advance(r, 1);
	assert_keys(r, "ASIATWO");
}

static void
test_a_refresh_that_fails_keeps_the_old_ones_until_they_end(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	fetch(r);
	for (int i = 0; i < 25; i++)
		answer(r, "403 No", "");
	for (int i = 0; i < 10; i++)
		advance(r, 5 * MINUTE);
	assert_keys(r, "ASIAONE");
	assert_true(r->web->requests > 1);
	expect_warnings(r, 1);		/* once, not for each try */
	assert_non_null(strstr(buffer_cstr(&r->said), "container: 127.0.0.1"));
	assert_non_null(strstr(buffer_cstr(&r->said),
	    "kept until 2026-11-23T17:00:00Z, next try in "));
	for (int i = 0; i < 10; i++)
		advance(r, MINUTE - 1);
	assert_keys(r, "ASIAONE");
	advance(r, MINUTE);
	assert_null(aws_credentials_get(r->c));
	/* Those who wait now hear why, and when it works again. */
	clock_advance(2 * MINUTE);
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "container: 127.0.0.1");
	r->web->next = r->web->nscript = 0;
	answer_json(r, "ASIATWO", "2026-11-23T19:00:00Z");
	clock_advance(2 * MINUTE);
	fetch(r);
	assert_keys(r, "ASIATWO");
	assert_int_equal(r->notices, 1);
}

static void
test_a_wall_clock_that_jumps_over_the_end(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	answer_json(r, "ASIATWO", "2026-11-24T17:00:00Z");
	fetch(r);
	/* Suspended: the monotonic clock stood still. */
	clock_set_virtual(clock_monotonic_us(), START_US + 600 * MINUTE);
	assert_null(aws_credentials_get(r->c));
	WAIT(r, r->web->requests == 2);
	idle(r);
	assert_keys(r, "ASIATWO");
}

static void
test_keys_that_have_ended_are_none(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAOLD", "2026-11-23T15:59:59Z");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH,
	    "these keys expired at 2026-11-23T15:59:59Z");
	assert_string_equal(r->err.code, "ExpiredToken");
}

/* ---- metadata that is out of order ---- */

static void
metadata(struct aws_rig *r)
{
	set_env("AWS_EC2_METADATA_DISABLED", NULL);
	set_env("AWS_EC2_METADATA_SERVICE_ENDPOINT", at(r, ""));
}

static void
test_metadata_that_is_stale_is_used_all_the_same(void **state)
{
	struct aws_rig *r = *state;

	metadata(r);
	answer_imds(r, "ASIASTALE", "2026-11-23T15:00:00Z");
	answer_imds(r, "ASIAFRESH", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIASTALE");
	/* And asked again in 10 minutes. */
	advance(r, 10 * MINUTE - 1);
	assert_int_equal(r->web->requests, 3);
	clock_advance(1);
	WAIT(r, r->web->requests == 6);
	idle(r);
	assert_keys(r, "ASIAFRESH");
}

static void
test_metadata_that_fails_keeps_old_keys_for_an_hour(void **state)
{
	struct aws_rig *r = *state;

	metadata(r);
	answer_imds(r, "ASIAONE", HOUR_LATER);
	fetch(r);
	listener_stop(&r->web->listener);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		stream_close(&r->web->peers[i].s);
	idle(r);
	for (int i = 0; i < 23; i++)
		advance(r, 5 * MINUTE);
	assert_keys(r, "ASIAONE");
	expect_warnings(r, 1);
	advance(r, 5 * MINUTE);
	assert_null(aws_credentials_get(r->c));
}

/* ---- the service's word ---- */

static void
test_expired_keys_are_fetched_again_at_once(void **state)
{
	struct aws_rig *r = *state;
	uint64_t first;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	answer_json(r, "ASIATWO", "2026-11-23T18:00:00Z");
	fetch(r);
	first = aws_credentials_get(r->c)->generation;
	aws_credentials_expired(r->c, first);
	aws_credentials_expired(r->c, first);
	assert_null(aws_credentials_get(r->c));
	fetch(r);
	assert_keys(r, "ASIATWO");
	/* News of the old ones is no news. */
	aws_credentials_expired(r->c, first);
	assert_keys(r, "ASIATWO");
	idle(r);
	assert_int_equal(r->web->requests, 2);
}

static void
test_the_same_expired_keys_again_are_an_error(void **state)
{
	struct aws_rig *r = *state;

	container(r);
	answer_json(r, "ASIAONE", HOUR_LATER);
	answer_json(r, "ASIAONE", HOUR_LATER);
	answer_json(r, "ASIATWO", HOUR_LATER);
	fetch(r);
	assert_keys(r, "ASIAONE");
	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "AWS says that these keys have expired");
	clock_advance(MINUTE);
	fetch(r);
	assert_keys(r, "ASIATWO");
}

/* What was wrong with them may have been mended at the service. */
static void
test_refused_keys_without_an_end_are_given_out_again(void **state)
{
	struct aws_rig *r = *state;
	uint64_t first;

	put_file(r, "credentials", "[default]\n" KEYS("AKIAONE")
	    "aws_session_token = t-s3cr3t-one\n");
	fetch(r);
	first = aws_credentials_get(r->c)->generation;
	aws_credentials_expired(r->c, first);
	assert_null(aws_credentials_get(r->c));
	fetch(r);
	assert_keys(r, "AKIAONE");
	assert_true(aws_credentials_get(r->c)->generation != first);
	/* Somebody writes new ones: the next refusal finds them. */
	put_file(r, "credentials", "[default]\n" KEYS("AKIAONE")
	    "aws_session_token = t-s3cr3t-two\n");
	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	fetch(r);
	assert_keys(r, "AKIAONE");
	assert_secret(aws_credentials_get(r->c)->token, "t-s3cr3t-two");
}

/* ---- regions, endpoints ---- */

static void
test_where_the_region_comes_from(void **state)
{
	struct aws_rig *r = *state;

	put_file(r, "config", "[default]\nregion = eu-north-1\n");
	set_env("AWS_DEFAULT_REGION", "eu-west-2");
	set_env("AWS_REGION", "eu-west-3");
	r->params.region = "eu-west-1";
	make(r);
	assert_string_equal(aws_credentials_region(r->c), "eu-west-1");
	r->params.region = NULL;
	for (int i = 0; i < 3; i++) {
		static const char *const want[] = { "eu-west-3", "eu-west-2",
			"eu-north-1" };

		aws_credentials_unref(r->c);
		r->c = NULL;
		make(r);
		assert_string_equal(aws_credentials_region(r->c), want[i]);
		set_env(i == 0 ? "AWS_REGION" : "AWS_DEFAULT_REGION", NULL);
	}
	aws_credentials_find_region(r->c, &r->waiter);
	WAIT(r, r->called == 1);
	assert_false(error_is_set(&r->err));
	assert_int_equal(r->web->requests, 0);
}

static void
ask_region(struct aws_rig *r)
{
	unsigned before = r->called;

	make(r);
	assert_null(aws_credentials_region(r->c));
	aws_credentials_find_region(r->c, &r->waiter);
	WAIT(r, r->called == before + 1);
}

static void
test_the_region_of_the_instance(void **state)
{
	struct aws_rig *r = *state;

	ask_region(r);
	assert_non_null(strstr(r->err.text, "no AWS region is configured, and "
	    "AWS_EC2_METADATA_DISABLED is true"));
	metadata(r);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "200 OK", "not a region");
	ask_region(r);
	assert_non_null(strstr(r->err.text, "no AWS region is configured, and "
	    "instance metadata gives none: 127.0.0.1"));
	set_env("AWS_REGION", "Frankfurt?");
	ask_region(r);
	assert_non_null(strstr(r->err.text, "\"Frankfurt?\" (AWS_REGION) is "
	    "no region"));
	set_env("AWS_REGION", NULL);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "200 OK", "eu-central-1\n");
	ask_region(r);
	assert_false(error_is_set(&r->err));
	assert_string_equal(aws_credentials_region(r->c), "eu-central-1");
	ASKED(r, "PUT /latest/api/token",
	    "GET /latest/meta-data/placement/region HTTP/1.1",
	    "X-aws-ec2-metadata-token: imds-s3cr3t\r\n");
}

static void
assert_endpoint(struct aws_rig *r, const char *want)
{
	char url[AWS_URL_BYTES];
	struct error err = ERROR_INIT;

	make(r);
	if (aws_credentials_endpoint(r->c, "sqs", "eu-west-1", url, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(url, want);
}

static void
test_endpoints_that_are_configured(void **state)
{
	struct aws_rig *r = *state;

	assert_endpoint(r, "https://sqs.eu-west-1.amazonaws.com");
	put_file(r, "config", "[default]\nendpoint_url = http://profile\n");
	assert_endpoint(r, "http://profile");
	put_file(r, "config", "[default]\nendpoint_url = http://profile\n"
	    "services = local\nuse_fips_endpoint = true\n[services local]\n"
	    "s3 =\n  endpoint_url = http://s3\nsqs =\n"
	    "  endpoint_url = http://services\n");
	assert_endpoint(r, "http://services");
	set_env("AWS_ENDPOINT_URL", "http://all");
	assert_endpoint(r, "http://all");
	set_env("AWS_ENDPOINT_URL_SQS", "http://sqs");
	assert_endpoint(r, "http://sqs");
	set_env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
	assert_endpoint(r, "https://sqs-fips.eu-west-1.amazonaws.com");
	set_env("AWS_USE_FIPS_ENDPOINT", "false");
	assert_endpoint(r, "https://sqs.eu-west-1.amazonaws.com");
	set_env("AWS_USE_DUALSTACK_ENDPOINT", "TRUE");
	assert_endpoint(r, "https://sqs.eu-west-1.api.aws");
}

static void
test_endpoints_of_regions(void **state)
{
	static const struct {
		const char *region;
		bool fips, dual_stack;
		const char *want;
	} cases[] = {
		{ "us-east-1", false, false, "us-east-1.amazonaws.com" },
		{ "us-east-1", true, true, "us-east-1.api.aws" },
		{ "cn-north-1", false, false, "cn-north-1.amazonaws.com.cn" },
		{ "cn-north-1", false, true,
		    "cn-north-1.api.amazonwebservices.com.cn" },
		{ "us-gov-west-1", true, false, "us-gov-west-1.amazonaws.com" },
		{ "us-iso-east-1", false, false, "us-iso-east-1.c2s.ic.gov" },
		{ "us-isob-east-1", false, false,
		    "us-isob-east-1.sc2s.sgov.gov" },
		{ "us-iso-east-1", false, true, NULL },
		{ "", false, false, NULL },
		{ "EU-WEST-1", false, false, NULL },
		{ "eu-west-1/../x", false, false, NULL },
		{ "evil.example.com", false, false, NULL },
		{ "-x", false, false, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct aws_endpoint_choice c = { "sqs", cases[i].region,
			cases[i].fips, cases[i].dual_stack };
		char url[AWS_URL_BYTES];
		struct error err = ERROR_INIT;
		int n = aws_endpoint_url(&c, url, &err);

		if (cases[i].want == NULL) {
			assert_int_equal(n, -EINVAL);
			assert_int_equal(err.class, ERROR_REJECTED);
			continue;
		}
		assert_int_equal(n, 0);
		assert_string_equal(strchr(url, '.') + 1, cases[i].want);
		assert_true((strstr(url, "//sqs-fips.") != NULL) ==
		    (cases[i].fips && strncmp(cases[i].region, "us-gov", 6)
		    != 0));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		aws_test(test_the_order_of_the_chain),
		aws_test(test_our_own_configuration_takes_the_environment_out),
		aws_test(test_profiles_of_a_web_identity),
		aws_test(test_roles_that_lead_nowhere),
		aws_test(test_every_provider_says_why_it_has_nothing),
		aws_test(test_files_that_are_no_good),
		aws_test(test_all_who_wait_share_one_fetch),
		aws_test(test_tries_are_spaced_out),
		aws_test(test_the_last_reference_may_go_inside_a_callback),
		aws_test(test_going_away_in_the_middle),
		aws_test(test_equal_parameters_share_one_object),
		aws_test(test_a_ca_file_that_is_not_there),
		aws_test(
		    test_keys_are_refreshed_between_15_and_10_minutes_before),
		aws_test(test_nobody_waits_for_a_refresh),
		aws_test(test_the_moment_is_left_to_chance),
		aws_test(
		    test_short_lived_keys_are_refreshed_in_their_last_third),
		aws_test(
	    test_a_refresh_that_fails_keeps_the_old_ones_until_they_end),
		aws_test(test_a_wall_clock_that_jumps_over_the_end),
		aws_test(test_keys_that_have_ended_are_none),
		aws_test(test_metadata_that_is_stale_is_used_all_the_same),
		aws_test(test_metadata_that_fails_keeps_old_keys_for_an_hour),
		aws_test(test_expired_keys_are_fetched_again_at_once),
		aws_test(test_the_same_expired_keys_again_are_an_error),
		aws_test(test_refused_keys_without_an_end_are_given_out_again),
		aws_test(test_where_the_region_comes_from),
		aws_test(test_the_region_of_the_instance),
		aws_test(test_endpoints_that_are_configured),
		cmocka_unit_test(test_endpoints_of_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
