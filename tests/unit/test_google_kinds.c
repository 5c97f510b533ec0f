/*
 * Where credentials for Google are looked for, and what each kind of them
 * asks, takes and says when it is refused.
 */
#include "google_rig.h"

/* ---- places ---- */

static void
test_the_order_of_places(void **state)
{
	struct google_rig *g = *state;
	const char *folder = g->r->dir;

	set_env("NO_GCE_CHECK", NULL);
	set_env("GOOGLE_APPLICATION_CREDENTIALS", put_file(g->r, "named.json",
	    service_json(g, "named@p", "")));
	set_env("CLOUDSDK_CONFIG", folder);
	put_file(g->r, "application_default_credentials.json",
	    service_json(g, "well-known@p", ""));
	configure(g, service_json(g, "ours@p", ""));
	google_fetch(g);
	assert_string_equal(google_token_source(g->t),
	    "service account ours@p");

	google_forget(g);
	g->params.credentials_file = NULL;
	google_fetch(g);
	assert_string_equal(google_token_source(g->t),
	    "service account named@p");

	google_forget(g);
	set_env("GOOGLE_APPLICATION_CREDENTIALS", "");
	google_fetch(g);
	assert_string_equal(google_token_source(g->t),
	    "service account well-known@p");
	assert_google_report(g, "GOOGLE_APPLICATION_CREDENTIALS: is not set\n");
	assert_google_report(g, "service account well-known@p: used\n");

	google_forget(g);
	set_env("CLOUDSDK_CONFIG", "/nowhere");
	answer_metadata_token(g, "m", 3600);
	answer_metadata(g, "200 OK", "the-project");
	google_fetch(g);
	assert_token(g, "m");
	assert_string_equal(google_token_source(g->t), "metadata server");
	assert_google_report(g, "/nowhere/application_default_credentials.json"
	    ": is not there\n");
	assert_google_report(g, "metadata server: used\n");
}

static void
test_the_folder_of_gcloud_in_the_home(void **state)
{
	struct google_rig *g = *state;
	const char *outer = keep(g->r, xasprintf("%s/.config", g->r->dir));
	const char *inner = keep(g->r, xasprintf("%s/gcloud", outer));

	assert_int_equal(mkdir(outer, 0700), 0);
	assert_int_equal(mkdir(inner, 0700), 0);
	put_file(g->r, ".config/gcloud/application_default_credentials.json",
	    user_json(g, ""));
	answer_oauth(g, "u", 3600);
	google_fetch(g);
	assert_token(g, "u");
	assert_string_equal(google_token_source(g->t), "user (gcloud)");
	remove_dir(inner);
	remove_dir(outer);
}

static void
test_no_place_at_all(void **state)
{
	struct google_rig *g = *state;

	google_make(g);
	assert_string_equal(google_token_report(g->t), "");
	assert_string_equal(google_token_source(g->t), "");
	assert_null(google_token_project(g->t));
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH,
	    "no Google credentials are configured");
	assert_google_report(g, "metadata server: NO_GCE_CHECK is true\n");
	google_forget(g);
	set_env("HOME", NULL);
	google_fetch(g);
	assert_google_report(g, "neither CLOUDSDK_CONFIG nor HOME is set\n");
}

/* No other account is used instead of one that is configured. */
static void
test_what_is_configured_and_fails_ends_the_search(void **state)
{
	struct google_rig *g = *state;

	set_env("NO_GCE_CHECK", NULL);
	set_env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "cannot open /nowhere/key.json: No such "
	    "file or directory");
	assert_google_report(g, "cannot open /nowhere/key.json");
	google_forget(g);
	configure(g, "{\"private_key\":\"s3cr3t\"}");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "/key.json: type is missing");
	assert_google_report(g, "/key.json: type is missing");
	google_forget(g);
	configure(g, service_json(g, "a@p", ",\"universe_domain\":\"x.y\""));
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "/key.json: universe_domain is not "
	    "googleapis.com");
	assert_int_equal(asked(g), 0);
}

