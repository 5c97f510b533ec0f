/*
 * What gives keys, one by one: instance metadata, containers, STS, processes;
 * as they answer, and as they should not.
 */
#include "aws_rig.h"

#include "client/aws_provider.h"
#include "client/aws_words.h"
#include "codec/http_date.h"

/* ---- keys as they stand ---- */

static void
test_keys_of_the_environment(void **state)
{
	struct aws_rig *r = *state;
	struct sigv4_credentials s;

	set_env("AWS_ACCESS_KEY_ID", "AKIAENV");
	set_env("AWS_SECRET_ACCESS_KEY", "s3cr3t-env");
	set_env("AWS_SESSION_TOKEN", "t-s3cr3t-env");
	fetch(r);
	assert_keys(r, "AKIAENV");
	aws_keys_for_signing(aws_credentials_get(r->c), &s);
	assert_true(slice_is(s.access_key, "AKIAENV"));
	assert_true(slice_is(s.secret_key, "s3cr3t-env"));
	assert_true(slice_is(s.token, "t-s3cr3t-env"));
	assert_true(s.id != 0);
	assert_string_equal(aws_credentials_get(r->c)->source, "environment");
	assert_int_equal(r->web->requests, 0);
}

static void
test_half_a_pair_in_the_environment_is_an_error(void **state)
{
	struct aws_rig *r = *state;

	put_file(r, "credentials", "[default]\naws_access_key_id = AKIAFILE\n"
	    "aws_secret_access_key = s3cr3t-file\n");
	set_env("AWS_ACCESS_KEY_ID", "AKIAENV");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "AWS_SECRET_ACCESS_KEY is not");
}

static void
test_keys_of_the_files(void **state)
{
	struct aws_rig *r = *state;

	put_file(r, "config", "[profile jobs]\naws_access_key_id = AKIACONF\n"
	    "aws_secret_access_key = s3cr3t-config\n");
	set_env("AWS_PROFILE", "jobs");
	fetch(r);
	assert_keys(r, "AKIACONF");
	assert_null(aws_credentials_get(r->c)->token);
	assert_int_equal(aws_credentials_get(r->c)->expires_us, 0);
	assert_report(r, "credential_process: profile jobs has none\n");
	assert_report(r, "config: used\n");
}

/* ---- instance metadata ---- */

static void
imds(struct aws_rig *r)
{
	set_env("AWS_EC2_METADATA_DISABLED", NULL);
	set_env("AWS_EC2_METADATA_SERVICE_ENDPOINT", at(r, "/"));
}

static void
test_imds_shows_its_token(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer_imds(r, "ASIAIMDS", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAIMDS");
	assert_secret(aws_credentials_get(r->c)->secret_key,
	    "s3cr3t-ASIAIMDS");
	assert_secret(aws_credentials_get(r->c)->token, "t-s3cr3t-ASIAIMDS");
	assert_int_equal(aws_credentials_get(r->c)->expires_us,
	    START_US + 360 * MINUTE);
	ASKED(r, "PUT /latest/api/token HTTP/1.1\r\n",
	    "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n",
	    "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\n",
	    "X-aws-ec2-metadata-token: imds-s3cr3t\r\n",
	    "GET /latest/meta-data/iam/security-credentials/my-role HTTP/1.1",
	    "X-aws-ec2-metadata-token: imds-s3cr3t\r\n");
	assert_report(r, "instance metadata: used\n");
}

static void
test_imds_without_tokens_is_asked_the_old_way(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer(r, "404 Not Found", "");
	answer(r, "200 OK", "my-role\n");
	answer_json(r, "ASIAV1", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAV1");
	assert_null(strstr(buffer_cstr(&r->web->all), "metadata-token:"));
}

static void
test_imds_of_the_old_way_can_be_forbidden(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	set_env("AWS_EC2_METADATA_V1_DISABLED", "True");
	answer(r, "403 Forbidden", "");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "version 1 is switched off");
	assert_int_equal(r->web->requests, 1);
}

static void
test_imds_one_hop_too_far_hangs_and_is_asked_the_old_way(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	web_script(r->web, "-");
	answer(r, "200 OK", "my-role");
	answer_json(r, "ASIAV1", "2026-11-23T22:00:00Z");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->web->requests == 1);
	advance(r, 1999 * USEC_PER_MSEC);
	assert_int_equal(r->web->requests, 1);
	clock_advance(USEC_PER_MSEC);
	WAIT(r, r->called == 1);
	assert_keys(r, "ASIAV1");
}

