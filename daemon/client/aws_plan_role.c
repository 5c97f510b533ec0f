/*
 * role_arn with source_profile or credential_source, through as many profiles
 * as it takes (botocore 1.43, AssumeRoleProvider).
 */
#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "client/aws_plan.h"

#define ROLE	"role"

static const char *
get(const struct aws_planner *p, const char *profile, const char *key)
{
	return aws_settings_get(p->settings, profile, key);
}

static bool
has_role(const struct aws_planner *p, const char *profile)
{
	return get(p, profile, "role_arn") != NULL &&
	    get(p, profile, "web_identity_token_file") == NULL;
}

static bool
has_keys(const struct aws_planner *p, const char *profile)
{
	return get(p, profile, "aws_access_key_id") != NULL;
}

static char *
copy(const struct aws_planner *p, const char *profile, const char *key)
{
	const char *value = get(p, profile, key);

	return value != NULL ? xstrdup(value) : NULL;
}

static void
add_role(struct aws_planner *p, const char *profile)
{
	p->plan->roles[p->plan->nroles++] = (struct aws_role){
		.arn = copy(p, profile, "role_arn"),
		.session = copy(p, profile, "role_session_name"),
		.external_id = copy(p, profile, "external_id"),
		.seconds = copy(p, profile, "duration_seconds"),
	};
}

/* They were found from the last to the first. */
static void
turn_round(struct aws_plan *plan)
{
	for (size_t i = 0, j = plan->nroles; i + 1 < j; i++) {
		struct aws_role r = plan->roles[i];

		plan->roles[i] = plan->roles[--j];
		plan->roles[j] = r;
	}
}

/* ---- the keys to begin with ---- */

static int
from_keys(struct aws_planner *p, const char *profile)
{
	int r = aws_plan_file_keys(p, AWS_FILE_CREDENTIALS, profile);

	return r != 0 ? r : aws_plan_file_keys(p, AWS_FILE_CONFIG, profile);
}

static int
from_profile(struct aws_planner *p, const char *profile)
{
	int r = aws_plan_web_identity(p, profile, false);

	if (r == 0)
		r = aws_plan_file_keys(p, AWS_FILE_CREDENTIALS, profile);
	if (r == 0)
		r = aws_plan_process(p, profile);
	if (r == 0)
		r = aws_plan_file_keys(p, AWS_FILE_CONFIG, profile);
	if (r == 0)
		r = aws_plan_fail(p, ROLE, "source_profile %s has no keys, "
		    "no role and no credential_process", profile);
	return r;
}

static int
from_source(struct aws_planner *p, const char *profile, const char *source)
{
	static const struct {
		const char *name;
		int (*fn)(struct aws_planner *);
	} sources[] = {
		{ "Environment", aws_plan_environment },
		{ "Ec2InstanceMetadata", aws_plan_imds },
		{ "EcsContainer", aws_plan_container },
	};

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		int r;

		if (strcasecmp(source, sources[i].name) != 0)
			continue;
		r = sources[i].fn(p);
		return r != 0 ? r : aws_plan_fail(p, ROLE,
		    "credential_source of profile %s is %s, which has nothing",
		    profile, source);
	}
	return aws_plan_fail(p, ROLE, "credential_source of profile %s is "
	    "none of Environment, Ec2InstanceMetadata, EcsContainer", profile);
}

/* ---- the way there ---- */

/* Adds the profile's role.  1 with *ret_next: go on with that profile; 1 with
   NULL: that was the last, and the keys are found. */
static int
follow(struct aws_planner *p, const char *profile, const char **ret_next)
{
	const char *next = get(p, profile, "source_profile");
	const char *source = get(p, profile, "credential_source");

	*ret_next = NULL;
	if (p->plan->nroles == AWS_ROLES_MAX)
		return aws_plan_fail(p, ROLE, "source_profile leads through "
		    "more than %d profiles, or in a circle", AWS_ROLES_MAX);
	if (get(p, profile, "mfa_serial") != NULL)
		return aws_plan_fail(p, ROLE, "profile %s has mfa_serial: a "
		    "daemon has nobody to ask for the code", profile);
	if ((next != NULL) == (source != NULL))
		return aws_plan_fail(p, ROLE, "profile %s has role_arn and %s "
		    "source_profile %s credential_source", profile,
		    next != NULL ? "both" : "neither",
		    next != NULL ? "and" : "nor");
	add_role(p, profile);
	if (source != NULL)
		return from_source(p, profile, source);
	if (!aws_settings_has_profile(p->settings, next))
		return aws_plan_fail(p, ROLE, "source_profile %s of profile "
		    "%s is not there", next, profile);
	if (strcmp(next, profile) == 0)
		return has_keys(p, profile) ? from_keys(p, profile) :
		    aws_plan_fail(p, ROLE, "profile %s is its own "
		    "source_profile, but has no keys", profile);
	if (has_keys(p, next) || !has_role(p, next))
		return from_profile(p, next);
	*ret_next = next;
	return 1;
}

int
aws_plan_role(struct aws_planner *p, const char *profile)
{
	struct aws_plan *plan = p->plan;
	const char *at = profile;
	char by[sizeof(plan->name)];
	int r;

	if (!has_role(p, profile))
		return aws_plan_skip(p, ROLE, "profile %s has no role_arn%s",
		    profile, get(p, profile, "role_arn") == NULL ? "" :
		    " without web_identity_token_file");
	do {
		r = follow(p, at, &at);
	} while (r > 0 && at != NULL);
	if (r < 0)
		return r;
	turn_round(plan);
	memcpy(by, plan->name, sizeof(by));
	return aws_plan_use(p, plan->source, "role %.100s by %.40s",
	    plan->roles[plan->nroles - 1].arn, by);
}