/* ---- service accounts ---- */

static void
assert_claims(struct google_rig *g, const char *email, const char *audience,
    uint64_t now_us)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct slice token = secret_bytes(google_bearer(g)->token);
	unsigned long long iat = now_us / USEC_PER_SEC - 10;
	_cleanup_free_ char *want = xasprintf("{\"iss\":\"%s\",\"sub\":\"%s\","
	    "\"aud\":\"%s\",\"iat\":%llu,\"exp\":%llu}", email, email, audience,
	    iat, iat + 3600);

	assert_true(jwt_verifies(token, google_key));
	jwt_part(token, 0, &b);
	assert_string_equal(buffer_cstr(&b),
	    "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}");
	jwt_part(token, 1, &b);
	assert_string_equal(buffer_cstr(&b), want);
}

static void
test_a_service_account_signs_for_each_audience(void **state)
{
	struct google_rig *g = *state;
	struct google_token *pubsub;

	configure(g, service_json(g, "a@p", ",\"project_id\":\"p-1\""));
	google_fetch(g);
	assert_claims(g, "a@p", "https://pubsub.googleapis.com/", START_US);
	assert_int_equal(google_bearer(g)->expires_us,
	    START_US + 3590 * USEC_PER_SEC);
	assert_string_equal(google_token_project(g->t), "p-1");
	assert_null(google_token_quota_project(g->t));

	pubsub = g->t;
	g->t = NULL;
	g->params.audience = GOOGLE_AUDIENCE_MONITORING;
	google_fetch(g);
	assert_ptr_not_equal(g->t, pubsub);
	assert_claims(g, "a@p", "https://monitoring.googleapis.com/",
	    START_US);
	google_token_unref(pubsub);
	assert_int_equal(asked(g), 0);	/* nothing is exchanged */
}

static void
test_the_environment_names_the_project(void **state)
{
	struct google_rig *g = *state;

	configure(g, service_json(g, "a@p", ",\"project_id\":\"p-1\""));
	set_env("GCLOUD_PROJECT", "older");
	google_fetch(g);
	assert_string_equal(google_token_project(g->t), "older");
	google_forget(g);
	set_env("GOOGLE_CLOUD_PROJECT", "newer");
	google_fetch(g);
	assert_string_equal(google_token_project(g->t), "newer");
}

/* ---- users ---- */

static void
test_a_user_s_refresh_token(void **state)
{
	struct google_rig *g = *state;

	configure(g, user_json(g, ",\"quota_project_id\":\"q-1\""));
	answer_oauth(g, "u", 3600);
	google_fetch(g);
	assert_token(g, "u");
	ASKED(g->r, "POST /oauth HTTP/1.1\r\n",
	    "Content-Type: application/x-www-form-urlencoded\r\n",
	    "grant_type=refresh_token&client_id=c.apps&"
	    "client_secret=GO-s3cr3t&refresh_token=1%2F%2Fs3cr3t%2Fr");
	assert_string_equal(google_token_quota_project(g->t), "q-1");
	assert_null(google_token_project(g->t));
	assert_int_equal(google_bearer(g)->expires_us,
	    START_US + 3600 * USEC_PER_SEC);
}

/* A new attempt, when the pause after the last is over. */
static void
expect_refusal(struct google_rig *g, const char *status, const char *body,
    enum error_class class, const char *code, const char *text)
{
	answer(g->r, status, body);
	clock_advance(MINUTE);
	google_fetch(g);
	assert_no_token(g, class, text);
	if (strcmp(g->err.code, code) != 0)
		fail_msg("%s, not %s", g->err.code, code);
	assert_google_report(g, text);
}

