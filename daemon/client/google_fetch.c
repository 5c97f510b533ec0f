#include "client/google_impl.h"

#include <stdio.h>

#include "base/alloc.h"

#define TIMEOUT_US	(10 * USEC_PER_SEC)
#define ANSWER_MAX	(64 * KIB)
#define METADATA	"/computeMetadata/v1"
#define METADATA_TOKEN	METADATA "/instance/service-accounts/default/token"
#define METADATA_PROJECT METADATA "/project/project-id"
#define AUDIENCE_IAM	"https://iamcredentials.googleapis.com/"

/* ---- the end ---- */

static void
clear(struct google_fetch *f)
{
	f->step = GOOGLE_IDLE;
	google_body_wipe(&f->body);
	secret_free(f->subject);
	f->subject = NULL;
	google_answer_done(&f->got);
	free(f->url);
	f->url = NULL;
}

static void
fail(struct google_fetch *f, const struct error *why)
{
	struct error whole = ERROR_INIT;

	if (f->source[0] == '\0') {
		/* The file is not even read, and why names it. */
		buffer_printf(&f->report, "%s\n", why->text);
		whole = *why;
	} else {
		buffer_printf(&f->report, "%s: %s\n", f->source, why->text);
		error_set(&whole, why->class, why->code, f->place.file == NULL ?
		    "no Google credentials are configured, and the %s gives "
		    "none: %s" : "%s: %s", f->source, why->text);
	}
	clear(f);
	f->done(f->owner, NULL, &whole);
}

static void
succeed(struct google_fetch *f)
{
	struct google_answer got = f->got;

	buffer_printf(&f->report, "%s: used\n", f->source);
	f->got = (struct google_answer){ .life_us = 0 };
	clear(f);
	f->done(f->owner, &got, NULL);
}

/* There is a token: enough, or to become somebody else with. */
static void
proceed(struct google_fetch *f)
{
	struct error err;

	if (f->account.become_url == NULL) {
		succeed(f);
		return;
	}
	google_form_become(&f->body, &f->account);
	if (google_ask(f, GOOGLE_BECOME, f->account.become_url, &err) < 0)
		fail(f, &err);
}

/* ---- answers ---- */

/* What a server said may repeat what it was asked. */
static void
hide_all(const struct google_fetch *f, char *text)
{
	const struct google_account *a = &f->account;

	if (a->client_secret != NULL)
		google_hide(text, secret_bytes(a->client_secret));
	if (a->refresh_token != NULL)
		google_hide(text, secret_bytes(a->refresh_token));
	if (f->subject != NULL)
		google_hide(text, secret_bytes(f->subject));
	if (f->got.token != NULL)
		google_hide(text, secret_bytes(f->got.token));
}

static const char *
advice(const struct google_fetch *f, unsigned status, const char *name)
{
	if (f->step == GOOGLE_METADATA_TOKEN && status == 404)
		return ": the instance has no service account";
	if (f->step == GOOGLE_BECOME && strcmp(name, "PERMISSION_DENIED") == 0)
		return " (needed: roles/iam.serviceAccountTokenCreator or "
		    "roles/iam.workloadIdentityUser on it)";
	if (f->step == GOOGLE_REFRESH && strcmp(name, "invalid_grant") == 0)
		return " (log in again: gcloud auth application-default login)";
	return "";
}

static void
refused(struct google_fetch *f, const struct http_response *r)
{
	char name[GOOGLE_NAME_BYTES] = "", message[GOOGLE_MESSAGE_BYTES] = "";
	enum error_class class = ERROR_AUTH;
	struct error err;

	if (r->status == 429)
		class = ERROR_THROTTLED;
	else if (http_may_retry(r, NULL) || r->status >= 500)
		class = ERROR_TRANSIENT;
	/* The text of other servers is not shown: nobody knows what is in it. */
	if (f->step != GOOGLE_SUBJECT)
		google_answer_error(r->body, name, message);
	hide_all(f, name);
	hide_all(f, message);
	error_set(&err, class, *name != '\0' ? name : "google_token",
	    "%s answers %u%s%s%s%s%s", f->request.url.host_header, r->status,
	    *name != '\0' ? " " : "", name, class == ERROR_AUTH ?
	    advice(f, r->status, name) : "", *message != '\0' ? ": " : "", message);
	fail(f, &err);
}

