/*
 * aws_profile: what is read from each file of the corpus, as config and as
 * credentials; what is refused, and that nothing of it is repeated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "codec/aws_profile.h"

#define CORPUS	TEST_SOURCE_DIR "/tests/fuzz/corpus/aws_profile"

/* "name.key=value", sub-properties "name.key.sub=value", '|' for a newline. */
static void
on_property(void *arg, enum aws_section kind, const char *name,
    const char *key, const char *sub, const char *value)
{
	static const char *const kinds[] = { "", "", "services:", "sso:" };
	struct buffer *b = arg;

	buffer_printf(b, "%s%s%s.%s", buffer_len(b) != 0 ? "," : "",
	    kinds[kind], name, key);
	if (sub != NULL)
		buffer_printf(b, ".%s", sub);
	buffer_add_char(b, '=');
	for (; *value != '\0'; value++)
		buffer_add_char(b, *value == '\n' ? '|' : *value);
}

/* What was read, or the text of the error. */
static char *
dump(enum aws_profile_file file, struct slice text)
{
	struct error err = ERROR_INIT;
	struct buffer b = BUFFER_INIT;
	struct aws_profiles *p = aws_profiles_parse(file, text, &err);
	char *out;

	if (p == NULL)
		return xstrdup(err.text);
	aws_profiles_visit(p, on_property, &b);
	aws_profiles_free(p);
	out = buffer_dup(&b);
	buffer_done(&b);
	return out;
}

/* ---- the corpus ---- */

#define EARLY	"line 1: a property in front of the first section"
#define SAME		NULL	/* credentials say the same */

static const struct {
	const char *file, *config, *credentials;
} cases[] = {
	{ "11cd8328d88b2c5080756a1090abceaf087d8b18", EARLY, SAME },
	{ "2a09998d72f4dc2dfb21a20d285a9dab2efc5f0b", EARLY, SAME },
	{ "84a516841ba77a5b4648de2cd0dfcb30ea46dbb4", EARLY, SAME },
	{ "a5d8336f1bc6fbc70180b2926691f89300355aa2", EARLY, SAME },
	{ "adjacent_comment", "", SAME },
	{ "blank_lines", "foo.name=value", "profile foo.name=value" },
	{ "continuation_reseton_new_profile", "line 4: no '=' in it", SAME },
	{ "continued_property", "", "bar.name=value|-continued" },
	{ "continued_property_pound_comment", "",
	    "foo.name=value|-continued # Comment,"
	    "bar.name2=value2|-continued ; Comment" },
	{ "continued_property_trim", "", "foo.name=value|-continued" },
	{ "default_profile", "default.name=value",
	    "default.name2=value2,profile default.name=value" },
	{ "duplicate_profiles", "", "foo.name=value,foo.name2=value2" },
	{ "duplicate_properties", "", "foo.name=value,foo.name2=value2,"
	    "foo.name=value2,foo.name2=value" },
	{ "e700967c6b4f6efa44f1e1573e2ae868623800ec", EARLY, SAME },
	{ "early_property", EARLY, SAME },
	{ "empty_comment", "foo.name=value", "profile foo.name=value" },
	{ "empty_profile", "", SAME },
	{ "empty_profile_whitespace", "", SAME },
	{ "empty_property", "foobar.name=", "profile foobar.name=" },
	{ "empty_sub_property", "default.s3=,default.s3.name=", SAME },
	{ "equal_containing_property", "foo.name=val=ue",
	    "profile foo.name=val=ue" },
	{ "illegal_continuation1", "line 3: no '=' in it", SAME },
	{ "illegal_continuation2", "line 3: no '=' in it", SAME },
	{ "illegal_continuation3", "line 3: nothing in front of the '='",
	    SAME },
	{ "indented_crlf_bom", "default.aws_access_key_id=AKID,"
	    "default.aws_secret_access_key=s3cr3t,"
	    "my own.role_arn=arn:aws:iam::1:role/x,my own.services=local,"
	    "services:local.sqs=,"
	    "services:local.sqs.endpoint_url=http://127.0.0.1:4566,"
	    "sso:s.sso_region=x",
	    "default.aws_access_key_id=AKID,"
	    "default.aws_secret_access_key=s3cr3t,"
	    "profile \"my own\".role_arn=arn:aws:iam::1:role/x,"
	    "profile \"my own\".services=local,services local.sqs=,"
	    "services local.sqs.endpoint_url=http://127.0.0.1:4566,"
	    "sso-session s.sso_region=x" },
	{ "missing_assignment", "line 2: no '=' in it", SAME },
	{ "missing_bracket", "line 1: no ']' behind the section's name",
	    SAME },
	{ "missing_property_key", "line 2: nothing in front of the '='",
	    SAME },
	{ "mixed_comment", "foo.name=value", "profile foo.name=value" },
	{ "multi_sub_property", "default.s3=,default.s3.name=value,"
	    "default.s3.name2=value2", "profile default.s3=,"
	    "profile default.s3.name=value,profile default.s3.name2=value2" },
	{ "multiline_continued_property", "",
	    "baz.name=value|-continued|-and-continued" },
	{ "multiple_empty_profile", "", SAME },
	{ "multiple_profile", "foo.name=value,bar.name2=value2",
	    "profile foo.name=value,profile bar.name2=value2" },
	{ "multiple_property", "foo.name=value,foo.name2=value2",
	    "profile foo.name=value,profile foo.name2=value2" },
	{ "nul", "line 2: a NUL byte", SAME },
	{ "pound_comment", "foo.name=value", "profile foo.name=value" },
	{ "semicolon_comment", "foo.name=value", "profile foo.name=value" },
	{ "simple_property", "foo.name=value", "profile foo.name=value" },
	{ "sub_property", "foo.s3=,foo.s3.name=value",
	    "profile foo.s3=,profile foo.s3.name=value" },
	{ "tab_empty_profile", "", SAME },
	{ "trimmable_property", "foo.name=value", "profile foo.name=value" },
	{ "value_adjacent_comment", "", "foo.name=value; Adjacent semicolons,"
	    "foo.name2=value# Adjacent pound signs" },
};

