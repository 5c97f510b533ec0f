#include "client/aws_plan.h"

#include <stdio.h>

#include "base/alloc.h"

#define ENVIRONMENT	"environment"
#define CONTAINER	"container"
#define IMDS		"instance metadata"
#define CONTAINER_HOST	"http://169.254.170.2"
#define IMDS_V4		"http://169.254.169.254"
#define IMDS_V6		"http://[fd00:ec2::254]"
#define IMDS_TIMEOUT_US	USEC_PER_SEC

/* ---- saying so ---- */

static void _printf_(3, 0)
add_line(struct buffer *b, const char *provider, const char *fmt, va_list ap)
{
	buffer_printf(b, "%s: ", provider);
	buffer_vprintf(b, fmt, ap);
	buffer_printf(b, "\n");		/* with a NUL behind it */
}

int
aws_plan_skip(struct aws_planner *p, const char *provider, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(p->report, provider, fmt, ap);
	va_end(ap);
	return 0;
}

int
aws_plan_fail(struct aws_planner *p, const char *provider, const char *fmt, ...)
{
	char text[sizeof(p->err->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_set(p->err, ERROR_AUTH, "aws_configuration", "%s: %s", provider,
	    text);
	buffer_printf(p->report, "%s\n", p->err->text);
	return -EINVAL;
}

int
aws_plan_use(struct aws_planner *p, enum aws_source source, const char *fmt,
    ...)
{
	va_list ap;

	p->plan->source = source;
	va_start(ap, fmt);
	vsnprintf(p->plan->name, sizeof(p->plan->name), fmt, ap);
	va_end(ap);
	return 1;
}

/* ---- keys as they stand ---- */

int
aws_plan_environment(struct aws_planner *p)
{
	const struct aws_settings *s = p->settings;
	const char *key = aws_settings_env(s, "AWS_ACCESS_KEY_ID");
	const char *secret = aws_settings_env(s, "AWS_SECRET_ACCESS_KEY");
	const char *token = aws_settings_env(s, "AWS_SESSION_TOKEN");
	const char *expires = aws_settings_env(s, "AWS_CREDENTIAL_EXPIRATION");
	struct aws_answer *keys = &p->plan->keys;
	struct error why;

	if (key == NULL)
		return aws_plan_skip(p, ENVIRONMENT,
		    "AWS_ACCESS_KEY_ID is not set");
	if (secret == NULL)
		return aws_plan_fail(p, ENVIRONMENT, "AWS_ACCESS_KEY_ID is "
		    "set, AWS_SECRET_ACCESS_KEY is not");
	if (token == NULL)
		token = aws_settings_env(s, "AWS_SECURITY_TOKEN");
	if (aws_answer_from_parts(slice_of(key), slice_of(secret),
	    slice_of(token), keys, &why) < 0)
		return aws_plan_fail(p, ENVIRONMENT, "%s", why.text);
	if (expires != NULL &&
	    aws_time_parse(slice_of(expires), &keys->expires_us) < 0)
		return aws_plan_fail(p, ENVIRONMENT,
		    "AWS_CREDENTIAL_EXPIRATION is no time");
	return aws_plan_use(p, AWS_SOURCE_KEYS, ENVIRONMENT);
}

int
aws_plan_file_keys(struct aws_planner *p, enum aws_profile_file file,
    const char *profile)
{
	const struct aws_settings *s = p->settings;
	bool config = file == AWS_FILE_CONFIG;
	const struct aws_profiles *from = config ? s->config : s->credentials;
	const char *path = config ? s->config_path : s->credentials_path;
	const char *provider = config ? "config file" : "credentials file";
	const char *key, *secret, *token;
	struct error why;

	if (path == NULL)
		return aws_plan_skip(p, provider, "HOME is not set");
	if (from == NULL)
		return aws_plan_skip(p, provider, "%s is not there, not "
		    "readable or empty", path);
	key = aws_profiles_get(from, AWS_SECTION_PROFILE, profile,
	    "aws_access_key_id");
	secret = aws_profiles_get(from, AWS_SECTION_PROFILE, profile,
	    "aws_secret_access_key");
	token = aws_profiles_get(from, AWS_SECTION_PROFILE, profile,
	    "aws_session_token");
	if (token == NULL)
		token = aws_profiles_get(from, AWS_SECTION_PROFILE, profile,
		    "aws_security_token");
	if (key == NULL)
		return aws_plan_skip(p, provider, "%s has no "
		    "aws_access_key_id for profile %s", path, profile);
	if (aws_answer_from_parts(slice_of(key), slice_of(secret),
	    slice_of(token), &p->plan->keys, &why) < 0)
		return aws_plan_fail(p, provider, "profile %s in %s: %s",
		    profile, path, why.text);
	return aws_plan_use(p, AWS_SOURCE_KEYS, "profile %s: keys in %s",
	    profile, path);
}

/* ---- a program, a web identity ---- */

int
aws_plan_process(struct aws_planner *p, const char *profile)
{
	const char *command = aws_settings_get(p->settings, profile,
	    "credential_process");

	if (command == NULL)
		return aws_plan_skip(p, "credential_process",
		    "profile %s has none", profile);
	p->plan->command = xstrdup(command);
	return aws_plan_use(p, AWS_SOURCE_PROCESS,
	    "profile %s: credential_process", profile);
}

static char *
copy_setting(struct aws_planner *p, const char *profile, const char *variable,
    const char *key)
{
	const char *value = NULL;

	if (variable != NULL)
		value = aws_settings_env(p->settings, variable);
	if (value == NULL)
		value = aws_settings_get(p->settings, profile, key);
	return value != NULL ? xstrdup(value) : NULL;
}

int
aws_plan_web_identity(struct aws_planner *p, const char *profile,
    bool variables)
{
	static const char provider[] = "web identity";
	struct aws_role *r = &p->plan->identity;

	r->token_file = copy_setting(p, profile,
	    variables ? "AWS_WEB_IDENTITY_TOKEN_FILE" : NULL,
	    "web_identity_token_file");
	if (r->token_file == NULL)
		return aws_plan_skip(p, provider,
		    "%sprofile %s has no web_identity_token_file", variables ?
		    "AWS_WEB_IDENTITY_TOKEN_FILE is not set and " : "",
		    profile);
	r->arn = copy_setting(p, profile, variables ? "AWS_ROLE_ARN" : NULL,
	    "role_arn");
	r->session = copy_setting(p, profile,
	    variables ? "AWS_ROLE_SESSION_NAME" : NULL, "role_session_name");
	if (r->arn == NULL)
		return aws_plan_fail(p, provider, "there is a token file, but "
		    "no role (%srole_arn of profile %s)", variables ?
		    "AWS_ROLE_ARN or " : "", profile);
	return aws_plan_use(p, AWS_SOURCE_WEB_IDENTITY,
	    "role %s by web identity", r->arn);
}

/* ---- container, instance ---- */

int
aws_plan_container(struct aws_planner *p)
{
	const struct aws_settings *s = p->settings;
	struct aws_container_params *c = &p->plan->container;
	const char *relative = aws_settings_env(s,
	    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = aws_settings_env(s,
	    "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *file = aws_settings_env(s,
	    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = aws_settings_env(s,
	    "AWS_CONTAINER_AUTHORIZATION_TOKEN");
	const char *host = p->params->container_endpoint;
	int n;

	if (relative == NULL && full == NULL)
		return aws_plan_skip(p, CONTAINER,
		    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and "
		    "AWS_CONTAINER_CREDENTIALS_FULL_URI are not set");
	if (relative != NULL && relative[0] != '/')
		return aws_plan_fail(p, CONTAINER,
		    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must start with /");
	n = snprintf(c->url, sizeof(c->url), "%s%s", relative == NULL ? "" :
	    host != NULL ? host : CONTAINER_HOST,
	    relative != NULL ? relative : full);
	if ((size_t)n >= sizeof(c->url))
		return aws_plan_fail(p, CONTAINER, "its URL is too long");
	if (file != NULL)
		c->token_file = xstrdup(file);
	else if (token != NULL)
		c->token = secret_new(token, strlen(token));
	return aws_plan_use(p, AWS_SOURCE_CONTAINER, CONTAINER);
}

static unsigned
small_number(const char *text, unsigned otherwise)
{
	uint64_t n;

	if (text == NULL || slice_to_u64(slice_of(text), &n) < 0 || n == 0)
		return otherwise;
	return (unsigned)MIN(n, (uint64_t)60);
}

int
aws_imds_params_read(struct aws_imds_params *m, const struct aws_settings *s,
    struct error *err)
{
	const char *endpoint, *mode;

	if (aws_settings_true(s, "AWS_EC2_METADATA_DISABLED", NULL)) {
		error_set(err, ERROR_AUTH, "imds_disabled",
		    "AWS_EC2_METADATA_DISABLED is true");
		return -EINVAL;
	}
	endpoint = aws_settings_env(s, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	if (endpoint == NULL)
		endpoint = aws_settings_get(s, s->profile,
		    "ec2_metadata_service_endpoint");
	mode = aws_settings_env(s, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
	if (mode == NULL)
		mode = aws_settings_get(s, s->profile,
		    "ec2_metadata_service_endpoint_mode");
	if (endpoint == NULL)
		endpoint = mode != NULL && (mode[0] == 'I' || mode[0] == 'i') &&
		    strchr(mode, '6') != NULL ? IMDS_V6 : IMDS_V4;
	if (strlen(endpoint) >= sizeof(m->endpoint)) {
		error_set(err, ERROR_REJECTED, "url",
		    "the endpoint of instance metadata is too long");
		return -EINVAL;
	}
	memcpy(m->endpoint, endpoint, strlen(endpoint) + 1);
	m->timeout_us = IMDS_TIMEOUT_US * small_number(aws_settings_env(s,
	    "AWS_METADATA_SERVICE_TIMEOUT"), 1);
	m->attempts = small_number(aws_settings_env(s,
	    "AWS_METADATA_SERVICE_NUM_ATTEMPTS"), 1);
	m->no_v1 = aws_settings_true(s, "AWS_EC2_METADATA_V1_DISABLED",
	    "ec2_metadata_v1_disabled");
	return 0;
}

int
aws_plan_imds(struct aws_planner *p)
{
	struct error why;

	if (aws_imds_params_read(&p->plan->imds, p->settings, &why) < 0)
		return aws_plan_skip(p, IMDS, "%s", why.text);
	return aws_plan_use(p, AWS_SOURCE_IMDS, IMDS);
}

/* ---- all of them, in order ---- */

static int
choose(struct aws_planner *p)
{
	const struct aws_settings *s = p->settings;
	const char *profile = s->profile;
	int r = 0;

	if (s->from_configuration)
		(void)aws_plan_skip(p, ENVIRONMENT, "has no say: the "
		    "configuration names a profile or a file");
	else
		r = aws_plan_environment(p);
	if (r == 0)
		r = aws_plan_role(p, profile);
	if (r == 0)
		r = aws_plan_web_identity(p, profile, !s->from_configuration);
	if (r == 0 && (aws_settings_get(s, profile, "sso_session") != NULL ||
	    aws_settings_get(s, profile, "sso_start_url") != NULL))
		(void)aws_plan_skip(p, "Identity Center", "profile %s wants a "
		    "person to log in, which a daemon cannot", profile);
	if (r == 0)
		r = aws_plan_file_keys(p, AWS_FILE_CREDENTIALS, profile);
	if (r == 0)
		r = aws_plan_process(p, profile);
	if (r == 0)
		r = aws_plan_file_keys(p, AWS_FILE_CONFIG, profile);
	if (r == 0)
		r = aws_plan_container(p);
	if (r == 0)
		r = aws_plan_imds(p);
	return r;
}

/* Roles are asked for there; without a region, at the old global one. */
static int
find_sts(struct aws_planner *p)
{
	struct aws_plan *plan = p->plan;
	const char *region = p->params->region, *origin;
	bool known;

	if (region == NULL)
		region = aws_settings_region(p->settings, &origin);
	known = region != NULL;
	if (!known)
		region = "us-east-1";
	if (aws_settings_endpoint(p->settings, "sts", region, plan->sts_url,
	    p->err) < 0 || !aws_region_is_valid(region)) {
		if (!error_is_set(p->err))
			error_set(p->err, ERROR_REJECTED, "aws_region",
			    "\"%.60s\" is no region", region);
		buffer_printf(p->report, "%s: %s\n", plan->name, p->err->text);
		return -EINVAL;
	}
	snprintf(plan->sts_region, sizeof(plan->sts_region), "%s", region);
	if (!known && strcmp(plan->sts_url,
	    "https://sts.us-east-1.amazonaws.com") == 0)
		snprintf(plan->sts_url, sizeof(plan->sts_url),
		    "https://sts.amazonaws.com");
	return 0;
}

int
aws_plan_make(struct aws_plan *plan, const struct aws_settings *s,
    const struct aws_credentials_params *params, struct buffer *report,
    struct error *err)
{
	struct aws_planner p = { .plan = plan, .settings = s,
		.params = params, .report = report, .err = err };
	int r;

	*plan = (struct aws_plan){ .source = AWS_SOURCE_NONE };
	error_clear(err);
	r = choose(&p);
	if (r == 0) {
		error_set(err, ERROR_AUTH, "aws_no_credentials",
		    "no AWS credentials are configured: no keys in the "
		    "environment or in profile %s, no role, no process, no "
		    "container, and instance metadata is switched off",
		    s->profile);
		r = -ENOENT;
	} else if (r > 0) {
		r = 0;
		if (plan->nroles != 0 || plan->source ==
		    AWS_SOURCE_WEB_IDENTITY)
			r = find_sts(&p);
	}
	if (r < 0)
		aws_plan_done(plan);
	return r;
}

void
aws_plan_done(struct aws_plan *plan)
{
	aws_answer_done(&plan->keys);
	if (plan->command != NULL)
		secret_wipe(plan->command, strlen(plan->command));
	free(plan->command);
	aws_role_done(&plan->identity);
	free(plan->container.token_file);
	secret_free(plan->container.token);
	for (size_t i = 0; i < plan->nroles; i++)
		aws_role_done(&plan->roles[i]);
	*plan = (struct aws_plan){ .source = AWS_SOURCE_NONE };
}