static void
test_imds_that_hangs_later_is_an_error(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer(r, "200 OK", "imds-s3cr3t");
	web_script(r->web, "-");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->web->requests == 2);
	clock_advance(2 * USEC_PER_SEC);
	WAIT(r, r->called == 1);
	assert_no_keys(r, ERROR_TRANSIENT, "no AWS credentials are configured, "
	    "and instance metadata gives none: 127.0.0.1");
	assert_report(r, "container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
}

static void
test_imds_with_a_code_that_is_no_success(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "200 OK", "my-role");
	answer(r, "200 OK", "{\"Code\":\"AssumeRoleUnauthorizedAccess\","
	    "\"Message\":\"EC2 cannot assume the role\"}");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "\"AssumeRoleUnauthorizedAccess\"");
}

static void
test_imds_without_a_role(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "404 Not Found", "<html>");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "the instance has no role");
}

static void
test_imds_whose_token_ended_gives_a_new_one_once(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "401 Unauthorized", "");
	answer_imds(r, "ASIAIMDS", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAIMDS");

	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "401 Unauthorized", "");
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "401 Unauthorized", "");
	fetch(r);
	assert_no_keys(r, ERROR_REJECTED, "it answers 401");
}

static void
test_imds_tries_as_often_as_it_is_told(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	set_env("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "3");
	answer(r, "500 Oops", "");
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "503 Oops", "");
	answer_imds(r, "ASIAIMDS", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAIMDS");
	assert_int_equal(r->web->requests, 6);
}

static void
test_imds_that_says_nonsense(void **state)
{
	static const char *const roles[] = { "../../x", "a b", "<html>",
		"r\xc3\xb6le" };
	struct aws_rig *r = *state;

	imds(r);
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		answer(r, "200 OK", "imds-s3cr3t");
		answer(r, "200 OK", roles[i]);
		fetch(r);
		assert_no_keys(r, ERROR_PROTOCOL, "is none");
		clock_advance(MINUTE);
	}
	answer(r, "200 OK", "");
	fetch(r);
	assert_no_keys(r, ERROR_PROTOCOL, "token is empty");
	clock_advance(MINUTE);
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "200 OK", "my-role");
	answer(r, "200 OK", "{\"AccessKeyId\":\"s3cr3t");
	fetch(r);
	assert_no_keys(r, ERROR_PROTOCOL, "no JSON (line 1, column");
	set_env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "localhost");
	clock_advance(MINUTE);
	fetch(r);
	assert_no_keys(r, ERROR_REJECTED, "must start with https:// or");
}

/* ---- containers ---- */

static void
test_container_by_relative_uri(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/creds?id=1");
	answer_json(r, "ASIAECS", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAECS");
	ASKED(r, "GET /v2/creds?id=1 HTTP/1.1\r\n",
	    "Accept: application/json\r\n");
	assert_null(strstr(buffer_cstr(&r->web->all), "Authorization"));
}

static void
test_container_token_is_read_from_its_file_each_time(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/eks"));
	set_env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not-s3cr3t-this");
	set_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	    put_file(r, "token", "one-s3cr3t\n"));
	answer_json(r, "ASIAEKS1", "2026-11-23T22:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAEKS1");
	put_file(r, "token", "two-s3cr3t\n");
	answer_json(r, "ASIAEKS2", "2026-11-23T22:00:00Z");
	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	fetch(r);
	assert_keys(r, "ASIAEKS2");
	ASKED(r, "GET /eks HTTP/1.1\r\n", "Authorization: one-s3cr3t\r\n",
	    "GET /eks HTTP/1.1\r\n", "Authorization: two-s3cr3t\r\n");
	/* No header of its own for whoever can write the file. */
	put_file(r, "token", "s3cr3t\r\nX-Evil: 1\n");
	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "line break");
	assert_int_equal(r->web->requests, 2);
}