static void
test_refused_users(void **state)
{
	struct google_rig *g = *state;

	configure(g, user_json(g, ""));
	expect_refusal(g, "400 Bad Request", "{\"error\":\"invalid_grant\","
	    "\"error_description\":\"Token has been expired or revoked.\"}",
	    ERROR_AUTH, "invalid_grant", " answers 400 invalid_grant (log in "
	    "again: gcloud auth application-default login): Token has been "
	    "expired or revoked.");
	assert_non_null(strstr(g->err.text, "user (gcloud): 127.0.0.1:"));
	/* What comes back of what was sent stays unsaid. */
	expect_refusal(g, "401 Unauthorized", "{\"error\":\"invalid_client\","
	    "\"error_description\":\"not GO-s3cr3t or 1//s3cr3t/r\"}",
	    ERROR_AUTH, "invalid_client",
	    "answers 401 invalid_client: not ********* or ***********");
	expect_refusal(g, "500 Oh", "<html>", ERROR_TRANSIENT, "google_token",
	    "answers 500");
	expect_refusal(g, "503 Oh", "{\"error\":{\"status\":\"UNAVAILABLE\","
	    "\"message\":\"later\"}}", ERROR_TRANSIENT, "UNAVAILABLE",
	    "answers 503 UNAVAILABLE: later");
	expect_refusal(g, "429 Slow", "", ERROR_THROTTLED, "google_token",
	    "answers 429");
	expect_refusal(g, "200 OK", "s3cr3t", ERROR_PROTOCOL, "google_answer",
	    ": the answer is no JSON");
	expect_refusal(g, "200 OK", "{\"access_token\":\"s3cr3t \"}",
	    ERROR_PROTOCOL, "google_answer", "no usable access_token");
	expect_refusal(g, "302 Go\r\nLocation: https://x/?s3cr3t", "",
	    ERROR_REJECTED, "redirect", "https://x/");
	g->r->notices = 0;
}

static void
test_secrets_go_nowhere_without_tls(void **state)
{
	struct google_rig *g = *state;

	configure(g, "{\"type\":\"authorized_user\",\"client_id\":\"c\","
	    "\"client_secret\":\"s3cr3t\",\"refresh_token\":\"s3cr3t\","
	    "\"token_uri\":\"http://oauth.example/token\"}");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "oauth.example must be asked with "
	    "https: secrets do not go unencrypted");
	google_forget(g);
	configure(g, "{\"type\":\"authorized_user\",\"client_id\":\"c\","
	    "\"client_secret\":\"s3cr3t\",\"refresh_token\":\"s3cr3t\","
	    "\"token_uri\":\"ftp://x\"}");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "the URL of tokens: ");
	assert_int_equal(asked(g), 0);
}

static void
test_the_token_endpoint_is_verified(void **state)
{
	struct google_rig *g = *state;

	g->r->web->tls = server_context("server.pem");
	configure(g, keep(g->r, xasprintf("{\"type\":\"authorized_user\","
	    "\"client_id\":\"c\",\"client_secret\":\"s3cr3t\","
	    "\"refresh_token\":\"s3cr3t\",\"token_uri\":"
	    "\"https://127.0.0.1:%u/t\"}", g->r->web->listener.bound.port)));
	g->params.ca_file = file("other-ca.pem");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "user (gcloud): the certificate of "
	    "127.0.0.1 is not accepted");
	assert_string_equal(g->err.code, "tls_verify");
	assert_int_equal(asked(g), 0);
	google_forget(g);
	g->params.ca_file = file("ca.pem");
	answer_oauth(g, "a", 3600);
	google_fetch(g);
	assert_token(g, "a");
	google_forget(g);
	g->params.ca_file = "/nowhere.pem";
	google_fetch(g);
	assert_no_token(g, ERROR_REJECTED, "/nowhere.pem");
}

static void
test_nobody_at_the_token_endpoint(void **state)
{
	struct google_rig *g = *state;

	configure(g, user_json(g, ""));
	listener_stop(&g->r->web->listener);
	google_fetch(g);
	assert_no_token(g, ERROR_TRANSIENT, "user (gcloud): ");
	assert_string_equal(g->err.code, "ECONNREFUSED");
}

