/*
 * aws_rig.h - credentials against one scripted server that is all of AWS, on a
 * clock that stands still, with an environment and files of the test's own.
 *
 * Every secret in a test has "s3cr3t" in it.  The rig fails the test when one
 * shows up in a log line, an error or a report, and when a warning is logged
 * that the test did not expect.
 */
#ifndef BOT_TESTS_AWS_RIG_H
#define BOT_TESTS_AWS_RIG_H

#include "http_client_rig.h"

#include <time.h>

#include "base/log.h"
#include "client/aws_credentials.h"

#define START_US	(UINT64_C(1795449600) * USEC_PER_SEC)
#define START		"2026-11-23T16:00:00Z"
#define MINUTE		(60 * USEC_PER_SEC)
#define ENV_MAX		16
#define TEXTS_MAX	128

struct aws_rig {
	struct web *web;
	char dir[64];
	struct aws_credentials_params params;
	struct aws_credentials *c;
	struct aws_waiter waiter;
	unsigned called;
	struct error err;		/* of the last call; clear: keys */
	struct buffer said;		/* log lines, errors, reports */
	unsigned warnings, notices;
	char *texts[TEXTS_MAX];
	size_t ntexts;
};

static struct {
	char *name, *value;
} aws_env[ENV_MAX];

static inline const char *
aws_getenv(const char *name)
{
	for (size_t i = 0; i < ENV_MAX; i++)
		if (aws_env[i].name != NULL &&
		    strcmp(aws_env[i].name, name) == 0)
			return aws_env[i].value;
	return NULL;
}

/* NULL unsets. */
static inline void
set_env(const char *name, const char *value)
{
	size_t i;

	for (i = 0; i < ENV_MAX; i++)
		if (aws_env[i].name != NULL &&
		    strcmp(aws_env[i].name, name) == 0)
			break;
	for (size_t j = 0; i == ENV_MAX && j < ENV_MAX; j++)
		if (aws_env[j].name == NULL)
			i = j;
	assert_true(i < ENV_MAX);
	free(aws_env[i].name);
	free(aws_env[i].value);
	aws_env[i].name = value != NULL ? xstrdup(name) : NULL;
	aws_env[i].value = value != NULL ? xstrdup(value) : NULL;
}

/* Text that lives as long as the rig. */
static inline const char *
keep(struct aws_rig *r, char *text)
{
	assert_true(r->ntexts < TEXTS_MAX);
	return r->texts[r->ntexts++] = text;
}

/* A file of the rig's folder; its path. */
static inline const char *
put_file(struct aws_rig *r, const char *name, const char *text)
{
	const char *path = keep(r, xasprintf("%s/%s", r->dir, name));
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	return path;
}

static inline const char *
put_script(struct aws_rig *r, const char *name, const char *text)
{
	const char *path = put_file(r, name, text);

	assert_int_equal(chmod(path, 0700), 0);
	return path;
}

/* The server's base URL, with what follows. */
static inline const char *
at(struct aws_rig *r, const char *path)
{
	return keep(r, xasprintf("http://127.0.0.1:%u%s",
	    r->web->listener.bound.port, path));
}

/* ---- what the server says ---- */

static inline void
answer(struct aws_rig *r, const char *status, const char *body)
{
	web_script(r->web, keep(r, xasprintf("HTTP/1.1 %s\r\n"
	    "Content-Length: %zu\r\n\r\n%s", status, strlen(body), body)));
}

static inline void
answer_json(struct aws_rig *r, const char *key, const char *expires)
{
	answer(r, "200 OK", keep(r, xasprintf("{\"Code\":\"Success\","
	    "\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s3cr3t-%s\","
	    "\"Token\":\"t-s3cr3t-%s\",\"Expiration\":\"%s\"}", key, key, key,
	    expires)));
}

static inline void
answer_imds(struct aws_rig *r, const char *key, const char *expires)
{
	answer(r, "200 OK", "imds-s3cr3t");
	answer(r, "200 OK", "my-role");
	answer_json(r, key, expires);
}

static inline void
answer_sts(struct aws_rig *r, const char *key, const char *expires)
{
	answer(r, "200 OK", keep(r, xasprintf("<AssumeRoleResponse xmlns=\"x\">"
	    "<AssumeRoleResult><Credentials>\n <AccessKeyId>%s</AccessKeyId>"
	    "<SecretAccessKey>s3cr3t-%s</SecretAccessKey>\n"
	    "<SessionToken>t-s3cr3t-%s</SessionToken>"
	    "<Expiration>%s</Expiration></Credentials></AssumeRoleResult>"
	    "</AssumeRoleResponse>", key, key, key, expires)));
}

/* All of these lines were sent by us, in this order. */
static inline void
assert_asked(struct aws_rig *r, const char *const *lines, size_t n)
{
	const char *p = buffer_cstr(&r->web->all);

	for (size_t i = 0; i < n; i++) {
		const char *found = strstr(p, lines[i]);

		if (found == NULL)
			fail_msg("\"%s\" was not asked in:\n%s", lines[i],
			    buffer_cstr(&r->web->all));
		p = found + strlen(lines[i]);
	}
}

#define ASKED(r, ...) \
	do { \
		const char *const lines_[] = { __VA_ARGS__ }; \
		assert_asked(r, lines_, ARRAY_SIZE(lines_)); \
	} while (0)

/* ---- turning ---- */

static inline uint64_t
real_now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC +
	    (uint64_t)ts.tv_nsec / 1000;
}

