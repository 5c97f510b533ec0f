#include "client/aws_settings.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"

static const char *
real_getenv(const char *name)
{
	return getenv(name);
}

const char *
aws_settings_env(const struct aws_settings *s, const char *name)
{
	const char *value = s->getenv(name);

	return value != NULL && *value != '\0' ? value : NULL;
}

/* ---- the files ---- */

/* NULL when there is no home to expand "~/" with. */
static char *
expand(const struct aws_settings *s, const char *path)
{
	const char *home;

	if (strncmp(path, "~/", 2) != 0)
		return xstrdup(path);
	home = aws_settings_env(s, "HOME");
	return home != NULL ? xasprintf("%s%s", home, path + 1) : NULL;
}

/* must: somebody named it. */
static int
read_profiles(enum aws_profile_file file, const char *path, bool must,
    struct aws_profiles **ret, struct error *err)
{
	struct error why = ERROR_INIT;
	struct secret *text;

	*ret = NULL;
	if (path == NULL)
		return 0;
	text = secret_read_file(path, &why);
	if (text == NULL) {
		if (strcmp(why.code, "secret_empty") == 0)
			return 0;
		if (!must && (strcmp(why.code, "ENOENT") == 0 ||
		    strcmp(why.code, "ENOTDIR") == 0 ||
		    strcmp(why.code, "EACCES") == 0))
			return 0;
		error_set(err, ERROR_AUTH, "aws_file", "%s", why.text);
		return -EINVAL;
	}
	*ret = aws_profiles_parse(file, secret_bytes(text), &why);
	secret_free(text);
	if (*ret == NULL) {
		error_set(err, ERROR_AUTH, "aws_file", "%s, %s", path,
		    why.text);
		return -EINVAL;
	}
	return 0;
}

int
aws_settings_load(struct aws_settings *s,
    const struct aws_credentials_params *p, struct error *err)
{
	const char *config, *credentials, *named;

	*s = (struct aws_settings){ .getenv = p->getenv };
	if (s->getenv == NULL)
		s->getenv = real_getenv;
	s->from_configuration = p->profile != NULL ||
	    p->credentials_file != NULL;
	config = p->config_file != NULL ? p->config_file :
	    aws_settings_env(s, "AWS_CONFIG_FILE");
	credentials = p->credentials_file != NULL ? p->credentials_file :
	    aws_settings_env(s, "AWS_SHARED_CREDENTIALS_FILE");
	named = p->profile != NULL ? p->profile :
	    aws_settings_env(s, "AWS_PROFILE");
	if (named == NULL)
		named = aws_settings_env(s, "AWS_DEFAULT_PROFILE");
	s->profile = xstrdup(named != NULL ? named : "default");
	s->config_path = expand(s, config != NULL ? config : "~/.aws/config");
	s->credentials_path = expand(s, credentials != NULL ? credentials :
	    "~/.aws/credentials");
	if (read_profiles(AWS_FILE_CONFIG, s->config_path,
	    p->config_file != NULL, &s->config, err) < 0 ||
	    read_profiles(AWS_FILE_CREDENTIALS, s->credentials_path,
	    p->credentials_file != NULL, &s->credentials, err) < 0)
		goto fail;
	if (named != NULL && !aws_settings_has_profile(s, named)) {
		error_set(err, ERROR_AUTH, "aws_profile",
		    "there is no profile \"%s\" in %s or %s", named,
		    s->config_path != NULL ? s->config_path : "~/.aws/config",
		    s->credentials_path != NULL ? s->credentials_path :
		    "~/.aws/credentials");
		goto fail;
	}
	return 0;
fail:
	aws_settings_done(s);
	return -EINVAL;
}

void
aws_settings_done(struct aws_settings *s)
{
	free(s->profile);
	free(s->config_path);
	free(s->credentials_path);
	aws_profiles_free(s->config);
	aws_profiles_free(s->credentials);
	*s = (struct aws_settings){ .getenv = s->getenv };
}

/* ---- asking ---- */

const char *
aws_settings_get(const struct aws_settings *s, const char *profile,
    const char *key)
{
	const char *value = aws_profiles_get(s->credentials,
	    AWS_SECTION_PROFILE, profile, key);

	if (value == NULL || *value == '\0')
		value = aws_profiles_get(s->config, AWS_SECTION_PROFILE,
		    profile, key);
	return value != NULL && *value != '\0' ? value : NULL;
}

bool
aws_settings_has_profile(const struct aws_settings *s, const char *profile)
{
	return aws_profiles_has(s->credentials, AWS_SECTION_PROFILE, profile) ||
	    aws_profiles_has(s->config, AWS_SECTION_PROFILE, profile);
}

bool
aws_settings_true(const struct aws_settings *s, const char *variable,
    const char *key)
{
	const char *value = aws_settings_env(s, variable);

	if (value == NULL && key != NULL)
		value = aws_settings_get(s, s->profile, key);
	return value != NULL && strcasecmp(value, "true") == 0;
}

const char *
aws_settings_region(const struct aws_settings *s, const char **ret_origin)
{
	static const char *const variables[] = { "AWS_REGION",
		"AWS_DEFAULT_REGION" };

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		const char *value = aws_settings_env(s, variables[i]);

		*ret_origin = variables[i];
		if (value != NULL)
			return value;
	}
	*ret_origin = "the profile's region";
	return aws_settings_get(s, s->profile, "region");
}

/* ---- endpoints ---- */

static const char *
configured_url(const struct aws_settings *s, const char *service)
{
	char name[64];
	const char *value, *services;
	size_t n;

	if (aws_settings_true(s, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
	    "ignore_configured_endpoint_urls"))
		return NULL;
	n = (size_t)snprintf(name, sizeof(name), "AWS_ENDPOINT_URL_%s",
	    service);
	BUG_ON(n >= sizeof(name));
	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	if ((value = aws_settings_env(s, name)) != NULL ||
	    (value = aws_settings_env(s, "AWS_ENDPOINT_URL")) != NULL)
		return value;
	services = aws_settings_get(s, s->profile, "services");
	if (services != NULL)
		value = aws_profiles_get_sub(s->config, AWS_SECTION_SERVICES,
		    services, service, "endpoint_url");
	if (value != NULL && *value != '\0')
		return value;
	return aws_settings_get(s, s->profile, "endpoint_url");
}

int
aws_settings_endpoint(const struct aws_settings *s, const char *service,
    const char *region, char ret_url[AWS_URL_BYTES], struct error *err)
{
	const char *url = configured_url(s, service);
	struct aws_endpoint_choice choice = {
		.service = service,
		.region = region,
		.fips = aws_settings_true(s, "AWS_USE_FIPS_ENDPOINT",
		    "use_fips_endpoint"),
		.dual_stack = aws_settings_true(s, "AWS_USE_DUALSTACK_ENDPOINT",
		    "use_dualstack_endpoint"),
	};

	if (url == NULL)
		return aws_endpoint_url(&choice, ret_url, err);
	if (strlen(url) >= AWS_URL_BYTES) {
		error_set(err, ERROR_REJECTED, "url",
		    "the endpoint URL of %s is too long", service);
		return -EINVAL;
	}
	memcpy(ret_url, url, strlen(url) + 1);
	return 0;
}