static void
test_container_hosts_that_are_allowed(void **state)
{
	static const struct {
		const char *url;
		bool allowed;
	} hosts[] = {
		{ "https://example.com/x", true },
		{ "http://localhost:99/x", true },
		{ "http://127.3.2.1/x", true },
		{ "http://[::1]:80/x", true },
		{ "http://169.254.170.2/x", true },
		{ "http://169.254.170.23/x", true },
		{ "http://[fd00:ec2::23]/x", true },
		{ "http://[fd00:ec2:0:0:0:0:0:23]/x", true },
		{ "http://example.com/x", false },
		{ "http://169.254.169.254/x", false },
		{ "http://169.254.170.22/x", false },
		{ "http://128.0.0.1/x", false },
		{ "http://[fd00:ec2::254]/x", false },
		{ "http://localhost.example.com/x", false },
		{ "http://127.0.0.1.example.com/x", false },
	};
	struct aws_rig *r = *state;
	struct http_url u;
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		assert_int_equal(http_url_parse(&u, hosts[i].url, &err), 0);
		if (aws_container_url_is_allowed(&u) != hosts[i].allowed)
			fail_msg("%s", hosts[i].url);
	}
	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI",
	    "http://example.com:81/x");
	fetch(r);
	assert_no_keys(r, ERROR_REJECTED,
	    "example.com:81 must be asked with https");
}

static void
test_container_that_fails_is_tried_three_times(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", at(r, "/x"));
	for (int i = 0; i < 3; i++)
		answer(r, "503 Busy", "s3cr3t");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	for (unsigned i = 1; i < 3; i++) {
		WAIT(r, r->web->requests == i);
		idle(r);
		assert_int_equal(r->web->requests, i);
		advance(r, USEC_PER_SEC);
	}
	WAIT(r, r->called == 1);
	assert_int_equal(r->web->requests, 3);
	assert_no_keys(r, ERROR_TRANSIENT, "answers 503");
	/* What it refuses is not asked again. */
	clock_advance(MINUTE);
	answer(r, "403 Forbidden", "{\"message\":\"s3cr3t\"}");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "answers 403");
	assert_int_equal(r->web->requests, 4);
}

/* ---- STS ---- */

#define ROLE_PROFILES \
	"[profile jobs]\nrole_arn = arn:aws:iam::1:role/jobs\n" \
	"source_profile = base\nexternal_id = x/1\nduration_seconds = 900\n" \
	"role_session_name = me@host\nregion = eu-west-1\n"

static void
role(struct aws_rig *r)
{
	r->params.profile = "jobs";
	put_file(r, "config", ROLE_PROFILES);
	put_file(r, "credentials", "[base]\naws_access_key_id = AKIABASE\n"
	    "aws_secret_access_key = s3cr3t-base\n");
}

static void
test_a_role_for_keys(void **state)
{
	struct aws_rig *r = *state;

	role(r);
	answer_sts(r, "ASIAROLE", "2026-11-23T17:00:00.123456Z");
	fetch(r);
	assert_keys(r, "ASIAROLE");
	assert_secret(aws_credentials_get(r->c)->token, "t-s3cr3t-ASIAROLE");
	assert_int_equal(aws_credentials_get(r->c)->expires_us,
	    START_US + 60 * MINUTE);
	ASKED(r, "POST / HTTP/1.1\r\n",
	    "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
	    "X-Amz-Date: 20261123T160000Z\r\n",
	    "Credential=AKIABASE/20261123/eu-west-1/sts/aws4_request, "
	    "SignedHeaders=content-type;host;x-amz-date, Signature=",
	    "\r\n\r\nAction=AssumeRole&Version=2011-06-15&RoleArn="
	    "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fjobs&RoleSessionName=me%40host"
	    "&DurationSeconds=900&ExternalId=x%2F1");
	assert_report(r, "role arn:aws:iam::1:role/jobs by profile base: "
	    "keys in ");
	assert_null(strstr(buffer_cstr(&r->web->all), "s3cr3t"));
}

static void
test_a_role_that_is_refused(void **state)
{
	struct aws_rig *r = *state;

	role(r);
	answer(r, "403 Forbidden", "<ErrorResponse><Error><Type>Sender</Type>"
	    "<Code>AccessDenied</Code><Message>User x is not authorized to "
	    "perform: sts:AssumeRole</Message></Error></ErrorResponse>");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "arn:aws:iam::1:role/jobs: "
	    "AccessDenied: User x is not authorized");
	assert_string_equal(r->err.code, "AccessDenied");
	assert_int_equal(r->web->requests, 1);
}

