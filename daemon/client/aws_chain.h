/*
 * aws_chain.h - one search for keys, from settings to answer; private to
 * aws_*.c.
 */
#ifndef BOT_CLIENT_AWS_CHAIN_H
#define BOT_CLIENT_AWS_CHAIN_H

#include "client/aws_plan.h"

struct aws_chain {
	const struct aws_credentials_params *params;
	aws_provider_fn *done;
	void *owner;
	struct aws_plan plan;		/* of the last search */
	size_t next_role;
	bool running;
	struct buffer report;		/* a line for each provider */
	struct aws_process process;
	struct aws_imds imds;
	struct aws_container container;
	struct aws_sts sts;
};

/* Params and clients are the owner's and outlive it. */
void	aws_chain_init(struct aws_chain *, const struct aws_credentials_params *,
	    struct aws_clients *, aws_provider_fn *done, void *owner);
/* Cancels. */
void	aws_chain_done(struct aws_chain *);
/* To be called from the loop: done may come before it returns. */
void	aws_chain_start(struct aws_chain *);

#endif