/* ---- workload identity federation ---- */

static void
test_a_subject_token_from_a_file(void **state)
{
	struct google_rig *g = *state;
	const char *file = put_file(g->r, "token", "s3cr3t.sub+1\n");

	configure(g, external_json(g, keep(g->r, xasprintf(
	    "{\"file\":\"%s\"}", file)), ""));
	answer_oauth(g, "sts", 3600);
	google_fetch(g);
	assert_token(g, "sts");
	assert_string_equal(google_token_source(g->t),
	    "workload identity federation");
	ASKED(g->r, "POST /sts HTTP/1.1\r\n", "\r\n\r\ngrant_type=urn%3Aietf%3A"
	    "params%3Aoauth%3Agrant-type%3Atoken-exchange&audience=%2F%2Fiam"
	    "%2Fpools%2Fp&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2F"
	    "cloud-platform&requested_token_type=urn%3Aietf%3Aparams%3Aoauth"
	    "%3Atoken-type%3Aaccess_token&subject_token_type=urn%3Ajwt&"
	    "subject_token=s3cr3t.sub%2B1");
	assert_null(strstr(buffer_cstr(&g->r->web->all), "Authorization"));

	/* It is read again for the next one. */
	put_file(g->r, "token", "s3cr3t.sub2");
	answer_oauth(g, "sts2", 3600);
	advance(g->r, 3600 * USEC_PER_SEC);
	assert_token(g, "sts2");
	ASKED(g->r, "subject_token=s3cr3t.sub2");
}

static void
test_a_subject_token_from_json_in_a_file(void **state)
{
	struct google_rig *g = *state;
	const char *file = put_file(g->r, "token", "{\"t\":\"s3cr3t.json\"}");

	configure(g, external_json(g, keep(g->r, xasprintf("{\"file\":\"%s\","
	    "\"format\":{\"type\":\"json\",\"subject_token_field_name\":"
	    "\"t\"}}", file)), ",\"client_id\":\"id\",\"client_secret\":"
	    "\"s3cr3t\",\"workforce_pool_user_project\":\"w\""));
	answer_oauth(g, "sts", 3600);
	google_fetch(g);
	assert_token(g, "sts");
	ASKED(g->r, "Authorization: Basic aWQ6czNjcjN0\r\n",
	    "subject_token=s3cr3t.json");
	assert_null(strstr(buffer_cstr(&g->r->web->all), "options="));
}

static void
test_a_workforce_pool(void **state)
{
	struct google_rig *g = *state;

	configure(g, external_json(g, keep(g->r, xasprintf("{\"file\":\"%s\"}",
	    put_file(g->r, "token", "s3cr3t"))),
	    ",\"workforce_pool_user_project\":\"w\""));
	answer_oauth(g, "sts", 3600);
	google_fetch(g);
	assert_token(g, "sts");
	ASKED(g->r, "&options=%7B%22userProject%22%3A%22w%22%7D");
}

static void
test_a_subject_token_from_a_url_then_another_account(void **state)
{
	struct google_rig *g = *state;

	configure(g, external_json(g, keep(g->r, xasprintf("{\"url\":\"%s\","
	    "\"headers\":{\"Metadata\":\"True\",\"X-Key\":\"s3cr3t.key\"},"
	    "\"format\":{\"type\":\"json\",\"subject_token_field_name\":"
	    "\"access_token\"}}", at(g->r, "/identity?api=1"))),
	    becoming(g, ",\"service_account_impersonation\":"
	    "{\"token_lifetime_seconds\":2800}")));
	answer(g->r, "200 OK", "{\"access_token\":\"s3cr3t.azure\"}");
	answer_oauth(g, "sts", 3600);
	answer_iam(g, "iam", "2026-11-23T16:46:40Z");
	google_fetch(g);
	assert_token(g, "iam");
	assert_string_equal(google_token_source(g->t),
	    "workload identity federation as to@p.iam");
	assert_int_equal(google_bearer(g)->expires_us,
	    START_US + 2800 * USEC_PER_SEC);
	ASKED(g->r, "GET /identity?api=1 HTTP/1.1\r\n", "Metadata: True\r\n",
	    "X-Key: s3cr3t.key\r\n", "POST /sts ",
	    "subject_token=s3cr3t.azure", "POST /v1/projects/-/serviceAccounts/"
	    "to@p.iam:generateAccessToken ",
	    "Authorization: Bearer s3cr3t.sts\r\n",
	    "Content-Type: application/json\r\n",
	    "\r\n\r\n{\"scope\":[\"https://www.googleapis.com/auth/pubsub\","
	    "\"https://www.googleapis.com/auth/monitoring.read\"],"
	    "\"lifetime\":\"2800s\"}");
}

