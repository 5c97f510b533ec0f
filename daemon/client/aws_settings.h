/*
 * aws_settings.h - what the environment and the profile files say; private to
 * aws_*.c.
 *
 * Read anew for each use, synchronously: small local files.  Where a key of a
 * profile stands in both files, that of the credentials file counts (as in
 * botocore).
 */
#ifndef BOT_CLIENT_AWS_SETTINGS_H
#define BOT_CLIENT_AWS_SETTINGS_H

#include "client/aws_credentials.h"
#include "codec/aws_profile.h"

struct aws_settings {
	aws_getenv_fn *getenv;
	char *profile;
	bool from_configuration;	/* our own named the profile or the file:
					   the environment has no say */
	char *config_path, *credentials_path;	/* NULL: there is no home */
	struct aws_profiles *config, *credentials;	/* NULL: not there */
};

/* 0, or -errno and *err: a file that cannot be read or understood, or that was
   named and is not there; a profile that was named and is in neither. */
int	aws_settings_load(struct aws_settings *,
	    const struct aws_credentials_params *, struct error *err);
void	aws_settings_done(struct aws_settings *);

/* NULL when unset or empty. */
const char *aws_settings_env(const struct aws_settings *, const char *name);
/* A profile's; NULL when not there or empty. */
const char *aws_settings_get(const struct aws_settings *, const char *profile,
	    const char *key);
bool	aws_settings_has_profile(const struct aws_settings *,
	    const char *profile);
/* "true" in any case, of the variable or else of the profile's key. */
bool	aws_settings_true(const struct aws_settings *, const char *variable,
	    const char *key);

/* Of the environment or the profile, without asking instance metadata; NULL.
   *ret_origin: where it was found. */
const char *aws_settings_region(const struct aws_settings *,
	    const char **ret_origin);
/* The URL of a service: overrides, then aws_endpoint_url(). */
int	aws_settings_endpoint(const struct aws_settings *, const char *service,
	    const char *region, char ret_url[AWS_URL_BYTES],
	    struct error *err);

#endif
