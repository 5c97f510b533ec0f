/*
 * Credential files and answers of Google: what is accepted is complete and fit
 * for headers, what is refused leaves nothing behind, and no text holds what
 * looks like a token.
 */
#include "base/alloc.h"
#include "codec/google_account.h"
#include "codec/google_answer.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_account(struct slice in)
{
	struct error err = ERROR_INIT;
	struct google_account a;

	if (google_account_parse(in, &a, &err) < 0) {
		BUG_ON(err.class != ERROR_AUTH || a.kind != GOOGLE_ACCOUNT_NONE);
		return;
	}
	switch (a.kind) {
	case GOOGLE_ACCOUNT_SERVICE:
		BUG_ON(a.email == NULL || a.key == NULL);
		break;
	case GOOGLE_ACCOUNT_USER:
		BUG_ON(a.client_id == NULL || a.client_secret == NULL ||
		    a.refresh_token == NULL || a.token_url == NULL);
		break;
	case GOOGLE_ACCOUNT_EXTERNAL:
		BUG_ON(a.audience == NULL || a.subject_type == NULL ||
		    a.token_url == NULL ||
		    (a.subject.file == NULL) == (a.subject.url == NULL));
		break;
	case GOOGLE_ACCOUNT_NONE:
		BUG("accepted, but of no kind");
	}
	BUG_ON((a.become_url == NULL) != (a.become_email == NULL));
	BUG_ON(a.lifetime_s < 600 || a.lifetime_s > 43200);
	google_account_done(&a);
}

static void
check_token(const struct secret *token)
{
	struct slice s = secret_bytes(token);

	BUG_ON(s.n == 0);
	for (size_t i = 0; i < s.n; i++)
		BUG_ON(s.p[i] <= ' ' || s.p[i] > '~');
}

static void
check_answer(int r, struct google_answer *a, const struct error *err)
{
	if (r < 0) {
		BUG_ON(err->class != ERROR_PROTOCOL || a->token != NULL);
		return;
	}
	check_token(a->token);
	google_answer_done(a);
}

static void
check_subject(struct slice in, const char *field)
{
	struct error err = ERROR_INIT;
	struct secret *s = google_subject_token(in, field, &err);

	BUG_ON(s == NULL && err.class != ERROR_AUTH);
	if (s != NULL)
		check_token(s);
	secret_free(s);
}

static void
check_text(const char *s, size_t size)
{
	size_t n = strlen(s), run = 0;

	BUG_ON(n >= size);
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '_' || c == '-';

		BUG_ON(c < ' ' || c > '~');
		run = letter ? run + 1 : 0;
		BUG_ON(run >= 40);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { (const char *)data, size };
	char name[GOOGLE_NAME_BYTES], message[GOOGLE_MESSAGE_BYTES];
	struct error err = ERROR_INIT;
	struct google_sample sample;
	struct google_answer a;

	check_account(in);
	check_answer(google_answer_from_oauth(in, &a, &err), &a, &err);
	check_answer(google_answer_from_iam(in, &a, &err), &a, &err);
	check_subject(in, NULL);
	check_subject(in, "access_token");
	google_answer_error(in, name, message);
	check_text(name, sizeof(name));
	check_text(message, sizeof(message));
	if (google_answer_sample(in, &sample, &err) < 0)
		BUG_ON(err.class != ERROR_PROTOCOL);
	return 0;
}
