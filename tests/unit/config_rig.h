/*
 * config_rig.h - the sections and helpers of the configuration's tests.
 */
#ifndef TESTS_CONFIG_RIG_H
#define TESTS_CONFIG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/alloc.h"
#include "config/internal.h"

static const struct config_key operator_keys[] = {
	{ "Name", CONFIG_STRING, "%i", NULL, 0, 0, 0, "The name." },
	{ "Status", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0, "Where." },
	{ "State", CONFIG_PATH, "%S", NULL, 0, 0, 0, "Directory." },
	{ "DrainTimeout", CONFIG_SPAN, "30s", NULL, USEC_PER_MSEC, 0,
	    CONFIG_RELOAD, "How long - at most." },
	{ "LogLevel", CONFIG_CHOICE, "info", "error|warning|info|debug", 0, 0,
	    CONFIG_RELOAD, "What is logged." },
};
static const struct config_key pool_keys[] = {
	{ "Workers", CONFIG_UNSIGNED_RANGE, "1-4", NULL, 1, 512, CONFIG_RELOAD,
	    "Min and max." },
	{ "Exec", CONFIG_WORDS, NULL, NULL, 0, 0, 0, "Program." },
	{ "Environment", CONFIG_WORDS, "A=1 B=2", NULL, 0, 6, 0, "Variables." },
	{ "MemoryMax", CONFIG_BYTES, NULL, NULL, MIB, 0, 0, "Memory." },
	{ "Strict", CONFIG_BOOL, "yes", NULL, 0, 0, 0, "Strict." },
	{ "Quota", CONFIG_PERCENT, NULL, NULL, 1, 400, 0, "Share." },
};
static const struct config_key queue_keys[] = {
	{ "Pool", CONFIG_STRING, NULL, NULL, 0, 0, 0, "Pool." },
	{ "MaxAttempts", CONFIG_UNSIGNED, "5", NULL, 1, 1000, CONFIG_RELOAD,
	    "Attempts." },
	{ "Backoff", CONFIG_SPAN_RANGE, "2s-5min", NULL, USEC_PER_MSEC,
	    86400 * USEC_PER_SEC, CONFIG_RELOAD, "Delay." },
	{ "RateLimit", CONFIG_RATE, NULL, NULL, 1, 1000000, CONFIG_RELOAD,
	    "Messages." },
	{ "MaxBytes", CONFIG_BYTES, "256K", NULL, 1, 64 * MIB, 0, "Size." },
};
static const struct config_key spool_keys[] = {
	{ "Path", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_REQUIRED, "Where." },
};
static const struct config_key redis_keys[] = {
	{ "Address", CONFIG_ADDRESS, NULL, NULL, 0, 0, CONFIG_REQUIRED,
	    "Server." },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "Secret." },
	{ "Mode", CONFIG_CHOICE, "stream", "stream|list|sidekiq", 0, 0, 0,
	    "Mode." },
	{ "Key", CONFIG_STRING, NULL, NULL, 1, 8, 0, "Key." },
};
static const struct config_key rabbit_keys[] = {
	{ "Address", CONFIG_ADDRESS, "localhost:5672", NULL, 0, 0, 0,
	    "Broker." },
};

#define KIND(name, labelled, variant_key, variant, keys, help) \
	{ name, labelled, variant_key, variant, keys, ARRAY_SIZE(keys), help }

static const struct config_kind operator_kind =
    KIND("Operator", false, NULL, NULL, operator_keys, "The \\daemon.");
static const struct config_kind pool_kind =
    KIND("Pool", true, NULL, NULL, pool_keys, NULL);
static const struct config_kind queue_kind =
    KIND("Queue", true, NULL, NULL, queue_keys, ".starts with a point");
static const struct config_kind spool_kind =
    KIND("Queue", true, "Type", "spool", spool_keys, "Directory.");
static const struct config_kind redis_kind =
    KIND("Queue", true, "Type", "redis", redis_keys, "Redis.");
static const struct config_kind rabbit_kind =
    KIND("Queue", true, "Type", "rabbitmq", rabbit_keys, NULL);

static const struct config_kind *const schema[] = {
	&operator_kind, &pool_kind, &queue_kind, &spool_kind, &redis_kind,
	&rabbit_kind, NULL
};

static inline struct config *
load(const char *text)
{
	return config_load_text("/etc/bot-operator/shop.conf", text, schema);
}

/* Fails with the problems in view when there are any. */
static inline struct config *
load_good(const char *text)
{
	struct config *c = load(text);

	for (size_t i = 0; i < config_problems(c); i++)
		print_error("%s\n", config_problem_text(c, i));
	assert_int_equal(config_problems(c), 0);
	return c;
}

#define F	"/etc/bot-operator/shop.conf"

/* Exactly these problems, in this order. */
static inline void
expect_problems(const char *text, const char *const *want, size_t n)
{
	struct config *c = load(text);

	for (size_t i = 0; i < config_problems(c) && i < n; i++)
		assert_string_equal(config_problem_text(c, i), want[i]);
	if (config_problems(c) > n)
		print_error("also: %s\n", config_problem_text(c, n));
	assert_int_equal(config_problems(c), n);
	config_unref(c);
}

#define EXPECT(text, ...) \
	do { \
		static const char *const want_[] = { __VA_ARGS__ }; \
		expect_problems(text, want_, ARRAY_SIZE(want_)); \
	} while (0)

/* Values must not hang on who runs the tests. */
static inline void
config_rig_environment(void)
{
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
}

#endif
