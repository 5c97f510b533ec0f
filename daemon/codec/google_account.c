#include "codec/google_account.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json.h"
#include "codec/google_json.h"

#define CODE		"google_credentials"
#define UNIVERSE	"googleapis.com"

static int
no_good(struct error *err, const char *member, const char *why)
{
	error_set(err, ERROR_AUTH, CODE, "%s %s", member, why);
	return -EINVAL;
}

/* ---- members ---- */

/* Into *ret, a word; or NULL when it is not there. */
static int
may_have(const json_t *o, const char *name, char **ret, struct error *err)
{
	const json_t *v = json_object_get(o, name);
	struct slice s = google_json_slice(o, name);

	if (v == NULL || json_is_null(v) || (json_is_string(v) && s.n == 0))
		return 0;
	if (!google_is_word(s))
		return no_good(err, name,
		    "is no string, or has blanks or odd characters in it");
	*ret = xstrndup(s.p, s.n);
	return 0;
}

static int
must_have(const json_t *o, const char *name, char **ret, struct error *err)
{
	if (may_have(o, name, ret, err) < 0)
		return -EINVAL;
	return *ret != NULL ? 0 : no_good(err, name, "is missing");
}

static int
may_have_secret(const json_t *o, const char *name, struct secret **ret,
    struct error *err)
{
	const json_t *v = json_object_get(o, name);
	struct slice s = google_json_slice(o, name);

	if (v == NULL || json_is_null(v) || (json_is_string(v) && s.n == 0))
		return 0;
	if (!google_is_word(s))
		return no_good(err, name,
		    "is no string, or has blanks or odd characters in it");
	*ret = secret_new(s.p, s.n);
	return 0;
}

static int
must_have_secret(const json_t *o, const char *name, struct secret **ret,
    struct error *err)
{
	if (may_have_secret(o, name, ret, err) < 0)
		return -EINVAL;
	return *ret != NULL ? 0 : no_good(err, name, "is missing");
}

/* ---- service_account ---- */

static int
parse_service(const json_t *o, struct google_account *a, struct error *err)
{
	struct error why;

	a->kind = GOOGLE_ACCOUNT_SERVICE;
	if (must_have(o, "client_email", &a->email, err) < 0 ||
	    may_have(o, "private_key_id", &a->key_id, err) < 0 ||
	    may_have(o, "project_id", &a->project, err) < 0)
		return -EINVAL;
	if (google_json_slice(o, "private_key").n == 0)
		return no_good(err, "private_key", "is missing");
	a->key = jwt_key_new(google_json_slice(o, "private_key"), &why);
	return a->key != NULL ? 0 : no_good(err, "private_key:", why.text);
}

/* ---- authorized_user ---- */

static int
parse_user(const json_t *o, struct google_account *a, struct error *err)
{
	a->kind = GOOGLE_ACCOUNT_USER;
	if (must_have(o, "client_id", &a->client_id, err) < 0 ||
	    must_have_secret(o, "client_secret", &a->client_secret, err) < 0 ||
	    must_have_secret(o, "refresh_token", &a->refresh_token, err) < 0 ||
	    may_have(o, "token_uri", &a->token_url, err) < 0 ||
	    may_have(o, "account", &a->email, err) < 0)
		return -EINVAL;
	if (a->token_url == NULL)
		a->token_url = xstrdup(GOOGLE_TOKEN_URL);
	return 0;
}

/* ---- external_account ---- */

/* RFC 9110, 5.6.2, and no ':' in it. */
static bool
is_header_name(const char *s)
{
	return google_is_word(slice_of(s)) &&
	    strpbrk(s, "\"(),/:;<=>?@[\\]{}") == NULL;
}

static bool
is_header_value(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || (unsigned char)s.p[i] > '~')
			return false;
	return s.p != NULL;
}

static int
parse_headers(const json_t *o, struct google_subject *s, struct error *err)
{
	json_t *headers = json_object_get(o, "headers"), *v;
	const char *name;

	json_object_foreach(headers, name, v) {
		struct slice value = { json_string_value(v),
			json_string_length(v) };

		if (s->nheaders == GOOGLE_HEADERS_MAX)
			return no_good(err, "credential_source.headers",
			    "are more than 8");
		if (!is_header_name(name) || !is_header_value(value))
			return no_good(err, "credential_source.headers",
			    "have one that cannot be sent in HTTP");
		s->headers[s->nheaders].name = xstrdup(name);
		s->headers[s->nheaders++].value = secret_new(value.p, value.n);
	}
	return 0;
}