#define WAIT(r, cond) \
	do { \
		uint64_t end_us_ = real_now_us() + \
		    DEADLINE_MS * USEC_PER_MSEC; \
		while (!(cond)) { \
			if (real_now_us() > end_us_) \
				fail_msg("not in time: %s", #cond); \
			assert_true(loop_turn((r)->web->loop, 2000) >= 0); \
		} \
	} while (0)

/* Lets things settle where nothing should come of it.  What must come of it
   has a WAIT: on a busy machine a peer of our own can be late as well. */
static inline void
idle(struct aws_rig *r)
{
	for (int i = 0, quiet = 0; i < 100 && quiet < 10; i++) {
		int ran = loop_turn(r->web->loop, 1000);

		assert_true(ran >= 0);
		quiet = ran == 0 ? quiet + 1 : 0;
	}
}

static inline void
advance(struct aws_rig *r, uint64_t us)
{
	clock_advance(us);
	idle(r);
}

/* ---- asking ---- */

static inline void
on_waiter(struct aws_waiter *w, const struct error *err)
{
	struct aws_rig *r = w->owner;

	r->called++;
	error_clear(&r->err);
	if (err != NULL) {
		assert_true(error_is_set(err));
		r->err = *err;
		buffer_printf(&r->said, "%s: %s\n", err->code, err->text);
	}
}

static inline void
make(struct aws_rig *r)
{
	if (r->c == NULL)
		r->c = aws_credentials_new(&r->params);
}

/* Waits for an end. */
static inline void
fetch(struct aws_rig *r)
{
	unsigned before = r->called;

	make(r);
	aws_credentials_wait(r->c, &r->waiter);
	assert_int_equal(r->called, before);	/* never at once */
	WAIT(r, r->called == before + 1);
	buffer_add_str(&r->said, aws_credentials_report(r->c));
}

static inline void
assert_keys(struct aws_rig *r, const char *access_key)
{
	const struct aws_keys *k;

	if (error_is_set(&r->err))
		fail_msg("%s: %s\n%s", r->err.code, r->err.text,
		    aws_credentials_report(r->c));
	k = aws_credentials_get(r->c);
	assert_non_null(k);
	assert_string_equal(k->access_key, access_key);
}

static inline void
assert_secret(const struct secret *s, const char *text)
{
	assert_non_null(s);
	assert_true(slice_is(secret_bytes(s), text));
}

static inline void
assert_no_keys(struct aws_rig *r, enum error_class class, const char *text)
{
	assert_null(aws_credentials_get(r->c));
	if (!error_is_set(&r->err))
		fail_msg("no error");
	if (strstr(r->err.text, text) == NULL || r->err.class != class)
		fail_msg("\"%s\" is not in %s \"%s\"", text,
		    error_class_name(r->err.class), r->err.text);
}

static inline void
assert_report(struct aws_rig *r, const char *line)
{
	if (strstr(aws_credentials_report(r->c), line) == NULL)
		fail_msg("\"%s\" is not in the report:\n%s", line,
		    aws_credentials_report(r->c));
}

/* ---- setting up ---- */

static inline void
aws_on_log(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	struct aws_rig *r = owner;

	(void)f;
	buffer_printf(&r->said, "%s\n", text);
	r->warnings += level <= LOG_LEVEL_WARNING;
	r->notices += level == LOG_LEVEL_NOTICE;
}

static inline int
aws_set_up(void **state)
{
	struct aws_rig *r = new0(struct aws_rig);
	void *web;

	assert_int_equal(web_set_up(&web), 0);
	clock_set_virtual(1000 * USEC_PER_SEC, START_US);
	r->web = web;
	snprintf(r->dir, sizeof(r->dir), "/tmp/test_aws.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	set_env("HOME", r->dir);
	set_env("AWS_CONFIG_FILE", keep(r, xasprintf("%s/config", r->dir)));
	set_env("AWS_SHARED_CREDENTIALS_FILE", keep(r,
	    xasprintf("%s/credentials", r->dir)));
	set_env("AWS_EC2_METADATA_DISABLED", "true");
	set_env("AWS_ENDPOINT_URL_STS", at(r, ""));
	r->params = (struct aws_credentials_params){
		.loop = r->web->loop, .resolver = r->web->resolver,
		.getenv = aws_getenv, .container_endpoint = at(r, ""),
	};
	aws_waiter_init(&r->waiter, on_waiter, r);
	log_tap(aws_on_log, r);
	log_tap_exclusive(true);
	log_set_level(LOG_LEVEL_DEBUG);
	*state = r;
	return 0;
}

static inline void
remove_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d != NULL)
		(void)closedir(d);
	(void)rmdir(path);
}

static inline int
aws_tear_down(void **state)
{
	struct aws_rig *r = *state;
	void *web = r->web;
	unsigned warnings;

	aws_waiter_cancel(&r->waiter);
	aws_credentials_unref(r->c);
	log_tap(NULL, NULL);
	log_tap_exclusive(false);
	log_set_level(LOG_LEVEL_INFO);
	clock_set_real();
	if (strstr(buffer_cstr(&r->said), "s3cr3t") != NULL)
		fail_msg("a secret was said:\n%s", buffer_cstr(&r->said));
	warnings = r->warnings;
	if (warnings != 0)
		fail_msg("warnings that nobody expected:\n%s",
		    buffer_cstr(&r->said));
	assert_int_equal(web_tear_down(&web), 0);
	for (size_t i = 0; i < ENV_MAX; i++)
		if (aws_env[i].name != NULL)
			set_env(aws_env[i].name, NULL);
	for (size_t i = 0; i < r->ntexts; i++)
		free(r->texts[i]);
	buffer_done(&r->said);
	remove_dir(r->dir);
	free(r);
	return 0;
}

static inline void
expect_warnings(struct aws_rig *r, unsigned n)
{
	assert_int_equal(r->warnings, n);
	r->warnings = 0;
}

#define aws_test(f) \
	cmocka_unit_test_setup_teardown(f, aws_set_up, aws_tear_down)

#endif
