#include "codec/google_answer.h"

#include "codec/aws_answer.h"
#include "codec/google_json.h"

#define CODE		"google_answer"
#define LIFE_MAX_S	((uint64_t)30 * 24 * 3600)
#define TOKEN_LIKE	40

static json_t *
open_answer(struct slice json, struct error *err)
{
	return google_json_open(json, ERROR_PROTOCOL, CODE, "the answer", err);
}

static int
missing(struct error *err, const char *what)
{
	error_set(err, ERROR_PROTOCOL, CODE, "the answer has no usable %s",
	    what);
	return -EPROTO;
}

/* ---- tokens ---- */

void
google_answer_done(struct google_answer *a)
{
	secret_free(a->token);
	*a = (struct google_answer){ .life_us = 0 };
}

static int
take_token(const json_t *o, const char *name, struct google_answer *ret,
    struct error *err)
{
	struct slice s = google_json_slice(o, name);

	if (!google_is_word(s))
		return missing(err, name);
	ret->token = secret_new(s.p, s.n);
	return 0;
}

static int
take_oauth(const json_t *o, struct google_answer *ret, struct error *err)
{
	const json_t *life = json_object_get(o, "expires_in");
	uint64_t s;

	if (take_token(o, "access_token", ret, err) < 0)
		return -EPROTO;
	if (life == NULL || json_is_null(life))
		return 0;
	if (!google_json_number(life, &s) || s == 0)
		return missing(err, "expires_in");
	ret->life_us = MIN(s, LIFE_MAX_S) * USEC_PER_SEC;
	return 0;
}

int
google_answer_from_oauth(struct slice json, struct google_answer *ret,
    struct error *err)
{
	json_t *o = open_answer(json, err);
	int r;

	*ret = (struct google_answer){ .life_us = 0 };
	if (o == NULL)
		return -EPROTO;
	r = take_oauth(o, ret, err);
	google_json_close(o);
	if (r < 0)
		google_answer_done(ret);
	return r;
}

int
google_answer_from_iam(struct slice json, struct google_answer *ret,
    struct error *err)
{
	json_t *o = open_answer(json, err);
	int r;

	*ret = (struct google_answer){ .life_us = 0 };
	if (o == NULL)
		return -EPROTO;
	r = take_token(o, "accessToken", ret, err);
	/* RFC 3339, which is one of the spellings that it knows. */
	if (r == 0 && (aws_time_parse(google_json_slice(o, "expireTime"),
	    &ret->expires_us) < 0 || ret->expires_us == 0))
		r = missing(err, "expireTime");
	google_json_close(o);
	if (r < 0)
		google_answer_done(ret);
	return r;
}

/* ---- subject tokens ---- */

static struct slice
trim(struct slice s)
{
	while (s.n != 0 && (unsigned char)s.p[0] <= ' ')
		s = (struct slice){ s.p + 1, s.n - 1 };
	while (s.n != 0 && (unsigned char)s.p[s.n - 1] <= ' ')
		s.n--;
	return s;
}

static struct secret *
take_subject(struct slice s, const char *what, const char *name,
    struct error *err)
{
	if (google_is_word(s))
		return secret_new(s.p, s.n);
	error_set(err, ERROR_AUTH, "subject_token", s.n == 0 ?
	    "the subject token is missing%s%s" :
	    "the subject token has blanks or odd characters in it%s%s",
	    what, name);
	return NULL;
}

struct secret *
google_subject_token(struct slice text, const char *field, struct error *err)
{
	struct secret *token;
	json_t *o;

	if (field == NULL)
		return take_subject(trim(text), "", "", err);
	o = google_json_open(text, ERROR_AUTH, "subject_token",
	    "what holds the subject token", err);
	if (o == NULL)
		return NULL;
	token = take_subject(google_json_slice(o, field), ": member ", field,
	    err);
	google_json_close(o);
	return token;
}

/* ---- failures ---- */

static bool
is_token_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static size_t
token_like(const char *s)
{
	size_t n = 0;

	while (is_token_letter(s[n]))
		n++;
	return n;
}

static void
copy_printable(const char *s, char *out, size_t size)
{
	size_t n = 0, run;

	for (; *s != '\0' && n + 4 < size; s++) {
		run = token_like(s);
		if (run >= TOKEN_LIKE) {
			memcpy(out + n, "...", 3);
			n += 3;
			s += run - 1;
			continue;
		}
		for (; run > 1 && n + 4 < size; run--)
			out[n++] = *s++;
		out[n++] = (unsigned char)*s < ' ' || (unsigned char)*s > '~' ?
		    ' ' : *s;
	}
	while (n != 0 && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
}

/* google.rpc.ErrorInfo: more exact than the status. */
static const char *
reason_of(const json_t *e)
{
	const json_t *details = json_object_get(e, "details");

	for (size_t i = 0; i < json_array_size(details); i++) {
		const char *reason = google_json_string(
		    json_array_get(details, i), "reason");

		if (*reason != '\0')
			return reason;
	}
	return google_json_string(e, "status");
}

void
google_answer_error(struct slice json, char name[GOOGLE_NAME_BYTES],
    char message[GOOGLE_MESSAGE_BYTES])
{
	struct error ignored;
	json_t *o = open_answer(json, &ignored), *e;

	*name = *message = '\0';
	if (o == NULL)
		return;
	e = json_object_get(o, "error");
	if (json_is_object(e)) {
		copy_printable(reason_of(e), name, GOOGLE_NAME_BYTES);
		copy_printable(google_json_string(e, "message"), message,
		    GOOGLE_MESSAGE_BYTES);
	} else {
		copy_printable(google_json_string(o, "error"), name,
		    GOOGLE_NAME_BYTES);
		copy_printable(google_json_string(o, "error_description"),
		    message, GOOGLE_MESSAGE_BYTES);
	}
	google_json_close(o);
}

void
google_hide(char *text, struct slice secret)
{
	char *p = text;

	if (secret.n == 0)
		return;
	while ((p = memmem(p, strlen(p), secret.p, secret.n)) != NULL) {
		memset(p, '*', secret.n);
		p += secret.n;
	}
}

/* ---- Monitoring ---- */

static bool
take_point(const json_t *point, struct google_sample *ret)
{
	const json_t *value = json_object_get(point, "value");
	const json_t *n = json_object_get(value, "int64Value");
	struct google_sample s = { .known = true };

	if (n == NULL)
		n = json_object_get(value, "doubleValue");
	if (!google_json_number(n, &s.value) ||
	    aws_time_parse(google_json_slice(json_object_get(point,
	    "interval"), "endTime"), &s.at_us) < 0)
		return false;
	if (!ret->known || s.at_us > ret->at_us)
		*ret = s;
	return true;
}

int
google_answer_sample(struct slice json, struct google_sample *ret,
    struct error *err)
{
	json_t *o = open_answer(json, err);
	const json_t *series, *points;
	bool bad = false;

	*ret = (struct google_sample){ .known = false };
	if (o == NULL)
		return -EPROTO;
	series = json_object_get(o, "timeSeries");
	for (size_t i = 0; i < json_array_size(series); i++) {
		points = json_object_get(json_array_get(series, i), "points");
		for (size_t j = 0; j < json_array_size(points); j++)
			bad |= !take_point(json_array_get(points, j), ret);
	}
	google_json_close(o);
	/* One that is odd among others does no harm. */
	return bad && !ret->known ? missing(err, "points") : 0;
}
