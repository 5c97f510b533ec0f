#include "client/aws_endpoint.h"

#include <stdio.h>

/* botocore 1.43, data/partitions.json; the first that fits counts. */
static const struct partition {
	const char *prefix;	/* of its regions */
	const char *suffix, *dual_stack_suffix;	/* NULL: has none */
	bool plain_is_fips;
} partitions[] = {
	{ "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn", false },
	{ "us-gov-", "amazonaws.com", "api.aws", true },
	{ "us-isob-", "sc2s.sgov.gov", NULL, false },
	{ "us-isof-", "csp.hci.ic.gov", NULL, false },
	{ "us-iso-", "c2s.ic.gov", NULL, false },
	{ "eu-isoe-", "cloud.adc-e.uk", NULL, false },
	{ "eusc-", "amazonaws.eu", NULL, false },
	{ "", "amazonaws.com", "api.aws", false },
};

static const struct partition *
partition_of(const char *region)
{
	const struct partition *p = partitions;

	while (strncmp(region, p->prefix, strlen(p->prefix)) != 0)
		p++;
	return p;
}

bool
aws_region_is_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= AWS_REGION_BYTES || s[0] == '-' || s[n - 1] == '-')
		return false;
	for (; *s != '\0'; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') &&
		    *s != '-')
			return false;
	return true;
}

int
aws_endpoint_url(const struct aws_endpoint_choice *c,
    char ret_url[AWS_URL_BYTES], struct error *err)
{
	const struct partition *p;
	const char *suffix;
	bool fips;

	if (!aws_region_is_valid(c->region)) {
		error_set(err, ERROR_REJECTED, "aws_region",
		    "\"%.60s\" is no region; one is like \"eu-west-1\"",
		    c->region);
		return -EINVAL;
	}
	p = partition_of(c->region);
	suffix = c->dual_stack ? p->dual_stack_suffix : p->suffix;
	if (suffix == NULL) {
		error_set(err, ERROR_REJECTED, "aws_region",
		    "%s has no dual-stack endpoints", c->region);
		return -EINVAL;
	}
	fips = c->fips && (c->dual_stack || !p->plain_is_fips);
	snprintf(ret_url, AWS_URL_BYTES, "https://%s%s.%s.%s", c->service,
	    fips ? "-fips" : "", c->region, suffix);
	return 0;
}