static void
test_refused_federation(void **state)
{
	struct google_rig *g = *state;
	const char *file = put_file(g->r, "token", "s3cr3t.sub");

	configure(g, external_json(g, keep(g->r, xasprintf(
	    "{\"file\":\"%s\"}", file)), becoming(g, "")));
	expect_refusal(g, "400 Bad", "{\"error\":\"invalid_grant\","
	    "\"error_description\":\"The audience of s3cr3t.sub is wrong\"}",
	    ERROR_AUTH, "invalid_grant",
	    "answers 400 invalid_grant: The audience of ********** is wrong");
	assert_non_null(strstr(g->err.text,
	    "workload identity federation as to@p.iam: "));
	answer_oauth(g, "sts", 3600);
	expect_refusal(g, "403 No", "{\"error\":{\"code\":403,\"status\":"
	    "\"PERMISSION_DENIED\",\"message\":\"s3cr3t.sts may not\"}}",
	    ERROR_AUTH, "PERMISSION_DENIED", "answers 403 PERMISSION_DENIED "
	    "(needed: roles/iam.serviceAccountTokenCreator or "
	    "roles/iam.workloadIdentityUser on it): ********** may not");
	answer_oauth(g, "sts", 3600);
	expect_refusal(g, "200 OK", "{\"accessToken\":\"s3cr3t\"}",
	    ERROR_PROTOCOL, "google_answer", "no usable expireTime");
	answer_oauth(g, "sts", 3600);
	expect_refusal(g, "200 OK", "{\"accessToken\":\"s3cr3t\","
	    "\"expireTime\":\"" START "\"}", ERROR_AUTH, "google_token",
	    "what came is a token that ended at " START);

	put_file(g->r, "token", "s3cr3t two");
	clock_advance(MINUTE);
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "/token: the subject token has blanks "
	    "or odd characters in it");
	(void)unlink(file);
	clock_advance(MINUTE);
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "/token: No such file");
	assert_string_equal(g->err.code, "subject_token");
}

static void
test_refused_subject_tokens(void **state)
{
	struct google_rig *g = *state;

	configure(g, external_json(g, keep(g->r, xasprintf("{\"url\":\"%s\","
	    "\"format\":{\"type\":\"json\",\"subject_token_field_name\":"
	    "\"access_token\"}}", at(g->r, "/identity"))), ""));
	/* Its text is not Google's: it is not shown. */
	expect_refusal(g, "404 No", "{\"error\":\"s3cr3t\"}", ERROR_AUTH,
	    "google_token", " answers 404");
	expect_refusal(g, "200 OK", "{\"a\":\"s3cr3t\"}", ERROR_AUTH,
	    "subject_token", ": the subject token is missing: member "
	    "access_token");
	expect_refusal(g, "200 OK", "s3cr3t", ERROR_AUTH, "subject_token",
	    ": what holds the subject token is no JSON");
	expect_refusal(g, "503 Oh", "", ERROR_TRANSIENT, "google_token",
	    " answers 503");
	google_forget(g);
	configure(g, external_json(g, "{\"url\":\"gopher://x\"}", ""));
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "credential_source.url: ");
}