static bool
has_flavor(struct google_fetch *f, const struct http_response *r)
{
	struct error err;

	if (slice_is(http1_header(r->head, "Metadata-Flavor"), GOOGLE_FLAVOR))
		return true;
	error_set(&err, ERROR_AUTH, "google_metadata",
	    "%s answers, but without \"Metadata-Flavor: Google\": it is no "
	    "metadata server of Google", f->request.url.host_header);
	fail(f, &err);
	return false;
}

static void
on_project(struct google_fetch *f, const struct http_response *r)
{
	/* A token without a project is good, too. */
	if (r != NULL && r->status == 200 && r->body.n < sizeof(f->project) &&
	    slice_is(http1_header(r->head, "Metadata-Flavor"), GOOGLE_FLAVOR)) {
		size_t n = 0;

		while (n < r->body.n && (unsigned char)r->body.p[n] > ' ' &&
		    (unsigned char)r->body.p[n] <= '~')
			n++;
		snprintf(f->project, sizeof(f->project), "%.*s", (int)n,
		    n != 0 ? r->body.p : "");
	}
	succeed(f);
}

static void
ask_metadata(struct google_fetch *f, enum google_step step, const char *path)
{
	_cleanup_free_ char *url = xasprintf("http://%s%s",
	    f->place.metadata_host, path);
	struct error err;

	if (google_ask(f, step, url, &err) < 0)
		fail(f, &err);
}

static void
on_metadata(struct google_fetch *f)
{
	if (f->place.project == NULL && f->project[0] == '\0')
		ask_metadata(f, GOOGLE_METADATA_PROJECT, METADATA_PROJECT);
	else
		succeed(f);
}

static void
exchange(struct google_fetch *f)
{
	struct error err;

	google_form_exchange(&f->body, &f->account, f->subject);
	if (google_ask(f, GOOGLE_EXCHANGE, f->account.token_url, &err) < 0)
		fail(f, &err);
}

static int
take_answer(struct google_fetch *f, struct slice body, struct error *err)
{
	google_answer_done(&f->got);
	if (f->step == GOOGLE_BECOME)
		return google_answer_from_iam(body, &f->got, err);
	return google_answer_from_oauth(body, &f->got, err);
}

static void
on_answer(struct google_fetch *f, const struct http_response *r)
{
	struct error err, why;

	if (f->step == GOOGLE_METADATA_TOKEN && !has_flavor(f, r))
		return;
	if (r->status != 200) {
		refused(f, r);
		return;
	}
	if (f->step == GOOGLE_SUBJECT) {
		f->subject = google_subject_token(r->body,
		    f->account.subject.field, &why);
		if (f->subject != NULL) {
			exchange(f);
			return;
		}
	} else if (take_answer(f, r->body, &why) == 0) {
		if (f->step == GOOGLE_METADATA_TOKEN)
			on_metadata(f);
		else if (f->step == GOOGLE_BECOME)
			succeed(f);
		else
			proceed(f);
		return;
	}
	error_set(&err, why.class, why.code, "%s: %s",
	    f->request.url.host_header, why.text);
	fail(f, &err);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct google_fetch *f = q->owner;
	struct error copy;

	if (f->step == GOOGLE_METADATA_PROJECT) {
		on_project(f, r);
	} else if (err != NULL) {
		copy = *err;
		fail(f, &copy);
	} else {
		on_answer(f, r);
	}
}

/* ---- the first step of each kind ---- */

static void
start_service(struct google_fetch *f)
{
	const char *audience = f->account.become_url != NULL ? AUDIENCE_IAM :
	    f->params->audience;
	struct error err;

	f->got.token = google_sign(&f->account, audience, &f->got.life_us,
	    &err);
	if (f->got.token == NULL)
		fail(f, &err);
	else
		proceed(f);
}

static void
start_user(struct google_fetch *f)
{
	struct error err;

	google_form_refresh(&f->body, &f->account);
	if (google_ask(f, GOOGLE_REFRESH, f->account.token_url, &err) < 0)
		fail(f, &err);
}