static void
check_case(const char *name)
{
	_cleanup_free_ char *path = xasprintf(CORPUS "/%s", name),
	    *text = xcalloc(1, 4096), *config = NULL, *credentials = NULL;
	FILE *f = fopen(path, "rbe");
	size_t n, i = 0;

	assert_non_null(f);
	n = fread(text, 1, 4096, f);
	(void)fclose(f);
	while (i < ARRAY_SIZE(cases) && strcmp(cases[i].file, name) != 0)
		i++;
	if (i == ARRAY_SIZE(cases))
		fail_msg("%s: nothing is known of it", name);
	config = dump(AWS_FILE_CONFIG, (struct slice){ text, n });
	credentials = dump(AWS_FILE_CREDENTIALS, (struct slice){ text, n });
	if (strcmp(config, cases[i].config) != 0)
		fail_msg("%s: config: %s", name, config);
	if (strcmp(credentials, cases[i].credentials != SAME ?
	    cases[i].credentials : cases[i].config) != 0)
		fail_msg("%s: credentials: %s", name, credentials);
}

static void
test_every_file_of_the_corpus(void **state)
{
	struct dirent **names;
	int n = scandir(CORPUS, &names, NULL, alphasort);
	size_t seen = 0;

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			check_case(names[i]->d_name);
			seen++;
		}
		free(names[i]);
	}
	free(names);
	assert_int_equal(seen, ARRAY_SIZE(cases));
}

/* ---- asking ---- */

