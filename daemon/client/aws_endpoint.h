/*
 * aws_endpoint.h - where a service of a region is.  Pure.
 *
 *	https://SERVICE.REGION.amazonaws.com
 *	https://SERVICE-fips.REGION.amazonaws.com	FIPS (none of its own in
 *							the US government's)
 *	https://SERVICE.REGION.api.aws			dual stack
 *
 * China and the isolated partitions have suffixes of their own.  The region is
 * signed as it is written, whatever the URL.
 */
#ifndef BOT_CLIENT_AWS_ENDPOINT_H
#define BOT_CLIENT_AWS_ENDPOINT_H

#include "base/error.h"

#define AWS_URL_BYTES		512
#define AWS_REGION_BYTES	48

struct aws_endpoint_choice {
	const char *service;	/* "sqs", "sts" */
	const char *region;
	bool fips, dual_stack;
};

/* REJECTED for a region that no host name can hold, or one without such
   endpoints. */
int	aws_endpoint_url(const struct aws_endpoint_choice *,
	    char ret_url[AWS_URL_BYTES], struct error *err);
/* Letters, digits and '-'; short enough. */
bool	aws_region_is_valid(const char *);

#endif
