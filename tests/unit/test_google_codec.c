/* Credential files and answers of Google: what is read, and what is said about
   what is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "codec/google_account.h"
#include "codec/google_answer.h"

/* ---- files ---- */

#define USER	"\"type\":\"authorized_user\",\"client_id\":\"c\"," \
		"\"client_secret\":\"s3cr3t\",\"refresh_token\":\"r3fr3sh\""
#define EXTERNAL_BUT_SOURCE "\"type\":\"external_account\"," \
		"\"audience\":\"//iam/p\",\"subject_token_type\":\"urn:jwt\"," \
		"\"token_url\":\"https://sts\""
#define EXTERNAL	EXTERNAL_BUT_SOURCE "," \
		"\"credential_source\":{\"file\":\"/a b\"}"

static void
good(const char *json, struct google_account *ret)
{
	struct error err = ERROR_INIT;

	if (google_account_parse(slice_of(json), ret, &err) < 0)
		fail_msg("%s: %s", json, err.text);
}

static void
bad(const char *json, const char *text)
{
	struct google_account a;
	struct error err = ERROR_INIT;

	assert_int_equal(google_account_parse(slice_of(json), &a, &err),
	    -EINVAL);
	assert_int_equal(a.kind, GOOGLE_ACCOUNT_NONE);
	assert_int_equal(err.class, ERROR_AUTH);
	assert_string_equal(err.code, "google_credentials");
	if (strstr(err.text, text) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", text, err.text);
	assert_null(strstr(err.text, "s3cr3t"));
	assert_null(strstr(err.text, "r3fr3sh"));
}

static void
assert_is(const struct secret *s, const char *text)
{
	assert_non_null(s);
	assert_true(slice_is(secret_bytes(s), text));
}

static void
test_users(void **state)
{
	struct google_account a;

	(void)state;
	good("{" USER "}", &a);
	assert_int_equal(a.kind, GOOGLE_ACCOUNT_USER);
	assert_string_equal(a.client_id, "c");
	assert_is(a.client_secret, "s3cr3t");
	assert_is(a.refresh_token, "r3fr3sh");
	assert_string_equal(a.token_url, GOOGLE_TOKEN_URL);
	assert_null(a.email);
	assert_null(a.project);
	assert_null(a.quota_project);
	google_account_done(&a);

	good("{" USER ",\"quota_project_id\":\"q\",\"account\":\"u@x\","
	    "\"universe_domain\":\"googleapis.com\",\"new\":[{}],"
	    "\"token_uri\":\"https://t\"}", &a);
	assert_string_equal(a.quota_project, "q");
	assert_string_equal(a.email, "u@x");
	assert_string_equal(a.token_url, "https://t");
	google_account_done(&a);
	google_account_done(&a);	/* harmless */
	good("{" USER ",\"account\":\"\",\"token_uri\":null}", &a);
	assert_null(a.email);
	google_account_done(&a);
}

static void
test_external_accounts(void **state)
{
	struct google_account a;

	(void)state;
	good("{" EXTERNAL ",\"service_account_impersonation_url\":"
	    "\"https://iam/v1/projects/-/serviceAccounts/x@y.z:generate\","
	    "\"service_account_impersonation\":{\"token_lifetime_seconds\":"
	    "600}}", &a);
	assert_int_equal(a.kind, GOOGLE_ACCOUNT_EXTERNAL);
	assert_string_equal(a.audience, "//iam/p");
	assert_string_equal(a.subject_type, "urn:jwt");
	assert_string_equal(a.subject.file, "/a b");
	assert_null(a.subject.url);
	assert_null(a.subject.field);
	assert_string_equal(a.become_email, "x@y.z");
	assert_int_equal(a.lifetime_s, 600);
	google_account_done(&a);

	good("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":"
	    "\"http://169.254.169.254/x\",\"headers\":{\"Metadata\":\"True\","
	    "\"X-A\":\"s3cr3t b\"},\"format\":{\"type\":\"json\","
	    "\"subject_token_field_name\":\"access_token\"}},"
	    "\"client_id\":\"i\",\"client_secret\":\"s3cr3t\"}", &a);
	assert_string_equal(a.subject.url, "http://169.254.169.254/x");
	assert_int_equal(a.subject.nheaders, 2);
	assert_string_equal(a.subject.headers[1].name, "X-A");
	assert_is(a.subject.headers[1].value, "s3cr3t b");
	assert_string_equal(a.subject.field, "access_token");
	assert_string_equal(a.client_id, "i");
	assert_int_equal(a.lifetime_s, GOOGLE_LIFETIME_S);
	assert_null(a.become_url);
	google_account_done(&a);
}

static void
test_impersonated_accounts(void **state)
{
	struct google_account a;

	(void)state;
	good("{\"type\":\"impersonated_service_account\",\"delegates\":"
	    "[\"a\",\"b\\\"\"],\"source_credentials\":{" USER "},"
	    "\"quota_project_id\":\"q\","
	    "\"service_account_impersonation_url\":\"https://iam/odd\"}", &a);
	assert_int_equal(a.kind, GOOGLE_ACCOUNT_USER);
	assert_string_equal(a.become_url, "https://iam/odd");
	assert_string_equal(a.become_email, "a service account");
	assert_string_equal(a.delegates, "[\"a\",\"b\\\"\"]");
	assert_string_equal(a.quota_project, "q");
	google_account_done(&a);

	bad("{\"type\":\"impersonated_service_account\"}",
	    "source_credentials is missing");
	bad("{\"type\":\"impersonated_service_account\","
	    "\"source_credentials\":{" USER "}}",
	    "service_account_impersonation_url is missing");
	bad("{\"type\":\"impersonated_service_account\",\"source_credentials\":"
	    "{\"type\":\"impersonated_service_account\"}}", "type is none of");
	bad("{\"type\":\"impersonated_service_account\",\"source_credentials\":"
	    "{" EXTERNAL ",\"service_account_impersonation_url\":\"u\"}}",
	    "source_credentials impersonate somebody, too");
	bad("{\"type\":\"impersonated_service_account\",\"source_credentials\":"
	    "{" USER "},\"service_account_impersonation_url\":\"u\","
	    "\"delegates\":[1]}", "delegates are no strings");
}

static void
test_files_that_are_none(void **state)
{
	(void)state;
	bad("", "it is no JSON (line 1, column 0)");
	bad("{\"refresh_token\":\"s3cr3t", "it is no JSON (line 1, column");
	bad("[]", "it is no JSON object");
	bad("{}", "type is missing: this is no file of credentials");
	bad("{\"type\":\"s3cr3t\"}", "type is none of service_account, ");
	bad("{\"type\":\"external_account_authorized_user\"}",
	    "type is none of");
	bad("{\"type\":\"authorized_user\",\"universe_domain\":\"x.com\"}",
	    "universe_domain is not googleapis.com");
	bad("{\"type\":\"impersonated_service_account\","
	    "\"universe_domain\":\"x.com\"}", "universe_domain is not");
}

static void
test_missing_members_are_named(void **state)
{
	(void)state;
	bad("{\"type\":\"authorized_user\"}", "client_id is missing");
	bad("{\"type\":\"authorized_user\",\"client_id\":7}",
	    "client_id is no string");
	bad("{\"type\":\"authorized_user\",\"client_id\":\"a b\"}",
	    "client_id is no string, or has blanks");
	bad("{\"type\":\"authorized_user\",\"client_id\":\"c\"}",
	    "client_secret is missing");
	bad("{\"type\":\"authorized_user\",\"client_id\":\"c\","
	    "\"client_secret\":\"s3cr3t\"}", "refresh_token is missing");
	bad("{\"type\":\"authorized_user\",\"client_id\":\"c\","
	    "\"client_secret\":\"s3cr3t\",\"refresh_token\":\"s3cr3t\\r\\n\"}",
	    "refresh_token is no string, or has blanks");
	bad("{" USER ",\"quota_project_id\":\"a\\nb\"}", "quota_project_id");

	bad("{\"type\":\"service_account\"}", "client_email is missing");
	bad("{\"type\":\"service_account\",\"client_email\":\"a@b\"}",
	    "private_key is missing");
	bad("{\"type\":\"service_account\",\"client_email\":\"a@b\","
	    "\"private_key\":\"s3cr3t\"}",
	    "private_key: the private key is not in PEM");

	bad("{\"type\":\"external_account\"}", "audience is missing");
	bad("{" EXTERNAL_BUT_SOURCE "}", "credential_source is missing");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{}}",
	    "neither a file nor a url");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"file\":\"f\","
	    "\"url\":\"u\"}}", "both a file and a url");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{"
	    "\"environment_id\":\"aws1\"}}", "AWS as identity");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{"
	    "\"executable\":{}}}", "executable is not supported");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{"
	    "\"certificate\":{}}}", "certificate is not supported");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":\"u\","
	    "\"format\":{\"type\":\"xml\"}}}", "neither text nor json");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":\"u\","
	    "\"format\":{\"type\":\"json\"}}}",
	    "subject_token_field_name is missing");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":\"u\","
	    "\"headers\":{\"A\":\"x\\r\\ns3cr3t: y\"}}}",
	    "headers have one that cannot be sent");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":\"u\","
	    "\"headers\":{\"A: s3cr3t\":\"x\"}}}",
	    "headers have one that cannot be sent");
	bad("{" EXTERNAL_BUT_SOURCE ",\"credential_source\":{\"url\":\"u\","
	    "\"headers\":{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\","
	    "\"5\":\"\",\"6\":\"\",\"7\":\"\",\"8\":\"\",\"9\":\"\"}}}",
	    "headers are more than 8");
	bad("{" EXTERNAL ",\"service_account_impersonation_url\":\"u\","
	    "\"service_account_impersonation\":{\"token_lifetime_seconds\":"
	    "599}}", "is not from 600 to 43200");
}

