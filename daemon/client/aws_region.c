#include "client/aws_impl.h"

#include <stdio.h>

#include "base/alloc.h"

const char *
aws_credentials_region(struct aws_credentials *c)
{
	struct aws_settings settings;
	const char *region = NULL, *origin;
	struct error err;

	if (c->params.region != NULL)
		return c->params.region;
	if (c->region[0] != '\0')
		return c->region;
	if (aws_settings_load(&settings, &c->params, &err) < 0)
		return NULL;
	region = aws_settings_region(&settings, &origin);
	if (region != NULL && aws_region_is_valid(region))
		snprintf(c->region, sizeof(c->region), "%s", region);
	aws_settings_done(&settings);
	return c->region[0] != '\0' ? c->region : NULL;
}

static void
on_region(void *owner, struct aws_answer *a, const struct error *err)
{
	struct aws_credentials *c = owner;
	struct error why;

	if (a != NULL) {
		memcpy(c->region, c->region_imds.region, sizeof(c->region));
		aws_credentials_wake(c, &c->region_waiters, NULL);
		return;
	}
	error_set(&why, err->class, err->code, "no AWS region is configured, "
	    "and instance metadata gives none: %s", err->text);
	aws_credentials_wake(c, &c->region_waiters, &why);
}

static int
ask_region(struct aws_credentials *c, struct error *err)
{
	struct aws_imds_params params;
	struct aws_settings settings;
	const char *region, *origin;
	struct error why;
	int r;

	if ((r = aws_settings_load(&settings, &c->params, err)) < 0)
		return r;
	region = aws_settings_region(&settings, &origin);
	if (region != NULL) {
		error_set(err, ERROR_REJECTED, "aws_region",
		    "\"%.60s\" (%s) is no region; one is like \"eu-west-1\"",
		    region, origin);
		r = -EINVAL;
	} else if ((r = aws_imds_params_read(&params, &settings, &why)) < 0) {
		error_set(err, ERROR_AUTH, "aws_region",
		    "no AWS region is configured, and %s", why.text);
	}
	aws_settings_done(&settings);
	return r < 0 ? r : aws_imds_start(&c->region_imds, &params, true, err);
}

static void
on_region_task(struct task *t)
{
	struct aws_credentials *c = t->owner;
	struct error err;

	if (c->region_imds.state != IMDS_IDLE)
		return;
	if (aws_credentials_region(c) != NULL)
		aws_credentials_wake(c, &c->region_waiters, NULL);
	else if (ask_region(c, &err) < 0)
		aws_credentials_wake(c, &c->region_waiters, &err);
}

void
aws_credentials_find_region(struct aws_credentials *c, struct aws_waiter *w)
{
	BUG_ON(list_linked(&w->link));
	list_push_back(&c->region_waiters, &w->link);
	task_schedule(c->params.loop, &c->region_task);
}

int
aws_credentials_endpoint(struct aws_credentials *c, const char *service,
    const char *region, char ret_url[AWS_URL_BYTES], struct error *err)
{
	struct aws_settings settings;
	int r = aws_settings_load(&settings, &c->params, err);

	if (r < 0)
		return r;
	r = aws_settings_endpoint(&settings, service, region, ret_url, err);
	aws_settings_done(&settings);
	return r;
}

void
aws_region_init(struct aws_credentials *c)
{
	aws_imds_init(&c->region_imds, &c->clients, on_region, c);
	task_init(&c->region_task, LOOP_DISPATCH, "aws.region", on_region_task,
	    c);
	list_init(&c->region_waiters);
}

void
aws_region_done(struct aws_credentials *c)
{
	aws_imds_cancel(&c->region_imds);
	task_cancel(&c->region_task);
	BUG_ON(!list_empty(&c->region_waiters));
}
