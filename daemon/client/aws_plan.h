/*
 * aws_plan.h - which provider counts, and what it is to be asked; private to
 * aws_*.c.  Reads settings and nothing else.
 */
#ifndef BOT_CLIENT_AWS_PLAN_H
#define BOT_CLIENT_AWS_PLAN_H

#include "client/aws_provider.h"
#include "client/aws_settings.h"

#define AWS_ROLES_MAX	5	/* source_profile of source_profile ... */

enum aws_source {
	AWS_SOURCE_NONE = 0,
	AWS_SOURCE_KEYS,		/* as they stand somewhere */
	AWS_SOURCE_PROCESS,
	AWS_SOURCE_WEB_IDENTITY,
	AWS_SOURCE_CONTAINER,
	AWS_SOURCE_IMDS,
};

struct aws_plan {
	enum aws_source source;
	char name[160];			/* "environment", "profile x: ..." */
	struct aws_answer keys;		/* KEYS */
	char *command;			/* PROCESS */
	struct aws_role identity;	/* WEB_IDENTITY */
	struct aws_container_params container;
	struct aws_imds_params imds;
	/* Then, first to last, with the keys of the one before. */
	struct aws_role roles[AWS_ROLES_MAX];
	size_t nroles;
	char sts_url[AWS_URL_BYTES], sts_region[AWS_REGION_BYTES];
};

/*
 * Adds a line to report for each provider that it passes over.  0, or -errno
 * and *err (AUTH, REJECTED), whose text is the last line too: something is
 * configured wrongly, or nothing is configured at all.
 */
int	aws_plan_make(struct aws_plan *, const struct aws_settings *,
	    const struct aws_credentials_params *, struct buffer *report,
	    struct error *err);
void	aws_plan_done(struct aws_plan *);

/* ---- shared by aws_plan*.c: 1 it is this one, 0 not configured, -errno ---- */

struct aws_planner {
	struct aws_plan *plan;
	const struct aws_settings *settings;
	const struct aws_credentials_params *params;
	struct buffer *report;
	struct error *err;
};

/* Passing over; returns 0. */
int	aws_plan_skip(struct aws_planner *, const char *provider,
	    const char *fmt, ...) _printf_(3, 4);
/* Giving up; returns -EINVAL. */
int	aws_plan_fail(struct aws_planner *, const char *provider,
	    const char *fmt, ...) _printf_(3, 4);
int	aws_plan_use(struct aws_planner *, enum aws_source, const char *fmt, ...)
	    _printf_(3, 4);

int	aws_plan_environment(struct aws_planner *);
int	aws_plan_file_keys(struct aws_planner *, enum aws_profile_file,
	    const char *profile);
int	aws_plan_process(struct aws_planner *, const char *profile);
int	aws_plan_web_identity(struct aws_planner *, const char *profile,
	    bool variables);
int	aws_plan_container(struct aws_planner *);
int	aws_plan_imds(struct aws_planner *);
int	aws_plan_role(struct aws_planner *, const char *profile);

/* Where instance metadata is, as the settings want it; -errno and *err when it
   is switched off. */
int	aws_imds_params_read(struct aws_imds_params *,
	    const struct aws_settings *, struct error *err);

#endif