/* ---- answers ---- */

static void
oauth(const char *json, const char *token, uint64_t life_s)
{
	struct google_answer a;
	struct error err = ERROR_INIT;

	if (google_answer_from_oauth(slice_of(json), &a, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_is(a.token, token);
	assert_int_equal(a.life_us, life_s * USEC_PER_SEC);
	assert_int_equal(a.expires_us, 0);
	google_answer_done(&a);
}

static void
bad_answer(const char *json, bool iam, const char *text)
{
	struct google_answer a;
	struct error err = ERROR_INIT;
	int r = iam ? google_answer_from_iam(slice_of(json), &a, &err) :
	    google_answer_from_oauth(slice_of(json), &a, &err);

	assert_int_equal(r, -EPROTO);
	assert_null(a.token);
	assert_int_equal(err.class, ERROR_PROTOCOL);
	if (strstr(err.text, text) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", text, err.text);
	assert_null(strstr(err.text, "s3cr3t"));
}

static void
test_tokens(void **state)
{
	struct google_answer a;
	struct error err = ERROR_INIT;

	(void)state;
	oauth("{\"access_token\":\"t.1/_-~+=\",\"expires_in\":3599,"
	    "\"scope\":\"x\"}", "t.1/_-~+=", 3599);
	oauth("{\"access_token\":\"t\",\"expires_in\":\"86399\"}", "t", 86399);
	oauth("{\"access_token\":\"t\",\"expires_in\":59.9}", "t", 59);
	oauth("{\"access_token\":\"t\"}", "t", 0);
	oauth("{\"access_token\":\"t\",\"expires_in\":9e18}", "t",
	    (uint64_t)30 * 24 * 3600);
	bad_answer("", false, "the answer is no JSON (line 1");
	bad_answer("s3cr3t", false, "the answer is no JSON (line 1");
	bad_answer("[\"s3cr3t\"]", false, "is no JSON object");
	bad_answer("{\"expires_in\":1}", false, "no usable access_token");
	bad_answer("{\"access_token\":\"s3cr3t\\r\\nX: y\"}", false,
	    "no usable access_token");
	bad_answer("{\"access_token\":\"s3cr3t\",\"expires_in\":-1}", false,
	    "no usable expires_in");
	bad_answer("{\"access_token\":\"s3cr3t\",\"expires_in\":0}", false,
	    "no usable expires_in");

	assert_int_equal(google_answer_from_iam(SLICE("{\"accessToken\":\"t\","
	    "\"expireTime\":\"2026-11-23T16:00:00Z\"}"), &a, &err), 0);
	assert_is(a.token, "t");
	assert_int_equal(a.life_us, 0);
	assert_int_equal(a.expires_us,
	    UINT64_C(1795449600) * USEC_PER_SEC);
	google_answer_done(&a);
	bad_answer("{\"accessToken\":\"s3cr3t\"}", true,
	    "no usable expireTime");
	bad_answer("{\"access_token\":\"s3cr3t\"}", true,
	    "no usable accessToken");
	bad_answer("{", true, "no JSON");
}

static void
subject(const char *text, const char *field, const char *token,
    const char *why)
{
	struct error err = ERROR_INIT;
	struct secret *s = google_subject_token(slice_of(text), field, &err);

	if (token != NULL) {
		assert_is(s, token);
	} else {
		assert_null(s);
		assert_int_equal(err.class, ERROR_AUTH);
		if (strstr(err.text, why) == NULL)
			fail_msg("\"%s\" is not in \"%s\"", why, err.text);
		assert_null(strstr(err.text, "s3cr3t"));
	}
	secret_free(s);
}

static void
test_subject_tokens(void **state)
{
	(void)state;
	subject(" a.b.c\r\n\n", NULL, "a.b.c", NULL);
	subject("{\"x\":{},\"id_token\":\"a.b.c\"}", "id_token", "a.b.c", NULL);
	subject(" \n", NULL, NULL, "the subject token is missing");
	subject("s3cr3t s3cr3t", NULL, NULL, "blanks or odd characters");
	subject("{\"s3cr3t\":1}", "id_token", NULL,
	    "the subject token is missing: member id_token");
	subject("s3cr3t", "id_token", NULL,
	    "what holds the subject token is no JSON");
}

static void
failure(const char *json, const char *name, const char *message)
{
	char n[GOOGLE_NAME_BYTES], m[GOOGLE_MESSAGE_BYTES];

	google_answer_error(slice_of(json), n, m);
	assert_string_equal(n, name);
	assert_string_equal(m, message);
}

static void
test_failures(void **state)
{
	char n[GOOGLE_NAME_BYTES], m[GOOGLE_MESSAGE_BYTES];
	_cleanup_free_ char *text = xcalloc(1, 5000);

	(void)state;
	failure("{\"error\":\"invalid_grant\",\"error_description\":"
	    "\"Token has been\\nexpired. \"}", "invalid_grant",
	    "Token has been expired.");
	failure("{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\","
	    "\"message\":\"no\",\"details\":[{\"x\":1},7]}}",
	    "PERMISSION_DENIED", "no");
	failure("{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\","
	    "\"message\":\"off\",\"details\":[{\"reason\":"
	    "\"SERVICE_DISABLED\"}]}}", "SERVICE_DISABLED", "off");
	failure("{\"error\":7}", "", "");
	failure("<html>", "", "");
	failure("", "", "");
	/* Tokens are not shown; mail addresses and short words are. */
	failure("{\"error\":\"x\",\"error_description\":\"got "
	    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9eyJhbGciOiJS."
	    "0123456789012345678901234567890123456789 from "
	    "x@a-project-12345.iam.gserviceaccount.com\"}", "x",
	    "got ....... from x@a-project-12345.iam.gserviceaccount.com");

	strcpy(text, "{\"error\":\"");
	for (int i = 0; i < 1000; i++)
		strcat(text, "ab ");
	strcat(text, "\",\"error_description\":\"");
	for (int i = 0; i < 500; i++)
		strcat(text, "cd+");
	strcat(text, "\"}");
	google_answer_error(slice_of(text), n, m);
	assert_in_range(strlen(n), 40, sizeof(n) - 1);
	assert_in_range(strlen(m), 500, sizeof(m) - 1);
}

static void
test_hiding(void **state)
{
	char text[] = "a tokentoken b tok";
	char stars[] = "*a**a*";

	(void)state;
	google_hide(text, SLICE("token"));
	assert_string_equal(text, "a ********** b tok");
	google_hide(text, SLICE(""));
	google_hide(stars, SLICE("*a*"));	/* and comes back */
	assert_string_equal(stars, "******");
}

/* ---- samples ---- */

#define POINT(value, end) "{\"interval\":{\"endTime\":\"" end "\"}," \
	    "\"value\":" value "}"

static void
sample(const char *json, bool known, uint64_t value, uint64_t at_s)
{
	struct google_sample s;
	struct error err = ERROR_INIT;

	if (google_answer_sample(slice_of(json), &s, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_int_equal(s.known, known);
	assert_int_equal(s.value, value);
	assert_int_equal(s.at_us, at_s * USEC_PER_SEC);
}

static void
test_samples(void **state)
{
	const uint64_t noon = 1795449600;
	struct google_sample s;
	struct error err = ERROR_INIT;

	(void)state;
	sample("{}", false, 0, 0);
	sample("{\"unit\":\"1\",\"timeSeries\":[]}", false, 0, 0);
	sample("{\"timeSeries\":[{\"points\":["
	    POINT("{\"int64Value\":\"7\"}", "2026-11-23T16:00:00Z") ","
	    POINT("{\"int64Value\":\"9\"}", "2026-11-23T15:59:00Z")
	    "]}]}", true, 7, noon);
	/* In any order, of several series, in any spelling of numbers. */
	sample("{\"timeSeries\":[{\"points\":["
	    POINT("{\"int64Value\":9}", "2026-11-23T15:59:00Z") "]},{},"
	    "{\"points\":[7,{},"
	    POINT("{\"doubleValue\":12.7}", "2026-11-23T16:00:00.5Z")
	    "]}]}", true, 12, noon);
	sample("{\"timeSeries\":[{\"points\":[]}]}", false, 0, 0);

	assert_int_equal(google_answer_sample(SLICE("{\"timeSeries\":[{"
	    "\"points\":[" POINT("{\"int64Value\":\"-1\"}",
	    "2026-11-23T16:00:00Z") "]}]}"), &s, &err), -EPROTO);
	assert_string_equal(err.text, "the answer has no usable points");
	assert_int_equal(google_answer_sample(SLICE("<html>"), &s, &err),
	    -EPROTO);
	assert_false(s.known);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_external_accounts),
		cmocka_unit_test(test_impersonated_accounts),
		cmocka_unit_test(test_files_that_are_none),
		cmocka_unit_test(test_missing_members_are_named),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_subject_tokens),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_hiding),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests_name("google codec", tests, NULL, NULL);
}