static void
test_sts_that_fails_is_tried_three_times(void **state)
{
	struct aws_rig *r = *state;

	role(r);
	answer(r, "500 Oops", "");
	answer(r, "400 Bad", "<Error><Code>Throttling</Code></Error>");
	answer_sts(r, "ASIAROLE", "2026-11-23T17:00:00Z");
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	WAIT(r, r->web->requests == 1);
	idle(r);
	advance(r, 2 * USEC_PER_SEC);
	WAIT(r, r->web->requests == 2);
	idle(r);
	advance(r, 2 * USEC_PER_SEC);
	WAIT(r, r->called == 1);
	assert_keys(r, "ASIAROLE");

	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	for (int i = 0; i < 3; i++)
		answer(r, "500 Oops", "");
	aws_credentials_wait(r->c, &r->waiter);
	idle(r);
	for (int i = 0; i < 3; i++)
		advance(r, 2 * USEC_PER_SEC);
	WAIT(r, r->called == 2);
	assert_no_keys(r, ERROR_TRANSIENT, "answers 500");
	assert_int_equal(r->web->requests, 6);
}

static void
test_sts_with_another_clock(void **state)
{
	struct aws_rig *r = *state;
	char date[HTTP_DATE_BYTES];
	const char *body = "<Error><Code>SignatureDoesNotMatch</Code>"
	    "<Message>Signature expired</Message></Error>";

	role(r);
	web_script(r->web, keep(r, xasprintf("HTTP/1.1 403 No\r\nDate: %s\r\n"
	    "Content-Length: %zu\r\n\r\n%s",
	    http_date(date, START_US + 90 * MINUTE), strlen(body), body)));
	answer_sts(r, "ASIAROLE", "2026-11-23T18:30:00Z");
	fetch(r);
	assert_keys(r, "ASIAROLE");
	ASKED(r, "X-Amz-Date: 20261123T160000Z", "X-Amz-Date: 20261123T173000Z");
}

static void
test_a_role_by_a_role_by_the_instance(void **state)
{
	struct aws_rig *r = *state;

	imds(r);
	put_file(r, "config", "[default]\nrole_arn = arn:outer\n"
	    "source_profile = middle\n[profile middle]\nrole_arn = arn:inner\n"
	    "credential_source = Ec2InstanceMetadata\n");
	answer_imds(r, "ASIAIMDS", "2026-11-23T22:00:00Z");
	answer_sts(r, "ASIAINNER", "2026-11-23T17:00:00Z");
	answer_sts(r, "ASIAOUTER", "2026-11-23T17:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAOUTER");
	/* Without a region: the global endpoint's. */
	ASKED(r, "X-Amz-Security-Token: t-s3cr3t-ASIAIMDS\r\n",
	    "Credential=ASIAIMDS/20261123/us-east-1/sts/",
	    "&RoleArn=arn%3Ainner&RoleSessionName=bot-operator-1795449600",
	    "X-Amz-Security-Token: t-s3cr3t-ASIAINNER\r\n",
	    "Credential=ASIAINNER/", "&RoleArn=arn%3Aouter&");
}

static void
test_a_role_for_a_web_identity(void **state)
{
	struct aws_rig *r = *state;

	set_env("AWS_ROLE_ARN", "arn:web");
	set_env("AWS_ROLE_SESSION_NAME", "pod");
	set_env("AWS_WEB_IDENTITY_TOKEN_FILE",
	    put_file(r, "jwt", "head.s3cr3t.sign\n"));
	answer_sts(r, "ASIAWEB", "2026-11-23T17:00:00Z");
	fetch(r);
	assert_keys(r, "ASIAWEB");
	ASKED(r, "\r\n\r\nAction=AssumeRoleWithWebIdentity&Version=2011-06-15"
	    "&RoleArn=arn%3Aweb&RoleSessionName=pod"
	    "&WebIdentityToken=head.s3cr3t.sign");
	assert_null(strstr(buffer_cstr(&r->web->all), "Authorization"));

	/* The file is read again; when it is gone, that is what is said. */
	assert_int_equal(unlink(aws_getenv("AWS_WEB_IDENTITY_TOKEN_FILE")), 0);
	aws_credentials_expired(r->c, aws_credentials_get(r->c)->generation);
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "jwt: No such file");
	assert_int_equal(r->web->requests, 1);
}

