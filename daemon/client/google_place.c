#include "client/google_impl.h"

#include <stdlib.h>

#include "base/alloc.h"

#define WELL_KNOWN	"application_default_credentials.json"
#define METADATA_HOST	"metadata.google.internal"

/* NULL also for what is set to nothing. */
static const char *
get(const struct google_token_params *p, const char *name)
{
	const char *s = p->getenv != NULL ? p->getenv(name) : getenv(name);

	return s != NULL && *s != '\0' ? s : NULL;
}

static bool
is_there(const char *path)
{
	return access(path, F_OK) == 0 || errno != ENOENT;
}

/* Where gcloud leaves it; NULL when there is no home. */
static char *
well_known(const struct google_token_params *p)
{
	const char *folder = get(p, "CLOUDSDK_CONFIG"), *home = get(p, "HOME");

	if (folder != NULL)
		return xasprintf("%s/" WELL_KNOWN, folder);
	return home != NULL ?
	    xasprintf("%s/.config/gcloud/" WELL_KNOWN, home) : NULL;
}

/* The report is only printed to, which keeps it terminated. */
static char *
find_file(const struct google_token_params *p, struct buffer *report)
{
	const char *named = get(p, "GOOGLE_APPLICATION_CREDENTIALS");
	char *path;

	if (p->credentials_file != NULL)
		return xstrdup(p->credentials_file);
	if (named != NULL)
		return xstrdup(named);
	buffer_printf(report,
	    "GOOGLE_APPLICATION_CREDENTIALS: is not set\n");
	path = well_known(p);
	if (path != NULL && is_there(path))
		return path;
	if (path != NULL)
		buffer_printf(report, "%s: is not there\n", path);
	else
		buffer_printf(report, WELL_KNOWN ": neither CLOUDSDK_CONFIG "
		    "nor HOME is set\n");
	free(path);
	return NULL;
}

static bool
is_true(const char *s)
{
	return s != NULL && (strcasecmp(s, "true") == 0 ||
	    strcmp(s, "1") == 0);
}

int
google_place_find(struct google_place *ret,
    const struct google_token_params *p, struct buffer *report,
    struct error *err)
{
	const char *host = get(p, "GCE_METADATA_HOST");
	const char *project = get(p, "GOOGLE_CLOUD_PROJECT");

	*ret = (struct google_place){ .file = find_file(p, report) };
	if (project == NULL)
		project = get(p, "GCLOUD_PROJECT");
	if (project != NULL)
		ret->project = xstrdup(project);
	if (ret->file != NULL)
		return 0;
	if (is_true(get(p, "NO_GCE_CHECK"))) {
		buffer_printf(report,
		    "metadata server: NO_GCE_CHECK is true\n");
		error_set(err, ERROR_AUTH, "google_credentials",
		    "no Google credentials are configured");
		return -ENOENT;
	}
	ret->metadata_host = xstrdup(host != NULL ? host : METADATA_HOST);
	return 0;
}

void
google_place_done(struct google_place *p)
{
	free(p->file);
	free(p->metadata_host);
	free(p->project);
	*p = (struct google_place){ .file = NULL };
}