static void
test_the_last_one_wins_and_files_that_are_not_there_are_empty(void **state)
{
	struct error err = ERROR_INIT;
	struct aws_profiles *p = aws_profiles_parse(AWS_FILE_CONFIG,
	    SLICE("[profile A]\nRegion=one\nsqs=\n x=1\n y=2\n"
	    "[profile a]\nregion=other\n"
	    "[profile A]\nregion=two\nsqs=\n y=3\n y=4\n"
	    "[services A]\nregion=none\n"), &err);

	(void)state;
	assert_non_null(p);
	assert_true(aws_profiles_has(p, AWS_SECTION_PROFILE, "A"));
	assert_false(aws_profiles_has(p, AWS_SECTION_PROFILE, "b"));
	assert_false(aws_profiles_has(p, AWS_SECTION_SSO_SESSION, "A"));
	assert_string_equal(aws_profiles_get(p, AWS_SECTION_PROFILE, "A",
	    "region"), "two");
	assert_string_equal(aws_profiles_get(p, AWS_SECTION_PROFILE, "a",
	    "region"), "other");
	assert_string_equal(aws_profiles_get(p, AWS_SECTION_SERVICES, "A",
	    "region"), "none");
	assert_null(aws_profiles_get(p, AWS_SECTION_PROFILE, "A", "x"));
	/* Not that of the sqs that was replaced. */
	assert_null(aws_profiles_get_sub(p, AWS_SECTION_PROFILE, "A", "sqs",
	    "x"));
	assert_string_equal(aws_profiles_get_sub(p, AWS_SECTION_PROFILE, "A",
	    "sqs", "y"), "4");
	assert_null(aws_profiles_get_sub(p, AWS_SECTION_PROFILE, "A", "region",
	    "y"));
	aws_profiles_free(p);

	assert_false(aws_profiles_has(NULL, AWS_SECTION_PROFILE, "A"));
	assert_null(aws_profiles_get(NULL, AWS_SECTION_PROFILE, "A", "x"));
	assert_null(aws_profiles_get_sub(NULL, AWS_SECTION_PROFILE, "A", "x",
	    "y"));
	aws_profiles_visit(NULL, on_property, NULL);
	aws_profiles_free(NULL);
}

static void
assert_dump(enum aws_profile_file file, const char *text, const char *want)
{
	_cleanup_free_ char *got = dump(file, slice_of(text));

	if (strcmp(got, want) != 0)
		fail_msg("wanted \"%s\", got \"%s\"", want, got);
}

static void
test_headers(void **state)
{
	(void)state;
	assert_dump(AWS_FILE_CREDENTIALS, "", "");
	assert_dump(AWS_FILE_CONFIG, "[default]\na=1\n[profile default]\nb=2\n"
	    "[default]\nc=3\n", "default.b=2");
	assert_dump(AWS_FILE_CREDENTIALS, "[ 'a b' ] # c\nx=1",
	    "a b.x=1");
	assert_dump(AWS_FILE_CONFIG, "[profilefoo]\na=1", "");
	assert_dump(AWS_FILE_CONFIG, "[profile foo.bar/baz@x]\na=1",
	    "foo.bar/baz@x.a=1");
	assert_dump(AWS_FILE_CONFIG, "[plugins]\na=1\n[profile x]\nb=2",
	    "x.b=2");
	assert_dump(AWS_FILE_CONFIG, "\n[profile ]\n", "");
	assert_dump(AWS_FILE_CONFIG, "\n[profile \"\"]\n",
	    "line 2: a section without a name");
	assert_dump(AWS_FILE_CREDENTIALS, "[]", "line 1: a section without a "
	    "name");
	assert_dump(AWS_FILE_CREDENTIALS, "[a] b", "line 1: something behind "
	    "the ']' of a section");
}

static void
test_errors_repeat_nothing_of_the_text(void **state)
{
	static const char *const bad[] = {
		"hunter2", "[hunter2", "[a] hunter2", "=hunter2",
		"hunter2 = hunter2", "[a]\nhunter2", "[a]\nb=\n hunter2",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text = dump(AWS_FILE_CREDENTIALS,
		    slice_of(bad[i]));

		assert_memory_equal(text, "line ", 5);
		assert_null(strstr(text, "hunter2"));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_file_of_the_corpus),
		cmocka_unit_test(
	    test_the_last_one_wins_and_files_that_are_not_there_are_empty),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_errors_repeat_nothing_of_the_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