static void
test_sts_that_says_nonsense(void **state)
{
	struct aws_rig *r = *state;

	role(r);
	answer(r, "200 OK", "<SecretAccessKey>s3cr3t</SecretAccessKey>");
	fetch(r);
	assert_no_keys(r, ERROR_PROTOCOL, "no usable access key");
	clock_advance(MINUTE);
	answer_sts(r, "ASIAROLE", "soon");
	fetch(r);
	assert_no_keys(r, ERROR_PROTOCOL, "no usable Expiration");
	clock_advance(MINUTE);
	answer(r, "400 Bad", "s3cr3t");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "answers 400 for arn:");
}

/* ---- processes ---- */

static void
process(struct aws_rig *r, const char *command)
{
	put_file(r, "config", keep(r, xasprintf(
	    "[default]\ncredential_process = %s\n", command)));
}

#define PRINT_KEYS \
	"echo '{\"Version\":1,\"AccessKeyId\":\"AKIAPROC\"," \
	"\"SecretAccessKey\":\"s3cr3t-proc\",\"SessionToken\":\"t-s3cr3t\"," \
	"\"Expiration\":\"2026-11-23T17:00:00Z\"}'\n"

static void
test_a_process_that_prints_keys(void **state)
{
	struct aws_rig *r = *state;
	const char *script = put_script(r, "a helper", "#!/bin/sh\n"
	    "test \"$1\" = 'one two' || exit 3\n"
	    "test \"$2\" = '$HOME;' || exit 4\n"
	    "test -z \"$NOTIFY_SOCKET\" || exit 5\n"
	    "echo s3cr3t complaint >&2\n" PRINT_KEYS);

	setenv("NOTIFY_SOCKET", "/run/x", 1);
	process(r, keep(r, xasprintf("\"%s\" 'one two' $HOME;", script)));
	fetch(r);
	unsetenv("NOTIFY_SOCKET");
	assert_keys(r, "AKIAPROC");
	assert_secret(aws_credentials_get(r->c)->token, "t-s3cr3t");
	assert_int_equal(aws_credentials_get(r->c)->expires_us,
	    START_US + 60 * MINUTE);
	assert_string_equal(aws_credentials_get(r->c)->source,
	    "profile default: credential_process");
}

static void
test_a_process_that_fails_tells_why(void **state)
{
	struct aws_rig *r = *state;

	process(r, put_script(r, "helper", "#!/bin/sh\n" PRINT_KEYS
	    "echo first >&2; echo the certificate has expired >&2; exit 7\n"));
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "profile default: credential_process: "
	    "helper: exit code 7; it says: the certificate has expired");
}

static void
test_a_process_that_prints_nonsense(void **state)
{
	static const char *const bad[] = {
		"echo s3cr3t\n", "exit 0\n", "echo '[1]'\n",
		"echo '{\"Version\":2,\"AccessKeyId\":\"A\","
		    "\"SecretAccessKey\":\"s3cr3t\"}'\n",
		"echo '{\"Version\":1,\"AccessKeyId\":\"A\"}'\n",
		"echo '{\"Version\":1,\"AccessKeyId\":\"A b\","
		    "\"SecretAccessKey\":\"s3cr3t\"}'\n",
		"echo '{\"Version\":1,\"AccessKeyId\":\"A\","
		    "\"SecretAccessKey\":\"s3cr3t\",\"Expiration\":\"x\"}'\n",
	};
	struct aws_rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		process(r, put_script(r, "helper", keep(r,
		    xasprintf("#!/bin/sh\n%s", bad[i]))));
		fetch(r);
		assert_no_keys(r, ERROR_PROTOCOL, "helper: the answer ");
		clock_advance(MINUTE);
	}
}

static void
test_a_process_that_hangs_is_killed(void **state)
{
	struct aws_rig *r = *state;

	/* What it started holds the pipe too. */
	process(r, put_script(r, "helper", "#!/bin/sh\nsleep 1000 &\n"
	    "sleep 1000\n"));
	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	idle(r);
	advance(r, AWS_PROCESS_TIMEOUT_US - 1);
	assert_int_equal(r->called, 0);
	clock_advance(1);
	WAIT(r, r->called == 1);
	assert_no_keys(r, ERROR_TRANSIENT, "helper did not end within 1min");
}