/* ---- impersonation ---- */

static const char *
impersonated_json(struct google_rig *g, const char *source)
{
	return keep(g->r, xasprintf("{\"type\":"
	    "\"impersonated_service_account\",\"delegates\":[\"d@p\"],"
	    "\"source_credentials\":%s%s}", source, becoming(g, "")));
}

static void
test_a_user_who_becomes_a_service_account(void **state)
{
	struct google_rig *g = *state;

	configure(g, impersonated_json(g, user_json(g, "")));
	answer_oauth(g, "u", 3600);
	answer_iam(g, "iam", "2026-11-23T17:00:00Z");
	google_fetch(g);
	assert_token(g, "iam");
	assert_string_equal(google_token_source(g->t),
	    "user (gcloud) as to@p.iam");
	ASKED(g->r, "POST /oauth ", "Authorization: Bearer s3cr3t.u\r\n",
	    "\"delegates\":[\"d@p\"],\"lifetime\":\"3600s\"}");
}

static void
test_a_service_account_that_becomes_another(void **state)
{
	struct google_rig *g = *state;
	_cleanup_buffer_ struct buffer claims = BUFFER_INIT;
	struct slice sent;
	const char *p;

	configure(g, impersonated_json(g, service_json(g, "a@p", "")));
	answer_iam(g, "iam", "2026-11-23T17:00:00Z");
	google_fetch(g);
	assert_token(g, "iam");
	assert_string_equal(google_token_source(g->t),
	    "service account a@p as to@p.iam");
	p = strstr(buffer_cstr(&g->r->web->all), "Bearer ");
	assert_non_null(p);
	sent = (struct slice){ p + 7, strcspn(p + 7, "\r") };
	assert_true(jwt_verifies(sent, google_key));
	jwt_part(sent, 1, &claims);
	assert_non_null(strstr(buffer_cstr(&claims),
	    "\"aud\":\"https://iamcredentials.googleapis.com/\""));
}

/* ---- metadata ---- */

static void
test_the_metadata_server(void **state)
{
	struct google_rig *g = *state;

	set_env("NO_GCE_CHECK", "false");
	answer_metadata_token(g, "m", 1800);
	answer_metadata(g, "200 OK", "the-project\n");
	google_fetch(g);
	assert_token(g, "m");
	assert_string_equal(google_token_project(g->t), "the-project");
	ASKED(g->r, "GET /computeMetadata/v1/instance/service-accounts/default"
	    "/token?scopes=https://www.googleapis.com/auth/cloud-platform "
	    "HTTP/1.1\r\n", "Metadata-Flavor: Google\r\n",
	    "GET /computeMetadata/v1/project/project-id HTTP/1.1\r\n",
	    "Metadata-Flavor: Google\r\n");
	/* The project stays what it is: it is asked for once. */
	answer_metadata_token(g, "m2", 1800);
	advance(g->r, 1800 * USEC_PER_SEC);
	assert_token(g, "m2");
	assert_int_equal(asked(g), 3);
	assert_string_equal(google_token_project(g->t), "the-project");
}

static void
test_metadata_without_a_project(void **state)
{
	struct google_rig *g = *state;

	set_env("NO_GCE_CHECK", NULL);
	answer_metadata_token(g, "m", 3600);
	answer_metadata(g, "404 None", "");
	google_fetch(g);
	assert_token(g, "m");
	assert_null(google_token_project(g->t));

	/* One that hangs up, and one that is no metadata server. */
	google_forget(g);
	answer_metadata_token(g, "m", 3600);
	web_script(g->r->web, "!");
	web_script(g->r->web, "!");
	google_fetch(g);
	assert_null(google_token_project(g->t));
	google_forget(g);
	answer_metadata_token(g, "m", 3600);
	answer(g->r, "200 OK", "evil");
	google_fetch(g);
	assert_null(google_token_project(g->t));

	google_forget(g);
	set_env("GOOGLE_CLOUD_PROJECT", "env");
	answer_metadata_token(g, "m", 3600);
	google_fetch(g);
	assert_token(g, "m");
	assert_string_equal(google_token_project(g->t), "env");
}