static void
start_external(struct google_fetch *f)
{
	const struct google_subject *s = &f->account.subject;
	struct secret *text;
	struct error err, why;

	if (s->url != NULL) {
		if (google_ask(f, GOOGLE_SUBJECT, s->url, &err) < 0)
			fail(f, &err);
		return;
	}
	text = secret_read_file(s->file, &why);
	if (text == NULL) {
		error_set(&err, ERROR_AUTH, "subject_token", "%s", why.text);
		fail(f, &err);
		return;
	}
	f->subject = google_subject_token(secret_bytes(text), s->field, &why);
	secret_free(text);
	if (f->subject != NULL) {
		exchange(f);
		return;
	}
	error_set(&err, ERROR_AUTH, "subject_token", "%s: %s", s->file,
	    why.text);
	fail(f, &err);
}

/* ---- the file ---- */

static void
forget_file(struct google_fetch *f)
{
	google_account_done(&f->account);
	secret_free(f->text);
	f->text = NULL;
}

static void
name_source(struct google_fetch *f)
{
	const struct google_account *a = &f->account;
	char own[160];

	switch (a->kind) {
	case GOOGLE_ACCOUNT_SERVICE:
		snprintf(own, sizeof(own), "service account %s", a->email);
		break;
	case GOOGLE_ACCOUNT_USER:
		snprintf(own, sizeof(own), "user %s",
		    a->email != NULL ? a->email : "(gcloud)");
		break;
	case GOOGLE_ACCOUNT_EXTERNAL:
		snprintf(own, sizeof(own), "workload identity federation");
		break;
	case GOOGLE_ACCOUNT_NONE:
		snprintf(own, sizeof(own), "metadata server");
		break;
	}
	snprintf(f->source, sizeof(f->source), "%s%s%s", own,
	    a->become_email != NULL ? " as " : "",
	    a->become_email != NULL ? a->become_email : "");
}

/* Parses it only when it is not what it was. */
static int
load_file(struct google_fetch *f, struct error *err)
{
	struct secret *text;
	struct error why;

	text = secret_read_file(f->place.file, &why);
	if (text == NULL) {
		forget_file(f);
		error_set(err, ERROR_AUTH, "google_credentials", "%s",
		    why.text);
		return -EINVAL;
	}
	if (f->account.kind != GOOGLE_ACCOUNT_NONE &&
	    secret_equal(text, f->text)) {
		secret_free(text);
	} else {
		forget_file(f);
		f->text = text;
		snprintf(f->source, sizeof(f->source), "%s", f->place.file);
		if (google_account_parse(secret_bytes(text), &f->account,
		    err) < 0)
			return -EINVAL;
	}
	name_source(f);
	return 0;
}

static void
start_kind(struct google_fetch *f)
{
	switch (f->account.kind) {
	case GOOGLE_ACCOUNT_SERVICE:
		start_service(f);
		break;
	case GOOGLE_ACCOUNT_USER:
		start_user(f);
		break;
	case GOOGLE_ACCOUNT_EXTERNAL:
		start_external(f);
		break;
	case GOOGLE_ACCOUNT_NONE:
		BUG("an account of no kind");
	}
}

void
google_fetch_start(struct google_fetch *f)
{
	struct error err;

	BUG_ON(google_fetch_busy(f));
	google_place_done(&f->place);
	buffer_clear(&f->report);
	f->source[0] = '\0';
	if (google_place_find(&f->place, f->params, &f->report, &err) < 0) {
		forget_file(f);
		f->done(f->owner, NULL, &err);
		return;
	}
	if (f->place.file == NULL) {
		forget_file(f);
		name_source(f);
		ask_metadata(f, GOOGLE_METADATA_TOKEN,
		    METADATA_TOKEN "?scopes=" GOOGLE_SCOPE_CLOUD);
	} else if (load_file(f, &err) < 0) {
		fail(f, &err);
	} else {
		start_kind(f);
	}
}

void
google_fetch_init(struct google_fetch *f, const struct google_token_params *p,
    google_fetch_fn *done, void *owner)
{
	*f = (struct google_fetch){ .params = p, .done = done,
		.owner = owner };
	buffer_init(&f->report);
	buffer_init(&f->body);
	f->request.add_headers = google_add_headers;
	f->request.on_done = on_done;
	f->request.owner = f;
	f->request.timeout_us = TIMEOUT_US;
	f->request.max_response = ANSWER_MAX;
	f->request.resend = true;	/* asking twice harms nobody */
}

void
google_fetch_done(struct google_fetch *f)
{
	http_cancel(&f->request);
	clear(f);
	forget_file(f);
	google_place_done(&f->place);
	buffer_done(&f->report);
	http_client_free(f->direct);
	http_client_free(f->proxied);
}
