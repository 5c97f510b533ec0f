/*
 * fuzz_config.c - any bytes as a configuration of one or two files.
 *
 * Beyond not crashing: every getter answers for every section, problems are
 * one clean line each, and what "show-config" prints for a good tree loads
 * again as the same tree.
 */
#include "base/alloc.h"
#include "config/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const struct config_key plain_keys[] = {
	{ "Text", CONFIG_STRING, "%i", NULL, 0, 100, CONFIG_RELOAD, "Text." },
	{ "Path", CONFIG_PATH, "%S/x", NULL, 0, 0, 0, NULL },
	{ "Flag", CONFIG_BOOL, "no", NULL, 0, 0, CONFIG_RELOAD, NULL },
	{ "Count", CONFIG_UNSIGNED, NULL, NULL, 1, 100000, 0, NULL },
	{ "Size", CONFIG_BYTES, "64M", NULL, 1, 0, 0, NULL },
	{ "Span", CONFIG_SPAN, "30s", NULL, 1, 0, 0, NULL },
	{ "Workers", CONFIG_UNSIGNED_RANGE, "1-4", NULL, 1, 512, 0, NULL },
	{ "Backoff", CONFIG_SPAN_RANGE, "2s-5min", NULL, 0, 0, 0, NULL },
	{ "Rate", CONFIG_RATE, NULL, NULL, 1, 0, 0, NULL },
	{ "Format", CONFIG_CHOICE, "raw", "raw|json|cloudevents", 0, 0, 0,
	    NULL },
	{ "Words", CONFIG_WORDS, NULL, NULL, 0, 0, 0, NULL },
	{ "Where", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0, NULL },
};
static const struct config_key redis_keys[] = {
	{ "Address", CONFIG_ADDRESS, NULL, NULL, 0, 0, CONFIG_REQUIRED, NULL },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    NULL },
};
static const struct config_key spool_keys[] = {
	{ "Directory", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_REQUIRED, NULL },
};
static const struct config_kind operator_kind = {
	"Operator", false, NULL, NULL, plain_keys, ARRAY_SIZE(plain_keys), NULL,
};
static const struct config_kind queue_kind = {
	"Queue", true, NULL, NULL, plain_keys, ARRAY_SIZE(plain_keys), NULL,
};
static const struct config_kind redis_kind = {
	"Queue", true, "Type", "redis", redis_keys, ARRAY_SIZE(redis_keys), NULL,
};
static const struct config_kind spool_kind = {
	"Queue", true, "Type", "spool", spool_keys, ARRAY_SIZE(spool_keys), NULL,
};
static const struct config_kind *const schema[] = {
	&operator_kind, &queue_kind, &redis_kind, &spool_kind, NULL
};

/* The second file begins behind this line. */
static const char marker[] = "\n#----\n";

static void
use_everything(const struct config *c, const struct config_section *s)
{
	uint64_t min, max;

	(void)config_string(s, "Text");
	(void)config_bool(s, "Flag");
	(void)config_unsigned(s, "Count");
	(void)config_bytes(s, "Size");
	(void)config_span_us(s, "Span");
	config_range(s, "Workers", &min, &max);
	BUG_ON(min < 1 || max > 512 || min > max);
	config_range(s, "Backoff", &min, &max);
	BUG_ON(min > max);
	BUG_ON(config_rate(s, "Rate") < 0);
	BUG_ON(config_choice(s, "Format") > 2);
	for (char *const *w = config_words(s, "Words"); *w != NULL; w++)
		BUG_ON(strlen(*w) > CONFIG_VALUE_MAX);
	BUG_ON(*config_string(s, "Path") != '/');
	BUG_ON(*config_origin(s, "Where") == '\0');
	if (config_problems(c) != 0)
		return;
	BUG_ON(strlen(config_label(s)) > CONFIG_LABEL_MAX);
	if (strcmp(s->name, "Queue") == 0 &&
	    strcmp(config_string(s, "Type"), "redis") == 0)
		BUG_ON(!config_is_set(s, "Address"));
}

static void
check_sections(const struct config *c)
{
	const struct config_section *s = NULL;

	while ((s = config_next(c, "Operator", s)) != NULL)
		use_everything(c, s);
	while ((s = config_next(c, "Queue", s)) != NULL) {
		use_everything(c, s);
		BUG_ON(config_compare(s, s) != CONFIG_SAME);
	}
}

static void
check_problems(const struct config *c)
{
	for (size_t i = 0; i < config_problems(c); i++) {
		const char *p = config_problem_text(c, i);

		for (size_t left = strlen(p), n; left != 0; left -= n, p += n) {
			n = utf8_sequence(p, left);
			BUG_ON(n == 0 || (unsigned char)*p < 0x20);
		}
	}
}

static void
check_round_trip(const struct config *c, bool origins)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const struct config_section *s = NULL;
	struct config *again;

	config_show(c, &b, origins);
	again = config_load_text(c->path, buffer_cstr(&b), schema);
	if (config_problems(again) != 0)
		BUG("%s\n%s", config_problem_text(again, 0), buffer_cstr(&b));
	BUG_ON(again->nsections != c->nsections);
	while ((s = config_next(c, "Queue", s)) != NULL)
		if (config_compare(s, config_find(again, "Queue",
		    config_label(s))) != CONFIG_SAME)
			BUG("not the same:\n%s", buffer_cstr(&b));
	s = config_next(c, "Operator", NULL);
	if (s != NULL)
		BUG_ON(config_compare(s, config_next(again, "Operator", NULL))
		    != CONFIG_SAME);
	config_unref(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice first = { (const char *)data, n }, second = { NULL, 0 };
	struct config *c = tree_new("/etc/fuzz.conf", schema);
	const char *cut = n != 0 ? memmem(data, n, marker,
	    sizeof(marker) - 1) : NULL;

	if (cut != NULL) {
		first.n = (size_t)(cut - first.p);
		second.p = cut + sizeof(marker) - 1;
		second.n = n - first.n - (sizeof(marker) - 1);
	}
	tree_read(c, "fuzz.conf", first);
	if (cut != NULL)
		tree_read(c, "fuzz.conf.d/more.conf", second);
	tree_finish(c);
	check_sections(c);
	check_problems(c);
	/* Longer ones may outgrow a line by quoting and specifiers. */
	if (config_problems(c) == 0 && n <= 1024) {
		check_round_trip(c, false);
		check_round_trip(c, true);
	}
	config_unref(c);
	return 0;
}