static void
test_refused_by_metadata(void **state)
{
	struct google_rig *g = *state;

	set_env("NO_GCE_CHECK", NULL);
	expect_refusal(g, "200 OK", "{\"access_token\":\"s3cr3t\"}", ERROR_AUTH,
	    "google_metadata", "without \"Metadata-Flavor: Google\": it is no "
	    "metadata server of Google");
	assert_non_null(strstr(g->err.text, "no Google credentials are "
	    "configured, and the metadata server gives none: "));
	expect_refusal(g, "404 No\r\nMetadata-Flavor: Google", "", ERROR_AUTH,
	    "google_token", "answers 404: the instance has no service account");
	expect_refusal(g, "503 No\r\nMetadata-Flavor: Google", "",
	    ERROR_TRANSIENT, "google_token", "answers 503");
	expect_refusal(g, "200 OK\r\nMetadata-Flavor: Google", "x",
	    ERROR_PROTOCOL, "google_answer", "no JSON");
	google_forget(g);
	set_env("GCE_METADATA_HOST", "a b");
	google_fetch(g);
	assert_no_token(g, ERROR_AUTH, "GCE_METADATA_HOST: ");
	google_forget(g);
	set_env("GCE_METADATA_HOST", "[::1]:1");
	google_fetch(g);
	assert_no_token(g, ERROR_TRANSIENT, "metadata server gives none: ");
}

/* Off Google's machines its address often answers nobody. */
static void
test_a_metadata_server_that_says_nothing(void **state)
{
	struct google_rig *g = *state;

	set_env("NO_GCE_CHECK", NULL);
	web_script(g->r->web, "-");
	google_make(g);
	google_token_wait(g->t, &g->waiter);
	WAIT(g->r, asked(g) == 1);
	advance(g->r, 9 * USEC_PER_SEC);
	assert_int_equal(g->called, 0);
	advance(g->r, USEC_PER_SEC);
	WAIT(g->r, g->called == 1);
	assert_no_token(g, ERROR_TRANSIENT, "metadata server gives none: ");
	assert_string_equal(g->err.code, "response_timeout");
}

static int
set_up_all(void **state)
{
	return make_google_key(state) + make_certificates(state);
}

static int
tear_down_all(void **state)
{
	return free_google_key(state) + remove_certificates(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		google_test(test_the_order_of_places),
		google_test(test_the_folder_of_gcloud_in_the_home),
		google_test(test_no_place_at_all),
		google_test(test_what_is_configured_and_fails_ends_the_search),
		google_test(test_a_service_account_signs_for_each_audience),
		google_test(test_the_environment_names_the_project),
		google_test(test_a_user_s_refresh_token),
		google_test(test_refused_users),
		google_test(test_secrets_go_nowhere_without_tls),
		google_test(test_the_token_endpoint_is_verified),
		google_test(test_nobody_at_the_token_endpoint),
		google_test(test_a_subject_token_from_a_file),
		google_test(test_a_subject_token_from_json_in_a_file),
		google_test(test_a_workforce_pool),
		google_test(
		    test_a_subject_token_from_a_url_then_another_account),
		google_test(test_refused_federation),
		google_test(test_refused_subject_tokens),
		google_test(test_a_user_who_becomes_a_service_account),
		google_test(test_a_service_account_that_becomes_another),
		google_test(test_the_metadata_server),
		google_test(test_metadata_without_a_project),
		google_test(test_refused_by_metadata),
		google_test(test_a_metadata_server_that_says_nothing),
	};

	return cmocka_run_group_tests_name("google kinds", tests,
	    set_up_all, tear_down_all);
}
