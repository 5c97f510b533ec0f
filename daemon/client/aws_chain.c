#include "client/aws_chain.h"

#include <stdio.h>

#include "base/alloc.h"

static void
finish(struct aws_chain *c, struct aws_answer *answer, const struct error *err)
{
	const struct aws_plan *plan = &c->plan;
	struct error whole = ERROR_INIT;

	c->running = false;
	if (answer != NULL) {
		buffer_printf(&c->report, "%s: used\n", plan->name);
		c->done(c->owner, answer, NULL);
		return;
	}
	buffer_printf(&c->report, "%s: %s\n", plan->name, err->text);
	error_set(&whole, err->class, err->code,
	    plan->source == AWS_SOURCE_IMDS && plan->nroles == 0 ?
	    "no AWS credentials are configured, and %s gives none: %s" :
	    "%s: %s", plan->name, err->text);
	c->done(c->owner, NULL, &whole);
}

/* The keys so far: enough, or for the next role. */
static void
proceed(struct aws_chain *c, struct aws_answer *answer)
{
	struct error err;

	if (c->next_role == c->plan.nroles)
		finish(c, answer, NULL);
	else if (aws_sts_start(&c->sts, &c->plan.roles[c->next_role++],
	    c->plan.sts_url, c->plan.sts_region, answer, &err) < 0)
		finish(c, NULL, &err);
}

static void
on_answer(void *owner, struct aws_answer *answer, const struct error *err)
{
	struct aws_chain *c = owner;

	if (err != NULL)
		finish(c, NULL, err);
	else
		proceed(c, answer);
}

static int
start_provider(struct aws_chain *c, struct error *err)
{
	struct aws_plan *plan = &c->plan;

	switch (plan->source) {
	case AWS_SOURCE_PROCESS:
		return aws_process_start(&c->process, plan->command, err);
	case AWS_SOURCE_WEB_IDENTITY:
		return aws_sts_start(&c->sts, &plan->identity, plan->sts_url,
		    plan->sts_region, NULL, err);
	case AWS_SOURCE_CONTAINER:
		return aws_container_start(&c->container, &plan->container,
		    err);
	case AWS_SOURCE_IMDS:
		return aws_imds_start(&c->imds, &plan->imds, false, err);
	case AWS_SOURCE_KEYS:
	case AWS_SOURCE_NONE:
		break;
	}
	BUG("no provider %d", (int)plan->source);
}

static int
make_plan(struct aws_chain *c, struct error *err)
{
	struct aws_settings settings;
	int r;

	aws_plan_done(&c->plan);
	buffer_clear(&c->report);
	c->next_role = 0;
	r = aws_settings_load(&settings, c->params, err);
	if (r < 0) {
		buffer_printf(&c->report, "%s\n", err->text);
		return r;
	}
	r = aws_plan_make(&c->plan, &settings, c->params, &c->report, err);
	aws_settings_done(&settings);
	return r;
}

void
aws_chain_start(struct aws_chain *c)
{
	struct aws_answer keys;
	struct error err;

	BUG_ON(c->running);
	if (make_plan(c, &err) < 0) {
		c->done(c->owner, NULL, &err);
		return;
	}
	c->running = true;
	if (c->plan.source == AWS_SOURCE_KEYS) {
		keys = c->plan.keys;
		c->plan.keys = (struct aws_answer){ .expires_us = 0 };
		proceed(c, &keys);
	} else if (start_provider(c, &err) < 0) {
		finish(c, NULL, &err);
	}
}

void
aws_chain_init(struct aws_chain *c, const struct aws_credentials_params *p,
    struct aws_clients *clients, aws_provider_fn *done, void *owner)
{
	*c = (struct aws_chain){ .params = p, .done = done, .owner = owner };
	buffer_init(&c->report);
	aws_process_init(&c->process, p->loop, on_answer, c);
	aws_imds_init(&c->imds, clients, on_answer, c);
	aws_container_init(&c->container, clients, on_answer, c);
	aws_sts_init(&c->sts, clients, on_answer, c);
}

void
aws_chain_done(struct aws_chain *c)
{
	aws_process_cancel(&c->process);
	aws_imds_cancel(&c->imds);
	aws_container_cancel(&c->container);
	aws_sts_cancel(&c->sts);
	aws_plan_done(&c->plan);
	buffer_done(&c->report);
	c->running = false;
}