static int
parse_format(const json_t *o, struct google_subject *s, struct error *err)
{
	const json_t *format = json_object_get(o, "format");
	const char *type = google_json_string(format, "type");

	if (*type == '\0' || strcmp(type, "text") == 0)
		return 0;
	if (strcmp(type, "json") != 0)
		return no_good(err, "credential_source.format.type",
		    "is neither text nor json");
	return must_have(format, "subject_token_field_name", &s->field, err);
}

/* A path may have blanks in it. */
static int
parse_file(const json_t *o, struct google_subject *s, struct error *err)
{
	const char *file = google_json_string(o, "file");

	if (*file == '\0')
		return 0;
	if (s->url != NULL)
		return no_good(err, "credential_source",
		    "has both a file and a url");
	s->file = xstrdup(file);
	return 0;
}

static int
parse_subject(const json_t *o, struct google_subject *s, struct error *err)
{
	if (!json_is_object(o))
		return no_good(err, "credential_source", "is missing");
	if (json_object_get(o, "environment_id") != NULL)
		return no_good(err, "credential_source.environment_id",
		    "asks for AWS as identity, which is not supported: use a "
		    "file or a url");
	if (json_object_get(o, "executable") != NULL)
		return no_good(err, "credential_source.executable",
		    "is not supported: use a file or a url");
	if (json_object_get(o, "certificate") != NULL)
		return no_good(err, "credential_source.certificate",
		    "is not supported: use a file or a url");
	if (may_have(o, "url", &s->url, err) < 0 ||
	    parse_file(o, s, err) < 0 || parse_headers(o, s, err) < 0 ||
	    parse_format(o, s, err) < 0)
		return -EINVAL;
	return s->file != NULL || s->url != NULL ? 0 :
	    no_good(err, "credential_source", "has neither a file nor a url");
}

static int
parse_external(const json_t *o, struct google_account *a, struct error *err)
{
	a->kind = GOOGLE_ACCOUNT_EXTERNAL;
	if (must_have(o, "audience", &a->audience, err) < 0 ||
	    must_have(o, "subject_token_type", &a->subject_type, err) < 0 ||
	    must_have(o, "token_url", &a->token_url, err) < 0 ||
	    may_have(o, "client_id", &a->client_id, err) < 0 ||
	    may_have_secret(o, "client_secret", &a->client_secret, err) < 0 ||
	    may_have(o, "workforce_pool_user_project", &a->user_project,
	    err) < 0)
		return -EINVAL;
	return parse_subject(json_object_get(o, "credential_source"),
	    &a->subject, err);
}

/* ---- whom to become ---- */

static char *
email_of(const char *url)
{
	static const char before[] = "/serviceAccounts/";
	const char *p = strstr(url, before);

	if (p == NULL)
		return xstrdup("a service account");
	p += sizeof(before) - 1;
	return xstrndup(p, strcspn(p, ":/?"));
}

static int
parse_lifetime(const json_t *o, struct google_account *a, struct error *err)
{
	const json_t *v = json_object_get(json_object_get(o,
	    "service_account_impersonation"), "token_lifetime_seconds");
	uint64_t n;

	if (v == NULL)
		return 0;
	/* google-auth, external_account.py. */
	if (!google_json_number(v, &n) || n < 600 || n > 43200)
		return no_good(err, "service_account_impersonation."
		    "token_lifetime_seconds", "is not from 600 to 43200");
	a->lifetime_s = (unsigned)n;
	return 0;
}

static int
parse_delegates(const json_t *o, struct google_account *a, struct error *err)
{
	const json_t *array = json_object_get(o, "delegates");
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	if (json_array_size(array) == 0)
		return 0;
	for (size_t i = 0; i < json_array_size(array); i++) {
		const json_t *v = json_array_get(array, i);

		if (!json_is_string(v))
			return no_good(err, "delegates", "are no strings");
		buffer_add_char(&b, i == 0 ? '[' : ',');
		json_add_string(&b, (struct slice){ json_string_value(v),
		    json_string_length(v) });
	}
	buffer_add_char(&b, ']');
	a->delegates = buffer_dup(&b);
	return 0;
}

