#include "codec/aws_answer.h"

#include <jansson.h>

#include "base/buffer.h"

void
aws_answer_done(struct aws_answer *a)
{
	secret_free(a->secret_key);
	secret_free(a->token);
	*a = (struct aws_answer){ .expires_us = 0 };
}

static int
missing(struct error *err, const char *what)
{
	error_set(err, ERROR_PROTOCOL, "aws_answer", "the answer has no "
	    "usable %s", what);
	return -EPROTO;
}

/* ---- the parts ---- */

static bool
is_visible(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] > '~')
			return false;
	return true;
}

int
aws_answer_from_parts(struct slice access_key, struct slice secret_key,
    struct slice token, struct aws_answer *ret, struct error *err)
{
	*ret = (struct aws_answer){ .expires_us = 0 };
	if (access_key.n == 0 || access_key.n > AWS_ACCESS_KEY_MAX ||
	    !is_visible(access_key))
		return missing(err, "access key");
	if (secret_key.n == 0)
		return missing(err, "secret access key");
	if (!is_visible(token))
		return missing(err, "session token");
	memcpy(ret->access_key, access_key.p, access_key.n);
	ret->secret_key = secret_new(secret_key.p, secret_key.n);
	if (token.n != 0)
		ret->token = secret_new(token.p, token.n);
	return 0;
}

/* ---- JSON ---- */

static struct slice
member(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return (struct slice){ json_string_value(v), json_string_length(v) };
}

/* jansson frees without wiping. */
static void
forget(const json_t *o, const char *name)
{
	struct slice s = member(o, name);
	char *p = NULL;

	memcpy(&p, &s.p, sizeof(p));
	if (p != NULL)
		secret_wipe(p, s.n);
}

static json_t *
parse_json(struct slice text, struct error *err)
{
	json_error_t where;
	json_t *o = json_loadb(text.p != NULL ? text.p : "", text.n, 0, &where);

	if (o == NULL)	/* its text quotes the input */
		error_set(err, ERROR_PROTOCOL, "aws_answer",
		    "the answer is no JSON (line %d, column %d)", where.line,
		    where.column);
	else if (!json_is_object(o))
		error_set(err, ERROR_PROTOCOL, "aws_answer",
		    "the answer is no JSON object");
	else
		return o;
	json_decref(o);
	return NULL;
}

static int
take_json(json_t *o, const char *token_name, bool must_expire,
    struct aws_answer *ret, struct error *err)
{
	struct slice expires = member(o, "Expiration");
	int r = aws_answer_from_parts(member(o, "AccessKeyId"),
	    member(o, "SecretAccessKey"), member(o, token_name), ret, err);

	forget(o, "SecretAccessKey");
	forget(o, token_name);
	if (r == 0 && (must_expire || expires.n != 0) &&
	    aws_time_parse(expires, &ret->expires_us) < 0)
		r = missing(err, "Expiration");
	if (r < 0)
		aws_answer_done(ret);
	return r;
}

int
aws_answer_from_process(struct slice json, struct aws_answer *ret,
    struct error *err)
{
	json_t *o = parse_json(json, err);
	int r;

	*ret = (struct aws_answer){ .expires_us = 0 };
	if (o == NULL)
		return -EPROTO;
	if (json_integer_value(json_object_get(o, "Version")) != 1) {
		forget(o, "SecretAccessKey");
		forget(o, "SessionToken");
		r = missing(err, "\"Version\": 1");
	} else {
		r = take_json(o, "SessionToken", false, ret, err);
	}
	json_decref(o);
	return r;
}

int
aws_answer_from_endpoint(struct slice json, struct aws_answer *ret,
    struct error *err)
{
	json_t *o = parse_json(json, err);
	struct slice code;
	int r;

	*ret = (struct aws_answer){ .expires_us = 0 };
	if (o == NULL)
		return -EPROTO;
	code = member(o, "Code");
	if (code.n != 0 && !slice_is(code, "Success")) {
		error_set(err, ERROR_AUTH, "aws_code",
		    "the answer's Code is \"%.*s\", not Success",
		    (int)MIN(code.n, (size_t)64), code.p);
		r = -EACCES;
	} else {
		r = take_json(o, "Token", true, ret, err);
	}
	json_decref(o);
	return r;
}

/* ---- XML, as far as STS speaks it ---- */

static bool
ends_tag(char c)
{
	return c == '>' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* What stands in the first <name ...>...< ; p NULL when there is none. */
static struct slice
element(struct slice xml, const char *name)
{
	const char *at = xml.p, *end, *close;
	size_t n = strlen(name);

	if (xml.n == 0)
		return (struct slice){ NULL, 0 };
	end = xml.p + xml.n;
	while (at < end) {
		at = memchr(at, '<', (size_t)(end - at));
		if (at == NULL || (size_t)(end - at) < n + 2)
			break;
		at++;
		if (memcmp(at, name, n) != 0 || !ends_tag(at[n]))
			continue;
		at = memchr(at, '>', (size_t)(end - at));
		if (at == NULL || at[-1] == '/')
			break;
		at++;
		close = memchr(at, '<', (size_t)(end - at));
		if (close == NULL)
			break;
		while (at < close && ends_tag(*at) && *at != '>')
			at++;
		while (close > at && ends_tag(close[-1]) && close[-1] != '>')
			close--;
		return (struct slice){ at, (size_t)(close - at) };
	}
	return (struct slice){ NULL, 0 };
}

int
aws_answer_from_sts(struct slice xml, struct aws_answer *ret,
    struct error *err)
{
	/* None of the values ever holds what XML must escape. */
	int r = aws_answer_from_parts(element(xml, "AccessKeyId"),
	    element(xml, "SecretAccessKey"), element(xml, "SessionToken"), ret,
	    err);

	if (r == 0 && ret->token == NULL)
		r = missing(err, "session token");
	if (r == 0 && aws_time_parse(element(xml, "Expiration"),
	    &ret->expires_us) < 0)
		r = missing(err, "Expiration");
	if (r < 0)
		aws_answer_done(ret);
	return r;
}

static void
copy_element(struct slice xml, const char *name, char *out, size_t size)
{
	struct slice s = element(xml, name);
	size_t n = MIN(s.n, size - 1);

	if (n != 0)
		memcpy(out, s.p, n);
	out[n] = '\0';
}

void
aws_sts_error(struct slice xml, char name[AWS_NAME_BYTES],
    char message[AWS_MESSAGE_BYTES])
{
	copy_element(xml, "Code", name, AWS_NAME_BYTES);
	copy_element(xml, "Message", message, AWS_MESSAGE_BYTES);
}