static void
test_a_process_that_prints_without_end_is_killed(void **state)
{
	struct aws_rig *r = *state;

	process(r, put_script(r, "helper", "#!/bin/sh\nexec cat /dev/zero\n"));
	fetch(r);
	assert_no_keys(r, ERROR_PROTOCOL, "prints more than 65536 bytes");
	/* Complaints without end are no reason. */
	clock_advance(MINUTE);
	process(r, put_script(r, "helper", "#!/bin/sh\n"
	    "head -c 1000000 /dev/zero >&2\n" PRINT_KEYS));
	fetch(r);
	assert_keys(r, "AKIAPROC");
}

static void
test_a_process_that_cannot_be_started(void **state)
{
	struct aws_rig *r = *state;

	process(r, "/nowhere/helper --x");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH,
	    "helper cannot be started: No such file");
	clock_advance(MINUTE);
	process(r, "no-such-helper-anywhere");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "cannot be started: No such file");
	clock_advance(MINUTE);
	process(r, "helper 'open");
	fetch(r);
	assert_no_keys(r, ERROR_AUTH, "a quote in it is open");
}

static void
assert_words(const char *text, const char *want)
{
	char **words = aws_words_split(text), got[256] = "";

	if (words == NULL) {
		assert_null(want);
		return;
	}
	assert_non_null(want);
	for (char **w = words; *w != NULL; w++) {
		strcat(got, "<");
		strcat(got, *w);
		strcat(got, ">");
	}
	assert_string_equal(got, want);
	free(words);
}

static void
test_words_of_a_command(void **state)
{
	(void)state;
	assert_words("a  b\tc ", "<a><b><c>");
	assert_words("'a b' \"c d\"e'f'", "<a b><c def>");
	assert_words("a\\ b \"\\\"x\\\\ \\y\" '\\'", "<a b><\"x\\ \\y><\\>");
	assert_words("'' \"\" x", "<><><x>");
	assert_words("$(x) | y > z; &", "<$(x)><|><y><>><z;><&>");
	assert_words("a b c d e f g h", "<a><b><c><d><e><f><g><h>");
	assert_words("", NULL);
	assert_words("  \n", NULL);
	assert_words("a 'b", NULL);
	assert_words("a \"b\\\"", NULL);
	assert_words("a \\", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		aws_test(test_keys_of_the_environment),
		aws_test(test_half_a_pair_in_the_environment_is_an_error),
		aws_test(test_keys_of_the_files),
		aws_test(test_imds_shows_its_token),
		aws_test(test_imds_without_tokens_is_asked_the_old_way),
		aws_test(test_imds_of_the_old_way_can_be_forbidden),
		aws_test(
		    test_imds_one_hop_too_far_hangs_and_is_asked_the_old_way),
		aws_test(test_imds_that_hangs_later_is_an_error),
		aws_test(test_imds_with_a_code_that_is_no_success),
		aws_test(test_imds_without_a_role),
		aws_test(test_imds_whose_token_ended_gives_a_new_one_once),
		aws_test(test_imds_tries_as_often_as_it_is_told),
		aws_test(test_imds_that_says_nonsense),
		aws_test(test_container_by_relative_uri),
		aws_test(test_container_token_is_read_from_its_file_each_time),
		aws_test(test_container_hosts_that_are_allowed),
		aws_test(test_container_that_fails_is_tried_three_times),
		aws_test(test_a_role_for_keys),
		aws_test(test_a_role_that_is_refused),
		aws_test(test_sts_that_fails_is_tried_three_times),
		aws_test(test_sts_with_another_clock),
		aws_test(test_a_role_by_a_role_by_the_instance),
		aws_test(test_a_role_for_a_web_identity),
		aws_test(test_sts_that_says_nonsense),
		aws_test(test_a_process_that_prints_keys),
		aws_test(test_a_process_that_fails_tells_why),
		aws_test(test_a_process_that_prints_nonsense),
		aws_test(test_a_process_that_hangs_is_killed),
		aws_test(test_a_process_that_prints_without_end_is_killed),
		aws_test(test_a_process_that_cannot_be_started),
		cmocka_unit_test(test_words_of_a_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