static int
parse_becoming(const json_t *o, struct google_account *a, struct error *err)
{
	if (may_have(o, "service_account_impersonation_url", &a->become_url,
	    err) < 0)
		return -EINVAL;
	if (a->become_url == NULL)
		return 0;
	a->become_email = email_of(a->become_url);
	if (parse_delegates(o, a, err) < 0)
		return -EINVAL;
	return parse_lifetime(o, a, err);
}

/* ---- the whole ---- */

static int
check_universe(const json_t *o, struct error *err)
{
	const char *domain = google_json_string(o, "universe_domain");

	return *domain == '\0' || strcmp(domain, UNIVERSE) == 0 ? 0 :
	    no_good(err, "universe_domain",
	    "is not googleapis.com: other clouds are not supported");
}

/* The kinds that stand for themselves; also inside an impersonated one. */
static int
parse_kind(const json_t *o, struct google_account *a, struct error *err)
{
	const char *type = google_json_string(o, "type");

	if (check_universe(o, err) < 0)
		return -EINVAL;
	if (strcmp(type, "service_account") == 0)
		return parse_service(o, a, err);
	if (strcmp(type, "authorized_user") == 0)
		return parse_user(o, a, err);
	if (strcmp(type, "external_account") == 0)
		return parse_external(o, a, err);
	if (*type == '\0')
		return no_good(err, "type", "is missing: this is no file of "
		    "credentials");
	return no_good(err, "type", "is none of service_account, "
	    "authorized_user, external_account, impersonated_service_account");
}

static int
parse_impersonated(const json_t *o, struct google_account *a,
    struct error *err)
{
	const json_t *source = json_object_get(o, "source_credentials");

	if (check_universe(o, err) < 0)
		return -EINVAL;
	if (!json_is_object(source))
		return no_good(err, "source_credentials", "is missing");
	if (json_object_get(source, "service_account_impersonation_url") !=
	    NULL)
		return no_good(err, "source_credentials",
		    "impersonate somebody, too: use delegates instead");
	if (parse_kind(source, a, err) < 0 || parse_becoming(o, a, err) < 0)
		return -EINVAL;
	return a->become_url != NULL ? 0 : no_good(err,
	    "service_account_impersonation_url", "is missing");
}

static int
parse(const json_t *o, struct google_account *a, struct error *err)
{
	int r;

	if (strcmp(google_json_string(o, "type"),
	    "impersonated_service_account") == 0)
		r = parse_impersonated(o, a, err);
	else
		r = parse_kind(o, a, err);
	if (r == 0 && a->kind == GOOGLE_ACCOUNT_EXTERNAL &&
	    a->become_url == NULL)
		r = parse_becoming(o, a, err);
	if (r == 0)
		r = may_have(o, "quota_project_id", &a->quota_project, err);
	return r;
}

int
google_account_parse(struct slice json, struct google_account *ret,
    struct error *err)
{
	json_t *o;
	int r;

	*ret = (struct google_account){ .lifetime_s = GOOGLE_LIFETIME_S };
	o = google_json_open(json, ERROR_AUTH, CODE, "it", err);
	if (o == NULL)
		return -EINVAL;
	r = parse(o, ret, err);
	google_json_close(o);
	if (r < 0)
		google_account_done(ret);
	return r;
}

static void
subject_done(struct google_subject *s)
{
	free(s->file);
	free(s->url);
	free(s->field);
	for (size_t i = 0; i < s->nheaders; i++) {
		free(s->headers[i].name);
		secret_free(s->headers[i].value);
	}
}

void
google_account_done(struct google_account *a)
{
	free(a->email);
	free(a->key_id);
	jwt_key_free(a->key);
	free(a->client_id);
	secret_free(a->client_secret);
	secret_free(a->refresh_token);
	free(a->token_url);
	free(a->audience);
	free(a->subject_type);
	free(a->user_project);
	subject_done(&a->subject);
	free(a->become_url);
	free(a->become_email);
	free(a->delegates);
	free(a->project);
	free(a->quota_project);
	*a = (struct google_account){ .kind = GOOGLE_ACCOUNT_NONE };
}
