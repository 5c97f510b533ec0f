/*
 * aws_impl.h - what the files of aws_credentials share.
 *
 *	aws_credentials.c	the keys in use: refreshing, waiting
 *	aws_region.c		regions and endpoints
 *	aws_chain.c		one search: from settings to keys
 *	aws_plan.c  aws_plan_role.c	which provider counts
 *	aws_settings.c		the environment and the profile files
 *	aws_process.c  aws_imds.c  aws_container.c  aws_sts.c	the providers
 *	aws_clients.c		their HTTP clients
 */
#ifndef BOT_CLIENT_AWS_IMPL_H
#define BOT_CLIENT_AWS_IMPL_H

#include "client/aws_chain.h"

struct aws_credentials {
	unsigned refs;
	struct list link;		/* of all */
	struct aws_credentials_params params;
	struct aws_clients clients;

	struct aws_answer now;		/* secret_key NULL: none */
	struct aws_keys keys;		/* points into it */
	char source[160];
	uint64_t until_us;		/* given out until then; wall clock */
	bool from_metadata, rejected;

	struct aws_chain chain;
	struct task start_task;
	struct timer timer;		/* refresh, or the next try */
	unsigned failures;		/* in a row */
	uint64_t not_before_us;		/* monotonic: spaces tries out */
	struct list waiters;

	struct aws_imds region_imds;
	struct task region_task;
	char region[AWS_REGION_BYTES];
	struct list region_waiters;
};

/* Calls all of them. c may be gone after it. */
void	aws_credentials_wake(struct aws_credentials *, struct list *waiters,
	    const struct error *err);
void	aws_region_init(struct aws_credentials *);
void	aws_region_done(struct aws_credentials *);

#endif
